package machine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/sshutil"
)

// knownHostsFile is in a machine's folder, for the ssh program. It follows from the record.
const knownHostsFile = "known_hosts"

// HostKeyAlias is the name under which a machine's host keys are in its known_hosts file.
func HostKeyAlias(name string) string { return "berth-" + name }

// JumpName is how the ssh program is to call a machine's jump host.
func JumpName(name string) string { return name + "-jump" }

// ForSSH is how to reach a machine, with a known_hosts file for programs that need one.
func (m *Manager) ForSSH(name string) (ep sshutil.Endpoint, knownHosts string, err error) {
	rec, err := m.Record(name)
	if err != nil {
		return ep, "", err
	}
	if ep, err = m.SSHEndpoint(rec); err != nil {
		return ep, "", err
	}
	var b strings.Builder
	writeKnown(&b, HostKeyAlias(name), ep.HostKeys)
	if ep.Jump != nil {
		writeKnown(&b, HostKeyAlias(JumpName(name)), ep.Jump.HostKeys)
	}
	path := filepath.Join(m.Store.MachineDir(name), knownHostsFile)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, []byte(b.String())) {
		return ep, path, nil
	}
	return ep, path, hostdb.WriteFile(path, []byte(b.String()), 0o600)
}

func writeKnown(b *strings.Builder, alias string, keys []string) {
	for _, k := range keys {
		words := strings.Fields(k)
		if len(words) >= 2 {
			b.WriteString(alias + " " + words[0] + " " + words[1] + "\n")
		}
	}
}
