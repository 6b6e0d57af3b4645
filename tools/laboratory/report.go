//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"
)

// A report is what is told of a run.
type report struct {
	Machine string    `json:"machine"`
	When    string    `json:"when"`
	Took    float64   `json:"took"` // seconds
	Missed  int       `json:"missed"`
	Results []*result `json:"results"`
}

func newReport(results []*result, took time.Duration) *report {
	rep := &report{
		Machine: machine(),
		When:    time.Now().UTC().Format(time.DateOnly), Took: took.Seconds(), Results: results,
	}
	for _, r := range results {
		if !r.good() {
			rep.Missed++
		}
	}
	return rep
}

func (rep *report) missed() int { return rep.Missed }

func (rep *report) summary() string {
	return fmt.Sprintf("%d of %d scenarios are not as they must be, in %.0f s\n", rep.Missed, len(rep.Results), rep.Took)
}

// kinds are the parts of the page, in order.
var kinds = []struct{ kind, title string }{
	{"single", "One fault"}, {"double", "Two faults"}, {"healthy", "Nothing wrong"},
}

// markdown is the page of a run.
func (rep *report) markdown() string {
	var b strings.Builder
	count := map[string]int{}
	pasted, byHand, again, slowest, slowestWell := 0, 0, 0, 0.0, 0.0
	for _, r := range rep.Results {
		count[r.Kind]++
		if r.Again {
			again++
		}
		for _, x := range r.Rounds {
			if x.ByHand != "" {
				byHand++
			} else {
				pasted++
			}
		}
		slowest, slowestWell = max(slowest, r.Took), max(slowestWell, r.Well)
	}
	fmt.Fprintf(&b, `# The laboratory

What `+"`sluice doctor`"+` says of broken networks, settings and machines, and whether what it says mends them: made by
`+"`go run ./tools/laboratory -o docs/laboratory.md`"+` on %s (%s), in %d s.

Each scenario has network, mount and process namespaces of its own, with real parts: dnsmasq, nginx, squid with a login, mitmproxy,
git http-backend, routes and packet filters, a checksum database, certificates of authorities that this machine trusts and does not
trust, and the real go command. The clock is wrong by certificates and servers that have another time.

**%d scenarios: %d with one fault, %d with two, %d in which nothing is wrong. %d are not as they must be.** The bars:

- Before, `+"`go mod download`"+` fails, unless *modules come*.
- The first finding is what was planted, and none stands beside it that was not. The code is doctor's; where *explain* is written, it is that of
  `+"`sluice explain`"+` over what the go command printed, and doctor finds nothing, or the same.
- The fix works: %d were pasted as the JSON has them, %d are a sentence for people, who did what it says.
  The toolchain's own source is a well mirror here, and so are proxy.example.com and mirror.example.com, which a person puts in for YOUR-PROXY and YOUR-MIRROR; words in capitals were filled in where that is told.
  Commands were pasted into a shell, lines for a Dockerfile into that, and what builds it is a stand-in for docker with the programs that the base image has.
- After it, the same go command passes, and doctor no longer says what it said.
- Where nothing is wrong there is no finding at all.
- doctor contacted no address, and asked for no name, that the settings do not name: the packet filter and the name servers counted.
- doctor ends within 8 s, whatever is dropped, and within 1.5 s where it has nothing to say.

The slowest doctor took %.1f s, and the slowest that had nothing to say %.1f s, from start to end; several scenarios ran at once, and %d of
them once more alone.
`, rep.When, rep.Machine, int(rep.Took), len(rep.Results), count["single"], count["double"], count["healthy"], rep.Missed, pasted, byHand, slowest/1000, slowestWell/1000, again)
	for _, k := range kinds {
		if count[k.kind] == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", k.title)
		if k.kind == "healthy" {
			b.WriteString("| Situation | | doctor | s |\n|---|---|---|---|\n")
		} else {
			b.WriteString("| Situation | | Said first | Fix | After | s |\n|---|---|---|---|---|---|\n")
		}
		for _, r := range rep.Results {
			if r.Kind != k.kind {
				continue
			}
			after := "passes"
			if !r.good() {
				after = "✗ " + cell(strings.Join(r.wrong(), "; "))
			}
			if k.kind == "healthy" {
				if after == "passes" {
					after = "nothing to say"
				}
				fmt.Fprintf(&b, "| %s | %s | %s | %.1f |\n", cell(r.Title), r.Rows, after, r.Took/1000)
				continue
			}
			var said, fixes []string
			for _, x := range r.Rounds {
				s := string(x.Code)
				if x.By == "explain" {
					s += " (explain)"
				}
				said, fixes = append(said, s), append(fixes, x.fix())
			}
			title := cell(r.Title)
			if r.Comes {
				title += "; *modules come*"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %.1f |\n", title, r.Rows, strings.Join(said, ", then "), strings.Join(fixes, "; then "), after, r.Took/1000)
		}
	}
	return b.String()
}

// fix is how a round's was made.
func (x *round) fix() string {
	if x.ByHand != "" {
		return "by hand: " + cell(x.ByHand)
	}
	var code []string
	for _, c := range x.Pasted {
		code = append(code, "`"+cell(c)+"`")
	}
	s := "pasted: "
	if x.Into != "" {
		s = "pasted into the " + x.Into + ": "
	}
	s += strings.Join(code, " ")
	if x.Filled != "" {
		s += " (" + x.Filled + " filled in)"
	}
	return s
}

// cell makes a text fit into a table.
func cell(s string) string {
	s = strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
	if i := strings.Index(s, "/tmp/"); i >= 0 { // of the laboratory's own files only the last name means anything
		words := strings.Fields(s)
		for i, w := range words {
			if at := strings.Index(w, "/tmp/"); at >= 0 {
				rest := w[at:]
				words[i] = w[:at] + "…" + rest[max(0, strings.LastIndexByte(strings.TrimRight(rest, "'"), '/')):]
			}
		}
		s = strings.Join(words, " ")
	}
	return s
}
