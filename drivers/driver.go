// Package drivers is the contract between berth and what makes machines, and the registry of those that do.
//
// Vocabulary: a driver is one kind of machine (qemu, digitalocean). A machine is a Host to its driver: a name, a folder for the
// driver's files and a State that only the driver can read. Flags are what a user may set when creating one.
package drivers

import (
	"context"
	"encoding/json"
	"io"
)

// Driver makes and keeps machines of one kind. Methods may be called again after they were cut off at any point and then
// finish what is missing; each returns soon after its context is done. They are called under the machine's lock, State excepted.
type Driver interface {
	// Flags lists what can be set at creation. Names carry the driver's name as a prefix ("qemu-memory").
	Flags() []Flag
	// Check verifies, making nothing, that Create can succeed. An error here ends create with exit code 3.
	Check(ctx context.Context, h *Host, o Options) error
	// Create makes the machine and boots it. It calls h.Save with its state before each side effect that must not be lost.
	Create(ctx context.Context, h *Host, o Options) error
	Start(ctx context.Context, h *Host) error
	// Stop ends the machine in an orderly way, and by force when it has not ended in the driver's own time.
	Stop(ctx context.Context, h *Host) error
	// Remove deletes the machine and all that was made for it. A machine that is gone already is no error.
	Remove(ctx context.Context, h *Host) error
	// State asks what the machine is doing; a machine that is gone is NotFound, not an error.
	State(ctx context.Context, h *Host) (State, error)
	// Endpoint tells from the recorded state alone, without asking anybody, how to reach the machine.
	Endpoint(h *Host) (Endpoint, error)
}

// Killer is a driver that can cut the power.
type Killer interface {
	Kill(ctx context.Context, h *Host) error
}

// Restarter is a driver that can restart better than by Stop and Start.
type Restarter interface {
	Restart(ctx context.Context, h *Host) error
}

// Diagnoser is a driver that can say why a machine does not answer, e.g. with the tail of its console.
type Diagnoser interface {
	Diagnose(ctx context.Context, h *Host) (string, error)
}

// Warner is a driver that knows what of a running machine does not work although it runs, e.g. a published port that another
// program has, or why one is in the state Error: one line for each.
type Warner interface {
	Warnings(ctx context.Context, h *Host) ([]string, error)
}

// Adopter is a driver whose machines exist before it takes them and after it lets them go. Creating one shows a plan before
// anything is written, and removing one leaves the host as it is, unless the engine is to be uninstalled.
type Adopter interface {
	// Preview tells how Create would have the host reached. It makes and writes nothing; a KeyFile is absolute.
	Preview(ctx context.Context, h *Host, o Options) (Endpoint, error)
}

// Locator is a driver that can find out where a machine is now, for one whose address may change while berth does not look.
type Locator interface {
	// Locate asks where the machine is. It puts what is new into h.State, which the caller saves if the machine is locked.
	Locate(ctx context.Context, h *Host) (Endpoint, error)
}

// Settler is a driver some of whose options describe what has been made by a create that was cut off, and so cannot change any more.
// Create is called again with options that can.
type Settler interface {
	// Settled names the flags that cannot change, from the recorded state and this computer alone.
	Settled(h *Host) ([]string, error)
}

// AdvisedError is an error with what to do about it. In Advice, {berth} stands for berth, and {again} for the command line that
// the user gave.
type AdvisedError struct {
	Err    error
	Advice string // one or more lines
}

func (e *AdvisedError) Error() string { return e.Err.Error() }
func (e *AdvisedError) Unwrap() error { return e.Err }

