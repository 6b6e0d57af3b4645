//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// wrkScript asks for the paths in turn, each thread from another place, and prints
// what it has seen as one line of JSON behind a mark.
const wrkScript = `local paths = {
%s}
local reqs, at = {}, 0
local threads = 0
function setup(thread)
	thread:set("first", threads * math.floor(#paths / 2))
	threads = threads + 1
end
function init(args)
	for i, p in ipairs(paths) do reqs[i] = wrk.format("GET", p) end
	at = first
end
function request()
	at = at %% #reqs + 1
	return reqs[at]
end
function done(s, latency, requests)
	io.write(string.format('\n` + wrkMark + `{"requests":%%d,"micros":%%d,"bytes":%%d,"bad":%%d,"p50":%%d,"p99":%%d}\n',
		s.requests, s.duration, s.bytes,
		s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout,
		latency:percentile(50), latency:percentile(99)))
end
`

const wrkMark = "sluice-bench "

// A wrkResult is what one run of wrk saw. Latencies are in microseconds.
type wrkResult struct {
	Requests, Micros, Bytes, Bad int64
	P50, P99                     int64
}

func (r wrkResult) perSecond() float64 { return float64(r.Requests) / (float64(r.Micros) / 1e6) }

// parseWrk finds the line that the script prints.
func parseWrk(out []byte) (wrkResult, error) {
	var r wrkResult
	_, rest, ok := bytes.Cut(out, []byte("\n"+wrkMark))
	if !ok {
		return r, fmt.Errorf("wrk did not print its result; it said: %s", lastLines(string(out), 5))
	}
	text, _, _ := bytes.Cut(rest, []byte("\n"))
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("wrk printed a result that cannot be read: %q: %w", text, err)
	}
	if r.Requests <= 0 || r.Micros <= 0 {
		return r, fmt.Errorf("wrk got no answer in its time: %s", text)
	}
	return r, nil
}

// A load is a mix of paths that wrk asks for.
type load struct{ script string }

// newLoad writes the script for paths, which begin with a slash.
func newLoad(dir, name string, paths []string) (load, error) {
	var list strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&list, "\t%q,\n", p)
	}
	file := filepath.Join(dir, name+".lua")
	return load{file}, os.WriteFile(file, fmt.Appendf(nil, wrkScript, list.String()), 0o644)
}

const (
	wrkThreads = "2"
	wrkConns   = "32"
)

// run puts the load on a server for so long. An answer other than 200 is an error:
// speed at the wrong thing is none.
func (l load) run(ctx context.Context, url string, d time.Duration) (wrkResult, error) {
	seconds := max(1, int(d.Round(time.Second)/time.Second)) // it knows whole ones only
	cmd := exec.CommandContext(ctx, "wrk", "-t"+wrkThreads, "-c"+wrkConns, fmt.Sprintf("-d%ds", seconds), "-s", l.script, url)
	ownGroup(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return wrkResult{}, fmt.Errorf("wrk: %w: %s", err, lastLines(string(out), 5))
	}
	r, err := parseWrk(out)
	if err == nil && r.Bad > 0 {
		err = fmt.Errorf("%d of %d requests failed", r.Bad, r.Requests)
	}
	return r, err
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
