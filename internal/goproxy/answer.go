package goproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// An InfoFile is what we read of an .info or @latest answer. Answers are handed
// on byte for byte; fields that we do not know stay in them.
type InfoFile struct {
	Version string
	Time    time.Time // zero if the answer has none
}

// ParseInfo checks the answer to an Info or Latest request for mod. Its version
// must be canonical, and the one asked for where that is canonical.
func ParseInfo(data []byte, mod module.Version) (InfoFile, error) {
	var f InfoFile
	if looksLikeHTML(data) {
		return f, errors.New("the answer is an HTML page, not the JSON of a version; a login page or filter may stand in between")
	}
	var raw struct {
		Version string
		Time    *time.Time
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return f, fmt.Errorf("the answer is not the JSON of a version: %w", err)
	}
	f.Version = raw.Version
	if raw.Time != nil {
		f.Time = *raw.Time
	}
	if !IsCanonical(module.Version{Path: mod.Path, Version: f.Version}) {
		return f, fmt.Errorf("the answer names version %q, which is not a canonical version of %s", f.Version, mod.Path)
	}
	if IsCanonical(mod) && f.Version != mod.Version {
		return f, fmt.Errorf("the answer names version %s, but %s was asked for", f.Version, mod.Version)
	}
	return f, nil
}

// ParseList reads an @v/list answer: the canonical versions of the module in
// semver order, each once. Lines may carry a time after the version, which is
// dropped, as are lines that are no version of this module, and pseudo-versions,
// which the protocol asks lists not to have. An HTML page is an error, as is a
// text of which no line is a version.
func ParseList(data []byte, path string) ([]string, error) {
	if looksLikeHTML(data) {
		return nil, errors.New("the answer is an HTML page, not a list of versions; a login page or filter may stand in between")
	}
	if !utf8.Valid(data) {
		return nil, errors.New("the answer is not text, so it is no list of versions")
	}
	var list []string
	var lines, good int
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		lines++
		if !IsCanonical(module.Version{Path: path, Version: f[0]}) {
			continue
		}
		good++
		if !module.IsPseudoVersion(f[0]) {
			list = append(list, f[0])
		}
	}
	if lines > 0 && good == 0 {
		return nil, fmt.Errorf("no line of the answer is a version of %s", path)
	}
	return SortVersions(list), nil
}

// SortVersions sorts list in semver order, drops repetitions, and returns it.
func SortVersions(list []string) []string {
	slices.SortFunc(list, func(a, b string) int {
		if c := semver.Compare(a, b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(list)
}

// FormatList is the text of an @v/list answer.
func FormatList(versions []string) []byte {
	var b bytes.Buffer
	for _, v := range versions {
		b.WriteString(v)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// LatestOf is the version that the go command would call latest of a list: the
// highest release, or failing that the highest prerelease. It is empty for an
// empty list.
func LatestOf(versions []string) string {
	var rel, pre string
	for _, v := range versions {
		if semver.Prerelease(v) == "" {
			if rel == "" || semver.Compare(v, rel) > 0 {
				rel = v
			}
		} else if pre == "" || semver.Compare(v, pre) > 0 {
			pre = v
		}
	}
	if rel != "" {
		return rel
	}
	return pre
}

// CheckMod reports why data cannot be a go.mod file. It is lax, as the go
// command is with the go.mod files of dependencies: directives of a future Go
// and foreign module paths (forks) are fine.
func CheckMod(data []byte) error {
	if looksLikeHTML(data) {
		return errors.New("the answer is an HTML page, not a go.mod file; a login page or filter may stand in between")
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return errors.New("the answer is not text, so it is no go.mod file")
	}
	if modfile.ModulePath(data) == "" {
		return errors.New("the answer has no module line, so it is no go.mod file")
	}
	return nil
}

// Requirements lists what a go.mod file requires, and its go version ("" if it
// has none). It is as lax as CheckMod and never fails: what it cannot read, it
// leaves out.
func Requirements(data []byte) (reqs []module.Version, goVersion string) {
	f, err := modfile.ParseLax("go.mod", data, nil)
	if err != nil {
		return nil, ""
	}
	for _, r := range f.Require {
		if IsCanonical(r.Mod) {
			reqs = append(reqs, r.Mod)
		}
	}
	if f.Go != nil {
		goVersion = f.Go.Version
	}
	return reqs, goVersion
}

// looksLikeHTML tells a page from the text and JSON of the protocol, in which
// nothing begins with '<'.
func looksLikeHTML(data []byte) bool {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("<"))
}
