// Fakeberthd is the part of berthd that provisioning uses: it makes keys and signing requests, and answers pings on its socket.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// Set at build: version makes binaries differ, broken makes the engine end at once.
var version, broken string

func main() {
	log.SetFlags(0)
	var err error
	switch {
	case len(os.Args) > 3 && os.Args[1] == "csr" && os.Args[2] == "--key":
		err = csr(os.Args[3])
	case len(os.Args) > 5 && os.Args[1] == "serve":
		err = serve(os.Args[3], os.Args[5])
	case len(os.Args) > 3 && os.Args[1] == "uninstall":
		err = os.RemoveAll("/run/berth")
	default:
		err = fmt.Errorf("unexpected arguments %q", os.Args)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func csr(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if data, err = makeKey(); err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
	}
	if err != nil {
		return err
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	return pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func makeKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

func serve(configFile, pidFile string) error {
	log.Printf("engine %s starting", version)
	if broken != "" {
		return errors.New("this engine is broken")
	}
	data, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	if !json.Valid(data) {
		return fmt.Errorf("%s: not JSON", configFile)
	}
	if err := os.MkdirAll("/run/berth", 0o711); err != nil {
		return err
	}
	_ = os.Remove("/run/berth/docker.sock")
	ln, err := net.Listen("unix", "/run/berth/docker.sock")
	if err != nil {
		return err
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() { <-ended; ln.Close() }()
	http.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK ", version, " ", string(data)) })
	if err := http.Serve(ln, nil); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
