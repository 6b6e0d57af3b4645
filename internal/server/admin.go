package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/switches"
	"github.com/modsluice/sluice/internal/upstream"
)

// An Admin does what the API under /-/ is asked for. Its errors are best an
// *AdminError. docs/admin.md has the API.
type Admin interface {
	// SourceStatus tells all that is known of every source.
	SourceStatus() SourcesAnswer
	// Switches lists the switches in force.
	Switches() SwitchesAnswer
	// Switch brings a switch into force or takes it back. By the end of ctx
	// nobody waits for the outcome any more.
	Switch(ctx context.Context, req SwitchRequest, via string) (SwitchAnswer, error)
	// Pardon lets a source back that was fenced off.
	Pardon(req PardonRequest, via string) (PardonAnswer, error)
	// Drill keeps a fault inside a source until its time is over, EndDrill or ctx
	// ends it or the server stops, and then reports. It calls begun when the fault
	// is in; after that it does not fail.
	Drill(ctx context.Context, req DrillRequest, via string, begun func()) (DrillAnswer, error)
	// EndDrill ends the drill inside a source; Drill then returns.
	EndDrill(req DrillEnd, via string) error
}

// A SourcesAnswer is that of GET /-/sources.
type SourcesAnswer struct {
	PID     int               `json:"pid"`
	Region  string            `json:"region,omitempty"` // where the server stands
	Time    time.Time         `json:"time"`
	Offline *switches.Switch  `json:"offline,omitempty"` // nothing is fetched
	Sources []SourceStatus    `json:"sources"`
	Forced  []switches.Switch `json:"switches"` // in force
}

// A SourceStatus is what is known of one source. What is not known is left out,
// or null.
type SourceStatus struct {
	Name      string            `json:"name"`
	Called    string            `json:"called,omitempty"` // by its [[source]] table
	Kind      string            `json:"kind"`             // proxy, tree, direct or off
	State     string            `json:"state"`            // unknown, up, suspect, down, resting or off
	Since     time.Time         `json:"since,omitzero"`
	Why       string            `json:"why,omitempty"`
	Stage     string            `json:"stage,omitempty"` // at which it last failed
	Preferred bool              `json:"preferred,omitempty"`
	Asks      []AskStatus       `json:"asks"`
	Good      uint64            `json:"good"`
	Missing   uint64            `json:"missing"` // "not found", which is an answer
	Failed    uint64            `json:"failed"`
	Success   *float64          `json:"success"` // of 1; null before the first answer
	Share     *float64          `json:"share"`   // of all sources' good answers
	Busy      int               `json:"busy"`
	Hedged    uint64            `json:"hedged"`    // how often another source was asked since this one was late
	Overtaken uint64            `json:"overtaken"` // and was faster
	Lacks     int               `json:"lacks"`     // versions that others have
	LacksFor  float64           `json:"lacks_for_seconds,omitempty"`
	Lies      map[string]string `json:"lies,omitempty"` // module path → what was wrong
	Backwards string            `json:"backwards,omitempty"`
	Last      time.Time         `json:"last,omitzero"` // answer
}

// An AskStatus is a SourceStatus for one kind of question.
type AskStatus struct {
	Ask     string    `json:"ask"` // list, file or zip
	State   string    `json:"state"`
	Since   time.Time `json:"since,omitzero"`
	Why     string    `json:"why,omitempty"`
	P50     float64   `json:"p50_ms,omitempty"`
	P95     float64   `json:"p95_ms,omitempty"`
	P99     float64   `json:"p99_ms,omitempty"`
	Pace    float64   `json:"bytes_per_second,omitempty"`
	Samples int       `json:"samples"`
}

