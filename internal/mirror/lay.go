package mirror

import (
	"context"
	"io"
	"log/slog"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// A Layer takes module versions whose zips are fetched ahead to a place beside the
// store. It is safe for concurrent use.
type Layer interface {
	// Claim is called before a zip is fetched, so that nobody else fetches it for the
	// same place meanwhile. It is nil if the version is not to be laid.
	Claim(m module.Version) Claim
}

// A Claim is a version that Lay may be called for once, and Release is called for last.
type Claim interface {
	// Lay lays down what is stored, which is the caller's to close. It is not laid, with
	// or without an error, where that is not sure enough or not to be done any more.
	Lay(ctx context.Context, k Kept) (laid bool, err error)
	Release()
}

// A Kept version has its zip in the store, verified, and as a rule its .info and .mod.
type Kept struct {
	Module module.Version
	Info   []byte // nil if it is not stored
	Mod    *store.Blob
	Zip    *store.Blob
}

// prefetchOne fetches one file into the store, and has lay, which may be nil, lay down
// the version whose zip it is.
func (m *Mirror) prefetchOne(ctx context.Context, req goproxy.Request, lay Layer) Fetched {
	f := Fetched{Request: req}
	var claim Claim
	if lay != nil && req.Kind == goproxy.Zip {
		if claim = lay.Claim(req.Module); claim != nil {
			defer claim.Release()
		}
	}
	res, err := m.artifact(ctx, req, Options{Whole: true})
	if err != nil {
		f.Err = err
		return f
	}
	f.Hit, f.Local, f.Size = res.Hit, res.Local, res.Size
	res.Close()
	if req.Kind == goproxy.Zip {
		m.settled(ctx, req) // who is told may open it
	}
	if claim != nil {
		f.Laid = m.lay(ctx, req, claim)
	}
	return f
}

// lay has a version laid down that has just been fetched. What hinders it is of no
// consequence: whoever wants it asks for it.
func (m *Mirror) lay(ctx context.Context, req goproxy.Request, claim Claim) bool {
	fail := func(err error) bool {
		if ctx.Err() == nil {
			m.c.Log.Debug("not laid down", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version), slog.Any("err", err))
		}
		return false
	}
	zip, err := m.c.Store.Open(req)
	if err != nil {
		return fail(err)
	}
	defer zip.Close()
	k := Kept{Module: req.Module, Zip: zip}
	if mod, err := m.c.Store.Open(req.With(goproxy.Mod)); err == nil {
		defer mod.Close()
		k.Mod = mod
	}
	if info, err := m.c.Store.Open(req.With(goproxy.Info)); err == nil {
		k.Info, err = io.ReadAll(info.Content)
		if info.Close(); err != nil {
			return fail(err)
		}
	}
	laid, err := claim.Lay(ctx, k)
	if err != nil {
		return fail(err)
	}
	return laid
}
