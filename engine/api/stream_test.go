package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"

	ctr "github.com/getberth/berth/engine/container"
	img "github.com/getberth/berth/engine/image"
)

// upgrade sends an attach and returns the answer's head and the connection behind it.
func upgrade(t *testing.T, conn net.Conn, path string, header ...string) (*http.Response, *bufio.Reader) {
	t.Helper()
	head := strings.Join(append(header, ""), "\r\n")
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%s\r\n", path, head); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res, r
}

var upgrading = []string{"Connection: Upgrade", "Upgrade: tcp"}

// echo is a container that says what it has read when its stdin ends.
func echo(tty bool) func(context.Context, ctr.AttachOptions, ctr.Opener) error {
	return func(_ context.Context, _ ctr.AttachOptions, open ctr.Opener) error {
		s, err := open(tty)
		if err != nil {
			return err
		}
		in, err := io.ReadAll(s.Stdin)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Stdout, "read %s", in)
		fmt.Fprint(s.Stderr, "done")
		return nil
	}
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func testHalfClose(t *testing.T, conn halfCloser) {
	t.Helper()
	res, r := upgrade(t, conn, "/v1.42/containers/x/attach?stdin=1&stdout=1&stream=1", upgrading...)
	if res.StatusCode != 101 || res.Status != "101 UPGRADED" || res.Header.Get("Content-Type") != "application/vnd.docker.multiplexed-stream" {
		t.Fatalf("got %s %v", res.Status, res.Header)
	}
	fmt.Fprint(conn, "hello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errOut, r); err != nil {
		t.Fatal(err)
	}
	if out.String() != "read hello" || errOut.String() != "done" {
		t.Errorf("got %q, %q", &out, &errOut)
	}
}

func TestHalfCloseOverUnix(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = echo(false)
	testHalfClose(t, e.overUnix(t)().(*net.UnixConn))
}

func TestHalfCloseOverTCP(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = echo(false)
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	testHalfClose(t, conn.(*net.TCPConn))
}

func TestHalfCloseOverTLS(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = echo(false)
	srv := httptest.NewTLSServer(e.handler())
	defer srv.Close()
	conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), srv.Client().Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	testHalfClose(t, conn)
}

func TestContentTypeOfStreams(t *testing.T) {
	for _, test := range []struct {
		path     string
		upgraded bool
		tty      bool
		want     string
	}{
		{"/v1.42/containers/x/attach", true, false, "multiplexed-stream"},
		{"/v1.42/containers/x/attach", true, true, "raw-stream"},
		{"/v1.41/containers/x/attach", true, false, "raw-stream"},
		{"/v1.42/containers/x/attach", false, false, "raw-stream"},
	} {
		e := newEngine(t)
		e.containers.attach = func(_ context.Context, _ ctr.AttachOptions, open ctr.Opener) error {
			_, err := open(test.tty)
			return err
		}
		var header []string
		status := 200
		if test.upgraded {
			header, status = upgrading, 101
		}
		res, r := upgrade(t, e.overUnix(t)(), test.path, header...)
		if got := res.Header.Get("Content-Type"); res.StatusCode != status || got != "application/vnd.docker."+test.want {
			t.Errorf("%+v: %d %s", test, res.StatusCode, got)
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%+v: the stream does not end: %v", test, err)
		}
	}
}

