package mirror_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// fault is a fault of the catalogue.
func fault(t testing.TB, name string) faults.Fault {
	t.Helper()
	f, err := faults.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A bubble is a rig whose one source is in process and can be spoiled, in a
// synctest bubble, where a minute costs nothing.
type bubble struct {
	*rig
	t      *testing.T
	w      *modtest.World
	spoilt faults.Switch
	since  time.Time
}

const (
	mutablePath = "lists.test/m"
	v1          = "v1.0.0"
	v2          = "v1.1.0"
)

// changing are the questions whose answers change.
var changing = []goproxy.Request{list(mutablePath), latest(mutablePath), query(mutablePath, "main"), query(mutablePath, "feature/x")}

// inBubble runs f once for each changing question.
func inBubble(t *testing.T, f func(b *bubble, req goproxy.Request)) {
	for _, req := range changing {
		t.Run(strings.ReplaceAll(req.Path(), "/", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bubble{t: t, w: modtest.New(t), since: time.Now()}
				b.release(v1)
				b.rig = b.open(store.NewMem())
				f(b, req)
			})
		})
	}
}

// open makes a mirror over a store; the source is the bubble's.
func (b *bubble) open(st store.Store) *rig {
	src := pipe(b.t, "s", faults.Handler(b.w.Handler(), b.spoilt.Pick))
	return newRig(b.t, parts{sources: []upstream.Source{src}, store: st})
}

// release adds a version, to which all changing questions lead.
func (b *bubble) release(v string) {
	b.w.Add(mutablePath, v, nil)
	b.w.SetQuery(mutablePath, "main", v)
	b.w.SetQuery(mutablePath, "feature/x", v)
}

// answer is what the source says now.
func (b *bubble) answer(req goproxy.Request, v string) []byte {
	if req.Kind == goproxy.List {
		if v == v2 {
			return []byte(v1 + "\n" + v2 + "\n")
		}
		return []byte(v1 + "\n")
	}
	return b.w.Info(module.Version{Path: mutablePath, Version: v})
}

func (b *bubble) wantStale(req goproxy.Request, data []byte, within time.Duration) got {
	b.t.Helper()
	start := time.Now()
	g := b.want(req, data)
	if took := time.Since(start); took > within {
		b.t.Errorf("%v: took %v; want at most %v", req, took, within)
	}
	if g.res.Stale == "" {
		b.t.Errorf("%v: answered as fresh: %+v", req, g.res)
	}
	return g
}

func (b *bubble) wantFresh(req goproxy.Request, data []byte) got {
	b.t.Helper()
	g := b.want(req, data)
	if g.res.Stale != "" {
		b.t.Errorf("%v: answered as stale: %s", req, g.res.Stale)
	}
	return g
}

func TestAnAnswerIsFreshForItsTime(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		first := b.wantFresh(req, b.answer(req, v1))
		if first.res.Hit || first.res.ETag == "" || first.res.Source != "s" || !first.res.Time.Equal(time.Now()) {
			b.t.Errorf("%+v", first.res)
		}
		b.release(v2)
		time.Sleep(time.Minute - time.Second)
		if g := b.wantFresh(req, b.answer(req, v1)); !g.res.Hit || g.res.ETag != first.res.ETag || !g.res.Time.Equal(first.res.Time) {
			b.t.Errorf("%+v", g.res)
		}
		if n := b.w.Hits(req.Path()); n != 1 {
			b.t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Second)
		if g := b.wantFresh(req, b.answer(req, v2)); g.res.Hit || g.res.ETag == first.res.ETag {
			b.t.Errorf("%+v", g.res)
		}
		if n := b.w.Hits(req.Path()); n != 2 {
			b.t.Errorf("asked %d times", n)
		}
	})
}

