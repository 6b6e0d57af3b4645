package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/journal"
)

// Scopes of use.
const (
	scopeUser    = "user"
	scopeProject = "project"
)

// useDefault is the word for what holds where nobody has set anything, and useBest for
// the mirrors that measuring recommends.
const (
	useDefault = "default"
	useBest    = "best"
)

// useFlags are the flags of use.
type useFlags struct {
	scope, place             string
	among                    []string // mirrors that best is chosen of; none: all that bench knows
	envrc, force, undo, list bool
	json                     bool
}

func newUse(e *env) *cobra.Command {
	var o useFlags
	cmd := &cobra.Command{
		Use:   "use SOURCES | best | --undo",
		Short: "Take modules from other sources from now on, and back",
		Long: `Use makes SOURCES the GOPROXY of this user: it asks each of them for a module first,
as sluice doctor does, and then writes the file of go env -w. What was there comes back,
to the byte, with sluice use --undo.

SOURCES is a GOPROXY list: URLs, and at its end direct or off, separated by commas (go on at
404 and 410) or bars (go on at any error). A source that has a [[source]] table in the
configuration of Sluice can be given by its name. A list that ends in neither direct nor off
keeps what the list before it ended in. The word default alone takes the setting away, so that
the toolchain's own holds. The word best stands for the mirrors that are best from here: they
are measured first, as sluice bench does, but briefly; --among names those to choose from.

A source that does not answer as a module proxy is refused; --force takes it all the same. Where
an environment variable hides the file, or a file of the project sets GOPROXY too, use says so.

With --scope project nothing of the user's is changed: the line that sets GOPROXY is printed, for
this shell, or for what --for names. With --envrc it is written to the .envrc of the project.

Exit status: 0 it is so now, 1 it could not be done, or a source does not answer, 2 misused.`,
		Example: "  sluice use https://proxy.example.com\n  sluice use 'https://proxy.corp.example|https://proxy.example.com,direct'\n  sluice use best\n  sluice use --undo\n  eval \"$(sluice use --scope project https://proxy.example.com)\"\n  sluice use --scope project --for github https://proxy.example.com",
		Args:    func(cmd *cobra.Command, args []string) error { return o.check(cmd, args) },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			words := []string{useBest + "\tthe mirrors that are best from here", useDefault + "\twhat the toolchain has", "direct\tversion control", "off\tnothing is downloaded"}
			if l, _, err := e.loadAnyway(cmd); err == nil {
				for _, s := range l.Source {
					if s.Name != "" {
						words = append(words, s.Name+"\t"+goenv.Redact(s.URL))
					}
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.undo {
				return e.undo(cmd, undoing{command: byUse, list: o.list, force: o.force, json: o.json})
			}
			return runUse(cmd.Context(), e, cmd, o, strings.TrimSpace(args[0]))
		},
	}
	f := cmd.Flags()
	f.Var(&textFlag{text: scopeUser, kind: scopeUser + "|" + scopeProject}, "scope", "whose setting: the user's go env -w file, or the project's, for which a line is printed")
	cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{scopeUser, scopeProject}, cobra.ShellCompDirectiveNoFileComp))
	var names []string
	for _, p := range finding.Places() {
		names = append(names, string(p))
	}
	f.Var(&textFlag{kind: strings.Join(names, "|")}, "for", "with --scope project: write the line for this place (default: that of a CI system if this runs in one, else the terminal)")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	f.StringArrayVar(&o.among, "among", nil, "with best: choose of these mirrors alone, each a URL or a name that sluice bench knows; may be repeated")
	cmd.RegisterFlagCompletionFunc("among", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return e.completeMirrors(cmd, ""), cobra.ShellCompDirectiveNoFileComp
	})
	f.BoolVar(&o.envrc, "envrc", false, "with --scope project: write the line to the .envrc of the project")
	f.BoolVar(&o.force, "force", false, "also if a source does not answer; with --undo, also if the file was changed since")
	f.BoolVar(&o.undo, "undo", false, "put back what the last sluice use changed")
	f.BoolVar(&o.list, "list", false, "with --undo: list what was changed, and change nothing")
	f.BoolVar(&o.json, "json", false, "print what was done as JSON")
	f.Var(&textFlag{kind: "file"}, "config", "configuration file (TOML); SLUICE_CONFIG names it too")
	cmd.MarkFlagFilename("config", "toml")
	for _, k := range config.Keys() {
		if k.Name == "data" {
			f.Var(&textFlag{kind: string(k.Kind)}, k.Flag(), "directory of the store, where what --undo needs is kept")
			cmd.MarkFlagDirname(k.Flag())
		}
	}
	return cmd
}

