//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/exeseal"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine/runtime/shim"
)

// job is what the engine wants of a supervisor.
type job struct {
	bundle   string
	listener *net.UnixListener
}

func openControl() (*net.UnixConn, error) {
	file := os.NewFile(shim.ControlFD, "control")
	if file == nil {
		return nil, errors.New("it has no control socket")
	}
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	control, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("its control socket is not a unix socket")
	}
	return control, nil
}

// receiveJob waits for the engine; nil means that it has nothing to do.
func receiveJob(control *net.UnixConn) (*job, error) {
	path, oob := make([]byte, shim.MaxPath), make([]byte, unix.CmsgSpace(2*4))
	n, oobn, _, _, err := control.ReadMsgUnix(path, oob)
	if n == 0 && (err == nil || errors.Is(err, io.EOF)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("waiting for something to do: %w", err)
	}
	fds, err := descriptors(oob[:oobn], 2)
	if err != nil {
		return nil, fmt.Errorf("receiving what to do: %w", err)
	}
	listening, log := os.NewFile(uintptr(fds[0]), "listener"), os.NewFile(uintptr(fds[1]), "log")
	defer listening.Close()
	defer log.Close()
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Dup3(fds[1], fd, 0); err != nil {
			return nil, fmt.Errorf("opening the log: %w", err)
		}
	}
	j := &job{bundle: string(path[:n])}
	setTitle(filepath.Base(j.bundle))
	j.listener, err = takeOver(listening, fds[0])
	return j, err
}

// takeOver makes a listening socket that another process has opened ours.
func takeOver(file *os.File, fd int) (*net.UnixListener, error) {
	// Listening anew makes us, instead of the engine, the peer that SO_PEERCRED tells clients.
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("taking over the listener: %w", err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("taking over the listener: %w", err)
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.New("taking over the listener: not a unix socket")
	}
	listener.SetUnlinkOnClose(false) // the engine removes the bundle
	return listener, nil
}

// descriptors takes n descriptors out of a control message.
func descriptors(oob []byte, n int) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, some...)
	}
	if len(fds) != n {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("%d descriptors were sent instead of %d", len(fds), n)
	}
	return fds, nil
}

// setTitle shows the container in ps and top. os.Args are where the kernel reads the command line from, so the blank argument
// is written over in place.
func setTitle(id string) {
	if len(os.Args) != 2 {
		return
	}
	title := unsafe.Slice(unsafe.StringData(os.Args[1]), len(os.Args[1]))
	clear(title[copy(title, id):])
}

// setName names the process; one that runs from a memfd is called by its descriptor's number otherwise.
func setName(name string) {
	if p, err := unix.BytePtrFromString(name); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(p)), 0, 0, 0)
	}
}

// warmUp does ahead of need what the first container would have to wait for: it fills caches.
func warmUp() {
	cgroups.IsCgroup2UnifiedMode()
	cgroups.IsCgroup2HybridMode()
	exeseal.IsSelfExeCloned()
	_, _ = os.FindProcess(os.Getpid()) // probes for pidfds with a child process
	_, _ = json.Marshal(&libcontainer.State{})
	var c shim.Create
	_ = json.Unmarshal([]byte(`{"Spec":{"process":{"user":{},"capabilities":{}},"root":{},"mounts":[{}],"linux":{"resources":{"memory":{},"cpu":{}},`+
		`"namespaces":[{}],"devices":[{}],"seccomp":{"syscalls":[{"args":[{}]}]}}},"Log":{}}`), &c)
}
