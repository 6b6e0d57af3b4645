package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
)

const (
	watchEvery = 10 * time.Second
	watchLeast = 2 * time.Second // a check asks servers that others use too
	// watchJitter is the share of the interval by which a check may come earlier or
	// later, so that many who watch one source do not ask it all at once.
	watchJitter = 0.1
)

// A watcher makes checks again and again, and tells what changes.
type watcher struct {
	every  time.Duration
	report func(context.Context) (*doctor.Report, error)
	out    io.Writer
	json   bool // one report a line
	// columns is how wide the terminal is that out is shown at; 0 if it is none. At one,
	// the last line is kept current.
	columns func() int

	last  *doctor.Report
	since time.Time // of the last change
}

// watch checks until ctx ends; the exit status is that of the last report.
func (x examination) watch(ctx context.Context, every time.Duration) error {
	w := &watcher{every: every, out: x.e.stdout, json: x.json, columns: x.e.stdoutColumns}
	if x.e.getenv("TERM") == "dumb" {
		w.columns = func() int { return 0 }
	}
	quiet := x
	quiet.json = true // nobody waits for one check
	w.report = quiet.report
	return w.run(ctx)
}

func (w *watcher) run(ctx context.Context) error {
	for {
		begin := time.Now()
		r, err := w.report(ctx)
		if ctx.Err() == nil && err == nil {
			err = w.tell(r, time.Now())
		}
		if ctx.Err() == nil && err != nil {
			w.newline()
			return err
		}
		if ctx.Err() == nil {
			pause := time.Duration(float64(w.every) * (1 - watchJitter + 2*watchJitter*rand.Float64()))
			// A check may take longer than the interval; then it is not made at once again.
			pause = max(pause-time.Since(begin), watchLeast)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
		if ctx.Err() != nil {
			w.newline()
			if w.last == nil {
				return context.Cause(ctx)
			}
			return verdictError(w.last)
		}
	}
}

// tell says what a report has that the last one had not.
func (w *watcher) tell(r *doctor.Report, now time.Time) error {
	first := w.last == nil
	changed := first || !sameNews(w.last, r)
	if changed {
		w.since = now
	}
	w.last = r
	switch columns := w.columns(); {
	case w.json:
		if changed {
			return writeJSONLine(w.out, r)
		}
		return nil
	case columns > 0:
		line := fmt.Sprintf("%s  %s  %s", now.Format(time.TimeOnly), r.Verdict, r.Sentence)
		if !changed {
			line = fmt.Sprintf("%s  %s since %s  %s", now.Format(time.TimeOnly), r.Verdict, w.since.Format(time.TimeOnly), r.Sentence)
		}
		before := "\r\x1b[K"
		if changed && !first {
			before = "\n" // what was stays to be seen
		}
		_, err := fmt.Fprint(w.out, before+cutTo(line, columns-1))
		return err
	case changed:
		_, err := fmt.Fprintf(w.out, "%s  %s  %s\n", now.Format(time.DateTime), r.Verdict, r.Sentence)
		return err
	}
	return nil
}

// newline ends the line that is kept current.
func (w *watcher) newline() {
	if !w.json && w.last != nil && w.columns() > 0 {
		fmt.Fprintln(w.out)
	}
}

// sameNews reports whether two reports have the same verdict and findings. Times, and
// which of several addresses was asked, are no news.
func sameNews(a, b *doctor.Report) bool {
	return a.Verdict == b.Verdict && slices.EqualFunc(a.Findings, b.Findings, func(x, y doctor.Found) bool {
		return x.Code == y.Code && x.Severity == y.Severity && slices.Equal(x.About, y.About)
	})
}

// cutTo is a line that fits into a terminal.
func cutTo(line string, columns int) string {
	line = strings.Join(strings.Fields(finding.OneLine(line, 1000)), " ")
	r := []rune(line)
	if len(r) <= columns {
		return line
	}
	return string(r[:max(columns-1, 0)]) + "…"
}
