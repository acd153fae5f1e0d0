package qemu

import (
	"fmt"
	"slices"
)

// accelNames are the ways to run a guest's instructions, hardware first. All but tcg need the computer's help.
var accelNames = []string{"kvm", "hvf", "whpx", "tcg"}

// host is what the driver depends on of the computer it runs on.
type host struct {
	goos, goarch string
	// hardware tells why an accelerator cannot be used here, nil if it can. It knows those of its own system.
	hardware func(accel string) error
}

// accelOf names the hardware accelerator of an operating system.
func accelOf(goos string) string {
	switch goos {
	case "linux":
		return "kvm"
	case "darwin":
		return "hvf"
	case "windows":
		return "whpx"
	}
	return ""
}

// usable tells why an accelerator cannot run guests of the given architecture here; nil if it can.
func (h host) usable(accel, guestArch string) error {
	switch {
	case accel == "tcg":
		return nil
	case accel != accelOf(h.goos):
		return fmt.Errorf("%s does not exist on %s", accel, h.goos)
	case guestArch != h.goarch:
		return fmt.Errorf("the guest image is for %s and this computer is %s", guestArch, h.goarch)
	}
	return h.hardware(accel)
}

// choose decides on the accelerator for a machine. why tells what keeps auto from a better one.
func (h host) choose(s *state, guestArch string) (accel string, why error, err error) {
	if s.Accel != "auto" {
		if err := h.usable(s.Accel, guestArch); err != nil {
			return "", nil, fmt.Errorf("--qemu-accel %s: %w\nhint: --qemu-accel auto chooses what works here, --qemu-accel tcg works everywhere but is slow", s.Accel, err)
		}
		return s.Accel, nil, nil
	}
	best := accelOf(h.goos)
	if best == "" || !slices.Contains(accelNames, best) {
		return "tcg", fmt.Errorf("berth knows no hardware accelerator on %s", h.goos), nil
	}
	if s.Silent == best {
		return "tcg", fmt.Errorf("a guest under %s gave no sign of life", best), nil
	}
	if why := h.usable(best, guestArch); why != nil {
		return "tcg", why, nil
	}
	return best, nil, nil
}
