package doctor

import (
	"context"
	"fmt"
	"go/version"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
)

// A remark is something in a recipe, a Dockerfile or the file of a CI system, that
// breaks or weakens how modules are obtained where the recipe runs.
type remark struct {
	code  finding.Code
	file  string // relative to the project, or to its repository
	line  int
	text  string
	sure  finding.Confidence
	mend  string
	fix   []string
	place finding.Place
}

// maxRecipes is how many files of one kind are read.
const maxRecipes = 64

// image looks at the Dockerfiles of the project. What they do wrong breaks no build
// here, so it is a warning.
func (s *Subject) image(ctx context.Context, p *project) Outcome {
	if p.file == nil {
		return Outcome{State: NA, Text: "there is no go.mod that can be read"}
	}
	var names []string
	entries, _ := os.ReadDir(p.dir)
	for _, e := range entries {
		low := strings.ToLower(e.Name())
		if low == "dockerfile" || low == "containerfile" || strings.HasPrefix(low, "dockerfile.") && !strings.HasSuffix(low, ".dockerignore") || strings.HasSuffix(low, ".dockerfile") {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return Outcome{State: NA, Text: "there is no Dockerfile"}
	}
	var remarks []remark
	for _, name := range names[:min(len(names), maxRecipes)] {
		data, err := readSmall(filepath.Join(p.dir, name))
		if err != nil || ctx.Err() != nil {
			continue
		}
		r := imageReader{s: s, p: p, name: name}
		for _, ign := range []string{name + ".dockerignore", ".dockerignore"} {
			if text, err := readSmall(filepath.Join(p.dir, ign)); err == nil {
				r.ignore, r.ignoreName = parseIgnore(string(text)), ign
				break
			}
		}
		remarks = append(remarks, r.read(string(data))...)
	}
	return s.remarked(ctx, remarks, fmt.Sprintf("%s: nothing in the way of modules", strings.Join(names[:min(len(names), 4)], ", ")))
}

// remarked makes one outcome of the remarks: that of the code of the first, with all
// that it shows.
func (s *Subject) remarked(ctx context.Context, remarks []remark, fine string) Outcome {
	if ctx.Err() != nil {
		return Outcome{State: Incomplete, Text: "not all files were read"}
	}
	if len(remarks) == 0 {
		return Outcome{State: OK, Text: fine}
	}
	first := remarks[0]
	var texts []string
	for _, r := range remarks {
		if t := fmt.Sprintf("%s:%d: %s", r.file, r.line, r.text); !slices.Contains(texts, t) {
			texts = append(texts, t)
		}
	}
	out := s.mean(Warn, first.code, "", strings.Join(texts, "; "))
	f := finding.At(first.code, first.place)
	if s.Module.Path != "" {
		f = f.With(finding.StandInModule, s.Module.Path)
	}
	if first.mend != "" {
		f.Mend = first.mend
	}
	if first.fix != nil {
		f.Fix = slices.Clone(first.fix)
		for i, line := range f.Fix {
			// A setting is written as the recipe writes settings.
			if m := assignment.FindStringSubmatch(line); m != nil {
				f.Fix[i] = finding.Setting(first.place, m[1], m[2])
			}
		}
	}
	if first.sure != "" {
		f.Confidence = first.sure
	}
	out.Finding, out.Subject = &f, first.file
	return out
}

// assignment is a setting as a shell has it, whose value stands between quotes as it is.
var assignment = regexp.MustCompile(`^(GO[A-Z]+)=([^"'$\\\n]+)$`)

// private are the required modules that go past the proxies and that nothing replaces.
func (s *Subject) private(p *project) (paths []string) {
	for _, r := range p.required() {
		if _, _, replaced := p.replacement(r.Mod); !replaced && s.NoProxy.Match(r.Mod.Path) {
			paths = append(paths, r.Mod.Path)
		}
	}
	return paths
}

// An imageReader reads one Dockerfile.
type imageReader struct {
	s          *Subject
	p          *project
	name       string
	ignore     ruleset
	ignoreName string
}

var (
	downloads = regexp.MustCompile(`\bgo\s+(?:mod\s+(?:download|tidy|vendor|verify)|build|install|test|run|get|generate|vet|list)\b`)
	fetches   = regexp.MustCompile(`\bgo\s+mod\s+download\b`)
	official  = regexp.MustCompile(`^(?:docker\.io/)?(?:library/)?(golang|alpine|debian|ubuntu)$`)
	installs  = regexp.MustCompile(`\b(?:apk\s+(?:-\S+\s+)*add|apt-get\s+(?:-\S+\s+)*install|apt\s+(?:-\S+\s+)*install)\b`)
	// makesVendor is how a recipe makes the directory itself.
	makesVendor = regexp.MustCompile(`\bgo\s+(?:mod|work)\s+vendor\b`)
	gitWord     = regexp.MustCompile(`(?:^|[\s"',])git(?:[=~<>][^\s"',]*)?(?:$|[\s"',;&])`)
)

func (r imageReader) read(text string) (remarks []remark) {
	add := func(line int, code finding.Code, sure finding.Confidence, format string, args ...any) *remark {
		remarks = append(remarks, remark{code: code, file: r.name, line: line, text: fmt.Sprintf(format, args...), sure: sure, place: finding.Dockerfile})
		return &remarks[len(remarks)-1]
	}
	has := func(name string) bool { return !missing(filepath.Join(r.p.dir, name)) }
	private := r.s.private(r.p)
	seenSetting := map[int]bool{}
	for _, st := range parseDockerfile(text) {
		image, tag := splitImage(st.image)
		base := ""
		if m := official.FindStringSubmatch(image); m != nil {
			base = m[1]
		}
		at, fetched := -1, false // the first step that may fetch modules
		var all strings.Builder  // what the stage does up to there
		mod, sum := 0, false     // the line that brings go.mod, and whether go.sum is there
		vendors := false
		for i, x := range st.steps {
			for _, src := range x.copied() {
				if covers(src, "go.mod") && mod == 0 {
					mod = x.line
				}
				sum = sum || covers(src, "go.sum")
				vendors = vendors || covers(src, "vendor") && r.ignore.leavesOut("vendor/modules.txt") == 0
			}
			// What is mounted is not gone into; and what runs before go.mod is there, such as
			// the installation of a tool, is none of the project's.
			mounts := strings.Contains(x.args, "--mount=type=bind")
			if x.verb == "RUN" && downloads.MatchString(x.args) && (mod > 0 || mounts) {
				at, fetched, sum = i, fetches.MatchString(x.args), sum || mounts
				break
			}
			all.WriteString(x.verb + " " + x.args + "\n")
		}
		for _, x := range st.steps {
			if !seenSetting[x.line] {
				seenSetting[x.line] = true
				remarks = append(remarks, r.settings(x, has("vendor") || makesVendor.MatchString(text))...)
			}
		}
		if at < 0 {
			continue
		}
		run := st.steps[at]
		stageText := all.String() + run.args
		// Where the packages lie in vendor nothing is fetched.
		vendors = vendors && has("vendor") && !fetched
		if mod > 0 && has("go.sum") {
			if line := r.ignore.leavesOut("go.sum"); line > 0 {
				m := add(line, finding.RecipeNoSum, finding.High, "go.sum is left out of the image, and %s:%d works on modules", r.name, run.line)
				m.file, m.mend, m.fix = r.ignoreName, "take go.sum back in", []string{"!go.sum"}
			} else if !sum && fetched {
				m := add(run.line, finding.RecipeNoSum, finding.High, "go mod download runs without go.sum, of which line %d copies go.mod alone", mod)
				m.mend, m.fix = "copy both files before", []string{"COPY go.mod go.sum ./"}
			}
		}
		if line := r.ignore.leavesOut("go.mod"); line > 0 && mod > 0 && has("go.mod") {
			m := add(line, finding.RecipeNoSum, finding.High, "go.mod is left out of the image, and %s:%d works on modules", r.name, run.line)
			m.file, m.mend, m.fix = r.ignoreName, "take go.mod back in", []string{"!go.mod"}
		}
		if line := r.ignore.leavesOut("vendor/modules.txt"); line > 0 && strings.Contains(text, "-mod=vendor") && has("vendor") {
			m := add(line, finding.VendorInconsistent, finding.High, "vendor is left out of the image, and %s builds with -mod=vendor", r.name)
			m.file, m.mend, m.fix = r.ignoreName, "take vendor back in, or build without -mod=vendor", []string{"!vendor"}
		}
		if base == "golang" {
			if m := r.tooOld(tag, text); m != "" {
				x := add(st.line, finding.ToolchainTooOld, finding.High, "%s", m)
				x.mend, x.fix = "take an image of that version, or a newer one", []string{"FROM golang:" + r.p.file.Go.Version}
			}
		}
		if vendors || base == "" {
			continue
		}
		if len(private) > 0 {
			if !strings.Contains(text, "GOPRIVATE") && !strings.Contains(text, "GONOPROXY") && !strings.Contains(text, "GOPROXY") && !strings.Contains(text, ".config/go") {
				m := add(run.line, finding.RecipeNotPrivate, finding.Medium, "%s goes past the proxies here by %s, and nothing tells the image so", private[0], r.s.NoProxy.Which(private[0]))
				if pattern := r.s.NoProxy.Which(private[0]); plainPattern.MatchString(pattern) {
					m.fix = []string{`ENV GOPRIVATE="` + pattern + `"`}
				}
			}
			alpine := base == "alpine" || base == "golang" && strings.Contains(tag, "alpine")
			slim := base == "debian" || base == "ubuntu"
			if (alpine || slim) && !gitWord.MatchString(installed(stageText)) && !strings.Contains(stageText, "/usr/bin/git") && !strings.Contains(text, "GOPROXY") {
				m := add(run.line, finding.RecipeNoGit, finding.Medium, "%s comes by git, which %s does not have", private[0], st.image)
				if slim {
					m.fix = []string{"RUN apt-get update && apt-get install -y git ca-certificates"}
				}
			}
		}
		if (base == "debian" || base == "ubuntu") && strings.Contains(stageText, "/usr/local/go") && len(r.p.required()) > 0 && !bringsCAs(stageText) {
			add(run.line, finding.NoCABundle, finding.Medium, "%s has no certificate authorities, and nothing installs ca-certificates", st.image)
		}
		for _, req := range r.p.required() {
			rep, dir, ok := r.p.replacement(req.Mod)
			if !ok || rep.New.Version != "" || r.p.work != nil || strings.Contains(text, "-dropreplace") || !slices.ContainsFunc(st.steps[:at], step.bringsMod) {
				continue
			}
			if rel, err := filepath.Rel(r.p.dir, inDir(dir, rep.New.Path)); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
				m := add(run.line, finding.ReplaceProblem, finding.Medium, "%s is replaced by %s, which is outside of what the image is built from", req.Mod.Path, rep.New.Path)
				m.mend = "drop the replace line, or build from the directory above both"
				f := finding.At(finding.ReplaceProblem, finding.Terminal).With(finding.StandInModule, req.Mod.Path)
				m.fix = f.Fix[:1]
				break
			}
		}
	}
	return remarks
}

