// Package store keeps module artifacts for good: the .info, .mod and .zip of
// canonical versions, each with a Record of what its bytes are, the last answer
// to every question whose answer changes, the files of checksum databases, and,
// apart from all that, what was found to be wrong.
//
// It does not judge: whether bytes are true is known before Commit, by those
// who call it. It promises that what is visible is whole, that nothing becomes
// visible before Commit and all of it survives a crash after Commit, that bytes
// which no longer agree with their Record are noticed before they are handed
// out, and that the first content under a name is the only one, unless a
// checksum database says otherwise.
//
// Disk is that promise on a directory, for any number of processes at once; Mem
// is the same in memory. The directory is laid out as a GOPROXY tree, after
// https://go.dev/ref/mod#goproxy-protocol and cmd/go/internal/modfetch, so that
// GOPROXY=file://DIR works on it. The suite in package storetest says the rest.
package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// The kinds of failure that a caller may want to tell apart. None of them
// matches fs.ErrNotExist, and neither does any error of an operation that
// writes, Discard excepted.
var (
	// ErrDamaged: something is stored, but its bytes are not those of its Record.
	ErrDamaged = errors.New("the stored bytes do not agree with their record")
	// ErrConflict: other content is there already, and stays.
	ErrConflict = errors.New("other content is stored under this name")
	// ErrNoSpace: the disk, the quota of the file system, or the room that we
	// leave free on it, is used up.
	ErrNoSpace = errors.New("there is no space left")
	// ErrTooLarge: it is this file that there is no room for, now or ever; one of
	// another size may be kept. It comes with ErrNoSpace.
	ErrTooLarge = errors.New("the file is too large for the quota")
	// ErrReadOnly: the store can be read but not written.
	ErrReadOnly = errors.New("the store cannot be written")
)

// A Record is what the store knows for good of an artifact's bytes.
type Record struct {
	Size     int64     `json:"size"`
	SHA256   string    `json:"sha256"`             // lower-case hex of the stored bytes
	H1       string    `json:"h1,omitempty"`       // "h1:…" of a zip or a go.mod; empty for .info
	Verified string    `json:"verified,omitempty"` // name of the checksum database that vouches for H1; empty: pinned at first sight
	Source   string    `json:"source,omitempty"`   // name of the source it came from
	Time     time.Time `json:"time"`               // first seen, UTC
}

// A Blob is an open artifact. It was found to agree with its Record when it was
// opened. The caller must Close it.
type Blob struct {
	Content io.ReadSeeker // an *os.File, so that sendfile works, or a *bytes.Reader; also an io.ReaderAt
	Bytes   []byte        // the whole content if it is held in memory, else nil; never to be modified
	Record  Record
}

// ReadAt reads beside Content, without moving it.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	return b.Content.(io.ReaderAt).ReadAt(p, off)
}

