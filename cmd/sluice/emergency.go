package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/journal"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modcache"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/rescue"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/upstream"
)

// byRescue is who made a change, in the journal.
const byRescue = "rescue"

// hasty is how long an emergency waits for the checks of doctor. Who is slower than
// that is asked after the others, and not left out.
var hasty = patience{all: 2500 * time.Millisecond, lookup: time.Second, connect: time.Second, answer: 1500 * time.Millisecond}

const (
	// maxVerified is how much of the module cache is read again at the end, in bytes: a
	// second's work.
	maxVerified = 512 << 20
	// maxReasons is how many things that are broken stand in one sentence.
	maxReasons = 3
	// maxNamed is how many files that are missing are named.
	maxNamed = 3
	// plainWord has what a shell takes as it is.
	plainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-"
	// maxIncidents is how many records are kept.
	maxIncidents = 50
)

var (
	errOffline  = errors.New("nobody is asked, because of --offline")
	patternVars = []string{"GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE"}
	forwardVars = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}
)

// An emergency is one sluice rescue.
type emergency struct {
	e   *env // its environ is that of the command
	cmd *cobra.Command
	o   rescueOrder
	rec *rescue.Incident

	real     *goenv.Settings // as they are, not mended
	unmended []byte          // the go env -w file as it is, where mended is what it should be
	mended   []byte          // nil if it is well
	lasting  []string        // commands that put right in the environment what is mended for the command alone
	l        *config.Loaded
	settings goenv.List // the sources that are configured, but for the end of the list
	end      goenv.List // direct or off
	tail     string     // direct, as the command has it behind our URL
	chain    goenv.List // all sources in the order in which they are asked, without direct
	bundle   string     // a GOPROXY tree; "" if none is given
	states   map[string]rescue.Source
	report   *doctor.Report // nil where nobody was asked
	warnings []doctor.Found // of the report: what keeps nobody from modules
	damaged  []module.Version
	cleaned  bool // all that was damaged in the module cache is mended
	held     bool // the sources that work are in the go env -w file
	written  bool // and so is what was wrong there
	help     help
	took     time.Duration // the command
	tmp      string        // a directory of ours; "" if not made
}

// runRescue is rescue without --cache.
func runRescue(ctx context.Context, e *env, cmd *cobra.Command, o rescueOrder, args []string) error {
	own := *e
	x := &emergency{e: &own, cmd: cmd, o: o, states: map[string]rescue.Source{}}
	if file := cmd.Flag("record").Value.String(); file != "" {
		if err := rescueRecord.check(e, file); err != nil {
			return err
		}
	}
	if len(args) == 0 {
		if !e.inProject() {
			return &exitError{status: exitMisuse, err: errors.New("there is no go.mod or go.work here, so there is nothing to download"), hint: "run it in the directory of the project, or give a command: sluice rescue -- go install PACKAGE@VERSION"}
		}
		args = []string{"go", "mod", "download"}
	}
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = finding.Redact(a)
	}
	x.rec = rescue.New(time.Now(), e.dir, shown)
	defer func() {
		if x.tmp != "" {
			os.RemoveAll(x.tmp)
		}
	}()
	outcome, sentence, err := x.run(ctx, args)
	if ctx.Err() != nil {
		outcome, sentence, err = rescue.Interrupted, "it was interrupted", nil
	}
	if err != nil && outcome == "" {
		return err // it never began
	}
	x.warn()
	x.rec.End(outcome, sentence, x.took)
	if err := x.tellEnd(); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case outcome == rescue.Failed, outcome == rescue.DryRun && len(x.rec.Broken) > 0:
		return &exitError{status: exitNo}
	}
	return err
}

