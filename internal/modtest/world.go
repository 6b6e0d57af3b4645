package modtest

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

// Time is the time of every version that was not given another one;
// pseudo-versions have the time in their name.
var Time = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// Above bigFile bytes of payload, Big keeps the zip in a file.
const bigFile = 32 << 20

// Files are the files of a module version by their slash-separated path.
type Files map[string]string

// A World is a set of module versions, and a well-behaved GOPROXY over them.
// It may be changed while it serves. Whatever cannot be done (a malformed
// version, a zip that x/mod refuses) fails the test at once; methods that may
// do so are to be called from the test's own goroutine.
type World struct {
	Requests // what its handlers were asked for

	t testing.TB

	mu      sync.Mutex // guards the following
	mods    map[string]map[string]*version
	latest  map[string]string
	queries map[module.Version]string
	dbs     map[string]*SumDB
	made    int // versions made so far
}

type version struct {
	info, mod []byte
	zip       []byte // or file, never both
	file      string
	etag      string
	h1        func() (string, error)
}

// New makes an empty world that lasts as long as the test.
func New(t testing.TB) *World {
	return &World{
		t:       t,
		mods:    make(map[string]map[string]*version),
		latest:  make(map[string]string),
		queries: make(map[module.Version]string),
		dbs:     make(map[string]*SumDB),
	}
}

// Add makes a module version of files. Without files it gets one Go file of a
// package named after the path. Without a go.mod the zip has none and the .mod
// is synthesized, as the go command does for modules of old. Two special files
// go into no zip: ".mod" and ".info" are served instead of what would be made.
func (w *World) Add(path, vers string, files Files) module.Version {
	w.t.Helper()
	return w.add(module.Version{Path: path, Version: vers}, files, false)
}

// Replace is Add for a version that is there already: what a moved tag does.
// A checksum database that was asked for it before keeps the old hashes.
func (w *World) Replace(path, vers string, files Files) module.Version {
	w.t.Helper()
	return w.add(module.Version{Path: path, Version: vers}, files, true)
}

// AddTxtar makes module versions of a txtar archive, in one of two forms. With a
// header, all files are one version's:
//
//	module rsc.io/quote@v1.5.2
//	time 2018-02-14T15:44:20Z
//	query master
//	-- go.mod --
//	module rsc.io/quote
//	-- quote.go --
//	package quote
//
// Only the module line is needed; query makes further revisions stand for the
// version. Without a module line each file's name begins with its version, and
// one archive holds as many as it likes:
//
//	-- rsc.io/quote@v1.5.2/go.mod --
//	-- rsc.io/sampler@v1.3.0/sampler.go --
//
// Lines beginning with # and empty lines of the header mean nothing. The
// special files are those of Add. It returns the versions in sorted order.
func (w *World) AddTxtar(data string) []module.Version {
	w.t.Helper()
	mods, err := parseTxtar(data)
	if err != nil {
		w.t.Fatalf("modtest: %v", err)
	}
	var list []module.Version
	for _, m := range mods {
		w.add(m.mod, m.files, false)
		if !m.time.IsZero() {
			w.SetInfo(m.mod, infoJSON(m.mod.Version, m.time))
		}
		for _, rev := range m.queries {
			w.SetQuery(m.mod.Path, rev, m.mod.Version)
		}
		list = append(list, m.mod)
	}
	return list
}

type txtarModule struct {
	mod     module.Version
	files   Files
	time    time.Time
	queries []string
}

