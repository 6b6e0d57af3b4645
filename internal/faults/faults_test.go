package faults_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

func parse(t *testing.T, s string) faults.Fault {
	t.Helper()
	f, err := faults.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEveryFaultOfTheCatalogueCanBeNamed(t *testing.T) {
	seen := make(map[string]bool)
	for _, i := range faults.All() {
		if i.Name == "" || i.Doc == "" || seen[i.Name] {
			t.Errorf("%+v: wants a name of its own and a line about it", i)
		}
		seen[i.Name] = true
		f := parse(t, i.Example)
		if f.Name != i.Name {
			t.Errorf("the example of %s is of %s", i.Name, f.Name)
		}
		if bare, err := faults.Parse(i.Name); err == nil && bare.Arg != i.Default {
			t.Errorf("Parse(%q) has argument %q, but the catalogue says %q", i.Name, bare.Arg, i.Default)
		} else if err != nil && strings.HasPrefix(i.Param, "[") {
			t.Errorf("%s can be used without a parameter, but %v", i.Name, err)
		}
		if back := parse(t, f.String()); back != f {
			t.Errorf("Parse(%q) = %+v, want %+v", f.String(), back, f)
		}
	}
	for _, name := range strings.Fields("400 401 403 404 407 410 429 500 502 503 504 404-html") {
		if !seen[name] {
			t.Errorf("there is no fault %s", name)
		}
	}
}

func TestParseWritesOneSpelling(t *testing.T) {
	for in, want := range map[string]string{
		"cut": "cut=50%", "cut=30%": "cut=30%", "cut=0.3": "cut=30%", "cut=1200": "cut=1200", "cut=0.125": "cut=12.5%",
		"zip:cut": "zip:cut=50%", "sumdb:503": "sumdb:503", "503=7s": "503=7", "429": "429=1", "drip=9/s": "drip=9", "hang": "hang",
		"hang=1500ms": "hang=1.5s", "flip": "flip=data", "flip=end": "flip=end", "flip@12": "flip@12", "flip=@50%": "flip@50%",
		"redirect=http://127.0.0.1:9/a": "redirect=http://127.0.0.1:9/a", "stale=3": "stale=3", "old-zip=v1.0.0": "old-zip=v1.0.0",
		"other-module=example.com/x@v1.0.0": "other-module=example.com/x@v1.0.0", "reset=10%": "reset=10%",
	} {
		if got := parse(t, in).String(); got != want {
			t.Errorf("Parse(%q).String() = %q, want %q", in, got, want)
		}
	}
}

func TestParseSaysWhatIsWrongAndHowToWriteIt(t *testing.T) {
	for in, want := range map[string]string{
		"ct=30%":        `did you mean "cut"?`,
		"gzipp":         `did you mean "gzip"?`,
		"list:":         "there is no fault",
		"":              "there is no fault",
		"xyzzyxyzzy":    "and many more",
		"cut=":          "write cut or cut=PLACE, such as cut=50%",
		"cut=101%":      "at most 100%",
		"cut=-1":        "no place",
		"cut=1e3":       "no place",
		"cut=.":         "share",
		"404=3":         "takes no value",
		"redirect":      "write redirect=URL, such as redirect=http://",
		"redirect=/x":   "a whole http or https URL",
		"drip=0":        "from 1 to",
		"hang=-1s":      "a time such as",
		"flip=brain":    "one of local, name, data",
		"flip@":         "no place",
		"stale=all":     "a whole number",
		"old-zip=1.0":   "canonical version",
		"zap:cut":       "there is no fault",
		"bomb=nuclear":  "one of declared, hidden",
		"cut=5%, more":  "no place",
		"503=999999999": "from 0 to 86400",
	} {
		if f, err := faults.Parse(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %+v, %v; want an error with %q", in, f, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, i := range faults.All() {
		f.Add(i.Example)
		f.Add("zip:" + i.Name)
	}
	f.Add("cut=0.333")
	f.Add("flip@99.9%")
	f.Add("redirect=http://[::1]/%2f?a=b#c")
	f.Fuzz(func(t *testing.T, s string) {
		ft, err := faults.Parse(s)
		if err != nil {
			return
		}
		if back, err := faults.Parse(ft.String()); err != nil || back != ft {
			t.Fatalf("Parse(%q) = %+v, but Parse(%q) = %+v, %v", s, ft, ft.String(), back, err)
		}
		if elem, err := url.PathUnescape(ft.Elem()); err != nil || elem != ft.String() || strings.Contains(ft.Elem(), "/") {
			t.Fatalf("Elem of %q is %q, which reads %q, %v", ft.String(), ft.Elem(), elem, err)
		}
	})
}

// small is text that shrinks little, so that a zip has something to cut.
func small(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyz0123456789+-*/()[]{}\n "[r.IntN(48)]
	}
	return string(b)
}

// newWorld has three releases of example.com/m, a module with one version, and
// a branch.
func newWorld(t *testing.T) (*modtest.World, module.Version) {
	w := modtest.New(t)
	var m module.Version
	for i, v := range []string{"v1.0.0", "v1.1.0", "v1.2.0"} {
		m = w.Add("example.com/m", v, modtest.Files{
			"go.mod":     "module example.com/m\n\ngo 1.20\n",
			"m.go":       fmt.Sprintf("package m\n\nconst V = %q\n", v),
			"sub/s.go":   "package sub\n",
			"README":     "Read me, " + v + "\n",
			"data/a.txt": small(uint64(i), 20_000),
			"data/b.txt": small(uint64(i)+9, 3_000),
		})
	}
	w.Add("example.com/single", "v1.0.0", nil)
	w.SetQuery("example.com/m", "main", "v1.1.0")
	return w, m
}

// A got is how a client saw an answer.
type got struct {
	status int
	header http.Header
	length int64 // as announced, -1 if not
	body   []byte
	err    error // of the request or of the body
	took   time.Duration
	proto  int
}

func fetch(t *testing.T, c *http.Client, url string, hdr ...string) got {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	return fetchCtx(ctx, t, c, url, hdr...)
}

func fetchCtx(ctx context.Context, t *testing.T, c *http.Client, url string, hdr ...string) got {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(hdr); i += 2 {
		req.Header.Set(hdr[i], hdr[i+1])
	}
	start := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return got{err: err, took: time.Since(start)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, resp.ContentLength, body, err, time.Since(start), resp.ProtoMajor}
}

func (g got) String() string {
	return fmt.Sprintf("%d, length %d, %d bytes %.60q, error %v, in %v", g.status, g.length, len(g.body), g.body, g.err, g.took)
}

// patience is how long the tests wait for what never comes.
const patience = 150 * time.Millisecond

// longest is how long they wait for what must come, on however busy a machine.
const longest = time.Minute

// written calls f patience after a request has been written to its connection, so that
// it meets whoever is to answer it.
func written(ctx context.Context, f func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { time.AfterFunc(patience, f) }})
}

