package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

const (
	// smallZip is the size, in bytes, up to which a zip is verified before its
	// first byte goes out: waiting for so little costs nobody anything, and a bad
	// one can then be told apart by an honest status.
	smallZip = 1 << 20
	// holdBack is how many bytes at the end of a larger zip wait for the
	// verification. The zip's directory lies there, so that what a client has
	// before is no zip.
	holdBack = 64 << 10
	// vouchTime is how long a stored artifact that was pinned waits for a
	// database that could vouch for it now.
	vouchTime = 2 * time.Second
	// scratchMemory bounds the bytes of one artifact that are held in memory when
	// neither the store nor the scratch directory takes them.
	scratchMemory = 64 << 20
	copyBuffer    = 64 << 10
)

func stack() string { return string(debug.Stack()) }

// artifact answers a request for a fixed version's file.
func (m *Mirror) artifact(ctx context.Context, req goproxy.Request, o Options) (*Result, error) {
	res, err := m.stored(ctx, req)
	if err == nil {
		note(ctx, "store", "hit", res.Source)
		return res, nil
	}
	note(ctx, "store", "miss", err.Error())
	if o.NoFetch {
		// What is being fetched for others already is as good as here.
		if f := m.underWay(req); f != nil {
			return m.await(ctx, req, f, true)
		}
		if res, err := m.stored(ctx, req); err == nil {
			return res, nil // it came in between
		}
		return nil, ErrNotCached
	}
	if err := m.absent(req); err != nil {
		note(ctx, "mirror", "not found, remembered", "")
		return nil, err
	}
	run := m.fetchSmall
	if req.Kind == goproxy.Zip {
		run = m.fetchZip
	}
	f, joined := m.join(ctx, req, func(ctx context.Context, f *flight) { run(ctx, req, f, true) })
	if joined {
		note(ctx, "mirror", "joined a fetch under way", "")
	}
	return m.await(ctx, req, f, o.Whole)
}

// underWay is the flight for req, nil if there is none.
func (m *Mirror) underWay(req goproxy.Request) *flight {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flights[req]
}

// await waits for what a flight has to give to one client.
func (m *Mirror) await(ctx context.Context, req goproxy.Request, f *flight, whole bool) (*Result, error) {
	if req.Kind == goproxy.Zip {
		return m.follow(ctx, f, whole)
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.small.share(), nil
}

// share is a result of its own over the same bytes.
func (r *Result) share() *Result {
	c := *r
	c.Content = bytes.NewReader(r.Bytes)
	return &c
}

// stored opens an artifact in the store. The error matches fs.ErrNotExist if it
// is not there, or not fit to be served; anything wrong with it has then been
// told and put right.
func (m *Mirror) stored(ctx context.Context, req goproxy.Request) (*Result, error) {
	blob, err := m.c.Store.Open(req)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, store.ErrDamaged):
		m.metrics.damaged.Inc()
		m.c.Log.Warn("stored file is damaged; it is fetched anew", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
			slog.String("kind", req.Kind.String()), slog.Any("err", err))
		ev := evidence(req, "store", err.Error())
		if derr := m.c.Store.Discard(req, ev, false); derr != nil && !errors.Is(derr, fs.ErrNotExist) {
			m.c.Log.Warn("damaged file is not moved to quarantine", slog.Any("err", derr))
		}
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	default:
		// "Could not tell" is not "not there": the file may be fine, but a sick
		// disk must not stop the build while a source has it.
		m.storeWorks(err)
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err := m.vouch(ctx, req, blob.Record); err != nil {
		blob.Close()
		return nil, err
	}
	return &Result{
		Content: blob.Content, Bytes: blob.Bytes, Size: blob.Record.Size, ETag: etag(blob.Record.SHA256),
		Source: blob.Record.Source, Hit: true, close: func() { blob.Close() },
	}, nil
}

