package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/switches"
	"github.com/modsluice/sluice/internal/upstream"
)

const (
	// longestDrill is how long a fault may be inside a server that serves people.
	longestDrill = time.Hour
	// recentRequests is how many requests are remembered, for what was before a drill.
	recentRequests = 4096
	// mostTimes is of how many requests in a drill the time is kept.
	mostTimes = 1 << 16
	// drillGrace is how long the report waits for requests that are still under
	// way when the fault is out: a source that was hung answers now.
	drillGrace = 10 * time.Second
)

// drills are the faults inside a server's sources. Nothing of them is on disk, so
// that they end with the process. It is safe for concurrent use.
type drills struct {
	born time.Time // when requests began to be remembered

	// pinned: there are modules that no checksum database vouches for. What a
	// source says of those is kept for good.
	pinned atomic.Bool

	mu      sync.Mutex // guards the following
	in      map[string]*fault
	past    map[*fault]string // taken out, with requests under way that may have met them; the source of each
	open    map[time.Time]int // requests under way, by their start
	stopped bool
	recent  []sample // a ring
	next    int      // in it
	under   sync.WaitGroup
}

// A fault is one drill.
type fault struct {
	fault faults.Fault
	sw    faults.Switch
	stop  chan struct{} // closed when the server stops
	ender chan string   // takes who has ended it
	heal  func()        // lets the source stand as it did before

	// Guarded by drills.mu.
	late   map[time.Time]int // requests that were under way when it was taken out; nil before
	quiet  chan struct{}     // closed when late is empty
	met    map[string]int
	seen   []sample // at most mostTimes
	counts map[string]int
	failed int
	doubt  int
	logged []string
}

// A sample is a request of a client.
type sample struct {
	start   time.Time
	took    time.Duration
	outcome string
}

// unchecked reports whether there are modules that no checksum database vouches for.
func unchecked(l *config.Loaded) bool { return l.GoSumDB.Off || l.NoSumDB != "" }

// lies reports whether f gives wrong bytes that, without a checksum database, could
// be taken for right.
func lies(f faults.Fault) bool {
	if slices.Contains([]string{"list", "latest", "sumdb"}, f.Only) {
		return false // nothing of these is kept for good, or it is signed
	}
	return slices.Contains([]string{
		"html", "empty", "noise", "login-redirect", "redirect", "endless", "cut-range-lie", "short", "close", "flip", "bad-crc",
		"other-version", "other-module", "old-zip", "prefix", "zipslip", "case-clash", "bomb", "wrong-mod", "wrong-info", "dns-lie",
	}, f.Name)
}

// wrap is for upstream.NetConfig: each request for a source under drill meets the
// fault, whatever connections rt has.
func (d *drills) wrap(source string, rt http.RoundTripper) http.RoundTripper {
	d.mu.Lock()
	f := d.in[source]
	d.mu.Unlock()
	if f == nil {
		return rt
	}
	return faults.Transport(rt, func(r *http.Request) (faults.Fault, bool) {
		fault, ok := f.sw.Pick(r)
		if !ok || !fault.Means(r) || lies(fault) && d.pinned.Load() {
			return faults.Fault{}, false
		}
		d.mu.Lock()
		f.met[faults.KindOf(r)]++
		d.mu.Unlock()
		return fault, true
	})
}

// Began implements server.Watcher.
func (d *drills) Began(start time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = map[time.Time]int{}
	}
	d.open[start]++
}

// less takes one from a count, which is gone at 0.
func less(counts map[time.Time]int, at time.Time) {
	if n := counts[at]; n > 1 {
		counts[at] = n - 1
	} else {
		delete(counts, at)
	}
}

// Hit implements server.Watcher.
func (d *drills) Hit(start time.Time, took time.Duration) {
	d.mu.Lock()
	quiet := len(d.in) == 0 && len(d.past) == 0
	if quiet {
		d.remember(sample{start, took, "hit"})
	}
	d.mu.Unlock()
	if !quiet {
		d.Began(start)
		d.Ended(server.Seen{Outcome: "hit", Start: start, Took: took})
	}
}

// remember adds to the requests that a drill is compared with. d.mu is held.
func (d *drills) remember(s sample) {
	if len(d.recent) < recentRequests {
		d.recent = append(d.recent, s)
	} else {
		d.recent[d.next] = s
	}
	d.next = (d.next + 1) % recentRequests
}

