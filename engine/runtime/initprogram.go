//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/renameio/v2"
)

// InitName is what the supervisor is called to be the first process of a container (cmd/berth-shim/reaper.c).
const InitName = "docker-init"

// initProgram is the supervisor as a file that containers can have mounted: what is in a memfd cannot be.
type initProgram struct {
	path string
	once sync.Once
	err  error // set by once
}

// InitProgram is the path of a program that is to be mounted into containers as their first process, given the command as its
// arguments. It is written when it is first asked for; a container keeps the one that it has mounted.
func (s *Service) InitProgram() (string, error) {
	p := &s.init
	p.once.Do(func() { p.err = p.write(s.program.path) })
	if p.err != nil {
		return "", fmt.Errorf("the containers' init: %w", p.err)
	}
	return p.path, nil
}

func (p *initProgram) write(supervisor string) error {
	from, err := openSupervisor(supervisor)
	if err != nil {
		return err
	}
	defer from.Close()
	program, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(p.path)
	if err == nil && bytes.Equal(have, program) {
		return os.Chmod(p.path, 0o555)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o711); err != nil {
		return err
	}
	return renameio.WriteFile(p.path, program, 0o555, renameio.WithTempDir(filepath.Dir(p.path)), renameio.IgnoreUmask())
}
