// Command gate says whether this tree may land: the one command that passes all
// tests on a machine that has Go and nothing else.
//
//	go run ./tools/gate            everything
//	go run ./tools/gate -quick     format, vet and tests, without the race detector
//	go run ./tools/gate -strict    what is skipped, for want of a tool or of rights, fails
//	go run ./tools/gate -fuzztime 1m   everything, and fuzz targets look for new failures
//
// What fuzzing finds by chance says nothing of the change that is judged, so a gate
// without -fuzztime tries the inputs that are known.
//
// Every check is named with its time, every skip is named at the end, and the last
// line counts them. It is not a build system: each step is a command that can be
// run by hand.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// graceful is how long a stopped child may tidy up before it is killed.
const graceful = 5 * time.Second

func main() {
	g := gate{out: os.Stdout}
	flag.BoolVar(&g.strict, "strict", os.Getenv("SLUICE_STRICT") == "1", "what is skipped is a failure; sets SLUICE_STRICT=1 for the tests")
	flag.BoolVar(&g.install, "install", rootOnDebian(), "install with apt-get what the end-to-end tests need and this machine lacks; implied for root on Debian")
	flag.BoolVar(&g.quick, "quick", false, "only format, vet and tests, without the race detector")
	flag.DurationVar(&g.fuzztime, "fuzztime", 0, "look for new inputs that fail, this long for each fuzz target; 0: the inputs of testdata/fuzz only, as tests")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "gate: unexpected argument %q; it always judges the whole tree\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := g.prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(2)
	}
	if !g.run(ctx) {
		os.Exit(1)
	}
}

// gate is one run. Nothing in it is safe for concurrent use.
type gate struct {
	strict, install, quick bool
	fuzztime               time.Duration

	out   io.Writer
	env   []string // of every child
	tally tally
}

// tally is what the run has seen so far.
type tally struct {
	passed, failed, skipped   int
	failures, skips, warnings []string // one line each
}

func (t *tally) pass() { t.passed++ }
func (t *tally) fail(what string) {
	t.failed++
	t.failures = append(t.failures, what)
}
func (t *tally) skip(what string) {
	t.skipped++
	t.skips = append(t.skips, what)
}

// errWarn ends a step that could not be taken and need not be; errCounted one whose
// failures are in the tally.
type (
	errWarn    string
	errCounted string
)

func (e errWarn) Error() string    { return string(e) }
func (e errCounted) Error() string { return string(e) }

// prepare goes to the module's root and makes the environment of the children.
func (g *gate) prepare(ctx context.Context) error {
	g.env = os.Environ()
	var env struct{ GOMOD, GOFLAGS string }
	out, err := g.output(ctx, "go", "env", "-json", "GOMOD", "GOFLAGS")
	if err != nil {
		return fmt.Errorf("asking the go command for its settings: %w", err)
	}
	if err := json.Unmarshal(out, &env); err != nil {
		return fmt.Errorf("reading what go env printed: %w", err)
	}
	if filepath.Base(env.GOMOD) != "go.mod" {
		return errors.New("there is no go.mod here or above; run it in a clone of the repository")
	}
	if err := os.Chdir(filepath.Dir(env.GOMOD)); err != nil {
		return err
	}
	// A clone that belongs to somebody else makes git, and with it go build, refuse
	// to stamp the version; the judgement of the tree does not need the stamp.
	g.env = append(g.env, "GOFLAGS="+strings.TrimSpace(env.GOFLAGS+" -buildvcs=false"))
	if path := os.Getenv("PATH"); rootDirs(path) != path {
		os.Setenv("PATH", rootDirs(path)) // for LookPath, too
		g.env = append(g.env, "PATH="+rootDirs(path))
	}
	if g.strict {
		g.env = append(g.env, "SLUICE_STRICT=1")
	}
	if os.Getenv("GORACE") == "" {
		g.env = append(g.env, "GORACE="+raceOptions)
	}
	return nil
}

// raceOptions are those of every program with the race detector. By its own it sleeps for
// a second at the end of each, in case that a goroutine does something yet, and the tests
// start some hundred.
const raceOptions = "atexit_sleep_ms=10"

