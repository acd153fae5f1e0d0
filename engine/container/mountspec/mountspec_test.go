package mountspec

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
)

func TestParseBind(t *testing.T) {
	for raw, want := range map[string]Point{
		"/a:/b":             {Type: "bind", Source: "/a", Destination: "/b", Propagation: "rprivate", CreateSource: true},
		"/a/../c/:/b//d:ro": {Type: "bind", Source: "/c", Destination: "/b/d", Mode: "ro", ReadOnly: true, Propagation: "rprivate", CreateSource: true},
		"/a:/b:rslave,z":    {Type: "bind", Source: "/a", Destination: "/b", Mode: "rslave,z", Propagation: "rslave", CreateSource: true},
		"data:/b:nocopy":    {Type: "volume", Driver: "local", Name: "data", Destination: "/b", Mode: "nocopy", NoCopy: true},
		"/b":                {Type: "volume", Driver: "local", Destination: "/b", Anonymous: true},
		"/b:ro":             {Type: "volume", Driver: "local", Destination: "/b", Anonymous: true, Mode: "ro", ReadOnly: true},
	} {
		got, err := ParseBind(raw, "")
		if err != nil || !equal(got, want) {
			t.Errorf("%s is %+v, %v", raw, got, err)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: its own check fails: %v", raw, err)
		}
	}
	for raw, why := range map[string]string{
		"":               "absolute",
		"a:b":            "absolute",
		"/a:/":           "destination can't be '/'",
		"/a:/b:ro,rw":    "invalid mode: ro,rw",
		"/a:/b:bogus":    "invalid mode: bogus",
		"/a:/b:":         "",
		"/a:/b:ro:x":     "two colons",
		":/b":            "source is empty",
		"a:/b":           "too short",
		"../x:/b":        "use absolute path",
		"data:/b:shared": "no propagation",
		"/a:/b:nocopy":   "nothing is ever copied",
	} {
		if got, err := ParseBind(raw, ""); why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%q: %+v, %v", raw, got, err)
		}
	}
}

func equal(a, b Point) bool {
	return a.Type == b.Type && a.Name == b.Name && a.Driver == b.Driver && a.Source == b.Source && a.Destination == b.Destination &&
		a.Mode == b.Mode && a.ReadOnly == b.ReadOnly && a.Propagation == b.Propagation && a.CreateSource == b.CreateSource &&
		a.NoCopy == b.NoCopy && a.Anonymous == b.Anonymous
}

func TestParseTmpfs(t *testing.T) {
	for options, want := range map[string]string{
		"":                          "noexec,nosuid,nodev,rprivate",
		"exec,size=64k,mode=1777":   "exec,nosuid,nodev,rprivate,size=64k,mode=1777",
		"rw,ro,size=1m,size=2m":     "noexec,nosuid,nodev,rprivate,ro,size=2m",
		"uid=5,gid=6,nr_inodes=1k":  "noexec,nosuid,nodev,rprivate,uid=5,gid=6,nr_inodes=1k",
		"defaults,noatime,size=50%": "noexec,nosuid,nodev,rprivate,noatime,size=50%",
	} {
		got, err := ParseTmpfs("/run", options)
		if err != nil || strings.Join(got.Options, ",") != want {
			t.Errorf("%q is %v, %v", options, got.Options, err)
		}
	}
	for _, options := range []string{"size=", "size=x", "mode=9", "uid=-1", "lowerdir=/", "remount", "bind", "size=1mk"} {
		if got, err := ParseTmpfs("/run", options); err == nil {
			t.Errorf("%q is taken as %v", options, got.Options)
		}
	}
}

func TestFromMount(t *testing.T) {
	for name, c := range map[string]struct {
		m   mount.Mount
		err string
	}{
		"bind":                {mount.Mount{Type: "bind", Source: "/a", Target: "/b"}, ""},
		"bind without source": {mount.Mount{Type: "bind", Target: "/b"}, `invalid mount config for type "bind": field Source must not be empty`},
		"no target":           {mount.Mount{Type: "bind", Source: "/a"}, "field Target must not be empty"},
		"tmpfs with source":   {mount.Mount{Type: "tmpfs", Source: "/a", Target: "/b"}, "field Source must not be specified"},
		"foreign options":     {mount.Mount{Type: "tmpfs", Target: "/b", BindOptions: &mount.BindOptions{}}, "BindOptions must not be specified"},
		"subpath that leaves": {mount.Mount{Type: "volume", Source: "vv", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "a/../../b"}}, "subpath must be a relative path within the volume"},
		"image":               {mount.Mount{Type: "image", Source: "x", Target: "/b", ImageOptions: &mount.ImageOptions{Subpath: "a/b"}}, ""},
		"image without name":  {mount.Mount{Type: "image", Target: "/b"}, "field Source must not be empty"},
		"image, outside":      {mount.Mount{Type: "image", Source: "x", Target: "/b", ImageOptions: &mount.ImageOptions{Subpath: "../b"}}, "subpath must be a relative path"},
		"cluster":             {mount.Mount{Type: "cluster", Source: "x", Target: "/b"}, "does not mount this type"},
		"unknown":             {mount.Mount{Type: "floppy", Target: "/b"}, "mount type unknown"},
		"force without ro":    {mount.Mount{Type: "bind", Source: "/a", Target: "/b", BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}}, "must be set ReadOnly"},
	} {
		got, err := FromMount(c.m, "")
		if c.err == "" && (err != nil || got.Check() != nil) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := FromMount(mount.Mount{Type: "tmpfs", Target: "/b", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 4096, Mode: os.FileMode(0o1770)}}, "")
	if err != nil || !slices.Contains(got.Options, "size=4096") || !slices.Contains(got.Options, "mode=1770") {
		t.Errorf("tmpfs options are %v, %v", got.Options, err)
	}
}

func FuzzParseBind(f *testing.F) {
	for _, seed := range []string{"/a:/b:ro", "vol:/x", "/x", "::", "/a:/b:z,ro,rslave"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if p, err := ParseBind(raw, ""); err == nil {
			if err := p.Check(); err != nil {
				t.Errorf("%q is parsed to %+v, which is bad: %v", raw, p, err)
			}
		}
	})
}

func FuzzParseTmpfs(f *testing.F) {
	f.Add("/run", "size=64k,mode=1777,ro")
	f.Fuzz(func(t *testing.T, dest, options string) {
		p, err := ParseTmpfs(dest, options)
		if err != nil {
			return
		}
		if err := p.Check(); err != nil {
			t.Errorf("%q is parsed to %+v, which is bad: %v", dest, p, err)
		}
		again, err := mergeTmpfs(p.Options)
		if err != nil || !slices.Equal(again, p.Options) {
			t.Errorf("%q is not stable: %v, then %v, %v", options, p.Options, again, err)
		}
	})
}
