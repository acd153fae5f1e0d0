//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/images"
)

// scenarios run in this order: the later ones restart the machine, the last ends it.
var scenarios = []string{"machine", "ssh", "run", "network", "ports", "bounds", "crash", "provision", "second", "power", "remove"}

func TestLightVM(t *testing.T) {
	bin := binaries(t)
	w := newWorld(t, bin)
	t.Cleanup(func() { w.clean(t) })
	began := time.Now()
	w.berth(t, "create", "-d", "qemu", "--engine-registry-mirror", w.mirror, "--engine-label", "purpose=e2e", "vm1")
	t.Logf("berth create took %s", time.Since(began).Round(100*time.Millisecond))
	for _, name := range scenarios {
		ok := t.Run(name, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Files: []string{filepath.Join("testdata", name+".txtar")},
				Setup: w.setup,
				Cmds:  commands,
			})
		})
		if !ok {
			w.diagnose(t)
			return
		}
	}
}

// binaries returns the folder of what `make guest` builds. Where somebody runs `go test` without make, the test is skipped; CI
// must have it.
func binaries(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	skip := t.Skipf
	if os.Getenv("CI") != "" {
		skip = t.Fatalf
	}
	for _, f := range []string{"berth", "berth-full", "berth-switch", "berthd", "guest/manifest.json"} {
		if _, err := os.Stat(filepath.Join(bin, f)); err != nil {
			skip("bin/%s is missing: run `make guest` first", f)
		}
	}
	for _, p := range []string{"docker", "qemu-system-x86_64"} {
		if _, err := exec.LookPath(p); err != nil {
			skip("%s is missing: run `make setup clients` first", p)
		}
	}
	return bin
}

// world is what all scenarios share.
type world struct {
	bin    string
	home   string   // of the user, with the store in it
	store  string   // folder in home
	small  bool     // home is a file system of its own
	mirror string   // of Docker Hub, as the machine reaches it
	ports  []string // P1, P2 and so on for the scenarios: free ports of this host
}

// freePorts are ports that nobody listens on, as variables P1 to P5. They lie below those that the kernel gives to connections.
func freePorts(t *testing.T) []string {
	t.Helper()
	var vars []string
	for port := 20000 + rand.IntN(8000); port < 32000 && len(vars) < 5; port++ {
		tcp, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", ":"+strconv.Itoa(port))
		if err == nil {
			vars = append(vars, fmt.Sprintf("P%d=%d", len(vars)+1, port))
			udp.Close()
		}
		tcp.Close()
	}
	if len(vars) < 5 {
		t.Fatal("this host has no free ports")
	}
	return vars
}

func newWorld(t *testing.T, bin string) *world {
	t.Helper()
	// Short, since paths of sockets are bounded.
	home, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	reg, err := images.Serve(images.RegistryOptions{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	busybox, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	for ref, img := range map[string]v1.Image{"library/busybox:1.24": busybox, "library/busybox:latest": busybox, "library/echo:latest": echoImage(t)} {
		if err := reg.Add(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := strings.Cut(reg.Host(), ":")
	return &world{bin: bin, home: home, store: "store", mirror: "http://host.berth.internal:" + port, ports: freePorts(t)}
}

// echoImage holds nothing but a server of UDP echoes, since busybox has none.
func echoImage(t *testing.T) v1.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "echo")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/echo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the echo server: %v\n%s", err, out)
	}
	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Build(v1.Config{Entrypoint: []string{"/echo"}}, images.Layer{Files: []images.File{{Name: "echo", Mode: 0o755, Body: string(body)}}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// environ is the user's environment: a home of its own, the built berth first in PATH, and no trace of other machines.
func (w *world) environ() []string {
	return []string{
		"HOME=" + w.home,
		"PATH=" + w.bin + ":" + os.Getenv("PATH"),
		"BERTH_HOME=" + filepath.Join(w.home, w.store),
		"XDG_RUNTIME_DIR=" + w.home,
		"TMPDIR=" + os.TempDir(),
		"MIRROR=" + w.mirror,
		"SHELL=/bin/sh",
		"TERM=dumb",
	}
}

func (w *world) setup(e *testscript.Env) error {
	e.Vars = append(e.Vars, w.environ()...)
	e.Vars = append(e.Vars, w.ports...)
	e.Vars = append(e.Vars, w.clientEnv()...)
	return nil
}

// clientEnv is DOCKER_HOST and its kin, which come from berth as in a user's shell. There is none while a machine has no env.
func (w *world) clientEnv() []string {
	out, err := w.command("env", "--shell", "sh", "vm1").Output()
	if err != nil {
		return nil
	}
	var vars []string
	for line := range strings.Lines(string(out)) {
		if assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			vars = append(vars, strings.ReplaceAll(assignment, `"`, ""))
		}
	}
	return vars
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.bin, "berth"), args...)
	cmd.Env = w.environ()
	return cmd
}

func (w *world) berth(t *testing.T, args ...string) {
	t.Helper()
	out, err := w.command(args...).CombinedOutput()
	t.Logf("berth %s:\n%s", strings.Join(args, " "), out)
	if err != nil {
		w.diagnose(t)
		t.Fatalf("berth %s: %v", strings.Join(args, " "), err)
	}
}

// diagnose shows what the guest said, for whoever reads a failed run.
func (w *world) diagnose(t *testing.T) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(w.home, "store/machines/*/console*"))
	for _, l := range logs {
		if b, err := os.ReadFile(l); err == nil {
			t.Logf("%s:\n%s", filepath.Base(l), tail(string(b), 40))
		}
	}
	if out, err := w.command("ssh", "vm1", "tail -n 40 /var/log/berthd.log").CombinedOutput(); err == nil {
		t.Logf("engine's log:\n%s", out)
	}
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// clean removes the machines, also after a failure, and shows that no process of this home is left.
func (w *world) clean(t *testing.T) {
	t.Helper()
	if out, err := w.command("ls", "-q").Output(); err == nil && len(out) > 0 {
		args := append([]string{"rm", "-f"}, strings.Fields(string(out))...)
		if out, err := w.command(args...).CombinedOutput(); err != nil {
			t.Errorf("removing the machines: %v\n%s", err, out)
		}
	}
	w.killSwitch(t) // which would stay for a minute
	if w.small {
		// What was killed holds on to it for a moment.
		if err := eventually(func() error { return unix.Unmount(w.home, 0) }); err != nil {
			t.Errorf("unmounting %s: %v", w.home, err)
		}
	}
	if err := os.RemoveAll(w.home); err != nil {
		t.Error(err)
	}
	if left := processesOf(w.home); len(left) > 0 {
		t.Errorf("processes left:\n%s", strings.Join(left, "\n"))
	}
}

// processesOf lists command lines that name the folder.
func processesOf(dir string) []string {
	var left []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), dir) {
			left = append(left, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return left
}
