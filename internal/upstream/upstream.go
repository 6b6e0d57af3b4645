// Package upstream asks the sources of a chain for what a request names: which
// one first, what counts as an answer, when to go on to the next, and what to
// say when none had it. Every attempt is remembered and told.
//
// It does not judge whether bytes are right (its caller's accept does), keeps
// nothing, and starts no process.
//
// The rules of a chain are those of cmd/go/internal/modfetch (TryProxies) and
// https://go.dev/ref/mod#communicating-with-proxies.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A Source is one place that may have modules.
type Source interface {
	// Name names the source in messages, logs and metrics. It holds no credentials.
	Name() string

	// Kind says what it is, for the rules of a chain.
	Kind() Kind

	// Get asks for req. The caller must close the answer's Body. A failure is
	// best told as an *Error; one that matches fs.ErrNotExist means that this
	// source knows there is no such thing, any other that it could not tell.
	Get(ctx context.Context, req goproxy.Request) (*Answer, error)
}

// A Kind is what a source is.
type Kind uint8

// The kinds of sources.
const (
	Proxy  Kind = 1 + iota // a remote GOPROXY
	Tree                   // a GOPROXY tree in the file system
	Direct                 // version control
	Off                    // nothing may be asked
)

// An Answer is what a source has for a request.
type Answer struct {
	Body io.ReadCloser // identity encoding; a Read fails if the source makes no progress for its time budget
	Size int64         // bytes, or -1 if the source did not say

	resume *resuming // that Body goes on by itself after a break; nil if it does not
	health *Health   // of the sources of the walk that it is an answer of; nil if nobody keeps it
	src    Source    // whose it is, in health
}

// resumed reports whether the body was put together from several answers.
func (a *Answer) resumed() bool {
	return a != nil && a.resume != nil && (a.resume.times > 0 || a.pieced())
}

// pieced reports whether some of them were pieces.
func (a *Answer) pieced() bool {
	return a != nil && a.resume != nil && a.resume.pieces != nil && a.resume.pieces.Report().Bytes > 0
}

// A Stage is how far a request came before it failed.
type Stage string

// The stages, in the order in which a request meets them.
const (
	StageDNS     Stage = "dns"     // the name could not be resolved
	StageConnect Stage = "connect" // no connection: refused, timed out, no route
	StageProxy   Stage = "proxy"   // the forward proxy on the way failed or refused
	StageTLS     Stage = "tls"     // no trusted encrypted connection
	StageHTTP    Stage = "http"    // no answer, a redirect that leads nowhere, or a status other than 200
	StageBody    Stage = "body"    // the answer broke off or stood still midway
	StageContent Stage = "content" // the answer is not what was asked for, or is wrong
	StageLocal   Stage = "local"   // a file tree or version control on this machine
)

// An Error is why one source did not give what it was asked for.
type Error struct {
	Source     string // the source's name
	Stage      Stage
	Status     int           // HTTP status; 0 if there was none
	Text       string        // what the source itself said (text/plain bodies only), printable, several lines
	RetryAfter time.Duration // as the source asked; 0 if it did not
	Err        error         // the cause; nil if Status says all

	answered bool // it answered, although neither Status nor Stage shows it: with a redirect
	recalled bool // it was not asked: this is what is known of it
	silent   bool // a file system that hangs
	page     bool // its "not found" is a page for people, which whoever stands on the way may have sent
}

func (e *Error) Error() string { return e.Source + ": " + e.reason() }

// ourEnd finds our own end of a connection, which is another one each time, in
// what package net says: read tcp 192.0.2.1:40000->192.0.2.2:443.
var ourEnd = regexp.MustCompile(`\b((?:read|write) \w+ )[^\s>]+->`)

// reason is the error without the name of its source.
func (e *Error) reason() string {
	var b strings.Builder
	switch {
	case e.Err != nil:
		b.WriteString(ourEnd.ReplaceAllString(e.Err.Error(), "$1"))
	case e.Status != 0:
		b.WriteString(statusText(e.Status))
	default:
		b.WriteString(string(e.Stage) + " failed")
	}
	if e.Text != "" {
		b.WriteString(": ")
		b.WriteString(strings.ReplaceAll(e.Text, "\n", "; "))
	}
	return b.String()
}

