package mirror_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

func TestASourceThatTakesBackWhatItSaidIsTold(t *testing.T) {
	for _, kind := range []goproxy.Kind{goproxy.List, goproxy.Latest} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := modtest.New(t)
				w.Add(mutablePath, v1, nil)
				w.Add(mutablePath, v2, nil)
				r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}})
				r.chain.Health = upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1})
				req := goproxy.Request{Kind: kind, Module: module.Version{Path: mutablePath}}
				ask := func() bool {
					t.Helper()
					time.Sleep(2 * time.Minute) // what it said is no longer fresh
					if g := r.get(req); g.err != nil {
						t.Fatal(g.err)
					}
					r.Settle()
					return strings.Contains(r.log.String(), "source went backwards")
				}
				for range 2 {
					if ask() {
						t.Errorf("a source that says the same again is told of:\n%s", r.log)
					}
				}
				w.Remove(module.Version{Path: mutablePath, Version: v2})
				if !ask() {
					t.Errorf("nothing is told:\n%s", r.log)
				}
				if rep := r.chain.Health.Report("s"); !strings.Contains(rep.Backwards, mutablePath) {
					t.Errorf("%+v", rep)
				}
			})
		})
	}
}

func TestListsAreMergedOfAllSourcesThatStandInForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := modtest.New(t), modtest.New(t)
		a.Add(mutablePath, v1, nil)
		b.Add(mutablePath, v2, nil)
		b.Add(mutablePath, v1, nil)
		r := newRig(t, parts{
			sources:  []upstream.Source{pipe(t, "a", a.Handler()), pipe(t, "b", b.Handler())},
			settings: mirror.Settings{Fresh: time.Minute, Stale: 2 * time.Second, NotFound: 5 * time.Second, Union: true},
		})
		r.chain.Health = upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1})
		if g := r.get(list(mutablePath)); g.err != nil || string(g.data) != v1+"\n"+v2+"\n" {
			t.Errorf("%q, %v\n%s", g.data, g.err, r.log)
		}
		time.Sleep(time.Hour)
		if rep := r.chain.Health.Report("a"); rep.Lacks != 1 || rep.LacksFor < time.Hour {
			t.Errorf("%+v", rep)
		}
		r.Settle()
	})
}
