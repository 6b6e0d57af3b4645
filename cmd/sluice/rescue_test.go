package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheSchemaAndThePageOfRescueKnowEveryFieldAndKind(t *testing.T) {
	type schema struct {
		Required   []string
		Properties map[string]schema
		Items      *schema
		Enum       []string
		Const      string
	}
	data, err := os.ReadFile("../../docs/rescue.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	damage := s.Properties["damages"].Items
	for _, x := range []struct {
		of reflect.Type
		s  *schema
	}{{reflect.TypeFor[rescueReport](), &s}, {reflect.TypeFor[rescueDamage](), damage}} {
		var names []string
		for i := range x.of.NumField() {
			name, _, _ := strings.Cut(x.of.Field(i).Tag.Get("json"), ",")
			names = append(names, name)
			if _, ok := x.s.Properties[name]; !ok || !slices.Contains(x.s.Required, name) {
				t.Errorf("the schema of %v lacks %s", x.of, name)
			}
		}
		if len(names) != len(x.s.Properties) {
			t.Errorf("%v has %d fields, and the schema %d", x.of, len(names), len(x.s.Properties))
		}
	}
	if s.Properties["schema"].Const != rescueSchema {
		t.Errorf("the schema is called %q", s.Properties["schema"].Const)
	}

	src, err := os.ReadFile("../../internal/modcache/modcache.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/rescue.md")
	if err != nil {
		t.Fatal(err)
	}
	for typ, want := range map[string][]string{"Kind": damage.Properties["kind"].Enum, "Done": damage.Properties["done"].Enum} {
		var words []string
		for _, m := range regexp.MustCompile(`(?m)^\t\w+\s+`+typ+`\s+= "([^"]+)"`).FindAllStringSubmatch(string(src), -1) {
			words = append(words, m[1])
			if typ == "Kind" && !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/rescue.md does not say what %s is", m[1])
			}
		}
		if got := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return w == "" }); !slices.Equal(got, words) {
			t.Errorf("the schema has %q, and the program %q", got, words)
		}
	}
}

// A cache that belongs to somebody else has one thing wrong with it, not thousands.
func TestTheFilesOfAnotherUserAreOneLineWithOneCommand(t *testing.T) {
	rep := rescueReport{Cache: "/srv/mod", DryRun: true, Versions: 9, Damages: []rescueDamage{
		{Kind: "zip-damaged", File: "cache/download/example.com/dep/@v/v1.2.0.zip", Problem: "there is nothing in it"},
	}}
	for i := range 9 {
		rep.Damages = append(rep.Damages, rescueDamage{Kind: "denied", File: fmt.Sprintf("example.com/hello@v1.0.%d", i), Problem: "it belongs to another user, and this one may not read it (-rw-------)", Done: "failed", Error: "write sudo chown -R 1000 /srv/mod"})
	}
	var out strings.Builder
	rep.print(&env{stdout: &out, stderr: io.Discard})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := "9 files and directories may not be used by this user, such as example.com/hello@v1.0.0: it belongs to another user, and this one may not read it (-rw-------)"; lines[0] != want || len(lines) != 3 {
		t.Errorf("it prints\n%s\nand has to begin with\n%s", out.String(), want)
	}
	if got := rep.givenBack(); !strings.Contains(got, `chown -R "$(id -u):$(id -g)" /srv/mod`) {
		t.Errorf("the hint is %q", got)
	}
	// What was mended is told one by one, and so are a few.
	for i := range rep.Damages {
		if i > 3 {
			rep.Damages[i].Done = "allowed"
		}
	}
	out.Reset()
	rep.print(&env{stdout: &out, stderr: io.Discard})
	if n := strings.Count(out.String(), "\n"); n != 11 {
		t.Errorf("%d lines, want 11:\n%s", n, out.String())
	}
}
