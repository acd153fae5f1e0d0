//go:build linux

package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/getberth/berth/engine/config"
)

// serveFlags are the flags of `serve`, which are dockerd's as far as they have a meaning here.
type serveFlags struct {
	file                                            string
	validate                                        bool
	flags                                           config.Config // what flags say
	iptables, ip6tables, userlandProxy, liveRestore bool
	icc, ipMasq                                     bool
	stopTimeout                                     int
	proxies                                         config.Proxies
	logOpts, features                               []string
	unsupported                                     map[string]*string // values of flags that dockerd has and this engine has not
	version                                         bool
}

func newServeFlags() *serveFlags { return &serveFlags{} }

// key is the directive in the file that a flag stands for, where the names differ.
func key(flag string) string {
	switch flag {
	case "host", "label", "registry-mirror", "dns-opt", "log-opt", "feature", "default-ulimit", "host-gateway-ip", "default-address-pool":
		return flag + "s" // as dockerd's
	case "insecure-registry":
		return "insecure-registries"
	case "http-proxy", "https-proxy", "no-proxy":
		return "proxies"
	case "tls-await", "ports-channel", "ports-relay":
		return "berth-" + flag
	}
	return flag
}

func (o *serveFlags) register(f *pflag.FlagSet) {
	f.SortFlags = false
	c := &o.flags
	f.StringVar(&o.file, "config-file", config.File, "configuration file")
	f.BoolVar(&o.validate, "validate", false, "check the configuration and exit")
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "address to listen on: unix:///path or tcp://address:port (may be repeated)")
	f.StringVarP(&c.Group, "group", "G", "", `group of the unix socket (default "docker", if there is one)`)
	f.StringVar(&c.DataRoot, "data-root", "", fmt.Sprintf("folder of all that is kept (default %q)", config.DataRoot))
	f.StringVar(&c.ExecRoot, "exec-root", "", fmt.Sprintf("folder of runtime state (default %q)", config.ExecRoot))
	f.StringVarP(&c.PIDFile, "pidfile", "p", "", `file for the engine's PID (default "EXEC-ROOT/berthd.pid")`)
	f.BoolVarP(&c.Debug, "debug", "D", false, "log more")
	f.StringVarP(&c.LogLevel, "log-level", "l", "info", "debug, info, warn, error or fatal")
	f.StringVar(&c.LogFormat, "log-format", "", "text (default) or json")
	f.BoolVar(&c.TLS, "tls", false, "TLS on TCP addresses; implied by --tlsverify")
	f.BoolVar(&c.TLSVerify, "tlsverify", false, "TLS on TCP addresses, for clients with a certificate of --tlscacert only")
	f.StringVar(&c.TLSCACert, "tlscacert", "", fmt.Sprintf("authority of clients' certificates (default %q)", config.CAFile))
	f.StringVar(&c.TLSCert, "tlscert", "", fmt.Sprintf("certificate (default %q)", config.ServerCert))
	f.StringVar(&c.TLSKey, "tlskey", "", fmt.Sprintf("private key (default %q)", config.ServerKey))
	f.BoolVar(&c.TLSAwait, "tls-await", false, "start before the certificates are there")
	f.StringArrayVar(&c.RegistryMirrors, "registry-mirror", nil, "mirror of docker.io (may be repeated)")
	f.StringArrayVar(&c.InsecureRegistries, "insecure-registry", nil, "registry to use without verified TLS, or a subnet of such (may be repeated)")
	f.StringArrayVar(&c.Labels, "label", nil, "key=value shown by docker info (may be repeated)")
	f.StringVarP(&c.StorageDriver, "storage-driver", "s", "", "overlayfs (default), also called overlay2, or native")
	f.IntVar(&c.MaxConcurrentDownloads, "max-concurrent-downloads", 0, "layers that are pulled at a time")
	f.IntVar(&c.MaxConcurrentUploads, "max-concurrent-uploads", 0, "layers that are pushed at a time")
	f.IntVar(&c.MaxDownloadAttempts, "max-download-attempts", 0, "attempts to pull a layer")
	f.StringVar(&o.proxies.HTTP, "http-proxy", "", "proxy to reach registries by, for http")
	f.StringVar(&o.proxies.HTTPS, "https-proxy", "", "the same for https")
	f.StringVar(&o.proxies.No, "no-proxy", "", "names and addresses that need no proxy, separated by commas")
	f.StringVar(&c.LogDriver, "log-driver", "", "of containers: json-file (default), local, none, syslog or journald")
	f.StringArrayVar(&o.logOpts, "log-opt", nil, "option of the log driver, key=value (may be repeated)")
	f.StringSliceVar(&c.DNS, "dns", nil, "name server of containers (may be repeated)")
	f.StringSliceVar(&c.DNSSearch, "dns-search", nil, "search domain of containers (may be repeated)")
	f.StringSliceVar(&c.DNSOptions, "dns-opt", nil, "resolver option of containers (may be repeated)")
	f.StringVarP(&c.Bridge, "bridge", "b", "", `bridge of the default network; "none" for no default network`)
	f.StringVar(&c.BIP, "bip", "", "address and subnet of the default bridge, e.g. 172.17.0.1/16")
	f.BoolVar(&o.iptables, "iptables", true, "set up NAT and isolation (by nftables)")
	f.BoolVar(&o.ip6tables, "ip6tables", true, "the same for IPv6")
	f.BoolVar(&o.userlandProxy, "userland-proxy", true, "publish ports on the loopback by a proxy")
	o.registerContainers(f)
	f.BoolVar(&c.Experimental, "experimental", false, "say that the engine is experimental")
	f.StringArrayVar(&o.features, "feature", nil, "name[=true|false] (may be repeated)")
	f.StringVar(&c.DefaultRuntime, "default-runtime", "", "runc")
	f.BoolVar(&o.liveRestore, "live-restore", true, "containers go on when the engine is stopped")
	f.IntVar(&c.ShutdownTimeout, "shutdown-timeout", 0, "seconds for requests under way to end (default 15)")
	f.StringVar(&c.PortsRelay, "ports-relay", "", "address of a light VM's host, for ports published on 127.0.0.1")
	f.StringVar(&c.PortsChannel, "ports-channel", "", "file to write the published ports to, e.g. a virtio port")
	f.BoolVarP(&o.version, "version", "v", false, "print the version and exit")
	o.registerUnsupported(f)
}

