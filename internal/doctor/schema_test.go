package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
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
	is := map[string]bool{}
	switch v.(type) {
	case map[string]any:
		is["object"] = true
	case []any:
		is["array"] = true
	case string:
		is["string"] = true
	case float64:
		is["number"] = true
	}
	switch {
	case s.Type != "" && !is[s.Type]:
		say("%v is no %s", v, s.Type)
	case s.Const != nil && v != s.Const:
		say("%v is not %v", v, s.Const)
	case s.Enum != nil && !slices.Contains(s.Enum, v):
		say("%v is none of %v", v, s.Enum)
	case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v.(string)):
		say("%v is not of the form %s", v, s.Pattern)
	}
	switch v := v.(type) {
	case map[string]any:
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
		for i, x := range v {
			if s.Items != nil {
				bad = append(bad, s.Items.check(fmt.Sprintf("%s[%d]", at, i), x)...)
			}
		}
	}
	return bad
}

func published(t *testing.T) *schema {
	t.Helper()
	f, err := os.Open("../../docs/doctor.schema.json")
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
	for _, set := range []func(*scene){
		func(*scene) {}, func(s *scene) { s.source.Stop() }, func(s *scene) { s.chain = "DEAD|SOURCE,direct" }, func(s *scene) { s.chain = "no list" },
		func(s *scene) { s.chain = "direct"; s.env = []string{"GOSUMDB=off"} },
	} {
		s := newScene(t)
		set(s)
		data, err := json.Marshal(s.report())
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
	fields := func(of reflect.Type) (names []string) {
		for i := range of.NumField() {
			if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "" {
				names = append(names, name)
			}
		}
		return names
	}
	for what, x := range map[string]struct {
		of reflect.Type
		s  schema
	}{
		"report": {reflect.TypeFor[Report](), *sch}, "row": {reflect.TypeFor[Row](), *sch.Properties["rows"].Items},
		"finding": {reflect.TypeFor[Found](), *sch.Properties["findings"].Items}, "link": {reflect.TypeFor[Link](), *sch.Properties["chain"].Items},
	} {
		names := fields(x.of)
		for _, n := range names {
			if _, ok := x.s.Properties[n]; !ok || !slices.Contains(x.s.Required, n) {
				t.Errorf("the schema of a %s lacks %s", what, n)
			}
		}
		if len(names) != len(x.s.Properties) {
			t.Errorf("a %s has %d fields, and the schema %d", what, len(names), len(x.s.Properties))
		}
	}
	words := func(want []any, got []any) {
		t.Helper()
		if !reflect.DeepEqual(want, got) {
			t.Errorf("the schema has %v, want %v", got, want)
		}
	}
	var states, links []any
	for _, s := range States() {
		states = append(states, string(s))
	}
	for _, l := range Links {
		links = append(links, l)
	}
	words(states, sch.Properties["rows"].Items.Properties["state"].Enum)
	words(links, sch.Properties["chain"].Items.Properties["name"].Enum)
	words([]any{string(finding.Fail), string(finding.Warn)}, sch.Properties["findings"].Items.Properties["severity"].Enum)
	words([]any{string(Well), string(Impaired), string(Broken), string(Untold)}, sch.Properties["verdict"].Enum)
}
