// Package switches keeps what somebody has switched at run time: a source off,
// look-ahead off, version control off, everything offline, one source before the
// others. Each has a reason and somebody who did it, and may have an end, at
// which it reverts by itself. They outlive the process, in one file of the data
// directory, and every change is a line of the audit file beside it.
//
// It does not know what a switch does: it tells the wiring which are in force.
// Nor does it decide who may switch, or how somebody asks for it.
package switches

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// A Name is what can be switched.
type Name string

// The switches. In force, each is a deviation from the configuration.
const (
	Source    Name = "source"     // a source is not asked; it has a Subject
	LookAhead Name = "look-ahead" // nothing is fetched ahead
	Origin    Name = "origin"     // version control is not asked
	Offline   Name = "offline"    // nothing is fetched at all
	Prefer    Name = "prefer"     // the source in Subject is asked first
)

// Names lists all switches.
func Names() []Name { return []Name{Source, LookAhead, Origin, Offline, Prefer} }

// Longest is the longest that a switch may be in force by a set time: longer
// than that is a change of the configuration.
const Longest = 366 * 24 * time.Hour

const (
	maxReason = 500 // bytes
	maxWho    = 100
	maxFile   = 1 << 20 // of the file of switches
	stateFile = "switches.json"
	auditFile = "audit.jsonl"
)

