package mirror

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// Explain words an error of Get: the finding, and the evidence for it, most
// telling first.
func Explain(err error) (finding.Finding, []string) {
	if we, ok := errors.AsType[*upstream.WalkError](err); ok {
		return explainWalk(we)
	}
	if oe, ok := errors.AsType[*OfflineError](err); ok {
		return finding.Of(finding.SwitchedOffline), []string{oe.Error()}
	}
	details := []string{err.Error()}
	if _, ok := errors.AsType[*goproxy.PathError](err); ok {
		return finding.Of(finding.BadRequest), details
	}
	if re, ok := errors.AsType[*RefusedError](err); ok {
		f := finding.Of(finding.SumDBUnknown)
		f = f.With(finding.StandInPattern, re.Request.Module.Path).With(finding.StandInModule, re.Request.Module.Path)
		return f, details
	}
	for _, c := range []struct {
		is   error
		code finding.Code
	}{
		{ErrNotCached, finding.FetchDisabled},
		{checksum.ErrSecurity, finding.SumDBInconsistent},
		{checksum.ErrUnreachable, finding.SumDBUnreachable},
		{checksum.ErrUnknown, finding.SumDBUnknown},
		{store.ErrNoSpace, finding.StoreFull},
		{store.ErrReadOnly, finding.StoreNotWritable},
	} {
		if errors.Is(err, c.is) {
			return finding.Of(c.code), details
		}
	}
	if _, ok := errors.AsType[*StoreError](err); ok {
		return finding.Of(finding.StoreDamaged), details
	}
	return finding.Of(finding.Internal), details
}

func explainWalk(we *upstream.WalkError) (finding.Finding, []string) {
	var details []string
	worst, ok := we.Worst()
	if ok {
		details = append(details, worst.Err.Error())
	}
	if we.Stopped != "" {
		details = append(details, we.Stopped) // before what may be too many lines
	}
	for _, a := range we.Attempts {
		// What a source said each time that it was asked is told once.
		if text := a.Err.Error(); !slices.Contains(details, text) {
			details = append(details, text)
		}
	}
	code := finding.NotFound
	switch {
	case !ok:
		code = finding.ProxyOff
	case errors.Is(worst.Err, upstream.ErrOff):
		code = finding.ProxyOff
	case !we.NotExist():
		code = SourceCode(worst)
	}
	f := finding.Of(code)
	f = f.About(we.Request.Module.Path, we.Request.Module.Version)
	if ok {
		host := hostOf(worst.Source)
		if oe, is := errors.AsType[*origin.Error](worst.Err); is {
			host = oe.Host
		}
		f = f.With(finding.StandInURL, worst.Source).With(finding.StandInHost, host)
	}
	return f, details
}

