// Package config is the engine's configuration: the file that provisioning writes and the daemon reads, in the form of
// Docker's daemon.json with a few keys of berth's own. It is the one place where the machine half and the engine half meet.
package config

// Paths on every machine that berth provisions.
const (
	Dir        = "/etc/berth"               // 0755
	File       = Dir + "/daemon.json"       // 0644; the engine's configuration
	EnvFile    = Dir + "/engine.env"        // 0600; the engine's environment, lines NAME=VALUE taken as they are
	TLSDir     = Dir + "/tls"               // 0700
	CAFile     = TLSDir + "/ca.pem"         // client certificates must be signed by it
	ServerCert = TLSDir + "/server.pem"     // replaced without a restart of the engine
	ServerKey  = TLSDir + "/server-key.pem" // 0600; made on the machine, never leaves it
	ServerCSR  = TLSDir + "/server.csr"     // of ServerKey; the light VM's init puts it there while there is no ServerCert
	DataRoot   = "/var/lib/berth"           // images, containers, volumes
	ExecRoot   = "/run/berth"               // sockets and runtime state; gone after a reboot
	Socket     = "/run/berth/docker.sock"   // the engine's local socket
	Binary     = "/usr/local/bin/berthd"    // where the engine is pushed; in the light VM it is part of the image
	EnginePort = 2376                       // TLS

	GuestBinary = "/usr/bin/berthd" // the engine that comes with a light VM's image
	// StampSuffix is of the file beside an engine that holds its SHA-256 in hex and a newline, and spares reading the engine.
	// Provisioning writes it with the engine's size, time and inode; on the image's read-only disk the sum alone will do.
	StampSuffix = ".sha256"
)

// Config mirrors daemon.json; the tags are Docker's names for the keys.
type Config struct {
	Hosts           []string `json:"hosts,omitempty"`
	DataRoot        string   `json:"data-root,omitempty"`
	ExecRoot        string   `json:"exec-root,omitempty"`
	PIDFile         string   `json:"pidfile,omitempty"`
	Group           string   `json:"group,omitempty"` // owns the unix socket; "docker" by default, if there is one
	TLS             bool     `json:"tls,omitempty"`
	TLSVerify       bool     `json:"tlsverify,omitempty"`
	TLSCACert       string   `json:"tlscacert,omitempty"`
	TLSCert         string   `json:"tlscert,omitempty"`
	TLSKey          string   `json:"tlskey,omitempty"`
	LiveRestore     *bool    `json:"live-restore,omitempty"`     // false: containers are stopped when the engine is; they outlive its death in any case
	ShutdownTimeout int      `json:"shutdown-timeout,omitempty"` // seconds that requests under way have to end

	Debug        bool            `json:"debug,omitempty"`
	LogLevel     string          `json:"log-level,omitempty"`
	LogFormat    string          `json:"log-format,omitempty"` // of the engine's own messages: "text" or "json"
	Labels       []string        `json:"labels,omitempty"`
	Experimental bool            `json:"experimental,omitempty"` // shown by info, nothing else
	Features     map[string]bool `json:"features,omitempty"`     // only containerd-snapshotter (true) and buildkit

	StorageDriver          string   `json:"storage-driver,omitempty"`
	RegistryMirrors        []string `json:"registry-mirrors,omitempty"`
	InsecureRegistries     []string `json:"insecure-registries,omitempty"`
	MaxConcurrentDownloads int      `json:"max-concurrent-downloads,omitempty"` // of all pulls; 0 means the engine's choice, as below
	MaxConcurrentUploads   int      `json:"max-concurrent-uploads,omitempty"`   // of all pushes
	MaxDownloadAttempts    int      `json:"max-download-attempts,omitempty"`    // of each layer
	Proxies                *Proxies `json:"proxies,omitempty"`

	LogDriver           string            `json:"log-driver,omitempty"`
	LogOpts             map[string]string `json:"log-opts,omitempty"`
	DefaultRuntime      string            `json:"default-runtime,omitempty"` // only "runc"
	Init                bool              `json:"init,omitempty"`
	DefaultShmSize      Bytes             `json:"default-shm-size,omitempty"`
	DefaultUlimits      Ulimits           `json:"default-ulimits,omitempty"`
	DefaultIPCMode      string            `json:"default-ipc-mode,omitempty"`      // "private" or "shareable"
	DefaultCgroupnsMode string            `json:"default-cgroupns-mode,omitempty"` // "private" or "host"
	DefaultStopTimeout  *int              `json:"default-stop-timeout,omitempty"`  // seconds
	CgroupParent        string            `json:"cgroup-parent,omitempty"`
	SeccompProfile      string            `json:"seccomp-profile,omitempty"` // "builtin", "unconfined" or a file's path
	NoNewPrivileges     bool              `json:"no-new-privileges,omitempty"`

	DNS            []string `json:"dns,omitempty"`
	DNSSearch      []string `json:"dns-search,omitempty"`
	DNSOptions     []string `json:"dns-opts,omitempty"`
	HostGatewayIP  string   `json:"host-gateway-ip,omitempty"`  // of old files; HostGatewayIPs with one
	HostGatewayIPs []string `json:"host-gateway-ips,omitempty"` // what host-gateway means in --add-host; one of each family
	Bridge         string   `json:"bridge,omitempty"`
	BIP            string   `json:"bip,omitempty"`
	FixedCIDR      string   `json:"fixed-cidr,omitempty"` // part of the default bridge's subnet that containers get
	MTU            int      `json:"mtu,omitempty"`        // of networks that are created without one
	ICC            *bool    `json:"icc,omitempty"`        // containers of the default bridge reach each other
	IPMasq         *bool    `json:"ip-masq,omitempty"`
	IP             string   `json:"ip,omitempty"` // where ports are published that name no address
	AddressPools   Pools    `json:"default-address-pools,omitempty"`
	IPTables       *bool    `json:"iptables,omitempty"`
	IP6Tables      *bool    `json:"ip6tables,omitempty"`
	UserlandProxy  *bool    `json:"userland-proxy,omitempty"`

	// TLSAwait lets the engine start before its certificates are there: TLS handshakes fail until provisioning has put them.
	TLSAwait bool `json:"berth-tls-await,omitempty"`
	// PortsChannel is a file, e.g. a virtio port, to which the engine writes the set of published ports, one JSON object a line
	// (see PortSet), each time it changes: the host of a light VM forwards them.
	PortsChannel string `json:"berth-ports-channel,omitempty"`
	// PortsRelay is the IPv4 address from which the host of a light VM relays connections to its loopback: what containers
	// publish on 127.0.0.1 answers to it.
	PortsRelay string `json:"berth-ports-relay,omitempty"`
}

// PortSet is all that containers publish at one moment.
type PortSet struct {
	Ports []Port `json:"ports"`
}

// Port is one published port of the machine.
type Port struct {
	Proto string `json:"proto"` // "tcp" or "udp"
	IP    string `json:"ip"`    // address it is bound to in the machine; "0.0.0.0" and "::" mean all
	Port  uint16 `json:"port"`
}
