//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

const (
	sourceCount = 3
	setSize     = 60                   // modules that one client downloads
	bigEvery    = 20                   // each so many'th is a big one
	bigBytes    = 2500 << 10           // of payload, so that what happens amid a body happens amid a download
	asked       = 8                    // modules whose lists the updating client asks for
	latency     = 5 * time.Millisecond // of a well source, for each answer
	startBudget = 20 * time.Second     // for a server to be there
	stopBudget  = 3 * time.Second      // for one to stop by itself
	// failTimeout is sources.timeout and sources.connect where a build must fail: a client whose
	// gatekeeper is silent waits that long, and more would measure nothing.
	failTimeout = "250ms"
)

// A matrix is what all cells share.
type matrix struct {
	sluice string // the program
	limit  time.Duration
	timed  bool // times are judged

	world  *modtest.World
	db     *modtest.SumDB
	dbURL  string
	sets   [2][]module.Version
	sums   map[string][sha256.Size]byte // of every file of the world, by the path of its request
	paths  map[string]bool              // of modules, escaped
	portal tls.Certificate
	ca     string // file with the authority of portal, which everybody trusts
}

func newMatrix(t *modtest.Scope) *matrix {
	m := &matrix{world: modtest.New(t), sums: map[string][sha256.Size]byte{}, paths: map[string]bool{}}
	for s := range m.sets {
		path := func(i int) string { return fmt.Sprintf("example.com/set%d/m%02d", s, i%setSize) }
		for i := range setSize {
			if i%bigEvery == 1 {
				m.sets[s] = append(m.sets[s], m.world.Big(path(i), "v1.1.0", bigBytes))
				continue
			}
			for _, vers := range []string{"v1.0.0", "v1.1.0"} {
				mod := m.world.Add(path(i), vers, modtest.Files{
					"go.mod": fmt.Sprintf("module %s\n\ngo 1.21\n\nrequire %s v1.1.0\n", path(i), path(i+1)),
					"p.go":   fmt.Sprintf("package p\n\n// Filling is of no use.\nconst Filling = %q\n", strings.Repeat(vers+path(i), i*20)),
				})
				if vers == "v1.1.0" {
					m.sets[s] = append(m.sets[s], mod)
				}
			}
		}
	}
	for _, mod := range m.world.Modules() {
		esc, err := module.EscapePath(mod.Path)
		t.Must(err)
		m.paths[esc] = true
		for k, data := range map[goproxy.Kind][]byte{goproxy.Info: m.world.Info(mod), goproxy.Mod: m.world.Mod(mod), goproxy.Zip: m.world.Zip(mod)} {
			m.sums[goproxy.Request{Kind: k, Module: mod}.Path()] = sha256.Sum256(data)
		}
	}
	// Its name is an address, so that who goes past the sources to it asks no name
	// server: nothing listens there.
	m.db = m.world.SumDB("127.0.0.1")
	m.world.Mount(m.db)
	srv := modtest.Serve(t, late(m.db))
	m.dbURL = srv.URL
	for _, mod := range m.world.Modules() { // or the database would grow while somebody waits
		resp, err := srv.Client().Get(srv.URL + "/lookup/" + mod.String())
		t.Must(err)
		resp.Body.Close()
	}
	m.world.Forget()
	var ca []byte
	var err error
	m.portal, ca, err = newPortal()
	t.Must(err)
	m.ca = filepath.Join(t.TempDir(), "ca.pem")
	t.Must(os.WriteFile(m.ca, ca, 0o644))
	return m
}

// late is h behind a line of constant latency.
func late(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(latency)
		h.ServeHTTP(w, r)
	})
}

func (m *matrix) well() http.Handler { return late(m.world.Handler()) }

// sources serves the three of a cell: the first bad ones misbehave. wrap is what
// their names need.
func (m *matrix) sources(t *modtest.Scope, f *fault, bad int) (urls []string, wrap []string) {
	for i := range sourceCount {
		h := m.well()
		if i < bad && f != nil {
			if f.wire != nil {
				b := f.wire(m, t, i)
				urls = append(urls, b.url)
				wrap = b.wrap
				continue
			}
			spec, err := faults.Parse(f.spec)
			t.Must(err)
			h = faults.Handler(h, func(r *http.Request) (faults.Fault, bool) { return spec, !f.half || m.even(r) })
		}
		urls = append(urls, modtest.Serve(t, h).URL)
	}
	return urls, wrap
}

