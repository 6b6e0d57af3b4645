//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/rescue"
)

// The record in the docs is one that the laboratory saw, as it was printed and kept:
// go run ./tools/laboratory -rescue -record docs/incident.
func TestTheIncidentInTheDocsIsARecordAndItsPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/incident.json")
	if err != nil {
		t.Fatal(err)
	}
	var rec rescue.Incident
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		t.Fatal(err)
	}
	if rec.Outcome != rescue.Rescued || rec.Kept == "" {
		t.Errorf("readers see a record that is %s and has kept %q", rec.Outcome, rec.Kept)
	}
	var printed bytes.Buffer
	if err := writeJSON(&env{stdout: &printed}, &rec); err != nil || printed.String() != string(data) {
		t.Errorf("docs/incident.json is not what the program prints of it (%v):\n%s", err, &printed)
	}
	var page bytes.Buffer
	if err := rec.WriteMarkdown(&page); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../docs/incident.md")
	if err != nil {
		t.Fatal(err)
	}
	if page.String() != string(want) {
		t.Errorf("docs/incident.md is not the page of docs/incident.json; make both anew with go run ./tools/laboratory -rescue -record docs/incident\n--- now\n%s--- there\n%s", &page, want)
	}
}

// Two things are broken at once: the first source answers 503, and a zip in the module
// cache is damaged.
func TestBothThingsThatAreBrokenAreOnRecordWhenTheBuildWorksAgain(t *testing.T) {
	world := scriptWorld(t)
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
		t.Fatalf("%v, and the record says\n%s", err, out.Bytes())
	}
	if got := []string{string(rec.Broken[0].Code), string(rec.Broken[1].Code)}; !slices.Equal(got, []string{"SL-DISK-003", "SL-SRC-005"}) {
		t.Errorf("broken were %q", got)
	}
	var steps []rescue.Kind
	for _, s := range rec.Steps {
		steps = append(steps, s.Kind)
	}
	if want := []rescue.Kind{rescue.Detect, rescue.Clean, rescue.Find, rescue.Run, rescue.Verify, rescue.Finished}; !slices.Equal(steps, want) {
		t.Errorf("the steps were %q, want %q", steps, want)
	}
	var want bytes.Buffer
	if err := rec.WriteMarkdown(&want); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != want.String() {
		t.Errorf("the page is not that of the record (%v):\n%s", err, got)
	}
}

// A listener keeps what is said, and tells once something is.
type listener struct {
	bytes.Buffer
	word string
	said func()
}

func (l *listener) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(l.word)) {
		l.said()
	}
	return l.Buffer.Write(p)
}

// A source that passes the checks, and then fails. Behind a bar the go command would have
// gone on by itself, but for bytes that are not those of go.sum.
func TestACommandWorksAgainOnlyWhereItWouldHaveFailedWithoutHelp(t *testing.T) {
	world := scriptWorld(t)
	db := world.SumDB("sum.golang.org")
	world.Mount(db)
	well := modtest.Serve(t, world.Handler())
	work := t.TempDir()
	dir := filepath.Join(work, "app")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := writeApp(world, dir); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		fault, of, between string
		again              bool
	}{{"503", "", ",", true}, {"503", "", "|", false}, {"old-zip=v1.1.0", "/hello/@v/v1.0.0.zip", "|", true}} {
		fault, err := faults.Parse(test.fault)
		if err != nil {
			t.Fatal(err)
		}
		var ill atomic.Bool
		sick := modtest.Serve(t, faults.Handler(world.Handler(), func(r *http.Request) (faults.Fault, bool) {
			return fault, ill.Load() && strings.HasSuffix(r.URL.Path, test.of)
		}))
		list := sick.URL + test.between + well.URL
		environ := with(modtest.GoEnv(t, list, db.GOSUMDB(""), "GOENV=off"), "SLUICE_DATA", t.TempDir())
		var out bytes.Buffer
		errOut := listener{word: "sluice: detect: ", said: func() { ill.Store(true) }} // the checks are over
		e := &env{environ: environ, dir: dir, stdout: &out, stderr: &errOut}
		if status := run(t.Context(), e, []string{"rescue", "--json", "--", "go", "build", "./..."}); status != 0 {
			t.Fatalf("%+v: status %d\n%s%s", test, status, out.Bytes(), errOut.Bytes())
		}
		var rec rescue.Incident
		if err := json.Unmarshal(out.Bytes(), &rec); err != nil || rec.Outcome != rescue.Rescued || !strings.Contains(errOut.String(), " was left for another source: ") {
			t.Fatalf("%+v: %v, and the record says\n%s%s", test, err, out.Bytes(), errOut.Bytes())
		}
		if said := strings.Contains(rec.Sentence, " works again, although "); said != test.again {
			t.Errorf("%+v: %s", test, rec.Sentence)
		}
		alone := modtest.GoEnv(t, list, db.GOSUMDB(""), "GOENV=off")
		if _, stderr, status := modtest.Go(t, alone, dir, "build", "./..."); (status != 0) != test.again {
			t.Errorf("%+v: the go command alone ends with status %d\n%s", test, status, stderr)
		}
	}
}

// Where a machine has much to do, the checks may end before a source does: it is passed
// over then, and that must not be called well.
func TestASourceThatIsNotThroughWhenTimeIsOverIsOnRecord(t *testing.T) {
	slow, well := goenv.Entry{Kind: goenv.HTTP, URL: "https://slow.example"}, goenv.Entry{Kind: goenv.HTTP, URL: "https://well.example"}
	for part, want := range map[string]finding.Code{"connect": finding.SourceConnectTimeout, "tls": finding.SourceTLSHandshake, "answer": finding.SourceSilent} {
		x := &emergency{chain: goenv.List{slow, well}, states: map[string]rescue.Source{}, rec: rescue.New(time.Now(), "", nil), report: &doctor.Report{Rows: []doctor.Row{
			{ID: "source.1." + part, State: doctor.Incomplete, Text: "not ended within 2.5s"}, {ID: "source.2.answer", State: doctor.OK},
			{ID: "source.2.list", State: doctor.NA}, {ID: "source.2.mod", State: doctor.OK}, {ID: "source.2.zip", State: doctor.OK},
		}}}
		x.judge()
		x.tardy()
		if len(x.rec.Broken) != 1 || x.rec.Broken[0].Code != want || !slices.Equal(x.rec.Broken[0].About, []string{"slow.example"}) || !slices.Equal(x.rec.Broken[0].Evidence, []string{"not ended within 2.5s"}) {
			t.Errorf("%s: broken is %+v, want %s of slow.example", part, x.rec.Broken, want)
		}
		x.arrange()
		if x.chain[0] != well || x.rec.Sources[1].Code != want {
			t.Errorf("%s: the sources are asked as %v, of which the last is %+v", part, x.chain, x.rec.Sources[1])
		}
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
