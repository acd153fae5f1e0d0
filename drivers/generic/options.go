package generic

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2/maybe"
	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
)

// Names of the flags that berth adds to docker-machine's.
const (
	flagAddress     = "generic-ip-address"
	flagUser        = "generic-ssh-user"
	flagKey         = "generic-ssh-key"
	flagPort        = "generic-ssh-port"
	flagEnginePort  = "generic-engine-port"
	flagExpose      = "generic-expose"
	flagHostKey     = "generic-host-key"
	flagJump        = "generic-jump"
	flagJumpHostKey = "generic-jump-host-key"
	flagAcceptNew   = "accept-new-host-key"
)

// What --generic-expose may be.
const (
	exposeOpen = "open"
	exposeSSH  = "ssh"
)

// Defaults of docker-machine.
const (
	defaultSSHPort    = 22
	defaultEnginePort = 2376
)

// Flags implements drivers.Driver.
func (d *Driver) Flags() []drivers.Flag {
	return []drivers.Flag{
		{Name: flagAddress, Usage: "Address or name of the host", EnvVar: "GENERIC_IP_ADDRESS", Default: ""},
		{Name: flagUser, Usage: "SSH user: root, or one with sudo or doas that ask for no password", EnvVar: "GENERIC_SSH_USER", Default: "root"},
		{Name: flagKey, Usage: "SSH private key path (if not provided, the agent's keys and those of ~/.ssh are used)", EnvVar: "GENERIC_SSH_KEY", Default: ""},
		{Name: flagPort, Usage: "SSH port", EnvVar: "GENERIC_SSH_PORT", Default: defaultSSHPort},
		{Name: flagEnginePort, Usage: "Engine port", EnvVar: "GENERIC_ENGINE_PORT", Default: defaultEnginePort},
		{Name: flagExpose, Usage: "Where the engine listens: open (on its port) or ssh (on no port: berth tunnels through SSH)", EnvVar: "GENERIC_EXPOSE", Default: exposeOpen, Values: []string{exposeOpen, exposeSSH}},
		{Name: flagHostKey, Usage: "The host's SSH key: as in its .pub file, that file, or its SHA256 fingerprint. If not given, ~/.ssh/known_hosts must have it", EnvVar: "GENERIC_HOST_KEY", Default: ""},
		{Name: flagJump, Usage: "Jump host through which the host is reached, [user@]host[:port]", EnvVar: "GENERIC_JUMP", Default: ""},
		{Name: flagJumpHostKey, Usage: "The jump host's SSH key, as for the host's", EnvVar: "GENERIC_JUMP_HOST_KEY", Default: ""},
		{Name: flagAcceptNew, Usage: "Trust the SSH key that an unknown host shows now, and only that one from then on", Default: false},
	}
}

// parse reads the options; it asks nobody.
func (d *Driver) parse(o drivers.Options) (state, *userKey, error) {
	s := state{
		Version: stateVersion,
		Address: trimBrackets(o.String(flagAddress)), SSHUser: o.String(flagUser),
		SSHPort: o.Int(flagPort), EnginePort: o.Int(flagEnginePort),
	}
	if s.Address == "" {
		return s, nil, fmt.Errorf("generic driver requires the --%s option", flagAddress)
	}
	if err := checkHost(s.Address); err != nil {
		return s, nil, fmt.Errorf("--%s %s: %w", flagAddress, s.Address, err)
	}
	if s.SSHUser == "" {
		s.SSHUser = "root"
	}
	for flag, port := range map[string]int{flagPort: s.SSHPort, flagEnginePort: s.EnginePort} {
		if port < 1 || port > 65535 {
			return s, nil, fmt.Errorf("--%s %d: not a port", flag, port)
		}
	}
	switch expose := o.String(flagExpose); {
	case expose == exposeSSH:
		s.SSHOnly = true
	case expose != exposeOpen && expose != "":
		return s, nil, fmt.Errorf("--%s %q: it must be open or ssh", flagExpose, expose)
	case s.SSHPort == s.EnginePort:
		return s, nil, fmt.Errorf("--%s %d: SSH has that port", flagEnginePort, s.EnginePort)
	}
	if err := s.parseJump(o); err != nil {
		return s, nil, err
	}
	key, err := d.readKey(o.String(flagKey))
	if err != nil {
		return s, nil, fmt.Errorf("--%s %s: %w", flagKey, o.String(flagKey), err)
	}
	if key != nil {
		s.KeyFile = keyFile
	}
	return s, key, nil
}

