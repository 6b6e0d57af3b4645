package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/modsluice/sluice/internal/store"
)

// A spool is one attempt's zip while it arrives. Its fields are guarded by the
// mutex of its flight. Its bytes live as long as it is the flight's current
// attempt and somebody takes part in the flight, or as a stream is on it.
type spool struct {
	p       store.Pending
	scratch bool  // p will never be stored
	linked  bool  // p has the source's own file, without a copy
	local   bool  // it comes from the Route's Local, and is published once it is verified
	doubted bool  // its source is not proven, so clients begin only when it is verified
	total   int64 // as the source announced, or -1

	have     int64 // bytes that can be read
	verified bool  // all bytes are there, and right
	rec      store.Record
	err      error // why there will be no more
	streams  int   // that are on it
	replaced bool  // by a later attempt
}

func newSpool(p pending, total int64) *spool {
	return &spool{p: p.Pending, scratch: p.scratch, total: total}
}

// publish makes sp the attempt that is followed.
func (f *flight) publish(sp *spool) {
	f.mu.Lock()
	old := f.spool
	f.spool = sp
	f.wake()
	unused := old != nil && old.streams == 0
	if old != nil {
		old.replaced = true
	}
	f.mu.Unlock()
	if unused {
		old.p.Abort()
	}
}

