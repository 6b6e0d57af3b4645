package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modcache"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// A Subject is what is examined: everything that the settings name, and nothing
// else.
type Subject struct {
	Settings *goenv.Settings
	Getenv   func(string) string
	Place    finding.Place // where fixes are typed
	Mistakes []error       // why the configuration of Sluice cannot be used

	Sources []Source
	SumDB   *SumDB         // nil: GOSUMDB is off
	NoProxy goenv.Patterns // what goes past the sources
	NoSumDB goenv.Patterns // what is not checked against SumDB
	// Module is a version that the project requires and that goes to the sources; the
	// zero value if there is none. No other is asked for.
	Module   module.Version
	Required []string // module paths that the project requires
	Project  string   // its go.mod; "" if there is none
	// Selected are the versions that go.mod requires and no replace touches, and Sums what
	// go.sum says of the zips.
	Selected   []module.Version
	Sums       map[module.Version]string
	ProjectErr error // why go.mod or go.sum cannot be read

	// GoVersion runs the go command, for its version; it fails if there is none.
	GoVersion func(ctx context.Context) (string, error)
	HasGo     bool
	HasGit    bool
	Root      bool      // commands are typed by root
	Built     time.Time // when this program was built; zero if that is not known

	// Environ is what git and ssh run with, Findable reports whether a program is in its
	// PATH, and PrivateNet makes the connections to the host of private modules, with or
	// without the login that the go command would send there. Explain is what an output
	// of git means, and the line that shows it. Without the last three, less is told.
	Environ    []string
	Findable   func(program string) bool
	PrivateNet func(host string, login bool) *upstream.Net
	Explain    func(text string) (code finding.Code, line string)
	SystemHome string // the home directory that the system has for this user, whatever HOME says; "" if it is not known

	// Interfaces lists those of this machine, as net.Interfaces does; nil: they are not
	// looked at.
	Interfaces func() ([]net.Interface, error)
	// ConfigFile is the configuration of Sluice; "" if there is none.
	ConfigFile string

	Limits Limits
	Notes  *Notebook // in Wrap of all Nets
	Names  Names
	// PublicRoots are the authorities that everybody trusts; nil: nothing is compared with
	// them.
	PublicRoots func() *x509.CertPool

	census  census
	caFiles []string // that the system's own authorities are in; nil: the usual ones
}

// Checks lists the checks of a subject, in the order of the way of a module.
func (s *Subject) Checks() []Check {
	var checks []Check
	setting := func(id, title string, run func() Outcome) {
		checks = append(checks, Check{ID: "settings." + id, Group: "Settings", Title: title, Link: "settings", Run: func(context.Context, Seen) Outcome { return run() }})
	}
	machine := func(id, title string, run func(context.Context) Outcome) {
		checks = append(checks, Check{ID: "machine." + id, Group: "Machine", Title: title, Link: "machine", Run: func(ctx context.Context, _ Seen) Outcome { return run(ctx) }})
	}
	setting("goproxy", "GOPROXY", s.goproxy)
	setting("config", "configuration of Sluice", s.config)
	setting("layers", "layers of go env", s.layers)
	setting("goenv", "go env -w file", s.goenv)
	setting("patterns", "private patterns", s.patterns)
	setting("verification", "verification", s.verification)
	setting("forward", "forward proxy variables", s.forwardVariables)
	setting("command", "GOFLAGS, GOTOOLCHAIN, GO111MODULE", s.stoppers)
	setting("goauth", "GOAUTH", s.goauth)
	setting("noproxy", "exceptions from the forward proxy", s.exceptions)
	machine("go", "go command", s.goCommand)
	machine("git", "git", func(context.Context) Outcome { return s.git() })
	machine("home", "home directory", func(context.Context) Outcome { return s.home() })
	machine("modcache", "module cache", func(context.Context) Outcome { return s.modcache() })
	machine("records", "records of the checksum database", func(context.Context) Outcome { return s.records() })
	machine("buildcache", "build cache", func(context.Context) Outcome { return s.buildcache() })
	machine("temporary", "temporary directory", func(context.Context) Outcome { return s.temporary() })
	machine("cached", "modules in the cache", s.cached)
	machine("disk", "disk", func(context.Context) Outcome { return s.disk() })
	checks = append(checks, Check{ID: "project.gomod", Group: "Project", Title: "go.mod", Run: func(context.Context, Seen) Outcome { return s.gomod() }})
	checks = append(checks, Check{ID: "project.writable", Group: "Project", Title: "go.mod and go.sum can be written", Run: func(context.Context, Seen) Outcome { return s.writable() }})
	checks = append(checks, s.projectChecks()...)
	ways := slices.Concat(s.supply(), s.privateChecks())
	var rows, answers []string
	for _, c := range ways {
		rows = append(rows, c.ID)
		if strings.HasPrefix(c.ID, "source.") && strings.HasSuffix(c.ID, ".answer") {
			answers = append(answers, c.ID)
		}
	}
	checks = append(slices.Concat(checks, ways), s.switched(answers), s.offline(rows))
	for i := range checks {
		run := checks[i].Run
		checks[i].Run = func(ctx context.Context, seen Seen) Outcome {
			out := run(ctx, seen)
			if out.Finding != nil {
				f := *out.Finding
				f.Fix = s.here(f.Fix)
				out.Finding = &f
			}
			return out
		}
	}
	return checks
}

