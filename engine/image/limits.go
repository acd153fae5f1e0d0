//go:build linux

package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// layerLimits bounds what one layer, or one archive, may unpack to.
type layerLimits struct {
	entries int   // files, folders and links
	meta    int64 // bytes of their names, targets and attributes, of which much stays in memory until the last is written
	size    int64 // bytes of the uncompressed tar with its padding, and likewise of all files with their holes
}

// defaultLimits lets through what people build: layers of language models have some ten GiB, those of monorepos some 100,000 files.
func defaultLimits() layerLimits {
	return layerLimits{entries: 1_000_000, meta: 128 << 20, size: 256 << 30}
}

const (
	maxPath   = 4096     // PATH_MAX
	maxXattr  = 64 << 10 // XATTR_SIZE_MAX
	xattrMark = "SCHILY.xattr."
	// checkSpace is how much is written, in bytes, between two looks at the disk.
	checkSpace = 64 << 20
	// The engine leaves 1/reserveShare of the disk, and maxReserve bytes at most, to others when it unpacks.
	reserveShare = 50
	maxReserve   = 512 << 20
)

// entryCheck looks at each entry of a layer before it is written.
type entryCheck struct {
	limits  layerLimits
	space   func(want int64) error
	entries int
	meta    int64
	size    int64
	checked int64 // of size, up to where the disk was looked at
}

// accept refuses names that lead out of the root, and what exceeds the limits. Symbolic links may point anywhere: containerd follows
// them within the root only, and sets none of the trusted attributes by which overlay itself works. Device nodes, set-user-id bits
// and capabilities are a part of images: they work in containers, within what those may do, and nobody but root gets at the store.
func (c *entryCheck) accept(h *tar.Header) (bool, error) {
	if err := checkNames(h); err != nil {
		return false, err
	}
	if c.entries++; c.entries > c.limits.entries {
		return false, fmt.Errorf("it has more than %d entries", c.limits.entries)
	}
	if err := c.addMeta(h); err != nil {
		return false, err
	}
	// A sparse file is written with its holes, which are in the size and not in the tar.
	if h.Size < 0 || h.Size > c.limits.size-c.size {
		return false, fmt.Errorf("its files have more than %d bytes", c.limits.size)
	}
	if c.size += h.Size; c.size-c.checked >= checkSpace {
		c.checked = c.size
		return true, c.space(h.Size)
	}
	return true, nil
}

// addMeta counts what describes an entry, and drops the records that have been read from it already.
func (c *entryCheck) addMeta(h *tar.Header) error {
	c.meta += int64(len(h.Name) + len(h.Linkname))
	for k, v := range h.PAXRecords {
		if !strings.HasPrefix(k, xattrMark) {
			delete(h.PAXRecords, k)
			continue
		}
		if len(v) > maxXattr {
			return fmt.Errorf("the tar entry %q has the attribute %s of %d bytes; at most %d are supported", h.Name, k[len(xattrMark):], len(v), maxXattr)
		}
		c.meta += int64(len(k) + len(v))
	}
	if c.meta > c.limits.meta {
		return fmt.Errorf("the names and attributes of its entries have more than %d bytes", c.limits.meta)
	}
	return nil
}

func checkNames(h *tar.Header) error {
	switch {
	case len(h.Name) > maxPath || len(h.Linkname) > maxPath:
		return fmt.Errorf("the tar entry %.60q… has a name or a target of more than %d bytes", h.Name, maxPath)
	case escapes(h.Name):
		return fmt.Errorf("the tar entry %q is outside of the root", h.Name)
	case h.Typeflag == tar.TypeLink && escapes(h.Linkname):
		return fmt.Errorf("the tar entry %q is a link to %q, outside of the root", h.Name, h.Linkname)
	case strings.ContainsRune(h.Name, 0) || strings.ContainsRune(h.Linkname, 0):
		return fmt.Errorf("the tar entry %q contains a zero byte", h.Name)
	}
	return nil
}

// enoughSpace fails before the disk is full: others on the machine need room, too, to log that it nearly was.
func (s *Service) enoughSpace(want int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.Root, &st); err != nil {
		return fmt.Errorf("looking at the disk: %w", err)
	}
	free, total := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	if free-want < min(total/reserveShare, maxReserve) {
		return fmt.Errorf("%w: %d bytes are free, and %d more are to be written", unix.ENOSPC, free, want)
	}
	return nil
}

// boundedReader ends what does not end by itself: after left bytes, with ctx, or when the disk is nearly full of it.
type boundedReader struct {
	ctx     context.Context
	r       io.Reader
	left    int64
	limit   int64
	space   func(want int64) error // nil when what is read is not written as it is
	checked int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("it has more than %d bytes uncompressed", b.limit)
	}
	if b.checked += int64(n); b.space != nil && b.checked >= checkSpace {
		b.checked = 0
		if full := b.space(0); full != nil {
			return 0, full
		}
	}
	return n, err
}

func (s *Service) bounded(ctx context.Context, r io.Reader, space func(int64) error) io.Reader {
	return &boundedReader{ctx: ctx, r: r, left: s.limits.size, limit: s.limits.size, space: space}
}