// plainPattern is a pattern that stands in a recipe as it is.
var plainPattern = regexp.MustCompile(`^[A-Za-z0-9_.*?/~-]+$`)

// bringsMod reports whether a step copies the go.mod of the build's own directory, so
// that this is the directory of the project.
func (s step) bringsMod() bool {
	return slices.ContainsFunc(s.copied(), func(src string) bool { return src == "go.mod" || src == "go.*" })
}

// installed is the part of a text that installs packages.
func installed(text string) string {
	var b strings.Builder
	for cmd := range strings.SplitSeq(strings.NewReplacer("&&", "\n", ";", "\n", "|", "\n").Replace(text), "\n") {
		if loc := installs.FindStringIndex(cmd); loc != nil {
			b.WriteString(cmd[loc[1]:] + "\n")
		}
	}
	return b.String()
}

// bringsCAs reports whether a stage may have certificate authorities: what apt
// installs often recommends them.
func bringsCAs(text string) bool {
	if strings.Contains(text, "ca-certificates") || strings.Contains(text, "/etc/ssl") || strings.Contains(text, "SSL_CERT") {
		return true
	}
	for cmd := range strings.SplitSeq(strings.NewReplacer("&&", "\n", ";", "\n").Replace(text), "\n") {
		if installs.MatchString(cmd) && !strings.Contains(cmd, "--no-install-recommends") {
			return true
		}
	}
	return false
}

