package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/machine"
	"github.com/getberth/berth/sshutil"
)

func (a *app) sshConfigCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ssh-config [NAME...]",
		Short: "Print what the ssh program needs to know of machines",
		Long: "Print blocks for ssh's configuration, with which ssh, rsync, git and editors reach machines by their names. Without names,\n" +
			"those of all machines are printed. Host keys are pinned, as for berth itself.",
		ValidArgsFunction: a.completeNames,
		RunE:              a.sshConfig,
	}
}

func (a *app) sshConfig(cmd *cobra.Command, args []string) error {
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	named := len(args) > 0
	if !named {
		entries, err := m.Store.List()
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Err == nil && e.Machine.Endpoint != nil {
				args = append(args, e.Name)
			}
		}
	}
	a.printf("# To have ssh know these machines: %s ssh-config > ~/.ssh/berth.conf\n# and put this line at the top of ~/.ssh/config: Include ~/.ssh/berth.conf\n", a.program())
	for _, name := range args {
		ep, known, err := m.ForSSH(name)
		if errors.Is(err, machine.ErrNoSSH) && !named {
			continue
		}
		if err != nil {
			return err
		}
		writeSSHBlock(a.out, name, known, ep)
	}
	return nil
}

// writeSSHBlock prints an endpoint, and its jump host's under a name of its own.
func writeSSHBlock(w io.Writer, name, known string, ep sshutil.Endpoint) {
	port, user := ep.Port, ep.User
	if port == 0 {
		port = 22
	}
	if user == "" {
		user = "root"
	}
	fmt.Fprintf(w, "\nHost %s\n  HostName %s\n  Port %d\n  User %s\n", name, ep.Host, port, user)
	fmt.Fprintf(w, "  HostKeyAlias %s\n  UserKnownHostsFile %s\n  StrictHostKeyChecking yes\n", machine.HostKeyAlias(name), quoteSSH(known))
	for _, key := range ep.KeyPaths {
		fmt.Fprintf(w, "  IdentityFile %s\n", quoteSSH(key))
	}
	if !ep.Agent {
		fmt.Fprintf(w, "  IdentitiesOnly yes\n")
	}
	if ep.Jump != nil {
		jump := machine.JumpName(name)
		fmt.Fprintf(w, "  ProxyJump %s\n", jump)
		writeSSHBlock(w, jump, known, *ep.Jump)
	}
}

// quoteSSH makes one word of ssh_config(5), which knows % as the beginning of a token and takes slashes on Windows, too.
func quoteSSH(path string) string {
	path = strings.ReplaceAll(filepath.ToSlash(path), "%", "%%")
	if strings.ContainsAny(path, " \t") {
		return `"` + path + `"`
	}
	return path
}
