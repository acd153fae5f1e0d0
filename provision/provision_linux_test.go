package provision_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/certs"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/provision"
)

// changed fails the test unless exactly these steps changed something.
func changed(t *testing.T, res provision.Result, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(res.Changed, want) {
		t.Errorf("changed %q, want %q", res.Changed, want)
	}
}

const (
	installing  = "installing the engine"
	configuring = "configuring the engine"
	issuing     = "issuing certificates"
	running     = "running the engine"
)

func TestFreshGuest(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asGuest(good)
	o := newOwner(t, good.plain())
	pid := m.read("run/berth/berthd.pid")

	res, err := o.apply(t, m)
	changed(t, res, err, issuing)
	if m.count() > 3 {
		t.Errorf("%d round trips for a fresh light VM", m.count())
	}
	if f := res.Facts; f.Init != provision.Guest || f.Binary != "/usr/bin/berthd" || f.BinarySHA256 != good.sum || f.Via != "" {
		t.Errorf("facts: %+v", f)
	}
	if m.read("run/berth/berthd.pid") != pid {
		t.Error("certificates restarted the engine")
	}
	checkTLS(t, m, o)

	if todo, _, err := provision.Plan(t.Context(), m, o.spec); err != nil || len(todo) > 0 {
		t.Errorf("plan for a machine that is fine: %q, %v", todo, err)
	}
	before := snapshot(t, m)
	res, err = o.apply(t, m)
	changed(t, res, err)
	if m.count() > 1 || o.signed != 1 {
		t.Errorf("the second run took %d round trips and %d signatures", m.count(), o.signed)
	}
	if after := snapshot(t, m); after != before {
		t.Errorf("the second run changed files:\n%s\n%s", before, after)
	}
}

// checkTLS looks whether the engine could serve with what is there, and who may read it.
func checkTLS(t *testing.T, m *machine, o *owner) {
	t.Helper()
	if _, err := tls.LoadX509KeyPair(m.path(config.ServerCert), m.path(config.ServerKey)); err != nil {
		t.Error(err)
	}
	if m.read(config.CAFile) != string(o.spec.TLS.CA) {
		t.Error("the CA on the machine is another")
	}
	for p, mode := range map[string]os.FileMode{
		config.Dir: 0o755, config.TLSDir: 0o700, config.ServerKey: 0o600, config.ServerCert: 0o644, config.CAFile: 0o644, config.File: 0o644,
	} {
		if fi, err := os.Stat(m.path(p)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %v", p, fi.Mode(), err, mode)
		}
	}
}

