package mirror_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

func TestManyColdClientsAreOneFetchThatNobodysHangingUpSpoils(t *testing.T) {
	w := modtest.New(t)
	src := serve(t, w.Handler())
	sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
	const clients = 64
	rounds := 4
	if raced {
		rounds = 2
	}
	hungUp := 0
	for round := range rounds {
		m := w.Big("big.test/m", fmt.Sprintf("v1.0.%d", round), 20<<20)
		truth := w.Zip(m)
		r := newRig(t, parts{sources: []upstream.Source{src}, sums: sums, store: openDisk(t, t.TempDir())})
		rnd := rand.New(rand.NewPCG(1, uint64(round)))
		client := func(i int, ctx context.Context, leave int64) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			res, err := r.Get(ctx, zipOf(m), mirror.Options{})
			if err != nil {
				if leave < 0 {
					t.Errorf("client %d: %v", i, err)
				}
				return
			}
			defer res.Close()
			if leave >= 0 {
				io.CopyN(io.Discard, body(res), leave)
				return
			}
			left := same(truth)
			if _, err := io.CopyBuffer(&left, struct{ io.Reader }{body(res)}, make([]byte, 64<<10)); err != nil || len(left) > 0 {
				t.Errorf("client %d: %v, %d bytes short", i, err, len(left))
			}
		}
		var wg sync.WaitGroup
		// The first one hangs up: as soon as the source was asked, or midway.
		ctx, hangUp := context.WithCancel(t.Context())
		leave := rnd.Int64N(int64(len(truth)))
		hungUp++
		wg.Go(func() { client(0, ctx, leave) })
		for w.Hits(zipOf(m).Path()) == 0 {
			runtime.Gosched()
		}
		if round%2 == 0 {
			hangUp()
		}
		for i := 1; i < clients; i++ {
			leave := int64(-1)
			if rnd.IntN(4) == 0 {
				leave = rnd.Int64N(int64(len(truth)))
				hungUp++
			}
			wg.Go(func() { client(i, t.Context(), leave) })
		}
		wg.Wait()
		hangUp()
		r.Settle()
		if n := w.Hits(zipOf(m).Path()); n != 1 {
			t.Errorf("round %d: the source was asked for the zip %d times", round, n)
		}
		r.want(zipOf(m), truth)
		r.Close()
		w.Remove(m)
	}
	t.Logf("%d rounds of %d clients, of whom %d hung up in all", rounds, clients, hungUp)
}

// same is what is left to be written to it, and demands that it is that.
type same []byte

func (s *same) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(*s, p) {
		return 0, errors.New("other bytes")
	}
	*s = (*s)[len(p):]
	return len(p), nil
}

func body(res *mirror.Result) io.Reader {
	if res.Stream != nil {
		return res.Stream
	}
	return res.Content
}

func TestFollowersOfAFailingLeaderGetItsAnswer(t *testing.T) {
	m := module.Version{Path: "followers.test/m", Version: "v1.0.0"}
	for _, status := range []int{404, 410, 403, 500, 503} {
		for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m), list(m.Path), latest(m.Path), query(m.Path, "main")} {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				src := pipe(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/"+req.Path() {
						asked.Add(1)
					}
					time.Sleep(time.Second) // until all have come
					w.WriteHeader(status)
				}))
				r := newRig(t, parts{sources: []upstream.Source{src}})
				errs := make([]error, 100)
				var wg sync.WaitGroup
				for i := range errs {
					wg.Go(func() { _, errs[i] = r.Get(t.Context(), req, mirror.Options{}) })
				}
				wg.Wait()
				for _, err := range errs {
					e, ok := errors.AsType[*upstream.Error](err)
					if !ok || e.Status != status {
						t.Fatalf("%v: %v; want the source's %d", req, err, status)
					}
				}
				if n := asked.Load(); n != 1 {
					t.Errorf("%v: %d: asked %d times", req, status, n)
				}
			})
		}
	}
}

