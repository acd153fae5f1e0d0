package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/guest/sshd"
)

// fakeCloud makes machines that consist of the light VM's SSH server and a TLS endpoint that answers as an engine does. It lives
// in the test's process and outlasts the commands that use it over HTTP.
type fakeCloud struct {
	dir    string
	mu     sync.Mutex // guards all below
	vms    map[string]*fakeVM
	refuse map[string]bool // machines whose deletion fails
	// hang are machines about which no question is answered until the channel is closed.
	hang map[string]chan struct{}
}

type fakeVM struct {
	ID         string
	Running    bool
	Address    string
	SSHPort    int
	EnginePort int
	HostKey    []byte
	ClientKey  string

	home string
	key  *ecdsa.PrivateKey // of the engine; never leaves the machine
	stop func()
	held []int // sockets that keep the machine's ports while it is off
}

func newFakeCloud(dir string) (*fakeCloud, error) {
	dir = filepath.Join(dir, ".cloud")
	return &fakeCloud{dir: dir, vms: map[string]*fakeVM{}, refuse: map[string]bool{}, hang: map[string]chan struct{}{}}, os.MkdirAll(dir, 0o700)
}

func (c *fakeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := filepath.Base(r.URL.Path)
	c.mu.Lock()
	hang := c.hang[id]
	c.mu.Unlock()
	if hang != nil && r.Method == http.MethodGet {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = c.handle(w, r.Method, id, r.URL.Query().Get("act"), body)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		w.WriteHeader(http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (c *fakeCloud) handle(w io.Writer, method, id, act string, body []byte) error {
	switch method {
	case http.MethodPut:
		if err := c.create(id, body); err != nil {
			return err
		}
	case http.MethodPost, http.MethodDelete:
		return c.act(id, act)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	vm, ok := c.vms[id]
	if !ok {
		return os.ErrNotExist
	}
	return json.NewEncoder(w).Encode(vm)
}

func (c *fakeCloud) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sortedKeys(c.vms)
}

func (c *fakeCloud) create(id string, spec []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.vms[id]; ok {
		return nil // an answer was lost
	}
	vm := &fakeVM{home: filepath.Join(c.dir, id)}
	if err := json.Unmarshal(spec, vm); err != nil {
		return err
	}
	vm.ID, vm.Address = id, "127.0.0.1"
	if err := vm.makeRequest(); err != nil {
		return err
	}
	c.vms[id] = vm
	return vm.start()
}

func (c *fakeCloud) act(id, act string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	vm, ok := c.vms[id]
	if !ok {
		return os.ErrNotExist
	}
	switch act {
	case "start":
		return vm.start()
	case "stop", "kill":
		vm.halt()
	case "move":
		vm.halt()
		vm.Address = "127.0.0.2"
	case "shift": // while berth does not look
		vm.halt()
		vm.Address = "127.0.0.3"
		return vm.start()
	case "refuse":
		c.refuse[id] = true
	case "relent":
		delete(c.refuse, id)
	case "hang":
		c.hang[id] = make(chan struct{})
	case "answer":
		close(c.hang[id])
		delete(c.hang, id)
	case "remove", "vanish":
		if c.refuse[id] && act == "remove" {
			return fmt.Errorf("the cloud does not delete %s", id)
		}
		vm.discard()
		delete(c.vms, id)
		return os.RemoveAll(vm.home)
	default:
		return fmt.Errorf("the cloud cannot %s", act)
	}
	return nil
}

func (c *fakeCloud) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, vm := range c.vms {
		vm.discard()
	}
}

// makeRequest makes the engine's key, and the signing request that provisioning fetches.
func (vm *fakeVM) makeRequest() error {
	if err := os.MkdirAll(vm.home, 0o700); err != nil {
		return err
	}
	var err error
	if vm.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, vm.key)
	if err != nil {
		return err
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return os.WriteFile(filepath.Join(vm.home, "server.csr"), csr, 0o600)
}

func (vm *fakeVM) start() error {
	if vm.Running {
		return nil
	}
	server, err := sshd.New(sshd.Config{HostKey: vm.HostKey, AuthorizedKeys: []string{vm.ClientKey}, Home: vm.home})
	if err != nil {
		return err
	}
	ssh, err := vm.listen(&vm.SSHPort)
	if err != nil {
		return err
	}
	engine, err := vm.listen(&vm.EnginePort)
	if err != nil {
		ssh.Close()
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); _ = server.Serve(ctx, ssh) }()
	api := &http.Server{Handler: http.HandlerFunc(engineAPI), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = api.Serve(tls.NewListener(engine, &tls.Config{GetConfigForClient: vm.tls})) }()
	vm.Running = true
	vm.stop = func() { cancel(); api.Close(); wg.Wait() }
	return nil
}

// listen takes a port, or takes one again.
func (vm *fakeVM) listen(port *int) (net.Listener, error) {
	if err := vm.hold(port); err != nil {
		return nil, err
	}
	return net.Listen("tcp", net.JoinHostPort(vm.Address, strconv.Itoa(*port)))
}

// hold binds a port, for the kernel to give it to nobody else: connections from this computer take free ones. A listener may bind it
// besides, as both allow the reuse of the address.
func (vm *fakeVM) hold(port *int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	vm.held = append(vm.held, fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: *port, Addr: netip.MustParseAddr(vm.Address).As4()}); err != nil {
		return err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	*port = bound.(*unix.SockaddrInet4).Port
	return nil
}

// discard gives the ports back.
func (vm *fakeVM) discard() {
	vm.halt()
	for _, fd := range vm.held {
		_ = unix.Close(fd)
	}
	vm.held = nil
}

func (vm *fakeVM) halt() {
	if vm.Running {
		vm.stop()
	}
	vm.Running = false
}

// tls is the engine's configuration, read anew for each connection as the real one does.
func (vm *fakeVM) tls(*tls.ClientHelloInfo) (*tls.Config, error) {
	ca, err := os.ReadFile(filepath.Join(vm.home, "ca.pem"))
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(filepath.Join(vm.home, "server.pem"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(cert)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) || block == nil {
		return nil, errors.New("bad certificates")
	}
	pair := tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: vm.key}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}

// serveSocket is the engine of all machines of a script that have it on a local socket only.
func serveSocket(env *testscript.Env) (path string, err error) {
	path = filepath.Join(env.WorkDir, ".engine.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		return "", err
	}
	api := &http.Server{Handler: http.HandlerFunc(engineAPI)}
	go func() { _ = api.Serve(ln) }()
	env.Defer(func() { api.Close() })
	return path, nil
}

func engineAPI(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/_ping":
		io.WriteString(w, "OK")
	case slices.Contains([]string{"/version", "/v1.24/version"}, r.URL.Path):
		io.WriteString(w, `{"Version":"29.0.0"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}
