package bench

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
)

// where is the world behind a fault that meets the requests for some paths.
func (s *scene) where(fault string, is func(path string) bool) http.Handler {
	f, err := faults.Parse(fault)
	if err != nil {
		s.t.Fatal(err)
	}
	return faults.Handler(s.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return f, is(r.URL.Path) })
}

func TestAVerdictDoesNotDependOnHowManyRoundsAreMade(t *testing.T) {
	const list, zip, mod = "/example.com/small/@v/list", "/example.com/middle/@v/v1.1.0.zip", "/example.com/large/@v/v1.0.0.mod"
	for _, rounds := range []int{1, 5, 50} {
		inBubble(t, fmt.Sprintf("%d rounds", rounds), func(t *testing.T) {
			s := newSceneOver(t, true)
			s.plan.Rounds, s.plan.Time, s.plan.Bytes = rounds, time.Hour, 1<<30
			at := func(path, fault string) http.Handler {
				return s.where(fault, func(p string) bool { return p == path })
			}
			noRange := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Range")
				s.world.Handler().ServeHTTP(w, r)
			})
			drip, _ := faults.Parse("zip:drip=1000000")
			hang, _ := faults.Parse("hang=60ms")
			mirrors := []struct {
				name    string
				h       http.Handler
				verdict Verdict
				code    finding.Code
				gap     string // the only one
			}{
				{"good", s.faulty("hang=1ms"), Good, "", ""},
				{"does-not-resume", noRange, Good, "", ""},
				{"refuses-a-list", at(list, "403"), Good, "", "the list of example.com/small"},
				{"fails-at-a-list", at(list, "500"), Good, "", "the list of example.com/small"},
				{"breaks-a-list-off", at(list, "reset"), Good, "", "the list of example.com/small"},
				{"refuses-a-zip", at(zip, "403"), Stale, "", "example.com/middle@v1.1.0 (zip)"},
				{"fails-at-a-zip", at(zip, "502"), Stale, "", "example.com/middle@v1.1.0 (zip)"},
				{"breaks-a-zip-off", at(zip, "cut"), Stale, "", "example.com/middle@v1.1.0 (zip)"},
				{"refuses-a-mod", at(mod, "403"), Stale, "", "example.com/large@v1.0.0 (mod)"},
				{"lacks-a-zip", at(zip, "404"), Stale, "", ""},
				{"lacks-new-versions", s.faulty("stale"), Stale, "", ""},
				{"slow", faults.Handler(faults.Handler(s.world.Handler(), faults.Always(drip)), faults.Always(hang)), Slow, "", ""},
				{"fails-at-times", faults.Handler(s.world.Handler(), every(t, 4, "503")), Lossy, finding.SourceServerError, ""},
				{"breaks-off-at-times", faults.Handler(s.world.Handler(), every(t, 4, "reset=50%")), Lossy, finding.SourceReset, ""},
				{"forgets-at-times", faults.Handler(s.world.Handler(), every(t, 4, "404")), Lossy, finding.NotFound, ""},
				{"gives-nothing", s.faulty("empty"), Dead, finding.SourceEmpty, ""},
				{"gives-lists-alone", s.where("503", func(p string) bool { return !strings.HasSuffix(p, "/list") }), Dead, finding.SourceServerError, ""},
				{"refuses-all", s.faulty("403"), Dead, finding.SourceForbidden, ""},
				{"lies", s.faulty("flip"), Lying, finding.SumMismatch, ""},
			}
			for _, x := range mirrors {
				s.add(x.name, x.h)
			}
			rep := s.run()
			for _, x := range mirrors {
				m := rep.of(x.name)
				var gaps []string
				for _, g := range m.Gaps {
					gaps = append(gaps, g.File)
				}
				if m.Verdict != x.verdict || m.Code != x.code || strings.Join(gaps, " ") != x.gap {
					t.Errorf("%s: %s, %s, gaps %q; want %s, %s, %q: %s (%d of %d failed, %d lost, %+v)", x.name, m.Verdict, m.Code, gaps, x.verdict, x.code, x.gap, m.Text, m.Failed, m.Requests, m.Lost, m.Failures)
				}
				said := strings.Join(rep.Notes(), "\n")
				if x.gap != "" && !strings.Contains(said, "  "+x.gap+" never came in ") {
					t.Errorf("%s: the text lacks the gap: %s", x.name, said)
				}
			}
			for name, text := range map[string]string{"gives-nothing": "nothing comes from it: ", "gives-lists-alone": "nothing but lists comes from it: "} {
				if m := rep.of(name); !strings.HasPrefix(m.Text, text) || len(m.Evidence)+len(m.Gaps) > 0 {
					t.Errorf("%+v", m)
				}
			}
			if m := rep.of("refuses-a-list"); rounds > 2 && (m.Failed == 0 || m.Lost > 0 || !strings.Contains(m.Evidence[0], "403 Forbidden")) {
				t.Errorf("%+v", m)
			}
		})
	}
}

