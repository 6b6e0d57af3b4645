// Package finding is the catalogue of what can go wrong on the way of a module:
// for each a permanent code, its root cause, a title, why it is so, and what
// mends it. Error bodies, health, logs, trace, doctor and explain take their
// words from here, so that one thing has one name everywhere.
//
// It does not find anything: the package that sees a failure picks the code.
// It chooses no HTTP status either; that is the server's.
//
// A code is SL-FAMILY-NNN, such as SL-TLS-001. People search for codes, scripts
// match them and alert rules name them, so a code is for ever: its cause never
// changes, a retired one is not given out again, and testdata/codes.golden
// holds every one there ever was. Words may be bettered at any time.
//
// The causes are the labels that our corpus of real failures is judged by. What
// a text for the go command may look like comes from
// cmd/go/internal/web/api.go.
package finding

import (
	"regexp"
	"slices"
	"strings"
)

// A Code names one entry of the catalogue, for ever: SL-DNS-001.
type Code string

// A Severity says what an entry means for the one who asked.
type Severity string

const (
	Fail Severity = "fail" // something was not served, or must not be trusted
	Warn Severity = "warn" // Sluice goes on, but less well than it should
)

// A Confidence says how sure a finding is that its cause is the cause.
type Confidence string

const (
	High   Confidence = "high"   // seen directly, and nothing else explains it
	Medium Confidence = "medium" // fits best; another cause is possible
	Low    Confidence = "low"    // a guess, and to be called one
)

// An Entry is one kind of failure, as the catalogue words it.
type Entry struct {
	Code     Code     `json:"code"`
	Cause    Cause    `json:"cause"`
	Title    string   `json:"title"` // what failed; no full stop
	Why      string   `json:"why"`   // one or two plain sentences
	Mend     string   `json:"mend"`  // what to do, one sentence
	Fix      []string `json:"fix"`   // commands to paste that do it, or show where to; see Finding.With
	Severity Severity `json:"severity"`
}

// A Finding is an entry found to hold, its words perhaps made more exact.
type Finding struct {
	Entry
	Confidence Confidence `json:"confidence"`
	// Changes are the fix as what Sluice can do itself; none if somebody has to know or
	// do more.
	Changes []Change `json:"changes,omitempty"`
}

// Of is the finding of code, with High confidence. A code that is not in the
// catalogue gives the finding of Internal, since that is what it is.
func Of(code Code) Finding {
	e, ok := Lookup(code)
	if !ok {
		e, _ = Lookup(Internal)
	}
	return Finding{Entry: e, Confidence: High}
}

// Catalogue lists all entries, ordered as they were written: by family, then by
// number. The caller owns the result.
func Catalogue() []Entry {
	all := make([]Entry, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.clone())
	}
	return all
}

// Lookup finds the entry of code.
func Lookup(code Code) (Entry, bool) {
	i := slices.IndexFunc(entries[:], func(e Entry) bool { return e.Code == code })
	if i < 0 {
		return Entry{}, false
	}
	return entries[i].clone(), true
}

// ByCause lists the entries of one cause, in the catalogue's order. Not every
// cause has one.
func ByCause(label Cause) []Entry {
	return slices.DeleteFunc(Catalogue(), func(e Entry) bool { return e.Cause != label })
}

func (e Entry) clone() Entry {
	e.Fix = slices.Clone(e.Fix)
	return e
}

// Stand-ins are the words in a command that only the moment of failure can fill in.
const (
	StandInModule  = "MODULE"  // a module path
	StandInVersion = "VERSION" // a module version
	StandInPattern = "PATTERN" // a GOPRIVATE pattern that covers the module
	StandInHost    = "HOST"    // a host name, without port
	StandInURL     = "URL"     // a source's address
	StandInDir     = "DIR"     // a directory
	StandInFile    = "FILE"    // a file
)

var (
	standIns  = regexp.MustCompile(`\b(MODULE|VERSION|PATTERN|HOST|URL|DIR|FILE)\b`)
	plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:+,=@%~][A-Za-z0-9_./:+,=@%~-]*$`)
)

// With fills in a stand-in of the commands to paste: With(StandInHost, "git.corp.example").
// A value that a shell would read as anything but one plain word is not used: the
// stand-in stays, since people paste these lines.
func (f Finding) With(standIn, value string) Finding {
	value = Redact(value)
	if !plainWord.MatchString(value) {
		return f
	}
	f.Fix = slices.Clone(f.Fix)
	for i, cmd := range f.Fix {
		f.Fix[i] = standIns.ReplaceAllStringFunc(cmd, func(word string) string {
			if word == standIn {
				return value
			}
			return word
		})
	}
	return f
}

// String is the finding in one line, for logs: "SL-DNS-001: the name of a source cannot be resolved".
func (f Finding) String() string { return string(f.Code) + ": " + strings.TrimSpace(f.Title) }
