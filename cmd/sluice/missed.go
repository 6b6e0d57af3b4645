package main

import (
	"log/slog"
	"net/http"
	"sync"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/server"
)

// A missedModule is the first module that a command asked for in vain, for want of a
// source that has it. It is safe for concurrent use.
type missedModule struct {
	mu  sync.Mutex // guards the following
	mod module.Version
}

// note takes note of the requests whose lines go to next.
func (m *missedModule) note(next func(slog.Level, server.Line)) func(slog.Level, server.Line) {
	return func(level slog.Level, l server.Line) {
		// "Not found" is an everyday answer: the go command tries each prefix of a path.
		if l.Module != "" && (l.Status >= http.StatusInternalServerError || l.Status == http.StatusForbidden) {
			m.mu.Lock()
			if m.mod.Path == "" {
				m.mod = module.Version{Path: l.Module, Version: l.Version}
			}
			m.mu.Unlock()
		}
		next(level, l)
	}
}

// by is the module that a command failed for: the one that its output names, or where
// that went to a terminal or names none, the first that could not be had. The version,
// or all of it, may be empty.
func (m *missedModule) by(r explain.Result) module.Version {
	if r.Module != "" {
		return module.Version{Path: r.Module, Version: r.Version}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mod
}