func parseTxtar(data string) ([]*txtarModule, error) {
	ar := txtar.Parse([]byte(data))
	byMod := make(map[module.Version]*txtarModule)
	of := func(s string) (*txtarModule, error) {
		p, v, ok := strings.Cut(s, "@")
		m := module.Version{Path: p, Version: v}
		if !ok || !goproxy.IsCanonical(m) {
			return nil, fmt.Errorf("%q is no PATH@VERSION of a module", s)
		}
		if byMod[m] == nil {
			byMod[m] = &txtarModule{mod: m, files: Files{}}
		}
		return byMod[m], nil
	}
	var one *txtarModule
	for line := range strings.Lines(string(ar.Comment)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		var err error
		switch {
		case f[0] == "module" && len(f) == 2 && one == nil:
			one, err = of(f[1])
		case f[0] == "time" && len(f) == 2 && one != nil:
			one.time, err = time.Parse(time.RFC3339, f[1])
		case f[0] == "query" && len(f) > 1 && one != nil:
			one.queries = append(one.queries, f[1:]...)
		default:
			err = fmt.Errorf("want one line module PATH@VERSION, then time RFC3339 or query REVISION")
		}
		if err != nil {
			return nil, fmt.Errorf("txtar header line %q: %w", strings.TrimSpace(line), err)
		}
	}
	for _, f := range ar.Files {
		m, name := one, f.Name
		if one == nil {
			at := strings.Index(name, "@")
			slash := strings.Index(name[max(at, 0):], "/")
			if at < 0 || slash < 0 {
				return nil, fmt.Errorf("txtar file %q has no PATH@VERSION/ before it, and the header no module line", name)
			}
			var err error
			if m, err = of(name[:at+slash]); err != nil {
				return nil, fmt.Errorf("txtar file %q: %w", name, err)
			}
			name = name[at+slash+1:]
		}
		if _, ok := m.files[name]; ok {
			return nil, fmt.Errorf("txtar file %q is there twice", f.Name)
		}
		m.files[name] = string(f.Data)
	}
	if len(byMod) == 0 {
		return nil, fmt.Errorf("the txtar archive holds no module")
	}
	return slices.SortedFunc(maps.Values(byMod), func(a, b *txtarModule) int {
		return strings.Compare(a.mod.String(), b.mod.String())
	}), nil
}

func (w *World) add(m module.Version, files Files, replace bool) module.Version {
	w.t.Helper()
	files = maps.Clone(files)
	if len(files) == 0 {
		pkg := path.Base(m.Path)
		if prefix, major, ok := module.SplitPathVersion(m.Path); ok && major != "" {
			pkg = path.Base(prefix)
		}
		pkg = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return -1
		}, pkg)
		files = Files{"p.go": fmt.Sprintf("// Package %s is %s.\npackage %[1]s\n\nconst Version = %q\n", "p"+pkg, m, m.Version)}
	}
	v := &version{info: infoJSON(m.Version, Time), mod: []byte("module " + modfilePath(m.Path) + "\n")}
	if t, err := module.PseudoVersionTime(m.Version); err == nil {
		v.info = infoJSON(m.Version, t)
	}
	if data, ok := files["go.mod"]; ok {
		v.mod = []byte(data)
	}
	if data, ok := files[".mod"]; ok {
		v.mod = []byte(data)
		delete(files, ".mod")
	}
	if data, ok := files[".info"]; ok {
		v.info = []byte(data)
		delete(files, ".info")
	}
	var list []modzip.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, memFile{name, files[name]})
	}
	var b bytes.Buffer
	if err := modzip.Create(&b, m, list); err != nil {
		w.t.Fatalf("modtest: zip of %s: %v", m, err)
	}
	v.zip = b.Bytes()
	v.h1 = sync.OnceValues(func() (string, error) { return h1(bytes.NewReader(v.zip), int64(len(v.zip))) })
	w.put(m, v, replace)
	return m
}

func modfilePath(path string) string {
	if strings.ContainsAny(path, " ()[]{},\"'`") {
		return fmt.Sprintf("%q", path)
	}
	return path
}

