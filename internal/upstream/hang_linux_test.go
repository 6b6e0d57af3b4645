package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// hung mounts a file system whose server never answers, as that of a file server
// which is gone. It needs root; release lets all that waits for it fail.
func hung(t *testing.T) (dir string, release func()) {
	t.Helper()
	modtest.Need(t, "root, to mount a file system that hangs", os.Getuid() == 0)
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) { // a container may lack the device, and not the kernel
		node := filepath.Join(t.TempDir(), "fuse")
		if err = syscall.Mknod(node, syscall.S_IFCHR|0o600, 10<<8|229); err == nil {
			fd, err = syscall.Open(node, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		}
	}
	modtest.Need(t, fmt.Sprintf("FUSE in the kernel (%v)", err), err == nil)
	dir = t.TempDir()
	if err := syscall.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		syscall.Close(fd)
		modtest.Need(t, fmt.Sprintf("the right to mount (%v)", err), false)
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
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := threads()
	var wg sync.WaitGroup
	for range 300 { // far more than may hold a thread
		wg.Go(func() {
			_, err := s.Get(t.Context(), req)
			e, ok := errors.AsType[*upstream.Error](err)
			if !ok || e.Answered() || !errors.Is(err, upstream.ErrStalled) || !strings.Contains(err.Error(), "its file system does not answer within 10ms") {
				t.Errorf("a tree that hangs gives %v", err)
			}
		})
	}
	wg.Wait()
	if n := threads() - before; n > 100 {
		t.Errorf("%d threads hang", n)
	}
	release()
	// The calls come back, and it is asked again: now it is not there.
	for patience := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := s.Get(t.Context(), req); !errors.Is(err, upstream.ErrStalled) {
			break
		}
		if time.Now().After(patience) {
			t.Fatal("it hangs on although its file system does not")
		}
	}
}

// A walk past a tree that hangs is as one past a dead proxy: nobody waits for it,
// and it has no say in what does not exist.
func TestATreeThatHangsHoldsNobodyUp(t *testing.T) {
	dir, _ := hung(t)
	well, w, _ := tree(t)
	c := &upstream.Chain{Health: upstream.NewHealth(upstream.HealthConfig{}), Links: []upstream.Link{
		{Source: upstream.NewTreeSource(dir, "file://hung", time.Hour), FallBack: true}, {Source: well},
	}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Health.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	ask := func(m module.Version) (by string, err error) {
		_, err = c.Fetch(t.Context(), goproxy.Request{Kind: goproxy.Info, Module: m}, func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
			by = src.Name()
			return a.Body.Close()
		})
		return by, err
	}
	for range 2 { // unknown, and known
		if by, err := ask(w.Modules()[0]); err != nil || by != well.Name() {
			t.Errorf("answered by %q, %v", by, err)
		}
		if _, err := ask(module.Version{Path: "none.test/m", Version: "v1.0.0"}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what does not exist is %v", err)
		}
	}
}
