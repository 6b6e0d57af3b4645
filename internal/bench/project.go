package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

const (
	// newestAsked is how many of a build's versions each mirror is asked for: those that
	// were made last, which a mirror that lags lacks first.
	newestAsked = 20
	// maxWays is how many module versions the proxies of the settings are asked for, to
	// find out by which way each comes.
	maxWays = 400
)

// A Build is what the go command makes of the modules here.
type Build struct {
	Modules []Built
	Highest map[string]string // module path → highest version that go mod graph has of it
}

// Built is a module of the build list, as go list -m -json prints it.
type Built struct {
	Path, Version string
	Time          time.Time // when the version was made; zero if nobody says
	Main          bool
	Replace       *struct{ Path, Version string }
	Error         *struct{ Err string }
}

func (b Built) mod() module.Version { return module.Version{Path: b.Path, Version: b.Version} }

// ReadBuild reads what go list -m -e -json all and go mod graph print.
func ReadBuild(list, graph []byte) (*Build, error) {
	b := &Build{Highest: map[string]string{}}
	for dec := json.NewDecoder(bytes.NewReader(list)); ; {
		var m Built
		err := dec.Decode(&m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("what go list -m -json prints cannot be read: %w", err)
		}
		b.Modules = append(b.Modules, m)
	}
	for line := range strings.Lines(string(graph)) {
		_, to, ok := strings.Cut(strings.TrimSpace(line), " ")
		path, version, versioned := strings.Cut(to, "@")
		switch {
		case !ok || !versioned:
			return nil, fmt.Errorf("what go mod graph prints cannot be read: %q is no pair of module versions", finding.OneLine(line, 100))
		case path == "go" || path == "toolchain": // which are versions of Go
		case semver.Compare(b.Highest[path], version) < 0:
			b.Highest[path] = version
		}
	}
	return b, nil
}

// A Replacing is a replace line of go.mod or go.work.
type Replacing struct {
	File     string // for people
	Old, New module.Version
}

func (r Replacing) String() string {
	return fmt.Sprintf("replace %s => %s", strings.TrimSuffix(r.Old.String(), "@"), strings.TrimSuffix(r.New.String(), "@"))
}

// A Check says what is compared with a Build.
type Check struct {
	Build     *Build
	File      string // go.mod or go.work
	Replacing []Replacing
	Mirrors   []Mirror
	Public    bool              // the names of the modules may be told to mirrors that are not in Chain
	Around    goenv.Patterns    // GONOPROXY
	Secret    func(string) bool // reports whether no mirror is to be asked for a module path
	Chain     goenv.List        // GOPROXY, as it is in force
	Time      time.Duration     // for each mirror
	Answer    time.Duration     // the longest that one answer may take
	Progress  func(text string) // is told what is done at present
}

// A Project is how what the build here uses compares with what the sources have.
type Project struct {
	File    string   `json:"file"`    // go.mod or go.work; "" if nothing was compared
	Modules int      `json:"modules"` // of the build list, without the main ones
	Errors  []string `json:"errors"`  // what the go command says of modules that it cannot load
	Differs []string `json:"differs"` // M@V of go list -m all whose version is not the highest of go mod graph
	Idle    []Idle   `json:"idle"`    // replace lines that have no effect
	Round   []Round  `json:"round"`   // modules that do not come by the proxies of the settings
	Asked   int      `json:"asked"`   // modules of which the proxies of the settings were asked whether they have them
	Lacking []Lacks  `json:"lacking"` // mirrors that lack versions of the build
}

// Idle is a replace line without an effect.
type Idle struct {
	File string `json:"file"`
	Line string `json:"line"`
	Text string `json:"text"` // why it has none
}

// Round is a module that goes round the proxies.
type Round struct {
	Module  string `json:"module"`
	Version string `json:"version"`
	Text    string `json:"text"` // why
}

// Lacks is what a mirror lacks of the versions that it was asked for.
type Lacks struct {
	Mirror  string   `json:"mirror"`
	Asked   int      `json:"asked"`
	Missing []string `json:"missing"` // M@V
}

