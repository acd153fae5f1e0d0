package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/qemu/vswitch/server"
	"github.com/getberth/berth/guest/seed"
)

const helperArg = "__vswitch"

// TestMain lets the test's program be the virtual switch, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helperArg {
		if server.Main(context.Background(), os.Args[2:]) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func defaults(changes map[string]any) drivers.Options {
	o := drivers.Options{}
	for _, f := range new(Driver).Flags() {
		o[f.Name] = f.Default
	}
	for k, v := range changes {
		o[k] = v
	}
	return o
}

func TestOptions(t *testing.T) {
	s, err := fromOptions(defaults(nil))
	if err != nil {
		t.Fatal(err)
	}
	if s.CPUs != 0 || s.Memory != 2048 || s.DiskSize != 20<<30 || s.Accel != "auto" {
		t.Errorf("defaults: %+v", s)
	}
	for text, want := range map[string]int64{"1": 1 << 30, "1.5": 3 << 29, "40g": 40 << 30, "40 GB": 40 << 30, "2t": 2 << 40, "1073741825b": 1<<30 + 1<<20} {
		if got, err := diskSize(text); got != want || err != nil {
			t.Errorf("disk size %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for flag, values := range map[string][]any{
		"qemu-cpu-count": {-1, 289},
		"qemu-memory":    {0, 255, -1, 5 << 20},
		"qemu-disk-size": {"", "x", "0", "-1", "512m", "NaN", "1e300", "100000t"},
		"qemu-accel":     {"KVM", "xen", "kvm,tcg"},
	} {
		for _, v := range values {
			if _, err := fromOptions(defaults(map[string]any{flag: v})); err == nil || !strings.Contains(err.Error(), "--"+flag) {
				t.Errorf("--%s=%v: error %v", flag, v, err)
			}
		}
	}
}

func TestChoiceOfAccelerator(t *testing.T) {
	works, broken := func(string) error { return nil }, func(string) error { return errors.New("no /dev/kvm") }
	for _, tt := range []struct {
		name         string
		goos, goarch string
		hardware     func(string) error
		asked        string
		silent       string
		want         string
		why, err     string // parts of what is said
	}{
		{"auto with KVM", "linux", "amd64", works, "auto", "", "kvm", "", ""},
		{"auto on a Mac", "darwin", "arm64", works, "auto", "", "hvf", "", ""},
		{"auto on Windows", "windows", "amd64", works, "auto", "", "whpx", "", ""},
		{"auto elsewhere", "freebsd", "amd64", works, "auto", "", "tcg", "freebsd", ""},
		{"auto without KVM", "linux", "amd64", broken, "auto", "", "tcg", "no /dev/kvm", ""},
		{"auto after silence", "linux", "amd64", works, "auto", "kvm", "tcg", "no sign of life", ""},
		{"kvm", "linux", "amd64", works, "kvm", "kvm", "kvm", "", ""},
		{"kvm without KVM", "linux", "amd64", broken, "kvm", "", "", "", "--qemu-accel kvm: no /dev/kvm"},
		{"hvf on Linux", "linux", "amd64", works, "hvf", "", "", "", "hvf does not exist on linux"},
		{"tcg", "linux", "amd64", broken, "tcg", "", "tcg", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := host{tt.goos, tt.goarch, tt.hardware}
			got, why, err := h.choose(&state{Accel: tt.asked, Silent: tt.silent}, tt.goarch)
			if got != tt.want || !says(why, tt.why) || !says(err, tt.err) {
				t.Errorf("got %q, %v, %v", got, why, err)
			}
		})
	}
	if got, why, _ := (host{"linux", "arm64", works}).choose(&state{Accel: "auto"}, "amd64"); got != "tcg" || why == nil {
		t.Errorf("a guest of another architecture runs under %q, %v", got, why)
	}
}

func says(err error, part string) bool {
	if part == "" || err == nil {
		return part == "" && err == nil
	}
	return strings.Contains(err.Error(), part)
}

// fakeImage is a guest image that looks whole.
func fakeImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{seed.Kernel: "k", seed.Initrd: "i", seed.Root: "r"}
	sums := map[string]string{}
	for name, content := range files {
		sums[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	}
	m, _ := json.Marshal(seed.Image{Arch: "amd64", Cmdline: "quiet", Files: sums})
	files[seed.Manifest] = string(m)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func program(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return p
}

func testHost(t *testing.T) *drivers.Host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "machines", "m")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &drivers.Host{Name: "m", Dir: dir, Out: io.Discard, Save: func(json.RawMessage) error { return nil }}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins for QEMU are shell scripts")
	}
	image := fakeImage(t)
	good := program(t, 0o755, "#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian)'\n")
	broken := fakeImage(t)
	os.WriteFile(filepath.Join(broken, seed.Root), nil, 0o644)
	half := fakeImage(t)
	os.Remove(filepath.Join(half, seed.Initrd))
	cut := fakeImage(t)
	os.WriteFile(filepath.Join(cut, seed.Initrd), []byte("x"), 0o644)
	unsummed := fakeImage(t)
	os.WriteFile(filepath.Join(unsummed, seed.Manifest), []byte(`{"arch":"amd64"}`), 0o644)
	garbled := fakeImage(t)
	os.WriteFile(filepath.Join(garbled, seed.Manifest), []byte("{"), 0o644)
	for _, tt := range []struct {
		name          string
		binary, image string
		want          string
	}{
		{"all is well", good, image, ""},
		{"no QEMU", filepath.Join(t.TempDir(), "none"), image, "--qemu-binary"},
		{"not executable", program(t, 0o644, "#!/bin/sh\n"), image, "permission denied"},
		{"not a program", program(t, 0o755, "\x7fELF garbage"), image, "--version"},
		{"another program", program(t, 0o755, "#!/bin/sh\necho hello\n"), image, `it says "hello"`},
		{"it fails", program(t, 0o755, "#!/bin/sh\necho 'libfoo.so: not found' >&2; exit 127\n"), image, "libfoo.so: not found"},
		{"too old", program(t, 0o755, "#!/bin/sh\necho 'QEMU emulator version 6.2.0'\n"), image, "requires QEMU >= 7.2"},
		{"endless output", program(t, 0o755, "#!/bin/sh\nhead -c 1000000 /dev/zero\n"), image, "is not QEMU"},
		{"no image", good, "", "make guest"},
		{"image missing", good, filepath.Join(t.TempDir(), "none"), "make guest"},
		{"image empty", good, broken, "is broken"},
		{"image half there", good, half, "not whole"},
		{"image damaged", good, cut, seed.Initrd + " has another checksum"},
		{"manifest without checksums", good, unsummed, "no checksum of"},
		{"manifest garbled", good, garbled, seed.Manifest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New(Config{GuestDir: tt.image, Helper: []string{good}})
			err := d.Check(t.Context(), testHost(t), defaults(map[string]any{"qemu-binary": tt.binary}))
			if !says(err, tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckMissesTheSwitch(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for QEMU is a shell script")
	}
	qemu := program(t, 0o755, "#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian)'\n")
	for name, helper := range map[string][]string{"not installed": nil, "not there": {filepath.Join(t.TempDir(), "berth-switch")}} {
		d := New(Config{GuestDir: fakeImage(t), Helper: helper})
		err := d.Check(t.Context(), testHost(t), defaults(map[string]any{"qemu-binary": qemu}))
		if !says(err, "the virtual switch") || !says(err, "\nhint: put berth-switch beside berth, or set BERTH_SWITCH") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A file that was compared is read again only when it has been written since.
func TestImageIsComparedOnce(t *testing.T) {
	ctx, h, dir := t.Context(), testHost(t), fakeImage(t)
	os.MkdirAll(filepath.Join(filepath.Dir(filepath.Dir(h.Dir)), "qemu"), 0o700)
	verify := func(remembers bool) error {
		d := New(Config{GuestDir: dir}).(*Driver)
		im, err := d.findImage(&state{})
		if err != nil {
			t.Fatal(err)
		}
		if err = d.verify(ctx, h, im); err == nil && remembers {
			d.remember(h)
		}
		return err
	}
	if err := verify(true); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, seed.Root)
	fi, err := os.Stat(root)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(root, []byte("R"), 0o644)
	os.Chtimes(root, fi.ModTime(), fi.ModTime()) // nobody does this by accident
	if err := verify(false); err != nil {
		t.Errorf("a file that looks as before was read again: %v", err)
	}
	os.Chtimes(root, fi.ModTime(), fi.ModTime().Add(time.Second))
	if err := verify(false); err == nil || !strings.Contains(err.Error(), "make guest") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestMissingQEMUNamesThePackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for goos, want := range map[string]string{"linux": "qemu", "darwin": "brew install qemu", "windows": "winget install"} {
		_, err := host{goos: goos}.findBinary("", "arm64")
		if goos == runtime.GOOS && err == nil {
			continue // it is in one of the usual folders
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", goos, err)
		}
	}
}

func TestDistribution(t *testing.T) {
	got := distribution("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=\"debian\"\nVERSION_ID=\"24.04\"\n")
	if got != "ubuntu debian" {
		t.Errorf("got %q", got)
	}
}

func TestCommandLine(t *testing.T) {
	s := &state{Index: 7, CPUs: 3, Memory: 512, Extra: []string{"-device", "virtio-balloon-pci"}}
	im := &image{Image: seed.Image{Arch: "amd64", Cmdline: "quiet"}, kernel: "/g/vmlinuz", initrd: "/g/initrd", root: "/g,x/root.erofs"}
	l := launch{name: "a.b", state: s, image: im, accel: "tcg", data: `/s "q",/data.raw`, seed: "/s/seed.img"}
	args := l.args()
	line := strings.Join(args, " ")
	for _, want := range []string{"-nodefaults", "-smp 3", "-m 512M", "console=ttyS0", `"serial":"berth-root"`, `"serial":"berth-data"`, `"serial":"berth-seed"`,
		`"mac":"5a:94:ef:e4:0c:07"`, `"name":"berth.control"`, `"name":"berth.ports"`, `"filename":"/g,x/root.erofs"`, "path=7.qmp", "-device virtio-balloon-pci"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is missing in %s", want, line)
		}
	}
	for _, a := range args {
		if strings.HasPrefix(a, "{") && !json.Valid([]byte(a)) {
			t.Errorf("not JSON: %s", a)
		}
	}
	for v, want := range map[version]string{{7, 2}: "thread=single", {8, 0}: "thread=single", {8, 1}: "thread=multi", {11, 0}: "thread=multi"} {
		l.qemu = v
		if line := strings.Join(l.args(), " "); !strings.Contains(line, want) {
			t.Errorf("QEMU %d.%d: %s is missing in %s", v.Major, v.Minor, want, line)
		}
	}
	s.CPUs = 0
	for v, want := range map[version]string{{7, 2}: "-smp 1 ", {8, 1}: "-smp 2 "} {
		l.qemu = v
		if line := strings.Join(l.args(), " "); !strings.Contains(line, want) {
			t.Errorf("QEMU %d.%d: %s is missing in %s", v.Major, v.Minor, want, line)
		}
	}
	l.accel = "kvm"
	if line := strings.Join(l.args(), " "); strings.Contains(line, "mitigations=off") || !strings.Contains(line, "-cpu host") {
		t.Errorf("under KVM: %s", line)
	}
	im.Arch = "arm64"
	if line := strings.Join(l.args(), " "); !strings.Contains(line, "-machine virt,") || !strings.Contains(line, "console=ttyAMA0") {
		t.Errorf("on arm64: %s", line)
	}
}

func TestSeedIsForItsOwner(t *testing.T) {
	h := testHost(t)
	h.Keys = drivers.Keys{HostPrivate: []byte("PRIVATE"), ClientPublic: "ssh-ed25519 AAAA"}
	h.EngineConfig = []byte(`{"debug":true}`)
	if err := writeSeed(h); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.Dir, seedFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b)%sector != 0 {
		t.Errorf("%d bytes are no whole sectors", len(b))
	}
	var got seed.Seed
	if err := json.Unmarshal([]byte(strings.TrimRight(string(b), "\x00")), &got); err != nil || got.HostKey != "PRIVATE" || got.Hostname != "m" || string(got.EngineConfig) != `{"debug":true}` {
		t.Errorf("seed %+v, %v", got, err)
	}
	if fi, _ := os.Stat(path); runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	h.Keys.HostPrivate = nil
	if err := writeSeed(h); err != nil {
		t.Errorf("a start without the key at hand: %v", err)
	}
}

func TestDiskGrowsAndNeverShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	for _, tt := range []struct{ ask, want int64 }{{10 << 20, 10 << 20}, {40 << 20, 40 << 20}, {20 << 20, 40 << 20}} {
		if err := growDisk(path, tt.ask); err != nil {
			t.Fatal(err)
		}
		if fi, _ := os.Stat(path); fi.Size() != tt.want {
			t.Errorf("asked for %d: %d bytes, want %d", tt.ask, fi.Size(), tt.want)
		}
	}
}

func TestConsoleIsMadeFitForATerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	os.WriteFile(path, []byte("one\r\n\x1b[2J\x1b[31mtwo\x1b[0m\x07\n\x1b]0;title\x07three\xff\n"), 0o600)
	if got := tail(path, 2); got != "two\n0;titlethree" {
		t.Errorf("got %q", got)
	}
	if got := tail(filepath.Join(t.TempDir(), "none"), 2); got != "" {
		t.Errorf("of no file: %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[1;2Hb")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range printable(s) {
			if r != '\n' && r != '\t' && (r < 0x20 || r > 0x7e) {
				t.Errorf("%q comes through", r)
			}
		}
	})
}

func FuzzDiskSize(f *testing.F) {
	f.Add("20")
	f.Add("1.5g")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := diskSize(s); err == nil && (n < minDisk || n > maxDisk || n%diskQuantum != 0) {
			t.Errorf("%q is %d bytes", s, n)
		}
	})
}

func TestStateOfANewerBerth(t *testing.T) {
	h := testHost(t)
	h.State = json.RawMessage(`{"version":99}`)
	if _, err := load(h); err == nil || !strings.Contains(err.Error(), "newer berth") {
		t.Errorf("got %v", err)
	}
}
