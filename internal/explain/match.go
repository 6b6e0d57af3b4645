package explain

import (
	"slices"
	"strings"
)

// A matcher finds which of many phrases occur in a line in one pass over it
// (Aho and Corasick, 1975). Bytes that no phrase has share one class, so that the
// table stays small.
type matcher struct {
	class   [256]uint8
	classes int
	next    []int32 // by state and class
	found   [][]int // by state, the phrases that end there
}

func newMatcher(phrases []string) *matcher {
	m := &matcher{classes: 1}
	for _, p := range phrases {
		for i := range len(p) {
			if m.class[p[i]] == 0 {
				m.class[p[i]] = uint8(m.classes)
				m.classes++
			}
		}
	}
	m.grow()
	for n, p := range phrases {
		state := 0
		for i := range len(p) {
			to := &m.next[state*m.classes+int(m.class[p[i]])]
			if *to == 0 {
				*to = int32(len(m.found))
				state = int(*to)
				m.grow()
				continue
			}
			state = int(*to)
		}
		m.found[state] = append(m.found[state], n)
	}
	fail := make([]int32, len(m.found))
	var queue []int32
	for c := 1; c < m.classes; c++ {
		if s := m.next[c]; s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		m.found[s] = append(m.found[s], m.found[fail[s]]...)
		for c := 1; c < m.classes; c++ {
			back := m.next[int(fail[s])*m.classes+c]
			to := &m.next[int(s)*m.classes+c]
			if *to == 0 {
				*to = back
				continue
			}
			fail[*to] = back
			queue = append(queue, *to)
		}
	}
	return m
}

func (m *matcher) grow() {
	m.next = append(m.next, make([]int32, m.classes)...)
	m.found = append(m.found, nil)
}

// in lists the phrases that occur in s, some perhaps more than once; nil for most
// lines of most logs.
func (m *matcher) in(s string) []int {
	var hits []int
	room := 256
	state := int32(0)
	for i := range len(s) {
		state = m.next[int(state)*m.classes+int(m.class[s[i]])]
		if f := m.found[state]; f != nil {
			hits = append(hits, f...)
			if len(hits) >= room { // a long line has the same few many times
				slices.Sort(hits)
				hits = slices.Compact(hits)
				room = max(room, 2*len(hits))
			}
		}
	}
	return hits
}

// A glob is a phrase with gaps: "lookup * no such host". Its parts must occur in
// this order.
type glob []string

func newGlob(s string) glob { return strings.Split(s, "*") }

// longest is the part that is looked for first.
func (g glob) longest() string {
	best := ""
	for _, part := range g {
		if len(part) > len(best) {
			best = part
		}
	}
	return best
}

// size is how many bytes of a line the phrase fixes.
func (g glob) size() (n int) {
	for _, part := range g {
		n += len(part)
	}
	return n
}

// end is where the last match of g in s ends, or -1. A first part that begins with
// ^ stands at the start of s.
func (g glob) end(s string) int {
	at := 0
	for i, part := range g {
		if i == 0 && strings.HasPrefix(part, "^") {
			if !strings.HasPrefix(s, part[1:]) {
				return -1
			}
			at = len(part) - 1
			continue
		}
		var n int
		if i == len(g)-1 {
			n = strings.LastIndex(s[at:], part)
		} else {
			n = strings.Index(s[at:], part)
		}
		if n < 0 {
			return -1
		}
		at += n + len(part)
	}
	return at
}
