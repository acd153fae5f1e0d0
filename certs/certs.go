// Package certs is berth's public key infrastructure: one CA per store, a client pair for the user, and server certificates
// for machines that make their own keys and send a signing request. It takes bytes and gives bytes, all of them PEM; it
// touches no file and no network.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

const day = 24 * time.Hour

// Lifetimes of what this package signs.
const (
	CALifetime = 10 * 365 * day
	// LeafLifetime stays below the 825 days that Apple's TLS accepts for a server certificate.
	LeafLifetime = 730 * day
	// Backdate is how far the start of validity lies in the past: a machine's clock may be off by its time zone (14 h at most)
	// when its hardware clock was read wrongly.
	Backdate = day
)

// Pair is a certificate and its private key.
type Pair struct {
	Cert []byte // PEM
	Key  []byte // PEM, PKCS#8; keep it 0600
}

// CA signs certificates. It is safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// NewCA makes a certificate authority. The owner, e.g. "alice@laptop", tells people whose it is; programs ignore it.
func NewCA(owner string, now time.Time) (Pair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return Pair{}, fmt.Errorf("making a CA: %w", err)
	}
	tmpl, err := template(name("berth CA "+owner), now, CALifetime)
	if err != nil {
		return Pair{}, fmt.Errorf("making a CA: %w", err)
	}
	tmpl.IsCA = true
	tmpl.MaxPathLenZero = true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if tmpl.SubjectKeyId, err = keyID(key.Public()); err != nil {
		return Pair{}, fmt.Errorf("making a CA: %w", err)
	}
	tmpl.AuthorityKeyId = tmpl.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return Pair{}, fmt.Errorf("making a CA: %w", err)
	}
	return Pair{Cert: certPEM(der), Key: keyPEM}, nil
}

// LoadCA reads a CA pair, berth's own or docker-machine's (RSA, PKCS#1). It refuses a certificate that is no CA's and a key
// that belongs to another certificate; an expired CA loads, since it can still be looked at.
func LoadCA(p Pair) (*CA, error) {
	list, err := ParseCertificates(p.Cert)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	cert := list[0]
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return nil, fmt.Errorf("CA: the certificate of %q may not sign others", cert.Subject)
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	if !samePublic(key.Public(), cert.PublicKey) {
		return nil, fmt.Errorf("CA key: belongs to another certificate than that of %q", cert.Subject)
	}
	return &CA{cert: cert, key: key, pem: certPEM(cert.Raw)}, nil
}

// PEM is the CA's certificate.
func (ca *CA) PEM() []byte { return ca.pem }

// Expires tells when the CA's certificate ends.
func (ca *CA) Expires() time.Time { return ca.cert.NotAfter }

// Client makes a key and a certificate with which a client may use every engine that trusts the CA.
func (ca *CA) Client(owner string, now time.Time) (Pair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return Pair{}, fmt.Errorf("making a client certificate: %w", err)
	}
	tmpl, err := template(name("berth client "+owner), now, LeafLifetime)
	if err != nil {
		return Pair{}, fmt.Errorf("making a client certificate: %w", err)
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, err := ca.sign(tmpl, key.Public(), now)
	if err != nil {
		return Pair{}, fmt.Errorf("making a client certificate: %w", err)
	}
	return Pair{Cert: cert, Key: keyPEM}, nil
}

// sign issues tmpl for pub. The certificate never outlives the CA: clients would refuse it anyway, with a less clear error.
func (ca *CA) sign(tmpl *x509.Certificate, pub crypto.PublicKey, now time.Time) ([]byte, error) {
	if now.After(ca.cert.NotAfter) {
		return nil, fmt.Errorf("the CA expired on %s", ca.cert.NotAfter.Format(time.DateOnly))
	}
	if tmpl.NotAfter.After(ca.cert.NotAfter) {
		tmpl.NotAfter = ca.cert.NotAfter
	}
	if tmpl.NotBefore.Before(ca.cert.NotBefore) {
		tmpl.NotBefore = ca.cert.NotBefore
	}
	id, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	tmpl.SubjectKeyId = id
	tmpl.BasicConstraintsValid = true
	// CreateCertificate fills AuthorityKeyId from the parent, without which Python 3.13 refuses a leaf (X509_V_FLAG_X509_STRICT).
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		return nil, err
	}
	return certPEM(der), nil
}

func template(subject pkix.Name, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	// RFC 5280, 4.1.2.2: positive, at most 20 octets. 127 random bits leave the sign bit clear.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               subject,
		NotBefore:             now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(lifetime).UTC().Truncate(time.Second),
		BasicConstraintsValid: true,
	}, nil
}

// name builds a subject. RFC 5280 bounds a common name at 64 characters, which OpenSSL enforces.
func name(cn string) pkix.Name {
	r := []rune(cn)
	if len(r) > 64 {
		r = r[:64]
	}
	return pkix.Name{Organization: []string{"berth"}, CommonName: string(r)}
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// keyID is RFC 7093's first method: the leftmost 160 bits of the SHA-256 of the key.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
