package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/getberth/berth/certs"
	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/machine"
	"github.com/getberth/berth/sshutil"
)

// fakeDriver makes machines in the fakeCloud.
type fakeDriver struct{ cloud string }

var (
	_ drivers.Killer    = (*fakeDriver)(nil)
	_ drivers.Diagnoser = (*fakeDriver)(nil)
)

// fault acts on FAKE_AT="POINT:ACT": kill and int send this process a signal, fail returns an error.
func fault(ctx context.Context, point string) error {
	at, act, _ := strings.Cut(os.Getenv("FAKE_AT"), ":")
	if at != point {
		return nil
	}
	switch act {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "int":
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return errors.New("the cloud has a bad day")
}

type fakeState struct {
	ID         string   `json:"id"`
	Region     string   `json:"region"`
	Tags       []string `json:"tags"`
	Address    string   `json:"address"`
	SSHPort    int      `json:"sshPort"`
	EnginePort int      `json:"enginePort"`
}

func (d *fakeDriver) Flags() []drivers.Flag {
	return []drivers.Flag{
		{Name: "fake-region", Usage: "Where the machine is", EnvVar: "FAKE_REGION", Default: "here"},
		{Name: "fake-size", Usage: "How big it is", EnvVar: "FAKE_SIZE", Default: 1},
		{Name: "fake-backups", Usage: "Whether it is saved", EnvVar: "FAKE_BACKUPS", Default: false},
		{Name: "fake-tag", Usage: "A tag", EnvVar: "FAKE_TAGS", Default: []string(nil)},
		{Name: "fake-token", Usage: "Secret", EnvVar: "FAKE_TOKEN", Default: "", Secret: true},
	}
}

func (d *fakeDriver) Check(_ context.Context, _ *drivers.Host, o drivers.Options) error {
	if o.String("fake-region") == "nowhere" || o.Int("fake-size") < 1 {
		return fmt.Errorf("there is no region %s", o.String("fake-region"))
	}
	return nil
}

func (d *fakeDriver) Create(ctx context.Context, h *drivers.Host, o drivers.Options) error {
	if err := fault(ctx, "begin"); err != nil {
		return err
	}
	s := fakeState{ID: h.Name, Region: o.String("fake-region"), Tags: o.Strings("fake-tag")}
	if err := save(h, s); err != nil {
		return err
	}
	if err := fault(ctx, "saved"); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"HostKey": h.Keys.HostPrivate, "ClientKey": h.Keys.ClientPublic})
	if err != nil {
		return err
	}
	if _, err := d.call(ctx, http.MethodPut, h.Name, body); err != nil {
		return err
	}
	if err := fault(ctx, "posted"); err != nil {
		return err
	}
	return d.update(ctx, h, s)
}

// Rename implements drivers.Renamer: the cloud keeps the first name.
func (d *fakeDriver) Rename(ctx context.Context, h *drivers.Host, name string) error {
	if name == "nobody" {
		return errors.New("the cloud does not like the name")
	}
	return fault(ctx, "renaming")
}

// id is what the cloud calls a machine.
func id(h *drivers.Host) string {
	var s fakeState
	if err := json.Unmarshal(h.State, &s); err != nil || s.ID == "" {
		return h.Name
	}
	return s.ID
}

// Settled implements drivers.Settler: a machine stays where it is.
func (d *fakeDriver) Settled(h *drivers.Host) ([]string, error) {
	if h.State == nil {
		return nil, nil
	}
	return []string{"fake-region"}, nil
}

// update records where the machine is now.
func (d *fakeDriver) update(ctx context.Context, h *drivers.Host, s fakeState) error {
	vm, err := d.get(ctx, id(h))
	if err != nil {
		return err
	}
	s.Address, s.SSHPort, s.EnginePort = vm.Address, vm.SSHPort, vm.EnginePort
	return save(h, s)
}

func save(h *drivers.Host, s fakeState) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return h.Save(raw)
}

func (d *fakeDriver) act(ctx context.Context, h *drivers.Host, act string) error {
	_, err := d.call(ctx, http.MethodPost, id(h)+"?act="+act, nil)
	return err
}

func (d *fakeDriver) Start(ctx context.Context, h *drivers.Host) error {
	if err := d.act(ctx, h, "start"); err != nil {
		return err
	}
	var s fakeState
	if err := json.Unmarshal(h.State, &s); err != nil {
		return err
	}
	return d.update(ctx, h, s)
}

