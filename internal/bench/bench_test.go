package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// A scene is a world that mirrors serve, with its checksum database.
type scene struct {
	t     *testing.T
	world *modtest.World
	db    *modtest.SumDB
	sumdb *modtest.Server // the database itself
	plan  Plan
	piped bool // in a bubble of testing/synctest: no sockets
}

func newScene(t *testing.T) *scene { return newSceneOver(t, false) }

func newSceneOver(t *testing.T, pipes bool) *scene {
	if pipes {
		time.Sleep(30 * 365 * 24 * time.Hour) // a bubble begins in the year 2000, and versions are younger
	}
	s := &scene{t: t, world: modtest.New(t), piped: pipes}
	for _, v := range []string{"v1.0.0", "v1.1.0", "v1.2.0"} {
		s.world.Add("example.com/small", v, modtest.Files{"go.mod": "module example.com/small\n", "p.go": "package p // " + v + "\n"})
		s.world.Add("example.com/middle", v, modtest.Files{"p.go": "package p // " + v + strings.Repeat(" and more of it", 500) + "\n"})
	}
	s.world.Big("example.com/large", "v1.0.0", 200<<10)
	s.world.Big("example.com/large", "v1.0.1", 200<<10)
	s.db = s.world.SumDB("sum.example.com")
	s.world.Mount(s.db)
	base := "http://sum.example.com"
	var over http.RoundTripper
	if s.piped {
		over = modtest.Pipe(t, s.db)
	} else {
		s.sumdb = modtest.Serve(t, s.db)
		base = s.sumdb.URL
	}
	s.plan = Plan{
		Candidates: []Candidate{{Module: module.Version{Path: "example.com/middle", Version: "v1.1.0"}}, {Module: module.Version{Path: "example.com/large", Version: "v1.0.0"}},
			{Module: module.Version{Path: "example.com/small", Version: "v1.1.0"}}},
		Rounds: 3, Time: 20 * time.Second, Bytes: 8 << 20, Answer: 5 * time.Second,
		Database: "sum.example.com", Tail: ",direct", Scratch: t.TempDir(), Shuffle: rand.Shuffle,
	}
	if !pipes { // on a busy machine, all takes longer than it would by itself
		s.plan.Time, s.plan.Answer = 5*time.Minute, time.Minute
	}
	s.plan.Direct = s.sums(remote{s.source(base, over), "", false})
	s.plan.Sums = s.plan.Direct
	return s
}

// source is the mirror at base, as nobody else asks it; over is nil if it is really there.
func (s *scene) source(base string, over http.RoundTripper) *upstream.HTTPSource {
	u, err := url.Parse(base)
	if err != nil {
		s.t.Fatal(err)
	}
	c := upstream.NetConfig{Connect: time.Minute, Timeout: time.Minute, Named: []string{upstream.HostPort(u)}}
	if over != nil {
		c.Connect, c.Timeout = time.Second, 5*time.Second
		c.Wrap = func(string, http.RoundTripper) http.RoundTripper { return over }
	}
	n := upstream.NewNet(c)
	s.t.Cleanup(n.Close)
	return upstream.NewHTTPSource(n, u)
}

// sums asks the database over one way.
func (s *scene) sums(r checksum.Remote) Sums {
	db, err := checksum.New(checksum.Config{Key: s.db.GOSUMDB(""), Remotes: []checksum.Remote{r}, Cache: store.NewMem(), Conflict: store.ErrConflict})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(db.Close)
	return db.Sums
}

// add adds a mirror that does what h does.
func (s *scene) add(name string, h http.Handler) *modtest.Server {
	var srv *modtest.Server
	base := "http://" + name + ".example.com"
	var over http.RoundTripper
	if s.piped {
		over = modtest.Pipe(s.t, h)
	} else {
		srv = modtest.Serve(s.t, h)
		base = srv.URL
	}
	s.addAt(name, base, over)
	return srv
}

