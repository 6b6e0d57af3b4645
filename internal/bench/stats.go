package bench

import (
	"math"
	"slices"
)

// A Figure is the median of some values, with the interval that holds the true median
// with a confidence of 95 %. With fewer than six values there is no such interval, and
// Low and High are the least and the greatest.
type Figure struct {
	N      int     `json:"n"` // values; without any, the others are 0
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// figure is the Figure of values, which may be in any order. The interval is that of
// order statistics: it assumes nothing of how the values are spread, and times of a
// network are spread as they like.
func figure(values []float64) Figure {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return Figure{}
	}
	f := Figure{N: n, Median: v[n/2], Low: v[0], High: v[n-1]}
	if n%2 == 0 {
		f.Median = (v[n/2-1] + v[n/2]) / 2
	}
	k := medianRank(n)
	f.Low, f.High = v[k], v[n-1-k]
	return f
}

// medianRank is the largest k for which the values from the k'th least to the k'th
// greatest, counted from 0, hold the median with a confidence of 95 %: at most 2.5 % of
// n tosses of a coin show k heads or fewer. It is 0 where no k does.
func medianRank(n int) int {
	if n > 1000 { // of so many, the bell curve says the same
		return (n - int(math.Ceil(1.96*math.Sqrt(float64(n))))) / 2
	}
	p := math.Exp2(-float64(n)) // of exactly i heads
	sum := 0.0
	for i := range n / 2 {
		if sum += p; sum > 0.025 {
			return max(0, i-1)
		}
		p *= float64(n-i) / float64(i+1)
	}
	return 0
}

// atLeast is the share of failures that there are at least, with a confidence of
// 97.5 %, where failed of n requests failed (Wilson's interval).
func atLeast(failed, n int) float64 {
	if n == 0 || failed == 0 {
		return 0
	}
	const z = 1.96
	p, m := float64(failed)/float64(n), float64(n)
	mid := p + z*z/(2*m)
	half := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(0, (mid-half)/(1+z*z/m))
}
