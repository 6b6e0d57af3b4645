package origin

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
)

// What the go command and Git really say, and which of it means "not there".
func TestErrorTextsAreSortedByWhatTheySayAboutTheModule(t *testing.T) {
	const p = "git.example.com/a/b"
	for _, test := range []struct {
		kind    goproxy.Kind
		version string
		cause   Cause
		text    string
	}{
		{goproxy.Info, "v1.0.0", Missing, `git.example.com/a/b@v1.0.0: invalid version: unknown revision v1.0.0`},
		{goproxy.Info, "v1.0.0", Missing, `git.example.com/a/b@v1.0.0: invalid version: unknown revision a/v1.0.0`},
		{goproxy.Info, "main", Missing, `git.example.com/a/b@v0.0.0-20240102030405-ef41d0700373: invalid version: missing git.example.com/a/b/go.mod at revision ef41d0700373`},
		{goproxy.Info, "v2.0.0", Missing, `git.example.com/a/b@v2.0.0: invalid version: module contains a go.mod file, so module path must match major version ("git.example.com/a/b/v2")`},
		{goproxy.Info, "v1.0.0", Missing, `git.example.com/a/b@v1.0.0: invalid version: go.mod has non-.../v2 module path "x" (and .../v2/go.mod does not exist) at revision v1.0.0`},
		{goproxy.Info, "v1.0.0", Missing, `git.example.com/a/b@v1.0.0: invalid pseudo-version: preceding tag (v0.9.0) not found`},
		{goproxy.Latest, "", Missing, `module git.example.com/a/b: no matching versions for query "latest"`},
		{goproxy.Latest, "", Missing, `git.example.com/a/b@latest: unrecognized import path "git.example.com/a/b": reading https://git.example.com/a/b?go-get=1: 404 Not Found`},
		{goproxy.List, "", Missing, `unrecognized import path "git.example.com/a/b": reading https://git.example.com/a/b?go-get=1: 410 Gone`},
		{goproxy.List, "", Missing, `unrecognized import path "git.example.com/a/b": parse https://git.example.com/a/b?go-get=1: no go-import meta tags (meta tag x did not match import path y)`},
		{goproxy.List, "", Missing, `invalid github.com import path "github.com/foo"`},
		{goproxy.List, "", Missing, "module git.example.com/a/b: git ls-remote -q --end-of-options https://git.example.com/a/b.git: exit status 128:\n\tremote: Repository not found.\n\tfatal: repository 'https://git.example.com/a/b.git/' not found"},

		{goproxy.List, "", Unresolved, `unrecognized import path "git.example.com/a/b": https fetch: Get "https://git.example.com/a/b?go-get=1": dial tcp: lookup git.example.com: no such host`},
		{goproxy.List, "", Unresolved, "module git.example.com/a/b: git ls-remote -q --end-of-options ssh://git@git.example.com/a/b.git: exit status 128:\n\tssh: Could not resolve hostname git.example.com: Name or service not known\n\tfatal: Could not read from remote repository.\n\tPlease make sure you have the correct access rights"},
		{goproxy.List, "", Trouble, `unrecognized import path "git.example.com/a/b": https fetch: Get "https://git.example.com/a/b?go-get=1": dial tcp 192.0.2.1:443: i/o timeout`},
		{goproxy.List, "", Trouble, `unrecognized import path "git.example.com/a/b": https fetch: Get "https://git.example.com/a/b?go-get=1": tls: failed to verify certificate: x509: certificate signed by unknown authority`},
		{goproxy.List, "", Trouble, `unrecognized import path "git.example.com/a/b": reading https://git.example.com/a/b?go-get=1: 503 Service Unavailable` + "\n\tserver response: 404 Not Found"},
		{goproxy.List, "", Trouble, `unrecognized import path "git.example.com/a/b": https://git.example.com/a/b?go-get=1 and https://git.example.com/a?go-get=1 disagree about go-import for git.example.com/a`},
		{goproxy.Info, "v1.0.0", Unresolved, "git.example.com/a/b@v1.0.0: invalid version: git ls-remote -q --end-of-options origin: exit status 128:\n\tfatal: unable to access 'https://git.example.com/a/b.git/': Could not resolve host: git.example.com"},
		{goproxy.Info, "v1.0.0", Trouble, "git.example.com/a/b@v1.0.0: invalid version: git fetch -f --depth=1 --end-of-options origin refs/tags/v1.0.0:refs/tags/v1.0.0: exit status 128:\n\tfatal: early EOF"},
		{goproxy.Info, "v1.0.0", Trouble, "git.example.com/a/b@v1.0.0: invalid version: git ls-remote -q --end-of-options origin: exit status 128:\n\tremote: fatal: repository 'x' not found\n\tfatal: unable to access 'https://git.example.com/a/b.git/': The requested URL returned error: 500"},
		{goproxy.Info, "v1.0.0", Trouble, "git.example.com/a/b@v1.0.0: invalid pseudo-version: git merge-base --is-ancestor -- v0.9.0 0123: signal: killed"},
		{goproxy.Info, "v1.0.0", Trouble, "git.example.com/a/b@v1.0.0: invalid version: reading git.example.com/a/b/go.mod at revision v1.0.0: fork/exec /usr/bin/git: resource temporarily unavailable"},
		{goproxy.Info, "v1.0.0", Trouble, "git.example.com/a/b@v1.0.0: create zip: module source tree too large (max size is 524288000 bytes)"},
		{goproxy.Info, "v1.0.0", Trouble, "something that no go command has ever said"},
		{goproxy.Info, "v1.0.0", Trouble, ""},
		{goproxy.Info, "v1.0.0", Trouble, "fatal: unknown revision v1.0.0, and then:\ninvalid version: unknown revision v1.0.0"},

		{goproxy.Info, "v1.0.0", Auth, "git.example.com/a/b@v1.0.0: invalid version: git ls-remote -q --end-of-options origin: exit status 128:\n\tfatal: could not read Username for 'https://git.example.com': terminal prompts disabled\nConfirm the import path was entered correctly.\nIf this is a private repository, see https://golang.org/doc/faq#git_https for additional information."},
		{goproxy.Info, "v1.0.0", Auth, "git.example.com/a/b@v1.0.0: invalid version: git ls-remote -q --end-of-options origin: exit status 128:\n\tERROR: Repository not found.\n\tfatal: Could not read from remote repository.\n\n\tPlease make sure you have the correct access rights\n\tand the repository exists."},
		{goproxy.Info, "v1.0.0", Auth, "git.example.com/a/b@v1.0.0: invalid version: git ls-remote -q --end-of-options origin: exit status 128:\n\tHost key verification failed.\n\tfatal: Could not read from remote repository."},
		{goproxy.List, "", Auth, `unrecognized import path "git.example.com/a/b": reading https://git.example.com/a/b?go-get=1: 401 Unauthorized`},
		{goproxy.List, "", Refused, `unrecognized import path "git.example.com/a/b": GOVCS disallows using hg for private git.example.com/a/b; see 'go help vcs'`},
		{goproxy.List, "", Refused, "module git.example.com/a/b: git ls-remote -q --end-of-options http://git.example.com/a/b.git: exit status 128:\n\tfatal: transport 'http' not allowed"},
		{goproxy.List, "", Tool, `module git.example.com/a/b: git init --bare: exec: "git": executable file not found in $PATH`},
		{goproxy.Zip, "v1.0.0", Tool, `git.example.com/a/b@v1.0.0 requires go >= 1.999 (running go 1.26.8; GOTOOLCHAIN=local)`},
	} {
		if e := classify(req(test.kind, p, test.version), test.text); e.Cause != test.cause {
			t.Errorf("%s, want %s: %s", e.Cause, test.cause, test.text)
		}
	}
}

