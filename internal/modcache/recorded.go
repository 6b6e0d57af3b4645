package modcache

import (
	"bytes"
	"path/filepath"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

// Recorded is the hash of a version's zip that the go command wrote down in the module
// cache dir when the zip came, and goes by ever since; "" if there is none that can be
// read. The zip itself is not looked at.
func Recorded(dir string, m module.Version) string {
	if !goproxy.IsCanonical(m) {
		return ""
	}
	zip := filepath.FromSlash(goproxy.Request{Kind: goproxy.Zip, Module: m}.Path())
	data, err := readSmall(filepath.Join(dir, "cache", "download", zip)+"hash", maxRecord)
	if s := string(bytes.TrimSpace(data)); err == nil && isHash(s) {
		return s
	}
	return ""
}
