package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// load reads the configuration of a command: flags, environment, file, and the
// go command's settings. Errors are told apart by exit status.
func (e *env) load(cmd *cobra.Command, defaults map[string]string) (*config.Loaded, error) {
	return e.loadFor(cmd, defaults, false)
}

// loadFor is load. Where storeless is true and no directory for a store is known, as
// without HOME, Data is empty, and openStore gives a store that keeps nothing.
func (e *env) loadFor(cmd *cobra.Command, defaults map[string]string, storeless bool) (*config.Loaded, error) {
	in := config.Input{Storeless: storeless, Environ: e.environ, Flags: map[string]string{}, SumDBs: e.sumdbs, Defaults: defaults, Go: e.goSettings(cmd.Context()), ReadFile: readSecret}
	for _, k := range config.Keys() {
		if f := cmd.Flags().Lookup(k.Flag()); f != nil && f.Changed && k.Kind != config.KindSumDBs && k.Kind != config.KindSources {
			in.Flags[k.Name] = f.Value.String()
		}
	}
	if dir, err := os.UserCacheDir(); err == nil {
		in.CacheDir = dir
	}
	if f := cmd.Flags().Lookup("config"); f.Changed && f.Value.String() == "" {
		return nil, emptyFlag("config", "the configuration file")
	}
	in.Path = cmp.Or(cmd.Flags().Lookup("config").Value.String(), e.getenv("SLUICE_CONFIG"))
	if in.Path != "" {
		data, err := os.ReadFile(in.Path)
		if err != nil {
			return nil, &exitError{status: exitMisuse, err: fmt.Errorf("the configuration file cannot be read: %w", err)}
		}
		in.Data = data
		if in.Data == nil {
			in.Data = []byte{}
		}
	}
	l, err := config.Load(in)
	for _, p := range in.Go.Problems {
		w := config.Error{Where: p.File, Text: p.Text}
		switch {
		case p.File == "":
			w.Where = "environment"
		case p.Line > 0:
			w.Where += ":" + strconv.Itoa(p.Line)
		}
		l.Warnings = append(l.Warnings, w)
	}
	if from := l.From["modcache"]; from.Layer != config.Default && len(l.Trees) > 0 && l.ModCache != config.ModCacheAuto {
		if _, err := os.ReadDir(l.Trees[0].Dir); err != nil {
			l.Warnings = append(l.Warnings, config.Error{Where: from.Where, Key: "modcache", Text: fmt.Sprintf(
				"nothing can be taken from it at present (%v); name what go env GOMODCACHE prints for the user whose cache it is", err)})
		}
	}
	if l.Data != "" && !filepath.IsAbs(l.Data) {
		l.Data = filepath.Join(e.dir, l.Data) // so that messages and logs say where it is
	}
	e.warnOfTrees(cmd.Context(), l)
	if err == nil {
		err = withoutSelf(l, in.Go)
	}
	if err != nil {
		ee := &exitError{status: exitMisuse, err: err}
		if mistakes, ok := errors.AsType[config.Errors](err); ok {
			for _, m := range mistakes {
				if k := (config.Key{Name: m.Key}); m.Where == "" && m.Key != "" {
					ee.hint = fmt.Sprintf("it can also be given by --%s, or %s in the environment", k.Flag(), k.Env())
					break
				}
			}
		}
		return l, ee
	}
	return l, nil
}

// goSettings reads the go command's settings by layer, without running it.
func (e *env) goSettings(ctx context.Context) *goenv.Settings {
	return goenv.Load(e.environ, os.ReadFile, e.goroot(ctx), userConfigDir())
}

// userConfigDir is where the go command keeps settings; "" if there is no such place.
func userConfigDir() string {
	dir, _ := os.UserConfigDir()
	return dir
}

// goroot finds the toolchain whose go.env holds the defaults: $GOROOT, or where
// the go command on PATH lies. It is "" if there is none.
func (e *env) goroot(ctx context.Context) string {
	has := func(root string) bool {
		_, err := os.Stat(filepath.Join(root, "go.env"))
		return err == nil
	}
	if r := e.getenv("GOROOT"); r != "" && has(r) {
		return r
	}
	goCmd, err := origin.FindGo(e.getenv("PATH"))
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(goCmd); err == nil {
		if root := filepath.Dir(filepath.Dir(real)); has(root) {
			return root
		}
	}
	// A script in the place of the go command; it knows where it leads.
	vars, err := origin.GoEnv(ctx, goCmd, e.environ, "", "GOROOT")
	if err != nil {
		return ""
	}
	return vars["GOROOT"]
}

