//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// store keeps two documents a container: spec.json, durable before anything else is done for the container, and state.json.
// A folder is born complete, by a rename of .new-ID, and dies as .old-ID, whose leftovers the next start clears.
type store struct{ dir string }

const (
	specFile  = "spec.json"
	stateFile = "state.json"
	bornAs    = ".new-"
	diesAs    = ".old-"
	// A document larger than this is not one of ours. Config and HostConfig come from requests, which are smaller.
	maxDocument = 16 << 20
)

func newStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of containers: %w", err)
	}
	return &store{dir: dir}, nil
}

func (s *store) path(id string, elem ...string) string {
	return filepath.Join(append([]string{s.dir, id}, elem...)...)
}

// create makes a container's folder with its documents. It is durable when create returns.
func (s *store) create(spec *Spec, state *State) error {
	born := s.path(bornAs + spec.ID)
	if err := os.Mkdir(born, 0o700); err != nil {
		return fmt.Errorf("making the container's folder: %w", err)
	}
	err := errors.Join(
		writeDocument(filepath.Join(born, stateFile), state, false),
		writeDocument(filepath.Join(born, specFile), spec, true),
	)
	if err == nil {
		err = os.Rename(born, s.path(spec.ID))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing the container's documents: %w", err), os.RemoveAll(born))
	}
	return syncDir(s.dir)
}

func (s *store) saveSpec(spec *Spec) error { return s.replace(spec.ID, specFile, spec, true) }

// saveState replaces the state. Without durable it survives the engine's death but maybe not the machine's.
func (s *store) saveState(id string, state *State, durable bool) error {
	return s.replace(id, stateFile, state, durable)
}

func (s *store) replace(id, name string, v any, durable bool) error {
	temp := s.path(id, "."+name)
	if err := writeDocument(temp, v, durable); err != nil {
		return fmt.Errorf("writing the container's %s: %w", name, err)
	}
	if err := os.Rename(temp, s.path(id, name)); err != nil {
		return fmt.Errorf("replacing the container's %s: %w", name, err)
	}
	if durable {
		return syncDir(s.path(id))
	}
	return nil
}

// bury takes a container out of the store; its files go with clear. There is no way back.
func (s *store) bury(id string) error {
	err := os.Rename(s.path(id), s.path(diesAs+id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *store) clear(id string) error { return os.RemoveAll(s.path(diesAs + id)) }

// load returns the containers' ids, and those whose removal was not finished.
func (s *store) load() (ids, dying []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the folder of containers: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case validID(name):
			ids = append(ids, name)
		case strings.HasPrefix(name, diesAs) && validID(name[len(diesAs):]):
			dying = append(dying, name[len(diesAs):])
		case strings.HasPrefix(name, bornAs): // nothing has been done for it yet
			os.RemoveAll(s.path(name))
		}
	}
	return ids, dying, nil
}

// dying returns what is known of a container whose removal was not finished.
func (s *store) dying(id string) *Spec {
	data, err := readLimited(s.path(diesAs+id, specFile))
	if err == nil {
		if spec, err := decodeSpec(data); err == nil && spec.ID == id {
			return spec
		}
	}
	return &Spec{ID: id}
}

// read returns a container's documents. A missing or broken state is nil: the container exists all the same.
func (s *store) read(id string) (*Spec, *State, error) {
	data, err := readLimited(s.path(id, specFile))
	if err != nil {
		return nil, nil, err
	}
	spec, err := decodeSpec(data)
	if err != nil {
		return nil, nil, err
	}
	if spec.ID != id {
		return nil, nil, fmt.Errorf("the container's document is of another container, %s", spec.ID)
	}
	data, err = readLimited(s.path(id, stateFile))
	if err != nil {
		return spec, nil, nil
	}
	state, err := decodeState(data)
	if err != nil {
		return spec, nil, nil
	}
	return spec, state, nil
}

func readLimited(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxDocument {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxDocument)
	}
	return os.ReadFile(path)
}

func writeDocument(path string, v any, durable bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
