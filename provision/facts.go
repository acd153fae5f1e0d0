package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/getberth/berth/engine/config"
)

// Init is what starts services on a machine.
type Init string

// The init systems that berth knows.
const (
	Guest   Init = "berth" // the light VM's own, which runs the engine by itself
	Systemd Init = "systemd"
	OpenRC  Init = "openrc"
	NoInit  Init = ""
)

// Facts are what is known about a machine.
type Facts struct {
	OS     string // "linux"
	Arch   string // GOARCH
	Kernel string // release
	Name   string // of the distribution, for people; "" in the light VM
	CGroup string // version of the control groups: "1", "2" or ""; not looked for in the light VM
	Init   Init
	Via    string // how the user becomes root: "" when it is root, "sudo -n", "doas -n"

	Binary       string // path of the engine that runs or would run; "" when there is none
	BinarySHA256 string // hex

	imageSHA256 string           // of the light VM's own engine, when it is not the one that runs
	tools       map[string]bool  // zstd, gzip
	parts       map[string]int64 // sizes of uploads that were cut off, by file name
	files       map[string][]byte
	keyThere    bool // the server's key exists
	keyNewer    bool // and was made after the certificate
	restartDue  bool // a change was made after which the engine was not restarted
	active      bool // the service runs
	enabled     bool // and starts at boot
	hasPrevious bool // a previous engine is kept
	host        host // of machines that berth did not make
}

// Paths that provisioning uses beside those of package config.
const (
	guestInit  = "/run/berth-init" // exists in the light VM
	pidFile    = "/run/berth/berthd.pid"
	logFile    = "/var/log/berthd.log" // of the light VM's init and of OpenRC; systemd has its journal
	restartDue = "/run/berth-restart-due"
	binaryDir  = "/usr/local/bin" // of config.Binary
	previous   = config.Binary + ".previous"
	unitFile   = "/etc/systemd/system/berthd.service"
	rcFile     = "/etc/init.d/berthd"
)

// factsVersion heads the answer of factsScript.
const factsVersion = "berth-facts 1"

// factsScript gathers all facts in one go, as lines "name value", and files as "file path" with the content after it, up
// to a line with the mark that $end holds.
// It reads; it changes nothing. A tool that is missing must not end it. It starts few programs, since starting one takes an
// emulated processor 10 ms. Its argument is how it became root.
const factsScript = `echo "` + factsVersion + `"
echo "uname $(uname -srm)"
[ -z "$1" ] || echo "via $1"
init=
if [ -e ` + guestInit + ` ]; then init=berth
elif [ -d /run/systemd/system ]; then init=systemd
elif [ -e /run/openrc/softlevel ] || [ -x /sbin/openrc-run ]; then init=openrc
fi
echo "init $init"
for t in zstd gzip sha256sum head mktemp; do command -v $t >/dev/null 2>&1 && echo "tool $t"; done
bin=` + config.Binary + `
[ -e $bin ] || [ "$init" != berth ] || bin=` + config.GuestBinary + `
if [ -f $bin ]; then
	at=$(stat -L -c %s-%Y-%i $bin 2>/dev/null); sum=; was=
	[ -r $bin` + config.StampSuffix + ` ] && read -r sum was < $bin` + config.StampSuffix + `
	if [ -z "$sum" ] || [ $bin != ` + config.GuestBinary + ` ]; then
		[ -n "$at" ] && [ "$at" = "$was" ] || { sum=$(sha256sum < $bin); sum=${sum%% *}; }
	fi
	echo "binary $sum $bin"
fi
[ -f ` + previous + ` ] && echo "previous yes"
for f in ` + config.Binary + `-*.part; do [ -f "$f" ] && echo "part $(wc -c < "$f") ${f##*/}"; done
key=` + config.ServerKey + ` cert=` + config.ServerCert + `
[ -s $key ] && echo "key yes"
[ $key -nt $cert ] && echo "keynewer yes"
[ -e ` + restartDue + ` ] && echo "restartdue yes"
case $init in
berth) # init starts the engine itself, and may be about to
	echo "active yes"; echo "enabled yes"
	sum=; [ $bin = ` + config.GuestBinary + ` ] || ! read -r sum was < ` + config.GuestBinary + config.StampSuffix + ` || echo "image $sum" ;;
systemd)
	systemctl is-active --quiet berthd.service && echo "active yes"
	systemctl is-enabled --quiet berthd.service 2>/dev/null && echo "enabled yes" ;;
openrc)
	rc-service berthd status >/dev/null 2>&1 && echo "active yes"
	[ -e /etc/runlevels/default/berthd ] && echo "enabled yes" ;;
esac
mounts=
if [ "$init" != berth ]; then
` + hostScript + `fi
for f in ` + config.File + ` ` + config.EnvFile + ` ` + config.CAFile + ` $cert ` + config.ServerCSR + ` ` + unitFile + ` ` + rcFile + ` $mounts; do
	[ -f $f ] && echo "file $f" && cat $f && echo && echo $end
done
echo end`

