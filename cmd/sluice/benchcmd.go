package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/bench"
	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

const (
	maxBenchRounds = 100
	// benchConnect is the longest for connecting to a mirror, and again for TLS;
	// benchAnswer that for a small answer. The go command waits longer; a mirror for
	// which it has to is none to choose.
	benchConnect = 5 * time.Second
	benchAnswer  = 10 * time.Second
	// maxCandidates is how many modules of a go.mod are looked at for a sample.
	maxCandidates = 200
)

// benchReference is the sample where the project's own is not to be shown to others:
// one tiny, one of two hundred kilobytes, one of two megabytes, all old or much used.
var benchReference = []module.Version{{Path: "rsc.io/quote", Version: "v1.5.2"}, {Path: "golang.org/x/mod", Version: "v0.20.0"}, {Path: "golang.org/x/sys", Version: "v0.20.0"}}

// sampleGoMod is the word of --sample for the go.mod here.
const sampleGoMod = "go.mod"

// A benchOrder is what the command line of bench says.
type benchOrder struct {
	rounds    int
	time      time.Duration
	mb        float64
	samples   []string
	catalogue string
	html      string
	json      bool
	offline   bool
	project   bool
}

func newBench(e *env) *cobra.Command {
	var o benchOrder
	cmd := &cobra.Command{
		Use:   "bench [MIRROR...]",
		Short: "Measure which mirror of modules is good from here",
		Long: `Bench measures mirrors from where you are: whether each can be reached, how long a small
file and a large one take, how many requests fail, what it never gives, whether it lacks
versions that others have, whether its bytes are those of the checksum database, whether it
mirrors that database, and whether it goes on with a file that broke off. It gives each a
verdict, ranks them, and says which to use. It changes nothing; sluice use does.

Without MIRROR it measures the proxies of your settings, the default of the toolchain, and
the public mirrors of its catalogue. MIRROR is a URL, a name of the catalogue or of a
[[source]] table, or the word default; then nobody else is asked. --catalogue FILE adds
mirrors of your own: a line for each, of a name, a URL and a note.

The mirrors are asked for modules that the go.mod here requires, if your GOPROXY names a
public mirror, so that their names are known there anyway; else, or without a go.mod, for
` + samplesText() + `.
--sample MODULE@VERSION asks for others, --sample go.mod for those of the go.mod all the same.
Private modules (GOPRIVATE, GONOPROXY, GONOSUMDB) and those that are replaced are never asked for.

With --project it also compares what the go command makes of the module here (go list -m all,
go mod graph) with what the mirrors have: replace lines that have no effect, modules that go
round the proxies, and versions in use that a mirror lacks.

Each mirror is asked one thing at a time, in rounds in which all have their turn, and for no
more than --time and --mb, warming up included. Whoever answers 429 is left alone.

Ctrl-C ends it; what is known by then is printed.

Exit status: 0 there is a mirror to recommend, 1 there is none, or a page could not be
written in the end, 2 misused.`,
		Example: "  sluice bench\n  sluice bench goproxy.cn default https://proxy.example.com\n  sluice bench --html mirrors.html --json\n  sluice bench --sample golang.org/x/net@v0.20.0 --rounds 10",
		Args:    func(cmd *cobra.Command, args []string) error { return o.check(cmd) },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return e.completeMirrors(cmd, o.catalogue), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runBench(cmd.Context(), e, cmd, o, args) },
	}
	f := cmd.Flags()
	f.IntVar(&o.rounds, "rounds", 5, "`number` of rounds that count, after one that warms up")
	f.DurationVar(&o.time, "time", 30*time.Second, "how long all requests to one mirror may take together")
	f.Float64Var(&o.mb, "mb", 30, "how many `megabytes` one mirror may be asked for")
	f.StringArrayVar(&o.samples, "sample", nil, "`MODULE@VERSION` to ask for, or go.mod for those of the go.mod here; may be repeated")
	f.Var(&benchFile{text: &o.catalogue}, "catalogue", "also measure the mirrors of this file")
	cmd.MarkFlagFilename("catalogue")
	f.Var(&benchFile{text: &o.html}, "html", "also write the report as a page")
	cmd.MarkFlagFilename("html", "html")
	f.BoolVar(&o.project, "project", false, "also compare the build list of the module here with what the mirrors have")
	f.BoolVar(&o.json, "json", false, "print the report as JSON; docs/bench.schema.json says what is in it")
	f.BoolVar(&o.offline, "offline", false, "is refused: mirrors cannot be measured without asking them")
	f.MarkHidden("offline")
	for _, name := range []string{"rounds", "time", "mb"} {
		cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	cmd.RegisterFlagCompletionFunc("sample", cobra.FixedCompletions([]string{sampleGoMod + "\tmodules that the go.mod here requires"}, cobra.ShellCompDirectiveNoFileComp))
	e.configFlags(cmd, nil)
	showKeys(cmd, "proxy", "private", "noproxy", "nosumdb", "gosumdb", "sources.redirects")
	return cmd
}

