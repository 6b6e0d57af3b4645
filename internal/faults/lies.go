package faults

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// rewrite serves the answer to requests of the given kinds as f rewrites it, and
// all other requests well. Range and HEAD work on what f made; the ETag stays,
// as a liar's would.
func rewrite(x *exchange, f func(data []byte) ([]byte, error), kinds ...goproxy.Kind) {
	for _, k := range kinds {
		if k != x.req.Kind {
			continue
		}
		a, err := x.ask("", false)
		if err != nil {
			x.fail(err)
			return
		}
		defer a.Close()
		if !a.ok() {
			x.relay(a)
			return
		}
		data, err := a.bytes()
		if err == nil {
			data, err = f(data)
		}
		if err != nil {
			x.fail(err)
			return
		}
		h := x.w.Header()
		for k, v := range a.sent {
			h[k] = v
		}
		h.Del("Content-Length")
		http.ServeContent(x.w, x.r, "", time.Time{}, bytes.NewReader(data))
		return
	}
	x.pass()
}

func spoilZip(f func(x *exchange, zip []byte) ([]byte, error)) func(*exchange) {
	return func(x *exchange) {
		rewrite(x, func(zip []byte) ([]byte, error) { return f(x, zip) }, goproxy.Zip)
	}
}

func flipArg(x *exchange, zip []byte) ([]byte, error) {
	if at, ok := strings.CutPrefix(x.arg, "@"); ok {
		if len(zip) == 0 {
			return nil, impossible("the zip is empty")
		}
		p, err := parsePlace(at)
		if err != nil {
			return nil, err
		}
		return flipped(zip, min(int(p.at(int64(len(zip)))), len(zip)-1)), nil
	}
	return flipRegion(zip, x.req.Module, x.arg)
}

func badCRC(_ *exchange, zip []byte) ([]byte, error) { return withBadCRC(zip) }

func otherPrefix(x *exchange, zip []byte) ([]byte, error) {
	m := x.req.Module
	return renamed(zip, m, module.Version{Path: m.Path, Version: bump(m.Version)})
}

func zipslip(x *exchange, zip []byte) ([]byte, error) {
	return withMember(zip, x.req.Module.String()+"/../../zipslip.go", "package zipslip\n")
}

func caseClash(x *exchange, zip []byte) ([]byte, error) { return withCaseClash(zip, x.req.Module) }

func bomb(x *exchange, zip []byte) ([]byte, error) {
	return withBomb(zip, x.req.Module, x.arg == "declared")
}

// sibling is another version of the module that is asked for: the one of the
// argument, or else the next older, or else the next newer.
func (x *exchange) sibling() (module.Version, error) {
	m := x.req.Module
	if x.arg != "" {
		return module.Version{Path: m.Path, Version: x.arg}, nil
	}
	versions, err := x.versions()
	if err != nil {
		return m, err
	}
	var older, newer string
	for _, v := range versions {
		switch c := semver.Compare(v, m.Version); {
		case c < 0:
			older = v
		case c > 0 && newer == "":
			newer = v
		}
	}
	m.Version = older
	if older == "" {
		m.Version = newer
	}
	if m.Version == "" {
		return m, impossible("%s has no other version", m.Path)
	}
	return m, nil
}

// versions are those of the true list of the module that is asked for.
func (x *exchange) versions() ([]string, error) {
	a, err := x.ask(goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: x.req.Module.Path}}.Path(), false)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if !a.ok() {
		return nil, impossible("the list of versions is answered %d", a.status)
	}
	data, err := a.bytes()
	if err != nil {
		return nil, err
	}
	list, err := goproxy.ParseList(data, x.req.Module.Path)
	if err != nil {
		return nil, impossible("%v", err)
	}
	return list, nil
}

// zipOf is the true zip of m.
func (x *exchange) zipOf(m module.Version) ([]byte, error) {
	req := goproxy.Request{Kind: goproxy.Zip, Module: m}
	a, err := x.ask(req.Path(), false)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if !a.ok() {
		return nil, impossible("%s is answered %d", req, a.status)
	}
	return a.bytes()
}