// vouch asks the checksum database about an artifact that was stored while no
// database covered it, in case one does now. A database out of reach delays no
// cached module.
func (m *Mirror) vouch(ctx context.Context, req goproxy.Request, rec store.Record) error {
	if rec.Verified != "" || req.Kind == goproxy.Info {
		return nil
	}
	route := m.Route(req.Module.Path)
	if route.Sums == nil {
		return nil
	}
	if sha, ok := m.vouched.GetIfPresent(req); ok && sha == rec.SHA256 {
		return nil
	}
	vctx, cancel := context.WithTimeout(ctx, vouchTime)
	defer cancel()
	want, err := m.want(vctx, route, req)
	if err != nil && !errors.Is(err, checksum.ErrUnknown) {
		note(ctx, "checksum", "could not vouch", err.Error())
		return nil
	}
	if err == nil && want == rec.H1 {
		m.vouched.Set(req, rec.SHA256)
		return nil
	}
	reason := "the checksum database does not know it"
	if err == nil {
		reason = "the checksum database disagrees with what was pinned while no database was asked"
	}
	m.metrics.mismatch.Inc()
	ev := evidence(req, rec.Source, reason)
	ev.Want, ev.Got = want, rec.H1
	m.c.Log.Error("stored file is withdrawn", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
		slog.String("kind", req.Kind.String()), slog.String("reason", reason), slog.String("want", want), slog.String("got", rec.H1))
	if err := m.c.Store.Discard(req, ev, true); err != nil {
		m.c.Log.Warn("withdrawn file is not moved to quarantine", slog.Any("err", err))
	}
	return fmt.Errorf("%w: %s", fs.ErrNotExist, reason)
}

// want is the hash that req's bytes must have according to the route's database.
func (m *Mirror) want(ctx context.Context, route Route, req goproxy.Request) (string, error) {
	start := time.Now()
	zip, gomod, err := route.Sums.Sums(ctx, req.Module)
	if req.Kind == goproxy.Mod {
		zip = gomod
	}
	noteTook(ctx, "checksum", "asked "+route.Sums.Name(), errText(err, zip), time.Since(start))
	return zip, err
}

// wanted starts asking for the hash that req must have, and returns what waits
// for the answer. A hash of "" means that nothing is known yet: what comes is
// pinned. by names who stands for the hash, "" for the pin.
func (m *Mirror) wanted(ctx context.Context, route Route, req goproxy.Request) func() (want, by string, err error) {
	if route.Sums == nil {
		return func() (string, string, error) {
			rec, err := m.c.Store.Record(req)
			switch {
			case err == nil:
				return rec.H1, "", nil
			case errors.Is(err, fs.ErrNotExist):
				return "", "", nil
			}
			m.storeWorks(err)
			return "", "", nil
		}
	}
	type answer struct {
		h1  string
		err error
	}
	ch := make(chan answer, 1)
	m.bg.Go(func() {
		h1, err := m.want(ctx, route, req)
		ch <- answer{h1, err}
	})
	return onceValues(func() (string, string, error) {
		a := <-ch
		if errors.Is(a.err, checksum.ErrUnknown) {
			a.err = &RefusedError{Request: req, Err: a.err}
		}
		return a.h1, route.Sums.Name(), a.err
	})
}

// judge compares a hash with what it must be. An error is either the source's
// fault, or an abort if it is not.
func (m *Mirror) judge(ctx context.Context, req goproxy.Request, src upstream.Source, h1 string, wanted func() (string, string, error), body io.Reader, size int64) (by string, err error) {
	want, by, err := wanted()
	if err != nil {
		return "", upstream.Abort(err)
	}
	if want == "" || want == h1 {
		note(ctx, "checksum", "hash agrees", h1)
		return by, nil
	}
	mm := &MismatchError{Request: req, Source: src.Name(), By: by, Want: want, Got: h1}
	m.metrics.mismatch.Inc()
	m.c.Log.Error("source gave wrong bytes", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
		slog.String("kind", req.Kind.String()), slog.String("source", src.Name()), slog.String("want", want), slog.String("got", h1), slog.String("by", by))
	m.quarantine(req, src.Name(), mm.Error(), want, h1, body, size)
	note(ctx, "checksum", "hash differs", mm.Error())
	return "", mm
}

