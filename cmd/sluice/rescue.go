package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modcache"
	"github.com/modsluice/sluice/internal/origin"
)

// rescueDefaults are the configuration keys for which rescue has another default.
func rescueDefaults() map[string]string { return runDefaults() }

type rescueOrder struct {
	cache, dryRun, json, verify bool
	offline, keep, yes          bool
	undo, list, force           bool
}

func newRescue(e *env) *cobra.Command {
	var o rescueOrder
	cmd := &cobra.Command{
		Use:   "rescue [flags] [-- COMMAND [ARGUMENT...]] | --cache | --undo",
		Short: "Get a build going that modules do not come for, now",
		Long: `Rescue is for the moment when modules do not come and a build has to work. Without a
question in between it finds out what is broken, as sluice doctor does, but in 2.5 s;
reads settings that are written wrongly as they were meant; mends those of the project's
versions that are damaged in the module cache, as with --cache; finds which sources work;
runs COMMAND (go mod download, if none is given) through them as sluice run does; and
reads what has come once more. docs/broken-now.md says what to type when something else helps.

The sources are those of your settings, those of --to, and --bundle, a GOPROXY tree or an
archive of one; nobody else is asked. The store has what once came through Sluice. What
is verified is verified as ever. A forward proxy that nobody can use is left out.

No setting is changed, unless you say so: with --keep, or when you are asked at the end, at
a terminal. Then the sources that work are written to the file of go env -w, and
sluice rescue --undo puts back what was there, to the byte.

What was broken, what was done and when, what is left and what to do is kept as JSON and as
a page beside the store (.sluice/incidents), and written to --record FILE.

With --cache it reads the whole module cache (go env GOMODCACHE): zips, their recorded
hashes, extracted modules file by file, .info, .mod and lists, locks, leftovers, owners and
permissions, and what is kept of checksum databases. What is damaged is made anew of what
is here, or fetched again from the sources of your settings and verified, and put in its
place only then; all else is left as it is. It may run beside go commands: what one is at
work on is left to it. It may be broken off and run again.

--dry-run only says what is broken. With --cache it asks nobody for that.

Exit status: 0 the command works, 1 it does not, 2 misused; with --cache 0 nothing is damaged,
or all was mended, 1 something still is; with --dry-run 1 if something is broken.`,
		Example: "  sluice rescue\n  sluice rescue -- go build ./...\n  sluice rescue --to https://proxy.example.com --record incident.md\n  sluice rescue --offline --bundle modules.zip\n  sluice rescue --undo\n  sluice rescue --cache --dry-run",
		Args:    func(cmd *cobra.Command, args []string) error { return o.check(cmd, args) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.undo:
				return e.undo(cmd, undoing{command: byRescue, list: o.list, force: o.force, json: o.json})
			case o.cache:
				return runRescueCache(cmd.Context(), e, cmd, o)
			}
			return runRescue(cmd.Context(), e, cmd, o, args)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&o.cache, "cache", false, "mend the module cache, all of it, and do nothing else")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what is broken, or with --cache what is damaged")
	f.BoolVar(&o.verify, "verify", false, "with --cache: also ask the checksum database what every version has to be")
	f.BoolVar(&o.json, "json", false, "print the record as JSON; docs/incident.schema.json, or with --cache docs/rescue.schema.json, says what is in it")
	f.Var(&textFlag{kind: "list"}, "to", "ask these sources first, a GOPROXY list")
	cmd.RegisterFlagCompletionFunc("to", cobra.NoFileCompletions)
	f.Var(&textFlag{kind: "file|directory"}, "bundle", "also take modules from this GOPROXY tree, or zip, tar or tar.gz of one")
	f.BoolVar(&o.offline, "offline", false, "ask nobody: take modules from the store and --bundle")
	f.Var(&textFlag{kind: "file"}, "record", "also write the record to this file, as JSON if it ends in .json, else as a page")
	cmd.MarkFlagFilename("record", "md", "json")
	f.BoolVar(&o.keep, "keep", false, "write the sources that work to the settings")
	f.BoolVar(&o.yes, "yes", false, "say yes to what would be asked, which is whether to --keep them")
	f.BoolVar(&o.undo, "undo", false, "put back what the last sluice rescue changed in the settings")
	f.BoolVar(&o.list, "list", false, "with --undo: list what was changed, and change nothing")
	f.BoolVar(&o.force, "force", false, "with --undo: also where somebody has changed the file since, of which a copy is kept")
	e.configFlags(cmd, rescueDefaults())
	return cmd
}

