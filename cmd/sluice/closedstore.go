package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// A localStore is what a world keeps modules in: a store.Disk, or a closedStore
// in its place.
type localStore interface {
	store.Store
	Dir() string
	Writable() error // why nothing new can be kept; nil if it can
	Usage() store.Usage
	Run(ctx context.Context) // what a quota needs beside the requests, until ctx ends
	SetKeep(keep func(modPath string) bool)
	Collectors() []prometheus.Collector
	Close() error
}

// A closedStore stands in for a data directory that this user may not even read,
// or that is not to be made: it has nothing and takes nothing. It is safe for
// concurrent use.
type closedStore struct {
	dir string
	why error
}

func (s *closedStore) nothing() error {
	if s.dir == os.DevNull {
		return fmt.Errorf("there is no store (%v): %w", s.why, fs.ErrNotExist)
	}
	return fmt.Errorf("%s is no store that could be read: %w", s.dir, fs.ErrNotExist)
}

func (s *closedStore) Writable() error { return fmt.Errorf("%w: %w", store.ErrReadOnly, s.why) }
func (s *closedStore) Probe() error    { return s.Writable() }
func (s *closedStore) Dir() string     { return s.dir }
func (s *closedStore) Close() error    { return nil }

func (s *closedStore) Usage() store.Usage                 { return store.Usage{} }
func (s *closedStore) Run(ctx context.Context)            { <-ctx.Done() }
func (s *closedStore) SetKeep(func(string) bool)          {}
func (s *closedStore) Collectors() []prometheus.Collector { return nil }

func (s *closedStore) Open(goproxy.Request) (*store.Blob, error) { return nil, s.nothing() }
func (s *closedStore) Warm(string) *store.Warm                   { return nil }
func (s *closedStore) Record(goproxy.Request) (store.Record, error) {
	return store.Record{}, s.nothing()
}
func (s *closedStore) Check(goproxy.Request) error                   { return s.nothing() }
func (s *closedStore) Create(goproxy.Request) (store.Pending, error) { return nil, s.Writable() }
func (s *closedStore) Versions(string) ([]string, error)             { return nil, nil }
func (s *closedStore) Answer(goproxy.Request) (store.Answer, error) {
	return store.Answer{}, s.nothing()
}
func (s *closedStore) SetAnswer(goproxy.Request, store.Answer) error                  { return s.Writable() }
func (s *closedStore) ReadFile(string) ([]byte, error)                                { return nil, s.nothing() }
func (s *closedStore) WriteFile(string, []byte) error                                 { return s.Writable() }
func (s *closedStore) SwapFile(string, []byte, []byte) error                          { return s.Writable() }
func (s *closedStore) Quarantine(store.Evidence, io.Reader) error                     { return s.Writable() }
func (s *closedStore) Quarantined() ([]store.Evidence, error)                         { return nil, nil }
func (s *closedStore) Discard(goproxy.Request, store.Evidence, bool) error            { return s.nothing() }
func (s *closedStore) Walk(context.Context, func(goproxy.Request, error) error) error { return nil }
