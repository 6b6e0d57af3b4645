package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/journal"
)

// Who made a change, in the journal.
const (
	byDoctor = "doctor --fix"
	byUse    = "use"
)

// doctorModes are the flags by which doctor does more than check.
type doctorModes struct {
	fix, yes          bool
	undo, list, force bool
	watch             bool
	every             time.Duration // of watch
}

func (m *doctorModes) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&m.fix, "fix", false, "make the fixes that are a change of the go env -w file, after showing it, and check again")
	f.BoolVar(&m.yes, "yes", false, "with --fix: do not ask")
	f.BoolVar(&m.undo, "undo", false, "put back what the last --fix changed, and check nothing")
	f.BoolVar(&m.list, "list", false, "with --undo: list what was changed, and change nothing")
	f.BoolVar(&m.force, "force", false, "with --undo: also where somebody has changed the file since, of which a copy is kept")
	f.BoolVar(&m.watch, "watch", false, "check again every INTERVAL (default 10s), and say what changes")
}

// check says what is wrong with the command line, and takes the interval from it.
func (m *doctorModes) check(cmd *cobra.Command, args []string) error {
	on := func(name string) bool { return cmd.Flags().Changed(name) }
	var modes []string
	for name, is := range map[string]bool{"--fix": m.fix, "--undo": m.undo, "--watch": m.watch} {
		if is {
			modes = append(modes, name)
		}
	}
	slices.Sort(modes)
	switch {
	case len(modes) > 1:
		return &exitError{status: exitMisuse, err: fmt.Errorf("%s exclude one another", strings.Join(modes, " and ")), hint: "give one of them"}
	case m.yes && !m.fix:
		return misuse("--yes goes with --fix")
	case (m.list || m.force) && !m.undo:
		return misuse("--list and --force go with --undo")
	case m.list && m.force:
		return misuse("--list changes nothing, so there is nothing to --force")
	case (m.watch || m.undo) && on("report"):
		return misuse("--report is of one check; leave %s away", modes[0])
	}
	if !m.watch {
		return noArgs(cmd, args)
	}
	m.every = watchEvery
	if len(args) == 0 {
		return nil
	}
	if len(args) > 1 {
		return noArgs(cmd, args[1:])
	}
	var err error
	if m.every, err = time.ParseDuration(args[0]); err != nil {
		return &exitError{status: exitMisuse, err: fmt.Errorf("the interval %q is no time", args[0]), hint: "write sluice doctor --watch 30s"}
	}
	if m.every < watchLeast {
		return &exitError{status: exitMisuse, err: fmt.Errorf("the interval %v is too short for those who are asked", m.every), hint: fmt.Sprintf("give %v or more", watchLeast)}
	}
	return nil
}

// alone says that another mode takes none of these.
func (m *doctorModes) alone(cmd *cobra.Command, mode string) error {
	for _, name := range []string{"fix", "yes", "undo", "list", "force", "watch"} {
		if cmd.Flags().Changed(name) {
			return misuse("%s and --%s exclude one another", mode, name)
		}
	}
	return nil
}

// fixing is what doctor --fix --json prints.
type fixing struct {
	Before  *doctor.Report `json:"before"`
	File    string         `json:"file"`    // that is changed; "" if nothing is to be
	Diff    []string       `json:"diff"`    // its lines that go (-) and come (+), without credentials
	Changed bool           `json:"changed"` // it was written
	After   *doctor.Report `json:"after"`   // null if it was not
	Helped  bool           `json:"helped"`  // something needs no fix any more, and nothing has become worse
	Undone  bool           `json:"undone"`  // it was taken back, as it did not help
	Left    []leftover     `json:"left"`    // findings that somebody has to do something about
}

// A leftover is a finding that --fix leaves to the user.
type leftover struct {
	Code     finding.Code `json:"code"`
	Title    string       `json:"title"`
	Fix      string       `json:"fix"`
	Commands []string     `json:"commands"`
}

