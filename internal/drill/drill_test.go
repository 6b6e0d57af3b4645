package drill_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/drill"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

var update = flag.Bool("update", false, "write the golden reports anew")

func plan(t *testing.T, fault string, last time.Duration, h http.Handler) drill.Plan {
	t.Helper()
	f, err := faults.Parse(fault)
	if err != nil {
		t.Fatal(err)
	}
	return drill.Plan{Fault: f, For: last, Source: h, Name: "https://proxy.example.com"}
}

// ask is a command that asks for one path.
func ask(path string) func(context.Context, string) (drill.Outcome, error) {
	return func(ctx context.Context, u string) (drill.Outcome, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+path, nil)
		if err != nil {
			return drill.Outcome{}, err
		}
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Do(req)
		if ctx.Err() != nil {
			return drill.Outcome{}, context.Cause(ctx)
		}
		if err != nil {
			return drill.Outcome{Exit: 1, Took: time.Second, Said: []string{err.Error()}}, nil
		}
		defer resp.Body.Close()
		if data, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			return drill.Outcome{Exit: 1, Took: time.Second, Said: []string{fmt.Sprintf("%s%s: %s %s %v", u, path, resp.Status, data, err)}}, nil
		}
		return drill.Outcome{Took: time.Second}, nil
	}
}

func newWorld(t *testing.T) *modtest.World {
	w := modtest.New(t)
	w.Add("example.com/m", "v1.0.0", modtest.Files{"m.go": "package m\n"})
	return w
}

const list = "/example.com/m/@v/list"

func TestAPlayHasTheFaultOnlyWhileItLasts(t *testing.T) {
	w := newWorld(t)
	var at string
	r, err := drill.Play(t.Context(), plan(t, "503", 0, w.Handler()), drill.Bare, func(ctx context.Context, u string) (drill.Outcome, error) {
		at = u
		return ask(list)(ctx, u)
	})
	if err != nil || r.Worked || r.Exit != 1 || r.Seconds != 1 || r.Met["list"] != 1 || r.Ended {
		t.Errorf("%+v, %v", r, err)
	}
	if len(r.Said) != 1 || !strings.HasPrefix(r.Said[0], "https://proxy.example.com"+list+": 503") {
		t.Errorf("said %q; the source's name belongs in place of the port's", r.Said)
	}
	// Somebody else may have the port by now, who says something else, if anything.
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	if resp, err := c.Get(at + list); err == nil {
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if said := string(data); strings.Contains(said, "as it was told to") || said == "v1.0.0\n" {
			t.Errorf("the port is still open: %s %q", resp.Status, said)
		}
	} else if os.IsTimeout(err) {
		t.Errorf("the port is still open, and nobody is there: %v", err)
	}
	if r, err = drill.Play(t.Context(), plan(t, "none", 0, w.Handler()), drill.Healthy, ask(list)); err != nil || !r.Worked || len(r.Met) != 0 {
		t.Errorf("without a fault: %+v, %v", r, err)
	}
	if r, err = drill.Play(t.Context(), drill.Plan{Source: w.Handler()}, drill.Healthy, ask(list)); err != nil || !r.Worked || len(r.Met) != 0 {
		t.Errorf("with the zero fault: %+v, %v", r, err)
	}
}

func TestAFaultEndsAfterItsTimeAndTheSourceIsWellAgain(t *testing.T) {
	w := newWorld(t)
	for _, fault := range []string{"hang", "black-hole", "list:drip"} {
		for last := 50 * time.Millisecond; ; last *= 2 {
			began := time.Now()
			r, err := drill.Play(t.Context(), plan(t, fault, last, w.Handler()), drill.Bare, ask(list))
			if err == nil && len(r.Met) == 0 && last < time.Minute {
				continue // on a busy machine it was over before the command came to it
			}
			if err != nil || !r.Worked || !r.Ended || len(r.Met) != 1 || time.Since(began) < last {
				t.Errorf("%s: %+v, %v", fault, r, err)
			}
			break
		}
	}
}

