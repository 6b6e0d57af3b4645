//go:build unix

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The examples of docs/explain.md are blocks of indented lines: a command behind $,
// and what it prints.
func TestTheExamplesInTheDocsOfExplainAreTrue(t *testing.T) {
	doc, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	lines := strings.Split(string(doc), "\n")
	for i := 0; i < len(lines); i++ {
		cmd, ok := strings.CutPrefix(lines[i], "    $ ")
		if !ok {
			continue
		}
		var want []string
		for ; i+1 < len(lines) && (lines[i+1] == "" || strings.HasPrefix(lines[i+1], "    ")) && !strings.HasPrefix(lines[i+1], "    $ "); i++ {
			want = append(want, strings.TrimPrefix(lines[i+1], "    "))
		}
		c := exec.CommandContext(t.Context(), "sh", "-c", cmd) // testscript.Main has put sluice on the PATH
		c.Dir = t.TempDir()
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
		if got, want := strings.TrimSpace(string(out)), strings.TrimSpace(strings.Join(want, "\n")); got != want {
			t.Errorf("%s\nprints\n%s\nand the docs say\n%s", cmd, got, want)
		}
		n++
	}
	if n < 5 {
		t.Errorf("only %d examples were found", n)
	}
}
