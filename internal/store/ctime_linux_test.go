package store_test

import (
	"io/fs"
	"syscall"
)

const hasCtime = true

func ctime(fi fs.FileInfo) int64 { return fi.Sys().(*syscall.Stat_t).Ctim.Nano() }
