package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
)

const (
	infoURL = "/example.com/m/@v/v1.0.0.info"
	modURL  = "/example.com/m/@v/v1.0.0.mod"
	zipURL  = "/example.com/m/@v/v1.0.0.zip"
	listURL = "/example.com/m/@v/list"
)

var m1 = module.Version{Path: "example.com/m", Version: "v1.0.0"}

// small is a world with one module and a house over it.
func small(t *testing.T, p plan) (*house, *modtest.World) {
	t.Helper()
	w := modtest.New(t)
	w.Add(m1.Path, m1.Version, modtest.Files{"m.go": "package m\n"})
	if p.source == "" {
		p.source = modtest.Serve(t, w.Handler()).URL
	}
	return build(t, p), w
}

func TestFilesOfAVersionAreImmutableAndCarryOneStrongETagColdAndWarm(t *testing.T) {
	h, w := small(t, plan{})
	for _, c := range []struct {
		url, ctype string
		want       []byte
	}{{infoURL, "application/json", w.Info(m1)}, {modURL, "text/plain; charset=utf-8", w.Mod(m1)}, {zipURL, "application/zip", w.Zip(m1)}} {
		cold, warm := h.GET(c.url), h.GET(c.url)
		for _, r := range []interface {
			Result() *http.Response
		}{cold, warm} {
			resp := r.Result()
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != c.ctype || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s: %d %v", c.url, resp.StatusCode, resp.Header)
			}
			if cc := resp.Header.Get("Cache-Control"); !strings.Contains(cc, "immutable") {
				t.Errorf("%s: Cache-Control %q", c.url, cc)
			}
		}
		if !bytes.Equal(cold.Body.Bytes(), c.want) || !bytes.Equal(warm.Body.Bytes(), c.want) {
			t.Errorf("%s: the bytes are not the source's", c.url)
		}
		etag := cold.Header().Get("ETag")
		if etag == "" || etag != warm.Header().Get("ETag") || strings.HasPrefix(etag, "W/") {
			t.Errorf("%s: ETag %q cold, %q warm", c.url, etag, warm.Header().Get("ETag"))
		}
		if r := h.GET(c.url, "If-None-Match", etag); r.Code != 304 || r.Body.Len() > 0 {
			t.Errorf("%s If-None-Match: %d", c.url, r.Code)
		}
		if r, _ := h.get("HEAD", c.url); r.Code != 200 || r.Body.Len() > 0 || r.Header().Get("Content-Length") != fmt.Sprint(len(c.want)) {
			t.Errorf("HEAD %s: %d, Content-Length %s, want %d", c.url, r.Code, r.Header().Get("Content-Length"), len(c.want))
		}
	}
}

func TestRangesOfAZipComeColdAndWarmAndIfRangeHoldsThemToTheFile(t *testing.T) {
	h, w := small(t, plan{})
	zip := w.Zip(m1)
	for _, state := range []string{"cold", "warm"} {
		if r := h.GET(zipURL, "Range", "bytes=10-19"); r.Code != 206 || !bytes.Equal(r.Body.Bytes(), zip[10:20]) {
			t.Errorf("%s: %d, %d bytes", state, r.Code, r.Body.Len())
		}
	}
	etag := h.GET(zipURL).Header().Get("ETag")
	if r := h.GET(zipURL, "Range", "bytes=10-19", "If-Range", etag); r.Code != 206 {
		t.Errorf("If-Range with the file's ETag: %d", r.Code)
	}
	for _, other := range []string{`"other"`, "Mon, 01 Jan 1990 00:00:00 GMT"} {
		if r := h.GET(zipURL, "Range", "bytes=10-19", "If-Range", other); r.Code != 200 || r.Body.Len() != len(zip) {
			t.Errorf("If-Range %s: %d, %d bytes", other, r.Code, r.Body.Len())
		}
	}
	if r, _ := h.get("GET", zipURL, "Range", fmt.Sprintf("bytes=%d-", len(zip)+5)); r.Code != 416 {
		t.Errorf("a range past the end: %d", r.Code)
	}
}

