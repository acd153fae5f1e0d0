//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/test/images"
)

// Each of these is small on the wire.
func TestLayersThatUnpackToTooMuch(t *testing.T) {
	many := make([]images.File, 200)
	for i := range many {
		many[i] = images.File{Name: fmt.Sprint("f", i)}
	}
	wide := make([]images.File, 90)
	for i := range wide {
		wide[i] = images.File{Name: fmt.Sprintf("d%d/", i), Xattrs: map[string]string{"user.a": strings.Repeat("x", 2<<10)}}
	}
	for _, tc := range []struct {
		what   string
		layer  []byte
		limits layerLimits
		want   string
	}{
		{"entries", mustTar(t, many...), layerLimits{entries: 100, meta: 1 << 20, size: 1 << 30}, "more than 100 entries"},
		{"attributes", mustTar(t, wide...), layerLimits{entries: 100, meta: 100 << 10, size: 1 << 30}, "more than 102400 bytes"},
		{"one attribute", mustTar(t, images.File{Name: "f", Xattrs: map[string]string{"user.a": strings.Repeat("x", 70<<10)}}),
			defaultLimits(), "the attribute user.a of 71680 bytes"},
		{"a name", mustTar(t, images.File{Name: strings.Repeat("a/", 3000) + "f"}), defaultLimits(), "a name or a target of more than 4096 bytes"},
		{"content", mustTar(t, images.File{Name: "zeros", Body: strings.Repeat("\x00", 3<<20)}),
			layerLimits{entries: 100, meta: 1 << 20, size: 2 << 20}, "more than 2097152 bytes"},
		{"padding", append(mustTar(t, images.File{Name: "f"}), make([]byte, 3<<20)...),
			layerLimits{entries: 100, meta: 1 << 20, size: 2 << 20}, "more than 2097152 bytes uncompressed"},
		{"holes", sparseTar(1 << 40), defaultLimits(), "more than 274877906944 bytes"},
		{"holes beyond the disk", sparseTar(200 << 30), defaultLimits(), "no space left on device"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			reg := serve(t, images.RegistryOptions{})
			pushRaw(t, reg, "bomb", configOf(tc.layer), gzipped(t, tc.layer))
			s := open(t, nil)
			var st unix.Statfs_t
			if err := unix.Statfs(s.cfg.Root, &st); err != nil {
				t.Fatal(err)
			}
			if tc.what == "holes beyond the disk" && int64(st.Bavail)*st.Bsize > 200<<30 {
				t.Skip("requires a disk with less than 200 GiB free")
			}
			s.limits = tc.limits
			err := s.Pull(t.Context(), reg.Host()+"/bomb:v1", nil, nil, discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "failed to register layer") {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
			wantEmpty(t, s)
		})
	}
}

// sparseTar is a tar of one file that is a hole, in the form of GNU tar.
func sparseTar(size int64) []byte {
	h := make([]byte, 512)
	copy(h, "hole")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00", 0, 0)) // one piece of data, of no length
	// The real size in the binary form of large numbers.
	h[483] = 0x80
	for i := range 8 {
		h[494-i] = byte(size >> (8 * i))
	}
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(h, make([]byte, 1024)...)
}

func TestArchivesThatUnpackToTooMuch(t *testing.T) {
	s := open(t, nil)
	s.limits.size = 1 << 20
	bomb := gzipped(t, mustTar(t, images.File{Name: "blobs/x", Body: strings.Repeat("\x00", 2<<20)}))
	err := s.Load(t.Context(), bytes.NewReader(bomb), nil, discard)
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes uncompressed") {
		t.Errorf("loading: error %v", err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(bomb), "bomb", "", nil, nil); err == nil || !strings.Contains(err.Error(), "1048576 bytes uncompressed") {
		t.Errorf("importing: error %v", err)
	}
	wantEmpty(t, s)
}

