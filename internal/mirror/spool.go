package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/modsluice/sluice/internal/store"
)

// A spool is one attempt's zip while it arrives. Its fields are guarded by the
// mutex of its flight.
type spool struct {
	p       store.Pending
	scratch bool  // p will never be stored
	total   int64 // as the source announced, or -1

	have     int64 // bytes that can be read
	verified bool  // all bytes are there, and right
	rec      store.Record
	err      error // why there will be no more
	refs     int   // the flight's own, and one for each reader
}

func newSpool(p pending, total int64) *spool {
	return &spool{p: p.Pending, scratch: p.scratch, total: total, refs: 1}
}

// release gives up one hold; the last one frees the bytes that were not stored.
func (sp *spool) release(f *flight) {
	f.mu.Lock()
	sp.refs--
	last := sp.refs == 0
	f.mu.Unlock()
	if last {
		sp.p.Abort()
	}
}

// publish makes sp the attempt that is followed.
func (f *flight) publish(sp *spool) {
	f.mu.Lock()
	old := f.spool
	f.spool = sp
	f.wake()
	f.mu.Unlock()
	if old != nil {
		old.release(f)
	}
}

func (f *flight) grown(sp *spool, have int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sp.have = have
	f.wake()
}

func (f *flight) fail(sp *spool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sp.err = err
	f.wake()
}

func (f *flight) verify(sp *spool, rec store.Record) {
	rec.Size, rec.SHA256 = sp.p.Size(), sp.p.Sum()
	f.mu.Lock()
	defer f.mu.Unlock()
	sp.verified, sp.have, sp.rec = true, rec.Size, rec
	f.wake()
}

// moveToScratch carries on after the store has failed in the middle of a zip:
// what is there is copied beside the store, with the bytes that did not fit.
func (sp *spool) moveToScratch(f *flight, dir string, rest []byte, have int64) error {
	s, err := store.Scratch(dir, scratchMemory)
	if err != nil {
		return err
	}
	if _, err = io.Copy(s, io.NewSectionReader(sp.p, 0, have)); err == nil {
		_, err = s.Write(rest)
	}
	if err != nil {
		s.Abort()
		return err
	}
	f.mu.Lock()
	old := sp.p
	sp.p, sp.scratch = s, true
	f.mu.Unlock()
	old.Abort()
	return nil
}

// limit is how far a client may read. f.mu is held.
func (sp *spool) limit() int64 {
	if sp.verified {
		return sp.have
	}
	// The announced end, if there is one, bounds it too: all but the last block
	// of what is to come, not only of what came.
	end := sp.have
	if sp.total >= 0 {
		end = min(end, sp.total)
	}
	return max(0, end-holdBack)
}

// large reports whether sp is worth following before it is verified. f.mu is held.
func (sp *spool) large() bool {
	return sp.total > smallZip || sp.total < 0 && sp.have > smallZip
}

