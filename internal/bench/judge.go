package bench

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
)

// The ranking goes by the time that a small download would take: so many small files
// one after the other, and so many bytes. The go command asks for more at once, from
// fast and slow mirrors alike.
const (
	costFiles = 20
	costMB    = 10
)

const (
	// A mirror is slow that takes so many times as long as the best, and so much longer.
	slowTimes = 3
	slowBy    = 1.0 // seconds
	// lossyFrom is the share of failures, surely exceeded, from which a mirror is lossy;
	// a single one is chance.
	lossyFrom = 0.02
	// leastValues is how many small files a verdict of good needs.
	leastValues = 2
	// maxRecommended is how many mirrors are recommended at most, and minRecommended
	// how many there should be, if need be with slow ones.
	maxRecommended = 3
	minRecommended = 2
)

// report judges what was measured.
func (r *run) report(ctx context.Context) *Report {
	rep := &Report{
		Schema: Schema, Ended: Complete, Began: r.began.UTC().Truncate(time.Millisecond), Modules: r.sample, Database: r.database, Rounds: r.made,
		Budget: Budget{Rounds: r.Rounds, Seconds: r.Time.Seconds(), Bytes: r.Bytes, Parallel: Parallel}, Mirrors: []Measured{},
		Project: *newProject(""),
	}
	if rep.Modules == nil {
		rep.Modules = []Sampled{}
	}
	if ctx.Err() != nil {
		rep.Ended = Interrupted
	}
	right, disputed := r.right()
	for _, s := range r.subjects {
		rep.Mirrors = append(rep.Mirrors, r.judge(s, right, disputed))
	}
	r.slowness(rep.Mirrors)
	slices.SortStableFunc(rep.Mirrors, func(a, b Measured) int {
		return cmp.Or(cmp.Compare(class(a.Verdict), class(b.Verdict)), cmp.Compare(min(b.Cost.N, 1), min(a.Cost.N, 1)), cmp.Compare(a.Cost.Median, b.Cost.Median), cmp.Compare(a.Name, b.Name))
	})
	for i := range rep.Mirrors {
		rep.Mirrors[i].Rank = i + 1
	}
	rep.recommend(r.Tail)
	rep.TookMS = time.Since(r.began).Milliseconds()
	return rep
}

func isLossy(failed, n int) bool { return failed > 1 && atLeast(failed, n) > lossyFrom }

func class(v Verdict) int { return slices.Index(Verdicts(), v) }

// right are the hashes that files must have: by the database, or where it could not be
// asked, by the majority of the mirrors, of at least two. Where they differ and there is
// no majority, it is disputed.
func (r *run) right() (right map[file]string, disputed map[file]bool) {
	right, disputed = maps.Clone(r.truth), map[file]bool{}
	for i := range r.sample {
		m := &r.sample[i]
		if m.Truth == ByDatabase {
			continue
		}
		for _, kind := range []goproxy.Kind{goproxy.Zip, goproxy.Mod} {
			f := file{m.mod(), kind}
			voters, votes := 0, map[string]int{}
			for _, s := range r.subjects {
				if len(s.hashes[f]) > 0 {
					voters++
				}
				for h := range s.hashes[f] {
					votes[h]++
				}
			}
			disputed[f] = len(votes) > 1
			for h, n := range votes {
				if n >= 2 && 2*n > voters {
					right[f], disputed[f] = h, false
					m.Truth = ByMajority
				}
			}
		}
	}
	return right, disputed
}

