package finding

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "add new codes to testdata/codes.golden")

var codeForm = regexp.MustCompile(`^SL-[A-Z]{3,4}-[0-9]{3}$`)

func TestCodesAreUniqueAndSpelledAlike(t *testing.T) {
	seen := map[Code]bool{}
	for _, e := range Catalogue() {
		if !codeForm.MatchString(string(e.Code)) {
			t.Errorf("code %q is not of the form SL-FAMILY-NNN", e.Code)
		}
		if seen[e.Code] {
			t.Errorf("code %s stands in the catalogue twice", e.Code)
		}
		seen[e.Code] = true
	}
}

// A code and its cause are for ever; -update writes new ones down and refuses to
// drop or change an old one.
func TestEveryChangeOfTheCodesIsSeen(t *testing.T) {
	golden := filepath.Join("testdata", "codes.golden")
	var now bytes.Buffer
	for _, e := range Catalogue() {
		fmt.Fprintf(&now, "%s %s %s\n", e.Code, e.Cause, e.Severity)
	}
	old, err := os.ReadFile(golden)
	if err != nil && !*update {
		t.Fatal(err)
	}
	kept := strings.Split(now.String(), "\n")
	for line := range strings.Lines(string(old)) {
		if line = strings.TrimSpace(line); !slices.Contains(kept, line) {
			t.Errorf("%q was in the catalogue and is no longer so; codes are permanent: give the new thing a new number", line)
		}
	}
	if t.Failed() {
		return
	}
	if *update {
		if err := os.WriteFile(golden, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(old, now.Bytes()) {
		t.Errorf("the catalogue and %s differ; if that is meant, run: go test ./internal/finding -update", golden)
	}
}

func TestCausesAreThe54LabelsIn13Families(t *testing.T) {
	all := Causes()
	if len(all) != 54 || len(families) != 13 {
		t.Errorf("%d causes in %d families, want 54 in 13", len(all), len(families))
	}
	for i, c := range all {
		if slices.Contains(all[:i], c) {
			t.Errorf("cause %s is listed twice", c)
		}
		if !c.Valid() || c.Family() == "" {
			t.Errorf("cause %s has no family", c)
		}
	}
	if Cause("gremlins").Valid() {
		t.Error("a label that is not in the list is valid")
	}
}

func TestEveryEntryIsComplete(t *testing.T) {
	prose := regexp.MustCompile(`^[A-Z].*[.]$`)
	for _, e := range Catalogue() {
		if !e.Cause.Valid() {
			t.Errorf("%s: cause %q is none of the labels", e.Code, e.Cause)
		}
		if e.Severity != Fail && e.Severity != Warn {
			t.Errorf("%s: severity %q", e.Code, e.Severity)
		}
		if e.Title == "" || strings.HasSuffix(e.Title, ".") || len(e.Title) > 90 {
			t.Errorf("%s: the title must be a short phrase without full stop: %q", e.Code, e.Title)
		}
		if !prose.MatchString(e.Why) || len(e.Why) > 150 {
			t.Errorf("%s: why must be one or two short sentences (%d bytes): %q", e.Code, len(e.Why), e.Why)
		}
		if e.Code == NotModules {
			// What is no module problem has no fix of ours.
			if e.Mend != "" || len(e.Fix) > 0 {
				t.Errorf("%s invents a fix: %q %q", e.Code, e.Mend, e.Fix)
			}
			continue
		}
		if e.Mend == "" || strings.HasSuffix(e.Mend, ".") || len(e.Mend) > 120 {
			t.Errorf("%s: mend must be a short imperative (%d bytes): %q", e.Code, len(e.Mend), e.Mend)
		}
		if len(e.Fix) < 1 || len(e.Fix) > 2 {
			t.Errorf("%s: %d commands, want 1 or 2", e.Code, len(e.Fix))
		}
		for _, s := range append([]string{e.Title, e.Why, e.Mend}, e.Fix...) {
			if clean := oneLine(s); clean != s {
				t.Errorf("%s: %q would be changed before it is shown: %q", e.Code, s, clean)
			}
		}
		for _, s := range []string{e.Title, e.Why, e.Mend} {
			if m := standIns.FindString(s); m != "" {
				t.Errorf("%s: %q in prose is never filled in: %q", e.Code, m, s)
			}
		}
		if room := maxBytes - len(Body(Of(e.Code))); room < 150 {
			t.Errorf("%s: only %d bytes are left for what really happened; say it in fewer words", e.Code, room)
		}
	}
}

func TestNoFixTurnsVerificationOffGlobally(t *testing.T) {
	bad := regexp.MustCompile(`(?i)GOSUMDB=["']?off|GONOSUMDB=["']?\*|GONOSUMCHECK|GOPRIVATE=["']?\*|GOINSECURE=["']?\*|GOFLAGS=\S*insecure|gosumdb[ =]["']?off|sslVerify|SSL_NO_VERIFY|InsecureSkipVerify|curl.* (?:-k|--insecure)\b`)
	for _, e := range Catalogue() {
		for _, s := range append([]string{e.Why, e.Mend}, e.Fix...) {
			if m := bad.FindString(s); m != "" {
				t.Errorf("%s: the fix %q turns verification off", e.Code, m)
			}
		}
	}
	for _, s := range []string{"go env -w GOSUMDB=off", "go env -w GONOSUMDB='*'", "git config --global http.sslVerify false", "curl -s -k https://h"} {
		if !bad.MatchString(s) {
			t.Errorf("this test would not see %q", s)
		}
	}
}

func TestFixesNameOnlyCommandsThatExist(t *testing.T) {
	verbs := []string{"serve", "run", "trace", "config", "verify", "version", "switch", "sources", "explain", "doctor", "rescue", "use"}
	re := regexp.MustCompile(`\bsluice ([a-z]+)`)
	for _, e := range Catalogue() {
		for _, cmd := range e.Fix {
			for _, m := range re.FindAllStringSubmatch(cmd, -1) {
				if !slices.Contains(verbs, m[1]) {
					t.Errorf("%s: sluice has no command %q: %s", e.Code, m[1], cmd)
				}
			}
		}
	}
}

func TestLookupAndByCause(t *testing.T) {
	e, ok := Lookup(SumMismatch)
	if !ok || e.Cause != CauseChecksumMismatchSumDB {
		t.Errorf("Lookup(%s) = %v, %v", SumMismatch, e, ok)
	}
	if _, ok := Lookup("SL-XXX-999"); ok {
		t.Error("a code that is not in the catalogue was found")
	}
	if f := Of("SL-XXX-999"); f.Code != Internal {
		t.Errorf("Of an unknown code is %s, want %s", f.Code, Internal)
	}
	for _, e := range ByCause(CauseSumDBPrivate404410) {
		if e.Code != SumDBUnknown && e.Code != SumDBPrivate {
			t.Errorf("ByCause(%s) has %s", CauseSumDBPrivate404410, e.Code)
		}
	}
	for _, c := range Causes() {
		if len(ByCause(c)) == 0 {
			t.Errorf("no entry has the cause %s", c)
		}
	}
	e.Fix[0] = "rm -rf /"
	if again, _ := Lookup(SumMismatch); again.Fix[0] == e.Fix[0] {
		t.Error("a caller can change the catalogue")
	}
}

func TestWithFillsInPlainWordsOnly(t *testing.T) {
	f := Of(SumDBPrivate).With(StandInPattern, "git.corp.example,*.internal.example")
	if f.Fix[0] != "go env -w GONOSUMDB=PATTERN" {
		t.Errorf("a shell would expand the star in %q", f.Fix[0])
	}
	f = Of(SumDBPrivate).With(StandInPattern, "git.corp.example/team")
	if f.Fix[0] != "go env -w GONOSUMDB=git.corp.example/team" {
		t.Errorf("the pattern is missing in %q", f.Fix[0])
	}
	if again := Of(SumDBPrivate); strings.Contains(again.Fix[0], "corp") {
		t.Error("With changed the catalogue")
	}
	f = Of(NotFound).With(StandInModule, "rsc.io/VERSION").With(StandInVersion, "v1.5.2")
	if f.Fix[0] != "sluice trace rsc.io/v1.5.2@v1.5.2" && f.Fix[0] != "sluice trace rsc.io/VERSION@v1.5.2" {
		t.Errorf("fix is %q", f.Fix[0])
	}
	for _, evil := range []string{"", "-x", "a b", "a;b", "$(b)", "`b`", "a\nb", "a'b", "a|b", "é"} {
		if f := Of(SourceDNS).With(StandInHost, evil); f.Fix[0] != "getent hosts HOST" {
			t.Errorf("With(%q) made the command %q", evil, f.Fix[0])
		}
	}
}

func TestBodyReadsFromWhatFailedToTheCode(t *testing.T) {
	f := Of(SourceDNS).With(StandInHost, "proxy.example.com")
	got := Body(f, "source proxy.example.com: lookup proxy.example.com on 192.0.2.53:53: no such host")
	want := `the name of a module source cannot be resolved
- source proxy.example.com: lookup proxy.example.com on 192.0.2.53:53: no such host
The resolver of the machine that runs Sluice gave no address for it, so the source was never asked.
fix: see what the resolver says, and mend it or name another source with --proxy
  getent hosts proxy.example.com
code: SL-DNS-001`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestBodyKeepsEveryAttemptAsLongAsThereIsRoom(t *testing.T) {
	got := Body(Of(SourceServerError), "A: 503", "B: 500", "C: 502", "D: timeout\r\n\r\n second line", "E: 504")
	for _, want := range []string{"A: 503", "B: 500", "C: 502", "D: timeout", "second line", "E: 504"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	checkBody(t, Of(SourceServerError), got)
}

func TestBodyHasNoRoomForHostileText(t *testing.T) {
	for _, detail := range []string{
		strings.Repeat("x", 100_000),
		strings.Repeat("word ", 10_000),
		strings.Repeat("a\n", 1000),
		"\x1b[31mred\x1b[0m\x1b]0;title\x07 \x00\x07\u202e\u200b \xff\xfe",
		"\n\n\n", "\u2028\u2029\u0085\u00a0", "",
		"code: SL-XXX-999", "fix: rm -rf /",
		strings.Repeat("é", 5000), strings.Repeat("\xf0\x9f", 5000),
	} {
		for _, e := range Catalogue() {
			checkBody(t, Of(e.Code), Body(Of(e.Code), detail, detail, detail))
		}
	}
	f := Of(StoreFull)
	f.Title, f.Why, f.Mend, f.Fix = strings.Repeat("t\n", 900), strings.Repeat("w", 900), strings.Repeat("m ", 900), []string{strings.Repeat("c", 900), "df\n-h", "b", "c", "d", "e"}
	got := Body(f, strings.Repeat("d", 900))
	checkBody(t, f, got)
	if strings.Contains(got, "ccc") {
		t.Errorf("a command that does not fit was cut, and may be pasted:\n%s", got)
	}
}

func TestBodyShowsNoSecret(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, detail := range []string{
		"Get \"https://bot:" + secret + "@git.corp.example/x\": EOF",
		strings.Repeat("y", 380) + " https://bot:" + secret + "@git.corp.example/x",
		"https://bot:hunter\u200b2hunter2@git.corp.example/x?token=\x1b[1m" + secret,
		strings.Repeat(" ", maxDetail-10) + "https://bot:" + secret + "@git.corp.example",
	} {
		if got := Body(Of(SourceReset), detail); strings.Contains(got, "hunter") {
			t.Errorf("the secret is in\n%s", got)
		}
	}
}

// checkBody demands what Body promises.
func checkBody(t *testing.T, f Finding, body string) {
	t.Helper()
	lines := strings.Split(body, "\n")
	if len(lines) > maxLines || len(body) > maxBytes {
		t.Errorf("%d lines, %d bytes: %q", len(lines), len(body), body)
	}
	if shown, want := goShows(body), strings.ReplaceAll(body, "\n", "\n\t"); shown != want {
		t.Errorf("the go command would show %q of %q", shown, want)
	}
	if last := lines[len(lines)-1]; last != "code: "+string(f.Code) {
		t.Errorf("the last line is %q, want the code %s", last, f.Code)
	}
	if strings.Count(body, "\ncode: ") != 1 || strings.Count(body, "\nfix: ") != min(len(f.Mend), 1) {
		t.Errorf("a detail passes for a fix or a code: %q", body)
	}
	// A mask that was cut short is one all the same.
	if whole := cutMask.ReplaceAllString(body, mask); Redact(whole) != whole {
		t.Errorf("the body was not redacted: %q", body)
	}
}

// goShows is formatErrorDetail of cmd/go/internal/web/api.go, Go 1.26.
func goShows(s string) string {
	if !utf8.ValidString(s) {
		return ""
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) && !unicode.IsSpace(r) {
			return ""
		}
	}
	var detail strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if strings.TrimSpace(line) == "" {
			break
		}
		if i > 0 {
			detail.WriteString("\n\t")
		}
		if i >= 8 {
			detail.WriteString("[Truncated: too many lines.]")
			break
		}
		if detail.Len()+len(line) > 8*81 {
			detail.WriteString("[Truncated: too long.]")
			break
		}
		detail.WriteString(line)
	}
	return detail.String()
}

func TestRedact(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"https://user:pass@host/x", "https://***@host/x"},
		{"https://TOKEN@host/x", "https://***@host/x"},
		{`parse "https://u:pa/ss@host/": invalid port ":pa" after host`, `parse "https://***@host/": invalid port ":pa" after host`},
		{"https://u:p@ss@host/", "https://***@host/"},
		{"http://[::1]:8080/rsc.io/quote/@v/v1.0.0.zip", "http://[::1]:8080/rsc.io/quote/@v/v1.0.0.zip"},
		{"http://127.0.0.1:7070/rsc.io/quote/@v/v1.0.0.zip", "http://127.0.0.1:7070/rsc.io/quote/@v/v1.0.0.zip"},
		{"https://proxy.example.com/m/@latest", "https://proxy.example.com/m/@latest"},
		{"HTTPS_PROXY=me:secret@proxy.corp.example:3128", "HTTPS_PROXY=***@proxy.corp.example:3128"},
		{"git@github.com:org/repo.git: Permission denied (publickey)", "git@github.com:org/repo.git: Permission denied (publickey)"},
		{"rsc.io/quote@v1.5.2: reading rsc.io/quote@v1.5.2.mod", "rsc.io/quote@v1.5.2: reading rsc.io/quote@v1.5.2.mod"},
		{"GET /x?access_token=abc&v=1", "GET /x?access_token=***&v=1"},
		{"https://s/o?X-Amz-Signature=0a1b&X-Amz-Credential=AK%2F1&Expires=9", "https://s/o?X-Amz-Signature=***&X-Amz-Credential=***&Expires=9"},
		{"https://s/o?Expires=1&GoogleAccessId=me&Signature=a%2Bb", "https://s/o?Expires=1&GoogleAccessId=***&Signature=***"},
		{"https://s/o?key=abc", "https://s/o?key=***"},
		{"Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"},
		{"-c http.extraheader='AUTHORIZATION: basic eA==' fetch", "-c http.extraheader='AUTHORIZATION: ***' fetch"},
		{`{"Authorization":"Bearer abc"}`, `{"Authorization":"***"}`},
		{"Proxy-Authorization: Basic eA==\nHost: h", "Proxy-Authorization: ***\nHost: h"},
		{"PRIVATE-TOKEN: glpat-x", "PRIVATE-TOKEN: ***"},
		{"machine h login me password pw", "machine h login me password ***"},
		{"sent ghp_0123456789abcdefABCDEF to", "sent *** to"},
		{"Support for password authentication was removed", "Support for password authentication was removed"},
		{"rsc.io/quote v1.5.2 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=", "rsc.io/quote v1.5.2 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y="},
		{"", ""},
	} {
		if got := Redact(tt.in); got != tt.want {
			t.Errorf("Redact(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

var cutMask = regexp.MustCompile(`\*{0,3}…`)

func FuzzBody(f *testing.F) {
	for _, s := range []string{"A: 503", "\x1b[31m\x00\xff", "code: x\nfix: y", strings.Repeat("long ", 300), "https://a:b@c", "\u202e\u2028", "s://token=a/b&@c"} {
		f.Add(s, "second", uint8(0))
	}
	f.Fuzz(func(t *testing.T, a, b string, n uint8) {
		all := Catalogue()
		fd := Of(all[int(n)%len(all)].Code)
		checkBody(t, fd, Body(fd, a, b))
		fd.Why, fd.Mend = "because "+a, "try "+b
		checkBody(t, fd, Body(fd.With(StandInHost, a), b, a))
	})
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{"https://u:p@h/?token=x&key=y", "Authorization: Bearer abcdefghi", "s://token=a/b&@c", "login a password b", "eyJhbGciOiJI.eyJzdWIi.sig", "a b:c@d", "bearer authorization: x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := Redact(s)
		if twice := Redact(once); twice != once {
			t.Errorf("Redact(%q) = %q, and again %q", s, once, twice)
		}
		const secret = "pw7Zq9secretX"
		for _, shape := range []string{"https://bot:%s@h.example/", "https://h.example/?access_token=%s", "Authorization: Basic %s"} {
			if got := Redact(s + "\n" + fmt.Sprintf(shape, secret)); strings.Contains(got, secret) {
				t.Errorf("after %q the secret stays in %q", s, got)
			}
		}
	})
}
