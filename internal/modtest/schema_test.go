package modtest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/modtest"
)

const letterSchema = `{
	"type": "object", "required": ["to", "pages"], "additionalProperties": false,
	"properties": {
		"to": { "type": "string", "pattern": "^[A-Z]" },
		"kind": { "enum": ["card", "letter"] },
		"form": { "const": "letter/1" },
		"pages": { "type": "array", "items": { "type": "object", "required": ["n"], "properties": { "n": { "type": "number" } } } }
	}
}`

// readSchema reads a schema as a test does that may fail.
func readSchema(t *testing.T, text string) (s *modtest.Schema, err error) {
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	err = modtest.Scoped(t.Context(), t.TempDir(), func(t *modtest.Scope) { s = modtest.ReadSchema(t, file) })
	return s, err
}

func TestASchemaSaysWhatIsNotAsItSays(t *testing.T) {
	s, err := readSchema(t, letterSchema)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"to": "Ann", "pages": [{"n": 1}], "kind": "card", "form": "letter/1"}`: "",
		`{"pages": []}`:                                  "x: to is missing",
		`{"to": "ann", "pages": []}`:                     "x.to: ann is not of the form ^[A-Z]",
		`{"to": 1, "pages": []}`:                         "x.to: 1 is no string",
		`{"to": "Ann", "pages": [], "kind": "x"}`:        "x.kind: x is none of [card letter]",
		`{"to": "Ann", "pages": [], "form": "x"}`:        "x.form: x is not letter/1",
		`{"to": "Ann", "pages": [], "cc": "Bob"}`:        "x: cc is not in the schema",
		`{"to": "Ann", "pages": {}}`:                     "x.pages: map[] is no array",
		`{"to": "Ann", "pages": [{"n": 1}, {"n": "1"}]}`: "x.pages[1].n: 1 is no number",
		`{"to": "Ann", "pages": [{}]}`:                   "x.pages[0]: n is missing",
		`[]`:                                             "x: [] is no object",
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.Check("x", v), "\n"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if _, err := readSchema(t, `{"type": "object", "minProperties": 1}`); err == nil || !strings.Contains(err.Error(), "minProperties") {
		t.Errorf("a word that is not checked is taken: %v", err)
	}
}

func TestASchemaKnowsTheFieldsOfAType(t *testing.T) {
	type page struct {
		N float64 `json:"n"`
	}
	type letter struct {
		To    string `json:"to"`
		Pages []page `json:"pages"`
		Draft bool
	}
	type longer struct {
		To    string `json:"to"`
		Pages []struct {
			N float64 `json:"n"`
			M float64 `json:"m"`
		} `json:"pages"`
	}
	s, err := readSchema(t, `{ "required": ["to", "pages"], "properties": { "to": {}, "pages": { "items": { "required": ["n"], "properties": { "n": {} } } } } }`)
	if err != nil {
		t.Fatal(err)
	}
	knows := func(of reflect.Type) error {
		return modtest.Scoped(t.Context(), t.TempDir(), func(t *modtest.Scope) { s.Knows(t, of) })
	}
	if err := knows(reflect.TypeFor[letter]()); err != nil {
		t.Error(err)
	}
	if err := knows(reflect.TypeFor[longer]()); err == nil || !strings.Contains(err.Error(), "longer.pages[] lacks m") {
		t.Errorf("%v", err)
	}
	if err := knows(reflect.TypeFor[page]()); err == nil || !strings.Contains(err.Error(), "the schema of page lacks n") {
		t.Errorf("%v", err)
	}
	if of := s.Of(t, "pages"); !slices.Equal(of.Required, []string{"n"}) {
		t.Errorf("%+v", of)
	}
}