// Unwrap gives the cause, without its matching fs.ErrNotExist: a file that is
// missing on the way to a source is not the source's "not found".
func (e *Error) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return opaque{e.Err}
}

// Is makes 404 and 410 match fs.ErrNotExist, and nothing else: they are the two
// answers that let the go command try its next proxy.
func (e *Error) Is(target error) bool {
	return target == fs.ErrNotExist && (e.Status == 404 || e.Status == 410)
}

// Answered reports whether the source gave an answer at all, good or bad.
func (e *Error) Answered() bool {
	return e.answered || e.Status != 0 || e.Stage == StageBody || e.Stage == StageContent || e.Stage == StageLocal && !e.silent
}

// An Attempt is one source asked once.
type Attempt struct {
	Source string
	Kind   Kind
	Start  time.Time
	Took   time.Duration
	Err    error // nil if the source's answer was accepted
}

// A WalkError is the failure of a whole walk: no source had what was asked for,
// or none that may be asked could tell.
type WalkError struct {
	Request  goproxy.Request
	Attempts []Attempt // in order; none if the chain is empty
	Stopped  string    // why the sources after the last attempt were not asked; "" if all were
	// PassedOver says that a proxy in trouble was passed over at a comma, and that
	// version control would come next: a "not found" would lead round the proxy.
	PassedOver bool
}

func (e *WalkError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: ", e.Request)
	if len(e.Attempts) == 0 {
		b.WriteString("no source may be asked")
	}
	// A source that was asked again mostly says the same again.
	var texts []string
	times := map[string]int{}
	for _, a := range e.Attempts {
		text := a.Err.Error()
		if times[text]++; times[text] == 1 {
			texts = append(texts, text)
		}
	}
	for i, text := range texts {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(text)
		if n := times[text]; n > 1 {
			fmt.Fprintf(&b, " (%d times)", n)
		}
	}
	if e.Stopped != "" {
		b.WriteString(" (" + e.Stopped + ")")
	}
	return b.String()
}

// Unwrap gives the errors of all attempts. They match fs.ErrNotExist only if
// NotExist, so that errors.Is and NotExist never say different things.
func (e *WalkError) Unwrap() []error {
	missing := e.NotExist()
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		if errs[i] = a.Err; !missing {
			errs[i] = opaque{a.Err}
		}
	}
	return errs
}

// NotExist reports whether the walk has established that the thing does not
// exist: at least one source answered, and every source that answered said so.
// A source that could not be reached at all has no say; one that answered with
// trouble of its own may have had it.
func (e *WalkError) NotExist() bool {
	if e.PassedOver {
		return false
	}
	said := false
	for _, a := range e.Attempts {
		if errors.Is(a.Err, fs.ErrNotExist) {
			said = true
			continue
		}
		if se, ok := errors.AsType[*Error](a.Err); !ok || se.Answered() {
			return false
		}
	}
	return said
}

// Worst is the attempt whose error explains the failure best: the first that
// was no "not found", since the sources after it were asked in its place only.
// If there is none it is the last attempt; false means that nothing was asked.
func (e *WalkError) Worst() (Attempt, bool) {
	var off *Attempt // says least: somebody wanted it so
	for i, a := range e.Attempts {
		switch {
		case errors.Is(a.Err, fs.ErrNotExist):
		case !errors.Is(a.Err, ErrSwitchedOff):
			return a, true
		case off == nil:
			off = &e.Attempts[i]
		}
	}
	if off != nil {
		return *off, true
	}
	if len(e.Attempts) == 0 {
		return Attempt{}, false
	}
	return e.Attempts[len(e.Attempts)-1], true
}

// A Failover says what a comma after a proxy in trouble means.
type Failover uint8

const (
	// AsWritten is the go command's rule: past a comma only at 404 and 410,
	// because a gatekeeper that is down must not be walked round.
	AsWritten Failover = iota
	// Proxies passes over a proxy in trouble for the next proxy (or tree), but
	// never for version control, and never past a 401 or 403.
	Proxies
)

