package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/switches"
	"github.com/modsluice/sluice/internal/upstream"
)

// live is the part of a world that changes while it runs. It is safe for
// concurrent use.
type live struct {
	chain    atomic.Pointer[upstream.Chain]    // of proxy
	names    atomic.Pointer[map[string]string] // short names of its sources, by their own
	switches *switches.Set                     // nil where nothing can be switched; set before anybody asks
	now      atomic.Pointer[inForce]           // nil: nothing is switched
}

// inForce are the switches as the wiring obeys them: who did each, until when and
// why. "" is not switched.
type inForce struct {
	offline string
	origin  string
	off     map[string]string // by source
}

// short is the name that the configuration gives a source; "" if none.
func (v *live) short(source string) string {
	if m := v.names.Load(); m != nil {
		return (*m)[source]
	}
	return ""
}

func (v *live) force() inForce {
	if f := v.now.Load(); f != nil {
		return *f
	}
	return inForce{}
}

// openSwitches brings the switches of an earlier process into force. Only serve
// has them: what somebody switches at a server is not meant for a command of his
// own.
func (w *world) openSwitches() {
	w.live.switches = switches.Open(switches.Config{Dir: filepath.Join(w.store.Dir(), ".sluice"), Log: w.log, Apply: w.applySwitches})
	names := w.live.chain.Load().Names()
	for _, s := range w.live.switches.InForce() {
		if s.Subject != "" && !slices.Contains(names, s.Subject) {
			w.log.Warn("a switch is for a source that is not in proxy", slog.String("switch", s.String()))
		}
	}
}

// applySwitches makes everything obey the switches in force.
func (w *world) applySwitches(list []switches.Switch) {
	f := inForce{off: map[string]string{}}
	var d mirror.Degraded
	prefer := ""
	for _, s := range list {
		switch s.Name {
		case switches.Offline:
			f.offline, d.Offline = s.By(), s.By()
		case switches.LookAhead:
			d.NoLookAhead = true
		case switches.Origin:
			f.origin = s.By()
		case switches.Prefer:
			prefer = s.Subject
		case switches.Source:
			f.off[s.Subject] = s.By()
		}
	}
	was := w.live.force().off
	w.live.now.Store(&f)
	w.health.Prefer(prefer)
	w.health.Quiet(f.offline != "")
	for name := range was {
		if _, is := f.off[name]; !is {
			w.health.Switch(name, false, time.Time{}, "")
		}
	}
	for name, by := range f.off {
		if was[name] != by {
			w.health.Switch(name, true, time.Time{}, by) // its end is our business
		}
	}
	w.mirror.Degrade(d)
}

// mayAsk says why a source may not be asked for a checksum database's files just
// now; nil if it may.
func (w *world) mayAsk(source string) error {
	if by := w.live.force().offline; by != "" {
		return &mirror.OfflineError{By: by}
	}
	if by, off := w.live.force().off[source]; off {
		return fmt.Errorf("%s: it is switched off %s", source, by)
	}
	return nil
}

// A switchedDirect is version control, unless it is switched off.
type switchedDirect struct {
	directSource
	live *live
}

// Kind is Off while it is switched off, as where origin.enabled is false.
func (d switchedDirect) Kind() upstream.Kind {
	if d.live.force().origin != "" {
		return upstream.Off
	}
	return d.directSource.Kind()
}

// Closed implements upstream.Closed.
func (d switchedDirect) Closed() string {
	if by := d.live.force().origin; by != "" {
		return "version control is not asked: it is switched off " + by
	}
	return ""
}

func (d switchedDirect) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	if why := d.Closed(); why != "" {
		return nil, &upstream.Error{Source: "direct", Stage: upstream.StageLocal, Status: 403, Err: errors.New(why)}
	}
	return d.directSource.Get(ctx, req)
}

// An admin does what people and programs ask a running server for. It
// implements server.Admin.
type admin struct{ w *world }

// admin is nil where nothing can be switched.
func (w *world) admin() server.Admin {
	if w.live.switches == nil {
		return nil
	}
	return admin{w}
}

func (a admin) inForce() []switches.Switch {
	return append([]switches.Switch{}, a.w.live.switches.InForce()...)
}

