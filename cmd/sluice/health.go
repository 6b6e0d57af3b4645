package main

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/upstream"
)

// healthFile keeps what is known of the sources across restarts, as a hint. Of
// several processes on one directory, the last to stop is believed.
func (w *world) healthFile() string { return filepath.Join(w.store.Dir(), ".sluice", "health.json") }

// newHealth makes the record of how the sources do, which begins with what the
// last process knew.
func (w *world) newHealth(l *config.Loaded) *upstream.Health {
	h := upstream.NewHealth(healthConfig(w, l))
	if data, err := os.ReadFile(w.healthFile()); err == nil {
		if err := h.Load(data); err != nil {
			w.log.Debug("what was known of the sources cannot be read", slog.Any("err", err))
		}
	}
	w.putUpFences(h, l.Sources.Fence)
	return h
}

func healthConfig(w *world, l *config.Loaded) upstream.HealthConfig {
	// What zero means to the health is its own idea of a good value; to the user it
	// is none.
	return upstream.HealthConfig{
		Heartbeat: cmp.Or(l.Sources.Heartbeat, -1), Retries: cmp.Or(l.Sources.Retries, -1), Backoff: l.Sources.Backoff,
		RetryWithin: cmp.Or(l.Sources.Patience, -1), Fence: cmp.Or(l.Sources.Fence, -1), Changed: w.sourceChanged,
	}
}

func (w *world) saveHealth() {
	if w.store.Writable() != nil {
		return
	}
	data, err := w.health.Save()
	name := w.healthFile()
	if err == nil {
		err = os.WriteFile(name+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		w.log.Debug("what is known of the sources is not kept", slog.Any("err", err))
	}
}

// sourceChanged logs that a source leaves or returns.
func (w *world) sourceChanged(c upstream.Change) {
	attrs := []any{slog.String("source", c.Source), slog.String("state", string(c.State))}
	if c.Ask != "" {
		attrs = append(attrs, slog.String("for", string(c.Ask)))
	}
	w.drills.changed(c)
	if c.Why != "" {
		attrs = append(attrs, slog.String("why", finding.Redact(c.Why)))
	}
	if c.Module != "" {
		w.log.Warn("source is fenced off", append(attrs, slog.String("module", c.Module))...)
		if w.drills.lying(c.Source) {
			return // it is the fault's doing
		}
		if err := w.keepFence(fence{Source: c.Source, Module: c.Module, Why: finding.Redact(c.Why)}); err != nil {
			w.log.Warn("a fence is not kept across restarts", slog.String("source", c.Source), slog.String("module", c.Module), slog.Any("err", err))
		}
		return
	}
	switch c.State {
	case upstream.Up:
		w.log.Info("source is back", append(attrs, slog.Duration("after", c.After))...)
	default:
		w.log.Warn("source is left", attrs...)
	}
}