// Host is one machine as its driver sees it.
type Host struct {
	Name  string
	Dir   string          // absolute folder for the driver's files, 0700; it exists (for Check: the nearest one above that does). Paths inside State must be relative to it.
	State json.RawMessage // the driver's own record; nil before Create
	// Save makes State durable. A driver calls it before a side effect.
	Save func(state json.RawMessage) error
	// Log receives one line for the user about a slow or surprising thing ("KVM cannot boot here: using TCG").
	Log func(format string, args ...any)
	// Keys are made by berth before Create; a driver that can inject them does.
	Keys Keys
	// EngineConfig is the engine's configuration file (package engine/config) for drivers that can put files onto a new machine,
	// so that the engine starts with it rather than being restarted by provisioning. May be nil.
	EngineConfig []byte
	Out          io.Writer // debug output; never nil
	// StoreID is the mark of the store that the machine is in: 16 hexadecimal digits, made when they are first asked for, and the
	// same ever since, wherever the store is moved. Nil when there is no store.
	StoreID func() (string, error)
	// Secret finds the value of a flag that is Secret, now or long after it was given; see Flag. The error says where it was
	// looked for. Nil when there is nobody to ask.
	Secret func(ctx context.Context, flag string) (string, error)
}

// Keys are the machine's SSH identities in OpenSSH form. The host's private key is set only for drivers that inject it.
type Keys struct {
	HostPrivate    []byte // PEM
	HostPublic     string // authorized_keys form
	ClientPublic   string // authorized_keys form
	ClientKeyPath  string // absolute path of the client's private key
	PinnedHostKeys []string
}

// Endpoint is how a machine is reached.
type Endpoint struct {
	// HostKeyExposed tells that programs on the machine can read the private half of HostKey, as it was injected where they can
	// see it. It is replaced in the first session by one that the machine makes itself.
	HostKeyExposed bool

	Address    string // of the engine and of published ports, as users see it (`berth ip`)
	EnginePort int    // 2376 unless forwarded
	SSHHost    string
	SSHPort    int
	SSHUser    string
	HostKey    string   // authorized_keys form of the pinned host key
	SANs       []string // further addresses and names under which the engine answers

	HostKeys   []string // further pinned host keys
	KeyFile    string   // the private key to log in with: a path, relative ones below Host.Dir; "" means Keys.ClientKeyPath
	UserKeys   bool     // log in with the user's own keys instead, those of the agent and of ~/.ssh
	Jump       *Jump    // the host through which this one is reached; nil when there is none
	ListenPort int      // on which the engine listens on the machine; 0 means 2376
	// SSHOnly says that the engine listens on no port, but on its local socket only, to which the way is SSH.
	SSHOnly bool
}

// Jump is a host through which others are reached. Whoever may log in to the machine logs in there with the same keys.
type Jump struct {
	Host     string   `json:"host"`
	Port     int      `json:"port"`
	User     string   `json:"user"`
	HostKeys []string `json:"hostKeys"` // pinned, in authorized_keys form
}

// State is what a machine is doing, in docker-machine's words.
type State string

// The states of docker-machine's contract.
const (
	None     State = ""
	Running  State = "Running"
	Paused   State = "Paused"
	Saved    State = "Saved"
	Stopped  State = "Stopped"
	Stopping State = "Stopping"
	Starting State = "Starting"
	Error    State = "Error"
	Timeout  State = "Timeout"
	NotFound State = "Not Found"
)

// Flag is one option of a driver.
type Flag struct {
	Name   string // without dashes
	Usage  string
	EnvVar string // read when the flag is not given; may be empty
	// Default decides the type: string, int, bool or []string.
	Default any
	// Secret values are not recorded with the machine. When they are needed again they are in the system's keyring, in the item that
	// the flag NAME-keyring names (SERVICE/ACCOUNT), or the output of the command that NAME-command holds, if the driver has such
	// flags and one was given, or else are read from EnvVar again.
	Secret bool
	// Values are all that the flag takes, if that is a fixed set; Catalog is the list of a Cataloger whose first column has them.
	Values  []string
	Catalog string
	// Account flags say which account of a service is meant, and where: commands that are about no machine take them, too.
	Account bool
}

// Options are the values of a driver's flags by name, each of its flag's type.
type Options map[string]any

// String returns the named option, "" when absent.
func (o Options) String(name string) string { s, _ := o[name].(string); return s }

// Int returns the named option, 0 when absent.
func (o Options) Int(name string) int { n, _ := o[name].(int); return n }

// Bool returns the named option, false when absent.
func (o Options) Bool(name string) bool { b, _ := o[name].(bool); return b }

// Strings returns the named option, nil when absent.
func (o Options) Strings(name string) []string { s, _ := o[name].([]string); return s }
