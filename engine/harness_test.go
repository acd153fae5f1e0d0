//go:build linux

package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/test/images"
)

// The test program plays two more parts, by this variable. As "machine" it is process 1 of namespaces of its own, where an
// engine and its containers leave nothing behind: they end with it. As "engine" it is the engine in them.
const roleVariable = "BERTH_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	role := os.Getenv(roleVariable)
	os.Unsetenv(roleVariable)
	switch role {
	case "machine":
		err = runMachine()
	case "engine":
		err = runEngine()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// machine is namespaces with an engine.
type machine struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Reader
}

// newMachine starts an engine in a machine of its own, with a registry that has busybox:1.24 as its mirror.
func newMachine(t *testing.T) *machine {
	t.Helper()
	requireHost(t)
	m := &machine{t: t, dir: t.TempDir()}
	m.cmd = exec.Command("/proc/self/exe")
	m.cmd.Env = append(os.Environ(), roleVariable+"=machine", "BERTH_TEST_DIR="+m.dir)
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL,
	}
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.answers = bufio.NewReader(out)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.end)
	m.say("start")
	return m
}

func requireHost(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("an engine needs root")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("the docker client is not installed")
	}
	if _, err := os.Stat(images.BusyboxPath); err != nil {
		t.Skip("busybox-static is not installed")
	}
	if _, err := os.Stat("runtime/embedded/berth-shim"); err != nil {
		t.Skip("the supervisor is not built: run make build")
	}
}

// end ends the machine, with all that runs in it, and removes what the kernel does not.
func (m *machine) end() {
	if m.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(m.dir, "log"))
		m.t.Logf("the engine's log:\n%s", log)
	}
	m.in.Close()
	m.thaw()
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	m.removeGroups()
}

// thaw lets paused containers go on: with cgroup v1 the frozen do not die, and the machine would not end.
func (m *machine) thaw() {
	containers, _ := filepath.Glob(filepath.Join(m.dir, "data/containers/*"))
	for _, c := range containers {
		_ = os.WriteFile(filepath.Join("/sys/fs/cgroup/freezer/berth", filepath.Base(c), "freezer.state"), []byte("THAWED"), 0)
	}
}

// removeGroups removes the containers' control groups, which are in no namespace.
func (m *machine) removeGroups() {
	containers, _ := filepath.Glob(filepath.Join(m.dir, "data/containers/*"))
	for _, root := range []string{"/sys/fs/cgroup/berth", "/sys/fs/cgroup/*/berth"} {
		for _, c := range containers {
			groups, _ := filepath.Glob(filepath.Join(root, filepath.Base(c)))
			for _, g := range groups {
				_ = os.Remove(g)
			}
		}
		parents, _ := filepath.Glob(root)
		for _, p := range parents {
			_ = os.Remove(p) // unless another engine uses it
		}
	}
}

// say gives the machine an order and returns its answer: "start", "kill", "stop", "hup", or "get URL".
func (m *machine) say(order string) string {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.in, order); err != nil {
		m.t.Fatal(err)
	}
	line, err := m.answers.ReadString('\n')
	if err != nil {
		m.t.Fatalf("%s: the machine has ended: %v", order, err)
	}
	line = strings.TrimSpace(line)
	if text, ok := strings.CutPrefix(line, "error "); ok {
		m.t.Fatalf("%s: %s", order, text)
	}
	return strings.TrimPrefix(line, "ok ")
}

func (m *machine) host() string { return "unix://" + filepath.Join(m.dir, "docker.sock") }

// result is what a command has left.
type result struct {
	out, err string
	code     int
}

// docker runs the stock client.
func (m *machine) docker(args ...string) result {
	m.t.Helper()
	return m.dockerIn("", args...)
}

func (m *machine) dockerIn(stdin string, args ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute) // what hangs must not hang the suite
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+m.host(), "DOCKER_CONFIG="+m.dir, "DOCKER_CLI_HINTS=false")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		m.t.Fatalf("docker %q: %v %s", args, err, &errOut)
	}
	return result{strings.TrimSpace(out.String()), strings.TrimSpace(errOut.String()), cmd.ProcessState.ExitCode()}
}

