package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

const (
	// secretLimit is how long a command may take to print a secret; it may ask the user for a password.
	secretLimit = 2 * time.Minute
	// maxSecret bounds a secret in bytes.
	maxSecret = 64 << 10
)

// commandSuffix makes of a secret flag's name that of the flag with the command which prints it; see drivers.Flag.
const commandSuffix = "-command"

// secret finds the values of a driver's secret flags: what was given to this very command, what the command prints that was
// given or recorded, or what the environment has. They stay in memory.
func (m *Manager) secret(rec *hostdb.Machine, given drivers.Options) func(context.Context, string) (string, error) {
	return func(ctx context.Context, name string) (string, error) {
		flag, err := m.secretFlag(rec.Driver, name)
		if err != nil {
			return "", err
		}
		if v := given.String(name); v != "" {
			return v, nil
		}
		command := given.String(name + commandSuffix)
		if command == "" {
			command = m.recordedCommand(rec, name+commandSuffix)
		}
		value := m.getenv(flag.EnvVar)
		if command == "" && value != "" {
			return value, nil
		}
		if command == "" {
			return "", m.hint(fmt.Errorf("--%s: it is needed and not recorded; $%s is not set", name, flag.EnvVar), "Set it: export %s=…", flag.EnvVar)
		}
		printed, err := m.secrets.run(ctx, command, m.Debug)
		if err == nil {
			return printed, nil
		}
		if value != "" {
			m.Report.Note(rec.Name, fmt.Sprintf("--%s%s: %v; taking $%s", name, commandSuffix, err, flag.EnvVar))
			return value, nil
		}
		return "", fmt.Errorf("--%s%s: %w", name, commandSuffix, err)
	}
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

// recordedCommand is empty when there is none, or the record cannot be read.
func (m *Manager) recordedCommand(rec *hostdb.Machine, name string) string {
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
		if f.Secret && v != "" && given.String(f.Name+commandSuffix) == "" && v != m.getenv(f.EnvVar) {
			m.Report.Note(rec.Name, fmt.Sprintf("--%s is not recorded: later commands take it from $%s", f.Name, f.EnvVar))
		}
	}
}

// secretCommands runs each command once. The zero value is ready.
type secretCommands struct {
	mu   sync.Mutex // guards runs
	runs map[string]*secretRun
}

type secretRun struct {
	once  sync.Once
	value string
	err   error
}

func (c *secretCommands) run(ctx context.Context, command string, debug io.Writer) (string, error) {
	c.mu.Lock()
	if c.runs == nil {
		c.runs = map[string]*secretRun{}
	}
	r := c.runs[command]
	if r == nil {
		r = new(secretRun)
		c.runs[command] = r
	}
	c.mu.Unlock()
	r.once.Do(func() { r.value, r.err = printedBy(ctx, command) })
	return r.value, r.err
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
