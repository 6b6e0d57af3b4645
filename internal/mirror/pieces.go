package mirror

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// inPieces lets a zip come over several connections at a time, where it is large,
// they are slow, and what comes early can be kept where it will belong. done must be
// called when all has come, or nothing more is read; it tells what became of it.
func (m *Mirror) inPieces(ctx context.Context, req goproxy.Request, src upstream.Source, sp *spool, a *upstream.Answer) (done func()) {
	// Beside the store there is little room; and where the store fails midway, this
	// is still the place where the early bytes are.
	place, ok := sp.p.(store.Early)
	if !ok {
		return func() {}
	}
	p := a.InPieces(place)
	return func() {
		p.Stop()
		r := p.Report()
		if r.Tried() == 0 && r.Bytes == 0 {
			return
		}
		for outcome, n := range map[string]int{"kept": r.Kept, "useless": r.Useless, "failed": r.Failed, "unsettled": r.Unsettled} {
			m.metrics.further.WithLabelValues(outcome).Add(float64(n))
		}
		m.metrics.pieces.Add(float64(r.Bytes))
		note(ctx, "upstream", "large zip over several connections", fmt.Sprintf("%d further ones made it faster, %d did not; %d bytes came in %d pieces", r.Kept, r.Useless+r.Failed, r.Bytes, r.Requests))
		m.c.Log.Info("large zip over several connections", slog.String("module", req.Module.Path), slog.String("version", req.Module.Version),
			slog.String("source", src.Name()), slog.Int64("bytes", a.Size), slog.Int("kept", r.Kept), slog.Int("useless", r.Useless), slog.Int("failed", r.Failed),
			slog.Int("pieces", r.Requests), slog.Int64("in_pieces", r.Bytes), slog.String("why", r.Why))
	}
}
