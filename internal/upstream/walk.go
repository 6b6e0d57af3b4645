package upstream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// ErrSlow says that a source was given up in favour of another because the bytes
// came far slower than they usually do. It wraps DeadlineExceeded.
var ErrSlow = fmt.Errorf("far slower than usual: %w", context.DeadlineExceeded)

// ErrOutdone says that a source was still busy with its answer when that of
// another was taken.
var ErrOutdone = errors.New("another source had it first")

const (
	// slowWindow is the time over which the pace of a zip is judged, and leastPace
	// the bytes per second that are enough at any source.
	slowWindow = 3 * time.Second
	leastPace  = 16 << 10
	// doubtTime is how long a source in trouble is given to say what another says
	// that it does not exist.
	doubtTime = 2 * time.Second
	// lineAgain is how long a source that could not be reached before is given to
	// be reached, when nobody else is left to ask.
	lineAgain = time.Second
)

// A Strategy says in which order the sources of a run are asked: neighbours in a
// chain that stand in for one another when one is in trouble.
type Strategy string

// The strategies.
const (
	Ordered    Strategy = "ordered"           // as they are written
	LeastBusy  Strategy = "least-connections" // the one with the fewest questions under way
	Weighted   Strategy = "weighted"          // by chance, in proportion to the weights
	LowLatency Strategy = "lowest-latency"    // the one that usually answers first
)

// A step is a source at its place in the chain.
type step struct {
	src    Source
	onward bool // trouble of this source lets the walk go on
	comma  bool // and that only because a proxy in trouble is passed over
}

// steps is the chain in the order in which it is to be asked.
func (c *Chain) steps(req goproxy.Request) []step {
	list := make([]step, len(c.Links))
	for i, l := range c.Links {
		list[i] = step{l.Source, l.FallBack || c.Failover == Proxies, !l.FallBack && c.Failover == Proxies}
	}
	if c.Health == nil {
		return list
	}
	// What follows a run is not its business; the places keep their separators.
	for from := 0; from < len(list); from++ {
		to := from
		for to < len(list) && isMirror(list[to].src) {
			to++
			if !list[to-1].onward {
				break
			}
		}
		if to-from > 1 {
			links := slices.Clone(c.Links[from:to])
			c.Health.arrange(links, c.Strategy, AskOf(req))
			for i, l := range links {
				list[from+i].src = l.Source
			}
		}
		from = max(from, to-1)
	}
	return list
}

func isMirror(s Source) bool { return s.Kind() == Proxy || s.Kind() == Tree }

// arrange sorts the sources of a run: the preferred one, then by tier, then by
// strategy, and those alike as they are written.
func (h *Health) arrange(links []Link, by Strategy, ask Ask) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := make(map[string]float64, len(links))
	for _, l := range links {
		s := h.of(l.Source)
		switch by {
		case LeastBusy:
			key[l.Source.Name()] = float64(s.busy) / float64(max(l.Weight, 1))
		case Weighted:
			// The least of exponential variates with these rates is each of them in
			// proportion to its rate.
			key[l.Source.Name()] = rand.ExpFloat64() / float64(max(l.Weight, 1))
			if l.Weight < 0 {
				key[l.Source.Name()] = math.Inf(1)
			}
		case LowLatency:
			key[l.Source.Name()] = s.asks[ask].took.quantile(.5)
		}
	}
	slices.SortStableFunc(links, func(a, b Link) int {
		ap, bp := a.Source.Name() == h.prefer, b.Source.Name() == h.prefer
		switch {
		case ap != bp && ap:
			return -1
		case ap != bp:
			return 1
		}
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(key[a.Source.Name()], key[b.Source.Name()]))
	})
}

// A walk is one way along a chain.
type walk struct {
	c      *Chain
	h      *Health // nil: in order, one at a time
	req    goproxy.Request
	accept Accept

	steps    []step
	queue    []int // steps still to be asked
	later    []int // steps passed over because of what is known of them
	verdicts map[int]verdict
	live     []*try // being asked, the youngest last
	results  chan *try
	over     chan struct{}
	last     bool // only those that were passed over are left
	patient  bool // no source is given up for being slow

	attempts []Attempt
	round    map[int]bool // steps in trouble that were passed over although a comma follows
	lacked   []Source     // that said "not found"
	spared   bool
	stopped  string
	fresh    bool // a source failed that was not known to be in trouble, in a way that may pass
	odd      int  // mirrors that gave answers which cannot be used
	ill      int  // mirrors in trouble that is no news
}

