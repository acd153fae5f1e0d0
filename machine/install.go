package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/getberth/berth/certs"
	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/provision"
	"github.com/getberth/berth/sshutil"
)

// InstallEngine is the Installer that provisions real machines.
func InstallEngine(ctx context.Context, c *sshutil.Client, in Install) error {
	conf, err := in.Config.Marshal()
	if err != nil {
		return err
	}
	spec := provision.Spec{
		Engine: func(arch string) (provision.Engine, error) { return openEngine(in.Binary, arch) },
		Config: conf, Env: in.Env,
		TLS: provision.TLS{
			CA: in.CA, SANs: in.SANs,
			Sign: func(_ context.Context, csr []byte) ([]byte, error) { return in.Sign(csr) },
			Check: func(cert []byte) error {
				if in.Renew || len(in.CA) == 0 {
					return errRenew
				}
				return certs.CheckServer(cert, in.CA, in.SANs, in.Now())
			},
		},
	}
	if in.Plan != nil {
		todo, facts, err := provision.Plan(ctx, c, spec)
		if err == nil {
			in.Plan(planLines(todo, facts, in.Config.TCPPort()))
		}
		return in.advised(err)
	}
	res, err := provision.Apply(ctx, c, spec, observe(in.Step))
	if in.Opening != nil {
		in.Opening(res.Facts.Opening(in.Config.TCPPort()))
	}
	if err != nil && in.RollBack && res.Replaced && ctx.Err() == nil {
		return in.rollBack(ctx, c, err)
	}
	return in.advised(err)
}

// rollBack puts the engine back that a new one has replaced.
func (in Install) rollBack(ctx context.Context, c *sshutil.Client, why error) error {
	end := in.Step("Putting the previous engine back")
	err := provision.Rollback(ctx, c)
	end(err)
	if err != nil {
		return errors.Join(why, err)
	}
	return &RolledBackError{Err: why}
}

// advised makes provisioning's advice a driver's, which is what a Manager knows to pass on.
func (in Install) advised(err error) error {
	var unfit *provision.UnfitError
	if errors.As(err, &unfit) && unfit.Advice() != "" {
		return &drivers.AdvisedError{Err: err, Advice: unfit.Advice()}
	}
	return err
}

// planLines is a plan for people.
func planLines(todo []provision.Planned, f provision.Facts, port uint16) []string {
	root := "as root"
	if f.Via != "" {
		root = "as root by " + f.Via
	}
	about := []string{f.Name + " on " + f.Arch, "kernel " + f.Kernel, string(f.Init)}
	if f.CGroup != "" {
		about = append(about, "control groups v"+f.CGroup)
	}
	lines := []string{fmt.Sprintf("the host runs %s; berth works there %s", strings.Join(about, ", "), root)}
	for _, p := range todo {
		lines = append(lines, p.Step+": "+strings.Join(p.Changes, "; "))
	}
	if len(todo) == 0 {
		lines = append(lines, "everything is in place already")
	}
	if cmd := f.Opening(port); cmd != "" {
		lines = append(lines, fmt.Sprintf("WARNING: a firewall on the host keeps others from port %d; to open it, run there: %s", port, cmd))
	}
	return append(lines, "Nothing else on the host changes.")
}

// uninstaller is what takes the engine away.
func (m *Manager) uninstaller() func(context.Context, *sshutil.Client) error {
	if m.Uninstall != nil {
		return m.Uninstall
	}
	return func(ctx context.Context, c *sshutil.Client) error { return provision.Uninstall(ctx, c) }
}

// errRenew is why a good certificate is replaced.
var errRenew = errors.New("a new certificate was asked for")

// observe passes steps on to a reporter. A step that found nothing to do is told like any other: its time counts.
func observe(step func(string) func(error)) func(provision.Event) {
	end := func(error) {}
	return func(e provision.Event) {
		switch e.State {
		case provision.Started:
			end = step(capital(e.Step))
		case provision.Unchanged, provision.Changed, provision.Failed:
			end(e.Err)
		}
	}
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// openEngine describes the engine's binary for an architecture.
func openEngine(find func(string) (string, error), arch string) (provision.Engine, error) {
	path, err := find(arch)
	if err != nil {
		return provision.Engine{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return provision.Engine{}, fmt.Errorf("the engine: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return provision.Engine{}, fmt.Errorf("the engine %s: %w", path, err)
	}
	return provision.Engine{
		Size:   size,
		SHA256: hex.EncodeToString(h.Sum(nil)),
		Open:   func() (io.ReadCloser, error) { return os.Open(path) },
	}, nil
}
