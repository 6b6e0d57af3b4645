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
	for name, log := range map[string]string{
		"a slash in it":           fmt.Sprintf(timeoutOf, user+front+"/"+back+"@proxy.example.com/a"),
		"broken by a line end":    fmt.Sprintf(timeoutOf, user+front+"\n"+back+"@proxy.example.com/a"),
		"broken, and indented":    fmt.Sprintf(timeoutOf, user+front+" "+back+"@proxy.example.com/a"),
		"the text ends in it":     "dial tcp 203.0.113.4:443: i/o timeout: Get \"" + user + front,
		"a line that is too long": strings.Repeat("x", maxLine-len(user+front)) + user + front + back + "@proxy.example.com/a: dial tcp 203.0.113.4:443: i/o timeout",
		"a line of long words":    strings.Repeat("x ", (maxLine-len(user+front))/2) + " " + user + front + back + "@proxy.example.com/a: dial tcp 203.0.113.4:443: i/o timeout",
	} {
		r := Text(log)
		if !r.Known() {
			t.Errorf("%s: unknown", name)
		}
		for _, s := range append([]string{r.Line, r.Host, r.Module, r.Mend}, r.Fix...) {
			if strings.Contains(s, front) || strings.Contains(s, back) {
				t.Errorf("%s: shown is %q", name, s)
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

func TestALineIsReadToItsEndWhateverItBeginsWith(t *testing.T) {
	r := Text(strings.Repeat("status .go: ", 300) + "dial tcp 203.0.113.4:443: i/o timeout")
	if r.Cause != "connect-timeout" {
		t.Errorf("%q by %q", r.Cause, r.Line)
	}
}
