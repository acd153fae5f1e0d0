package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/getberth/berth/background"
	"github.com/getberth/berth/drivers/qemu/vswitch"
)

// switchLimit is how long the switch may take to start.
const switchLimit = 30 * time.Second

// ensureSwitch starts the switch of a run folder unless one answers. One of another version is replaced; its machines stay.
func (d *Driver) ensureSwitch(ctx context.Context, run string) error {
	ctx, cancel := context.WithTimeout(ctx, switchLimit)
	defer cancel()
	c := vswitch.NewClient(run)
	version, err := c.Ping(ctx)
	switch {
	case err == nil && version == vswitch.Version:
		return nil
	case err == nil:
		if err := c.Quit(ctx); err != nil {
			return fmt.Errorf("replacing the virtual switch of version %d: %w", version, err)
		}
	}
	argv, err := d.helper()
	if err != nil {
		return err
	}
	if err := d.startSwitch(ctx, run, argv); err != nil {
		return fmt.Errorf("starting the virtual switch: %w (its log is %s)", err, filepath.Join(run, vswitch.LogFile))
	}
	return nil
}

// helper is the command that starts a switch: an absolute path and its first arguments.
func (d *Driver) helper() ([]string, error) {
	const hint = "\nhint: put berth-switch beside berth, or set BERTH_SWITCH to its path"
	if len(d.conf.Helper) == 0 {
		return nil, errors.New("the virtual switch, the program berth-switch, is not installed" + hint)
	}
	program, err := exec.LookPath(d.conf.Helper[0])
	if err == nil {
		program, err = filepath.Abs(program) // it will run in another folder
	}
	if err != nil {
		return nil, fmt.Errorf("the virtual switch: %w%s", err, hint)
	}
	return append([]string{program}, d.conf.Helper[1:]...), nil
}

// startSwitch starts a switch in its run folder, which may be moved with the store while it runs, and waits for it to say that it
// is ready.
func (d *Driver) startSwitch(ctx context.Context, run string, argv []string) error {
	cmd := exec.Command(argv[0], append(argv[1:], "-idle", d.conf.Idle.String())...)
	cmd.Dir = run
	return background.Start(ctx, cmd, vswitch.Ready)
}
