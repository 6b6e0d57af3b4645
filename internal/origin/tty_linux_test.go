package origin

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A ^C at the terminal reaches the child by itself. It must not get it a second
// time from us; the same signal from elsewhere, it gets from nobody else.
func TestRunDoesNotDoubleTheInterruptOfATerminal(t *testing.T) {
	// Two that come while a child has no turn are one to it: one that gets none from
	// the terminal must get none at all.
	for group, want := range map[string]int{"ours": 1, "own": 0} {
		out, exit := interruptAtTerminal(t, group)
		if n := strings.Count(out, "got int"); n != want || !strings.Contains(out, "end") || strings.Contains(out, "no terminal") {
			t.Errorf("in a group of %s, the child got %d interrupts, not %d; the terminal shows\n%s", group, n, want, out)
		}
		if exit != 9 {
			t.Errorf("exit status %d", exit)
		}
	}
}

// interruptAtTerminal has Run run countInterrupts at a terminal, and types ^C there.
func interruptAtTerminal(t *testing.T, group string) (shown string, exit int) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this test needs a pseudo-terminal:", err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this test needs a pseudo-terminal:", err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(shellEnv, "ORIGIN_TEST_RUN=test -t 0 && test -t 1 && test -t 2 || echo no terminal\nORIGIN_TEST_RUN= ORIGIN_TEST_COUNT="+group+" exec '"+os.Args[0]+"'")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var out strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		pressed := false
		buf := make([]byte, 1<<10)
		for {
			n, err := master.Read(buf)
			out.Write(buf[:n])
			if err != nil {
				return // EIO once the last user of the terminal has gone
			}
			if !pressed && strings.Contains(out.String(), "ready") {
				pressed = true
				io.WriteString(master, "\x03")
			}
		}
	}()
	cmd.Wait()
	<-read
	return out.String(), cmd.ProcessState.ExitCode()
}
