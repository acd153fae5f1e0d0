package machine

import (
	"context"
	"fmt"

	"github.com/getberth/berth/drivers"
)

// Resize gives a machine another size, in the driver's words. A machine that runs runs afterwards, too.
func (m *Manager) Resize(ctx context.Context, name, size string, disk bool) error {
	return m.locked(ctx, name, func(w *work) error {
		r, ok := w.driver.(drivers.Resizer)
		if !ok {
			return fmt.Errorf("the driver %s cannot resize a machine", w.rec.Driver)
		}
		before, err := w.usable(ctx)
		if err != nil {
			return err
		}
		err = w.step(fmt.Sprintf("Resizing %q", name), func() error { return r.Resize(ctx, w.host, size, disk) })
		if err != nil || before != drivers.Running {
			return err
		}
		return w.settle(ctx)
	})
}

// Snapshot keeps a copy of a machine's disk, and returns what to give as the image of another machine.
func (m *Manager) Snapshot(ctx context.Context, name, as string) (image string, err error) {
	err = m.locked(ctx, name, func(w *work) error {
		s, ok := w.driver.(drivers.Snapshotter)
		if !ok {
			return fmt.Errorf("the driver %s cannot take snapshots", w.rec.Driver)
		}
		if _, err := w.usable(ctx); err != nil {
			return err
		}
		return w.step(fmt.Sprintf("Taking a snapshot of %q", name), func() error {
			image, err = s.Snapshot(ctx, w.host, as)
			return err
		})
	})
	return image, err
}