// addAt adds the mirror at base.
func (s *scene) addAt(name, base string, over http.RoundTripper) {
	src := s.source(base, over)
	s.plan.Mirrors = append(s.plan.Mirrors, Mirror{Name: name, URL: base, From: FromNamed, Source: src, Idle: func() {}, Sums: s.sums(remote{src, "sumdb/sum.example.com", true})})
}

// faulty is the world behind a fault.
func (s *scene) faulty(fault string) http.Handler {
	f, err := faults.Parse(fault)
	if err != nil {
		s.t.Fatal(err)
	}
	return faults.Handler(s.world.Handler(), faults.Always(f))
}

func (s *scene) run() *Report { return Run(s.t.Context(), s.plan) }

// remote implements checksum.Remote.
type remote struct {
	src    *upstream.HTTPSource
	prefix string
	mirror bool
}

func (r remote) Name() string { return r.src.Name() }
func (r remote) Mirror() bool { return r.mirror }
func (r remote) Get(ctx context.Context, path string) ([]byte, error) {
	a, err := r.src.GetPath(ctx, r.prefix+path)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	return io.ReadAll(a.Body)
}

func (r *Report) of(name string) Measured {
	i := slices.IndexFunc(r.Mirrors, func(m Measured) bool { return m.Name == name })
	if i < 0 {
		return Measured{}
	}
	return r.Mirrors[i]
}

// inBubble runs a subtest whose clock goes on only where all wait for it, so that how
// busy the machine is makes nobody slow.
func inBubble(t *testing.T, name string, do func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, do) })
}

// every makes every n'th request meet one of the faults, in turn, or the next one where that
// would be the second time in turn for the same path: what is lost comes another time.
func every(t *testing.T, n int64, names ...string) func(*http.Request) (faults.Fault, bool) {
	pick, err := everyNth(n, names)
	if err != nil {
		t.Fatal(err)
	}
	return pick
}

