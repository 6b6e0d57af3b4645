package upstream

import (
	"strconv"
	"strings"
	"testing"
)

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-99/100", "bytes 5-9/*", "bytes 9-1/10", "bytes -1-2/3", "bytes 0-0/1", "bytes */10", "bytes 0-9223372036854775807/9223372036854775807", "bytes +1-2/3", "items 0-1/2", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, total, ok := contentRange(s)
		if !ok {
			return
		}
		if first < 0 || total != -1 && total <= first || !strings.HasPrefix(s, "bytes ") {
			t.Errorf("contentRange(%q) = %d, %d", s, first, total)
		}
		// What it takes, it takes again in the one spelling of the same.
		_, rest, _ := strings.Cut(s, "-")
		last, _, _ := strings.Cut(rest, "/")
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < first || total >= 0 && n >= total {
			t.Errorf("contentRange(%q) takes the last byte %q", s, last)
		}
	})
}

func FuzzHealthLoad(f *testing.F) {
	for _, s := range []string{
		"", "[]", "null", `[{"Source":"a","Down":true,"Since":"2026-01-01T00:00:00Z","Path":"m.test/x/@v/v1.0.0.info"}]`,
		`[{"Source":"a","Ask":"zip","Took":[0.1,-1,1e300]}]`, `[{"Source":"a","Ask":"?"}]`, `[{"Source":"","Down":true,"Path":"../x"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h := NewHealth(HealthConfig{})
		if h.Load(data) != nil {
			return
		}
		out, err := h.Save()
		if err != nil {
			t.Fatalf("what was loaded of %q cannot be saved: %v", data, err)
		}
		again := NewHealth(HealthConfig{})
		if err := again.Load(out); err != nil {
			t.Errorf("what was saved cannot be loaded: %v\n%s", err, out)
		}
		for name := range h.sources {
			if r := h.Report(name); r.Source != name {
				t.Errorf("%+v", r)
			}
		}
	})
}
