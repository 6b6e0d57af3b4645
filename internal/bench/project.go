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
	// Graph has the versions of go mod graph by module path, in no order; nil if the go
	// command has not said.
	Graph map[string][]string
	Said  []string // what the go command says of what it cannot tell
}

// Built is a module of the build list, as go list -m -json prints it.
type Built struct {
	Path, Version string
	Time          time.Time // when the version was made; zero if nobody says
	Main          bool
	Replace       *struct {
		Path, Version string
		Time          time.Time
	}
	Error *struct{ Err string }
}

func (b Built) mod() module.Version { return module.Version{Path: b.Path, Version: b.Version} }

// ReadBuild reads what go list -m -e -json all and go mod graph print; a graph of nil
// is not known.
func ReadBuild(list, graph []byte) (*Build, error) {
	b := &Build{}
	if graph != nil {
		b.Graph = map[string][]string{}
	}
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
		case !slices.Contains(b.Graph[path], version):
			b.Graph[path] = append(b.Graph[path], version)
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
	Mirrors   []Asked
	Public    bool              // the names of the modules may be told to all mirrors
	Around    goenv.Patterns    // GONOPROXY
	Secret    func(string) bool // reports whether no mirror is to be asked for a module path
	Chain     []Way             // GOPROXY, as it is in force
	Answer    time.Duration     // the longest that one answer may take
	Progress  func(text string) // is told what is done at present
}

// Asked is a mirror that may be asked, for so long in all.
type Asked struct {
	*Mirror
	Left time.Duration
}

// A Way is an entry of GOPROXY.
type Way struct {
	Kind   goenv.Kind
	Mirror int // of an HTTP one: its place in Mirrors, or -1 if it is not to be asked
}

