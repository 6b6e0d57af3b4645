package upstream

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrLimited says that the limits set for a source left no room for a request
// within its time budget. The source itself has done nothing wrong.
var ErrLimited = fmt.Errorf("the limits set for this source left no room within the time budget: %w", context.DeadlineExceeded)

// A limit is how much may be asked of one source. The zero value is no limit.
type limit struct {
	slots chan struct{} // holds one for each request under way
	rate  *rate.Limiter
	wait  time.Duration // the longest that a request waits for both
}

func newLimit(requests int, perSecond float64, wait time.Duration) limit {
	l := limit{wait: wait}
	if requests > 0 {
		l.slots = make(chan struct{}, requests)
	}
	if perSecond > 0 {
		l.rate = rate.NewLimiter(rate.Limit(perSecond), max(1, int(math.Ceil(perSecond))))
	}
	return l
}

// try takes a turn for a request that nobody waits for: only if there is one at
// once, and another is left for who asks next.
func (l *limit) try() (release func(), ok bool) {
	release = func() {}
	if l.slots != nil {
		select {
		case l.slots <- struct{}{}:
		default:
			return nil, false
		}
		release = sync.OnceFunc(func() { <-l.slots })
		if len(l.slots) == cap(l.slots) {
			release()
			return nil, false
		}
	}
	if l.rate != nil && !l.rate.Allow() {
		release()
		return nil, false
	}
	return release, true
}

// acquire waits for its turn. The caller must call release when the request is
// over, which may be done more than once. The error is ErrLimited or ctx's cause.
func (l *limit) acquire(ctx context.Context) (release func(), err error) {
	if l.slots == nil && l.rate == nil {
		return func() {}, nil
	}
	end := time.NewTimer(l.wait)
	defer end.Stop()
	until := time.Now().Add(l.wait)
	if l.slots != nil {
		select {
		case l.slots <- struct{}{}:
		default:
			select {
			case l.slots <- struct{}{}:
			case <-end.C:
				return nil, ErrLimited
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	release = sync.OnceFunc(func() {
		if l.slots != nil {
			<-l.slots
		}
	})
	if l.rate == nil {
		return release, nil
	}
	now := time.Now()
	turn := l.rate.ReserveN(now, 1)
	delay := turn.DelayFrom(now)
	if delay == 0 {
		return release, nil
	}
	if now.Add(delay).After(until) {
		turn.CancelAt(now)
		release()
		return nil, ErrLimited // waiting would not help
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return release, nil
	case <-ctx.Done():
		turn.Cancel()
		release()
		return nil, context.Cause(ctx)
	}
}
