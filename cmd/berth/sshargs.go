package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// sshOptions are what the arguments of ssh mean.
type sshOptions struct {
	machine, user          string
	command                string
	tty                    int // how often -t was given
	noTTY, noCommand       bool
	noStdin, gateway       bool
	local, remote, dynamic []forward
	stdio                  string   // of -W
	notes                  []string // about options without effect
}

// forward is one -L, -R or -D; to is empty for -D.
type forward struct {
	spec       string
	listen, to socket
}

type socket struct{ network, address string }

// sshParser goes through the arguments: options may stand before and after the machine's name, the command ends them.
type sshParser struct {
	sshOptions
	args  []string
	specs []pendingForward // -g may come after them
}

type pendingForward struct {
	option byte
	spec   string
}

func parseSSH(args []string) (sshOptions, error) {
	p := &sshParser{args: args}
	named := false
	for len(p.args) > 0 {
		arg := p.args[0]
		if arg == "--" {
			p.args = p.args[1:]
			break
		}
		if len(arg) > 1 && arg[0] == '-' {
			p.args = p.args[1:]
			if err := p.option(arg[1:]); err != nil {
				return sshOptions{}, err
			}
			continue
		}
		if named {
			break
		}
		p.machine, named = arg, true
		p.args = p.args[1:]
	}
	p.command = joinCommand(p.args)
	return p.sshOptions, p.forwards()
}

// option takes a bundle such as "tL8080:localhost:80": the first letter with a value takes the rest, or the next argument.
func (p *sshParser) option(bundle string) error {
	for i := range len(bundle) {
		letter := bundle[i]
		if !strings.ContainsRune("BbcDEeFIiJLlmOopQRSWw", rune(letter)) {
			if err := p.flag(letter); err != nil {
				return err
			}
			continue
		}
		value := bundle[i+1:]
		if value == "" {
			if len(p.args) == 0 {
				return fmt.Errorf("ssh -%c needs a value", letter)
			}
			value, p.args = p.args[0], p.args[1:]
		}
		return p.value(letter, value)
	}
	return nil
}

func (p *sshParser) flag(letter byte) error {
	switch letter {
	case 't':
		p.tty++
	case 'T':
		p.noTTY = true
	case 'N':
		p.noCommand = true
	case 'n':
		p.noStdin = true
	case 'g':
		p.gateway = true
	case 'q', 'x', 'a', 'k': // quiet, no X11, no agent, no GSSAPI: berth does not do otherwise
	case 'C', 'v', '4', '6':
		p.notes = append(p.notes, fmt.Sprintf("ssh -%c has no effect in berth", letter))
	case 'A':
		return errors.New("ssh -A: berth does not forward the agent: the machine could use your keys")
	case 'f':
		return errors.New("ssh -f: berth does not go to the background; let the shell do it: berth ssh … &")
	case 'X', 'Y':
		return fmt.Errorf("ssh -%c: berth does not forward X11", letter)
	default:
		return fmt.Errorf("ssh -%c is not supported", letter)
	}
	return nil
}

func (p *sshParser) value(letter byte, value string) error {
	switch letter {
	case 'l':
		p.user = value
	case 'W':
		p.stdio = value
	case 'L', 'R', 'D':
		p.specs = append(p.specs, pendingForward{letter, value})
	case 'o':
		return p.setting(value)
	case 'p', 'i':
		return fmt.Errorf("ssh -%c: berth knows the machine's port and key itself", letter)
	default:
		return fmt.Errorf("ssh -%c is not supported", letter)
	}
	return nil
}

