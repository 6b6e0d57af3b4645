package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A TreeSource is a GOPROXY tree in the file system (a file:// URL). It never
// reads outside its directory, not through links either, and has no time budget.
type TreeSource struct {
	dir  string
	name string
}

// NewTreeSource makes a source of the tree at dir, named after its URL. The
// directory is opened at each request, so that it may appear later.
func NewTreeSource(dir, name string) *TreeSource { return &TreeSource{dir: dir, name: name} }

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
	path = strings.TrimPrefix(path, "/")
	if ctx.Err() != nil {
		return nil, s.fail(context.Cause(ctx))
	}
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
	return &Answer{Body: f, Size: st.Size()}, nil
}

func (s *TreeSource) fail(err error) error {
	return &Error{Source: s.name, Stage: StageLocal, Err: err}
}
