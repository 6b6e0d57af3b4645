package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

const mega = 1 << 20

// A narrow is a source whose bytes come slowly. Its fields are set before it is
// asked, or by its own functions.
type narrow struct {
	data   []byte
	each   float64 // bytes per second of each answer
	all    float64 // of all answers together; 0 is no limit
	etag   func() string
	spoils func(w http.ResponseWriter, r *http.Request) bool // answers in its place, if it says so

	mu     sync.Mutex // guards the following
	free   time.Time  // when what was sent has gone through what all share
	asked  []string   // the Range of each request; "" for none
	sent   int64
	active int
	since  time.Time // of active
	most   int       // at a time
}

// change counts an answer that begins, or one that ends. What lasts no time at all,
// since the one has not noticed yet what the other made room for, does not count.
func (s *narrow) change(by int) {
	if now := time.Now(); now.After(s.since) {
		s.most, s.since = max(s.most, s.active), now
	}
	s.active += by
}

func (s *narrow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Header.Get("Range"))
	s.change(1)
	etag := `"one"`
	if s.etag != nil {
		etag = s.etag()
	}
	data := s.data
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.change(-1)
		s.mu.Unlock()
	}()
	w.Header().Set("ETag", etag)
	if s.spoils != nil && s.spoils(w, r) {
		return
	}
	http.ServeContent(&slowly{w, s, r.Context()}, r, "", time.Time{}, bytes.NewReader(data))
}

// A slowly is an answer of a narrow.
type slowly struct {
	http.ResponseWriter
	s   *narrow
	ctx context.Context
}

func (w *slowly) Write(p []byte) (int, error) {
	wait := time.Duration(float64(len(p)) / w.s.each * float64(time.Second))
	if w.s.all > 0 {
		w.s.mu.Lock()
		if now := time.Now(); w.s.free.Before(now) {
			w.s.free = now
		}
		w.s.free = w.s.free.Add(time.Duration(float64(len(p)) / w.s.all * float64(time.Second)))
		wait = max(wait, time.Until(w.s.free))
		w.s.mu.Unlock()
	}
	select {
	case <-time.After(wait):
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
	n, err := w.ResponseWriter.Write(p)
	w.s.mu.Lock()
	w.s.sent += int64(n)
	w.s.mu.Unlock()
	return n, err
}

// cut is an answer that breaks off after so long.
func (s *narrow) cut(w http.ResponseWriter, r *http.Request, after <-chan time.Time) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-after:
			cancel()
		case <-ctx.Done():
		}
	}()
	http.ServeContent(&slowly{w, s, ctx}, r, "", time.Time{}, bytes.NewReader(s.data))
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// state is how many answers are under way, how many were at a time since the last
// look, and how many bytes have come twice.
func (s *narrow) state() (active, most int, twice int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(0)
	most, s.most = s.most, 0
	return s.active, most, s.sent - int64(len(s.data))
}

// ranges are the Range headers of the requests that had one.
func (s *narrow) ranges() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.asked {
		if r != "" {
			list = append(list, r)
		}
	}
	return list
}

// A shelf is a Place in memory, as large as what is to be kept in it.
type shelf struct {
	mu     sync.Mutex
	data   []byte
	broken func(write bool) error // nil: it works
}

func (s *shelf) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		if err := s.broken(true); err != nil {
			return 0, err
		}
	}
	return copy(s.data[off:], p), nil
}

func (s *shelf) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		if err := s.broken(false); err != nil {
			return 0, err
		}
	}
	return copy(p, s.data[off:]), nil
}

// A pieceRig is one source behind a chain, in a synctest bubble.
type pieceRig struct {
	t     *testing.T
	src   upstream.Source
	chain upstream.Chain
	shelf *shelf
	right [][]byte // what accept takes
}

func newPieceRig(t *testing.T, s *narrow, c upstream.NetConfig) *pieceRig {
	pipe := modtest.Pipe(t, s)
	c.Wrap = func(string, http.RoundTripper) http.RoundTripper { return pipe }
	n := upstream.NewNet(c)
	t.Cleanup(n.Close)
	r := &pieceRig{t: t, src: upstream.NewHTTPSource(n, &url.URL{Scheme: "http", Host: "a.test"}), shelf: &shelf{data: make([]byte, len(s.data))}}
	r.chain = upstream.Chain{Health: upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1}), Links: []upstream.Link{{Source: r.src}}}
	r.right = [][]byte{s.data}
	return r
}

