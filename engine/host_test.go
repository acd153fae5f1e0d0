//go:build linux

package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/system"
)

func TestEngineKeepsItsID(t *testing.T) {
	dir := t.TempDir()
	first, err := inspectHost(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := inspectHost(dir)
	if err != nil || first.id == "" || first.id != second.id {
		t.Errorf("%q, then %q (%v)", first.id, second.id, err)
	}
	if first.kernel == "" || first.memory == 0 || first.arch == "" || first.system == "" {
		t.Errorf("got %+v", first)
	}
}

func TestOSRelease(t *testing.T) {
	file := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(file, []byte("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, version := osRelease("/none", file); name != "Debian GNU/Linux 12 (bookworm)" || version != "12" {
		t.Errorf("%q %q", name, version)
	}
	if name, _ := osRelease("/none"); name != "Linux" {
		t.Errorf("%q", name)
	}
}

func TestWhatCgroupsLackIsAWarning(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v2, l := inspectCgroups(root)
	if !v2 || !l.memory || !l.pids || l.cpuset {
		t.Errorf("%v %+v", v2, l)
	}
	var info system.Info
	host{cgroupV2: v2, limits: l}.fill(&info)
	if info.CgroupVersion != "2" || len(info.Warnings) != 1 || info.Warnings[0] != "WARNING: No cpuset support" {
		t.Errorf("%v %v", info.CgroupVersion, info.Warnings)
	}
	if v2, l := inspectCgroups(t.TempDir()); v2 || l != (limits{}) {
		t.Errorf("v1: %v %+v", v2, l)
	}
}
