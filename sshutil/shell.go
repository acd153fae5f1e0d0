package sshutil

import (
	"context"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// Shell is an interactive session.
type Shell struct {
	Cmd string // "" is the login shell
	TTY bool   // ask for a terminal on the machine; raw mode here when Stdin is one
	// Stdin and Stdout decide about raw mode and size when they are terminals (*os.File).
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            map[string]string // a server drops what its AcceptEnv does not allow
}

// The size of a terminal whose size nobody knows.
const (
	defaultCols = 80
	defaultRows = 24
)

// Shell runs an interactive session until the remote side ends it; errors are those of Run. With a terminal, keys such as Ctrl-C
// reach the machine as bytes, and its size follows the window.
func (c *Client) Shell(ctx context.Context, sh Shell) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, inTerm := terminal(sh.Stdin)
	out, outTerm := terminal(sh.Stdout)
	if sh.TTY && inTerm {
		restore, err := makeRaw(in, out, outTerm)
		if err != nil {
			return err
		}
		defer restore()
	}
	size := func() (cols, rows int) {
		for _, f := range []*os.File{out, in} {
			if f == nil {
				continue
			}
			if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
				return w, h
			}
		}
		return defaultCols, defaultRows
	}
	label := sh.Cmd
	if label == "" {
		label = "shell"
	}
	return c.run(ctx, label, sh.Stdin, sh.Stdout, sh.Stderr, func(s *ssh.Session) error {
		for k, v := range sh.Env {
			_ = s.Setenv(k, v) // refusal is the server's right, as with OpenSSH's SendEnv
		}
		if sh.TTY {
			cols, rows := size()
			if err := s.RequestPty(termName(), rows, cols, ssh.TerminalModes{}); err != nil {
				return err
			}
			if inTerm || outTerm {
				go followSize(ctx, s, cols, rows, size)
			}
		}
		if sh.Cmd == "" {
			return s.Shell()
		}
		return s.Start(sh.Cmd)
	})
}

// followSize tells the machine about each change of the window.
func followSize(ctx context.Context, s *ssh.Session, cols, rows int, size func() (int, int)) {
	watchSize(ctx, func() {
		if w, h := size(); w != cols || h != rows {
			cols, rows = w, h
			_ = s.WindowChange(rows, cols)
		}
	})
}

// terminal returns the file behind a stream, and whether it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	if !ok || f == nil || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return f, true
}

func termName() string {
	if t := os.Getenv("TERM"); t != "" {
		return t
	}
	return "xterm-256color"
}

// makeRaw passes keys through unchanged until restore is called.
func makeRaw(in, out *os.File, outTerm bool) (restore func(), err error) {
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	var undo func()
	if outTerm {
		undo = enableEscapes(out)
	}
	return func() {
		if undo != nil {
			undo()
		}
		_ = term.Restore(int(in.Fd()), state)
	}, nil
}
