package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

// gatherGrace is how long, after the first good answer, the others are waited
// for that usually take no longer than that.
const gatherGrace = time.Second

// Gather asks every source of the chain's first run, those that stand in for one
// another when one is in trouble, and gives each answer to accept, one at a time.
// Sources that are in trouble, or much later than the first, are left out. It is
// for answers that can be merged. The error is nil if accept took at least one
// answer, and otherwise that of Fetch, which it falls back on.
func (c *Chain) Gather(ctx context.Context, req goproxy.Request, accept Accept) ([]Attempt, error) {
	w := &walk{c: c, h: c.Health, req: req}
	w.steps = c.steps(req)
	var run []Source
	for i, s := range w.steps {
		if !isMirror(s.src) {
			break
		}
		if w.h == nil || !w.h.look(s.src, req).avoid {
			run = append(run, s.src)
		}
		if !w.mayPass(i) || s.comma { // whoever stands before a comma may refuse
			break
		}
	}
	if len(run) < 2 || w.h == nil {
		return c.Fetch(ctx, req, accept)
	}
	gctx, cancel := context.WithCancelCause(ctx)
	defer cancel(ErrOutdone)
	type end struct {
		Attempt
		i   int // in run
		ans *Answer
	}
	ends := make(chan end, len(run))
	for i, src := range run {
		w.h.began(src, req)
		// It ends with gctx, and has nothing open then: what is small is read whole.
		go func() {
			e := end{Attempt: Attempt{Source: src.Name(), Kind: src.Kind(), Start: time.Now()}, i: i}
			func() {
				defer func() {
					if p := recover(); p != nil {
						e.Err = &Error{Source: src.Name(), Stage: StageLocal, Err: fmt.Errorf("a bug: %v", p)}
					}
				}()
				e.ans, e.Err = w.get(gctx, src)
			}()
			e.Took = time.Since(e.Start)
			ends <- e
		}()
	}
	var attempts []Attempt
	var grace <-chan time.Time
	good, left := false, len(run)
	over := make([]bool, len(run))
	defer func() {
		for i, src := range run {
			if !over[i] {
				w.h.ended(src, req, ending{left: true})
			}
		}
	}()
	for ; left > 0; left-- {
		select {
		case e := <-ends:
			over[e.i] = true
			src := run[e.i]
			if e.Err == nil {
				e.Err = judge(ctx, src, e.ans, accept)
			}
			if ab, ok := errors.AsType[*abort](e.Err); ok {
				w.h.ended(src, req, ending{took: e.Took, asked: e.Start})
				return attempts, ab.err
			}
			w.h.ended(src, req, ending{err: e.Err, took: e.Took, asked: e.Start, left: ctx.Err() != nil})
			if ctx.Err() != nil {
				return attempts, context.Cause(ctx)
			}
			attempts = append(attempts, e.Attempt)
			if e.Err == nil && !good {
				good = true
				t := time.NewTimer(gatherGrace)
				defer t.Stop()
				grace = t.C
			}
		case <-grace:
			left = 1
		case <-ctx.Done():
			return attempts, context.Cause(ctx)
		}
	}
	if !good {
		return c.Fetch(ctx, req, accept)
	}
	// The last attempt is taken for the one that succeeded.
	for i, a := range attempts {
		if a.Err == nil {
			attempts[i], attempts[len(attempts)-1] = attempts[len(attempts)-1], a
			break
		}
	}
	return attempts, nil
}

// Compare takes note of which of a module's versions each source has, by name, of
// all that any of them has. A source that has none of them is no mirror of the
// module, and nothing is noted of it.
func (h *Health) Compare(path string, has map[string][]string) {
	all := map[string]bool{}
	for _, versions := range has {
		for _, v := range versions {
			all[v] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, versions := range has {
		if len(versions) == 0 {
			continue
		}
		s := h.named(name)
		mine := map[string]bool{}
		for _, v := range versions {
			mine[v] = true
			delete(s.lacks, module.Version{Path: path, Version: v})
		}
		for v := range all {
			m := module.Version{Path: path, Version: v}
			if !mine[v] {
				s.lack(m, time.Time{})
			}
		}
	}
}

// lack notes a version that others have; asked is when the source said so to a
// question for it, or zero.
func (s *sourceHealth) lack(m module.Version, asked time.Time) {
	g, ok := s.lacks[m]
	if !ok {
		if len(s.lacks) >= maxNoted {
			if asked.IsZero() {
				return
			}
			for old := range s.lacks { // any of them makes room: that spares a question, no more
				delete(s.lacks, old)
				break
			}
		}
		g.since = time.Now()
	}
	if !asked.IsZero() {
		g.asked = asked
	}
	s.lacks[m] = g
}

// A gap is a version that a source lacks and others have.
type gap struct {
	since time.Time // we know it
	asked time.Time // it last said so itself; zero: it was missing in its list
}