// Ended implements server.Watcher.
func (d *drills) Ended(v server.Seen) {
	for _, heal := range d.ended(v) {
		heal()
	}
}

// ended takes note of a request that is over, and returns what heals the sources
// that none of the requests of their drills can harm any more.
func (d *drills) ended(v server.Seen) []func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	less(d.open, v.Start)
	s := sample{v.Start, v.Took, v.Outcome}
	d.remember(s)
	var healed []func()
	for f, source := range d.past {
		if f.overtakes(v.Start) && len(f.late) == 0 {
			delete(d.past, f)
			if f.heal != nil && d.in[source] == nil {
				healed = append(healed, f.heal)
			}
		}
	}
	for source, f := range d.in {
		if f.late != nil && !f.overtakes(v.Start) {
			continue // it began after the fault
		}
		f.counts[v.Outcome]++
		if len(f.seen) < mostTimes {
			f.seen = append(f.seen, s)
		}
		switch {
		case f.failedFor(v, source):
			f.failed++
		case v.Outcome == "missing" && f.denies() && asked(v.Err, source, true):
			f.doubt++
		}
	}
	return healed
}

// overtakes reports whether a request that has ended was under way when the fault
// was taken out. d.mu is held.
func (f *fault) overtakes(start time.Time) bool {
	if f.late[start] == 0 {
		return false
	}
	if less(f.late, start); len(f.late) == 0 {
		close(f.quiet)
	}
	return true
}

// failedFor reports whether a request failed for the drill inside source.
func (f *fault) failedFor(v server.Seen, source string) bool {
	switch {
	case v.Outcome != "failed" && v.Outcome != "refused":
		return false
	case v.Err == nil:
		return v.Source == source // it was broken off
	case errors.Is(v.Err, checksum.ErrUnreachable):
		return f.met["sumdb"] > 0
	}
	return asked(v.Err, source, false) || f.denies() && asked(v.Err, source, true)
}

// denies reports whether the fault says of things that they do not exist.
func (f *fault) denies() bool {
	return slices.Contains([]string{"404", "404-html", "410", "stale"}, f.fault.Name)
}

// asked reports whether source was asked in vain, and said so or not that what
// was asked for does not exist.
func asked(err error, source string, missing bool) bool {
	we, ok := errors.AsType[*upstream.WalkError](err)
	return ok && slices.ContainsFunc(we.Attempts, func(a upstream.Attempt) bool {
		return a.Source == source && a.Err != nil && errors.Is(a.Err, fs.ErrNotExist) == missing
	})
}

// changed takes note that a source leaves or returns.
func (d *drills) changed(c upstream.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.in[c.Source]
	if f == nil || len(f.logged) >= 100 {
		return
	}
	text := "source is left"
	if c.Module != "" {
		text = "source is fenced off for " + c.Module
	}
	if c.State == upstream.Up {
		text = "source is back after " + c.After.Round(time.Millisecond).String()
	}
	if c.Ask != "" {
		text += ", for " + string(c.Ask)
	}
	if c.Why != "" {
		text += ": " + finding.Redact(c.Why)
	}
	f.logged = append(f.logged, text)
}

// begin puts a fault in; nil if that source has one. heal is called when the last
// request that may have met it is over, if that is after end.
func (d *drills) begin(source string, ft faults.Fault, heal func()) (f *fault, before []sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped || d.in[source] != nil {
		return nil, nil
	}
	f = &fault{fault: ft, heal: heal, stop: make(chan struct{}), ender: make(chan string, 1), quiet: make(chan struct{}), met: map[string]int{}, counts: map[string]int{}}
	f.sw.Set(ft)
	if d.in == nil {
		d.in = map[string]*fault{}
	}
	d.in[source] = f
	d.under.Add(1)
	return f, slices.Clone(d.recent)
}

// takeOut ends a fault, and knows from then on which requests met it at most.
func (d *drills) takeOut(f *fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.sw.Clear()
	if f.late = maps.Clone(d.open); len(f.late) == 0 {
		f.late = map[time.Time]int{}
		close(f.quiet)
	}
}

// lying reports whether a source has a drill, or requests of one, in which it
// gives wrong bytes.
func (d *drills) lying(source string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.in[source]; f != nil && lies(f.fault) {
		return true
	}
	for f, s := range d.past {
		if s == source && lies(f.fault) {
			return true
		}
	}
	return false
}

