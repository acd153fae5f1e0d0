//go:build linux

package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/getberth/berth/engine"
	"github.com/getberth/berth/engine/config"
)

var update = flag.Bool("update", false, "write docs/daemon.md")

const daemonDoc = "../../docs/daemon.md"

// TestDaemonDoc holds that the document says what flags there are.
func TestDaemonDoc(t *testing.T) {
	want := describeOptions()
	if *update {
		if err := os.WriteFile(daemonDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(daemonDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the flags say; run: go test ./cmd/berthd -run TestDaemonDoc -update", daemonDoc)
	}
}

func describeOptions() string {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	newServeFlags().register(f)
	var b strings.Builder
	b.WriteString("# The engine's options\n\n" +
		"Made from the flags of `berthd serve` by `go test ./cmd/berthd -run TestDaemonDoc -update`.\n\n" +
		"berthd takes dockerd's flags and its daemon.json, by default `" + config.File + "`; called as `dockerd`, it reads `" + dockerFile + "`.\n" +
		"An unknown key is refused, as is one to which the file and a flag give different values. `--validate` checks and ends.\n" +
		"At SIGHUP the file is read again; what \"reload\" marks is taken over, of the rest the engine says that it takes a restart. At SIGUSR1 it\n" +
		"shows what it is doing.\n\n| Flag | Key | | |\n|---|---|---|---|\n")
	keys := fields()
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden {
			return
		}
		name, reload := key(flag.Name), ""
		if slices.Contains(engine.Reloadable(), name) {
			reload = "reload"
		}
		if _, ok := keys[name]; !ok {
			name = ""
		} else {
			name = "`" + name + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", flag.Name, name, flag.Usage, reload)
	})
	b.WriteString("\n## What dockerd has besides\n\nThese are refused by name, unless their value asks for what is so anyway.\n\n| Key | Flag | Taken | Why not |\n|---|---|---|---|\n")
	for _, u := range config.UnsupportedOptions() {
		taken := "empty, false, 0"
		switch {
		case u.Any:
			taken = "all, without effect"
		case u.Neutral != "":
			taken = "`" + u.Neutral + "`"
		}
		flag := ""
		if u.Flag != "" {
			flag = "`--" + u.Flag + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", u.Key, flag, taken, u.Why)
	}
	return b.String()
}