// snapshot lists what a second run must not touch.
func snapshot(t *testing.T, m *machine) string {
	t.Helper()
	out, err := exec.Command("find", m.path("etc"), m.path("usr/local"), m.path("run"), "-printf", "%P %m %i %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestGuestGetsNewerEngine(t *testing.T) {
	old, newer := buildEngine(t, "-X main.version=1"), buildEngine(t, "-X main.version=2")
	m := newMachine(t)
	m.asGuest(old)
	o := newOwner(t, newer.plain())
	res, err := o.apply(t, m)
	changed(t, res, err, installing, issuing, running)
	if s := m.pingSoon(); !strings.HasPrefix(s, "OK 2") {
		t.Errorf("the engine is %q", s)
	}
	res, err = o.apply(t, m)
	changed(t, res, err)

	// A file that was tampered with is noticed although its stamp is there.
	f, err := os.OpenFile(m.path(config.Binary), os.O_APPEND|os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	} else if err == nil { // else it is busy, which is as good
		_, _ = io.WriteString(f, "x")
		f.Close()
		res, err = o.apply(t, m)
		changed(t, res, err, installing, running)
	}

	// The next image brings the right engine itself.
	m.write("usr/bin/berthd", string(newer.binary), 0o755)
	m.write("usr/bin/berthd.sha256", newer.sum+"\n", 0o644)
	m.copy(m.path("bin/busybox"), config.Binary)
	res, err = o.apply(t, m)
	changed(t, res, err, installing, running)
	if res.Facts.Binary != "/usr/bin/berthd" {
		t.Errorf("the engine in use is %s", res.Facts.Binary)
	}
}

func TestConfigChangeRestarts(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asGuest(good)
	o := newOwner(t, good.plain())
	o.spec.Config = []byte(`{"labels":["a=it's $HOME ` + "`x`" + ` \"quoted\" \\ ü"]}`) // no final newline
	res, err := o.apply(t, m)
	changed(t, res, err, configuring, issuing, running)
	if got := m.read(config.File); got != string(o.spec.Config) {
		t.Errorf("the configuration is %q", got)
	}
	if s := m.pingSoon(); s != "OK 1 "+string(o.spec.Config) {
		t.Errorf("the engine runs with %q", s)
	}
	res, err = o.apply(t, m)
	changed(t, res, err)
}

// TestInterruptedBeforeRestart cuts a run off after a change and before the restart that it needs.
func TestInterruptedBeforeRestart(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asGuest(good)
	o := newOwner(t, good.plain())
	o.spec.Config = []byte("{\"debug\":true}\n")
	sign := o.spec.TLS.Sign
	o.spec.TLS.Sign = func(_ context.Context, csr []byte) ([]byte, error) { return nil, errors.New("out of ink") }
	if _, err := o.apply(t, m); err == nil || !strings.Contains(err.Error(), "issuing certificates: out of ink") {
		t.Fatalf("got %v", err)
	}
	o.spec.TLS.Sign = sign
	res, err := o.apply(t, m)
	changed(t, res, err, issuing, running)
	if s := m.pingSoon(); !strings.Contains(s, "debug") {
		t.Errorf("the engine runs with %q", s)
	}
}

func TestCertificates(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asGuest(good)
	o := newOwner(t, good.plain())
	res, err := o.apply(t, m)
	changed(t, res, err, issuing)
	key := m.read(config.ServerKey)

	t.Run("another CA beside the first", func(t *testing.T) {
		second, err := certs.NewCA("second", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		o.spec.TLS.CA = append(slices.Clone(o.spec.TLS.CA), second.Cert...)
		res, err := o.apply(t, m)
		changed(t, res, err, issuing)
		if o.signed != 1 {
			t.Error("the certificate was replaced, too")
		}
	})
	t.Run("a certificate that must be replaced", func(t *testing.T) {
		check := o.spec.TLS.Check
		o.spec.TLS.Check = func([]byte) error { return errors.New("is due") }
		res, err := o.apply(t, m)
		changed(t, res, err, issuing)
		if o.signed != 2 || m.read(config.ServerKey) != key {
			t.Error("no new certificate for the same key")
		}
		o.spec.TLS.Check = check
	})
	t.Run("a key that was lost", func(t *testing.T) {
		if err := os.Remove(m.path(config.ServerKey)); err != nil {
			t.Fatal(err)
		}
		res, err := o.apply(t, m)
		changed(t, res, err, issuing)
		checkTLS(t, m, o)
	})
	t.Run("a key that was replaced", func(t *testing.T) {
		m.write(config.ServerKey, key, 0o600)
		later := time.Now().Add(2 * time.Second) // busybox compares whole seconds
		if err := os.Chtimes(m.path(config.ServerKey), later, later); err != nil {
			t.Fatal(err)
		}
		res, err := o.apply(t, m)
		changed(t, res, err, issuing)
		checkTLS(t, m, o)
	})
	res, err = o.apply(t, m)
	changed(t, res, err)
}

func TestSystemd(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asSystemd()
	o := newOwner(t, good.plain())
	if todo, _, err := provision.Plan(t.Context(), m, o.spec); err != nil || len(todo) != 4 {
		t.Errorf("plan: %q, %v", todo, err)
	}
	if m.read(config.Binary) != "(no such file or directory)" {
		t.Error("planning installed the engine")
	}
	res, err := o.apply(t, m)
	changed(t, res, err, installing, configuring, issuing, running)
	checkTLS(t, m, o)
	before := snapshot(t, m)
	res, err = o.apply(t, m)
	changed(t, res, err)
	if m.count() != 1 {
		t.Errorf("the second run took %d round trips", m.count())
	}
	log := m.read("run/systemctl.log")
	if strings.Count(log, "restart") != 1 || strings.Count(log, "enable --quiet") != 1 {
		t.Errorf("systemctl was asked:\n%s", log)
	}
	after := snapshot(t, m)
	clean := func(s string) string { // the log of our systemctl grows
		return strings.Join(slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.HasPrefix(l, "systemctl.log") }), "\n")
	}
	if clean(before) != clean(after) {
		t.Errorf("the second run changed files:\n%s\n%s", before, after)
	}
	verifyUnit(t, m)
}

