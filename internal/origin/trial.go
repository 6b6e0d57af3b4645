package origin

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
)

// Trial runs c and waits for it, as Run does and with the same exit statuses and
// errors, but in no one's place: as a process by itself, in a session of its own,
// without a terminal to ask at and without standard input. All that it started
// ends when it ends, when ctx does, and on Linux also the command itself when we
// are killed. c's Stdin and Signals are not used.
func Trial(ctx context.Context, c Child) (exit int, err error) {
	// The kernel takes the end of the thread that started a child for that of its
	// parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, exit, err := c.command(ctx)
	if err != nil {
		return exit, err
	}
	cmd.WaitDelay = pipeGrace
	g := newGroup(cmd)
	g.dieWithUs()
	defer g.close()
	if err := g.start(); err != nil {
		return c.notStarted(ctx, cmd, err)
	}
	err = cmd.Wait()
	g.end(ctx.Err() != nil)
	exit = exitStatus(cmd.ProcessState)
	if _, ok := errors.AsType[*exec.ExitError](err); ok || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return exit, err
}
