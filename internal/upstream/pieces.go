package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pieceFrom is how many bytes of a zip must be missing for another connection to
	// be worth while, and pieceLeast how long they would take without it: to find out
	// whether it helps takes about as long.
	pieceFrom  = 8 << 20
	pieceLeast = 5 * time.Second
	// paceRamp is how long a new connection is given to come up to its speed, and
	// paceWindow over which time the speed is then taken.
	paceRamp   = time.Second
	paceWindow = 3 * time.Second
	// pieceStart is how long a new connection may take to bring its first byte.
	pieceStart = 10 * time.Second
	// pieceShare is the part of what a connection would bring if it were as good as
	// those before it, that it must bring for it to stay.
	pieceShare = 0.5

	// A piece is what a connection brings in pieceTime, within these bounds: many
	// enough that a client that reads along is not kept waiting for one, few enough
	// that asking for them costs nothing.
	pieceTime  = 4 * time.Second
	leastPiece = 1 << 20
	mostPiece  = 16 << 20
	// splitFrom is how many bytes of a piece must be missing for a connection that
	// has nothing else to do to take half of them over.
	splitFrom = 4 << 20

	// piecesUseless is how long a source is believed not to be worth pieces after
	// they brought nothing or were refused, and piecesHelped to be so after they
	// brought much.
	piecesUseless = time.Hour
	piecesHelped  = time.Hour
	// unsureLeft is how long a zip must still take for another connection to be
	// tried where nothing tells whether the one there is slow.
	unsureLeft = 20 * time.Second
)

// A Place keeps bytes of an answer before it is their turn to be read. It is safe
// for concurrent use at different offsets.
type Place interface {
	io.WriterAt
	io.ReaderAt // what WriteAt was given
}

// Pieces let the body of a large answer come over several connections at a time,
// where each of them is slow and they are faster together. Whoever reads the body
// gets its bytes in order all the same, and that they are the right ones is for
// the caller's hash to say, as ever.
//
// It begins with the one connection that there is. When that has been slow for some
// seconds, by what the source, or another one, has given before, a second one asks
// for a part that is not due yet (RFC 9110, section 14, with If-Range, so that all
// are of the same file). It stays if both together bring clearly more than the
// first alone, and then another one is tried; else it goes, and the source is
// remembered as one where that is of no use.
//
// The first connection goes on up to the first piece and is closed there. What a
// connection leaves undone when it breaks is asked for by the others, or where
// none is left, by the body itself as after any break.
//
// The nil Pieces does nothing. Its methods are safe for concurrent use.
type Pieces struct {
	r      *resuming
	h      *Health
	src    Source
	place  Place
	most   int
	size   int64
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // of every goroutine
	got    atomic.Int64   // bytes that came, over all connections

	mu      sync.Mutex    // guards the following; never held across I/O
	wake    chan struct{} // closed when there is news for who reads; nil: nobody waits
	off     int64         // bytes read
	head    bool          // the body's own connection is open, and at off
	claims  []*claim      // of what is not read yet, in order, apart from one another
	workers int
	pace    float64 // bytes per second of all connections, as last measured
	over    bool    // nothing more is asked for in pieces
	report  PiecesReport
}

// A claim is a part of the body that a worker has undertaken to fetch. Its fields
// are guarded by the mutex of its Pieces.
type claim struct {
	from, done, to int64   // place has what lies between from and done
	w              *worker // nil: it comes no further than done, which is to
}

// A worker is a further connection.
type worker struct {
	ctx     context.Context
	cancel  context.CancelFunc
	release func()        // tells Health that it is over
	first   chan struct{} // closed when its first bytes are there
	ended   chan struct{} // closed when it is over
	begun   bool          // first is closed; of the worker's goroutine
	err     error         // why it is over, if it failed; before ended is closed
}

// A PiecesReport says what became of asking for a body in pieces.
type PiecesReport struct {
	Bytes    int64 // that came in pieces
	Requests int   // for pieces that were answered with one
	// Further connections: those that made the whole faster, those that did not,
	// those that were refused or broke before that was known, and those of which it
	// is not known.
	Kept, Useless, Failed, Unsettled int
	Why                              string // what the last one failed with; "" if none did
}

