//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"

	"github.com/modsluice/sluice/internal/goproxy"
)

func TestMain(m *testing.M) {
	if played, err := play(os.Getenv); played {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestAMedianIsInTheMiddle(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		s               series
		median, low, hi float64
	}{
		{series{3}, 3, 3, 3},
		{series{9, 1, 2}, 2, 1, 9},
		{series{4, 1, 3, 2}, 2.5, 1, 4},
		{series{nan, 7, nan, 5}, 6, 5, 7},
	} {
		low, hi := tt.s.spread()
		if got := tt.s.median(); got != tt.median || low != tt.low || hi != tt.hi {
			t.Errorf("%v: median %v, spread %v to %v; want %v, %v to %v", tt.s, got, low, hi, tt.median, tt.low, tt.hi)
		}
	}
	if !math.IsNaN((series{}).median()) {
		t.Error("nothing has a median")
	}
}

func TestARatioIsTakenRoundByRound(t *testing.T) {
	tab := table{}
	// The machine is half as fast in the second round, and b fails in the third.
	for round, s := range []map[string]float64{{"a": 10, "b": 20}, {"a": 5, "b": 10}, {"a": 8}, {"a": 6, "b": 6}} {
		for name, v := range s {
			tab.put(name, round, sample{"x": v})
		}
	}
	r := tab.ratio("x", "a", "b")
	if len(r.known()) != 3 || r[0] != 0.5 || r[1] != 0.5 || !math.IsNaN(r[2]) || r[3] != 1 {
		t.Errorf("the ratios are %v, want 0.5, 0.5, none and 1", r)
	}
	if got := tab.ratio("x", "a", "nobody").median(); !math.IsNaN(got) {
		t.Errorf("the ratio to nobody is %v", got)
	}
}

func TestBarsAreJudgedByTheMedian(t *testing.T) {
	for _, tt := range []struct {
		s    series
		b    bar
		want string
	}{
		{series{0.1, 0.70, 0.9}, atLeast(0.70), passed},
		{series{0.69}, atLeast(0.70), missed},
		{series{1.1, 9, 0}, atMost(1.10), passed},
		{series{1.11}, atMost(1.10), missed},
		{series{0}, atMost(0), passed},
		{nil, atMost(0), failed},
		{series{5}, bar{}, ""},
	} {
		if f := judge(1, "", "×", tt.s, tt.b, ""); f.Verdict != tt.want {
			t.Errorf("%v against %v is %q, want %q", tt.s, tt.b, f.Verdict, tt.want)
		}
	}
}

func TestContendersTakeTurnsInAlternateOrder(t *testing.T) {
	var order []string
	turn := func(name string, err error) contender {
		return contender{name, func(context.Context) (sample, error) {
			order = append(order, name)
			return sample{"x": float64(len(order))}, err
		}}
	}
	told := func(int, contender, sample, error) {}
	optional := func(name string) bool { return name == "peer" }
	tab, err := takeTurns(t.Context(), 3, []contender{turn("a", nil), turn("b", nil), turn("peer", errors.New("it died"))}, told, optional)
	if err != nil {
		t.Errorf("a peer that fails is an error: %v", err)
	}
	if want := "a b peer peer b a a b peer"; strings.Join(order, " ") != want {
		t.Errorf("the order is %v, want %s", order, want)
	}
	if got := tab.of("b", "x"); !slices.Equal(got, series{2, 5, 8}) {
		t.Errorf("b showed %v", got)
	}
	if _, err := takeTurns(t.Context(), 1, []contender{turn("a", errors.New("broken"))}, told, optional); err == nil || !strings.Contains(err.Error(), "a: broken") {
		t.Errorf("what we are failed to do gives %v", err)
	}
}

func TestWhatWrkPrintsIsRead(t *testing.T) {
	out := "Running 2s test @ http://127.0.0.1:1\n  Latency   1.00ms\n\n" + wrkMark + `{"requests":5000,"micros":2000000,"bytes":12345,"bad":1,"p50":300,"p99":4000}` + "\n"
	r, err := parseWrk([]byte(out))
	if err != nil || r.perSecond() != 2500 || r.Bad != 1 || r.P99 != 4000 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "unable to connect", "\n" + wrkMark + "{", "\n" + wrkMark + `{"requests":0,"micros":1}`} {
		if r, err := parseWrk([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, r)
		}
	}
}

