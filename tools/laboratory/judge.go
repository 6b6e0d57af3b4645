//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

// A scenario is one situation. Its zero fields are those of most: doctor finds it, go
// mod download fails before and passes after, the fix is pasted as it stands.
type scenario struct {
	name  string
	rows  string // of the table of situations: "A1 B3"
	title string
	set   func(l *lab)
	// planted are the findings, each the first one of its round, in the order in which
	// they are met and mended; none: all is well, and nothing may be said.
	planted []finding.Code
	// explains: sluice explain finds it, in what the go command prints; doctor finds
	// nothing, or the same.
	explains bool
	comes    bool              // modules come all the same: doctor warns
	stays    bool              // the fix is a command that downloads, and leaves the source as it is
	verdict  doctor.Verdict    // of each round; "" is broken, or impaired where modules come
	check    string            // what must fail before and pass after; "" is go mod download
	fill     map[string]string // what a person puts in for FILE and its like; a value may hold $LAB, the client's home, and $PROJECT
	recipe   string            // the file of the project that the lines of the fix are pasted into; "" is a shell
	fixes    map[finding.Code]hand
	beside   []finding.Code // warnings that belong to the situation, and are mended with it or left
}

// A hand is a fix that cannot be pasted, since it is a sentence for people.
type hand struct {
	says string // what is done, for the table
	do   func(l *lab)
}

// kind is what sort of scenario it is.
func (s *scenario) kind() string {
	switch len(s.planted) {
	case 0:
		return "healthy"
	case 1:
		return "single"
	}
	return "double"
}

func (s *scenario) result() *result {
	return &result{Name: s.name, Rows: s.rows, Kind: s.kind(), Title: s.title, Comes: s.comes}
}

// A round is one finding and its fix.
type round struct {
	By       string       `json:"by"` // doctor or explain
	Code     finding.Code `json:"code"`
	Sentence string       `json:"sentence"`
	Pasted   []string     `json:"pasted,omitempty"` // the commands
	Filled   string       `json:"filled,omitempty"` // what a person put into them
	Into     string       `json:"into,omitempty"`   // the file that they were pasted into, as lines; "" is a shell
	ByHand   string       `json:"by_hand,omitempty"`
	Named    []string     `json:"named,omitempty"` // the commands of a fix that was made by hand
}

// A result is what became of a scenario.
type result struct {
	Name   string   `json:"name"`
	Rows   string   `json:"rows"`
	Kind   string   `json:"kind"`
	Title  string   `json:"title"`
	Comes  bool     `json:"comes"` // modules come all the same
	Rounds []round  `json:"rounds"`
	Before string   `json:"before"` // the end of what the go command said, where it failed
	Misses []string `json:"misses,omitempty"`
	// Late is where doctor took longer than it may, which a busy machine may be the reason
	// of: that is no miss of its words, and a bar of the run all the same.
	Late    []string `json:"late,omitempty"`
	Took    float64  `json:"took_ms"`         // the slowest doctor, from its start to its end
	Well    float64  `json:"took_well_ms"`    // the slowest that had nothing to say; 0 if none had
	Again   bool     `json:"again,omitempty"` // judged a second time, alone, since it missed something beside others
	Seconds float64  `json:"seconds"`
}

func (r *result) String() string {
	said := "healthy, nothing is said"
	var codes []string
	for _, x := range r.Rounds {
		codes = append(codes, string(x.Code))
	}
	if len(codes) > 0 {
		said = strings.Join(codes, ", then ")
	}
	if !r.good() {
		return fmt.Sprintf("MISS %-28s %s\n     %s", r.Name, said, strings.Join(r.wrong(), "\n     "))
	}
	return fmt.Sprintf("ok   %-28s %s (%.1f s, doctor %.1f s)", r.Name, said, r.Seconds, r.Took/1000)
}

