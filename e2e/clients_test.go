//go:build linux

package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// newBig is a source with one module, whose zip is large. wrap is as in newSource.
func newBig(t *testing.T, size int64, wrap func(http.Handler) http.Handler) (*source, artifact) {
	w := modtest.New(t)
	m := w.Big("example.com/big", "v1.0.0", size)
	w.H1Zip(m) // once and now, or the checksum database would do it while somebody waits
	r, n := w.ZipReader(m)
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return newSource(t, w, wrap), artifact{pathOf(goproxy.Zip, m.Path, m.Version), hex.EncodeToString(h.Sum(nil)), n}
}

func TestManyColdClientsOfOneZipAreOneFetch(t *testing.T) {
	src, zip := newBig(t, 20<<20, nil)
	s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
	c := client(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			status, sum, size, err := fetch(t.Context(), c, s.URL+"/"+zip.path)
			if err != nil || status != 200 || sum != zip.sum {
				t.Errorf("status %d, %d bytes of %d, %v", status, size, zip.size, err)
			}
		})
	}
	wg.Wait()
	if n := src.Hits(zip.path); n != 1 {
		t.Errorf("64 clients made the source send its zip %d times", n)
	}
	s.stop(t)
}

func TestAFirstClientThatHangsUpFailsNobody(t *testing.T) {
	rnd := chances(t)
	// At this speed the zip takes a fifth of a second.
	size := int64(6 << 20)
	if full() {
		size = 20 << 20
	}
	drip := faults.Fault{Name: "drip", Arg: strconv.FormatInt(5*size, 10), Only: "zip"}
	src, zip := newBig(t, size, func(h http.Handler) http.Handler { return faults.Handler(h, faults.Always(drip)) })
	for n := range 20 {
		s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
		src.Forget()
		first, hangUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		begun := make(chan struct{})
		wg.Go(func() {
			defer close(begun)
			req, err := http.NewRequestWithContext(first, http.MethodGet, s.URL+"/"+zip.path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { // one connection of its own, dropped in the middle
				tr := &http.Transport{}
				defer tr.CloseIdleConnections()
				if resp, err := tr.RoundTrip(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
			for end := time.Now().Add(patience); src.Hits(zip.path) == 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond) // until it is the first
			}
		})
		<-begun
		after := time.Duration(rnd.IntN(250)) * time.Millisecond
		time.AfterFunc(after, hangUp)
		c := client(t)
		for range 15 {
			late := time.Duration(rnd.IntN(100)) * time.Millisecond
			wg.Go(func() {
				time.Sleep(late)
				status, sum, size, err := fetch(t.Context(), c, s.URL+"/"+zip.path)
				if err != nil || status != 200 || sum != zip.sum {
					t.Errorf("round %d, the first hung up after %v: status %d, %d bytes of %d, %v", n, after, status, size, zip.size, err)
				}
			})
		}
		wg.Wait()
		hangUp()
		if n := src.Hits(zip.path); n != 1 {
			t.Errorf("the source sent its zip %d times", n)
		}
		s.stop(t)
		if t.Failed() {
			return
		}
	}
}

// memory is what the kernel says of a process, in bytes: the most that it ever
// had since the peak was last forgotten, and what it has of its own now.
func memory(t testing.TB, pid int) (peak, anon int64) {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmHWM:":
			peak = n << 10
		case "RssAnon:":
			anon = n << 10
		}
	}
	return peak, anon
}