// fix checks, makes the fixes that it can, and checks again.
func (x examination) fix(ctx context.Context, yes bool) error {
	e := x.e
	before, err := x.report(ctx)
	if err != nil {
		return err
	}
	o := fixing{Before: before, Diff: []string{}, Left: []leftover{}}
	var changes []finding.Change
	for _, f := range before.Findings {
		changes = append(changes, f.Changes...)
		if len(f.Changes) == 0 {
			o.Left = append(o.Left, leftover{f.Code, f.Title, f.Fix, f.Commands})
		}
	}
	end := func(r *doctor.Report) error {
		var err error
		if x.json {
			err = writeJSON(e, o)
		} else if err = x.printLeft(o.Left); err == nil && r == o.After && o.After != nil {
			err = x.share(r)
		}
		if err == nil {
			err = verdictError(r)
		}
		return err
	}
	if !x.json {
		if err := x.print(before, true); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		if !x.json {
			fmt.Fprintln(e.stdout, "Nothing to do: no finding has a fix that is a change of settings alone.")
			if err := x.share(before); err != nil {
				return err
			}
		}
		return end(before)
	}
	l, _, err := e.loadAnyway(x.cmd)
	if err != nil {
		return err
	}
	j, err := e.journal(l)
	if err != nil {
		return err
	}
	settings := e.goSettings(ctx)
	plan, err := e.planGoEnv(ctx, settings, changes)
	if err != nil {
		return &exitError{status: exitNo, err: err}
	}
	was, is := envFile(plan.Before), envFile(plan.After)
	for _, name := range goenv.Names() {
		if settings.Get(name).Layer == goenv.Environ && was.Get(name).Value != is.Get(name).Value {
			e.say("warning: %s", hiddenBy(settings.Get(name)))
		}
	}
	o.File, o.Diff = plan.Name, shownDiff(plan.Diff())
	if !x.json {
		fmt.Fprintf(e.stdout, "\nThis is to be written to %s:\n", shownName(plan.Name))
		for _, line := range o.Diff {
			fmt.Fprintf(e.stdout, "  %s\n", line)
		}
	}
	if !yes {
		if !e.canAsk() {
			return &exitError{status: exitMisuse, err: fmt.Errorf("--fix would change %s, and there is no terminal to ask at; nothing was changed", shownName(plan.Name)), hint: "--yes makes the change without asking"}
		}
		ok, err := e.ask(ctx, "Write it?", false)
		if err != nil {
			return err
		}
		if !ok {
			e.say("nothing was changed")
			return &exitError{status: exitNo}
		}
	}
	step, err := j.Do(ctx, byDoctor, whatOf(changes), plan)
	if err != nil {
		return changeError(ctx, e, err, "run sluice doctor --fix again")
	}
	if o.Changed = step != nil; !o.Changed {
		return end(before)
	}
	if o.After, err = x.report(ctx); err != nil {
		e.say("the change stays; sluice doctor --undo takes it back")
		return err
	}
	o.Helped = helped(before, o.After)
	if !x.json {
		fmt.Fprintln(e.stdout, "\nWritten. Checked again:")
		if err := x.print(o.After, true); err != nil {
			return err
		}
	}
	switch {
	case o.Helped:
		if !x.json {
			fmt.Fprintln(e.stdout, "It helped. sluice doctor --undo takes it back.")
			if slices.ContainsFunc(o.After.Findings, func(f doctor.Found) bool { return len(f.Changes) > 0 }) {
				fmt.Fprintln(e.stdout, "There is more that it can mend now: run sluice doctor --fix again.")
			}
		}
		// What has come to light meanwhile is left too.
		o.Left = o.Left[:0]
		for _, f := range o.After.Findings {
			if len(f.Changes) == 0 {
				o.Left = append(o.Left, leftover{f.Code, f.Title, f.Fix, f.Commands})
			}
		}
		return end(o.After)
	case !yes:
		back, err := e.ask(ctx, "It did not help. Take it back?", true)
		if err != nil {
			return err
		}
		if !back {
			return end(o.After)
		}
	}
	if _, err := j.UndoStep(ctx, step); err != nil {
		return changeError(ctx, e, err, "")
	}
	o.Undone = true
	if !x.json {
		fmt.Fprintf(e.stdout, "It did not help, so %s is again as it was.\n", shownName(plan.Name))
	}
	return end(before)
}

