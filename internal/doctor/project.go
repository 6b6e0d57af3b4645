package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
)

// A project is the module that is examined, and the workspace that the go command
// builds it in, as they lie on the disk.
type project struct {
	dir  string        // of go.mod, absolute; "" if there is no module
	file *modfile.File // nil if go.mod cannot be read, of which its own row tells
	mode string        // the -mod of GOFLAGS; "" if it has none
	work *workspace    // nil: the go command works with go.mod alone
	out  *Outcome      // why the workspace cannot be told; nil: it can
}

// A workspace is a go.work file and the modules that it names.
type workspace struct {
	name    string // the file, absolute
	file    *modfile.WorkFile
	members []member
}

// A member is a directory that go.work uses.
type member struct {
	dir  string        // absolute
	use  string        // as go.work has it
	file *modfile.File // nil if there is no go.mod that can be read
}

// projectChecks are those of the files of the project.
func (s *Subject) projectChecks() []Check {
	p := sync.OnceValue(s.open)
	check := func(id, title string, after []string, run func(context.Context, *project, Seen) Outcome) Check {
		return Check{ID: "project." + id, Group: "Project", Title: title, After: after, Run: func(ctx context.Context, seen Seen) Outcome { return run(ctx, p(), seen) }}
	}
	quick := func(run func(*project) Outcome) func(context.Context, *project, Seen) Outcome {
		return func(_ context.Context, p *project, _ Seen) Outcome { return run(p) }
	}
	recipe := func(run func(context.Context, *project) Outcome) func(context.Context, *project, Seen) Outcome {
		return func(ctx context.Context, p *project, _ Seen) Outcome { return run(ctx, p) }
	}
	return []Check{
		check("work", "workspace", nil, quick(s.workspace)),
		check("replace", "replace lines", nil, quick(s.replace)),
		check("vendor", "vendor directory", nil, quick(s.vendor)),
		check("toolchain", "Go version", []string{"machine.go"}, func(_ context.Context, p *project, seen Seen) Outcome { return s.toolchain(p, seen) }),
		check("image", "Dockerfile", nil, recipe(s.image)),
		check("ci", "CI files", nil, recipe(s.ci)),
	}
}

// open reads the project of a subject.
func (s *Subject) open() *project {
	p := &project{mode: flagOf(s.Settings.Get("GOFLAGS").Value, "mod")}
	if !filepath.IsAbs(s.Project) || s.ProjectErr != nil {
		return p
	}
	p.dir = filepath.Dir(s.Project)
	p.file, _ = readMod(s.Project)
	p.work, p.out = s.openWork(p.dir)
	return p
}

func readMod(name string) (*modfile.File, error) {
	data, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	f, err := modfile.Parse(name, data, nil)
	if err == nil && f.Module == nil {
		err = errors.New("it has no module line")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// maxFile is the size of the largest file of a project that is looked at.
const maxFile = 16 << 20

func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", name)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d MiB, which no file of its kind has", name, info.Size()>>20)
	}
	return os.ReadFile(name)
}

// flagOf is the value of -name in GOFLAGS, of which the last one counts.
func flagOf(goflags, name string) (value string) {
	for f := range strings.FieldsSeq(goflags) {
		f = strings.Trim(f, `'"`)
		if k, v, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(f, "-"), "-"), "="); ok && k == name && f != k {
			value = strings.Trim(v, `'"`)
		}
	}
	return value
}

