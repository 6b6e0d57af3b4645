package store

import (
	"io/fs"
	"syscall"
)

func identify(fi fs.FileInfo) fileID {
	id := fileID{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino, id.ctime = uint64(s.Dev), s.Ino, s.Ctim.Nano()
	}
	return id
}