// A try is one source being asked.
type try struct {
	i      int
	step   step
	v      verdict
	cancel context.CancelCauseFunc
	prog   *progress
	start  time.Time
	at     time.Time // when the next source is asked too; zero: never
	late   bool
	took   time.Duration
	answer *Answer
	err    error
	bug    any // what Get panicked with, for the walk's own goroutine to do so
}

// Fetch asks the sources until accept takes an answer: in order, but for those
// that are known to be in trouble or slow, as far as the chain allows to pass
// them over. While a source takes longer than it usually does, the next one is
// asked too. accept sees one answer at a time. Fetch returns all attempts, and
// the error is nil, a *WalkError, the error that accept aborted with, or the
// context's cause.
func (c *Chain) Fetch(ctx context.Context, req goproxy.Request, accept Accept) ([]Attempt, error) {
	var all, counted []Attempt // counted: but for those of a round that is doubted
	var failed time.Time
	for n := 0; ; n++ {
		w := &walk{c: c, h: c.Health, req: req, accept: accept, patient: n > 0}
		err := w.run(ctx)
		all = append(all, w.attempts...)
		we, ok := err.(*WalkError)
		doubt := ok && we.NotExist() && w.doubtful()
		if !ok || we.NotExist() && (!doubt || n > 0) { // what an earlier round met is over
			return all, err
		}
		if !doubt {
			counted = append(counted, w.attempts...)
			we.Attempts = slices.Clone(counted)
		}
		if failed.IsZero() {
			failed = time.Now()
		}
		wait, again := w.again(n, failed, doubt)
		if !again {
			return all, we
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return all, context.Cause(ctx)
		}
	}
}

// again reports whether a walk that failed is worth another, and after how long:
// exponential backoff with full jitter, within a budget.
func (w *walk) again(n int, failed time.Time, doubt bool) (time.Duration, bool) {
	// That several mirrors are each in a trouble of their own, while none of them
	// is asked twice, may be chance: once more, and not oftener.
	if w.h == nil || !w.fresh && ((w.odd == 0 || w.odd+w.ill < 2) && !doubt || n > 0) {
		return 0, false
	}
	c := w.h.config()
	if n >= c.Retries {
		return 0, false
	}
	wait := rand.N(c.Backoff<<n + 1)
	return wait, time.Since(failed)+wait <= c.RetryWithin
}

func (w *walk) run(ctx context.Context) error {
	w.steps = w.c.steps(w.req)
	w.results = make(chan *try)
	w.over = make(chan struct{})
	w.verdicts = map[int]verdict{}
	w.round = map[int]bool{}
	for i := range w.steps {
		w.queue = append(w.queue, i)
	}
	defer close(w.over)
	defer func() { w.leave(nil) }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if len(w.live) == 0 {
			if !w.advance(ctx) {
				break
			}
			if ctx.Err() != nil {
				w.leave(context.Cause(ctx))
				return context.Cause(ctx)
			}
			continue // it may have failed at once
		}
		young := w.live[len(w.live)-1]
		var late <-chan time.Time
		if !young.at.IsZero() {
			timer.Reset(time.Until(young.at))
			late = timer.C
		}
		select {
		case t := <-w.results:
			timer.Stop()
			if !slices.Contains(w.live, t) { // it was let go of
				if t.err == nil && t.bug == nil {
					t.answer.Body.Close()
				}
				continue
			}
			done, err := w.settle(ctx, t)
			if done {
				return err
			}
		case <-late:
			w.hedge(ctx, young)
		case <-ctx.Done():
			w.leave(context.Cause(ctx))
			return context.Cause(ctx)
		}
	}
	return &WalkError{Request: w.req, Attempts: w.attempts, Stopped: w.stopped, PassedOver: len(w.round) > 0 && (w.spared || w.c.DirectBehind)}
}

// mayPass reports whether trouble of step i lets a mirror after it be asked.
func (w *walk) mayPass(i int) bool {
	return w.steps[i].onward && i+1 < len(w.steps) && isMirror(w.steps[i].src) && isMirror(w.steps[i+1].src)
}

