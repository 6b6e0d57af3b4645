//go:build unix

package main

import (
	"errors"
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
	e := &env{environ: []string{"GOROOT=" + root, "GOENV=off", "GOPROXY=" + goproxy}, dir: t.TempDir(), stderr: &strings.Builder{}}
	return benchSettingsOf(t, e, file)
}

// benchSettingsOf are the settings of e; mistakes are left to who asks for them.
func benchSettingsOf(t *testing.T, e *env, file string) (*env, *config.Loaded, *goenv.Settings) {
	t.Helper()
	settings := e.goSettings(t.Context())
	l, err := config.Load(config.Input{Environ: e.environ, Go: settings, CacheDir: t.TempDir(), Path: "sluice.toml", Data: []byte(file)})
	if _, ok := errors.AsType[config.Errors](err); err != nil && !ok {
		t.Fatal(err)
	}
	return e, l, settings
}

func TestAMirrorOfTheSettingsIsNotLeftOutWithoutAWord(t *testing.T) {
	for _, x := range []struct {
		goproxy    string
		toolchain  bool
		said, list string // the first mirrors
		about      string
	}{
		{"https://a.example,direct", true, "", "a.example default", "GOPROXY names no public mirror"},
		{"https//a.example,direct", true, `GOPROXY (environment) cannot be used: "https//a.example" names a host called "https"; a colon is missing after it; write 'https://a.example,direct'; its mirrors are left out`, "default goproxy.cn", "nobody knows whether"},
		{"https://bob:hun ter2@a.example:1", true, "GOPROXY (environment) cannot be used: ", "default goproxy.cn", "nobody knows whether"},
		{"https://a.example,direct", false, "there is no go command here, so the default of the toolchain is left out", "a.example goproxy.cn", "GOPROXY names no public mirror"},
		{"", false, "GOPROXY is not set, and there is no go command here that has a default for it; its mirrors are left out", "goproxy.cn goproxy.io", "nobody knows whether"},
	} {
		e, l, settings := benchSettings(t, x.goproxy, "")
		if !x.toolchain {
			e.environ[0] = "PATH=" + t.TempDir()
			e, l, settings = benchSettingsOf(t, e, "")
		}
		list, err := e.mirrors(l, settings, "", nil)
		if err != nil || len(list) < 2 {
			t.Fatal(list, err)
		}
		said := e.stderr.(*strings.Builder).String()
		if got := list[0].name + " " + list[1].name; got != x.list || !strings.Contains(said, x.said) || x.said == "" && said != "" || strings.Contains(said, "ter2") {
			t.Errorf("%s, with a go command %v: %s, and it says %q; want %s and %q", x.goproxy, x.toolchain, got, said, x.list, x.said)
		}
		if _, about, err := e.candidates(l, settings, benchOrder{}); err != nil || !strings.Contains(about, x.about) {
			t.Errorf("%s: %q, %v", x.goproxy, about, err)
		}
	}
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
