package digitalocean

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getberth/berth/drivers"
)

// parts are the parts of a MIME document, nested ones in their order, as cloud-init walks them.
func parts(t *testing.T, contentType string, body io.Reader) (kinds, texts []string) {
	t.Helper()
	kind, p, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		return []string{kind}, []string{string(text)}
	}
	r := multipart.NewReader(body, p["boundary"])
	for {
		part, err := r.NextPart()
		if err == io.EOF {
			return kinds, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		k, x := parts(t, part.Header.Get("Content-Type"), part)
		kinds, texts = append(kinds, k...), append(texts, x...)
	}
}

func TestUserdataIsMerged(t *testing.T) {
	h := &drivers.Host{Name: "web1", Keys: drivers.Keys{HostPrivate: []byte("-----BEGIN\nx\n-----END\n"), HostPublic: "ssh-ed25519 HOST", ClientPublic: "ssh-ed25519 CLIENT"}}
	nestedDoc := "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"==B==\"\n\n--==B==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--==B==\nContent-Type: text/cloud-config\n\n#cloud-config\n--==B==--\n"
	for text, want := range map[string][]string{
		"#cloud-config\nruncmd: [ls]\n":             {"text/cloud-config", "text/cloud-config"},
		"\ufeff#Cloud-Config\n":                     {"text/cloud-config", "text/cloud-config"},
		"#!/bin/sh\necho hello\n":                   {"text/x-shellscript", "text/cloud-config"},
		"#include\nhttps://example.com/x\n":         {"text/x-include-url", "text/cloud-config"},
		"## template: jinja\n#cloud-config\n":       {"text/jinja2", "text/cloud-config"},
		"#cloud-boothook\n#!/bin/sh\n":              {"text/cloud-boothook", "text/cloud-config"},
		nestedDoc:                                   {"text/x-shellscript", "text/cloud-config", "text/cloud-config"},
		strings.ReplaceAll(nestedDoc, "\n", "\r\n"): {"text/x-shellscript", "text/cloud-config", "text/cloud-config"},
	} {
		all, err := userdata(h, &wanted{sshUser: "root", ownKey: "ssh-ed25519 OWN", userdata: []byte(text)})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		m, err := mail.ReadMessage(strings.NewReader(all))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		kinds, texts := parts(t, m.Header.Get("Content-Type"), m.Body)
		if !slices.Equal(kinds, want) {
			t.Errorf("%q becomes %v", text, kinds)
			continue
		}
		if len(want) == 2 && texts[0] != strings.TrimPrefix(text, "\ufeff") {
			t.Errorf("%q has become %q", text, texts[0])
		}
		checkOwn(t, texts[len(texts)-1])
	}
	alone, err := userdata(h, &wanted{sshUser: "root", ownKey: "ssh-ed25519 OWN"})
	if err != nil {
		t.Fatal(err)
	}
	checkOwn(t, alone)
}