// inProject reports whether the go command would find a module or workspace here.
func (e *env) inProject() bool {
	if w := e.getenv("GOWORK"); w != "" && w != "off" {
		return true
	}
	for dir := e.dir; dir != ""; dir = filepath.Dir(dir) {
		for _, name := range []string{"go.mod", "go.work"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return true
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return false
}

// step notes a step that began at start, and tells it.
func (x *emergency) step(kind rescue.Kind, start time.Time, format string, args ...any) {
	x.rec.Add(kind, start, finding.Redact(fmt.Sprintf(format, args...)))
	s := x.rec.Steps[len(x.rec.Steps)-1]
	x.e.say("%s: %s", kind, s.Text)
}

// run goes through the steps. An error without an outcome says that the command line or
// the configuration cannot be used.
func (x *emergency) run(ctx context.Context, args []string) (rescue.Outcome, string, error) {
	begin := time.Now()
	x.real = x.e.goSettings(ctx)
	if err := x.mendSettings(ctx); err != nil {
		return "", "", err
	}
	if err := x.sources(ctx); err != nil {
		return "", "", err
	}
	if len(x.rec.Steps) > 0 {
		begin = time.Now()
	}
	if err := x.detect(ctx, begin); err != nil || ctx.Err() != nil {
		return rescue.Failed, "", err
	}
	x.arrange()
	if x.o.dryRun {
		sentence := "nothing is broken that the checks can see"
		if len(x.rec.Broken) > 0 {
			sentence = "broken: " + brokenText(x.rec.Broken[0])
		}
		return rescue.DryRun, sentence, nil
	}
	if len(x.damaged) > 0 {
		x.clean(ctx)
	}
	if ctx.Err() != nil {
		return rescue.Interrupted, "", nil
	}
	if !x.e.findable(args[0]) {
		f := finding.Of(finding.NoGoCommand)
		if args[0] != "go" {
			return rescue.Failed, fmt.Sprintf("nothing here can help: there is no command %s", finding.OneLine(args[0], 100)), nil
		}
		x.rec.After = rescue.Advise(x.rec.After, f.Code, f.Mend, f.Fix...)
		return rescue.Failed, fmt.Sprintf("nothing here can help: %s (%s)", f.Title, f.Code), nil
	}
	return x.through(ctx, args)
}

// mendSettings puts right what is written wrongly in the settings of the go command, for
// the command alone.
func (x *emergency) mendSettings(ctx context.Context) error {
	start := time.Now()
	var told []string
	if v := x.real.Get("GOPROXY"); v.Layer == goenv.Environ {
		if _, fixed := goenv.CheckProxyList(v.Value); fixed != "" {
			x.e.environ = with(x.e.environ, "GOPROXY", fixed)
			told = append(told, "GOPROXY="+goenv.Redact(fixed))
			x.last("GOPROXY", fixed)
		}
	}
	for _, name := range patternVars {
		v := x.real.Get(name)
		if fixed := doctor.MendPatterns(v.Value); v.Layer == goenv.Environ && fixed != v.Value {
			x.e.environ = with(x.e.environ, name, fixed)
			told = append(told, name+"="+goenv.Redact(fixed))
			x.last(name, fixed)
		}
	}
	if old, err := os.ReadFile(x.real.File); err == nil && x.real.File != "" {
		text := old
		if len(x.real.Problems) > 0 && x.real.Mendable {
			text = goenv.MendFile(old)
			told = append(told, "lines of "+x.real.File+" as they were meant")
		}
		set := map[string]string{}
		var unset []string
		for _, c := range doctor.SettingsChanges(x.e.settingsWith(ctx, x.real.File, text)) {
			switch {
			case c.Name == "GOSUMDB": // it keeps no module from coming
			case c.Kind == finding.SetGoEnv:
				set[c.Name] = c.Value
			case c.Kind == finding.UnsetGoEnv:
				unset = append(unset, c.Name)
			}
			if c.Name != "GOSUMDB" {
				told = append(told, whatOf([]finding.Change{c}))
			}
		}
		if len(set)+len(unset) > 0 {
			if text, err = goenv.EditFile(text, set, unset); err != nil {
				return &exitError{status: exitNo, err: err}
			}
		}
		if string(text) != string(old) {
			name, err := x.scratch("goenv")
			if err == nil {
				err = os.WriteFile(name, text, 0o600)
			}
			if err != nil {
				return &exitError{status: exitNo, err: fmt.Errorf("no temporary file can be written: %w", err)}
			}
			x.unmended, x.mended = old, text
			x.e.environ = with(x.e.environ, "GOENV", name)
		}
	}
	if len(told) == 0 {
		return nil
	}
	about := []string{}
	for _, name := range []string{"GOPROXY", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOFLAGS"} {
		if slices.ContainsFunc(told, func(t string) bool { return strings.Contains(t, name) }) {
			about = append(about, name)
		}
	}
	if len(about) == 0 {
		about = append(about, x.real.File)
	}
	x.malformed(about, x.settingsEvidence())
	x.help.settings = true
	x.step(rescue.Mend, start, "read as they were probably meant, for this command alone: %s", strings.Join(told, "; "))
	return nil
}

// last notes how a variable of the environment is set so that it lasts.
func (x *emergency) last(name, value string) {
	switch {
	case value == "":
		x.lasting = append(x.lasting, unsetLine(name))
	case goenv.Redact(value) == value && !strings.ContainsAny(value, `'"`):
		x.lasting = append(x.lasting, finding.Setting(here(), name, value))
	default:
		x.lasting = append(x.lasting, "sluice doctor") // which names the mistake; a password is not printed
	}
}

// malformed notes settings that are written wrongly, all of them as one thing that is
// broken.
func (x *emergency) malformed(about, evidence []string) {
	i := slices.IndexFunc(x.rec.Broken, func(b rescue.Broken) bool { return b.Code == finding.GoEnvMalformed })
	if i < 0 {
		f := finding.Of(finding.GoEnvMalformed)
		i = len(x.rec.Broken)
		x.rec.Broken = append(x.rec.Broken, rescue.Broken{Code: f.Code, Title: f.Title, About: []string{}, Evidence: []string{}})
	}
	b := &x.rec.Broken[i]
	for _, a := range about {
		if !slices.Contains(b.About, a) {
			b.About = append(b.About, a)
		}
	}
	for _, e := range evidence {
		if !slices.Contains(b.Evidence, e) {
			b.Evidence = append(b.Evidence, e)
		}
	}
}

// settingsEvidence is what is wrong with the settings.
func (x *emergency) settingsEvidence() []string {
	out := []string{}
	for _, p := range x.real.Problems {
		out = append(out, finding.OneLine(finding.Redact(p.Error()), 300))
	}
	notes, _ := goenv.CheckProxyList(x.real.Get("GOPROXY").Value)
	for _, n := range notes {
		out = append(out, finding.OneLine(finding.Redact("GOPROXY: "+n), 300))
	}
	for _, name := range patternVars {
		if v := x.real.Get(name); v.Layer == goenv.UserFile || v.Layer == goenv.Environ {
			for _, p := range goenv.CheckPatterns(goenv.Patterns(v.Value)) {
				out = append(out, finding.OneLine(finding.Redact(name+": "+p.Error()), 300))
			}
		}
	}
	return out
}

// settingsWith are the settings as they were if file had this text.
func (e *env) settingsWith(ctx context.Context, file string, text []byte) *goenv.Settings {
	return goenv.Load(e.environ, func(name string) ([]byte, error) {
		if name == file {
			return text, nil
		}
		return os.ReadFile(name)
	}, e.goroot(ctx), userConfigDir())
}

// scratch is the name of a file in a directory that goes when rescue ends.
func (x *emergency) scratch(name string) (string, error) {
	if x.tmp == "" {
		dir, err := os.MkdirTemp("", "sluice-rescue-*")
		if err != nil {
			return "", err
		}
		x.tmp = dir
	}
	return filepath.Join(x.tmp, name), nil
}

// sources collects all sources that somebody named: the settings, --to, --bundle.
func (x *emergency) sources(ctx context.Context) error {
	l, err := x.e.loadFor(x.cmd, rescueDefaults(), true)
	var mistakes config.Errors
	if err != nil {
		// Without a list of sources there may be --to, --bundle, and the store.
		if l == nil || !errors.As(err, &mistakes) || slices.ContainsFunc(mistakes, func(m config.Error) bool { return m.Key != "proxy" || strings.HasPrefix(m.Where, "--") }) {
			return err
		}
		l.Proxy = nil
		x.help.settings = true
		x.malformed([]string{"GOPROXY"}, []string{finding.OneLine(finding.Redact(mistakes.Error()), 500)})
	}
	x.l = l
	if !x.cmd.Flags().Changed("listen") {
		l.Listen = "127.0.0.1:0" // the configured one is that of serve, which may be running
	}
	x.settings = slices.Clone(l.Proxy)
	_, x.tail = leaveDirect(l.Proxy)
	if n := len(x.settings); n > 0 && (x.settings[n-1].Kind == goenv.Direct || x.settings[n-1].Kind == goenv.Off) {
		x.settings, x.end = x.settings[:n-1], x.settings[n-1:]
	}
	note := func(list goenv.List, from string) {
		for _, entry := range list {
			x.states[entry.URL] = rescue.Source{Name: entry.Name(), From: from, State: rescue.Unasked}
		}
	}
	note(x.settings, rescue.Settings)
	var to, bundle goenv.List
	if text := x.cmd.Flag("to").Value.String(); text != "" {
		if to, err = parseTo(text); err != nil {
			return err
		}
		x.settings = slices.DeleteFunc(x.settings, func(s goenv.Entry) bool {
			return slices.ContainsFunc(to, func(t goenv.Entry) bool { return t.URL == s.URL })
		})
		note(to, rescue.To)
	}
	if text := x.cmd.Flag("bundle").Value.String(); text != "" {
		start := time.Now()
		if x.bundle, err = x.openBundle(ctx, text); err != nil {
			return err
		}
		entry := goenv.Entry{Kind: goenv.File, URL: fileURL(x.bundle), FallBackOnError: true}
		bundle = goenv.List{entry}
		note(bundle, rescue.Bundle)
		if x.tmp != "" && strings.HasPrefix(x.bundle, x.tmp) {
			x.step(rescue.Find, start, "the bundle %s is unpacked", shownName(text))
		}
	}
	x.chain = slices.Concat(to, x.settings, bundle)
	if mistakes != nil && len(x.chain) > 0 {
		// What nobody can parse is on record; the checks are to be made of what is left.
		x.e.environ = with(x.e.environ, "GOPROXY", x.chain.String())
	}
	if x.o.offline {
		x.chain, x.tail, x.end = bundle, "", goenv.List{{Kind: goenv.Off, URL: "off"}}
		x.e.forward = func(*http.Request) (*url.URL, error) { return nil, errOffline }
	}
	return nil
}

// parseTo is the list of --to.
func parseTo(text string) (goenv.List, error) {
	list, err := goenv.ParseProxyList(text)
	if notes, fixed := goenv.CheckProxyList(text); fixed != "" {
		return nil, &exitError{status: exitMisuse, err: fmt.Errorf("--to: %s", strings.Join(notes, "; ")), hint: "write '" + goenv.Redact(fixed) + "'"}
	}
	if err != nil {
		return nil, misuse("--to: %w", err)
	}
	for i, entry := range list {
		if entry.Kind != goenv.HTTP && entry.Kind != goenv.File {
			return nil, &exitError{status: exitMisuse, err: fmt.Errorf("--to %s is no source that can be asked", entry.URL), hint: "give the address of a module proxy, https://proxy.example.com"}
		}
		list[i].FallBackOnError = true
	}
	return list, nil
}

// fileURL is the URL of a directory, as it may stand in GOPROXY.
func fileURL(dir string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path // C:/...
	}
	return strings.NewReplacer(",", "%2C", "|", "%7C").Replace(u.String())
}

// openBundle is the tree of a bundle, unpacked if it is an archive.
func (x *emergency) openBundle(ctx context.Context, arg string) (string, error) {
	name := arg
	if !filepath.IsAbs(name) {
		name = filepath.Join(x.e.dir, name)
	}
	fail := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &exitError{status: exitMisuse, err: fmt.Errorf("the bundle %s cannot be used: %w", shownName(arg), err), hint: "give a directory that file:// in GOPROXY could name, or a zip or tar.gz of one"}
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", fail(plainPath(err))
	}
	if !info.IsDir() {
		dir, err := x.scratch("bundle")
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err == nil {
			err = rescue.Unpack(ctx, name, dir)
		}
		if err != nil {
			return "", fail(err)
		}
		name = dir
	}
	tree, err := rescue.TreeIn(name)
	if err != nil {
		return "", fail(err)
	}
	return tree, nil
}

