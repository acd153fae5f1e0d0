// Package tunnel keeps local sockets of the docker client that lead to engines which listen on no port. A socket is served by a
// process in the background, which is started when somebody is told of the socket and ends with the machine.
//
// Nothing is asked of the machine before a client has something to say, so that starting the process takes no time.
package tunnel

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/getberth/berth/background"
	"github.com/getberth/berth/sshutil"
)

// Tunnel is the socket of one machine.
type Tunnel struct {
	store, name string
}

// For is the tunnel to the named machine of the store in a folder, which must be absolute. It makes nothing.
func For(store, name string) Tunnel { return Tunnel{store, name} }

// folder is the store's own, so that every process of every session finds the same; where its path is too long for a socket, it
// is one under the temporary folder.
func (t Tunnel) folder() string {
	dir := filepath.Join(t.store, "run")
	if len(filepath.Join(dir, t.name+".sock")) > background.MaxSocketPath {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("berth-%d", os.Getuid()), hash(t.store)[:12])
	}
	return dir
}

// private are the folders that must be this user's alone: among them one in the folder for temporary files.
func (t Tunnel) private() []string {
	dir := t.folder()
	if dir == filepath.Join(t.store, "run") {
		return []string{dir}
	}
	return []string{filepath.Dir(dir), dir}
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// answers reports whether somebody listens. Whoever listens takes no notice of a client that says nothing.
func (t Tunnel) answers(ctx context.Context) bool {
	conn, err := t.Dial(ctx)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// Server serves a tunnel.
type Server struct {
	// Open opens a stream to the engine.
	Open func(ctx context.Context) (net.Conn, error)
	// Wanted tells whether there is still a machine for which the tunnel is. It is asked now and then.
	Wanted func() bool
}

// Life of a tunnel's process.
const (
	// wantedPause lies between two questions whether the tunnel is still wanted: Forget may have found nobody, or the store be
	// removed by hand.
	wantedPause = 10 * time.Second
	// requestLimit is how long a client may take to say what it wants, when it is to be told that the engine cannot be reached.
	requestLimit = 5 * time.Second
	// maxRequest bounds what is read of it, in bytes.
	maxRequest = 64 << 10
)

// Serve serves the tunnel until the context is done or it is wanted no more. It calls ready once it listens, or when somebody
// else serves this tunnel already; it then returns at once.
func (t Tunnel) Serve(ctx context.Context, s Server, ready func()) error {
	ln, theirs, err := t.listen(ctx)
	if err != nil {
		return fmt.Errorf("the tunnel to %q: %w", t.name, err)
	}
	if theirs {
		ready()
		return nil
	}
	ready()
	shut := sync.OnceFunc(func() { ln.Close() })
	defer shut()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	look := func() {
		if !s.Wanted() || !ln.ours() {
			cancel()
		}
	}
	go watch(ctx, look)
	defer context.AfterFunc(ctx, shut)()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the tunnel to %q: %w", t.name, err)
		}
		all.Add(1)
		go func() {
			defer all.Done()
			s.pass(ctx, conn, look)
		}()
	}
}

// watch looks now and then.
func watch(ctx context.Context, look func()) {
	tick := time.NewTicker(wantedPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			look()
		}
	}
}

// lookWord is what Forget says instead of a request. No method of HTTP begins so.
const lookWord = "?\n"

// Forget has whoever serves the tunnel look at once whether it is still wanted. That nobody serves it is no error.
func (t Tunnel) Forget(ctx context.Context) {
	conn, err := t.Dial(ctx)
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, lookWord)
	conn.Close()
}

// pass joins a client with the engine, as soon as the client says something: some only look whether anybody listens.
func (s Server) pass(ctx context.Context, conn net.Conn, look func()) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	client := &peeked{Conn: conn, r: bufio.NewReader(conn)}
	first, err := client.r.Peek(1)
	switch {
	case err != nil:
		return
	case first[0] == lookWord[0]:
		look()
		return
	}
	engine, err := s.Open(ctx)
	if err != nil {
		explain(client, err)
		return
	}
	sshutil.Join(ctx, client, engine)
}

// explain answers a request as an engine does that cannot do what it was asked for, so that the client shows the reason.
func explain(client *peeked, why error) {
	_ = client.SetDeadline(time.Now().Add(requestLimit))
	req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(client.r, maxRequest)))
	if err != nil {
		return
	}
	body, err := json.Marshal(map[string]string{"message": why.Error()})
	if err != nil {
		return
	}
	head := fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", len(body))
	if req.Method == http.MethodHead {
		body = nil
	}
	_, _ = client.Write(append([]byte(head), body...))
}

// peeked is a connection of which some bytes have been read already.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// CloseWrite implements the half close that sshutil.Join looks for, where the connection below has one.
func (p *peeked) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return p.Conn.Close()
}