// judge makes the scenario of that name happen, in the namespaces that it runs in.
func judge(ctx context.Context, name, program, dir string) *result {
	i := slices.IndexFunc(scenarios(), func(s scenario) bool { return s.name == name })
	if i < 0 {
		return &result{Name: name, Misses: []string{"there is no scenario of that name"}}
	}
	s := scenarios()[i]
	r := s.result()
	begin := time.Now()
	err := modtest.Scoped(ctx, dir, func(t *modtest.Scope) {
		l := newLab(t, program)
		s.set(l)
		l.judge(&s, r)
	})
	if err != nil {
		r.miss("%v", err)
	}
	r.Seconds = time.Since(begin).Seconds()
	return r
}

// wrong is all that is not as it must be.
func (r *result) wrong() []string { return slices.Concat(r.Misses, r.Late) }

func (r *result) good() bool { return len(r.wrong()) == 0 }

func (r *result) miss(format string, a ...any) {
	r.Misses = append(r.Misses, fmt.Sprintf(format, a...))
}

func (l *lab) judge(s *scenario, r *result) {
	check := s.check
	if check == "" {
		check = "go mod download"
	}
	well := len(s.planted) == 0 || s.comes
	limit := goFails
	if well || s.explains {
		limit = goMay
	}
	// Another module cache, so that what it leaves changes nothing of what is judged.
	l.trial(func() {
		e := l.run(limit, "", "sh", "-c", check)
		if e.status != 0 {
			r.Before = tail(e.err + e.out)
		}
		if passed := e.status == 0; passed != well {
			r.miss("before, %s passes: %v, want %v: %s", check, passed, well, tail(e.err))
		}
	})
	for i, code := range s.planted {
		l.round(s, r, code, s.planted[i+1:], check)
	}
	if len(s.planted) == 0 {
		if rep := l.doctor(r); rep.Verdict != doctor.Well || len(rep.Findings) > 0 {
			r.miss("doctor says %s of what is well: %s", rep.Verdict, rep.Sentence)
			r.Rounds = append(r.Rounds, round{By: "doctor", Code: first(rep), Sentence: rep.Sentence})
		}
		return
	}
	if e := l.run(goMay, "", "sh", "-c", check); e.status != 0 {
		// A shell that evaluates what another command prints goes on where that fails.
		r.miss("after the fix, %s fails: %s; the fix itself said: %s", check, tail(e.err+e.out), l.told)
		return
	}
	rep := l.doctor(r)
	if !s.stays && (rep.Verdict == doctor.Broken || slices.Contains(s.planted, first(rep))) {
		r.miss("after the fix, doctor says %s: %s", rep.Verdict, rep.Sentence)
	}
}

// trial runs f with a module cache, and a go.mod and go.sum, that are gone after it.
func (l *lab) trial(f func()) {
	was, had := l.env["GOMODCACHE"]
	if l.cacheMatters() {
		f()
		return
	}
	l.env["GOMODCACHE"] = l.TempDir()
	undo := l.keep("go.mod", "go.sum")
	f()
	undo()
	if delete(l.env, "GOMODCACHE"); had {
		l.env["GOMODCACHE"] = was
	}
}

// first is the code of the first finding.
func first(rep *doctor.Report) finding.Code {
	if len(rep.Findings) == 0 {
		return ""
	}
	return rep.Findings[0].Code
}

// What doctor may take from its start to its end: whatever is the matter, and where it
// finds nothing.
const (
	mayTake     = 8 * time.Second
	mayTakeWell = 1500 * time.Millisecond
)

// doctor runs sluice doctor, which may contact nobody whom the settings do not name.
func (l *lab) doctor(r *result) *doctor.Report {
	l.forget()
	begin := time.Now()
	e := l.run(goMay, "", append([]string{l.program, "doctor", "--json"}, l.with...)...)
	took := time.Since(begin)
	rep, err := doctor.Read([]byte(e.out))
	if err != nil {
		l.Fatalf("sluice doctor: %v: %s", err, tail(e.err+e.out))
	}
	may, ms := mayTake, float64(took.Milliseconds())
	if r.Took = max(r.Took, ms); rep.Verdict == doctor.Well {
		may, r.Well = mayTakeWell, max(r.Well, ms)
	}
	if took > may {
		r.Late = append(r.Late, fmt.Sprintf("doctor, which says %s, took %.1f s, and may take %v", rep.Verdict, took.Seconds(), may))
	}
	if list := l.strangers(); len(list) > 0 {
		r.miss("doctor contacted or asked for what no setting names: %s", strings.Join(list, ", "))
	}
	for _, row := range rep.Rows {
		if row.State == doctor.Incomplete {
			r.miss("doctor did not come to the end of %s in its time", row.ID)
		}
	}
	return rep
}

