package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Missing says why there is no tree: its directory is not there, or is none. It is nil
// if there is one, and also if that cannot be told, as asking it for a file then tells more.
func (s *TreeSource) Missing(ctx context.Context) error {
	var info fs.FileInfo
	var err error
	if patiently(ctx, s, func() { info, err = os.Stat(s.dir) }, func() {}) != nil {
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s is not there", s.dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file, and no directory", s.dir)
	}
	return nil
}
