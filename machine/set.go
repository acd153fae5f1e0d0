package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/getberth/berth/engine/config"
	"github.com/getberth/berth/hostdb"
)

// SetOptions are what Set changes. Lists that are nil stay as they are; others replace what was there, and empty ones clear it.
type SetOptions struct {
	Engine        EngineOptions
	StorageDriver bool // Engine.StorageDriver counts, even if it is empty
	SANs          []string

	fresh bool // the engine was never installed: what holds its data may still change
}

// Set changes the options of a machine's engine. Containers go on while the engine restarts with them. When it does not start with
// the new options, the old ones are put back.
func (m *Manager) Set(ctx context.Context, name string, o SetOptions) error {
	return m.locked(ctx, name, func(w *work) error {
		if err := w.changeable(); err != nil {
			return err
		}
		if err := w.running(ctx); err != nil {
			return err
		}
		old, err := w.settings()
		if err != nil {
			return err
		}
		next, err := old.change(o, w.rec.Driver)
		if err != nil {
			return err
		}
		if next.equal(old) {
			m.Report.Note(name, fmt.Sprintf("%q has these options already.", name))
			return nil
		}
		if err := w.apply(ctx, next); err != nil {
			return w.putBack(ctx, old, err)
		}
		return nil
	})
}

// settings are what Set can change of a machine.
type settings struct {
	engine []byte // the configuration file
	env    []byte
	sans   []string
	phase  hostdb.Phase // when nothing but the record has changed
}

func (w *work) settings() (settings, error) {
	env, err := readEngineEnv(w.lock.Dir())
	return settings{engine: w.rec.Engine, env: env, sans: w.rec.SANs, phase: w.rec.Phase}, err
}

func (s settings) equal(t settings) bool {
	return bytes.Equal(canonical(s.engine), canonical(t.engine)) && bytes.Equal(s.env, t.env) && slices.Equal(s.sans, t.sans)
}

func (s settings) change(o SetOptions, driver string) (settings, error) {
	conf := config.Default()
	if len(s.engine) > 0 {
		var err error
		if conf, _, err = config.Parse(s.engine); err != nil {
			return s, fmt.Errorf("the engine's configuration: %w", err)
		}
	}
	if err := o.change(&conf, driver); err != nil {
		return s, err
	}
	raw, err := conf.Marshal()
	if err != nil {
		return s, err
	}
	s.engine = raw
	if o.Engine.Env != nil {
		if err := checkEngineEnv(o.Engine.Env); err != nil {
			return s, err
		}
		s.env = []byte(o.Engine.env())
	}
	if o.SANs != nil {
		s.sans = nonEmpty(o.SANs)
	}
	return s, nil
}

// change applies the options that are in the configuration file.
func (o SetOptions) change(c *config.Config, driver string) error {
	fresh, err := resetEngineOptions(c, o.Engine.Opts, o.fresh)
	if err != nil {
		return err
	}
	for _, l := range []struct {
		key   string
		list  *[]string
		given []string
	}{
		{"insecure-registries", &c.InsecureRegistries, o.Engine.InsecureRegistries},
		{"registry-mirrors", &c.RegistryMirrors, o.Engine.RegistryMirrors},
		{"labels", &c.Labels, o.Engine.Labels},
	} {
		if l.given != nil && !fresh[l.key] { // else an --engine-opt has begun the list
			*l.list = nil
		}
		*l.list = append(*l.list, nonEmpty(l.given)...)
	}
	if p := "provider=" + driver; !slices.Contains(c.Labels, p) {
		c.Labels = append(c.Labels, p)
	}
	if o.StorageDriver {
		c.StorageDriver = o.Engine.StorageDriver
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("the engine's options: %w", err)
	}
	return nil
}

// resetEngineOptions sets options anew: each that is named loses what it had, and one with an empty value keeps its default. It
// returns the keys that were named.
func resetEngineOptions(c *config.Config, opts []string, anywhere bool) (fresh map[string]bool, err error) {
	fresh = map[string]bool{}
	for _, opt := range opts {
		name, value, given := strings.Cut(strings.TrimLeft(opt, "-"), "=")
		field, err := engineField(c, name)
		if err != nil {
			return nil, fmt.Errorf("--engine-opt %s: %w", opt, err)
		}
		key := configKey(name)
		if key == "data-root" && !anywhere && value != c.DataRoot {
			return nil, fmt.Errorf("--engine-opt %s: the engine would not find its containers and images any more", opt)
		}
		if !fresh[key] {
			field.SetZero()
			fresh[key] = true
		}
		if given && value == "" {
			continue
		}
		if err := setEngineOption(c, opt); err != nil {
			return nil, fmt.Errorf("--engine-opt %s: %w", opt, err)
		}
	}
	return fresh, nil
}

func nonEmpty(list []string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// apply records settings and has the machine follow.
func (w *work) apply(ctx context.Context, s settings) error {
	if err := w.record(s); err != nil {
		return err
	}
	return w.fail(w.provision(ctx))
}

func (w *work) record(s settings) error {
	if err := writeEngineEnv(w.lock.Dir(), string(s.env)); err != nil {
		return err
	}
	w.rec.Engine, w.rec.SANs = s.engine, s.sans
	w.host.EngineConfig = canonical(s.engine)
	return nil
}

// putBack returns to the settings that worked. What the user has interrupted stays for the next provision to finish.
func (w *work) putBack(ctx context.Context, old settings, why error) error {
	if ctx.Err() != nil {
		return why
	}
	if !w.touched {
		w.rec.Error = ""
		return errors.Join(why, w.record(old), w.put(old.phase))
	}
	w.m.Report.Note(w.rec.Name, "The engine does not work with the new options; the old ones are put back.")
	if err := w.apply(ctx, old); err != nil {
		return errors.Join(why, fmt.Errorf("putting the old options back: %w", err))
	}
	return fmt.Errorf("%w\nthe old options are back", why)
}
