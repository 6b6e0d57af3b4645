package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// wanted lists the module files that the project in the working directory names
// and that the go command's own cache does not have yet: every .mod with a
// checksum in go.sum, and the .zip and .info of the versions that go.mod selects.
// There are none outside a module, or with a vendor directory.
func (e *env) wanted(ctx context.Context, l *config.Loaded) ([]goproxy.Request, error) {
	goCmd, err := origin.FindGo(e.getenv("PATH"))
	if err != nil {
		return nil, err
	}
	vars, err := origin.GoEnv(ctx, goCmd, e.environ, e.dir, "GOMOD", "GOWORK", "GOFLAGS", "GOMODCACHE")
	if err != nil {
		return nil, err
	}
	var mods, sums []string
	switch work, mod := vars["GOWORK"], vars["GOMOD"]; {
	case work != "" && work != "off":
		data, err := os.ReadFile(work)
		if err != nil {
			return nil, err
		}
		f, err := modfile.ParseWork(work, data, nil)
		if err != nil {
			return nil, err
		}
		sums = append(sums, filepath.Join(filepath.Dir(work), "go.work.sum"))
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
	default:
		return nil, nil
	}
	if vendored(vars["GOFLAGS"], mods) {
		return nil, nil
	}

	selected := map[module.Version]bool{} // a zip may be needed
	pruned := true                        // go.mod names the whole build list
	replaced := map[string]bool{}
	for _, file := range mods {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		f, err := modfile.Parse(file, data, nil)
		if err != nil {
			return nil, err
		}
		if f.Go == nil || semver.Compare("v"+f.Go.Version, "v1.17") < 0 {
			pruned = false
		}
		for _, r := range f.Require {
			selected[r.Mod] = true
		}
		for _, r := range f.Replace {
			replaced[r.Old.Path] = true
			if r.New.Version != "" {
				selected[r.New] = true
			}
		}
	}

	cache := filepath.Join(vars["GOMODCACHE"], "cache", "download")
	seen := map[goproxy.Request]bool{}
	var reqs []goproxy.Request
	add := func(req goproxy.Request) {
		if seen[req] || !goproxy.IsCanonical(req.Module) || l.NoProxy.Match(req.Module.Path) {
			return // what goes past the proxies goes past us
		}
		seen[req] = true
		if _, err := os.Stat(filepath.Join(cache, filepath.FromSlash(req.Path()))); err != nil {
			reqs = append(reqs, req)
		}
	}
	var zips []goproxy.Request
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
			version, isMod := strings.CutSuffix(f[1], "/go.mod")
			mod := module.Version{Path: f[0], Version: version}
			if isMod {
				add(goproxy.Request{Kind: goproxy.Mod, Module: mod})
			} else if selected[mod] || !pruned {
				zips = append(zips, goproxy.Request{Kind: goproxy.Zip, Module: mod})
			}
		}
	}
	// The small files first: the go command begins with them.
	for _, z := range zips {
		add(z)
	}
	return reqs, nil
}

// vendored reports whether the go command will build from a vendor directory.
func vendored(flags string, mods []string) bool {
	if strings.Contains(flags, "-mod=mod") || strings.Contains(flags, "-mod=readonly") {
		return false
	}
	if strings.Contains(flags, "-mod=vendor") {
		return true
	}
	return slices.ContainsFunc(mods, func(mod string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(mod), "vendor", "modules.txt"))
		return err == nil
	})
}

// A bar shows how far fetching is: a bar on a terminal, now and then a plain
// line elsewhere.
type bar struct {
	e     *env
	total int
	start time.Time

	mu                  sync.Mutex // guards the following
	done, failed, there int
	bytes               int64
	drawn               time.Time
	quiet               bool // the command has the terminal now
	said                int  // of done, in the last plain line
	firstErr            error
}

const (
	barWidth = 30
	barEvery = 100 * time.Millisecond
)

func newBar(e *env, total int) *bar {
	b := &bar{e: e, total: total, start: time.Now()}
	if !e.terminal {
		e.say("fetching %d files ahead", total)
	}
	return b
}

func (b *bar) add(f mirror.Fetched) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
	switch {
	case f.Err != nil:
		b.failed++
		if b.firstErr == nil {
			b.firstErr = f.Err
		}
	case f.Hit:
		b.there++
	default:
		b.bytes += f.Size
	}
	if b.quiet {
		return
	}
	if !b.e.terminal {
		if (b.done-b.said)*4 >= b.total && b.done < b.total {
			b.said = b.done
			b.e.say("%d of %d files, %s", b.done, b.total, size(b.bytes))
		}
		return
	}
	if time.Since(b.drawn) >= barEvery || b.done == b.total {
		b.drawn = time.Now()
		n := barWidth * b.done / b.total
		fmt.Fprintf(b.e.stderr, "\r\x1b[Ksluice: [%s%s] %d/%d files, %s", strings.Repeat("=", n), strings.Repeat(" ", barWidth-n), b.done, b.total, size(b.bytes))
	}
}

// leave gives the terminal to the command although files are still under way.
func (b *bar) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	b.quiet = true
	b.e.say("%d of %d files are here; the rest is slow to come, so the command is started", b.done, b.total)
}

func (b *bar) clear() {
	if b.e.terminal && !b.quiet {
		fmt.Fprint(b.e.stderr, "\r\x1b[K")
	}
}

func (b *bar) finish(interrupted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.quiet || interrupted {
		b.clear()
		return
	}
	b.clear()
	text := fmt.Sprintf("%d files fetched ahead, %s in %.1fs", b.done-b.there-b.failed, size(b.bytes), time.Since(b.start).Seconds())
	if b.there > 0 {
		text += fmt.Sprintf("; %d were in the store", b.there)
	}
	if b.failed > 0 {
		text += fmt.Sprintf("; %d could not be fetched: %v", b.failed, b.firstErr)
	}
	b.e.say("%s", text)
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
