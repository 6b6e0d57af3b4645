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

// end ends what is left of the group after its leader has been waited for; it
// returns when nothing is. The kernel gives no process the id of a group that
// has members, so this hits nobody else.
//
// Where we are the first process of a container, orphans become our children:
// end collects those of this group, and of no other, or their exit statuses
// would be stolen from whoever waits for them.
func (g *group) end(told bool) {
	pid := g.cmd.Process.Pid
	start := time.Now()
	for {
		for {
			if p, err := syscall.Wait4(-pid, nil, syscall.WNOHANG, nil); p <= 0 && err != syscall.EINTR {
				break
			}
		}
		since := time.Since(start)
		sig := syscall.SIGKILL
		if told && since < killGrace {
			sig = 0 // it has had its SIGTERM, and some time to obey
		}
		// A second after the SIGKILL, what remains are zombies of a first
		// process that does not collect them.
		if syscall.Kill(-pid, sig) != nil || since > killGrace+time.Second {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (g *group) close() {}
