package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

func TestSwitchProgramGoesWithBerth(t *testing.T) {
	name := "berth-switch"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	for _, tt := range []struct {
		name, file, env string
		want            string // relative to the folder of all, as file is
	}{
		{"none", "", "", ""},
		{"beside berth", "bin/" + name, "", "bin/" + name},
		{"in libexec/berth", "libexec/berth/" + name, "", "libexec/berth/" + name},
		{"in libexec", "libexec/" + name, "", "libexec/" + name},
		{"a folder of that name", "bin/" + name + "/x", "", ""},
		{"the environment wins", "bin/" + name, "/other/switch", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			exe := filepath.Join(dir, "bin", "berth")
			for _, f := range []string{"bin/berth", tt.file} {
				if f == "" {
					continue
				}
				path := filepath.Join(dir, f)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, nil, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var want []string
			switch {
			case tt.env != "":
				want = []string{tt.env}
			case tt.want != "":
				want = []string{filepath.Join(dir, tt.want)}
			}
			got := switchProgram(driverEnv{exe: exe, getenv: func(string) string { return tt.env }})
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
