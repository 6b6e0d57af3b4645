package origin

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

const lib = modtest.GitHost + "/team/lib"

// patience is how long a test waits for what comes soon, and takes a machine that is
// busy with something else for a command that hangs; it is shorter than sleep 60.
const patience = 45 * time.Second

// soon reports whether ok becomes true within patience, and waits until it does.
func soon(ok func() bool) bool {
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// start makes an Origin that reaches g. change may alter its Config.
func start(t *testing.T, g *modtest.Git, change func(*Config)) *Origin {
	t.Helper()
	modtest.GitNeed(t, "go", "git")
	cfg := Config{Dir: filepath.Join(t.TempDir(), "origin"), Environ: g.Environ(), VCS: "*:git", Timeout: time.Minute}
	if change != nil {
		change(&cfg)
	}
	o, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return o
}

func req(k goproxy.Kind, path, version string) goproxy.Request {
	return goproxy.Request{Kind: k, Module: module.Version{Path: path, Version: version}}
}

func fetch(ctx context.Context, o *Origin, r goproxy.Request) ([]byte, error) {
	a, err := o.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	if err == nil && int64(len(data)) != a.Size {
		err = fmt.Errorf("Size is %d, the body has %d bytes", a.Size, len(data))
	}
	return data, err
}

func get(t *testing.T, o *Origin, k goproxy.Kind, path, version string) []byte {
	t.Helper()
	data, err := fetch(t.Context(), o, req(k, path, version))
	if err != nil {
		t.Fatalf("%s: %v", req(k, path, version), err)
	}
	return data
}

// getErr demands an *Error, of which it checks what all must have in common.
func getErr(t *testing.T, o *Origin, k goproxy.Kind, path, version string) *Error {
	t.Helper()
	data, err := fetch(t.Context(), o, req(k, path, version))
	if err == nil {
		t.Fatalf("%s: no error, but %q", req(k, path, version), data)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%s: the error is a %T: %v", req(k, path, version), err, err)
	}
	if strings.Contains(e.Error(), o.cfg.Dir) {
		t.Errorf("the error names a directory of ours: %v", e)
	}
	if errors.Is(err, fs.ErrNotExist) != (e.Cause == Missing) {
		t.Errorf("cause %s, but errors.Is(err, fs.ErrNotExist) is %t: %v", e.Cause, errors.Is(err, fs.ErrNotExist), err)
	}
	return e
}

// infoOf is what an .info or @latest answer says.
func infoOf(t *testing.T, data []byte) (v struct {
	Version string
	Time    time.Time
	Origin  struct{ VCS, URL, Ref, Hash, Subdir string }
}) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return v
}

// wantTree fails the test unless data is the zip of mod with exactly these files.
func wantTree(t *testing.T, data []byte, mod module.Version, files map[string]string) {
	t.Helper()
	var names []string
	for name := range files {
		names = append(names, mod.String()+"/"+name)
	}
	want, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(files[strings.TrimPrefix(name, mod.String()+"/")])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if have := h1(t, data); have != want {
		zr, _ := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		var have []string
		for _, f := range zr.File {
			have = append(have, f.Name)
		}
		t.Errorf("the zip of %s has another hash than its tree; it has the files\n%q, want\n%q", mod, have, names)
	}
}

