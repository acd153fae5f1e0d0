package changes

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func config(change func(*dockerspec.DockerOCIImageConfig)) dockerspec.DockerOCIImageConfig {
	c := dockerspec.DockerOCIImageConfig{}
	if change != nil {
		change(&c)
	}
	return c
}

func TestApply(t *testing.T) {
	type C = dockerspec.DockerOCIImageConfig
	for _, tc := range []struct {
		from func(*C)
		do   string
		want func(*C)
	}{
		{nil, `CMD ["a", "b c"]`, func(c *C) { c.Cmd = []string{"a", "b c"} }},
		{nil, `cmd a b`, func(c *C) { c.Cmd = []string{"/bin/sh", "-c", "a b"} }},
		{func(c *C) { c.Shell = []string{"/bin/ash", "-ec"} }, `CMD a b`, func(c *C) {
			c.Shell, c.Cmd = []string{"/bin/ash", "-ec"}, []string{"/bin/ash", "-ec", "a b"}
		}},
		{func(c *C) { c.Cmd = []string{"old"} }, `ENTRYPOINT ["e"]`, func(c *C) { c.Entrypoint = []string{"e"} }},
		{func(c *C) { c.Cmd = []string{"old"} }, "CMD [\"new\"]\nENTRYPOINT [\"e\"]", func(c *C) {
			c.Entrypoint, c.Cmd = []string{"e"}, []string{"new"}
		}},
		{func(c *C) { c.Env = []string{"A=1", "B=2"} }, `ENV A=x C="d e" D=f\ g`, func(c *C) { c.Env = []string{"A=x", "B=2", "C=d e", "D=f g"} }},
		{nil, `ENV A some words`, func(c *C) { c.Env = []string{"A=some words"} }},
		{func(c *C) { c.Env = []string{"A=1"} }, `ENV B=$A C=${A}2 D=${X:-y} E=${A:+z} F='$A' G=\$A H="$A"`, func(c *C) {
			c.Env = []string{"A=1", "B=1", "C=12", "D=y", "E=z", "F=$A", "G=$A", "H=1"}
		}},
		{nil, `EXPOSE 80 53/udp 8000-8002/tcp`, func(c *C) {
			c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}
		}},
		{nil, `LABEL a=b "c d"="e f"`, func(c *C) { c.Labels = map[string]string{"a": "b", "c d": "e f"} }},
		{nil, `ONBUILD RUN x`, func(c *C) { c.OnBuild = []string{"RUN x"} }},
		{nil, `STOPSIGNAL SIGINT`, func(c *C) { c.StopSignal = "SIGINT" }},
		{nil, `USER me:us`, func(c *C) { c.User = "me:us" }},
		{nil, `VOLUME /a /b`, func(c *C) { c.Volumes = map[string]struct{}{"/a": {}, "/b": {}} }},
		{nil, `VOLUME ["/a b"]`, func(c *C) { c.Volumes = map[string]struct{}{"/a b": {}} }},
		{func(c *C) { c.WorkingDir = "/srv" }, `WORKDIR sub/../other`, func(c *C) { c.WorkingDir = "/srv/other" }},
		{nil, `HEALTHCHECK --interval=5s --retries=3 CMD curl x`, func(c *C) {
			c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "curl x"}, Interval: 5 * time.Second, Retries: 3}
		}},
		{nil, `HEALTHCHECK NONE`, func(c *C) { c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}} }},
		{nil, "# comment\n\nCMD a \\\n  b", func(c *C) { c.Cmd = []string{"/bin/sh", "-c", "a   b"} }},
	} {
		got, want := config(tc.from), config(tc.want)
		if err := Apply(&got, []string{tc.do}); err != nil {
			t.Errorf("%s: %v", tc.do, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", tc.do, d)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	for do, want := range map[string]string{
		"FROM scratch":                    "FROM is not a valid change command",
		"RUN x":                           "RUN is not a valid change command",
		"CMD":                             "CMD requires at least one argument",
		"ENV A":                           "must have two arguments",
		"ENV A=1 B":                       "can't find = in",
		`ENV A="x`:                        "matching double quote",
		"ENV =x":                          "names can not be blank",
		"ENV A=${B":                       "missing '}'",
		"ENV A=${B:?x}":                   "unsupported modifier",
		"EXPOSE 70000":                    "invalid containerPort",
		"EXPOSE 9-8":                      "invalid containerPort",
		"EXPOSE 80/icmp":                  "invalid proto",
		"ONBUILD FROM x":                  "FROM isn't allowed as an ONBUILD trigger",
		"STOPSIGNAL SIGNOTHING":           "SIGNOTHING",
		"USER a b":                        "exactly one argument",
		`VOLUME [""]`:                     "can not be an empty string",
		"HEALTHCHECK --every=1s CMD x":    "unknown flag: --every",
		"HEALTHCHECK --timeout=1ns CMD x": "at least 1ms",
		"HEALTHCHECK MAYBE":               "requires NONE",
	} {
		c := config(func(c *dockerspec.DockerOCIImageConfig) { c.Env = []string{"A=0"} })
		before := clone(c)
		err := Apply(&c, []string{"ENV A=changed", do})
		if err == nil || !strings.Contains(err.Error(), want) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v, want invalid with %q", do, err, want)
		}
		if d := cmp.Diff(before, c); d != "" {
			t.Errorf("%s: the configuration changed all the same:\n%s", do, d)
		}
	}
}

func TestVariablesCannotGrowWithoutEnd(t *testing.T) {
	lines := []string{"ENV A=0123456789"}
	for range 40 {
		lines = append(lines, "ENV A=$A$A$A$A")
	}
	c := config(nil)
	if err := Apply(&c, lines); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{
		`CMD ["a"]`, "ENV A=$B ${C:-d} 'x'", "EXPOSE 1-65535/tcp", "HEALTHCHECK --interval=1s CMD x", "WORKDIR ..", "LABEL \\", "VOLUME [",
		"ENV A=aaaaaaaaaa\nENV A=$A$A$A$A\nENV A=$A$A$A$A",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := config(nil)
		if err := Apply(&c, []string{text}); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v is not invalid-argument", err)
		}
	})
}
