//go:build unix

package origin

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

func shell(script string) *command {
	return &command{path: "/bin/sh", args: []string{"-c", script}, env: []string{"PATH=/usr/bin:/bin", "MARK=" + mark}}
}

// mark is in the environment of the processes that a test starts, and of those
// of no other run of these tests at the same time.
var mark = "origin-test-" + strconv.Itoa(os.Getpid()) + "-"

// running lists the living processes that have s in their environment. While a
// process becomes another program, its environment reads as empty: what has to be
// seen for sure is to be waited for.
func running(t *testing.T, s string) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Skip("this test needs /proc")
	}
	var list []string
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err == nil && bytes.Contains(env, []byte(s)) {
			args, _ := os.ReadFile(d + "/cmdline")
			list = append(list, filepath.Base(d)+" "+strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return list
}

// wantNothing fails the test if a process with s in its environment stays: a
// SIGKILL is obeyed at once, but not before kill returns.
func wantNothing(t *testing.T, s string) {
	t.Helper()
	var left []string
	if !soon(func() bool { left = running(t, s); return len(left) == 0 }) {
		t.Errorf("left behind: %q", left)
	}
}

func TestACommandsChildrenEndWithIt(t *testing.T) {
	began := time.Now()
	out, _, err := shell("sleep 60 & echo done").run(t.Context())
	if err != nil || string(out) != "done\n" {
		t.Errorf("%q, %v", out, err)
	}
	if d := time.Since(began); d > patience {
		t.Errorf("a child that held the pipe held us for %v", d)
	}
	wantNothing(t, mark)
}

func TestACancelledCommandIsEndedWithItsWholeGroup(t *testing.T) {
	for name, script := range map[string]string{
		"obedient": "sleep 60 | sleep 60",
		"deaf":     "trap '' TERM; sleep 60 & sleep 60 & while :; do sleep 60; done",
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errTimeout)
		began := time.Now()
		_, _, err := shell(script).run(ctx)
		if !errors.Is(err, errTimeout) {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(began); d > patience {
			t.Errorf("%s: it took %v", name, d)
		}
		cancel()
		wantNothing(t, mark)
	}
}

func TestACommandThatCameTooLateToStartSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTimeout)
	if _, _, err := shell("exit 0").run(ctx); !errors.Is(err, errTimeout) {
		t.Errorf("%v, want %v", err, errTimeout)
	}
}

func TestACommandsOutputIsBounded(t *testing.T) {
	began := time.Now()
	out, stderr, err := shell("yes >&2 & yes").run(t.Context())
	if !errors.Is(err, errOutput) || len(out) > maxOutput || len(stderr) > maxStderr {
		t.Errorf("%d bytes of output, %d of errors, %v", len(out), len(stderr), err)
	}
	if d := time.Since(began); d > 2*patience {
		t.Errorf("it took %v", d)
	}
	wantNothing(t, mark)
}

func TestACommandHasNoTerminalAndNoInput(t *testing.T) {
	out, _, err := shell("cat; (: < /dev/tty) 2> /dev/null && echo terminal; echo end").run(t.Context())
	if err != nil || string(out) != "end\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAServerThatHangsIsLeftWithinTheTimeLimit(t *testing.T) {
	g := modtest.GitServer(t)
	hangs := g.Repo(lib)
	hangs.Commit("main", map[string]string{"go.mod": gomod(lib)})
	hangs.Tag("v1.0.0", "main")
	page := g.Repo(modtest.GitHost + "/team/page")
	page.BreakPage(modtest.GitHang)
	dir := filepath.Join(t.TempDir(), "origin")
	o := start(t, g, func(c *Config) { c.Dir, c.Timeout = dir, time.Second })
	hangs.Break(modtest.GitHang)
	for _, r := range []goproxy.Request{req(goproxy.List, lib, ""), req(goproxy.Zip, lib, "v1.0.0"), req(goproxy.Latest, page.Root, "")} {
		began := time.Now()
		e := getErr(t, o, r.Kind, r.Module.Path, r.Module.Version)
		if e.Cause != Timeout || !errors.Is(e, context.DeadlineExceeded) || !strings.Contains(e.Text, "1s") {
			t.Errorf("%s: %s: %v", r, e.Cause, e)
		}
		if d := time.Since(began); d < time.Second || d > patience {
			t.Errorf("%s: it took %v", r, d)
		}
		wantNothing(t, o.cfg.Dir)
	}
	if jobs, _ := filepath.Glob(filepath.Join(o.run.dir, "job*")); len(jobs) > 0 {
		t.Errorf("left of the jobs: %q", jobs)
	}
	// The clone has not suffered. A second may be too short for a good answer, too.
	hangs.Break("")
	get(t, start(t, g, func(c *Config) { c.Dir = dir }), goproxy.Zip, lib, "v1.0.0")
	wantNothing(t, dir)
}

func TestWhenAllCallersHaveGoneTheirProcessesGo(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Break(modtest.GitHang)
	o := start(t, g, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := fetch(ctx, o, req(goproxy.List, lib, "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	wantNothing(t, o.cfg.Dir)
	// And Close does not wait for a server either.
	done := make(chan error, 1)
	go func() {
		_, err := o.Get(t.Context(), req(goproxy.List, lib, ""))
		done <- err
	}()
	if !soon(func() bool { return len(running(t, o.cfg.Dir)) > 0 }) {
		t.Error("nothing runs for a list")
	}
	began := time.Now()
	o.Close()
	if err := <-done; !errors.Is(err, errClosed) || time.Since(began) > patience {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	wantNothing(t, o.cfg.Dir)
}

// children lists our child processes in the given state.
func children(t *testing.T, state string) (list []string) {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// pid (comm) state ppid …
		_, rest, _ := strings.Cut(string(data), ") ")
		if f := strings.Fields(rest); len(f) > 2 && f[0] == state && f[1] == strconv.Itoa(os.Getpid()) {
			list = append(list, string(data))
		}
	}
	return list
}

func TestAsFirstProcessOfAContainerWeCollectOrphansAndNobodyElsesChildren(t *testing.T) {
	adoptOrphans(t)
	g := modtest.GitServer(t)
	down := g.Repo(lib)
	down.Break(modtest.GitUnavailable)
	o := start(t, g, nil)
	for range 3 {
		// Git dies before its https helper, which becomes ours.
		getErr(t, o, goproxy.List, lib, "")
		shell("sleep 60 & (sleep 60 & sleep 60) & exit 0").run(t.Context())
		// Meanwhile somebody waits for a child of their own.
		cmd := exec.Command("/bin/sh", "-c", "exit 7")
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("the exit status of another command was lost: %v", err)
		}
	}
	var zombies []string
	// Those of the test server itself are on their way out.
	if !soon(func() bool { zombies = children(t, "Z"); return len(zombies) == 0 }) {
		t.Errorf("zombies: %q", zombies)
	}
	wantNothing(t, mark)
}
