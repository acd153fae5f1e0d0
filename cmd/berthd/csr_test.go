//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func request(t *testing.T, args ...string) (*x509.CertificateRequest, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs(append([]string{"csr"}, args...))
	if err := root.Execute(); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(out.Bytes())
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		t.Fatalf("got %s", &out)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return r, r.CheckSignature()
}

func TestSigningRequest(t *testing.T) {
	key := filepath.Join(t.TempDir(), "tls", "server-key.pem")
	first, err := request(t, "--key", key, "--san", "10.0.0.1", "--san", "web1", "--san", "::1")
	if err != nil {
		t.Fatal(err)
	}
	if len(first.IPAddresses) != 2 || len(first.DNSNames) != 1 || first.DNSNames[0] != "web1" {
		t.Errorf("names: %v %v", first.IPAddresses, first.DNSNames)
	}
	info, err := os.Stat(key)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	second, err := request(t, "--key", key)
	if err != nil {
		t.Fatal(err)
	}
	if !first.PublicKey.(*ecdsa.PublicKey).Equal(second.PublicKey) {
		t.Error("the key was replaced")
	}
}

func TestSigningRequestRefuses(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	if _, err := request(t, "--key", key, "--san", "no name"); err == nil || !strings.Contains(err.Error(), `"no name"`) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(key, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := request(t, "--key", key); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("got %v", err)
	}
}