func TestARequestThatForbidsFetchingJoinsWhatIsFetchedForOthers(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("nofetch.test/m", "v1.0.0", 3<<20)
	half := make(chan struct{})
	rest := make(chan struct{})
	src := serve(t, with(w.Handler(), func(rw http.ResponseWriter, r *http.Request) bool {
		if !isZip(r) {
			return false
		}
		data := w.Zip(m)
		rw.Header().Set("Content-Length", strconv.Itoa(len(data)))
		rw.Write(data[:len(data)/2])
		http.NewResponseController(rw).Flush()
		close(half)
		<-rest
		rw.Write(data[len(data)/2:])
		return true
	}))
	r := newRig(t, parts{sources: []upstream.Source{src}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
	no := mirror.Options{NoFetch: true}
	for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m), list(m.Path), latest(m.Path), query(m.Path, "main")} {
		if g := r.get(req, no); !errors.Is(g.err, mirror.ErrNotCached) {
			t.Errorf("%v of nothing: %v", req, g)
		}
	}
	if len(w.Log()) > 0 {
		t.Fatalf("the source was asked: %q", w.Log())
	}
	done := make(chan got)
	go func() { done <- r.get(zipOf(m)) }()
	<-half
	joined := make(chan got)
	go func() { joined <- r.get(zipOf(m), no) }()
	runtime.Gosched()
	close(rest)
	truth := w.Zip(m)
	for _, ch := range []chan got{done, joined} {
		if g := <-ch; g.err != nil || !bytes.Equal(g.data, truth) {
			t.Errorf("%v", g)
		}
	}
	r.Settle()
	if g := r.want(zipOf(m), truth, no); !g.res.Hit || g.res.ETag == "" {
		t.Errorf("from the store: %+v", g.res)
	}
}

// A script is a source that serves one zip as it is told to.
type script struct {
	upstream.Source
	reached chan struct{} // closed when all before the end was written
	end     chan struct{} // close it to let the source break off
}

// breaksOff serves m's zip as data, of announced length, and the connection
// breaks after at bytes, once end is closed.
func breaksOff(t testing.TB, w *modtest.World, data []byte, announced, at int) *script {
	s := &script{reached: make(chan struct{}), end: make(chan struct{})}
	s.Source = serve(t, with(w.Handler(), func(rw http.ResponseWriter, r *http.Request) bool {
		if !isZip(r) {
			return false
		}
		if announced >= 0 {
			rw.Header().Set("Content-Length", strconv.Itoa(announced))
		}
		rw.Write(data[:at])
		http.NewResponseController(rw).Flush()
		close(s.reached)
		<-s.end
		panic(http.ErrAbortHandler)
	}))
	return s
}

// servesZip is a source of other bytes for m's zip; with chunked without a length.
func servesZip(t testing.TB, w *modtest.World, data []byte, chunked bool) upstream.Source {
	return serve(t, with(w.Handler(), func(rw http.ResponseWriter, r *http.Request) bool {
		if !isZip(r) {
			return false
		}
		if chunked {
			http.NewResponseController(rw).Flush()
		} else {
			rw.Header().Set("Content-Length", strconv.Itoa(len(data)))
		}
		rw.Write(data)
		return true
	}))
}

// recompressed is a zip of the same files, so of the same h1, in other bytes.
func recompressed(t testing.TB, data []byte) []byte {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	// To look for what noise does not have would take seconds.
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.NoCompression) })
	for _, f := range zr.File {
		w, err := zw.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, rc); err != nil {
			t.Fatal(err)
		}
		rc.Close()
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// retimed is a zip of the same files and the same length, in which the time of
// the member at an offset is another one: the bytes differ from there on.
func retimed(data []byte, local int) []byte {
	data = bytes.Clone(data)
	data[local+10] ^= 0x20
	return data
}