// A got is what came of one fetch.
type got struct {
	size   int64 // bytes of the last answer
	wrong  int   // answers that were complete, and not right
	took   time.Duration
	report upstream.PiecesReport
	err    error
}

// A comparison is for writing an answer to: kept, the many large ones would take more
// time than everything else.
type comparison struct {
	with [][]byte // those that begin with what was written
	size int64    // that was written
}

func (c *comparison) Write(p []byte) (int, error) {
	end := c.size + int64(len(p))
	c.with = slices.DeleteFunc(c.with, func(b []byte) bool { return end > int64(len(b)) || !bytes.Equal(p, b[c.size:end]) })
	c.size = end
	return len(p), nil
}

// whole reports whether all of one was written.
func (c *comparison) whole() bool {
	return slices.ContainsFunc(c.with, func(b []byte) bool { return int64(len(b)) == c.size })
}

func (r *pieceRig) fetch(ctx context.Context, version string) (g got) {
	req := goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: "big.test/m", Version: version}}
	start := time.Now()
	_, g.err = r.chain.Fetch(ctx, req, func(_ context.Context, _ upstream.Source, a *upstream.Answer) error {
		p := a.InPieces(r.shelf)
		defer p.Stop()
		c := comparison{with: slices.Clone(r.right)}
		_, err := io.CopyBuffer(struct{ io.Writer }{&c}, struct{ io.Reader }{a.Body}, make([]byte, mega))
		p.Stop()
		g.size, g.report = c.size, p.Report()
		if err == nil && !c.whole() {
			g.wrong++
			err = lie{errors.New("wrong hash")}
		}
		return err
	})
	g.took = time.Since(start)
	return g
}

func (r *pieceRig) want(g got) {
	r.t.Helper()
	if g.err != nil { // accept has seen that it is right
		r.t.Errorf("%d bytes, %v; %+v", g.size, g.err, g.report)
	}
}

func TestAZipThatIsThrottledPerConnectionComesOverAsManyAsHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(96 * mega), each: 2 * mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		_, most, twice := s.state()
		if g.report.Kept != 3 || g.report.Tried() != 3 || most != 4 {
			t.Errorf("%d connections at a time; %+v", most, g.report)
		}
		if n := len(s.ranges()); n < 8 || n > 60 || n != g.report.Requests {
			t.Errorf("%d requests for pieces; %+v", n, g.report)
		}
		if twice*20 > int64(len(s.data)) {
			t.Errorf("%d bytes came twice", twice)
		}
		if alone := 48 * time.Second; g.took > alone/2 { // of the bubble's own clock
			t.Errorf("it took %v; one connection takes %v", g.took, alone)
		}
	})
}

func TestWhatIsThrottledInSumComesOverOneConnectionAndIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(96 * mega), each: 100 * mega, all: 2 * mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		_, most, twice := s.state()
		if g.report.Useless != 1 || g.report.Tried() != 1 || most != 2 {
			t.Errorf("%d connections at a time; %+v", most, g.report)
		}
		if twice*20 > int64(len(s.data)) {
			t.Errorf("%d bytes came twice", twice)
		}
		before := len(s.ranges())
		if g = r.fetch(t.Context(), "v1.0.1"); g.report.Tried() > 0 || len(s.ranges()) != before {
			t.Errorf("it was tried again: %+v", g.report)
		}
		time.Sleep(time.Hour)
		if g = r.fetch(t.Context(), "v1.0.2"); g.report.Useless != 1 {
			t.Errorf("after an hour: %+v", g.report)
		}
	})
}

func TestConnectionsAreAddedNoLongerThanTheyHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(160 * mega), each: 2 * mega, all: 4 * mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 8})
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		if _, most, _ := s.state(); g.report.Kept != 1 || g.report.Useless != 1 || most != 3 {
			t.Errorf("%d connections at a time; %+v", most, g.report)
		}
		g = r.fetch(t.Context(), "v1.0.1")
		if _, most, _ := s.state(); g.report.Kept != 1 || g.report.Tried() != 1 || most != 2 {
			t.Errorf("the next time, %d connections at a time; %+v", most, g.report)
		}
	})
}

