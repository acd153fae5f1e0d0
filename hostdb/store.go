// Package hostdb is the store of machines: a folder that can be moved, with one versioned document per machine, locks that name
// their holder, and writes that a crash cannot tear.
//
//	machines/NAME/machine.json                the record, this package's
//	machines/NAME/{ca,cert,key}.pem, id_*     files of the machine; made by others, removed with it
//	certs/{ca,ca-key,cert,key}.pem            the store's authority and client pair; made by others
//	locks/                                    who holds what
//	id                                        the store's mark; see Store.ID
//
// Folders are 0700, files 0600. No document holds an absolute path or a secret.
package hostdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	dirMode  = 0o700
	fileMode = 0o600

	recordFile = "machine.json"
	// foreignFile is docker-machine's record, which berth does not read.
	foreignFile = "config.json"

	// maxRecord bounds a record in bytes: a hundred times what a large one takes.
	maxRecord = 4 << 20
)

// Errors of this package that a caller may act on.
var (
	ErrNotFound = errors.New("no such machine")
	ErrExists   = errors.New("the machine exists already")
	// ErrBroken is a record that cannot be used: garbage, a newer version's, or unreadable.
	ErrBroken = errors.New("the machine's record cannot be used")
)

// Store is one folder of machines. The zero value of all fields but the folder is useful.
type Store struct {
	dir string

	// Command is shown to whoever waits for a lock that this process holds, e.g. "berth create".
	Command string
	// OnWait is told, once for each lock, that it is held by somebody else. May be nil.
	OnWait func(what string, h Holder)
	// Now is the clock of lock records; nil is the real one.
	Now func() time.Time
}

// New is the store in dir, which should be absolute. Nothing is read or made until it is used.
func New(dir string) *Store { return &Store{dir: dir} }

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// CertsDir is where the store's certificate authority is.
func (s *Store) CertsDir() string { return filepath.Join(s.dir, "certs") }

// MachineDir is the folder of the named machine, whether it exists or not.
func (s *Store) MachineDir(name string) string { return filepath.Join(s.machines(), name) }

func (s *Store) machines() string { return filepath.Join(s.dir, "machines") }

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Get reads a machine's record. It takes no lock: what it returns was whole and durable at some moment.
// The error wraps ErrNotFound or ErrBroken, or is about the name.
func (s *Store) Get(name string) (*Machine, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	data, err := readRecord(filepath.Join(s.MachineDir(name), recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.missing(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return decodeNamed(name, data)
}

// missing tells apart a machine that does not exist from a folder that somebody else made.
func (s *Store) missing(name string) error {
	dir := s.MachineDir(name)
	if _, err := os.Stat(filepath.Join(dir, foreignFile)); err == nil {
		return fmt.Errorf("%w: %s was made by docker-machine, whose records berth cannot read yet", ErrBroken, name)
	}
	left, err := os.ReadDir(dir)
	if err == nil && len(left) > 0 {
		return fmt.Errorf("%w: the folder %s has no %s", ErrBroken, dir, recordFile)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return fmt.Errorf("%s: %w", name, ErrNotFound)
}

func readRecord(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxRecord)
	}
	return data, nil
}

func decodeNamed(name string, data []byte) (*Machine, error) {
	m, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if m.RenamingTo == name {
		m.renamed() // the folder was, and then something came in between
	}
	if m.Name != name {
		return nil, fmt.Errorf("%w: the record in machines/%s is of a machine called %q", ErrBroken, name, m.Name)
	}
	return m, nil
}

// Entry is one machine of a listing: either its record or what is wrong with it.
type Entry struct {
	Name    string
	Machine *Machine // nil when Err is set
	Err     error
}

// List reads all machines, in natural order of their names. A broken record is an entry with an error; the listing itself
// fails only when the folder cannot be read.
func (s *Store) List() ([]Entry, error) {
	dirs, err := os.ReadDir(s.machines())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing machines: %w", err)
	}
	var entries []Entry
	for _, d := range dirs {
		if strings.HasPrefix(d.Name(), ".") || !isDir(filepath.Join(s.machines(), d.Name()), d) {
			continue
		}
		m, err := s.Get(d.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		entries = append(entries, Entry{Name: d.Name(), Machine: m, Err: err})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return CompareNatural(a.Name, b.Name) })
	return entries, nil
}

// isDir follows links: a user may keep one machine on another disk.
func isDir(path string, d fs.DirEntry) bool {
	if d.Type()&fs.ModeSymlink == 0 {
		return d.IsDir()
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Exists reports whether the name is taken, be it by a broken record.
func (s *Store) Exists(name string) bool {
	_, err := s.Get(name)
	return err == nil || errors.Is(err, ErrBroken)
}

// Lock waits until nobody else changes the machine. Only its holder can write; the machine need not exist.
func (s *Store) Lock(ctx context.Context, name string) (*Lock, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	l, err := s.lock(ctx, filepath.Join("machines", name), fmt.Sprintf("machine %q", name))
	if err != nil {
		return nil, err
	}
	l.name = name
	return l, nil
}

// LockStore waits until nobody else changes what machines share: the certificate authority.
func (s *Store) LockStore(ctx context.Context) (*Lock, error) {
	return s.lock(ctx, "store", "the store")
}