// check says what is wrong with the command line.
func (o *useFlags) check(cmd *cobra.Command, args []string) error {
	o.scope, o.place = cmd.Flag("scope").Value.String(), cmd.Flag("for").Value.String()
	wrong := func(hint, format string, args ...any) error {
		return &exitError{status: exitMisuse, err: fmt.Errorf(format, args...), hint: hint}
	}
	switch {
	case o.scope != scopeUser && o.scope != scopeProject:
		return misuse("--scope %s is neither user nor project", o.scope)
	case o.place != "" && !slices.Contains(finding.Places(), finding.Place(o.place)):
		return misuse("--for %s is none of %s", o.place, cmd.Flag("for").Value.Type())
	case o.undo && len(o.among) > 0:
		return misuse("--undo chooses no mirrors; leave --among away")
	case o.undo && (o.envrc || o.place != "" || cmd.Flags().Changed("scope")):
		return misuse("--undo takes back what was done last, whatever its scope; leave --scope, --for and --envrc away")
	case o.undo && o.list && o.force:
		return misuse("--list changes nothing, so there is nothing to --force")
	case o.undo:
		return noArgs(cmd, args)
	case o.list:
		return misuse("--list goes with --undo")
	case o.scope == scopeUser && (o.envrc || o.place != ""):
		return wrong("add --scope project", "--for and --envrc are of the project's scope")
	case o.envrc && o.place != "":
		return misuse("--envrc writes a file, and --for is about what is printed; give one of them")
	case len(args) == 0:
		return wrong("write sluice use https://proxy.example.com", "use needs the sources to use")
	case len(o.among) > 0 && !hasBest(args[0]):
		return wrong("write sluice use best --among MIRROR", "--among goes with the word best")
	case len(args) > 1:
		return wrong("write the list in quotes, with commas or bars and no spaces", "use takes one list of sources, but got %d words", len(args))
	}
	return nil
}

// used is what use --json prints.
type used struct {
	Scope     string      `json:"scope"`
	GOPROXY   string      `json:"goproxy"`   // as it is to be, without credentials
	Best      string      `json:"best"`      // what measuring said, of the word best; else ""
	Before    string      `json:"before"`    // what held where it is written
	File      string      `json:"file"`      // that was written, or would have been; "" if it is only printed
	Line      string      `json:"line"`      // of --scope project without --envrc
	Changed   bool        `json:"changed"`   // a file was written
	Effective bool        `json:"effective"` // go commands that are started here see it
	Sources   []usedProbe `json:"sources"`
	Warnings  []string    `json:"warnings"`

	kept string // how the same list held before; "" if it was another
}

// A usedProbe is how a source answered.
type usedProbe struct {
	Source string       `json:"source"`
	State  string       `json:"state"` // answers, lacks (the module that it was asked for), or fails
	Text   string       `json:"text"`
	Code   finding.Code `json:"code"` // of what fails; else ""
}

const (
	probeAnswers = "answers"
	probeLacks   = "lacks"
	probeFails   = "fails"
)

