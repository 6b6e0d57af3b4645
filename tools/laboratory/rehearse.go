//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/rescue"
)

// rescueMay is how long sluice rescue may take of its own, without the command that it
// runs: the median.
const rescueMay = 5 * time.Second

// onRecord is the emergency whose record is shown to readers.
const onRecord = "storm"

// A rehearsal is what became of an emergency once.
type rehearsal struct {
	Name     string       `json:"name"`
	Title    string       `json:"title"`
	Code     finding.Code `json:"code"`
	Commands []string     `json:"commands"` // that were typed
	Sentence string       `json:"sentence"` // of the last record
	Helpless bool         `json:"helpless"` // nothing here can help, and that is said
	Kept     bool         `json:"kept"`     // a setting was written, and taken back
	Own      float64      `json:"own_ms"`   // from the start of the process to its end, without the command that it ran
	Command  float64      `json:"command_ms"`
	Misses   []string     `json:"misses,omitempty"`

	JSON string `json:"json"` // the record, as it was printed
	Page string `json:"page"` // and as it was kept for people
}

func (x *emergency) rehearsal() *rehearsal {
	return &rehearsal{Name: x.name, Title: x.title, Code: x.code, Helpless: x.helpless != "", Commands: []string{}}
}

func (r *rehearsal) miss(format string, a ...any) {
	r.Misses = append(r.Misses, fmt.Sprintf(format, a...))
}

// rehearse makes the emergency of that name happen, in the namespaces that it runs in.
// What must come of it:
//
//   - before, go mod download fails;
//   - sluice rescue --keep makes a real go mod download work, and the record has what was
//     planted; or it says that nothing here can help, and why;
//   - nobody was asked whom the settings and flags do not name;
//   - then the project builds of what is in the module cache, without a source, and go mod
//     verify finds nothing wrong;
//   - what --keep wrote is enough for a plain go command with an empty module cache;
//   - sluice rescue --undo puts every file back to the byte.
func rehearse(ctx context.Context, name, program, dir string) *rehearsal {
	list := emergencies()
	i := slices.IndexFunc(list, func(x emergency) bool { return x.name == name })
	if i < 0 {
		return &rehearsal{Name: name, Misses: []string{"there is no emergency of that name"}}
	}
	x, r := &list[i], list[i].rehearsal()
	err := modtest.Scoped(ctx, dir, func(t *modtest.Scope) {
		l := newLab(t, program)
		l.atHome()
		l.stock()
		x.set(l)
		l.rehearse(x, r)
	})
	if err != nil {
		r.miss("%v", err)
	}
	return r
}

