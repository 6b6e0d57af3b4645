package bench

import (
	"slices"
	"strings"
	"syscall"
)

// offline reports whether it is this machine that has no network, and no mirror is to
// blame: several were asked, and nothing leads to any of them.
func (r *Report) offline() bool {
	return len(r.Mirrors) > 1 && !slices.ContainsFunc(r.Mirrors, func(m Measured) bool {
		return m.Verdict != Dead || !strings.Contains(m.Text, syscall.ENETUNREACH.Error())
	})
}
