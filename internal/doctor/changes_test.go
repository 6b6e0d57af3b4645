package doctor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

func TestAChangeIsOfferedOnlyWhereTheFileOfTheUserIsWrongAndTheMendIsKnown(t *testing.T) {
	set := func(name, value string) finding.Change {
		return finding.Change{Kind: finding.SetGoEnv, Name: name, Value: value}
	}
	unset := func(name string) finding.Change { return finding.Change{Kind: finding.UnsetGoEnv, Name: name} }
	for _, tt := range []struct {
		file string
		env  []string
		want []finding.Change
	}{
		{file: "GOPROXY=https//a.example,Direct", want: []finding.Change{set("GOPROXY", "https://a.example,direct")}},
		{file: "GOPROXY=https//a.example", env: []string{"GOPROXY=https//b.example"}}, // the file is hidden
		{file: "GOPROXY=https//u:secret@a.example"},                                   // nobody else's business
		{file: "GOPROXY=nonsense"},             // nobody knows what was meant
		{file: "GOPROXY=https://a.example/?x"}, // and this works, perhaps
		{file: "GOPRIVATE=git.corp.example, https://x.example", want: []finding.Change{set("GOPRIVATE", "git.corp.example,x.example")}},
		{file: "GONOSUMDB=git.corp.example:22/x", want: []finding.Change{set("GONOSUMDB", "git.corp.example/x")}},
		{file: "GOPRIVATE=git.corp.example/[ab"},
		{file: "GOPRIVATE=github.com"}, // what is private there, only the user knows
		{file: "GOSUMDB=off", want: []finding.Change{unset("GOSUMDB")}},
		{env: []string{"GOSUMDB=off"}},
		{file: "GOFLAGS=-insecure", want: []finding.Change{unset("GOFLAGS")}},
		{file: "GOFLAGS=-mod=mod --insecure=true -v", want: []finding.Change{set("GOFLAGS", "-mod=mod -v")}},
		{file: `GOFLAGS="-insecure -v"`},
	} {
		s := goenv.Load(append(tt.env, "GOENV=/env"), func(name string) ([]byte, error) {
			if name != "/env" {
				return nil, os.ErrNotExist
			}
			return []byte(strings.ReplaceAll(tt.file, ";", "\n") + "\n"), nil
		}, "", "")
		if got := SettingsChanges(s); !slices.Equal(got, tt.want) {
			t.Errorf("%q with %q: %+v, want %+v", tt.file, tt.env, got, tt.want)
		}
	}
}

func TestTheLinesOfTheUsersFileAreMendedAndThoseOfTheToolchainAreNot(t *testing.T) {
	for file, want := range map[string]int{"noise\n": 1, "GOPROXY=\"https://a.example\"\n": 1, "# fine\nGOPROXY=https://a.example\n": 0, "GOFLAGS=\xff\n": 0} {
		for _, user := range []bool{true, false} {
			settings := goenv.Load([]string{"GOENV=/env"}, func(name string) ([]byte, error) {
				if (name == "/env") != user {
					return nil, os.ErrNotExist
				}
				return []byte(file), nil
			}, "/goroot", "")
			out := (&Subject{Settings: settings}).goenv()
			n := 0
			if out.Finding != nil {
				n = len(out.Finding.Changes)
			}
			if !user {
				want = 0
			}
			if n != want {
				t.Errorf("%q, the user's %v: %d changes, want %d", file, user, n, want)
			}
		}
	}
}

func TestTheSchemaKnowsEveryKindOfChange(t *testing.T) {
	var kinds []string
	for _, k := range finding.ChangeKinds() {
		kinds = append(kinds, string(k))
	}
	modtest.ReadSchema(t, published).Of(t, "findings", "changes", "kind").Words(t, "kind", kinds...)
}

func TestASourceThatStopsTheGoCommandIsGoneRoundWhereOneBehindItServes(t *testing.T) {
	for chain, want := range map[string]string{
		"DEAD,SOURCE":                   "DEAD|SOURCE",
		"DEAD,DEAD/2,SOURCE":            "DEAD|DEAD/2|SOURCE",
		"DEAD|DEAD/2,SOURCE":            "DEAD|DEAD/2|SOURCE",
		"DEAD,SOURCE,direct":            "DEAD|SOURCE,direct",
		"DEAD,DEAD/2,direct":            "",
		"DEAD":                          "",
		"http://u:p@127.0.0.1:1,SOURCE": "",
	} {
		s := newScene(t)
		s.chain = chain
		r := s.report()
		if r.Verdict != Broken || len(r.Findings) == 0 || r.Findings[0].Code != finding.SourceRefused {
			t.Fatalf("%s: %s", chain, r.Sentence)
		}
		f := r.Findings[0]
		line := strings.NewReplacer(named("source", s.source), "SOURCE", "http://127.0.0.1:1", "DEAD").Replace(f.Commands[0])
		if want == "" && strings.Contains(line, "GOPROXY='") || want != "" && line != "export GOPROXY='"+want+"'" {
			t.Errorf("%s: the first command is %q", chain, line)
		}
		if len(f.Changes) > 0 {
			t.Errorf("%s is in the environment, and %+v would change the file", chain, f.Changes)
		}
	}
}

func TestTheChecksOfSourcesAskTheSourcesAloneWhateverTheSettingsSay(t *testing.T) {
	s := newScene(t)
	sub := s.subject()
	sub.Mistakes = []error{errors.New("GOPROXY is no list")}
	r := Run(t.Context(), "", sub.SourceChecks(), time.Minute)
	for _, row := range r.Rows {
		if !strings.HasPrefix(row.ID, "source.1.") {
			t.Errorf("%s was checked", row.ID)
		}
		if !row.State.well() {
			t.Errorf("%s is %s: %s", row.ID, row.State, row.Text)
		}
	}
	s.mu.Lock() // a transport may dial on after its last answer
	asked := s.hosts["sums"]
	s.mu.Unlock()
	if len(r.Rows) < 5 || asked {
		t.Errorf("%d rows; the database was asked: %v", len(r.Rows), asked)
	}
	s.source.Stop()
	if r := Run(t.Context(), "", s.subject().SourceChecks(), time.Minute); r.Verdict != Broken || r.Findings[0].Code != finding.SourceRefused {
		t.Errorf("a source that is down: %s", r.Sentence)
	}
}
