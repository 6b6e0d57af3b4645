package mirror

import (
	"context"
	"errors"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// metrics are the mirror's counters. Labels come from short fixed lists, and
// source names from the configuration; never a module path.
type metrics struct {
	requests    *prometheus.CounterVec
	hits        map[goproxy.Kind]prometheus.Counter // of requests
	attempts    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	ahead       *prometheus.CounterVec
	local       *prometheus.CounterVec
	further     *prometheus.CounterVec
	pieces      prometheus.Counter
	mismatch    prometheus.Counter
	badZip      prometheus.Counter
	quarantined prometheus.Counter
	damaged     prometheus.Counter
	backwards   prometheus.Counter
}

var outcomes = []string{"hit", "fetched", "stale", "missing", "refused", "failed", "left"}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_module_requests_total",
			Help: "Requests for module files by kind and outcome."}, []string{"kind", "outcome"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_source_attempts_total",
			Help: "Questions to a source by outcome: ok, missing, outdone by another source, or the stage at which it failed."}, []string{"source", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_source_seconds",
			Help: "How long a source took to answer in full, by kind of question.", Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100}}, []string{"source", "kind"}),
		ahead: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_lookahead_total",
			Help: "Files fetched ahead by outcome."}, []string{"outcome"}),
		local: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_modcache_files_total",
			Help: "Files found in the module cache of this machine, by what became of them: linked into the store without copying, copied, or refused."}, []string{"outcome"}),
		further: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_zip_connections_total",
			Help: "Further connections made to a source for a large zip that came slowly, by what became of them: kept since they made it faster, useless, failed, or unsettled."}, []string{"outcome"}),
		pieces:      counter("sluice_zip_pieces_bytes_total", "Bytes of zips that came over such connections."),
		mismatch:    counter("sluice_verification_failures_total", "Files whose hash was not what the checksum database or the pin says."),
		badZip:      counter("sluice_bad_zips_total", "Zips that broke the module zip rules or were damaged."),
		quarantined: counter("sluice_quarantined_total", "Files put into quarantine with their evidence."),
		backwards:   counter("sluice_backwards_total", "Lists and @latest answers of a source that lacked what it had before."),
		damaged:     counter("sluice_store_damaged_total", "Stored files found damaged when they were opened."),
	}
	m.hits = map[goproxy.Kind]prometheus.Counter{}
	for _, k := range []goproxy.Kind{goproxy.List, goproxy.Latest, goproxy.Info, goproxy.Mod, goproxy.Zip} {
		for _, o := range outcomes {
			m.requests.WithLabelValues(k.String(), o).Add(0)
		}
		m.hits[k] = m.requests.WithLabelValues(k.String(), "hit")
	}
	for _, o := range []string{"fetched", "hit", "missing", "failed", "dropped", "cancelled"} {
		m.ahead.WithLabelValues(o).Add(0)
	}
	for _, o := range []string{"kept", "useless", "failed", "unsettled"} {
		m.further.WithLabelValues(o).Add(0)
	}
	for _, o := range []string{"linked", "copied", "refused"} {
		m.local.WithLabelValues(o).Add(0)
	}
	return m
}

// Collectors are the mirror's metrics, for the wiring to register.
func (m *Mirror) Collectors() []prometheus.Collector {
	x := m.metrics
	return []prometheus.Collector{x.requests, x.attempts, x.seconds, x.ahead, x.local, x.further, x.pieces, x.mismatch, x.badZip, x.quarantined, x.damaged, x.backwards}
}

func (x *metrics) request(req goproxy.Request, res *Result, err error) {
	x.requests.WithLabelValues(req.Kind.String(), Outcome(res, err)).Inc()
}

// Outcome is the word for how a request ended, in metrics and logs.
func Outcome(res *Result, err error) string {
	switch {
	case err == nil && res.Stale != "":
		return "stale"
	case err == nil && res.Hit:
		return "hit"
	case err == nil:
		return "fetched"
	case missing(err):
		return "missing"
	case errors.Is(err, context.Canceled):
		return "left" // the client did, or hung up
	}
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return "refused"
	}
	return "failed"
}

// missing reports whether err establishes that a thing does not exist.
func missing(err error) bool {
	if we, ok := errors.AsType[*upstream.WalkError](err); ok {
		return we.NotExist()
	}
	return errors.Is(err, fs.ErrNotExist)
}

func (x *metrics) attempt(req goproxy.Request, a upstream.Attempt) {
	outcome := "ok"
	if a.Err != nil {
		outcome = "failed"
		if errors.Is(a.Err, fs.ErrNotExist) {
			outcome = "missing"
		} else if errors.Is(a.Err, upstream.ErrOutdone) {
			outcome = "outdone"
		} else if e, ok := errors.AsType[*upstream.Error](a.Err); ok {
			outcome = string(e.Stage)
		}
	} else {
		x.seconds.WithLabelValues(a.Source, req.Kind.String()).Observe(a.Took.Seconds())
	}
	x.attempts.WithLabelValues(a.Source, outcome).Inc()
}
