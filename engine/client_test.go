//go:build linux

package engine

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// TestClient drives the newest API version, which no released docker speaks, with Docker's client package.
func TestClient(t *testing.T) {
	m := newMachine(t)
	ctx := t.Context()
	c, err := client.New(client.WithHost(m.host()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ping, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil || ping.APIVersion != "1.56" || ping.OSType != "linux" || c.ClientVersion() != "1.56" {
		t.Fatalf("ping: %+v, client %s, %v", ping, c.ClientVersion(), err)
	}
	pull, err := c.ImagePull(ctx, busybox, client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pull.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("run", func(t *testing.T) { clientRun(t, c) })
	t.Run("exec", func(t *testing.T) { clientExec(t, c) })
	t.Run("inspect", func(t *testing.T) { clientInspect(t, c) })
	if _, err := c.ContainerInspect(ctx, "nothing", client.ContainerInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	if _, err := c.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true, Verbose: true}); err != nil {
		t.Errorf("disk usage: %v", err)
	}
}

// clientRun does as `docker run -i --rm`: attach, wait, start, and follow the events of it.
func clientRun(t *testing.T, c *client.Client) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config:     &container.Config{Image: busybox, Cmd: []string{"sh", "-c", "cat; echo err >&2; exit 9"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true},
		HostConfig: &container.HostConfig{AutoRemove: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	events := c.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).Add("container", made.ID)})
	attached, err := c.ContainerAttach(ctx, made.ID, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	if media, _ := attached.MediaType(); media != "application/vnd.docker.multiplexed-stream" {
		t.Errorf("media type %q", media)
	}
	wait := c.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	if _, err := c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(attached.Conn, "typed")
	if err := attached.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errOut, attached.Reader); err != nil || out.String() != "typed" || errOut.String() != "err\n" {
		t.Errorf("%q %q %v", &out, &errOut, err)
	}
	select {
	case r := <-wait.Result:
		if r.StatusCode != 9 || r.Error != nil {
			t.Errorf("wait: %+v", r)
		}
	case err := <-wait.Error:
		t.Errorf("wait: %v", err)
	}
	for _, action := range []string{"attach", "start", "die", "destroy"} {
		select {
		case e := <-events.Messages:
			if string(e.Type) == "network" {
				e = <-events.Messages
			}
			if string(e.Action) != action || e.Actor.ID != made.ID {
				t.Errorf("event %s of %s, want %s", e.Action, e.Actor.ID, action)
			}
			if e.Action == "die" && e.Actor.Attributes["exitCode"] != "9" {
				t.Errorf("die: %v", e.Actor.Attributes)
			}
		case err := <-events.Err:
			t.Fatalf("events: %v", err)
		}
	}
}

func clientExec(t *testing.T, c *client.Client) {
	ctx := t.Context()
	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{Image: busybox, Cmd: []string{"sleep", "600"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true})
	if _, err := c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	e, err := c.ExecCreate(ctx, made.ID, client.ExecCreateOptions{Cmd: []string{"sh", "-c", "cat; exit 6"}, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	attached, err := c.ExecAttach(ctx, e.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	fmt.Fprint(attached.Conn, "typed")
	_ = attached.CloseWrite()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, attached.Reader); err != nil || out.String() != "typed" {
		t.Errorf("%q %v", &out, err)
	}
	// The stream ends after the exit code is known.
	if i, err := c.ExecInspect(ctx, e.ID, client.ExecInspectOptions{}); err != nil || i.Running || i.ExitCode != 6 {
		t.Errorf("%+v %v", i, err)
	}
}

func clientInspect(t *testing.T, c *client.Client) {
	ctx := t.Context()
	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{Image: busybox, Cmd: []string{"sleep", "600"}}, Name: "shown"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true})
	if _, err := c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	i, err := c.ContainerInspect(ctx, "shown", client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bridge := i.Container.NetworkSettings.Networks["bridge"]
	if bridge == nil || !bridge.IPAddress.IsValid() || bridge.IPAddress == netip.IPv4Unspecified() || bridge.Gateway != netip.MustParseAddr("172.17.0.1") {
		t.Errorf("network: %+v", bridge)
	}
	if i.Container.Name != "/shown" || i.Container.GraphDriver != nil || i.Container.State.Pid == 0 {
		t.Errorf("got %+v", i.Container)
	}
	all, err := c.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil || len(all.Items) != 1 || all.Items[0].Names[0] != "/shown" || all.Items[0].ImageID != i.Container.Image {
		t.Errorf("list: %+v %v", all, err)
	}
}
