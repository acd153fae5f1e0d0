//go:build linux

package runtime

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// withSeccomp gives a container Docker's default profile.
func withSeccomp(c *shim.Create) {
	profile, err := seccomp.GetDefaultProfile(c.Spec)
	if err != nil {
		panic(err)
	}
	c.Spec.Linux.Seccomp = profile
}

// BenchmarkLife is a container that runs true: create, start, wait, delete.
func BenchmarkLife(b *testing.B) {
	for _, v := range []struct {
		name   string
		change []func(*shim.Create)
	}{{"plain", nil}, {"seccomp", []func(*shim.Create){withSeccomp}}} {
		b.Run(v.name, func(b *testing.B) {
			m := newBench(b)
			steps := map[string]time.Duration{}
			before := cpuTime(b)
			last := time.Now()
			step := func(name string) {
				steps[name] += time.Since(last)
				last = time.Now()
			}
			for b.Loop() {
				f := m.container([]string{"true"}, v.change...)
				last = time.Now()
				f.create()
				step("create-ms")
				f.start()
				step("start-ms")
				f.wait()
				step("wait-ms")
				if err := f.Delete(f.ctx(), f.id); err != nil {
					b.Fatal(err)
				}
				step("delete-ms")
			}
			// Unlike the wall clock it does not depend on what else the machine does.
			steps["cpu-ms"] = cpuTime(b) - before
			for name, d := range steps {
				b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), name)
			}
		})
	}
}

// cpuTime is the processor time of this process and of the children it has seen end.
func cpuTime(b *testing.B) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// BenchmarkExec runs true in a container.
func BenchmarkExec(b *testing.B) {
	f := newBench(b).container([]string{"sleep", "1000"}, withSeccomp).create().start()
	for b.Loop() {
		if code, err := f.exec(process("true"), shim.Streams{}); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
}

// TestIdleMemory holds the supervisor to what an idle container may cost. The memory is private if no other process shares it;
// the program's pages are shared, so there are two containers.
func TestIdleMemory(t *testing.T) {
	const limit = 3 << 20
	b := newBench(t)
	var pids []int
	for range 2 {
		f := b.container([]string{"sleep", "1000"}, withSeccomp).create()
		f.attach(nil)
		f.start()
		if code, err := f.exec(process("true"), shim.Streams{}); code != 0 || err != nil {
			t.Fatal(code, err)
		}
		pids = append(pids, supervisorOf(t, f))
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		size := privateMemory(t, pids[0])
		if size <= limit {
			t.Logf("%d KiB", size>>10)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("an idle container's supervisor has %d KiB of its own", size>>10)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// privateMemory is how many bytes a process shares with no other.
func privateMemory(t *testing.T, pid int) (bytesPrivate int) {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(bytes.NewReader(data))
	for scan.Scan() {
		fields := bytes.Fields(scan.Bytes())
		if len(fields) == 3 && bytes.HasPrefix(fields[0], []byte("Private_")) {
			n, err := strconv.Atoi(string(fields[1]))
			if err != nil {
				t.Fatal(err)
			}
			bytesPrivate += n << 10
		}
	}
	return bytesPrivate
}
