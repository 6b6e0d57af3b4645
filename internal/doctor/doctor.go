// Package doctor says whether the supply line of modules is well, and if it is not,
// which link of it is broken: checks that depend on one another, made in parallel
// under one time budget, and a report as a value, ranked to one root cause.
//
// It has no idea of its own of what works: the steps of a connection are upstream's,
// the proof of a checksum is checksum's, and what a failure is called comes from
// finding. It contacts nobody whom its subject does not name, and changes nothing.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/finding"
)

// A State is how a check ended. Only OK is a pass.
type State string

const (
	OK         State = "ok"
	Warn       State = "warn" // something is not as it should be, and modules come all the same
	Fail       State = "fail"
	Skip       State = "skip"       // another check has to be well first, and is not
	NA         State = "n/a"        // it does not apply here
	Incomplete State = "incomplete" // the time budget ended before it did
	Unknown    State = "unknown"    // it ended, and could not tell
)

// States lists all states. The caller owns the result.
func States() []State { return []State{OK, Warn, Fail, Skip, NA, Incomplete, Unknown} }

// well reports whether what needs a check in this state can be made.
func (s State) well() bool { return s == OK || s == Warn || s == NA }

// A Check is one question. IDs are permanent, as scripts match them:
// source.1.connect.
type Check struct {
	ID    string
	Group string // the heading that it stands under
	Title string
	Link  string   // the link of the chain that it tests; "" for none
	Needs []string // IDs; unless these are well, the check is skipped
	After []string // IDs; these are waited for, however they end
	// Run makes the check, and returns soon after its context has ended. What it
	// needs and comes after is in seen.
	Run func(ctx context.Context, seen Seen) Outcome
}

// Seen are the rows of the checks that have ended, by ID.
type Seen map[string]Row

// An Outcome is how one check ended.
type Outcome struct {
	State   State
	Text    string           // what was seen, in a few words; for people
	Subject string           // what it is about: a host, a variable, a directory
	Finding *finding.Finding // what it means; of a Fail and a Warn. Of a Skip: a better fix for what it goes back to
	Because string           // of a Skip: the ID of the row that it is a consequence of
	// Explains are rows, failed or not, whose trouble is a consequence of this one's.
	Explains []string
	// Excuses are failed rows that, as was found out, cost nobody anything: what they
	// failed at is to be had elsewhere. They become warnings.
	Excuses []string
	// Fact is for the checks that come after; it is not shown.
	Fact any
}

// A Row is a check with its outcome.
type Row struct {
	ID      string       `json:"id"`
	Group   string       `json:"group"`
	Title   string       `json:"title"`
	State   State        `json:"state"`
	Text    string       `json:"text"`
	Code    finding.Code `json:"code"`    // of the finding; "" if there is none
	Because string       `json:"because"` // the ID of the row that this one is a consequence of; "" if of none
	Took    float64      `json:"took_ms"`

	outcome Outcome
	link    string
}

// Fact is what the check found for those that come after it.
func (r Row) Fact() any { return r.outcome.Fact }

// A Found is a finding with the rows that show it.
type Found struct {
	Code         finding.Code       `json:"code"`
	Cause        finding.Cause      `json:"cause"`
	Severity     finding.Severity   `json:"severity"`
	Confidence   finding.Confidence `json:"confidence"`
	Title        string             `json:"title"`
	About        []string           `json:"about"` // hosts, variables, directories
	Why          string             `json:"why"`
	Fix          string             `json:"fix"`
	Commands     []string           `json:"commands"`
	Changes      []finding.Change   `json:"changes"`      // what --fix does about it
	Rows         []string           `json:"rows"`         // IDs of the rows that show it
	Evidence     []string           `json:"evidence"`     // what those rows saw
	Consequences []string           `json:"consequences"` // IDs of the rows that failed or were skipped because of it
}

// A Verdict is all that a report says, in one word.
type Verdict string

const (
	Well     Verdict = "well"
	Impaired Verdict = "impaired" // modules come; there are warnings
	Broken   Verdict = "broken"
	Untold   Verdict = "unknown" // nothing failed, but not everything could be told
)

// A Link is a part of the chain between the go command and its modules.
type Link struct {
	Name  string `json:"name"`
	State State  `json:"state"`
}

// Schema names the form of a Report as JSON. Fields may be added to it.
const Schema = "sluice-doctor/1"

// A Report is what was found. It holds no credentials.
type Report struct {
	Schema   string  `json:"schema"`
	Verdict  Verdict `json:"verdict"`
	Sentence string  `json:"sentence"` // the verdict in one sentence
	Subject  string  `json:"subject"`  // what was checked
	Findings []Found `json:"findings"` // the root cause first
	Chain    []Link  `json:"chain"`    // of the source that the first finding is about, or else of the first
	Rows     []Row   `json:"rows"`
	Took     float64 `json:"took_ms"`
}

