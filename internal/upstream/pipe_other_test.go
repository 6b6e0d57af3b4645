//go:build !unix

package upstream_test

func mkfifo(string) bool { return false }
