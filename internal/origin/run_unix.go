//go:build unix

package origin

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func askToEnd(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// passOn reports whether a signal that we got is one that a child in our
// process group has not got.
func passOn(s os.Signal) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP:
		return !foreground()
	case syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG:
		return false // about us alone; SIGURG is the Go runtime's own
	}
	return true
}

// foreground reports whether we have a terminal, and its keys send their
// signals to our process group.
func foreground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitStatus is s as a shell would put it.
func exitStatus(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