func TestASourceThatKnowsNoRangesIsAskedForOnePieceAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(64 * mega), each: mega}
		s.spoils = func(_ http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return false
		}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		if g.report.Failed != 1 || g.report.Bytes > 0 || len(s.ranges()) != 1 {
			t.Errorf("asked for %v; %+v", s.ranges(), g.report)
		}
		if _, _, twice := s.state(); twice*20 > int64(len(s.data)) {
			t.Errorf("%d bytes came twice", twice)
		}
		if g = r.fetch(t.Context(), "v1.0.1"); g.report.Tried() > 0 || len(s.ranges()) != 1 {
			t.Errorf("it was tried again: %+v", g.report)
		}
	})
}

func TestNothingIsAskedForInPiecesWithoutNeed(t *testing.T) {
	for name, tt := range map[string]struct {
		s      *narrow
		pieces int
		conns  int
	}{
		"switched off":         {&narrow{data: pattern(64 * mega), each: mega}, 1, 0},
		"small":                {&narrow{data: pattern(8 * mega), each: mega / 8}, 4, 0},
		"fast":                 {&narrow{data: pattern(64 * mega), each: 16 * mega}, 4, 0},
		"soon there":           {&narrow{data: pattern(40 * mega), each: 2.5 * mega}, 4, 0},
		"a weak validator":     {&narrow{data: pattern(64 * mega), each: mega, etag: func() string { return `W/"weak"` }}, 4, 0},
		"one slot is for ours": {&narrow{data: pattern(64 * mega), each: mega}, 4, 2},
		"ranges are disclaimed": {&narrow{data: pattern(64 * mega), each: mega, spoils: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Accept-Ranges", "none")
			w.Header().Set("Content-Length", strconv.Itoa(64*mega))
			for part := range slices.Chunk(pattern(64*mega), mega) {
				time.Sleep(time.Second)
				w.Write(part)
			}
			return true
		}}, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newPieceRig(t, tt.s, upstream.NetConfig{Pieces: tt.pieces, Requests: tt.conns})
				g := r.fetch(t.Context(), "v1.0.0")
				r.want(g)
				if _, most, _ := tt.s.state(); len(tt.s.ranges()) > 0 || most != 1 {
					t.Errorf("asked for %v; %+v", tt.s.ranges(), g.report)
				}
			})
		})
	}
}

func TestAConnectionThatIsSlowerThanBeforeIsHelped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// It begins fast, so that what is left would be no matter at that speed.
		s := &narrow{data: pattern(40 * mega), each: 2.5 * mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 2})
		s.each = 16 * mega
		for i := range 8 {
			r.want(r.fetch(t.Context(), fmt.Sprintf("v1.0.%d", i)))
		}
		s.each = 2.5 * mega
		g := r.fetch(t.Context(), "v1.1.0")
		r.want(g)
		if g.report.Kept != 1 {
			t.Errorf("%+v", g.report)
		}
	})
}

func TestWhereEverythingHasBecomeSlowOneConnectionIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(40 * mega), each: 16 * mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		for i := range 8 {
			r.want(r.fetch(t.Context(), fmt.Sprintf("v1.0.%d", i)))
		}
		s.all = 2 * mega
		for i, tried := range []int{1, 0, 0} {
			g := r.fetch(t.Context(), fmt.Sprintf("v1.1.%d", i))
			r.want(g)
			if g.report.Tried() != tried || g.report.Useless != tried {
				t.Errorf("zip %d: %+v", i, g.report)
			}
		}
	})
}

func TestZipsOfOneSourceShareItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(64 * mega), each: mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 2})
		first := make(chan got)
		second := make(chan got)
		go func() { first <- r.fetch(t.Context(), "v1.0.0") }()
		time.Sleep(20 * time.Second)
		if active, _, _ := s.state(); active != 2 {
			t.Errorf("%d connections for the first", active)
		}
		go func() { second <- r.fetch(t.Context(), "v1.0.1") }() // nobody waits for the first one's
		time.Sleep(10 * time.Second)
		if active, most, _ := s.state(); active != 2 || most > 3 { // the second's came before the first one's went
			t.Errorf("%d connections for both, %d at a time", active, most)
		}
		g := <-first
		r.want(g)
		if g.report.Kept != 1 {
			t.Errorf("%+v", g.report)
		}
		r.want(<-second)
	})
}

func TestAFileThatChangesMidwayIsNeverMixed(t *testing.T) {
	for _, after := range []int{2, 3, 4, 6} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old, now := pattern(64*mega), bytes.Repeat([]byte("new file"), 8*mega)
				s := &narrow{data: old, each: 2 * mega}
				s.etag = func() string { // called with the mutex held
					if len(s.asked) >= after {
						s.data = now
						return `"two"`
					}
					return `"one"`
				}
				r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
				r.right = [][]byte{old, now}
				g := r.fetch(t.Context(), "v1.0.0")
				r.want(g)
				if g.wrong > 0 {
					t.Error("parts of both came together")
				}
			})
		})
	}
}

