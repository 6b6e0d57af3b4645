package modtest

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAScopeEndsWithWhatWentWrongInIt(t *testing.T) {
	var undone []string
	err := Scoped(t.Context(), t.TempDir(), func(s *Scope) {
		s.Cleanup(func() { undone = append(undone, "first") })
		s.Cleanup(func() { undone = append(undone, "last") })
		s.Skipf("no %s", "luck")
	})
	if !errors.Is(err, ErrSkipped) || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("a scope that was skipped ends with %v", err)
	}
	if strings.Join(undone, " ") != "last first" {
		t.Errorf("undone: %v", undone)
	}
	if err := Scoped(t.Context(), t.TempDir(), func(s *Scope) { s.Errorf("a handler is left") }); err == nil {
		t.Error("what a server complains about at its end is lost")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Scoped(ctx, t.TempDir(), func(s *Scope) { s.Must(s.Context().Err()) }); !errors.Is(err, context.Canceled) {
		t.Errorf("a scope of a run that was stopped ends with %v", err)
	}
}
