//go:build !unix

package main

import (
	"os/exec"
	"time"
)

// ownGroup leaves the child in this process's group, which a Ctrl-C reaches.
func ownGroup(cmd *exec.Cmd) { cmd.WaitDelay = 5 * time.Second }
