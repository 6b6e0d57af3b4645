package mirror

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// A Client is one address that asks, for look-ahead. It is safe for concurrent
// use; a nil Client causes no look-ahead.
type Client struct {
	m *Mirror

	mu    sync.Mutex // guards the following; never held across I/O
	build build
}

const (
	// maxClients bounds the clients that are told apart.
	maxClients = 4096
	// maxQueued bounds the files that wait to be fetched ahead: a queue longer than
	// that is no longer ahead.
	maxQueued = 8192
	// maxUnasked is how many bytes of zips may be fetched ahead for one client that
	// it has not asked for yet.
	maxUnasked = 512 << 20
	// aheadMemory is how long it is remembered whose requirements were fetched
	// ahead: the length of a build, generously.
	aheadMemory = 10 * time.Minute
)

// Client is who asks from an address. All that have the same share one.
func (m *Mirror) Client(addr string) *Client {
	if addr == "" {
		return nil
	}
	if c, ok := m.clients.GetIfPresent(addr); ok {
		return c
	}
	c, _ := m.clients.SetIfAbsent(addr, &Client{m: m, build: build{below: m.expanded.Has}})
	return c
}

// saw takes note of a request that was answered, and has fetched what it makes
// likely. data is its content if that is at hand; cold says that it was not before,
// and from where it came from.
func (c *Client) saw(now time.Time, req goproxy.Request, from string, data []byte, cold bool) {
	c.mu.Lock()
	wants := c.build.saw(now, req, data, cold)
	c.mu.Unlock()
	if req.Kind == goproxy.Zip {
		c.m.goOn() // its budget may have room again
	}
	if len(wants) > 0 && c.m.aheadNow() > 0 && !c.m.fromDirect(req, from) {
		c.m.fetchAhead(c, wants)
	}
}

// foresaw is saw for a request that has not been answered, if it is for an .info
// or a .zip of what the client has the .mod of: that exists, and what follows need
// not wait.
func (c *Client) foresaw(now time.Time, req goproxy.Request) bool {
	c.mu.Lock()
	known := req.Kind != goproxy.Mod && c.build.known[req.Module.Path] == req.Module.Version
	c.mu.Unlock()
	if known {
		_, err := c.m.c.Store.Record(req)
		c.saw(now, req, "", nil, err != nil)
	}
	return known
}

// An aheadQueue is what waits to be fetched ahead, in order: small files and zips
// apart, so that neither waits for the other.
type aheadQueue struct {
	known map[goproxy.Request]bool // those waiting and those being fetched
	lanes [2]aheadLane
}

type aheadLane struct {
	waiting []aheadTask
	workers int
}

type aheadTask struct {
	want
	c *Client
}

const (
	laneSmall = iota
	laneZips
)

// share is how many of n files may be fetched at once in a lane: of the zips, which
// share the line with what clients wait for, no more than three quarters.
func share(lane, n int) int {
	if lane == laneZips {
		return (3*n + 3) / 4
	}
	return n
}

func laneOf(req goproxy.Request) int {
	if req.Kind == goproxy.Zip {
		return laneZips
	}
	return laneSmall
}

// fetchAhead fetches what is wanted in the background, as far as there is room.
func (m *Mirror) fetchAhead(c *Client, wants []want) {
	dropped := 0
	m.mu.Lock()
	q := &m.ahead
	if q.known == nil {
		q.known = map[goproxy.Request]bool{}
	}
	for _, w := range wants {
		lane := &q.lanes[laneOf(w.req)]
		switch {
		case w.data == nil && q.known[w.req]:
			continue
		case len(lane.waiting) >= maxQueued:
			dropped++
			continue
		}
		if w.data == nil {
			q.known[w.req] = true
		}
		lane.waiting = append(lane.waiting, aheadTask{w, c})
	}
	m.mu.Unlock()
	m.metrics.ahead.WithLabelValues("dropped").Add(float64(dropped))
	m.goOn()
}

// goOn starts as many workers as there is work for.
func (m *Mirror) goOn() {
	n := m.aheadNow()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.ahead.lanes {
		lane := &m.ahead.lanes[i]
		for free := len(lane.waiting); free > 0 && lane.workers < share(i, n); free-- {
			if !m.background("look-ahead", func() { m.runAhead(i) }) {
				return
			}
			lane.workers++
		}
	}
}

