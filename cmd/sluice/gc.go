package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// leastHeap is the heap, in bytes, up to which it is not worth collecting garbage:
// a server with little in memory would else do so all the time, for every request
// makes some.
const leastHeap = 32 << 20

// spareGC lets the heap grow to leastHeap before garbage is collected, and past
// that to twice what is in use, as always. GOGC, if it is set, has the last word,
// and GOMEMLIMIT holds all the same.
func spareGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := 100
	var again func(*[16]byte)
	again = func(*[16]byte) { // is called after each collection
		metrics.Read(live)
		if p := gcPercent(live[0].Value.Uint64()); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		runtime.SetFinalizer(new([16]byte), again)
	}
	debug.SetGCPercent(gcPercent(0))
	percent = gcPercent(0)
	runtime.SetFinalizer(new([16]byte), again)
}

// gcPercent is the GOGC for so many bytes in use, in steps: each change stops the
// world for a moment.
func gcPercent(live uint64) int {
	const finest = 4 << 20
	live = max(live/(1<<20)<<20, finest)
	return max(100, int(leastHeap*100/live)-100)
}