// SourceChecks lists those checks that say whether each source answers as a module proxy,
// whatever the settings say at present. No checksum database is asked; a source that lacks
// the module may be asked whether it mirrors one.
func (s *Subject) SourceChecks() []Check {
	checks := slices.DeleteFunc(s.supply(), func(c Check) bool {
		return !strings.HasPrefix(c.ID, "source.") || strings.HasSuffix(c.ID, ".sumdb")
	})
	other := func(id string) bool { return !slices.ContainsFunc(checks, func(c Check) bool { return c.ID == id }) }
	for i := range checks {
		c := &checks[i]
		c.Needs, c.After = slices.DeleteFunc(slices.Clone(c.Needs), other), slices.DeleteFunc(slices.Clone(c.After), other)
	}
	return checks
}

// SettingsChanges are the fixes of settings that need no check but that of the settings.
func SettingsChanges(settings *goenv.Settings) []finding.Change {
	s := &Subject{Settings: settings}
	var changes []finding.Change
	for _, out := range []Outcome{s.goproxy(), s.patterns(), s.verification()} {
		if out.Finding != nil {
			changes = append(changes, out.Finding.Changes...)
		}
	}
	return changes
}

// from says where a value is from, and what it hides.
func from(v goenv.Value) string {
	where := v.Layer.String()
	if v.Where != "" && v.Layer != goenv.Environ {
		where = v.Where
	}
	return fmt.Sprintf("%s (%s)", v.Redacted(), where)
}

func (s *Subject) goproxy() Outcome {
	v := s.Settings.Get("GOPROXY")
	if v.Value == "" {
		if len(s.Sources) == 0 {
			return s.mean(Fail, finding.NoGoCommand, "", "GOPROXY is not set, and there is no go command whose default would hold")
		}
		return Outcome{State: OK, Text: "not set"}
	}
	notes, fixed := goenv.CheckProxyList(v.Value)
	if len(notes) == 0 {
		return Outcome{State: OK, Text: from(v)}
	}
	list, err := goenv.ParseProxyList(v.Value)
	state := Warn
	// A host of that name is a colon that is missing.
	if err != nil || slices.ContainsFunc(list, func(e goenv.Entry) bool {
		u, err := url.Parse(e.URL)
		return err == nil && (u.Host == "http" || u.Host == "https")
	}) {
		state = Fail
	}
	out := s.mean(state, finding.GoEnvMalformed, "GOPROXY", strings.Join(notes, "; "))
	if fixed != "" && goenv.Redact(fixed) == fixed {
		out.Finding.Mend = "write the list as it was probably meant"
		out.Finding.Fix = []string{"go env -w GOPROXY='" + fixed + "'"}
		switch v.Layer {
		case goenv.Environ:
			out.Finding.Fix = []string{finding.Setting(s.Place, "GOPROXY", fixed)}
		case goenv.UserFile:
			out.Finding.Changes = []finding.Change{{Kind: finding.SetGoEnv, Name: "GOPROXY", Value: fixed}}
		}
	}
	return out
}

