package mirror

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A tracer is a build with its clock, and what it wants.
type tracer struct {
	b     build
	now   time.Time
	wants []string
}

func (c *tracer) ask(kind goproxy.Kind, path, vers string, cold bool) {
	c.now = c.now.Add(time.Millisecond)
	for _, w := range c.b.saw(c.now, goproxy.Request{Kind: kind, Module: module.Version{Path: path, Version: vers}}, []byte("x"), cold) {
		if w.data == nil {
			c.wants = append(c.wants, w.req.Path())
		}
	}
}

func (c *tracer) take() []string {
	w := c.wants
	c.wants = nil
	return w
}

// graph asks for the .mod of n modules that go.mod names, as a go command with
// several workers does: nearly in order.
func (c *tracer) graph(n int, cold bool) {
	for i := range n {
		c.ask(goproxy.Mod, fmt.Sprintf("a.test/m%03d", i^1), "v1.1.0", cold)
	}
}

func TestABuildThatHasAllAtHandWantsNothing(t *testing.T) {
	c := tracer{now: time.Now()}
	c.graph(100, false)
	for i := range 100 {
		c.ask(goproxy.Info, fmt.Sprintf("a.test/m%03d", i), "v1.1.0", false)
	}
	for i := range 100 {
		c.ask(goproxy.Zip, fmt.Sprintf("a.test/m%03d", i), "v1.1.0", false)
	}
	if w := c.take(); len(w) > 0 {
		t.Errorf("it wants %q", w)
	}
}

func TestADownloadOfAllIsKnownByItsOrder(t *testing.T) {
	c := tracer{now: time.Now()}
	c.graph(100, true)
	c.ask(goproxy.Mod, "a.test/m050", "v1.0.0", true) // below a module without a pruned graph: an older version
	c.ask(goproxy.Mod, "b.test/old", "v1.0.0", true)  // and what go.mod does not name
	c.ask(goproxy.Info, "a.test/m000", "v1.1.0", true)
	if w := c.take(); len(w) != 100 || slices.Contains(w, "a.test/m050/@v/v1.0.0.info") || slices.Contains(w, "b.test/old/@v/v1.0.0.info") {
		t.Errorf("after the first .info it wants %d files: %q", len(w), w)
	}
	for i := 1; i < 100; i++ {
		c.ask(goproxy.Info, fmt.Sprintf("a.test/m%03d", i), "v1.1.0", false)
	}
	for i := range 3 {
		if w := c.take(); len(w) > 0 {
			t.Errorf("before zip %d it wants %q", i, w)
		}
		c.ask(goproxy.Zip, fmt.Sprintf("a.test/m%03d", i), "v1.1.0", true)
	}
	if w := c.take(); len(w) != 97 || w[0] != "a.test/m003/@v/v1.1.0.zip" || w[96] != "a.test/m099/@v/v1.1.0.zip" {
		t.Errorf("after three zips it wants %d files: %q", len(w), w)
	}
	c.b.has(module.Version{Path: "a.test/m099", Version: "v1.1.0"}, 1000)
	if c.b.unasked != 1000 {
		t.Errorf("%d bytes are not asked for yet", c.b.unasked)
	}
	c.ask(goproxy.Zip, "a.test/m099", "v1.1.0", false)
	if c.b.unasked != 0 {
		t.Errorf("%d bytes are not asked for yet, though all were", c.b.unasked)
	}
}

// Where go.mod replaces modules, what replaces them is asked for in their places.
func TestReplacementsDoNotEndWhatGoModNames(t *testing.T) {
	below := module.Version{Path: "b.test/below", Version: "v1.0.0"}
	c := tracer{now: time.Now(), b: build{below: func(m module.Version) bool { return m == below }}}
	const n = 4 * reorder
	replaced := map[int]string{
		reorder + 1: "z.test/a", reorder + 3: "z.test/b", 2*reorder + 1: "z.test/c", // from further on, some within one another's window
		2*reorder + 5: "a.test/fork", 3 * reorder: "a.test/other",
	}
	var want []string
	for i := range n {
		path := fmt.Sprintf("m.test/m%03d", i^1)
		if fork, ok := replaced[i]; ok {
			path = fork
		}
		c.ask(goproxy.Mod, path, "v1.0.0", true)
		want = append(want, path+"/@v/v1.0.0.info")
		// It is known where the client is: one module astray does not move it.
		next := module.Version{Path: fmt.Sprintf("m.test/m%03da", i), Version: "v1.0.0"}
		if got := c.b.names([]module.Version{{Path: "a.test/past", Version: "v1.0.0"}, next}); i > 3*reorder+reorder/2 && i < n-reorder && len(got) != 1 {
			t.Fatalf("at %d it guesses %v", i, got)
		}
	}
	c.ask(goproxy.Mod, below.Path, below.Version, true) // and this ends it
	c.ask(goproxy.Mod, "y.test/further", "v1.0.0", true)
	c.take()
	c.ask(goproxy.Info, "m.test/m000", "v1.0.0", true)
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("after the first .info it wants %d files, want %d; it ends with %q", len(got), len(want), got[max(0, len(got)-3):])
	}
}

