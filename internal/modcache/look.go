package modcache

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	// toolchain is a module whose tree the go command changes after it has extracted
	// it: it copies each _go.mod to go.mod, and makes programs executable.
	toolchain = "golang.org/toolchain"
	// fips140 is one that is extracted from a zip of GOROOT, which nothing is recorded of.
	fips140 = "golang.org/fips140"
	// beingWritten is for how long a file that is written without a lock, in an
	// instant, is held for one that somebody is still writing.
	beingWritten = 10 * time.Minute
	// maxRecord bounds what is read of a .ziphash, in bytes; it has 47.
	maxRecord = 1 << 10
	goSum     = "go.sum"
	// namesTold is how many files of a tree are told by name.
	namesTold = 3
)

// A state is what was found of one version.
type state struct {
	k       *Cache
	m       module.Version
	at      string // the files in @v, without their suffixes
	tree    string // where the zip is extracted
	damages []Damage
	present bool // there is something of the version

	// Who says what the hashes have to be; "" if nobody does.
	want, wantBy, wantMod, wantModBy string

	recorded string    // in .ziphash; "" if there is no hash in it
	zip      *contents // of a zip that can be read, be it the right one or not
	zipBad   bool      // the zip has to come again, or to come
	hashBad  bool      // .ziphash has to be written again
	hashDrop bool      // .ziphash is wrong, and recording what nothing is here of
	treeBad  bool
	infoBad  bool
	modBad   bool
	skipped  bool     // the zip or the tree was not read to its end
	disputed bool     // zip and record agree, and go.sum says something else
	remove   []string // leftovers
	denied   []string // files and directories
}

func (st *state) path(suffix string) string { return st.at + "." + suffix }

func (st *state) damaged(kind Kind, file, format string, args ...any) *Damage {
	st.damages = append(st.damages, Damage{Kind: kind, Module: st.m, File: st.k.rel(file), Text: fmt.Sprintf(format, args...)})
	return &st.damages[len(st.damages)-1]
}

// place is a state of which nothing is known yet.
func (k *Cache) place(m module.Version) *state {
	path, err1 := module.EscapePath(m.Path)
	vers, err2 := module.EscapeVersion(m.Version)
	if err := errors.Join(err1, err2); err != nil {
		return nil // canonical versions can be escaped
	}
	at := filepath.Join(k.down, filepath.FromSlash(path), "@v", vers)
	return &state{k: k, m: m, at: at, tree: filepath.Join(k.root, filepath.FromSlash(path)+"@"+vers)}
}

// look finds the damage of one version. The first look at it counts, and keeps to
// MaxBytes and MaxTime.
func (k *Cache) look(ctx context.Context, m module.Version, first bool) *state {
	reading := ctx
	if first && k.c.MaxTime > 0 {
		var cancel context.CancelFunc
		reading, cancel = context.WithDeadline(ctx, k.born.Add(k.c.MaxTime))
		defer cancel()
	}
	return k.lookWithin(ctx, reading, m, first)
}

// lookWithin is look that reads zips and trees as long as reading lasts.
func (k *Cache) lookWithin(ctx, reading context.Context, m module.Version, first bool) *state {
	st := k.place(m)
	if st == nil {
		return &state{k: k, m: m}
	}
	st.evidence(ctx, first)
	st.regular(st.path("lock"), 6)
	st.lookZip(reading, first)
	st.lookTree(reading, first)
	st.lookInfo()
	st.lookMod()
	st.lookLeftovers()
	if first && st.present {
		k.count(func(r *Report) {
			r.Versions++
			if st.skipped {
				r.Skipped++
			}
		})
	}
	return st
}