// even reports whether a request is for one half of the modules.
func (m *matrix) even(r *http.Request) bool {
	esc, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/@")
	return esc != "" && esc[len(esc)-1]%2 == 0
}

// gosumdb is the setting of the checksum database for who asks the sources. It is
// asked past them, but where the fault is that it cannot be reached otherwise.
func (m *matrix) gosumdb(f *fault) string {
	if f != nil && f.kind == lostSums {
		return m.db.GOSUMDB("")
	}
	return m.db.GOSUMDB(m.dbURL)
}

// A proxy is a running server of modules, with a tap before it.
type proxy struct {
	url  string // of the tap
	kill func()
	*tap
}

var serving = regexp.MustCompile(`msg=serving url=(http://\S+)`)

// serve starts Sluice on a data directory.
func (m *matrix) serve(t *modtest.Scope, data string, urls []string, ch chain, f *fault, wrap []string, args ...string) *proxy {
	said := new(output)
	args = slices.Concat(wrap, []string{m.sluice, "serve", "--listen", "127.0.0.1:0", "--data", data,
		"--proxy", strings.Join(urls, ch.sep), "--failover", ch.failover, "--gosumdb", m.gosumdb(f)}, args)
	end, kill := m.start(t, args, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GOENV=off", "LC_ALL=C", "SSL_CERT_FILE=" + m.ca}, said)
	for deadline := time.Now().Add(startBudget); ; time.Sleep(2 * time.Millisecond) {
		if hit := serving.FindStringSubmatch(said.String()); hit != nil {
			return m.tapped(t, hit[1], kill)
		}
		select {
		case <-end:
			t.Fatalf("sluice serve ended before it served: %s", said.last(20))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("sluice serve does not serve after %v: %s", startBudget, said.last(20))
		}
	}
}

// start runs a command in a process group that ends with the scope.
func (m *matrix) start(t *modtest.Scope, args, env []string, said io.Writer) (end chan struct{}, kill func()) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	t.Must(cmd.Start())
	end = make(chan struct{})
	go func() { defer close(end); cmd.Wait() }()
	kill = sync.OnceFunc(func() {
		// What a client has may not be stored yet: that is done before it stops.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-end:
		case <-time.After(stopBudget):
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-end
	})
	t.Cleanup(kill)
	return end, kill
}

// An output keeps what a process says. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex // guards the following
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// last is the last n lines.
func (o *output) last(n int) string {
	lines := strings.Split(strings.TrimSpace(o.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// A tap stands between a client and a proxy, and notes every answer that is wrong:
// whole and other than the world, or "not found" for what exists.
type tap struct {
	m *matrix

	mu    sync.Mutex // guards the following
	wrong []string
}

func (m *matrix) tapped(t *modtest.Scope, target string, kill func()) *proxy {
	u, err := url.Parse(target)
	t.Must(err)
	p := &proxy{kill: kill, tap: &tap{m: m}}
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	p.url = modtest.Serve(t, &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport:      tr,
		FlushInterval:  -1,
		ErrorLog:       log.New(io.Discard, "", 0), // of clients that were stopped
		ModifyResponse: p.look,
	}).URL
	return p
}

func (p *tap) note(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, a...))
}

// take gives what was wrong since it was last called.
func (p *tap) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.wrong
	p.wrong = nil
	return w
}

func (p *tap) look(resp *http.Response) error {
	path := strings.TrimPrefix(resp.Request.URL.Path, "/")
	sum, exists := p.m.sums[path]
	esc, _, _ := strings.Cut(path, "/@")
	lists := strings.HasSuffix(path, "/@v/list") || strings.HasSuffix(path, "/@latest")
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		if exists || lists && p.m.paths[esc] {
			p.note("%d for %s, which exists", resp.StatusCode, path)
		}
	case resp.StatusCode == http.StatusOK && exists && resp.Request.Method == http.MethodGet:
		resp.Body = &checked{ReadCloser: resp.Body, tap: p, path: path, sum: sum}
	}
	return nil
}

