package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// An actor is a source that behaves as its test tells it, in fake time.
type actor struct {
	name string
	kind upstream.Kind

	mu    sync.Mutex
	act   func(context.Context, goproxy.Request) (*upstream.Answer, error)
	asked []time.Time
	live  int
}

func (a *actor) Name() string        { return a.name }
func (a *actor) Kind() upstream.Kind { return a.kind }

func (a *actor) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	a.mu.Lock()
	a.asked = append(a.asked, time.Now())
	a.live++
	act := a.act
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.live--
		a.mu.Unlock()
	}()
	return act(ctx, req)
}

func (a *actor) does(act func(context.Context, goproxy.Request) (*upstream.Answer, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.act = act
}

// times is how often it has been asked since the last call.
func (a *actor) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.asked)
	a.asked = nil
	return n
}

func answers(after time.Duration) func(context.Context, goproxy.Request) (*upstream.Answer, error) {
	return func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		body := "module " + req.Module.Path + "\n"
		switch req.Kind {
		case goproxy.Info:
			body = fmt.Sprintf("{%q: %q, %q: %q}", "Version", req.Module.Version, "Time", "2020-01-01T00:00:00Z")
		case goproxy.List:
			body = "v1.0.0\n"
		case goproxy.Zip:
			body = "PK\x03\x04" + strings.Repeat("z", 4096)
		}
		return &upstream.Answer{Body: io.NopCloser(strings.NewReader(body)), Size: int64(len(body))}, nil
	}
}

func fails(after time.Duration, e upstream.Error) func(context.Context, goproxy.Request) (*upstream.Answer, error) {
	return func(ctx context.Context, _ goproxy.Request) (*upstream.Answer, error) {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return nil, &e
	}
}

func hangs(ctx context.Context, _ goproxy.Request) (*upstream.Answer, error) {
	select {
	case <-time.After(30 * time.Second):
		return nil, &upstream.Error{Source: "?", Stage: upstream.StageHTTP, Err: upstream.ErrStalled}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A stage is a chain of actors a, b, c … with a Health, in a bubble.
type stage struct {
	t       *testing.T
	chain   *upstream.Chain
	actors  []*actor
	changes []upstream.Change
	mu      sync.Mutex
	stop    context.CancelFunc
	n       int
}

func play(t *testing.T, seps string, failover upstream.Failover, f func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t}
		s.chain = &upstream.Chain{Failover: failover}
		s.open(seps, upstream.HealthConfig{})
		f(s)
		s.stop()
	})
}

func (s *stage) open(seps string, c upstream.HealthConfig) {
	c.Changed = func(c upstream.Change) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changes = append(s.changes, c)
	}
	s.chain.Health = upstream.NewHealth(c)
	for i := range len(seps) + 1 {
		a := &actor{name: string(rune('a' + i)), kind: upstream.Proxy, act: answers(20 * time.Millisecond)}
		s.actors = append(s.actors, a)
		s.chain.Links = append(s.chain.Links, upstream.Link{Source: a, FallBack: i < len(seps) && seps[i] == '|'})
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	s.stop = cancel
	go s.chain.Health.Run(ctx)
}

// req is a question nobody has asked before.
func (s *stage) req(kind goproxy.Kind) goproxy.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return goproxy.Request{Kind: kind, Module: module.Version{Path: fmt.Sprintf("m.test/m%d", s.n), Version: "v1.0.0"}}
}

func (s *stage) ask(kind goproxy.Kind) (string, time.Duration, error) { return s.askFor(s.req(kind)) }

func (s *stage) askFor(req goproxy.Request) (by string, took time.Duration, err error) {
	start := time.Now()
	_, err = s.chain.Fetch(s.t.Context(), req, func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
		by = src.Name()
		_, err := io.ReadAll(a.Body)
		return err
	})
	if err != nil {
		by = ""
	}
	return by, time.Since(start), err
}

func (s *stage) want(by string, took time.Duration, kind goproxy.Kind) {
	s.t.Helper()
	got, d, err := s.ask(kind)
	if got != by || d != took {
		s.t.Errorf("%v came from %q after %v (%v); want %q after %v", kind, got, d, err, by, took)
	}
}

var refusedToConnect = upstream.Error{Source: "a", Stage: upstream.StageConnect, Err: syscall.ECONNREFUSED}

func TestADeadFirstSourceCostsAFractionOfASecondOnce(t *testing.T) {
	for _, tt := range []struct {
		seps     string
		failover upstream.Failover
	}{{"||", upstream.AsWritten}, {",,", upstream.Proxies}} {
		play(t, tt.seps, tt.failover, func(s *stage) {
			s.actors[0].does(hangs)
			s.actors[1].does(hangs)
			s.want("c", 420*time.Millisecond, goproxy.Info)
			for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip, goproxy.List} {
				s.want("c", 20*time.Millisecond, k)
			}
			if a, b := s.actors[0].times(), s.actors[1].times(); a > 2 || b > 2 {
				t.Errorf("the dead were asked %d and %d times", a, b)
			}
		})
	}
}