func runUse(ctx context.Context, e *env, cmd *cobra.Command, o useFlags, text string) error {
	l, _, err := e.loadAnyway(cmd)
	if err != nil {
		return err
	}
	settings := e.goSettings(ctx)
	u := used{Scope: o.scope, Sources: []usedProbe{}, Warnings: []string{}, Effective: true}
	under := underEnvironment(settings)
	u.Before = under.Redacted()
	if hasBest(text) && !slices.Contains(sourceNames(l), useBest) {
		if text, err = e.measureBest(ctx, l, settings, text, o, &u); err != nil {
			return err
		}
	}
	list, err := wanted(l, settings, text, o, under, &u)
	if err != nil {
		return err
	}
	u.GOPROXY = list.Redacted()
	var file string
	if o.scope == scopeUser {
		// Before anybody is asked: without a file it would be for nothing.
		if file, err = e.goEnvFile(settings); err != nil {
			return err
		}
	} else if err := fitForProject(list); err != nil {
		return err
	} else if name, _ := e.envrc(); o.envrc && filepath.Dir(filepath.Dir(name)) == filepath.Dir(name) {
		return &exitError{status: exitMisuse, err: fmt.Errorf("there is no project here, and %s would be for all of this machine; nothing was changed", shownName(name)), hint: "go to the directory of the project"}
	}
	if text != useDefault { // which names nobody
		if err := e.probe(ctx, l, settings, list, o, &u); err != nil {
			return err
		}
	}
	if o.scope == scopeProject && !o.envrc {
		u.Line = e.projectLine(list, finding.Place(o.place))
		e.warnOfFiles("", &u)
		return e.printUsed(u, o)
	}
	if o.envrc {
		var hides string
		if file, hides = e.envrc(); hides != "" {
			u.Warnings = append(u.Warnings, "direnv reads the nearest .envrc alone, so "+shownName(hides)+" is not read here any more, unless the new one has a line source_up")
		}
	}
	j, err := e.journal(l)
	if err != nil {
		return err
	}
	u.File = file
	step, err := e.writeUse(ctx, j, o, file, text, list)
	if err != nil {
		return changeError(ctx, e, err, "")
	}
	u.Changed = step != nil
	if step != nil && o.scope == scopeUser {
		// Another process may have written since we looked: what was there, the step knows.
		if u.Before = settings.Default("GOPROXY").Redacted(); len(step.Files) > 0 {
			if v := envFile(step.Files[0].Before).Get("GOPROXY"); v.Layer == goenv.UserFile {
				u.Before = v.Redacted()
			}
		}
		switch {
		case u.GOPROXY == "" || u.GOPROXY != u.Before:
		case text == useDefault:
			u.kept = "as it was, since the toolchain has the same"
		default:
			u.kept = "as it was by default"
		}
	}
	if o.scope == scopeUser {
		e.warnOfEnvironment(settings, list, text, &u)
		warnOfConfig(l, list, &u)
		e.warnOfFiles("", &u)
	} else {
		u.Warnings = append(u.Warnings, "direnv reads .envrc only after: direnv allow")
		e.warnOfFiles(file, &u)
	}
	return e.printUsed(u, o)
}

// underEnvironment is GOPROXY as it were without the environment variable.
func underEnvironment(s *goenv.Settings) goenv.Value {
	v := s.Get("GOPROXY")
	if v.Layer != goenv.Environ {
		return v
	}
	if len(v.Overridden) > 0 {
		return v.Overridden[0]
	}
	return goenv.Value{Name: "GOPROXY"}
}

