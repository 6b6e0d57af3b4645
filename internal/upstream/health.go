package upstream

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	// firstDelay is how long a source of which little is known is waited for alone,
	// before the next one is asked too: three round trips of a connection across
	// a continent, and less than anybody notices.
	firstDelay = 200 * time.Millisecond
	// leastDelay is the same for a source that is known well.
	leastDelay = 50 * time.Millisecond
	mostDelay  = 5 * time.Second
	// nearTime is a round trip within a building.
	nearTime = 3 * time.Millisecond
	// enough is how many latencies make a source known.
	enough = 8
	// lineDelay is how long a connection may take before version control, which is
	// dear, is asked in its place.
	lineDelay = time.Second

	// hedgeShare is how many of a hundred requests may go to a second source while
	// the first is well, and hedgeBurst how many may do so at once.
	hedgeShare = 0.02
	hedgeBurst = 3.0

	// Failures in a row after which a source is left that did answer.
	failuresAnswered = 3
	// overtakenOften is how often in a row another source must have been faster.
	overtakenOften = 3

	// A probe of a source that is down: the first soon, later ones at the
	// heartbeat's pace. probesGood in a row let it return.
	firstProbe = time.Second
	// liarRest is how long a source that gave wrong bytes of several modules in a
	// row is not even probed.
	liarRest    = 5 * time.Minute
	probesGood  = 2
	probeAgain  = 250 * time.Millisecond
	probeBudget = 10 * time.Second
	probeZip    = 1 << 20 // bytes of a zip that a probe reads at most

	// silentAgain is how long a source that cannot be reached, and costs its time
	// budget to find that out, is held for unreachable where it is the only one.
	silentAgain = 500 * time.Millisecond

	// unsaidFor is how long a source that could not be reached is held for one that
	// has no say in what exists.
	unsaidFor = 20 * time.Second

	// longestRest bounds what a source's Retry-After is believed.
	longestRest = 5 * time.Minute
	// lacking is how long a source that did not have a version is asked last for
	// its other files.
	lacking = time.Minute
	// maxNoted bounds what is remembered of one source's gaps and lies.
	maxNoted = 4096
	// newNormal is how long a source must have been slow before that is usual.
	newNormal = 10 * time.Minute
)

// An Ask is a kind of question. Health belongs to a source and what it is asked:
// one that cannot make lists may be good for files.
type Ask string

// The kinds of questions.
const (
	AskList Ask = "list" // lists, @latest and version queries
	AskFile Ask = "file" // .info and .mod
	AskZip  Ask = "zip"
)

// Asks lists all kinds of questions.
var asks = [...]Ask{AskList, AskFile, AskZip}

// AskOf is the kind of question that req is.
func AskOf(req goproxy.Request) Ask {
	switch {
	case req.Kind == goproxy.Zip:
		return AskZip
	case req.Immutable():
		return AskFile
	}
	return AskList
}

// A State is whether a source is asked.
type State string

// The states of a source.
const (
	Unknown   State = "unknown" // nothing has been asked yet
	Up        State = "up"      // it answers
	Suspect   State = "suspect" // it is overdue with an answer just now
	Down      State = "down"    // it is asked when no other source is left, and probed
	Resting   State = "resting" // it asked to be left alone for a while
	SwitchOff State = "off"     // somebody switched it off
)

// HealthConfig are the settings of a Health.
type HealthConfig struct {
	Heartbeat time.Duration // how often a source that is down, or idle, is probed; 0 means 5s, less than 0 never
	Idle      time.Duration // how long after the last client's question probing goes on; 0 means 10m
	Fence     time.Duration // how long a source that lied about a module is not asked for it while another has it; 0 means 24h, less than 0 not at all

	Retries     int           // how often a chain that is in trouble as a whole is asked again; less than 0: never; 0 means 3
	Backoff     time.Duration // longest wait before the first of them, twice as long before each next one; 0 means 300ms
	RetryWithin time.Duration // no such wait ends later than this after the first failure; 0 means 2.4s, less than 0 none

	// Changed is told when a source leaves or returns, unless it is nil. It is
	// called from several goroutines and must not block.
	Changed func(Change)
}

// A Change is a source's change of state.
type Change struct {
	Source string
	Ask    Ask    // "" if it concerns everything
	Module string // path of the only one that it concerns: it is fenced off; "" if none
	State  State
	Why    string
	Stage  Stage
	After  time.Duration // how long it was down, when it returns
}

