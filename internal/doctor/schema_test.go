package doctor

import (
	"reflect"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

const published = "../../docs/doctor.schema.json"

func TestEveryReportIsAsThePublishedSchemaSays(t *testing.T) {
	sch := modtest.ReadSchema(t, published)
	for _, set := range []func(*scene){
		func(*scene) {}, func(s *scene) { s.source.Stop() }, func(s *scene) { s.chain = "DEAD|SOURCE,direct" }, func(s *scene) { s.chain = "no list" },
		func(s *scene) { s.chain = "direct"; s.env = []string{"GOSUMDB=off"} },
	} {
		s := newScene(t)
		set(s)
		sch.Accepts(t, s.report())
	}
}

func TestTheSchemaKnowsEveryFieldAndWord(t *testing.T) {
	sch := modtest.ReadSchema(t, published)
	sch.Knows(t, reflect.TypeFor[Report]())
	var states []string
	for _, s := range States() {
		states = append(states, string(s))
	}
	sch.Of(t, "rows", "state").Words(t, "state", states...)
	sch.Of(t, "chain", "name").Words(t, "link", Links...)
	sch.Of(t, "findings", "severity").Words(t, "severity", string(finding.Fail), string(finding.Warn))
	sch.Of(t, "verdict").Words(t, "verdict", string(Well), string(Impaired), string(Broken), string(Untold))
}