// StatusOf is a report as the API tells it. What is relative to others is left
// to the caller.
func StatusOf(r upstream.Report, kind upstream.Kind) SourceStatus {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	s := SourceStatus{
		Name: r.Source, Kind: kindNames[kind], State: string(r.State), Since: r.Since, Why: finding.Redact(r.Why), Stage: string(r.Stage), Asks: []AskStatus{},
		Good: r.Good, Missing: r.Missing, Failed: r.Failed, Busy: r.Busy, Hedged: r.Hedged, Overtaken: r.Overtaken,
		Lacks: r.Lacks, LacksFor: r.LacksFor.Seconds(), Backwards: finding.Redact(r.Backwards), Last: r.Last,
	}
	for path, why := range r.Lies {
		if s.Lies == nil {
			s.Lies = map[string]string{}
		}
		s.Lies[path] = finding.Redact(why)
	}
	for _, a := range r.Asks {
		s.Asks = append(s.Asks, AskStatus{string(a.Ask), string(a.State), a.Since, finding.Redact(a.Why), ms(a.P50), ms(a.P95), ms(a.P99), a.Pace, a.Samples})
	}
	if all := r.Good + r.Missing + r.Failed; all > 0 {
		ok := float64(r.Good+r.Missing) / float64(all)
		s.Success = &ok
	}
	return s
}

var kindNames = map[upstream.Kind]string{upstream.Proxy: "proxy", upstream.Tree: "tree", upstream.Direct: "direct", upstream.Off: "off"}

// A SwitchesAnswer is that of GET /-/switches.
type SwitchesAnswer struct {
	PID      int               `json:"pid"`
	Switches []switches.Switch `json:"switches"`
}

// A SwitchRequest is the body of POST /-/switches.
type SwitchRequest struct {
	Switch string `json:"switch"`           // source, look-ahead, origin, offline or prefer
	Source string `json:"source,omitempty"` // its name, or an unambiguous part of it
	To     string `json:"to"`               // on or off; of prefer: on, or off for none
	For    string `json:"for,omitempty"`    // a duration such as "30m", after which it reverts
	Reason string `json:"reason,omitempty"`
	Who    string `json:"who,omitempty"`
}

// A SwitchAnswer is that of POST /-/switches.
type SwitchAnswer struct {
	PID      int               `json:"pid"`
	Done     string            `json:"done"`             // in words
	Changed  bool              `json:"changed"`          // false: it was so before
	Steps    []Step            `json:"steps,omitempty"`  // of a move
	Unkept   string            `json:"unkept,omitempty"` // why it will not outlive the server, or is not recorded
	Switches []switches.Switch `json:"switches"`         // in force now
}

// A Step is one of a planned move to another source.
type Step struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Note string `json:"note,omitempty"` // how it went
}

// A PardonRequest is the body of POST /-/sources/pardon.
type PardonRequest struct {
	Source string `json:"source"`
	Module string `json:"module,omitempty"` // "": all
	Reason string `json:"reason,omitempty"`
	Who    string `json:"who,omitempty"`
}

// A PardonAnswer is that of POST /-/sources/pardon.
type PardonAnswer struct {
	PID      int    `json:"pid"`
	Source   string `json:"source"`
	Pardoned int    `json:"pardoned"` // modules that it is asked for again
	Unkept   string `json:"unkept,omitempty"`
}

// A DrillRequest is the body of POST /-/drill.
type DrillRequest struct {
	Source string `json:"source"`        // its name, or an unambiguous part of it
	Fault  string `json:"fault"`         // as package faults writes it
	For    string `json:"for,omitempty"` // a duration; empty: a minute
	Reason string `json:"reason,omitempty"`
	Who    string `json:"who,omitempty"`
}

// A DrillEnd is the body of POST /-/drill/end.
type DrillEnd struct {
	Source string `json:"source"`
	Who    string `json:"who,omitempty"`
}

// A DrillAnswer is that of POST /-/drill: what was seen while the fault was in.
type DrillAnswer struct {
	PID     int            `json:"pid"`
	Fault   string         `json:"fault"`
	Does    string         `json:"does"` // what the fault does, in one line
	Source  string         `json:"source"`
	Began   time.Time      `json:"began"`
	Lasted  float64        `json:"lasted_seconds"`
	Ended   string         `json:"ended"`            // why
	During  Served         `json:"clients"`          // what clients saw
	Before  *Served        `json:"before,omitempty"` // in as long a time before; null if that is not known
	Failed  int            `json:"failed"`           // requests of clients that failed because of it
	Doubt   int            `json:"missing"`          // that were told "not found" after the source had said so
	Waiting int            `json:"waiting"`          // that had no answer yet when this was written
	Met     map[string]int `json:"met"`              // requests to the source that met the fault, by kind
	Asked   Asked          `json:"asked"`
	Logged  []string       `json:"logged"` // of the source, by its health
	Verdict string         `json:"verdict"`
	Unkept  string         `json:"unkept,omitempty"` // why the audit file lacks a line
}