// config are the mistakes that the chain of sources cannot be made for, but for that
// of GOPROXY itself, which has its own row.
func (s *Subject) config() Outcome {
	if len(s.Mistakes) == 0 {
		return Outcome{State: OK, Text: "it can be read"}
	}
	var texts []string
	for _, err := range s.Mistakes {
		texts = append(texts, err.Error())
	}
	out := s.mean(Fail, finding.ConfigMalformed, "", strings.Join(texts, "; "))
	if s.ConfigFile == "" {
		out.Finding.Fix = []string{"sluice config check"}
	} else {
		f := out.Finding.With(finding.StandInFile, s.ConfigFile)
		out.Finding = &f
	}
	if len(s.Mistakes) > 1 {
		return out
	}
	if _, err := goenv.ParseProxyList(s.Settings.Get("GOPROXY").Value); err != nil {
		out.Because = "settings.goproxy"
	}
	return out
}

// layers finds environment variables that hide what somebody wrote with go env -w.
func (s *Subject) layers() Outcome {
	var texts, names []string
	for _, name := range goenv.Names() {
		v := s.Settings.Get(name)
		if v.Layer != goenv.Environ {
			continue
		}
		for _, o := range v.Overridden {
			if o.Layer == goenv.UserFile && o.Value != v.Value {
				names = append(names, name)
				texts = append(texts, fmt.Sprintf("%s is %s in the environment, which hides %s", name, v.Redacted(), from(o)))
			}
		}
	}
	if len(names) == 0 {
		return Outcome{State: OK, Text: "none hides what another one has"}
	}
	out := s.mean(Warn, finding.GoEnvHidden, strings.Join(names, ", "), strings.Join(texts, "; "))
	out.Finding.Fix = nil
	for _, n := range names {
		out.Finding.Fix = append(out.Finding.Fix, "unset "+n)
	}
	if s.Place == finding.PowerShell {
		for i, n := range names {
			out.Finding.Fix[i] = "Remove-Item env:" + n
		}
	}
	return out
}

func (s *Subject) goenv() Outcome {
	var texts []string
	for _, p := range s.Settings.Problems {
		texts = append(texts, p.Error())
	}
	if len(texts) > 0 {
		out := s.mean(Warn, finding.GoEnvMalformed, s.Settings.File, strings.Join(texts, "; "))
		if s.Settings.Mendable {
			out.Finding.Mend = "put the lines right, by hand or by sluice doctor --fix"
			out.Finding.Changes = []finding.Change{{Kind: finding.MendGoEnv}}
		}
		return out
	}
	if s.Settings.File == "" {
		return Outcome{State: NA, Text: "there is none"}
	}
	return Outcome{State: OK, Text: s.Settings.File}
}

// privateVariables are those that hold patterns.
var privateVariables = []string{"GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE"}

func (s *Subject) patterns() Outcome {
	var texts, names []string
	var changes []finding.Change
	for _, name := range privateVariables {
		v := s.Settings.Get(name)
		if v.Layer == goenv.Default {
			continue // it follows another, which is told
		}
		problems := goenv.CheckPatterns(goenv.Patterns(v.Value))
		for _, p := range problems {
			if broad(goenv.Patterns(p.Pattern)) != "" {
				continue // what that means is another row's
			}
			texts = append(texts, name+": "+p.Error())
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if fixed := mendPatterns(v.Value, problems); fixed != v.Value && v.Layer == goenv.UserFile && goenv.Redact(fixed) == fixed && !strings.Contains(fixed, "'") {
			changes = append(changes, finding.Change{Kind: finding.SetGoEnv, Name: name, Value: fixed})
		}
	}
	if len(texts) > 0 {
		out := s.mean(Warn, finding.GoEnvMalformed, strings.Join(names, ", "), strings.Join(texts, "; "))
		if len(changes) > 0 {
			out.Finding.Mend, out.Finding.Fix, out.Finding.Changes = "write the patterns as they were probably meant", nil, changes
			for _, c := range changes {
				out.Finding.Fix = append(out.Finding.Fix, "go env -w "+c.Name+"='"+c.Value+"'")
			}
		}
		return out
	}
	past := 0
	for _, path := range s.Required {
		if s.NoProxy.Match(path) {
			past++
		}
	}
	switch {
	case s.NoProxy == "":
		return Outcome{State: NA, Text: "there are none"}
	case s.Project == "":
		return Outcome{State: OK, Text: string(s.NoProxy)}
	}
	return Outcome{State: OK, Text: fmt.Sprintf("%d of the %d modules that go.mod requires go past the proxies, by %s", past, len(s.Required), goenv.Redact(string(s.NoProxy)))}
}

// MendPatterns is a list of patterns with those that match nothing as they were probably
// meant; where all is well, the list itself.
func MendPatterns(list string) string {
	return mendPatterns(list, goenv.CheckPatterns(goenv.Patterns(list)))
}

// mendPatterns is a list of patterns with those that match nothing as they were probably
// meant.
func mendPatterns(list string, problems []goenv.PatternProblem) string {
	var globs []string
	for glob := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(problems, func(p goenv.PatternProblem) bool { return p.Dead && p.Fix != "" && p.Pattern == glob })
		if i >= 0 {
			glob = problems[i].Fix
		}
		globs = append(globs, glob)
	}
	return strings.Join(globs, ",")
}