// A Health remembers how sources do, and decides by that which is asked first,
// how long each is waited for, and which is left alone. It is safe for
// concurrent use.
type Health struct {
	mu      sync.Mutex // guards the following; never held across I/O
	c       HealthConfig
	sources map[string]*sourceHealth
	used    time.Time // when a client last asked
	wake    chan struct{}
	prefer  string
	quiet   bool // nothing is probed
}

// A sourceHealth is what is known of one source. It is guarded by its Health.
type sourceHealth struct {
	src    Source // as it was asked last
	line   condition
	asks   map[Ask]*askHealth
	tokens float64
	busy   int
	lies   map[string]note        // by module path
	lacks  map[module.Version]gap // versions that others have
	behind note                   // when its list last went backwards
	proven bool                   // a zip of it was verified since it last lied
	pieces pieceHealth

	off      bool
	offUntil time.Time // zero: for good
	offWhy   string

	good, missing, failed, hedged, overtaken uint64
	last                                     time.Time // of any answer
}

// A condition is whether a source answers at all, or one kind of question.
type condition struct {
	down   bool
	since  time.Time
	err    string
	stage  Stage
	unsaid bool // the trouble was no answer to the question: it has no say in what exists

	fails int
	rest  time.Time       // until when it asked to be left alone
	next  time.Time       // of the next probe
	pause time.Duration   // between probes
	fit   int             // good probes in a row
	slow  bool            // it is down for being slow
	lied  bool            // it is down for wrong bytes
	req   goproxy.Request // to be probed with

	tried  time.Time     // when it was last found to give no answer
	status int           // that it asked for a rest with
	cost   time.Duration // that took
}

type askHealth struct {
	condition
	known    bool      // it has answered
	good     time.Time // when it last did
	took     window    // seconds until an answer
	pace     window    // bytes per second of zips
	overdue  int       // questions under way that it is late with
	outpaced int       // others were faster, in a row
	lies     int       // in a row, of one module each
}

type note struct {
	at  time.Time
	why string
}

// fence takes note of a lie. Where there are too many, the oldest makes room.
func (s *sourceHealth) fence(path string, n note) {
	if _, ok := s.lies[path]; !ok && len(s.lies) >= maxNoted {
		delete(s.lies, slices.MinFunc(slices.Collect(maps.Keys(s.lies)), func(a, b string) int { return s.lies[a].at.Compare(s.lies[b].at) }))
	}
	s.lies[path] = n
}

// A window keeps the latest of many measurements.
type window struct {
	v []float64
	n int
}

const windowSize = 128

func (w *window) add(x float64) {
	if len(w.v) < windowSize {
		w.v = append(w.v, x)
	} else {
		w.v[w.n%windowSize] = x
	}
	w.n++
}