func h1(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(name, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func gomod(path string, lines ...string) string {
	return "module " + path + "\n\ngo 1.20\n" + strings.Join(lines, "\n")
}

// asked counts the requests to g that contain s.
func asked(g *modtest.Git, s string) int {
	n := 0
	for _, r := range g.Requests() {
		if strings.Contains(r, s) {
			n++
		}
	}
	return n
}

func TestATaggedVersionHasInfoModAndZip(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	files := map[string]string{"go.mod": gomod(lib), "lib.go": "package lib\n", "internal/x/x.go": "package x\n"}
	hash := r.Commit("main", files)
	r.Tag("v1.0.0", "main")
	r.Annotate("v1.1.0-rc.1", "main")
	r.Tag("not-a-version", "main")
	o := start(t, g, nil)

	if list := string(get(t, o, goproxy.List, lib, "")); list != "v1.0.0\nv1.1.0-rc.1\n" {
		t.Errorf("list is %q", list)
	}
	info := infoOf(t, get(t, o, goproxy.Info, lib, "v1.0.0"))
	if info.Version != "v1.0.0" || !info.Time.Equal(time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)) ||
		info.Origin.VCS != "git" || info.Origin.URL != r.URL || info.Origin.Ref != "refs/tags/v1.0.0" || info.Origin.Hash != hash {
		t.Errorf("info is %+v", info)
	}
	if mod := string(get(t, o, goproxy.Mod, lib, "v1.0.0")); mod != files["go.mod"] {
		t.Errorf("mod is %q", mod)
	}
	wantTree(t, get(t, o, goproxy.Zip, lib, "v1.0.0"), module.Version{Path: lib, Version: "v1.0.0"}, files)
	wantTree(t, get(t, o, goproxy.Zip, lib, "v1.1.0-rc.1"), module.Version{Path: lib, Version: "v1.1.0-rc.1"}, files)
	if v := infoOf(t, get(t, o, goproxy.Latest, lib, "")).Version; v != "v1.0.0" {
		t.Errorf("latest is %s", v)
	}
}

func TestBranchesAndCommitsResolveToVersions(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	first := r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", first)
	second := r.Commit("main", map[string]string{"go.mod": gomod(lib), "two.go": "package lib\n"})
	branch := r.Commit("fix/Bug-7", map[string]string{"go.mod": gomod(lib), "fix.go": "package lib\n"})
	o := start(t, g, nil)
	pseudo := "v1.0.1-0.20240102040405-" + second[:12]
	for query, want := range map[string]string{
		"main":      pseudo,
		second:      pseudo,
		second[:12]: pseudo,
		first:       "v1.0.0",
		"fix/Bug-7": "v1.0.1-0.20240102050405-" + branch[:12],
		"v1":        "v1.0.0",
		"latest":    "v1.0.0",
	} {
		if v := infoOf(t, get(t, o, goproxy.Info, lib, query)).Version; v != want {
			t.Errorf("%s resolves to %s, want %s", query, v, want)
		}
	}
	files := map[string]string{"go.mod": gomod(lib), "two.go": "package lib\n"}
	wantTree(t, get(t, o, goproxy.Zip, lib, pseudo), module.Version{Path: lib, Version: pseudo}, files)
	if v := infoOf(t, get(t, o, goproxy.Info, lib, pseudo)).Version; v != pseudo {
		t.Errorf("the .info of a pseudo-version names %s", v)
	}
	for _, wrong := range []string{
		"v1.0.1-0.20240102040406-" + second[:12],   // another time
		"v1.9.1-0.20240102040405-" + second[:12],   // after a tag that is not there
		"v1.0.1-0.20240102040405-0123456789ab",     // no such commit
		"v1.0.1-0.20240102040405-" + branch[:12],   // another commit's time
		"v0.0.0-20240102030405-" + first[:11],      // too short for a hash
		"no-such-branch", "fix", second[:11] + "x", // no such revisions
		strings.Repeat("0123456789", 4),
	} {
		if e := getErr(t, o, goproxy.Info, lib, wrong); e.Cause != Missing {
			t.Errorf("%s: %s: %v", wrong, e.Cause, e)
		}
	}
}

func TestMajorVersionsAndNestedModulesAreFoundWhereTheyAre(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	// No go.mod at all until v3: v2 is +incompatible.
	old := map[string]string{"lib.go": "package lib\n", "LICENSE": "do what you like\n"}
	r.Commit("main", old)
	r.Tag("v2.0.0", "main")
	// v3 is on a branch, v4 in a subdirectory, and there is a nested module.
	v3 := map[string]string{"go.mod": gomod(lib + "/v3"), "lib.go": "package lib\n"}
	r.Commit("v3", v3)
	r.Tag("v3.0.0", "v3")
	r.Commit("v4", map[string]string{
		"LICENSE": "do what you like\n", "go.mod": gomod(lib), "lib.go": "package lib\n",
		"v4/go.mod": gomod(lib + "/v4"), "v4/lib.go": "package lib\n",
		"sub/go.mod": gomod(lib + "/sub"), "sub/sub.go": "package sub\n", "sub/v2/go.mod": gomod(lib + "/sub/v2"),
	})
	r.Tag("v4.0.0", "v4")
	r.Tag("sub/v1.5.0", "v4")
	r.Tag("sub/v2.0.1", "v4")
	o := start(t, g, nil)
	for _, test := range []struct {
		path, version, subdir string
		files                 map[string]string
	}{
		{lib, "v2.0.0+incompatible", "", old},
		{lib + "/v3", "v3.0.0", "", v3},
		{lib + "/v4", "v4.0.0", "", map[string]string{"go.mod": gomod(lib + "/v4"), "lib.go": "package lib\n", "LICENSE": "do what you like\n"}},
		{lib + "/sub", "v1.5.0", "sub", map[string]string{"go.mod": gomod(lib + "/sub"), "sub.go": "package sub\n", "LICENSE": "do what you like\n"}},
		{lib + "/sub/v2", "v2.0.1", "sub", map[string]string{"go.mod": gomod(lib + "/sub/v2"), "LICENSE": "do what you like\n"}},
	} {
		m := module.Version{Path: test.path, Version: test.version}
		if list := string(get(t, o, goproxy.List, test.path, "")); list != test.version+"\n" {
			t.Errorf("%s: list is %q", m, list)
		}
		wantTree(t, get(t, o, goproxy.Zip, test.path, test.version), m, test.files)
		mod := test.files["go.mod"]
		if mod == "" {
			mod = "module " + test.path + "\n"
		}
		if have := string(get(t, o, goproxy.Mod, test.path, test.version)); have != mod {
			t.Errorf("%s: mod is %q, want %q", m, have, mod)
		}
		if info := infoOf(t, get(t, o, goproxy.Info, test.path, test.version)); info.Version != test.version || info.Origin.Subdir != test.subdir {
			t.Errorf("%s: info is %+v", m, info)
		}
	}
	if v := infoOf(t, get(t, o, goproxy.Info, lib, "v2.0.0")).Version; v != "v2.0.0+incompatible" {
		t.Errorf("v2.0.0 of a path without major version resolves to %s", v)
	}
	for _, r := range []goproxy.Request{
		req(goproxy.Zip, lib, "v2.0.0"),                  // not canonical for this path
		req(goproxy.Info, lib, "v3.0.0+incompatible"),    // has a go.mod
		req(goproxy.Info, lib+"/v3", "v3.0.1"),           // no such tag
		req(goproxy.Latest, lib+"/v9", ""),               // no such major version
		req(goproxy.Latest, lib+"/nosub", ""),            // no such directory
		req(goproxy.Info, lib+"/nosub", "v1.0.0"),        // nor tag in it
		req(goproxy.Zip, lib+"/sub", "v1.6.0"),           // no such tag
		req(goproxy.Info, lib+"/nosub", "main"),          // no go.mod there
		req(goproxy.Latest, modtest.GitHost+"/team", ""), // not a repository
	} {
		if e := getErr(t, o, r.Kind, r.Module.Path, r.Module.Version); e.Cause != Missing {
			t.Errorf("%s: %s: %v", r, e.Cause, e)
		}
	}
	for _, path := range []string{lib + "/v9", lib + "/nosub"} {
		if list := get(t, o, goproxy.List, path, ""); len(list) != 0 {
			t.Errorf("%s: list is %q", path, list)
		}
	}
}

func TestAModuleWithoutTagsHasAnEmptyListAndALatest(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	hash := r.Commit("main", map[string]string{"lib.go": "package lib\n"})
	o := start(t, g, nil)
	if list := get(t, o, goproxy.List, lib, ""); len(list) != 0 {
		t.Errorf("list is %q", list)
	}
	want := "v0.0.0-20240102030405-" + hash[:12]
	info := infoOf(t, get(t, o, goproxy.Latest, lib, ""))
	if info.Version != want || info.Origin.Hash != hash {
		t.Errorf("latest is %+v, want %s", info, want)
	}
	// The list stays empty after a pseudo-version has been fetched.
	wantTree(t, get(t, o, goproxy.Zip, lib, want), module.Version{Path: lib, Version: want}, map[string]string{"lib.go": "package lib\n"})
	if list := get(t, o, goproxy.List, lib, ""); len(list) != 0 {
		t.Errorf("list is now %q", list)
	}
}

func TestRetractedVersionsAreListedButNotLatest(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	r.Commit("main", map[string]string{"go.mod": gomod(lib, "retract v1.1.0 // wrong", "")})
	r.Tag("v1.1.0", "main")
	o := start(t, g, nil)
	if list := string(get(t, o, goproxy.List, lib, "")); list != "v1.0.0\nv1.1.0\n" {
		t.Errorf("list is %q", list)
	}
	if v := infoOf(t, get(t, o, goproxy.Latest, lib, "")).Version; v != "v1.0.0" {
		t.Errorf("latest is %s", v)
	}
	get(t, o, goproxy.Zip, lib, "v1.1.0") // who asks for it by name gets it
}

// FIELD 25: the module demands a Go that does not exist yet, GOTOOLCHAIN is
// local, and the go command refuses to make the zip.
func TestAModuleThatNeedsANewerGoIsFetched(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	tree := func(gov string) map[string]string {
		return map[string]string{
			"LICENSE": "do what you like\n", ".gitattributes": "version.txt export-subst\nsecret.txt export-ignore\n", "version.txt": "$Format:%H$\n", "secret.txt": "not so secret\n",
			"go.mod": "module " + lib + "\n\ngo " + gov + "\n", "lib.go": "package lib\n", "vendor/x/x.go": "package x\n", "link": "lib.go",
			"v2/go.mod": "module " + lib + "/v2\n\ngo " + gov + "\n", "v2/lib.go": "package lib\n",
			"sub/go.mod": "module " + lib + "/sub\n\ngo " + gov + "\n", "sub/LICENSE": "do not\n", "sub/vendor/modules.txt": "# x\n",
		}
	}
	link := map[string]string{"link": "120000"}
	for i, gov := range []string{"1.25", "1.999"} {
		r.CommitModes("main", tree(gov), link)
		for _, tag := range []string{"v1.%d.0", "v2.%d.0", "sub/v1.%d.0"} {
			r.Tag(fmt.Sprintf(tag, i), "main")
		}
	}
	o := start(t, g, nil)
	for _, path := range []string{lib, lib + "/v2", lib + "/sub"} {
		_, major, _ := module.SplitPathVersion(path)
		v := map[string]string{"": "v1", "/v2": "v2"}[major]
		mod := module.Version{Path: path, Version: v + ".1.0"}
		if v := infoOf(t, get(t, o, goproxy.Info, path, mod.Version)).Version; v != mod.Version {
			t.Errorf("%s: info names %s", mod, v)
		}
		wantMod := "module " + path + "\n\ngo 1.999\n"
		if have := string(get(t, o, goproxy.Mod, path, mod.Version)); have != wantMod {
			t.Errorf("%s: mod is %q", mod, have)
		}
		ours := get(t, o, goproxy.Zip, path, mod.Version)
		// But for the go line, it must be what the go command makes of the same tree.
		theirs := get(t, o, goproxy.Zip, path, v+".0.0")
		want := make(map[string]string)
		zr, err := zip.NewReader(bytes.NewReader(theirs), int64(len(theirs)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range zr.File {
			rc, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(rc)
			if err != nil {
				t.Fatal(err)
			}
			want[strings.TrimPrefix(f.Name, path+"@"+v+".0.0/")] = strings.ReplaceAll(string(data), "go 1.25\n", "go 1.999\n")
		}
		if len(want) < 2 {
			t.Fatalf("the go command's own zip has only %q", want)
		}
		wantTree(t, ours, mod, want)
		if v := infoOf(t, get(t, o, goproxy.Latest, path, "")).Version; v != mod.Version {
			t.Errorf("%s: latest is %s", path, v)
		}
	}
}

func TestWhatIsNotThereIsMissing(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	noPage := g.Repo(modtest.GitHost + "/team/nopage")
	noPage.BreakPage(modtest.GitHalf)
	elsewhere := g.Repo(modtest.GitHost + "/team/elsewhere")
	elsewhere.Page(modtest.GitHost + "/other git " + elsewhere.URL)
	gone := g.Repo(modtest.GitHost + "/team/gone")
	gone.Page(gone.Root + " git https://" + modtest.GitHost + "/team/deleted.git")
	o := start(t, g, nil)
	for _, path := range []string{noPage.Root, elsewhere.Root, gone.Root, modtest.GitHost + "/team/never"} {
		for _, r := range []goproxy.Request{req(goproxy.List, path, ""), req(goproxy.Latest, path, ""), req(goproxy.Info, path, "v1.0.0"), req(goproxy.Zip, path, "v1.0.0")} {
			if e := getErr(t, o, r.Kind, path, r.Module.Version); e.Cause != Missing {
				t.Errorf("%s: %s: %v", r, e.Cause, e)
			}
		}
	}
	for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
		if e := getErr(t, o, k, lib, "v1.0.0"); e.Cause != Missing || !strings.Contains(e.Text, "unknown revision v1.0.0") {
			t.Errorf("%s: %s: %v", k, e.Cause, e)
		}
	}
}

// What fails without saying that the module is not there must never look as if it did.
func TestTroubleIsNotMissing(t *testing.T) {
	g := modtest.GitServer(t)
	repo := func(name string) *modtest.GitRepo {
		r := g.Repo(modtest.GitHost + "/team/" + name)
		r.Commit("main", map[string]string{"go.mod": gomod(r.Root), "noise": modtest.GitNoise(20_000)})
		r.Tag("v1.0.0", "main")
		return r
	}
	repo("down").Break(modtest.GitUnavailable)
	repo("forbidden").Break(modtest.GitForbidden)
	repo("half").Break(modtest.GitHalf)
	repo("pagedown").BreakPage(modtest.GitUnavailable)
	repo("pageforbidden").BreakPage(modtest.GitForbidden)
	plain := repo("plain")
	plain.Page(plain.Root + " git http://" + modtest.GitHost + "/team/plain.git")
	svn := repo("svn")
	svn.Page(svn.Root + " svn https://" + modtest.GitHost + "/team/svn")
	file := repo("file")
	file.Page(file.Root + " git file:///etc")
	ext := repo("ext")
	ext.Page(ext.Root + " git ext::sh")
	o := start(t, g, nil)
	for _, test := range []struct {
		path  string
		cause Cause
		text  string
	}{
		{modtest.GitHost + "/team/down", Trouble, "503"},
		{modtest.GitHost + "/team/forbidden", Auth, "403"},
		{modtest.GitHost + "/team/half", Trouble, ""},
		{modtest.GitHost + "/team/pagedown", Trouble, "503"},
		{modtest.GitHost + "/team/pageforbidden", Auth, "403"},
		{modtest.GitHost + "/team/plain", Refused, "transport 'http' not allowed"},
		{modtest.GitHost + "/team/svn", Refused, "GOVCS disallows using svn"},
		{modtest.GitHost + "/team/file", Refused, "file scheme disallowed"},
		{modtest.GitHost + "/team/ext", Trouble, ""},
		{"no-such-host.example/lib", Trouble, "Bad Gateway"},
	} {
		for _, r := range []goproxy.Request{req(goproxy.List, test.path, ""), req(goproxy.Latest, test.path, ""), req(goproxy.Info, test.path, "v1.0.0"), req(goproxy.Zip, test.path, "v1.0.0")} {
			if strings.HasSuffix(test.path, "/half") && r.Kind == goproxy.List {
				continue // the list of refs arrives
			}
			if e := getErr(t, o, r.Kind, test.path, r.Module.Version); e.Cause != test.cause || !strings.Contains(e.Text, test.text) {
				t.Errorf("%s: %s: %v; want %s and %q", r, e.Cause, e, test.cause, test.text)
			}
		}
	}
}

func TestGOINSECUREOpensPlainHTTPForItsModulesOnly(t *testing.T) {
	g := modtest.GitServer(t)
	for _, name := range []string{"a", "b"} {
		r := g.Repo(modtest.GitHost + "/" + name)
		r.Commit("main", map[string]string{"go.mod": gomod(r.Root)})
		r.Tag("v1.0.0", "main")
		r.Page(r.Root + " git http://" + modtest.GitHost + "/" + name + ".git")
	}
	o := start(t, g, func(c *Config) { c.Insecure = modtest.GitHost + "/a" })
	get(t, o, goproxy.Zip, modtest.GitHost+"/a", "v1.0.0")
	if e := getErr(t, o, goproxy.Zip, modtest.GitHost+"/b", "v1.0.0"); e.Cause != Refused {
		t.Errorf("%s: %v", e.Cause, e)
	}
}

func TestCredentialsComeFromNetrcAndNobodyIsAsked(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	g.RequireAuth("joe", "s3cret")

	for name, netrc := range map[string]string{"none": "", "wrong": "wr0ng"} {
		o := start(t, g, func(c *Config) { c.Netrc = writeNetrc(t, netrc) })
		for _, rq := range []goproxy.Request{req(goproxy.List, lib, ""), req(goproxy.Latest, lib, ""), req(goproxy.Zip, lib, "v1.0.0")} {
			began := time.Now()
			e := getErr(t, o, rq.Kind, lib, rq.Module.Version)
			if e.Cause != Auth || e.Hint == "" {
				t.Errorf("%s password: %s: %s: %v", name, rq, e.Cause, e)
			}
			if strings.Contains(e.Error(), "wr0ng") {
				t.Errorf("the password is in the error: %v", e)
			}
			if d := time.Since(began); d > patience {
				t.Errorf("it took %v; was somebody asked?", d)
			}
		}
	}
	// The page may be public, and the repository alone want a password.
	o := start(t, g, func(c *Config) { c.Netrc = writeNetrc(t, "s3cret") })
	get(t, o, goproxy.Zip, lib, "v1.0.0")
	left, _ := exec.Command("grep", "-r", "s3cret", o.cfg.Dir).CombinedOutput()
	if len(left) > 0 {
		t.Errorf("the password has been copied: %s", left)
	}
}

func writeNetrc(t *testing.T, password string) string {
	if password == "" {
		return ""
	}
	name := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(name, []byte("machine "+modtest.GitHost+" login joe password "+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSecretsOfAURLAreNeverShown(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	r.Page(lib + " git https://joe:s3cret@" + modtest.GitHost + "/team/lib.git")
	o := start(t, g, nil)
	for _, rq := range []goproxy.Request{req(goproxy.Info, lib, "v1.0.0"), req(goproxy.Latest, lib, ""), req(goproxy.Info, lib, "main")} {
		data := get(t, o, rq.Kind, lib, rq.Module.Version)
		if info := infoOf(t, data); info.Version != "v1.0.0" || info.Origin.URL != r.URL || info.Origin.Hash == "" || strings.Contains(string(data), "s3cret") {
			t.Errorf("%s: %s", rq, data)
		}
	}
	r.Break(modtest.GitUnavailable)
	for _, rq := range []goproxy.Request{req(goproxy.List, lib, ""), req(goproxy.Latest, lib, ""), req(goproxy.Info, lib, "v1.1.0")} {
		if e := getErr(t, o, rq.Kind, lib, rq.Module.Version); strings.Contains(e.Error(), "s3cret") || !strings.Contains(e.Text, "503") {
			t.Errorf("%s: %v", rq, e)
		}
	}
}

func TestRequestsThatLookLikeOptionsNeverReachACommand(t *testing.T) {
	g := modtest.GitServer(t)
	o := start(t, g, func(c *Config) { c.Go = filepath.Join(t.TempDir(), "no-go") })
	for _, r := range []goproxy.Request{
		req(goproxy.List, "-modfile=x", ""),
		req(goproxy.List, "-x.example/a", ""),
		req(goproxy.List, "example.com/a...b", ""),
		req(goproxy.List, "example.com/a b", ""),
		req(goproxy.List, "./a.b", ""),
		req(goproxy.List, "all", ""),
		req(goproxy.List, "example.com/a", "v1.0.0"),
		req(goproxy.Info, "example.com/a", ""),
		req(goproxy.Info, "example.com/a", "-v1"),
		req(goproxy.Info, "example.com/a", "a/--upload-pack=x"),
		req(goproxy.Info, "example.com/a", ">v1.0.0"),
		req(goproxy.Info, "example.com/a", "../x"),
		req(goproxy.Info, "example.com/a", "a\nb"),
		req(goproxy.Mod, "example.com/a", "main"),
		req(goproxy.Zip, "example.com/a", "v2.0.0"),
		{},
	} {
		if e := getErr(t, o, r.Kind, r.Module.Path, r.Module.Version); e.Cause != Missing {
			t.Errorf("%s: %s: %v", r, e.Cause, e)
		}
	}
	if e := getErr(t, o, goproxy.List, "example.com/a", ""); e.Cause != Tool {
		t.Errorf("a good request did not get as far as the go command: %v", e)
	}
}

func TestAMissingCommandIsNamedWithItsMend(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	goCmd, err := exec.LookPath("go")
	if err != nil {
		t.Skip("this test needs the command \"go\"")
	}
	noPath := append(g.Environ(), "PATH="+t.TempDir())
	o := start(t, g, func(c *Config) { c.Environ = noPath })
	if e := getErr(t, o, goproxy.List, lib, ""); e.Cause != Tool || !strings.Contains(e.Text, "install Go") || !errors.Is(e, exec.ErrNotFound) {
		t.Errorf("without go: %s: %v", e.Cause, e)
	}
	o = start(t, g, func(c *Config) { c.Environ = noPath; c.Go = goCmd })
	for _, rq := range []goproxy.Request{req(goproxy.List, lib, ""), req(goproxy.Info, lib, "v1.0.0"), req(goproxy.Zip, lib, "v1.0.0")} {
		if e := getErr(t, o, rq.Kind, lib, rq.Module.Version); e.Cause != Tool || !strings.Contains(e.Hint, "git") {
			t.Errorf("without git: %s: %v", e.Cause, e)
		}
	}
	// An old go command is refused, as it could be tricked.
	old := filepath.Join(t.TempDir(), "go")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho '{\"GOVERSION\": \"go1.22.1\"}'\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	o = start(t, g, func(c *Config) { c.Go = old })
	if e := getErr(t, o, goproxy.List, lib, ""); e.Cause != Tool || !strings.Contains(e.Text, minGo) {
		t.Errorf("with an old go: %s: %v", e.Cause, e)
	}
}

func TestOneDownloadAnswersForAllFilesOfAVersion(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	r.Commit("main", map[string]string{"go.mod": gomod(lib), "x.go": "package lib\n"})
	r.Tag("v1.1.0", "main")
	o := start(t, g, nil)
	get(t, o, goproxy.Zip, lib, "v1.0.0")
	before := len(g.Requests())
	get(t, o, goproxy.Info, lib, "v1.0.0")
	get(t, o, goproxy.Mod, lib, "v1.0.0")
	get(t, o, goproxy.Zip, lib, "v1.0.0")
	if n := len(g.Requests()) - before; n != 0 {
		t.Errorf("after the zip, .info, .mod and .zip cost %d more requests: %q", n, g.Requests()[before:])
	}
	// What a query resolved to, is there as well.
	v := infoOf(t, get(t, o, goproxy.Info, lib, "main")).Version
	before = len(g.Requests())
	get(t, o, goproxy.Info, lib, v)
	get(t, o, goproxy.Mod, lib, v)
	if n := len(g.Requests()) - before; n != 0 {
		t.Errorf("after the query, .info and .mod cost %d more requests", n)
	}
}

func TestASecondQuestionToARepositoryIsCheap(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib), "noise": modtest.GitNoise(20_000)})
	r.Tag("v1.0.0", "main")
	dir := filepath.Join(t.TempDir(), "origin")
	for i := range 2 {
		// The second time in another process, as it were.
		o := start(t, g, func(c *Config) { c.Dir = dir })
		before := asked(g, "POST")
		get(t, o, goproxy.Zip, lib, "v1.0.0")
		o.Close()
		// One POST lists the refs, another one fetches.
		if n := asked(g, "POST") - before; i == 1 && n != 1 {
			t.Errorf("a second fetch of the same commit took %d POSTs", n)
		}
	}
}

func TestConcurrentCallersShareOneJob(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	o := start(t, g, nil)
	// waiting reports whether n callers wait for the job, or have what it brought.
	waiting := func(n int) bool {
		return soon(func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			waiters := 0
			for _, f := range o.flights {
				waiters += f.waiters
			}
			return waiters >= n || len(o.flights) == 0 && len(o.kept) > 0
		})
	}
	some, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range 30 {
		ctx := t.Context()
		if i%3 == 0 {
			ctx = some // the first one among them
		}
		wg.Go(func() {
			_, err := fetch(ctx, o, req(goproxy.Kind(3+i%2), lib, "v1.0.0"))
			if err != nil && !(i%3 == 0 && errors.Is(err, context.Canceled)) {
				t.Errorf("caller %d: %v", i, err)
			}
		})
		if i == 0 && !waiting(1) {
			t.Error("the first caller began no job")
		}
	}
	if !waiting(30) {
		t.Error("not all callers wait")
	}
	cancel()
	wg.Wait()
	if n := asked(g, "go-get=1"); n != 1 {
		t.Errorf("30 callers made %d jobs", n)
	}
}

func TestDifferentJobsRunInParallelWithinTheLimit(t *testing.T) {
	g := modtest.GitServer(t)
	var paths []string
	for i := range 6 {
		r := g.Repo(fmt.Sprintf("%s/team/lib%d", modtest.GitHost, i%3))
		if i < 3 {
			r.Commit("main", map[string]string{"go.mod": gomod(r.Root)})
			r.Tag("v1.0.0", "main")
			r.Commit("main", map[string]string{"go.mod": gomod(r.Root), "x.go": "package lib\n"})
			r.Tag("v1.1.0", "main")
		}
		paths = append(paths, r.Root)
	}
	o := start(t, g, func(c *Config) { c.Parallel = 3 })
	var wg sync.WaitGroup
	for i, p := range paths {
		wg.Go(func() {
			v := fmt.Sprintf("v1.%d.0", i/3)
			if _, err := fetch(t.Context(), o, req(goproxy.Zip, p, v)); err != nil {
				t.Errorf("%s@%s: %v", p, v, err)
			}
		})
	}
	wg.Wait()
}

func TestTheWaitForATurnEndsWithTheCaller(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.BreakPage(modtest.GitHang)
	o := start(t, g, func(c *Config) { c.Parallel = 1 })
	slow, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { fetch(slow, o, req(goproxy.List, lib, "")) })
	if !soon(func() bool { return asked(g, "go-get=1") > 0 }) {
		t.Error("the slow one does not ask")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := fetch(ctx, o, req(goproxy.List, modtest.GitHost+"/other", ""))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > patience {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	stop()
	wg.Wait()
	// The turn is free again.
	other := g.Repo(modtest.GitHost + "/third")
	other.Commit("main", map[string]string{"go.mod": gomod(other.Root)})
	get(t, o, goproxy.List, other.Root, "")
}

func TestATagThatMovedIsFollowedAndOneThatWentIsMissing(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	one := map[string]string{"go.mod": gomod(lib), "one.go": "package lib\n"}
	two := map[string]string{"go.mod": gomod(lib), "two.go": "package lib\n"}
	r.Commit("main", one)
	r.Tag("v1.0.0", "main")
	r.Tag("v1.1.0", "main")
	dir := filepath.Join(t.TempDir(), "origin")
	m := module.Version{Path: lib, Version: "v1.0.0"}
	first := start(t, g, func(c *Config) { c.Dir = dir })
	wantTree(t, get(t, first, goproxy.Zip, lib, "v1.0.0"), m, one)
	get(t, first, goproxy.Info, lib, "v1.1.0")
	first.Close()
	age(t, filepath.Join(dir, "clones"), time.Hour)

	second := r.Commit("main", two)
	r.MoveTag("v1.0.0", second)
	r.DeleteTag("v1.1.0")
	o := start(t, g, func(c *Config) { c.Dir = dir })
	wantTree(t, get(t, o, goproxy.Zip, lib, "v1.0.0"), m, two)
	if hash := infoOf(t, get(t, o, goproxy.Info, lib, "v1.0.0")).Origin.Hash; hash != second {
		t.Errorf("info is of %s, want %s", hash, second)
	}
	if e := getErr(t, o, goproxy.Info, lib, "v1.1.0"); e.Cause != Missing {
		t.Errorf("%s: %v", e.Cause, e)
	}
}

func TestAQueryDoesNotBuildOnATagThatHasGone(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	dir := filepath.Join(t.TempDir(), "origin")
	o := start(t, g, func(c *Config) { c.Dir = dir })
	second := r.Commit("main", map[string]string{"go.mod": gomod(lib), "two.go": "package lib\n"})
	if v := infoOf(t, get(t, o, goproxy.Info, lib, "main")).Version; v != "v1.0.1-0.20240102040405-"+second[:12] {
		t.Fatalf("main is %s", v)
	}
	age(t, filepath.Join(dir, "clones"), time.Hour)
	r.DeleteTag("v1.0.0")
	v := infoOf(t, get(t, o, goproxy.Info, lib, "main")).Version
	if v != "v0.0.0-20240102040405-"+second[:12] {
		t.Errorf("main is %s, after a tag that is no more", v)
	}
	if v := infoOf(t, get(t, o, goproxy.Latest, lib, "")).Version; v != "v0.0.0-20240102040405-"+second[:12] {
		t.Errorf("latest is %s", v)
	}
	get(t, o, goproxy.Zip, lib, v)
}

// age makes all files below dir older.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		then := time.Now().Add(-by)
		return os.Chtimes(name, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestABrokenCloneIsNotBelieved(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib), "lib.go": "package lib\n"})
	r.Tag("v1.0.0", "main")
	breaks := map[string]func(clone string) error{
		"objects gone": func(clone string) error {
			os.RemoveAll(filepath.Join(clone, "objects"))
			return os.MkdirAll(filepath.Join(clone, "objects"), 0o777)
		},
		"HEAD gone":     func(clone string) error { return os.Remove(filepath.Join(clone, "HEAD")) },
		"config broken": func(clone string) error { return os.WriteFile(filepath.Join(clone, "config"), []byte("[[["), 0o666) },
		"lock left":     func(clone string) error { return os.WriteFile(filepath.Join(clone, "shallow.lock"), nil, 0o666) },
	}
	for name, wreck := range breaks {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "origin")
			o := start(t, g, func(c *Config) { c.Dir = dir })
			get(t, o, goproxy.Zip, lib, "v1.0.0")
			o.Close()
			age(t, filepath.Join(dir, "clones"), time.Hour)
			clones, _ := filepath.Glob(filepath.Join(dir, "clones", "1", "*", "objects"))
			if len(clones) != 1 {
				t.Fatalf("clones: %q", clones)
			}
			if err := wreck(filepath.Dir(clones[0])); err != nil {
				t.Fatal(err)
			}
			o = start(t, g, func(c *Config) { c.Dir = dir })
			if v := infoOf(t, get(t, o, goproxy.Latest, lib, "")).Version; v != "v1.0.0" {
				t.Errorf("latest is %s", v)
			}
			m := module.Version{Path: lib, Version: "v1.0.0"}
			if mod := string(get(t, o, goproxy.Mod, lib, "v1.0.0")); mod != gomod(lib) {
				t.Errorf("mod is %q", mod)
			}
			wantTree(t, get(t, o, goproxy.Zip, lib, "v1.0.0"), m, map[string]string{"go.mod": gomod(lib), "lib.go": "package lib\n"})
		})
	}
}