// broad are patterns that match public modules beside anybody's own.
func broad(p goenv.Patterns) string {
	for _, glob := range p.Split() {
		switch strings.TrimSuffix(glob, "/") {
		case "*", "*.*", "*.com", "*.org", "*.io", "*.net", "github.com", "golang.org", "gopkg.in", "*/*":
			return glob
		}
	}
	return ""
}

func (s *Subject) verification() Outcome {
	var texts, names []string
	var changes []finding.Change
	say := func(name, text string) {
		names = append(names, name)
		texts = append(texts, text)
	}
	if v := s.Settings.Get("GOSUMDB"); v.Value == "off" {
		say("GOSUMDB", "GOSUMDB is "+from(v)+", so no module is checked against a checksum database")
		if v.Layer == goenv.UserFile && s.Settings.Default("GOSUMDB").Value != "off" {
			changes = append(changes, finding.Change{Kind: finding.UnsetGoEnv, Name: "GOSUMDB"})
		}
	}
	for _, name := range privateVariables {
		if v := s.Settings.Get(name); v.Where != "follows GOPRIVATE" {
			if glob := broad(goenv.Patterns(v.Value)); glob != "" {
				say(name, fmt.Sprintf("%s has the pattern %s, which matches public modules too (%s)", name, glob, from(v)))
			}
		}
	}
	if v := s.Settings.Get("GOFLAGS"); strings.Contains(v.Value, "-insecure") {
		say("GOFLAGS", "GOFLAGS has -insecure, which the go command no longer knows")
		// Without quotes, words are what spaces make them.
		if left := withoutInsecure(v.Value); v.Layer == goenv.UserFile && !strings.ContainsAny(v.Value, `"'`) && finding.Redact(left) == left {
			change := finding.Change{Kind: finding.SetGoEnv, Name: "GOFLAGS", Value: left}
			if left == "" {
				change.Kind = finding.UnsetGoEnv
			}
			changes = append(changes, change)
		}
	}
	if len(texts) == 0 {
		return Outcome{State: OK, Text: "public modules are verified"}
	}
	out := s.mean(Warn, finding.VerificationOff, strings.Join(names, ", "), strings.Join(texts, "; "))
	out.Finding.Changes = changes
	if names = slices.DeleteFunc(names, func(n string) bool { return n == "GOFLAGS" }); len(names) > 0 && (s.Place == finding.Terminal || s.Place == finding.PowerShell) {
		out.Finding.Fix = s.unset(names)
	}
	return out
}

func withoutInsecure(flags string) string {
	words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(w, "-"), "-"), "=")
		return name == "insecure"
	})
	return strings.Join(words, " ")
}

