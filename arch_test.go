package berth_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/getberth/berth/"

// rule says what a folder's packages may import of ours, and why that and no more. A folder stands for itself and its children;
// the longest that matches a package holds.
type rule struct {
	folder  string
	imports []string // folders; "*" means all
	reason  string
}

var rules = []rule{
	{"cmd/berth", []string{"machine", "drivers", "sshutil", "provision", "certs", "hostdb", "background", "engine/config", "guest/seed"}, "the CLI must build for every platform, without the engine"},
	{"cmd/berth-quick", []string{"hostdb", "machine/shellenv"}, "shells run it at each prompt: every package costs time there"},
	{"cmd/berth-switch", []string{"drivers/qemu/vswitch/server"}, "the light VMs' network, in a program of its own"},
	{"cmd/berthd", []string{"engine", "guest"}, "the engine knows nothing of machines"},
	{"cmd/berth-shim", []string{"engine/runtime/shim", "engine/logs"}, "a supervisor lives beside each container: every package costs memory once per container"},
	{"machine", []string{"drivers", "sshutil", "provision", "certs", "hostdb", "background", "engine/config"}, "the only place where the machine parts meet"},
	{"machine/shellenv", nil, "a leaf, for `berth env`"},
	{"drivers", nil, "a driver knows how to make a machine, not what berth does with it"},
	{"drivers/qemu", []string{"drivers", "background", "guest/seed", "engine/config", "drivers/qemu"}, "the light VM's driver and its guest agree on guest/seed"},
	{"drivers/generic", []string{"drivers", "sshutil"}, "all that it knows of a host is how to log in to it"},
	{"drivers/none", []string{"drivers"}, "all that it knows of a machine is a URL"},
	{"drivers/digitalocean", []string{"drivers", "drivers/digitalocean"}, "it knows the contract and the API"},
	{"drivers/driverstest", []string{"drivers"}, "the suite knows the contract only"},
	{"sshutil", nil, "a leaf"},
	{"background", nil, "a leaf"},
	{"certs", nil, "a leaf"},
	{"hostdb", nil, "a leaf"},
	{"provision", []string{"engine/config"}, "it prepares any host that offers its Host interface"},
	{"engine", []string{"engine"}, "the wiring sees all its children, and nothing of the machine half"},
	{"engine/api", []string{"engine/api", "engine/container", "engine/image", "engine/events", "engine/filter", "engine/config"}, "it declares the interfaces it calls, with the services' option types"},
	{"engine/container", []string{"engine/container", "engine/image/changes", "engine/filter", "engine/logs", "engine/runtime/shim"}, "it declares what it needs of its neighbours in deps.go"},
	{"engine/image", []string{"engine/image", "engine/filter", "engine/config"}, "services do not import each other sideways"},
	{"engine/network", []string{"engine/network", "engine/filter", "engine/config"}, "services do not import each other sideways"},
	{"engine/volume", []string{"engine/volume", "engine/filter"}, "services do not import each other sideways"},
	{"engine/events", []string{"engine/filter"}, "services do not import each other sideways"},
	{"engine/runtime", []string{"engine/runtime", "engine/logs"}, "services do not import each other sideways"},
	{"engine/runtime/shim", []string{"engine/logs"}, "vocabulary"},
	{"engine/logs", nil, "a format"},
	{"engine/config", nil, "vocabulary: both halves meet here"},
	{"engine/filter", nil, "vocabulary"},
	{"guest", []string{"guest", "engine/config"}, "the guest runs the engine as a program"},
	{"guest/seed", nil, "vocabulary: host and guest meet here"},
	{"test", []string{"*"}, "tests may use anything"},
}

func TestImportsGoForward(t *testing.T) {
	for pkg, imports := range packages(t, "{{.ImportPath}} {{join .Imports \" \"}}") {
		r := ruleFor(t, pkg)
		for _, imp := range imports {
			if !allowed(r, pkg, imp) {
				t.Errorf("%s imports %s, but %s may import only %v: %s", pkg, imp, r.folder, r.imports, r.reason)
			}
		}
	}
}

// TestOnlyTheSupervisorUsesCgo keeps cgo in the supervisor, where libcontainer needs it.
func TestOnlyTheSupervisorUsesCgo(t *testing.T) {
	for pkg, files := range packages(t, "{{.ImportPath}} {{join .CgoFiles \" \"}}") {
		if len(files) > 0 && pkg != "cmd/berth-shim" {
			t.Errorf("%s uses cgo in %v", pkg, files)
		}
	}
	for pkg, deps := range packages(t, "{{.ImportPath}} {{join .Imports \" \"}}", "all") {
		if pkg != "cmd/berth-shim" && slices.Contains(deps, "github.com/opencontainers/runc/libcontainer/nsenter") {
			t.Errorf("%s imports libcontainer's nsenter, which is cgo", pkg)
		}
	}
}

// TestProgramsAreLight keeps out of programs what others have, and what they would initialise at every start: the light VMs' network
// out of berth, and all but the store out of the program that answers `berth env`.
func TestProgramsAreLight(t *testing.T) {
	for program, heavy := range map[string][]string{
		"cmd/berth":       {"gvisor.dev/", "github.com/miekg/dns", "github.com/insomniacslk/dhcp", module + "drivers/qemu/vnet", module + "drivers/qemu/vswitch/server"},
		"cmd/berth-quick": {"net\n", "crypto\n", "crypto/", "compress/", "regexp", "github.com/spf13/"},
	} {
		out, err := exec.Command("go", "list", "-deps", "./"+program).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for pkg := range strings.Lines(string(out)) {
			if slices.ContainsFunc(heavy, func(prefix string) bool { return strings.HasPrefix(pkg, prefix) }) {
				t.Errorf("%s has %s", program, strings.TrimSpace(pkg))
			}
		}
	}
}

// TestEveryPackageIsDocumented wants one package comment in each package.
func TestEveryPackageIsDocumented(t *testing.T) {
	for pkg, doc := range packages(t, "{{.ImportPath}} {{if .Doc}}yes{{end}}") {
		if len(doc) == 0 && pkg != "." {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

// packages runs go list over the module and returns each package's fields by its folder; our own imports are given by folder,
// others are left out unless keep is given.
func packages(t *testing.T, format string, keep ...string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", format, "./...")
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	list := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0]+"/", module)
		var values []string
		for _, v := range fields[1:] {
			ours := strings.HasPrefix(v, module)
			if ours || len(keep) > 0 || !strings.Contains(v, "/") {
				values = append(values, strings.TrimPrefix(v, module))
			}
		}
		list[filepath.Clean(pkg)] = values
	}
	return list
}

func ruleFor(t *testing.T, pkg string) rule {
	t.Helper()
	best := rule{}
	for _, r := range rules {
		if under(pkg, r.folder) && len(r.folder) > len(best.folder) {
			best = r
		}
	}
	if best.folder == "" && pkg != "." {
		t.Errorf("%s has no place in the architecture: give it a rule in arch_test.go", pkg)
	}
	return best
}

func allowed(r rule, pkg, imp string) bool {
	if !strings.HasPrefix(module+imp, module) || isStandard(imp) {
		return true
	}
	for _, folder := range r.imports {
		if folder == "*" || under(imp, folder) {
			return !strings.HasPrefix(imp, "cmd/")
		}
	}
	return under(imp, pkg)
}

// isStandard tells the standard library's packages, which have no folder of that name here.
func isStandard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !slices.Contains([]string{"cmd", "machine", "drivers", "sshutil", "certs", "hostdb", "provision", "engine", "guest", "test"}, first)
}

func under(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }
