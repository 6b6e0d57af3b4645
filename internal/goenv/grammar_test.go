package goenv

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
)

func TestProxyListsAreReadAsTheGoCommandReadsThem(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want List
	}{
		{"https://a.example,direct", List{{HTTP, "https://a.example", false}, {Direct, "direct", false}}},
		{"https://a.example|https://b.example|direct", List{{HTTP, "https://a.example", true}, {HTTP, "https://b.example", true}, {Direct, "direct", false}}},
		{" https://a.example , , off ", List{{HTTP, "https://a.example", false}, {Off, "off", false}}},
		{"direct,https://a.example", List{{Direct, "direct", false}}},
		{"off|https://a.example", List{{Off, "off", false}}},
		{"a.example:8080/x|", List{{HTTP, "https://a.example:8080/x", true}}},
		{"file:///srv/mod,off", List{{File, "file:///srv/mod", false}, {Off, "off", false}}},
		{"http://127.0.0.1:1/a b", List{{HTTP, "http://127.0.0.1:1/a b", false}}},
		{"https://u:p@a.example,direct", List{{HTTP, "https://u:p@a.example", false}, {Direct, "direct", false}}},
	} {
		got, err := ParseProxyList(tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseProxyList(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestBadProxyListsSayWhatWhereAndHowToMendIt(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", `the proxy list has no entries; write https://proxy.example.com, or "direct", or "off"`},
		{" ,| ", "has no entries"},
		{"https://a.example,none", `entry 2 of the proxy list, "none", is no URL, and no word that the go command knows`},
		{"https://a.example,,DIRECT", `entry 2 of the proxy list, "DIRECT", must be written in small letters: direct`},
		{"ftp://a.example", `has the scheme ftp`},
		{"/srv/mod", `is a path and not a URL; write file:// before it`},
		{"//a.example", `write https: before it`},
		{"file://host/mod", `has more than a path`},
		{"file:/mod", `write file:///path`},
		{"https://", `has no host`},
		{"https:/a.example", `has no host`},
		{"https://a.example https://b.example", `has a space in it`},
		{`"https://a.example"`, `has a quote in it`},
		{"https://a.example:port", `has a port that is no number`},
		{"https://user:sec ret@a.example", `has a space in it`},
		{"https://user:secret%zz@a.example", `write % itself as %25`},
		{"https://user:secret^@a.example/", `write them as %XX`},
		{"https://user:sec/ret@a.example", `in a password`},
		{"https://user:sec,ret@a.example", `has a port that is no number`},
		{"user:secret@a.example,ftp://b:secret@c.example", `has the scheme ftp`},
	} {
		list, err := ParseProxyList(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseProxyList(%q) = %v, %v; want an error with %q", tt.in, list, err, tt.want)
		} else if strings.Contains(err.Error(), "sec") {
			t.Errorf("ParseProxyList(%q): the password shows in %v", tt.in, err)
		}
	}
}

// goProxyList is modfetch.proxyList of Go 1.26 with its check of URLs, for
// comparison.
func goProxyList(goproxy string) (List, error) {
	var list List
	for goproxy != "" {
		var u string
		fallBackOnError := false
		if i := strings.IndexAny(goproxy, ",|"); i >= 0 {
			u = goproxy[:i]
			fallBackOnError = goproxy[i] == '|'
			goproxy = goproxy[i+1:]
		} else {
			u = goproxy
			goproxy = ""
		}
		u = strings.TrimSpace(u)
		if u == "" {
			continue
		}
		if u == "off" {
			list = append(list, Entry{Off, u, false})
			break
		}
		if u == "direct" {
			list = append(list, Entry{Direct, u, false})
			break
		}
		if strings.ContainsAny(u, ".:/") && !strings.Contains(u, ":/") && !filepath.IsAbs(u) && !path.IsAbs(u) {
			u = "https://" + u
		}
		base, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		kind := HTTP
		switch base.Scheme {
		case "http", "https":
			if base.Hostname() == "" || checkPort(base) != nil {
				return nil, fmt.Errorf("our own rules")
			}
		case "file":
			kind = File
			if *base != (url.URL{Scheme: base.Scheme, Path: base.Path, RawPath: base.RawPath}) {
				return nil, fmt.Errorf("invalid file:// proxy URL")
			}
		default:
			return nil, fmt.Errorf("invalid proxy URL scheme")
		}
		list = append(list, Entry{kind, u, fallBackOnError})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no entries")
	}
	return list, nil
}

func FuzzProxyList(f *testing.F) {
	for _, s := range []string{
		"https://a.example|b.example,direct,x", "off", ",|", "file:///x|", "https://u:p@[::1]:80/ ,none", "//x", "file:x", "http://h?x#y", "a:b@c",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseProxyList(s)
		want, wantErr := goProxyList(s)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(list, want) {
			t.Fatalf("ParseProxyList(%q) = %v, %v; the go command: %v, %v", s, list, err, want, wantErr)
		}
		notes, fixed := CheckProxyList(s)
		if err != nil && len(notes) == 0 {
			t.Errorf("CheckProxyList(%q) has nothing to say about %v", s, err)
		}
		if fixed != "" {
			if _, err := ParseProxyList(fixed); err != nil {
				t.Errorf("CheckProxyList(%q) suggests %q: %v", s, fixed, err)
			}
		}
		if err != nil {
			return
		}
		if again, err := ParseProxyList(list.String()); err != nil || !reflect.DeepEqual(again, list) {
			t.Errorf("%q → %q → %v, %v", s, list, again, err)
		}
		for _, e := range list {
			u, err := url.Parse(e.URL)
			if err != nil || u.User == nil {
				continue
			}
			if pw, _ := u.User.Password(); len(pw) > 4 && pw == url.PathEscape(pw) && !strings.Contains(u.Scheme+"://"+redacted+"@"+u.Host+u.Path+u.Fragment, pw) && pw != redacted && strings.Contains(e.Name(), pw) {
				t.Errorf("the password shows in %q", e.Name())
			}
		}
	})
}

func TestTheGoCommandRefusesTheSameProxyLists(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	dir := t.TempDir()
	for _, s := range []string{"none", "ftp://a.example", "/srv/mod", "file://host/mod", "file:/mod", ",", "https://a.example https://b.example", "file://" + dir} {
		_, err := ParseProxyList(s)
		cmd := exec.Command("go", "mod", "download", "example.com/m@v1.0.0")
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "GOPROXY="+s, "GOENV=off", "GOFLAGS=", "GOPRIVATE=", "GONOPROXY=", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOMODCACHE="+dir+"/cache", "GO111MODULE=on")
		out, _ := cmd.CombinedOutput()
		refused := strings.Contains(string(out), "proxy URL") || strings.Contains(string(out), "contains no entries") || strings.Contains(string(out), "invalid character")
		if refused != (err != nil) {
			t.Errorf("GOPROXY=%q: ours: %v; the go command: %s", s, err, out)
		}
	}
}

func TestCheckProxyListFindsWhatTheGoCommandPassesOver(t *testing.T) {
	for _, tt := range []struct{ in, note, fixed string }{
		{"https://a.example,direct", "", ""},
		{"https://a.example,direct,https://b.example", `"https://b.example" stands behind "direct"`, "https://a.example,https://b.example,direct"},
		{"https://a.example/x direct", `a space after "https://a.example/x"`, "https://a.example/x,direct"},
		{"https://a.example https://b.example,direct", "has a space", "https://a.example,https://b.example,direct"},
		{`"https://a.example,direct"`, "has a quote", "https://a.example,direct"},
		{"https://a.example;direct", "a semicolon after", "https://a.example,direct"},
		{"GOPROXY=https://a.example|direct", "", ""},
		{"https//a.example", `a host called "https"`, "https://a.example"},
		{"https:/a.example,Direct", "has no host", "https://a.example,direct"},
		{"https://a.example,https://a.example", "in the list twice", "https://a.example"},
		{"https://a.example|https://a.example,direct", "in the list twice", "https://a.example,direct"},
		{"https://a.example|https://a.example|direct", "in the list twice", "https://a.example|direct"},
		{"https://a.example,https://a.example|direct", "in the list twice", "https://a.example,direct"},
		{"https://a.example|https://b.example|https://a.example,direct", "in the list twice", "https://a.example|https://b.example,direct"},
		{"https://a.example|https://a.example", "in the list twice", "https://a.example"},
		{"https//a.example,direct", `"https//a.example" names a host called "https"`, "https://a.example,direct"},
		{"https://https//a.example,direct", `"https://https//a.example" names a host called "https"`, ""},
		{"http://u:secret@a.example", "sends its password unencrypted", ""},
		{"https://a.example/?token=secret", "has a query", ""},
		{"/srv/mod,off", "is a path", "file:///srv/mod,off"},
		{"nonsense", "is no URL", ""},
	} {
		notes, fixed := CheckProxyList(tt.in)
		all := strings.Join(notes, "\n")
		if tt.note == "" && tt.in == "https://a.example,direct" && all != "" || !strings.Contains(all, tt.note) || fixed != tt.fixed && !strings.HasPrefix(tt.in, "GOPROXY=") {
			t.Errorf("CheckProxyList(%q) = %q, %q; want %q, %q", tt.in, notes, fixed, tt.note, tt.fixed)
		}
		if strings.Contains(all, "secret") {
			t.Errorf("the secret shows in %q", all)
		}
	}
	if _, fixed := CheckProxyList("GOPROXY=https://a.example|direct"); fixed != "https://a.example|direct" {
		t.Errorf("fixed %q", fixed)
	}
}

func TestRedactHidesCredentialsAndLittleElse(t *testing.T) {
	for in, want := range map[string]string{
		"https://proxy.example.com:8443/a,direct":                     "https://proxy.example.com:8443/a,direct",
		"https://user:pw@a.example/x|https://tok@b.example":           "https://xxxxx@a.example/x|https://xxxxx@b.example",
		"https://user:p,w@a.example":                                  "https://xxxxx@a.example",
		"https://user:p/w@a.example":                                  "https://xxxxx@a.example",
		"https://a.example,user:pw@b.example":                         "https://a.example,xxxxx@b.example",
		"https://a.example/@scope/x":                                  "https://a.example/@scope/x",
		"https://a.example/x?token=1,direct":                          "https://a.example/x?xxxxx,direct",
		"https://user:pa":                                             "https://user:xxxxx",
		"https://[::1]:80/x":                                          "https://[::1]:80/x",
		"sum.golang.org https://u:p@sum.example.com":                  "sum.golang.org https://xxxxx@sum.example.com",
		"sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htT": "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htT",
		"": "",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPatternsThatNeverMatchAreNamedWithTheirMend(t *testing.T) {
	for _, tt := range []struct {
		in, want, fix string
		dead          bool
	}{
		{"git.corp.example,*.internal.example/", "", "", false},
		{"git.corp.example/team-[ab]/x?", "", "", false},
		{"git.corp.example, other.example", "has a space around it", "other.example", true},
		{"git.corp.example other.example", "not separated by a comma", "git.corp.example,other.example", true},
		{"https://git.corp.example/team", "scheme of a URL", "git.corp.example/team", true},
		{"git.corp.example/...", "no wildcard here", "git.corp.example", true},
		{"git.corp.example:8443/team", "a port", "git.corp.example/team", true},
		{"git@git.corp.example:team/x", "a user", "git.corp.example/team/x", true},
		{"git.corp.example/x@v1.0.0", "a version", "git.corp.example/x", true},
		{".corp.example", "begins with a dot", "*.corp.example", true},
		{"/git.corp.example", "empty path element", "git.corp.example", true},
		{"git.corp.example//x", "empty path element", "git.corp.example/x", true},
		{"git.corp.example/[ab", "malformed wildcard", "", true},
		{"Git.Corp.example/Team", "capital letters", "git.corp.example/Team", true},
		{`"git.corp.example"`, `the character '"'`, "git.corp.example", true},
		{"git.corp.example/**", "has **", "", false},
		{"*", "every module", "", false},
		{"*.*", "every module", "", false},
	} {
		problems := CheckPatterns(Patterns(tt.in))
		if tt.want == "" {
			if len(problems) != 0 {
				t.Errorf("%q: %v", tt.in, problems)
			}
			continue
		}
		if len(problems) != 1 || !strings.Contains(problems[0].Reason+" ", tt.want) || problems[0].Dead != tt.dead || problems[0].Fix != tt.fix {
			t.Errorf("%q: %+v, want %q, fix %q", tt.in, problems, tt.want, tt.fix)
		}
	}
}

func FuzzPatterns(f *testing.F) {
	f.Add("git.corp.example", "git.corp.example/x")
	f.Add("*.Corp/[A-Z]/\\x", "a.corp/B/x")
	f.Fuzz(func(t *testing.T, globs, path string) {
		p := Patterns(globs)
		match := p.Match(path)
		if match != module.MatchPrefixPatterns(globs, path) || match != (p.Which(path) != "") {
			t.Fatalf("Patterns(%q) and %q: Match %v, Which %q", globs, path, match, p.Which(path))
		}
		for _, pp := range CheckPatterns(p) {
			if pp.Dead && module.CheckPath(path) == nil && module.MatchPrefixPatterns(pp.Pattern, path) {
				t.Errorf("%v, but it matches %s", pp, path)
			}
			for _, again := range CheckPatterns(Patterns(pp.Fix)) {
				if again.Dead {
					t.Errorf("%v, but: %v", pp, again)
				}
			}
		}
	})
}

func TestGOVCSIsCheckedAsTheGoCommandDoes(t *testing.T) {
	for s, want := range map[string]string{
		"":                            "",
		"public:git|hg,private:all":   "",
		" github.com : git , *:off ":  "",
		"github.com:git,,x:git":       "empty entry",
		"github.com":                  "is not PATTERN:LIST",
		":git":                        "is not PATTERN:LIST",
		"./x:git":                     "relative",
		"a.example:git,a.example:hg":  "twice",
		"a.example:gti":               `"gti"`,
		"a.example/...:git":           "wildcard",
		"public:git,public:hg":        "twice",
		"https://a.example:git":       "none of git",
		"git.corp.example:git|":       `"" in the entry`,
		"git.corp.example/team:git|*": `"*"`,
	} {
		err := CheckVCS(s)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("CheckVCS(%q) = %v, want %q", s, err, want)
		}
	}
}

// verifierKey makes a key of that name.
func verifierKey(t *testing.T, name string) string {
	t.Helper()
	_, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}

func TestGOSUMDBIsReadAsTheGoCommandReadsIt(t *testing.T) {
	key := verifierKey(t, "sumdb.example.com/path")
	for _, tt := range []struct {
		in   string
		want SumDB
		base string
	}{
		{"off", SumDB{Off: true}, ""},
		{"sum.golang.org", SumDB{Name: "sum.golang.org", Key: defaultSumDBKey}, "https://sum.golang.org"},
		{"sum.golang.google.cn", SumDB{Name: "sum.golang.org", Key: defaultSumDBKey, URL: "https://sum.golang.google.cn"}, "https://sum.golang.google.cn"},
		{" sum.golang.org  https://x.example/ ", SumDB{Name: "sum.golang.org", Key: defaultSumDBKey, URL: "https://x.example/"}, "https://x.example"},
		{key, SumDB{Name: "sumdb.example.com/path", Key: key}, "https://sumdb.example.com/path"},
		{key + " http://127.0.0.1:1/s", SumDB{Name: "sumdb.example.com/path", Key: key, URL: "http://127.0.0.1:1/s"}, "http://127.0.0.1:1/s"},
	} {
		got, err := ParseSumDB(tt.in)
		if err != nil || got != tt.want || got.Base() != tt.base {
			t.Errorf("ParseSumDB(%q) = %+v, %v (base %q), want %+v, %q", tt.in, got, err, got.Base(), tt.want, tt.base)
		}
	}
	for in, want := range map[string]string{
		"":                                    "is empty",
		"OFF":                                 "small letters",
		"sum.example.org":                     "its key is needed",
		"sum.example.org+033de0ae":            "malformed or incomplete",
		key[:len(key)-4]:                      "malformed or incomplete",
		key + " a b":                          "3 words",
		key + " sum.example.org":              "no https, http or file URL",
		key + " https://u:secret@x.example:p": "port that is no number",
		key + " https://":                     "has no host",
		verifierKey(t, "sumdb.example.com/"):  "must be HOST or HOST/PATH",
		verifierKey(t, "a@b.example"):         "must be HOST or HOST/PATH",
	} {
		if db, err := ParseSumDB(in); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseSumDB(%q) = %+v, %v; want an error with %q", in, db, err, want)
		}
	}
}

func FuzzSumDB(f *testing.F) {
	f.Add("off")
	f.Add("sum.golang.org")
	f.Add(defaultSumDBKey + " http://u:p@h")
	f.Fuzz(func(t *testing.T, s string) {
		db, err := ParseSumDB(s)
		if err != nil {
			return
		}
		if again, err := ParseSumDB(db.String()); err != nil || again != db {
			t.Errorf("%q → %q → %+v, %v", s, db, again, err)
		}
		if _, err := url.Parse(db.Base()); err != nil {
			t.Errorf("%q has the base %q: %v", s, db.Base(), err)
		}
	})
}

func TestGOVCSDecidesByTheFirstPatternThatMatches(t *testing.T) {
	const private = Patterns("git.corp.example,*.internal.example")
	for _, tt := range []struct {
		govcs, path, vcs string
		want             bool
	}{
		{"", "git.corp.example/a", "svn", true},
		{"", "example.com/a", "git", true},
		{"", "example.com/a", "svn", false},
		{"private:hg", "git.corp.example/a", "git", false},
		{"private:hg", "example.com/a", "git", true},
		{"public:off", "example.com/a", "git", false},
		{"example.com/a:all, public:off", "example.com/a/b", "svn", true},
		{"git.corp.example: git | hg ,private:off", "git.corp.example/a", "hg", true},
		{"git.corp.example:git,private:off", "x.internal.example/a", "git", false},
	} {
		if got := AllowsVCS(tt.govcs, private, tt.path, tt.vcs); got != tt.want {
			t.Errorf("GOVCS=%s allows %s for %s: %v", tt.govcs, tt.vcs, tt.path, got)
		}
	}
}