// lastMoment is what is left of the budget, at most, when the checks are told to end: to
// end the programs that they run and remove their files, as we may be gone soon after.
const lastMoment = 250 * time.Millisecond

// Run makes the checks, as many at once as their needs allow, and returns when all
// have ended, or budget has; once ctx has ended they have a moment to do so. What has
// not ended then is Incomplete. A check whose call of the system hangs is left behind.
func Run(ctx context.Context, subject string, checks []Check, budget time.Duration) Report {
	start := time.Now()
	moment := min(lastMoment, budget/16)
	ctx, cancel := context.WithTimeout(ctx, budget-moment)
	defer cancel()
	type ended struct {
		i    int
		out  Outcome
		took time.Duration
	}
	results := make(chan ended, len(checks)) // room for all, so that none waits for us
	rows := make([]Row, len(checks))
	at := map[string]int{}
	for i, c := range checks {
		if _, twice := at[c.ID]; twice {
			panic("doctor: two checks have the ID " + c.ID)
		}
		at[c.ID] = i
		rows[i] = Row{ID: c.ID, Group: c.Group, Title: c.Title, link: c.Link}
	}
	started := make([]bool, len(checks))
	running := 0
	seen := Seen{}
	settle := func(i int, out Outcome, took time.Duration) {
		r := &rows[i]
		out.Text, out.Subject = finding.OneLine(out.Text, 500), finding.OneLine(out.Subject, 200)
		r.State, r.Text, r.Because, r.outcome, r.Took = out.State, out.Text, out.Because, out, float64(took.Microseconds())/1000
		if out.Finding != nil && (out.State == Fail || out.State == Warn) {
			r.Code = out.Finding.Code
		}
		seen[r.ID] = *r
	}
	// launch starts what can be started, and skips what never can.
	launch := func() {
		for again := true; again; {
			again = false
			for i, c := range checks {
				if started[i] {
					continue
				}
				ready, because := true, ""
				for _, id := range slices.Concat(c.Needs, c.After) {
					r, done := seen[id]
					switch {
					case !done:
						ready = false
					case because == "" && !r.State.well() && slices.Contains(c.Needs, id):
						because = id
					}
				}
				switch {
				case because != "":
					started[i], again = true, true
					r := seen[because]
					settle(i, Outcome{State: Skip, Because: because, Text: fmt.Sprintf("not made, because of %s: %s", group(r), r.Title)}, 0)
				case ready:
					started[i] = true
					known := make(Seen, len(c.Needs)+len(c.After))
					for _, id := range slices.Concat(c.Needs, c.After) {
						known[id] = seen[id]
					}
					running++
					go func() {
						begin := time.Now()
						out := c.Run(ctx, known)
						results <- ended{i, out, time.Since(begin)}
					}()
				}
			}
		}
	}
	take := func(r ended) {
		running--
		// The end of all time is no failure of what was being asked.
		if ctx.Err() != nil && r.out.State == Fail {
			r.out = unfinished(budget)
		}
		settle(r.i, r.out, r.took)
	}
	launch()
	for len(seen) < len(checks) && ctx.Err() == nil {
		select {
		case r := <-results:
			take(r)
			if ctx.Err() == nil {
				launch()
			}
		case <-ctx.Done():
		}
	}
	late := time.NewTimer(moment)
	defer late.Stop()
	for over := false; running > 0 && !over; {
		select {
		case r := <-results:
			take(r)
		case <-late.C:
			over = true
		}
	}
	for i := range checks {
		if _, done := seen[checks[i].ID]; !done {
			settle(i, unfinished(budget), 0)
		}
	}
	return report(subject, rows, time.Since(start))
}

func unfinished(budget time.Duration) Outcome {
	return Outcome{State: Incomplete, Text: fmt.Sprintf("not ended within %v", budget)}
}

func group(r Row) string { return strings.TrimSpace(r.Group) }