func TestTheTimeOfTheProcessorsIsRead(t *testing.T) {
	all, idle, err := parseJiffies("cpu  100 20 30 400 50 6 7 8 90 1")
	if all != 621 || idle != 450 || err != nil {
		t.Errorf("%d, of which %d idle, %v", all, idle, err)
	}
	for _, line := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3 4", "cpu 1 2 3 x 5 6 7 8"} {
		if _, _, err := parseJiffies(line); err == nil {
			t.Errorf("%q is read", line)
		}
	}
	if all, idle, err := jiffies(); err != nil || idle <= 0 || all < idle {
		t.Errorf("of this machine: %d, of which %d idle, %v", all, idle, err)
	}
}

func TestPeersAreReadAndMistakesNamed(t *testing.T) {
	got, err := parsePeers("athens=ATHENS_PORT=:3000 athens | tee log|http://127.0.0.1:3000/|/var/cache/athens; \n b=sleep 1|http://127.0.0.1:1|/var/cache/b\n")
	want := []peer{{"athens", "ATHENS_PORT=:3000 athens | tee log", "http://127.0.0.1:3000", "/var/cache/athens"}, {"b", "sleep 1", "http://127.0.0.1:1", "/var/cache/b"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for text, says := range map[string]string{
		"athens":                           "is not NAME=COMMAND|URL|CACHE-DIRECTORY",
		"a=x|http://h":                     "is not NAME=",
		"a=|http://h|/var/cache/a":         "has no command",
		"a=x|localhost:1|/var/cache/a":     "does not begin with http://",
		"a=x|http://h|cache":               "absolute path",
		"a=x|http://h|/":                   "absolute path",
		"sluice=x|http://h|/var/cache/a":   "called sluice",
		"a=x|http://h|/t;a=y|http://i|/t2": "called a",
	} {
		if _, err := parsePeers(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q gives %v, want %q", text, err, says)
		}
	}
}

func FuzzParsePeers(f *testing.F) {
	f.Add("a=x|http://h|/var/cache/a;b=y|http://i|/var/cache/b")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parsePeers(text)
		for _, p := range list {
			if err == nil && (!filepath.IsAbs(p.cache) || p.command == "" || p.name == "") {
				t.Errorf("%q gives %+v", text, p)
			}
		}
	})
}

func TestACacheWithSomethingInItIsNotEmptied(t *testing.T) {
	p := peer{name: "a", cache: filepath.Join(t.TempDir(), "cache")}
	if err := p.claim(); err != nil {
		t.Fatalf("a directory that is not there: %v", err)
	}
	precious := filepath.Join(p.cache, "precious")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.claim(); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a directory with something in it gives %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestTheCommandLineIsChecked(t *testing.T) {
	none := func(string) string { return "" }
	o, err := parse([]string{"-full", "-only", "1, 5", "-rounds", "2"}, none, io.Discard)
	if err != nil || !o.full || !slices.Equal(o.only, []int{1, 5}) || o.rounds != 2 || o.line != "go run ./bench -full -only 1, 5 -rounds 2" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"extra"}, {"-only", "12"}, {"-only", "x"}, {"-rounds", "-1"}, {"-graphs", "nobody"}, {"-nonsense"}} {
		if _, err := parse(args, none, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"", "caddy"}, {"-full", "syft traefik"}, {"-full -graphs caddy", "caddy"}, {"-graphs traefik,syft", "traefik syft"},
	} {
		o, err := parse(strings.Fields(c.args), none, io.Discard)
		var names []string
		for _, p := range o.graphs {
			names = append(names, p.name)
		}
		if err != nil || strings.Join(names, " ") != c.want {
			t.Errorf("%q takes the graphs %q, %v; want %s", c.args, names, err, c.want)
		}
	}
}

