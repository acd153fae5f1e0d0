//go:build linux

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/getberth/berth/engine/runtime/shim"
)

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// State tells what is left of a container, whether or not its supervisor lives. Processes that a killed supervisor has left
// behind are killed.
func (s *Service) State(ctx context.Context, id string) (shim.State, error) {
	bundle, err := s.bundle(id)
	if err != nil {
		return shim.State{}, err
	}
	if state, ok, err := recorded(bundle); ok || err != nil {
		return state, err
	}
	reply, err := s.askBundle(ctx, bundle, shim.Request{Op: shim.OpState})
	if err == nil && reply.State != nil {
		return *reply.State, nil
	}
	if !errors.Is(err, errGone) {
		return shim.State{}, err
	}
	if state, ok, err := recorded(bundle); ok || err != nil { // it ended in between
		return state, err
	}
	return shim.State{Status: shim.Unknown}, s.killOrphans(ctx, bundle)
}

func (s *Service) askBundle(ctx context.Context, bundle string, r shim.Request) (shim.Reply, error) {
	l, err := dial(ctx, bundle)
	if err != nil {
		return shim.Reply{}, err
	}
	defer l.Close()
	return l.ask(ctx, r)
}

// recorded reads what a supervisor has left.
func recorded(bundle string) (shim.State, bool, error) {
	var state shim.State
	b, err := os.ReadFile(filepath.Join(bundle, shim.ExitFile))
	if errors.Is(err, os.ErrNotExist) {
		return state, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	if err == nil && state.Exit == nil {
		err = errors.New("it holds no exit")
	}
	if err != nil {
		return state, false, fmt.Errorf("reading an exit record: %w", err)
	}
	return state, true, nil
}

// killedCode is the exit code of a container whose supervisor was killed: 128 + SIGKILL.
const killedCode = 137

// Wait returns when the first process has ended, at once if it has already.
func (s *Service) Wait(ctx context.Context, id string) (shim.Exit, error) {
	bundle, err := s.bundle(id)
	if err != nil {
		return shim.Exit{}, err
	}
	if state, ok, err := recorded(bundle); ok || err != nil {
		return deref(state.Exit), err
	}
	reply, err := s.askBundle(ctx, bundle, shim.Request{Op: shim.OpWait})
	if err == nil && reply.State != nil && reply.State.Exit != nil {
		return *reply.State.Exit, nil
	}
	if !errors.Is(err, errGone) {
		return shim.Exit{}, errors.Join(err, replyError(id, reply))
	}
	if state, ok, err := recorded(bundle); ok || err != nil {
		return deref(state.Exit), err
	}
	if !exists(filepath.Join(bundle, shim.CreateFile)) {
		return shim.Exit{}, notFound(id)
	}
	exit := shim.Exit{Code: killedCode, At: time.Now().UTC(), Error: "the container's supervisor was killed"}
	return exit, s.killOrphans(ctx, bundle)
}

func deref(e *shim.Exit) shim.Exit {
	if e == nil {
		return shim.Exit{}
	}
	return *e
}
