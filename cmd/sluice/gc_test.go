package main

import "testing"

func TestGarbageIsCollectedWhenItIsWorthIt(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 700}, {1 << 20, 700}, {4 << 20, 700}, {8 << 20, 300}, {16 << 20, 100}, {64 << 20, 100}, {1 << 40, 100},
	} {
		if got := gcPercent(tt.live); got != tt.want {
			t.Errorf("%d bytes in use: GOGC %d, want %d", tt.live, got, tt.want)
		}
		if tt.live >= 4<<20 && tt.live <= 16<<20 {
			if heap := tt.live * uint64(100+gcPercent(tt.live)) / 100; heap != leastHeap {
				t.Errorf("%d bytes in use: the heap grows to %d", tt.live, heap)
			}
		}
	}
}