// printLeft names what the user must do.
func (x examination) printLeft(left []leftover) error {
	var b strings.Builder
	for _, l := range left {
		fmt.Fprintf(&b, "Left to you: %s (%s): %s\n", l.Title, l.Code, l.Fix)
		for _, c := range l.Commands {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(c, "\n", "\n    "))
		}
	}
	_, err := fmt.Fprint(x.e.stdout, b.String())
	return err
}

// helped reports whether something that was to be fixed needs no fix any more, and it is
// not worse than before.
func helped(before, after *doctor.Report) bool {
	if after.Verdict == doctor.Broken && before.Verdict != doctor.Broken {
		return false
	}
	open := func(r *doctor.Report) map[finding.Change]bool {
		is := map[finding.Change]bool{}
		for _, f := range r.Findings {
			for _, c := range f.Changes {
				is[finding.Change{Kind: c.Kind, Name: c.Name}] = true
			}
		}
		return is
	}
	left := open(after)
	for c := range open(before) {
		if !left[c] {
			return true
		}
	}
	return false
}

// whatOf is changes in one line.
func whatOf(changes []finding.Change) string {
	var words []string
	for _, c := range changes {
		switch c.Kind {
		case finding.SetGoEnv:
			words = append(words, c.Name+"="+goenv.Redact(c.Value))
		case finding.UnsetGoEnv:
			words = append(words, "unset "+c.Name)
		case finding.MendGoEnv:
			words = append(words, "lines that do not do what they seem to")
		}
	}
	return finding.OneLine(strings.Join(words, ", "), 300)
}

// goEnvFile is the file of go env -w.
func (e *env) goEnvFile(s *goenv.Settings) (string, error) {
	switch {
	case s.File != "" && filepath.IsAbs(s.File):
		return s.File, nil
	case s.File != "" && e.dir != "":
		return filepath.Join(e.dir, s.File), nil
	case s.Get("GOENV").Value == "off":
		return "", &exitError{status: exitNo, err: errors.New("GOENV is off in the environment, so the go command reads no file of settings, and none is changed"), hint: unsetLine("GOENV")}
	}
	return "", &exitError{status: exitNo, err: errors.New("this user has no configuration directory, so there is no go env -w file to change"), hint: "set HOME, or GOENV to a file"}
}

// hiddenBy says that a variable of the environment hides its line of the file.
func hiddenBy(v goenv.Value) string {
	return fmt.Sprintf("%s is %s in the environment, which hides the file: what is written there has no effect here until you %s", v.Name, v.Redacted(), unsetLine(v.Name))
}

// unsetLine is what takes a variable out of the environment.
func unsetLine(name string) string {
	if here() == finding.PowerShell {
		return "Remove-Item env:" + name
	}
	return "unset " + name
}

// planGoEnv says what becomes of the go env -w file by changes.
func (e *env) planGoEnv(ctx context.Context, s *goenv.Settings, changes []finding.Change) (journal.File, error) {
	name, err := e.goEnvFile(s)
	if err != nil {
		return journal.File{}, err
	}
	return journal.Plan(name, 0o600, func(old []byte, _ bool) ([]byte, error) {
		text := old
		if slices.ContainsFunc(changes, func(c finding.Change) bool { return c.Kind == finding.MendGoEnv }) {
			// What was wrong with a value may have been its line, and the other way round.
			text = goenv.MendFile(old)
			changes = doctor.SettingsChanges(goenv.Load(e.environ, func(file string) ([]byte, error) {
				if file == s.File {
					return text, nil
				}
				return os.ReadFile(file)
			}, e.goroot(ctx), userConfigDir()))
		}
		set := map[string]string{}
		var unset []string
		for _, c := range changes {
			switch c.Kind {
			case finding.SetGoEnv:
				set[c.Name] = c.Value
			case finding.UnsetGoEnv:
				unset = append(unset, c.Name)
			}
		}
		if len(set)+len(unset) == 0 {
			return text, nil
		}
		return goenv.EditFile(text, set, unset)
	})
}

