package explain

import "testing"

func TestSentencesThatHaveTheWordsOfAFailureByChanceAreNoFailure(t *testing.T) {
	for _, s := range []string{
		"o transporte público é proibido aos domingos",
		"der Transport ist hier niedozwolony",
		"repositori ini tidak ditemukan di disk, lewati",
		"arkivet kunde som väntat hittades inte, det skapas",
		"docs: unexpected file name in the listing, skipped",
		"12 redirects followed in 3 s; all pages are fine",
		"usage: go 1 step further and read the manual",
	} {
		if r := Text(s + "\n"); r.Known() {
			t.Errorf("%q is taken for %s (%s)", s, r.Code, r.Confidence)
		}
	}
	for s, code := range map[string]string{
		"curl: (47) Maximum (50) redirects followed":                                                                       "SL-SRC-008",
		"go: errors parsing go.mod:\n/app/go.mod:3: usage: go 1.23\n":                                                      "SL-MOD-004",
		"go: rsc.io/badzip@v1.0.0: unzip /go/pkg/mod/cache/download/rsc.io/badzip/@v/v1.0.0.zip: unexpected file name x/y": "SL-SRC-008",
	} {
		if r := Text(s); string(r.Code) != code {
			t.Errorf("%q is taken for %q, want %s", s, r.Code, code)
		}
	}
}