// round finds one cause and mends it. later are those that may be seen beside it.
func (l *lab) round(s *scenario, r *result, code finding.Code, later []finding.Code, check string) {
	var said round
	var commands []string
	rep := l.doctor(r)
	if s.explains {
		l.trial(func() {
			e := l.run(goMay, "", "sh", "-c", check)
			x := l.run(goMay, e.out+e.err, l.program, "explain", "--json")
			var out struct {
				Code             finding.Code
				Line, Fix, Title string
				Commands         []string
			}
			if err := json.Unmarshal([]byte(x.out), &out); err != nil {
				l.Fatalf("sluice explain: %v: %s", err, tail(x.err+x.out))
			}
			said = round{By: "explain", Code: out.Code, Sentence: out.Title}
			commands = out.Commands
		})
		later = append(slices.Clone(later), code)
	} else {
		said = round{By: "doctor", Code: first(rep), Sentence: rep.Sentence}
		want := doctor.Broken
		switch {
		case s.verdict != "":
			want = s.verdict
		case s.comes, code == finding.VerificationOff, code == finding.GoEnvHidden:
			want = doctor.Impaired
		}
		if rep.Verdict != want {
			r.miss("doctor says %s, want %s: %s", rep.Verdict, want, rep.Sentence)
		}
		if len(rep.Findings) > 0 {
			commands = rep.Findings[0].Commands
		}
	}
	if said.Code != code {
		r.miss("%s says %q, want %s: %s", said.By, said.Code, code, said.Sentence)
	}
	for i, f := range rep.Findings {
		if (i > 0 || s.explains) && !slices.Contains(later, f.Code) && !slices.Contains(s.beside, f.Code) {
			r.miss("%s stands beside it: %s", f.Code, strings.Join(f.Evidence, "; "))
		}
	}
	by, isHand := s.fixes[code]
	if isHand {
		said.ByHand, said.Named = by.says, commands
		by.do(l)
		r.Rounds = append(r.Rounds, said)
		return
	}
	var filled []string
	for i, c := range commands {
		for _, standIn := range []string{"FILE", "DIR", "FORK", "VERSION", "YOUR-PROXY", "YOUR-MIRROR"} {
			v, ok := s.fill[standIn]
			if own := sources[standIn]; own != "" {
				v, ok = own, true
			}
			if ok && strings.Contains(c, standIn) {
				v = strings.NewReplacer("$LAB", l.home, "$PROJECT", l.project).Replace(v)
				commands[i] = strings.ReplaceAll(commands[i], standIn, v)
				filled = append(filled, standIn)
			}
		}
	}
	said.Filled = strings.Join(slices.Compact(filled), ", ")
	said.Pasted = commands
	if len(commands) == 0 {
		r.miss("%s has no command to paste", code)
	}
	if s.recipe != "" {
		said.Into = s.recipe
		l.pasteInto(s.recipe, commands)
	} else if unknown := l.paste(commands); len(unknown) > 0 {
		r.miss("these of the fix are no commands here: %s", strings.Join(unknown, "; "))
	}
	r.Rounds = append(r.Rounds, said)
}

// sources are those of the person who puts them in, in every scenario.
var sources = map[string]string{"YOUR-PROXY": proxyHost, "YOUR-MIRROR": spareHost}

// byHand is a fix that somebody makes elsewhere.
func byHand(code finding.Code, says string, do func(l *lab)) map[finding.Code]hand {
	return map[finding.Code]hand{code: {says, do}}
}
