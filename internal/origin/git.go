package origin

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// clone is the directory in which the go command keeps its clone of a Git
// repository, "" if there is none.
func (j *job) clone(from vcsOrigin) string {
	// cmd/go/internal/modfetch/codehost.WorkDir, with its type for Git.
	for _, typ := range []string{"git3", "git4"} {
		sum := sha256.Sum256([]byte(typ + ":" + from.URL))
		dir := filepath.Join(j.vcs(), hex.EncodeToString(sum[:]))
		if exists(filepath.Join(dir, "objects")) {
			return dir
		}
	}
	return ""
}

// old reports whether a clone was there before the job.
func (j *job) old(clone string) bool {
	fi, err := os.Stat(clone + ".info") // written once, as the clone is begun
	return j.repos != nil && err == nil && fi.ModTime().Before(j.start)
}

// git runs Git on a clone, with its output going to out or, if that is nil,
// being returned.
func (j *job) git(ctx context.Context, clone string, out io.Writer, args ...string) ([]byte, *Error) {
	p, err := lookPath(getenv(j.env, "PATH"), "git")
	if err != nil {
		return nil, classify(j.req, err.Error())
	}
	c := &command{path: p, args: args, dir: filepath.Join(j.dir, "work"), env: j.env, out: out}
	if clone != "" {
		c.env = append(c.env[:len(c.env):len(c.env)], "GIT_DIR="+clone)
	}
	stdout, stderr, err := c.run(ctx)
	if ctx.Err() != nil {
		if e, ok := errors.AsType[*Error](j.o.interrupted(ctx, j.req)); ok {
			return nil, e
		}
		return nil, &Error{Request: j.req, Text: "the fetch was abandoned", Err: context.Cause(ctx)}
	}
	if err != nil {
		e := classify(j.req, j.clean(fmt.Sprintf("git %s: %v:\n%s", args[0], err, stderr)))
		if e.Cause == Missing {
			e.Cause = Trouble // we ask Git only about what has just been there
		}
		e.Err = err
		return nil, e
	}
	return stdout, nil
}

// remote asks a Git server for refs, by their full names, and returns the
// commits that they point at now.
func (j *job) remote(ctx context.Context, url string, refs ...string) (map[string]string, error) {
	args := []string{"ls-remote", "-q", "--end-of-options", url}
	for _, ref := range refs {
		args = append(args, ref, ref+"^{}")
	}
	out, err := j.git(ctx, "", nil, args...)
	if err != nil {
		return nil, err
	}
	m := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		// The peeled line of an annotated tag comes second, and counts. Patterns
		// also match the ends of longer names.
		for _, ref := range refs {
			if strings.TrimSuffix(f[1], "^{}") == ref {
				m[ref] = f[0]
			}
		}
	}
	return m, nil
}

// checkTag makes sure that a version is what its tag says now, and a
// pseudo-version that of a query after a tag that is still there. The go command
// never asks again for a tag that a clone of its has; in a clone that lives for
// days, tags may have been moved or deleted since.
//
// If the server cannot be asked, an older clone's word counts.
func (j *job) checkTag(ctx context.Context, mod module.Version, from vcsOrigin) (again, error) {
	clone := j.clone(from)
	if clone == "" || !j.old(clone) {
		return enough, nil
	}
	tag, want := mod.Version, from.Hash
	if module.IsPseudoVersion(tag) {
		base, err := module.PseudoVersionBase(tag)
		if err != nil || base == "" || j.req.Immutable() {
			return enough, nil // nothing to go stale, or checked by the go command
		}
		tag, want = base, ""
	}
	ref := "refs/tags/" + path.Join(from.Subdir, strings.TrimSuffix(tag, "+incompatible"))
	loose := filepath.Join(clone, filepath.FromSlash(ref))
	if fi, err := os.Stat(loose); err == nil {
		if fi.ModTime().After(j.start.Add(-keepFor)) {
			return enough, nil
		}
	} else if packed, err := os.ReadFile(filepath.Join(clone, "packed-refs")); err != nil || !bytes.Contains(packed, []byte(" "+ref+"\n")) {
		return enough, nil // the clone knows no such tag, so the server was asked
	}
	if want == "" {
		out, err := j.git(ctx, clone, nil, "rev-parse", "--verify", "--end-of-options", ref+"^{commit}")
		if err != nil {
			return j.doubt(err.Text), err
		}
		// Before 2.30, Git prints the option as well.
		want = strings.TrimSpace(strings.TrimPrefix(string(out), "--end-of-options\n"))
	}
	refs, err := j.remote(ctx, from.URL, ref)
	if err != nil {
		if ctx.Err() != nil {
			return enough, err
		}
		return enough, nil
	}
	if refs[ref] == want {
		os.Chtimes(loose, time.Time{}, time.Now())
		return enough, nil
	}
	if _, err := j.git(ctx, clone, nil, "update-ref", "-d", ref); err != nil {
		return isolated, err
	}
	return refresh, nil
}

