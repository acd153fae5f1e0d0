package hostdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Version of the record that this berth writes; it refuses a newer one.
const Version = 1

// Phase tells how far a machine's life has come. It is recorded before the side effects of that phase.
type Phase string

// The phases. A machine that stays in another phase than Ready was interrupted, or failed: see Machine.Error.
const (
	Creating     Phase = "creating"     // the driver is making it
	Provisioning Phase = "provisioning" // it boots, or the engine is being installed
	Ready        Phase = "ready"        // the engine has answered
	Removing     Phase = "removing"     // the driver is deleting it
)

// Machine is the record of one machine.
type Machine struct {
	Version int       `json:"version"`
	Name    string    `json:"name"`
	Driver  string    `json:"driver"`
	Phase   Phase     `json:"phase"`
	Error   string    `json:"error,omitempty"` // why the phase did not end, for people
	Created time.Time `json:"created"`
	// DriverOptions are what the user asked of the driver, without secrets: a create that is resumed starts from them.
	DriverOptions json.RawMessage `json:"driverOptions,omitempty"`
	// DriverState is the driver's own record.
	DriverState json.RawMessage `json:"driverState,omitempty"`
	// Endpoint is where the machine was last known to answer; nil before it has booted.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// HostKeys are the pinned host keys, in authorized_keys form.
	HostKeys []string `json:"hostKeys,omitempty"`
	// SANs are the names for the engine's certificate that the user asked for.
	SANs []string `json:"sans,omitempty"`
	// Engine is the engine's configuration file, in the form of package engine/config.
	Engine json.RawMessage `json:"engine,omitempty"`
	// Context says that the docker client has a context for the machine, which is to follow its address and certificates.
	Context bool `json:"context,omitempty"`

	// RenamingTo is the name that the machine is about to get: a folder of that name with this record is the machine, too.
	RenamingTo string `json:"renamingTo,omitempty"`
	// RenamedFrom is the machine's old name, as long as its certificate or docker context may still bear it.
	RenamedFrom string `json:"renamedFrom,omitempty"`

	extra map[string]json.RawMessage // of a later berth; kept when the record is rewritten
}

// Endpoint is how a machine is reached.
type Endpoint struct {
	Address    string   `json:"address"`
	EnginePort int      `json:"enginePort"`
	SSHHost    string   `json:"sshHost"`
	SSHPort    int      `json:"sshPort"`
	SSHUser    string   `json:"sshUser"`
	HostKey    string   `json:"hostKey,omitempty"`
	SANs       []string `json:"sans,omitempty"`
	HostKeys   []string `json:"hostKeys,omitempty"`   // further pinned ones
	KeyFile    string   `json:"keyFile,omitempty"`    // private key to log in with, in the machine's folder
	UserKeys   bool     `json:"userKeys,omitempty"`   // log in with the user's own keys
	Jump       *Jump    `json:"jump,omitempty"`       // the host through which SSH goes
	ListenPort int      `json:"listenPort,omitempty"` // of the engine on the machine, when not 2376
	SSHOnly    bool     `json:"sshOnly,omitempty"`    // the engine listens on its local socket only

	extra map[string]json.RawMessage
}

// EngineURL is where clients reach the engine, e.g. tcp://192.0.2.1:2376. An IPv6 address is put in brackets.
func (e *Endpoint) EngineURL() string {
	host := e.Address
	if strings.ContainsAny(host, ":%") {
		host = "[" + host + "]"
	}
	return "tcp://" + host + ":" + strconv.Itoa(e.EnginePort)
}

// Jump is a host through which another is reached.
type Jump struct {
	Host     string   `json:"host"`
	Port     int      `json:"port"`
	User     string   `json:"user"`
	HostKeys []string `json:"hostKeys"`
}

// Decode reads a record. Whatever the bytes, it answers or errs; it does not panic.
func Decode(data []byte) (*Machine, error) {
	m := new(Machine)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	switch {
	case m.Version > Version:
		return nil, fmt.Errorf("the record has version %d, written by a newer berth than this one, which knows %d", m.Version, Version)
	case m.Version < 1:
		return nil, errors.New("the record has no version")
	}
	if err := CheckName(m.Name); err != nil {
		return nil, err
	}
	if m.Driver == "" {
		return nil, errors.New("the record names no driver")
	}
	return m, nil
}

// Encode is the inverse of Decode: indented, ending in a newline, with all fields that Decode did not know.
func (m *Machine) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the record of %q: %w", m.Name, err)
	}
	return append(data, '\n'), nil
}

// UnmarshalJSON keeps what it does not know.
func (m *Machine) UnmarshalJSON(data []byte) error {
	type plain Machine
	var p plain
	extra, err := decodeKeeping(data, &p)
	p.extra = extra
	*m = Machine(p)
	return err
}

// MarshalJSON writes the known fields in their order, then the unknown ones.
func (m Machine) MarshalJSON() ([]byte, error) {
	type plain Machine
	return encodeKept(plain(m), m.extra)
}

// UnmarshalJSON keeps what it does not know.
func (e *Endpoint) UnmarshalJSON(data []byte) error {
	type plain Endpoint
	var p plain
	extra, err := decodeKeeping(data, &p)
	p.extra = extra
	*e = Endpoint(p)
	return err
}

// MarshalJSON writes the known fields in their order, then the unknown ones.
func (e Endpoint) MarshalJSON() ([]byte, error) {
	type plain Endpoint
	return encodeKept(plain(e), e.extra)
}

// decodeKeeping fills v, a pointer to a struct, and returns the members of the object that v has no field for. Names match
// exactly: encoding/json would take "Name" for "name", and the rewritten record would then hold both.
func decodeKeeping(data []byte, v any) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	known := make(map[string]json.RawMessage)
	for _, key := range jsonKeys(reflect.TypeOf(v).Elem()) {
		if raw, ok := all[key]; ok {
			known[key] = raw
			delete(all, key)
		}
	}
	data, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

func jsonKeys(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if tag, ok := t.Field(i).Tag.Lookup("json"); ok {
			key, _, _ := strings.Cut(tag, ",")
			keys = append(keys, key)
		}
	}
	return keys
}

func encodeKept(v any, extra map[string]json.RawMessage) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || len(extra) == 0 {
		return data, err
	}
	tail, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimSuffix(data, []byte("}"))
	return append(append(data, ','), tail[1:]...), nil
}
