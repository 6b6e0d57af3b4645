package bench

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/upstream"
)

const (
	// maxSized is how many candidates of unknown size are asked about.
	maxSized = 8
	// largeZip is how large a zip is, in bytes, of which a rate says something of the
	// line: below, it is the latency again.
	largeZip = 64 << 10
	// partSize is how many bytes of a zip are asked for to see whether parts come.
	partSize = 1 << 10
	// truthTime is the longest that the checksum database may take for the sample.
	truthTime = 10 * time.Second
	// freshGrace is how old a version is before a mirror lags that does not list it:
	// mirrors keep a list for a while, and may.
	freshGrace = time.Hour
	// leastZips is in how many of the rounds that count the largest zip is to come at
	// least, for its rate not to be chance.
	leastZips = 3
	// sizingShare is the part of a mirror's time after which it is asked for no more
	// sizes of candidates.
	sizingShare = 4
)

// A run is one measurement.
type run struct {
	Plan
	began    time.Time
	subjects []*subject
	sample   []Sampled
	top      int // index in sample of the largest zip; -1 if none is fetched
	database Database
	truth    map[file]string // h1 by the database

	reading chan struct{}     // holds the token of who reads a zip, one at a time
	sums    map[string]hashed // by the SHA-256 of a zip; of who has the token

	// What follows is told by compare, after the lists came.
	newest map[string]tagged // by module path
	step   int
	made   int // rounds in which all had their turn
}

// A tagged is a version with its time; zero if nobody said.
type tagged struct {
	version string
	time    time.Time
}

// A file is one that has a hash: the zip or the go.mod of a version.
type file struct {
	mod  module.Version
	kind goproxy.Kind
}

func (f file) String() string { return f.mod.String() + " (" + f.kind.String() + ")" }

func fileOf(req goproxy.Request) file { return file{req.Module, req.Kind} }

// A subject is a mirror while it is measured. One goroutine at a time has it.
type subject struct {
	Mirror
	spent   time.Duration
	bytes   int64
	stopped string
	down    error // why nothing can be had of it at all; nil if something can

	tallies []*tally // in the order in which it was asked first
	good    int      // files, and lists with something in them
	gave    int      // files
	broken  error    // the last failure

	counts, warmed            figures // of the rounds that count, and of what came before
	name, connect, tls, first []float64

	lists  map[string][]string     // by module path
	hashes map[file]map[string]int // h1 → how often
	sumdb  string
	parts  string
	why    []string // evidence of wrong answers

	unchecked bool // some of its zips could not be kept, and that is said
}

// figures are the values that the medians are of.
type figures struct{ latency, throughput []float64 }

// figures are those to which an answer belongs that counts, or does not.
func (s *subject) figures(counts bool) *figures {
	if counts {
		return &s.counts
	}
	return &s.warmed
}

// Run measures by the plan, until ctx ends, and tells what is known then.
func Run(ctx context.Context, p Plan) *Report {
	r := &run{Plan: p, began: time.Now(), top: -1, truth: map[file]string{}, newest: map[string]tagged{}, database: Database{Name: p.Database, Direct: Unasked},
		reading: make(chan struct{}, 1), sums: map[string]hashed{}}
	for _, m := range p.Mirrors {
		s := &subject{Mirror: m, lists: map[string][]string{}, hashes: map[file]map[string]int{}, sumdb: Unasked, parts: Untold}
		if m.Sums != nil {
			s.sumdb = Untold
		}
		r.subjects = append(r.subjects, s)
	}
	r.knock(ctx)
	if alive := r.alive(); len(alive) > 0 && ctx.Err() == nil {
		if r.choose(ctx, alive); len(r.sample) > 0 {
			r.warm(ctx, alive)
			r.ask(ctx)
			r.compare(ctx)
			r.rounds(ctx, alive)
		}
	}
	return r.report(ctx)
}

func (r *run) tell(text string) {
	if r.Progress != nil {
		r.Progress(Progress{Text: text, Done: r.step, Total: (r.Rounds + 1) * len(r.subjects)})
	}
}

// alive are the subjects that are worth asking.
func (r *run) alive() []*subject {
	return slices.DeleteFunc(slices.Clone(r.subjects), func(s *subject) bool { return s.down != nil })
}

