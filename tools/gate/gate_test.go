package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// write makes a module with the given files and goes there.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.com/tiny\n\ngo 1.26\n"
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func newGate(t *testing.T) (*gate, *bytes.Buffer) {
	t.Helper()
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	t.Setenv("PATH", os.Getenv("PATH")) // prepare changes it
	out := new(bytes.Buffer)
	g := &gate{out: out, fuzztime: time.Second}
	if err := g.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g, out
}

func TestEveryTestIsCountedAndEveryFailureAndSkipIsNamed(t *testing.T) {
	write(t, map[string]string{
		"good/good_test.go": `package good
import "testing"
func TestGood(t *testing.T) { t.Log("quiet"); t.Run("sub", func(*testing.T) {}) }
func TestAway(t *testing.T) { t.Skip("the moon is not full") }
`,
		"bad/bad_test.go": `package bad
import "testing"
func TestGood(t *testing.T) { t.Log("quiet") }
func TestBad(t *testing.T) { t.Error("one is not two") }
`,
		"broken/broken_test.go": "package broken\nvar x int = \"\"\n",
		"crash/crash_test.go": `package crash
import ("os"; "testing")
func TestExit(t *testing.T) { println("last words"); os.Exit(3) }
`,
		"empty/empty.go": "package empty\n",
	})
	g, out := newGate(t)
	err := g.tests(t.Context(), []string{"test", "-json", "-vet=off", "./..."})
	if _, ok := errors.AsType[errCounted](err); !ok {
		t.Errorf("tests returned %v", err)
	}
	if g.close(0) {
		t.Error("a tree with failing tests may land")
	}
	for _, want := range []string{
		"\nok   example.com/tiny/good (",
		"\nFAIL example.com/tiny/bad (",
		"one is not two",
		"last words",
		`cannot use "" (untyped string constant) as int value`,
		"example.com/tiny/good TestAway: good_test.go:4: the moon is not full",
		"\n  example.com/tiny/bad TestBad\n",
		"\n  example.com/tiny/broken: it does not build\n",
		"\n  example.com/tiny/crash: it ended in the midst of TestExit\n",
	} {
		if !strings.Contains("\n"+out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), "quiet") {
		t.Errorf("output of tests that passed is in the way:\n%s", out)
	}
	if !strings.HasSuffix(out.String(), "\n3 passed, 3 failed, 1 skipped\n") {
		t.Errorf("the closing line is wrong:\n%s", out)
	}
}

func TestAStrictRunAllowsNoSkip(t *testing.T) {
	for _, strict := range []bool{false, true} {
		var out bytes.Buffer
		g := gate{strict: strict, out: &out}
		g.tally.pass()
		g.tally.skip("a TestX: no nginx")
		if ok := g.close(0); ok == strict {
			t.Errorf("strict %v: close = %v", strict, ok)
		}
		if !strings.Contains(out.String(), "a TestX: no nginx") || !strings.HasSuffix(out.String(), "\n1 passed, 0 failed, 1 skipped\n") {
			t.Errorf("output is\n%s", &out)
		}
	}
}

func TestTheRaceDetectorIsForWhatRunsWithinTheTests(t *testing.T) {
	const pass, fail = "import \"testing\"\nfunc TestIt(*testing.T) {}\n", "import \"testing\"\nfunc TestIt(t *testing.T) { t.Error(\"the wrong build\") }\n"
	write(t, map[string]string{
		"p/with_test.go":      "//go:build race\n\npackage p\n" + pass,
		"p/without_test.go":   "//go:build !race\n\npackage p\n" + fail,
		"e2e/with_test.go":    "//go:build race\n\npackage e2e\n" + fail,
		"e2e/without_test.go": "//go:build !race\n\npackage e2e\n" + pass,
		"e2e/skip_test.go":    "package e2e\nimport \"testing\"\nfunc TestSkip(t *testing.T) { t.Skip(\"no tool\") }\n",
	})
	g, out := newGate(t)
	if !g.canRace(t.Context()) {
		t.Skip("needs cgo and gcc, for the race detector")
	}
	if err := g.stepTest(t.Context()); err != nil || g.tally.failed != 0 || len(g.tally.skips) != 1 {
		t.Errorf("%v, %+v in\n%s", err, g.tally, out)
	}
}

func TestTheLongestTestsBeginFirst(t *testing.T) {
	within, outside := plan([]string{"m.test", "m.test/bench", "m.test/cmd/sluice", "m.test/e2e", "m.test/internal/inflate", "m.test/internal/ante2e", "m.test/internal/mirror"})
	if want := []string{"m.test/cmd/sluice", "m.test/internal/mirror", "m.test", "m.test/bench", "m.test/internal/ante2e"}; !slices.Equal(within, want) {
		t.Errorf("with the race detector %q, want %q", within, want)
	}
	if want := []string{"m.test/e2e", "m.test/internal/inflate"}; !slices.Equal(outside, want) {
		t.Errorf("without it %q, want %q", outside, want)
	}
}

