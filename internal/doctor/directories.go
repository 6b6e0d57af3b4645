package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modcache"
)

// homeless is the outcome where what failed needs a home directory, and none is named.
func (s *Subject) homeless(text string) Outcome {
	out := s.mean(Fail, finding.NoHome, "HOME", text)
	// go env -w writes to a file below HOME, so it cannot mend this.
	f := *out.Finding
	if home := s.SystemHome; plainDir(home) {
		f.Mend, f.Fix = "set HOME, as a login does", []string{finding.Setting(s.Place, "HOME", home)}
	} else {
		f.Mend = "set HOME, or name directories for what is downloaded and built"
		f.Fix = []string{finding.Setting(s.Place, "GOPATH", "/tmp/go"), finding.Setting(s.Place, "GOCACHE", "/tmp/gocache")}
	}
	out.Finding = &f
	return out
}

// gopath is the first directory of GOPATH; "" if there is none.
func (s *Subject) gopath() string {
	if list := filepath.SplitList(s.Settings.Get("GOPATH").Value); len(list) > 0 {
		return list[0]
	}
	return ""
}

// above reports whether dir is at or above path.
func above(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// try makes and removes an empty file in dir, or in the nearest directory above it that
// is there, as nothing else shows whether one may. It says where, and what look finds of
// the file, which may be nil.
func try(dir string, look func(*os.File) error) (at string, err error) {
	if at, err = nearest(dir); err != nil {
		return at, err
	}
	f, err := os.CreateTemp(at, ".sluice-doctor-*")
	if err != nil {
		return at, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if look != nil {
		err = look(f)
	}
	return at, err
}

// errNoLocks is that of a file that cannot be locked.
var errNoLocks = errors.New("files there cannot be locked")

func (s *Subject) modcache() Outcome {
	v := s.Settings.Get("GOMODCACHE")
	dir := v.Value
	if !filepath.IsAbs(dir) {
		return Outcome{State: NA, Text: "there is none"}
	}
	for _, d := range []string{dir, filepath.Join(dir, "cache", "download")} {
		at, err := try(d, func(f *os.File) error {
			if err := modcache.Lockable(f); err != nil {
				return fmt.Errorf("%w: %w", errNoLocks, plain(err))
			}
			return nil
		})
		switch {
		case err == nil:
			continue
		case errors.Is(err, errNoLocks):
			return s.mean(Fail, finding.NoLocks, at, fmt.Sprintf("at %s, %v", at, err))
		case v.Where == "follows GOPATH" && above(at, s.gopath()):
			return s.denied(Fail, at, err)
		}
		return s.mean(Fail, finding.CacheDenied, dir, fmt.Sprintf("nothing can be written at %s: %v", at, plain(err)))
	}
	return Outcome{State: OK, Text: "it can be written"}
}

// denied is the outcome of a home directory, or of another place for GOPATH, that
// cannot be written: moving one cache alone would not help.
func (s *Subject) denied(state State, at string, err error) Outcome {
	return s.mean(state, finding.HomeDenied, at, fmt.Sprintf("nothing can be written at %s, where the go command keeps its files: %v", at, plain(err)))
}

// records is the check of where the go command writes down what it saw of the checksum
// database, which follows GOPATH and not GOMODCACHE. It does so where it looks something
// up, so what go.sum has needs no such place.
func (s *Subject) records() Outcome {
	_, known := s.Sums[s.Module]
	switch v := s.Settings.Get("GOMODCACHE"); {
	case s.SumDB == nil || s.Module.Path == "" || s.NoSumDB.Match(s.Module.Path) || known:
		return Outcome{State: NA, Text: "nothing has to be looked up"}
	case v.Where == "follows GOPATH" || v.Value == "":
		return Outcome{State: NA, Text: "they are beside the module cache"}
	case s.gopath() == "":
		return s.homeless("HOME and GOPATH are not set, so the go command has no place for what it sees of the checksum database")
	}
	dir := filepath.Join(s.gopath(), "pkg", "sumdb")
	if at, err := try(dir, nil); err != nil {
		return s.denied(Fail, at, err)
	}
	return Outcome{State: OK, Text: dir + " can be written"}
}

// buildcache is the check of where the go command keeps what it has built. Modules come
// without it, and nothing is built: that is a warning.
func (s *Subject) buildcache() Outcome {
	if !s.HasGo {
		return Outcome{State: NA, Text: "there is no go command"}
	}
	if s.Settings.Get("GOMODCACHE").Value == "" {
		return Outcome{State: NA, Text: "that there is no home directory is told beside"}
	}
	v := s.Settings.Get("GOCACHE")
	dir := v.Value
	if dir == "" {
		switch base := s.cacheHome(); {
		case base == "":
			out := s.homeless("HOME and GOCACHE are not set, so the go command has no place for what it builds")
			out.State = Warn
			return out
		default:
			dir = filepath.Join(base, "go-build")
		}
	}
	if !filepath.IsAbs(dir) {
		out := s.mean(Warn, finding.GoEnvMalformed, "GOCACHE", "GOCACHE is "+from(v)+", which is no absolute path, and the go command builds nothing without it")
		out.Finding.Mend = "leave it out, or name a whole path"
		if s.Place == finding.Terminal || s.Place == finding.PowerShell {
			out.Finding.Fix = s.unset([]string{"GOCACHE"})
		}
		return out
	}
	at, err := try(dir, nil)
	switch {
	case err == nil:
		return Outcome{State: OK, Text: "it can be written"}
	case v.Value == "" && at != dir && above(at, filepath.Dir(dir)):
		return s.denied(Warn, at, err)
	}
	out := s.mean(Warn, finding.CacheDenied, dir, fmt.Sprintf("nothing can be written at %s, so nothing can be built: %v", at, plain(err)))
	f := finding.At(finding.CacheDenied, s.Place).Moving("GOCACHE")
	out.Finding = &f
	return out
}

// variable is an environment variable that is none of the go command's.
func (s *Subject) variable(name string) string {
	if v := s.Settings.Get(name); v.Layer == goenv.Environ {
		return v.Value
	}
	return ""
}

// cacheHome is where the caches of programs are by the rules of os.UserCacheDir; "" if
// the environment does not say.
func (s *Subject) cacheHome() string {
	switch home := s.variable("HOME"); {
	case runtime.GOOS == "windows":
		return s.variable("LOCALAPPDATA")
	case runtime.GOOS == "darwin" && home != "":
		return filepath.Join(home, "Library", "Caches")
	case runtime.GOOS != "darwin" && s.variable("XDG_CACHE_HOME") != "":
		return s.variable("XDG_CACHE_HOME")
	case home != "":
		return filepath.Join(home, ".cache")
	}
	return ""
}

// temporary is the check of the directory in which the go command builds. Modules come
// without it.
func (s *Subject) temporary() Outcome {
	if !s.HasGo {
		return Outcome{State: NA, Text: "there is no go command"}
	}
	var bad, texts []string
	look := func(name, dir string) bool {
		at, err := try(dir, nil)
		switch {
		case err != nil:
			err = plain(err)
		case at != dir:
			err = errors.New("it is not there")
		default:
			return true
		}
		where := dir
		if name != "" {
			where, bad = name+" is "+dir, append(bad, name)
		}
		texts = append(texts, fmt.Sprintf("%s: %v", where, err))
		return false
	}
	name, dir := "GOTMPDIR", s.Settings.Get("GOTMPDIR").Value
	ok := dir == "" || look(name, filepath.Clean(dir))
	// The system's is what is left, and what the go command has for repositories.
	if d := s.variable("TMPDIR"); runtime.GOOS != "windows" && d != "" {
		ok = look("TMPDIR", filepath.Clean(d)) && ok
	} else {
		ok = look("", filepath.Clean(os.TempDir())) && ok
	}
	if ok {
		return Outcome{State: OK, Text: "it can be written"}
	}
	out := s.mean(Warn, finding.TempDenied, strings.Join(bad, ", "), strings.Join(texts, "; ")+"; the go command builds in it")
	f := *out.Finding
	switch {
	case s.Place != finding.Terminal && s.Place != finding.PowerShell:
	case len(bad) > 0:
		f.Mend, f.Fix = "leave the variable out, or make the directory", s.unset(bad)
	case s.Place == finding.Terminal:
		f.Mend, f.Fix = "name another directory, or let this user write there", []string{finding.OtherTemp}
	}
	if s.Settings.Get(name).Layer == goenv.UserFile && len(bad) > 0 && bad[0] == name {
		f.Changes = []finding.Change{{Kind: finding.UnsetGoEnv, Name: name}}
	}
	out.Finding = &f
	return out
}

// writable is the check of whether the go command may add to go.sum what it lacks. A
// project that nobody may write is well where it lacks nothing. The files are opened,
// and not changed.
func (s *Subject) writable() Outcome {
	switch _, known := s.Sums[s.Module]; {
	case !filepath.IsAbs(s.Project) || s.ProjectErr != nil || !s.HasGo:
		return Outcome{State: NA, Text: "there is no go.mod that can be read"}
	case s.Module.Path == "" || known:
		return Outcome{State: NA, Text: "nothing is known to be missing in them"}
	case !missing(filepath.Join(filepath.Dir(s.Project), "vendor", "modules.txt")):
		return Outcome{State: NA, Text: "builds take what is in the vendor directory"}
	}
	for _, name := range []string{s.Project, strings.TrimSuffix(s.Project, ".mod") + ".sum"} {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return s.mean(Fail, finding.ProjectDenied, name, fmt.Sprintf("go.sum has no line for %s, and %s cannot be written: %v", s.Module, name, plain(err)))
	}
	return Outcome{State: OK, Text: "they can be"}
}