// end forgets a fault that has been taken out, at once or with the last request
// that may have met it.
func (d *drills) end(source string, f *fault) {
	d.mu.Lock()
	delete(d.in, source)
	if len(f.late) > 0 {
		if d.past == nil {
			d.past = map[*fault]string{}
		}
		d.past[f] = source
	}
	d.mu.Unlock()
	d.under.Done()
}

// stop takes all faults out and lets none in any more.
func (d *drills) stop() {
	d.mu.Lock()
	if !d.stopped {
		d.stopped = true
		for _, f := range d.in {
			f.sw.Clear()
			close(f.stop)
		}
	}
	d.mu.Unlock()
	d.under.Wait()
}

// Drill implements server.Admin.
func (a admin) Drill(ctx context.Context, req server.DrillRequest, via string, begun func()) (ans server.DrillAnswer, err error) {
	fail := func(cause server.AdminCause, hint, format string, args ...any) error {
		return &server.AdminError{Cause: cause, Text: fmt.Sprintf(format, args...), Hint: hint}
	}
	const list = "sluice drill --list prints the faults there are"
	ft, err := faults.Parse(req.Fault)
	if err != nil {
		return ans, fail(server.Mistaken, list, "%v", err)
	}
	info := ft.Info()
	if info.Wire && ft.Only != "" {
		return ans, fail(server.Mistaken, "write "+ft.Name, "%s is a fault of the network, which asks for no kind of file", ft.Name)
	}
	last := drillTime
	if req.For != "" {
		if last, err = time.ParseDuration(req.For); err != nil || last <= 0 || last > longestDrill {
			return ans, fail(server.Mistaken, "write 30s, 5m or 1h", "%q is not a time above 0 and up to %v", req.For, longestDrill)
		}
	}
	if err := switches.Plain(req.Who, req.Reason); err != nil {
		return ans, fail(server.Mistaken, "", "%v", err)
	}
	link, err := a.find(req.Source)
	if err != nil {
		return ans, err
	}
	src, isHTTP := link.Source.(*upstream.HTTPSource)
	name := link.Source.Name()
	d := &a.w.drills
	switch sw, off := a.w.live.switches.Find(switches.Source, name); {
	case !isHTTP:
		return ans, fail(server.Mistaken, "sluice sources lists the sources; a drill wants one that is asked over HTTP", "%s is not asked over HTTP, so that no fault can stand before it", name)
	case strings.HasPrefix(ft.Name, "tls-") && strings.HasPrefix(src.Name(), "http://"):
		return ans, fail(server.Mistaken, list, "%s is a fault of TLS, and %s is asked without it", ft.Name, name)
	case lies(ft) && d.pinned.Load():
		return ans, fail(server.Mistaken, "choose a fault that breaks an answer, such as cut or 503",
			"%s gives wrong bytes, and there are modules here that no checksum database vouches for (nosumdb, or gosumdb off): theirs would be kept for right", ft.Name)
	case off:
		return ans, fail(server.Clashing, "sluice switch "+name+" on", "%s is switched off %s", name, sw.By())
	case a.w.live.force().offline != "":
		return ans, fail(server.Clashing, "sluice switch offline off", "nothing is asked: switched offline %s", a.w.live.force().offline)
	}

	restore := a.w.health.Mark(name, lies(ft))
	count := func() server.Asked {
		r := a.w.health.Report(name)
		return server.Asked{Good: r.Good, Missing: r.Missing, Failed: r.Failed}
	}
	first := count()
	f, before := d.begin(name, ft, restore)
	if f == nil {
		return ans, fail(server.Clashing, "wait for its end, or end it by POST /-/drill/end", "a drill inside %s is under way, or the server stops", name)
	}
	defer restore() // the answer needs it sooner, a panic only then
	defer d.end(name, f)
	defer f.sw.Clear() // likewise
	began := time.Now()
	entry := switches.Entry{Event: switches.EventBegun, What: "drill " + ft.String() + " inside " + name, Who: req.Who, Via: via, Reason: req.Reason, Until: began.Add(last)}
	unkept := a.w.live.switches.Record(entry)
	begun()
	over := time.NewTimer(time.Until(began.Add(last)))
	defer over.Stop()
	select {
	case <-over.C:
		ans.Ended = "its time was over"
	case ans.Ended = <-f.ender:
	case <-ctx.Done():
		ans.Ended = "who asked for it went away"
	case <-f.stop:
		ans.Ended = "the server stops"
	}
	d.takeOut(f)
	lasted := time.Since(began)
	last2 := count()
	restore()
	grace := time.NewTimer(drillGrace)
	defer grace.Stop()
	select {
	case <-f.quiet:
	case <-grace.C:
	case <-ctx.Done():
	case <-f.stop:
	}
	waited := time.Since(began) - lasted
	restore() // what was late may have done more harm
	entry.Event, entry.Reason, entry.Until = switches.EventEnded, ans.Ended, time.Time{}
	unkept = errors.Join(unkept, a.w.live.switches.Record(entry))

	ans.PID, ans.Fault, ans.Does, ans.Source = os.Getpid(), ft.String(), info.Doc, name
	ans.Began, ans.Lasted = began, lasted.Seconds()
	ans.Asked = server.Asked{Good: last2.Good - first.Good, Missing: last2.Missing - first.Missing, Failed: last2.Failed - first.Failed}
	if unkept != nil {
		ans.Unkept = unkept.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ans.During = served(f.counts, f.seen)
	ans.Failed, ans.Doubt, ans.Met = f.failed, f.doubt, maps.Clone(f.met)
	for _, n := range f.late {
		ans.Waiting += n
	}
	ans.Logged = append([]string{}, f.logged...)
	ans.Before = d.before(before, began, lasted)
	ans.Verdict = drillVerdict(ans, waited)
	return ans, nil
}

// EndDrill implements server.Admin.
func (a admin) EndDrill(req server.DrillEnd, via string) error {
	if err := switches.Plain(req.Who, ""); err != nil {
		return &server.AdminError{Cause: server.Mistaken, Text: err.Error()}
	}
	name := req.Source
	d := &a.w.drills
	d.mu.Lock()
	f := d.in[name]
	d.mu.Unlock()
	if f == nil { // a source with a drill may have left the chain since
		link, err := a.find(req.Source)
		if err != nil {
			return err
		}
		name = link.Source.Name()
		d.mu.Lock()
		f = d.in[name]
		d.mu.Unlock()
	}
	if f == nil {
		return &server.AdminError{Cause: server.Unknown, Text: "no drill is inside " + name}
	}
	select {
	case f.ender <- cmp.Or(req.Who, "somebody") + " ended it, by " + via:
	default: // somebody else was first
	}
	return nil
}

// before is what clients saw in as long a time before a drill; nil if not all of
// it is known.
func (d *drills) before(list []sample, began time.Time, lasted time.Duration) *server.Served {
	from := began.Add(-lasted)
	if d.born.After(from) {
		return nil
	}
	counts, whole := map[string]int{}, len(list) < recentRequests
	var in []sample
	for _, s := range list {
		switch end := s.start.Add(s.took); {
		case end.Before(from):
			whole = true // what was forgotten is older
		default:
			counts[s.outcome]++
			in = append(in, s)
		}
	}
	if !whole {
		return nil
	}
	v := served(counts, in)
	return &v
}

// served is what clients saw, as the API tells it. Who left has waited for
// nothing that could be measured.
func served(counts map[string]int, list []sample) server.Served {
	v := server.Served{Requests: map[string]int{}}
	for o, n := range counts {
		v.Requests[o] = n
	}
	var took []time.Duration
	for _, s := range list {
		if s.outcome != "left" {
			took = append(took, s.took)
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		v.Median, v.Slowest = ms(took[len(took)/2]), ms(took[len(took)-1])
	}
	return v
}

// drillVerdict says in a sentence what came of a drill.
func drillVerdict(a server.DrillAnswer, waited time.Duration) string {
	all, met := 0, 0
	for _, n := range a.During.Requests {
		all += n
	}
	for _, n := range a.Met {
		met += n
	}
	var text string
	switch {
	case all == 0 && a.Waiting == 0:
		text = "no client asked for a module while it lasted"
	case all == 0:
		text = "no request of a client has ended"
	case a.Failed == 0:
		text = fmt.Sprintf("of %s of clients, none failed because of it", plural(all, "request"))
	default:
		text = fmt.Sprintf("of %s of clients, %d failed because of it", plural(all, "request"), a.Failed)
	}
	if met == 0 {
		text += "; nothing met the fault, as the source was not asked"
	}
	if a.Doubt > 0 {
		text += fmt.Sprintf("; %d were told \"not found\" after the source had said so, true or not", a.Doubt)
	}
	if a.Waiting > 0 {
		text += fmt.Sprintf("; %s still had no answer %v after its end", plural(a.Waiting, "request"), waited.Round(100*time.Millisecond))
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