func (l *lab) rehearse(x *emergency, r *rehearsal) {
	settings := filepath.Join(l.home, ".config/go/env")
	text, err := os.ReadFile(settings)
	l.Must(err)
	// People have other lines there, too, and editors that write no newline at the end.
	l.file(".config/go/env", "# of the team\n\nGOFLAGS=-trimpath\n"+string(text)+"# mirrors: ask Kim")
	l.trial(func() {
		if e := l.run(goFails, "", "go", "mod", "download"); e.status == 0 {
			r.miss("before, go mod download works")
		}
	})
	before := l.written(x)

	rec := l.rescue(r, append([]string{"--keep"}, x.flags...))
	if x.advises {
		named := rec.named()
		if rec.Outcome != rescue.Failed || len(named) == 0 || !rec.has(x.code) {
			r.miss("it is %s, and does not name %s, or no command that helps: %s", rec.Outcome, x.code, rec.Sentence)
			return
		}
		rec = l.rescue(r, named)
	}
	l.outcome(x, r, rec)
	if x.helpless == "" && len(r.Misses) == 0 {
		l.builds(x, r)
	}
	if r.Kept = rec.Kept != ""; r.Kept {
		if after := l.written(x); maps.Equal(before, after) {
			r.miss("it says that %s was written, and it was not", rec.Kept)
		}
		l.env["GOMODCACHE"] = l.TempDir()
		if e := l.run(goMay, "", "go", "mod", "download"); e.status != 0 {
			r.miss("what was kept does not work for the go command alone: %s", tail(e.err))
		}
		delete(l.env, "GOMODCACHE")
	}
	want := 0
	if !r.Kept {
		want = 1 // there is nothing to undo
	}
	if e := l.run(goMay, "", l.program, "rescue", "--undo"); e.status != want {
		r.miss("sluice rescue --undo ends with status %d, want %d: %s", e.status, want, tail(e.err+e.out))
	}
	after := l.written(x)
	for _, name := range slices.Sorted(maps.Keys(union(before, after))) {
		if before[name] != after[name] {
			r.miss("%s is not as it was", name)
		}
	}
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// A record is one of sluice rescue.
type record struct{ rescue.Incident }

// has reports whether the record has a code among what was broken or what is left.
func (rec *record) has(code finding.Code) bool {
	return slices.ContainsFunc(rec.Broken, func(b rescue.Broken) bool { return b.Code == code }) || slices.ContainsFunc(rec.Left, func(a rescue.Advice) bool { return a.Code == code })
}

// named are the arguments of the first command that the record names and that is one of
// sluice rescue.
func (rec *record) named() []string {
	for _, a := range rec.After {
		for _, c := range a.Commands {
			if args, ok := strings.CutPrefix(c, "sluice rescue "); ok && !strings.Contains(args, "--cache") {
				return strings.Fields(args)
			}
		}
	}
	return nil
}

// rescue runs sluice rescue with these arguments, and notes what it took.
func (l *lab) rescue(r *rehearsal, args []string) *record {
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "$HOME", l.home)
	}
	r.Commands = append(r.Commands, "sluice rescue "+strings.Join(args, " "))
	named, _ := l.named()
	l.leads = append(l.leads, named...) // also when --keep has taken them out of the settings
	l.forget()
	begin := time.Now()
	e := l.run(goMay, "", append([]string{l.program, "rescue", "--json"}, args...)...)
	wall := time.Since(begin)
	rec := new(record)
	if err := json.Unmarshal([]byte(e.out), rec); err != nil {
		l.Fatalf("sluice rescue: status %d, %v: %s", e.status, err, tail(e.err+e.out))
	}
	command := rec.Ended.Sub(rec.Began) - time.Duration(rec.OwnMS)*time.Millisecond
	r.Own += float64((wall - command).Microseconds()) / 1000
	r.Command += float64(command.Microseconds()) / 1000
	if list := l.strangers(); len(list) > 0 {
		r.miss("it contacted or asked for what no setting names: %s", strings.Join(list, ", "))
	}
	worked := rec.Outcome == rescue.Rescued || rec.Outcome == rescue.Well
	if worked != (e.status == 0) {
		r.miss("it is %s, and the exit status is %d", rec.Outcome, e.status)
	}
	r.JSON, r.Sentence = e.out, rec.Sentence
	pages, err := filepath.Glob(filepath.Join(l.home, ".cache/sluice/.sluice/incidents/*.md"))
	if err != nil || len(pages) == 0 {
		r.miss("no record was kept: %v", err)
		return rec
	}
	page, err := os.ReadFile(slices.Max(pages))
	l.Must(err)
	r.Page = string(page)
	return rec
}

// outcome holds the record against what must come of the emergency.
func (l *lab) outcome(x *emergency, r *rehearsal, rec *record) {
	if !rec.has(x.code) {
		r.miss("the record does not have %s: %s", x.code, r.JSON)
	}
	if x.helpless != "" {
		if rec.Outcome != rescue.Failed || !strings.Contains(rec.Sentence, x.helpless) || rec.Kept != "" {
			r.miss("it is %s: %s", rec.Outcome, rec.Sentence)
		}
		return
	}
	switch verified := slices.ContainsFunc(rec.Steps, func(s rescue.Step) bool { return s.Kind == rescue.Verify }); {
	case rec.Outcome != rescue.Rescued && !x.advises, rec.Status != 0:
		r.miss("it is %s, and the command's status %d: %s", rec.Outcome, rec.Status, rec.Sentence)
	case !verified:
		r.miss("what came was not read again")
	case (rec.Kept == "") != x.stays:
		r.miss("the setting that it kept is in %q", rec.Kept)
	}
}

