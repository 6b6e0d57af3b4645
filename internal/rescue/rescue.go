// Package rescue is the record of an emergency: what was broken, what was done about
// it and when, what is left, and what to do now that builds work again, as a value, as
// JSON and as a page that people read and send around.
//
// It finds nothing out and mends nothing: whoever does writes it in here. It holds no
// credentials if they give it none.
package rescue

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/finding"
)

// Schema names the form of an Incident as JSON. Fields may be added to it.
const Schema = "sluice-rescue/1"

// An Outcome says in a word how it ended.
type Outcome string

const (
	Well        Outcome = "well"        // the command worked, and nothing was broken that it needed
	Rescued     Outcome = "rescued"     // something was, and the command works all the same
	Failed      Outcome = "not-rescued" // the command does not work, or was not tried
	Interrupted Outcome = "interrupted"
	DryRun      Outcome = "dry-run" // only looked at
)

// Outcomes lists all outcomes. The caller owns the result.
func Outcomes() []Outcome { return []Outcome{Well, Rescued, Failed, Interrupted, DryRun} }

// An Incident is the record.
type Incident struct {
	Schema   string    `json:"schema"`
	Outcome  Outcome   `json:"outcome"`
	Sentence string    `json:"sentence"` // the outcome in one sentence
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	OwnMS    int64     `json:"own_ms"`  // that it took, without the command
	Dir      string    `json:"dir"`     // where it was run
	Command  []string  `json:"command"` // that was to work
	Status   int       `json:"status"`  // its exit status; -1 if it was not run
	Broken   []Broken  `json:"broken"`  // the root cause first
	Sources  []Source  `json:"sources"` // in the order in which they were asked
	Steps    []Step    `json:"steps"`   // in the order of time
	Kept     string    `json:"kept"`    // the file of settings that was written; "" if none was
	Left     []Advice  `json:"left"`    // what is still broken, or could be better
	After    []Advice  `json:"after"`   // what to do now
}

// A Broken is one thing that was broken.
type Broken struct {
	Code     finding.Code `json:"code"`
	Title    string       `json:"title"`
	About    []string     `json:"about"` // hosts, variables, directories
	Evidence []string     `json:"evidence"`
	Since    time.Time    `json:"since,omitzero"` // at the latest; zero if nobody has seen it before
}

// What is known of a source.
const (
	Answers = "answers"
	Lacks   = "lacks" // it answers, and does not have the module that it was asked for
	Fails   = "fails"
	Unasked = "unasked" // since nobody was to be asked
)

// Where a source is from.
const (
	Settings = "settings"
	To       = "--to"
	Bundle   = "--bundle"
)

// A Source is one that modules may come from.
type Source struct {
	Name  string       `json:"name"` // without credentials
	From  string       `json:"from"` // settings, --to, --bundle
	State string       `json:"state"`
	Text  string       `json:"text"`
	Code  finding.Code `json:"code"` // of what fails; else ""
	Good  uint64       `json:"good"` // answers that were used while the command ran
}

// A Kind of step.
type Kind string

const (
	Detect   Kind = "detect"
	Mend     Kind = "settings" // mended for the command alone
	Clean    Kind = "cache"
	Find     Kind = "sources"
	Run      Kind = "command"
	Verify   Kind = "verify"
	Keep     Kind = "keep"
	Finished Kind = "end"
)

// Kinds lists all kinds. The caller owns the result.
func Kinds() []Kind { return []Kind{Detect, Mend, Clean, Find, Run, Verify, Keep, Finished} }

// A Step is something that was done, or seen.
type Step struct {
	At     time.Time `json:"at"` // when it had ended
	Kind   Kind      `json:"step"`
	Text   string    `json:"text"`
	TookMS int64     `json:"took_ms"`
}

// Advice is something for the reader to do.
type Advice struct {
	Code     finding.Code `json:"code"` // of what it is about; "" if of nothing in the catalogue
	Text     string       `json:"text"`
	Commands []string     `json:"commands"`
}

// New is the record of what begins now, to be run in dir.
func New(now time.Time, dir string, command []string) *Incident {
	return &Incident{Schema: Schema, Began: now.UTC().Truncate(time.Millisecond), Dir: dir, Command: slices.Clone(command), Status: -1,
		Broken: []Broken{}, Sources: []Source{}, Steps: []Step{}, Left: []Advice{}, After: []Advice{}}
}

// Add notes a step that began at start and has ended now.
func (i *Incident) Add(kind Kind, start time.Time, text string) {
	now := time.Now()
	i.Steps = append(i.Steps, Step{At: now.UTC().Truncate(time.Millisecond), Kind: kind, Text: finding.OneLine(text, 500), TookMS: now.Sub(start).Milliseconds()})
}

