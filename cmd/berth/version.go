package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set when a release is linked: -X main.version=1.2.3. It is the only variable of the package.
var version string

// versionText is "1.2.3, build 0123456".
func versionText() string {
	v, build := version, "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 7 {
				build = s.Value[:7]
			}
		}
	}
	if v == "" {
		v = "0.1.0-dev"
	}
	return v + ", build " + build
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "version [NAME]",
		Short:             "Show berth's version, or that of a machine's engine",
		ValidArgsFunction: a.completeOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				a.printf("%s version %s\n", cmd.Root().Name(), versionText())
				return nil
			}
			m, err := a.manager(cmd)
			if err != nil {
				return err
			}
			name, err := target(m, args)
			if err != nil {
				return err
			}
			v, err := m.EngineVersion(cmd.Context(), name)
			if err != nil {
				return err
			}
			a.printf("%s\n", v)
			return nil
		},
	}
}
