// Package logs defines how a container's output is kept on disk, writes it (in the supervisor) and reads it back (in the engine).
// The format is Docker's json-file: one JSON object a line with log, stream and time. Output that goes to the host's syslog or
// journal is kept in such files as well, so that it can be read back.
package logs

import "time"

// Config says where and how the output of one container is kept.
type Config struct {
	Driver   string            // "none" keeps nothing; the others are for who asks
	NoFile   bool              // nothing is kept, it is only passed on
	Path     string            // absolute path of the current file; rotated ones add .1, .2, …
	MaxSize  int64             // bytes of one file before it is rotated; <= 0 means never
	MaxFile  int               // number of files kept, the current one included; at least 1
	Compress bool              // rotated files are compressed and add .gz
	Attrs    map[string]string // labels and variables copied into each line, with --log-opt labels/env
	Buffer   int64             // bytes of output that may wait to be kept while the container goes on; 0 means that it waits
	Forward  *Forward          // where each line goes besides; nil means nowhere
}

// kept says whether there are files.
func (c Config) kept() bool { return !c.NoFile && c.Driver != "none" }

// Forward says where lines are passed on to. One that cannot be passed on is lost there.
type Forward struct {
	To       string // "syslog" or "journald"
	Network  string // of syslog: "unixgram", "unix", "tcp" or "udp"; empty means the host's own
	Address  string // path, or host:port
	Facility int    // as RFC 5424 numbers them
	Format   string // "", "rfc3164", "rfc5424" or "rfc5424micro"
	Tag      string
	Fields   map[string]string // of the journal
}

// forwarder passes lines on. It is used by one goroutine at a time.
type forwarder interface {
	// send takes a line without its newline; partial says that it goes on in the stream's next one.
	send(stream string, text []byte, at time.Time, partial bool) error
	close() error
}
