package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Now()

func newTestCA(t testing.TB) (*CA, Pair) {
	t.Helper()
	p, err := NewCA("test", now)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := LoadCA(p)
	if err != nil {
		t.Fatal(err)
	}
	return ca, p
}

// request is what a machine sends; the names in it are those an attacker would like to have.
func request(t testing.TB) (csr, key []byte) {
	t.Helper()
	k, keyPEM, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "evil"}, DNSNames: []string{"evil.example"},
	}, k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), keyPEM
}

func signed(t testing.TB, ca *CA, o ServerOptions) Pair {
	t.Helper()
	csr, key := request(t)
	cert, err := ca.SignServer(csr, o, now)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Cert: cert, Key: key}
}

func TestMutualTLS(t *testing.T) {
	ca, caPair := newTestCA(t)
	server := signed(t, ca, ServerOptions{Name: "web1", SANs: []string{"web1.berth.internal", "127.80.0.2"}})
	client, err := ca.Client("alice", now)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caPair.Cert)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	pair, err := tls.X509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	srv.StartTLS()
	defer srv.Close()

	get := func(serverName string, pairs ...Pair) error {
		cfg := &tls.Config{RootCAs: pool, ServerName: serverName}
		for _, p := range pairs {
			c, err := tls.X509KeyPair(p.Cert, p.Key)
			if err != nil {
				t.Fatal(err)
			}
			// Certificates would be filtered by the client: a hostile one is not so kind.
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
		tr := &http.Transport{TLSClientConfig: cfg}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get(srv.URL)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	foreignCA, _ := newTestCA(t)
	foreign, err := foreignCA.Client("mallory", now)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := ca.Client("alice", now.Add(-LeafLifetime-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		server string
		pairs  []Pair
		ok     bool
	}{
		{"by name", "web1.berth.internal", []Pair{client}, true},
		{"by address", "127.80.0.2", []Pair{client}, true},
		{"localhost is always in", "localhost", []Pair{client}, true},
		{"a name of the request only", "evil.example", []Pair{client}, false},
		{"no client certificate", "localhost", nil, false},
		{"a foreign client certificate", "localhost", []Pair{foreign}, false},
		{"an expired client certificate", "localhost", []Pair{expired}, false},
		{"a server certificate as a client's", "localhost", []Pair{server}, false},
		{"a swarm manager's certificate as a client's", "localhost", []Pair{signed(t, ca, ServerOptions{Client: true})}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := get(tt.server, tt.pairs...); (err == nil) != tt.ok {
				t.Errorf("got error %v, want ok %v", err, tt.ok)
			}
		})
	}
}

// TestOpenSSLStrict holds the chain against the checks that Python 3.13's ssl module turns on.
func TestOpenSSLStrict(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	ca, caPair := newTestCA(t)
	client, err := ca.Client(strings.Repeat("long ", 30), now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caFile := write("ca.pem", caPair.Cert)
	for purpose, cert := range map[string][]byte{
		"sslserver": signed(t, ca, ServerOptions{Name: "web1", SANs: []string{"10.0.0.1"}}).Cert, "sslclient": client.Cert,
	} {
		leaf := write(purpose+".pem", cert)
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-policy_check", "-check_ss_sig", "-purpose", purpose,
			"-CAfile", caFile, leaf).CombinedOutput()
		if err != nil {
			t.Errorf("openssl verify of the %s certificate: %v\n%s", purpose, err, out)
		}
	}
}

func TestOpenSSLRequest(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.Command(openssl, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", os.DevNull, "-subj", "/CN=x").Output()
	if err != nil {
		t.Fatal(err)
	}
	ca, _ := newTestCA(t)
	cert, err := ca.SignServer(out, ServerOptions{Name: "x"}, now)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseCertificates(cert)
	if err != nil {
		t.Fatal(err)
	}
	if list[0].KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		t.Error("an RSA server certificate lacks keyEncipherment")
	}
}

func TestForeignCA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	// As docker-machine makes them: RSA, no key identifiers.
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{Organization: []string{"alice"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1080 * day), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	p := Pair{Cert: certPEM(der), Key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})}
	ca, err := LoadCA(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckServer(signed(t, ca, ServerOptions{Name: "web1"}).Cert, p.Cert, nil, now); err != nil {
		t.Error(err)
	}
}

