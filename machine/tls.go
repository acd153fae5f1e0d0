package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/getberth/berth/certs"
	"github.com/getberth/berth/hostdb"
)

// TLSFiles are paths that replace those of the store's certs folder; empty ones do not.
type TLSFiles struct {
	CACert, CAKey, ClientCert, ClientKey string
}

// Files of a certs folder and of a machine's folder, as docker-machine names them.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
	certFile  = "cert.pem"
	keyFile   = "key.pem"
)

func (m *Manager) tlsFiles() TLSFiles {
	f, dir := m.TLS, m.Store.CertsDir()
	for path, name := range map[*string]string{&f.CACert: caFile, &f.CAKey: caKeyFile, &f.ClientCert: certFile, &f.ClientKey: keyFile} {
		if *path == "" {
			*path = filepath.Join(dir, name)
		}
	}
	return f
}

// authority reads the certificate authority of the store, and makes it with the client's pair when there is none.
func (m *Manager) authority(ctx context.Context) (*certs.CA, error) {
	f := m.tlsFiles()
	ca, err := readCA(f)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	l, err := m.Store.LockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Unlock()
	if ca, err = readCA(f); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return ca, err // somebody else made it meanwhile
	}
	return m.newAuthority(f)
}

// readCA errs with fs.ErrNotExist when there is no certificate: its key is written first.
func readCA(f TLSFiles) (*certs.CA, error) {
	cert, err := os.ReadFile(f.CACert)
	if err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	key, err := os.ReadFile(f.CAKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the CA's certificate %s is there, but its key %s is not", f.CACert, f.CAKey)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the CA's key: %w", err)
	}
	ca, err := certs.LoadCA(certs.Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.CACert, err)
	}
	return ca, nil
}

// newAuthority replaces the store's CA and client pair. The store is locked.
func (m *Manager) newAuthority(f TLSFiles) (*certs.CA, error) {
	pair, err := certs.NewCA(m.Owner(), m.Now())
	if err != nil {
		return nil, err
	}
	if err := writeFiles(file{f.CAKey, pair.Key}, file{f.CACert, pair.Cert}); err != nil {
		return nil, fmt.Errorf("writing the CA: %w", err)
	}
	ca, err := certs.LoadCA(pair)
	if err != nil {
		return nil, err
	}
	client, err := ca.Client(m.Owner(), m.Now())
	if err != nil {
		return nil, err
	}
	if err := writeFiles(file{f.ClientKey, client.Key}, file{f.ClientCert, client.Cert}); err != nil {
		return nil, fmt.Errorf("writing the client's certificate: %w", err)
	}
	return ca, nil
}

type file struct {
	path string
	data []byte
}

func writeFiles(files ...file) error {
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return err
		}
		if err := hostdb.WriteFile(f.path, f.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// clientPair puts into the machine's folder what a client needs: the CA and a pair of this machine's own. It is made anew when
// the CA is another, or a third of its life is left.
func (m *Manager) clientPair(dir string, ca *certs.CA, anew bool) error {
	if !anew && m.clientFits(dir, ca) {
		return nil
	}
	pair, err := m.newClientPair(ca)
	if err != nil {
		return err
	}
	err = writeFiles(file{filepath.Join(dir, keyFile), pair.Key}, file{filepath.Join(dir, certFile), pair.Cert}, file{filepath.Join(dir, caFile), ca.PEM()})
	if err != nil {
		return fmt.Errorf("writing the client's certificate: %w", err)
	}
	return nil
}

// clientFits reports whether the pair in a machine's folder can stay. A file that is missing does not fit.
func (m *Manager) clientFits(dir string, ca *certs.CA) bool {
	var p certs.Pair
	p.Cert, _ = os.ReadFile(filepath.Join(dir, certFile))
	p.Key, _ = os.ReadFile(filepath.Join(dir, keyFile))
	known, _ := os.ReadFile(filepath.Join(dir, caFile))
	if !bytes.Equal(known, ca.PEM()) || certs.CheckClient(p, ca.PEM(), m.Now()) != nil {
		return false
	}
	due, err := certs.NeedsRenewal(p.Cert, m.Now())
	return err == nil && !due
}

// newClientPair is a fresh pair, or the one that the user told to use.
func (m *Manager) newClientPair(ca *certs.CA) (certs.Pair, error) {
	if m.TLS.ClientCert == "" && m.TLS.ClientKey == "" {
		return ca.Client(m.Owner(), m.Now())
	}
	f := m.tlsFiles()
	cert, err := os.ReadFile(f.ClientCert)
	if err != nil {
		return certs.Pair{}, fmt.Errorf("reading the client's certificate: %w", err)
	}
	key, err := os.ReadFile(f.ClientKey)
	if err != nil {
		return certs.Pair{}, fmt.Errorf("reading the client's key: %w", err)
	}
	pair := certs.Pair{Cert: cert, Key: key}
	return pair, certs.CheckClient(pair, ca.PEM(), m.Now())
}

// givenPair puts a client's files into a machine's folder for an engine that berth did not install: those that the user named, else
// the store's authority with a pair of this machine's own.
func (m *Manager) givenPair(ctx context.Context, dir string) error {
	if m.TLS.ClientCert == "" && m.TLS.ClientKey == "" {
		ca, err := m.authority(ctx)
		if err != nil {
			return err
		}
		return m.clientPair(dir, ca, false)
	}
	f := m.tlsFiles()
	var files []file
	for name, path := range map[string]string{caFile: f.CACert, certFile: f.ClientCert, keyFile: f.ClientKey} {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading the client's certificates: %w", err)
		}
		files = append(files, file{filepath.Join(dir, name), data})
	}
	if err := writeFiles(files...); err != nil {
		return fmt.Errorf("writing the client's certificates: %w", err)
	}
	_, err := clientTLS(dir)
	return err
}