// evidence asks who knows what the hashes have to be: go.sum, the checksum database,
// and what the go command keeps of its answers.
func (st *state) evidence(ctx context.Context, first bool) {
	gomod := module.Version{Path: st.m.Path, Version: st.m.Version + "/go.mod"}
	st.k.mu.Lock()
	zip, mod := st.k.records[st.m], st.k.records[gomod]
	st.k.mu.Unlock()
	set := func(zip, mod, by string) {
		if zip != "" {
			st.want, st.wantBy = zip, by
		}
		if mod != "" {
			st.wantMod, st.wantModBy = mod, by
		}
	}
	set(zip, mod, "the record of the checksum database")
	if st.k.c.Database != nil && st.any() {
		zip, mod, covered, err := st.k.c.Database(ctx, st.m)
		switch {
		case err != nil && first && ctx.Err() == nil:
			st.k.count(func(r *Report) {
				r.Unasked++
				r.Unread = cmp.Or(r.Unread, err)
			})
		case err == nil && covered:
			set(zip, mod, "the checksum database")
		}
	}
	set(st.k.c.Sums[st.m], st.k.c.Sums[gomod], goSum)
}

// any reports whether there is something of the version that has a hash.
func (st *state) any() bool {
	for _, name := range []string{st.path("zip"), st.path("mod"), st.path("ziphash"), st.tree} {
		if _, err := os.Lstat(name); err == nil {
			return true
		}
	}
	return false
}

// regular looks at a file that the user has to have the permissions (of 7) for. It is
// nil if there is none, and ok if it can be read.
func (st *state) regular(name string, perm fs.FileMode) (_ fs.FileInfo, ok bool) {
	fi, err := os.Lstat(name)
	if err != nil {
		return nil, false // of a directory that cannot be searched, the survey tells
	}
	if fi.Mode()&fs.ModeSymlink != 0 && slices.Contains([]string{".zip", ".info", ".mod"}, filepath.Ext(name)) {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			// It leads nowhere: the go command takes it for nothing, and renames what comes
			// into its place. Locks, hashes and lists it opens where they lie.
			return nil, false
		}
	}
	st.present = true
	if !fi.Mode().IsRegular() {
		st.damaged(NotAFile, name, "it is %s, and no file", what(fi))
		return fi, false
	}
	if !st.k.user.may(fi, perm) {
		st.damaged(Denied, name, "%s", st.k.denial(fi, perm))
		st.denied = append(st.denied, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return fi, false
	}
	f.Close()
	return fi, true
}

// denial says what keeps the user from a file.
func (k *Cache) denial(fi fs.FileInfo, perm fs.FileMode) string {
	can := "read"
	switch {
	case perm&2 != 0 && k.user.may(fi, perm&^2):
		can = "write to"
	case fi.IsDir():
		can = "open"
	}
	if !k.user.owns(fi) {
		return fmt.Sprintf("it belongs to another user, and this one may not %s it (%v)", can, fi.Mode().Perm())
	}
	return fmt.Sprintf("its permissions (%v) do not let its owner %s it", fi.Mode().Perm(), can)
}

func what(fi fs.FileInfo) string {
	switch {
	case fi.IsDir():
		return "a directory"
	case fi.Mode()&fs.ModeSymlink != 0:
		return "a symbolic link"
	case fi.Mode().IsRegular():
		return "a file"
	}
	return "a device"
}

// isHash reports whether s is a hash as go.sum and .ziphash have it.
func isHash(s string) bool {
	b64, ok := strings.CutPrefix(s, "h1:")
	sum, err := base64.StdEncoding.DecodeString(b64)
	return ok && err == nil && len(sum) == sha256.Size
}

