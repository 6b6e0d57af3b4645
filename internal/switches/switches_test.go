package switches_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/switches"
)

// A rig is a Set with what it told.
type rig struct {
	t   *testing.T
	dir string
	set *switches.Set
	log bytes.Buffer

	mu      sync.Mutex
	applied []string // the last list
}

func open(t *testing.T, dir string) *rig {
	r := &rig{t: t, dir: dir}
	r.set = switches.Open(switches.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&r.log, nil)), Apply: func(list []switches.Switch) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.applied = []string{}
		for _, s := range list {
			r.applied = append(r.applied, s.String())
		}
	}})
	return r
}

func (r *rig) want(names ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.applied, names) {
		r.t.Errorf("in force are %q, want %q", r.applied, names)
	}
}

func (r *rig) put(w switches.Switch) {
	r.t.Helper()
	if unkept, err := r.set.Set(w, "test"); unkept != nil || err != nil {
		r.t.Fatalf("Set(%v): %v, %v", w, unkept, err)
	}
}

// audit are the events of the audit file: "set offline".
func (r *rig) audit() (list []string) {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, "audit.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var e switches.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			r.t.Fatalf("%s: %v", line, err)
		}
		if e.Time.IsZero() || e.PID != os.Getpid() {
			r.t.Errorf("%s has no time or process", line)
		}
		list = append(list, string(e.Event)+" "+e.What)
	}
	return list
}

func (r *rig) wantAudit(want ...string) {
	r.t.Helper()
	if got := r.audit(); !slices.Equal(got, want) {
		r.t.Errorf("the audit file has %q, want %q", got, want)
	}
}

func TestASwitchRevertsByItselfWhenItsTimeIsOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := open(t, dir)
		var wg sync.WaitGroup
		wg.Go(func() { r.set.Run(ctx) })
		r.put(switches.Switch{Name: switches.LookAhead, Who: "ann", Until: time.Now().Add(30 * time.Minute)})
		r.put(switches.Switch{Name: switches.Offline, Until: time.Now().Add(10 * time.Second)})
		r.put(switches.Switch{Name: switches.Source, Subject: "https://a.example"})
		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		r.want("source https://a.example", "look-ahead", "offline")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		r.want("source https://a.example", "look-ahead")
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		r.want("source https://a.example")
		r.wantAudit("set look-ahead", "set offline", "set source https://a.example", "expired offline", "expired look-ahead")
		stop()
		wg.Wait()
	})
}

func TestSwitchesOutliveTheProcessAndStillEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := open(t, dir)
		r.put(switches.Switch{Name: switches.Offline, Who: "ann", Reason: "the line is down", Until: time.Now().Add(time.Hour)})
		r.put(switches.Switch{Name: switches.Prefer, Subject: "https://b.example"})
		time.Sleep(59 * time.Minute)

		r = open(t, dir) // nobody has closed the first: it was killed
		r.want("offline", "prefer https://b.example")
		if w, ok := r.set.Find(switches.Offline, ""); !ok || w.Who != "ann" || w.Reason != "the line is down" || time.Until(w.Until) != time.Minute {
			t.Errorf("offline came back as %+v", w)
		}
		if !strings.Contains(r.log.String(), "still switched") {
			t.Error("what is still switched was not logged")
		}

		time.Sleep(time.Minute) // while no process is there
		r = open(t, dir)
		r.want("prefer https://b.example")
		r.wantAudit("set offline", "set prefer https://b.example", "expired offline")
		r = open(t, dir)
		r.want("prefer https://b.example")
		r.wantAudit("set offline", "set prefer https://b.example", "expired offline") // told once
	})
}

