package explain

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"

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

// having is a line below "found package in multiple modules". The main module has no version.
var having = regexp.MustCompile(`^\s*([^\s()]+\.[^\s()]+)(?: (v[^\s()]+))? \(`)

// outer is that of the modules named below line i which the others lie in. A package that
// several have was moved out of it, so a newer version of it lacks the package. It is
// none if they are not named, or if it is the main module.
func (t *text) outer(i int) (mod module.Version) {
	for _, l := range t.lines[i+1 : min(i+9, len(t.lines))] {
		m := having.FindStringSubmatch(bare(l.text))
		if m == nil || module.CheckPath(m[1]) != nil {
			break
		}
		if mod.Path == "" || len(m[1]) < len(mod.Path) {
			mod = module.Version{Path: m[1], Version: m[2]}
		}
	}
	if mod.Version == "" {
		return module.Version{}
	}
	return mod
}

// gone is a directory that go.work lists and that is not there, or has no go.mod.
var gone = regexp.MustCompile(`cannot load module ([\w./-]+) listed in go\.work file: open .*: (?:no such file|The system cannot find)`)

// advised is the program that the go command itself advises to install.
var advised = regexp.MustCompile(`Try 'go install ([^\s'@]+)@latest`)

// suit leaves those commands of a fix that fit what the line says; place is what they are
// written for.
func (r Result) suit(f finding.Finding, place finding.Place) finding.Finding {
	drop := func(word string) {
		f.Fix = slices.DeleteFunc(slices.Clone(f.Fix), func(cmd string) bool { return strings.Contains(cmd, word) })
	}
	switch f.Code {
	case finding.NoModule:
		// Where there is a workspace it lacks a line, and where there is none, a go.mod.
		switch low := lower(r.Line); {
		case strings.Contains(low, "'go install' requires a version"):
			f.Why = "Outside a module nothing says which version of the program is meant, so the command has to."
			f.Mend = "name a version"
			drop("go work use")
			f = installs(f)
			if m := advised.FindStringSubmatch(r.Line + r.next); m != nil {
				f = f.With(finding.StandInModule, m[1])
			}
		case strings.Contains(low+lower(r.next), "'go get' is no longer supported outside a module"):
			f.Why = "Since Go 1.18 go get only changes the go.mod of a module, and there is none here; it no longer installs programs."
			f.Mend = "for a program take go install, with a version; for a dependency go to the directory of your module"
			drop("go work use")
			f = installs(f)
		case gone.MatchString(r.Line):
			dir := gone.FindStringSubmatch(r.Line)[1] // as seen from where the command ran
			for strings.HasPrefix(dir, "../") || strings.HasPrefix(dir, "./") {
				_, dir, _ = strings.Cut(dir, "/")
			}
			if !strings.HasPrefix(dir, "/") {
				dir = "./" + dir
			}
			f.Why = "The file go.work lists a directory in which there is no go.mod."
			f.Mend = "bring the directory, or drop its line, as go.work has it"
			f.Fix = []string{"go work edit -dropuse=" + dir}
		case strings.Contains(low, "go.work") || strings.Contains(low, "workspace"):
			drop("go mod init")
		case strings.Contains(low, "go.mod file not found") || strings.Contains(low, "not in a module") || strings.Contains(low, "cannot find main module"):
			drop("go work use")
		}
	case finding.GoEnvMalformed:
		if strings.Contains(r.Line, "invalid GOTOOLCHAIN") {
			f.Why = "GOTOOLCHAIN names no toolchain, and without one no go command runs, go env neither."
			f.Mend = "give it a value that is one: auto, local, path, or a release such as go1.26.0; a variable outranks what go env -w wrote"
			drop("go env")
			f.Fix = append([]string{finding.Setting(place, "GOTOOLCHAIN", "auto")}, f.Fix...)
		}
	case finding.SourceWrongAnswer:
		if strings.Contains(lower(r.Line), "server gave http response to https client") {
			f.Why = "It speaks plain http at that address and port, where GOPROXY says https."
			f.Mend = "write http:// for it in GOPROXY, or the port at which it has TLS"
			drop("go env -w")
			drop("export ")
		}
	case finding.SourceDNS:
		if low := lower(r.Line); strings.Contains(low, "network is unreachable") && !strings.Contains(low, "[") && (place == finding.Terminal || place == finding.PowerShell) {
			f.Why = "No network leads to the name server. This machine may have none: the link or a VPN is down, or a container has no network."
			f.Mend, f.Fix = "bring the network up; sluice doctor tells whether it is the network", []string{"sluice doctor"}
		}
	case finding.SourceTLSHostname:
		if strings.Contains(r.Line, "doesn't contain any IP SANs") {
			f.Why = "It was asked by its IP address, and its certificate is made out to names only."
			f.Mend = "write the name that the certificate has in place of the address; or have a certificate made that has the address too"
			drop("getent")
			drop("Resolve-DnsName")
		}
	case finding.UnknownRevision:
		if strings.Contains(lower(r.Line), ": retracted by module author") {
			f.Title = "the version has been retracted by its author"
			f.Why = "It is there and can be had; its author advises against it. The go command warns, and goes on."
			f.Mend = "take another version"
		}
	case finding.PackageNotFound:
		if strings.Contains(lower(r.Line), "is relative, but relative import") {
			f.Why = "In a module a package is not imported by ./ or ../ but by the path of its module and its directory."
			f.Mend, f.Fix = "put the path of your module, which this prints, in place of the dots", []string{"go list -m"}
		}
		if strings.Contains(lower(r.Line), "is not a main package") {
			f.Title = "the package is a library, and no program"
			f.Why = "It is there, but only a package main can be installed or run."
			f.Mend = "name the package of a command; see which packages the module has"
		}
		if notInStd.MatchString(r.Line) {
			f.Why = "Its path begins with no host name, so the go command looks for it in the standard library, and nowhere else."
			f.Mend, f.Fix = "a package of your own is imported by the path of your module, which this prints, and its directory", []string{"go list -m"}
		}
	case finding.ReplaceProblem:
		if strings.Contains(lower(r.Line), "more replace directives") {
			f.Title = "a module with replace lines cannot be installed by its version"
			f.Why = "Replace lines hold only in the module that is built. With go install and a version, that is none, so it refuses."
			f.Mend = "fetch the repository, and run go install without a version in it"
			drop("-dropreplace")
		}
	case finding.VCSRepoNotFound, finding.VCSRejected:
		// The repository is known even where the module is not.
		if repo, ok := strings.CutPrefix(urls.FindString(r.Line+" "+r.next), "https://"); ok && r.Module == "" {
			f = f.With(finding.StandInModule, repo)
		}
		drop("git ls-remote https://" + finding.StandInModule) // nobody knows of which
	case finding.ImportCase:
		if m := twoSpellings.FindStringSubmatch(r.Line); m != nil {
			f = f.With(finding.StandInModule, m[1])
		}
	case finding.CacheDenied, finding.TempDenied, finding.NoLocks:
		f = r.suitDenied(f, place)
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
	switch own, perhaps := r.ownHost(); {
	case own:
		f = finding.NoMirror(f)
	case perhaps && (f.Code == finding.SourceConnectTimeout || f.Code == finding.SourceRefused):
		f.Mend = "if it is a host of your own network, join that, such as by its VPN; if not, something answers for its name, and a mirror is reached past it"
	}
	return f
}

// ownHost reports whether the failure is about a host of somebody's own network that
// has the module itself, by its name; perhaps, if only the address it led to is of such
// a network: a portal or a filter gives one for public names, too.
func (r Result) ownHost() (own, perhaps bool) {
	host, _, _ := strings.Cut(lower(r.Host), ":")
	if first, _, _ := strings.Cut(lower(r.Module), "/"); host == "" || first != host {
		return false, false
	}
	if finding.OwnNetwork(host) {
		return true, true
	}
	m := dialedAt.FindStringSubmatch(r.Line)
	if m == nil {
		return false, false
	}
	ip, err := netip.ParseAddr(m[1])
	return false, err == nil && ip.IsPrivate()
}

// dialedAt is the address that somebody connected to.
var dialedAt = regexp.MustCompile(`dial tcp \[?([0-9A-Fa-f.:]+)\]?:[0-9]+:`)

// twoSpellings is a package that is imported in two spellings, in the first of them.
var twoSpellings = regexp.MustCompile(`import collision: "([^"\s]+)" and "`)

// installs is f with go install in place of go mod init.
func installs(f finding.Finding) finding.Finding {
	f.Fix = slices.Clone(f.Fix)
	for i, cmd := range f.Fix {
		f.Fix[i] = strings.ReplaceAll(cmd, "go mod init example.com/app", "go install "+finding.StandInModule+"@latest")
	}
	return f
}
