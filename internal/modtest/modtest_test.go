package modtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

const quoteTxtar = `
# the classic
-- rsc.io/quote@v1.5.2/go.mod --
module rsc.io/quote

require rsc.io/sampler v1.3.0
-- rsc.io/quote@v1.5.2/quote.go --
package quote

import "rsc.io/sampler"

func Hello() string { return sampler.Hello() }
-- rsc.io/sampler@v1.3.0/sampler.go --
package sampler

func Hello() string { return "Hello, world." }
`

// get is a whole answer: status, body, headers.
func get(t *testing.T, c *http.Client, url string, hdr ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(hdr); i += 2 {
		req.Header.Set(hdr[i], hdr[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestEveryZipIsOneThatTheGoCommandWouldTake(t *testing.T) {
	w := New(t)
	mods := w.AddTxtar(quoteTxtar)
	mods = append(mods,
		w.Add("example.com/plain", "v0.1.0", nil),
		w.Add("example.com/Upper/v3", "v3.0.0-RC1", nil),
		w.Add("gopkg.in/yaml.v3", "v3.0.1", nil),
		w.Add("example.com/old", "v2.3.4+incompatible", nil),
		w.Add("golang.org/toolchain", "v0.0.1-go1.26.0.linux-amd64", nil),
		w.Add("example.com/plain", "v0.0.0-20240101000000-abcdefabcdef", nil),
		w.Big("example.com/big", "v1.0.0", 3<<20),
		w.Big("example.com/huge", "v1.0.0", bigFile+1))
	for _, m := range mods {
		name := filepath.Join(t.TempDir(), "m.zip")
		if err := os.WriteFile(name, w.Zip(m), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := modzip.CheckZip(m, name); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		if h, err := dirhash.HashZip(name, dirhash.Hash1); err != nil || h != w.H1Zip(m) {
			t.Errorf("%s: H1Zip = %s; the zip has %s, %v", m, w.H1Zip(m), h, err)
		}
		if err := goproxy.CheckMod(w.Mod(m)); err != nil {
			t.Errorf("%s: .mod: %v", m, err)
		}
		if _, err := goproxy.ParseInfo(w.Info(m), m); err != nil {
			t.Errorf("%s: .info: %v", m, err)
		}
	}
	if got := w.Modules(); len(got) != len(mods) {
		t.Errorf("Modules() has %d versions, want %d", len(got), len(mods))
	}
}

func TestBigPayloadsAreTheSameForTheSameNameAndDoNotCompress(t *testing.T) {
	a, b := New(t), New(t)
	m := a.Big("example.com/big", "v1.0.0", 1<<20)
	b.Big("example.com/big", "v1.0.0", 1<<20)
	other := b.Big("example.com/big", "v1.1.0", 1<<20)
	if !bytes.Equal(a.Zip(m), b.Zip(m)) {
		t.Error("two worlds made different bytes of one version")
	}
	if a.H1Zip(m) == b.H1Zip(other) {
		t.Error("two versions have the same payload")
	}
	if n := len(a.Zip(m)); n < 1<<20 || n > 1<<20+4096 {
		t.Errorf("a payload of 1 MiB made a zip of %d bytes", n)
	}
}

func TestATxtarHeaderNamesVersionTimeAndQueries(t *testing.T) {
	w := New(t)
	w.AddTxtar("module rsc.io/quote@v1.5.2\ntime 2018-02-14T15:44:20Z\nquery master feature/x\n-- quote.go --\npackage quote\n-- .info --\nspoiled by time\n")
	s := Serve(t, w.Handler())
	for _, rev := range []string{"v1.5.2", "master", "feature/x"} {
		_, body, _ := get(t, s.Client(), s.URL+"/rsc.io/quote/@v/"+rev+".info")
		if body != `{"Version":"v1.5.2","Time":"2018-02-14T15:44:20Z"}` {
			t.Errorf("%s.info = %s", rev, body)
		}
	}
	for _, bad := range []string{
		"", "module rsc.io/quote\n-- a --\n", "module rsc.io/quote@v1\n-- a --\n", "-- a.go --\n", "-- rsc.io/quote@v1.0.0 --\n",
		"query master\n-- rsc.io/quote@v1.0.0/a.go --\n", "modul rsc.io/quote@v1.0.0\n-- a.go --\n",
		"module rsc.io/quote@v1.0.0\ntime yesterday\n-- a.go --\n", "module rsc.io/quote@v1.0.0\n-- a.go --\n-- a.go --\n",
	} {
		if mods, err := parseTxtar(bad); err == nil {
			t.Errorf("parseTxtar(%q) = %v; want an error", bad, mods)
		}
	}
}

func TestTheProxyAnswersAsTheProtocolSays(t *testing.T) {
	w := New(t)
	m := w.Add("example.com/Mod", "v1.0.0", nil)
	w.Add("example.com/Mod", "v1.2.0-rc.1", nil)
	w.Add("example.com/Mod", "v1.1.0", nil)
	w.Add("example.com/Mod", "v1.1.1-0.20240601000000-aaaaaaaaaaaa", nil)
	w.Add("example.com/tip", "v0.0.0-20240101000000-aaaaaaaaaaaa", nil)
	w.Add("example.com/tip", "v0.0.0-20240201000000-bbbbbbbbbbbb", nil)
	w.SetQuery("example.com/Mod", "Main", "v1.1.0")
	s := Serve(t, w.Handler())
	c := s.Client()
	version := func(body string) string {
		var v struct{ Version string }
		json.Unmarshal([]byte(body), &v)
		return v.Version
	}
	base := s.URL + "/example.com/!mod"
	if _, body, _ := get(t, c, base+"/@v/list"); body != "v1.0.0\nv1.1.0\nv1.2.0-rc.1\n" {
		t.Errorf("list = %q", body)
	}
	if _, body, _ := get(t, c, base+"/@latest"); version(body) != "v1.1.0" {
		t.Errorf("latest = %s", body)
	}
	if _, body, _ := get(t, c, base+"/@v/!main.info"); version(body) != "v1.1.0" {
		t.Errorf("branch = %s", body)
	}
	if status, body, _ := get(t, c, s.URL+"/example.com/tip/@v/list"); status != 200 || body != "" {
		t.Errorf("list of an untagged module = %d %q", status, body)
	}
	if _, body, _ := get(t, c, s.URL+"/example.com/tip/@latest"); version(body) != "v0.0.0-20240201000000-bbbbbbbbbbbb" {
		t.Errorf("latest of an untagged module = %s", body)
	}
	status, body, hdr := get(t, c, base+"/@v/v1.0.0.zip")
	if status != 200 || body != string(w.Zip(m)) || hdr.Get("ETag") == "" || hdr.Get("Accept-Ranges") != "bytes" {
		t.Errorf("zip: %d, %d bytes, %v", status, len(body), hdr)
	}
	status, rest, _ := get(t, c, base+"/@v/v1.0.0.zip", "Range", "bytes=100-", "If-Range", hdr.Get("ETag"))
	if status != 206 || rest != body[100:] {
		t.Errorf("range: %d, %d bytes; want 206 and %d", status, len(rest), len(body)-100)
	}
	w.Replace("example.com/Mod", "v1.0.0", Files{"other.go": "package other\n"})
	if status, _, _ := get(t, c, base+"/@v/v1.0.0.zip", "Range", "bytes=100-", "If-Range", hdr.Get("ETag")); status != 200 {
		t.Errorf("range of a replaced zip: %d, want 200", status)
	}
	w.Remove(m)
	for _, p := range []string{"/example.com/!mod/@v/v1.0.0.mod", "/example.com/none/@v/list", "/example.com/!mod/@v/nix.info", "/sumdb/sumdb.test/supported", "/x"} {
		if status, body, _ := get(t, c, s.URL+p); status != 404 || !strings.HasPrefix(body, "not found") {
			t.Errorf("%s: %d %q", p, status, body)
		}
	}
	if n := w.Hits("/example.com/!mod/@v/v1.0.0.zip"); n != 3 || w.Hits("example.com/!mod/@v/v1.0.0.zip") != n {
		t.Errorf("Hits of the zip = %d, want 3", n)
	}
	if n := w.HitsPrefix("/example.com/tip/"); n != 2 {
		t.Errorf("HitsPrefix = %d, want 2", n)
	}
	if want := "GET /example.com/!mod/@v/v1.0.0.zip bytes=100-"; !slices.Contains(w.Log(), want) {
		t.Errorf("the log %q lacks %q", w.Log(), want)
	}
}

func TestTheGoCommandDownloadsAndBuildsTheWorldWithTheChecksumDatabaseOn(t *testing.T) {
	w := New(t)
	mods := w.AddTxtar(quoteTxtar)
	big := w.Big("example.com/big", "v1.0.0", 256<<10)
	db := w.SumDB("sumdb.test")
	w.Mount(db)
	s := Serve(t, w.Handler())
	tree := t.TempDir()
	w.WriteTree(tree)
	dbServer := Serve(t, db)
	for name, env := range map[string][]string{
		"both through the proxy": GoEnv(t, s.URL, db.GOSUMDB("")),
		"a tree of files":        GoEnv(t, "file://"+filepath.ToSlash(tree), db.GOSUMDB(dbServer.URL)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, Files{
				"go.mod":  "module example.test/main\n\nrequire (\n\trsc.io/quote v1.5.2\n\texample.com/big v1.0.0\n)\n",
				"main.go": "package main\n\nimport (\n\t_ \"example.com/big\"\n\t\"rsc.io/quote\"\n)\n\nfunc main() { println(quote.Hello()) }\n",
			})
			if _, stderr, exit := Go(t, env, dir, "mod", "tidy"); exit != 0 {
				t.Fatalf("go mod tidy: exit %d\n%s", exit, stderr)
			}
			if _, stderr, exit := Go(t, env, dir, "mod", "verify"); exit != 0 {
				t.Fatalf("go mod verify: exit %d\n%s", exit, stderr)
			}
			sum, _ := os.ReadFile(filepath.Join(dir, "go.sum"))
			for _, m := range append(mods, big) {
				if !strings.Contains(string(sum), w.GoSum(m)) {
					t.Errorf("go.sum lacks the lines of %s:\n%s", m, sum)
				}
			}
		})
	}
	if db.HitsPrefix("lookup/") == 0 || w.HitsPrefix("sumdb/sumdb.test/tile/")+w.HitsPrefix("sumdb/sumdb.test/lookup/") == 0 {
		t.Error("the checksum database was not asked")
	}
}

func TestTheGoCommandTrustsAnH2ServerByItsCAFile(t *testing.T) {
	w := New(t)
	m := w.Add("example.com/a", "v1.0.0", nil)
	s := ServeH2TLS(t, w.Handler())
	_, stderr, exit := Go(t, GoEnv(t, s.URL, "off"), "", "mod", "download", m.String())
	if exit != 1 || !strings.Contains(stderr, "certificate") {
		t.Errorf("without the CA: exit %d\n%s", exit, stderr)
	}
	if _, stderr, exit := Go(t, GoEnv(t, s.URL, "off", "SSL_CERT_FILE="+s.CAFile), "", "mod", "download", m.String()); exit != 0 {
		t.Errorf("with the CA: exit %d\n%s", exit, stderr)
	}
	resp, err := s.Client().Get(s.URL + "/example.com/a/@v/list")
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatalf("%v, %v; want HTTP/2", resp, err)
	}
	resp.Body.Close()
}

func TestALieOfTheChecksumDatabaseStopsTheGoCommand(t *testing.T) {
	w := New(t)
	m, other := w.Add("example.com/a", "v1.0.0", nil), w.Add("example.com/b", "v1.0.0", nil)
	db := w.SumDB("sumdb.test")
	db.Lie(m)
	w.Mount(db)
	s := Serve(t, w.Handler())
	env := GoEnv(t, s.URL, db.GOSUMDB(""))
	if _, stderr, exit := Go(t, env, "", "mod", "download", m.String()); exit != 1 || !strings.Contains(stderr, "SECURITY ERROR") {
		t.Errorf("exit %d\n%s", exit, stderr)
	}
	if _, stderr, exit := Go(t, env, "", "mod", "download", other.String()); exit != 0 {
		t.Errorf("of another module: exit %d\n%s", exit, stderr)
	}
}

func TestTheChecksumDatabaseMisbehavesAsItsSwitchesSay(t *testing.T) {
	w := New(t)
	a, b, c := w.Add("example.com/a", "v1.0.0", nil), w.Add("example.com/B", "v1.0.0", nil), w.Add("example.com/c", "v1.0.0", nil)
	db := w.SumDB("sumdb.test")
	s := Serve(t, db)
	client := newSumClient(t, s, db.VKey)
	lookup := func(m module.Version) error {
		lines, err := client.fresh().Lookup(m.Path, m.Version)
		if err == nil && (len(lines) == 0 || !strings.Contains(w.GoSum(m), lines[0])) {
			return fmt.Errorf("lines %q are not those of %s", lines, m)
		}
		return err
	}
	if err := lookup(a); err != nil {
		t.Fatal(err)
	}
	db.Down(true)
	if err := lookup(b); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("down: %v", err)
	}
	db.Down(false)
	db.Unknown(b, true)
	if err := lookup(b); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("unknown: %v", err)
	}
	db.Unknown(b, false)
	if err := lookup(b); err != nil {
		t.Errorf("known again: %v", err)
	}
	for path, want := range map[string]int{
		"/lookup/example.com/B@v1.0.0":         400, // upper case must be escaped
		"/lookup/example.com/a@master":         400,
		"/lookup/example.com/nix@v1.0.0":       404,
		"/lookup/example.com/a@v9.9.9":         404,
		"/tile/8/0/000.p/2":                    200,
		"/tile/8/data/000.p/2":                 200,
		"/tile/8/0/000.p/200":                  404,
		"/tile/8/0/x999/x999/x999/x999/x999":   400,
		"/tile/8/0/x999/x999/x999/x999/999":    404,
		"/tile/8/7/000":                        404,
		"/tile/8/63/x999/x999/x999/x999/999":   404,
		"/tile/30/63/000.p/1":                  404,
		"/tile/8/data/x999/x999/x999/999.p/10": 404,
		"/tile/nonsense":                       400,
		"/latest":                              200,
		"/supported":                           200,
		"/elsewhere":                           404,
	} {
		if status, body, _ := get(t, s.Client(), s.URL+path); status != want {
			t.Errorf("%s: %d %q, want %d", path, status, body, want)
		}
	}
	db.Fork(true)
	if err := lookup(c); err == nil || !strings.Contains(err.Error(), sumdb.ErrSecurity.Error()) { // Lookup hides its type
		t.Errorf("a fork: %v; want a security error", err)
	}
	db.Fork(false)
	db.Hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", s.URL+"/latest", nil)
	if _, err := s.Client().Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: %v", err)
	}
	db.Hang(false)
	if err := lookup(c); err != nil {
		t.Errorf("well again: %v", err)
	}
	if db.Hits("lookup/example.com/a@v1.0.0") == 0 {
		t.Error("lookups are not counted")
	}
}