func TestManyAtOnceWaitForADeadSourceOnce(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(hangs)
		var wg sync.WaitGroup
		start := time.Now()
		for range 30 {
			wg.Go(func() { s.ask(goproxy.Info) })
		}
		time.Sleep(201 * time.Millisecond)
		for range 30 { // those that come while it is overdue do not wait for it
			wg.Go(func() {
				if _, took, _ := s.ask(goproxy.Mod); took != 20*time.Millisecond {
					t.Errorf("a latecomer waited %v", took)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != 221*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestASourceInTroubleReturnsWhenProbesSucceed(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.want("a", 20*time.Millisecond, goproxy.Info)
		s.actors[0].does(fails(0, refusedToConnect))
		s.want("b", 20*time.Millisecond, goproxy.Info)
		s.actors[0].times()
		s.want("b", 20*time.Millisecond, goproxy.Info)
		if n := s.actors[0].times(); n != 0 {
			t.Errorf("a client asked a source that is down (%d)", n)
		}
		time.Sleep(time.Minute)
		if n := s.actors[0].times(); n < 10 || n > 18 {
			t.Errorf("%d probes in a minute", n)
		}
		if r := s.chain.Health.Report("a"); r.State != upstream.Down || r.Stage != upstream.StageConnect {
			t.Errorf("%+v", r)
		}
		s.actors[0].does(answers(20 * time.Millisecond))
		time.Sleep(8 * time.Second)
		s.want("a", 20*time.Millisecond, goproxy.Info)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.changes) != 2 || s.changes[0].State != upstream.Down || s.changes[1].State != upstream.Up || s.changes[1].After < time.Minute {
			t.Errorf("%+v", s.changes)
		}
	})
}

func TestProbingStopsWhileNobodyAsks(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(fails(0, refusedToConnect))
		s.ask(goproxy.Info)
		time.Sleep(11 * time.Minute)
		s.actors[0].times()
		time.Sleep(time.Hour)
		if n := s.actors[0].times(); n != 0 {
			t.Errorf("%d probes", n)
		}
		s.actors[0].does(answers(20 * time.Millisecond))
		s.want("b", 20*time.Millisecond, goproxy.Info) // nobody waits for it
		time.Sleep(2 * time.Second)
		s.want("a", 20*time.Millisecond, goproxy.Info)
	})
}

func TestASourceThatFailsNowAndThenStays(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		for i := range 30 {
			s.actors[0].does(answers(20 * time.Millisecond))
			if i%3 < 2 {
				s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 500}))
			}
			s.ask(goproxy.Info)
		}
		if n := s.actors[0].times(); n != 30 {
			t.Errorf("asked %d times", n)
		}
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 500}))
		for range 5 {
			s.ask(goproxy.Info)
		}
		if n := s.actors[0].times(); n != 3 {
			t.Errorf("asked %d times when it failed always", n)
		}
		s.actors[0].does(answers(20 * time.Millisecond))
		s.want("a", 20*time.Millisecond, goproxy.List) // it is left for files alone
	})
}

func TestASlowSourceIsHedgedAndLeftAndItsWellDaysCostNothing(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		for range 200 {
			s.want("a", 20*time.Millisecond, goproxy.Info)
		}
		if n := s.actors[1].times(); n != 0 {
			t.Errorf("%d requests were hedged while all was well", n)
		}
		s.actors[0].does(answers(200 * time.Millisecond))
		s.want("b", 70*time.Millisecond, goproxy.Info) // the floor of 50 ms, and b's 20
		for range 50 {
			s.want("b", 20*time.Millisecond, goproxy.Info)
		}
		time.Sleep(30 * time.Second) // it stays as slow
		s.want("b", 20*time.Millisecond, goproxy.Info)
		s.actors[0].does(answers(25 * time.Millisecond))
		time.Sleep(10 * time.Second)
		s.want("a", 25*time.Millisecond, goproxy.Info)
	})
}

func TestHedgingHasABudgetWhileTheSourceIsWell(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		n := 0
		var mu sync.Mutex
		s.actors[0].does(func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
			mu.Lock()
			n++
			slow := n > 20 && n%10 == 0 // one in ten is slow, which is not its being down
			mu.Unlock()
			if slow {
				return answers(time.Second)(ctx, req)
			}
			return answers(20*time.Millisecond)(ctx, req)
		})
		const total = 2000
		for range total / 10 {
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					s.ask(goproxy.Info)
				})
			}
			wg.Wait()
		}
		if b := s.actors[1].times(); b > total*3/100+5 {
			t.Errorf("%d of %d requests went to the second source too", b, total)
		}
	})
}

func TestAsWrittenADeadGatekeeperIsNotWalkedRound(t *testing.T) {
	play(t, ",", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 503}))
		for range 5 {
			_, _, err := s.ask(goproxy.Info)
			we, ok := errors.AsType[*upstream.WalkError](err)
			if !ok || we.NotExist() || we.Stopped == "" {
				t.Errorf("%v", err)
			}
		}
		s.actors[0].does(hangs)
		s.ask(goproxy.Mod)
		if n := s.actors[1].times(); n != 0 {
			t.Errorf("the second source was asked %d times", n)
		}
	})
}

func TestA403IsFinalAmongProxiesAlsoForWhatIsAskedBeside(t *testing.T) {
	play(t, ",", upstream.Proxies, func(s *stage) {
		s.actors[0].does(fails(300*time.Millisecond, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 403}))
		s.actors[1].does(answers(400 * time.Millisecond))
		if by, took, err := s.ask(goproxy.Info); err == nil || took != 300*time.Millisecond {
			t.Errorf("from %q after %v", by, took)
		}
	})
}

func TestVersionControlIsNotAskedForBeingFaster(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[1].kind = upstream.Direct
		s.actors[0].does(answers(5 * time.Second))
		s.want("a", 5*time.Second, goproxy.Info)
		if n := s.actors[1].times(); n != 0 {
			t.Errorf("version control was asked %d times", n)
		}
		s.actors[0].does(fails(0, refusedToConnect))
		for range 3 {
			s.want("b", 20*time.Millisecond, goproxy.Info)
		}
	})
}

