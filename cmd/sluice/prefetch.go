package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/origin"
)

// prefetch fetches ahead what the project in the working directory names, and for the
// command args lays it into the module cache, if it is one that unpacks it there. It
// returns when all is there, when the command can begin, when nothing comes any
// more, or when ctx ends; the channel is closed once nothing is fetched any longer.
func (e *env) prefetch(ctx context.Context, con *console, w *world, l *config.Loaded, args []string) <-chan struct{} {
	finished := make(chan struct{})
	p, err := e.checkout(ctx, l)
	if err != nil && ctx.Err() == nil {
		e.say("nothing is fetched ahead: %v", err)
	}
	keeps := w.store.Writable() == nil
	// What a store that takes nothing has not would come twice: for us, and for the command.
	kept := func(reqs []goproxy.Request) []goproxy.Request {
		if keeps {
			return reqs
		}
		return slices.DeleteFunc(reqs, func(req goproxy.Request) bool {
			b, err := w.store.Open(req)
			if err == nil {
				b.Close()
			}
			return err != nil
		})
	}
	need := shareAll
	line, isGo := parseGo(p.flags, args)
	if isGo {
		need = line.needs()
	}
	reqs := slices.Clone(p.wanted)
	mods := func(reqs []goproxy.Request) []goproxy.Request {
		return slices.DeleteFunc(reqs, func(req goproxy.Request) bool { return req.Kind == goproxy.Zip })
	}
	var n *needs  // nil: nothing leads to zips
	scan := false // what is imported does
	switch need {
	case shareImported:
		n = newNeeds(p, line.context(p), w.store.Open)
		reqs, scan = mods(reqs), n.lacks()
	case shareMods:
		reqs = mods(reqs)
	case shareNone:
		reqs = nil
	}
	if reqs = kept(reqs); len(reqs) == 0 && !scan || ctx.Err() != nil {
		close(finished)
		return finished
	}
	b := newBar(e, con, len(reqs), scan)
	progress := make(chan struct{}, 1)
	still := make(chan struct{}, 1) // nothing is under way, but who reads the imports may find more
	tell := func(ch chan struct{}) {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	first := 0 // files that the command asks for first
	for _, req := range reqs {
		if req.Kind != goproxy.Zip {
			first++
		}
	}
	begin := make(chan struct{}) // closed when those are there
	if first == 0 {
		close(begin)
	}
	var fetch *mirror.Prefetch
	add := func(zips []goproxy.Request) {
		if zips = kept(zips); len(zips) > 0 {
			b.more(len(zips))
			fetch.Add(zips...)
		}
	}
	fetch = w.mirror.Prefetch(ctx, prefetchParallel, e.layer(l, p, args, w.log), func(f mirror.Fetched) {
		if ctx.Err() != nil {
			return // what is given up is not what failed
		}
		if n != nil {
			add(n.fetched(f))
		}
		if b.add(f) {
			tell(still)
		}
		if f.Request.Kind != goproxy.Zip {
			if first--; first == 0 {
				close(begin)
			}
		}
		tell(progress)
	})
	fetch.Add(reqs...)
	if len(reqs) == 0 {
		tell(still)
	}
	go func() {
		defer close(finished)
		if scan {
			for _, pkg := range line.packages() {
				add(n.asked(pkg))
			}
			imports(ctx, p.dirs, line.context(p), func(pkgs []string) { add(n.imported(pkgs)) })
		}
		b.close()
		fetch.Wait()
		b.finish(ctx.Err() != nil)
	}()
	idle := time.NewTimer(prefetchPatience)
	defer idle.Stop()
	alone := time.NewTimer(prefetchAlone)
	defer alone.Stop()
	var ready <-chan struct{} // begin, once we have been alone for long enough
	var late <-chan time.Time // nothing was under way, but imports are still being read
	for {
		select {
		case <-alone.C:
			ready = begin
		case <-ready:
			b.leave("come while the command runs")
			return finished
		case <-still:
			late = time.After(prefetchReading)
		case <-late:
			b.leave("come while the command runs")
			return finished
		case <-finished:
			return finished
		case <-progress:
			idle.Reset(prefetchPatience)
		case <-idle.C:
			b.leave("are slow to come, so the command is started")
			return finished
		case <-ctx.Done():
			<-finished
			return finished
		}
	}
}

// A checkout is the project in the working directory, as its go command sees it.
type checkout struct {
	cache    string                      // GOMODCACHE
	flags    string                      // GOFLAGS
	vars     map[string]string           // what the go command builds for
	dirs     []string                    // of the project's own modules, and of those that are replaced by directories
	replaced map[string][]module.Version // by path, what replaces a module
	// sums is what go.sum says, with the version of a go.mod ending in "/go.mod"; of
	// what it contradicts itself about, nothing that a hash could be.
	sums  map[module.Version]string
	zips  []module.Version // versions whose zip may be needed
	named []module.Version // that go.mod names and does not replace, or what replaces others; in no order
	local map[string]bool  // module paths that come from no source

	// wanted are the module files that the project names and that the go command's own
	// cache does not have yet: every .mod with a checksum in go.sum, and the .zip of the
	// versions that go.mod selects. Without a go.sum, it is what go.mod names. There are
	// none outside a module, or where a vendor directory is used.
	wanted []goproxy.Request
}

// wanted is what the project in the working directory wants; see there.
func (e *env) wanted(ctx context.Context, l *config.Loaded) ([]goproxy.Request, error) {
	p, err := e.checkout(ctx, l)
	return p.wanted, err
}

// checkout is that in the working directory; never nil.
func (e *env) checkout(ctx context.Context, l *config.Loaded) (*checkout, error) {
	p := &checkout{sums: map[module.Version]string{}, local: map[string]bool{}, replaced: map[string][]module.Version{}}
	goCmd, err := origin.FindGo(e.getenv("PATH"))
	if err != nil {
		return p, err
	}
	vars, err := origin.GoEnv(ctx, goCmd, e.environ, e.dir, "GOMOD", "GOWORK", "GOFLAGS", "GOMODCACHE", "GOOS", "GOARCH", "CGO_ENABLED", "GOVERSION")
	if err != nil {
		return p, err
	}
	p.cache, p.flags, p.vars = vars["GOMODCACHE"], vars["GOFLAGS"], vars
	var mods, sums []string
	var workReplace []*modfile.Replace
	var vendor string
	switch work, mod := vars["GOWORK"], vars["GOMOD"]; {
	case work != "" && work != "off":
		data, err := os.ReadFile(work)
		if err != nil {
			return p, err
		}
		f, err := modfile.ParseWork(work, data, nil)
		if err != nil {
			return p, err
		}
		workReplace = f.Replace
		sums = append(sums, work+".sum")
		vendor = filepath.Join(filepath.Dir(work), "vendor")
		for _, u := range f.Use {
			dir := filepath.FromSlash(u.Path)
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(filepath.Dir(work), dir)
			}
			mods = append(mods, filepath.Join(dir, "go.mod"))
			sums = append(sums, filepath.Join(dir, "go.sum"))
		}
	case mod != "" && mod != os.DevNull:
		mods = []string{mod}
		sums = []string{strings.TrimSuffix(mod, ".mod") + ".sum"}
		vendor = filepath.Join(filepath.Dir(mod), "vendor")
	default:
		return p, nil
	}
	if vendored(vars["GOFLAGS"], vendor) {
		return p, nil
	}

	selected := map[module.Version]bool{} // a zip may be needed
	order := map[module.Version]int{}     // in which go.mod names them, and the go command downloads them
	pruned := true                        // go.mod names the whole build list
	replace := func(list []*modfile.Replace, base string) {
		for _, r := range list {
			if r.Old.Version == "" {
				p.local[r.Old.Path] = true
			} else {
				delete(selected, r.Old)
			}
			if r.New.Version != "" {
				selected[r.New] = true
				p.replaced[r.Old.Path] = append(p.replaced[r.Old.Path], r.New)
			} else if dir := filepath.FromSlash(r.New.Path); filepath.IsAbs(dir) {
				p.dirs = append(p.dirs, dir)
			} else {
				p.dirs = append(p.dirs, filepath.Join(base, dir))
			}
		}
	}
	for _, file := range mods {
		data, err := os.ReadFile(file)
		if err != nil {
			return p, err
		}
		f, err := modfile.Parse(file, data, nil)
		if err != nil {
			return p, err
		}
		if f.Module != nil {
			p.local[f.Module.Mod.Path] = true
		}
		p.dirs = append(p.dirs, filepath.Dir(file))
		if f.Go == nil || semver.Compare("v"+f.Go.Version, "v1.17") < 0 {
			pruned = false
		}
		for _, r := range f.Require {
			selected[r.Mod] = true
			order[r.Mod] = len(order) - math.MaxInt // others come after
		}
		replace(f.Replace, filepath.Dir(file))
	}
	replace(workReplace, filepath.Dir(vars["GOWORK"]))

	for v := range selected {
		if !p.local[v.Path] {
			p.named = append(p.named, v)
		}
	}
	cache := filepath.Join(vars["GOMODCACHE"], "cache", "download")
	seen := map[goproxy.Request]bool{}
	add := func(req goproxy.Request) {
		if seen[req] || !goproxy.IsCanonical(req.Module) || l.NoProxy.Match(req.Module.Path) {
			return // what goes past the proxies goes past us
		}
		seen[req] = true
		if _, err := os.Stat(filepath.Join(cache, filepath.FromSlash(req.Path()))); err != nil {
			p.wanted = append(p.wanted, req)
		}
	}
	var zips []goproxy.Request
	listed := false
	for _, file := range sums {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a module without requirements has none
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue // the go command will say what it thinks of it
			}
			listed = true
			version, isMod := strings.CutSuffix(f[1], "/go.mod")
			mod := module.Version{Path: f[0], Version: version}
			p.sum(module.Version{Path: f[0], Version: f[1]}, f[2])
			if isMod {
				add(goproxy.Request{Kind: goproxy.Mod, Module: mod})
			} else if selected[mod] || !pruned {
				zips = append(zips, goproxy.Request{Kind: goproxy.Zip, Module: mod})
			}
		}
	}
	if !listed {
		all := slices.Collect(maps.Keys(selected))
		module.Sort(all)
		for _, mod := range all {
			if !p.local[mod.Path] {
				add(goproxy.Request{Kind: goproxy.Mod, Module: mod})
				zips = append(zips, goproxy.Request{Kind: goproxy.Zip, Module: mod})
			}
		}
	}
	// The small files first: the go command begins with them.
	slices.SortStableFunc(zips, func(a, b goproxy.Request) int { return cmp.Compare(order[a.Module], order[b.Module]) })
	for _, z := range zips {
		p.zips = append(p.zips, z.Module)
		add(z)
	}
	return p, nil
}