func TestAChangingAnswerSaysHowLongItMayBeKeptAndHowOldItIs(t *testing.T) {
	w := modtest.New(t)
	w.Add(m1.Path, m1.Version, modtest.Files{"m.go": "package m\n"})
	var sw faults.Switch
	h := build(t, plan{source: modtest.Serve(t, faults.Handler(w.Handler(), sw.Pick)).URL, fresh: time.Nanosecond})
	if r := h.GET(listURL); r.Code != 200 || strings.Contains(r.Header().Get("Cache-Control"), "immutable") || r.Header().Get("Warning") != "" {
		t.Fatalf("fresh: %d %v", r.Code, r.Header())
	}
	f, err := faults.Parse("503")
	if err != nil {
		t.Fatal(err)
	}
	sw.Set(f)
	r := h.GET(listURL)
	if r.Code != 200 || r.Header().Get("Age") == "" || !strings.HasPrefix(r.Header().Get("Warning"), "110 ") || r.Header().Get("Cache-Control") != "no-cache" || r.Body.String() != "v1.0.0\n" {
		t.Errorf("stale: %d %v %q", r.Code, r.Header(), r.Body)
	}
}

func TestEverySecondSpellingIsRefused(t *testing.T) {
	h, w := small(t, plan{})
	w.SetQuery(m1.Path, "feature/x", m1.Version)
	for target, want := range map[string]int{
		"/example.com/m/@v/%6cist":                               200, // a letter is the same letter
		"/example.com%2fm/@v/list":                               400,
		"/example.com/m%2f@v/list":                               400,
		"/example.com/m/%40v/list":                               400,
		"/example.com//m/@v/list":                                400,
		"/example.com/./m/@v/list":                               400,
		"/example.com/x/../m/@v/list":                            400,
		"/example.com/m/@v/..%2f..%2fetc.info":                   400,
		"/example.com/m%5c/@v/list":                              400,
		"/example.com/m%00/@v/list":                              400,
		"/example.com/M/@v/list":                                 400,
		"/example.com/!!m/@v/list":                               400,
		"/example.com/m/@v/v1.0.0%2fx.zip":                       404,
		"/example.com/m/@v/feature%2fx.info":                     200,
		"/example.com/m/@v/feature/x.info":                       400,
		"/example.com/" + strings.Repeat("a", 3000) + "/@v/list": 400,
		"/favicon.ico":                                           404,
	} {
		if r := h.GET(target); r.Code != want {
			t.Errorf("%.80s: %d, want %d: %s", target, r.Code, want, r.Body)
		}
	}
}

func TestOnlyGETAndHEADWithoutABodyAreServed(t *testing.T) {
	h, w := small(t, plan{})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		if r, _ := h.get(method, modURL); r.Code != 405 || r.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %v", method, r.Code, r.Header())
		}
	}
	if n := w.HitsPrefix("/"); n != 0 {
		t.Errorf("the source was asked %d times", n)
	}
}

func TestARequestThatHasBeenHereBeforeIsALoop(t *testing.T) {
	h, _ := small(t, plan{})
	if r := h.GET(modURL, "Via", "1.1 other, 1.1 "+selfID); r.Code != http.StatusLoopDetected || r.Header().Get("X-Sluice-Code") != "SL-ENV-001" {
		t.Errorf("%d %v", r.Code, r.Header())
	}
	if r := h.GET(modURL, "Via", "1.1 other"); r.Code != 200 {
		t.Errorf("another's Via: %d", r.Code)
	}
}

func TestARequestThatForbidsFetchingGetsOnlyWhatIsHere(t *testing.T) {
	h, w := small(t, plan{})
	for _, ask := range []func(string) int{
		func(u string) int { return h.GET("/cached-only" + u).Code },
		func(u string) int { return h.GET(u, "Disable-Module-Fetch", "true").Code },
	} {
		if code := ask(zipURL); code != 404 {
			t.Errorf("cold: %d", code)
		}
	}
	if n := w.HitsPrefix("/"); n != 0 {
		t.Errorf("the source was asked %d times", n)
	}
	h.GET(zipURL)
	if code := h.GET("/cached-only" + zipURL).Code; code != 200 {
		t.Errorf("warm: %d", code)
	}
}