// A sumClient is the client side of x/mod/sumdb, with what it remembers.
type sumClient struct {
	t    *testing.T
	s    *Server
	vkey string

	mu     sync.Mutex
	config map[string][]byte
	tiles  map[string][]byte
}

func newSumClient(t *testing.T, s *Server, vkey string) *sumClient {
	return &sumClient{t: t, s: s, vkey: vkey, config: map[string][]byte{"key": []byte(vkey)}, tiles: map[string][]byte{}}
}

// fresh forgets all answers but the tree head and its tiles.
func (c *sumClient) fresh() *sumdb.Client { return sumdb.NewClient(c) }

func (c *sumClient) ReadRemote(path string) ([]byte, error) {
	status, body, _ := get(c.t, c.s.Client(), c.s.URL+path)
	if status != 200 {
		return nil, fmt.Errorf("%d %s", status, body)
	}
	return []byte(body), nil
}

func (c *sumClient) ReadConfig(file string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config[file], nil
}

func (c *sumClient) WriteConfig(file string, old, new []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !bytes.Equal(c.config[file], old) {
		return sumdb.ErrWriteConflict
	}
	c.config[file] = new
	return nil
}

func (c *sumClient) ReadCache(file string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data, ok := c.tiles[file]; ok {
		return data, nil
	}
	return nil, os.ErrNotExist
}

