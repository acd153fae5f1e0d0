package images

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BusyboxPath is where Debian's busybox-static puts its binary.
const BusyboxPath = "/bin/busybox"

// Busybox builds the image that tests call busybox:1.24: the host's static busybox with a link for each applet, the few files
// of /etc that programs look for, and a history of several layers.
func Busybox() (v1.Image, error) {
	binary, err := os.ReadFile(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("reading busybox (package busybox-static): %w", err)
	}
	return BusyboxFor(runtime.GOARCH, binary)
}

// BusyboxFor is Busybox for another processor, a GOARCH, of which it is given the binary; that must have the applets of the host's.
func BusyboxFor(arch string, binary []byte) (v1.Image, error) {
	links, err := appletLinks()
	if err != nil {
		return nil, err
	}
	return BuildFor(v1.Platform{OS: "linux", Architecture: arch}, v1.Config{Cmd: []string{"sh"}, Env: []string{DefaultPath}},
		Layer{CreatedBy: "ADD busybox-static / # buildkit", Files: append(skeleton(), File{Name: "bin/busybox", Mode: 0o755, Body: string(binary)})},
		Layer{CreatedBy: "COPY etc /etc # buildkit", Files: etcFiles()},
		Layer{CreatedBy: "RUN /bin/sh -c /bin/busybox --install -s # buildkit", Files: links},
		Layer{CreatedBy: `CMD ["sh"]`},
	)
}

// DefaultPath is the variable that says where these images have their programs.
const DefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func skeleton() []File {
	var files []File
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/spool"} {
		files = append(files, File{Name: dir + "/"})
	}
	return append(files,
		File{Name: "root/", Mode: 0o700},
		File{Name: "tmp/", Mode: 0o1777},
		File{Name: "var/tmp/", Mode: 0o1777},
		File{Name: "var/www/", UID: 33, GID: 33},
	)
}

func etcFiles() []File {
	return []File{
		{Name: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\n" +
			"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n" +
			"bin:x:2:2:bin:/bin:/bin/false\n" +
			"sys:x:3:3:sys:/dev:/bin/false\n" +
			"mail:x:8:8:mail:/var/spool/mail:/bin/false\n" +
			"www-data:x:33:33:www-data:/var/www:/bin/false\n" +
			"operator:x:37:37:Operator:/var:/bin/false\n" +
			"nobody:x:65534:65534:nobody:/home:/bin/false\n"},
		{Name: "etc/group", Body: "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:root\n" +
			"mail:x:8:\nwww-data:x:33:\naudio:x:29:\nstaff:x:50:\nusers:x:100:\nnobody:x:65534:\n"},
		{Name: "etc/shadow", Mode: 0o640, Body: "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"},
		{Name: "etc/nsswitch.conf", Body: "passwd: files\ngroup: files\nhosts: files dns\n"},
		{Name: "etc/network/"},
	}
}

// appletLinks asks busybox where its applets belong.
func appletLinks() ([]File, error) {
	out, err := exec.Command(BusyboxPath, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list-full: %w", BusyboxPath, err)
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	var files []File
	for _, name := range slices.Compact(names) {
		if name == "bin/busybox" || strings.Contains(name, "..") {
			continue
		}
		files = append(files, File{Name: name, Link: "/bin/busybox"})
	}
	return files, nil
}
