// Package sshutil speaks SSH to machines: it dials endpoints whose host key is pinned, runs commands, writes files, opens
// sftp, forwards and terminals. It never runs the ssh program.
//
// Vocabulary: an Endpoint is how a machine is reached, plain data; a Client is one live connection to it. Everything that
// waits takes a context, and returns soon after it is done. Errors of dialling are a *DialError, of which errors.Is tells the
// Kind; a command that ran and failed is an *ExitError; anything after the connection broke is ErrLost.
package sshutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Defaults of an Endpoint.
const (
	DefaultTimeout   = 15 * time.Second
	DefaultKeepalive = 15 * time.Second
)

// Endpoint is how a machine is reached over SSH.
type Endpoint struct {
	Host string // name or address, no brackets
	Port int    // 0 means 22
	User string // "" means root

	// HostKeys are the pinned host keys in authorized_keys form. Without any, Dial refuses to connect.
	HostKeys []string

	Signers  []ssh.Signer // offered first
	KeyPaths []string     // private keys in OpenSSH or PEM form; offered next
	Agent    bool         // offer the keys of the user's agent, too; that there is none is no error
	// Passphrase is asked for the passphrase of an encrypted key of KeyPaths. Nil: such a key is left to the agent.
	Passphrase func(path string) ([]byte, error)

	Timeout   time.Duration // of connecting, handshake and authentication together; 0 means DefaultTimeout
	Keepalive time.Duration // between probes of a connection; a peer silent for three of them is dead. 0 means DefaultKeepalive

	// Jump is the host through which this one is reached, with pinned keys of its own; nil when there is none.
	Jump *Endpoint
	// DialContext opens the connection below; nil is the plain network. A Client's DialContext goes through another machine.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	Banner      io.Writer // gets the server's banner, at most maxBanner bytes; nil drops it
}

// Addr is host:port.
func (e Endpoint) Addr() string {
	port := e.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(port))
}

func (e Endpoint) user() string {
	if e.User == "" {
		return "root"
	}
	return e.User
}

func (e Endpoint) timeout() time.Duration {
	if e.Timeout <= 0 {
		return DefaultTimeout
	}
	return e.Timeout
}

func (e Endpoint) keepalive() time.Duration {
	if e.Keepalive <= 0 {
		return DefaultKeepalive
	}
	return e.Keepalive
}

func (e Endpoint) dial(ctx context.Context) (net.Conn, error) {
	if e.DialContext != nil {
		return e.DialContext(ctx, "tcp", e.Addr())
	}
	if e.Jump != nil {
		return DialVia(ctx, *e.Jump, "tcp", e.Addr())
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", e.Addr())
}

func (e Endpoint) check() error {
	switch {
	case e.Host == "":
		return errors.New("connecting by SSH: no host given")
	case e.Port < 0 || e.Port > 65535:
		return fmt.Errorf("connecting to %s by SSH: port %d is out of range", e.Host, e.Port)
	case len(e.HostKeys) == 0:
		return fmt.Errorf("connecting to %s by SSH: its host key is not pinned", e.Addr())
	}
	return nil
}

// parseHostKeys reads pinned keys; each may carry a comment.
func parseHostKeys(lines []string) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for _, line := range lines {
		key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("pinned host key %q: %w", abbreviate(line, 40), err)
		}
		if strings.TrimSpace(string(rest)) != "" {
			return nil, fmt.Errorf("pinned host key %q: more than one line", abbreviate(line, 40))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// hostKeyAlgorithms are those of the pinned keys, so that a server which has several keys shows one that is pinned.
func hostKeyAlgorithms(keys []ssh.PublicKey) []string {
	var algos []string
	for _, k := range keys {
		if k.Type() == ssh.KeyAlgoRSA {
			algos = append(algos, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		algos = append(algos, k.Type())
	}
	return algos
}

func abbreviate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