// advance starts the next step; false if there is none.
func (w *walk) advance(ctx context.Context) bool {
	for {
		if len(w.queue) == 0 {
			if w.last || len(w.later) == 0 || w.settled() {
				return false
			}
			w.last = true
			w.queue, w.later = w.later, nil
			slices.SortStableFunc(w.queue, func(i, j int) int { return cmp.Compare(w.verdicts[i].wait, w.verdicts[j].wait) })
			continue
		}
		i := w.queue[0]
		w.queue = w.queue[1:]
		s := w.steps[i]
		switch kind := s.src.Kind(); {
		case kind == Off && len(w.attempts) > 0:
			w.queue = nil // the sources before it have said all there is to say
			if c, ok := s.src.(Closed); ok {
				w.stopped = c.Closed()
			}
			continue
		case kind == Direct && len(w.round) > 0:
			w.stopped = s.src.Name() + " is not asked in place of a proxy in trouble"
			w.spared = true
			w.queue = nil
			continue
		}
		if v, ok := w.verdicts[i]; !ok && w.h != nil {
			v = w.h.look(s.src, w.req)
			w.verdicts[i] = v
			if v.avoid && (w.mayPass(i) || v.missing && i+1 < len(w.steps) && isMirror(w.steps[i+1].src)) {
				w.later = append(w.later, i)
				if s.comma && !v.missing {
					w.round[i] = true
				}
				continue
			}
		}
		w.rest(ctx, i)
		w.begin(ctx, i)
		for w.last && w.req.Kind != goproxy.Zip && len(w.queue) > 0 && len(w.live) > 0 && w.missing() {
			// Somebody knows that there is no such thing. They are asked whether they
			// know better, and nobody waits for that twice.
			i := w.queue[0]
			if v := w.verdicts[i]; !isMirror(w.steps[i].src) || v.wait > 0 || v.never {
				break
			}
			w.queue = w.queue[1:]
			w.begin(ctx, i)
		}
		return true
	}
}

// settled reports whether those that were passed over need not be asked: somebody
// knows that there is no such thing, and they could not say anything else.
func (w *walk) settled() bool {
	if !w.missing() || len(w.round) > 0 && (w.spared || w.c.DirectBehind) {
		return false
	}
	plain := w.plainly()
	return !slices.ContainsFunc(w.later, func(i int) bool {
		v := w.verdicts[i]
		return !v.never && (!plain || !v.missing && !v.unsaid)
	})
}

// plainly reports whether somebody says that there is no such thing otherwise than
// by a page for people, which may be trouble in disguise and settles nothing alone:
// what is remembered as "not found" may have been such a page, too.
func (w *walk) plainly() bool {
	return slices.ContainsFunc(w.attempts, func(a Attempt) bool {
		e, ok := errors.AsType[*Error](a.Err)
		return ok && errors.Is(e, fs.ErrNotExist) && !e.page
	})
}

// doubtful reports whether the "not found" of a walk is worth a second look: none
// but pages for people say so, and a mirror could not be asked.
func (w *walk) doubtful() bool {
	return !w.plainly() && (slices.ContainsFunc(w.attempts, func(a Attempt) bool {
		return a.Kind == Proxy && !errors.Is(a.Err, fs.ErrNotExist)
	}) || slices.ContainsFunc(w.later, func(i int) bool { return isMirror(w.steps[i].src) && !w.verdicts[i].missing }))
}

// missing reports whether somebody says that there is no such thing, and nobody
// who answered said otherwise.
func (w *walk) missing() bool { return (&WalkError{Attempts: w.attempts}).NotExist() }

// rest waits for a source that asked to be left alone, if that is soon over: there
// is nobody else left to ask.
func (w *walk) rest(ctx context.Context, i int) {
	v := w.verdicts[i]
	if w.h == nil || v.never || v.wait <= 0 || v.err.Status != 429 || v.wait > w.h.config().RetryWithin {
		return
	}
	t := time.NewTimer(v.wait)
	defer t.Stop()
	select {
	case <-t.C:
		v.wait = 0
		w.verdicts[i] = v
	case <-ctx.Done():
	}
}

