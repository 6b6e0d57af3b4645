package mirror_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/upstream"
)

// A source that was asked again and again for the same reason is told once, and
// where the walk had to stop comes before all that may be too much.
func TestWhyAWalkStoppedIsNotLostAmongItsReasons(t *testing.T) {
	we := &upstream.WalkError{Request: goproxy.Request{Kind: goproxy.List}, Stopped: "a comma follows a"}
	for port := range 3 {
		we.Attempts = append(we.Attempts, upstream.Attempt{Source: "https://a.test", Err: &upstream.Error{
			Source: "https://a.test", Stage: upstream.StageBody, Err: fmt.Errorf("read tcp 192.0.2.1:4000%d->192.0.2.2:443: reset by peer", port)}})
	}
	we.Attempts = append(we.Attempts, upstream.Attempt{Source: "https://b.test", Err: &upstream.Error{Source: "https://b.test", Stage: upstream.StageHTTP, Err: errors.New("no answer")}})
	_, details := mirror.Explain(we)
	slices.Sort(details[2:])
	want := []string{"https://a.test: read tcp 192.0.2.2:443: reset by peer", "a comma follows a", "https://b.test: no answer"}
	if !slices.Equal(details, want) {
		t.Errorf("it is explained by %q, want %q", details, want)
	}
}
