package mirror

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// spoiledTime is how long a local file that was wrong is left alone, and not told
// about again: the sources are asked for it as if it were not there.
const spoiledTime = time.Hour

// localRest is how long nobody looks for local files after their file system has
// not answered in time.
const localRest = time.Minute

// obtain has accept judge what the route's Local has, and if that is nothing or
// no good, what its sources answer. A route without a Chain has no sources.
//
// Where no database stands for the module, what comes is pinned, and that is not
// for whoever could write the cache to say. Nor does a database stand for an
// .info: it is taken where the sources fail to give one.
func (m *Mirror) obtain(ctx context.Context, route Route, req goproxy.Request, accept upstream.Accept) error {
	switch {
	case route.Chain == nil:
		_, err := m.offer(ctx, route, req, accept)
		return err
	case route.Local == nil || route.Sums == nil || m.spoiled.Has(req) || m.localRests():
		return m.walk(ctx, route, req, accept)
	case req.Kind == goproxy.Info:
		err := m.walk(ctx, route, req, accept)
		if err != nil && ctx.Err() == nil && m.takeLocal(ctx, route, req, accept) {
			return nil
		}
		return err
	case m.takeLocal(ctx, route, req, accept):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return m.walk(ctx, route, req, accept)
}

// takeLocal reports whether accept took the file that the route's Local has. One
// that is wrong is told about, and left to its owner.
func (m *Mirror) takeLocal(ctx context.Context, route Route, req goproxy.Request, accept upstream.Accept) bool {
	start := time.Now()
	found, err := m.offer(ctx, route, req, accept)
	if found {
		noteTook(ctx, "mirror", "found in the "+route.Local.Name(), errText(err, "took it"), time.Since(start))
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, upstream.ErrStalled):
		m.mu.Lock()
		m.localHung = time.Now()
		m.mu.Unlock()
		m.c.Log.Warn("local files are left alone for a while", slog.String("source", route.Local.Name()), slog.Any("err", err))
	case !found:
		m.c.Log.Debug("no local file", slog.String("request", req.String()), slog.String("source", route.Local.Name()), slog.Any("err", err))
	case upstream.IsAbort(err) || ctx.Err() != nil: // which says nothing of the file
	case m.spoiled.Add(req):
		m.metrics.local.WithLabelValues("refused").Inc()
		m.c.Log.Warn("local file is wrong; it is left as it is, and the sources are asked", slog.String("module", req.Module.Path),
			slog.String("version", req.Module.Version), slog.String("kind", req.Kind.String()), slog.String("source", route.Local.Name()),
			slog.String("err", finding.Redact(err.Error())))
	}
	return false
}

// localRests reports whether the file system of local files hung just now.
func (m *Mirror) localRests() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.localHung.IsZero() && time.Since(m.localHung) < localRest
}

// offer has accept judge the file that the route's Local has, if it found one.
func (m *Mirror) offer(ctx context.Context, route Route, req goproxy.Request, accept upstream.Accept) (found bool, err error) {
	a, err := route.Local.Get(ctx, req)
	if err != nil {
		return false, err
	}
	defer a.Body.Close()
	if req.Kind == goproxy.Info && route.Sums != nil {
		// Nothing stands for an .info itself, but at least for there being such a
		// version.
		if _, err := m.wanted(ctx, route, req.With(goproxy.Mod))(); err != nil {
			return true, upstream.Abort(err)
		}
	}
	return true, accept(ctx, route.Local, a)
}

// adopt has the store take a local file as it is, without copying it. It reports
// false where it cannot; the file's bytes may then be received like any others.
func (sp *spool) adopt(a *upstream.Answer) bool {
	to, ok := sp.p.(store.Adopter)
	from, ok2 := a.Body.(interface {
		File() (*os.File, fs.FileInfo)
	})
	if !ok || !ok2 {
		return false
	}
	f, fi := from.File()
	sp.linked = f != nil && to.Adopt(f, fi)
	return sp.linked
}

// tookLocal counts a local file that was taken.
func (m *Mirror) tookLocal(linked bool) {
	outcome := "copied"
	if linked {
		outcome = "linked"
	}
	m.metrics.local.WithLabelValues(outcome).Inc()
}
