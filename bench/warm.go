//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

const (
	smallVersions = 1_000     // in the store of the warm lines
	mixVersions   = 250       // whose .info and .mod are the mix of small files
	hugeVersions  = 1_000_000 // in the store of line 10
	idleConns     = 10_000    // of line 11
	zipConns      = 2         // that download zips at the same time
)

// zipSizes are those of line 2, in bytes, and how much is downloaded in a round.
var zipSizes = []struct {
	name   string
	bytes  int64
	volume int64
}{
	{"15 MB", 15e6, 1500e6},
	{"200 MB", 200e6, 2400e6},
}

// A warmWorld is a store full of made-up modules, and the source that a server
// over it may ask for lists.
type warmWorld struct {
	dir  string
	gen  *storeGen
	db   *database
	src  *source
	zips []module.Version // by zipSizes
}

func (w *warmWorld) url() string { return "http://" + w.src.addr() }

// pathOf is the path of a request of the module proxy protocol, with its slash.
func pathOf(k goproxy.Kind, m module.Version) string {
	return "/" + goproxy.Request{Kind: k, Module: m}.Path()
}

// mix picks .info and .mod of n versions out of the first total, the same ones
// whenever it is asked.
func mix(n, total int) (paths []string) {
	chance := rand.New(rand.NewPCG(1, uint64(total)))
	for range n {
		i := chance.IntN(total)
		m := module.Version{Path: modPath(i / versionsEach), Version: modVersion(i % versionsEach)}
		paths = append(paths, pathOf(goproxy.Info, m), pathOf(goproxy.Mod, m))
	}
	return paths
}

// lists are the paths of the version lists of the warm store.
func lists() (paths []string) {
	for i := range smallVersions / versionsEach {
		paths = append(paths, pathOf(goproxy.List, module.Version{Path: modPath(i)}))
	}
	return paths
}

// newWarmWorld makes the store of the warm lines; with zips, those of line 2, too.
func (b *bench) newWarmWorld(versions int, zips bool) (*warmWorld, error) {
	dir, err := b.lab.mkdir("store")
	if err != nil {
		return nil, err
	}
	w := &warmWorld{dir: dir, gen: newStoreGen(dir, false)}
	if err := w.gen.fill(versions, nil); err != nil {
		return nil, err
	}
	for i, z := range zipSizes {
		if !zips {
			break
		}
		m, err := w.gen.big(fmt.Sprintf("bench.example/big%d", i), z.bytes)
		if err != nil {
			return nil, err
		}
		w.zips = append(w.zips, m)
	}
	if err := w.gen.proveStore(); err != nil {
		return nil, err
	}
	if w.db, err = newDatabase(w.gen.sums, dbRecords); err != nil {
		return nil, err
	}
	if w.src, err = newSource(dir, w.db); err != nil {
		return nil, err
	}
	b.lab.later(w.src.close)
	return w, nil
}

// visit asks for every path once.
func visit(ctx context.Context, url string, paths []string) error {
	c, err := dial(ctx, url)
	if err != nil {
		return err
	}
	defer c.close()
	for _, p := range paths {
		if _, err := c.get(p, nil); err != nil {
			return err
		}
	}
	return nil
}

// hit is one measurement of a warm server with wrk.
func hit(ctx context.Context, p *process, l load, d time.Duration) (sample, error) {
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	r, err := l.run(ctx, p.url, d)
	if err != nil {
		return nil, err
	}
	after, err := p.cpu()
	if err != nil {
		return nil, err
	}
	return sample{
		"requests/s":     r.perSecond(),
		"CPU µs/request": float64((after-before)/time.Microsecond) / float64(r.Requests),
		"p99 ms":         float64(r.P99) / 1e3,
	}, nil
}

