package mirror

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// A clientModule is a module version as one client asked for it.
type clientModule struct {
	client string
	mod    module.Version
}

// lookAhead fetches what the request that was just answered makes likely.
//
// The go command asks for .info, then .mod, then .zip of a version it downloads,
// and for the .mod of every requirement of an unpruned module. An .info alone
// may be no more than a look at what is new (go list -m -u), so it brings the
// .mod only; the .zip is fetched ahead for a client that has had the .mod of the
// same version before.
func (m *Mirror) lookAhead(req goproxy.Request, res *Result, client string) {
	if m.settings.Load().LookAhead == 0 || !req.Immutable() {
		return
	}
	switch req.Kind {
	case goproxy.Info:
		next := goproxy.Mod
		if _, ok := m.asked.GetIfPresent(clientModule{client, req.Module}); ok {
			next = goproxy.Zip
		}
		m.fetchAhead(req.With(next))
	case goproxy.Mod:
		m.asked.Set(clientModule{client, req.Module}, time.Now())
		reqs, goVersion := goproxy.Requirements(res.Bytes)
		// From go 1.17 on the go command prunes the graph here.
		if len(res.Bytes) > 0 && (goVersion == "" || semver.Compare("v"+goVersion, "v1.17") < 0) {
			for _, r := range reqs {
				m.fetchAhead(goproxy.Request{Kind: goproxy.Mod, Module: r})
			}
		}
	}
}

// fetchAhead fetches req in the background, if there is room for it. Version
// control is too dear to be asked on a guess.
func (m *Mirror) fetchAhead(req goproxy.Request) {
	links := m.Route(req.Module.Path).Chain.Links
	if len(links) == 0 || links[0].Source.Kind() == upstream.Direct || links[0].Source.Kind() == upstream.Off {
		return
	}
	if _, err := m.c.Store.Record(req); err == nil || m.absent(req) != nil {
		return
	}
	select {
	case m.ahead <- struct{}{}:
	default:
		m.metrics.ahead.WithLabelValues("dropped").Inc()
		return
	}
	m.bg.Go(func() {
		defer func() { <-m.ahead }()
		for m.ctx.Err() == nil {
			// The place in the queue is held; how many of those run at once is the
			// setting's.
			if m.aheadRun.acquire(m.ctx, m.settings.Load().LookAhead) {
				break
			}
		}
		defer m.aheadRun.release()
		if m.ctx.Err() != nil {
			return
		}
		res, err := m.artifact(m.ctx, req, Options{})
		outcome := "fetched"
		if err != nil {
			outcome = "failed"
			if errors.Is(err, fs.ErrNotExist) {
				outcome = "missing"
			}
		} else {
			if res.Hit {
				outcome = "hit"
			}
			res.Close()
		}
		m.metrics.ahead.WithLabelValues(outcome).Inc()
	})
}

// A gate lets a number of holders in at once, which may change while it is used.
type gate struct {
	mu      sync.Mutex
	held    int
	changed chan struct{}
}

// acquire waits for a place among limit holders. It is false if ctx ended, or if
// the limit should be looked up again.
func (g *gate) acquire(ctx context.Context, limit int) bool {
	g.mu.Lock()
	if g.held < max(limit, 1) {
		g.held++
		g.mu.Unlock()
		return true
	}
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	ch := g.changed
	g.mu.Unlock()
	select {
	case <-ch:
	case <-ctx.Done():
		// Counted all the same, so that the holder's release is always right.
		g.mu.Lock()
		g.held++
		g.mu.Unlock()
		return true
	}
	return false
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// A Fetched is one file that Prefetch has dealt with.
type Fetched struct {
	Request goproxy.Request
	Size    int64
	Hit     bool
	Err     error
}

// Prefetch fetches files into the store, parallel at a time, and tells each as
// it is done. It returns when all are done or ctx ends. Files that cannot be had
// are told and passed over.
func (m *Mirror) Prefetch(ctx context.Context, reqs []goproxy.Request, parallel int, done func(Fetched)) {
	ch := make(chan goproxy.Request)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(parallel, len(reqs)) {
		wg.Go(func() {
			for req := range ch {
				f := Fetched{Request: req}
				res, err := m.artifact(ctx, req, Options{})
				if err == nil {
					f.Hit, f.Size = res.Hit, res.Size
					if res.Stream != nil {
						f.Size, err = io.Copy(io.Discard, res.Stream)
					}
					res.Close()
				}
				f.Err = err
				mu.Lock()
				done(f)
				mu.Unlock()
			}
		})
	}
feed:
	for _, r := range reqs {
		select {
		case ch <- r:
		case <-ctx.Done():
			break feed
		}
	}
	close(ch)
	wg.Wait()
}
