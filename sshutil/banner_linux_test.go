package sshutil_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/getberth/berth/sshutil"
)

// TestMegabyteBanner: OpenSSH with a banner of 1 MB drops everybody, its own client too. That is no reason to wait for it.
func TestMegabyteBanner(t *testing.T) {
	binary, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("OpenSSH's server, and root, are needed")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	host, user := newKey(t), newKey(t)
	dir := t.TempDir()
	ln := listen(t)
	addr := ln.Addr()
	ln.Close()
	conf := fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nPidFile none\nUsePAM no\nLogLevel QUIET\nBanner %s\n", addr,
		writeFile(t, dir, "host", host.Private), writeFile(t, dir, "authorized", []byte(user.Public+"\n")), writeFile(t, dir, "banner", bytes.Repeat([]byte("x"), 1<<20)))
	cmd := exec.Command(binary, "-D", "-e", "-f", writeFile(t, dir, "conf", []byte(conf)))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = sshutil.WaitReady(ctx, endpoint(t, addr, host, user), sshutil.Wait{})
	if ctx.Err() != nil || !errors.Is(err, sshutil.Dropped) {
		t.Errorf("got %v", err)
	}
}
