package server_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
)

var update = flag.Bool("update", false, "write the table in README.md anew")

// TestTheTableOfAnswersIsTrue asks a cold server for each kind of file while its
// only source answers in each way, and holds README.md to the outcome.
func TestTheTableOfAnswersIsTrue(t *testing.T) {
	w := modtest.New(t)
	w.Add("example.com/m", "v1.0.0", modtest.Files{"m.go": "package m\n"})
	w.SetQuery("example.com/m", "main", "v1.0.0")
	db := openDB(t, w.SumDB("sum.example.com"), store.NewMem())
	columns := []struct{ name, path string }{
		{"list", "/example.com/m/@v/list"}, {"latest", "/example.com/m/@latest"}, {"branch", "/example.com/m/@v/main.info"},
		{"info", "/example.com/m/@v/v1.0.0.info"}, {"mod", "/example.com/m/@v/v1.0.0.mod"}, {"zip", "/example.com/m/@v/v1.0.0.zip"},
	}
	rows := []struct {
		name   string
		fault  string // "" for none
		source string // in place of the world
	}{
		{name: "200"},
		{name: "404", fault: "404"}, {name: "410", fault: "410"}, {name: "401", fault: "401"}, {name: "403", fault: "403"},
		{name: "407", fault: "407"}, {name: "429", fault: "429"}, {name: "500", fault: "500"}, {name: "502", fault: "502"},
		{name: "503", fault: "503"}, {name: "504", fault: "504"}, {name: "400", fault: "400"}, {name: "204", fault: "204"},
		{name: "refuses connections", source: "http://127.0.0.1:1"},
		{name: "resets the connection", fault: "reset"},
		{name: "accepts, never answers", fault: "hang"},
		{name: "stops midway", fault: "hang-body=50%"},
		{name: "breaks off midway", fault: "cut=50%"},
		{name: "redirects in a circle", fault: "redirect-loop"},
		{name: "200, an HTML page", fault: "html"},
		{name: "200, empty", fault: "empty"},
		{name: "200, half of it", fault: "short=50%"},
	}
	var table strings.Builder
	table.WriteString("| The source |")
	for _, c := range columns {
		table.WriteString(" " + c.name + " |")
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	cells := make([][]string, len(rows))
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for i, row := range rows {
		cells[i] = make([]string, len(columns))
		source := row.source
		if source == "" {
			h := w.Handler()
			if row.fault != "" {
				f, err := faults.Parse(row.fault)
				if err != nil {
					t.Fatal(err)
				}
				h = faults.Handler(h, faults.Always(f))
			}
			source = modtest.Serve(t, h).URL
		}
		for j, c := range columns {
			wg.Go(func() {
				// Each cell has a house of its own, so that nothing is remembered.
				places <- struct{}{}
				defer func() { <-places }()
				timeout := time.Minute // of no consequence
				if strings.HasPrefix(row.fault, "hang") {
					timeout = 300 * time.Millisecond // what the row is about
				}
				h := build(t, plan{source: source, timeout: timeout, sums: db})
				rec := h.GET(c.path)
				cells[i][j] = fmt.Sprint(rec.Code)
				// An empty list is a good answer: that of a module without tags.
				if rec.Code == http.StatusOK && row.name != "200" && (c.name != "list" || row.fault != "empty") && rec.Body.String() != truth(w, c.name) {
					t.Errorf("source %s, %s: 200 with %q", row.name, c.name, rec.Body)
				}
				if rec.Code >= 400 && rec.Header().Get("X-Sluice-Code") == "" {
					t.Errorf("source %s, %s: %d without a code", row.name, c.name, rec.Code)
				}
			})
		}
	}
	wg.Wait()
	for i, row := range rows {
		fmt.Fprintf(&table, "| %s | %s |\n", row.name, strings.Join(cells[i], " | "))
	}

	const file, begin, end = "../../README.md", "<!-- answers:begin -->\n", "<!-- answers:end -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table between %q and %q", file, begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table.String() {
		t.Errorf("the table in README.md is out of date; go test ./internal/server -run Table -update writes it anew. It is now:\n%s", table.String())
	}
}

func truth(w *modtest.World, what string) string {
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	switch what {
	case "list":
		return "v1.0.0\n"
	case "mod":
		return string(w.Mod(m))
	case "zip":
		return string(w.Zip(m))
	}
	return string(w.Info(m))
}
