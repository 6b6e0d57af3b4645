package goenv

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// Patterns is a list of module path patterns in the syntax of GOPRIVATE.
type Patterns string

// Match reports whether a pattern matches a prefix of the module path, exactly
// as the go command decides it. Broken patterns match nothing.
func (p Patterns) Match(path string) bool { return module.MatchPrefixPatterns(string(p), path) }

// Which is the first pattern that matches the module path, empty if none does.
func (p Patterns) Which(path string) string {
	for glob := range strings.SplitSeq(string(p), ",") {
		// As it stands: of several slashes at the end, the go command takes one away.
		if module.MatchPrefixPatterns(glob, path) {
			return strings.TrimSuffix(glob, "/")
		}
	}
	return ""
}

// Split lists the patterns without the empty ones.
func (p Patterns) Split() []string {
	var globs []string
	for glob := range strings.SplitSeq(string(p), ",") {
		if glob = strings.TrimSuffix(glob, "/"); glob != "" {
			globs = append(globs, glob)
		}
	}
	return globs
}

// A PatternProblem says why a pattern does not do what it seems to do.
type PatternProblem struct {
	Pattern string
	Reason  string // a predicate: "has a space around it"
	Fix     string // the pattern, or several with commas, as probably meant; may be empty
	Dead    bool   // it matches no module path at all
}

func (p PatternProblem) Error() string {
	s := fmt.Sprintf("the pattern %q %s", Redact(p.Pattern), p.Reason)
	if p.Dead {
		s += ", so it matches nothing"
	}
	if p.Fix != "" {
		s += "; write " + Redact(p.Fix)
	}
	return s
}

// CheckPatterns reports what is wrong with each of the patterns; the go command
// ignores those that are broken.
func CheckPatterns(p Patterns) []PatternProblem {
	var problems []PatternProblem
	for glob := range strings.SplitSeq(string(p), ",") {
		if glob == "" {
			continue
		}
		if pp := checkPattern(glob); pp.Reason != "" {
			pp.Pattern = glob
			if fix := mendPattern(glob); fix != glob && pp.Dead {
				pp.Fix = fix
			}
			problems = append(problems, pp)
		}
	}
	return problems
}

// class is a character class of a well-formed pattern.
var class = regexp.MustCompile(`\[(?:\\.|[^\]\\])*\]`)

func checkPattern(glob string) PatternProblem {
	dead := func(format string, args ...any) PatternProblem {
		return PatternProblem{Reason: fmt.Sprintf(format, args...), Dead: true}
	}
	glob = strings.TrimSuffix(glob, "/")
	// What stands in brackets need not be in a path that matches.
	plain := glob
	if _, err := path.Match(glob, ""); err == nil {
		plain = class.ReplaceAllString(glob, "?")
	}
	switch {
	case glob == "":
		return dead("is only a slash")
	case strings.TrimSpace(glob) != glob:
		return dead("has a space around it")
	case strings.ContainsAny(plain, " \t;|"):
		return dead("is not separated by a comma alone")
	case strings.Contains(plain, "://"):
		return dead("begins with the scheme of a URL, which module paths do not have")
	case glob == "..." || strings.HasSuffix(glob, "/..."):
		return dead("uses ..., which is no wildcard here; a pattern matches everything below it anyway")
	case strings.HasPrefix(glob, "/") || strings.Contains(glob, "//") || strings.HasSuffix(glob, "/"):
		return dead("has an empty path element")
	case strings.HasPrefix(glob, "."):
		return dead("begins with a dot")
	case strings.ContainsAny(plain, "@:"):
		return dead("has a user, a port or a version in it, which module paths do not have")
	}
	if _, err := path.Match(glob, ""); err != nil {
		return dead("is a malformed wildcard ([ without ], or a lone \\)")
	}
	if i := strings.IndexFunc(plain, func(r rune) bool {
		return (r < '0' || '9' < r) && (r < 'a' || 'z' < r) && (r < 'A' || 'Z' < r) && !strings.ContainsRune("-._~/*?[]^\\", r)
	}); i >= 0 {
		return dead("has the character %q, which module paths do not have", []rune(plain[i:])[0])
	}
	first, _, _ := strings.Cut(glob, "/")
	switch {
	case !strings.ContainsAny(first, "[\\") && strings.ToLower(first) != first:
		return dead("has a host in capital letters, and module paths have small ones")
	case strings.Contains(glob, "**"):
		return PatternProblem{Reason: "has **, which matches one path element as * does"}
	}
	for _, public := range []string{"example.com/a/b", "golang.org/x/b", "gopkg.in/a/b", "host.invalid/a/b"} {
		if !module.MatchPrefixPatterns(glob, public) {
			return PatternProblem{}
		}
	}
	return PatternProblem{Reason: "matches every module, public ones too"}
}

