package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/getberth/berth/engine/config"
)

// maxEngine bounds an engine's size, in bytes, compressed or not; today's is 60 MB.
const maxEngine = 512 << 20

// engineDone compares the machine's engine, in the light VM the image's, with ours.
func (r *run) engineDone(context.Context) (bool, error) {
	return r.facts.BinarySHA256 == r.engine.SHA256, nil
}

func validSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// pushEngine sends the binary, compressed in a way that the machine understands, into a file that a later run goes on with when
// this one is cut off; then the machine checks it and puts it into place, keeping the engine that was there.
func (r *run) pushEngine(ctx context.Context) error {
	e := r.engine
	if e.SHA256 == r.facts.imageSHA256 {
		return r.useImageEngine(ctx)
	}
	enc := r.encoding()
	data, err := encode(e, enc)
	if err != nil {
		return fmt.Errorf("reading the engine for %s: %w", r.facts.Arch, err)
	}
	have := r.partial(e, enc, int64(len(data)))
	err = r.push(ctx, e, enc, data, have)
	var failed *scriptError
	if errors.As(err, &failed) && failed.status == statusDamaged && have > 0 {
		// What was there may have come from another build of berth, whose compressor works differently.
		err = r.push(ctx, e, enc, data, 0)
	}
	if err != nil {
		return err
	}
	r.facts.Binary, r.facts.BinarySHA256, r.facts.restartDue = config.Binary, e.SHA256, true
	return nil
}

// useImageEngine puts aside what was once pushed to a light VM whose new image brings the right engine itself.
func (r *run) useImageEngine(ctx context.Context) error {
	_, err := r.script(ctx, fmt.Sprintf(": > %s && mv -f %s %s && rm -f %s",
		restartDue, config.Binary, previous, config.Binary+config.StampSuffix))
	if err != nil {
		return err
	}
	r.facts.Binary, r.facts.BinarySHA256, r.facts.restartDue = config.GuestBinary, r.facts.imageSHA256, true
	return nil
}

// encoding is how the binary travels.
type encoding string

const (
	asZstd encoding = "zst"
	asGzip encoding = "gz"
	asIs   encoding = "raw"
)

// encoding is zstd where the machine has it, which saves a tenth of what gzip sends and is quicker at both ends.
func (r *run) encoding() encoding {
	switch {
	case r.facts.tools["zstd"]:
		return asZstd
	case r.facts.tools["gzip"]:
		return asGzip
	}
	return asIs
}

// decoder is the command on the machine.
func (e encoding) decoder() string {
	switch e {
	case asZstd:
		return "zstd -dc"
	case asGzip:
		return "gzip -dc"
	}
	return "cat"
}

// encode reads the engine and brings it into the form in which it travels. The form depends on the input alone, so that an
// upload can be resumed.
func encode(e Engine, enc encoding) ([]byte, error) {
	f, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out bytes.Buffer
	w, err := enc.encoder(&out)
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(w, io.LimitReader(f, maxEngine+1))
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	if n > maxEngine {
		return nil, fmt.Errorf("larger than %d bytes", maxEngine)
	}
	return out.Bytes(), nil
}

// encoder compresses into w. Of an engine of 31.8 MB, zstd's third level makes 11.5 MB in 0.5 s, gzip's sixth 12.8 MB in 0.8 s;
// their best levels send 6 and 3 % less and take 3 s.
func (e encoding) encoder(w io.Writer) (io.WriteCloser, error) {
	switch e {
	case asZstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	case asGzip:
		return gzip.NewWriterLevel(w, 6)
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// partFile is where the upload of an engine gathers.
func partFile(e Engine, enc encoding) string {
	return config.Binary + "-" + e.SHA256[:16] + "." + string(enc) + ".part"
}

// partial tells how much of the upload is there already.
func (r *run) partial(e Engine, enc encoding, size int64) int64 {
	if have := r.facts.parts[path.Base(partFile(e, enc))]; have <= size {
		return have
	}
	return 0
}

// statusDamaged is the exit status of the upload when everything arrived but is not what it should be; EX_DATAERR of sysexits(3).
const statusDamaged = 65

// push sends data from offset have on and installs the result. An upload that is cut off leaves the part file for the next run.
func (r *run) push(ctx context.Context, e Engine, enc encoding, data []byte, have int64) error {
	part, into, total := partFile(e, enc), ">>", int64(len(data))
	if have == 0 {
		into = ">"
	}
	// One line: see feed. Other uploads' remains go first, they may fill the disk. The size is looked at since tee, on a full disk, goes
	// on passing to sha256sum what it cannot write.
	line := fmt.Sprintf(`umask 077; mkdir -p -m 0755 %[1]s; for f in %[2]s-*.part; do [ "$f" = %[3]s ] || rm -f -- "$f"; done; cat %[4]s %[3]s || exit; `+
		`[ "$(wc -c < %[3]s)" -eq %[5]d ] || { echo "the upload was cut off" >&2; exit 1; }; `+
		`new=%[2]s-new; sum=$(%[6]s < %[3]s | tee $new | sha256sum); `+
		`[ "${sum%%%% *}" = %[7]s ] && [ "$(wc -c < $new)" -eq %[12]d ] || { rm -f -- %[3]s $new; echo "the engine arrived damaged, or the disk is full" >&2; exit %[8]d; }; `+
		`chmod 0755 $new && { sync $new 2>/dev/null || sync; } && : > %[9]s || exit; `+
		`[ ! -f %[2]s ] || ln -f %[2]s %[10]s || exit; mv -f $new %[2]s || exit; `+
		`echo "%[7]s $(stat -c %%s-%%Y-%%i %[2]s 2>/dev/null)" > %[2]s%[11]s; rm -f -- %[3]s; sync %[1]s 2>/dev/null || sync`,
		path.Dir(config.Binary), config.Binary, part, into, total, enc.decoder(), e.SHA256, statusDamaged, restartDue, previous, config.StampSuffix, e.Size)
	src := &counting{r: bytes.NewReader(data[have:]), done: have, report: func(done int64) {
		r.observe(Event{Step: stepEngine, State: Progress, Done: done, Total: total})
	}}
	return r.feed(ctx, line, src)
}

// counting reports how far it was read.
type counting struct {
	r      io.Reader
	done   int64
	report func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.done += int64(n); n > 0 {
		c.report(c.done)
	}
	return n, err
}
