//go:build unix

// Command faultmatrix shows sources that fail, in every way that is known, to
// Sluice as it is built, with the real go command as its client, and judges what
// becomes of the builds.
//
//	go run ./tools/faultmatrix -o docs/faults.md     everything
//	go run ./tools/faultmatrix -run '^hang/first/'   some cells
//
// A cell is a fault, a position (first of three sources; first two; all three with
// the store warm) and a spelling of the chain. In each, a go command downloads 60
// modules, cold and verified, through a Sluice just started, and then once more,
// with another module cache and other modules, through the same one. What must come
// of it is the table in expect.go. The bars:
//
//   - no failed build where a source that the chain allows, or the store, could
//     serve; and where the chain allows none, it fails and says so;
//   - a source of no use costs less than a second in all at first contact, and
//     less than 5 % (plus what healthy runs differ by) once known;
//   - no trouble ever becomes a 404 or 410, and nothing wrong is served.
//
// Beside it stands what the go command alone does, and what peers do: for each
// environment variable SLUICE_PEER_NAME the command line in it is run by sh, with
// {upstream} replaced by the sources as a GOPROXY list with bars, {port} by the
// port to listen at, on 127.0.0.1, and {dir} by an empty directory; GOPROXY and
// GOSUMDB are set for it, too:
//
//	SLUICE_PEER_GOPROXY='goproxy server --address 127.0.0.1:{port} --cacher-dir {dir}'
//
// Exit status: 0 all bars hold, 1 one is missed, 2 it could not be judged.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
)

// again is how many cells are measured between two healthy runs of their kind, so
// that a machine that slows down does so for both.
const again = 10

type options struct {
	run     *regexp.Regexp
	sluice  string
	limit   time.Duration
	repeat  int
	alone   bool
	times   bool
	environ []string
}

func main() {
	out := flag.String("o", "", "write the tables as Markdown to this `file`")
	asJSON := flag.Bool("json", false, "print the results as JSON, and the progress to stderr")
	run := flag.String("run", "", "only cells whose FAULT/POSITION/CHAIN matches this `regexp`")
	o := options{environ: os.Environ()}
	flag.StringVar(&o.sluice, "sluice", "", "judge this `program` instead of building ./cmd/sluice")
	flag.DurationVar(&o.limit, "limit", 20*time.Second, "stop a build after this time: it hangs")
	flag.IntVar(&o.repeat, "repeat", 4, "healthy runs before the first cell of each kind")
	flag.BoolVar(&o.alone, "alone", true, "show what the go command does alone")
	flag.BoolVar(&o.times, "times", true, "judge what builds cost, too; without it only whether they pass, and what they get")
	flag.Parse()
	var err error
	if o.run, err = regexp.Compile(*run); err != nil || flag.NArg() > 0 || o.repeat < 1 {
		fmt.Fprintf(os.Stderr, "faultmatrix: it takes flags only, a valid -run and a -repeat of at least 1; see -h (%v)\n", err)
		os.Exit(2)
	}
	progress := io.Writer(os.Stdout)
	if *asJSON {
		progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep, err := judgeAll(ctx, o, progress)
	if err == nil && *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "\t")
		err = enc.Encode(rep)
	}
	if err == nil && *out != "" {
		err = os.WriteFile(*out, []byte(rep.markdown()), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faultmatrix:", err)
		os.Exit(2)
	}
	if rep.Missed > 0 {
		os.Exit(1)
	}
}

// memory is the directory of a file system in memory, where there is one and
// nobody chose another: sources are judged here, not disks. Else it is "".
func memory() string {
	const shm = "/dev/shm"
	if _, set := os.LookupEnv("TMPDIR"); set {
		return ""
	}
	if fi, err := os.Stat(shm); err != nil || !fi.IsDir() {
		return ""
	}
	return shm
}

// judgeAll measures and judges the cells that the options choose.
func judgeAll(ctx context.Context, o options, progress io.Writer) (rep *report, err error) {
	dir, err := os.MkdirTemp(memory(), "faultmatrix-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if o.sluice == "" {
		o.sluice = filepath.Join(dir, "sluice")
		if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", o.sluice, "./cmd/sluice").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building sluice, which wants the repository's root as the working directory: %w\n%s", err, out)
		}
	}
	rep = newReport(o, cells(o.run.MatchString))
	if len(rep.Cells) == 0 {
		return nil, fmt.Errorf("no cell's name matches %q; names are like hang/first/pipe", o.run)
	}
	begin := time.Now()
	err = modtest.Scoped(ctx, dir, func(t *modtest.Scope) {
		m := newMatrix(t)
		m.sluice, m.limit, m.timed = o.sluice, o.limit, o.times
		measured := map[baseline]int{} // cells so far
		for _, c := range rep.Cells {
			b := c.baseline()
			h := rep.well[b]
			for n := 0; o.times && c.Pass && (len(h.First) < o.repeat || n == 0 && measured[b]%again == 0 && measured[b] > 0); n++ {
				t.Must(m.measureWell(t, b, h))
			}
			if c.Pass {
				measured[b]++
			}
			t.Must(m.measure(t, c, rep.measure(b)))
			fmt.Fprintln(progress, c)
		}
		// Later healthy runs may show that an earlier cell was late after all.
		for _, c := range rep.Cells {
			if judge(c, rep.measure(c.baseline()), o.times); len(c.Misses) > 0 && c.onlyLate() && len(c.First) == 1 {
				t.Must(m.measure(t, c, rep.measure(c.baseline())))
				fmt.Fprintln(progress, c)
			}
		}
		t.Must(rep.beside(m, t, o, progress))
	})
	if err != nil {
		return nil, err
	}
	rep.Took = time.Since(begin).Seconds()
	rep.judge()
	fmt.Fprint(progress, rep.summary())
	return rep, nil
}

// beside shows the faults of the chosen cells to the bystanders.
func (rep *report) beside(m *matrix, t *modtest.Scope, o options, progress io.Writer) error {
	rep.Beside = bystanders(o.environ, o.alone)
	var chosen []fault
	for _, f := range table() {
		for _, c := range rep.Cells {
			if c.Fault == f.name {
				chosen = append(chosen, f)
				break
			}
		}
	}
	for _, b := range rep.Beside {
		r, err := m.watch(t, b, nil)
		if err == nil && !r.Passed {
			err = errors.New(strings.TrimSpace("it does not even download from three well sources: " + r.Said))
		}
		if err != nil {
			return fmt.Errorf("%s, %s: %w", b.Name, b.Client, err)
		}
		b.Runs[""] = r
	}
	return m.watchAll(t, rep.Beside, chosen, func(b *bystander, f *fault, r run) {
		fmt.Fprintf(progress, "%-40s %s\n", b.Name+", "+b.Client+": "+f.name, r.text(m.limit))
	})
}
