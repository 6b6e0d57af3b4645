package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/module"
)

// Whatever lies in the file of fences, what is understood of it is a fence or a
// pardon, and is understood again as it is written.
func FuzzFences(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-01T00:00:00Z","source":"https://a.example","module":"m.test/x","why":"wrong"}` + "\n" +
		`{"time":"2026-01-01T00:00:00Z","source":"https://a.example","pardon":true}` + "\n" + `{"time":"2026-01-`))
	f.Add([]byte("\n\n{}\nnull\n[]\n" + `{"time":"9999-12-31T23:59:59Z","source":"a","module":"../x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, _ := parseFences(data)
		for _, l := range list {
			if l.Source == "" || l.Time.IsZero() || module.CheckPath(l.Module) != nil && !(l.Pardon && l.Module == "") {
				t.Errorf("%q was understood as %+v", data, l)
			}
			line, err := json.Marshal(l)
			if err != nil {
				t.Fatalf("%+v cannot be written: %v", l, err)
			}
			if again, lost := parseFences(line); len(again) != 1 || lost != 0 || !again[0].Time.Equal(l.Time) || again[0].Module != l.Module || again[0].Pardon != l.Pardon {
				t.Errorf("%s is understood as %+v", line, again)
			}
		}
	})
}

func TestOfAHugeFileTheEndIsRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int64]string{3: "789", 10: "0123456789", 100: "0123456789"} {
		if got, err := readEnd(name, most); err != nil || string(got) != want {
			t.Errorf("of the last %d bytes %q were read, %v", most, got, err)
		}
	}
}
