package sshutil

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// dialAgent connects to the agent of Windows's OpenSSH; nil when it does not run.
func dialAgent() (io.ReadWriteCloser, error) {
	path := os.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		path = `\\.\pipe\openssh-ssh-agent`
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}
