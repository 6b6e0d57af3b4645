// Package goenv is the go command's own settings as values: what each variable
// is, which layer it comes from and what that layer hides, and the grammars of
// GOPROXY, GOPRIVATE, GOSUMDB and GOVCS.
//
// It is not a second idea of these settings: what it reads, the go command reads
// the same way, to the mistakes it overlooks; those are reported beside. It reads
// no environment, file or process by itself: they are arguments.
//
// The rules come from "go help environment" and, where that is silent, from
// cmd/go/internal/cfg (layers, env file), modfetch (GOPROXY, GOSUMDB), vcs
// (GOVCS) and x/mod's module.MatchPrefixPatterns.
package goenv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Layer is a place where the go command finds a setting. A higher layer hides
// the lower ones.
type Layer uint8

const (
	Default   Layer = iota // built into the go command, or derived from another setting
	Toolchain              // GOROOT/go.env
	UserFile               // the file of "go env -w", named by GOENV
	Environ                // the process environment
)

// String is the layer's name for people.
func (l Layer) String() string {
	switch l {
	case Toolchain:
		return "toolchain default"
	case UserFile:
		return "go env -w file"
	case Environ:
		return "environment"
	}
	return "built-in default"
}

// A Value is one setting as the go command takes it.
type Value struct {
	Name, Value string
	Layer       Layer
	Where       string  // "FILE:LINE", "environment", "follows GOPRIVATE"; empty if built in
	Overridden  []Value // what lower layers say, the nearest first; they have no Overridden of their own
}

// Redacted is the value without the credentials that its URLs may carry.
func (v Value) Redacted() string { return Redact(v.Value) }

// A Problem is something in a layer that does not do what it seems to do. The go
// command passes over it without a word.
type Problem struct {
	File string // empty for the environment
	Line int    // 0 if it is about the whole file
	Name string // the variable meant, if known
	Text string // a sentence without capital and full stop; no credentials
}

func (p Problem) Error() string {
	switch {
	case p.File == "":
		return "environment: " + p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Settings are the layers, read once. They do not change afterwards, so they are
// safe for concurrent use.
type Settings struct {
	File     string    // the go env -w file; empty if there is none to read (GOENV=off, no home)
	Problems []Problem // in order of file and line
	Mendable bool      // MendFile puts something right in File

	environ     map[string]string
	user        map[string]fileValue
	toolchain   map[string]fileValue
	goroot      string
	defaultFile string
}

type fileValue struct{ value, where string }

// Names lists the variables this package is about.
func Names() []string {
	return []string{
		"GOPROXY", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOSUMDB", "GOVCS", "GOINSECURE", "GOAUTH",
		"GOFLAGS", "GOTOOLCHAIN", "GOMODCACHE", "GOPATH", "GOENV", "GO111MODULE",
	}
}

// Load reads the layers. environ is as os.Environ gives it. readFile reads the
// go env -w file and GOROOT/go.env; a file that matches fs.ErrNotExist is an
// empty one. goroot and userConfigDir may be empty if they are not known.
//
// Load does not fail: the go command goes on without a file that it cannot read,
// and past a line that it cannot read. Problems tells what was passed over.
func Load(environ []string, readFile func(path string) ([]byte, error), goroot, userConfigDir string) *Settings {
	s := &Settings{environ: make(map[string]string, len(environ)), goroot: goroot}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name)
		}
		// The first mention counts, as in package syscall.
		if _, dup := s.environ[name]; ok && !dup {
			s.environ[name] = value
		}
	}
	if userConfigDir != "" {
		s.defaultFile = filepath.Join(userConfigDir, "go", "env")
	}
	switch file := s.environ["GOENV"]; file {
	case "off":
	case "":
		s.File = s.defaultFile
	default:
		s.File = file
	}
	read := func(path string) map[string]fileValue {
		if path == "" || readFile == nil {
			return nil
		}
		data, err := readFile(path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				s.Problems = append(s.Problems, Problem{File: path, Text: fmt.Sprintf("cannot be read, so the go command goes on without it: %v", plainPathError(err))})
			}
			return nil
		}
		values, problems := parseEnvFile(path, data)
		s.Problems = append(s.Problems, problems...)
		s.Mendable = s.Mendable || path == s.File && len(problems) > 0 && !bytes.Equal(MendFile(data), data)
		return values
	}
	s.user = read(s.File)
	if goroot != "" {
		s.toolchain = read(filepath.Join(goroot, "go.env"))
	}
	for _, name := range slices.Sorted(maps.Keys(s.environ)) {
		if fv, ok := s.user[name]; ok && s.environ[name] == "" && fv.value != "" {
			s.Problems = append(s.Problems, Problem{Name: name, Text: fmt.Sprintf(
				"%s is set but empty, which the go command takes for not set, so the value at %s is in force", name, fv.where)})
		}
	}
	return s
}

