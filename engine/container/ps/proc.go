//go:build linux

package ps

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Linux runs Go on.
const ticksPerSecond = 100

// host is what values are relative to.
type host struct {
	now      time.Time
	boot     time.Time
	memory   uint64 // bytes
	pageSize uint64
	users    map[int]string
	groups   map[int]string
}

func readHost() (*host, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("asking for the host's memory: %w", err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return nil, fmt.Errorf("asking for the host's uptime: %w", err)
	}
	now := time.Now()
	h := &host{now: now, boot: now.Add(-time.Duration(up.Nano())), memory: uint64(info.Totalram) * uint64(info.Unit),
		pageSize: uint64(os.Getpagesize()), users: map[int]string{}, groups: map[int]string{}}
	// Names are the host's, as with ps; without the files there are numbers.
	if list, err := user.ParsePasswdFile("/etc/passwd"); err == nil {
		for _, u := range list {
			h.users[u.Uid] = u.Name
		}
	}
	if list, err := user.ParseGroupFile("/etc/group"); err == nil {
		for _, g := range list {
			h.groups[g.Gid] = g.Name
		}
	}
	return h, nil
}

func (h *host) user(id int) string  { return nameOr(h.users, id) }
func (h *host) group(id int) string { return nameOr(h.groups, id) }

func nameOr(names map[int]string, id int) string {
	if name, ok := names[id]; ok {
		return name
	}
	return strconv.Itoa(id)
}

// process is what /proc tells about one.
type process struct {
	pid, ppid, pgid, sid, uid, gid int
	comm, state                    string
	tty, priority, nice, threads   int
	foreground                     int
	utime, stime, startTicks       uint64
	vsize                          uint64 // bytes
	rss                            uint64 // pages
	args                           []string
}

func readProcess(pid int) (*process, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return nil, err
	}
	p, err := parseStat(string(stat))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, err
	}
	p.uid, p.gid = int(st.Uid), int(st.Gid)
	cmdline, _ := os.ReadFile(dir + "cmdline") // empty for kernel threads and zombies
	for arg := range bytes.SplitSeq(bytes.TrimRight(cmdline, "\x00"), []byte{0}) {
		if len(cmdline) > 0 {
			p.args = append(p.args, string(arg))
		}
	}
	return p, nil
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The name in parentheses may hold anything.
func parseStat(text string) (*process, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return nil, fmt.Errorf("no name in the process's status")
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 22 {
		return nil, fmt.Errorf("the process's status is short")
	}
	p := &process{comm: text[open+1 : end], state: fields[0]}
	p.pid, _ = strconv.Atoi(strings.TrimSpace(text[:open]))
	at := func(i int) int { n, _ := strconv.Atoi(fields[i-3]); return n } // numbered as in the manual
	atU := func(i int) uint64 { n, _ := strconv.ParseUint(fields[i-3], 10, 64); return n }
	p.ppid, p.pgid, p.sid, p.tty, p.foreground = at(4), at(5), at(6), at(7), at(8)
	p.utime, p.stime, p.priority, p.nice, p.threads = atU(14), atU(15), at(18), at(19), at(20)
	p.startTicks, p.vsize, p.rss = atU(22), atU(23), atU(24)
	return p, nil
}

func ticks(n uint64) time.Duration { return time.Duration(n) * time.Second / ticksPerSecond }

func (p *process) cpuTime() time.Duration    { return ticks(p.utime + p.stime) }
func (p *process) started(h *host) time.Time { return h.boot.Add(ticks(p.startTicks)) }

func (p *process) cpuPercent(h *host) float64 {
	lived := h.now.Sub(p.started(h))
	if lived <= 0 {
		return 0
	}
	return 100 * p.cpuTime().Seconds() / lived.Seconds()
}

func (p *process) memPercent(h *host) float64 {
	if h.memory == 0 {
		return 0
	}
	return 100 * float64(p.rss*h.pageSize) / float64(h.memory)
}

func (p *process) command() string {
	if len(p.args) == 0 {
		return "[" + p.comm + "]"
	}
	return strings.Join(p.args, " ")
}

// terminal names the controlling terminal: pts/N, ttyN or ?.
func (p *process) terminal() string {
	major, minor := p.tty>>8&0xfff, p.tty&0xff|p.tty>>12&0xfff00
	switch {
	case p.tty == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4:
		return fmt.Sprintf("tty%d", minor)
	}
	return "?"
}

// stat is the state with ps's marks.
func (p *process) stat() string {
	s := p.state
	if p.nice < 0 {
		s += "<"
	}
	if p.nice > 0 {
		s += "N"
	}
	if p.sid == p.pid {
		s += "s"
	}
	if p.threads > 1 {
		s += "l"
	}
	if p.foreground == p.pgid {
		s += "+"
	}
	return s
}
