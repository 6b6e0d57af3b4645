//go:build linux

package e2e_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

// A session is a command of the program in a session of its own, as a login or a
// CI job has it: on a terminal, or on pipes.
type session struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *logBuffer
	tty  *os.File // the terminal's other side; nil without one
	end  chan struct{}
}

// begin starts the program in dir. With columns it gets a terminal of that width,
// else pipes.
func begin(t *testing.T, env []string, dir string, columns int, args ...string) *session {
	t.Helper()
	s := &session{t: t, cmd: exec.Command(program, args...), said: newLogBuffer(), end: make(chan struct{})}
	s.cmd.Env, s.cmd.Dir = env, dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var slave *os.File
	if columns > 0 {
		s.tty, slave = openTerminal(t, columns)
		s.cmd.Env = append(s.cmd.Env, "TERM=xterm")
		s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
		s.cmd.SysProcAttr.Setctty = true
	} else {
		s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
		s.cmd.WaitDelay = 30 * time.Second // somebody left behind may keep them open
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	if s.tty == nil {
		close(read)
	} else {
		slave.Close()
		go func() {
			defer close(read)
			io.Copy(s.said, s.tty) // until the last process with the terminal is gone
		}()
	}
	go func() {
		defer close(s.end)
		s.cmd.Wait()
		<-read
	}()
	t.Cleanup(func() {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.end
		if s.tty != nil {
			s.tty.Close()
		}
	})
	return s
}

// openTerminal makes a pseudo-terminal, and gives both its sides.
func openTerminal(t *testing.T, columns int) (master, slave *os.File) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			modtest.Need(t, "a pseudo-terminal ("+err.Error()+")", false)
		}
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	fail(err)
	fd := int(master.Fd())
	fail(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	fail(err)
	fail(unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}))
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	fail(err)
	return master, slave
}

// await waits for the program to say something.
func (s *session) await(re string) {
	s.t.Helper()
	if _, err := s.said.await(regexp.MustCompile(re), s.end); err != nil {
		s.t.Fatal(err)
	}
}

// wait waits for the end, and expects that nothing of the session is left.
func (s *session) wait() (status int) {
	s.t.Helper()
	select {
	case <-s.end:
	case <-time.After(patience):
		s.t.Fatalf("it does not end; it said\n%s", s.said)
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		s.t.Errorf("a process of its group is left behind: %v", err)
	}
	if s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		return 128 + int(s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
	return s.cmd.ProcessState.ExitCode()
}

// newProject is a tidy program with the graph's modules, none of which this user
// has.
func newProject(t *testing.T) (src *source, dir string, env []string) {
	src = newGraph(t)
	dir = newApp(t)
	mustGo(t, modtest.GoEnv(t, src.URL, "off"), dir, "mod", "tidy")
	env = modtest.GoEnv(t, src.URL, src.DB.GOSUMDB(""))
	tmp := filepath.Join(modtest.EnvValue(env, "HOME"), "tmp")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, kv := range src.env {
		if strings.HasPrefix(kv, "SLUICE_") {
			env = append(env, kv)
		}
	}
	return src, dir, append(env, "TMPDIR="+tmp)
}

// checkNothingLeft looks for what a run may have left besides what is stored.
func checkNothingLeft(t *testing.T, env []string) {
	t.Helper()
	home := modtest.EnvValue(env, "HOME")
	if left := leftBehind(t, filepath.Join(home, ".cache", "sluice", ".sluice", "tmp")); len(left) > 0 {
		t.Errorf("left behind in .sluice/tmp: %v", left)
	}
	if left := leftBehind(t, filepath.Join(home, "tmp")); len(left) > 0 {
		t.Errorf("left behind in TMPDIR: %v", left)
	}
}

func TestRunShowsABarOnATerminalAndPlainLinesElsewhere(t *testing.T) {
	src, dir, env := newProject(t)
	s := begin(t, env, dir, 80, "run", "--", "go", "run", ".")
	if status := s.wait(); status != 0 {
		t.Fatalf("status %d\n%s", status, s.said)
	}
	text := s.said.String()
	for _, want := range []string{`\r\x1b\[Ksluice: \[ {30}\] 0/\d+ files, 0 KiB`, `\[=+ *\] \d+/\d+ files`, `\x1b\[Ksluice: (\d+ files fetched ahead, .* in \d|\d+ of \d+ files are here; the others come)`, `size \d+\r\n$`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("nothing like %s in\n%q", want, text)
		}
	}
	left, _, _ := strings.Cut(text[strings.LastIndex(text, "\x1b[K"):], "\n")
	if !strings.Contains(left, "fetched ahead") && !strings.Contains(left, "the others come") { // a slow machine starts the command first
		t.Errorf("a bar is left above the command's own words: %q", left)
	}
	checkNothingLeft(t, env)

	// Nobody watches a pipe: no control characters, and not a line for each file.
	stored := filepath.Join(modtest.EnvValue(env, "HOME"), ".cache", "sluice")
	for _, d := range []string{stored, modtest.EnvValue(env, "GOMODCACHE")} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	s = begin(t, env, dir, 0, "run", "--", "go", "build", "-o", os.DevNull, ".")
	if status := s.wait(); status != 0 {
		t.Fatalf("status %d\n%s", status, s.said)
	}
	text = s.said.String()
	if strings.ContainsAny(text, "\r\x1b[") {
		t.Errorf("control characters on a pipe: %q", text)
	}
	if n := strings.Count(text, "sluice: "); n < 2 || n > 12 { // the first, the last, and one in three seconds
		t.Errorf("%d lines of progress, want a few\n%s", n, text)
	}

	// Dumb terminals get plain lines too, and narrow ones a bar that fits.
	os.RemoveAll(stored)
	os.RemoveAll(modtest.EnvValue(env, "GOMODCACHE"))
	s = begin(t, env, dir, 40, "run", "--", "go", "build", "-o", os.DevNull, ".")
	s.wait()
	for part := range strings.SplitSeq(s.said.String(), "\r\x1b[K") {
		if bar, _, _ := strings.Cut(part, "\r"); strings.Contains(bar, "/") && strings.Contains(bar, " files, ") && len(bar) >= 40 {
			t.Errorf("a bar of %d characters on a terminal of 40: %q", len(bar), bar)
		}
	}
	src.Stop()
}

