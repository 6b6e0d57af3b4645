package bench

import (
	"fmt"
	"strings"
	"testing"
)

func TestWithoutANetworkThatIsSaidOnceAndOfNoMirror(t *testing.T) {
	unreachable := func(host string) Measured {
		return Measured{Name: host, Verdict: Dead, Code: "SL-DNS-001", Text: fmt.Sprintf("nothing comes from it: the name of a module source cannot be resolved (dial tcp: lookup %s on 192.0.2.53:53: dial udp 192.0.2.53:53: connect: network is unreachable)", host)}
	}
	a, b := unreachable("a.example"), unreachable("b.example")
	if notes := (&Report{Mirrors: []Measured{a, b}}).Notes(); len(notes) != 1 || !strings.Contains(notes[0], "there is no network") || strings.Contains(notes[0], "a.example") {
		t.Errorf("%q", notes)
	}
	dead := b
	dead.Text = "nothing comes from it: a module source refuses connections"
	good := b
	good.Verdict = Good
	for name, list := range map[string][]Measured{"one is dead for another reason": {a, dead}, "one works": {a, good}, "there is only one": {a}} {
		for _, note := range (&Report{Mirrors: list}).Notes() {
			if strings.Contains(note, "there is no network") {
				t.Errorf("%s: %q", name, note)
			}
		}
	}
}
