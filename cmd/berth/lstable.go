package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
)

// liveTable prints a table row by row. It cannot know how wide later cells will be, and so guesses from what the store knows;
// a wider cell pushes its row and those below it.
type liveTable struct {
	w      io.Writer
	format *listFormat
	widths []int
}

// Of docker-machine's table: the least width of a column, and the space between two.
const (
	minColumn = 2
	columnGap = 3
)

func newLiveTable(w io.Writer, f *listFormat, entries []hostdb.Entry, url func(*hostdb.Machine) string) (*liveTable, error) {
	t := &liveTable{w: w, format: f}
	if err := t.guess(listHeaders()); err != nil {
		return nil, err
	}
	for _, e := range entries {
		likely := listItem{Name: e.Name, DriverName: "not found", State: drivers.Timeout, DockerVersion: "v00.00.0"}
		if e.Machine != nil {
			likely.DriverName, likely.URL = e.Machine.Driver, url(e.Machine)
		}
		if err := t.guess(likely); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *liveTable) guess(v any) error {
	lines, err := t.cells(v)
	if err != nil {
		return err
	}
	for _, cells := range lines {
		t.widen(cells)
	}
	return nil
}

// cells are those of each line that the format makes of v; most make one.
func (t *liveTable) cells(v any) ([][]string, error) {
	var b bytes.Buffer
	if err := t.format.execute(&b, v); err != nil {
		return nil, err
	}
	var lines [][]string
	for line := range strings.SplitSeq(strings.TrimSuffix(b.String(), "\n"), "\n") {
		lines = append(lines, strings.Split(line, "\t"))
	}
	return lines, nil
}

// widen makes room for cells; the last of a line needs none.
func (t *liveTable) widen(cells []string) {
	for i, cell := range cells[:len(cells)-1] {
		if i == len(t.widths) {
			t.widths = append(t.widths, minColumn)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
	}
}

func (t *liveTable) print(v any) error {
	lines, err := t.cells(v)
	if err != nil {
		return err
	}
	for _, cells := range lines {
		t.widen(cells)
		var b strings.Builder
		for i, cell := range cells {
			b.WriteString(cell)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+columnGap))
			}
		}
		if _, err := fmt.Fprintln(t.w, b.String()); err != nil {
			return err
		}
	}
	return nil
}
