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

// dockerFile is where dockerd looks for its configuration; berthd does not, but under dockerd's name it says so.
const dockerFile = "/etc/docker/daemon.json"

func newServe() *cobra.Command {
	o := newServeFlags()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the engine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
			return serve(cmd.Context(), c, cmd.ErrOrStderr())
		},
	}
	o.register(cmd.Flags())
	return cmd
}

func serve(ctx context.Context, c config.Config, stderr io.Writer) error {
	logger := newLogger(stderr, c.LogLevel)
	bridgeLogrus(logger)
	if os.Geteuid() != 0 {
		return errors.New("the engine needs to be started by root")
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
	go func() {
		for range hup {
			logger.Info("certificates are read again when their files change; other changes take a restart of the engine")
		}
	}()
	return engine.Run(ctx, engine.Options{
		Config: c, Build: buildInfo(), Log: logger, Ready: func() { pid1.NotifyReady(logger) },
		Halting: func() bool { return len(halting) > 0 },
	})
}

func newLogger(w io.Writer, level string) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: levels[level]}))
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
	c, keys, err := o.loadFile(cmd)
	if err != nil {
		return config.Config{}, err
	}
	if err := o.apply(cmd.Flags(), &c, keys); err != nil {
		if o.file != "" {
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

// loadFile reads the configuration file. Only one that was named must exist.
func (o *serveFlags) loadFile(cmd *cobra.Command) (config.Config, []string, error) {
	named := cmd.Flags().Changed("config-file")
	c, keys, err := config.Load(o.file)
	if errors.Is(err, fs.ErrNotExist) && (!named || o.file == dockerFile) {
		o.file = ""
		return config.Config{}, nil, nil
	}
	return c, keys, err
}

// conflicts are flags that contradict the file.
func conflicts(found []string) error {
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return errors.New("the following directives are specified both as a flag and in the configuration file: " + strings.Join(found, ", "))
}
