// Package faults is a module source, or the network before it, that misbehaves
// on demand and by name: a handler put before a well-behaved one (Handler,
// ByPath), a listener before it (Front), the same as a client sees it without
// either (Transport), every lie that could be told about one zip (Mutations),
// and TCP listeners that swallow, slam or delay (BlackHole, Slam, Relay).
//
// It decides nothing by chance: the same request gets the same misbehaviour. It
// does not know what a fault ought to lead to; that is the business of who asks
// for it. It must never stand before a source on which somebody depends.
//
// The faults are those that public issues of module proxies tell of, and those
// that a lying source could think of.
package faults

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
)

// A Fault is one way to misbehave: a name of the catalogue, that name's
// parameter, and which requests are meant. Parse makes valid ones. The zero
// value is not a fault; the fault named "none" is one that does nothing.
type Fault struct {
	Name string // as in All
	Arg  string // the parameter as Parse writes it; empty stands for the default
	Only string // the one kind of request that is spoiled: list, latest, info, mod, zip or sumdb; empty: all

	until <-chan struct{} // closed when the Switch that gave the fault takes it out; nil: never
}

// Parse reads a fault as String writes it: NAME, NAME=VALUE, or flip@OFFSET,
// each with KIND: before it if only one kind of request is meant, as in
// "zip:cut=30%". Without a value the default is filled in.
//
// A place in an answer (PLACE in the catalogue) is a share of it, 30% or 0.3,
// or a number of bytes, 1200. In a URL the percent sign needs its own escape,
// 30%25, which 0.3 does without.
func Parse(s string) (Fault, error) {
	if len(s) > goproxy.MaxPath {
		return Fault{}, fmt.Errorf("the name of a fault is %d bytes long, more than %d", len(s), goproxy.MaxPath)
	}
	var f Fault
	rest := s
	if kind, after, ok := strings.Cut(s, ":"); ok && slices.Contains(kinds, kind) {
		f.Only, rest = kind, after
	}
	f.Name = rest
	given := false
	if i := strings.IndexAny(rest, "=@"); i >= 0 {
		f.Name, f.Arg, given = rest[:i], rest[i:], true
		f.Arg = strings.TrimPrefix(f.Arg, "=")
	}
	e, err := find(f.Name)
	if err != nil {
		return Fault{}, err
	}
	if given && f.Arg == "" {
		return Fault{}, fmt.Errorf("fault %q has no value after the = sign; %s", s, e.usage())
	}
	f.Arg, err = e.arg(f.Arg)
	return f, err
}

// String is the spelling that Parse reads.
func (f Fault) String() string {
	s := f.Name
	switch {
	case strings.HasPrefix(f.Arg, "@"):
		s += f.Arg
	case f.Arg != "":
		s += "=" + f.Arg
	}
	if f.Only != "" {
		s = f.Only + ":" + s
	}
	return s
}

// Elem is the fault as one element of a URL's path, for ByPath.
func (f Fault) Elem() string { return url.PathEscape(f.String()) }

// Info is what there is to know of a fault before it is used.
type Info struct {
	Name    string
	Param   string // form of its parameter, such as PLACE; [PLACE] if it has a default or needs none; empty if it takes none
	Default string // the parameter that is meant without one
	Example string // something that Parse accepts
	Doc     string // what it does, in one line
	Waits   bool   // a client without a time budget may never see the end of it
	Wire    bool   // it is one of the network before a source: Front and Transport have it, Handler has not
	Lasting bool   // a client that was sent to a Front for it meets it for ever: the name or the certificate stays wrong
}

// All is the catalogue, in the order of its pages: statuses, answers that are no
// answers, slowness, broken transfers, odd encodings, lies, the network.
func All() []Info {
	list := make([]Info, len(catalogue))
	for i, e := range catalogue {
		p := e.param
		list[i] = Info{Name: e.name, Default: p.def, Doc: e.doc, Waits: e.waits, Example: e.name, Wire: e.wire != nil}
		if e.wire != nil {
			list[i].Lasting = e.wire.tls || e.wire.nameless
		}
		switch {
		case p.canon == nil:
		case p.required:
			list[i].Param = p.form
			list[i].Example = e.name + "=" + p.example
		default:
			list[i].Param = "[" + p.form + "]"
			if p.example != "" {
				list[i].Example = e.name + "=" + p.example
			}
		}
	}
	return list
}