// judge makes the verdict of one mirror, but for slowness.
func (r *run) judge(s *subject, right map[file]string, disputed map[file]bool) Measured {
	// Where a mirror's time was over, or all was broken off, before anything counted, what
	// came while warming up says more than nothing.
	f, early := s.counts, len(s.counts.latency) < leastValues
	if early {
		f = figures{slices.Concat(s.warmed.latency, f.latency), slices.Concat(s.warmed.throughput, f.throughput)}
	}
	o := s.outcome(early)
	if s.dead() {
		o.gaps = nil // it is all one
	}
	m := Measured{
		full: s.URL, Name: s.Name, URL: goenv.Redact(s.URL), From: s.From, Note: s.Note, Also: []Verdict{}, Evidence: []string{},
		Requests: o.requests, Failed: o.failed, Lost: o.lost, Failures: append([]Failure{}, o.failures...), Gaps: []Gap{}, losses: o.losses,
		Latency: figure(f.latency), Throughput: figure(f.throughput),
		Stages: Stages{figure(s.name), figure(s.connect), figure(s.tls), figure(s.first)}, Series: Series{append([]float64{}, f.latency...), append([]float64{}, f.throughput...)},
		Lists: Lists{Missing: []string{}}, SumDB: s.sumdb, Range: s.parts, Bytes: s.bytes, Seconds: s.spent.Seconds(), Stopped: s.stopped,
	}
	m.Cost = cost(m.Latency, m.Throughput)
	verdicts := map[Verdict]bool{}
	wrong := r.checked(s, right, &m)
	for f := range s.hashes {
		if disputed[f] {
			verdicts[Unknown] = true
			m.Text = fmt.Sprintf("the mirrors differ about %v, and the checksum database cannot be asked", f)
		}
	}
	if wrong != "" || s.sumdb == Wrong {
		verdicts[Lying] = true
	}
	for _, t := range o.gaps {
		m.Gaps = append(m.Gaps, t.gap())
	}
	if !s.dead() {
		r.lag(s, o.gaps, &m)
	}
	if m.Lists.Behind > 0 || len(m.Lists.Missing) > 0 {
		verdicts[Stale] = true
	}
	if isLossy(o.lost, o.of) {
		verdicts[Lossy] = true
	}
	if s.sumdb == No {
		verdicts[Bare] = true
	}
	if s.parts == No || s.parts == Wrong {
		verdicts[NoRange] = true
	}
	switch {
	case s.dead():
		verdicts = map[Verdict]bool{Dead: true}
		m.Text = ""
		m.losses = add(nil, Failure{Code: codeOf(s.broken), Text: finding.OneLine(reason(s.broken), 300), Count: 1})
		if len(o.failures) > 0 {
			m.losses = o.failures
		}
		m.only = s.good > 0
	case m.Latency.N < leastValues && !verdicts[Lying] && !verdicts[Stale]:
		verdicts[Unknown] = true
	}
	m.settle(verdicts, r.database.Direct == No)
	switch m.Verdict {
	case Lying:
		m.Code = finding.SumMismatch
		m.Text = wrong
		if wrong == "" {
			m.Code, m.Text = finding.SumDBInconsistent, "its copy of the checksum database contradicts the signature"
		}
	case Dead, Lossy:
		m.Code = m.losses[0].Code
	}
	m.Evidence = append(m.Evidence, s.why...)
	return m
}

// settle makes the worst of the verdicts the verdict. What does not keep anybody from
// using a mirror stands beside a good one.
func (m *Measured) settle(verdicts map[Verdict]bool, needed bool) {
	m.Verdict, m.Also = Good, []Verdict{}
	for _, v := range slices.Backward(Verdicts()) {
		switch {
		case !verdicts[v]:
		case m.Verdict != Good, v == NoRange, v == Bare && !needed:
			m.Also = append(m.Also, v)
		default:
			m.Verdict = v
		}
	}
}

// checked compares the hashes, and says in a sentence what is wrong; "" if nothing is.
func (r *run) checked(s *subject, right map[file]string, m *Measured) (wrong string) {
	for _, sampled := range r.sample {
		for _, kind := range []goproxy.Kind{goproxy.Mod, goproxy.Zip} {
			f := file{sampled.mod(), kind}
			for h, n := range s.hashes[f] {
				switch {
				case right[f] == "":
					m.Checked.Unchecked += n
				case right[f] == h:
					m.Checked.Right += n
				default:
					m.Checked.Wrong += n
					who := "the checksum database knows"
					if sampled.Truth == ByMajority {
						who = "the other mirrors have"
					}
					wrong = fmt.Sprintf("its %v is not what %s", f, who)
					m.Evidence = append(m.Evidence, fmt.Sprintf("%v: %s, and not %s", f, h, right[f]))
				}
			}
		}
	}
	slices.Sort(m.Evidence)
	return wrong
}

// lag compares the lists, and finds what of the sample the mirror says not to have, or
// never gives, and another has.
func (r *run) lag(s *subject, gaps []*tally, m *Measured) {
	for _, sampled := range r.sample {
		path := sampled.Module
		newest, ok := r.newest[path]
		list, listed := s.lists[path]
		if ok && listed {
			m.Lists.Compared++
			if behind(list, newest.version) && (newest.time.IsZero() || r.began.Sub(newest.time) > freshGrace) {
				m.Lists.Behind++
				m.Lists.Missing = append(m.Lists.Missing, path+"@"+newest.version)
				has := "no version"
				if len(list) > 0 {
					has = list[len(list)-1]
				}
				text := fmt.Sprintf("the newest version that it lists of %s is %s, and others list %s", path, has, newest.version)
				if !newest.time.IsZero() {
					text += " of " + newest.time.UTC().Format(time.DateOnly)
				}
				m.Evidence = append(m.Evidence, text)
			}
		}
		for _, kind := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
			req := goproxy.Request{Kind: kind, Module: sampled.mod()}
			absent, gap := s.absent(req), slices.ContainsFunc(gaps, func(t *tally) bool { return t.req == req })
			if (absent || gap) && slices.ContainsFunc(r.subjects, func(o *subject) bool { return o != s && o.has(req) }) {
				m.Lists.Missing = append(m.Lists.Missing, req.Module.String())
				if absent {
					m.Evidence = append(m.Evidence, fmt.Sprintf("it says not to have %v, which others have", fileOf(req)))
				}
				break
			}
		}
	}
	for _, g := range m.Gaps {
		m.Evidence = append(m.Evidence, fmt.Sprintf("%s never came in %d tries: %s (%s)", g.File, g.Tries, g.Text, g.Code))
	}
}

// cost is the time in seconds that a small download would take.
func cost(latency, throughput Figure) Figure {
	if latency.N == 0 {
		return Figure{}
	}
	at := func(ms, mb float64) float64 {
		s := costFiles * ms / 1000
		if mb > 0 {
			s += costMB / mb
		}
		return s
	}
	return Figure{N: latency.N, Median: at(latency.Median, throughput.Median), Low: at(latency.Low, throughput.High), High: at(latency.High, throughput.Low)}
}

// slowness finds who is slow beside the best of those that nothing else is the matter
// with, and words the verdicts.
func (r *run) slowness(list []Measured) {
	var best *Measured
	for i := range list {
		m := &list[i]
		if m.Verdict == Good || m.Verdict == Bare {
			if best == nil || m.Cost.Median < best.Cost.Median {
				best = m
			}
		}
	}
	for i := range list {
		m := &list[i]
		times := 0.0
		if best != nil && m != best {
			times = slower(m, best)
		}
		if times > 0 {
			verdicts := map[Verdict]bool{Slow: true, m.Verdict: true}
			for _, v := range m.Also {
				verdicts[v] = true
			}
			m.settle(verdicts, r.database.Direct == No)
		}
		if m.Text == "" {
			m.Text = m.sentence(times)
		}
	}
}

// slower is how many times as long as best m takes for the small files, the large one, or
// both; 0 if that is not much, or not sure.
func slower(m, best *Measured) (times float64) {
	for _, part := range []func(*Measured) Figure{
		func(m *Measured) Figure { return m.Cost },
		func(m *Measured) Figure { return cost(m.Latency, Figure{}) },
		func(m *Measured) Figure { return cost(Figure{N: m.Throughput.N}, m.Throughput) },
	} {
		a, b := part(m), part(best)
		if a.N > 0 && b.N > 0 && a.Median > slowTimes*b.Median && a.Low > b.High && a.Median-b.Median > slowBy {
			times = max(times, a.Median/b.Median)
		}
	}
	return times
}

// sentence words the verdict.
func (m *Measured) sentence(times float64) string {
	switch m.Verdict {
	case Dead, Lossy:
		what := fmt.Sprintf("%d of %d requests failed", m.Lost, m.Requests)
		switch {
		case m.Verdict == Dead && m.only:
			what = "nothing but lists comes from it"
		case m.Verdict == Dead:
			what = "nothing comes from it"
		}
		return what + ": " + finding.Of(m.Code).Title + " (" + m.losses[0].Text + ")"
	case Stale:
		return "it lacks " + strings.Join(m.Lists.Missing, ", ")
	case Slow:
		if math.IsInf(times, 1) { // a clock has steps
			return "it takes much longer than the best, which takes no time that could be measured"
		}
		return fmt.Sprintf("it takes %.0f times as long as the best", times)
	case Bare:
		return "it does not mirror the checksum database, which cannot be reached from here otherwise"
	case Unknown:
		return "too little was measured to tell"
	}
	if len(m.Also) > 0 {
		return "it works; " + also(m.Also)
	}
	return "it works"
}

// also words what stands beside a verdict.
func also(list []Verdict) string {
	words := map[Verdict]string{
		Bare: "it does not mirror the checksum database", NoRange: "it does not go on with a file that broke off", Slow: "it is slow", Stale: "it lacks versions",
		Lossy: "some requests fail", Unknown: "too little was measured",
	}
	var parts []string
	for _, v := range list {
		parts = append(parts, words[v])
	}
	return strings.Join(parts, ", ")
}

// recommend says who is to be used: the good ones, the best first, and if there are few,
// slow ones behind them. Where there is neither, the best that at least serves.
func (r *Report) recommend(tail string) {
	rec := &r.Recommended
	rec.Mirrors = []string{}
	var taken []Measured
	take := func(most int, verdicts ...Verdict) {
		for _, m := range r.Mirrors {
			if len(taken) < most && m.Cost.N > 0 && slices.Contains(verdicts, m.Verdict) {
				taken = append(taken, m)
				rec.Mirrors = append(rec.Mirrors, m.URL)
				r.use = append(r.use, m.full)
			}
		}
	}
	take(maxRecommended, Good)
	take(minRecommended, Bare, Slow)
	doubt := false
	if len(rec.Mirrors) == 0 {
		take(1, Stale, Lossy)
		doubt = true
	}
	n := len(r.Mirrors)
	if len(rec.Mirrors) == 0 {
		rec.Text = "none of them serves modules well from here"
		switch {
		case r.Ended == Interrupted:
			rec.Text = "too little was measured to recommend any"
		case !slices.ContainsFunc(r.Mirrors, func(m Measured) bool { return m.Code != finding.NotFound }):
			rec.Text = "none has any module of the sample"
		}
		r.Sentence = fmt.Sprintf("of %s, %s", count(n, "mirror"), rec.Text)
		return
	}
	first := taken[0]
	switch {
	case doubt:
		rec.Text = first.Name + " is the best there is, and not good: " + first.Text
	case len(rec.Mirrors) > 1:
		rec.Text = fmt.Sprintf("%s is the best from here, and %s where it fails", first.Name, taken[1].Name)
	default:
		rec.Text = first.Name + " is the best from here"
	}
	r.Sentence = fmt.Sprintf("of %s, %s", count(n, "mirror"), rec.Text)
	rec.GOPROXY = strings.Join(rec.Mirrors, "|") + tail
	rec.Command = "sluice use '" + strings.Join(rec.Mirrors, "|") + "'"
	if len(rec.Mirrors) == 1 {
		rec.Command = "sluice use " + rec.Mirrors[0]
	}
	// What is printed has no credentials. Those of the settings sluice use best knows; those
	// of another mirror have to be written once more.
	secret := func(m Measured) bool { return m.full != m.URL }
	foreign := func(m Measured) bool { return secret(m) && m.From != FromSettings }
	switch {
	case slices.ContainsFunc(taken, foreign):
		rec.Command = "sluice use '" + strings.Join(rec.Mirrors, "|") + "'"
		r.masked = true
	case slices.ContainsFunc(taken, secret):
		rec.Command = "sluice use best"
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
