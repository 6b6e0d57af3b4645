package upstream_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// A testSource answers every .info, or fails with err.
type testSource struct {
	name  string
	asked atomic.Int64
	err   atomic.Pointer[error]
}

func (s *testSource) Name() string        { return s.name }
func (s *testSource) Kind() upstream.Kind { return upstream.Proxy }
func (s *testSource) Get(_ context.Context, req goproxy.Request) (*upstream.Answer, error) {
	s.asked.Add(1)
	if err := s.err.Load(); err != nil {
		return nil, *err
	}
	body := `{"Version":"` + req.Module.Version + `","Time":"2026-01-02T03:04:05Z"}`
	return &upstream.Answer{Body: io.NopCloser(strings.NewReader(body)), Size: int64(len(body))}, nil
}

func (s *testSource) fail(err error) { s.err.Store(&err) }

var switchInfo = goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: "switch.test/m", Version: "v1.0.0"}}

func take(_ context.Context, _ upstream.Source, a *upstream.Answer) error {
	_, err := io.Copy(io.Discard, a.Body)
	return err
}

func TestAProbeLetsASourceReturnThatIsWellAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &testSource{name: "a"}, &testSource{name: "b"}
		h := upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1})
		c := &upstream.Chain{Health: h, Links: []upstream.Link{{Source: a, FallBack: true}, {Source: b}}}
		a.fail(&upstream.Error{Source: "a", Stage: upstream.StageConnect, Err: errors.New("refused")})
		if _, err := c.Fetch(t.Context(), switchInfo, take); err != nil {
			t.Fatal(err)
		}
		if !h.IsDown("a") {
			t.Fatal("a refused source is not down")
		}
		if err := h.Probe(t.Context(), a, goproxy.Request{}); err == nil || !h.IsDown("a") {
			t.Errorf("a probe of a source that refuses gave %v, down: %v", err, h.IsDown("a"))
		}
		a.fail(&upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 404}) // an answer
		if err := h.Probe(t.Context(), a, goproxy.Request{}); err != nil || h.IsDown("a") {
			t.Errorf("a probe of a source that answers gave %v, down: %v", err, h.IsDown("a"))
		}
		if err := h.Probe(t.Context(), &testSource{name: "new"}, goproxy.Request{}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a probe without a question gave %v", err)
		}
	})
}

func TestQuietEndsAllProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &testSource{name: "a"}, &testSource{name: "b"}
		h := upstream.NewHealth(upstream.HealthConfig{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		c := &upstream.Chain{Health: h, Links: []upstream.Link{{Source: a, FallBack: true}, {Source: b}}}
		a.fail(&upstream.Error{Source: "a", Stage: upstream.StageConnect, Err: errors.New("refused")})
		c.Fetch(t.Context(), switchInfo, take)
		h.Quiet(true)
		time.Sleep(time.Second / 10)
		before := a.asked.Load()
		time.Sleep(5 * time.Minute)
		if n := a.asked.Load() - before; n != 0 {
			t.Errorf("a quiet source was probed %d times", n)
		}
		h.Quiet(false)
		time.Sleep(30 * time.Second)
		if a.asked.Load() == before {
			t.Error("it is probed no longer")
		}
		stop()
		<-done
	})
}

func TestAPreferredSourceIsFirstWhereTheChainLetsIt(t *testing.T) {
	a, b, c := &testSource{name: "a"}, &testSource{name: "b"}, &testSource{name: "c"}
	h := upstream.NewHealth(upstream.HealthConfig{})
	h.Prefer("c")
	chain := &upstream.Chain{Health: h, Links: []upstream.Link{{Source: a, FallBack: true}, {Source: b, FallBack: true}, {Source: c}}}
	if got := chain.Order(switchInfo); !slices.Equal(got, []string{"c", "a", "b"}) {
		t.Errorf("a|b|c with c preferred is asked in the order %v", got)
	}
	chain.Links[1].FallBack = false // a|b,c
	if got := chain.Order(switchInfo); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("a|b,c with c preferred is asked in the order %v", got)
	}
	if h.Preferred() != "c" {
		t.Errorf("preferred is %q", h.Preferred())
	}
}
