package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// testTimeout bounds a suite; the longest takes two minutes.
const testTimeout = 14 * time.Minute

// start runs a suite, or those of its tests that match, against a new engine, and keeps what it prints in a file.
func (h *house) start(ctx context.Context, s suite, match string) (results, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(h.out, strings.ReplaceAll(s.name, "/", "-"))
	log := base + ".out"
	if match != "" {
		log = base + ".again.out"
	}
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, testTimeout+time.Minute)
	defer cancel()
	args := append(h.engine, self, "-inside", s.name, match)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = append(os.Environ(), "ENGINE_LOG="+base+".log", "ENGINE_CONFIG="+engineConfig)
	var ended *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &ended) {
		return nil, err
	}
	out, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	got := parseResults(out)
	if len(got) == 0 {
		return nil, fmt.Errorf("no test ran: see %s:\n%s", log, tail(out, 10))
	}
	return got, nil
}

func tail(out []byte, lines int) []byte {
	all := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}

// inside runs a suite's test binary against the engine at DOCKER_HOST, in whose mount and network namespaces it is.
func inside(ctx context.Context, name string, args []string) error {
	h, err := newHouse()
	if err != nil {
		return err
	}
	chosen := choose(suites(), []string{name}, false)
	if len(chosen) != 1 || os.Getenv("DOCKER_HOST") == "" {
		return errors.New("-inside requires one suite and DOCKER_HOST")
	}
	s := chosen[0]
	if s.registries {
		end, err := h.serveRegistries(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	if err := h.load(ctx, s); err != nil {
		return err
	}
	return h.test(ctx, s, strings.Join(args, ""))
}

func (h *house) load(ctx context.Context, s suite) error {
	archives, err := filepath.Glob(filepath.Join(h.archives(s), "*.tar"))
	if err != nil {
		return err
	}
	for _, path := range archives {
		if out, err := exec.CommandContext(ctx, "docker", "load", "-qi", path).CombinedOutput(); err != nil {
			return fmt.Errorf("loading %s: %w: %s", path, err, out)
		}
	}
	return nil
}

func (h *house) test(ctx context.Context, s suite, match string) error {
	work, err := os.MkdirTemp("", "compat")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, dir := range []string{"home/.docker", "dest"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return err
		}
	}
	args := []string{"-test.v=test2json", "-test.timeout", testTimeout.String()}
	if match != "" {
		args = append(args, "-test.run", match)
	}
	cmd := exec.CommandContext(ctx, h.binary(s), args...)
	cmd.Dir = filepath.Join(h.source(s.module), s.pkg)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(work, "home"), "DEST="+filepath.Join(work, "dest"), "TMPDIR="+work,
		"TEST_DOCKER_HOST="+os.Getenv("DOCKER_HOST"), "DOCKER_CLI_E2E_PLUGINS_EXTRA_DIRS="+h.plugins())
	cmd.Env = append(cmd.Env, s.env...)
	if s.clients {
		cmd.Env = append(cmd.Env, "PATH="+h.clients()+":"+os.Getenv("PATH"))
	}
	return cmd.Run()
}

// ownEtc lays a copy over /etc in this mount namespace, so that files can be written there which the engine sees and the host does
// not.
func ownEtc() error {
	dir, err := os.MkdirTemp("", "compat-etc")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("laying a copy over /etc: %w", err)
	}
	return nil
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}