// Switches implements server.Admin.
func (a admin) Switches() server.SwitchesAnswer {
	return server.SwitchesAnswer{PID: os.Getpid(), Switches: a.inForce()}
}

// SourceStatus implements server.Admin.
func (a admin) SourceStatus() server.SourcesAnswer {
	ans := server.SourcesAnswer{PID: os.Getpid(), Region: a.w.region, Time: time.Now(), Sources: []server.SourceStatus{}, Forced: a.inForce()}
	prefer := a.w.health.Preferred()
	var all uint64
	for _, l := range a.links() {
		s := server.StatusOf(a.w.health.Report(l.Source.Name()), l.Source.Kind())
		s.Preferred, s.Called = s.Name == prefer, a.w.live.short(s.Name)
		if sw, ok := a.w.live.switches.Find(switches.Source, s.Name); ok {
			s.Since, s.Why = sw.Since, "switched off "+sw.By()
		}
		if c, ok := l.Source.(upstream.Closed); ok && c.Closed() != "" {
			sw, _ := a.w.live.switches.Find(switches.Origin, "")
			s.State, s.Since, s.Why = string(upstream.SwitchOff), sw.Since, "switched off "+sw.By()
		}
		all += s.Good
		ans.Sources = append(ans.Sources, s)
	}
	for i := range ans.Sources {
		if all > 0 {
			share := float64(ans.Sources[i].Good) / float64(all)
			ans.Sources[i].Share = &share
		}
	}
	if sw, ok := a.w.live.switches.Find(switches.Offline, ""); ok {
		ans.Offline = &sw
	}
	return ans
}

// links are the sources, each once.
func (a admin) links() (list []upstream.Link) {
	for _, l := range a.w.live.chain.Load().Links {
		if !slices.ContainsFunc(list, func(o upstream.Link) bool { return o.Source.Name() == l.Source.Name() }) {
			list = append(list, l)
		}
	}
	return list
}

// find is the source that text names.
func (a admin) find(text string) (upstream.Link, error) {
	var names []string
	var part []upstream.Link
	for _, l := range a.links() {
		short := a.w.live.short(l.Source.Name())
		if l.Source.Name() == text || short != "" && short == text {
			return l, nil
		}
		names = append(names, l.Source.Name())
		if short != "" {
			names = append(names, short)
		}
		if text != "" && strings.Contains(strings.ToLower(short+" "+l.Source.Name()), strings.ToLower(text)) {
			part = append(part, l)
		}
	}
	switch len(part) {
	case 1:
		return part[0], nil
	case 0:
		hint := "the sources are " + strings.Join(names, ", ")
		if s := nearestSource(text, names); s != "" {
			hint = fmt.Sprintf("did you mean %s?", s)
		}
		return upstream.Link{}, &server.AdminError{Cause: server.Unknown, Text: fmt.Sprintf("no source is called %q", text), Hint: hint}
	}
	var which []string
	for _, l := range part {
		which = append(which, l.Source.Name())
	}
	return upstream.Link{}, &server.AdminError{Cause: server.Mistaken, Text: fmt.Sprintf("%q is a part of several names: %s", text, strings.Join(which, ", ")), Hint: "write more of the one that is meant"}
}

// nearestSource is the source whose name, or a part of it between dots, slashes
// and colons, differs from text by slips of the fingers.
func nearestSource(text string, names []string) string {
	split := func(s string) []string {
		return append(strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("./:", r) }), s)
	}
	for _, n := range names {
		if config.Nearest(text, split(n)) != "" {
			return n
		}
	}
	return ""
}

