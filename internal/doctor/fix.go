package doctor

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
)

// writesEnv is a command that sets a variable of the go command: its quote, name and
// value.
var writesEnv = regexp.MustCompile(`^go env -w (')?([A-Z0-9]+)=('?)(.*?)'?$`)

// setsVariable is a command, or a line of a recipe, that sets a variable: its name.
var setsVariable = regexp.MustCompile(`^(?:go env -w '?|export |ENV |\$env:|(?:env|variables): \{ )([A-Za-z0-9_]+) ?[=:]`)

// variableOf is the variable that a command sets; "" if it sets none.
func variableOf(cmd string) string {
	if strings.Contains(cmd, "sluice use ") {
		return "GOPROXY"
	}
	if m := setsVariable.FindStringSubmatch(cmd); m != nil {
		return m[1]
	}
	return ""
}

// beside are the commands of a fix without those that set what a better one sets: pasted
// after it, they would undo it.
func beside(better, fix []string) []string {
	return slices.DeleteFunc(slices.Clone(fix), func(cmd string) bool {
		name := variableOf(cmd)
		return name != "" && slices.ContainsFunc(better, func(b string) bool { return variableOf(b) == name })
	})
}

// What takes the best mirrors in a shell whose environment outranks the file.
const (
	bestInShell      = `eval "$(sluice use --scope project best)"`
	bestInPowerShell = "sluice use --scope project --for powershell best | Invoke-Expression"
)

// here makes commands hold on this machine. An environment variable outranks what go
// env -w writes, so where there is one, it is what has to change; and root has no need
// of sudo, which containers have not got.
func (s *Subject) here(fix []string) []string {
	out := slices.Clone(fix)
	for i, cmd := range out {
		if s.Root {
			out[i] = strings.ReplaceAll(cmd, "sudo ", "")
		}
		if s.Settings.Get("GOPROXY").Layer == goenv.Environ {
			switch {
			case cmd == finding.TakeBest && s.Place == finding.Terminal:
				out[i] = bestInShell
			case cmd == finding.TakeBest && s.Place == finding.PowerShell:
				out[i] = bestInPowerShell
			case cmd == finding.TakeDefault:
				out[i] = s.unset([]string{"GOPROXY"})[0]
			}
		}
		m := writesEnv.FindStringSubmatch(cmd)
		if m == nil || s.Settings.Get(m[2]).Layer != goenv.Environ {
			continue
		}
		switch s.Place {
		case finding.Terminal:
			out[i] = "export " + strings.TrimPrefix(cmd, "go env -w ")
		case finding.PowerShell:
			out[i] = "$env:" + m[2] + " = '" + m[4] + "'"
		}
	}
	return out
}

// unset are the commands that take variables out of force.
func (s *Subject) unset(names []string) (fix []string) {
	for _, name := range names {
		switch v := s.Settings.Get(name); {
		case v.Layer == goenv.Environ && s.Place == finding.PowerShell:
			fix = append(fix, "Remove-Item env:"+name)
		case v.Layer == goenv.Environ:
			fix = append(fix, "unset "+name)
		case name == "GOTOOLCHAIN" && s.Place == finding.PowerShell: // by which go env -u itself would stop
			fix = append(fix, "$env:GOTOOLCHAIN = 'local'; go env -u GOTOOLCHAIN; Remove-Item env:GOTOOLCHAIN")
		case name == "GOTOOLCHAIN":
			fix = append(fix, "GOTOOLCHAIN=local go env -u GOTOOLCHAIN")
		default:
			fix = append(fix, "go env -u "+name)
		}
	}
	return fix
}

// unlooked is the fix of a module that a source has and the checksum database cannot
// know: it must not be looked up there, and goes on coming from the source.
func (s *Subject) unlooked(out Outcome) Outcome {
	patterns := s.Module.Path
	if s.NoSumDB != "" {
		patterns = string(s.NoSumDB) + "," + patterns
	}
	if goenv.Redact(patterns) != patterns || strings.ContainsAny(patterns, "'\n\\") {
		return out
	}
	out.Finding.Mend = "if it is private, name it in GONOSUMDB; GOPRIVATE would make the go command go past the source, too"
	out.Finding.Fix = []string{"go env -w 'GONOSUMDB=" + patterns + "'"}
	return out
}

// addressed is the outcome of a checksum database that GOSUMDB gives an address of its own,
// and that is not there.
func (s *Subject) addressed(out Outcome) Outcome {
	v := s.Settings.Get("GOSUMDB")
	name, at, ok := strings.Cut(v.Value, " ")
	if out.Finding == nil || out.Finding.Code != finding.SumDBUnreachable || !ok || v.Redacted() != v.Value || strings.ContainsAny(name, "'\\\n") {
		return out
	}
	out.Text += "; that is the address in GOSUMDB, " + from(v)
	out.Finding.Mend = "correct the address, or leave it out: the proxies are asked for the database then, and " + s.SumDB.Name + " itself"
	out.Finding.Fix = []string{"curl -sS " + finding.OneLine(strings.TrimRight(strings.TrimSpace(at), "/"), 200) + "/latest", "go env -w GOSUMDB='" + name + "'"}
	if !plainURL.MatchString(strings.TrimSpace(at)) {
		out.Finding.Fix = out.Finding.Fix[1:]
	}
	out.Finding.Fix = s.here(out.Finding.Fix)
	return out
}

