//go:build linux

// Package e2e_test runs the built program against real go commands, real signals,
// real disks and networks that are not there. Everything stays on this machine: a
// made-up world of modules on loopback, and network namespaces without routes.
//
// The environment scales it: SLUICE_E2E_FULL=1 takes the sizes of the product's
// promises in place of smaller ones, SLUICE_KILL_ROUNDS sets how often a server is
// killed, SLUICE_E2E_RACE=1 builds the program with the race detector, SLUICE_SEED
// repeats a run's chances. SLUICE_STRICT=1 makes a failure of what would be skipped.
package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// patience is the longest that a test waits for one thing. It is no measure of
// anything: it only ends what would not end.
const patience = 2 * time.Minute

// program is the built sluice.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	modtest.HearSignals()
	if program = os.Getenv(inNamespace); program != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "sluice-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "sluice")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if raced() {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/modsluice/sluice/cmd/sluice")...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building sluice: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func raced() bool { return os.Getenv("SLUICE_E2E_RACE") == "1" }
func full() bool  { return os.Getenv("SLUICE_E2E_FULL") == "1" }

// chances are a test's own, told so that they can be repeated.
func chances(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SLUICE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SLUICE_SEED: %v", err)
		}
	}
	t.Logf("SLUICE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// environ is the environment of a sluice of its own: a new HOME, and nothing set
// by whoever runs the tests.
func environ(t testing.TB, extra ...string) []string {
	home := t.TempDir()
	tmp := filepath.Join(home, "tmp")
	mode := filepath.Join(home, ".config", "go", "telemetry", "mode")
	// A go command that may upload outlives the test, and writes to its home.
	if err := errors.Join(os.Mkdir(tmp, 0o777), os.MkdirAll(filepath.Dir(mode), 0o777), os.WriteFile(mode, []byte("off"), 0o666)); err != nil {
		t.Fatal(err)
	}
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + tmp, "GOENV=off", "GOTOOLCHAIN=local", "LC_ALL=C"}, extra...)
}

// A server is a running sluice serve.
type server struct {
	URL string
	cmd *exec.Cmd
	log *logBuffer
	end chan struct{} // closed when the process has ended
}

// A logBuffer keeps what a process says, and tells when a line has come.
type logBuffer struct {
	mu   sync.Mutex // guards the following
	text bytes.Buffer
	more chan struct{} // closed and replaced when something is written
}

func newLogBuffer() *logBuffer { return &logBuffer{more: make(chan struct{})} }

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until there is a match of re, or done is closed.
func (l *logBuffer) await(re *regexp.Regexp, done <-chan struct{}) ([]string, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		m, more := re.FindStringSubmatch(l.text.String()), l.more
		l.mu.Unlock()
		if m != nil {
			return m, nil
		}
		select {
		case <-more:
		case <-done:
			if m := re.FindStringSubmatch(l.String()); m != nil {
				return m, nil
			}
			return nil, fmt.Errorf("the process has ended without a match of %v; it said\n%s", re, l)
		case <-timeout.C:
			return nil, fmt.Errorf("no match of %v in\n%s", re, l)
		}
	}
}

var (
	serving  = regexp.MustCompile(`msg=serving url=(http://\S+)`)
	stopping = regexp.MustCompile(`msg="stopping`)
)

// serve starts a server on a data directory, which is killed when the test ends.
func serve(t testing.TB, env []string, data string, args ...string) *server {
	t.Helper()
	s := &server{log: newLogBuffer(), end: make(chan struct{})}
	s.cmd = exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, args...)...)
	s.cmd.Env, s.cmd.Stderr = env, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.end)
		s.cmd.Wait()
	}()
	t.Cleanup(s.kill)
	m, err := s.log.await(serving, s.end)
	if err != nil {
		t.Fatal(err)
	}
	s.URL = m[1]
	return s
}

// kill is kill -9, waited for.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.end
}

// stop asks the server to stop, as a service manager does, and expects that it
// has nothing to complain about.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.end:
	case <-time.After(patience):
		s.kill()
		t.Fatal("the server does not stop")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("a server that was asked to stop exited with status %d; it said\n%s", code, s.log)
	}
	if strings.Contains(s.log.String(), "internal error") || strings.Contains(s.log.String(), "DATA RACE") {
		t.Errorf("the server met an internal error:\n%s", s.log)
	}
}

// sluice runs another command of the program to its end.
func sluice(t testing.TB, env []string, dir string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = env, dir
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), errb.String(), cmd.ProcessState.ExitCode()
}

// client is an HTTP client with room for many connections, which asks as the go
// command does.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// fetch gets a URL whole. sum is the SHA-256 of the body.
func fetch(ctx context.Context, c *http.Client, url string, header ...string) (status int, sum string, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", 0, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", 0, err
	}
	defer resp.Body.Close()
	h := sha256.New()
	size, err = io.Copy(h, resp.Body)
	return resp.StatusCode, hex.EncodeToString(h.Sum(nil)), size, err
}

// An artifact is one file of a world, and what its bytes must be.
type artifact struct {
	path string
	sum  string
	size int64
}

// artifacts lists every file of every version of a world.
func artifacts(w *modtest.World) []artifact {
	var list []artifact
	for _, m := range w.Modules() {
		add := func(k goproxy.Kind, data []byte) {
			sum := sha256.Sum256(data)
			list = append(list, artifact{goproxy.Request{Kind: k, Module: m}.Path(), hex.EncodeToString(sum[:]), int64(len(data))})
		}
		add(goproxy.Info, w.Info(m))
		add(goproxy.Mod, w.Mod(m))
		add(goproxy.Zip, w.Zip(m))
	}
	return list
}

func pathOf(k goproxy.Kind, path, vers string) string {
	return goproxy.Request{Kind: k, Module: module.Version{Path: path, Version: vers}}.Path()
}

// A source is a served world with its checksum database.
type source struct {
	*modtest.World
	*modtest.Server
	DB  *modtest.SumDB
	env []string // for a sluice that is to ask it
}

// newSource serves a world through wrap, which may be nil. Its checksum database
// is called 127.0.0.1, so that who goes past Sluice to it asks no name server.
func newSource(t testing.TB, w *modtest.World, wrap func(http.Handler) http.Handler) *source {
	t.Helper()
	s := &source{World: w, DB: w.SumDB("127.0.0.1")}
	h := w.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	s.Server = modtest.Serve(t, h)
	s.env = environ(t, "GOPROXY="+s.URL, "SLUICE_GOSUMDB="+s.DB.GOSUMDB(modtest.Serve(t, s.DB).URL))
	return s
}

// leftBehind lists what is below dir, by its name in there; none if dir is not.
func leftBehind(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && name != dir {
			rel, _ := filepath.Rel(dir, name)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// need skips unless the programs are here.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		_, err := exec.LookPath(p)
		modtest.Need(t, p+" (no such command in PATH)", err == nil)
	}
}