// quantile is the q'th quantile; 0 if nothing was measured.
func (w *window) quantile(q float64) float64 {
	if len(w.v) == 0 {
		return 0
	}
	s := slices.Clone(w.v)
	slices.Sort(s)
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// NewHealth makes a Health that knows nothing yet.
func NewHealth(c HealthConfig) *Health {
	h := &Health{sources: map[string]*sourceHealth{}, wake: make(chan struct{}, 1)}
	h.Configure(c)
	return h
}

// Configure replaces the settings; what is known stays.
func (h *Health) Configure(c HealthConfig) {
	c.Heartbeat = cmp.Or(c.Heartbeat, 5*time.Second)
	c.Idle = cmp.Or(c.Idle, 10*time.Minute)
	c.Fence = cmp.Or(c.Fence, 24*time.Hour)
	c.Retries = cmp.Or(c.Retries, 3)
	c.Backoff = cmp.Or(c.Backoff, 300*time.Millisecond)
	c.RetryWithin = cmp.Or(c.RetryWithin, 2400*time.Millisecond)
	h.mu.Lock()
	h.c = c
	h.mu.Unlock()
	h.poke()
}

func (h *Health) config() HealthConfig {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.c
}

// of is the record of a source. h.mu is held.
func (h *Health) of(src Source) *sourceHealth {
	s := h.named(src.Name())
	s.src = src
	return s
}

func (h *Health) named(name string) *sourceHealth {
	s := h.sources[name]
	if s == nil {
		s = &sourceHealth{asks: map[Ask]*askHealth{}, lies: map[string]note{}, lacks: map[module.Version]gap{}, tokens: hedgeBurst}
		for _, a := range asks {
			s.asks[a] = &askHealth{}
		}
		h.sources[name] = s
	}
	return s
}

// A verdict is what is known of a source before it is asked.
type verdict struct {
	avoid   bool          // others are asked before
	never   bool          // it is switched off
	line    bool          // it cannot be reached, whatever it is asked
	futile  bool          // it was silent a moment ago, before it could be asked anything
	unsaid  bool          // avoided for trouble in which it answered nothing: it has no say in what exists
	missing bool          // avoided for not having the version
	known   bool          // it was down before this walk
	wait    time.Duration // until it may be asked, if it wants a rest
	err     *Error        // what it last failed with, if it is avoided
	delay   time.Duration // how long it is waited for alone
	stall   time.Duration // how long the body of a zip may stand still while another source has it
	pace    float64       // bytes per second below which a zip is slow; 0 if unknown
}

// look decides about src before req is asked.
func (h *Health) look(src Source, req goproxy.Request) verdict {
	ask, now := AskOf(req), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = now
	h.poke()
	s := h.of(src)
	a := s.asks[ask]
	v := verdict{delay: s.delay(ask), stall: time.Second}
	if a.known {
		v.stall = 2 * time.Second
	}
	if a.pace.n >= enough {
		v.pace = a.pace.quantile(.5) / 20
	}
	avoid := func(err string, stage Stage) {
		v.avoid = true
		v.err = &Error{Source: src.Name(), Stage: stage, Err: errors.New(err), recalled: true}
	}
	// Only who could not be reached a moment ago, and whom it takes long to find out
	// about, has no say in what exists.
	silent := func(c *condition) bool {
		return c.unsaid && c.cost >= silentAgain && now.Sub(c.tried) < unsaidFor
	}
	switch lie, lied := s.lies[req.Module.Path]; {
	case s.off && (s.offUntil.IsZero() || now.Before(s.offUntil)):
		avoid("", StageLocal)
		v.err.Err = fmt.Errorf("%w%s", ErrSwitchedOff, because(s.offWhy))
		v.never, v.unsaid, v.known = true, true, true
	case s.line.down:
		avoid(s.line.err, s.line.stage)
		v.unsaid, v.known, v.line = silent(&s.line), true, true
		v.futile = s.line.stage.early() && s.line.cost >= silentAgain && now.Sub(s.line.tried) < silentAgain
	case a.down || now.Before(a.rest):
		avoid(a.err, a.stage)
		v.unsaid, v.known = a.down && silent(&a.condition), true
		if v.wait = max(0, a.rest.Sub(now)); v.wait > 0 {
			v.err.Status = a.status
		}
	case lied && now.Sub(lie.at) < h.c.Fence:
		avoid("it is fenced off for this module: "+lie.why, StageContent)
		v.known = true
	case a.overdue > 0:
		avoid("no answer yet to what it was asked before", StageHTTP)
	default:
		if n, ok := s.lacks[req.Module]; ok && ask != AskList && now.Sub(n.asked) < lacking {
			avoid("it did not have this version a moment ago", StageHTTP)
			v.missing = true
		}
	}
	return v
}

// resting reports whether src wants to be left alone, whatever it was asked.
func (h *Health) resting(src Source) bool {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.of(src).asks {
		if now.Before(a.rest) {
			return true
		}
	}
	return false
}

// proven reports whether a zip of src was found right since it last lied.
func (h *Health) proven(src Source) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of(src).proven
}

// ErrSwitchedOff says that somebody has taken the source out of use.
var ErrSwitchedOff = errors.New("it is switched off")

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// delay is how long the source is waited for alone: half as much again as what
// it usually takes at most.
func (s *sourceHealth) delay(ask Ask) time.Duration {
	w := &s.asks[ask].took
	usual := time.Duration(1.5 * w.quantile(.95) * float64(time.Second))
	if w.n < enough {
		return min(max(firstDelay, usual), mostDelay)
	}
	return min(max(leastDelay, usual), mostDelay)
}

// near judges by the quickest quarter: a busy machine makes the others slow.
func (h *Health) near(src Source, ask Ask) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &h.of(src).asks[ask].took
	return w.n >= enough && w.quantile(.25) <= nearTime.Seconds()
}

// began says that src is being asked.
func (h *Health) began(src Source, req goproxy.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of(src)
	s.tokens = min(s.tokens+hedgeShare, hedgeBurst)
	s.busy++
	if req.Kind == goproxy.Zip {
		s.pieces.zips++
	}
	a := s.asks[AskOf(req)]
	if a.req.Kind == 0 || !a.down {
		a.req = req
	}
	if !s.line.down {
		s.line.req = req
	}
}

