package origin

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"time"
)

const (
	// killGrace is how long a process group has, once told to end, before it is
	// made to. Git uses it to remove its lock files from a clone.
	killGrace = 500 * time.Millisecond
	// pipeGrace is how long a grandchild may go on holding the pipes of a
	// command that has ended.
	pipeGrace = 2 * time.Second

	maxOutput = 64 << 20 // bytes of standard output kept; a list of 32 MiB is the largest answer
	maxStderr = 64 << 10
)

// A command is one process to be run by itself: in a session of its own, so
// that it has no terminal to ask at, without standard input, and with all that
// it started ended when it ends.
type command struct {
	path string
	args []string
	dir  string
	env  []string
	out  io.Writer // standard output; nil: kept in memory, bounded
}

var errOutput = errors.New("the command printed more than it may")

// run runs c until it ends or ctx does. The error is ctx's cause, errOutput, or
// that of exec.Cmd.Wait.
func (c *command) run(ctx context.Context) (stdout, stderr []byte, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	outBuf := &bounded{most: maxOutput, full: func() { cancel(errOutput) }}
	errBuf := &bounded{most: maxStderr}
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Dir = c.dir
	cmd.Env = c.env
	cmd.Stdout = outBuf
	if c.out != nil {
		cmd.Stdout = c.out
	}
	cmd.Stderr = errBuf
	cmd.WaitDelay = pipeGrace
	g := newGroup(cmd)
	defer g.close()
	if err := g.start(); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = context.Cause(ctx) // it ended before there was a process
		}
		return nil, nil, err
	}
	err = cmd.Wait()
	g.end(ctx.Err() != nil)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well, and only a child of its was still holding the pipe
	}
	return outBuf.data, errBuf.data, err
}

// bounded keeps the first bytes written to it and forgets the rest.
type bounded struct {
	data []byte
	most int
	full func() // called when there is a rest; may be nil
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.most - len(b.data)
	if len(p) > room {
		b.data = append(b.data, p[:room]...)
		if b.full != nil {
			b.full()
		}
		return len(p), nil // the writer must not fail of it, or die of a broken pipe
	}
	b.data = append(b.data, p...)
	return len(p), nil
}
