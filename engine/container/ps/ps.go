//go:build linux

// Package ps lists processes in the columns of ps(1), from /proc and without running anything.
package ps

import (
	"fmt"
	"strings"
)

// Column is one column of a listing.
type Column struct {
	Title string
	value func(*process, *host) string
}

// Parse reads the options that clients pass to ps: "-ef" and "aux" in their spellings, or -o with a list of columns.
func Parse(args string) ([]Column, error) {
	fields := strings.Fields(args)
	if len(fields) == 0 {
		fields = []string{"-ef"}
	}
	var names []string
	full, user := false, false
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		if rest, ok := cutFormat(f); ok {
			if rest == "" && i+1 < len(fields) {
				i++
				rest = fields[i]
			}
			if rest == "" {
				return nil, fmt.Errorf("ps: the option -o needs a list of columns")
			}
			names = append(names, strings.Split(rest, ",")...)
			continue
		}
		for _, flag := range strings.TrimPrefix(f, "-") {
			switch flag {
			case 'e', 'A', 'a', 'x', 'w', 'h':
			case 'f':
				full = true
			case 'u':
				user = true
			default:
				return nil, fmt.Errorf("ps: the option %q is not supported", f)
			}
		}
	}
	switch {
	case len(names) > 0:
	case user:
		names = []string{"user", "pid", "%cpu", "%mem", "vsz", "rss", "tty=TTY", "stat", "start", "time=TIME", "command"}
	case full:
		names = []string{"uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"}
	default:
		names = []string{"pid", "tty=TTY", "time", "comm=CMD"}
	}
	return columns(names)
}

// cutFormat recognises -o, -eo and o with or without the list behind it.
func cutFormat(f string) (list string, ok bool) {
	for _, p := range []string{"-eo", "-axo", "-Ao", "-o", "axo", "eo", "o", "--format="} {
		if rest, found := strings.CutPrefix(f, p); found {
			return rest, true
		}
	}
	return "", false
}

func columns(names []string) ([]Column, error) {
	known := known()
	var list []Column
	for _, name := range names {
		key, title, renamed := strings.Cut(name, "=")
		c, ok := known[strings.ToLower(key)]
		if !ok {
			return nil, fmt.Errorf("ps: the column %q is not supported", key)
		}
		if renamed {
			c.Title = title
		}
		list = append(list, c)
	}
	return list, nil
}

// List returns the titles, and a row for each process that still lives, in the order of pids.
func List(columns []Column, pids []int) (titles []string, rows [][]string, err error) {
	h, err := readHost()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range columns {
		titles = append(titles, c.Title)
	}
	rows = [][]string{}
	for _, pid := range pids {
		p, err := readProcess(pid)
		if err != nil {
			continue // ended meanwhile
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.value(p, h)
		}
		rows = append(rows, row)
	}
	return titles, rows, nil
}
