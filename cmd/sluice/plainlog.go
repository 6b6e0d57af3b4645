package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
)

// maxPlain is how much of a logged error is said, in bytes.
const maxPlain = 2000

// A plainLog says what is logged as errors in the words of all else that a command says,
// for a person who has asked for no log. It implements slog.Handler.
type plainLog struct {
	e     *env
	attrs []slog.Attr
}

// sessionLog is what a session logs to: the sink if somebody has asked for a log, and else
// what this command says.
func (e *env) sessionLog(l *config.Loaded, sink *logSink) *slog.Logger {
	if l.From["log.level"].Layer == config.Default && l.From["log.format"].Layer == config.Default {
		return slog.New(plainLog{e: e})
	}
	return sink.logger()
}

func (plainLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// Handle says the message, the module that it is about, what else there is, and the error
// last.
func (h plainLog) Handle(_ context.Context, r slog.Record) error {
	var mod, version, why, stack string
	var rest []string
	add := func(a slog.Attr) bool {
		switch v := a.Value.Resolve().String(); {
		case v == "":
		case a.Key == "module":
			mod = v
		case a.Key == "version":
			version = v
		case a.Key == "err":
			why = v
		case a.Key == "stack":
			stack = v
		default:
			rest = append(rest, a.Key+" "+v)
		}
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	if version != "" {
		mod += "@" + version
	}
	if mod != "" {
		rest = append([]string{mod}, rest...)
	}
	text := r.Message
	for _, part := range []string{strings.Join(rest, ", "), why} {
		if part != "" {
			text += ": " + part
		}
	}
	text = finding.OneLine(text, maxPlain) // servers have their words in it
	if stack != "" {
		text += "\n" + stack
	}
	h.e.say("%s", text)
	return nil
}

func (h plainLog) WithAttrs(a []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], a...)
	return h
}

// WithGroup gives the same: nobody who reads it asks for groups.
func (h plainLog) WithGroup(string) slog.Handler { return h }
