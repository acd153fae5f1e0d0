//go:build linux

package engine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/getberth/berth/engine/config"
)

// certificates are the server's own and the authority of its clients. They are read again when their files have changed, so
// that provisioning replaces them without a restart.
type certificates struct {
	verify    bool
	authority string // file; only with verify
	cert, key string // files
	log       *slog.Logger

	mu      sync.Mutex // guards what follows
	current *tls.Config
	stamps  []stamp
	lastErr string // what has been logged; empty when all is well
}

// stamp tells whether a file has been replaced or written.
type stamp struct {
	modified time.Time
	size     int64
	inode    [2]uint64 // device and number
}

func newCertificates(c config.Config, log *slog.Logger) *certificates {
	return &certificates{verify: c.TLSVerify, authority: c.TLSCACert, cert: c.TLSCert, key: c.TLSKey, log: log}
}

// serverConfig asks for the certificates at each handshake.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.load() },
	}
}

// load returns what is to be used now. Files that are missing fail it; files that are damaged do too, unless there were good
// ones before: then those stay in use until the damage is repaired.
func (c *certificates) load() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.stat()
	if err != nil {
		return nil, c.complain(fmt.Errorf("TLS is not ready: %w", err))
	}
	if c.current != nil && slices.EqualFunc(stamps, c.stamps, stamp.equal) {
		return c.current, nil
	}
	fresh, err := c.read()
	if err != nil {
		err = c.complain(fmt.Errorf("TLS: %w", err))
		if c.current == nil {
			return nil, err
		}
		return c.current, nil
	}
	if c.current != nil || c.lastErr != "" {
		c.log.Info("certificates loaded", "certificate", c.cert)
	}
	c.current, c.stamps, c.lastErr = fresh, stamps, ""
	return fresh, nil
}

// complain logs an error once, not at each handshake.
func (c *certificates) complain(err error) error {
	if err.Error() != c.lastErr {
		c.lastErr = err.Error()
		c.log.Warn("clients cannot connect over TLS", "error", err)
	}
	return err
}

func (c *certificates) files() []string {
	if c.verify {
		return []string{c.cert, c.key, c.authority}
	}
	return []string{c.cert, c.key}
}

func (c *certificates) stat() ([]stamp, error) {
	var stamps []stamp
	for _, file := range c.files() {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, stamp{info.ModTime(), info.Size(), inode(info)})
	}
	return stamps, nil
}

func (s stamp) equal(other stamp) bool {
	return s.modified.Equal(other.modified) && s.size == other.size && s.inode == other.inode
}

// read makes a configuration of the files. Sessions are not resumed, so that each connection is checked against the authority
// and the clock of now.
func (c *certificates) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", c.cert, err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true}
	if !c.verify {
		return t, nil
	}
	pem, err := os.ReadFile(c.authority)
	if err != nil {
		return nil, err
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authority %s: it holds no certificate", c.authority)
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	return t, nil
}

// check fails at start what would fail each handshake, unless the engine is to wait for provisioning.
func (c *certificates) check(await bool) error {
	_, err := c.load()
	if await && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
