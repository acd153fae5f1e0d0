//go:build linux

package container

import "strings"

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what the container's processes get: the engine's variables first, the container's put over them in place.
// HOME is added by the runtime, from the image's accounts.
func environment(hostname string, tty bool, own []string) []string {
	base := []string{defaultPath, "HOSTNAME=" + hostname}
	if tty {
		base = append(base, "TERM=xterm")
	}
	return overrideEnv(base, own)
}

// overrideEnv replaces variables in place and appends new ones; a name without "=" takes the variable away.
func overrideEnv(base, over []string) []string {
	env := append([]string{}, base...)
	at := map[string]int{}
	for i, e := range env {
		at[envName(e)] = i
	}
	for _, e := range over {
		name := envName(e)
		i, known := at[name]
		switch {
		case !strings.Contains(e, "="):
			if known {
				env[i] = ""
				delete(at, name)
			}
		case known:
			env[i] = e
		default:
			at[name] = len(env)
			env = append(env, e)
		}
	}
	kept := env[:0]
	for _, e := range env {
		if e != "" {
			kept = append(kept, e)
		}
	}
	return kept
}