// late says that src is overdue with its answer, and asks whether the next source
// may be asked now. While the source is well otherwise, a few per cent may.
func (h *Health) late(src Source, ask Ask, asked time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of(src)
	a := s.asks[ask]
	if a.good.After(asked) && !a.down { // it answers others meanwhile
		if s.tokens < 1 {
			return false
		}
		s.tokens--
	}
	a.overdue++
	s.hedged++
	return true
}

// An ending is how one question to a source ended.
type ending struct {
	err     error
	took    time.Duration // until the header, or the whole of a small answer
	late    bool          // late was called, and said yes
	left    bool          // it was cancelled: another source was faster, or nobody wants it any more
	outdone bool          // another source's answer was taken meanwhile
	asked   time.Time
	stage   Stage         // how far it had come when it was cancelled
	bytes   int64         // of a zip
	body    time.Duration // that they took
	lie     error         // the bytes were not those of the checksum database
}

// A Lie is an error of Accept that says that the source's bytes are not those
// that the checksum database stands for.
type Lie interface {
	error
	Lie() bool
}

// ended takes note of how a question ended.
func (h *Health) ended(src Source, req goproxy.Request, e ending) {
	ask, now := AskOf(req), time.Now()
	var told []Change
	h.mu.Lock()
	s := h.of(src)
	a := s.asks[ask]
	s.busy--
	if req.Kind == goproxy.Zip {
		s.pieces.zips--
	}
	if e.late {
		a.overdue--
	}
	missing := errors.Is(e.err, fs.ErrNotExist)
	se, _ := errors.AsType[*Error](e.err)
	switch {
	case e.lie != nil:
		s.proven = false
	case e.err == nil && !e.left && ask == AskZip:
		s.proven = true
	}
	switch {
	case errors.Is(e.err, ErrLimited): // our own doing
	case e.left:
		if !e.outdone || !e.late {
			break
		}
		s.overtaken++
		if a.outpaced++; a.good.After(e.asked) && a.outpaced < overtakenOften {
			break // it is well, but for this one
		}
		never := !s.answers()
		switch {
		case e.stage == StageDNS || e.stage == StageConnect || e.stage == StageProxy || e.stage == StageTLS || never:
			told = append(told, s.leave(&s.line, "", "no answer within "+e.took.Round(time.Millisecond).String()+", while another source had it", cmp.Or(e.stage, StageHTTP), true, now))
		case a.outpaced >= overtakenOften || !a.good.After(e.asked):
			told = append(told, s.leave(&a.condition, ask, "no answer within "+e.took.Round(time.Millisecond).String()+", while another source had it", StageHTTP, true, now))
			a.slow = true
		}
	case e.err == nil || missing:
		s.last = now
		if missing {
			s.missing++
		} else {
			s.good++
			delete(s.lacks, req.Module)
		}
		if s.line.down {
			told = append(told, s.back(&s.line, "", now))
		}
		checked := e.err == nil && req.Kind != goproxy.Info // which no checksum database vouches for
		if a.down && !(a.slow && (e.late || !s.fast(ask, e.took, now))) && (checked || !a.lied) {
			told = append(told, s.back(&a.condition, ask, now))
		}
		s.line.fails, a.fails, a.rest = 0, 0, time.Time{}
		a.known, a.good = true, now
		if !e.late {
			a.outpaced = 0
		}
		if e.err == nil {
			if checked {
				a.lies = 0
			}
			if !a.down { // what it is left for is not usual
				a.took.add(e.took.Seconds())
			}
			if e.bytes >= 256<<10 && e.body > 0 {
				a.pace.add(float64(e.bytes) / e.body.Seconds())
			}
		}
	case e.lie != nil:
		s.failed++
		s.last = now
		s.fence(req.Module.Path, note{now, e.lie.Error()})
		told = append(told, Change{Source: src.Name(), Ask: ask, State: Down, Module: req.Module.Path, Why: e.lie.Error(), Stage: StageContent})
		if a.lies++; a.lies >= failuresAnswered && !a.down {
			told = append(told, s.leave(&a.condition, ask, "wrong bytes of one module after the other", StageContent, false, now))
			// A probe does not know right from wrong.
			a.lied, a.next = true, now.Add(jitter(liarRest))
		}
	case se == nil || se.Status == 401 || se.Status == 403:
		s.last = now // a refusal is an answer
		s.failed++
	default:
		s.failed++
		switch {
		case se.Status == 429 || se.Status == 503 && se.RetryAfter > 0:
			told = append(told, a.heed(ask, se, now)...)
		case !se.Answered() && se.Stage != StageHTTP, se.Stage == StageProxy, !se.Answered() && !s.answers():
			if !s.line.down {
				told = append(told, s.leave(&s.line, "", se.reason(), se.Stage, true, now))
			}
			s.line.tried, s.line.cost = now, e.took
		case a.down:
			a.err, a.stage, a.unsaid = se.reason(), se.Stage, !se.Answered()
			if a.unsaid {
				a.tried, a.cost = now, e.took
			}
		case !se.Answered(), errors.Is(se.Err, ErrStalled) && !a.known:
			a.tried, a.cost = now, e.took
			told = append(told, s.leave(&a.condition, ask, se.reason(), se.Stage, !se.Answered(), now))
		default:
			if a.fails++; a.fails >= failuresAnswered {
				told = append(told, s.leave(&a.condition, ask, se.reason(), se.Stage, false, now))
			}
		}
	}
	for i := range told {
		told[i].Source = src.Name()
	}
	h.mu.Unlock()
	h.tell(told)
}