func plainPathError(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// Get is the setting name as it is in force, with all that it hides. It is what
// "go env name" prints, but for GOENV=off, which it does not print as empty.
func (s *Settings) Get(name string) Value { return s.get(name, Environ) }

// Default is the setting as it were if nobody had set anything: that of
// GOROOT/go.env, or else the built-in one.
func (s *Settings) Default(name string) Value { return s.get(name, Toolchain) }

func (s *Settings) get(name string, top Layer) Value {
	var all []Value
	add := func(l Layer, value, where string) {
		all = append(all, Value{Name: name, Value: value, Layer: l, Where: where})
	}
	if v := s.environ[name]; v != "" && top >= Environ {
		add(Environ, v, "environment")
	}
	if name != "GOENV" { // which cannot be set in the file that it names
		// An empty value in the user's file hides GOROOT/go.env, but is
		// then replaced by what is built in.
		fv, set := s.user[name]
		set = set && top >= UserFile
		if set && fv.value != "" {
			add(UserFile, fv.value, fv.where)
		}
		if tv := s.toolchain[name]; tv.value != "" {
			if set && fv.value == "" {
				def, _ := s.builtin(name, top)
				add(UserFile, def, fv.where)
			}
			add(Toolchain, tv.value, tv.where)
		}
	}
	if def, where := s.builtin(name, top); def != "" || len(all) == 0 {
		add(Default, def, where)
	}
	v := all[0]
	v.Overridden = all[1:]
	return v
}

// builtin is what the go command takes where no layer has a value.
func (s *Settings) builtin(name string, top Layer) (value, where string) {
	switch name {
	case "GOAUTH":
		return "netrc", ""
	case "GONOPROXY", "GONOSUMDB":
		if v := s.get("GOPRIVATE", top).Value; v != "" {
			return v, "follows GOPRIVATE"
		}
	case "GOPATH":
		home := map[string]string{"windows": "USERPROFILE", "plan9": "home"}[runtime.GOOS]
		if home == "" {
			home = "HOME"
		}
		if h := s.environ[home]; h != "" {
			if def := filepath.Join(h, "go"); s.goroot == "" || def != filepath.Clean(s.goroot) {
				return def, "follows " + home
			}
		}
	case "GOMODCACHE":
		if list := filepath.SplitList(s.get("GOPATH", top).Value); len(list) > 0 && list[0] != "" {
			return filepath.Join(list[0], "pkg", "mod"), "follows GOPATH"
		}
	case "GOENV":
		return s.defaultFile, ""
	}
	return "", ""
}

// parseEnvFile reads a file of NAME=VALUE lines as cfg.readEnvFile does: no
// quotes, no trimming, no comments behind a value, and the last line counts.
func parseEnvFile(path string, data []byte) (map[string]fileValue, []Problem) {
	values := make(map[string]fileValue)
	lines := make(map[string]int) // name → line that set it
	var problems []Problem
	n := 0
	for raw := range bytes.Lines(data) {
		n++
		line := string(bytes.TrimSuffix(raw, []byte("\n")))
		problem := func(name, format string, args ...any) {
			problems = append(problems, Problem{path, n, name, fmt.Sprintf(format, args...)})
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || name[0] < 'A' || 'Z' < name[0] {
			if known, why := ignoredLine(line, ok); why != "" {
				problem(known, "the go command ignores this line: %s", why)
			}
			continue
		}
		if prev, dup := lines[name]; dup {
			problem(name, "%s is set in line %d too; this later line counts", quoteName(name), prev)
		}
		values[name] = fileValue{value, fmt.Sprintf("%s:%d", path, n)}
		lines[name] = n

		trimmed := strings.TrimSpace(name)
		switch {
		case trimmed != name:
			problem(trimmed, "the space before = makes it another variable than %s; write %[1]s= without a space", quoteName(trimmed))
		case name == "GOENV":
			problem(name, "GOENV has no effect in this file; it works in the environment only")
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			problem(name, "the value of %s is not text", quoteName(name))
		case strings.HasSuffix(value, "\r"):
			problem(name, "the line ends as on Windows, and the carriage return becomes part of the value of %s; save the file with plain line ends", quoteName(name))
		case len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]:
			problem(name, "the quotes become part of the value of %s; write it without them", quoteName(name))
		case strings.TrimSpace(value) != value:
			problem(name, "the spaces around it become part of the value of %s; remove them", quoteName(name))
		case strings.Contains(value, " #"):
			problem(name, "there are no comments behind a value: the text from # on becomes part of %s", quoteName(name))
		}
	}
	return values, problems
}

// ignoredLine says why a line is ignored, if its author may have meant something
// by it. It quotes nothing but names, since a value may hold a password.
func ignoredLine(line string, hasEqual bool) (name, why string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	if !hasEqual {
		return "", "it has no =; write NAME=VALUE"
	}
	line = strings.TrimPrefix(line, "\ufeff")
	name, _, _ = strings.Cut(line, "=")
	if f := strings.Fields(name); len(f) > 0 {
		name = f[len(f)-1]
	}
	name = strings.ToUpper(name)
	if name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" {
		return name, fmt.Sprintf("it does not begin with the name of a variable; write %s=VALUE", name)
	}
	return "", "it does not begin with the name of a variable; write NAME=VALUE"
}

func quoteName(name string) string {
	if len(name) > 40 {
		name = name[:40]
	}
	if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" {
		return name
	}
	return fmt.Sprintf("%q", name)
}