// Served is what clients saw of their requests for module files in some time.
type Served struct {
	Requests map[string]int `json:"requests"` // by outcome
	Median   float64        `json:"median_ms,omitempty"`
	Slowest  float64        `json:"slowest_ms,omitempty"`
}

// Asked is how a source's answers ended in some time.
type Asked struct {
	Good    uint64 `json:"good"`
	Missing uint64 `json:"missing"`
	Failed  uint64 `json:"failed"`
}

// An AdminCause is what an AdminError means for the one who asked.
type AdminCause uint8

// The causes of an AdminError.
const (
	Mistaken AdminCause = 1 + iota // the request cannot be meant so
	Unknown                        // it names something that is not there
	Clashing                       // not now, or not with what else is in force
	Failed                         // what was tried did not work, and all is as it was
)

// An AdminError is why something was not done. As JSON it is the body of every
// failure of the API.
type AdminError struct {
	Cause AdminCause `json:"-"`
	Text  string     `json:"error"`
	Hint  string     `json:"hint,omitempty"`
	Steps []Step     `json:"steps,omitempty"`
}

func (e *AdminError) Error() string { return e.Text }

const (
	// adminBody bounds the body of a request, in bytes; the longest that makes
	// sense is a tenth of it.
	adminBody = 16 << 10
	// adminHeader is how long the local socket waits for a request's header. Its
	// clients are programs of this machine.
	adminHeader = 5 * time.Second
	// adminEnd is how long answers of the local socket may take to go out at the end.
	adminEnd = 2 * time.Second
)

// A Token is the SHA-256 of the token that the API wants over TCP. The zero
// Token: the API is not there.
type Token [sha256.Size]byte

// TokenOf makes the Token of a secret.
func TokenOf(secret string) Token { return sha256.Sum256([]byte(secret)) }

// ServeAdmin answers on the local socket ln, to which only those who may do
// everything can connect, until ctx ends.
func (s *Server) ServeAdmin(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, true) }),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: adminHeader,
		IdleTimeout:       s.c.Idle,
		ErrorLog:          slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- hs.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// What is under way is short, or ends with us; its answer still goes out.
	end, stop := context.WithTimeout(context.Background(), adminEnd)
	defer stop()
	if hs.Shutdown(end) != nil {
		hs.Close()
	}
	<-done
	return nil
}

// admin answers for the API, if it is to be had on the way that the request
// came; else it reports false.
func (s *Server) admin(x *exchange) bool {
	r := x.r
	p, ok := strings.CutPrefix(r.URL.Path, "/-/")
	token := s.settings.Load().Token
	switch {
	case s.c.Admin == nil || !ok && !x.local || !x.local && token == Token{}:
		return false
	case !x.local:
		scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := TokenOf(strings.TrimSpace(secret))
		if subtle.ConstantTimeCompare(got[:], token[:]) != 1 || !strings.EqualFold(scheme, "bearer") {
			x.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			x.kind, x.outcome = "admin", "refused"
			x.adminFail(http.StatusUnauthorized, &AdminError{Text: "the API wants the token that admin.token_file holds, and this is another or none", Hint: "send it as the Authorization of type Bearer; sluice reads it from --token-file FILE"})
			return true
		}
	}
	x.kind = "admin"
	via := "socket"
	if !x.local {
		via = "token from " + r.RemoteAddr
	}
	get := func(f func() any) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			x.methods("GET, HEAD")
			return
		}
		x.json(http.StatusOK, f())
	}
	switch p {
	case "sources":
		get(func() any { return s.c.Admin.SourceStatus() })
	case "switches":
		if r.Method != http.MethodPost {
			get(func() any { return s.c.Admin.Switches() })
			break
		}
		post(x, func(req SwitchRequest) (any, error) { return s.c.Admin.Switch(r.Context(), req, via) })
	case "sources/pardon":
		if r.Method != http.MethodPost {
			x.methods("POST")
			break
		}
		post(x, func(req PardonRequest) (any, error) { return s.c.Admin.Pardon(req, via) })
	case "drill":
		if r.Method != http.MethodPost {
			x.methods("POST")
			break
		}
		post(x, func(req DrillRequest) (any, error) { return s.c.Admin.Drill(r.Context(), req, via, x.accept) })
	case "drill/end":
		if r.Method != http.MethodPost {
			x.methods("POST")
			break
		}
		post(x, func(req DrillEnd) (any, error) { return struct{}{}, s.c.Admin.EndDrill(req, via) })
	default:
		x.adminFail(http.StatusNotFound, &AdminError{Text: "the API has no " + strconv.Quote(r.URL.Path), Hint: "it has /-/sources, /-/sources/pardon, /-/switches, /-/drill and /-/drill/end; docs/admin.md describes them"})
	}
	return true
}

