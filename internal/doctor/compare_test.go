package doctor

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func written(t *testing.T, r Report) *Report {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func TestTwoReportsOfOnePlaceDifferInNothing(t *testing.T) {
	s := newScene(t)
	sub := s.subject()
	good := Run(t.Context(), "", sub.Checks(), 1e11)
	again := Run(t.Context(), "", sub.Checks(), 1e11)
	if c := Compare(written(t, good), written(t, again)); len(c) > 0 {
		t.Errorf("%s", ChangesText(c))
	}
}

func TestWhatDiffersIsToldInTheOrderOfTheChecks(t *testing.T) {
	s := newScene(t)
	sub := s.subject()
	good := Run(t.Context(), "", sub.Checks(), 1e11)
	s.source.Stop()
	s.env = []string{"GOSUMDB=off"}
	bad := Run(t.Context(), "", s.subject().Checks(), 1e11)
	text := ChangesText(Compare(written(t, good), written(t, bad)))
	last := 0
	for _, want := range []string{"verification (settings.verification)\n  good  ok: ", "bad   warn: GOSUMDB is off", "connection (source.1.connect)\n  good  ok: ", "  bad   fail: http", "answer (source.1.answer)", "  bad   skip: "} {
		i := strings.Index(text[last:], want)
		if i < 0 {
			t.Fatalf("%q is missing, or before what should come first, in\n%s", want, text)
		}
		last += i
	}
	if strings.Contains(text, "name (source.1.name)") {
		t.Errorf("what did not change is in\n%s", text)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema":"sluice-doctor/1","rows":[{"id":"a","state":"ok","text":"\u001b[31m"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(data)
		if err != nil {
			return
		}
		text := ChangesText(Compare(r, &Report{})) + ChangesText(Compare(&Report{}, r))
		if strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) && !unicode.IsGraphic(c) }) {
			t.Errorf("%q", text)
		}
	})
}