// verifyUnit has systemd read the unit.
func verifyUnit(t *testing.T, m *machine) {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed: the unit was not verified")
		return
	}
	unit := strings.ReplaceAll(m.read("etc/systemd/system/berthd.service"), config.Binary, "/bin/true")
	path := filepath.Join(t.TempDir(), "berthd.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

func TestBrokenEngineShowsItsLog(t *testing.T) {
	good, broken := buildEngine(t, "-X main.version=1"), buildEngine(t, "-X main.broken=yes")
	t.Run("systemd", func(t *testing.T) {
		m := newMachine(t)
		m.asSystemd()
		o := newOwner(t, good.plain())
		if _, err := o.apply(t, m); err != nil {
			t.Fatal(err)
		}
		breakAndRollBack(t, m, good, broken)
	})
	t.Run("OpenRC, and no way to its socket", func(t *testing.T) {
		m := newMachine(t)
		m.asOpenRC()
		m.deaf = true
		if _, err := newOwner(t, good.plain()).apply(t, m); err != nil {
			t.Fatal(err)
		}
		breakAndRollBack(t, m, good, broken)
	})
	t.Run("light VM", func(t *testing.T) {
		m := newMachine(t)
		m.asGuest(good)
		breakAndRollBack(t, m, good, broken)
	})
}

func breakAndRollBack(t *testing.T, m *machine, good, broken engine) {
	t.Helper()
	o := newOwner(t, broken.plain())
	o.spec.HealthTimeout = time.Second
	_, err := o.apply(t, m)
	var log *provision.LogError
	if !errors.As(err, &log) || !strings.Contains(log.Log, "this engine is broken") {
		t.Fatalf("the error does not show the engine's log: %v", err)
	}
	if err := provision.Rollback(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if s := m.pingSoon(); !strings.HasPrefix(s, "OK 1") {
		t.Errorf("after the roll-back the engine is %q", s)
	}
	o = newOwner(t, good.plain())
	res, err := o.apply(t, m)
	if err != nil || slices.Contains(res.Changed, installing) {
		t.Errorf("after the roll-back: changed %q, %v", res.Changed, err)
	}
}

func TestUploadResumes(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	for _, tt := range []struct {
		name  string
		tool  string // that unpacks it
		spoil bool
	}{{"by gzip", "gzip", false}, {"by zstd", "zstd", false}, {"as it is", "", false}, {"what is there is of no use", "gzip", true}} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.asSystemd()
			switch tt.tool {
			case "":
				m.useDash()
				m.replaceTool("gzip", "")
			case "zstd":
				m.copyTool("zstd")
			}
			e := good.plain()
			o := newOwner(t, e)
			m.cut = 700_000
			if _, err := o.apply(t, m); !errors.Is(err, errCut) {
				t.Fatalf("got %v", err)
			}
			m.cut = 0
			part := waitForPart(t, m)
			if tt.spoil {
				if err := os.WriteFile(part, bytes.Repeat([]byte{1}, 500_000), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var first int64
			res, err := provision.Apply(t.Context(), m, o.spec, func(e provision.Event) {
				if e.State == provision.Progress && first == 0 {
					first = e.Done
				}
			})
			changed(t, res, err, installing, configuring, issuing, running)
			if first < 500_000 {
				t.Errorf("the upload began anew: first progress at %d bytes", first)
			}
			if m.read(config.Binary) != string(good.binary) {
				t.Error("the engine arrived damaged")
			}
			if left, _ := filepath.Glob(m.path(config.Binary + "-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// waitForPart waits until the upload that was cut off has written what it got.
func waitForPart(t *testing.T, m *machine) string {
	t.Helper()
	for range 3000 {
		parts, _ := filepath.Glob(m.path(config.Binary + "-*.part"))
		if len(parts) == 1 {
			if fi, err := os.Stat(parts[0]); err == nil && fi.Size() > 500_000 {
				return parts[0]
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("no partial upload is there")
	return ""
}

func TestDamagedUploadIsRefused(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asSystemd()
	e := good.plain()
	e.SHA256 = strings.Repeat("0", 64)
	_, err := newOwner(t, e).apply(t, m)
	if err == nil || !strings.Contains(err.Error(), "arrived damaged") {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(m.path(config.Binary + "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestDiskFillsUp: df may promise what another program takes meanwhile.
func TestDiskFillsUp(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	for name, size := range map[string]string{"with what arrives": "512k", "with what is unpacked": "4m"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.asSystemd()
			dir := m.path("usr/local/bin")
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
				t.Skipf("mounting: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			o := newOwner(t, good.plain())
			_, err := o.apply(t, m)
			if err == nil || !strings.Contains(err.Error(), "No space left on device") && !strings.Contains(err.Error(), "the disk is full") {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(m.path(config.Binary)); err == nil {
				t.Error("half an engine is there")
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=100m"); err != nil {
				t.Fatal(err)
			}
			res, err := o.apply(t, m)
			changed(t, res, err, installing, configuring, issuing, running)
		})
	}
}

func TestSudo(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asSystemd()
	m.useDash()
	m.replaceTool("id", "echo ${FAKE_UID:-1000}")
	o := newOwner(t, good.plain())
	_, err := o.apply(t, m)
	if err == nil || !strings.Contains(err.Error(), "neither sudo nor doas works without a password") {
		t.Errorf("without sudo: %v", err)
	}
	m.replaceTool("sudo", `[ "$1" = -n ] || exit 1; shift; FAKE_UID=0; export FAKE_UID; exec "$@"`)
	res, err := o.apply(t, m)
	changed(t, res, err, installing, configuring, issuing, running)
	if res.Facts.Via != "sudo -n" {
		t.Errorf("became root by %q", res.Facts.Via)
	}
}

func TestUnfitMachines(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	for _, tt := range []struct {
		name string
		make func(*machine)
		want string
	}{
		{"no init system", func(*machine) {}, "systemd or OpenRC is required"},
		{"another processor", func(m *machine) {
			m.asSystemd()
			m.replaceTool("uname", "echo Linux 6.1 mips")
		}, "no engine for mips"},
		{"another system", func(m *machine) { m.replaceTool("uname", "echo FreeBSD 14 amd64") }, "the engine requires Linux"},
		{"a full disk", func(m *machine) {
			m.asSystemd()
			m.replaceTool("df", `echo head; case "$*" in */usr/local/bin) echo "/dev/vda1 9 9 3000 99% /usr/local";; *) echo "/dev/vda1 9 9 999999 1% /";; esac`)
		}, "the disk of /usr/local/bin is full: "},
		{"a full disk for data", func(m *machine) {
			m.asSystemd()
			m.replaceTool("df", `echo head; case "$*" in */var/lib) echo "/dev/vda1 9 9 3000 99% /var";; *) echo "/dev/vda1 9 9 999999 1% /";; esac`)
		}, "the disk of /var/lib/berth is full: 16 MB are needed, 2 MB are free"},
		{"read-only", func(m *machine) {
			m.asSystemd()
			m.write("proc/mounts", "/dev/vda1 / ext4 rw 0 0\n/dev/vda2 /usr erofs ro,relatime 0 0\n", 0o644)
			m.replaceTool("df", `echo head; case "$*" in */usr/local/bin) echo "/dev/vda2 9 9 999999 1% /usr";; *) echo "/dev/vda1 9 9 999999 1% /";; esac`)
		}, "/usr/local/bin cannot be written to: the file system at /usr is read-only"},
		{"an old kernel", func(m *machine) {
			m.asSystemd()
			m.replaceTool("uname", `case "$1" in -r) echo 4.19.0;; *) echo Linux 4.19.0-amd64 x86_64;; esac`)
		}, "the kernel 4.19.0-amd64 is too old: the engine requires Linux 5.10 or newer"},
		{"a kernel without modules", func(m *machine) {
			m.asSystemd()
			m.replaceTool("uname", `case "$1" in -r) echo 6.1.0;; *) echo Linux 6.1.0 x86_64;; esac`)
			m.write("lib/modules/6.1.0/modules.dep", "kernel/net/bridge/bridge.ko.xz:\nkernel/drivers/net/veth.ko:\n", 0o644)
			m.write("lib/modules/6.1.0/modules.builtin", "", 0o644)
			for _, d := range []string{"bridge", "veth", "nf_tables"} {
				_ = os.Remove(m.path("sys/module/" + d))
			}
		}, "the kernel 6.1.0 has no nf_tables"},
		{"a kernel whose modules are gone", func(m *machine) {
			m.asSystemd()
			m.write("proc/filesystems", "ext4\n", 0o644)
		}, "has no overlay, and its modules are not installed"},
		{"no control groups", func(m *machine) {
			m.asSystemd()
			_ = os.RemoveAll(m.path("sys/fs/cgroup"))
		}, "no control groups are mounted"},
		{"dockerd", func(m *machine) {
			m.asSystemd()
			m.write("proc/4711/comm", "dockerd\n", 0o644)
		}, "dockerd runs there (process 4711)"},
		{"its port is taken", func(m *machine) {
			m.asSystemd()
			m.write("proc/net/tcp6", "  sl  local_address remote_address st\n   0: 00000000000000000000000000000000:0948 00000000000000000000000000000000:0000 0A 0\n", 0o644)
		}, "another program listens on the engine's port 2376"},
		{"nonsense about disks", func(m *machine) {
			m.asSystemd()
			m.replaceTool("df", `echo head; echo "/dev/vda1 9 9 -5 99% /"`)
		}, "unexpected free space"},
		{"no sha256sum", func(m *machine) {
			m.asSystemd()
			m.replaceTool("sha256sum", "")
		}, "no sha256sum"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.useDash()
			tt.make(m)
			o := newOwner(t, good.plain())
			o.spec.Config = []byte(`{"hosts":["unix:///run/berth/docker.sock","tcp://0.0.0.0:2376"]}`)
			_, err := o.apply(t, m)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(m.path(config.Dir)); err == nil {
				t.Error("the machine was changed")
			}
		})
	}
}

// TestAllProblemsAtOnce: nobody wants to hear of them one by one.
func TestAllProblemsAtOnce(t *testing.T) {
	m := newMachine(t)
	m.asSystemd()
	_ = os.RemoveAll(m.path("sys/fs/cgroup"))
	m.write("proc/4711/comm", "dockerd\n", 0o644)
	_, err := newOwner(t, buildEngine(t, "-X main.version=1").plain()).apply(t, m)
	var unfit *provision.UnfitError
	if !errors.As(err, &unfit) || len(unfit.Problems) != 2 || !strings.Contains(unfit.Advice(), "systemctl disable --now docker") {
		t.Errorf("got %v", err)
	}
}

func TestFactsOfAHost(t *testing.T) {
	m := newMachine(t)
	m.asSystemd()
	m.write("etc/ufw/ufw.conf", "ENABLED=yes\n", 0o644)
	o := newOwner(t, buildEngine(t, "-X main.version=1").plain())
	o.spec.Config = []byte(`{"hosts":["tcp://0.0.0.0:2376"]}`)
	todo, f, err := provision.Plan(t.Context(), m, o.spec)
	if err != nil || f.Name != "Tiny Linux 1" || f.CGroup != "2" || f.Opening(2376) != "ufw allow 2376/tcp" {
		t.Errorf("facts %+v, %v", f, err)
	}
	var text []string
	for _, p := range todo {
		text = append(text, p.Step+": "+strings.Join(p.Changes, "; "))
	}
	for _, want := range []string{"/usr/local/bin/berthd, ", "/etc/berth/daemon.json", "/etc/berth/tls", "/etc/systemd/system/berthd.service", "port 2376"} {
		if !strings.Contains(strings.Join(text, "\n"), want) {
			t.Errorf("the plan does not tell of %s:\n%s", want, strings.Join(text, "\n"))
		}
	}
	m.write("etc/ufw/user.rules", "-A ufw-user-input -p tcp --dport 2376 -j ACCEPT\n", 0o644)
	if _, f, err := provision.Plan(t.Context(), m, o.spec); err != nil || f.Opening(2376) != "" {
		t.Errorf("a port that is open: %q, %v", f.Opening(2376), err)
	}
}

func TestEngineEnvironment(t *testing.T) {
	good := buildEngine(t, "-X main.version=1")
	m := newMachine(t)
	m.asSystemd()
	o := newOwner(t, good.plain())
	o.spec.Env = []byte("HTTP_PROXY=http://u:p@proxy:3128/$x'\"\n")
	res, err := o.apply(t, m)
	changed(t, res, err, installing, configuring, issuing, running)
	if fi, err := os.Stat(m.path(config.EnvFile)); err != nil || fi.Mode().Perm() != 0o600 || m.read(config.EnvFile) != string(o.spec.Env) {
		t.Errorf("the environment: %v, %v: %q", fi, err, m.read(config.EnvFile))
	}
	res, err = o.apply(t, m)
	changed(t, res, err)
	o.spec.Env = nil
	res, err = o.apply(t, m)
	changed(t, res, err, configuring, running)
	if _, err := os.Stat(m.path(config.EnvFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the environment is still there: %v", err)
	}
}

// TestUninstallLeavesTheHostAsItWas compares all files of the machine.
func TestUninstallLeavesTheHostAsItWas(t *testing.T) {
	for name, as := range map[string]func(*machine){"systemd": (*machine).asSystemd, "openrc": (*machine).asOpenRC} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			as(m)
			before := m.tree()
			o := newOwner(t, buildEngine(t, "-X main.version=1").plain())
			o.spec.Env = []byte("A=b\n")
			if _, err := o.apply(t, m); err != nil {
				t.Fatal(err)
			}
			m.write(config.Binary+"-0123456789abcdef.gz.part", "x", 0o600)
			if err := provision.Uninstall(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if after := m.tree(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if _, err := m.ping(); err == nil {
				t.Error("the engine runs on")
			}
			if err := provision.Uninstall(t.Context(), m); err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

func TestOpenRC(t *testing.T) {
	m := newMachine(t)
	m.asOpenRC()
	m.deaf = true // as dropbear is
	o := newOwner(t, buildEngine(t, "-X main.version=1").plain())
	res, err := o.apply(t, m)
	changed(t, res, err, installing, configuring, issuing, running)
	res, err = o.apply(t, m)
	changed(t, res, err)
	o.spec.Config = []byte("{\"debug\":true}\n")
	res, err = o.apply(t, m)
	changed(t, res, err, configuring, running)
	if s := m.pingSoon(); !strings.Contains(s, "debug") {
		t.Errorf("the engine runs with %q", s)
	}
}
