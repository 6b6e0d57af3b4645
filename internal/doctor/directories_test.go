package doctor

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
)

// A file in the way of a directory stands for one that may not be written: root may write
// everywhere.
func TestEachDirectoryThatCannotBeUsedIsNamedWithTheVariableThatMendsIt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the variables are those of Unix")
	}
	const tree = "-- file --\n-- tmp/x --\n-- home/x --\n-- app/go.mod --\nmodule example.com/app\n\ngo 1.21\n"
	home := func(s *Subject) Outcome { return s.home() }
	modcache := func(s *Subject) Outcome { return s.modcache() }
	records := func(s *Subject) Outcome { return s.records() }
	buildcache := func(s *Subject) Outcome { return s.buildcache() }
	temporary := func(s *Subject) Outcome { return s.temporary() }
	writable := func(s *Subject) Outcome { return s.writable() }
	for _, c := range []struct {
		name  string
		check func(*Subject) Outcome
		files string
		env   []string // these, and no others; $DIR is the directory
		known bool     // go.sum has the module
		state State
		code  finding.Code
		fix   string // is among the commands
	}{
		{name: "no home", check: home, state: Fail, code: finding.NoHome, fix: "export HOME='/home/me'"},
		{name: "no home, and a place for modules", check: home, env: []string{"GOMODCACHE=$DIR/mod"}, state: OK},
		{name: "a home", check: modcache, env: []string{"HOME=$DIR/home"}, state: OK},
		{name: "a home that cannot be written", check: modcache, env: []string{"HOME=$DIR/file"}, state: Fail, code: finding.HomeDenied, fix: `export GOPATH="$(mktemp -d)"; export GOCACHE="$GOPATH/build"`},
		{name: "a GOPATH that cannot be written", check: modcache, env: []string{"HOME=$DIR/home", "GOPATH=$DIR/file"}, state: Fail, code: finding.HomeDenied, fix: `export GOPATH="$(mktemp -d)"; export GOCACHE="$GOPATH/build"`},
		{name: "a module cache that cannot be written", check: modcache, env: []string{"HOME=$DIR/home", "GOMODCACHE=$DIR/file/mod"}, state: Fail, code: finding.CacheDenied, fix: "export GOMODCACHE=DIR"},
		{name: "a module cache below GOPATH that cannot be written", check: modcache, files: "-- home/go/pkg/mod --\n", env: []string{"HOME=$DIR/home"}, state: Fail, code: finding.CacheDenied, fix: "go env -w GOMODCACHE=DIR"},

		{name: "what is looked up has no place", check: records, env: []string{"GOMODCACHE=$DIR/mod"}, state: Fail, code: finding.NoHome, fix: "export HOME='/home/me'"},
		{name: "what is looked up cannot be written down", check: records, env: []string{"HOME=$DIR/file", "GOMODCACHE=$DIR/mod"}, state: Fail, code: finding.HomeDenied},
		{name: "nothing is looked up", check: records, env: []string{"HOME=$DIR/file", "GOMODCACHE=$DIR/mod"}, known: true, state: NA},
		{name: "it can be written down", check: records, env: []string{"HOME=$DIR/home", "GOMODCACHE=$DIR/mod"}, state: OK},

		{name: "a build cache", check: buildcache, env: []string{"HOME=$DIR/home"}, state: OK},
		{name: "no home to build in", check: buildcache, env: []string{"GOMODCACHE=$DIR/mod"}, state: Warn, code: finding.NoHome, fix: "export HOME='/home/me'"},
		{name: "a home that cannot be built in", check: buildcache, env: []string{"HOME=$DIR/file", "GOMODCACHE=$DIR/mod"}, state: Warn, code: finding.HomeDenied},
		{name: "a build cache that cannot be written", check: buildcache, env: []string{"HOME=$DIR/home", "GOCACHE=$DIR/file/build"}, state: Warn, code: finding.CacheDenied, fix: "go env -w GOCACHE=DIR"},
		{name: "a build cache that is off", check: buildcache, env: []string{"HOME=$DIR/home", "GOCACHE=off"}, state: Warn, code: finding.GoEnvMalformed, fix: "unset GOCACHE"},

		{name: "a temporary directory", check: temporary, env: []string{"TMPDIR=$DIR/tmp"}, state: OK},
		{name: "one that is not there", check: temporary, env: []string{"TMPDIR=$DIR/none"}, state: Warn, code: finding.TempDenied, fix: "unset TMPDIR"},
		{name: "one that is a file", check: temporary, env: []string{"TMPDIR=$DIR/tmp", "GOTMPDIR=$DIR/file"}, state: Warn, code: finding.TempDenied, fix: "unset GOTMPDIR"},

		{name: "go.sum can be written", check: writable, env: []string{"HOME=$DIR/home"}, state: OK},
		{name: "go.sum cannot be written", check: writable, files: "-- app/go.sum/x --\n", env: []string{"HOME=$DIR/home"}, state: Fail, code: finding.ProjectDenied, fix: "go mod tidy"},
		{name: "go.sum needs not be written", check: writable, files: "-- app/go.sum/x --\n", env: []string{"HOME=$DIR/home"}, known: true, state: NA},
		{name: "what is built lies in vendor", check: writable, files: "-- app/go.sum/x --\n-- app/vendor/modules.txt --\n", env: []string{"HOME=$DIR/home"}, state: NA},
	} {
		s, dir := onDisk(t, tree+c.files)
		var env []string
		for _, kv := range c.env {
			env = append(env, strings.ReplaceAll(kv, "$DIR", dir))
		}
		s.Settings, s.SystemHome, s.SumDB = goenv.Load(env, nil, "", ""), "/home/me", &SumDB{Name: "sums"}
		s.Module = module.Version{Path: "example.com/m", Version: "v1.0.0"}
		if c.known {
			s.Sums = map[module.Version]string{s.Module: "h1:x"}
		}
		out := c.check(s)
		if out.State != c.state {
			t.Errorf("%s: %s %s, want %s", c.name, out.State, out.Text, c.state)
			continue
		}
		if c.code == "" {
			continue
		}
		if out.Finding.Code != c.code || c.fix != "" && !slices.Contains(out.Finding.Fix, c.fix) || out.Text == "" {
			t.Errorf("%s: %s %q, %s; want %s with %q", c.name, out.Finding.Code, out.Finding.Fix, out.Text, c.code, c.fix)
		}
	}
}