func TestErrorBeforeTakingOverIsPlain(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = func(context.Context, ctr.AttachOptions, ctr.Opener) error {
		return errdefs.ErrNotFound.WithMessage("No such container: x")
	}
	res, r := upgrade(t, e.overUnix(t)(), "/containers/x/attach", upgrading...)
	body, _ := io.ReadAll(io.LimitReader(r, res.ContentLength))
	if res.StatusCode != 404 || !strings.Contains(string(body), `{"message":"No such container: x"}`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestErrorOfAttachIsInTheStream(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = func(_ context.Context, _ ctr.AttachOptions, open ctr.Opener) error {
		_, _ = open(false)
		return errors.New("the disk broke")
	}
	_, r := upgrade(t, e.overUnix(t)(), "/containers/x/attach", upgrading...)
	if _, err := stdcopy.StdCopy(io.Discard, io.Discard, r); err == nil || !strings.Contains(err.Error(), "the disk broke") {
		t.Errorf("got %v", err)
	}
}

func TestErrorOfExecIsItsOutput(t *testing.T) {
	e := newEngine(t)
	e.containers.exec = func(_ context.Context, o ctr.ExecStartOptions, open ctr.Opener) error {
		if o.Detach {
			return nil
		}
		_, _ = open(true)
		return errors.New(`exec: "nope": executable file not found in $PATH`)
	}
	_, r := upgrade(t, e.overUnix(t)(), "/exec/1/start", upgrading...)
	if out, _ := io.ReadAll(r); !strings.Contains(string(out), "executable file not found in $PATH\r\n") {
		t.Errorf("got %q", out)
	}
	if status, body := e.do(t, "POST", "/exec/1/start", `{"Detach":true}`); status != 200 || body != "" {
		t.Errorf("detached: %d %s", status, body)
	}
}

// Input that the process does not read must not cost the client output that it has not read yet.
func TestUnreadInputKeepsOutput(t *testing.T) {
	const size = 1 << 20
	e := newEngine(t)
	e.containers.attach = func(_ context.Context, _ ctr.AttachOptions, open ctr.Opener) error {
		s, err := open(true)
		if err != nil {
			return err
		}
		_, err = s.Stdout.Write(make([]byte, size))
		return err
	}
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, r := upgrade(t, conn, "/containers/x/attach", upgrading...)
	fmt.Fprint(conn, "never read")
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Errorf("%d of %d bytes, %v", n, size, err)
	}
}

// A client that hangs up ends its stream, even when nothing is read or written; what it has sent still arrives.
func TestHangingUpEndsTheStream(t *testing.T) {
	e := newEngine(t)
	read, ended := make(chan string, 1), make(chan struct{})
	e.containers.attach = func(ctx context.Context, _ ctr.AttachOptions, open ctr.Opener) error {
		defer close(ended)
		s, err := open(true)
		if err != nil {
			return err
		}
		in, _ := io.ReadAll(s.Stdin)
		read <- string(in)
		<-ctx.Done()
		return ctx.Err()
	}
	conn := e.overUnix(t)()
	upgrade(t, conn, "/containers/x/attach", upgrading...)
	fmt.Fprint(conn, "last words")
	conn.Close()
	if got := <-read; got != "last words" {
		t.Errorf("read %q", got)
	}
	<-ended
}

func TestHalfClosedIsNotHungUp(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = func(ctx context.Context, _ ctr.AttachOptions, open ctr.Opener) error {
		s, err := open(true)
		if err != nil {
			return err
		}
		_, _ = io.ReadAll(s.Stdin)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // what a process takes to answer
		}
		_, err = io.WriteString(s.Stdout, "late")
		return err
	}
	conn := e.overUnix(t)().(*net.UnixConn)
	_, r := upgrade(t, conn, "/containers/x/attach", upgrading...)
	_ = conn.CloseWrite()
	if out, _ := io.ReadAll(r); string(out) != "late" {
		t.Errorf("got %q", out)
	}
}

func TestMuxKeepsPiecesWhole(t *testing.T) {
	var b bytes.Buffer
	m := &mux{w: &b}
	large := bytes.Repeat([]byte("x"), 3*maxPiece+1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = m.stream(stdcopy.Stderr).Write(large)
	}()
	_, _ = m.stream(stdcopy.Stdout).Write(large)
	<-done
	var out, errOut bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errOut, &b); err != nil || !bytes.Equal(out.Bytes(), large) || !bytes.Equal(errOut.Bytes(), large) {
		t.Errorf("%v: %d and %d bytes", err, out.Len(), errOut.Len())
	}
}

func TestWaitSendsItsHeadAtOnce(t *testing.T) {
	e := newEngine(t)
	result := make(chan ctr.WaitResult, 1)
	e.containers.wait = func(context.Context, container.WaitCondition) (<-chan ctr.WaitResult, error) { return result, nil }
	res := e.send(t, "POST", "/containers/x/wait?condition=next-exit", "") // returns with the head
	defer res.Body.Close()
	result <- ctr.WaitResult{Code: 3, Err: errors.New("no such file")}
	var answer container.WaitResponse
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.StatusCode != 3 || answer.Error.Message != "no such file" {
		t.Errorf("%v %+v", err, answer)
	}
	if status, body := e.do(t, "POST", "/containers/x/wait?condition=never", ""); status != 400 || !strings.Contains(body, "never") {
		t.Errorf("%d %s", status, body)
	}
}

func TestWaitEndsWithItsClient(t *testing.T) {
	e := newEngine(t)
	ended := make(chan struct{})
	e.containers.wait = func(ctx context.Context, _ container.WaitCondition) (<-chan ctr.WaitResult, error) {
		context.AfterFunc(ctx, func() { close(ended) })
		return nil, nil
	}
	e.send(t, "POST", "/containers/x/wait", "").Body.Close()
	<-ended
}

