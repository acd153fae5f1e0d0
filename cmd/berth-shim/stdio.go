//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/logs"
	"github.com/getberth/berth/engine/runtime/shim"
)

// stdioPlan says what to connect of a process. What is not is /dev/null.
type stdioPlan struct {
	first                 bool
	stdin, stdout, stderr bool
	log                   *logs.Writer // gets the output as well; may be nil
}

// stdio is the supervisor's end of a process's standard streams.
type stdio struct {
	log *logs.Writer

	stdinMu sync.Mutex // guards stdin
	stdin   *os.File   // nil when not connected, or closed

	console *os.File // the terminal's master; nil without terminal
	outputs []*os.File
	readers sync.WaitGroup

	mu       sync.Mutex // guards what follows
	clients  []*client
	finished bool
	logError bool
}

// connection is stdio while its process is being started.
type connection struct {
	*stdio
	plan   stdioPlan
	socket *os.File   // gets the terminal's master
	theirs []*os.File // to be closed once the process has them
	null   *os.File
	pipes  []pipe
}

type pipe struct {
	file   *os.File
	frame  byte
	stream string
}

// connect gives a process its standard streams.
func connect(p *libcontainer.Process, terminal bool, plan stdioPlan, uid, gid int) (_ *connection, err error) {
	c := &connection{stdio: &stdio{log: plan.log}, plan: plan}
	defer func() {
		if err != nil {
			c.abandon()
		}
	}()
	if terminal {
		return c, c.addTerminal(p)
	}
	if p.Stdin, err = c.input(plan.stdin, uid, gid); err != nil {
		return nil, err
	}
	if p.Stdout, err = c.output(plan.stdout, uid, gid, shim.FrameStdout, logs.Stdout); err != nil {
		return nil, err
	}
	p.Stderr, err = c.output(plan.stderr, uid, gid, shim.FrameStderr, logs.Stderr)
	return c, err
}

func (c *connection) addTerminal(p *libcontainer.Process) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making a socket for the terminal: %w", err)
	}
	c.socket = os.NewFile(uintptr(fds[0]), "console")
	p.ConsoleSocket = os.NewFile(uintptr(fds[1]), "console")
	c.theirs = append(c.theirs, p.ConsoleSocket)
	return nil
}

func (c *connection) input(connected bool, uid, gid int) (*os.File, error) {
	if !connected {
		return c.devNull()
	}
	r, w, err := ownedPipe(uid, gid)
	if err != nil {
		return nil, err
	}
	c.stdin = w
	c.theirs = append(c.theirs, r)
	return r, nil
}

func (c *connection) output(connected bool, uid, gid int, frame byte, stream string) (*os.File, error) {
	if !connected {
		return c.devNull()
	}
	r, w, err := ownedPipe(uid, gid)
	if err != nil {
		return nil, err
	}
	c.theirs = append(c.theirs, w)
	c.pipes = append(c.pipes, pipe{r, frame, stream})
	return w, nil
}

func (c *connection) devNull() (*os.File, error) {
	if c.null == nil {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		c.null = f
		c.theirs = append(c.theirs, f)
	}
	return c.null, nil
}

// ownedPipe makes a pipe that the container's root may open again, as /dev/stdout.
func ownedPipe(uid, gid int) (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil || uid == 0 && gid == 0 {
		return r, w, err
	}
	for _, f := range []*os.File{r, w} {
		if err := f.Chown(uid, gid); err != nil {
			r.Close()
			w.Close()
			return nil, nil, fmt.Errorf("handing a pipe to the container: %w", err)
		}
	}
	return r, w, nil
}

// abandon closes everything after a failed start.
func (c *connection) abandon() {
	files := append(c.theirs, c.socket, c.stdin)
	for _, p := range c.pipes {
		files = append(files, p.file)
	}
	for _, f := range files {
		f.Close()
	}
}

// begin takes over once the process exists.
func (c *connection) begin() (*stdio, error) {
	if c.socket != nil {
		console, err := receiveFile(c.socket)
		c.socket.Close()
		if err != nil {
			return nil, fmt.Errorf("receiving the terminal: %w", err)
		}
		c.console = console
		if c.plan.stdin {
			c.stdin = console
		}
		c.pipes = []pipe{{console, shim.FrameStdout, logs.Stdout}}
	}
	for _, f := range c.theirs {
		f.Close()
	}
	for _, p := range c.pipes {
		c.outputs = append(c.outputs, p.file)
		c.readers.Add(1)
		go c.copy(p)
	}
	return c.stdio, nil
}