// begun goes away from an answer when n bytes of its body have come, and patience after
// that.
func begun(t *testing.T, c *http.Client, u string, n int) got {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return got{err: err, took: time.Since(start)}
	}
	defer resp.Body.Close()
	body := make([]byte, n)
	if n, err = io.ReadFull(resp.Body, body); err == nil {
		defer time.AfterFunc(patience, cancel).Stop()
		var rest []byte
		rest, err = io.ReadAll(resp.Body)
		body = append(body, rest...)
	} else {
		body = body[:n]
	}
	return got{resp.StatusCode, resp.Header, resp.ContentLength, body, err, time.Since(start), resp.ProtoMajor}
}

func TestEachFaultDoesWhatItsNameSays(t *testing.T) {
	w, m := newWorld(t)
	s := modtest.Serve(t, faults.ByPath(w.Handler()))
	truth := w.Zip(m)
	const (
		zipPath  = "/example.com/m/@v/v1.2.0.zip"
		modPath  = "/example.com/m/@v/v1.2.0.mod"
		infoPath = "/example.com/m/@v/v1.2.0.info"
		listPath = "/example.com/m/@v/list"
		latest   = "/example.com/m/@latest"
	)
	ask := func(t *testing.T, fault, path string, hdr ...string) got {
		t.Helper()
		c := s.Client()
		return fetch(t, c, s.URL+"/"+parse(t, fault).Elem()+path, hdr...)
	}
	want := func(t *testing.T, g got, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("got %v", g)
		}
	}
	half := truth[:len(truth)/2]
	whole := func(g got) bool { return g.err == nil && g.status == 200 && bytes.Equal(g.body, truth) }
	// A lie is a complete answer that is not the truth; all else of the source is true.
	lie := func(path string, true_ []byte) func(t *testing.T, fault string) {
		return func(t *testing.T, fault string) {
			g := ask(t, fault, path)
			want(t, g, g.err == nil && g.status == 200 && !bytes.Equal(g.body, true_))
			if path != listPath {
				l := ask(t, fault, listPath)
				want(t, l, l.err == nil && string(l.body) == "v1.0.0\nv1.1.0\nv1.2.0\n")
			}
			if path == zipPath && judge(t, m, g.body) == w.H1Zip(m) {
				t.Errorf("the zip of %s is right", fault)
			}
		}
	}
	code := func(status int) func(*testing.T, string) {
		return func(t *testing.T, fault string) {
			for _, path := range []string{listPath, latest, infoPath, modPath, zipPath, "/sumdb/sumdb.test/latest", "/"} {
				g := ask(t, fault, path)
				want(t, g, g.err == nil && g.status == status && strings.HasPrefix(g.header.Get("Content-Type"), "text/plain") && len(g.body) > 0)
			}
		}
	}
	html := func(g got) bool {
		return g.err == nil && strings.HasPrefix(g.header.Get("Content-Type"), "text/html") && bytes.HasPrefix(g.body, []byte("<!DOCTYPE html>"))
	}
	noFollow := func(t *testing.T, fault, path string) got {
		t.Helper()
		c := s.Client()
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return fetch(t, c, s.URL+"/"+parse(t, fault).Elem()+path)
	}
	zipLie := lie(zipPath, truth)
	broken := func(at int, length int64) func(*testing.T, string) {
		return func(t *testing.T, fault string) {
			g := ask(t, fault, zipPath)
			want(t, g, g.status == 200 && errors.Is(g.err, io.ErrUnexpectedEOF) && g.length == length && bytes.Equal(g.body, truth[:at]))
			g = ask(t, fault, "/example.com/m/@v/v9.0.0.zip")
			want(t, g, g.status == 404 && g.err == nil)
		}
	}

	checks := map[string]func(t *testing.T, fault string){
		"none": func(t *testing.T, f string) { want(t, ask(t, f, zipPath), whole(ask(t, f, zipPath))) },
		"400":  code(400), "403": code(403), "404": code(404), "410": code(410), "500": code(500), "502": code(502), "504": code(504),
		"401": func(t *testing.T, f string) {
			code(401)(t, f)
			g := ask(t, f, modPath)
			want(t, g, strings.HasPrefix(g.header.Get("WWW-Authenticate"), "Basic "))
		},
		"407": func(t *testing.T, f string) {
			code(407)(t, f)
			g := ask(t, f, modPath)
			want(t, g, strings.HasPrefix(g.header.Get("Proxy-Authenticate"), "Basic "))
		},
		"429": func(t *testing.T, f string) {
			code(429)(t, "429=7")
			want(t, ask(t, "429=7", modPath), ask(t, "429=7", modPath).header.Get("Retry-After") == "7")
			want(t, ask(t, "429", modPath), ask(t, "429", modPath).header.Get("Retry-After") == "1")
		},
		"503": func(t *testing.T, f string) {
			code(503)(t, "503")
			want(t, ask(t, "503", modPath), ask(t, "503", modPath).header.Get("Retry-After") == "")
			want(t, ask(t, "503=2", modPath), ask(t, "503=2", modPath).header.Get("Retry-After") == "2")
		},
		"404-html": func(t *testing.T, f string) { g := ask(t, f, modPath); want(t, g, html(g) && g.status == 404) },
		"html":     func(t *testing.T, f string) { g := ask(t, f, zipPath); want(t, g, html(g) && g.status == 200) },
		"empty": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.status == 200 && g.length == 0 && g.err == nil && g.header.Get("Content-Type") == "application/zip")
		},
		"204": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.status == 204 && len(g.body) == 0 && g.err == nil)
		},
		"noise": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.status == 200 && len(g.body) == len(truth) && !bytes.Equal(g.body, truth) && g.err == nil)
		},
		"garbage": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.status == 0 && g.err != nil && strings.Contains(g.err.Error(), "malformed HTTP"))
		},
		"login-redirect": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, html(g) && g.status == 200)
			g = noFollow(t, f, zipPath)
			want(t, g, g.status == 302)
		},
		"redirect-loop": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.err != nil && strings.Contains(g.err.Error(), "stopped after 10 redirects"))
		},
		"redirect-nowhere": func(t *testing.T, f string) {
			g := noFollow(t, f, modPath)
			want(t, g, g.status == 301 && g.header.Get("Location") == "")
		},
		"redirect": func(t *testing.T, f string) {
			g := noFollow(t, "redirect=http://127.0.0.1:9/x", zipPath)
			want(t, g, g.status == 302 && g.header.Get("Location") == "http://127.0.0.1:9/x")
			g = ask(t, "redirect="+s.URL+"/none/", zipPath)
			want(t, g, whole(g))
		},
		"hang": func(t *testing.T, f string) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			g := fetchCtx(written(ctx, cancel), t, s.Client(), s.URL+"/hang"+zipPath)
			want(t, g, g.status == 0 && errors.Is(g.err, context.Canceled))
			g = ask(t, "hang=30ms", zipPath)
			want(t, g, whole(g) && g.took >= 30*time.Millisecond)
		},
		"hang-body": func(t *testing.T, f string) {
			g := begun(t, s.Client(), s.URL+"/"+parse(t, f).Elem()+zipPath, len(half))
			want(t, g, g.status == 200 && errors.Is(g.err, context.Canceled) && bytes.Equal(g.body, half) && g.length == int64(len(truth)))
		},
		"drip": func(t *testing.T, f string) {
			g := begun(t, s.Client(), s.URL+"/drip=100"+zipPath, 5)
			want(t, g, g.status == 200 && errors.Is(g.err, context.Canceled) && g.took >= time.Duration(len(g.body))*time.Second/100)
			g = ask(t, "drip=1000000", zipPath)
			want(t, g, whole(g))
		},
		"slow-list": func(t *testing.T, f string) {
			for _, p := range []string{listPath, latest} {
				g := ask(t, "slow-list=30ms", p)
				want(t, g, g.status == 200 && g.took >= 30*time.Millisecond)
			}
			want(t, ask(t, f, zipPath), whole(ask(t, f, zipPath))) // which does not take 10 s
		},
		"endless": func(t *testing.T, f string) {
			for path, begins := range map[string]string{listPath: "v0.0.0\nv0.0.1\n", infoPath: `{"Version":"v1.2.0"`, latest: "{", modPath: "module example.com/m\n", zipPath: "PK\x03\x04"} {
				resp, err := s.Client().Get(s.URL + "/endless" + path)
				if err != nil {
					t.Fatal(err)
				}
				body := make([]byte, 1<<20)
				_, err = io.ReadFull(resp.Body, body)
				if err != nil || resp.ContentLength >= 0 || !bytes.HasPrefix(body, []byte(begins)) {
					t.Errorf("%s: %v, length %d, %.60q", path, err, resp.ContentLength, body)
				}
				resp.Body.Close()
			}
		},
		"reset": func(t *testing.T, f string) {
			g := ask(t, "reset", zipPath)
			want(t, g, g.status == 0 && errors.Is(g.err, syscall.ECONNRESET))
			g = ask(t, "reset=50%", zipPath)
			want(t, g, g.status == 200 && errors.Is(g.err, syscall.ECONNRESET) && bytes.Equal(g.body, half))
		},
		"cut": func(t *testing.T, f string) {
			broken(len(truth)/2, int64(len(truth)))(t, f)
			broken(100, int64(len(truth)))(t, "cut=100")
			broken(len(truth), int64(len(truth)+1))(t, "cut=100%")
			w.Add("example.com/tip", "v0.0.0-20240101000000-abcdefabcdef", nil)
			g := ask(t, f, "/example.com/tip/@v/list") // even what is empty is cut
			want(t, g, g.status == 200 && errors.Is(g.err, io.ErrUnexpectedEOF))
		},
		"cut-chunked": broken(len(truth)/2, -1),
		"cut-first": func(t *testing.T, f string) {
			broken(len(truth)/2, int64(len(truth)))(t, f)
			g := ask(t, f, zipPath, "Range", fmt.Sprintf("bytes=%d-", len(half)))
			want(t, g, g.status == 206 && g.err == nil && bytes.Equal(g.body, truth[len(half):]))
		},
		"cut-norange": func(t *testing.T, f string) {
			g := ask(t, f, zipPath, "Range", "bytes=100-")
			want(t, g, g.status == 200 && errors.Is(g.err, io.ErrUnexpectedEOF) && bytes.Equal(g.body, half) && g.header.Get("Accept-Ranges") == "")
		},
		"cut-range-lie": func(t *testing.T, f string) {
			broken(len(truth)/2, int64(len(truth)))(t, f)
			g := ask(t, f, zipPath, "Range", "bytes=100-199")
			want(t, g, g.status == 206 && g.err == nil && bytes.Equal(g.body, truth[:100]) && strings.HasPrefix(g.header.Get("Content-Range"), "bytes 100-199/"))
		},
		"short": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.status == 200 && g.err == nil && g.length == int64(len(half)) && bytes.Equal(g.body, half))
			g = ask(t, "short=100%", zipPath)
			want(t, g, g.err == nil && len(g.body) == len(truth)-1)
		},
		"close": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.status == 200 && g.err == nil && g.length == -1 && bytes.Equal(g.body, half) && g.header.Get("Content-Type") == "application/zip")
		},
		"drop-length": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, whole(g) && g.length == -1)
			g = ask(t, f, listPath)
			want(t, g, g.err == nil && g.length == -1 && len(g.body) > 0)
		},
		"gzip": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.err == nil && g.header.Get("Content-Encoding") == "gzip" && g.length == int64(len(g.body)))
			r, err := gzip.NewReader(bytes.NewReader(g.body))
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, truth) {
				t.Errorf("unpacked: %d bytes, %v", len(data), err)
			}
		},
		"deflate": func(t *testing.T, f string) {
			g := ask(t, f, zipPath)
			want(t, g, g.err == nil && g.header.Get("Content-Encoding") == "deflate")
			r, err := zlib.NewReader(bytes.NewReader(g.body))
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, truth) {
				t.Errorf("unpacked: %d bytes, %v", len(data), err)
			}
		},
		"flip": func(t *testing.T, f string) {
			for _, arg := range []string{"=local", "=name", "=data", "=data-middle", "=data-last", "=directory", "=end", "=comment", "@50%", "@0"} {
				zipLie(t, "flip"+arg)
				if g := ask(t, "flip"+arg, zipPath); diffBits(g.body, truth) != 1 {
					t.Errorf("flip%s: %d bits differ", arg, diffBits(g.body, truth))
				}
			}
		},
		"bad-crc": zipLie,
		"other-version": func(t *testing.T, f string) {
			zipLie(t, f)
			zipIs(t, ask(t, "other-version", zipPath), w, m.Path, "v1.1.0")
			zipIs(t, ask(t, "other-version=v1.0.0", zipPath), w, m.Path, "v1.0.0")
		},
		"other-module": func(t *testing.T, f string) {
			zipLie(t, "other-module")
			zipIs(t, ask(t, "other-module=example.com/single@v1.0.0", zipPath), w, "example.com/single", "v1.0.0")
			g := ask(t, "other-module=example.com/nix@v1.0.0", zipPath)
			want(t, g, g.status == 501)
		},
		"old-zip": func(t *testing.T, f string) {
			zipLie(t, "old-zip")
			g := ask(t, f, zipPath) // v1.0.0
			files, old := unzip(t, g.body), unzip(t, w.Zip(module.Version{Path: m.Path, Version: "v1.0.0"}))
			for name, data := range old {
				if name = strings.Replace(name, "@v1.0.0/", "@v1.2.0/", 1); files[name] != data {
					t.Errorf("%s is not that of v1.0.0", name)
				}
			}
			g = ask(t, "old-zip", "/example.com/single/@v/v1.0.0.zip")
			want(t, g, g.status == 501 && strings.Contains(string(g.body), "no other version"))
		},
		"prefix": func(t *testing.T, f string) {
			zipLie(t, f)
			for name := range unzip(t, ask(t, f, zipPath).body) {
				if !strings.HasPrefix(name, "example.com/m@v1.2.1/") {
					t.Errorf("member %s", name)
				}
			}
		},
		"zipslip": func(t *testing.T, f string) {
			zipLie(t, f)
			if _, ok := unzip(t, ask(t, f, zipPath).body)["example.com/m@v1.2.0/../../zipslip.go"]; !ok {
				t.Error("no member climbs out")
			}
		},
		"case-clash": func(t *testing.T, f string) {
			zipLie(t, f)
			lower := make(map[string]int)
			for name := range unzip(t, ask(t, f, zipPath).body) {
				lower[strings.ToLower(name)]++
			}
			if !slices.Contains(slices.Collect(mapValues(lower)), 2) {
				t.Errorf("no names clash: %v", lower)
			}
		},
		"bomb": func(t *testing.T, f string) {
			for arg, size := range map[string]uint64{"declared": 1 << 30, "hidden": 1024} {
				g := ask(t, "bomb="+arg, zipPath)
				want(t, g, g.status == 200 && len(g.body) < 4<<20)
				z, err := zip.NewReader(bytes.NewReader(g.body), int64(len(g.body)))
				if err != nil {
					t.Fatal(err)
				}
				last := z.File[len(z.File)-1]
				if last.UncompressedSize64 != size {
					t.Errorf("%s: declares %d", arg, last.UncompressedSize64)
				}
				if arg == "hidden" {
					continue
				}
				r, err := last.Open()
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, io.LimitReader(r, 5<<20)); n != 5<<20 || err != nil {
					t.Errorf("unpacks to %d bytes, %v", n, err)
				}
				r.Close()
			}
			zipLie(t, f)
		},
		"wrong-mod": func(t *testing.T, f string) {
			lie(modPath, w.Mod(m))(t, f)
			want(t, ask(t, f, zipPath), whole(ask(t, f, zipPath)))
		},
		"wrong-info": func(t *testing.T, f string) {
			lie(infoPath, w.Info(m))(t, f)
			lie(latest, w.Info(m))(t, f)
			var v struct{ Version, Time string }
			if err := json.Unmarshal(ask(t, f, infoPath).body, &v); err != nil || v.Version != "v1.2.1" || v.Time == "" {
				t.Errorf("%+v, %v", v, err)
			}
		},
		"stale": func(t *testing.T, f string) {
			g := ask(t, "stale=1", listPath)
			want(t, g, string(g.body) == "v1.0.0\nv1.1.0\n")
			g = ask(t, "stale=1", latest)
			want(t, g, g.status == 200 && strings.Contains(string(g.body), `"v1.1.0"`))
			for _, p := range []string{infoPath, modPath, zipPath} {
				g := ask(t, "stale=1", p)
				want(t, g, g.status == 404)
			}
			g = ask(t, "stale=1", "/example.com/m/@v/v1.1.0.mod")
			want(t, g, g.status == 200)
			g = ask(t, "stale=9", listPath)
			want(t, g, g.status == 200 && len(g.body) == 0)
			g = ask(t, "stale=9", latest)
			want(t, g, g.status == 404)
		},
	}
	for _, i := range faults.All() {
		check := checks[i.Name]
		if i.Wire {
			check = code(501) // not to be had of a handler, which says so
		}
		if check == nil {
			t.Errorf("no test of %s", i.Name)
			continue
		}
		t.Run(i.Name, func(t *testing.T) { check(t, i.Example) })
	}
}