func everyNth(n int64, names []string) (func(*http.Request) (faults.Fault, bool), error) {
	var list []faults.Fault
	for _, name := range names {
		f, err := faults.Parse(name)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	var mu sync.Mutex
	var seen, met int64
	last := map[string]bool{} // whether the path's last request met one
	return func(r *http.Request) (faults.Fault, bool) {
		mu.Lock()
		defer mu.Unlock()
		seen++
		meets := met < seen/n && !last[r.URL.Path]
		if last[r.URL.Path] = meets; meets {
			met++
		}
		return list[int(met)%len(list)], meets
	}, nil
}

// Ways to lie, to be dead, to lag and to lose. A mirror that is killed is dead only where
// it is a process.
var (
	lies   = []string{"flip", "wrong-mod", "bad-crc", "other-module=example.com/small@v1.0.0", "zip:noise"}
	deaths = []string{"reset", "html", "404", "503", "garbage", killed}
	stales = []string{"stale", "stale=2"}
	losses = [][]string{{"503", "zip:cut"}, {"reset=50%"}, {"502", "empty"}, {"html"}}
)

// killed is the death of a process.
const killed = "killed"

// ranking are six mirrors by what is the matter with them, the best first.
var ranking = []string{"good", "slow", "stale", "lossy", "dead", "lying"}

// runsOf is how often the ranking is measured: n times, or 20 times with SLUICE_E2E_FULL.
func runsOf(n int) int {
	if os.Getenv("SLUICE_E2E_FULL") != "" {
		return 20
	}
	return n
}

// judged fails the test unless ranking, verdicts and recommendation are right.
func judged(t *testing.T, rep *Report) {
	t.Helper()
	var got []string
	for _, m := range rep.Mirrors {
		got = append(got, m.Name)
		if string(m.Verdict) != m.Name {
			t.Errorf("the verdict of the mirror that is %s is %s: %s (latency %v, cost %v, %d of %d failed, also %v)", m.Name, m.Verdict, m.Text, m.Latency, m.Cost, m.Failed, m.Requests, m.Also)
		}
	}
	if !slices.Equal(got, ranking) {
		t.Errorf("the ranking is %v, want %v", got, ranking)
	}
	want := "sluice use '" + rep.of("good").URL + "|" + rep.of("slow").URL + "'"
	if rep.Recommended.Command != want || rep.Recommended.GOPROXY != rep.of("good").URL+"|"+rep.of("slow").URL+",direct" {
		t.Errorf("recommended is %+v, want %s", rep.Recommended, want)
	}
	if c := rep.of("lying").Code; c != finding.SumMismatch {
		t.Errorf("the code of the lying one is %s", c)
	}
	if m := rep.of("good"); m.SumDB != Yes || m.Range != Yes || m.Failed > 0 || m.Checked.Wrong+m.Checked.Unchecked > 0 || m.Checked.Right == 0 || m.Latency.N < 10 {
		t.Errorf("the good one: %+v", m)
	}
}

// TestTheRankingAndEveryVerdictAreRightWhateverTheOrder measures six mirrors of which
// each is bad in a way of its own, on a clock of their own.
func TestTheRankingAndEveryVerdictAreRightWhateverTheOrder(t *testing.T) {
	for n := range runsOf(2) {
		lie, death, stale, loss := lies[n%len(lies)], deaths[n%(len(deaths)-1)], stales[n%len(stales)], losses[n%len(losses)]
		inBubble(t, fmt.Sprintf("run %d: %s, %s, %s, %v", n, lie, death, stale, loss), func(t *testing.T) {
			s := newSceneOver(t, true)
			drip, _ := faults.Parse("zip:drip=1000000")
			hang, _ := faults.Parse("hang=60ms")
			mirrors := map[string]http.Handler{
				"good": s.faulty("hang=1ms"), "slow": faults.Handler(faults.Handler(s.world.Handler(), faults.Always(drip)), faults.Always(hang)), "stale": s.faulty(stale), "lying": s.faulty(lie), "dead": s.faulty(death),
				"lossy": faults.Handler(s.world.Handler(), every(t, 4, loss...)),
			}
			for _, i := range rand.Perm(len(ranking)) {
				s.add(ranking[i], mirrors[ranking[i]])
			}
			judged(t, s.run())
		})
	}
}

func TestAMirrorThatCannotBeReachedIsAskedTwiceAndNeverAgain(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	var asked atomic.Int64
	s.add("mute", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	}))
	rep := s.run()
	if m := rep.of("mute"); m.Verdict != Dead || m.Code != finding.SourceReset || m.Rank != 2 {
		t.Errorf("%+v", m)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestAMirrorThatRefusesAllIsLeftAfterTheFirstRound(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	var asked modtest.Requests
	s.add("closed", asked.Count(s.faulty("403")))
	if m := s.run().of("closed"); m.Verdict != Dead || m.Code != finding.SourceForbidden || m.Rank != 2 {
		t.Errorf("%+v", m)
	}
	if log := asked.Log(); len(log) > 20 {
		t.Errorf("it was asked %d times: %v", len(log), log)
	}
}

func TestAModuleThatAMirrorRefusesDoesNotMakeItDead(t *testing.T) {
	s := newScene(t)
	f, _ := faults.Parse("403")
	for _, name := range []string{"a", "b"} {
		s.add(name, faults.Handler(s.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return f, strings.Contains(r.URL.Path, "/middle/") }))
	}
	rep := s.run()
	if m := rep.of("a"); m.Verdict != Good || len(rep.Modules) != 2 {
		t.Errorf("%+v of %+v", m, rep.Modules)
	}
}

