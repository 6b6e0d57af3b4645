package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

// hung mounts a file system whose server never answers, as that of a file server
// which is gone. It needs root; release lets all that waits for it fail.
func hung(t *testing.T) (dir string, release func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a file system that hangs")
	}
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs a kernel with FUSE: %v", err)
	}
	dir = t.TempDir()
	if err := syscall.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		syscall.Close(fd)
		t.Skipf("needs the right to mount: %v", err)
	}
	open := true
	release = func() {
		if open {
			open = false
			syscall.Close(fd)
			syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}
	t.Cleanup(release)
	return dir, release
}

func TestATreeThatHangsIsGivenUp(t *testing.T) {
	dir, release := hung(t)
	s := upstream.NewTreeSource(dir, "file://hung", 10*time.Millisecond)
	req := goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: "m.test/x", Version: "v1.0.0"}}
	var last error
	for range 20 { // more calls than may wait for it
		_, err := s.Get(t.Context(), req)
		e, ok := errors.AsType[*upstream.Error](err)
		if !ok || e.Answered() || !errors.Is(err, upstream.ErrStalled) {
			t.Fatalf("a tree that hangs gives %v", err)
		}
		last = err
	}
	if got := last.Error(); got != "file://hung: its file system does not answer, and 16 calls wait for it already: "+upstream.ErrStalled.Error() {
		t.Errorf("the last error is %q", got)
	}
	release()
	for { // the calls come back in their own time, and it is asked again
		_, err := s.Get(t.Context(), req)
		if !errors.Is(err, upstream.ErrStalled) {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestATreeThatHangsHoldsNobodyUp(t *testing.T) {
	dir, _ := hung(t)
	well, w, _ := tree(t)
	m := w.Modules()[0]
	for range 2 { // unknown, and known
		c := &upstream.Chain{Health: upstream.NewHealth(upstream.HealthConfig{}), Links: []upstream.Link{
			{Source: upstream.NewTreeSource(dir, "file://hung", time.Hour), FallBack: true}, {Source: well},
		}}
		var by string
		_, err := c.Fetch(t.Context(), goproxy.Request{Kind: goproxy.Info, Module: m}, func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
			by = src.Name()
			return a.Body.Close()
		})
		if err != nil || by != well.Name() {
			t.Errorf("answered by %q, %v", by, err)
		}
	}
}
