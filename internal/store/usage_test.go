package store

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
)

func FuzzSlot(f *testing.F) {
	f.Add(slot{known: true, gen: 3, counting: 4, bytes: 5, versions: 6, newBytes: 7, newVersions: 8, marks: 9, counted: 10, evicted: 12, held: 11, pending: "a.test/m/@v/v1.0.0"}.format())
	f.Add(slot{pending: strings.Repeat("x", maxPending)}.format())
	f.Add(make([]byte, slotSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, ok := parseSlot(data)
		if !ok {
			return
		}
		if again, ok := parseSlot(s.format()); !ok || again != s {
			t.Errorf("%+v is written so that it reads as %+v, %t", s, again, ok)
		}
	})
}

func TestASlotIsReadAsItWasWrittenAndNotIfTorn(t *testing.T) {
	s := slot{known: true, gen: 3, counting: 4, bytes: 5, versions: 6, newBytes: 7, newVersions: 8, marks: 9, counted: 10, evicted: 12, held: 11, pending: "a.test/m/@v/v1.0.0"}
	data := s.format()
	if got, ok := parseSlot(data); !ok || got != s {
		t.Errorf("parseSlot = %+v, %t; want %+v", got, ok, s)
	}
	for i := range data {
		torn := bytes.Clone(data)
		torn[i] ^= 1
		if _, ok := parseSlot(torn); ok {
			t.Errorf("a slot with another byte %d is taken for whole", i)
		}
	}
}

func FuzzUse(f *testing.F) {
	f.Add("1700000000 a.test/!mod/@v/v1.0.0")
	f.Add("-1 a.test/m/v2/@v/v2.0.0-!r!c.1")
	f.Add("1 a.test/m/@v/list")
	f.Add("1 a.test/m/@v/v1.0.0 2 a.test/m/@v/v1.1.0")
	f.Add("1 ../../etc/@v/v1.0.0")
	f.Fuzz(func(t *testing.T, line string) {
		u, m, ok := parseUse(line)
		if !ok {
			return
		}
		if !fs.ValidPath(u.version) || strings.Contains(u.version, "\n") || m.Path == "" || m.Version == "" {
			t.Errorf("%q is read as %+v of %v", line, u, m)
		}
		if again, _, ok := parseUse(strings.TrimSuffix(u.format(), "\n")); !ok || again != u {
			t.Errorf("%+v is written so that it reads as %+v, %t", u, again, ok)
		}
	})
}
