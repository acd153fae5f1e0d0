package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The types of this file read their values from the file and, by Set, from a flag, which may be repeated where the value has
// several parts.

// Bytes is a size: a number of bytes, or text such as "64m", whose units are powers of 1024.
type Bytes int64

// Set reads a size.
func (b *Bytes) Set(text string) error {
	digits := strings.TrimRight(text, "kKmMgGtTpPiIbB ")
	unit, ok := sizeUnit(strings.ToLower(strings.TrimSpace(text[len(digits):])))
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !ok || !(n >= 0) || n*unit >= math.MaxInt64 {
		return fmt.Errorf("invalid size: '%s'", text)
	}
	*b = Bytes(n * unit)
	return nil
}

func sizeUnit(suffix string) (float64, bool) {
	suffix = strings.TrimSuffix(suffix, "b")
	suffix = strings.TrimSuffix(suffix, "i")
	power := strings.Index("kmgtp", suffix)
	switch {
	case suffix == "":
		return 1, true
	case len(suffix) != 1 || power < 0:
		return 0, false
	}
	return math.Pow(1024, float64(power+1)), true
}

func (b Bytes) String() string { return strconv.FormatInt(int64(b), 10) }

// Type is what a flag's usage shows.
func (Bytes) Type() string { return "bytes" }

// UnmarshalJSON takes a number as well as text.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		return b.Set(text)
	}
	var n int64
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}

// Ulimit is a limit of a container's processes; -1 means none.
type Ulimit struct {
	Name string
	Soft int64
	Hard int64
}

// Ulimits are limits by their name without RLIMIT_, e.g. "nofile".
type Ulimits map[string]Ulimit

// Set adds NAME=SOFT[:HARD].
func (u *Ulimits) Set(text string) error {
	bad := fmt.Errorf("invalid ulimit argument: %s", text)
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return bad
	}
	soft, hard, two := strings.Cut(value, ":")
	if !two {
		hard = soft
	}
	l := Ulimit{Name: name}
	var err1, err2 error
	l.Soft, err1 = strconv.ParseInt(soft, 10, 64)
	l.Hard, err2 = strconv.ParseInt(hard, 10, 64)
	if err1 != nil || err2 != nil {
		return bad
	}
	if *u == nil {
		*u = Ulimits{}
	}
	(*u)[name] = l
	return nil
}

func (u Ulimits) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(u)) {
		list = append(list, fmt.Sprintf("%s=%d:%d", name, u[name].Soft, u[name].Hard))
	}
	return "[" + strings.Join(list, " ") + "]"
}

// Type is what a flag's usage shows.
func (Ulimits) Type() string { return "ulimit" }

// check says which limit makes no sense.
func (u Ulimits) check() error {
	known := []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
		"rttime", "sigpending", "stack"}
	for _, key := range slices.Sorted(maps.Keys(u)) {
		l := u[key]
		switch {
		case !slices.Contains(known, key) || l.Name != "" && l.Name != key:
			return fmt.Errorf("default-ulimits: invalid ulimit type: %s", key)
		case l.Soft < -1 || l.Hard < -1:
			return fmt.Errorf("default-ulimits: %s: a limit is -1 or more", key)
		case l.Hard != -1 && (l.Soft == -1 || l.Soft > l.Hard):
			return fmt.Errorf("default-ulimits: %s: ulimit soft limit must be less than or equal to hard limit: %d > %d", key, l.Soft, l.Hard)
		}
	}
	return nil
}

// Pool is a range of addresses of which networks that ask for no subnet get one.
type Pool struct {
	Base netip.Prefix `json:"base"` // of IPv4
	Size int          `json:"size"` // length of a subnet's prefix
}

// Pools are asked in their order.
type Pools []Pool

// Set adds base=PREFIX,size=LENGTH.
func (p *Pools) Set(text string) error {
	var pool Pool
	for field := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "base":
			pool.Base, err = netip.ParsePrefix(value)
		case "size":
			pool.Size, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unexpected key '%s' in '%s'", name, field)
		}
		if err != nil {
			return fmt.Errorf("default-address-pool %q: %w", text, err)
		}
	}
	*p = append(*p, pool)
	return nil
}

func (p Pools) String() string {
	var b bytes.Buffer
	for i, pool := range p {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "{%s %d}", pool.Base, pool.Size)
	}
	return b.String()
}

// Type is what a flag's usage shows.
func (Pools) Type() string { return "pool" }

func (p Pools) check() error {
	for _, pool := range p {
		switch {
		case !pool.Base.IsValid():
			return fmt.Errorf("default-address-pools: a pool has no base")
		case !pool.Base.Addr().Is4():
			return fmt.Errorf("default-address-pools: %s is not of IPv4", pool.Base)
		case pool.Size < pool.Base.Bits() || pool.Size > 30:
			return fmt.Errorf("default-address-pools: %s: size %d is not between %d and 30", pool.Base, pool.Size, pool.Base.Bits())
		}
	}
	return nil
}

// Proxies are what the engine reaches registries by. They are a group of their own in the file.
type Proxies struct {
	HTTP  string `json:"http-proxy,omitempty"`
	HTTPS string `json:"https-proxy,omitempty"`
	No    string `json:"no-proxy,omitempty"` // names and addresses that need none, separated by commas
}