// Close releases the file behind the blob, if there is one. Bytes stays valid.
func (b *Blob) Close() error {
	if c, ok := b.Content.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func memBlob(data []byte, rec Record) *Blob {
	return &Blob{Content: bytes.NewReader(data), Bytes: data, Record: rec}
}

// A Pending artifact is being written. Nothing of it is visible before Commit.
// Abort ends it and is always due: it throws away what was not committed and
// releases the file, and after a Commit it does no more than the latter, so it
// can be deferred.
//
// One goroutine at a time may write, reset, commit and abort; any number may
// call ReadAt and Size meanwhile.
type Pending interface {
	io.Writer
	io.ReaderAt   // what has been written so far; until Abort, whatever became of Commit
	Size() int64  // bytes written so far
	Sum() string  // their SHA-256, lower-case hex; for the one who writes
	Reset() error // forgets them, for the next attempt

	// Commit makes the artifact visible, and durable: it survives a crash. The
	// caller fills in H1, Verified, Source and, if it knows better than now,
	// Time; Size and SHA256 are those of what was written. It returns the Record
	// that the store has now.
	//
	// If the artifact is there already, the store keeps it and returns its
	// Record if that has the same H1 (and takes over Verified if it had none).
	// For another H1 the error matches ErrConflict and nothing changes; but one
	// that a checksum database vouches for replaces one that was only pinned. A
	// missing or damaged artifact is replaced in any case by bytes of the same
	// H1. An .info has no H1: the first intact one stays.
	//
	// After an error nothing was committed, and Commit may be tried again.
	Commit(Record) (Record, error)
	Abort()
}

// An Early is a Pending that takes bytes before it is their turn.
type Early interface {
	Pending

	// WriteAt keeps bytes that come after all that has been written. ReadAt gives
	// them back, but Size and Sum know nothing of them, and they are no part of the
	// artifact unless Write gets the same in their turn. It may be called by any
	// number of goroutines at a time, beside the one that writes, for parts that do
	// not overlap; not after Reset, and not where an Adopter has adopted a file.
	WriteAt(p []byte, off int64) (n int, err error)
}

var _ Early = (*diskPending)(nil)

// An Answer is what was last said to a question whose answer changes.
type Answer struct {
	Body   []byte // never to be modified
	Source string // name of the source that said so
	Time   time.Time
}

// Evidence says what was wrong with something, for people to look into.
type Evidence struct {
	Module  string    `json:"module,omitempty"`
	Version string    `json:"version,omitempty"`
	Kind    string    `json:"kind,omitempty"` // as goproxy.Kind prints it
	Source  string    `json:"source,omitempty"`
	Reason  string    `json:"reason"`
	Want    string    `json:"want,omitempty"`
	Got     string    `json:"got,omitempty"`
	Size    int64     `json:"size"`              // of the body; filled in by the store if zero
	SHA256  string    `json:"sha256,omitempty"`  // of the body; filled in by the store if empty
	Time    time.Time `json:"time"`              // now if zero
	NoBody  string    `json:"no_body,omitempty"` // why the body was not kept; set by the store
	Dir     string    `json:"dir,omitempty"`     // where it lies; set by the store
}

// A Store keeps artifacts, answers and checksum database files. All methods are
// safe for concurrent use. A request that no artifact or answer can have gives
// an error that matches fs.ErrInvalid.
type Store interface {
	// Open opens an artifact; the caller must Close it. The error matches
	// fs.ErrNotExist if and only if the store knows that it has no such
	// artifact, and ErrDamaged if it has one whose bytes it does not vouch for
	// any more. Any other error means it could not tell, which is never a 404.
	Open(req goproxy.Request) (*Blob, error)

	// Warm gives the artifact whose Request.Path is path if it is held in memory,
	// so that it can be served at once; nil if it is not, wherever else it is.
	Warm(path string) *Warm

	// Record is what the store knows of an artifact. It outlives the bytes: a
	// pin stays a pin when the file is lost or discarded. Errors as for Open.
	Record(req goproxy.Request) (Record, error)

	// Check reads an artifact from its medium again, whatever is remembered of
	// it, and compares it with its Record. Errors as for Open.
	Check(req goproxy.Request) error

	// Create starts to write an artifact. The error matches ErrNoSpace or
	// ErrReadOnly if that is why.
	Create(req goproxy.Request) (Pending, error)

	// Versions lists the versions of which .info, .mod and .zip are all stored,
	// without pseudo-versions, in semver order.
	Versions(path string) ([]string, error)

	// Answer is the last answer to a List, a Latest or a query Info. The error
	// matches fs.ErrNotExist if there is none, or none that is whole.
	Answer(req goproxy.Request) (Answer, error)
	SetAnswer(req goproxy.Request, a Answer) error

	// ReadFile, WriteFile and SwapFile keep the files of checksum databases,
	// by names such as sum.golang.org/tile/8/0/x001/234. A damaged file does
	// not exist. SwapFile writes only if the file's content is old, where no
	// file and an empty one are the same; else its error matches ErrConflict.
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
	SwapFile(name string, old, new []byte) error

	// Quarantine keeps ev, and body unless it is nil, apart from everything
	// that is ever served.
	Quarantine(ev Evidence, body io.Reader) error
	// Quarantined lists what is in quarantine, oldest first.
	Quarantined() ([]Evidence, error)
	// Discard moves an artifact from the store into quarantine; forget drops
	// its Record as well, so that any content may follow. The error matches
	// fs.ErrNotExist if there is nothing to discard.
	Discard(req goproxy.Request, ev Evidence, forget bool) error

	// Walk calls f for every stored artifact in the order of Request.Path, with
	// a zero Request and an error for what it cannot look into. It ends with the
	// error of f or ctx; fs.SkipAll ends it without one. f may use the store.
	Walk(ctx context.Context, f func(goproxy.Request, error) error) error

	// Probe writes, syncs, reads back and removes something of no meaning.
	Probe() error
}

// artifactName is where the artifact that req names lies in the tree.
func artifactName(req goproxy.Request) (string, error) {
	if p := req.Path(); p != "" && req.Immutable() && goproxy.IsCanonical(req.Module) {
		return p, nil
	}
	return "", fmt.Errorf("store: %s is no artifact of a canonical version: %w", req, fs.ErrInvalid)
}

// answerName is the path of a request whose answer changes.
func answerName(req goproxy.Request) (string, error) {
	if p := req.Path(); p != "" && !req.Immutable() {
		return p, nil
	}
	return "", fmt.Errorf("store: %s is no question whose answer changes: %w", req, fs.ErrInvalid)
}

// listName is where the list of a module lies in the tree.
func listName(path string) (string, error) {
	req := goproxy.Request{Kind: goproxy.List}
	req.Module.Path = path
	if name := req.Path(); name != "" {
		return name, nil
	}
	return "", fmt.Errorf("store: %q is no module path: %w", path, fs.ErrInvalid)
}

// maxName is the longest element of a file name: what file systems allow, less
// the room for our suffixes.
const maxName = 240

// checkFileName reports why name cannot be that of a checksum database's file:
// NAME/…, slash-separated, nothing in it that a file system could read as a
// way out or as another name of the same file.
func checkFileName(name string) error {
	first, rest, _ := strings.Cut(name, "/")
	bad := !fs.ValidPath(name) || rest == "" || first == "." ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
	for elem := range strings.SplitSeq(name, "/") {
		bad = bad || len(elem) > maxName
	}
	if bad {
		return fmt.Errorf("store: %q is no name of a checksum database's file: %w", name, fs.ErrInvalid)
	}
	return nil
}

func notStored(what any) error {
	return fmt.Errorf("store: %v is not stored: %w", what, fs.ErrNotExist)
}

func damaged(what any, format string, args ...any) error {
	return fmt.Errorf("store: %v is damaged, %s: %w", what, fmt.Sprintf(format, args...), ErrDamaged)
}

var errEnded = fmt.Errorf("store: this pending artifact was committed or aborted before: %w", os.ErrClosed)

// stamp completes the Record of what is to be committed as req.
func stamp(req goproxy.Request, rec Record, size int64, sum []byte) (Record, error) {
	rec.Size, rec.SHA256 = size, hex.EncodeToString(sum)
	if rec.Time.IsZero() {
		rec.Time = time.Now()
	}
	rec.Time = rec.Time.UTC().Round(0)
	switch {
	case size == 0:
		return rec, fmt.Errorf("store: %s is empty, which no artifact is: %w", req, fs.ErrInvalid)
	case req.Kind == goproxy.Info:
		rec.H1 = ""
	case !strings.HasPrefix(rec.H1, "h1:"):
		return rec, fmt.Errorf("store: %s has %q for an h1, but nothing is stored whose content has no h1: %w", req, rec.H1, fs.ErrInvalid)
	}
	return rec, nil
}

// settle decides what a Commit of rec does where the store knows old already,
// and has its bytes or not (intact): which Record holds from now on, and
// whether the bytes are replaced.
func settle(req goproxy.Request, old Record, intact bool, rec Record) (now Record, replace bool, err error) {
	if req.Kind != goproxy.Info && old.H1 != rec.H1 {
		if old.Verified != "" || rec.Verified == "" {
			return old, false, fmt.Errorf("store: %s is known as %s (%s), so %s (%s) is refused: %w",
				req, old.H1, vouched(old), rec.H1, vouched(rec), ErrConflict)
		}
		return rec, true, nil
	}
	// What is known of the content holds for these bytes as well.
	if !intact {
		rec.Time = old.Time
		if rec.Verified == "" && req.Kind != goproxy.Info {
			rec.Verified = old.Verified
		}
		return rec, true, nil
	}
	if old.Verified == "" && req.Kind != goproxy.Info {
		old.Verified = rec.Verified
	}
	return old, false, nil
}

func vouched(rec Record) string {
	switch {
	case rec.Verified != "":
		return "verified by " + rec.Verified
	case rec.Source != "":
		return "from " + rec.Source + ", unverified"
	}
	return "unverified"
}

// outdated is the evidence on bytes that a Commit of now replaces.
func outdated(req goproxy.Request, old, now Record) Evidence {
	ev := evidenceOn(req, Evidence{Source: old.Source})
	if old.H1 == now.H1 {
		ev.Reason, ev.Want = "the stored bytes do not agree with their record; replaced by good ones", "sha256:"+old.SHA256
	} else {
		ev.Reason = "pinned at first sight; replaced by what " + now.Verified + " vouches for"
		ev.Want, ev.Got = now.H1, old.H1
	}
	return ev
}

// evidenceOn fills in what ev leaves open.
func evidenceOn(req goproxy.Request, ev Evidence) Evidence {
	if ev.Module == "" {
		ev.Module, ev.Version = req.Module.Path, req.Module.Version
	}
	if ev.Kind == "" && req.Kind != 0 {
		ev.Kind = req.Kind.String()
	}
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	ev.Time = ev.Time.UTC().Round(0)
	ev.Dir, ev.NoBody = "", ""
	return ev
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
