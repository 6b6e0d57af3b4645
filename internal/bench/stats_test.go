package bench

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTheIntervalHoldsTheMedianAsOftenAsItSays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 7, 10, 15, 30, 100, 500, 2000} {
		in, wide := 0, 0.0
		const times = 2000
		for range times {
			v := make([]float64, n)
			for i := range v {
				v[i] = math.Exp(rnd.NormFloat64()) // times of a network have a long tail; its median is 1
			}
			f := figure(v)
			if f.N != n || f.Low > f.Median || f.Median > f.High {
				t.Fatalf("%+v", f)
			}
			if f.Low <= 1 && 1 <= f.High {
				in++
			}
			wide += f.High - f.Low
		}
		if share := float64(in) / times; share < 0.94 {
			t.Errorf("of %d values, the interval held the median in %.3f of all cases", n, share)
		}
		if n >= 100 && wide/times > 8/math.Sqrt(float64(n)) {
			t.Errorf("of %d values, the interval is %.2f wide", n, wide/times)
		}
	}
}

func TestFewValuesHaveTheirRangeForAnInterval(t *testing.T) {
	if f := figure(nil); f != (Figure{}) {
		t.Errorf("%+v", f)
	}
	if f := figure([]float64{3}); f != (Figure{1, 3, 3, 3}) {
		t.Errorf("%+v", f)
	}
	if f := figure([]float64{4, 1, 3, 2}); f != (Figure{4, 2.5, 1, 4}) {
		t.Errorf("%+v", f)
	}
}

func TestOneFailureInManyIsNoHabit(t *testing.T) {
	for _, x := range []struct {
		failed, n int
		lossy     bool
	}{{0, 50, false}, {1, 50, false}, {2, 50, false}, {3, 50, true}, {1, 3, false}, {2, 3, true}, {5, 1000, false}, {40, 1000, true}, {0, 0, false}} {
		if got := isLossy(x.failed, x.n); got != x.lossy {
			t.Errorf("%d of %d: at least %.4f", x.failed, x.n, atLeast(x.failed, x.n))
		}
	}
}

func TestSlowIsWhoSurelyTakesMuchLongerForTheSmallFilesOrTheLargeOne(t *testing.T) {
	m := func(ms, low, high, mb float64) *Measured {
		m := &Measured{Latency: Figure{10, ms, low, high}, Throughput: Figure{5, mb, mb * 0.9, mb * 1.1}}
		m.Cost = cost(m.Latency, m.Throughput)
		return m
	}
	best := m(20, 18, 22, 10)
	for _, x := range []struct {
		m    *Measured
		slow bool
	}{
		{m(21, 18, 22, 10), false},
		{m(300, 250, 350, 10), true},  // small files: 6 s and not 0.4
		{m(20, 18, 22, 1), true},      // the large one: 10 s and not 1
		{m(300, 15, 900, 10), false},  // perhaps
		{m(65, 64, 66, 10), false},    // three times, but less than a second
		{m(25, 24, 26, 4.5), false},   // not three times
		{m(1000, 900, 1100, 9), true}, // both
	} {
		if got := slower(x.m, best) > 0; got != x.slow {
			t.Errorf("%+v beside %+v: %v", x.m.Cost, best.Cost, got)
		}
	}
}