// drop takes a stream off sp.
func (f *flight) drop(sp *spool) {
	f.mu.Lock()
	sp.streams--
	unused := sp.streams == 0 && sp.replaced
	f.mu.Unlock()
	if unused {
		sp.p.Abort()
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
func (f *flight) moveToScratch(sp *spool, dir string, rest []byte, have int64) error {
	s, err := store.Scratch(dir, scratchMemory)
	if err != nil {
		return err
	}
	if _, err = io.CopyN(s, io.NewSectionReader(sp.p, 0, have), have); err == nil {
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

// readAt reads from sp, which may move to the scratch file meanwhile.
func (f *flight) readAt(sp *spool, b []byte, off int64) (int, error) {
	pending := func() store.Pending {
		f.mu.Lock()
		defer f.mu.Unlock()
		return sp.p
	}
	for p := pending(); ; {
		n, err := p.ReadAt(b, off)
		if n == len(b) {
			return n, nil
		}
		q := pending()
		if q == p {
			return n, err
		}
		p = q
	}
}

// large reports whether sp is worth following before it is verified. f.mu is held.
func (sp *spool) large() bool {
	return !sp.doubted && (sp.total > smallZip || sp.total < 0 && sp.have > smallZip)
}

// limit is how far a client may read that was told of size bytes (-1: of none).
// f.mu is held.
func (sp *spool) limit(size int64) int64 {
	if sp.verified {
		return sp.have
	}
	// The announced end bounds it too: all but the last block of what is to come,
	// not only of what came. And whatever this attempt says, a client that was
	// told of an end by an earlier one must not come near that.
	end := sp.have
	for _, announced := range [...]int64{sp.total, size} {
		if announced >= 0 {
			end = min(end, announced)
		}
	}
	return max(0, end-holdBack)
}

// follow waits until the zip of a flight, which the caller has joined, can be
// answered with: whole and verified, or large and on its way. The result leaves
// the flight when it is closed; an error has left it.
func (f *flight) follow(ctx context.Context, whole bool) (*Result, error) {
	res, err := f.wait(ctx, whole)
	if err != nil {
		f.leave()
	}
	return res, err
}

func (f *flight) wait(ctx context.Context, whole bool) (*Result, error) {
	for {
		f.mu.Lock()
		sp, changed := f.spool, f.changed
		switch {
		case sp != nil && sp.verified:
			f.mu.Unlock()
			return &Result{
				Content: io.NewSectionReader(sp.p, 0, sp.rec.Size), Size: sp.rec.Size, Source: sp.rec.Source, ETag: etag(sp.rec.SHA256),
				Local: sp.local, close: f.leave,
			}, nil
		case !whole && sp != nil && sp.err == nil && sp.large() && sp.limit(-1) > 0:
			sp.streams++
			st := &stream{ctx: ctx, f: f, sp: sp, size: sp.total}
			f.mu.Unlock()
			return &Result{Stream: st, Size: st.size, close: st.close}, nil
		}
		f.mu.Unlock()
		select {
		case <-f.done:
			if err := f.outcome(); err != nil {
				return nil, err
			}
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// outcome is why the zip of a flight that is over is not there; nil if it is.
func (f *flight) outcome() error {
	if f.err != nil {
		return f.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spool == nil || !f.spool.verified {
		return errInternal
	}
	return nil
}

// errDiverged says that the next source's bytes are not a continuation of what a
// client already has.
var errDiverged = errors.New("the source failed midway, and the next one's file has other bytes; the download must be started again")

// A stream is one client's way through a zip that is still arriving. If the
// source fails midway, it goes on with the next source's zip where that begins
// with the same bytes.
type stream struct {
	ctx  context.Context
	f    *flight
	sp   *spool // that it is on
	size int64  // what the client was told, or -1
	off  int64  // what the client has
}

func (s *stream) Read(b []byte) (int, error) {
	f := s.f
	for {
		f.mu.Lock()
		sp, cur, changed := s.sp, f.spool, f.changed
		failed, verified, have, limit := sp.err, sp.verified, sp.have, sp.limit(s.size)
		change := failed != nil && cur != sp && cur.err == nil
		if change {
			cur.streams++
		}
		f.mu.Unlock()

		switch {
		case change:
			if err := s.change(cur); err != nil {
				return 0, err
			}
			continue
		case failed != nil:
			// No more of what failed: the less the client has of it, the likelier
			// it is that the next attempt begins the same way.
		case verified && s.size >= 0 && have != s.size:
			return 0, errDiverged
		case s.off < limit:
			n, err := f.readAt(sp, b[:min(int64(len(b)), limit-s.off)], s.off)
			s.off += int64(n)
			if n > 0 {
				err = nil
			} else if err != nil {
				err = fmt.Errorf("the download cannot be read back: %w", err)
			}
			return n, err
		case verified:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.done:
			if err := f.outcome(); err != nil {
				return 0, err
			}
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
}

// change goes on with another attempt, on which the stream has been counted, as
// soon as that has as many bytes as the client. If it fails before, the stream
// stays where it is, for Read to look for the one after it.
func (s *stream) change(next *spool) error {
	f := s.f
	for {
		f.mu.Lock()
		have, failed, verified, total, changed := next.have, next.err, next.verified, next.total, f.changed
		f.mu.Unlock()
		switch {
		case failed != nil:
			f.drop(next)
			return nil
		case s.size >= 0 && (total >= 0 && total != s.size || verified && have != s.size), verified && have < s.off:
			f.drop(next)
			return errDiverged
		case have >= s.off:
			if err := s.sameSoFar(next); err != nil {
				f.drop(next)
				return err
			}
			f.drop(s.sp)
			s.sp = next
			return nil
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			f.drop(next)
			return context.Cause(s.ctx)
		}
	}
}

// sameSoFar compares what the client has with the beginning of next.
func (s *stream) sameSoFar(next *spool) error {
	was, is := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for off := int64(0); off < s.off; off += copyBuffer {
		k := min(copyBuffer, s.off-off)
		if _, err := s.f.readAt(s.sp, was[:k], off); err != nil {
			return fmt.Errorf("the download cannot be read back: %w", err)
		}
		if _, err := s.f.readAt(next, is[:k], off); err != nil {
			return fmt.Errorf("the download cannot be read back: %w", err)
		}
		if !bytes.Equal(was[:k], is[:k]) {
			return errDiverged
		}
	}
	return nil
}

func (s *stream) close() {
	s.f.drop(s.sp)
	s.f.leave()
}