// receiveFile takes a descriptor off a unix socket and makes it fit for the runtime's poller.
func receiveFile(socket *os.File) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 4096), oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, err
	}
	fds, err := descriptors(oob[:n], 1)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "ptmx"), nil
}

// copy hands on one stream to its end.
func (s *stdio) copy(p pipe) {
	defer s.readers.Done()
	buf := make([]byte, 16<<10)
	for {
		n, err := p.file.Read(buf)
		if n > 0 {
			s.deliver(p, buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.copyRest(p, buf)
			_ = p.file.SetReadDeadline(time.Time{})
			go discard(p.file)
			return
		default: // EOF, or EIO from a terminal that nobody has open any more
			p.file.Close()
			return
		}
	}
}

// copyRest hands on what the process has left in the pipe, when others still hold it open.
func (s *stdio) copyRest(p pipe, buf []byte) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	for total := 0; total < maxBuffered; {
		var n int
		if err := raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) }); err != nil || n <= 0 {
			return
		}
		s.deliver(p, buf[:n])
		total += n
	}
}

// discard keeps a pipe alive for processes that an exec has left behind: they would die of SIGPIPE.
func discard(f *os.File) {
	defer f.Close()
	_, _ = io.Copy(io.Discard, f)
}

func (s *stdio) deliver(p pipe, data []byte) {
	if s.log != nil {
		if err := s.log.Write(p.stream, data, time.Now()); err != nil {
			s.complain(err)
		}
	}
	s.mu.Lock()
	clients := s.clients // never changed in place
	s.mu.Unlock()
	for _, c := range clients {
		c.push(p.frame, data)
	}
}

// complain reports the first failure of the log; the container goes on.
func (s *stdio) complain(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.logError {
		s.logError = true
		fmt.Fprintln(os.Stderr, "berth-shim:", err)
	}
}

// outputGrace is how long after a process's end its output is awaited when other processes hold its streams open.
const outputGrace = time.Second

// drain waits until everything that the ended process has written was handed on. With patience it waits for clients that lag,
// too; without, they are sent the rest later.
func (s *stdio) drain(patience bool) {
	s.closeStdin()
	if !patience {
		s.mu.Lock()
		clients := s.clients
		s.mu.Unlock()
		for _, c := range clients {
			c.widen()
		}
	}
	for _, f := range s.outputs {
		_ = f.SetReadDeadline(time.Now().Add(outputGrace))
	}
	s.readers.Wait()
}

// finish lets the clients go when they have got everything.
func (s *stdio) finish(closing []byte) {
	s.mu.Lock()
	clients := s.clients
	s.clients, s.finished = nil, true
	s.mu.Unlock()
	for _, c := range clients {
		c.finish(closing)
	}
}

// add connects a client to what comes from now on; false says that nothing will come.
func (s *stdio) add(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return false
	}
	s.clients = append(slices.Clone(s.clients), c)
	return true
}

func (s *stdio) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = slices.DeleteFunc(slices.Clone(s.clients), func(other *client) bool { return other == c })
}

// write passes input to the process. Without anyone to read it, it is dropped.
func (s *stdio) write(p []byte) {
	s.stdinMu.Lock()
	f := s.stdin
	s.stdinMu.Unlock()
	if f != nil {
		_, _ = f.Write(p)
	}
}

// takesInput tells whether stdin is connected still.
func (s *stdio) takesInput() bool {
	s.stdinMu.Lock()
	defer s.stdinMu.Unlock()
	return s.stdin != nil
}

// closeStdin ends the process's input; that of a terminal has no end.
func (s *stdio) closeStdin() {
	s.stdinMu.Lock()
	defer s.stdinMu.Unlock()
	if s.stdin != nil && s.console == nil {
		s.stdin.Close()
		s.stdin = nil
	}
}

func (s *stdio) resize(width, height uint16) error {
	if s.console == nil {
		return invalid("the process has no terminal")
	}
	raw, err := s.console.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	err = raw.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return errors.Join(err, ioctlErr)
}