// withoutSelf takes Sluice's own address out of the sources. Where settings of
// the go command point to us, the other proxies among them are left, or if there
// are none, the toolchain's default; anywhere else it is a mistake that would
// turn in a circle.
func withoutSelf(l *config.Loaded, settings *goenv.Settings) error {
	self := func(entry goenv.Entry) bool {
		u, err := url.Parse(entry.URL)
		return err == nil && entry.Kind == goenv.HTTP && isSelf(u, l.Listen)
	}
	list := slices.DeleteFunc(slices.Clone(l.Proxy), self)
	if len(list) == len(l.Proxy) {
		return nil
	}
	from := l.From["proxy"]
	if from.Layer != config.GoEnv {
		return config.Errors{{Where: from.Where, Key: "proxy", Text: fmt.Sprintf("it names the address that Sluice itself listens at (%s); name the sources that Sluice is to ask", l.Listen)}}
	}
	from.Where += ", without Sluice itself"
	if !slices.ContainsFunc(list, func(entry goenv.Entry) bool { return entry.Kind == goenv.HTTP || entry.Kind == goenv.File }) {
		def, err := goenv.ParseProxyList(settings.Default("GOPROXY").Value)
		if err != nil || slices.ContainsFunc(def, self) {
			return config.Errors{{Where: from.Where, Key: "proxy", Text: "GOPROXY points to Sluice itself, and no toolchain with another default was found; name the sources with --proxy"}}
		}
		list, from.Where = def, "the toolchain's default, since GOPROXY points to Sluice itself"
	}
	l.Proxy, l.From["proxy"] = list, from
	return nil
}

// isSelf reports whether u leads to the address listen of this machine.
func isSelf(u *url.URL, listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return false
	}
	_, uport, err := net.SplitHostPort(upstream.HostPort(u))
	if err != nil || uport != port {
		return false
	}
	if strings.EqualFold(u.Hostname(), host) {
		return true
	}
	// A name other than localhost is not resolved for this: the loop guard at each
	// request has the last word.
	isLocalhost := func(h string) bool { return strings.EqualFold(h, "localhost") }
	ip, lip := net.ParseIP(u.Hostname()), net.ParseIP(host)
	all := host == "" || lip != nil && lip.IsUnspecified()
	loop := all || isLocalhost(host) || lip != nil && lip.IsLoopback()
	switch {
	case isLocalhost(u.Hostname()) || ip != nil && ip.IsUnspecified():
		return loop
	case ip == nil:
		return false
	case ip.IsLoopback():
		return all || isLocalhost(host) || ip.Equal(lip)
	case !all:
		return ip.Equal(lip)
	}
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// A world is everything that serves modules, connected.
type world struct {
	log *slog.Logger
	// requests takes the lines of requests; nil: log does.
	requests func(slog.Level, server.Line)
	id       string
	store    localStore
	mirror   *mirror.Mirror
	health   *upstream.Health // of all sources, across reloads
	beat     sync.WaitGroup   // Health.Run
	rest     context.CancelFunc
	live     live
	drills   drills // inside sources
	region   string // where this server stands
	tmp      string // for version control where the store cannot hold it; "" if not made

	// Of the goroutine that runs the command.
	parts   *parts   // those that a reload replaces
	retired []*parts // those that requests may still use
}

// parts are made of one configuration.
type parts struct {
	net    *upstream.Net
	nets   []*upstream.Net // of single sources
	origin *origin.Origin
	dbs    []*checksum.DB // those served, and the one verified with
	chain  *upstream.Chain
	names  map[string]string // short ones of its sources, by their own
	mirror mirror.Settings
	server server.Settings
}

func (p *parts) close() {
	for _, db := range p.dbs {
		db.Close()
	}
	if p.origin != nil {
		p.origin.Close()
	}
	if p.net != nil {
		p.closeNets()
	}
}

// maxNotFound is the longest that "not found" is remembered: enough for the
// many questions of one go command, short enough for someone who has just
// pushed a tag.
const maxNotFound = 5 * time.Second

