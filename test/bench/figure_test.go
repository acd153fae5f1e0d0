//go:build linux

package main

import (
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		given := slices.Clone(c.samples)
		if got := median(c.samples); got != c.want || !slices.Equal(given, c.samples) {
			t.Errorf("median(%v) = %v, want %v; afterwards %v", given, got, c.want, c.samples)
		}
	}
}

func TestFigureTellsWhetherItsTargetIsMet(t *testing.T) {
	for _, c := range []struct {
		f    figure
		want []string
	}{
		{figure{what: "a", unit: "ms", ours: []float64{12, 8, 10}, target: target{most: 10}}, []string{"a", "10 ms (8–12)", "-", "-", "≤ 10", "met"}},
		{figure{what: "b", unit: "MB", ours: []float64{6}, peer: []float64{10}, with: "other", target: target{most: 0.5, ratio: true}}, []string{"b", "6 MB", "10 MB, other", "0.60x", "≤ 0.5x", "missed"}},
		{figure{what: "c", unit: "s", ours: []float64{1.234}, target: target{most: 3, ratio: true}}, []string{"c", "1.23 s", "-", "-", "≤ 3x", "-"}},
		{figure{what: "d", unit: "requests", ours: []float64{0}, target: target{none: true}}, []string{"d", "0 requests", "-", "-", "0", "met"}},
		{figure{what: "e", unit: "requests", ours: []float64{0, 0, 1}, target: target{none: true}}, []string{"e", "0 requests (0–1)", "-", "-", "0", "missed"}},
	} {
		if got := c.f.cells(); !slices.Equal(got, c.want) {
			t.Errorf("cells = %q, want %q", got, c.want)
		}
	}
}