// A mirror that refuses what nobody else gives either lacks nothing that others have.
func TestWhatNobodyGivesMakesNobodyStale(t *testing.T) {
	for _, rounds := range []int{1, 5, 50} {
		inBubble(t, fmt.Sprintf("%d rounds", rounds), func(t *testing.T) {
			s := newSceneOver(t, true)
			s.plan.Rounds, s.plan.Time, s.plan.Bytes = rounds, time.Hour, 1<<30
			for _, name := range []string{"a", "b"} {
				s.add(name, s.where("403", func(p string) bool { return strings.HasSuffix(p, "/middle/@v/v1.1.0.info") }))
			}
			// Of one module there is little to compare with.
			s.plan.Candidates, s.plan.All = s.plan.Candidates[:1], true
			for _, m := range s.run().Mirrors {
				if m.Verdict != Good || len(m.Gaps) != 1 || m.Lost > 0 {
					t.Errorf("%+v", m)
				}
			}
		})
	}
}

func TestChanceIsNotTakenForAGap(t *testing.T) {
	type seen struct{ tries, gave int }
	many := func(n int, x ...seen) (list []seen) { return slices.Concat(slices.Repeat(x, n)) }
	for _, x := range []struct {
		what string
		list []seen
		gaps int
		lost int
	}{
		{"all is well", many(12, seen{2, 2}), 0, 0},
		{"one never comes", append(many(9, seen{2, 2}), seen{2, 0}), 1, 0},
		{"a whole module never comes", append(many(8, seen{2, 2}), many(4, seen{2, 0})...), 4, 0},
		{"one was asked for once", append(many(9, seen{2, 2}), seen{1, 0}), 0, 1},
		{"one came once", append(many(9, seen{6, 6}), seen{6, 1}), 0, 5},
		{"half fails, and some of it each time", slices.Concat(many(3, seen{2, 0}), many(6, seen{2, 1}), many(3, seen{2, 2})), 0, 12},
		{"most fails", slices.Concat(many(8, seen{2, 0}), many(3, seen{2, 1})), 0, 19},
		{"half fails, but one each time of many", append(many(9, seen{20, 10}), seen{20, 0}), 1, 90},
		{"a quarter fails", slices.Concat(many(1, seen{2, 0}), many(3, seen{2, 1}), many(6, seen{2, 2})), 0, 5},
	} {
		s := &subject{}
		for i, n := range x.list {
			req := goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: "example.com/m", Version: fmt.Sprintf("v1.0.%d", i)}}
			for try := range n.tries {
				s.tally(req).asked(true)
				if try < n.gave {
					s.came(req)
				} else {
					s.fail(req, errEmpty, true)
				}
			}
		}
		if o := s.outcome(false); len(o.gaps) != x.gaps || o.lost != x.lost {
			t.Errorf("%s: %d gaps, %d lost; want %d and %d", x.what, len(o.gaps), o.lost, x.gaps, x.lost)
		}
	}
	// What fails in several ways has no reason that lasts.
	s := &subject{}
	a, b := goproxy.Request{Kind: goproxy.Info}, goproxy.Request{Kind: goproxy.Mod}
	for i := range 20 {
		s.tally(a).asked(true)
		s.came(a)
		s.tally(b).asked(true)
		if s.fail(b, errEmpty, true); i%2 == 0 {
			s.tallies[1].failures[0].Code = finding.SourceReset
		}
	}
	if o := s.outcome(false); len(o.gaps) != 0 || o.lost != 20 || len(o.losses) != 2 {
		t.Errorf("%+v", o)
	}
}