func otherVersion(x *exchange) {
	rewrite(x, func([]byte) ([]byte, error) {
		m, err := x.sibling()
		if err != nil {
			return nil, err
		}
		return x.zipOf(m)
	}, goproxy.Zip)
}

func otherModule(x *exchange) {
	rewrite(x, func([]byte) ([]byte, error) {
		if path, vers, ok := strings.Cut(x.arg, "@"); ok {
			return x.zipOf(module.Version{Path: path, Version: vers})
		}
		return madeUp(module.Version{Path: "example.com/other", Version: "v1.0.0"})
	}, goproxy.Zip)
}

func oldZip(x *exchange) {
	rewrite(x, func(now []byte) ([]byte, error) {
		m, err := x.sibling()
		if err != nil {
			return nil, err
		}
		old, err := x.zipOf(m)
		if err != nil {
			return nil, err
		}
		old, err = renamed(old, m, x.req.Module)
		if err != nil {
			return nil, err
		}
		if !differs(now, old, x.req.Module) {
			return nil, impossible("%s and %s have the same files", m, x.req.Module)
		}
		return old, nil
	}, goproxy.Zip)
}

func wrongMod(x *exchange) {
	rewrite(x, func(data []byte) ([]byte, error) {
		return append(data, "\nrequire example.com/extra v1.0.0\n"...), nil
	}, goproxy.Mod)
}

func wrongInfo(x *exchange) {
	rewrite(x, func(data []byte) ([]byte, error) {
		var f map[string]json.RawMessage
		var vers string
		if json.Unmarshal(data, &f) != nil || json.Unmarshal(f["Version"], &vers) != nil {
			return nil, impossible("the answer is not the JSON of a version")
		}
		f["Version"], _ = json.Marshal(bump(vers)) // a string marshals
		return json.Marshal(f)
	}, goproxy.Info, goproxy.Latest)
}

// bump is a canonical version of the same major that v is not.
func bump(v string) string {
	core, _, _ := strings.Cut(strings.TrimSuffix(v, "+incompatible"), "-")
	i := strings.LastIndexByte(core, '.')
	if !semver.IsValid(v) || i < 0 {
		return "v0.0.1"
	}
	patch, _ := strconv.ParseUint(core[i+1:], 10, 32)
	next := core[:i+1] + strconv.FormatUint(patch+1, 10)
	if strings.HasSuffix(v, "+incompatible") {
		next += "+incompatible"
	}
	return next
}

func stale(x *exchange) {
	if x.req.Kind == 0 {
		x.pass()
		return
	}
	all, err := x.versions()
	if err != nil {
		x.fail(err)
		return
	}
	n, _ := strconv.Atoi(x.arg)
	there := all[:max(len(all)-n, 0)]
	late := all[len(there):]
	latest := goproxy.LatestOf(there)
	switch {
	case len(late) == 0:
		x.pass()
	case x.req.Kind == goproxy.List:
		rewrite(x, func([]byte) ([]byte, error) { return goproxy.FormatList(there), nil }, goproxy.List)
	case x.req.Kind == goproxy.Latest && latest != "":
		a, err := x.ask(goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: x.req.Module.Path, Version: latest}}.Path(), false)
		if err != nil {
			x.fail(err)
			return
		}
		defer a.Close()
		x.relay(a)
	case x.req.Kind == goproxy.Latest || slices.Contains(late, x.req.Module.Version):
		http.Error(x.w, "not found: this source has no "+x.req.String()+" yet", http.StatusNotFound)
	default:
		x.pass()
	}
}

// swapCase is name with the case of its first letter changed that has another
// one; it is empty if none has.
func swapCase(name string) string {
	for i, r := range name {
		if o := unicode.ToUpper(r); r < unicode.MaxASCII && o != r {
			return name[:i] + string(o) + name[i+1:]
		}
		if o := unicode.ToLower(r); r < unicode.MaxASCII && o != r {
			return name[:i] + string(o) + name[i+1:]
		}
	}
	return ""
}