var goTag = regexp.MustCompile(`^(1\.[0-9]+)(\.[0-9]+)?(?:-[a-z0-9.]+)*$`)

// tooOld says that an image of golang is older than go.mod asks for. These images
// have GOTOOLCHAIN=local.
func (r imageReader) tooOld(tag, text string) string {
	return r.p.tooOld(tag, "golang:", strings.Contains(text, "GOTOOLCHAIN"))
}

func (p *project) tooOld(tag, what string, switches bool) string {
	m := goTag.FindStringSubmatch(tag)
	if m == nil || p.file.Go == nil || switches {
		return ""
	}
	has, need := "go"+m[1]+m[2], "go"+p.file.Go.Version
	if m[2] == "" { // the newest of that line, whichever it is
		need = version.Lang(need)
	}
	if version.Compare(has, need) >= 0 || version.Compare(has, "go1.21") < 0 && strings.Count(p.file.Go.Version, ".") < 2 {
		return "" // Go before 1.21 only notes it, but for a go line with three numbers, which it cannot read
	}
	return fmt.Sprintf("%s%s is older than go %s, which go.mod asks for", what, tag, p.file.Go.Version)
}

// settings are the remarks on the variables of one step.
func (r imageReader) settings(x step, vendor bool) (remarks []remark) {
	var found []recipeSetting
	switch x.verb {
	case "ENV":
		name, value, ok := strings.Cut(x.args, " ")
		if strings.Contains(name, "=") {
			found = settingsIn(x.args, true)
		} else if ok && slices.Contains(recipeNames, name) {
			found = []recipeSetting{{name: name, value: strings.Trim(strings.TrimSpace(value), `"'`), lasting: true}}
		}
	case "ARG":
		found = settingsIn(x.args, true)
	case "RUN":
		found = settingsIn(x.args, false)
	}
	for _, set := range found {
		if m := r.s.judge(r.p, set, vendor); m != nil {
			m.file, m.line, m.place = r.name, x.line, finding.Dockerfile
			remarks = append(remarks, *m)
		}
	}
	return remarks
}