// A Project is how what the build here uses compares with what the sources have.
type Project struct {
	File    string   `json:"file"`    // go.mod or go.work; "" if nothing was compared
	Modules int      `json:"modules"` // of the build list, without the main ones
	Errors  []string `json:"errors"`  // what the go command says of modules that it cannot load
	Differs []string `json:"differs"` // M@V of go list -m all whose version is not the highest of go mod graph
	Idle    []Idle   `json:"idle"`    // replace lines that have no effect
	Round   []Round  `json:"round"`   // modules that do not come by the proxies of GOPROXY
	Asked   int      `json:"asked"`   // modules of which the proxies of GOPROXY told whether they come by one of them
	Unknown int      `json:"unknown"` // modules of which they did not
	Lacking []Lacks  `json:"lacking"` // mirrors that lack versions of the build

	compared bool // a mirror has told what it has
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
func Compare(ctx context.Context, c Check) *Project {
	p := newProject(c.File)
	p.Errors = append(p.Errors, c.Build.Said...)
	var open []Built // that a proxy may be asked for
	for _, m := range c.Build.Modules {
		if m.Main {
			continue
		}
		p.Modules++
		if m.Error != nil {
			p.Errors = append(p.Errors, finding.OneLine(m.mod().String()+": "+m.Error.Err, 300))
		}
		if high := highest(c.Build.Graph[m.Path]); high != "" && high != m.Version {
			p.Differs = append(p.Differs, fmt.Sprintf("%s, and go mod graph has %s", m.mod(), high))
		}
		switch {
		case m.Replace != nil && m.Replace.Version == "":
			continue // it is a directory
		case m.Replace != nil:
			m.Path, m.Version, m.Time = m.Replace.Path, m.Replace.Version, m.Replace.Time
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
	has := make([]map[module.Version]bool, len(c.Mirrors))
	for i := range has {
		has[i] = map[module.Version]bool{}
	}
	silent := c.ways(ctx, p, open, has)
	for i, m := range c.Mirrors {
		if c.Public && !silent[i] {
			c.ask(ctx, m, open[:min(newestAsked, len(open))], has[i])
		}
		l := Lacks{Mirror: m.Name, Missing: []string{}}
		for _, b := range open {
			if there, asked := has[i][b.mod()]; asked {
				if l.Asked++; !there {
					l.Missing = append(l.Missing, b.mod().String())
				}
			}
		}
		if p.compared = p.compared || l.Asked > 0; len(l.Missing) > 0 {
			p.Lacking = append(p.Lacking, l)
		}
	}
	return p
}

// ways finds out by which way modules come: as the go command does, each proxy of GOPROXY is
// asked for what those before it do not have. Those that gave up answering are silent.
func (c *Check) ways(ctx context.Context, p *Project, open []Built, has []map[module.Version]bool) (silent map[int]bool) {
	silent = map[int]bool{}
	left := open[:min(maxWays, len(open))]
	p.Unknown = len(open)
	told := func(n int) { p.Asked, p.Unknown = p.Asked+n, p.Unknown-n }
	for i, way := range c.Chain {
		switch {
		case way.Kind == goenv.Direct:
			why := "no proxy of GOPROXY has it, so it comes by version control"
			if i == 0 {
				why = "GOPROXY begins with direct, so it comes by version control"
				left = open
			}
			told(len(left))
			for _, b := range left {
				p.Round = append(p.Round, Round{b.Path, b.Version, why})
			}
			return silent
		case way.Kind != goenv.HTTP || way.Mirror < 0 || len(left) == 0:
			return silent
		}
		answers := has[way.Mirror]
		silent[way.Mirror] = !c.ask(ctx, c.Mirrors[way.Mirror], left, answers)
		var further []Built
		for _, b := range left {
			switch there, asked := answers[b.mod()]; {
			case there:
				told(1)
			case asked:
				further = append(further, b)
			}
		}
		left = further
	}
	if len(c.Chain) > 0 {
		told(len(left)) // nobody has them, and nobody else may be asked
	}
	return silent
}

func highest(versions []string) string {
	if len(versions) == 0 {
		return ""
	}
	return slices.MaxFunc(versions, semver.Compare)
}

func newProject(file string) *Project {
	return &Project{File: file, Errors: []string{}, Differs: []string{}, Idle: []Idle{}, Round: []Round{}, Lacking: []Lacks{}}
}

// idle says why a replace line has no effect; "" if it has one.
func (b *Build) idle(r Replacing) string {
	for _, m := range b.Modules {
		switch {
		case m.Path != r.Old.Path:
		case m.Main:
			return "it is the main module, which nothing replaces"
		case r.Old.Version != "" && r.Old.Version != m.Version:
			// The go.mod of a version that is not used counts as long as it is in the graph.
			if b.Graph == nil || slices.Contains(b.Graph[m.Path], r.Old.Version) {
				return ""
			}
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

// ask asks a mirror for those of the list that it was not asked for yet, one after the other,
// until its time is over or it gives no answer. What is not in has then is not known, and no
// more is to be had.
func (c *Check) ask(ctx context.Context, m Asked, list []Built, has map[module.Version]bool) (all bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Left, upstream.ErrStalled)
	defer cancel()
	c.Progress("comparing with the build here: " + m.Name)
	failed := 0
	for _, b := range list {
		if _, asked := has[b.mod()]; asked {
			continue
		}
		err := c.one(ctx, m, b.mod())
		status := 0
		if e, ok := errors.AsType[*upstream.Error](err); ok {
			status = e.Status
		}
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil, errors.Is(err, fs.ErrNotExist):
			has[b.mod()] = err == nil
			failed = 0
		case status == 403: // it says nothing of the next
		case status == 429:
			return false
		default:
			if failed++; failed == 2 {
				return false
			}
		}
	}
	return true
}

// one asks for the .info of a version.
func (c *Check) one(ctx context.Context, m Asked, mod module.Version) error {
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
func (p *Project) Lines() []string {
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
	if p.Unknown > 0 {
		add("by which way %s is not known: the proxies of GOPROXY did not say", verb(p.Unknown, "comes", "come"))
	}
	if len(lines) == 1 && p.Modules > 0 {
		text := "every replace line has an effect"
		if p.Asked > 0 {
			text += "; no module goes round the proxies"
		}
		if p.compared {
			text += "; no mirror lacks a version that it was asked for"
		}
		add("%s", text)
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
