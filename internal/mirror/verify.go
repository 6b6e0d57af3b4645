package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// VerifyOptions say how Verify goes about its work.
type VerifyOptions struct {
	DryRun   bool           // only tell
	Offline  bool           // do not ask the checksum database
	Progress func(read int) // called after each file; may be nil
}

// A VerifyReport is what Verify found.
type VerifyReport struct {
	Files    int             `json:"files"`
	Bytes    int64           `json:"bytes"`
	Vouched  int             `json:"vouched"` // by the checksum database, now
	Pinned   int             `json:"pinned"`  // no database covers them: as at first sight (.info too)
	Unasked  int             `json:"unasked"` // the database could not be asked about them
	Problems []VerifyProblem `json:"problems"`
}

// A VerifyProblem is one file that is not as it should be.
type VerifyProblem struct {
	Request string `json:"file"`
	Problem string `json:"problem"`
	Done    string `json:"done"` // what was done about it
}

// Verify reads every stored file again, and compares it with its record, the
// rules of its kind, and the checksum database. What is wrong is moved to
// quarantine. The error says that the store could not be walked, or is the
// context's cause; the report then holds what was found before.
func (m *Mirror) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	rep := VerifyReport{Problems: []VerifyProblem{}}
	err := m.c.Store.Walk(ctx, func(req goproxy.Request, err error) error {
		if err != nil {
			rep.Problems = append(rep.Problems, VerifyProblem{req.String(), err.Error(), "left as it is"})
			return nil
		}
		rep.Files++
		size, forget, err := m.verifyOne(ctx, req, o, &rep)
		rep.Bytes += size
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			p := VerifyProblem{req.String(), err.Error(), "left as it is"}
			if !o.DryRun {
				p.Done = "moved to quarantine"
				if derr := m.c.Store.Discard(req, evidence(req, "verify", err.Error()), forget); derr != nil {
					p.Done = "could not be moved to quarantine: " + derr.Error()
				}
			}
			rep.Problems = append(rep.Problems, p)
		}
		if o.Progress != nil {
			o.Progress(rep.Files)
		}
		return nil
	})
	return rep, err
}

// verifyOne checks one file. forget is whether its record is wrong too.
func (m *Mirror) verifyOne(ctx context.Context, req goproxy.Request, o VerifyOptions, rep *VerifyReport) (size int64, forget bool, err error) {
	if err := m.c.Store.Check(req); err != nil {
		return 0, false, err
	}
	blob, err := m.c.Store.Open(req)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, fmt.Errorf("it has no record, so nothing vouches for it")
	}
	if err != nil {
		return 0, false, err
	}
	defer blob.Close()
	size = blob.Record.Size
	h1, err := contentHash(ctx, req, blob, size)
	if err != nil {
		return size, true, err
	}
	if h1 != blob.Record.H1 {
		return size, true, fmt.Errorf("its hash is %s, but its record says %s", h1, blob.Record.H1)
	}
	route := m.Route(req.Module.Path)
	if req.Kind == goproxy.Info || route.Sums == nil {
		rep.Pinned++
		return size, false, nil
	}
	if o.Offline {
		rep.Unasked++
		return size, false, nil
	}
	want, err := m.want(ctx, route, req)
	switch {
	case errors.Is(err, checksum.ErrUnknown):
		return size, true, err
	case err != nil:
		rep.Unasked++
		return size, false, nil
	case want != h1:
		return size, true, fmt.Errorf("its hash is %s, but the checksum database %s says %s", h1, route.Sums.Name(), want)
	}
	rep.Vouched++
	return size, false, nil
}

// contentHash reads a stored file by the rules of its kind and gives its h1; ""
// for an .info.
func contentHash(ctx context.Context, req goproxy.Request, blob *store.Blob, size int64) (string, error) {
	if req.Kind == goproxy.Zip {
		z, err := readZip(blob, size, req.Module)
		if err != nil {
			return "", err
		}
		return z.hash(ctx)
	}
	data, err := io.ReadAll(blob.Content)
	if err != nil {
		return "", err
	}
	if req.Kind == goproxy.Info {
		_, err := goproxy.ParseInfo(data, req.Module)
		return "", err
	}
	if err := goproxy.CheckMod(data); err != nil {
		return "", err
	}
	return hashMod(data)
}
