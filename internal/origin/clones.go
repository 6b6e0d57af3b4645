package origin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The work directory:
//
//	run/NAME.lock      held exclusively by a living process
//	run/NAME/          that process's jobs and kept files
//	clones/N.lock      held shared by every running job that uses clones/N
//	clones/N/          repositories, as the go command keeps them in cache/vcs
//
// A clone must never go away under a running git: the go command takes any
// failure of `git cat-file` for "there is no go.mod", and would make one up.
// So clones are not removed singly. They live in generations; new jobs use the
// highest N, and an older one is removed as a whole when its last job has ended.

// A lease is a lock on something in the work directory. The system lets go of
// it when the process dies, however it dies.
type lease struct {
	lock *os.File
	dir  string // what is leased: the lock's name without .lock
}

// take locks dir+".lock", making it if need be. ok is false if somebody else
// holds it in a way that does not allow this; take does not wait.
func take(dir string, exclusive bool) (l *lease, ok bool, err error) {
	for range 100 {
		f, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, false, err
		}
		ok, err := lockFile(f, exclusive)
		if err != nil || !ok {
			f.Close()
			return nil, false, err
		}
		// Whoever held it may have removed the file as we opened it.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(dir + ".lock")
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &lease{lock: f, dir: dir}, true, nil
		}
		f.Close()
	}
	return nil, false, fmt.Errorf("%s.lock is being removed as fast as we make it", dir)
}

// release gives the lease back and leaves what it was on.
func (l *lease) release() { l.lock.Close() }

// remove removes what l, which must be exclusive, is a lease on.
func (l *lease) remove() error {
	err := os.RemoveAll(l.dir)
	if err == nil {
		err = os.Remove(l.lock.Name())
	}
	l.lock.Close()
	if err != nil && os.Remove(l.lock.Name()) == nil {
		err = nil // Windows removes no open file
	}
	return err
}

// newRun makes this process's directory.
func newRun(dir string) (*lease, error) {
	for n := range 1000 {
		name := filepath.Join(dir, fmt.Sprintf("%d-%d-%d", os.Getpid(), time.Now().UnixNano(), n))
		l, ok, err := take(name, true)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue // somebody sweeps it already
		}
		if err := os.Mkdir(name, 0o700); err != nil {
			l.remove()
			return nil, err
		}
		return l, nil
	}
	return nil, errors.New("no free name for a run's directory")
}

// sweepRuns removes the directories of processes that are no more. What it
// cannot remove, the next sweep will.
func sweepRuns(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := filepath.Join(dir, strings.TrimSuffix(e.Name(), ".lock"))
		if l, ok, err := take(name, true); err == nil && ok {
			l.remove()
		}
	}
}

// clones is the repositories that jobs share.
type clones struct {
	dir  string
	most int64 // bytes

	mu       sync.Mutex // guards the following
	measured time.Time
}

// generations lists the generations in dir, in no order.
func (c *clones) generations() []int {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".lock")); err == nil && n > 0 {
			list = append(list, n)
		}
	}
	return list
}

func (c *clones) current() int {
	n := 1
	for _, g := range c.generations() {
		n = max(n, g)
	}
	return n
}

func (c *clones) path(n int) string { return filepath.Join(c.dir, strconv.Itoa(n)) }

// lease is a shared lease on the current generation.
func (c *clones) lease() (*lease, error) {
	for range 100 {
		n := c.current()
		l, ok, err := take(c.path(n), false)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue // it was retired and is being removed
		}
		if err := os.MkdirAll(l.dir, 0o700); err != nil {
			l.release()
			return nil, err
		}
		if n != c.current() {
			l.release() // retired in between: do not keep it alive
			continue
		}
		return l, nil
	}
	return nil, errors.New("the directory of clones is being replaced without end")
}

// retire starts a new generation if l is of the current one.
func (c *clones) retire(l *lease) {
	if n := c.current(); c.path(n) == l.dir {
		os.Mkdir(c.path(n+1), 0o700)
	}
}

// sweep removes the retired generations that no job uses any more.
func (c *clones) sweep() {
	cur := c.current()
	for _, n := range c.generations() {
		if n < cur {
			if l, ok, err := take(c.path(n), true); err == nil && ok {
				l.remove()
			}
		}
	}
}

// done ends a job's lease, and holds the clones to their bound.
func (c *clones) done(l *lease) {
	c.mu.Lock()
	due := time.Since(c.measured) >= time.Minute
	if due {
		c.measured = time.Now()
	}
	c.mu.Unlock()
	if due && size(l.dir) > c.most {
		c.retire(l)
	}
	l.release()
	c.sweep()
}

// size is the sum of the sizes of the files below dir.
func size(dir string) int64 {
	var sum int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				sum += fi.Size()
			}
		}
		return nil
	})
	return sum
}
