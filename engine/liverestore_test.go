//go:build linux

package engine

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	liveContainers = flag.Int("live.containers", 30, "containers of TestLiveRestore, at least 15")
	liveRounds     = flag.Int("live.rounds", 3, "how often TestLiveRestore kills the engine")
)

// TestLiveRestore kills the engine several times while containers run, end, are restarted, checked and exec'd. Nothing may be lost.
func TestLiveRestore(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many containers for a while")
	}
	l := &liveTest{machine: newMachine(t), shared: t.TempDir(), writers: max(*liveContainers-12, 3)}
	if err := os.Chmod(l.shared, 0o777); err != nil {
		t.Fatal(err)
	}
	l.must("pull", "-q", busybox)
	l.startAll()
	before := l.snapshot()
	for round := range *liveRounds {
		l.round(round)
		l.compare(before)
	}
	l.checkHealth()
	l.checkRestarts()
	l.checkLogs()
}

// liveTest is the containers of TestLiveRestore, which tell what they have done in a folder.
type liveTest struct {
	*machine
	shared  string
	writers int
}

func (l *liveTest) file(name string) string { return filepath.Join(l.shared, name) }

func (l *liveTest) read(name string) string {
	data, _ := os.ReadFile(l.file(name))
	return strings.TrimSpace(string(data))
}

func (l *liveTest) touch(name string) {
	l.t.Helper()
	if err := os.WriteFile(l.file(name), nil, 0o666); err != nil {
		l.t.Fatal(err)
	}
}

// run starts a container; args are options of docker run, script is what it does.
func (l *liveTest) run(name, script string, args ...string) {
	l.t.Helper()
	all := append([]string{"run", "-d", "--name", name, "-v", l.shared + ":/t"}, args...)
	l.must(append(all, busybox, "sh", "-c", script)...)
}

func (l *liveTest) writer(i int) string { return fmt.Sprintf("writer%d", i) }

func (l *liveTest) startAll() {
	for i := range l.writers {
		script := `i=0; trap 'echo $i > /t/wrote-` + l.writer(i) + `; exit 0' TERM; while :; do echo line $i; i=$((i+1)); sleep 0.2; done`
		// Every third rotates its log, every third waits for nobody.
		args := [][]string{nil, {"--log-opt", "max-size=20k", "--log-opt", "max-file=50", "--log-opt", "compress=true"}, {"--log-opt", "mode=non-blocking"}}[i%3]
		l.run(l.writer(i), script, args...)
	}
	l.run("paused", "sleep 600")
	l.must("pause", "paused")
	l.run("limited", "sleep 600", "--memory", "32m", "--init")
	l.run("published", "echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp", "-p", "8080:80")
	l.run("healthy", "sleep 600", "--health-cmd", "test ! -e /t/sick", "--health-interval", "300ms", "--health-retries", "1")
	l.run("always", "echo x >> /t/starts-always; n=$(wc -l < /t/starts-always); until [ -e /t/end-$n ]; do sleep 0.1; done; exit 1", "--restart", "always")
	l.run("thrice", "echo x >> /t/starts-thrice; until [ -e /t/crash ]; do sleep 0.1; done; exit 7", "--restart", "on-failure:3")
	for i := range 3 {
		l.run(fmt.Sprintf("churned%d", i), "sleep 600")
	}
	l.eventually("a check", func() bool { return l.health() == "healthy" })
}

func (l *liveTest) health() string {
	return l.must("inspect", "-f", "{{.State.Health.Status}}", "healthy")
}

// live is what must stay as it is.
type live struct {
	Name, ID, Image string
	State           struct {
		Status, StartedAt string
		Pid               int
		Paused            bool
	}
	RestartCount    int
	HostConfig      json.RawMessage
	NetworkSettings struct{ Ports, Networks json.RawMessage }
}

// snapshot describes the containers that nobody touches.
func (l *liveTest) snapshot() map[string]live {
	l.t.Helper()
	names := []string{"inspect", "paused", "limited", "published", "healthy"}
	for i := range l.writers {
		names = append(names, l.writer(i))
	}
	var all []live
	if err := json.Unmarshal([]byte(l.must(names...)), &all); err != nil {
		l.t.Fatal(err)
	}
	shot := map[string]live{}
	for _, c := range all {
		shot[c.Name] = c
	}
	return shot
}

func (l *liveTest) compare(before map[string]live) {
	l.t.Helper()
	for name, now := range l.snapshot() {
		if diff := cmp.Diff(before[name], now); diff != "" {
			l.t.Errorf("%s has changed:\n%s", name, diff)
		}
	}
	want(l.t, "published", l.say("get http://127.0.0.1:8080/"), "page")
}