func TestAPlayEndsWithItsContext(t *testing.T) {
	stop := errors.New("stop")
	for _, fault := range []string{"hang", "black-hole", "drip", "tls-stall", "refused"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
		_, err := drill.Play(ctx, plan(t, fault, 0, newWorld(t).Handler()), drill.Bare, func(ctx context.Context, u string) (drill.Outcome, error) {
			out, err := ask(list)(ctx, u)
			if err == nil {
				<-ctx.Done()
				err = context.Cause(ctx)
			}
			return out, err
		})
		if !errors.Is(err, stop) {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

func TestAnErrorOfTheCommandIsThatOfThePlay(t *testing.T) {
	oops := errors.New("no such command")
	if r, err := drill.Play(t.Context(), plan(t, "503", 0, newWorld(t).Handler()), drill.Bare, func(context.Context, string) (drill.Outcome, error) {
		return drill.Outcome{}, oops
	}); !errors.Is(err, oops) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestATrueSourceIsAskedAsTheGoCommandWould(t *testing.T) {
	w := newWorld(t)
	var asked []string
	s := modtest.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		user, pw, _ := r.BasicAuth()
		asked = append(asked, fmt.Sprintf("%s:%s %s %s %s", user, pw, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For")))
		if strings.HasSuffix(r.URL.Path, "@latest") {
			rw.Header().Set("Location", "other?x=1")
			rw.WriteHeader(http.StatusFound)
			return
		}
		http.StripPrefix("/go/proxy", w.Handler()).ServeHTTP(rw, r)
	}))
	base, err := url.Parse(s.URL + "/go/proxy/?token=x")
	if err != nil {
		t.Fatal(err)
	}
	base.User = url.UserPassword("me", "secret")
	front := modtest.Serve(t, drill.Proxy(base, s.Client().Transport))
	get := func(path string) (int, string, string) {
		resp, err := front.Client().Transport.RoundTrip(&http.Request{Method: "GET", URL: must(t, front.URL+path), Header: http.Header{}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(data), resp.Header.Get("Location")
	}
	if code, body, _ := get(list); code != 200 || body != "v1.0.0\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _, _ := get("/example.com/%21m/@v/v1.0.0.mod"); code != 404 {
		t.Errorf("of another module: %d", code)
	}
	if code, _, loc := get("/example.com/m/@latest"); code != 302 || loc != s.URL+"/go/proxy/example.com/m/other?x=1" {
		t.Errorf("a redirect: %d %s", code, loc)
	}
	want := []string{
		"me:secret " + s.Addr + " /go/proxy" + list + "?token=x ",
		"me:secret " + s.Addr + " /go/proxy/example.com/%21m/@v/v1.0.0.mod?token=x ",
		"me:secret " + s.Addr + " /go/proxy/example.com/m/@latest?token=x ",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked\n%q, want\n%q", asked, want)
	}
	s.Stop()
	if code, body, _ := get(list); code != 502 || !strings.Contains(body, "the true source "+s.URL+"/go/proxy/ gave no answer") || strings.Contains(body, "secret") {
		t.Errorf("a source that is down: %d %q", code, body)
	}
}

func must(t *testing.T, raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestATreeIsServedAndNothingOutsideOfIt(t *testing.T) {
	dir := t.TempDir()
	newWorld(t).WriteTree(filepath.Join(dir, "tree"))
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, path string
		status    int
	}{
		{"tree", list, 200},
		{"tree", "/example.com/m/@v/v1.0.0.zip", 200},
		{"tree", "/example.com/m/@v/v1.0.1.zip", 404},
		{"tree", list + "/below", 404},
		{"tree", "/example.com", 404},
		{"tree", "/../secret", 502},
		{"none", list, 502},
	} {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: test.path}, Header: http.Header{}}
		w := &recorder{header: http.Header{}}
		drill.Tree(filepath.Join(dir, test.dir)).ServeHTTP(w, r)
		if w.status != test.status || strings.Contains(w.body.String(), "secret\x00") {
			t.Errorf("%s of %s: %d %.60q, want %d", test.path, test.dir, w.status, &w.body, test.status)
		}
	}
}

type recorder struct {
	header http.Header
	status int
	body   strings.Builder
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(c int)   { r.status = c }
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = 200
	}
	return r.body.Write(p)
}

func TestATailKeepsTheLastLines(t *testing.T) {
	var tail drill.Tail
	for i := range 20 {
		fmt.Fprintf(&tail, "line %d\r\n\n", i)
	}
	fmt.Fprintf(&tail, "%s\nthe ", strings.Repeat("x", 1<<20))
	fmt.Fprint(&tail, "end")
	lines := tail.Lines()
	if len(lines) != 8 || lines[0] != "line 14" || len(lines[6]) != 4<<10 || lines[7] != "the end" {
		t.Errorf("%.20q", lines)
	}
}

// reports are a drill of each outcome.
func reports() map[string]*drill.Report {
	base := func(runs ...drill.Run) *drill.Report {
		r := &drill.Report{
			Fault: "503=7", Does: "503 Service Unavailable, with Retry-After if given", Source: "https://proxy.example.com", Position: 1, Sources: 2,
			Chain: "https://proxy.example.com|https://b.example", For: 60, Command: []string{"go", "mod", "download"},
		}
		for _, run := range runs {
			r.Add(run)
		}
		return r
	}
	healthy := drill.Run{Name: drill.Healthy, Worked: true, Seconds: 1.25}
	failed := drill.Run{Name: drill.Bare, Exit: 1, Seconds: 0.5, Met: map[string]int{"zip": 3, "info": 1, "sumdb": 2}, Said: []string{"go: it is down", "\tserver response: 503"}}
	ended := drill.Run{Name: drill.Bare, Worked: true, Seconds: 61, Ended: true, Met: map[string]int{"connection": 1}}
	through := drill.Run{Name: drill.Through, Worked: true, Seconds: 1.5, Met: map[string]int{"mod": 1}, Logged: []string{"level=WARN msg=\"source failed\""}}
	m := map[string]*drill.Report{
		"alone":   base(healthy, failed),
		"through": base(healthy, failed, through),
		"ended":   base(healthy, ended),
		"unmet":   base(healthy, drill.Run{Name: drill.Bare, Worked: true, Seconds: 1.2}),
		"sick":    base(drill.Run{Name: drill.Healthy, Exit: 2, Seconds: 0.1, Said: []string{"no go.mod"}}),
	}
	refused := base(healthy, drill.Run{Name: drill.Bare, Exit: 1, Seconds: 0.1, Said: []string{"connection refused"}})
	refused.Fault, refused.Lasting, refused.For = "dns", true, 0
	m["uncounted"] = refused
	m["impossible"] = base(healthy, drill.Run{Name: drill.Bare, Exit: 1, Seconds: 0.1, Met: map[string]int{"zip": 2, "impossible": 2}})
	return m
}

func TestReportsAreAsTheyWere(t *testing.T) {
	for name, r := range reports() {
		var b strings.Builder
		if err := r.Text(&b); err != nil {
			t.Fatal(err)
		}
		b.WriteString("-----\n")
		if err := r.Markdown(&b); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || b.String() != string(want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, b.String(), want)
		}
		if worked := map[string]bool{"through": true, "ended": true, "unmet": true}[name]; r.Worked != worked {
			t.Errorf("%s: worked %t", name, r.Worked)
		}
	}
}
