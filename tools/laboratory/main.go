//go:build linux

// Command laboratory builds broken networks, broken settings and broken machines of
// real parts, shows them to Sluice as it is built, and judges whether sluice doctor
// (or sluice explain, where a go command's output is what there is to see) names what
// was planted, and whether what it says mends it.
//
//	go run ./tools/laboratory -o docs/laboratory.md     everything
//	go run ./tools/laboratory -run '^a6-'               some scenarios
//	go run ./tools/laboratory -rescue -o docs/rescue-drill.md -record docs/incident
//
// The last one rehearses sluice rescue in emergencies, each several times; see emergency.
//
// It needs root, for a network and mount namespace of each scenario's own, and ip, nft,
// dnsmasq, nginx, squid, mitmproxy, sshd, git and curl. In a scenario there are a name
// server, module proxies and a checksum database under an authority that this machine
// trusts there, a project that requires one module, and a go command with an empty
// module cache. What must come of it:
//
//   - before: go mod download fails (where the fault costs builds anything);
//   - the first finding is what was planted, and no other finding stands beside it but
//     what was planted as well;
//   - its fix works: the commands that the JSON has are pasted into sh; where the fix is
//     a sentence for people, what it says is done by hand, and the table says so;
//   - after: go mod download passes, and doctor no longer calls it broken;
//   - healthy look-alikes: no finding at all;
//   - doctor contacted no address and asked for no name that the settings do not name;
//   - doctor ended within 8 s, and within 1.5 s where it had nothing to say.
//
// Exit status: 0 all as it must be, 1 something is not, 2 it could not be judged.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
)

// longest is how long one scenario may take. The slowest wait for doctor twice, and for
// a go command that hangs.
const longest = 3 * time.Minute

func main() {
	out := flag.String("o", "", "write the table as Markdown to this `file`")
	asJSON := flag.Bool("json", false, "print the results as JSON, and the progress to stderr")
	run := flag.String("run", "", "only scenarios whose name matches this `regexp`")
	program := flag.String("sluice", "", "judge this `program` instead of building ./cmd/sluice")
	jobs := flag.Int("jobs", 3, "how many scenarios are judged at once; most of their time is spent waiting")
	rescues := flag.Bool("rescue", false, "rehearse sluice rescue in emergencies, one at a time since its time counts, instead of judging doctor in scenarios")
	rounds := flag.Int("rounds", 5, "with -rescue: how often each emergency is rehearsed")
	record := flag.String("record", "", "with -rescue: write the record of one emergency, as it is, to `FILE`.json and FILE.md")
	inside := flag.String("inside", "", "judge this one `scenario`, here: for the laboratory itself, in namespaces of their own")
	dir := flag.String("dir", "", "with -inside: the `directory` for temporary files")
	shuffle := flag.Uint64("shuffle", 0, "begin the scenarios in an order that this `number` gives, and not in that of the table")
	dockerfile := flag.String("image", "", "do what this `Dockerfile` says, without docker: for the laboratory itself, where a scenario builds an image")
	base := flag.String("base-env", "", "with -image: the `variables` of its base image, with spaces between them")
	if len(os.Args) > 2 && os.Args[1] == "-without-locks" { // and a program that is run so: for the laboratory itself
		fmt.Fprintln(os.Stderr, "laboratory:", becomeWithoutLocks(os.Args[2:]))
		os.Exit(126)
	}
	flag.Parse()
	re, err := regexp.Compile(*run)
	if err != nil || flag.NArg() > 0 || *jobs < 1 || *rounds < 1 || *record != "" && !*rescues {
		fmt.Fprintf(os.Stderr, "laboratory: it takes flags only, a valid -run, -jobs and -rounds of at least 1, and -record with -rescue; see -h (%v)\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *dockerfile != "" {
		if err := buildImage(ctx, *dockerfile, strings.Fields(*base)); err != nil {
			fmt.Fprintln(os.Stderr, "image:", err)
			os.Exit(1)
		}
		return
	}
	if *inside != "" {
		var r any
		if *rescues {
			r = rehearse(ctx, *inside, *program, *dir)
		} else {
			r = judge(ctx, *inside, *program, *dir)
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			os.Exit(2)
		}
		return
	}
	progress := io.Writer(os.Stdout)
	if *asJSON {
		progress = os.Stderr
	}
	var rep interface {
		markdown() string
		missed() int
	}
	if *rescues {
		rep, err = rehearseAll(ctx, re, *program, *rounds, *record, progress)
	} else {
		rep, err = judgeAll(ctx, re, *program, *jobs, *shuffle, progress)
	}
	if err == nil && *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "\t")
		err = enc.Encode(rep)
	}
	if err == nil && *out != "" {
		err = os.WriteFile(*out, []byte(rep.markdown()), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "laboratory:", err)
		os.Exit(2)
	}
	if rep.missed() > 0 {
		os.Exit(1)
	}
}