// heed leaves a source alone for as long as it asked for with se, if it did.
func (a *askHealth) heed(ask Ask, se *Error, now time.Time) []Change {
	rest := min(se.RetryAfter, longestRest)
	if se.Status != 429 && (se.Status != 503 || rest <= 0) {
		return nil
	}
	rest = max(rest, time.Second)
	a.err, a.stage, a.unsaid, a.status = se.reason(), se.Stage, false, se.Status
	until := now.Add(rest)
	if !until.After(a.rest) {
		return nil
	}
	a.rest = until
	return []Change{{Ask: ask, State: Resting, Why: se.reason() + "; asked to wait " + rest.String(), Stage: se.Stage}}
}

// fast reports whether a source that was left for being slow is as fast as it used
// to be, or for so long as it is now that this is usual.
func (s *sourceHealth) fast(ask Ask, took time.Duration, now time.Time) bool {
	a := s.asks[ask]
	usual := time.Duration(4 * a.took.quantile(.5) * float64(time.Second))
	unknown := firstDelay
	if ask == AskZip { // its size says more than its source
		unknown = mostDelay
	}
	return took <= max(usual, leastDelay) || a.took.n < enough && took < unknown || now.Sub(a.since) > newNormal
}

// answers reports whether the source has ever given an answer to anything.
func (s *sourceHealth) answers() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(s.asks)), func(a *askHealth) bool { return a.known })
}

func (s *sourceHealth) leave(c *condition, ask Ask, why string, stage Stage, unsaid bool, now time.Time) Change {
	c.down, c.since, c.err, c.stage, c.unsaid = true, now, why, stage, unsaid
	c.pause, c.fit, c.slow, c.lied = firstProbe, 0, false, false
	c.next = now.Add(jitter(c.pause))
	return Change{Ask: ask, State: Down, Why: why, Stage: stage}
}

func (s *sourceHealth) back(c *condition, ask Ask, now time.Time) Change {
	was := now.Sub(c.since)
	c.down, c.since, c.fails, c.slow, c.rest = false, now, 0, false, time.Time{}
	for k, a := range s.asks {
		if ask == "" || k == ask {
			a.outpaced = 0
		}
	}
	return Change{Ask: ask, State: Up, After: was}
}

func (h *Health) tell(changes []Change) {
	h.poke()
	changed := h.config().Changed
	if changed == nil {
		return
	}
	for _, c := range changes {
		changed(c)
	}
}

// lacks takes note that src did not have what another source then had.
func (h *Health) lacks(src Source, m module.Version) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of(src).lack(m, time.Now())
}

// WentBackwards takes note that a source's list, or its @latest, lacks what it
// had before: it is frozen, was rolled back, or hides something.
func (h *Health) WentBackwards(source, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.named(source).behind = note{at: time.Now(), why: what}
}

// jitter is d, or up to a fifth more or less.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + time.Duration(rand.Int64N(int64(d)*2/5+1))
}

// poke lets Run look at its clock again. It does not block.
func (h *Health) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run probes sources until ctx ends: those that are down, until they return, and
// those that nobody has asked for a heartbeat. It stops while no client asks.
func (h *Health) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		due, wait := h.due(time.Now())
		for _, p := range due {
			wg.Go(func() { h.probe(ctx, p) })
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-h.wake:
			t.Stop()
			// Not more often than it matters.
			select {
			case <-ctx.Done():
				return
			case <-time.After(probeAgain / 5):
			}
		}
	}
}

