//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/rescue"
)

// TestTheIncidentInTheDocsIsOneThatHappened lets a real go command meet a first source that
// answers 503 and a module cache with a damaged zip. With -update it writes
// docs/incident.md, in which only names and addresses are others.
func TestTheIncidentInTheDocsIsOneThatHappened(t *testing.T) {
	world := modtest.New(t)
	data, err := os.ReadFile("testdata/world.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, modules, _ := strings.Cut(string(data), "\n\n")
	world.AddTxtar(modules)
	db := world.SumDB("sum.golang.org")
	world.Mount(db)
	well := modtest.Serve(t, world.Handler())
	storm, err := faults.Parse("503")
	if err != nil {
		t.Fatal(err)
	}
	sick := modtest.Serve(t, faults.Handler(world.Handler(), func(*http.Request) (faults.Fault, bool) { return storm, true }))
	work := t.TempDir()
	dir := filepath.Join(work, "app")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := writeApp(world, dir); err != nil {
		t.Fatal(err)
	}
	environ := modtest.GoEnv(t, well.URL, db.GOSUMDB(""), "GOENV=off")
	if _, stderr, status := modtest.Go(t, environ, dir, "mod", "download"); status != 0 {
		t.Fatal(stderr)
	}
	cached := filepath.Join(modtest.EnvValue(environ, "GOMODCACHE"), "cache", "download", "example.com", "dep", "@v", "v1.2.0.zip")
	if err := os.WriteFile(cached, []byte("half a zip"), 0o666); err != nil {
		t.Fatal(err)
	}
	environ = with(with(environ, "GOPROXY", sick.URL+","+well.URL), "SLUICE_DATA", filepath.Join(work, "store"))
	var out, errOut bytes.Buffer
	e := &env{environ: environ, dir: dir, stdout: &out, stderr: &errOut}
	page := filepath.Join(work, "incident.md")
	if status := run(t.Context(), e, []string{"rescue", "--record", page, "--json", "--", "go", "build", "./..."}); status != 0 {
		t.Fatalf("status %d\n%s%s", status, out.Bytes(), errOut.Bytes())
	}
	var rec rescue.Incident
	if err := json.Unmarshal(out.Bytes(), &rec); err != nil || rec.Outcome != rescue.Rescued || len(rec.Broken) != 2 {
		t.Errorf("%v, and the record says\n%s", err, out.Bytes())
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{{sick.URL, "https://proxy.corp.example"}, {well.URL, "https://proxy.example.com"},
		{strings.TrimPrefix(sick.URL, "http://"), "proxy.corp.example"}, {strings.TrimPrefix(well.URL, "http://"), "proxy.example.com"}, {work, "/home/dev"}} {
		got = bytes.ReplaceAll(got, []byte(r[0]), []byte(r[1]))
	}
	const name = "../../docs/incident.md"
	if *update {
		if err := os.WriteFile(name, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	digits := regexp.MustCompile(`[0-9]+(?:\.[0-9]+)?(?:ms|µs)?`)
	if g, w := digits.ReplaceAllString(string(got), "0"), digits.ReplaceAllString(string(want), "0"); g != w {
		t.Errorf("%s is not what happens now; if it may change, run this test with -update\n--- now\n%s--- there\n%s", name, g, w)
	}
}

func TestTheSchemaOfTheIncidentKnowsEveryFieldAndWord(t *testing.T) {
	type schema struct {
		Required   []string
		Properties map[string]schema
		Items      *schema
		Enum       []string
		Const      string
	}
	data, err := os.ReadFile("../../docs/incident.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		of reflect.Type
		s  *schema
	}{
		{reflect.TypeFor[rescue.Incident](), &s}, {reflect.TypeFor[rescue.Broken](), s.Properties["broken"].Items},
		{reflect.TypeFor[rescue.Source](), s.Properties["sources"].Items}, {reflect.TypeFor[rescue.Step](), s.Properties["steps"].Items},
		{reflect.TypeFor[rescue.Advice](), s.Properties["left"].Items}, {reflect.TypeFor[rescue.Advice](), s.Properties["after"].Items},
	} {
		for i := range x.of.NumField() {
			name, opt, _ := strings.Cut(x.of.Field(i).Tag.Get("json"), ",")
			if _, ok := x.s.Properties[name]; !ok || slices.Contains(x.s.Required, name) == (opt != "") {
				t.Errorf("the schema of %v lacks %s, or requires it where it may be missing", x.of, name)
			}
		}
		if len(x.s.Properties) != x.of.NumField() {
			t.Errorf("%v has %d fields, and the schema %d", x.of, x.of.NumField(), len(x.s.Properties))
		}
	}
	var outcomes, kinds []string
	for _, o := range rescue.Outcomes() {
		outcomes = append(outcomes, string(o))
	}
	for _, k := range rescue.Kinds() {
		kinds = append(kinds, string(k))
	}
	if got := s.Properties["outcome"].Enum; !slices.Equal(got, outcomes) {
		t.Errorf("the schema has the outcomes %q, and the program %q", got, outcomes)
	}
	if got := s.Properties["steps"].Items.Properties["step"].Enum; !slices.Equal(got, kinds) {
		t.Errorf("the schema has the steps %q, and the program %q", got, kinds)
	}
	if s.Properties["schema"].Const != rescue.Schema {
		t.Errorf("the schema is called %q", s.Properties["schema"].Const)
	}
}
