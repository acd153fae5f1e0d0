package dockerctx

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var sample = Context{Name: "web1", Description: "berth machine web1", Host: "tcp://10.0.0.1:2376", CA: []byte("ca"), Cert: []byte("cert"), Key: []byte("key")}

func docker(t *testing.T, dir string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("the docker client is not installed")
	}
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+dir, "DOCKER_HOST=", "DOCKER_CONTEXT=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestStockClient has the client itself read what was written, and change it.
func TestStockClient(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, sample); err != nil {
		t.Fatal(err)
	}
	if out := docker(t, dir, "context", "ls", "--format", "{{.Name}} {{.Description}} {{.DockerEndpoint}} {{.Error}}"); !strings.Contains(out, "web1 berth machine web1 tcp://10.0.0.1:2376") {
		t.Errorf("docker context ls: %s", out)
	}
	var shown []struct {
		Metadata    map[string]any
		Endpoints   map[string]struct{ Host string }
		TLSMaterial map[string][]string
	}
	if err := json.Unmarshal([]byte(docker(t, dir, "context", "inspect", "web1")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown[0].Endpoints["docker"].Host != sample.Host || len(shown[0].TLSMaterial["docker"]) != 3 {
		t.Errorf("docker context inspect: %+v", shown)
	}
	docker(t, dir, "context", "update", "web1", "--description", "changed by hand")
	if !Exists(dir, "web1") {
		t.Error("the client's update made the context another's")
	}
	if err := Remove(dir, "web1"); err != nil {
		t.Fatal(err)
	}
	if out := docker(t, dir, "context", "ls", "-q"); out != "default" {
		t.Errorf("after removal: %s", out)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "contexts", "*", "*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestForeignContextStays(t *testing.T) {
	dir := t.TempDir()
	docker(t, dir, "context", "create", "web1", "--docker", "host=tcp://1.2.3.4:5")
	if err := Write(dir, sample); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
	if err := Remove(dir, "web1"); err != nil {
		t.Error(err)
	}
	if out := docker(t, dir, "context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "web1"); out != "tcp://1.2.3.4:5" {
		t.Errorf("the context is now %s", out)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"web1": true, "a.b-c": true, "a": false, "default": false, "": false, "../x": false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := Remove(dir, "nothing"); err != nil {
		t.Error(err)
	}
	if err := Write(dir, sample); err != nil {
		t.Fatal(err)
	}
	again := sample
	again.Key = []byte("other")
	if err := Write(dir, again); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(tlsDir(dir, "web1"), "docker", "key.pem"))
	if err != nil || !bytes.Equal(got, again.Key) {
		t.Errorf("the key is %q, %v", got, err)
	}
}