// warm takes lines 1 to 3, which need the same servers.
func (b *bench) warm(ctx context.Context) error {
	defer b.lab.release(b.lab.mark())
	if !b.wants(1, 2, 3) || b.lacks("nginx", "wrk", 1, 2, 3) {
		return nil
	}
	b.lab.say("lines 1 to 3: making a store")
	w, err := b.newWarmWorld(smallVersions, b.wants(2))
	if err != nil {
		return err
	}
	small, all := mix(mixVersions, smallVersions), lists()
	var zips []string
	for _, m := range w.zips {
		zips = append(zips, pathOf(goproxy.Zip, m))
	}
	servers := map[string]*process{}
	names := []string{"sluice", "nginx", "no logic"}
	if servers["nginx"], err = b.lab.startNginx(ctx, w.dir, small[0]); err != nil {
		return err
	}
	if servers["no logic"], err = b.lab.startNoLogic(ctx, w.dir, small); err != nil {
		return err
	}
	if servers["sluice"], err = b.startSluice(ctx, w.dir, w.url(), w.db.vkey); err != nil {
		return err
	}
	for _, p := range b.peers {
		s, err := b.startPeer(ctx, p, w.url(), w.db.vkey)
		if err == nil {
			err = visit(ctx, s.url, append(append(small[:len(small):len(small)], all...), zips...))
		}
		if err != nil {
			b.lab.say("%s is left out of the warm lines: %v", p.name, err)
			continue
		}
		servers[p.name], names = s, append(names, p.name)
	}
	for _, name := range []string{"sluice", "nginx"} {
		if err := visit(ctx, servers[name].url, append(append(small[:len(small):len(small)], all...), zips...)); err != nil {
			return fmt.Errorf("warming %s: %w", name, err)
		}
	}
	peers := names[3:]
	with := func(l load, but ...string) (cs []contender) {
		for _, name := range names {
			if len(but) > 0 && name == but[0] {
				continue
			}
			cs = append(cs, contender{name, func(ctx context.Context) (sample, error) { return hit(ctx, servers[name], l, b.spell) }})
		}
		return cs
	}
	if b.wants(1) {
		l, err := newLoad(b.lab.dir, "small", small)
		if err != nil {
			return err
		}
		t, err := b.interleave(ctx, "line 1", 1, b.rounds, with(l))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("warm mix of %d small files, wrk -t%s -c%s", len(small), wrkThreads, wrkConns)
		b.add(judge(1, what+": requests/s, Sluice ÷ nginx", "×", t.ratio("requests/s", "sluice", "nginx"), atLeast(0.70), ""))
		b.addBestPeer(1, what, t, peers)
		b.add(judge(1, "the same: server CPU per request, Sluice ÷ net/http without logic", "×", t.ratio("CPU µs/request", "sluice", "no logic"), atMost(1.10), ""))
	}
	if b.wants(2) {
		for i, z := range zipSizes {
			var cs []contender
			for _, name := range names {
				if name == "no logic" {
					continue
				}
				cs = append(cs, contender{name, func(ctx context.Context) (sample, error) {
					return haul(ctx, servers[name], zips[i], int(z.volume/z.bytes))
				}})
			}
			t, err := b.interleave(ctx, "line 2, "+z.name, 2, b.rounds, cs)
			if err != nil {
				return err
			}
			b.add(judge(2, fmt.Sprintf("warm %s zip, %d clients: MB/s, Sluice ÷ nginx", z.name, zipConns), "×", t.ratio("MB/s", "sluice", "nginx"), atLeast(0.90), ""))
			b.add(judge(2, "the same: server CPU per GB, Sluice ÷ nginx", "×", t.ratio("CPU ms/GB", "sluice", "nginx"), atMost(1.3), ""))
		}
	}
	if b.wants(3) {
		l, err := newLoad(b.lab.dir, "lists", all)
		if err != nil {
			return err
		}
		t, err := b.interleave(ctx, "line 3", 3, b.rounds, with(l, "no logic"))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("warm @v/list of %d versions", versionsEach)
		b.add(judge(3, what+": requests/s, Sluice ÷ nginx", "×", t.ratio("requests/s", "sluice", "nginx"), atLeast(0.60), ""))
	}
	return nil
}

