//go:build linux

package hosts

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/getberth/berth/sshutil"
	"github.com/getberth/berth/test/hosts/system"
	"github.com/getberth/berth/test/images"
)

// expected is what provisioning is to find out about a system.
func expected() map[string]string {
	return map[string]string{
		"ubuntu":  "the host runs Ubuntu 24.04.* systemd, control groups v2; berth works there as root by sudo -n",
		"openrc":  "the host runs Debian GNU/Linux 12 .* openrc, control groups v1; berth works there as root by doas -n",
		"busybox": "the host runs Tiny Linux .* openrc; berth works there as root",
		"arm64":   "the host runs Debian GNU/Linux 12 .* on arm64, .* systemd, control groups v2; berth works there as root",
	}
}

// TestSystems adopts a host of each system. $BERTH_HOSTS names those to try, with commas, or "all"; without it none is made, since
// each takes some minutes and the first time some more: `make hosts` tries all.
func TestSystems(t *testing.T) {
	chosen := os.Getenv("BERTH_HOSTS")
	if chosen == "" {
		t.Skip("$BERTH_HOSTS names no system: `make hosts` tries all")
	}
	bin := binaries(t)
	for _, s := range system.Systems() {
		if chosen != "all" && !slices.Contains(strings.Split(chosen, ","), s.Name) {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			engine := engineFor(t, bin, s.Arch)
			h := bootSystem(t, s)
			testscript.Run(t, testscript.Params{
				Files: []string{"testdata/host.txtar"},
				Setup: func(e *testscript.Env) error {
					e.Vars = append(e.Vars, user(bin, e.WorkDir, "")...)
					e.Vars = append(e.Vars, "PLAN="+expected()[s.Name], "IMAGE="+h.archive(t, s.Arch), "MACHINE="+map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[s.Arch],
						"OTHER="+longer(t, engine), "BROKEN="+h.busybox, "COMPLAINT=applet not found")
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"traces": h.writeTraces(t), "berth-create": h.create(s)},
			})
		})
	}
}

// systemHost is a host of one of the systems.
type systemHost struct {
	host
	busybox string
}

// bootSystem boots a host and waits until it lets us in.
func bootSystem(t *testing.T, s system.System) *systemHost {
	t.Helper()
	said := &lines{}
	files, err := s.Image(t.Context(), said)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sshutil.NewKey("hosts")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &systemHost{host{keyFile: filepath.Join(dir, "key"), become: s.Root}, files.Busybox}
	if err := os.WriteFile(h.keyFile, key.Private, 0o600); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the host ends with the thread that starts it
	m, err := s.Boot(t.Context(), files, dir, key.Public)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		if t.Failed() {
			t.Logf("the host's console:\n%s", m.Console())
		}
	})
	h.ssh = sshutil.Endpoint{Host: m.Address, Port: m.SSHPort, User: s.User, KeyPaths: []string{h.keyFile}}
	h.address = m.Address
	h.pin(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.run(ctx, awake, io.Discard); err != nil {
		t.Fatal(err)
	}
	return h
}

// create is the command `berth-create [FLAG…]`, which adopts the host as web1.
func (h *systemHost) create(s system.System) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		args = append([]string{"create", "-d", "generic", "--generic-ip-address", h.address, "--generic-ssh-port", strconv.Itoa(h.ssh.Port),
			"--generic-ssh-user", s.User, "--generic-ssh-key", h.keyFile, "--accept-new-host-key"}, args...)
		ts.Check(ts.Exec("berth", append(args, "web1")...))
	}
}

// archive is busybox for the host's processor, as `docker load` takes it.
func (h *systemHost) archive(t *testing.T, arch string) string {
	t.Helper()
	binary, err := os.ReadFile(h.busybox)
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.BusyboxFor(arch, binary)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := images.WriteDockerArchive(&out, "busybox:1.24", img); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "busybox.tar")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// engineFor is the berthd for a processor.
func engineFor(t *testing.T, bin, arch string) string {
	t.Helper()
	names := []string{"berthd-linux-" + arch}
	if arch == runtime.GOARCH {
		names = append(names, "berthd")
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(bin, name)); err == nil {
			return filepath.Join(bin, name)
		}
	}
	t.Skipf("bin/%s is missing: run `make berthd-%s` first", names[0], arch)
	return ""
}

// longer is an engine with another checksum that does the same: nothing reads what follows the sections of an ELF file.
func longer(t *testing.T, engine string) string {
	t.Helper()
	b, err := os.ReadFile(engine)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "berthd")
	if err := os.WriteFile(path, append(b, time.Now().String()...), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
