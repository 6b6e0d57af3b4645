package storetest

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// ErrInjected is what an operation fails with that FailNth chose.
var ErrInjected = errors.New("storetest: this operation was made to fail")

// Faulty is a store that counts what is done to it, and fails once if told to.
// An operation is a call of one of Store's methods, or of Write, ReadAt, Reset
// or Commit of a Pending artifact; it is counted under its name ("Open",
// "Pending.Commit"). What fails has no effect.
type Faulty struct {
	s store.Store

	mu    sync.Mutex // guards the following
	left  int        // operations that succeed before the one that fails; negative: none fails, or one has
	fired string     // the one that failed
	calls map[string]int
}

var _ store.Store = (*Faulty)(nil)

// FailNth wraps s so that the n'th operation from now, counted from 0, fails
// with ErrInjected. The others pass.
func FailNth(s store.Store, n int) *Faulty {
	return &Faulty{s: s, left: n, calls: make(map[string]int)}
}

// Count wraps s so that nothing fails and everything is counted.
func Count(s store.Store) *Faulty { return FailNth(s, -1) }

// Fired reports whether the n'th operation came, and failed.
func (f *Faulty) Fired() bool { return f.Which() != "" }

// Which names the operation that failed, "" before.
func (f *Faulty) Which() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Calls is how often an operation was begun.
func (f *Faulty) Calls(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

func (f *Faulty) do(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	f.left--
	if f.left == -1 {
		f.fired = op
		return ErrInjected
	}
	f.left = max(f.left, -2)
	return nil
}

func (f *Faulty) Open(req goproxy.Request) (*store.Blob, error) {
	if err := f.do("Open"); err != nil {
		return nil, err
	}
	return f.s.Open(req)
}

func (f *Faulty) Warm(path string) *store.Warm { return f.s.Warm(path) }

func (f *Faulty) Record(req goproxy.Request) (store.Record, error) {
	if err := f.do("Record"); err != nil {
		return store.Record{}, err
	}
	return f.s.Record(req)
}

func (f *Faulty) Check(req goproxy.Request) error {
	if err := f.do("Check"); err != nil {
		return err
	}
	return f.s.Check(req)
}

func (f *Faulty) Create(req goproxy.Request) (store.Pending, error) {
	if err := f.do("Create"); err != nil {
		return nil, err
	}
	p, err := f.s.Create(req)
	if err != nil {
		return nil, err
	}
	return &pending{p, f}, nil
}

func (f *Faulty) Versions(path string) ([]string, error) {
	if err := f.do("Versions"); err != nil {
		return nil, err
	}
	return f.s.Versions(path)
}

func (f *Faulty) Answer(req goproxy.Request) (store.Answer, error) {
	if err := f.do("Answer"); err != nil {
		return store.Answer{}, err
	}
	return f.s.Answer(req)
}

func (f *Faulty) SetAnswer(req goproxy.Request, a store.Answer) error {
	if err := f.do("SetAnswer"); err != nil {
		return err
	}
	return f.s.SetAnswer(req, a)
}

func (f *Faulty) ReadFile(name string) ([]byte, error) {
	if err := f.do("ReadFile"); err != nil {
		return nil, err
	}
	return f.s.ReadFile(name)
}

func (f *Faulty) WriteFile(name string, data []byte) error {
	if err := f.do("WriteFile"); err != nil {
		return err
	}
	return f.s.WriteFile(name, data)
}

func (f *Faulty) SwapFile(name string, old, new []byte) error {
	if err := f.do("SwapFile"); err != nil {
		return err
	}
	return f.s.SwapFile(name, old, new)
}

func (f *Faulty) Quarantine(ev store.Evidence, body io.Reader) error {
	if err := f.do("Quarantine"); err != nil {
		return err
	}
	return f.s.Quarantine(ev, body)
}

func (f *Faulty) Quarantined() ([]store.Evidence, error) {
	if err := f.do("Quarantined"); err != nil {
		return nil, err
	}
	return f.s.Quarantined()
}

func (f *Faulty) Discard(req goproxy.Request, ev store.Evidence, forget bool) error {
	if err := f.do("Discard"); err != nil {
		return err
	}
	return f.s.Discard(req, ev, forget)
}

func (f *Faulty) Walk(ctx context.Context, fn func(goproxy.Request, error) error) error {
	if err := f.do("Walk"); err != nil {
		return err
	}
	return f.s.Walk(ctx, fn)
}

func (f *Faulty) Probe() error {
	if err := f.do("Probe"); err != nil {
		return err
	}
	return f.s.Probe()
}

type pending struct {
	store.Pending
	f *Faulty
}

func (p *pending) Write(b []byte) (int, error) {
	if err := p.f.do("Pending.Write"); err != nil {
		return 0, err
	}
	return p.Pending.Write(b)
}

func (p *pending) ReadAt(b []byte, off int64) (int, error) {
	if err := p.f.do("Pending.ReadAt"); err != nil {
		return 0, err
	}
	return p.Pending.ReadAt(b, off)
}

func (p *pending) Reset() error {
	if err := p.f.do("Pending.Reset"); err != nil {
		return err
	}
	return p.Pending.Reset()
}

func (p *pending) Commit(rec store.Record) (store.Record, error) {
	if err := p.f.do("Pending.Commit"); err != nil {
		return store.Record{}, err
	}
	return p.Pending.Commit(rec)
}
