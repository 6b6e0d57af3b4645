package store

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A Warm artifact is a small one that is held in memory. It agrees with what the
// store has, or had a moment ago: what another process does to it is seen within
// ten seconds.
type Warm struct {
	Request goproxy.Request
	Bytes   []byte // never modified
	Record  Record

	// Derived is for the user of the store: what it makes of the artifact, and
	// need not make again while this is held.
	Derived atomic.Pointer[any]
}

// A hotLayer keeps small artifacts in memory. What is in it is served without a
// look at the disk, so everything that changes an artifact in this process drops
// it here; what another process does to it is seen within hotTime.
type hotLayer struct {
	cache *otter.Cache[string, *Warm] // by name in the tree; nil: keeps nothing

	mu  *sync.Mutex // guards gen, and that nothing of an old generation is added
	gen *uint64     // of what has been dropped so far
}

// hotTime is how long an entry is served without a look at the disk.
const hotTime = 10 * time.Second

// hotOverhead is what an entry costs beside its data, roughly, with what is
// derived from it.
const hotOverhead = 1000

func newHotLayer(bytes int64) (hotLayer, error) {
	h := hotLayer{mu: new(sync.Mutex), gen: new(uint64)}
	if bytes == 0 {
		return h, nil
	}
	var err error
	h.cache, err = otter.New(&otter.Options[string, *Warm]{
		MaximumWeight: uint64(bytes),
		// What another process discards is gone here soon, too.
		ExpiryCalculator: otter.ExpiryWriting[string, *Warm](hotTime),
		Weigher: func(name string, w *Warm) uint32 {
			return uint32(2*len(name) + len(w.Bytes) + hotOverhead)
		},
	})
	return h, err
}

func (h hotLayer) get(name string) *Warm {
	if h.cache == nil {
		return nil
	}
	w, _ := h.cache.GetIfPresent(name)
	return w
}

// generation is to be taken before an artifact is read that shall be added.
func (h hotLayer) generation() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.gen
}

// add keeps w, unless anything was dropped since gen: it may have been this.
func (h hotLayer) add(name string, w *Warm, gen uint64) {
	if h.cache == nil || len(w.Bytes) > maxHot {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if *h.gen == gen {
		h.cache.Set(name, w)
	}
}

func (h hotLayer) drop(name string) {
	if h.cache == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.gen++
	h.cache.Invalidate(name)
}

func (h hotLayer) close() {
	if h.cache != nil {
		h.cache.StopAllGoroutines()
	}
}