func hostOf(name string) string {
	u, err := url.Parse(name)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// SourceCode is the finding for one source's failure.
func SourceCode(a upstream.Attempt) finding.Code {
	err := a.Err
	if mm, ok := errors.AsType[*MismatchError](err); ok {
		if mm.By == "" {
			return finding.PinMismatch
		}
		return finding.SumMismatch
	}
	if fe, ok := errors.AsType[*formError](err); ok {
		return fe.code
	}
	if ze, ok := errors.AsType[*ZipError](err); ok {
		if ze.Damaged {
			return finding.ZipDamaged
		}
		return finding.ZipRules
	}
	if te, ok := errors.AsType[*tooLargeError](err); ok {
		if te.limit == goproxy.MaxZip {
			return finding.ZipTooLarge
		}
		return finding.SourceTooLarge
	}
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		switch oe.Cause {
		case origin.Auth:
			return finding.VCSLogin
		case origin.Tool:
			return finding.VCSMissing
		case origin.Unresolved:
			return finding.SourceDNS
		}
		return finding.VCSFailed
	}
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		if a.Kind == upstream.Direct {
			return finding.VCSFailed
		}
		return finding.SourceWrongAnswer
	}
	switch {
	case errors.Is(err, upstream.ErrSwitchedOff):
		return finding.SourceSwitchedOff
	case e.Status == 401:
		return finding.SourceUnauthorized
	case e.Status == 403 && a.Kind == upstream.Off:
		return finding.DirectNotAllowed
	case e.Status == 403:
		return finding.SourceForbidden
	case e.Status == 407:
		return finding.ForwardProxyLogin
	case e.Status == 508:
		return finding.Loop
	case e.Status == 429:
		return finding.SourceThrottled
	case e.Status >= 500:
		return finding.SourceServerError
	case e.Status != 0 && e.Stage == upstream.StageHTTP:
		return finding.SourceBadStatus
	}
	stalled := errors.Is(err, upstream.ErrStalled) || errors.Is(err, context.DeadlineExceeded)
	switch e.Stage {
	case upstream.StageDNS:
		return finding.SourceDNS
	case upstream.StageConnect:
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return finding.SourceRefused
		case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
			return finding.SourceNoRoute
		}
		return finding.SourceConnectTimeout
	case upstream.StageTLS:
		var unknown x509.UnknownAuthorityError
		var host x509.HostnameError
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &unknown):
			return finding.SourceTLSUnknownCA
		case errors.As(err, &host):
			return finding.SourceTLSHostname
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return finding.SourceTLSExpired
		}
		return finding.SourceTLSHandshake
	case upstream.StageProxy:
		if strings.Contains(err.Error(), "Proxy Authentication Required") {
			return finding.ForwardProxyLogin
		}
		return finding.ForwardProxyBroken
	case upstream.StageHTTP:
		switch {
		case stalled:
			return finding.SourceSilent
		case upstream.IsGuard(err):
			return finding.SourceForbiddenAddress
		case strings.Contains(err.Error(), "redirect"):
			return finding.SourceBadStatus
		}
		return finding.SourceReset
	case upstream.StageBody:
		if stalled {
			return finding.SourceStalled
		}
		return finding.SourceReset
	case upstream.StageLocal:
		if a.Kind == upstream.Direct {
			return finding.VCSFailed
		}
		if stalled {
			return finding.SourceSilent
		}
		return finding.SourceWrongAnswer
	}
	if strings.Contains(err.Error(), "HTML page") {
		return finding.SourceHTML
	}
	return finding.SourceWrongAnswer
}

// A SourceState is what the last question to a source showed.
type SourceState struct {
	Name  string    `json:"name"`
	State string    `json:"state"` // ok, failing, or unknown where nothing was asked yet
	Since time.Time `json:"since,omitzero"`
	Error string    `json:"error,omitempty"`
	Code  string    `json:"code,omitempty"` // of the finding
}

// sawSource keeps what an attempt shows of its source. An answer to one question
// that was wrong or missing says nothing of the source as such.
func (m *Mirror) sawSource(a upstream.Attempt) {
	st := SourceState{Name: a.Source, State: "ok", Since: a.Start}
	if a.Err != nil && !errors.Is(a.Err, fs.ErrNotExist) {
		e, ok := errors.AsType[*upstream.Error](a.Err)
		code := SourceCode(a)
		// A page in place of an answer is what every question would get.
		if !ok || errors.Is(a.Err, context.Canceled) || errors.Is(a.Err, upstream.ErrOutdone) || e.Status == 403 || e.Stage == upstream.StageContent && code != finding.SourceHTML {
			return
		}
		st.State, st.Error, st.Code = "failing", finding.Redact(a.Err.Error()), string(code)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.sources[a.Source]; old.State == st.State {
		st.Since = old.Since
	}
	m.sources[a.Source] = st
}

// Sources tells what is known of the given sources.
func (m *Mirror) Sources(names []string) []SourceState {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]SourceState, 0, len(names))
	for _, n := range names {
		st, ok := m.sources[n]
		if !ok {
			st = SourceState{Name: n, State: "unknown"}
		}
		list = append(list, st)
	}
	return list
}
