// Package drill rehearses trouble: a named fault before one source, around one
// run of a command, and a report of what the command saw of it.
//
// The fault stands at a loopback port that nobody else knows, in this process,
// only while the run lasts; so whatever ends the run or the process ends the
// fault. What may go wrong is named in package faults; how the command is
// started, and what stands between it and the port, is the caller's business.
package drill

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/faults"
)

// A Plan is a fault before a source.
type Plan struct {
	Fault  faults.Fault  // the zero value: none
	For    time.Duration // the fault is taken out so long after the start of a run; 0: it is not
	Source http.Handler  // the source as it is
	Name   string        // its name, which stands in a report where the client saw the port
}

// An Outcome is what came of one run of a command.
type Outcome struct {
	Exit   int
	Took   time.Duration
	Said   []string // the last lines of its standard error
	Logged []string // what Sluice logged meanwhile, if it was between
}

// A Run is one run of the command in a report.
type Run struct {
	Name    string         `json:"name"` // Healthy, Bare or Through
	Worked  bool           `json:"worked"`
	Exit    int            `json:"exit"`
	Seconds float64        `json:"seconds"`
	Lost    float64        `json:"lost_seconds"`          // against the healthy run; negative if it took less
	Met     map[string]int `json:"met,omitempty"`         // connections and requests that met the fault, by kind
	Ended   bool           `json:"fault_ended,omitempty"` // the fault was taken out while the command ran
	Said    []string       `json:"said,omitempty"`        // the last lines of a command that failed
	Logged  []string       `json:"logged,omitempty"`
}

// The runs of a report, in their order.
const (
	Healthy = "healthy" // without the fault
	Bare    = "bare"    // with it, nothing between the command and the sources
	Through = "sluice"  // with it, and Sluice between
)

var errOver = errors.New("the run is over")

// Play puts p's fault in, calls act with the URL at which a client meets it, and
// takes it away when act returns. An error is act's, or says why the fault could
// not stand. When ctx ends it returns ctx's cause as soon as act has returned.
func Play(ctx context.Context, p Plan, name string, act func(ctx context.Context, url string) (Outcome, error)) (Run, error) {
	met := &counter{n: map[string]int{}}
	var sw faults.Switch
	if p.Fault.Name != "" {
		sw.Set(p.Fault)
	}
	front := &faults.Front{Source: p.Source, Fault: &sw, Met: met.add}
	ln, err := front.Listen()
	if err != nil {
		return Run{}, err
	}
	ctx, end := context.WithCancelCause(ctx)
	served := make(chan error, 1)
	go func() {
		err := front.Serve(ctx, ln)
		end(err) // if it ends before its time, so does all else
		served <- err
	}()
	var over atomic.Bool // the fault has been taken out
	if p.For > 0 && p.Fault.Name != "" {
		stop := time.AfterFunc(p.For, func() {
			over.Store(true)
			sw.Clear()
		})
		defer stop.Stop()
	}
	url := p.Fault.URL(ln.Addr())
	out, err := act(ctx, url)
	ended := over.Load()
	end(errOver)
	if serr := <-served; err == nil && !errors.Is(serr, errOver) {
		err = serr
	}
	if err != nil {
		return Run{}, err
	}
	r := Run{
		Name: name, Worked: out.Exit == 0, Exit: out.Exit, Seconds: out.Took.Seconds(),
		Met: met.all(), Ended: ended, Logged: inPlaceOf(url, p.Name, out.Logged),
	}
	if !r.Worked {
		r.Said = inPlaceOf(url, p.Name, out.Said)
	}
	return r, nil
}

func inPlaceOf(url, name string, lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, strings.ReplaceAll(l, url, name))
	}
	return out
}

// A counter counts by kind.
type counter struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (c *counter) add(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[kind]++
}

func (c *counter) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

// A Tail keeps the last lines written to it. The zero value is ready. It is safe
// for concurrent use.
type Tail struct {
	mu    sync.Mutex // guards the following
	lines []string
	part  []byte // of a line that has not ended
}

const (
	tailLines = 8
	tailLine  = 4 << 10 // bytes of one line
)

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range p {
		if b == '\n' || b == '\r' {
			t.end()
		} else if len(t.part) < tailLine {
			t.part = append(t.part, b)
		}
	}
	return len(p), nil
}

func (t *Tail) end() {
	if len(strings.TrimSpace(string(t.part))) > 0 {
		t.lines = append(t.lines, string(t.part))
		t.lines = t.lines[max(0, len(t.lines)-tailLines):]
	}
	t.part = t.part[:0]
}

// Lines are the last ones that are not blank, at most eight.
func (t *Tail) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
	return append([]string(nil), t.lines...)
}
