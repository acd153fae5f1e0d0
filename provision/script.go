package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/getberth/berth/engine/config"
)

// Scripts travel on standard input, so that nothing of them shows in the machine's process list, and so that the user's login
// shell need not understand them. Each is wrapped in a function that its last line calls: one that arrives cut off does nothing.

// statusNotRoot is the exit status of asRoot when there is no way to root; sysexits(3) calls it EX_NOPERM.
const statusNotRoot = 77

// asRoot becomes root in the way that the machine offers and runs the shell with what follows; until the facts are known, it
// tries, and the shell's first argument tells what worked. It is one line without exclamation marks: it must also pass through
// csh and fish.
func (r *run) asRoot(shell string) string {
	if r.facts.OS != "" {
		return strings.TrimSpace(r.facts.Via + " " + shell)
	}
	return "sh -c " + quote(`if [ "$(id -u)" -eq 0 ]; then exec `+shell+`; `+
		`elif sudo -n true 2>/dev/null; then exec sudo -n `+shell+` - "sudo -n"; `+
		`elif doas -n true 2>/dev/null; then exec doas -n `+shell+` - "doas -n"; `+
		fmt.Sprintf(`else exit %d; fi`, statusNotRoot))
}

// Script runs a shell script as root, in the way to root that the machine offers, and returns what it wrote to standard output.
func Script(ctx context.Context, h Host, body string) ([]byte, error) {
	return (&run{host: h}).script(ctx, body)
}

// script runs a script as root and returns what it wrote to standard output, at most maxAnswer bytes.
func (r *run) script(ctx context.Context, body string) ([]byte, error) {
	var out bytes.Buffer
	var errOut tail
	err := r.host.Run(ctx, r.asRoot("sh -s"), strings.NewReader(wrap(body)), &bounded{w: &out, left: maxAnswer}, &errOut)
	return out.Bytes(), r.explain(err, errOut.String())
}

// wrap makes a script that does all or, cut off at any place, nothing.
func wrap(body string) string { return "berth() {\n" + body + "\n}\nberth \"$@\" </dev/null\n" }

// feed runs a command of one line as root, with data as its input.
func (r *run) feed(ctx context.Context, line string, data io.Reader) error {
	var errOut tail
	err := r.host.Run(ctx, r.asRoot("sh -c "+quote(line)), data, nil, &errOut)
	return r.explain(err, errOut.String())
}

// maxAnswer bounds what a script may answer, in bytes: the facts hold a few files of some kB.
const maxAnswer = 4 << 20

// explain turns a failed script into what it said.
func (r *run) explain(err error, said string) error {
	var exit interface{ ExitStatus() int }
	if !errors.As(err, &exit) {
		return err
	}
	if exit.ExitStatus() == statusNotRoot {
		return errors.New("the user is not root there, and neither sudo nor doas works without a password")
	}
	if said = strings.TrimSpace(said); said == "" {
		return err
	}
	return &scriptError{said: said, status: exit.ExitStatus()}
}

// scriptError is what a script said before it failed.
type scriptError struct {
	said   string
	status int
}

func (e *scriptError) Error() string   { return e.said }
func (e *scriptError) ExitStatus() int { return e.status }

// file is one to be written.
type file struct {
	path    string
	content []byte
	mode    fs.FileMode
}

// flushFunc is a shell function that makes a file or folder durable; old tools can only flush everything.
const flushFunc = `flush() { sync "$1" 2>/dev/null || sync; }
`

// putFunc is a shell function: put FILE MODE SIZE replaces a file with standard input, of which SIZE bytes count, since a
// here-document always ends in a newline. A crash leaves the old content or the new one.
const putFunc = flushFunc + `put() {
	umask 077
	head -c "$3" > "$1.berth-new" && chmod "$2" "$1.berth-new" && flush "$1.berth-new" && mv -f "$1.berth-new" "$1"
}
`

// writeScript writes files, in order, and their folders where missing.
func writeScript(files ...file) (string, error) {
	if len(files) == 0 {
		return "", nil
	}
	var b strings.Builder
	b.WriteString(putFunc)
	var dirs []string
	for _, f := range files {
		if bytes.IndexByte(f.content, 0) >= 0 {
			return "", fmt.Errorf("writing %s: not a text", f.path)
		}
		if dir := path.Dir(f.path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
			b.WriteString(makeDir(dir))
		}
		end := "END_" + rand.Text()
		fmt.Fprintf(&b, "put %s %04o %d <<'%s' || return\n%s\n%s\n", quote(f.path), f.mode.Perm(), len(f.content), end, f.content, end)
	}
	for _, dir := range dirs {
		fmt.Fprintf(&b, "flush %s || return\n", quote(dir))
	}
	return b.String(), nil
}

// makeDir is a line that makes a folder unless it is there.
func makeDir(dir string) string {
	mode := "0755"
	if dir == config.TLSDir {
		mode = "0700"
	}
	return fmt.Sprintf("[ -d %[1]s ] || mkdir -p -m %[2]s %[1]s || return\n", quote(dir), mode)
}

// quote makes one word of a POSIX shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// bounded refuses more than left bytes.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, errors.New("the machine's answer is too long")
	}
	b.left -= len(p)
	return b.w.Write(p)
}

// tail keeps the last 8 kB.
type tail struct{ buf []byte }

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-tailSize):]...)
	t.buf = t.buf[max(0, len(t.buf)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf) }
