package certs

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxSANs bounds the names of one certificate; every handshake carries them.
const maxSANs = 200

// ServerOptions say what a server's certificate is for. All of it is berth's decision; of the request only the key counts.
type ServerOptions struct {
	Name     string        // of the machine; becomes the subject, for people
	SANs     []string      // addresses and names, a leading "*." allowed; localhost, 127.0.0.1 and ::1 are always added
	Validity time.Duration // 0 means LeafLifetime
	// Client lets the certificate be used by a client, too. Classic Swarm's manager needs it: it talks to the engines with
	// its server certificate. Whoever holds such a machine can use every engine under this CA.
	Client bool
}

// parseRequest verifies a signing request's form, size, key and signature. The names in the request are nobody's business.
func parseRequest(csr []byte) (*x509.CertificateRequest, error) {
	block, err := single(csr)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("signing request: is a %q", block.Type)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	if err := checkPublic(req.PublicKey); err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signing request: its sender does not hold the key: %w", err)
	}
	return req, nil
}

// SignServer issues a server certificate for the key of a signing request.
func (ca *CA) SignServer(csr []byte, o ServerOptions, now time.Time) ([]byte, error) {
	req, err := parseRequest(csr)
	if err != nil {
		return nil, err
	}
	if samePublic(ca.key.Public(), req.PublicKey) {
		return nil, errors.New("signing request: made with the CA's own key")
	}
	sans, err := NormalizeSANs(o.SANs)
	if err != nil {
		return nil, err
	}
	validity := o.Validity
	if validity <= 0 {
		validity = LeafLifetime
	}
	tmpl, err := template(name(o.Name), now, validity)
	if err != nil {
		return nil, err
	}
	setSANs(tmpl, sans)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	if _, ok := req.PublicKey.(*rsa.PublicKey); ok {
		tmpl.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if o.Client {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	cert, err := ca.sign(tmpl, req.PublicKey, now)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", o.Name, err)
	}
	return cert, nil
}

// NormalizeSANs checks names and addresses and returns them, together with those of the local host, sorted and each once:
// names in lower case without a final dot, addresses in their shortest form without brackets and zones.
func NormalizeSANs(sans []string) ([]string, error) {
	out := []string{"localhost", "127.0.0.1", "::1"}
	for _, s := range sans {
		n, err := normalizeSAN(s)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) > maxSANs {
		return nil, fmt.Errorf("%d names for one certificate: at most %d are allowed", len(out), maxSANs)
	}
	return out, nil
}

func normalizeSAN(s string) (string, error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return ip.Unmap().WithZone("").String(), nil
	}
	n := strings.ToLower(strings.TrimSuffix(s, "."))
	if !validName(strings.TrimPrefix(n, "*.")) {
		return "", fmt.Errorf("%q is neither a host name nor an IP address", s)
	}
	return n, nil
}

// validName holds RFC 1123's rule, with the underscore that container and service names use in practice. Names of digits and
// dots alone are mistyped addresses.
func validName(n string) bool {
	if n == "" || len(n) > 253 || strings.Trim(n, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !(c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z') {
				return false
			}
		}
	}
	return true
}

func setSANs(tmpl *x509.Certificate, sans []string) {
	for _, s := range sans {
		if ip, err := netip.ParseAddr(s); err == nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip.AsSlice())
			continue
		}
		tmpl.DNSNames = append(tmpl.DNSNames, s)
	}
}
