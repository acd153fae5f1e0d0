package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	ctr "github.com/getberth/berth/engine/container"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestPing(t *testing.T) {
	e := newEngine(t)
	for _, method := range []string{"GET", "HEAD"} {
		res := e.send(t, method, "/_ping", "")
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := map[string]string{"GET": "OK"}[method]; string(body) != want || res.StatusCode != 200 {
			t.Errorf("%s: %d %q", method, res.StatusCode, body)
		}
		for name, want := range map[string]string{
			"Api-Version": "1.56", "Ostype": "linux", "Docker-Experimental": "false", "Swarm": "inactive",
			"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", method, name, got)
			}
		}
		if method == "HEAD" && res.ContentLength != 0 {
			t.Errorf("HEAD has a length of %d", res.ContentLength)
		}
	}
}

func TestVersions(t *testing.T) {
	e := newEngine(t)
	for _, test := range []struct {
		path, want string
		status     int
	}{
		{"/version", `"Version":"1"`, 200},
		{"/v1.24/version", `"Version":"1"`, 200},
		{"/v1.56/version", `"Version":"1"`, 200},
		{"/v1.99/version", `{"message":"client version 1.99 is too new. Maximum supported API version is 1.56"}`, 400},
		{"/v2.0/version", `client version 2.0 is too new`, 400},
		{"/v1.23/version", `client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version`, 400},
		{"/v1./version", `invalid API version`, 400},
		{"/v1.2.3/version", `invalid API version`, 400},
		{"/v1.99999999999999999999/version", `invalid API version`, 400},
		{"/vx/version", `{"message":"page not found"}`, 404},
		{"/v1.40/nothing", `{"message":"page not found"}`, 404},
		{"/", `{"message":"page not found"}`, 404},
		{"/v1.24/system/df", `requires API version 1.25`, 400},
	} {
		status, body := e.do(t, "GET", test.path, "")
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s", test.path, status, body)
		}
	}
	if status, body := e.do(t, "PATCH", "/version", ""); status != 404 {
		t.Errorf("PATCH: %d %s", status, body)
	}
}

func TestStatusOfErrors(t *testing.T) {
	e := newEngine(t)
	for _, test := range []struct {
		err    error
		status int
		text   string
	}{
		{errdefs.ErrNotFound.WithMessage("No such container: x"), 404, "No such container: x"},
		{errdefs.ErrInvalidArgument.WithMessage("bad"), 400, "bad"},
		{errdefs.ErrConflict.WithMessage("in use"), 409, "in use"},
		{errdefs.ErrAlreadyExists.WithMessage("there"), 409, "there"},
		{errdefs.ErrNotImplemented.WithMessage("no"), 501, "no"},
		{errdefs.ErrUnavailable.WithMessage("later"), 503, "later"},
		{errdefs.ErrPermissionDenied.WithMessage("denied"), 403, "denied"},
		{errdefs.ErrUnauthenticated.WithMessage("who"), 401, "who"},
		{errdefs.ErrNotModified, 304, ""},
		{fmt.Errorf("starting x: %w", errdefs.ErrNotFound.WithMessage("image gone")), 404, "starting x: image gone"},
		{errors.New("disk full"), 500, "disk full"},
	} {
		e.containers.start = func(string) error { return test.err }
		status, body := e.do(t, "POST", "/containers/x/start", "")
		var answer struct{ Message string }
		_ = json.Unmarshal([]byte(body), &answer)
		if status != test.status || answer.Message != test.text {
			t.Errorf("%v: %d %s", test.err, status, body)
		}
	}
}