func TestWhenASourceDiesMidwayTheNextGoesOnWhereBytesAllowIt(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("midway.test/m", "v1.0.0", 4<<20)
	truth := w.Zip(m)
	lastMember := bytes.LastIndex(truth, []byte("PK\x03\x04")) // the large one: at the beginning
	deflated := recompressed(t, truth)
	sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
	const dies = 2 << 20
	for _, tt := range []struct {
		name      string
		announced int    // by the first source
		second    []byte // what the second has
		chunked   bool
		reader    string // what becomes of a client that has had a part: all, or broken
		idle      string // and of one that has a result, and has read nothing of it
	}{
		{"the same bytes", len(truth), truth, false, "all", "all"},
		{"the same bytes, without a length", len(truth), truth, true, "all", "all"},
		{"the same bytes, the first without a length", -1, truth, false, "all", "all"},
		{"the same bytes, both without a length", -1, truth, true, "all", "all"},
		{"packed otherwise", len(truth), deflated, false, "broken", "broken"},
		{"packed otherwise, without a length", len(truth), deflated, true, "broken", "broken"},
		{"packed otherwise, both without a length", -1, deflated, true, "broken", "all"},
		{"other times, same length", len(truth), retimed(truth, lastMember), false, "broken", "all"},
		// The first one's length is a lie that a client believes: of the right
		// bytes, it would take as many for the whole.
		{"the first announces less", 3 << 20, truth, false, "broken", "broken"},
		{"the first announces less, the second nothing", 3 << 20, truth, true, "broken", "broken"},
		{"the first announces more, the second nothing", len(truth) + 1000, truth, true, "broken", "broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := breaksOff(t, w, truth, tt.announced, dies)
			r := newRig(t, parts{sources: []upstream.Source{first, servesZip(t, w, tt.second, tt.chunked)}, sums: sums, store: openDisk(t, t.TempDir())})
			reading, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer reading.Close()
			idle, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			if reading.Stream == nil || idle.Stream == nil || reading.Size != int64(tt.announced) {
				t.Fatalf("%+v, %+v", reading, idle)
			}
			<-first.reached
			head := make([]byte, dies-mirror.HoldBack)
			if _, err := io.ReadFull(reading.Stream, head); err != nil || !bytes.Equal(head, truth[:len(head)]) {
				t.Fatalf("the beginning: %v", err)
			}
			close(first.end)
			check := func(who, want string, g got) {
				t.Helper()
				switch {
				case want == "all" && (g.err != nil || !bytes.Equal(g.data, tt.second)):
					t.Errorf("%s: %v", who, g)
				case want == "broken" && g.err == nil:
					t.Errorf("%s: %v; want it broken off", who, g)
				case g.err != nil && tt.announced >= 0 && len(g.data) >= tt.announced:
					t.Errorf("%s: has all %d bytes that were announced to it", who, len(g.data))
				}
			}
			g := read(reading, head)
			check("the one who has a part", tt.reader, g)
			check("the one who has nothing", tt.idle, read(idle, nil))
			r.want(zipOf(m), tt.second)
			r.Settle()
			if g := r.want(zipOf(m), tt.second); !g.res.Hit {
				t.Error("it was not stored")
			}
		})
	}
}

// read reads the rest of a result of which head has been read.
func read(res *mirror.Result, head []byte) got {
	rest, err := io.ReadAll(res.Stream)
	g := got{data: append(bytes.Clone(head), rest...), err: err}
	if err == nil && res.Size >= 0 && int64(len(g.data)) != res.Size {
		g.err = fmt.Errorf("%d bytes in place of %d", len(g.data), res.Size)
	}
	return g
}

func TestASlowClientOutlivesTheFlightOfASecondSource(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("slow.test/m", "v1.0.0", 4<<20)
	truth := w.Zip(m)
	for _, kind := range []string{"memory", "disk"} {
		first := breaksOff(t, w, truth, len(truth), 2<<20)
		p := parts{sources: []upstream.Source{first, serve(t, w.Handler())}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)}
		if kind == "disk" {
			p.store = openDisk(t, t.TempDir())
		}
		r := newRig(t, p)
		slow, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 100)
		if _, err := io.ReadFull(slow.Stream, head); err != nil {
			t.Fatal(err)
		}
		close(first.end)
		r.want(zipOf(m), truth)
		r.Settle() // the flight is over, its zip stored; the slow one is still where the first source left it
		if g := read(slow, head); g.err != nil || !bytes.Equal(g.data, truth) {
			t.Errorf("%s: %v", kind, g)
		}
		slow.Close()
	}
}

func TestTheEndOfALargeZipWaitsForTheChecksumDatabase(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("hold.test/m", "v1.0.0", 4<<20)
	truth := w.Zip(m)
	slow := &slowSums{sumsOf(t, w.SumDB("sumdb.test"), nil), make(chan struct{})}
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: slow})
	res, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	most := make([]byte, len(truth)-mirror.HoldBack)
	if _, err := io.ReadFull(res.Stream, most); err != nil {
		t.Fatal(err)
	}
	if rest := len(truth) - len(most); bytes.Contains(truth[:len(most)], []byte("PK\x01\x02")) {
		t.Errorf("the zip's directory is not in its last %d bytes", rest)
	}
	more := make(chan got)
	go func() { more <- read(res, most) }()
	select {
	case g := <-more:
		t.Fatalf("before the database has answered: %v", g)
	default:
	}
	r.wantStored(zipOf(m), false)
	close(slow.answer)
	if g := <-more; g.err != nil || !bytes.Equal(g.data, truth) {
		t.Error(g)
	}
}

// slowSums is a checksum database that answers only when it is let.
type slowSums struct {
	db     mirror.Sums
	answer chan struct{}
}

func (s *slowSums) Name() string { return s.db.Name() }

