package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// MaxSize bounds a configuration file, in bytes.
const MaxSize = 1 << 20

// Default is the configuration of a machine that berth has made: a local socket, and mutual TLS from outside as soon as
// provisioning has put the certificates.
func Default() Config {
	return Config{
		Hosts:     []string{"unix://" + Socket, fmt.Sprintf("tcp://0.0.0.0:%d", EnginePort)},
		TLSVerify: true,
		TLSCACert: CAFile,
		TLSCert:   ServerCert,
		TLSKey:    ServerKey,
		TLSAwait:  true,
	}
}

// WithDefaults fills in what an engine needs and the configuration leaves open, with dockerd's numbers.
func (c Config) WithDefaults() Config {
	setDefault(&c.DataRoot, DataRoot)
	setDefault(&c.ExecRoot, ExecRoot)
	setDefault(&c.PIDFile, strings.TrimSuffix(c.ExecRoot, "/")+"/berthd.pid")
	setDefault(&c.LogLevel, "info")
	setDefault(&c.LogFormat, "text")
	setDefault(&c.LogDriver, "json-file")
	setDefault(&c.DefaultRuntime, "runc")
	setDefault(&c.TLSCACert, CAFile)
	setDefault(&c.TLSCert, ServerCert)
	setDefault(&c.TLSKey, ServerKey)
	setDefault(&c.DefaultIPCMode, "private")
	setDefault(&c.SeccompProfile, "builtin")
	if c.DefaultShmSize == 0 {
		c.DefaultShmSize = 64 << 20
	}
	if c.DefaultStopTimeout == nil {
		seconds := 10
		c.DefaultStopTimeout = &seconds
	}
	setNumber(&c.MaxConcurrentDownloads, 3)
	setNumber(&c.MaxConcurrentUploads, 5)
	setNumber(&c.MaxDownloadAttempts, 5)
	setNumber(&c.ShutdownTimeout, 15)
	if c.Debug {
		c.LogLevel = "debug"
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix://" + Socket}
	}
	return c
}

// ContainersStay reports whether containers go on when the engine is stopped.
func (c Config) ContainersStay() bool { return c.LiveRestore == nil || *c.LiveRestore }

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func setNumber(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

// Parse reads a configuration and returns it with the keys that it sets. A key that it does not know is refused by its name.
func Parse(data []byte) (Config, []string, error) {
	if len(data) > MaxSize {
		return Config{}, nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // the byte order mark of some editors
	if len(bytes.TrimSpace(data)) == 0 {
		return Config{}, nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return Config{}, nil, fmt.Errorf("invalid JSON: %w", err)
	}
	if err := checkKeys(keys); err != nil {
		return Config{}, nil, err
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, nil, fmt.Errorf("invalid JSON: %w", err)
	}
	if err := c.migrate(); err != nil {
		return Config{}, nil, err
	}
	return c, slices.Sorted(maps.Keys(keys)), nil
}

// checkKeys refuses keys that are not known, and those that ask for what there is not. The latter, where they ask for nothing,
// are taken out.
func checkKeys(keys map[string]json.RawMessage) error {
	known, unsupported := knownKeys(), map[string]Unsupported{}
	for _, u := range UnsupportedOptions() {
		unsupported[u.Key] = u
	}
	var unknown []string
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		u, refused := unsupported[key]
		switch {
		case known[key]:
		case refused && key != "":
			errs = append(errs, u.checkJSON(keys[key]))
			delete(keys, key)
		default:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		errs = append(errs, fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", ")))
	}
	return errors.Join(errs...)
}

// migrate turns what old files say into what it means now.
func (c *Config) migrate() error {
	if c.HostGatewayIP == "" {
		return nil
	}
	if len(c.HostGatewayIPs) > 0 {
		return errors.New("host-gateway-ip and host-gateway-ips must not both be specified in the config file")
	}
	c.HostGatewayIPs, c.HostGatewayIP = []string{c.HostGatewayIP}, ""
	return nil
}

// Load reads a configuration file; see Parse.
func Load(path string) (Config, []string, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Config{}, nil, fmt.Errorf("configuration file: %w", err)
	}
	c, keys, err := Parse(data)
	if err != nil {
		return Config{}, nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	return c, keys, nil
}

// Marshal writes a configuration as a file: indented, keys in a fixed order, so that equal configurations are equal bytes.
func (c Config) Marshal() ([]byte, error) {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return append(data, '\n'), nil
}

// knownKeys are the names in Config's tags.
func knownKeys() map[string]bool {
	known := map[string]bool{}
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known[name] = true
	}
	return known
}
