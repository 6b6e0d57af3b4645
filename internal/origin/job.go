package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// A result is what a fetch brought: data for a mutable answer, files for an
// immutable one, and both for a query, whose version's files may be asked next.
type result struct {
	data  []byte
	files *holding // the receiver holds it
}

// errTimeout wraps DeadlineExceeded, because a bare cause would hide from
// errors.Is that it was a matter of time.
var errTimeout = fmt.Errorf("time limit for version control reached: %w", context.DeadlineExceeded)

// again says whether a fetch has to be tried once more.
type again int

const (
	enough   again = iota
	refresh        // the clone had a tag that is no longer so; it has been dropped
	isolated       // the shared clones gave an answer that cannot be trusted
)

// fetch waits for a turn and then does what req asks for.
func (o *Origin) fetch(ctx context.Context, req goproxy.Request) (result, error) {
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return result{}, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.cfg.Timeout, errTimeout)
	defer cancel()
	goCmd, err := o.goCommand(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return result{}, o.interrupted(ctx, req)
		}
		return result{}, &Error{Request: req, Cause: Tool, Text: clean(err.Error(), o.cfg.Dir), Err: err}
	}
	share := true
	for try := 1; ; try++ {
		res, more, err := o.try(ctx, goCmd, req, share)
		if more == enough || try == 3 {
			return res, err
		}
		if res.files != nil {
			o.mu.Lock()
			res.files.release()
			o.mu.Unlock()
		}
		share = more == refresh && try == 1
	}
}

// interrupted is the error of a job whose ctx has ended.
func (o *Origin) interrupted(ctx context.Context, req goproxy.Request) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errTimeout) {
		return &Error{
			Request: req, Cause: Timeout, Err: cause,
			Text: fmt.Sprintf("%s was not there after %v, the limit for one job, and the commands were stopped", req, o.cfg.Timeout),
		}
	}
	return cause
}

// A job is one run of the go command and its directory.
type job struct {
	o     *Origin
	req   goproxy.Request
	dir   string
	env   []string
	start time.Time
	repos *lease // the shared clones; nil: the job has its own
}

// newJob makes the directory of a job, with its module cache's clones being the
// shared ones if share is set and the system has symbolic links for us.
func (o *Origin) newJob(req goproxy.Request, share bool) (*job, error) {
	o.mu.Lock()
	o.serial++
	j := &job{o: o, req: req, dir: filepath.Join(o.run.dir, "job"+strconv.Itoa(o.serial)), start: time.Now()}
	o.mu.Unlock()
	if err := o.furnish(j.dir); err != nil {
		j.close()
		return nil, err
	}
	j.env = o.environ(j.dir, req.Module.Path)
	if share {
		l, err := o.repos.lease()
		if err != nil {
			j.close()
			return nil, err
		}
		j.repos = l
		if os.Symlink(l.dir, j.vcs()) != nil {
			j.repos = nil
			l.release()
		}
	}
	return j, nil
}

// vcs is where the go command has the job's clones.
func (j *job) vcs() string { return filepath.Join(j.dir, "mod", "cache", "vcs") }

func (j *job) close() {
	os.RemoveAll(j.dir)
	if j.repos != nil {
		j.o.repos.done(j.repos)
	}
}

// A report is what the go command prints as JSON about a module.
type report struct {
	Version  string
	Versions []string
	Error    json.RawMessage // a string from `go mod download`, an object from `go list`
	Origin   vcsOrigin
}

type vcsOrigin struct {
	VCS, URL, Subdir, Hash, Ref string
}

// text is the error in r, "" if it has none.
func (r *report) text() string {
	var s string
	if json.Unmarshal(r.Error, &s) == nil {
		return s
	}
	var e struct{ Err string }
	json.Unmarshal(r.Error, &e)
	return e.Err
}

// goRun runs the go command and returns its report and, if it had one to
// make, the text of its error. err is set if the job has been interrupted.
func (j *job) goRun(ctx context.Context, goCmd string, args ...string) (r report, text string, err error) {
	c := &command{path: goCmd, args: args, dir: filepath.Join(j.dir, "work"), env: j.env}
	stdout, stderr, err := c.run(ctx)
	if ctx.Err() != nil {
		return r, "", j.o.interrupted(ctx, j.req)
	}
	jsonErr := json.NewDecoder(bytes.NewReader(stdout)).Decode(&r)
	text = r.text()
	switch {
	case text != "":
	case jsonErr == nil && err == nil:
		return r, "", nil
	default:
		if text = string(stderr); strings.TrimSpace(text) == "" {
			text = fmt.Sprintf("the go command failed without a word: %v", err)
			if err == nil {
				text = fmt.Sprintf("the go command's answer makes no sense: %v", jsonErr)
			}
		}
	}
	return r, j.clean(text), nil
}

func (j *job) clean(text string) string {
	dirs := []string{j.o.cfg.Dir}
	if real, err := filepath.EvalSymlinks(j.o.cfg.Dir); err == nil && real != j.o.cfg.Dir {
		dirs = append(dirs, real) // Git prints where it really is
	}
	return clean(text, dirs...)
}

