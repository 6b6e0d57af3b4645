package main

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheChangesOfThisTreeAreInForm(t *testing.T) {
	changes, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile("../../" + logFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := insert(log, section("v9.9.9", changes)); err != nil {
		t.Error(err)
	}
}

func TestMistakesAreNamedAllAtOnce(t *testing.T) {
	_, err := read(fstest.MapFS{
		dir + "/0001-good.md":     {Data: []byte("kind: added\n\nOne thing.\n")},
		dir + "/0001-again.md":    {Data: []byte("kind: fixed\n\nAnother.\n")},
		dir + "/0002-kind.md":     {Data: []byte("kind: nice\n\nText.\n")},
		dir + "/0003-open.md":     {Data: []byte("kind: added\n\nNo full stop\n")},
		dir + "/0004-empty.md":    {Data: []byte("kind: added\n")},
		dir + "/0005-headline.md": {Data: []byte("kind: added\n\n# Big\n\nText.\n")},
		dir + "/notes.txt":        {Data: []byte("x")},
	})
	if err == nil {
		t.Fatal("no mistake was seen")
	}
	for _, want := range []string{"0001-good.md: 0001-again.md has this number", "0002-kind.md: the first line", "0003-open.md: after the kind", "0004-empty.md: ", "0005-headline.md: a change has no headings", "notes.txt: a change is named"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

func TestAReleaseListsItsChangesByKindAboveTheOlderOnes(t *testing.T) {
	changes, err := read(fstest.MapFS{
		dir + "/0002-b.md": {Data: []byte("kind: fixed\n\nMended.\n")},
		dir + "/0001-a.md": {Data: []byte("kind: added\n\nFirst line,\nsecond line.\n\nSecond paragraph.\n")},
		dir + "/0003-c.md": {Data: []byte("kind: added\n\nMore.\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := insert([]byte("# Changelog\n\n"+marker+"\n\n## v0.1.0\n"), section("v0.2.0", changes))
	if err != nil {
		t.Fatal(err)
	}
	const want = `# Changelog

` + marker + `

## v0.2.0

### Added

- First line,
  second line.

  Second paragraph.
- More.

### Fixed

- Mended.

## v0.1.0
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
