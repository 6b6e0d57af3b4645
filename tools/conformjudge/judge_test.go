package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestOnlyMustAndShouldForbidLanding(t *testing.T) {
	for _, tt := range []struct {
		results string
		bad     int
		says    string
	}{
		{`{"id":"a","level":"must","result":"pass"}`, 0, "must   1 pass, 0 fail"},
		{`{"id":"a","level":"must","result":"fail","fails":["it said 500"]}`, 1, "it said 500"},
		{`{"id":"a","level":"should","result":"broken"}`, 1, "BROKEN should a"},
		{`{"id":"a","level":"should","result":"n/a"}`, 0, "n/a    should a"},
		{`{"id":"a","level":"bonus","result":"fail","why":"nice"}`, 0, "fail   bonus  a: nice"},
		{`{"id":"a","level":"bonus","result":"huh"}`, 1, "HUH"},
		{`{"id":"a","level":"shall","result":"fail"}`, 1, "FAIL"},
		{`null`, 1, "without result"},
	} {
		var out bytes.Buffer
		bad, err := judge([]byte(`{"results":[`+tt.results+`]}`), &out)
		if err != nil || bad != tt.bad || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%s: %d, %v; want %d and %q in\n%s", tt.results, bad, err, tt.bad, tt.says, &out)
		}
	}
}

func TestNoResultIsNoPass(t *testing.T) {
	for _, report := range []string{``, `[]`, `{}`, `{"results":[]}`, `<html>`} {
		if bad, err := judge([]byte(report), new(bytes.Buffer)); err == nil {
			t.Errorf("judge(%q) = %d without an error", report, bad)
		}
	}
}