func (c *sumClient) WriteCache(file string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Contains(file, "/tile/") {
		c.tiles[file] = data
	}
}

func (c *sumClient) Log(string)           {}
func (c *sumClient) SecurityError(string) {}

func TestAServerIsRefusedWhenStoppedAndAnswersAgainWhenStarted(t *testing.T) {
	s := Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	}))
	c := s.Client()
	hung := make(chan error)
	go func() { _, err := c.Get(s.URL + "/hang"); hung <- err }()
	get(t, s.Client(), s.URL)
	url := s.URL
	s.Stop()
	if err := <-hung; err == nil {
		t.Error("a hanging request survived Stop")
	}
	if _, err := c.Get(s.URL); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("stopped: %v", err)
	}
	s.Start()
	if status, _, _ := get(t, c, url); status != 200 {
		t.Errorf("started again: %d", status)
	}
}

func TestAPipeWorksInABubbleOfFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &http.Client{Transport: Pipe(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			io.WriteString(w, "at last")
		}))}
		if _, body, _ := get(t, c, "http://any.test/x"); body != "at last" {
			t.Errorf("body = %q", body)
		}
	})
}

// A fakeTB notes how a test would have ended.
type fakeTB struct {
	testing.TB
	end string
}

func (f *fakeTB) Helper()                       {}
func (f *fakeTB) Skipf(format string, a ...any) { f.end = "skip: " + fmt.Sprintf(format, a...) }
func (f *fakeTB) Fatalf(format string, a ...any) {
	f.end = "fatal: " + fmt.Sprintf(format, a...)
}