// begin asks a source, beside those that are being asked.
func (w *walk) begin(ctx context.Context, i int) {
	s, v := w.steps[i], w.verdicts[i]
	t := &try{i: i, step: s, v: v, start: time.Now(), prog: &progress{}}
	if v.never || v.wait > 0 && v.err.Status == 429 || v.futile {
		t.err = v.err
		v.err.RetryAfter = v.wait
		w.attempts = append(w.attempts, Attempt{Source: s.src.Name(), Kind: s.src.Kind(), Start: t.start, Err: t.err})
		if isMirror(s.src) {
			w.ill++
		}
		if s.comma {
			w.round[i] = true
		}
		if !s.onward {
			w.halt(i)
		}
		return
	}
	tctx, cancel := context.WithCancelCause(context.WithValue(ctx, progressKey{}, t.prog))
	t.cancel = cancel
	if w.h != nil {
		w.h.began(s.src, w.req)
		if isMirror(s.src) {
			t.at = t.start.Add(v.delay)
		}
	}
	w.live = append(w.live, t)
	doubtful := v.avoid && w.missing()
	go func() {
		if doubtful {
			stop := time.AfterFunc(doubtTime, func() { cancel(ErrStalled) })
			defer stop.Stop()
		}
		if v.known && v.unsaid || s.src.Kind() == Proxy && v.line {
			stop := time.AfterFunc(lineAgain, func() {
				if t.prog.early() {
					cancel(ErrStalled)
				}
			})
			defer stop.Stop()
		}
		func() {
			defer func() {
				if t.bug = recover(); t.bug != nil {
					t.bug = fmt.Sprintf("%v\n%s", t.bug, debug.Stack())
				}
			}()
			t.answer, t.err = w.get(tctx, s.src)
		}()
		t.took = time.Since(t.start)
		select {
		case w.results <- t:
		case <-w.over:
			if t.answer != nil && t.err == nil {
				t.answer.Body.Close()
			}
			cancel(nil)
		}
	}()
}

// get asks one source. What is small is read here, so that a body that does not
// come is noticed as an answer that does not.
func (w *walk) get(ctx context.Context, src Source) (*Answer, error) {
	a, err := src.Get(ctx, w.req)
	if err != nil || w.h == nil || w.req.Kind == goproxy.Zip || src.Kind() == Direct {
		return a, err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(io.LimitReader(a.Body, w.req.Kind.Limit()+1))
	b := *a
	b.Body = &replay{bytes.NewReader(data), err}
	return &b, nil
}

// A replay is a body that has been read, with the error it ended in.
type replay struct {
	*bytes.Reader
	err error
}

func (r *replay) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF && r.err != nil {
		err = r.err
	}
	return n, err
}

func (r *replay) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) }
func (r *replay) Close() error                       { return nil }

// hedge asks the next source too, since t is late.
func (w *walk) hedge(ctx context.Context, t *try) {
	t.at = time.Time{}
	if !w.steps[t.i].onward {
		return
	}
	for len(w.queue) > 0 {
		i := w.queue[0]
		s := w.steps[i]
		if s.src.Kind() == Direct && !w.steps[t.i].comma && len(w.round) == 0 {
			// Version control is dear: only for a source that is not there at all.
			switch wait := lineDelay - time.Since(t.start); {
			case !t.prog.early():
				return
			case wait > 0:
				t.at = time.Now().Add(wait)
				return
			}
		} else if !isMirror(s.src) {
			break
		} else if v, ok := w.verdicts[i]; !ok {
			v = w.h.look(s.src, w.req)
			w.verdicts[i] = v
			if v.avoid && w.mayPass(i) {
				w.queue = w.queue[1:]
				w.later = append(w.later, i)
				continue
			}
		}
		if t.late || w.overdue(t) {
			w.queue = w.queue[1:]
			w.begin(ctx, i)
		}
		return
	}
	for n, i := range w.later {
		if v := w.verdicts[i]; v.never || v.wait > 0 || v.missing {
			continue
		}
		if t.late || w.overdue(t) {
			w.later = slices.Delete(w.later, n, n+1)
			w.begin(ctx, i)
		}
		return
	}
}

func (w *walk) overdue(t *try) bool {
	if t.late = w.h.late(t.step.src, AskOf(w.req), t.start); !t.late {
		t.at = time.Now().Add(t.v.delay)
	}
	return t.late
}

// leave lets go of all sources that are being asked, and notes why, unless that is
// nil.
func (w *walk) leave(why error) {
	outdone := why == ErrOutdone
	for _, t := range w.live {
		took := time.Since(t.start)
		t.cancel(cmp.Or(why, context.Canceled))
		if why != nil {
			w.attempts = append(w.attempts, Attempt{Source: t.step.src.Name(), Kind: t.step.src.Kind(), Start: t.start, Took: took,
				Err: &Error{Source: t.step.src.Name(), Stage: cmp.Or(t.prog.stage(), StageHTTP), Err: why}})
		}
		if w.h != nil {
			w.h.ended(t.step.src, w.req, ending{left: true, outdone: outdone && t.prog.stage() != StageLocal, late: t.late, took: took, asked: t.start, stage: t.prog.stage()})
		}
	}
	w.live = nil
}

