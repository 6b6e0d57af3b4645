package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// ImportOptions say how Import goes about its work.
type ImportOptions struct {
	DryRun   bool           // only tell
	Pin      bool           // take also what nothing vouches for, as it is
	Parallel int            // how many module versions at once; 0 is 1
	Done     func(Imported) // called after each file, one at a time
}

// A Fate is what became of a file that was to be imported.
type Fate string

// The fates.
const (
	Linked    Fate = "linked"    // is stored, and was not copied
	Copied    Fate = "copied"    // is stored
	There     Fate = "there"     // was stored before
	Uncovered Fate = "uncovered" // is left: no checksum database covers it, and it was never seen before
	Failed    Fate = "failed"    // is left: it is wrong, or cannot be verified or stored
	Good      Fate = "good"      // could be stored; of a dry run
)

// An Imported is one file that Import has dealt with.
type Imported struct {
	Request goproxy.Request
	Size    int64 // 0 if it is not known
	Fate    Fate
	Err     error // of a Failed one
}

// Import takes files of a tree on this machine into the store, by the judgement
// that a source's answers get; no source is asked for any. The error is that of
// ctx, or says that the store takes nothing more.
func (m *Mirror) Import(ctx context.Context, from upstream.Source, reqs []goproxy.Request, o ImportOptions) error {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, onlyKey{}, from))
	defer cancel(nil)
	// Those of one version follow one another, since a zip is stored after what
	// belongs to it.
	byVersion := map[module.Version][]goproxy.Request{}
	var order []module.Version
	for _, req := range reqs {
		if byVersion[req.Module] == nil {
			order = append(order, req.Module)
		}
		byVersion[req.Module] = append(byVersion[req.Module], req)
	}
	versions := make(chan module.Version)
	var mu sync.Mutex // around o.Done
	var wg sync.WaitGroup
	for range max(o.Parallel, 1) {
		wg.Go(func() {
			for v := range versions {
				for _, req := range byVersion[v] {
					i := m.importOne(ctx, req, o)
					if ctx.Err() != nil && i.Fate == Failed {
						break // what is given up is not what failed
					}
					mu.Lock()
					o.Done(i)
					mu.Unlock()
					if errors.Is(i.Err, store.ErrNoSpace) && !errors.Is(i.Err, store.ErrTooLarge) || errors.Is(i.Err, store.ErrReadOnly) {
						cancel(i.Err)
					}
				}
			}
		})
	}
feed:
	for _, v := range order {
		select {
		case versions <- v:
		case <-ctx.Done():
			break feed
		}
	}
	close(versions)
	wg.Wait()
	return context.Cause(ctx)
}

func (m *Mirror) importOne(ctx context.Context, req goproxy.Request, o ImportOptions) Imported {
	i := Imported{Request: req, Fate: Failed}
	res, err := m.stored(ctx, req, !o.DryRun)
	if err == nil {
		res.Close()
		i.Fate, i.Size = There, res.Size
		return i
	}
	if !errors.Is(err, fs.ErrNotExist) {
		i.Err = err
		return i
	}
	if !o.Pin && m.Route(req.Module.Path).Sums == nil {
		// What it must be is known if it was here before; an .info follows its .mod.
		known := req
		if req.Kind == goproxy.Info {
			known = req.With(goproxy.Mod)
		}
		if _, err := m.c.Store.Record(known); err != nil {
			i.Fate = Uncovered
			return i
		}
	}
	f := newFlight()
	defer f.finish()
	linked := false
	if req.Kind == goproxy.Zip {
		m.fetchZip(ctx, req, f, !o.DryRun)
	} else {
		m.fetchSmall(ctx, req, f, !o.DryRun)
	}
	switch {
	case f.err != nil:
		i.Err = f.err
		return i
	case f.small != nil:
		i.Size = f.small.Size
	default:
		i.Size, linked = f.spool.rec.Size, f.spool.linked
	}
	switch {
	case o.DryRun:
		i.Fate = Good
	case f.unkept != nil:
		i.Err = fmt.Errorf("it is right, but not stored: %w", f.unkept)
	case linked:
		i.Fate = Linked
	default:
		i.Fate = Copied
	}
	return i
}
