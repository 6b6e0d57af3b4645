//go:build !linux

package store

import "os"

// A rootDir is an os.Root.
type rootDir struct{ *os.Root }

func newRootDir(r *os.Root) *rootDir { return &rootDir{r} }
