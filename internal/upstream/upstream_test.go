package upstream_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

var quote = goproxy.Request{Kind: goproxy.Mod, Module: module.Version{Path: "rsc.io/quote", Version: "v1.5.2"}}

// A source is a Source that answers as its test says. That it cannot be compared
// is on purpose: an interface promises nothing else.
type source struct {
	name string
	kind upstream.Kind
	err  error  // what Get fails with
	body string // what it answers if err is nil

	log *[]string // who was asked
	_   [0]func()
}

func (s source) Name() string        { return s.name }
func (s source) Kind() upstream.Kind { return s.kind }

func (s source) Get(context.Context, goproxy.Request) (*upstream.Answer, error) {
	*s.log = append(*s.log, s.name)
	if s.err != nil {
		return nil, s.err
	}
	return &upstream.Answer{Body: io.NopCloser(strings.NewReader(s.body)), Size: int64(len(s.body))}, nil
}

var errBad = errors.New("this is no go.mod file")

// accept takes any answer but "bad".
func accept(_ context.Context, _ upstream.Source, a *upstream.Answer) error {
	data, err := io.ReadAll(a.Body)
	if err == nil && string(data) == "bad" {
		err = errBad
	}
	return err
}

// outcomes are the ways in which a source can fail.
var outcomes = []struct {
	name     string
	stage    upstream.Stage
	status   int
	err      error
	answered bool // it had a say
}{
	{"404", upstream.StageHTTP, 404, nil, true},
	{"410", upstream.StageHTTP, 410, nil, true},
	{"401", upstream.StageHTTP, 401, nil, true},
	{"403", upstream.StageHTTP, 403, nil, true},
	{"429", upstream.StageHTTP, 429, nil, true},
	{"500", upstream.StageHTTP, 500, nil, true},
	{"cut", upstream.StageBody, 0, io.ErrUnexpectedEOF, true},
	{"timeout", upstream.StageHTTP, 0, upstream.ErrStalled, false},
	{"refused", upstream.StageConnect, 0, syscall.ECONNREFUSED, false},
	{"tls", upstream.StageTLS, 0, errors.New("unknown authority"), false},
	{"bad", "", 0, nil, true}, // a 200 that accept refuses
}

