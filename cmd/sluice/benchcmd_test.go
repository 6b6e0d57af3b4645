//go:build unix

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/bench"
	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goenv"
)

// benchSettings are what bench sees of a user with that GOPROXY, whose toolchain has
// another default.
func benchSettings(t *testing.T, goproxy, file string) (*env, *config.Loaded, *goenv.Settings) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.env"), []byte("GOPROXY=https://proxy.example.com,direct\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	e := &env{environ: []string{"GOROOT=" + root, "GOENV=off", "GOPROXY=" + goproxy}, dir: t.TempDir()}
	settings := e.goSettings(t.Context())
	l, err := config.Load(config.Input{Environ: e.environ, Go: settings, CacheDir: t.TempDir(), Path: "sluice.toml", Data: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	return e, l, settings
}

func TestWhoIsMeasuredIsWhoIsKnownAndNobodyTwice(t *testing.T) {
	e, l, settings := benchSettings(t, "https://corp.example|https://goproxy.cn/,https://proxy.example.com,direct", "[[source]]\nname = \"corp\"\nurl = \"https://corp.example\"\n")
	names := func(list []known) (names []string) {
		for _, m := range list {
			names = append(names, m.name+"="+m.url+"("+m.from+")")
		}
		return names
	}
	list, err := e.mirrors(l, settings, "", nil)
	got := names(list)
	if err != nil || len(list) != 2+len(bench.Catalogue()) || !slices.Equal(got[:3], []string{"corp=https://corp.example(settings)", "goproxy.cn=https://goproxy.cn/(settings)", "default=https://proxy.example.com(settings)"}) {
		t.Errorf("%v, %v", got, err)
	}
	if !strings.Contains(list[1].note, "last known") {
		t.Errorf("%+v", list[1])
	}
	list, err = e.mirrors(l, settings, "", []string{"default", "corp", "aliyun", "plain.example", "https://corp.example/"})
	if want := []string{"default=https://proxy.example.com(named)", "corp=https://corp.example(named)", "aliyun=https://mirrors.aliyun.com/goproxy(named)", "plain.example=https://plain.example(named)"}; err != nil || !slices.Equal(names(list), want) {
		t.Errorf("%v, %v", names(list), err)
	}
}

func TestTheNamesOfModulesGoToPublicMirrorsOnlyIfTheyGoThereAnyway(t *testing.T) {
	for goproxy, want := range map[string]bool{
		"https://proxy.example.com,direct": true, "https://goproxy.cn": true, "https://goproxy.cn/|https://corp.example": true,
		"https://corp.example,https://proxy.example.com": false, "direct": false, "file:///x,https://goproxy.cn": false, "http://127.0.0.1:3000": false,
	} {
		e, l, settings := benchSettings(t, goproxy, "")
		if got := e.publicAnyway(l, settings); got != want {
			t.Errorf("%s: %v", goproxy, got)
		}
	}
}

func TestASampleOfGoModLeavesOutWhatIsPrivateReplacedOrNoVersion(t *testing.T) {
	e, l, settings := benchSettings(t, "https://goproxy.cn", "private = \"git.corp.example\"\n")
	err := os.WriteFile(filepath.Join(e.dir, "go.mod"), []byte("module m\n\nrequire (\n\tb.example/indirect v1.0.0 // indirect\n\tgit.corp.example/x v1.0.0\n\ta.example/x v1.0.0\n\tc.example/replaced v1.0.0\n)\n\nreplace c.example/replaced => ../c\n"), 0o666)
	if err != nil {
		t.Fatal(err)
	}
	list, about, err := e.candidates(l, settings, benchOrder{})
	var got []string
	for _, c := range list {
		got = append(got, c.Module.String())
	}
	if want := []string{"a.example/x@v1.0.0", "b.example/indirect@v1.0.0"}; err != nil || !slices.Equal(got, want) || !strings.HasSuffix(about, "go.mod") {
		t.Errorf("%v, %q, %v", got, about, err)
	}
}
