package main

import (
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
)

// What a module requires that comes past us is unknown, so it may be anything; what one
// requires whose .mod is yet to come is known then.
func TestOfAModuleThatComesPastUsNothingIsKnown(t *testing.T) {
	v := func(path string) module.Version { return module.Version{Path: path, Version: "v1.0.0"} }
	zip := func(path string) goproxy.Request { return goproxy.Request{Kind: goproxy.Zip, Module: v(path)} }
	mod := func(path string) goproxy.Request { return goproxy.Request{Kind: goproxy.Mod, Module: v(path)} }
	p := &checkout{
		cache:  t.TempDir(),
		zips:   []module.Version{v("corp.test/lib"), v("a.test"), v("b.test"), v("c.test")},
		wanted: []goproxy.Request{mod("a.test"), mod("b.test"), mod("c.test"), mod("z.test"), zip("a.test"), zip("b.test"), zip("c.test")},
	}
	names := func(reqs []goproxy.Request) string {
		var l []string
		for _, r := range reqs {
			l = append(l, r.Module.Path)
		}
		return strings.Join(l, " ")
	}
	n := newNeeds(p)
	if got := names(n.first); got != "a.test b.test c.test z.test" {
		t.Errorf("%s come first", got)
	}
	if got := names(n.imported("a.test/pkg")); got != "a.test" {
		t.Errorf("a.test needs %s", got)
	}
	if got := names(n.fetched(mirror.Fetched{Request: mod("a.test"), Bytes: []byte("module a.test\n\nrequire b.test v0.1.0\n")})); got != "b.test" {
		t.Errorf("what a.test requires needs %s", got)
	}
	if got := names(n.imported("corp.test/lib/pkg")); got != "c.test" {
		t.Errorf("a module that comes past us needs %s of what is left", got)
	}
	if got := n.imported("fmt"); len(got) > 0 {
		t.Errorf("fmt needs %s", names(got))
	}
}