// all does something with each of the subjects, all at once.
func all(subjects []*subject, do func(*subject)) {
	var wg sync.WaitGroup
	for _, s := range subjects {
		wg.Go(func() { do(s) })
	}
	wg.Wait()
}

// knock finds out who is there. Whoever cannot be reached twice is not asked again.
func (r *run) knock(ctx context.Context) {
	r.tell("looking who answers")
	all(r.subjects, func(s *subject) {
		for range 2 {
			if _, err := r.list(ctx, s, r.Candidates[0].Module.Path, nil, false); err == nil || ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) {
				return
			}
			if e, ok := errors.AsType[*upstream.Error](s.broken); ok && e.Answered() {
				return // it may do better with another module
			}
		}
		s.down = s.broken
	})
}

// choose finds out how large the zips of the candidates are, and makes the sample; none
// if it is broken off.
func (r *run) choose(ctx context.Context, alive []*subject) {
	r.tell("choosing modules")
	asked := 0
	for i := range r.Candidates {
		c := &r.Candidates[i]
		if c.Size > 0 || asked == maxSized && !r.All {
			continue
		}
		for try := range min(2, len(alive)) { // not all by the same mirror
			s := alive[(asked+try)%len(alive)]
			if s.spent > r.Time/sizingShare {
				continue
			}
			part, err := r.part(ctx, s, goproxy.Request{Kind: goproxy.Zip, Module: c.Module}, 0, 1)
			if err == nil && part.Size > 0 {
				c.Size = part.Size
				break
			}
		}
		asked++
	}
	if ctx.Err() != nil {
		return
	}
	// A tenth is for all else.
	r.sample = pick(r.Candidates, r.Bytes/10*9, r.Rounds, r.All)
	for i, m := range r.sample {
		if m.Zip == Yes && (r.top < 0 || m.Bytes > r.sample[r.top].Bytes) {
			r.top = i
		}
	}
}

// pick makes a sample of candidates: the smallest zip, the largest that can be fetched
// often enough in as many bytes as room, and one in the middle; or all. A zip comes once
// to warm up and then in each of the rounds, or where there is not room for that, in
// some, but not in fewer than leastZips; else it is not fetched.
func pick(candidates []Candidate, room int64, rounds int, all bool) []Sampled {
	sized := slices.Clone(candidates)
	if !all {
		sized = slices.DeleteFunc(sized, func(c Candidate) bool { return c.Size == 0 })
	}
	if len(sized) == 0 {
		sized = candidates[:1]
	}
	slices.SortStableFunc(sized, func(a, b Candidate) int { return cmp.Compare(a.Size, b.Size) })
	most, least := int64(rounds)+1, int64(min(rounds, leastZips))+1
	if !all && len(sized) > 3 {
		top := len(sized) - 1
		for top > 2 && most*(sized[0].Size+sized[top/2].Size)+least*sized[top].Size > room {
			top--
		}
		sized = []Candidate{sized[0], sized[top/2], sized[top]}
	}
	var list []Sampled
	for _, c := range sized {
		s := Sampled{Module: c.Module.Path, Version: c.Module.Version, Bytes: c.Size, Zip: No, Truth: ByNobody}
		if n := min(most, room/max(c.Size, 1)); c.Size > 0 && n >= least {
			s.Zip, s.often = Yes, int(n)-1
			room -= n * c.Size
		}
		list = append(list, s)
	}
	return list
}

// due reports whether the zip is to come in the n'th of so many rounds: in as many as it
// may, spread over all, the first among them.
func (s Sampled) due(n, rounds int) bool {
	upTo := func(n int) int { return (n*s.often + rounds - 1) / rounds }
	return upTo(n+1) > upTo(n)
}

func (s Sampled) mod() module.Version { return module.Version{Path: s.Module, Version: s.Version} }

