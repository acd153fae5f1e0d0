package config

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Unsupported is an option of dockerd's that this engine does not have. It is refused by its name, unless it asks for nothing.
type Unsupported struct {
	Key     string // in the file; empty for a flag without
	Flag    string // empty for a key without
	Bool    bool   // the flag needs no value
	Neutral string // a value that asks for what is so; besides false, 0 and empty ones
	Any     bool   // every value does
	Why     string
}

// UnsupportedOptions lists them.
func UnsupportedOptions() []Unsupported {
	const noPlugins, noIPv6, noSwarm = "there are no plugins", "networks are of IPv4", "there is no swarm mode"
	const inside = "containerd is a part of berthd"
	return []Unsupported{
		{Key: "allow-direct-routing", Flag: "allow-direct-routing", Bool: true, Why: "containers are reached by their published ports"},
		{Key: "allow-nondistributable-artifacts", Any: true},
		{Key: "apparmor-profile", Flag: "apparmor-profile", Why: "containers have the profile that --security-opt names"},
		{Key: "authorization-plugins", Flag: "authorization-plugin", Why: noPlugins},
		{Key: "bip6", Flag: "bip6", Why: noIPv6},
		{Key: "bridge-accept-fwmark", Flag: "bridge-accept-fwmark", Why: "the firewall knows no marks"},
		{Key: "builder", Why: "there is no build cache to configure"},
		{Key: "cdi-spec-dirs", Flag: "cdi-spec-dir", Why: "there is no container device interface"},
		{Key: "containerd", Flag: "containerd", Any: true, Why: inside},
		{Key: "containerd-namespace", Flag: "containerd-namespace", Any: true, Why: inside},
		{Key: "containerd-plugin-namespace", Flag: "containerd-plugins-namespace", Any: true, Why: inside},
		{Key: "cpu-rt-period", Flag: "cpu-rt-period", Why: "the parent cgroup is not limited"},
		{Key: "cpu-rt-runtime", Flag: "cpu-rt-runtime", Why: "the parent cgroup is not limited"},
		{Key: "cri-containerd", Flag: "cri-containerd", Bool: true, Why: inside},
		{Key: "default-gateway", Flag: "default-gateway", Why: "the gateway is the bridge"},
		{Key: "default-gateway-v6", Flag: "default-gateway-v6", Why: noIPv6},
		{Key: "default-network-opts", Flag: "default-network-opt", Why: "networks have the options that they are created with"},
		{Key: "deprecated-key-path", Any: true},
		{Key: "exec-opts", Flag: "exec-opt", Neutral: "native.cgroupdriver=cgroupfs", Why: "cgroups are made by the engine itself"},
		{Key: "extension-config", Why: noPlugins},
		{Key: "extension-dirs", Flag: "extension-dir", Why: noPlugins},
		{Key: "firewall-backend", Flag: "firewall-backend", Neutral: "nftables", Why: "the firewall is nftables'"},
		{Key: "fixed-cidr-v6", Flag: "fixed-cidr-v6", Why: noIPv6},
		{Key: "init-path", Flag: "init-path", Why: "the init is a part of berthd"},
		{Key: "ip-forward", Flag: "ip-forward", Bool: true, Neutral: "true", Why: "networks need it"},
		{Key: "ip-forward-no-drop", Flag: "ip-forward-no-drop", Bool: true, Any: true, Why: "the host's policy is never changed"},
		{Key: "ipv6", Flag: "ipv6", Bool: true, Why: noIPv6},
		{Key: "metrics-addr", Flag: "metrics-addr", Why: "there is no server of metrics"},
		{Key: "min-api-version", Neutral: "1.24", Why: "all versions since 1.24 are served"},
		{Key: "network-control-plane-mtu", Flag: "network-control-plane-mtu", Any: true, Why: noSwarm},
		{Key: "network-diagnostic-port", Flag: "network-diagnostic-port", Why: "there is no diagnostic server"},
		{Key: "node-generic-resources", Flag: "node-generic-resource", Why: noSwarm},
		{Key: "nri-opts", Flag: "nri-opts", Why: noPlugins},
		{Key: "raw-logs", Flag: "raw-logs", Bool: true, Any: true, Why: "messages are never colored"},
		{Key: "rootless", Flag: "rootless", Bool: true, Why: "the engine runs as root"},
		{Key: "runtimes", Flag: "add-runtime", Why: "the one runtime, runc, is a part of berthd"},
		{Key: "selinux-enabled", Flag: "selinux-enabled", Bool: true, Why: "containers get no labels"},
		{Key: "storage-opts", Flag: "storage-opt", Why: "the storage drivers have no options"},
		{Key: "swarm-default-advertise-addr", Flag: "swarm-default-advertise-addr", Why: noSwarm},
		{Key: "swarm-raft-election-tick", Why: noSwarm},
		{Key: "swarm-raft-heartbeat-tick", Why: noSwarm},
		{Key: "userland-proxy-path", Flag: "userland-proxy-path", Why: "the proxy is a part of berthd"},
		{Key: "userns-remap", Flag: "userns-remap", Why: "containers have the host's user ids"},
	}
}

// Check refuses a value that a flag gives.
func (u Unsupported) Check(value string) error {
	if u.Any || value == u.Neutral || slices.Contains([]string{"", "false", "0"}, value) && !(value == "false" && u.Neutral == "true") {
		return nil
	}
	return fmt.Errorf("%s %q is not supported: %s", u.Name(), value, u.Why)
}

// Name is the option's name in the file, or else its flag's.
func (u Unsupported) Name() string {
	if u.Key != "" {
		return u.Key
	}
	return u.Flag
}

// checkJSON refuses a value that the file gives.
func (u Unsupported) checkJSON(raw json.RawMessage) error {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return err
	}
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		for _, item := range v {
			if err := u.Check(fmt.Sprint(item)); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if len(v) == 0 || u.Any {
			return nil
		}
	}
	return u.Check(fmt.Sprint(value))
}