// plainPath is err without the operation and the path, which are told already.
func plainPath(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// detect finds out what is broken: the checks of doctor on all sources, and the
// project's versions in the module cache.
func (x *emergency) detect(ctx context.Context, begin time.Time) error {
	var cache modcache.Report
	project := x.cacheConfig(nil, 0) // before ask, which may change the environment
	var beside sync.WaitGroup
	beside.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, hasty.all)
		defer cancel()
		cache = checkCache(ctx, project)
	})
	err := x.ask(ctx)
	beside.Wait()
	if err != nil || ctx.Err() != nil {
		return err
	}
	for _, d := range cache.Damages {
		if d.Module.Path != "" && !slices.Contains(x.damaged, d.Module) {
			x.damaged = append(x.damaged, d.Module)
		}
	}
	if len(cache.Damages) > 0 && !x.isBroken(finding.CacheDamaged) {
		f := finding.Of(finding.CacheDamaged)
		b := rescue.Broken{Code: f.Code, Title: f.Title, About: []string{}, Evidence: []string{}}
		for _, d := range cache.Damages[:min(len(cache.Damages), 10)] {
			b.Evidence = append(b.Evidence, finding.OneLine(finding.Redact(d.File+": "+d.Text), 300))
		}
		x.rec.Broken = append(x.rec.Broken, b)
	}
	what := []string{}
	for _, b := range x.rec.Broken {
		what = append(what, brokenText(b))
	}
	text := strings.Join(what, "; ")
	if text == "" {
		text = "nothing is broken that the checks can see"
	}
	if x.o.offline {
		text += "; offline, so nobody was asked"
	}
	x.step(rescue.Detect, begin, "%s", text)
	return nil
}

func (x *emergency) isBroken(c finding.Code) bool {
	return slices.ContainsFunc(x.rec.Broken, func(b rescue.Broken) bool { return b.Code == c })
}

func brokenText(b rescue.Broken) string {
	s := b.Title
	if len(b.About) > 0 {
		s += ": " + strings.Join(b.About, ", ")
	}
	return fmt.Sprintf("%s (%s)", s, b.Code)
}

// ask makes the checks of doctor, and once more without the forward proxy if that is
// what keeps all sources away.
func (x *emergency) ask(ctx context.Context) error {
	if x.o.offline {
		return nil
	}
	first, err := x.examine(ctx)
	if err != nil || first == nil {
		return err
	}
	x.report = first
	forward := slices.IndexFunc(first.Findings, func(f doctor.Found) bool { return f.Code == finding.ForwardProxyBroken })
	if forward >= 0 && first.Verdict == doctor.Broken && x.e.forward == nil {
		x.e.forward = func(*http.Request) (*url.URL, error) { return nil, nil }
		environ := x.e.environ
		x.e.environ = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
			name, _, _ := strings.Cut(kv, "=")
			return slices.Contains(forwardVars, name)
		})
		second, err := x.examine(ctx)
		if err != nil || second == nil {
			return err
		}
		if second.Verdict == doctor.Broken && !x.anyWell(second) {
			x.e.forward, x.e.environ = nil, environ
		} else {
			x.report = second
			x.addBroken(first.Findings[forward])
			x.help.beside, x.help.barred = true, true
			x.step(rescue.Find, time.Now().Add(-time.Duration(second.Took*float64(time.Millisecond))), "the sources are asked without the forward proxy, which nobody can use; the variables that name it are left out for the command")
		}
	}
	x.judge()
	for _, f := range x.report.Findings {
		if f.Severity == finding.Fail || slices.ContainsFunc(f.Rows, x.goneRound) {
			x.addBroken(f)
			x.help.beside = x.help.beside || slices.ContainsFunc(f.Rows, func(id string) bool { return x.goneRound(id) || strings.HasPrefix(id, "supply.") })
		} else {
			x.warnings = append(x.warnings, f)
		}
	}
	x.tardy()
	x.help.barred = x.help.barred || x.report.Verdict == doctor.Broken || x.report.Verdict == doctor.Untold
	return nil
}