func (st *state) lookZip(ctx context.Context, first bool) {
	zipName, hashName := st.path("zip"), st.path("ziphash")
	zip, readable := st.regular(zipName, 4)
	perm := fs.FileMode(4)
	if zip == nil {
		perm = 6 // it is written to when the zip comes
	}
	hash, ok := st.regular(hashName, perm)
	st.hashBad = hash != nil && !hash.Mode().IsRegular()
	if ok {
		data, err := readSmall(hashName, maxRecord)
		// The go command trims it as well.
		if s := string(bytes.TrimSpace(data)); err == nil && isHash(s) {
			st.recorded = s
		} else {
			st.hashBad = true
			st.damaged(ZipHashDamaged, hashName, "%s", cmp.Or(errText(err), "there is no hash in it"))
		}
	}
	switch {
	case zip == nil:
		st.lookRecord(hash)
		return
	case !zip.Mode().IsRegular():
		st.zipBad = true
	case readable && first && !st.k.afford(zip.Size()):
		st.skipped = true
		return
	case readable:
		z, err := readZip(ctx, zipName, st.m)
		switch e := (*zipError)(nil); {
		case ctx.Err() != nil:
			st.skipped = true
			return
		case errors.As(err, &e):
			st.zipBad = true
			st.damaged(e.kind, zipName, "%s", e.Error())
		case err != nil:
			st.zipBad = true
			st.damaged(ZipDamaged, zipName, "it cannot be read: %v", plain(err))
		default:
			st.zip = z
			st.compareZip(zipName, hashName)
		}
		if first {
			st.k.count(func(r *Report) { r.Bytes += zip.Size() })
		}
	}
	if hash == nil {
		st.hashBad = true
		st.damaged(ZipHashMissing, hashName, "there is a zip, and no record of its hash")
	}
}

// compareZip compares a zip that can be read with what it has to be.
func (st *state) compareZip(zipName, hashName string) {
	switch h1 := st.zip.h1; {
	case st.want != "" && h1 != st.want:
		st.zipBad, st.disputed = true, st.recorded == h1
		st.damaged(ZipChanged, zipName, "it is %s, and %s has %s", h1, st.wantBy, st.want).Contested = st.disputed && st.wantBy == goSum
	case st.recorded == "" || st.recorded == h1:
	case st.want != "":
		st.hashBad = true
		st.damaged(ZipHashWrong, hashName, "it has %s, and the zip is %s, as %s has it", st.recorded, h1, st.wantBy)
	default: // one of the two is right
		st.zipBad, st.hashBad = true, true
		st.damaged(ZipChanged, zipName, "it is %s, and was %s when it came", h1, st.recorded)
	}
}

// lookRecord looks at a record without its zip: many remove the zips, to save space.
func (st *state) lookRecord(hash fs.FileInfo) {
	_, err := os.Lstat(st.tree)
	extracted := err == nil
	switch {
	case hash == nil && extracted && st.m.Path != fips140:
		st.zipBad = true
		st.damaged(ZipHashMissing, st.path("ziphash"), "the module is extracted, and there is no record of its hash")
	case hash == nil:
	case st.hashBad:
		st.zipBad, st.hashDrop = extracted, !extracted
	case st.want != "" && st.recorded != "" && st.recorded != st.want:
		st.zipBad, st.hashDrop = extracted, !extracted
		st.damaged(ZipHashWrong, st.path("ziphash"), "it has %s, and %s has %s", st.recorded, st.wantBy, st.want)
	}
}

func (st *state) lookTree(ctx context.Context, first bool) {
	_, err := os.Lstat(st.path("partial"))
	partial := err == nil
	fi, err := os.Lstat(st.tree)
	switch {
	case err != nil && partial:
		st.remove = append(st.remove, st.path("partial"))
		st.damaged(Leftover, st.path("partial"), "it marks a module that is being extracted, and nobody does so")
		return
	case err != nil:
		return
	case !fi.IsDir():
		st.treeBad = true
		st.damaged(NotADirectory, st.tree, "it is %s, and no directory", what(fi))
	case partial:
		st.treeBad = true
		st.damaged(TreePartial, st.tree, "extracting was broken off")
	}
	st.present = true
	if st.treeBad || st.skipped || st.zip == nil && st.hashBad {
		return
	}
	if st.zip != nil && (!st.zipBad || st.disputed) {
		if first && !st.k.afford(st.zip.size) {
			st.skipped = true
			return
		}
		st.compareTree(ctx, first)
		return
	}
	// Without a zip that is right there is only the hash of all files together.
	want := cmp.Or(st.want, st.recorded)
	if want == "" || st.m.Path == fips140 || st.m.Path == toolchain {
		return
	}
	t, err := readTree(ctx, st.tree, st.k.user, func(n int64) bool { return !first || st.k.afford(n) })
	switch {
	case ctx.Err() != nil, errors.Is(err, errTooMuch):
		st.skipped = true
	default:
		st.deny(t)
		if first {
			st.k.count(func(r *Report) { r.Bytes += t.size })
		}
		if h1 := t.h1(st.m); h1 != want || err != nil || len(t.strange) > 0 {
			st.treeBad = true
			st.damaged(TreeChanged, st.tree, "its files are not those that were recorded, and there is no zip to tell which")
		}
	}
}