func TestAChainInTroubleIsAskedAgainForAMoment(t *testing.T) {
	play(t, "", upstream.AsWritten, func(s *stage) {
		n := 0
		s.actors[0].does(func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
			if n++; n <= 2 {
				return nil, &upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 502}
			}
			return answers(0)(ctx, req)
		})
		if by, took, err := s.ask(goproxy.Info); err != nil || by != "a" || took > 900*time.Millisecond {
			t.Errorf("from %q after %v: %v", by, took, err)
		}
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 502}))
		s.actors[0].times()
		if _, took, err := s.ask(goproxy.Info); err == nil || took > 2400*time.Millisecond {
			t.Errorf("gave up after %v: %v", took, err)
		}
		if n := s.actors[0].times(); n < 2 || n > 6 { // four times for the client, and probes
			t.Errorf("asked %d times", n)
		}
		// What is known to be down is asked once, and what says no is not asked again.
		if s.ask(goproxy.Info); s.actors[0].times() != 1 {
			t.Error("a source that is known to be down was asked again and again")
		}
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 403}))
		if s.ask(goproxy.Zip); s.actors[0].times() != 1 {
			t.Error("a refusal was asked for again")
		}
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 404}))
		if _, _, err := s.ask(goproxy.List); s.actors[0].times() != 1 || !errors.Is(err, fs.ErrNotExist) {
			t.Error("a not found was asked for again")
		}
	})
}

func TestASourceThatWantsARestGetsIt(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 429, RetryAfter: 20 * time.Second}))
		s.want("b", 20*time.Millisecond, goproxy.Info)
		s.actors[0].times()
		for range 19 {
			s.want("b", 20*time.Millisecond, goproxy.Info)
			time.Sleep(time.Second - 20*time.Millisecond)
		}
		if n := s.actors[0].times(); n != 0 {
			t.Errorf("asked %d times within its rest", n)
		}
		s.actors[0].does(answers(20 * time.Millisecond))
		time.Sleep(time.Second)
		s.want("a", 20*time.Millisecond, goproxy.Info)
	})
	play(t, "", upstream.AsWritten, func(s *stage) { // and the only one, too
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 429, RetryAfter: 2 * time.Second}))
		s.ask(goproxy.Info)
		s.actors[0].does(answers(20 * time.Millisecond))
		s.want("a", 2020*time.Millisecond, goproxy.Info)
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 503, RetryAfter: time.Minute}))
		s.ask(goproxy.Mod)
		s.actors[0].does(answers(20 * time.Millisecond))
		s.want("a", 20*time.Millisecond, goproxy.Mod) // one that is being restarted is asked, with nobody else left
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 429, RetryAfter: time.Minute}))
		s.ask(goproxy.Mod)
		s.actors[0].times()
		_, took, err := s.ask(goproxy.Mod)
		e, ok := errors.AsType[*upstream.Error](err)
		if n := s.actors[0].times(); n != 0 || took != 0 || !ok || e.RetryAfter <= 50*time.Second || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("asked %d times, took %v: %v", n, took, err)
		}
	})
}

// A lie is what an accept says of bytes that the checksum database disowns.
type lie struct{ error }

func (lie) Lie() bool { return true }

func TestALiarIsAskedLastForTheModuleItLiedAbout(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		ask := func(path, version string) (asked []string, err error) {
			_, err = s.chain.Fetch(s.t.Context(), goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: path, Version: version}}, func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
				if asked = append(asked, src.Name()); src.Name() == "a" {
					return lie{errors.New("wrong hash")}
				}
				return nil
			})
			return asked, err
		}
		if asked, err := ask("lies.test/m", "v1.0.0"); err != nil || !slices.Equal(asked, []string{"a", "b"}) {
			t.Errorf("%v, %v", asked, err)
		}
		if asked, _ := ask("lies.test/m", "v1.0.1"); !slices.Equal(asked, []string{"b"}) {
			t.Errorf("of the same module, %v were asked", asked)
		}
		if asked, _ := ask("other.test/m", "v1.0.1"); !slices.Equal(asked, []string{"a", "b"}) {
			t.Errorf("of another module, %v were asked", asked)
		}
		if r := s.chain.Health.Report("a"); len(r.Lies) != 2 || r.State == upstream.Down {
			t.Errorf("%+v", r)
		}
		if n := s.chain.Health.Pardon("a", "lies.test/m"); n != 1 {
			t.Errorf("pardoned %d", n)
		}
		if asked, _ := ask("lies.test/m", "v1.0.2"); !slices.Equal(asked, []string{"a", "b"}) {
			t.Errorf("after the pardon, %v were asked", asked)
		}
		time.Sleep(25 * time.Hour)
		if asked, _ := ask("other.test/m", "v1.0.2"); !slices.Equal(asked, []string{"a", "b"}) {
			t.Errorf("after the fence's time, %v were asked", asked)
		}
	})
}

func TestALaggingSourceIsPassedOverForWhatItLacks(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(fails(20*time.Millisecond, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 404}))
		m := module.Version{Path: "new.test/m", Version: "v1.0.0"}
		for i, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
			by, took, err := s.askFor(goproxy.Request{Kind: k, Module: m})
			if want := 20 * time.Millisecond; err != nil || by != "b" || i > 0 && took != want {
				t.Errorf("%v came from %q after %v: %v", k, by, took, err)
			}
		}
		if n := s.actors[0].times(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Hour)
		if r := s.chain.Health.Report("a"); r.Lacks != 1 || r.LacksFor < time.Hour || r.State != upstream.Up {
			t.Errorf("%+v", r)
		}
		s.actors[0].does(answers(20 * time.Millisecond))
		s.askFor(goproxy.Request{Kind: goproxy.Info, Module: m})
		if r := s.chain.Health.Report("a"); r.Lacks != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// A drip is a body that comes slowly.
