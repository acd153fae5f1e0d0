package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/getberth/berth/hostdb"
)

// engineEnvFile is in a machine's folder and holds the engine's environment, K=V lines. It is no part of the record since proxies
// have passwords.
const engineEnvFile = "engine.env"

// checkEngineEnv refuses what is not K=V, or would not fit into a line.
func checkEngineEnv(env []string) error {
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		switch {
		case kv == "":
		case !ok || !isEnvName(name):
			return fmt.Errorf("--engine-env %s: must be NAME=VALUE", name)
		case strings.ContainsAny(value, "\n\r\x00"):
			return fmt.Errorf("--engine-env %s: the value has more than one line", name)
		}
	}
	return nil
}

func isEnvName(s string) bool {
	return s != "" && !('0' <= s[0] && s[0] <= '9') &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// env is the file's content; empty entries say that there is nothing.
func (o EngineOptions) env() string {
	var b strings.Builder
	for _, kv := range o.Env {
		if kv != "" {
			b.WriteString(kv + "\n")
		}
	}
	return b.String()
}

// writeEngineEnv records the engine's environment; an empty one is no file.
func writeEngineEnv(dir, env string) error {
	path := filepath.Join(dir, engineEnvFile)
	if env == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the engine's environment: %w", err)
		}
		return nil
	}
	if err := hostdb.WriteFile(path, []byte(env), 0o600); err != nil {
		return fmt.Errorf("the engine's environment: %w", err)
	}
	return nil
}

func readEngineEnv(dir string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, engineEnvFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the engine's environment: %w", err)
	}
	return data, nil
}

// EngineEnv is the environment of a machine's engine, NAME=VALUE.
func (m *Manager) EngineEnv(name string) ([]string, error) {
	data, err := readEngineEnv(m.Store.MachineDir(name))
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' }), err
}