func (x *exchange) methods(allow string) {
	x.Header().Set("Allow", allow)
	if x.r.URL.Path == "/-/switches" {
		x.Header().Set("Allow", "GET, HEAD, POST")
	}
	x.adminFail(http.StatusMethodNotAllowed, &AdminError{Text: x.r.URL.Path + " has no " + x.r.Method, Hint: "it has " + x.Header().Get("Allow")})
}

// post reads a body, calls do with it and writes what that returns.
func post[T any](x *exchange, do func(T) (any, error)) {
	var req T
	if ct, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type")); err != nil || ct != "application/json" {
		x.adminFail(http.StatusUnsupportedMediaType, &AdminError{Text: "the body is not declared to be JSON", Hint: "send Content-Type: application/json"})
		return
	}
	dec := json.NewDecoder(http.MaxBytesReader(x.w, x.r.Body, adminBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(&req)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("something follows the object")
			if _, ok := errors.AsType[*http.MaxBytesError](more); ok {
				err = more
			}
		}
	}
	x.rc.SetReadDeadline(time.Time{}) // else the answer may not take longer than the body might have
	if err != nil {
		status, text := http.StatusBadRequest, "the body cannot be understood: "+strings.TrimPrefix(err.Error(), "json: ")
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status, text = http.StatusRequestEntityTooLarge, "the body is larger than "+strconv.Itoa(adminBody)+" bytes"
		}
		x.adminFail(status, &AdminError{Text: text, Hint: "docs/admin.md has the fields of each request"})
		return
	}
	answer, err := do(req)
	if err == nil {
		x.json(http.StatusOK, answer)
		return
	}
	ae, ok := errors.AsType[*AdminError](err)
	if !ok {
		ae = &AdminError{Text: err.Error()}
	}
	x.adminFail(adminStatus(ae.Cause), ae)
}

func adminStatus(c AdminCause) int {
	switch c {
	case Mistaken:
		return http.StatusBadRequest
	case Unknown:
		return http.StatusNotFound
	case Clashing:
		return http.StatusConflict
	case Failed:
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// adminFail is write for the API.
func (x *exchange) adminFail(status int, e *AdminError) {
	c := *e
	c.Text, c.Hint = finding.Redact(c.Text), finding.Redact(c.Hint)
	x.note = c.Text
	x.json(status, c)
}

// accept sends the header of an answer that takes its time: what was asked for
// is being done.
func (x *exchange) accept() {
	h := x.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy in between is not to wait for the body
	x.WriteHeader(http.StatusOK)
	x.rc.Flush() // its failure is that of the next write
}

func (x *exchange) json(status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		x.fail(err)
		return
	}
	if x.status == 0 {
		h := x.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Length", strconv.Itoa(len(body)+1))
		x.WriteHeader(status)
	}
	if x.r.Method != http.MethodHead {
		x.Write(append(body, '\n'))
	}
}