// goCommandAsks is modfetch.TryProxies of Go 1.26: who is asked, and whether all
// that was asked said "not found".
func goCommandAsks(links []upstream.Link, f func(upstream.Link) error) (asked []string, err error) {
	for _, l := range links {
		asked = append(asked, l.Source.Name())
		if err = f(l); err == nil {
			return asked, nil
		}
		if !l.FallBack && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return asked, err
}

func TestAChainIsWalkedAsTheGoCommandWalksIt(t *testing.T) {
	for _, out := range outcomes {
		for _, fallBack := range []bool{false, true} {
			for _, failover := range []upstream.Failover{upstream.AsWritten, upstream.Proxies} {
				for _, end := range []string{"nothing", "proxy", "tree", "direct", "off"} {
					sep := map[bool]string{false: ",", true: "|"}[fallBack]
					name := fmt.Sprintf("%s%s%s/%d", out.name, sep, end, failover)
					t.Run(name, func(t *testing.T) {
						var log []string
						first := source{name: "A", kind: upstream.Proxy, body: out.name, log: &log}
						if out.name != "bad" {
							first.err = &upstream.Error{Source: "A", Stage: out.stage, Status: out.status, Err: out.err}
						}
						c := upstream.Chain{Failover: failover, Links: []upstream.Link{{Source: first, FallBack: fallBack}}}
						switch end {
						case "proxy":
							c.Links = append(c.Links, upstream.Link{Source: source{name: "B", kind: upstream.Proxy, body: "good", log: &log}})
						case "tree":
							c.Links = append(c.Links, upstream.Link{Source: source{name: "B", kind: upstream.Tree, body: "good", log: &log}})
						case "direct":
							c.Links = append(c.Links, upstream.Link{Source: source{name: "direct", kind: upstream.Direct, body: "good", log: &log}})
						case "off":
							c.Links = append(c.Links, upstream.Link{Source: upstream.OffSource{}})
						}
						missing := out.name == "404" || out.name == "410"
						want, _ := goCommandAsks(c.Links, func(l upstream.Link) error {
							switch {
							case l.Source.Name() == "off" || l.Source.Name() == "A" && missing:
								return fs.ErrNotExist
							case l.Source.Name() == "A":
								return errBad
							}
							return nil
						})
						// "off" behind another source says nothing that it has not said.
						want = slices.DeleteFunc(want, func(s string) bool { return s == "off" })
						refused := out.status == 401 || out.status == 403
						if failover == upstream.Proxies && !refused && (end == "proxy" || end == "tree") {
							want = []string{"A", "B"}
						}

						attempts, err := c.Fetch(t.Context(), quote, accept)
						if !slices.Equal(log, want) {
							t.Fatalf("asked %v, want %v", log, want)
						}
						if len(attempts) != len(want) {
							t.Errorf("%d attempts are told of, want %d", len(attempts), len(want))
						}
						if slices.Contains(want, "B") || slices.Contains(want, "direct") {
							if err != nil {
								t.Fatalf("Fetch failed although the second source has it: %v", err)
							}
							return
						}
						we, ok := errors.AsType[*upstream.WalkError](err)
						if !ok {
							t.Fatalf("Fetch = %v, want a WalkError", err)
						}
						if we.NotExist() != missing || errors.Is(err, fs.ErrNotExist) != missing {
							t.Errorf("NotExist() = %v, errors.Is(ErrNotExist) = %v, want %v: %v", we.NotExist(), errors.Is(err, fs.ErrNotExist), missing, err)
						}
						unasked := end == "proxy" || end == "tree" || end == "direct"
						switch {
						case unasked && failover == upstream.Proxies && !refused:
							if want := "direct is not asked in place of a proxy in trouble"; we.Stopped != want {
								t.Errorf("Stopped = %q, want %q", we.Stopped, want)
							}
						case unasked:
							if !strings.Contains(we.Stopped, "comma follows A") {
								t.Errorf("Stopped = %q, want the comma", we.Stopped)
							}
						case we.Stopped != "":
							t.Errorf("Stopped = %q, but nobody was left to be asked", we.Stopped)
						}
						text := cmp.Or(map[string]string{"bad": errBad.Error(), "404": "404 Not Found", "500": "500 Internal Server Error", "429": "429 Too Many Requests",
							"timeout": "no progress", "refused": "connection refused", "cut": "unexpected EOF"}[out.name], out.name, "A")
						if s := err.Error(); !strings.HasPrefix(s, "rsc.io/quote@v1.5.2 (mod): A: ") || out.name != "tls" && !strings.Contains(s, text) {
							t.Errorf("the error %q does not say what A said (%s)", s, text)
						}
						if worst, ok := we.Worst(); !ok || worst.Source != "A" {
							t.Errorf("Worst() = %v, %v", worst, ok)
						}
						if out.err != nil && !errors.Is(err, out.err) {
							t.Errorf("the error does not match its cause %v", out.err)
						}
						if out.name == "bad" && !errors.Is(err, errBad) {
							t.Errorf("the error does not match what accept returned")
						}
					})
				}
			}
		}
	}
}

func TestOnlyASourceThatAnsweredHasASayInWhatDoesNotExist(t *testing.T) {
	for _, out := range outcomes {
		var log []string
		first := source{name: "A", kind: upstream.Proxy, body: out.name, log: &log}
		if out.name != "bad" {
			first.err = &upstream.Error{Source: "A", Stage: out.stage, Status: out.status, Err: out.err}
		}
		c := upstream.Chain{Links: []upstream.Link{
			{Source: first, FallBack: true},
			{Source: source{name: "B", kind: upstream.Proxy, err: &upstream.Error{Source: "B", Status: 404}, log: &log}},
		}}
		_, err := c.Fetch(t.Context(), quote, accept)
		want := !out.answered || out.status == 404 || out.status == 410
		if got := errors.Is(err, fs.ErrNotExist); got != want {
			t.Errorf("after %s of A and 404 of B the thing is said to be missing: %v, want %v", out.name, got, want)
		}
	}
}

func TestTheRulesOfLongerChains(t *testing.T) {
	fail := func(status int) error {
		return &upstream.Error{Source: "x", Stage: upstream.StageHTTP, Status: status}
	}
	dead := &upstream.Error{Source: "x", Stage: upstream.StageConnect, Err: syscall.ECONNREFUSED}
	for _, tt := range []struct {
		list     string // as in GOPROXY; an upper-case letter is a proxy, "t" a tree
		failover upstream.Failover
		says     map[string]error
		asked    string
		notExist bool
		stopped  string
	}{
		// A comma in front of a proxy in trouble is no less binding when more follow.
		{"A,B,direct", upstream.AsWritten, map[string]error{"A": fail(404), "B": fail(500)}, "A B", false, "comma follows B"},
		{"A|B,direct", upstream.AsWritten, map[string]error{"A": fail(500), "B": fail(404), "direct": fail(404)}, "A B direct", false, ""},
		{"A|B,direct", upstream.AsWritten, map[string]error{"A": dead, "B": fail(404), "direct": fail(404)}, "A B direct", true, ""},
		{"A|B", upstream.AsWritten, map[string]error{"A": fail(404), "B": dead}, "A B", true, ""},
		{"A|B", upstream.AsWritten, map[string]error{"A": dead, "B": dead}, "A B", false, ""},
		{"A|direct", upstream.AsWritten, map[string]error{"A": fail(403), "direct": fail(404)}, "A direct", false, ""},
		{"A,direct,B", upstream.AsWritten, map[string]error{"A": fail(404), "direct": fail(404), "B": fail(404)}, "A direct B", true, ""},
		// Passing over proxies ends before version control, whatever stands between.
		{"A,B,direct", upstream.Proxies, map[string]error{"A": fail(500), "B": fail(404)}, "A B", false, "direct is not asked"},
		{"A,B|direct", upstream.Proxies, map[string]error{"A": dead, "B": fail(500)}, "A B", false, "direct is not asked"},
		{"A|B,direct", upstream.Proxies, map[string]error{"A": dead, "B": fail(404), "direct": fail(404)}, "A B direct", true, ""},
		{"A,t,B", upstream.Proxies, map[string]error{"A": dead, "t": fail(404), "B": fail(404)}, "A t B", true, ""},
		{"A,B,off", upstream.Proxies, map[string]error{"A": dead, "B": dead}, "A B", false, ""},
		// A no on purpose is final, except past a bar.
		{"A,B", upstream.Proxies, map[string]error{"A": fail(403)}, "A", false, "comma follows A"},
		{"A,B", upstream.Proxies, map[string]error{"A": fail(401)}, "A", false, "comma follows A"},
		{"A|B", upstream.Proxies, map[string]error{"A": fail(403), "B": fail(404)}, "A B", false, ""},
		// The same source twice: the second stands for itself.
		{"A,A", upstream.AsWritten, map[string]error{"A": fail(500)}, "A", false, "comma follows A"},
		{"off", upstream.AsWritten, nil, "", true, ""},
		{"A,off", upstream.AsWritten, map[string]error{"A": fail(404)}, "A", true, ""},
		{"A|off", upstream.AsWritten, map[string]error{"A": fail(500)}, "A", false, ""},
		{"", upstream.AsWritten, nil, "", false, ""},
	} {
		t.Run(tt.list, func(t *testing.T) {
			var log []string
			c := upstream.Chain{Failover: tt.failover}
			for rest := tt.list; rest != ""; {
				name, bar := rest, false
				if i := strings.IndexAny(rest, ",|"); i >= 0 {
					name, bar, rest = rest[:i], rest[i] == '|', rest[i+1:]
				} else {
					rest = ""
				}
				kind := map[string]upstream.Kind{"direct": upstream.Direct, "t": upstream.Tree}[name]
				var src upstream.Source = source{name: name, kind: cmp.Or(kind, upstream.Proxy), err: tt.says[name], log: &log}
				if name == "off" {
					src = upstream.OffSource{}
				}
				c.Links = append(c.Links, upstream.Link{Source: src, FallBack: bar})
			}
			_, err := c.Fetch(t.Context(), quote, accept)
			if got := strings.Join(log, " "); got != tt.asked {
				t.Errorf("asked %q, want %q", got, tt.asked)
			}
			we, ok := errors.AsType[*upstream.WalkError](err)
			if !ok {
				t.Fatalf("Fetch = %v, want a WalkError", err)
			}
			if we.NotExist() != tt.notExist || errors.Is(err, fs.ErrNotExist) != tt.notExist {
				t.Errorf("NotExist() = %v, errors.Is = %v, want %v", we.NotExist(), errors.Is(err, fs.ErrNotExist), tt.notExist)
			}
			if tt.stopped == "" && we.Stopped != "" || !strings.Contains(we.Stopped, tt.stopped) {
				t.Errorf("Stopped = %q, want %q", we.Stopped, tt.stopped)
			}
			if worst, ok := we.Worst(); ok != (tt.list != "") || ok && !tt.notExist && errors.Is(worst.Err, fs.ErrNotExist) {
				t.Errorf("Worst() = %v, %v", worst, ok)
			}
		})
	}
}

func TestOffSaysThatItIsOff(t *testing.T) {
	c := upstream.Chain{Links: []upstream.Link{{Source: upstream.OffSource{}}}}
	_, err := c.Fetch(t.Context(), quote, accept)
	if !errors.Is(err, upstream.ErrOff) || !strings.Contains(err.Error(), "GOPROXY=off") {
		t.Errorf("Fetch = %v", err)
	}
	if got := c.Names(); !slices.Equal(got, []string{"off"}) {
		t.Errorf("Names() = %v", got)
	}
	if _, err := (&upstream.Chain{}).Fetch(t.Context(), quote, accept); !strings.Contains(err.Error(), "no source may be asked") {
		t.Errorf("an empty chain says %v", err)
	}
}

func TestAMissingFileInAJudgementIsNotNotFound(t *testing.T) {
	for name, judgement := range map[string]error{
		"plain":              fs.ErrNotExist,
		"wrapped":            fmt.Errorf("a file of the zip: %w", fs.ErrNotExist),
		"of another source":  &upstream.Error{Source: "B", Stage: upstream.StageHTTP, Status: 404},
		"another's trouble":  fmt.Errorf("its .mod: %w", &upstream.Error{Source: "B", Stage: upstream.StageHTTP, Status: 500}),
		"of the same source": &upstream.Error{Source: "A", Stage: upstream.StageHTTP, Status: 404},
		"inside an error":    &upstream.Error{Source: "A", Stage: upstream.StageBody, Err: fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			c := upstream.Chain{Links: []upstream.Link{
				{Source: source{name: "A", kind: upstream.Proxy, log: &log}},
				{Source: source{name: "B", kind: upstream.Proxy, log: &log}},
			}}
			_, err := c.Fetch(t.Context(), quote, func(context.Context, upstream.Source, *upstream.Answer) error { return judgement })
			we, ok := errors.AsType[*upstream.WalkError](err)
			if !ok || we.NotExist() || errors.Is(err, fs.ErrNotExist) || len(log) != 1 {
				t.Errorf("Fetch = %v after asking %v; a bad answer stops at the comma", err, log)
			}
			if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Source != "A" || !e.Answered() {
				t.Errorf("the failure is told as %#v, not as A's", e)
			}
		})
	}
}