// kinds are the words that Fault.Only may be.
var kinds = []string{"list", "latest", "info", "mod", "zip", "sumdb"}

// Info is what All says of f's name; the zero Info if there is no such fault.
func (f Fault) Info() Info {
	all := All()
	if i := slices.IndexFunc(all, func(i Info) bool { return i.Name == f.Name }); i >= 0 {
		return all[i]
	}
	return Info{}
}

// Means reports whether r is a request that f spoils: one of its kind, if it is
// for one kind only or is about files of one kind.
func (f Fault) Means(r *http.Request) bool {
	e, err := find(f.Name)
	kind := KindOf(r)
	return err == nil && f.Name != "none" && (f.Only == "" || f.Only == kind) && (len(e.kinds) == 0 || slices.Contains(e.kinds, kind))
}

// A Switch is a fault that can be put in and taken out while a handler serves.
// What waits because of a fault goes on, well served, as soon as that is taken
// out. The zero value has none in. It is safe for concurrent use.
type Switch struct {
	mu      sync.Mutex // guards the following
	fault   Fault      // the zero value: none
	changed chan struct{}
}

// Set puts f in, in place of what was.
func (s *Switch) Set(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
	f.until = s.changed
	s.fault = f
}

// Clear takes the fault out.
func (s *Switch) Clear() { s.Set(Fault{}) }

// now is the fault that is in, and a channel that is closed when another is put
// in or it is taken out.
func (s *Switch) now() (f Fault, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.fault, s.changed
}

// Pick is for Handler and Transport.
func (s *Switch) Pick(*http.Request) (Fault, bool) {
	f, _ := s.now()
	return f, f.Name != ""
}

// Always is for Handler: every request meets f.
func Always(f Fault) func(*http.Request) (Fault, bool) {
	return func(*http.Request) (Fault, bool) { return f, true }
}

// First is for Handler: the first n requests that f means meet it, and those
// after them are well served.
func First(n int64, f Fault) func(*http.Request) (Fault, bool) {
	var seen atomic.Int64
	return func(r *http.Request) (Fault, bool) {
		if f.Only != "" && f.Only != KindOf(r) {
			return Fault{}, false
		}
		return f, seen.Add(1) <= n
	}
}

// An entry is a fault of the catalogue.
type entry struct {
	name  string
	param param
	waits bool
	doc   string
	kinds []string // of the requests that it is about; none: all
	serve func(*exchange)
	wire  *wire // for a fault of the network, which has no serve
}

// A param says what may stand behind a fault's name. The zero value: nothing.
type param struct {
	form     string
	def      string                       // in canonical spelling; empty is then what the fault gets
	example  string                       // where the bare name is no good one
	required bool                         // no default
	canon    func(string) (string, error) // the canonical spelling of what was given
}

// arg is the canonical spelling of the parameter s.
func (e *entry) arg(s string) (string, error) {
	p := e.param
	switch {
	case s == "" && p.required:
		return "", fmt.Errorf("fault %s needs a value; %s", e.name, e.usage())
	case s == "":
		return p.def, nil
	case p.canon == nil:
		return "", fmt.Errorf("fault %s takes no value, but was given %q", e.name, s)
	}
	c, err := p.canon(s)
	if err != nil {
		return "", fmt.Errorf("fault %s does not take %q: %w; %s", e.name, s, err, e.usage())
	}
	return c, nil
}

