package upstream_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/modsluice/sluice/internal/upstream"
)

func TestWhatASourceDidSinceAMarkIsForgivenAndNothingBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := &testSource{name: "a"}, &testSource{name: "b"}, &testSource{name: "c"}
		var changes []upstream.Change
		h := upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1, Changed: func(c upstream.Change) { changes = append(changes, c) }})
		chain := &upstream.Chain{Health: h, Links: []upstream.Link{{Source: a, FallBack: true}, {Source: b, FallBack: true}, {Source: c}}}
		dead := &upstream.Error{Source: "a", Stage: upstream.StageConnect, Err: errors.New("refused")}
		fetch := func() {
			t.Helper()
			if _, err := chain.Fetch(t.Context(), switchInfo, take); err != nil {
				t.Fatal(err)
			}
		}
		b.fail(dead)
		a.fail(dead)
		restoreA := h.Mark("a", true)
		fetch()
		if !h.IsDown("a") || !h.IsDown("b") {
			t.Fatal("refused sources are not down")
		}
		restoreB := h.Mark("b", true)
		restoreA()
		restoreB()
		if h.IsDown("a") {
			t.Error("what came after the mark is held against the source")
		}
		if !h.IsDown("b") {
			t.Error("what was before the mark is forgiven")
		}
		if last := changes[len(changes)-1]; last.Source != "a" || last.State != upstream.Up {
			t.Errorf("it was told that %+v", last)
		}
	})
}