// zipIs demands the true zip of another version.
func zipIs(t *testing.T, g got, w *modtest.World, path, vers string) {
	t.Helper()
	if !bytes.Equal(g.body, w.Zip(module.Version{Path: path, Version: vers})) {
		t.Errorf("%v is not the zip of %s@%s", g, path, vers)
	}
}

func mapValues(m map[string]int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func diffBits(a, b []byte) int {
	if len(a) != len(b) {
		return -1
	}
	n := 0
	for i := range a {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n
}

func unzip(t *testing.T, data []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		files[f.Name] = string(body)
	}
	return files
}

// judge is the h1 of a zip of m as x/mod sees it, or why it is invalid.
func judge(t testing.TB, m module.Version, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := modzip.CheckZip(m, name); err != nil {
		return "invalid: " + err.Error()
	}
	h, err := dirhash.HashZip(name, dirhash.Hash1)
	if err != nil {
		return "invalid: " + err.Error()
	}
	return h
}

func TestEveryMutationIsInvalidOrHasAnotherHash(t *testing.T) {
	w, m := newWorld(t)
	truth := w.Zip(m)
	before := bytes.Clone(truth)
	seen := make(map[string]bool)
	valid := 0
	for name, data := range faults.Mutations(truth, m) {
		if seen[name] || strings.ContainsAny(name, " \t") {
			t.Errorf("the name %q is there twice, or has a space", name)
		}
		seen[name] = true
		h := judge(t, m, data)
		if h == w.H1Zip(m) {
			t.Errorf("%s is the truth", name)
		}
		if strings.HasPrefix(h, "h1:") {
			valid++
		}
	}
	if !bytes.Equal(truth, before) {
		t.Error("the true zip was changed")
	}
	for p := 0; p < 100; p += 10 {
		if name := fmt.Sprintf("cut/%d%%", p); !seen[name] {
			t.Errorf("lacks %s", name)
		}
	}
	for _, name := range []string{"other-version", "other-path", "other-module", "old-zip", "member/twice", "append/junk", "append/empty-end-record", "bomb/declared", "bomb/hidden", "case-clash",
		"bad-crc", "name/zipslip", "flip/first/local/signature", "flip/first/data/middle-byte", "flip/middle/data/middle-byte", "flip/last/data/middle-byte", "flip/middle/directory/name", "flip/end/signature", "zeros"} {
		if !seen[name] {
			t.Errorf("lacks %s", name)
		}
	}
	for _, name := range []string{"member/reordered", "flip/first/local/time", "prepend/junk"} {
		if seen[name] {
			t.Errorf("%s is harmless, but there", name)
		}
	}
	if len(seen) < 90 || valid < 10 {
		t.Errorf("%d mutations, %d of them valid zips; want more", len(seen), valid)
	}
	n := 0
	for range faults.Mutations(truth, m) {
		if n++; n == 3 {
			break
		}
	}
}

func FuzzMutationsOfAnyBytes(f *testing.F) {
	m := module.Version{Path: "example.com/m", Version: "v1.2.0"}
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for _, name := range []string{"go.mod", "a.go"} {
		fw, _ := zw.Create(m.String() + "/" + name)
		io.WriteString(fw, "module example.com/m\n")
	}
	zw.Close()
	f.Add(b.Bytes())
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		n := 0
		for _, mut := range faults.Mutations(data, m) {
			if bytes.Equal(mut, data) {
				t.Fatal("a mutation that is none")
			}
			if n++; n > 60 { // bombs are slow
				break
			}
		}
	})
}

