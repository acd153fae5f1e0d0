package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
)

// catalog prints one of the lists that a driver has to choose from.
func (a *app) catalog(cmd *cobra.Command, args []string, format string, account *accountOptions) error {
	m, err := a.manager(cmd)
	if err != nil {
		return err
	}
	d, err := m.Drivers.Get(args[0])
	if err != nil {
		return err
	}
	c, ok := d.(drivers.Cataloger)
	if !ok {
		return fmt.Errorf("the driver %s has no lists to choose from", args[0])
	}
	if len(args) == 1 || !slices.Contains(c.Catalogs(), args[1]) {
		return &usageError{fmt.Errorf("the lists of the driver %s are %s", args[0], strings.Join(c.Catalogs(), ", "))}
	}
	given, err := account.options(cmd.Flags(), args[0], a.getenv)
	if err != nil {
		return err
	}
	list, err := m.Catalog(cmd.Context(), args[0], args[1], given)
	if err != nil {
		return err
	}
	switch format {
	case "json":
		return a.catalogJSON(list)
	case "table":
		return a.catalogTable(list)
	}
	return &usageError{fmt.Errorf("--format %q: it must be table or json", format)}
}

func (a *app) catalogTable(c drivers.Catalog) error {
	w := tabwriter.NewWriter(a.out, 5, 1, columnGap, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(c.Columns, "\t")))
	for _, row := range c.Rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func (a *app) catalogJSON(c drivers.Catalog) error {
	rows := []map[string]string{}
	for _, row := range c.Rows {
		object := map[string]string{}
		for i, column := range c.Columns {
			object[column] = row[i]
		}
		rows = append(rows, object)
	}
	return writeJSON(a.out, rows)
}
