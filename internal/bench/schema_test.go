package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/faults"
)

// A schema is the part of JSON Schema that ours uses.
type schema struct {
	Type                 string            `json:"type"`
	Const                any               `json:"const"`
	Enum                 []any             `json:"enum"`
	Pattern              string            `json:"pattern"`
	Required             []string          `json:"required"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties *bool             `json:"additionalProperties"`
	Items                *schema           `json:"items"`
	Description          string            `json:"description"`
	Title                string            `json:"title"`
	Schema               string            `json:"$schema"`
}

func (s *schema) check(at string, v any) (bad []string) {
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
			bad = append(bad, p.check(at+"."+name, x)...)
		}
	case []any:
		is = "array"
		for i, x := range v {
			if s.Items != nil {
				bad = append(bad, s.Items.check(fmt.Sprintf("%s[%d]", at, i), x)...)
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

func published(t *testing.T) *schema {
	t.Helper()
	f, err := os.Open("../../docs/bench.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s schema
	d := json.NewDecoder(f)
	d.DisallowUnknownFields() // what we do not check would be promised in vain
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestEveryReportIsAsThePublishedSchemaSays(t *testing.T) {
	sch := published(t)
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("lossy", faults.Handler(s.world.Handler(), every(t, 3, "503")))
	s.add("lying", s.faulty("flip"))
	s.add("dead", s.world.Handler()).Stop()
	well := s.run()
	s.plan.Mirrors = s.plan.Mirrors[3:] // nothing comes at all
	for _, rep := range []*Report{well, s.run()} {
		data, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		if bad := sch.check("report", v); len(bad) > 0 {
			t.Errorf("%s\nin %s", strings.Join(bad, "\n"), data)
		}
	}
}

func TestTheSchemaKnowsEveryFieldAndWord(t *testing.T) {
	sch := published(t)
	if sch.Properties["schema"].Const != Schema {
		t.Errorf("the schema is of %v", sch.Properties["schema"].Const)
	}
	var compare func(at string, of reflect.Type, s schema)
	compare = func(at string, of reflect.Type, s schema) {
		switch {
		case of.Kind() == reflect.Slice:
			if s.Items == nil {
				t.Errorf("%s: the schema does not say of what", at)
				return
			}
			compare(at+"[]", of.Elem(), *s.Items)
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
			compare(at+"."+name, f.Type, p)
		}
		if n != len(s.Properties) || n != len(s.Required) {
			t.Errorf("%s has %d fields, and the schema %d, of which %d are required", at, n, len(s.Properties), len(s.Required))
		}
	}
	compare("report", reflect.TypeFor[Report](), *sch)
	words := func(what string, got []any, want ...string) {
		t.Helper()
		var list []any
		for _, w := range want {
			list = append(list, w)
		}
		if !reflect.DeepEqual(list, got) {
			t.Errorf("%s: the schema has %v, want %v", what, got, list)
		}
	}
	var verdicts []string
	for _, v := range Verdicts() {
		verdicts = append(verdicts, string(v))
	}
	m := sch.Properties["mirrors"].Items.Properties
	words("verdict", m["verdict"].Enum, verdicts...)
	words("also", m["also"].Items.Enum, verdicts...)
	words("from", m["from"].Enum, Froms()...)
	for _, name := range []string{"sumdb", "range"} {
		words(name, m[name].Enum, Yes, No, Wrong, Untold, Unasked)
	}
	words("ended", sch.Properties["ended"].Enum, Complete, Interrupted)
	words("truth", sch.Properties["modules"].Items.Properties["truth"].Enum, ByDatabase, ByMajority, ByNobody)
	words("zip", sch.Properties["modules"].Items.Properties["zip"].Enum, Yes, No)
	words("direct", sch.Properties["database"].Properties["direct"].Enum, Yes, No, Unasked)
}
