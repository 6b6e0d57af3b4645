package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/bench"
	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goenv"
)

// briefly is how bench measures for the word best: enough to tell good from bad, and
// over in less than a minute.
var briefly = benchOrder{rounds: 2, time: 10 * time.Second, mb: 10}

// withBest is text with list in place of each word best, and how many there are.
func withBest(text, list string) (string, int) {
	var b strings.Builder
	n := 0
	for len(text) > 0 {
		word, sep := text, ""
		if i := strings.IndexAny(text, ",|"); i >= 0 {
			word, sep = text[:i], text[i:i+1]
		}
		text = text[len(word)+len(sep):]
		if strings.TrimSpace(word) == useBest {
			word = list
			n++
		}
		b.WriteString(word + sep)
	}
	return b.String(), n
}

// hasBest reports whether a list has the word best.
func hasBest(text string) bool {
	_, n := withBest(text, "")
	return n > 0
}

// measureBest is the list with the mirrors in place of the word best that are best from
// here. Where it fails, or is broken off, nothing was changed.
func (e *env) measureBest(ctx context.Context, l *config.Loaded, settings *goenv.Settings, text string, o useFlags, u *used) (string, error) {
	if _, n := withBest(text, ""); n > 1 {
		return "", misuse("the word best stands %d times in the list; once is enough", n)
	}
	if o.scope == scopeUser {
		// Before anybody is asked: without a file it would be for nothing.
		if _, err := e.goEnvFile(settings); err != nil {
			return "", err
		}
	}
	rep, err := e.bench(ctx, l, settings, briefly, o.among)
	if err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		e.say("nothing was changed")
		return "", context.Cause(ctx)
	}
	if rep.Use() == "" {
		return "", &exitError{status: exitNo, err: fmt.Errorf("%s; nothing was changed", rep.Sentence), hint: "sluice bench says more about each; if you know a source that works, name it in the place of best"}
	}
	u.Best = rep.Sentence
	e.say("%s", rep.Sentence)
	for _, m := range rep.Mirrors {
		if m.Verdict == bench.Lying {
			u.Warnings = append(u.Warnings, fmt.Sprintf("%s is not to be used: %s", m.Name, m.Text))
		}
	}
	text, _ = withBest(text, rep.Use())
	return text, nil
}
