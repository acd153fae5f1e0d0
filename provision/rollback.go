package provision

import (
	"context"
	"errors"

	"github.com/getberth/berth/engine/config"
)

// Rollback puts back the engine that the last push replaced, and restarts it. In a light VM without one, the image's takes over.
func Rollback(ctx context.Context, h Host) error {
	r := &run{host: h, observe: func(Event) {}}
	if err := r.gather(ctx); err != nil {
		return err
	}
	back := "mv -f " + previous + " " + config.Binary
	switch {
	case r.facts.hasPrevious:
	case r.facts.Init == Guest && r.facts.Binary == config.Binary:
		back = "rm -f " + config.Binary
	default:
		return errors.New("rolling the engine back: the machine keeps no previous one")
	}
	_, err := r.script(ctx, ": > "+restartDue+" && "+back+" && rm -f "+config.Binary+config.StampSuffix+" || return\n"+r.facts.Init.restart(true, r.healthTimeout()))
	if err != nil {
		return r.withLog(ctx, err)
	}
	return nil
}
