// Package goproxy is the GOPROXY protocol as values: what a request path asks
// for, how a path is spelled, what an answer must look like, and how large it
// may be. It does no I/O.
//
// The rules come from https://go.dev/ref/mod#goproxy-protocol and, where that
// is silent, from cmd/go/internal/modfetch.
package goproxy

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/module"
)

// Limits of what one answer may hold, in bytes. MaxMod and MaxZip are those of
// the go command (cmd/go/internal/modfetch/codehost), which refuses more; the
// others are ours, far above anything a real module needs.
const (
	MaxMod  = 16 << 20
	MaxZip  = 500 << 20
	MaxInfo = 1 << 20
	MaxList = 16 << 20

	// MaxPath is the longest request path that ParsePath accepts. A file system
	// allows 255 bytes in a name and Linux 4096 in a path.
	MaxPath = 2048
	// maxElem is the longest path element: 255 less the room that a store needs
	// for the suffix of a temporary name.
	maxElem = 200
)

// A Kind says which of the protocol's five files is meant.
type Kind uint8

// The zero Kind is none of them.
const (
	List   Kind = 1 + iota // @v/list
	Latest                 // @latest
	Info                   // @v/V.info, also of a query such as a branch
	Mod                    // @v/V.mod
	Zip                    // @v/V.zip
)

var kindNames = [...]string{"none", "list", "latest", "info", "mod", "zip"}

// String is the kind's word in logs and metrics: list, latest, info, mod, zip.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Limit is the largest answer of this kind, in bytes.
func (k Kind) Limit() int64 {
	switch k {
	case List:
		return MaxList
	case Mod:
		return MaxMod
	case Zip:
		return MaxZip
	default:
		return MaxInfo
	}
}

// ContentType is the media type under which an answer of this kind is served.
func (k Kind) ContentType() string {
	switch k {
	case Info, Latest:
		return "application/json"
	case Zip:
		return "application/zip"
	default:
		return "text/plain; charset=utf-8"
	}
}

// A Request is what one path of the protocol asks for.
type Request struct {
	Kind   Kind
	Module module.Version // unescaped; Version is empty for List and Latest, and any revision for a query
}

// IsQuery reports whether r asks what a revision (branch, tag, commit, version
// prefix) stands for at present, as opposed to a fixed version's file.
func (r Request) IsQuery() bool {
	return r.Kind == Info && !IsCanonical(r.Module)
}

// Immutable reports whether the answer to r, once right, is right for ever.
func (r Request) Immutable() bool {
	switch r.Kind {
	case Mod, Zip:
		return true
	case Info:
		return IsCanonical(r.Module)
	}
	return false
}

// With is the request for another file of the same module version.
func (r Request) With(k Kind) Request {
	r.Kind = k
	return r
}

// IsCanonical reports whether m.Version is the one spelling of a version that
// m.Path can have: semantic, with its major version matching the path.
func IsCanonical(m module.Version) bool {
	return module.CanonicalVersion(m.Version) == m.Version && module.Check(m.Path, m.Version) == nil
}

// String names the request for people: "rsc.io/quote@v1.5.2 (zip)".
func (r Request) String() string {
	if r.Module.Version == "" {
		return r.Module.Path + " (" + r.Kind.String() + ")"
	}
	return r.Module.Path + "@" + r.Module.Version + " (" + r.Kind.String() + ")"
}

// Path is r's path in the protocol, escaped for upper case, without a leading
// slash and not percent-encoded: rsc.io/quote/@v/v1.5.2.zip. It is empty if r
// is not a request that ParsePath could have made.
func (r Request) Path() string {
	esc, err := module.EscapePath(r.Module.Path)
	if err != nil {
		return ""
	}
	switch r.Kind {
	case List:
		return esc + "/@v/list"
	case Latest:
		return esc + "/@latest"
	case Info, Mod, Zip:
		escv, err := escapeRevision(r.Module.Version)
		if err != nil {
			return ""
		}
		return esc + "/@v/" + escv + "." + r.Kind.String()
	}
	return ""
}

