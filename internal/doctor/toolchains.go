package doctor

import (
	"context"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// wants is the Fact of a project that wants a toolchain which has to be fetched: its
// name, such as go1.26.0.
type wants string

// toolchainOf is the module version that a toolchain is, for this machine.
func toolchainOf(name string) module.Version {
	return module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-" + name + "." + runtime.GOOS + "-" + runtime.GOARCH}
}

// switched is the check of the toolchain that the go command switches to before it does
// anything else, as GOTOOLCHAIN or the project wants it: without it no go command works
// here, go env neither. Each source is asked for the first bytes of it, in the order in
// which the go command asks. answers are the rows of what they say of modules.
func (s *Subject) switched(answers []string) Check {
	after := append([]string{"machine.go", "project.toolchain"}, answers...)
	return Check{ID: "supply.toolchain", Group: "Supply line", Title: "toolchain to switch to", Link: "modules", Needs: []string{"settings.goproxy", "settings.config"}, After: after, Run: func(ctx context.Context, seen Seen) Outcome {
		set := s.Settings.Get("GOTOOLCHAIN")
		have := seen["machine.go"]
		name, suffix, _ := strings.Cut(set.Value, "+")
		by := "GOTOOLCHAIN is " + from(set)
		if f, ok := seen["project.toolchain"].Fact().(wants); ok {
			name, suffix, by = string(f), "auto", seen["project.toolchain"].Text
		}
		switch {
		case !s.HasGo || have.State != OK || !version.IsValid(have.Text) || version.Compare(have.Text, "go1.21") < 0:
			return Outcome{State: NA, Text: "there is no go command here that switches"}
		case !version.IsValid(name) || name == have.Text:
			return Outcome{State: NA, Text: "the go command stays with its own"}
		case s.inPath(name):
			return Outcome{State: OK, Text: name + " is in PATH"}
		case suffix != "path" && s.cachedToolchain(name):
			return Outcome{State: OK, Text: name + " is in the module cache"}
		}
		missed := func(text string) Outcome {
			out := s.mean(Fail, finding.ToolchainDownload, name, by+"; "+text)
			f := *out.Finding
			f.Why = "The go command switches to that toolchain before it does anything else. Without it none works, go env neither."
			if seen["project.toolchain"].Fact() == nil {
				f.Mend = "leave the toolchain to the go command, or name a release that exists"
				if s.Place == finding.Terminal || s.Place == finding.PowerShell {
					f.Fix = s.unset([]string{set.Name})
				}
				if set.Layer == goenv.UserFile {
					f.Changes = []finding.Change{{Kind: finding.UnsetGoEnv, Name: set.Name}}
				}
			}
			out.Finding = &f
			return out
		}
		if suffix == "path" {
			return missed(name + " is not in PATH, and with +path nothing is fetched")
		}
		if why := s.fetchesNone(); why != "" {
			return missed(why)
		}
		var lacking []string
		for i, src := range s.Sources {
			if src.From == nil { // direct, or off
				if len(lacking) > 0 && src.Entry.Kind == goenv.Off {
					break
				}
				return Outcome{State: NA, Text: "the go command would go on to version control for " + name + ", which is not tried here"}
			}
			if id := fmt.Sprintf("source.%d.answer", i+1); seen[id].ID != "" && !seen[id].State.well() {
				if src.Entry.FallBackOnError {
					continue
				}
				return Outcome{State: Skip, Because: id, Text: "the source is in trouble"}
			}
			_, _, err := s.read(ctx, 2, func(ctx context.Context) (*upstream.Answer, error) {
				return src.From.Get(ctx, goproxy.Request{Kind: goproxy.Zip, Module: toolchainOf(name)})
			})
			e, _ := errors.AsType[*upstream.Error](err)
			switch {
			case err == nil:
				return Outcome{State: OK, Text: name + " from " + src.Entry.Name()}
			case errors.Is(err, fs.ErrNotExist):
				lacking = append(lacking, src.Entry.Name())
				continue
			case e != nil && e.Stage == upstream.StageHTTP && e.Status/100 == 4 && e.Status != 429 && e.Status != 407:
				if src.Entry.FallBackOnError {
					lacking = append(lacking, src.Entry.Name())
					continue
				}
				return missed(fmt.Sprintf("%s does not give %s: %s", src.Entry.Name(), name, reason(err)))
			}
			return Outcome{State: Unknown, Text: fmt.Sprintf("whether %s has %s cannot be told: %s", src.Entry.Name(), name, reason(err))}
		}
		if len(lacking) == 0 {
			return Outcome{State: NA, Text: "no source could be asked for " + name}
		}
		return missed(fmt.Sprintf("%s has no %s: there is no such release, or none for %s/%s, or it lacks it", strings.Join(lacking, " and "), name, runtime.GOOS, runtime.GOARCH))
	}}
}

// inPath reports whether a toolchain of that name is installed, which the go command
// looks for before it asks anybody.
func (s *Subject) inPath(name string) bool {
	for _, dir := range filepath.SplitList(s.Getenv("PATH")) {
		if filepath.IsAbs(dir) && !missing(filepath.Join(dir, name)) {
			return true
		}
	}
	return false
}

// fetchesNone is why the go command fetches no toolchain whatever; "" if it does.
func (s *Subject) fetchesNone() string {
	switch list := s.Sources; {
	case len(list) > 0 && list[0].Entry.Kind == goenv.Off:
		return "GOPROXY is off, so it cannot be fetched"
	case s.Settings.Get("GOSUMDB").Value == "off" && !(len(list) == 1 && list[0].Entry.Kind == goenv.File):
		return "GOSUMDB is off, and the go command runs no toolchain that it cannot verify"
	}
	return ""
}

// cachedToolchain reports whether the module cache has a toolchain.
func (s *Subject) cachedToolchain(name string) bool {
	return cachedZip(s.Settings.Get("GOMODCACHE").Value, toolchainOf(name))
}
