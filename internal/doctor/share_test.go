package doctor

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// fill puts a secret into every text below v, as a field that somebody adds
// tomorrow would have one.
func fill(v reflect.Value, n *int) {
	switch v.Kind() {
	case reflect.String:
		*n++
		v.SetString(fmt.Sprintf("secret%d.corp.example", *n))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	}
}

func shared(t *testing.T, r Report) string {
	t.Helper()
	s := r.Share("sluice v1", "linux/amd64")
	var b strings.Builder
	if err := s.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return s.Text() + b.String()
}

func TestNoFieldOfAReportReachesASharedOneAsItIs(t *testing.T) {
	var r Report
	n := 0
	fill(reflect.ValueOf(&r).Elem(), &n)
	if n < 40 {
		t.Fatalf("only %d texts were found", n)
	}
	// What passes the door keeps its own texts, all secrets still.
	r.Rows[0].ID, r.Rows[0].State = "source.1.connect", Fail
	r.Rows[0].Group = "https://secret.corp.example/team"
	r.Rows[1].ID, r.Rows[1].State = "machine.go", OK
	r.Findings[0].Code, r.Verdict = "SL-NET-002", Broken
	r.Findings[0].About = []string{"secret.corp.example:443", "/home/secret/go", "GOPROXY"}
	got := shared(t, r)
	if strings.Contains(got, "secret") {
		t.Errorf("a text got through in\n%s", got)
	}
	for _, want := range []string{"SL-NET-002", "source.1.connect", "about: host-1, a directory or module, GOPROXY", "https host-1 (a name)", "broken SL-NET-002 linux/amd64"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func TestASharedReportSaysWhatIsWrongAndEqualHostsAreEqual(t *testing.T) {
	s := newScene(t)
	s.chain = "DEAD|http://127.0.0.1:2|http://nosuch.corp.example"
	got := shared(t, s.report())
	for _, want := range []string{"source 1: http host-1 (this machine)\n", "source 3: http host-2 (a name)\n", "fail SL-NET-002: a module source refuses connections\n  about: host-1\n", "about: host-2\n", "connection (fail)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	for _, no := range []string{"127.0.0.1", "corp", "doctor.test"} {
		if strings.Contains(got, no) {
			t.Errorf("%q is in\n%s", no, got)
		}
	}
}
