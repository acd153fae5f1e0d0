//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/certs"
)

// Of a listing: machines, those of them that are dead, and what is given as its -t, in seconds.
const (
	listed   = 100
	dead     = 10
	deadline = 3
)

// fleet is a store of machines whose engines are TLS servers of this process, and the dead a port that swallows connections.
type fleet struct {
	store   string
	engines []net.Listener
	holes   []io.Closer
}

// measureList times `berth ls` where some machines are dead: what it takes beyond the deadline, and how long somebody at a terminal
// waits for the rows of those that live.
func measureList(ctx context.Context, b *bench) (figures []figure, err error) {
	f := &fleet{store: filepath.Join(b.dir, "ls")}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.make(ctx, b); err != nil {
		return nil, err
	}
	progress("berth ls, %d times", b.lists)
	what := fmt.Sprintf("berth ls -t %d of %d machines, %d of them dead: ", deadline, listed, dead)
	late := figure{what: what + "beyond the deadline", unit: "s", target: target{most: 0.5}}
	seen := figure{what: what + "to the last living one's row on a terminal", unit: "s"}
	for range b.lists {
		took, err := f.list(ctx, b)
		if err != nil {
			return nil, err
		}
		live, err := f.watch(ctx, b)
		if err != nil {
			return nil, err
		}
		late.ours, seen.ours = append(late.ours, seconds(took)-deadline), append(seen.ours, seconds(live))
	}
	return []figure{late, seen}, nil
}

func (f *fleet) command(ctx context.Context, b *bench, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "berth"), args...)
	cmd.Env = append(os.Environ(), "BERTH_HOME="+f.store)
	return cmd
}

// make records the machines, by berth, and has the engines answer and the dead be silent.
func (f *fleet) make(ctx context.Context, b *bench) error {
	progress("recording %d machines", listed)
	var ports []int
	for range listed {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		f.engines = append(f.engines, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	for _, l := range f.engines[:dead] { // refused for now, which berth is told at once
		l.Close()
	}
	f.engines = f.engines[dead:]
	config := new(tls.Config)
	for i := range ports {
		port := ports[(i+dead)%listed] // one that lives is the first: with it the store's authority comes into being
		out, err := f.command(ctx, b, "create", "-d", "none", "--url", "tcp://127.0.0.1:"+strconv.Itoa(port), fmt.Sprintf("m%d", (i+dead)%listed)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("recording a machine: %w\n%s", err, out)
		}
		if i == 0 {
			if config, err = engineTLS(filepath.Join(f.store, "certs")); err != nil {
				return err
			}
			f.serve(config)
		}
	}
	for _, port := range ports[:dead] {
		hole, err := blackHole(port)
		if err != nil {
			return err
		}
		f.holes = append(f.holes, hole)
	}
	return nil
}

// serve answers as engines do.
func (f *fleet) serve(config *tls.Config) {
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Version":"29.0.0"}`) }
	for _, l := range f.engines {
		server := &http.Server{Handler: http.HandlerFunc(answer), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: patience}
		go func() { _ = server.Serve(tls.NewListener(l, config)) }() // ends with its listener
	}
}

// engineTLS is what an engine of a store shows: a certificate of the store's authority, whose clients it lets in.
func engineTLS(dir string) (*tls.Config, error) {
	cert, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		return nil, err
	}
	ca, err := certs.LoadCA(certs.Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, own)
	if err != nil {
		return nil, err
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	signed, err := ca.SignServer(csr, certs.ServerOptions{Name: "engine", SANs: []string{"127.0.0.1"}}, time.Now())
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(signed)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca.PEM())
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: own}},
	}, nil
}

// hole is a port whose queue of connections is full: Linux drops what comes, as if nobody were there.
type hole struct {
	socket *os.File
	queued []net.Conn
}

func (h *hole) Close() error {
	for _, c := range h.queued {
		c.Close()
	}
	return h.socket.Close()
}

func blackHole(port int) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	h := &hole{socket: os.NewFile(uintptr(fd), "hole")}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	for err == nil {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", "127.0.0.1:"+strconv.Itoa(port), 200*time.Millisecond); err == nil {
			h.queued = append(h.queued, c)
		}
	}
	if full, ok := errors.AsType[net.Error](err); ok && full.Timeout() {
		return h, nil
	}
	return nil, errors.Join(err, h.Close())
}

// list runs ls to its end, and sees that it tells of all.
func (f *fleet) list(ctx context.Context, b *bench) (time.Duration, error) {
	began := time.Now()
	out, err := f.command(ctx, b, "ls", "-t", strconv.Itoa(deadline)).Output()
	took := time.Since(began)
	if alive := strings.Count(string(out), "v29.0.0"); err == nil && (alive != listed-dead || strings.Count(string(out), "\n") != listed+1) {
		err = fmt.Errorf("%d answer", alive)
	}
	if err != nil {
		err = fmt.Errorf("berth ls: %w\n%s", err, out)
	}
	return took, err
}

// watch runs ls on a terminal, and returns how long it took until the row of each machine that lives was there.
func (f *fleet) watch(ctx context.Context, b *bench) (time.Duration, error) {
	began := time.Now()
	cmd := f.command(ctx, b, "ls", "-t", strconv.Itoa(deadline))
	tty, err := pty.Start(cmd)
	if err != nil {
		return 0, err
	}
	defer tty.Close()
	var took time.Duration
	alive := 0
	for lines := bufio.NewScanner(tty); lines.Scan(); {
		if strings.Contains(lines.Text(), "v29.0.0") {
			alive++
			took = time.Since(began)
		}
	}
	err = cmd.Wait()
	if err == nil && alive != listed-dead {
		err = fmt.Errorf("it shows %d machines that live", alive)
	}
	if err != nil {
		return 0, fmt.Errorf("berth ls on a terminal: %w", err)
	}
	return took, nil
}

func (f *fleet) close() error {
	var errs []error
	for _, l := range f.engines {
		errs = append(errs, l.Close())
	}
	for _, h := range f.holes {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}