func TestNeedSkipsAndFailsInAStrictRun(t *testing.T) {
	for strict, want := range map[string]string{"": "skip: skipped: hg is missing", "1": "fatal: skipped: hg is missing"} {
		t.Setenv("SLUICE_STRICT", strict)
		f := &fakeTB{}
		if Need(f, "hg", true); f.end != "" {
			t.Errorf("nothing is missing, but the test ended with %q", f.end)
		}
		if Need(f, "hg", false); !strings.HasPrefix(f.end, want) {
			t.Errorf("SLUICE_STRICT=%q: %q, want %q", strict, f.end, want)
		}
	}
}

func TestTheClientEnvironmentTakesNothingFromTheCaller(t *testing.T) {
	t.Setenv("GOPRIVATE", "*")
	t.Setenv("GOFLAGS", "-mod=vendor")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	env := GoEnv(t, "off", "off", "GONOSUMDB=a.test")
	out, stderr, exit := Go(t, env, "", "env", "GOPRIVATE", "GOFLAGS", "GOPROXY", "GONOSUMDB", "GOTELEMETRY")
	if want := "\n-modcacherw\noff\na.test\noff\n"; out != want || exit != 0 {
		t.Errorf("go env = %q, exit %d %s; want %q", out, exit, stderr, want)
	}
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HTTPS_PROXY=") }) {
		t.Error("HTTPS_PROXY of the caller is in the environment")
	}
	if EnvValue(env, "GONOSUMDB") != "a.test" || EnvValue(env, "GOWORK") != "off" {
		t.Error("EnvValue does not give the last value")
	}
}

func writeFiles(t *testing.T, dir string, files Files) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStoppedServerRefusesUntilItStartsAgain(t *testing.T) {
	s := Serve(t, http.NotFoundHandler())
	for range 3 {
		s.Stop()
		if c, err := net.Dial("tcp", s.Addr); err == nil {
			c.Close()
			t.Fatal("somebody answers")
		}
		s.Start()
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
}
