package modtest

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A Schema is a JSON Schema that we publish: of the format, the part that ours use.
type Schema struct {
	Type                 string            `json:"type"`
	Const                any               `json:"const"`
	Enum                 []any             `json:"enum"`
	Pattern              string            `json:"pattern"`
	Required             []string          `json:"required"`
	Properties           map[string]Schema `json:"properties"`
	AdditionalProperties *bool             `json:"additionalProperties"`
	Items                *Schema           `json:"items"`
	Description          string            `json:"description"`
	Title                string            `json:"title"`
	Schema               string            `json:"$schema"`
}

// ReadSchema reads a schema from a file. A word in it that Check does not know fails the
// test, since what nobody checks would be promised in vain.
func ReadSchema(t testing.TB, file string) *Schema {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s Schema
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return &s
}

// Accepts fails the test where v, written as JSON, is not as the schema says.
func (s *Schema) Accepts(t testing.TB, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var x any
	if err := json.Unmarshal(data, &x); err != nil {
		t.Fatal(err)
	}
	if bad := s.Check("report", x); len(bad) > 0 {
		t.Errorf("%s\nin %s", strings.Join(bad, "\n"), data)
	}
}

// Check lists, in a sentence each, where v is not as the schema says. It is as
// encoding/json reads into an any; at is its name.
func (s *Schema) Check(at string, v any) (bad []string) {
	say := func(format string, args ...any) { bad = append(bad, at+": "+fmt.Sprintf(format, args...)) }
	is := ""
	switch v := v.(type) {
	case map[string]any:
		is = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				say("%s is missing", name)
			}
		}
		for name, x := range v {
			p, ok := s.Properties[name]
			if !ok && s.AdditionalProperties != nil && !*s.AdditionalProperties {
				say("%s is not in the schema", name)
			}
			bad = append(bad, p.Check(at+"."+name, x)...)
		}
	case []any:
		is = "array"
		for i, x := range v {
			if s.Items != nil {
				bad = append(bad, s.Items.Check(fmt.Sprintf("%s[%d]", at, i), x)...)
			}
		}
	case string:
		is = "string"
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			say("%v is not of the form %s", v, s.Pattern)
		}
	case float64:
		is = "number"
	}
	switch {
	case s.Type != "" && s.Type != is:
		say("%v is no %s", v, s.Type)
	case s.Const != nil && v != s.Const:
		say("%v is not %v", v, s.Const)
	case s.Enum != nil && !slices.Contains(s.Enum, v):
		say("%v is none of %v", v, s.Enum)
	}
	return bad
}

// Knows fails the test unless the schema has each field of a struct, and of those in it,
// and no other, all of them required.
func (s *Schema) Knows(t testing.TB, of reflect.Type) {
	t.Helper()
	s.knows(t, of.Name(), of)
}

func (s *Schema) knows(t testing.TB, at string, of reflect.Type) {
	t.Helper()
	switch {
	case of.Kind() == reflect.Slice:
		if s.Items == nil {
			t.Errorf("%s: the schema does not say of what", at)
			return
		}
		s.Items.knows(t, at+"[]", of.Elem())
		return
	case of.Kind() != reflect.Struct || s.Type == "string": // a time is one
		return
	}
	n := 0
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		n++
		p, ok := s.Properties[name]
		if !ok || !slices.Contains(s.Required, name) {
			t.Errorf("the schema of %s lacks %s", at, name)
		}
		p.knows(t, at+"."+name, f.Type)
	}
	if n != len(s.Properties) || n != len(s.Required) {
		t.Errorf("%s has %d fields, and the schema %d, of which %d are required", at, n, len(s.Properties), len(s.Required))
	}
}

// Words fails the test unless the schema has these words to choose from, in this order.
func (s *Schema) Words(t testing.TB, what string, want ...string) {
	t.Helper()
	var list []any
	for _, w := range want {
		list = append(list, w)
	}
	if !reflect.DeepEqual(list, s.Enum) {
		t.Errorf("%s: the schema has %v, want %v", what, s.Enum, list)
	}
}

// Of is the schema of what lies below, by the names of fields: "rows" of a list is that
// of one of them.
func (s *Schema) Of(t testing.TB, names ...string) *Schema {
	t.Helper()
	for _, name := range names {
		p, ok := s.Properties[name]
		if !ok {
			t.Fatalf("the schema has no %s", name)
		}
		if s = &p; p.Items != nil {
			s = p.Items
		}
	}
	return s
}
