package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// Names of the SSH identities in a machine's folder.
const (
	clientKeyFile = "id_ed25519"
	hostKeyFile   = "ssh_host_ed25519_key"
)

// ensureKeys reads the machine's SSH identities, and makes those that are missing.
func ensureKeys(dir, name string) (drivers.Keys, error) {
	_, client, err := ensureKey(filepath.Join(dir, clientKeyFile), "berth "+name)
	if err != nil {
		return drivers.Keys{}, err
	}
	private, host, err := ensureKey(filepath.Join(dir, hostKeyFile), name)
	if err != nil {
		return drivers.Keys{}, err
	}
	return drivers.Keys{
		HostPrivate: private, HostPublic: host, ClientPublic: client,
		ClientKeyPath: filepath.Join(dir, clientKeyFile), PinnedHostKeys: []string{host},
	}, nil
}

// ensureKey returns a private key in PEM and its public half as a line of authorized_keys. The public file follows from the
// private one, which is why the private one is written first.
func ensureKey(path, comment string) (private []byte, public string, err error) {
	private, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		private, err = newKey(path, comment)
	}
	if err != nil {
		return nil, "", fmt.Errorf("SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, "", fmt.Errorf("SSH key %s: %w", path, err)
	}
	public = sshutil.AuthorizedKey(signer.PublicKey(), comment)
	if _, err := os.Stat(path + ".pub"); errors.Is(err, fs.ErrNotExist) {
		err = hostdb.WriteFile(path+".pub", []byte(public+"\n"), 0o600)
		if err != nil {
			return nil, "", fmt.Errorf("SSH key: %w", err)
		}
	}
	return private, public, nil
}

func newKey(path, comment string) ([]byte, error) {
	key, err := sshutil.NewKey(comment)
	if err != nil {
		return nil, err
	}
	return key.Private, hostdb.WriteFile(path, key.Private, 0o600)
}

func sameStrings(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
