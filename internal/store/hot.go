package store

import (
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A hotLayer keeps small artifacts in memory. What is in it is served without a
// look at the disk, so everything that changes an artifact in this process drops
// it here; what another process does to it is seen within hotTime.
type hotLayer struct {
	cache *otter.Cache[goproxy.Request, hotEntry] // nil: keeps nothing

	mu  *sync.Mutex // guards gen, and that nothing of an old generation is added
	gen *uint64     // of what has been dropped so far
}

type hotEntry struct {
	data []byte // never modified
	rec  Record
}

// hotTime is how long an entry is served without a look at the disk.
const hotTime = 10 * time.Second

// hotOverhead is what an entry costs beside its data, roughly.
const hotOverhead = 500

func newHotLayer(bytes int64) (hotLayer, error) {
	h := hotLayer{mu: new(sync.Mutex), gen: new(uint64)}
	if bytes == 0 {
		return h, nil
	}
	var err error
	h.cache, err = otter.New(&otter.Options[goproxy.Request, hotEntry]{
		MaximumWeight: uint64(bytes),
		// What another process discards is gone here soon, too.
		ExpiryCalculator: otter.ExpiryWriting[goproxy.Request, hotEntry](hotTime),
		Weigher: func(req goproxy.Request, e hotEntry) uint32 {
			return uint32(len(req.Module.Path) + len(req.Module.Version) + len(e.data) + hotOverhead)
		},
	})
	return h, err
}

func (h hotLayer) get(req goproxy.Request) (hotEntry, bool) {
	if h.cache == nil {
		return hotEntry{}, false
	}
	return h.cache.GetIfPresent(req)
}

// generation is to be taken before an artifact is read that shall be added.
func (h hotLayer) generation() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.gen
}

// add keeps e, unless anything was dropped since gen: it may have been this.
func (h hotLayer) add(req goproxy.Request, e hotEntry, gen uint64) {
	if h.cache == nil || len(e.data) > maxHot {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if *h.gen == gen {
		h.cache.Set(req, e)
	}
}

func (h hotLayer) drop(req goproxy.Request) {
	if h.cache == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.gen++
	h.cache.Invalidate(req)
}

func (h hotLayer) close() {
	if h.cache != nil {
		h.cache.StopAllGoroutines()
	}
}
