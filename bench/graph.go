//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A program is a public one whose module graph is downloaded. Nothing of it is in
// this repository: it comes as a module from the toolchain's own proxy, once.
type program struct {
	name string
	mod  module.Version
}

var programs = []program{
	{"caddy", module.Version{Path: "github.com/caddyserver/caddy/v2", Version: "v2.10.2"}}, // Apache-2.0
	{"syft", module.Version{Path: "github.com/anchore/syft", Version: "v1.40.0"}},          // 324 modules, Apache-2.0
	{"traefik", module.Version{Path: "github.com/traefik/traefik/v3", Version: "v3.6.0"}},  // 405 modules, MIT
}

// quickGraphs and fullGraphs are the programs whose graphs are taken unless some are
// named. The bars of the cold lines are for the large ones.
var (
	quickGraphs = []string{"caddy"}
	fullGraphs  = []string{"syft", "traefik"}
)

// graphsOf are the programs of the names.
func graphsOf(names []string) (list []program, err error) {
	var all []string
	for _, p := range programs {
		all = append(all, p.name)
	}
	for _, name := range names {
		i := slices.Index(all, name)
		if i < 0 {
			return nil, fmt.Errorf("-graphs: there is no program %q here; there are %s", name, strings.Join(all, ", "))
		}
		list = append(list, programs[i])
	}
	return list, nil
}

// A graph is a program as it lies in the cache directory.
type graph struct {
	program
	tree    string // a GOPROXY tree with all that is needed
	source  string // the program's own files
	known   map[module.Version]sums
	modules int // that go mod download downloads
}

func (g *graph) String() string { return fmt.Sprintf("%s, %d modules", g.name, g.modules) }

// doneFile marks a graph that is complete.
const doneFile = "complete"

// load finds a graph in the cache directory, and downloads it if it is not there.
func (b *bench) load(ctx context.Context, p program) (*graph, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the user's cache directory, where downloaded graphs are kept: %w", err)
	}
	dir := filepath.Join(cache, "sluice-bench", p.name+"@"+p.mod.Version)
	g := &graph{program: p, tree: filepath.Join(dir, "mod", "cache", "download"), source: filepath.Join(dir, "src")}
	if _, err := os.Stat(filepath.Join(dir, doneFile)); err != nil {
		b.lab.say("downloading %s once, into %s", p.mod, dir)
		if err := b.download(ctx, g, dir); err != nil {
			return nil, fmt.Errorf("downloading %s for later runs: %w", p.mod, err)
		}
	}
	sum, err := os.ReadFile(filepath.Join(g.source, "go.sum"))
	if err != nil {
		return nil, err
	}
	g.known = parseGoSum(sum)
	zips, err := g.zips()
	g.modules = len(zips)
	return g, err
}

// zips lists the zips in the tree but the program's own.
func (g *graph) zips() (list []string, err error) {
	own := goproxy.Request{Kind: goproxy.Zip, Module: g.mod}.Path()
	err = filepath.WalkDir(g.tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(g.tree, name); strings.HasSuffix(rel, ".zip") && filepath.ToSlash(rel) != own {
			list = append(list, filepath.ToSlash(rel))
		}
		return nil
	})
	return list, err
}

// read reads the tree through, so that the first contender does not wait for a disk that
// the others find in memory.
func (g *graph) read() error {
	return filepath.WalkDir(g.tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	})
}

