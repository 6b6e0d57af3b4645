//go:build unix

package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
)

var shellEnv = []string{"PATH=/usr/bin:/bin"}

func sh(script string) Child {
	return Child{Args: []string{"sh", "-c", script}, Environ: shellEnv}
}

// TestMain plays the part of `sluice run` in a terminal, if it is told so.
func TestMain(m *testing.M) {
	if script := os.Getenv("ORIGIN_TEST_RUN"); script != "" {
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		c := sh(script)
		c.Stdin, c.Stdout, c.Stderr, c.Signals = os.Stdin, os.Stdout, os.Stderr, signals
		exit, err := Run(context.Background(), c)
		if err != nil {
			fmt.Println(err)
		}
		os.Exit(exit)
	}
	if group := os.Getenv("ORIGIN_TEST_COUNT"); group != "" {
		countInterrupts(group)
	}
	if script := os.Getenv("ORIGIN_TEST_TRIAL"); script != "" {
		c := sh(script)
		c.Environ, c.Stdout = append(c.Environ, "MARK="+os.Getenv("MARK")), os.Stdout
		exit, _ := Trial(context.Background(), c)
		os.Exit(exit)
	}
	os.Exit(m.Run())
}

// countInterrupts tells of each interrupt, and ends some time after the first; in a
// group of its own, where the terminal's do not come, it ends without any.
func countInterrupts(group string) {
	interrupts := make(chan os.Signal, 8)
	signal.Notify(interrupts, os.Interrupt)
	after := 2 * patience
	if group == "own" {
		after = time.Second
		if err := syscall.Setpgid(0, 0); err != nil {
			fmt.Println(err)
		}
	}
	for fmt.Println("ready"); ; after = time.Second {
		select {
		case <-interrupts:
			fmt.Println("got int")
		case <-time.After(after):
			fmt.Println("end")
			os.Exit(9)
		}
	}
}

func TestRunKeepsTheExitStatus(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0":        0,
		"exit 3":        3,
		"kill -TERM $$": 128 + 15,
		"kill -KILL $$": 128 + 9,
		"exit 127":      127,
	} {
		if exit, err := Run(t.Context(), sh(script)); exit != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", script, exit, err, want)
		}
	}
}

func TestWhatAChildOfRunLeavesBehindIsItsOwnAffair(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c := sh("sleep 60 & echo $!; exit 4")
	c.Stdout = out
	if exit, err := Run(t.Context(), c); exit != 4 || err != nil {
		t.Errorf("%d, %v; want 4", exit, err)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	// Its number, not its environment, which nobody can read while it is being
	// replaced by sleep's.
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil || pid <= 1 {
		t.Fatalf("%q: %v", data, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("it does not run any more: %v", err)
	}
}

func TestRunSaysWhyACommandCannotBeRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	plain := write("plain", "text", 0o666)
	noInterpreter := write("script", "#!/no/such/interpreter\n", 0o777)
	for _, test := range []struct {
		c    Child
		exit int
		text string
		is   error
	}{
		{Child{}, 127, "no command", nil},
		{Child{Args: []string{"no-such-command"}, Environ: shellEnv}, 127, `no command "no-such-command" on the PATH`, exec.ErrNotFound},
		{Child{Args: []string{"sh"}, Environ: []string{"PATH=.:bin"}}, 127, "on the PATH", exec.ErrNotFound},
		{Child{Args: []string{"./nope"}, Environ: shellEnv, Dir: dir}, 127, "no command ./nope", fs.ErrNotExist},
		{Child{Args: []string{"./plain"}, Environ: shellEnv, Dir: dir}, 126, "cannot be started", fs.ErrPermission},
		{Child{Args: []string{"plain"}, Environ: []string{"PATH=" + dir}}, 126, plain, fs.ErrPermission},
		{Child{Args: []string{noInterpreter}, Environ: shellEnv}, 126, "cannot be started", nil},
		{Child{Args: []string{"sh"}, Environ: shellEnv, Dir: filepath.Join(dir, "gone")}, 126, "is no directory", nil},
	} {
		exit, err := Run(t.Context(), test.c)
		if exit != test.exit || err == nil || !strings.Contains(err.Error(), test.text) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%q: %d, %v; want %d, %q", test.c.Args, exit, err, test.exit, test.text)
		}
	}
}

