package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/server"
)

// slogLine is what the standard handlers print of l.
func slogLine(l *server.Line, level slog.Level, at time.Time, json bool) string {
	var b bytes.Buffer
	var h slog.Handler = slog.NewTextHandler(&b, nil)
	if json {
		h = slog.NewJSONHandler(&b, nil)
	}
	r := slog.NewRecord(at, level, "request", 0)
	r.AddAttrs(slog.String("id", l.ID), slog.String("client", l.Client), slog.String("method", l.Method),
		slog.Int("status", l.Status), slog.Int64("bytes", l.Bytes), slog.Duration("took", l.Took))
	for _, f := range l.Texts() {
		if f[1] != "" {
			r.AddAttrs(slog.String(f[0], f[1]))
		}
	}
	h.Handle(context.Background(), r)
	return b.String()
}

func FuzzLogLines(f *testing.F) {
	f.Add("ABC", "127.0.0.1:4000", "GET", int64(1234), int64(33_000), "a.test/m", "not found: \"x\"\n\x1b[1m", int64(1_700_000_000_123_456_789))
	f.Add("", "[::1]:80", "G=T", int64(0), int64(0), "a.test/ä\u2028\u00a0", "\xff\x00\x7f\\", int64(1_700_000_000_000_000_000))
	f.Fuzz(func(t *testing.T, id, client, method string, n, took int64, module, err string, at int64) {
		l := server.Line{ID: id, Client: client, Method: method, Status: int(n % 1000), Bytes: n, Took: time.Duration(took), Kind: "mod", Module: module, Err: err}
		when := time.Unix(0, at%4e18).In(time.FixedZone("", int(n%14)*3600))
		for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn} {
			if got, want := string(appendTextLine(nil, when, level, &l)), slogLine(&l, level, when, false); got != want {
				t.Errorf("text\n got %s want %s", got, want)
			}
			if got, want := string(appendJSONLine(nil, when, level, &l)), slogLine(&l, level, when, true); got != want {
				t.Errorf("JSON\n got %s want %s", got, want)
			}
		}
	})
}

func TestLinesOfRequestsWaitForAMomentAndOnlyThey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newLogSink(&out)
		line := server.Line{ID: "A", Status: 200}
		s.request(slog.LevelInfo, line)
		if out.Len() > 0 {
			t.Errorf("a line of a request is written at once: %s", &out)
		}
		s.logger().Info("something else")
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 2 || !bytes.Contains(bytes.SplitAfter(out.Bytes(), []byte("\n"))[1], []byte("something else")) {
			t.Errorf("%d lines, want the request's and then the other: %s", n, &out)
		}
		out.Reset()
		s.request(slog.LevelInfo, line)
		s.request(slog.LevelWarn, line)
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 2 {
			t.Errorf("%d lines after a warning, which waits for nothing", n)
		}
		out.Reset()
		s.request(slog.LevelInfo, line)
		time.Sleep(logWait)
		synctest.Wait()
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
			t.Errorf("%d lines after %v", n, logWait)
		}
		out.Reset()
		for i := range 1000 {
			line.ID = fmt.Sprint(i)
			s.request(slog.LevelInfo, line)
		}
		if n := bytes.Count(out.Bytes(), []byte("\n")); n < 500 {
			t.Errorf("%d lines written of a thousand, though so many do not wait", n)
		}
		s.out.flush()
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1000 {
			t.Errorf("%d lines of a thousand", n)
		}
		out.Reset()
		s.level.Set(slog.LevelWarn)
		s.request(slog.LevelInfo, line)
		s.out.flush()
		if out.Len() > 0 {
			t.Errorf("written below its level: %s", &out)
		}
	})
}

func BenchmarkLogLine(b *testing.B) {
	s := newLogSink(new(discard))
	l := server.Line{ID: "ABCDEFGHIJKL", Client: "127.0.0.1:4000", Method: "GET", Status: 200, Bytes: 1234, Took: 33 * time.Microsecond,
		Kind: "mod", Module: "example.com/org/mod", Version: "v1.2.3", Outcome: "hit", Source: "proxy.example.com"}
	b.ReportAllocs()
	for b.Loop() {
		s.request(slog.LevelInfo, l)
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
