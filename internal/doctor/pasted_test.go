package doctor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

func TestAnotherSourceIsNoFixForWhatIsWrongOnThisMachine(t *testing.T) {
	round := finding.Finding{Entry: finding.Entry{Mend: "go on to another", Fix: []string{"go round"}}}
	for root, want := range map[string]bool{"source.1.connect": true, "machine.clock": false} {
		tls := fails(finding.SourceTLSExpired, "a.example")
		checks := []Check{
			check("source.1.connect", 0, fails(finding.SourceConnectTimeout, "a.example")),
			check("supply.modules", 0, Outcome{State: Skip, Because: "source.1.connect", Finding: &round}),
		}
		if root == "machine.clock" {
			clock := fails(finding.ClockWrong, "")
			clock.Explains = []string{"source.1.tls"}
			checks = []Check{check("source.1.tls", 0, tls), check("supply.modules", 0, Outcome{State: Skip, Because: "source.1.tls", Finding: &round}), check("machine.clock", 0, clock)}
		}
		r := Run(t.Context(), "", checks, time.Minute)
		if len(r.Findings) != 1 || slices.Contains(r.Findings[0].Commands, "go round") != want || (r.Findings[0].Fix == round.Mend) != want {
			t.Errorf("%s: %+v", root, r.Findings)
		}
	}
}

// What is pasted is the whole block: its last line that sets a variable is the one that
// holds.
func TestNoLineBelowTheRightFixUndoesIt(t *testing.T) {
	for _, tt := range []struct {
		place finding.Place
		env   bool
		want  string
	}{
		{finding.Terminal, true, "export GOPROXY='DEAD|SOURCE'"},
		{finding.Terminal, false, "go env -w GOPROXY='DEAD|SOURCE'"},
		{finding.PowerShell, true, "$env:GOPROXY = 'DEAD|SOURCE'"},
		{finding.Dockerfile, true, `ENV GOPROXY="DEAD|SOURCE"`},
		{finding.GitHub, true, `env: { GOPROXY: "DEAD|SOURCE" }`},
		{finding.GitLab, true, `variables: { GOPROXY: "DEAD|SOURCE" }`},
	} {
		s := newScene(t)
		s.chain = "DEAD,SOURCE"
		sub := s.subject()
		sub.Place = tt.place
		if !tt.env {
			layered(sub, nil, "GOPROXY="+sub.Settings.Get("GOPROXY").Value+"\n")
		}
		got := commands(t, sub, "broken SL-NET-002")
		want := strings.NewReplacer("SOURCE", named("source", s.source), "DEAD", "http://127.0.0.1:1").Replace(tt.want)
		if all := strings.Join(got, "\n"); got[0] != want || strings.Count(all, "GOPROXY") != 1 || strings.Contains(all, "sluice use") || len(got) < 2 {
			t.Errorf("%s: %q, want %q and what only looks", tt.place, got, want)
		}
	}
}

func TestADatabaseAtAnAddressOfItsOwnIsAskedWithoutIt(t *testing.T) {
	s := newScene(t)
	s.noMirror()
	s.env = []string{"GOSUMDB=" + s.db.VKey + " https://proxy.example.com/no/such/place"}
	sub := s.subject()
	sub.SumDB.Direct = nowhere{}
	want := []string{"curl -sS https://proxy.example.com/no/such/place/latest", "export GOSUMDB='" + s.db.VKey + "'"}
	if got := commands(t, sub, "broken SL-SUM-003"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAMajorVersionIsPutIntoThePath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the fix is for a shell")
	}
	name := filepath.Join(t.TempDir(), "go.mod")
	text := "module a.example/a\n\nrequire (\n\texample.org/m v2.3.0\n\texample.org/mm v1.0.0\n)\n"
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := modfile.Parse(name, []byte(text), nil)
	s := &Subject{Project: name, ProjectErr: err, Place: finding.Terminal, Settings: newScene(t).subject().Settings}
	out := s.gomod()
	if err == nil || out.Finding == nil || out.Finding.Code != finding.MissingMajorSuffix || len(out.Finding.Fix) != 1 {
		t.Fatalf("of %v it says %+v", err, out)
	}
	if said, err := exec.Command("sh", "-c", out.Finding.Fix[0]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", out.Finding.Fix[0], err, said)
	}
	data, err := os.ReadFile(name)
	if err != nil || string(data) != strings.Replace(text, "example.org/m v2.3.0", "example.org/m/v2 v2.3.0", 1) {
		t.Errorf("after the fix it is %q, %v", data, err)
	}
	for _, path := range []string{"example.org/m", "example.org/$(reboot)"} {
		s.ProjectErr = errors.New("go.mod:3:2: require " + path + ": version \"v2.0.0\" invalid: should be v0 or v1, not v2")
		if out := s.gomod(); strings.Contains(strings.Join(out.Finding.Fix, " "), "reboot") {
			t.Errorf("a path that a shell reads is in %q", out.Finding.Fix)
		}
	}
}

func TestALineOfGoSumIsWrittenAgainAsTheDatabaseHasIt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the fix is for a shell")
	}
	s := newScene(t)
	sub := s.subject()
	sub.Sums = map[module.Version]string{s.mod: "h1:" + strings.Repeat("A", 43) + "="}
	got := commands(t, sub, "broken SL-SUM-007")
	dir := t.TempDir()
	other := "doctor.test/m v1.0.0/go.mod h1:x=\ndoctor.test/mm v1.0.0 h1:x=\n"
	bin := modtest.Files{"go.sum": "doctor.test/m v1.0.0 h1:AAAA=\n" + other, "bin/go": "#!/bin/sh\necho \"$@\" >>asked\n", "bin/git": "#!/bin/sh\n"}
	for name, text := range bin {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", strings.Join(got, "\n"))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", got, err, said)
	}
	sum, _ := os.ReadFile(filepath.Join(dir, "go.sum"))
	asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
	if string(sum) != other || string(asked) != "mod download\n" {
		t.Errorf("go.sum is %q, and go was asked for %q", sum, asked)
	}
}