// check says what is wrong with the command line.
func (o *rescueOrder) check(cmd *cobra.Command, args []string) error {
	on := func(names ...string) string {
		for _, name := range names {
			if cmd.Flags().Changed(name) {
				return name
			}
		}
		return ""
	}
	for _, f := range [][2]string{{"to", "the sources to ask"}, {"bundle", "the tree or archive"}, {"record", "the file to write"}} {
		if on(f[0]) != "" && cmd.Flag(f[0]).Value.String() == "" {
			return emptyFlag(f[0], f[1])
		}
	}
	own := []string{"to", "bundle", "offline", "record", "keep", "yes"}
	switch {
	case o.cache && o.undo:
		return misuse("--cache and --undo exclude one another")
	case o.undo && on(append(own, "dry-run", "verify")...) != "":
		return misuse("--undo makes no check and runs nothing; leave --%s away", on(append(own, "dry-run", "verify")...))
	case o.cache && on(own...) != "":
		return misuse("--%s does not go with --cache", on(own...))
	case o.verify && !o.cache:
		return misuse("--verify goes with --cache")
	case (o.list || o.force) && !o.undo:
		return misuse("--list and --force go with --undo")
	case o.list && o.force:
		return misuse("--list changes nothing, so there is nothing to --force")
	case o.offline && on("to") != "":
		return misuse("--offline asks nobody, and --to names somebody to ask; give one of them")
	case o.dryRun && on("keep", "yes") != "":
		return misuse("--dry-run changes nothing, so there is nothing to --keep")
	case o.cache || o.undo:
		return noArgs(cmd, args)
	}
	return nil
}

// rescueSchema is the version of what rescue --cache --json prints.
const rescueSchema = "sluice-rescue-cache/1"

// A rescueReport is what rescue --cache --json prints.
type rescueReport struct {
	Schema       string         `json:"schema"`
	Cache        string         `json:"cache"`
	DryRun       bool           `json:"dry_run"`
	Complete     bool           `json:"complete"` // it was not broken off
	Versions     int            `json:"versions"`
	Bytes        int64          `json:"bytes"` // of zips and trees that were read
	Damages      []rescueDamage `json:"damages"`
	Mended       int            `json:"mended"`
	Fetched      int            `json:"fetched"` // files
	FetchedBytes int64          `json:"fetched_bytes"`
	Stored       int            `json:"stored"` // of fetched, those that were in the store
	Busy         []string       `json:"busy"`   // versions that a go command was at work on
	Unasked      int            `json:"unasked"`
	TookMS       int64          `json:"took_ms"`
}

type rescueDamage struct {
	Kind    string `json:"kind"`
	Module  string `json:"module"`
	Version string `json:"version"`
	File    string `json:"file"`
	Problem string `json:"problem"`
	Done    string `json:"done"` // "" in a dry run
	Error   string `json:"error"`
}

func runRescueCache(ctx context.Context, e *env, cmd *cobra.Command, o rescueOrder) error {
	l, err := e.loadFor(cmd, rescueDefaults(), true)
	if err != nil {
		return err
	}
	for _, warn := range l.Warnings {
		e.say("warning: %s", warn.Error())
	}
	settings := e.goSettings(ctx)
	dir := settings.Get("GOMODCACHE").Value
	if dir == "" {
		return &exitError{status: exitNo, err: errors.New("no module cache is known, since HOME, GOPATH and GOMODCACHE are not set"), hint: "name it with GOMODCACHE=DIR in the environment"}
	}
	rep := rescueReport{Schema: rescueSchema, Cache: dir, DryRun: o.dryRun, Damages: []rescueDamage{}, Busy: []string{}}
	c := modcache.Config{Dir: dir, Sums: e.projectSums(), Writable: strings.Contains(settings.Get("GOFLAGS").Value, "-modcacherw"), Progress: e.rescueProgress(),
		Owner: e.getenv("SUDO_UID") != ""}
	if o.verify || !o.dryRun {
		end, err := e.rescueSources(l, &c, o)
		if err != nil {
			return err
		}
		defer end()
	}
	start := time.Now()
	var r modcache.Report
	k, err := modcache.Open(c)
	switch {
	case errors.Is(err, fs.ErrNotExist): // then nothing in it is damaged
		e.say("there is no module cache at %s", dir)
		err = nil
	case err != nil:
		return &exitError{status: exitNo, err: err, hint: "go env GOMODCACHE says where it is; GOMODCACHE=DIR in the environment names another"}
	case o.dryRun:
		r, err = k.Check(ctx)
	default:
		r, err = k.Mend(ctx)
	}
	if e.terminal {
		fmt.Fprint(e.stderr, clearLine)
	}
	rep.Complete = err == nil
	rep.add(r, time.Since(start))
	// What was done before it was broken off is worth telling all the same.
	if o.json {
		if jerr := writeJSON(e, rep); jerr != nil {
			return jerr
		}
	} else {
		rep.print(e)
	}
	if r.Unasked > 0 {
		e.say("warning: the checksum database could not be asked about %s: %v", count(r.Unasked, "version"), r.Unread)
	}
	_, denied := rep.withoutDenied()
	if denied != "" && ctx.Err() == nil {
		e.say("hint: %s", rep.givenBack())
	}
	switch {
	case ctx.Err() != nil:
		e.say("what was mended stays; run the command again to go on")
		return context.Cause(ctx)
	case err != nil:
		return err
	case rep.Mended < len(rep.Damages):
		ee := &exitError{status: exitNo}
		if o.dryRun && denied == "" {
			e.say("hint: sluice rescue --cache mends it")
		}
		return ee
	}
	return nil
}

