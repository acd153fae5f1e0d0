package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/digitalocean/godo"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/getberth/berth/drivers/digitalocean"
	"github.com/getberth/berth/drivers/digitalocean/fakeapi"
)

// quickDroplets make no test wait for what takes long only in a real cloud.
var quickDroplets = digitalocean.Config{
	Poll: 10 * time.Millisecond, Backoff: 5 * time.Millisecond, Settle: 300 * time.Millisecond, PerSecond: 10000,
	BootTimeout: 30 * time.Second, ActionTimeout: 30 * time.Second,
}

const (
	doToken   = "dop_v1_s3cret"
	doSSHPort = 2222
)

// doCloud is DigitalOcean with droplets that are machines of the fakeCloud's kind, each on an address of its own on the loopback.
type doCloud struct {
	api    *fakeapi.Server
	server *httptest.Server
	dir    string

	mu  sync.Mutex // guards vms
	vms map[int]*fakeVM
}

// doAddresses counts the addresses given to droplets by all tests of this process.
var doAddresses atomic.Int32

func newDoCloud(dir string) *doCloud {
	c := &doCloud{dir: filepath.Join(dir, ".droplets"), vms: map[int]*fakeVM{}}
	c.api = &fakeapi.Server{Token: doToken, Looks: 1, Boot: c.boot, Halt: c.halt}
	c.api.Reserve = func(d godo.Droplet) string { return c.vms[d.ID].Address } // nothing may be dialled but the loopback
	c.server = httptest.NewServer(c.api)
	return c
}

func (c *doCloud) close() {
	c.server.CloseClientConnections()
	c.server.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, vm := range c.vms {
		vm.halt()
	}
}

func (c *doCloud) boot(d godo.Droplet, userdata string, keys []string) (string, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	vm := c.vms[d.ID]
	if vm == nil {
		host, err := injected(userdata)
		if err != nil {
			return "", "", err
		}
		n := doAddresses.Add(1)
		vm = &fakeVM{
			ID: d.Name, Address: fmt.Sprintf("127.77.%d.%d", n/250, n%250+1), SSHPort: doSSHPort, EnginePort: 2376,
			HostKey: []byte(host), ClientKey: strings.Join(keys, "\n"), home: filepath.Join(c.dir, strconv.Itoa(d.ID)),
		}
		if err := vm.makeRequest(); err != nil {
			return "", "", err
		}
		c.vms[d.ID] = vm
	}
	return vm.Address, fmt.Sprintf("10.108.0.%d", d.ID%250+1), vm.start()
}

// injected is the host key in the user-data that berth makes by itself.
func injected(userdata string) (string, error) {
	text, ok := strings.CutPrefix(userdata, "#cloud-config\n")
	if !ok {
		return "", errors.New("the user-data is no cloud-config")
	}
	var c struct {
		Keys map[string]string `json:"ssh_keys"`
	}
	err := json.Unmarshal([]byte(text), &c)
	return c.Keys["ed25519_private"], err
}

func (c *doCloud) halt(d godo.Droplet, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if vm := c.vms[d.ID]; vm != nil {
		vm.halt()
	}
	if gone {
		delete(c.vms, d.ID)
	}
}

// doCmd is `do left KIND…`, `do vanish` and `do fault REQUEST FAULT [TIMES]`.
func doCmd(ts *testscript.TestScript, neg bool, args []string) {
	c, ok := ts.Value("do").(*doCloud)
	if !ok || len(args) == 0 {
		ts.Fatalf("usage: do left KIND… | do vanish | do fault REQUEST FAULT [TIMES]")
	}
	switch args[0] {
	case "left":
		var kinds []string
		for _, l := range c.api.Left() {
			kinds = append(kinds, strings.Fields(l)[0])
		}
		if got, want := strings.Join(kinds, " "), strings.Join(args[1:], " "); (got == want) == neg {
			ts.Fatalf("the account has %q", c.api.Left())
		}
		if p := c.api.Problems(); len(p) > 0 {
			ts.Fatalf("requests that the API refuses: %q", p)
		}
	case "vanish":
		for _, d := range c.api.Droplets() {
			c.api.Vanish(d.ID)
		}
	case "fault":
		f, ok := map[string]fakeapi.Fault{
			"lost": {Lost: true, Done: true}, "500": {Status: 500, Message: "a bad day"}, "429": {Status: 429, RetryAfter: "0"}, "401": {Status: 401, Message: "who?"},
		}[args[2]]
		n := 1
		if len(args) > 3 {
			n, _ = strconv.Atoi(args[3])
		}
		if !ok || n < 1 {
			ts.Fatalf("there is no fault %q", args[2:])
		}
		for range n {
			c.api.Inject(args[1], f)
		}
	default:
		ts.Fatalf("do cannot %s", args[0])
	}
}
