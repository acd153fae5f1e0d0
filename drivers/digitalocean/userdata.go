package digitalocean

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"os"
	"strings"

	"github.com/getberth/berth/drivers"
)

// maxUserdata is DigitalOcean's limit, in bytes.
const maxUserdata = 64 << 10

// readUserdata reads the user's file.
func readUserdata(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--digitalocean-userdata: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxUserdata+1))
	if err != nil {
		return nil, fmt.Errorf("--digitalocean-userdata: %w", err)
	}
	if len(data) > maxUserdata {
		return nil, fmt.Errorf("--digitalocean-userdata: %s has more than %d bytes", path, maxUserdata)
	}
	if _, _, err := partOf(data); err != nil {
		return nil, fmt.Errorf("--digitalocean-userdata: %s: %w", path, err)
	}
	return data, nil
}

// userdata is what cloud-init is given: the machine's host key and who is let in, and beside that whatever the user has.
func userdata(h *drivers.Host, w *wanted) (string, error) {
	config, err := ownConfig(h, w)
	if err != nil {
		return "", err
	}
	text := config
	if len(w.userdata) > 0 {
		if text, err = merge(w.userdata, config); err != nil {
			return "", fmt.Errorf("--digitalocean-userdata: %w", err)
		}
	}
	if len(text) > maxUserdata {
		return "", fmt.Errorf("--digitalocean-userdata: with berth's own part it has %d bytes; %d are allowed", len(text), maxUserdata)
	}
	return text, nil
}

// ownConfig is berth's cloud-config. It is JSON, which is YAML too and leaves no doubt about quotes. Where cloud-init merges it
// with the user's, lists are joined, and of two values the user's stays.
func ownConfig(h *drivers.Host, w *wanted) (string, error) {
	keys := []string{h.Keys.ClientPublic}
	if w.ownKey != "" {
		keys = append(keys, w.ownKey)
	}
	c := map[string]any{
		"merge_how":           "list(append)+dict(no_replace,recurse_list)+str()",
		"ssh_authorized_keys": keys,
		"ssh_deletekeys":      true,
	}
	if len(h.Keys.HostPrivate) > 0 {
		c["ssh_keys"] = map[string]string{"ed25519_private": string(h.Keys.HostPrivate), "ed25519_public": h.Keys.HostPublic}
	}
	if w.sshUser == "root" {
		c["disable_root"] = false
	}
	var b bytes.Buffer
	b.WriteString("#cloud-config\n")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(c)
	return b.String(), err
}

// merge makes one MIME document of the user's data and ours, which comes last. Boundaries are chosen by chance.
func merge(user []byte, own string) (string, error) {
	header, content, err := partOf(user)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=%q\r\n\r\n", m.Boundary())
	for _, p := range []struct {
		header  textproto.MIMEHeader
		content []byte
	}{
		{header, content},
		{typed("text/cloud-config"), []byte(own)},
	} {
		w, err := m.CreatePart(p.header)
		if err == nil {
			_, err = w.Write(p.content)
		}
		if err != nil {
			return "", err
		}
	}
	if err := m.Close(); err != nil {
		return "", err
	}
	return b.String(), nil
}

func typed(t string) textproto.MIMEHeader {
	return textproto.MIMEHeader{"Content-Type": {t + "; charset=\"utf-8\""}, "Mime-Version": {"1.0"}}
}

// beginnings are the first lines by which cloud-init knows what it is given, the longer ones first.
var beginnings = []struct{ prefix, kind string }{
	{"## template: jinja", "text/jinja2"},
	{"#cloud-config-archive", "text/cloud-config-archive"},
	{"#cloud-config-jsonp", "text/cloud-config-jsonp"},
	{"#cloud-config", "text/cloud-config"},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#include-once", "text/x-include-once-url"},
	{"#include", "text/x-include-url"},
	{"#part-handler", "text/part-handler"},
	{"#!", "text/x-shellscript"},
}

// setsHostKeys finds a cloud-config's own host keys, which would take the place of the one that berth expects.
func setsHostKeys(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		key, _, ok := strings.Cut(line, ":")
		key = strings.Trim(strings.TrimRight(key, " \t"), `"'`)
		if ok && (key == "ssh_keys" || key == "ssh_genkeytypes") {
			return true
		}
	}
	return false
}

// partOf says which part of a MIME document the user's data is.
func partOf(data []byte) (textproto.MIMEHeader, []byte, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return nil, nil, errors.New("it is compressed; give it as it is")
	}
	if setsHostKeys(data) {
		return nil, nil, errors.New("it sets the host's SSH keys, which are berth's to set: leave ssh_keys and ssh_genkeytypes out")
	}
	text := strings.TrimLeft(string(data), "\ufeff")
	for _, b := range beginnings {
		if strings.HasPrefix(strings.ToLower(text[:min(len(text), 32)]), b.prefix) {
			return typed(b.kind), []byte(text), nil
		}
	}
	return nested([]byte(text))
}

// nested takes what is a MIME document already.
func nested(data []byte) (textproto.MIMEHeader, []byte, error) {
	unknown := errors.New("its first line is none that cloud-init knows, such as #cloud-config or #!/bin/sh")
	head, content, ok := bytes.Cut(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	if !ok || !bytes.Contains(bytes.ToLower(head), []byte("content-type:")) {
		return nil, nil, unknown
	}
	for line := range strings.Lines(strings.ReplaceAll(string(head), "\n ", " ")) {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(strings.TrimSpace(name), "content-type") {
			value = strings.TrimSpace(value)
			if kind, p, err := mime.ParseMediaType(value); err == nil && strings.HasPrefix(kind, "multipart/") && p["boundary"] != "" {
				return textproto.MIMEHeader{"Content-Type": {value}, "Mime-Version": {"1.0"}}, content, nil
			}
		}
	}
	return nil, nil, unknown
}