func (e *entry) usage() string {
	p := e.param
	switch {
	case p.canon == nil:
		return "write " + e.name
	case p.required:
		return fmt.Sprintf("write %s=%s, such as %[1]s=%[3]s", e.name, p.form, p.example)
	case p.example != "":
		return fmt.Sprintf("write %s or %[1]s=%s, such as %[1]s=%[3]s", e.name, p.form, p.example)
	default:
		return fmt.Sprintf("write %s or %[1]s=%s, such as %[1]s=%[3]s", e.name, p.form, p.def)
	}
}

func find(name string) (*entry, error) {
	best, dist := "", math.MaxInt
	for i := range catalogue {
		e := &catalogue[i]
		if e.name == name {
			return e, nil
		}
		if d := distance(name, e.name); d < dist {
			best, dist = e.name, d
		}
	}
	if len(name) > 40 {
		name = name[:40] + "…"
	}
	if dist <= max(2, len(best)/2) {
		return nil, fmt.Errorf("there is no fault %q; did you mean %q?", name, best)
	}
	return nil, fmt.Errorf("there is no fault %q; there are cut, hang, 503 and many more", name)
}

// distance is how many letters must be put in, taken out or changed to make b
// of a (Levenshtein). A long a is far from everything.
func distance(a, b string) int {
	if len(a) > 40 {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}

// A place is a share of a whole, or a number of bytes.
type place struct {
	percent float64
	bytes   int64 // if percent is negative
}

// at is how many of size bytes come before the place, at most size.
func (p place) at(size int64) int64 {
	if p.percent < 0 {
		return min(p.bytes, size)
	}
	return min(int64(float64(size)*p.percent/100), size)
}

func parsePlace(s string) (place, error) {
	num, isPercent := strings.CutSuffix(s, "%")
	if num == "" || strings.Trim(num, "0123456789.") != "" {
		return place{}, errors.New("that is no place in an answer")
	}
	if !isPercent && !strings.Contains(num, ".") {
		n, err := strconv.ParseInt(num, 10, 64)
		if err != nil {
			return place{}, errors.New("that is no number of bytes")
		}
		return place{percent: -1, bytes: n}, nil
	}
	x, err := strconv.ParseFloat(num, 64)
	if !isPercent {
		x *= 100
	}
	if err != nil || x > 100 {
		return place{}, errors.New("a share is at most 100%")
	}
	return place{percent: x}, nil
}

func (p place) String() string {
	if p.percent < 0 {
		return strconv.FormatInt(p.bytes, 10)
	}
	return strconv.FormatFloat(p.percent, 'f', -1, 64) + "%"
}

func canonPlace(s string) (string, error) {
	p, err := parsePlace(s)
	return p.String(), err
}

// canonInt is for whole numbers between lo and hi, with an optional suffix that
// only says the unit.
func canonInt(lo, hi int64, unit string) func(string) (string, error) {
	return func(s string) (string, error) {
		n, err := strconv.ParseInt(strings.TrimSuffix(s, unit), 10, 64)
		if err != nil || n < lo || n > hi {
			return "", fmt.Errorf("a whole number from %d to %d is wanted", lo, hi)
		}
		return strconv.FormatInt(n, 10), nil
	}
}

func canonDuration(s string) (string, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > 24*time.Hour {
		return "", errors.New("a time such as 500ms or 10s is wanted, at most 24h")
	}
	return d.String(), nil
}

func canonWord(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("one of %s is wanted", strings.Join(words, ", "))
		}
		return s, nil
	}
}

func canonURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", errors.New("a whole http or https URL is wanted")
	}
	return s, nil
}

func canonVersion(s string) (string, error) {
	if s != module.CanonicalVersion(s) {
		return "", errors.New("a canonical version is wanted")
	}
	return s, nil
}

func canonModule(s string) (string, error) {
	path, vers, _ := strings.Cut(s, "@")
	if !goproxy.IsCanonical(module.Version{Path: path, Version: vers}) {
		return "", errors.New("a PATH@VERSION is wanted")
	}
	return s, nil
}

func canonFlip(s string) (string, error) {
	if at, ok := strings.CutPrefix(s, "@"); ok {
		c, err := canonPlace(at)
		return "@" + c, err
	}
	return canonWord(regions...)(s)
}
