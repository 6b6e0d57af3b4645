package mirror

import (
	"context"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// Degraded is what somebody has switched off at run time. The zero value is
// nothing. It outlives a Reload.
type Degraded struct {
	Offline     string // who switched it so, until when and why; "": things are fetched
	NoLookAhead bool
}

// Degrade brings d into force. Fetches under way end as they would have.
func (m *Mirror) Degrade(d Degraded) {
	m.degraded.Store(&d)
	m.missing.InvalidateAll() // other sources may say otherwise
	if m.aheadNow() > 0 {
		return
	}
	// Once it is switched back, what waits is no longer ahead of anybody.
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.ahead.lanes {
		lane := &m.ahead.lanes[i]
		for _, t := range lane.waiting {
			delete(m.ahead.known, t.req)
		}
		lane.waiting = nil
	}
}

// An OfflineError says that something is not at hand, and may not be fetched
// since somebody has switched Sluice offline. It says nothing of whether it exists.
type OfflineError struct {
	Request goproxy.Request // zero for what is no module file
	By      string          // who did, until when and why
}

func (e *OfflineError) Error() string {
	text := "switched offline " + e.By
	if e.Request.Kind != 0 {
		text = e.Request.String() + " is not in the store, and Sluice was " + text
	}
	return text
}

// offline is an *OfflineError for req; nil where things are fetched.
func (m *Mirror) offline(req goproxy.Request) error {
	if d := m.degraded.Load(); d != nil && d.Offline != "" {
		return &OfflineError{req, d.Offline}
	}
	return nil
}

// aheadNow is how many files may be fetched ahead at once just now.
func (m *Mirror) aheadNow() int {
	if d := m.degraded.Load(); d != nil && (d.NoLookAhead || d.Offline != "") {
		return 0
	}
	return m.settings.Load().LookAhead
}

// A recent list remembers whose zips were asked for last.
type recent struct {
	mu   sync.Mutex // guards the following
	mods []module.Version
}

const maxRecent = 16

func (r *recent) used(mod module.Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.mods); n > 0 && r.mods[n-1] == mod {
		return
	}
	r.mods = append(slices.DeleteFunc(r.mods, func(m module.Version) bool { return m == mod }), mod)
	if len(r.mods) > maxRecent {
		r.mods = slices.Delete(r.mods, 0, 1)
	}
}

const (
	// recentWalk is how much of the store is looked through for what was used
	// last, where this process has not seen it.
	recentWalk = 2 * time.Second
	// smallSample is the largest zip that is worth downloading to try a source.
	smallSample = 1 << 20
)

// Samples picks files to try a source with: .info and .mod of up to n of the
// module versions that were used last, and the smallest of their zips unless
// none is small. ok says which modules are of use.
func (m *Mirror) Samples(ctx context.Context, n int, ok func(path string) bool) []goproxy.Request {
	m.recent.mu.Lock()
	mods := slices.Clone(m.recent.mods)
	m.recent.mu.Unlock()
	slices.Reverse(mods)
	mods = slices.DeleteFunc(mods, func(mod module.Version) bool { return !ok(mod.Path) })
	if len(mods) == 0 {
		mods = m.newest(ctx, n, ok)
	}
	mods = mods[:min(n, len(mods))]
	var reqs []goproxy.Request
	var zip goproxy.Request
	least := int64(smallSample) + 1
	for _, mod := range mods {
		for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod} {
			reqs = append(reqs, goproxy.Request{Kind: k, Module: mod})
		}
		req := goproxy.Request{Kind: goproxy.Zip, Module: mod}
		if rec, err := m.c.Store.Record(req); err == nil && rec.Size < least {
			zip, least = req, rec.Size
		}
	}
	if zip.Kind != 0 {
		reqs = append(reqs, zip)
	}
	return reqs
}

// newest lists the module versions whose zips came into the store last, as far
// as can be seen in a short time.
func (m *Mirror) newest(ctx context.Context, n int, ok func(path string) bool) (mods []module.Version) {
	type seen struct {
		mod module.Version
		at  time.Time
	}
	var list []seen
	end := time.Now().Add(recentWalk)
	m.c.Store.Walk(ctx, func(req goproxy.Request, err error) error {
		if time.Now().After(end) {
			return fs.SkipAll
		}
		if err != nil || req.Kind != goproxy.Zip || !ok(req.Module.Path) {
			return nil
		}
		if rec, err := m.c.Store.Record(req); err == nil {
			list = append(list, seen{req.Module, rec.Time})
			slices.SortFunc(list, func(a, b seen) int { return b.at.Compare(a.at) })
			list = list[:min(n, len(list))]
		}
		return nil
	})
	for _, s := range list {
		mods = append(mods, s.mod)
	}
	return mods
}

// onlyKey stands for who alone is asked: an *upstream.Chain, an upstream.Source for
// a Route's Local, or cold for the route's own chain.
type onlyKey struct{}

type coldKey struct{}

// TryAt fetches a file anew from one link of the chain alone, verifies it, and
// keeps nothing.
func (m *Mirror) TryAt(ctx context.Context, link upstream.Link, health *upstream.Health, req goproxy.Request) TraceResult {
	only := &upstream.Chain{Links: []upstream.Link{link}, Health: health}
	return m.trace(context.WithValue(ctx, onlyKey{}, only), req, true)
}

// routeFor is the route of a request. Where ctx names the only ones to be asked,
// it leads to them alone.
func (m *Mirror) routeFor(ctx context.Context, path string) Route {
	r := m.Route(path)
	switch only := ctx.Value(onlyKey{}).(type) {
	case *upstream.Chain:
		r.Chain, r.Local = only, nil
	case upstream.Source:
		r.Chain, r.Local = nil, only
	case coldKey:
		r.Local = nil
	}
	return r
}
