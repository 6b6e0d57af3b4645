package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/modsluice/sluice/internal/goenv"
)

// toolchain is the go command's settings where nobody has set anything but environ.
func toolchain(environ ...string) *goenv.Settings {
	return goenv.Load(environ, func(path string) ([]byte, error) {
		if filepath.ToSlash(path) == "/goroot/go.env" {
			return []byte("GOPROXY=https://proxy.example.com,direct\nGOSUMDB=sum.golang.org\n"), nil
		}
		return nil, fs.ErrNotExist
	}, "/goroot", "")
}

func input(file string) Input {
	return Input{Path: "sluice.toml", Data: []byte(file), Go: toolchain(), CacheDir: "/cache"}
}

func vkey(t *testing.T, name string) string {
	t.Helper()
	_, v, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWithoutAnyConfigurationTheGoCommandsWordsApply(t *testing.T) {
	in := input("")
	in.Go = toolchain("GOPRIVATE=git.corp.example", "GONOSUMDB=x.example", "GOVCS=*:git", "GOINSECURE=lab.example")
	l, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, r := range l.Show() {
		rows[r.Key] = r.Value + " | " + r.From.String()
	}
	for key, want := range map[string]string{
		"listen":             "127.0.0.1:7070 | default",
		"region":             " | default",
		"data":               filepath.FromSlash("/cache/sluice") + " | default",
		"proxy":              "https://proxy.example.com,direct | go env (GOPROXY, /goroot/go.env:1)",
		"private":            "git.corp.example | go env (GOPRIVATE, environment)",
		"noproxy":            "git.corp.example | go env (GONOPROXY, follows GOPRIVATE)",
		"nosumdb":            "x.example | go env (GONOSUMDB, environment)",
		"gosumdb":            "sum.golang.org | go env (GOSUMDB, /goroot/go.env:2)",
		"sumdb":              "sum.golang.org https://sum.golang.org " + goenv.SumDBKey("sum.golang.org") + " | default (follows gosumdb)",
		"govcs":              "*:git | go env (GOVCS, environment)",
		"goinsecure":         "lab.example | go env (GOINSECURE, environment)",
		"failover":           "as-written | default",
		"modcache":           "auto | default",
		"lists.fresh":        "1m | default",
		"lists.stale":        "2s | default",
		"sources.timeout":    "30s | default",
		"sources.connect":    "10s | default",
		"sources.redirects":  " | default",
		"sources.strategy":   "ordered | default",
		"source":             " | default",
		"lists.merge":        "first | default",
		"sources.backoff":    "300ms | default",
		"sources.fence":      "24h | default",
		"sources.heartbeat":  "5s | default",
		"sources.patience":   "2.4s | default",
		"sources.pieces":     "4 | default",
		"sources.retries":    "3 | default",
		"lookahead.enabled":  "true | default",
		"lookahead.parallel": "32 | default",
		"store.hot":          "64MiB | default",
		"store.reserve":      "256MiB | default",
		"store.quota":        "0 | default",
		"log.format":         "text | default",
		"log.level":          "info | default",
		"run.lay":            "true | default",
		"origin.enabled":     "true | default",
		"origin.timeout":     "10m | default",
		"origin.parallel":    "4 | default",
		"admin.token_file":   " | default",
		"limits.idle":        "2m | default",
		"limits.stall":       "2m | default",
	} {
		if rows[key] != want {
			t.Errorf("%s: %s, want %s", key, rows[key], want)
		}
		delete(rows, key)
	}
	if len(rows) > 0 {
		t.Errorf("not expected: %v", rows)
	}
}

// The file that the conformance suite writes, with its lines that are empty if
// no database is configured.
func TestTheConformanceFileLoads(t *testing.T) {
	key := vkey(t, "sumdb.conform.test/path")
	for _, db := range []bool{true, false} {
		file := `listen = "127.0.0.1:45678"
data = "/tmp/cache"
proxy = "http://127.0.0.1:1234,direct"
private = ""
gosumdb = "off"
[lists]
fresh = "1s"
[sources]
timeout = "8s"
` + "\n\n\n\n"
		if db {
			file = strings.TrimRight(file, "\n") + fmt.Sprintf("\n[[sumdb]]\nname = %q\nurl = %q\nkey = %q\n", "sumdb.conform.test/path", "http://127.0.0.1:99", key)
			file = strings.Replace(file, `"off"`, `"`+key+` http://127.0.0.1:99"`, 1)
		}
		l, err := Load(input(file))
		if err != nil {
			t.Fatal(err)
		}
		if l.Listen != "127.0.0.1:45678" || l.Lists.Fresh != time.Second || l.Sources.Timeout != 8*time.Second || len(l.Proxy) != 2 || l.GoSumDB.Off == db {
			t.Errorf("%+v", l.Config)
		}
		want := []goenv.SumDB(nil)
		if db {
			want = []goenv.SumDB{{Name: "sumdb.conform.test/path", Key: key, URL: "http://127.0.0.1:99"}}
		}
		if !reflect.DeepEqual(l.SumDB, want) {
			t.Errorf("SumDB = %+v", l.SumDB)
		}
	}
}

func TestFlagBeforeEnvironmentBeforeFileBeforeGoEnv(t *testing.T) {
	in := input("proxy = 'https://file.example'\n[lists]\nfresh = '1s'\nstale = '3s'\n[log]\nlevel='warn'\n[lookahead]\nparallel=0x10\nenabled=false")
	in.Environ = []string{"SLUICE_LISTS_FRESH=2s", "SLUICE_LISTS_STALE=4s", "SLUICE_LISTS_STALE=9s", "SLUICE_LOG_LEVEL="}
	in.Flags = map[string]string{"lists.stale": "5s"}
	in.Defaults = map[string]string{"failover": Proxies, "lists.fresh": "7s"}
	l, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	if l.Lists.Fresh != 2*time.Second || l.Lists.Stale != 5*time.Second || l.Log.Level != slog.LevelWarn || l.LookAhead.Parallel != 16 || l.LookAhead.Enabled || l.Failover != Proxies {
		t.Errorf("%+v", l.Config)
	}
	for key, want := range map[string]string{
		"lists.fresh": "environment (SLUICE_LISTS_FRESH)", "lists.stale": "flag (--lists-stale)", "log.level": "file (sluice.toml:6)",
		"proxy": "file (sluice.toml:1)", "failover": "default", "lookahead.parallel": "file (sluice.toml:8)",
	} {
		if got := l.From[key].String(); got != want {
			t.Errorf("%s is from %s, want %s", key, got, want)
		}
	}
}

func TestNoproxyAndNosumdbFollowPrivateWhereItIsOurs(t *testing.T) {
	in := input(`private = "git.corp.example"`)
	in.Go = toolchain("GONOPROXY=other.example", "GOPRIVATE=third.example")
	l, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	if l.NoProxy != "git.corp.example" || l.NoSumDB != "git.corp.example" || l.From["noproxy"].Where != "follows private" {
		t.Errorf("noproxy %q, nosumdb %q", l.NoProxy, l.NoSumDB)
	}
	in.Data = []byte("private = \"git.corp.example\"\nnoproxy = \"\"\n")
	if l, err = Load(in); err != nil || l.NoProxy != "" || l.NoSumDB != "git.corp.example" {
		t.Errorf("noproxy %q, nosumdb %q, %v", l.NoProxy, l.NoSumDB, err)
	}
	in.Data = nil
	if l, err = Load(in); err != nil || l.NoProxy != "other.example" || l.NoSumDB != "third.example" {
		t.Errorf("noproxy %q, nosumdb %q, %v", l.NoProxy, l.NoSumDB, err)
	}
}

func TestAllMistakesAreReportedAtOnceWithPlaceAndMend(t *testing.T) {
	in := input(`listen = 7070
dta = "/srv"
proxy = "https://u:secret@a.example,Direct"
private = "git.corp.example, *.internal.example/..."

[lists]
fresh = 60
stael = "1s"
proxy = "https://a.example"
[sources]
timeout = "-1s"
connect = "30"
[lookahead]
enabled = "yes"
parallel = "8"
[store]
hot = 64
reserve = "256"
[log]
level = "inof"
format = "xml"
[origin]
parallel = 0
timeout = "1d"
[limtis]
idle = "1m"
[[sumdb]]
name = "sum.example.org"
`)
	in.Environ = []string{"SLUICE_LISTS_FRSH=1m", "SLUICE_PORT=8080", "SLUICE_ORIGIN_PARALLEL=x", "SLUICE_CONFIG=/x", "SLUICE_PORT_7070_TCP=tcp://10.0.0.1:7070", "PATH=/bin"}
	in.Flags = map[string]string{"listen": "localhost", "dada": "x"}
	_, err := Load(in)
	want := `sluice.toml:1: listen: it must be an address in quotes, not a number; write listen = "127.0.0.1:7070"
sluice.toml:2: dta: there is no such key; remove it (did you mean "data"?)
sluice.toml:3: proxy: entry 2 of the proxy list, "Direct", must be written in small letters: direct
sluice.toml:4: private: the pattern " *.internal.example/..." has a space around it, so it matches nothing; write *.internal.example
sluice.toml:7: lists.fresh: a duration needs its unit, in quotes; write fresh = "60s"
sluice.toml:8: lists.stael: there is no such key; remove it (did you mean "lists.stale"?)
sluice.toml:9: lists.proxy: proxy does not belong to [lists]; move it to the top of the file, before the first [table]
sluice.toml:11: sources.timeout: it must not be negative; write 30s
sluice.toml:12: sources.connect: the duration has no unit; write 30s
sluice.toml:14: lookahead.enabled: it must be true or false without quotes; write enabled = true
sluice.toml:15: lookahead.parallel: it must be a number without quotes; write parallel = 32
sluice.toml:17: store.hot: a size needs its unit, in quotes; write hot = "64MiB"
sluice.toml:18: store.reserve: the size has no unit; write 256MiB, or 256B for bytes
sluice.toml:20: log.level: "inof" is none of debug, info, warn, error (did you mean "info"?)
sluice.toml:21: log.format: "xml" is none of text, json
sluice.toml:23: origin.parallel: it must be more than 0; write 4
sluice.toml:24: origin.timeout: there is no unit for days; write 24h
sluice.toml:25: limtis: there is no such table; remove it (did you mean "limits"?)
sluice.toml:27: sumdb: the database "sum.example.org" needs its key; write key = "sum.example.org+HASH+KEY" as its operator publishes it
SLUICE_LISTS_FRSH: there is no such variable; remove it (did you mean "SLUICE_LISTS_FRESH"?)
SLUICE_PORT: there is no such variable; remove it (did you mean "SLUICE_LISTEN"?)
--dada: there is no such key (did you mean "data"?)
--listen: listen: "localhost" is not HOST:PORT; write 127.0.0.1:7070, or :7070 for all interfaces
SLUICE_ORIGIN_PARALLEL: origin.parallel: it is not a whole number; write 4`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestEachMistakeHasItsSentence(t *testing.T) {
	good, other := vkey(t, "sumdb.example.com"), vkey(t, "other.example.com")
	for _, tt := range []struct{ file, want string }{
		{"listen = ", `sluice.toml:1: the file is not well-formed TOML here:`},
		{"\n\nlisten = 127.0.0.1:7070", `sluice.toml:3: the file is not well-formed TOML here:`},
		{"listen = on", `write texts in quotes: key = "value"`},
		{"[lists", `sluice.toml:1: the file is not well-formed`},
		{"data = '/a'\ndata = '/b'", `sluice.toml:2: data: it is set at sluice.toml:1 already; remove one of the two`},
		{"[lists]\nfresh='1s'\n[lists]\nstale='1s'", `sluice.toml:3: the file is not well-formed TOML here: table lists already exists`},
		{"listen = 1979-02-31", "listen: it must be an address in quotes, not a date or time"},
		{"lists = '1m'", "sluice.toml:1: lists: it is a table; write [lists] and its keys below"},
		{"[[lists]]\nfresh='1m'", "sluice.toml:1: lists: there is one only, so it needs single brackets; write [lists]"},
		{"[listen]\nport=1", "sluice.toml:1: listen: it is a key and not a table"},
		{"listen.port = 1", "listen.port: listen is an address and has nothing below it"},
		{"[sumdb]\nname='x'", "sluice.toml:1: sumdb: there can be several, so it needs two brackets; write [[sumdb]]"},
		{"sumdb = 'x'", "write [[sumdb]]"},
		{"[[sumdb]]\nnmae='x'", `sluice.toml:2: sumdb.nmae: there is no such key; remove it (did you mean "sumdb.name"?)`},
		{"[[sumdb]]\nname=3", `sluice.toml:2: sumdb.name: it must be a string in quotes, not a number`},
		{"[[sumdb]]\nname='sum.golang.org'\nproxy='x'", `sluice.toml:3: sumdb.proxy: proxy does not belong to [[sumdb]]`},
		{"[[sumdb]]\nkey='" + good + "'", `sluice.toml:1: sumdb: a database needs its name`},
		{"[[sumdb]]\nname='other.example.com'\nkey='" + good + "'", `sluice.toml:3: sumdb.key: this is the key of "sumdb.example.com", and the database is called "other.example.com"`},
		{"[[sumdb]]\nname='sumdb.example.com'\nkey='sumdb.example.com+00+x'", `sluice.toml:3: sumdb.key: the key of the checksum database`},
		{"[[sumdb]]\nname='sumdb.example.com'\nkey='" + good + "'\nurl='sumdb.example.com'", `sluice.toml:4: sumdb.url: the URL of the checksum database`},
		{"[[sumdb]]\nname='sumdb.example.com'\nkey='" + good + "'\nurl='file:///x'", `asked by http or https`},
		{"[[sumdb]]\nname='sum.golang.org'\n[[sumdb]]\nname='sum.golang.org'", `sluice.toml:4: sumdb.name: two databases are called "sum.golang.org"`},
		{"sumdb=[{name='other.example.com', key='" + other + "'},\n{name='x'}]", `sluice.toml:2: sumdb: the database "x" needs its key`},
		{"gosumdb = 'sum.example.org'", "its key is needed"},
		{"gosumdb = '" + good + " file:///x'", "asked by http or https"},
		{"private = ['a.example']", "it must be one string with commas in it"},
		{"proxy = 'https://a.example https://b.example'", `has a space in it; separate entries by "," or "|"`},
		{"proxy = 'https//proxy.example.com,direct'", `sluice.toml:1: proxy: "https//proxy.example.com" names a host called "https"; a colon is missing after it (did you mean "https://proxy.example.com,direct"?)`},
		{"proxy = 'https://a.example,direct,https://b.example'", `sluice.toml:1: proxy: "https://b.example" stands behind "direct", where the go command stops reading (did you mean "https://a.example,https://b.example,direct"?)`},
		{"proxy = 'https://a.example;direct'", `sluice.toml:1: proxy: a semicolon after "https://a.example" does not separate entries; write "," or "|" (did you mean "https://a.example,direct"?)`},
		{"govcs = 'public:gti'", `"gti"`},
		{"goinsecure = 'https://x.example'", "scheme of a URL"},
		{"goproxy = 'direct'", `did you mean "proxy"?`},
		{"[sources]\nfresh = '1s'", `sluice.toml:2: sources.fresh: there is no such key; remove it (did you mean "lists.fresh"?)`},
		{"log_level = 'info'", `did you mean "log.level"?`},
		{"Listen = ':1'", `did you mean "listen"?`},
		{"'lists.fresh' = '1s'", `"lists.fresh": there is no such key`},
		{"data = ''", "it is empty; write /var/lib/sluice"},
		{"data = '~/x'", "~ is understood by shells only"},
		{"listen = '7070'", "write 127.0.0.1:7070, or :7070"},
		{"listen = 'http://127.0.0.1:7070'", "an address has no scheme"},
		{"listen = '127.0.0.1:70700'", "not a number from 0 to 65535"},
		{"listen = '127.0.0.1:http'", "not a number from 0 to 65535"},
		{"listen = 'a b:1'", "is no host or IP address"},
		{"[lookahead]\nparallel = 1000", "it must be at most 256"},
		{"[lookahead]\nparallel = 99999999999999999999", "not a number that can be meant"},
		{"[lookahead]\nparallel = 1.5", "it must be a number, not a fraction"},
		{"[store]\nhot = '64 apples'", `"64 apples" is not a size`},
		{"[store]\nhot = '-1MiB'", "must not be negative"},
		{"[store]\nhot = '1e30TiB'", "larger than any disk"},
		{"[lists]\nfresh = 'soon'", `"soon" is not a duration; write 500ms, 30s, 1m or 1h30m`},
		{"[sources]\ntimeout = '0s'", "it must be more than 0"},
		{"proxy = 'direct'\n[origin]\nenabled = false", "sluice.toml:3: origin.enabled: it is false, but version control (direct) is the only source"},
	} {
		l, err := Load(input(tt.file))
		errs, _ := errors.AsType[Errors](err)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
			t.Errorf("%s\ngives: %v\nwant one with: %s", tt.file, err, tt.want)
		}
		if l == nil || len(l.From) != len(Keys()) {
			t.Errorf("%s: Loaded is not complete beside the errors", tt.file)
		}
	}
}

func TestTwoKeysOfOneNameAreWarnedOf(t *testing.T) {
	good := vkey(t, "sumdb.example.com")
	l, err := Load(input("gosumdb='" + good + "'\n[[sumdb]]\nname='sumdb.example.com'\nkey='" + sameName(t, good) + "'"))
	if err != nil || len(l.Warnings) != 1 || !strings.HasPrefix(l.Warnings[0].Error(), "sluice.toml:4: sumdb.key: gosumdb has another key") {
		t.Errorf("%v, %v", l.Warnings, err)
	}
}

// sameName is another key of the same name.
func sameName(t *testing.T, key string) string {
	name, _, _ := strings.Cut(key, "+")
	return vkey(t, name)
}

func TestGoodValuesInEveryFormAreTaken(t *testing.T) {
	key := vkey(t, "sumdb.example.com")
	for _, file := range []string{
		"\ufefflisten = ':0'", "listen = '[::1]:7070'\r\ndata = '/x'\r\n", "listen = 'localhost:1'",
		"lists.fresh = '0.5s'\nlists.stale = '0s'", "lists = {fresh = '90s', stale = '1h'}", "[lists]\n[sources]\n",
		"proxy = ''\ngosumdb = ''", "proxy = 'off'", "proxy = 'file:///srv/mod'", "private = '*'",
		"[store]\nhot = '0'\nreserve = '1.5 GiB'", "sumdb = []", "[[sumdb]]\nname = 'sum.golang.org'\n",
		"sumdb = [{name = 'sumdb.example.com', key = '" + key + "'}]", "\"listen\" = ':1'", "govcs = ''",
		"[store]\nhot='1000kB'\n[lookahead]\nparallel=1_0", "# only a comment", "",
	} {
		if _, err := Load(input(file)); err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestSumDBsComeByFlagAndVariableToo(t *testing.T) {
	a, b := vkey(t, "a.example.com"), vkey(t, "b.example.com/x")
	in := input("[[sumdb]]\nname = 'sum.golang.org'")
	in.Environ = []string{"SLUICE_SUMDB=a.example.com https://m.example/a " + a + "; sum.golang.org"}
	l, err := Load(in)
	if err != nil || len(l.SumDB) != 2 || l.SumDB[0].URL != "https://m.example/a" || l.SumDB[1].Name != "sum.golang.org" || l.From["sumdb"].Layer != Environ {
		t.Errorf("%+v, %v", l.SumDB, err)
	}
	in.SumDBs = []string{"b.example.com/x https://m.example/b " + b}
	l, err = Load(in)
	if err != nil || len(l.SumDB) != 1 || l.SumDB[0].Key != b || l.From["sumdb"].Where != "--sumdb" {
		t.Errorf("%+v, %v", l.SumDB, err)
	}
	in.SumDBs = []string{"b.example.com https://m.example/b " + b + " more", "b.example.com https://m.example/b " + b}
	_, err = Load(in)
	if errs, _ := errors.AsType[Errors](err); len(errs) != 2 || !strings.HasPrefix(errs[0].Error(), "--sumdb: sumdb: 4 words") {
		t.Errorf("%v", err)
	}
}

func TestWhatTheGoCommandIgnoresIsAWarningAndWhatItRefusesAnError(t *testing.T) {
	in := input("")
	in.Go = toolchain("GOPRIVATE=git.corp.example, other.example", "GOVCS=x")
	l, err := Load(in)
	if errs, _ := errors.AsType[Errors](err); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "GOVCS, environment: govcs: ") {
		t.Errorf("errors: %v", err)
	}
	if len(l.Warnings) != 1 || !strings.HasPrefix(l.Warnings[0].Error(), "GOPRIVATE, environment: private: the pattern") {
		t.Errorf("warnings: %v", l.Warnings)
	}
	if l.Private != "git.corp.example, other.example" {
		t.Errorf("private = %q", l.Private)
	}
}

func TestWithoutAnySourceOrDirectoryItSaysWhatToWrite(t *testing.T) {
	l, err := Load(Input{})
	want := "data: no directory is given, and this user has no cache directory; write data = \"/var/lib/sluice\"\n" +
		"proxy: no source is given, and no go command with a default of its own (GOROOT/go.env) was found; write proxy = \"https://a.example|https://b.example,direct\""
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if l.GoSumDB.Name != "sum.golang.org" {
		t.Errorf("gosumdb = %v: verification must be on", l.GoSumDB)
	}
}

func TestSecretsShowNowhere(t *testing.T) {
	in := input("proxy = 'https://user:secret@a.example|https://secret@b.example/?t=secret,direct'\ngosumdb = 'sum.golang.org https://u:secret@s.example'\n[[sumdb]]\nname = 'sum.golang.org'\nurl = 'https://u:secret@s.example'\n")
	l, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Proxy[0].URL; !strings.Contains(got, "secret") {
		t.Errorf("the password is lost: %q", got)
	}
	other := l.Config
	other.Proxy = slices.Clone(l.Proxy)
	other.Proxy[0].URL = "https://user:secret2@a.example"
	texts := fmt.Sprint(l.Show(), Diff(l.Config, other), Diff(l.Config, Config{}))
	for _, file := range []string{
		"proxy = 'https://u:se cret:secret@a.example/'", "proxy = 'https://u:secret/secret@x.example'",
		"proxy = 'ftp://u:secret@a.example'", "proxy = ['https://u:secret@a.example']", "gosumdb = 'https://u:secret@s.example'",
		"gosumdb = 'sum.golang.org ftp://u:secret@s.example'", "[[sumdb]]\nname='sum.golang.org'\nurl='ftp://u:secret@x'", "[[sumdb]]\nname='https://u:secret@x.example'",
		"failover = 'https://u:secret@a.example'", "listen = 'u:secret@host:1'", "'https://u:secret@x' = 1",
		"proxy = 'https://u:secret@a.example\n'", "prxy = 'https://u:secret@a.example'", "private = 'https://u:secret@git.corp.example'",
	} {
		_, err := Load(input(file))
		if err == nil {
			t.Errorf("%s is accepted", file)
			continue
		}
		texts += err.Error()
	}
	if strings.Contains(texts, "secret") {
		t.Errorf("a secret shows in\n%s", texts)
	}
}

func TestDiffNamesTheKeysThatDifferAndWhichNeedARestart(t *testing.T) {
	a, err := Load(input(""))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(input("listen=':1'\n[lists]\nfresh='5s'\n[store]\nhot='1MiB'"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range Diff(a.Config, b.Config) {
		got = append(got, c.String())
	}
	want := []string{`listen: "127.0.0.1:7070" → ":1" (needs a restart)`, `lists.fresh: "1m" → "5s"`, `store.hot: "64MiB" → "1MiB" (needs a restart)`}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if d := Diff(a.Config, a.Config); d != nil {
		t.Errorf("a Config differs from itself: %v", d)
	}
}

// Every field of Config has exactly one key, of the same name, and every key
// sets its field and nothing else.
func TestTableAndStructAgree(t *testing.T) {
	var fields []string
	var walk func(prefix string, rt reflect.Type)
	walk = func(prefix string, rt reflect.Type) {
		for f := range rt.Fields() {
			name := prefix + strings.ToLower(f.Name)
			if f.Type.Kind() == reflect.Struct && f.Type.Name() == "" {
				walk(name+".", f.Type)
				continue
			}
			fields = append(fields, name)
		}
	}
	walk("", reflect.TypeFor[Config]())
	var names []string
	for _, k := range Keys() {
		names = append(names, strings.ReplaceAll(k.Name, "_", ""))
		if k.Help == "" || strings.ContainsAny(k.Help, "\n") || strings.HasSuffix(k.Help, ".") || k.example() == "" {
			t.Errorf("%s has no proper help or example", k.Name)
		}
		if k.DefaultText() == "" {
			t.Errorf("%s does not say what its default is", k.Name)
		}
		if k.GoVar != "" && !slices.Contains(goenv.Names(), k.GoVar) {
			t.Errorf("%s follows %s, which goenv does not know", k.Name, k.GoVar)
		}
		var c Config
		path := strings.Split(strings.ReplaceAll(k.Name, "_", ""), ".")
		rv := reflect.ValueOf(&c).Elem()
		for _, elem := range path {
			rv = rv.FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, elem) })
		}
		if got := reflect.ValueOf(k.field(&c)).Pointer(); got != rv.Addr().Pointer() {
			t.Errorf("%s sets another field", k.Name)
		}
		if k.isTables() {
			continue
		}
		if bad := k.set(&c, k.example()); bad != nil {
			t.Errorf("%s refuses its own example: %v", k.Name, bad)
		}
		if got := k.text(&c); got != k.example() {
			t.Errorf("%s = %q reads back as %q", k.Name, k.example(), got)
		}
		if f := k.Flag(); f != strings.ToLower(f) || strings.ContainsAny(f, "._") || !regexp.MustCompile(`^SLUICE_[A-Z_]+$`).MatchString(k.Env()) {
			t.Errorf("%s: flag %q, variable %q", k.Name, f, k.Env())
		}
	}
	slices.Sort(fields)
	slices.Sort(names)
	if !slices.Equal(fields, names) {
		t.Errorf("fields %v\nkeys   %v", fields, names)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("listen = ':1'\n[lists]\nfresh='1m'\n[[sumdb]]\nname='sum.golang.org'\n"))
	f.Add([]byte("a.b.c = {d = [1, {e='f'}]}\n[[x]]\n['q\\n']\n"))
	f.Add([]byte("sumdb=[{name='x'},1]\n[sumdb]\n[[lists]]\nlists=1\nlisten.x=2\n\"lists.fresh\"=1979-05-27T07:32:00Z"))
	f.Add([]byte("[store]\nhot='NaNB'\nreserve='1e999TiB'\n[lookahead]\nparallel=0o7\nenabled=nan"))
	f.Add([]byte("source=[{url='https://proxy.example.com', rate=1e9}]\n[[source]]\nurl='https://b.example'\nweight=-1\nfamily='5'\nresolver='x'\n"))
	f.Add([]byte("\xef\xbb\xbf\r\n[lists]\r\nstale=\"\"\"\n1s\"\"\"\n"))
	line := regexp.MustCompile(`^sluice\.toml:[1-9][0-9]*: `)
	f.Fuzz(func(t *testing.T, data []byte) {
		in := input("")
		in.Data = data
		l, err := Load(in)
		if len(l.From) != len(Keys()) || len(l.Show()) < len(Keys()) {
			t.Errorf("incomplete: %v", l.From)
		}
		if err == nil {
			// What can be shown can be set again.
			for _, k := range Keys() {
				var c Config
				if text := k.text(&l.Config); !k.isTables() && text != "" {
					if bad := k.set(&c, text); bad != nil {
						t.Errorf("%s = %q is refused: %v", k.Name, text, bad)
					}
				}
			}
			return
		}
		for _, e := range err.(Errors) {
			s := e.Error()
			if !line.MatchString(s) || strings.ContainsAny(s, "\n\r") {
				t.Errorf("an error of the file without its line, or of several lines: %q", s)
			}
			if n := lineOf(e.Where); n > 1+strings.Count(string(data), "\n") {
				t.Errorf("line %d of %d: %q", n, 1+strings.Count(string(data), "\n"), s)
			}
		}
	})
}

func TestTheModuleCacheIsThatOfTheGoCommandUnlessItIsNamed(t *testing.T) {
	for _, tt := range []struct {
		key  string   // a line of the file
		env  []string // of the go command
		want []Tree
	}{
		{"", nil, nil}, // nobody has a home
		{"", []string{"HOME=/home/ann"}, []Tree{{"/home/ann/go/pkg/mod/cache/download", "/home/ann/go/pkg/sumdb"}}},
		{"modcache = 'auto'", []string{"GOMODCACHE=/mod", "GOPATH=/go:/more"}, []Tree{{"/mod/cache/download", "/go/pkg/sumdb"}}},
		{"", []string{"GOMODCACHE=mod"}, nil}, // which the go command refuses
		{"modcache = 'off'", []string{"GOMODCACHE=/mod"}, nil},
		{"modcache = '/home/bob/go/pkg/mod'", []string{"GOMODCACHE=/mod", "GOPATH=/go"}, []Tree{{"/home/bob/go/pkg/mod/cache/download", "/home/bob/go/pkg/sumdb"}}},
		{"modcache = '/mod'", nil, []Tree{{"/mod/cache/download", "/mod/cache/download/sumdb"}}},
	} {
		in := input(tt.key)
		in.Go = toolchain(tt.env...)
		l, err := Load(in)
		if err != nil || !slices.Equal(l.Trees, tt.want) {
			t.Errorf("%s with %q: Trees = %+v, %v; want %+v", tt.key, tt.env, l.Trees, err, tt.want)
		}
	}
	for text, want := range map[string]string{"mod": "nor a whole path", "Off": `did you mean "off"`, "~/go": "~ is understood by shells only", "": "it is empty"} {
		if _, err := Load(input("modcache = '" + text + "'")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("modcache %q: %v; want %q", text, err, want)
		}
	}
}
