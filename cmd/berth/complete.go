package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/getberth/berth/drivers"
	"github.com/getberth/berth/hostdb"
	"github.com/getberth/berth/machine"
)

// Bounds of a completion that asks a cloud: somebody has pressed a key and waits.
const (
	completeLimit = 2 * time.Second
	completeAge   = 10 * time.Minute // of an answer that is good enough
	maxCompletion = 1 << 20          // of such an answer, in bytes
)

// completeDriverFlags completes the values of drivers' flags that are known.
func (a *app) completeDriverFlags(cmd *cobra.Command, o *createOptions) {
	for driver, df := range o.flags {
		for _, f := range df.list {
			switch {
			case len(f.Values) > 0:
				_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(f.Values, cobra.ShellCompDirectiveNoFileComp))
			case f.Catalog != "":
				_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
					return a.completeCatalogValue(cmd, driver, f.Catalog, accountOf(cmd, df.list, a.getenv)), cobra.ShellCompDirectiveNoFileComp
				})
			}
		}
	}
}

// accountOf are the options of an account that are given on the command line or in the environment.
func accountOf(cmd *cobra.Command, list []drivers.Flag, getenv func(string) string) drivers.Options {
	given := drivers.Options{}
	for _, f := range list {
		if f.Account && setFromEnv(cmd.Flags(), f, getenv) == nil && cmd.Flags().Changed(f.Name) {
			given[f.Name] = flagValue(cmd.Flags(), f)
		}
	}
	return given
}

// completeSize completes a machine, then one of its driver's sizes.
func (a *app) completeSize(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeNames(cmd, args, word)
	}
	m, err := a.manager(cmd)
	if err != nil || len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	rec, err := m.Record(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	given, err := m.DriverOptions(rec)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeCatalogValue(cmd, rec.Driver, "sizes", given), cobra.ShellCompDirectiveNoFileComp
}

// completeCatalogValue is the first column of a driver's list, described by the others. It says nothing when the list cannot be had,
// such as without a token, or not in time.
func (a *app) completeCatalogValue(cmd *cobra.Command, driver, list string, account drivers.Options) []string {
	cache := catalogCache(driver, list, account)
	if c, ok := readCatalog(cache, a.now()); ok {
		return completions(c)
	}
	m, err := a.manager(cmd)
	if err != nil {
		return nil
	}
	m.Report, m.Debug = silent{}, io.Discard
	ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
	defer cancel()
	got := make(chan drivers.Catalog, 1)
	go func() { // a command that prints a token may be late in obeying
		if c, err := m.Catalog(ctx, driver, list, account); err == nil {
			got <- c
		}
		cancel()
	}()
	<-ctx.Done()
	select {
	case c := <-got:
		writeCatalog(cache, c)
		return completions(c)
	default:
		return nil
	}
}

// completions are values with their descriptions, in cobra's form.
func completions(c drivers.Catalog) (words []string) {
	for _, row := range c.Rows {
		var about []string
		for i := 1; i < len(row) && i < len(c.Columns); i++ {
			about = append(about, c.Columns[i]+" "+row[i])
		}
		words = append(words, row[0]+"\t"+strings.Join(about, ", "))
	}
	return words
}

// catalogCache is the file of a list, in the user's folder for such; empty when there is none. Which account it is of counts, but
// no token is in its name.
func catalogCache(driver, list string, account drivers.Options) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	key := driver + "\n" + list
	for _, name := range sortedKeys(account) {
		if !strings.HasSuffix(name, "-token") {
			key += fmt.Sprintf("\n%s=%v", name, account[name])
		}
	}
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, "berth", "lists", hex.EncodeToString(sum[:8])+".json")
}

// readCatalog reads a list that is not too old.
func readCatalog(path string, now time.Time) (c drivers.Catalog, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return c, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || now.Sub(info.ModTime()).Abs() > completeAge {
		return c, false
	}
	err = json.NewDecoder(io.LimitReader(f, maxCompletion)).Decode(&c)
	for _, row := range c.Rows {
		if len(row) == 0 {
			return c, false
		}
	}
	return c, err == nil
}

// writeCatalog keeps a list; that it cannot does not matter.
func writeCatalog(path string, c drivers.Catalog) {
	data, err := json.Marshal(c)
	if err != nil || path == "" || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	_ = hostdb.WriteFile(path, data, 0o600)
}

// silent is a Reporter for completions, whose output a shell reads.
type silent struct{}

func (silent) Step(string, string) func(error) { return func(error) {} }
func (silent) Note(string, string)             {}

// completeEngineFlags completes the engine's options where they are a fixed set.
func completeEngineFlags(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("engine-storage-driver", cobra.FixedCompletions(machine.EngineOptionValues()["storage-driver"], cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("engine-opt", func(_ *cobra.Command, _ []string, word string) (words []string, _ cobra.ShellCompDirective) {
		all := machine.EngineOptionValues()
		name, _, valued := strings.Cut(word, "=")
		if valued {
			for _, v := range all[name] {
				words = append(words, name+"="+v)
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		}
		for _, name := range sortedKeys(all) {
			words = append(words, name+"=")
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	for _, free := range []string{"engine-label", "engine-env", "engine-registry-mirror", "engine-insecure-registry", "tls-san"} {
		_ = cmd.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions)
	}
}
