package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/provision"
	"github.com/getberth/berth/sshutil"
)

// HostKeys are where a machine's SSH server has its host keys, and how it is made to read them.
type HostKeys struct {
	Dir    string
	Reload string // a command of the shell; its failure counts for nothing: what key is shown afterwards does
}

// SystemHostKeys are those of OpenSSH under systemd, OpenRC and others. A server that is started for each connection reads them
// each time.
var SystemHostKeys = HostKeys{
	Dir: "/etc/ssh",
	Reload: "systemctl reload ssh || systemctl reload sshd || rc-service sshd reload || service ssh reload || service sshd reload || " +
		"kill -HUP \"$(cat /run/sshd.pid)\"",
}

// newKeyScript prints the host key that the machine has made for itself, or makes one. It can be cut off anywhere and run again:
// the key that was injected ($1 is a part of it) is the only one that is replaced, the public half goes first, and a private half
// that is left behind is moved by the second script.
const newKeyScript = `set -e
umask 077
k=%[1]s/ssh_host_ed25519_key
if [ ! -s "$k.berth.pub" ] && { [ ! -s "$k.pub" ] || grep -qF %[2]s "$k.pub"; }; then
	rm -f "$k.berth"
	ssh-keygen -q -t ed25519 -N '' -C berth -f "$k.berth"
fi
if [ -s "$k.berth.pub" ]; then cat "$k.berth.pub"; else cat "$k.pub"; fi`

const useKeyScript = `set -e
k=%[1]s/ssh_host_ed25519_key
if [ -s "$k.berth.pub" ]; then chmod 644 "$k.berth.pub"; mv -f "$k.berth.pub" "$k.pub"; fi
if [ -s "$k.berth" ]; then mv -f "$k.berth" "$k"; fi
{ %[2]s; } >/dev/null 2>&1 || true`

// ownHostKey has the machine replace a host key that was injected where programs on it can read it. It returns a connection made
// with the new key; when that does not come about it says so and returns the old one, since the machine works either way.
func (w *work) ownHostKey(ctx context.Context, conn *sshutil.Client) *sshutil.Client {
	if !w.exposed || w.m.HostKeys.Dir == "" || len(w.rec.HostKeys) == 1 {
		return conn
	}
	var fresh *sshutil.Client
	err := w.step("Replacing the host key", func() (err error) {
		fresh, err = w.replaceHostKey(ctx, conn)
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			w.m.Report.Note(w.rec.Name, fmt.Sprintf("it keeps the host key that programs on it can read: %v", err))
		}
		return conn
	}
	conn.Close()
	return fresh
}

func (w *work) replaceHostKey(ctx context.Context, conn *sshutil.Client) (*sshutil.Client, error) {
	injected, _, _, _, err := ssh.ParseAuthorizedKey([]byte(w.host.Keys.HostPublic))
	if err != nil {
		return nil, fmt.Errorf("the host key: %w", err)
	}
	blob := strings.Fields(string(ssh.MarshalAuthorizedKey(injected)))[1]
	dir := sshutil.Quote(w.m.HostKeys.Dir)
	out, err := provision.Script(ctx, conn, fmt.Sprintf(newKeyScript, dir, blob))
	if err != nil {
		return nil, fmt.Errorf("making one: %w", err)
	}
	made, _, _, _, err := ssh.ParseAuthorizedKey(out)
	if err != nil {
		return nil, fmt.Errorf("the one it made: %w", err)
	}
	line := sshutil.AuthorizedKey(made, w.rec.Name)
	// Until it is seen which one the machine shows, both count.
	if err := w.pin(append([]string{line}, w.pinned()...)); err != nil {
		return nil, err
	}
	if _, err := provision.Script(ctx, conn, fmt.Sprintf(useKeyScript, dir, w.m.HostKeys.Reload)); err != nil {
		return nil, fmt.Errorf("using the new one: %w", err)
	}
	ep, err := w.m.SSHEndpoint(w.rec)
	if err != nil {
		return nil, err
	}
	ep.HostKeys = []string{line}
	fresh, err := sshutil.WaitReady(ctx, ep, sshutil.Wait{HostKey: reloadPatience})
	if err != nil {
		return nil, err
	}
	if err := w.pin([]string{line}); err != nil {
		fresh.Close()
		return nil, err
	}
	return fresh, nil
}

// pinned are the host keys that count now.
func (w *work) pinned() []string {
	if len(w.rec.HostKeys) > 0 {
		return w.rec.HostKeys
	}
	return []string{w.host.Keys.HostPublic}
}

// pin records the host keys that count from now on.
func (w *work) pin(keys []string) error {
	var once []string
	for _, k := range keys {
		if !slices.Contains(once, k) {
			once = append(once, k)
		}
	}
	w.rec.HostKeys = once
	if w.rec.Endpoint != nil {
		w.rec.Endpoint.HostKey = ""
	}
	return w.lock.Put(w.rec)
}