// registerContainers has the flags of what containers and networks get that ask for nothing.
func (o *serveFlags) registerContainers(f *pflag.FlagSet) {
	c := &o.flags
	f.BoolVar(&c.Init, "init", false, "give containers an init that passes signals on and reaps")
	f.Var(&c.DefaultShmSize, "default-shm-size", "size of containers' /dev/shm, e.g. 128m (default 64m)")
	f.Var(&c.DefaultUlimits, "default-ulimit", "limit of containers, NAME=SOFT[:HARD] (may be repeated)")
	f.StringVar(&c.DefaultIPCMode, "default-ipc-mode", "", "private (default) or shareable")
	f.StringVar(&c.DefaultCgroupnsMode, "default-cgroupns-mode", "", "private or host (default: private with cgroup v2)")
	f.IntVar(&o.stopTimeout, "default-stop-timeout", 0, "seconds that containers have to stop (default 10)")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", `cgroup of containers' cgroups (default "/berth")`)
	f.StringVar(&c.SeccompProfile, "seccomp-profile", "", `file with the profile of containers, "builtin" (default) or "unconfined"`)
	f.BoolVar(&c.NoNewPrivileges, "no-new-privileges", false, "containers' processes gain no privileges")
	f.StringSliceVar(&c.HostGatewayIPs, "host-gateway-ip", nil, "what host-gateway means in --add-host (may be repeated, one of each family)")
	f.StringVar(&c.FixedCIDR, "fixed-cidr", "", "part of the default bridge's subnet that containers get addresses of")
	f.IntVar(&c.MTU, "mtu", 0, "of networks that are created without one (default 1500)")
	f.BoolVar(&o.icc, "icc", true, "containers of the default bridge reach each other")
	f.BoolVar(&o.ipMasq, "ip-masq", true, "masquerade what containers of the default bridge send")
	f.StringVar(&c.IP, "ip", "", "address where ports are published that name none (default 0.0.0.0)")
	f.Var(&c.AddressPools, "default-address-pool", "base=SUBNET,size=LENGTH: where networks get subnets from (may be repeated)")
}

