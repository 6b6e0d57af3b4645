package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/upstream"
)

// exitUntold is the status of doctor where nothing failed and not everything could
// be told.
const exitUntold = 3

// A patience is how long doctor waits: in all, and at each step.
type patience struct {
	all, lookup, connect, answer, read time.Duration
	zip                                int64 // of a module, in bytes; 0 is enough to see that it comes
}

var (
	// Three steps that all fail by time, one after the other, fit in, and after them
	// those of the checksum database. Reading waits for nobody, so where all is well it
	// is what takes longest.
	patient = patience{all: 8 * time.Second, lookup: 2 * time.Second, connect: 3 * time.Second, answer: 4 * time.Second, read: 800 * time.Millisecond}
	// The go command waits 30 s for a connection and has no limit for an answer.
	deepPatience = patience{all: 30 * time.Second, lookup: 10 * time.Second, connect: 25 * time.Second, answer: 25 * time.Second, read: 10 * time.Second, zip: 32 << 20}
)

// waitNote is how long doctor is silent at a terminal before it says that it works.
const waitNote = 2 * time.Second

// reference is the module that --reference asks for: small, old, and at every public
// source.
var reference = module.Version{Path: "golang.org/x/text", Version: "v0.3.0"}

func newDoctor(e *env) *cobra.Command {
	var asJSON, all, deep, ref, compare bool
	doh := resolverFlag{}
	var m doctorModes
	cmd := &cobra.Command{
		Use:   "doctor [--fix | --undo | --watch [INTERVAL] | --compare GOOD BAD]",
		Short: "Find out whether modules can be had from here, and if not, why",
		Long: `Doctor checks the way of a module from the settings to its checksum: what is in force
and what hides what, the name, the connection, the encryption and the answers of each
source, the checksum database, the machine, and the project with its go.work, vendor
directory, Dockerfiles and CI files. It says in one sentence what is wrong, and what
mends it, and then what else it saw. It changes nothing unless --fix says so.

It asks the sources and the checksum database that the settings name, and no others,
for one module that the go.mod here requires; for none if there is no go.mod, unless
--reference allows ` + reference.Path + `. Private modules that go.mod requires are tried at
their hosts, by git and without asking for a password; other version control is not.
Names are asked of the name servers of this machine, and of the one of --doh.

All checks together take 8 s at most, or 30 s with --deep, which is about as patient
as the go command. What has not ended by then is called incomplete, never well. Of the
module's zip 64 KiB are fetched, and with --deep as much as 32 MiB, so that one that
was changed at the source shows.

With --report it also writes a file for others: codes, states and times, with pseudonyms
for hosts, and no text that a server, a file or the environment had.

With --fix it then makes those fixes that are a change of the go env -w file and need
no knowledge but its own, all at once: it shows what would be written, asks, writes, checks
again, and takes it back if that did not help. What is left is named. Without a terminal to
ask at it needs --yes. With --undo it makes no check, and puts back to the byte what the last
--fix changed, unless somebody has changed it since; --undo --list lists what was changed.

With --watch it goes on, every 10 s or INTERVAL, says when the verdict or a finding has
changed, and ends with Ctrl-C and the exit status of the last check.

With --compare it makes no check, and says what differs between two reports that were
printed with --json: of yesterday and today, of a colleague's machine and this one.

Exit status: 0 nothing is broken, or differs, 1 something is or does, 2 misused, 3 it could not be told.`,
		Example: "  sluice doctor\n  sluice doctor --all\n  sluice doctor --json --deep\n  sluice doctor --report doctor.html\n  sluice doctor --fix\n  sluice doctor --watch 30s\n  sluice doctor --compare good.json bad.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if compare && len(args) != 2 {
				return &exitError{status: exitMisuse, err: fmt.Errorf("--compare takes two files, but got %d", len(args)), hint: "write sluice doctor --compare GOOD BAD, both printed by sluice doctor --json"}
			}
			if compare {
				return m.alone(cmd, "--compare")
			}
			return m.check(cmd, args)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if compare && len(args) < 2 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON; docs/doctor.schema.json says what is in it")
	cmd.Flags().BoolVar(&all, "all", false, "print each check and each finding")
	cmd.Flags().BoolVar(&deep, "deep", false, "wait 30 s in all, and about as long for each step as the go command does; fetch the zip whole, up to 32 MiB")
	cmd.Flags().Var(&textFlag{kind: "file"}, "report", "also write a report that can be shown to others, as a page if FILE ends in .html, else as text")
	cmd.MarkFlagFilename("report", "html", "txt")
	cmd.Flags().BoolVar(&ref, "reference", false, "without a go.mod, ask for "+reference.Path)
	cmd.Flags().BoolVar(&compare, "compare", false, "say what differs between two reports printed with --json, and check nothing")
	cmd.Flags().Var(&doh, "doh", "also ask this resolver for the names of the sources, and compare: https://HOST/PATH or tls://HOST:PORT")
	m.flags(cmd)
	e.configFlags(cmd, nil)
	showKeys(cmd, "proxy", "private", "noproxy", "nosumdb", "gosumdb", "sources.redirects", "data")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f := cmd.Flag("report"); f.Changed && f.Value.String() == "" {
			return emptyFlag("report", "the file to write")
		} else if f.Changed {
			if err := doctorReport.check(e, f.Value.String()); err != nil {
				return err
			}
		}
		if m.undo {
			return e.undo(cmd, undoing{command: byDoctor, list: m.list, force: m.force, json: asJSON})
		}
		if compare {
			return e.compareReports(args[0], args[1], asJSON)
		}
		p := patient
		if deep {
			p = deepPatience
		}
		x := examination{e: e, cmd: cmd, patience: p, doh: doh, json: asJSON, all: all, ref: ref}
		switch {
		case m.fix:
			return x.fix(cmd.Context(), m.yes)
		case m.watch:
			return x.watch(cmd.Context(), m.every)
		}
		return x.run(cmd.Context())
	}
	return cmd
}

