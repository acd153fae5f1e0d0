//go:build linux

package sshd

import (
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// dialTimeout bounds connecting for a forward; Linux itself gives up after two minutes.
const dialTimeout = 30 * time.Second

func (c *connection) serveTCP(ctx context.Context, nc ssh.NewChannel) {
	var t tcpTarget
	if err := ssh.Unmarshal(nc.ExtraData(), &t); err != nil || t.Port > 65535 {
		_ = nc.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	c.serveTarget(ctx, nc, "tcp", net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))))
}

func (c *connection) serveUnix(ctx context.Context, nc ssh.NewChannel) {
	var t unixTarget
	if err := ssh.Unmarshal(nc.ExtraData(), &t); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	c.serveTarget(ctx, nc, "unix", t.Path)
}

// serveTarget joins a channel with a connection from here.
func (c *connection) serveTarget(ctx context.Context, nc ssh.NewChannel, network, address string) {
	far, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer far.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	join(ctx, ch, far)
}

// stream is what both a channel and a connection are.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// join copies both ways until both have ended or the context is done. The end of one direction is passed on as a half close.
func join(ctx context.Context, ch stream, conn net.Conn) {
	end := func() { ch.Close(); conn.Close() }
	defer end()
	defer context.AfterFunc(ctx, end)()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := io.Copy(conn, ch)
		if half, ok := conn.(stream); ok && err == nil {
			_ = half.CloseWrite()
			return
		}
		end()
	})
	wg.Go(func() {
		if _, err := io.Copy(ch, conn); err != nil {
			end()
			return
		}
		_ = ch.CloseWrite()
	})
	wg.Wait()
}

// serveRequests serves requests that concern the whole connection: remote forwards.
func (c *connection) serveRequests(ctx context.Context, reqs <-chan *ssh.Request) {
	for req := range reqs {
		switch req.Type {
		case "tcpip-forward":
			c.listenTCP(ctx, req)
		case "streamlocal-forward@openssh.com":
			c.listenUnix(ctx, req)
		case "cancel-tcpip-forward":
			var f forwardRequest
			reply(req, ssh.Unmarshal(req.Payload, &f) == nil && c.unlisten(tcpKey(f)), nil)
		case "cancel-streamlocal-forward@openssh.com":
			var f unixForwardRequest
			reply(req, ssh.Unmarshal(req.Payload, &f) == nil && c.unlisten("unix:"+f.Path), nil)
		default: // keepalive@openssh.com among them: any answer will do
			reply(req, false, nil)
		}
	}
}

func tcpKey(f forwardRequest) string {
	return "tcp:" + net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
}

// listenTCP serves `ssh -R`. Whatever address is asked for, it listens on the loopback only, as OpenSSH does by default
// (GatewayPorts no): a container must not reach it.
func (c *connection) listenTCP(ctx context.Context, req *ssh.Request) {
	var f forwardRequest
	if ssh.Unmarshal(req.Payload, &f) != nil || f.Port > 65535 {
		reply(req, false, nil)
		return
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(f.Port))))
	if err != nil {
		reply(req, false, nil)
		return
	}
	asked := f.Port
	f.Port = uint32(ln.Addr().(*net.TCPAddr).Port)
	if !c.keepListener(tcpKey(f), ln) {
		reply(req, false, nil)
		return
	}
	var payload []byte
	if asked == 0 {
		payload = ssh.Marshal(forwardReply{Port: f.Port})
	}
	reply(req, true, payload)
	c.spawn("remote forward", func() {
		c.serveListener(ctx, ln, "forwarded-tcpip", func(conn net.Conn) []byte {
			t := tcpTarget{Host: f.Host, Port: f.Port}
			if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
				t.OriginHost, t.OriginPort = a.IP.String(), uint32(a.Port)
			}
			return ssh.Marshal(t)
		})
	})
}

func (c *connection) listenUnix(ctx context.Context, req *ssh.Request) {
	var f unixForwardRequest
	if ssh.Unmarshal(req.Payload, &f) != nil || f.Path == "" {
		reply(req, false, nil)
		return
	}
	ln, err := net.Listen("unix", f.Path)
	if err != nil {
		reply(req, false, nil)
		return
	}
	// Root only, as OpenSSH's StreamLocalBindMask makes it.
	if os.Chmod(f.Path, 0o600) != nil || !c.keepListener("unix:"+f.Path, ln) {
		ln.Close()
		reply(req, false, nil)
		return
	}
	reply(req, true, nil)
	c.spawn("remote forward", func() {
		c.serveListener(ctx, ln, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
			return ssh.Marshal(unixForwardedChannel{Path: f.Path})
		})
	})
}

// keepListener takes over a listener; when it cannot, it closes it.
func (c *connection) keepListener(key string, ln net.Listener) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners == nil || len(c.listeners) >= maxListeners {
		ln.Close()
		return false
	}
	c.listeners[key] = ln
	return true
}

func (c *connection) unlisten(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ln, ok := c.listeners[key]
	if ok {
		ln.Close()
		delete(c.listeners, key)
	}
	return ok
}

// closeListeners ends all remote forwards; there will be no new ones.
func (c *connection) closeListeners() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ln := range c.listeners {
		ln.Close()
	}
	c.listeners = nil
}

// serveListener opens a channel to the client for each connection, until the listener is closed.
func (c *connection) serveListener(ctx context.Context, ln net.Listener, channelType string, describe func(net.Conn) []byte) {
	for {
		conn, err := accept(ctx, ln)
		if err != nil {
			return
		}
		if !c.take(&c.forwards, maxForwards) {
			conn.Close()
			continue
		}
		c.spawn(channelType, func() {
			defer c.give(&c.forwards)
			defer conn.Close()
			ch, reqs, err := c.conn.OpenChannel(channelType, describe(conn))
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			join(ctx, ch, conn)
		})
	}
}