// What makes a file special arrives in the container, and stays out of the reach of the machine's other users.
func TestLayersKeepWhatFilesAre(t *testing.T) {
	when := time.Date(2021, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	var raw bytes.Buffer
	tw := tar.NewWriter(&raw)
	for _, h := range []*tar.Header{
		{Name: "/absolute", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		{Name: "suid", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 0, Size: 4},
		{Name: "sgid/", Typeflag: tar.TypeDir, Mode: 0o2775, Gid: 7},
		{Name: "linked", Typeflag: tar.TypeLink, Mode: 0o4755, Linkname: "suid"},
		{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "ping", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{xattrMark + "security.capability": netRaw}},
	} {
		h.ModTime, h.Format = when, tar.FormatPAX
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, "body"[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what string
		blob []byte
	}{{"uncompressed", raw.Bytes()}, {"gzip", gzipped(t, raw.Bytes())}, {"zstd", zstandard(t, raw.Bytes())}} {
		t.Run(tc.what, func(t *testing.T) {
			reg := serve(t, images.RegistryOptions{})
			pushRaw(t, reg, "tool", configOf(raw.Bytes()), tc.blob)
			s := open(t, nil)
			if err := s.Pull(t.Context(), reg.Host()+"/tool:v1", nil, nil, discard); err != nil {
				t.Fatal(err)
			}
			checkFiles(t, mounted(t, s, "c1", reg.Host()+"/tool:v1"), when)
			for _, dir := range []string{"snapshots", "containers", "content"} {
				if fi, err := os.Stat(filepath.Join(s.cfg.Root, dir)); err != nil || fi.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has the mode %v (%v), want none for others", dir, fi.Mode(), err)
				}
			}
		})
	}
}

func checkFiles(t *testing.T, root string, when time.Time) {
	t.Helper()
	stat := func(name string) (st unix.Stat_t) {
		if err := unix.Lstat(filepath.Join(root, name), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	for name, mode := range map[string]uint32{
		"absolute": unix.S_IFREG | 0o644, "suid": unix.S_IFREG | 0o4755, "sgid": unix.S_IFDIR | 0o2775, "null": unix.S_IFCHR | 0o666,
		"pipe": unix.S_IFIFO | 0o600,
	} {
		st := stat(name)
		if st.Mode != mode {
			t.Errorf("%s has the mode %o, want %o", name, st.Mode, mode)
		}
		if got := time.Unix(st.Mtim.Unix()); !got.Equal(when) {
			t.Errorf("%s was changed at %v, want %v", name, got.UTC(), when)
		}
	}
	if a, b := stat("suid"), stat("linked"); a.Ino != b.Ino || a.Nlink != 2 {
		t.Errorf("inodes %d and %d with %d links, want one with two", a.Ino, b.Ino, a.Nlink)
	}
	if st := stat("null"); st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("null is the device %x", st.Rdev)
	}
	cap := make([]byte, 64)
	if n, err := unix.Getxattr(filepath.Join(root, "ping"), "security.capability", cap); err != nil || string(cap[:n]) != netRaw {
		t.Errorf("ping has the capability %x (%v)", cap[:max(n, 0)], err)
	}
}

func TestHistoryAndSizesOfAVerboseDiskUsage(t *testing.T) {
	shared := images.Layer{CreatedBy: "ADD base /", Files: []images.File{{Name: "base", Body: strings.Repeat("b", 10_000)}}}
	s := open(t, nil)
	for _, name := range []string{"one", "two"} {
		img, err := images.Build(v1.Config{}, shared, images.Layer{CreatedBy: "COPY " + name + " /", Files: []images.File{{Name: name, Body: name}}},
			images.Layer{CreatedBy: "ENV a=b"})
		if err != nil {
			t.Fatal(err)
		}
		load(t, s, name+":v1", img)
	}
	items, err := s.History(t.Context(), "one:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, i := range items {
		commands = append(commands, i.CreatedBy)
	}
	if want := []string{"ENV a=b", "COPY one /", "ADD base /"}; !slices.Equal(commands, want) {
		t.Errorf("history %q, want %q", commands, want)
	}
	usage, err := s.DiskUsage(t.Context(), true)
	if err != nil || len(usage.Items) != 2 {
		t.Fatalf("usage %+v (%v), want two items", usage, err)
	}
	for _, i := range usage.Items {
		if i.SharedSize < 10_000 || i.SharedSize >= i.Size {
			t.Errorf("%v shares %d of its %d bytes", i.RepoTags, i.SharedSize, i.Size)
		}
	}
	if usage.TotalSize >= usage.Items[0].Size+usage.Items[1].Size {
		t.Errorf("%d bytes in all, want what is shared counted once", usage.TotalSize)
	}
}

// With one image, all that there is belongs to it, whatever else its archive had; and nothing to reclaim once it is used.
func TestDiskUsageOfOneImage(t *testing.T) {
	u := &users{}
	s := open(t, func(c *Config) { c.InUse = u.of })
	load(t, s, "tool:v1", small(t))
	usage, err := s.DiskUsage(t.Context(), true)
	if err != nil || len(usage.Items) != 1 || usage.TotalSize != usage.Items[0].Size || usage.Reclaimable != usage.TotalSize {
		t.Errorf("usage %+v (%v), want the total to be that of the one item", usage, err)
	}
	mounted(t, s, "c1", "tool:v1")
	u.set(usage.Items[0].ID, User{ID: "c1", Ref: "tool:v1", Running: true})
	if usage, err = s.DiskUsage(t.Context(), true); err != nil || usage.Reclaimable != 0 || usage.ActiveCount != 1 {
		t.Errorf("in use: %+v (%v), want nothing to reclaim", usage, err)
	}
}
