package journal

import (
	"slices"
	"strings"
)

// maxDiff bounds the work of diff, in pairs of lines.
const maxDiff = 1 << 20

// diff is the lines that only a has ("- "), and those that only b has ("+ "), in order.
// A line that differs in its end alone (a carriage return, no newline) is shown too.
func diff(a, b []byte) []string {
	x, y := lines(a), lines(b)
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	var out []string
	put := func(sign, line string) { out = append(out, sign+" "+strings.TrimSuffix(line, "\n")) }
	if len(x)*len(y) > maxDiff {
		for _, l := range x {
			put("-", l)
		}
		for _, l := range y {
			put("+", l)
		}
		return out
	}
	// common[i][j] is how many lines x[i:] and y[j:] have in common.
	common := make([][]int, len(x)+1)
	for i := range common {
		common[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for len(x) > 0 || len(y) > 0 {
		i, j := len(common)-1-len(x), len(common[0])-1-len(y)
		switch {
		case len(x) > 0 && len(y) > 0 && x[0] == y[0]:
			x, y = x[1:], y[1:]
		case len(y) == 0 || len(x) > 0 && common[i+1][j] >= common[i][j+1]:
			put("-", x[0])
			x = x[1:]
		default:
			put("+", y[0])
			y = y[1:]
		}
	}
	return out
}

func lines(data []byte) []string {
	return slices.Collect(strings.Lines(string(data)))
}
