package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/getberth/berth/machine"
)

// reporter tells what happens, one line for each step with its time; on a terminal the line of a step that runs is alive.
type reporter struct {
	out   io.Writer
	quiet bool
	live  bool // out is a terminal
	now   func() time.Time

	mu      sync.Mutex // guards the rest, and out
	several bool       // more than one machine is worked on: lines name theirs
	running []*step
	shown   bool // a spinner's line is on the screen
	stop    context.CancelFunc
}

type step struct {
	machine, name string
	began         time.Time
}

func (a *app) reporter() *reporter {
	return &reporter{out: a.out, quiet: a.global.quiet, live: isTerminal(a.out), now: a.now}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

var _ machine.Reporter = (*reporter)(nil)

// Step implements machine.Reporter.
func (r *reporter) Step(name, what string) func(error) {
	s := &step{machine: name, name: what, began: r.now()}
	if r.quiet {
		return func(error) {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = append(r.running, s)
	r.spin()
	return func(err error) { r.end(s, err) }
}

func (r *reporter) end(s *step, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.running {
		if other == s {
			r.running = append(r.running[:i:i], r.running[i+1:]...)
			break
		}
	}
	outcome := ""
	if err != nil {
		outcome = "  failed"
	}
	r.line(fmt.Sprintf("%s%s  %s%s", r.prefix(s.machine), s.name, seconds(r.now().Sub(s.began)), outcome))
	if len(r.running) == 0 && r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// Note implements machine.Reporter.
func (r *reporter) Note(name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.quiet {
		r.line(r.prefix(name) + text)
	}
}

func (r *reporter) prefix(name string) string {
	if !r.several {
		return ""
	}
	return "(" + name + ") "
}

// line prints above the spinner. r.mu is held.
func (r *reporter) line(text string) {
	r.clear()
	fmt.Fprintln(r.out, text)
}

func (r *reporter) clear() {
	if r.shown {
		fmt.Fprint(r.out, "\r\x1b[K")
		r.shown = false
	}
}

// spinEvery is how often a live line moves.
const spinEvery = 120 * time.Millisecond

// spin keeps the oldest running step in sight until none runs. r.mu is held.
func (r *reporter) spin() {
	if !r.live || r.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		tick := time.NewTicker(spinEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.draw(ctx, i)
			}
		}
	}()
}

func (r *reporter) draw(ctx context.Context, i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil || len(r.running) == 0 {
		return
	}
	s := r.running[0]
	r.clear()
	fmt.Fprintf(r.out, "%c %s%s  %s", `|/-\`[i%4], r.prefix(s.machine), s.name, seconds(r.now().Sub(s.began)))
	r.shown = true
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
