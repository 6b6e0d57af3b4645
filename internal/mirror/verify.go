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
		size, v, err := m.verifyOne(ctx, req, o, &rep)
		rep.Bytes += size
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			rep.Files-- // gone since the walk saw it
		case err != nil:
			p := VerifyProblem{req.String(), err.Error(), "left as it is"}
			if !o.DryRun && v != unclear {
				p.Done = "moved to quarantine"
				if derr := m.c.Store.Discard(req, evidence(req, "verify", err.Error()), v == untrue); derr != nil {
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

// A verdict is what is wrong with a file that is not as it should be.
type verdict int

const (
	unclear verdict = iota // it could not be told; the file may be fine
	damaged                // it is not what was stored
	untrue                 // it is, and that is wrong, its record too
)

// verifyOne checks one file.
func (m *Mirror) verifyOne(ctx context.Context, req goproxy.Request, o VerifyOptions, rep *VerifyReport) (size int64, v verdict, err error) {
	judge := func(err error) verdict {
		if errors.Is(err, store.ErrDamaged) {
			return damaged
		}
		return unclear
	}
	if err := m.c.Store.Check(req); err != nil {
		return 0, judge(err), err
	}
	blob, err := m.c.Store.Open(req)
	if err != nil {
		return 0, judge(err), err
	}
	defer blob.Close()
	size = blob.Record.Size
	own := &ownReader{r: blob}
	h1, err := contentHash(ctx, req, own, size)
	switch {
	case own.failed() != nil:
		return size, unclear, own.failed()
	case err != nil:
		return size, untrue, err
	case h1 != blob.Record.H1:
		return size, untrue, fmt.Errorf("its hash is %s, but its record says %s", h1, blob.Record.H1)
	}
	route := m.Route(req.Module.Path)
	if req.Kind == goproxy.Info || route.Sums == nil {
		rep.Pinned++
		return size, 0, nil
	}
	if o.Offline {
		rep.Unasked++
		return size, 0, nil
	}
	want, err := m.want(ctx, route, req)
	switch {
	case errors.Is(err, checksum.ErrUnknown) && blob.Record.Verified != "":
		rep.Unasked++ // it was proven before, and a 404 proves nothing
		return size, 0, nil
	case errors.Is(err, checksum.ErrUnknown):
		// A private module, perhaps, and a shell without its pattern.
		return size, unclear, fmt.Errorf("%w; if it is private, set GOPRIVATE or GONOSUMDB", err)
	case err != nil:
		rep.Unasked++
		return size, 0, nil
	case want != h1:
		return size, untrue, fmt.Errorf("its hash is %s, but the checksum database %s says %s", h1, route.Sums.Name(), want)
	}
	rep.Vouched++
	return size, 0, nil
}

// contentHash reads a stored file by the rules of its kind and gives its h1; ""
// for an .info.
func contentHash(ctx context.Context, req goproxy.Request, r io.ReaderAt, size int64) (string, error) {
	if req.Kind == goproxy.Zip {
		z, err := readZip(r, size, req.Module)
		if err != nil {
			return "", err
		}
		return z.hash(ctx)
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, size))
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
