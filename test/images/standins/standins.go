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
		"nginx:alpine": webServer, "nginx:latest": webServer, "nginx:mainline": webServer,
		"bash:5.2.26": bash, "redis:latest": redis,
		"hello-world:frozen": hello("amd64"), "hello-world:amd64": hello("amd64"), "hello-world:arm64": hello("arm64"),
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

// webServer serves a page on port 80 as nginx would.
func webServer() (v1.Image, error) {
	base, err := images.Busybox()
	if err != nil {
		return nil, err
	}
	return images.Extend(base, v1.Config{
		Cmd: []string{"httpd", "-f", "-h", "/usr/share/nginx/html", "-p", "80"}, Env: []string{images.DefaultPath},
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}, images.Layer{CreatedBy: "ADD nginx / # buildkit", Files: []images.File{
		{Name: "usr/share/nginx/html/index.html", Body: "<h1>Welcome to nginx!</h1>\n"}, {Name: "etc/nginx/"}, {Name: "etc/nginx/conf.d/"},
	}})
}

// bash has busybox's shell under the name of the other: the suites run plain commands in it.
func bash() (v1.Image, error) {
	base, err := images.Busybox()
	if err != nil {
		return nil, err
	}
	return images.Extend(base, v1.Config{Cmd: []string{"bash"}, Env: []string{images.DefaultPath}},
		images.Layer{CreatedBy: "ADD bash / # buildkit", Files: []images.File{{Name: "usr/local/bin/"}, {Name: "usr/local/bin/bash", Link: "/bin/ash"}}})
}

// redis answers every line on its port with an error, which shows that it is there, after the log line by which clients know it.
func redis() (v1.Image, error) {
	base, err := images.Busybox()
	if err != nil {
		return nil, err
	}
	const script = "#!/bin/sh\necho '* Ready to accept connections tcp'\nexec nc -ll -p 6379 -e /bin/cat\n"
	return images.Extend(base, v1.Config{
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"}, Env: []string{images.DefaultPath},
		ExposedPorts: map[string]struct{}{"6379/tcp": {}},
	}, images.Layer{CreatedBy: "ADD redis / # buildkit", Files: []images.File{
		{Name: "usr/local/bin/"}, {Name: "usr/local/bin/docker-entrypoint.sh", Mode: 0o755, Body: script}, {Name: "usr/local/bin/redis-server", Link: "docker-entrypoint.sh"},
	}})
}
