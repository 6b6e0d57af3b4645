package origin

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A Cause says what kind of thing went wrong. Only Missing is an answer about
// the module; all others say that we do not know.
type Cause uint8

// The zero Cause is Trouble.
const (
	Trouble    Cause = iota // the network, the server, the repository, the disk
	Missing                 // there is no such module, version or repository
	Timeout                 // the job took too long
	Auth                    // the server wants credentials, or better ones
	Refused                 // GOVCS, GOINSECURE or a protocol rule forbids it
	Tool                    // go, git or another command is missing, or too old
	Unresolved              // the host's name has no address, as far as could be told
)

var causeNames = [...]string{"trouble", "missing", "timeout", "auth", "refused", "tool", "unresolved"}

// String is the cause's word in logs: trouble, missing, timeout, auth, refused, tool,
// unresolved.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// An Error is why version control did not give what was asked for.
// It matches fs.ErrNotExist if and only if Cause is Missing.
type Error struct {
	Request goproxy.Request
	Cause   Cause
	Host    string // of Unresolved
	Text    string // the go command's own words where it had any; fit to be shown: see clean
	Hint    string // a sentence that says how to mend it, if we know
	Err     error  // the cause in Go's terms, such as context.DeadlineExceeded; may be nil
}

func (e *Error) Error() string {
	s := "version control: " + e.Text
	if e.Hint != "" {
		s += "\n" + e.Hint
	}
	return s
}

// Is makes a missing module, version or repository match fs.ErrNotExist.
func (e *Error) Is(target error) bool { return target == fs.ErrNotExist && e.Cause == Missing }

// Unwrap hides a cause that speaks of a missing file of ours, such as the go
// command's: it would make e match fs.ErrNotExist.
func (e *Error) Unwrap() error {
	if e.Cause != Missing && errors.Is(e.Err, fs.ErrNotExist) {
		return nil
	}
	return e.Err
}

// The go command's errors have no kind but their words. What counts as missing
// is therefore an explicit list of whole sentences of Go 1.24 to 1.26, anchored
// at both ends after the module's name has been taken off; anything not listed
// is trouble. Wrong in that direction costs a retry, wrong in the other one
// makes a client believe that a module does not exist.
var (
	// What codehost and coderepo say about a version of a repository that answered.
	missingVersion = regexp.MustCompile(`^(` + strings.Join([]string{
		`no matching versions for query "[^"\n]*"`,
		`invalid version: (` + strings.Join([]string{
			`unknown revision [^\n]*`,
			`ambiguous revision [^\n]*`,
			`missing [^\n]*go\.mod at revision [^\n]*`,
			`[^\n]*go\.mod (has (non|post)-[^\n]* module path|has malformed module path|is missing module path)[^\n]* at revision [^\n]*`,
			`[^\n]*go\.mod both have [^\n]* module paths at revision [^\n]*`,
			`module path includes a major version suffix, so major version must match`,
			`module contains a go\.mod file, so module path must match major version \([^\n]*\)`,
			`\+incompatible suffix not allowed: major version v[0-9]+ is compatible`,
			`resolves to version [^\n]* \([^\n]* is not a tag\)`,
			`should be v[^\n]*, not v[^\n]*`,
			`disallowed version string [^\n]*`,
			`no commits`,
		}, `|`) + `)`,
		`invalid pseudo-version: (` + strings.Join([]string{
			`revision is (longer|shorter) than canonical \([^\n]*\)`,
			`does not match short name of revision \([^\n]*\)`,
			`does not match version-control timestamp \([^\n]*\)`,
			`major version without preceding tag must be v0, not v1`,
			`tag \([^\n]*\) found on revision [^\n]* is already canonical, [^\n]*`,
			`preceding tag \([^\n]*\) not found`,
			`(revision [^\n]* is )?not a descendent of preceding tag \([^\n]*\)`,
		}, `|`) + `)`,
	}, `|`) + `)$`)

	// What package vcs says about a path, having asked the path's host.
	missingPath = regexp.MustCompile(`^(` + strings.Join([]string{
		`(unrecognized import path "[^"\n]*": |invalid version: )?reading https?://\S+: (404|410)( [^\n]*)?(\n\tserver response:(.|\n)*)?`,
		`unrecognized import path "[^"\n]*": parse \S+: no go-import meta tags \([^\n]*\)`,
		`unrecognized import path "[^"\n]*": import path does not (begin with hostname|contain a slash)[^\n]*`,
		`invalid \S+ import path "[^"\n]*"`,
		`(unrecognized import path "[^"\n]*": )?(no modules on example\.net|rsc\.io is not a module)`,
	}, `|`) + `)$`)

	// Git and Mercurial, when the server answered 404 for the repository itself.
	// What the server says comes after "remote: ", so it cannot fake the line.
	missingRepo = regexp.MustCompile(`^(invalid version: )?(git ls-remote [^\n]*: exit status 128:(\n\t(remote|warning): [^\n]*)*\n\tfatal: repository '[^\n]*' not found|` +
		`hg [^\n]*: exit status 255:\n\tabort: HTTP Error 404: [^\n]*)$`)

	unknownRevision = regexp.MustCompile(`^invalid version: unknown revision ([^\n]+)$`)

	authText = regexp.MustCompile(`(?i)could not read (Username|Password)|terminal prompts disabled|Authentication failed|authorization failed|` +
		`requested URL returned error: 40[137]|: 40[137] (Unauthorized|Forbidden|Proxy Authentication Required)|HTTP Error 40[137]|` +
		`Permission denied \(|Host key verification failed|Please make sure you have the correct access rights`)
	refusedText = regexp.MustCompile(`GOVCS disallows|transport '[^']*' not allowed|no secure protocol found|insecure protocol|\w+ scheme disallowed|redirected from secure URL`)
	// What git and its curl, hg, ssh and the go command itself say of a name without an address.
	unresolvedText = regexp.MustCompile(`(?i)Could not resolve (?:host|hostname):? '?([A-Za-z0-9.-]+[A-Za-z0-9])|` +
		`lookup ([A-Za-z0-9.-]+[A-Za-z0-9])(?: on \S+)?: (?:no such host|server misbehaving|Temporary failure|i/o timeout|no answer)|` +
		`(?:Name or service not known|Temporary failure in name resolution|nodename nor servname provided)`)
	toolText   = regexp.MustCompile(`executable file not found|cannot run \S+: No such file|unable to find remote helper`)
	tooNewText = regexp.MustCompile(` requires go >= (\S+) \(running go `)

	// A clone that is broken, in use by a dead process's leftovers, or pulled
	// away: its own fault, so a fresh one may well work.
	cloneText = regexp.MustCompile(`\.lock': File exists|not a git repository|object file .* is empty|loose object .* is corrupt|bad object|` +
		`unable to read (tree|sha1 file)|shallow file has changed|bad config|bad (tree|pack)|missing (blob|tree) |did not send all necessary objects|` +
		`exists with wrong content|unknown revision refs/|packfile .* (cannot be|claims|does not)|inflate: data stream error`)
)