// sum takes note of a line of go.sum.
func (p *checkout) sum(m module.Version, h1 string) {
	if !strings.HasPrefix(h1, "h1:") {
		return // of another time, and nothing that the go command goes by
	}
	if old, ok := p.sums[m]; ok && old != h1 {
		h1 = ""
	}
	p.sums[m] = h1
}

// vendored reports whether the go command will build from the vendor directory.
func vendored(flags, dir string) bool {
	if strings.Contains(flags, "-mod=mod") || strings.Contains(flags, "-mod=readonly") {
		return false
	}
	if strings.Contains(flags, "-mod=vendor") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "modules.txt"))
	return err == nil
}

// A console is stderr with perhaps a bar in its last line, which goes away when
// something else is to be written. It is safe for concurrent use.
type console struct {
	w io.Writer

	mu    sync.Mutex // guards the following, and is held while writing to keep the lines whole
	drawn bool
}

const clearLine = "\r\x1b[K"

// Write writes lines in the place of the bar.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drawn {
		c.drawn = false
		io.WriteString(c.w, clearLine)
	}
	return c.w.Write(p)
}

// draw puts a bar in the last line; "" takes it away.
func (c *console) draw(bar string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drawn || bar != "" {
		io.WriteString(c.w, clearLine+bar)
	}
	c.drawn = bar != ""
}