// A recipeSetting is a setting of the go command that a recipe makes.
type recipeSetting struct {
	name, value string
	lasting     bool // for more than the command that it stands before
}

// recipeNames are the variables that are looked at.
var recipeNames = []string{"GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOINSECURE", "GOFLAGS"}

var (
	settingEq = regexp.MustCompile(`(^|[\s;&|("'` + "`" + `])(` + strings.Join(recipeNames, "|") + `)=`)
	lastingBy = regexp.MustCompile(`(?:\bexport|\bgo\s+env\s+-w|\becho|\bprintf|-e|--env|--build-arg|^\s*-)\s*$`)
	yamlPair  = regexp.MustCompile(`^(\s*(?:-\s+)?)(?:.*[{,]\s*)?["']?(` + strings.Join(recipeNames, "|") + `)["']?\s*:\s+(.*)$`)
)

// settingsIn finds NAME=VALUE in the text of a shell, or of an ENV, which is lasting. A
// value that has a variable in it cannot be told, and is left out.
func settingsIn(text string, lasting bool) (found []recipeSetting) {
	rest := text
	for {
		m := settingEq.FindStringSubmatchIndex(rest)
		if m == nil {
			return found
		}
		name, before, value := rest[m[4]:m[5]], rest[:m[4]], rest[m[1]:]
		quote := ""
		if before != "" && strings.ContainsAny(before[len(before)-1:], `"'`) {
			quote, before = before[len(before)-1:], before[:len(before)-1]
		} else if value != "" && (value[0] == '"' || value[0] == '\'') {
			quote, value = value[:1], value[1:]
		}
		end := strings.IndexAny(value, " \t\n;&|)`\"'")
		if quote != "" {
			end = strings.Index(value, quote)
		}
		if end < 0 {
			end = len(value)
		}
		set := recipeSetting{name: name, value: value[:end], lasting: lasting || lastingBy.MatchString(before)}
		if !strings.ContainsAny(set.value, "$%`") {
			found = append(found, set)
		}
		rest = value[end:]
	}
}

