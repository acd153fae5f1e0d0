package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/getberth/berth/test/images/standins"
)

// house knows where things are.
type house struct {
	lists  string // the committed lists
	out    string // everything that is made
	engine []string
}

func newHouse() (*house, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	h := &house{lists: filepath.Join(root, "test", "compat"), out: filepath.Join(root, "bin", "compat")}
	if h.engine = strings.Fields(os.Getenv("COMPAT_ENGINE")); len(h.engine) == 0 {
		h.engine = []string{filepath.Join(h.lists, "engine")}
	}
	if _, err := os.Stat(filepath.Join(h.lists, "engine")); err != nil {
		return nil, errors.New("requires to be run from the root of the tree")
	}
	return h, os.MkdirAll(h.out, 0o755)
}

func cutLast(name string) (before, after string, ok bool) {
	i := strings.LastIndex(name, "/")
	if i < 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

func (h *house) source(m module) string { return filepath.Join(h.out, "src", m.name+"-"+m.version) }
func (h *house) binary(s suite) string {
	return filepath.Join(h.out, strings.ReplaceAll(s.name, "/", "-")+"-"+s.module.version+".test")
}
func (h *house) archives(s suite) string {
	return filepath.Join(h.out, "images", strings.ReplaceAll(s.name, "/", "-"))
}

// build makes what a suite needs, unless it is there.
func (h *house) build(ctx context.Context, s suite) error {
	if err := os.MkdirAll(h.archives(s), 0o755); err != nil {
		return err
	}
	if _, err := standins.Write(h.archives(s), s.images...); err != nil {
		return err
	}
	src, err := h.fetch(ctx, s.module)
	if err != nil {
		return err
	}
	if s.clients {
		if err := h.buildClients(ctx, src); err != nil {
			return err
		}
	}
	if _, err := os.Stat(h.binary(s)); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "building", s.name)
	return goCommand(ctx, src, "test", "-mod=mod", "-c", "-o", h.binary(s), "./"+s.pkg)
}

// fetch copies a module out of the module cache. The copy gets its name when it is whole.
func (h *house) fetch(ctx context.Context, m module) (string, error) {
	dir := h.source(m)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	from, err := download(ctx, m)
	if err != nil {
		return "", err
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.CopyFS(tmp, os.DirFS(from)); err != nil {
		return "", fmt.Errorf("copying %s: %w", m.path, err)
	}
	if err := makeWritable(tmp); err != nil {
		return "", err
	}
	if m.prepare != nil {
		if err := m.prepare(tmp); err != nil {
			return "", err
		}
	}
	return dir, os.Rename(tmp, dir)
}

// download has go fetch a module, outside of this one: it is none of its dependencies.
func download(ctx context.Context, m module) (string, error) {
	work, err := os.MkdirTemp("", "compat")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "go.mod"), []byte("module fetch\n\ngo 1.26\n"), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.path+"@"+m.version)
	cmd.Dir, cmd.Stderr = work, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("downloading %s@%s: %w", m.path, m.version, err)
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return "", err
	}
	return answer.Dir, nil
}

func makeWritable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()|0o200)
	})
}

// prepareCLI gives the client's module its files back, which it keeps under other names, and stand-ins for what is not served: a stub
// for a guess at Rosetta, which answers "no", and the version of swarmkit before.
func prepareCLI(dir string) error {
	for _, ext := range []string{".mod", ".sum"} {
		if err := os.Rename(filepath.Join(dir, "vendor"+ext), filepath.Join(dir, "go"+ext)); err != nil {
			return err
		}
	}
	stub := filepath.Join(dir, "rosetta-stub")
	if err := os.Mkdir(stub, 0o755); err != nil {
		return err
	}
	const code = "package rosetta\n\nfunc Available() bool { return false }\nfunc Enabled() bool { return false }\nfunc NativeArch() string { return \"\" }\n"
	return errors.Join(
		os.WriteFile(filepath.Join(stub, "go.mod"), []byte("module github.com/tonistiigi/go-rosetta\n\ngo 1.21\n"), 0o644),
		os.WriteFile(filepath.Join(stub, "rosetta.go"), []byte(code), 0o644),
		goCommand(context.Background(), dir, "mod", "edit", "-replace", "github.com/tonistiigi/go-rosetta=./rosetta-stub",
			"-replace", "github.com/moby/swarmkit/v2=github.com/moby/swarmkit/v2@v2.1.2"),
	)
}

// buildClients builds the client that a version of the suite belongs to, and the plugins that it tests.
func (h *house) buildClients(ctx context.Context, src string) error {
	docker := filepath.Join(h.clients(), "docker")
	if _, err := os.Stat(docker); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "building the client")
	for _, dir := range []string{"cli-plugins/examples", "e2e/cli-plugins/plugins"} {
		plugins, err := os.ReadDir(filepath.Join(src, dir))
		if err != nil {
			return err
		}
		for _, p := range plugins {
			if err := goCommand(ctx, src, "build", "-mod=mod", "-o", filepath.Join(h.plugins(), "docker-"+p.Name()), "./"+dir+"/"+p.Name()); err != nil {
				return err
			}
		}
	}
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(src), "cli-v"), "+incompatible")
	return goCommand(ctx, src, "build", "-mod=mod", "-ldflags", "-X github.com/docker/cli/cli/version.Version="+version, "-o", docker, "./cmd/docker")
}

func (h *house) clients() string { return filepath.Join(h.out, "clients") }
func (h *house) plugins() string {
	return filepath.Join(h.out, "clients", "plugins-"+runtime.GOOS+"-"+runtime.GOARCH)
}

func goCommand(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args[:min(len(args), 2)], " "), err)
	}
	return nil
}
