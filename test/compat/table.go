package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// row is a suite's line in the table.
type row struct {
	suite string
	want  lists
	got   results
}

func (r row) count(o outcome) (n int) {
	for _, res := range r.got {
		if res.outcome == o {
			n++
		}
	}
	return n
}

// problems are what the lists do not expect. A test that passes against expectation is none: it is said in the table.
func (r row) problems() []string {
	var all []string
	for _, name := range r.want.missed(r.got) {
		all = append(all, r.suite+" "+name+": passed before and does not now")
	}
	for _, name := range r.want.unlisted(r.got) {
		all = append(all, r.suite+" "+name+": in no list ("+strings.ToLower(string(r.got[name].outcome))+")")
	}
	return all
}

func printTable(w io.Writer, table []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUITE\tPASS\tFAIL\tSKIP\tOF DOCKERD'S\tREGRESSED\tNEWLY PASS")
	var here, there int
	for _, r := range table {
		a, b := r.want.shared(r.got)
		here, there = here+a, there+b
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%d\t%s\n", r.suite, r.count(passed), r.count(failed), r.count(skipped), share(a, b),
			len(r.want.missed(r.got)), strings.Join(r.want.improved(r.got), " "))
	}
	fmt.Fprintf(t, "all\t\t\t\t%s\t\t\n", share(here, there))
	_ = t.Flush()
}

func share(a, b int) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d (%.1f %%)", a, b, 100*float64(a)/float64(b))
}