// rescueProgress tells at a terminal how far reading is; nil elsewhere.
func (e *env) rescueProgress() func(done, total int) {
	if !e.terminal {
		return nil
	}
	var told time.Time
	return func(done, total int) {
		if time.Since(told) >= barEvery {
			told = time.Now()
			fmt.Fprintf(e.stderr, clearLine+"sluice: %d/%d versions", done, total)
		}
	}
}

func (rep *rescueReport) add(r modcache.Report, took time.Duration) {
	rep.Versions, rep.Bytes, rep.Unasked = r.Versions, r.Bytes, r.Unasked
	rep.Fetched, rep.FetchedBytes, rep.Stored, rep.TookMS = r.Fetched, r.FetchedBytes, r.Stored, took.Milliseconds()
	for _, d := range r.Damages {
		x := rescueDamage{Kind: string(d.Kind), Module: d.Module.Path, Version: d.Module.Version, File: d.File, Problem: finding.OneLine(finding.Redact(d.Text), 500), Done: string(d.Done)}
		if d.Err != nil {
			x.Error = finding.OneLine(finding.Redact(d.Err.Error()), 1000)
		}
		switch d.Done {
		case "", modcache.Left, modcache.Failed:
		default:
			rep.Mended++
		}
		rep.Damages = append(rep.Damages, x)
	}
	for _, m := range r.Busy {
		rep.Busy = append(rep.Busy, m.String())
	}
}

func (rep *rescueReport) print(e *env) {
	damages, denied := rep.withoutDenied()
	if denied != "" {
		fmt.Fprintln(e.stdout, denied)
	}
	for _, d := range damages {
		fmt.Fprintf(e.stdout, "%s: %s", d.File, d.Problem)
		switch {
		case d.Error != "":
			fmt.Fprintf(e.stdout, " (%s: %s)\n", d.Done, d.Error)
		case d.Done != "":
			fmt.Fprintf(e.stdout, " (%s)\n", d.Done)
		default:
			fmt.Fprintln(e.stdout)
		}
	}
	for _, m := range rep.Busy {
		fmt.Fprintf(e.stdout, "%s: a go command is at work on it, so it is left alone\n", m)
	}
	text := "nothing is damaged"
	if n := len(rep.Damages); n > 0 {
		text = "damaged: " + count(n, "thing")
		if !rep.DryRun {
			text += fmt.Sprintf(", mended: %d; fetched: %s of %s, %d of them from the store", rep.Mended, count(rep.Fetched, "file"), size(rep.FetchedBytes), rep.Stored)
		}
	}
	fmt.Fprintf(e.stdout, "%s, %s read in %.1fs: %s\n", count(rep.Versions, "version"), size(rep.Bytes), float64(rep.TookMS)/1000, text)
}

// projectSums is what go.sum says here: that of the module or workspace that the
// working directory belongs to. What cannot be read of it says nothing.
func (e *env) projectSums() map[module.Version]string {
	all := map[module.Version]string{}
	add := func(name string) {
		sums, err := readGoSum(name)
		if err != nil {
			e.say("warning: go.sum is not heeded further than it can be read: %v", err)
		}
		maps.Copy(all, sums)
	}
	above := func(base string) string {
		for dir := e.dir; dir != ""; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, base)); err == nil {
				return filepath.Join(dir, base)
			}
			if filepath.Dir(dir) == dir {
				break
			}
		}
		return ""
	}
	if work := cmp.Or(e.getenv("GOWORK"), above("go.work")); work != "" && work != "off" {
		add(work + ".sum")
		if data, err := os.ReadFile(work); err == nil {
			if f, err := modfile.ParseWork(work, data, nil); err == nil {
				for _, u := range f.Use {
					dir := filepath.FromSlash(u.Path)
					if !filepath.IsAbs(dir) {
						dir = filepath.Join(filepath.Dir(work), dir)
					}
					add(filepath.Join(dir, "go.sum"))
				}
			}
		}
	}
	if mod := above("go.mod"); mod != "" {
		add(strings.TrimSuffix(mod, ".mod") + ".sum")
	}
	return all
}

