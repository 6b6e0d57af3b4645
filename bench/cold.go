//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	farAway = 100 * time.Millisecond // the round trip of lines 5 and 6
	// surplusBar is how many percent of what go fetches itself sluice run may fetch
	// on top.
	surplusBar = 3
)

// A coldWorld is a graph at its source, which is near, and far behind a relay.
type coldWorld struct {
	*graph
	db  *database
	src *source
	far *relay
}

func (w *coldWorld) near() string   { return "http://" + w.src.addr() }
func (w *coldWorld) remote() string { return "http://" + w.far.addr() }

func gosumdb(db *database, url string) string { return db.vkey + " " + url + "/sumdb/" + dbName }

// newColdWorld serves a graph.
func (b *bench) newColdWorld(g *graph) (*coldWorld, error) {
	db, err := newDatabase(g.known, dbRecords)
	if err != nil {
		return nil, err
	}
	src, err := newSource(g.tree, db)
	if err != nil {
		return nil, err
	}
	b.lab.later(src.close)
	far, err := newRelay(src.addr(), farAway, 0)
	if err != nil {
		return nil, err
	}
	b.lab.later(far.close)
	return &coldWorld{g, db, src, far}, nil
}

// spent is what a run has cost.
type spent struct {
	wall time.Duration
	busy float64 // the share of the time of all processors that somebody had, in percent
}

// goRun runs a go command that has nothing yet, with env on top of its
// environment, and says what that cost and what the source was asked for.
func (w *coldWorld) goRun(ctx context.Context, b *bench, whole bool, proxy string, wrap []string, args ...string) (cost spent, t tally, err error) {
	defer b.lab.release(b.lab.mark())
	dir, err := w.checkout(b.lab, whole)
	if err != nil {
		return cost, t, err
	}
	cache, err := b.lab.mkdir("modcache")
	if err != nil {
		return cost, t, err
	}
	syscall.Sync() // what others have written is not to be waited for
	w.src.take()
	all, idle, err := jiffies()
	if err != nil {
		return cost, t, err
	}
	cost.wall, err = command(ctx, dir, b.goEnv(cache, proxy, gosumdb(w.db, w.sumsAt(proxy))), slices.Concat(wrap, []string{"go"}, args)...)
	allThen, idleThen, jerr := jiffies()
	if err == nil {
		err = jerr
	}
	if n := allThen - all; n > 0 {
		cost.busy = 100 - 100*float64(idleThen-idle)/float64(n)
	}
	return cost, w.src.take(), err
}

// sumsAt is where a client of proxy finds the database: as far away as the source.
func (w *coldWorld) sumsAt(proxy string) string {
	if strings.HasPrefix(proxy, w.remote()) {
		return w.remote()
	}
	return w.near()
}

// through runs go mod download through a server that start starts, cold. cpu is the
// processor time that the server used for it.
func (w *coldWorld) through(ctx context.Context, b *bench, start func(context.Context) (*process, error)) (cost spent, cpu time.Duration, t tally, err error) {
	defer b.lab.release(b.lab.mark())
	p, err := start(ctx)
	if err != nil {
		return cost, 0, t, err
	}
	before, err := p.cpu()
	if err != nil {
		return cost, 0, t, err
	}
	// Whatever it asked for at its start belongs to no download.
	cost, t, err = w.goRun(ctx, b, false, p.url, nil, "mod", "download")
	if err != nil {
		return cost, 0, t, fmt.Errorf("%w; %s said: %s", err, p.name, p.said())
	}
	cpu, err = p.cpu()
	return cost, cpu - before, t, err
}

