//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

const (
	fillers = 16 // clients that fill a store
	// roundsPerStore is how many kills a store survives before it is looked through
	// and a new one is begun: later there would be nothing left to fetch.
	roundsPerStore = 4
)

// killRounds is how often a server is killed.
func killRounds(t *testing.T, def int) int {
	s := os.Getenv("SLUICE_KILL_ROUNDS")
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SLUICE_KILL_ROUNDS=%s is no number of rounds", s)
	}
	return n
}

// newHeap is a source with about eighty modules, most of them small and some of
// several megabytes.
func newHeap(t *testing.T) *source {
	w := modtest.New(t)
	for i := range 80 {
		path, vers := fmt.Sprintf("example.com/heap/m%02d", i), fmt.Sprintf("v1.%d.0", i)
		switch {
		case i%20 == 7:
			w.Big(path, vers, 5<<20)
		case i%5 == 3:
			w.Big(path, vers, 600<<10)
		default:
			w.Add(path, vers, modtest.Files{
				"go.mod": fmt.Sprintf("module %s\n\ngo 1.21\n\nrequire example.com/heap/m%02d v1.%d.0\n", path, (i+1)%80, (i+1)%80),
				"p.go":   fmt.Sprintf("package p\n\nconst N = %d // %s\n", i, strings.Repeat("x", i*200)),
			})
		}
	}
	return newSource(t, w, nil)
}

// fill has clients fetch files by chance from the servers until stop is called, and
// reports what they got wrong. A broken transfer is no mistake once dying says so:
// then a server is being killed.
func fill(t *testing.T, rnd *rand.Rand, urls func() []string, files []artifact, dying *atomic.Bool) (stop func(), right *atomic.Int64) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	right = new(atomic.Int64)
	c := client(t)
	for range fillers {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), 1))
		wg.Go(func() {
			for ctx.Err() == nil {
				f := files[mine.IntN(len(files))]
				list := urls()
				status, sum, size, err := fetch(ctx, c, list[mine.IntN(len(list))]+"/"+f.path)
				switch {
				case err != nil:
					if !dying.Load() && ctx.Err() == nil {
						t.Errorf("%s: %v", f.path, err)
					}
					time.Sleep(time.Millisecond) // or it would spin until the kill is over
				case status != 200 || sum != f.sum:
					t.Errorf("%s: status %d and %d bytes that are not the %d right ones", f.path, status, size, f.size)
				default:
					right.Add(1)
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }, right
}

// checkStored fetches what the server has without asking the source: whatever it
// gives must be right.
func checkStored(t *testing.T, s *server, files []artifact) (there int) {
	t.Helper()
	c := client(t)
	for _, f := range files {
		status, sum, size, err := fetch(t.Context(), c, s.URL+"/"+f.path, "Disable-Module-Fetch", "true")
		switch {
		case err != nil:
			t.Errorf("%s from the store: %v", f.path, err)
		case status == 404:
		case status == 200 && sum == f.sum:
			there++
		default:
			t.Errorf("%s from the store: status %d and %d bytes that are not the %d right ones", f.path, status, size, f.size)
		}
	}
	return there
}

// checkTidy looks for what only a crash could have left in a store that one or no
// server uses.
func checkTidy(t *testing.T, data string, servers int) {
	t.Helper()
	procs, err := os.ReadDir(filepath.Join(data, ".sluice", "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	if len(procs) != servers {
		t.Errorf("%d processes use the store, but .sluice/tmp has %v", servers, procs)
	}
	for _, p := range procs {
		for _, name := range leftBehind(t, filepath.Join(data, ".sluice", "tmp", p.Name())) {
			if name != "lock" {
				t.Errorf("left behind: .sluice/tmp/%s/%s", p.Name(), name)
			}
		}
	}
	if q := leftBehind(t, filepath.Join(data, ".sluice", "quarantine")); len(q) != 0 {
		t.Errorf("nothing was damaged, and yet there is something in quarantine: %v", q)
	}
}

// checkWhole fetches everything through a server, stops it, and has the store
// verified.
func checkWhole(t *testing.T, src *source, s *server, data string, files []artifact) {
	t.Helper()
	c := client(t)
	next := make(chan artifact)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for f := range next {
				status, sum, size, err := fetch(t.Context(), c, s.URL+"/"+f.path)
				if err != nil || status != 200 || sum != f.sum {
					t.Errorf("%s: status %d, %d bytes, %v, not the %d right ones", f.path, status, size, err, f.size)
				}
			}
		})
	}
	for _, f := range files {
		next <- f
	}
	close(next)
	wg.Wait()
	s.stop(t)
	checkTidy(t, data, 0)
	out, stderr, status := sluice(t, src.env, "", "verify", "--data", data)
	if want := fmt.Sprintf("%d files read", len(files)); status != 0 || !strings.HasPrefix(out, want) || !strings.Contains(out, "; 0 problems") {
		t.Errorf("verify: status %d, want %q and no problems\n%s%s", status, want, out, stderr)
	}
	checkTidy(t, data, 0)
}

