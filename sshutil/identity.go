package sshutil

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// identities are the keys offered in one handshake. Explicit keys come first: OpenSSH hangs up after six (MaxAuthTries), which
// a full agent easily uses up.
type identities struct {
	offered []string // descriptions, for the error message
	skipped []string // what could not be used, and why
	agent   io.Closer
}

func (id *identities) load(e Endpoint) ([]ssh.Signer, error) {
	var all []ssh.Signer
	seen := map[string]bool{}
	add := func(s ssh.Signer, from string) {
		key := string(s.PublicKey().Marshal())
		if seen[key] {
			return
		}
		seen[key] = true
		all = append(all, s)
		id.offered = append(id.offered, fmt.Sprintf("%s (%s)", from, describeKey(s.PublicKey())))
	}
	for _, s := range e.Signers {
		add(s, "key given")
	}
	for _, path := range e.KeyPaths {
		s, err := loadKey(path, e.Passphrase)
		if err != nil {
			id.skipped = append(id.skipped, err.Error())
			continue
		}
		add(s, path)
	}
	if e.Agent {
		id.loadAgent(add)
	}
	return all, nil
}

func (id *identities) loadAgent(add func(ssh.Signer, string)) {
	conn, err := dialAgent()
	if err != nil {
		id.skipped = append(id.skipped, "agent: "+err.Error())
		return
	}
	if conn == nil {
		return
	}
	id.agent = conn
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		id.skipped = append(id.skipped, "agent: "+err.Error())
		return
	}
	for _, s := range signers {
		add(s, "agent")
	}
}

func (id *identities) close() {
	if id.agent != nil {
		id.agent.Close()
	}
}

// explain lists what was tried. The text is x/crypto's, and names the methods ("attempted methods [none publickey]").
func (id *identities) explain(text string) string {
	var parts []string
	switch {
	case strings.Contains(text, "attempted methods [none]") && len(id.offered) == 0 && len(id.skipped) == 0:
		parts = append(parts, "the server does not accept public keys")
	case len(id.offered) == 0:
		parts = append(parts, "no key to offer")
	default:
		parts = append(parts, "method tried: publickey, with "+strings.Join(id.offered, ", "))
	}
	if len(id.skipped) > 0 {
		parts = append(parts, "not usable: "+strings.Join(id.skipped, ", "))
	}
	if strings.Contains(text, "Too many authentication failures") {
		parts = append(parts, "the server allows fewer attempts: name one key rather than using an agent with many")
	}
	return strings.Join(parts, "; ")
}

// maxKeyFile bounds a private key file, in bytes; an RSA key of 16384 bits takes 13 kB.
const maxKeyFile = 64 << 10

func loadKey(path string, passphrase func(string) ([]byte, error)) (ssh.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, err
	}
	s, err := ssh.ParsePrivateKey(data)
	var missing *ssh.PassphraseMissingError
	if !errors.As(err, &missing) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return s, nil
	}
	if passphrase == nil {
		return nil, fmt.Errorf("%s: has a passphrase: add it to your SSH agent", path)
	}
	pass, err := passphrase(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s, err = ssh.ParsePrivateKeyWithPassphrase(data, pass); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// UserKeys are the private keys in a home folder that ssh would offer without being told, those that there are.
func UserKeys(home string) []string {
	var keys []string
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		path := filepath.Join(home, ".ssh", name)
		if _, err := os.Stat(path); err == nil {
			keys = append(keys, path)
		}
	}
	return keys
}