// Compare makes the Project of a Build. When ctx ends it is what is known by then.
func Compare(ctx context.Context, c Check) Project {
	p := newProject(c.File)
	var open []Built // that a proxy may be asked for
	for _, m := range c.Build.Modules {
		if m.Main {
			continue
		}
		p.Modules++
		if m.Error != nil {
			p.Errors = append(p.Errors, finding.OneLine(m.mod().String()+": "+m.Error.Err, 300))
		}
		if high := c.Build.Highest[m.Path]; high != "" && high != m.Version {
			p.Differs = append(p.Differs, fmt.Sprintf("%s, and go mod graph has %s", m.mod(), high))
		}
		switch {
		case m.Replace != nil && m.Replace.Version == "":
			continue // it is a directory
		case m.Replace != nil:
			m.Path, m.Version = m.Replace.Path, m.Replace.Version
		}
		switch {
		case c.Around.Match(m.Path):
			p.Round = append(p.Round, Round{m.Path, m.Version, "GONOPROXY, or GOPRIVATE in its place, matches it"})
		case c.Secret(m.Path):
		case goproxy.IsCanonical(m.mod()):
			open = append(open, m)
		}
	}
	for _, r := range c.Replacing {
		if why := c.Build.idle(r); why != "" {
			p.Idle = append(p.Idle, Idle{r.File, r.String(), why})
		}
	}
	// A mirror that lags lacks the youngest first.
	slices.SortStableFunc(open, func(a, b Built) int { return b.Time.Compare(a.Time) })
	has := map[*Mirror]map[module.Version]bool{}
	for i := range c.Mirrors {
		m := &c.Mirrors[i]
		n := newestAsked
		if c.link(m) >= 0 {
			n = maxWays
		} else if !c.Public {
			continue
		}
		c.Progress("comparing with the build here: " + m.Name)
		has[m] = c.ask(ctx, m, open[:min(n, len(open))])
		l := Lacks{Mirror: m.Name, Missing: []string{}}
		for _, b := range open {
			if there, asked := has[m][b.mod()]; asked {
				if l.Asked++; !there {
					l.Missing = append(l.Missing, b.mod().String())
				}
			}
		}
		if len(l.Missing) > 0 {
			p.Lacking = append(p.Lacking, l)
		}
	}
	for _, b := range open {
		switch way := c.way(b.mod(), has); way {
		case wayUnknown:
		case wayDirect:
			p.Asked++
			p.Round = append(p.Round, Round{b.Path, b.Version, "no proxy of GOPROXY has it, so it comes by version control"})
		default:
			p.Asked++
		}
	}
	return p
}

func newProject(file string) Project {
	return Project{File: file, Errors: []string{}, Differs: []string{}, Idle: []Idle{}, Round: []Round{}, Lacking: []Lacks{}}
}

// idle says why a replace line has no effect; "" if it has one.
func (b *Build) idle(r Replacing) string {
	for _, m := range b.Modules {
		switch {
		case m.Path != r.Old.Path:
		case m.Main:
			return "it is the main module, which nothing replaces"
		case r.Old.Version != "" && r.Old.Version != m.Version:
			return "the build uses " + m.Version
		case m.Replace == nil:
			return "the go command does not replace it"
		case m.Replace.Version != r.New.Version || r.New.Version != "" && m.Replace.Path != r.New.Path:
			return "another replace line goes before it: " + strings.TrimSuffix(m.Replace.Path+"@"+m.Replace.Version, "@")
		default:
			return ""
		}
	}
	return "no module that the build needs requires it"
}

// link is the place of a mirror in GOPROXY; -1 if it has none.
func (c *Check) link(m *Mirror) int {
	return slices.IndexFunc(c.Chain, func(e goenv.Entry) bool {
		return e.Kind == goenv.HTTP && strings.TrimSuffix(e.URL, "/") == strings.TrimSuffix(m.URL, "/")
	})
}