func (m *Mirror) quarantine(req goproxy.Request, source, reason, want, got string, body io.Reader, size int64) {
	ev := evidence(req, source, reason)
	ev.Want, ev.Got, ev.Size = want, got, size
	if err := m.c.Store.Quarantine(ev, body); err != nil {
		m.c.Log.Warn("evidence is not kept", slog.String("reason", reason), slog.Any("err", err))
		return
	}
	m.metrics.quarantined.Inc()
}

func evidence(req goproxy.Request, source, reason string) store.Evidence {
	return store.Evidence{Module: req.Module.Path, Version: req.Module.Version, Kind: req.Kind.String(), Source: source, Reason: reason, Time: time.Now().UTC()}
}

// walk asks the route's sources and tells each attempt.
func (m *Mirror) walk(ctx context.Context, route Route, req goproxy.Request, accept upstream.Accept) error {
	attempts, err := route.Chain.Fetch(ctx, req, accept)
	for _, a := range attempts {
		m.sawSource(a)
		m.metrics.attempt(req, a)
		noteTook(ctx, "upstream", "asked "+a.Source, errText(a.Err, "took its answer"), a.Took)
	}
	if err == nil {
		// Nobody will return what was survived, so it is logged here.
		for _, a := range attempts[:len(attempts)-1] {
			if !errors.Is(a.Err, fs.ErrNotExist) {
				m.c.Log.Warn("source failed over", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
					slog.String("kind", req.Kind.String()), slog.String("source", a.Source), slog.Any("err", a.Err), slog.Duration("took", a.Took))
			}
		}
		return nil
	}
	return err
}

// fetchSmall is the flight of an .info or .mod: held in memory, verified, then
// released, then stored. keep is whether it is stored.
func (m *Mirror) fetchSmall(ctx context.Context, req goproxy.Request, f *flight, keep bool) {
	route := m.Route(req.Module.Path)
	note(ctx, "mirror", "route", route.Why)
	var wanted func() (string, string, error)
	if req.Kind == goproxy.Mod {
		wanted = m.wanted(ctx, route, req)
	}
	var rec store.Record
	var data []byte
	f.err = m.walk(ctx, route, req, func(ctx context.Context, src upstream.Source, a *upstream.Answer) error {
		var err error
		if data, err = readAll(a, req.Kind.Limit()); err != nil {
			return err
		}
		rec = store.Record{Source: src.Name(), Time: time.Now().UTC(), Size: int64(len(data)), SHA256: sumOf(data)}
		if req.Kind == goproxy.Info {
			_, err := goproxy.ParseInfo(data, req.Module)
			return err
		}
		if err := goproxy.CheckMod(data); err != nil {
			return err
		}
		if rec.H1, err = hashMod(data); err != nil {
			return err
		}
		rec.Verified, err = m.judge(ctx, req, src, rec.H1, wanted, bytes.NewReader(data), int64(len(data)))
		return err
	})
	if f.err != nil {
		m.remember(req, f.err)
		return
	}
	f.small = &Result{Bytes: data, Size: rec.Size, ETag: etag(rec.SHA256), Source: rec.Source}
	close(f.done) // the client need not wait for the disk
	if keep {
		m.storeSmall(req, data, rec)
	}
}

func (m *Mirror) storeSmall(req goproxy.Request, data []byte, rec store.Record) {
	p, err := m.c.Store.Create(req)
	if err != nil {
		m.storeWorks(err)
		return
	}
	defer p.Abort()
	if _, err := p.Write(data); err == nil {
		_, err = p.Commit(rec)
		m.committed(req, err)
	} else {
		m.storeWorks(err)
	}
}

