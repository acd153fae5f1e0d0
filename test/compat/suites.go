package main

import "slices"

// module is a Go module whose tests are run, out of a copy of its folder: tests write next to themselves.
type module struct {
	name    string // of the copy
	path    string
	version string
	prepare func(dir string) error // makes the copy build; may be nil
}

// suite is one package of tests.
type suite struct {
	name   string // and of its lists, without their endings
	module module
	pkg    string   // below the module's root
	images []string // loaded before
	env    []string
	ci     bool // part of the subset for each change
	// registries of docker/cli's suite are served meanwhile: an open one, one that asks for a password, and one with TLS as well.
	registries bool
	clients    bool // needs that suite's own docker client and plugins
}

func suites() []suite {
	moby := module{name: "moby", path: "github.com/moby/moby/v2", version: "v2.0.0-beta.24"}
	cli := module{name: "cli", path: "github.com/docker/cli", version: "v29.9.3+incompatible", prepare: prepareCLI}
	containers := module{name: "testcontainers", path: "github.com/testcontainers/testcontainers-go", version: "v0.45.0"}
	frozen := []string{
		"busybox:latest", "busybox:glibc", "debian:trixie-slim", "hello-world:frozen", "hello-world:amd64", "hello-world:arm64",
		"arm32v7/hello-world:latest",
	}
	var all []suite
	for _, pkg := range []string{"container", "image", "system", "session", "volume"} {
		all = append(all, suite{
			name: "moby/" + pkg, module: moby, pkg: "integration/" + pkg, images: frozen, ci: pkg != "container",
			env: []string{"DOCKER_REMOTE_DAEMON=1"},
		})
	}
	for _, pkg := range []string{"cli-plugins", "container", "context", "global", "image", "plugin", "registry", "stack", "system"} {
		all = append(all, suite{
			name: "cli/" + pkg, module: cli, pkg: "e2e/" + pkg, ci: slices.Contains([]string{"container", "image", "registry", "system"}, pkg),
			env: []string{"TEST_REMOTE_DAEMON=1", "TEST_SKIP_PLUGIN_TESTS=1"}, registries: true, clients: true,
		})
	}
	return append(all, suite{
		name: "testcontainers/root", module: containers, pkg: ".",
		env: []string{"TESTCONTAINERS_RYUK_DISABLED=true"},
		images: []string{
			"alpine:latest", "alpine:3.23", "nginx:alpine", "nginx:latest", "nginx:mainline", "bash:5.2.26", "redis:latest", "busybox:latest",
			"menedev/delayed-nginx:1.15.2", "mysql:8.0.36", "hello-world:latest", "alpine/socat:latest",
		},
	})
}

// choose picks suites by name, or by the beginning of one up to a slash; without names, all.
func choose(all []suite, names []string, ci bool) []suite {
	return slices.DeleteFunc(slices.Clone(all), func(s suite) bool {
		group, _, _ := cutLast(s.name)
		return ci && !s.ci || len(names) > 0 && !slices.Contains(names, s.name) && !slices.Contains(names, group)
	})
}
