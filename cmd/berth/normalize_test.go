package main

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/getberth/berth/drivers"
)

func testApp() *app {
	return &app{
		in: strings.NewReader(""), out: io.Discard, err: io.Discard, args: []string{"berth"},
		getenv:  func(string) string { return "" },
		drivers: func(driverEnv) *drivers.Registry { return new(drivers.Registry) },
	}
}

func TestCommandsBearTheirNames(t *testing.T) {
	a := testApp()
	for _, c := range a.commands() {
		if name := c.make().Name(); name != c.name {
			t.Errorf("the command %q is listed as %q", name, c.name)
		}
		a.args = []string{"berth", c.name}
		if only, _, err := a.root().Find([]string{c.name}); err != nil || only.Name() != c.name {
			t.Errorf("%s: a line that begins with it finds %v, %v", c.name, only, err)
		}
	}
}

func TestNormalizeArgs(t *testing.T) {
	tests := []struct{ in, want string }{
		{"env -swarm master", "env --swarm master"},
		{"-debug ls -quiet", "--debug ls --quiet"},
		{"-storage-path ls env x", "--storage-path ls env x"},
		{"-storage-path=/s -D ls -q", "--storage-path=/s -D ls -q"},
		{"-s ls ls -q", "-s ls ls -q"},
		{"create -driver qemu -engine-label -swarm n", "create --driver qemu --engine-label -swarm n"},
		{"create -d -swarm n", "create -d -swarm n"},
		{"rm -fy a -force", "rm -fy a --force"},
		{"rm -- -force", "rm -- -force"},
		{"ssh m -debug -swarm", "ssh m -debug -swarm"},
		{"-debug ssh m -quiet", "--debug ssh m -quiet"},
		{"env -shell=fish -u", "env --shell=fish -u"},
		{"env -shell fish -no-proxy", "env --shell fish --no-proxy"},
		{"ls --filter -quiet -quiet", "ls --filter -quiet --quiet"},
		{"ls -f -quiet -quiet", "ls -f -quiet --quiet"},
		{"-help", "--help"},
		{"ls -help", "ls --help"},
		{"-version", "--version"},
		{"", ""},
		{"-", "-"},
		{"inspect -f x -", "inspect -f x -"},
		{"list -quiet", "list --quiet"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got := normalizeArgs(testApp().root(), strings.Fields(tt.in))
			if d := cmp.Diff(strings.Fields(tt.want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzNormalizeArgs(f *testing.F) {
	f.Add("env -swarm master")
	f.Add("rm -fy -\xff a")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		got := normalizeArgs(testApp().root(), args)
		if len(got) != len(args) {
			t.Fatalf("%q became %q", args, got)
		}
		for i := range got {
			if got[i] != args[i] && got[i] != "-"+args[i] {
				t.Fatalf("%q became %q", args[i], got[i])
			}
		}
	})
}
