//go:build linux

package container_test

import (
	"github.com/getberth/berth/engine/api"
	"github.com/getberth/berth/engine/container"
)

var _ api.Containers = (*container.Service)(nil)
