package store

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"
)

func FuzzParseRecord(f *testing.F) {
	good, err := seal(Record{Size: 3, SHA256: strings.Repeat("0a", 32), H1: "h1:x", Verified: "sum.test", Source: "<a>", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, s := range []string{"", "{}", "null", `{"value":null,"check":""}`, `{"value":{"size":1},"check":"` + sha256Hex([]byte(`{"size":1}`)) + `"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parseRecord(data)
		if err != nil {
			if rec != (Record{}) {
				t.Errorf("parseRecord = %+v with %v", rec, err)
			}
			return
		}
		if rec.Size <= 0 || !isSHA256(rec.SHA256) {
			t.Errorf("parseRecord accepts %+v", rec)
		}
		again, err := seal(rec)
		if err != nil {
			t.Skip() // a time that JSON reads but does not write
		}
		if back, err := parseRecord(again); err != nil || back != rec {
			t.Errorf("%+v comes back as %+v, %v", rec, back, err)
		}
	})
}

func TestEveryFlippedBitOfARecordIsNoticed(t *testing.T) {
	good, err := seal(Record{Size: 3, SHA256: strings.Repeat("0a", 32), H1: "h1:x", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := parseRecord(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		// JSON does not mind the case of our own two keys, nor what ends the line.
		if rec, err := parseRecord(bad); err == nil && rec != want {
			t.Fatalf("with bit %d flipped, %q reads as %+v", i, bad, rec)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	good, err := formatAnswer("a.test/m/@v/list", Answer{Body: []byte("v1.0.0\n"), Source: "a", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "a.test/m/@v/list")
	f.Add(good, "a.test/m/@latest")
	f.Add(good[:len(good)-1], "a.test/m/@v/list")
	f.Add([]byte(answerMagic+sha256Hex(nil)+"\n"), "")
	f.Add([]byte(answerMagic+sha256Hex([]byte("{}\n"))+"\n{}\n"), "")
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		a, err := parseAnswer(data, path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) || a.Body != nil {
				t.Errorf("parseAnswer = %+v, %v", a, err)
			}
			return
		}
		again, err := formatAnswer(path, a)
		if err != nil {
			t.Skip()
		}
		back, err := parseAnswer(again, path)
		if err != nil || !bytes.Equal(back.Body, a.Body) || back.Source != a.Source || !back.Time.Equal(a.Time) {
			t.Errorf("%+v comes back as %+v, %v", a, back, err)
		}
	})
}

func FuzzCheckFileName(f *testing.F) {
	for _, s := range []string{"sum.test/latest", "sum.test/tile/8/0/x001/234.p/5", "../x", "a/../../b", `a\..\b`, "a//b", "a/./b", "/a/b", "a/b/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkFileName(name) != nil {
			return
		}
		for elem := range strings.SplitSeq(name, "/") {
			if elem == "" || elem == "." || elem == ".." || strings.ContainsAny(elem, "\\\x00") {
				t.Errorf("%q is accepted", name)
			}
		}
	})
}