// Switch implements server.Admin.
func (a admin) Switch(ctx context.Context, req server.SwitchRequest, via string) (ans server.SwitchAnswer, err error) {
	mistake := func(hint, format string, args ...any) error {
		return &server.AdminError{Cause: server.Mistaken, Text: fmt.Sprintf(format, args...), Hint: hint}
	}
	if req.To != "on" && req.To != "off" {
		return ans, mistake(`write "to": "on" or "to": "off"`, "a switch goes on or off, and not %q", req.To)
	}
	w := switches.Switch{Name: switches.Name(req.Switch), Reason: req.Reason, Who: req.Who}
	if !slices.Contains(switches.Names(), w.Name) {
		return ans, mistake("the switches are source, look-ahead, origin, offline and prefer", "there is no switch %q", req.Switch)
	}
	// In force are a source, look-ahead and origin when they are off, the others when on.
	deviates := (req.To == "on") == (w.Name == switches.Offline || w.Name == switches.Prefer)
	if req.For != "" {
		d, err := time.ParseDuration(req.For)
		switch {
		case err != nil:
			return ans, mistake("", "%q is not a duration; write 30m, 2h or 1h30m", req.For)
		case !deviates:
			return ans, mistake("", "a time is for what is to revert by itself, and this is how things are without any switch")
		case d <= 0:
			return ans, mistake("", "%v would be over at once; write a time above 0, such as 30m", d)
		}
		w.Until = time.Now().Add(d)
	}
	var link upstream.Link
	needs := w.Name == switches.Source || w.Name == switches.Prefer && deviates
	if needs {
		old, was := a.w.live.switches.Find(w.Name, req.Source)
		if link, err = a.find(req.Source); err == nil {
			w.Subject = link.Source.Name()
		} else if was && !deviates {
			w.Subject, err = old.Subject, nil // it is in the chain no longer
		}
		if err != nil {
			return ans, err
		}
		if w.Name == switches.Source && w.Subject == "direct" {
			w.Name, w.Subject = switches.Origin, "" // one thing, one switch
		}
	} else if req.Source != "" && w.Name != switches.Prefer {
		return ans, mistake("", "the switch %q has no source", req.Switch)
	}
	set := a.w.live.switches
	var unkept error
	switch {
	case !deviates:
		ans.Changed, unkept, err = set.Clear(w.Name, w.Subject, req.Who, via, req.Reason)
	case w.Name == switches.Prefer:
		ans.Changed = true
		ans.Steps, unkept, err = a.move(ctx, w, link, via)
	default:
		ans.Changed = true
		unkept, err = set.Set(w, via)
	}
	if me, ok := errors.AsType[*switches.MistakeError](err); ok {
		err = mistake("", "%s", me.Text)
	}
	if err != nil {
		return ans, err
	}
	ans.PID, ans.Switches, ans.Done = os.Getpid(), a.inForce(), done(w, deviates, ans.Changed)
	if unkept != nil {
		ans.Unkept = unkept.Error()
	}
	return ans, nil
}

// done says what a switch has done.
func done(w switches.Switch, deviates, changed bool) string {
	what := map[switches.Name][2]string{
		switches.Source:    {"is asked", "is not asked"},
		switches.LookAhead: {"things are fetched ahead", "nothing is fetched ahead"},
		switches.Origin:    {"version control is asked where proxy says direct", "version control is not asked"},
		switches.Offline:   {"things are fetched", "nothing is fetched; what the store has is served"},
		switches.Prefer:    {"no source is preferred", "is asked first"},
	}[w.Name]
	text := what[0]
	if deviates {
		text = what[1]
	}
	if w.Subject != "" {
		text = w.Subject + " " + text
	}
	switch {
	case !changed:
		text += ", as before"
	case deviates && w.Until.IsZero():
		text += ", until it is switched back"
	case deviates:
		text += ", until " + w.Until.UTC().Format("15:04:05 UTC on 2 Jan")
	}
	return text
}

const (
	// moveBudget bounds a planned move with its probe and its downloads.
	moveBudget = time.Minute
	// moveSamples is how many module versions a source must have to be moved to.
	moveSamples = 3
)

