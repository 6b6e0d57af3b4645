package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// An answer is what a source last said to a question whose answer may change.
// It is immutable.
type answer struct {
	body   []byte
	etag   string
	source string
	at     time.Time

	warm *Warm // of a List or a Latest that is kept
}

func (a *answer) result(stale string) *Result {
	return &Result{Content: bytes.NewReader(a.body), Bytes: a.body, Size: int64(len(a.body)), ETag: a.etag, Source: a.source, Time: a.at, Stale: stale}
}

// last is the last answer to req, from memory or the store; nil if there is none.
func (m *Mirror) last(req goproxy.Request) *answer {
	if a, ok := m.answers.GetIfPresent(req.Path()); ok {
		return a
	}
	sa, err := m.c.Store.Answer(req)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.storeWorked(err)
		}
		return nil
	}
	a := &answer{body: sa.Body, etag: etag(sumOf(sa.Body)), source: sa.Source, at: sa.Time}
	m.keep(req, a)
	return a
}

// keep holds a, which nobody else has yet, in memory.
func (m *Mirror) keep(req goproxy.Request, a *answer) {
	a.warm = &Warm{Request: req, Bytes: a.body, ETag: a.etag, Source: a.source, Time: a.at, hits: m.metrics.hits[req.Kind]}
	m.answers.Set(req.Path(), a)
}

// young reports whether a, which may be nil, is used without asking again.
func (s *Settings) young(a *answer) bool {
	return a != nil && time.Since(a.at) < s.Fresh && !a.at.Before(s.since)
}