// deny tells of files and directories in a tree that the user may not read.
func (st *state) deny(t *tree) {
	if len(t.denied) == 0 {
		return
	}
	st.denied = append(st.denied, t.denied...)
	var names []string
	for _, name := range t.denied {
		names = append(names, strings.TrimPrefix(strings.TrimPrefix(name, st.tree), string(filepath.Separator)))
	}
	st.damaged(Denied, st.tree, "owner or permissions keep this user from %s", told(names, "directory or file", "directories and files"))
}

// compareTree compares an extracted tree with its zip, file by file.
func (st *state) compareTree(ctx context.Context, first bool) {
	t, err := readTree(ctx, st.tree, st.k.user, func(int64) bool { return true })
	if ctx.Err() != nil {
		st.skipped = true
		return
	}
	st.deny(t)
	if first {
		st.k.count(func(r *Report) { r.Bytes += t.size })
	}
	var missing, changed, extra []string
	for name, want := range st.zip.files {
		got, ok := t.files[name]
		switch {
		case slices.Contains(t.strange, name):
			changed = append(changed, name)
		case !ok && t.hidden(name): // told already
		case !ok:
			missing = append(missing, name)
		case got != want:
			changed = append(changed, name)
		}
	}
	for _, name := range slices.AppendSeq(slices.Clone(t.strange), keys(t.files)) {
		if _, ok := st.zip.files[name]; !ok && !st.made(name) {
			extra = append(extra, name)
		}
	}
	tell := func(kind Kind, names []string, one, many string) {
		if len(names) > 0 {
			slices.Sort(names)
			st.treeBad = true
			st.damaged(kind, st.tree, "%s", told(names, one, many))
		}
	}
	tell(TreeMissing, missing, "file of the zip is missing", "files of the zip are missing")
	tell(TreeChanged, changed, "file is not that of the zip", "files are not those of the zip")
	tell(TreeExtra, extra, "file is not in the zip", "files are not in the zip")
	if err != nil && len(t.denied) == 0 {
		st.treeBad = true
		st.damaged(TreeChanged, st.tree, "it cannot be read: %v", plain(err))
	}
}

// made reports whether the go command itself has made a file of a tree.
func (st *state) made(name string) bool {
	dir, base := path.Split(name)
	_, ok := st.zip.files[dir+"_go.mod"]
	return st.m.Path == toolchain && base == "go.mod" && ok
}