// addBestPeer judges Sluice against the best of the peers.
func (b *bench) addBestPeer(line int, what string, t table, peers []string) {
	best := ""
	for _, p := range peers {
		if best == "" || t.of(p, "requests/s").median() > t.of(best, "requests/s").median() {
			best = p
		}
	}
	if best == "" {
		b.add(without(line, what+": requests/s, Sluice ÷ best peer", skipped, "no peer given in "+peersVar))
		return
	}
	b.add(judge(line, what+": requests/s, Sluice ÷ "+best+", the best peer", "×", t.ratio("requests/s", "sluice", best), atLeast(1.8), ""))
}

// haul downloads one file n times, over a few connections.
func haul(ctx context.Context, p *process, path string, n int) (sample, error) {
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards the following
	var total int64
	var failure error
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	var wg sync.WaitGroup
	begin := time.Now()
	for range zipConns {
		wg.Go(func() {
			c, err := dial(ctx, p.url)
			var got int64
			for err == nil {
				if _, more := <-todo; !more {
					break
				}
				var k int64
				k, err = c.get(path, nil)
				got += k
			}
			if c != nil {
				c.close()
			}
			mu.Lock()
			defer mu.Unlock()
			total += got
			if failure == nil {
				failure = err
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if failure != nil {
		return nil, failure
	}
	after, err := p.cpu()
	if err != nil {
		return nil, err
	}
	return sample{
		"MB/s":      float64(total) / 1e6 / took.Seconds(),
		"CPU ms/GB": float64((after-before)/time.Microsecond) / 1e3 / (float64(total) / 1e9),
	}, nil
}

// idle opens so many connections, each of which has got one answer and then waits.
func idle(ctx context.Context, url, path string, n int) (closeAll func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex // guards conns
	var conns []*conn
	closeAll = func() {
		for _, c := range conns {
			c.close()
		}
		cancel(nil)
	}
	var wg sync.WaitGroup
	const dialers = 16
	for k := range dialers {
		wg.Go(func() {
			for i := k; i < n && ctx.Err() == nil; i += dialers {
				c, err := dial(ctx, url)
				if err == nil {
					mu.Lock()
					conns = append(conns, c)
					mu.Unlock()
					_, err = c.get(path, nil)
					c.buf = nil // they are many
				}
				if err != nil {
					cancel(fmt.Errorf("opening connection %d of %d: %w", i, n, err))
					return
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		closeAll()
		return nil, err
	}
	return closeAll, nil
}

// settle is how long a server has before its memory is looked at.
const settle = time.Second

// idlers takes line 11.
func (b *bench) idlers(ctx context.Context) error {
	defer b.lab.release(b.lab.mark())
	if !b.wants(11) || b.lacks("wrk", "", 11) {
		return nil
	}
	if have := openFiles(); have < idleConns+1000 {
		b.add(without(11, "idle connections beside line 1", skipped, fmt.Sprintf("a process may open %d files here; raise the hard limit (ulimit -Hn) above %d", have, idleConns+1000)))
		return nil
	}
	w, err := b.newWarmWorld(smallVersions, false)
	if err != nil {
		return err
	}
	small := mix(mixVersions, smallVersions)
	l, err := newLoad(b.lab.dir, "idle", small)
	if err != nil {
		return err
	}
	// begin starts a server that has been asked for everything once.
	begin := func(ctx context.Context, start func(context.Context) (*process, error)) (*process, error) {
		p, err := start(ctx)
		if err == nil {
			err = visit(ctx, p.url, small)
		}
		return p, err
	}
	// crowd opens the idle connections, and says what each takes, in KB.
	crowd := func(ctx context.Context, p *process) (each float64, closeAll func(), err error) {
		time.Sleep(settle)
		before, _, err := p.memory()
		if err != nil {
			return 0, nil, err
		}
		if closeAll, err = idle(ctx, p.url, small[0], idleConns); err != nil {
			return 0, nil, err
		}
		time.Sleep(settle)
		after, _, err := p.memory()
		if err != nil {
			closeAll()
			return 0, nil, err
		}
		return float64(after-before) / 1024 / idleConns, closeAll, nil
	}
	sluice := func(ctx context.Context) (*process, error) { return b.startSluice(ctx, w.dir, w.url(), w.db.vkey) }
	noLogic := func(ctx context.Context) (*process, error) { return b.lab.startNoLogic(ctx, w.dir, small) }
	// Two servers are there at once and take turns, and then two others: where one has
	// its memory makes more of a difference than what is to be seen, and so does what
	// the machine does from one round to the next.
	const pairs = 4
	turns := func(ctx context.Context, s sample, crowdedFirst bool) error {
		defer b.lab.release(b.lab.mark())
		bare, err := begin(ctx, sluice)
		if err != nil {
			return err
		}
		crowded, err := begin(ctx, sluice)
		if err != nil {
			return err
		}
		each, closeAll, err := crowd(ctx, crowded)
		if err != nil {
			return err
		}
		defer closeAll()
		s["KB/connection"] += each / pairs
		for _, idlers := range []bool{crowdedFirst, !crowdedFirst} {
			p, suffix := bare, ""
			if idlers {
				p, suffix = crowded, ", idlers"
			}
			got, err := hit(ctx, p, l, max(b.spell/pairs, time.Second))
			if err != nil {
				return err
			}
			for metric, v := range got {
				s[metric+suffix] += v / pairs
			}
		}
		return nil
	}
	t, err := b.interleave(ctx, "line 11", 11, b.fewRounds, []contender{
		{"sluice", func(ctx context.Context) (sample, error) {
			s := sample{}
			for i := range pairs {
				if err := turns(ctx, s, i%2 > 0); err != nil {
					return nil, err
				}
			}
			return s, nil
		}},
		{"no logic", func(ctx context.Context) (sample, error) {
			defer b.lab.release(b.lab.mark())
			p, err := begin(ctx, noLogic)
			if err != nil {
				return nil, err
			}
			each, closeAll, err := crowd(ctx, p)
			if err != nil {
				return nil, err
			}
			closeAll()
			return sample{"KB/connection": each}, nil
		}},
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d idle connections beside line 1", idleConns)
	b.add(judge(11, what+": requests/s, with ÷ without", "×", t.of("sluice", "requests/s, idlers").over(t.of("sluice", "requests/s")), atLeast(0.95), ""))
	b.add(judge(11, what+": memory of each, beyond net/http without logic", "KB", t.of("sluice", "KB/connection").minus(t.of("no logic", "KB/connection")), atMost(8), ""))
	return nil
}

// huge takes line 10.
func (b *bench) huge(ctx context.Context) error {
	defer b.lab.release(b.lab.mark())
	if !b.wants(10) || b.lacks("wrk", "", 10) {
		return nil
	}
	if !b.full {
		b.add(without(10, "a store of 1,000,000 versions", skipped, "only with -full: it takes minutes to write"))
		return nil
	}
	small, err := b.newWarmWorld(smallVersions, true)
	if err != nil {
		return err
	}
	dir, err := b.lab.mkdir("huge")
	if err != nil {
		return err
	}
	b.lab.say("line 10: writing a store of %d versions", hugeVersions)
	gen := newStoreGen(dir, true)
	next := hugeVersions / 10
	err = gen.fill(hugeVersions, func(done int) error {
		if done >= next {
			b.lab.say("line 10: %d versions", done)
			next += hugeVersions / 10
		}
		return context.Cause(ctx)
	})
	if err == nil {
		err = gen.proveStore()
	}
	if err == nil {
		// As in a store that has kept account from its first version on.
		b.lab.say("line 10: counting it")
		err = errors.Join(account(ctx, small.dir, smallVersions), account(ctx, dir, hugeVersions))
	}
	if err != nil {
		return err
	}
	measure := func(dir, name string, versions int) (contender, error) {
		paths := mix(mixVersions, versions)
		l, err := newLoad(b.lab.dir, filepath.Base(name), paths)
		return contender{name, func(ctx context.Context) (sample, error) {
			defer b.lab.release(b.lab.mark())
			begin := time.Now()
			p, err := b.startSluice(ctx, dir, small.url(), small.db.vkey, "--store-quota="+hugeQuota)
			if err != nil {
				return nil, err
			}
			if err := visit(ctx, p.url, paths[:1]); err != nil {
				return nil, err
			}
			started := time.Since(begin)
			if err := visit(ctx, p.url, paths); err != nil {
				return nil, err
			}
			s, err := hit(ctx, p, l, b.spell)
			if err != nil {
				return nil, err
			}
			now, _, err := p.memory()
			s["start s"], s["MB"] = started.Seconds(), float64(now)/1e6
			return s, err
		}}, err
	}
	one, err := measure(small.dir, "sluice, 1,000", smallVersions)
	if err != nil {
		return err
	}
	many, err := measure(dir, "sluice, 1,000,000", hugeVersions)
	if err != nil {
		return err
	}
	t, err := b.interleave(ctx, "line 10", 10, b.fewRounds, []contender{one, many})
	if err != nil {
		return err
	}
	counted, err := b.accounts(ctx, small, dir)
	if err != nil {
		return err
	}
	const what = "a store of 1,000,000 versions with a quota"
	b.add(judge(10, what+": versions that its account has more after one was fetched", "", series{counted}, atLeast(1), ""))
	b.add(judge(10, what+": from start to the first answer", "s", t.of(many.name, "start s"), atMost(1), ""))
	b.add(judge(10, what+": requests/s of the warm mix, ÷ a store of 1,000", "×", t.ratio("requests/s", many.name, one.name), atLeast(0.95), ""))
	b.add(judge(10, what+": memory after it, ÷ a store of 1,000", "×", t.ratio("MB", many.name, one.name), atMost(1.2), ""))
	return nil
}

// hugeQuota is one that nothing here comes near.
const hugeQuota = "1TiB"

// account has a store that was written past internal/store count what it holds.
func account(ctx context.Context, dir string, versions int64) error {
	d, err := store.OpenDisk(dir, store.Options{Quota: 1 << 40})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Count(ctx, 0); err != nil {
		return err
	}
	if u := d.Usage(); !u.Known || u.Versions < versions {
		return fmt.Errorf("the store counts %d of the %d versions that bench/storegen.go wrote, whose layout must follow internal/store", u.Versions, versions)
	}
	return nil
}

// accounts fetches a version that a store does not have through a server over it,
// and says by how many its account has grown.
func (b *bench) accounts(ctx context.Context, from *warmWorld, dir string) (float64, error) {
	defer b.lab.release(b.lab.mark())
	p, err := b.startSluice(ctx, dir, from.url(), from.db.vkey, "--store-quota="+hugeQuota)
	if err != nil {
		return 0, err
	}
	d, err := store.OpenDisk(dir, store.Options{Quota: 1 << 40})
	if err != nil {
		return 0, err
	}
	defer d.Close()
	before := d.Usage()
	if err := visit(ctx, p.url, []string{pathOf(goproxy.Zip, from.zips[0])}); err != nil {
		return 0, err
	}
	// It is stored after the client has it.
	for end := time.Now().Add(startBudget); ; time.Sleep(settle / 10) {
		now := d.Usage()
		switch {
		case now.Known && now.Versions > before.Versions:
			return float64(now.Versions - before.Versions), nil
		case time.Now().After(end) || ctx.Err() != nil:
			return 0, fmt.Errorf("the account of the store stands at %d versions (known: %v) after one was fetched", now.Versions, now.Known)
		}
	}
}