// A probing is a question to be put to a source.
type probing struct {
	src Source
	ask Ask // "" for the line
	req goproxy.Request
}

// due lists the probes to be made now, and how long there is nothing to do.
func (h *Health) due(now time.Time) (list []probing, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait = time.Hour
	if h.quiet || h.used.IsZero() || h.c.Heartbeat < 0 || now.Sub(h.used) > h.c.Idle {
		return nil, wait
	}
	consider := func(s *sourceHealth, ask Ask, c *condition) {
		if !c.down || c.req.Kind == 0 || s.src == nil {
			return
		}
		at := c.next
		if c.rest.After(at) {
			at = c.rest
		}
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			return
		}
		list = append(list, probing{s.src, ask, c.req})
		c.pause = min(2*c.pause, h.c.Heartbeat)
		c.next = now.Add(max(probeBudget, jitter(c.pause))) // set anew when it ends
	}
	for _, s := range h.sources {
		if s.src == nil || s.src.Kind() != Proxy && s.src.Kind() != Tree || s.off {
			continue
		}
		consider(s, "", &s.line)
		if !s.line.down {
			for ask, a := range s.asks {
				consider(s, ask, &a.condition)
			}
		}
		if beat, ok := s.src.(Heart); ok && !s.line.down && s.answers() && !s.rests(now) {
			at := s.last.Add(jitter(h.c.Heartbeat))
			if s.line.next.After(at) {
				at = s.line.next
			}
			if at.After(now) {
				wait = min(wait, at.Sub(now))
				continue
			}
			s.line.next = now.Add(max(h.c.Heartbeat, probeBudget))
			list = append(list, probing{src: beatSource{s.src, beat}})
		}
	}
	return list, max(wait, 10*time.Millisecond)
}

func (s *sourceHealth) rests(now time.Time) bool {
	return slices.ContainsFunc(asks[:], func(k Ask) bool { return now.Before(s.asks[k].rest) })
}

// Keep forgets all sources but these: after a change of the configuration nobody
// else is probed, and those with what they have now.
func (h *Health) Keep(sources []Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sources {
		s.src = nil
		s.line.req = goproxy.Request{} // the modules of a path may go elsewhere now
		for _, a := range s.asks {
			a.req = goproxy.Request{}
		}
	}
	for _, src := range sources {
		if s := h.sources[src.Name()]; s != nil {
			s.src = src
		}
	}
}

// A Heart is a source that has a question cheaper than any module file.
type Heart interface {
	// Beat fails if the source cannot be reached or is in trouble as a whole.
	Beat(ctx context.Context) error
}

type beatSource struct {
	Source
	heart Heart
}

// probe asks a source a question for our own sake.
func (h *Health) probe(ctx context.Context, p probing) {
	pctx, cancel := context.WithTimeout(ctx, probeBudget)
	defer cancel()
	start := time.Now()
	var err error
	beat, isBeat := p.src.(beatSource)
	if isBeat {
		err = beat.heart.Beat(pctx)
	} else {
		err = ask(pctx, p.src, p.req)
	}
	took := time.Since(start)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	var told []Change
	h.mu.Lock()
	s := h.named(p.src.Name())
	se, _ := errors.AsType[*Error](err)
	well := err == nil || errors.Is(err, fs.ErrNotExist) || se != nil && (se.Status == 401 || se.Status == 403)
	switch {
	case isBeat:
		// What it says of a checksum database is no word on modules; only that there
		// is no connection is.
		s.line.next = now.Add(jitter(h.c.Heartbeat))
		if well {
			s.last = now
			break
		}
		if se != nil && !se.Answered() && se.Stage.early() && !s.line.down {
			s.line.tried, s.line.cost = now, took
			told = append(told, s.leave(&s.line, "", se.reason(), se.Stage, true, now))
		}
	default:
		c := &s.line
		if p.ask != "" {
			c = &s.asks[p.ask].condition
		}
		c.next = now.Add(jitter(c.pause))
		if !c.down {
			break
		}
		if well && c.slow {
			well = s.fast(p.ask, took, now)
		}
		if !well {
			c.fit = 0
			if se != nil {
				c.err, c.stage, c.unsaid = se.reason(), se.Stage, !se.Answered()
			}
			if se == nil || !se.Answered() {
				c.tried, c.cost = now, took
			}
			break
		}
		if c.fit++; c.fit < probesGood {
			c.next = now.Add(jitter(probeAgain))
			break
		}
		s.last = now
		ah := s.asks[AskOf(p.req)]
		if ah.took.n < enough || now.Sub(c.since) > newNormal {
			ah.took.add(took.Seconds())
		}
		told = append(told, s.back(c, p.ask, now))
	}
	for i := range told {
		told[i].Source = p.src.Name()
	}
	h.mu.Unlock()
	h.tell(told)
}

