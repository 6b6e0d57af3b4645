package doctor

import (
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/finding"
)

// vendored is what vendor/modules.txt says. The rules come from
// cmd/go/internal/modload/vendor.go.
type vendored struct {
	meta      map[module.Version]vendoredMeta
	list      []module.Version // those that have packages there, in order
	version   map[string]string
	replaced  []module.Version
	workspace bool // it was made by go work vendor
}

type vendoredMeta struct {
	explicit    bool
	replacement module.Version
}

func parseVendored(text string) *vendored {
	v := &vendored{meta: map[module.Version]vendoredMeta{}, version: map[string]string{}}
	first, _, _ := strings.Cut(text, "\n")
	if notes, ok := strings.CutPrefix(first, "## "); ok {
		for note := range strings.SplitSeq(notes, ";") {
			v.workspace = v.workspace || strings.TrimSpace(note) == "workspace"
		}
	}
	var mod module.Version
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "# ") {
			f := strings.Fields(line)
			if len(f) < 3 {
				continue
			}
			switch {
			case semver.IsValid(f[2]):
				mod = module.Version{Path: f[1], Version: f[2]}
				f = f[3:]
			case f[2] == "=>":
				mod = module.Version{Path: f[1]}
				f = f[2:]
			default:
				mod = module.Version{}
				continue
			}
			if len(f) >= 2 && f[0] == "=>" {
				meta := v.meta[mod]
				switch {
				case len(f) == 2:
					meta.replacement = module.Version{Path: f[1]}
					v.replaced = append(v.replaced, mod)
				case len(f) == 3 && semver.IsValid(f[2]):
					meta.replacement = module.Version{Path: f[1], Version: f[2]}
					v.replaced = append(v.replaced, mod)
				}
				v.meta[mod] = meta
			}
			continue
		}
		if mod.Path == "" {
			continue
		}
		if notes, ok := strings.CutPrefix(line, "## "); ok {
			meta := v.meta[mod]
			for note := range strings.SplitSeq(notes, ";") {
				meta.explicit = meta.explicit || strings.TrimSpace(note) == "explicit"
			}
			v.meta[mod] = meta
			continue
		}
		if f := strings.Fields(line); len(f) == 1 && module.CheckImportPath(f[0]) == nil {
			if old, ok := v.version[mod.Path]; !ok || semver.Compare(old, mod.Version) < 0 {
				v.list = append(v.list, mod)
				v.version[mod.Path] = mod.Version
			}
		}
	}
	return v
}

