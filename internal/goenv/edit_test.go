package goenv_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

// envFiles are texts of go env -w files that people have.
var envFiles = []string{
	"",
	"GOPROXY=https://old.example.com\n",
	"GOPROXY=https://old.example.com",
	"# ours\n\nGOSUMDB=off\nGOPROXY=a\n# more\nGOPRIVATE=x\nGOFLAGS=-mod=mod\n\n",
	"GOPROXY=a\nGOFLAGS=-v\nGOPROXY=b\n",
	"export GOPROXY=a\nnonsense\n  # indented = comment\nGOPROXY=b\r\n",
	"Z=1\nGOPROXYX=2\nGOPROXY=3\nA=4",
	"#GOPROXY=off\n#\n",
	"GOPROXY =spaced\nGOPROXY=a\n=b\n",
}

func TestAnEditLeavesWhatTheGoCommandLeaves(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "env")
	for _, text := range envFiles {
		for _, args := range [][]string{{"-w", "GOPROXY=https://new.example.com,direct"}, {"-w", "GOPRIVATE=git.corp.example", "GOPROXY=off"}, {"-u", "GOPROXY"}, {"-u", "GOFLAGS", "GOPROXY"}, {"-w", "GOFLAGS="}} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			set := map[string]string{}
			var unset []string
			for _, a := range args[1:] {
				if name, value, ok := strings.Cut(a, "="); ok {
					set[name] = value
				} else {
					unset = append(unset, a)
				}
			}
			// Last, as the first of them would count in the go command's own environment.
			env := slices.DeleteFunc(modtest.GoEnv(t, "", ""), func(kv string) bool {
				name, _, _ := strings.Cut(kv, "=")
				return slices.Contains([]string{"GOENV", "GOPROXY", "GOPRIVATE", "GOFLAGS"}, name)
			})
			if _, stderr, exit := modtest.Go(t, append(env, "GOENV="+file), dir, append([]string{"env"}, args...)...); exit != 0 {
				t.Logf("go env %q of %q: %s", args, text, stderr)
				continue // it refuses a file that it cannot read a flag from
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := goenv.EditFile([]byte(text), set, unset)
			if err != nil || string(got) != string(want) {
				t.Errorf("go env %q of %q gives %q, and EditFile %q, %v", args, text, want, got, err)
			}
		}
	}
}

func TestAnEditRefusesWhatTheGoCommandWouldNotWrite(t *testing.T) {
	for name, value := range map[string]string{"GOENV": "/x", "GOPROYX": "a", "GOPROXY": "a\nGOSUMDB=off", "GOPRIVATE": "a\xff", "GOFLAGS": "a\x00"} {
		if got, err := goenv.EditFile(nil, map[string]string{name: value}, nil); err == nil {
			t.Errorf("%s=%q gives %q", name, value, got)
		}
	}
}

func TestMendingWritesWhatWasMeantAndLeavesTheRest(t *testing.T) {
	for in, want := range map[string]string{
		"# c\n\nGOPROXY=a\nnoise\n":                      "# c\n\nGOPROXY=a\n",
		"export GOPROXY=https://a.example\n":             "GOPROXY=https://a.example\n",
		"goproxy=https://a.example":                      "GOPROXY=https://a.example",
		"export GOPROXY=lost\nGOPROXY=b\n":               "GOPROXY=b\n",
		"export HTTPS_PROXY=x\nGOPROXY=b\n":              "GOPROXY=b\n",
		"GOPROXY=a\nGOFLAGS=-v\nGOPROXY=b\n":             "GOFLAGS=-v\nGOPROXY=b\n",
		"GOPROXY=\"https://a.example\"\r\nGOSUMDB=off\n": "GOPROXY=https://a.example\nGOSUMDB=off\n",
		"GOPRIVATE = git.corp.example # ours\n":          "GOPRIVATE=git.corp.example\n",
		"GOENV=/x\n":                                     "",
		"\ufeffGOPROXY=off\n":                            "GOPROXY=off\n",
		"GOPROXY=a\xff\n":                                "GOPROXY=a\xff\n",
		"MY VAR=1\nX =2\n":                               "MY VAR=1\nX =2\n",
		"  # comment\n \t\nA=1":                          "  # comment\n \t\nA=1",
	} {
		if got := goenv.MendFile([]byte(in)); string(got) != want {
			t.Errorf("MendFile(%q) = %q, want %q", in, got, want)
		}
	}
}

func read(text []byte) *goenv.Settings {
	return goenv.Load([]string{"GOENV=file"}, func(string) ([]byte, error) { return text, nil }, "", "")
}

func FuzzEditFile(f *testing.F) {
	for _, text := range envFiles {
		f.Add(text, "https://new.example.com")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		got, err := goenv.EditFile([]byte(text), map[string]string{"GOPROXY": value}, nil)
		if err != nil {
			return
		}
		before, after := read([]byte(text)), read(got)
		if v := after.Get("GOPROXY").Value; v != value {
			t.Errorf("%q has GOPROXY %q, want %q", got, v, value)
		}
		for _, name := range goenv.Names() {
			if name != "GOPROXY" && before.Get(name).Value != after.Get(name).Value {
				t.Errorf("%s was %q and is %q in %q", name, before.Get(name).Value, after.Get(name).Value, got)
			}
		}
		// Comments and what is no variable stay, in their order.
		odd := func(text string) (lines []string) {
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				if name, _, ok := strings.Cut(line, "="); !ok || strings.Contains(name, "#") || name == "" {
					lines = append(lines, line)
				}
			}
			return lines
		}
		if was, is := odd(text), odd(string(got)); !slices.Equal(was, is) {
			t.Errorf("%q became %q", was, is)
		}
		// Where a line went because of a later one for the same variable, the go command sorts
		// what was before it and what was after it apart, and the next time both together.
		once, err := goenv.EditFile(got, map[string]string{"GOPROXY": value}, nil)
		if twice, _ := goenv.EditFile(once, map[string]string{"GOPROXY": value}, nil); err != nil || string(twice) != string(once) {
			t.Errorf("%q becomes %q, and then %q, %v", got, once, twice, err)
		}
	})
}

func FuzzMendFile(f *testing.F) {
	for _, text := range envFiles {
		f.Add(text)
	}
	f.Add("GOPROXY=\" a \" # x\r\n\xef\xbb\xbfGOSUMDB='off'")
	f.Fuzz(func(t *testing.T, text string) {
		got := goenv.MendFile([]byte(text))
		if again := goenv.MendFile(got); string(again) != string(got) {
			t.Errorf("%q becomes %q, and then %q", text, got, again)
		}
		before, after := read([]byte(text)), read(got)
		about := map[string]bool{}
		for _, p := range before.Problems {
			about[p.Name] = true
		}
		for _, name := range goenv.Names() {
			was, is := before.Get(name), after.Get(name)
			// GONOPROXY follows GOPRIVATE, which may have been mended.
			mended := about[strings.TrimPrefix(was.Where, "follows ")] || about[strings.TrimPrefix(is.Where, "follows ")]
			if !about[name] && !mended && was.Value != is.Value {
				t.Errorf("%q: %s was %q and is %q", text, name, was.Value, is.Value)
			}
		}
		if after.Mendable {
			t.Errorf("%q is still to be mended", got)
		}
	})
}
