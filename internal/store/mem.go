package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

// Mem is a Store in memory, unbounded, gone with the process.
type Mem struct {
	mu         sync.Mutex // guards the following
	records    map[goproxy.Request]Record
	artifacts  map[goproxy.Request][]byte
	answers    map[goproxy.Request]Answer
	files      map[string][]byte
	quarantine []Evidence
}

var _ Store = (*Mem)(nil)

// NewMem is an empty store in memory.
func NewMem() *Mem {
	return &Mem{
		records:   make(map[goproxy.Request]Record),
		artifacts: make(map[goproxy.Request][]byte),
		answers:   make(map[goproxy.Request]Answer),
		files:     make(map[string][]byte),
	}
}

func (m *Mem) Open(req goproxy.Request) (*Blob, error) {
	if _, err := artifactName(req); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.artifacts[req]
	if !ok {
		return nil, notStored(req)
	}
	return memBlob(data, m.records[req]), nil
}

// Warm is always nil: an artifact of Mem is served by Open as fast as by it.
func (m *Mem) Warm(string) *Warm { return nil }

func (m *Mem) Record(req goproxy.Request) (Record, error) {
	if _, err := artifactName(req); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[req]
	if !ok {
		return Record{}, notStored(req)
	}
	return rec, nil
}

func (m *Mem) Check(req goproxy.Request) error {
	b, err := m.Open(req)
	if err == nil && sha256Hex(b.Bytes) != b.Record.SHA256 {
		return damaged(req, "its bytes have changed in memory")
	}
	return err
}

type memPending struct {
	*spool
	m    *Mem
	req  goproxy.Request
	done bool
}

func (m *Mem) Create(req goproxy.Request) (Pending, error) {
	if _, err := artifactName(req); err != nil {
		return nil, err
	}
	return &memPending{spool: newMemSpool(), m: m, req: req}, nil
}

func (p *memPending) Write(b []byte) (int, error) {
	if p.done {
		return 0, errEnded
	}
	return p.spool.Write(b)
}

func (p *memPending) Reset() error {
	if p.done {
		return errEnded
	}
	return p.spool.Reset()
}

func (p *memPending) Commit(rec Record) (Record, error) {
	_, data, ended := p.state()
	if p.done || ended {
		return Record{}, errEnded
	}
	rec, err := stamp(p.req, rec, int64(len(data)), p.sum.Sum(nil))
	if err != nil {
		return Record{}, err
	}
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	_, intact := m.artifacts[p.req]
	replace := true
	if old, ok := m.records[p.req]; ok {
		if rec, replace, err = settle(p.req, old, intact, rec); err != nil {
			return Record{}, err
		}
		if replace && intact {
			m.setAside(outdated(p.req, old, rec), m.artifacts[p.req])
		}
	}
	m.records[p.req] = rec
	if replace {
		m.artifacts[p.req] = slices.Clip(data)
	}
	p.done = true
	return rec, nil
}

func (m *Mem) Versions(path string) ([]string, error) {
	if _, err := listName(path); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for req := range m.artifacts {
		if req.Kind != goproxy.Zip || req.Module.Path != path || module.IsPseudoVersion(req.Module.Version) {
			continue
		}
		_, info := m.artifacts[req.With(goproxy.Info)]
		_, mod := m.artifacts[req.With(goproxy.Mod)]
		if info && mod {
			list = append(list, req.Module.Version)
		}
	}
	return goproxy.SortVersions(list), nil
}

func (m *Mem) Answer(req goproxy.Request) (Answer, error) {
	if _, err := answerName(req); err != nil {
		return Answer{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.answers[req]
	if !ok {
		return Answer{}, notStored(req)
	}
	return a, nil
}

func (m *Mem) SetAnswer(req goproxy.Request, a Answer) error {
	if _, err := answerName(req); err != nil {
		return err
	}
	a.Body, a.Time = bytes.Clone(a.Body), a.Time.UTC().Round(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers[req] = a
	return nil
}

func (m *Mem) ReadFile(name string) ([]byte, error) {
	if err := checkFileName(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok {
		return nil, notStored(name)
	}
	return bytes.Clone(data), nil
}

func (m *Mem) WriteFile(name string, data []byte) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write(name, data)
	return nil
}

func (m *Mem) write(name string, data []byte) {
	m.files[name] = bytes.Clone(data)
	db, _, _ := strings.Cut(name, "/")
	if _, ok := m.files[db+"/supported"]; !ok {
		m.files[db+"/supported"] = nil
	}
}

func (m *Mem) SwapFile(name string, old, new []byte) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Equal(m.files[name], old) {
		return errSwap(name)
	}
	m.write(name, new)
	return nil
}

func errSwap(name string) error {
	return fmt.Errorf("store: %s was changed meanwhile: %w", name, ErrConflict)
}

func (m *Mem) Quarantine(ev Evidence, body io.Reader) error {
	ev = evidenceOn(goproxy.Request{}, ev)
	var err error
	if body != nil {
		h := sha256.New()
		var n int64
		n, err = io.Copy(h, body)
		ev = weighed(ev, n, h.Sum(nil))
		ev.NoBody = "a store in memory keeps no bodies"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quarantine = append(m.quarantine, ev)
	return err
}

func (m *Mem) setAside(ev Evidence, data []byte) {
	sum := sha256.Sum256(data)
	ev = weighed(ev, int64(len(data)), sum[:])
	ev.NoBody = "a store in memory keeps no bodies"
	m.quarantine = append(m.quarantine, ev)
}

// weighed fills in what ev does not say of its body.
func weighed(ev Evidence, size int64, sum []byte) Evidence {
	if ev.Size == 0 {
		ev.Size = size
	}
	if ev.SHA256 == "" {
		ev.SHA256 = hex.EncodeToString(sum)
	}
	return ev
}

func (m *Mem) Quarantined() ([]Evidence, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortEvidence(slices.Clone(m.quarantine)), nil
}

func sortEvidence(list []Evidence) []Evidence {
	slices.SortStableFunc(list, func(a, b Evidence) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Dir, b.Dir))
	})
	return list
}

func (m *Mem) Discard(req goproxy.Request, ev Evidence, forget bool) error {
	if _, err := artifactName(req); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, stored := m.artifacts[req]
	_, known := m.records[req]
	if !stored && !(forget && known) {
		return notStored(req)
	}
	if ev = evidenceOn(req, ev); stored {
		m.setAside(ev, data)
	} else {
		m.quarantine = append(m.quarantine, ev)
	}
	delete(m.artifacts, req)
	if forget {
		delete(m.records, req)
	}
	return nil
}

func (m *Mem) Walk(ctx context.Context, f func(goproxy.Request, error) error) error {
	m.mu.Lock()
	byName := make(map[string]goproxy.Request, len(m.artifacts))
	names := make([]string, 0, len(m.artifacts))
	for req := range m.artifacts {
		byName[req.Path()] = req
		names = append(names, req.Path())
	}
	m.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := f(byName[name], nil); err != nil {
			if errors.Is(err, fs.SkipAll) {
				return nil
			}
			return err
		}
	}
	return nil
}

func (m *Mem) Probe() error { return nil }
