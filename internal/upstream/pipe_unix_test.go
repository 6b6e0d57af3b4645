//go:build unix

package upstream_test

import "syscall"

func mkfifo(name string) bool { return syscall.Mkfifo(name, 0o666) == nil }
