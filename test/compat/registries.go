package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/getberth/berth/test/images"
	"github.com/getberth/berth/test/images/standins"
)

// engineConfig is the engine's, for the registries below: two in plain HTTP, the third with a certificate of its own.
const engineConfig = `{"insecure-registries": ["registry:5000", "privateregistry:5001"]}`

// serveRegistries runs the registries of docker/cli's suite, whose names and accounts it fixes, until end is called.
func (h *house) serveRegistries(context.Context) (end func(), err error) {
	if err := ownEtc(); err != nil {
		return nil, err
	}
	if err := appendFile("/etc/hosts", "127.0.0.1 registry privateregistry tlsregistry\n"); err != nil {
		return nil, err
	}
	cert, err := selfSigned("tlsregistry", "/etc/docker/certs.d/tlsregistry:5003/ca.crt")
	if err != nil {
		return nil, err
	}
	var running []*images.Registry
	end = func() {
		for _, r := range running {
			_ = r.Close()
		}
	}
	for _, o := range []images.RegistryOptions{
		{Addr: "127.0.0.1:5000"},
		{Addr: "127.0.0.1:5001", Username: "e2e", Password: "password"},
		{Addr: "127.0.0.1:5003", Username: "e2e", Password: "password", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}},
	} {
		r, err := images.Serve(o)
		if err != nil {
			end()
			return nil, err
		}
		running = append(running, r)
	}
	for _, ref := range []string{"alpine:frozen", "busybox:frozen"} {
		img, err := standins.Make(ref)
		if err == nil {
			err = running[0].Add(ref, img)
		}
		if err != nil {
			end()
			return nil, err
		}
	}
	return end, nil
}

// selfSigned makes a server's certificate, and writes it where the engine looks for whom to trust.
func selfSigned(host, path string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(path, text, 0o644)
}
