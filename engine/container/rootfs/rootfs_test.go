//go:build linux

package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree makes a root with a secret beside it that nothing may reach.
func tree(t *testing.T) (*Root, string) {
	t.Helper()
	base := t.TempDir()
	dir := filepath.Join(base, "root")
	for _, d := range []string{"etc", "var/lib", "run/app", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(base, "secret"), "secret")
	write(filepath.Join(dir, "etc/passwd"), "root:x:0:0")
	write(filepath.Join(dir, "run/app/pid"), "42")
	for link, target := range map[string]string{
		"abs": "/etc/passwd", "up": "../../../../secret", "escape": base + "/secret", "var/run": "/run", "loop": "loop", "dangling": "/nope/x",
		"upper": "..", "tmp": "/",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, dir
}

func TestReadFileStaysInside(t *testing.T) {
	r, dir := tree(t)
	for name, want := range map[string]string{"/etc/passwd": "root:x:0:0", "etc/../etc/passwd": "root:x:0:0", "abs": "root:x:0:0",
		"var/run/app/pid": "42", "../../etc/passwd": "root:x:0:0", "upper/upper/etc/passwd": "root:x:0:0"} {
		if got, err := r.ReadFile(name, 100); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"up", "escape", "../secret", "loop", "dangling", "empty", "etc/passwd/x"} {
		if got, err := r.ReadFile(name, 100); err == nil {
			t.Errorf("%s can be read: %q", name, got)
		}
	}
	if _, err := r.ReadFile("etc/passwd", 3); err == nil {
		t.Error("a file over the limit is read")
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("pipe", 3); err == nil { // and above all it does not block
		t.Error("a pipe is read")
	}
}

func TestStat(t *testing.T) {
	r, _ := tree(t)
	for name, want := range map[string]struct {
		base, link string
		dir        bool
	}{
		"/etc/passwd":      {"passwd", "", false},
		"/etc":             {"etc", "", true},
		"/etc/":            {"etc", "", true},
		"/etc/.":           {".", "", true},
		"/":                {"/", "", true},
		"/abs":             {"abs", "/etc/passwd", false},
		"/var/run":         {"run", "/run", false},
		"/var/run/":        {"run", "", true},
		"/var/run/app/pid": {"pid", "", false},
		"/dangling":        {"dangling", "/nope/x", false},
		"/up":              {"up", "/secret", false},
	} {
		got, err := r.Stat(name)
		if err != nil || got.Name != want.base || got.LinkTarget != want.link || got.Mode.IsDir() != want.dir {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"/nope", "/etc/passwd/", "/dangling/", "/up/"} {
		if got, err := r.Stat(name); !IsNotExist(err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func archived(t *testing.T, r *Root, name string) map[string]*tar.Header {
	t.Helper()
	a, err := r.Archive(name)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var buf bytes.Buffer
	if err := a.WriteTo(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	return entries(t, &buf)
}

func entries(t *testing.T, r io.Reader) map[string]*tar.Header {
	t.Helper()
	all := map[string]*tar.Header{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = h
	}
}

func TestArchive(t *testing.T) {
	r, dir := tree(t)
	os.Link(filepath.Join(dir, "run/app/pid"), filepath.Join(dir, "run/app/same"))
	for name, want := range map[string]string{
		"/run":        "run/ run/app/ run/app/pid run/app/same",
		"/run/.":      "./ ./app/ ./app/pid ./app/same",
		"/var/run":    "run",
		"/var/run/":   "run/ run/app/ run/app/pid run/app/same",
		"/etc/passwd": "passwd",
	} {
		got := archived(t, r, name)
		if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != want {
			t.Errorf("%s has %s", name, names)
		}
	}
	got := archived(t, r, "/run")
	if h := got["run/app/same"]; h.Typeflag != tar.TypeLink || h.Linkname != "run/app/pid" {
		t.Errorf("the hard link is %+v", h)
	}
	if h := archived(t, r, "/up")["up"]; h.Typeflag != tar.TypeSymlink || h.Linkname != "../../../../secret" {
		t.Errorf("the symlink is %+v", h)
	}
	var all bytes.Buffer
	if err := r.Export(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, &all); got["etc/passwd"] == nil || got["var/run"] == nil {
		t.Errorf("the export has %v", slices.Sorted(maps.Keys(got)))
	}
}

type file struct {
	name, link, text string
	kind             byte
	mode             int64
}

func pack(t *testing.T, files ...file) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if f.mode == 0 {
			f.mode = 0o644
		}
		h := &tar.Header{Name: f.name, Linkname: f.link, Typeflag: f.kind, Size: int64(len(f.text)), Mode: f.mode,
			Uid: os.Getuid(), Gid: os.Getgid(), ModTime: time.Unix(1e9, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(f.text))
	}
	w.Close()
	return &buf
}

func TestExtract(t *testing.T) {
	r, dir := tree(t)
	err := r.Extract("/var/run", pack(t,
		file{name: "new/", kind: tar.TypeDir, mode: 0o750},
		file{name: "new/file", kind: tar.TypeReg, text: "hello", mode: 0o4711},
		file{name: "new/hard", kind: tar.TypeLink, link: "new/file"},
		file{name: "new/soft", kind: tar.TypeSymlink, link: "/etc"},
		file{name: "new/pipe", kind: tar.TypeFifo},
		file{name: "app/pid", kind: tar.TypeReg, text: "43"},
	), ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "run/new/file"))
	if err != nil || info.Mode() != 0o711|os.ModeSetuid || !info.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("the file is %v, %v", info, err)
	}
	if info, _ := os.Stat(filepath.Join(dir, "run/new")); info.Mode().Perm() != 0o750 || !info.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("the folder is %v of %v", info.Mode(), info.ModTime())
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "run/app/pid")); string(text) != "43" {
		t.Errorf("the old file has %q", text)
	}
	if err := r.Extract("/etc/passwd", pack(t), ExtractOptions{}); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("a file as extraction point: %v", err)
	}
	if err := r.Extract("/nope", pack(t), ExtractOptions{}); !IsNotExist(err) {
		t.Errorf("a missing extraction point: %v", err)
	}
}

func TestExtractOverwrites(t *testing.T) {
	for name, c := range map[string]struct {
		f     file
		ok    bool // without NoOverwriteDirNonDir
		okNot bool // with
	}{
		"file over file":      {file{name: "etc/passwd", kind: tar.TypeReg}, true, true},
		"dir over dir":        {file{name: "etc", kind: tar.TypeDir}, true, true},
		"file over empty dir": {file{name: "empty", kind: tar.TypeReg}, true, false},
		"file over full dir":  {file{name: "etc", kind: tar.TypeReg}, false, false},
		"dir over file":       {file{name: "etc/passwd", kind: tar.TypeDir}, true, false},
		"file over symlink":   {file{name: "abs", kind: tar.TypeReg}, true, true},
	} {
		for _, no := range []bool{false, true} {
			r, _ := tree(t)
			err := r.Extract("/", pack(t, c.f), ExtractOptions{NoOverwriteDirNonDir: no})
			if want := map[bool]bool{false: c.ok, true: c.okNot}[no]; (err == nil) != want {
				t.Errorf("%s, %v: %v", name, no, err)
			}
		}
	}
}

func TestExtractStaysInside(t *testing.T) {
	for name, files := range map[string][]file{
		"dots":             {{name: "../../secret", kind: tar.TypeReg, text: "x"}},
		"absolute":         {{name: "/../secret", kind: tar.TypeReg, text: "x"}},
		"symlink, then in": {{name: "s", kind: tar.TypeSymlink, link: "../.."}, {name: "s/secret", kind: tar.TypeReg, text: "x"}},
		"hard link":        {{name: "h", kind: tar.TypeLink, link: "../../secret"}, {name: "h", kind: tar.TypeReg, text: "x"}},
		"through a link":   {{name: "up", kind: tar.TypeReg, text: "x"}},
		"below a link":     {{name: "upper/upper/secret", kind: tar.TypeReg, text: "x"}},
	} {
		r, dir := tree(t)
		_ = r.Extract("/", pack(t, files...), ExtractOptions{}) // whether it is an error is not the point
		if text, _ := os.ReadFile(filepath.Join(filepath.Dir(dir), "secret")); string(text) != "secret" {
			t.Errorf("%s: the secret outside is %q", name, text)
		}
	}
}

// TestExtractRace swaps a folder for a symlink that leads out, as fast as it can, while a file is put below it.
func TestExtractRace(t *testing.T) {
	r, dir := tree(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	os.Mkdir(outside, 0o755)
	os.Mkdir(filepath.Join(dir, "a"), 0o755)
	os.Symlink(outside, filepath.Join(dir, "b"))
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Add(1)
	go func() {
		defer swapper.Done()
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "a"), unix.AT_FDCWD, filepath.Join(dir, "b"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 2000 {
		_ = r.Extract("/", pack(t, file{name: "a/f", kind: tar.TypeReg, text: "x"}), ExtractOptions{})
	}
	close(stop)
	swapper.Wait()
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("files got out: %v", left)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("not a tar"), "etc")
	f.Fuzz(func(t *testing.T, data []byte, dir string) {
		if os.Getuid() != 0 {
			t.Skip("owners can only be set by root")
		}
		r, root := tree(t)
		_ = r.Extract(dir, bytes.NewReader(data), ExtractOptions{})
		if text, _ := os.ReadFile(filepath.Join(filepath.Dir(root), "secret")); string(text) != "secret" {
			t.Errorf("the secret outside is %q", text)
		}
	})
}