// A Link is one source in a chain.
type Link struct {
	Source   Source
	FallBack bool // any error lets the walk go on (`|` follows); else only "not found" (`,`)
	Tier     int  // of sources that stand in for one another, those of a lower tier are asked first
	Weight   int  // its share among those of its tier, by some strategies; 0 means 1, and less than 0 none while another is left
}

// A Chain is the sources for some modules, in the order in which they are asked.
// It is immutable and safe for concurrent use.
type Chain struct {
	Links    []Link
	Failover Failover
	// DirectBehind says that who asks goes on to version control by itself at a
	// "not found", as the go command behind sluice run may.
	DirectBehind bool
	// Health decides who is passed over, and when the next one is asked too. With
	// nil, the sources are asked in order, one at a time and once.
	Health   *Health
	Strategy Strategy // "" means Ordered
}

// Resting reports whether to ask for req would be to ask a source that wants to be
// left alone for a while (429, Retry-After): none before it, and none that may stand
// in for it, is well.
func (c *Chain) Resting(req goproxy.Request) bool {
	if c.Health == nil {
		return false
	}
	resting := false
	for _, s := range c.steps(req) {
		if !isMirror(s.src) {
			break
		}
		if !c.Health.resting(s.src) {
			return false
		}
		if resting = true; !s.onward {
			break
		}
	}
	return resting
}

// Near reports whether the source that is asked for req first is known to answer
// within nearTime where nothing holds it up, so that asking before anybody needs the
// answer saves next to nothing.
func (c *Chain) Near(req goproxy.Request) bool {
	return c.Health != nil && c.Health.near(c.steps(req)[0].src, AskOf(req))
}

// Doubted reports whether a zip of src is better not handed on before it is
// verified: no zip of it was found right yet, or none since it lied, and a mirror
// may stand in for it, which what a client has already would prevent.
func (c *Chain) Doubted(src Source, req goproxy.Request) bool {
	if c.Health == nil || c.Health.proven(src) {
		return false
	}
	list := c.steps(req)
	for i, s := range list[:len(list)-1] {
		if s.src == src {
			return s.onward && isMirror(src) && isMirror(list[i+1].src)
		}
	}
	return false
}

// Names lists the sources in order.
func (c *Chain) Names() []string {
	var l []string
	for _, k := range c.Links {
		l = append(l, k.Source.Name())
	}
	return l
}

// Accept judges the answer of one source, reading as much of it as it needs; the
// walk closes the body. Its error is that source's failure, and the next source
// is asked, unless it is an abort.
type Accept func(ctx context.Context, src Source, a *Answer) error

type abort struct{ err error }

func (a *abort) Error() string { return a.err.Error() }
func (a *abort) Unwrap() error { return a.err }

// Abort wraps an error of accept that is no fault of the source: the walk ends
// and returns err itself.
func Abort(err error) error { return &abort{err} }

// IsAbort reports whether err is from Abort.
func IsAbort(err error) bool {
	_, ok := errors.AsType[*abort](err)
	return ok
}

// opaque hides that err matches fs.ErrNotExist, and nothing else of it.
type opaque struct{ err error }

func (o opaque) Error() string        { return o.err.Error() }
func (o opaque) As(target any) bool   { return errors.As(o.err, target) }
func (o opaque) Is(target error) bool { return target != fs.ErrNotExist && errors.Is(o.err, target) }

// OffSource is the word "off" in a GOPROXY list.
type OffSource struct{}

// Name is "off".
func (OffSource) Name() string { return "off" }

// Kind is Off.
func (OffSource) Kind() Kind { return Off }

// ErrOff is what asking an OffSource gives. It matches fs.ErrNotExist, as in the
// go command.
var ErrOff error = offError{}

type offError struct{}

func (offError) Error() string {
	return "downloading is off (GOPROXY=off), and the store does not have it"
}
func (offError) Is(target error) bool { return target == fs.ErrNotExist }

// Get always fails with ErrOff.
func (OffSource) Get(context.Context, goproxy.Request) (*Answer, error) { return nil, ErrOff }