// openStore opens the data directory. One that this user may not use is no
// reason not to serve: modules are then verified and passed through.
func openStore(l *config.Loaded, log *slog.Logger) (localStore, error) {
	if l.Data == "" {
		return &closedStore{dir: os.DevNull, why: errNoCacheDir}, nil // below which there is nothing, and can be nothing
	}
	// What zero means to the store is its own idea of a good value; to the user it
	// is none.
	o := store.Options{HotBytes: cmp.Or(l.Store.Hot, -1), Reserve: cmp.Or(l.Store.Reserve, -1), Quota: l.Store.Quota, Keep: unverified(l), Log: log}
	if l.From["store.reserve"].Layer == config.Default {
		o.Reserve = 0 // less on a small disk
	}
	disk, err := store.OpenDisk(l.Data, o)
	if err == nil {
		return disk, nil
	}
	for _, e := range []error{fs.ErrPermission, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, e) {
			return &closedStore{dir: l.Data, why: err}, nil
		}
	}
	return nil, &exitError{status: exitNo, err: fmt.Errorf("the data directory %s cannot be used: %w", l.Data, err), hint: "choose another with --data DIR"}
}

// errNoCacheDir says why there is no store where nobody has named one.
var errNoCacheDir = errors.New("no directory for it is known, since HOME is not set; name one with --data DIR")

// treePatience is how long is waited for the file system of a source, to warn of one
// that is not there.
const treePatience = time.Second

// warnOfTrees warns of sources that are directories and are not there. They may come
// later, so that is no mistake.
func (e *env) warnOfTrees(ctx context.Context, l *config.Loaded) {
	for _, entry := range l.Proxy {
		if entry.Kind != goenv.File {
			continue
		}
		dir, err := fileURLPath(entry.URL)
		if err != nil {
			continue // whoever makes a source of it says so
		}
		if why := upstream.NewTreeSource(dir, entry.Name(), treePatience).Missing(ctx); why != nil {
			l.Warnings = append(l.Warnings, config.Error{Where: l.From["proxy"].Where, Key: "proxy", Text: fmt.Sprintf(
				"%v, so %s has no module at present; correct the path, or bring the directory back", why, entry.Name())})
		}
	}
}

// unverified reports of a module whether what is stored of it may never be had
// again: it is private, or no checksum database says what it has to be.
func unverified(l *config.Loaded) func(path string) bool {
	return func(path string) bool { return l.Private.Match(path) || l.NoSumDB.Match(path) }
}

// build makes a world of a configuration over a store, which it then owns.
func (e *env) build(l *config.Loaded, st localStore, log *slog.Logger) (*world, error) {
	w := &world{log: log, id: "sluice-" + strings.ToLower(rand.Text()[:12]), store: st, drills: drills{born: time.Now()}}
	w.health = w.newHealth(l)
	p, err := w.connect(e, l)
	if err != nil {
		st.Close()
		return nil, err
	}
	w.parts = p
	w.live.chain.Store(p.chain)
	w.live.names.Store(&p.names)
	w.drills.pinned.Store(unchecked(l))
	w.mirror = mirror.New(mirror.Config{Store: st, Scratch: os.TempDir(), Log: log}, p.mirror)
	var ctx context.Context
	ctx, w.rest = context.WithCancel(context.Background())
	w.beat.Go(func() { w.health.Run(ctx) })
	return w, nil
}