// rootDirs adds the directories where nginx and ip are on Debian and which a
// user's PATH lacks.
func rootDirs(path string) string {
	if filepath.Separator != '/' {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if !slices.Contains(filepath.SplitList(path), dir) {
			path += string(filepath.ListSeparator) + dir
		}
	}
	return path
}

// run takes all steps, even after a failure, and reports whether the tree may land.
func (g *gate) run(ctx context.Context) bool {
	start := time.Now()
	steps := []struct {
		name    string
		slow    bool // not in a quick run
		counted bool // its parts are counted, not the step
		do      func(context.Context) error
	}{
		{"install", true, true, g.stepInstall},
		{"format", false, false, g.stepFormat},
		{"tidy", true, false, g.stepTidy},
		{"vet", false, false, g.command("go", "vet", "./...")},
		{"staticcheck", true, false, g.command("go", "tool", "staticcheck", "./...")},
		{"build for windows", true, false, g.command("env:GOOS=windows", "env:CGO_ENABLED=0", "go", "build", "./...")},
		{"build for darwin", true, false, g.command("env:GOOS=darwin", "env:CGO_ENABLED=0", "go", "build", "./...")},
		{"test", false, true, g.stepTest},
		{"fuzz", true, true, g.stepFuzz},
	}
	for _, s := range steps {
		if s.slow && g.quick || s.name == "fuzz" && g.fuzztime == 0 || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		err := s.do(ctx)
		took := time.Since(began).Round(100 * time.Millisecond)
		_, warning := errors.AsType[errWarn](err)
		switch {
		case ctx.Err() != nil:
			fmt.Fprintf(g.out, "STOP %s (%v)\n", s.name, took)
		case err == nil:
			if !s.counted {
				g.tally.pass()
			}
			fmt.Fprintf(g.out, "ok   %s (%v)\n", s.name, took)
		case warning:
			g.tally.warnings = append(g.tally.warnings, s.name+": "+err.Error())
			fmt.Fprintf(g.out, "WARN %s (%v): %v\n", s.name, took, err)
		default:
			if _, told := errors.AsType[errCounted](err); !told {
				g.tally.fail(s.name + ": " + firstLine(err.Error()))
			}
			fmt.Fprintf(g.out, "FAIL %s (%v): %v\n", s.name, took, err)
		}
	}
	if ctx.Err() != nil {
		g.tally.fail("interrupted before the end")
	}
	return g.close(time.Since(start))
}

// close prints what was seen; its last line is alone on a line.
func (g *gate) close(took time.Duration) bool {
	t := &g.tally
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(g.out, "\n%s:\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	list("warnings", t.warnings)
	title := "skipped"
	if g.strict {
		title = "skipped, which a strict run does not allow"
	}
	list(title, t.skips)
	list("failed", t.failures)
	fmt.Fprintf(g.out, "\ngate took %v\n%d passed, %d failed, %d skipped\n", took.Round(time.Second), t.passed, t.failed, t.skipped)
	return t.failed == 0 && !(g.strict && t.skipped > 0)
}

// needs are the programs that the end-to-end tests use, and where Debian has them.
var needs = []struct{ program, pkgs string }{
	{"git", "git"},
	{"nginx", "nginx-light"},
	{"curl", "curl"},
	{"ip", "iproute2"},
	{"nft", "nftables"},
	{"dnsmasq", "dnsmasq-base"},
	{"mitmdump", "mitmproxy"},
	{"squid", "squid"},
	{"sshd", "openssh-server"},
	{"gcc", "gcc libc6-dev"}, // for the race detector
}

// missing lists the Debian packages of the programs that look does not find.
func missing(look func(string) (string, error)) (pkgs []string) {
	for _, n := range needs {
		if _, err := look(n.program); err != nil {
			pkgs = append(pkgs, strings.Fields(n.pkgs)...)
		}
	}
	return pkgs
}

func rootOnDebian() bool {
	_, err := os.Stat("/etc/debian_version")
	return err == nil && os.Geteuid() == 0
}

// stepInstall only warns: the tests that miss something skip, and say so.
func (g *gate) stepInstall(ctx context.Context) error {
	pkgs := missing(exec.LookPath)
	if len(pkgs) == 0 {
		return nil
	}
	if !g.install {
		return errWarn("tests that need these will be skipped; as root: apt-get install " + strings.Join(pkgs, " "))
	}
	apt := func(args ...string) error {
		return g.command(append([]string{"env:DEBIAN_FRONTEND=noninteractive", "apt-get"}, args...)...)(ctx)
	}
	err := apt("-qq", "update")
	if err := cmp.Or(apt(append([]string{"-qq", "-y", "--no-install-recommends", "install"}, pkgs...)...), err); err != nil && len(missing(exec.LookPath)) > 0 {
		return errWarn(fmt.Sprintf("could not install %s, so tests that need them will be skipped: %v", strings.Join(pkgs, " "), err))
	}
	return nil
}

func (g *gate) stepFormat(context.Context) error {
	bad, err := unformatted(os.DirFS("."))
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("gofmt would change these; run: gofmt -w %s", strings.Join(bad, " "))
	}
	return nil
}

