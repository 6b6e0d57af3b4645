//go:build linux

// Command bench measures how fast Sluice is, beside what it stands against: nginx
// over the same tree, a net/http server without logic, a reverse proxy that does
// no work, GOPROXY=file://, the go command going to the source itself, and other
// proxies if they are named.
//
//	go run ./bench                       quick, less than four minutes, a small graph
//	go run ./bench -full                 two large graphs, more rounds, the large stores
//	go run ./bench -only 1,5             some lines
//	go run ./bench -graphs syft          the graphs of some programs
//	go run ./bench -full -o docs/speed.md -svg docs/speed.svg -readme README.md
//
// The lines have numbers, which stay. All contenders of a line take turns within
// each round, in the opposite order in every other round, so what happens to the
// machine happens to all of them; a ratio is the median of those of the rounds.
//
// The far source of lines 5 to 8 is a relay on loopback that delays each direction
// by half the round trip and does not limit the bandwidth (line 8 asks for that). It
// adds no loss and no slow start, so a real line is worse, to everybody. The
// checksum database lies behind the same relay, is signed with a key made for the
// run and has a million records, among which those of the graph lie scattered.
//
// Nothing is installed. Without nginx or wrk (Debian: nginx-light, wrk) the lines
// that need them are skipped, and the report says so. A graph of modules is
// downloaded once from the proxy of the toolchain, into the user's cache directory;
// all else is made here, below the directory for temporary files. Cold runs write
// gigabytes there: TMPDIR=/dev/shm measures without a disk. The store of line 10 has
// six million names, which takes minutes on a busy disk; a tmpfs holds so many only
// if it was mounted with nr_inodes=0.
//
// SLUICE_BENCH_PEERS names other proxies to measure beside, as NAME=COMMAND|URL|CACHE
// separated by semicolons: sh runs the command, in which {source} is the URL of the
// source, also in GOPROXY; it must answer at URL and keep what it has in CACHE, an
// absolute path to an empty directory, which is emptied before each cold run:
//
//	SLUICE_BENCH_PEERS='goproxy=goproxy server --address 127.0.0.1:7999 --cacher-dir /var/cache/gp|http://127.0.0.1:7999|/var/cache/gp'
//
// SLUICE_BENCH_ARGS is more arguments for every sluice, such as --log-level=error.
//
// Exit status: 0 everything was measured, whether the bars hold or not; 1 something
// could not be; 2 misused.
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lastLine is the highest number of a line.
const lastLine = 11

// options are what the command line and the environment ask for.
type options struct {
	full     bool
	only     []int // empty: all lines
	graphs   []program
	rounds   int // 0: as many as the mode has
	sluice   string
	args     []string // of every sluice
	peers    []peer
	markdown string // files to write; none if empty
	svg      string
	readme   string
	json     string
	line     string // the command line, for the report
}

