//go:build unix

package main

import (
	"os/exec"
	"syscall"
	"time"
)

// ownGroup gives the child a process group, to be stopped as a whole: go test
// starts tests, and these start servers. They may tidy up before they are killed.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		time.AfterFunc(graceful, func() { syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}
	cmd.WaitDelay = graceful + time.Second
}