// must runs the client and fails the test when it fails.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	r := m.docker(args...)
	if r.code != 0 {
		m.t.Fatalf("docker %q: exit code %d\n%s\n%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// eventually waits for what has no event of its own.
func (m *machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	m.t.Fatalf("not in half a minute: %s", what)
}

// runMachine is process 1: it reaps, and obeys the test.
func runMachine() error {
	dir := os.Getenv("BERTH_TEST_DIR")
	if err := prepareMachine(); err != nil {
		return fmt.Errorf("the machine: %w", err)
	}
	reg, err := images.Serve(images.RegistryOptions{Addr: "127.0.0.1:5000"})
	if err != nil {
		return err
	}
	busybox, err := images.Busybox()
	if err != nil {
		return err
	}
	for _, name := range []string{"library/busybox:1.24", "mine/busybox:1"} {
		if err := reg.Add(name, busybox); err != nil {
			return err
		}
	}
	b := &boss{dir: dir, ended: make(chan struct{}, 1)}
	go b.reap()
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		answer, err := b.obey(orders.Text())
		if err != nil {
			answer = "error " + strings.ReplaceAll(err.Error(), "\n", " ")
		} else {
			answer = "ok " + answer
		}
		fmt.Println(answer)
	}
	return nil
}

func prepareMachine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// boss runs the engine.
type boss struct {
	dir   string
	ended chan struct{}
	mu    sync.Mutex // guards pid
	pid   int
}

func (b *boss) reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	for range children {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
			b.mu.Lock()
			if pid == b.pid {
				b.pid = 0
				b.ended <- struct{}{}
			}
			b.mu.Unlock()
		}
	}
}

func (b *boss) obey(order string) (string, error) {
	verb, argument, _ := strings.Cut(order, " ")
	switch verb {
	case "start":
		return "", b.start()
	case "kill":
		return "", b.stop(unix.SIGKILL)
	case "stop":
		return "", b.stop(unix.SIGTERM)
	case "hup":
		b.mu.Lock()
		defer b.mu.Unlock()
		return "", unix.Kill(b.pid, unix.SIGHUP)
	case "get":
		return fetch(argument)
	case "uninstall":
		return "", Uninstall(context.Background(), engineConfig(b.dir), slog.New(slog.DiscardHandler))
	case "left":
		return whatIsLeft()
	}
	return "", fmt.Errorf("unknown order %q", order)
}

func (b *boss) start() error {
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	b.mu.Lock()
	process, err := os.StartProcess("/proc/self/exe", []string{"engine"}, &os.ProcAttr{
		Env: append(os.Environ(), roleVariable+"=engine"), Files: []*os.File{nil, log, log, tell},
	})
	if err == nil {
		b.pid = process.Pid
	}
	b.mu.Unlock()
	tell.Close()
	if err != nil {
		return err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("the engine did not start: %s", text)
	}
	return nil
}

func (b *boss) stop(s unix.Signal) error {
	b.mu.Lock()
	err := unix.Kill(b.pid, s)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	<-b.ended
	return nil
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return strings.TrimSpace(string(body)), err
}

// runEngine is the engine, as the program would run it.
func runEngine() error {
	dir := os.Getenv("BERTH_TEST_DIR")
	c := engineConfig(dir)
	if err := c.Validate(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	hup, changed := make(chan os.Signal, 1), make(chan config.Config)
	signal.Notify(hup, unix.SIGHUP)
	go func() {
		for range hup {
			changed <- engineConfig(dir)
		}
	}()
	ready := os.NewFile(3, "ready")
	unix.CloseOnExec(3)
	return Run(ctx, Options{
		Config: c, Build: Build{Version: "1.2.3"},
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ready: func() { ready.Write([]byte{1}); ready.Close() }, Reload: changed,
	})
}

// engineConfig is that of the test's file, if there is one, on top of what all tests have.
func engineConfig(dir string) config.Config {
	c, _, err := config.Load(filepath.Join(dir, "daemon.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		panic(err)
	}
	c.Hosts = []string{"unix://" + filepath.Join(dir, "docker.sock")}
	c.DataRoot, c.ExecRoot, c.Debug = filepath.Join(dir, "data"), "/run/berth", true
	c.RegistryMirrors = []string{"http://127.0.0.1:5000"}
	if c.Labels == nil {
		c.Labels = []string{"suite=engine"}
	}
	return c.WithDefaults()
}