// follow waits until the zip of a flight can be answered with: whole and
// verified, or large and on its way.
func (m *Mirror) follow(ctx context.Context, f *flight, whole bool) (*Result, error) {
	for {
		f.mu.Lock()
		sp, changed := f.spool, f.changed
		switch {
		case sp != nil && sp.verified:
			sp.refs++
			rec := sp.rec
			f.mu.Unlock()
			return &Result{
				Content: io.NewSectionReader(sp.p, 0, rec.Size), Size: rec.Size, Source: rec.Source, ETag: etag(rec.SHA256),
				close: sync.OnceFunc(func() { sp.release(f) }),
			}, nil
		case !whole && sp != nil && sp.err == nil && sp.large() && sp.limit() > 0:
			sp.refs++
			total := sp.total
			f.mu.Unlock()
			st := &stream{ctx: ctx, f: f, sp: sp}
			return &Result{Stream: st, Size: total, close: st.close}, nil
		}
		f.mu.Unlock()
		select {
		case <-f.done:
			if f.err != nil {
				return nil, f.err
			}
			f.mu.Lock()
			ok := f.spool != nil && f.spool.verified
			f.mu.Unlock()
			if !ok {
				return nil, errInternal
			}
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// errDiverged says that the next source's bytes are not a continuation of what a
// client already has.
var errDiverged = errors.New("the source failed midway, and the next one's file has other bytes; the download must be started again")

// A stream is one client's way through a zip that is still arriving. If the
// source fails midway, it goes on with the next source's zip where that begins
// with the same bytes.
type stream struct {
	ctx context.Context
	f   *flight
	sp  *spool // held
	off int64  // what the client has
}

func (s *stream) Read(b []byte) (int, error) {
	for {
		s.f.mu.Lock()
		cur, changed := s.f.spool, s.f.changed
		sp := s.sp
		limit, verified, failed, total, p := sp.limit(), sp.verified, sp.err, sp.total, sp.p
		if cur != sp && failed != nil {
			cur.refs++
		}
		s.f.mu.Unlock()

		switch {
		case cur != sp && failed != nil:
			ok, err := s.change(cur, total)
			if err != nil || !ok {
				return 0, err
			}
			continue
		case s.off < limit:
			n, err := p.ReadAt(b[:min(int64(len(b)), limit-s.off)], s.off)
			s.off += int64(n)
			if n > 0 {
				return n, nil
			}
			s.f.mu.Lock()
			moved := sp.p != p
			s.f.mu.Unlock()
			if moved {
				continue // to the scratch file, between our look and our read
			}
			return 0, err
		case verified:
			return 0, io.EOF
		}
		over := false
		select {
		case <-changed:
		case <-s.f.done:
			over = true
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
		if over {
			s.f.mu.Lock()
			ended := !s.sp.verified && s.f.spool == s.sp
			s.f.mu.Unlock()
			if ended {
				if s.f.err != nil {
					return 0, s.f.err
				}
				return 0, errInternal
			}
		}
	}
}

// change goes on with another attempt, whose hold has been taken. It waits until
// that has as many bytes as the client.
func (s *stream) change(next *spool, total int64) (bool, error) {
	for {
		s.f.mu.Lock()
		have, err, changed, ntotal, p := next.have, next.err, s.f.changed, next.total, next.p
		verified := next.verified
		s.f.mu.Unlock()
		switch {
		case have >= s.off:
			if total >= 0 && ntotal >= 0 && ntotal != total || total >= 0 && verified && have != total || !samePrefix(s.sp.p, p, s.off) {
				next.release(s.f)
				return false, errDiverged
			}
			s.sp.release(s.f)
			s.sp = next
			return true, nil
		case verified:
			next.release(s.f)
			return false, errDiverged
		case err != nil:
			// This one failed too. Read looks for the one after it, or the end.
			next.release(s.f)
			s.f.mu.Lock()
			last := s.f.spool == next
			s.f.mu.Unlock()
			if last {
				select {
				case <-s.f.done:
					if s.f.err != nil {
						return false, s.f.err
					}
				case <-changed:
				case <-s.ctx.Done():
					return false, context.Cause(s.ctx)
				}
			}
			s.f.mu.Lock()
			next = s.f.spool
			next.refs++
			s.f.mu.Unlock()
			continue
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			next.release(s.f)
			return false, context.Cause(s.ctx)
		}
	}
}

func samePrefix(a, b io.ReaderAt, n int64) bool {
	ba, bb := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for off := int64(0); off < n; {
		k := min(copyBuffer, n-off)
		na, _ := a.ReadAt(ba[:k], off)
		nb, _ := b.ReadAt(bb[:k], off)
		if int64(na) != k || int64(nb) != k || !bytes.Equal(ba[:k], bb[:k]) {
			return false
		}
		off += k
	}
	return true
}

func (s *stream) close() { s.sp.release(s.f) }

// onceValues makes a function of three results one that is called once.
func onceValues(f func() (string, string, error)) func() (string, string, error) {
	var once sync.Once
	var a, b string
	var err error
	return func() (string, string, error) {
		once.Do(func() { a, b, err = f() })
		return a, b, err
	}
}