// compareReports says what differs between two reports.
func (e *env) compareReports(good, bad string, asJSON bool) error {
	var reports [2]*doctor.Report
	for i, file := range []string{good, bad} {
		name := file
		if !filepath.IsAbs(name) {
			name = filepath.Join(e.dir, name)
		}
		data, err := os.ReadFile(name)
		if err == nil {
			reports[i], err = doctor.Read(data)
		}
		if err != nil {
			return misuse("the report %s cannot be used: %w", file, err)
		}
	}
	changes := doctor.Compare(reports[0], reports[1])
	var err error
	if asJSON {
		err = writeJSON(e, changes)
	} else {
		_, err = io.WriteString(e.stdout, doctor.ChangesText(changes))
	}
	if err == nil && len(changes) > 0 {
		err = &exitError{status: exitNo}
	}
	return err
}

// An examination is what the command line of doctor asks for.
type examination struct {
	e              *env
	cmd            *cobra.Command
	patience       patience
	doh            resolverFlag
	json, all, ref bool
}

func (x examination) run(ctx context.Context) error {
	r, err := x.report(ctx)
	if err != nil {
		return err
	}
	if x.json {
		err = writeJSON(x.e, r)
	} else {
		err = x.print(r, false)
	}
	if err == nil {
		err = x.share(r)
	}
	if err == nil {
		err = verdictError(r)
	}
	return err
}