// programs are what the scenarios are made of.
var programs = []string{"unshare", "ip", "nft", "dnsmasq", "nginx", "squid", "mitmdump", "sshd", "git", "curl", "openssl", "update-ca-certificates", "go"}

// A workshop is what all scenarios of a run share.
type workshop struct {
	dir     string // for temporary files
	self    string // this program
	program string // the sluice that is judged
}

// openWorkshop looks whether all is there that is needed, and builds sluice unless a
// program is given. The caller closes it.
func openWorkshop(ctx context.Context, program string, needs []string) (w *workshop, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root, for namespaces of its own")
	}
	for _, p := range needs {
		if _, err := exec.LookPath(p); err != nil {
			return nil, fmt.Errorf("it needs the program %s: %w", p, err)
		}
	}
	dir, err := os.MkdirTemp("", "laboratory-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	w = &workshop{dir: dir, program: program}
	if program == "" {
		w.program = filepath.Join(w.dir, "sluice")
		if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", w.program, "./cmd/sluice").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building sluice, which wants the repository's root as the working directory: %w\n%s", err, out)
		}
	}
	// What is compiled is keyed by its content, so that cache may be shared.
	cache, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("asking the go command for its build cache: %w", err)
	}
	if err := os.Setenv("GOCACHE", strings.TrimSpace(string(cache))); err != nil {
		return nil, err
	}
	if w.self, err = os.Executable(); err == nil {
		w.program, err = filepath.Abs(w.program)
	}
	return w, err
}

func (w *workshop) close() { os.RemoveAll(w.dir) }

// judgeAll judges the scenarios that are chosen.
func judgeAll(ctx context.Context, chosen *regexp.Regexp, program string, jobs int, shuffle uint64, progress io.Writer) (rep *report, err error) {
	var list []scenario
	for _, s := range scenarios() {
		if chosen.MatchString(s.name) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no scenario's name matches %q; names are like a1-dropped", chosen)
	}
	w, err := openWorkshop(ctx, program, programs)
	if err != nil {
		return nil, err
	}
	defer w.close()
	begin := time.Now()
	results := make([]*result, len(list))
	todo := make(chan int)
	var mu sync.Mutex // guards progress
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for i := range todo {
				results[i] = w.apart(ctx, list[i])
				mu.Lock()
				fmt.Fprintln(progress, results[i])
				mu.Unlock()
			}
		})
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	if shuffle != 0 {
		rand.New(rand.NewPCG(shuffle, 0)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	for _, i := range order {
		select {
		case todo <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(todo)
	workers.Wait()
	if ctx.Err() != nil {
		return nil, errors.New("it was stopped before the end")
	}
	// Doctor's limits are seconds: what others on this machine make late is judged again,
	// with nothing beside it.
	for i, r := range results {
		if !r.good() && ctx.Err() == nil {
			results[i] = w.apart(ctx, list[i])
			results[i].Again = true
			fmt.Fprintln(progress, results[i])
		}
	}
	rep = newReport(results, time.Since(begin))
	fmt.Fprint(progress, rep.summary())
	return rep, nil
}

// apart judges one scenario in namespaces of its own.
func (w *workshop) apart(ctx context.Context, s scenario) *result {
	r := new(result)
	if err := w.inside(ctx, r, "-inside", s.name); err != nil {
		r = s.result()
		r.Misses = []string{err.Error()}
	}
	return r
}

// inside runs this program in namespaces of its own, and reads what it prints into r.
func (w *workshop) inside(ctx context.Context, r any, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	mine, err := os.MkdirTemp(w.dir, "*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(mine)
	cmd := modtest.Alone(ctx, append([]string{w.self, "-sluice", w.program, "-dir", mine}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	if jerr := json.Unmarshal(out, r); jerr != nil {
		return fmt.Errorf("it came to no end: %v, %v %s", cmp.Or(err, jerr), context.Cause(ctx), tail(said.String()))
	}
	return nil
}

// tail is the end of a text, in one line.
func tail(s string) string {
	lines := slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
	return strings.Join(lines[max(0, len(lines)-4):], " / ")
}