// goneRound reports whether what a row of doctor shows, be it only a warning, is something
// that is gone round here: a source that does not serve, a way to the checksum database,
// what is damaged in the module cache. A source that refuses one list and serves modules is
// none of that.
func (x *emergency) goneRound(id string) bool {
	if rest, ok := strings.CutPrefix(id, "source."); ok && !strings.HasSuffix(id, ".sumdb") {
		number, _, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		return err == nil && n >= 1 && n <= len(x.chain) && x.states[x.chain[n-1].URL].State == rescue.Fails
	}
	return strings.HasSuffix(id, ".sumdb") || strings.HasPrefix(id, "sumdb.") || id == "machine.cached"
}

// stages are the checks on the way to a source, and what it means that one has not ended
// when the time is over.
var stages = []struct {
	part string
	code finding.Code
}{{"name", finding.NameServerSilent}, {"connect", finding.SourceConnectTimeout}, {"tls", finding.SourceTLSHandshake}, {"answer", finding.SourceSilent}}

// tardy notes sources of which nobody knows anything yet but that time is over: for doctor
// that is no finding, and here the next source is taken because of it.
func (x *emergency) tardy() {
	for i, entry := range x.chain {
		s := x.states[entry.URL]
		u, err := url.Parse(entry.URL)
		if err != nil || s.State != rescue.Fails || s.Code != "" {
			continue
		}
		for _, stage := range stages {
			id := fmt.Sprintf("source.%d.%s", i+1, stage.part)
			if !slices.ContainsFunc(x.report.Rows, func(r doctor.Row) bool { return r.ID == id && r.State == doctor.Incomplete }) {
				continue
			}
			s.Code = stage.code
			x.states[entry.URL] = s
			x.addBroken(doctor.Found{Code: s.Code, Title: finding.Of(s.Code).Title, About: []string{u.Host}, Evidence: []string{s.Text}})
			break
		}
	}
}

func about(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

func (x *emergency) addBroken(f doctor.Found) {
	if !x.isBroken(f.Code) {
		x.rec.Broken = append(x.rec.Broken, rescue.Broken{Code: f.Code, Title: f.Title, About: append([]string{}, f.About...), Evidence: append([]string{}, f.Evidence...)})
	}
}

func (x *emergency) examine(ctx context.Context) (*doctor.Report, error) {
	r, err := x.e.examineChain(ctx, x.l, x.e.goSettings(ctx), nil, slices.Concat(x.chain, x.end), hasty, resolverFlag{}, (*doctor.Subject).Checks)
	if ctx.Err() != nil {
		return nil, nil
	}
	if x.mended != nil && r != nil {
		x.named(r)
	}
	return r, err
}

// named makes findings name the user's file of settings where they name the mended one,
// which goes when rescue ends.
func (x *emergency) named(r *doctor.Report) {
	mine, _ := x.scratch("goenv")
	ours := func(s string) string { return strings.ReplaceAll(s, mine, x.real.File) }
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Fix = ours(f.Fix)
		for _, list := range [][]string{f.About, f.Evidence, f.Commands} {
			for j := range list {
				list[j] = ours(list[j])
			}
		}
	}
}

// anyWell reports whether a source answers.
func (x *emergency) anyWell(r *doctor.Report) bool {
	for i, entry := range x.chain {
		if probed(r, i+1, entry.Name()).State != probeFails {
			return true
		}
	}
	return false
}

// judge notes what the checks say of each source.
func (x *emergency) judge() {
	for i, entry := range x.chain {
		p := probed(x.report, i+1, entry.Name())
		s := x.states[entry.URL]
		s.State, s.Text, s.Code = p.State, finding.OneLine(finding.Redact(p.Text), 300), p.Code
		x.states[entry.URL] = s
	}
}

// arrange brings the sources into the order in which they are asked: those that do not
// answer come last. One that refuses stays where it is, since nobody may go round it.
func (x *emergency) arrange() {
	ill := func(entry goenv.Entry) bool {
		s := x.states[entry.URL]
		return s.State == rescue.Fails && s.Code != finding.SourceUnauthorized && s.Code != finding.SourceForbidden
	}
	first := slices.DeleteFunc(slices.Clone(x.chain), ill)
	last := slices.DeleteFunc(slices.Clone(x.chain), func(entry goenv.Entry) bool { return !ill(entry) })
	x.chain = append(first, last...)
	for _, entry := range x.chain {
		x.rec.Sources = append(x.rec.Sources, x.states[entry.URL])
	}
}

// checkCache looks at the versions of a module cache.
func checkCache(ctx context.Context, c modcache.Config) modcache.Report {
	k, err := modcache.Open(c)
	if err != nil {
		return modcache.Report{} // the go command makes it, or says what is wrong with it
	}
	r, _ := k.Check(ctx)
	return r
}

// cacheConfig is that of the module cache for versions; nil are those of go.sum.
func (x *emergency) cacheConfig(only []module.Version, most int64) modcache.Config {
	settings := x.e.goSettings(context.Background())
	sums := x.e.projectSums()
	if only == nil {
		only = []module.Version{}
		for m := range sums {
			if !strings.HasSuffix(m.Version, "/go.mod") {
				only = append(only, m)
			}
		}
		module.Sort(only)
	}
	return modcache.Config{Dir: settings.Get("GOMODCACHE").Value, Sums: sums, Only: only, MaxBytes: most, Writable: strings.Contains(settings.Get("GOFLAGS").Value, "-modcacherw")}
}

// clean mends what is damaged in the module cache.
func (x *emergency) clean(ctx context.Context) {
	start := time.Now()
	l := *x.l
	l.Proxy = slices.Concat(x.chain, x.end)
	c := x.cacheConfig(x.damaged, 0)
	end, err := x.e.rescueSources(&l, &c, rescueOrder{})
	if err != nil {
		x.step(rescue.Clean, start, "the module cache could not be mended: %v", err)
		return
	}
	defer end()
	k, err := modcache.Open(c)
	if err != nil {
		x.step(rescue.Clean, start, "the module cache could not be mended: %v", err)
		return
	}
	r, err := k.Mend(ctx)
	var rep rescueReport
	rep.add(r, time.Since(start))
	x.cleaned = rep.Mended == len(rep.Damages)
	x.help.cache = rep.Mended > 0
	text := fmt.Sprintf("mended in the module cache: %d of %s, %s fetched", rep.Mended, count(len(rep.Damages), "damaged thing"), count(rep.Fetched, "file"))
	if err != nil {
		text += ", then it was broken off"
	}
	for _, d := range rep.Damages {
		if d.Error != "" {
			x.rec.Left = rescue.Advise(x.rec.Left, finding.CacheDamaged, d.File+": "+d.Problem+" ("+d.Done+": "+d.Error+")", "sluice rescue --cache")
		}
	}
	x.step(rescue.Clean, start, "%s", text)
}

