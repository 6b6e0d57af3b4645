//go:build unix

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
)

// A cell is one field of the matrix: two clients, one after the other, of a Sluice
// just started. The second has another empty module cache, and where the store is
// not warm other modules.
type cell struct {
	Fault    string  `json:"fault"`
	Position string  `json:"position"`
	Chain    string  `json:"chain"`
	Pass     bool    `json:"pass"` // as it must be
	First    []run   `json:"first,omitempty"`
	Known    []run   `json:"known,omitempty"`
	Well     healthy `json:"well,omitzero"` // right before each run but the first, where it was repeated
	Skipped  string  `json:"skipped,omitempty"`

	// As judged.
	Misses     []string `json:"misses,omitempty"`
	FirstExtra float64  `json:"firstExtra"` // seconds against the healthy run with the same chain; where it was repeated, the median of what each repetition took longer than the healthy run before it
	KnownExtra float64  `json:"knownExtra"`
	compared   bool     // there was a healthy run to say these

	f  *fault
	p  position
	ch int
}

func (c *cell) name() string { return c.Fault + "/" + c.Position + "/" + c.Chain }

// cells lists those whose name the pattern takes.
func cells(keep func(name string) bool) (list []*cell) {
	for _, f := range table() {
		for _, p := range positions() {
			for i, ch := range chains() {
				c := &cell{Fault: f.name, Position: p.name, Chain: ch.name, Pass: p.warm || rules()[f.kind].pass[i], f: &f, p: p, ch: i}
				if keep(c.name()) {
					list = append(list, c)
				}
			}
		}
	}
	return list
}

// A baseline says which healthy runs a cell is measured against.
type baseline struct {
	chain        int
	warm, update bool
}

func (c *cell) baseline() baseline { return baseline{c.ch, c.p.warm, c.f.update} }

func (b baseline) String() string {
	s := chains()[b.chain].String()
	if b.update {
		s += ", asking for lists"
	}
	if b.warm {
		s += ", store warm"
	}
	return s
}

// healthy are the seconds of builds with three well sources.
type healthy struct {
	First []float64 `json:"first"`
	Known []float64 `json:"known"`
}

// A measure is what a cell is judged by: medians of the healthy builds with the
// same chain, and the farthest that one of any chain is from its own median.
type measure struct{ first, known, firstNoise, knownNoise float64 }

// pair starts Sluice and has the two clients download.
func (m *matrix) pair(t *modtest.Scope, f *fault, p position, ch int, pass bool) (first, known run) {
	bad, data := p.bad, filepath.Join(t.TempDir(), "data")
	c := chains()[ch]
	update := f != nil && f.update
	if p.warm {
		urls, _ := m.sources(t, nil, 0)
		s := m.serve(t, data, urls, c, nil, nil)
		r := m.download(t, s.url, m.db.GOSUMDB(""), 0, update, nil)
		s.kill()
		if !r.Passed || len(r.Wrong) > 0 {
			t.Fatalf("warming the store from well sources: %v %s", r.Wrong, r.Said)
		}
	}
	urls, wrap := m.sources(t, f, bad)
	var args []string
	if !pass {
		args = []string{"--sources-timeout", failTimeout, "--sources-connect", failTimeout}
	}
	s := m.serve(t, data, urls, c, f, wrap, args...)
	runs := [2]run{}
	for i := range runs {
		set := i
		if p.warm {
			set = 0
		}
		runs[i] = m.download(t, s.url, m.db.GOSUMDB(""), set, update, nil)
		runs[i].Wrong = append(runs[i].Wrong, s.take()...)
	}
	return runs[0], runs[1]
}