// mendPattern guesses what was meant.
func mendPattern(glob string) string {
	words := strings.FieldsFunc(glob, func(r rune) bool { return strings.ContainsRune(" \t\r\n;|\"'`", r) })
	for i, w := range words {
		if _, rest, ok := strings.Cut(w, "://"); ok {
			w = rest
		}
		if user, rest, ok := strings.Cut(w, "@"); ok {
			if strings.Contains(user, "/") {
				w = user // path@version
			} else {
				w = strings.Replace(rest, ":", "/", 1) // git@host:path, user@host
			}
		}
		if host, rest, ok := strings.Cut(w, ":"); ok {
			port, p, _ := strings.Cut(rest, "/")
			if strings.Trim(port, "0123456789") != "" {
				return ""
			}
			w = strings.TrimSuffix(host+"/"+p, "/")
		}
		w = strings.TrimSuffix(strings.TrimSuffix(w, "/"), "/...")
		if strings.HasPrefix(w, ".") {
			w = strings.TrimLeft(w, ".")
			if w != "" {
				w = "*." + w
			}
		}
		elems := slices.DeleteFunc(strings.Split(w, "/"), func(e string) bool { return e == "" })
		if len(elems) > 0 {
			elems[0] = strings.ToLower(elems[0])
		}
		words[i] = strings.Join(elems, "/")
		if words[i] != "" && checkPattern(words[i]).Reason != "" {
			return ""
		}
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return strings.Join(words, ",")
}

// CheckVCS reports why s is no value for GOVCS. What the go command refuses is
// refused, and so are the entries that it accepts and that never have an effect:
// systems that it does not know, patterns that match nothing.
func CheckVCS(s string) error {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil
	}
	const form = "write public:git|hg,private:all"
	have := make(map[string]bool)
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return errors.New("it has an empty entry; " + form)
		}
		pattern, list, ok := strings.Cut(item, ":")
		pattern, list = strings.TrimSpace(pattern), strings.TrimSpace(list)
		switch {
		case !ok || pattern == "" || list == "":
			return fmt.Errorf("the entry %q is not PATTERN:LIST; %s", item, form)
		case strings.HasPrefix(pattern, "./") || strings.HasPrefix(pattern, "../") || pattern == "." || pattern == "..":
			return fmt.Errorf("the pattern %q is relative, and a module path is not; %s", pattern, form)
		case have[pattern]:
			return fmt.Errorf("the pattern %q is there twice, and the first one counts; remove one", pattern)
		}
		have[pattern] = true
		if pp := checkPattern(pattern); pattern != "public" && pattern != "private" && pp.Dead {
			pp.Pattern = pattern
			return pp
		}
		for vcs := range strings.SplitSeq(list, "|") {
			switch strings.TrimSpace(vcs) {
			case "git", "hg", "svn", "bzr", "fossil", "all", "off":
			default:
				return fmt.Errorf("%q in the entry %q is none of git, hg, svn, bzr, fossil, all, off", strings.TrimSpace(vcs), item)
			}
		}
	}
	return nil
}

// AllowsVCS reports whether GOVCS, which govcs is the value of, allows a version control
// system for a module. private are the patterns of GOPRIVATE, which decide what counts
// as private. A value that CheckVCS refuses decides nothing: the go command stops at it.
func AllowsVCS(govcs string, private Patterns, path, vcs string) bool {
	for item := range strings.SplitSeq(govcs+",private:all,public:git|hg", ",") {
		pattern, list, _ := strings.Cut(item, ":")
		match := false
		switch pattern = strings.TrimSpace(pattern); pattern {
		case "":
			continue
		case "private":
			match = private.Match(path)
		case "public":
			match = !private.Match(path)
		default:
			match = Patterns(pattern).Match(path)
		}
		if !match {
			continue
		}
		for allowed := range strings.SplitSeq(list, "|") {
			if allowed = strings.TrimSpace(allowed); allowed == vcs || allowed == "all" {
				return true
			}
		}
		return false
	}
	return false
}
