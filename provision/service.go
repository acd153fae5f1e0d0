package provision

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/getberth/berth/engine/config"
)

// unit has systemd leave containers alone when the engine ends (KillMode), and their control groups to the engine (Delegate). The
// engine says when it answers (Type=notify), so that starting waits for just that.
const unit = `[Unit]
Description=berth container engine
Documentation=https://github.com/getberth/berth
After=network-online.target nss-lookup.target
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
ExecStart=` + config.Binary + ` serve --config-file ` + config.File + ` --pidfile ` + pidFile + `
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
TimeoutStartSec=120
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
`

// rcScript is the same for OpenRC, whose supervisor ends the engine's own process only.
const rcScript = `#!/sbin/openrc-run
description="berth container engine"
supervisor=supervise-daemon
command=` + config.Binary + `
command_args="serve --config-file ` + config.File + ` --pidfile ` + pidFile + `"
output_log=` + logFile + `
error_log=` + logFile + `
respawn_delay=1
respawn_max=0
rc_cgroup_cleanup=no

depend() {
	# Not every network is a service called net, nor are control groups a service where something else mounts them.
	if [ -e /etc/init.d/cgroups ]; then need cgroups; fi
	use net dns
	after networking firewall
}

start_pre() {
	# One by one, as rc_ulimit cannot: some shells take one limit at a time, and do not know all.
	ulimit -n 1048576 2>/dev/null
	ulimit -u unlimited 2>/dev/null
	return 0
}
`

// definition is the file that describes the service to the init system; none for the light VM's.
func (i Init) definition() (f file, ok bool) {
	switch i {
	case Systemd:
		return file{unitFile, []byte(unit), 0o644}, true
	case OpenRC:
		return file{rcFile, []byte(rcScript), 0o755}, true
	}
	return file{}, false
}

func (r *run) definitionDone() bool {
	f, ok := r.facts.Init.definition()
	return !ok || bytes.Equal(r.facts.files[f.path], f.content)
}

func (r *run) serviceDone(context.Context) (bool, error) {
	return r.definitionDone() && r.facts.active && r.facts.enabled && !r.facts.restartDue, nil
}

// startService starts the engine, or restarts it when its binary, configuration or definition changed. Containers live on.
func (r *run) startService(ctx context.Context) error {
	var files []file
	if f, ok := r.facts.Init.definition(); ok && !r.definitionDone() {
		files = append(files, f)
	}
	body, err := writeScript(files...)
	if err != nil {
		return err
	}
	if _, err := r.script(ctx, body+r.facts.Init.restart(r.facts.enabled && len(files) == 0, r.healthTimeout())); err != nil {
		return r.withLog(ctx, err)
	}
	r.facts.active, r.facts.enabled, r.facts.restartDue = true, true, false
	return nil
}

// restart is a script that has the init system run the engine anew, and start it at boot, which known says that it does already.
// The mark is removed last. OpenRC takes an engine for started as soon as it runs, so that the script waits for its socket. In the light VM init starts the engine again whenever it ends; the old one must be gone before anyone asks whether the engine answers.
func (i Init) restart(known bool, patience time.Duration) string {
	const unmark = "rm -f " + restartDue
	switch i {
	case Systemd:
		// An engine that failed often is not started again, nor is the one that takes its place.
		start := `systemctl reset-failed berthd.service 2>/dev/null
systemctl restart berthd.service && ` + unmark
		if known {
			return start
		}
		return `systemctl enable --quiet berthd.service || return
` + start // enable has systemd read its units again
	case OpenRC:
		return `[ -e /etc/runlevels/default/berthd ] || rc-update -q add berthd default || return
rc-service -q berthd restart || return
end=$(($(date +%s) + ` + strconv.Itoa(max(1, int(patience.Seconds()))) + `))
until [ -S ` + config.Socket + ` ]; do
	[ "$(date +%s)" -le $end ] || { echo "the engine does not answer on ` + config.Socket + ` within ` + patience.String() + `" >&2; return 1; }
	sleep 0.2 2>/dev/null || sleep 1
done
` + unmark
	default:
		return `pid=$(cat ` + pidFile + ` 2>/dev/null); n=0
if [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; then
	while kill -0 "$pid" 2>/dev/null && [ $n -lt 200 ]; do sleep 0.1 2>/dev/null || sleep 1; n=$((n+1)); done
fi
` + unmark
	}
}