func TestClientsWithOneQuestionAreOneQuestion(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		for i, f := range []string{"none", "hang=1s", "503"} {
			b.spoilt.Set(fault(b.t, f))
			b.w.Forget()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if g := b.get(req); g.err != nil || !bytes.Equal(g.data, b.answer(req, v1)) {
						b.t.Errorf("%s: %v", f, g)
					}
				})
			}
			wg.Wait()
			// A 503 comes at once, and each may have been early enough for its own.
			if n := b.w.Hits(req.Path()); i < 2 && n != 1 {
				b.t.Errorf("%s: asked %d times", f, n)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

func TestAnOlderAnswerIsGivenInTwoSecondsWhileTheSourceHangs(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.wantFresh(req, b.answer(req, v1))
		b.release(v2)
		time.Sleep(2 * time.Minute)
		b.spoilt.Set(fault(b.t, "hang=25s"))
		start := time.Now()
		if g := b.wantStale(req, b.answer(req, v1), 2*time.Second); !g.res.Time.Before(start.Add(-time.Minute)) {
			b.t.Errorf("from %v", g.res.Time)
		}
		if took := time.Since(start); took != 2*time.Second {
			b.t.Errorf("took %v; a source that is only slow has its chance", took)
		}
		for range 3 { // others wait no more while the same question is under way …
			b.wantStale(req, b.answer(req, v1), 0)
		}
		time.Sleep(22*time.Second + 900*time.Millisecond)
		b.wantStale(req, b.answer(req, v1), 50*time.Millisecond)
		time.Sleep(100*time.Millisecond + time.Nanosecond)
		b.wantFresh(req, b.answer(req, v2)) // … and the answer is not lost when it comes
		if n := b.w.Hits(req.Path()); n != 2 {
			b.t.Errorf("asked %d times", n)
		}
	})
}

func TestAnOlderAnswerIsGivenAtOnceAfterAFailure(t *testing.T) {
	for _, f := range []string{"500", "503", "429", "html", "reset", "407", "401", "403"} {
		inBubble(t, func(b *bubble, req goproxy.Request) {
			b.wantFresh(req, b.answer(req, v1))
			b.release(v2)
			time.Sleep(2 * time.Minute)
			b.spoilt.Set(fault(b.t, f))
			b.wantStale(req, b.answer(req, v1), 0)
			b.spoilt.Set(fault(b.t, "hang=10s")) // now it hangs, but has failed just before
			b.wantStale(req, b.answer(req, v1), 50*time.Millisecond)
			// Well again: the next one has the fresh answer.
			time.Sleep(10 * time.Second)
			synctest.Wait()
			b.spoilt.Clear()
			b.wantFresh(req, b.answer(req, v2))
		})
	}
}

// The memory of a failure is short: a source that takes a second to answer is
// waited for again soon after.
func TestAFailureIsForgottenSoon(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.wantFresh(req, b.answer(req, v1))
		b.release(v2)
		time.Sleep(2 * time.Minute)
		b.spoilt.Set(fault(b.t, "503"))
		b.wantStale(req, b.answer(req, v1), 0)
		time.Sleep(mirror.FailedRecently)
		b.spoilt.Set(fault(b.t, "hang=1s"))
		b.wantFresh(req, b.answer(req, v2))
	})
}

func TestAnAnswerOfOtherSettingsIsAnOldOne(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.wantFresh(req, b.answer(req, v1))
		b.release(v2)
		time.Sleep(time.Second)
		b.Reload(mirror.Settings{Fresh: time.Minute, Stale: 2 * time.Second, Route: func(string) mirror.Route { return mirror.Route{Chain: b.chain} }})
		b.spoilt.Set(fault(b.t, "503"))
		b.wantStale(req, b.answer(req, v1), 0)
		b.spoilt.Clear()
		time.Sleep(time.Second)
		b.wantFresh(req, b.answer(req, v2))
	})
}

func TestWithNothingAtHandAFailureIsTold(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.spoilt.Set(fault(b.t, "503"))
		b.wantErr(req, "SL-SRC-005")
		b.spoilt.Clear()
		b.wantFresh(req, b.answer(req, v1))
	})
}

func TestNotFoundIsRememberedForItsTimeAndItsQuestion(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		for i, f := range []string{"404", "410"} {
			b.w.Forget()
			b.spoilt.Set(fault(b.t, f))
			b.wantErr(req, "SL-SRC-001")
			b.spoilt.Clear()
			time.Sleep(5*time.Second - time.Nanosecond)
			b.wantErr(req, "SL-SRC-001")
			if n := b.w.Hits(req.Path()); n != 0 {
				b.t.Errorf("asked %d times", n)
			}
			// Another question is another matter.
			m := module.Version{Path: mutablePath, Version: v1}
			for _, other := range append([]goproxy.Request{gomod(m)}, changing...) {
				if other != req && i == 0 {
					b.want(other, map[bool][]byte{true: b.w.Mod(m), false: b.answer(other, v1)}[other.Kind == goproxy.Mod])
				}
			}
			time.Sleep(2 * time.Nanosecond)
			b.wantFresh(req, b.answer(req, v1))
			time.Sleep(2 * time.Minute)
		}
	})
}

func TestNotFoundOfAFileIsRememberedForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, w: modtest.New(t)}
		b.rig = b.open(store.NewMem())
		m := module.Version{Path: mutablePath, Version: v1}
		for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m)} {
			b.wantErr(req, "SL-SRC-001")
		}
		b.release(v1)
		b.w.Forget()
		for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m)} {
			b.wantErr(req, "SL-SRC-001")
		}
		if log := b.w.Log(); len(log) > 0 {
			t.Errorf("asked %q", log)
		}
		time.Sleep(5*time.Second + time.Nanosecond)
		b.want(zipOf(m), b.w.Zip(m))
		b.want(info(m), b.w.Info(m))
		// A reload forgets it too: the sources may be others.
		absent := info(module.Version{Path: mutablePath, Version: v2})
		b.wantErr(absent, "SL-SRC-001")
		b.release(v2)
		b.Reload(mirror.Settings{Route: func(string) mirror.Route { return mirror.Route{Chain: b.chain} }})
		b.want(absent, b.w.Info(absent.Module))
	})
}

// warm fills a store with the whole of a version.
func (b *bubble) warm(v string) {
	b.t.Helper()
	m := module.Version{Path: mutablePath, Version: v}
	b.want(zipOf(m), b.w.Zip(m))
	b.Settle()
}

func TestListAndLatestComeFromTheStoreWhenNoSourceGivesThem(t *testing.T) {
	for _, f := range []string{"404", "410", "500", "reset", "html", "hang"} {
		synctest.Test(t, func(t *testing.T) {
			b := &bubble{t: t, w: modtest.New(t)}
			b.release(v1)
			b.release(v2)
			b.release("v1.2.0-rc.1")
			b.rig = b.open(store.NewMem())
			for _, v := range []string{v1, v2, "v1.2.0-rc.1"} {
				b.warm(v)
			}
			b.want(info(module.Version{Path: mutablePath, Version: "v1.2.0-rc.1"}), b.w.Info(module.Version{Path: mutablePath, Version: "v1.2.0-rc.1"}))
			b.spoilt.Set(fault(t, f))
			for i := range 3 { // the first time, remembered, and forgotten again
				for _, req := range changing[:2] {
					want := []byte(v1 + "\n" + v2 + "\nv1.2.0-rc.1\n")
					if req.Kind == goproxy.Latest {
						want = b.w.Info(module.Version{Path: mutablePath, Version: v2})
					}
					if g := b.wantStale(req, want, 2*time.Second); !g.res.Time.Equal(time.Now()) {
						t.Errorf("%s, %d: %v from %v", f, i, req, g.res.Time)
					}
				}
				if i == 1 {
					time.Sleep(time.Minute)
				}
			}
			if f == "404" {
				b.wantErr(changing[2], "SL-SRC-001") // what a branch was is nobody's to guess
				b.wantErr(list("lists.test/other"), "SL-SRC-001")
			}
			b.Close() // what hangs
		})
	}
}

func TestAnswersSurviveARestart(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		at := b.wantFresh(req, b.answer(req, v1)).res.Time
		b.Settle()
		b.Close()
		b.rig = b.open(b.store)
		if g := b.wantFresh(req, b.answer(req, v1)); !g.res.Hit || !g.res.Time.Equal(at) {
			b.t.Errorf("young, after a restart: %+v", g.res)
		}
		time.Sleep(time.Hour)
		b.Close()
		b.rig = b.open(b.store)
		for _, f := range []string{"hang=3s", "500"} {
			b.spoilt.Set(fault(b.t, f))
			if g := b.wantStale(req, b.answer(req, v1), 2*time.Second); !g.res.Time.Equal(at) {
				b.t.Errorf("%s: %+v", f, g.res)
			}
			time.Sleep(500 * time.Millisecond) // not to the end of the first
			b.Close()
			b.rig = b.open(b.store)
		}
	})
}

func TestOldAnswersAreGivenWhereNobodyMayBeAsked(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.wantFresh(req, b.answer(req, v1))
		b.Settle()
		off := newRig(b.t, parts{sources: []upstream.Source{upstream.OffSource{}}, store: b.store})
		if g := off.want(req, b.answer(req, v1)); g.res.Stale != "" {
			b.t.Errorf("young: %+v", g.res)
		}
		time.Sleep(time.Hour)
		for range 2 {
			if g := off.want(req, b.answer(req, v1)); g.res.Stale == "" {
				b.t.Errorf("old: %+v", g.res)
			}
		}
		off.wantErr(query(mutablePath, "other"), "SL-OFF-001")
		off.wantErr(zipOf(module.Version{Path: mutablePath, Version: v1}), "SL-OFF-001")
	})
}

