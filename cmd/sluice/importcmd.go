package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/upstream"
)

func newImport(e *env) *cobra.Command {
	var o importOrder
	cmd := &cobra.Command{
		Use:   "import [DIR...]",
		Short: "Take the files of a module cache or GOPROXY tree into the store",
		Long: `Import verifies the module files in each DIR, as serve does with what a source
answers, and takes them into the store. DIR is a module cache (a GOMODCACHE) or a
GOPROXY tree, also as a file:// URL; without one it is the module cache of go env.
No source is asked for a module; the checksum database is, for what DIR does not
have of it.

A file that is stored already is passed over, so an import that was broken off
can be run again. Where the file system can, files are not copied but linked.
Nothing in DIR is changed. It may run beside a server.

What no checksum database covers (private modules) is left, unless the store has
seen it before, or --pin says that DIR is to be believed.

Exit status: 0 all could be taken or was left for want of --pin, 1 something
could not, 2 misused.`,
		Example: "  sluice import\n  sluice import --dry-run /mnt/usb/go/pkg/mod\n  sluice import --pin file:///srv/goproxy",
		Args: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if a == "" {
					return misuse("a DIR is empty; write sluice import DIR")
				}
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runImport(cmd.Context(), e, cmd, args, o) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print an object with counts and problems")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what would be taken")
	cmd.Flags().BoolVar(&o.pin, "pin", false, "take also what no checksum database covers, pinned as it is in DIR")
	e.configFlags(cmd, nil)
	return cmd
}

type importOrder struct{ json, dryRun, pin bool }

// importParallel is how many module versions are imported at once: some are hashed
// while others wait for the checksum database.
const importParallel = 8

// An importReport is what import --json prints.
type importReport struct {
	DryRun    bool            `json:"dry_run"`
	Complete  bool            `json:"complete"` // it was not broken off
	Files     int             `json:"files"`    // that were looked at
	Bytes     int64           `json:"bytes"`    // of those taken, or that would be
	Linked    int             `json:"linked"`
	Copied    int             `json:"copied"`
	Good      int             `json:"good"` // of a dry run: that would be taken
	There     int             `json:"there"`
	Uncovered int             `json:"uncovered"`
	Failed    int             `json:"failed"`
	Problems  []importProblem `json:"problems"`
}

type importProblem struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
}

func (r *importReport) add(i mirror.Imported) {
	r.Files++
	count := map[mirror.Fate]*int{mirror.Linked: &r.Linked, mirror.Copied: &r.Copied, mirror.Good: &r.Good,
		mirror.There: &r.There, mirror.Uncovered: &r.Uncovered, mirror.Failed: &r.Failed}[i.Fate]
	*count++
	switch i.Fate {
	case mirror.Linked, mirror.Copied, mirror.Good:
		r.Bytes += i.Size
	case mirror.Failed:
		r.problem(i.Request.String(), i.Err)
	}
}

func (r *importReport) problem(file string, err error) {
	r.Problems = append(r.Problems, importProblem{file, finding.Redact(err.Error())})
}