func TestLoadCARefuses(t *testing.T) {
	ca, good := newTestCA(t)
	_, other := newTestCA(t)
	leaf := signed(t, ca, ServerOptions{Name: "x"})
	for name, p := range map[string]Pair{
		"another's key":       {good.Cert, other.Key},
		"a leaf":              leaf,
		"nothing":             {},
		"swapped":             {good.Key, good.Cert},
		"a damaged key":       {good.Cert, good.Key[:len(good.Key)/2]},
		"text before the PEM": {append([]byte("hello\n"), good.Cert...), good.Key},
	} {
		if _, err := LoadCA(p); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestRequestsRefused(t *testing.T) {
	ca, caPair := newTestCA(t)
	good, _ := request(t)
	block, _ := pem.Decode(good)
	make := func(typ string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	forged := append([]byte(nil), block.Bytes...)
	forged[len(forged)-1] ^= 1
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	caKey, err := parseKey(caPair.Key)
	if err != nil {
		t.Fatal(err)
	}
	with := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return make("CERTIFICATE REQUEST", der)
	}
	for name, csr := range map[string][]byte{
		"empty":            nil,
		"not PEM":          []byte("hello"),
		"another type":     make("CERTIFICATE", block.Bytes),
		"forged signature": make("CERTIFICATE REQUEST", forged),
		"two of them":      append(append([]byte(nil), good...), good...),
		"huge":             append(good, make("X", []byte(strings.Repeat("a", maxPEM)))...),
		"cut off":          good[:len(good)-40],
		"an Ed25519 key":   with(edKey),
		"a short curve":    with(p224),
		"the CA's own key": with(caKey),
	} {
		if _, err := ca.SignServer(csr, ServerOptions{Name: "x"}, now); err == nil {
			t.Errorf("%s: signed", name)
		} else if !strings.Contains(err.Error(), "signing request") {
			t.Errorf("%s: error does not name the object: %v", name, err)
		}
	}
}

func TestNormalizeSANs(t *testing.T) {
	got, err := NormalizeSANs([]string{"Web1.Example.", "10.0.0.1", "[fe80::1%eth0]", "::ffff:10.0.0.1", "*.apps.example", "my_host"})
	if err != nil {
		t.Fatal(err)
	}
	want := "*.apps.example 10.0.0.1 127.0.0.1 ::1 fe80::1 localhost my_host web1.example"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s\nwant %s", s, want)
	}
	for _, bad := range []string{"", " ", "a b", "a..b", "-a", "a-", "10.0.0", "10.0.0.300", "https://x", "x:2376", "ü.example", "*",
		"*.", "a.*.b", "a\nb", strings.Repeat("a", 64), strings.Repeat("a.", 130) + "a"} {
		if got, err := NormalizeSANs([]string{bad}); err == nil {
			t.Errorf("%q was accepted as %v", bad, got)
		}
	}
	many := make([]string, maxSANs+1)
	for i := range many {
		many[i] = net.IPv4(10, 0, byte(i>>8), byte(i)).String()
	}
	if _, err := NormalizeSANs(many); err == nil {
		t.Error("an endless list of names was accepted")
	}
}

func TestCheckServer(t *testing.T) {
	ca, caPair := newTestCA(t)
	otherCA, otherPair := newTestCA(t)
	o := ServerOptions{Name: "web1", SANs: []string{"10.0.0.1", "web1"}}
	cert := signed(t, ca, o).Cert
	client, err := ca.Client("alice", now)
	if err != nil {
		t.Fatal(err)
	}
	bundle := append(append([]byte(nil), otherPair.Cert...), caPair.Cert...)
	tests := []struct {
		name string
		cert []byte
		ca   []byte
		sans []string
		at   time.Time
		want string // "" means fine
	}{
		{"fine", cert, caPair.Cert, o.SANs, now, ""},
		{"fewer names are fine", cert, caPair.Cert, nil, now, ""},
		{"a bundle of CAs", cert, bundle, o.SANs, now, ""},
		{"the machine's clock is behind", cert, caPair.Cert, o.SANs, now.Add(-14 * time.Hour), ""},
		{"a new address", cert, caPair.Cert, []string{"10.0.0.2"}, now, "is not for 10.0.0.2"},
		{"a new name", cert, caPair.Cert, []string{"web2"}, now, "is not for web2"},
		{"another CA", cert, otherPair.Cert, o.SANs, now, "unknown authority"},
		{"signed by another", signed(t, otherCA, o).Cert, caPair.Cert, o.SANs, now, "unknown authority"},
		{"a client's", client.Cert, caPair.Cert, nil, now, "incompatible key usage"},
		{"soon to expire", cert, caPair.Cert, o.SANs, now.Add(LeafLifetime * 3 / 4), "due for renewal"},
		{"expired", cert, caPair.Cert, o.SANs, now.Add(LeafLifetime + day), "expired"},
		{"empty", nil, caPair.Cert, o.SANs, now, "no certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckServer(tt.cert, tt.ca, tt.sans, tt.at)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckClient(t *testing.T) {
	ca, caPair := newTestCA(t)
	_, other := newTestCA(t)
	p, err := ca.Client("alice", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckClient(p, caPair.Cert, now); err != nil {
		t.Error(err)
	}
	if CheckClient(p, other.Cert, now) == nil || CheckClient(Pair{p.Cert, other.Key}, caPair.Cert, now) == nil ||
		CheckClient(p, caPair.Cert, now.Add(LeafLifetime+day)) == nil {
		t.Error("a useless client pair was called fine")
	}
}

func TestExpiry(t *testing.T) {
	ca, _ := newTestCA(t)
	cert := signed(t, ca, ServerOptions{Name: "x", Validity: 90 * day}).Cert
	end, err := Expires(cert)
	if err != nil || end.Sub(now) > 90*day || end.Sub(now) < 89*day {
		t.Errorf("Expires: %v, %v", end, err)
	}
	for at, want := range map[time.Duration]bool{0: false, 50 * day: false, 70 * day: true, 100 * day: true} {
		if got, err := NeedsRenewal(cert, now.Add(at)); err != nil || got != want {
			t.Errorf("after %v: NeedsRenewal = %v, %v", at, got, err)
		}
	}
	late := now.Add(CALifetime - 30*day)
	csr, _ := request(t)
	cert, err = ca.SignServer(csr, ServerOptions{Name: "x"}, late)
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := Expires(cert); end.After(ca.Expires()) {
		t.Errorf("the certificate ends on %v, after its CA", end)
	}
	if _, err := ca.SignServer(csr, ServerOptions{Name: "x"}, now.Add(CALifetime+day)); err == nil {
		t.Error("an expired CA signed")
	}
}

func TestDamagedBlockInBundle(t *testing.T) {
	_, a := newTestCA(t)
	_, b := newTestCA(t)
	bad := append(append([]byte(nil), a.Cert[:len(a.Cert)-60]...), b.Cert...)
	if list, err := ParseCertificates(bad); err == nil {
		t.Errorf("a damaged certificate was passed over: %d read", len(list))
	}
}

func FuzzParseCertificates(f *testing.F) {
	_, p := newTestCA(f)
	f.Add(p.Cert)
	f.Add(p.Key)
	f.Add(append(p.Cert, p.Cert...))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseCertificates(data)
		if (err == nil) == (len(list) == 0) {
			t.Errorf("%d certificates, error %v", len(list), err)
		}
		_, _ = NeedsRenewal(data, now)
		_, _ = parseKey(data)
		_ = CheckServer(data, p.Cert, []string{string(data)}, now)
	})
}

func FuzzSignServer(f *testing.F) {
	ca, caPair := newTestCA(f)
	csr, _ := request(f)
	f.Add(csr, "web1.example")
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"), "10.0.0.1")
	f.Fuzz(func(t *testing.T, csr []byte, san string) {
		cert, err := ca.SignServer(csr, ServerOptions{Name: san, SANs: []string{san}}, now)
		if err != nil {
			return
		}
		if err := CheckServer(cert, caPair.Cert, []string{san}, now); err != nil {
			t.Errorf("what was signed for %q does not check: %v", san, err)
		}
	})
}