type drip struct {
	ctx   context.Context
	every time.Duration
	left  int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(d.every):
		d.left--
		p[0] = 'x'
		return 1, nil
	case <-d.ctx.Done():
		return 0, context.Cause(d.ctx)
	}
}
func (d *drip) Close() error { return nil }

func TestAZipThatStandsStillIsTakenFromAnotherSource(t *testing.T) {
	for name, every := range map[string]time.Duration{"drip": 900 * time.Millisecond, "hang": time.Hour} {
		t.Run(name, func(t *testing.T) {
			play(t, "|", upstream.AsWritten, func(s *stage) {
				s.actors[0].does(func(ctx context.Context, _ goproxy.Request) (*upstream.Answer, error) {
					return &upstream.Answer{Body: &drip{ctx, every, 1000}, Size: 1000}, nil
				})
				by, took, err := s.ask(goproxy.Zip)
				if err != nil || by != "b" || took > 5*time.Second {
					t.Errorf("from %q after %v: %v", by, took, err)
				}
			})
			play(t, "", upstream.AsWritten, func(s *stage) { // with nobody else, slow is better than nothing
				s.actors[0].does(func(ctx context.Context, _ goproxy.Request) (*upstream.Answer, error) {
					return &upstream.Answer{Body: &drip{ctx, 900 * time.Millisecond, 100}, Size: 100}, nil
				})
				if by, _, err := s.ask(goproxy.Zip); err != nil || by != "a" {
					t.Errorf("from %q: %v", by, err)
				}
			})
		})
	}
}

func TestWhereAllAreSlowTheSlowIsWaitedFor(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		for _, a := range s.actors {
			a.does(func(ctx context.Context, _ goproxy.Request) (*upstream.Answer, error) {
				return &upstream.Answer{Body: &drip{ctx, 1500 * time.Millisecond, 20}, Size: 20}, nil
			})
		}
		if _, _, err := s.ask(goproxy.Zip); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func TestStrategiesOrderThoseThatStandInForOneAnother(t *testing.T) {
	order := func(s *stage) (first string) {
		by, _, _ := s.ask(goproxy.Info)
		return by
	}
	play(t, "||", upstream.AsWritten, func(s *stage) {
		s.chain.Links[0].Tier = 1
		if by := order(s); by != "b" {
			t.Errorf("a source of a later tier came first: %s", by)
		}
	})
	play(t, "||", upstream.AsWritten, func(s *stage) {
		s.chain.Strategy = upstream.LowLatency
		s.actors[0].does(answers(60 * time.Millisecond))
		s.actors[1].does(answers(10 * time.Millisecond))
		for range 20 {
			order(s)
		}
		if by := order(s); by != "b" {
			t.Errorf("%s came first, which is not the fastest", by)
		}
	})
	play(t, "||", upstream.AsWritten, func(s *stage) {
		s.chain.Strategy = upstream.Weighted
		s.chain.Links[1].Weight = 8
		count := map[string]int{}
		for range 1000 {
			count[order(s)]++
		}
		if count["b"] < 700 || count["b"] > 900 || count["a"] < 50 || count["c"] < 50 {
			t.Errorf("%v of 1000 with weights 1, 8, 1", count)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.chain.Strategy = upstream.LeastBusy
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { order(s) })
			synctest.Wait()
		}
		wg.Wait()
		if a, b := s.actors[0].times(), s.actors[1].times(); a != 5 || b != 5 {
			t.Errorf("%d and %d of 10", a, b)
		}
	})
	play(t, ",", upstream.AsWritten, func(s *stage) { // a comma is no matter of taste
		s.chain.Links[0].Tier = 1
		if by := order(s); by != "a" {
			t.Errorf("%s came first", by)
		}
	})
}

func TestASwitchedOffSourceIsNotAsked(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.chain.Health.Switch("a", true, time.Now().Add(time.Minute), "maintenance")
		s.want("b", 20*time.Millisecond, goproxy.Info)
		s.actors[1].does(fails(0, upstream.Error{Source: "b", Stage: upstream.StageHTTP, Status: 403}))
		if _, _, err := s.ask(goproxy.Info); err == nil || !strings.Contains(err.Error(), "maintenance") {
			t.Errorf("%v", err)
		}
		if n := s.actors[0].times(); n != 0 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Minute)
		s.want("a", 20*time.Millisecond, goproxy.Info)
	})
}

func TestWhatWasKnownSurvivesARestartAsAHint(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(hangs)
		s.ask(goproxy.Info)
		data, err := s.chain.Health.Save()
		if err != nil {
			t.Fatal(err)
		}
		s.stop()
		synctest.Wait()
		time.Sleep(time.Minute)
		s.chain.Links = nil
		old := s.actors
		s.actors = nil
		s.open("|", upstream.HealthConfig{})
		if err := s.chain.Health.Load(data); err != nil {
			t.Fatal(err)
		}
		s.actors[0].does(hangs)
		s.want("b", 20*time.Millisecond, goproxy.Info) // nobody waits again
		s.actors[0].does(answers(20 * time.Millisecond))
		time.Sleep(20 * time.Second)
		s.want("a", 20*time.Millisecond, goproxy.Info)
		_ = old
		for _, bad := range []string{"", "{", `[{"Source":"a","Ask":"?","Down":true}]`, `[{"Source":"a","Down":true,"Path":"../x"}]`} {
			s.chain.Health.Load([]byte(bad))
		}
		s.want("a", 20*time.Millisecond, goproxy.Info)
	})
}