// runAhead does what waits in a lane until nothing may be done, or there are more
// that do so than the settings want.
func (m *Mirror) runAhead(i int) {
	lane := &m.ahead.lanes[i]
	next := func(done *aheadTask) (aheadTask, bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if done != nil && done.data == nil {
			delete(m.ahead.known, done.req)
		}
		if m.ctx.Err() == nil && lane.workers <= share(i, m.aheadNow()) {
			for n, t := range lane.waiting {
				if i == laneZips && t.c.full() {
					continue
				}
				lane.waiting = slices.Delete(lane.waiting, n, n+1)
				return t, true
			}
		}
		lane.workers--
		return aheadTask{}, false
	}
	for t, ok := next(nil); ok; t, ok = next(&t) {
		func() {
			defer func() {
				if p := recover(); p != nil { // a bug, which background tells
					next(&t)
					m.mu.Lock()
					lane.workers--
					m.mu.Unlock()
					panic(p)
				}
			}()
			m.doAhead(t)
		}()
	}
}

// full reports whether enough was fetched ahead for c that it did not ask for.
func (c *Client) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.build.unasked >= maxUnasked && time.Since(c.build.last) <= buildIdle
}

// doAhead does one thing ahead, if it is still wanted, and goes on from there.
func (m *Mirror) doAhead(t aheadTask) {
	data := t.data
	if data == nil {
		t.c.mu.Lock()
		wanted := time.Since(t.c.build.last) <= buildIdle && (!t.root || t.c.build.stands(t.req.Module))
		t.c.mu.Unlock()
		if !wanted {
			m.metrics.ahead.WithLabelValues("cancelled").Inc()
			return
		}
		if t.deep && !m.expanded.Add(t.req.Module) {
			return
		}
		var ok bool
		if data, ok = m.getAhead(t); !ok || t.only || t.req.Kind != goproxy.Mod {
			return
		}
	}
	// From go 1.17 on the go command prunes the graph here, unless it is below a
	// module of before.
	reqs, goVersion := goproxy.Requirements(data)
	var wants []want
	if t.deep || goVersion == "" || semver.Compare("v"+goVersion, "v1.17") < 0 {
		for _, r := range reqs {
			if !m.expanded.Has(r) {
				wants = append(wants, want{req: goproxy.Request{Kind: goproxy.Mod, Module: r}, deep: true})
			}
		}
	} else if t.root && !m.Route(t.req.Module.Path).Chain.Near(t.req) {
		t.c.mu.Lock()
		reqs = t.c.build.names(reqs)
		t.c.mu.Unlock()
		for _, r := range reqs {
			wants = append(wants, want{req: goproxy.Request{Kind: goproxy.Mod, Module: r}, root: true})
		}
	}
	m.fetchAhead(t.c, wants)
}

// getAhead fetches a file unless it is there. Of a .mod it returns the content, so
// that one can go on from it; ok is false where there is nothing to go on from.
func (m *Mirror) getAhead(t aheadTask) (data []byte, ok bool) {
	if !m.mayAhead(t.req) || m.absent(t.req) != nil {
		return nil, false
	}
	if t.req.Kind != goproxy.Mod {
		if _, err := m.c.Store.Record(t.req); err == nil {
			return nil, false
		}
	}
	// The whole of it: a zip that is still on its way is one that is fetched.
	res, err := m.artifact(m.ctx, t.req, Options{Whole: true})
	outcome := "fetched"
	switch {
	case err == nil && res.Hit:
		outcome = "hit"
	case errors.Is(err, fs.ErrNotExist):
		outcome = "missing"
	case err != nil:
		outcome = "failed"
	}
	m.metrics.ahead.WithLabelValues(outcome).Inc()
	if err != nil {
		return nil, false
	}
	defer res.Close()
	if t.req.Kind == goproxy.Zip && !res.Hit {
		t.c.mu.Lock()
		t.c.build.has(t.req.Module, res.Size)
		t.c.mu.Unlock()
	}
	return res.Bytes, res.Bytes != nil && !m.fromDirect(t.req, res.Source)
}

// fromDirect reports whether something came from version control. What belongs to
// it would have to come from there, too.
func (m *Mirror) fromDirect(req goproxy.Request, from string) bool {
	return slices.ContainsFunc(m.Route(req.Module.Path).Chain.Links, func(l upstream.Link) bool {
		return l.Source.Kind() == upstream.Direct && l.Source.Name() == from
	})
}

// mayAhead reports whether a file may be asked for on a guess. Version control is
// too dear for that: nothing is that would be asked of it first. And a source that
// wants to be left alone is.
func (m *Mirror) mayAhead(req goproxy.Request) bool {
	chain := m.Route(req.Module.Path).Chain
	if k := chain.Links[0].Source.Kind(); k == upstream.Direct || k == upstream.Off {
		return false
	}
	return !chain.Resting(req)
}
