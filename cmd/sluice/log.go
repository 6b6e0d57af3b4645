package main

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/server"
)

// A logSink is where log lines go, in a form and from a level that a reload may
// change.
type logSink struct {
	level slog.LevelVar
	json  atomic.Bool
	out   *logBuffer
}

func newLogSink(w io.Writer) *logSink { return &logSink{out: &logBuffer{w: w}} }

func (s *logSink) set(l *config.Loaded) {
	s.level.Set(l.Log.Level)
	s.json.Store(l.Log.Format == "json")
}

func (s *logSink) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: &s.level}
	return slog.New(logHandler{s, slog.NewTextHandler(s.out, o), slog.NewJSONHandler(s.out, o)})
}

// request writes the line of a request, as the logger would, at a fraction of the
// price: a busy server writes many. That of one which went well may wait for a
// moment, to be written with others.
func (s *logSink) request(level slog.Level, l server.Line) {
	if level < s.level.Level() {
		return
	}
	s.out.add(level >= slog.LevelWarn, func(b []byte) []byte {
		if s.json.Load() {
			return appendJSONLine(b, time.Now(), level, &l)
		}
		return appendTextLine(b, time.Now(), level, &l)
	})
}

// A logHandler is two handlers, of which the sink chooses one for each record.
type logHandler struct {
	sink       *logSink
	text, json slog.Handler
}

func (h logHandler) now() slog.Handler {
	if h.sink.json.Load() {
		return h.json
	}
	return h.text
}

func (h logHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.now().Enabled(ctx, l) }
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.now().Handle(ctx, r)
}
func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return logHandler{h.sink, h.text.WithAttrs(a), h.json.WithAttrs(a)}
}
func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.sink, h.text.WithGroup(name), h.json.WithGroup(name)}
}

const (
	// logWait is how long a line may wait to be written with others.
	logWait = 100 * time.Millisecond
	// logFull is how many bytes wait no longer.
	logFull = 32 << 10
)

// A logBuffer writes lines in their order, some of them together.
type logBuffer struct {
	w io.Writer

	mu  sync.Mutex // guards the following, and w; the writes to w are what it is for
	buf []byte
	due bool // flush will be called
}

// add adds the line that f appends; at once, or soon.
func (l *logBuffer) add(now bool, f func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = f(l.buf)
	switch {
	case now || len(l.buf) >= logFull:
		l.write()
	case !l.due:
		l.due = true
		time.AfterFunc(logWait, l.flush)
	}
}

// Write writes p after what waits.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	return len(p), l.write()
}

// flush writes what waits.
func (l *logBuffer) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = false
	l.write()
}

func (l *logBuffer) write() error {
	if len(l.buf) == 0 {
		return nil
	}
	_, err := l.w.Write(l.buf) // where a log cannot be written there is nobody to tell
	l.buf = l.buf[:0]
	return err
}

// appendTextLine appends what a slog.TextHandler makes of l.
func appendTextLine(b []byte, at time.Time, level slog.Level, l *server.Line) []byte {
	b = append(b, "time="...)
	b = appendLogTime(b, at)
	b = append(b, " level="...)
	b = append(b, level.String()...)
	b = append(b, " msg=request id="...)
	b = appendLogText(b, l.ID)
	b = append(b, " client="...)
	b = appendLogText(b, l.Client)
	b = append(b, " method="...)
	b = appendLogText(b, l.Method)
	b = append(b, " status="...)
	b = strconv.AppendInt(b, int64(l.Status), 10)
	b = append(b, " bytes="...)
	b = strconv.AppendInt(b, l.Bytes, 10)
	b = append(b, " took="...)
	b = appendLogText(b, l.Took.String())
	for _, f := range l.Texts() {
		if f[1] != "" {
			b = append(b, ' ')
			b = append(b, f[0]...)
			b = append(b, '=')
			b = appendLogText(b, f[1])
		}
	}
	return append(b, '\n')
}

// appendJSONLine appends what a slog.JSONHandler makes of l.
func appendJSONLine(b []byte, at time.Time, level slog.Level, l *server.Line) []byte {
	b = append(b, `{"time":"`...)
	b = at.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"`...)
	b = append(b, level.String()...)
	b = append(b, `","msg":"request","id":`...)
	b = appendLogJSON(b, l.ID)
	b = append(b, `,"client":`...)
	b = appendLogJSON(b, l.Client)
	b = append(b, `,"method":`...)
	b = appendLogJSON(b, l.Method)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(l.Status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, l.Bytes, 10)
	b = append(b, `,"took":`...)
	b = strconv.AppendInt(b, int64(l.Took), 10)
	for _, f := range l.Texts() {
		if f[1] != "" {
			b = append(b, ',', '"')
			b = append(b, f[0]...)
			b = append(b, '"', ':')
			b = appendLogJSON(b, f[1])
		}
	}
	return append(b, '}', '\n')
}

// appendLogTime appends t as a slog.TextHandler does: RFC 3339, always with
// milliseconds.
func appendLogTime(b []byte, t time.Time) []byte {
	n := len(b) + len("2006-01-02T15:04:05.000")
	// The layout that package time is fast at drops zeros at the end: give it a
	// fourth digit, and take that away.
	b = t.Truncate(time.Millisecond).Add(time.Millisecond/10).AppendFormat(b, time.RFC3339Nano)
	return append(b[:n], b[n+1:]...)
}

// appendLogText appends s as a slog.TextHandler does, quoted if need be.
func appendLogText(b []byte, s string) []byte {
	if logTextIsPlain(s) {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}

func logTextIsPlain(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			// What JSON would escape is quoted, but for the backslash.
			if c != '\\' && (c <= ' ' || c == '=' || c == '"') {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}

// appendLogJSON appends s as a slog.JSONHandler does.
func appendLogJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c == '\n':
				b = append(b, '\\', 'n')
			case c == '\r':
				b = append(b, '\\', 'r')
			case c == '\t':
				b = append(b, '\\', 't')
			case c < ' ':
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				b = append(b, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			b = append(b, `\u202`...)
			b = append(b, hex[r&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}
