package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/getberth/berth/engine/config"
)

// Uninstall ends all containers and removes the engine with everything that it and provisioning have put onto the machine, and
// nothing else. One that was cut off is finished by the next.
func Uninstall(ctx context.Context, h Host) error {
	r := &run{host: h, observe: func(Event) {}}
	if err := r.gather(ctx); err != nil {
		return err
	}
	if r.facts.Init == Guest {
		return errors.New("uninstalling the engine: it is part of the light VM")
	}
	_, err := r.script(ctx, r.facts.Init.stop()+uninstallScript)
	if err != nil {
		return r.withLog(ctx, fmt.Errorf("uninstalling the engine: %w", err))
	}
	return nil
}

// uninstallScript has the engine undo what it alone knows, then removes what was pushed. The program goes last: it is what
// another attempt needs.
const uninstallScript = `
if [ -x ` + config.Binary + ` ]; then
	` + config.Binary + ` uninstall --config-file ` + config.File + ` >&2 || return
fi
rm -rf ` + config.Dir + ` || return
rm -f ` + logFile + ` ` + restartDue + ` || return
rmdir ` + config.ExecRoot + ` 2>/dev/null
rm -f ` + config.Binary + `-*.part ` + config.Binary + `-new ` + previous + ` ` + config.Binary + config.StampSuffix + ` ` + config.Binary + `
`

// stop is a script that ends the engine for good and removes the service. What is not there is no error.
func (i Init) stop() string {
	switch i {
	case Systemd:
		return `if [ -e ` + unitFile + ` ]; then
	systemctl disable --now --quiet berthd.service || return
	rm -f ` + unitFile + ` && systemctl daemon-reload || return
	systemctl reset-failed berthd.service 2>/dev/null
fi
`
	case OpenRC:
		return `if [ -e ` + rcFile + ` ]; then
	if rc-service berthd status >/dev/null 2>&1; then rc-service -q berthd stop || return; fi
	rc-update -q delete berthd default 2>/dev/null
	rm -f ` + rcFile + ` || return
fi
`
	}
	return ""
}
