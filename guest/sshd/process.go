//go:build linux

package sshd

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is the program of a session, the leader of a session and a process group of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	outs  []output
	tty   *os.File // the terminal's near end; nil without one

	gone   chan struct{} // closed when the client has gone
	mu     sync.Mutex    // guards the rest
	exited bool          // collected: its pid may belong to another by now
}

// output is one stream that a process writes.
type output struct {
	from   *os.File
	stderr bool
}

func startProcess(s *session, command *string) (*process, error) {
	cfg := s.conn.server.cfg
	cmd := exec.Command(cfg.Shell)
	if command == nil {
		cmd.Args = []string{"-" + baseName(cfg.Shell)} // a login shell
	} else {
		cmd.Args = append(cmd.Args, "-c", *command)
	}
	cmd.Dir = cfg.Home
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	if s.pty != nil {
		return p, p.startOnTerminal(s)
	}
	cmd.Env = s.environ("")
	return p, p.startOnPipes()
}

func baseName(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// startOnPipes starts the program with a pipe for each stream. The pipes are ours, not exec's, whose Wait would close them
// before everything was read.
func (p *process) startOnPipes() (err error) {
	var theirs, ours []*os.File
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(ours)
		}
	}()
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		r, w, err = os.Pipe()
		return r, w
	}
	inR, inW := pipe()
	outR, outW := pipe()
	errR, errW := pipe()
	theirs, ours = []*os.File{inR, outW, errW}, []*os.File{inW, outR, errR}
	if err != nil {
		return err
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = inR, outW, errW
	p.stdin = inW
	p.outs = []output{{from: outR}, {from: errR, stderr: true}}
	return p.cmd.Start()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

func (p *process) startOnTerminal(s *session) error {
	near, far, err := openTerminal()
	if err != nil {
		return err
	}
	defer far.Close()
	if err := setModes(far, s.pty.Modes); err != nil {
		near.Close()
		return err
	}
	p.tty = near
	p.resize(sizeRequest{Cols: s.pty.Cols, Rows: s.pty.Rows, Width: s.pty.Width, Height: s.pty.Height})
	p.cmd.Env = s.environ(far.Name())
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = far, far, far
	p.cmd.SysProcAttr.Setctty = true
	p.stdin = keepOpen{near}
	p.outs = []output{{from: near}}
	if err := p.cmd.Start(); err != nil {
		near.Close()
		return err
	}
	return nil
}

// keepOpen ignores the end of input: a terminal has none, as with OpenSSH.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// run copies until the program has ended and its output is complete, and says how it ended, in the form of a request's payload.
// When the client has gone it does not wait: a program that ignores SIGHUP may live on.
func (p *process) run(ch channel) any {
	go p.feed(ch)
	var copies sync.WaitGroup
	for _, out := range p.outs {
		copies.Go(func() {
			to := io.Writer(ch)
			if out.stderr {
				to = ch.Stderr()
			}
			// Reading a terminal whose far side is closed ends with EIO, which is its end of file.
			_, _ = io.Copy(to, out.from)
			out.from.Close()
		})
	}
	ended := make(chan any, 1)
	go func() { ended <- p.wait() }()
	var how any
	select {
	case how = <-ended:
	case <-p.gone:
		how = exitStatus{Status: 255} // for nobody
	}
	copies.Wait()
	p.stdin.Close()
	return how
}

// channel is what run needs of an ssh.Channel.
type channel interface {
	io.ReadWriter
	Stderr() io.ReadWriter
}

// feed passes the client's input on. After the program has closed its end the rest is dropped, so that the client is not stuck.
func (p *process) feed(ch io.Reader) {
	_, err := io.Copy(p.stdin, ch)
	p.stdin.Close()
	if err != nil {
		_, _ = io.Copy(io.Discard, ch)
	}
}

// wait collects the process and says how it ended. It is marked as ended before its pid is free, so that kill never hits another.
func (p *process) wait() any {
	err := p.awaitExit()
	p.mu.Lock()
	p.exited = true
	p.mu.Unlock()
	var exit *exec.ExitError
	if waitErr := p.cmd.Wait(); err != nil || waitErr != nil && !errors.As(waitErr, &exit) {
		return exitStatus{Status: 255}
	}
	state := p.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitSignal{Signal: signalName(ws.Signal()), CoreDumped: ws.CoreDump(), Message: ws.Signal().String()}
	}
	return exitStatus{Status: uint32(state.ExitCode())}
}

// awaitExit waits for the process to end without collecting it.
func (p *process) awaitExit() error {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// signal sends a signal, by its wire name, to the process and its group.
func (p *process) signal(name string) bool {
	sig, ok := signals()[name]
	return ok && p.kill(sig)
}

func (p *process) kill(sig syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.exited && syscall.Kill(-p.cmd.Process.Pid, sig) == nil
}

// hangUp ends what the client has left behind: SIGHUP, as when a line drops. A program that ignores it (nohup) lives on. It is
// called once.
func (p *process) hangUp() {
	p.kill(syscall.SIGHUP)
	p.kill(syscall.SIGCONT) // a stopped process would never see the first
	close(p.gone)
	// Closing the near end of a terminal sends SIGHUP to its foreground group, too.
	for _, out := range p.outs {
		out.from.Close()
	}
	p.stdin.Close()
}

func (p *process) resize(s sizeRequest) bool {
	if p.tty == nil {
		return false
	}
	size := &unix.Winsize{Col: clamp(s.Cols), Row: clamp(s.Rows), Xpixel: clamp(s.Width), Ypixel: clamp(s.Height)}
	return control(p.tty, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) }) == nil
}
