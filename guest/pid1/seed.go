//go:build linux

package pid1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/getberth/berth/guest/blockdev"
	"github.com/getberth/berth/guest/seed"
)

// readSeed reads what the host hands in.
func readSeed() (seed.Seed, error) {
	dev, err := blockdev.Find(seed.SeedDisk)
	if err != nil {
		return seed.Seed{}, err
	}
	f, err := os.Open(dev)
	if err != nil {
		return seed.Seed{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, seed.MaxSize))
	if err != nil {
		return seed.Seed{}, fmt.Errorf("reading the seed: %w", err)
	}
	return parseSeed(b)
}

func parseSeed(b []byte) (seed.Seed, error) {
	var s seed.Seed
	if err := json.Unmarshal(bytes.TrimRight(b, "\x00"), &s); err != nil {
		return s, fmt.Errorf("reading the seed: %w", err)
	}
	if s.Version > seed.Version {
		return s, fmt.Errorf("reading the seed: it has version %d, this guest knows %d\nhint: rebuild the guest image with `make guest`", s.Version, seed.Version)
	}
	if s.Hostname == "" || len(s.Hostname) > 64 || s.HostKey == "" {
		return s, fmt.Errorf("reading the seed: host name or host key is missing")
	}
	return s, nil
}
