//go:build unix

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pageCommands are the commands of a page: what stands behind a $ in an indented line, and
// every code span that begins with sluice and is more than its name.
func pageCommands(page string) (list []string) {
	add := func(c string) {
		if c = strings.TrimSpace(c); !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	for line := range strings.Lines(page) {
		if c, ok := strings.CutPrefix(line, "    $ "); ok {
			add(c)
			continue
		}
		for _, m := range regexp.MustCompile("`(sluice [^`]+)`").FindAllStringSubmatch(line, -1) {
			add(m[1])
		}
	}
	return list
}

// Who opens that page is in a hurry: what it says to type is what a test types.
func TestEveryCommandOfThePageForEmergenciesIsRun(t *testing.T) {
	page, err := os.ReadFile("../../docs/broken-now.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/broken_now.txtar")
	if err != nil {
		t.Fatal(err)
	}
	run := map[string]bool{}
	for line := range strings.Lines(string(script)) {
		if m := regexp.MustCompile(`^(?:!? ?exec|status \d) (.*)$`).FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			run[strings.ReplaceAll(m[1], "$SOURCE", "https://proxy.example.com")] = true
		}
	}
	list := pageCommands(string(page))
	if len(list) < 20 {
		t.Errorf("only %d commands were found on the page: %q", len(list), list)
	}
	for _, c := range list {
		if c == "sluice use" { // named, not to be typed so
			continue
		}
		if !run[c] {
			t.Errorf("docs/broken-now.md says %q, and broken_now.txtar does not run it", c)
		}
	}
}

func TestTheHelpOfRescueAndTheReadmeLeadToThePageForEmergencies(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "(docs/broken-now.md)") {
		t.Error("the README does not lead to docs/broken-now.md")
	}
	if long := newRescue(&env{}).Long; !strings.Contains(long, "docs/broken-now.md") {
		t.Errorf("sluice help rescue does not name docs/broken-now.md:\n%s", long)
	}
}
