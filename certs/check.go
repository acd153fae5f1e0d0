package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Expires tells when the first certificate of a bundle ends.
func Expires(cert []byte) (time.Time, error) {
	list, err := ParseCertificates(cert)
	if err != nil {
		return time.Time{}, err
	}
	return list[0].NotAfter, nil
}

// NeedsRenewal tells whether less than a third of the certificate's lifetime is left at the given time, as is also true of an
// expired one.
func NeedsRenewal(cert []byte, at time.Time) (bool, error) {
	list, err := ParseCertificates(cert)
	if err != nil {
		return false, err
	}
	return dueForRenewal(list[0], at), nil
}

func dueForRenewal(c *x509.Certificate, at time.Time) bool {
	return c.NotAfter.Sub(at) < c.NotAfter.Sub(c.NotBefore)/3
}

// CheckServer tells why a server's certificate should be replaced: it is not under one of the CAs in caBundle, lacks one of
// the names, is expired or due for renewal, or is no server's. A nil error means that it can stay.
func CheckServer(cert, caBundle []byte, sans []string, at time.Time) error {
	list, err := ParseCertificates(cert)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	if err := verify(list, caBundle, x509.ExtKeyUsageServerAuth, at); err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	if missing, err := missingSANs(list[0], sans); err != nil {
		return err
	} else if len(missing) > 0 {
		return fmt.Errorf("server certificate: is not for %s", strings.Join(missing, ", "))
	}
	if dueForRenewal(list[0], at) {
		return fmt.Errorf("server certificate: is due for renewal, it expires on %s", list[0].NotAfter.Format(time.DateOnly))
	}
	return nil
}

// CheckClient tells why a client pair is of no use against engines that trust caBundle. Being due for renewal is no such
// reason: ask NeedsRenewal.
func CheckClient(p Pair, caBundle []byte, at time.Time) error {
	if _, err := tls.X509KeyPair(p.Cert, p.Key); err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	list, err := ParseCertificates(p.Cert)
	if err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	if err := verify(list, caBundle, x509.ExtKeyUsageClientAuth, at); err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	return nil
}

// verify checks that list[0], with the rest of list between, leads to a CA of the bundle.
func verify(list []*x509.Certificate, caBundle []byte, usage x509.ExtKeyUsage, at time.Time) error {
	cas, err := ParseCertificates(caBundle)
	if err != nil {
		return fmt.Errorf("CA: %w", err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range cas {
		roots.AddCert(c)
	}
	for _, c := range list[1:] {
		between.AddCert(c)
	}
	_, err = list[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

// missingSANs lists the names and addresses that are not literally in the certificate: a wildcard that happens to match does
// not count, since the next set of names would differ from what was asked for.
func missingSANs(c *x509.Certificate, sans []string) ([]string, error) {
	want, err := NormalizeSANs(sans)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, s := range want {
		ip := net.ParseIP(s)
		if ip != nil && slices.ContainsFunc(c.IPAddresses, ip.Equal) || ip == nil && slices.Contains(c.DNSNames, s) {
			continue
		}
		missing = append(missing, s)
	}
	return missing, nil
}
