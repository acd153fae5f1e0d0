package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// defaultCertDir is where administrators put certificates of registries, as Docker has it: HOST[:PORT]/*.crt are authorities whom to
// trust besides the system's, *.cert with *.key of the same name what to show to a registry that asks for it.
const defaultCertDir = "/etc/docker/certs.d"

// maxCertFile bounds a file there, in bytes: the system's bundle of authorities has a fifth of it.
const maxCertFile = 1 << 20

// trust adds to c what is there for a host.
func (r *Registries) trust(c *tls.Config, host string) error {
	dir := filepath.Join(r.certDir, filepath.Base(host)) // a host has no slash; one that had would not lead out
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".crt":
			err = addAuthority(c, path)
		case ".cert":
			err = addPair(c, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func addAuthority(c *tls.Config, path string) error {
	raw, err := readBounded(path)
	if err != nil {
		return err
	}
	if c.RootCAs == nil {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool()
		}
	}
	if !c.RootCAs.AppendCertsFromPEM(raw) {
		return fmt.Errorf("%s holds no certificate", path)
	}
	return nil
}

func addPair(c *tls.Config, path string) error {
	cert, err := readBounded(path)
	if err != nil {
		return err
	}
	key, err := readBounded(strings.TrimSuffix(path, ".cert") + ".key")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.Certificates = append(c.Certificates, pair)
	return nil
}

func readBounded(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxCertFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxCertFile)
	}
	return os.ReadFile(path)
}

// failing refuses each request.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