func TestRunHandsOverStreamsDirectoryAndEnvironment(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var stderr bytes.Buffer
	c := sh(`cat; pwd; echo "$A"; readlink /proc/self/fd/1; echo oops >&2`)
	c.Dir, c.Environ = dir, append(c.Environ, "A=b c")
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader("in\n"), out, &stderr
	if exit, err := Run(t.Context(), c); exit != 0 || err != nil {
		t.Fatal(exit, err)
	}
	have, _ := os.ReadFile(out.Name())
	if want := "in\n" + dir + "\nb c\n"; !strings.HasPrefix(string(have), want) || stderr.String() != "oops\n" {
		t.Errorf("out %q, err %q", have, stderr.String())
	}
	if rest := strings.TrimSpace(string(have[len("in\n"+dir+"\nb c\n"):])); rest != "" && rest != out.Name() {
		t.Errorf("the child's output is %s, not the file %s", rest, out.Name())
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1} {
		if signal.Ignored(s) {
			continue // as under nohup: a shell cannot trap it then
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal, 1)
		c := sh(`trap 'exit 42' TERM HUP USR1; echo ready; while :; do sleep 0.05; done`)
		c.Stdout, c.Signals = w, signals
		go func() {
			r.Read(make([]byte, 16))   // ready
			signals <- syscall.SIGCHLD // is not for the child
			signals <- s
			close(signals)
		}()
		if exit, err := Run(t.Context(), c); exit != 42 || err != nil {
			t.Errorf("%v: %d, %v", s, exit, err)
		}
		w.Close()
		r.Close()
	}
}

func TestRunEndsTheChildWithItsContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		r.Read(make([]byte, 16)) // ready: from here on, it has its trap
		cancel(stop)
	}()
	c := sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
	c.Stdout = w
	began := time.Now()
	exit, err := Run(ctx, c)
	if exit != 5 || !errors.Is(err, stop) || time.Since(began) > patience {
		t.Errorf("after %v: %d, %v", time.Since(began), exit, err)
	}
}

func TestFindGoLooksOnTheGivenPathOnly(t *testing.T) {
	empty := t.TempDir()
	if p, err := FindGo(empty + string(filepath.ListSeparator) + "relative"); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "install Go") {
		t.Errorf("%q, %v", p, err)
	}
	want := filepath.Join(empty, "go")
	if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if p, err := FindGo("/no/such/dir:" + empty); p != want || err != nil {
		t.Errorf("%q, %v", p, err)
	}
}

func TestGoEnvReportsTheSettingsOfADirectoryWithoutSwitchingToolchains(t *testing.T) {
	modtest.GitNeed(t, "go")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/a\n\ngo 1.999\n\ntoolchain go1.999.1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GOENV=off", "GOPROXY=https://proxy.example.com|off", "GOTOOLCHAIN=go1.999.1+auto", "GOPRIVATE=*.corp.example"}
	m, err := GoEnv(t.Context(), "", environ, dir, "GOPROXY", "GOPRIVATE", "GOTOOLCHAIN", "GOMOD", "GOSUMDB")
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"GOPROXY": "https://proxy.example.com|off", "GOPRIVATE": "*.corp.example", "GOTOOLCHAIN": "go1.999.1+auto",
		"GOMOD": filepath.Join(dir, "go.mod"), "GOSUMDB": "sum.golang.org",
	} {
		if m[k] != want {
			t.Errorf("%s is %q, want %q", k, m[k], want)
		}
	}
	if m, err := GoEnv(t.Context(), "", environ, dir); err != nil || m["GOTOOLCHAIN"] != "go1.999.1+auto" || m["GOROOT"] == "" {
		t.Errorf("all settings: %v, %v", m, err)
	}
	if v, err := GoVersion(t.Context(), "", environ); err != nil || !strings.HasPrefix(v, "go1.") {
		t.Errorf("version %q, %v", v, err)
	}
	if _, err := GoEnv(t.Context(), filepath.Join(dir, "no-go"), environ, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a go command: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := GoEnv(ctx, "", environ, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
