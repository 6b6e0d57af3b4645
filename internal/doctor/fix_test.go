package doctor

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

// commands are those of the first finding of a subject.
func commands(t *testing.T, sub *Subject, want string) []string {
	t.Helper()
	r := Run(t.Context(), "", sub.Checks(), time.Minute)
	if said(r) != want {
		t.Fatalf("%s, want %s, in\n%s", said(r), want, r.Text(TextOptions{All: true}))
	}
	if len(r.Findings) == 0 {
		return nil
	}
	return r.Findings[0].Commands
}

// layered are settings with variables in the environment, and others written with go env -w.
func layered(sub *Subject, environ []string, written string) {
	environ = append(environ, "GOMODCACHE="+sub.Settings.Get("GOMODCACHE").Value, "GOENV=env", "HOME="+sub.Settings.Get("HOME").Value)
	sub.Settings = goenv.Load(environ, func(name string) ([]byte, error) {
		if name != "env" {
			return nil, os.ErrNotExist
		}
		return []byte(written), nil
	}, "", "")
}

// What go env -w writes has no effect where the environment has the variable.
func TestAFixChangesTheSettingThatIsInForce(t *testing.T) {
	for _, tt := range []struct {
		place             finding.Place
		environ           bool
		want, unset, also string
	}{
		{finding.Terminal, false, "sluice use best", "go env -u GONOSUMDB", ""},
		{finding.Terminal, true, `eval "$(sluice use --scope project best)"`, "unset GONOSUMDB", ""},
		{finding.PowerShell, true, "sluice use --scope project --for powershell best | Invoke-Expression", "Remove-Item env:GONOSUMDB", ""},
		{finding.GitHub, true, `env: { GOPROXY: "https://YOUR-PROXY,direct" }`, "", ""},
	} {
		s := newScene(t)
		s.fault.Set(parse(t, "503"))
		sub := s.subject()
		sub.Place = tt.place
		proxy := "GOPROXY=" + sub.Settings.Get("GOPROXY").Value
		if tt.environ {
			layered(sub, []string{proxy}, "")
		} else {
			layered(sub, nil, proxy+"\n")
		}
		if got := commands(t, sub, "broken SL-SRC-005"); !slices.Contains(got, tt.want) {
			t.Errorf("%s, in the environment %v: %q, want %q", tt.place, tt.environ, got, tt.want)
		}
		// A shell that evaluates what another command prints goes on if that fails.
		r := Run(t.Context(), "", sub.Checks(), time.Minute)
		if told := strings.Contains(r.Findings[0].Fix, "name a source that you know in the place of best"); told != strings.Contains(tt.want, "--scope project") {
			t.Errorf("%s, in the environment %v: %q", tt.place, tt.environ, r.Findings[0].Fix)
		}
		if tt.unset == "" {
			continue
		}
		s.fault.Clear()
		if tt.environ {
			layered(sub, []string{proxy, "GONOSUMDB=*"}, "")
		} else {
			layered(sub, nil, proxy+"\nGONOSUMDB=*\n")
		}
		if got := commands(t, sub, "impaired SL-ENV-005"); !slices.Equal(got, []string{tt.unset}) {
			t.Errorf("%s, in the environment %v: %q, want %q", tt.place, tt.environ, got, tt.unset)
		}
	}
}

func TestRootIsToldOfNoSudo(t *testing.T) {
	for _, root := range []bool{true, false} {
		s := newScene(t)
		sub := s.subject()
		sub.Root, sub.HasGit, sub.NoProxy = root, false, "doctor.test"
		if got := strings.Join(commands(t, sub, "broken SL-VCS-001"), "\n"); strings.Contains(got, "sudo ") == root {
			t.Errorf("root: %v, and the fix is %q", root, got)
		}
	}
}

func TestAPrivateModuleOfASourceIsNamedInGONOSUMDBAlone(t *testing.T) {
	for before, want := range map[string]string{
		"":                      "export 'GONOSUMDB=doctor.test/m'",
		"GONOSUMDB=corp.test/*": "export 'GONOSUMDB=corp.test/*,doctor.test/m'",
		"GOPRIVATE=corp.test":   "go env -w 'GONOSUMDB=corp.test,doctor.test/m'",
	} {
		s := newScene(t)
		s.db.Unknown(s.mod, true)
		if before == "" {
			s.env = []string{"GONOSUMDB=none.test"}
			want = "export 'GONOSUMDB=none.test,doctor.test/m'"
		} else {
			s.env = []string{before}
		}
		if got := commands(t, s.subject(), "broken SL-SUM-004"); !slices.Equal(got, []string{want}) {
			t.Errorf("with %q: %q, want %q", before, got, want)
		}
	}
}

func TestWhatAnswersInPlaceOfADatabaseIsNoDatabaseThatKnowsNothing(t *testing.T) {
	s := newScene(t)
	s.noMirror()
	sub := s.subject()
	sub.SumDB.Direct = nowhere{}
	commands(t, sub, "broken SL-SUM-003")
}

// nowhere is a web server that has nothing.
type nowhere struct{}

func (nowhere) Name() string { return "nowhere" }
func (nowhere) Mirror() bool { return false }
func (nowhere) Get(context.Context, string) ([]byte, error) {
	return nil, errors.Join(checksum.ErrUnknown, os.ErrNotExist)
}

