//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/getberth/berth/engine"
	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/guest/pid1"
)

// dockerFile is where dockerd looks for its configuration, and berthd under dockerd's name.
const dockerFile = "/etc/docker/daemon.json"

func newServe() *cobra.Command {
	o := newServeFlags()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the engine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.version {
				b := buildInfo()
				fmt.Fprintf(cmd.OutOrStdout(), "berthd version %s, build %s\n", b.Version, b.Commit)
				return nil
			}
			c, err := o.config(cmd)
			if err != nil || o.validate {
				if err == nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "configuration OK")
				}
				return err
			}
			if o.file == config.File {
				if err := setEnvironment(config.EnvFile); err != nil {
					return err
				}
			}
			return serve(cmd.Context(), c, func() (config.Config, error) { return o.config(cmd) }, cmd.ErrOrStderr())
		},
	}
	o.register(cmd.Flags())
	return cmd
}

// serve runs the engine until it is told to end. reread gives the configuration as it is by now.
func serve(ctx context.Context, c config.Config, reread func() (config.Config, error), stderr io.Writer) error {
	level := new(slog.LevelVar)
	level.Set(logLevel(c))
	logger := newLogger(stderr, c.LogFormat, level)
	bridgeLogrus(logger)
	if os.Geteuid() != 0 {
		return errors.New("the engine needs to be started by root")
	}
	if err := setProxies(c.Proxies); err != nil {
		return err
	}
	unix.Umask(0o022)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	defer stop()
	halting := make(chan os.Signal, 1)
	signal.Notify(halting, unix.SIGPWR)
	defer signal.Stop(halting)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, unix.SIGUSR1)
	defer signal.Stop(usr1)
	go dumpStacks(ctx, usr1, stderr)
	return engine.Run(ctx, engine.Options{
		Config: c, Build: buildInfo(), Log: logger, Ready: func() { pid1.NotifyReady(logger) },
		Halting: func() bool { return len(halting) > 0 },
		Reload:  reloads(ctx, hup, reread, func(c config.Config) { level.Set(logLevel(c)) }, logger),
	})
}

// dumpStacks shows at each signal what the engine is doing, as dockerd does.
func dumpStacks(ctx context.Context, usr1 <-chan os.Signal, to io.Writer) {
	for {
		select {
		case <-usr1:
		case <-ctx.Done():
			return
		}
		stacks := make([]byte, 4<<20)
		fmt.Fprintf(to, "=== BEGIN goroutine stack dump ===\n%s\n=== END goroutine stack dump ===\n", stacks[:runtime.Stack(stacks, true)])
	}
}

// reloads reads the configuration at each signal and hands it on. One that is broken is left alone.
func reloads(ctx context.Context, hup <-chan os.Signal, reread func() (config.Config, error), apply func(config.Config), logger *slog.Logger) <-chan config.Config {
	changed := make(chan config.Config)
	go func() {
		for {
			select {
			case <-hup:
			case <-ctx.Done():
				return
			}
			c, err := reread()
			if err != nil {
				logger.Error("the configuration stays as it was", "error", err)
				continue
			}
			apply(c)
			select {
			case changed <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return changed
}

// setProxies has registries reached by proxies. Go's client looks at the environment once, so that a reload comes too late.
func setProxies(p *config.Proxies) error {
	if p == nil {
		return nil
	}
	for name, value := range map[string]string{"HTTP_PROXY": p.HTTP, "HTTPS_PROXY": p.HTTPS, "NO_PROXY": p.No} {
		if value == "" {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
		_ = os.Unsetenv(strings.ToLower(name)) // which some would read first
	}
	return nil
}

func logLevel(c config.Config) slog.Level {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError}
	return levels[c.LogLevel]
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// bridgeLogrus has the libraries that log through containerd's logger log through ours.
func bridgeLogrus(l *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.AddHook(slogHook{l})
	if !l.Enabled(context.Background(), slog.LevelDebug) {
		logrus.SetLevel(logrus.WarnLevel)
	}
	log.L = logrus.NewEntry(logrus.StandardLogger())
}

type slogHook struct{ log *slog.Logger }

func (slogHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h slogHook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	switch e.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		level = slog.LevelError
	case logrus.WarnLevel:
		level = slog.LevelWarn
	case logrus.InfoLevel:
		level = slog.LevelInfo
	}
	args := make([]any, 0, 2*len(e.Data))
	for key, value := range e.Data {
		args = append(args, key, value)
	}
	h.log.Log(context.Background(), level, e.Message, args...)
	return nil
}

// config is the file's configuration with the flags' on top. What both say differently is refused, as dockerd does.
func (o *serveFlags) config(cmd *cobra.Command) (config.Config, error) {
	c, keys, found, err := o.loadFile(cmd)
	if err != nil {
		return config.Config{}, err
	}
	if err := o.apply(cmd.Flags(), &c, keys); err != nil {
		if found {
			err = fmt.Errorf("unable to configure the engine with file %s: %w", o.file, err)
		}
		return config.Config{}, err
	}
	if c.TLSVerify {
		c.TLS = true
	}
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return config.Config{}, err
	}
	return c, nil
}

// loadFile reads the configuration file, if it is found. Only one that was named must be there.
func (o *serveFlags) loadFile(cmd *cobra.Command) (c config.Config, keys []string, found bool, err error) {
	named := cmd.Flags().Changed("config-file")
	c, keys, err = config.Load(o.file)
	if errors.Is(err, fs.ErrNotExist) && (!named || o.file == dockerFile) {
		return config.Config{}, nil, false, nil
	}
	return c, keys, true, err
}

// conflicts are flags that contradict the file.
func conflicts(found []string) error {
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return errors.New("the following directives are specified both as a flag and in the configuration file: " + strings.Join(found, ", "))
}