func TestNoMirrorIsAskedMoreThanOneThingAtATimeNorForMoreThanItsBudget(t *testing.T) {
	s := newScene(t)
	var now, most, bytes atomic.Int64
	s.add("one", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		s.world.Handler().ServeHTTP(counting{w, &bytes}, r)
	}))
	s.plan.Bytes = 512 << 10
	rep := s.run()
	m := rep.of("one")
	if most.Load() > Parallel {
		t.Errorf("%d requests were under way at once", most.Load())
	}
	if m.Bytes > s.plan.Bytes || bytes.Load() > s.plan.Bytes*11/10 {
		t.Errorf("%d bytes came by its own account, and %d were sent, of %d", m.Bytes, bytes.Load(), s.plan.Bytes)
	}
	if m.Verdict != Good || m.Stopped != "" {
		t.Errorf("%+v", m)
	}
	i := slices.IndexFunc(rep.Modules, func(m Sampled) bool { return m.Module == "example.com/large" })
	if i < 0 || rep.Modules[i].Zip != No {
		t.Errorf("a zip of which a round has no room is to be left out: %+v", rep.Modules)
	}
}

func TestAZipThatIsLargerThanItWasSaidToBeEndsWithTheBudget(t *testing.T) {
	s := newScene(t)
	s.add("one", s.world.Handler())
	for i := range s.plan.Candidates {
		s.plan.Candidates[i].Size = 1000
	}
	s.plan.Bytes = 512 << 10
	m := s.run().of("one")
	if m.Bytes > s.plan.Bytes+1 || !strings.Contains(m.Stopped, "bytes") || m.Failed > 0 || len(m.Failures) > 0 || m.Verdict != Good {
		t.Errorf("%+v", m)
	}
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func TestATimeBudgetThatIsSpentEndsTheQuestionsAndIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOver(t, true)
		s.add("good", s.faulty("hang=1ms"))
		s.add("sluggish", s.faulty("hang=80ms"))
		s.plan.Time = 2500 * time.Millisecond
		rep := s.run()
		m := rep.of("sluggish")
		if m.Stopped == "" || m.Failed > 0 || m.Verdict != Slow || m.Seconds > 2.5 || rep.of("good").Stopped != "" {
			t.Errorf("%+v", m)
		}
	})
}

// Clocks of some systems have steps of a millisecond, and a mirror in the building takes
// less.
func TestADownloadThatTookNoTimeHasARateThatCanBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOver(t, true)
		s.add("near", s.world.Handler())
		rep := s.run()
		if m := rep.of("near"); m.Throughput.N == 0 || m.Verdict != Good {
			t.Errorf("%+v", m)
		}
		if _, err := json.Marshal(rep); err != nil {
			t.Error(err)
		}
	})
}

func TestAMirrorThatWantsToBeLeftAloneIs(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	var after atomic.Int64
	limited := faults.Handler(s.world.Handler(), every(t, 20, "429"))
	var seen atomic.Int64
	s.add("limited", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) > 20 {
			after.Add(1)
		}
		limited.ServeHTTP(w, r)
	}))
	m := s.run().of("limited")
	if after.Load() > 0 || !strings.Contains(m.Stopped, "429") {
		t.Errorf("after 429 it was asked %d times more; %q", after.Load(), m.Stopped)
	}
}

func TestWithoutTheDatabaseTheMajoritySaysWhatIsRight(t *testing.T) {
	s := newScene(t)
	s.plan.Database, s.plan.Sums, s.plan.Direct = "", nil, nil
	s.add("a", s.world.Handler())
	s.add("b", s.world.Handler())
	s.add("liar", s.faulty("bad-crc"))
	for i := range s.plan.Mirrors {
		s.plan.Mirrors[i].Sums = nil
	}
	rep := s.run()
	if m := rep.of("liar"); m.Verdict != Lying || !strings.Contains(m.Text, "other mirrors") || m.Rank != 3 || m.SumDB != Unasked {
		t.Errorf("%+v", m)
	}
	if rep.Modules[0].Truth != ByMajority {
		t.Errorf("%+v", rep.Modules)
	}

	// Where one stands against one, nobody is believed.
	s.plan.Mirrors = s.plan.Mirrors[1:]
	rep = s.run()
	for _, m := range rep.Mirrors {
		if m.Verdict != Unknown || !strings.Contains(m.Text, "differ") {
			t.Errorf("%+v", m)
		}
	}
	if rep.Recommended.GOPROXY != "" {
		t.Errorf("%+v", rep.Recommended)
	}
}