// cold takes lines 4 to 7.
func (b *bench) cold(ctx context.Context) error {
	if !b.wants(4, 5, 6, 7) {
		return nil
	}
	for _, p := range b.graphs {
		if err := b.coldGraph(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) coldGraph(ctx context.Context, p program) error {
	defer b.lab.release(b.lab.mark())
	g, err := b.load(ctx, p)
	if err != nil {
		return err
	}
	if err := g.read(); err != nil {
		return err
	}
	w, err := b.newColdWorld(g)
	if err != nil {
		return err
	}
	tallies := map[string][]tally{}
	note := func(name string, cost spent, t tally, err error) (sample, error) {
		if err != nil {
			return nil, err
		}
		tallies[name] = append(tallies[name], t)
		return sample{"s": cost.wall.Seconds(), "processors busy, %": cost.busy, "requests": float64(t.count(false)), "database requests": float64(t.count(true)), "MB": float64(t.volume(false)) / 1e6}, nil
	}
	plain := func(name, proxy string) contender {
		return contender{name, func(ctx context.Context) (sample, error) {
			cost, t, err := w.goRun(ctx, b, false, proxy, nil, "mod", "download")
			return note(name, cost, t, err)
		}}
	}
	through := func(name string, start func(context.Context) (*process, error)) contender {
		return contender{name, func(ctx context.Context) (sample, error) {
			cost, cpu, t, err := w.through(ctx, b, start)
			s, err := note(name, cost, t, err)
			if err == nil {
				s["server CPU s"] = cpu.Seconds()
			}
			return s, err
		}}
	}
	served := func(name, source string) contender {
		return through(name, func(ctx context.Context) (*process, error) {
			data, err := b.lab.mkdir("data")
			if err != nil {
				return nil, err
			}
			return b.startSluice(ctx, data, source, w.db.vkey)
		})
	}
	peered := func(p peer, name, source string) contender {
		return through(name, func(ctx context.Context) (*process, error) { return b.startPeer(ctx, p, source, w.db.vkey) })
	}
	reverse := func(name string, hash bool) contender {
		return through(name, func(ctx context.Context) (*process, error) { return b.lab.startReverse(ctx, w.near(), hash) })
	}
	running := func(args ...string) (sample, error) {
		defer b.lab.release(b.lab.mark())
		data, err := b.lab.mkdir("data")
		if err != nil {
			return nil, err
		}
		wrap := slices.Concat([]string{b.sluice, "run", "--data", data}, b.sluiceArgs, []string{"--"})
		cost, t, err := w.goRun(ctx, b, false, w.remote(), wrap, args...)
		s, err := note("run, 100 ms", cost, t, err)
		if err != nil {
			return nil, err
		}
		if cost, t, err = w.goRun(ctx, b, false, w.remote(), wrap, args...); err != nil {
			return nil, err
		}
		s["warm s"], s["warm requests"] = cost.wall.Seconds(), float64(t.count(false)+t.count(true))
		return s, nil
	}
	var cs []contender
	if b.wants(4, 7) {
		cs = append(cs, plain("direct", w.near()), served("sluice", w.near()))
		if b.wants(4) {
			cs = append(cs, reverse("reverse proxy", false), reverse("hashing proxy", true))
		}
		for _, p := range b.peers {
			cs = append(cs, peered(p, p.name, w.near()))
		}
	}
	if b.wants(4, 6, 7) {
		cs = append(cs, plain("file", "file://"+g.tree)) // what the go command itself has to do with everything at hand
	}
	if b.wants(5, 6) {
		cs = append(cs, plain("direct, 100 ms", w.remote()))
	}
	if b.wants(5, 7) {
		cs = append(cs, served("sluice, 100 ms", w.remote()))
		for _, p := range b.peers {
			cs = append(cs, peered(p, p.name+", 100 ms", w.remote()))
		}
	}
	if b.wants(6, 7) {
		cs = append(cs, contender{"run, 100 ms", func(ctx context.Context) (sample, error) { return running("mod", "download") }})
	}
	t, err := b.interleave(ctx, "lines 4 to 7, "+g.String(), 4, b.coldRounds, cs)
	if err != nil {
		return err
	}
	add := func(f figure) {
		f.Graph = g.String()
		b.add(f)
	}
	what := "cold go mod download, " + g.String()
	// The bars are for large graphs.
	most := func(v float64) bar {
		if !slices.Contains(fullGraphs, p.name) {
			return bar{}
		}
		return atMost(v)
	}
	if b.wants(4) {
		processors, err := onlineProcessors()
		if err != nil {
			return err
		}
		add(judge(4, what+", source near: through sluice serve ÷ direct", "×", t.ratio("s", "sluice", "direct"), most(1.00), ""))
		add(judge(4, what+", source near: share of the processors' time that going directly takes, source included", "%", t.of("direct", "processors busy, %"), bar{}, "what a proxy does in this time comes on top"))
		add(judge(4, "the same, through a reverse proxy that keeps and verifies nothing ÷ direct", "×", t.ratio("s", "reverse proxy", "direct"), bar{}, "what any proxy between costs here"))
		add(judge(4, "the same, through one that takes the hash of every zip with Sluice's decompressor, and no more ÷ direct", "×", t.ratio("s", "hashing proxy", "direct"), bar{}, "what verifying costs besides"))
		add(judge(4, "the same: the work of going directly and of that proxy, with the processors never idle ÷ direct", "×", floor(t, processors), bar{}, "what is left to gain for a proxy that verifies"))
	}
	if b.wants(5) {
		add(judge(5, what+", source 100 ms away: through sluice serve ÷ direct", "×", t.ratio("s", "sluice, 100 ms", "direct, 100 ms"), most(0.30), ""))
	}
	if b.wants(6) {
		add(judge(6, what+", source 100 ms away: sluice run ÷ direct", "×", t.ratio("s", "run, 100 ms", "direct, 100 ms"), most(0.17), ""))
		own := t.of("file", "s")
		add(judge(6, "the same: sluice run cold ÷ the go command's own work, with everything at hand (GOPROXY=file://)", "×", t.of("run, 100 ms", "s").over(own), most(1.5), ""))
		add(judge(6, "the same: sluice run with everything in the store ÷ the go command's own work", "×", t.of("run, 100 ms", "warm s").over(own), most(1), "it lays modules into the module cache"))
	}
	if b.wants(7) {
		for _, f := range frugality(tallies) {
			add(f)
		}
		return b.surplus(ctx, w, add)
	}
	return nil
}

// floor is how long a download through the proxy that does no more than to verify
// would take if the processors were never idle, by the time of going directly.
func floor(t table, processors int) series {
	busy := t.of("direct", "processors busy, %")
	own := t.of("hashing proxy", "server CPU s").over(t.of("direct", "s"))
	f := make(series, min(len(busy), len(own)))
	for i := range f {
		f[i] = busy[i]/100 + own[i]/float64(processors)
	}
	return f
}

// frugality judges what the source was asked for in the runs of lines 4 to 6: the
// worst run counts.
func frugality(tallies map[string][]tally) []figure {
	var direct tally
	for _, t := range tallies["direct"] {
		direct = t // they ask for the same
	}
	var twice, more series
	var examples []string
	example := func(s []string) {
		if len(s) > 0 && len(examples) < 3 {
			examples = append(examples, s[0])
		}
	}
	missing := 0
	for _, name := range []string{"sluice", "sluice, 100 ms", "run, 100 ms"} {
		for _, t := range tallies[name] {
			again, zips := t.repeated(), t.beyond(direct)
			twice, more = append(twice, float64(len(again))), append(more, float64(len(zips)))
			example(again)
			example(zips)
			missing = max(missing, t.missing)
		}
	}
	note := ""
	if len(examples) > 0 {
		note = "such as " + strings.Join(examples, ", ")
	}
	if missing > 0 {
		note = strings.TrimPrefix(note+fmt.Sprintf("; the source lacked up to %d files it was asked for", missing), "; ")
	}
	worst := func(s series) series {
		if len(s) == 0 {
			return nil
		}
		_, high := s.spread()
		return series{high}
	}
	return []figure{
		judge(7, "source requests in lines 4 to 6: asked for twice in a run, worst run", "", worst(twice), atMost(0), note),
		judge(7, "source requests in lines 4 to 6: zips that go alone does not fetch, worst run", "", worst(more), atMost(0), ""),
	}
}

// surplus compares what sluice run fetches for a build with what go fetches. The
// build is told to do everything but compile.
func (b *bench) surplus(ctx context.Context, w *coldWorld, add func(figure)) error {
	defer b.lab.release(b.lab.mark())
	build := []string{"build", "-n", "./..."}
	_, alone, err := w.goRun(ctx, b, true, w.near(), nil, build...)
	if err != nil {
		return err
	}
	data, err := b.lab.mkdir("data")
	if err != nil {
		return err
	}
	_, with, err := w.goRun(ctx, b, true, w.near(), slices.Concat([]string{b.sluice, "run", "--data", data}, b.sluiceArgs, []string{"--"}), build...)
	if err != nil {
		return err
	}
	const what = "sluice run -- go build ./...: bytes of modules fetched beyond what go fetches alone"
	if alone.volume(false) == 0 {
		add(without(7, what, failed, "go alone fetched nothing"))
		return nil
	}
	percent := 100 * (float64(with.volume(false))/float64(alone.volume(false)) - 1)
	note := fmt.Sprintf("%.1f MB and %.1f MB; %d zips more; the checksum database sent %.1f MB", float64(with.volume(false))/1e6, float64(alone.volume(false))/1e6, len(with.beyond(alone)), float64(with.volume(true))/1e6)
	add(judge(7, what, "%", series{percent}, atMost(surplusBar), note))
	return nil
}