func (w *World) put(m module.Version, v *version, replace bool) {
	w.t.Helper()
	if !goproxy.IsCanonical(m) {
		w.t.Fatalf("modtest: %s is not a canonical module version", m)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mods[m.Path] == nil {
		w.mods[m.Path] = make(map[string]*version)
	}
	if had := w.mods[m.Path][m.Version] != nil; had != replace {
		w.t.Fatalf("modtest: %s: was there before: %v; Add makes new versions, Replace changes old ones", m, had)
	}
	w.made++
	v.etag = fmt.Sprintf(`"%s-%d"`, m.Version, w.made)
	w.mods[m.Path][m.Version] = v
}

// Big makes a module version whose zip holds payload bytes that do not compress,
// the same ones for the same path and version. They are stored, not deflated,
// so the zip is not much larger. A large one is kept in a file, not in memory.
func (w *World) Big(path, vers string, payload int64) module.Version {
	w.t.Helper()
	m := module.Version{Path: path, Version: vers}
	v := &version{info: infoJSON(vers, Time), mod: []byte("module " + modfilePath(path) + "\n")}
	if payload <= bigFile {
		var b bytes.Buffer
		if err := writeBig(&b, m, v.mod, payload); err != nil {
			w.t.Fatalf("modtest: zip of %s: %v", m, err)
		}
		v.zip = b.Bytes()
		v.h1 = sync.OnceValues(func() (string, error) { return h1(bytes.NewReader(v.zip), int64(len(v.zip))) })
	} else {
		v.file = filepath.Join(w.t.TempDir(), "big.zip")
		f, err := os.Create(v.file)
		if err != nil {
			w.t.Fatalf("modtest: zip of %s: %v", m, err)
		}
		err = writeBig(f, m, v.mod, payload)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			w.t.Fatalf("modtest: zip of %s: %v", m, err)
		}
		v.h1 = sync.OnceValues(func() (string, error) { return dirhash.HashZip(v.file, dirhash.Hash1) })
	}
	w.put(m, v, false)
	return m
}

// writeBig does by hand what modzip.Create would do, because that one spends
// seconds on deflating what does not shrink.
func writeBig(w io.Writer, m module.Version, mod []byte, payload int64) error {
	zw := zip.NewWriter(w)
	prefix := m.String() + "/"
	stored := func(name string, r io.Reader) error {
		fw, err := zw.CreateHeader(&zip.FileHeader{Name: prefix + name, Method: zip.Store})
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(fw, r, make([]byte, 256<<10))
		return err
	}
	if err := stored("go.mod", bytes.NewReader(mod)); err != nil {
		return err
	}
	if err := stored("big.go", strings.NewReader("package big\n")); err != nil {
		return err
	}
	src := rand.NewChaCha8(sha256.Sum256([]byte(m.String())))
	if err := stored("payload.bin", io.LimitReader(src, payload)); err != nil {
		return err
	}
	return zw.Close()
}

// Remove takes a version away, as if it had been deleted at the source.
func (w *World) Remove(m module.Version) {
	w.get(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.mods[m.Path], m.Version); len(w.mods[m.Path]) == 0 {
		delete(w.mods, m.Path) // or it would have an empty list
	}
}

// SetQuery makes a revision (branch, tag, commit, version prefix) of a module
// stand for one of its versions, or for nothing if vers is empty.
func (w *World) SetQuery(path, rev, vers string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queries[module.Version{Path: path, Version: rev}] = vers
}

// SetLatest makes @latest of a module answer with vers, whatever there is. Until
// it is called that is the highest release, else the highest prerelease, else
// the newest pseudo-version.
func (w *World) SetLatest(path, vers string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest[path] = vers
}

// SetInfo changes the .info of a version, byte for byte.
func (w *World) SetInfo(m module.Version, info []byte) {
	w.t.Helper()
	v := *w.get(m)
	v.info = slices.Clone(info)
	w.put(m, &v, true)
}

func (w *World) lookup(m module.Version) (*version, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.mods[m.Path][m.Version]
	return v, ok
}

func (w *World) get(m module.Version) *version {
	w.t.Helper()
	v, ok := w.lookup(m)
	if !ok {
		w.t.Fatalf("modtest: this world has no %s", m)
	}
	return v
}

// Info is the .info of m, as served.
func (w *World) Info(m module.Version) []byte { w.t.Helper(); return slices.Clone(w.get(m).info) }

// Mod is the .mod of m, as served.
func (w *World) Mod(m module.Version) []byte { w.t.Helper(); return slices.Clone(w.get(m).mod) }

