package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestALineOfAnEnvrcThatDoesMoreThanExportGOPROXYStays(t *testing.T) {
	const line = "export GOPROXY='new'"
	for text, want := range map[string]string{
		"":                                     line + "\n",
		"a\nexport GOPROXY=old\nb\n":           "a\n" + line + "\nb\n",
		"export  GOPROXY='old' # old\nb":       line + "\nb",
		"export GOPROXY=\"old\"":               line,
		"a\r\nexport GOPROXY=old\r\nb":         "a\r\n" + line + "\r\nb",
		"export GOPROXY=1\nexport GOPROXY=2\n": "export GOPROXY=1\n" + line + "\n",
		"a":                                    "a\n" + line + "\n",
		"a\x00b\n":                             "a\x00b\n" + line + "\n",
	} {
		if got := string(setEnvrc([]byte(text), line)); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{
		"export GOPROXY=old GONOSUMDB=corp.example\n",
		"export GOPROXY=old; export GOPRIVATE=corp.example\n",
		"export GOPROXY=$(cat list) \n",
		"export GOPROXY=\"old\" \\\n  GOFLAGS=-mod=mod\n",
		"export GOFLAGS=-mod=mod \\\nexport GOPROXY=old\n",
		"if [ \"$CI\" ]; then\n  export GOPROXY=old\nfi\n",
		"export GOPROXY=old\n[ -n \"$CI\" ] && export GOPROXY=ci\n",
		"# export GOPROXY=old\n",
	} {
		once := string(setEnvrc([]byte(text), line))
		if want := text + line + "\n"; once != want {
			t.Errorf("%q became %q, want %q", text, once, want)
		}
		if twice := string(setEnvrc([]byte(once), line)); twice != once {
			t.Errorf("%q, written once more, became %q", once, twice)
		}
	}
}

func TestTheEnvrcOfAProjectIsNotThatOfAHomeAboveIt(t *testing.T) {
	home := t.TempDir()
	at := func(name string) string { return filepath.Join(home, filepath.FromSlash(name)) }
	put := func(names ...string) {
		for _, name := range names {
			if err := os.MkdirAll(filepath.Dir(at(name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at(name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(".envrc", "p/go.mod", "p/sub/x", "repo/.git", "repo/.envrc", "repo/m/go.mod", "work/go.work", "work/m/go.mod")
	for dir, want := range map[string][2]string{
		"p":      {"p/.envrc", ".envrc"},
		"p/sub":  {"p/.envrc", ".envrc"},
		"repo/m": {"repo/.envrc", ""},
		"work/m": {"work/.envrc", ".envrc"},
	} {
		file, hides := (&env{dir: at(dir)}).envrc()
		if want[1] != "" {
			want[1] = at(want[1])
		}
		if file != at(want[0]) || hides != want[1] {
			t.Errorf("in %s: %s, and it hides %q", dir, file, hides)
		}
	}
}
