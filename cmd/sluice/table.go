package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// stdoutColumns is how wide the terminal is that stdout is shown at; 0 if it is
// none, and lines may be as long as they are.
func (e *env) stdoutColumns() int {
	f, ok := e.rawStdout().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
		return n
	}
	return 80
}

// stdoutRows is how high that terminal is; 0 if it is none.
func (e *env) stdoutRows() int {
	if f, ok := e.rawStdout().(*os.File); ok {
		if _, n, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// colours reports whether stdout is shown to somebody who sees colours.
func (e *env) colours() bool {
	return e.stdoutColumns() > 0 && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb"
}

const (
	columnGap = 2
	// A column is shortened to softCut before others are left out for it, and to
	// leastCut if that is not enough.
	softCut  = 36
	leastCut = 16
)

// layout makes lines of rows, the first of which is the head, in aligned columns.
// Where they are wider than width, which is 0 for no limit, the columns of cut are
// shortened somewhat, those of drop left out in turn, and those of cut shortened
// further.
func layout(rows [][]string, width int, cut, drop []int, paint ...func(row, col int, text string) string) []string {
	wide, gone := columns(rows, width, cut, drop)
	last := len(wide) - 1
	for last > 0 && gone[last] {
		last--
	}
	var lines []string
	for n, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			if gone[i] {
				continue
			}
			cell = shorten(cell, wide[i])
			pad := strings.Repeat(" ", wide[i]-utf8.RuneCountInString(cell)+columnGap)
			for _, p := range paint {
				cell = p(n, i, cell)
			}
			b.WriteString(cell)
			if i < last {
				b.WriteString(pad)
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// columns are how wide layout makes each column, and which it leaves out.
func columns(rows [][]string, width int, cut, drop []int) (wide []int, gone []bool) {
	wide = make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			wide[i] = max(wide[i], utf8.RuneCountInString(cell))
		}
	}
	gone = make([]bool, len(wide))
	total := func() int {
		n := -columnGap
		for i, w := range wide {
			if !gone[i] {
				n += w + columnGap
			}
		}
		return n
	}
	shrink := func(least int) {
		for _, i := range cut {
			if over := total() - width; over > 0 {
				wide[i] = max(wide[i]-over, min(wide[i], least))
			}
		}
	}
	if width > 0 {
		shrink(softCut)
		for _, i := range drop {
			if total() <= width {
				break
			}
			gone[i] = true
		}
		shrink(leastCut)
	}
	return wide, gone
}

// fold breaks a line at spaces, so that its parts have at most width runes, where its
// words are not longer; those that follow the first are indented by two more. Width 0 is
// no limit.
func fold(line string, width int) []string {
	text := strings.TrimLeft(line, " ")
	indent := line[:len(line)-len(text)]
	if width <= len(indent)+softCut/2 {
		return []string{line}
	}
	var lines []string
	for first := true; utf8.RuneCountInString(indent+text) > width; first = false {
		r := []rune(text)
		room := width - len(indent)
		at := room
		for at > 0 && r[at] != ' ' {
			at--
		}
		if at == 0 { // a word that is too long
			if at = slices.Index(r[room:], ' ') + room; at < room {
				break
			}
		}
		lines = append(lines, indent+string(r[:at]))
		text = strings.TrimLeft(string(r[at:]), " ")
		if first {
			indent += "  "
		}
	}
	return append(lines, indent+text)
}

// shorten is text with at most n runes; width 0 is no limit.
func shorten(text string, n int) string {
	if r := []rune(text); len(r) > n && n > 0 {
		return string(slices.Concat(r[:n-1], []rune("…")))
	}
	return text
}

// short is a duration as people say it: 5s, 12m, 3h, 4d.
func short(d time.Duration) string {
	switch d = max(d, 0).Round(time.Second); {
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