// plain is a text of the go command without the module's name in front, by
// which it begins most of its sentences.
func plain(text string, req goproxy.Request) string {
	path := req.Module.Path
	text = strings.TrimPrefix(text, "go: ")
	text = strings.TrimPrefix(text, "module ")
	if rest, ok := strings.CutPrefix(text, path); ok {
		// PATH: or PATH@VERSION: where the version, asked for or found, has no colon.
		if version, after, ok := strings.Cut(rest, ": "); ok && (version == "" || version[0] == '@') {
			return after
		}
	}
	return text
}

// classify makes the Error of a text that the go command ended with.
func classify(req goproxy.Request, text string) *Error {
	e := &Error{Request: req, Text: text}
	p := plain(strings.TrimRight(text, "\n"), req)
	switch {
	case missingVersion.MatchString(p), missingPath.MatchString(p), missingRepo.MatchString(p):
		e.Cause = Missing
	case toolText.MatchString(p):
		e.Cause = Tool
		e.Hint = "Install the command (git, for most modules) and put it on the PATH of the sluice process."
	case tooNewText.MatchString(p):
		e.Cause = Tool
		e.Hint = "Install Go " + tooNewText.FindStringSubmatch(p)[1] + " or newer for the sluice process; only modules in Git can be fetched with an older one."
	case unresolvedText.MatchString(p):
		e.Cause = Unresolved
		m := unresolvedText.FindStringSubmatch(p)
		e.Host = cmp.Or(m[1], m[2])
	case refusedText.MatchString(p):
		e.Cause = Refused
		e.Hint = "This is a safety rule: see `go help vcs` for GOVCS, and set GOINSECURE for modules whose server has nothing better than http."
	case authText.MatchString(p):
		e.Cause = Auth
		e.Hint = "Sluice answers no prompts: put the host's credentials into the netrc file (https), or the key into the ssh agent and the host into known_hosts (ssh), of the user that runs it."
	}
	return e
}

const maxText = 4 << 10 // bytes of an Error's text

var (
	escapes   = regexp.MustCompile("\x1b(\\[[0-9;?]*[ -/]*[@-~]|\\][^\x07\x1b]*(\x07|\x1b\\\\)?)")
	userInfo  = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^/\s'"]*)@`)
	secretArg = regexp.MustCompile(`(?i)([?&;][^=&\s'"]*(?:token|key|secret|passw|sig|auth|credential)[^=&\s'"]*=)[^&\s'"]+`)
	blank     = regexp.MustCompile(`\n\s*\n`)
)

// clean makes a command's text fit for strangers' eyes and for the go command's
// terminal: no credentials, none of our directories, valid UTF-8 without control
// characters or empty lines (the go command stops at the first), at most maxText.
func clean(text string, dirs ...string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = escapes.ReplaceAllString(text, "")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r':
			return '\n'
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, text)
	for _, d := range dirs {
		// "git … in DIR: exit status 128" reads as well without the place.
		text = regexp.MustCompile(`( in )?`+regexp.QuoteMeta(d)+`[^\s:'"]*`).ReplaceAllString(text, "")
	}
	text = userInfo.ReplaceAllStringFunc(text, func(s string) string {
		m := userInfo.FindStringSubmatch(s)
		if m[2] == "git" { // a name that every ssh host knows, and no secret
			return s
		}
		return m[1]
	})
	text = secretArg.ReplaceAllString(text, "${1}xxxxx")
	text = strings.TrimSpace(blank.ReplaceAllString(text, "\n"))
	if len(text) > maxText {
		cut := maxText - len("…")
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return text
}