// connect makes the parts of a configuration.
func (w *world) connect(e *env, l *config.Loaded) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	var named []string
	name := func(raw string) {
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			named = append(named, upstream.HostPort(u))
		}
	}
	for _, entry := range l.Proxy {
		name(entry.URL)
	}
	for _, db := range append(slices.Clone(l.SumDB), l.GoSumDB) {
		name(db.Base())
	}
	named = append(named, l.Sources.Redirects...)
	common := upstream.NetConfig{
		Connect: min(l.Sources.Connect, l.Sources.Timeout), Timeout: l.Sources.Timeout, Proxy: e.forwardProxy(),
		Named: named, UserAgent: "sluice/" + version(), Via: w.id, Wrap: w.drills.wrap,
		Pieces: l.Sources.Pieces,
	}
	p.net = upstream.NewNet(common)

	direct := func() upstream.Source {
		if !l.Origin.Enabled {
			return noDirect{}
		}
		if p.origin == nil {
			o, err := origin.New(origin.Config{
				Dir: w.originDir(), Environ: e.environ, VCS: l.GoVCS, Private: string(l.Private), Insecure: string(l.GoInsecure),
				Timeout: l.Origin.Timeout, Parallel: l.Origin.Parallel,
			})
			if err != nil {
				w.log.Warn("version control cannot be used", slog.Any("err", err))
				return brokenDirect{err}
			}
			p.origin = o
		}
		return switchedDirect{directSource{p.origin}, &w.live}
	}

	p.names = map[string]string{}
	p.chain = &upstream.Chain{Health: w.health, Strategy: upstream.Strategy(l.Sources.Strategy)}
	if l.Failover == config.Proxies {
		p.chain.Failover = upstream.Proxies
	}
	var mirrors []checksum.Remote
	for _, entry := range l.Proxy {
		table := l.SourceOf(entry.URL)
		var src upstream.Source
		switch entry.Kind {
		case goenv.HTTP:
			u, err := url.Parse(entry.URL)
			if err != nil {
				return nil, misuse("proxy: %w", err)
			}
			n, err := p.sourceNet(common, table)
			if err != nil {
				return nil, err
			}
			hs := upstream.NewHTTPSource(n, u)
			src = hs
			mirrors = append(mirrors, remote{src: hs, mirror: true, may: w.mayAsk})
		case goenv.File:
			dir, err := fileURLPath(entry.URL)
			if err != nil {
				return nil, misuse("proxy: %w", err)
			}
			ts := upstream.NewTreeSource(dir, entry.Name(), l.Sources.Timeout)
			src = ts
			mirrors = append(mirrors, remote{src: ts, mirror: true, may: w.mayAsk})
		case goenv.Direct:
			src = direct()
		default:
			src = upstream.OffSource{}
		}
		p.names[src.Name()] = table.Name
		p.chain.Links = append(p.chain.Links, upstream.Link{Source: src, FallBack: entry.FallBackOnError, Tier: table.Tier, Weight: cmp.Or(table.Weight, -1)})
	}
	var trees []localTree
	for _, t := range l.Trees {
		if !sameDir(t.Dir, w.store.Dir()) {
			patience := min(localPatience, l.Sources.Timeout)
			trees = append(trees, localTree{upstream.NewTreeSource(t.Dir, modCacheName, patience), upstream.NewTreeSource(t.Heads, modCacheName, patience)})
		}
	}
	past := p.chain
	if l.NoProxy != "" {
		past = &upstream.Chain{Health: w.health, Links: []upstream.Link{{Source: direct()}}}
	}

	dbs := map[string]*checksum.DB{}
	dirs := map[string]string{} // in the cache, by the key of the database they belong to
	open := func(db goenv.SumDB) (*checksum.DB, error) {
		if d := dbs[db.String()]; d != nil {
			return d, nil
		}
		var remotes []checksum.Remote
		for _, t := range trees {
			remotes = append(remotes, localSums{t, db.Name})
		}
		if db.URL == "" {
			for _, m := range mirrors {
				r := m.(remote)
				r.prefix = "sumdb/" + db.Name
				remotes = append(remotes, r)
			}
		}
		base, err := url.Parse(db.Base())
		if err != nil {
			return nil, misuse("sumdb %s: %w", db.Name, err)
		}
		if base.Scheme == "file" {
			dir, err := fileURLPath(db.URL)
			if err != nil {
				return nil, misuse("sumdb %s: %w", db.Name, err)
			}
			remotes = append(remotes, remote{src: upstream.NewTreeSource(dir, goenv.Redact(db.URL), l.Sources.Timeout), may: w.mayAsk})
		} else {
			remotes = append(remotes, remote{src: upstream.NewHTTPSource(p.net, base), may: w.mayAsk})
		}
		// Two databases of one name (a new key, a database of one's own under a
		// public name) must not take each other's files for their own.
		dir := db.Name
		if key, ok := dirs[dir]; ok && key != db.Key {
			dir += "+" + strings.Split(db.Key, "+")[1]
		}
		dirs[dir] = db.Key
		// A source's time, and not less: the first to ask for a new version waits
		// until the database itself has downloaded it.
		d, err := checksum.New(checksum.Config{
			Avoid: w.health.IsDown,
			Key:   db.Key, Dir: dir, Remotes: remotes, Cache: w.store, Conflict: store.ErrConflict, Timeout: l.Sources.Timeout,
			Log: func(msg string) {
				w.log.Warn("checksum database", slog.String("name", db.Name), slog.String("msg", finding.Redact(msg)))
			},
		})
		if err != nil {
			return nil, misuse("%w", err)
		}
		dbs[db.String()] = d
		p.dbs = append(p.dbs, d)
		return d, nil
	}
	for _, db := range l.SumDB {
		d, err := open(db)
		if err != nil {
			return nil, err
		}
		p.server.SumDBs = append(p.server.SumDBs, d)
	}
	var sums mirror.Sums
	if !l.GoSumDB.Off {
		d, err := open(l.GoSumDB)
		if err != nil {
			return nil, err
		}
		sums = d
	}

	p.mirror = mirror.Settings{
		Union: l.Lists.Merge == config.Union,
		Fresh: l.Lists.Fresh, Stale: l.Lists.Stale, NotFound: min(l.Lists.Fresh, maxNotFound),
		Route: func(path string) mirror.Route {
			r := mirror.Route{Chain: p.chain, Sums: sums, Why: "the chain of proxy", Private: l.Private.Match(path)}
			if l.NoProxy.Match(path) {
				r.Chain, r.Why = past, "noproxy matches: version control, past the proxies"
			}
			switch {
			case l.NoSumDB.Match(path):
				r.Sums = nil
				r.Why += "; nosumdb matches: pinned at first sight"
			case sums == nil:
				r.Why += "; gosumdb is off: pinned at first sight"
			}
			if len(trees) > 0 {
				r.Local = trees[0].files
			}
			return r
		},
	}
	if l.LookAhead.Enabled {
		p.mirror.LookAhead = l.LookAhead.Parallel
	}
	p.server.Private = unverified(l)
	p.server.Sources = p.chain.Names()
	p.server.Fresh = l.Lists.Fresh
	return p, nil
}

