package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds what is parsed, in bytes: a P-256 certificate takes 1 kB, a bundle of a hundred RSA ones 200 kB.
const maxPEM = 256 << 10

// maxCertificates bounds a bundle, since each may have to be tried when a chain is built.
const maxCertificates = 100

// minRSABits is what OpenSSL's default security level 2 still accepts.
const minRSABits = 2048

// ParseCertificates reads one certificate or a bundle. Anything else in the input than certificates and white space is an
// error, and so is an empty bundle.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		block, rest, err := nextBlock(data)
		if err != nil {
			return nil, err
		}
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %q where a certificate is expected", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		if list = append(list, cert); len(list) > maxCertificates {
			return nil, fmt.Errorf("holds more than %d certificates", maxCertificates)
		}
		data = rest
	}
	if len(list) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return list, nil
}

// nextBlock returns the first PEM block of data, nil at the end of it. Text that is not PEM is an error: pem.Decode would
// skip it, and with it a damaged block.
func nextBlock(data []byte) (*pem.Block, []byte, error) {
	if len(data) > maxPEM {
		return nil, nil, fmt.Errorf("is larger than %d bytes", maxPEM)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, nil, nil
	}
	if !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return nil, nil, errors.New("is not in PEM form")
	}
	block, rest := pem.Decode(data)
	if block == nil || skipped(data, rest) {
		return nil, nil, errors.New("holds a damaged PEM block")
	}
	return block, rest, nil
}

// skipped tells whether what pem.Decode consumed of data has more than one beginning, i.e. whether it passed over a block.
func skipped(data, rest []byte) bool {
	used := data[:len(data)-len(rest)]
	return bytes.Count(used, []byte("-----BEGIN ")) != 1
}

// single returns the only PEM block of data.
func single(data []byte) (*pem.Block, error) {
	block, rest, err := nextBlock(data)
	if err != nil {
		return nil, err
	}
	if block == nil {
		return nil, errors.New("is empty")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("holds more than one PEM block")
	}
	return block, nil
}

// parseKey reads a private key in any of the three forms that tools write. OpenSSL puts the curve's parameters in a block of
// its own before a key; it is passed over.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest, err := nextBlock(data)
	if err == nil && block != nil && block.Type == "EC PARAMETERS" {
		data = rest
	}
	if block, err = single(data); err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("is encrypted: decrypt it first")
		}
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("is a %q, not a private key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

// checkPublic refuses keys that clients refuse, and those whose use would be costly.
func checkPublic(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return fmt.Errorf("a key of %d bits is too short", n)
		}
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > 8192 {
			return fmt.Errorf("an RSA key of %d bits: between %d and 8192 are allowed", n, minRSABits)
		}
		return nil
	case ed25519.PublicKey:
		return errors.New("an Ed25519 key: TLS libraries in wide use refuse it; use P-256")
	default:
		return fmt.Errorf("a key of type %T", pub)
	}
}