func (d *fakeDriver) Stop(ctx context.Context, h *drivers.Host) error { return d.act(ctx, h, "stop") }
func (d *fakeDriver) Kill(ctx context.Context, h *drivers.Host) error { return d.act(ctx, h, "kill") }

func (d *fakeDriver) Remove(ctx context.Context, h *drivers.Host) error {
	err := d.act(ctx, h, "remove")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (d *fakeDriver) State(ctx context.Context, h *drivers.Host) (drivers.State, error) {
	vm, err := d.get(ctx, id(h))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return drivers.NotFound, nil
	case err != nil:
		return drivers.None, err
	case vm.Running:
		return drivers.Running, nil
	}
	return drivers.Stopped, nil
}

func (d *fakeDriver) Endpoint(h *drivers.Host) (drivers.Endpoint, error) {
	var s fakeState
	if err := json.Unmarshal(h.State, &s); err != nil {
		return drivers.Endpoint{}, err
	}
	return drivers.Endpoint{Address: s.Address, EnginePort: s.EnginePort, SSHHost: s.Address, SSHPort: s.SSHPort, SSHUser: "root"}, nil
}

// Locate implements drivers.Locator.
func (d *fakeDriver) Locate(ctx context.Context, h *drivers.Host) (drivers.Endpoint, error) {
	var s fakeState
	if err := json.Unmarshal(h.State, &s); err != nil {
		return drivers.Endpoint{}, err
	}
	vm, err := d.get(ctx, id(h))
	if err != nil {
		return drivers.Endpoint{}, err
	}
	s.Address, s.SSHPort, s.EnginePort = vm.Address, vm.SSHPort, vm.EnginePort
	if h.State, err = json.Marshal(s); err != nil {
		return drivers.Endpoint{}, err
	}
	return d.Endpoint(h)
}

func (d *fakeDriver) Diagnose(context.Context, *drivers.Host) (string, error) {
	return "console: all is well", nil
}

func (d *fakeDriver) get(ctx context.Context, id string) (fakeVM, error) {
	var vm fakeVM
	body, err := d.call(ctx, http.MethodGet, id, nil)
	if err == nil {
		err = json.Unmarshal(body, &vm)
	}
	return vm, err
}

func (d *fakeDriver) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.cloud+"/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusNotFound:
		return nil, os.ErrNotExist
	case res.StatusCode != http.StatusOK:
		return nil, errors.New(strings.TrimSpace(string(answer)))
	}
	return answer, nil
}

// fakeInstall does over SSH what provisioning does about certificates, in the machine's home.
func fakeInstall(ctx context.Context, c *sshutil.Client, in machine.Install) error {
	if in.Plan != nil {
		in.Plan([]string{"issuing certificates: server.pem"})
		return nil
	}
	if err := fault(ctx, "connected"); err != nil {
		return err
	}
	if slices.Contains(in.Config.Labels, "broken=yes") {
		return errors.New("the engine chokes on its options")
	}
	if err := c.Run(ctx, "cat > engine.env", bytes.NewReader(in.Env), nil, nil); err != nil {
		return err
	}
	conf, err := in.Config.Marshal()
	if err != nil {
		return err
	}
	if err := c.Run(ctx, "cat > daemon.json", bytes.NewReader(conf), nil, nil); err != nil {
		return err
	}
	end := in.Step("Issuing certificates")
	err = issue(ctx, c, in)
	end(err)
	if err != nil {
		return err
	}
	return fault(ctx, "installed")
}

func issue(ctx context.Context, c *sshutil.Client, in machine.Install) error {
	old, err := c.Output(ctx, "cat server.pem 2>/dev/null || true")
	if err != nil {
		return err
	}
	if !in.Renew && certs.CheckServer(old, in.CA, in.SANs, in.Now()) == nil {
		return nil
	}
	csr, err := c.Output(ctx, "cat server.csr")
	if err != nil {
		return err
	}
	cert, err := in.Sign(csr)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"ca.pem": in.CA, "server.pem": cert} {
		if err := c.Run(ctx, "cat > "+name, bytes.NewReader(data), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// fakeUninstall removes what fakeInstall wrote.
func fakeUninstall(ctx context.Context, c *sshutil.Client) error {
	return c.Run(ctx, "rm -f ca.pem server.pem daemon.json", nil, nil, nil)
}