// report makes the checks once, by the settings as they are now.
func (x examination) report(ctx context.Context) (*doctor.Report, error) {
	l, mistakes, err := x.e.loadAnyway(x.cmd)
	if err != nil {
		return nil, err
	}
	if x.e.terminal && !x.json {
		note := time.AfterFunc(waitNote, func() { x.e.say("still waiting for answers, %v at most", x.patience.all) })
		defer note.Stop()
	}
	r, err := x.e.examine(ctx, l, mistakes, x.patience, x.doh, func(s *doctor.Subject) {
		if s.Module.Path == "" && s.Project == "" && x.ref {
			s.Module = reference
		}
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return r, err
}

func (x examination) print(r *doctor.Report, brief bool) error {
	_, err := io.WriteString(x.e.stdout, r.Text(doctor.TextOptions{All: x.all, Brief: brief, Colour: x.e.colours()}))
	return err
}

// share writes the file of --report, if that is asked for.
func (x examination) share(r *doctor.Report) error {
	file := x.cmd.Flag("report").Value.String()
	if file == "" {
		return nil
	}
	err := doctorReport.write(x.e, file, func(w io.Writer) error {
		s := r.Share("sluice "+version(), platform())
		if strings.EqualFold(filepath.Ext(file), ".html") {
			return s.WriteHTML(w)
		}
		_, err := io.WriteString(w, s.Text())
		return err
	})
	if err == nil {
		x.e.say("a report that can be shown to others is in %s", file)
	}
	return err
}

// verdictError is the exit status of a report, nil if nothing is broken.
func verdictError(r *doctor.Report) error {
	switch r.Verdict {
	case doctor.Broken:
		return &exitError{status: exitNo}
	case doctor.Untold:
		return &exitError{status: exitUntold}
	}
	return nil
}

// loadAnyway reads a configuration that may have mistakes, but for those of the command
// line.
func (e *env) loadAnyway(cmd *cobra.Command) (*config.Loaded, config.Errors, error) {
	l, err := e.load(cmd, nil)
	var mistakes config.Errors
	if err != nil && (l == nil || !errors.As(err, &mistakes) || slices.ContainsFunc(mistakes, func(m config.Error) bool { return strings.HasPrefix(m.Where, "--") })) {
		return nil, nil, err
	}
	return l, mistakes, nil
}

// examine makes the checks of doctor for a configuration, which may have mistakes. choose
// may have the sources asked for another module than one of go.mod.
func (e *env) examine(ctx context.Context, l *config.Loaded, mistakes config.Errors, p patience, doh resolverFlag, choose func(*doctor.Subject)) (*doctor.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, p.all) // the go command may have to be asked where it lies
	defer cancel()
	settings := e.goSettings(ctx)
	chain := l.Proxy
	if l.From["proxy"].Layer == config.GoEnv {
		// As the go command has it, with a Sluice of this machine where it is named.
		list, err := goenv.ParseProxyList(settings.Get("GOPROXY").Value)
		if chain = list; err == nil {
			mistakes = slices.DeleteFunc(slices.Clone(mistakes), func(m config.Error) bool { return m.Key == "proxy" })
		}
	}
	return e.examineChain(ctx, l, settings, mistakes, chain, p, doh, func(s *doctor.Subject) []doctor.Check {
		choose(s)
		return s.Checks()
	})
}

// examineChain makes checks for a chain of sources.
func (e *env) examineChain(ctx context.Context, l *config.Loaded, settings *goenv.Settings, mistakes config.Errors, chain goenv.List, p patience, doh resolverFlag, of func(*doctor.Subject) []doctor.Check) (*doctor.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, p.all)
	defer cancel()
	begin := time.Now()
	s := &doctor.Subject{
		Settings: settings, Getenv: e.getenv, Place: here(), NoProxy: l.NoProxy, NoSumDB: l.NoSumDB, HasGo: e.findable("go"), HasGit: e.findable("git"), Root: os.Geteuid() == 0, Built: built(),
		Limits: doctor.Limits{Lookup: p.lookup, Answer: p.answer, Read: p.read, Zip: p.zip}, Notes: &doctor.Notebook{}, PublicRoots: doctor.PublicRoots,
		GoVersion: func(ctx context.Context) (string, error) {
			goCmd, err := origin.FindGo(e.getenv("PATH"))
			if err != nil {
				return "", err
			}
			return origin.GoVersion(ctx, goCmd, e.environ)
		},
	}
	for _, m := range mistakes {
		if m.Key != "data" { // nothing is stored
			s.Mistakes = append(s.Mistakes, m)
		}
	}
	if len(s.Mistakes) > 0 {
		chain = nil // it is not known who is named
	}
	var err error
	if s.Names, err = e.names(doh); err != nil {
		return nil, err
	}
	if dns, ok := s.Names.Opinion.(*upstream.DNS); ok {
		defer dns.CloseIdleConnections()
	}
	nets := &examined{}
	defer nets.close()
	if err := e.subjects(s, nets, l, chain, p); err != nil {
		return nil, err
	}
	e.project(s)
	s.Environ, s.Findable = e.environ, e.findable
	s.Interfaces, s.ConfigFile = net.Interfaces, l.File
	if u, err := user.Current(); err == nil {
		s.SystemHome = u.HomeDir
	}
	s.PrivateNet = func(host string, login bool) *upstream.Net {
		c := upstream.NetConfig{
			Connect: p.connect, Timeout: p.answer, Proxy: e.forwardProxy(), Named: []string{host + ":443", host + ":80"},
			UserAgent: "sluice/" + version(), Wrap: s.Notes.Wrap,
		}
		if login {
			c.Authorization = e.netrc(settings, host)
		}
		return nets.net(c)
	}
	s.Explain = func(text string) (finding.Code, string) {
		r := explain.Text(text)
		return r.Code, r.Line
	}
	checks := of(s)
	subject := "GOPROXY=" + chain.Redacted()
	if s.Module.Path != "" {
		subject += ", " + s.Module.Path + "@" + s.Module.Version
	}
	r := doctor.Run(ctx, subject, checks, p.all-time.Since(begin))
	return &r, nil
}

