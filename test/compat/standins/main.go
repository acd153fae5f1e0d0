// Command standins writes `docker load` archives of small images under the names that third-party suites expect, made of the
// host's static busybox: usage: standins DIR.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/getberth/berth/test/images"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: standins DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string) error {
	all, err := standIns()
	if err != nil {
		return err
	}
	for ref, img := range all {
		name := strings.NewReplacer("/", "_", ":", "_").Replace(ref) + ".tar"
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		err = images.WriteDockerArchive(f, ref, img)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// standIns are the images that moby's suite calls frozen.
func standIns() (map[string]v1.Image, error) {
	busybox, err := images.Busybox()
	if err != nil {
		return nil, err
	}
	all := map[string]v1.Image{
		"busybox:latest": busybox, "busybox:1.24": busybox, "busybox:glibc": busybox, "debian:trixie-slim": busybox, "alpine:latest": busybox,
	}
	web, err := webServer()
	if err != nil {
		return nil, err
	}
	all["nginx:alpine"], all["nginx:latest"] = web, web
	for ref, arch := range map[string]string{
		"hello-world:frozen": "amd64", "hello-world:amd64": "amd64", "hello-world:arm64": "arm64", "arm32v7/hello-world:latest": "arm",
	} {
		if all[ref], err = hello(arch); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// hello has one program, /hello, and nothing else, not even the folders that mounts need.
func hello(arch string) (v1.Image, error) {
	binary, err := os.ReadFile(images.BusyboxPath)
	if err != nil {
		return nil, err
	}
	return images.BuildFor(v1.Platform{OS: "linux", Architecture: arch},
		v1.Config{Cmd: []string{"/hello", "echo", "Hello from Docker!"}},
		images.Layer{CreatedBy: "COPY hello / # buildkit", Files: []images.File{{Name: "hello", Mode: 0o755, Body: string(binary)}}},
		images.Layer{CreatedBy: `CMD ["/hello"]`})
}

// webServer serves a page on port 80 as nginx would.
func webServer() (v1.Image, error) {
	binary, err := os.ReadFile(images.BusyboxPath)
	if err != nil {
		return nil, err
	}
	files := []images.File{
		{Name: "bin/"}, {Name: "bin/busybox", Mode: 0o755, Body: string(binary)}, {Name: "etc/"}, {Name: "tmp/", Mode: 0o1777},
		{Name: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\n"}, {Name: "etc/group", Body: "root:x:0:\n"},
		{Name: "usr/share/nginx/html/index.html", Body: "<h1>Welcome to nginx!</h1>\n"},
	}
	for _, applet := range []string{"sh", "httpd", "cat", "ls", "sleep", "wget", "ping", "echo", "env", "ps", "touch", "nslookup", "hostname"} {
		files = append(files, images.File{Name: "bin/" + applet, Link: "busybox"})
	}
	return images.Build(v1.Config{
		Cmd: []string{"httpd", "-f", "-h", "/usr/share/nginx/html", "-p", "80"}, Env: []string{"PATH=/bin"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}, images.Layer{CreatedBy: "ADD nginx / # buildkit", Files: files})
}
