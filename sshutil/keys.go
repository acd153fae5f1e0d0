package sshutil

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Key is an SSH identity, of a user or of a host.
type Key struct {
	Private []byte // PEM in OpenSSH's form, not encrypted; keep it 0600
	Public  string // authorized_keys form with the comment, no line end
}

// NewKey makes an Ed25519 identity. The comment says whose it is; programs ignore it.
func NewKey(comment string) (Key, error) {
	comment = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, comment)
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("making an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return Key{}, fmt.Errorf("making an SSH key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return Key{}, fmt.Errorf("making an SSH key: %w", err)
	}
	return Key{Private: pem.EncodeToMemory(block), Public: AuthorizedKey(sshPub, comment)}, nil
}

// AuthorizedKey is a public key as a line of authorized_keys, without the line end.
func AuthorizedKey(key ssh.PublicKey, comment string) string {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	if comment != "" {
		line += " " + comment
	}
	return line
}

// Fingerprint is a key in the form that OpenSSH shows, "ssh-ed25519 SHA256:…"; the key is in authorized_keys form.
func Fingerprint(key string) (string, error) {
	keys, err := parseHostKeys([]string{key})
	if err != nil {
		return "", err
	}
	return describeKey(keys[0]), nil
}
