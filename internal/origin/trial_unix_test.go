//go:build unix

package origin

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func trial(script string, out *bytes.Buffer) Child {
	c := sh(script)
	c.Environ = append(c.Environ, "MARK="+mark)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader("not for it\n"), out, out
	return c
}

func TestATrialHasItsOwnExitStatusAndNoTerminalAndLeavesNothing(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0": 0, "exit 3": 3, "kill -KILL $$": 128 + 9,
		"sleep 60 & exit 4": 4,
		"cat; (: < /dev/tty) 2> /dev/null && echo terminal; exit 5": 5,
	} {
		var out bytes.Buffer
		if exit, err := Trial(t.Context(), trial(script, &out)); exit != want || err != nil || out.Len() > 0 {
			t.Errorf("%s: %d, %v, %q; want %d", script, exit, err, &out, want)
		}
		wantNothing(t, mark)
	}
	if exit, err := Trial(t.Context(), Child{Args: []string{"no-such-command"}, Environ: shellEnv}); exit != exitNotFound || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("no command: %d, %v", exit, err)
	}
	if exit, err := Trial(t.Context(), Child{Args: []string{"./nope"}, Environ: shellEnv, Dir: t.TempDir()}); exit != exitNotFound || err == nil {
		t.Errorf("no file: %d, %v", exit, err)
	}
}

func TestATrialEndsWithItsContextAndAllThatItStarted(t *testing.T) {
	stop := errors.New("stop")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, stop)
	defer cancel()
	var out bytes.Buffer
	if exit, err := Trial(ctx, trial("sleep 60 & sleep 60 | sleep 60", &out)); exit == 0 || !errors.Is(err, stop) {
		t.Errorf("%d, %v", exit, err)
	}
	wantNothing(t, mark)
}

func TestATrialDiesWithUs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this test needs Linux, where the kernel can do that")
	}
	us := exec.Command(os.Args[0])
	us.Env = append(shellEnv, "ORIGIN_TEST_TRIAL=echo ready; exec sleep 60", "MARK="+mark)
	out, err := us.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := us.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 16)) // ready, and about to become sleep
	if !soon(func() bool {
		return slices.ContainsFunc(running(t, mark), func(p string) bool { return strings.HasSuffix(p, " sleep 60 ") })
	}) {
		t.Errorf("it does not run, but %q", running(t, mark))
	}
	us.Process.Kill()
	us.Wait()
	wantNothing(t, mark)
}
