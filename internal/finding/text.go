package finding

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What the go command shows of an error body is 8 lines and 648 bytes, a tab
// before each line but the first counted in; it stops at a blank line, and drops
// the whole body for one character that is not printable.
const (
	maxLines = 8
	maxBytes = 640
	maxTitle = 120 // bytes; the rest of a title can be spared, unlike what follows it
)

// Body is f as the text/plain body of an error answer, made so that the go
// command shows all of it: what failed, the details, why, "fix: " with what to
// do and the commands for it, and "code: " with the code as the last line. It has
// no newline at the end.
//
// Details are evidence, most telling first: one attempt each, or the text of
// another program. They may come from anywhere: Body redacts them, makes them
// printable and shortens them to what room is left. A command is left out rather
// than shortened, as somebody may paste it.
func Body(f Finding, details ...string) string {
	b := body{lines: maxLines, bytes: maxBytes}

	// What must not be missing is reserved first, whatever its place.
	code := b.reserve("code: ", oneLine(string(f.Code)))
	title := b.reserve("", cut(oneLine(f.Title), maxTitle))
	mend := b.reserve("fix: ", oneLine(f.Mend))
	why := b.reserve("", oneLine(f.Why))
	var fix []string
	for _, cmd := range f.Fix {
		// One line stays free for the evidence.
		if cmd = oneLine(cmd); b.lines > 1 && len("  ")+len(cmd) < b.bytes {
			fix = append(fix, b.reserve("  ", cmd))
		}
	}
	out := append([]string{title}, b.evidence(details)...)
	out = append(out, why, mend)
	out = append(out, fix...)
	out = append(out, code)
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), "\n")
}

// body is the room that is left in an error body.
type body struct{ lines, bytes int }

// reserve takes the room for one line of prefix and text, shortened to what is
// left. It returns "" for no text or no room.
func (b *body) reserve(prefix, text string) string {
	room := b.bytes - len(prefix) - 1
	if text == "" || b.lines == 0 || room < len("…") {
		return ""
	}
	line := prefix + cut(text, room)
	b.lines--
	b.bytes -= len(line) + 1
	return line
}

// evidence fits the lines of the details into the room that is left: an equal
// share each, what one does not use going to the next, and those for which no
// line is left together on the last one. The dash keeps a hostile detail from
// passing for a fix or a code.
func (b *body) evidence(details []string) []string {
	var all []string
	for _, d := range details {
		all = append(all, cleanLines(d)...)
	}
	if n := b.lines; n > 0 && len(all) > n {
		all = append(all[:n-1:n-1], strings.Join(all[n-1:], "; "))
	}
	var out []string
	for i, line := range all {
		share := b.bytes/(len(all)-i) - len("- ") - 1
		if share < 8 {
			break // a word would not fit
		}
		out = append(out, b.reserve("- ", cut(line, share)))
	}
	return out
}

// cut shortens s to at most n bytes, between characters, and marks that it did.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	if n < 0 {
		return ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimRight(s[:n], " ") + "…"
}

// escapes are terminal control sequences: colours, cursor moves, window titles.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)`)

// maxDetail is how much of one detail is looked at, in bytes, after redaction; no
// body holds more.
const maxDetail = 16 << 10

// Printable is s redacted and without what a terminal must not be sent: lines of
// printable characters and spaces, sixteen kilobytes of them at most.
//
// Redaction comes after the invisible characters are gone, as they could hide a
// secret from it, and before anything is cut, as half a secret looks like none.
func Printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.ContainsRune(s, '\x1b') {
		s = escapes.ReplaceAllString(s, "")
	}
	return cut(Redact(strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\n':
			return '\n'
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsGraphic(r):
			return r
		}
		return -1
	}, s)), maxDetail)
}

// cleanLines is what is printable of s, with single spaces and without blank lines.
func cleanLines(s string) []string {
	var lines []string
	for line := range strings.SplitSeq(Printable(s), "\n") {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func oneLine(s string) string { return strings.Join(cleanLines(s), " ") }

const mask = "***"

// redactions find the secrets that module downloads are known to print. Each
// keeps what stands before the secret, group 1, and after it, group 2. It is
// tried where one of its hints occurs in the text in lower case.
var redactions = [...]struct {
	hints []string
	re    *regexp.Regexp
}{
	// Authorization: Basic …, also as git's http.extraheader and in JSON
	{[]string{"authorization", "-token", "api-key", "cookie"}, regexp.MustCompile(
		`(?i)(\b(?:authorization["']?\s*[:=]|(?:private-token|job-token|x-auth-token|x-api-key|cookie)["']?\s*:)\s*["']?)[^\s"'][^\r\n"']*()`)},
	{[]string{"bearer"}, regexp.MustCompile(`(?i)(\bbearer\s+)[a-z0-9._~+/=-]{8,}()`)},
	// https://user:password@host; a password with a slash is wrong, and printed all the same
	{[]string{"@"}, regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#"'<>]*(@)`)},
	{[]string{"@"}, regexp.MustCompile(
		`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#:@\["'<>]+:[^\s/?#@"'<>]*[^\s/?#@0-9"'<>][^\s/?#@"'<>]*[/?#][^\s@"'<>]*(@)`)},
	// user:password@host without a scheme, as proxy variables allow
	{[]string{"@"}, regexp.MustCompile(`((?:^|[\s=("']))[^\s/:@"'=()]+:[^\s/@"']+(@[\pL0-9\[])`)},
	// ?access_token=…, X-Amz-Signature=…, password=…
	{[]string{"="}, regexp.MustCompile(
		`(?i)(\b[a-z0-9_.-]*(?:token|secret|password|passwd|api_?key|signature|credential|jwt|googleaccessid)=)[^\s&;"'<>#]+()`)},
	{[]string{"="}, regexp.MustCompile(`(?i)([?&;](?:key|sig|auth|code|pwd|pass|pat|session|state)=)[^\s&;"'<>#]+()`)},
	// netrc
	{[]string{"password"}, regexp.MustCompile(`(?i)(\b(?:machine\s+\S+|default)\s+login\s+\S+\s+password\s+)\S+()`)},
	// tokens that are known by their shape
	{[]string{"gh", "glpat-", "eyj"}, regexp.MustCompile(
		`(\b)(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)()`)},
}

// Redact replaces the secrets in s by ***: user and password in URLs, tokens and
// signatures in query strings, the values of Authorization headers and cookies,
// netrc passwords, and tokens that are known by their shape. It is for text that
// people or logs will see. Redact(Redact(s)) == Redact(s).
func Redact(s string) string {
	for {
		// What one rule takes away can be what kept another from matching. Each round
		// that changes something leaves less that is not a star, so this ends.
		red := redactOnce(s)
		if red == s {
			return s
		}
		s = red
	}
}

func redactOnce(s string) string {
	low := strings.ToLower(s)
	has := func(hint string) bool { return strings.Contains(low, hint) }
	for _, r := range redactions {
		if slices.ContainsFunc(r.hints, has) {
			s = r.re.ReplaceAllString(s, "${1}"+mask+"${2}")
		}
	}
	return s
}
