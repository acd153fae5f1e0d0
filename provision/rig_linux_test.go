package provision_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getberth/berth/certs"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/guest/sshd"
	"github.com/getberth/berth/provision"
	"github.com/getberth/berth/sshutil"
)

// machine is a root folder in which busybox is the whole system, reached by a real SSH server whose sessions run in it.
type machine struct {
	t      *testing.T
	root   string
	client *sshutil.Client

	mu   sync.Mutex // guards the rest
	runs int        // commands since the last reset: round trips, more or less
	deaf bool       // its SSH server connects to no sockets
	cut  int64      // when positive, a command's input is cut off, with the connection, after that many bytes
}

// engine is a fake of berthd.
type engine struct {
	binary []byte
	sum    string
}

// built keeps what buildEngine made: linking takes longer than any test.
var built sync.Map

func buildEngine(t *testing.T, flags string) engine {
	t.Helper()
	if e, ok := built.Load(flags); ok {
		return e.(engine)
	}
	path := filepath.Join(t.TempDir(), "berthd")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w "+flags, "-o", path, "./testdata/fakeberthd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building an engine: %v\n%s", err, out)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(binary)
	e := engine{binary, hex.EncodeToString(sum[:])}
	built.Store(flags, e)
	return e
}

func (e engine) plain() provision.Engine {
	return provision.Engine{SHA256: e.sum, Size: int64(len(e.binary)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(e.binary)), nil }}
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("chroot requires root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	root, err := os.MkdirTemp("", "bp") // short: it is part of a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	m := &machine{t: t, root: root}
	for _, d := range []string{"bin", "usr/bin", "usr/local/bin", "etc", "run", "tmp", "var/log", "var/lib", "dev", "root", "proc"} {
		m.mkdir(d)
	}
	m.copy(busybox, "bin/busybox")
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range strings.Fields(string(names)) {
		if n != "zstd" {
			_ = os.Symlink("busybox", filepath.Join(root, "bin", n))
		}
	}
	m.write("dev/null", "", 0o666) // a regular file will do
	m.mkdir("sys/fs/cgroup")
	m.write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids", 0o644)
	m.write("proc/filesystems", "nodev\toverlay\n", 0o644)
	m.write("proc/mounts", "/dev/vda1 / ext4 rw,relatime 0 0\n", 0o644)
	m.write("etc/os-release", "ID=tiny\nPRETTY_NAME=\"Tiny Linux 1\"\n", 0o644)
	for _, d := range []string{"sys/module/bridge", "sys/module/veth", "sys/module/nf_tables", "proc/self/ns/mnt", "proc/self/ns/pid", "proc/self/ns/net", "proc/self/ns/ipc", "proc/self/ns/uts"} {
		m.mkdir(d)
	}
	m.replaceTool("df", `echo "Filesystem 1024-blocks Used Available Capacity Mounted on"; echo "/dev/vda1 9 9 999999 1% /"`)
	m.write("usr/bin/enter", "#!/bin/sh\nexec chroot "+root+" /bin/sh \"$@\"\n", 0o755)
	m.connect()
	return m
}

// copyTool gives the machine a program of this computer, with its libraries.
func (m *machine) copyTool(name string) {
	m.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		m.t.Skip(name + " is not installed")
	}
	out, _ := exec.Command("ldd", path).Output() // fails for a static program
	for _, f := range strings.Fields(string(out)) {
		if strings.HasPrefix(f, "/") {
			m.copy(f, f)
		}
	}
	m.copy(path, "bin/"+name)
}

// useDash makes dash the machine's shell: busybox's looks at its own applets before it looks at files.
func (m *machine) useDash() {
	m.t.Helper()
	m.copyTool("dash")
	m.copy("/bin/dash", "bin/sh")
}

// replaceTool puts a script in the place of one of busybox's tools; without one it removes the tool.
func (m *machine) replaceTool(name, script string) {
	m.t.Helper()
	_ = os.Remove(m.path("bin/" + name))
	if script != "" {
		m.write("bin/"+name, "#!/bin/sh\n"+script+"\n", 0o755)
	}
}

func (m *machine) path(p string) string { return filepath.Join(m.root, p) }

func (m *machine) mkdir(p string) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(p), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(p, content string, mode os.FileMode) {
	m.t.Helper()
	m.mkdir(filepath.Dir(p))
	_ = os.Remove(m.path(p))
	if err := os.WriteFile(m.path(p), []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) copy(from, to string) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(data), 0o755)
}