func main() {
	if played, err := play(os.Getenv); played {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	o, err := parse(os.Args[1:], os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rep, err := run(ctx, o, os.Stderr)
	if err == nil {
		fmt.Print(rep.text())
		err = rep.write(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if rep.failures() > 0 {
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string, getenv func(string) string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.full, "full", false, "two large graphs, more rounds, and what only large stores show; quick otherwise")
	only := f.String("only", "", "only these `lines`, such as 1,5")
	graphs := f.String("graphs", "", "the graphs of these `programs` in the cold lines: caddy (quick), syft and traefik (full)")
	f.IntVar(&o.rounds, "rounds", 0, "rounds of every line; 0 is as many as the mode has")
	f.StringVar(&o.markdown, "o", "", "write the report as Markdown to this `file`")
	f.StringVar(&o.svg, "svg", "", "write the plot to this `file`")
	f.StringVar(&o.readme, "readme", "", "write the table into this `file`, between its marks")
	f.StringVar(&o.json, "json", "", "write everything that was measured as JSON to this `file`; - is standard output")
	f.StringVar(&o.sluice, "sluice", "", "measure this `program` instead of building ./cmd/sluice")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; it takes flags only, see -h", f.Arg(0))
	}
	if o.rounds < 0 {
		return o, fmt.Errorf("-rounds %d: give at least 1, or 0 for as many as the mode has", o.rounds)
	}
	for field := range strings.FieldsFuncSeq(*only, func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 || n > lastLine {
			return o, fmt.Errorf("-only %q: there is no line %q; they are numbered from 1 to %d", *only, field, lastLine)
		}
		o.only = append(o.only, n)
	}
	names := strings.FieldsFunc(*graphs, func(r rune) bool { return r == ',' || r == ' ' })
	switch {
	case len(names) > 0:
	case o.full:
		names = fullGraphs
	default:
		names = quickGraphs
	}
	if o.graphs, err = graphsOf(names); err != nil {
		return o, err
	}
	o.args = strings.Fields(getenv("SLUICE_BENCH_ARGS"))
	o.line = strings.TrimSpace("go run ./bench " + strings.Join(args, " "))
	o.peers, err = parsePeers(getenv(peersVar))
	return o, err
}

// A bench is one run. Nothing in it is safe for concurrent use.
type bench struct {
	*options
	lab        *lab
	rep        *report
	home       string // of everything that is started
	gocache    string
	sluice     string
	sluiceArgs []string
	rounds     int           // of what takes seconds
	fewRounds  int           // of what takes longer
	coldRounds int           // of what downloads a whole graph
	spell      time.Duration // one run of wrk
	missing    []string      // programs that are not here
}

// debian says which package has a program.
var debian = map[string]string{"nginx": "nginx-light", "wrk": "wrk"}

// newBench makes what all lines need.
func newBench(ctx context.Context, o options, l *lab, look func(string) (string, error)) (*bench, error) {
	b := &bench{options: &o, lab: l, rep: newReport(o), rounds: 3, fewRounds: 2, coldRounds: 1, spell: 2 * time.Second, sluiceArgs: o.args}
	if o.full {
		b.rounds, b.fewRounds, b.coldRounds, b.spell = 7, 5, 3, 6*time.Second
	}
	if o.rounds > 0 {
		b.rounds, b.fewRounds, b.coldRounds = o.rounds, o.rounds, o.rounds
	}
	b.home = filepath.Join(l.dir, "home")
	b.gocache = filepath.Join(l.dir, "gocache")
	mode := filepath.Join(b.home, ".config", "go", "telemetry", "mode") // it cannot be set in the environment
	if err := errors.Join(os.MkdirAll(filepath.Dir(mode), 0o755), os.WriteFile(mode, []byte("off"), 0o644)); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(debian) {
		if _, err := look(name); err != nil {
			b.missing = append(b.missing, name)
		}
	}
	for _, p := range o.peers {
		if err := p.claim(); err != nil {
			return nil, err
		}
	}
	b.sluice = o.sluice
	if b.sluice == "" {
		b.sluice = filepath.Join(l.dir, "sluice")
		l.say("building sluice")
		cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", b.sluice, "./cmd/sluice")
		ownGroup(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building sluice, which wants the repository's root as the working directory: %w\n%s", err, out)
		}
	} else if abs, err := filepath.Abs(b.sluice); err == nil {
		b.sluice = abs
	}
	return b, nil
}

// run takes all lines.
func run(ctx context.Context, o options, progress io.Writer) (rep *report, err error) {
	if path := os.Getenv("PATH"); !slices.Contains(filepath.SplitList(path), "/usr/sbin") {
		os.Setenv("PATH", path+":/usr/sbin") // where Debian has nginx
	}
	l, err := newLab(progress)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := l.close(); cerr != nil && err == nil {
			err = fmt.Errorf("removing the run's files: %w", cerr)
		}
	}()
	b, err := newBench(ctx, o, l, exec.LookPath)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"lines 1 to 3", b.warm}, {"lines 4 to 7", b.cold}, {"lines 8 and 9", b.crowd}, {"line 10", b.huge}, {"line 11", b.idlers},
	} {
		err := part.do(ctx)
		if ctx.Err() != nil {
			return nil, errors.New("interrupted; everything that was started has been ended")
		}
		if err != nil {
			// The other lines are worth something all the same.
			l.say("%s: %v", part.name, err)
			b.rep.Failures = append(b.rep.Failures, fmt.Sprintf("%s: %v", part.name, err))
		}
	}
	b.rep.Took = time.Since(begin).Seconds()
	return b.rep, nil
}