// checked compares a body with what it ought to be, at its end; one that breaks
// off before is no answer.
type checked struct {
	io.ReadCloser
	tap  *tap
	path string
	sum  [sha256.Size]byte
	got  bytes.Buffer
}

func (c *checked) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.got.Write(b[:n])
	if err == io.EOF && sha256.Sum256(c.got.Bytes()) != c.sum {
		c.tap.note("%d wrong bytes served as %s", c.got.Len(), c.path)
	}
	return n, err
}

// A run is what became of one client's download.
type run struct {
	Passed  bool     `json:"passed"`
	Seconds float64  `json:"seconds"`
	Hung    bool     `json:"hung,omitempty"`  // it was stopped at the time limit
	Wrong   []string `json:"wrong,omitempty"` // answers, and files of the module cache
	Said    string   `json:"said,omitempty"`  // how it ended, if not well
}

// download is one cold client of a set: go mod download with an empty module
// cache, without a go.sum, verified by the checksum database. An updating one asks
// for the latest version of some of the modules first.
func (m *matrix) download(t *modtest.Scope, goproxy, gosumdb string, set int, update bool, wrap []string) run {
	env := modtest.GoEnv(t, goproxy, gosumdb, "SSL_CERT_FILE="+m.ca)
	dir := t.TempDir()
	mod := "module app.example.com\n\ngo 1.21\n\nrequire (\n"
	for _, r := range m.sets[set] {
		mod += "\t" + r.Path + " " + r.Version + "\n"
	}
	t.Must(os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod+")\n"), 0o644))
	commands := [][]string{{"go", "mod", "download"}}
	if update {
		get := []string{"go", "get"}
		for i, r := range m.sets[set] {
			if i%bigEvery != 1 && len(get) < 2+asked {
				get = append(get, r.Path+"@latest")
			}
		}
		commands = slices.Insert(commands, 0, get)
	}
	ctx, cancel := context.WithTimeout(t.Context(), m.limit)
	defer cancel()
	r := run{Passed: true}
	said := new(output)
	begin := time.Now()
	for _, args := range commands {
		args = slices.Concat(wrap, args)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = append(env, "PWD="+dir), dir, said, said
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		if err := cmd.Run(); err != nil {
			_, ended := errors.AsType[*exec.ExitError](err)
			r.Passed, r.Hung, r.Said = false, ctx.Err() != nil, said.last(40)
			if !ended && !r.Hung {
				t.Must(err)
			}
			break
		}
	}
	r.Seconds = time.Since(begin).Seconds()
	t.Must(context.Cause(t.Context()))
	r.Wrong = m.compare(t, modtest.EnvValue(env, "GOMODCACHE"), set, r.Passed)
	return r
}

// compare lists the files of a module cache that are not the world's, and after a
// download that passed also those that are not there.
func (m *matrix) compare(t *modtest.Scope, cache string, set int, whole bool) (bad []string) {
	root := filepath.Join(cache, "cache", "download")
	there := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		path := filepath.ToSlash(rel)
		if ext := filepath.Ext(path); ext != ".info" && ext != ".mod" && ext != ".zip" {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		sum, ok := m.sums[path]
		if !ok || !same(path, data, sum) {
			bad = append(bad, fmt.Sprintf("%s in the module cache is not the world's", path))
		}
		there[path] = true
		return nil
	})
	t.Must(err)
	for _, mod := range m.sets[set] {
		path := goproxy.Request{Kind: goproxy.Zip, Module: mod}.Path()
		if whole && !there[path] {
			bad = append(bad, path+" is not in the module cache, although the build passed")
		}
	}
	return bad
}

// same compares a file of the module cache. A .info has there what the go command
// read in it, in the same order but perhaps with an empty Origin.
func same(path string, data []byte, sum [sha256.Size]byte) bool {
	if strings.HasSuffix(path, ".info") {
		var info struct {
			Version string
			Time    time.Time
		}
		if json.Unmarshal(data, &info) != nil {
			return false
		}
		data, _ = json.Marshal(info) // a string and a time marshal
	}
	return sha256.Sum256(data) == sum
}
