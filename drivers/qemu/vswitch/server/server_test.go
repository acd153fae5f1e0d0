package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/drivers/qemu/internal/fakevm"
	"github.com/getberth/berth/drivers/qemu/vswitch"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/guest/seed"
)

// start runs a switch in dir until stop is called or the test ends.
func start(t *testing.T, dir string, idle time.Duration) (c *vswitch.Client, stop func(), ended <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx, dir, idle, func(s string) { ready <- s }); err != nil {
			t.Errorf("the switch: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	select {
	case s := <-ready:
		if s != vswitch.Ready {
			t.Fatalf("the switch says %q", s)
		}
	case <-done:
		t.Fatal("the switch has ended")
	}
	return vswitch.NewClient(dir), stop, done
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// vm is a machine at the switch, without QEMU.
type vm struct {
	*fakevm.QEMU
	vswitch.Machine
	guest *fakevm.Guest
}

func newVM(t *testing.T, dir string, index int, name string) *vm {
	t.Helper()
	v := &vm{QEMU: fakevm.Listen(t, vswitch.NetSocket(dir, index), vswitch.ControlSocket(dir, index), vswitch.PortsSocket(dir, index), vswitch.ConsoleSocket(dir, index))}
	ip := netip.AddrFrom4([4]byte{127, 211, 7, byte(index)})
	if runtime.GOOS != "linux" {
		ip = localhost
	}
	v.Machine = vswitch.Machine{Name: name, Index: index, HostIP: ip, SSHPort: unused(t), EnginePort: unused(t), Console: filepath.Join(t.TempDir(), "console.log"), Fresh: true}
	return v
}

// attach plugs the machine in and waits for all its connections.
func (v *vm) attach(t *testing.T, c *vswitch.Client) {
	t.Helper()
	accepted := make(chan error, 1)
	go func() { accepted <- v.Accept() }()
	if err := c.Attach(t.Context(), v.Machine); err != nil {
		t.Fatal(err)
	}
	v.plug(t, accepted)
}

func (v *vm) plug(t *testing.T, accepted <-chan error) {
	t.Helper()
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	v.guest = fakevm.NewGuest(t, v.Net, v.Index)
	v.guest.ListenTCP(t, 22, func(c net.Conn) { io.WriteString(c, "SSH-2.0-fake\r\n"); fakevm.Echo(c) })
}

func unused(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func (v *vm) publish(t *testing.T, ports ...config.Port) {
	t.Helper()
	if err := json.NewEncoder(v.Ports).Encode(config.PortSet{Ports: ports}); err != nil {
		t.Fatal(err)
	}
}

// until polls the switch's view of a machine.
func until(t *testing.T, c *vswitch.Client, index int, what string, ok func(vswitch.Status) bool) vswitch.Status {
	t.Helper()
	for {
		s, err := c.Get(t.Context(), index)
		if err == nil && ok(s) {
			return s
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("%s: not yet: %+v, %v", what, s, err)
		}
	}
}

func opened(s vswitch.Status, port uint16) (n int) {
	for _, f := range s.Forwards {
		if f.Guest == port && f.Error == "" {
			n++
		}
	}
	return n
}

// places is on how many addresses a published port appears.
func (v *vm) places() int {
	if v.HostIP == localhost {
		return 1
	}
	return 2
}

func says(t *testing.T, addr string, want string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("%s says %q, %v; want %q", addr, got, err, want)
	}
}

func echoesUDP(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 3 {
		want := fmt.Sprint("datagram ", i)
		io.WriteString(c, want)
		got := make([]byte, 100)
		n, err := c.Read(got)
		if err != nil || string(got[:n]) != want {
			t.Errorf("%s answers %q, %v; want %q", addr, got[:n], err, want)
		}
	}
}

func TestMachine(t *testing.T) {
	dir := shortDir(t)
	c, _, ended := start(t, dir, time.Second)
	v := newVM(t, dir, 2, "web1")
	v.attach(t, c)
	ssh := netip.AddrPortFrom(v.HostIP, v.SSHPort).String()

	t.Run("ssh is forwarded", func(t *testing.T) { says(t, ssh, "SSH-2.0-fake\r\n") })
	t.Run("wait returns with the event, and the guest is told the time", func(t *testing.T) {
		waited := make(chan error, 1)
		go func() { waited <- c.Wait(t.Context(), 2) }()
		fmt.Fprintln(v.Control, `{"event":"ssh"}`)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		var cmd seed.Command
		if err := json.NewDecoder(v.Control).Decode(&cmd); err != nil || time.Since(time.Unix(0, cmd.Time)).Abs() > time.Minute {
			t.Errorf("the guest is told %+v, %v", cmd, err)
		}
	})
	t.Run("published ports come and go", func(t *testing.T) {
		tcp, udp := unused(t), unused(t)
		v.guest.ListenTCP(t, tcp, func(c net.Conn) { io.WriteString(c, "published"); c.Close() })
		v.guest.EchoUDP(t, udp)
		v.publish(t, config.Port{Proto: "tcp", IP: "0.0.0.0", Port: tcp}, config.Port{Proto: "tcp", IP: "::", Port: tcp}, config.Port{Proto: "udp", IP: "127.0.0.1", Port: udp})
		until(t, c, 2, "opened", func(s vswitch.Status) bool { return opened(s, tcp)+opened(s, udp) == 2*v.places() })
		for _, ip := range []netip.Addr{v.HostIP, localhost} {
			says(t, netip.AddrPortFrom(ip, tcp).String(), "published")
			echoesUDP(t, netip.AddrPortFrom(ip, udp).String())
		}
		v.publish(t)
		until(t, c, 2, "closed", func(s vswitch.Status) bool { return opened(s, tcp)+opened(s, udp) == 0 })
		if _, err := net.Dial("tcp", netip.AddrPortFrom(v.HostIP, tcp).String()); err == nil {
			t.Error("a port that is no longer published answers")
		}
		says(t, ssh, "SSH-2.0-fake\r\n")
	})
	t.Run("attaching again changes nothing", func(t *testing.T) {
		m := v.Machine
		m.Fresh = false
		if err := c.Attach(t.Context(), m); err != nil {
			t.Error(err)
		}
	})
	t.Run("its address is its own", func(t *testing.T) {
		m := v.Machine
		m.Name = "other"
		wantStatus(t, c.Attach(t.Context(), m), http.StatusConflict)
	})
	t.Run("power off is passed on", func(t *testing.T) {
		if err := c.PowerOff(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		var cmd seed.Command
		for !cmd.PowerOff {
			if err := json.NewDecoder(v.Control).Decode(&cmd); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("the end of QEMU is the end of its ports, and of an idle switch", func(t *testing.T) {
		gone := make(chan error, 1)
		fmt.Fprintln(v.Control, `{"event":"poweroff"}`)
		until(t, c, 2, "down", func(s vswitch.Status) bool { return !s.SSH })
		go func() { gone <- c.Wait(t.Context(), 2) }()
		v.Close()
		if err := <-gone; err == nil {
			t.Error("a wait for a machine that has ended succeeds")
		}
		<-ended
		if _, err := net.Dial("tcp", ssh); err == nil {
			t.Error("a machine that has ended answers")
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "2.*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func wantStatus(t *testing.T, err error, want int) {
	t.Helper()
	var e *vswitch.Error
	if !errors.As(err, &e) || e.Status != want {
		t.Errorf("got error %v, want status %d", err, want)
	}
}

func TestNextSwitchTakesOver(t *testing.T) {
	dir := shortDir(t)
	c, stop, _ := start(t, dir, time.Minute)
	v := newVM(t, dir, 3, "db")
	v.attach(t, c)
	port := unused(t)
	v.publish(t, config.Port{Proto: "tcp", IP: "", Port: port})
	until(t, c, 3, "opened", func(s vswitch.Status) bool { return opened(s, port) == v.places() })
	stop()

	accepted := make(chan error, 1)
	go func() { accepted <- v.Accept() }()
	c, _, _ = start(t, dir, time.Minute)
	v.plug(t, accepted)
	v.guest.ListenTCP(t, port, func(c net.Conn) { io.WriteString(c, "still published"); c.Close() })
	if err := c.Wait(t.Context(), 3); err != nil { // the guest says nothing: its SSH is tried
		t.Error(err)
	}
	says(t, netip.AddrPortFrom(v.HostIP, port).String(), "still published")
}

func TestRecordOfAnEndedMachineIsForgotten(t *testing.T) {
	dir := shortDir(t)
	os.WriteFile(filepath.Join(dir, "5.json"), []byte(`{"name":"old","index":5,"hostIP":"127.0.0.1","sshPort":1,"enginePort":2,"console":"/x"}`), 0o600)
	os.WriteFile(filepath.Join(dir, "6.json"), []byte(`{"name":`), 0o600)
	c, _, _ := start(t, dir, time.Minute)
	if l, err := c.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("attached: %v, %v", l, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOccupiedPortIsReportedAndTriedAgain(t *testing.T) {
	dir := shortDir(t)
	c, _, _ := start(t, dir, time.Minute)
	v := newVM(t, dir, 4, "busy")
	v.attach(t, c)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	v.publish(t, config.Port{Proto: "tcp", IP: "0.0.0.0", Port: port})
	s := until(t, c, 4, "tried", func(s vswitch.Status) bool { return len(s.Forwards) == 2+v.places() })
	for _, f := range s.Forwards {
		if taken := f.Host == l.Addr().String(); taken != (f.Error != "") {
			t.Errorf("forward %+v", f)
		}
	}
	l.Close()
	v.publish(t, config.Port{Proto: "tcp", IP: "0.0.0.0", Port: port})
	until(t, c, 4, "opened", func(s vswitch.Status) bool { return opened(s, port) == v.places() })
}

func TestGuestsNonsenseHarmsNobody(t *testing.T) {
	dir := shortDir(t)
	c, _, _ := start(t, dir, time.Minute)
	v := newVM(t, dir, 2, "evil")
	v.attach(t, c)
	long := bytes.Repeat([]byte("x"), 3*maxPortSet)
	for _, w := range []net.Conn{v.Control, v.Ports} {
		for _, line := range []string{"", "{", "null", `[]`, `{"event":7}`, `{"ports":[{"proto":"sctp","port":1},{"proto":"tcp","ip":"x","port":2},{"proto":"tcp","ip":"10.1.2.3","port":3},{"proto":"tcp","port":0}]}`, string(long)} {
			if _, err := fmt.Fprintln(w, line); err != nil {
				t.Fatal(err)
			}
		}
	}
	port := unused(t)
	v.publish(t, config.Port{Proto: "tcp", IP: "0.0.0.0", Port: port})
	s := until(t, c, 2, "opened", func(s vswitch.Status) bool { return opened(s, port) > 0 })
	if len(s.Forwards) != 2+v.places() {
		t.Errorf("forwards: %+v", s.Forwards)
	}
	fmt.Fprintln(v.Control, `{"event":"failed","error":"no disk"}`)
	until(t, c, 2, "failed", func(s vswitch.Status) bool { return s.Failed == "no disk" })
	wantStatus(t, c.Wait(t.Context(), 2), http.StatusFailedDependency)
}

func TestConsoleIsKeptWithinBounds(t *testing.T) {
	dir := shortDir(t)
	c, _, _ := start(t, dir, time.Minute)
	v := newVM(t, dir, 2, "chatty")
	v.attach(t, c)
	line := strings.Repeat("y", 99) + "\n"
	for range 3 * consoleLimit / len(line) {
		if _, err := io.WriteString(v.QEMU.Console, line); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(v.QEMU.Console, "the end\n")
	for {
		b, _ := os.ReadFile(v.Machine.Console)
		if bytes.HasSuffix(b, []byte("the end\n")) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	all, _ := filepath.Glob(v.Machine.Console + "*")
	if len(all) != 2 {
		t.Errorf("files: %v", all)
	}
	for _, p := range all {
		if fi, err := os.Stat(p); err != nil || fi.Size() > consoleLimit || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, fi, err)
		}
	}
}

func TestControlRefusesNonsense(t *testing.T) {
	dir := shortDir(t)
	c, _, _ := start(t, dir, time.Minute)
	good := vswitch.Machine{Name: "a", Index: 2, HostIP: localhost, SSHPort: unused(t), EnginePort: unused(t), Console: filepath.Join(dir, "c")}
	for name, tt := range map[string]struct {
		change func(*vswitch.Machine)
		status int
	}{
		"no name":                    {func(m *vswitch.Machine) { m.Name = "" }, 400},
		"the gateway's index":        {func(m *vswitch.Machine) { m.Index = 1 }, 400},
		"an address open to the LAN": {func(m *vswitch.Machine) { m.HostIP = netip.MustParseAddr("0.0.0.0") }, 400},
		"no port":                    {func(m *vswitch.Machine) { m.SSHPort = 0 }, 400},
		"no console":                 {func(m *vswitch.Machine) { m.Console = "" }, 400},
		"no QEMU":                    {func(*vswitch.Machine) {}, 502},
	} {
		m := good
		tt.change(&m)
		t.Run(name, func(t *testing.T) { wantStatus(t, c.Attach(t.Context(), m), tt.status) })
	}
	_, err := c.Get(t.Context(), 77)
	wantStatus(t, err, http.StatusNotFound)
	if err := c.Detach(t.Context(), 77); err != nil {
		t.Errorf("detaching what is not attached: %v", err)
	}
	fi, err := os.Stat(filepath.Join(dir, vswitch.Socket))
	if err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("the control socket: %v, %v", fi.Mode(), err)
	}
}

func TestOneSwitchPerFolder(t *testing.T) {
	dir := shortDir(t)
	c, _, _ := start(t, dir, time.Minute)
	var said string
	if err := run(t.Context(), dir, time.Minute, func(s string) { said = s }); err != nil || said != vswitch.Ready {
		t.Errorf("a second switch says %q, %v", said, err)
	}
	if v, err := c.Ping(t.Context()); err != nil || v != vswitch.Version {
		t.Errorf("the first answers %d, %v", v, err)
	}
}

func FuzzPortSet(f *testing.F) {
	f.Add([]byte(`{"ports":[{"proto":"tcp","ip":"0.0.0.0","port":80},{"proto":"udp","ip":"::1","port":53}]}`))
	fw := newForwards(context.Background(), &hub{log: slog.New(slog.DiscardHandler)}, vswitch.Machine{Name: "x", Index: 2, HostIP: localhost})
	f.Fuzz(func(t *testing.T, line []byte) {
		var set config.PortSet
		if json.Unmarshal(line, &set) != nil {
			return
		}
		want := fw.wanted(set.Ports)
		if len(want) > 2*maxPublished {
			t.Errorf("%d places", len(want))
		}
		for p, guest := range want {
			if !p.host.Addr().IsLoopback() || guest == 0 || p.proto != "tcp" && p.proto != "udp" {
				t.Errorf("opens %v for port %d", p, guest)
			}
		}
	})
}

func FuzzEachLine(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccc"), 16)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit = 16 + limit&0xff
		eachLine(bufio.NewReaderSize(bytes.NewReader(b), 16), limit, func(line []byte) {
			if len(line) > limit {
				t.Errorf("a line of %d bytes, limit %d", len(line), limit)
			}
		})
	})
}
