//go:build linux

package runtime

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/logs"
	"github.com/getberth/berth/engine/runtime/shim"
)

// runHelper is the test program in another role.
func runHelper(name string) int {
	switch name {
	case "engine":
		return runEngine()
	case "unified":
		return runUnified()
	}
	fmt.Fprintln(os.Stderr, "no helper", name)
	return 1
}

func runEngine() int {
	// An engine that starts a container, says so, and waits to be killed.
	s, err := New(Config{ExecRoot: os.Getenv("ROOT"), Shim: os.Getenv("BERTH_SHIM")})
	if err == nil {
		c := shim.Create{ID: os.Getenv("ID"), Spec: spec(os.Getenv("ROOTFS"), "sh", "-c", os.Getenv("SCRIPT")),
			Log: logs.Config{Path: os.Getenv("LOG"), MaxFile: 1}}
		c.Spec.Linux.CgroupsPath = "/berth-test/" + c.ID
		err = s.Create(context.Background(), c)
	}
	if err == nil {
		_, err = s.Start(context.Background(), os.Getenv("ID"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("started")
	select {}
}

// engineThatDies starts a container in another process, which it then kills.
func engineThatDies(t *testing.T, script string) *fixture {
	b := newBench(t)
	f := b.container(nil)
	cmd := helper(t, "engine", "ROOT="+filepath.Join(b.dir, "exec"), "ID="+f.id, "ROOTFS="+b.rootfs, "LOG="+f.log.Path,
		"SCRIPT="+script, "BERTH_SHIM="+testShim)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("engine: %q %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return f
}

func TestContainerOutlivesTheEngine(t *testing.T) {
	f := engineThatDies(t, "until [ -e /tmp/go ]; do sleep 0.05; done; echo output; exit 6")
	state, err := f.State(f.ctx(), f.id)
	if err != nil || state.Status != shim.Running || state.PID == 0 || state.StartedAt.IsZero() {
		t.Fatal(state, err)
	}
	c := f.attach(nil)
	// The end of the container may overtake the end of the exec, whose code is that of a killed one then.
	if code, err := f.exec(process("touch", "/tmp/go"), shim.Streams{}); code != 0 && code != 137 || err != nil {
		t.Fatal(code, err)
	}
	if exit := f.wait(); exit.Code != 6 {
		t.Error(exit)
	}
	c.wait(t)
	if c.out.String() != "output\n" || f.logged() != "output\n" {
		t.Errorf("output %q, log %q", c.out.String(), f.logged())
	}
}

func TestExitIsFoundLater(t *testing.T) {
	f := engineThatDies(t, "sleep 0.2; echo bye; exit 4")
	// The supervisor ends although nobody asks it.
	for pids := processesWith(f.id); len(pids) > 0; pids = processesWith(f.id) {
		if fd, err := unix.PidfdOpen(pids[0], 0); err == nil {
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
			unix.Close(fd)
		}
	}
	state, err := f.State(f.ctx(), f.id)
	if err != nil || state.Status != shim.Stopped {
		t.Fatal(state, err)
	}
	if state.Exit.Code != 4 || !state.Exit.At.After(state.StartedAt) {
		t.Error(state, err)
	}
	if exit := f.wait(); exit.Code != 4 {
		t.Error(exit)
	}
	if f.logged() != "bye\n" {
		t.Errorf("log %q", f.logged())
	}
}

// supervisorOf finds the supervisor by its command line; the container's processes have others.
func supervisorOf(t *testing.T, f *fixture) int {
	t.Helper()
	pids := processesWith(f.id)
	if len(pids) != 1 {
		t.Fatalf("supervisors %v", pids)
	}
	return pids[0]
}

func TestKilledSupervisorTakesItsContainerAlong(t *testing.T) {
	f := running(t)
	pids, err := f.Processes(f.ctx(), f.id)
	if err != nil || len(pids) != 1 {
		t.Fatal(pids, err)
	}
	ended := make(chan shim.Exit)
	attached := f.attach(nil)
	go func() { ended <- f.wait() }()
	if err := unix.Kill(supervisorOf(t, f), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := <-ended; exit.Code != 137 || exit.Error == "" {
		t.Error(exit)
	}
	attached.wait(t)
	if pids, _ := f.Processes(f.ctx(), f.id); len(pids) != 0 {
		t.Error("still running:", pids)
	}
	if state, err := f.State(f.ctx(), f.id); err != nil || state.Status != shim.Unknown {
		t.Error(state, err)
	}
}

func TestStateKillsWhatADeadSupervisorLeft(t *testing.T) {
	f := running(t)
	if err := unix.Kill(supervisorOf(t, f), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		state, err := f.State(f.ctx(), f.id)
		if err != nil {
			t.Fatal(err)
		}
		if state.Status == shim.Unknown {
			break
		}
	}
	if pids, _ := f.Processes(f.ctx(), f.id); len(pids) != 0 {
		t.Error("still running:", pids)
	}
}

func TestDeleteAfterAKilledSupervisor(t *testing.T) {
	f := running(t)
	if err := unix.Kill(supervisorOf(t, f), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Error(err)
	}
	if left := f.leftovers(); left != nil {
		t.Error(left)
	}
}

func TestHungSupervisorIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the supervisor is given")
	}
	f := running(t)
	if err := unix.Kill(supervisorOf(t, f), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(f.ctx(), f.id); err != nil {
		t.Error(err)
	}
	if left := f.leftovers(); left != nil {
		t.Error(left)
	}
}

func TestTerminationSignalsDoNotEndTheSupervisor(t *testing.T) {
	f := running(t)
	pid := supervisorOf(t, f)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if err := unix.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	var out safeBuffer
	// Nor are they ignored in the container, unless they are here: make, for one, starts its programs with signal 32 ignored.
	code, err := f.exec(process("grep", "^Sig[BI]", "/proc/1/status"), shim.Streams{Stdout: &out})
	if err != nil || code != 0 {
		t.Fatal(code, err)
	}
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	ignored := regexp.MustCompile(`SigIgn:\t\w+\n`).FindString(string(own))
	if want := "SigBlk:\t0000000000000000\n" + ignored; out.String() != want {
		t.Errorf("signals of the first process:\n%swant:\n%s", out.String(), want)
	}
}

// TestSupervisorIsOutOfReach: what happens in a container neither counts the supervisor in nor reaches it.
func TestSupervisorIsOutOfReach(t *testing.T) {
	b := newBench(t)
	requireController(t, b, "memory")
	f := b.container([]string{"sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done; kill -9 -1; x=$(yes | head -c 100000000)"}, withMemory(24<<20)).create().start()
	pid := supervisorOf(t, f)
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || strings.Contains(string(groups), f.id) {
		t.Errorf("the supervisor is in the cgroups %s, %v", groups, err)
	}
	var out safeBuffer
	if code, err := f.exec(process("ps", "-o", "args"), shim.Streams{Stdout: &out}); code != 0 || err != nil || strings.Contains(out.String(), "berth-shim") {
		t.Errorf("in the container one sees\n%s%v", out.String(), err)
	}
	if code, err := f.exec(process("kill", "-9", fmt.Sprint(pid)), shim.Streams{}); code == 0 || err != nil {
		t.Errorf("the supervisor's pid can be signalled: %d, %v", code, err)
	}
	if code, err := f.exec(process("touch", "/tmp/go"), shim.Streams{}); err != nil {
		t.Fatal(code, err)
	}
	if exit := f.wait(); exit.Code != 137 || !exit.OOMKilled || exit.Error != "" {
		t.Errorf("%+v", exit)
	}
}

// TestScoreOfProcesses: what protects the supervisor from the kernel's OOM killer does not protect the container.
func TestScoreOfProcesses(t *testing.T) {
	f := running(t)
	for _, path := range []string{"/proc/1/oom_score_adj", "/proc/self/oom_score_adj"} {
		var out safeBuffer
		if code, err := f.exec(process("cat", path), shim.Streams{Stdout: &out}); code != 0 || err != nil || out.String() != "0\n" {
			t.Errorf("%s: %q, %d, %v", path, out.String(), code, err)
		}
	}
}
