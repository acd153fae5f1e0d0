//go:build linux

package engine

import (
	"context"

	ctr "github.com/getberth/berth/engine/container"
)

// supervision is the runtime, until engine/runtime is there.
type supervision struct{ ctr.Runtime }

func (supervision) Close() error { return nil }

func (e *engine) openRuntime(context.Context) error {
	e.runtime = &supervision{}
	return nil
}
