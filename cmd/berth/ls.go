package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
)

// defaultTimeout is how long ls and active wait for one machine, in seconds.
const defaultTimeout = 10

type lsOptions struct {
	quiet   bool
	filters []string
	timeout int
	format  string
}

func (a *app) lsCmd() *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List machines",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.ls(cmd, o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Print names only")
	f.StringArrayVar(&o.filters, "filter", nil, "Filter output: name=REGEXP, state=, driver=, label=K=V, swarm=")
	f.IntVarP(&o.timeout, "timeout", "t", defaultTimeout, "Seconds to wait for each machine")
	f.StringVarP(&o.format, "format", "f", "", "Pretty-print machines using a Go template, or json")
	return cmd
}

// listItem is what a template of ls sees; the names are docker-machine's.
type listItem struct {
	Name          string
	Active        string
	ActiveHost    bool
	ActiveSwarm   bool
	DriverName    string
	State         drivers.State
	URL           string
	SwarmOptions  *swarmInfo
	Swarm         string
	EngineOptions *engineInfo
	Error         string
	DockerVersion string
	ResponseTime  time.Duration
}

func (a *app) ls(cmd *cobra.Command, o lsOptions) error {
	filter, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	format, err := parseFormat(o.format)
	if err != nil {
		return err
	}
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	entries, err := m.Store.List()
	if err != nil {
		return err
	}
	entries = filter.entries(entries)
	if o.quiet && len(filter.state) == 0 {
		return printNames(a.out, entries)
	}
	limit := time.Duration(o.timeout) * time.Second
	rows := m.Rows(cmd.Context(), entries, limit)
	if p, ok := a.liveRows(m, format, o.quiet, entries); ok {
		return a.printRows(asTheyCome(rows), filter, p)
	}
	return a.printRows(inOrder(rows), filter, a.rowPrinter(format, o.quiet))
}

