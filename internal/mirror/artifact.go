package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/finding"
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
	// unvouched is how long a database that could not vouch in time is not asked
	// again to do so: a build opens hundreds of modules, one after the other.
	unvouched = 30 * time.Second
)

// maxLooks is how often a client is sent back to a store that has something for
// one and not for the next.
const maxLooks = 2

// errStored is the outcome of a flight that found what it was to fetch: it was
// stored between somebody's look and the flight's start.
var errStored = errors.New("it is in the store by now")

// artifact answers a request for a fixed version's file.
func (m *Mirror) artifact(ctx context.Context, req goproxy.Request, o Options) (*Result, error) {
	for try := 0; ; try++ {
		res, err := m.stored(ctx, req, false)
		if err == nil {
			note(ctx, "store", "hit", res.Source)
			return res, nil
		}
		note(ctx, "store", "miss", err.Error())
		// What the store cannot tell, nobody's "not found" tells in its place.
		sick, _ := errors.AsType[*StoreError](err)
		known := func(err error) error {
			if sick != nil && missing(err) {
				return sick
			}
			return err
		}
		var f *flight
		joined, whole := true, o.Whole
		offline := m.offline(req)
		if o.NoFetch || offline != nil {
			// What is being fetched for others already is as good as here.
			whole = true
			m.mu.Lock()
			f = m.underWay(req)
			m.mu.Unlock()
			if f == nil {
				if res, err := m.stored(ctx, req, false); err == nil {
					return res, nil // it came in between
				}
				if !o.NoFetch {
					return nil, offline
				}
				return nil, known(ErrNotCached)
			}
		} else {
			if err := m.absent(req); err != nil {
				note(ctx, "mirror", "not found, remembered", "")
				return nil, known(err)
			}
			f, joined = m.join(ctx, req, func(ctx context.Context, f *flight) { m.fetch(ctx, req, f, try < maxLooks) })
		}
		if joined {
			note(ctx, "mirror", "joined a fetch under way", "")
		}
		if res, err = m.await(ctx, req, f, whole); err != errStored || try > maxLooks {
			return res, known(err)
		}
	}
}

// fetch is the flight of an artifact. Unless it looks no more, it looks once more
// at what may have changed since its first client looked; only here, where nobody
// else does the same, unfit files are taken out of the store.
func (m *Mirror) fetch(ctx context.Context, req goproxy.Request, f *flight, look bool) {
	if look {
		if res, err := m.stored(ctx, req, true); err == nil {
			res.Close()
			f.err = errStored
			return
		}
	}
	if f.err = m.absent(req); f.err != nil {
		return
	}
	if req.Kind == goproxy.Zip {
		m.fetchZip(ctx, req, f, true)
	} else {
		m.fetchSmall(ctx, req, f, true)
	}
}

// await waits for what a flight, which the caller has joined, has to give to one
// client.
func (m *Mirror) await(ctx context.Context, req goproxy.Request, f *flight, whole bool) (*Result, error) {
	if req.Kind == goproxy.Zip {
		return f.follow(ctx, whole)
	}
	defer f.leave()
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
// is not there, or not fit to be served; mend takes it out of the store then, and
// tells. A *StoreError says that it could not be told.
func (m *Mirror) stored(ctx context.Context, req goproxy.Request, mend bool) (*Result, error) {
	blob, err := m.c.Store.Open(req)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, store.ErrDamaged):
		if mend {
			m.metrics.damaged.Inc()
			m.c.Log.Warn("stored file is damaged; it is fetched anew", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
				slog.String("kind", req.Kind.String()), slog.Any("err", err))
			m.discard(req, evidence(req, "store", err.Error()), false)
		}
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	default:
		// "Could not tell" is not "not there": the file may be fine, but a sick
		// disk must not stop the build while a source has it.
		m.storeWorked(err)
		return nil, &StoreError{Request: req, What: "whether it is stored cannot be told", Err: err}
	}
	if ev, ok := m.vouch(ctx, req, blob.Record); !ok {
		blob.Close()
		// That the database does not know it proves nothing about the bytes: the
		// file stays, and so does the pin, for those who know it as private.
		if mend && ev.Want != "" {
			m.metrics.mismatch.Inc()
			m.c.Log.Error("stored file is withdrawn", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
				slog.String("kind", req.Kind.String()), slog.String("reason", ev.Reason), slog.String("want", ev.Want), slog.String("got", ev.Got))
			m.discard(req, ev, true)
		}
		return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, ev.Reason)
	}
	return &Result{
		Content: blob.Content, Bytes: blob.Bytes, Size: blob.Record.Size, ETag: etag(blob.Record.SHA256),
		Source: blob.Record.Source, Hit: true, close: func() { blob.Close() },
	}, nil
}

