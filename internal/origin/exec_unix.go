//go:build unix

package origin

import (
	"os/exec"
	"syscall"
	"time"
)

// A group is a command and all processes that it starts, short of those that
// make a session of their own (Git does so for `gc --auto`, which is off).
type group struct{ cmd *exec.Cmd }

func newGroup(cmd *exec.Cmd) *group {
	// A session of its own is also a process group of its own, with the
	// process's id, and has no terminal: nothing below can ask for a password.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return &group{cmd}
}

func (g *group) start() error { return g.cmd.Start() }

// end ends what is left of the group after its leader has been waited for. If
// the group was told to end, it has a moment to do so by itself. The kernel gives
// no process the id of a group that has members, so this hits nobody else.
//
// Where orphans become our children, end collects those of this group; and of
// no other, or their exit statuses would be stolen from whoever waits for them.
func (g *group) end(told bool) {
	pid := g.cmd.Process.Pid
	for start := time.Now(); told && time.Since(start) < killGrace; time.Sleep(pollEvery) {
		collect(pid)
		if syscall.Kill(-pid, 0) != nil {
			return
		}
	}
	// What is left after the SIGKILL are zombies, for their parents to collect.
	for start := time.Now(); syscall.Kill(-pid, syscall.SIGKILL) == nil && adopts() && time.Since(start) < pipeGrace; time.Sleep(pollEvery) {
		collect(pid)
	}
}

const pollEvery = 2 * time.Millisecond

// collect waits for those of our children that are in this process group and dead.
func collect(group int) {
	for {
		if p, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil); p <= 0 && err != syscall.EINTR {
			return
		}
	}
}

func (g *group) close() {}