// examined holds the connections of an examination.
type examined struct{ nets []*upstream.Net }

func (x *examined) close() {
	for _, n := range x.nets {
		n.Close()
	}
}

func (x *examined) net(c upstream.NetConfig) *upstream.Net {
	n := upstream.NewNet(c)
	x.nets = append(x.nets, n)
	return n
}

// subjects makes the sources and the checksum database, each as serve would ask it.
func (e *env) subjects(s *doctor.Subject, nets *examined, l *config.Loaded, chain goenv.List, p patience) error {
	var named []string
	for _, entry := range chain {
		if u, err := url.Parse(entry.URL); err == nil && u.Host != "" {
			named = append(named, upstream.HostPort(u))
		}
	}
	common := upstream.NetConfig{
		Connect: p.connect, Timeout: p.answer, Proxy: e.forwardProxy(), Named: append(named, l.Sources.Redirects...),
		UserAgent: "sluice/" + version(), Wrap: s.Notes.Wrap,
	}
	db := l.GoSumDB
	may := func(string) error { return nil }
	for _, entry := range chain {
		src := doctor.Source{Entry: entry}
		switch entry.Kind {
		case goenv.HTTP:
			u, err := url.Parse(entry.URL)
			if err != nil {
				return misuse("proxy: %w", err)
			}
			c, _, err := netConfig(common, l.SourceOf(entry.URL))
			if err != nil {
				return err
			}
			c.Connect, c.Timeout, c.Requests, c.Rate = common.Connect, common.Timeout, 0, 0
			if c.Authorization == "" && u.User == nil && u.Scheme == "https" {
				c.Authorization = e.netrc(s.Settings, u.Host)
			}
			src.URL, src.Net = u, nets.net(c)
			if c.Resolver != nil {
				src.Resolver = l.SourceOf(entry.URL).Resolver
			}
			hs := upstream.NewHTTPSource(src.Net, u)
			src.From = hs
			if !db.Off && db.URL == "" {
				src.Sums = remote{src: hs, prefix: "sumdb/" + db.Name, mirror: true, may: may}
			}
		case goenv.File:
			dir, err := fileURLPath(entry.URL)
			if err != nil {
				return misuse("proxy: %w", err)
			}
			ts := upstream.NewTreeSource(dir, entry.Name(), p.answer)
			src.From = ts
			if !db.Off && db.URL == "" {
				src.Sums = remote{src: ts, prefix: "sumdb/" + db.Name, mirror: true, may: may}
			}
		}
		s.Sources = append(s.Sources, src)
	}
	if db.Off || db.Key == "" {
		return nil
	}
	s.SumDB = &doctor.SumDB{Name: db.Name, Key: db.Key, Head: func() ([]byte, error) {
		heads := config.TreeOf(filepath.Join(s.Settings.Get("GOMODCACHE").Value, "cache", "download")).Heads
		return os.ReadFile(filepath.Join(heads, filepath.FromSlash(db.Name), "latest"))
	}}
	base, err := url.Parse(db.Base())
	if err != nil {
		return misuse("sumdb %s: %w", db.Name, err)
	}
	if base.Scheme == "file" {
		dir, err := fileURLPath(db.URL)
		if err != nil {
			return misuse("sumdb %s: %w", db.Name, err)
		}
		s.SumDB.Direct = remote{src: upstream.NewTreeSource(dir, goenv.Redact(db.URL), p.answer), may: may}
		return nil
	}
	common.Named = append(slices.Clone(common.Named), upstream.HostPort(base))
	s.SumDB.URL, s.SumDB.Net = base, nets.net(common)
	s.SumDB.Direct = remote{src: upstream.NewHTTPSource(s.SumDB.Net, base), may: may}
	return nil
}

// netrc is the Authorization that the go command would send to host by a netrc file;
// "" if none.
func (e *env) netrc(settings *goenv.Settings, host string) string {
	if !slices.ContainsFunc(strings.Split(settings.Get("GOAUTH").Value, ";"), func(c string) bool { return strings.TrimSpace(c) == "netrc" }) {
		return ""
	}
	files := []string{e.getenv("NETRC")}
	if files[0] == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		if files = []string{filepath.Join(home, ".netrc")}; runtime.GOOS == "windows" {
			files = []string{filepath.Join(home, "_netrc"), files[0]}
		}
	}
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil {
			if login, password, ok := goenv.NetrcLogin(string(data), host); ok {
				return "Basic " + base64.StdEncoding.EncodeToString([]byte(login+":"+password))
			}
			return ""
		}
	}
	return ""
}