// A bar shows how far fetching is: a bar on a terminal, now and then a plain
// line elsewhere.
type bar struct {
	e     *env
	con   *console
	total int
	start time.Time

	mu                         sync.Mutex // guards the following
	done, failed, there, local int
	laid                       int       // modules, into the module cache
	bytes                      int64     // of those that were fetched
	drawn                      time.Time // the bar, or the last plain line
	quiet                      bool      // the command has the terminal now
	open                       bool      // there may be more files than total
	firstErr                   error
}

const (
	barWidth  = 30
	barEvery  = 100 * time.Millisecond
	lineEvery = 3 * time.Second
	// quietEvery is how often it is told how far fetching is while the command runs.
	quietEvery = 15 * time.Second
)

// newBar is for total files, and more to come if they may lead to others.
func newBar(e *env, con *console, total int, lead bool) *bar {
	b := &bar{e: e, con: con, total: total, start: time.Now(), drawn: time.Now(), open: lead}
	switch {
	case total == 0:
	case e.terminal:
		b.draw()
	case lead:
		e.say("fetching %s ahead, and the zips of what is imported", count(total, "file"))
	default:
		e.say("fetching %s ahead", count(total, "file"))
	}
	return b
}

// close says that total is all there is.
func (b *bar) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
}

// more says that there are n files more than was known.
func (b *bar) more(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += n
}

