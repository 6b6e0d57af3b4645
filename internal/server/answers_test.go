package server_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

var update = flag.Bool("update", false, "write the tables of answers in README.md and docs/answers.md anew")

// What Sluice answers for each trouble of its one source, with nothing in the
// store, is documented, and the documentation is this test's output: README.md has
// the statuses, docs/answers.md the codes and what becomes of large zips too.
func TestAnswersToEachTroubleOfASource(t *testing.T) {
	small := module.Version{Path: "answers.test/m", Version: "v1.0.0"}
	large := module.Version{Path: "answers.test/large", Version: "v1.0.0"}
	columns := []struct{ name, path string }{
		{"list", "/answers.test/m/@v/list"},
		{"@latest", "/answers.test/m/@latest"},
		{"branch.info", "/answers.test/m/@v/main.info"},
		{".info", at(small, ".info")},
		{".mod", at(small, ".mod")},
		{".zip", at(small, ".zip")},
		{".zip over 1 MiB", at(large, ".zip")},
	}
	rows := []struct {
		name  string
		fault string
	}{
		{"200, right", "none"},
		{"404", "404"}, {"410", "410"}, {"400", "400"}, {"401", "401"}, {"403", "403"}, {"407", "407"}, {"429, Retry-After: 7", "429=7"},
		{"500", "500"}, {"502", "502"}, {"503", "503"}, {"504", "504"},
		{"connection refused", "refused"}, {"connection reset", "reset"},
		{"no answer within `sources.timeout`", "hang"},
		{"the body stops midway", "hang-body=50%"},
		{"the body ends early", "cut=50%"},
		{"redirects without end", "redirect-loop"},
		{"200, an HTML page", "html"}, {"200, empty", "empty"}, {"204", "204"},
		{"200, half of it", "short=50%"},
		{"200, the wrong file", "lie"},
	}
	short := len(columns) - 1 // columns of README.md
	var b, readme strings.Builder
	head := func(b *strings.Builder, n int) {
		b.WriteString("| The source |")
		for _, c := range columns[:n] {
			fmt.Fprintf(b, " %s |", c.name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", n) + "\n")
	}
	head(&b, len(columns))
	head(&readme, short)
	cells := 0
	fill := func(t *testing.T, name, fault string, waits bool) {
		fmt.Fprintf(&b, "| %s |", name)
		fmt.Fprintf(&readme, "| %s |", name)
		var p parts
		if waits {
			p.inBubble, p.budget = true, 30*time.Second
		}
		lies := fault == "lie"
		liar := modtest.New(t)
		liar.Add(small.Path, small.Version, modtest.Files{"go.mod": "module answers.test/m\n\ngo 1.2\n", "evil.go": "package evil\n", ".info": `{"Version":"v2.0.0"}`})
		liar.SetQuery(small.Path, "main", small.Version)
		liar.Big(large.Path, large.Version, 3<<20)
		switch fault {
		case "refused":
			dead := modtest.Serve(t, nil)
			dead.Stop()
			p.sources = []upstream.Source{httpSource(t, dead.URL, 0)}
		case "lie":
			p.sources = []upstream.Source{httpSource(t, modtest.Serve(t, liar.Handler()).URL, 0)}
		}
		r := newRig(t, p)
		r.w.Add(small.Path, small.Version, nil)
		r.w.SetQuery(small.Path, "main", small.Version)
		r.w.Big(large.Path, large.Version, 3<<19) // half of it is a small one
		if fault != "refused" && !lies {
			r.spoil(fault)
		}
		answers := make([]got, len(columns))
		var wg sync.WaitGroup
		for i, c := range columns {
			end, ok := midway[fault]
			if ok = ok && c.path == at(large, ".zip"); ok {
				answers[i] = r.midway(t, liar, large, lies, end, p)
				continue
			}
			wg.Go(func() { answers[i] = r.get(c.path) })
		}
		wg.Wait()
		for i, g := range answers {
			cell := fmt.Sprint(g.status)
			if code := g.header.Get("X-Sluice-Code"); code != "" {
				cell += " " + code
			}
			if g.header.Get("Retry-After") != "" {
				cell += ", Retry-After"
			}
			if g.err != nil {
				cell = "broken off"
			}
			fmt.Fprintf(&b, " %s |", cell)
			if i < short {
				fmt.Fprintf(&readme, " %d |", g.status)
			}
			cells++
			// The rules behind the table.
			missing := fault == "404" || fault == "410"
			if g.status == 0 || (g.status == 404 || g.status == 410) != missing {
				t.Errorf("%s, %s: %v", name, columns[i].name, g)
			}
			if g.status == 500 {
				t.Errorf("%s, %s: that is not our fault: %v", name, columns[i].name, g)
			}
		}
		b.WriteString("\n")
		readme.WriteString("\n")
	}
	for _, row := range rows {
		if waits := strings.HasPrefix(row.fault, "hang"); waits {
			synctest.Test(t, func(t *testing.T) { fill(t, row.name, row.fault, waits) }) // where nothing else makes anybody late
		} else {
			fill(t, row.name, row.fault, waits)
		}
	}
	t.Logf("%d cells", cells)
	documented(t, "../../README.md", readme.String())
	documented(t, "../../docs/answers.md", b.String())
}

// documented demands that a file has this table, or writes it there.
func documented(t *testing.T, file, table string) {
	t.Helper()
	const begin, end = "<!-- answers:begin -->\n", "<!-- answers:end -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Errorf("%s has no place for the table between %q and %q", file, begin, end)
	case old == table:
	case !*update:
		t.Errorf("%s is not what Sluice answers; go test ./internal/server -run Answers -update writes it anew:\n%s", file, table)
	default:
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// midway are the ends that a large zip may come to after its beginning.
var midway = map[string]func(http.ResponseWriter, *http.Request, []byte){
	"hang-body=50%": func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() },
	"cut=50%":       func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) },
	"lie":           func(w http.ResponseWriter, _ *http.Request, rest []byte) { w.Write(rest) },
}

// midway asks another Sluice for the zip of m, the beginning of which has reached
// the client when the source comes to its end.
func (r *rig) midway(t *testing.T, liar *modtest.World, m module.Version, lies bool, end func(http.ResponseWriter, *http.Request, []byte), p parts) got {
	data := r.w.Zip(m)
	if lies {
		data = liar.Zip(m)
	}
	begun := make(chan struct{})
	source := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != at(m, ".zip") {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:len(data)/2])
		http.NewResponseController(w).Flush()
		<-begun
		end(w, req, data[len(data)/2:])
	})
	if p.inBubble {
		p.sources = []upstream.Source{pipedSource(t, source, p.budget)}
	} else {
		p.sources = []upstream.Source{httpSource(t, modtest.Serve(t, source).URL, 0)}
	}
	other := newRig(t, p)
	other.w.Big(m.Path, m.Version, 3<<19)
	other.answered = func() { close(begun) }
	return other.get(at(m, ".zip"))
}
