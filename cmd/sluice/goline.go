package main

import (
	"go/build"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A goLine is the command line of a go command, as far as it tells which modules the
// command needs.
type goLine struct {
	verb string    // "build", "mod download"
	sets []flagSet // those of GOFLAGS, then its own: a later one counts
	own  int       // where its own begin
	args []string  // behind the flags
}

// A flagSet is one flag that is set. Without a value it is "true" if it takes none.
type flagSet struct{ name, value string }

var goName = regexp.MustCompile(`^go([1-9][0-9.a-z]*)?(\.exe)?$`)

// valued are the flags of the go command's verbs that take the next word for their
// value (go help build, go help run, go help test).
var valued = map[string]bool{
	"C": true, "asmflags": true, "buildmode": true, "compiler": true, "coverpkg": true, "covermode": true,
	"exec": true, "f": true, "gccgoflags": true, "gcflags": true, "installsuffix": true, "ldflags": true, "mod": true,
	"modfile": true, "o": true, "overlay": true, "p": true, "pgo": true, "pkgdir": true, "reuse": true, "tags": true, "toolexec": true,
}

// parseGo reads a command line; it reports false for other commands, of which nobody
// knows what they do with modules, and in which environment.
func parseGo(goflags string, args []string) (*goLine, bool) {
	if len(args) < 2 || !goName.MatchString(filepath.Base(args[0])) {
		return nil, false
	}
	g := &goLine{verb: args[1]}
	args = args[2:]
	if g.verb == "mod" && len(args) > 0 {
		g.verb, args = "mod "+args[0], args[1:]
	}
	for _, word := range flagWords(goflags) {
		if name, ok := strings.CutPrefix(word, "-"); ok {
			g.set(name)
		}
	}
	g.own = len(g.sets)
	anywhere := g.verb == "test" || g.verb == "vet" // their flags may follow the packages
	for ; len(args) > 0; args = args[1:] {
		name, ok := strings.CutPrefix(args[0], "-")
		switch {
		case !ok && anywhere:
			g.args = append(g.args, args[0])
			continue
		case !ok || name == "":
			g.args = args
			return g, true
		case name == "-":
			g.args = append(g.args, args[1:]...)
			return g, true
		}
		if s := g.set(name); valued[s.name] && !strings.Contains(name, "=") && len(args) > 1 {
			s.value = args[1]
			args = args[1:]
		}
	}
	return g, true
}

// set notes a flag that is written without its first dash.
func (g *goLine) set(text string) *flagSet {
	name, value, has := strings.Cut(strings.TrimPrefix(text, "-"), "=")
	if !has && !valued[name] {
		value = "true"
	}
	g.sets = append(g.sets, flagSet{name, value})
	return &g.sets[len(g.sets)-1]
}

// flagWords splits GOFLAGS as the go command does: a word may be in quotes of one kind as
// a whole (cmd/internal/quoted).
func flagWords(s string) (words []string) {
	for {
		if s = strings.TrimLeft(s, " \t\n\r"); s == "" {
			return words
		}
		end := strings.IndexAny(s, " \t\n\r")
		if s[0] == '\'' || s[0] == '"' {
			quote := s[:1]
			word, rest, ok := strings.Cut(s[1:], quote)
			if !ok {
				return words // the go command will complain
			}
			words, s = append(words, word), rest
			continue
		}
		if end < 0 {
			end = len(s)
		}
		words, s = append(words, s[:end]), s[end:]
	}
}

// value is what a flag is set to, "" if it is not.
func (g *goLine) value(name string) (value string) {
	for _, s := range g.sets {
		if s.name == name {
			value = s.value
		}
	}
	return value
}

// on reports whether a flag that is true or false is set to true.
func (g *goLine) on(name string) bool {
	on, err := strconv.ParseBool(g.value(name))
	return on && err == nil
}

// has reports whether one of the flags is set on the command line itself.
func (g *goLine) has(names ...string) bool {
	return slices.ContainsFunc(g.sets[g.own:], func(s flagSet) bool { return slices.Contains(names, s.name) })
}

// here reports whether the command takes its modules by the go.mod of the working
// directory, and its packages from what lies there.
func (g *goLine) here() bool {
	mod := g.value("mod")
	return g.value("C") == "" && g.value("modfile") == "" && g.value("overlay") == "" && (mod == "" || mod == "mod" || mod == "readonly")
}

// A share is how much a command needs of what a project names.
type share int

const (
	shareAll      share = iota // or nobody knows
	shareImported              // of the zips, those of what packages import, without their tests
	shareMods                  // no zips
	shareNone
)

// needs is how much the command needs.
func (g *goLine) needs() share {
	switch g.verb {
	case "bug", "clean", "doc", "env", "fmt", "help", "mod", "mod edit", "mod init", "telemetry", "version":
		return shareNone
	case "install", "run":
		if len(g.args) > 0 && versioned(g.args[0]) {
			return shareNone // it comes by no go.mod
		}
	}
	if !g.here() {
		return shareAll
	}
	switch g.verb {
	case "run":
		if len(g.args) > 0 && !ordinary(g.args[0]) {
			return shareAll
		}
		return shareImported
	case "build", "install", "list":
		if g.verb == "list" && g.has("m") {
			return shareMods
		}
		if g.has("test") || slices.ContainsFunc(g.args, func(s string) bool { return !ordinary(s) }) {
			return shareAll
		}
		return shareImported
	case "mod graph":
		return shareMods
	}
	return shareAll
}

// versioned reports whether an argument is a package with its version, as the go command
// tells.
func versioned(arg string) bool {
	return strings.Contains(arg, "@") && !build.IsLocalImport(arg) && !filepath.IsAbs(arg) && !strings.HasSuffix(arg, ".go")
}

// ordinary reports whether an argument names packages of which ./... leaves out none, by
// what they import: no files, whatever is written in them; no "all", which has tests.
func ordinary(arg string) bool {
	if arg == "all" || arg == "tool" || arg == "work" || strings.HasSuffix(arg, ".go") || filepath.IsAbs(arg) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(path.Clean(filepath.ToSlash(arg)), "/"), func(elem string) bool {
		return elem != "." && elem != ".." && elem != "..." && skipped(elem)
	})
}

// packages are the import paths that the command names, and patterns of them, as it reads them.
func (g *goLine) packages() (list []string) {
	args := g.args
	if g.verb == "run" {
		args = args[:min(len(args), 1)] // the others are the program's
	}
	for _, arg := range args {
		if !build.IsLocalImport(arg) {
			list = append(list, path.Clean(strings.ReplaceAll(arg, `\\`, "/")))
		}
	}
	return list
}

// context is what the command builds p for.
func (g *goLine) context(p *checkout) *build.Context {
	c := build.Default
	c.GOOS, c.GOARCH, c.CgoEnabled, c.Dir = p.vars["GOOS"], p.vars["GOARCH"], p.vars["CGO_ENABLED"] == "1", ""
	if _, minor, ok := strings.Cut(p.vars["GOVERSION"], "go1."); ok {
		minor, _, _ = strings.Cut(minor, ".")
		if n, err := strconv.Atoi(minor); err == nil { // else it is no release, and ours is near enough
			c.ReleaseTags = nil
			for ; n > 0; n-- {
				c.ReleaseTags = append(c.ReleaseTags, "go1."+strconv.Itoa(n))
			}
		}
	}
	c.BuildTags = strings.FieldsFunc(g.value("tags"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range []string{"race", "msan", "asan"} {
		if g.on(name) {
			c.BuildTags = append(c.BuildTags, name)
		}
	}
	return &c
}