func TestManyClientsOfAHugeZipTakeLittleMemory(t *testing.T) {
	size, clients := int64(100<<20), 30
	if full() {
		size, clients = 300<<20, 50
	}
	const limit = 64 << 20
	src, zip := newBig(t, size, nil)
	s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
	c := client(t)
	// What every server needs once is not growth.
	fetch(t.Context(), c, s.URL+"/"+pathOf(goproxy.Info, "example.com/big", "v1.0.0"))

	for _, phase := range []string{"cold", "warm"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
			t.Logf("the peak cannot be forgotten: %v", err)
		}
		basePeak, baseAnon := memory(t, s.cmd.Process.Pid)
		var mostAnon atomic.Int64
		watched, stop := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(watched)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				_, anon := memory(t, s.cmd.Process.Pid)
				mostAnon.Store(max(mostAnon.Load(), anon))
				select {
				case <-stop:
					return
				case <-tick.C:
				}
			}
		}()
		start := time.Now()
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				if i == 0 {
					if status, sum, n, err := fetch(t.Context(), c, s.URL+"/"+zip.path); err != nil || status != 200 || sum != zip.sum {
						t.Errorf("%s: status %d, %d bytes of %d, %v", phase, status, n, zip.size, err)
					}
					return
				}
				// The others only count: hashing is not what this test is about.
				resp, err := c.Get(s.URL + "/" + zip.path)
				if err != nil {
					t.Errorf("%s: %v", phase, err)
					return
				}
				defer resp.Body.Close()
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != zip.size {
					t.Errorf("%s: %d bytes of %d, %v", phase, n, zip.size, err)
				}
			})
		}
		wg.Wait()
		took := time.Since(start)
		close(stop)
		<-watched
		peak, _ := memory(t, s.cmd.Process.Pid)
		grown, own := peak-basePeak, mostAnon.Load()-baseAnon
		t.Logf("%s: %d clients, %d MiB each in %v: the peak grew by %.1f MiB to %.1f, RssAnon by %.1f MiB",
			phase, clients, size>>20, took.Round(time.Millisecond), mib(grown), mib(peak), mib(own))
		if !raced() && (grown > limit || own > limit) {
			t.Errorf("%s: %d clients cost more than %d MiB of memory", phase, clients, limit>>20)
		}
	}
	if n := src.Hits(zip.path); n != 1 {
		t.Errorf("the source sent its zip %d times\n%s", n, s.log)
	}
	s.stop(t)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func TestWhatIsStoredIsServedWhileRequestsHangOnADeadSource(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("example.com/stored", "v1.0.0", nil)
	src := newSource(t, w, nil)
	data := filepath.Join(t.TempDir(), "store")
	s := serve(t, src.env, data)
	c := client(t)
	info := artifact{path: pathOf(goproxy.Info, m.Path, m.Version)}
	list := pathOf(goproxy.List, m.Path, "")
	for _, p := range []string{info.path, list, pathOf(goproxy.Zip, m.Path, m.Version)} {
		if status, _, _, err := fetch(t.Context(), c, s.URL+"/"+p); err != nil || status != 200 {
			t.Fatalf("%s: status %d, %v", p, status, err)
		}
	}
	s.stop(t)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hole, fillHole := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	counted := &countedListener{Listener: ln}
	wg.Go(func() { faults.BlackHole(hole, counted) })
	defer wg.Wait()
	defer fillHole()
	// Whatever waits for the source waits longer than the test.
	s = serve(t, src.env, data, "--proxy", "http://"+ln.Addr().String(), "--lists-fresh", "1ms", "--sources-timeout", "1h")
	hanging, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var answered atomic.Int64
	many := &http.Client{Transport: &http.Transport{}}
	for i := range 200 {
		wg.Go(func() {
			kind := []goproxy.Kind{goproxy.List, goproxy.Info, goproxy.Mod, goproxy.Zip}[i%4]
			p := pathOf(kind, fmt.Sprintf("example.com/hangs/m%03d", i), "v1.0.0")
			_, _, _, err := fetch(hanging, many, s.URL+"/"+p)
			if !errors.Is(err, context.Canceled) {
				answered.Add(1)
			}
		})
	}
	for end := time.Now().Add(patience); counted.taken.Load() < 200; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of 200 requests have come to the source", counted.taken.Load())
		}
	}

	var took []time.Duration
	for range 300 {
		start := time.Now()
		if status, _, _, err := fetch(t.Context(), c, s.URL+"/"+info.path); err != nil || status != 200 {
			t.Fatalf("status %d, %v", status, err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	start := time.Now()
	status, _, _, err := fetch(t.Context(), c, s.URL+"/"+list)
	listTook := time.Since(start)
	if err != nil || status != 200 {
		t.Errorf("a list that is to be given stale took %v: status %d, %v", listTook, status, err)
	}
	if n := answered.Load(); n != 0 {
		t.Errorf("%d of the 200 did not hang, so this was no test", n)
	}
	t.Logf("a stored .info beside 200 hanging requests: median %v, longest %v; a stale list %v", took[150], took[299], listTook)
	giveUp()
	s.stop(t)
}

// A countedListener counts the connections that are taken.
type countedListener struct {
	net.Listener
	taken atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.taken.Add(1)
	}
	return c, err
}

func TestASecondSignalEndsAServerThatWaitsForItsClients(t *testing.T) {
	hang := faults.Fault{Name: "hang"}
	src, zip := newBig(t, 1<<20, func(h http.Handler) http.Handler { return faults.Handler(h, faults.Always(hang)) })
	s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
	gone := make(chan error, 1)
	go func() {
		_, _, _, err := fetch(t.Context(), client(t), s.URL+"/"+zip.path)
		gone <- err
	}()
	for end := time.Now().Add(patience); src.DB.HitsPrefix("lookup/") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the checksum database was never asked")
		}
	}
	s.cmd.Process.Signal(os.Interrupt)
	if _, err := s.log.await(stopping, s.end); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.end:
		t.Fatal("the server did not wait for a client")
	case <-time.After(200 * time.Millisecond):
	}
	s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.end:
	case <-time.After(patience):
		t.Fatal("a second signal did not end it")
	}
	if err := <-gone; err == nil {
		t.Error("the client got an answer from a source that hangs")
	}
}

