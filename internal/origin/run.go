package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// childGrace is how long a child has to end by itself after its context did:
// long enough for a go command to remove its work directories.
const childGrace = 10 * time.Second

// Exit statuses of Run for a command that never ran; shells use the same.
const (
	exitCannotStart = 126
	exitNotFound    = 127
)

// A Child is a command that runs in our place, as far as that can be: in our
// terminal and process group, with our streams.
type Child struct {
	Args    []string // the command and its arguments; a name without a slash is looked for on the PATH of Environ
	Environ []string // its whole environment; Run reads no other
	Dir     string   // its working directory; "" is ours

	// An *os.File is handed to the child as it is, so that a terminal stays a
	// terminal. Anything else goes through a pipe; nil is the null device.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Signals are those that we get while the child runs, as signal.Notify
	// delivers them; Run passes them on. Those of the keyboard (SIGINT, SIGQUIT,
	// SIGTSTP) are an exception: a terminal sends them to its whole foreground
	// group, so while we are in it the child has them already, and twice would
	// be once too often (it means "now, without cleaning up" to many programs).
	Signals <-chan os.Signal
}

// Run runs c and waits for it. The exit status is the child's own, 128+n if
// signal n ended it, 127 if there is no such command and 126 if it could not be
// started; in the last two cases err says why in a sentence. When ctx ends, the
// child is asked to end (SIGTERM; on Windows it is killed), and killed ten
// seconds later; err is then ctx's cause.
func Run(ctx context.Context, c Child) (exit int, err error) {
	cmd, exit, err := c.command(ctx)
	if err != nil {
		return exit, err
	}
	cmd.Stdin = c.Stdin
	cmd.Cancel = func() error { return askToEnd(cmd.Process) }
	cmd.WaitDelay = childGrace
	if err := cmd.Start(); err != nil {
		return c.notStarted(ctx, cmd, err)
	}

	ended := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		signals := c.Signals
		for {
			select {
			case s, ok := <-signals:
				if !ok {
					signals = nil
				} else if passOn(s) {
					cmd.Process.Signal(s) // the child may just have ended
				}
			case <-ended:
				return
			}
		}
	})
	err = cmd.Wait()
	close(ended)
	passing.Wait()

	exit = exitStatus(cmd.ProcessState)
	if _, ok := errors.AsType[*exec.ExitError](err); ok || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ctx.Err() != nil && exit != 0 {
		err = context.Cause(ctx)
	}
	return exit, err
}

// inDir is the file that p names in dir.
func inDir(dir, p string) string {
	if dir == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

// command is c, found and ready to start, or why it cannot be.
func (c *Child) command(ctx context.Context) (_ *exec.Cmd, exit int, err error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return nil, exitNotFound, errors.New("no command was given to run")
	}
	name := c.Args[0]
	if c.Dir != "" {
		if fi, err := os.Stat(c.Dir); err != nil || !fi.IsDir() {
			return nil, exitCannotStart, fmt.Errorf("%s cannot be run in %s, which is no directory", name, c.Dir)
		}
	}
	p := name
	if !strings.ContainsRune(name, filepath.Separator) && !(runtime.GOOS == "windows" && strings.ContainsAny(name, `/:`)) {
		p, err = lookPath(getenv(c.Environ, "PATH"), name)
		if errors.Is(err, fs.ErrPermission) {
			return nil, exitCannotStart, fmt.Errorf("%s cannot be run: %w", name, err)
		} else if err != nil {
			return nil, exitNotFound, fmt.Errorf("there is no command %q on the PATH: %w", name, err)
		}
	}
	cmd := exec.CommandContext(ctx, p)
	cmd.Args = c.Args
	cmd.Env = c.Environ
	cmd.Dir = c.Dir
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	return cmd, 0, nil
}

// notStarted is the exit status and the sentence for err of cmd.Start.
func (c *Child) notStarted(ctx context.Context, cmd *exec.Cmd, err error) (exit int, _ error) {
	if ctx.Err() != nil {
		return exitCannotStart, context.Cause(ctx)
	}
	if _, statErr := os.Stat(inDir(c.Dir, cmd.Path)); errors.Is(statErr, fs.ErrNotExist) {
		return exitNotFound, fmt.Errorf("there is no command %s: %w", c.Args[0], err)
	}
	return exitCannotStart, fmt.Errorf("%s cannot be started: %w", c.Args[0], err)
}