// envFile is what a go env -w file of this text says.
func envFile(text []byte) *goenv.Settings {
	return goenv.Load([]string{"GOENV=file"}, func(string) ([]byte, error) { return text, nil }, "", "")
}

// journal is where the changes of this user are recorded.
func (e *env) journal(l *config.Loaded) (*journal.Journal, error) {
	if l.Data == "" {
		return nil, &exitError{status: exitMisuse, err: errors.New("nothing was changed, since there is no directory for what could take it back"), hint: "name one with --data, or SLUICE_DATA in the environment"}
	}
	data, err := filepath.Abs(l.Data)
	if err != nil {
		return nil, &exitError{status: exitMisuse, err: fmt.Errorf("the directory %s cannot be used: %w", l.Data, err)}
	}
	return journal.In(filepath.Join(data, ".sluice", "journal")), nil
}

// changeError is an error of the journal for the user, with what differs.
func changeError(ctx context.Context, e *env, err error, hint string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c, ok := errors.AsType[*journal.ChangedError](err); ok {
		lines := c.Diff
		if filepath.Base(c.Name) == ".envrc" {
			lines = withoutSecrets(lines)
		}
		for _, line := range shownDiff(lines) {
			e.say("  %s", line)
		}
	}
	return &exitError{status: exitNo, err: err, hint: hint}
}

var envrcSets = regexp.MustCompile(`^[-+] [ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=`)

// withoutSecrets is a difference of a file that holds what is no setting of the go
// command's, as passwords, and all in any form: of that there are the names alone.
func withoutSecrets(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		set := envrcSets.FindStringSubmatch(line)
		switch text := strings.TrimLeft(line, "+- "); {
		case set != nil && slices.Contains(goenv.Names(), set[1]) && envrcLine.MatchString(strings.Replace(text, set[1]+"=", "GOPROXY=", 1)):
			out[i] = line
		case set != nil:
			out[i] = set[0] + "…"
		case strings.HasPrefix(text, "it led to ") || strings.HasPrefix(text, "it leads to ") || text == "it is not there" || text == "it was not there":
			out[i] = line // and no line of the file
		default:
			out[i] = line[:min(2, len(line))] + "…"
		}
	}
	return out
}

// maxShown is how many lines of a difference are shown.
const maxShown = 40

// shownDiff is lines of settings as they may be shown: without credentials, and one
// line each.
func shownDiff(lines []string) []string {
	out := []string{}
	for _, line := range lines {
		if len(out) == maxShown {
			return append(out, fmt.Sprintf("  and %d more", len(lines)-maxShown))
		}
		sign, text := line[:min(2, len(line))], line[min(2, len(line)):]
		name, value, ok := strings.Cut(text, "=")
		if ok {
			text = name + "=" + goenv.Redact(value)
		} else {
			text = goenv.Redact(text)
		}
		out = append(out, sign+finding.OneLine(text, 500))
	}
	return out
}

// canAsk reports whether somebody can be asked.
func (e *env) canAsk() bool {
	return e.terminal && e.stdin != nil && term.IsTerminal(int(e.stdin.Fd()))
}

