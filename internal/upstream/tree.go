package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A TreeSource is a GOPROXY tree in the file system (a file:// URL). It never
// reads outside its directory, not through links either.
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
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, &Error{Source: s.name, Stage: StageLocal, Err: opaque{fmt.Errorf("the directory cannot be read: %w", err)}}
	}
	defer root.Close()
	f, err := root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Source: s.name, Stage: StageLocal, Status: 404, Err: fmt.Errorf("no file %s", path)}
	}
	if err != nil {
		return nil, &Error{Source: s.name, Stage: StageLocal, Err: err}
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, &Error{Source: s.name, Stage: StageLocal, Err: fmt.Errorf("%s is no regular file", path)}
	}
	return &Answer{Body: f, Size: st.Size()}, nil
}