// warm makes a round with all at once, which does not count: caches of the mirrors have
// the modules then.
func (r *run) warm(ctx context.Context, alive []*subject) {
	r.tell("warming up")
	all(alive, func(s *subject) {
		// The small files first: they are what a verdict needs, should the time be over.
		r.smalls(ctx, s, false)
		for _, m := range r.sample {
			for range 2 { // one failure is chance
				if _, ok := s.lists[m.Module]; ok {
					break
				}
				if _, err := r.list(ctx, s, m.Module, nil, false); errors.Is(err, fs.ErrNotExist) {
					break
				}
			}
		}
		for i := range r.sample {
			r.zip(ctx, s, i, false)
		}
		r.copyOfDatabase(ctx, s)
		if ctx.Err() == nil {
			if s.good == 0 && s.broken == nil && s.stopped == "" {
				s.broken = &upstream.Error{Source: s.Source.Name(), Stage: upstream.StageHTTP, Status: 404, Err: errors.New("it says not to have anything that it was asked for")}
			}
			if s.dead() {
				s.down = s.broken // what answers there is no mirror
			}
		}
	})
	r.step = len(r.subjects)
}

// ask asks the checksum database about the sample.
func (r *run) ask(ctx context.Context) {
	if r.Sums == nil || ctx.Err() != nil {
		return
	}
	r.tell("asking the checksum database")
	ctx, cancel := context.WithTimeout(ctx, truthTime)
	defer cancel()
	type answer struct {
		zip, mod string
		err      error
	}
	answers := make([]answer, len(r.sample))
	var wg sync.WaitGroup
	for i, m := range r.sample {
		wg.Go(func() {
			a := &answers[i]
			a.zip, a.mod, a.err = r.Sums(ctx, m.mod())
		})
	}
	if r.Direct != nil {
		wg.Go(func() {
			_, _, err := r.Direct(ctx, r.sample[0].mod())
			switch {
			case err == nil || errors.Is(err, checksum.ErrUnknown):
				r.database.Direct = Yes
			case context.Cause(ctx) == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded):
				r.database.Direct, r.database.Text = No, finding.OneLine(err.Error(), 300)
			}
		})
	}
	wg.Wait()
	for i, a := range answers {
		if a.err == nil {
			r.truth[file{r.sample[i].mod(), goproxy.Zip}] = a.zip
			r.truth[file{r.sample[i].mod(), goproxy.Mod}] = a.mod
			r.sample[i].Truth = ByDatabase
		}
	}
}

// compare finds the newest version of each module that any mirror lists. One that only
// one of them lists has to be known to the checksum database as well, so that nobody
// makes all others look old by inventing versions; nor does whoever invents one hide
// with more of them what the others list.
func (r *run) compare(ctx context.Context) {
	for i := range r.sample {
		path := r.sample[i].Module
		lists := map[string][]*subject{}
		for _, s := range r.subjects {
			for _, v := range s.lists[path] {
				lists[v] = append(lists[v], s)
			}
		}
		var versions []string
		for v := range lists {
			versions = append(versions, v)
		}
		goproxy.SortVersions(versions)
		for tries := 0; len(versions) > 0 && tries < 3 && ctx.Err() == nil; tries++ {
			v := versions[len(versions)-1]
			t, real := r.tagged(ctx, module.Version{Path: path, Version: v}, lists[v])
			if real {
				r.newest[path] = t
				r.sample[i].Newest = v
				break
			}
			versions = versions[:len(versions)-1]
			if by := lists[v]; len(by) == 1 {
				versions = slices.DeleteFunc(versions, func(v string) bool { return slices.Equal(lists[v], by) })
			}
		}
	}
}

// tagged asks one of those that list a version when it was made, and whether there is
// one at all.
func (r *run) tagged(ctx context.Context, mod module.Version, by []*subject) (tagged, bool) {
	t := tagged{version: mod.Version}
	listed := 0 // by all that list the module at all
	for _, s := range r.subjects {
		if len(s.lists[mod.Path]) > 0 {
			listed++
		}
	}
	if len(by) == listed {
		return t, true
	}
	known := len(by) > 1
	req := goproxy.Request{Kind: goproxy.Info, Module: mod}
	for _, s := range by {
		a, err := r.get(ctx, s, req, r.Answer, nil, false, nil)
		if err != nil {
			continue
		}
		info, err := goproxy.ParseInfo(a.data, mod)
		if err != nil {
			s.wrong(req, err, false)
			continue
		}
		s.came(req)
		t.time, known = info.Time, true
		break
	}
	if known && len(by) == 1 && r.Sums != nil {
		ctx, cancel := context.WithTimeout(ctx, truthTime)
		defer cancel()
		if _, _, err := r.Sums(ctx, mod); err != nil {
			return t, false // also where it cannot be asked: nobody else vouches for it
		}
	}
	return t, known
}

