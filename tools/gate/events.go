package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// An event is a line of go test -json; see go doc test2json.
type event struct {
	Action      string
	Package     string
	Test        string // empty for the package itself
	Output      string
	Elapsed     float64 // seconds
	FailedBuild string  // the package whose build failed, with Action fail
}

// parseEvent reads one line. What is not JSON is output of the go command itself.
func parseEvent(line []byte) event {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		return event{Action: "build-output", Output: string(line) + "\n"}
	}
	return e
}

// readEvents counts the tests that go test -json tells of into t, and prints one
// line for each package that passed and all output of what failed.
func readEvents(r io.Reader, w io.Writer, t *tally) error {
	type pkg struct {
		output  map[string]*bytes.Buffer // by test, while it runs and when it has failed
		order   []string                 // of the keys of output
		passed  int
		failed  int
		skipped int
	}
	pkgs := map[string]*pkg{}
	for sc := newScanner(r); ; {
		if !sc.Scan() {
			return sc.Err()
		}
		e := parseEvent(sc.Bytes())
		p := pkgs[e.Package]
		if p == nil {
			p = &pkg{output: map[string]*bytes.Buffer{}}
			pkgs[e.Package] = p
		}
		switch e.Action {
		case "build-output":
			io.WriteString(w, e.Output)
		case "output":
			if p.output[e.Test] == nil {
				p.output[e.Test] = new(bytes.Buffer)
				p.order = append(p.order, e.Test)
			}
			p.output[e.Test].WriteString(e.Output)
		case "pass", "fail", "skip":
			out := p.output[e.Test]
			if e.Test != "" {
				switch e.Action {
				case "pass":
					p.passed++
					t.pass()
				case "fail":
					p.failed++
					t.fail(e.Package + " " + e.Test)
				case "skip":
					p.skipped++
					t.skip(e.Package + " " + e.Test + ": " + skipReason(out))
				}
				if e.Action != "fail" {
					delete(p.output, e.Test)
				}
				continue
			}
			if e.Action == "fail" {
				var unfinished []string
				for _, test := range p.order {
					if test != "" && p.output[test] != nil {
						p.output[test].WriteTo(w)
						unfinished = append(unfinished, test)
					}
				}
				if out != nil {
					out.WriteTo(w)
				}
				switch {
				case p.failed > 0: // and named
				case e.FailedBuild != "":
					t.fail(e.Package + ": it does not build")
				case len(unfinished) > 0:
					t.fail(e.Package + ": it ended in the midst of " + strings.Join(unfinished, ", "))
				default:
					t.fail(e.Package + ": it failed outside its tests")
				}
			}
			switch {
			case e.Action == "skip":
				fmt.Fprintf(w, "     %s has no tests\n", e.Package)
			case e.Action == "pass":
				fmt.Fprintf(w, "ok   %s (%.1fs): %d passed, %d skipped\n", e.Package, e.Elapsed, p.passed, p.skipped)
			default:
				fmt.Fprintf(w, "FAIL %s (%.1fs): %d passed, %d failed, %d skipped\n", e.Package, e.Elapsed, p.passed, p.failed, p.skipped)
			}
			delete(pkgs, e.Package)
		}
	}
}

// skipReason is what the test said, without the frame that go test puts round it.
func skipReason(out *bytes.Buffer) string {
	if out == nil {
		return "no reason given"
	}
	var said []string
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

type fuzzTarget struct{ pkg, name string }

// fuzzTargets reads what go test -json -list=^Fuzz printed.
func fuzzTargets(list []byte) (all []fuzzTarget) {
	for sc := newScanner(bytes.NewReader(list)); sc.Scan(); {
		if e := parseEvent(sc.Bytes()); e.Action == "output" && strings.HasPrefix(e.Output, "Fuzz") {
			all = append(all, fuzzTarget{e.Package, strings.TrimSpace(e.Output)})
		}
	}
	return all
}

// newScanner reads lines of up to 16 MiB: a test may log a whole body.
func newScanner(r io.Reader) *bufio.Scanner {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	return sc
}