// A Switch is one that is in force.
type Switch struct {
	Name    Name      `json:"switch"`
	Subject string    `json:"source,omitempty"` // of Source and Prefer
	Reason  string    `json:"reason,omitempty"`
	Who     string    `json:"who,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // zero: until somebody takes it back
}

// same reports whether two switches are one, whatever their subjects if there
// can only be one of the kind.
func (s Switch) same(o Switch) bool {
	return s.Name == o.Name && (s.Name != Source || s.Subject == o.Subject)
}

// String says what is switched: "offline", "source https://a.example".
func (s Switch) String() string {
	if s.Subject == "" {
		return string(s.Name)
	}
	return string(s.Name) + " " + s.Subject
}

// By says who switched it, until when and why: "by ann until 15:04:05 UTC on 2 Jan: the line is slow".
func (s Switch) By() string {
	text := "by " + cmp.Or(s.Who, "somebody")
	if s.Until.IsZero() {
		text += ", until it is switched back"
	} else {
		text += ", until " + s.Until.UTC().Format("15:04:05 UTC on 2 Jan 2006")
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// An Event is why a line was written to the audit file.
type Event string

// The events.
const (
	EventSet      Event = "set"
	EventCleared  Event = "cleared"  // somebody took it back
	EventExpired  Event = "expired"  // its time was over
	EventReverted Event = "reverted" // the check of a move failed
	EventPardoned Event = "pardoned" // a source that was fenced off was let back
	EventBegun    Event = "begun"    // a drill
	EventEnded    Event = "ended"    // a drill, however
)

// An Entry is one line of the audit file.
type Entry struct {
	Time   time.Time `json:"time"`
	Event  Event     `json:"event"`
	What   string    `json:"what"` // as Switch.String
	Who    string    `json:"who,omitempty"`
	Via    string    `json:"via,omitempty"` // how somebody asked for it
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	PID    int       `json:"pid"`
}

// A MistakeError says that a switch cannot be as it is asked for.
type MistakeError struct{ Text string }

func (e *MistakeError) Error() string { return e.Text }

// Config is what a Set is made of.
type Config struct {
	// Dir is where the files lie. It need not be writable: switches then end with
	// the process, and each change says so.
	Dir string
	Log *slog.Logger
	// Apply is told what is in force, sorted, after each change and once by Open.
	// It must not call the Set, and must not block.
	Apply func([]Switch)
}

// A Set is all switches of a process. It is safe for concurrent use.
type Set struct {
	c    Config
	wake chan struct{}

	trial  sync.Mutex // held while a switch is being tried
	change sync.Mutex // held by one change from its beginning to its end; guards the files

	mu  sync.Mutex // guards the following
	now []Switch   // sorted; replaced, never changed
}

// Open reads the switches that an earlier process left, drops those whose time
// is over, and applies the rest. A file that cannot be understood counts as none,
// and that is logged.
func Open(c Config) *Set {
	s := &Set{c: c, wake: make(chan struct{}, 1)}
	s.change.Lock()
	defer s.change.Unlock()
	list, err := s.read()
	if err != nil {
		c.Log.Error("the switches cannot be read, so none is in force", slog.String("file", s.file(stateFile)), slog.Any("err", err))
	}
	s.put(list)
	s.expire(time.Now())
	s.c.Apply(s.InForce())
	for _, w := range s.InForce() {
		c.Log.Warn("still switched", slog.String("switch", w.String()), slog.String("by", w.By()))
	}
	return s
}

// InForce lists the switches in force. Nobody may change the list.
func (s *Set) InForce() []Switch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Find is the switch of a name that is in force.
func (s *Set) Find(name Name, subject string) (Switch, bool) {
	i := slices.IndexFunc(s.InForce(), func(w Switch) bool { return w.same(Switch{Name: name, Subject: subject}) })
	if i < 0 {
		return Switch{}, false
	}
	return s.InForce()[i], true
}

// ErrBusy says that a switch is being tried already.
var ErrBusy = errors.New("another move is being tried just now; ask again when it is over")

// Set brings w into force, in place of one of the same name (and, of sources,
// the same subject); Since becomes now. via says how it was asked for.
//
// unkept says why the switch will not outlive the process, or is not recorded:
// that is no reason not to have it. err is a *MistakeError, and then nothing has
// changed.
func (s *Set) Set(w Switch, via string) (unkept, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	if _, _, unkept, err = s.set(w, via); err != nil {
		return nil, err
	}
	return errors.Join(unkept, s.keep()), nil
}

// Try is Set, but keeps w only if check, which is called once w is in force,
// gives no error; else what was before comes back, and err is that of check.
// Other switches may change meanwhile, but only one at a time is tried: ErrBusy.
func (s *Set) Try(w Switch, via string, check func() error) (unkept, err error) {
	if !s.trial.TryLock() {
		return nil, ErrBusy
	}
	defer s.trial.Unlock()
	s.change.Lock()
	w, before, unkept, err := s.set(w, via)
	s.change.Unlock()
	if err != nil {
		return nil, err
	}
	err = check()
	s.change.Lock()
	defer s.change.Unlock()
	if err == nil {
		return errors.Join(unkept, s.keep()), nil
	}
	if now, _ := s.Find(w.Name, w.Subject); now == w { // and nobody has switched it otherwise meanwhile
		s.put(append(slices.DeleteFunc(slices.Clone(s.InForce()), w.same), before...))
		s.expire(time.Now())
		s.c.Apply(s.InForce())
	}
	unkept = errors.Join(unkept, s.record(Entry{Event: EventReverted, What: w.String(), Who: w.Who, Via: via, Reason: err.Error()}))
	return errors.Join(unkept, s.keep()), err
}

// set brings w into force and gives it as it then is, and what it replaces.
// s.change is held.
func (s *Set) set(w Switch, via string) (_ Switch, before []Switch, unkept, err error) {
	now := time.Now()
	w.Since = now.UTC().Round(0)
	if !w.Until.IsZero() {
		w.Until = w.Until.UTC().Round(0)
	}
	if err := w.valid(now); err != nil {
		return w, nil, nil, err
	}
	list := slices.DeleteFunc(slices.Clone(s.InForce()), func(o Switch) bool {
		is := o.same(w)
		if is {
			before = append(before, o)
		}
		return is
	})
	s.put(append(list, w))
	s.c.Apply(s.InForce())
	return w, before, s.record(Entry{Event: EventSet, What: w.String(), Who: w.Who, Via: via, Reason: w.Reason, Until: w.Until}), nil
}

// Clear takes a switch back, and reports whether it was in force.
func (s *Set) Clear(name Name, subject, who, via, reason string) (was bool, unkept, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	w := Switch{Name: name, Subject: subject, Who: who, Reason: reason}
	if name == Prefer && subject == "" {
		w.Subject = "-" // any
	}
	if err := w.valid(time.Now()); err != nil {
		return false, nil, err
	}
	list := s.InForce()
	i := slices.IndexFunc(list, w.same)
	if i < 0 {
		return false, nil, nil
	}
	old := list[i]
	s.put(slices.DeleteFunc(slices.Clone(list), w.same))
	s.c.Apply(s.InForce())
	unkept = s.record(Entry{Event: EventCleared, What: old.String(), Who: who, Via: via, Reason: reason})
	return true, errors.Join(unkept, s.keep()), nil
}

// Record writes a line of another administrative act to the audit file and the
// log. The entry's time and process are set here.
func (s *Set) Record(e Entry) (unkept error) {
	s.change.Lock()
	defer s.change.Unlock()
	return s.record(e)
}

// Run reverts switches when their time is over, until ctx ends.
func (s *Set) Run(ctx context.Context) {
	for {
		wait := time.Minute // the clock may be set meanwhile, and the machine sleep
		for _, w := range s.InForce() {
			if !w.Until.IsZero() {
				wait = min(wait, time.Until(w.Until))
			}
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.wake:
			t.Stop()
		case <-t.C:
			s.change.Lock()
			if s.expire(time.Now()) {
				s.c.Apply(s.InForce())
			}
			s.change.Unlock()
		}
	}
}

// expire drops what is over, and reports whether there was any. s.change is held.
func (s *Set) expire(now time.Time) bool {
	var over []Switch
	left := slices.DeleteFunc(slices.Clone(s.InForce()), func(w Switch) bool {
		is := !w.Until.IsZero() && !now.Before(w.Until)
		if is {
			over = append(over, w)
		}
		return is
	})
	if len(over) == 0 {
		return false
	}
	s.put(left)
	for _, w := range over {
		s.record(Entry{Event: EventExpired, What: w.String(), Who: w.Who, Reason: w.Reason, Until: w.Until})
	}
	if err := s.keep(); err != nil {
		s.c.Log.Error("the switches are not kept", slog.Any("err", err))
	}
	return true
}

// put makes list the switches in force.
func (s *Set) put(list []Switch) {
	slices.SortFunc(list, func(a, b Switch) int {
		return cmp.Or(cmp.Compare(slices.Index(Names(), a.Name), slices.Index(Names(), b.Name)), cmp.Compare(a.Subject, b.Subject))
	})
	s.mu.Lock()
	s.now = list
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// valid says what is wrong with w, in a *MistakeError.
func (w Switch) valid(now time.Time) error {
	bad := func(format string, args ...any) error { return &MistakeError{fmt.Sprintf(format, args...)} }
	needs := w.Name == Source || w.Name == Prefer
	switch {
	case !slices.Contains(Names(), w.Name):
		return bad("there is no switch %q", w.Name)
	case needs && w.Subject == "":
		return bad("the switch %q needs a source", w.Name)
	case !needs && w.Subject != "":
		return bad("the switch %q has no source", w.Name)
	case !w.Until.IsZero() && !w.Until.After(now):
		return bad("it would be over at once; write a time above 0, such as 30m")
	case w.Until.Sub(now) > Longest:
		return bad("%v is longer than a year; what is to stay belongs into the configuration", w.Until.Sub(now).Round(time.Hour))
	}
	return Plain(w.Who, w.Reason, w.Subject)
}

// Plain says in a *MistakeError why a name or a reason is not one line of plain
// text: they are shown at terminals, and are in lines of a log.
func Plain(who, reason string, more ...string) error {
	bad := func(format string, args ...any) error { return &MistakeError{fmt.Sprintf(format, args...)} }
	switch {
	case len(reason) > maxReason:
		return bad("the reason has %d bytes; write it in at most %d", len(reason), maxReason)
	case len(who) > maxWho:
		return bad("who does it has a name of %d bytes; write it in at most %d", len(who), maxWho)
	}
	for _, text := range append([]string{who, reason}, more...) {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return bad("%q has characters in it that cannot be printed; write plain text in one line", text)
		}
	}
	return nil
}

func (s *Set) file(name string) string { return filepath.Join(s.c.Dir, name) }

// stored is the form of the file.
type stored struct {
	Switches []Switch `json:"switches"`
}

// read reads the file. What has expired is in it, too.
func (s *Set) read() ([]Switch, error) {
	f, err := os.Open(s.file(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data bytes.Buffer
	if _, err := data.ReadFrom(&limited{f, maxFile}); err != nil {
		return nil, err
	}
	var st stored
	if err := json.Unmarshal(data.Bytes(), &st); err != nil {
		return nil, fmt.Errorf("it is torn, or not ours: %w", err)
	}
	var list []Switch
	for _, w := range st.Switches {
		check := w
		check.Until = time.Time{}
		if err := check.valid(time.Now()); err != nil {
			return nil, fmt.Errorf("it is not ours: %w", err)
		}
		list = append(slices.DeleteFunc(list, w.same), w)
	}
	return list, nil
}

// A limited reader fails where io.LimitReader would pretend that the file ends.
type limited struct {
	f    *os.File
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.f.Read(p[:min(len(p), l.left+1)])
	if l.left -= n; l.left < 0 {
		return 0, errors.New("it is far too large")
	}
	return n, err
}

// keep writes the file: whole or not at all, and so that it survives a crash.
func (s *Set) keep() (err error) {
	list := s.InForce()
	if list == nil {
		list = []Switch{}
	}
	data, err := json.MarshalIndent(stored{list}, "", "  ")
	if err != nil {
		return err
	}
	// The name is this process's own: others may do the same.
	tmp := s.file(fmt.Sprintf("%s.%d", stateFile, os.Getpid()))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("it will not outlive this process: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, s.file(stateFile))
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("it will not outlive this process: %w", err)
	}
	// Not every system can sync a directory; the file is whole all the same.
	if d, derr := os.Open(s.c.Dir); derr == nil {
		d.Sync()
		d.Close()
	}
	return nil
}

// record writes a line of the audit file, durably, and one of the log.
func (s *Set) record(e Entry) error {
	e.Time, e.PID = time.Now().UTC().Round(0), os.Getpid()
	attrs := []any{slog.String("event", string(e.Event)), slog.String("what", e.What)}
	for _, a := range [][2]string{{"who", e.Who}, {"via", e.Via}, {"reason", e.Reason}} {
		if a[1] != "" {
			attrs = append(attrs, slog.String(a[0], a[1]))
		}
	}
	if !e.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", e.Until))
	}
	s.c.Log.Warn("switched", attrs...)
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.file(auditFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		// In one write, since other processes add lines as well.
		_, err = f.Write(append(data, '\n'))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		s.c.Log.Error("the audit file does not take a line", slog.String("file", s.file(auditFile)), slog.Any("err", err))
		return fmt.Errorf("it is not in the audit file: %w", err)
	}
	return nil
}