// through runs the command with its modules coming through a proxy of ours over the
// user's store, as sluice run does.
func (x *emergency) through(ctx context.Context, args []string) (rescue.Outcome, string, error) {
	e := x.e
	own := *x.l
	l := &own
	l.Proxy = x.chain
	if n := len(x.end); n > 0 && x.end[n-1].Kind == goenv.Off {
		l.Proxy = slices.Concat(x.chain, x.end)
	}
	stderr := e.stderr // as it is, for the command
	con := &console{w: stderr}
	e.stderr = con
	sink := newLogSink(con)
	defer sink.out.flush()
	sink.set(l)
	s, err := e.openSession(l, e.sessionLog(l, sink))
	if err != nil {
		return "", "", err
	}
	defer s.end()
	w := s.world
	w.requests = func(level slog.Level, l server.Line) {
		x.help.asked.Add(1)
		sink.request(level, l)
	}
	w.parts.chain.DirectBehind = x.tail == ",direct"
	since := map[string]time.Time{}
	for _, name := range w.parts.chain.Names() {
		if r := w.health.Report(name); r.State == upstream.Down {
			since[name] = r.Since
		}
	}
	x.date(since)
	s.start(ctx, l)

	findStart := time.Now()
	wanted, werr := e.wanted(ctx, l)
	var missing []goproxy.Request
	if !x.hasWell() && werr == nil {
		for _, req := range wanted {
			if ctx.Err() != nil {
				return rescue.Interrupted, "", nil
			}
			res, err := w.mirror.Get(ctx, req, mirror.Options{NoFetch: true})
			if err != nil {
				missing = append(missing, req)
				continue
			}
			res.Close()
		}
	}
	switch well := x.wellNames(); {
	case len(well) > 0:
		x.step(rescue.Find, findStart, "modules come from %s, and the store", strings.Join(well, ", "))
	case len(missing) == 0 && len(wanted) > 0:
		x.step(rescue.Find, findStart, "%s, and the store has all that is needed: %s", x.nobody(), count(len(wanted), "file"))
	case len(missing) == 0:
		x.step(rescue.Find, findStart, "%s; the store and the module cache are left", x.nobody())
	case x.pastProxies():
		x.step(rescue.Find, findStart, "%s; what the store lacks of the %s that are needed is left to version control: %d", x.nobody(), count(len(wanted), "file"), len(missing))
	case x.bundle == "" && (x.o.offline || x.definite()):
		x.step(rescue.Find, findStart, "%s, and of the %s that are needed the store lacks %d", x.nobody(), count(len(wanted), "file"), len(missing))
		return x.helpless(missing)
	default:
		x.step(rescue.Find, findStart, "no source has answered in %v; they are asked with more patience", hasty.all)
	}

	began := time.Now() // fetching ahead is done for the command
	if len(wanted) > 0 && !x.bundleAlone() && slices.ContainsFunc(l.Proxy, func(p goenv.Entry) bool { return p.Kind != goenv.Off }) {
		pctx, release := context.WithCancel(ctx)
		finished := e.prefetch(pctx, con, w, l, nil)
		defer func() {
			release()
			<-finished
		}()
	}
	if ctx.Err() != nil {
		return rescue.Interrupted, "", nil
	}
	status, output, err := x.command(ctx, stderr, s.url(), args)
	x.took = time.Since(began)
	if err != nil {
		return rescue.Failed, fmt.Sprintf("the command cannot be run: %v", err), nil
	}
	x.rec.Status = status
	x.learn(w)
	if ctx.Err() != nil {
		x.step(rescue.Run, began, "interrupted")
		return rescue.Interrupted, "", nil
	}
	if status != 0 {
		x.step(rescue.Run, began, "%s failed with exit status %d", finding.OneLine(strings.Join(x.rec.Command, " "), 200), status)
		return x.failed(w, output)
	}
	x.step(rescue.Run, began, "%s worked", finding.OneLine(strings.Join(x.rec.Command, " "), 200))
	verified, ok := x.verify(ctx)
	if ctx.Err() != nil {
		return rescue.Interrupted, "", nil
	}
	if !ok {
		// Whoever is to be asked for it comes first.
		x.advise()
		x.rec.After = rescue.Advise(x.rec.After, finding.CacheDamaged, "then mend the module cache", "sluice rescue --cache --verify")
		return rescue.Failed, "the command worked, but what is in the module cache is not what it has to be: " + verified, nil
	}
	after, err := x.keep(ctx)
	if err != nil {
		e.say("warning: %v", err)
		x.rec.Left = rescue.Advise(x.rec.Left, "", "the settings could not be written: "+finding.Redact(err.Error()))
	}
	x.advise() // what is still to do, so not before something is kept
	x.rec.After = append(x.rec.After, after...)
	outcome, sentence := x.worked()
	return outcome, sentence, nil
}

// A help is what was done for the command, beside that other sources were asked first.
type help struct {
	settings bool         // read as they were meant
	cache    bool         // mended
	beside   bool         // a forward proxy was left out, or a way to the checksum database
	barred   bool         // as far as can be told, the command would have failed without help
	asked    atomic.Int64 // requests of the command to us
}

// worked is the outcome of a command that worked. What keeps nobody from it is no reason to
// claim that it was rescued: a command that asked for nothing needs no source.
func (x *emergency) worked() (rescue.Outcome, string) {
	command := finding.OneLine(strings.Join(x.rec.Command, " "), 200)
	if len(x.rec.Broken) == 0 {
		return rescue.Well, command + " works, and nothing is broken that the checks can see"
	}
	broken := brokenText(x.rec.Broken[0])
	needed := x.help.asked.Load() > 0 || x.bundle != "" // which it may ask without us
	fails := slices.ContainsFunc(x.rec.Sources, func(s rescue.Source) bool { return s.State == rescue.Fails })
	switch {
	case x.help.cache, needed && x.help.barred && (fails || x.help.beside || x.help.settings):
		return rescue.Rescued, command + " works again, although " + broken
	case x.help.settings, needed && (fails || x.help.beside):
		return rescue.Rescued, command + " works, although " + broken
	}
	return rescue.Well, command + " works, and needed no help; broken is: " + broken
}

// nobody says why no source gives anything.
func (x *emergency) nobody() string {
	switch {
	case x.o.offline:
		return "nobody is asked, because of --offline"
	case len(x.chain) > 0:
		return "no source answers"
	case len(x.end) > 0 && x.end[0].Kind == goenv.Off:
		return "nobody is asked, because GOPROXY is off"
	case len(x.end) > 0:
		return "no proxy is named, and version control is the go command's"
	}
	return "no source is named that can be asked"
}