func TestTheGoCommandRefusesEveryLyingZip(t *testing.T) {
	w, m := newWorld(t)
	db := w.SumDB("sumdb.test")
	dbServer := modtest.Serve(t, db)
	s := modtest.Serve(t, faults.ByPath(w.Handler()))
	for _, f := range []string{"flip=data", "flip=name", "bad-crc", "other-version", "other-module", "old-zip", "prefix", "zipslip", "case-clash",
		"bomb", "wrong-mod", "cut", "short", "html", "zip:empty", "zip:close", "404-html", "garbage"} {
		env := modtest.GoEnv(t, s.URL+"/"+parse(t, f).Elem(), db.GOSUMDB(dbServer.URL))
		if _, stderr, exit := modtest.Go(t, env, "", "mod", "download", m.String()); exit == 0 {
			t.Errorf("%s: the go command was content:\n%s", f, stderr)
		}
	}
	for _, f := range []string{"none", "gzip", "zip:drop-length", "hang=10ms", "stale=3/none"} {
		elem := f
		if f == "stale=3/none" {
			elem, m.Version = "sumdb:503", "v1.0.0"
		}
		env := modtest.GoEnv(t, s.URL+"/"+elem, db.GOSUMDB(dbServer.URL))
		if _, stderr, exit := modtest.Go(t, env, "", "mod", "download", m.String()); exit != 0 {
			t.Errorf("%s: %s", f, stderr)
		}
	}
}

