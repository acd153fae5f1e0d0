//go:build linux

package hosts

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/getberth/berth/test/images"
)

func TestDebian(t *testing.T) {
	bin := binaries(t)
	h := newDebian(t)
	mirror := serveMirror(t, h.outside)
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/debian.txtar"},
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, user(bin, e.WorkDir, mirror)...)
			e.Vars = append(e.Vars, "HOST="+h.address, "KEY="+h.keyFile, "OTHER="+otherEngine(t))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"traces": h.writeTraces(t),
		},
	})
}

// writeTraces is the command `traces FILE`.
func (h *host) writeTraces(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		text, err := h.traces(t.Context())
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	}
}

// user is the environment of somebody who uses berth, with home as the home folder.
func user(bin, home, mirror string) []string {
	return []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "BERTH_HOME=" + filepath.Join(home, "store"),
		"DOCKER_CONFIG=" + filepath.Join(home, "docker"), "SHELL=/bin/sh", "SSH_AUTH_SOCK=", "MIRROR=" + mirror,
	}
}

// serveMirror serves busybox, and what stands in for progrium/consul, to the hosts, which reach this computer at the address, and
// returns its URL.
func serveMirror(t *testing.T, address string) string {
	t.Helper()
	reg, err := images.Serve(images.RegistryOptions{Addr: address + ":0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	busybox, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Add("library/busybox:latest", busybox); err != nil {
		t.Fatal(err)
	}
	if err := reg.Add("progrium/consul:latest", consul(t, busybox)); err != nil {
		t.Fatal(err)
	}
	return "http://" + reg.Host()
}

// consul is an image with an entry point, which serves its arguments on port 8500.
func consul(t *testing.T, base v1.Image) v1.Image {
	t.Helper()
	img, err := mutate.Config(base, v1.Config{
		Entrypoint: []string{"sh", "-c", `mkdir /www && echo "consul $*" >/www/index.html && exec httpd -f -h /www -p 8500`, "consul"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// binaries returns the folder of what `make build` builds. Where somebody runs `go test` without make, the test is skipped; CI
// must have it.
func binaries(t *testing.T) string {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("CI") != "" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		t.Skip("booting hosts requires root")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"berth", "berthd"} {
		if _, err := os.Stat(filepath.Join(bin, f)); err != nil {
			skip("bin/%s is missing: run `make build` first", f)
		}
	}
	for _, p := range []string{"docker", "qemu-system-x86_64", "mmdebstrap", "nft"} {
		if _, err := exec.LookPath(p); err != nil {
			skip("%s is missing: run `test/setup test` first", p)
		}
	}
	return bin
}

// otherEngine is a berthd of another version.
func otherEngine(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "berthd")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w -X main.version=9.9.9", "-o", path, "../../cmd/berthd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building another engine: %v\n%s", err, out)
	}
	return path
}
