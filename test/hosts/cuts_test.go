//go:build linux

package hosts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// cuts kills berth, once, at each step of a create: at each state that its journal, the machine's record, is in; before each
// request that changes something is made, and when it has been, but not answered; and at the end of each step that it reports.
type cuts struct {
	c    cloud
	api  *httptest.Server // before the cloud
	dir  string           // machines of the store
	name string           // of the machine

	mu    sync.Mutex // guards the rest
	child *os.Process
	seen  map[string]bool
	at    string            // where the child was killed; "" while it lives
	order []string          // all that it was killed at
	does  map[string]func() // what happens at an event instead
	last  string            // the last event
}

// newCuts puts itself between berth and the cloud.
func newCuts(t *testing.T, c cloud, store, name string) *cuts {
	t.Helper()
	k := &cuts{c: c, dir: filepath.Join(store, "machines"), name: name, seen: map[string]bool{}, does: map[string]func(){}}
	to, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	abort := func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // no answer
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode < 300 && k.cut("done", r.Request) {
				return errors.New("nobody listens any more")
			}
			return nil
		},
		ErrorHandler: abort,
	}
	k.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if k.cut("asked", r) {
			abort(w, r, nil)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(k.api.Close)
	return k
}

// thing is the last part of a path that names one thing.
var thing = regexp.MustCompile(`/[^/]*[0-9a-f-]{8,}$`)

// cut strikes at requests that change something.
func (k *cuts) cut(when string, r *http.Request) bool {
	return r.Method != http.MethodGet && k.strike(when+" "+r.Method+" "+thing.ReplaceAllString(r.URL.Path, "/ID"))
}

// strike kills the child at an event that has never been before, and says whether it is dead.
func (k *cuts) strike(event string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.child == nil || k.at != "" {
		return k.at != ""
	}
	k.last = event
	if k.seen[event] {
		return false
	}
	k.seen[event] = true
	if do := k.does[event]; do != nil {
		do()
		return false
	}
	k.at = event
	k.order = append(k.order, event)
	_ = k.child.Kill() // it may have ended by itself
	return true
}

// instead has something else happen at an event than a kill.
func (k *cuts) instead(event string, do func()) { k.does[event] = do }

// create gives the command again and again until it is through, and looks at what is there after each attempt; out gets all that it
// says. A create that ends by itself before must say how to go on.
func (k *cuts) create(cmd func() *exec.Cmd, look func() error, out io.Writer) error {
	const most = 80 // more than there are events
	for range most {
		said, err := k.once(cmd())
		at := k.ended()
		fmt.Fprintf(out, "%s%v, killed at: %s\n", said, err, at)
		if err := look(); err != nil {
			return fmt.Errorf("after a kill at %q: %w", at, err)
		}
		switch {
		case err == nil || strings.HasPrefix(at, "journal: ready"):
			return nil
		case at == "" && !bytes.Contains(said, []byte("To go on, give the same command again")):
			return fmt.Errorf("after %q: %w", k.last, err)
		}
	}
	return fmt.Errorf("it does not come to an end in %d attempts; killed at\n%s", most, strings.Join(k.order, "\n"))
}

// ended forgets the child, and says where it was killed.
func (k *cuts) ended() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.at
	k.child, k.at = nil, ""
	return at
}

// stepLine is what berth says at the end of a step.
var stepLine = regexp.MustCompile(`^(.+)  [0-9.]+s$`)

// once runs the command until it ends or is killed.
func (k *cuts) once(cmd *exec.Cmd) (said []byte, err error) {
	watcher, err := k.watch()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	cmd.Stderr = cmd.Stdout
	k.mu.Lock()
	if err = cmd.Start(); err == nil {
		k.child = cmd.Process
	}
	k.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said = append(append(said, lines.Bytes()...), '\n')
		if m := stepLine.FindStringSubmatch(lines.Text()); m != nil {
			k.strike("step: " + m[1])
		}
	}
	err = cmd.Wait()
	return said, errors.Join(err, watcher.Close())
}

// watcher looks at the journal as it is written.
type watcher struct {
	events *os.File
	done   chan struct{}
}

func (w *watcher) Close() error {
	err := w.events.Close()
	<-w.done
	return err
}

// watch strikes whenever the record is in another state, until it is closed.
func (k *cuts) watch() (*watcher, error) {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &watcher{os.NewFile(uintptr(fd), "inotify"), make(chan struct{})}
	folder := filepath.Join(k.dir, k.name)
	for _, dir := range []string{k.dir, folder} { // the second may come into being later
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, w.events.Close())
		}
	}
	go func() {
		defer close(w.done)
		for b := make([]byte, 64<<10); ; {
			if _, err := w.events.Read(b); err != nil {
				return
			}
			_, _ = unix.InotifyAddWatch(fd, folder, unix.IN_MOVED_TO) // again changes nothing
			if state := journal(filepath.Join(folder, "machine.json")); state != "" {
				k.strike("journal: " + state)
			}
		}
	}()
	return w, nil
}

// journal is what the record knows, without the values; "" if there is none.
func journal(file string) string {
	b, err := os.ReadFile(file)
	var r struct {
		Phase       string
		DriverState map[string]any
		Endpoint    any
		HostKeys    []string
	}
	if err != nil || json.Unmarshal(b, &r) != nil {
		return ""
	}
	known := slices.Sorted(maps.Keys(r.DriverState))
	if r.Endpoint != nil {
		known = append(known, "endpoint")
	}
	return fmt.Sprintf("%s %s, %d host keys", r.Phase, strings.Join(known, " "), len(r.HostKeys))
}