// measure fills a cell. A build that misses nothing but its time is measured
// thrice more, each time right after a healthy one, and then the median of the
// differences counts: this machine does other things, too, and is slower for
// minutes than it was before.
func (m *matrix) measure(t *modtest.Scope, c *cell, well measure) error {
	for len(c.First) < 4 {
		if len(c.First) > 0 {
			if err := m.measureWell(t, c.baseline(), &c.Well); err != nil {
				return err
			}
		}
		err := t.Scoped(func(t *modtest.Scope) {
			first, known := m.pair(t, c.f, c.p, c.ch, c.Pass)
			c.First, c.Known = append(c.First, first), append(c.Known, known)
		})
		if errors.Is(err, modtest.ErrSkipped) {
			c.Skipped = err.Error()
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
		judge(c, well, m.timed)
		if !c.onlyLate() || len(c.First) == 1 && len(c.Misses) == 0 {
			break
		}
	}
	return nil
}

// onlyLate reports whether all that a cell misses is its time, and not by so much
// that measuring again could not change it.
func (c *cell) onlyLate() bool {
	for _, r := range slices.Concat(c.First, c.Known) {
		if r.Passed != c.Pass || r.Hung || len(r.Wrong) > 0 || r.Seconds > 6 {
			return false
		}
	}
	return c.Pass
}

// measureWell measures a healthy pair.
func (m *matrix) measureWell(t *modtest.Scope, b baseline, h *healthy) error {
	return t.Scoped(func(t *modtest.Scope) {
		f := &fault{update: b.update, spec: "none"}
		first, known := m.pair(t, f, position{warm: b.warm}, b.chain, true)
		for _, r := range []run{first, known} {
			if !r.Passed || len(r.Wrong) > 0 {
				t.Fatalf("a download from three well sources, %v: %s %s", b, r.Said, strings.Join(r.Wrong, "; "))
			}
		}
		h.First, h.Known = append(h.First, first.Seconds), append(h.Known, known.Seconds)
	})
}

// A bystander is who else is shown: the go command alone, or a peer.
type bystander struct {
	Name   string            `json:"name"`
	Client string            `json:"client"`
	Runs   map[string]run    `json:"runs"`              // by fault
	Skips  map[string]string `json:"skipped,omitempty"` // by fault, why

	sep     string
	command string // of a peer
}

// A peer is a command line in SLUICE_PEER_NAME, which becomes one bystander.
func bystanders(environ []string, alone bool) (list []*bystander) {
	add := func(name, sep, command string) {
		list = append(list, &bystander{Name: name, Client: "GOPROXY=" + strings.Join([]string{"a", "b", "c"}, sep), Runs: map[string]run{}, Skips: map[string]string{}, sep: sep, command: command})
	}
	if alone {
		add("go alone", ",", "")
		add("go alone", "|", "")
	}
	for _, kv := range environ {
		if k, command, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "SLUICE_PEER_") && command != "" {
			add(strings.ToLower(strings.TrimPrefix(k, "SLUICE_PEER_")), "|", command)
		}
	}
	return list
}

// watch has a bystander download a set with the first of three sources bad; nil
// for a healthy run.
func (m *matrix) watch(t *modtest.Scope, b *bystander, f *fault) (r run, err error) {
	err = t.Scoped(func(t *modtest.Scope) {
		update := f != nil && f.update
		urls, wrap := m.sources(t, f, 1)
		list := strings.Join(urls, b.sep)
		if b.command == "" {
			r = m.download(t, list, m.gosumdb(f), 0, update, wrap)
			return
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		t.Must(err)
		addr := ln.Addr().String()
		ln.Close()
		_, port, _ := net.SplitHostPort(addr)
		line := strings.NewReplacer("{upstream}", "'"+list+"'", "{port}", port, "{dir}", t.TempDir()).Replace(b.command)
		said := new(output)
		env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GOENV=off", "GOSUMDB=" + m.gosumdb(f), "GOFLAGS=-modcacherw", "GOPROXY=" + list, "SSL_CERT_FILE=" + m.ca}
		end, kill := m.start(t, slices.Concat(wrap, []string{"sh", "-c", line}), env, said)
		for deadline := time.Now().Add(startBudget); ; time.Sleep(10 * time.Millisecond) {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
				break
			}
			select {
			case <-end:
				t.Fatalf("%s ended before it served: %s", b.Name, said.last(20))
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not serve at %s after %v: %s", b.Name, addr, startBudget, said.last(20))
			}
		}
		p := m.tapped(t, "http://"+addr, kill)
		r = m.download(t, p.url, m.gosumdb(f), 0, update, nil)
		r.Wrong = append(r.Wrong, p.take()...)
	})
	return r, err
}

// watchAll shows the faults to the bystanders: those that a client may wait for
// all at once, since waiting disturbs nobody.
func (m *matrix) watchAll(t *modtest.Scope, list []*bystander, fs []fault, told func(b *bystander, f *fault, r run)) error {
	var mu sync.Mutex // guards the bystanders, and first
	var first error
	var wg sync.WaitGroup
	one := func(b *bystander, f *fault) {
		r, err := m.watch(t, b, f)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(err, modtest.ErrSkipped):
			b.Skips[f.name] = err.Error()
		case err != nil && first == nil:
			first = fmt.Errorf("%s, %s: %w", b.Name, f.name, err)
		case err == nil:
			b.Runs[f.name] = r
			told(b, f, r)
		}
	}
	for _, b := range list {
		for _, f := range fs {
			if f.waits && f.name != "dns-dead" { // that one's name server is at a port of its own
				wg.Go(func() { one(b, &f) })
				continue
			}
			if first == nil {
				one(b, &f)
			}
		}
	}
	wg.Wait()
	return first
}

func seconds(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) + " s" }