func TestWhatIsMissingIsNamedAndItsLinesAreSkipped(t *testing.T) {
	l, err := newLab(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	nothing := func(name string) (string, error) { return "", exec.ErrNotFound }
	b, err := newBench(t.Context(), options{sluice: "sluice", only: []int{1, 3, 11}}, l, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.warm(t.Context()), b.idlers(t.Context())); err != nil {
		t.Fatal(err)
	}
	text := b.rep.text()
	for _, want := range []string{"apt-get install nginx-light wrk", "3 figures skipped", "warm @v/list", "idle connections", "apt-get install wrk"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "warm zips") {
		t.Errorf("line 2 was not asked for:\n%s", text)
	}
}

func TestTheStoreTakesWhatTheGeneratorWrites(t *testing.T) {
	for _, shared := range []bool{false, true} {
		g := newStoreGen(t.TempDir(), shared)
		if err := g.fill(2*versionsEach, nil); err != nil {
			t.Fatal(err)
		}
		if err := g.proveStore(); err != nil {
			t.Errorf("shared %v: %v", shared, err)
		}
	}
	g := newStoreGen(t.TempDir(), false)
	if err := g.fill(versionsEach, nil); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(g.dir, filepath.FromSlash(g.sample[0].Path()))
	if err := os.WriteFile(damaged, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := g.proveStore(); err == nil || !strings.Contains(err.Error(), "bench/storegen.go") {
		t.Errorf("a layout that is not the store's gives %v", err)
	}
}

// remote lets x/mod's own client ask a database.
type remote struct {
	t   *testing.T
	db  http.Handler
	key string

	mu     sync.Mutex // guards the following
	config map[string][]byte
}

func (r *remote) ReadRemote(path string) ([]byte, error) {
	req, _ := http.NewRequest(http.MethodGet, path, nil)
	w := &answer{header: http.Header{}}
	r.db.ServeHTTP(w, req)
	if w.status != 0 && w.status != http.StatusOK {
		return nil, fmt.Errorf("%s: %d", path, w.status)
	}
	return w.body.Bytes(), nil
}
func (r *remote) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(r.key), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config[file], nil
}
func (r *remote) WriteConfig(file string, _, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config[file] = data
	return nil
}
func (r *remote) ReadCache(string) ([]byte, error) { return nil, errors.New("none") }
func (r *remote) WriteCache(string, []byte)        {}
func (r *remote) Log(string)                       {}
func (r *remote) SecurityError(msg string)         { r.t.Error(msg) }

type answer struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *answer) WriteHeader(status int)      { a.status = status }

func TestTheDatabaseProvesItsRecordsToAnyClient(t *testing.T) {
	known := map[module.Version]sums{}
	for i := range 40 {
		known[module.Version{Path: modPath(i), Version: "v1.0.0"}] = sums{mod: fmt.Sprintf("h1:mod%d=", i), zip: fmt.Sprintf("h1:zip%d=", i)}
	}
	db, err := newDatabase(known, 3000)
	if err != nil {
		t.Fatal(err)
	}
	c := sumdb.NewClient(&remote{t: t, db: db, config: map[string][]byte{}, key: db.vkey})
	for m, s := range known {
		lines, err := c.Lookup(m.Path, m.Version)
		if want := m.Path + " " + m.Version + " " + s.zip; err != nil || !slices.Contains(lines, want) {
			t.Errorf("%s gives %q, %v; want %q", m, lines, err, want)
		}
	}
	if _, err := c.Lookup("bench.example/unknown", "v1.0.0"); err == nil {
		t.Error("what is not recorded is found")
	}
}

func TestGoSumIsRead(t *testing.T) {
	got := parseGoSum([]byte("a.example/m v1.0.0 h1:zip=\na.example/m v1.0.0/go.mod h1:mod=\nb.example/n v2.0.0/go.mod h1:only=\nnonsense\nc.example/o v1.0.0 h1:alone=\n"))
	want := map[module.Version]sums{
		{Path: "a.example/m", Version: "v1.0.0"}: {"h1:zip=", "h1:mod="},
		{Path: "b.example/n", Version: "v2.0.0"}: {"", "h1:only="},
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for m, s := range want {
		if got[m] != s {
			t.Errorf("%s has %v, want %v", m, got[m], s)
		}
	}
}

func TestATreeIsReadThroughBeforeItIsMeasured(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.zip"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := (&graph{tree: dir}).read(); err != nil {
		t.Error(err)
	}
	if err := (&graph{tree: filepath.Join(dir, "none")}).read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tree that is not there: %v", err)
	}
}