func checkOwn(t *testing.T, text string) {
	t.Helper()
	body, ok := strings.CutPrefix(text, "#cloud-config\n")
	var c struct {
		Authorized []string          `json:"ssh_authorized_keys"`
		Keys       map[string]string `json:"ssh_keys"`
		Root       *bool             `json:"disable_root"`
		How        string            `json:"merge_how"`
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil || !ok {
		t.Errorf("%q: %v", text, err)
		return
	}
	if !slices.Equal(c.Authorized, []string{"ssh-ed25519 CLIENT", "ssh-ed25519 OWN"}) || c.Keys["ed25519_private"] != "-----BEGIN\nx\n-----END\n" ||
		c.Keys["ed25519_public"] != "ssh-ed25519 HOST" || c.Root == nil || *c.Root || !strings.Contains(c.How, "list(append)") {
		t.Errorf("our part is %s", text)
	}
}

func TestUserdataIsRefused(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"\x1f\x8bxyz":                        "compressed",
		"hello":                              "first line",
		"":                                   "first line",
		"Content-Type: text/plain\n\nhello":  "first line",
		"#cloud-config\nssh_keys:\n  x: y\n": "ssh_keys",
		"#cloud-config\n\"ssh_keys\" :\n":    "ssh_keys",
		"#cloud-config\n" + strings.Repeat("#", maxUserdata): "more than",
	} {
		path := filepath.Join(dir, "u")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readUserdata(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--digitalocean-userdata") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if _, err := userdata(&drivers.Host{}, &wanted{userdata: []byte("#!" + strings.Repeat("x", maxUserdata-10))}); err == nil {
		t.Error("too much in all")
	}
}

func FuzzUserdata(f *testing.F) {
	f.Add([]byte("#cloud-config\nx: y\n"))
	f.Add([]byte("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B--\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := partOf(data); err != nil {
			return
		}
		text, err := merge(data, "#cloud-config\n{}\n")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mail.ReadMessage(strings.NewReader(text)); err != nil {
			t.Errorf("%q becomes no MIME document: %v", data, err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		after, left, reset string
		want               time.Duration
	}{
		{"7", "0", "1800000100", 7 * time.Second},
		{now.Add(90 * time.Second).UTC().Format(http.TimeFormat), "", "", 90 * time.Second},
		{"", "0", "1800000100", 100 * time.Second},
		{"", "17", "1800000100", time.Second},
		{"", "", "", time.Second},
		{"-5", "0", "garbage", time.Second},
		{"99999999999999999999", "", "", time.Second},
	} {
		h := http.Header{}
		h.Set("Retry-After", tt.after)
		h.Set("Ratelimit-Remaining", tt.left)
		h.Set("Ratelimit-Reset", tt.reset)
		if got := retryAfter(h, now, resetTime(h, now)); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestPaceSlowsDown: the fewer requests are left, the longer the wait; a hostile answer cannot make it endless.
func TestPaceSlowsDown(t *testing.T) {
	for _, tt := range []struct {
		status      int
		left, reset string
		least, most time.Duration
	}{
		{200, "4000", "3600", 0, 0},
		{200, "99", "1000", 9 * time.Second, 11 * time.Second},
		{200, "9", "600", 55 * time.Second, 61 * time.Second},
		{200, "0", "999999999", maxWait - time.Second, maxWait},
		{429, "0", "999999999", maxWait - time.Second, maxWait},
		{200, "-7", "10", 8 * time.Second, 10 * time.Second},
	} {
		p := newPace(1)
		h := http.Header{}
		h.Set("Ratelimit-Remaining", tt.left)
		d, _ := time.ParseDuration(tt.reset + "s")
		h.Set("Ratelimit-Reset", time.Now().Add(d).Format("20060102"))
		h.Set("Ratelimit-Reset", jsonNumber(time.Now().Add(d).Unix()))
		p.learn(&http.Response{StatusCode: tt.status, Header: h})
		wait := max(0, time.Until(p.until))
		if wait < tt.least || wait > tt.most {
			t.Errorf("%+v: %s", tt, wait)
		}
	}
}

func jsonNumber(n int64) string { b, _ := json.Marshal(n); return string(b) }

func TestPortsWithout(t *testing.T) {
	for _, tt := range []struct {
		ports []int
		want  string
	}{
		{[]int{22, 2376, 2377, 7946}, "1-21 23-2375 2378-7945 7947-65535"},
		{[]int{1, 3, 65535}, "2 4-65534"},
		{[]int{2376, 2376}, "1-2375 2377-65535"},
		{nil, "1-65535"},
	} {
		if got := strings.Join(without(tt.ports...), " "); got != tt.want {
			t.Errorf("%v: %q", tt.ports, got)
		}
	}
}

func TestNearest(t *testing.T) {
	all := []string{"nyc1", "nyc3", "ams3", "fra1"}
	if got := nearest("nyc2", all); got != "the nearest are nyc1, nyc3, ams3" {
		t.Error(got)
	}
	if got := nearest("x", nil); got != "there are none" {
		t.Error(got)
	}
	if d := distance("kitten", "sitting"); d != 3 {
		t.Errorf("kitten to sitting: %d", d)
	}
	if d := distance(strings.Repeat("a", 1<<20), ""); d != 64 {
		t.Errorf("a long one: %d", d)
	}
}

func TestPolicies(t *testing.T) {
	for text, ok := range map[string]bool{"daily@4": true, "weekly:Sun@20": true, "weekly@4": false, "daily:mon@4": false, "daily": false, "daily@5": false, "daily@24": false, "monthly@4": false, "weekly:xyz@4": false, "daily@": false} {
		if _, err := parsePolicy(text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSets(t *testing.T) {
	if !isUser("root") || !isUser("_a-1") || isUser("1a") || isUser("-a") || isUser("") || isUser("a b") || isUser(strings.Repeat("a", 33)) {
		t.Error("users")
	}
	if !isTag("a:b_C-1") || isTag("a b") || isTag("") || isTag("ä") {
		t.Error("tags")
	}
	if !isMD5("aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99") || isMD5("aa:bb") || isMD5(strings.Repeat("a:", 15)+"a") {
		t.Error("fingerprints")
	}
}

func TestURLs(t *testing.T) {
	for text, want := range map[string]string{"": DefaultURL, "http://127.0.0.1:1": "http://127.0.0.1:1/", "https://x/y/": "https://x/y/", "http://[::1]:1": "http://[::1]:1/"} {
		if got, err := parseURL(text); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"http://example.com", "ftp://127.0.0.1", "127.0.0.1", "https://", "https://u:p@x", "https://x?y", "http://127.0.0.1.example.com", "::"} {
		if got, err := parseURL(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// unreliable fails to connect, once or always, before it carries a request.
type unreliable struct {
	fails, sent int
}

func (u *unreliable) RoundTrip(req *http.Request) (*http.Response, error) {
	if u.fails--; u.fails >= 0 {
		return nil, &net.OpError{Op: "dial", Err: errors.New("no route")}
	}
	u.sent++
	return nil, &net.OpError{Op: "read", Err: errors.New("reset")}
}

// TestOnlyWhatWasNotSentIsSentAgain: a POST for which no connection came about may be tried again, one that was sent may not.
func TestOnlyWhatWasNotSentIsSentAgain(t *testing.T) {
	for _, tt := range []struct {
		method      string
		fails, sent int
	}{{"POST", 2, 1}, {"PUT", 0, 1}, {"POST", 99, 0}, {"GET", 2, maxTries - 2}, {"DELETE", 0, maxTries}} {
		u := &unreliable{fails: tt.fails}
		tr := &transport{base: u, backoff: time.Microsecond, limit: time.Second, pace: newPace(1000)}
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://127.0.0.1/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.RoundTrip(req); err == nil || u.sent != tt.sent {
			t.Errorf("%+v: sent %d times, %v", tt, u.sent, err)
		}
	}
}

func TestLongWaitsAreToldOnce(t *testing.T) {
	p, told := newPace(1000), 0
	p.until = time.Now().Add(time.Minute)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := p.wait(ctx, func(time.Time) { told++ }); err == nil {
			t.Error("it does not wait")
		}
		cancel()
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}