func TestAServerThatIsKilledAtAnyMomentLeavesNothingWrong(t *testing.T) {
	rounds := killRounds(t, 12)
	rnd := chances(t)
	src := newHeap(t)
	files := artifacts(src.World)
	var fetched, stored, checked int64
	var data string
	for round := range rounds {
		if round%roundsPerStore == 0 {
			data = filepath.Join(t.TempDir(), "store")
		}
		s := serve(t, src.env, data, "--log-level", "info")
		var dying atomic.Bool
		stop, right := fill(t, rnd, func() []string { return []string{s.URL} }, files, &dying)
		pause := time.Duration(rnd.IntN(500)) * time.Millisecond
		time.Sleep(pause)
		dying.Store(true)
		s.kill()
		stop()
		fetched += right.Load()

		s = serve(t, src.env, data)
		checkTidy(t, data, 1)
		there := checkStored(t, s, files)
		stored, checked = stored+int64(there), checked+int64(len(files))
		if last := round == rounds-1; last || round%roundsPerStore == roundsPerStore-1 {
			checkWhole(t, src, s, data, files)
			checked += int64(len(files))
			os.RemoveAll(data)
		} else if round%2 == 0 {
			s.stop(t)
		} else {
			s.kill()
		}
		if t.Failed() {
			t.Fatalf("round %d, killed after %v", round, pause)
		}
	}
	t.Logf("%d rounds: %d files fetched before the kills, %d of %d found in the stores after them, all right", rounds, fetched, stored, checked)
}

func TestServersOnOneDirectorySurviveEachOthersDeath(t *testing.T) {
	rounds := killRounds(t, 8) / 2
	rnd := chances(t)
	src := newHeap(t)
	files := artifacts(src.World)
	var fetched, checked int64
	var data string
	servers := make([]*server, 3)
	var mu sync.Mutex // guards urls, which is read by the clients
	var urls []string
	renew := func(i int) {
		servers[i] = serve(t, src.env, data)
		mu.Lock()
		defer mu.Unlock()
		urls = slices.Clone(urls)
		urls[i] = servers[i].URL
	}
	for round := range rounds {
		if round%roundsPerStore == 0 {
			data = filepath.Join(t.TempDir(), "store")
			urls = make([]string, len(servers))
			for i := range servers {
				renew(i)
			}
		}
		var dying atomic.Bool
		stop, right := fill(t, rnd, func() []string {
			mu.Lock()
			defer mu.Unlock()
			return urls
		}, files, &dying)
		time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
		dying.Store(true)
		i := rnd.IntN(len(servers))
		servers[i].kill()
		// Its port is anybody's now.
		mu.Lock()
		urls = slices.Clone(urls)
		urls[i] = servers[(i+1)%len(servers)].URL
		mu.Unlock()
		renew(i)
		stop()
		fetched += right.Load()
		for _, s := range servers {
			checkStored(t, s, files)
			checked += int64(len(files))
		}
		if round == rounds-1 || round%roundsPerStore == roundsPerStore-1 {
			for _, s := range servers[1:] {
				s.stop(t)
			}
			checkWhole(t, src, servers[0], data, files)
			os.RemoveAll(data)
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("%d rounds with %d servers: %d files fetched, %d looked at after the kills, all right", rounds, len(servers), fetched, checked)
}

func TestAFileIsStoredOnceForAllServersOfADirectory(t *testing.T) {
	src := newHeap(t)
	data := filepath.Join(t.TempDir(), "store")
	a, b := serve(t, src.env, data), serve(t, src.env, data)
	path := pathOf(goproxy.Zip, "example.com/heap/m07", "v1.7.0")
	c := client(t)
	for _, s := range []*server{a, b} {
		if status, _, _, err := fetch(t.Context(), c, s.URL+"/"+path); err != nil || status != 200 {
			t.Fatalf("status %d, %v", status, err)
		}
		// The answer may be out before the file is in.
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(data, filepath.FromSlash(path))); err == nil {
				break
			}
		}
	}
	if n := src.Hits(path); n != 1 {
		t.Errorf("the source was asked %d times for what two servers share, not once", n)
	}
	a.stop(t)
	b.stop(t)
}