// yamlSetting finds NAME: VALUE in a line of YAML. What it cannot tell on this line alone,
// such as a block or an anchor, it leaves out.
func yamlSetting(line string) (set recipeSetting, ok bool) {
	m := yamlPair.FindStringSubmatch(line)
	if m == nil {
		return set, false
	}
	value := strings.TrimSpace(m[3])
	flow := strings.Contains(line[:len(line)-len(m[3])], "{")
	switch {
	case value == "":
		return set, false
	case value[0] == '"' || value[0] == '\'':
		end := strings.IndexByte(value[1:], value[0])
		if end < 0 {
			return set, false
		}
		value = value[1 : 1+end]
	case strings.ContainsAny(value[:1], "|>&*![{#"):
		return set, false
	default:
		if i := strings.Index(value, " #"); i >= 0 {
			value = value[:i]
		}
		if flow {
			if i := strings.IndexAny(value, ",}"); i >= 0 {
				value = value[:i]
			}
		}
		value = strings.TrimSpace(value)
	}
	if value == "" || strings.ContainsAny(value, "$%`") {
		return set, false
	}
	return recipeSetting{name: m[2], value: value, lasting: true}, true
}

// judge says what is wrong with a setting of a recipe; nil if nothing is.
func (s *Subject) judge(p *project, set recipeSetting, vendor bool) *remark {
	switch set.name {
	case "GOSUMDB":
		if set.value == "off" && !vendor {
			return &remark{code: finding.VerificationOff, text: "GOSUMDB is off, so no module is checked against a checksum database"}
		}
	case "GONOSUMCHECK":
		return &remark{code: finding.VerificationOff, text: "GONOSUMCHECK is set, which the go command no longer knows"}
	case "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOINSECURE":
		if glob := broad(goenv.Patterns(set.value)); glob != "" && set.name != "GONOPROXY" {
			return &remark{code: finding.VerificationOff, text: fmt.Sprintf("%s has the pattern %s, which matches public modules too", set.name, glob)}
		}
		for _, bad := range goenv.CheckPatterns(goenv.Patterns(set.value)) {
			if bad.Dead && (set.name != "GONOPROXY" || set.value != "none") {
				m := &remark{code: finding.GoEnvMalformed, text: set.name + ": " + bad.Error(), mend: "write the pattern as module paths begin"}
				if bad.Fix != "" && plainPattern.MatchString(bad.Fix) {
					m.fix = []string{set.name + "=" + bad.Fix}
				}
				return m
			}
		}
	case "GOFLAGS":
		switch mode := flagOf(set.value, "mod"); {
		case strings.Contains(set.value, "-insecure"):
			return &remark{code: finding.VerificationOff, text: "GOFLAGS has -insecure, which the go command no longer knows"}
		case mode == "mod" && set.lasting:
			return &remark{code: finding.RecipeWeak, text: "GOFLAGS has -mod=mod, so each build may change go.mod and take other versions than those that are committed",
				mend: "take -mod=mod out of GOFLAGS, and commit what go mod tidy changes", fix: []string{"go mod tidy"}}
		case mode == "vendor" && !vendor && set.lasting:
			return &remark{code: finding.VendorInconsistent, sure: finding.Medium, text: "GOFLAGS has -mod=vendor, and the project has no vendor directory",
				mend: "take -mod=vendor out, or commit a vendor directory", fix: []string{"go mod vendor"}}
		}
	case "GOPROXY":
		if !set.lasting || vendor {
			return nil // for one command somebody had a reason
		}
		if notes, fixed := goenv.CheckProxyList(set.value); len(notes) > 0 {
			m := &remark{code: finding.GoEnvMalformed, text: "GOPROXY: " + strings.Join(notes, "; "), mend: "write the list as it was probably meant"}
			if fixed != "" && goenv.Redact(fixed) == fixed {
				m.fix = []string{"GOPROXY=" + fixed}
			}
			return m
		}
		public := 0
		for _, r := range p.required() {
			if !s.NoProxy.Match(r.Mod.Path) {
				public++
			}
		}
		switch list, err := goenv.ParseProxyList(set.value); {
		case err != nil || public == 0 || len(list) == 0:
		case list[0].Kind == goenv.Off:
			return &remark{code: finding.ProxyOff, sure: finding.Medium, text: "GOPROXY is off, so only what a cache already has can be used"}
		case list[0].Kind == goenv.Direct:
			return &remark{code: finding.RecipeWeak, text: "GOPROXY is direct, so each module comes from its own repository, which may be slow, limited or gone",
				mend: "name a proxy before direct, and your own hosts in GOPRIVATE", fix: []string{"GOPROXY=https://YOUR-PROXY,direct"}}
		}
	}
	return nil
}