// registerUnsupported takes dockerd's other flags, which are refused by name unless they ask for nothing.
func (o *serveFlags) registerUnsupported(f *pflag.FlagSet) {
	o.unsupported = map[string]*string{}
	for _, u := range config.UnsupportedOptions() {
		if u.Flag == "" {
			continue
		}
		o.unsupported[u.Flag] = f.String(u.Flag, "", "not supported: "+u.Why)
		if u.Bool {
			f.Lookup(u.Flag).NoOptDefVal = "true"
		}
		_ = f.MarkHidden(u.Flag)
	}
}

func (o *serveFlags) checkUnsupported() error {
	for _, u := range config.UnsupportedOptions() {
		if u.Flag == "" || *o.unsupported[u.Flag] == "" {
			continue
		}
		if err := u.Check(*o.unsupported[u.Flag]); err != nil {
			return err
		}
	}
	return nil
}

// apply sets what flags say on top of the file's configuration, whose directives are keys.
func (o *serveFlags) apply(f *pflag.FlagSet, c *config.Config, keys []string) error {
	if err := errors.Join(o.checkUnsupported(), o.parse(f)); err != nil {
		return err
	}
	from, to := reflect.ValueOf(o.flags), reflect.ValueOf(c).Elem()
	index := fields()
	var found []string
	f.Visit(func(flag *pflag.Flag) {
		directive := key(flag.Name)
		i, ok := index[directive]
		if !ok {
			return
		}
		said, written := from.Field(i), to.Field(i)
		if slices.Contains(keys, directive) && !reflect.DeepEqual(said.Interface(), written.Interface()) {
			found = append(found, conflict(directive, said, written))
			return
		}
		written.Set(said)
	})
	return conflicts(found)
}

// conflict words a contradiction. What a proxy is reached by may hold a password.
func conflict(directive string, said, written reflect.Value) string {
	if directive == "proxies" {
		return directive
	}
	return fmt.Sprintf("%s: (from flag: %v, from file: %v)", directive, show(said), show(written))
}

// show is a value without pointers.
func show(v reflect.Value) any {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Elem().Interface()
	}
	return v.Interface()
}

// fields maps directives to the fields of config.Config.
func fields() map[string]int {
	index := map[string]int{}
	t := reflect.TypeFor[config.Config]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		index[name] = i
	}
	return index
}

// parse turns flags whose form is not the configuration's into it.
func (o *serveFlags) parse(f *pflag.FlagSet) error {
	for name, field := range map[string]struct {
		value *bool
		to    **bool
	}{
		"iptables": {&o.iptables, &o.flags.IPTables}, "ip6tables": {&o.ip6tables, &o.flags.IP6Tables},
		"userland-proxy": {&o.userlandProxy, &o.flags.UserlandProxy}, "live-restore": {&o.liveRestore, &o.flags.LiveRestore},
		"icc": {&o.icc, &o.flags.ICC}, "ip-masq": {&o.ipMasq, &o.flags.IPMasq},
	} {
		if f.Changed(name) {
			*field.to = field.value
		}
	}
	if f.Changed("default-stop-timeout") {
		o.flags.DefaultStopTimeout = &o.stopTimeout
	}
	if o.proxies != (config.Proxies{}) {
		o.flags.Proxies = &o.proxies
	}
	for _, text := range o.logOpts {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("log-opt %q must be key=value", text)
		}
		o.flags.LogOpts = put(o.flags.LogOpts, name, value)
	}
	for _, text := range o.features {
		name, value, ok := strings.Cut(text, "=")
		if ok && value != "true" && value != "false" {
			return fmt.Errorf("feature %q must be NAME, NAME=true or NAME=false", text)
		}
		o.flags.Features = put(o.flags.Features, name, value != "false")
	}
	return nil
}

func put[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}
