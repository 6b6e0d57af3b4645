package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A mirror that is measured for 3 s has not had the 10 s that its source would have.
func TestWhoHasLessTimeThanTheSourceIsToldHowLongItWas(t *testing.T) {
	for _, tt := range []struct {
		header bool
		want   string
	}{{false, "no answer within 3s"}, {true, "stood still for 3s"}} {
		synctest.Test(t, func(t *testing.T) {
			n := piped(t, NetConfig{Timeout: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
				if tt.header {
					w.WriteHeader(http.StatusOK)
					w.(http.Flusher).Flush()
				}
				wait(r)
			})
			ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, ErrStalled)
			defer cancel()
			a, err := get(ctx, n)
			if err == nil {
				_, err = io.ReadAll(a.Body)
				a.Body.Close()
			}
			if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "10s") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
