package doctor

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/finding"
)

// check makes a check that ends as told after a while, or with its context.
func check(id string, after time.Duration, out Outcome, needs ...string) Check {
	return Check{ID: id, Group: "Group", Title: id, Needs: needs, Run: func(ctx context.Context, _ Seen) Outcome {
		select {
		case <-time.After(after):
			return out
		case <-ctx.Done():
			return Outcome{State: Fail, Text: "cut off", Finding: of(finding.SourceSilent)}
		}
	}}
}

func of(code finding.Code) *finding.Finding {
	f := finding.Of(code)
	return &f
}

func fails(code finding.Code, about string) Outcome {
	return Outcome{State: Fail, Text: "it failed", Subject: about, Finding: of(code)}
}

func states(r Report) string {
	var all []string
	for _, row := range r.Rows {
		all = append(all, row.ID+" "+string(row.State))
	}
	return strings.Join(all, ", ")
}

var fine = Outcome{State: OK}

func TestChecksThatDoNotNeedOneAnotherAreMadeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := Run(t.Context(), "", []Check{
			check("c", time.Second, fine, "a", "b"), check("a", 2*time.Second, fine), check("b", 3*time.Second, fine), check("d", 4*time.Second, fine),
		}, time.Minute)
		if took := time.Since(start); took != 4*time.Second || states(r) != "c ok, a ok, b ok, d ok" || r.Verdict != Well {
			t.Errorf("%v, %s, %s", took, states(r), r.Verdict)
		}
	})
}

func TestTheBudgetEndsEverythingAndWhatHasNotEndedIsIncompleteAndNeverWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		forgotten := make(chan struct{})
		r := Run(t.Context(), "", []Check{
			check("slow", time.Hour, fine), check("behind", 0, fine, "slow"), check("quick", time.Second, fine),
			// One whose call of the system hangs, whatever its context says.
			{ID: "hung", Run: func(context.Context, Seen) Outcome { <-forgotten; return fine }},
		}, 8*time.Second)
		took := time.Since(start)
		close(forgotten)
		if took != 8*time.Second || states(r) != "slow incomplete, behind incomplete, quick ok, hung incomplete" || r.Verdict != Untold || len(r.Findings) != 0 {
			t.Errorf("%v, %s, %s, %v", took, states(r), r.Verdict, r.Findings)
		}
		synctest.Wait()
	})
}

func TestWhatNeedsAFailedCheckIsSkippedAndCountedUnderIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Run(t.Context(), "", []Check{
			check("a", time.Second, fails(finding.SourceRefused, "h.example.com")), check("b", 0, fine, "a"), check("c", 0, fine, "b"), check("d", 0, fine),
			check("na", 0, Outcome{State: NA}), check("e", 0, fine, "na"),
		}, time.Minute)
		if states(r) != "a fail, b skip, c skip, d ok, na n/a, e ok" || r.Rows[1].Because != "a" || r.Rows[2].Because != "b" {
			t.Fatalf("%s: %+v", states(r), r.Rows)
		}
		if len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Consequences, []string{"b", "c"}) || r.Verdict != Broken {
			t.Errorf("%s: %+v", r.Verdict, r.Findings)
		}
	})
}

func TestAFailureWithACauseElsewhereIsNoFindingOfItsOwn(t *testing.T) {
	clock := fails(finding.ClockWrong, "")
	clock.Explains = []string{"tls"}
	after := fails(finding.SumDBUnreachable, "sum.example.com")
	after.Because = "tls"
	r := Run(t.Context(), "", []Check{check("tls", 0, fails(finding.SourceTLSExpired, "h.example.com")), check("sum", 0, after), check("clock", 0, clock)}, time.Minute)
	if len(r.Findings) != 1 || r.Findings[0].Code != finding.ClockWrong || len(r.Findings[0].Consequences) != 2 {
		t.Errorf("%+v", r.Findings)
	}
}

