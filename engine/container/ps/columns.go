//go:build linux

package ps

import (
	"fmt"
	"strconv"
	"time"
)

// known maps the names that -o takes to columns.
func known() map[string]Column {
	user := func(p *process, h *host) string { return h.user(p.uid) }
	uid := func(p *process, _ *host) string { return strconv.Itoa(p.uid) }
	cpu := func(p *process, h *host) string { return fmt.Sprintf("%.1f", p.cpuPercent(h)) }
	mem := func(p *process, h *host) string { return fmt.Sprintf("%.1f", p.memPercent(h)) }
	tty := func(p *process, _ *host) string { return p.terminal() }
	start := func(p *process, h *host) string { return startText(p.started(h), h.now) }
	cmd := func(p *process, _ *host) string { return p.command() }
	total := func(p *process, h *host) string { return clock(p.cpuTime()) }
	vsz := func(p *process, _ *host) string { return strconv.FormatUint(p.vsize/1024, 10) }
	rss := func(p *process, h *host) string { return strconv.FormatUint(p.rss*h.pageSize/1024, 10) }
	comm := func(p *process, _ *host) string { return p.comm }
	state := func(p *process, _ *host) string { return p.stat() }
	return map[string]Column{
		"user": {"USER", user}, "euser": {"EUSER", user}, "uname": {"USER", user}, "uid": {"UID", user}, "euid": {"EUID", uid},
		"group": {"GROUP", func(p *process, h *host) string { return h.group(p.gid) }},
		"gid":   {"GID", func(p *process, _ *host) string { return strconv.Itoa(p.gid) }},
		"pid":   {"PID", func(p *process, _ *host) string { return strconv.Itoa(p.pid) }},
		"ppid":  {"PPID", func(p *process, _ *host) string { return strconv.Itoa(p.ppid) }},
		"pgid":  {"PGID", func(p *process, _ *host) string { return strconv.Itoa(p.pgid) }},
		"sid":   {"SID", func(p *process, _ *host) string { return strconv.Itoa(p.sid) }},
		"c":     {"C", func(p *process, h *host) string { return strconv.Itoa(int(p.cpuPercent(h))) }},
		"stime": {"STIME", start}, "start": {"START", start}, "start_time": {"START", start},
		"lstart":  {"STARTED", func(p *process, h *host) string { return p.started(h).Format(time.ANSIC) }},
		"etime":   {"ELAPSED", func(p *process, h *host) string { return elapsed(h.now.Sub(p.started(h))) }},
		"etimes":  {"ELAPSED", func(p *process, h *host) string { return strconv.Itoa(int(h.now.Sub(p.started(h)).Seconds())) }},
		"tty":     {"TTY", tty},
		"tt":      {"TT", tty},
		"tname":   {"TTY", tty},
		"time":    {"TIME", total},
		"cputime": {"TIME", total},
		"cmd":     {"CMD", cmd}, "args": {"COMMAND", cmd}, "command": {"COMMAND", cmd},
		"comm": {"COMMAND", comm}, "ucmd": {"CMD", comm},
		"%cpu": {"%CPU", cpu}, "pcpu": {"%CPU", cpu}, "%mem": {"%MEM", mem}, "pmem": {"%MEM", mem},
		"vsz": {"VSZ", vsz}, "vsize": {"VSZ", vsz}, "rss": {"RSS", rss}, "rssize": {"RSS", rss},
		"stat": {"STAT", state}, "state": {"S", func(p *process, _ *host) string { return p.state }}, "s": {"S", func(p *process, _ *host) string { return p.state }},
		"ni":      {"NI", func(p *process, _ *host) string { return strconv.Itoa(p.nice) }},
		"nice":    {"NI", func(p *process, _ *host) string { return strconv.Itoa(p.nice) }},
		"pri":     {"PRI", func(p *process, _ *host) string { return strconv.Itoa(39 - p.priority) }},
		"nlwp":    {"NLWP", func(p *process, _ *host) string { return strconv.Itoa(p.threads) }},
		"thcount": {"THCNT", func(p *process, _ *host) string { return strconv.Itoa(p.threads) }},
	}
}

// startText is a time of today, or a day.
func startText(t, now time.Time) string {
	if now.Sub(t) < 24*time.Hour {
		return t.Format("15:04")
	}
	return t.Format("Jan02")
}

// clock is [DD-]HH:MM:SS.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// elapsed is [[DD-]HH:]MM:SS.
func elapsed(d time.Duration) string {
	if d < time.Hour {
		s := int(d.Seconds())
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	return clock(d)
}