// wanted is the list that text asks for. It is that of the toolchain, perhaps empty,
// for the word default.
func wanted(l *config.Loaded, s *goenv.Settings, text string, o useFlags, before goenv.Value, u *used) (goenv.List, error) {
	if text == useDefault {
		if o.scope == scopeProject {
			return nil, misuse("default takes a setting of the user's away, and a project has none of its own; write sluice use default")
		}
		list, _ := goenv.ParseProxyList(s.Default("GOPROXY").Value)
		return list, nil
	}
	var b strings.Builder
	for len(text) > 0 {
		word, sep := text, ""
		if i := strings.IndexAny(text, ",|"); i >= 0 {
			word, sep = text[:i], text[i:i+1]
		}
		text = text[len(word)+len(sep):]
		word = strings.TrimSpace(word)
		i := slices.IndexFunc(l.Source, func(x config.Source) bool { return x.Name != "" && x.Name == word })
		switch {
		case i >= 0:
			word = l.Source[i].URL
		case word == useDefault:
			return nil, misuse("default stands alone, since it takes the setting away")
		case word != "" && word != "direct" && word != "off" && !strings.ContainsAny(word, ".:/"):
			hint := "write https://proxy.example.com; a name needs a [[source]] table in the configuration of Sluice"
			if names := sourceNames(l); len(names) > 0 {
				hint = "the configuration names " + strings.Join(names, ", ")
			}
			return nil, &exitError{status: exitMisuse, err: fmt.Errorf("%q is no URL, and no source of that name is configured", finding.OneLine(word, 100)), hint: hint}
		}
		b.WriteString(word + sep)
	}
	list, err := goenv.ParseProxyList(b.String())
	notes, fixed := goenv.MisreadProxyList(b.String())
	switch {
	case fixed != "":
		return nil, &exitError{status: exitMisuse, err: errors.New(strings.Join(notes, "; ")), hint: "write '" + goenv.Redact(fixed) + "'"}
	case err != nil:
		return nil, &exitError{status: exitMisuse, err: err}
	}
	if i := slices.IndexFunc(list, func(x goenv.Entry) bool { return strings.ContainsAny(x.URL, " \t;") }); i >= 0 {
		return nil, &exitError{status: exitMisuse, err: fmt.Errorf("%q has a space or a semicolon in it, and is one source to the go command", list[i].Name()), hint: `separate sources by "," or "|"; write a space of an address as %20, a semicolon as %3B`}
	}
	u.Warnings = append(u.Warnings, notes...)
	return withTail(list, before.Value), nil
}

