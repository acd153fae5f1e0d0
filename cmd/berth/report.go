package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/getberth/berth/machine"
)

// reporter tells what happens, one line for each step with its time; on a terminal the line of a step that runs is alive. When
// several machines are worked on, a terminal shows one live line for each, and keeps only what is worth keeping: notes and failures.
type reporter struct {
	out   io.Writer
	quiet bool
	live  bool // out is a terminal
	size  func() (width, height int)
	now   func() time.Time

	mu      sync.Mutex // guards the rest, and out
	several bool       // more than one machine is worked on: lines name theirs
	running []*step
	latest  []*step // of each machine, in the order in which they began, when several are worked on at a terminal
	shown   int     // lines of the spinner on the screen
	stop    context.CancelFunc
}

type step struct {
	machine, name string
	began         time.Time
	took          time.Duration // when it is over
}

func (a *app) reporter() *reporter {
	return &reporter{out: a.out, quiet: a.global.quiet, live: isTerminal(a.out), size: func() (int, int) { return terminalSize(a.out) }, now: a.now}
}

// terminalSize is in cells; it guesses when the terminal does not tell.
func terminalSize(stream any) (width, height int) {
	if f, ok := stream.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 1 {
			return w, h
		}
	}
	return 80, 24
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
	if r.live && r.several {
		r.replace(s)
	}
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
	s.took = r.now().Sub(s.began)
	outcome := ""
	if err != nil {
		outcome = "  failed"
	}
	if err != nil || !r.live || !r.several {
		r.line(fmt.Sprintf("%s%s  %s%s", r.prefix(s.machine), s.name, seconds(s.took), outcome))
	}
	if len(r.running) == 0 && r.stop != nil {
		r.clear()
		r.stop()
		r.stop = nil
	}
}

// replace gives a machine's live line to its newest step. r.mu is held.
func (r *reporter) replace(s *step) {
	for i, old := range r.latest {
		if old.machine == s.machine {
			r.latest[i] = s
			return
		}
	}
	r.latest = append(r.latest, s)
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
	for ; r.shown > 0; r.shown-- {
		fmt.Fprint(r.out, "\r\x1b[K")
		if r.shown > 1 {
			fmt.Fprint(r.out, "\x1b[A")
		}
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
	r.clear()
	lines := r.liveLines(`|/-\`[i%4])
	fmt.Fprint(r.out, strings.Join(lines, "\n"))
	r.shown = len(lines)
}

// liveLines are those of the steps that run, as many as the terminal has room for; none is so long that it would be broken.
func (r *reporter) liveLines(mark byte) (lines []string) {
	if len(r.latest) == 0 {
		s := r.running[0]
		return []string{fmt.Sprintf("%c %s%s  %s", mark, r.prefix(s.machine), s.name, seconds(r.now().Sub(s.began)))}
	}
	width, height := r.size()
	for i, s := range r.latest {
		if left := len(r.latest) - i; len(lines) == height-2 && left > 1 {
			return append(lines, fmt.Sprintf("  … and %d more", left))
		}
		took, m := s.took, byte(' ')
		if took == 0 {
			took, m = r.now().Sub(s.began), mark
		}
		line := []rune(fmt.Sprintf("%c %s%s  %s", m, r.prefix(s.machine), s.name, seconds(took)))
		lines = append(lines, string(line[:min(len(line), width-1)]))
	}
	return lines
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
