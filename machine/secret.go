package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

const (
	// secretLimit is how long a command may take to print a secret; it may ask the user for a password.
	secretLimit = 2 * time.Minute
	// maxSecret bounds a secret in bytes.
	maxSecret = 64 << 10
)

// Suffixes make of a secret flag's name that of a flag with a reference to it, which is recorded; see drivers.Flag.
const (
	commandSuffix = "-command" // the command that prints it
	keyringSuffix = "-keyring" // its item in the system's keyring: SERVICE/ACCOUNT
)

// reference is where a secret can be had.
type reference struct {
	flag, value string
}

// secret finds the values of a driver's secret flags: what was given to this very command, what the keyring has or the command prints
// that was given or recorded, or what the environment has. They stay in memory.
func (m *Manager) secret(rec *hostdb.Machine, given drivers.Options) func(context.Context, string) (string, error) {
	return func(ctx context.Context, name string) (string, error) {
		flag, err := m.secretFlag(rec.Driver, name)
		if err != nil {
			return "", err
		}
		if v := given.String(name); v != "" {
			return v, nil
		}
		ref := m.reference(rec, given, name)
		value := m.getenv(flag.EnvVar)
		if ref.value == "" && value != "" {
			return value, nil
		}
		if ref.value == "" {
			return "", m.hint(fmt.Errorf("--%s: it is needed and not recorded; $%s is not set", name, flag.EnvVar), "Set it: export %s=…", flag.EnvVar)
		}
		found, err := m.secrets.find(ctx, ref)
		if err == nil {
			return found, nil
		}
		if value != "" {
			m.Report.Note(rec.Name, fmt.Sprintf("--%s: %v; taking $%s", ref.flag, err, flag.EnvVar))
			return value, nil
		}
		return "", fmt.Errorf("--%s: %w", ref.flag, err)
	}
}

// reference is the one that was given, or else recorded; its value is empty when there is none.
func (m *Manager) reference(rec *hostdb.Machine, given drivers.Options, name string) reference {
	for _, value := range []func(flag string) string{given.String, func(flag string) string { return m.recordedReference(rec, flag) }} {
		for _, suffix := range []string{keyringSuffix, commandSuffix} {
			if v := value(name + suffix); v != "" {
				return reference{name + suffix, v}
			}
		}
	}
	return reference{}
}

func (m *Manager) secretFlag(driver, name string) (drivers.Flag, error) {
	d, err := m.Drivers.Get(driver)
	if err != nil {
		return drivers.Flag{}, err
	}
	for _, f := range d.Flags() {
		if f.Name == name && f.Secret {
			return f, nil
		}
	}
	return drivers.Flag{}, fmt.Errorf("the driver %s has no secret flag %s", driver, name)
}

// referred tells options that have a reference to a secret.
func referred(given drivers.Options, name string) bool {
	return given.String(name+commandSuffix) != "" || given.String(name+keyringSuffix) != ""
}

// recordedReference is empty when there is none, or the record cannot be read.
func (m *Manager) recordedReference(rec *hostdb.Machine, name string) string {
	d, err := m.Drivers.Get(rec.Driver)
	if err != nil {
		return ""
	}
	o, err := recorded(d, rec.DriverOptions)
	if err != nil {
		return ""
	}
	return o.String(name)
}

func (m *Manager) getenv(name string) string {
	if m.Getenv == nil || name == "" {
		return ""
	}
	return m.Getenv(name)
}

// unrecorded tells the user about a secret that later commands will not find.
func (m *Manager) unrecorded(rec *hostdb.Machine, d drivers.Driver, given drivers.Options) {
	for _, f := range d.Flags() {
		v := given.String(f.Name)
		if f.Secret && v != "" && !referred(given, f.Name) && v != m.getenv(f.EnvVar) {
			m.Report.Note(rec.Name, fmt.Sprintf("--%s is not recorded: later commands take it from $%s", f.Name, f.EnvVar))
		}
	}
}

// secretSources asks each source once. The zero value is ready.
type secretSources struct {
	mu    sync.Mutex // guards asked
	asked map[reference]*secretAnswer
}

type secretAnswer struct {
	once  sync.Once
	value string
	err   error
}

func (s *secretSources) find(ctx context.Context, ref reference) (string, error) {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[reference]*secretAnswer{}
	}
	a := s.asked[ref]
	if a == nil {
		a = new(secretAnswer)
		s.asked[ref] = a
	}
	s.mu.Unlock()
	a.once.Do(func() {
		if strings.HasSuffix(ref.flag, keyringSuffix) {
			a.value, a.err = keptAt(ref.value)
		} else {
			a.value, a.err = printedBy(ctx, ref.value)
		}
	})
	return a.value, a.err
}

// keptAt finds an item of the system's keyring: the Secret Service, the Keychain, or the Credential Manager.
func keptAt(item string) (string, error) {
	service, account, ok := strings.Cut(item, "/")
	if !ok || service == "" || account == "" {
		return "", fmt.Errorf("%q: SERVICE/ACCOUNT is what an item is named by", item)
	}
	value, err := keyring.Get(service, account)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", fmt.Errorf("the keyring has no item %q", item)
	}
	if err != nil {
		return "", fmt.Errorf("asking the keyring for %q: %w", item, err)
	}
	if value = strings.TrimSpace(value); value == "" {
		return "", fmt.Errorf("the keyring's item %q is empty", item)
	}
	return value, nil
}

// printedBy runs a command of the user's in the shell. What it prints is in no error; what it says to stderr the user sees.
func printedBy(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, secretLimit)
	defer cancel()
	shell, option := "sh", "-c"
	if runtime.GOOS == "windows" {
		shell, option = "cmd", "/C"
	}
	cmd := exec.CommandContext(ctx, shell, option, command)
	cmd.WaitDelay = time.Second
	out := &boundedBuffer{left: maxSecret}
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%q: %w", command, err)
	}
	value := strings.TrimSpace(out.String())
	if value == "" {
		return "", fmt.Errorf("%q prints nothing", command)
	}
	return value, nil
}

type boundedBuffer struct {
	bytes.Buffer
	left int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("it prints too much")
	}
	return b.Buffer.Write(p)
}
