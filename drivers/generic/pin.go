package generic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/sshutil"
)

// pin is which keys a host may show.
type pin struct {
	keys []string // authorized_keys form
}

// keep remembers what an earlier run recorded.
func (d *Driver) keep(s state) {
	d.pins[d.ssh(s, nil).Addr()] = pin{s.HostKeys}
	if s.Jump != nil {
		d.pins[d.jumpEndpoint(s, nil).Addr()] = pin{s.Jump.HostKeys}
	}
}

// pin settles which keys a host may show: those that the user named, those that the user's ssh knows, or, if the user said so, the
// one that it shows now. Nothing but the key exchange happens with a host before.
func (d *Driver) pin(ctx context.Context, h *drivers.Host, e sshutil.Endpoint, flag string, o drivers.Options) (pin, error) {
	addr := e.Addr()
	if p, ok := d.pins[addr]; ok {
		return p, nil
	}
	p, err := d.find(ctx, h, e, flag, o)
	if err == nil {
		d.pins[addr] = p
	}
	return p, err
}

func (d *Driver) find(ctx context.Context, h *drivers.Host, e sshutil.Endpoint, flag string, o drivers.Options) (pin, error) {
	if given := strings.TrimSpace(o.String(flag)); given != "" {
		keys, err := d.given(ctx, e, given)
		if err != nil {
			return pin{}, fmt.Errorf("--%s: %w", flag, err)
		}
		return pin{keys}, nil
	}
	known, err := sshutil.KnownHostKeys(e.Host, e.Port, d.config.KnownHosts...)
	if err != nil {
		h.Log("%v: passed over", err)
	}
	if len(known) > 0 {
		h.Log("The host key of %s is the one that ssh knows: %s", e.Addr(), fingerprints(known))
		return pin{known}, nil
	}
	shown, err := sshutil.ScanHostKey(ctx, e)
	if err != nil {
		return pin{}, err
	}
	if !o.Bool(flagAcceptNew) {
		return pin{}, unknown(e, flag, shown)
	}
	h.Log("The host key of %s is trusted from now on: %s", e.Addr(), fingerprints([]string{shown}))
	return pin{[]string{shown}}, nil
}

// unknown refuses a host whose key nobody vouches for.
func unknown(e sshutil.Endpoint, flag, shown string) error {
	key, _, _ := strings.Cut(fingerprints([]string{shown}), " ")
	return &drivers.AdvisedError{
		Err: fmt.Errorf("the SSH key of %s is not known; it shows %s. Nothing was sent to it", e.Addr(), fingerprints([]string{shown})),
		Advice: fmt.Sprintf("Compare the fingerprint with what the host itself says: ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub\n"+
			"If it is the same: {again} --%s '%s'\nTo trust it unseen: {again} --%s", keyName(key), flag, shown, flagAcceptNew),
	}
}

// keyName is a key's type as in the names of sshd's files.
func keyName(keyType string) string {
	switch {
	case keyType == ssh.KeyAlgoRSA:
		return "rsa"
	case strings.HasPrefix(keyType, "ecdsa-"):
		return "ecdsa"
	}
	return "ed25519"
}

// given reads what the user says about a host's key: the key, a file with keys, or a fingerprint, for which the host is asked.
func (d *Driver) given(ctx context.Context, e sshutil.Endpoint, text string) ([]string, error) {
	if strings.HasPrefix(text, "SHA256:") {
		shown, err := sshutil.ScanHostKey(ctx, e)
		if err != nil {
			return nil, err
		}
		if print := fingerprints([]string{shown}); !strings.HasSuffix(print, " "+text) {
			return nil, fmt.Errorf("%s shows %s, expected is %s. Nothing was sent to it", e.Addr(), print, text)
		}
		return []string{shown}, nil
	}
	if keys, err := parseKeys([]byte(text)); err == nil {
		return keys, nil
	}
	path := d.expand(text)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxKey {
		return nil, fmt.Errorf("%q is neither a public key, nor a file of public keys, nor a fingerprint", text)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// parseKeys reads public keys, one a line; a host name may stand before each, as ssh-keyscan writes them.
func parseKeys(data []byte) ([]string, error) {
	var keys []string
	for len(data) > 0 {
		key, _, _, rest, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			break
		}
		if _, ok := key.(*ssh.Certificate); ok {
			return nil, errors.New("a certificate is no host key")
		}
		keys = append(keys, sshutil.AuthorizedKey(key, ""))
		data = rest
	}
	if len(keys) == 0 {
		return nil, errors.New("no public key")
	}
	return keys, nil
}

// fingerprints describes keys, which are well-formed.
func fingerprints(keys []string) string {
	var list []string
	for _, k := range keys {
		if f, err := sshutil.Fingerprint(k); err == nil {
			list = append(list, f)
		}
	}
	return strings.Join(list, ", ")
}