// Advise notes something to do.
func Advise(list []Advice, code finding.Code, text string, commands ...string) []Advice {
	return append(list, Advice{code, finding.OneLine(text, 500), append([]string{}, commands...)})
}

// End notes how it ended. command is the part of its time that the command took.
func (i *Incident) End(outcome Outcome, sentence string, command time.Duration) {
	i.Add(Finished, time.Now(), sentence)
	i.Outcome, i.Sentence, i.Ended = outcome, finding.OneLine(sentence, 500), i.Steps[len(i.Steps)-1].At
	i.OwnMS = max(0, (i.Ended.Sub(i.Began) - command).Milliseconds())
}

// PageBegins is how each page begins, by which one is known; that of what turned out to be
// no emergency begins as WellPageBegins.
const (
	PageBegins     = "# Modules could not be had: "
	WellPageBegins = "# Modules could be had: "
)

// WriteMarkdown writes the record as a page.
func (i *Incident) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	// What servers and files say must not become markup.
	plain := strings.NewReplacer("\\", "\\\\", "`", "'", "<", "&lt;", "|", "\\|", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]").Replace
	code := func(s string) string { return "`" + strings.ReplaceAll(s, "`", "'") + "`" }
	cell := func(s string) string { return strings.ReplaceAll(code(s), "|", "\\|") }
	title := PageBegins
	if i.Outcome == Well || i.Outcome == DryRun && len(i.Broken) == 0 {
		title = WellPageBegins
	}
	fmt.Fprintf(&b, "%s%s\n\n%s\n\n", title, i.Began.Format("2006-01-02 15:04 UTC"), plain(i.Sentence))
	fmt.Fprintf(&b, "| | |\n|---|---|\n| Outcome | %s |\n| Began | %s |\n| Ended | %s |\n| Took | %.1f s, %.1f s of it without the command |\n| Where | %s |\n| Command | %s |\n",
		i.Outcome, stamp(i.Began), stamp(i.Ended), i.Ended.Sub(i.Began).Seconds(), float64(i.OwnMS)/1000, cell(i.Dir), cell(strings.Join(i.Command, " ")))
	if i.Status >= 0 {
		fmt.Fprintf(&b, "| Its exit status | %d |\n", i.Status)
	}
	if i.Kept != "" {
		fmt.Fprintf(&b, "| Settings | written to %s; `sluice rescue --undo` takes it back |\n", cell(i.Kept))
	} else {
		b.WriteString("| Settings | not changed |\n")
	}
	b.WriteString("\n## What was broken\n\n")
	if len(i.Broken) == 0 {
		b.WriteString("Nothing that the checks could see.\n")
	}
	for _, x := range i.Broken {
		fmt.Fprintf(&b, "- %s (%s)", plain(x.Title), x.Code)
		if len(x.About) > 0 {
			about := []string{}
			for _, a := range x.About {
				about = append(about, code(a))
			}
			fmt.Fprintf(&b, ": %s", strings.Join(about, ", "))
		}
		if !x.Since.IsZero() {
			fmt.Fprintf(&b, "; at the latest since %s", stamp(x.Since))
		} else {
			b.WriteString("; since when is not known")
		}
		b.WriteString("\n")
		for _, e := range x.Evidence {
			fmt.Fprintf(&b, "  - %s\n", plain(e))
		}
	}
	b.WriteString("\n## Timeline\n\n| Time | Step | What | Took |\n|---|---|---|---|\n")
	fmt.Fprintf(&b, "| %s | begin | | |\n", i.Began.Format("15:04:05.000"))
	for _, s := range i.Steps {
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f s |\n", s.At.UTC().Format("15:04:05.000"), s.Kind, plain(s.Text), float64(s.TookMS)/1000)
	}
	if len(i.Sources) > 0 {
		b.WriteString("\n## Sources\n\n| Source | From | State | What was seen | Answers used |\n|---|---|---|---|---|\n")
		for _, s := range i.Sources {
			text := plain(s.Text)
			if s.Code != "" {
				text += fmt.Sprintf(" (%s)", s.Code)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", cell(s.Name), s.From, s.State, text, s.Good)
		}
	}
	for _, part := range []struct {
		title string
		list  []Advice
	}{{"What is left", i.Left}, {"What to do now", i.After}} {
		if len(part.list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", part.title)
		for _, a := range part.list {
			fmt.Fprintf(&b, "- %s", plain(a.Text))
			if a.Code != "" {
				fmt.Fprintf(&b, " (%s)", a.Code)
			}
			b.WriteString("\n")
			if len(a.Commands) > 0 {
				b.WriteString("\n")
				for _, c := range a.Commands {
					fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(c, "\n", "\n      "))
				}
				b.WriteString("\n")
			}
		}
	}
	_, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