func TestARequestThatForbidsFetchingGetsTheLastAnswer(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.wantFresh(req, b.answer(req, v1))
		b.release(v2)
		time.Sleep(time.Hour)
		b.w.Forget()
		if g := b.want(req, b.answer(req, v1), mirror.Options{NoFetch: true}); g.res.Stale == "" || !g.res.Hit {
			b.t.Errorf("%+v", g.res)
		}
		if log := b.w.Log(); len(log) > 0 {
			b.t.Errorf("asked %q", log)
		}
	})
}

func TestAClientThatLeavesSpoilsNoAnswer(t *testing.T) {
	inBubble(t, func(b *bubble, req goproxy.Request) {
		b.spoilt.Set(fault(b.t, "hang=5s"))
		ctx, cancel := contextCause(b.t)
		done := make(chan error)
		go func() {
			_, err := b.Get(ctx, req, mirror.Options{})
			done <- err
		}()
		synctest.Wait()
		cancel(errLeft)
		if err := <-done; !errors.Is(err, errLeft) {
			b.t.Error(err)
		}
		b.wantFresh(req, b.answer(req, v1))
		if n := b.w.Hits(req.Path()); n != 1 {
			b.t.Errorf("asked %d times", n)
		}
	})
}

var errLeft = errors.New("the client left")

func TestListsAreTidiedAndTheRestIsHandedOnByteForByte(t *testing.T) {
	m := module.Version{Path: "forms.test/m", Version: v1}
	odd := []byte("{\"Version\":\"v1.0.0\" ,\n \"Time\":\"2024-03-01T12:00:00+01:00\", \"Origin\":{\"VCS\":\"git\",\"URL\":\"https://forms.test/m\"}}")
	for _, tt := range []struct {
		req  goproxy.Request
		body string
		want string // "" for an error
		code string
	}{
		{list(m.Path), "", "", ""},
		{list(m.Path), "v1.10.0\nv1.9.0\nv1.9.0\r\nv1.2.0 2024-01-01T00:00:00Z\n", "v1.2.0\nv1.9.0\nv1.10.0\n", ""},
		{list(m.Path), "v1.0.0\nmaster\nv2.0.0\nv0.0.0-20240301120000-abcdefabcdef\n", "v1.0.0\n", ""},
		{list(m.Path), "<html>", "", "SL-SRC-007"},
		{list(m.Path), "no version at all\n", "", "SL-SRC-008"},
		{list(m.Path), strings.Repeat("v1.0.0\n", goproxy.MaxList/7+1), "", "SL-SRC-012"},
		{latest(m.Path), string(odd), string(odd), ""},
		{query(m.Path, "main"), string(odd), string(odd), ""},
		{info(m), string(odd), string(odd), ""},
		{latest(m.Path), "", "", "SL-SRC-009"},
		{latest(m.Path), "<!DOCTYPE html>", "", "SL-SRC-007"},
		{latest(m.Path), `{"Version":"main"}`, "", "SL-SRC-008"},
		{query(m.Path, "main"), `{"Version":"v3.0.0"}`, "", "SL-SRC-008"},
		{info(m), `{"Version":"v1.0.1"}`, "", "SL-SRC-008"},
		{info(m), strings.Repeat(" ", goproxy.MaxInfo) + string(odd), "", "SL-SRC-012"},
		{gomod(m), "module forms.test/m\n" + strings.Repeat("// more\n", goproxy.MaxMod/8), "", "SL-SRC-012"},
		{gomod(m), "", "", "SL-SRC-009"},
		{gomod(m), "\x00", "", "SL-SRC-008"},
		{gomod(m), "go 1.20\n", "", "SL-SRC-008"},
		{zipOf(m), "", "", "SL-SRC-009"},
		{zipOf(m), "<html>", "", "SL-SRC-007"},
		{zipOf(m), "PK", "", "SL-ZIP-003"},
	} {
		r := newRig(t, parts{sources: []upstream.Source{serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/"+tt.req.Path() {
				http.NotFound(w, r)
				return
			}
			fmt.Fprint(w, tt.body)
		}))}})
		if tt.code != "" {
			r.wantErr(tt.req, tt.code)
			r.Settle()
			if tt.req.Immutable() {
				r.wantStored(tt.req, false)
			} else if _, err := r.store.Answer(tt.req); err == nil {
				t.Errorf("%v: %.20q was kept", tt.req, tt.body)
			}
			continue
		}
		r.want(tt.req, []byte(tt.want))
	}
}