func TestAChecksumDatabaseIsHandedOnAndPrivateNamesAreNot(t *testing.T) {
	w := modtest.New(t)
	w.Add(m1.Path, m1.Version, modtest.Files{"m.go": "package m\n"})
	sdb := w.SumDB("sum.example.com/with/path")
	db := openDB(t, sdb, store.NewMem())
	h := build(t, plan{source: modtest.Serve(t, w.Handler()).URL, sumdbs: []server.SumDB{db}, private: func(p string) bool { return strings.HasPrefix(p, "corp.example/") }})
	base := "/sumdb/sum.example.com/with/path"
	h.GET(base + "/lookup/example.com/m@v1.0.0") // the tree has a leaf, and so a tile
	for target, want := range map[string]int{
		base + "/supported":                       200,
		base + "/latest":                          200,
		base + "/lookup/example.com/m@v1.0.0":     200,
		base + "/tile/8/0/000.p/1":                200,
		base + "/lookup/example.com/none@v1.0.0":  404,
		base + "/lookup/example.com/m":            400,
		base + "/lookup/example.com/M@v1.0.0":     400,
		base + "/lookup/example.com/m@v1":         404,
		base + "/lookup/corp.example/x@v1.0.0":    403,
		base + "/tile/8/0/999":                    404,
		base + "/tile/x":                          404,
		base + "/admin":                           404,
		base:                                      404,
		"/sumdb/other.example/supported":          404,
		"/sumdb/":                                 404,
		"/sumdb":                                  404,
		"/sumdb//supported":                       404,
		"/sumdb/sum.example.com/supported":        404,
		base + "/../" + "x":                       404,
		base + "/tile/8/0/../../../../etc/passwd": 404,
	} {
		r := h.GET(target)
		if r.Code != want {
			t.Errorf("%s: %d, want %d: %s", target, r.Code, want, r.Body)
		}
		if r.Code == 403 && !strings.Contains(r.Body.String(), "GONOSUMDB") {
			t.Errorf("the refusal does not name GONOSUMDB: %s", r.Body)
		}
	}
	if n := sdb.Hits("/lookup/corp.example/x@v1.0.0"); n != 0 {
		t.Errorf("a private name was sent to the database %d times", n)
	}
}

func TestSupportedFollowsWhatCanBeServed(t *testing.T) {
	w := modtest.New(t)
	w.Add(m1.Path, m1.Version, modtest.Files{"m.go": "package m\n"})
	sdb := w.SumDB("sum.example.com")
	sdb.Down(true)
	db := openDB(t, sdb, store.NewMem())
	h := build(t, plan{source: modtest.Serve(t, w.Handler()).URL, sumdbs: []server.SumDB{db}, sums: db})
	if r := h.GET("/sumdb/sum.example.com/supported"); r.Code != 404 {
		t.Errorf("out of reach and nothing known: %d; a 200 would keep the go command from asking the database itself", r.Code)
	}
	if r := h.GET(zipURL); r.Code != 503 || r.Header().Get("X-Sluice-Code") != "SL-SUM-003" {
		t.Errorf("a cold module: %d %v", r.Code, r.Header())
	}
}

