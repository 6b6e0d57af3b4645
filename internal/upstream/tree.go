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
	// treeCalls is how many calls of one tree's file system may be under way. One
	// that hangs holds a thread, which nobody can get back.
	treeCalls = 64
)

// A TreeSource is a GOPROXY tree in the file system (a file:// URL). It never
// reads outside its directory, not through links either. The file system may
// be that of a server which is gone: nobody waits for it longer than the budget.
type TreeSource struct {
	dir    string
	name   string
	budget time.Duration
	calls  chan struct{} // has one for each call that is under way
}

// NewTreeSource makes a source of the tree at dir, named after its URL. The
// directory is opened at each request, so that it may appear later. budget is
// how long one call of the file system may take; 0 means 30s.
func NewTreeSource(dir, name string, budget time.Duration) *TreeSource {
	if budget == 0 {
		budget = 30 * time.Second
	}
	return &TreeSource{dir: dir, name: name, budget: budget, calls: make(chan struct{}, treeCalls)}
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
	prog, _ := ctx.Value(progressKey{}).(*progress)
	prog.note(StageConnect) // until the file system says anything, it may not be there
	var a *Answer
	var err error
	gaveUp := patiently(ctx, s, func() { a, err = s.open(strings.TrimPrefix(path, "/")) }, func() {
		if a != nil {
			a.Body.Close()
		}
	})
	if gaveUp != nil {
		return nil, &Error{Source: s.name, Stage: StageLocal, Err: gaveUp, silent: true}
	}
	if err != nil {
		return nil, err
	}
	if b, ok := a.Body.(*treeFile); ok {
		b.ctx = ctx
	}
	return a, nil
}

// patiently makes a call of a file system that may hang. It gives it up, with the
// reason, when ctx ends or the budget of s is spent; the call may then still be
// under way, and late follows it. A call that has not been made at all is followed
// by late, too.
func patiently(ctx context.Context, s *TreeSource, call, late func()) error {
	over := time.NewTimer(s.budget)
	defer over.Stop()
	hangs := fmt.Errorf("its file system does not answer within %v: %w", s.budget, ErrStalled)
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		late()
		return context.Cause(ctx)
	case <-over.C:
		late()
		return hangs
	}
	const (
		underWay = iota
		returned
		left
	)
	var state atomic.Int32
	done := make(chan struct{})
	go func() {
		defer func() { <-s.calls }()
		call()
		if state.CompareAndSwap(underWay, returned) {
			close(done)
		} else {
			late()
		}
	}()
	var err error
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-over.C:
		err = hangs
	}
	if !state.CompareAndSwap(underWay, left) {
		<-done // it has just returned
		return nil
	}
	return err
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
		return &Answer{Body: &treeFile{s: s, f: f, st: st}, Size: st.Size()}, nil
	}
	data := make([]byte, st.Size())
	_, err = io.ReadFull(f, data)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, s.fail(err)
	}
	return &Answer{Body: io.NopCloser(bytes.NewReader(data)), Size: st.Size()}, nil
}

// A treeFile reads a large file in pieces, each of which has the time budget.
type treeFile struct {
	s    *TreeSource
	st   fs.FileInfo
	ctx  context.Context
	buf  []byte // all of the current piece
	left []byte // what of it has not been read
	err  error  // of all reads from now on

	mu     sync.Mutex
	f      *os.File // nil: closed, or of a read that is under way or hangs
	closed bool
}

func (b *treeFile) Read(p []byte) (int, error) {
	if len(b.left) == 0 && b.err == nil && len(p) > 0 {
		b.err = b.more()
	}
	if len(b.left) == 0 {
		return 0, b.err
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// File is the file itself and its Stat, for who can use it without reading it
// here. It is nil once reading has begun to fail, and good until Close.
func (b *treeFile) File() (*os.File, fs.FileInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.f, b.st
}

// more reads the next piece. The file is the call's alone meanwhile.
func (b *treeFile) more() error {
	b.mu.Lock()
	f := b.f
	b.f = nil
	b.mu.Unlock()
	if f == nil {
		return os.ErrClosed
	}
	buf := b.buf
	if b.buf = nil; buf == nil {
		buf = make([]byte, treePiece)
	}
	var n int
	var err error
	if gaveUp := patiently(b.ctx, b.s, func() { n, err = f.Read(buf) }, func() { f.Close() }); gaveUp != nil {
		// That it was opened is an answer.
		return &Error{Source: b.s.name, Stage: StageBody, Err: gaveUp}
	}
	b.buf, b.left = buf, buf[:n]
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		f.Close()
		return os.ErrClosed
	}
	b.f = f
	return err
}

// Close lets go of the file, or leaves that to a read that is under way.
func (b *treeFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	f := b.f
	b.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

func (s *TreeSource) fail(err error) error {
	return &Error{Source: s.name, Stage: StageLocal, Err: err}
}

// Walk calls f for every file of the tree that can be an artifact, those of one
// version together, .info before .mod before .zip, and with an error for what it
// cannot look into. It ends with the error of f or ctx. Sums, lists and the like
// are passed over.
func (s *TreeSource) Walk(ctx context.Context, f func(goproxy.Request, error) error) error {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("the directory %s cannot be read: %w", s.dir, err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return f(goproxy.Request{}, err)
		case d.IsDir():
			if name == "sumdb" || name != "." && strings.HasPrefix(name, ".") {
				return fs.SkipDir // no module path begins so
			}
			return nil
		}
		req, err := goproxy.ParsePath(name)
		if err == nil && req.Immutable() && goproxy.IsCanonical(req.Module) {
			return f(req, nil)
		}
		if fi, err := root.Stat(name); err == nil && fi.IsDir() {
			return f(goproxy.Request{}, fmt.Errorf("%s is a symbolic link to a directory, which is not followed", name))
		}
		return nil
	})
}