func TestAMirrorOfTheDatabaseIsNeededWhereTheDatabaseCannotBeReached(t *testing.T) {
	s := newScene(t)
	s.sumdb.Stop()
	s.add("with", s.world.Handler())
	s.add("without", s.faulty("sumdb:404"))
	s.plan.Sums = s.plan.Mirrors[0].Sums
	rep := s.run()
	if m := rep.of("with"); m.Verdict != Good || m.SumDB != Yes || m.Checked.Right == 0 {
		t.Errorf("%+v", m)
	}
	if m := rep.of("without"); m.Verdict != Bare || m.SumDB != No || m.Rank != 2 {
		t.Errorf("%+v", m)
	}
	if rep.Database.Direct != No || rep.Database.Text == "" {
		t.Errorf("%+v", rep.Database)
	}

	// Where it can be reached, it is only said.
	s.sumdb.Start()
	if m := s.run().of("without"); m.Verdict != Good || !slices.Equal(m.Also, []Verdict{Bare}) {
		t.Errorf("%+v", m)
	}
}

func TestWhoDoesNotResumeIsSaidAndWhoResumesFalselyToo(t *testing.T) {
	s := newScene(t)
	s.add("no", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		s.world.Handler().ServeHTTP(w, r)
	}))
	s.add("false", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rng := r.Header.Get("Range"); rng != "" && rng != "bytes=0-0" {
			w.Header().Set("Content-Range", strings.Replace(rng, "bytes=", "bytes ", 1)+"/*")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, 1<<10))
			return
		}
		s.world.Handler().ServeHTTP(w, r)
	}))
	rep := s.run()
	if m := rep.of("no"); m.Range != No || m.Verdict != Good || !slices.Contains(m.Also, NoRange) {
		t.Errorf("%+v", m)
	}
	if m := rep.of("false"); m.Range != Wrong || m.Verdict != Good || len(m.Evidence) == 0 {
		t.Errorf("%+v", m)
	}
}

func TestAVersionThatOneMirrorInventsMakesNoOtherStale(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("other", s.world.Handler())
	s.add("inventor", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/@v/list"):
			rec := httptest.NewRecorder()
			s.world.Handler().ServeHTTP(rec, r)
			io.WriteString(w, rec.Body.String()+"v1.99.0\n")
		case strings.HasSuffix(r.URL.Path, "/v1.99.0.info"):
			io.WriteString(w, `{"Version":"v1.99.0","Time":"2020-01-01T00:00:00Z"}`)
		default:
			s.world.Handler().ServeHTTP(w, r)
		}
	}))
	if m := s.run().of("good"); m.Verdict != Good {
		t.Errorf("%+v", m)
	}
	// Where the database cannot be asked, one mirror's word is not enough either.
	s.plan.Sums = func(context.Context, module.Version) (string, string, error) { return "", "", checksum.ErrUnreachable }
	if m := s.run().of("good"); m.Verdict != Good {
		t.Errorf("without the database: %+v", m)
	}
	// Without a database there is nobody to ask, and the lists are believed.
	s.plan.Sums = nil
	if m := s.run().of("good"); m.Verdict != Stale {
		t.Errorf("%+v", m)
	}
}

func TestWhoInventsManyVersionsHidesNobodyWhoIsStale(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("other", s.world.Handler())
	s.add("stale", s.faulty("list:stale"))
	s.add("inventor", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/@v/list") {
			rec := httptest.NewRecorder()
			s.world.Handler().ServeHTTP(rec, r)
			for i := range 9 {
				fmt.Fprintf(rec.Body, "v1.9%d.0\n", i)
			}
			w.Write(rec.Body.Bytes())
			return
		}
		s.world.Handler().ServeHTTP(w, r)
	}))
	rep := s.run()
	for name, want := range map[string]Verdict{"good": Good, "stale": Stale} {
		if m := rep.of(name); m.Verdict != want {
			t.Errorf("%s is %s: %+v", name, m.Verdict, m)
		}
	}
}

