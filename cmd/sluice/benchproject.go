package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/modsluice/sluice/internal/bench"
	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/origin"
)

// buildHere is what bench --project compares: the build of the module here, by the go
// command's word.
func (e *env) buildHere(ctx context.Context, budget time.Duration) (bench.Check, error) {
	no := func(err error, hint string) (bench.Check, error) {
		return bench.Check{}, &exitError{status: exitNo, err: fmt.Errorf("--project: %w", err), hint: hint}
	}
	goCmd, err := origin.FindGo(e.getenv("PATH"))
	if err != nil {
		return no(err, "leave --project out: mirrors can be measured without the go command")
	}
	vars, err := origin.GoEnv(ctx, goCmd, e.environ, e.dir, "GOMOD", "GOWORK", "GOFLAGS")
	if err != nil {
		return no(err, "sluice doctor says more")
	}
	var c bench.Check
	environ := with(e.environ, "GOFLAGS", strings.TrimSpace(withoutMod(vars["GOFLAGS"])+" -mod=readonly"))
	files := []string{e.modFile(vars)}
	switch work := vars["GOWORK"]; {
	case work != "" && work != "off":
		c.File = work
		var copied string
		if files, c.Replacing, copied, err = e.workspace(work); err != nil {
			return no(err, "mend it, or set GOWORK=off")
		}
		defer os.RemoveAll(filepath.Dir(copied))
		environ = with(environ, "GOWORK", copied)
	case vars["GOMOD"] != "" && vars["GOMOD"] != os.DevNull:
		c.File = vars["GOMOD"]
	default:
		return no(errors.New("there is no go.mod here or above"), "run it in a module")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return no(err, "sluice doctor says more")
		}
		f, err := modfile.Parse(file, data, nil)
		if err != nil {
			return no(err, "mend it")
		}
		c.Replacing = append(c.Replacing, replacing(e, file, f.Replace)...)
	}
	c.File = e.near(c.File)
	// A vendor directory is not asked, and nothing of the project is written.
	output := func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, budget, fmt.Errorf("it did not end within %v", budget))
		defer cancel()
		var out, errOut bytes.Buffer
		status, err := origin.Trial(ctx, origin.Child{Args: slices.Concat([]string{goCmd}, args), Environ: environ, Dir: e.dir, Stdout: &out, Stderr: &errOut})
		if err == nil && status != 0 {
			err = errors.New(finding.OneLine(finding.Redact(errOut.String()), 300))
		}
		if err != nil {
			return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
		}
		return out.Bytes(), nil
	}
	list, err := output("list", "-m", "-e", "-json", "all")
	if err != nil {
		return no(err, "sluice explain and sluice doctor say more")
	}
	graph, failed := output("mod", "graph")
	if ctx.Err() != nil {
		return bench.Check{}, context.Cause(ctx)
	}
	if failed != nil {
		graph = nil // the list is worth something without it
	}
	if c.Build, err = bench.ReadBuild(list, graph); err != nil {
		return no(err, "sluice doctor says more")
	}
	if failed != nil {
		c.Build.Said = append(c.Build.Said, failed.Error())
	}
	return c, nil
}

// modFile is the file that the go command takes for go.mod.
func (e *env) modFile(vars map[string]string) string {
	for _, f := range strings.Fields(vars["GOFLAGS"]) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(f, "-"), "-"), "="); ok && name == "modfile" && strings.HasPrefix(f, "-") {
			if !filepath.IsAbs(value) {
				value = filepath.Join(e.dir, value)
			}
			return value
		}
	}
	return vars["GOMOD"]
}