// wants reports whether any of the lines is to be measured.
func (b *bench) wants(lines ...int) bool {
	return len(b.only) == 0 || slices.ContainsFunc(lines, func(n int) bool { return slices.Contains(b.only, n) })
}

// lacks reports whether a program that the lines need is not here, and writes the
// lines down as skipped. Programs that are "" are not needed.
func (b *bench) lacks(program, another string, lines ...int) bool {
	var pkgs []string
	for _, p := range b.missing {
		if p == program || p == another {
			pkgs = append(pkgs, debian[p])
		}
	}
	if len(pkgs) == 0 {
		return false
	}
	why := fmt.Sprintf("%s missing; on Debian, as root: apt-get install %[1]s", strings.Join(pkgs, " "))
	for _, n := range lines {
		if b.wants(n) {
			b.add(without(n, titles[n], skipped, why))
		}
	}
	return true
}

// titles are for lines of which there is no figure.
var titles = map[int]string{
	1:  "warm mix of small files",
	2:  "warm zips",
	3:  "warm @v/list",
	10: "a store of 1,000,000 versions",
	11: "idle connections beside line 1",
}

func (b *bench) add(f figure) {
	b.rep.Figures = append(b.rep.Figures, f)
	b.lab.say("%s", f)
}

// A sample is what one contender showed in one round: metric → value.
type sample map[string]float64

// A contender takes its turn in each round.
type contender struct {
	name    string
	measure func(context.Context) (sample, error)
}

// interleave lets the contenders take turns, in the opposite order in every other
// round. One that fails is told and has no value in that round; if it is one of
// ours, that is an error, too.
func (b *bench) interleave(ctx context.Context, title string, line, rounds int, cs []contender) (table, error) {
	t, err := takeTurns(ctx, rounds, cs, func(round int, c contender, s sample, err error) {
		if err != nil {
			b.lab.say("%s, round %d: %s: %v", title, round+1, c.name, err)
			return
		}
		var parts []string
		for _, m := range sortedKeys(s) {
			parts = append(parts, m+" "+number(s[m]))
		}
		b.lab.say("%s, round %d of %d: %s: %s", title, round+1, rounds, c.name, strings.Join(parts, ", "))
	}, func(name string) bool {
		return slices.ContainsFunc(b.peers, func(p peer) bool { return name == p.name || strings.HasPrefix(name, p.name+", ") })
	})
	for _, c := range cs {
		for _, m := range sortedKeys(t[c.name]) {
			s := t.of(c.name, m)
			low, high := s.spread()
			if len(s.known()) > 0 {
				b.rep.Measures = append(b.rep.Measures, measure{Line: line, Title: title, Contender: c.name, Metric: m, Median: s.median(), Low: low, High: high, Rounds: s.known()})
			}
		}
	}
	return t, err
}

// takeTurns is interleave without the report. optional says whose failure is no error.
func takeTurns(ctx context.Context, rounds int, cs []contender, told func(int, contender, sample, error), optional func(string) bool) (table, error) {
	t := table{}
	var failures []error
	for round := range rounds {
		order := slices.Clone(cs)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			if ctx.Err() != nil {
				return t, context.Cause(ctx)
			}
			s, err := c.measure(ctx)
			told(round, c, s, err)
			if err != nil && !optional(c.name) {
				failures = append(failures, fmt.Errorf("%s: %w", c.name, err))
			}
			t.put(c.name, round, s)
		}
	}
	return t, errors.Join(failures...)
}

// encode writes everything that was measured.
func (rep *report) encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "\t")
	enc.SetEscapeHTML(false)
	return enc.Encode(rep)
}