func TestTheSentenceIsAboutTheMirrorThatIsRecommended(t *testing.T) {
	// Of the first nothing was measured but that it lacks versions.
	r := &Report{Mirrors: []Measured{
		{Name: "empty", URL: "https://empty.example.com", full: "https://empty.example.com", Verdict: Stale, Text: "it lacks all"},
		{Name: "some", URL: "https://some.example.com", full: "https://some.example.com", Verdict: Lossy, Text: "some requests fail", Cost: Figure{N: 2, Median: 1}},
	}}
	r.recommend(",direct")
	if rec := r.Recommended; rec.Command != "sluice use https://some.example.com" || !strings.Contains(rec.Text, "some is the best") || strings.Contains(r.Sentence, "empty") {
		t.Errorf("%q, %+v", r.Sentence, rec)
	}
}

func TestAVersionOfThisHourMakesNobodyStale(t *testing.T) {
	s := newScene(t)
	m := s.world.Add("example.com/small", "v1.3.0", nil)
	s.world.SetInfo(m, fmt.Appendf(nil, `{"Version":"v1.3.0","Time":%q}`, time.Now().Add(-30*time.Minute).UTC().Format(time.RFC3339)))
	s.add("good", s.world.Handler())
	fault, _ := faults.Parse("list:stale")
	s.add("late", faults.Handler(s.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return fault, strings.Contains(r.URL.Path, "/small/") }))
	if m := s.run().of("late"); m.Verdict != Good {
		t.Errorf("%+v", m)
	}
}

func TestWhatIsKnownIsToldWhenItIsBrokenOff(t *testing.T) {
	for _, x := range []struct {
		at      string
		rounds  int
		verdict Verdict
		about   string
	}{
		{"looking who answers", 0, Unknown, "no module was fetched"},
		{"choosing modules", 0, Unknown, "no module was fetched"},
		{"warming up", 0, Unknown, "broken off before the first of 3 rounds was over, of example.com/middle@v1.1.0 ("},
		{"asking the checksum database", 0, Good, "broken off before the first of 3 rounds was over, of example.com/middle@v1.1.0 ("},
		{"round 1 of 3: ", 0, Good, "broken off before the first of 3 rounds was over, of example.com/middle@v1.1.0 ("},
		{"round 2 of 3: ", 1, Good, "broken off after 1 of 3 rounds, of example.com/middle@v1.1.0 ("},
		{"round 3 of 3: ", 2, Good, "broken off after 2 of 3 rounds, of example.com/middle@v1.1.0 ("},
	} {
		s := newScene(t)
		s.add("good", s.world.Handler())
		s.add("other", s.world.Handler())
		ctx, cancel := context.WithCancel(t.Context())
		s.plan.Progress = func(p Progress) {
			if ctx.Err() != nil {
				t.Errorf("broken off at %q, it goes on with %q", x.at, p.Text)
			}
			if strings.HasPrefix(p.Text, x.at) {
				cancel()
			}
		}
		rep := Run(ctx, s.plan)
		m := rep.of("good")
		if rep.Ended != Interrupted || rep.Rounds != x.rounds || m.Verdict != x.verdict || m.Failed > 0 || len(m.Failures) > 0 {
			t.Errorf("broken off at %q: %s after %d rounds, %+v", x.at, rep.Ended, rep.Rounds, m)
		}
		if about := rep.About(); !strings.HasPrefix(about, x.about) {
			t.Errorf("broken off at %q: %q, want %q", x.at, about, x.about)
		}
		if x.verdict == Unknown && rep.Recommended.GOPROXY != "" {
			t.Errorf("broken off at %q: %+v", x.at, rep.Recommended)
		}
	}
}