// ask asks a question at the terminal; an empty answer is usual.
func (e *env) ask(ctx context.Context, question string, usual bool) (bool, error) {
	choice := "[y/N]"
	if usual {
		choice = "[Y/n]"
	}
	fmt.Fprintf(e.stderr, "sluice: %s %s ", finding.Printable(question), choice)
	line, err := bufio.NewReader(interrupted{ctx, e.stdin}).ReadString('\n')
	if ctx.Err() != nil {
		fmt.Fprintln(e.stderr)
		return false, context.Cause(ctx)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	case "":
		return usual && err == nil, nil
	}
	return false, nil
}

// undoing is what the command line asks of an undo.
type undoing struct {
	command           string // whose steps
	list, force, json bool
}

// undone is what --undo --json prints.
type undone struct {
	Undone stepShown `json:"undone"`
	Kept   []string  `json:"kept"` // copies of what --force wrote over
}

// stepShown is a step of the journal for people and scripts.
type stepShown struct {
	ID      int       `json:"id"`
	Time    time.Time `json:"time"`
	Command string    `json:"command"`
	What    string    `json:"what"`
	State   string    `json:"state"` // done, or undone
	Files   []string  `json:"files"`
}

func showStep(s *journal.Step) stepShown {
	x := stepShown{ID: s.ID, Time: s.Time, Command: finding.OneLine(s.Command, 40), What: finding.OneLine(s.What, 300), State: string(s.State), Files: []string{}}
	for _, f := range s.Files {
		x.Files = append(x.Files, f.Name)
	}
	return x
}

// undo puts back what the last step of a command changed, or lists the steps of all.
func (e *env) undo(cmd *cobra.Command, o undoing) error {
	ctx := cmd.Context()
	l, _, err := e.loadAnyway(cmd)
	if err != nil {
		return err
	}
	j, err := e.journal(l)
	if err != nil {
		return err
	}
	if o.list {
		return e.listSteps(j, o)
	}
	u, err := j.Undo(ctx, o.command, o.force)
	switch {
	case errors.Is(err, journal.ErrNothing):
		return &exitError{status: exitNo, err: fmt.Errorf("there is nothing that sluice %s changed and that is not undone", o.command), hint: "add --list to see what was changed"}
	case err != nil:
		hint := ""
		if c, ok := errors.AsType[*journal.ChangedError](err); ok {
			err = fmt.Errorf("%w, and nothing was undone", err)
			hint = "--force puts back what was there all the same, and keeps a copy"
			if c.By != nil && c.By.Command != o.command {
				hint = fmt.Sprintf("undo that first (sluice %s --undo), or use --force", strings.Fields(c.By.Command)[0])
			}
		}
		return changeError(ctx, e, err, hint)
	}
	if o.json {
		return writeJSON(e, undone{showStep(u.Step), append([]string{}, u.Kept...)})
	}
	for _, f := range u.Step.Files {
		if f.Existed {
			fmt.Fprintf(e.stdout, "%s is again as it was before sluice %s of %s.\n", shownName(f.Name), u.Step.Command, stepTime(u.Step.Time))
		} else {
			fmt.Fprintf(e.stdout, "%s is gone again; sluice %s of %s had made it.\n", shownName(f.Name), u.Step.Command, stepTime(u.Step.Time))
		}
	}
	for _, k := range u.Kept {
		fmt.Fprintf(e.stdout, "What was there until now is in %s.\n", shownName(k))
	}
	return nil
}

func stepTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func (e *env) listSteps(j *journal.Journal, o undoing) error {
	steps, damaged, err := j.Steps()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range damaged {
		e.say("warning: %v", d)
	}
	shown := []stepShown{}
	for _, s := range slices.Backward(steps) {
		shown = append(shown, showStep(s))
	}
	if o.json {
		return writeJSON(e, shown)
	}
	if len(shown) == 0 {
		fmt.Fprintln(e.stdout, "Nothing was changed, or it is not recorded any more.")
	}
	for _, s := range shown {
		fmt.Fprintf(e.stdout, "%s  %-6s  sluice %s: %s (%s)\n", stepTime(s.Time), s.State, s.Command, s.What, shownName(strings.Join(s.Files, ", ")))
	}
	return nil
}