// rounds makes those that count: one mirror at a time, in an order that chance makes.
func (r *run) rounds(ctx context.Context, alive []*subject) {
	order := slices.Clone(alive)
	for n := range r.Rounds {
		r.made = n
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		r.step = (n + 1) * len(r.subjects)
		for _, s := range order {
			if ctx.Err() != nil {
				return
			}
			r.tell(fmt.Sprintf("round %d of %d: %s", n+1, r.Rounds, s.Name))
			r.step++
			if s.down != nil || s.stopped != "" {
				continue
			}
			s.Idle()
			m := r.sample[n%len(r.sample)]
			r.list(ctx, s, m.Module, &steps{}, true)
			r.smalls(ctx, s, true)
			for i, m := range r.sample {
				if m.due(n, r.Rounds) {
					r.zip(ctx, s, i, true)
				}
			}
			r.copyOfDatabase(ctx, s)
		}
	}
	if ctx.Err() == nil {
		r.made = r.Rounds
	}
	r.step = (r.Rounds + 1) * len(r.subjects)
}

// smalls asks for the small files of the sample. What comes counts for the figures or not.
func (r *run) smalls(ctx context.Context, s *subject, counts bool) {
	for _, m := range r.sample {
		for _, kind := range []goproxy.Kind{goproxy.Info, goproxy.Mod} {
			r.small(ctx, s, goproxy.Request{Kind: kind, Module: m.mod()}, counts)
		}
	}
}

// small asks for a small file of a version.
func (r *run) small(ctx context.Context, s *subject, req goproxy.Request, counts bool) {
	a, err := r.get(ctx, s, req, r.Answer, nil, counts, nil)
	if err != nil {
		return
	}
	if a.size == 0 {
		err = errEmpty
	} else if req.Kind == goproxy.Info {
		_, err = goproxy.ParseInfo(a.data, req.Module)
	} else if err = goproxy.CheckMod(a.data); err == nil {
		h1, _ := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(a.data)), nil })
		s.saw(fileOf(req), h1)
	}
	if err != nil {
		s.wrong(req, err, counts)
		return
	}
	s.came(req)
	f := s.figures(counts)
	f.latency = append(f.latency, millis(a.whole))
}

