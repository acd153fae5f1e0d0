//go:build linux

package pid1

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestContentOf(t *testing.T) {
	formatted := make([]byte, 4096)
	binary.LittleEndian.PutUint16(formatted[1024+56:], 0xEF53)
	partitioned := make([]byte, 4096)
	partitioned[510], partitioned[511] = 0x55, 0xAA
	for _, test := range []struct {
		name string
		disk []byte
		want content
	}{
		{"new", make([]byte, probeSize), empty},
		{"no bytes", nil, empty},
		{"ext4", formatted, ext4},
		{"partition table", partitioned, foreign},
		{"one byte far behind", append(make([]byte, probeSize-1), 1), foreign},
	} {
		if got := contentOf(test.disk); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestParseSeed(t *testing.T) {
	for name, test := range map[string]struct{ in, err string }{
		"good":          {`{"version":1,"hostname":"dev","hostKey":"k"}` + "\x00\x00", ""},
		"newer":         {`{"version":2,"hostname":"dev","hostKey":"k"}`, "hint: rebuild the guest image"},
		"no name":       {`{"version":1,"hostKey":"k"}`, "missing"},
		"long name":     {`{"version":1,"hostKey":"k","hostname":"` + strings.Repeat("x", 65) + `"}`, "missing"},
		"no JSON":       {"hello", "reading the seed"},
		"nothing":       {"\x00\x00\x00", "reading the seed"},
		"wrong type":    {`{"version":"one"}`, "reading the seed"},
		"cut off":       {`{"version":1,"hostname":"d`, "reading the seed"},
		"trailing junk": {`{"version":1,"hostname":"dev","hostKey":"k"} x`, "reading the seed"},
	} {
		_, err := parseSeed([]byte(test.in))
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: error %v, want %q", name, err, test.err)
		}
	}
}

func FuzzParseSeed(f *testing.F) {
	f.Add([]byte(`{"version":1,"hostname":"dev","hostKey":"k","authorizedKeys":["a"],"engineConfig":{}}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSeed(b); err == nil && (s.Hostname == "" || s.HostKey == "") {
			t.Errorf("accepted a seed without host name or key: %q", b)
		}
	})
}

func FuzzObey(f *testing.F) {
	f.Add([]byte(`{"time":0}`))
	f.Add([]byte(`{"time":"x"}`))
	f.Fuzz(func(_ *testing.T, line []byte) {
		if bytes.Contains(line, []byte("ime")) || bytes.Contains(bytes.ToLower(line), []byte("poweroff")) || bytes.Contains(line, []byte(`\u`)) {
			return // commands that this machine must not obey
		}
		new(control).obey(slog.New(slog.DiscardHandler), line)
	})
}

// A child that was started as init's own keeps its exit status for its Wait, whatever the reaper does meanwhile.
func TestReapLeavesOwnChildrenAlone(t *testing.T) {
	c := children{log: slog.New(slog.DiscardHandler)}
	for range 50 {
		cmd := exec.Command("sh", "-c", "exit 3")
		if err := c.start(cmd); err != nil {
			t.Fatal(err)
		}
		for c.reapOne() {
			if pid, _ := peekExited(); pid != cmd.Process.Pid {
				break
			}
			_ = c.wait(cmd)
		}
		if cmd.ProcessState == nil {
			_ = c.wait(cmd)
		}
		if got := cmd.ProcessState.ExitCode(); got != 3 {
			t.Fatalf("exit code %d, want 3", got)
		}
	}
}

// An orphan is collected.
func TestReapCollectsOrphans(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil { // not by children.start: a stranger
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if pid := siginfoPID(&info); pid != cmd.Process.Pid {
		t.Errorf("siginfo says pid %d, want %d", pid, cmd.Process.Pid)
	}
	c := children{log: slog.New(slog.DiscardHandler)}
	if !c.reapOne() {
		t.Error("nothing was collected")
	}
	if err := unix.Kill(cmd.Process.Pid, 0); err == nil {
		t.Error("the orphan is still there")
	}
	_ = cmd.Process.Release()
}

func TestCalledLeavesTheConnection(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	wait, came := called(socket), make(chan error, 1)
	go func() { came <- wait() }()
	select {
	case err := <-came:
		t.Fatalf("nobody called: %v", err)
	default:
	}
	for range 2 { // as long as nobody has accepted it, it is there
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := <-came; err != nil {
			t.Fatal(err)
		}
		go func() { came <- wait() }()
	}
	if c, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}