func TestTheSourceCountsWhatItIsAskedFor(t *testing.T) {
	g := newStoreGen(t.TempDir(), false)
	if err := g.fill(versionsEach, nil); err != nil {
		t.Fatal(err)
	}
	src, err := newSource(g.dir, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	m := module.Version{Path: modPath(0), Version: modVersion(0)}
	zip, info := pathOf(goproxy.Zip, m), pathOf(goproxy.Info, m)
	url := "http://" + src.addr()
	if err := visit(t.Context(), url, []string{zip, info, zip}); err != nil {
		t.Fatal(err)
	}
	if err := visit(t.Context(), url, []string{"/bench.example/none/@v/list"}); err == nil {
		t.Error("what is not there is found")
	}
	got := src.take()
	fi, err := os.Stat(filepath.Join(g.dir, filepath.FromSlash(zip)))
	if err != nil {
		t.Fatal(err)
	}
	if again := got.repeated(); !slices.Equal(again, []string{zip[1:]}) {
		t.Errorf("asked for twice: %q", again)
	}
	if got.bytes[zip[1:]] != 2*fi.Size() || got.missing != 1 || got.count(false) != 4 {
		t.Errorf("%+v; the zip has %d bytes", got, fi.Size())
	}
	if more := got.beyond(tally{}); !slices.Equal(more, []string{zip[1:]}) {
		t.Errorf("zips beyond nothing: %q", more)
	}
	if len(src.take().hits) != 0 {
		t.Error("what was taken is counted again")
	}
}

func TestFrugalityIsJudgedByTheWorstRun(t *testing.T) {
	zip := func(names ...string) tally {
		h := map[string]int{}
		for _, n := range names {
			h[n]++
		}
		return tally{hits: h}
	}
	f := frugality(map[string][]tally{
		"direct": {zip("a.zip", "b.mod")},
		"sluice": {zip("a.zip", "b.mod"), zip("a.zip", "b.mod", "b.mod", "c.zip")},
	})
	if f[0].Value != 1 || f[0].Verdict != missed || !strings.Contains(f[0].Note, "b.mod") || f[1].Value != 1 || f[1].Verdict != missed {
		t.Errorf("%+v", f)
	}
	f = frugality(map[string][]tally{"direct": {zip("a.zip")}, "sluice": {zip("a.zip", "x/latest", "x/latest")}})
	if f[0].Verdict != passed || f[1].Verdict != passed {
		t.Errorf("%+v", f)
	}
}

// The whole way with what every machine has: servers start, answer, are measured
// and end, and nothing is left behind.
func TestAServerIsStartedMeasuredAndEnded(t *testing.T) {
	l, err := newLab(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	g := newStoreGen(filepath.Join(l.dir, "tree"), false)
	if err := g.fill(2*versionsEach, nil); err != nil {
		t.Fatal(err)
	}
	paths := mix(5, 2*versionsEach)
	p, err := l.startNoLogic(t.Context(), g.dir, paths)
	if err != nil {
		t.Fatal(err)
	}
	if err := visit(t.Context(), p.url, paths); err != nil {
		t.Fatal(err)
	}
	closeAll, err := idle(t.Context(), p.url, paths[0], 20)
	if err != nil {
		t.Fatal(err)
	}
	s, err := haul(t.Context(), p, paths[0], 500)
	if err != nil || s["MB/s"] <= 0 {
		t.Errorf("%v, %v", s, err)
	}
	closeAll()
	now, peak, err := p.memory()
	if err != nil || now <= 0 || peak < now {
		t.Errorf("memory %d, at most %d, %v", now, peak, err)
	}
	if _, err := exec.LookPath("wrk"); err == nil {
		w, err := newLoad(l.dir, "mix", paths)
		if err != nil {
			t.Fatal(err)
		}
		s, err := hit(t.Context(), p, w, time.Second)
		if err != nil || s["requests/s"] <= 0 || s["CPU µs/request"] <= 0 {
			t.Errorf("wrk: %v, %v", s, err)
		}
		w, err = newLoad(l.dir, "none", []string{"/none"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hit(t.Context(), p, w, time.Second); err == nil || !strings.Contains(err.Error(), "requests failed") {
			t.Errorf("answers of 404 are as good as any: %v", err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.cpu(); err == nil {
		t.Error("the server outlives the lab")
	}
	if _, err := os.Stat(l.dir); err == nil {
		t.Error("the directory outlives the lab")
	}
}

func TestAServerThatDiesAtOnceSaysWhy(t *testing.T) {
	l, err := newLab(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	_, err = l.start(t.Context(), "broken", "http://127.0.0.1:1", "/", []string{"sh", "-c", "echo no such luck; exit 3"}, os.Environ())
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("%v", err)
	}
}

// made is a report of a run that never was.
func made() *report {
	r := &report{Date: "2025-06-01", Command: "go run ./bench", Machine: "2 processors", Took: 200}
	r.Figures = []figure{
		judge(9, "resident memory, idle", "MB", series{30}, atMost(40), ""),
		judge(1, "requests | s", "×", series{0.5, 0.6, 0.7}, atLeast(0.7), ""),
		without(10, "a million", skipped, "only with -full"),
	}
	for i, c := range []string{"direct", "sluice", "direct, 100 ms", "run, 100 ms"} {
		v := float64(10 * (i + 1))
		r.Measures = append(r.Measures, measure{Line: 4, Title: "lines 4 to 7, syft, 324 modules", Contender: c, Metric: "s", Median: v, Low: v - 1, High: v + 2, Rounds: series{v}})
	}
	return r
}

func TestTheReportPutsRatiosFirstAndStaysInItsTable(t *testing.T) {
	r := made()
	r.Figures = append([]figure{judge(1, "a count", "", series{7}, bar{}, "")}, r.Figures...)
	page := r.markdown("speed.svg")
	count, ratio, memory, skip := strings.Index(page, "| 1 | a count"), strings.Index(page, "| 1 | requests"), strings.Index(page, "| 9 | resident"), strings.Index(page, "| 10 | a million")
	if ratio < 0 || count < ratio || memory < count || skip < memory {
		t.Errorf("the order is wrong:\n%s", page)
	}
	for _, want := range []string{`requests \| s | 0.60 × | 0.50 – 0.70 | ≥ 0.70 | **missed** |`, "1 bars hold, 1 are missed, 1 figures skipped", "(speed.svg)", "go run ./bench"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	var b bytes.Buffer
	if err := r.encode(&b); err != nil || !json.Valid(b.Bytes()) {
		t.Errorf("the JSON is not valid (%v)", err)
	}
}

func TestTheReadmeIsChangedBetweenItsMarksOnly(t *testing.T) {
	r := made()
	got, err := r.between([]byte("before\n" + beginMark + "old\n" + endMark + "after\n"))
	if err != nil || !strings.HasPrefix(string(got), "before\n"+beginMark+"| Line |") || !strings.HasSuffix(string(got), endMark+"after\n") || strings.Contains(string(got), "old") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := r.between([]byte("no marks")); err == nil {
		t.Error("a page without marks is taken")
	}
}

func TestThePlotIsWellFormedAndShowsEachContender(t *testing.T) {
	plot := made().plot()
	d := xml.NewDecoder(strings.NewReader(plot))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"sluice run", "sluice serve", "go, direct", "prefers-color-scheme: dark", "syft, 324 modules"} {
		if !strings.Contains(plot, want) {
			t.Errorf("the plot does not show %q", want)
		}
	}
	if strings.Contains(plot, "NaN") || strings.Contains(plot, "Inf") {
		t.Error("the plot has numbers that are none")
	}
}

// The floor is direct's own share of the processors, and the work of verifying on top.
func TestTheFloorOfAColdDownloadIsAllTheWorkThatIsLeft(t *testing.T) {
	m := table{}
	m.put("direct", 0, sample{"s": 10, "processors busy, %": 90})
	m.put("hashing proxy", 0, sample{"server CPU s": 6})
	if got := floor(m, 3).median(); math.Abs(got-1.1) > 1e-9 {
		t.Errorf("90 %% of ten seconds and two more on each of three processors are %v of ten seconds; want 1.1", got)
	}
	if n, err := onlineProcessors(); err != nil || n < runtime.NumCPU() {
		t.Errorf("%d processors, %v; this program alone may use %d", n, err, runtime.NumCPU())
	}
}
