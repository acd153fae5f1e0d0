//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one line of the result: samples of ours and, where there is one, of a peer, with what is promised.
type figure struct {
	what   string
	unit   string // of samples: s, ms, MB, MiB
	ours   []float64
	peer   []float64 // empty without a peer
	with   string    // who the peer is
	target target
}

// target is a promise: an upper bound of our median or, with ratio, of our median divided by the peer's; or that there is none of
// what is counted. The zero value promises nothing.
type target struct {
	most  float64
	ratio bool
	none  bool
}

func (t target) String() string {
	switch {
	case t.none:
		return "0"
	case t.most == 0:
		return "-"
	case t.ratio:
		return "≤ " + short(t.most) + "x"
	}
	return "≤ " + short(t.most)
}

// median is the middle of samples, 0 of none.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func (f figure) ratio() float64 {
	if len(f.peer) == 0 || median(f.peer) == 0 {
		return 0
	}
	return median(f.ours) / median(f.peer)
}

// verdict is "met", "missed", or "-" where nothing was promised or the peer could not be measured.
func (f figure) verdict() string {
	got := median(f.ours)
	if f.target.ratio {
		got = f.ratio()
	}
	switch {
	case f.target.none && len(f.ours) > 0 && slices.Max(f.ours) == 0:
		return "met"
	case f.target.none && len(f.ours) > 0:
		return "missed"
	case f.target.most == 0 || got == 0:
		return "-"
	case got <= f.target.most:
		return "met"
	}
	return "missed"
}

// cells are the figure as a line of the table.
func (f figure) cells() []string {
	peer, ratio := "-", "-"
	if f.with != "" && len(f.peer) > 0 {
		peer = spread(f.peer, f.unit) + ", " + f.with
		ratio = fmt.Sprintf("%.2fx", f.ratio())
	}
	return []string{f.what, spread(f.ours, f.unit), peer, ratio, f.target.String(), f.verdict()}
}

func headings() []string { return []string{"figure", "berth", "peer", "ratio", "target", ""} }

// spread is the median with its unit and, of several samples, their range.
func spread(samples []float64, unit string) string {
	text := short(median(samples)) + " " + unit
	if len(samples) > 1 {
		text += " (" + short(slices.Min(samples)) + "–" + short(slices.Max(samples)) + ")"
	}
	return text
}

// short rounds to three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
}

func table(figures []figure) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(headings(), "\t"))
	for _, f := range figures {
		fmt.Fprintln(w, strings.Join(f.cells(), "\t"))
	}
	_ = w.Flush() // into memory
	return b.String()
}

func markdown(figures []figure) string {
	var b strings.Builder
	row := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row(headings())
	row(slices.Repeat([]string{"---"}, len(headings())))
	for _, f := range figures {
		row(f.cells())
	}
	return b.String()
}

func seconds(d time.Duration) float64      { return d.Seconds() }
func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
func megabytes(bytes int64) float64        { return float64(bytes) / 1e6 }
func mebibytes(bytes int64) float64        { return float64(bytes) / (1 << 20) }
