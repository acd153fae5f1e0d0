package sshutil

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// The files of this file go through the shell, not sftp: one round trip instead of six, and it works where the sftp subsystem
// is switched off. Scripts are wrapped in one compound command, so that one that arrives cut off does nothing.

// WriteFile replaces a file atomically: after a crash at any moment it holds the old content or the new one. The folder must
// exist. Only the permission bits of mode count.
func (c *Client) WriteFile(ctx context.Context, path string, data []byte, mode fs.FileMode) error {
	script := fmt.Sprintf(`{ set -e; umask 077; p=%s; d=$(dirname -- "$p")
t=$(mktemp "$d/.berth.XXXXXX"); trap 'rm -f -- "$t"' EXIT
cat > "$t"; [ "$(wc -c < "$t")" -eq %d ] || { echo "the content arrived cut off" >&2; exit 1; }
chmod %04o "$t"; sync "$t" 2>/dev/null || sync; mv -f -- "$t" "$p"; trap - EXIT; sync "$d" 2>/dev/null || sync; }`,
		Quote(abs(path)), len(data), mode.Perm())
	if err := c.Run(ctx, sh(script), bytes.NewReader(data), nil, nil); err != nil {
		return fmt.Errorf("writing %s: %w", path, remoteError(err))
	}
	return nil
}

// ReadFile returns a file's content, at most 64 MB. errors.Is tells fs.ErrNotExist.
func (c *Client) ReadFile(ctx context.Context, path string) ([]byte, error) {
	script := fmt.Sprintf(`{ p=%s; [ -e "$p" ] || exit %d; cat < "$p"; }`, Quote(abs(path)), statusNotExist)
	out, err := c.Output(ctx, sh(script))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, remoteError(err))
	}
	return out, nil
}

// statusNotExist is an exit status of our scripts that no shell or tool in them uses.
const statusNotExist = 44

// Upload copies a file of the given size to a machine, atomically as WriteFile does, and goes on where an upload of the same
// content was cut off. Progress, if not nil, is told how many bytes are there, from the goroutine of the call.
func (c *Client) Upload(ctx context.Context, path string, src io.ReaderAt, size int64, mode fs.FileMode, progress func(done int64)) error {
	if err := c.upload(ctx, path, src, size, mode, progress); err != nil {
		return fmt.Errorf("uploading %s: %w", path, remoteError(err))
	}
	return nil
}

func (c *Client) upload(ctx context.Context, path string, src io.ReaderAt, size int64, mode fs.FileMode, progress func(int64)) error {
	hash := sha256.New()
	if n, err := io.Copy(hash, io.NewSectionReader(src, 0, size)); err != nil || n != size {
		return errors.Join(fmt.Errorf("the source has %d of %d bytes", n, size), err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	part := abs(path) + ".part-" + sum[:12]
	have, err := c.partial(ctx, part, size)
	if err != nil {
		return err
	}
	script := fmt.Sprintf(`{ set -e; umask 077; t=%s; p=%s; cat >> "$t"
[ "$(wc -c < "$t")" -eq %d ] || { echo "the content arrived cut off" >&2; exit 1; }
echo "%s  $t" | sha256sum -c >/dev/null || { rm -f -- "$t"; echo "the content arrived damaged" >&2; exit 1; }
chmod %04o "$t"; sync "$t" 2>/dev/null || sync; mv -f -- "$t" "$p"; sync "$(dirname -- "$p")" 2>/dev/null || sync; }`,
		Quote(part), Quote(abs(path)), size, sum, mode.Perm())
	rest := &progressReader{r: io.NewSectionReader(src, have, size-have), done: have, report: progress}
	return c.Run(ctx, sh(script), rest, nil, nil)
}

// partial tells how much of an upload is there already.
func (c *Client) partial(ctx context.Context, part string, size int64) (int64, error) {
	script := fmt.Sprintf(`{ t=%s; if [ -f "$t" ]; then wc -c < "$t"; else echo 0; fi; }`, Quote(part))
	out, err := c.Output(ctx, sh(script))
	if err != nil {
		return 0, err
	}
	have, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil || have < 0 {
		return 0, fmt.Errorf("unexpected answer %q", abbreviate(string(out), 40))
	}
	if have > size {
		return 0, c.Run(ctx, Quote("rm", "-f", "--", part), nil, nil, nil)
	}
	return have, nil
}

// sh runs a script in a POSIX shell, whatever the user's login shell is.
func sh(script string) string { return Quote("sh", "-c", script) }

// abs keeps a path that starts with a dash from being taken for an option.
func abs(path string) string {
	if strings.HasPrefix(path, "-") {
		return "./" + path
	}
	return path
}

// remoteError drops the script from an error of our own commands: only what it said is of interest.
func remoteError(err error) error {
	var exit *ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if exit.Status == statusNotExist {
		return fs.ErrNotExist
	}
	if msg := strings.TrimSpace(exit.Stderr); msg != "" {
		return errors.New(msg)
	}
	return fmt.Errorf("exit status %d", exit.Status)
}

// progressReader reports how far it was read.
type progressReader struct {
	r      io.Reader
	done   int64
	report func(int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	if n > 0 && p.report != nil {
		p.report(p.done)
	}
	return n, err
}
