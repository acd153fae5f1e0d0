//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
)

func TestLifecycle(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	id := r.create("web", func(c *container.Config, _ *container.HostConfig) { c.Labels = map[string]string{"tier": "front"} })
	if got := r.status("web"); got != container.StateCreated {
		t.Fatalf("after create it is %s", got)
	}
	wait, err := r.Wait(ctx, "web", container.WaitConditionNextExit)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx, id); !errdefs.IsNotModified(err) {
		t.Errorf("starting a running container: %v", err)
	}
	if err := r.Remove(ctx, "web", RemoveOptions{}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "container is running: stop the container") {
		t.Errorf("removing a running container: %v", err)
	}
	r.runtime.exit(id, 3)
	if got := <-wait; got.Code != 3 {
		t.Errorf("wait gave %d", got.Code)
	}
	die := r.events.last(events.ActionDie).Actor.Attributes
	if die["exitCode"] != "3" || die["image"] != "busybox" || die["name"] != "web" || die["tier"] != "front" || die["execDuration"] == "" {
		t.Errorf("die has attributes %v", die)
	}
	if err := r.Remove(ctx, id[:12], RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"create", "start", "die", "destroy"}; !slices.Equal(r.events.actions(id), want) {
		t.Errorf("events are %v, want %v", r.events.actions(id), want)
	}
	if _, err := r.Inspect(ctx, "web", false); err == nil || err.Error() != "No such container: web" || !errdefs.IsNotFound(err) {
		t.Errorf("inspecting what is gone: %v", err)
	}
	r.Close()
	if r.images.count() != 0 || len(r.networks.sandboxes) != 0 || len(r.runtime.all) != 0 {
		t.Error("something is left of a removed container")
	}
	if left, _ := os.ReadDir(filepath.Join(r.dir, "root", "containers")); len(left) != 0 {
		t.Errorf("documents are left: %v", left)
	}
}

func TestNames(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	id := r.create("web", nil)
	_, err := r.Create(ctx, "/web", container.CreateRequest{Config: &container.Config{Image: "busybox"}}, nil)
	want := fmt.Sprintf(`Conflict. The container name "/web" is already in use by container "%s". You have to remove (or rename) that container to be able to reuse that name.`, id)
	if err == nil || err.Error() != want || !errdefs.IsConflict(err) {
		t.Errorf("a taken name: %v", err)
	}
	for _, name := range []string{"a", "-ab", "a b", "ä", "a/b", ".."} {
		if _, err := r.Create(ctx, name, container.CreateRequest{Config: &container.Config{Image: "busybox"}}, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	other := r.create("", nil)
	got, err := r.Inspect(ctx, other, false)
	if err != nil || !validName(strings.TrimPrefix(got.Name, "/")) {
		t.Errorf("the made-up name is %q, %v", got.Name, err)
	}
	if err := r.Rename(ctx, "web", "shop"); err != nil {
		t.Fatal(err)
	}
	if e := r.events.last(events.ActionRename).Actor.Attributes; e["oldName"] != "/web" || e["name"] != "shop" {
		t.Errorf("rename has attributes %v", e)
	}
	r.reopen()
	if _, err := r.Inspect(ctx, "shop", false); err != nil {
		t.Error(err)
	}
	r.create("web", nil) // the old name is free
}

func TestStop(t *testing.T) {
	zero, long := 0, 60
	for name, c := range map[string]struct {
		timeout *int
		signal  string
		dull    bool
		signals []int
		code    int
	}{
		"at once":              {&zero, "", false, []int{9}, 137},
		"SIGTERM suffices":     {&long, "", false, []int{15}, 143},
		"a signal of its own":  {&zero, "SIGUSR1", false, []int{9}, 137},
		"the container's time": {nil, "", true, []int{15, 9}, 137},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id := r.run("xx", func(cfg *container.Config, _ *container.HostConfig) { cfg.StopTimeout = &[]int{1}[0] })
			r.runtime.all[id].dull = c.dull
			if err := r.Stop(t.Context(), "xx", StopOptions{Signal: c.signal, Timeout: c.timeout}); err != nil {
				t.Fatal(err)
			}
			got, _ := r.Inspect(t.Context(), "xx", false)
			if !slices.Equal(r.runtime.signals, c.signals) || got.State.ExitCode != c.code || got.State.Running {
				t.Errorf("signals %v, state %+v", r.runtime.signals, got.State)
			}
			if err := r.Stop(t.Context(), "xx", StopOptions{}); !errdefs.IsNotModified(err) {
				t.Errorf("stopping it again: %v", err)
			}
		})
	}
}