// archive makes the zip of a module whose go.mod demands a newer Go than ours,
// where the go command gives us .info and .mod but refuses the zip. It does what
// cmd/go/internal/modfetch.codeRepo.Zip would do, with the same means.
func (j *job) archive(ctx context.Context, from vcsOrigin) *Error {
	mod := j.req.Module
	clone := j.clone(from)
	if clone == "" {
		return j.trouble("%s@%s needs a newer Go than ours, and its clone is not where we know to look for it", mod.Path, mod.Version)
	}
	gomod, err := readLimited(j.cached(mod, goproxy.Mod), goproxy.MaxMod)
	if err != nil {
		return j.trouble("reading the go.mod of %s@%s: %w", mod.Path, mod.Version, err)
	}
	subdir, e := j.moduleDir(ctx, clone, from, gomod)
	if e != nil {
		return e
	}
	// Without this, the zip would depend on the time and on Git's version.
	if err := appendAttributes(clone); err != nil {
		return j.trouble("preparing the clone of %s: %w", mod.Path, err)
	}
	tmp, err := os.Create(filepath.Join(j.dir, "tmp", "archive.zip"))
	if err != nil {
		return j.trouble("archiving %s@%s: %w", mod.Path, mod.Version, err)
	}
	defer tmp.Close()
	args := []string{"-c", "core.autocrlf=input", "-c", "core.eol=lf", "archive", "--format=zip", "--prefix=prefix/", "--end-of-options", from.Hash}
	if subdir != "" {
		args = append(args, subdir)
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &counted{w: tmp, left: goproxy.MaxZip, full: cancel}
	if _, e := j.git(limited, clone, n, args...); n.over {
		return j.trouble("%s@%s is larger than %d bytes, and the go command would not take it either", mod.Path, mod.Version, goproxy.MaxZip)
	} else if e != nil {
		return e
	}
	zr, err := zip.NewReader(tmp, goproxy.MaxZip-n.left)
	if err != nil {
		return j.trouble("git archive of %s@%s made no zip: %w", mod.Path, mod.Version, err)
	}
	var files []modzip.File
	licence := false
	prefix := path.Join("prefix", subdir) + "/"
	for _, zf := range zr.File {
		name, ok := strings.CutPrefix(zf.Name, prefix)
		if !ok || name == "" || strings.HasSuffix(name, "/") {
			continue
		}
		files = append(files, zipped{name, zf})
		licence = licence || name == "LICENSE"
	}
	if subdir != "" && !licence {
		have, e := j.git(ctx, clone, nil, "ls-tree", "--name-only", "--end-of-options", from.Hash, "--", "LICENSE")
		if e == nil && len(have) > 0 {
			var data []byte
			if data, e = j.git(ctx, clone, nil, "cat-file", "--end-of-options", "blob", from.Hash+":LICENSE"); e == nil && len(data) <= modzip.MaxLICENSE {
				files = append(files, inMemory{"LICENSE", data})
			}
		}
		if e != nil {
			return e
		}
	}
	name := j.cached(mod, goproxy.Zip)
	f, err := os.Create(name)
	if err != nil {
		return j.trouble("archiving %s@%s: %w", mod.Path, mod.Version, err)
	}
	err = modzip.Create(f, mod, files)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(name)
		return j.trouble("making the zip of %s@%s: %w", mod.Path, mod.Version, err)
	}
	return nil
}

// moduleDir is the directory of the repository that the module is in: that of
// which the go command took its go.mod. For a path that ends in /vN it may be
// the subdirectory vN.
func (j *job) moduleDir(ctx context.Context, clone string, from vcsOrigin, gomod []byte) (string, *Error) {
	dirs := []string{from.Subdir}
	if _, major, ok := module.SplitPathVersion(j.req.Module.Path); ok && strings.HasPrefix(major, "/") {
		dirs = []string{path.Join(from.Subdir, major), from.Subdir}
		dirs[0] = strings.TrimPrefix(dirs[0], "/")
	}
	for _, dir := range dirs {
		file := path.Join(dir, "go.mod")
		there, e := j.git(ctx, clone, nil, "ls-tree", "--name-only", "--end-of-options", from.Hash, "--", file)
		if e != nil {
			return "", e
		}
		if len(there) == 0 {
			continue
		}
		data, e := j.git(ctx, clone, nil, "cat-file", "--end-of-options", "blob", from.Hash+":"+file)
		if e != nil {
			return "", e
		}
		if bytes.Equal(data, gomod) {
			return dir, nil
		}
	}
	return "", j.trouble("the go.mod of %s@%s is not where its commit has it", j.req.Module.Path, j.req.Module.Version)
}

// appendAttributes is cmd/go/internal/modfetch/codehost.ensureGitAttributes.
func appendAttributes(clone string) error {
	const attr = "\n* -export-subst -export-ignore\n"
	if err := os.MkdirAll(filepath.Join(clone, "info"), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(clone, "info", "attributes"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := io.ReadAll(f)
	if err != nil || bytes.HasSuffix(have, []byte(attr)) {
		return err
	}
	if _, err := f.WriteString(attr); err != nil {
		return err
	}
	return f.Close()
}

// counted writes up to a number of bytes, and then ends who writes.
type counted struct {
	w    io.Writer
	left int64
	over bool // somebody wanted to write more
	full func()
}

func (c *counted) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		c.over = true
		c.full()
		return 0, io.ErrShortWrite
	}
	c.left -= int64(len(p))
	return c.w.Write(p)
}

type zipped struct {
	name string
	f    *zip.File
}

func (z zipped) Path() string                 { return z.name }
func (z zipped) Lstat() (fs.FileInfo, error)  { return z.f.FileInfo(), nil }
func (z zipped) Open() (io.ReadCloser, error) { return z.f.Open() }

// inMemory is a file of a zip, and its own fs.FileInfo.
type inMemory struct {
	name string
	data []byte
}

func (m inMemory) Path() string                 { return m.name }
func (m inMemory) Lstat() (fs.FileInfo, error)  { return m, nil }
func (m inMemory) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.data)), nil }
func (m inMemory) Name() string                 { return path.Base(m.name) }
func (m inMemory) Size() int64                  { return int64(len(m.data)) }
func (m inMemory) Mode() fs.FileMode            { return 0o644 }
func (m inMemory) ModTime() time.Time           { return time.Time{} }
func (m inMemory) IsDir() bool                  { return false }
func (m inMemory) Sys() any                     { return nil }