// mutable answers a List, Latest or query request: a young answer at once; else
// a fresh one, or where that takes too long or fails, an older one that says so.
func (m *Mirror) mutable(ctx context.Context, req goproxy.Request, o Options) (*Result, error) {
	s := m.settings.Load()
	old := m.last(req)
	if s.young(old) {
		res := old.result("")
		res.Hit = true
		note(ctx, "mirror", "fresh answer at hand", old.source)
		return res, nil
	}
	if offline := m.offline(req); o.NoFetch || offline != nil {
		why := "fetching is disabled for this request"
		if !o.NoFetch {
			why = offline.Error()
		}
		if old != nil {
			res := old.result(why)
			res.Hit = true
			return res, nil
		}
		if res := m.fromStore(ctx, req, why); res != nil {
			return res, nil
		}
		if !o.NoFetch {
			return nil, offline
		}
		return nil, ErrNotCached
	}
	if err := m.absent(req); err != nil {
		note(ctx, "mirror", "not found, remembered", "")
		return m.gone(ctx, req, err)
	}
	f, joined := m.join(ctx, req, func(ctx context.Context, f *flight) { m.refresh(ctx, req, f) })
	defer f.leave()
	if joined {
		note(ctx, "mirror", "joined a fetch under way", "")
	}
	var patience <-chan time.Time
	if old != nil || m.hasVersions(req) {
		wait := s.Stale - time.Since(f.start) // those who come later have waited through others
		if at, ok := m.failed.GetIfPresent(req); ok && time.Since(at) < failedRecently {
			wait = min(wait, failedPatience)
		}
		t := time.NewTimer(max(wait, 0))
		defer t.Stop()
		patience = t.C
	}
	why := ""
	select {
	case <-f.done:
		switch {
		case f.err == nil:
			return f.small.share(), nil
		case established(f.err):
			return m.gone(ctx, req, f.err)
		}
		why = finding.Redact(f.err.Error())
	case <-patience:
		why = "no source has answered yet"
		m.failed.Set(req, time.Now())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if old != nil {
		note(ctx, "mirror", "older answer given", why)
		m.c.Log.Warn("older answer given", slog.String("module", req.Module.Path), slog.String("kind", req.Kind.String()),
			slog.Duration("age", time.Since(old.at).Round(time.Second)), slog.String("why", why))
		return old.result(why), nil
	}
	if res := m.fromStore(ctx, req, why); res != nil {
		note(ctx, "mirror", "answered from the store", why)
		return res, nil
	}
	// There was nothing to fall back on after all.
	select {
	case <-f.done:
		if f.err != nil {
			return nil, f.err
		}
		return f.small.share(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// gone answers what the sources say does not exist: only what we hold ourselves
// says otherwise.
func (m *Mirror) gone(ctx context.Context, req goproxy.Request, err error) (*Result, error) {
	if res := m.fromStore(ctx, req, "the sources do not have the module; the store has versions of it"); res != nil {
		note(ctx, "mirror", "answered from the store", "")
		return res, nil
	}
	return nil, err
}

// hasVersions reports whether a List or Latest could be answered from what is in
// the store.
func (m *Mirror) hasVersions(req goproxy.Request) bool { return len(m.versions(req)) > 0 }

// versions are those in the store, for a request that they could answer.
func (m *Mirror) versions(req goproxy.Request) []string {
	if req.Kind != goproxy.List && req.Kind != goproxy.Latest {
		return nil
	}
	list, err := m.c.Store.Versions(req.Module.Path)
	if err != nil {
		m.storeWorked(err)
	}
	return list
}

// fromStore answers a List or Latest from the versions in the store; nil if it
// has none.
func (m *Mirror) fromStore(ctx context.Context, req goproxy.Request, why string) *Result {
	versions := m.versions(req)
	if len(versions) == 0 {
		return nil
	}
	switch req.Kind {
	case goproxy.List:
		a := &answer{body: goproxy.FormatList(versions), source: "store", at: time.Now()}
		a.etag = etag(sumOf(a.body))
		res := a.result(why)
		res.Hit = true
		return res
	case goproxy.Latest:
		info := goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: req.Module.Path, Version: goproxy.LatestOf(versions)}}
		res, err := m.stored(ctx, info, false)
		if err != nil {
			return nil
		}
		res.Stale, res.Time = why, time.Now()
		return res
	}
	return nil
}

// refresh is the flight of a changing answer. It looks once more at what may have
// changed since its first client looked.
func (m *Mirror) refresh(ctx context.Context, req goproxy.Request, f *flight) {
	old := m.last(req)
	if m.settings.Load().young(old) {
		f.small = old.result("")
		return
	}
	if f.err = m.absent(req); f.err != nil {
		return
	}
	a := m.refreshOnly(ctx, req, f, old)
	if f.err != nil {
		if !established(f.err) {
			m.failed.Set(req, time.Now())
		}
		m.remember(req, f.err)
		return
	}
	m.failed.Invalidate(req)
	m.keep(req, a)
	f.land() // the client need not wait for the disk
	if old == nil || !bytes.Equal(old.body, a.body) || a.at.Sub(old.at) > time.Minute {
		m.storeWorked(m.c.Store.SetAnswer(req, store.Answer{Body: a.body, Source: a.source, Time: a.at}))
	}
}

// refreshOnly asks for a changing answer and sets the flight's result. old is the
// last one, or nil.
func (m *Mirror) refreshOnly(ctx context.Context, req goproxy.Request, f *flight, old *answer) *answer {
	route := m.Route(req.Module.Path)
	note(ctx, "mirror", "route", route.Why)
	a := &answer{}
	way := route.Chain.Fetch
	has := map[string][]string{} // versions by source
	if req.Kind == goproxy.List && m.settings.Load().Union && route.Chain.Health != nil {
		way = route.Chain.Gather
	}
	f.err = m.walked(ctx, req, way, func(ctx context.Context, src upstream.Source, ans *upstream.Answer) error {
		a.source = src.Name()
		if req.Kind == goproxy.List {
			data, err := readList(ans, req.Kind.Limit())
			if err != nil {
				return err
			}
			list, err := goproxy.ParseList(data, req.Module.Path)
			if err != nil {
				return err
			}
			has[src.Name()] = list
			a.body = goproxy.FormatList(list)
			return nil
		}
		data, err := readAll(ans, req.Kind.Limit())
		if err != nil {
			return err
		}
		// @latest names a version as a query does: any that is canonical.
		if _, err := goproxy.ParseInfo(data, module.Version{Path: req.Module.Path}); err != nil {
			return err
		}
		a.body = data
		return nil
	})
	if f.err != nil {
		return nil
	}
	if len(has) > 1 {
		route.Chain.Health.Compare(req.Module.Path, has)
		var all []string
		names := slices.Sorted(maps.Keys(has))
		for _, n := range names {
			all = append(all, has[n]...)
		}
		semver.Sort(all)
		a.body, a.source = goproxy.FormatList(slices.Compact(all)), strings.Join(names, " ")
	}
	a.at = time.Now()
	a.etag = etag(sumOf(a.body))
	f.small = a.result("")
	if old != nil && old.source == a.source {
		m.backwards(route, req, old, a)
	}
	return a
}

// backwards tells of a source that takes back what it said before: it is frozen,
// was rolled back, or hides something, and no checksum database covers that.
func (m *Mirror) backwards(route Route, req goproxy.Request, old, now *answer) {
	what := ""
	switch req.Kind {
	case goproxy.List:
		was, err1 := goproxy.ParseList(old.body, req.Module.Path)
		is, err2 := goproxy.ParseList(now.body, req.Module.Path)
		if err1 != nil || err2 != nil {
			return
		}
		gone := slices.DeleteFunc(was, func(v string) bool { return slices.Contains(is, v) })
		if len(gone) == 0 {
			return
		}
		what = fmt.Sprintf("the list of %s lacks %s, which it had %v before", req.Module.Path, strings.Join(gone[:min(len(gone), 3)], ", "), now.at.Sub(old.at).Round(time.Second))
		if len(gone) > 3 {
			what += fmt.Sprintf(" (and %d more)", len(gone)-3)
		}
	case goproxy.Latest:
		was, err1 := goproxy.ParseInfo(old.body, module.Version{Path: req.Module.Path})
		is, err2 := goproxy.ParseInfo(now.body, module.Version{Path: req.Module.Path})
		if err1 != nil || err2 != nil || semver.Compare(is.Version, was.Version) >= 0 {
			return
		}
		what = fmt.Sprintf("@latest of %s is %s now, and was %s %v before", req.Module.Path, is.Version, was.Version, now.at.Sub(old.at).Round(time.Second))
	default:
		return // a branch may go anywhere
	}
	m.metrics.backwards.Inc()
	if route.Chain.Health != nil {
		route.Chain.Health.WentBackwards(now.source, what)
	}
	m.c.Log.Warn("source went backwards", slog.String("module", req.Module.Path), slog.String("kind", req.Kind.String()), slog.String("source", now.source), slog.String("what", what))
}

// ReadResult reads a whole result into memory, up to a limit, and closes it.
func ReadResult(res *Result, limit int64) ([]byte, error) {
	defer res.Close()
	var r io.Reader = res.Stream
	if res.Content != nil {
		r = res.Content
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &tooLargeError{limit}
	}
	return data, err
}