// ci looks at the files of CI systems, line by line: it claims only what a line by
// itself shows.
func (s *Subject) ci(ctx context.Context, p *project) Outcome {
	if p.file == nil {
		return Outcome{State: NA, Text: "there is no go.mod that can be read"}
	}
	roots := []string{p.dir}
	for dir := p.dir; ; dir = filepath.Dir(dir) {
		if !missing(filepath.Join(dir, ".git")) {
			if dir != p.dir {
				roots = append(roots, dir)
			}
			break
		}
		if filepath.Dir(dir) == dir {
			break
		}
	}
	type recipe struct {
		root, name string
		place      finding.Place
	}
	var files []recipe
	for _, root := range roots {
		entries, _ := os.ReadDir(filepath.Join(root, ".github", "workflows"))
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".yml" || ext == ".yaml" {
				files = append(files, recipe{root, filepath.Join(".github", "workflows", e.Name()), finding.GitHub})
			}
		}
		if !missing(filepath.Join(root, ".gitlab-ci.yml")) {
			files = append(files, recipe{root, ".gitlab-ci.yml", finding.GitLab})
		}
	}
	if len(files) == 0 {
		return Outcome{State: NA, Text: "there are no files of a CI system"}
	}
	vendor := !missing(filepath.Join(p.dir, "vendor"))
	var remarks []remark
	for _, f := range files[:min(len(files), maxRecipes)] {
		data, err := readSmall(filepath.Join(f.root, f.name))
		if err != nil || ctx.Err() != nil {
			continue
		}
		for _, m := range s.ciFile(p, string(data), f.place, vendor, f.root == p.dir) {
			m.file, m.place = filepath.ToSlash(f.name), f.place
			remarks = append(remarks, m)
		}
	}
	return s.remarked(ctx, remarks, plural(len(files), "file", "files")+": nothing in the way of modules")
}

