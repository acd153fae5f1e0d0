//go:build linux

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/events"

	"github.com/getberth/berth/test/images"
)

func TestPullThroughMirrorAndRun(t *testing.T) {
	reg := serve(t, images.RegistryOptions{})
	if err := reg.Add("library/busybox:1.24", busybox(t)); err != nil {
		t.Fatal(err)
	}
	log := &eventLog{}
	s := open(t, func(c *Config) { c.Mirrors, c.Events = []string{reg.URL()}, log })
	var r recorder
	if err := s.Pull(t.Context(), "busybox:1.24", nil, nil, r.add); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1.24: Pulling from library/busybox\n", ": Pulling fs layer\n", ": Download complete\n", ": Pull complete\n",
		"Digest: sha256:", "Status: Downloaded newer image for busybox:1.24\n",
	} {
		if !strings.Contains(r.text(), want) {
			t.Errorf("progress lacks %q:\n%s", want, r.text())
		}
	}
	if !log.has(events.ActionPull) {
		t.Error("no pull event")
	}
	id, config, err := s.Config(t.Context(), "busybox:1.24", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Config.Cmd) != 1 || config.Config.Cmd[0] != "sh" {
		t.Errorf("Cmd is %q, want sh", config.Config.Cmd)
	}
	for _, ref := range []string{"busybox:1.24", "docker.io/library/busybox:1.24", id, id[7:], id[7:19], "busybox@" + id} {
		if got, _, err := s.Config(t.Context(), ref, nil); err != nil || got != id {
			t.Errorf("Config(%q) = %q, %v; want %q", ref, got, err, id)
		}
	}
	root := mounted(t, s, "c1", id)
	if target, err := os.Readlink(filepath.Join(root, "bin/sh")); err != nil || target != "/bin/busybox" {
		t.Errorf("/bin/sh is a link to %q (%v), want /bin/busybox", target, err)
	}

	var again recorder
	if err := s.Pull(t.Context(), "busybox:1.24", nil, nil, again.add); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(again.text(), "Status: Image is up to date for busybox:1.24\n") {
		t.Errorf("second pull says:\n%s", again.text())
	}
}