// told is how many there are, with the names of some.
func told(names []string, one, many string) string {
	text := fmt.Sprintf("%d %s: ", len(names), many)
	if len(names) == 1 {
		text = "1 " + one + ": "
	}
	for i, name := range names {
		if i == namesTold {
			return fmt.Sprintf("%s and %d more", text, len(names)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", name)
	}
	return text
}

func (st *state) lookInfo() {
	name := st.path("info")
	fi, ok := st.regular(name, 4)
	st.infoBad = fi != nil && !fi.Mode().IsRegular()
	if !ok {
		return
	}
	data, err := readSmall(name, goproxy.MaxInfo)
	if err == nil {
		var info goproxy.InfoFile
		if info, err = goproxy.ParseInfo(data, st.m); err != nil && goproxy.IsCanonical(module.Version{Path: st.m.Path, Version: info.Version}) {
			st.infoBad = true
			st.damaged(InfoForeign, name, "it is that of %s", info.Version)
			return
		}
	}
	if err != nil {
		st.infoBad = true
		st.damaged(InfoDamaged, name, "%s", contentText(data, err, "it is not the JSON of a version"))
	}
}

// contentText says what is wrong with a small file. What goproxy says is of answers.
func contentText(data []byte, err error, text string) string {
	switch {
	case errors.Is(err, errTooMuch) || errors.Is(err, fs.ErrPermission):
		return err.Error()
	case len(bytes.Trim(data, "\x00 \t\r\n")) == 0 && len(data) > 0:
		return "there is nothing in it but zero bytes or blanks"
	case len(data) == 0:
		return "there is nothing in it"
	}
	return text
}

// vgo is how the go.mod files began that the first go commands with modules made
// up. The go command takes them for missing.
var vgo = []byte("//vgo 0.0.")

func (st *state) lookMod() {
	name := st.path("mod")
	fi, ok := st.regular(name, 4)
	st.modBad = fi != nil && !fi.Mode().IsRegular()
	if !ok {
		return
	}
	data, err := readSmall(name, goproxy.MaxMod)
	if err == nil && bytes.HasPrefix(data, vgo) {
		return
	}
	if err == nil {
		err = goproxy.CheckMod(data)
	}
	if err != nil {
		st.modBad = true
		st.damaged(ModDamaged, name, "%s", contentText(data, err, "it is no go.mod file"))
		return
	}
	h1 := modHash(data)
	switch {
	case st.wantMod != "" && h1 != st.wantMod:
		st.modBad = true
		st.damaged(ModChanged, name, "it is %s, and %s has %s", h1, st.wantModBy, st.wantMod)
	case st.wantMod != "" || st.zip == nil || st.zipBad || strings.HasSuffix(st.m.Version, "+incompatible"):
	case st.zip.goMod != nil && sha256.Sum256(data) != *st.zip.goMod:
		st.modBad = true
		st.damaged(ModChanged, name, "it is not the go.mod that is in the zip")
	}
}

// modHash is the hash of a go.mod as go.sum has it.
func modHash(data []byte) string {
	return hash1(map[string]sum{"go.mod": {sha256.Sum256(data), int64(len(data))}}, "")
}

func (st *state) lookLeftovers() {
	dir, vers := filepath.Split(st.at)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		kind, ok := tmpOf(e.Name(), vers)
		if !ok {
			continue
		}
		name := filepath.Join(dir, e.Name())
		// Only zips are written under the lock.
		if fi, err := e.Info(); err != nil || kind != "zip" && time.Since(fi.ModTime()) < beingWritten {
			continue
		}
		st.present = true
		st.remove = append(st.remove, name)
		st.damaged(Leftover, name, "a download that was broken off has left it")
	}
	// Old go commands extracted beside the tree.
	dir, base := filepath.Split(st.tree)
	if old, err := filepath.Glob(filepath.Join(quoteGlob(dir), quoteGlob(base)+".tmp-*")); err == nil {
		for _, name := range old {
			st.present = true
			st.remove = append(st.remove, name)
			st.damaged(Leftover, name, "extracting that was broken off has left it")
		}
	}
}

// quoteGlob is a pattern that matches s alone.
func quoteGlob(s string) string {
	if filepath.Separator == '\\' {
		return s // where module paths have nothing special
	}
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(s)
}

// tmpOf reports whether name is that of a temporary file of the version, and of
// what file.
func tmpOf(name, escVers string) (kind string, ok bool) {
	rest, ok := strings.CutPrefix(name, escVers+".")
	rest, ok2 := strings.CutSuffix(rest, ".tmp")
	if !ok || !ok2 {
		return "", false
	}
	kind = strings.TrimRight(rest, "0123456789")
	if kind == rest || !slices.Contains([]string{"zip", "info", "mod"}, kind) {
		return "", false
	}
	return kind, true
}

var errTooMuch = errors.New("it is larger than such a file can be")

// readSmall reads a file of at most max bytes.
func readSmall(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, plain(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, plain(err)
	}
	if int64(len(data)) > max {
		return data[:max], errTooMuch
	}
	return data, nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
