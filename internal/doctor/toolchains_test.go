package doctor

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
)

// The go command of a scene is go1.99.
func TestAToolchainThatNoSourceHasIsNamed(t *testing.T) {
	for _, c := range []struct {
		set   string // GOTOOLCHAIN
		env   []string
		chain string
		there bool
		fault string
		state State
		says  string
	}{
		{set: "go1.98.0", state: Fail, says: "has no go1.98.0"},
		{set: "go1.98.0+auto", state: Fail, says: "has no go1.98.0"},
		{set: "go1.98.0", chain: "SOURCE,off", state: Fail, says: "has no go1.98.0"},
		{set: "go1.98.0", there: true, state: OK, says: "go1.98.0 from "},
		{set: "go1.98.0+path", there: true, state: Fail, says: "not in PATH"},
		{set: "go1.98.0", env: []string{"GOSUMDB=off"}, there: true, state: Fail, says: "GOSUMDB is off"},
		{set: "go1.98.0", chain: "DEAD", state: Skip, says: "in trouble"},
		{set: "go1.98.0", chain: "SOURCE,direct", state: NA, says: "version control"},
		{set: "go1.98.0", fault: "403", state: Skip, says: ""}, // which refuses all
		{set: "go1.99", state: NA, says: "its own"},
		{set: "local", state: NA, says: "its own"},
		{set: "foo", state: NA, says: "its own"}, // the go command stops, as the row of the setting says
	} {
		s := newScene(t)
		s.env = append([]string{"GOTOOLCHAIN=" + c.set}, c.env...)
		if c.chain != "" {
			s.chain = c.chain
		}
		if c.there {
			m := toolchainOf("go1.98.0")
			s.world.Add(m.Path, m.Version, nil)
		}
		if c.fault != "" {
			f, err := faults.Parse(c.fault)
			if err != nil {
				t.Fatal(err)
			}
			s.fault.Set(f)
		}
		r := s.report()
		i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.ID == "supply.toolchain" })
		row := r.Rows[i]
		if row.State != c.state || !strings.Contains(row.Text, c.says) {
			t.Errorf("%+v: %s %s", c, row.State, row.Text)
		}
		if c.state != Fail {
			continue
		}
		if f := r.Findings[0]; f.Code != finding.ToolchainDownload || !slices.Equal(f.Commands, []string{"unset GOTOOLCHAIN"}) {
			t.Errorf("%+v: %s %q", c, f.Code, f.Commands)
		}
	}
}

// Where the project wants it, GOTOOLCHAIN is not to blame.
func TestAToolchainThatTheProjectWantsIsLookedFor(t *testing.T) {
	for _, there := range []bool{false, true} {
		s := newScene(t)
		s.env = []string{"GOTOOLCHAIN=auto"}
		if there {
			m := toolchainOf("go1.100.0")
			s.world.Add(m.Path, m.Version, nil)
		}
		sub := s.subject()
		dir := t.TempDir()
		sub.Project = dir + "/go.mod"
		if err := os.WriteFile(sub.Project, fmt.Appendf(nil, "module example.com/app\n\ngo 1.100\n\nrequire %s %s\n", s.mod.Path, s.mod.Version), 0o644); err != nil {
			t.Fatal(err)
		}
		r := Run(t.Context(), "", sub.Checks(), time.Minute)
		broken := len(r.Findings) > 0 && r.Findings[0].Code == finding.ToolchainDownload && r.Findings[0].Severity == finding.Fail
		if broken == there || broken && (strings.Contains(strings.Join(r.Findings[0].Commands, " "), "unset") || !strings.Contains(r.Findings[0].Evidence[0], "go.mod asks for go 1.100")) {
			t.Errorf("it is there: %v; %s %+v", there, r.Sentence, r.Findings)
		}
	}
}

// By a GOTOOLCHAIN that cannot be had, go env -u stops as everything does.
func TestAGoToolchainInTheUsersFileIsTakenBackByACommandThatRuns(t *testing.T) {
	settings := goenv.Load([]string{"GOENV=/env"}, func(name string) ([]byte, error) {
		if name != "/env" {
			return nil, os.ErrNotExist
		}
		return []byte("GOTOOLCHAIN=go1.98.0\n"), nil
	}, "", "")
	for place, want := range map[finding.Place]string{finding.Terminal: "GOTOOLCHAIN=local go env -u GOTOOLCHAIN", finding.PowerShell: "$env:GOTOOLCHAIN = 'local'; go env -u GOTOOLCHAIN; Remove-Item env:GOTOOLCHAIN"} {
		s := &Subject{Settings: settings, Place: place}
		if got := s.unset([]string{"GOTOOLCHAIN"}); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", place, got, want)
		}
	}
}
