package hostdb

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// maxName is what Linux takes for a host's name (sethostname(2): 64 bytes) less one for a final dot.
const maxName = 63

// ErrName is wrapped by errors about a machine's name.
var ErrName = errors.New("Invalid hostname specified. Allowed hostname chars are: 0-9a-zA-Z . -") //nolint:staticcheck // docker-machine's words

// CheckName tells whether a machine can be called so. Beyond docker-machine's rule it refuses what Windows would not take as a
// folder, everywhere: a store can be moved.
func CheckName(name string) error {
	switch {
	case !wellFormed(name):
		return ErrName
	case len(name) > maxName:
		return fmt.Errorf("the name %q has %d characters; a host's name has at most %d", name, len(name), maxName)
	case strings.HasSuffix(name, "."):
		return fmt.Errorf("the name %q ends in a dot, which Windows drops", name)
	case reserved(name):
		return fmt.Errorf("the name %q is reserved by Windows for a device", name)
	}
	return nil
}

// wellFormed names begin with a letter or a digit, and have only these, dots and dashes; ASCII's, all of them.
func wellFormed(name string) bool {
	for i := range len(name) {
		c := name[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !plain && (i == 0 || c != '-' && c != '.') {
			return false
		}
	}
	return name != ""
}

// reserved names are devices in every folder of Windows, whatever their extension.
func reserved(name string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	isPort := strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")
	return isPort && len(base) == 4 && base[3] >= '1' && base[3] <= '9'
}

// CompareNatural orders names as people do: runs of digits by their value, letters without regard to case.
// Only identical names are equal.
func CompareNatural(a, b string) int {
	x, y := strings.ToLower(a), strings.ToLower(b)
	for x != "" && y != "" {
		var p, q string
		p, x = chunk(x)
		q, y = chunk(y)
		if c := compareChunk(p, q); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

// chunk splits off a run of digits or one other byte.
func chunk(s string) (first, rest string) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	n = max(n, 1)
	return s[:n], s[n:]
}

func compareChunk(p, q string) int {
	if isDigit(p[0]) && isDigit(q[0]) {
		p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
		if c := cmp.Compare(len(p), len(q)); c != 0 {
			return c
		}
	}
	return strings.Compare(p, q)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