// download fills the cache directory of a graph.
func (b *bench) download(ctx context.Context, g *graph, dir string) error {
	// What an interrupted run has downloaded already stays.
	if err := errors.Join(os.MkdirAll(dir, 0o755), removeAll(g.source)); err != nil {
		return err
	}
	bare := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "GOENV=off", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOWORK=off", "LC_ALL=C",
		"GOMODCACHE=" + filepath.Join(dir, "mod"), "GOCACHE=" + b.gocache}
	output := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = dir, bare
		ownGroup(cmd)
		var said tail
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, lastLines(string(said)+"\n"+string(out), 5))
		}
		return out, err
	}
	out, err := output("env", "GOPROXY")
	if err != nil {
		return err
	}
	proxy, err := firstProxy(string(out))
	if err != nil {
		return err
	}
	out, err = output("mod", "download", "-json", g.mod.String())
	if err != nil {
		return err
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("reading what go mod download says: %w", err)
	}
	if err := os.CopyFS(g.source, os.DirFS(got.Dir)); err != nil {
		return err
	}
	if err := writable(g.source); err != nil {
		return err
	}
	if _, err := command(ctx, g.source, bare, "go", "mod", "download"); err != nil {
		return err
	}
	sum, err := os.ReadFile(filepath.Join(g.source, "go.sum"))
	if err != nil {
		return err
	}
	// A real source has every .mod that go.sum names, whether go wants it or not.
	if err := fetchMods(ctx, proxy, g.tree, parseGoSum(sum)); err != nil {
		return err
	}
	// What was unpacked on the way is not needed again.
	entries, err := os.ReadDir(filepath.Join(dir, "mod"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "cache" {
			if err := removeAll(filepath.Join(dir, "mod", e.Name())); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, doneFile), nil, 0o644)
}

// firstProxy is the first proxy of a GOPROXY list.
func firstProxy(list string) (string, error) {
	for _, p := range strings.FieldsFunc(strings.TrimSpace(list), func(r rune) bool { return r == ',' || r == '|' }) {
		if strings.HasPrefix(p, "http://") || strings.HasPrefix(p, "https://") {
			return strings.TrimSuffix(p, "/"), nil
		}
	}
	return "", fmt.Errorf("the toolchain's GOPROXY is %q, in which there is no proxy to download a graph from", strings.TrimSpace(list))
}

// writable makes a copied tree our own: what comes from a module cache may not be written.
func writable(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() {
			mode = 0o755
		}
		return os.Chmod(name, mode)
	})
}

// fetchParallel is how many files are fetched at once: this is somebody's proxy.
const fetchParallel = 4

// fetchMods fetches the go.mod files of known that the tree lacks, and proves each
// against its hash.
func fetchMods(ctx context.Context, proxy, tree string, known map[module.Version]sums) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan module.Version)
	var wg sync.WaitGroup
	for range fetchParallel {
		wg.Go(func() {
			for m := range todo {
				if err := fetchMod(ctx, proxy, tree, m, known[m].mod); err != nil {
					cancel(err)
				}
			}
		})
	}
	mods := make([]module.Version, 0, len(known))
	for m := range known {
		mods = append(mods, m)
	}
	module.Sort(mods)
	for _, m := range mods {
		file := filepath.Join(tree, filepath.FromSlash(goproxy.Request{Kind: goproxy.Mod, Module: m}.Path()))
		if _, err := os.Stat(file); err == nil {
			continue
		}
		select {
		case todo <- m:
		case <-ctx.Done():
		}
	}
	close(todo)
	wg.Wait()
	return context.Cause(ctx)
}

func fetchMod(ctx context.Context, proxy, tree string, m module.Version, want string) error {
	path := goproxy.Request{Kind: goproxy.Mod, Module: m}.Path()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, proxy+"/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the go.mod of %s: %s", m, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	got, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the go.mod of %s has the hash %s instead of %s", m, got, want)
	}
	file := filepath.Join(tree, filepath.FromSlash(path))
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644))
}

// checkout makes a directory for one run of the go command: what go mod download
// needs, or the whole program.
func (g *graph) checkout(l *lab, whole bool) (string, error) {
	dir, err := l.mkdir("checkout")
	if err != nil {
		return "", err
	}
	if whole {
		return dir, os.CopyFS(dir, os.DirFS(g.source))
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(g.source, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// goEnv is the whole environment of a go command that has never run before: an
// empty module cache, nothing set by whoever runs the harness, nothing private.
func (b *bench) goEnv(modcache, proxy, gosumdb string) []string {
	return slices.Concat(b.sluiceEnv(), []string{
		"GOPATH=" + filepath.Join(b.home, "go"), "GOMODCACHE=" + modcache, "GOCACHE=" + b.gocache,
		"GOFLAGS=-modcacherw", "GOWORK=off", "GOPROXY=" + proxy, "GOSUMDB=" + gosumdb, "GOAUTH=off",
	})
}
