package upstream

import "time"

// Mark takes note of how a source stands. restore forgives what it did since: it
// is no longer left, or left alone, if it was not before, nor fenced off for
// modules for which it was not, if lies is true. That is for trouble which is
// known to have been none of the source's.
func (h *Health) Mark(source string, lies bool) (restore func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	bad := map[Ask]bool{} // "" is the whole source
	fenced := map[string]bool{}
	if s := h.sources[source]; s != nil {
		state, _ := s.line.state(now)
		bad[""] = state != Up
		for k, a := range s.asks {
			state, _ = a.state(now)
			bad[k] = state != Up
		}
		for p := range s.lies {
			fenced[p] = true
		}
	}
	return func() {
		now := time.Now()
		var told []Change
		h.mu.Lock()
		if s := h.sources[source]; s != nil {
			forgive := func(c *condition, k Ask) {
				switch {
				case bad[k]:
				case c.down:
					ch := s.back(c, k, now)
					ch.Source = source
					told = append(told, ch)
				default:
					c.fails, c.rest = 0, time.Time{}
				}
			}
			forgive(&s.line, "")
			for _, k := range asks {
				forgive(&s.asks[k].condition, k)
			}
			for p := range s.lies {
				if lies && !fenced[p] {
					delete(s.lies, p)
				}
			}
		}
		h.mu.Unlock()
		h.tell(told)
	}
}
