// Package explain says what the output of a failed build means: text in, a finding
// of the catalogue out. It knows the grammar of what the go command, version
// control programs, ssh, curl and the systems below them print, and of what CI
// systems and loggers put around it.
//
// It measures nothing and changes nothing; doctor does the former. A text that
// nothing in it decides is called unknown, and a failure that is not about
// obtaining modules is called that.
//
// The phrases and where they come from are in rules.go. How several of them in
// one text are weighed follows the rules that our corpus is labelled by:
//
//   - the cause is what has to change, not the line that is printed last;
//   - of several errors the first independent one wins, the rest follow from it;
//   - a status belongs to the host of its own URL;
//   - what a server says in the body of its answer outranks the status.
package explain

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// A Result is what a text means. The zero value, but for Place, is "unknown":
// nothing in the text decides.
type Result struct {
	// Finding is the entry of the catalogue, in the words for the one whose build
	// failed, its commands filled in as far as the text allows.
	finding.Finding
	Line    string // the deciding line, redacted, without what loggers put before it
	Number  int    // its number in the text, from 1
	Host    string // whom the failure is about: a host, with a port only where that matters
	Module  string // the module path it is about
	Version string // its version, if the text names it
	// Place is where the command ran, as far as the text shows: see finding.Places.
	Place finding.Place

	source string // where the address of Host begins, if Line has not got it
	next   string // the line after Line
}

// Known reports whether the text said what failed.
func (r Result) Known() bool { return r.Code != "" }

// In is the finding with its commands written for place.
func (r Result) In(place finding.Place) finding.Finding {
	if !r.Known() {
		return finding.Finding{}
	}
	return r.fill(finding.At(r.Code, place), r.Confidence, place)
}

// fill puts what the text named into f, whose commands are written for place.
func (r Result) fill(f finding.Finding, c finding.Confidence, place finding.Place) finding.Finding {
	f.Confidence = c
	if f.Code == finding.NotModules {
		return f
	}
	host := r.Host
	if h, _, ok := strings.Cut(host, ":"); ok && h != "" && !strings.HasPrefix(host, "[") {
		host = h
	}
	version := r.Version
	if f.Code == finding.ToolchainTooOld {
		version = wantedGo(r.Line) // of Go, and not of a module
	}
	f = f.With(finding.StandInHost, host).With(finding.StandInPattern, pattern(r.Module)).With(finding.StandInVersion, version).About(r.Module, version)
	if host != "" {
		f = f.With(finding.StandInURL, "https://"+host+"/")
		if base := r.base(host); base != "" {
			f.Fix = slices.Clone(f.Fix)
			for i, cmd := range f.Fix {
				f.Fix[i] = strings.ReplaceAll(cmd, "https://"+host+"/", base)
			}
		}
	}
	return r.suit(f, place)
}

// base is where the text found the host: scheme and port, if a URL of the deciding line
// has them.
func (r Result) base(host string) string {
	if r.source != "" {
		return r.source
	}
	for _, scheme := range []string{"http://", "https://"} {
		_, rest, ok := strings.Cut(r.Line, scheme+host)
		if !ok {
			continue
		}
		port := ""
		if after, ok := strings.CutPrefix(rest, ":"); ok {
			n := 0
			for n < len(after) && n < 5 && '0' <= after[n] && after[n] <= '9' {
				n++
			}
			if port = ":" + after[:n]; n == 0 {
				continue
			}
			rest = after[n:]
		}
		if rest == "" || strings.ContainsAny(rest[:1], "/\"' ") {
			return scheme + host + port + "/"
		}
	}
	return ""
}

// overlap is how many lines of one chunk are looked at again with the next, so
// that what belongs together is seen together.
const overlap = 32

// Read explains the text of r. It holds about a megabyte of it at a time. The error
// is that of reading r.
func Read(r io.Reader) (Result, error) { return whole().read(r) }

func (g *grammar) read(r io.Reader) (Result, error) {
	lr := newLineReader(r)
	var best cand
	var place finding.Place
	var chunk []line
	size, fresh := 0, 0
	look := func() {
		t := &text{grammar: g, lines: chunk}
		c := t.decide()
		if place == "" {
			place = t.place
		}
		c.number = chunk[c.line].number
		if c.weight > best.weight {
			best = c
		}
		keep := min(overlap, len(chunk))
		chunk = append(chunk[:0:0], chunk[len(chunk)-keep:]...)
		size, fresh = 0, 0
	}
	for {
		l, err := lr.next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Result{}, err
		}
		if best.weight == telling {
			continue // who writes into our pipe shall be able to end
		}
		if ownLine(l.text) {
			continue
		}
		chunk = append(chunk, l)
		fresh++
		if size += len(l.text) + 64; size >= maxChunk {
			look()
		}
	}
	if fresh > 0 {
		look()
	}
	return best.result(place), nil
}

// Text explains s.
func Text(s string) Result {
	r, _ := Read(strings.NewReader(s)) // reading a string does not fail
	return r
}
