package mirror

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// A Warm answer is held in memory, whole, verified, and fit to be given as it is.
type Warm struct {
	Request goproxy.Request
	Bytes   []byte // never to be changed
	ETag    string // strong validator, quoted
	Source  string
	Time    time.Time // of an answer that may change: when it was given; zero for others

	// Face is for whoever serves it: what it makes of the answer, and need not make
	// again while that is held.
	Face atomic.Pointer[any]

	settings *Settings // under which it was found fit
	hits     prometheus.Counter
}

// Warm gives the answer to the request whose Path is path, if it can be given at
// once; nil if it cannot, whatever Get would say. The request is counted, and
// look-ahead told of it, as by Get; client is who asks, if not nil, at now.
//
// It is the way of nearly all requests to a busy server, so it takes no lock that
// others hold for long, and allocates nothing that it gave before.
func (m *Mirror) Warm(path string, now time.Time, client *Client) *Warm {
	s := m.settings.Load()
	var w *Warm
	if mutablePath(path) {
		a, ok := m.answers.GetIfPresent(path)
		if !ok || !s.young(a) {
			return nil
		}
		w = a.warm
	} else {
		held := m.c.Store.Warm(path)
		if held == nil {
			return nil
		}
		if p := held.Derived.Load(); p != nil {
			w, _ = (*p).(*Warm)
		}
		if w == nil || w.settings != s {
			if w = m.fit(held, s); w == nil {
				return nil
			}
		}
	}
	w.hits.Inc()
	if client != nil && w.settings != nil {
		client.saw(now, w.Request, w.Source, w.Bytes, false)
	}
	return w
}

// mutablePath reports whether what a path asks for is looked for among the
// answers that change. A branch's name may end in anything, so only what has no
// other meaning counts.
func mutablePath(path string) bool {
	return strings.HasSuffix(path, "/@v/list") || strings.HasSuffix(path, "/@latest")
}

// fit makes a Warm of what the store holds, unless that needs a look at the
// checksum database first: Get takes it.
func (m *Mirror) fit(held *store.Warm, s *Settings) *Warm {
	if held.Record.Verified == "" && held.Request.Kind != goproxy.Info && s.Route(held.Request.Module.Path).Sums != nil {
		return nil
	}
	w := &Warm{
		Request: held.Request, Bytes: held.Bytes, ETag: etag(held.Record.SHA256), Source: held.Record.Source,
		settings: s, hits: m.metrics.hits[held.Request.Kind],
	}
	var p any = w
	held.Derived.Store(&p)
	return w
}
