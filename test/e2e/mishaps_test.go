//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMishaps lets go wrong around a VM what goes wrong in life; its machine is to come through all of it.
func TestMishaps(t *testing.T) {
	w := newWorld(t, binaries(t))
	t.Cleanup(func() { w.clean(t) })
	w.smallDisk()
	w.berth(t, "create", "-d", "qemu", "--qemu-memory", "512", "--qemu-cpu-count", "1", "--qemu-disk-size", "1", "--engine-registry-mirror", w.mirror, "vm1")
	for _, m := range []struct {
		name string
		test func(*testing.T)
	}{
		{"occupied port", w.occupiedPort},
		{"switch killed", w.switchKilled},
		{"full disk", func(t *testing.T) {
			if !w.small {
				t.Skip("requires root, to mount a small tmpfs")
			}
			w.fullDisk(t)
		}},
		{"machine's disk full", w.ownDiskFull},
		{"QEMU killed, started twice", w.qemuKilled},
		{"store moved", w.storeMoved},
	} {
		if !t.Run(m.name, m.test) {
			w.diagnose(t)
			return
		}
	}
}

// smallDisk puts the user's home onto a disk that is soon full, where one may mount it.
func (w *world) smallDisk() { w.small = unix.Mount("tmpfs", w.home, "tmpfs", 0, "size=1200m") == nil }

// occupiedPort: a port that another program has is told, and forwarded as far as it can be.
func (w *world) occupiedPort(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	_, port, _ := net.SplitHostPort(taken)
	w.docker(t, "run", "-d", "--name", "web", "-p", port+":80", "busybox:1.24", "sh", "-c", "echo mine >/tmp/index.html; exec httpd -f -h /tmp")
	w.until(t, "tcp port "+taken+" on the host: bind: address already in use", "ls", "--format", "{{.Error}}")
	ip := strings.TrimSpace(w.out(t, "ip", "vm1"))
	w.serves(t, "http://"+net.JoinHostPort(ip, port)+"/")
	l.Close()
	w.docker(t, "restart", "-t", "0", "web")
	w.serves(t, "http://"+taken+"/")
	w.docker(t, "rm", "-f", "web")
	w.until(t, "none", "ls", "--format", "{{or .Error \"none\"}}")
}

// switchKilled: the next berth that asks for the machine starts another switch, with the ports that were published.
func (w *world) switchKilled(t *testing.T) {
	w.docker(t, "run", "-d", "--name", "web", "-p", "80", "busybox:1.24", "sh", "-c", "echo mine >/tmp/index.html; exec httpd -f -h /tmp")
	url := "http://" + strings.Replace(strings.Fields(w.docker(t, "port", "web", "80"))[0], "0.0.0.0", "127.0.0.1", 1) + "/"
	w.serves(t, url)
	w.killSwitch(t)
	if got := w.out(t, "status", "vm1"); got != "Running\n" {
		t.Errorf("status %q", got)
	}
	w.serves(t, url)
	w.docker(t, "rm", "-f", "web")
}

// fullDisk: the machine stands still, which is told, and goes on without a loss when there is room.
func (w *world) fullDisk(t *testing.T) {
	fill := filepath.Join(w.home, "fill")
	var st unix.Statfs_t
	if err := unix.Statfs(w.home, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const left = 16 << 20
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-left); err != nil {
		t.Fatal(err)
	}
	write := w.begin(t, "ssh", "vm1", "head -c 67108864 /dev/urandom >/var/f && sync && wc -c /var/f")
	w.until(t, "Error it stands still", "ls", "--format", "{{.State}} {{.Error}}")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.berth(t, "start", "vm1")
	<-write.ended
	write.says(t, "67108864 /var/f")
	w.berth(t, "ssh", "vm1", "rm /var/f")
}

// ownDiskFull: a container that fills the machine's disk is told, and can be removed, after which all is as before.
func (w *world) ownDiskFull(t *testing.T) {
	// Zeros take no room on the computer.
	out := w.docker(t, "run", "--name", "big", "busybox:1.24", "sh", "-c", "dd if=/dev/zero of=/f bs=1M; echo ended")
	if !strings.Contains(out, "No space left on device") || !strings.Contains(out, "ended") {
		t.Errorf("filling the disk says %q", out)
	}
	if out := w.docker(t, "ps", "-a"); !strings.Contains(out, "big") {
		t.Errorf("with a full disk ps says\n%s", out)
	}
	if out, err := w.client("run", "--rm", "busybox:1.24", "true").CombinedOutput(); err != nil && !strings.Contains(string(out), "no space left on device") {
		t.Errorf("with a full disk run says %v, %s", err, out)
	}
	w.docker(t, "rm", "-f", "big")
	// What was in it is deleted after the answer.
	if err := eventually(func() error {
		out, err := w.client("run", "--rm", "busybox:1.24", "true").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}); err != nil {
		t.Errorf("a run after room was made: %v", err)
	}
}

// qemuKilled: it is as if the power had gone; of two starts one does it, and both say what is.
func (w *world) qemuKilled(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(w.home, "store/machines/vm1/process.json"))
	var p struct{ PID int }
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.until(t, "Stopped", "status", "vm1")
	var both sync.WaitGroup
	var said [2]string
	for i := range said {
		both.Go(func() {
			out, err := w.command("start", "vm1").CombinedOutput()
			said[i] = fmt.Sprintf("%v: %s", err, out)
		})
	}
	both.Wait()
	all := strings.Join(said[:], "\n")
	if strings.Count(all, "Machine \"vm1\" was started.") != 1 || strings.Count(all, "is already running") != 1 {
		t.Errorf("two starts at once say\n%s", all)
	}
	w.docker(t, "run", "--rm", "busybox:1.24", "true")
}

// storeMoved: paths in it are its own.
func (w *world) storeMoved(t *testing.T) {
	w.berth(t, "stop", "vm1")
	w.killSwitch(t)
	if err := os.Rename(filepath.Join(w.home, "store"), filepath.Join(w.home, "moved")); err != nil {
		t.Fatal(err)
	}
	w.store = "moved"
	w.berth(t, "start", "vm1")
	w.docker(t, "run", "--rm", "busybox:1.24", "true")
	if _, err := os.Stat(filepath.Join(w.home, "store")); !os.IsNotExist(err) {
		t.Errorf("the place where the store was: %v", err)
	}
}

// killSwitch ends the store's virtual switch with kill -9.
func (w *world) killSwitch(t *testing.T) {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, f := range files {
		dir, err := os.Readlink(f)
		if err != nil || !strings.HasPrefix(dir, w.home) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		var pid int
		if _, err := fmt.Sscanf(f, "/proc/%d/cwd", &pid); err == nil && strings.Contains(string(line), "berth-switch") {
			if err := unix.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}

// client is a command of the stock client against vm1.
func (w *world) client(args ...string) *exec.Cmd {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(w.environ(), w.clientEnv()...)
	return cmd
}

// docker runs the stock client, which must succeed.
func (w *world) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.client(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (w *world) out(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.command(args...).Output()
	if err != nil {
		t.Fatalf("berth %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// until waits for a berth command to say something.
func (w *world) until(t *testing.T, text string, args ...string) {
	t.Helper()
	if err := eventually(func() error {
		out, err := w.command(args...).CombinedOutput()
		if strings.Contains(string(out), text) {
			return nil
		}
		return fmt.Errorf("berth %s: %v, without %q: %s", strings.Join(args, " "), err, text, out)
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) serves(t *testing.T, url string) {
	t.Helper()
	if err := eventually(func() error { return answers(url, "mine") }); err != nil {
		t.Fatal(err)
	}
}