func (s *slowSums) Sums(ctx context.Context, mod module.Version) (string, string, error) {
	select {
	case <-s.answer:
	case <-ctx.Done():
		return "", "", context.Cause(ctx)
	}
	return s.db.Sums(ctx, mod)
}

func TestASmallZipIsVerifiedBeforeItsFirstByte(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("small.test/m", "v1.0.0", mirror.SmallZip-2000)
	slow := &slowSums{sumsOf(t, w.SumDB("sumdb.test"), nil), make(chan struct{})}
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: slow})
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error)
	go func() {
		_, err := r.Get(ctx, zipOf(m), mirror.Options{})
		answered <- err
	}()
	for w.Hits(zipOf(m).Path()) == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("without the database: %v", err)
	}
	close(slow.answer)
	if g := r.want(zipOf(m), w.Zip(m)); g.stream || g.res.ETag == "" {
		t.Errorf("%+v", g.res)
	}
	r.Settle()
	if n := w.Hits(zipOf(m).Path()); n != 1 {
		t.Errorf("asked %d times, though only a client left", n)
	}
}

func TestAPanicFailsItsOwnRequestAlone(t *testing.T) {
	w := modtest.New(t)
	a, b := w.Add("panic.test/a", "v1.0.0", nil), w.Add("panic.test/b", "v1.0.0", nil)
	r := newRig(t, parts{sources: []upstream.Source{panicking{serve(t, w.Handler()), a.Path}}})
	for _, req := range []goproxy.Request{info(a), zipOf(a), list(a.Path)} {
		r.wantErr(req, "SL-SELF-001")
	}
	r.want(zipOf(b), w.Zip(b))
	if !bytes.Contains([]byte(r.log.String()), []byte("a bug")) || !bytes.Contains([]byte(r.log.String()), []byte("flight_test.go")) {
		t.Errorf("the log does not say where:\n%s", r.log)
	}
}

type panicking struct {
	upstream.Source
	path string
}

func (p panicking) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	if req.Module.Path == p.path {
		panic("a bug")
	}
	return p.Source.Get(ctx, req)
}

func TestAClosedMirrorSaysSo(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("closed.test/m", "v1.0.0", nil)
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, settings: mirror.Settings{LookAhead: 4}})
	r.want(info(m), w.Info(m), mirror.Options{Client: "c"})
	r.Settle()
	r.Close()
	r.want(info(m), w.Info(m), mirror.Options{Client: "c"}) // from the store
	for _, req := range []goproxy.Request{zipOf(m), list(m.Path), info(module.Version{Path: m.Path, Version: "v2.0.0"})} {
		if g := r.get(req); !errors.Is(g.err, mirror.ErrClosing) {
			t.Errorf("%v: %v", req, g)
		}
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := pipe(t, "s", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		r := newRig(t, parts{sources: []upstream.Source{src}})
		m := module.Version{Path: "hang.test/m", Version: "v1.0.0"}
		var wg sync.WaitGroup
		for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m), list(m.Path)} {
			wg.Go(func() {
				if g := r.get(req); g.err == nil {
					t.Errorf("%v: %v", req, g)
				}
			})
		}
		synctest.Wait()
		r.Close()
		wg.Wait()
	})
}

// Two processes over one store see a private module for the first time at once,
// and not the same one: what one of them has pinned is what both serve.
func TestTheFirstPinHoldsForEveryProcess(t *testing.T) {
	for range 20 {
		w := modtest.New(t)
		m := w.Big("pin.test/m", "v1.0.0", 1<<10)
		other := modtest.New(t)
		other.Add(m.Path, m.Version, modtest.Files{"go.mod": "module pin.test/m\n\ngo 1.2\n", "other.go": "package other\n"})
		st := store.NewMem()
		rigs := []*rig{
			newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, store: st}),
			newRig(t, parts{sources: []upstream.Source{serve(t, other.Handler())}, store: st}),
		}
		for _, req := range []goproxy.Request{gomod(m), zipOf(m)} {
			var wg sync.WaitGroup
			var answers [2]got
			for i, r := range rigs {
				wg.Go(func() { answers[i] = r.get(req) })
			}
			wg.Wait()
			a, b := answers[0], answers[1]
			if a.err == nil && b.err == nil && !bytes.Equal(a.data, b.data) {
				t.Fatalf("%v: both were served, and not the same", req)
			}
			if a.err != nil && b.err != nil {
				t.Fatalf("%v: nobody was served: %v, %v", req, a, b)
			}
		}
	}
}
