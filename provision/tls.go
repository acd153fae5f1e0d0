package provision

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/getberth/berth/engine/config"
)

func (r *run) tlsDone(context.Context) (bool, error) {
	return r.certDone() && bytes.Equal(r.facts.files[config.CAFile], r.spec.TLS.CA), nil
}

// certDone tells whether the present certificate can stay, and is of the present key.
func (r *run) certDone() bool {
	cert := r.facts.files[config.ServerCert]
	return len(cert) > 0 && r.facts.keyThere && !r.facts.keyNewer && r.spec.TLS.Check(cert) == nil
}

// issue writes the CA and, where the certificate cannot stay, has a new one signed. The engine reads both without a restart.
func (r *run) issue(ctx context.Context) error {
	files := []file{{config.CAFile, r.spec.TLS.CA, 0o644}}
	if !r.certDone() {
		csr, err := r.request(ctx)
		if err != nil {
			return fmt.Errorf("making a signing request: %w", err)
		}
		cert, err := r.spec.TLS.Sign(ctx, csr)
		if err != nil {
			return err
		}
		files = append(files, file{config.ServerCert, cert, 0o644})
	}
	if err := r.write(ctx, "", sameAge+"\nrm -f "+config.ServerCSR, files...); err != nil {
		return err
	}
	r.facts.keyThere, r.facts.keyNewer = true, false
	return nil
}

// sameAge keeps the key from looking newer than its certificate after the machine's clock was set back.
const sameAge = "[ ! " + config.ServerKey + " -nt " + config.ServerCert + " ] || touch -r " + config.ServerKey + " " + config.ServerCert

// request has the engine's program make a key, unless there is one, and a signing request for it. A light VM that has just been
// made has both already; a request beside an older certificate may be of another key.
func (r *run) request(ctx context.Context) ([]byte, error) {
	csr, cert := r.facts.files[config.ServerCSR], r.facts.files[config.ServerCert]
	if len(csr) > 0 && len(cert) == 0 && r.facts.keyThere {
		return csr, nil
	}
	args := []string{r.facts.Binary, "csr", "--key", config.ServerKey}
	for _, s := range r.spec.TLS.SANs {
		args = append(args, "--san", s)
	}
	for i, a := range args {
		args[i] = quote(a)
	}
	return r.script(ctx, makeDir(config.Dir)+makeDir(config.TLSDir)+"umask 077\n"+strings.Join(args, " "))
}