// add takes note of a file that is done, and reports whether none is left, though there may
// be more.
func (b *bar) add(f mirror.Fetched) (still bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
	if f.Laid {
		b.laid++
	}
	switch {
	case f.Err != nil:
		b.failed++
		if b.firstErr == nil {
			b.firstErr = f.Err
		}
	case f.Hit:
		b.there++
	case f.Local:
		b.local++
	default:
		b.bytes += f.Size
	}
	switch {
	case b.quiet: // but a long wait is not to be a silent one
		if time.Since(b.drawn) >= quietEvery && b.done < b.total {
			b.drawn = time.Now()
			b.e.say("%d of %d files, %s", b.done, b.total, size(b.bytes))
		}
	case b.e.terminal:
		if time.Since(b.drawn) >= barEvery || b.done == b.total {
			b.draw()
		}
	case time.Since(b.drawn) >= lineEvery && b.done < b.total:
		b.drawn = time.Now()
		b.e.say("%d of %d files, %s", b.done, b.total, size(b.bytes))
	}
	return b.open && b.done == b.total
}

// draw draws the bar, if it fits into a line. b.mu is held, or nobody else knows b.
func (b *bar) draw() {
	b.drawn = time.Now()
	text := fmt.Sprintf("%d/%d files, %s", b.done, b.total, size(b.bytes))
	width := min(barWidth, b.e.columns()-len("sluice: [] ")-len(text)-1)
	if width >= 5 {
		n := width * b.done / b.total
		text = "[" + strings.Repeat("=", n) + strings.Repeat(" ", width-n) + "] " + text
	}
	b.con.draw("sluice: " + text)
}

// leave gives the terminal to the command although files are still under way, of
// which it says what is the matter with them, or some may yet be.
func (b *bar) leave(rest string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done == b.total && !b.open {
		return // finish will tell
	}
	b.quiet = true
	b.drawn = time.Now()
	if b.done == b.total {
		b.con.draw("")
		return
	}
	b.e.say("%d of %d files are here; the others %s", b.done, b.total, rest)
}

// finish takes the bar away, and says what has become of the files.
func (b *bar) finish(interrupted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	laid := count(b.laid, "module") + " laid into the module cache"
	if b.quiet {
		if b.laid > 0 {
			b.e.say("%s", laid)
		}
		return
	}
	if interrupted || b.done == 0 {
		b.con.draw("")
		return
	}
	var parts []string
	part := func(n int, format string, args ...any) {
		if n == 0 {
			return
		}
		many := strconv.Itoa(n)
		if len(parts) == 0 {
			many = count(n, "file")
		}
		parts = append(parts, many+" "+fmt.Sprintf(format, args...))
	}
	part(b.done-b.there-b.local-b.failed, "fetched ahead, %s in %.1fs", size(b.bytes), time.Since(b.start).Seconds())
	were := "were"
	if b.there == 1 {
		were = "was"
	}
	part(b.there, "%s in the store", were)
	part(b.local, "came from the module cache")
	part(b.failed, "could not be had: %v", b.firstErr)
	if b.laid > 0 {
		parts = append(parts, laid)
	}
	b.e.say("%s", strings.Join(parts, "; "))
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}