func (m *machine) read(p string) string {
	data, err := os.ReadFile(m.path(p))
	if err != nil {
		return "(" + errors.Unwrap(err).Error() + ")"
	}
	return string(data)
}

// connect starts a server whose sessions run in the root folder, and dials it.
func (m *machine) connect() {
	m.t.Helper()
	host, err := sshutil.NewKey("host")
	if err != nil {
		m.t.Fatal(err)
	}
	user, err := sshutil.NewKey("user")
	if err != nil {
		m.t.Fatal(err)
	}
	server, err := sshd.New(sshd.Config{HostKey: host.Private, AuthorizedKeys: []string{user.Public}, Shell: m.path("usr/bin/enter")})
	if err != nil {
		m.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	m.t.Cleanup(func() { cancel(); <-done })
	key := filepath.Join(m.t.TempDir(), "id")
	if err := os.WriteFile(key, user.Private, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.client, err = sshutil.Dial(m.t.Context(), sshutil.Endpoint{
		Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, HostKeys: []string{host.Public}, KeyPaths: []string{key}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { m.client.Close() })
}

// Run is provision.Host; it counts, and cuts off when told to.
func (m *machine) Run(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) error {
	m.mu.Lock()
	m.runs++
	cut := m.cut
	m.mu.Unlock()
	if cut > 0 {
		ctx2, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stdin = &cutter{r: stdin, left: cut, arrived: func() { waitForPart(m.t, m) }, cut: func() { cancel(errCut) }}
		ctx = ctx2
	}
	return m.client.Run(ctx, cmd, stdin, stdout, stderr)
}

var errCut = errors.New("the line was cut")

type cutter struct {
	r       io.Reader
	left    int64
	arrived func() // waits until most of it has arrived
	cut     func()
}

func (c *cutter) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.arrived()
		c.cut()
		<-make(chan int)
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// DialContext is provision.Dialer.
func (m *machine) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deaf {
		return nil, fmt.Errorf("unknown channel type: %w", errors.ErrUnsupported)
	}
	return m.client.DialContext(ctx, network, m.path(address))
}

func (m *machine) reset() { m.mu.Lock(); m.runs = 0; m.mu.Unlock() }

func (m *machine) count() int { m.mu.Lock(); defer m.mu.Unlock(); return m.runs }

// asGuest makes the machine a light VM with an engine in its image and an init that keeps the engine running.
func (m *machine) asGuest(e engine) {
	m.t.Helper()
	m.write("usr/bin/berthd", string(e.binary), 0o755)
	m.write("usr/bin/berthd.sha256", e.sum+"\n", 0o644)
	m.write("run/berth-init", "", 0o644)
	m.write("etc/berth/daemon.json", "{ }", 0o644) // other white space than the specification's
	log, err := os.Create(m.path("var/log/berthd.log"))
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			m.serve(ctx, log)
			time.Sleep(50 * time.Millisecond)
		}
	})
	m.t.Cleanup(func() { cancel(); wg.Wait(); log.Close() })
	m.pingSoon()
}

func (m *machine) serve(ctx context.Context, log io.Writer) {
	binary := "/usr/bin/berthd"
	if _, err := os.Stat(m.path(config.Binary)); err == nil {
		binary = config.Binary
	}
	cmd := exec.CommandContext(ctx, "chroot", m.root, binary, "serve", "--config-file", config.File, "--pidfile", "/run/berth/berthd.pid")
	cmd.Stdout, cmd.Stderr = log, log
	_ = cmd.Run()
}

// ping asks the engine who it is: its version and configuration.
func (m *machine) ping() (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", m.path(config.Socket))
		}}}
	resp, err := client.Get("http://engine/_ping")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

