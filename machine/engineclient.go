package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// engineClient speaks to one engine over mutual TLS with the machine's client pair, or through SSH to its local socket. It asks two
// things only; whoever wants more has the Docker client.
type engineClient struct {
	http *http.Client
	base string
}

// maxAnswer bounds what an engine may answer, in bytes.
const maxAnswer = 1 << 20

func (m *Manager) engine(rec *hostdb.Machine) (*engineClient, error) {
	if rec.Endpoint == nil || rec.Endpoint.Address == "" {
		return nil, m.noAddress(rec.Name)
	}
	if rec.Endpoint.SSHOnly {
		tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.dialEngine(ctx, rec)
		}}
		return &engineClient{http: &http.Client{Transport: tr}, base: "http://engine"}, nil
	}
	conf, err := clientTLS(m.Store.MachineDir(rec.Name))
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", rec.Name, err)
	}
	conf.Time = m.Now
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, DialContext: m.engineDialer(rec)}
	return &engineClient{http: &http.Client{Transport: tr}, base: "https://" + engineAddr(rec.Endpoint)}, nil
}

// engineDialer goes through the machine's jump host, if it has one.
func (m *Manager) engineDialer(rec *hostdb.Machine) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if hasSSH(rec) && rec.Endpoint.Jump != nil {
		jump := *m.sshEndpoint(rec.Name, rec.Endpoint).Jump
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			return sshutil.DialVia(ctx, jump, network, addr)
		}
	}
	return (&net.Dialer{}).DialContext
}

func engineAddr(ep *hostdb.Endpoint) string {
	return net.JoinHostPort(ep.Address, strconv.Itoa(ep.EnginePort))
}

func clientTLS(dir string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("the client's certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		return nil, fmt.Errorf("the CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("the CA: no certificate in %s", filepath.Join(dir, caFile))
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// get reads one answer.
func (c *engineClient) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the engine: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("asking the engine: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the engine answers %s to %s", res.Status, path)
	}
	return body, nil
}

// version is the engine's version, e.g. "0.1.0".
func (c *engineClient) version(ctx context.Context) (string, error) {
	body, err := c.get(ctx, "/version")
	if err != nil {
		return "", err
	}
	var v struct{ Version string }
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("the engine's version: %w", err)
	}
	if v.Version == "" {
		return "", errors.New("the engine does not tell its version")
	}
	return v.Version, nil
}

// pingPause lies between two attempts to reach an engine that is starting.
const pingPause = 50 * time.Millisecond

// wait pings until the engine answers or ctx ends. A certificate that does not fit will not fit by waiting.
func (c *engineClient) wait(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := c.get(attempt, "/_ping")
		cancel()
		if err == nil || isCertError(err) {
			return err
		}
		if perr := pause(ctx, pingPause); perr != nil {
			return fmt.Errorf("%w: the last answer: %w", perr, err)
		}
	}
}

// isCertError tells a certificate problem, which provisioning can solve, from an engine that is not there.
func isCertError(err error) bool {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	return errors.As(err, &verify) || errors.As(err, &alert) && isCertAlert(alert)
}

// isCertAlert tells what a server says of our certificate; RFC 8446, section 6. internal_error is not among it: an engine that
// waits for its certificates sends it.
func isCertAlert(a tls.AlertError) bool {
	switch a {
	case 42, 43, 44, 45, 46, 48, 116:
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
