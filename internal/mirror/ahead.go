package mirror

import (
	"context"
	"errors"
	"io/fs"
	"sync"

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
	if m.aheadNow() <= 0 || !req.Immutable() {
		return
	}
	switch req.Kind {
	case goproxy.Info:
		next := goproxy.Mod
		if m.asked.Has(clientModule{client, req.Module}) {
			next = goproxy.Zip
		}
		m.fetchAhead(req.With(next), res.Source)
	case goproxy.Mod:
		m.asked.Add(clientModule{client, req.Module})
		if first := m.expanded.Add(req.Module); !first || res.Bytes == nil {
			return
		}
		// From go 1.17 on the go command prunes the graph here.
		reqs, goVersion := goproxy.Requirements(res.Bytes)
		if goVersion != "" && semver.Compare("v"+goVersion, "v1.17") >= 0 {
			return
		}
		for _, r := range reqs {
			m.fetchAhead(goproxy.Request{Kind: goproxy.Mod, Module: r}, "")
		}
	}
}

// An aheadQueue is what waits to be fetched ahead, in order.
type aheadQueue struct {
	known   map[goproxy.Request]bool // those waiting and those being fetched
	waiting []goproxy.Request
	workers int
}

// fetchAhead fetches req in the background, if there is room for it. Version
// control is too dear to be asked on a guess: neither for what it is asked first
// for, nor for what belongs to something that came from it.
func (m *Mirror) fetchAhead(req goproxy.Request, from string) {
	for i, link := range m.Route(req.Module.Path).Chain.Links {
		kind := link.Source.Kind()
		if i == 0 && (kind == upstream.Direct || kind == upstream.Off) || kind == upstream.Direct && link.Source.Name() == from {
			return
		}
	}
	if _, err := m.c.Store.Record(req); err == nil || m.absent(req) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q := &m.ahead
	switch {
	case q.known[req]:
		return
	case len(q.waiting) >= maxQueued:
		m.metrics.ahead.WithLabelValues("dropped").Inc()
		return
	}
	if q.known == nil {
		q.known = map[goproxy.Request]bool{}
	}
	q.known[req] = true
	q.waiting = append(q.waiting, req)
	if q.workers < m.aheadNow() && m.background("look-ahead", m.runAhead) {
		q.workers++
	}
}

// runAhead fetches what waits until nothing does, or there are more that do so
// than the settings want.
func (m *Mirror) runAhead() {
	q := &m.ahead
	next := func(done goproxy.Request) (goproxy.Request, bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(q.known, done)
		if len(q.waiting) == 0 || m.ctx.Err() != nil || q.workers > m.aheadNow() {
			q.workers--
			return goproxy.Request{}, false
		}
		req := q.waiting[0]
		q.waiting = q.waiting[1:]
		return req, true
	}
	for req, ok := next(goproxy.Request{}); ok; req, ok = next(req) {
		// The whole of it: a zip that is still on its way is one that is fetched.
		res, err := m.artifact(m.ctx, req, Options{Whole: true})
		outcome := "fetched"
		switch {
		case err == nil && res.Hit:
			outcome = "hit"
		case errors.Is(err, fs.ErrNotExist):
			outcome = "missing"
		case err != nil:
			outcome = "failed"
		}
		if err == nil {
			res.Close()
		}
		m.metrics.ahead.WithLabelValues(outcome).Inc()
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
	var mu sync.Mutex // around done
	for range min(max(parallel, 1), len(reqs)) {
		wg.Go(func() {
			for req := range ch {
				f := Fetched{Request: req}
				res, err := m.artifact(ctx, req, Options{Whole: true})
				if err == nil {
					f.Hit, f.Size = res.Hit, res.Size
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
