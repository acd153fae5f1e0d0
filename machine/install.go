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
		Config: conf,
		TLS: provision.TLS{
			CA: in.CA, SANs: in.SANs,
			Sign: func(_ context.Context, csr []byte) ([]byte, error) { return in.Sign(csr) },
			Check: func(cert []byte) error {
				if in.Renew {
					return errRenew
				}
				return certs.CheckServer(cert, in.CA, in.SANs, in.Now())
			},
		},
	}
	_, err = provision.Apply(ctx, c, spec, observe(in.Step))
	return err
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
	if _, err := io.Copy(h, f); err != nil {
		return provision.Engine{}, fmt.Errorf("the engine %s: %w", path, err)
	}
	return provision.Engine{
		SHA256: hex.EncodeToString(h.Sum(nil)),
		Open:   func() (io.ReadCloser, error) { return os.Open(path) },
	}, nil
}
