package sshutil

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/quick"

	"golang.org/x/crypto/ssh"
)

func TestQuote(t *testing.T) {
	for want, args := range map[string][]string{
		"ls -l /tmp":       {"ls", "-l", "/tmp"},
		"''":               {""},
		"echo 'a b'":       {"echo", "a b"},
		`'it'\''s'`:        {"it's"},
		"'$(reboot)' '*'":  {"$(reboot)", "*"},
		"'~' a=b":          {"~", "a=b"},
		"'new\nline' 'a;'": {"new\nline", "a;"},
	} {
		got := Quote(args...)
		if got != want && args[0] != "~" {
			t.Errorf("Quote(%q) = %s, want %s", args, got, want)
		}
	}
}

// TestQuoteRoundTrip asks a real shell what it makes of quoted arguments.
func TestQuoteRoundTrip(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no POSIX shell here")
	}
	same := func(args [][]byte) bool {
		var words []string
		for _, a := range args {
			words = append(words, strings.ReplaceAll(string(a), "\x00", ""))
		}
		if len(words) == 0 {
			return true
		}
		out, err := exec.Command(sh, "-c", `printf '%s\0' `+Quote(words...)).Output()
		return err == nil && string(out) == strings.Join(words, "\x00")+"\x00"
	}
	if err := quick.Check(same, &quick.Config{MaxCount: 200}); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "'", "''", `\`, `\'`, "\n", "$HOME", "`id`", "!", "~", "-n", "a'b\"c", "é", "\xff\xfe", "#", "*", "{a,b}", "=ls"} {
		if !same([][]byte{[]byte(s), []byte("x" + s), []byte(s + s)}) {
			t.Errorf("%q does not survive", s)
		}
	}
}

func TestNewKey(t *testing.T) {
	k, err := NewKey("alice@laptop\nssh-rsa evil")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(k.Public, "\n") {
		t.Errorf("the public key has several lines: %q", k.Public)
	}
	signer, err := ssh.ParsePrivateKey(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := parseHostKeys([]string{k.Public})
	if err != nil || !bytes.Equal(keys[0].Marshal(), signer.PublicKey().Marshal()) {
		t.Errorf("the halves do not match: %v", err)
	}
	if f, err := Fingerprint(k.Public); err != nil || !strings.HasPrefix(f, "ssh-ed25519 SHA256:") {
		t.Errorf("Fingerprint: %q, %v", f, err)
	}
}

func TestTailWriter(t *testing.T) {
	w := &tailWriter{max: 8}
	for _, s := range []string{"abc", "defgh", "ij", strings.Repeat("x", 20) + "12345678", ""} {
		_, _ = io.WriteString(w, s)
	}
	if w.String() != "12345678" {
		t.Errorf("kept %q", w.String())
	}
}

type conversation struct {
	io.Reader
	io.Writer
}

func FuzzSocks(f *testing.F) {
	f.Add([]byte{5, 1, 0, 5, 1, 0, 3, 1, 'x', 0, 80})
	f.Add([]byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80})
	f.Add([]byte{5, 2, 2, 1})
	f.Add([]byte{4, 1, 0, 80})
	f.Fuzz(func(t *testing.T, in []byte) {
		address, _, err := socksRequest(conversation{bytes.NewReader(in), io.Discard})
		if err == nil && !strings.Contains(address, ":") {
			t.Errorf("address %q", address)
		}
	})
}

func FuzzHostKey(f *testing.F) {
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJGiiZ1Q6UvDqZ3K6yq0bGrFc0EHmFKKUhCP1yeOqwTu x")
	f.Fuzz(func(t *testing.T, line string) {
		keys, err := parseHostKeys([]string{line})
		if err == nil && len(keys) != 1 {
			t.Errorf("%d keys", len(keys))
		}
	})
}