// A PathError says why a request path means nothing in the protocol.
//
// It matches fs.ErrNotExist if the path is well formed but names something that
// cannot exist (such as the zip of a branch): the honest answer is then 404, at
// which a go command may go on to its next proxy. Any other PathError is a
// malformed request.
type PathError struct {
	Path    string // as asked for
	Reason  string // a sentence without capital and full stop
	Missing bool   // well formed, but nothing of that name can exist
}

func (e *PathError) Error() string {
	if e.Missing {
		return "not found: " + e.Reason
	}
	return "bad request: " + e.Reason
}

// Is makes a well-formed path to an impossible thing match fs.ErrNotExist.
func (e *PathError) Is(target error) bool { return e.Missing && target == fs.ErrNotExist }

// ParsePath reads the decoded path of a request, without its leading slash.
// For every p that it accepts, ParsePath(p).Path() == p.
// An error is always a *PathError.
func ParsePath(p string) (Request, error) {
	bad := func(format string, args ...any) (Request, error) {
		return Request{}, &PathError{Path: p, Reason: fmt.Sprintf(format, args...)}
	}
	missing := func(format string, args ...any) (Request, error) {
		return Request{}, &PathError{Path: p, Reason: fmt.Sprintf(format, args...), Missing: true}
	}
	if len(p) > MaxPath {
		return bad("the path is %d bytes long, more than %d", len(p), MaxPath)
	}
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return bad("the path holds bytes that are no printable text")
	}
	esc, what, ok := strings.Cut(p, "/@")
	if !ok {
		return missing("no such page; module files are at MODULE/@v/list, MODULE/@latest and MODULE/@v/VERSION.info, .mod, .zip")
	}
	path, err := module.UnescapePath(esc)
	if err != nil {
		return bad("%s", plainReason(err))
	}
	for elem := range strings.SplitSeq(esc, "/") {
		if len(elem) > maxElem {
			return bad("the module path has an element of %d bytes, more than %d", len(elem), maxElem)
		}
	}
	req := Request{Module: module.Version{Path: path}}
	switch {
	case what == "latest":
		req.Kind = Latest
		return req, nil
	case what == "v/list":
		req.Kind = List
		return req, nil
	case !strings.HasPrefix(what, "v/"):
		return missing("%s has no file @%s", path, what)
	}
	file := what[len("v/"):]
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		return missing("%s has no file @%s", path, what)
	}
	switch file[i:] {
	case ".info":
		req.Kind = Info
	case ".mod":
		req.Kind = Mod
	case ".zip":
		req.Kind = Zip
	default:
		return missing("%s has no file @%s", path, what)
	}
	req.Module.Version, err = unescapeRevision(file[:i])
	if err != nil {
		return bad("%v", err)
	}
	if len(file) > maxElem {
		return bad("the version is %d bytes long, more than %d", i, maxElem)
	}
	if req.Kind != Info && !IsCanonical(req.Module) {
		return missing("%s@%s is not a canonical version, so it has no .%s file; ask for its .info first", path, req.Module.Version, req.Kind)
	}
	return req, nil
}

// plainReason is the reason in an error of x/mod, without the nesting that
// module.UnescapePath gives it.
func plainReason(err error) string {
	if e, ok := errors.AsType[*module.InvalidPathError](err); ok {
		return fmt.Sprintf("malformed module path %q: %v", e.Path, e.Err)
	}
	return err.Error()
}

// A revision is escaped like a version, and may have slashes (branch names).
// Each element obeys the rules of a version, so no revision climbs out of @v.
func unescapeRevision(esc string) (string, error) {
	elems := strings.Split(esc, "/")
	for i, e := range elems {
		v, err := module.UnescapeVersion(e)
		if err != nil {
			return "", fmt.Errorf("malformed version %q: %w", esc, errEscape(err))
		}
		elems[i] = v
	}
	return strings.Join(elems, "/"), nil
}

func escapeRevision(rev string) (string, error) {
	elems := strings.Split(rev, "/")
	for i, e := range elems {
		esc, err := module.EscapeVersion(e)
		if err != nil {
			return "", err
		}
		elems[i] = esc
	}
	return strings.Join(elems, "/"), nil
}

func errEscape(err error) error {
	if e, ok := errors.AsType[*module.InvalidVersionError](err); ok {
		return e.Err
	}
	return err
}
