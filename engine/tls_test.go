//go:build linux

package engine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/engine/config"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// pair is a certificate for 127.0.0.1 and its key, as PEM.
func (a *authority) pair(t *testing.T, serial int64, until time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// client is an HTTP client with a certificate of its own, or without one.
func (a *authority) client(t *testing.T, servers *authority, until time.Time) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(servers.cert)
	c := &tls.Config{RootCAs: pool}
	if a != nil {
		pair, err := tls.X509KeyPair(a.pair(t, 7, until))
		if err != nil {
			t.Fatal(err)
		}
		// Sent whatever the server says it accepts.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// tlsServer serves one word over what the configuration listens on.
func tlsServer(t *testing.T, c config.Config) (address string) {
	t.Helper()
	c.Hosts = []string{"tcp://127.0.0.1:0"}
	listeners, err := listen(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "in") }),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() { _ = srv.Serve(listeners[0]) }()
	t.Cleanup(func() { srv.Close() })
	return "https://" + listeners[0].Addr().String()
}

func get(c *http.Client, url string) (body string, serial int64, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if res.TLS == nil {
		return string(data), 0, err
	}
	return string(data), res.TLS.PeerCertificates[0].SerialNumber.Int64(), err
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func tlsConfig(t *testing.T) config.Config {
	dir := t.TempDir()
	return config.Config{TLSVerify: true, TLSAwait: true, TLSCACert: filepath.Join(dir, "ca.pem"),
		TLSCert: filepath.Join(dir, "server.pem"), TLSKey: filepath.Join(dir, "key.pem")}
}

func install(t *testing.T, c config.Config, a *authority, serial int64) {
	t.Helper()
	cert, key := a.pair(t, serial, time.Now().Add(time.Hour))
	write(t, c.TLSKey, key)
	write(t, c.TLSCert, cert)
	write(t, c.TLSCACert, a.pem())
}

func TestOnlyClientsOfTheAuthorityGetIn(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	c := tlsConfig(t)
	install(t, c, ours, 1)
	address := tlsServer(t, c)
	if body, _, err := get(ours.client(t, ours, later), address); body != "in" {
		t.Errorf("a client of the authority: %v", err)
	}
	for name, client := range map[string]*http.Client{
		"no certificate":      (*authority)(nil).client(t, ours, later),
		"foreign certificate": foreign.client(t, ours, later),
		"expired certificate": ours.client(t, ours, time.Now().Add(-time.Hour)),
	} {
		if body, _, err := get(client, address); err == nil {
			t.Errorf("%s: got %q", name, body)
		}
	}
	if body, _, err := get(http.DefaultClient, strings.Replace(address, "https", "http", 1)); body == "in" {
		t.Errorf("without TLS: %v", err)
	}
	old := ours.client(t, ours, later)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	if _, _, err := get(old, address); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
}

func TestCertificatesAreReplacedWithoutARestart(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	c := tlsConfig(t)
	address := tlsServer(t, c) // before there are any
	if _, _, err := get(first.client(t, first, later), address); err == nil {
		t.Error("TLS works without certificates")
	}
	install(t, c, first, 11)
	if body, serial, err := get(first.client(t, first, later), address); body != "in" || serial != 11 {
		t.Errorf("once they are there: %d, %v", serial, err)
	}
	install(t, c, second, 12)
	if body, serial, err := get(second.client(t, second, later), address); body != "in" || serial != 12 {
		t.Errorf("after a change: %d, %v", serial, err)
	}
	if _, _, err := get(first.client(t, second, later), address); err == nil {
		t.Error("clients of the old authority still get in")
	}
	write(t, c.TLSCert, []byte("junk"))
	if body, serial, err := get(second.client(t, second, later), address); body != "in" || serial != 12 {
		t.Errorf("damage: %d, %v", serial, err)
	}
	if err := os.Remove(c.TLSCACert); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(second.client(t, second, later), address); err == nil {
		t.Error("clients get in without an authority")
	}
}

func TestMissingCertificatesFailTheStart(t *testing.T) {
	c := tlsConfig(t)
	c.TLSAwait, c.Hosts = false, []string{"tcp://127.0.0.1:0"}
	if _, err := listen(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), c.TLSCert) {
		t.Errorf("got %v", err)
	}
	install(t, c, newAuthority(t), 1)
	write(t, c.TLSCACert, []byte("no certificate"))
	if _, err := listen(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("got %v", err)
	}
}
