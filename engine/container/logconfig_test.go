//go:build linux

package container

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func logSpec() *Spec {
	return &Spec{ID: strings.Repeat("ab", 32), Name: "web", ImageID: "sha256:" + strings.Repeat("cd", 32), Args: []string{"sh", "-c"}, Config: &container.Config{
		Image: "busybox", Labels: map[string]string{"a": "1", "b": "2", "x.y": "dotted"}, Env: []string{"X=3", "Y=4"}}}
}

func TestLogConfig(t *testing.T) {
	cfg := Config{LogDriver: "json-file", LogOpts: map[string]string{"max-size": "9k"}}
	config := func(driver string, options ...string) container.LogConfig {
		lc := container.LogConfig{Type: driver, Config: map[string]string{}}
		for i := 0; i+1 < len(options); i += 2 {
			lc.Config[options[i]] = options[i+1]
		}
		return lc
	}
	got, err := logConfig(cfg, config("json-file", "max-size", "1k", "max-file", "3", "labels", "a", "env-regex", "^X", "compress", "true", "tag", "{{.Name}}/{{.ID}}"),
		logSpec(), "/p")
	if err != nil || got.MaxSize != 1024 || got.MaxFile != 3 || !got.Compress || got.Attrs["a"] != "1" || got.Attrs["X"] != "3" ||
		got.Attrs["tag"] != "web/abababababab" || len(got.Attrs) != 3 || got.Buffer != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = logConfig(cfg, config("local", "mode", "non-blocking", "max-buffer-size", "2m"), logSpec(), "/p")
	if err != nil || got.MaxFile != 5 || !got.Compress || got.Buffer != 2<<20 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = logConfig(cfg, config("syslog", "syslog-address", "udp://[::1]", "syslog-facility", "local3", "syslog-format", "rfc5424", "cache-max-size", "1k"), logSpec(), "/p")
	f := got.Forward
	if err != nil || f == nil || f.Network != "udp" || f.Address != "[::1]:514" || f.Facility != 19 || f.Format != "rfc5424" || f.Tag != "abababababab" || got.MaxSize != 1024 || got.NoFile {
		t.Errorf("%+v, %+v, %v", got, f, err)
	}
	got, err = logConfig(cfg, config("journald", "tag", "{{upper .ImageName}}", "labels-regex", ".", "cache-disabled", "true"), logSpec(), "/p")
	if err != nil || !got.NoFile || got.Forward.Fields["CONTAINER_TAG"] != "BUSYBOX" || got.Forward.Fields["X_Y"] != "dotted" || got.Forward.Fields["IMAGE_NAME"] != "busybox" {
		t.Errorf("%+v, %+v, %v", got, got.Forward, err)
	}
	for want, lc := range map[string]container.LogConfig{
		"max-file cannot be set to more than 1":         config("json-file", "max-file", "2"),
		"max-file cannot be less than 1":                config("local", "max-file", "0"),
		"compress cannot be true when":                  config("json-file", "compress", "true"),
		"unknown log opt 'tag' for local":               config("local", "tag", "x"),
		"unknown log opt 'max-size' for syslog":         config("syslog", "max-size", "1k"),
		"syslog-tls-cert' is not supported":             config("syslog", "syslog-tls-cert", "/x"),
		"speaks no TLS":                                 config("syslog", "syslog-address", "tcp+tls://h:1"),
		"unsupported scheme: 'http'":                    config("syslog", "syslog-address", "http://h"),
		"it names no host":                              config("syslog", "syslog-address", "tcp://:1"),
		"invalid syslog facility":                       config("syslog", "syslog-facility", "24"),
		"Invalid syslog format":                         config("syslog", "syslog-format", "x"),
		"max-buffer-size option is only supported with": config("json-file", "max-buffer-size", "1m"),
		"error parsing option max-buffer-size":          config("json-file", "max-buffer-size", "0", "mode", "non-blocking"),
		"logging mode not supported: maybe":             config("json-file", "mode", "maybe"),
		"options are not supported with log driver":     config("none", "tag", "x"),
		"log opt 'tag': template":                       config("json-file", "tag", "{{.Nope}}"),
		"loops are not supported":                       config("journald", "tag", "{{with .ID}}{{range 9999999999}}{{end}}{{end}}"),
		"longer than 4096 bytes":                        config("json-file", "tag", `{{printf "%5000d" 1}}`),
		"invalid regular expression":                    config("json-file", "env-regex", "("),
	} {
		if got, err := logConfig(cfg, lc, logSpec(), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %+v, %v, want %q", lc, got, err, want)
		}
	}
}

// TestLogDefaults: clients send an empty driver with empty options for "as the engine has it".
func TestLogDefaults(t *testing.T) {
	cfg := Config{LogDriver: "json-file", LogOpts: map[string]string{"max-size": "9k", "max-file": "2"}}
	for own, want := range map[*container.LogConfig]container.LogConfig{
		{Config: map[string]string{}}:                                    {Type: "json-file", Config: map[string]string{"max-size": "9k", "max-file": "2"}},
		{Type: "json-file", Config: map[string]string{"max-size": "1k"}}: {Type: "json-file", Config: map[string]string{"max-size": "1k", "max-file": "2"}},
		{Type: "local"}: {Type: "local", Config: map[string]string{}},
	} {
		got := withLogDefaults(cfg, *own)
		if got.Type != want.Type || len(got.Config) != len(want.Config) || got.Config["max-size"] != want.Config["max-size"] {
			t.Errorf("%v: got %v, want %v", *own, got, want)
		}
	}
}

func FuzzLogTag(f *testing.F) {
	f.Add("{{.Name}}/{{.ID}} {{json .ContainerLabels}} {{truncate .FullID 3}}")
	f.Add("{{if .ID}}{{end}}{{with .Command}}{{.}}{{end}}")
	f.Fuzz(func(t *testing.T, text string) {
		tag, err := logTag(text, "json-file", logSpec())
		if err == nil && (len(tag) > maxTag || strings.ContainsAny(tag, "\n\r\x00")) {
			t.Errorf("%q makes %q", text, tag)
		}
	})
}