func sourceNames(l *config.Loaded) (names []string) {
	for _, s := range l.Source {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// withTail is list with the direct or off that the list before it ended in, and the
// separator before that, if it has none itself.
func withTail(list goenv.List, before string) goenv.List {
	old, err := goenv.ParseProxyList(before)
	if err != nil {
		_, fixed := goenv.CheckProxyList(before)
		old, _ = goenv.ParseProxyList(fixed)
	}
	ends := func(l goenv.List) bool {
		return len(l) > 0 && (l[len(l)-1].Kind == goenv.Direct || l[len(l)-1].Kind == goenv.Off)
	}
	if ends(list) || !ends(old) {
		return list
	}
	list = slices.Clone(list)
	if len(old) > 1 && old[len(old)-2].FallBackOnError {
		list[len(list)-1].FallBackOnError = true
	}
	return append(list, old[len(old)-1])
}

// fitForProject says what keeps a list from being written into what others read.
func fitForProject(list goenv.List) error {
	if list.Redacted() != list.String() {
		return &exitError{status: exitMisuse, err: errors.New("the list has credentials, which do not belong into what a project shares"), hint: "put them into the netrc file, or use --scope user"}
	}
	if strings.ContainsAny(list.String(), "'\"`$\\ \t") {
		return misuse("the list has characters that shells and YAML read in ways of their own; write them as %%XX")
	}
	return nil
}

// probe asks the sources of the list for a module, and refuses those that do not
// answer.
func (e *env) probe(ctx context.Context, l *config.Loaded, settings *goenv.Settings, list goenv.List, o useFlags, u *used) error {
	if !slices.ContainsFunc(list, func(x goenv.Entry) bool { return x.Kind == goenv.HTTP || x.Kind == goenv.File }) {
		return nil
	}
	r, err := e.examineChain(ctx, l, settings, nil, list, patient, resolverFlag{}, func(s *doctor.Subject) []doctor.Check {
		if s.Module.Path == "" {
			s.Module = reference
		}
		return s.SourceChecks()
	})
	if ctx.Err() != nil {
		e.say("nothing was changed")
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	for i, entry := range list {
		if entry.Kind == goenv.HTTP || entry.Kind == goenv.File {
			u.Sources = append(u.Sources, probed(r, i+1, entry.Name()))
		}
	}
	proven := slices.ContainsFunc(u.Sources, func(p usedProbe) bool { return p.State == probeAnswers })
	for _, p := range u.Sources {
		if p.State == probeAnswers || p.State == probeLacks && proven {
			continue
		}
		why := fmt.Sprintf("%s does not answer as a module proxy: %s", p.Source, p.Text)
		if p.State == probeLacks {
			why = fmt.Sprintf("nothing shows that %s is a module proxy: %s", p.Source, p.Text)
		}
		if p.Code != "" {
			why += " (" + string(p.Code) + ")"
		}
		if !o.force {
			more := "; GOPROXY=" + p.Source + " sluice doctor says more"
			if i := slices.IndexFunc(list, func(x goenv.Entry) bool { return x.Name() == p.Source }); i < 0 || list[i].URL != p.Source || strings.ContainsAny(p.Source, "'\"`$\\ \t&;()<>*?#") {
				more = "; sluice doctor says more, with GOPROXY set to it" // what is shown has no password, or is read by shells
			}
			return &exitError{status: exitNo, err: fmt.Errorf("%s; nothing was changed", why), hint: "correct the address, or take it all the same with --force" + more}
		}
		u.Warnings = append(u.Warnings, why)
	}
	return nil
}

// probed is what the checks of the n'th source say.
func probed(r *doctor.Report, n int, name string) usedProbe {
	p := usedProbe{Source: name, State: probeFails, Text: "it was not asked"}
	rows := map[string]doctor.Row{}
	prefix := fmt.Sprintf("source.%d.", n)
	for _, row := range r.Rows {
		if part, ok := strings.CutPrefix(row.ID, prefix); ok {
			rows[part] = row
		}
	}
	answer := rows["answer"]
	if answer.State != doctor.OK {
		// What it needed first is where it failed.
		for _, part := range []string{"forward", "name", "connect", "tls", "answer"} {
			if row := rows[part]; row.Code != "" || row.State == doctor.Incomplete || row.State == doctor.Unknown {
				p.Text, p.Code = row.Text, row.Code
			}
			if rows[part].State == doctor.Fail {
				break
			}
		}
		return p
	}
	p.State, p.Text = probeAnswers, answer.Text
	lacks := true
	comes := rows["mod"].State == doctor.OK && rows["zip"].State == doctor.OK
	for _, part := range []string{"list", "mod", "zip"} {
		switch row := rows[part]; {
		case row.State == doctor.OK:
			lacks = false
		case row.State == doctor.NA:
		case part == "list" && comes: // builds go on; only versions cannot be looked up there
			p.Text += "; but its list fails: " + row.Text
		default:
			return usedProbe{Source: name, State: probeFails, Text: row.Title + ": " + row.Text, Code: row.Code}
		}
	}
	if lacks {
		p.State = probeLacks
	}
	return p
}

// maxReplans is how often a write is planned anew because somebody else wrote meanwhile.
const maxReplans = 5

// writeUse writes the list, and gives the step; nil if it was there already.
func (e *env) writeUse(ctx context.Context, j *journal.Journal, o useFlags, file, text string, list goenv.List) (*journal.Step, error) {
	what, mode := "GOPROXY="+list.Redacted(), fs.FileMode(0o600)
	// A file that says so already is not tidied up for that.
	same := func(old []byte) bool {
		v := envFile(old).Get("GOPROXY")
		return v.Layer == goenv.UserFile && v.Value == list.String()
	}
	edit := func(old []byte) ([]byte, error) {
		return goenv.EditFile(old, map[string]string{"GOPROXY": list.String()}, nil)
	}
	switch {
	case o.envrc:
		mode = 0o644
		line := "export GOPROXY='" + list.String() + "'"
		same = func(old []byte) bool { return bytes.Equal(old, setEnvrc(old, line)) }
		edit = func(old []byte) ([]byte, error) { return setEnvrc(old, line), nil }
	case text == useDefault:
		what = "GOPROXY unset"
		same = func(old []byte) bool { return !slices.ContainsFunc(slices.Collect(bytes.Lines(old)), isGOPROXY) }
		edit = func(old []byte) ([]byte, error) { return goenv.EditFile(old, nil, []string{"GOPROXY"}) }
	}
	for n := 0; ; n++ {
		done := false
		f, err := journal.Plan(file, mode, func(old []byte, _ bool) ([]byte, error) {
			if done = same(old); done {
				return old, nil
			}
			return edit(old)
		})
		if done || err != nil {
			return nil, err
		}
		step, err := j.Do(ctx, byUse, finding.OneLine(what, 300), f)
		if _, changed := errors.AsType[*journal.ChangedError](err); changed && n < maxReplans {
			continue
		}
		return step, err
	}
}

func isGOPROXY(line []byte) bool { return bytes.HasPrefix(line, []byte("GOPROXY=")) }

// envrcLine is a line of an .envrc that exports GOPROXY and does nothing else. What a
// comment behind it says is of the list that was there.
var envrcLine = regexp.MustCompile(`^export[ \t]+GOPROXY=(?:'[^']*'|"[^"$\\` + "`" + `]*"|[^\s'"$\\` + "`" + `;&|<>()#]*)[ \t]*(?:[ \t]#.*)?\r?\n?$`)

// setEnvrc is the text of an .envrc with the line in place of the last that has to do
// with GOPROXY, if that is all it does, or at its end. A line that sets others too, or
// stands in a condition, stays as it is.
func setEnvrc(text []byte, line string) []byte {
	lines := slices.Collect(bytes.Lines(text))
	for i, l := range slices.Backward(lines) {
		if bytes.HasPrefix(bytes.TrimSpace(l), []byte("#")) || !bytes.Contains(l, []byte("GOPROXY")) {
			continue
		}
		if !envrcLine.Match(l) || i > 0 && bytes.HasSuffix(bytes.TrimRight(lines[i-1], "\r\n"), []byte(`\`)) {
			break
		}
		end := l[len(bytes.TrimRight(l, "\r\n")):]
		lines[i] = []byte(line + string(end))
		return bytes.Join(lines, nil)
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		lines = append(lines, []byte("\n"))
	}
	return bytes.Join(append(lines, []byte(line+"\n")), nil)
}

// projectDir is the directory of the project: that of the nearest go.work, go.mod or
// .git above, or the working directory; or one between them that has an .envrc. One
// farther up is not of this project.
func (e *env) projectDir() string {
	top := e.dir
	for _, name := range []string{"go.work", "go.mod", ".git"} {
		if dir := nearest(e.dir, "", name); dir != "" {
			top = dir
			break
		}
	}
	return cmp.Or(nearest(e.dir, top, ".envrc"), top)
}

// nearest is dir, or the directory nearest above it and not above top, that has name
// in it; "" if none has.
func nearest(dir, top, name string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return dir
		}
		if dir == top || dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}

// envrc is the .envrc of the project: the nearest that there is up to the top of its
// workspace or repository, or a new one in its directory. One above belongs to others,
// and hides is its name: direnv reads the nearest alone.
func (e *env) envrc() (file, hides string) {
	top := e.projectDir()
	for _, name := range []string{"go.work", "go.mod", ".git"} {
		if dir := nearest(e.dir, "", name); dir != "" && len(dir) < len(top) {
			top = dir
		}
	}
	dir := nearest(e.dir, "", ".envrc")
	if dir == "" || len(dir) < len(top) { // all are above the working directory, so a shorter one is higher
		file = filepath.Join(e.projectDir(), ".envrc")
		if dir != "" {
			hides = filepath.Join(dir, ".envrc")
		}
		return file, hides
	}
	return filepath.Join(dir, ".envrc"), ""
}

// projectLine is what sets GOPROXY in place.
func (e *env) projectLine(list goenv.List, place finding.Place) string {
	if place == "" {
		switch {
		case e.getenv("GITHUB_ACTIONS") == "true":
			place = finding.GitHub
		case e.getenv("GITLAB_CI") == "true":
			place = finding.GitLab
		default:
			place = here()
		}
	}
	return finding.Setting(place, "GOPROXY", list.String())
}

// warnOfEnvironment says what in the environment hides the file.
func (e *env) warnOfEnvironment(s *goenv.Settings, list goenv.List, text string, u *used) {
	if v := s.Get("GOPROXY"); v.Layer == goenv.Environ && (v.Value != list.String() || text == useDefault) {
		u.Effective = false
		u.Warnings = append(u.Warnings, hiddenBy(v))
	}
	if e.getenv("CI") == "true" || e.getenv("GITHUB_ACTIONS") == "true" || e.getenv("GITLAB_CI") == "true" {
		u.Warnings = append(u.Warnings, "this is a CI job, and what is written to its home directory is mostly gone with it; sluice use --scope project prints what belongs into the job's own file")
	}
}

// warnOfConfig says what in the configuration of Sluice does not go with the list.
func warnOfConfig(l *config.Loaded, list goenv.List, u *used) {
	if from := l.From["proxy"]; from.Layer == config.File || from.Layer == config.Environ {
		u.Warnings = append(u.Warnings, "sluice itself goes on with the sources that its own configuration names (proxy, "+from.Where+")")
		return
	}
	for _, s := range l.Source {
		if !slices.ContainsFunc(list, func(x goenv.Entry) bool { return config.SourceURL(x.URL) == s.URL }) {
			u.Warnings = append(u.Warnings, "the configuration of Sluice has a [[source]] table for "+goenv.Redact(s.URL)+", which is not in the list any more: sluice serve and run refuse that until the table is gone, or the source is back")
		}
	}
}

var setsGOPROXY = regexp.MustCompile(`(?:^|[\s;"'{])GOPROXY["']?[ \t]*(?:[?:]{0,2}=|:[ \t])`)

// maxProjectFile is how much of a project's file is read, in bytes.
const maxProjectFile = 1 << 20

// warnOfFiles names the files of the project, but for own, that set GOPROXY too.
func (e *env) warnOfFiles(own string, u *used) {
	top := e.projectDir()
	var names []string
	for dir := e.dir; dir != ""; dir = filepath.Dir(dir) {
		for _, pattern := range []string{".envrc", ".env", "Makefile", "GNUmakefile", "Dockerfile", "Dockerfile.*", "Containerfile", "Taskfile.yml", "justfile", "mise.toml", ".mise.toml", ".gitlab-ci.yml", ".github/workflows/*.yml", ".github/workflows/*.yaml"} {
			if strings.ContainsAny(dir, `*?[\`) {
				continue // which Glob would read as a pattern
			}
			found, _ := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
			names = append(names, found...)
		}
		if dir == top || dir == filepath.Dir(dir) {
			break
		}
	}
	for _, name := range names {
		if name == own {
			continue
		}
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxProjectFile {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		n := 0
		for line := range bytes.Lines(data) {
			n++
			line = bytes.TrimSpace(line)
			if bytes.HasPrefix(line, []byte("#")) || !setsGOPROXY.Match(line) || bytes.Contains(line, []byte("go env -w")) {
				continue
			}
			shown := name
			if rel, err := filepath.Rel(e.dir, name); err == nil {
				shown = rel
			}
			u.Warnings = append(u.Warnings, fmt.Sprintf("%s:%d sets GOPROXY too; where that is read, it is what counts", shownName(shown), n))
			break
		}
	}
}

// printUsed prints what was done.
func (e *env) printUsed(u used, o useFlags) error {
	if o.json {
		for i, w := range u.Warnings {
			u.Warnings[i] = finding.OneLine(w, 500)
		}
		return writeJSON(e, u)
	}
	for _, w := range u.Warnings {
		e.say("warning: %s", w)
	}
	if u.File == "" {
		_, err := fmt.Fprintln(e.stdout, u.Line)
		return err
	}
	var b strings.Builder
	switch {
	case !u.Changed:
		fmt.Fprintf(&b, "Nothing to do: GOPROXY is %s already (%s).\n", u.GOPROXY, shownName(u.File))
	case o.envrc:
		fmt.Fprintf(&b, "%s exports GOPROXY=%s now.\n", shownName(u.File), u.GOPROXY)
	case u.kept != "":
		fmt.Fprintf(&b, "GOPROXY is %s now for this user (%s), %s.\n", u.GOPROXY, shownName(u.File), u.kept)
	default:
		fmt.Fprintf(&b, "GOPROXY is %s now for this user (%s); it was %s.\n", cmp.Or(u.GOPROXY, "not set"), shownName(u.File), cmp.Or(u.Before, "not set"))
	}
	for _, p := range u.Sources {
		fmt.Fprintf(&b, "  %s: %s\n", p.Source, p.Text)
	}
	if u.Changed {
		b.WriteString("sluice use --undo takes it back.\n")
	}
	_, err := fmt.Fprint(e.stdout, b.String())
	return err
}
