// Command conformjudge reads the result of the conformance program and says whether
// it is good enough to land: every check of the levels must and should passes. Those
// of level bonus that do not are named.
//
//	go run ./tools/conformjudge result.json
//
// Exit status: 0 yes, 1 no, 2 no result to judge.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: conformjudge RESULT.json")
		os.Exit(2)
	}
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformjudge:", err)
		os.Exit(2)
	}
	switch bad, err := judge(data, os.Stdout); {
	case err != nil:
		fmt.Fprintf(os.Stderr, "conformjudge: %s: %v\n", os.Args[1], err)
		os.Exit(2)
	case bad > 0:
		os.Exit(1)
	}
}

type check struct {
	ID     string   `json:"id"`
	Level  string   `json:"level"`
	Why    string   `json:"why"`
	Result string   `json:"result"` // pass, fail, n/a, broken
	Fails  []string `json:"fails"`
}

// judge prints a summary of the report and returns how many checks forbid landing.
// A level or a result that it does not know forbids it, too.
func judge(report []byte, w io.Writer) (bad int, err error) {
	var r struct {
		Results []*check `json:"results"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return 0, fmt.Errorf("not a report of the conformance program: %w", err)
	}
	if len(r.Results) == 0 {
		return 0, errors.New("the report has no results, so nothing was checked")
	}
	count := map[string]map[string]int{} // level, result
	for _, c := range r.Results {
		if c == nil {
			c = &check{ID: "(a check without result)", Level: "must", Result: "broken"}
		}
		if count[c.Level] == nil {
			count[c.Level] = map[string]int{}
		}
		count[c.Level][c.Result]++
		switch {
		case c.Result == "pass":
		case c.Result == "n/a":
			fmt.Fprintf(w, "n/a    %-6s %s\n", c.Level, c.ID)
		case c.Level == "bonus" && (c.Result == "fail" || c.Result == "broken"):
			fmt.Fprintf(w, "%-6s bonus  %s: %s\n", c.Result, c.ID, c.Why)
		default:
			bad++
			fmt.Fprintf(w, "%-6s %-6s %s: %s\n", strings.ToUpper(c.Result), c.Level, c.ID, c.Why)
			for _, f := range c.Fails {
				fmt.Fprintf(w, "         %s\n", strings.ReplaceAll(f, "\n", "\n         "))
			}
		}
	}
	for _, level := range []string{"must", "should", "bonus"} {
		n := count[level]
		fmt.Fprintf(w, "%-6s %d pass, %d fail, %d broken, %d n/a\n", level, n["pass"], n["fail"], n["broken"], n["n/a"])
	}
	return bad, nil
}