func printNames(w io.Writer, entries []hostdb.Entry) error {
	for _, e := range entries {
		if _, err := fmt.Fprintln(w, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// inOrder yields the rows in the order of their machines.
func inOrder(rows []<-chan machine.Row) iter.Seq[machine.Row] {
	return func(yield func(machine.Row) bool) {
		for _, ch := range rows {
			if !yield(<-ch) {
				return
			}
		}
	}
}

// asTheyCome yields first the row that is known first: nobody waits for a machine that does not answer to see one that does.
func asTheyCome(rows []<-chan machine.Row) iter.Seq[machine.Row] {
	known := make(chan machine.Row, len(rows)) // each yields once, so that no sender waits
	for _, ch := range rows {
		go func() { known <- <-ch }()
	}
	return func(yield func(machine.Row) bool) {
		for range rows {
			if !yield(<-known) {
				return
			}
		}
	}
}

// printRows prints each row as it gets it; only a table that goes to a file waits for all, to align its columns.
func (a *app) printRows(rows iter.Seq[machine.Row], filter listFilter, p rowPrinter) error {
	if err := p.begin(); err != nil {
		return err
	}
	for row := range rows {
		if !filter.matchesState(row.State) {
			continue
		}
		if err := p.row(a.listItem(row)); err != nil {
			return err
		}
	}
	return p.end()
}

// rowPrinter is one way to print rows.
type rowPrinter struct {
	begin func() error
	row   func(listItem) error
	end   func() error
}

func nothing() error { return nil }

// liveRows prints a table on a terminal; ok is false for what is no such thing.
func (a *app) liveRows(m *machine.Manager, format *listFormat, quiet bool, entries []hostdb.Entry) (p rowPrinter, ok bool) {
	if quiet || format.json || !format.table || !isTerminal(a.out) {
		return rowPrinter{}, false
	}
	var t *liveTable
	return rowPrinter{
		begin: func() (err error) {
			if t, err = newLiveTable(a.out, format, entries, m.URL); err != nil {
				return err
			}
			return t.print(listHeaders())
		},
		row: func(i listItem) error { return t.print(i) },
		end: nothing,
	}, true
}

func (a *app) rowPrinter(format *listFormat, quiet bool) rowPrinter {
	switch {
	case quiet:
		return rowPrinter{nothing, func(i listItem) error { _, err := fmt.Fprintln(a.out, i.Name); return err }, nothing}
	case format.json:
		items := []listItem{}
		return rowPrinter{nothing, func(i listItem) error { items = append(items, i); return nil }, func() error { return writeJSON(a.out, items) }}
	case !format.table:
		return rowPrinter{nothing, func(i listItem) error { return format.execute(a.out, i) }, nothing}
	}
	w := tabwriter.NewWriter(a.out, 5, 1, columnGap, ' ', 0)
	return rowPrinter{
		begin: func() error { return format.execute(w, listHeaders()) },
		row:   func(i listItem) error { return format.execute(w, i) },
		end:   w.Flush,
	}
}

func (a *app) listItem(row machine.Row) listItem {
	item := listItem{
		Name: row.Name, Active: "-", DriverName: row.Driver, State: row.State, URL: row.URL,
		Error: row.Error, DockerVersion: row.Version, ResponseTime: row.Took,
	}
	if row.Machine != nil {
		item.SwarmOptions, item.EngineOptions = swarmInfoOf(row.Machine), engineInfoOf(row.Machine)
	}
	if row.State == drivers.Running && row.URL != "" && a.selected(row) {
		item.Active, item.ActiveHost = "*", true
	}
	return item
}

// selected tells whether the environment has the docker client use a machine; an address counts more than a context.
func (a *app) selected(row machine.Row) bool {
	if host := a.getenv("DOCKER_HOST"); host != "" {
		return host == row.URL
	}
	return row.Machine != nil && row.Machine.Context && a.getenv("DOCKER_CONTEXT") == row.Name
}

// listFormat is how rows are printed.
type listFormat struct {
	table, json bool
	tmpl        *template.Template
}

const defaultFormat = `table {{ .Name }}\t{{ .Active }}\t{{ .DriverName}}\t{{ .State }}\t{{ .URL }}\t{{ .Swarm }}\t{{ .DockerVersion }}\t{{ .Error}}`

func parseFormat(text string) (*listFormat, error) {
	if text == "json" {
		return &listFormat{json: true}, nil
	}
	if text == "" {
		text = defaultFormat
	}
	f := new(listFormat)
	text, f.table = strings.CutPrefix(text, "table")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(text, " "))
	var err error
	if f.tmpl, err = template.New("format").Funcs(jsonFuncs()).Parse(text + "\n"); err != nil {
		return nil, fmt.Errorf("the format: %w", err)
	}
	return f, nil
}

func (f *listFormat) execute(w io.Writer, v any) error {
	if err := f.tmpl.Execute(w, v); err != nil {
		return fmt.Errorf("the format: %w", err)
	}
	return nil
}

func listHeaders() map[string]string {
	return map[string]string{
		"Name": "NAME", "Active": "ACTIVE", "ActiveHost": "ACTIVE_HOST", "ActiveSwarm": "ACTIVE_SWARM", "DriverName": "DRIVER",
		"State": "STATE", "URL": "URL", "SwarmOptions": "SWARM_OPTIONS", "Swarm": "SWARM", "EngineOptions": "ENGINE_OPTIONS",
		"Error": "ERRORS", "DockerVersion": "DOCKER", "ResponseTime": "RESPONSE",
	}
}

// jsonFuncs are the functions of templates.
func jsonFuncs() template.FuncMap {
	return template.FuncMap{
		"json":       func(v any) (string, error) { return jsonText(v, "") },
		"prettyjson": func(v any) (string, error) { return jsonText(v, "    ") },
	}
}

// jsonText leaves <, > and & as they are: the text is for a terminal.
func jsonText(v any, indent string) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func writeJSON(w io.Writer, v any) error {
	text, err := jsonText(v, "    ")
	if err == nil {
		_, err = fmt.Fprintln(w, text)
	}
	return err
}