// rescueSources makes what modules come from again, and are verified by; end ends it.
func (e *env) rescueSources(l *config.Loaded, c *modcache.Config, o rescueOrder) (end func(), err error) {
	// Nothing is taken from the cache that is to be mended, and version control is
	// the go command's own business here, as for run.
	l.Trees = nil
	s := &rescueSource{e: e, noProxy: l.NoProxy, got: map[module.Version]func() (map[goproxy.Kind]string, error){}}
	l.Proxy, s.tail = leaveDirect(l.Proxy)
	s.alone = len(l.Proxy) == 0
	st, err := openStore(l, nil)
	if err != nil {
		return nil, err
	}
	w, err := e.build(l, st, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	w.parts.chain.DirectBehind = s.tail == ",direct"
	s.mirror = w.mirror
	c.Source = s
	if o.verify {
		c.Database = func(ctx context.Context, m module.Version) (zip, gomod string, covered bool, err error) {
			sums := w.mirror.Route(m.Path).Sums
			if sums == nil {
				return "", "", false, nil
			}
			zip, gomod, err = sums.Sums(ctx, m)
			return zip, gomod, true, err
		}
	}
	return func() {
		s.close()
		w.close()
	}, nil
}

// A rescueSource has modules by the user's settings: through our chain what comes
// from proxies, and through the go command what comes by version control. It
// implements modcache.Source.
type rescueSource struct {
	e       *env
	mirror  *mirror.Mirror
	noProxy goenv.Patterns
	tail    string // ",direct" or "|direct" where version control stands behind the proxies
	alone   bool   // there are no proxies

	mu  sync.Mutex // guards the following
	tmp string     // directory for the go command
	got map[module.Version]func() (map[goproxy.Kind]string, error)
}

// Fetch implements modcache.Source.
func (s *rescueSource) Fetch(ctx context.Context, req goproxy.Request) (*modcache.File, error) {
	vouched := s.mirror.Route(req.Module.Path).Sums != nil
	if !s.alone && !s.noProxy.Match(req.Module.Path) {
		res, err := s.mirror.Get(ctx, req, mirror.Options{Whole: true})
		if err == nil {
			return &modcache.File{Body: wholeBody{res.Content, res}, Vouched: vouched, Stored: res.Hit}, nil
		}
		if s.tail == "" || s.tail == ",direct" && !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	get := s.got[req.Module]
	if get == nil {
		get = sync.OnceValues(func() (map[goproxy.Kind]string, error) { return s.download(ctx, req.Module) })
		s.got[req.Module] = get
	}
	s.mu.Unlock()
	files, err := get()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(files[req.Kind])
	if err != nil {
		return nil, err
	}
	return &modcache.File{Body: f, Vouched: vouched}, nil
}

type wholeBody struct {
	io.Reader
	res *mirror.Result
}

func (b wholeBody) Close() error {
	b.res.Close()
	return nil
}

// download lets the go command download a version, as it would by itself, into a
// module cache of our own.
func (s *rescueSource) download(ctx context.Context, m module.Version) (map[goproxy.Kind]string, error) {
	s.mu.Lock()
	var err error
	if s.tmp == "" {
		s.tmp, err = os.MkdirTemp("", "sluice-rescue-*")
	}
	dir := s.tmp
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	goCmd, err := origin.FindGo(s.e.getenv("PATH"))
	if err != nil {
		return nil, fmt.Errorf("it comes by version control, which is the go command's: %w", err)
	}
	// Read-only directories would outlive us, and flags for builds are none of a download's.
	environ := s.e.environ
	for _, kv := range []string{"GOMODCACHE=" + filepath.Join(dir, "mod"), "GOFLAGS=-modcacherw", "GOWORK=off",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "SSH_ASKPASS_REQUIRE=never", "GCM_INTERACTIVE=never"} {
		name, value, _ := strings.Cut(kv, "=")
		environ = with(environ, name, value)
	}
	var out, errOut bytes.Buffer
	status, err := origin.Run(ctx, origin.Child{Args: []string{goCmd, "mod", "download", "-json", m.String()}, Environ: environ, Dir: dir, Stdout: &out, Stderr: &errOut})
	if err != nil {
		return nil, err
	}
	var got struct{ Info, GoMod, Zip, Error string }
	if jerr := json.Unmarshal(out.Bytes(), &got); jerr != nil || got.Error != "" || status != 0 {
		return nil, fmt.Errorf("the go command cannot download it: %s", finding.OneLine(cmp.Or(got.Error, errOut.String(), fmt.Sprintf("exit status %d", status)), 500))
	}
	return map[goproxy.Kind]string{goproxy.Info: got.Info, goproxy.Mod: got.GoMod, goproxy.Zip: got.Zip}, nil
}

// close removes what the go command has downloaded.
func (s *rescueSource) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tmp != "" {
		os.RemoveAll(s.tmp)
	}
}
