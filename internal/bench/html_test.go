package bench

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/faults"
)

func TestThePageNeedsNothingElseAndTakesNoMarkupFromServers(t *testing.T) {
	s := newScene(t)
	s.add("good", s.world.Handler())
	s.add("<b>bold</b>", s.faulty("hang=60ms"))
	n := 0
	s.add("rude", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n%3 == 0 {
			http.Error(w, "<script>alert('"+strings.Repeat("x", 500)+"')</script>", http.StatusServiceUnavailable)
			return
		}
		s.world.Handler().ServeHTTP(w, r)
	}))
	s.add("dead", s.world.Handler()).Stop()
	s.add("liar", faults.Handler(s.world.Handler(), every(t, 2, "flip", "wrong-mod")))
	rep := s.run()
	var b bytes.Buffer
	if err := rep.WriteHTML(&b, "sluice test"); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, not := range []string{"<script", "<b>bold", " src=", "@import", "url(", "<link", "NaN", "Inf", "%!"} {
		if strings.Contains(text, not) {
			t.Errorf("the page has %q", not)
		}
	}
	for _, want := range []string{"&lt;script&gt;alert", "&lt;b&gt;bold", rep.Recommended.Command[:10], "prefers-color-scheme: dark", `name="viewport"`, "Each of them", "</html>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	drawings := regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(text, -1)
	if len(drawings) != 4 {
		t.Errorf("%d drawings", len(drawings))
	}
	for _, d := range drawings { // as XML, which is stricter than any browser
		dec := xml.NewDecoder(strings.NewReader(d))
		for {
			if _, err := dec.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, d)
			}
		}
		for _, m := range regexp.MustCompile(` (?:c?x|x1|x2|cx)="(-?[0-9.]+)"`).FindAllStringSubmatch(d, -1) {
			if strings.HasPrefix(m[1], "-") || len(strings.Split(m[1], ".")[0]) > 3 {
				t.Errorf("something is drawn at %s", m[1])
			}
		}
	}
}

func TestAPageWithNothingOnItIsOneAllTheSame(t *testing.T) {
	s := newScene(t)
	s.add("dead", s.world.Handler()).Stop()
	var b bytes.Buffer
	if err := s.run().WriteHTML(&b, "sluice test"); err != nil || !strings.Contains(b.String(), "None") && !strings.Contains(b.String(), "none of them") {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestTheTicksOfAScaleAreRoundNumbers(t *testing.T) {
	for high, want := range map[float64]string{0.9: "0 0.2 0.4 0.6 0.8", 7: "0 2 4 6", 31: "0 10 20 30", 1000: "0 200 400 600 800 1000"} {
		var got []string
		for _, v := range linearTicks(high) {
			got = append(got, tickText(v))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("to %v: %v", high, got)
		}
	}
	if tickText(0.01) != "0.01" || tickText(10000) != "10000" {
		t.Error(tickText(0.01), tickText(10000))
	}
}
