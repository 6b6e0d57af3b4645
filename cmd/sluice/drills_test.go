package main

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/upstream"
)

func mustFault(t *testing.T, s string) faults.Fault {
	t.Helper()
	f, err := faults.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestADrillSpoilsItsSourceAloneAlsoOnConnectionsThatWereOpen(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }))
	defer srv.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	var d drills
	status := func(source string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/example.com/m/@v/list", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := d.wrap(source, tr).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := status("a"); got != 200 {
		t.Fatalf("without a drill: %d", got)
	}
	f, _ := d.begin("a", mustFault(t, "503"), nil)
	if f2, _ := d.begin("a", mustFault(t, "404"), nil); f2 != nil {
		t.Error("two drills are inside one source")
	}
	if a, b := status("a"), status("b"); a != 503 || b != 200 {
		t.Errorf("under a drill in a: a %d, b %d", a, b)
	}
	f.sw.Clear()
	if got := status("a"); got != 200 || f.met["list"] != 1 {
		t.Errorf("taken out: %d, met %v", got, f.met)
	}
	d.end("a", f)

	d.pinned.Store(true)
	f, _ = d.begin("a", mustFault(t, "noise"), nil)
	if got := status("a"); got != 200 || d.in["a"].met["list"] != 0 {
		t.Error("a lie is told where it would be kept")
	}
	d.end("a", f)
	d.stop()
	if f, _ := d.begin("a", mustFault(t, "503"), nil); f != nil {
		t.Error("a drill began in a server that stops")
	}
}

func TestOnlyFaultsWithWrongBytesAreLies(t *testing.T) {
	var got []string
	for _, i := range faults.All() {
		if lies(mustFault(t, i.Example)) {
			got = append(got, i.Name)
		}
	}
	if len(got) != 21 {
		t.Errorf("%d faults of the catalogue are lies: %q", len(got), got)
	}
	if lies(mustFault(t, "list:noise")) {
		t.Error("a lie in a list, which nobody keeps, counts")
	}
}

func TestARequestFailedForADrillIfItsSourceWasAskedInVain(t *testing.T) {
	walk := func(source string, err error) error {
		return &upstream.WalkError{Attempts: []upstream.Attempt{{Source: "b", Err: errors.New("dead")}, {Source: source, Err: err}}}
	}
	dead := errors.New("dead")
	for _, tt := range []struct {
		name   string
		v      server.Seen
		failed int
		doubt  int
	}{
		{"it failed too", server.Seen{Outcome: "failed", Err: walk("a", dead)}, 1, 0},
		{"others failed", server.Seen{Outcome: "failed", Err: walk("c", dead)}, 0, 0},
		{"another stood in", server.Seen{Outcome: "fetched", Source: "b"}, 0, 0},
		{"broken off", server.Seen{Outcome: "failed", Source: "a"}, 1, 0},
		{"broken off by another", server.Seen{Outcome: "failed", Source: "b"}, 0, 0},
		{"not found by it, and the other is dead", server.Seen{Outcome: "failed", Err: walk("a", fs.ErrNotExist)}, 1, 0},
		{"not found", server.Seen{Outcome: "missing", Err: walk("a", fs.ErrNotExist)}, 0, 1},
		{"no database, which was not asked there", server.Seen{Outcome: "failed", Err: checksum.ErrUnreachable}, 0, 0},
		{"our own trouble", server.Seen{Outcome: "failed", Err: dead}, 0, 0},
	} {
		var d drills
		f, _ := d.begin("a", mustFault(t, "404"), nil)
		d.Ended(tt.v)
		if f.failed != tt.failed || f.doubt != tt.doubt || f.counts[tt.v.Outcome] != 1 {
			t.Errorf("%s: %d failed, %d in doubt", tt.name, f.failed, f.doubt)
		}
	}
}

func TestWhatWasBeforeADrillIsToldOnlyIfAllOfItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drills{born: time.Now()}
		hit := func() { d.Ended(server.Seen{Outcome: "hit", Start: time.Now(), Took: time.Millisecond}) }
		hit()
		time.Sleep(time.Minute)
		hit()
		hit()
		began := time.Now()
		if b := d.before(d.recent, began, time.Second); b == nil || b.Requests["hit"] != 2 || b.Median != 1 {
			t.Errorf("a second before: %+v", b)
		}
		if b := d.before(d.recent, began, time.Hour); b != nil {
			t.Errorf("before there was a server: %+v", b)
		}
		for range recentRequests {
			hit()
		}
		if b := d.before(d.recent, began, time.Second); b != nil {
			t.Errorf("what was forgotten is told: %+v", b)
		}
	})
}

func TestWhatIsUnderWayWhenADrillEndsBelongsToIt(t *testing.T) {
	now := time.Now()
	dead := &upstream.WalkError{Attempts: []upstream.Attempt{{Source: "a", Err: errors.New("dead")}}}
	over := func(start time.Time) server.Seen {
		return server.Seen{Outcome: "failed", Err: dead, Start: start}
	}
	var d drills
	f, _ := d.begin("a", mustFault(t, "hang"), nil)
	first, second, after := now, now.Add(1), now.Add(2)
	d.Began(first)
	d.Began(second)
	d.Began(second)
	d.Ended(over(second))
	d.takeOut(f)
	d.Began(after)
	d.Ended(over(after))
	d.Ended(over(second))
	select {
	case <-f.quiet:
		t.Error("nothing is waited for, with a request under way")
	default:
	}
	if f.failed != 2 || f.late[first] != 1 {
		t.Errorf("%d failed, late %v", f.failed, f.late)
	}
	d.Ended(over(first))
	<-f.quiet
	if f.failed != 3 || f.counts["failed"] != 3 || len(d.open) != 0 {
		t.Errorf("%d failed, counts %v, open %v", f.failed, f.counts, d.open)
	}
	d.end("a", f)
	f, _ = d.begin("a", mustFault(t, "hang"), nil)
	d.takeOut(f)
	<-f.quiet
	d.end("a", f)

	// Whoever was not waited for to the end cannot harm the source either.
	healed := 0
	f, _ = d.begin("a", mustFault(t, "wrong-mod"), func() { healed++ })
	d.Began(first)
	d.takeOut(f)
	d.end("a", f)
	d.Began(after)
	d.Ended(over(after))
	if !d.lying("a") || healed != 0 {
		t.Errorf("a drill with a request under way is forgotten; healed %d times", healed)
	}
	d.Ended(over(first))
	if d.lying("a") || healed != 1 || len(d.past) != 0 {
		t.Errorf("when its last request is over, a drill is remembered; healed %d times", healed)
	}
}
