package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// An answer is what a source last said to a question whose answer may change.
// It is immutable but for failed.
type answer struct {
	body   []byte
	etag   string
	source string
	at     time.Time
}

func (a *answer) result(stale string) *Result {
	return &Result{Content: bytes.NewReader(a.body), Bytes: a.body, Size: int64(len(a.body)), ETag: a.etag, Source: a.source, Time: a.at, Stale: stale}
}

// last is the last answer to req, from memory or the store; nil if there is none.
func (m *Mirror) last(req goproxy.Request) *answer {
	if a, ok := m.answers.GetIfPresent(req); ok {
		return a
	}
	sa, err := m.c.Store.Answer(req)
	if err != nil {
		return nil
	}
	a := &answer{body: sa.Body, etag: etag(sumOf(sa.Body)), source: sa.Source, at: sa.Time}
	m.answers.Set(req, a)
	return a
}

// mutable answers a List, Latest or query request: a young answer at once; else
// a fresh one, or where that takes too long or fails, an older one that says so.
func (m *Mirror) mutable(ctx context.Context, req goproxy.Request, o Options) (*Result, error) {
	s := m.settings.Load()
	old := m.last(req)
	if old != nil && time.Since(old.at) < s.Fresh {
		res := old.result("")
		res.Hit = true
		note(ctx, "mirror", "fresh answer at hand", old.source)
		return res, nil
	}
	if o.NoFetch {
		if old != nil {
			res := old.result("fetching is disabled for this request")
			res.Hit = true
			return res, nil
		}
		if res := m.fromStore(ctx, req, "fetching is disabled for this request"); res != nil {
			return res, nil
		}
		return nil, ErrNotCached
	}
	if err := m.absent(req); err != nil {
		note(ctx, "mirror", "not found, remembered", "")
		return nil, err
	}

	f, joined := m.join(ctx, req, func(ctx context.Context, f *flight) { m.refresh(ctx, req, f, old) })
	if joined {
		note(ctx, "mirror", "joined a fetch under way", "")
	}
	var patience <-chan time.Time
	if old != nil || m.hasVersions(req) {
		wait := s.Stale - time.Since(f.start) // those who come later have waited through others
		if _, ok := m.missing.GetIfPresent(failedKey(req)); ok {
			wait = min(wait, 50*time.Millisecond)
		}
		t := time.NewTimer(max(wait, 0))
		defer t.Stop()
		patience = t.C
	}
	why := ""
	select {
	case <-f.done:
		if f.err == nil {
			return f.small.share(), nil
		}
		why = f.err.Error()
		if we, ok := errors.AsType[*upstream.WalkError](f.err); ok && we.NotExist() {
			// The sources answered. Only what we hold ourselves says otherwise.
			if req.Kind == goproxy.List {
				if res := m.fromStore(ctx, req, "the sources no longer have the module; these are the versions in the store"); res != nil {
					return res, nil
				}
			}
			return nil, f.err
		}
		m.missing.Set(failedKey(req), &absence{until: time.Now().Add(failedRecently)})
	case <-patience:
		why = "no source has answered yet"
		m.missing.Set(failedKey(req), &absence{until: time.Now().Add(failedRecently)})
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

// failedKey is a question that no client can ask, under which it is remembered
// that the last refresh of req failed.
func failedKey(req goproxy.Request) goproxy.Request {
	req.Kind += 100
	return req
}

// hasVersions reports whether a List or Latest could be answered from what is in
// the store.
func (m *Mirror) hasVersions(req goproxy.Request) bool {
	if req.Kind != goproxy.List && req.Kind != goproxy.Latest {
		return false
	}
	v, err := m.c.Store.Versions(req.Module.Path)
	return err == nil && len(v) > 0
}

// fromStore answers a List or Latest from the versions in the store; nil if it
// has none.
func (m *Mirror) fromStore(ctx context.Context, req goproxy.Request, why string) *Result {
	versions, err := m.c.Store.Versions(req.Module.Path)
	if err != nil || len(versions) == 0 {
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
		res, err := m.stored(ctx, info)
		if err != nil {
			return nil
		}
		res.Stale, res.Time = why, time.Now()
		return res
	}
	return nil
}

// refresh is the flight of a changing answer.
func (m *Mirror) refresh(ctx context.Context, req goproxy.Request, f *flight, old *answer) {
	a := m.refreshOnly(ctx, req, f)
	if f.err != nil {
		m.remember(req, f.err)
		return
	}
	m.missing.Invalidate(failedKey(req))
	m.answers.Set(req, a)
	close(f.done)
	if old == nil || !bytes.Equal(old.body, a.body) || a.at.Sub(old.at) > time.Minute {
		if err := m.c.Store.SetAnswer(req, store.Answer{Body: a.body, Source: a.source, Time: a.at}); err != nil {
			m.storeWorks(err)
		}
	}
}

// refreshOnly asks for a changing answer and sets the flight's result.
func (m *Mirror) refreshOnly(ctx context.Context, req goproxy.Request, f *flight) *answer {
	route := m.Route(req.Module.Path)
	note(ctx, "mirror", "route", route.Why)
	a := &answer{}
	f.err = m.walk(ctx, route, req, func(ctx context.Context, src upstream.Source, ans *upstream.Answer) error {
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
	a.at = time.Now()
	a.etag = etag(sumOf(a.body))
	f.small = a.result("")
	return a
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