// unformatted lists the Go files that gofmt would change.
func unformatted(tree fs.FS) (bad []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		want, err := format.Source(src)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !bytes.Equal(src, want) {
			bad = append(bad, name)
		}
		return nil
	})
	return bad, err
}

// tidyBudget bounds the one step that asks the network for more than the build
// needs: tidy reads the tests of dependencies, too.
const tidyBudget = 2 * time.Minute

func (g *gate) stepTidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tidyBudget)
	defer cancel()
	var stderr bytes.Buffer
	cmd := g.child(ctx, "go", "mod", "tidy", "-diff")
	cmd.Stderr = &stderr
	diff, err := cmd.Output()
	if len(diff) > 0 {
		return fmt.Errorf("go.mod or go.sum is not tidy; run: go mod tidy\n%s", diff)
	}
	if err != nil {
		return errWarn("could not be checked, perhaps for want of a network: " + lastLine(cmp.Or(stderr.String(), err.Error())))
	}
	return nil
}

// undetected are the packages, by the end of their path, in whose tests the race detector
// has nothing to find and would only take time.
var undetected = []string{
	"e2e", // stands at the outside and drives programs
	// These have no goroutine; the tests of those that use them have the detector in them, too.
	"internal/explain",
	"internal/inflate",
}

// longest are the packages whose tests take longest, by the end of their path. They are
// begun first, or they would be left to run by themselves when all others have ended.
var longest = []string{"cmd/sluice", "internal/mirror", "internal/upstream", "internal/origin", "internal/store", "internal/server"}

// plan is the packages to be tested with the race detector, in the order in which they
// are to begin, and those without.
func plan(pkgs []string) (within, outside []string) {
	// rank is the place of the package in a list, behind all of it if it is not there.
	rank := func(list []string, pkg string) int {
		for i, end := range list {
			if pkg == end || strings.HasSuffix(pkg, "/"+end) {
				return i
			}
		}
		return len(list)
	}
	for _, pkg := range pkgs {
		if rank(undetected, pkg) < len(undetected) {
			outside = append(outside, pkg)
		} else {
			within = append(within, pkg)
		}
	}
	slices.SortStableFunc(within, func(a, b string) int { return cmp.Compare(rank(longest, a), rank(longest, b)) })
	return within, outside
}

func (g *gate) stepTest(ctx context.Context) error {
	// What go test itself would have vet look for is a part of the step before.
	args := []string{"test", "-json", "-count=1", "-timeout=25m", "-vet=off"}
	switch {
	case g.quick:
	case !g.canRace(ctx):
		g.tally.skip("race detector: it needs cgo and a C compiler (gcc), and there is none")
	default:
		out, err := g.output(ctx, "go", "list", "./...")
		if err != nil {
			return fmt.Errorf("listing the packages: %w", err)
		}
		within, outside := plan(strings.Fields(string(out)))
		err = g.tests(ctx, append(append(slices.Clone(args), "-race"), within...))
		_, counted := errors.AsType[errCounted](err)
		if len(outside) > 0 && ctx.Err() == nil && (err == nil || counted) {
			after := g.tests(ctx, append(args, outside...))
			if _, told := errors.AsType[errCounted](after); after != nil && !told {
				return after
			}
			err = errors.Join(err, after)
		}
		return err
	}
	return g.tests(ctx, append(args, "./..."))
}

