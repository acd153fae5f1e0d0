package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
	"github.com/getberth/berth/machine/dockerctx"
	"github.com/getberth/berth/sshutil"
)

// app is one run of berth: what it gets from its process, and the global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	args     []string // the whole command line, program first
	getenv   func(string) string
	now      func() time.Time
	drivers  func(env driverEnv) *drivers.Registry
	install  machine.Installer // nil is the real one

	uninstall func(context.Context, *sshutil.Client) error // nil is the real one

	engineSocket string // on machines; empty is the real one

	global globalOptions
}

// driverEnv is what drivers may want to know about this run.
type driverEnv struct {
	getenv func(string) string
	store  string // the store's folder
	exe    string // berth's own path, for helpers in the background
}

// globalOptions are the flags of all commands.
type globalOptions struct {
	debug     bool
	quiet     bool
	storage   string
	tls       machine.TLSFiles
	nativeSSH bool
	ignored   string // tokens of services that berth does not use
}

// run executes the command line and returns the exit status.
func (a *app) run(ctx context.Context) int {
	root := a.root()
	if err := a.globalEnv(); err != nil {
		return a.fail(root, err)
	}
	root.SetArgs(normalizeArgs(root, a.args[1:]))
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		return a.fail(cmd, err)
	}
	return exitOK
}

// program is how the user called berth: "berth" or "docker-machine".
func (a *app) program() string {
	if len(a.args) == 0 || a.args[0] == "" {
		return "berth"
	}
	name := filepath.Base(filepath.FromSlash(a.args[0]))
	if strings.EqualFold(filepath.Ext(name), ".exe") {
		name = name[:len(name)-len(".exe")]
	}
	return name
}

// globalEnv reads the variables that stand for global flags; flags then override them. The store's are hostdb's.
func (a *app) globalEnv() error {
	for name, field := range map[string]*string{
		"MACHINE_TLS_CA_CERT": &a.global.tls.CACert, "MACHINE_TLS_CA_KEY": &a.global.tls.CAKey,
		"MACHINE_TLS_CLIENT_CERT": &a.global.tls.ClientCert, "MACHINE_TLS_CLIENT_KEY": &a.global.tls.ClientKey,
	} {
		if *field == "" {
			*field = a.getenv(name)
		}
	}
	if v := a.getenv("MACHINE_DEBUG"); v != "" {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("Error parsing boolean value from MACHINE_DEBUG: %w", err) //nolint:staticcheck // docker-machine's words
		}
		a.global.debug = on
	}
	return nil
}

// store is the machines' folder that flags and environment choose. A command's name shows up to those who wait for its locks.
func (a *app) store(cmd *cobra.Command) (*hostdb.Store, error) {
	dir, err := hostdb.Locate(a.global.storage, a.getenv, runtime.GOOS)
	if err != nil {
		return nil, withHint(err, "Set BERTH_HOME, or use --storage-path.")
	}
	s := hostdb.New(dir)
	s.Command = a.program() + strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name())
	s.Now = a.now
	s.OnWait = func(what string, h hostdb.Holder) {
		fmt.Fprintf(a.err, "%s: waiting for lock held by %s\n", what, h)
	}
	return s, nil
}

// manager puts together what commands on machines need.
func (a *app) manager(cmd *cobra.Command) (*machine.Manager, error) {
	store, err := a.store(cmd)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		exe = a.args[0]
	}
	m := &machine.Manager{
		Store:   store,
		Drivers: a.drivers(driverEnv{getenv: a.getenv, store: store.Dir(), exe: exe}),
		Report:  a.reporter(),
		Debug:   a.debugOut(),
		Now:     a.now,
		Program: a.program(),
		Again:   commandLineAgain(a.args),
		Owner:   func() string { return owner(a.getenv) },
		Getenv:  a.getenv,
		TLS:     a.global.tls,
		Install: a.install, Uninstall: a.uninstall, EngineSocket: a.engineSocket,
		Executable: exe,
		EngineBinary: func(arch string) (string, error) {
			return machine.FindEngine(arch, exe, a.getenv("BERTHD"))
		},
	}
	if m.DockerConfig, err = dockerctx.Dir(a.getenv); err != nil {
		m.DockerConfig = filepath.Join(store.Dir(), "docker") // nobody's, for want of a user's folder
	}
	if m.Install == nil {
		m.Install = machine.InstallEngine
		m.HostKeys = machine.SystemHostKeys
	}
	return m, nil
}

func (a *app) debugOut() io.Writer {
	if a.global.debug {
		return a.err
	}
	return io.Discard
}

// owner is for people who look at certificates.
func owner(getenv func(string) string) string {
	name := getenv("USER")
	if name == "" {
		name = getenv("USERNAME")
	}
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }
