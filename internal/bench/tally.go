package bench

import (
	"math"
	"slices"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
)

// byChance is how likely it may be that a question which a mirror never answered failed
// each time by chance, for it to be taken for one that it does not answer.
const byChance = 0.025

// A tally is how a mirror answered one question: for a list, or for a file of a version.
//
// A mirror that never answers one question, and always fails at it in the same way, while
// the others fare better, has a gap: whoever asks often is told the same as whoever asks
// twice. What fails at times and comes at others is lost.
type tally struct {
	req      goproxy.Request
	tries    int // with those of warming up and before
	gave     int // of them, what was asked for
	counted  int // tries in the rounds that count
	missed   int // of those, failures
	failures []Failure
}

// tally is that of a question, made if need be.
func (s *subject) tally(req goproxy.Request) *tally {
	i := slices.IndexFunc(s.tallies, func(t *tally) bool { return t.req == req })
	if i < 0 {
		i = len(s.tallies)
		s.tallies = append(s.tallies, &tally{req: req})
	}
	return s.tallies[i]
}

func (t *tally) asked(counts bool) {
	t.tries++
	if counts {
		t.counted++
	}
}

// failed takes down how a try ended that asked did.
func (t *tally) failed(err error, counts bool) {
	if counts {
		t.missed++
	}
	t.failures = add(t.failures, Failure{Code: codeOf(err), Text: finding.OneLine(reason(err), 300), Count: 1})
}

// add adds failures to those of the same kind.
func add(list []Failure, more ...Failure) []Failure {
	for _, f := range more {
		if i := slices.IndexFunc(list, func(x Failure) bool { return x.Code == f.Code }); i >= 0 {
			list[i].Count += f.Count
		} else {
			list = append(list, f)
		}
	}
	return list
}

// absent reports whether the mirror says, each time that it is asked, that there is no
// such thing. That is an answer, and no failure.
func (t *tally) absent() bool {
	return t.gave == 0 && len(t.failures) == 1 && t.failures[0].Code == finding.NotFound
}

// absent reports whether the mirror says that it has no such file.
func (s *subject) absent(req goproxy.Request) bool {
	return slices.ContainsFunc(s.tallies, func(t *tally) bool { return t.req == req && t.absent() })
}

// has reports whether the mirror gave that file, once at least.
func (s *subject) has(req goproxy.Request) bool {
	return slices.ContainsFunc(s.tallies, func(t *tally) bool { return t.req == req && t.gave > 0 })
}

// dead reports whether the mirror serves nothing: nothing comes, or nothing but lists.
func (s *subject) dead() bool {
	if s.broken == nil {
		return false
	}
	return s.good == 0 || s.gave == 0 && slices.ContainsFunc(s.tallies, func(t *tally) bool {
		return t.req.Kind != goproxy.List && len(t.failures) > 0 && !t.absent()
	})
}

// An outcome is a count of requests by what became of them.
type outcome struct {
	requests, failed int       // absences are no failures
	failures         []Failure // all, also those that do not count; the most frequent first
	gaps             []*tally
	lost, of         int       // failures that come and go, and the requests that are no gaps
	losses           []Failure // their kinds, the most frequent first
}

// outcome sums up the tallies, of the rounds that count or of all.
func (s *subject) outcome(all bool) (o outcome) {
	usual := s.usual()
	for _, t := range s.tallies {
		n, missed := t.counted, t.missed
		if all {
			n, missed = t.tries, t.tries-t.gave
		}
		o.requests += n
		if t.absent() {
			continue
		}
		o.failed += missed
		o.failures = add(o.failures, t.failures...)
		if t.gave == 0 && t.tries > 1 && len(t.failures) == 1 && math.Pow(usual, float64(t.tries)) < byChance {
			o.gaps = append(o.gaps, t)
			continue
		}
		o.lost += missed
		o.of += n
		o.losses = add(o.losses, t.failures...)
	}
	byCount := func(a, b Failure) int { return b.Count - a.Count }
	slices.SortStableFunc(o.failures, byCount)
	slices.SortStableFunc(o.losses, byCount)
	return o
}

// usual is how often a try fails where the mirror does answer at times: one more failure
// and one more answer than were seen, since few tries say little.
func (s *subject) usual() float64 {
	failed, tries := 1, 2
	for _, t := range s.tallies {
		if t.gave > 0 {
			failed += t.tries - t.gave
			tries += t.tries
		}
	}
	return float64(failed) / float64(tries)
}

// gap is t for a report.
func (t *tally) gap() Gap {
	file := "the list of " + t.req.Module.Path
	if t.req.Kind != goproxy.List {
		file = fileOf(t.req).String()
	}
	f := t.failures[0]
	return Gap{File: file, Code: f.Code, Text: f.Text, Tries: t.tries}
}