// learn notes how the sources did while the command ran, which is more than the checks
// ask of them.
func (x *emergency) learn(w *world) {
	states := w.mirror.Sources(w.parts.chain.Names())
	for i := range x.rec.Sources {
		s := &x.rec.Sources[i]
		r := w.health.Report(s.Name)
		s.Good = r.Good
		if s.State == rescue.Fails {
			// One that was only slower than the checks are patient can be kept like any other.
			if r.Good > 0 && r.State != upstream.Down && len(r.Lies) == 0 && slices.Contains(slow, s.Code) {
				s.State, s.Text, s.Code = rescue.Answers, finding.OneLine("it answered while the command ran; before: "+s.Text, 300), ""
				x.know(*s)
			}
			continue
		}
		code, text := finding.Code(""), ""
		spoiled := len(r.Lies) > 0 // which the go command notices when it no longer goes on
		for _, path := range slices.Sorted(maps.Keys(r.Lies)) {
			code, text = finding.SumMismatch, path+": "+r.Lies[path]
		}
		for _, a := range r.Asks {
			if a.State == upstream.Down {
				code, text = finding.SourceWrongAnswer, a.Why
				if a.Ask == upstream.AskZip {
					code, spoiled = finding.ZipDamaged, spoiled || a.Stage == upstream.StageContent
				}
			}
		}
		for _, st := range states {
			if st.Name == s.Name && st.State == "failing" {
				code, text = finding.Code(st.Code), st.Error
			}
		}
		if code == "" {
			continue
		}
		s.State, s.Code, s.Text = rescue.Fails, code, finding.OneLine(finding.Redact(text), 300)
		x.know(*s) // which keeps it out of what is kept
		x.rec.Broken = append(x.rec.Broken, rescue.Broken{Code: code, Title: finding.Of(code).Title, About: []string{s.Name}, Evidence: []string{s.Text}})
		x.help.barred = x.help.barred || spoiled || x.stops(s.Name)
		x.step(rescue.Find, time.Now(), "%s was left for another source: %s (%s)", s.Name, s.Text, code)
	}
}

// stops reports whether the go command, left to itself, ends at an error of that source:
// behind a bar it goes on to the next, where there is one. One that it would not have
// asked stops it at nothing.
func (x *emergency) stops(name string) bool {
	i := slices.IndexFunc(x.l.Proxy, func(entry goenv.Entry) bool { return entry.Name() == name })
	return i >= 0 && (i == len(x.l.Proxy)-1 || !x.l.Proxy[i].FallBackOnError)
}

// know notes what has become of a source.
func (x *emergency) know(s rescue.Source) {
	for _, entry := range x.chain {
		if entry.Name() == s.Name {
			x.states[entry.URL] = s
		}
	}
}

// hasWell reports whether a source answers.
func (x *emergency) hasWell() bool { return len(x.wellNames()) > 0 }

func (x *emergency) wellNames() (names []string) {
	for _, s := range x.rec.Sources {
		if s.State == rescue.Answers || s.State == rescue.Lacks || x.o.offline && s.From == rescue.Bundle {
			names = append(names, s.Name)
		}
	}
	return names
}

// bundleAlone reports whether nobody answers but the bundle.
func (x *emergency) bundleAlone() bool {
	return x.bundle != "" && !slices.ContainsFunc(x.rec.Sources, func(s rescue.Source) bool { return s.From != rescue.Bundle && s.State != rescue.Fails })
}

// pastProxies reports whether the go command goes on to version control when no proxy
// gives it anything.
func (x *emergency) pastProxies() bool {
	return x.tail == "|direct" || x.tail == ",direct" && len(x.chain) == 0
}

// slow are the codes of what may be no more than slow.
var slow = []finding.Code{finding.SourceConnectTimeout, finding.SourceStalled, finding.SourceSilent, finding.SourceTLSHandshake, finding.NameServerSilent}

// definite reports whether all sources fail in a way that patience does not mend.
func (x *emergency) definite() bool {
	patience := append([]finding.Code{"", finding.SourceReset, finding.SourceServerError, finding.SourceThrottled}, slow...)
	return !slices.ContainsFunc(x.rec.Sources, func(s rescue.Source) bool { return slices.Contains(patience, s.Code) })
}

// helpless is the outcome where nothing can help.
func (x *emergency) helpless(missing []goproxy.Request) (rescue.Outcome, string, error) {
	x.advise()
	files := "the store lacks "
	for i, req := range missing[:min(len(missing), maxNamed)] {
		if i > 0 {
			files += ", "
		}
		files += req.String()
	}
	if more := len(missing) - maxNamed; more > 0 {
		files += fmt.Sprintf(" and %d more", more)
	}
	lacks := count(len(missing), "module file")
	if x.o.offline {
		x.rec.After = rescue.Advise(x.rec.After, "", files+": take them from a copy of the modules (an archive of a module cache, or its directory), or let the sources be asked where there is a network",
			x.again("--offline --bundle modules.zip"), x.again(""))
		return rescue.Failed, fmt.Sprintf("nothing here can help offline: the store lacks %s", lacks), nil
	}
	x.rec.After = rescue.Advise(x.rec.After, "", files+": name a source that works with --to, or take them from a copy of the modules (an archive of a module cache, or its directory)",
		x.again("--bundle modules.zip"))
	is := "are"
	if len(missing) == 1 {
		is = "is"
	}
	lack := fmt.Sprintf("%s %s in no source that can be reached, nor in the store", lacks, is)
	if len(x.rec.Broken) == 0 {
		return rescue.Failed, "nothing here can help: " + lack, nil
	}
	var why []string // each source may have a reason of its own
	for _, b := range x.rec.Broken[:min(len(x.rec.Broken), maxReasons)] {
		why = append(why, brokenText(b))
	}
	return rescue.Failed, fmt.Sprintf("nothing here can help: %s; %s", strings.Join(why, "; "), lack), nil
}

// again is the command line that rescues the same command with other flags.
func (x *emergency) again(flags string) string {
	line := "sluice rescue"
	if flags != "" {
		line += " " + flags
	}
	if slices.Equal(x.rec.Command, []string{"go", "mod", "download"}) {
		return line // which is what it runs anyhow
	}
	line += " --"
	for _, a := range x.rec.Command {
		if a == "" || strings.Trim(a, plainWord) != "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		line += " " + a
	}
	return line
}

// command runs the command with our proxy at u, and gives its exit status and what it
// printed, if that was not to a terminal.
func (x *emergency) command(ctx context.Context, stderr io.Writer, u string, args []string) (int, string, error) {
	e := *x.e
	environ := with(e.environ, "GOPROXY", u+x.tail)
	if x.bundle != "" {
		// What nobody vouches for is held by the go command against go.sum. Where that is
		// everything, it takes from the bundle itself what we would ask a dead database
		// about, file by file. A comma before direct would lead there from a proxy in trouble.
		list := u + "|" + fileURL(x.bundle)
		if x.bundleAlone() {
			list = fileURL(x.bundle) + "|" + u
		}
		if x.tail == "|direct" {
			list += x.tail
		}
		environ = with(environ, "GOPROXY", list)
	}
	if x.o.offline {
		environ = with(environ, "GONOPROXY", "none") // the store may have private modules, too
	}
	for flag, kv := range map[string][2]string{"private": {"GOPRIVATE", string(x.l.Private)}, "noproxy": {"GONOPROXY", string(x.l.NoProxy)}, "nosumdb": {"GONOSUMDB", string(x.l.NoSumDB)}} {
		if x.cmd.Flags().Changed(flag) {
			environ = with(environ, kv[0], kv[1])
		}
	}
	stdout := e.rawStdout()
	if x.o.json {
		e.stdout, stdout = stderr, stderr // stdout is the record's
	}
	sig := make(chan os.Signal, 8)
	notify(sig, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sig)
	var kept keeper
	out, errOut, end, err := kept.tapAll(&e, stderr)
	if err != nil {
		return 0, "", err
	}
	if out == nil {
		out = stdout
	}
	status, err := origin.Run(context.WithoutCancel(ctx), origin.Child{Args: args, Environ: environ, Dir: e.dir, Stdin: e.stdin, Stdout: out, Stderr: errOut, Signals: sig})
	end()
	return status, string(kept.bytes()), err
}