func (j *job) trouble(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Request: j.req, Text: j.clean(err.Error()), Err: errors.Unwrap(err)}
}

// try makes one attempt at req.
func (o *Origin) try(ctx context.Context, goCmd string, req goproxy.Request, share bool) (result, again, error) {
	j, err := o.newJob(req, share)
	if err != nil {
		return result{}, enough, &Error{Request: req, Text: clean("the work directory cannot be used: "+err.Error(), o.cfg.Dir), Err: err}
	}
	defer j.close()

	list := []string{"list", "-m", "-e", "-json"}
	var args []string
	at := req.Module.Path + "@" + req.Module.Version
	switch req.Kind {
	case goproxy.List:
		args = append(list, "-versions", "-retracted", req.Module.Path)
	case goproxy.Latest:
		args = append(list, req.Module.Path+"@latest")
	case goproxy.Zip:
		args = []string{"mod", "download", "-json", at}
	default:
		args = append(list, at)
	}
	r, text, err := j.goRun(ctx, goCmd, args...)
	if err != nil {
		return result{}, enough, err
	}
	mod := module.Version{Path: req.Module.Path, Version: r.Version}
	if req.Immutable() {
		mod = req.Module
	}
	if text == "" && req.Kind == goproxy.Mod && !exists(j.cached(mod, goproxy.Mod)) {
		// `go list` keeps to itself why there is no go.mod.
		r, text, err = j.goRun(ctx, goCmd, "mod", "download", "-json", at)
		if err != nil {
			return result{}, enough, err
		}
	}
	if text != "" && req.Kind == goproxy.Zip && tooNewText.MatchString(text) && r.Origin.VCS == "git" && exists(j.cached(mod, goproxy.Mod)) {
		if err := j.archive(ctx, r.Origin); err != nil {
			return result{}, j.doubt(err.Text), err
		}
		text = ""
	}
	if text != "" {
		return j.failed(ctx, r, text)
	}
	if req.Kind == goproxy.List {
		var versions []string
		for _, v := range r.Versions {
			if goproxy.IsCanonical(module.Version{Path: req.Module.Path, Version: v}) && !module.IsPseudoVersion(v) {
				versions = append(versions, v)
			}
		}
		return result{data: append([]byte{}, goproxy.FormatList(goproxy.SortVersions(versions))...)}, enough, nil
	}
	return j.harvest(ctx, mod, r.Origin)
}

// doubt is isolated if the text sounds like a broken clone, and that clone was
// a shared one: the next job begins with fresh ones.
func (j *job) doubt(text string) again {
	if j.repos != nil && cloneText.MatchString(text) {
		j.o.repos.retire(j.repos)
		return isolated
	}
	return enough
}

// failed makes an error of what the go command said, unless the shared clones
// are to blame.
func (j *job) failed(ctx context.Context, r report, text string) (result, again, error) {
	e := classify(j.req, text)
	if more := j.doubt(text); more != enough {
		return result{}, more, e
	}
	if e.Cause != Missing || r.Origin.VCS != "git" {
		return result{}, enough, e
	}
	// The go command calls a revision unknown whenever `git log` fails, which it
	// also does in a broken clone, or if another job has just dropped a tag that
	// had moved. Where an older clone had a part in it, the server has the last word.
	var refs []string
	if m := unknownRevision.FindStringSubmatch(plain(text, j.req)); m != nil {
		if isHex(m[1]) && strings.Contains(j.req.Module.Version, m[1]) {
			return result{}, enough, e // nobody but a clone knows commits
		}
		refs = []string{"refs/tags/" + m[1], "refs/heads/" + m[1]}
		if isHex(m[1]) {
			refs = []string{"HEAD"} // the commit of a ref that the server listed
		}
	} else if r.Origin.Hash == "" {
		refs = []string{"HEAD"} // "no matching versions", and no commit to say so of
	}
	if clone := j.clone(r.Origin); len(refs) > 0 && clone != "" && j.old(clone) {
		there, err := j.remote(ctx, r.Origin.URL, refs...)
		if err != nil {
			return result{}, enough, err
		}
		if len(there) > 0 {
			return result{}, isolated, e
		}
	}
	return result{}, enough, e
}

