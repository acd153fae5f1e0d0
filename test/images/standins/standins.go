// Package standins makes images that answer to the names which third-party suites expect, from Debian's packages, so that these
// suites run without the internet. What a suite looks at is there: a shell and its tools, a web server's page, a port that
// answers.
package standins

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/getberth/berth/test/images"
)

// Make makes the image that stands in for a name such as "busybox:latest".
func Make(ref string) (v1.Image, error) {
	makers := map[string]func() (v1.Image, error){
		"busybox:latest": images.Busybox, "busybox:1.24": images.Busybox, "busybox:glibc": images.Busybox, "busybox:frozen": images.Busybox,
		"debian:trixie-slim": images.Busybox, "alpine:latest": images.Busybox, "alpine:frozen": images.Busybox, "alpine:3.23": images.Busybox,
		"nginx:alpine": webServer(0), "nginx:latest": webServer(0), "nginx:mainline": webServer(0), "menedev/delayed-nginx:1.15.2": webServer(2),
		"bash:5.2.26": bash, "alpine/socat:latest": udpEcho,
		"redis:latest":       service("* Ready to accept connections tcp", 6379),
		"mysql:8.0.36":       service("port: 3306  MySQL Community Server - GPL", 3306),
		"hello-world:frozen": hello("amd64"), "hello-world:latest": hello("amd64"), "hello-world:amd64": hello("amd64"), "hello-world:arm64": hello("arm64"),
		"arm32v7/hello-world:latest": hello("arm"),
	}
	maker := makers[ref]
	if maker == nil {
		return nil, fmt.Errorf("nothing stands in for the image %s", ref)
	}
	img, err := maker()
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", ref, err)
	}
	return img, nil
}

// Write writes `docker load` archives of images into a folder, and returns their paths.
func Write(dir string, refs ...string) ([]string, error) {
	var paths []string
	for _, ref := range refs {
		path := filepath.Join(dir, strings.NewReplacer("/", "_", ":", "_").Replace(ref)+".tar")
		if err := writeArchive(path, ref); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func writeArchive(path, ref string) error {
	img, err := Make(ref)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = images.WriteDockerArchive(f, ref, img)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// hello has one program, /hello, and nothing else, not even the folders that mounts need.
func hello(arch string) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		binary, err := os.ReadFile(images.BusyboxPath)
		if err != nil {
			return nil, err
		}
		return images.BuildFor(v1.Platform{OS: "linux", Architecture: arch},
			v1.Config{Cmd: []string{"/hello", "echo", "Hello from Docker!"}},
			images.Layer{CreatedBy: "COPY hello / # buildkit", Files: []images.File{{Name: "hello", Mode: 0o755, Body: string(binary)}}},
			images.Layer{CreatedBy: `CMD ["/hello"]`})
	}
}

// onBusybox adds a few files to busybox. Its programs do not handle signals as the first process, so that the image asks for the one
// that cannot be handled.
func onBusybox(c v1.Config, files ...images.File) (v1.Image, error) {
	base, err := images.Busybox()
	if err != nil {
		return nil, err
	}
	c.Env, c.StopSignal = []string{images.DefaultPath}, "SIGKILL"
	files = append(files, images.File{Name: "usr/local/bin/"}, images.File{Name: "usr/local/bin/bash", Link: "/bin/ash"})
	return images.Extend(base, c, images.Layer{CreatedBy: "ADD stand-in / # buildkit", Files: files})
}

// webServer serves a page on port 80 as nginx would, after some seconds.
func webServer(delay int) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		return onBusybox(v1.Config{
			Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: ports("80/tcp"),
		},
			images.File{Name: "docker-entrypoint.sh", Mode: 0o755, Body: "#!/bin/sh\n[ \"$1\" = nginx ] || exec \"$@\"\n" +
				fmt.Sprintf("sleep %d\n", delay) + "exec httpd -f -h /usr/share/nginx/html -p 80\n"},
			images.File{Name: "usr/share/nginx/html/index.html", Body: "<h1>Welcome to nginx!</h1>\n"},
			images.File{Name: "etc/nginx/"}, images.File{Name: "etc/nginx/conf.d/"}, images.File{Name: "var/log/nginx/"},
			images.File{Name: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101:nginx:/nonexistent:/bin/false\n"},
			images.File{Name: "etc/group", Body: "root:x:0:\nnginx:x:101:\n"})
	}
}

func bash() (v1.Image, error) { return onBusybox(v1.Config{Cmd: []string{"bash"}}) }

// service says on its output that it is ready, as clients wait for it, and listens on a port, where it repeats what it is sent.
func service(ready string, port int) func() (v1.Image, error) {
	return func() (v1.Image, error) {
		script := fmt.Sprintf("#!/bin/sh\necho '%s'\nexec nc -ll -p %d -e /bin/cat\n", ready, port)
		return onBusybox(v1.Config{Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"server"}, ExposedPorts: ports(fmt.Sprint(port, "/tcp"))},
			images.File{Name: "usr/local/bin/"}, images.File{Name: "usr/local/bin/docker-entrypoint.sh", Mode: 0o755, Body: script})
	}
}

// udpEcho is what testcontainers has socat do.
func udpEcho() (v1.Image, error) {
	return onBusybox(v1.Config{Entrypoint: []string{"/socat"}},
		images.File{Name: "socat", Mode: 0o755, Body: "#!/bin/sh\nexec udpsvd -h 0 8080 /bin/cat\n"})
}

func ports(list ...string) map[string]struct{} {
	all := map[string]struct{}{}
	for _, p := range list {
		all[p] = struct{}{}
	}
	return all
}