func TestARoundThatIsBrokenOffAtItsLastMirrorIsNotMade(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	ctx, cancel := context.WithCancel(t.Context())
	s.plan.Progress = func(p Progress) {
		if strings.HasPrefix(p.Text, "round 3 of 3: ") {
			cancel()
		}
	}
	if rep := Run(ctx, s.plan); rep.Rounds != 2 {
		t.Errorf("%d rounds were made", rep.Rounds)
	}
	s.plan.Progress = nil
	if rep := s.run(); rep.Rounds != 3 || !strings.HasPrefix(rep.About(), "3 rounds after one to warm up, of ") {
		t.Errorf("%d rounds were made: %s", rep.Rounds, rep.About())
	}
}

func TestARequestThatIsBrokenOffIsNoFailure(t *testing.T) {
	s := newScene(t)
	ctx, cancel := context.WithCancel(t.Context())
	var seen atomic.Int64
	s.add("good", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) == 40 { // in the midst of the rounds
			cancel()
			<-r.Context().Done()
		}
		s.world.Handler().ServeHTTP(w, r)
	}))
	rep := Run(ctx, s.plan)
	if m := rep.of("good"); rep.Ended != Interrupted || m.Verdict != Good || m.Failed > 0 || len(m.Failures) > 0 {
		t.Errorf("%s: %+v", rep.Ended, m)
	}
}

func TestAllRequestsThatFailedAreToldByTheirKind(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("lossy", faults.Handler(s.world.Handler(), every(t, 3, "503")))
	m := s.run().of("lossy")
	if m.Verdict != Lossy || m.Code != finding.SourceServerError || len(m.Failures) != 1 || m.Failures[0].Count < m.Failed || !strings.Contains(m.Text, "503") {
		t.Errorf("%+v", m)
	}
}

func TestPasswordsAreInNothingButWhatIsUsed(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	m := &s.plan.Mirrors[0]
	m.URL = strings.Replace(m.URL, "http://", "http://user:secret@", 1)
	rep := s.run()
	if text := fmt.Sprintf("%+v", rep.Mirrors) + strings.Join(rep.Recommended.Mirrors, " ") + rep.Recommended.GOPROXY + rep.Recommended.Command + strings.Join(rep.Notes(), " "); strings.Contains(strings.ReplaceAll(text, m.URL, ""), "secret") {
		t.Error(text)
	}
	// It was named on the command line, and sluice use best would not measure it.
	if want := "sluice use '" + rep.Mirrors[0].URL + "'"; rep.Use() != m.URL || rep.Recommended.Command != want || !strings.Contains(want, "//xxxxx@") || !rep.Masked() {
		t.Errorf("%q, %q", rep.Use(), rep.Recommended.Command)
	}
	m.From = FromSettings
	if rep := s.run(); rep.Use() != m.URL || rep.Recommended.Command != "sluice use best" || rep.Masked() {
		t.Errorf("%q, %q", rep.Use(), rep.Recommended.Command)
	}
}

