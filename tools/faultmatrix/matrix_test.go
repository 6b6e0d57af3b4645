//go:build unix

package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

func TestEveryBuildThatMustFailHasWordsToSay(t *testing.T) {
	for _, f := range table() {
		ru, ok := rules()[f.kind]
		if !ok {
			t.Errorf("%s is of a kind without a rule", f.name)
		}
		for i, ch := range chains() {
			if ru.pass[i] == (ru.says[i] != nil) {
				t.Errorf("%s, %s: it passes: %v; it must say %v", f.name, ch.name, ru.pass[i], ru.says[i])
			}
		}
		if !ru.pass[pipe] {
			t.Errorf("%s stops a chain with bars, which let everything go on", f.name)
		}
		if ru.pass[comma] && !ru.pass[commaProxies] {
			t.Errorf("%s passes a comma as written, but not with failover = proxies", f.name)
		}
		if (f.spec == "") == (f.wire == nil) {
			t.Errorf("%s is to be done by %q and by a wire: %v", f.name, f.spec, f.wire != nil)
		}
		if _, err := faults.Parse(f.spec); f.spec != "" && err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
}

func TestTheMatrixIsWhole(t *testing.T) {
	names := map[string]bool{}
	for _, c := range cells(func(string) bool { return true }) {
		names[c.name()] = true
		if c.p.warm && !c.Pass {
			t.Errorf("%s need not pass, although the store could serve", c.name())
		}
	}
	if want := len(table()) * len(positions()) * len(chains()); len(names) != want {
		t.Errorf("%d names of cells, want %d", len(names), want)
	}
	if got := cells(func(name string) bool { return name == "hang/two/comma" }); len(got) != 1 || got[0].Pass {
		t.Errorf("hang/two/comma gives %v", got)
	}
}

func TestEachMissedBarIsTold(t *testing.T) {
	const says = "a comma follows a, which lets only not found go on"
	well := measure{first: 1, known: 1, firstNoise: 0.1, knownNoise: 0.1}
	fine := run{Passed: true, Seconds: 1}
	for _, tt := range []struct {
		cell         string
		first, known run
		want         string // part of what is missed; "" for nothing
	}{
		{"refused/first/pipe", fine, fine, ""},
		{"refused/first/pipe", run{Passed: true, Seconds: 1.99}, run{Passed: true, Seconds: 1.14}, ""},
		{"refused/first/pipe", run{Passed: true, Seconds: 2.01}, fine, "first contact costs 1.01 s"},
		{"refused/two/pipe", run{Passed: true, Seconds: 2.9}, fine, ""},
		{"refused/two/pipe", run{Passed: true, Seconds: 3.1}, fine, "the bar is 2.00 s"},
		{"refused/first/pipe", fine, run{Passed: true, Seconds: 1.16}, "once known it still costs 0.16 s, the bar is 0.15 s"},
		{"403/first/pipe", fine, run{Passed: true, Seconds: 1.9}, ""}, // each module may be another matter
		{"403/first/pipe", fine, run{Passed: true, Seconds: 2.1}, "once known"},
		{"slow-list/first/comma", run{Passed: true, Seconds: 9}, run{Passed: true, Seconds: 9}, ""},
		{"slow-list/first/pipe", run{Passed: true, Seconds: 9}, fine, "first contact costs"},
		{"slow-list/all/comma", run{Passed: true, Seconds: 9}, fine, "first contact costs"},
		{"hang/first/pipe", run{Hung: true, Seconds: 20}, fine, "first contact: the build hangs"},
		{"503/first/comma-proxies", fine, run{Seconds: 1}, "once known: the build fails"},
		{"503/first/comma", run{Said: says}, run{Said: says}, ""},
		{"503/first/comma", run{Said: says}, run{Said: "502 Bad Gateway"}, "does not say why"},
		{"503/first/comma", run{Said: says}, fine, "the build passes, round a source"},
		{"401/first/comma-proxies", fine, run{Said: says}, "the build passes, round a source"},
		{"503/all/comma", run{Said: says}, fine, "the build fails"},
		{"hang/first/comma", run{Hung: true}, run{Said: says}, "hangs"},
		{"404-page/first/comma", run{Passed: true, Seconds: 1, Wrong: []string{"404 for m"}}, fine, "first contact: 404 for m"},
	} {
		list := cells(func(name string) bool { return name == tt.cell })
		if len(list) != 1 {
			t.Fatalf("%d cells are called %s", len(list), tt.cell)
		}
		c := list[0]
		c.First, c.Known = []run{tt.first}, []run{tt.known}
		judge(c, well, true)
		got := strings.Join(c.Misses, "; ")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s with %+v and %+v misses %q, want %q", tt.cell, tt.first, tt.known, got, tt.want)
		}
		if text := cellText(c); strings.Contains(text, "✗") != (got != "") {
			t.Errorf("%s is drawn as %q although it misses %q", tt.cell, text, got)
		}
	}
}

// A machine that has become slower is not held against a source.
func TestARepeatedRunIsComparedWithTheHealthyOneBesideIt(t *testing.T) {
	if got := extra([]float64{1.5}, nil, 1); got != .5 {
		t.Errorf("one run costs %v", got)
	}
	if got := extra([]float64{9, 3, 2, 2.75}, []float64{2.5, 2, 2.5}, 1); got != .25 {
		t.Errorf("repeated runs cost %v", got)
	}
	c := cells(func(name string) bool { return name == "refused/first/pipe" })[0]
	slow := run{Passed: true, Seconds: 3}
	c.First, c.Known = []run{slow, slow, slow, slow}, []run{slow, slow, slow, slow}
	c.Well = healthy{[]float64{2.9, 2.9, 2.9}, []float64{2.9, 2.9, 2.9}}
	if judge(c, measure{first: 1, known: 1, firstNoise: .1, knownNoise: .1}, true); len(c.Misses) > 0 {
		t.Errorf("it misses %q", c.Misses)
	}
}

// testScope is a scope that ends with the test.
func testScope(t *testing.T, f func(s *modtest.Scope)) error {
	return modtest.Scoped(t.Context(), t.TempDir(), f)
}

func TestTheTapTellsOfWrongBytesAndOfNotFound(t *testing.T) {
	err := testScope(t, func(s *modtest.Scope) {
		m := newMatrix(s)
		one := m.sets[0][0]
		for _, tt := range []struct {
			fault, path string
			want        string
		}{
			{"none", goproxy.Request{Kind: goproxy.Zip, Module: one}.Path(), ""},
			{"flip=data", goproxy.Request{Kind: goproxy.Zip, Module: one}.Path(), "wrong bytes served as"},
			{"short", goproxy.Request{Kind: goproxy.Mod, Module: one}.Path(), "wrong bytes served as"},
			{"cut", goproxy.Request{Kind: goproxy.Zip, Module: one}.Path(), ""}, // no whole answer
			{"404-html", goproxy.Request{Kind: goproxy.Info, Module: one}.Path(), "404 for"},
			{"410", goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: one.Path}}.Path(), "410 for"},
			{"404", goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: "example.com/nothing"}}.Path(), ""},
			{"503", goproxy.Request{Kind: goproxy.Zip, Module: one}.Path(), ""},
		} {
			fault, err := faults.Parse(tt.fault)
			s.Must(err)
			srv := modtest.Serve(s, faults.Handler(m.world.Handler(), faults.Always(fault)))
			p := m.tapped(s, srv.URL, nil)
			resp, err := http.Get(p.url + "/" + tt.path)
			s.Must(err)
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			got := strings.Join(p.take(), "; ")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%s of %s is noted as %q, want %q", tt.fault, tt.path, got, tt.want)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
