//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	crowdClients = 50
	crowdBytes   = 22e6
	crowdRate    = 50e6 // bytes per second of the line of line 8
	floodBytes   = 500e6
)

// A crowdWorld is one large module at its source, behind a line.
type crowdWorld struct {
	*warmWorld
	mod  module.Version
	line *relay // nil: none
}

func (b *bench) newCrowdWorld(size int64, roundTrip time.Duration, rate int64) (*crowdWorld, error) {
	dir, err := b.lab.mkdir("crowd")
	if err != nil {
		return nil, err
	}
	w := &crowdWorld{warmWorld: &warmWorld{dir: dir, gen: newStoreGen(dir, false)}}
	if w.mod, err = w.gen.big("bench.example/crowd", size); err != nil {
		return nil, err
	}
	if w.db, err = newDatabase(w.gen.sums, dbRecords); err != nil {
		return nil, err
	}
	if w.src, err = newSource(dir, w.db); err != nil {
		return nil, err
	}
	b.lab.later(w.src.close)
	if rate > 0 {
		if w.line, err = newRelay(w.src.addr(), roundTrip, rate); err != nil {
			return nil, err
		}
		b.lab.later(w.line.close)
	}
	return w, nil
}

func (w *crowdWorld) sourceURL() string {
	if w.line != nil {
		return "http://" + w.line.addr()
	}
	return w.url()
}

// fetch lets clients ask a cold Sluice for the zip at the same time.
func (w *crowdWorld) fetch(ctx context.Context, b *bench, clients int) (sample, error) {
	defer b.lab.release(b.lab.mark())
	data, err := b.lab.mkdir("data")
	if err != nil {
		return nil, err
	}
	p, err := b.startSluice(ctx, data, w.sourceURL(), w.db.vkey)
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	idle, _, err := p.memory()
	if err != nil {
		return nil, err
	}
	w.src.take()
	path := pathOf(goproxy.Zip, w.mod)
	var mu sync.Mutex // guards the following
	var slowest, first time.Duration
	var failure error
	var wg sync.WaitGroup
	begin := time.Now()
	for range clients {
		wg.Go(func() {
			var began time.Duration
			_, err := get(ctx, p.url, path, func() { began = time.Since(begin) })
			took := time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			slowest, first = max(slowest, took), max(first, began)
			if failure == nil {
				failure = err
			}
		})
	}
	wg.Wait()
	if failure != nil {
		return nil, fmt.Errorf("%w; sluice said: %s", failure, p.said())
	}
	_, peak, err := p.memory()
	if err != nil {
		return nil, err
	}
	t := w.src.take()
	return sample{"s": slowest.Seconds(), "first byte s": first.Seconds(), "fetches": float64(t.hits[path[1:]]), "idle MB": float64(idle) / 1e6, "added MB": float64(peak-idle) / 1e6}, nil
}

// crowd takes lines 8 and 9.
func (b *bench) crowd(ctx context.Context) error {
	defer b.lab.release(b.lab.mark())
	if !b.wants(8, 9) {
		return nil
	}
	w, err := b.newCrowdWorld(crowdBytes, farAway, crowdRate)
	if err != nil {
		return err
	}
	many := fmt.Sprintf("sluice, %d clients", crowdClients)
	t, err := b.interleave(ctx, "lines 8 and 9", 8, b.fewRounds, []contender{
		{"sluice, 1 client", func(ctx context.Context) (sample, error) { return w.fetch(ctx, b, 1) }},
		{many, func(ctx context.Context) (sample, error) { return w.fetch(ctx, b, crowdClients) }},
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d clients, one cold 22 MB zip, line of 50 MB/s and 100 ms", crowdClients)
	if b.wants(8) {
		_, worst := t.of(many, "fetches").spread()
		b.add(judge(8, what+": fetches at the source, worst round", "", series{worst}, atMost(1), ""))
		b.add(judge(8, what+": slowest client ÷ one alone", "×", t.ratio("s", many, "sluice, 1 client"), atMost(1.15), ""))
		b.add(judge(8, "the same: last client's first byte ÷ one alone", "×", t.ratio("first byte s", many, "sluice, 1 client"), atMost(1.5), ""))
	}
	if !b.wants(9) {
		return nil
	}
	b.add(judge(9, "resident memory, idle", "MB", t.of(many, "idle MB"), atMost(40), ""))
	b.add(judge(9, "resident memory that line 8 adds at its peak", "MB", t.of(many, "added MB"), atMost(40), ""))
	const flood = "resident memory that 50 clients of a cold 500 MB zip add at its peak"
	if !b.full {
		b.add(without(9, flood, skipped, "only with -full: 25 GB go through loopback"))
		return nil
	}
	w, err = b.newCrowdWorld(floodBytes, 0, 0)
	if err != nil {
		return err
	}
	t, err = b.interleave(ctx, "line 9, 500 MB", 9, min(b.fewRounds, 2), []contender{
		{many, func(ctx context.Context) (sample, error) { return w.fetch(ctx, b, crowdClients) }},
	})
	if err != nil {
		return err
	}
	b.add(judge(9, flood, "MB", t.of(many, "added MB"), atMost(64), ""))
	return nil
}