func TestByPathListsChainsAndRefuses(t *testing.T) {
	w, m := newWorld(t)
	s := modtest.Serve(t, faults.ByPath(w.Handler()))
	c := s.Client()
	if g := fetch(t, c, s.URL+"/"); g.status != 200 || !strings.Contains(string(g.body), "hang-body [PLACE]") {
		t.Errorf("index: %v", g)
	}
	if g := fetch(t, c, s.URL+"/ct/example.com/m/@v/list"); g.status != 400 || !strings.Contains(string(g.body), `did you mean "cut"?`) {
		t.Errorf("unknown: %v", g)
	}
	if g := fetch(t, c, s.URL+"/example.com/m/@v/list"); g.status != 400 {
		t.Errorf("without a fault: %v", g)
	}
	zip := "/example.com/m/@v/v1.2.0.zip"
	if g := fetch(t, c, s.URL+"/zip:flip@100/zip:cut=0.5"+zip); g.status != 0 && g.err == nil {
		t.Errorf("chained: %v", g)
	}
	if g := fetch(t, c, s.URL+"/hang=20ms/zip:404"+zip); g.status != 404 || g.took < 20*time.Millisecond {
		t.Errorf("chained: %v", g)
	}
	if g := fetch(t, c, s.URL+"/hang=20ms/zip:404/example.com/m/@v/list"); g.status != 200 || g.took < 20*time.Millisecond {
		t.Errorf("chained, another kind: %v", g)
	}
	if g := fetch(t, c, s.URL+"/short=50%25"+zip); g.status != 200 || len(g.body) != len(w.Zip(m))/2 {
		t.Errorf("an escaped %%: %v", g)
	}
}

