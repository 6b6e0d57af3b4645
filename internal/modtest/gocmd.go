package modtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// goBudget is the longest that one run of the go command may take.
const goBudget = 5 * time.Minute

// goFacts finds the go command and the build cache of whoever runs the test.
var goFacts = sync.OnceValues(func() (bin, cache string) {
	bin, err := exec.LookPath("go")
	if err != nil {
		return "", ""
	}
	out, err := exec.Command(bin, "env", "GOCACHE").Output()
	if err != nil {
		return "", ""
	}
	return bin, strings.TrimSpace(string(out))
})

// GoEnv is the whole environment of a new client of goproxy and gosumdb: an
// empty HOME and module cache, no settings of whoever runs the test, nothing
// private, no prompts, no other toolchain, no telemetry. Only the build cache is
// shared, because it is keyed by content. The extra settings ("GOPRIVATE=…") win.
func GoEnv(t testing.TB, goproxy, gosumdb string, extra ...string) []string {
	t.Helper()
	bin, cache := goFacts()
	Need(t, "the go command (not in PATH)", bin != "")
	home := t.TempDir()
	// GOTELEMETRY cannot be set in the environment. Left on, a process of its
	// own may still write below HOME when the test removes it.
	mode := filepath.Join(home, ".config", "go", "telemetry", "mode")
	if err := os.MkdirAll(filepath.Dir(mode), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mode, []byte("off"), 0o666); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"USERPROFILE=" + home,
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"),
		"GOPATH=" + filepath.Join(home, "go"),
		"GOMODCACHE=" + filepath.Join(home, "go", "pkg", "mod"),
		"GOCACHE=" + cache,
		"GOENV=off",
		"GOFLAGS=-modcacherw",
		"GOTOOLCHAIN=local",
		"GOWORK=off",
		"GOPROXY=" + goproxy,
		"GOSUMDB=" + gosumdb,
		"GOPRIVATE=",
		"GONOPROXY=",
		"GONOSUMDB=",
		"GOINSECURE=",
		"GOAUTH=off",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_CONFIG_NOSYSTEM=1",
		"LC_ALL=C",
	}
	for _, k := range []string{"TMPDIR", "TEMP", "TMP", "SystemRoot"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return append(env, extra...)
}

// EnvValue is the value that k has in env, the last one given.
func EnvValue(env []string, k string) string {
	var v string
	for _, kv := range env {
		if key, val, ok := strings.Cut(kv, "="); ok && key == k {
			v = val
		}
	}
	return v
}

// Go runs the real go command in dir, an empty directory if dir is "", and
// returns what it said and its exit status. A run that ends in no status of its
// own, or not within five minutes, fails the test.
func Go(t testing.TB, env []string, dir string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	bin, _ := goFacts()
	Need(t, "the go command (not in PATH)", bin != "")
	if dir == "" {
		dir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), goBudget)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Env = dir, append(env[:len(env):len(env)], "PWD="+dir)
	cmd.WaitDelay = 5 * time.Second // for children that hold the pipes
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.Exited() {
		return out.String(), errb.String(), e.ExitCode()
	}
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &errb)
	}
	return out.String(), errb.String(), 0
}