// originDir is where version control works: beside the store's own files, or
// where those cannot be written, in a directory that goes when we do. One of a
// fixed name would let other users lay something into it.
func (w *world) originDir() string {
	if w.store.Writable() == nil {
		return filepath.Join(w.store.Dir(), ".sluice", "origin")
	}
	if w.tmp == "" {
		w.tmp, _ = os.MkdirTemp("", "sluice-origin-*") // that there is none, origin says
	}
	return w.tmp
}

// reload replaces the parts by those of another configuration.
func (w *world) reload(e *env, l *config.Loaded, srv *server.Server) error {
	p, err := w.connect(e, l)
	if err != nil {
		return err
	}
	if p.server.Token, err = readToken(l.Admin.TokenFile, w.log); err != nil {
		p.close()
		return err
	}
	w.health.Configure(healthConfig(w, l))
	var sources []upstream.Source
	for _, link := range p.chain.Links {
		sources = append(sources, link.Source)
	}
	w.health.Keep(sources)
	old := w.parts
	w.parts = p
	w.live.chain.Store(p.chain)
	w.live.names.Store(&p.names)
	w.drills.pinned.Store(unchecked(l))
	w.mirror.Reload(p.mirror)
	w.store.SetKeep(unverified(l))
	srv.Reload(p.server)
	// Requests under way still use the old parts; what they hold goes with us.
	old.closeNets()
	w.retired = append(w.retired, old)
	return nil
}

// close ends everything, the store last.
func (w *world) close() {
	w.drills.stop()
	w.rest()
	w.beat.Wait()
	w.mirror.Close()
	w.saveHealth()
	for _, p := range append(w.retired, w.parts) {
		p.close()
	}
	w.store.Close()
	if w.tmp != "" {
		os.RemoveAll(w.tmp)
	}
}

// fileURLPath is the directory that a file:// URL names.
func fileURLPath(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	p := u.Path
	if runtime.GOOS == "windows" {
		p = filepath.FromSlash(strings.TrimPrefix(p, "/"))
	}
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("%s does not name an absolute path; write file:///DIR", raw)
	}
	return p, nil
}

// A pathSource can be asked for paths that are no module files.
type pathSource interface {
	Name() string
	GetPath(ctx context.Context, path string) (*upstream.Answer, error)
}

// A remote is a way to a checksum database over a source. It implements
// checksum.Remote.
type remote struct {
	src    pathSource
	prefix string // below the source
	mirror bool
	may    func(name string) error // why it may not be asked just now; nil if it may
}

// maxSumDB bounds what is read of a checksum database's answer, in bytes.
const maxSumDB = 8 << 20

func (r remote) Name() string { return r.src.Name() }
func (r remote) Mirror() bool { return r.mirror }