// round kills the engine in the middle of things, lets containers end without it, and starts the next.
func (l *liveTest) round(n int) {
	name := func(what string) string { return fmt.Sprintf("%s-%d", what, n) }
	script := func(code int) string {
		return fmt.Sprintf("until [ -e /t/%s ]; do sleep 0.05; done; echo last words; touch /t/%s-%d; exit %d", name("go"), name("gone"), code, code)
	}
	l.run(name("ends"), script(42))
	l.run(name("fails"), script(3))
	l.run(name("removed"), script(0), "--rm")
	l.must("exec", "-d", "limited", "sh", "-c", fmt.Sprintf("for i in $(seq 20); do echo $i >> /t/%s; sleep 0.1; done", name("exec")))
	l.must("exec", "-d", l.writer(0), "sh", "-c", fmt.Sprintf("until [ -e /t/%s ]; do sleep 0.05; done; echo done > /t/%s", name("go"), name("exec2")))
	var churn sync.WaitGroup
	for i := range 3 {
		churn.Go(func() { l.docker("restart", "-t", "0", fmt.Sprintf("churned%d", i)) }) // cut off somewhere
	}
	l.say("kill")
	l.touch(name("go"))
	l.touch(fmt.Sprintf("end-%d", n+1)) // of "always", of which this is the n+1st life
	for _, code := range []int{42, 3, 0} {
		l.eventually("the ends", func() bool { _, err := os.Stat(l.file(fmt.Sprintf("%s-%d", name("gone"), code))); return err == nil })
	}
	churn.Wait()
	l.say("start")
	for what, code := range map[string]string{"ends": "42", "fails": "3"} {
		l.eventually("the end of "+what, func() bool { return l.must("inspect", "-f", "{{.State.Status}}", name(what)) == "exited" })
		want(l.t, what, l.must("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", name(what)), code)
		want(l.t, "last words", l.must("logs", name(what)), "last words")
	}
	l.eventually("the next start", func() bool { return l.starts() == n+2 })
	l.eventually("--rm", func() bool { return l.docker("inspect", name("removed")).code != 0 })
	l.eventually("the exec of another engine", func() bool { return strings.HasSuffix(l.read(name("exec")), "20") && l.read(name("exec2")) == "done" })
	want(l.t, "what the exec has done", l.read(name("exec")), numbers(20))
	for i := range 3 { // whatever became of the restart, they can be used
		churned := fmt.Sprintf("churned%d", i)
		l.must("start", churned)
		want(l.t, churned, l.must("exec", churned, "echo", "alive"), "alive")
	}
	want(l.t, "exec", l.must("exec", "limited", "cat", "/proc/1/comm"), "docker-init")
}

func numbers(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(i+1))
	}
	return strings.Join(list, "\n")
}

// checkHealth: checks go on, with the result of before.
func (l *liveTest) checkHealth() {
	want(l.t, "health", l.health(), "healthy")
	l.touch("sick")
	l.eventually("a failing check", func() bool { return l.health() == "unhealthy" })
}

func (l *liveTest) starts() int { return len(strings.Fields(l.read("starts-always"))) }

// checkRestarts: restart policies go on, and count on.
func (l *liveTest) checkRestarts() {
	l.touch(fmt.Sprintf("end-%d", l.starts()))
	l.eventually("another start", func() bool { return l.starts() == *liveRounds+2 })
	l.touch("crash")
	l.eventually("the last restart", func() bool {
		return l.must("inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "thrice") == "exited 3 7"
	})
	want(l.t, "starts", l.read("starts-thrice"), "x\nx\nx\nx")
}

// checkLogs stops the writers, which tell how many lines they have written.
func (l *liveTest) checkLogs() {
	stop := []string{"stop", "-t", "20"}
	for i := range l.writers {
		stop = append(stop, l.writer(i))
	}
	l.must(stop...)
	for i := range l.writers {
		name := l.writer(i)
		lines := strings.Split(l.must("logs", name), "\n")
		if wrote := l.read("wrote-" + name); fmt.Sprint(len(lines)) != wrote {
			l.t.Errorf("%s has written %s lines, its log has %d", name, wrote, len(lines))
		}
		for n, line := range lines {
			if line != fmt.Sprintf("line %d", n) {
				l.t.Errorf("line %d of %s is %q", n, name, line)
				break
			}
		}
	}
}