func TestAFenceCanBePutUpAgain(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		ask := func(path string) string {
			by, _, _ := s.askFor(goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: path, Version: "v1.0.0"}})
			return by
		}
		s.chain.Health.Fence("a", "lies.test/m", "wrong hash", time.Now().Add(-23*time.Hour))
		if m, n := ask("lies.test/m"), ask("lies.test/n"); m != "b" || n != "a" {
			t.Errorf("of the module with the fence %q was asked, of another %q", m, n)
		}
		time.Sleep(2 * time.Hour)
		if m := ask("lies.test/m"); m != "a" {
			t.Errorf("after the fence's time %q was asked", m)
		}
	})
}

// One that has lied of several modules in a row will lie of the next one, too.
func TestAHabitualLiarIsLeft(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		lying := true
		ask := func(i int, kind goproxy.Kind) (asked []string) {
			_, err := s.chain.Fetch(s.t.Context(), goproxy.Request{Kind: kind, Module: module.Version{Path: fmt.Sprintf("lies.test/m%d", i), Version: "v1.0.0"}}, func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
				if asked = append(asked, src.Name()); src.Name() == "a" && lying && kind != goproxy.Info {
					return lie{errors.New("wrong hash")}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			return asked
		}
		both, second := []string{"a", "b"}, []string{"b"}
		for i := range 3 {
			ask(i, goproxy.Info) // whose being good says nothing
			if got := ask(i, goproxy.Mod); !slices.Equal(got, both) {
				t.Errorf("lie %d: %v were asked", i, got)
			}
		}
		if got := ask(3, goproxy.Mod); !slices.Equal(got, second) {
			t.Errorf("after three lies, %v were asked", got)
		}
		s.actors[1].does(fails(0, upstream.Error{Stage: upstream.StageHTTP, Status: 404}))
		ask(3, goproxy.Info)
		s.actors[1].does(answers(0))
		if got := ask(9, goproxy.Mod); !slices.Equal(got, second) {
			t.Errorf("after an .info, which may be another lie, %v were asked", got)
		}
		if got := ask(3, goproxy.Zip); !slices.Equal(got, both) {
			t.Errorf("of another kind, %v were asked", got)
		}
		if s.chain.Health.Pardon("a", ""); !slices.Equal(ask(6, goproxy.Mod), both) {
			t.Error("it is not asked after a pardon")
		}
		ask(7, goproxy.Mod)
		ask(8, goproxy.Mod)
		lying = false
		time.Sleep(time.Minute)
		if got := ask(4, goproxy.Mod); !slices.Equal(got, second) {
			t.Errorf("a minute later, %v were asked", got)
		}
		time.Sleep(6 * time.Minute)
		if got := ask(5, goproxy.Mod); !slices.Equal(got, []string{"a"}) {
			t.Errorf("after its time, %v were asked", got)
		}
	})
}

func TestOfTooManyLiesTheOldestIsForgotten(t *testing.T) {
	const most = 4096
	h := upstream.NewHealth(upstream.HealthConfig{})
	for i := range most + 1 {
		h.Fence("a", fmt.Sprintf("lies.test/m%d", i), "wrong hash", time.Now().Add(time.Duration(i-most)*time.Second))
	}
	got := h.Report("a").Lies
	if _, first := got["lies.test/m0"]; first || len(got) != most || got[fmt.Sprintf("lies.test/m%d", most)] == "" {
		t.Errorf("%d are remembered, the first among them: %v", len(got), first)
	}
}

func TestTheWordOfAllTheSlowIsWaitedForOnce(t *testing.T) {
	play(t, "||", upstream.AsWritten, func(s *stage) {
		missing := upstream.Error{Stage: upstream.StageHTTP, Status: 404}
		slow := func(list func(context.Context, goproxy.Request) (*upstream.Answer, error)) func(context.Context, goproxy.Request) (*upstream.Answer, error) {
			return func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
				if req.Kind == goproxy.List {
					return list(ctx, req)
				}
				return answers(20*time.Millisecond)(ctx, req)
			}
		}
		for _, a := range s.actors[:2] {
			a.does(slow(answers(time.Second)))
			s.want(a.name, 20*time.Millisecond, goproxy.Info)
			s.chain.Health.Prefer("b")
		}
		s.chain.Health.Prefer("")
		for range 4 { // until their lists are known to be slow
			s.ask(goproxy.List)
		}
		s.want("c", 20*time.Millisecond, goproxy.List)
		s.actors[0].does(slow(fails(time.Second, missing)))
		s.actors[1].does(slow(fails(time.Second, missing)))
		s.actors[2].does(slow(fails(20*time.Millisecond, missing)))
		for range 3 { // nor does a slow answer make it a fast source
			if _, took, err := s.ask(goproxy.List); !errors.Is(err, fs.ErrNotExist) || took != 1020*time.Millisecond {
				t.Errorf("after %v: %v", took, err)
			}
		}
		s.actors[0].does(slow(answers(time.Second)))
		s.want("a", 1020*time.Millisecond, goproxy.List) // it does know better
	})
}

