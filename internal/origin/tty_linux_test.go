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
	cmd.Env = append(shellEnv, `ORIGIN_TEST_RUN=test -t 0 && test -t 1 && test -t 2 || echo no terminal
		n=0; i=0; trap 'n=1; echo got int' INT; echo ready; while [ $n = 0 ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done
		for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; echo end; exit 9`)
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
	if n := strings.Count(out.String(), "got int"); n != 1 || !strings.Contains(out.String(), "end") || strings.Contains(out.String(), "no terminal") {
		t.Errorf("the child got %d interrupts; the terminal shows\n%s", n, out.String())
	}
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit status %d", code)
	}
}
