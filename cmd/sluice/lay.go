package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modcache"
)

// A layer lays into the module cache what the go command of run is about to unpack
// there. It implements mirror.Layer.
type layer struct {
	cache *modcache.Layer
	sums  map[module.Version]string // of the project's go.sum
	bare  func(path string) bool    // whether only go.sum stands for a module
	may   map[module.Version]bool   // the versions to lay
	log   *slog.Logger
	off   atomic.Bool // the cache has shown that it takes nothing
}

// layer is what lays into the module cache for a command; nil if nothing does.
func (e *env) layer(l *config.Loaded, p *checkout, args []string, log *slog.Logger) mirror.Layer {
	if !l.Run.Lay || len(args) == 0 || !unpacks(p.flags, args) {
		return nil
	}
	may := p.selected()
	if len(may) == 0 {
		return nil
	}
	cache, err := modcache.NewLayer(p.cache, cacheWritable(p.flags, args))
	if err != nil {
		log.Debug("nothing is laid into the module cache", slog.Any("err", err))
		return nil
	}
	return &layer{cache: cache, sums: p.sums, bare: unverified(l), may: may, log: log}
}

// selected are the versions that a go command unpacks which needs all that go.mod names,
// as far as they are wanted: of each path the highest, and none of the project itself.
func (p *checkout) selected() map[module.Version]bool {
	highest := map[string]string{}
	for _, v := range p.zips {
		if highest[v.Path] == "" || semver.Compare(highest[v.Path], v.Version) < 0 {
			highest[v.Path] = v.Version
		}
	}
	may := map[module.Version]bool{}
	for _, req := range p.wanted {
		if v := req.Module; req.Kind == goproxy.Zip && !p.local[v.Path] && highest[v.Path] == v.Version {
			may[v] = true
		}
	}
	return may
}

// unpacks reports whether a command unpacks what the project's go.mod and go.sum name: a go
// command that downloads everything, or builds all that is here. What others do with
// modules, and in which environment, nobody knows before.
func unpacks(flags string, args []string) bool {
	g, ok := parseGo(flags, args)
	if !ok || !g.here() {
		return false
	}
	switch g.verb {
	case "mod tidy", "mod vendor":
		return true
	case "mod download": // else it is what they name
		return len(g.args) == 0
	case "build", "test", "vet", "install", "list": // -h builds nothing, and list -m needs no zips
		return slices.Contains(g.args, "./...") && !g.has("h", "help", "m")
	}
	return false
}

// cacheWritable reports whether a go command leaves what it unpacks writable
// (-modcacherw).
func cacheWritable(flags string, args []string) bool {
	g, ok := parseGo(flags, args)
	return ok && g.on("modcacherw")
}

// Claim implements mirror.Layer.
func (y *layer) Claim(m module.Version) mirror.Claim {
	if !y.may[m] || y.off.Load() {
		return nil
	}
	c, err := y.cache.Claim(m)
	switch {
	case err == nil:
		return &layClaim{c, y}
	case errors.Is(err, modcache.ErrTaken):
		y.log.Debug("left to the go command", slog.String("module", m.Path), slog.String("version", m.Version), slog.Any("err", err))
	default:
		y.stop(err)
	}
	return nil
}

// stop ends laying: a cache that cannot be written or locked, or whose disk is full,
// takes no other version either.
func (y *layer) stop(err error) {
	if !y.off.Swap(true) {
		y.log.Debug("nothing more is laid into the module cache", slog.Any("err", err))
	}
}

type layClaim struct {
	*modcache.Claim
	y *layer
}

// vouched reports whether it is sure that a hash is right: go.sum says so, or if it says
// nothing, the checksum database has. Where neither does, the go command is asked.
func (y *layer) vouched(m module.Version, h1, verified string) bool {
	if sum, ok := y.sums[m]; ok {
		return sum == h1 && h1 != ""
	}
	return verified != "" && !y.bare(m.Path)
}

// Lay implements mirror.Claim.
func (c *layClaim) Lay(ctx context.Context, k mirror.Kept) (bool, error) {
	if c.y.off.Load() {
		return false, nil
	}
	if !c.y.vouched(k.Module, k.Zip.Record.H1, k.Zip.Record.Verified) {
		return false, errors.New("neither go.sum nor the checksum database stands for it")
	}
	v := modcache.Laid{Info: k.Info, Size: k.Zip.Record.Size, H1: k.Zip.Record.H1}
	if mod := (module.Version{Path: k.Module.Path, Version: k.Module.Version + "/go.mod"}); k.Mod != nil && c.y.vouched(mod, k.Mod.Record.H1, k.Mod.Record.Verified) {
		data, err := io.ReadAll(k.Mod.Content)
		if err != nil {
			return false, err
		}
		v.Mod = data
	}
	v.Zip = k.Zip
	if f, ok := k.Zip.Content.(io.ReaderAt); ok {
		v.Zip = f // perhaps a file, which can be shared
	}
	err := c.Claim.Lay(ctx, v)
	for _, e := range []error{modcache.ErrFull, fs.ErrPermission, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, e) {
			c.y.stop(err)
		}
	}
	return err == nil, err
}