// committed takes note of how a Commit ended.
func (m *Mirror) committed(req goproxy.Request, err error) {
	switch {
	case err == nil:
		m.storeWorks(nil)
	case errors.Is(err, store.ErrConflict):
		// Another process pinned other bytes in between. Its pin stands.
		m.metrics.mismatch.Inc()
		m.c.Log.Error("not stored: it differs from what was stored meanwhile", slog.String("module", req.Module.Path),
			slog.String("version", req.Module.Version), slog.String("kind", req.Kind.String()), slog.Any("err", err))
	default:
		m.storeWorks(err)
	}
}

// hashMod is the go.sum hash of a go.mod file.
func hashMod(data []byte) (string, error) {
	return dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}

// readAll reads an answer that must not be empty, up to a limit.
func readAll(a *upstream.Answer, limit int64) ([]byte, error) {
	data, err := readList(a, limit)
	if err == nil && len(bytes.TrimSpace(data)) == 0 {
		err = errEmpty
	}
	return data, err
}

var (
	errEmpty     = errors.New("the answer is 200 OK with nothing in it")
	errTruncated = errors.New("the answer is shorter than its Content-Length")
)

// A tooLargeError says that an answer was over the limit of its kind.
type tooLargeError struct{ limit int64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes, the most that may be", e.limit)
}

func readList(a *upstream.Answer, limit int64) ([]byte, error) {
	if a.Size > limit {
		return nil, &tooLargeError{limit}
	}
	data, err := io.ReadAll(io.LimitReader(a.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > limit:
		return nil, &tooLargeError{limit}
	case a.Size >= 0 && int64(len(data)) != a.Size:
		return nil, errTruncated
	}
	return data, nil
}

// fetchZip is the flight of a zip: spooled while it arrives, followed by clients
// at a distance, verified, released, stored after its .info and .mod.
func (m *Mirror) fetchZip(ctx context.Context, req goproxy.Request, f *flight, keep bool) {
	route := m.Route(req.Module.Path)
	note(ctx, "mirror", "route", route.Why)
	wanted := m.wanted(ctx, route, req)
	// Whoever sees the zip may rely on .info and .mod being there too.
	var companions sync.WaitGroup
	if keep {
		for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod} {
			companions.Go(func() {
				if res, err := m.artifact(ctx, req.With(k), Options{}); err == nil {
					res.Close()
				} else if !errors.Is(err, fs.ErrNotExist) {
					m.c.Log.Debug("zip without its companion", slog.String("request", req.With(k).String()), slog.Any("err", err))
				}
			})
		}
	}
	var rec store.Record
	var sp *spool
	err := m.walk(ctx, route, req, func(ctx context.Context, src upstream.Source, a *upstream.Answer) error {
		if a.Size > goproxy.MaxZip {
			return &tooLargeError{goproxy.MaxZip}
		}
		p, err := m.pending(req)
		if err != nil {
			return upstream.Abort(err)
		}
		sp = newSpool(p, a.Size)
		f.publish(sp)
		err = m.receive(ctx, f, sp, a)
		if err == nil {
			rec = store.Record{Source: src.Name(), Time: time.Now().UTC()}
			rec, err = m.verifyZip(ctx, route, req, src, sp, rec, wanted, keep)
		}
		if err != nil {
			f.fail(sp, err)
		}
		return err
	})
	if err != nil {
		f.err = err
		m.remember(req, err)
		companions.Wait()
		return
	}
	f.verify(sp, rec)
	companions.Wait()
	if keep && !sp.scratch {
		_, err := sp.p.Commit(rec)
		m.committed(req, err)
	}
}

// pending makes room for an artifact: in the store, or where that takes nothing,
// beside it.
func (m *Mirror) pending(req goproxy.Request) (pending, error) {
	p, err := m.c.Store.Create(req)
	if err == nil {
		return pending{p, false}, nil
	}
	m.storeWorks(err)
	sp, serr := store.Scratch(m.c.Scratch, scratchMemory)
	if serr != nil {
		return pending{}, fmt.Errorf("there is no room for %v: %w; %w", req, err, serr)
	}
	return pending{sp, true}, nil
}

