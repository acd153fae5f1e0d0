//go:build linux

package runtime

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

//go:embed embedded
var embedded embed.FS

// program is the supervisor as a sealed memfd, made when it is first needed.
type program struct {
	path string // of a supervisor other than the embedded one
	once sync.Once
	file *os.File // written by once
	err  error
}

func (p *program) load() (*os.File, error) {
	p.once.Do(func() { p.file, p.err = loadSupervisor(p.path) })
	return p.file, p.err
}

// close also keeps it from being loaded later.
func (p *program) close() error {
	p.once.Do(func() { p.err = os.ErrClosed })
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

const embeddedShim = "embedded/berth-shim"

// checkSupervisor tells of a missing supervisor before it is needed.
func checkSupervisor(path string) (err error) {
	if path != "" {
		_, err = os.Stat(path)
	} else if _, err = fs.Stat(embedded, embeddedShim); errors.Is(err, fs.ErrNotExist) {
		return errors.New("berthd was built without its supervisor: run make build")
	}
	if err != nil {
		return fmt.Errorf("the supervisor: %w", err)
	}
	return nil
}

// loadSupervisor copies the supervisor into memory and seals it. From there it runs without a file that could be replaced
// or be missing, and libcontainer need not copy it for each container against CVE-2019-5736.
func loadSupervisor(path string) (*os.File, error) {
	from, err := openSupervisor(path)
	if err != nil {
		return nil, fmt.Errorf("loading the supervisor: %w", err)
	}
	defer from.Close()
	file, err := sealed("berth-shim", from)
	if err != nil {
		return nil, fmt.Errorf("loading the supervisor: %w", err)
	}
	return file, nil
}

// openSupervisor opens the embedded supervisor, or the one that path names.
func openSupervisor(path string) (io.ReadCloser, error) {
	if path != "" {
		return os.Open(path)
	}
	return embedded.Open(embeddedShim)
}

func sealed(name string, content io.Reader) (*os.File, error) {
	// MFD_EXEC is from Linux 6.3; older kernels refuse it, and need it not.
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(file, content); err != nil {
		file.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if err := errors.Join(file.Chmod(0o500), addSeals(fd, seals)); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func addSeals(fd, seals int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
}