func TestItIsSaidWhyAGoodMirrorFailedAtTimes(t *testing.T) {
	good := Measured{Name: "a", Verdict: Good, Text: "it works", Requests: 45, Failed: 2, Lost: 2, losses: []Failure{{Code: finding.SourceServerError, Text: "503 Service Unavailable", Count: 2}}}
	rep := &Report{Mirrors: []Measured{good, {Name: "b", Verdict: Good, Text: "it works", Requests: 45}}}
	if got, want := strings.Join(rep.Notes(), "\n"), "a: it works; 2 of 45 requests failed: a module source failed on its side (503 Service Unavailable)"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestADeadEndIsWordedAsWhatItIs(t *testing.T) {
	s := newScene(t)
	s.add("a", s.world.Handler())
	s.plan.Candidates = []Candidate{{Module: module.Version{Path: "example.com/none", Version: "v1.0.0"}}}
	rep := s.run()
	if m := rep.of("a"); m.Verdict != Dead || m.Code != finding.NotFound || !strings.Contains(rep.Sentence, "none has any module of the sample") {
		t.Errorf("%s; %+v", rep.Sentence, m)
	}
}

func TestTheSampleHasTheSmallestTheLargestThatFitsAndOneBetween(t *testing.T) {
	c := func(name string, size int64) Candidate {
		return Candidate{Module: module.Version{Path: name, Version: "v1.0.0"}, Size: size}
	}
	for _, x := range []struct {
		room   int64
		rounds int
		all    bool
		want   string
		list   []Candidate
	}{
		{2000, 1, false, "a:10:1 c:300:1 e:600:1", []Candidate{c("e", 600), c("d", 400), c("a", 10), c("b", 20), c("c", 300), c("f", 5000)}},
		{2000, 1, false, "a:10:1", []Candidate{c("a", 10), c("none", 0)}},
		{2000, 1, false, "none:0:0", []Candidate{c("none", 0)}},
		{2000, 1, false, "a:10:1 b:20:1 f:5000:0", []Candidate{c("f", 5000), c("a", 10), c("b", 20)}},
		{2000, 1, true, "none:0:0 a:10:1 c:300:1 d:400:1 e:600:0", []Candidate{c("e", 600), c("d", 400), c("a", 10), c("none", 0), c("c", 300)}},
		// A large one need not come in each round.
		{27_000, 5, false, "a:2:5 b:3:5 c:4800:4", []Candidate{c("a", 2), c("b", 3), c("c", 4800)}},
		{27_000, 5, false, "a:2:5 b:3:5 d:6000:3", []Candidate{c("a", 2), c("b", 3), c("c", 20), c("d", 6000), c("e", 7000)}},
		{27_000, 5, false, "a:2:5 b:3:5 c:6800:0", []Candidate{c("a", 2), c("b", 3), c("c", 6800)}},
	} {
		var got []string
		for _, s := range pick(x.list, x.room, x.rounds, x.all) {
			if (s.Zip == Yes) != (s.often > 0) {
				t.Errorf("%+v", s)
			}
			n := 0
			for round := range x.rounds {
				if s.due(round, x.rounds) {
					n++
				}
			}
			if n != s.often {
				t.Errorf("%s is due in %d rounds of %d, and is to come in %d", s.Module, n, x.rounds, s.often)
			}
			got = append(got, fmt.Sprintf("%s:%d:%d", s.Module, s.Bytes, s.often))
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("of %v in %d: %v, want %s", x.list, x.room, got, x.want)
		}
	}
}

func TestALargeZipThatHasNoRoomInEachRoundComesInSome(t *testing.T) {
	s := newScene(t)
	s.add("one", s.world.Handler())
	s.plan.Rounds, s.plan.Bytes = 5, 1_000_000
	rep := s.run()
	if m := rep.of("one"); m.Throughput.N != 3 || m.Bytes > s.plan.Bytes || m.Stopped != "" || m.Verdict != Good {
		t.Errorf("%+v of %+v", m, rep.Modules)
	}
}

func TestTheErrorsOfAMirrorAreNotItsAbsence(t *testing.T) {
	if codeOf(&upstream.Error{Status: 404, Stage: upstream.StageHTTP}) != finding.NotFound || codeOf(fmt.Errorf("x: %w", context.DeadlineExceeded)) != finding.SourceStalled || codeOf(errors.New("x")) != finding.SourceWrongAnswer {
		t.Error("codes")
	}
}

func TestAnAnswerWithNothingInItIsNoLie(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("hollow", faults.Handler(s.world.Handler(), every(t, 4, "empty")))
	m := s.run().of("hollow")
	if m.Verdict != Lossy || len(m.Also) > 0 || m.Code != finding.SourceEmpty || m.Checked.Wrong > 0 {
		t.Errorf("%+v", m)
	}
}
