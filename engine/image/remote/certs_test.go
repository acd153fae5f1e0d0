package remote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCertificatesOfRegistries(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	cert, key := pair(t)
	for _, tc := range []struct {
		what   string
		files  map[string][]byte
		status int
		want   string // of the error
	}{
		{"nothing", nil, 0, "certificate signed by unknown authority"},
		{"authority", map[string][]byte{"ca.crt": authority}, http.StatusForbidden, ""},
		{"authority and pair", map[string][]byte{"ca.crt": authority, "client.cert": cert, "client.key": key}, http.StatusOK, ""},
		{"certificate without key", map[string][]byte{"ca.crt": authority, "client.cert": cert}, 0, "client.key: no such file"},
		{"no certificate", map[string][]byte{"ca.crt": []byte("x")}, 0, "ca.crt holds no certificate"},
		{"too large", map[string][]byte{"ca.crt": make([]byte, maxCertFile+1)}, 0, "at most 1048576 bytes"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r, err := New(nil, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			r.certDir = t.TempDir()
			for name, body := range tc.files {
				dir := filepath.Join(r.certDir, host)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			client := r.client(host, false)
			defer client.CloseIdleConnections()
			resp, err := client.Get(server.URL)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != tc.status {
					t.Errorf("status %d, want %d", resp.StatusCode, tc.status)
				}
				return
			}
			if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}
