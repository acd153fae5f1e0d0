package driverstest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/drivers/driverstest"
)

// paper is a driver whose machines are files: the simplest that keeps the contract.
type paper struct{}

type sheet struct {
	Version int `json:"version"`
	Size    int
}

func (paper) Flags() []drivers.Flag {
	return []drivers.Flag{{Name: "paper-size", Usage: "Size of the sheet", Default: 4}}
}

func (paper) Check(_ context.Context, _ *drivers.Host, o drivers.Options) error {
	if o.Int("paper-size") < 1 {
		return errors.New("--paper-size: it must be positive")
	}
	return nil
}

func file(h *drivers.Host) string { return filepath.Join(h.Dir, "sheet") }

func (p paper) Create(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	if err := h.Record(sheet{1, o.Int("paper-size")}); err != nil {
		return err
	}
	if err := os.WriteFile(file(h), []byte(drivers.Stopped), 0o600); err != nil {
		return err
	}
	return p.Start(ctx, h)
}

func (paper) turn(ctx context.Context, h *drivers.Host, to drivers.State) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, err := os.Stat(file(h)); err != nil {
		return fmt.Errorf("machine %q: %w", h.Name, err)
	}
	return os.WriteFile(file(h), []byte(to), 0o600)
}

func (p paper) Start(ctx context.Context, h *drivers.Host) error {
	return p.turn(ctx, h, drivers.Running)
}
func (p paper) Stop(ctx context.Context, h *drivers.Host) error {
	return p.turn(ctx, h, drivers.Stopped)
}
func (p paper) Kill(ctx context.Context, h *drivers.Host) error { return p.Stop(ctx, h) }

func (paper) Remove(_ context.Context, h *drivers.Host) error {
	if err := os.Remove(file(h)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (paper) State(_ context.Context, h *drivers.Host) (drivers.State, error) {
	b, err := os.ReadFile(file(h))
	if errors.Is(err, os.ErrNotExist) {
		return drivers.NotFound, nil
	}
	return drivers.State(b), err
}

func (paper) Endpoint(h *drivers.Host) (drivers.Endpoint, error) {
	there, err := h.Recorded("paper", 1, new(sheet))
	if err == nil && !there {
		err = errors.New("no such sheet")
	}
	if err != nil {
		return drivers.Endpoint{}, err
	}
	return drivers.Endpoint{Address: "127.0.0.1", EnginePort: 2376, SSHHost: "127.0.0.1", SSHPort: 22, SSHUser: "root", HostKey: h.Keys.HostPublic}, nil
}

// The suite is content with a driver that keeps the contract. That it complains about others is seen by breaking paper.
func TestPaper(t *testing.T) {
	driverstest.Run(t, func() drivers.Driver { return paper{} },
		driverstest.Refuses("not positive", "paper-size", 0),
		driverstest.Made(func(h *drivers.Host) bool { _, err := os.Stat(file(h)); return err == nil }))
}