// report ranks what was found. Rows come in the order of the checks, which is that of
// the way of a module: the first failure that is no consequence is the root cause.
func report(subject string, rows []Row, took time.Duration) Report {
	at := map[string]int{}
	for i, r := range rows {
		at[r.ID] = i
	}
	for _, r := range rows {
		for _, id := range r.outcome.Excuses {
			if i, ok := at[id]; ok && rows[i].State == Fail {
				rows[i].State = Warn
			}
		}
		if r.State != Fail && r.State != Warn {
			continue
		}
		for _, id := range r.outcome.Explains {
			if i, ok := at[id]; ok && id != r.ID {
				rows[i].Because = r.ID
			}
		}
	}
	// root is the row that all of this goes back to.
	root := func(i int) int {
		for range rows {
			j, ok := at[rows[i].Because]
			if !ok || rows[i].outcome.Finding != nil && rows[i].State != Skip && rows[j].State != Fail && rows[j].State != Warn && rows[j].State != Skip {
				break // nobody else would tell of it
			}
			i = j
		}
		return i
	}
	rep := Report{Schema: Schema, Subject: finding.OneLine(subject, 500), Findings: []Found{}, Rows: rows, Took: float64(took.Microseconds()) / 1000}
	index := map[int]int{} // row → its finding
	for _, severity := range []State{Fail, Warn} {
		for i, r := range rows {
			f := r.outcome.Finding
			if r.State != severity || f == nil || root(i) != i {
				continue
			}
			sev := finding.Warn
			if severity == Fail {
				sev = finding.Fail
			}
			k := slices.IndexFunc(rep.Findings, func(x Found) bool { return x.Code == f.Code && x.Severity == sev })
			if k < 0 {
				k = len(rep.Findings)
				rep.Findings = append(rep.Findings, Found{Code: f.Code, Cause: f.Cause, Severity: sev, Confidence: f.Confidence, Title: f.Title, About: []string{},
					Why: f.Why, Fix: f.Mend, Commands: append([]string{}, f.Fix...), Changes: []finding.Change{}, Rows: []string{}, Evidence: []string{}, Consequences: []string{}})
			}
			found := &rep.Findings[k]
			found.Rows = append(found.Rows, r.ID)
			for _, c := range f.Changes {
				if !slices.Contains(found.Changes, c) {
					found.Changes = append(found.Changes, c)
				}
			}
			if s := r.outcome.Subject; s != "" && !slices.Contains(found.About, s) {
				found.About = append(found.About, s)
			}
			if r.Text != "" && !slices.Contains(found.Evidence, r.Text) {
				found.Evidence = append(found.Evidence, r.Text)
			}
			index[i] = k
		}
	}
	for i := range rows {
		k, ok := index[root(i)]
		if !ok || root(i) == i {
			continue
		}
		found := &rep.Findings[k]
		found.Consequences = append(found.Consequences, rows[i].ID)
		// Another source helps where one is in trouble, and not where this machine is.
		if better := rows[i].outcome.Finding; better != nil && rows[i].State == Skip && !strings.HasPrefix(rows[root(i)].ID, "machine.") {
			found.Fix, found.Commands = better.Mend, append(slices.Clone(better.Fix), beside(better.Fix, found.Commands)...)
			found.Changes = append(found.Changes, better.Changes...)
		}
	}
	rep.judge()
	rep.Chain = rep.chain()
	return rep
}

// judge gives the verdict and its sentence.
func (r *Report) judge() {
	open := 0
	for _, row := range r.Rows {
		if row.State == Incomplete || row.State == Unknown {
			open++
		}
	}
	about := func(f Found) string {
		s := f.Title
		if len(f.About) > 0 {
			s += ": " + strings.Join(f.About, ", ")
		}
		return fmt.Sprintf("%s (%s)", s, f.Code)
	}
	switch {
	case len(r.Findings) > 0 && r.Findings[0].Severity == finding.Fail:
		r.Verdict, r.Sentence = Broken, about(r.Findings[0])
	case open > 0:
		r.Verdict, r.Sentence = Untold, fmt.Sprintf("nothing was found to be broken, but %d of %d checks could not tell", open, len(r.Rows))
	case len(r.Findings) > 0:
		r.Verdict, r.Sentence = Impaired, "modules can be had, but "+about(r.Findings[0])
	default:
		r.Verdict, r.Sentence = Well, "no problem found"
	}
}

// Links are the names of the links, in the order in which a module passes them.
var Links = []string{"settings", "machine", "name", "forward proxy", "connection", "encryption", "answer", "version control", "modules", "checksums"}

// chain is the state of each link, for the way that the first finding is about.
func (r *Report) chain() []Link {
	way := ""
	for _, row := range r.Rows {
		if p, ok := wayOf(row.ID); ok && (way == "" || len(r.Findings) > 0 && slices.Contains(r.Findings[0].Rows, row.ID)) {
			way = p
			if len(r.Findings) > 0 && slices.Contains(r.Findings[0].Rows, row.ID) {
				break
			}
		}
	}
	// The worst of its rows is the state of a link.
	rank := []State{NA, OK, Skip, Unknown, Incomplete, Warn, Fail}
	links := []Link{}
	for _, name := range Links {
		state := NA
		for _, row := range r.Rows {
			if p, ok := wayOf(row.ID); row.link == name && (!ok || p == way) && slices.Index(rank, row.State) > slices.Index(rank, state) {
				state = row.State
			}
		}
		if state != NA {
			links = append(links, Link{name, state})
		}
	}
	return links
}

// wayOf is the part of an ID that all rows of one way to a host have: source.1.
func wayOf(id string) (string, bool) {
	p := strings.SplitN(id, ".", 3)
	if len(p) < 3 {
		return "", false
	}
	return p[0] + "." + p[1], true
}