func trimBrackets(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return host
}

// checkHost refuses what cannot be an address or a name.
func checkHost(host string) error {
	if net.ParseIP(host) != nil {
		return nil
	}
	ok := len(host) <= 253 && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == ""
	if !ok || strings.HasPrefix(host, "-") || strings.HasPrefix(host, ".") {
		return errors.New("neither an address nor a name")
	}
	return nil
}

func (s *state) parseJump(o drivers.Options) error {
	text := o.String(flagJump)
	if text == "" {
		if o.String(flagJumpHostKey) != "" {
			return fmt.Errorf("--%s needs --%s", flagJumpHostKey, flagJump)
		}
		return nil
	}
	jump, err := parseJump(text)
	if err != nil {
		return fmt.Errorf("--%s %s: %w", flagJump, text, err)
	}
	if jump.User == "" {
		jump.User = s.SSHUser
	}
	s.Jump = jump
	return nil
}

// parseJump reads [user@]host[:port]; an IPv6 address with a port is in brackets.
func parseJump(text string) (*drivers.Jump, error) {
	j := &drivers.Jump{Port: defaultSSHPort}
	rest := text
	if at := strings.LastIndex(text, "@"); at >= 0 {
		j.User, rest = text[:at], text[at+1:]
		if j.User == "" || strings.ContainsAny(j.User, " \t\r\n") {
			return nil, errors.New("not of the form [user@]host[:port]")
		}
	}
	j.Host = trimBrackets(rest)
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("%q is not a port", port)
		}
		j.Host, j.Port = host, n
	}
	if err := checkHost(j.Host); err != nil || j.Host == "" {
		return nil, errors.New("not of the form [user@]host[:port]")
	}
	return j, nil
}

// keyFile is the copy of the key that was given, in the machine's folder.
const keyFile = "ssh_key"

// userKey is a private key of the user's.
type userKey struct {
	path string // absolute
	data []byte
}

// maxKey bounds a private key's file, in bytes; OpenSSH's largest RSA keys take 13 kB.
const maxKey = 64 << 10

// readKey reads a private key; nil when none was given. One with a passphrase is used by way of the agent.
func (d *Driver) readKey(path string) (*userKey, error) {
	if path == "" {
		return nil, nil
	}
	path, err := filepath.Abs(d.expand(path))
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKey {
		return nil, errors.New("not a private key")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var locked *ssh.PassphraseMissingError
	if _, err := ssh.ParsePrivateKey(data); err != nil && !errors.As(err, &locked) {
		return nil, fmt.Errorf("not a private key: %w", err)
	}
	return &userKey{path: path, data: data}, nil
}

// expand takes a leading ~ for the user's folder: shells do not expand it in --flag=~/path.
func (d *Driver) expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && d.config.Home != "" {
		return filepath.Join(d.config.Home, rest)
	}
	return path
}

// copyTo puts the key into the machine's folder.
func (k *userKey) copyTo(dir string) error {
	if k == nil {
		return nil
	}
	if err := maybe.WriteFile(filepath.Join(dir, keyFile), k.data, 0o600); err != nil {
		return fmt.Errorf("copying the SSH key: %w", err)
	}
	return nil
}

func removeKey(dir string) error {
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the SSH key: %w", err)
	}
	return nil
}