// Or every program with the race detector would sleep for a second before it ends.
func TestProgramsWithTheRaceDetectorEndWhenTheyEnd(t *testing.T) {
	for _, own := range []string{"", "halt_on_error=1"} {
		t.Setenv("GORACE", own)
		g, _ := newGate(t)
		out, err := g.output(t.Context(), "sh", "-c", "echo $GORACE")
		if got, want := strings.TrimSpace(string(out)), cmp.Or(own, raceOptions); err != nil || got != want {
			t.Errorf("with GORACE=%s, children have %q, want %q (%v)", own, got, want, err)
		}
	}
}

func TestFuzzTargetsAreFoundAndRun(t *testing.T) {
	write(t, map[string]string{
		"p/p_test.go": `package p
import "testing"
func FuzzGood(f *testing.F) { f.Add("x"); f.Fuzz(func(*testing.T, string) {}) }
func FuzzBad(f *testing.F) { f.Add("x"); f.Fuzz(func(t *testing.T, s string) { t.Error("never right") }) }
func FuzzBadder(f *testing.F) { f.Skip() }
`,
	})
	g, out := newGate(t)
	list, err := g.output(t.Context(), "go", "test", "-json", "-list=^Fuzz", "./...")
	if err != nil {
		t.Fatal(err)
	}
	want := []fuzzTarget{{"example.com/tiny/p", "FuzzGood"}, {"example.com/tiny/p", "FuzzBad"}, {"example.com/tiny/p", "FuzzBadder"}}
	if got := fuzzTargets(list); !slices.Equal(got, want) {
		t.Errorf("targets are %v, want %v", got, want)
	}
	if err := g.stepFuzz(t.Context()); err == nil {
		t.Error("a failing fuzz target passed")
	}
	if !slices.Equal(g.tally.failures, []string{"example.com/tiny/p FuzzBad"}) || !strings.Contains(out.String(), "never right") {
		t.Errorf("failures are %q in\n%s", g.tally.failures, out)
	}
}

func TestTheEndOfTheFuzzingTimeIsNoFailure(t *testing.T) {
	const spurious = "go test: exit status 1\nfuzz: elapsed: 1s, execs: 54218 (52173/sec), new interesting: 0 (total: 1)\n--- FAIL: FuzzGood (1.04s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\texample.com/tiny/p\t1.045s"
	if !ranOutOfTime.MatchString(spurious) {
		t.Error("go test's own deadline would be taken for a failure of the target")
	}
	const real = "go test: exit status 1\n--- FAIL: FuzzBad (0.01s)\n    --- FAIL: FuzzBad (0.00s)\n        p_test.go:4: context deadline exceeded\n    \n    Failing input written to testdata/fuzz/FuzzBad/582528ddfad69eb5\nFAIL"
	if ranOutOfTime.MatchString(real) {
		t.Error("a target that failed would be taken for one that ran out of time")
	}
}

func TestUnformattedFilesAreNamed(t *testing.T) {
	bad, err := unformatted(fstest.MapFS{
		"good.go":     {Data: []byte("package p\n")},
		"a/bad.go":    {Data: []byte("package   p\n")},
		".git/bad.go": {Data: []byte("package   p\n")},
		"bad.txt":     {Data: []byte("package   p\n")},
	})
	if err != nil || !slices.Equal(bad, []string{"a/bad.go"}) {
		t.Errorf("unformatted = %q, %v", bad, err)
	}
	if _, err := unformatted(fstest.MapFS{"a/x.go": {Data: []byte("pakage p")}}); err == nil || !strings.Contains(err.Error(), "a/x.go") {
		t.Errorf("a file that is no Go gives %v, want its name", err)
	}
}

func TestOnlyWhatIsMissingIsInstalled(t *testing.T) {
	look := func(name string) (string, error) {
		if name == "nginx" || name == "gcc" {
			return "", exec.ErrNotFound
		}
		return "/usr/bin/" + name, nil
	}
	if got, want := missing(look), []string{"nginx-light", "gcc", "libc6-dev"}; !slices.Equal(got, want) {
		t.Errorf("missing = %q, want %q", got, want)
	}
}

func TestAnInterruptStopsTheChildren(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		return // no Unix shell, no process groups
	}
	g, _ := newGate(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready := filepath.Join(t.TempDir(), "ready")
	done := make(chan error, 1)
	// The shell has a child that says that it was asked to end.
	go func() {
		done <- g.command("sh", "-c", "(trap 'echo stopped; exit' TERM; sleep 600 & : >"+ready+"; wait) & wait")(ctx)
	}()
	for {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond) // another process, so no fake clock
	}
	cancel()
	select {
	case err := <-done: // CombinedOutput ends when the sleep has let go of the pipe
		if err == nil || !strings.Contains(err.Error(), "stopped") {
			t.Errorf("the command was stopped, and its child asked to end, but it says %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the shell or its child is still running")
	}
}