func TestPanicIsOneRequestsOwn(t *testing.T) {
	e := newEngine(t)
	e.containers.start = func(string) error { panic("boom") }
	if status, body := e.do(t, "POST", "/containers/x/start", ""); status != 500 || !strings.Contains(body, "boom") {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(e.log.String(), "server_test.go") {
		t.Error("the log does not say where")
	}
	if status, _ := e.do(t, "GET", "/_ping", ""); status != 200 {
		t.Error("the server has gone")
	}
}

func TestBodies(t *testing.T) {
	e := newEngine(t)
	e.containers.create = func(string, container.CreateRequest, *platform) (container.CreateResponse, error) {
		return container.CreateResponse{ID: "1"}, nil
	}
	for _, test := range []struct {
		name, body, media string
		status            int
		want              string
	}{
		{"good", `{"Image":"a"}`, "application/json; charset=utf-8", 201, `{"Id":"1","Warnings":[]}`},
		{"wrong type", `{"Image":1}`, "application/json", 400, "cannot unmarshal number into Go struct field"},
		{"wrong type inside", `{"Image":"a","HostConfig":{"Memory":"1g"}}`, "application/json", 400, "Memory of type int64"},
		{"not an object", `[]`, "application/json", 400, "invalid JSON"},
		{"cut off", `{"Image":"a"`, "application/json", 400, "invalid JSON: unexpected EOF"},
		{"more", `{"Image":"a"} {}`, "application/json", 400, "unexpected content after JSON"},
		{"nothing", ``, "application/json", 400, "invalid JSON: EOF"},
		{"null", `null`, "application/json", 400, "config cannot be empty"},
		{"text", `{"Image":"a"}`, "text/plain", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"no type", `{"Image":"a"}`, "", 400, "malformed Content-Type"},
		{"large", `{"Image":"` + strings.Repeat("a", maxJSON) + `"}`, "application/json", 413, "longer than"},
		{"deep", strings.Repeat(`{"HostConfig":`, 20000), "application/json", 400, "invalid JSON"},
	} {
		status, body := e.do(t, "POST", "/containers/create", test.body, "Content-Type", test.media)
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %.200s", test.name, status, body)
		}
	}
}

// A client that dies in the middle of its body costs nothing.
func TestBodyCutOffByTheConnection(t *testing.T) {
	e := newEngine(t)
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Image\"")
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	if !bytes.Contains(answer, []byte(" 400 ")) || !bytes.Contains(answer, []byte("unexpected EOF")) {
		t.Errorf("got %s", answer)
	}
}

