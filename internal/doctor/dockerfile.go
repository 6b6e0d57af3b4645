package doctor

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// A step is one instruction of a Dockerfile.
type step struct {
	line int
	verb string // in capitals
	args string // continued lines joined, heredocs and all
}

// A stage is what one FROM begins, with the steps of the stage that it is built on
// before its own.
type stage struct {
	name  string // in small letters; "" if it has none
	image string // what FROM names, with the defaults of arguments filled in
	line  int
	steps []step
}

// A heredoc is text below an instruction, up to a line that is its end; tabs may stand
// before that.
type heredoc struct {
	end  string
	tabs bool
}

var (
	dockerEscape = regexp.MustCompile("^#\\s*escape\\s*=\\s*([\\\\`])\\s*$")
	// A word of its own, as BuildKit has it: << in the midst of one is a shift.
	dockerHere = regexp.MustCompile(`(?:^|\s)[0-9]*<<(-?)([^<\s]+)`)
	dockerArg  = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}?`)
)

// parseDockerfile reads the stages of a Dockerfile. What it does not understand it
// passes over. The rules come from the Dockerfile reference.
func parseDockerfile(text string) (stages []stage) {
	escape := `\`
	var steps []step
	var now *step
	var heres []heredoc // those that are open
	directives := true
	n := 0
	for raw := range strings.Lines(text) {
		n++
		line := strings.TrimRight(raw, "\r\n")
		trimmed := strings.TrimSpace(line)
		if len(heres) > 0 {
			end := line
			if heres[0].tabs {
				end = strings.TrimLeft(line, "\t")
			}
			if end == heres[0].end {
				if heres = heres[1:]; len(heres) == 0 {
					steps, now = append(steps, *now), nil
				}
				continue
			}
			// A comment for a shell, as one between the lines of an instruction.
			if now.verb != "RUN" || !strings.HasPrefix(trimmed, "#") {
				now.args += "\n" + line
			}
			continue
		}
		if directives {
			if m := dockerEscape.FindStringSubmatch(trimmed); m != nil {
				escape = m[1]
			}
			directives = strings.HasPrefix(trimmed, "#")
		}
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue // also in the middle of an instruction
		}
		goesOn := strings.HasSuffix(trimmed, escape)
		trimmed = strings.TrimSpace(strings.TrimSuffix(trimmed, escape))
		if now == nil {
			verb, args, _ := strings.Cut(trimmed, " ")
			if i := strings.IndexByte(verb, '\t'); i >= 0 {
				verb, args = verb[:i], verb[i+1:]+" "+args
			}
			now = &step{line: n, verb: strings.ToUpper(verb), args: strings.TrimSpace(args)}
		} else {
			now.args += " " + trimmed
		}
		if goesOn {
			continue
		}
		if slices.Contains([]string{"RUN", "COPY", "ADD"}, now.verb) {
			for _, m := range dockerHere.FindAllStringSubmatch(now.args, -1) {
				heres = append(heres, heredoc{strings.Trim(m[2], `"'`), m[1] != ""})
			}
		}
		if len(heres) == 0 {
			steps, now = append(steps, *now), nil
		}
	}
	if now != nil {
		steps = append(steps, *now)
	}
	global := map[string]string{}
	for _, st := range steps {
		if st.verb == "ARG" && len(stages) == 0 {
			if name, value, ok := strings.Cut(st.args, "="); ok {
				global[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
			}
			continue
		}
		if st.verb == "FROM" {
			stages = append(stages, newStage(st, global, stages))
		} else if len(stages) > 0 {
			last := &stages[len(stages)-1]
			last.steps = append(last.steps, st)
		}
	}
	return stages
}