// A benchFile is a flag that names a file. It implements pflag.Value.
type benchFile struct{ text *string }

func (f *benchFile) String() string     { return *f.text }
func (f *benchFile) Set(s string) error { *f.text = s; return nil }
func (f *benchFile) Type() string       { return "file" }

func samplesText() string {
	var names []string
	for _, m := range benchReference {
		names = append(names, m.Path)
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// check says what is wrong with the flags.
func (o *benchOrder) check(cmd *cobra.Command) error {
	wrong := func(hint, format string, args ...any) error {
		return &exitError{status: exitMisuse, err: fmt.Errorf(format, args...), hint: hint}
	}
	set := cmd.Flags().Changed
	switch {
	case o.offline:
		return wrong("sluice use SOURCES takes a mirror that you choose yourself", "mirrors cannot be measured offline: bench asks each of them")
	case o.rounds < 1 || o.rounds > maxBenchRounds:
		return wrong("write --rounds 5", "--rounds %d is not between 1 and %d", o.rounds, maxBenchRounds)
	case o.time < time.Second || o.time > time.Hour:
		return wrong("write --time 30s", "--time %v is not between 1s and 1h", o.time)
	case !(o.mb >= 0.1 && o.mb <= 100_000):
		return wrong("write --mb 30", "--mb %v is not between 0.1 and 100000", o.mb)
	case set("html") && o.html == "":
		return wrong("write --html mirrors.html", "--html needs the name of a file")
	case set("catalogue") && o.catalogue == "":
		return wrong("write --catalogue mirrors.txt", "--catalogue needs the name of a file")
	}
	for _, s := range o.samples {
		if s == sampleGoMod {
			continue
		}
		path, version, _ := strings.Cut(s, "@")
		if version == "" {
			return wrong("write MODULE@VERSION, such as "+benchReference[0].String()+", or go.mod", "--sample %s has no version", finding.OneLine(s, 100))
		}
		m := module.Version{Path: path, Version: version}
		if goproxy.IsCanonical(m) {
			continue
		}
		text, major := finding.OneLine(s, 100), semver.Major(version)
		_, suffix, ok := module.SplitPathVersion(path)
		err := module.CheckPath(path)
		switch {
		case err != nil:
			return wrong("write MODULE@VERSION, such as "+benchReference[0].String(), "--sample %s names no module: %w", text, err)
		case !ok || semver.Canonical(version) != version:
			return wrong("write a whole version, such as "+benchReference[0].String(), "--sample %s is no module version", text)
		case suffix == "":
			return wrong("write "+path+"/"+major+"@"+version+", or a version that begins with v0 or v1", "--sample %s is no module version: the path of a module at %s ends in /%s", text, major, major)
		default:
			return wrong("write a version that belongs to the path", "--sample %s is no module version: a module whose path ends in %s has none that begins with %s", text, suffix, major)
		}
	}
	return nil
}

func runBench(ctx context.Context, e *env, cmd *cobra.Command, o benchOrder, words []string) error {
	l, mistakes, err := e.loadAnyway(cmd)
	if err != nil {
		return err
	}
	for _, m := range mistakes {
		if m.Key == "proxy" && len(words) == 0 && !strings.HasPrefix(m.Where, "GOPROXY") { // which mirrors reads itself
			e.say("warning: %v; its mirrors are left out", m)
		}
	}
	var page *wholeFile
	if o.html != "" { // what cannot be written is found out before, and not after minutes
		if page, err = benchPage.open(e, o.html); err != nil {
			if x, ok := errors.AsType[*exitError](err); ok {
				x.status = exitMisuse // nothing was measured, so nothing is said of mirrors
			}
			return err
		}
		defer page.drop()
	}
	rep, err := e.bench(ctx, l, e.goSettings(ctx), o, words)
	if err != nil {
		return err
	}
	if o.json {
		err = writeJSON(e, rep)
	} else {
		err = e.printBench(rep)
	}
	if err == nil && page != nil {
		if err = page.keep(rep.WriteHTML(page.f, "sluice "+version())); err != nil {
			return err
		}
		e.say("the report is in %s", o.html)
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case rep.Recommended.GOPROXY == "":
		return &exitError{status: exitNo}
	}
	return nil
}

// bench measures the mirrors that words name, or all that are known.
func (e *env) bench(ctx context.Context, l *config.Loaded, settings *goenv.Settings, o benchOrder, words []string) (*bench.Report, error) {
	mirrors, err := e.mirrors(l, settings, o.catalogue, words)
	if err != nil {
		return nil, err
	}
	candidates, about, err := e.candidates(l, settings, o)
	if err != nil {
		return nil, err
	}
	var check bench.Check
	if o.project {
		e.say("asking the go command what the build here uses")
		if check, err = e.buildHere(ctx, o.time); err != nil {
			return nil, err
		}
		check.Public = e.publicAnyway(l, settings) || slices.Contains(o.samples, sampleGoMod)
	}
	p := bench.Plan{
		Candidates: candidates, All: len(o.samples) > 0 && !slices.Contains(o.samples, sampleGoMod), Rounds: o.rounds, Time: o.time, Bytes: int64(o.mb * 1e6), Answer: min(benchAnswer, o.time), Scratch: os.TempDir(),
		Tail: tailOf(underEnvironment(settings).Value), Shuffle: rand.Shuffle, Progress: e.benchProgress(o.rounds),
	}
	end, err := e.connectMirrors(l, settings, mirrors, &p)
	defer end()
	if err != nil {
		return nil, err
	}
	e.say("measuring %s in %s after one to warm up; of each at most %v and %v MB, and one request at a time; %s", count(len(mirrors), "mirror"), count(o.rounds, "round"), o.time, o.mb, about)
	rep := bench.Run(ctx, p)
	if o.project {
		e.compareProject(ctx, l, settings, p, check, rep)
	}
	if e.terminal {
		fmt.Fprint(e.stderr, clearLine)
	}
	return rep, nil
}

// benchProgress tells how far it is: in one line at a terminal, and elsewhere a line for
// each round.
func (e *env) benchProgress(rounds int) func(bench.Progress) {
	last := ""
	return func(p bench.Progress) {
		if e.terminal {
			share := 0
			if p.Total > 0 {
				share = 100 * p.Done / p.Total
			}
			text := fmt.Sprintf("sluice: %d %% %s", share, finding.Printable(p.Text))
			if n := e.columns() - 1; n > 0 {
				text = shorten(text, n)
			}
			fmt.Fprint(e.stderr, clearLine+text)
			return
		}
		// Behind the colon is the mirror whose turn it is.
		if text, _, _ := strings.Cut(p.Text, ": "); text != last {
			last = text
			e.say("%s", text)
		}
	}
}

// printBench prints the report as a table and what is to be said about it.
func (e *env) printBench(rep *bench.Report) error {
	var b strings.Builder
	colours := e.colours()
	paint := func(row, col int, text string) string {
		if !colours || row == 0 || col != 2 {
			return text
		}
		colour := map[bench.Verdict]string{bench.Good: "32", bench.Dead: "31", bench.Lying: "1;31"}[rep.Mirrors[row-1].Verdict]
		return "\x1b[" + cmp.Or(colour, "33") + "m" + text + "\x1b[0m"
	}
	rows, width := rep.Rows(), e.stdoutColumns()
	cut, drop := []int{1, 3, 4}, []int{9, 8, 6, 5, 4, 3, 7} // last whether the bytes are right
	for _, line := range layout(rows, width, cut, drop, paint) {
		fmt.Fprintln(&b, line)
	}
	b.WriteByte('\n')
	write := func(text string) {
		for _, line := range fold(text, width) {
			fmt.Fprintln(&b, line)
		}
	}
	var gone []string
	_, left := columns(rows, width, cut, drop)
	for i, out := range left {
		if out {
			gone = append(gone, rows[0][i])
		}
	}
	if len(gone) > 0 {
		write("not shown, for want of room: " + strings.Join(gone, ", ") + "; --html FILE and --json have all")
	}
	write(rep.About())
	for _, line := range rep.Notes() {
		write(line)
	}
	if lines := rep.Project.Lines(); len(lines) > 0 {
		b.WriteByte('\n')
		for _, line := range lines {
			write(line)
		}
	}
	b.WriteByte('\n')
	write(sentence(rep.Sentence))
	if rep.Recommended.Command != "" {
		fmt.Fprintf(&b, "  %s\n", rep.Recommended.Command)
		if rep.Masked() {
			b.WriteString("  with its user and password in the place of xxxxx\n")
		}
	}
	_, err := io.WriteString(e.stdout, b.String())
	return err
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// A known mirror is one that may be measured, before it is connected to.
type known struct {
	name, url, from, note string
	source                config.Source
}

// mirrors are those that words name, or else the proxies of the settings, the default of
// the toolchain, and the catalogue.
func (e *env) mirrors(l *config.Loaded, settings *goenv.Settings, file string, words []string) ([]known, error) {
	listed := bench.Catalogue()
	if file != "" {
		more, err := e.readCatalogue(file)
		if err != nil {
			return nil, err
		}
		listed = bench.Extend(listed, more)
	}
	var list []known
	add := func(k known) {
		if i := slices.IndexFunc(list, func(x known) bool { return config.SourceURL(x.url) == config.SourceURL(k.url) }); i >= 0 {
			list[i].note = cmp.Or(list[i].note, k.note) // the first is what is measured
			if k.from == bench.FromCatalogue || k.from == bench.FromToolchain {
				list[i].name = k.name // by which people know it
			}
			return
		}
		k.source = l.SourceOf(k.url)
		list = append(list, k)
	}
	hostOf := func(raw string) string {
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			return u.Host
		}
		return goenv.Redact(raw)
	}
	defaults := func(from string) {
		chain, _ := goenv.ParseProxyList(settings.Default("GOPROXY").Value)
		for _, entry := range chain {
			if entry.Kind == goenv.HTTP {
				add(known{name: useDefault, url: entry.URL, from: from, note: "the default of the toolchain"})
			}
		}
	}
	if len(words) == 0 {
		off := false
		chain, why := settled(l, settings)
		if why != "" {
			e.say("warning: %s; its mirrors are left out", why)
		}
		for _, entry := range chain {
			off = off || entry.Kind == goenv.Off && len(chain) == 1
			if entry.Kind == goenv.HTTP {
				name := cmp.Or(l.SourceOf(entry.URL).Name, hostOf(entry.URL))
				add(known{name: name, url: entry.URL, from: bench.FromSettings})
			}
		}
		if off {
			return nil, &exitError{status: exitMisuse, err: errors.New("GOPROXY=off says that nobody may be asked for modules"), hint: "name the mirrors that are to be measured all the same: sluice bench MIRROR"}
		}
		if settings.Default("GOPROXY").Value == "" {
			e.say("warning: there is no go command here, so the default of the toolchain is left out")
		}
		defaults(bench.FromToolchain)
		for _, m := range listed {
			add(known{name: m.Name, url: m.URL, from: bench.FromCatalogue, note: m.Note})
		}
		return list, nil
	}
	for _, word := range words {
		word = strings.TrimSpace(word)
		if word == useDefault {
			n := len(list)
			if defaults(bench.FromNamed); len(list) == n {
				return nil, &exitError{status: exitMisuse, err: errors.New("the toolchain names no default mirror"), hint: "name a mirror by its URL"}
			}
			continue
		}
		if i := slices.IndexFunc(l.Source, func(s config.Source) bool { return s.Name != "" && s.Name == word }); i >= 0 {
			add(known{name: word, url: l.Source[i].URL, from: bench.FromNamed})
			continue
		}
		if i := slices.IndexFunc(listed, func(m bench.Listed) bool { return m.Name == word }); i >= 0 {
			add(known{name: word, url: listed[i].URL, from: bench.FromNamed, note: listed[i].Note})
			continue
		}
		chain, err := goenv.ParseProxyList(word)
		notes, meant := goenv.MisreadProxyList(word)
		switch {
		case err == nil && meant != "" && len(chain) == 1:
			return nil, &exitError{status: exitMisuse, err: errors.New(strings.Join(notes, "; ")), hint: "write '" + goenv.Redact(meant) + "'"}
		case err == nil && len(chain) == 1 && chain[0].Kind == goenv.HTTP && strings.ContainsAny(word, ".:/"):
			add(known{name: hostOf(chain[0].URL), url: chain[0].URL, from: bench.FromNamed})
		case err == nil && len(chain) > 1:
			return nil, &exitError{status: exitMisuse, err: fmt.Errorf("%s is a list; bench takes mirrors one by one", goenv.Redact(finding.OneLine(word, 200))), hint: "write sluice bench MIRROR MIRROR"}
		case err == nil && len(chain) == 1 && chain[0].Kind != goenv.HTTP:
			return nil, misuse("%s is no mirror that is asked over the network, so there is nothing to measure", goenv.Redact(finding.OneLine(word, 200)))
		default:
			var names []string
			for _, m := range listed {
				names = append(names, m.Name)
			}
			return nil, &exitError{status: exitMisuse, err: fmt.Errorf("%q is neither a URL nor a mirror that is known by that name", goenv.Redact(finding.OneLine(word, 100))), hint: "known are default, " + strings.Join(names, ", ")}
		}
	}
	return list, nil
}

// readCatalogue reads the file of --catalogue.
func (e *env) readCatalogue(file string) ([]bench.Listed, error) {
	name := file
	if !filepath.IsAbs(name) {
		name = filepath.Join(e.dir, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, misuse("the catalogue cannot be read: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, bench.MaxCatalogue+1))
	if err == nil && len(data) > bench.MaxCatalogue {
		err = fmt.Errorf("%s is larger than %d bytes", file, bench.MaxCatalogue)
	}
	if err != nil {
		return nil, misuse("the catalogue cannot be read: %w", err)
	}
	list, err := bench.ParseCatalogue(file, data)
	if err != nil {
		return nil, misuse("the catalogue cannot be used: %w", err)
	}
	return list, nil
}

// completeMirrors are the words that bench takes.
func (e *env) completeMirrors(cmd *cobra.Command, file string) []string {
	words := []string{useDefault + "\tthe default of the toolchain"}
	listed := bench.Catalogue()
	if more, err := e.readCatalogue(file); file != "" && err == nil {
		listed = bench.Extend(listed, more)
	}
	for _, m := range listed {
		words = append(words, m.Name+"\t"+m.URL)
	}
	if l, _, err := e.loadAnyway(cmd); err == nil {
		for _, s := range l.Source {
			if s.Name != "" {
				words = append(words, s.Name+"\t"+goenv.Redact(s.URL))
			}
		}
	}
	return words
}

// candidates are the modules that the mirrors may be asked for, and a sentence about
// where they are from.
func (e *env) candidates(l *config.Loaded, settings *goenv.Settings, o benchOrder) (list []bench.Candidate, about string, err error) {
	secret := secretTo(l)
	own := slices.Contains(o.samples, sampleGoMod)
	var mods []module.Version
	for _, s := range o.samples {
		if s == sampleGoMod {
			continue
		}
		path, version, _ := strings.Cut(s, "@")
		if secret(path) {
			return nil, "", &exitError{status: exitMisuse, err: fmt.Errorf("--sample %s is a private module by your settings, and is not asked for at mirrors", s), hint: "choose a public one"}
		}
		mods = append(mods, module.Version{Path: path, Version: version})
	}
	file := ""
	switch {
	case own || len(o.samples) == 0 && e.publicAnyway(l, settings):
		var required []module.Version
		if file, required, err = e.requirements(); err != nil {
			return nil, "", err
		}
		required = slices.DeleteFunc(required, func(m module.Version) bool { return secret(m.Path) })
		mods = append(mods, required...)
		if len(required) == 0 && own {
			return nil, "", &exitError{status: exitNo, err: errors.New("no go.mod here requires a public module"), hint: "write --sample MODULE@VERSION"}
		}
		if about = "modules of " + shownName(file); len(required) == 0 {
			mods, about = benchReference, "no go.mod here requires a public module, so a sample of our own"
		}
	case len(o.samples) > 0:
		about = "the modules of --sample"
	default:
		reason := "GOPROXY names no public mirror"
		if _, why := settled(l, settings); why != "" {
			reason = "nobody knows whether your GOPROXY is a public mirror"
		}
		mods, about = benchReference, "a sample of our own, since "+reason+", and whom you require may be nobody's business (--sample go.mod)"
	}
	cache := settings.Get("GOMODCACHE").Value
	for i, m := range mods {
		if i == maxCandidates {
			break
		}
		c := bench.Candidate{Module: m}
		if cache != "" {
			path := goproxy.Request{Kind: goproxy.Zip, Module: m}.Path()
			if info, err := os.Stat(filepath.Join(cache, "cache", "download", filepath.FromSlash(path))); err == nil && info.Mode().IsRegular() {
				c.Size = info.Size()
			}
		}
		list = append(list, c)
	}
	return list, about, nil
}

// publicAnyway reports whether the settings send the names of modules to a public mirror
// first.
func (e *env) publicAnyway(l *config.Loaded, settings *goenv.Settings) bool {
	chain, _ := settled(l, settings)
	if len(chain) == 0 || chain[0].Kind != goenv.HTTP {
		return false
	}
	first := config.SourceURL(chain[0].URL)
	public, _ := goenv.ParseProxyList(settings.Default("GOPROXY").Value)
	for _, m := range bench.Catalogue() {
		public = append(public, goenv.Entry{URL: m.URL})
	}
	return slices.ContainsFunc(public, func(p goenv.Entry) bool { return config.SourceURL(p.URL) == first })
}

// settled is the proxy list of the settings: that of the configuration, or else GOPROXY,
// with a Sluice of this machine where it is named. Where nobody can tell what it is, or
// what was meant by it, it is empty, and why says so in a sentence without its end.
func settled(l *config.Loaded, settings *goenv.Settings) (chain goenv.List, why string) {
	switch l.From["proxy"].Layer {
	case config.File, config.Environ, config.Flag:
		return l.Proxy, ""
	}
	v := settings.Get("GOPROXY")
	if v.Value == "" {
		return nil, "GOPROXY is not set, and there is no go command here that has a default for it"
	}
	where := "GOPROXY"
	if v.Where != "" {
		where += " (" + v.Where + ")"
	}
	notes, meant := goenv.MisreadProxyList(v.Value)
	chain, err := goenv.ParseProxyList(v.Value)
	if err == nil && meant == "" {
		return chain, ""
	}
	why = where + " cannot be used: " + strings.Join(notes, "; ")
	if meant != "" {
		why += "; write '" + goenv.Redact(meant) + "'"
	}
	return nil, why
}

// requirements are the versions that the nearest go.mod requires and does not replace,
// direct ones first.
func (e *env) requirements() (file string, list []module.Version, err error) {
	dir := nearest(e.dir, "", "go.mod")
	if dir == "" {
		return "", nil, nil
	}
	file = filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	var f *modfile.File
	if err == nil {
		f, err = modfile.Parse(file, data, nil)
	}
	if err != nil {
		return "", nil, &exitError{status: exitNo, err: fmt.Errorf("the go.mod cannot be read: %w", err), hint: "mend it, or ask for other modules with --sample MODULE@VERSION"}
	}
	replaced := map[string]bool{}
	for _, r := range f.Replace {
		replaced[r.Old.Path] = true
	}
	for _, indirect := range []bool{false, true} {
		for _, r := range f.Require {
			if r.Indirect == indirect && !replaced[r.Mod.Path] && goproxy.IsCanonical(r.Mod) {
				list = append(list, r.Mod)
			}
		}
	}
	return file, list, nil
}

// tailOf is what a GOPROXY list ends in behind its proxies, with the separator before it;
// ",direct" if it has no such end.
func tailOf(list string) string {
	text := withTail(goenv.List{{Kind: goenv.HTTP, URL: "x"}}, list).String()
	return cmp.Or(strings.TrimPrefix(text, "x"), ",direct")
}

// connectMirrors makes what the mirrors and the checksum database are asked by; end
// drops it.
func (e *env) connectMirrors(l *config.Loaded, settings *goenv.Settings, mirrors []known, p *bench.Plan) (end func(), err error) {
	nets := &examined{}
	var dbs []*checksum.DB
	end = func() {
		for _, db := range dbs {
			db.Close()
		}
		nets.close()
	}
	var named []string
	for _, m := range mirrors {
		if u, err := url.Parse(m.url); err == nil && u.Host != "" {
			named = append(named, upstream.HostPort(u))
		}
	}
	common := upstream.NetConfig{Connect: min(benchConnect, p.Answer), Timeout: p.Answer, Proxy: e.forwardProxy(), Named: append(named, l.Sources.Redirects...), UserAgent: "sluice/" + version()}
	db := l.GoSumDB
	sums := func(remotes ...checksum.Remote) (bench.Sums, error) {
		d, err := checksum.New(checksum.Config{Key: db.Key, Remotes: remotes, Cache: store.NewMem(), Conflict: store.ErrConflict, Timeout: p.Answer})
		if err != nil {
			return nil, misuse("sumdb %s: %w", db.Name, err)
		}
		dbs = append(dbs, d)
		return d.Sums, nil
	}
	may := func(string) error { return nil }
	var ways []checksum.Remote
	if !db.Off && db.Key != "" {
		p.Database = db.Name
		base, err := url.Parse(db.Base())
		if err != nil {
			return end, misuse("sumdb %s: %w", db.Name, err)
		}
		if base.Scheme == "https" || base.Scheme == "http" {
			c := common
			c.Named = append(slices.Clone(common.Named), upstream.HostPort(base))
			direct := remote{src: upstream.NewHTTPSource(nets.net(c), base), may: may}
			ways = append(ways, direct)
			if p.Direct, err = sums(direct); err != nil {
				return end, err
			}
		}
	}
	for _, m := range mirrors {
		u, err := url.Parse(m.url)
		if err != nil {
			return end, misuse("proxy: %w", err)
		}
		c, _, err := netConfig(common, m.source)
		if err != nil {
			return end, err
		}
		c.Connect, c.Timeout, c.Requests, c.Rate = common.Connect, common.Timeout, 0, 0
		if c.Authorization == "" && u.User == nil && u.Scheme == "https" {
			c.Authorization = e.netrc(settings, u.Host)
		}
		n := nets.net(c)
		src := upstream.NewHTTPSource(n, u)
		x := bench.Mirror{Name: m.name, URL: m.url, From: m.from, Note: m.note, Source: src, Idle: n.Close}
		// The go command asks no mirror for a database that has an address of its own.
		if p.Database != "" && db.URL == "" {
			way := remote{src: src, prefix: "sumdb/" + db.Name, mirror: true, may: may}
			ways = append(ways, way)
			if x.Sums, err = sums(way); err != nil {
				return end, err
			}
		}
		p.Mirrors = append(p.Mirrors, x)
	}
	if len(ways) > 0 {
		if p.Sums, err = sums(ways...); err != nil {
			return end, err
		}
	}
	return end, nil
}
