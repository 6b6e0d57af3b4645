// Package seen remembers that things were seen, many of them in little memory:
// what a process may forget, at the price of finding it out again.
//
// An element takes about 30 bytes however long its names are, since only a
// 128-bit fingerprint of it is kept, under keys that are this process's own.
package seen

import (
	"hash/maphash"
	"sync"
	"time"
)

// A Set is a set that forgets what nobody has asked for in a long time. It is
// safe for concurrent use. Make one with New.
type Set[K comparable] struct {
	half int
	age  time.Duration
	keys [2]maphash.Seed

	mu         sync.Mutex // guards the following
	young, old map[fingerprint]struct{}
	since      time.Time // when the young began to be collected
}

type fingerprint [2]uint64

// New makes a Set of at most limit elements, of which those are forgotten first
// that were added or asked for longest ago, half of them at a time. If age is
// not zero, an element that is neither added nor asked for in that time is
// forgotten within the next age.
func New[K comparable](limit int, age time.Duration) *Set[K] {
	return &Set[K]{half: max(limit/2, 1), age: age, keys: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (s *Set[K]) print(k K) fingerprint {
	return fingerprint{maphash.Comparable(s.keys[0], k), maphash.Comparable(s.keys[1], k)}
}

// Add adds k, and reports whether it was not there.
func (s *Set[K]) Add(k K) bool {
	f := s.print(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	if s.has(f) {
		return false
	}
	s.add(f)
	return true
}

// Has reports whether k is there.
func (s *Set[K]) Has(k K) bool {
	f := s.print(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	return s.has(f)
}

// Remove removes k.
func (s *Set[K]) Remove(k K) {
	f := s.print(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, f)
	delete(s.old, f)
}

// Clear removes all elements.
func (s *Set[K]) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.young, s.old = nil, nil
}

// has keeps f among the young if it is there.
func (s *Set[K]) has(f fingerprint) bool {
	if _, ok := s.young[f]; ok {
		return true
	}
	_, ok := s.old[f]
	if ok {
		delete(s.old, f)
		s.add(f)
	}
	return ok
}

func (s *Set[K]) add(f fingerprint) {
	if s.young == nil {
		s.young = map[fingerprint]struct{}{}
	}
	s.young[f] = struct{}{}
	if len(s.young) >= s.half {
		s.old, s.young, s.since = s.young, nil, time.Now()
	}
}

// turn makes the young old when their time has come.
func (s *Set[K]) turn() {
	if s.age == 0 {
		return
	}
	switch now := time.Now(); {
	case now.Sub(s.since) < s.age:
	case now.Sub(s.since) < 2*s.age:
		s.old, s.young, s.since = s.young, nil, s.since.Add(s.age)
	default:
		s.old, s.young, s.since = nil, nil, now
	}
}
