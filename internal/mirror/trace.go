package mirror

import (
	"context"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A Step is one decision on the way of a request: who took it, what it was, why,
// and how long it took.
type Step struct {
	Request string        `json:"request"`
	By      string        `json:"by"` // the part of Sluice: mirror, store, upstream, checksum
	What    string        `json:"what"`
	Detail  string        `json:"detail,omitempty"`
	At      time.Duration `json:"at"`   // since the trace began
	Took    time.Duration `json:"took"` // 0 where it does not matter
}

// A notebook collects the steps of a trace. It travels in the context, so that
// what is done in passing for others is noted too.
type notebook struct {
	start   time.Time
	request string
	mu      *sync.Mutex
	steps   *[]Step
}

type notebookKey struct{}

func note(ctx context.Context, by, what, detail string) { noteTook(ctx, by, what, detail, 0) }

func noteTook(ctx context.Context, by, what, detail string, took time.Duration) {
	nb, ok := ctx.Value(notebookKey{}).(*notebook)
	if !ok {
		return
	}
	nb.mu.Lock()
	defer nb.mu.Unlock()
	*nb.steps = append(*nb.steps, Step{nb.request, by, what, detail, time.Since(nb.start), took})
}

// A TraceResult is what a request would have been answered with.
type TraceResult struct {
	Request string `json:"request"`
	OK      bool   `json:"ok"`
	Size    int64  `json:"size,omitempty"`
	Source  string `json:"source,omitempty"`
	Hit     bool   `json:"hit,omitempty"`
	Err     error  `json:"-"`
}

// Trace walks the way of the requests with a notebook, and stores nothing. With
// cold it asks the sources even for what the store, or a module cache, has.
func (m *Mirror) Trace(ctx context.Context, reqs []goproxy.Request, cold bool) ([]Step, []TraceResult) {
	var mu sync.Mutex
	var steps []Step
	var results []TraceResult
	start := time.Now()
	for _, req := range reqs {
		nb := &notebook{start: start, request: req.String(), mu: &mu, steps: &steps}
		results = append(results, m.trace(context.WithValue(ctx, notebookKey{}, nb), req, cold))
	}
	mu.Lock()
	defer mu.Unlock()
	return steps, results
}

func (m *Mirror) trace(ctx context.Context, req goproxy.Request, cold bool) TraceResult {
	tr := TraceResult{Request: req.String()}
	done := func(res *Result, err error) TraceResult {
		if err != nil {
			tr.Err = err
			return tr
		}
		defer res.Close()
		tr.OK, tr.Size, tr.Source, tr.Hit = true, res.Size, res.Source, res.Hit
		return tr
	}
	if !req.Immutable() {
		if old := m.last(req); old != nil && !cold {
			note(ctx, "mirror", "answer at hand", "from "+old.source+", "+time.Since(old.at).Round(time.Second).String()+" old")
		}
	} else if !cold {
		res, err := m.stored(ctx, req, false)
		if err == nil {
			note(ctx, "store", "hit", res.Source)
			return done(res, nil)
		}
		note(ctx, "store", "miss", err.Error())
	}
	if cold && ctx.Value(onlyKey{}) == nil {
		ctx = context.WithValue(ctx, onlyKey{}, coldKey{})
	}
	// A flight of its own, which nobody joins and which keeps nothing.
	f := newFlight()
	defer f.finish()
	switch {
	case !req.Immutable():
		m.refreshOnly(ctx, req, f, nil)
	case req.Kind == goproxy.Zip:
		m.fetchZip(ctx, req, f, false)
	default:
		m.fetchSmall(ctx, req, f, false)
	}
	switch {
	case f.err != nil:
		return done(nil, f.err)
	case f.small != nil:
		return done(f.small.share(), nil)
	default:
		return done(&Result{Size: f.spool.rec.Size, Source: f.spool.rec.Source}, nil)
	}
}