// partsOf finds out whether the mirror goes on with a zip that broke off.
func (r *run) partsOf(ctx context.Context, s *subject, req goproxy.Request, whole *kept) {
	off := whole.p.Size() / 2
	want := make([]byte, min(partSize, whole.p.Size()-off))
	if _, err := whole.p.ReadAt(want, off); err != nil {
		return
	}
	part, err := r.part(ctx, s, req, off, int64(len(want)))
	switch {
	case err == nil && !part.Ranged:
		s.parts = No
	case err == nil && bytes.Equal(part.Data, want):
		s.parts = Yes
	case err == nil:
		s.parts = Wrong
		s.why = append(s.why, "asked for a part of a file, it gives other bytes than those that stand there")
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && (e.Status == 416 || e.Stage == upstream.StageContent) {
		s.parts = Wrong
		s.why = append(s.why, finding.OneLine("asked for a part of a file, it "+reason(e), 200))
	}
}

// part asks for a part within the budget of time; it counts for no figure.
func (r *run) part(ctx context.Context, s *subject, req goproxy.Request, off, n int64) (upstream.Part, error) {
	limit := min(r.Answer, r.Time-s.spent)
	if limit <= 0 || s.stopped != "" {
		return upstream.Part{}, context.DeadlineExceeded
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, upstream.ErrStalled)
	defer cancel()
	begin := time.Now()
	part, err := s.Source.Part(ctx, req, off, n)
	s.spent += time.Since(begin)
	s.bytes += int64(len(part.Data))
	return part, err
}

// copyOfDatabase finds out whether the mirror mirrors the checksum database, unless that
// is known.
func (r *run) copyOfDatabase(ctx context.Context, s *subject) {
	limit := min(r.Answer, r.Time-s.spent)
	if s.sumdb != Untold || s.stopped != "" || ctx.Err() != nil || limit <= 0 {
		return
	}
	within, cancel := context.WithTimeoutCause(ctx, limit, upstream.ErrStalled)
	defer cancel()
	begin := time.Now()
	_, _, err := s.Sums(within, r.sample[0].mod())
	s.spent += time.Since(begin)
	switch {
	case err == nil:
		s.sumdb = Yes
	case errors.Is(err, checksum.ErrUnsupported):
		s.sumdb = No
	case errors.Is(err, checksum.ErrSecurity):
		s.sumdb = Wrong
		s.why = append(s.why, finding.OneLine(err.Error(), 300))
	}
}

// list asks for the list of a module.
func (r *run) list(ctx context.Context, s *subject, path string, st *steps, counts bool) ([]string, error) {
	req := goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: path}}
	a, err := r.get(ctx, s, req, r.Answer, st, counts, nil)
	if err != nil {
		return nil, err
	}
	versions, err := goproxy.ParseList(a.data, path)
	if err == nil && len(versions) == 0 && len(s.lists[path]) > 0 {
		err = errEmpty // it had some before
	}
	if err != nil {
		s.wrong(req, err, counts)
		return nil, err
	}
	s.came(req)
	if len(versions) > 0 { // nothing, anybody can list
		s.good++
	}
	s.lists[path] = versions
	if st != nil {
		st.mu.Lock()
		defer st.mu.Unlock()
		s.name, s.connect, s.tls = st.name.add(s.name), st.connect.add(s.connect), st.tls.add(s.tls)
		s.first = append(s.first, millis(a.first-st.taken()))
	}
	return versions, nil
}

// An answer is one that came, or what of it came.
type answer struct {
	data         []byte // none of what was put elsewhere
	size         int64
	first, whole time.Duration // to the header, and to the end
	told         bool          // as many bytes came as were announced
	cut          bool          // it was us who did not wait longer
}

// get asks for req within the budgets, and takes down how it ended. What comes is put
// into elsewhere, if there is one, whose Write never fails.
func (r *run) get(ctx context.Context, s *subject, req goproxy.Request, limit time.Duration, st *steps, counts bool, elsewhere io.Writer) (a answer, err error) {
	short := false
	if left := r.Time - s.spent; left < limit {
		limit, short = left, true
	}
	if limit <= 0 {
		s.stop("its budget of time is spent")
	}
	if s.stopped != "" || s.down != nil {
		return a, context.DeadlineExceeded
	}
	if ctx.Err() != nil {
		return a, context.Cause(ctx)
	}
	most := min(req.Kind.Limit(), r.Bytes-s.bytes)
	if most <= 0 {
		s.stop("its budget of bytes is spent")
		return a, context.DeadlineExceeded
	}
	within, cancel := context.WithTimeoutCause(ctx, limit, upstream.ErrStalled)
	defer cancel()
	if st != nil {
		within = httptrace.WithClientTrace(within, st.trace())
	}
	begin := time.Now()
	got, err := s.Source.Once(within, req)
	if err == nil {
		a.first = time.Since(begin)
		body := io.LimitReader(got.Body, most+1)
		if elsewhere != nil {
			a.size, err = io.Copy(elsewhere, body)
		} else {
			a.data, err = io.ReadAll(body)
			a.size = int64(len(a.data))
		}
		got.Body.Close()
		a.told = got.Size >= 0 && got.Size == a.size
		if a.size > most && most < req.Kind.Limit() {
			s.bytes += a.size
			s.spent += time.Since(begin)
			s.stop("its budget of bytes is spent")
			return a, context.DeadlineExceeded
		}
		if err == nil && a.size > most {
			err = &upstream.Error{Source: s.Source.Name(), Stage: upstream.StageContent, Err: fmt.Errorf("the answer is larger than %d bytes", most)}
		}
	}
	a.whole = time.Since(begin)
	s.spent += a.whole
	s.bytes += a.size
	switch {
	case ctx.Err() != nil && err != nil:
		return a, context.Cause(ctx) // it is us who left
	case err == nil:
		s.tally(req).asked(counts)
		return a, nil
	case errors.Is(err, fs.ErrNotExist):
		t := s.tally(req)
		t.asked(counts)
		t.failed(err, counts)
		return a, err
	case within.Err() != nil && (short || req.Kind == goproxy.Zip && a.size > 0):
		a.cut = true
		if short {
			s.stop("its budget of time is spent")
		}
		return a, err
	}
	s.tally(req).asked(counts)
	s.fail(req, err, counts)
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status == 429 {
		s.stop("it asked to be left alone (429 Too Many Requests)")
	}
	return a, err
}