// Tried is how many further connections were made.
func (r PiecesReport) Tried() int { return r.Kept + r.Useless + r.Failed + r.Unsettled }

// InPieces lets the body come over several connections from now on, if that may be
// of use: place keeps what comes early. It is nil if it may not. The caller calls
// Stop when it has read the body, or gives up; Close of the body does so, too.
func (a *Answer) InPieces(place Place) *Pieces {
	r := a.resume
	if r == nil || a.health == nil || place == nil || r.pieces != nil || r.net.c.Pieces < 2 || r.valid == "" || r.size-r.off <= pieceFrom {
		return nil
	}
	p := &Pieces{r: r, h: a.health, src: a.src, place: place, most: r.net.c.Pieces, size: r.size, off: r.off, head: true}
	// How far a piece has come is nothing that the walk waits for.
	p.ctx, p.cancel = context.WithCancel(context.WithValue(r.ctx, progressKey{}, (*progress)(nil)))
	r.pieces = p
	p.wg.Go(p.watch)
	return p
}

// Stop ends all connections but the body's own, and waits for that. What is read
// afterwards comes over that one.
func (p *Pieces) Stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
}

// Report is what has become of it so far.
func (p *Pieces) Report() PiecesReport {
	if p == nil {
		return PiecesReport{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report
}

// read is Read of the body.
func (p *Pieces) read(b []byte) (int, error) {
	// A claim begins farther ahead than this.
	b = b[:min(len(b), leastPiece)]
	for {
		p.mu.Lock()
		for len(p.claims) > 0 && p.claims[0].w == nil && p.claims[0].to <= p.off {
			p.claims = p.claims[1:]
		}
		end, there := p.size, false
		var wait chan struct{}
		if len(p.claims) > 0 {
			c := p.claims[0]
			switch {
			case p.off < c.from:
				end = c.from
			case p.off < c.done:
				end, there = c.done, true
			default:
				if p.wake == nil {
					p.wake = make(chan struct{})
				}
				wait = p.wake
			}
		}
		off, head := p.off, p.head
		p.mu.Unlock()
		switch {
		case head && (there || wait != nil):
			p.park()
		case there:
			n, err := p.place.ReadAt(b[:min(int64(len(b)), end-off)], off)
			if n == 0 {
				p.lose(fmt.Errorf("what came early cannot be read back: %w", err))
				continue
			}
			p.advance(n)
			return n, nil
		case wait != nil:
			select {
			case <-wait:
			case <-p.r.ctx.Done():
				return 0, context.Cause(p.r.ctx)
			}
		case !head && off >= p.size:
			return 0, io.EOF
		case !head:
			if err := p.reopen(off); err != nil {
				return 0, err
			}
		default:
			if end > off { // at the end, it still has its EOF to say
				b = b[:min(int64(len(b)), end-off)]
			}
			n, err := p.r.read(b)
			p.got.Add(int64(n))
			p.advance(n)
			return n, err
		}
	}
}

func (p *Pieces) advance(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off += int64(n)
}

// park closes the body's own connection, which has come to what others fetch or
// have fetched, and puts one that fetches pieces in its place.
func (p *Pieces) park() {
	p.r.body.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = false
	if !p.over && p.workers > 0 {
		p.begin(func() {})
	}
}

// reopen goes on with the body's own connection.
func (p *Pieces) reopen(off int64) error {
	p.r.off, p.r.failed = off, nil
	if !p.r.ask() {
		_, err := p.r.body.Read(nil)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = true
	return nil
}

// lose forgets what came early, since it cannot be kept: all that is not read yet
// comes over the body's own connection.
func (p *Pieces) lose(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over, p.report.Why = true, err.Error()
	p.claims = nil
	p.cancel()
	p.tell()
}

// tell wakes who reads. p.mu is held.
func (p *Pieces) tell() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// watch measures what comes, and tries another connection where one may help.
func (p *Pieces) watch() {
	if _, ok := p.measure(paceRamp); !ok {
		return
	}
	fastest, known := 0.0, false
	var pace float64
	for {
		if !known {
			var ok bool
			if pace, ok = p.measure(paceWindow); !ok {
				return
			}
		}
		known = false
		fastest = max(fastest, pace)
		left := p.size - p.got.Load()
		if left < pieceFrom {
			return
		}
		took := time.Duration(float64(left) / max(pace, 1) * float64(time.Second))
		p.mu.Lock()
		further := p.lines() - 1
		p.mu.Unlock()
		if took < pieceLeast || further == 0 && !p.h.slowZip(p.src, pace, fastest, took) {
			continue
		}
		release, ok := p.h.piece(p.src, p.most)
		if !ok {
			continue
		}
		w := p.add(pace, release)
		if w == nil {
			return
		}
		with, helps := p.try(w, pace)
		if !helps {
			return
		}
		pace, known = with, true
	}
}

// lines is how many connections there are. p.mu is held.
func (p *Pieces) lines() int {
	n := p.workers
	if p.head {
		n++
	}
	return n
}

// measure waits, and says how many bytes a second came meanwhile. It is not ok if
// there is nothing more to come in pieces.
func (p *Pieces) measure(d time.Duration) (pace float64, ok bool) {
	from := p.got.Load()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(p.got.Load()-from) / d.Seconds(), !p.over
}

// add makes another connection; nil if there is nothing left for it to do.
func (p *Pieces) add(pace float64, release func()) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = pace
	if p.over {
		release()
		return nil
	}
	return p.begin(release)
}

// begin starts a worker. p.mu is held.
func (p *Pieces) begin(release func()) *worker {
	w := &worker{release: release, first: make(chan struct{}), ended: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(p.ctx)
	p.workers++
	c := p.take(w)
	if c == nil {
		p.workers--
		w.cancel()
		release()
		return nil
	}
	p.wg.Go(func() { p.work(w, c) })
	return w
}

// try finds out whether a new connection helps, and lets go of it if not. Without
// it, pace bytes a second came.
func (p *Pieces) try(w *worker, pace float64) (with float64, helps bool) {
	late := time.NewTimer(pieceStart)
	defer late.Stop()
	select {
	case <-w.first:
	case <-w.ended:
	case <-late.C:
	case <-p.ctx.Done():
	}
	outcome := func(n *int, why error) (float64, bool) {
		w.cancel()
		<-w.ended
		p.mu.Lock()
		defer p.mu.Unlock()
		*n++
		if why != nil {
			p.report.Why = why.Error()
		}
		return 0, false
	}
	over := func() bool {
		select {
		case <-w.ended:
			return true
		default:
			return false
		}
	}
	select {
	case <-w.first:
	default:
		if p.ctx.Err() != nil || over() && w.err == nil {
			return outcome(&p.report.Unsettled, nil)
		}
		why := fmt.Errorf("no byte of a piece came within %v", pieceStart)
		if over() {
			why = w.err
		}
		p.h.piecesFail(p.src)
		return outcome(&p.report.Failed, why)
	}
	zips := p.h.zipsOf(p.src)
	p.mu.Lock()
	lines := p.lines()
	p.mu.Unlock()
	_, ok := p.measure(paceRamp)
	if ok {
		with, ok = p.measure(paceWindow)
	}
	p.mu.Lock()
	same := lines == p.lines()
	p.mu.Unlock()
	switch {
	case ok && !over() && with >= pace*(1+pieceShare/float64(lines-1)):
		p.h.piecesHelp(p.src)
		p.mu.Lock()
		p.pace = with
		p.report.Kept++
		p.mu.Unlock()
		return with, true
	case over() && w.err != nil:
		return outcome(&p.report.Failed, w.err)
	case !ok || over() || !same || zips != p.h.zipsOf(p.src): // what else there was may be why
		return outcome(&p.report.Unsettled, nil)
	}
	if lines > 2 {
		p.h.piecesEnough(p.src, lines-1)
	} else {
		p.h.piecesFail(p.src)
	}
	return outcome(&p.report.Useless, nil)
}

// take claims what w fetches next; nil if there is nothing for it to do. p.mu is
// held.
func (p *Pieces) take(w *worker) *claim {
	unit := min(max(int64(p.pace/float64(max(p.lines()-1, 1))*pieceTime.Seconds()), leastPiece), mostPiece)
	at := p.off
	for i := 0; i <= len(p.claims); i++ {
		from, end := at, p.size
		if i < len(p.claims) {
			end, at = p.claims[i].from, p.claims[i].to
		}
		least := int64(1)
		if i == 0 && p.head {
			// That is where the body's own connection goes on, for as long as it takes
			// to see whether this one helps.
			from += min(2*unit, max((end-from)/2, leastPiece))
			least = leastPiece
		}
		if end-from >= least {
			// Smaller ones toward the end, so that all come to it at about the same time.
			n := min(unit, max((p.size-from)/int64(2*p.lines()), leastPiece))
			return p.claim(i, &claim{from, from, min(end, from+n), w})
		}
	}
	slowest := -1
	for i, c := range p.claims {
		if c.w != nil && c.to-c.done >= splitFrom && (slowest < 0 || c.to-c.done > p.claims[slowest].to-p.claims[slowest].done) {
			slowest = i
		}
	}
	if slowest < 0 {
		return nil
	}
	c := p.claims[slowest]
	mid, to := c.done+(c.to-c.done)/2, c.to
	c.to = mid
	return p.claim(slowest+1, &claim{mid, mid, to, w})
}

func (p *Pieces) claim(i int, c *claim) *claim {
	p.claims = slices.Insert(p.claims, i, c)
	return c
}

var (
	errNoPiece = errors.New("the source answers with something else than the piece that it was asked for")
	errNoTurn  = errors.New("the limits set for this source leave no room")
)

// A placeError is a failure of the Place, and no fault of the source.
type placeError struct{ error }

// work fetches one piece after the other.
func (p *Pieces) work(w *worker, c *claim) {
	gained := int64(0) // since the last failure
	fruitless := 0
	for c != nil {
		n, err := p.fetch(w, c)
		if gained += n; gained >= resumeGain {
			fruitless = 0
		}
		if err != nil {
			gained = 0
			fruitless++
		}
		c = p.next(w, c, err, fruitless > fruitlessResumes)
	}
	w.cancel()
	w.release()
	close(w.ended)
}

// next ends the claim of a worker, and gives it another unless it shall end.
func (p *Pieces) next(w *worker, c *claim, err error, futile bool) *claim {
	se, _ := errors.AsType[*Error](err)
	_, misplaced := errors.AsType[*placeError](err)
	switch {
	case err == nil, w.ctx.Err() != nil:
	case misplaced:
		p.lose(err)
	case errors.Is(err, errNoPiece):
		p.h.piecesFail(p.src)
		futile = true
	case se != nil && se.Status != 0:
		p.h.pieceRefused(p.src, se)
		futile = true
	}
	crowded := p.h.crowded(p.src, p.most)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.tell()
	c.w, c.to = nil, c.done
	if c.from == c.to {
		p.claims = slices.DeleteFunc(p.claims, func(o *claim) bool { return o == c })
	}
	switch {
	case w.ctx.Err() != nil:
	case p.over:
	case err != nil && futile:
		w.err = err
		if errors.Is(err, errNoPiece) || se != nil && se.Status != 0 {
			p.over = true
		}
		p.report.Why = err.Error()
	case errors.Is(err, errNoTurn):
	case crowded && p.lines() > 1:
	default:
		if c := p.take(w); c != nil {
			return c
		}
	}
	p.workers--
	return nil
}

// fetch gets the rest of a claim, and says how much of it came.
func (p *Pieces) fetch(w *worker, c *claim) (n int64, err error) {
	p.mu.Lock()
	off, to := c.done, c.to
	p.mu.Unlock()
	release, ok := p.r.net.limit.try()
	if !ok {
		return 0, errNoTurn
	}
	resp, body, serr := p.r.net.send(w.ctx, p.r.source, p.r.url, p.r.headerAt(off, to), p.r.net.apart, release)
	if serr != nil {
		return 0, serr
	}
	defer body.Close()
	if total, ok := fits(resp, off, p.size); !ok || total < 0 {
		return 0, errNoPiece
	}
	p.mu.Lock()
	p.report.Requests++
	p.mu.Unlock()
	buf := make([]byte, 64<<10)
	for {
		p.mu.Lock()
		left, whole := c.to-c.done, c.to == to
		p.mu.Unlock()
		if left == 0 {
			if whole {
				body.Read(buf[:1]) // its end, which makes the connection fit for use again
			}
			return n, nil
		}
		k, err := body.Read(buf[:min(int64(len(buf)), left)])
		if k > 0 {
			if _, err := p.place.WriteAt(buf[:k], off+n); err != nil {
				return n, &placeError{fmt.Errorf("what came early cannot be kept: %w", err)}
			}
			n += int64(k)
			p.got.Add(int64(k))
			p.mu.Lock()
			c.done += int64(k)
			p.report.Bytes += int64(k)
			p.tell()
			p.mu.Unlock()
			if !w.begun {
				w.begun = true
				close(w.first)
			}
		}
		switch {
		case err == io.EOF && off+n < to:
			return n, io.ErrUnexpectedEOF
		case err != nil && err != io.EOF:
			return n, err
		}
	}
}

// A pieceHealth is what is known of a source as to pieces. It is guarded by the
// Health.
type pieceHealth struct {
	zips     int       // of which the body is being read
	further  int       // connections beside those of zips
	useless  time.Time // when pieces were last found to be of no use
	helped   time.Time // when they last were
	tried    time.Time // when another connection was last tried
	enough   int       // connections beyond which another one was of no use
	enoughAt time.Time // when that was found out
}

// slowZip reports whether a connection that brings pace bytes of a zip a second,
// and takes so long for the rest, is slow: by what came over it before at the most,
// what the source usually gives, or another one does. Where nothing tells, one that
// takes long is held for slow once in a while.
func (h *Health) slowZip(src Source, pace, fastest float64, left time.Duration) bool {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	best := fastest
	for _, s := range h.sources {
		if w := &s.asks[AskZip].pace; w.n >= enough && s.src != nil && s.src.Kind() == Proxy {
			best = max(best, w.quantile(.5))
		}
	}
	s := &h.of(src).pieces
	recent := func(t time.Time, d time.Duration) bool { return !t.IsZero() && now.Sub(t) < d }
	return best >= 2*pace || recent(s.helped, piecesHelped) || left >= unsureLeft && !recent(s.tried, piecesUseless)
}

// piece asks for leave to make another connection to src for a piece of a zip. The
// zips of a source have no more than most together, or there is none; nor is there
// where pieces are of no use, or while the source wants to be left alone.
func (h *Health) piece(src Source, most int) (release func(), ok bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of(src)
	p := &s.pieces
	if p.enough > 0 && now.Sub(p.enoughAt) < piecesUseless {
		most = min(most, p.enough)
	}
	if p.zips+p.further >= most || s.rests(now) || !p.useless.IsZero() && now.Sub(p.useless) < piecesUseless {
		return nil, false
	}
	p.further++
	p.tried = now
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		p.further--
	}), true
}

// crowded reports whether the zips of src have more than most connections.
func (h *Health) crowded(src Source, most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.of(src).pieces
	return p.zips+p.further > most
}

// zipsOf is how many zips of src are being read.
func (h *Health) zipsOf(src Source) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of(src).pieces.zips
}

// piecesHelp takes note that another connection made a zip of src come faster.
func (h *Health) piecesHelp(src Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of(src).pieces.helped = time.Now()
}

// piecesFail takes note that src is not worth pieces.
func (h *Health) piecesFail(src Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &h.of(src).pieces
	p.useless, p.helped = time.Now(), time.Time{}
}

// piecesEnough takes note that more than n connections are of no use.
func (h *Health) piecesEnough(src Source, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &h.of(src).pieces
	p.enough, p.enoughAt = n, time.Now()
}

// pieceRefused takes note of what src had in place of a piece: it may want to be
// left alone.
func (h *Health) pieceRefused(src Source, se *Error) {
	now := time.Now()
	h.piecesFail(src)
	h.mu.Lock()
	told := h.of(src).asks[AskZip].heed(AskZip, se, now)
	h.mu.Unlock()
	for i := range told {
		told[i].Source = src.Name()
	}
	h.tell(told)
}