func TestReloadsDropNoRequest(t *testing.T) {
	src := newHeap(t)
	files := artifacts(src.World)
	conf := filepath.Join(t.TempDir(), "sluice.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf+".new", []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(conf+".new", conf); err != nil {
			t.Fatal(err)
		}
	}
	// The second takes the same source by another name: everything is made anew.
	one := fmt.Sprintf("proxy = %q\n", src.URL)
	two := fmt.Sprintf("proxy = %q\n[lists]\nfresh = \"2m\"\n", strings.Replace(src.URL, "127.0.0.1", "localhost", 1))
	bad := one + "no such line\n"
	write(one)
	s := serve(t, src.env, filepath.Join(t.TempDir(), "store"), "--config", conf)
	var never atomic.Bool
	stop, right := fill(t, chances(t), func() []string { return []string{s.URL} }, files, &never)
	for n := range 30 {
		write([]string{two, bad, one}[n%3])
		s.cmd.Process.Signal(syscall.SIGHUP)
		re := regexp.MustCompile(fmt.Sprintf(`(?s)(?:(?:configuration read again|the old one stays in force).*){%d}`, n+1))
		if _, err := s.log.await(re, s.end); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if n := strings.Count(s.log.String(), "the old one stays in force"); n != 10 {
		t.Errorf("%d of 10 bad files were refused", n)
	}
	t.Logf("30 reloads, %d files fetched meanwhile, all right", right.Load())
	s.stop(t)
}

func TestVerifyBesideAServerFindsNothingWrong(t *testing.T) {
	src := newHeap(t)
	files := artifacts(src.World)
	data := filepath.Join(t.TempDir(), "store")
	s := serve(t, src.env, data)
	var never atomic.Bool
	stop, right := fill(t, chances(t), func() []string { return []string{s.URL} }, files, &never)
	for range 6 {
		out, stderr, status := sluice(t, src.env, "", "verify", "--data", data)
		if status != 0 {
			t.Errorf("status %d\n%s%s", status, out, stderr)
		}
	}
	stop()
	t.Logf("%d files fetched meanwhile", right.Load())
	checkWhole(t, src, s, data, files)
}