// forwardVariables finds what of HTTPS_PROXY and its like the go command passes over
// without a word.
func (s *Subject) forwardVariables() Outcome {
	get := func(name string) (string, string) {
		for _, n := range []string{name, strings.ToLower(name)} {
			if v := s.Getenv(n); v != "" {
				return n, v
			}
		}
		return "", ""
	}
	var texts []string
	set := map[string]string{}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		n, v := get(name)
		if v == "" {
			continue
		}
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			// As package httpproxy has it: what has no scheme is an http proxy.
			u, err = url.Parse("http://" + v)
		}
		if err != nil || u.Hostname() == "" || u.Hostname() == "http" || u.Hostname() == "https" {
			return s.mean(Fail, finding.ForwardProxyBroken, n, n+" cannot be read as the URL of a forward proxy")
		}
		set[name] = u.Host
		texts = append(texts, n+"="+u.Host)
	}
	var https bool
	for _, src := range s.Sources {
		https = https || src.URL != nil && src.URL.Scheme == "https"
	}
	if n, v := get("ALL_PROXY"); v != "" && len(set) == 0 {
		texts = append(texts, n+" is set, which the go command does not read")
	}
	if set["HTTP_PROXY"] != "" && set["HTTPS_PROXY"] == "" && https {
		texts = append(texts, "HTTPS_PROXY is not set, so https sources are asked directly")
	}
	if n, v := get("NO_PROXY"); v != "" && len(set) > 0 {
		texts = append(texts, n+"="+v)
	}
	if len(texts) == 0 {
		return Outcome{State: NA, Text: "there are none"}
	}
	return Outcome{State: OK, Text: strings.Join(texts, ", ")}
}

func (s *Subject) goCommand(ctx context.Context) Outcome {
	v, err := s.GoVersion(ctx)
	switch {
	case err == nil:
		return Outcome{State: OK, Text: v}
	case !s.HasGo:
		return s.mean(Warn, finding.NoGoCommand, "", finding.OneLine(err.Error(), 200))
	case ctx.Err() != nil:
		return Outcome{State: Incomplete, Text: "the go command has not said its version"}
	}
	return s.mean(Fail, finding.GoEnvMalformed, "", finding.OneLine(err.Error(), 300))
}

// git is needed for what goes past the proxies, and where the list has nothing but
// direct.
func (s *Subject) git() Outcome {
	need := ""
	for _, path := range s.Required {
		if need == "" && s.NoProxy.Match(path) {
			need = path + " goes past the proxies"
		}
	}
	if len(s.Sources) > 0 && s.Sources[0].Entry.Kind == goenv.Direct {
		need = "GOPROXY begins with direct"
	}
	switch {
	case s.HasGit:
		return Outcome{State: OK, Text: "it is in PATH"}
	case need == "":
		return Outcome{State: NA, Text: "it is not in PATH, and nothing here needs it"}
	}
	return s.mean(Fail, finding.VCSMissing, "git", "git is not in PATH, and "+need)
}

func (s *Subject) home() Outcome {
	v := s.Settings.Get("GOMODCACHE")
	switch {
	case v.Value == "":
		return s.homeless("HOME, GOPATH and GOMODCACHE are not set, so the go command has no place for modules")
	case !filepath.IsAbs(v.Value):
		return s.mean(Fail, finding.CacheDenied, v.Name, "GOMODCACHE is "+from(v)+", which is no absolute path")
	}
	return Outcome{State: OK, Text: "the module cache is " + from(v)}
}

// nearest is dir, or the nearest directory above it that is there and may be seen.
func nearest(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return dir, fmt.Errorf("%s is a file, and no directory", dir)
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, fs.ErrPermission):
			return dir, err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir, err
		}
		dir = up
	}
}

func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// maxCached is how many bytes of the zips in the module cache, and of what they are
// extracted to, are read. Limits.Read holds beside it, as disks and machines differ.
const maxCached = 64 << 20

// cached compares what the module cache has of the project's versions with what was
// recorded of it when it came, and with go.sum: zips, extracted modules, .info and
// .mod, locks, owners and permissions.
func (s *Subject) cached(ctx context.Context) Outcome {
	dir := s.Settings.Get("GOMODCACHE").Value
	if !filepath.IsAbs(dir) || len(s.Selected) == 0 {
		return Outcome{State: NA, Text: "there is nothing to look at"}
	}
	k, err := modcache.Open(modcache.Config{Dir: dir, Sums: s.Sums, Only: s.Selected, MaxBytes: maxCached, MaxTime: s.Limits.Read})
	if err != nil {
		return Outcome{State: NA, Text: "there is none"} // or that it is none is told in another row
	}
	r, err := k.Check(ctx)
	// What a broken off download has left is in nobody's way.
	if ds := slices.DeleteFunc(r.Damages, func(d modcache.Damage) bool { return d.Kind == modcache.Leftover }); len(ds) > 0 {
		return s.damaged(ds)
	}
	text := plural(r.Versions-r.Skipped, "version is as it came", "versions are as they came")
	if r.Skipped > 0 {
		text += "; " + plural(r.Skipped, "other was", "others were") + " not read to the end, which takes longer than doctor may: sluice rescue --cache --dry-run does"
	}
	switch {
	case err != nil:
		return Outcome{State: Incomplete, Text: text}
	case r.Versions == 0:
		return Outcome{State: NA, Text: "it has none of the project's versions"}
	}
	return Outcome{State: OK, Text: text}
}

