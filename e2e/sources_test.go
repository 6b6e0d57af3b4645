//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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

// chaosTime is how long sources are killed and healed: SLUICE_CHAOS, or a while.
func chaosTime(t *testing.T) time.Duration {
	s := os.Getenv("SLUICE_CHAOS")
	if s == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		t.Fatalf("SLUICE_CHAOS=%q: a time such as 10m is wanted", s)
	}
	return d
}

// A patient is a source that falls ill and is healed.
type patient struct {
	*modtest.Server
	fault faults.Switch
	dead  bool
}

// set puts a fault in; "none" heals, "dead" ends the server.
func (p *patient) set(t *testing.T, name string) {
	switch dead := name == "dead"; {
	case dead && !p.dead:
		p.Stop()
		p.dead = true
		return
	case dead:
		return
	case p.dead:
		p.Start()
		p.dead = false
	}
	f, err := faults.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	p.fault.Set(f)
}

// gauges reads metrics of a server.
func gauges(t testing.TB, c *http.Client, url string, names ...string) map[string]float64 {
	t.Helper()
	resp, err := c.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && slices.Contains(names, f[0]) {
			m[f[0]], _ = strconv.ParseFloat(f[1], 64)
		}
	}
	return m
}

func TestBuildsPassWhileSourcesDieAndHealAtRandom(t *testing.T) {
	rnd, long := chances(t), chaosTime(t)
	w := modtest.New(t)
	db := w.SumDB("127.0.0.1")
	var sources []*patient
	var urls []string
	for range 3 {
		p := &patient{}
		p.Server = modtest.Serve(t, faults.Handler(w.Handler(), p.fault.Pick))
		sources = append(sources, p)
		urls = append(urls, p.URL)
	}
	env := environ(t, "GOPROXY="+strings.Join(urls, "|"), "SLUICE_GOSUMDB="+db.GOSUMDB(modtest.Serve(t, db).URL))
	s := serve(t, env, filepath.Join(t.TempDir(), "store"))
	c := client(t)

	const clients, modules = 8, 6
	var builds, failed atomic.Int64
	var mu sync.Mutex // the world is added to by one at a time
	download := func(who, round int) {
		var args []string
		for i := range modules {
			mu.Lock()
			path := fmt.Sprintf("chaos.test/c%d/r%d/m%d", who, round, i)
			if i == 0 {
				w.Add(path, "v1.0.0", modtest.Files{"go.mod": "module " + path + "\n\ngo 1.20\n", "data.txt": modtest.GitNoise(600 << 10)})
			} else {
				w.Add(path, "v1.0.0", modtest.Files{"go.mod": "module " + path + "\n\ngo 1.20\n", "m.go": "package m\n"})
			}
			mu.Unlock()
			args = append(args, path+"@v1.0.0")
		}
		dir := t.TempDir()
		genv := modtest.GoEnv(t, s.URL, db.GOSUMDB(""), "GOMODCACHE="+filepath.Join(dir, "mod"), "GOFLAGS=-modcacherw")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", append([]string{"mod", "download"}, args...)...)
		cmd.Env, cmd.Dir = genv, dir
		out, err := cmd.CombinedOutput()
		builds.Add(1)
		if err != nil && failed.Add(1) < 4 {
			t.Errorf("client %d, round %d: %v\n%s", who, round, err, out)
		}
		os.RemoveAll(dir)
	}
	download(0, 0) // warm
	c.CloseIdleConnections()
	names := []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes"}
	before := gauges(t, c, s.URL, names...)

	var over atomic.Bool
	var wg sync.WaitGroup
	for who := range clients {
		wg.Go(func() {
			for round := 1; !over.Load(); round++ {
				download(who, round)
			}
		})
	}
	ills := []string{"dead", "503", "500", "hang", "hang-body", "drip=1000", "reset", "reset=50%", "cut", "short", "html", "429=1", "flip", "404-html", "redirect-loop", "slow-list"}
	seen := map[string]int{}
	var half map[string]float64
	start := time.Now()
	for end := start.Add(long); time.Now().Before(end); {
		if half == nil && time.Since(start) > long/2 {
			half = gauges(t, c, s.URL, names...)
		}
		well := rnd.IntN(len(sources)) // one is always well, and never the one that was
		for i, p := range sources {
			ill := "none"
			if i != well && rnd.IntN(4) > 0 {
				ill = ills[rnd.IntN(len(ills))]
			}
			seen[ill]++
			if i == well {
				p.set(t, "none")
			}
			if i != well {
				p.set(t, ill)
			}
		}
		time.Sleep(time.Duration(300+rnd.IntN(2000)) * time.Millisecond)
	}
	over.Store(true)
	for _, p := range sources {
		p.set(t, "none")
	}
	wg.Wait()
	t.Logf("%d downloads of %d modules by %d clients in %v, %d failed; ills: %v", builds.Load(), modules, clients, long, failed.Load(), seen)

	// What was under way ends; what is left must not grow with time. Connections
	// that are not in use stay for a minute and a half, which only a long run awaits.
	slack := 200.0
	if long >= time.Minute {
		slack = 20
	}
	c.CloseIdleConnections()
	var after map[string]float64
	for end := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		after = gauges(t, c, s.URL, names...)
		if after["go_goroutines"] <= before["go_goroutines"]+slack && after["process_open_fds"] <= before["process_open_fds"]+slack {
			break
		}
		if time.Now().After(end) {
			t.Errorf("goroutines, files: before %v, after %v", before, after)
			break
		}
	}
	t.Logf("before %v, half-way %v, after %v", before, half, after)
	const mem = "process_resident_memory_bytes"
	// What is remembered has bounds, and in a long run they are met before its half.
	if m := after[mem]; m > before[mem]+64<<20 || long >= 5*time.Minute && m > half[mem]+16<<20 {
		t.Errorf("memory grew from %.0f to %.0f MiB half-way and %.0f in the end", before[mem]/(1<<20), half[mem]/(1<<20), m/(1<<20))
	}
	s.stop(t)
}