// failed is the outcome of a command that failed.
func (x *emergency) failed(w *world, output string) (rescue.Outcome, string, error) {
	r := explain.Text(output)
	f := r.In(here())
	if r.Known() {
		x.rec.After = rescue.Advise(x.rec.After, r.Code, f.Mend, f.Fix...)
	}
	past := 0
	for m := range x.e.projectSums() {
		if strings.HasSuffix(m.Version, "/go.mod") && x.l.NoProxy.Match(m.Path) {
			past++
		}
	}
	switch {
	case w.failedRequests() == 0 && past > 0 && r.Known() && r.Code != finding.NotModules:
		x.rec.After = rescue.Advise(x.rec.After, "", "if these modules are public, let the patterns name no more than your own hosts; for this command alone:", "sluice rescue --private git.corp.example")
		return rescue.Failed, fmt.Sprintf("%d modules go past the proxies by %s, and cannot be had there: %s (%s)", past, goenv.Redact(string(x.l.NoProxy)), f.Title, r.Code), nil
	case w.failedRequests() == 0 && r.Known() && r.Code != finding.NotModules:
		return rescue.Failed, fmt.Sprintf("all modules that were asked for came, but the command fails: %s (%s)", f.Title, r.Code), nil
	case w.failedRequests() == 0:
		return rescue.Failed, "all modules that were asked for came, but the command fails for another reason, which stands in its output", nil
	}
	var why []string
	for _, s := range w.mirror.Sources(w.parts.chain.Names()) {
		if s.State == "failing" {
			why = append(why, fmt.Sprintf("%s: %s (%s)", s.Name, finding.OneLine(finding.Redact(s.Error), 200), s.Code))
		}
	}
	x.advise()
	sentence := "modules could not be had"
	switch {
	case len(x.rec.Broken) > 0:
		sentence += ": " + brokenText(x.rec.Broken[0])
	case len(why) > 0:
		sentence += ": " + strings.Join(why, "; ")
	case r.Known():
		sentence += fmt.Sprintf(": %s (%s)", f.Title, r.Code)
	}
	return rescue.Failed, sentence, nil
}

// verify reads what the module cache has of the project again.
func (x *emergency) verify(ctx context.Context) (string, bool) {
	start := time.Now()
	r := checkCache(ctx, x.cacheConfig(nil, maxVerified))
	bad := slices.DeleteFunc(slices.Clone(r.Damages), func(d modcache.Damage) bool { return d.Module.Path == "" || d.Kind == modcache.Leftover })
	if len(bad) > 0 {
		text := finding.OneLine(bad[0].File+": "+bad[0].Text, 300)
		x.step(rescue.Verify, start, "%s read; not as they have to be: %s: %s", count(r.Versions, "version"), count(len(bad), "thing"), text)
		return text, false
	}
	n, is := r.Versions-r.Skipped, "are"
	if n == 1 {
		is = "is"
	}
	text := fmt.Sprintf("%s in the module cache %s as go.sum and the checksum database have it", count(n, "version"), is)
	if r.Skipped > 0 {
		text += fmt.Sprintf("; not read again: %d more", r.Skipped)
	}
	x.step(rescue.Verify, start, "%s", text)
	return "", true
}

// date notes since when what is broken was seen broken, as far as another process of ours
// has kept it.
func (x *emergency) date(since map[string]time.Time) {
	for i, b := range x.rec.Broken {
		for name, at := range since {
			u, err := url.Parse(name)
			if err != nil || at.IsZero() || at.After(x.rec.Began) {
				continue
			}
			if slices.Contains(b.About, name) || slices.Contains(b.About, u.Host) || slices.Contains(b.About, u.Hostname()) {
				x.rec.Broken[i].Since = at.UTC().Truncate(time.Second)
			}
		}
	}
}

// advise says what to do about what is broken.
func (x *emergency) advise() {
	lasting := slices.Compact(x.lasting)
	if x.mended != nil && !x.written {
		lasting = append(lasting, "sluice doctor --fix")
	}
	lasting, _ = x.undone(lasting)
	if len(lasting) > 0 {
		x.rec.After = rescue.Advise(x.rec.After, finding.GoEnvMalformed, "write the settings as they were probably meant, for all commands", lasting...)
	}
	if x.report == nil {
		return
	}
	for _, f := range x.report.Findings {
		if !x.isBroken(f.Code) || f.Code == finding.CacheDamaged && x.cleaned {
			continue
		}
		a := rescue.Advice{Code: f.Code, Text: finding.OneLine(f.Fix+about(f.About), 500), Commands: f.Commands}
		if left, done := x.undone(f.Commands); done {
			a.Text, a.Commands = finding.OneLine(f.Title+about(f.About), 500), left
		}
		if len(a.Commands) > 0 || len(f.Commands) == 0 { // else all is done, and the sentence has the rest
			x.rec.After = append(x.rec.After, a)
		}
	}
}

// undone are the commands that are still to be typed, and whether one of them is done: once
// other sources are kept, a line that sets GOPROXY would write over them, and keep --undo
// from what was there before.
func (x *emergency) undone(commands []string) (left []string, done bool) {
	if !x.held {
		return commands, false
	}
	left = slices.DeleteFunc(slices.Clone(commands), setsSources)
	return left, len(left) < len(commands)
}

// warn notes what was seen and keeps nobody from modules.
func (x *emergency) warn() {
	list := []rescue.Advice{}
	for _, f := range x.warnings {
		a := rescue.Advice{Code: f.Code, Text: finding.OneLine("warning: "+f.Title+about(f.About)+"; "+f.Fix, 500), Commands: f.Commands}
		if left, done := x.undone(f.Commands); done {
			a.Text, a.Commands = finding.OneLine("warning: "+f.Title+about(f.About), 500), left
		}
		list = append(list, a)
	}
	x.rec.Left = append(list, x.rec.Left...)
}

