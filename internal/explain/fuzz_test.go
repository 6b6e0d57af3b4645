package explain

import (
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/finding"
)

// checkResult demands what holds of every text.
func checkResult(t *testing.T, r Result) {
	t.Helper()
	if !r.Known() {
		if r.Line != "" || r.Number != 0 || r.Confidence != "" {
			t.Errorf("nothing is known, but %+v", r)
		}
		return
	}
	if _, ok := finding.Lookup(r.Code); !ok {
		t.Errorf("code %s is not in the catalogue", r.Code)
	}
	if r.Number < 1 {
		t.Errorf("line %d", r.Number)
	}
	if r.Confidence != finding.High && r.Confidence != finding.Medium && r.Confidence != finding.Low {
		t.Errorf("confidence %q", r.Confidence)
	}
	if r.Code == finding.NotModules && (r.Mend != "" || len(r.Fix) > 0) {
		t.Errorf("a fix is invented: %q %q", r.Mend, r.Fix)
	}
	for _, s := range append([]string{r.Line, r.Host, r.Module, r.Version}, r.Fix...) {
		if len(s) > 2*maxShown || !utf8.ValidString(s) {
			t.Errorf("%d bytes are shown, or no text: %q", len(s), s)
		}
		if i := strings.IndexFunc(s, func(c rune) bool { return c != '\n' && c != ' ' && !unicode.IsGraphic(c) }); i >= 0 {
			t.Errorf("a terminal would act on %q", s)
		}
		if finding.Redact(s) != s {
			t.Errorf("not redacted: %q", s)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(m.Log)
	}
	for _, s := range []string{"\xff\xfeg\x00o\x00:\x00", "\x1b[31m\x1b]0;t\x07\x9b3m", "{\"log\":\"go: x\\n\"}", strings.Repeat("a", 40000), "https://u:p@h/@v/list: 404 Not Found", "reading https://[::1:404", "server response:\n\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkResult(t, Text(s))
		const secret = "pw7Zq9secretX"
		r := Text(s + "\ngo: a.example/b@v1.0.0: Get \"https://bot:" + secret + "@git.example.com/a\": dial tcp 203.0.113.4:443: i/o timeout\n")
		for _, text := range append([]string{r.Line, r.Host, r.Module}, r.Fix...) {
			if strings.Contains(text, secret) {
				t.Errorf("after %q the password is shown: %q", s, text)
			}
		}
	})
}

func TestHostileTextsAreReadToTheEnd(t *testing.T) {
	timeout := "go: a.example/b@v1.0.0: Get \"https://proxy.example.com/a\": dial tcp 203.0.113.4:443: i/o timeout\n"
	for name, s := range map[string]string{
		"noise before":         string(binary(1<<20)) + "\n" + timeout,
		"one long line before": strings.Repeat("x", 5<<20) + "\n" + timeout,
		"cut in the middle":    strings.TrimSuffix(timeout, "out\n") + "out",
		"Latin-1":              "Fehler: f\xfcr das Verzeichnis\n" + timeout,
		"half a character":     "fehlgeschlagen f\xc3\n" + timeout,
		"control sequences":    "\x1b]8;;https://evil.example\x1b\\\x1b[2J\x1b[1;31m" + timeout + "\x1b[0m",
		"overwritten lines":    "Receiving objects:  10%\rReceiving objects: 100%, done.\r\n" + timeout,
		"two million lines":    strings.Repeat("ok\n", 2_000_000) + timeout,
	} {
		r := Text(s)
		checkResult(t, r)
		if r.Cause != finding.CauseConnectTimeout || !strings.Contains(r.Line, "203.0.113.4:443: i/o timeout") {
			t.Errorf("%s: %q by %q", name, r.Cause, r.Line)
		}
	}
	if r := Text(string(binary(1 << 20))); r.Known() {
		t.Errorf("noise means %q by %q", r.Cause, r.Line)
	}
	if r := Text(""); r.Known() {
		t.Errorf("nothing means %q", r.Cause)
	}
}

