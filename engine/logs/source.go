package logs

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// maxRecord bounds the memory that one line of a file may take: 16 KiB of text, each byte escaped to six, fit well.
const maxRecord = 1 << 20

// source reads the lines of one file, from offset, as far as they are complete.
type source struct {
	file   *os.File
	info   os.FileInfo // of the moment when it was opened
	plain  string      // identity of the file that this one was compressed from; empty for one that is not compressed
	size   int64
	offset int64 // of the next byte to read
	limit  int64 // where to stop; 0 means at the end of the file

	buf      []byte // read, not yet returned
	start    int    // of the unreturned part of buf
	scanned  int    // bytes of it known to hold no newline
	overlong bool   // in the middle of a line that is too long
}

// same says whether two files hold the same records.
func (s *source) same(other *source) bool {
	switch {
	case s.plain == "" && other.plain == "":
		return os.SameFile(s.info, other.info)
	case s.plain != "" && other.plain != "":
		return s.plain == other.plain
	case s.plain != "":
		return other.same(s)
	}
	info, err := s.file.Stat() // by now it is written no more
	return err == nil && identity(info) == other.plain
}

// next returns the next line without its newline, valid until the next call, or nil at the (present) end of the file.
func (s *source) next() ([]byte, error) {
	for {
		if line, ok := s.cut(); ok {
			if s.overlong {
				s.overlong = false
				continue
			}
			return line, nil
		}
		n, err := s.fill()
		if n == 0 {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return nil, err
		}
	}
}

// cut takes a line off the buffer.
func (s *source) cut() ([]byte, bool) {
	rest := s.buf[s.start:]
	i := bytes.IndexByte(rest[s.scanned:], '\n')
	if i < 0 {
		s.scanned = len(rest)
		if len(rest) > maxRecord {
			s.overlong = true
			s.buf, s.start, s.scanned = s.buf[:0], 0, 0
		}
		return nil, false
	}
	i += s.scanned
	s.start, s.scanned = s.start+i+1, 0
	return rest[:i], true
}

func (s *source) fill() (int, error) {
	if s.start > 0 {
		s.buf = s.buf[:copy(s.buf, s.buf[s.start:])]
		s.start = 0
	}
	const step = 32 << 10
	want := int64(step)
	if s.limit > 0 {
		want = min(want, s.limit-s.offset)
		if want <= 0 {
			return 0, io.EOF
		}
	}
	old := len(s.buf)
	if cap(s.buf)-old < int(want) {
		s.buf = append(make([]byte, 0, max(2*cap(s.buf), old+step)), s.buf...)
	}
	n, err := s.file.ReadAt(s.buf[old:old+int(want)], s.offset)
	s.buf = s.buf[:old+n]
	s.offset += int64(n)
	return n, err
}

// rewind begins anew, after the file was truncated.
func (s *source) rewind() {
	s.offset, s.buf, s.start, s.scanned, s.overlong = 0, s.buf[:0], 0, 0, false
}

// lastLines finds where the last n complete lines of the first size bytes begin, and how many there are.
func lastLines(f io.ReaderAt, size int64, n int) (found int, offset int64, err error) {
	if n <= 0 {
		return 0, size, nil
	}
	block := make([]byte, 64<<10)
	for end := size; end > 0; {
		begin := max(0, end-int64(len(block)))
		b := block[:end-begin]
		if _, err := f.ReadAt(b, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(b, '\n'); i >= 0; i = bytes.LastIndexByte(b[:i], '\n') {
			// The newline that ends the n+1st line from the end is where the last n begin.
			if found++; found > n {
				return n, begin + int64(i) + 1, nil
			}
		}
		end = begin
	}
	return found, 0, nil
}