// changesSources is a command, or a line for a shell, that makes GOPROXY another list.
var changesSources = regexp.MustCompile(`^(?:go env -[wu] ['"]?GOPROXY\b|(?:export|unset) GOPROXY\b|\$env:GOPROXY\b|Remove-Item env:GOPROXY\b|.*\bsluice use )`)

func setsSources(cmd string) bool { return changesSources.MatchString(cmd) }

// worthKeeping is the list that plain go commands could use, and why there is none that is
// worth to be written; "" if there is.
func (x *emergency) worthKeeping() (list goenv.List, why string) {
	for _, entry := range x.chain {
		s := x.states[entry.URL]
		if s.From != rescue.Bundle && (s.State == rescue.Answers || s.From == rescue.Settings && s.State == rescue.Lacks) {
			entry.FallBackOnError = true
			list = append(list, entry)
		}
	}
	switch {
	case x.o.offline, len(x.chain) == 0:
		return nil, x.nobody()
	case len(list) == 0:
		return nil, "none of the sources works"
	}
	list[len(list)-1].FallBackOnError = false
	if len(x.end) > 0 {
		// What stood before direct or off decides who gets there.
		list[len(list)-1].FallBackOnError = x.tail == "|direct"
		list = append(list, x.end...)
	}
	if x.mended == nil && x.rec.Sources[0].From != rescue.To && !slices.ContainsFunc(x.rec.Sources, func(s rescue.Source) bool { return s.From == rescue.Settings && s.State == rescue.Fails }) {
		return nil, "the sources of the settings work"
	}
	return list, ""
}

// keep writes the sources that work to the settings, if somebody says so, and gives what
// is to be done then.
func (x *emergency) keep(ctx context.Context) (then []rescue.Advice, err error) {
	e := x.e
	asked := x.o.keep || x.o.yes
	list, why := x.worthKeeping()
	if why != "" {
		if asked {
			e.say("nothing is to be kept: %s", why)
		}
		return nil, nil
	}
	start := time.Now()
	if !asked {
		if x.o.json || !e.canAsk() {
			return rescue.Advise(nil, "", "to use the sources that work for all go commands until further notice", "sluice rescue --keep"), nil
		}
		ok, err := e.ask(ctx, fmt.Sprintf("GOPROXY=%s works. Write it to your settings?", list.Redacted()), false)
		if err != nil || !ok {
			return nil, err
		}
	}
	file, err := e.goEnvFile(x.real)
	if err != nil {
		return nil, err
	}
	j, err := e.journal(x.l)
	if err != nil {
		return nil, err
	}
	mended := false
	f, err := journal.Plan(file, 0o600, func(old []byte, _ bool) ([]byte, error) {
		text := old
		// What somebody has written since it was read is not mended unseen.
		if mended = x.mended != nil && bytes.Equal(old, x.unmended); mended {
			text = x.mended
		}
		return goenv.EditFile(text, map[string]string{"GOPROXY": list.String()}, nil)
	})
	if err != nil {
		return nil, err
	}
	step, err := j.Do(ctx, byRescue, finding.OneLine("GOPROXY="+list.Redacted(), 300), f)
	if err != nil {
		return nil, changeError(ctx, e, err, "")
	}
	if x.held = true; step == nil {
		e.say("nothing is to be kept: %s says so already", shownName(file))
	} else {
		x.rec.Kept, x.written = file, mended
		x.step(rescue.Keep, start, "GOPROXY=%s is written to %s", list.Redacted(), shownName(file))
		then = rescue.Advise(nil, "", "when the sources are well again, take the setting back", "sluice rescue --undo")
	}
	if v := x.real.Get("GOPROXY"); v.Layer == goenv.Environ {
		x.rec.Left = rescue.Advise(x.rec.Left, finding.GoEnvHidden, "GOPROXY is set in the environment, which hides what is written in "+shownName(file), unsetLine("GOPROXY"))
	}
	return then, nil
}

// tellEnd writes the record where it is kept, and prints it or what it comes to.
func (x *emergency) tellEnd() error {
	e, rec := x.e, x.rec
	var kept string
	if rec.Outcome != rescue.DryRun {
		name, err := x.file()
		if err != nil {
			e.say("warning: the record of this is not kept: %v", err)
		}
		kept = name
	}
	if file := x.cmd.Flag("record").Value.String(); file != "" {
		if err := x.write(file); err != nil {
			return err
		}
		kept = e.inDir(file)
	}
	if x.o.json {
		return writeJSON(e, rec)
	}
	var b strings.Builder
	head := map[rescue.Outcome]string{rescue.Well: "Well", rescue.Rescued: "Rescued", rescue.Failed: "Not rescued", rescue.Interrupted: "Interrupted", rescue.DryRun: "Dry run"}[rec.Outcome]
	fmt.Fprintf(&b, "%s: %s.\n", head, strings.TrimSuffix(rec.Sentence, "."))
	fmt.Fprintf(&b, "It took %.1f s, %.1f s of it without the command.", rec.Ended.Sub(rec.Began).Seconds(), float64(rec.OwnMS)/1000)
	switch {
	case rec.Kept != "":
		fmt.Fprintf(&b, " %s was changed; sluice rescue --undo takes it back.\n", shownName(rec.Kept))
	default:
		b.WriteString(" No setting was changed.\n")
	}
	for _, list := range [][]rescue.Advice{rec.After, rec.Left} {
		for _, a := range list {
			code := ""
			if a.Code != "" {
				code = fmt.Sprintf(" (%s)", a.Code)
			}
			fmt.Fprintf(&b, "  %s%s\n", a.Text, code)
			for _, c := range a.Commands {
				fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(c, "\n", "\n      "))
			}
		}
	}
	if kept != "" {
		fmt.Fprintf(&b, "The record is in %s.\n", shownName(kept))
	}
	_, err := io.WriteString(e.stdout, b.String())
	return err
}

// file writes the record into the state directory, and gives the name of the page.
func (x *emergency) file() (string, error) {
	if x.l == nil || x.l.Data == "" {
		return "", errors.New("there is no directory for it")
	}
	dir := filepath.Join(x.l.Data, ".sluice", "incidents")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	name := filepath.Join(dir, x.rec.Began.Format("20060102T150405.000Z"))
	for _, ext := range []string{".json", ".md"} {
		if err := x.write(name + ext); err != nil {
			return "", err
		}
	}
	old, _ := filepath.Glob(filepath.Join(dir, "*Z.*"))
	slices.Sort(old)
	for _, o := range old[:max(0, len(old)-2*maxIncidents)] {
		os.Remove(o)
	}
	return name + ".md", nil
}

// write writes a record, as JSON if the name ends in .json and as a page else.
func (x *emergency) write(name string) error {
	return rescueRecord.write(x.e, name, func(w io.Writer) error {
		if strings.EqualFold(filepath.Ext(name), ".json") {
			return writeJSON(&env{stdout: w}, x.rec)
		}
		return x.rec.WriteMarkdown(w)
	})
}