// openWork finds the go.work file as the go command does: GOWORK, or the first one
// upwards.
func (s *Subject) openWork(dir string) (*workspace, *Outcome) {
	set := s.Settings.Get("GOWORK")
	name := set.Value
	switch {
	case name == "off":
		return nil, nil
	case name != "" && name != "auto" && !filepath.IsAbs(name):
		out := s.mean(Fail, finding.GoEnvMalformed, "GOWORK", "GOWORK is "+from(set)+", which is no absolute path")
		out.Finding.Mend, out.Finding.Fix = "unset it, or give it an absolute path", []string{"go env GOWORK", "unset GOWORK"}
		return nil, &out
	case name == "" || name == "auto":
		if name = upwards(dir, "go.work"); name == "" {
			return nil, nil
		}
	}
	data, err := readSmall(name)
	if err != nil {
		out := s.mean(Fail, finding.WorkspaceBroken, name, fmt.Sprintf("%s cannot be read: %v; it is GOWORK, %s", name, plain(err), from(set)))
		out.Finding.Mend, out.Finding.Fix = "unset GOWORK, or name a file that is there", []string{"go env GOWORK", "unset GOWORK"}
		return nil, &out
	}
	w := &workspace{name: name}
	if w.file, err = modfile.ParseWork(name, data, nil); err != nil {
		out := s.mean(Fail, finding.GoModParse, name, finding.OneLine(err.Error(), 300))
		out.Finding.Fix = []string{"go work edit -print"}
		return nil, &out
	}
	for _, u := range w.file.Use {
		m := member{use: u.Path, dir: filepath.FromSlash(u.Path)}
		if !filepath.IsAbs(m.dir) {
			m.dir = filepath.Join(filepath.Dir(name), m.dir)
		}
		m.file, _ = readMod(filepath.Join(m.dir, "go.mod"))
		w.members = append(w.members, m)
	}
	return w, nil
}

