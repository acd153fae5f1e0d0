//go:build linux

package image_test

import (
	"github.com/getberth/berth/engine/api"
	"github.com/getberth/berth/engine/container"
	"github.com/getberth/berth/engine/image"
)

// The contracts that the service fulfils.
var (
	_ api.Images       = (*image.Service)(nil)
	_ container.Images = (*image.Service)(nil)
)
