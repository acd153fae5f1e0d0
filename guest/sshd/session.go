//go:build linux

package sshd

import (
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Bounds of the environment that a client may set, in variables and bytes.
const (
	maxEnv      = 256
	maxEnvBytes = 128 << 10
)

// session is one channel on which a command, a shell or a subsystem runs.
type session struct {
	conn    *connection
	ch      ssh.Channel
	env     []string
	envSize int
	pty     *ptyRequest
	started bool

	mu   sync.Mutex // guards proc
	proc *process
}

// serveSession serves a session to its end: it returns when the channel is closed and the command has been told so.
func (c *connection) serveSession(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	s := &session{conn: c, ch: ch}
	defer s.hangUp()
	defer ch.Close()
	for req := range reqs {
		ok, after := s.handle(req)
		reply(req, ok, nil)
		if ok && after != nil {
			// The answer comes first: a client may not expect output before it.
			c.spawn("session", after)
		}
	}
}

// handle serves one request; after, if not nil, is to be run beside the loop once the request is answered.
func (s *session) handle(req *ssh.Request) (ok bool, after func()) {
	switch req.Type {
	case "env":
		return s.setEnv(req.Payload), nil
	case "pty-req":
		var p ptyRequest
		if s.started || s.pty != nil || ssh.Unmarshal(req.Payload, &p) != nil {
			return false, nil
		}
		s.pty = &p
		return true, nil
	case "window-change":
		var size sizeRequest
		p := s.process()
		return p != nil && ssh.Unmarshal(req.Payload, &size) == nil && p.resize(size), nil
	case "signal":
		var sig textRequest
		p := s.process()
		return p != nil && ssh.Unmarshal(req.Payload, &sig) == nil && p.signal(sig.Text), nil
	case "shell":
		return s.start(nil)
	case "exec":
		var cmd textRequest
		if ssh.Unmarshal(req.Payload, &cmd) != nil {
			return false, nil
		}
		return s.start(&cmd.Text)
	case "subsystem":
		var name textRequest
		if ssh.Unmarshal(req.Payload, &name) != nil || name.Text != "sftp" || s.started {
			return false, nil
		}
		s.started = true
		return true, s.serveSFTP
	default: // agent and X11 forwarding among them
		return false, nil
	}
}

func (s *session) setEnv(payload []byte) bool {
	var e envRequest
	if s.started || ssh.Unmarshal(payload, &e) != nil || !validEnv(e.Name, e.Value) {
		return false
	}
	s.envSize += len(e.Name) + len(e.Value)
	if len(s.env) >= maxEnv || s.envSize > maxEnvBytes {
		return false
	}
	s.env = append(s.env, e.Name+"="+e.Value)
	return true
}

// start runs a command, or a login shell if it is nil.
func (s *session) start(cmd *string) (bool, func()) {
	if s.started {
		return false, nil
	}
	s.started = true
	p, err := startProcess(s, cmd)
	if err != nil {
		_, _ = fmt.Fprintf(s.ch.Stderr(), "starting: %v\r\n", err)
		s.conn.server.log.Error("ssh: starting a session", "error", err)
		return true, func() { s.end(exitStatus{Status: 255}) }
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	return true, func() { s.end(p.run(s.ch)) }
}

func (s *session) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

func (s *session) hangUp() {
	if p := s.process(); p != nil {
		p.hangUp()
	}
}

// end tells the client how it went, and closes the channel.
func (s *session) end(how any) {
	_ = s.ch.CloseWrite()
	name := "exit-status"
	if _, ok := how.(exitSignal); ok {
		name = "exit-signal"
	}
	_, _ = s.ch.SendRequest(name, false, ssh.Marshal(how))
	s.ch.Close()
}

// leftOpen keeps the sftp server from closing the channel, on which the exit status is still to be sent: scp reports failure
// without one.
type leftOpen struct{ io.ReadWriter }

func (leftOpen) Close() error { return nil }

func (s *session) serveSFTP() {
	server, err := sftp.NewServer(leftOpen{s.ch}, sftp.WithServerWorkingDirectory(s.conn.server.cfg.Home))
	if err != nil {
		s.end(exitStatus{Status: 1})
		return
	}
	_ = server.Serve() // its error is the client's end
	server.Close()
	s.end(exitStatus{})
}

// environ is what programs of a session find in their environment.
func (s *session) environ(tty string) []string {
	cfg := s.conn.server.cfg
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + cfg.Home, "USER=root", "LOGNAME=root", "SHELL=" + cfg.Shell,
	}
	if from, to, ok := ports(s.conn.conn); ok {
		env = append(env, "SSH_CONNECTION="+from+" "+to, "SSH_CLIENT="+from+" "+to[lastSpace(to)+1:])
	}
	env = append(append(env, cfg.Env...), s.env...)
	if tty != "" {
		env = append(env, "SSH_TTY="+tty, "TERM="+s.pty.Term)
	}
	return env
}

// ports gives both ends of a connection as "address port".
func ports(c ssh.ConnMetadata) (from, to string, ok bool) {
	r, rok := c.RemoteAddr().(*net.TCPAddr)
	l, lok := c.LocalAddr().(*net.TCPAddr)
	if !rok || !lok {
		return "", "", false
	}
	return fmt.Sprintf("%s %d", r.IP, r.Port), fmt.Sprintf("%s %d", l.IP, l.Port), true
}

func lastSpace(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == ' ' {
			return i
		}
	}
	return -1
}
