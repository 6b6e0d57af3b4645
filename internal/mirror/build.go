package mirror

import (
	"slices"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A build is what one client has asked for lately, as far as it tells what it asks
// for next. It does no I/O, and is not safe for concurrent use.
//
// What a go command does is read off its order (cmd/go/internal/modload and
// modcmd). To load the module graph it asks for the .mod of every module that
// go.mod names, in the order of their paths, then for those below modules without
// pruned graphs (before go 1.17). To list or download all modules it then asks for
// the .info of each, in the order of go.mod, and to download them, in the same
// order for the .zip. A build asks for the .zip of what is imported, and for no
// .info. Where go.mod replaces a module with a version of another, that is asked for in
// its place, and so out of the order.
type build struct {
	last  time.Time // of its requests
	cold  bool      // something of it was not at hand
	known map[string]string
	roots []module.Version // what go.mod names, as far as can be told
	past  string           // the path that the client is past in go.mod
	stray int              // how many of roots came out of their order
	whole bool             // roots are complete

	// below reports whether a module version is known to be required below one without
	// a pruned graph. Of a nil func nothing is.
	below func(module.Version) bool

	guesses map[string]string // what go.mod may name further, by path

	told    []module.Version // whose .info was asked for after its .mod, in order
	toldAt  map[module.Version]toldModule
	infos   bool  // the .info of all roots were fetched ahead
	zipped  int   // zips that were asked for
	decided bool  // whether the zips of all that was told are fetched ahead
	unasked int64 // bytes of zips that were fetched ahead and not asked for yet
}

type toldModule struct {
	at    int // in told
	asked bool
	size  int64 // of the zip that was fetched ahead, and not asked for yet
}

const (
	// buildIdle is how long after its last request a build is over.
	buildIdle = 30 * time.Second
	// reorder is how many requests for .mod of one go command may overtake one
	// another: it has as many workers as processors.
	reorder = 64
	// firstZips of a build are looked at before it is held for a download of
	// everything: they must be among the firstTold whose .info was asked for.
	firstZips = 3
	firstTold = 16
	// strays is how many of go.mod's modules are replaced by another, at most: one in so
	// many. Where more are out of order, nobody reads a go.mod there.
	strays = 4
	// maxBuild bounds the module versions that are remembered of one build.
	maxBuild = 8192
)

// A want is something to fetch ahead.
type want struct {
	req  goproxy.Request
	deep bool   // a .mod below a module without a pruned graph: go on with all its requirements
	root bool   // a .mod that go.mod may name: go on with what it would then name
	only bool   // nothing follows from it
	data []byte // of a .mod that is at hand: only go on
}

// saw takes note of a request that was answered, whose content is data if that
// is at hand, and cold if it had to be asked for. It returns what is wanted next:
// nothing as long as all was at hand, since then the rest is, too.
func (b *build) saw(now time.Time, req goproxy.Request, data []byte, cold bool) []want {
	if now.Sub(b.last) > buildIdle || req.Kind == goproxy.Mod && (b.infos || b.zipped > 0) {
		b.begin()
	}
	b.last = now
	b.cold = b.cold || cold
	switch req.Kind {
	case goproxy.Mod:
		return b.mod(req.Module, data)
	case goproxy.Info:
		return b.info(req, cold)
	case goproxy.Zip:
		return b.zip(req.Module)
	}
	return nil
}

// begin forgets the build before. Clients that are no go commands, such as mirrors, ask
// for a .mod after an .info all the time: what was small is used again.
func (b *build) begin() {
	*b = build{
		known: emptied(b.known), guesses: emptied(b.guesses), toldAt: emptied(b.toldAt),
		roots: shortened(b.roots), told: shortened(b.told), below: b.below,
	}
}

// fewModules is how many modules a build may have had for its memory to be kept. A map
// of no more is in one piece; a larger one stays large, and takes long to clear.
const fewModules = 8

func emptied[K comparable, V any](m map[K]V) map[K]V {
	if m == nil || len(m) > fewModules {
		return map[K]V{}
	}
	clear(m)
	return m
}

func shortened[E any](s []E) []E {
	if cap(s) > fewModules {
		return nil
	}
	return s[:0]
}

func (b *build) mod(m module.Version, data []byte) []want {
	v, known := b.known[m.Path]
	if v == m.Version || len(b.known) >= maxBuild {
		return nil
	}
	if !known || semver.Compare(v, m.Version) < 0 {
		b.known[m.Path] = m.Version
	}
	root := !b.whole && !known // go.mod names a path once
	if root && m.Path < b.past {
		b.stray++
		root = b.below != nil && !b.below(m) && strays*b.stray <= len(b.roots)
	}
	b.whole = !root
	if root {
		b.name(m)
	}
	if !b.cold || data == nil {
		return nil
	}
	return []want{{req: goproxy.Request{Kind: goproxy.Mod, Module: m}, root: root, data: data}}
}

// name takes note of what go.mod names. The client is past a path if it has asked for
// others behind it since: for enough of them that they are no replacements.
func (b *build) name(m module.Version) {
	b.roots = append(b.roots, m)
	n := len(b.roots) - 1 - reorder
	if n < 0 {
		return
	}
	path, behind := b.roots[n].Path, 0
	for _, r := range b.roots[n+1:] {
		if r.Path > path {
			behind++
		}
	}
	if behind <= reorder/strays { // it may be a replacement itself, with a path from further on
		var since [reorder]string
		for i, r := range b.roots[n+1:] {
			since[i] = r.Path
		}
		slices.Sort(since[:])
		path = min(path, since[reorder-1-reorder/strays])
	}
	b.past = max(b.past, path)
}

// names returns those of reqs, the requirements of what go.mod names or may name,
// that it may then name as well: for each path the highest version of which
// anybody knows, unless the client is past it.
func (b *build) names(reqs []module.Version) []module.Version {
	if b.whole {
		return nil
	}
	var names []module.Version
	for _, r := range reqs {
		if _, known := b.known[r.Path]; known || r.Path <= b.past || len(b.guesses) >= maxBuild {
			continue
		}
		if v, ok := b.guesses[r.Path]; ok && semver.Compare(v, r.Version) >= 0 {
			continue
		}
		b.guesses[r.Path] = r.Version
		names = append(names, r)
	}
	return names
}

// stands reports whether a guess is still one: nobody has a higher version, and
// the client has not named another.
func (b *build) stands(m module.Version) bool {
	v, known := b.known[m.Path]
	return !b.whole && b.guesses[m.Path] == m.Version && (!known || v == m.Version)
}

func (b *build) info(req goproxy.Request, cold bool) []want {
	m := req.Module
	if b.known[m.Path] != m.Version {
		if !cold {
			return nil
		}
		// A look at one version; the .mod says whether it is retracted.
		return []want{{req: req.With(goproxy.Mod), only: true}}
	}
	if _, ok := b.toldAt[m]; !ok {
		b.toldAt[m] = toldModule{at: len(b.told)}
		b.told = append(b.told, m)
	}
	if b.infos || !b.cold {
		b.infos = true
		return nil
	}
	b.infos = true
	var wants []want
	isRoot := false
	for _, r := range b.roots {
		isRoot = isRoot || r == m
		wants = append(wants, want{req: goproxy.Request{Kind: goproxy.Info, Module: r}})
	}
	if !isRoot { // the main module has no pruned graph: all that was selected is listed
		wants = wants[:0]
		for path, v := range b.known {
			wants = append(wants, want{req: goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: path, Version: v}}})
		}
	}
	return wants
}

func (b *build) zip(m module.Version) []want {
	t, told := b.toldAt[m]
	if told {
		if t.asked {
			return nil
		}
		b.unasked -= t.size
		t.asked = true
		b.toldAt[m] = t
	}
	b.zipped++
	if b.decided {
		return nil
	}
	if !told || t.at >= firstTold {
		b.decided = true // not everything, or not in this order: an import decides
		return nil
	}
	if b.zipped < min(firstZips, len(b.told)) || !b.cold {
		return nil
	}
	b.decided = true
	var wants []want
	for _, m := range b.told {
		if !b.toldAt[m].asked {
			wants = append(wants, want{req: goproxy.Request{Kind: goproxy.Zip, Module: m}})
		}
	}
	return wants
}

// has takes note of a zip that was fetched ahead.
func (b *build) has(m module.Version, size int64) {
	if t, told := b.toldAt[m]; told && !t.asked {
		b.unasked += size - t.size
		t.size = size
		b.toldAt[m] = t
	}
}