func TestAZipThatIsReadWholeIsHeldAgainstTheDatabaseAndAgainstGoSum(t *testing.T) {
	for _, tt := range []struct {
		name, fault, env string
		sum              string // of go.sum
		want             string
	}{
		{"as the database says", "none", "", "", "well"},
		{"another one", "old-zip", "", "", "broken SL-SUM-008"},
		{"another one, and go.sum is right", "old-zip", "", "right", "broken SL-SUM-008"},
		{"another one, which no database covers", "old-zip", "GONOSUMDB=doctor.test", "right", "broken SL-SUM-007"},
		{"another one, which nothing covers", "old-zip", "GONOSUMDB=doctor.test", "", "well"},
		{"go.sum is wrong", "none", "", "h1:AAAA", "broken SL-SUM-007"},
		{"a bit is flipped", "flip", "", "", "broken SL-SRC-008"},
		{"it breaks off, and can be resumed", "cut-first=50%", "", "", "broken SL-SRC-010"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.mod = s.world.Add("doctor.test/m", "v1.2.0", modtest.Files{"go.mod": "module doctor.test/m\n", "m.go": "package m\n\nconst Of = 2\n"})
			if tt.env != "" {
				s.env = []string{tt.env}
			}
			fault := parse(t, tt.fault)
			s.source.Stop()
			s.source = modtest.Serve(t, faults.Handler(s.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return fault, strings.HasSuffix(r.URL.Path, ".zip") }))
			sub := s.subject()
			switch tt.sum {
			case "":
			case "right":
				sub.Sums = map[module.Version]string{s.mod: s.world.H1Zip(s.mod)}
			default:
				sub.Sums = map[module.Version]string{s.mod: tt.sum}
			}
			commands(t, sub, tt.want)
		})
	}
}

func TestASourceThatHasOtherVersionsOfTheModuleLagsBehind(t *testing.T) {
	s := newScene(t)
	s.mod.Version = "v1.0.1"
	r := s.want("broken SL-SRC-001")
	f := r.Findings[0]
	if !strings.Contains(strings.Join(f.Evidence, " "), "1 other version of the module") || slices.ContainsFunc(f.Commands, func(c string) bool { return strings.Contains(c, "GOPRIVATE") }) {
		t.Errorf("%q, fix %q", f.Evidence, f.Commands)
	}
	s = newScene(t)
	s.mod.Path = "doctor.test/other"
	r = s.want("broken SL-SRC-001")
	if f := r.Findings[0]; !slices.ContainsFunc(f.Commands, func(c string) bool { return strings.HasSuffix(c, "GOPRIVATE=doctor.test/other") }) {
		t.Errorf("a module that nobody has may be private, and the fix is %q", f.Commands)
	}
}

func TestAModuleThatDeclaresAnotherPathIsRequiredByThat(t *testing.T) {
	for declares, want := range map[string]string{
		"doctor.test/new":         "go mod edit -droprequire=doctor.test/old -require=doctor.test/new@v1.0.0",
		`"doctor.test/$(reboot)"`: "",
	} {
		s := newScene(t)
		s.mod = s.world.Add("doctor.test/old", "v1.0.0", modtest.Files{".mod": "module " + declares + "\n", "m.go": "package m\n"})
		got := commands(t, s.subject(), "broken SL-VER-004")
		if want != "" && !slices.Equal(got, []string{want}) || strings.Contains(strings.Join(got, " "), "reboot") {
			t.Errorf("%s: %q, want %q", declares, got, want)
		}
	}
}

func TestNothingHasToBeDownloadedThatIsInTheCache(t *testing.T) {
	for _, lacks := range []string{"", "zip", "mod"} {
		s := newScene(t)
		s.chain = "off"
		sub := s.subject()
		sub.Selected = []module.Version{s.mod}
		at := filepath.Join(sub.Settings.Get("GOMODCACHE").Value, "cache", "download", "doctor.test", "m", "@v", "v1.0.0.")
		for ext, data := range map[string]string{"zip": string(s.world.Zip(s.mod)), "ziphash": s.world.H1Zip(s.mod), "mod": string(s.world.Mod(s.mod))} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at+ext, []byte(data), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want := "well"
		if lacks != "" {
			os.Remove(at + lacks)
			want = "broken SL-OFF-001"
		}
		commands(t, sub, want)
	}
}

func TestAForwardProxyWithoutAColonIsNotLookedUp(t *testing.T) {
	s := newScene(t)
	s.way = func(*http.Request) (*url.URL, error) { return url.Parse("http://http//forward.test:3128") }
	sub := s.subject()
	sub.Getenv = env("HTTP_PROXY", "http//forward.test:3128")
	r := Run(t.Context(), "", sub.Checks(), time.Minute)
	if said(r) != "broken SL-FWD-002" || len(r.Findings) != 1 {
		t.Errorf("%s", r.Text(TextOptions{All: true}))
	}
	for _, row := range r.Rows {
		if row.ID == "source.1.forward" && (row.State != Skip || row.Because != "settings.forward") {
			t.Errorf("%s is %s because of %q", row.ID, row.State, row.Because)
		}
	}
}
