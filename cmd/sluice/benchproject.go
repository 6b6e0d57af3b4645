package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	files := []string{vars["GOMOD"]}
	switch work := vars["GOWORK"]; {
	case work != "" && work != "off":
		c.File = work
		if files, c.Replacing, err = readWork(e, work); err != nil {
			return no(err, "mend it, or set GOWORK=off")
		}
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
	// A vendor directory is not asked, and nothing is written.
	environ := with(e.environ, "GOFLAGS", strings.TrimSpace(withoutMod(vars["GOFLAGS"])+" -mod=readonly"))
	output := func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, budget, fmt.Errorf("it did not end within %v", budget))
		defer cancel()
		var out, errOut bytes.Buffer
		status, err := origin.Run(ctx, origin.Child{Args: slices.Concat([]string{goCmd}, args), Environ: environ, Dir: e.dir, Stdout: &out, Stderr: &errOut})
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
	graph, err := output("mod", "graph")
	if err != nil {
		return no(err, "sluice explain and sluice doctor say more")
	}
	if c.Build, err = bench.ReadBuild(list, graph); err != nil {
		return no(err, "")
	}
	return c, nil
}

// readWork gives the go.mod files that a go.work uses, and its own replace lines.
func readWork(e *env, work string) (mods []string, list []bench.Replacing, err error) {
	data, err := os.ReadFile(work)
	if err != nil {
		return nil, nil, err
	}
	f, err := modfile.ParseWork(work, data, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, u := range f.Use {
		dir := filepath.FromSlash(u.Path)
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(filepath.Dir(work), dir)
		}
		mods = append(mods, filepath.Join(dir, "go.mod"))
	}
	return mods, replacing(e, work, f.Replace), nil
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

// compareProject compares the build here with the mirrors that answer.
func (e *env) compareProject(ctx context.Context, l *config.Loaded, settings *goenv.Settings, p bench.Plan, c bench.Check, rep *bench.Report) {
	c.Chain = l.Proxy
	if l.From["proxy"].Layer == config.GoEnv {
		c.Chain, _ = goenv.ParseProxyList(settings.Get("GOPROXY").Value)
	}
	for _, m := range p.Mirrors {
		if slices.ContainsFunc(rep.Mirrors, func(r bench.Measured) bool {
			return r.Name == m.Name && r.Verdict != bench.Lying && (r.Verdict != bench.Dead || r.Code == finding.NotFound)
		}) {
			c.Mirrors = append(c.Mirrors, m)
		}
	}
	c.Around, c.Secret = l.NoProxy, secretTo(l)
	c.Time, c.Answer = p.Time, p.Answer
	c.Progress = func(text string) { p.Progress(bench.Progress{Text: text, Done: 1, Total: 1}) }
	rep.Project = bench.Compare(ctx, c)
}

// secretTo reports whether a module path is none of a mirror's business.
func secretTo(l *config.Loaded) func(path string) bool {
	return func(path string) bool { return l.Private.Match(path) || l.NoProxy.Match(path) || l.NoSumDB.Match(path) }
}
