package provision

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getberth/berth/engine/config"
)

// hostScript gathers what only matters on machines that berth did not make, in the form of factsScript, of which it is a part.
// $port is the engine's.
const hostScript = `[ -r /etc/os-release ] && echo "name $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo "cgroup 2"
elif [ -d /sys/fs/cgroup ]; then for g in memory cpu pids; do [ -d /sys/fs/cgroup/$g ] && echo "cgroup 1" && break; done; fi
[ -x /etc/init.d/cgroups ] && echo "cgroupservice yes"
disk() {
	at=$1; while [ ! -d "$at" ]; do at=${at%/*}; [ -n "$at" ] || at=/; done
	df -Pk "$at" 2>/dev/null | { read -r x && read -r x x x avail x mount && echo "disk $avail $1 $mount"; }
}
disk ` + binaryDir + `; disk /etc; disk ` + config.DataRoot + `
mods=/lib/modules/$(uname -r)
for m in overlay bridge veth nf_tables; do
	if [ -d /sys/module/$m ] || grep -qw $m /proc/filesystems; then continue; fi
	if [ ! -e $mods/modules.dep ]; then echo "lacks $m unknown"
	elif ! grep -qs "/$m\.ko" $mods/modules.dep $mods/modules.builtin; then echo "lacks $m surely"; fi
done
for n in mnt pid net ipc uts; do [ -e /proc/self/ns/$n ] || echo "lacks $n namespace"; done
for c in /proc/[0-9]*/comm; do
	{ read -r n < "$c"; } 2>/dev/null || continue
	[ "$n" = dockerd ] && { c=${c#/proc/}; echo "dockerd ${c%/comm}"; }
done
for f in /proc/net/tcp /proc/net/tcp6; do
	[ -r $f ] && while read -r x l x s x; do [ "$s" = 0A ] && echo "listen ${l##*:}"; done < $f
done
if [ -r /etc/ufw/ufw.conf ] && grep -qi '^ENABLED=yes' /etc/ufw/ufw.conf; then
	grep -qs -- "--dport $port " /etc/ufw/user.rules || echo "firewall ufw"
fi
if [ $init = systemd ] && systemctl is-active --quiet firewalld.service 2>/dev/null; then
	grep -qs "port=\"$port\"" /etc/firewalld/zones/*.xml || echo "firewall firewalld"
fi
mounts=/proc/mounts
`

// host is what hostScript found out.
type host struct {
	disks    []disk
	lacks    map[string]string // kernel features, with how sure that is
	dockerd  string            // its process number, "" when there is none
	listens  map[string]bool   // TCP ports, hexadecimal
	cgroups  bool              // OpenRC has a service that mounts them
	firewall string            // what stands between others and the engine's port: "ufw", "firewalld" or ""
}

// disk is the file system that a folder is on, or will be.
type disk struct {
	dir, mount string
	free       int64 // bytes
}

// set takes a line of hostScript's.
func (h *host) set(name, value string) error {
	switch name {
	case "disk":
		avail, rest, _ := strings.Cut(value, " ")
		dir, mount, _ := strings.Cut(rest, " ")
		kb, err := strconv.ParseInt(avail, 10, 64)
		if err != nil || kb < 0 || kb > 1<<52 {
			return fmt.Errorf("unexpected free space %q of %s", avail, dir)
		}
		h.disks = append(h.disks, disk{dir, mount, kb << 10})
	case "lacks":
		feature, how, _ := strings.Cut(value, " ")
		if h.lacks == nil {
			h.lacks = map[string]string{}
		}
		h.lacks[feature] = how
	case "dockerd":
		h.dockerd = value
	case "listen":
		if h.listens == nil {
			h.listens = map[string]bool{}
		}
		h.listens[strings.ToUpper(value)] = true
	case "cgroupservice":
		h.cgroups = true
	case "firewall":
		h.firewall = value
	}
	return nil
}

// Problem is why the engine cannot run on a machine.
type Problem struct {
	What   string
	Advice string // what helps; may be empty
}

// UnfitError is about a machine that was left as it is since the engine cannot run there.
type UnfitError struct{ Problems []Problem }

func (e *UnfitError) Error() string {
	var all []string
	for _, p := range e.Problems {
		all = append(all, p.What)
	}
	return strings.Join(all, "; ")
}

// Advice is what helps, a line for each problem.
func (e *UnfitError) Advice() string {
	var all []string
	for _, p := range e.Problems {
		if p.Advice != "" {
			all = append(all, p.Advice)
		}
	}
	return strings.Join(all, "\n")
}

// judge refuses a machine on which the engine cannot run; all that is wrong is told at once.
func (r *run) judge() error {
	if r.facts.Init == Guest {
		return nil
	}
	problems := slices.Concat(r.judgeDisks(), r.judgeKernel(), r.judgeNeighbours())
	if len(problems) > 0 {
		return &UnfitError{problems}
	}
	return nil
}

// smallNeed is the room, in bytes, for what is written besides the engine's binary.
const smallNeed = 16 << 20