func TestAMirrorWhoseTimeIsOverAfterWarmingUpHasAVerdict(t *testing.T) {
	for _, budget := range []time.Duration{10 * time.Second, 30 * time.Second} {
		for _, alone := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newSceneOver(t, true)
				s.plan.Rounds, s.plan.Time = 5, budget
				s.add("sluggish", s.faulty("hang=2s"))
				want := Good
				if !alone {
					s.add("good", s.faulty("hang=1ms"))
					want = Slow
				}
				if m := s.run().of("sluggish"); m.Verdict != want || m.Latency.N < 2 || m.Latency.Median < 2000 || m.Requests == 0 || m.Failed > 0 || !strings.Contains(m.Stopped, "time") {
					t.Errorf("in %v, alone %v: %+v", budget, alone, m)
				}
			})
		}
	}
}

// slowEnd calls atEnd when all but the last bytes of a zip have gone out, once.
type slowEnd struct {
	http.ResponseWriter
	left  int
	atEnd func()
}

func (w *slowEnd) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left <= 0 && w.atEnd != nil {
		w.atEnd()
		w.atEnd = nil
	}
	return w.ResponseWriter.Write(p)
}

func TestTheZipsOfManyMirrorsTakeNoMemory(t *testing.T) {
	const mirrors, size = 6, 16 << 20
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOver(t, true)
		huge := s.world.Big("example.com/huge", "v1.0.0", size)
		s.plan.Candidates, s.plan.Rounds, s.plan.Time, s.plan.Bytes = []Candidate{{Module: huge}}, 1, time.Hour, 1<<30
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := heap()
		// While all warm up, each waits with nearly all of its zip sent until the others
		// are as far: that is when all zips are there at once.
		var waiting atomic.Int64
		var grown int64
		met := make(chan struct{})
		for i := range mirrors {
			first := true
			s.add(fmt.Sprintf("m%d", i), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".zip") && r.Header.Get("Range") == "" && first {
					first = false
					w = &slowEnd{w, size, func() {
						if waiting.Add(1) == mirrors {
							grown = heap() - before
							close(met)
						}
						<-met
					}}
				}
				s.world.Handler().ServeHTTP(w, r)
			}))
		}
		rep := s.run()
		for _, m := range rep.Mirrors {
			if m.Verdict != Good || m.Checked.Right != 4 || m.Range != Yes {
				t.Errorf("%+v", m)
			}
		}
		t.Logf("with %d zips of %d MiB under way, the heap had grown by %d KiB", mirrors, size>>20, grown>>10)
		if waiting.Load() != mirrors || grown > size {
			t.Errorf("with %d zips of %d bytes under way, the heap had grown by %d bytes", waiting.Load(), size, grown)
		}
	})
}

func TestWhereAZipCannotBeKeptItIsMeasuredAllTheSame(t *testing.T) {
	s := newScene(t)
	huge := s.world.Big("example.com/huge", "v1.0.0", 3<<20)
	s.plan.Candidates = append(s.plan.Candidates, Candidate{Module: huge})
	s.plan.Bytes = 64 << 20
	s.add("one", s.world.Handler())
	for _, dir := range []string{"", s.plan.Scratch + "/none"} {
		s.plan.Scratch = dir
		rep := s.run()
		m := rep.of("one")
		if m.Verdict != Good || m.Throughput.N != s.plan.Rounds || m.Failed > 0 || m.Checked.Wrong > 0 || m.Checked.Right == 0 {
			t.Errorf("in %q: %+v", dir, m)
		}
		if said := strings.Join(rep.Notes(), "\n"); strings.Count(said, "the bytes of its large zips were not checked, since there is no room for them here") != 1 {
			t.Errorf("in %q: %s", dir, said)
		}
	}
}