func TestAutoRemove(t *testing.T) {
	r := newRig(t)
	id := r.create("once", func(c *container.Config, hc *container.HostConfig) {
		hc.AutoRemove = true
		c.Volumes = map[string]struct{}{"/data": {}}
	})
	removed, err := r.Wait(t.Context(), id, container.WaitConditionRemoved)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r.runtime.exit(id, 7)
	if got := <-removed; got.Code != 7 {
		t.Errorf("wait gave %d", got.Code)
	}
	if list, _ := r.List(t.Context(), ListOptions{All: true}); len(list) != 0 {
		t.Errorf("ps shows %v", list)
	}
	r.create("once", nil)
	if left, _ := os.ReadDir(r.volumes.dir); len(left) != 0 {
		t.Errorf("anonymous volumes are left: %v", left)
	}
}

func TestRestartPolicy(t *testing.T) {
	t.Run("always, until stopped", func(t *testing.T) {
		r := newRig(t)
		id := r.run("xx", func(_ *container.Config, hc *container.HostConfig) { hc.RestartPolicy.Name = "always" })
		r.runtime.exit(id, 0)
		<-r.runtime.began
		got, _ := r.Inspect(t.Context(), id, false)
		if got.RestartCount != 1 {
			t.Errorf("restart count is %d", got.RestartCount)
		}
		if err := r.Stop(t.Context(), id, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := r.status(id); got != container.StateExited {
			t.Errorf("after stop it is %s", got)
		}
	})
	t.Run("on-failure, so many times", func(t *testing.T) {
		r := newRig(t)
		one := 1
		r.runtime.autoExit = &one
		id := r.create("xx", func(_ *container.Config, hc *container.HostConfig) {
			hc.RestartPolicy = container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}
		})
		done, _ := r.Wait(t.Context(), id, container.WaitConditionNextExit)
		if err := r.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		<-done
		if got, _ := r.Inspect(t.Context(), id, false); got.RestartCount != 2 || got.State.ExitCode != 1 || got.State.Restarting {
			t.Errorf("it ended with %d restarts as %+v", got.RestartCount, got.State)
		}
	})
	t.Run("stopped while it waits", func(t *testing.T) {
		r := newRig(t)
		id := r.run("xx", func(_ *container.Config, hc *container.HostConfig) { hc.RestartPolicy.Name = "always" })
		c, _ := r.reg.find(id)
		c.mu.Lock()
		c.backoff = maxBackoff // so that it does wait
		c.mu.Unlock()
		life := c.currentLife()
		r.runtime.exit(id, 1)
		<-life.ended
		if got := r.status(id); got != container.StateRestarting {
			t.Fatalf("it is %s", got)
		}
		if err := r.Stop(t.Context(), id, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := r.status(id); got != container.StateExited {
			t.Errorf("after stop it is %s", got)
		}
		if err := r.Remove(t.Context(), id, RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// TestStopRaces has the state written from two sides; the documents must stay whole.
func TestStopRaces(t *testing.T) {
	r := newRig(t)
	for range 20 {
		id := r.run("xx", nil)
		var both sync.WaitGroup
		for range 3 {
			both.Add(1)
			go func() {
				defer both.Done()
				r.Stop(t.Context(), id, StopOptions{})
			}()
		}
		both.Wait()
		_, _, _, unlock, err := r.locked(t.Context(), id) // until the end has been seen to
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if _, state, err := r.store.read(id); err != nil || state == nil || state.Status != container.StateExited {
			t.Fatalf("the document is %+v, %v", state, err)
		}
		if err := r.Remove(t.Context(), id, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStopMeetsARestart stops containers at the moment when their policy brings them back.
func TestStopMeetsARestart(t *testing.T) {
	r := newRig(t)
	for i := range 20 {
		id := r.run("xx", func(_ *container.Config, h *container.HostConfig) {
			h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyAlways}
		})
		r.runtime.exit(id, 1)
		time.Sleep(firstBackoff + time.Duration(i-10)*time.Millisecond) // to hit that moment once or twice
		if err := r.Stop(t.Context(), id, StopOptions{}); err != nil && !errdefs.IsNotModified(err) {
			t.Fatal(err)
		}
		if got := r.status(id); got != container.StateExited {
			t.Fatalf("after it was stopped, the container is %s", got)
		}
		if err := r.Remove(t.Context(), id, RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackoff(t *testing.T) {
	delay := nextBackoff(0, 0)
	for range 20 {
		next := nextBackoff(delay, 0)
		if next != min(2*delay, maxBackoff) {
			t.Fatalf("after %v comes %v", delay, next)
		}
		delay = next
	}
	if got := nextBackoff(delay, soundLife); got != firstBackoff {
		t.Errorf("after a sound life the delay is %v", got)
	}
}

func TestStartFails(t *testing.T) {
	for text, code := range map[string]int{
		`exec: "nope": executable file not found in $PATH`:     127,
		`exec: "/nope": stat /nope: no such file or directory`: 127,
		`exec: "/etc/passwd": permission denied`:               126,
		`cgroups are upset`:                                    128,
	} {
		r := newRig(t)
		r.runtime.createErr = errors.New(text)
		id := r.create("xx", nil)
		err := r.Start(t.Context(), id)
		if err == nil || !strings.HasPrefix(err.Error(), "failed to create task for container: ") || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error is %v", text, err)
		}
		if errdefs.IsInvalidArgument(err) != (code != 128) {
			t.Errorf("%s: the kind is wrong: %v", text, err)
		}
		got, _ := r.Inspect(t.Context(), id, false)
		if got.State.ExitCode != code || got.State.Status != container.StateCreated || got.State.Error == "" {
			t.Errorf("%s: state is %+v", text, got.State)
		}
		if len(r.networks.sandboxes) != 0 {
			t.Errorf("%s: a network is left", text)
		}
	}
}

// TestRecoverCutShort: an engine that is told to end while it asks after its containers leaves them as they are.
func TestRecoverCutShort(t *testing.T) {
	r := newRig(t)
	id := r.run("runs", func(_ *container.Config, hc *container.HostConfig) { hc.RestartPolicy.Name = "always" })
	before, err := r.Inspect(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.openWith(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.Close()
	r.open()
	after, err := r.Inspect(t.Context(), id, false)
	if err != nil || after.State.Pid != before.State.Pid || after.State.Status != container.StateRunning {
		t.Errorf("it was %+v, and is %+v, %v", before.State, after.State, err)
	}
}

func TestRecover(t *testing.T) {
	r := newRig(t)
	always := func(_ *container.Config, hc *container.HostConfig) { hc.RestartPolicy.Name = "unless-stopped" }
	runs := r.run("runs", nil)
	ended := r.run("ended", nil)
	lost := r.run("lost", nil)
	again := r.run("again", always)
	stopped := r.run("stopped", always)
	waits := r.run("waits", always)
	waiting, _ := r.reg.find(waits)
	waiting.mu.Lock()
	waiting.backoff = maxBackoff
	waiting.mu.Unlock()
	life := waiting.currentLife()
	r.runtime.exit(waits, 6)
	<-life.ended
	once := r.run("once", func(_ *container.Config, hc *container.HostConfig) { hc.AutoRemove = true })
	if err := r.Stop(t.Context(), stopped, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	r.Close() // the engine dies; meanwhile:
	r.runtime.exit(ended, 4)
	r.runtime.exit(once, 0)
	r.runtime.exit(again, 1)
	delete(r.runtime.all, lost)
	r.open()
	if !slices.Equal(r.networks.kept, []string{runs}) {
		t.Errorf("the networks of %v were kept", r.networks.kept)
	}
	started := []string{<-r.runtime.began, <-r.runtime.began}
	if !slices.Contains(started, again) || !slices.Contains(started, waits) {
		t.Errorf("%v were started", started)
	}
	for ref, want := range map[string]int{"ended": 4, "lost": 255, "stopped": 143} {
		got, err := r.Inspect(t.Context(), ref, false)
		if err != nil || got.State.ExitCode != want || got.State.Status != container.StateExited {
			t.Errorf("%s: %+v, %v", ref, got.State, err)
		}
	}
	if _, err := r.Inspect(t.Context(), "once", false); !errdefs.IsNotFound(err) {
		t.Errorf("the container with --rm: %v", err)
	}
	if r.status("runs") != container.StateRunning {
		t.Error("the running one was not kept")
	}
	r.exits(runs, 9)
	if got, _ := r.Inspect(t.Context(), "runs", false); got.State.ExitCode != 9 {
		t.Errorf("its end was recorded as %d", got.State.ExitCode)
	}
}

func TestBrokenDocuments(t *testing.T) {
	r := newRig(t)
	good, bad, stateless := r.create("good", nil), r.create("bad", nil), r.create("stateless", nil)
	r.Close()
	dir := filepath.Join(r.dir, "root", "containers")
	os.WriteFile(filepath.Join(dir, bad, specFile), []byte(`{"Version":1,"ID":`), 0o600)
	os.WriteFile(filepath.Join(dir, stateless, stateFile), nil, 0o600)
	r.open()
	list, err := r.List(t.Context(), ListOptions{All: true})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d containers, %v", len(list), err)
	}
	if r.status(good) != container.StateCreated || r.status(stateless) != container.StateExited {
		t.Error("the states are wrong")
	}
	if _, err := os.Stat(filepath.Join(dir, bad, specFile)); err != nil {
		t.Error("the broken document was touched")
	}
}

func TestNetworkSettings(t *testing.T) {
	r := newRig(t)
	id := r.run("xx", func(c *container.Config, hc *container.HostConfig) {
		c.ExposedPorts = network.PortSet{network.MustParsePort("80"): {}, network.MustParsePort("81"): {}}
		hc.PortBindings = network.PortMap{network.MustParsePort("80"): {{}}}
		hc.ExtraHosts = []string{"db:10.0.0.5", "host=host-gateway"}
	})
	got, _ := r.Inspect(t.Context(), id, false)
	ns := got.NetworkSettings
	if ns.Ports[network.MustParsePort("80/tcp")][0].HostPort != "32768" || ns.Networks["bridge"].IPAddress.String() != "172.17.0.2" {
		t.Errorf("network settings are %+v", ns)
	}
	if b, shown := ns.Ports[network.MustParsePort("81/tcp")]; !shown || b != nil {
		t.Error("an exposed port is not shown as unpublished")
	}
	if got.HostConfig.NetworkMode != "bridge" || got.Config.Hostname != id[:12] {
		t.Errorf("mode %s, hostname %s", got.HostConfig.NetworkMode, got.Config.Hostname)
	}
	hosts, _ := os.ReadFile(got.HostsPath)
	for _, line := range []string{"127.0.0.1\tlocalhost", "10.0.0.5\tdb", "172.17.0.1\thost", "172.17.0.2\t" + id[:12]} {
		if !strings.Contains(string(hosts), line+"\n") {
			t.Errorf("/etc/hosts lacks %q:\n%s", line, hosts)
		}
	}
	if err := r.ConnectNetwork(t.Context(), "own", id, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Inspect(t.Context(), id, false); got.NetworkSettings.Networks["own"] == nil {
		t.Error("the second network is not shown")
	}
	if err := r.DisconnectNetwork(t.Context(), "own", id, false); err != nil {
		t.Fatal(err)
	}
	if err := r.DisconnectNetwork(t.Context(), "own", id, false); !errdefs.IsPermissionDenied(err) {
		t.Errorf("disconnecting twice: %v", err)
	}
}

func TestNetworksOfARunningContainer(t *testing.T) {
	r := newRig(t)
	id := r.run("xx", func(_ *container.Config, hc *container.HostConfig) {
		hc.PortBindings = network.PortMap{network.MustParsePort("80"): {{HostPort: "8080"}}}
	})
	inspect := func() container.InspectResponse {
		t.Helper()
		got, err := r.Inspect(t.Context(), id, false)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	published := func() int { return len(inspect().NetworkSettings.Ports[network.MustParsePort("80/tcp")]) }
	if published() != 1 {
		t.Fatal("the port is not published")
	}
	r.networks.afterChange = "nameserver 192.0.2.1\n"
	if err := r.DisconnectNetwork(t.Context(), "bridge", id, false); err != nil {
		t.Fatal(err)
	}
	if published() != 0 {
		t.Error("the port stays published without a network that leads out")
	}
	if text, _ := os.ReadFile(inspect().ResolvConfPath); string(text) != "nameserver 192.0.2.1\n" {
		t.Errorf("after a change of networks resolv.conf is %q", text)
	}
	if err := r.ConnectNetwork(t.Context(), "own", id, nil); err != nil {
		t.Fatal(err)
	}
	if published() != 1 {
		t.Error("the port is not published on the network that was connected")
	}
	if err := os.WriteFile(inspect().ResolvConfPath, []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.networks.afterChange = "nameserver 192.0.2.2\n"
	if err := r.DisconnectNetwork(t.Context(), "own", id, false); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(inspect().ResolvConfPath); string(text) != "# mine\n" {
		t.Errorf("the container's own resolv.conf became %q", text)
	}
}