// Whoever asks chooses the path and the version, and both are in the text.
func FuzzARequestCannotMakeTroubleLookMissing(f *testing.F) {
	f.Add("git.example.com/a", "main")
	f.Add("git.example.com/a", "x/invalid version")
	f.Add("git.example.com/no-go-import-meta-tags", "unknown revision v1")
	f.Fuzz(func(t *testing.T, p, v string) {
		for _, k := range []goproxy.Kind{goproxy.List, goproxy.Latest, goproxy.Info} {
			r := goproxy.Request{Kind: k, Module: module.Version{Path: p}}
			at := p + "@latest"
			if k == goproxy.Info {
				r.Module.Version = v
				at = p + "@" + v
			}
			if check(r) != nil {
				continue
			}
			for _, text := range []string{
				at + ": invalid version: git fetch origin " + v + ":" + v + ": exit status 128:\n\tfatal: " + v + "\n\tfatal: early EOF",
				at + `: unrecognized import path "` + p + `": https fetch: Get "https://` + p + `?go-get=1": dial tcp: i/o timeout`,
				"module " + p + `: unrecognized import path "` + p + `": reading https://` + p + `?go-get=1: 503 Service Unavailable`,
				at + ": reading " + p + "/go.mod at revision " + v + ": permission denied",
			} {
				if e := classify(r, text); e.Cause == Missing {
					t.Errorf("%s: missing: %s", r, text)
				}
			}
		}
	})
}

func TestCleanLeavesNothingThatIsNobodysBusiness(t *testing.T) {
	const dir = "/var/lib/sluice/.sluice/origin"
	for in, want := range map[string]string{
		"git ls-remote origin in " + dir + "/run/1-2-0/job3/mod/cache/vcs/7e0d: exit status 128": "git ls-remote origin: exit status 128",
		"fatal: Unable to create '" + dir + "/clones/1/7e0d/shallow.lock': File exists.":         "fatal: Unable to create '': File exists.",
		"cloning https://joe:s3cret@git.example.com/a.git":                                       "cloning https://git.example.com/a.git",
		"cloning https://s3cret-token@git.example.com/a.git":                                     "cloning https://git.example.com/a.git",
		"cloning https://joe:p@ss@git.example.com/a.git":                                         "cloning https://git.example.com/a.git",
		"ssh://git@git.example.com/a":                                                            "ssh://git@git.example.com/a",
		"GET https://git.example.com/a?private_token=s3cret&x=1":                                 "GET https://git.example.com/a?private_token=xxxxx&x=1",
		"a\x1b[31mred\x1b[0m \x1b]0;title\x07b\x00c\u202ed":                                      "ared bcd",
		"bad \xff utf-8":                "bad \uFFFD utf-8",
		"one\r\n\n \ntwo\n":             "one\ntwo",
		strings.Repeat("ä", 10<<10)[1:]: "",
	} {
		have := clean(in, dir)
		if len(have) > maxText || !utf8.ValidString(have) {
			t.Errorf("clean(%.80q) has %d bytes", in, len(have))
		}
		if want != "" && have != want {
			t.Errorf("clean(%q) = %q, want %q", in, have, want)
		}
	}
}

func FuzzCleanedTextIsFitToBeShown(f *testing.F) {
	f.Add("https://a:b@c/d \x1b[1m\n\n/var/lib/sluice/x")
	f.Add("x://@@/\xff\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		const dir = "/var/lib/sluice"
		have := clean(in, dir)
		if len(have) > maxText || !utf8.ValidString(have) || strings.Contains(have, dir) || strings.Contains(have, "\n\n") {
			t.Errorf("clean(%q) = %q", in, have)
		}
		for _, r := range have {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				t.Errorf("clean(%q) has the character %U", in, r)
			}
		}
	})
}