func TestOneOfAKindIsInForce(t *testing.T) {
	r := open(t, t.TempDir())
	r.want()
	r.put(switches.Switch{Name: switches.Prefer, Subject: "https://a.example"})
	r.put(switches.Switch{Name: switches.Prefer, Subject: "https://b.example"})
	r.put(switches.Switch{Name: switches.Source, Subject: "https://b.example"})
	r.put(switches.Switch{Name: switches.Source, Subject: "https://a.example", Reason: "one"})
	r.put(switches.Switch{Name: switches.Source, Subject: "https://a.example", Reason: "two"})
	r.want("source https://a.example", "source https://b.example", "prefer https://b.example")
	if w, _ := r.set.Find(switches.Source, "https://a.example"); w.Reason != "two" {
		t.Errorf("the later reason does not count: %+v", w)
	}
	for _, tt := range []struct {
		name    switches.Name
		subject string
		was     bool
	}{{switches.Source, "https://a.example", true}, {switches.Source, "https://a.example", false}, {switches.Prefer, "", true}, {switches.Prefer, "", false}} {
		if was, unkept, err := r.set.Clear(tt.name, tt.subject, "ann", "test", ""); was != tt.was || unkept != nil || err != nil {
			t.Errorf("Clear(%v, %q): %v, %v, %v", tt.name, tt.subject, was, unkept, err)
		}
	}
	r.want("source https://b.example")
	if n := len(r.audit()); n != 7 {
		t.Errorf("the audit file has %d lines, want 5 set and 2 cleared", n)
	}
}

func TestATryThatFailsLeavesAllAsItWas(t *testing.T) {
	r := open(t, t.TempDir())
	a := switches.Switch{Name: switches.Prefer, Subject: "https://a.example"}
	b := switches.Switch{Name: switches.Prefer, Subject: "https://b.example"}
	if _, err := r.set.Try(a, "test", func() error {
		r.want("prefer https://a.example")
		if _, err := r.set.Try(b, "test", nil); !errors.Is(err, switches.ErrBusy) {
			t.Errorf("a second try beside the first: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	bad := errors.New("it lies")
	if _, err := r.set.Try(b, "test", func() error {
		r.want("prefer https://b.example")
		r.put(switches.Switch{Name: switches.LookAhead}) // others may switch meanwhile
		return bad
	}); err != bad {
		t.Errorf("Try gave %v", err)
	}
	r.want("look-ahead", "prefer https://a.example")
	r.wantAudit("set prefer https://a.example", "set prefer https://b.example", "set look-ahead", "reverted prefer https://b.example")
	again := open(t, r.dir)
	again.want("look-ahead", "prefer https://a.example")

	// What somebody switches meanwhile is not undone.
	r.set.Try(b, "test", func() error {
		r.set.Clear(switches.Prefer, "", "ann", "test", "")
		return bad
	})
	r.want("look-ahead")
}

func TestWhatCannotBeMeantIsAMistake(t *testing.T) {
	r := open(t, t.TempDir())
	for _, w := range []switches.Switch{
		{},
		{Name: "all"},
		{Name: switches.Source},
		{Name: switches.Prefer},
		{Name: switches.Offline, Subject: "https://a.example"},
		{Name: switches.Offline, Until: time.Now()},
		{Name: switches.Offline, Until: time.Now().Add(switches.Longest + time.Hour)},
		{Name: switches.Offline, Reason: strings.Repeat("x", 501)},
		{Name: switches.Offline, Reason: "two\nlines"},
		{Name: switches.Offline, Who: "\x1b[31mred"},
		{Name: switches.Offline, Who: strings.Repeat("x", 101)},
	} {
		_, err := r.set.Set(w, "test")
		if _, ok := errors.AsType[*switches.MistakeError](err); !ok {
			t.Errorf("Set(%+v): %v, want a MistakeError", w, err)
		}
	}
	r.want()
	r.wantAudit()
}

func TestAFileThatCannotBeUnderstoodCountsAsNone(t *testing.T) {
	for name, text := range map[string]string{
		"torn":       `{"switches": [{"switch": "offline", "si`,
		"empty":      "",
		"of another": `{"switches": [{"switch": "everything"}]}`,
		"hostile":    `{"switches": [{"switch": "offline", "reason": "\u001b[2J"}]}`,
		"too large":  `{"switches": []` + strings.Repeat(" ", 2<<20) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "switches.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := open(t, dir)
			r.want()
			if !strings.Contains(r.log.String(), "level=ERROR") {
				t.Errorf("it was not told: %s", r.log.String())
			}
			r.put(switches.Switch{Name: switches.Origin})
			open(t, dir).want("origin")
		})
	}
}

func TestASwitchWorksWhereNothingCanBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	r := open(t, dir)
	unkept, err := r.set.Set(switches.Switch{Name: switches.Offline}, "test")
	if err != nil || unkept == nil || !strings.Contains(unkept.Error(), "audit") || !strings.Contains(unkept.Error(), "outlive") {
		t.Errorf("Set: %v, %v; want both files told", unkept, err)
	}
	r.want("offline")
}
