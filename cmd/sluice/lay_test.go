package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

func TestOnlyGoCommandsThatUnpackWhatGoModNamesHaveItLaid(t *testing.T) {
	for line, want := range map[string]bool{
		"go build ./...":                              true,
		"/usr/lib/go/bin/go test -race ./...":         true,
		"go1.26.1 vet ./...":                          true,
		"go mod download":                             true,
		"go mod download -x":                          true,
		"go mod download example.com/a@v1.0.0":        false,
		"go mod tidy":                                 true,
		"go mod vendor":                               true,
		"go mod graph":                                false,
		"go mod":                                      false,
		"go run .":                                    false,
		"go run example.com/a@latest -x":              false,
		"go install ./cmd/a":                          false,
		"go install example.com/a@v1.0.0":             false,
		"go list ./...":                               true,
		"go list -m all":                              false,
		"go get example.com/a":                        false,
		"go version":                                  false,
		"go":                                          false,
		"go -C x build ./...":                         false,
		"go build -C x ./...":                         false,
		"go build -C=x ./...":                         false,
		"go build -mod=vendor ./...":                  false,
		"go build -mod vendor ./...":                  false,
		"go build --mod=mod ./...":                    true,
		"go build -mod=readonly ./...":                true,
		"go build -modfile=x.mod ./...":               false,
		"go build":                                    false,
		"go build fmt":                                false,
		"go build -h ./...":                           false,
		"go test ./... -run x":                        true,
		"go install ./...":                            true,
		"go list -m ./...":                            false,
		"make build":                                  false,
		"gopls build":                                 false,
		"sh -c go":                                    false,
		"GOFLAGS=-modfile=x.mod go build ./...":       false,
		"GOFLAGS=-mod=mod,-trimpath go build ./...":   true,
		"GOFLAGS=-trimpath,-mod=vendor go test ./...": false,
	} {
		flags, rest, ok := strings.Cut(strings.TrimPrefix(line, "GOFLAGS="), " ")
		if !strings.HasPrefix(line, "GOFLAGS=") || !ok {
			flags, rest = "", line
		}
		if got := unpacks(strings.ReplaceAll(flags, ",", " "), strings.Fields(rest)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if unpacks("", nil) {
		t.Error("nothing unpacks something")
	}
}

func TestTheLastWordOnWritableTreesCounts(t *testing.T) {
	for _, tt := range []struct {
		flags, args string
		want        bool
	}{
		{"", "go build", false},
		{"-modcacherw", "go build", true},
		{"-trimpath --modcacherw=true", "go build", true},
		{"-modcacherw", "go build -modcacherw=false", false},
		{"-modcacherw=0", "go build", false},
		{"", "go mod download -modcacherw", true},
		{"", "go build modcacherw", false},
	} {
		if got := cacheWritable(tt.flags, strings.Fields(tt.args)); got != tt.want {
			t.Errorf("GOFLAGS=%q %s: %v", tt.flags, tt.args, got)
		}
	}
}

func TestOfAPathOnlyTheHighestVersionIsLaid(t *testing.T) {
	v := func(s string) module.Version {
		path, vers, _ := strings.Cut(s, "@")
		return module.Version{Path: path, Version: vers}
	}
	zip := func(s string) goproxy.Request { return goproxy.Request{Kind: goproxy.Zip, Module: v(s)} }
	p := &checkout{
		zips:  []module.Version{v("a@v1.9.0"), v("a@v1.10.0"), v("b@v1.0.0"), v("b@v1.1.0"), v("mine@v1.0.0"), v("c@v1.0.0")},
		local: map[string]bool{"mine": true},
		// The go command has b@v1.1.0 already.
		wanted: []goproxy.Request{zip("a@v1.9.0"), zip("a@v1.10.0"), zip("b@v1.0.0"), zip("mine@v1.0.0"), zip("c@v1.0.0"), {Kind: goproxy.Mod, Module: v("d@v1.0.0")}},
	}
	got := slices.Collect(maps.Keys(p.selected()))
	module.Sort(got)
	if want := []module.Version{v("a@v1.10.0"), v("c@v1.0.0")}; !slices.Equal(got, want) {
		t.Errorf("%v are laid, want %v", got, want)
	}
}

func TestNothingIsLaidThatNobodyStandsFor(t *testing.T) {
	in, conflict := module.Version{Path: "in.sum", Version: "v1.0.0"}, module.Version{Path: "conflict", Version: "v1.0.0"}
	p := &checkout{sums: map[module.Version]string{}}
	p.sum(in, "h1:a")
	p.sum(conflict, "h1:a")
	p.sum(conflict, "h1:b")
	p.sum(module.Version{Path: "old.kind", Version: "v1.0.0"}, "h0:x")
	y := &layer{sums: p.sums, bare: func(path string) bool { return path == "private" }}
	for _, tt := range []struct {
		path, h1, verified string
		want               bool
	}{
		{"in.sum", "h1:a", "", true},
		{"in.sum", "h1:b", "sumdb", false},
		{"conflict", "h1:a", "sumdb", false},
		{"conflict", "", "sumdb", false},
		{"public", "h1:a", "sumdb", true},
		{"public", "h1:a", "", false},
		{"old.kind", "h1:a", "sumdb", true},
		{"private", "h1:a", "sumdb", false},
	} {
		if got := y.vouched(module.Version{Path: tt.path, Version: "v1.0.0"}, tt.h1, tt.verified); got != tt.want {
			t.Errorf("%v: %v", tt, got)
		}
	}
}
