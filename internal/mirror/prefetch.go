package mirror

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/goproxy"
)

// A Prefetch fetches files into the store, before anybody asks for them. It is safe for
// concurrent use.
//
// What the checksum databases say of the files is asked for beside them, twice as
// many questions at a time: a proof takes two round trips, one after the other, and
// no file should wait for it.
type Prefetch struct {
	m      *Mirror
	ctx    context.Context
	sctx   context.Context // of the questions to the databases, which end when the files are there
	stop   context.CancelCauseFunc
	lay    Layer
	files  sync.WaitGroup // workers of the lanes of files
	sums   sync.WaitGroup // and of that of questions
	down   sync.Map       // names of databases that are out of reach: the files will tell, each
	doneMu sync.Mutex     // held around done
	done   func(Fetched)

	mu    sync.Mutex // guards the following
	lanes [3]prefetchLane
	asked map[module.Version]bool // what databases say of them
}

// laneSums is the lane of questions to checksum databases, beside those of files.
const laneSums = 2

type prefetchLane struct {
	waiting []goproxy.Request
	workers int
	most    int // workers
}

// A Fetched is one file that a Prefetch has dealt with.
type Fetched struct {
	Request goproxy.Request
	Size    int64
	Hit     bool
	Local   bool // from the module cache of this machine
	Laid    bool // by the Layer
	Err     error
}

// Prefetch begins without any file: Add says what to fetch, and Wait must be called last.
// It fetches parallel small files at a time, and half as many zips beside them, which are
// work for the processor while the small ones are waiting for the network. Each is told
// as it is done, one at a time, those that cannot be had too, and a zip when it is stored,
// if the store takes it; done may call Add. Where lay is not nil, it is offered each version
// whose zip is among them. When ctx ends, what is under way ends with an error, and what has
// not begun is not told.
func (m *Mirror) Prefetch(ctx context.Context, parallel int, lay Layer, done func(Fetched)) *Prefetch {
	parallel = max(parallel, 1)
	p := &Prefetch{m: m, ctx: ctx, lay: lay, done: done, asked: map[module.Version]bool{}}
	p.sctx, p.stop = context.WithCancelCause(ctx)
	p.lanes[laneSmall].most, p.lanes[laneZips].most, p.lanes[laneSums].most = parallel, (parallel+1)/2, 2*parallel
	return p
}

// Add has files fetched, in this order but for small files and zips, which go side by
// side. A file must not be added twice.
func (p *Prefetch) Add(reqs ...goproxy.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, req := range reqs {
		p.push(laneOf(req), req)
		if req.Kind != goproxy.Info && !p.asked[req.Module] {
			p.asked[req.Module] = true
			p.push(laneSums, req)
		}
	}
}

// push puts a request into a lane. p.mu is held.
func (p *Prefetch) push(i int, req goproxy.Request) {
	lane := &p.lanes[i]
	lane.waiting = append(lane.waiting, req)
	if lane.workers == lane.most {
		return
	}
	lane.workers++
	if i == laneSums {
		p.sums.Go(func() { p.work(p.sctx, lane, p.ask) })
	} else {
		p.files.Go(func() { p.work(p.ctx, lane, p.fetch) })
	}
}

// work does what waits in a lane until there is no more.
func (p *Prefetch) work(ctx context.Context, lane *prefetchLane, do func(goproxy.Request)) {
	next := func() (req goproxy.Request, ok bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(lane.waiting) == 0 || ctx.Err() != nil {
			lane.workers--
			return req, false
		}
		req, lane.waiting = lane.waiting[0], lane.waiting[1:]
		return req, true
	}
	for req, ok := next(); ok; req, ok = next() {
		do(req)
	}
}

func (p *Prefetch) fetch(req goproxy.Request) {
	f := p.m.prefetchOne(p.ctx, req, p.lay)
	p.doneMu.Lock()
	defer p.doneMu.Unlock()
	p.done(f)
}

// ask asks the checksum database for what it says of a file that is not stored.
func (p *Prefetch) ask(req goproxy.Request) {
	route := p.m.Route(req.Module.Path)
	if route.Sums == nil {
		return
	}
	if _, ok := p.down.Load(route.Sums.Name()); ok {
		return
	}
	if _, err := p.m.c.Store.Record(req); err == nil {
		return
	}
	if _, err := p.m.want(p.sctx, route, req); errors.Is(err, checksum.ErrUnreachable) {
		p.down.Store(route.Sums.Name(), nil)
	}
}

// Wait returns when all that was added is done, or ctx has ended and nothing is under way.
func (p *Prefetch) Wait() {
	p.files.Wait()
	p.stop(context.Canceled)
	p.sums.Wait()
}
