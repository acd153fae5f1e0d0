//go:build linux

package ps

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"":                 "UID PID PPID C STIME TTY TIME CMD",
		"-ef":              "UID PID PPID C STIME TTY TIME CMD",
		"aux":              "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"-aux":             "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"-o pid,comm":      "PID COMMAND",
		"-eo pid,args=ARG": "PID ARG",
		"opid":             "PID",
	} {
		list, err := Parse(args)
		var titles []string
		for _, c := range list {
			titles = append(titles, c.Title)
		}
		if err != nil || strings.Join(titles, " ") != want {
			t.Errorf("%q: %v, %v", args, titles, err)
		}
	}
	for _, args := range []string{"--forest", "-o", "-o bogus", "-ez"} {
		if _, err := Parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestList(t *testing.T) {
	columns, err := Parse("-o pid,ppid,args,stat")
	if err != nil {
		t.Fatal(err)
	}
	titles, rows, err := List(columns, []int{os.Getpid(), 1 << 30})
	if err != nil || len(rows) != 1 || len(titles) != 4 {
		t.Fatalf("%v %v %v", titles, rows, err)
	}
	want := []string{strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getppid()), strings.Join(os.Args, " ")}
	if !slices.Equal(rows[0][:3], want) {
		t.Errorf("this process is %v, want %v", rows[0], want)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a) b) S 1 1 1 0 -1 4194560 1 1 1 1 0 0 0 0 20 0 1 0 100 100 100 1")
	f.Fuzz(func(t *testing.T, text string) { parseStat(text) })
}

func FuzzParse(f *testing.F) {
	f.Add("-eo pid,args=ARG")
	f.Fuzz(func(t *testing.T, args string) { Parse(args) })
}
