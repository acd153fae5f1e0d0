package provision

import (
	"bytes"
	"context"

	"github.com/getberth/berth/engine/config"
)

func (r *run) configDone(context.Context) (bool, error) {
	return bytes.Equal(r.facts.files[config.File], r.spec.Config), nil
}

func (r *run) writeConfig(ctx context.Context) error {
	// The mark comes before the change: a run that ends between the two restarts once too often, not once too rarely.
	if err := r.write(ctx, ": > "+restartDue+" || return\n", "", file{config.File, r.spec.Config, 0o644}); err != nil {
		return err
	}
	r.facts.restartDue = true
	return nil
}

// write writes files between some other commands, and remembers their content.
func (r *run) write(ctx context.Context, before, after string, files ...file) error {
	body, err := writeScript(files...)
	if err != nil {
		return err
	}
	if _, err := r.script(ctx, before+body+after); err != nil {
		return err
	}
	for _, f := range files {
		r.facts.files[f.path] = f.content
	}
	return nil
}