// settle judges what a source has answered. It reports whether the walk is over.
func (w *walk) settle(ctx context.Context, t *try) (bool, error) {
	w.live = slices.DeleteFunc(w.live, func(l *try) bool { return l == t })
	defer t.cancel(nil)
	src := t.step.src
	e := ending{err: t.err, took: t.took, late: t.late, asked: t.start}
	told := false
	defer func() { // accept, or the source, may panic
		if !told {
			e.left, e.outdone = true, false
			w.ended(t, e)
		}
	}()
	if t.bug != nil {
		panic(t.bug)
	}
	if e.err == nil {
		if w.req.Kind == goproxy.Zip && len(w.live) > 0 {
			// One body at a time; those left are asked again if this one breaks off.
			var again []int
			for _, l := range w.live {
				again = append(again, l.i)
			}
			slices.Sort(again)
			w.queue = append(again, w.queue...)
			w.leave(ErrOutdone)
		}
		var p *paced
		if w.h != nil && w.req.Kind == goproxy.Zip {
			p = w.pace(t)
		}
		e.err = judge(ctx, src, t.answer, w.accept)
		if p != nil {
			e.bytes, e.body = p.n, p.spent
		}
	}
	told = true
	if ab, ok := errors.AsType[*abort](e.err); ok {
		w.note(t, e, ab.err)
		e.err = nil
		w.ended(t, e)
		return true, ab.err
	}
	if e.err != nil && ctx.Err() != nil {
		w.note(t, e, e.err)
		e.left = true
		w.ended(t, e)
		return true, context.Cause(ctx)
	}
	if e.err == nil {
		w.leave(ErrOutdone)
		w.note(t, e, nil)
		w.ended(t, e)
		if w.h != nil && w.req.Immutable() {
			for _, s := range w.lacked {
				w.h.lacks(s, w.req.Module)
			}
		}
		return true, nil
	}
	if lie, ok := errors.AsType[Lie](e.err); ok && lie.Lie() && !t.answer.resumed() {
		e.lie = e.err
	}
	w.note(t, e, e.err)
	w.ended(t, e)
	missing := errors.Is(e.err, fs.ErrNotExist)
	delete(w.round, t.i)
	if se, ok := errors.AsType[*Error](e.err); ok && t.answer.pieced() && (se.Stage == StageContent || se.Stage == StageBody) {
		// What did not fit together may do so if it comes in one.
		w.h.piecesFail(src)
		w.fresh = true
	}
	if isMirror(src) {
		se, _ := errors.AsType[*Error](e.err)
		switch {
		case missing:
			if se != nil && se.page { // among those in trouble, it may be in trouble, too
				w.odd++
			}
		case passing(e.err):
			w.fresh = w.fresh || !t.v.known
			if t.v.known {
				w.ill++
			}
		case e.lie == nil && !refused(e.err) && (se == nil || se.Answered() && se.Status != 429):
			w.odd++
		}
	}
	switch {
	case missing:
		w.lacked = append(w.lacked, src)
	case t.step.onward && !t.step.comma:
	case t.step.comma && !refused(e.err):
		w.round[t.i] = true
	default:
		w.halt(t.i)
		return false, nil
	}
	// Those that are left were late already: whoever is next need not wait for them.
	if n := len(w.live); n > 0 && w.live[n-1].late && w.live[n-1].at.IsZero() {
		w.live[n-1].at = time.Now()
	}
	return false, nil
}

// halt ends the walk at a step past which it may not go. Those before it that were
// passed over, or let go of, may still be asked.
func (w *walk) halt(i int) {
	after := func(l int) bool { return l > i }
	w.queue = slices.DeleteFunc(w.queue, after)
	w.later = slices.DeleteFunc(w.later, after)
	before := slices.DeleteFunc(slices.Clone(w.live), func(l *try) bool { return l.i > i })
	w.live = slices.DeleteFunc(w.live, func(l *try) bool { return l.i < i })
	w.leave(nil)
	if w.live = before; len(before) > 0 {
		return // they were asked first, and their answers still count
	}
	if i+1 < len(w.steps) && w.steps[i+1].src.Kind() != Off {
		w.stopped = "a comma follows " + w.steps[i].src.Name() + ", which lets only \"not found\" go on to the next source"
	}
	if e, ok := errors.AsType[*Error](w.attempts[len(w.attempts)-1].Err); ok && passing(e) && isMirror(w.steps[i].src) && !w.verdicts[i].known {
		w.fresh = true
	}
}

