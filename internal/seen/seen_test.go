package seen_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/seen"
)

func TestASetKeepsWhatIsAskedForAndForgetsTheRest(t *testing.T) {
	s := seen.New[string](100, 0)
	if !s.Add("kept") || s.Add("kept") {
		t.Error("only the first Add of an element is the first")
	}
	for i := range 1000 {
		s.Add(fmt.Sprint(i))
		if !s.Has("kept") {
			t.Fatalf("it was forgotten after %d others, though it was asked for all the time", i+1)
		}
	}
	left := 0
	for i := range 1000 {
		if s.Has(fmt.Sprint(i)) {
			left++
		}
	}
	if left < 49 || left > 100 {
		t.Errorf("%d of 1000 are left in a set of 100", left)
	}
	s.Remove("kept")
	if s.Has("kept") {
		t.Error("it is there after Remove")
	}
	s.Add("again")
	s.Clear()
	if s.Has("again") || !s.Add("again") {
		t.Error("it is there after Clear")
	}
}

func TestASetForgetsWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := seen.New[int](1000, time.Minute)
		for i := range 40 { // one in 10 s, whatever the phase
			s.Add(i)
			for back := range i {
				if age := time.Duration(i-back) * 10 * time.Second; age > 2*time.Minute && s.Has(back) {
					t.Fatalf("what was added %v ago is there", age)
				}
			}
			time.Sleep(10 * time.Second)
		}
		s.Clear()
		for i := range 40 {
			s.Add(i)
			time.Sleep(10 * time.Second)
			if last := i - 5; last >= 0 && !s.Has(last) { // 60 s ago, less than nothing
				t.Fatalf("what was added a minute ago is forgotten")
			}
		}
		time.Sleep(time.Hour)
		for i := range 40 {
			if s.Has(i) {
				t.Fatalf("%d is there after an hour", i)
			}
		}
	})
}

func TestElementsAreToldApart(t *testing.T) {
	type key struct{ a, b string }
	s := seen.New[key](10, 0)
	s.Add(key{"ab", "c"})
	if s.Has(key{"a", "bc"}) {
		t.Error("another key of the same letters is there")
	}
}

// What it takes does not grow with the names: that is what it is for.
func TestAnElementTakesLittle(t *testing.T) {
	const limit = 1 << 16
	s := seen.New[string](limit, 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 3 * limit {
		s.Add(strings.Repeat("x", 200) + fmt.Sprint(i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := float64(after.HeapAlloc-before.HeapAlloc) / limit; each > 60 {
		t.Errorf("%.0f bytes for each of %d elements", each, limit)
	}
	s.Has("")
}