func TestNotFoundNeedsNoWordOfTheDead(t *testing.T) {
	missing := upstream.Error{Source: "b", Stage: upstream.StageHTTP, Status: 404}
	play(t, "|", upstream.AsWritten, func(s *stage) { // whom it takes a second to find dead
		s.actors[0].does(fails(time.Second, refusedToConnect))
		s.actors[1].does(fails(0, missing))
		s.ask(goproxy.Info)
		s.actors[0].times()
		if _, _, err := s.ask(goproxy.Info); !errors.Is(err, fs.ErrNotExist) || s.actors[0].times() != 0 {
			t.Errorf("%v", err)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // but of one that refuses at once, which may be back
		s.actors[0].does(fails(0, refusedToConnect))
		s.ask(goproxy.Info)
		s.actors[0].does(answers(20 * time.Millisecond))
		s.actors[1].does(fails(0, missing))
		s.want("a", 20*time.Millisecond, goproxy.Info)
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // but one of those that are in trouble and could have it
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 500}))
		for range 4 {
			s.ask(goproxy.Info)
		}
		s.actors[0].times()
		s.actors[1].does(fails(0, upstream.Error{Source: "b", Stage: upstream.StageHTTP, Status: 404}))
		if _, _, err := s.ask(goproxy.Info); errors.Is(err, fs.ErrNotExist) || s.actors[0].times() == 0 {
			t.Errorf("%v", err)
		}
	})
}

// What stands on the way of three sources may answer with a page for people at any
// of them in turn, while each of them has the module.
func TestAPageForPeopleIsNotBelievedWhileSomebodyElseMayKnow(t *testing.T) {
	page := upstream.Page(upstream.Error{Stage: upstream.StageHTTP, Status: 404})
	play(t, "||", upstream.AsWritten, func(s *stage) { // b is remembered to lack it, which was such a page as well
		req := s.req(goproxy.Info)
		s.actors[0].does(fails(0, refusedToConnect))
		s.actors[1].does(fails(0, page))
		s.actors[2].does(fails(0, page))
		first := &upstream.Chain{Health: s.chain.Health, Links: []upstream.Link{{Source: s.actors[1], FallBack: true}, {Source: s.actors[0], FallBack: true}}}
		s.actors[0].does(answers(0))
		if _, err := first.Fetch(s.t.Context(), req, func(context.Context, upstream.Source, *upstream.Answer) error { return nil }); err != nil {
			s.t.Fatal(err)
		}
		s.actors[0].does(fails(0, refusedToConnect))
		s.actors[1].does(answers(0))
		req.Kind = goproxy.Zip
		if by, _, err := s.askFor(req); by != "b" {
			s.t.Errorf("%q, %v; b has it", by, err)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // a is in trouble, known or not, for a moment
		fault := upstream.Error{Stage: upstream.StageHTTP, Err: errors.New("reset")}
		s.actors[1].does(fails(0, page))
		for range 5 {
			s.actors[0].does(fails(0, fault))
			s.ask(goproxy.Info)
		}
		n := 0
		s.actors[0].does(func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
			if n++; n == 1 {
				return fails(0, fault)(ctx, req)
			}
			return answers(0)(ctx, req)
		})
		if by, _, err := s.ask(goproxy.Info); by != "a" {
			s.t.Errorf("%q, %v; a has it the second time", by, err)
		}
		s.actors[0].does(fails(0, fault)) // and where it stays in trouble, it is looked at twice, not for ever
		s.actors[1].times()
		if _, took, err := s.ask(goproxy.Info); !errors.Is(err, fs.ErrNotExist) || s.actors[1].times() > 2 || took > time.Second {
			s.t.Errorf("%v after %v", err, took)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // what nobody says the second time was not so
		s.actors[0].does(fails(0, refusedToConnect))
		n := 0
		s.actors[1].does(func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
			if n++; n == 1 {
				return fails(0, page)(ctx, req)
			}
			return fails(0, refusedToConnect)(ctx, req)
		})
		if _, _, err := s.ask(goproxy.Info); err == nil || errors.Is(err, fs.ErrNotExist) || n < 2 {
			s.t.Errorf("%v after %d questions", err, n)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // of which all say so, they are believed at once
		s.actors[0].does(fails(0, page))
		s.actors[1].does(fails(0, page))
		if _, _, err := s.ask(goproxy.Info); !errors.Is(err, fs.ErrNotExist) || s.actors[0].times() != 1 {
			s.t.Errorf("%v", err)
		}
	})
}

// Each source is asked at another moment, and each of them may be well in between.
func TestMirrorsThatAreEachInTroubleOfTheirOwnAreAskedOnceMore(t *testing.T) {
	odd := upstream.Error{Stage: upstream.StageContent, Err: errors.New("not what was asked for")}
	for _, tt := range []struct {
		seps  string
		acts  []func(context.Context, goproxy.Request) (*upstream.Answer, error)
		times int
	}{
		{"||", []func(context.Context, goproxy.Request) (*upstream.Answer, error){fails(0, odd), fails(0, odd), fails(0, upstream.Error{Stage: upstream.StageHTTP, Status: 404})}, 2},
		{"|", []func(context.Context, goproxy.Request) (*upstream.Answer, error){fails(0, odd), fails(0, upstream.Error{Stage: upstream.StageHTTP, Status: 404})}, 1},
		{"", []func(context.Context, goproxy.Request) (*upstream.Answer, error){fails(0, odd)}, 1},
	} {
		play(t, tt.seps, upstream.AsWritten, func(s *stage) {
			for i, act := range tt.acts {
				s.actors[i].does(act)
			}
			if _, _, err := s.ask(goproxy.Info); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v", tt.seps, err)
			}
			if n := s.actors[0].times(); n != tt.times {
				t.Errorf("%q: asked %d times, want %d", tt.seps, n, tt.times)
			}
		})
	}
	for _, odd := range []upstream.Error{odd, upstream.Page(upstream.Error{Stage: upstream.StageHTTP, Status: 404})} {
		play(t, "|", upstream.AsWritten, func(s *stage) { // also where the trouble of one is no news
			s.actors[1].does(fails(0, upstream.Error{Source: "b", Stage: upstream.StageBody, Err: errors.New("reset")}))
			s.actors[0].does(fails(0, odd))
			for range 5 {
				s.ask(goproxy.Info)
			}
			s.actors[0].times()
			n := 0
			s.actors[0].does(func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
				if n++; n == 1 {
					return fails(0, odd)(ctx, req)
				}
				return answers(0)(ctx, req)
			})
			if by, _, err := s.ask(goproxy.Info); by != "a" {
				s.t.Errorf("%q, %v; a has it the second time", by, err)
			}
		})
	}
}

