//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/modsluice/sluice/internal/drill"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

var update = flag.Bool("update", false, "drill every fault, and write the table in docs/drill.md anew")

// TestTheDocumentationDrillsEveryFault keeps a row for each fault in
// docs/drill.md, which with -update is what a drill of it reports now.
func TestTheDocumentationDrillsEveryFault(t *testing.T) {
	const file, begin, end = "../../docs/drill.md", "<!-- drills:begin -->\n", "<!-- drills:end -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		table = drillAll(t)
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	rows := 0
	for _, i := range faults.All() {
		if row := fmt.Sprintf("| `%s` | %s |", drilled(i), strings.ReplaceAll(i.Doc, "|", `\|`)); strings.Contains(table, row) {
			rows++
		} else {
			t.Errorf("%s has no row %s\nwrite it with go test ./cmd/sluice -run Documentation -update -timeout 30m", file, row)
		}
	}
	if n := strings.Count(table, "\n"); n != rows+2 {
		t.Errorf("%s has %d rows, want %d", file, n-2, rows)
	}
}

// drilled is the fault of that name as the table has it.
func drilled(i faults.Info) string {
	if _, err := faults.Parse(i.Name); err != nil {
		return i.Example
	}
	return i.Name
}

// drillAll drills each fault before the first of two sources.
func drillAll(t *testing.T) string {
	w := scriptWorld(t)
	for _, m := range []string{"example.com/Upper@v0.2.0", "example.com/dep@v1.1.0"} { // for faults that need another version
		path, version, _ := strings.Cut(m, "@")
		w.Add(path, version, modtest.Files{"other.go": "package other\n"})
	}
	db := w.SumDB("127.0.0.1")
	w.Mount(db)
	a, b, sums := modtest.Serve(t, w.Handler()), modtest.Serve(t, w.Handler()), modtest.Serve(t, db)
	dir := t.TempDir()
	if err := writeApp(w, dir); err != nil {
		t.Fatal(err)
	}
	report := func(fault, chain string, flags ...string) drill.Report {
		var out, log bytes.Buffer
		e := &env{environ: modtest.GoEnv(t, chain, db.GOSUMDB(""), "SLUICE_GOSUMDB="+db.GOSUMDB(sums.URL)), dir: dir, stdout: &out, stderr: &log}
		args := append([]string{"drill", fault, "--json", "--for", "8s"}, flags...)
		run(t.Context(), e, append(args, "--", "go", "mod", "download"))
		var r drill.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Errorf("%s, %s: %v\n%s", fault, chain, err, &log)
		}
		return r
	}
	cell := func(r drill.Report, name string) string {
		for _, run := range r.Runs {
			switch {
			case run.Name != name:
			case !run.Worked:
				return "fails"
			case run.Ended:
				return "hangs"
			default:
				return "works"
			}
		}
		return "–"
	}
	var tab strings.Builder
	tab.WriteString("| Fault | What it does | go, `a,b` | go, `a\\|b` | through Sluice, `a,b` |\n|---|---|---|---|---|\n")
	for _, i := range faults.All() {
		fault := drilled(i)
		var comma, bar drill.Report
		var wg sync.WaitGroup
		wg.Go(func() { comma = report(fault, a.URL+","+b.URL, "--through-sluice") })
		wg.Go(func() { bar = report(fault, a.URL+"|"+b.URL) })
		wg.Wait()
		fmt.Fprintf(&tab, "| `%s` | %s | %s | %s | %s |\n", fault, strings.ReplaceAll(i.Doc, "|", `\|`),
			cell(comma, drill.Bare), cell(bar, drill.Bare), cell(comma, drill.Through))
	}
	return tab.String()
}