// Zip is the whole zip of m. For what Big made, think of ZipReader.
func (w *World) Zip(m module.Version) []byte {
	w.t.Helper()
	r, size := w.ZipReader(m)
	defer r.Close()
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		w.t.Fatalf("modtest: zip of %s: %v", m, err)
	}
	return data
}

// ZipReader opens the zip of m and tells its size; the caller closes it.
func (w *World) ZipReader(m module.Version) (io.ReadSeekCloser, int64) {
	w.t.Helper()
	v := w.get(m)
	r, err := v.open()
	if err != nil {
		w.t.Fatalf("modtest: zip of %s: %v", m, err)
	}
	size, err := r.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = r.Seek(0, io.SeekStart)
	}
	if err != nil {
		w.t.Fatalf("modtest: zip of %s: %v", m, err)
	}
	return r, size
}

func (v *version) open() (io.ReadSeekCloser, error) {
	if v.file != "" {
		return os.Open(v.file)
	}
	return nopCloser{bytes.NewReader(v.zip)}, nil
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// H1Zip is the hash of m's zip as go.sum has it, "h1:…".
func (w *World) H1Zip(m module.Version) string {
	w.t.Helper()
	h, err := w.get(m).h1()
	if err != nil {
		w.t.Fatalf("modtest: hash of %s: %v", m, err)
	}
	return h
}

// H1Mod is the hash of m's .mod as go.sum has it, "h1:…".
func (w *World) H1Mod(m module.Version) string {
	w.t.Helper()
	return h1Mod(w.get(m).mod)
}

// GoSum is the two go.sum lines of m.
func (w *World) GoSum(m module.Version) string {
	w.t.Helper()
	return fmt.Sprintf("%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", m.Path, m.Version, w.H1Zip(m), w.H1Mod(m))
}

// Modules is every version of this world, sorted by path and then by version.
func (w *World) Modules() []module.Version {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []module.Version
	for p, vs := range w.mods {
		for v := range vs {
			list = append(list, module.Version{Path: p, Version: v})
		}
	}
	module.Sort(list)
	return list
}

// Versions is what @v/list of path says: no pseudo-versions, in semver order.
func (w *World) Versions(path string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions(path)
}

func (w *World) versions(path string) []string {
	list := slices.Collect(maps.Keys(w.mods[path]))
	return goproxy.SortVersions(slices.DeleteFunc(list, module.IsPseudoVersion))
}

// Handler is a well-behaved GOPROXY over this world, at the root of the URL
// space, with Range, HEAD and ETag. What it is asked for is counted in w.
func (w *World) Handler() http.Handler { return w.Count(http.HandlerFunc(w.serve)) }

// Mount makes the handlers serve db at /sumdb/NAME/, below which /supported says
// yes. Without it they answer 404 there, as a proxy that has no database.
func (w *World) Mount(db *SumDB) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dbs[db.Name] = db
}

func (w *World) serve(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(rw, "bad request: this proxy knows GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	p := strings.TrimPrefix(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(p, "sumdb/"); ok {
		w.serveSumDB(rw, r, rest)
		return
	}
	req, err := goproxy.ParsePath(p)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusNotFound)
		return
	}
	body, etag, err := w.answer(req)
	if err != nil {
		http.Error(rw, "not found: "+err.Error(), http.StatusNotFound)
		return
	}
	defer body.Close()
	rw.Header().Set("Content-Type", req.Kind.ContentType())
	rw.Header().Set("ETag", etag)
	http.ServeContent(rw, r, "", time.Time{}, body)
}

func (w *World) serveSumDB(rw http.ResponseWriter, r *http.Request, rest string) {
	w.mu.Lock()
	var db *SumDB
	for name, d := range w.dbs {
		if after, ok := strings.CutPrefix(rest, name+"/"); ok {
			db, rest = d, after
			break
		}
	}
	w.mu.Unlock()
	if db == nil {
		http.Error(rw, "not found: no such checksum database here", http.StatusNotFound)
		return
	}
	r2 := r.Clone(r.Context())
	r2.URL.Path, r2.URL.RawPath = "/"+rest, ""
	db.ServeHTTP(rw, r2)
}