type pending struct {
	store.Pending
	scratch bool
}

// receive copies a zip into the spool, waking those who follow it.
func (m *Mirror) receive(ctx context.Context, f *flight, sp *spool, a *upstream.Answer) error {
	buf := make([]byte, copyBuffer)
	var n int64
	for {
		k, err := a.Body.Read(buf)
		if n += int64(k); n > goproxy.MaxZip {
			return &tooLargeError{goproxy.MaxZip}
		}
		if k > 0 {
			if _, werr := sp.p.Write(buf[:k]); werr != nil {
				if sp.scratch {
					return upstream.Abort(fmt.Errorf("there is no room for the zip while it is verified: %w", werr))
				}
				m.storeWorks(werr)
				if werr := sp.moveToScratch(f, m.c.Scratch, buf[:k], n-int64(k)); werr != nil {
					return upstream.Abort(fmt.Errorf("there is no room for the zip while it is verified: %w", werr))
				}
			}
			f.grown(sp, n)
		}
		switch {
		case err == io.EOF && a.Size >= 0 && n != a.Size:
			return errTruncated
		case err == io.EOF && n == 0:
			return errEmpty
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// verifyZip checks a whole zip by the module zip rules and by its hash.
func (m *Mirror) verifyZip(ctx context.Context, route Route, req goproxy.Request, src upstream.Source, sp *spool, rec store.Record, wanted func() (string, string, error), keep bool) (store.Record, error) {
	start := time.Now()
	size := sp.p.Size()
	z, err := readZip(sp.p, size, req.Module)
	if err == nil {
		rec.H1, err = z.hash(ctx)
	}
	noteTook(ctx, "checksum", "zip rules and hash", errText(err, rec.H1), time.Since(start))
	if err != nil {
		if ctx.Err() == nil {
			m.metrics.badZip.Inc()
			m.quarantine(req, src.Name(), err.Error(), "", "", io.NewSectionReader(sp.p, 0, size), size)
		}
		return rec, err
	}
	rec.Verified, err = m.judge(ctx, req, src, rec.H1, wanted, io.NewSectionReader(sp.p, 0, size), size)
	if err != nil {
		return rec, err
	}
	return rec, m.checkCompanion(ctx, route, req, src, z, keep)
}

// checkCompanion compares the zip's go.mod with the .mod served beside it. Where
// a checksum database stands for both, a difference is only told: the database
// has the last word. Where none does, the source contradicts itself, and the zip
// is refused.
func (m *Mirror) checkCompanion(ctx context.Context, route Route, req goproxy.Request, src upstream.Source, z *moduleZip, keep bool) error {
	inZip, err := z.goMod()
	if err != nil || inZip == nil {
		return err
	}
	var res *Result
	if keep {
		res, err = m.artifact(ctx, req.With(goproxy.Mod), Options{})
	} else {
		res, err = m.stored(ctx, req.With(goproxy.Mod))
	}
	if err != nil {
		return nil // its own request will say why
	}
	defer res.Close()
	beside, err := io.ReadAll(res.Content)
	if err != nil || bytes.Equal(beside, inZip) {
		return nil
	}
	m.c.Log.Warn("the go.mod in the zip differs from the .mod", slog.String("module", req.Module.Path),
		slog.String("version", req.Module.Version), slog.String("source", src.Name()), slog.Bool("verified", route.Sums != nil))
	if route.Sums != nil {
		return nil
	}
	reason := "the go.mod in the zip differs from the .mod file, and no checksum database stands for either"
	m.metrics.mismatch.Inc()
	m.quarantine(req, src.Name(), reason, "", "", io.NewSectionReader(z.r, 0, z.size), z.size)
	return errors.New(reason)
}

func errText(err error, ok string) string {
	if err != nil {
		return err.Error()
	}
	return ok
}
