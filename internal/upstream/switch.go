package upstream

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A Closed source is of Kind Off for a reason that whoever asks should be told.
type Closed interface {
	// Closed says why the source is not asked; "" says that it may be.
	Closed() string
}

// Quiet ends all probing, or lets it go on.
func (h *Health) Quiet(on bool) {
	h.mu.Lock()
	h.quiet = on
	h.mu.Unlock()
	h.poke()
}

// Preferred is the source that Prefer named last.
func (h *Health) Preferred() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.prefer
}

// Probe puts a real question to src now, whatever is known of it: what it was
// last asked, or else req, or else what its Beat asks. "Not found" is an answer.
// One that was down and answers is asked again as if it had never been. The
// error says why it is of no use; without any question it is errNoQuestion.
func (h *Health) Probe(ctx context.Context, src Source, req goproxy.Request) error {
	h.mu.Lock()
	s := h.of(src)
	if s.line.req.Kind != 0 {
		req = s.line.req
	}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, probeBudget)
	defer cancel()
	start := time.Now()
	var err error
	beat, hasBeat := src.(Heart)
	switch {
	case req.Kind != 0:
		err = ask(ctx, src, req)
	case hasBeat:
		err = beat.Beat(ctx)
	default:
		return errNoQuestion
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	var told []Change
	h.mu.Lock()
	s.last = now
	if s.line.down {
		told = append(told, s.back(&s.line, "", now))
	}
	if req.Kind != 0 {
		k := AskOf(req)
		if a := s.asks[k]; a.down && !(a.slow && now.Sub(start) > mostDelay) {
			told = append(told, s.back(&a.condition, k, now))
		}
	}
	for i := range told {
		told[i].Source = src.Name()
	}
	h.mu.Unlock()
	h.tell(told)
	return nil
}

var errNoQuestion = errors.New("there is nothing that it could be asked: no module has been used yet")

// Order lists the sources in the order in which they are asked for req, if all
// of them are well.
func (c *Chain) Order(req goproxy.Request) (names []string) {
	for _, s := range c.steps(req) {
		names = append(names, s.src.Name())
	}
	return names
}