func TestAChainRestsWhereNobodyMayStandIn(t *testing.T) {
	rest := fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 429, RetryAfter: 10 * time.Second})
	for _, tt := range []struct {
		seps string
		both bool
		want bool
	}{{"", false, true}, {"|", false, false}, {"|", true, true}, {",", false, true}} {
		play(t, tt.seps, upstream.AsWritten, func(s *stage) {
			req := s.req(goproxy.Zip)
			if s.chain.Resting(req) {
				s.t.Errorf("%q rests before anybody asked", tt.seps)
			}
			s.actors[0].does(rest)
			if tt.both {
				s.actors[1].does(rest)
			}
			s.ask(goproxy.Info)
			if got := s.chain.Resting(req); got != tt.want {
				s.t.Errorf("%q, both resting: %t: Resting is %t", tt.seps, tt.both, got)
			}
			time.Sleep(time.Minute)
			if s.chain.Resting(req) {
				s.t.Errorf("%q rests for ever", tt.seps)
			}
		})
	}
}

func TestTheFirstZipOfASourceIsDoubtedWhereAnotherMayStandIn(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		req := s.req(goproxy.Zip)
		doubted := func(i int, want bool, when string) {
			s.t.Helper()
			if got := s.chain.Doubted(s.actors[i], req); got != want {
				s.t.Errorf("%s is doubted: %t, %s", s.actors[i].name, got, when)
			}
		}
		doubted(0, true, "before anything came")
		doubted(1, false, "for whom nobody stands in")
		s.ask(goproxy.Mod)
		doubted(0, true, "after a .mod")
		s.ask(goproxy.Zip)
		doubted(0, false, "after a good zip")
		_, err := s.chain.Fetch(s.t.Context(), s.req(goproxy.Zip), func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
			if src.Name() == "a" {
				return lie{errors.New("wrong bytes")}
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		doubted(0, true, "after a lie")
	})
	play(t, ",", upstream.AsWritten, func(s *stage) {
		if s.chain.Doubted(s.actors[0], s.req(goproxy.Zip)) {
			s.t.Error("a is doubted though nobody may stand in for it")
		}
	})
}

func TestNoSourceIsLeftBusy(t *testing.T) {
	play(t, "||", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(hangs)
		s.actors[1].does(fails(250*time.Millisecond, upstream.Error{Source: "b", Stage: upstream.StageHTTP, Status: 500}))
		for range 3 {
			s.ask(goproxy.Info)
			s.ask(goproxy.Zip)
		}
		ctx, cancel := context.WithCancel(s.t.Context())
		go func() { time.Sleep(100 * time.Millisecond); cancel() }()
		s.actors[2].does(hangs)
		s.chain.Fetch(ctx, s.req(goproxy.Info), func(context.Context, upstream.Source, *upstream.Answer) error { return nil })
		synctest.Wait()
		for _, a := range s.actors {
			if r := s.chain.Health.Report(a.name); a.live != 0 || r.Busy != 0 {
				t.Errorf("%s: %d live, %d busy", a.name, a.live, r.Busy)
			}
			for _, k := range s.chain.Health.Report(a.name).Asks {
				if k.State == upstream.Suspect {
					t.Errorf("%s is still suspect for %s", a.name, k.Ask)
				}
			}
		}
	})
}

func listing(versions string, after time.Duration) func(context.Context, goproxy.Request) (*upstream.Answer, error) {
	return func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return &upstream.Answer{Body: io.NopCloser(strings.NewReader(versions)), Size: -1}, nil
	}
}

func TestListsAreGatheredFromAllThatStandInForOneAnother(t *testing.T) {
	gather := func(s *stage) (heard []string, took time.Duration, err error) {
		start := time.Now()
		_, err = s.chain.Gather(s.t.Context(), s.req(goproxy.List), func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
			data, err := io.ReadAll(a.Body)
			heard = append(heard, src.Name()+" "+strings.TrimSpace(string(data)))
			return err
		})
		return heard, time.Since(start), err
	}
	play(t, "||,", upstream.AsWritten, func(s *stage) {
		for i, v := range []string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"} {
			s.actors[i].does(listing(v, time.Duration(i)*10*time.Millisecond))
		}
		if heard, took, err := gather(s); err != nil || !slices.Equal(heard, []string{"a v1.0.0", "b v1.1.0", "c v1.2.0"}) || took != 20*time.Millisecond {
			t.Errorf("%q after %v, %v", heard, took, err)
		}
		s.actors[1].does(hangs) // nobody waits for ever
		if heard, took, err := gather(s); err != nil || len(heard) != 2 || took != time.Second {
			t.Errorf("%q after %v, %v", heard, took, err)
		}
		s.actors[0].does(fails(0, refusedToConnect))
		if heard, _, err := gather(s); err != nil || len(heard) != 1 {
			t.Errorf("%q, %v", heard, err)
		}
		s.actors[2].does(fails(0, refusedToConnect))
		gather(s)
		s.actors[1].does(listing("v1.1.0", 0))
		if heard, _, err := gather(s); err != nil || len(heard) != 1 {
			t.Errorf("with most of them down: %q, %v", heard, err)
		}
		synctest.Wait()
		for _, a := range s.actors {
			if r := s.chain.Health.Report(a.name); r.Busy != 0 {
				t.Errorf("%s is busy with %d", a.name, r.Busy)
			}
		}
	})
	play(t, ",", upstream.AsWritten, func(s *stage) { // a gatekeeper's list is its own
		if heard, _, err := gather(s); err != nil || len(heard) != 1 {
			t.Errorf("%q, %v", heard, err)
		}
		if n := s.actors[1].times(); n != 0 {
			t.Errorf("the second source was asked %d times", n)
		}
	})
}