// plainURL is an address that stands in a command as it is.
var plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9._:/-]+$`)

// major is what go.mod has where a version wants a path that says so.
var major = regexp.MustCompile(`require ([A-Za-z0-9._~/-]+): version "((v[0-9]+)\.[A-Za-z0-9.+-]*)" invalid: should be v0 or v1, not v[0-9]+`)

// suffixed is the outcome of a go.mod that has such a version.
func (s *Subject) suffixed(out Outcome, text string) Outcome {
	m := major.FindStringSubmatch(text)
	if m == nil || s.Place != finding.Terminal || !plainURL.MatchString("https://"+s.Project) {
		return out
	}
	out.Subject = m[1]
	out.Finding.Mend = "put /" + m[3] + " behind the path, here and where it is imported; of a module that has no go.mod of its own, put +incompatible behind the version"
	out.Finding.Fix = []string{fmt.Sprintf("cp %[1]s %[1]s.was && sed 's|%[2]s %[3]s|%[2]s/%[4]s %[3]s|' %[1]s.was >%[1]s", s.Project, m[1], m[2], m[3])}
	return out
}

// A has is the Fact of a list: how many versions a source has of a module of which it
// has not got the version that is required.
type has struct{ versions int }

// behind is the outcome of a version that no source has, where one has other versions of
// the module.
func (s *Subject) behind(out Outcome, seen Seen) Outcome {
	for i := range s.Sources {
		row := seen[fmt.Sprintf("source.%d.list", i+1)]
		h, ok := row.Fact().(has)
		if !ok {
			continue
		}
		out.Text += fmt.Sprintf("; %s has %s of the module: it lags behind, or this one was deleted or mistyped", row.Group, plural(h.versions, "other version", "other versions"))
		f := finding.At(finding.SourceServerError, s.Place) // for what another source looks like in this place
		out.Finding.Mend = "take a version that there is, or a source that has this one"
		out.Finding.Fix = append([]string{"go list -m -versions " + s.Module.Path}, f.Fix...)
		return out
	}
	return s.misled(out, seen)
}

// misled makes the outcome of a module that no source has say where the sources may be
// none: each answers 404 to all that it is asked, as any web server does. GOPRIVATE then
// mends nothing, and takes a public module past the checksum database.
func (s *Subject) misled(out Outcome, seen Seen) Outcome {
	var names []string
	at := ""
	for i, src := range s.Sources {
		if src.From == nil {
			continue
		}
		if _, ok := seen[fmt.Sprintf("source.%d.list", i+1)].Fact().(barren); !ok {
			return out
		}
		names = append(names, src.Entry.Name())
		if at == "" {
			at = below(src.URL, goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: s.Module.Path}}.Path())
		}
	}
	if len(names) == 0 {
		return out
	}
	which := strings.Join(names, " and ")
	out.Text += fmt.Sprintf("; 404 is all that %s has to say, as of an address at which there is no module proxy", which)
	out.Finding.Confidence = finding.Medium
	out.Finding.Mend = "see whether " + which + " is the address of a module proxy, with its whole path; if it is, check the spelling of the module, or name it in GOPRIVATE if it is private"
	out.Finding.Fix = nil
	if at != "" {
		curl := "curl"
		if s.Place == finding.PowerShell {
			curl = "curl.exe"
		}
		out.Finding.Fix = []string{curl + " -si " + at}
	}
	return out
}

// renamed is the outcome of a module that declares another path than the one that is
// required.
func (s *Subject) renamed(about, declares string) Outcome {
	out := s.mean(Fail, finding.ModulePathMismatch, about, fmt.Sprintf("%s@%s declares its path as %s", s.Module.Path, s.Module.Version, declares))
	if module.CheckPath(declares) == nil && module.CheckPath(s.Module.Path) == nil {
		out.Finding.Mend = "require the path that it declares, and import that"
		out.Finding.Fix = []string{fmt.Sprintf("go mod edit -droprequire=%s -require=%s@%s", s.Module.Path, declares, s.Module.Version)}
	}
	return out
}

// maxUnpacked is what the files of a module may have together for the go command, in
// bytes.
const maxUnpacked = 500 << 20

// h1Zip is the checksum of a module's zip; of one that unpacks to more than the go command
// takes, it is an error.
func h1Zip(data []byte) (string, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return "", err
	}
	var names []string
	files := map[string]*zip.File{}
	left := uint64(maxUnpacked)
	for _, f := range z.File {
		if f.UncompressedSize64 > left {
			return "", errors.New("it unpacks to more than 500 MiB, and the go command takes no such module")
		}
		left -= f.UncompressedSize64
		names = append(names, f.Name)
		files[f.Name] = f
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
}

// allCached reports whether the module cache has all versions that go.mod requires.
func (s *Subject) allCached() bool {
	dir := s.Settings.Get("GOMODCACHE").Value
	if !filepath.IsAbs(dir) || len(s.Selected) == 0 {
		return false
	}
	for _, m := range s.Selected {
		at := filepath.Join(dir, "cache", "download", filepath.FromSlash(goproxy.Request{Kind: goproxy.Zip, Module: m}.Path()))
		for _, name := range []string{at, at + "hash", strings.TrimSuffix(at, "zip") + "mod"} {
			if _, err := os.Stat(name); err != nil {
				return false
			}
		}
	}
	return true
}

// againstGoSum holds the zip that the go command would get, if it was read whole, against
// go.sum. It is nil where they agree, or that cannot be told.
func (s *Subject) againstGoSum(seen Seen) *Outcome {
	want := s.Sums[s.Module]
	for i := range s.Sources {
		row := seen[fmt.Sprintf("source.%d.zip", i+1)]
		sum, _ := row.Fact().(string)
		if row.State != OK || sum == "" || want == "" {
			continue
		}
		if sum == want {
			return nil
		}
		named := s.Module.Path + "@" + s.Module.Version
		out := s.mean(Fail, finding.GoSumMismatch, named, fmt.Sprintf("%s is %s at %s, and %s in go.sum", named, sum, row.Group, want))
		return &out
	}
	return nil
}
