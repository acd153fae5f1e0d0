package machine

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/getberth/berth/engine/config"
)

// EngineOptions are create's --engine-* flags.
type EngineOptions struct {
	Opts               []string // "flag=value" of dockerd
	InsecureRegistries []string
	RegistryMirrors    []string
	Labels             []string
	StorageDriver      string
	Env                []string // "K=V"
	InstallURL         string
}

// DefaultInstallURL is what docker-machine's users get without asking. berth downloads nothing on the machine; a script that
// names the default loses nothing.
const DefaultInstallURL = "https://get.docker.com"

// config is the engine's configuration file for a machine of the named driver.
func (o EngineOptions) config(driver string) (json.RawMessage, error) {
	if o.InstallURL != "" && o.InstallURL != DefaultInstallURL {
		return nil, fmt.Errorf("--engine-install-url %s: berth installs the engine that it brings along, and runs no script from elsewhere", o.InstallURL)
	}
	if err := checkEngineEnv(o.Env); err != nil {
		return nil, err
	}
	c := config.Default()
	for _, opt := range o.Opts {
		if err := setEngineOption(&c, opt); err != nil {
			return nil, fmt.Errorf("--engine-opt %s: %w", opt, err)
		}
	}
	c.InsecureRegistries = append(c.InsecureRegistries, o.InsecureRegistries...)
	c.RegistryMirrors = append(c.RegistryMirrors, o.RegistryMirrors...)
	c.Labels = append(append(c.Labels, o.Labels...), "provider="+driver)
	if o.StorageDriver != "" {
		c.StorageDriver = o.StorageDriver
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("the engine's options: %w", err)
	}
	return c.Marshal()
}

// setEngineOption sets what dockerd's flag of that name sets.
func setEngineOption(c *config.Config, opt string) error {
	name, value, given := strings.Cut(strings.TrimLeft(opt, "-"), "=")
	field, err := engineField(c, name)
	if err != nil {
		return err
	}
	if v, ok := field.Addr().Interface().(interface{ Set(string) error }); ok && given {
		return v.Set(value)
	}
	switch field.Kind() {
	case reflect.Pointer:
		if field.Type().Elem().Kind() == reflect.Int {
			return setNumber(field, value)
		}
		field.Set(reflect.New(field.Type().Elem()))
		return setBool(field.Elem(), value, given)
	case reflect.Bool:
		return setBool(field, value, given)
	}
	if !given {
		return fmt.Errorf("it needs a value: %s=VALUE", name)
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(value)
	case reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%q is not a number", value)
		}
		field.SetInt(int64(n))
	case reflect.Slice:
		field.Set(reflect.Append(field, reflect.ValueOf(value)))
	case reflect.Map:
		return setEntry(field, value)
	}
	return nil
}

// setNumber sets a number for which 0 is not "not given".
func setNumber(field reflect.Value, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("%q is not a number", value)
	}
	field.Set(reflect.ValueOf(&n))
	return nil
}

func setBool(field reflect.Value, value string, given bool) error {
	on := true
	if given {
		var err error
		if on, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
	}
	field.SetBool(on)
	return nil
}

// setEntry adds to a map of strings or bools: "max-size=10m".
func setEntry(field reflect.Value, entry string) error {
	key, value, ok := strings.Cut(entry, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form KEY=VALUE", entry)
	}
	if field.IsNil() {
		field.Set(reflect.MakeMap(field.Type()))
	}
	elem := reflect.New(field.Type().Elem()).Elem()
	if elem.Kind() == reflect.Bool {
		if err := setBool(elem, value, true); err != nil {
			return err
		}
	} else {
		elem.SetString(value)
	}
	field.SetMapIndex(reflect.ValueOf(key), elem)
	return nil
}

// engineField finds the field for a flag of dockerd.
func engineField(c *config.Config, flag string) (reflect.Value, error) {
	key := configKey(flag)
	if isProvisioned(key) {
		return reflect.Value{}, fmt.Errorf("%s is set by berth, which would not reach the engine otherwise", flag)
	}
	if slices.Contains([]string{"proxies", "http-proxy", "https-proxy", "no-proxy"}, key) { // the record keeps options, and no passwords
		return reflect.Value{}, fmt.Errorf("%s is for --engine-env to give, as HTTP_PROXY=URL: a proxy's URL may hold a password", flag)
	}
	known := engineFields(c)
	if field, ok := known[key]; ok {
		return field, nil
	}
	names := slices.Sorted(maps.Keys(known))
	return reflect.Value{}, fmt.Errorf("the engine has no option %q; it knows %s", flag, strings.Join(names, ", "))
}

// engineFields are the fields that can be set, by their keys.
func engineFields(c *config.Config) map[string]reflect.Value {
	v := reflect.ValueOf(c).Elem()
	known := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name != "" && name != "host-gateway-ip" && name != "proxies" && !isProvisioned(name) && !strings.HasPrefix(name, "berth-") {
			known[name] = v.Field(i)
		}
	}
	return known
}

// EngineOptionValues are the names of all --engine-opt, each with the values that it takes if they are a fixed set.
func EngineOptionValues() map[string][]string {
	values := map[string][]string{}
	for name, field := range engineFields(new(config.Config)) {
		values[name] = nil
		if t := field.Type(); t.Kind() == reflect.Bool || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Bool {
			values[name] = []string{"true", "false"}
		}
	}
	values["log-driver"] = config.LogDrivers()
	values["log-format"] = []string{"text", "json"}
	values["default-ipc-mode"] = []string{"private", "shareable"}
	values["default-cgroupns-mode"] = []string{"private", "host"}
	values["log-level"] = []string{"debug", "info", "warn", "error", "fatal"}
	values["storage-driver"] = []string{"overlayfs", "overlay2", "native"}
	values["default-runtime"] = []string{"runc"}
	return values
}

// configKey is the key of daemon.json for a flag: a flag that may be repeated is in the singular, its key in the plural.
func configKey(flag string) string {
	switch flag {
	case "label", "host", "registry-mirror", "log-opt", "dns-opt", "feature", "default-ulimit", "host-gateway-ip", "default-address-pool":
		return flag + "s"
	case "insecure-registry":
		return "insecure-registries"
	case "graph", "g":
		return "data-root"
	case "H":
		return "hosts"
	case "D":
		return "debug"
	case "l":
		return "log-level"
	case "s":
		return "storage-driver"
	case "b":
		return "bridge"
	case "G":
		return "group"
	}
	return flag
}

// isProvisioned names the keys on which berth's way to the engine depends.
func isProvisioned(key string) bool {
	switch key {
	case "hosts", "exec-root", "pidfile", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey":
		return true
	}
	return false
}

// canonical is a recorded configuration in the bytes that the engine's side writes for it: the record indents it otherwise.
func canonical(raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return nil
	}
	c, _, err := config.Parse(raw)
	if err != nil {
		return raw // whoever uses it says what is wrong
	}
	data, err := c.Marshal()
	if err != nil {
		return raw
	}
	return data
}
