package upstream_test

import (
	"errors"
	"testing"

	"github.com/modsluice/sluice/internal/upstream"
)

func TestWhatASourceSaysTwiceIsToldOnce(t *testing.T) {
	e := &upstream.WalkError{Stopped: "enough"}
	for _, text := range []string{"a: refused", "b: 503", "a: refused", "c: silent", "a: refused"} {
		e.Attempts = append(e.Attempts, upstream.Attempt{Err: errors.New(text)})
	}
	if got, want := e.Error(), e.Request.String()+": a: refused (3 times); b: 503; c: silent (enough)"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}
