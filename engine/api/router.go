package api

import "strings"

// pattern is a route's path, by its segments. "{name}" takes one segment, "{name...}" one or more: an image's name has slashes.
type pattern struct {
	segments []string
	multi    int // index of the segment "{name...}", -1 when there is none
}

func compile(path string) pattern {
	p := pattern{segments: strings.Split(path[1:], "/"), multi: -1}
	for i, s := range p.segments {
		if strings.HasSuffix(s, "...}") {
			p.multi = i
		}
	}
	return p
}

// match compares a path, cut into its segments, and returns its variables. They are not empty.
func (p pattern) match(segments []string) (map[string]string, bool) {
	extra := len(segments) - len(p.segments)
	if extra < 0 || extra > 0 && p.multi < 0 {
		return nil, false
	}
	var vars map[string]string
	at := 0
	for i, want := range p.segments {
		value := segments[at]
		at++
		if i == p.multi {
			value = strings.Join(segments[at-1:at+extra], "/")
			at += extra
		}
		name, isVar := variable(want)
		switch {
		case !isVar && want != value, isVar && value == "":
			return nil, false
		case isVar && vars == nil:
			vars = map[string]string{name: value}
		case isVar:
			vars[name] = value
		}
	}
	return vars, true
}

func variable(segment string) (name string, ok bool) {
	if !strings.HasPrefix(segment, "{") {
		return "", false
	}
	return strings.TrimSuffix(strings.Trim(segment, "{}"), "..."), true
}
