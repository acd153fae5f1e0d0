//go:build linux

package container

import (
	"bytes"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/getberth/berth/engine/container/rootfs"
)

// maxAccounts bounds the image's /etc/passwd and /etc/group, in bytes.
const maxAccounts = 8 << 20

// lookUpUser resolves USER[:GROUP] and further groups with the accounts in the container's root.
func lookUpUser(root *rootfs.Root, who string, groups []string) (specs.User, error) {
	passwd, err := accounts(root, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := accounts(root, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	return resolveUser(passwd, group, who, groups)
}

// accounts: an image without the file has no names, and no error.
func accounts(root *rootfs.Root, name string) ([]byte, error) {
	data, err := root.ReadFile(name, maxAccounts)
	if rootfs.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, invalid("reading the container's accounts: %v", err)
	}
	return data, nil
}

func resolveUser(passwd, group []byte, who string, groups []string) (specs.User, error) {
	u, err := user.GetExecUser(who, &user.ExecUser{}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, invalid("%v", err)
	}
	more, err := user.GetAdditionalGroups(groups, bytes.NewReader(group))
	if err != nil {
		return specs.User{}, invalid("%v", err)
	}
	result := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	// The primary group is among the additional ones: without it a process could shed a group that denies it access.
	gids := []uint32{result.GID}
	for _, g := range slices.Concat(u.Sgids, more) {
		if !slices.Contains(gids, uint32(g)) {
			gids = append(gids, uint32(g))
		}
	}
	result.AdditionalGids = gids
	return result, nil
}