// trap is a command that says when it is up, and how often it was interrupted.
const trap = `trap 'n=$((n+1)); echo got $n' INT TERM HUP; echo up; while [ -z "$n" ]; do sleep 0.02; done; sleep 0.3; exit $((40+n))`

func TestRunHandsSignalsToItsCommandOnce(t *testing.T) {
	_, dir, env := newProject(t)
	for _, tt := range []struct {
		name    string
		columns int
		send    func(*session)
	}{
		{"SIGINT from another process", 0, func(s *session) { s.cmd.Process.Signal(os.Interrupt) }},
		{"SIGTERM from another process", 0, func(s *session) { s.cmd.Process.Signal(syscall.SIGTERM) }},
		{"SIGHUP from another process", 0, func(s *session) { s.cmd.Process.Signal(syscall.SIGHUP) }},
		{"SIGTERM on a terminal", 80, func(s *session) { s.cmd.Process.Signal(syscall.SIGTERM) }},
		{"Ctrl-C on a terminal", 80, func(s *session) { s.tty.WriteString("\x03") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := begin(t, env, dir, tt.columns, "run", "--no-prefetch", "--", "sh", "-c", trap)
			s.await(`up\r?\n`)
			tt.send(s)
			if status := s.wait(); status != 41 {
				t.Errorf("status %d, want the command's own, 41 for one signal\n%s", status, s.said)
			}
			checkNothingLeft(t, env)
		})
	}
}

func TestACommandThatDiesOfASignalIsToldByTheStatus(t *testing.T) {
	_, dir, env := newProject(t)
	s := begin(t, env, dir, 0, "run", "--no-prefetch", "--", "sh", "-c", "echo up; exec sleep 100")
	s.await(`up\n`)
	s.cmd.Process.Signal(syscall.SIGTERM)
	if status := s.wait(); status != 128+15 {
		t.Errorf("status %d, want 143", status)
	}
}

func TestAnInterruptWhileFetchingAheadStartsNothing(t *testing.T) {
	_, dir, env := newProject(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	swallowed := make(chan struct{})
	go func() {
		defer close(swallowed)
		faults.BlackHole(t.Context(), ln)
	}()
	t.Cleanup(func() { <-swallowed })
	// Who waits for the source waits longer than the test.
	env = append(env, "SLUICE_PROXY=http://"+ln.Addr().String(), "SLUICE_SOURCES_TIMEOUT=1h")
	for _, tt := range []struct {
		name    string
		columns int
		send    func(*session)
		status  int
	}{
		{"SIGINT", 0, func(s *session) { s.cmd.Process.Signal(os.Interrupt) }, 130},
		{"SIGTERM", 0, func(s *session) { s.cmd.Process.Signal(syscall.SIGTERM) }, 143},
		{"SIGHUP", 0, func(s *session) { s.cmd.Process.Signal(syscall.SIGHUP) }, 129},
		{"Ctrl-C on a terminal", 80, func(s *session) { s.tty.WriteString("\x03") }, 130},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ran := filepath.Join(t.TempDir(), "ran")
			s := begin(t, env, dir, tt.columns, "run", "--", "touch", ran)
			s.await(`sluice: fetching \d+ files ahead|0/\d+ files`)
			tt.send(s)
			if status := s.wait(); status != tt.status {
				t.Errorf("status %d, want %d\n%s", status, tt.status, s.said)
			}
			if !strings.Contains(s.said.String(), "sluice: interrupted") {
				t.Errorf("it did not say that it was interrupted: %q", s.said)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the command was started")
			}
			checkNothingLeft(t, env)
		})
	}
}

func TestASlowSourceDoesNotKeepTheCommandWaiting(t *testing.T) {
	_, dir, env := newProject(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	swallowed := make(chan struct{})
	go func() {
		defer close(swallowed)
		faults.BlackHole(t.Context(), ln)
	}()
	t.Cleanup(func() { <-swallowed })
	s := begin(t, append(env, "SLUICE_PROXY=http://"+ln.Addr().String(), "SLUICE_SOURCES_TIMEOUT=1h"), dir, 0, "run", "--", "echo", "started")
	if status := s.wait(); status != 0 {
		t.Errorf("status %d\n%s", status, s.said)
	}
	if !strings.Contains(s.said.String(), "so the command is started") {
		t.Errorf("it said\n%s", s.said)
	}
	checkNothingLeft(t, env)
}