// ask puts a question and looks at the answer as far as that is cheap: the form
// of a small one, the beginning of a zip.
func ask(ctx context.Context, src Source, req goproxy.Request) error {
	a, err := src.Get(ctx, req)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	limit := req.Kind.Limit()
	if req.Kind == goproxy.Zip {
		limit = probeZip
	}
	data, err := io.ReadAll(io.LimitReader(a.Body, limit))
	if err != nil {
		return err
	}
	switch req.Kind {
	case goproxy.Info, goproxy.Latest:
		m := req.Module
		if req.IsQuery() || req.Kind == goproxy.Latest {
			m.Version = ""
		}
		_, err = goproxy.ParseInfo(data, m)
	case goproxy.List:
		_, err = goproxy.ParseList(data, req.Module.Path)
	case goproxy.Mod:
		err = goproxy.CheckMod(data)
	case goproxy.Zip:
		if int64(len(data)) < limit { // the whole: cut ones have no directory
			_, err = zip.NewReader(bytes.NewReader(data), int64(len(data)))
		} else if string(data[:2]) != "PK" {
			err = errors.New("that is no zip")
		}
	}
	if err != nil {
		return &Error{Source: src.Name(), Stage: StageContent, Err: err}
	}
	return nil
}

// IsDown reports whether a source cannot be reached as far as is known, whatever
// it is asked.
func (h *Health) IsDown(source string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sources[source]
	return s != nil && (s.line.down || s.off && (s.offUntil.IsZero() || time.Now().Before(s.offUntil)))
}

// Switch takes a source out of use, or back in. Until, if it is not zero, is when
// that ends by itself.
func (h *Health) Switch(source string, off bool, until time.Time, why string) {
	h.mu.Lock()
	s := h.named(source)
	s.off, s.offUntil, s.offWhy = off, until, why
	h.mu.Unlock()
	st := Up
	if off {
		st = SwitchOff
	}
	h.tell([]Change{{Source: source, State: st, Why: why}})
}

// Prefer puts a source before all others, as far as the chain allows it; ""
// takes that back.
func (h *Health) Prefer(source string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prefer = source
}

// Pardon lets a source back that was fenced off, for one module, or for all if
// path is "". It returns for how many.
func (h *Health) Pardon(source, path string) (n int) {
	var told []Change
	h.mu.Lock()
	if s := h.sources[source]; s != nil {
		for p := range s.lies {
			if path == "" || p == path {
				delete(s.lies, p)
				n++
			}
		}
		for _, k := range asks {
			a := s.asks[k]
			if a.lies = 0; a.down && a.lied && n > 0 {
				c := s.back(&a.condition, k, time.Now())
				c.Source = source
				told = append(told, c)
			}
		}
	}
	h.mu.Unlock()
	h.tell(told)
	return n
}

// A Report is what is known of a source, for people and programs.
type Report struct {
	Source                string
	State                 State
	Since                 time.Time // of the state; zero if it never was another
	Why                   string    // of a state that is not up
	Stage                 Stage     // at which it last failed
	Asks                  []AskReport
	Good, Missing, Failed uint64            // answers
	Hedged                uint64            // how often another source was asked since this one was late
	Overtaken             uint64            // and was faster
	Busy                  int               // questions under way
	Lacks                 int               // versions that others have
	LacksFor              time.Duration     // for how long, the oldest of them, as far as we have seen
	Lies                  map[string]string // modules that it gave wrong bytes of, and what was wrong
	Backwards             string            // how its lists last went backwards
	BackwardsAt           time.Time
	Last                  time.Time // of its last answer
}

// An AskReport is the part of a Report for one kind of question.
type AskReport struct {
	Ask           Ask
	State         State
	Since         time.Time
	Why           string
	Stage         Stage         // at which it failed, if it is not up
	P50, P95, P99 time.Duration // until an answer; 0 if unknown
	Pace          float64       // bytes per second, of zips; 0 if unknown
	Samples       int
}

