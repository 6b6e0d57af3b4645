package main

import (
	"log/slog"
	"net/http"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/server"
)

// What goes to a terminal cannot be read; what was asked for in vain is known all the same.
func TestTheFirstModuleThatCouldNotBeHadIsTheOneThatWasMissed(t *testing.T) {
	var m missedModule
	passed := 0
	note := m.note(func(slog.Level, server.Line) { passed++ })
	for _, l := range []server.Line{
		{Status: http.StatusOK, Module: "example.com/fine", Version: "v1.0.0"},
		{Status: http.StatusNotFound, Module: "example.com"}, // the prefix of a path
		{Status: http.StatusBadGateway},                      // no module: /sumdb/ or /-/
		{Status: http.StatusBadGateway, Module: "example.com/first", Version: "v1.2.0"},
		{Status: http.StatusForbidden, Module: "example.com/second", Version: "v1.0.0"},
	} {
		note(slog.LevelInfo, l)
	}
	if passed != 5 {
		t.Errorf("%d of 5 lines were passed on", passed)
	}
	if got, want := m.by(explain.Result{}), (module.Version{Path: "example.com/first", Version: "v1.2.0"}); got != want {
		t.Errorf("%v was missed, want %v", got, want)
	}
	// The output knows better, if there is one: what was fetched ahead may not be needed.
	if got, want := m.by(explain.Result{Module: "example.com/other"}), (module.Version{Path: "example.com/other"}); got != want {
		t.Errorf("%v was missed, want %v", got, want)
	}
}
