package explain

import (
	"regexp"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// A directory that the go command may not use is one of several, and each is mended by
// another variable.

// deniedCodes are those of what the go command cannot read, write or lock on this machine.
var deniedCodes = map[finding.Code]bool{
	finding.CacheDenied: true, finding.NoHome: true, finding.HomeDenied: true, finding.TempDenied: true, finding.ProjectDenied: true, finding.NoLocks: true,
}

var (
	// cached is a file or directory below the module cache.
	cached = regexp.MustCompile(`[/\\]pkg[/\\]mod[/\\]|[/\\]cache[/\\](?:download|vcs|lock)|@v\d`)
	// noPlace is a directory that is wanted right below one's home, or below GOPATH, which
	// therefore cannot be written: what lies in it was not even tried.
	noPlace = regexp.MustCompile(`(?i)\bmkdir (?:\S*[/\\](?:\.cache|\.config|go|pkg)|(?:/home|/users|[a-z]:\\users)[/\\][^/\\\s:]+|/nonexistent\S*): `)
	// workDir is the directory of one build. The build cache is beside it, and has no number.
	workDir = regexp.MustCompile(`[/\\]go-build\d+`)
	// ofSystem is a temporary directory that nobody has to have named.
	ofSystem = regexp.MustCompile(`(?:mkdir|stat|open) (?:/tmp|/var/tmp)(?:/|:)`)
	// ofProject is a file that the go command locks and that is none of a cache.
	ofProject = regexp.MustCompile(`\bgo\.(?:mod|sum|work|work\.sum): `)
)

// deniedAt is what the path in a line makes of code: whose directory it is that the go
// command may not use.
func deniedAt(line string, code finding.Code) finding.Code {
	switch {
	case code == finding.HomeDenied:
	case code == finding.ProjectDenied:
		if cached.MatchString(line) {
			return finding.CacheDenied // the go.mod of somebody else's module
		}
	case workDir.MatchString(line) || strings.Contains(line, "creating work dir"):
		return finding.TempDenied
	case noPlace.MatchString(line):
		return finding.HomeDenied
	}
	return code
}

// suitDenied leaves of the fix of a directory that cannot be used what fits the one that
// the line names.
func (r Result) suitDenied(f finding.Finding, place finding.Place) finding.Finding {
	low := lower(r.Line)
	switch {
	case f.Code == finding.CacheDenied && (strings.Contains(low, "go-build") || strings.Contains(low, "build cache")):
		f.Title = "the build cache cannot be used"
		f = f.Moving("GOCACHE")
	case f.Code == finding.CacheDenied && strings.Contains(low, "/go/bin/"):
		f.Title = "the directory for programs that are installed cannot be written"
		f = f.Moving("GOBIN")
	case f.Code == finding.TempDenied && ofSystem.MatchString(low) && place == finding.Terminal:
		f.Why = "Nothing can be written in the temporary directory of the system, in which the go command builds."
		f.Mend, f.Fix = "name another one, or let this user write there", []string{"ls -ld /tmp", finding.OtherTemp}
	case f.Code == finding.NoLocks && ofProject.MatchString(low) && !cached.MatchString(low):
		f.Why = "The project lies on a network share or in a mount that cannot lock files, as the go command does with go.mod."
		f.Mend, f.Fix = "work on the project on a local disk", []string{"df -hT ."}
	}
	return f
}