func (m *machine) pingSoon() string {
	m.t.Helper()
	for range 500 {
		if s, err := m.ping(); err == nil {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("the engine does not answer")
	return ""
}

// asSystemd makes the machine one with systemd, as far as provisioning sees of it: a systemctl that keeps the engine running and
// writes down what it was asked.
func (m *machine) asSystemd() {
	m.t.Helper()
	m.mkdir("run/systemd/system")
	m.mkdir("etc/systemd/system")
	m.write("usr/bin/systemctl", `#!/bin/sh
echo "$*" >> /run/systemctl.log
case "$*" in
"is-active --quiet berthd.service") kill -0 $(cat /run/berth/berthd.pid) 2>/dev/null ;;
"is-enabled --quiet berthd.service") [ -e /run/enabled ] ;;
"enable --quiet berthd.service") : > /run/enabled ;;
"restart berthd.service")
	kill $(cat /run/berth/berthd.pid) 2>/dev/null; rm -f /run/berth/*
	$(sed -n s/^ExecStart=//p /etc/systemd/system/berthd.service) >>/run/journal 2>&1 </dev/null &
	n=0; while ! [ -S /run/berth/docker.sock ]; do n=$((n+1)); [ $n -lt 15 ] || exit 1; sleep 0.1; done ;;
"disable --now --quiet berthd.service") kill $(cat /run/berth/berthd.pid) 2>/dev/null; rm -f /run/enabled /run/berth/* ;;
"reset-failed berthd.service" | daemon-reload) ;;
"is-active --quiet firewalld.service") exit 3 ;;
*) exit 3 ;;
esac
`, 0o755)
	m.write("usr/bin/journalctl", "#!/bin/sh\ncat /run/journal\n", 0o755)
	m.t.Cleanup(func() { _ = exec.Command("chroot", m.root, "/bin/sh", "-c", "kill $(cat /run/berth/berthd.pid)").Run() })
}

// asOpenRC makes the machine one with OpenRC, as far as provisioning sees of it.
func (m *machine) asOpenRC() {
	m.t.Helper()
	m.write("run/openrc/softlevel", "default", 0o644)
	m.mkdir("etc/init.d")
	m.mkdir("etc/runlevels/default")
	m.write("usr/bin/rc-update", `#!/bin/sh
shift
case "$1" in
add) ln -s /etc/init.d/$2 /etc/runlevels/$3/$2 ;;
delete) rm /etc/runlevels/$3/$2 ;;
*) exit 3 ;;
esac
`, 0o755)
	m.write("usr/bin/rc-service", `#!/bin/sh
[ "$1" = -q ] && shift
running() { kill -0 $(cat /run/berth/berthd.pid) 2>/dev/null; }
stop() { kill $(cat /run/berth/berthd.pid) 2>/dev/null; rm -f /run/berth/*; }
case "$2" in
status) running ;;
stop) stop ;;
restart) stop
	. /etc/init.d/$1
	$command $command_args >>$output_log 2>&1 </dev/null & ;;
*) exit 3 ;;
esac
`, 0o755)
	m.t.Cleanup(func() { _ = exec.Command("chroot", m.root, "/bin/sh", "-c", "kill $(cat /run/berth/berthd.pid)").Run() })
}

// tree lists all files of the machine, apart from what our stand-ins for its init system write.
func (m *machine) tree() string {
	m.t.Helper()
	out, err := exec.Command("find", m.root, "-path", m.root+"/bin", "-prune", "-o", "-printf", "%P %m %y %l\n").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool {
		name, _, _ := strings.Cut(l, " ")
		return slices.Contains([]string{"run/systemctl.log", "run/journal", "run/enabled"}, name)
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// owner is the person at the other end: a CA, and what the machine is to be like.
type owner struct {
	ca     *certs.CA
	spec   provision.Spec
	signed int
	events []string
}

func newOwner(t *testing.T, e provision.Engine) *owner {
	t.Helper()
	pair, err := certs.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{}
	if o.ca, err = certs.LoadCA(pair); err != nil {
		t.Fatal(err)
	}
	sans := []string{"web1", "127.80.0.2"}
	o.spec = provision.Spec{
		Engine: func(arch string) (provision.Engine, error) {
			if arch != "amd64" && arch != "arm64" {
				return provision.Engine{}, fmt.Errorf("no engine for %s", arch)
			}
			return e, nil
		},
		Config: []byte("{}\n"),
		TLS: provision.TLS{
			CA: pair.Cert, SANs: sans,
			Sign: func(_ context.Context, csr []byte) ([]byte, error) {
				o.signed++
				return o.ca.SignServer(csr, certs.ServerOptions{Name: "web1", SANs: sans}, time.Now())
			},
			Check: func(cert []byte) error { return certs.CheckServer(cert, pair.Cert, sans, time.Now()) },
		},
		HealthTimeout: 20 * time.Second,
	}
	return o
}

func (o *owner) apply(t *testing.T, m *machine) (provision.Result, error) {
	t.Helper()
	o.events = nil
	m.reset()
	return provision.Apply(t.Context(), m, o.spec, func(e provision.Event) {
		if e.State != provision.Progress && e.State != provision.Started {
			o.events = append(o.events, e.Step+": "+string(e.State))
		}
	})
}
