//go:build linux

// Package sshd is the SSH server of the light VM. It lets root in by public key and nothing else, with the keys it is given; it
// reads no file. It serves commands, shells, terminals, sftp and forwards as OpenSSH's server does, so that ssh, scp, sftp and
// Docker's ssh:// work, and ends what a connection has started when the connection ends.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of what a peer may use.
const (
	handshakeTimeout   = 30 * time.Second // an emulated processor needs half a second for a handshake
	maxUnauthenticated = 16               // connections in their handshake; more wait in the kernel's queue
	maxConnections     = 256
	maxSessions        = 64   // per connection
	maxForwards        = 1024 // forwarded connections at once, per connection
	maxListeners       = 64   // remote forwards, per connection
	aliveInterval      = 30 * time.Second
)

// Config is what a server needs. HostKey and AuthorizedKeys are required.
type Config struct {
	HostKey        []byte   // private key, PEM
	AuthorizedKeys []string // of root; options such as from= are refused, since they would not be obeyed
	Home           string   // where sessions start; "" means /root
	Shell          string   // "" means /bin/sh
	Env            []string // further variables of sessions, NAME=value
	Log            *slog.Logger
}

// Server is an SSH server.
type Server struct {
	cfg  Config
	ssh  *ssh.ServerConfig
	log  *slog.Logger
	slot chan struct{} // one for each connection in its handshake
}

// Serve runs a server with the given keys on a listener until the context is done; see Server.Serve.
func Serve(ctx context.Context, ln net.Listener, hostKey []byte, authorizedKeys []string) error {
	s, err := New(Config{HostKey: hostKey, AuthorizedKeys: authorizedKeys, Log: slog.Default()})
	if err != nil {
		return err
	}
	return s.Serve(ctx, ln)
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	if cfg.Home == "" {
		cfg.Home = "/root"
	}
	if cfg.Shell == "" {
		cfg.Shell = "/bin/sh"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	hostKey, err := ssh.ParsePrivateKey(cfg.HostKey)
	if err != nil {
		return nil, fmt.Errorf("SSH host key: %w", err)
	}
	check, err := rootByKey(cfg.AuthorizedKeys)
	if err != nil {
		return nil, err
	}
	conf := &ssh.ServerConfig{PublicKeyCallback: check, ServerVersion: "SSH-2.0-berth"}
	conf.AddHostKey(hostKey)
	return &Server{cfg: cfg, ssh: conf, log: cfg.Log, slot: make(chan struct{}, maxUnauthenticated)}, nil
}

// rootByKey lets root in with one of the keys.
func rootByKey(lines []string) (func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error), error) {
	allowed := map[string]bool{}
	for n, line := range lines {
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("authorized key %d: %w", n+1, err)
		}
		if len(options) > 0 {
			return nil, fmt.Errorf("authorized key %d: option %q is not supported", n+1, options[0])
		}
		allowed[string(key.Marshal())] = true
	}
	return func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "root" || !allowed[string(key.Marshal())] {
			return nil, errors.New("permission denied")
		}
		return &ssh.Permissions{}, nil
	}, nil
}

// Serve accepts connections until the context is done (then it returns nil) or the listener fails. It closes the listener, ends
// all connections, and returns when everything they had started has been told to end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	open := make(chan struct{}, maxConnections)
	for {
		if !acquire(ctx, open) || !acquire(ctx, s.slot) {
			return nil
		}
		conn, err := accept(ctx, ln)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting SSH connections: %w", err)
		}
		wg.Go(func() {
			defer func() { <-open }()
			s.guard("connection", func() { s.serveConn(ctx, conn) })
		})
	}
}

func acquire(ctx context.Context, sem chan struct{}) bool {
	select {
	case sem <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// accept outlives shortages: accept(2) fails with EMFILE and ENFILE while too many files are open.
func accept(ctx context.Context, ln net.Listener) (net.Conn, error) {
	for {
		conn, err := ln.Accept()
		if err == nil || ctx.Err() != nil || !isShortage(err) {
			return conn, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// guard keeps a bug in the service of one peer from ending the server.
func (s *Server) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("ssh: panic", "in", what, "reason", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// serveConn does one connection from the handshake to its end. It gives back its slot when the handshake is over.
func (s *Server) serveConn(ctx context.Context, netConn net.Conn) {
	defer netConn.Close()
	conn, chans, reqs, err := s.handshake(ctx, netConn)
	if err != nil {
		s.log.Info("ssh: refused", "from", netConn.RemoteAddr().String(), "error", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := &connection{server: s, conn: conn, listeners: map[string]net.Listener{}}
	c.spawn("keepalive", func() { c.keepalive(ctx) })
	c.spawn("requests", func() { c.serveRequests(ctx, reqs) })
	c.serveChannels(ctx, chans)
	cancel()
	c.closeListeners()
	c.wg.Wait()
}

func (s *Server) handshake(ctx context.Context, netConn net.Conn) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	defer func() { <-s.slot }()
	stop := context.AfterFunc(ctx, func() { netConn.Close() })
	defer stop()
	if err := netConn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, nil, nil, err
	}
	conn, chans, reqs, err := ssh.NewServerConn(netConn, s.ssh)
	if err != nil {
		return nil, nil, nil, err
	}
	return conn, chans, reqs, netConn.SetDeadline(time.Time{})
}

// connection is one authenticated peer.
type connection struct {
	server *Server
	conn   *ssh.ServerConn
	wg     sync.WaitGroup

	mu        sync.Mutex // guards the rest
	sessions  int
	forwards  int
	listeners map[string]net.Listener // remote forwards by the address that was asked for
}

// spawn runs a part of the connection's service, which the connection's end waits for.
func (c *connection) spawn(what string, f func()) {
	c.wg.Go(func() { c.server.guard(what, f) })
}

// take counts a use of a bounded resource and tells whether there was one left; give undoes it.
func (c *connection) take(n *int, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *n >= limit {
		return false
	}
	*n++
	return true
}

func (c *connection) give(n *int) { c.mu.Lock(); *n--; c.mu.Unlock() }

func (c *connection) serveChannels(ctx context.Context, chans <-chan ssh.NewChannel) {
	for nc := range chans {
		switch nc.ChannelType() {
		case "session":
			c.open(nc, &c.sessions, maxSessions, func() { c.serveSession(nc) })
		case "direct-tcpip":
			c.open(nc, &c.forwards, maxForwards, func() { c.serveTCP(ctx, nc) })
		case "direct-streamlocal@openssh.com":
			c.open(nc, &c.forwards, maxForwards, func() { c.serveUnix(ctx, nc) })
		default:
			_ = nc.Reject(ssh.UnknownChannelType, "unsupported channel type "+nc.ChannelType())
		}
	}
}

func (c *connection) open(nc ssh.NewChannel, n *int, limit int, serve func()) {
	if !c.take(n, limit) {
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("at most %d at once", limit))
		return
	}
	c.spawn(nc.ChannelType(), func() {
		defer c.give(n)
		serve()
	})
}

// keepalive ends the connection of a peer that does not answer for two intervals: what it has started must not go on for ever.
func (c *connection) keepalive(ctx context.Context) {
	tick := time.NewTicker(aliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case <-ctx.Done():
			return
		case err := <-answered:
			if err != nil {
				return
			}
		case <-time.After(2 * aliveInterval):
			c.conn.Close()
			return
		}
	}
}
