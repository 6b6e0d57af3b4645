package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestWhatIsLoggedAsAnErrorMovesNoCursor(t *testing.T) {
	var b strings.Builder
	log := slog.New(plainLog{e: &env{stderr: &b}})
	log.Error("source gave wrong bytes", slog.String("module", "example.com/a"), slog.String("version", "v1.0.0"), slog.Any("err", errors.New("it said \x1b[2K\rall is well\nand more")))
	got := b.String()
	if strings.ContainsAny(got, "\x1b\r") || strings.Count(got, "\n") != 1 || !strings.Contains(got, "example.com/a@v1.0.0: it said") {
		t.Errorf("%q", got)
	}
}
