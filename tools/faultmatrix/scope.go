//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// A scope is the testing.TB of what modtest makes for a part of the run, a cell
// or the whole: what is begun in it ends with it.
type scope struct {
	testing.TB // nil: modtest asks for nothing but the methods below

	ctx context.Context
	dir string // of its temporary directories

	mu     sync.Mutex // guards the following
	undo   []func()
	errors []string
}

// A verdict ends a scope, on the goroutine that runs it.
type verdict struct{ err error }

// errSkipped is in the error of a scope that could not be, for want of something
// that this machine or this user lacks.
var errSkipped = errors.New("skipped")

// scoped runs f, and then everything that f left to be undone, last things first.
// The error is what f or one of its servers complained about.
func scoped(ctx context.Context, dir string, f func(t *scope)) (err error) {
	t := &scope{ctx: ctx, dir: dir}
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

func (t *scope) Helper()                  {}
func (t *scope) Context() context.Context { return t.ctx }
func (t *scope) Logf(string, ...any)      {}
func (t *scope) Fatalf(f string, a ...any) {
	panic(verdict{fmt.Errorf(f, a...)})
}
func (t *scope) Fatal(a ...any) { panic(verdict{errors.New(fmt.Sprint(a...))}) }
func (t *scope) Skipf(f string, a ...any) {
	panic(verdict{fmt.Errorf("%w: "+f, append([]any{errSkipped}, a...)...)})
}

func (t *scope) Errorf(f string, a ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors = append(t.errors, fmt.Sprintf(f, a...))
}

func (t *scope) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.undo = append(t.undo, f)
}

// must ends the scope at an error.
func (t *scope) must(err error) {
	if err != nil {
		panic(verdict{err})
	}
}

func (t *scope) TempDir() string {
	dir, err := os.MkdirTemp(t.dir, "*")
	t.must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
