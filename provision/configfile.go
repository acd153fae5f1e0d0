package provision

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/getberth/berth/engine/config"
)

// configDone compares what the files mean: a light VM is given its first one in a seed, where JSON loses its white space.
func (r *run) configDone(context.Context) (bool, error) {
	have, want := r.facts.files[config.File], r.spec.Config
	same := bytes.Equal(have, want) || bytes.Equal(compact(have), compact(want))
	return same && r.envDone(), nil
}

// compact drops the white space of JSON; what is no JSON stays as it is.
func compact(data []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, data) != nil {
		return data
	}
	return out.Bytes()
}

func (r *run) envDone() bool { return bytes.Equal(r.facts.files[config.EnvFile], r.spec.Env) }

func (r *run) writeConfig(ctx context.Context) error {
	files, after := []file{{config.File, r.spec.Config, 0o644}}, ""
	switch {
	case r.envDone():
	case len(r.spec.Env) == 0:
		after = "rm -f " + config.EnvFile
	default:
		files = append(files, file{config.EnvFile, r.spec.Env, 0o600})
	}
	// The mark comes before the change: a run that ends between the two restarts once too often, not once too rarely.
	if err := r.write(ctx, ": > "+restartDue+" || return\n", after, files...); err != nil {
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
