package explain

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// What a Sluice said of a failure, whose code it is, speaks of the sources that it
// asked. The URL that the go command prints beside it is that of the Sluice, which is
// not to blame, and often enough one that lived as long as the command.

// ownLine reports whether s is what a Sluice says at the terminal, of itself or of what it
// made of a failure before. It stands among the words of the command that failed where
// both write to one file, and never is why that failed.
func ownLine(s string) bool {
	return strings.Contains(s, "sluice: ") && strings.HasPrefix(bare(s), "sluice: ")
}

// evidenceLine is how a Sluice writes who failed, and how: the first is the worst.
var evidenceLine = regexp.MustCompile(`^- (?:((?:https?|file)://[^\s"'<>]*[^\s"'<>:]): |direct: |version control: )?(.*)$`)

// gitHost is the host of a repository, in the words of git, hg and the go command.
var gitHost = regexp.MustCompile(`(?i)(?:resolve host:? '?|connect to |lookup |resolve hostname )([a-z0-9][a-z0-9.-]*[a-z0-9])`)

// blamed is whom the answer of a Sluice blames that the go command quotes at line i: a
// host, with a port only where that matters, and if the answer has a URL, where that
// begins. Both are empty if it names nobody.
func (t *text) blamed(i int) (host, base string) {
	_, last := t.serverSaid(i)
	for _, l := range t.lines[i : last+1] {
		m := evidenceLine.FindStringSubmatch(strings.TrimSpace(bare(l.text)))
		if m == nil {
			continue
		}
		raw := m[1]
		if raw == "" {
			// A repository: its URL, or at least its name.
			if raw = urls.FindString(m[2]); raw == "" {
				if g := gitHost.FindStringSubmatch(m[2]); g != nil {
					return g[1], ""
				}
				continue
			}
		}
		u, err := url.Parse(strings.TrimRight(finding.Redact(raw), ":,.;)]'"))
		if err != nil || u.Hostname() == "" {
			continue // a directory
		}
		host = u.Hostname()
		if p := u.Port(); p != "" && p != "443" && p != "80" {
			host += ":" + p
		}
		return host, u.Scheme + "://" + u.Host + "/"
	}
	return "", ""
}

// full is where a write failed for want of space.
var full = regexp.MustCompile(`(?:open|write|mkdir|create|rename|link|copy_file_range|fallocate|extract\S*) (/[^\s:"']*): (?:no space left on device|disk quota exceeded)`)

// queried is what the go command says of a go.mod that has a branch, or v1, where a version
// belongs: it asks the sources which one that is.
var queried = regexp.MustCompile(`^(?:go: )?(?:\S*[/\\])?go\.(?:mod|work):\d+: (?:require|exclude|replace) \S+: (version "[^"]*" invalid: )?reading `)

// newerGo is the version of Go that something needs.
var newerGo = regexp.MustCompile(`(?i)requires go ?(?:>= ?|version )?v?(?:go)?(1\.\d+(?:\.\d+)?(?:rc\d+)?)`)

// wantedGo is the version of Go that a line asks for; "" if it names none.
func wantedGo(line string) string {
	if m := newerGo.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

// foreignRepo is the directory of a repository that git takes for somebody else's.
var foreignRepo = regexp.MustCompile(`dubious ownership in repository at '(/[^']*)'`)

// suit leaves those commands of a fix that fit what the line says.
func (r Result) suit(f finding.Finding) finding.Finding {
	drop := func(word string) {
		f.Fix = slices.DeleteFunc(slices.Clone(f.Fix), func(cmd string) bool { return strings.Contains(cmd, word) })
	}
	switch f.Code {
	case finding.NoModule:
		// Where there is a workspace it lacks a line, and where there is none, a go.mod.
		switch low := lower(r.Line); {
		case strings.Contains(low, "go.work") || strings.Contains(low, "workspace"):
			drop("go mod init")
		case strings.Contains(low, "go.mod file not found") || strings.Contains(low, "not in a module") || strings.Contains(low, "cannot find main module"):
			drop("go work use")
		}
	case finding.PackageNotFound:
		if notInStd.MatchString(r.Line) {
			f.Why = "Its path begins with no host name, so the go command looks for it in the standard library, and nowhere else."
			f.Mend, f.Fix = "a package of your own is imported by the path of your module, which this prints, and its directory", []string{"go list -m"}
		}
	case finding.GoModParse:
		if queried.MatchString(r.Line) {
			f.Why = "In place of a version, such as v1.2.3, there is a branch or a short form, so sources are asked before go.mod is even read."
			f.Mend, f.Fix = "write a whole version into the line that is named", nil
			if r.Module != "" {
				f.Mend, f.Fix = "write a whole version into the line that is named; this shows which there is", []string{"sluice trace " + finding.StandInModule}
				f = f.About(r.Module, "")
			}
		}
	case finding.BuildVCS:
		if m := foreignRepo.FindStringSubmatch(r.Line); m != nil {
			f = f.With(finding.StandInDir, m[1])
		}
	case finding.DiskFull:
		if m := full.FindStringSubmatch(r.Line); m != nil {
			f = f.With(finding.StandInDir, m[1][:max(1, strings.LastIndexByte(m[1], '/'))])
		}
	}
	return f
}
