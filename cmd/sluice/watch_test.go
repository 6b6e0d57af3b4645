package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
)

// A round is how one check of a watch ends.
type round struct {
	verdict doctor.Verdict
	code    finding.Code // of its finding; "" for none
	takes   time.Duration
}

func (r round) report() *doctor.Report {
	rep := &doctor.Report{Schema: doctor.Schema, Verdict: r.verdict, Sentence: "it is " + string(r.verdict), Findings: []doctor.Found{}, Rows: []doctor.Row{}}
	if r.code != "" {
		rep.Findings = append(rep.Findings, doctor.Found{Code: r.code, Severity: finding.Fail})
		rep.Sentence += " by " + string(r.code)
	}
	return rep
}

// watchRounds watches until all rounds are over, and gives what was printed, when each
// check began, and how the watch ended.
func watchRounds(t *testing.T, w *watcher, rounds ...round) (string, []time.Time, error) {
	t.Helper()
	var out bytes.Buffer
	var began []time.Time
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	w.out = &out
	if w.columns == nil {
		w.columns = func() int { return 0 }
	}
	w.report = func(ctx context.Context) (*doctor.Report, error) {
		i := len(began)
		began = append(began, time.Now())
		if i == len(rounds) {
			cancel(&interruptError{})
			return nil, context.Cause(ctx)
		}
		time.Sleep(rounds[i].takes)
		return rounds[i].report(), nil
	}
	err := w.run(ctx)
	return out.String(), began, err
}

func TestAWatchSaysWhatChangesAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, began, err := watchRounds(t, &watcher{every: 10 * time.Second},
			round{verdict: doctor.Well}, round{verdict: doctor.Well}, round{verdict: doctor.Broken, code: "SL-NET-002"}, round{verdict: doctor.Broken, code: "SL-NET-002"},
			round{verdict: doctor.Broken, code: "SL-NET-001"}, round{verdict: doctor.Untold})
		const want = "well  it is well\nbroken  it is broken by SL-NET-002\nbroken  it is broken by SL-NET-001\nunknown  it is unknown\n"
		got := ""
		for line := range strings.Lines(out) {
			at, rest, _ := strings.Cut(line, "  ")
			if _, err := time.Parse(time.DateTime, at); err != nil {
				t.Errorf("%q has no time", line)
			}
			got += rest
		}
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		for i := range began[1:] {
			if d := began[i+1].Sub(began[i]); d < 9*time.Second || d > 11*time.Second {
				t.Errorf("check %d came %v after the one before", i+1, d)
			}
		}
		// The status is that of the last check.
		if ee, ok := errors.AsType[*exitError](err); !ok || ee.status != exitUntold {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestManyWatchesDoNotAskAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, began, err := watchRounds(t, &watcher{every: time.Hour}, make([]round, 20)...)
		if err != nil {
			t.Error(err)
		}
		seen := map[time.Duration]bool{}
		for i := range began[1:] {
			seen[began[i+1].Sub(began[i])] = true
		}
		if len(seen) < 10 {
			t.Errorf("of 20 pauses only %d differ", len(seen))
		}
	})
}

func TestAWatchLeavesAPauseBehindASlowCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := round{verdict: doctor.Well, takes: 8 * time.Second}
		_, began, _ := watchRounds(t, &watcher{every: 2 * time.Second}, slow, slow)
		if d := began[1].Sub(began[0]); d != 10*time.Second {
			t.Errorf("the next check came after %v", d)
		}
	})
}

func TestAWatchAsJSONIsAReportALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, _, err := watchRounds(t, &watcher{every: 10 * time.Second, json: true}, round{verdict: doctor.Well}, round{verdict: doctor.Well}, round{verdict: doctor.Broken, code: "SL-NET-002"})
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 2 {
			t.Fatalf("%q", out)
		}
		for i, want := range []doctor.Verdict{doctor.Well, doctor.Broken} {
			if r, err := doctor.Read([]byte(lines[i])); err != nil || r.Verdict != want {
				t.Errorf("%v, %v", r, err)
			}
		}
		if ee, ok := errors.AsType[*exitError](err); !ok || ee.status != exitNo {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestATerminalHasOneLineThatIsKeptCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, _, _ := watchRounds(t, &watcher{every: 10 * time.Second, columns: func() int { return 30 }}, round{verdict: doctor.Well}, round{verdict: doctor.Well}, round{verdict: doctor.Broken, code: "SL-NET-002"})
		shown := strings.Split(out, "\n")
		if len(shown) != 3 || shown[2] != "" || strings.Count(shown[0], "\r\x1b[K") != 2 || !strings.Contains(shown[0], "since") || !strings.Contains(shown[1], "broken") {
			t.Errorf("%q", shown)
		}
		for part := range strings.SplitSeq(strings.ReplaceAll(out, "\x1b[K", ""), "\r") {
			for line := range strings.Lines(part) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 29 {
					t.Errorf("%q takes %d columns", line, n)
				}
			}
		}
	})
}

func TestAWatchThatSawNothingWasInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, err := watchRounds(t, &watcher{every: 10 * time.Second})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}
