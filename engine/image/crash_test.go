//go:build linux

package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/getberth/berth/test/images"
)

// crashes is how often each operation is killed, at moments spread over the time that it takes.
const crashes = 6

// TestKilledAtAnyMoment kills an engine while it pulls, loads or removes. The next one finds a store that it can work with: what is
// listed can be run, the operation can be done again, and in the end nothing is left over.
func TestKilledAtAnyMoment(t *testing.T) {
	needRoot(t)
	if act := os.Getenv("CRASH_ACT"); act != "" {
		actUntilKilled(t, act, os.Getenv("CRASH_ROOT"), os.Getenv("CRASH_SOURCE"))
		return
	}
	img := manyLayers(t)
	reg := serve(t, images.RegistryOptions{})
	if err := reg.Add("tool:v1", img); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "tool.tar")
	if err := os.WriteFile(archive, ociArchive(t, reg.Host()+"/tool:v1", img), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := reg.Host() + "/tool:v1"
	for act, source := range map[string]string{"pull": ref, "load": archive, "remove": ref} {
		t.Run(act, func(t *testing.T) {
			took := killAfter(t, act, prepared(t, act, ref), source, time.Minute) // to its end
			for i := range crashes {
				root := prepared(t, act, ref)
				killAfter(t, act, root, source, took*time.Duration(i)/crashes+time.Duration(rand.Int64N(int64(took/crashes)+1)))
				checkAfterCrash(t, root, ref)
			}
		})
	}
}

// manyLayers is an image that takes a while.
func manyLayers(t *testing.T) v1.Image {
	t.Helper()
	var layers []images.Layer
	for i := range 6 {
		body := make([]byte, 200<<10)
		for j := range body {
			body[j] = byte(rand.Uint32())
		}
		layers = append(layers, images.Layer{Files: []images.File{{Name: fmt.Sprint("f", i), Body: string(body)}}})
	}
	img, err := images.Build(v1.Config{}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// prepared is the root of a store before an operation.
func prepared(t *testing.T, act, ref string) string {
	t.Helper()
	root := t.TempDir()
	if act == "remove" {
		s := openAt(t, root, nil)
		if err := s.Pull(t.Context(), ref, nil, nil, discard); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// killAfter has another process work on a store, kills it after a while, and returns how long it took if it was sooner.
func killAfter(t *testing.T, act, root, source string, after time.Duration) time.Duration {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledAtAnyMoment$", "-test.count=1")
	cmd.Env = append(os.Environ(), "CRASH_ACT="+act, "CRASH_ROOT="+root, "CRASH_SOURCE="+source)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "begins\n" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the process says %q (%v)\n%s", line, err, said.String())
	}
	began := time.Now()
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	rest, _ := io.ReadAll(lines)
	took := time.Since(began)
	timer.Stop()
	_ = cmd.Wait() // killed or not
	if strings.Contains(string(rest), "FAIL") {
		t.Fatalf("%s: %s", act, rest)
	}
	return took
}

func actUntilKilled(t *testing.T, act, root, source string) {
	s := openAt(t, root, nil)
	fmt.Println("begins")
	var err error
	switch act {
	case "pull":
		err = s.Pull(t.Context(), source, nil, nil, discard)
	case "load":
		var f *os.File
		if f, err = os.Open(source); err == nil {
			err = s.Load(t.Context(), f, nil, discard)
			_ = f.Close()
		}
	case "remove":
		_, err = s.Remove(t.Context(), source, RemoveOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func checkAfterCrash(t *testing.T, root, ref string) {
	t.Helper()
	s, err := Open(context.Background(), Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, sum := range list { // what is listed is whole
		if err := s.PrepareRootFS(t.Context(), "c1", sum.ID, nil); err != nil {
			t.Errorf("running %v: %v", sum.RepoTags, err)
		}
		if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
		if _, err := s.Remove(t.Context(), sum.ID, RemoveOptions{Force: true}); err != nil {
			t.Errorf("removing %v: %v", sum.RepoTags, err)
		}
	}
	if err := s.Pull(t.Context(), ref, nil, nil, discard); err != nil {
		t.Errorf("pulling again: %v", err)
	}
	err = s.content.Walk(inNamespace(t.Context()), func(info content.Info) error { return verify(s, info) })
	if err != nil {
		t.Error(err)
	}
	if _, err := s.Remove(t.Context(), ref, RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := s.Prune(t.Context(), nil); err != nil { // what the pull that was killed would have gone on from
		t.Error(err)
	}
	s.roots.close() // waits for what is deleted meanwhile
	wantEmpty(t, s)
}

// verify reads a blob again.
func verify(s *Service, info content.Info) error {
	raw, err := os.ReadFile(filepath.Join(s.cfg.Root, "content", "blobs", info.Digest.Algorithm().String(), info.Digest.Encoded()))
	if err != nil {
		return err
	}
	if got := info.Digest.Algorithm().FromBytes(raw); got != info.Digest {
		return fmt.Errorf("blob %s has the digest %s", info.Digest, got)
	}
	return nil
}
