package bench

import (
	"strings"
	"testing"
)

func TestTheCatalogueCanBeReadAndNamesNobodyTwice(t *testing.T) {
	list := Catalogue()
	if len(list) < 9 {
		t.Errorf("%d mirrors", len(list))
	}
	for _, l := range list {
		if !strings.HasPrefix(l.URL, "https://") || !strings.HasPrefix(l.Note, "last known") {
			t.Errorf("%+v", l)
		}
	}
}

func TestAMistakeInACatalogueIsSaidWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"a https://a.example\nb":                           "mine:2: it must be NAME URL NOTE",
		"\n\n# x\nA https://a.example":                     `mine:4: "A" is no name`,
		"default https://a.example":                        "mine:1: the name default stands for something else",
		"a ftp://a.example":                                `"ftp://a.example" is no address`,
		"a https://":                                       "is no address",
		"a https://a.example:99999":                        "mine:1: the address of a has the port 99999, and ports are numbers from 1 to 65535",
		"a https://a.example:0":                            "has the port 0",
		"a https://user:secret@a.example":                  "has credentials",
		"a https://a.example/x?y":                          "has characters",
		"a https://a.example,b":                            "has characters",
		"a https://a.example\na https://b.example":         "mine:2: the name a is that of line 1 too",
		"a https://a.example\nb https://a.example/":        "mine:2: the address of b is that of line 1 too",
		"a https://a.example \x1b[31m":                     "no printable text",
		"a https://a.example " + strings.Repeat("x", 5000): "bytes long",
	} {
		_, err := ParseCatalogue("mine", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	list, err := ParseCatalogue("mine", []byte("\ufeff# ours\r\ncorp\thttps://proxy.example.com/go/  in the  cellar\r\n"))
	if err != nil || len(list) != 1 || list[0] != (Listed{"corp", "https://proxy.example.com/go", "in the cellar"}) {
		t.Errorf("%v, %v", list, err)
	}
}

func TestAFileOfOnesOwnGoesBeforeTheCatalogue(t *testing.T) {
	list := Extend([]Listed{{"a", "https://a.example", ""}, {"b", "https://b.example", ""}}, []Listed{{"b", "https://new.example", "x"}, {"c", "https://a.example", ""}})
	var got []string
	for _, l := range list {
		got = append(got, l.Name+"="+l.URL)
	}
	if strings.Join(got, " ") != "b=https://new.example c=https://a.example" {
		t.Error(got)
	}
}

func FuzzParseCatalogue(f *testing.F) {
	f.Add(embedded)
	f.Add("a https://a.example x\r\nb")
	f.Add("a https://u:p@a.example")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseCatalogue("f", []byte(text))
		if err != nil {
			return
		}
		var again strings.Builder
		for _, l := range list {
			again.WriteString(l.Name + " " + l.URL + " " + l.Note + "\n")
		}
		back, err := ParseCatalogue("f", []byte(again.String()))
		if err != nil || len(back) != len(list) {
			t.Fatalf("%q, read and written, is %q: %v", text, again.String(), err)
		}
		for i := range list {
			if back[i] != list[i] {
				t.Errorf("%+v became %+v", list[i], back[i])
			}
		}
	})
}
