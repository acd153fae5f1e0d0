// Package changes applies Dockerfile instructions to the configuration of an image, for `docker commit --change` and
// `docker import --change`.
package changes

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// maxPorts bounds the ports of one EXPOSE: what a range can name.
const maxPorts = 65536

// Apply changes c by instructions, one or more lines each. Known are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
// STOPSIGNAL, USER, VOLUME and WORKDIR. On an error, which is errdefs.ErrInvalidArgument, c is not changed.
func Apply(c *dockerspec.DockerOCIImageConfig, instructions []string) error {
	a := &applier{c: clone(*c)}
	for _, text := range instructions {
		for _, line := range logicalLines(text) {
			if err := a.apply(line); err != nil {
				return err
			}
		}
	}
	*c = a.c
	return nil
}

// clone copies what the instructions change.
func clone(c dockerspec.DockerOCIImageConfig) dockerspec.DockerOCIImageConfig {
	c.Env = slices.Clone(c.Env)
	c.OnBuild = slices.Clone(c.OnBuild)
	c.Labels = maps.Clone(c.Labels)
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Volumes = maps.Clone(c.Volumes)
	return c
}

// logicalLines joins lines that end in a backslash, and drops comments and empty ones.
func logicalLines(text string) []string {
	var lines []string
	var current strings.Builder
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if trimmed := strings.TrimSpace(line); trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		if joined, ok := strings.CutSuffix(line, `\`); ok {
			current.WriteString(joined)
			continue
		}
		current.WriteString(line)
		lines = append(lines, strings.TrimSpace(current.String()))
		current.Reset()
	}
	if current.Len() > 0 {
		lines = append(lines, strings.TrimSpace(current.String()))
	}
	return lines
}

type applier struct {
	c      dockerspec.DockerOCIImageConfig
	cmdSet bool // by one of the instructions
}

func (a *applier) apply(line string) error {
	name, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	rest = strings.TrimSpace(rest)
	name = strings.ToUpper(name)
	run := a.instruction(name)
	if run == nil {
		return invalid("%s is not a valid change command", name)
	}
	if rest == "" {
		return invalid("%s requires at least one argument", name)
	}
	if err := run(rest); err != nil {
		return invalid("%s %s: %v", name, rest, err)
	}
	if a.size() > maxExpanded {
		return invalid("%s: the environment and labels are longer than %d bytes", name, maxExpanded)
	}
	return nil
}

// size is what the parts of the configuration take that can be made of others, in bytes.
func (a *applier) size() (n int) {
	for _, e := range a.c.Env {
		n += len(e)
	}
	for k, v := range a.c.Labels {
		n += len(k) + len(v)
	}
	return n
}

func (a *applier) instruction(name string) func(string) error {
	switch name {
	case "CMD":
		return a.cmd
	case "ENTRYPOINT":
		return a.entrypoint
	case "ENV":
		return a.env
	case "EXPOSE":
		return a.expose
	case "HEALTHCHECK":
		return a.healthcheck
	case "LABEL":
		return a.label
	case "ONBUILD":
		return a.onBuild
	case "STOPSIGNAL":
		return a.stopSignal
	case "USER":
		return a.user
	case "VOLUME":
		return a.volume
	case "WORKDIR":
		return a.workDir
	}
	return nil
}

func (a *applier) cmd(rest string) error {
	a.c.Cmd, a.cmdSet = a.command(rest), true
	return nil
}

// entrypoint also ends a command that was meant for another one.
func (a *applier) entrypoint(rest string) error {
	a.c.Entrypoint = a.command(rest)
	if !a.cmdSet {
		a.c.Cmd = nil
	}
	return nil
}

// command is a JSON list of arguments, or anything else for the shell.
func (a *applier) command(rest string) []string {
	if args, ok := jsonList(rest); ok {
		return args
	}
	shell := a.c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), rest)
}

func jsonList(text string) ([]string, bool) {
	if !strings.HasPrefix(text, "[") {
		return nil, false
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, false
	}
	return list, true
}

func (a *applier) env(rest string) error {
	pairs, err := a.pairs(rest)
	for _, p := range pairs {
		a.c.Env = setEnv(a.c.Env, p.key, p.value)
	}
	return err
}

func setEnv(env []string, key, value string) []string {
	for i, e := range env {
		if k, _, _ := strings.Cut(e, "="); k == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

func (a *applier) label(rest string) error {
	pairs, err := a.pairs(rest)
	if len(pairs) > 0 && a.c.Labels == nil {
		a.c.Labels = map[string]string{}
	}
	for _, p := range pairs {
		a.c.Labels[p.key] = p.value
	}
	return err
}

func (a *applier) expose(rest string) error {
	words, err := a.words(rest)
	if err != nil {
		return err
	}
	if a.c.ExposedPorts == nil {
		a.c.ExposedPorts = map[string]struct{}{}
	}
	for _, w := range words {
		first, last, proto, err := portRange(w)
		if err != nil {
			return err
		}
		for p := first; p <= last && len(a.c.ExposedPorts) < maxPorts; p++ {
			a.c.ExposedPorts[strconv.Itoa(p)+"/"+proto] = struct{}{}
		}
	}
	return nil
}

func portRange(text string) (first, last int, proto string, err error) {
	ports, proto, ok := strings.Cut(text, "/")
	if !ok {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return 0, 0, "", fmt.Errorf("invalid proto: %q", proto)
	}
	from, to, ok := strings.Cut(ports, "-")
	if !ok {
		to = from
	}
	low, err1 := strconv.ParseUint(from, 10, 16)
	high, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || low > high {
		return 0, 0, "", fmt.Errorf("invalid containerPort: %q", ports)
	}
	return int(low), int(high), proto, nil
}

func (a *applier) onBuild(rest string) error {
	name, _, _ := strings.Cut(rest, " ")
	switch strings.ToUpper(name) {
	case "ONBUILD":
		return fmt.Errorf("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(name))
	}
	a.c.OnBuild = append(a.c.OnBuild, rest)
	return nil
}

func (a *applier) stopSignal(rest string) error {
	word, err := a.word(rest)
	if err != nil {
		return err
	}
	if _, err := signal.ParseSignal(word); err != nil {
		return err
	}
	a.c.StopSignal = word
	return nil
}

func (a *applier) user(rest string) (err error) {
	a.c.User, err = a.word(rest)
	return err
}

func (a *applier) workDir(rest string) error {
	dir, err := a.word(rest)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", a.c.WorkingDir, dir)
	}
	a.c.WorkingDir = path.Clean(dir)
	return nil
}

func (a *applier) volume(rest string) error {
	list, ok := jsonList(rest)
	if !ok {
		var err error
		if list, err = a.words(rest); err != nil {
			return err
		}
	}
	for _, v := range list {
		if strings.TrimSpace(v) == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		if a.c.Volumes == nil {
			a.c.Volumes = map[string]struct{}{}
		}
		a.c.Volumes[v] = struct{}{}
	}
	return nil
}

func (a *applier) healthcheck(rest string) error {
	h := &dockerspec.HealthcheckConfig{}
	for strings.HasPrefix(rest, "--") {
		var flag string
		flag, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
		if err := setHealthFlag(h, flag); err != nil {
			return err
		}
	}
	kind, command, _ := strings.Cut(rest, " ")
	command = strings.TrimSpace(command)
	switch kind = strings.ToUpper(kind); {
	case kind == "NONE" && command == "":
		h.Test = []string{"NONE"}
	case kind == "CMD" && command != "":
		if args, ok := jsonList(command); ok {
			h.Test = append([]string{"CMD"}, args...)
		} else {
			h.Test = []string{"CMD-SHELL", command}
		}
	default:
		return fmt.Errorf("requires NONE, or CMD and a command")
	}
	a.c.Healthcheck = h
	return nil
}

func setHealthFlag(h *dockerspec.HealthcheckConfig, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	if name == "--retries" {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("%s: invalid number %q", name, value)
		}
		h.Retries = int(n)
		return nil
	}
	targets := map[string]*time.Duration{
		"--interval": &h.Interval, "--timeout": &h.Timeout, "--start-period": &h.StartPeriod, "--start-interval": &h.StartInterval,
	}
	target, ok := targets[name]
	if !ok {
		return fmt.Errorf("unknown flag: %s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > 0 && d < time.Millisecond {
		return fmt.Errorf("%s: invalid duration %q (at least 1ms)", name, value)
	}
	*target = d
	return nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