// Report tells what is known of a source.
func (h *Health) Report(source string) Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := Report{Source: source, State: Unknown}
	s := h.sources[source]
	if s == nil {
		return r
	}
	now := time.Now()
	r.Good, r.Missing, r.Failed, r.Hedged, r.Overtaken, r.Busy, r.Last = s.good, s.missing, s.failed, s.hedged, s.overtaken, s.busy, s.last
	r.Lacks, r.Backwards, r.BackwardsAt = len(s.lacks), s.behind.why, s.behind.at
	for _, n := range s.lacks {
		r.LacksFor = max(r.LacksFor, now.Sub(n.since))
	}
	if len(s.lies) > 0 {
		r.Lies = map[string]string{}
		for p, n := range s.lies {
			r.Lies[p] = n.why
		}
	}
	for _, k := range asks {
		a := s.asks[k]
		st, why := a.state(now)
		if st == Up && !a.known {
			st = Unknown
		}
		if st == Up && a.overdue > 0 {
			st, why = Suspect, "overdue with an answer"
		}
		secs := func(q float64) time.Duration { return time.Duration(a.took.quantile(q) * float64(time.Second)) }
		r.Asks = append(r.Asks, AskReport{Ask: k, State: st, Since: a.since, Why: why, Stage: a.stage, P50: secs(.5), P95: secs(.95), P99: secs(.99), Pace: a.pace.quantile(.5), Samples: len(a.took.v)})
	}
	st, why := s.line.state(now)
	r.State, r.Why, r.Since, r.Stage = st, why, s.line.since, s.line.stage
	switch {
	case s.off && (s.offUntil.IsZero() || now.Before(s.offUntil)):
		r.State, r.Why = SwitchOff, s.offWhy
	case st == Up && !s.answers() && s.failed == 0:
		r.State = Unknown
	case st == Up:
		for _, a := range r.Asks {
			if a.State == Down || a.State == Resting || a.State == Suspect && r.State == Up {
				r.State, r.Why, r.Since = a.State, string(a.Ask)+": "+a.Why, a.Since
			}
		}
	}
	return r
}

func (c *condition) state(now time.Time) (State, string) {
	switch {
	case c.down:
		return Down, c.err
	case now.Before(c.rest):
		return Resting, c.err
	}
	return Up, ""
}

// A hint is what is kept of a source across restarts.
type hint struct {
	Source string
	Down   bool      `json:",omitempty"`
	Ask    Ask       `json:",omitempty"`
	Since  time.Time `json:",omitzero"`
	Err    string    `json:",omitempty"`
	Stage  Stage     `json:",omitempty"`
	Path   string    `json:",omitempty"` // of the question to probe with
	Took   []float64 `json:",omitempty"` // seconds
}

// Save is what Load reads. Fences are not in it.
func (h *Health) Save() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []hint{}
	for _, name := range slices.Sorted(maps.Keys(h.sources)) {
		s := h.sources[name]
		if s.line.down && s.line.req.Kind != 0 {
			list = append(list, hint{Source: name, Down: true, Since: s.line.since, Err: s.line.err, Stage: s.line.stage, Path: s.line.req.Path()})
		}
		for _, k := range asks {
			a := s.asks[k]
			x := hint{Source: name, Ask: k, Took: a.took.v}
			if a.down && !a.lied && a.req.Kind != 0 {
				x.Down, x.Since, x.Err, x.Stage, x.Path = true, a.since, a.err, a.stage, a.req.Path()
			}
			if x.Down || len(x.Took) > 0 {
				list = append(list, x)
			}
		}
	}
	return json.Marshal(list)
}

// Fence puts up a fence that stood before: since the time at, source is asked last
// for the module path, having told the lie why. It is for what another process
// saw.
func (h *Health) Fence(source, path, why string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.named(source).fence(path, note{at: at, why: why})
}

// Load takes what an earlier process knew for a hint: what was down is asked last
// until a probe, which is made at once, says otherwise. Data that is damaged is
// an error and changes nothing.
func (h *Health) Load(data []byte) error {
	var list []hint
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range list {
		s := h.named(x.Source)
		c := &s.line
		if x.Ask != "" {
			a, ok := s.asks[x.Ask]
			if !ok {
				continue
			}
			c = &a.condition
			for _, v := range x.Took[:min(len(x.Took), windowSize)] {
				if v > 0 && v < 3600 {
					a.took.add(v)
				}
			}
		}
		req, err := goproxy.ParsePath(x.Path)
		if !x.Down || err != nil || now.Sub(x.Since) > 24*time.Hour {
			continue
		}
		s.leave(c, x.Ask, x.Err, x.Stage, true, now)
		c.since, c.req, c.next = x.Since, req, now
	}
	return nil
}