// builds reports whether all is in the module cache that a build needs, and as it has to
// be: nobody is asked any more.
func (l *lab) builds(x *emergency, r *rehearsal) {
	was := maps.Clone(l.env)
	defer func() { l.env = was }()
	l.env["GOPROXY"] = "off"
	if e := l.run(goMay, "", "go", "mod", "verify"); e.status != 0 {
		r.miss("go mod verify: %s", tail(e.err+e.out))
	}
	if x.unsummed {
		return // the build would write go.sum first, for which it asks the database
	}
	if e := l.run(goMay, "", "go", "build", "./..."); e.status != 0 {
		r.miss("go build: %s", tail(e.err+e.out))
	}
}

// written is what there is below the client's home, by name, but for what the go command
// downloads, what Sluice keeps for itself, and the go.sum that the go command has to
// write.
func (l *lab) written(x *emergency) map[string]string {
	all := map[string]string{}
	l.Must(filepath.WalkDir(l.home, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(l.home, name)
		if err != nil {
			return err
		}
		switch {
		case rel == "go", rel == ".cache":
			return fs.SkipDir
		case rel == "app/go.sum" && x.unsummed:
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[rel] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			all[rel] += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		return nil
	}))
	return all
}

// A rehearsed is what became of an emergency in all rounds.
type rehearsed struct {
	rehearsal           // of the last round, with the misses of all
	Owns      []float64 `json:"owns_ms"`  // ascending
	Takes     []float64 `json:"takes_ms"` // with the command, ascending
	Late      bool      `json:"late"`
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// rehearsals are what is told of a run with -rescue.
type rehearsals struct {
	Machine string       `json:"machine"`
	When    string       `json:"when"`
	Rounds  int          `json:"rounds"`
	Results []*rehearsed `json:"results"`
}

// rehearseAll rehearses the emergencies that are chosen, one at a time, since their time
// counts, and in turns, so that what happens to the machine happens to all of them.
func rehearseAll(ctx context.Context, chosen *regexp.Regexp, program string, rounds int, file string, progress io.Writer) (*rehearsals, error) {
	var list []emergency
	for _, x := range emergencies() {
		if chosen.MatchString(x.name) {
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no emergency's name matches %q; names are like black-hole", chosen)
	}
	w, err := openWorkshop(ctx, program, []string{"unshare", "ip", "nft", "dnsmasq", "nginx", "mitmdump", "git", "go"})
	if err != nil {
		return nil, err
	}
	defer w.close()
	rep := &rehearsals{Machine: machine(), When: time.Now().UTC().Format(time.DateOnly), Rounds: rounds}
	for _, x := range list {
		rep.Results = append(rep.Results, &rehearsed{rehearsal: *x.rehearsal()})
	}
	for range rounds {
		for i := range list {
			r := list[i].rehearsal()
			if err := w.inside(ctx, r, "-rescue", "-inside", list[i].name); err != nil {
				r.miss("%v", err)
			}
			if ctx.Err() != nil {
				return nil, errors.New("it was stopped before the end")
			}
			rep.Results[i].add(r)
			fmt.Fprintln(progress, r)
		}
	}
	for _, r := range rep.Results {
		r.Late = median(r.Owns) > float64(rescueMay.Milliseconds())
		if r.Name == onRecord && file != "" {
			if err := errors.Join(os.WriteFile(file+".json", []byte(r.JSON), 0o644), os.WriteFile(file+".md", []byte(r.Page), 0o644)); err != nil {
				return nil, err
			}
		}
	}
	fmt.Fprintf(progress, "%d of %d emergencies are not as they must be\n", rep.missed(), len(rep.Results))
	return rep, nil
}

// machine is what it was measured on.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// add adds a round.
func (r *rehearsed) add(x *rehearsal) {
	misses := append(r.Misses, x.Misses...)
	r.rehearsal = *x
	r.Misses = misses
	r.Owns, r.Takes = append(r.Owns, x.Own), append(r.Takes, x.Own+x.Command)
	slices.Sort(r.Owns)
	slices.Sort(r.Takes)
}

func (r *rehearsal) String() string {
	if len(r.Misses) > 0 {
		return fmt.Sprintf("MISS %-18s %s\n     %s", r.Name, r.Sentence, strings.Join(r.Misses, "\n     "))
	}
	return fmt.Sprintf("ok   %-18s %4.1f s and the command %4.1f s: %s", r.Name, r.Own/1000, r.Command/1000, r.Sentence)
}

// missed is how many are not as they must be.
func (rep *rehearsals) missed() int {
	n := 0
	for _, r := range rep.Results {
		if len(r.Misses) > 0 || r.Late {
			n++
		}
	}
	return n
}

// markdown is the page of a run.
func (rep *rehearsals) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Rescue, rehearsed

What `+"`sluice rescue`"+` makes of emergencies: written by `+"`go run ./tools/laboratory -rescue -o docs/rescue-drill.md -record docs/incident`"+`
on %s (%s).

Each emergency happens %d times, each time in network, mount and process namespaces of its own, with real parts (see
[laboratory.md](laboratory.md)): a name server, packet filters, nginx, mitmproxy, git http-backend, a checksum database, the real go
command. A project needs %d modules, its module cache is empty, and `+"`go mod download`"+` fails. The settings are in the file of
`+"`go env -w`"+`, between comments. What must come of it:

- `+"`sluice rescue --keep`"+` makes a real `+"`go mod download`"+` work, its record has the code of what was planted, and nobody is asked whom
  settings and flags do not name. Or it says in one sentence that nothing here can help, and why: *no help*.
- Its own time, from the start of the process to its end without the command that it runs, is %v at most (median).
- `+"`go mod verify`"+` and `+"`go build`"+` then work with `+"`GOPROXY=off`"+` (where the project has its whole go.sum).
- What was written is enough for a plain go command with an empty module cache: *written*. Where the trouble has nothing to do with a
  setting, none is written.
- `+"`sluice rescue --undo`"+` puts each file of the user and the project back to the byte; where nothing was written it says so.

**%d emergencies, %d of them not as they must be.** The record of one, as it is: [incident.md](incident.md), [incident.json](incident.json).

| Emergency | Code | Typed | Own time: median, least to most | With the command: median | Settings | |
|---|---|---|---|---|---|---|
`, rep.When, rep.Machine, rep.Rounds, stocked+1, rescueMay, len(rep.Results), rep.missed())
	for _, r := range rep.Results {
		var typed []string
		for _, c := range r.Commands {
			typed = append(typed, "`"+strings.ReplaceAll(c, "/home/dev", "~")+"`")
		}
		settings := "none"
		if r.Kept {
			settings = "written"
		}
		end := "works"
		switch {
		case len(r.Misses) > 0:
			end = "✗ " + cell(strings.Join(r.Misses, "; "))
		case r.Late:
			end = "✗ late"
		case r.Helpless:
			end = "*no help*: " + cell(r.Sentence)
		}
		least, most := 0.0, 0.0
		if n := len(r.Owns); n > 0 {
			least, most = r.Owns[0], r.Owns[n-1]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f s, %.2f to %.2f | %.2f s | %s | %s |\n", cell(r.Title), r.Code, strings.Join(typed, ", then "),
			median(r.Owns)/1000, least/1000, most/1000, median(r.Takes)/1000, settings, end)
	}
	return b.String()
}
