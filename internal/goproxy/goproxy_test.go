package goproxy

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

func TestParsePathGivesTheRequestThatThePathMeans(t *testing.T) {
	for _, c := range []struct {
		path string
		want Request
	}{
		{"rsc.io/quote/@v/list", Request{List, module.Version{Path: "rsc.io/quote"}}},
		{"rsc.io/quote/@latest", Request{Latest, module.Version{Path: "rsc.io/quote"}}},
		{"rsc.io/quote/@v/v1.5.2.info", Request{Info, module.Version{Path: "rsc.io/quote", Version: "v1.5.2"}}},
		{"github.com/!azure/!s!d!k/@v/v1.0.0-!r!c1.mod", Request{Mod, module.Version{Path: "github.com/Azure/SDK", Version: "v1.0.0-RC1"}}},
		{"a.test/m/@v/v2.3.4+incompatible.zip", Request{Zip, module.Version{Path: "a.test/m", Version: "v2.3.4+incompatible"}}},
		{"gopkg.in/yaml.v3/@v/v3.0.1.zip", Request{Zip, module.Version{Path: "gopkg.in/yaml.v3", Version: "v3.0.1"}}},
		{"a.test/m/@v/feature/!x.info", Request{Info, module.Version{Path: "a.test/m", Version: "feature/X"}}},
		{"a.test/m/@v/v9.0.0.info", Request{Info, module.Version{Path: "a.test/m", Version: "v9.0.0"}}},
		{"golang.org/toolchain/@v/v0.0.1-go1.26.0.linux-amd64.zip", Request{Zip, module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.26.0.linux-amd64"}}},
	} {
		got, err := ParsePath(c.path)
		if err != nil || got != c.want {
			t.Errorf("ParsePath(%q) = %v, %v; want %v", c.path, got, err, c.want)
		}
		if got.Path() != c.path {
			t.Errorf("ParsePath(%q).Path() = %q", c.path, got.Path())
		}
	}
}

func TestParsePathTellsMalformedFromMissing(t *testing.T) {
	for path, missing := range map[string]bool{
		"":                                                true,
		"favicon.ico":                                     true,
		"rsc.io/quote/@v/v1.5.2":                          true,
		"rsc.io/quote/@v/v1.5.2.ziphash":                  true,
		"rsc.io/quote/@v/list/x":                          true,
		"rsc.io/quote/@latest/x":                          true,
		"rsc.io/quote/@v/master.mod":                      true,
		"rsc.io/quote/@v/v1.2.zip":                        true,
		"rsc.io/quote/@v/v1.2.0+meta.mod":                 true,
		"rsc.io/quote/v9/@v/v1.0.0.zip":                   true,
		"rsc.io/Quote/@v/list":                            false,
		"rsc.io/!!a/@v/list":                              false,
		"rsc.io/!/@v/list":                                false,
		"rsc.io//a/@v/list":                               false,
		"rsc.io/a/../b/@v/list":                           false,
		"nodot/@v/list":                                   false,
		"/@v/list":                                        false,
		"rsc.io/a\x00b/@v/list":                           false,
		"rsc.io/\xff\xfe/@v/list":                         false,
		"rsc.io/quote/@v/.info":                           false,
		"rsc.io/quote/@v/V1.0.0.info":                     false,
		"rsc.io/quote/@v/../../etc/x.info":                false,
		"rsc.io/quote/@v/a//b.info":                       false,
		strings.Repeat("a", 5000) + "/@v/list":            false,
		"rsc.io/" + strings.Repeat("a", 300) + "/@v/list": false,
		"rsc.io/quote/@v/v1.0.0-" + strings.Repeat("a", 300) + ".info": false,
	} {
		_, err := ParsePath(path)
		if _, ok := errors.AsType[*PathError](err); !ok {
			t.Errorf("ParsePath(%.60q) = %v, want a *PathError", path, err)
			continue
		}
		if got := errors.Is(err, fs.ErrNotExist); got != missing {
			t.Errorf("ParsePath(%.60q) = %v; missing %v, want %v", path, err, got, missing)
		}
	}
}

func TestOnlyFilesOfFixedVersionsAreImmutable(t *testing.T) {
	for path, want := range map[string]bool{
		"rsc.io/quote/@v/v1.5.2.info": true, "rsc.io/quote/@v/v1.5.2.mod": true, "rsc.io/quote/@v/v1.5.2.zip": true,
		"rsc.io/quote/@v/list": false, "rsc.io/quote/@latest": false, "rsc.io/quote/@v/master.info": false, "rsc.io/quote/@v/v1.info": false,
	} {
		r, err := ParsePath(path)
		if err != nil || r.Immutable() != want {
			t.Errorf("%s: immutable %v (%v), want %v", path, r.Immutable(), err, want)
		}
	}
}

func TestParseListKeepsVersionsAndDropsTheRest(t *testing.T) {
	in := "v1.10.0\nv1.2.0 2024-01-02T03:04:05Z\r\n\n  \nnot-a-version\nv0.0.0-20240102030405-0123456789ab\n<p>v9.9.9</p>\nv1.2.0\nv2.0.0\n"
	got, err := ParseList([]byte(in), "rsc.io/quote")
	if want := []string{"v1.2.0", "v1.10.0"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := ParseList(nil, "rsc.io/quote"); err != nil || len(got) != 0 {
		t.Errorf("an empty list: %q, %v", got, err)
	}
	for _, bad := range []string{"<!DOCTYPE html>\nv1.0.0\n", " \n <html>", "please log in\n", "\xff\xfe"} {
		if got, err := ParseList([]byte(bad), "rsc.io/quote"); err == nil {
			t.Errorf("%q is taken for the list %q", bad, got)
		}
	}
}

func TestParseInfoHoldsTheAnswerToTheQuestion(t *testing.T) {
	quote := module.Version{Path: "rsc.io/quote", Version: "v1.5.2"}
	for in, ok := range map[string]bool{
		`{"Version":"v1.5.2","Time":"2018-02-14T15:44:20Z","Origin":{"VCS":"git"}}`: true,
		`{"Version":"v1.5.2"}`:                    true,
		`{"Version":"v1.5.3"}`:                    false,
		`{"Version":"master"}`:                    false,
		`{"Version":"v1.5.2","Time":"yesterday"}`: false,
		`{"Version":"v1.5.2"`:                     false,
		`<html>`:                                  false,
		``:                                        false,
		`[]`:                                      false,
		`null`:                                    false,
	} {
		if _, err := ParseInfo([]byte(in), quote); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", in, err, ok)
		}
	}
	if f, err := ParseInfo([]byte(`{"Version":"v1.5.2"}`), module.Version{Path: "rsc.io/quote", Version: "master"}); err != nil || f.Version != "v1.5.2" || !f.Time.IsZero() {
		t.Errorf("a query: %+v, %v", f, err)
	}
}

func TestCheckModIsLaxWithWhatFutureGoMayWrite(t *testing.T) {
	for in, ok := range map[string]bool{
		"module rsc.io/quote\n": true,
		"// c\r\nmodule \"a.test/x\" // y\n\ngo 1.999\nfuture x\n": true,
		"":                false,
		"go 1.20\n":       false,
		"<html></html>":   false,
		"module a\x00b\n": false,
		"\xff\xfe":        false,
	} {
		if err := CheckMod([]byte(in)); (err == nil) != ok {
			t.Errorf("%q: %v, want ok %v", in, err, ok)
		}
	}
}

func TestLatestPrefersReleases(t *testing.T) {
	for want, list := range map[string][]string{
		"":            nil,
		"v1.3.0":      {"v1.2.9", "v1.3.0", "v1.4.0-rc.1"},
		"v0.1.0-beta": {"v0.1.0-alpha", "v0.1.0-beta"},
	} {
		if got := LatestOf(list); got != want {
			t.Errorf("LatestOf(%q) = %q, want %q", list, got, want)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"rsc.io/quote/@v/v1.5.2.zip", "a.test/!m/@latest", "a.test/m/@v/f/x.info", "..//@v/list", "a.test/@v/@v/list"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		r, err := ParsePath(p)
		if err != nil {
			if _, ok := errors.AsType[*PathError](err); !ok {
				t.Fatalf("ParsePath(%q): %T is no *PathError", p, err)
			}
			return
		}
		if r.Path() != p {
			t.Fatalf("ParsePath(%q).Path() = %q; an artifact has one spelling", p, r.Path())
		}
		if !fs.ValidPath(p) || strings.HasPrefix(p, ".") {
			t.Fatalf("ParsePath(%q) accepts what is no file name below a directory", p)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"Version":"v1.5.2","Time":"2018-02-14T15:44:20Z"}`))
	f.Add([]byte("v1.0.0\nv1.1.0 2024-01-02T03:04:05Z\n"))
	f.Add([]byte("module a.test/m\n\ngo 1.20\n\nrequire a.test/n v1.0.0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mod := module.Version{Path: "a.test/m", Version: "master"}
		if i, err := ParseInfo(data, mod); err == nil && !IsCanonical(module.Version{Path: mod.Path, Version: i.Version}) {
			t.Fatalf("%q: version %q is not canonical", data, i.Version)
		}
		if list, err := ParseList(data, mod.Path); err == nil {
			again, err := ParseList(FormatList(list), mod.Path)
			if err != nil || !slices.Equal(list, again) {
				t.Fatalf("%q: %q is read back as %q, %v", data, list, again, err)
			}
		}
		if CheckMod(data) == nil {
			reqs, _ := Requirements(data)
			for _, r := range reqs {
				if !IsCanonical(r) {
					t.Fatalf("%q: requirement %v is not canonical", data, r)
				}
			}
		}
	})
}