func newStage(from step, global map[string]string, before []stage) stage {
	s := stage{line: from.line}
	words := slices.DeleteFunc(strings.Fields(from.args), func(w string) bool { return strings.HasPrefix(w, "--") })
	if len(words) == 0 {
		return s
	}
	if len(words) >= 3 && strings.EqualFold(words[1], "as") {
		s.name = strings.ToLower(words[2])
	}
	s.image = dockerArg.ReplaceAllStringFunc(words[0], func(v string) string {
		m := dockerArg.FindStringSubmatch(v)
		if value, ok := global[m[1]]; ok {
			return value
		}
		if m[2] != "" {
			return m[2]
		}
		return v
	})
	for _, b := range before {
		if b.name != "" && b.name == strings.ToLower(s.image) {
			s.image, s.steps = b.image, slices.Clone(b.steps)
		}
	}
	return s
}

// splitImage takes the name of an image apart; a digest is no tag.
func splitImage(image string) (name, tag string) {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], image[i+1:]
	}
	return image, ""
}

// copied are the sources of a COPY or ADD from the build's own directory; none of one
// from elsewhere.
func (s step) copied() (sources []string) {
	if s.verb != "COPY" && s.verb != "ADD" {
		return nil
	}
	args := s.args
	if i := strings.IndexByte(args, '\n'); i >= 0 {
		args = args[:i]
	}
	for {
		if !strings.HasPrefix(args, "--") {
			break
		}
		flag, rest, _ := strings.Cut(args, " ")
		if strings.HasPrefix(flag, "--from=") {
			return nil
		}
		args = strings.TrimSpace(rest)
	}
	var words []string
	if strings.HasPrefix(args, "[") {
		for w := range strings.SplitSeq(strings.Trim(args, "[]"), ",") {
			words = append(words, strings.Trim(strings.TrimSpace(w), `"`))
		}
	} else {
		words = strings.Fields(args)
	}
	if len(words) < 2 {
		return nil
	}
	for _, w := range words[:len(words)-1] {
		if strings.HasPrefix(w, "<<") || strings.Contains(w, "://") {
			continue
		}
		sources = append(sources, strings.TrimPrefix(path.Clean("/"+w), "/"))
	}
	return sources
}

// covers reports whether copying source brings the file of that name, which lies in
// the build's own directory.
func covers(source, name string) bool {
	if source == "" || source == "." {
		return true
	}
	ok, err := path.Match(source, name)
	return err == nil && ok
}

// A ruleset is a .dockerignore file.
type ruleset []ignoreRule

type ignoreRule struct {
	line int
	not  bool
	re   *regexp.Regexp
}

// parseIgnore reads a .dockerignore file. A line that is no pattern is passed over.
// The rules come from github.com/moby/patternmatcher.
func parseIgnore(text string) (rules ruleset) {
	n := 0
	for raw := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		if strings.HasPrefix(raw, "#") {
			continue
		}
		p := strings.TrimSpace(raw)
		r := ignoreRule{line: n}
		if strings.HasPrefix(p, "!") {
			r.not, p = true, strings.TrimSpace(p[1:])
		}
		if p == "" {
			continue
		}
		p = strings.TrimPrefix(path.Clean("/"+p), "/")
		if p == "" {
			continue
		}
		if r.re = globRegexp(p); r.re != nil {
			rules = append(rules, r)
		}
	}
	return rules
}

// globRegexp makes a regular expression of a pattern; nil if it is none.
func globRegexp(p string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case strings.HasPrefix(p[i:], "**/"):
			b.WriteString("(.*/)?")
			i += 2
		case strings.HasPrefix(p[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '[':
			end := strings.IndexByte(p[i:], ']')
			if end < 2 {
				return nil
			}
			set := strings.ReplaceAll(p[i+1:i+end], `\`, `\\`)
			b.WriteString("[" + strings.ReplaceAll(set, "[", `\[`) + "]")
			i += end
		case c == '\\' && i+1 < len(p):
			i++
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		}
	}
	b.WriteString("(/.*)?$") // what is below a directory that is left out is left out
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil
	}
	return re
}

// leavesOut is the number of the line that leaves a file out; 0 if it is not.
func (rs ruleset) leavesOut(name string) (line int) {
	for _, r := range rs {
		if r.re.MatchString(name) {
			if line = r.line; r.not {
				line = 0
			}
		}
	}
	return line
}
