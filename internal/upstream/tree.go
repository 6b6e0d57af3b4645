package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	// treeWhole is up to which size, in bytes, a file of a tree is read at once.
	treeWhole = 128 << 10
	// treePiece is how many bytes of a larger one are read at a time.
	treePiece = 256 << 10
	// mostStuck is how many calls of one tree may wait for its file system. Each
	// of them holds a thread that nobody can get back.
	mostStuck = 16
)

// A TreeSource is a GOPROXY tree in the file system (a file:// URL). It never
// reads outside its directory, not through links either. The file system may
// be that of a server which is gone: nobody waits for it longer than the budget.
type TreeSource struct {
	dir    string
	name   string
	budget time.Duration
	stuck  atomic.Int32 // calls that were given up and have not returned
}

// NewTreeSource makes a source of the tree at dir, named after its URL. The
// directory is opened at each request, so that it may appear later. budget is
// how long one call of the file system may take; 0 means 30s.
func NewTreeSource(dir, name string, budget time.Duration) *TreeSource {
	if budget == 0 {
		budget = 30 * time.Second
	}
	return &TreeSource{dir: dir, name: name, budget: budget}
}

// Name is the file:// URL.
func (s *TreeSource) Name() string { return s.name }

// Kind is Tree.
func (s *TreeSource) Kind() Kind { return Tree }

// Get opens the file that req names. A file that is not in the tree matches
// fs.ErrNotExist; a tree that is not there at all does not.
func (s *TreeSource) Get(ctx context.Context, req goproxy.Request) (*Answer, error) {
	return s.GetPath(ctx, req.Path())
}

// GetPath opens any file of the tree, such as sumdb/NAME/latest.
func (s *TreeSource) GetPath(ctx context.Context, path string) (*Answer, error) {
	if ctx.Err() != nil {
		return nil, s.fail(context.Cause(ctx))
	}
	a, err := patiently(ctx, s, func() (*Answer, error) { return s.open(strings.TrimPrefix(path, "/")) }, func(a *Answer) {
		if a != nil {
			a.Body.Close()
		}
	})
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = s.fail(err)
		}
		return nil, err
	}
	if b, ok := a.Body.(*treeFile); ok {
		b.ctx = ctx
	}
	return a, nil
}

// patiently makes a call of a file system that may hang, and gives it up when ctx
// ends or the budget of s is spent. late gets what it returns after that.
func patiently[T any](ctx context.Context, s *TreeSource, call func() (T, error), late func(T)) (v T, err error) {
	if s.stuck.Load() >= mostStuck {
		return v, s.hangs(fmt.Errorf("its file system does not answer, and %d calls wait for it already: %w", mostStuck, ErrStalled))
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := call()
		done <- result{v, err}
	}()
	over := time.NewTimer(s.budget)
	defer over.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		err = s.fail(context.Cause(ctx))
	case <-over.C:
		err = s.hangs(fmt.Errorf("its file system does not answer within %v: %w", s.budget, ErrStalled))
	}
	s.stuck.Add(1)
	go func() {
		late((<-done).v)
		s.stuck.Add(-1)
	}()
	return v, err
}

// open opens a file of the tree, and reads a small one.
func (s *TreeSource) open(path string) (*Answer, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, s.fail(fmt.Errorf("the directory cannot be read: %w", err))
	}
	defer root.Close()
	// Looked at before it is opened: opening a named pipe waits for its writer.
	st, err := root.Stat(path)
	// ENOTDIR: a file lies where the path has a directory, so there is nothing below.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, &Error{Source: s.name, Stage: StageLocal, Status: 404, Err: fmt.Errorf("no file %s", path)}
	}
	if err != nil {
		return nil, s.fail(err)
	}
	if !st.Mode().IsRegular() {
		return nil, s.fail(fmt.Errorf("%s is no regular file", path))
	}
	f, err := root.Open(path)
	if err != nil {
		return nil, s.fail(err)
	}
	if st, err = f.Stat(); err != nil {
		f.Close()
		return nil, s.fail(err)
	}
	if st.Size() > treeWhole {
		return &Answer{Body: &treeFile{s: s, f: f}, Size: st.Size()}, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, treeWhole))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, s.fail(err)
	}
	return &Answer{Body: io.NopCloser(bytes.NewReader(data)), Size: st.Size()}, nil
}

// A treeFile reads a large file in pieces, each of which has the time budget.
type treeFile struct {
	s    *TreeSource
	ctx  context.Context
	buf  []byte // all of the current piece
	left []byte // what of it has not been read
	err  error  // of all reads from now on

	mu sync.Mutex
	f  *os.File // nil: left to a read that hangs
}

func (b *treeFile) Read(p []byte) (int, error) {
	if len(b.left) == 0 && b.err == nil && len(p) > 0 {
		b.mu.Lock()
		f, buf := b.f, b.buf
		b.mu.Unlock()
		if buf == nil {
			buf = make([]byte, treePiece)
		}
		b.buf = nil // of the call, until it returns
		n, err := patiently(b.ctx, b.s, func() (int, error) { return f.Read(buf) }, func(int) { f.Close() })
		if _, ours := errors.AsType[*Error](err); ours {
			b.mu.Lock()
			b.f, b.err = nil, err // the call may be using it
			b.mu.Unlock()
			return 0, err
		}
		b.buf, b.left, b.err = buf, buf[:n], err
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	if n == 0 && len(b.left) == 0 {
		return 0, b.err
	}
	return n, nil
}

// Close lets go of the file, or leaves that to a read that hangs.
func (b *treeFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.f == nil {
		return nil
	}
	return b.f.Close()
}

func (s *TreeSource) fail(err error) error {
	return &Error{Source: s.name, Stage: StageLocal, Err: err}
}

// hangs is fail for what gave no answer at all.
func (s *TreeSource) hangs(err error) error {
	return &Error{Source: s.name, Stage: StageLocal, Err: err, silent: true}
}
