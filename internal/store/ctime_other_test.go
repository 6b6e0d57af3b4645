//go:build !linux

package store_test

import "io/fs"

const hasCtime = false

func ctime(fi fs.FileInfo) int64 { return fi.ModTime().UnixNano() }