// A row that says Unknown has no finding, so a failure behind it has to speak for
// itself.
func TestNoFailureIsLostBehindARowWithoutAFinding(t *testing.T) {
	lost := fails(finding.ConfigMalformed, "")
	lost.Because = "a"
	r := Run(t.Context(), "", []Check{check("a", 0, Outcome{State: Unknown}), check("b", 0, lost)}, time.Minute)
	if r.Verdict != Broken || len(r.Findings) != 1 {
		t.Errorf("%s, %+v", r.Verdict, r.Findings)
	}
}

func TestAFailureThatCostNobodyAnythingIsAWarning(t *testing.T) {
	walk := Outcome{State: OK, Excuses: []string{"a"}}
	r := Run(t.Context(), "", []Check{check("a", 0, fails(finding.SourceRefused, "h.example.com")), {ID: "walk", After: []string{"a"}, Run: func(context.Context, Seen) Outcome { return walk }}}, time.Minute)
	if r.Verdict != Impaired || states(r) != "a warn, walk ok" || r.Findings[0].Severity != finding.Warn {
		t.Errorf("%s, %s, %+v", r.Verdict, states(r), r.Findings)
	}
}

func TestOneCodeIsOneFindingAboutAllItsHosts(t *testing.T) {
	r := Run(t.Context(), "", []Check{check("a", 0, fails(finding.SourceDNS, "a.example.com")), check("b", 0, fails(finding.SourceDNS, "b.example.com"))}, time.Minute)
	if len(r.Findings) != 1 || strings.Join(r.Findings[0].About, " ") != "a.example.com b.example.com" || len(r.Findings[0].Rows) != 2 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestUnknownIsNoPass(t *testing.T) {
	if r := Run(t.Context(), "", []Check{check("a", 0, Outcome{State: Unknown}), check("b", 0, fine, "a")}, time.Minute); r.Verdict != Untold || states(r) != "a unknown, b skip" {
		t.Errorf("%s, %s", r.Verdict, states(r))
	}
}

func TestWhoGivesUpWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		r := Run(ctx, "", []Check{check("a", time.Hour, fine)}, time.Minute)
		if took := time.Since(start); took != time.Second || r.Rows[0].State != Incomplete {
			t.Errorf("%v, %s", took, states(r))
		}
	})
}

func TestWhatRunsHasAMomentToEndBehindItWhenTimeIsOverOrSomebodyGivesUp(t *testing.T) {
	for what, gone := range map[string]time.Duration{"time is over": time.Hour, "somebody gives up": time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), gone)
			defer cancel()
			start, tidy := time.Now(), false
			r := Run(ctx, "", []Check{{ID: "a", Run: func(ctx context.Context, _ Seen) Outcome {
				<-ctx.Done()
				time.Sleep(100 * time.Millisecond) // until a program that it runs is gone
				tidy = true
				return fails(finding.SourceDNS, "h.example.com")
			}}, check("b", 0, fine, "a")}, 8*time.Second)
			if took := time.Since(start); !tidy || took > 8*time.Second || gone < took-100*time.Millisecond || states(r) != "a incomplete, b incomplete" {
				t.Errorf("%s: %v, ended %v, %s", what, took, tidy, states(r))
			}
		})
	}
}

func TestTheTextNeedsNoColourAndPassesNothingOnToTheTerminal(t *testing.T) {
	bad := fails(finding.SourceRefused, "h.example.com")
	bad.Text = "\x1b]0;evil\x07 https://user:hunter2@h.example.com/ \x1b[31mred"
	r := Run(t.Context(), "https://user:hunter2@h.example.com", []Check{{ID: "a", Group: "G", Title: "a", Link: "connection", Run: func(context.Context, Seen) Outcome { return bad }}}, time.Minute)
	text := r.Text(TextOptions{All: true})
	for _, no := range []string{"\x1b", "\x07", "hunter2"} {
		if strings.Contains(text, no) {
			t.Errorf("%q is in\n%s", no, text)
		}
	}
	for _, want := range []string{"A module source refuses connections: h.example.com (SL-NET-002)\n", "[X connection]", "FAIL  "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if !strings.Contains(r.Text(TextOptions{Colour: true}), "\x1b[1;31m") {
		t.Error("there is no colour where it is wanted")
	}
}
