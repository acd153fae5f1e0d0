//go:build linux

package container

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/getberth/berth/engine/logs"
)

// Defaults of the log drivers: json-file keeps one file without a limit. What local keeps, and what is kept of output that goes
// elsewhere, is five compressed files of 20 MB.
const (
	localMaxSize = 20 << 20
	localMaxFile = 5
	logBuffer    = 1 << 20 // bytes, of the mode non-blocking
)

// driverOptions are the options that a log driver knows, besides those of all drivers.
func driverOptions(driver string) []string {
	attributes := []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	cache := []string{"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
	switch driver {
	case "json-file":
		return append(attributes, "max-size", "max-file", "compress")
	case "local":
		return []string{"max-size", "max-file", "compress"}
	case "syslog":
		return slices.Concat(attributes, cache, []string{"syslog-address", "syslog-facility", "syslog-format"})
	case "journald":
		return append(attributes, cache...)
	}
	return nil
}

// withLogDefaults completes a container's log options, when it is created, by the engine's, which are of one driver.
func withLogDefaults(cfg Config, own container.LogConfig) container.LogConfig {
	if own.Type == "" {
		own.Type = cfg.LogDriver
	}
	options := map[string]string{}
	if own.Type == cfg.LogDriver {
		maps.Copy(options, cfg.LogOpts)
	}
	maps.Copy(options, own.Config)
	own.Config = options
	return own
}

// logConfig turns the log options of a container, or the engine's, into where and how its output is kept. spec is nil when it
// is for checking only.
func logConfig(cfg Config, own container.LogConfig, spec *Spec, path string) (logs.Config, error) {
	if own.Type == "" {
		own = withLogDefaults(cfg, own)
	}
	lc := logs.Config{Driver: own.Type, Path: path, MaxSize: -1, MaxFile: 1}
	switch own.Type {
	case "none":
		if len(own.Config) > 0 && spec != nil {
			return lc, invalid("logger: options are not supported with log driver none")
		}
		return lc, nil
	case "json-file":
	case "local", "syslog", "journald":
		lc.MaxSize, lc.MaxFile, lc.Compress = localMaxSize, localMaxFile, true
	default:
		return lc, invalid("logger: no log driver named '%s' is registered", own.Type)
	}
	if own.Type == "syslog" || own.Type == "journald" {
		lc.Forward = &logs.Forward{To: own.Type, Facility: defaultFacility}
	}
	for _, name := range slices.Sorted(maps.Keys(own.Config)) {
		if err := setLogOption(&lc, name, own.Config[name]); err != nil {
			return lc, err
		}
	}
	if err := checkLogConfig(&lc, own.Config); err != nil {
		return lc, err
	}
	return lc, completeLogConfig(&lc, own.Config, spec)
}

// checkLogConfig refuses options that do not go together.
func checkLogConfig(lc *logs.Config, options map[string]string) error {
	switch {
	case lc.MaxFile > 1 && lc.MaxSize <= 0:
		return invalid("max-file cannot be set to more than 1 when max-size is not set")
	case options["compress"] != "" && lc.Compress && lc.MaxFile < 2:
		return invalid("compress cannot be true when max-file is less than 2 or max-size is not set")
	case options["max-buffer-size"] != "" && lc.Buffer == 0:
		return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	if size := options["max-buffer-size"]; size != "" {
		n, err := units.RAMInBytes(size)
		if err != nil || n <= 0 {
			return invalid("error parsing option max-buffer-size: %q", size)
		}
		lc.Buffer = n
	}
	return nil
}

func setLogOption(lc *logs.Config, name, value string) error {
	var err error
	switch {
	case name == "mode":
		return setLogMode(lc, value)
	case name == "max-buffer-size":
		return nil // see checkLogConfig: it depends on the mode
	case strings.HasPrefix(name, "syslog-tls-") && lc.Driver == "syslog":
		return refused("logger: log opt '%s' is not supported by this engine: it speaks no TLS to syslog", name)
	case !slices.Contains(driverOptions(lc.Driver), name):
		return invalid("unknown log opt '%s' for %s log driver", name, lc.Driver)
	}
	switch strings.TrimPrefix(name, "cache-") {
	case "max-size":
		lc.MaxSize, err = logSize(value)
	case "max-file":
		lc.MaxFile, err = strconv.Atoi(value)
		if err == nil && lc.MaxFile < 1 {
			return invalid("%s cannot be less than 1", name)
		}
	case "compress":
		lc.Compress, err = strconv.ParseBool(value)
	case "disabled":
		lc.NoFile, err = strconv.ParseBool(value)
	case "syslog-address":
		err = setSyslogAddress(lc.Forward, value)
	case "syslog-facility":
		lc.Forward.Facility, err = syslogFacility(value)
	case "syslog-format":
		err = setSyslogFormat(lc.Forward, value)
	}
	if err != nil {
		return invalid("logger: invalid value for %s: %s: %v", name, value, err)
	}
	return nil
}

func logSize(value string) (int64, error) {
	if value == "-1" {
		return -1, nil
	}
	return units.RAMInBytes(value)
}

func setLogMode(lc *logs.Config, value string) error {
	switch container.LogMode(value) {
	case container.LogModeUnset, container.LogModeBlocking:
	case container.LogModeNonBlock:
		lc.Buffer = logBuffer
	default:
		return invalid("logger: logging mode not supported: %s", value)
	}
	return nil
}

// completeLogConfig fills in what depends on the container.
func completeLogConfig(lc *logs.Config, options map[string]string, spec *Spec) error {
	tag, err := logTag(options["tag"], lc.Driver, spec)
	if err != nil {
		return invalid("logger: %v", err)
	}
	var attrs map[string]string
	if spec != nil {
		if attrs, err = logAttributes(options, spec.Config); err != nil {
			return err
		}
	}
	switch {
	case lc.Forward != nil:
		lc.Forward.Tag = tag
		if lc.Driver == "journald" && spec != nil {
			lc.Forward.Fields = journalFields(spec, tag, attrs)
		}
	case tag != "":
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs["tag"] = tag
	}
	lc.Attrs = attrs
	return nil
}

// logAttributes copies the labels and variables that the options name.
func logAttributes(options map[string]string, c *container.Config) (map[string]string, error) {
	env := map[string]string{}
	for _, e := range c.Env {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	attrs := map[string]string{}
	for _, from := range []struct {
		names, pattern string
		values         map[string]string
	}{{options["labels"], options["labels-regex"], c.Labels}, {options["env"], options["env-regex"], env}} {
		for name := range strings.SplitSeq(from.names, ",") {
			if value, ok := from.values[strings.TrimSpace(name)]; ok {
				attrs[strings.TrimSpace(name)] = value
			}
		}
		if from.pattern == "" {
			continue
		}
		re, err := regexp.Compile(from.pattern)
		if err != nil {
			return nil, invalid("logger: invalid regular expression %q: %v", from.pattern, err)
		}
		for name, value := range from.values {
			if re.MatchString(name) {
				attrs[name] = value
			}
		}
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

// logPath is the current file of a container's log.
func (s *Service) logPath(id string) string { return s.store.path(id, id+"-json.log") }