func TestAPieceThatBreaksOffIsFetchedByTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(96 * mega), each: 2 * mega}
		n := 0
		s.spoils = func(w http.ResponseWriter, r *http.Request) bool {
			s.mu.Lock()
			if r.Header.Get("Range") != "" {
				n++
			}
			spoil := n%3 == 2
			s.mu.Unlock()
			if spoil {
				s.cut(w, r, time.After(1500*time.Millisecond))
			}
			return spoil
		}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		if g.report.Bytes == 0 || n < 6 {
			t.Errorf("%d requests; %+v", n, g.report)
		}
		if _, _, twice := s.state(); twice*20 > int64(len(s.data)) {
			t.Errorf("%d bytes came twice", twice)
		}
	})
}

func TestAllConnectionsCutMidwayAreGoneOnWithFromWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(96 * mega), each: 2 * mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 3})
		cut := make(chan time.Time)
		s.spoils = func(w http.ResponseWriter, r *http.Request) bool {
			select {
			case <-cut:
				return false
			default:
			}
			s.cut(w, r, cut)
			return true
		}
		go func() {
			time.Sleep(17 * time.Second)
			close(cut)
		}()
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		if _, _, twice := s.state(); twice*20 > int64(len(s.data)) || g.report.Bytes == 0 {
			t.Errorf("%d bytes came twice; %+v", twice, g.report)
		}
	})
}

func TestASourceThatWantsFewerRequestsGetsFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(64 * mega), each: mega}
		s.spoils = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Retry-After", "30")
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return true
		}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		done := make(chan got)
		go func() { done <- r.fetch(t.Context(), "v1.0.0") }()
		time.Sleep(6 * time.Second)
		if !r.chain.Resting(bigZip) {
			t.Error("the source is not left alone")
		}
		g := <-done
		r.want(g)
		if g.report.Failed != 1 || len(s.ranges()) != 1 || !strings.Contains(g.report.Why, "slow down") {
			t.Errorf("asked for %v; %+v", s.ranges(), g.report)
		}
	})
}

func TestPiecesThatDoNotMakeTheRightWholeAreFollowedByTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(64 * mega), each: 2 * mega}
		s.spoils = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			http.ServeContent(&slowly{w, s, r.Context()}, r, "", time.Time{}, bytes.NewReader(make([]byte, len(s.data))))
			return true
		}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		g := r.fetch(t.Context(), "v1.0.0")
		r.want(g)
		if g.wrong != 1 || g.report.Bytes > 0 {
			t.Errorf("wrong %d times, and then again in pieces: %+v", g.wrong, g.report)
		}
		if lies := r.chain.Health.Report(r.src.Name()).Lies; len(lies) > 0 {
			t.Errorf("it is held against the source: %v", lies)
		}
	})
}

func TestWhoGivesUpAZipInPiecesLeavesNoConnectionBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &narrow{data: pattern(96 * mega), each: mega}
		r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan got)
		go func() { done <- r.fetch(ctx, "v1.0.0") }()
		time.Sleep(20 * time.Second)
		if active, _, _ := s.state(); active != 4 {
			t.Errorf("%d connections", active)
		}
		cancel()
		if g := <-done; !errors.Is(g.err, context.Canceled) {
			t.Errorf("Fetch = %v", g.err)
		}
		time.Sleep(time.Second) // a server notices at its next write
		if active, _, _ := s.state(); active != 0 {
			t.Errorf("%d connections are left", active)
		}
	})
}

func TestWhereWhatComesEarlyCannotBeKeptTheZipComesInOne(t *testing.T) {
	broken := errors.New("no room")
	for _, write := range []bool{true, false} {
		t.Run(fmt.Sprintf("write %v", write), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &narrow{data: pattern(64 * mega), each: 2 * mega}
				r := newPieceRig(t, s, upstream.NetConfig{Pieces: 4})
				at := time.Now().Add(8 * time.Second)
				r.shelf.broken = func(w bool) error {
					if w == write && time.Now().After(at) {
						return broken
					}
					return nil
				}
				g := r.fetch(t.Context(), "v1.0.0")
				r.want(g)
				if !strings.Contains(g.report.Why, "no room") {
					t.Errorf("%+v", g.report)
				}
			})
		})
	}
}