func (r remote) Get(ctx context.Context, path string) ([]byte, error) {
	if err := r.may(r.src.Name()); err != nil {
		return nil, err
	}
	a, err := r.src.GetPath(ctx, r.prefix+path)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(io.LimitReader(a.Body, maxSumDB))
	if err == nil && a.Size >= 0 && int64(len(data)) != a.Size {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

// localPatience is how long one call of a module cache's file system may take:
// longer than a busy disk needs, and not much longer than to ask a source.
const localPatience = 3 * time.Second

// modCacheName is what a module cache of this machine is called among the sources.
const modCacheName = "module cache"

// A localTree is a GOPROXY tree of this machine, and where the heads are of the
// checksum databases that it has files of.
type localTree struct{ files, heads *upstream.TreeSource }

// localSums is what a tree of this machine holds of a checksum database, as the go
// command keeps it in its module cache. It implements checksum.Remote.
type localSums struct {
	tree localTree
	name string // of the database
}

func (s localSums) Name() string { return s.tree.files.Name() }

// Mirror is true: that a record is not here says nothing about there being one.
func (s localSums) Mirror() bool { return true }

func (s localSums) Get(ctx context.Context, path string) ([]byte, error) {
	if path == "/supported" {
		return nil, nil // a module cache does not say so
	}
	data, err := s.read(ctx, s.tree.files, "sumdb/"+s.name+path)
	switch {
	case errors.Is(err, upstream.ErrStalled):
		return nil, fmt.Errorf("%s: %w", s.Name(), err)
	case err != nil:
		// It has what somebody happened to look up, and that may be nothing.
		return nil, fmt.Errorf("%s: %w (%v)", s.Name(), checksum.ErrUnsupported, err)
	case !strings.HasPrefix(path, "/lookup/"):
		return data, nil
	}
	// Each record has the tree head of its day. Whoever looked them up went from
	// one to the next, and has the tiles that prove them in the last; those that
	// would in an earlier one, only if it was the last at some time.
	id, _, msg, err := tlog.ParseRecord(data)
	if err != nil {
		return data, nil // checksum will say what it thinks of it
	}
	if last, err := s.read(ctx, s.tree.heads, s.name+"/latest"); err == nil {
		if tree, err := tlog.ParseTree(last); err == nil && id < tree.N {
			return slices.Concat(data[:len(data)-len(msg)], last), nil
		}
	}
	return data, nil
}

func (s localSums) read(ctx context.Context, from *upstream.TreeSource, path string) ([]byte, error) {
	return remote{src: from, may: func(string) error { return nil }}.Get(ctx, path)
}

// sameDir reports whether two paths lead to one directory.
func sameDir(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// A directSource is version control as a source.
type directSource struct{ o *origin.Origin }

func (directSource) Name() string        { return "direct" }
func (directSource) Kind() upstream.Kind { return upstream.Direct }

func (d directSource) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	a, err := d.o.Get(ctx, req)
	if err == nil {
		return &upstream.Answer{Body: a.Body, Size: a.Size}, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e := &upstream.Error{Source: "direct", Stage: upstream.StageLocal, Err: err}
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		switch oe.Cause {
		case origin.Missing:
			e.Status = http.StatusNotFound
		case origin.Refused: // GOVCS: a rule, not a failure
			e.Status = http.StatusForbidden
		case origin.Timeout:
			e.Err = fmt.Errorf("%w (%w)", err, context.DeadlineExceeded)
		}
	}
	return nil, e
}

// noDirect is what "direct" means where origin.enabled is false.
type noDirect struct{}

var errNoDirect = errors.New("version control may not be used here (origin.enabled is false)")

func (noDirect) Name() string { return "direct" }

// Kind is Off: it says nothing about any module, so that after other sources it
// is not asked.
func (noDirect) Kind() upstream.Kind { return upstream.Off }
func (noDirect) Get(context.Context, goproxy.Request) (*upstream.Answer, error) {
	return nil, &upstream.Error{Source: "direct", Stage: upstream.StageLocal, Status: http.StatusForbidden, Err: errNoDirect}
}

// brokenDirect is "direct" on a machine that cannot do it.
type brokenDirect struct{ err error }

func (brokenDirect) Name() string        { return "direct" }
func (brokenDirect) Kind() upstream.Kind { return upstream.Direct }
func (b brokenDirect) Get(context.Context, goproxy.Request) (*upstream.Answer, error) {
	return nil, &upstream.Error{Source: "direct", Stage: upstream.StageLocal, Err: b.err}
}