func TestLogs(t *testing.T) {
	e := newEngine(t)
	var got ctr.LogsOptions
	e.containers.logs = func(o ctr.LogsOptions, open ctr.Opener) error {
		got = o
		s, err := open(false)
		if err != nil {
			return err
		}
		fmt.Fprint(s.Stdout, "one")
		return errors.New("a rotten file")
	}
	res := e.send(t, "GET", "/v1.42/containers/x/logs?stdout=1&tail=5&since=0&until=0", "")
	defer res.Body.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, io.Discard, res.Body); err == nil || out.String() != "one" || !strings.Contains(err.Error(), "rotten") {
		t.Errorf("%q %v", &out, err)
	}
	if got.Tail != 5 || !got.Until.IsZero() || got.Stderr || res.Header.Get("Content-Type") != "application/vnd.docker.multiplexed-stream" {
		t.Errorf("%+v %v", got, res.Header)
	}
	for _, query := range []string{"", "?stdout=1&tail=x", "?stdout=1&since=x"} {
		if status, _ := e.do(t, "GET", "/containers/x/logs"+query, ""); status != 400 {
			t.Errorf("%s: %d", query, status)
		}
	}
}

func TestEventsSendTheirHeadAtOnce(t *testing.T) {
	e := newEngine(t)
	e.events.Publish(startEvent("old"))
	res := e.send(t, "GET", "/v1.41/events", "")
	defer res.Body.Close()
	e.events.Publish(startEvent("abc"))
	var m map[string]any
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	if m["id"] != "abc" || m["status"] != "start" || m["from"] != "busybox" || m["timeNano"] == nil || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v %v", m, res.Header)
	}
}

