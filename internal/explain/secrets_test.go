package explain

import (
	"fmt"
	"strings"
	"testing"
)

const timeoutOf = `go: a.example/b@v1.0.0: Get "%s": dial tcp 203.0.113.4:443: i/o timeout` + "\n"

// A password loses its shape where a log is broken, by us or by others.
func TestHalfAPasswordIsNotShown(t *testing.T) {
	const user, front, back = "https://bot:", "hunTer7", "paSSw0rd"
	const end = "@proxy.example.com/a: dial tcp 203.0.113.4:443: i/o timeout"
	wide := strings.Repeat("wide ", 50) + "\n" // not of a width at which lines are broken
	for _, tt := range []struct{ name, log, host string }{
		{"a slash in it", fmt.Sprintf(timeoutOf, user+front+"/"+back+"@proxy.example.com:8443/a"), "proxy.example.com:8443"},
		{"broken by a line end", fmt.Sprintf(timeoutOf, user+front+"\n"+back+"@proxy.example.com/a"), ""},
		{"broken in a wide text", wide + "fetching " + user + front + "\n" + back + end, ""},
		{"broken by a space", fmt.Sprintf(timeoutOf, user+front+" "+back+"@proxy.example.com/a"), ""},
		{"the text ends in it", "dial tcp 203.0.113.4:443: i/o timeout: Get \"" + user + front, ""},
		{"a line that is too long", strings.Repeat("x", maxLine-len(user+front)) + user + front + back + end, ""},
		{"one cut behind digits", strings.Repeat("x", maxLine-len(user+"12")) + user + "12" + back + end, ""},
		{"a line of short words", strings.Repeat("x ", maxLine/2-10) + user + front + back + end, "proxy.example.com"},
	} {
		r := Text(tt.log)
		if !r.Known() {
			t.Errorf("%s: unknown", tt.name)
		}
		if tt.host != "" && r.Host != tt.host {
			t.Errorf("%s: the host is %q", tt.name, r.Host)
		}
		for _, s := range append([]string{r.Line, r.Host, r.Module, r.Mend}, r.Fix...) {
			if strings.Contains(s, front) || strings.Contains(s, back) {
				t.Errorf("%s: shown is %q", tt.name, s)
			}
		}
	}
}

func TestAPortIsNoPassword(t *testing.T) {
	r := Text("proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused: http://proxy.example.com:3128")
	if !strings.HasSuffix(r.Line, "http://proxy.example.com:3128") {
		t.Errorf("%q", r.Line)
	}
}

func TestLinesAreCountedAsInTheFile(t *testing.T) {
	timeout := fmt.Sprintf(timeoutOf, "https://proxy.example.com/a")
	for name, before := range map[string]string{
		"plain lines":         "a\nb\n",
		"a long line":         strings.Repeat("x y ", 8<<10) + "\nb\n",
		"lines in JSON":       `{"log":"a\nb\nc\nd"}` + "\nb\n",
		"overwritten lines":   "10%\r20%\r30%\nb\n",
		"lines of Windows":    "a\r\nb\r\n",
		"many chunks of text": strings.Repeat("x", 3<<20) + "\nb\n",
	} {
		if r := Text(before + timeout); r.Number != 3 || !strings.Contains(r.Line, "i/o timeout") {
			t.Errorf("%s: line %d, %q", name, r.Number, r.Line)
		}
	}
}

func TestALineInJSONHasTheNumberOfTheObject(t *testing.T) {
	r := Text("a\n{\"log\":\"x\\ny\\ndial tcp 203.0.113.4:443: i/o timeout\"}\nb\n")
	if r.Number != 2 || r.Cause != "connect-timeout" {
		t.Errorf("%q by line %d", r.Cause, r.Number)
	}
}

func TestALineIsReadToItsEndWhateverItBeginsWith(t *testing.T) {
	r := Text(strings.Repeat("status .go: ", 300) + "dial tcp 203.0.113.4:443: i/o timeout")
	if r.Cause != "connect-timeout" {
		t.Errorf("%q by %q", r.Cause, r.Line)
	}
}