func (w *walk) note(t *try, e ending, err error) {
	w.attempts = append(w.attempts, Attempt{Source: t.step.src.Name(), Kind: t.step.src.Kind(), Start: t.start, Took: time.Since(t.start), Err: err})
}

func (w *walk) ended(t *try, e ending) {
	if w.h != nil {
		w.h.ended(t.step.src, w.req, e)
	}
}

// refused reports whether the source said no on purpose: its no is final.
func refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == 401 || e.Status == 403)
}

// passing reports whether a failure may be over in a second: no name that does
// not exist, no certificate that nobody knows, no wrong content.
func passing(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.recalled {
		return false
	}
	switch e.Stage {
	case StageConnect, StageBody:
		return true
	case StageHTTP:
		return e.Status == 0 && !e.answered || e.Status == 408 || e.Status >= 500
	}
	return false
}

// judge lets accept have an answer, and makes its error one of the source.
func judge(ctx context.Context, src Source, a *Answer, accept Accept) error {
	defer a.Body.Close()
	err := accept(ctx, src, a)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*abort](err); ok {
		return err
	}
	// What the body's Read said is the source's error already. Neither another
	// source's "not found" nor fs.ErrNotExist inside a judgement (a file missing
	// in a zip, say) must look like the "not found" of this one.
	if e, ok := errors.AsType[*Error](err); ok && e.Source == src.Name() && !errors.Is(e, fs.ErrNotExist) {
		return e
	}
	return &Error{Source: src.Name(), Stage: StageContent, Err: err}
}

// pace watches how fast the body of a zip comes.
func (w *walk) pace(t *try) *paced {
	p := &paced{rc: t.answer.Body, source: t.step.src.Name(), cancel: t.cancel}
	other := slices.ContainsFunc(slices.Concat(w.queue, w.later), func(i int) bool {
		v := w.verdicts[i]
		return isMirror(w.steps[i].src) && !v.never && !v.missing && v.wait == 0
	})
	if other && !w.patient && t.step.onward && isMirror(t.step.src) {
		p.stall, p.least = t.v.stall, max(t.v.pace, leastPace)
	}
	t.answer.Body = p
	t.answer.health, t.answer.src = w.h, t.step.src
	return p
}

// A paced body is given up when it stands still, or comes far slower than usual,
// while another source has the same. Only the time that a Read waits counts.
type paced struct {
	rc     io.ReadCloser
	source string
	cancel context.CancelCauseFunc
	stall  time.Duration // 0: for ever
	least  float64       // bytes per second

	n     int64
	spent time.Duration
	since time.Duration // spent, when the window began
	from  int64         // n, then
}

func (p *paced) Read(b []byte) (int, error) {
	start := time.Now()
	var slow atomic.Bool
	if p.stall > 0 {
		t := time.AfterFunc(p.stall, func() {
			slow.Store(true)
			p.cancel(ErrSlow)
		})
		defer t.Stop()
	}
	n, err := p.rc.Read(b)
	p.n += int64(n)
	p.spent += time.Since(start)
	if slow.Load() && err != nil && err != io.EOF {
		return n, &Error{Source: p.source, Stage: StageBody, Err: fmt.Errorf("the answer stood still for %v while another source has it: %w", p.stall, ErrSlow)}
	}
	if over := p.spent - p.since; p.stall > 0 && over >= slowWindow && err == nil {
		if float64(p.n-p.from) < p.least*over.Seconds() {
			p.cancel(ErrSlow)
			return n, &Error{Source: p.source, Stage: StageBody, Err: fmt.Errorf("only %d bytes came in %v while another source has it: %w", p.n-p.from, over.Round(time.Millisecond), ErrSlow)}
		}
		p.since, p.from = p.spent, p.n
	}
	return n, err
}

func (p *paced) Close() error { return p.rc.Close() }

// A progress is how far a question has come, for those who wait for it.
type progress struct {
	mu   sync.Mutex
	last Stage
}

type progressKey struct{}

// note is safe on a nil progress.
func (p *progress) note(s Stage) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s
}

func (p *progress) stage() Stage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// early reports whether no connection has been made yet.
func (p *progress) early() bool {
	return p.stage().early()
}

// early reports whether a request is at a stage before there is a connection.
func (s Stage) early() bool {
	switch s {
	case StageDNS, StageConnect, StageProxy, StageTLS:
		return true
	}
	return false
}