func (s *subject) stop(why string) { s.stopped = cmp.Or(s.stopped, why) }

// saw takes down the hash of a file.
func (s *subject) saw(f file, h1 string) {
	if s.hashes[f] == nil {
		s.hashes[f] = map[string]int{}
	}
	s.hashes[f][h1]++
}

// came takes down that the answer is what was asked for.
func (s *subject) came(req goproxy.Request) {
	s.tally(req).gave++
	if req.Kind != goproxy.List {
		s.good++
		s.gave++
	}
}

// fail takes down a failure.
func (s *subject) fail(req goproxy.Request, err error, counts bool) {
	s.broken = err
	s.tally(req).failed(err, counts)
}

// wrong takes down an answer that came and is none.
func (s *subject) wrong(req goproxy.Request, err error, counts bool) {
	s.fail(req, &upstream.Error{Source: s.Source.Name(), Stage: upstream.StageContent, Err: err}, counts)
}

var errEmpty = errors.New("the answer is 200 OK with nothing in it")

// codeOf is the finding for a failure.
func codeOf(err error) finding.Code {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding.NotFound
	case errors.Is(err, errEmpty):
		return finding.SourceEmpty
	}
	if _, ok := errors.AsType[*upstream.Error](err); !ok && errors.Is(err, context.DeadlineExceeded) {
		return finding.SourceStalled // the answer had begun
	}
	return mirror.SourceCode(upstream.Attempt{Kind: upstream.Proxy, Err: err})
}

// reason is an error without the name of the mirror, which stands beside.
func reason(err error) string {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		text := e.Error()
		if rest, ok := bytes.CutPrefix([]byte(text), []byte(e.Source+": ")); ok {
			return string(rest)
		}
		return text
	}
	return err.Error()
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// steps are those of a new connection, as one request sees them.
type steps struct {
	mu                 sync.Mutex // guards the following; a dial that lost may still tell of itself
	name, connect, tls span
}

// A span is the time between two moments; none if one of them was not seen.
type span struct{ from, to time.Time }

func (s span) took() time.Duration {
	if s.from.IsZero() || s.to.IsZero() {
		return 0
	}
	return s.to.Sub(s.from)
}

func (s span) add(list []float64) []float64 {
	if s.from.IsZero() || s.to.IsZero() {
		return list
	}
	return append(list, millis(s.took()))
}

// taken is how long it took until the request could be sent. st.mu is held.
func (st *steps) taken() time.Duration { return st.name.took() + st.connect.took() + st.tls.took() }

func (st *steps) trace() *httptrace.ClientTrace {
	begin := func(s *span) {
		st.mu.Lock()
		defer st.mu.Unlock()
		if s.from.IsZero() { // of several addresses the first
			s.from = time.Now()
		}
	}
	end := func(s *span, err error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		if err == nil && s.to.IsZero() {
			s.to = time.Now()
		}
	}
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { begin(&st.name) },
		DNSDone:           func(i httptrace.DNSDoneInfo) { end(&st.name, i.Err) },
		ConnectStart:      func(string, string) { begin(&st.connect) },
		ConnectDone:       func(_, _ string, err error) { end(&st.connect, err) },
		TLSHandshakeStart: func() { begin(&st.tls) },
		TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { end(&st.tls, err) },
	}
}

// behind reports whether the newest of a list is older than v.
func behind(list []string, v string) bool {
	return len(list) == 0 || semver.Compare(list[len(list)-1], v) < 0
}