// setting is one of -o, in either form that ssh takes: "Key=value" and "Key value".
func (p *sshParser) setting(text string) error {
	i := strings.IndexAny(text, "= ")
	if i < 0 {
		return fmt.Errorf("ssh -o %s: it needs a value", text)
	}
	key, value := strings.ToLower(text[:i]), strings.Trim(text[i+1:], "= ")
	switch key {
	case "user":
		p.user = value
	case "requesttty":
		return p.requestTTY(value)
	case "loglevel", "batchmode", "identitiesonly", "exitonforwardfailure", "passwordauthentication":
		// berth does what scripts set them to
	case "stricthostkeychecking", "userknownhostsfile", "serveraliveinterval", "serveralivecountmax", "connecttimeout", "compression":
		p.notes = append(p.notes, fmt.Sprintf("ssh -o %s has no effect in berth: host keys are pinned, connections are watched", text))
	default:
		return fmt.Errorf("ssh -o %s is not supported", text)
	}
	return nil
}

func (p *sshParser) requestTTY(value string) error {
	switch strings.ToLower(value) {
	case "no":
		p.noTTY = true
	case "yes":
		p.tty = 1
	case "force":
		p.tty = 2
	case "auto":
	default:
		return fmt.Errorf("ssh -o RequestTTY=%s: it is no, yes, force or auto", value)
	}
	return nil
}

func (p *sshParser) forwards() error {
	for _, s := range p.specs {
		f, err := parseForward(s.option, s.spec, p.gateway)
		if err != nil {
			return fmt.Errorf("ssh -%c %s: %w", s.option, s.spec, err)
		}
		switch s.option {
		case 'L':
			p.local = append(p.local, f)
		case 'R':
			p.remote = append(p.remote, f)
		case 'D':
			p.dynamic = append(p.dynamic, f)
		}
	}
	return nil
}

// parseForward reads "[bind:]port:host:port", where a path may stand for either end; "[bind:]port" for -D.
func parseForward(option byte, spec string, gateway bool) (forward, error) {
	parts, err := splitForward(spec)
	if err != nil {
		return forward{}, err
	}
	f := forward{spec: spec}
	bind := "localhost"
	if gateway && option != 'R' {
		bind = ""
	}
	if option != 'D' {
		if f.to, parts, err = forwardTarget(parts); err != nil {
			return forward{}, err
		}
	}
	switch {
	case len(parts) == 1 && strings.HasPrefix(parts[0], "/") && option != 'D':
		f.listen = socket{"unix", parts[0]}
		return f, nil
	case len(parts) == 1:
	case len(parts) == 2:
		bind, parts = parts[0], parts[1:]
		if bind == "*" {
			bind = ""
		}
	default:
		return forward{}, errors.New("it is not of the form [BIND:]PORT:HOST:PORT")
	}
	f.listen = socket{"tcp", net.JoinHostPort(bind, parts[0])}
	return f, checkPort(parts[0], option == 'R')
}

// forwardTarget takes the end of a specification: a path, or a host and a port.
func forwardTarget(parts []string) (socket, []string, error) {
	last := parts[len(parts)-1]
	if strings.HasPrefix(last, "/") && len(parts) > 1 {
		return socket{"unix", last}, parts[:len(parts)-1], nil
	}
	if len(parts) < 3 {
		return socket{}, nil, errors.New("it is not of the form [BIND:]PORT:HOST:PORT")
	}
	host := parts[len(parts)-2]
	return socket{"tcp", net.JoinHostPort(host, last)}, parts[:len(parts)-2], checkPort(last, false)
}

// splitForward splits at colons outside of brackets, which it takes off.
func splitForward(spec string) ([]string, error) {
	var parts []string
	for {
		if strings.HasPrefix(spec, "[") {
			host, rest, ok := strings.Cut(spec[1:], "]")
			if !ok || rest != "" && rest[0] != ':' {
				return nil, errors.New("a bracket is not closed")
			}
			parts = append(parts, host)
			if rest == "" {
				return parts, nil
			}
			spec = rest[1:]
			continue
		}
		part, rest, more := strings.Cut(spec, ":")
		parts = append(parts, part)
		if !more {
			return parts, nil
		}
		spec = rest
	}
}

func checkPort(text string, zero bool) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 && !zero {
		return fmt.Errorf("%q is not a port", text)
	}
	return nil
}
