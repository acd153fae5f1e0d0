package machine

import (
	"context"
	"errors"

	"github.com/getberth/berth/sshutil"
)

// InstallEngine is the Installer that provisions real machines.
func InstallEngine(context.Context, *sshutil.Client, Install) error {
	return errors.New("this berth cannot install engines yet")
}