// Who asks for modules in no order reads no go.mod.
func TestModulesInNoOrderAreNoGoMod(t *testing.T) {
	c := tracer{now: time.Now(), b: build{below: func(module.Version) bool { return false }}}
	for i := range 10 * reorder {
		c.ask(goproxy.Mod, fmt.Sprintf("m.test/m%03d", i*389%1000), "v1.0.0", true)
	}
	if len(c.b.roots) > 2*reorder {
		t.Errorf("%d modules are held for what go.mod names", len(c.b.roots))
	}
}

func TestABuildOfSomeCausesNoZip(t *testing.T) {
	for _, zips := range [][]int{{50, 0, 1, 2}, {0, 50, 1, 2, 3}, {20, 21, 22}} {
		c := tracer{now: time.Now()}
		c.graph(100, true)
		for i := range 100 {
			c.ask(goproxy.Info, fmt.Sprintf("a.test/m%03d", i), "v1.1.0", true)
		}
		c.take()
		for _, i := range zips {
			c.ask(goproxy.Zip, fmt.Sprintf("a.test/m%03d", i), "v1.1.0", true)
		}
		if w := c.take(); len(w) > 0 {
			t.Errorf("zips %v: it wants %q", zips, w)
		}
	}
}

// What go.mod may name is guessed at the highest version that anybody requires, as
// long as the client has not come to its path.
func TestWhatGoModMayNameIsGuessedAtTheHighestVersion(t *testing.T) {
	c := tracer{now: time.Now()}
	for i := range reorder + 10 {
		c.ask(goproxy.Mod, fmt.Sprintf("m.test/m%03d", i), "v1.0.0", true)
	}
	at := func(path, vers string) module.Version { return module.Version{Path: path, Version: vers} }
	names := func(want []module.Version, reqs ...module.Version) {
		t.Helper()
		if got := c.b.names(reqs); !slices.Equal(got, want) {
			t.Errorf("of %v it guesses %v, want %v", reqs, got, want)
		}
	}
	names([]module.Version{at("z.test/a", "v1.1.0")}, at("z.test/a", "v1.1.0"), at("a.test/past", "v1.0.0"), at("m.test/m001", "v1.5.0"))
	names(nil, at("z.test/a", "v1.0.0"), at("z.test/a", "v1.1.0"))
	names([]module.Version{at("z.test/a", "v1.2.0")}, at("z.test/a", "v1.2.0"))
	if c.b.stands(at("z.test/a", "v1.1.0")) || !c.b.stands(at("z.test/a", "v1.2.0")) {
		t.Error("an outdone guess stands, or the other does not")
	}
	c.ask(goproxy.Mod, "m.test/m001", "v0.9.0", true) // go.mod is done
	names(nil, at("z.test/b", "v1.0.0"))
	if c.b.stands(at("z.test/a", "v1.2.0")) {
		t.Error("a guess stands though go.mod is done")
	}
}

func TestAnotherCommandIsAnotherBuild(t *testing.T) {
	c := tracer{now: time.Now()}
	c.graph(10, true)
	c.now = c.now.Add(buildIdle + time.Second)
	c.ask(goproxy.Info, "a.test/m000", "v1.1.0", false)
	if w := c.take(); len(w) > 0 {
		t.Errorf("after a pause it wants %q", w)
	}
	c.graph(10, true)
	c.ask(goproxy.Info, "a.test/m000", "v1.1.0", true)
	c.take()
	c.ask(goproxy.Mod, "a.test/m000", "v1.1.0", false) // the next command begins
	if len(c.b.roots) != 1 || c.b.cold {
		t.Errorf("it begins with %d modules of the one before, cold: %t", len(c.b.roots), c.b.cold)
	}
}

func TestABuildIsBounded(t *testing.T) {
	c := tracer{now: time.Now()}
	for i := range 3 * maxBuild {
		c.ask(goproxy.Mod, fmt.Sprintf("a.test/m%06d", i), "v1.1.0", true)
		c.b.names([]module.Version{{Path: fmt.Sprintf("z.test/m%06d", i), Version: "v1.0.0"}})
	}
	if n := len(c.b.known) + len(c.b.guesses) + len(c.b.roots); n > 3*maxBuild {
		t.Errorf("%d module versions are remembered", n)
	}
}