func TestPastEvents(t *testing.T) {
	e := newEngine(t)
	e.events.Publish(startEvent("a"))
	now := fmt.Sprint(time.Now().Add(time.Second).Unix())
	for query, want := range map[string]int{
		"since=1&until=" + now: 1,
		"since=1&until=2":      0,
		`since=1&until=` + now + `&filters={"event":["die"]}`:   0,
		`since=1&until=` + now + `&filters={"container":["a"]}`: 1,
	} {
		status, body := e.do(t, "GET", "/events?"+query, "")
		if got := strings.Count(body, "timeNano"); status != 200 || got != want || strings.Contains(body, `"from"`) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	_, body := e.do(t, "GET", "/events?since=1&until="+now, "", "Accept", "application/json-seq")
	if !strings.HasPrefix(body, "\x1e{") {
		t.Errorf("got %q", body)
	}
	for _, query := range []string{"since=2&until=1", `filters={"colour":["red"]}`} {
		if status, _ := e.do(t, "GET", "/events?"+query, ""); status != 400 {
			t.Errorf("%s: %d", query, status)
		}
	}
}

func TestPull(t *testing.T) {
	e := newEngine(t)
	var ref string
	var auth *registry.AuthConfig
	send := true
	e.images.pull = func(r string, a *registry.AuthConfig, progress img.Progress) error {
		ref, auth = r, a
		if send {
			if err := progress(jsonstream.Message{Status: "Pulling", ID: "1.24"}); err != nil {
				return err
			}
		}
		return errdefs.ErrNotFound.WithMessage("manifest unknown")
	}
	status, body := e.do(t, "POST", "/images/create?fromImage=busybox&tag=1.24", "", "X-Registry-Auth", "eyJ1c2VybmFtZSI6ImEifQ==")
	if status != 200 || ref != "docker.io/library/busybox:1.24" || auth == nil || auth.Username != "a" {
		t.Errorf("%d %s %v", status, ref, auth)
	}
	if want := `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`; !strings.HasSuffix(body, want) || !strings.HasPrefix(body, `{"status":"Pulling","id":"1.24"}`) {
		t.Errorf("got %s", body)
	}
	send = false
	if status, body := e.do(t, "POST", "/images/create?fromImage=busybox", "", "X-Registry-Auth", "junk"); status != 404 || !strings.Contains(body, `{"message":"manifest unknown"}`) || auth != nil {
		t.Errorf("%d %s", status, body)
	}
	for _, query := range []string{"fromImage=UPPER", "fromImage=scratch", "fromImage=a&tag=b%20c", "fromImage=a&platform=///"} {
		if status, body := e.do(t, "POST", "/images/create?"+query, ""); status != 400 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// A tar that ends half-way must not look whole.
func TestSaveThatFailsCutsTheConnection(t *testing.T) {
	e := newEngine(t)
	e.images.save = func(_ []string, w io.Writer) error {
		_, _ = w.Write(make([]byte, 100_000))
		return errors.New("disk")
	}
	res := e.send(t, "GET", "/images/a/b/get", "")
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the answer looks whole")
	}
	e.images.save = func([]string, io.Writer) error { return errdefs.ErrNotFound.WithMessage("No such image: a") }
	if status, body := e.do(t, "GET", "/images/get?names=a", ""); status != 404 || !strings.Contains(body, "No such image") {
		t.Errorf("%d %s", status, body)
	}
}

func TestWebSocket(t *testing.T) {
	e := newEngine(t)
	e.containers.attach = func(_ context.Context, o ctr.AttachOptions, open ctr.Opener) error {
		s, err := open(false)
		if err != nil {
			return err
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(s.Stdin, buf); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Stdout, "read %s", buf)
		return err
	}
	url := "ws" + strings.TrimPrefix(e.server.URL, "http") + "/v1.41/containers/x/attach/ws?stream=1"
	conn, _, err := websocket.DefaultDialer.Dial(url, http.Header{"Origin": {"http://localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.WriteMessage(websocket.BinaryMessage, []byte("hello"))
	kind, data, err := conn.ReadMessage()
	if kind != websocket.BinaryMessage || string(data) != "read hello" {
		t.Errorf("%d %q %v", kind, data, err)
	}
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("end: %v", err)
	}
	if _, res, err := websocket.DefaultDialer.Dial(url, http.Header{"Origin": {"http://evil.example"}}); err == nil || res.StatusCode != 403 {
		t.Error("a foreign page may attach")
	}
	if status, _ := e.do(t, "GET", "/containers/x/attach/ws", ""); status != 400 {
		t.Errorf("not a websocket: %d", status)
	}
}

func TestFieldsOfOldVersions(t *testing.T) {
	e := newEngine(t)
	e.images.list = func(o img.ListOptions) ([]image.Summary, error) {
		return []image.Summary{{ID: "sha256:1", Size: 7, Containers: 2}}, nil
	}
	e.containers.inspect = func(string) (container.InspectResponse, error) {
		return container.InspectResponse{ID: "1", Driver: "overlayfs", NetworkSettings: &container.NetworkSettings{
			Networks: map[string]*network.EndpointSettings{"bridge": {EndpointID: "e1", IPPrefixLen: 16}}}}, nil
	}
	for _, test := range []struct{ path, has, not string }{
		{"/v1.43/images/json", `"VirtualSize":7`, `"Containers":2`},
		{"/v1.42/images/json", `"<none>:<none>"`, ""},
		{"/v1.51/images/json", `"Containers":2`, "VirtualSize"},
		{"/v1.51/containers/x/json", `"EndpointID":"e1","Gateway"`, `"Storage"`},
		{"/v1.51/containers/x/json", `"GraphDriver":{"Data":null,"Name":"overlayfs"}`, ""},
		{"/v1.52/containers/x/json", `"Mounts":[]`, "GraphDriver"},
		{"/v1.48/info", `"Expected":"r1"`, ""},
		{"/v1.56/info", `"Name":"host"`, "BridgeNfIptables"},
		{"/v1.51/system/df", `"LayersSize":5`, "ImageUsage"},
		{"/v1.52/system/df", `"ImageUsage":`, ""},
		{"/v1.52/system/df?verbose=1", `"ImageUsage":`, "LayersSize"},
	} {
		status, body := e.do(t, "GET", test.path, "")
		if status != 200 || !strings.Contains(body, test.has) || test.not != "" && strings.Contains(body, test.not) {
			t.Errorf("%s: %d %s", test.path, status, body)
		}
	}
	for path, want := range map[string]bool{"/v1.41/volumes/prune": true, "/v1.42/volumes/prune": false} {
		e.do(t, "POST", path, "")
		if e.volumes.pruned.Has("all") != want {
			t.Errorf("%s: %v", path, e.volumes.pruned)
		}
	}
	if status, body := e.do(t, "GET", "/system/df?type=plants", ""); status != 400 || !strings.Contains(body, "unknown object type: plants") {
		t.Errorf("%d %s", status, body)
	}
}

func TestArchive(t *testing.T) {
	e := newEngine(t)
	e.containers.statPath = func(string) (container.PathStat, error) { return container.PathStat{Name: "a"}, nil }
	e.containers.put = func(_ string, tar io.Reader) error {
		_, err := io.Copy(io.Discard, tar)
		return err
	}
	res := e.send(t, "HEAD", "/containers/x/archive?path=/a", "")
	res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("X-Docker-Container-Path-Stat") == "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if status, _ := e.do(t, "PUT", "/containers/x/archive?path=/a", strings.Repeat("x", maxJSON+1), "Content-Type", "application/x-tar"); status != 200 {
		t.Errorf("put: %d", status)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "a tar")
	_ = z.Close()
	e.containers.put = func(_ string, tar io.Reader) error {
		if raw, err := io.ReadAll(tar); err != nil || string(raw) != "a tar" {
			t.Errorf("compressed, it arrives as %q (%v)", raw, err)
		}
		return nil
	}
	if status, _ := e.do(t, "PUT", "/containers/x/archive?path=/a", zipped.String(), "Content-Type", "application/x-tar"); status != 200 {
		t.Errorf("put of a compressed tar: %d", status)
	}
	if status, body := e.do(t, "PUT", "/containers/x/archive", ""); status != 400 || !strings.Contains(body, "path cannot be empty") {
		t.Errorf("%d %s", status, body)
	}
}