func TestTheBodysOwnErrorKeepsItsStage(t *testing.T) {
	var log []string
	c := upstream.Chain{Links: []upstream.Link{{Source: source{name: "A", kind: upstream.Proxy, log: &log}}}}
	attempts, _ := c.Fetch(t.Context(), quote, func(context.Context, upstream.Source, *upstream.Answer) error {
		return fmt.Errorf("reading: %w", &upstream.Error{Source: "A", Stage: upstream.StageBody, Err: io.ErrUnexpectedEOF})
	})
	if e, ok := errors.AsType[*upstream.Error](attempts[0].Err); !ok || e.Stage != upstream.StageBody {
		t.Errorf("the attempt failed with %v", attempts[0].Err)
	}
}

func TestAnAbortEndsTheWalkWithItsOwnError(t *testing.T) {
	for name, wrap := range map[string]func(error) error{
		"bare":    upstream.Abort,
		"wrapped": func(err error) error { return fmt.Errorf("judging: %w", upstream.Abort(err)) },
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			c := upstream.Chain{Links: []upstream.Link{
				{Source: source{name: "A", kind: upstream.Proxy, log: &log}, FallBack: true},
				{Source: source{name: "B", kind: upstream.Proxy, log: &log}},
			}}
			full := fmt.Errorf("no room: %w", fs.ErrNotExist)
			attempts, err := c.Fetch(t.Context(), quote, func(context.Context, upstream.Source, *upstream.Answer) error { return wrap(full) })
			if err != full || len(log) != 1 || len(attempts) != 1 || attempts[0].Err != full {
				t.Errorf("Fetch = %v, %v after asking %v", attempts, err, log)
			}
		})
	}
}

