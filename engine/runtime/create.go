//go:build linux

package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/getberth/berth/engine/runtime/shim"
)

// Create starts a supervisor and makes the container; its first process waits for Start. c.Bundle may be empty, else it is
// the container's folder below the exec root. Without a cgroup path in the spec it is /berth/ID. What an ended container of
// the same id has left is cleared; one that lives is errdefs.ErrAlreadyExists.
//
// When the first process cannot be started the error reads as runc's, e.g. `exec: "foo": executable file not found in $PATH`.
func (s *Service) Create(ctx context.Context, c shim.Create) error {
	bundle, err := s.bundle(c.ID)
	if err != nil {
		return err
	}
	if c.Bundle != "" && path.Clean(c.Bundle) != bundle {
		return fmt.Errorf("bundle %s is not %s: %w", c.Bundle, bundle, errdefs.ErrInvalidArgument)
	}
	if c.Spec == nil || c.Spec.Linux == nil {
		return fmt.Errorf("container %s has no spec: %w", c.ID, errdefs.ErrInvalidArgument)
	}
	if err := s.makeRoom(ctx, c.ID, bundle); err != nil {
		return err
	}
	c.Bundle = bundle
	if err := s.create(ctx, c); err != nil {
		return errors.Join(err, s.clear(context.WithoutCancel(ctx), bundle))
	}
	return nil
}

// makeRoom clears what is left of an earlier container of the same id.
func (s *Service) makeRoom(ctx context.Context, id, bundle string) error {
	if !exists(filepath.Join(bundle, shim.CreateFile)) {
		return nil
	}
	state, err := s.State(ctx, id)
	if err != nil {
		return err
	}
	if state.Status != shim.Stopped && state.Status != shim.Unknown {
		return fmt.Errorf("container %s is %s: %w", id, state.Status, errdefs.ErrAlreadyExists)
	}
	return s.Delete(ctx, id)
}

func (s *Service) create(ctx context.Context, c shim.Create) error {
	if err := writeBundle(c); err != nil {
		return fmt.Errorf("making the bundle of container %s: %w", c.ID, err)
	}
	sup, err := s.takeSupervisor()
	if err != nil {
		return fmt.Errorf("starting the supervisor of container %s: %w", c.ID, err)
	}
	defer sup.control.Close()
	var reply shim.Reply
	stop := closeWith(ctx, sup.control)
	if err = sup.assign(c.Bundle); err == nil {
		err = shim.ReadMessage(bufio.NewReader(sup.control), &reply)
	}
	stop()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("the supervisor of container %s died (%w): %s", c.ID, err, lastWords(c.Bundle))
	case reply.Error != "":
		err = &kindError{"OCI runtime create failed: " + reply.Error, kindOf(reply.Kind)}
	default:
		return nil
	}
	sup.kill()
	<-sup.ended
	return err
}

// cgroupParent is where containers' cgroups are whose spec names none.
const cgroupParent = "/berth"

// writeBundle records what to run. Nothing has to survive a crash of the machine, as the container does not.
func writeBundle(c shim.Create) error {
	linux := *c.Spec.Linux
	if linux.CgroupsPath == "" {
		linux.CgroupsPath = cgroupParent + "/" + c.ID
	}
	group := path.Clean(linux.CgroupsPath)
	if !path.IsAbs(group) || group == "/" {
		return fmt.Errorf("cgroup path %q is not absolute: %w", linux.CgroupsPath, errdefs.ErrInvalidArgument)
	}
	spec := *c.Spec
	linux.CgroupsPath, spec.Linux = group, &linux
	c.Spec = &spec
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Bundle, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Bundle, shim.CgroupFile), []byte(group), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Bundle, shim.CreateFile), b, 0o600)
}

// lastWords is the end of what a supervisor has logged.
func lastWords(bundle string) string {
	f, err := os.Open(filepath.Join(bundle, shim.LogFile))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const enough = 2 << 10
	if info, err := f.Stat(); err == nil && info.Size() > enough {
		_, _ = f.Seek(-enough, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, enough))
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return "it left no message"
	}
	return string(b)
}

// Start lets the first process run and returns its pid.
func (s *Service) Start(ctx context.Context, id string) (int, error) {
	reply, err := s.call(ctx, id, shim.Request{Op: shim.OpStart})
	go s.refill()
	return reply.PID, err
}

// closeWith closes a connection when ctx ends, until stop is called.
func closeWith(ctx context.Context, conn net.Conn) (stop func()) {
	off := context.AfterFunc(ctx, func() { conn.Close() })
	return func() { off() }
}
