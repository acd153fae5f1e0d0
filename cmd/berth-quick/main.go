// How many processors there are is asked once: to follow it is for servers, and costs a goroutine at each start.

//go:debug updatemaxprocs=0

// Command berth-quick is what `make build` installs as berth: it answers `berth env NAME` by itself, and becomes berth-full, the
// program beside it, for all else. Shells run `berth env` at each prompt, and half of what the whole program takes for it is the
// initialisation of packages for clouds, SSH and TLS.
//
// berth-full is complete: installed alone, under the name berth, it does everything.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine/shellenv"
)

// exitError is berth's exit status of a failure of its own.
const exitError = 1

func main() {
	if answer(os.Stdout, os.Args, os.Getenv) {
		return
	}
	path, err := whole()
	if err == nil {
		err = become(path)
	}
	fmt.Fprintf(os.Stderr, "%v\nReinstall berth, with all its programs in one folder.\n", err)
	os.Exit(exitError)
}

// answer writes what the whole program would for `env [--shell SHELL] [NAME]`. Of anything out of the ordinary, errors too, it
// writes nothing and leaves the answer to that program.
func answer(out io.Writer, args []string, getenv func(string) string) bool {
	if len(args) < 2 || args[1] != "env" || getenv("MACHINE_DEBUG") != "" {
		return false
	}
	name, shell, ok := parse(args[2:])
	if !ok {
		return false
	}
	vars, err := client(name, getenv)
	if err != nil {
		return false
	}
	if shell == "" {
		if shell, err = shellenv.Detect(getenv); err != nil {
			return false
		}
	}
	return shellenv.Write(out, shell, vars, false, args) == nil
}

// parse knows the command's usual forms.
func parse(args []string) (name, shell string, ok bool) {
	name = "default"
	if len(args) > 0 && strings.HasPrefix(args[0], "--shell=") {
		shell, args = strings.TrimPrefix(args[0], "--shell="), args[1:]
	} else if len(args) > 1 && args[0] == "--shell" {
		shell, args = args[1], args[2:]
	}
	if len(args) == 1 {
		name, args = args[0], nil
	}
	return name, shell, len(args) == 0 && !strings.HasPrefix(name, "-")
}

func client(name string, getenv func(string) string) ([]shellenv.Variable, error) {
	dir, err := hostdb.Locate("", getenv, runtime.GOOS)
	if err != nil {
		return nil, err
	}
	store := hostdb.New(dir)
	m, err := store.Get(name)
	if err != nil {
		return nil, err
	}
	if m.Endpoint == nil || m.Endpoint.Address == "" {
		return nil, fmt.Errorf("%q has no address yet", name)
	}
	if m.Endpoint.SSHOnly {
		return nil, fmt.Errorf("%q is reached through a tunnel, which must be there", name)
	}
	vars := shellenv.Client(name, m.Endpoint.EngineURL(), store.MachineDir(name))
	return append(vars, shellenv.Platform(runtime.GOOS)...), nil
}

// whole finds the whole program beside this one, which may have been called by a link.
func whole() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "berth-full"+filepath.Ext(self))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("berth is not complete: %w", err)
	}
	return path, nil
}
