//go:build !linux && !darwin

package store

import "io/fs"

func identify(fi fs.FileInfo) fileID {
	return fileID{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
}
