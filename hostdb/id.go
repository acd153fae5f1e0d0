package hostdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// idFile holds the store's mark.
const idFile = "id"

// ID is the store's mark, by which things elsewhere can be known as this store's: 16 hexadecimal digits, made by chance when they
// are first asked for. It moves along with the store; a store that is copied has the mark of the first.
func (s *Store) ID(ctx context.Context) (string, error) {
	id, err := s.readID()
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	l, err := s.LockStore(ctx)
	if err != nil {
		return "", err
	}
	defer l.Unlock()
	if id, err = s.readID(); !errors.Is(err, fs.ErrNotExist) {
		return id, err // somebody else made it meanwhile
	}
	id = fmt.Sprintf("%016x", rand.Uint64()) // the mark is no secret, and `berth env` does without cryptography
	if err := WriteFile(filepath.Join(s.dir, idFile), []byte(id+"\n"), fileMode); err != nil {
		return "", fmt.Errorf("writing the store's mark: %w", err)
	}
	return id, nil
}

// Marked tells whether anything can bear the store's mark: whether it has been asked for.
func (s *Store) Marked() bool {
	_, err := s.readID()
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *Store) readID() (string, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, idFile))
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("the store's mark in %s is damaged: what bears it in a cloud cannot be told from what does not", filepath.Join(s.dir, idFile))
	}
	return id, nil
}