// project reads the go.mod of the working directory, without the go command, which may
// be what is not well.
func (e *env) project(s *doctor.Subject) {
	for dir := e.dir; ; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, "go.mod")
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir {
			continue
		}
		if errors.Is(err, os.ErrNotExist) || e.dir == "" {
			return
		}
		s.Project = name
		var f *modfile.File
		if err == nil {
			f, err = modfile.Parse(name, data, nil)
		}
		if err != nil {
			s.ProjectErr = err
			return
		}
		replaced := map[string]bool{}
		for _, r := range f.Replace {
			replaced[r.Old.Path] = true
		}
		s.Sums, err = readGoSum(strings.TrimSuffix(name, ".mod") + ".sum")
		if err != nil {
			s.ProjectErr = err
		}
		var second module.Version
		for _, r := range f.Require {
			s.Required = append(s.Required, r.Mod.Path)
			if !replaced[r.Mod.Path] && goproxy.IsCanonical(r.Mod) {
				s.Selected = append(s.Selected, r.Mod)
			}
			if replaced[r.Mod.Path] || s.NoProxy.Match(r.Mod.Path) || !goproxy.IsCanonical(r.Mod) {
				continue
			}
			if r.Indirect {
				second = cmp.Or(second, r.Mod)
			} else {
				s.Module = cmp.Or(s.Module, r.Mod)
			}
		}
		s.Module = cmp.Or(s.Module, second)
		return
	}
}

// readGoSum is what a go.sum file says of zips. A file that is not there says nothing;
// a line that the go command would not read is an error.
func readGoSum(name string) (map[module.Version]string, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sums := map[module.Version]string{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		f := strings.Fields(line)
		switch len(f) {
		case 0:
		case 3:
			if strings.HasPrefix(f[2], "h1:") {
				sums[module.Version{Path: f[0], Version: f[1]}] = f[2]
			}
		default:
			return sums, fmt.Errorf("%s:%d: a line of go.sum has three words, and this one %d; it may be left over from a merge", name, n, len(f))
		}
	}
	return sums, nil
}

// built is when this program was built; zero if it does not say.
func built() time.Time {
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, set := range bi.Settings {
			if set.Key == "vcs.time" {
				t, _ := time.Parse(time.RFC3339, set.Value)
				return t
			}
		}
	}
	return time.Time{}
}

// tellDoctor says below a failed command what is wrong on the way to modules, or that
// nothing is any more. The sources are asked for the module that was missed; its version
// may be empty. Where that cannot be told it says nothing.
func (e *env) tellDoctor(ctx context.Context, l *config.Loaded, missed module.Version) {
	var asked module.Version
	r, err := e.examine(ctx, l, nil, patient, resolverFlag{}, func(s *doctor.Subject) {
		if missed.Version == "" {
			if i := slices.IndexFunc(s.Selected, func(m module.Version) bool { return m.Path == missed.Path }); i >= 0 {
				missed = s.Selected[i]
			}
		}
		// A private one is none of the sources' business, and has checks of its own.
		if missed.Version != "" && goproxy.IsCanonical(missed) && !s.NoProxy.Match(missed.Path) {
			s.Module = missed
		}
		asked = s.Module
	})
	switch {
	case err != nil || ctx.Err() != nil:
	case r.Verdict == doctor.Broken:
		e.tell("sluice doctor: " + r.Text(doctor.TextOptions{Brief: true}))
	case (r.Verdict == doctor.Well || r.Verdict == doctor.Impaired) && asked.Path != "" && asked == missed:
		e.say("doctor finds nothing wrong on the way to %s now; run the command again, and if it still fails, see that way with sluice trace %[1]s", asked)
	case r.Verdict == doctor.Well || r.Verdict == doctor.Impaired:
		e.say("doctor finds nothing wrong on the way to modules now; run the command again, and if one module alone fails, see its way with sluice trace MODULE@VERSION")
	}
}

// doctorKnowsMore reports whether the cause of a failure is one that checks tell more
// about than its text.
func doctorKnowsMore(c finding.Cause) bool {
	return slices.Contains([]string{"network", "dns", "tls", "forward-proxy"}, c.Family()) ||
		slices.Contains([]finding.Cause{finding.CauseUpstreamServerError, finding.CauseProxyBadResponse, finding.CauseSumDBUnreachable}, c)
}
