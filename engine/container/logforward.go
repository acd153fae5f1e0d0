//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/getberth/berth/engine/logs"
)

// facilities are syslog's, each at its number (RFC 5424, section 6.2.1); unnamed ones are left out of Docker's list, too.
func facilities() []string {
	return []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "", "",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
}

const defaultFacility = 3 // daemon

func syslogFacility(value string) (int, error) {
	if value == "" {
		return defaultFacility, nil
	}
	if i := slices.Index(facilities(), value); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(value); err == nil && n >= 0 && n < len(facilities()) {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility")
}

func setSyslogFormat(f *logs.Forward, value string) error {
	if !slices.Contains([]string{"", "rfc3164", "rfc5424", "rfc5424micro"}, value) {
		return errors.New("Invalid syslog format")
	}
	f.Format = value
	return nil
}

// setSyslogAddress reads tcp://HOST[:PORT], udp://HOST[:PORT], unix:///PATH or unixgram:///PATH.
func setSyslogAddress(f *logs.Forward, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil {
		return err
	}
	f.Network = u.Scheme
	switch u.Scheme {
	case "unix", "unixgram":
		f.Address = u.Path
		if !path.IsAbs(u.Path) {
			return errors.New("the socket's path is not absolute")
		}
	case "tcp", "udp":
		port := u.Port()
		if port == "" {
			port = "514"
		}
		if u.Hostname() == "" {
			return errors.New("it names no host")
		}
		f.Address = net.JoinHostPort(u.Hostname(), port)
	case "tcp+tls":
		return errors.New("this engine speaks no TLS to syslog")
	default:
		return fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	return nil
}

// tagInfo is what the template of a log tag can use, by Docker's names.
type tagInfo struct {
	ContainerID, ContainerName, ContainerImageID, ContainerImageName, ContainerEntrypoint string
	ContainerArgs, ContainerEnv                                                           []string
	ContainerLabels                                                                       map[string]string
	ContainerCreated                                                                      time.Time
	DaemonName                                                                            string
}

func (t tagInfo) ID() string          { return shortID(t.ContainerID) }
func (t tagInfo) FullID() string      { return t.ContainerID }
func (t tagInfo) Name() string        { return strings.TrimPrefix(t.ContainerName, "/") }
func (t tagInfo) ImageFullID() string { return t.ContainerImageID }
func (t tagInfo) ImageID() string     { return shortID(strings.TrimPrefix(t.ContainerImageID, "sha256:")) }
func (t tagInfo) ImageName() string   { return t.ContainerImageName }
func (t tagInfo) Hostname() (string, error) {
	return os.Hostname()
}

// Command is the entrypoint with its arguments.
func (t tagInfo) Command() string {
	return strings.Join(append([]string{t.ContainerEntrypoint}, t.ContainerArgs...), " ")
}

// maxTag bounds what a template makes, in bytes.
const maxTag = 4096

// logTag fills a template in. Drivers that pass lines on have one by default, files have not.
func logTag(text, driver string, spec *Spec) (string, error) {
	if text == "" {
		if driver != "syslog" && driver != "journald" {
			return "", nil
		}
		text = "{{.ID}}"
	}
	t, err := template.New("log-tag").Funcs(tagFunctions()).Parse(text)
	if err != nil {
		return "", fmt.Errorf("log opt 'tag': %w", err)
	}
	if loops(t.Root) {
		return "", errors.New("log opt 'tag': loops are not supported")
	}
	if spec == nil {
		return "", nil
	}
	info := tagInfo{
		ContainerID: spec.ID, ContainerName: "/" + spec.Name, ContainerImageID: spec.ImageID, ContainerImageName: spec.Config.Image,
		ContainerEnv: spec.Config.Env, ContainerLabels: spec.Config.Labels, ContainerCreated: spec.Created, DaemonName: "docker",
	}
	if len(spec.Args) > 0 {
		info.ContainerEntrypoint, info.ContainerArgs = spec.Args[0], spec.Args[1:]
	}
	out := &boundedText{}
	if err := t.Execute(out, info); err != nil {
		return "", fmt.Errorf("log opt 'tag': %w", err)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f { // what would end a line or a field
			return -1
		}
		return r
	}, out.String()), nil
}

// loops finds what could keep a template running for long.
func loops(list *parse.ListNode) bool {
	return list != nil && slices.ContainsFunc(list.Nodes, func(n parse.Node) bool {
		switch n := n.(type) {
		case *parse.RangeNode, *parse.TemplateNode:
			return true
		case *parse.IfNode:
			return loops(n.List) || loops(n.ElseList)
		case *parse.WithNode:
			return loops(n.List) || loops(n.ElseList)
		}
		return false
	})
}

// tagFunctions are those that Docker's templates have.
func tagFunctions() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) string {
			data, _ := json.Marshal(v)
			return string(data)
		},
		"split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper,
		"truncate": func(s string, n int) string { return s[:max(0, min(n, len(s)))] },
	}
}

// boundedText is a string being made that must not be longer than maxTag.
type boundedText struct{ strings.Builder }

func (b *boundedText) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxTag {
		return 0, fmt.Errorf("it is longer than %d bytes", maxTag)
	}
	return b.Builder.Write(p)
}

// journalFields are those that Docker's driver sets for every message.
func journalFields(spec *Spec, tag string, attrs map[string]string) map[string]string {
	fields := map[string]string{
		"CONTAINER_ID": shortID(spec.ID), "CONTAINER_ID_FULL": spec.ID, "CONTAINER_NAME": spec.Name, "CONTAINER_TAG": tag,
		"IMAGE_NAME": spec.Config.Image, "SYSLOG_IDENTIFIER": tag, "CONTAINER_LOG_EPOCH": newID(),
	}
	for name, value := range attrs {
		if name = fieldName(name); name != "" {
			fields[name] = value
		}
	}
	return fields
}

// fieldName makes a name that the journal takes: upper case letters, digits and underscores, not beginning with one of the latter.
func fieldName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	return strings.TrimLeft(name, "_")
}