func TestALieCanBeReadInRangesAndByHEAD(t *testing.T) {
	w, m := newWorld(t)
	s := modtest.Serve(t, faults.ByPath(w.Handler()))
	truth := w.Zip(m)
	u := s.URL + "/flip@10/example.com/m/@v/v1.2.0.zip"
	if g := fetch(t, s.Client(), u, "Range", "bytes=5-14"); g.status != 206 || len(g.body) != 10 || diffBits(g.body, truth[5:15]) != 1 {
		t.Errorf("a range: %v", g)
	}
	resp, err := s.Client().Head(u)
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != int64(len(truth)) {
		t.Errorf("HEAD: %v, %v", resp, err)
	}
	resp.Body.Close()
	resp, err = s.Client().Head(s.URL + "/cut/example.com/m/@v/v1.2.0.zip")
	if err != nil || resp.ContentLength != int64(len(truth)) {
		t.Errorf("HEAD of what a GET would cut: %v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestOnHTTP2AStreamIsResetWhereAConnectionWouldBe(t *testing.T) {
	w, m := newWorld(t)
	s := modtest.ServeH2TLS(t, faults.ByPath(w.Handler()))
	c := s.Client()
	for _, f := range []string{"reset", "reset=50%25", "cut", "cut-chunked", "garbage"} {
		if g := fetch(t, c, s.URL+"/"+f+"/example.com/m/@v/v1.2.0.zip"); g.err == nil || !strings.Contains(g.err.Error(), "INTERNAL_ERROR") {
			t.Errorf("%s: %v; want a reset stream", f, g)
		}
	}
	if g := fetch(t, c, s.URL+"/close/example.com/m/@v/v1.2.0.zip"); g.err != nil || g.proto != 2 || !bytes.Equal(g.body, w.Zip(m)[:len(w.Zip(m))/2]) {
		t.Errorf("close: %v", g)
	}
	if g := fetch(t, c, s.URL+"/none/example.com/m/@v/v1.2.0.zip"); g.err != nil || g.proto != 2 {
		t.Errorf("the connection did not survive: %v", g)
	}
}

func TestALargeAnswerWaitsInAFileThatIsGoneAfterwards(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	w := modtest.New(t)
	m := w.Big("example.com/big", "v1.0.0", 6<<20)
	s := modtest.Serve(t, faults.ByPath(w.Handler()))
	truth := w.Zip(m)
	u := "/example.com/big/@v/v1.0.0.zip"
	if g := fetch(t, s.Client(), s.URL+"/cut"+u); g.err == nil || !bytes.Equal(g.body, truth[:len(truth)/2]) {
		t.Errorf("cut: %v", g)
	}
	if g := fetch(t, s.Client(), s.URL+"/drop-length"+u); g.err != nil || !bytes.Equal(g.body, truth) {
		t.Errorf("drop-length: %v", g)
	}
	s.Stop()
	if left, _ := filepath.Glob(filepath.Join(tmp, "sluice-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestAFaultCanBeSwitchedAndCounted(t *testing.T) {
	w, _ := newWorld(t)
	var sw faults.Switch
	c := &http.Client{Transport: modtest.Pipe(t, faults.Handler(w.Handler(), sw.Pick))}
	status := func(path string) int { return fetch(t, c, "http://source.test/example.com/m/"+path).status }
	if s := status("@v/list"); s != 200 {
		t.Errorf("a new switch: %d", s)
	}
	sw.Set(parse(t, "list:503"))
	if s, l := status("@v/list"), status("@latest"); s != 503 || l != 200 {
		t.Errorf("switched on for lists: list %d, latest %d", s, l)
	}
	sw.Clear()
	if s := status("@v/list"); s != 200 {
		t.Errorf("switched off: %d", s)
	}
	c = &http.Client{Transport: modtest.Pipe(t, faults.Handler(w.Handler(), faults.First(2, parse(t, "list:500"))))}
	var seen []int
	for range 3 {
		seen = append(seen, status("@latest"), status("@v/list"))
	}
	if !slices.Equal(seen, []int{200, 500, 200, 500, 200, 200}) {
		t.Errorf("the first two lists: %v", seen)
	}
	for _, f := range []faults.Fault{{}, {Name: "nix"}, {Name: "cut", Arg: "x"}, {Name: "cut", Only: "zap"}} {
		c = &http.Client{Transport: modtest.Pipe(t, faults.Handler(w.Handler(), faults.Always(f)))}
		if s := status("@v/list"); s != 500 {
			t.Errorf("a fault that Parse did not make, %+v: %d", f, s)
		}
	}
}

func TestSlowFaultsKeepTheirTime(t *testing.T) {
	w, m := newWorld(t)
	for path, want := range map[string]time.Duration{
		"/hang=1h0m0s/example.com/m/@v/list":     time.Hour,
		"/slow-list/example.com/m/@latest":       10 * time.Second,
		"/drip/example.com/m/@v/list":            21 * time.Second,
		"/drip=3/example.com/m/@v/list":          7 * time.Second,
		"/drip=1000/example.com/m/@v/v1.2.0.zip": time.Duration(len(w.Zip(m))) * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &http.Client{Transport: modtest.Pipe(t, faults.ByPath(w.Handler()))}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
			defer cancel()
			g := fetchCtx(ctx, t, c, "http://source.test"+path)
			if g.err != nil || g.took < want-time.Millisecond || g.took > want+100*time.Millisecond {
				t.Errorf("%s: %v; want it after %v", path, g, want)
			}
		})
	}
}

// listen starts f on a loopback port.
func listen(t *testing.T, f func(context.Context, net.Listener) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ln, f)
	return ln.Addr().String()
}

// serve runs f at ln, and demands that it ends with its context.
func serve(t *testing.T, ln net.Listener, f func(context.Context, net.Listener) error) {
	t.Helper()
	errStop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx, ln) }()
	t.Cleanup(func() {
		cancel(errStop)
		select {
		case err := <-ended:
			if !errors.Is(err, errStop) && !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(longest):
			t.Error("it does not end")
		}
		// Not by a dial: somebody else may have the port by now.
		if err := ln.(*net.TCPListener).SetDeadline(time.Now()); err == nil {
			t.Error("the listener is still there")
		}
	})
}

