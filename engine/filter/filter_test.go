package filter

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text string
		want Args
	}{
		{"", Args{}},
		{"{}", Args{}},
		{`{"status":{"running":true,"paused":true}}`, Args{"status": {"paused", "running"}}},
		{`{"status":["running","paused","running"]}`, Args{"status": {"paused", "running"}}},
		{`{"status":{"running":false}}`, Args{}},
		{`{"a":["x"],"b":{"y":true}}`, Args{"a": {"x"}, "b": {"y"}}},
		{`{"label":null}`, Args{}},
	} {
		got, err := Parse(test.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.text, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Parse(%q): %s", test.text, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"{", `"x"`, `[]x`, `{"a":1}`, `{"a":{"b":1}}`, `{"a":[1]}`, strings.Repeat(" ", MaxSize+1)} {
		if _, err := Parse(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Parse(%.20q): got %v, want an invalid argument", text, err)
		}
	}
}

func TestAllowed(t *testing.T) {
	args := Args{"status": {"running"}, "colour": {"red"}}
	err := args.Allowed("status", "label")
	if !errdefs.IsInvalidArgument(err) || err.Error() != "invalid filter 'colour'" {
		t.Errorf("got %v", err)
	}
	if err := args.Allowed("status", "colour"); err != nil {
		t.Error(err)
	}
}

func TestMatches(t *testing.T) {
	labels := map[string]string{"a": "1", "b": ""}
	for name, got := range map[string]bool{
		"unset":          Args{}.Match("x", "y"),
		"equal":          Args{"x": {"n", "y"}}.Match("x", "y"),
		"prefix":         Args{"id": {"ab"}}.MatchPrefix("id", "abc"),
		"glob":           Args{"name": {"web*"}}.MatchGlob("name", "web1"),
		"label key":      Args{"label": {"a"}}.MatchLabels("label", labels),
		"label value":    Args{"label": {"a=1", "b="}}.MatchLabels("label", labels),
		"prune":          Args{"label": {"a"}, "label!": {"c", "a=2"}}.MatchPrune(labels),
		"not equal":      !Args{"x": {"n"}}.Match("x", "y"),
		"not prefix":     !Args{"id": {"b"}}.MatchPrefix("id", "abc"),
		"bad glob":       !Args{"name": {"[a"}}.MatchGlob("name", "web1"),
		"not all labels": !Args{"label": {"a", "c"}}.MatchLabels("label", labels),
		"other value":    !Args{"label": {"a=2"}}.MatchLabels("label", labels),
		"not pruned":     !Args{"label!": {"a"}}.MatchPrune(labels),
	} {
		if !got {
			t.Error(name)
		}
	}
}

func TestBool(t *testing.T) {
	for _, test := range []struct {
		values    []string
		want, bad bool
	}{
		{nil, true, false}, {[]string{"1"}, true, false}, {[]string{"false"}, false, false},
		{[]string{"maybe"}, false, true}, {[]string{"0", "true"}, false, true},
	} {
		got, err := Args{"dangling": test.values}.Bool("dangling", true)
		if got != test.want || errdefs.IsInvalidArgument(err) != test.bad {
			t.Errorf("%v: got %v, %v", test.values, got, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for text, want := range map[string]time.Time{
		"0":                          time.Unix(0, 0),
		"1136073845.000000001":       time.Unix(1136073845, 1),
		"1136073845.5":               time.Unix(1136073845, 500_000_000),
		"10m":                        now.Add(-10 * time.Minute),
		"1h30m":                      now.Add(-90 * time.Minute),
		"2013-01-02T00:00:42Z":       time.Date(2013, 1, 2, 0, 0, 42, 0, time.UTC),
		"2013-01-02T00:00:42.5Z":     time.Date(2013, 1, 2, 0, 0, 42, 500_000_000, time.UTC),
		"2013-01-02T00:00:42":        time.Date(2013, 1, 2, 0, 0, 42, 0, now.Location()),
		"2013-01-02":                 time.Date(2013, 1, 2, 0, 0, 0, 0, now.Location()),
		"2013-01-02T15:04+02:00":     time.Date(2013, 1, 2, 13, 4, 0, 0, time.UTC),
		"1136073845.000000001999999": time.Unix(1136073845, 1),
	} {
		if got, err := ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("ParseTime(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "1.-5", "1.+5", "2013-13-01", "1.000000000000000000000000", "--"} {
		if got, err := ParseTime(text, now); !errdefs.IsInvalidArgument(err) {
			t.Errorf("ParseTime(%q) = %v, %v", text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"status":{"running":true}}`)
	f.Add(`{"status":["running"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		args, err := Parse(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(string(again))
		if err != nil || !cmp.Equal(args, got) {
			t.Fatalf("%q parsed as %v, then as %v (%v)", text, args, got, err)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	f.Add("1136073845.000000001")
	f.Add("2013-01-02T00:00:42Z")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ParseTime(text, time.Unix(0, 0))
	})
}
