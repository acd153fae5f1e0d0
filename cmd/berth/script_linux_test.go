package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/digitalocean"
)

// TestMain lets scripts run this test binary as berth, and as docker-machine, with the fake driver beside the real ones.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": fakeMain, "docker-machine": fakeMain})
}

func fakeMain() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, args: os.Args, getenv: os.Getenv, now: time.Now,
		drivers: func(env driverEnv) *drivers.Registry {
			r := allDrivers(env)
			r.Add("fake", func() drivers.Driver { return &fakeDriver{cloud: os.Getenv("FAKE_CLOUD")} })
			r.Add(digitalocean.Name, sync.OnceValue(func() drivers.Driver { return digitalocean.New(quickDroplets) }))
			return r
		},
		install:   fakeInstall,
		uninstall: fakeUninstall, engineSocket: os.Getenv("FAKE_SOCKET"),
	}
	os.Exit(a.run(ctx))
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			cloud, err := newFakeCloud(env.WorkDir)
			if err != nil {
				return err
			}
			api := httptest.NewServer(cloud)
			env.Defer(func() { api.Close(); cloud.close() })
			env.Values["cloud"] = cloud
			do := newDoCloud(env.WorkDir)
			env.Defer(do.close)
			env.Values["do"] = do
			socket, err := serveSocket(env)
			if err != nil {
				return err
			}
			env.Setenv("FAKE_SOCKET", socket)
			env.Setenv("DIGITALOCEAN_API_URL", do.server.URL)
			env.Setenv("DIGITALOCEAN_SSH_PORT", strconv.Itoa(doSSHPort))
			env.Setenv("FAKE_CLOUD", api.URL)
			env.Setenv("BERTH_HOME", env.Getenv("WORK")+"/store")
			env.Setenv("SHELL", "/bin/bash")
			env.Setenv("USER", "alice")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"cloud": cloudCmd, "do": doCmd, "status": statusCmd},
	})
}

// cloudCmd is `cloud list` and `cloud stop|move|vanish|hang|refuse NAME`.
func cloudCmd(ts *testscript.TestScript, neg bool, args []string) {
	cloud, ok := ts.Value("cloud").(*fakeCloud)
	if !ok || len(args) == 0 {
		ts.Fatalf("usage: cloud list | cloud ACT NAME")
	}
	if args[0] == "list" {
		got, want := strings.Join(cloud.names(), " "), strings.Join(args[1:], " ")
		if (got == want) == neg {
			ts.Fatalf("the cloud has %q, not %q", got, want)
		}
		return
	}
	ts.Check(cloud.act(args[1], args[0]))
}

// statusCmd is `status N command…`: the command must exit with N.
func statusCmd(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("%q exits with %d, not %s", args[1:], got, args[0])
	}
}