func TestNothingIsLeftOfAJobOrAProcess(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	dir := filepath.Join(t.TempDir(), "origin")
	o := start(t, g, func(c *Config) { c.Dir = dir })
	other := start(t, g, func(c *Config) { c.Dir = dir })
	get(t, o, goproxy.Zip, lib, "v1.0.0")
	getErr(t, o, goproxy.Zip, lib, "v1.7.0")
	get(t, other, goproxy.Info, lib, "v1.0.0")
	jobs, _ := filepath.Glob(filepath.Join(dir, "run", "*", "job*"))
	if len(jobs) > 0 {
		t.Errorf("left of the jobs: %q", jobs)
	}
	// A process that crashes lets go of its lock and nothing else.
	crashed := filepath.Join(dir, "run", "999-1-0")
	if err := os.MkdirAll(filepath.Join(crashed, "job1", "mod"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(crashed+".lock", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	third := start(t, g, func(c *Config) { c.Dir = dir })
	if exists(crashed) || exists(crashed+".lock") {
		t.Error("a crashed process's directory is still there")
	}
	get(t, o, goproxy.Mod, lib, "v1.0.0") // and those of the living too
	for _, o := range []*Origin{o, other, third} {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "run", "*")); len(left) > 0 {
		t.Errorf("left of the processes: %q", left)
	}
	if _, err := o.Get(t.Context(), req(goproxy.List, lib, "")); err == nil {
		t.Error("a closed Origin answers")
	}
}

func TestClonesAreHeldToTheirBoundWithoutTakingThemFromAJob(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	r.Commit("main", map[string]string{"go.mod": gomod(lib)})
	r.Tag("v1.0.0", "main")
	o := start(t, g, func(c *Config) { c.Clones = 1 })
	running, err := o.repos.lease() // a job that goes on
	if err != nil {
		t.Fatal(err)
	}
	get(t, o, goproxy.Info, lib, "v1.0.0")
	if !exists(running.dir) {
		t.Fatal("the clones of a running job are gone")
	}
	if c := o.repos.current(); c != 2 {
		t.Fatalf("generation %d is current, want 2", c)
	}
	o.repos.done(running)
	if exists(running.dir) {
		t.Error("the old clones are still there after their last job")
	}
	get(t, o, goproxy.Zip, lib, "v1.0.0")
}

func TestOldFilesAreDroppedAndOpenOnesStay(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	files := map[string]string{"go.mod": gomod(lib)}
	r.Commit("main", files)
	r.Tag("v1.0.0", "main")
	o := start(t, g, nil)
	a, err := o.Get(t.Context(), req(goproxy.Zip, lib, "v1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	h := o.kept[module.Version{Path: lib, Version: "v1.0.0"}]
	h.until = time.Now()
	o.expiry.Reset(0)
	o.mu.Unlock()
	if !soon(func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.kept) == 0
	}) {
		t.Error("what is old is kept")
	}
	if !exists(h.dir) {
		t.Error("the directory of an open file is gone")
	}
	data, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantTree(t, data, module.Version{Path: lib, Version: "v1.0.0"}, files)
	a.Body.Close()
	a.Body.Close()
	if exists(h.dir) {
		t.Error("the directory stays after the last reader has gone")
	}
	if kept, _ := filepath.Glob(filepath.Join(o.run.dir, "kept*")); len(kept) > 0 {
		t.Errorf("kept: %q", kept)
	}
}

func TestTheCommandsSeeOnlyWhatTheyMay(t *testing.T) {
	g := modtest.GitServer(t)
	o := start(t, g, func(c *Config) {
		c.Environ = append(c.Environ, "HOME=/home/joe", "GITHUB_TOKEN=s3cret", "GOFLAGS=-mod=mod", "GIT_CONFIG_COUNT=1", "GIT_SSH_COMMAND=evil",
			"GOPROXY=https://proxy.example.com", "GOPRIVATE=*", "NETRC=/x", "XDG_CONFIG_HOME=/y", "GIT_EXEC_PATH=/z", "GIT_SSL_NO_VERIFY=1", "GOCACHEPROG=evil")
	})
	env := o.environ("/job", "example.com/a")
	for _, want := range []string{"HOME=/job/home", "GOPROXY=direct", "GOMODCACHE=/job/mod", "TMPDIR=/job/tmp", "GOTOOLCHAIN=local", "GIT_TERMINAL_PROMPT=0", "HTTPS_PROXY=" + g.Proxy, "GIT_SSL_CAINFO=" + g.CAFile} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
	for _, kv := range env {
		for _, not := range []string{"/home/joe", "s3cret", "evil", "proxy.example.com", "GIT_CONFIG_COUNT", "NETRC", "/y", "/z", "NO_VERIFY"} {
			if strings.Contains(kv, not) {
				t.Errorf("the environment has %s", kv)
			}
		}
	}
}

func TestGitReadsNobodysSettingsButOurs(t *testing.T) {
	g := modtest.GitServer(t)
	o := start(t, g, nil)
	j, err := o.newJob(req(goproxy.List, lib, ""), true)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	out, e := j.git(t.Context(), "", nil, "config", "--list", "--show-origin")
	if e != nil {
		t.Fatal(e)
	}
	ours := "file:" + filepath.Join(j.dir, "home", ".gitconfig") + "\t"
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, ours) {
			t.Errorf("a setting from elsewhere: %s", line)
		}
	}
	for _, want := range []string{"core.hookspath=/dev/null", "gc.auto=0", "credential.helper=\n", "transfer.fsckobjects=true", "safe.barerepository=explicit", fmt.Sprintf("pack.threads=%d", runtime.GOMAXPROCS(0))} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not among the settings\n%s", want, out)
		}
	}
}

// A go.mod above the work directory is somebody's project, and none of ours.
func TestAProjectAroundTheWorkDirectoryHasNoSay(t *testing.T) {
	g := modtest.GitServer(t)
	r := g.Repo(lib)
	files := map[string]string{"go.mod": gomod(lib)}
	r.Commit("main", files)
	r.Tag("v1.0.0", "main")
	project := t.TempDir()
	if err := os.WriteFile(filepath.Join(project, "go.mod"), []byte("module example.com/project\n\ngo 1.999\n\nreplace "+lib+" => ./evil\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	o := start(t, g, func(c *Config) { c.Dir = filepath.Join(project, "data", "origin") })
	wantTree(t, get(t, o, goproxy.Zip, lib, "v1.0.0"), module.Version{Path: lib, Version: "v1.0.0"}, files)
	if list := string(get(t, o, goproxy.List, lib, "")); list != "v1.0.0\n" {
		t.Errorf("list is %q", list)
	}
}