func TestAZipThatIsCutAgainAndAgainComesOnce(t *testing.T) {
	size := int64(40 << 20)
	if full() {
		size = 200 << 20
	}
	every := size / 10
	var sent atomic.Int64
	src, zip := newBig(t, size, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".zip") {
				w = &cutting{ResponseWriter: w, left: every, sent: &sent}
			}
			next.ServeHTTP(w, r)
		})
	})
	s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
	status, sum, n, err := fetch(t.Context(), client(t), s.URL+"/"+zip.path)
	if err != nil || status != 200 || sum != zip.sum {
		t.Fatalf("status %d, %d of %d bytes, %v", status, n, zip.size, err)
	}
	twice := sent.Load() - zip.size
	t.Logf("%d bytes, cut every %d: %d bytes came twice (%.2f %%)", zip.size, every, twice, 100*float64(twice)/float64(zip.size))
	if twice*20 > zip.size {
		t.Errorf("%d of %d bytes came twice", twice, zip.size)
	}
	s.stop(t)
}

// cutting breaks the connection after some bytes of a body.
type cutting struct {
	http.ResponseWriter
	left int64
	sent *atomic.Int64
}

func (c *cutting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	c.sent.Add(int64(n))
	if c.left -= int64(n); c.left <= 0 {
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// usual is what the sources of BenchmarkHedging take to answer, and a little by
// chance.
const usual = 40 * time.Millisecond

// BenchmarkHedging asks for cold .info files while all sources are well, and while
// the first takes ten times as long. It reports what share of requests went to a
// second source, and the p99 with a slow source as a multiple of the p99 without.
func BenchmarkHedging(b *testing.B) {
	for b.Loop() {
		w := modtest.New(b)
		const each, at = 1500, 8
		for i := range 2*each + 200 {
			w.Add(fmt.Sprintf("hedge.test/m%d", i), "v1.0.0", nil)
		}
		var slow atomic.Bool
		var extra atomic.Int64
		var urls []string
		for n := range 2 {
			var count atomic.Int64
			urls = append(urls, modtest.Serve(b, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				wait := usual + time.Duration(count.Add(1)%16)*time.Millisecond
				if n == 0 && slow.Load() {
					wait *= 10
				}
				if n == 1 && strings.HasSuffix(r.URL.Path, ".info") {
					extra.Add(1)
				}
				time.Sleep(wait)
				w.Handler().ServeHTTP(rw, r)
			})).URL)
		}
		s := serve(b, environ(b, "GOPROXY="+strings.Join(urls, "|"), "SLUICE_GOSUMDB=off", "SLUICE_LOOKAHEAD_ENABLED=false"), filepath.Join(b.TempDir(), "store"))
		c := client(b)
		next := 0
		var mu sync.Mutex
		ask := func(n int) (p99 time.Duration) {
			var all []time.Duration
			var wg sync.WaitGroup
			left := atomic.Int64{}
			left.Store(int64(n))
			for range at {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						mu.Lock()
						m := next
						next++
						mu.Unlock()
						start := time.Now()
						status, _, _, err := fetch(b.Context(), c, s.URL+"/"+pathOf(goproxy.Info, fmt.Sprintf("hedge.test/m%d", m), "v1.0.0"))
						took := time.Since(start)
						if err != nil || status != 200 {
							b.Errorf("status %d, %v", status, err)
						}
						mu.Lock()
						all = append(all, took)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			slices.Sort(all)
			return all[len(all)*99/100]
		}
		ask(200) // it gets to know its sources
		extra.Store(0)
		well := ask(each)
		b.ReportMetric(100*float64(extra.Load())/each, "%extra")
		slow.Store(true)
		b.ReportMetric(float64(ask(each))/float64(well), "p99-ratio")
		b.ReportMetric(float64(well.Milliseconds()), "p99-ms")
		b.ReportMetric(0, "ns/op")
		s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.end
	}
}