// damaged is what the damage in the module cache means.
func (s *Subject) damaged(ds []modcache.Damage) Outcome {
	// What go.sum alone contradicts may be right, and some mends itself; all else fails.
	rank := func(d modcache.Damage) int {
		switch {
		case d.Kind.Heals():
			return 2
		case d.Contested:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(ds, func(a, b modcache.Damage) int { return rank(a) - rank(b) })
	d, named := ds[0], ds[0].File
	if d.Module.Path != "" {
		named = d.Module.String()
	}
	text := d.File + ": " + d.Text
	if len(ds) > 1 {
		text += fmt.Sprintf("; and %d more", len(ds)-1)
	}
	code := finding.CacheDamaged
	switch {
	case d.Contested:
		code = finding.GoSumMismatch
	case d.Kind == modcache.Denied:
		code = finding.CacheDenied
	}
	state := Fail
	if d.Kind.Heals() {
		state = Warn
	}
	out := s.mean(state, code, named, text)
	f := finding.At(code, s.Place).With(finding.StandInModule, d.Module.Path).With(finding.StandInVersion, d.Module.Version)
	if code != finding.GoSumMismatch && (s.Place == finding.Terminal || s.Place == finding.PowerShell) {
		f.Mend = "mend what is damaged, and nothing else"
		f.Fix = []string{"sluice rescue --cache"}
	}
	out.Finding = &f
	if d.Contested && len(ds) == 1 {
		out.Fact = contested{d.Module}
	}
	return out
}

// contested is the Fact of a cache in which nothing is the matter but one version that
// go.sum contradicts.
type contested struct{ m module.Version }

// Below these a build runs, or soon runs, out of space; in bytes.
const (
	littleSpace = 512 << 20
	noSpace     = 64 << 20
)

func (s *Subject) disk() Outcome {
	var texts []string
	worst := Outcome{State: OK}
	for _, dir := range []string{s.Settings.Get("GOMODCACHE").Value, os.TempDir()} {
		if !filepath.IsAbs(dir) {
			continue
		}
		at, err := nearest(dir)
		if err != nil {
			continue // its own row says so
		}
		free, _, err := store.SpaceOf(at)
		if err != nil {
			continue
		}
		text := fmt.Sprintf("%d MiB are free at %s", free>>20, at)
		switch {
		case free < noSpace:
			return s.mean(Fail, finding.DiskFull, at, text)
		case free < littleSpace && worst.State == OK:
			worst = s.mean(Warn, finding.DiskFull, at, text)
		}
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if worst.State == OK {
		if worst.Text = strings.Join(texts, ", "); len(texts) == 0 {
			return Outcome{State: Unknown, Text: "how much is free cannot be told"}
		}
	}
	return worst
}

func (s *Subject) gomod() Outcome {
	switch {
	case s.Project == "":
		return Outcome{State: NA, Text: "there is no go.mod here, so no module is asked for; --reference asks for one that everybody has"}
	case s.ProjectErr != nil && strings.Contains(s.ProjectErr.Error(), "invalid: should be v"):
		return s.suffixed(s.mean(Fail, finding.MissingMajorSuffix, s.Project, finding.OneLine(s.ProjectErr.Error(), 300)), s.ProjectErr.Error())
	case s.ProjectErr != nil:
		return s.mean(Fail, finding.GoModParse, s.Project, finding.OneLine(s.ProjectErr.Error(), 300))
	case s.Module.Path == "":
		return Outcome{State: OK, Text: s.Project + " requires nothing that goes to the proxies"}
	}
	return Outcome{State: OK, Text: fmt.Sprintf("%s; %s@%s is asked for", plural(len(s.Required), "module is required", "modules are required"), s.Module.Path, s.Module.Version)}
}
