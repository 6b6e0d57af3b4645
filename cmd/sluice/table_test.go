package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/server"
)

func TestTheTableOfSourcesFitsTheTerminal(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	part := 0.999
	ans := server.SourcesAnswer{Sources: []server.SourceStatus{
		{
			Name: "https://a-rather-long-name.mirror.example.com/artifactory/api/go/go-virtual", State: "down", Since: now.Add(-90 * time.Minute), Preferred: true,
			Why:  "https://a-rather-long-name.mirror.example.com/artifactory/api/go/go-virtual: connection refused " + strings.Repeat("and so on ", 20),
			Asks: []server.AskStatus{{Ask: "list", P50: 1.25, P95: 900, Samples: 3}, {Ask: "file", P50: 12, P95: 1340, Samples: 3}, {Ask: "zip", P50: 1500, P95: 12000, Samples: 3}},
			Good: 999, Failed: 1, Success: &part, Share: &part, Lacks: 3, LacksFor: 7200, Lies: map[string]string{"example.com/m": "wrong"},
		},
		{Name: "direct", State: "unknown"},
	}}
	for _, colours := range []bool{false, true} {
		for width := 60; width < 220; width++ {
			for _, line := range sourceTable(ans, now, width, colours) {
				plain := line
				for _, c := range []string{"\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m"} {
					plain = strings.ReplaceAll(plain, c, "")
				}
				if n := utf8.RuneCountInString(plain); n > width || strings.Contains(plain, "\x1b") || colours == (line == plain) && strings.HasPrefix(plain, "SOURCE") {
					t.Errorf("at %d columns, a line has %d: %q", width, n, line)
				}
			}
		}
	}
	want := `SOURCE                                                                       STATE        SINCE    LIST       FILE       ZIP      OK      LAG     LIES  SHARE
https://a-rather-long-name.mirror.example.com/artifactory/api/go/go-virtual  down, first  90m ago  1.2/900ms  12ms/1.3s  1.5/12s  99.9 %  3 × 2h  1     99.9 %
  connection refused`
	if got := strings.Join(sourceTable(ans, now, 0, false), "\n"); !strings.HasPrefix(got, want) {
		t.Errorf("a wide table is\n%s\nwant\n%s", got, want)
	}
}

func TestTheTableOfRegionsSaysWhichSourceIsHowFromWhere(t *testing.T) {
	server1 := func(region, state string, p50 float64) shown {
		src := server.SourceStatus{Name: "https://a.example", Called: "corp", State: state}
		if p50 > 0 {
			src.Asks = []server.AskStatus{{Ask: "file", P50: p50, Samples: 1}}
		}
		return shown{Answer: &server.SourcesAnswer{Region: region, Sources: []server.SourceStatus{src}}}
	}
	more := server1("", "up", 12)
	more.Answer.Sources = append(more.Answer.Sources, server.SourceStatus{Name: "direct", State: "unknown"})
	all := []shown{server1("eu", "up", 10), server1("us", "up", 30), server1("us", "down", 0), server1("us", "up", 50), more, {Error: "it does not answer"}}
	var peers []peer
	for _, name := range []string{"1", "2", "3", "4", "h.example", "dead.example"} {
		peers = append(peers, peer{short: name})
	}
	want := `SOURCE                  eu       us                   h.example  dead.example
corp https://a.example  up 10ms  down ×1, up ×2 50ms  up 12ms    -
direct                  -        -                    unknown    -`
	if got := strings.Join(regionTable(peers, all, 0, false), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheColumnsThatHaveNoRoomAreKnown(t *testing.T) {
	rows := [][]string{{"name", "long", "short"}, {"a", strings.Repeat("x", 60), "yes"}}
	for width, want := range map[int]string{0: "", 100: "", 60: "", 30: "long", 8: "long short"} {
		_, gone := columns(rows, width, []int{1}, []int{1, 2})
		var names []string
		for i, g := range gone {
			if g {
				names = append(names, rows[0][i])
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("at %d columns %q have no room, want %q", width, got, want)
		}
	}
}

func TestALongLineIsFoldedAtSpaces(t *testing.T) {
	for _, x := range []struct {
		line  string
		width int
		want  string
	}{
		{"a word and another", 0, "a word and another"},
		{"a word and another", 18, "a word and another"},
		{"a word and another of them, and so on", 20, "a word and another|  of them, and so on"},
		{"  a word and another of them, and so on", 22, "  a word and another|    of them, and so on"},
		{"see https://a.example/with/a/long/path for all of it", 20, "see|  https://a.example/with/a/long/path|  for all of it"},
		{"https://a.example/with/a/long/path/alone", 20, "https://a.example/with/a/long/path/alone"},
		{"größere Wörter zählen nach Zeichen", 20, "größere Wörter|  zählen nach|  Zeichen"},
		{"", 20, ""},
		{"a word and another", 3, "a word and another"}, // no room for anything
	} {
		if got := strings.Join(fold(x.line, x.width), "|"); got != x.want {
			t.Errorf("%q at %d: %q, want %q", x.line, x.width, got, x.want)
		}
	}
}