// harvest takes the files of mod out of the job's module cache.
func (j *job) harvest(ctx context.Context, mod module.Version, from vcsOrigin) (result, again, error) {
	if !goproxy.IsCanonical(mod) {
		return result{}, enough, j.trouble("the go command resolves %s to %q, which is no canonical version", j.req, mod.Version)
	}
	info, err := readLimited(j.cached(mod, goproxy.Info), goproxy.MaxInfo)
	if err != nil {
		return result{}, enough, j.trouble("the go command left no .info of %s@%s: %w", mod.Path, mod.Version, err)
	}
	if _, err := goproxy.ParseInfo(info, mod); err != nil {
		return result{}, enough, j.trouble("the .info of %s@%s is no good: %w", mod.Path, mod.Version, err)
	}
	if from.Hash == "" {
		var f struct{ Origin vcsOrigin }
		json.Unmarshal(info, &f)
		from = f.Origin
	}
	if from.VCS == "git" && !isHex(from.Hash) {
		return result{}, enough, j.trouble("the go command names %q as the commit of %s@%s", from.Hash, mod.Path, mod.Version)
	}
	if from.VCS == "git" {
		if more, err := j.checkTag(ctx, mod, from); more != enough || err != nil {
			return result{}, more, err
		}
	}
	if clean := withoutSecrets(info); !bytes.Equal(clean, info) {
		if err := os.WriteFile(j.cached(mod, goproxy.Info), clean, 0o600); err != nil {
			return result{}, enough, j.trouble("writing the .info of %s@%s: %w", mod.Path, mod.Version, err)
		}
		info = clean
	}
	if data, err := readLimited(j.cached(mod, goproxy.Mod), goproxy.MaxMod); err == nil {
		if more, err := j.checkMod(ctx, mod, from, data); err != nil {
			return result{}, more, err
		}
	}

	o := j.o
	o.mu.Lock()
	o.serial++
	h := &holding{o: o, refs: 1, mod: mod, dir: filepath.Join(o.run.dir, "kept"+strconv.Itoa(o.serial)), files: make(map[goproxy.Kind]string)}
	o.mu.Unlock()
	err = os.Mkdir(h.dir, 0o700)
	for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
		if src := j.cached(mod, k); err == nil && exists(src) {
			h.files[k] = filepath.Join(h.dir, k.String())
			err = os.Rename(src, h.files[k])
		}
	}
	if err == nil && j.req.Immutable() && h.files[j.req.Kind] == "" {
		err = fmt.Errorf("the go command left no .%s", j.req.Kind)
	}
	if err != nil {
		os.RemoveAll(h.dir)
		return result{}, enough, j.trouble("keeping what version control brought: %w", err)
	}
	h.size = size(h.dir)
	res := result{files: h}
	if !j.req.Immutable() {
		res.data = info
	}
	return res, enough, nil
}

// cached is where the go command keeps a file of mod in the job's module cache,
// "" if mod cannot be there.
func (j *job) cached(mod module.Version, k goproxy.Kind) string {
	path := goproxy.Request{Kind: k, Module: mod}.Path()
	if path == "" {
		return ""
	}
	return filepath.Join(j.dir, "mod", "cache", "download", filepath.FromSlash(path))
}

// checkMod guards against a go.mod that the go command has made up: it does so
// for modules without one, but also if it could not read the one there is.
func (j *job) checkMod(ctx context.Context, mod module.Version, from vcsOrigin, data []byte) (again, error) {
	if from.VCS != "git" || string(data) != "module "+modfile.AutoQuote(mod.Path)+"\n" {
		return enough, nil
	}
	clone := j.clone(from)
	if clone == "" {
		return enough, nil // a go command that keeps its clones elsewhere
	}
	file := strings.TrimPrefix(from.Subdir+"/go.mod", "/")
	there, err := j.git(ctx, clone, nil, "ls-tree", "--name-only", "--end-of-options", from.Hash, "--", file)
	if err != nil {
		return j.doubt(err.Text), err
	}
	if len(there) == 0 {
		return enough, nil
	}
	real, err := j.git(ctx, clone, nil, "cat-file", "--end-of-options", "blob", from.Hash+":"+file)
	if err != nil {
		return j.doubt(err.Text), err
	}
	if !bytes.Equal(real, data) {
		return isolated, j.trouble("the go command could not read the go.mod of %s@%s", mod.Path, mod.Version)
	}
	return enough, nil
}

// withoutSecrets takes the credentials out of the Origin.URL of an .info. They
// come from a go-import page; without any, the bytes stay as they are.
func withoutSecrets(info []byte) []byte {
	var f map[string]json.RawMessage
	var from map[string]json.RawMessage
	var s string
	if json.Unmarshal(info, &f) != nil || json.Unmarshal(f["Origin"], &from) != nil || json.Unmarshal(from["URL"], &s) != nil {
		return info
	}
	u, err := url.Parse(s)
	if err != nil || u.User == nil || u.User.String() == "git" {
		return info
	}
	u.User = nil
	from["URL"], _ = json.Marshal(u.String())
	f["Origin"], _ = json.Marshal(from)
	data, err := json.Marshal(f)
	if err != nil {
		return info
	}
	return data
}

func exists(name string) bool {
	if name == "" {
		return false
	}
	_, err := os.Stat(name)
	return err == nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(name string, limit int64) ([]byte, error) {
	if name == "" {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, err
}

// isHex reports whether rev may be (the beginning of) a commit's hash.
func isHex(rev string) bool {
	return len(rev) >= 7 && strings.Trim(rev, "0123456789abcdef") == ""
}
