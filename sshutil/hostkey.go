package sshutil

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// ScanHostKey asks a server for its host key, in authorized_keys form, for a person to confirm. It hangs up before
// authentication; e needs no HostKeys, and its identities are not touched.
func ScanHostKey(ctx context.Context, e Endpoint) (string, error) {
	e.HostKeys = []string{"unknown"} // check wants one
	if err := e.check(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	conn, err := e.dial(ctx)
	if err != nil {
		return "", networkError(ctx, e, err)
	}
	defer conn.Close()
	rec := &recorder{Conn: conn}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var found ssh.PublicKey
	config := &ssh.ClientConfig{
		User: e.user(),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			found = key
			return errClosed
		},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
		ClientVersion: "SSH-2.0-berth",
	}
	_, _, _, err = ssh.NewClientConn(rec, e.Addr(), config)
	if found != nil {
		return AuthorizedKey(found, ""), nil
	}
	if ctx.Err() != nil {
		return "", networkError(ctx, e, context.Cause(ctx))
	}
	return "", (&handshake{endpoint: e, conn: rec}).explain(err)
}

// KnownHostKeys returns the keys that the user's known_hosts files hold for a host, in authorized_keys form; none when the host
// is not in them. Files that do not exist are passed over.
func KnownHostKeys(host string, port int, files ...string) ([]string, error) {
	var present []string
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			present = append(present, f)
		}
	}
	check, err := knownhosts.New(present...)
	if err != nil {
		return nil, fmt.Errorf("reading known hosts: %w", err)
	}
	// The package only compares: a key that is surely not known makes it tell those that are.
	probe, err := NewKey("")
	if err != nil {
		return nil, err
	}
	keys, err := parseHostKeys([]string{probe.Public})
	if err != nil {
		return nil, err
	}
	addr := Endpoint{Host: host, Port: port}.Addr()
	var unknown *knownhosts.KeyError
	if err := check(addr, &net.TCPAddr{IP: net.ParseIP(host), Port: port}, keys[0]); !errors.As(err, &unknown) {
		return nil, err
	}
	var out []string
	for _, k := range unknown.Want {
		out = append(out, AuthorizedKey(k.Key, ""))
	}
	return out, nil
}
