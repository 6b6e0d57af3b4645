package bench

import (
	"reflect"
	"testing"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

const published = "../../docs/bench.schema.json"

func TestEveryReportIsAsThePublishedSchemaSays(t *testing.T) {
	sch := modtest.ReadSchema(t, published)
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("lossy", faults.Handler(s.world.Handler(), every(t, 3, "503")))
	s.add("lying", s.faulty("flip"))
	s.add("gap", s.faulty("list:403"))
	s.add("dead", s.world.Handler()).Stop()
	well := s.run()
	if len(well.of("gap").Gaps) == 0 {
		t.Errorf("%+v", well.of("gap"))
	}
	s.plan.Mirrors = s.plan.Mirrors[4:] // nothing comes at all
	for _, rep := range []*Report{well, s.run()} {
		sch.Accepts(t, rep)
	}
}

func TestTheSchemaKnowsEveryFieldAndWord(t *testing.T) {
	sch := modtest.ReadSchema(t, published)
	if c := sch.Of(t, "schema").Const; c != Schema {
		t.Errorf("the schema is of %v", c)
	}
	sch.Knows(t, reflect.TypeFor[Report]())
	var verdicts []string
	for _, v := range Verdicts() {
		verdicts = append(verdicts, string(v))
	}
	sch.Of(t, "mirrors", "verdict").Words(t, "verdict", verdicts...)
	sch.Of(t, "mirrors", "also").Words(t, "also", verdicts...)
	sch.Of(t, "mirrors", "from").Words(t, "from", Froms()...)
	for _, name := range []string{"sumdb", "range"} {
		sch.Of(t, "mirrors", name).Words(t, name, Yes, No, Wrong, Untold, Unasked)
	}
	sch.Of(t, "ended").Words(t, "ended", Complete, Interrupted)
	sch.Of(t, "modules", "truth").Words(t, "truth", ByDatabase, ByMajority, ByNobody)
	sch.Of(t, "modules", "zip").Words(t, "zip", Yes, No)
	sch.Of(t, "database", "direct").Words(t, "direct", Yes, No, Unasked)
}