func runImport(ctx context.Context, e *env, cmd *cobra.Command, args []string, o importOrder) error {
	l, err := e.load(cmd, nil)
	if err != nil {
		return err
	}
	for _, warn := range l.Warnings {
		e.say("warning: %s", warn.Error())
	}
	if len(args) == 0 {
		if len(l.Trees) == 0 {
			return misuse("no module cache is known; write sluice import DIR")
		}
	} else {
		l.Trees = nil
		for _, arg := range args {
			dir, err := e.treeOf(arg)
			if err != nil {
				return err
			}
			l.Trees = append(l.Trees, config.TreeOf(dir))
		}
	}
	var dirs []string
	for _, t := range l.Trees {
		dirs = append(dirs, t.Dir)
		if sameDir(t.Dir, l.Data) {
			return misuse("%s is the store itself", t.Dir)
		}
	}
	st, err := importStore(l, o.dryRun)
	if err != nil {
		return err
	}
	w, err := e.build(l, st, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer w.close()

	rep := importReport{DryRun: o.dryRun, Problems: []importProblem{}}
	err = e.importTrees(ctx, w, dirs, o, &rep)
	rep.Complete = err == nil
	// What was done before it was broken off is worth telling all the same.
	if o.json {
		if jerr := writeJSON(e, rep); jerr != nil {
			return jerr
		}
	} else {
		rep.print(e)
	}
	if ctx.Err() != nil {
		e.say("what was taken stays; run the command again to go on")
		return context.Cause(ctx)
	}
	if err != nil {
		return &exitError{status: exitNo, err: err, hint: "make room or let this user write to the store, and run the command again: what was taken stays"}
	}
	if rep.Uncovered > 0 {
		are, them := "are", "them"
		if rep.Uncovered == 1 {
			are, them = "is", "it"
		}
		e.say("hint: %s of modules that no checksum database covers %s left; if you trust where %s from, --pin takes %s", count(rep.Uncovered, "file"), are, map[string]string{"are": "they come", "is": "it comes"}[are], them)
	}
	if rep.Files == 0 && len(rep.Problems) == 0 {
		return &exitError{status: exitNo, err: fmt.Errorf("there are no module files in %s", strings.Join(dirs, ", ")),
			hint: "name a module cache (go env GOMODCACHE), or a directory that file:// in GOPROXY could name"}
	}
	if len(rep.Problems) > 0 {
		return &exitError{status: exitNo}
	}
	return nil
}

// importStore opens the store that is imported into. A dry run makes none.
func importStore(l *config.Loaded, dryRun bool) (localStore, error) {
	if dryRun && !hasStore(l.Data) {
		return &closedStore{dir: l.Data, why: errors.New("there is no store yet")}, nil
	}
	st, err := openStore(l, nil)
	if err != nil || dryRun {
		return st, err
	}
	if err := st.Writable(); err != nil {
		st.Close()
		return nil, &exitError{status: exitNo, err: err, hint: "import as the user that the store belongs to, or name another store with --data DIR"}
	}
	return st, nil
}

// treeOf is the GOPROXY tree that an argument of import names.
func (e *env) treeOf(arg string) (string, error) {
	dir := arg
	if strings.HasPrefix(arg, "file://") {
		var err error
		if dir, err = fileURLPath(arg); err != nil {
			return "", misuse("%w", err)
		}
	}
	if scheme, _, ok := strings.Cut(arg, "://"); ok && scheme != "file" {
		return "", &exitError{status: exitMisuse, err: fmt.Errorf("%s is the URL of a server, and import reads directories", goenv.Redact(arg)),
			hint: "what a server has comes into the store when it is asked for: sluice run --proxy " + goenv.Redact(arg) + " -- go mod download"}
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(e.dir, dir)
	}
	if in := filepath.Join(dir, "cache", "download"); isDir(in) {
		return in, nil
	}
	if !isDir(dir) {
		text := dir + " is no directory"
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			text = "there is no directory " + dir
		} else if err != nil {
			text = fmt.Sprintf("%s cannot be read: %v", dir, plainError(err))
		}
		return "", &exitError{status: exitNo, err: errors.New(text), hint: "name a module cache, such as go env GOMODCACHE prints, or the top of a GOPROXY tree"}
	}
	return dir, nil
}

// plainError is an error of a file without what was called and on which file.
func plainError(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

// importTrees imports one tree after the other.
func (e *env) importTrees(ctx context.Context, w *world, dirs []string, o importOrder, rep *importReport) error {
	for _, dir := range dirs {
		tree := upstream.NewTreeSource(dir, importName, 0)
		var reqs []goproxy.Request
		err := tree.Walk(ctx, func(req goproxy.Request, err error) error {
			if err != nil {
				rep.problem(dir, err)
				return nil
			}
			reqs = append(reqs, req)
			return nil
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			rep.problem(dir, err)
			continue
		}
		done, told := 0, time.Now()
		tell := func(every time.Duration, format string) {
			if time.Since(told) >= every {
				told = time.Now()
				fmt.Fprintf(e.stderr, format, done, len(reqs), size(rep.Bytes))
			}
		}
		err = w.mirror.Import(ctx, tree, reqs, mirror.ImportOptions{
			DryRun: o.dryRun, Pin: o.pin, Parallel: max(importParallel, runtime.NumCPU()),
			Done: func(i mirror.Imported) {
				done++
				rep.add(i)
				if e.terminal {
					tell(barEvery, clearLine+"sluice: %d/%d files, %s")
				} else {
					tell(lineEvery, "sluice: %d of %d files, %s\n")
				}
			},
		})
		if e.terminal {
			fmt.Fprint(e.stderr, clearLine)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// importName is what the records of imported files name as their source.
const importName = "import"

func (r *importReport) print(e *env) {
	for _, p := range r.Problems {
		fmt.Fprintf(e.stdout, "%s: %s\n", p.File, p.Problem)
	}
	taken := fmt.Sprintf("%d linked, %d copied", r.Linked, r.Copied)
	if r.DryRun {
		taken = fmt.Sprintf("%d would be taken", r.Good)
	}
	if r.Files == 0 && len(r.Problems) == 0 {
		return // the error says so
	}
	fmt.Fprintf(e.stdout, "%s, %s: %s, %d were in the store, %d that no checksum database covers, %d could not be taken\n",
		count(r.Files, "file"), size(r.Bytes), taken, r.There, r.Uncovered, r.Failed)
}