func TestABlackHoleAcceptsAndNeverAnswers(t *testing.T) {
	addr := listen(t, faults.BlackHole)
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience / 3))
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v; want nothing", n, err)
		}
	}
}

func TestASlamResetsAtOnce(t *testing.T) {
	addr := listen(t, faults.Slam)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return // so soon that even the dial saw it
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(longest))
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v; want a reset", n, err)
	}
}

func TestARelayDelaysEachDirectionAndKeepsEveryByte(t *testing.T) {
	const delay = 30 * time.Millisecond
	w := modtest.New(t)
	m := w.Big("example.com/big", "v1.0.0", 20<<20)
	w.Add("example.com/m", "v1.0.0", nil)
	s := modtest.Serve(t, w.Handler())
	addr := listen(t, func(ctx context.Context, ln net.Listener) error { return faults.Relay(ctx, ln, s.Addr, delay) })
	c := s.Client()
	first := fetch(t, c, "http://"+addr+"/example.com/m/@v/list")
	if first.err != nil || first.took < 4*delay {
		t.Errorf("first request: %v; want two round trips of %v each", first, 2*delay)
	}
	// A busy machine takes time of its own, but not each time; the relay does.
	for end := time.Now().Add(longest); ; {
		second := fetch(t, c, "http://"+addr+"/example.com/m/@v/list")
		if second.err != nil || second.took < 2*delay || time.Now().After(end) {
			t.Errorf("second request: %v; want one round trip of %v", second, 2*delay)
		} else if second.took >= 4*delay {
			continue
		}
		break
	}
	truth := w.Zip(m)
	for end := time.Now().Add(longest); ; {
		big := fetch(t, c, "http://"+addr+"/example.com/big/@v/v1.0.0.zip")
		if big.err != nil || !bytes.Equal(big.body, truth) {
			t.Errorf("a large answer: %v", big)
		} else if big.took > 5*time.Second {
			if time.Now().Before(end) {
				continue
			}
			t.Errorf("20 MiB took %v: the relay limits bandwidth", big.took)
		}
		break
	}
	// An orderly end passes through, in one direction and then in the other.
	echo := listen(t, func(ctx context.Context, ln net.Listener) error {
		defer context.AfterFunc(ctx, func() { ln.Close() })()
		for {
			c, err := ln.Accept()
			if err != nil {
				return context.Cause(ctx)
			}
			data, _ := io.ReadAll(c)
			c.Write(data)
			c.Close()
		}
	})
	addr = listen(t, func(ctx context.Context, ln net.Listener) error { return faults.Relay(ctx, ln, echo, delay) })
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "there and back")
	conn.(*net.TCPConn).CloseWrite()
	if data, err := io.ReadAll(conn); err != nil || string(data) != "there and back" {
		t.Errorf("half-closed: %q, %v", data, err)
	}
}

func TestARelayToNowhereResets(t *testing.T) {
	s := modtest.Serve(t, http.NotFoundHandler())
	s.Stop()
	addr := listen(t, func(ctx context.Context, ln net.Listener) error { return faults.Relay(ctx, ln, s.Addr, 0) })
	if g := fetch(t, http.DefaultClient, "http://"+addr+"/"); g.err == nil {
		t.Errorf("%v; want an error", g)
	}
}
