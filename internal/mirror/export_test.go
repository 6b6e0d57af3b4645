package mirror

import (
	"runtime"
	"time"
)

// The limits that tests go to.
const (
	SmallZip  = smallZip
	HoldBack  = holdBack
	MaxQueued = maxQueued

	FailedRecently = failedRecently
	Unvouched      = unvouched
)

// Settle waits until nothing is under way any more: no flight, no look-ahead.
func (m *Mirror) Settle() {
	for {
		m.mu.Lock()
		idle := len(m.flights) == 0 && m.ahead.lanes[laneSmall].workers == 0 && m.ahead.lanes[laneZips].workers == 0
		m.mu.Unlock()
		if idle {
			return
		}
		runtime.Gosched()
		time.Sleep(100 * time.Microsecond) // lets a bubble's clock go on; elsewhere, spares the others' processor
	}
}