// tests runs go test with args, which have -json, and counts what it tells.
func (g *gate) tests(ctx context.Context, args []string) error {
	cmd := g.child(ctx, "go", args...)
	cmd.Stderr = os.Stderr // downloads, and complaints of the go command itself
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	before := g.tally.failed
	readErr := readEvents(events, g.out, &g.tally)
	io.Copy(io.Discard, events) // else the child would wait for a reader for ever
	waitErr := cmd.Wait()
	switch failed := g.tally.failed - before; {
	case readErr != nil:
		return fmt.Errorf("reading what go test tells: %w", readErr)
	case failed > 0:
		return errCounted(fmt.Sprintf("%d failures", failed))
	}
	return waitErr // if not nil, nothing that was counted explains it
}

func (g *gate) canRace(ctx context.Context) bool {
	var env struct{ CGO_ENABLED, CC string }
	out, err := g.output(ctx, "go", "env", "-json", "CGO_ENABLED", "CC")
	if err != nil || json.Unmarshal(out, &env) != nil || env.CGO_ENABLED != "1" {
		return false
	}
	cc, _, _ := strings.Cut(env.CC, " ")
	_, err = exec.LookPath(cc)
	return err == nil
}

func (g *gate) stepFuzz(ctx context.Context) error {
	out, err := g.output(ctx, "go", "test", "-json", "-list=^Fuzz", "./...")
	if err != nil {
		return fmt.Errorf("listing the fuzz targets: %w", err)
	}
	failed := 0
	for _, target := range fuzzTargets(out) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Go's default spends a minute on minimizing whatever is new, so that in ten
		// seconds hardly anything would be tried.
		err := g.command("go", "test", "-run=^$", "-fuzz=^"+target.name+"$", "-fuzztime="+g.fuzztime.String(), "-fuzzminimizetime=10x", target.pkg)(ctx)
		if err != nil && ctx.Err() == nil && !ranOutOfTime.MatchString(err.Error()) {
			failed++
			g.tally.fail(target.pkg + " " + target.name)
			fmt.Fprintf(g.out, "FAIL %s %s: %v\n", target.pkg, target.name, err)
			continue
		}
		g.tally.pass()
		fmt.Fprintf(g.out, "ok   %s %s\n", target.pkg, target.name)
	}
	if failed > 0 {
		return errCounted(fmt.Sprintf("%d targets failed; what they found lies under testdata/fuzz beside them, and fails in every go test from now on", failed))
	}
	return nil
}

// ranOutOfTime is how go test now and then ends a fuzz target that found nothing:
// its own deadline, taken for a failure of the target (golang/go#75804). A real
// failure has more lines.
var ranOutOfTime = regexp.MustCompile(`--- FAIL: Fuzz\w+ \([0-9.]+s\)\n\s+context deadline exceeded\n(?:FAIL|exit status)`)

// command is a step that runs one program and shows its output if it fails.
// Arguments env:NAME=VALUE before the program's name add to its environment.
func (g *gate) command(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		args := args
		var env []string
		for strings.HasPrefix(args[0], "env:") {
			env = append(env, strings.TrimPrefix(args[0], "env:"))
			args = args[1:]
		}
		cmd := g.child(ctx, args[0], args[1:]...)
		cmd.Env = append(cmd.Env, env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
}

// output runs a program and returns its standard output; what it says on standard
// error is part of the error.
func (g *gate) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := g.child(ctx, name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(exit.Stderr))
	}
	return out, err
}

// child is a program that ends, with everything it started, when ctx does.
func (g *gate) child(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = slices.Clip(g.env)
	ownGroup(cmd)
	return cmd
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