func (r *run) judgeDisks() (found []Problem) {
	push := r.facts.BinarySHA256 != r.engine.SHA256
	for _, d := range r.facts.host.disks {
		if d.readOnly(r.facts.files["/proc/mounts"]) {
			p := Problem{What: fmt.Sprintf("%s cannot be written to: the file system at %s is read-only", d.dir, d.mount)}
			if d.dir == binaryDir {
				p.Advice = fmt.Sprintf("Mount something writable at %s, or make the system's image so that it is.", d.dir)
			}
			found = append(found, p)
			continue
		}
		need := int64(smallNeed)
		if d.dir == binaryDir {
			if need = 0; push { // what arrives is compressed, and gone once the binary is there
				need = r.engine.Size + r.engine.Size/2
			}
		}
		if d.free < need {
			found = append(found, Problem{
				What:   fmt.Sprintf("the disk of %s is full: %d MB are needed, %d MB are free", d.dir, need>>20, d.free>>20),
				Advice: "Make room on the file system at " + d.mount + ".",
			})
		}
	}
	return found
}

// readOnly looks a mount up in the content of /proc/mounts; the last one at a place counts.
func (d disk) readOnly(mounts []byte) bool {
	ro := false
	for line := range bytes.Lines(mounts) {
		f := strings.Fields(string(line))
		if len(f) >= 4 && f[1] == d.mount {
			ro = slices.Contains(strings.Split(f[3], ","), "ro")
		}
	}
	return ro
}

// The engine waits for containers by PIDFD_NONBLOCK, which pidfd_open(2) has since Linux 5.10.
const needMajor, needMinor = 5, 10

// kernelAtLeast reads a release such as "6.1.0-13-amd64"; one that it cannot read will do.
func (f Facts) kernelAtLeast(major, minor int) bool {
	var a, b int
	if n, err := fmt.Sscanf(f.Kernel, "%d.%d", &a, &b); err != nil || n < 2 {
		return true
	}
	return a > major || a == major && b >= minor
}

func (r *run) judgeKernel() (found []Problem) {
	var surely, unknown, namespaces []string
	for feature, how := range r.facts.host.lacks {
		switch how {
		case "surely":
			surely = append(surely, feature)
		case "namespace":
			namespaces = append(namespaces, feature)
		default:
			unknown = append(unknown, feature)
		}
	}
	slices.Sort(surely)
	slices.Sort(namespaces)
	if !r.facts.kernelAtLeast(needMajor, needMinor) {
		found = append(found, Problem{
			What:   fmt.Sprintf("the kernel %s is too old: the engine requires Linux %d.%d or newer", r.facts.Kernel, needMajor, needMinor),
			Advice: "Upgrade the distribution, or install a newer kernel of it.",
		})
	}
	if len(surely) > 0 {
		found = append(found, Problem{
			What:   fmt.Sprintf("the kernel %s has no %s", r.facts.Kernel, strings.Join(surely, ", ")),
			Advice: "Use the distribution's full kernel: some images for clouds and containers leave modules out.",
		})
	}
	if len(namespaces) > 0 {
		found = append(found, Problem{What: fmt.Sprintf("the kernel %s has no namespaces of the kinds %s", r.facts.Kernel, strings.Join(namespaces, ", "))})
	}
	// Nothing tells a feature that is built in from one whose module is gone, except for file systems.
	if slices.Contains(unknown, "overlay") {
		found = append(found, Problem{
			What:   fmt.Sprintf("the running kernel %s has no overlay, and its modules are not installed", r.facts.Kernel),
			Advice: "After an upgrade of the kernel, reboot the host.",
		})
	}
	if r.facts.CGroup == "" && (r.facts.Init != OpenRC || !r.facts.host.cgroups) { // our service needs OpenRC's, which mounts them
		found = append(found, Problem{What: "no control groups are mounted at /sys/fs/cgroup"})
	}
	return found
}

// judgeNeighbours looks for what the engine would quarrel with.
func (r *run) judgeNeighbours() (found []Problem) {
	h := r.facts.host
	conf, _, err := config.Parse(r.spec.Config)
	if h.dockerd != "" && (err != nil || conf.Bridge == "") {
		found = append(found, Problem{
			What: fmt.Sprintf("dockerd runs there (process %s), and has the bridge docker0 that the engine needs", h.dockerd),
			Advice: "Stop it; its images and containers stay where they are: systemctl disable --now docker.socket docker.service\n" +
				"Or use it as it is: {berth} create -d none --url tcp://HOST:PORT NAME",
		})
	}
	if port := r.port(); !r.facts.active && port != 0 && h.listens[fmt.Sprintf("%04X", port)] {
		found = append(found, Problem{
			What:   fmt.Sprintf("another program listens on the engine's port %d", port),
			Advice: "End it, or choose another port: --generic-engine-port",
		})
	}
	return found
}

// port is that of the engine's first TCP address; 0 when there is none.
func (r *run) port() uint16 {
	conf, _, err := config.Parse(r.spec.Config)
	if err != nil {
		return 0
	}
	return conf.TCPPort()
}

// Opening tells how to let others through the machine's firewall to a port; "" when there is no need, or no port.
func (f Facts) Opening(port uint16) string {
	switch fw := f.host.firewall; {
	case port == 0:
		return ""
	case fw == "ufw":
		return fmt.Sprintf("ufw allow %d/tcp", port)
	case fw == "firewalld":
		return fmt.Sprintf("firewall-cmd --permanent --add-port=%d/tcp && firewall-cmd --reload", port)
	}
	return ""
}