// workspace gives the go.mod files that a go.work uses and its own replace lines, and a copy
// of it in a directory of its own, which the caller must remove: beside a go.work the go command
// writes what go.work.sum lacks.
func (e *env) workspace(work string) (mods []string, list []bench.Replacing, copied string, err error) {
	data, err := os.ReadFile(work)
	if err != nil {
		return nil, nil, "", err
	}
	f, err := modfile.ParseWork(work, data, nil)
	if err != nil {
		return nil, nil, "", err
	}
	list = replacing(e, work, f.Replace)
	whole := func(dir string) string {
		if dir = filepath.FromSlash(dir); !filepath.IsAbs(dir) {
			dir = filepath.Join(filepath.Dir(work), dir)
		}
		return dir
	}
	// What is dropped is emptied, so its values are taken before.
	var uses []modfile.Use
	for _, u := range f.Use {
		uses = append(uses, *u)
	}
	var replaces []modfile.Replace
	for _, r := range f.Replace {
		replaces = append(replaces, *r)
	}
	for _, u := range uses {
		dir := whole(u.Path)
		mods = append(mods, filepath.Join(dir, "go.mod"))
		if err := errors.Join(f.DropUse(u.Path), f.AddUse(filepath.ToSlash(dir), u.ModulePath)); err != nil {
			return nil, nil, "", err
		}
	}
	for _, r := range replaces {
		if r.New.Version == "" {
			if err := f.AddReplace(r.Old.Path, r.Old.Version, filepath.ToSlash(whole(r.New.Path)), ""); err != nil {
				return nil, nil, "", err
			}
		}
	}
	f.Cleanup()
	dir, err := os.MkdirTemp("", "sluice-bench-*")
	if err != nil {
		return nil, nil, "", err
	}
	copied = filepath.Join(dir, "go.work")
	sum, err := os.ReadFile(work + ".sum")
	if err == nil {
		err = os.WriteFile(copied+".sum", sum, 0o600)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(copied, modfile.Format(f.Syntax), 0o600)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, "", err
	}
	return mods, list, copied, nil
}

func replacing(e *env, file string, lines []*modfile.Replace) (list []bench.Replacing) {
	for _, r := range lines {
		list = append(list, bench.Replacing{File: e.near(file), Old: r.Old, New: r.New})
	}
	return list
}

// near is a file's name as short as it can be said from here.
func (e *env) near(file string) string {
	if rel, err := filepath.Rel(e.dir, file); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return shownName(file)
}

// withoutMod is GOFLAGS without its -mod.
func withoutMod(flags string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(flags), func(f string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "-"), "=")
		return strings.HasPrefix(f, "-") && strings.TrimPrefix(name, "-") == "mod"
	}), " ")
}

// compareProject compares the build here with the mirrors that answer, in what is left of
// their time.
func (e *env) compareProject(ctx context.Context, l *config.Loaded, settings *goenv.Settings, p bench.Plan, c bench.Check, rep *bench.Report) {
	for i := range p.Mirrors {
		m := &p.Mirrors[i]
		k := slices.IndexFunc(rep.Mirrors, func(r bench.Measured) bool { return r.Name == m.Name })
		if k < 0 {
			continue
		}
		r := &rep.Mirrors[k]
		left := p.Time - time.Duration(r.Seconds*float64(time.Second))
		if r.Stopped == "" && left > 0 && r.Verdict != bench.Lying && (r.Verdict != bench.Dead || r.Code == finding.NotFound) {
			c.Mirrors = append(c.Mirrors, bench.Asked{Mirror: m, Left: left})
		}
	}
	chain := l.Proxy
	if l.From["proxy"].Layer == config.GoEnv {
		chain, _ = goenv.ParseProxyList(settings.Get("GOPROXY").Value)
	}
	for _, entry := range chain {
		c.Chain = append(c.Chain, bench.Way{Kind: entry.Kind, Mirror: slices.IndexFunc(c.Mirrors, func(m bench.Asked) bool {
			return config.SourceURL(m.URL) == config.SourceURL(entry.URL)
		})})
	}
	c.Around, c.Secret, c.Answer = l.NoProxy, secretTo(l), p.Answer
	c.Progress = func(text string) { p.Progress(bench.Progress{Text: text, Done: 1, Total: 1}) }
	rep.Project = *bench.Compare(ctx, c)
	if ctx.Err() != nil {
		rep.Ended = bench.Interrupted
	}
}

// secretTo reports whether a module path is none of a mirror's business.
func secretTo(l *config.Loaded) func(path string) bool {
	return func(path string) bool { return l.Private.Match(path) || l.NoProxy.Match(path) || l.NoSumDB.Match(path) }
}