// detect gathers the facts and refuses machines that the engine cannot run on.
func (r *run) detect(ctx context.Context) (bool, error) {
	if err := r.gather(ctx); err != nil {
		return false, err
	}
	if err := r.facts.check(); err != nil {
		return false, err
	}
	e, err := r.spec.Engine(r.facts.Arch)
	if err != nil {
		return false, err
	}
	if !validSum(e.SHA256) {
		return false, fmt.Errorf("the engine's checksum %q is none", e.SHA256)
	}
	r.engine = e
	return true, r.judge()
}

// gather asks the machine.
func (r *run) gather(ctx context.Context) error {
	mark := "END_" + rand.Text()
	out, err := r.script(ctx, fmt.Sprintf("end=%s\nport=%d\n", mark, r.port())+factsScript)
	if err != nil {
		return err
	}
	r.facts, err = parseFacts(out, mark)
	return err
}

func (f Facts) check() error {
	switch {
	case f.OS != "linux":
		return fmt.Errorf("the machine runs %s: the engine requires Linux", f.OS)
	case f.Init == NoInit:
		return errors.New("the machine has no init system that is known: systemd or OpenRC is required")
	}
	for _, tool := range []string{"sha256sum", "head"} {
		if !f.tools[tool] {
			return fmt.Errorf("the machine has no %s: coreutils or busybox is required", tool)
		}
	}
	return nil
}

// parseFacts reads the answer of factsScript. A login script may print something of its own before it.
func parseFacts(out []byte, mark string) (Facts, error) {
	f := Facts{tools: map[string]bool{}, parts: map[string]int64{}, files: map[string][]byte{}}
	_, rest, found := bytes.Cut(out, []byte(factsVersion+"\n"))
	for found {
		var line []byte
		if line, rest, found = bytes.Cut(rest, []byte("\n")); !found {
			break
		}
		name, value, _ := strings.Cut(string(line), " ")
		switch name {
		case "end":
			return f, nil
		case "file":
			f.files[value], rest, found = bytes.Cut(rest, []byte("\n"+mark+"\n"))
		default:
			if err := f.set(name, value); err != nil {
				return Facts{}, err
			}
		}
	}
	return Facts{}, errors.New("the machine's answer is incomplete")
}

func (f *Facts) set(name, value string) (err error) {
	switch name {
	case "uname":
		words := append(strings.Fields(value), "", "", "")
		f.OS, f.Kernel, f.Arch = strings.ToLower(words[0]), words[1], goarch(words[2])
	case "init":
		f.Init = Init(value)
	case "via":
		f.Via = value
	case "name":
		f.Name = strings.Trim(value, `"'`)
	case "cgroup":
		f.CGroup = value
	case "image":
		f.imageSHA256 = value
	case "tool":
		f.tools[value] = true
	case "binary":
		f.BinarySHA256, f.Binary, _ = strings.Cut(value, " ")
	case "part":
		size, name, _ := strings.Cut(value, " ")
		if f.parts[name], err = strconv.ParseInt(size, 10, 64); err != nil {
			return fmt.Errorf("unexpected size %q of %s", size, name)
		}
	default:
		f.setFlag(name)
		return f.host.set(name, value)
	}
	return nil
}

func (f *Facts) setFlag(name string) {
	switch name {
	case "key":
		f.keyThere = true
	case "keynewer":
		f.keyNewer = true
	case "restartdue":
		f.restartDue = true
	case "active":
		f.active = true
	case "enabled":
		f.enabled = true
	case "previous":
		f.hasPrevious = true
	}
}

// goarch translates uname's word for a processor; one that is not known stays as it is, and Spec.Engine will not know it either.
func goarch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386", "i486", "i586", "i686":
		return "386"
	case "armv6l", "armv7l", "armv8l":
		return "arm"
	case "ppc64el":
		return "ppc64le"
	}
	return machine
}
