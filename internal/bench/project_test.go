package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

// built is a build list as go list -m -json prints it, and the graph of which it comes.
const (
	builtList = `{"Path": "app.example", "Main": true}
{"Path": "example.com/small", "Version": "v1.2.0", "Time": "2024-03-01T00:00:00Z"}
{"Path": "example.com/middle", "Version": "v1.1.0", "Time": "2020-03-01T00:00:00Z"}
{"Path": "corp.example/secret", "Version": "v1.0.0", "Time": "2024-01-01T00:00:00Z"}
{"Path": "example.com/local", "Version": "v1.0.0", "Replace": {"Path": "../local"}}
{"Path": "example.com/forked", "Version": "v1.0.0", "Replace": {"Path": "example.com/large", "Version": "v1.0.1"}}
{"Path": "example.com/gone", "Version": "v1.0.0", "Error": {"Err": "reading it: not found"}}
`
	builtGraph = `app.example example.com/small@v1.2.0
app.example go@1.24
example.com/small@v1.2.0 example.com/middle@v1.0.0
app.example example.com/middle@v1.1.0
example.com/middle@v1.1.0 example.com/small@v1.1.0
go@1.24 toolchain@go1.24.1
`
)

func mustBuild(t *testing.T, list, graph string) *Build {
	t.Helper()
	var g []byte
	if graph != "" {
		g = []byte(graph)
	}
	b, err := ReadBuild([]byte(list), g)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// check compares the build with the mirrors of a scene, of which GOPROXY names the first n,
// and then direct.
func (s *scene) check(n int) Check {
	c := Check{
		Build: mustBuild(s.t, builtList, builtGraph), File: "go.mod", Public: true,
		Around: "corp.example", Secret: func(path string) bool { return strings.HasPrefix(path, "corp.example/") },
		Answer: time.Minute, Progress: func(string) {},
	}
	for i := range s.plan.Mirrors {
		c.Mirrors = append(c.Mirrors, Asked{&s.plan.Mirrors[i], 5 * time.Minute})
		if i < n {
			c.Chain = append(c.Chain, Way{goenv.HTTP, i})
		}
	}
	c.Chain = append(c.Chain, Way{Kind: goenv.Direct})
	return c
}

// without answers 404 for what matches none of the world.
func without(h http.Handler, part string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, part) {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func TestAProjectIsComparedWithTheMirrors(t *testing.T) {
	s := newScene(t)
	s.add("own", without(s.world.Handler(), "/middle/"))
	s.add("late", without(s.world.Handler(), "small/@v/v1.2.0"))
	f, _ := faults.Parse("503")
	s.add("down", faults.Handler(s.world.Handler(), faults.Always(f)))
	p := Compare(t.Context(), s.check(1))
	if p.Modules != 6 || p.Asked != 4 || p.Unknown != 0 || len(p.Differs) != 0 {
		t.Errorf("%d modules, %d asked for, %q", p.Modules, p.Asked, p.Differs)
	}
	if want := []string{"example.com/gone@v1.0.0: reading it: not found"}; !slices.Equal(p.Errors, want) {
		t.Errorf("errors %q", p.Errors)
	}
	var round []string
	for _, r := range p.Round {
		round = append(round, r.Module+"@"+r.Version+": "+r.Text)
	}
	slices.Sort(round)
	if want := []string{
		"corp.example/secret@v1.0.0: GONOPROXY, or GOPRIVATE in its place, matches it",
		"example.com/gone@v1.0.0: no proxy of GOPROXY has it, so it comes by version control",
		"example.com/middle@v1.1.0: no proxy of GOPROXY has it, so it comes by version control",
	}; !slices.Equal(round, want) {
		t.Errorf("round the proxies go %q", round)
	}
	want := []Lacks{
		{"own", 4, []string{"example.com/middle@v1.1.0", "example.com/gone@v1.0.0"}},
		{"late", 4, []string{"example.com/small@v1.2.0", "example.com/gone@v1.0.0"}},
	}
	if got, _ := json.Marshal(p.Lacking); string(got) != func() string { w, _ := json.Marshal(want); return string(w) }() {
		t.Errorf("lacking is %s", got)
	}
	text := strings.Join(p.Lines(), "\n")
	for _, line := range []string{
		"6 modules of go.mod, compared by go list -m all and go mod graph:",
		"  2 modules go round the proxies: no proxy of GOPROXY has it, so it comes by version control: example.com/middle@v1.1.0, example.com/gone@v1.0.0",
		"  late lacks 2 of the 4 newest that it was asked for: example.com/small@v1.2.0, example.com/gone@v1.0.0",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in\n%s", line, text)
		}
	}
}

// As the go command does, a proxy is asked for what those before it do not have, where names are
// not for everybody; and what is secret for nothing.
func TestNobodyIsAskedForWhatIsNoneOfTheirBusiness(t *testing.T) {
	s := newScene(t)
	var own, next, other modtest.Requests
	s.add("own", own.Count(without(s.world.Handler(), "/middle/")))
	s.add("next", next.Count(s.world.Handler()))
	s.add("other", other.Count(s.world.Handler()))
	c := s.check(2)
	c.Public = false
	p := Compare(t.Context(), c)
	if n := other.HitsPrefix(""); n != 0 {
		t.Errorf("somebody else's mirror was asked %d times", n)
	}
	if n := own.HitsPrefix("corp.example/") + next.HitsPrefix("corp.example/"); n != 0 {
		t.Errorf("a mirror was asked %d times for a private module", n)
	}
	if got := next.Log(); !slices.Equal(got, []string{"GET /example.com/middle/@v/v1.1.0.info", "GET /example.com/gone/@v/v1.0.0.info"}) && !slices.Equal(got, []string{"GET /example.com/gone/@v/v1.0.0.info", "GET /example.com/middle/@v/v1.1.0.info"}) {
		t.Errorf("the second proxy was asked for %q", got)
	}
	if p.Asked != 4 || len(p.Round) != 2 { // what is secret, and what nobody has
		t.Errorf("%d asked, round %v", p.Asked, p.Round)
	}
}

func TestWhatNobodyCouldBeAskedForIsNotCalledInOrder(t *testing.T) {
	for _, x := range []struct {
		chain []Way
		want  string
	}{
		{nil, "by which way 1 module comes is not known"},
		{[]Way{{Kind: goenv.Off}}, "by which way 1 module comes is not known"},
		{[]Way{{goenv.HTTP, -1}, {Kind: goenv.Direct}}, "by which way 1 module comes is not known"},
		{[]Way{{Kind: goenv.Direct}}, "1 module goes round the proxies: GOPROXY begins with direct"},
	} {
		s := newScene(t)
		c := s.check(0)
		c.Build = mustBuild(t, `{"Path": "app.example", "Main": true}{"Path": "example.com/small", "Version": "v1.2.0"}`, "")
		c.Chain = x.chain
		text := strings.Join(Compare(t.Context(), c).Lines(), "\n")
		if !strings.Contains(text, x.want) || strings.Contains(text, "no module goes round") || strings.Contains(text, "no mirror lacks") {
			t.Errorf("%v: %s", x.chain, text)
		}
	}
}

// A source in trouble proves nothing about the way of a module, nor is it asked for all.
func TestAProxyInTroubleTellsNoWay(t *testing.T) {
	for _, fault := range []string{"503", "429", "403", "html"} {
		s := newScene(t)
		f, _ := faults.Parse(fault)
		var own modtest.Requests
		s.add("own", own.Count(faults.Handler(s.world.Handler(), faults.Always(f))))
		p := Compare(t.Context(), s.check(1))
		if p.Asked != 0 || p.Unknown != 4 || len(p.Round) != 1 || len(p.Lacking) != 0 {
			t.Errorf("%s: %d asked, round %v, lacking %v", fault, p.Asked, p.Round, p.Lacking)
		}
		if n := own.HitsPrefix(""); n > 2 && fault != "403" || fault == "429" && n > 1 {
			t.Errorf("%s: asked %d times", fault, n)
		}
	}
}

func TestAReplaceLineWithoutEffectIsTold(t *testing.T) {
	b := mustBuild(t, builtList, builtGraph)
	v := func(path, version string) module.Version { return module.Version{Path: path, Version: version} }
	for _, c := range []struct {
		old, to module.Version
		want    string
	}{
		{v("example.com/local", ""), v("../local", ""), ""},
		{v("example.com/local", "v1.0.0"), v("../local", ""), ""},
		{v("example.com/forked", ""), v("example.com/large", "v1.0.1"), ""},
		{v("example.com/forked", ""), v("example.com/large", "v1.0.0"), "another replace line goes before it: example.com/large@v1.0.1"},
		{v("example.com/forked", "v0.9.0"), v("example.com/large", "v1.0.1"), "the build uses v1.0.0"},
		{v("example.com/middle", "v1.0.0"), v("../middle", ""), ""}, // it is in the graph
		{v("example.com/nobody", ""), v("../nobody", ""), "no module that the build needs requires it"},
		{v("app.example", ""), v("../app", ""), "it is the main module, which nothing replaces"},
		{v("example.com/small", ""), v("../small", ""), "the go command does not replace it"},
	} {
		r := Replacing{"go.mod", c.old, c.to}
		if got := b.idle(r); got != c.want {
			t.Errorf("%s: %q, want %q", r, got, c.want)
		}
	}
}

func TestABuildThatTheGraphDoesNotLeadToIsTold(t *testing.T) {
	s := newScene(t)
	s.add("own", s.world.Handler())
	c := s.check(1)
	c.Build = mustBuild(t, builtList, builtGraph+"app.example example.com/small@v1.3.0\n")
	if p := Compare(t.Context(), c); !slices.Equal(p.Differs, []string{"example.com/small@v1.2.0, and go mod graph has v1.3.0"}) {
		t.Errorf("differs: %q", p.Differs)
	}
}

func TestAProjectInOrderIsSaidToBe(t *testing.T) {
	s := newScene(t)
	s.add("own", s.world.Handler())
	c := s.check(1)
	c.Build = mustBuild(t, `{"Path": "app.example", "Main": true}{"Path": "example.com/small", "Version": "v1.2.0"}`, "app.example example.com/small@v1.2.0\n")
	if got := Compare(t.Context(), c).Lines(); len(got) != 2 || got[1] != "  every replace line has an effect; no module goes round the proxies; no mirror lacks a version that it was asked for" {
		t.Errorf("%q", got)
	}
}

func TestWhatTheGoCommandPrintsIsReadOrRefused(t *testing.T) {
	for _, c := range [][2]string{{"{", ""}, {"[]", ""}, {`{"Path": 1}`, ""}, {"", "one\n"}, {"", "a b\n"}, {"", "a@v1.0.0 b\n"}} {
		if _, err := ReadBuild([]byte(c[0]), []byte(c[1])); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func FuzzReadBuild(f *testing.F) {
	f.Add([]byte(builtList), []byte(builtGraph))
	f.Add([]byte("{}"), []byte("a b@v1\n"))
	f.Fuzz(func(t *testing.T, list, graph []byte) {
		b, err := ReadBuild(list, graph)
		if err != nil {
			return
		}
		c := Check{Build: b, File: "go.mod", Secret: func(string) bool { return true }, Progress: func(string) {}}
		for _, m := range b.Modules {
			c.Replacing = append(c.Replacing, Replacing{"go.mod", m.mod(), m.mod()})
		}
		p := Compare(t.Context(), c)
		if len(p.Lines()) == 0 || p.Modules > len(b.Modules) {
			t.Errorf("%+v", p)
		}
		for _, l := range p.Lines() {
			if strings.Contains(fmt.Sprint(l), "\n") {
				t.Errorf("%q has more than one line", l)
			}
		}
	})
}