func TestACancelledWalkReturnsTheCause(t *testing.T) {
	gone := errors.New("the client has gone")
	for _, status := range []int{404, 500} {
		var log []string
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		c := upstream.Chain{Failover: upstream.Proxies, Links: []upstream.Link{
			{Source: source{name: "A", kind: upstream.Proxy, log: &log, err: &upstream.Error{Source: "A", Stage: upstream.StageHTTP, Status: status}}, FallBack: true},
			{Source: cancelling{source{name: "B", kind: upstream.Proxy, log: &log}, func() { cancel(gone) }}, FallBack: true},
			{Source: source{name: "C", kind: upstream.Proxy, log: &log}},
		}}
		attempts, err := c.Fetch(ctx, quote, accept)
		if err != gone || len(attempts) != 2 || slices.Contains(log, "C") {
			t.Errorf("Fetch = %v after asking %v", err, log)
		}
	}
}

type cancelling struct {
	source
	cancel func()
}

func (s cancelling) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	s.source.Get(ctx, req)
	s.cancel()
	return nil, context.Cause(ctx)
}

// A closer tells whether it was closed.
type closer struct {
	io.Reader
	closed *int
}

func (c closer) Close() error { *c.closed++; return nil }

type closing struct {
	source
	closed *int
}

func (s closing) Get(context.Context, goproxy.Request) (*upstream.Answer, error) {
	return &upstream.Answer{Body: closer{strings.NewReader(s.body), s.closed}, Size: -1}, nil
}