// move makes a source the preferred one: it is probed before and tried by real
// downloads after, and all is as it was if one of them fails.
func (a admin) move(ctx context.Context, w switches.Switch, to upstream.Link, via string) (steps []server.Step, unkept, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveBudget)
	defer cancel()
	name := to.Source.Name()
	fail := func(cause server.AdminCause, what, note, hint string) error {
		steps = append(steps, server.Step{What: what, Note: finding.Redact(note)})
		return &server.AdminError{Cause: cause, Text: what + ": " + note, Hint: hint, Steps: steps}
	}
	well := func(what, note string) { steps = append(steps, server.Step{What: what, OK: true, Note: note}) }

	if k := to.Source.Kind(); k != upstream.Proxy && k != upstream.Tree {
		return nil, nil, &server.AdminError{Cause: server.Mistaken, Text: name + " cannot be preferred: only proxies and file trees stand in for one another", Hint: "sluice sources lists them"}
	}
	if by := a.w.live.force().offline; by != "" {
		return nil, nil, &server.AdminError{Cause: server.Clashing, Text: "nothing may be asked: switched offline " + by, Hint: "sluice switch offline off"}
	}
	if sw, off := a.w.live.switches.Find(switches.Source, name); off {
		return nil, nil, &server.AdminError{Cause: server.Clashing, Text: name + " is switched off " + sw.By(), Hint: "sluice switch " + name + " on"}
	}
	chain := a.w.live.chain.Load()
	ok := func(path string) bool {
		r := a.w.mirror.Route(path)
		return r.Chain == chain && !r.Private && r.Sums != nil // it is nobody's business what is private
	}
	reqs := a.w.mirror.Samples(ctx, moveSamples, ok)
	var question goproxy.Request
	if len(reqs) > 0 {
		question = reqs[0]
	}
	start := time.Now()
	if err := a.w.health.Probe(ctx, to.Source, question); err != nil {
		return nil, nil, fail(server.Failed, "probe "+name, err.Error(), "nothing was changed")
	}
	well("probe "+name, "answered in "+since(start))

	unkept, err = a.w.live.switches.Try(w, via, func() error {
		const reverted = "all is as it was before"
		if order := chain.Order(question); len(order) == 0 || order[0] != name {
			return fail(server.Clashing, "ask it first", "the chain asks "+order[0]+" first whatever is preferred, as a comma stands behind it", reverted+`; write | between the proxies, or failover = "proxies"`)
		}
		well("ask it first", "")
		if len(reqs) == 0 {
			well("download from it", "nothing could be tried, since no module has been used yet")
			return nil
		}
		start := time.Now()
		var bytes int64
		for _, req := range reqs {
			r := a.w.mirror.TryAt(ctx, to, a.w.health, req)
			if r.Err != nil {
				what := "download " + r.Request + " from it"
				return fail(server.Failed, what, cmp.Or(context.Cause(ctx), r.Err).Error(), reverted)
			}
			bytes += r.Size
		}
		well("download from it", fmt.Sprintf("%d files, %d bytes, verified, in %s", len(reqs), bytes, since(start)))
		return nil
	})
	if errors.Is(err, switches.ErrBusy) {
		err = &server.AdminError{Cause: server.Clashing, Text: err.Error()}
	}
	return steps, unkept, err
}

func since(t time.Time) string { return time.Since(t).Round(time.Millisecond).String() }

// Pardon implements server.Admin.
func (a admin) Pardon(req server.PardonRequest, via string) (server.PardonAnswer, error) {
	l, err := a.find(req.Source)
	if err != nil {
		return server.PardonAnswer{}, err
	}
	name := l.Source.Name()
	if err := switches.Plain(req.Who, req.Reason); err != nil {
		return server.PardonAnswer{}, &server.AdminError{Cause: server.Mistaken, Text: err.Error()}
	}
	report := a.w.health.Report(name)
	if _, ok := report.Lies[req.Module]; req.Module != "" && !ok || len(report.Lies) == 0 {
		what := "any module"
		if req.Module != "" {
			what = req.Module
		}
		return server.PardonAnswer{}, &server.AdminError{Cause: server.Unknown, Text: name + " is not fenced off for " + what, Hint: "sluice sources shows which sources are"}
	}
	ans := server.PardonAnswer{PID: os.Getpid(), Source: name, Pardoned: a.w.health.Pardon(name, req.Module)}
	unkept := a.w.keepFence(fence{Source: name, Module: req.Module, Pardon: true})
	what := "source " + name
	if req.Module != "" {
		what += " for " + req.Module
	}
	unkept = errors.Join(unkept, a.w.live.switches.Record(switches.Entry{Event: switches.EventPardoned, What: what, Who: req.Who, Via: via, Reason: req.Reason}))
	if unkept != nil {
		ans.Unkept = unkept.Error()
	}
	return ans, nil
}