// upwards is the file of that name in dir or the nearest directory above it; "" if
// there is none.
func upwards(dir, name string) string {
	for {
		at := filepath.Join(dir, name)
		if info, err := os.Stat(at); err == nil && !info.IsDir() {
			return at
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// files are the go.mod files that the go command works with, and their directories.
func (p *project) files() (files []*modfile.File, dirs []string) {
	if p.work == nil {
		return []*modfile.File{p.file}, []string{p.dir}
	}
	for _, m := range p.work.members {
		if m.file != nil {
			files, dirs = append(files, m.file), append(dirs, m.dir)
		}
	}
	return files, dirs
}

// replacement is what takes the place of m; false if nothing does. dir is what a
// relative path is relative to.
func (p *project) replacement(m module.Version) (r *modfile.Replace, dir string, ok bool) {
	files, dirs := p.files()
	lists := [][]*modfile.Replace{}
	for _, f := range files {
		if p.work != nil && f.Module.Mod.Path == m.Path {
			return nil, "", false // it is a member, which comes before all others
		}
		lists = append(lists, f.Replace)
	}
	if p.work != nil && slices.ContainsFunc(p.work.file.Replace, func(r *modfile.Replace) bool { return r.Old.Path == m.Path }) {
		lists, dirs = [][]*modfile.Replace{p.work.file.Replace}, []string{filepath.Dir(p.work.name)} // which outranks its modules
	}
	for i, list := range lists {
		for _, exact := range []bool{true, false} {
			for _, r := range list {
				if r.Old.Path == m.Path && (exact && r.Old.Version == m.Version || !exact && r.Old.Version == "") {
					return r, dirs[i], true
				}
			}
		}
	}
	return nil, "", false
}

// required are the requirements of all files, each once.
func (p *project) required() (all []*modfile.Require) {
	seen := map[module.Version]bool{}
	files, _ := p.files()
	for _, f := range files {
		for _, r := range f.Require {
			if !seen[r.Mod] {
				seen[r.Mod] = true
				all = append(all, r)
			}
		}
	}
	return all
}

// inDir is where a replacement leads.
func inDir(dir, path string) string {
	if path = filepath.FromSlash(path); filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// elsewhere are absolute paths such as other systems have them.
var elsewhere = regexp.MustCompile(`^(?:/|[A-Za-z]:[\\/])`)

// neverReleased are versions that nobody ever released: what a replace stands for.
var neverReleased = regexp.MustCompile(`^v[0-9]+\.0\.0(?:-00010101000000-000000000000)?$`)

func (s *Subject) replace(p *project) Outcome {
	if p.file == nil {
		return Outcome{State: NA, Text: "there is no go.mod that can be read"}
	}
	var lost, names []string
	var first *modfile.Replace
	here := 0
	for _, req := range p.required() {
		r, dir, ok := p.replacement(req.Mod)
		if !ok || r.New.Version != "" {
			continue
		}
		at := inDir(dir, r.New.Path)
		why := ""
		switch _, err := os.Stat(filepath.Join(at, "go.mod")); {
		case err == nil:
			here++
			continue
		case elsewhere.MatchString(r.New.Path) && missing(at):
			why = "an absolute path, which is on another machine"
		case missing(at):
			why = "which is not there"
		default:
			why = "which has no go.mod"
		}
		lost = append(lost, fmt.Sprintf("%s is replaced by %s, %s", r.Old.Path, r.New.Path, why))
		names = append(names, r.Old.Path)
		first = cmp.Or(first, r)
	}
	if s.vendor(p).State == OK {
		return Outcome{State: OK, Text: "they are not followed: all comes from the vendor directory"}
	}
	if len(lost) > 0 {
		out := s.mean(Fail, finding.ReplaceProblem, s.Project, strings.Join(lost, "; "))
		// A version belongs to what is dropped.
		f := finding.At(finding.ReplaceProblem, s.Place)
		f.Fix = []string{"go mod edit -dropreplace=MODULE"}
		old := first.Old.Path
		if first.Old.Version != "" {
			old += "@" + first.Old.Version
		}
		f = f.With(finding.StandInModule, old)
		out.Finding, out.Subject = &f, strings.Join(names, ", ")
		return out
	}
	if out := s.unreplaced(p); out != nil {
		return *out
	}
	switch {
	case here > 0:
		return Outcome{State: OK, Text: fmt.Sprintf("%d required modules are taken from directories that are here", here)}
	case len(p.file.Replace) == 0:
		return Outcome{State: NA, Text: "there are none"}
	}
	return Outcome{State: OK, Text: "none leads astray"}
}

func missing(name string) bool {
	_, err := os.Stat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// unreplaced finds versions that only the replace line of another module makes work:
// the go command reads those of the module that it builds, and of no other.
func (s *Subject) unreplaced(p *project) *Outcome {
	selected := map[string]string{}
	for _, r := range p.required() {
		selected[r.Mod.Path] = r.Mod.Version
	}
	cache := s.Settings.Get("GOMODCACHE").Value
	for _, req := range p.required() {
		if _, _, replaced := p.replacement(req.Mod); replaced || req.Indirect || !filepath.IsAbs(cache) || !goproxy.IsCanonical(req.Mod) {
			continue
		}
		f, err := readMod(filepath.Join(cache, "cache", "download", filepath.FromSlash(goproxy.Request{Kind: goproxy.Mod, Module: req.Mod}.Path())))
		if err != nil {
			continue // it was not fetched yet
		}
		for _, r := range f.Replace {
			i := slices.IndexFunc(f.Require, func(q *modfile.Require) bool { return q.Mod.Path == r.Old.Path })
			if i < 0 || !neverReleased.MatchString(f.Require[i].Mod.Version) {
				continue
			}
			lacks := f.Require[i].Mod
			have, listed := selected[lacks.Path]
			if _, _, replaced := p.replacement(lacks); replaced || listed && have != lacks.Version {
				continue
			}
			out := s.mean(Warn, finding.ReplaceIgnored, lacks.Path,
				fmt.Sprintf("%s requires %s at %s, which only its own replace makes work, and that holds in no other module", req.Mod, lacks.Path, lacks.Version))
			if listed { // it has to be had, whatever is built
				out.State = Fail
			} else {
				out.Finding.Confidence = finding.Medium
			}
			f := finding.At(finding.ReplaceIgnored, s.Place).With(finding.StandInModule, lacks.Path)
			f.Confidence = out.Finding.Confidence
			out.Finding = &f
			return &out
		}
	}
	return nil
}

func (s *Subject) workspace(p *project) Outcome {
	if p.dir == "" {
		return Outcome{State: NA, Text: "there is no module"}
	}
	if p.out != nil {
		return *p.out
	}
	set := s.Settings.Get("GOWORK")
	if p.work == nil {
		if name := upwards(p.dir, "go.work"); name != "" && set.Value == "off" {
			return Outcome{State: OK, Text: "GOWORK is " + from(set) + ", so " + name + " is not used"}
		}
		return Outcome{State: NA, Text: "there is no go.work"}
	}
	w := p.work
	broken := func(text, mend string, fix ...string) Outcome {
		out := s.mean(Fail, finding.WorkspaceBroken, w.name, text)
		if mend != "" {
			out.Finding.Mend, out.Finding.Fix = mend, fix
		}
		return out
	}
	at := map[string]bool{}
	for _, m := range w.members {
		if at[m.dir] {
			return broken(fmt.Sprintf("%s uses %s twice", w.name, m.use), "remove one of the two lines", "go work edit -print")
		}
		at[m.dir] = true
		if m.file != nil {
			continue
		}
		name := filepath.Join(m.dir, "go.mod")
		if _, err := readMod(name); err != nil && !missing(name) {
			return s.mean(Fail, finding.GoModParse, name, finding.OneLine(err.Error(), 300))
		}
		out := broken(fmt.Sprintf("%s uses %s, where there is no go.mod", w.name, m.use), "drop the line, or bring the directory", "go work edit -dropuse=DIR")
		f := out.Finding.With(finding.StandInDir, m.use)
		out.Finding = &f
		return out
	}
	if p.mode != "" && p.mode != "readonly" && p.mode != "vendor" {
		return broken(fmt.Sprintf("GOFLAGS has -mod=%s, which the go command does not take beside %s", p.mode, w.name), "take -mod out of GOFLAGS, or build without the workspace", "go env GOFLAGS", "export GOWORK=off")
	}
	lists := "lists"
	has := "1.18"
	if w.file.Go != nil {
		has = w.file.Go.Version
	} else {
		lists = "has no go line, which stands for"
	}
	for _, m := range w.members {
		if m.file.Go != nil && version.Compare("go"+m.file.Go.Version, "go"+has) > 0 && version.Compare("go"+m.file.Go.Version, "go1.21") >= 0 {
			return broken(fmt.Sprintf("%s requires go %s, and %s %s go %s", m.use, m.file.Go.Version, w.name, lists, has), "let go.work follow its modules", "go work use")
		}
	}
	if old, a, b := w.conflict(); old != "" {
		out := broken(fmt.Sprintf("%s is replaced by %s in one module of %s, and by %s in another", old, a, w.name, b), "say in go.work which of the two holds", "go work edit -replace=MODULE=FORK")
		f := out.Finding.With(finding.StandInModule, old)
		out.Finding = &f
		return out
	}
	if err := checkSums(filepath.Join(filepath.Dir(w.name), "go.work.sum")); err != nil {
		return s.mean(Fail, finding.GoModParse, w.name+".sum", err.Error())
	}
	if !at[p.dir] {
		out := s.mean(Fail, finding.NoModule, p.dir, fmt.Sprintf("%s is in force here, and does not use %s", w.name, p.dir))
		out.Finding.Mend, out.Finding.Fix = "list the module in go.work, or build it alone", []string{"go work use .", "export GOWORK=off"}
		return out
	}
	return Outcome{State: OK, Text: w.name + ", with " + plural(len(w.members), "module", "modules")}
}

// conflict is a module that two members replace by different things, which go.work
// does not decide.
func (w *workspace) conflict() (path, a, b string) {
	type by struct {
		new   string
		owner string
	}
	seen := map[module.Version]by{}
	for _, m := range w.members {
		for _, r := range m.file.Replace {
			if slices.ContainsFunc(w.file.Replace, func(x *modfile.Replace) bool { return x.Old.Path == r.Old.Path }) {
				continue
			}
			to := by{r.New.Path, m.dir}
			if r.New.Version == "" {
				to.new = inDir(m.dir, r.New.Path)
			} else {
				to.new += "@" + r.New.Version
			}
			if was, twice := seen[r.Old]; twice && was.owner != m.dir && was.new != to.new {
				return r.Old.Path, was.new, to.new
			}
			seen[r.Old] = to
		}
	}
	return "", "", ""
}

// checkSums says which line of a go.sum file the go command would not read. A file
// that is not there is well.
func checkSums(name string) error {
	data, err := readSmall(name)
	if err != nil {
		return nil
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		if f := strings.Fields(line); len(f) != 0 && len(f) != 3 {
			return fmt.Errorf("%s:%d: a line of it has three words, and this one %d; it may be left over from a merge", name, n, len(f))
		}
	}
	return nil
}

func (s *Subject) toolchain(p *project, seen Seen) Outcome {
	need, by := "", ""
	if p.file != nil && p.file.Go != nil {
		need, by = p.file.Go.Version, "go.mod"
	}
	if p.work != nil && p.work.file.Go != nil && (need == "" || version.Compare("go"+p.work.file.Go.Version, "go"+need) > 0) {
		need, by = p.work.file.Go.Version, "go.work"
	}
	have := seen["machine.go"]
	switch {
	case need == "":
		return Outcome{State: NA, Text: "no version of Go is asked for"}
	case have.State != OK || !version.IsValid(have.Text):
		return Outcome{State: NA, Text: "which version of Go this is cannot be told"}
	}
	set := s.Settings.Get("GOTOOLCHAIN")
	runs, what := have.Text, have.Text+" is installed"
	name, suffix, _ := strings.Cut(cmp.Or(set.Value, "auto"), "+")
	if version.IsValid(name) {
		runs, what = name, "GOTOOLCHAIN is "+from(set)
	} else if name == "auto" || name == "path" {
		suffix = name
	}
	if version.Compare(runs, "go"+need) >= 0 {
		return Outcome{State: OK, Text: fmt.Sprintf("%s asks for go %s, and %s", by, need, what)}
	}
	text := fmt.Sprintf("%s asks for go %s, and %s", by, need, what)
	if version.Compare(have.Text, "go1.21") < 0 { // which knows nothing of toolchains
		if strings.Count(need, ".") < 2 {
			return Outcome{State: OK, Text: text + ", which tries all the same"}
		}
		out := s.mean(Fail, finding.ToolchainTooOld, have.Text, text+", which cannot read such a go line")
		f := out.Finding.With(finding.StandInVersion, need)
		f.Mend, f.Fix = "install a newer Go", f.Fix[:1]
		out.Finding = &f
		return out
	}
	if suffix != "auto" && suffix != "path" {
		if name == "local" {
			text += ", and GOTOOLCHAIN is " + from(set)
		}
		out := s.mean(Fail, finding.ToolchainTooOld, "GOTOOLCHAIN", text)
		f := out.Finding.With(finding.StandInVersion, need)
		out.Finding = &f
		return out
	}
	wanted := "go" + need
	if version.Lang(wanted) == wanted && version.Compare(wanted, "go1.21") >= 0 {
		wanted += ".0"
	}
	if p.file != nil && p.file.Toolchain != nil && version.Compare(p.file.Toolchain.Name, wanted) > 0 {
		wanted = p.file.Toolchain.Name
	}
	if s.inPath(wanted) {
		return Outcome{State: OK, Text: text + "; " + wanted + " is in PATH"}
	}
	if suffix == "path" {
		return s.mean(Fail, finding.ToolchainTooOld, "GOTOOLCHAIN", fmt.Sprintf("%s, GOTOOLCHAIN is %s, and %s is not in PATH", text, from(set), wanted))
	}
	if s.cachedToolchain(wanted) {
		return Outcome{State: OK, Text: text + "; " + wanted + " is in the module cache"}
	}
	if why := s.fetchesNone(); why != "" {
		return s.mean(Fail, finding.ToolchainDownload, "GOTOOLCHAIN", text+"; "+why)
	}
	return Outcome{State: OK, Text: text + "; the go command fetches " + wanted, Fact: wants(wanted)}
}

// cachedZip reports whether the module cache in dir has the zip of a version.
func cachedZip(dir string, m module.Version) bool {
	return filepath.IsAbs(dir) && !missing(filepath.Join(dir, "cache", "download", filepath.FromSlash(goproxy.Request{Kind: goproxy.Zip, Module: m}.Path())))
}