func TestLagIsMeasuredAgainstTheOthers(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		h := s.chain.Health
		h.Compare("m.test/m", map[string][]string{"a": {"v1.0.0"}, "b": {"v1.0.0", "v1.1.0", "v1.2.0"}, "c": nil})
		time.Sleep(time.Hour)
		if a, b, c := h.Report("a"), h.Report("b"), h.Report("c"); a.Lacks != 2 || a.LacksFor != time.Hour || b.Lacks != 0 || c.Lacks != 0 {
			t.Errorf("%+v %+v %+v", a, b, c)
		}
		h.Compare("m.test/m", map[string][]string{"a": {"v1.0.0", "v1.1.0"}, "b": {"v1.0.0", "v1.1.0", "v1.2.0"}})
		if a := h.Report("a"); a.Lacks != 1 || a.LacksFor != time.Hour {
			t.Errorf("%+v", a)
		}
	})
}

func TestWhoIsOvertakenByAZipThatThenFailsIsAskedAnew(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		n := 0
		s.actors[0].does(func(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
			if n++; n == 1 {
				return answers(300*time.Millisecond)(ctx, req) // late, and let go of
			}
			return answers(20*time.Millisecond)(ctx, req)
		})
		bad := true
		by := ""
		_, err := s.chain.Fetch(s.t.Context(), s.req(goproxy.Zip), func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
			if by = src.Name(); by == "b" && bad {
				time.Sleep(500 * time.Millisecond)
				return errors.New("damaged")
			}
			return nil
		})
		if err != nil || by != "a" {
			t.Errorf("from %q: %v", by, err)
		}
		if r := s.chain.Health.Report("a"); r.Busy != 0 || r.Failed != 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhereTheOnlySourceIsABlackHoleManyQuestionsFailSoon(t *testing.T) {
	play(t, "", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(fails(2*time.Second, upstream.Error{Source: "a", Stage: upstream.StageConnect, Err: context.DeadlineExceeded}))
		s.ask(goproxy.Info)
		s.actors[0].times()
		start := time.Now()
		for range 60 {
			if _, _, err := s.ask(goproxy.Info); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v", err)
			}
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("60 questions failed after %v", took)
		}
		time.Sleep(time.Second)
		s.actors[0].does(answers(20 * time.Millisecond))
		s.want("a", 20*time.Millisecond, goproxy.Info) // and when it is there again, so is it
	})
}

func TestTheThirdSourceDoesNotWaitForTheFirst(t *testing.T) {
	for _, status := range []int{404, 500} {
		play(t, "||", upstream.AsWritten, func(s *stage) {
			s.actors[0].does(hangs)
			s.actors[1].does(fails(0, upstream.Error{Source: "b", Stage: upstream.StageHTTP, Status: status}))
			s.want("c", 220*time.Millisecond, goproxy.Info)
		})
	}
}

func TestNobodyIsHeldForDeadInWhatExists(t *testing.T) {
	notFound := fails(0, upstream.Error{Source: "b", Stage: upstream.StageHTTP, Status: 404})
	play(t, "|", upstream.AsWritten, func(s *stage) { // slow once
		s.want("a", 20*time.Millisecond, goproxy.Info)
		s.actors[0].does(answers(time.Second))
		s.want("b", 220*time.Millisecond, goproxy.Info)
		s.actors[1].does(notFound)
		if by, _, err := s.ask(goproxy.Info); by != "a" {
			t.Errorf("from %q: %v", by, err)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // down before everybody went home
		s.actors[0].does(fails(0, refusedToConnect))
		s.ask(goproxy.Info)
		time.Sleep(12 * time.Hour)
		s.actors[0].does(answers(20 * time.Millisecond))
		s.actors[1].does(notFound)
		if by, _, err := s.ask(goproxy.Info); by != "a" {
			t.Errorf("from %q: %v", by, err)
		}
	})
	play(t, "|", upstream.AsWritten, func(s *stage) { // resting
		s.actors[0].does(fails(0, upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 429, RetryAfter: time.Minute}))
		s.ask(goproxy.Info)
		s.actors[1].does(notFound)
		if _, _, err := s.ask(goproxy.Info); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}

func TestANotFoundAfterARetryIsOne(t *testing.T) {
	play(t, "", upstream.AsWritten, func(s *stage) {
		n := 0
		s.actors[0].does(func(context.Context, goproxy.Request) (*upstream.Answer, error) {
			if n++; n == 1 {
				return nil, &upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 503}
			}
			return nil, &upstream.Error{Source: "a", Stage: upstream.StageHTTP, Status: 404}
		})
		if _, _, err := s.ask(goproxy.Info); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}

func TestSourcesThatAreNoLongerConfiguredAreNotProbed(t *testing.T) {
	play(t, "|", upstream.AsWritten, func(s *stage) {
		s.actors[0].does(fails(0, refusedToConnect))
		s.ask(goproxy.Info)
		s.chain.Health.Keep([]upstream.Source{s.actors[1]})
		s.actors[0].times()
		time.Sleep(time.Minute)
		if n := s.actors[0].times(); n != 0 {
			t.Errorf("%d probes", n)
		}
	})
}