func (m *Mirror) discard(req goproxy.Request, ev store.Evidence, forget bool) {
	if err := m.c.Store.Discard(req, ev, forget); err == nil {
		m.metrics.quarantined.Inc()
	} else if !errors.Is(err, fs.ErrNotExist) {
		m.c.Log.Warn("file is not moved to quarantine", slog.String("request", req.String()), slog.Any("err", err))
	}
}

// A vouchedFor is an artifact with the SHA-256 of what is stored of it.
type vouchedFor struct {
	req goproxy.Request
	sha string
}

// vouch asks the checksum database about an artifact that was stored while no
// database covered it, in case one does now. If that is not ok, ev says why. A
// database out of reach delays no cached module, or one for a moment.
func (m *Mirror) vouch(ctx context.Context, req goproxy.Request, rec store.Record) (ev store.Evidence, ok bool) {
	if rec.Verified != "" || req.Kind == goproxy.Info {
		return ev, true
	}
	route := m.Route(req.Module.Path)
	if route.Sums == nil {
		return ev, true
	}
	if m.vouched.Has(vouchedFor{req, rec.SHA256}) {
		return ev, true
	}
	m.mu.Lock()
	silent, was := m.silent[route.Sums.Name()]
	m.mu.Unlock()
	if was && time.Since(silent) < unvouched {
		return ev, true
	}
	vctx, cancel := context.WithTimeout(ctx, vouchTime)
	defer cancel()
	want, err := m.want(vctx, route, req)
	switch {
	case err == nil && want == rec.H1:
		m.vouched.Add(vouchedFor{req, rec.SHA256})
		return ev, true
	case err == nil:
		ev = evidence(req, rec.Source, "the checksum database disagrees with what was pinned while no database was asked")
	case errors.Is(err, checksum.ErrUnknown):
		ev = evidence(req, rec.Source, "the checksum database does not know it")
	default:
		note(ctx, "checksum", "could not vouch", err.Error())
		if ctx.Err() == nil {
			m.mu.Lock()
			m.silent[route.Sums.Name()] = time.Now()
			m.mu.Unlock()
		}
		return ev, true
	}
	ev.Want, ev.Got = want, rec.H1
	return ev, false
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

// A claim is the hash that a file must have, and who says so.
type claim struct {
	h1 string // "" if nothing is known yet, and by is "": what comes is pinned
	by string // name of the checksum database; "" for the pin
}

// wanted starts to find out which hash req must have, and returns what waits for
// the answer.
func (m *Mirror) wanted(ctx context.Context, route Route, req goproxy.Request) func() (claim, error) {
	if route.Sums == nil {
		return func() (claim, error) {
			rec, err := m.c.Store.Record(req)
			switch {
			case err == nil:
				return claim{h1: rec.H1}, nil
			case errors.Is(err, fs.ErrNotExist):
				return claim{}, nil
			case errors.Is(err, store.ErrDamaged):
				// Waiting does not bring it back, and nothing else stands for the module.
				m.c.Log.Warn("what was pinned is lost, so what comes now is pinned", slog.String("request", req.String()), slog.Any("err", err))
				return claim{}, nil
			}
			// What it was the first time is known, though not to us now.
			m.storeWorked(err)
			return claim{}, &StoreError{Request: req, What: "what it was when first seen cannot be read", Err: err}
		}
	}
	c := claim{by: route.Sums.Name()}
	err := ErrClosing
	done := make(chan struct{})
	if !m.background("checksum database", func() {
		defer close(done)
		err = errInternal // unless the next line returns
		c.h1, err = m.want(ctx, route, req)
	}) {
		close(done)
	}
	return func() (claim, error) {
		<-done
		switch {
		case errors.Is(err, checksum.ErrUnknown):
			return c, &RefusedError{Request: req, Err: err}
		case err == nil && c.h1 == "":
			return c, &RefusedError{Request: req, Err: fmt.Errorf("%w: it gives no hash", checksum.ErrUnknown)}
		}
		return c, err
	}
}

// judge compares a hash with what it must be. An error is either the source's
// fault, or an abort if it is not.
func (m *Mirror) judge(ctx context.Context, req goproxy.Request, src upstream.Source, h1 string, wanted func() (claim, error), body io.Reader, keep bool) (claim, error) {
	want, err := wanted()
	if err != nil {
		return want, upstream.Abort(err)
	}
	if want.h1 == "" || want.h1 == h1 {
		note(ctx, "checksum", "hash agrees", h1)
		return want, nil
	}
	mm := &MismatchError{Request: req, Source: src.Name(), By: want.by, Want: want.h1, Got: h1}
	m.mismatch(ctx, mm, body, keep)
	return want, mm
}

// mismatch tells that a source gave wrong bytes.
func (m *Mirror) mismatch(ctx context.Context, mm *MismatchError, body io.Reader, keep bool) {
	req := mm.Request
	m.metrics.mismatch.Inc()
	m.c.Log.Error("source gave wrong bytes", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
		slog.String("kind", req.Kind.String()), slog.String("source", mm.Source), slog.String("want", mm.Want), slog.String("got", mm.Got), slog.String("by", mm.By))
	if keep {
		m.quarantine(req, mm.Source, mm.Error(), mm.Want, mm.Got, body)
	}
	note(ctx, "checksum", "hash differs", mm.Error())
}

func (m *Mirror) quarantine(req goproxy.Request, source, reason, want, got string, body io.Reader) {
	ev := evidence(req, source, reason)
	ev.Want, ev.Got = want, got
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
	return m.walked(ctx, req, route.Chain.Fetch, accept)
}

// walked is walk by one of a Chain's ways.
func (m *Mirror) walked(ctx context.Context, req goproxy.Request, way func(context.Context, goproxy.Request, upstream.Accept) ([]upstream.Attempt, error), accept upstream.Accept) error {
	attempts, err := way(ctx, req, accept)
	for _, a := range attempts {
		m.sawSource(a)
		m.metrics.attempt(req, a)
		noteTook(ctx, "upstream", "asked "+a.Source, errText(a.Err, "took its answer"), a.Took)
	}
	if err == nil {
		// Nobody will return what was survived, so it is logged here.
		for _, a := range attempts[:len(attempts)-1] {
			switch {
			case a.Err == nil || errors.Is(a.Err, fs.ErrNotExist): // several may have answered
			case errors.Is(a.Err, upstream.ErrOutdone):
				m.c.Log.Debug("source outdone", slog.String("request", req.String()), slog.String("source", a.Source), slog.Duration("took", a.Took))
			default:
				m.c.Log.Warn("source failed over", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
					slog.String("kind", req.Kind.String()), slog.String("source", a.Source), slog.String("err", finding.Redact(a.Err.Error())), slog.Duration("took", a.Took))
			}
		}
		return nil
	}
	return err
}

// fetchSmall is the flight of an .info or .mod: held in memory, verified, then
// released, then stored. Without keep nothing is left behind.
func (m *Mirror) fetchSmall(ctx context.Context, req goproxy.Request, f *flight, keep bool) {
	route := m.routeFor(ctx, req.Module.Path)
	note(ctx, "mirror", "route", route.Why)
	var wanted func() (claim, error)
	if req.Kind == goproxy.Mod {
		wanted = m.wanted(ctx, route, req)
	}
	var rec store.Record
	var data []byte
	pinned := false
	local := false
	f.err = m.obtain(ctx, route, req, func(ctx context.Context, src upstream.Source, a *upstream.Answer) error {
		local = src == route.Local
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
		want, err := m.judge(ctx, req, src, rec.H1, wanted, bytes.NewReader(data), keep && !local)
		if rec.Verified = want.by; err != nil || want != (claim{}) || !keep {
			return err
		}
		pinned = true
		return m.pin(ctx, req, src, bytes.NewReader(data), func() error {
			f.unkept = m.storeSmall(req, data, rec)
			return f.unkept
		}, rec)
	})
	if f.err != nil {
		if keep {
			m.remember(req, f.err)
		}
		return
	}
	f.small = &Result{Bytes: data, Size: rec.Size, ETag: etag(rec.SHA256), Source: rec.Source, Local: local}
	f.land() // the client need not wait for the disk
	if local {
		m.tookLocal(false)
	}
	if keep && !pinned {
		f.unkept = m.storeSmall(req, data, rec)
		m.committed(req, f.unkept)
	}
}

func (m *Mirror) storeSmall(req goproxy.Request, data []byte, rec store.Record) error {
	p, err := m.c.Store.Create(req)
	if err != nil {
		return err
	}
	defer p.Abort()
	if _, err := p.Write(data); err != nil {
		return err
	}
	_, err = p.Commit(rec)
	return err
}

// committed takes note of how a Commit ended.
func (m *Mirror) committed(req goproxy.Request, err error) {
	if errors.Is(err, store.ErrConflict) {
		// A database's word against a database's: it has changed its mind, or its
		// name. What was there first stays.
		m.metrics.mismatch.Inc()
		m.c.Log.Error("not stored: it differs from what was verified before", slog.String("module", req.Module.Path),
			slog.String("version", req.Module.Version), slog.String("kind", req.Kind.String()), slog.Any("err", err))
		return
	}
	m.storeWorked(err)
}

// pin stores what was seen for the first time before anybody gets it: another
// process may have seen something else first, and then that is what it is.
func (m *Mirror) pin(ctx context.Context, req goproxy.Request, src upstream.Source, body io.Reader, commit func() error, rec store.Record) error {
	err := commit()
	if !errors.Is(err, store.ErrConflict) {
		m.storeWorked(err)
		return nil
	}
	first, err := m.c.Store.Record(req)
	if err != nil {
		return upstream.Abort(&StoreError{Request: req, What: "what it was when first seen cannot be read", Err: err})
	}
	mm := &MismatchError{Request: req, Source: src.Name(), Want: first.H1, Got: rec.H1}
	m.mismatch(ctx, mm, body, true)
	return mm
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

// A formError says that an answer gives itself away by its form.
type formError struct {
	code finding.Code
	text string
}

func (e *formError) Error() string { return e.text }

var (
	errEmpty     = &formError{finding.SourceEmpty, "the answer is 200 OK with nothing in it"}
	errTruncated = &formError{finding.SourceTruncated, "the answer is shorter than its Content-Length"}
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
// at a distance, verified, released, stored after its .info and .mod. Without
// keep nothing is left behind.
func (m *Mirror) fetchZip(ctx context.Context, req goproxy.Request, f *flight, keep bool) {
	route := m.routeFor(ctx, req.Module.Path)
	note(ctx, "mirror", "route", route.Why)
	wanted := m.wanted(ctx, route, req)
	// Whoever sees the zip shall find .info and .mod there too.
	var companions sync.WaitGroup
	var beside []byte // the .mod, once companions are done; nil if it could not be had
	defer companions.Wait()
	for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod} {
		companions.Add(1)
		if !m.background(req.With(k).String(), func() {
			defer companions.Done()
			data, err := m.companion(ctx, req.With(k), keep)
			switch {
			case k == goproxy.Mod && err == nil:
				beside = data
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				m.c.Log.Debug("zip without its companion", slog.String("request", req.With(k).String()), slog.Any("err", err))
			}
		}) {
			companions.Done()
		}
	}
	var rec store.Record
	var sp *spool
	var zip *moduleZip
	pinned := false
	err := m.obtain(ctx, route, req, func(ctx context.Context, src upstream.Source, a *upstream.Answer) error {
		if a.Size > goproxy.MaxZip {
			return &tooLargeError{goproxy.MaxZip}
		}
		p, err := m.pending(req, keep)
		if err != nil {
			return upstream.Abort(err)
		}
		sp = newSpool(p, a.Size)
		sp.doubted = route.Chain != nil && route.Chain.Doubted(src, req)
		// What is at hand is verified in no time, and clients need not begin with
		// bytes that may have to be taken back.
		if sp.local = src == route.Local; !sp.local {
			f.publish(sp)
		}
		if !sp.local || !sp.adopt(a) {
			done := m.inPieces(ctx, req, src, sp, a)
			err = m.receive(req, f, sp, a)
			done()
		}
		var want claim
		if err == nil {
			rec = store.Record{Source: src.Name(), Time: time.Now().UTC()}
			zip, want, err = m.verifyZip(ctx, req, src, sp, &rec, wanted, keep && !sp.local)
		}
		if err == nil && want == (claim{}) {
			companions.Wait()
			err = m.checkCompanion(req, rec, zip, beside, keep && !sp.local)
		}
		if err == nil && sp.local {
			f.publish(sp)
		}
		if err == nil && want == (claim{}) && keep && !sp.scratch {
			pinned = true
			err = m.pin(ctx, req, src, io.NewSectionReader(sp.p, 0, sp.p.Size()), func() error {
				_, f.unkept = sp.p.Commit(rec)
				return f.unkept
			}, rec)
		}
		switch {
		case err != nil && sp.local && f.spool != sp:
			sp.p.Abort()
		case err != nil:
			f.fail(sp, err)
		}
		return err
	})
	if err != nil {
		f.err = err
		if keep {
			m.remember(req, err)
		}
		f.land() // nobody waits for the companions of what is not there
		return
	}
	f.verify(sp, rec)
	if sp.local {
		m.tookLocal(sp.linked)
	}
	if pinned {
		return
	}
	companions.Wait()
	if rec.Verified != "" {
		m.checkCompanion(req, rec, zip, beside, keep)
	}
	switch {
	case keep && !sp.scratch:
		_, f.unkept = sp.p.Commit(rec)
		m.committed(req, f.unkept)
	case keep:
		_, f.unkept = m.StoreTrouble()
	}
}

// companion is the .info or .mod of a zip that is being fetched, stored by now if
// it can be. Without keep it is that of the store, if it is there.
func (m *Mirror) companion(ctx context.Context, req goproxy.Request, keep bool) ([]byte, error) {
	var res *Result
	var err error
	if keep {
		res, err = m.artifact(ctx, req, Options{})
		m.settled(ctx, req)
	} else {
		res, err = m.stored(ctx, req, false)
	}
	if err != nil {
		return nil, err
	}
	defer res.Close()
	return io.ReadAll(res.Content)
}

// pending makes room for an artifact: in the store if it is to be kept, or where
// that takes nothing, beside it.
func (m *Mirror) pending(req goproxy.Request, keep bool) (pending, error) {
	var err error
	if keep {
		p, cerr := m.c.Store.Create(req)
		if cerr == nil {
			return pending{p, false}, nil
		}
		m.storeWorked(cerr)
		err = cerr
	}
	sp, serr := store.Scratch(m.c.Scratch, scratchMemory)
	if serr != nil {
		return pending{}, noRoom(req, errors.Join(err, serr))
	}
	return pending{sp, true}, nil
}

func noRoom(req goproxy.Request, err error) error {
	return &StoreError{Request: req, What: "there is no room for it while it is verified", Err: err}
}

type pending struct {
	store.Pending
	scratch bool
}

// receive copies a zip into the spool, waking those who follow it.
func (m *Mirror) receive(req goproxy.Request, f *flight, sp *spool, a *upstream.Answer) error {
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
					return upstream.Abort(noRoom(req, werr))
				}
				m.storeWorked(werr)
				if serr := f.moveToScratch(sp, m.c.Scratch, buf[:k], n-int64(k)); serr != nil {
					return upstream.Abort(noRoom(req, errors.Join(werr, serr)))
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

// verifyZip checks a whole zip by the module zip rules and by its hash, and
// completes its record.
func (m *Mirror) verifyZip(ctx context.Context, req goproxy.Request, src upstream.Source, sp *spool, rec *store.Record, wanted func() (claim, error), keep bool) (*moduleZip, claim, error) {
	start := time.Now()
	size := sp.p.Size()
	own := &ownReader{r: sp.p}
	z, err := readZip(own, size, req.Module)
	if err == nil {
		rec.H1, err = z.hash(ctx)
	}
	noteTook(ctx, "checksum", "zip rules and hash", errText(err, rec.H1), time.Since(start))
	switch {
	case own.failed() != nil:
		m.storeWorked(own.failed())
		return nil, claim{}, upstream.Abort(&StoreError{Request: req, What: "the download cannot be read back", Err: own.failed()})
	case ctx.Err() != nil:
		return nil, claim{}, context.Cause(ctx)
	case err != nil:
		m.metrics.badZip.Inc()
		if keep {
			m.quarantine(req, src.Name(), err.Error(), "", "", io.NewSectionReader(sp.p, 0, size))
		}
		return nil, claim{}, err
	}
	want, err := m.judge(ctx, req, src, rec.H1, wanted, io.NewSectionReader(sp.p, 0, size), keep)
	rec.Verified = want.by
	return z, want, err
}

// An ownReader tells a failure of our own medium from a file that is damaged: the
// one is no fault of the source.
type ownReader struct {
	r   io.ReaderAt
	err atomic.Pointer[error] // the first failure
}

func (r *ownReader) failed() error {
	if p := r.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (r *ownReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("it points to before its beginning") // the file does
	}
	n, err := r.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		r.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// checkCompanion compares the zip's go.mod with the .mod that is served beside
// it, nil if that is not at hand. Where a checksum database stands for both, a
// difference is only told: the database has the last word. Where none does, the
// source contradicts itself, and that is the error.
func (m *Mirror) checkCompanion(req goproxy.Request, rec store.Record, z *moduleZip, beside []byte, keep bool) error {
	inZip, err := z.goMod()
	if err != nil || inZip == nil || beside == nil || bytes.Equal(beside, inZip) {
		return err
	}
	m.c.Log.Warn("the go.mod in the zip differs from the .mod", slog.String("module", req.Module.Path),
		slog.String("version", req.Module.Version), slog.String("source", rec.Source), slog.String("verified", rec.Verified))
	if rec.Verified != "" {
		return nil
	}
	m.metrics.mismatch.Inc()
	if keep {
		m.quarantine(req, rec.Source, errContradicts.Error(), "", "", io.NewSectionReader(z.r, 0, z.size))
	}
	return errContradicts
}

var errContradicts = &formError{finding.SourceWrongAnswer, "the go.mod in the zip differs from the .mod file, and no checksum database stands for either"}

func errText(err error, ok string) string {
	if err != nil {
		return err.Error()
	}
	return ok
}