// The ways by which a module comes.
const (
	wayUnknown = iota
	wayProxy
	wayDirect
)

// way is by which way a module comes, as far as the answers tell.
func (c *Check) way(m module.Version, has map[*Mirror]map[module.Version]bool) int {
	for i, e := range c.Chain {
		switch e.Kind {
		case goenv.Direct:
			if i == 0 {
				return wayUnknown // nobody was asked: there is no proxy to go round
			}
			return wayDirect
		case goenv.HTTP:
			there, asked := false, false
			for mirror, answers := range has {
				if c.link(mirror) == i {
					there, asked = answers[m]
				}
			}
			if there {
				return wayProxy
			}
			if !asked {
				return wayUnknown
			}
		default:
			return wayUnknown
		}
	}
	return wayProxy // nobody has it, and nobody else may be asked
}

// ask asks a mirror which versions it has, one after the other, until its time is over or it
// gives no answer. What is not in the result is not known.
func (c *Check) ask(ctx context.Context, m *Mirror, list []Built) map[module.Version]bool {
	has := map[module.Version]bool{}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Time, upstream.ErrStalled)
	defer cancel()
	failed := 0
	for _, b := range list {
		err := c.one(ctx, m, b.mod())
		switch {
		case ctx.Err() != nil:
			return has
		case err == nil, errors.Is(err, fs.ErrNotExist):
			has[b.mod()] = err == nil
			failed = 0
		default:
			// One that is refused says nothing of the next; where two in turn fail, or it
			// wants to be left alone, nothing more comes.
			e, ok := errors.AsType[*upstream.Error](err)
			if failed++; failed == 2 && !(ok && e.Status == 403) || ok && e.Status == 429 {
				return has
			}
		}
	}
	return has
}

// one asks for the .info of a version.
func (c *Check) one(ctx context.Context, m *Mirror, mod module.Version) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Answer, upstream.ErrStalled)
	defer cancel()
	req := goproxy.Request{Kind: goproxy.Info, Module: mod}
	a, err := m.Source.Once(ctx, req)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(io.LimitReader(a.Body, req.Kind.Limit()))
	if err != nil {
		return err
	}
	_, err = goproxy.ParseInfo(data, mod)
	return err
}

// Lines are what there is to say about it, for people; the first is a head. There are
// none if nothing was compared.
func (p Project) Lines() []string {
	if p.File == "" {
		return nil
	}
	lines := []string{fmt.Sprintf("%s of %s, compared by go list -m all and go mod graph:", count(p.Modules, "module"), p.File)}
	add := func(format string, args ...any) {
		lines = append(lines, "  "+finding.OneLine(fmt.Sprintf(format, args...), 1000))
	}
	for _, e := range p.Errors {
		add("%s", e)
	}
	for _, d := range p.Differs {
		add("the build uses %s", d)
	}
	for _, i := range p.Idle {
		add("%s: %s has no effect: %s", i.File, i.Line, i.Text)
	}
	byWhy := map[string][]string{}
	var whys []string
	for _, r := range p.Round {
		if byWhy[r.Text] == nil {
			whys = append(whys, r.Text)
		}
		byWhy[r.Text] = append(byWhy[r.Text], r.Module+"@"+r.Version)
	}
	for _, why := range whys {
		add("%s round the proxies: %s: %s", verb(len(byWhy[why]), "goes", "go"), why, few(byWhy[why]))
	}
	for _, l := range p.Lacking {
		add("%s lacks %d of the %d newest that it was asked for: %s", l.Mirror, len(l.Missing), l.Asked, few(l.Missing))
	}
	if len(lines) == 1 {
		add("all as it should be: every replace line has an effect, none goes round the proxies, and no mirror lacks a version")
	}
	return lines
}

// few names the first of a list.
func few(list []string) string {
	const most = 5
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

func verb(n int, one, many string) string {
	if n == 1 {
		return "1 module " + one
	}
	return fmt.Sprintf("%d modules %s", n, many)
}
