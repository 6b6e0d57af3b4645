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

// What was not made because of something else is counted, and not told.
func TestOfWhatDiffersIsToldFirstWhatFailed(t *testing.T) {
	s := newScene(t)
	sub := s.subject()
	good := Run(t.Context(), "", sub.Checks(), 1e11)
	s.source.Stop()
	s.env = []string{"GOSUMDB=off"}
	bad := Run(t.Context(), "", s.subject().Checks(), 1e11)
	text := ChangesText(Compare(written(t, good), written(t, bad)))
	last := 0
	for _, want := range []string{"connection (source.1.connect)\n  good  ok: ", "  bad   fail: http", "verification (settings.verification)\n  good  ok: ", "bad   warn: GOSUMDB is off", " made on one side alone, because of others"} {
		i := strings.Index(text[last:], want)
		if i < 0 {
			t.Fatalf("%q is missing, or before what should come first, in\n%s", want, text)
		}
		last += i
	}
	for _, row := range []string{"name (source.1.name)", "answer (source.1.answer)"} {
		if strings.Contains(text, row) {
			t.Errorf("%s, which did not change or follows from something else, is in\n%s", row, text)
		}
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