func (w *World) answer(req goproxy.Request) (io.ReadSeekCloser, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := req.Module
	whole := func(data []byte) (io.ReadSeekCloser, string, error) {
		sum := sha256.Sum256(data)
		return nopCloser{bytes.NewReader(data)}, `"` + hex.EncodeToString(sum[:12]) + `"`, nil
	}
	missing := func() (io.ReadSeekCloser, string, error) {
		return nil, "", fmt.Errorf("this source has no %s: %w", req, fs.ErrNotExist)
	}
	if w.mods[m.Path] == nil {
		return missing()
	}
	switch req.Kind {
	case goproxy.List:
		return whole(goproxy.FormatList(w.versions(m.Path)))
	case goproxy.Latest:
		m.Version = w.latestOf(m.Path)
	case goproxy.Info:
		if v := w.queries[m]; v != "" && w.mods[m.Path][m.Version] == nil {
			m.Version = v
		}
	}
	v := w.mods[m.Path][m.Version]
	if v == nil {
		return missing()
	}
	switch req.Kind {
	case goproxy.Mod:
		return whole(v.mod)
	case goproxy.Zip:
		body, err := v.open()
		return body, v.etag, err
	default:
		return whole(v.info)
	}
}

func (w *World) latestOf(path string) string {
	if v := w.latest[path]; v != "" {
		return v
	}
	if v := goproxy.LatestOf(w.versions(path)); v != "" {
		return v
	}
	all := goproxy.SortVersions(slices.Collect(maps.Keys(w.mods[path])))
	if len(all) == 0 {
		return ""
	}
	return slices.MaxFunc(all, func(a, b string) int {
		ta, _ := module.PseudoVersionTime(a)
		tb, _ := module.PseudoVersionTime(b)
		return ta.Compare(tb)
	})
}

// WriteTree writes this world below dir as a plain GOPROXY tree, for file://
// and for static web servers: lists, files, and the .info of queries.
func (w *World) WriteTree(dir string) {
	w.t.Helper()
	write := func(req goproxy.Request) {
		w.t.Helper()
		body, _, err := w.answer(req)
		if err != nil {
			w.t.Fatalf("modtest: %v", err)
		}
		defer body.Close()
		name := filepath.Join(dir, filepath.FromSlash(req.Path()))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			w.t.Fatal(err)
		}
		f, err := os.Create(name)
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = io.Copy(f, body)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, m := range w.Modules() {
		write(goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: m.Path}})
		for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
			write(goproxy.Request{Kind: k, Module: m})
		}
	}
	w.mu.Lock()
	queries := slices.Collect(maps.Keys(w.queries))
	w.mu.Unlock()
	for _, q := range queries {
		if req := (goproxy.Request{Kind: goproxy.Info, Module: q}); w.has(req) {
			write(req)
		}
	}
}

func (w *World) has(req goproxy.Request) bool {
	body, _, err := w.answer(req)
	if err == nil {
		body.Close()
	}
	return err == nil
}

func infoJSON(vers string, t time.Time) []byte {
	data, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{vers, t})
	if err != nil {
		panic(err) // a string and a time always marshal
	}
	return data
}

func h1(r io.ReaderAt, size int64) (string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return "", err
	}
	byName := make(map[string]*zip.File)
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		byName[f.Name] = f
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return byName[name].Open() })
}

func h1Mod(data []byte) string {
	h, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	if err != nil {
		panic(err) // reading from memory does not fail
	}
	return h
}

// A memFile is a modzip.File in memory.
type memFile struct{ name, data string }

func (f memFile) Path() string                 { return f.name }
func (f memFile) Lstat() (os.FileInfo, error)  { return memInfo{f}, nil }
func (f memFile) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(f.data)), nil }

type memInfo struct{ f memFile }

func (i memInfo) Name() string     { return path.Base(i.f.name) }
func (i memInfo) Size() int64      { return int64(len(i.f.data)) }
func (memInfo) Mode() os.FileMode  { return 0o644 }
func (memInfo) ModTime() time.Time { return Time }
func (memInfo) IsDir() bool        { return false }
func (memInfo) Sys() any           { return nil }