func TestReadinessTellsOfTheStoreAndTheSources(t *testing.T) {
	h, _ := small(t, plan{source: "http://127.0.0.1:1"})
	type state struct {
		Status  string
		Store   struct{ State, Error string }
		Sources []struct{ Name, State, Error, Code string }
	}
	read := func() (int, state) {
		r := h.GET("/readyz")
		var s state
		if err := json.Unmarshal(r.Body.Bytes(), &s); err != nil {
			t.Fatalf("%v: %s", err, r.Body)
		}
		return r.Code, s
	}
	code, s := read()
	if code != 200 || s.Status != "ok" || len(s.Sources) != 1 || s.Sources[0].State != "unknown" {
		t.Errorf("before anything was asked: %d %+v", code, s)
	}
	h.GET(modURL)
	if code, s = read(); code != 200 || s.Status != "degraded" || s.Sources[0].State != "failing" || s.Sources[0].Code != "SL-NET-002" {
		t.Errorf("with a dead source: %d %+v", code, s)
	}
	h.probe = errors.New("read-only file system")
	if code, s = read(); code != 503 || s.Status != "failing" || s.Store.Error != "read-only file system" {
		t.Errorf("with a dead store too: %d %+v", code, s)
	}
	if r := h.GET("/healthz"); r.Code != 200 {
		t.Errorf("/healthz: %d; the process is alive", r.Code)
	}
}

func TestEachRequestIsOneLineWithoutCredentials(t *testing.T) {
	h, _ := small(t, plan{source: "http://bot:pw7Zq9secret@127.0.0.1:1"})
	r := h.GET(modURL)
	if strings.Contains(r.Body.String(), "pw7Zq9secret") {
		t.Errorf("the body shows the password: %s", r.Body)
	}
	log := h.log.String()
	if strings.Contains(log, "pw7Zq9secret") {
		t.Errorf("the log shows the password: %s", log)
	}
	if n := strings.Count(log, "msg=request"); n != 1 || !strings.Contains(log, "id="+r.Header().Get("X-Request-Id")) || !strings.Contains(log, "module=example.com/m") || !strings.Contains(log, "code=SL-") {
		t.Errorf("%d lines: %s", n, log)
	}
}

// live serves a house on a real port.
func live(t *testing.T, h *house) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { stop() })
	return ln.Addr().String(), stop
}

func TestOversizedHeadersAreRefusedAndTheServerLivesOn(t *testing.T) {
	h, _ := small(t, plan{})
	addr, _ := live(t, h)
	for _, head := range []string{
		"GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, head) // the server may close before it has read everything
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && (resp.StatusCode < 400 || resp.StatusCode >= 500) {
			t.Errorf("%.20q…: %d", head, resp.StatusCode)
		}
		c.Close()
	}
	resp, err := http.Get("http://" + addr + modURL)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("afterwards: %v, %v", resp, err)
	}
}

func TestAStopLetsATransferFinish(t *testing.T) {
	w := modtest.New(t)
	big := module.Version{Path: "example.com/big", Version: "v1.0.0"}
	w.Big(big.Path, big.Version, 8<<20)
	h := build(t, plan{source: modtest.Serve(t, w.Handler()).URL})
	addr, stop := live(t, h)
	url := "http://" + addr + "/example.com/big/@v/v1.0.0.zip"
	if resp, err := http.Get(url); err != nil {
		t.Fatal(err)
	} else if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < 8<<20 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(resp.Body, head); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// The listener goes first; then only what was under way goes on.
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
	}
	rest, err := io.ReadAll(resp.Body)
	if err != nil || len(head)+len(rest) != len(w.Zip(big)) {
		t.Errorf("after the stop: %d bytes, %v", len(head)+len(rest), err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestACachedFileIsServedWhileHundredsOfRequestsHang(t *testing.T) {
	w := modtest.New(t)
	w.Add(m1.Path, m1.Version, modtest.Files{"m.go": "package m\n"})
	var sw faults.Switch
	var asked modtest.Requests
	h := build(t, plan{source: modtest.Serve(t, asked.Count(faults.Handler(w.Handler(), sw.Pick))).URL, timeout: time.Minute})
	h.GET(infoURL)
	f, err := faults.Parse("hang")
	if err != nil {
		t.Fatal(err)
	}
	sw.Set(f)
	addr, _ := live(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("http://%s/example.com/hang%d/@v/list", addr, i), nil)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	for asked.HitsPrefix("/example.com/hang") < 200 {
		time.Sleep(time.Millisecond) // until all of them hang
	}
	for range 50 {
		resp, err := http.Get("http://" + addr + infoURL)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	cancel()
	wg.Wait()
}
