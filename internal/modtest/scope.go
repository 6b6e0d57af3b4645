package modtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// A Scope is the testing.TB of what this package makes for a program that is no
// test, such as a tool that judges: what is begun in it ends with it. Only the
// methods below may be called.
type Scope struct {
	testing.TB // nil

	ctx context.Context
	dir string // of its temporary directories

	mu     sync.Mutex // guards the following
	undo   []func()
	errors []string
}

// A verdict ends a scope, on the goroutine that runs it.
type verdict struct{ err error }

// ErrSkipped is in the error of a scope that could not be, for want of something
// that this machine or this user lacks.
var ErrSkipped = errors.New("skipped")

// Scoped runs f, and then everything that f left to be undone, last things first.
// Temporary directories are made in dir. The error is what f or one of its servers
// complained about.
func Scoped(ctx context.Context, dir string, f func(t *Scope)) (err error) {
	t := &Scope{ctx: ctx, dir: dir}
	defer func() {
		if v := recover(); v != nil {
			end, ok := v.(verdict)
			if !ok {
				panic(v)
			}
			err = end.err
		}
		for i := len(t.undo) - 1; i >= 0; i-- {
			t.undo[i]()
		}
		if err == nil && len(t.errors) > 0 {
			err = errors.New(strings.Join(t.errors, "; "))
		}
	}()
	f(t)
	return nil
}

// Scoped runs f in a scope within this one.
func (t *Scope) Scoped(f func(t *Scope)) error { return Scoped(t.ctx, t.dir, f) }

func (t *Scope) Helper()                  {}
func (t *Scope) Context() context.Context { return t.ctx }
func (t *Scope) Logf(string, ...any)      {}
func (t *Scope) Fatalf(f string, a ...any) {
	panic(verdict{fmt.Errorf(f, a...)})
}
func (t *Scope) Fatal(a ...any) { panic(verdict{errors.New(fmt.Sprint(a...))}) }
func (t *Scope) Skipf(f string, a ...any) {
	panic(verdict{fmt.Errorf("%w: "+f, append([]any{ErrSkipped}, a...)...)})
}

func (t *Scope) Errorf(f string, a ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors = append(t.errors, fmt.Sprintf(f, a...))
}

func (t *Scope) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.undo = append(t.undo, f)
}

// Must ends the scope at an error.
func (t *Scope) Must(err error) {
	if err != nil {
		panic(verdict{err})
	}
}

func (t *Scope) TempDir() string {
	dir, err := os.MkdirTemp(t.dir, "*")
	t.Must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
