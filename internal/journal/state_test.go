//go:build unix

package journal

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAStepThatEndedAnywhereIsSettled makes what a process leaves that is killed between
// any two writes, one after the other, and undoes over it.
func TestAStepThatEndedAnywhereIsSettled(t *testing.T) {
	const old, after = "old", "new"
	for _, state := range []State{Begun, Undoing} {
		for files := range 4 { // a bit for each file: it is new
			for temps := range 4 {
				dir := t.TempDir()
				j := In(filepath.Join(dir, "journal"))
				s := &Step{ID: 1, Command: "use", What: "what", State: state}
				for _, base := range []string{"a", "b"} {
					name := filepath.Join(dir, base)
					if err := os.WriteFile(name, []byte(old), 0o600); err != nil {
						t.Fatal(err)
					}
					f, err := Plan(name, 0o600, func([]byte, bool) ([]byte, error) { return []byte(after), nil })
					if err != nil {
						t.Fatal(err)
					}
					s.Files = append(s.Files, f)
				}
				for i, f := range s.Files {
					if files&(1<<i) != 0 {
						if err := os.WriteFile(f.Name, []byte(after), 0o600); err != nil {
							t.Fatal(err)
						}
					}
					if temps&(1<<i) != 0 {
						if err := os.WriteFile(s.temp(i), []byte(after[:1]), 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := os.Mkdir(j.dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := j.write(s); err != nil {
					t.Fatal(err)
				}
				_, err := j.Undo(t.Context(), "", false)
				if whole := state == Begun && files == 3; whole != (err == nil) {
					t.Errorf("%s, files %b: undo says %v", state, files, err)
				}
				for i, f := range s.Files {
					if data, err := os.ReadFile(f.Name); err != nil || string(data) != old {
						t.Errorf("%s, files %b: %s has %q, %v", state, files, filepath.Base(f.Name), data, err)
					}
					if _, err := os.Lstat(s.temp(i)); err == nil {
						t.Errorf("%s, temps %b: %s is left", state, temps, s.temp(i))
					}
				}
			}
		}
	}
}

func TestAStepThatFailsMidwayIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	j := In(filepath.Join(dir, "journal"))
	s := &Step{ID: 1, Command: "use", State: Begun}
	for _, base := range []string{"a", "new/b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Plan(filepath.Join(dir, base), 0o600, func([]byte, bool) ([]byte, error) { return []byte("new"), nil })
		if err != nil {
			t.Fatal(err)
		}
		s.Files = append(s.Files, f)
	}
	if err := os.WriteFile(filepath.Join(dir, "c"), []byte("mine"), 0o600); err != nil { // since it was planned
		t.Fatal(err)
	}
	if err := os.Mkdir(j.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.write(s); err != nil {
		t.Fatal(err)
	}
	if err := s.apply(); err == nil {
		t.Fatal("a file that somebody changed was overwritten")
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(data) != "new" {
		t.Fatalf("it did not fail midway: %q, %v", data, err)
	}
	if err := j.back(s); err != nil {
		t.Error(err)
	}
	for base, want := range map[string]string{"a": "old", "c": "mine"} {
		if data, err := os.ReadFile(filepath.Join(dir, base)); err != nil || string(data) != want {
			t.Errorf("%s has %q, %v", base, data, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left)+len(hidden) != 3 { // a, c and the journal
		t.Errorf("there is %q and %q", left, hidden)
	}
	if steps, _, _, err := j.read(); err != nil || len(steps) > 0 {
		t.Errorf("the step is still recorded: %v, %v", steps, err)
	}
}

func TestAStepThatDoesNotFitTogetherIsRefused(t *testing.T) {
	good := func() *Step {
		f := File{Name: "/x/env", Real: "/x/env", Existed: true, Mode: 0o600, Before: []byte("a"), After: []byte("b"), Dirs: []string{}}
		f.BeforeSum, f.AfterSum = sum(f.Before), sum(f.After)
		return &Step{ID: 1, Command: "use", State: Done, Files: []File{f}}
	}
	for what, spoil := range map[string]func(*Step){
		"":                       func(*Step) {},
		"step 2 by its text":     func(s *Step) { s.ID = 2 },
		"its state":              func(s *Step) { s.State = "half" },
		"has no files":           func(s *Step) { s.Files = nil },
		"no absolute name":       func(s *Step) { s.Files[0].Real = "/x/../etc/env" },
		"in it twice":            func(s *Step) { s.Files = append(s.Files, s.Files[0]) },
		"mode of its file":       func(s *Step) { s.Files[0].Mode = os.ModeSetuid | 0o700 },
		"SHA-256":                func(s *Step) { s.Files[0].Before[0] ^= 1 },
		"was not there, and had": func(s *Step) { s.Files[0].Existed = false },
		"not below":              func(s *Step) { s.Files[0].Dirs = []string{"/y"} },
	} {
		s := good()
		spoil(s)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parse(data, 1)
		if what == "" && err != nil || what != "" && (err == nil || !strings.Contains(err.Error(), what)) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":1,"command":"use","what":"","time":"2026-01-01T00:00:00Z","state":"done","files":[{"name":"/a","real":"/a","existed":false,"mode":384,"before":null,"before_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","after":"","after_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","dirs":[]}]}`))
	f.Add([]byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse(data, 1)
		if err != nil {
			return
		}
		for _, file := range s.Files {
			if !filepath.IsAbs(file.Real) || sum(file.Before) != file.BeforeSum {
				t.Fatalf("%+v", file)
			}
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(again, 1); err != nil {
			t.Errorf("%s\nis not read again: %v", again, err)
		}
	})
}

func FuzzDiff(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\nd")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		count := map[string]int{}
		for _, l := range lines([]byte(a)) {
			count[strings.TrimSuffix(l, "\n")]++
		}
		for _, l := range diff([]byte(a), []byte(b)) {
			switch l[:2] {
			case "- ":
				count[l[2:]]--
			case "+ ":
				count[l[2:]]++
			default:
				t.Fatalf("%q", l)
			}
		}
		for _, l := range lines([]byte(b)) {
			count[strings.TrimSuffix(l, "\n")]--
		}
		for l, n := range count {
			if n != 0 {
				t.Errorf("%q is %d times too often", l, n)
			}
		}
		if a == b && len(diff([]byte(a), []byte(b))) > 0 {
			t.Error("equal texts differ")
		}
	})
}

// Between the look at a file and its replacement the step is recorded, which takes a
// while; what somebody writes then must not be lost.
func TestWhatIsWrittenWhileAStepIsTakenBackStays(t *testing.T) {
	for _, existed := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "env")
		if existed {
			if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Plan(name, 0o600, func([]byte, bool) ([]byte, error) { return []byte("new"), nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		temp := (&Step{ID: 1, Files: []File{f}}).temp(0)
		if err := f.restore(temp, seen{true, []byte("new")}); err == nil {
			t.Error("somebody's bytes were overwritten")
		}
		if data, err := os.ReadFile(name); err != nil || string(data) != "mine" {
			t.Errorf("it has %q, %v", data, err)
		}
		if _, err := os.Lstat(temp); err == nil {
			t.Errorf("%s is left", temp)
		}
	}
}