var (
	goVersionNumber = regexp.MustCompile(`^\s*(?:-\s+)?go-version:\s+(1\.[1-9]0)\s*(?:#.*)?$`)
	ciImage         = regexp.MustCompile(`^\s*(?:-\s+)?(?:image|container|name):\s+["']?((?:docker\.io/)?(?:library/)?golang:[A-Za-z0-9._-]+)["']?\s*(?:#.*)?$`)
	cacheUses       = regexp.MustCompile(`^(\s*)(?:-\s+)?uses:\s+["']?actions/cache@`)
	cacheKey        = regexp.MustCompile(`^\s*key:\s+(\S.*)$`)
	cachePath       = regexp.MustCompile(`go/pkg/mod|GOMODCACHE`)
	untold          = regexp.MustCompile(`\$\{\{\s*(?:env|steps|needs|inputs|matrix|vars|github\.(?:sha|run_))`)
)

// ciFile reads one file. own says that it belongs to this module alone.
func (s *Subject) ciFile(p *project, text string, place finding.Place, vendor, own bool) (remarks []remark) {
	n := 0
	cache, key, keyLine, mods := -1, "", 0, false // of the step that is being read
	endCache := func() {
		if cache >= 0 && mods && key != "" && !strings.Contains(key, "hashFiles") && !untold.MatchString(key) {
			remarks = append(remarks, remark{code: finding.RecipeWeak, line: keyLine, sure: finding.Medium,
				text: "the key of the module cache has nothing of go.sum in it, so what was stored first is never replaced",
				mend: "put the hash of go.sum into the key", fix: []string{"key: ${{ runner.os }}-go-${{ hashFiles('**/go.sum') }}"}})
		}
		cache, key, mods = -1, "", false
	}
	for raw := range strings.Lines(text) {
		n++
		line := strings.TrimRight(raw, "\r\n")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if cache >= 0 && (indent < cache || indent == cache && strings.HasPrefix(trimmed, "- ")) {
			endCache()
		}
		if m := cacheUses.FindStringSubmatch(line); m != nil && place == finding.GitHub {
			endCache()
			cache = indent
			if !strings.HasPrefix(trimmed, "- ") {
				cache = max(indent-2, 0) // the dash of the step
			}
		} else if cache >= 0 {
			if m := cacheKey.FindStringSubmatch(line); m != nil {
				key, keyLine = m[1], n
			}
			mods = mods || cachePath.MatchString(line)
		}
		if m := goVersionNumber.FindStringSubmatch(line); m != nil && place == finding.GitHub {
			remarks = append(remarks, remark{code: finding.ToolchainTooOld, line: n,
				text: fmt.Sprintf("%s without quotes is the number %s, so an older Go is installed", m[1], strings.TrimSuffix(m[1], "0")),
				mend: "put the version in quotes, or take it from go.mod", fix: []string{fmt.Sprintf("go-version: '%s'", m[1]), "go-version-file: go.mod"}})
		}
		if m := ciImage.FindStringSubmatch(line); m != nil && own {
			_, tag := splitImage(m[1])
			if why := p.tooOld(tag, "golang:", strings.Contains(text, "GOTOOLCHAIN")); why != "" {
				remarks = append(remarks, remark{code: finding.ToolchainTooOld, line: n, sure: finding.Medium, text: why,
					mend: "take an image of that version, or a newer one", fix: []string{"image: golang:" + p.file.Go.Version}})
			}
		}
		var found []recipeSetting
		if set, ok := yamlSetting(line); ok {
			found = []recipeSetting{set}
		} else if i := strings.Index(line, " #"); i >= 0 {
			found = settingsIn(line[:i], false)
		} else {
			found = settingsIn(line, false)
		}
		for _, set := range found {
			if m := s.judge(p, set, vendor || !own && set.name == "GOFLAGS" || makesVendor.MatchString(text)); m != nil {
				m.line = n
				remarks = append(remarks, *m)
			}
		}
	}
	endCache()
	return remarks
}