func TestListsAreNotNull(t *testing.T) {
	e := newEngine(t)
	e.containers.list = func(ctr.ListOptions) ([]container.Summary, error) { return nil, nil }
	for _, path := range []string{"/containers/json", "/networks", "/plugins"} {
		if status, body := e.do(t, "GET", path, ""); status != 200 || body != "[]" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if _, body := e.do(t, "GET", "/volumes", ""); !strings.Contains(body, `"Volumes":[]`) {
		t.Error(body)
	}
	e.containers.list = func(ctr.ListOptions) ([]container.Summary, error) { return []container.Summary{{ID: "1"}}, nil }
	if _, body := e.do(t, "GET", "/containers/json", ""); !strings.Contains(body, `"Ports":[]`) || !strings.Contains(body, `"Mounts":[]`) {
		t.Error(body)
	}
}

func TestQueries(t *testing.T) {
	e := newEngine(t)
	var got ctr.ListOptions
	e.containers.list = func(o ctr.ListOptions) ([]container.Summary, error) { got = o; return nil, nil }
	e.do(t, "GET", `/containers/json?all=True&limit=3&size=0&filters={"status":["exited"]}`, "")
	if !got.All || got.Limit != 3 || got.Size || !got.Filters.Has("status") {
		t.Errorf("got %+v", got)
	}
	e.do(t, "GET", `/containers/json?limit=-1`, "")
	if got.Limit != 0 {
		t.Errorf("got %+v", got)
	}
	for _, path := range []string{"/containers/json?limit=x", "/containers/json?filters={", "/containers/json?a=%zz", "/events?since=x"} {
		if status, body := e.do(t, "GET", path, ""); status != 400 || !strings.HasPrefix(body, `{"message":"`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	var stop ctr.StopOptions
	e.containers.stop = func(_ string, o ctr.StopOptions) error { stop = o; return nil }
	for query, want := range map[string]int{"t=0": 0, "t=-1": -1, "t=7&signal=INT": 7} {
		if status, _ := e.do(t, "POST", "/containers/x/stop?"+query, ""); status != 204 || *stop.Timeout != want {
			t.Errorf("%s: %+v", query, stop)
		}
	}
	e.do(t, "POST", "/containers/x/stop", "")
	if stop.Timeout != nil {
		t.Error("no timeout is 0")
	}
	if status, _ := e.do(t, "POST", "/containers/x/resize?h=70000&w=1", ""); status != 400 {
		t.Error("a terminal of 70000 lines")
	}
}

// Old SDKs send parameters in the body.
func TestForm(t *testing.T) {
	e := newEngine(t)
	var stop ctr.StopOptions
	e.containers.stop = func(_ string, o ctr.StopOptions) error { stop = o; return nil }
	e.do(t, "POST", "/containers/x/stop", "t=5", "Content-Type", "application/x-www-form-urlencoded")
	if stop.Timeout == nil || *stop.Timeout != 5 {
		t.Errorf("got %+v", stop)
	}
}

func TestNamesWithSlashes(t *testing.T) {
	e := newEngine(t)
	var source string
	e.images.tag = func(s, _ string) error { source = s; return nil }
	if status, _ := e.do(t, "POST", "/images/example.com:5000/a/b:1/tag?repo=c&tag=2", ""); status != 201 || source != "example.com:5000/a/b:1" {
		t.Errorf("got %q", source)
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, path string
		want          string // the variable, "-" for no match
	}{
		{"/images/{name...}/json", "/images/a/b/json", "a/b"},
		{"/images/{name...}/json", "/images/json/json", "json"},
		{"/images/{name...}/json", "/images/json", "-"},
		{"/images/{name...}/json", "/images//json", "-"},
		{"/images/{name...}", "/images/a/b", "a/b"},
		{"/exec/{id}/json", "/exec/a/json", "a"},
		{"/exec/{id}/json", "/exec/a/b/json", "-"},
		{"/networks/", "/networks", "-"},
		{"/networks/", "/networks/", ""},
	} {
		vars, ok := compile(test.pattern).match(strings.Split(strings.TrimPrefix(test.path, "/"), "/"))
		got := vars["name"] + vars["id"]
		if !ok {
			got = "-"
		}
		if got != test.want {
			t.Errorf("%s in %s: %q", test.path, test.pattern, got)
		}
	}
}

func TestWhatIsNotThereSaysSo(t *testing.T) {
	e := newEngine(t)
	for _, test := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"POST", "/build", 501, "building images: not supported by berthd"},
		{"POST", "/session", 501, "BuildKit"},
		{"POST", "/grpc", 501, "BuildKit"},
		{"GET", "/images/search?term=a", 501, "\\nhint: search at https://hub.docker.com"},
		{"GET", "/distribution/a/b/json", 501, "registry"},
		{"POST", "/swarm/init", 501, "swarm mode"},
		{"GET", "/services", 503, "This node is not a swarm manager."},
		{"GET", "/nodes", 503, "This node is not a swarm manager."},
		{"GET", "/secrets", 503, "This node is not a swarm manager."},
		{"POST", "/plugins/a/b/enable", 501, "plugins"},
		{"POST", "/images/create", 400, "fromImage or fromSrc"},
	} {
		if status, body := e.do(t, test.method, test.path, ""); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s", test.path, status, body)
		}
	}
	if status, body := e.do(t, "POST", "/v1.41/build/prune", ""); status != 200 || !strings.Contains(body, `"CachesDeleted":[]`) {
		t.Errorf("build prune: %d %s", status, body)
	}
}

// A web page must not use a port without TLS, though the browser that shows it can.
func TestForeignOrigin(t *testing.T) {
	e := newEngine(t)
	e.containers.start = func(string) error { return nil }
	if status, _ := e.do(t, "POST", "/containers/x/start", "", "Origin", "http://evil.example"); status != http.StatusForbidden {
		t.Errorf("got %d", status)
	}
	if status, _ := e.do(t, "POST", "/containers/x/start", ""); status != 204 {
		t.Errorf("got %d", status)
	}
}
