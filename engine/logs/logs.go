// Package logs defines how a container's output is kept on disk, writes it (in the supervisor) and reads it back (in the engine).
// The format is Docker's json-file: one JSON object a line with log, stream and time.
package logs

// Config says where and how the output of one container is kept.
type Config struct {
	Driver  string            // "json-file", "local" (kept as json-file) or "none"
	Path    string            // absolute path of the current file; rotated ones add .1, .2, …
	MaxSize int64             // bytes of one file before it is rotated; <= 0 means never
	MaxFile int               // number of files kept, the current one included; at least 1
	Attrs   map[string]string // labels and variables copied into each line, with --log-opt labels/env
}
