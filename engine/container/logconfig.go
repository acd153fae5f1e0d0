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

// Defaults of the log drivers: json-file keeps one file without a limit, local five of 20 MB.
const (
	localMaxSize = 20 << 20
	localMaxFile = 5
)

// logConfig turns the log options of a container, or the engine's, into where and how its output is kept. c may be nil.
func logConfig(cfg Config, own container.LogConfig, c *container.Config, path string) (logs.Config, error) {
	driver, options := own.Type, own.Config
	if driver == "" {
		driver = cfg.LogDriver
		if options == nil {
			options = cfg.LogOpts
		}
	}
	lc := logs.Config{Driver: driver, Path: path, MaxSize: -1, MaxFile: 1}
	switch driver {
	case "json-file":
	case "local":
		lc.MaxSize, lc.MaxFile = localMaxSize, localMaxFile
	case "none":
		if len(options) > 0 && own.Type == "none" {
			return lc, invalid("logger: options are not supported with log driver none")
		}
		return lc, nil
	default:
		return lc, invalid("logger: no log driver named '%s' is registered", driver)
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if err := setLogOption(&lc, name, options[name]); err != nil {
			return lc, err
		}
	}
	if lc.MaxFile > 1 && lc.MaxSize <= 0 {
		return lc, invalid("max-file cannot be set to more than 1 when max-size is not set")
	}
	if c != nil {
		attrs, err := logAttributes(options, c)
		lc.Attrs = attrs
		return lc, err
	}
	return lc, nil
}

func setLogOption(lc *logs.Config, name, value string) error {
	bad := func(err error) error { return invalid("logger: invalid value for %s: %s: %v", name, value, err) }
	switch name {
	case "max-size":
		if value == "-1" {
			return nil
		}
		n, err := units.RAMInBytes(value)
		if err != nil {
			return bad(err)
		}
		lc.MaxSize = n
	case "max-file":
		n, err := strconv.Atoi(value)
		if err != nil {
			return bad(err)
		}
		if n < 1 {
			return invalid("max-file cannot be less than 1")
		}
		lc.MaxFile = n
	case "labels", "env", "labels-regex", "env-regex":
	case "tag":
		if value != "" {
			return refused("logger: log opt 'tag' is not supported by this engine")
		}
	case "compress":
		// The option is about space only; files are kept as they are written.
		if _, err := strconv.ParseBool(value); err != nil {
			return bad(err)
		}
	case "mode":
		if value != "" && value != string(container.LogModeBlocking) {
			return refused("logger: log mode %q is not supported by this engine: only blocking is", value)
		}
	default:
		return invalid("unknown log opt '%s' for %s log driver", name, lc.Driver)
	}
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