func TestTheWalkClosesEveryBody(t *testing.T) {
	closed := 0
	c := upstream.Chain{Failover: upstream.Proxies, Links: []upstream.Link{
		{Source: closing{source{name: "A", kind: upstream.Proxy, body: "bad"}, &closed}},
		{Source: closing{source{name: "B", kind: upstream.Proxy, body: "good"}, &closed}},
	}}
	if attempts, err := c.Fetch(t.Context(), quote, accept); err != nil || len(attempts) != 2 || closed != 2 {
		t.Errorf("Fetch = %v, %v; %d bodies closed", attempts, err, closed)
	}
}

func TestAnErrorReadsAsASentence(t *testing.T) {
	for _, tt := range []struct {
		err  upstream.Error
		want string
	}{
		{upstream.Error{Source: "https://a.test", Status: 403, Text: "no licence\nask Ann"}, "https://a.test: 403 Forbidden: no licence; ask Ann"},
		{upstream.Error{Source: "https://a.test", Status: 599}, "https://a.test: 599"},
		{upstream.Error{Source: "https://a.test", Stage: upstream.StageDNS, Err: errors.New("no such host")}, "https://a.test: no such host"},
		{upstream.Error{Source: "https://a.test", Stage: upstream.StageTLS}, "https://a.test: tls failed"},
		{upstream.Error{Source: "https://a.test", Stage: upstream.StageBody, Err: errors.New("read tcp 192.0.2.1:40000->[2001:db8::1]:443: reset by peer")},
			"https://a.test: read tcp [2001:db8::1]:443: reset by peer"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
	}
	for code := range 600 {
		e := &upstream.Error{Source: "A", Status: code, Err: fs.ErrNotExist}
		if want := code == http.StatusNotFound || code == http.StatusGone; errors.Is(e, fs.ErrNotExist) != want {
			t.Errorf("status %d matches fs.ErrNotExist: %v", code, !want)
		}
	}
}