// binary is n bytes that look like no text, the same each time.
func binary(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func TestUTF16IsReadWithAndWithoutAMark(t *testing.T) {
	log := "go: a.example/b@v1.0.0: Get \"https://proxy.example.com/ä\": dial tcp 203.0.113.4:443: i/o timeout\r\n"
	for _, big := range []bool{false, true} {
		for _, mark := range []string{"\ufeff", ""} {
			var b strings.Builder
			for _, r := range mark + log {
				pair := [2]byte{byte(r), byte(r >> 8)}
				if big {
					pair[0], pair[1] = pair[1], pair[0]
				}
				b.Write(pair[:])
			}
			r := Text(b.String())
			if r.Cause != finding.CauseConnectTimeout || !strings.Contains(r.Line, "/ä") {
				t.Errorf("big-endian %v, mark %q: %q by %q", big, mark, r.Cause, r.Line)
			}
		}
	}
}

// What a text is in memory for does not grow with it.
func TestALogOfAnySizeIsReadInBoundedMemory(t *testing.T) {
	line := []byte("2024-05-06T07:08:09Z go: downloading github.com/x/y v1.2.3\n")
	r, err := Read(io.MultiReader(io.LimitReader(repeat{line}, 32<<20), strings.NewReader("\ngo: github.com/a/b@v9.9.9: invalid version: unknown revision v9.9.9\n")))
	if err != nil || r.Cause != finding.CauseVersionUnknownRevision {
		t.Errorf("%q, %v", r.Cause, err)
	}
}

// repeat reads one thing for ever.
type repeat struct{ b []byte }

func (r repeat) Read(p []byte) (int, error) {
	n := 0
	for n+len(r.b) <= len(p) {
		n += copy(p[n:], r.b)
	}
	if n == 0 {
		n = copy(p, r.b)
	}
	return n, nil
}

func TestWhatIsAskedForIsToldFromWhoAnswers(t *testing.T) {
	for _, tt := range []struct{ log, host, module, version string }{
		{`go: github.com/a/b@v1.2.3 (replaced by github.com/c/b@v1.2.4): Get "https://proxy.example.com:8443/github.com/c/b/@v/v1.2.4.mod": dial tcp 203.0.113.9:8443: i/o timeout`, "proxy.example.com:8443", "github.com/c/b", "v1.2.4"},
		{`reading https://proxy.example.com/github.com/!azure/b/@v/v1.0.0.info: 404 Not Found`, "proxy.example.com", "github.com/Azure/b", "v1.0.0"},
		{"git@git.corp.example: Permission denied (publickey).", "git.corp.example", "", ""},
		{"ssh: connect to host git.corp.example port 22: Connection timed out", "git.corp.example", "", ""},
		{`Get "https://proxy.example.com/x/@v/list": proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused`, "10.0.0.1:3128", "", ""},
	} {
		r := Text(tt.log)
		if r.Host != tt.host || tt.module != "" && r.Module != tt.module || r.Version != tt.version {
			t.Errorf("%s: host %q, module %q, version %q", tt.log, r.Host, r.Module, r.Version)
		}
	}
}

func TestTheFirstIndependentErrorWins(t *testing.T) {
	r := Text("go: a.example/b@v1.0.0: Get \"https://proxy.example.com/a\": dial tcp 203.0.113.4:443: i/o timeout\nmain.go:3:8: missing go.sum entry for module providing package a.example/b\n")
	if r.Cause != finding.CauseConnectTimeout || r.Number != 1 {
		t.Errorf("%q by line %d", r.Cause, r.Number)
	}
}

// What Sluice says of itself in the body of an answer is what it is.
func TestAnAnswerOfSluiceIsTakenAtItsWord(t *testing.T) {
	for _, e := range finding.Catalogue() {
		body := finding.Body(finding.Of(e.Code), "source proxy.example.com: it went wrong")
		r := Text("go: example.com/a@v1.0.0: reading http://127.0.0.1:7070/example.com/a/@v/v1.0.0.mod: 502 Bad Gateway\n\tserver response:\n\t" + strings.ReplaceAll(body, "\n", "\n\t") + "\nexit status 1\n")
		if r.Code != e.Code {
			t.Errorf("%s is read as %q by line %d %q", e.Code, r.Code, r.Number, r.Line)
		}
	}
}