// vendor holds the vendor directory against go.mod, as the go command does before it
// builds from there.
func (s *Subject) vendor(p *project) Outcome {
	if p.file == nil {
		return Outcome{State: NA, Text: "there is no go.mod that can be read"}
	}
	if p.out != nil {
		return Outcome{State: NA, Text: "the workspace cannot be told"}
	}
	dir, of, does := filepath.Join(p.dir, "vendor"), p.file.Go, "go mod vendor"
	if p.work != nil {
		dir, of, does = filepath.Join(filepath.Dir(p.work.name), "vendor"), p.work.file.Go, "go work vendor"
	}
	info, err := os.Stat(dir)
	there := err == nil && info.IsDir()
	wrong := func(text string) Outcome {
		out := s.mean(Fail, finding.VendorInconsistent, "", text)
		out.Subject, out.Finding.Fix[0] = dir, does
		if s.Place != finding.Terminal && s.Place != finding.PowerShell {
			f := finding.At(finding.VendorInconsistent, finding.Terminal) // it is made where the project is worked on
			out.Finding.Fix = []string{does, f.Fix[1]}
		}
		return out
	}
	switch {
	case !there && p.mode == "vendor" && len(p.required()) > 0:
		out := wrong(fmt.Sprintf("GOFLAGS is %s, and there is no %s", from(s.Settings.Get("GOFLAGS")), dir))
		out.Finding.Mend = "make the directory, or take -mod=vendor out of GOFLAGS"
		return out
	case !there:
		return Outcome{State: NA, Text: "there is none"}
	case p.mode != "" && p.mode != "vendor":
		return Outcome{State: NA, Text: "GOFLAGS has -mod=" + p.mode + ", so it is not used"}
	}
	data, err := readSmall(filepath.Join(dir, "modules.txt"))
	v := parseVendored(string(data))
	if p.mode == "" {
		switch {
		case of == nil || version.Compare("go"+of.Version, "go1.14") < 0:
			return Outcome{State: NA, Text: "it is not used: the go line is older than 1.14"}
		case v.workspace != (p.work != nil):
			return Outcome{State: NA, Text: "it is not used: one of the two, it or the command, is for a workspace"}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrong(fmt.Sprintf("modules.txt in it cannot be read: %v", plain(err)))
	}
	if bad := p.drift(v); len(bad) > 0 {
		more := ""
		if n := len(bad) - 3; n > 0 {
			bad, more = bad[:3], fmt.Sprintf("; and %d more", n)
		}
		return wrong(strings.Join(bad, "; ") + more)
	}
	return Outcome{State: OK, Text: "it fits go.mod; " + plural(len(v.list), "module is taken from it", "modules are taken from it")}
}

// drift lists what of the vendor directory and go.mod does not fit.
func (p *project) drift(v *vendored) (bad []string) {
	say := func(m module.Version, format string, args ...any) {
		name := m.Path
		if m.Version != "" {
			name += "@" + m.Version
		}
		bad = append(bad, name+" "+fmt.Sprintf(format, args...))
	}
	files, _ := p.files()
	old := p.work == nil && (p.file.Go == nil || version.Compare("go"+p.file.Go.Version, "go1.14") < 0)
	explicit := map[module.Version]bool{}
	for _, f := range files {
		for _, r := range f.Require {
			explicit[r.Mod] = true
			if v.meta[r.Mod].explicit {
				continue
			}
			if !old {
				say(r.Mod, "is required in go.mod, and not marked as explicit in vendor/modules.txt")
			} else if has, ok := v.version[r.Mod.Path]; ok && has != r.Mod.Version {
				say(r.Mod, "is required in go.mod, and vendor has %s", has)
			}
		}
	}
	// as the go command writes it into modules.txt.
	written := func(r *modfile.Replace, dir string) module.Version {
		if r.New.Version != "" || p.work == nil || filepath.IsAbs(r.New.Path) {
			return r.New
		}
		rel, err := filepath.Rel(filepath.Dir(p.work.name), filepath.Join(dir, r.New.Path))
		if err != nil {
			return r.New
		}
		if !modfile.IsDirectoryPath(rel) {
			rel = "./" + filepath.ToSlash(filepath.Clean(rel))
		}
		return module.Version{Path: rel}
	}
	var lists [][]*modfile.Replace
	for _, f := range files {
		lists = append(lists, f.Replace)
	}
	if p.work != nil {
		lists = append(lists, p.work.file.Replace)
	}
	seen := map[module.Version]bool{}
	for _, list := range lists {
		for _, r := range list {
			if seen[r.Old] {
				continue
			}
			seen[r.Old] = true
			now, dir, ok := p.replacement(r.Old)
			was := v.meta[r.Old].replacement
			switch {
			case was == (module.Version{}):
				if ok && !(old && (r.Old.Version == "" || v.version[r.Old.Path] != r.Old.Version)) {
					say(r.Old, "is replaced in go.mod, and not in vendor/modules.txt")
				}
			case ok && was != written(now, dir):
				say(r.Old, "is replaced by %s in go.mod, and by %s in vendor/modules.txt", now.New, was)
			}
		}
	}
	for _, m := range v.list {
		if v.meta[m].explicit && !explicit[m] {
			say(m, "is marked as explicit in vendor/modules.txt, and not required in go.mod")
		}
	}
	for _, m := range v.replaced {
		if _, _, ok := p.replacement(m); !ok {
			say(m, "is marked as replaced in vendor/modules.txt, and not replaced in go.mod")
		}
	}
	return bad
}
