package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
)

func (a *app) inspectCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "inspect [NAME]",
		Short:             "Inspect information about a machine",
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			name, err := target(m, args)
			if err != nil {
				return err
			}
			rec, err := m.Record(name)
			if err != nil {
				return err
			}
			return a.inspect(newInspection(m, rec), format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format the output using the given go template; it has the functions json and prettyjson")
	return cmd
}

func (a *app) inspect(v inspection, format string) error {
	if format == "" {
		return writeJSON(a.out, v)
	}
	tmpl, err := template.New("format").Funcs(jsonFuncs()).Parse(format)
	if err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	// The template sees the JSON's keys, not our fields.
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		return err
	}
	if err := tmpl.Execute(a.out, keys); err != nil {
		return fmt.Errorf("the format: %w", err)
	}
	a.printf("\n")
	return nil
}

// inspection is a machine in the shape of docker-machine's config.json, which inventories and scripts read, and what berth
// knows beyond that.
type inspection struct {
	ConfigVersion int
	Driver        map[string]any
	DriverName    string
	HostOptions   hostOptions
	Name          string
	Phase         hostdb.Phase
	Error         string `json:",omitempty"`
	Created       time.Time
	URL           string
}

type hostOptions struct {
	Driver        string
	Memory        int
	Disk          int
	EngineOptions *engineInfo
	SwarmOptions  *swarmInfo
	AuthOptions   authInfo
}

// engineInfo has the names of docker-machine's engine options.
type engineInfo struct {
	ArbitraryFlags   []string
	DNS              []string `json:"Dns"`
	GraphDir         string
	Env              []string
	Ipv6             bool
	InsecureRegistry []string
	Labels           []string
	LogLevel         string
	StorageDriver    string
	SelinuxEnabled   bool
	TLSVerify        bool `json:"TlsVerify"`
	RegistryMirror   []string
	InstallURL       string
}

// swarmInfo has the names of docker-machine's swarm options.
type swarmInfo struct {
	IsSwarm            bool
	Address            string
	Discovery          string
	Agent              bool
	Master             bool
	Host               string
	Image              string
	Strategy           string
	Heartbeat          int
	Overcommit         float64
	ArbitraryFlags     []string
	ArbitraryJoinFlags []string
	Env                []string
	IsExperimental     bool
}

type authInfo struct {
	CertDir              string
	CaCertPath           string
	CaPrivateKeyPath     string
	CaCertRemotePath     string
	ServerCertPath       string
	ServerKeyPath        string
	ClientKeyPath        string
	ServerCertRemotePath string
	ServerKeyRemotePath  string
	ClientCertPath       string
	ServerCertSANs       []string
	StorePath            string
}

func newInspection(m *machine.Manager, rec *hostdb.Machine) inspection {
	v := inspection{
		ConfigVersion: 3, DriverName: rec.Driver, Name: rec.Name, Phase: rec.Phase, Error: rec.Error, Created: rec.Created,
		Driver: driverInfo(m, rec),
		HostOptions: hostOptions{
			EngineOptions: engineInfoOf(rec), SwarmOptions: swarmInfoOf(rec), AuthOptions: authInfoOf(m, rec),
		},
	}
	if env, err := m.EngineEnv(rec.Name); err == nil {
		v.HostOptions.EngineOptions.Env = list(env)
	}
	if e, err := m.Env(rec.Name); err == nil {
		v.URL = e.Host
	}
	return v
}

// driverInfo is the driver's own record, as far as it is an object, under the names that all of docker-machine's drivers share.
func driverInfo(m *machine.Manager, rec *hostdb.Machine) map[string]any {
	own := map[string]any{}
	_ = json.Unmarshal(rec.DriverState, &own) // what is no object cannot be shown
	info := map[string]any{
		"IPAddress": "", "MachineName": rec.Name, "SSHUser": "", "SSHPort": 0, "SSHKeyPath": m.SSHKeyPath(rec),
		"StorePath": m.Store.Dir(), "SwarmMaster": false, "SwarmHost": "", "SwarmDiscovery": "",
	}
	if ep := rec.Endpoint; ep != nil {
		info["IPAddress"], info["SSHUser"], info["SSHPort"] = ep.Address, ep.SSHUser, ep.SSHPort
		info["EnginePort"], info["SSHHost"] = ep.EnginePort, ep.SSHHost
	}
	maps.Copy(own, info)
	return own
}

func engineInfoOf(rec *hostdb.Machine) *engineInfo {
	c, _, err := config.Parse(rec.Engine)
	if err != nil {
		c = config.Config{}
	}
	return &engineInfo{
		ArbitraryFlags: []string{}, DNS: c.DNS, GraphDir: c.DataRoot, Env: []string{},
		InsecureRegistry: list(c.InsecureRegistries), Labels: list(c.Labels), LogLevel: c.LogLevel, StorageDriver: c.StorageDriver,
		TLSVerify: true, RegistryMirror: list(c.RegistryMirrors), InstallURL: machine.DefaultInstallURL,
	}
}

func swarmInfoOf(*hostdb.Machine) *swarmInfo {
	return &swarmInfo{Host: swarmHost, Image: swarmImage, Strategy: swarmStrategy, ArbitraryFlags: []string{}, ArbitraryJoinFlags: []string{}}
}

func authInfoOf(m *machine.Manager, rec *hostdb.Machine) authInfo {
	dir, store := m.Store.MachineDir(rec.Name), m.Store.CertsDir()
	return authInfo{
		CertDir: store, CaCertPath: filepath.Join(store, "ca.pem"), CaPrivateKeyPath: filepath.Join(store, "ca-key.pem"),
		CaCertRemotePath: config.CAFile, ServerCertRemotePath: config.ServerCert, ServerKeyRemotePath: config.ServerKey,
		ClientKeyPath: filepath.Join(dir, "key.pem"), ClientCertPath: filepath.Join(dir, "cert.pem"),
		ServerCertSANs: list(rec.SANs), StorePath: dir,
	}
}

// list is never null in JSON.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
