package modtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// GitHost is the host name that a Git plays: every module path below it can be
// made to exist with Repo.
const GitHost = "git.modtest.example"

// A GitFault is a way for a Git repository's server to misbehave.
type GitFault string

// The zero GitFault is none: the server works.
const (
	GitUnavailable GitFault = "unavailable" // 503 Service Unavailable
	GitHang        GitFault = "hang"        // takes the request and never answers
	GitHalf        GitFault = "half"        // cuts the connection in a pack, 2 KiB into it; GitNoise fills it up
	GitNotFound    GitFault = "not found"   // 404 Not Found
	GitForbidden   GitFault = "forbidden"   // 403 Forbidden
)

// A Git is a Git server for tests: real repositories behind the real
// `git http-backend`, with the go-import pages that lead the go command to them.
//
// It listens on 127.0.0.1 only. A process reaches it under https://GitHost by
// way of its forward proxy, with a certificate of its own CA: Environ has the
// settings. Every other host is refused there with 502, and remembered.
type Git struct {
	CAFile string // PEM file of the CA that signed the host's certificate
	Proxy  string // URL of the forward proxy, http://127.0.0.1:PORT

	tb     testing.TB
	git    string // the git command
	root   string // holds one bare repository per Repo
	cert   tls.Certificate
	tunnel *gitTunnel
	host   http.Handler
	closed chan struct{} // releases those who hang

	mu       sync.Mutex // guards the following
	repos    map[string]*GitRepo
	user     string
	password string
	pages    bool // user and password are wanted for pages, too
	requests []string
	refused  []string
	over     bool // the test has ended: no handler begins any more
}

// A GitRepo is one repository of a Git. Its methods fail the test on error.
type GitRepo struct {
	Root string // import path of the repository's root: GitHost/team/lib
	URL  string // clone URL: https://GitHost/team/lib.git

	g   *Git
	dir string // the bare repository

	mu      sync.Mutex // guards the following
	fault   GitFault
	meta    GitFault
	page    string // replaces the go-import line
	commits int
}

// GitNeed ends the test if one of the commands is not on the PATH: it fails
// where SLUICE_STRICT=1 demands that everything is tested, and else skips,
// naming what is missing.
func GitNeed(tb testing.TB, commands ...string) {
	tb.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			if os.Getenv("SLUICE_STRICT") == "1" {
				tb.Fatalf("this test needs the command %q, and SLUICE_STRICT=1 allows no skipping: %v", c, err)
			}
			tb.Skipf("this test needs the command %q: %v", c, err)
		}
	}
}

// GitServer starts a Git server that lives as long as the test.
func GitServer(tb testing.TB) *Git {
	tb.Helper()
	GitNeed(tb, "git")
	git, _ := exec.LookPath("git")
	dir := tb.TempDir()
	g := &Git{
		CAFile: filepath.Join(dir, "ca.pem"),
		tb:     tb,
		git:    git,
		root:   filepath.Join(dir, "repos"),
		closed: make(chan struct{}),
		repos:  make(map[string]*GitRepo),
	}
	if err := g.makeCerts(); err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	g.Proxy = "http://" + ln.Addr().String()
	g.tunnel = &gitTunnel{addr: ln.Addr(), conns: make(chan net.Conn), closed: g.closed}

	quiet := log.New(io.Discard, "", 0)
	var handlers sync.WaitGroup // those of the host, which may still have a git running
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A request may have been read as the server was closed.
		g.mu.Lock()
		over := g.over
		if !over {
			handlers.Add(1)
		}
		g.mu.Unlock()
		if over {
			panic(http.ErrAbortHandler)
		}
		defer handlers.Done()
		g.serveHost(w, r)
	})
	g.host = host
	proxySrv := &http.Server{Handler: g.proxy(host), ErrorLog: quiet}
	hostSrv := &http.Server{Handler: host, ErrorLog: quiet}
	var servers sync.WaitGroup
	servers.Go(func() { proxySrv.Serve(ln) })
	servers.Go(func() { hostSrv.Serve(g.tunnel) })
	tb.Cleanup(func() {
		close(g.closed)
		proxySrv.Close()
		hostSrv.Close()
		servers.Wait()
		g.mu.Lock()
		g.over = true
		g.mu.Unlock()
		handlers.Wait()
	})
	return g
}

// GitNoise is a text of n bytes that no compression makes shorter than half of
// it, the same in every run.
func GitNoise(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%x\n", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	return b.String()[:n]
}

// Environ is the environment of a process that is to reach g: PATH, the forward
// proxy, and the CA for Go and for Git. Nothing else.
func (g *Git) Environ() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"NO_PROXY=", "no_proxy=",
		"SSL_CERT_FILE=" + g.CAFile,
		"GIT_SSL_CAINFO=" + g.CAFile,
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		env = append(env, name+"="+g.Proxy)
	}
	if root := os.Getenv("SYSTEMROOT"); root != "" {
		env = append(env, "SYSTEMROOT="+root)
	}
	return env
}

// RequireAuth makes the server answer 401 to requests without this user and
// password in Basic authentication. An empty user lets everybody in again.
func (g *Git) RequireAuth(user, password string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.user, g.password, g.pages = user, password, true
}

// RequireGitAuth is RequireAuth for Git's own requests: everybody gets the go-import
// pages, as of hosts that give them for private repositories, too.
func (g *Git) RequireGitAuth(user, password string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.user, g.password, g.pages = user, password, false
}

// Dir is the directory with the bare repositories: team/lib.git below it.
func (g *Git) Dir() string { return g.root }

// Handler plays GitHost for a listener of one's own, which has a certificate for that
// name.
func (g *Git) Handler() http.Handler { return g.host }

// Requests lists what the host was asked so far, as "GET /team/lib.git/info/refs".
func (g *Git) Requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// Refused lists the other hosts that somebody tried to reach.
func (g *Git) Refused() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.refused)
}

// Repo makes an empty repository for the import path root, which must begin
// with GitHost and a slash. Its default branch is main.
func (g *Git) Repo(root string) *GitRepo {
	g.tb.Helper()
	rest, ok := strings.CutPrefix(root, GitHost+"/")
	if !ok || rest == "" {
		g.tb.Fatalf("modtest: repository %q is not below %s", root, GitHost)
	}
	r := &GitRepo{
		Root: root,
		URL:  "https://" + root + ".git",
		g:    g,
		dir:  filepath.Join(g.root, filepath.FromSlash(rest)+".git"),
	}
	if err := os.MkdirAll(r.dir, 0o777); err != nil {
		g.tb.Fatal(err)
	}
	r.git(nil, "init", "--quiet", "--bare", ".")
	r.git(nil, "symbolic-ref", "HEAD", "refs/heads/main")
	// A private server may do more than a public one; ours is a public one.
	r.git(nil, "config", "uploadpack.allowAnySHA1InWant", "false")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repos[root] = r
	return r
}

// Commit puts a commit on top of a branch and returns its hash. The commit's
// tree is exactly files, a map from slash-separated names to contents. A branch
// that does not exist yet starts at main, or at nothing if there is no main.
// Author, message and time are the same in every run: 2024-01-02 03:04:05 UTC
// for the repository's first commit, one hour more for each further one.
func (r *GitRepo) Commit(branch string, files map[string]string) string {
	r.g.tb.Helper()
	return r.CommitModes(branch, files, nil)
}

// CommitModes is Commit with Git file modes (100755, 120000 for a symbolic
// link to the content, …) for some of the files; others have 100644.
func (r *GitRepo) CommitModes(branch string, files map[string]string, modes map[string]string) string {
	r.g.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	when := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(r.commits) * time.Hour).Unix()
	r.commits++
	parent := r.rev("refs/heads/" + branch)
	if parent == "" {
		parent = r.rev("refs/heads/main")
	}
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/heads/%s\nmark :1\n", branch)
	fmt.Fprintf(&in, "committer Gopher <gopher@%s> %d +0000\n", GitHost, when)
	fmt.Fprintf(&in, "data 7\nchange\n\n")
	if parent != "" {
		fmt.Fprintf(&in, "from %s\n", parent)
	}
	in.WriteString("deleteall\n")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := modes[name]
		if mode == "" {
			mode = "100644"
		}
		fmt.Fprintf(&in, "M %s inline %s\ndata %d\n%s\n", mode, name, len(files[name]), files[name])
	}
	in.WriteString("\nget-mark :1\n")
	return strings.TrimSpace(r.git(&in, "fast-import", "--quiet", "--force"))
}

// Tag makes the tag name point at rev (a branch, tag or hash).
func (r *GitRepo) Tag(name, rev string) {
	r.g.tb.Helper()
	r.git(nil, "tag", "--end-of-options", name, rev)
}

// Annotate makes an annotated tag, which is an object of its own.
func (r *GitRepo) Annotate(name, rev string) {
	r.g.tb.Helper()
	r.git(nil, "-c", "user.name=Gopher", "-c", "user.email=gopher@"+GitHost, "tag", "--annotate", "-m", name, "--end-of-options", name, rev)
}

// MoveTag makes an existing tag point at another revision.
func (r *GitRepo) MoveTag(name, rev string) {
	r.g.tb.Helper()
	r.git(nil, "tag", "--force", "--end-of-options", name, rev)
}

// DeleteTag takes a tag away.
func (r *GitRepo) DeleteTag(name string) {
	r.g.tb.Helper()
	r.git(nil, "update-ref", "-d", "refs/tags/"+name)
}

// Branch makes the branch name point at rev, whether it existed or not.
func (r *GitRepo) Branch(name, rev string) {
	r.g.tb.Helper()
	r.git(nil, "update-ref", "refs/heads/"+name, r.git(nil, "rev-parse", "--verify", "--end-of-options", rev+"^{commit}"))
}

// Delete removes the repository from the server, go-import page included.
func (r *GitRepo) Delete() {
	r.g.tb.Helper()
	r.g.mu.Lock()
	delete(r.g.repos, r.Root)
	r.g.mu.Unlock()
	if err := os.RemoveAll(r.dir); err != nil {
		r.g.tb.Fatal(err)
	}
}

// Break makes the repository's Git traffic fail in this way from now on; the
// zero GitFault mends it.
func (r *GitRepo) Break(f GitFault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// BreakPage makes the go-import page, and not the Git traffic, fail in this way.
// GitHalf is a page that ends before its meta tag comes.
func (r *GitRepo) BreakPage(f GitFault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meta = f
}

// Page replaces the content of the go-import meta tag, "ROOT VCS URL". An empty
// string restores it.
func (r *GitRepo) Page(content string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.page = content
}

func (r *GitRepo) state() (fault, meta GitFault, page string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault, r.meta, r.page
}

// rev is the hash that a ref points at, or "" if there is no such ref.
func (r *GitRepo) rev(ref string) string {
	cmd := r.command("rev-parse", "--quiet", "--verify", "--end-of-options", ref)
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func (r *GitRepo) git(stdin io.Reader, args ...string) string {
	r.g.tb.Helper()
	cmd := r.command(args...)
	cmd.Stdin = stdin
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.g.tb.Fatalf("modtest: git %s in %s: %v\n%s", strings.Join(args, " "), r.dir, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// command is git in the repository, deaf to the user's and the machine's settings.
func (r *GitRepo) command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.g.git, args...)
	cmd.Dir = r.dir
	cmd.Env = append(r.g.gitEnv(),
		"GIT_DIR="+r.dir,
		"GIT_COMMITTER_DATE=2024-01-02T03:04:05Z",
		"GIT_AUTHOR_DATE=2024-01-02T03:04:05Z",
	)
	return cmd
}

func (g *Git) gitEnv() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"SYSTEMROOT=" + os.Getenv("SYSTEMROOT"),
		"HOME=" + g.root,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"LC_ALL=C",
	}
}

// serveHost plays GitHost.
func (g *Git) serveHost(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, r.Method+" "+r.URL.RequestURI())
	user, password := g.user, g.password
	if !g.pages && r.URL.Query().Get("go-get") == "1" {
		user = ""
	}
	repo := g.repoOf(r.URL.Path)
	g.mu.Unlock()

	if user != "" {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="modtest"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
	}
	if repo == nil {
		http.NotFound(w, r)
		return
	}
	fault, meta, page := repo.state()
	if r.URL.Query().Get("go-get") == "1" {
		if page == "" {
			page = repo.Root + " git " + repo.URL
		}
		if !g.misbehave(w, r, meta) {
			fmt.Fprintf(w, "<!DOCTYPE html><html><head><meta name=\"go-import\" content=\"%s\"></head></html>\n", html.EscapeString(page))
		}
		return
	}
	if fault == GitHalf {
		if strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			w = &gitHalfWriter{ResponseWriter: w, left: 2 << 10}
		}
		fault = "" // the list of refs is short, and arrives
	}
	if g.misbehave(w, r, fault) {
		return
	}
	h := cgi.Handler{
		Path:   g.git,
		Args:   []string{"http-backend"},
		Dir:    g.root,
		Env:    append(g.gitEnv(), "GIT_PROJECT_ROOT="+g.root, "GIT_HTTP_EXPORT_ALL=1"),
		Logger: log.New(io.Discard, "", 0),
		Stderr: io.Discard,
	}
	h.ServeHTTP(w, r)
}

// misbehave answers with f, and reports whether there was something to do.
func (g *Git) misbehave(w http.ResponseWriter, r *http.Request, f GitFault) bool {
	switch f {
	case "":
		return false
	case GitUnavailable:
		http.Error(w, "the server is being mended", http.StatusServiceUnavailable)
	case GitNotFound:
		http.NotFound(w, r)
	case GitForbidden:
		http.Error(w, "not for you", http.StatusForbidden)
	case GitHalf:
		io.WriteString(w, "<!DOCTYPE html><html><head>")
	case GitHang:
		io.Copy(io.Discard, r.Body) // only with its body read does the server notice that a client has gone
		select {
		case <-r.Context().Done():
		case <-g.closed:
		}
		panic(http.ErrAbortHandler)
	default:
		panic("modtest: unknown Git fault " + string(f))
	}
	return true
}

// repoOf is the repository that a URL path belongs to: that of the import path,
// or of the clone URL. g.mu is held.
func (g *Git) repoOf(urlPath string) *GitRepo {
	for p := GitHost + strings.TrimSuffix(urlPath, "/"); p != "."; p = path.Dir(p) {
		if r := g.repos[strings.TrimSuffix(p, ".git")]; r != nil {
			return r
		}
	}
	return nil
}

// proxy is the forward proxy in front of host.
func (g *Git) proxy(host http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		if !strings.EqualFold(name, GitHost) {
			g.mu.Lock()
			g.refused = append(g.refused, name)
			g.mu.Unlock()
			http.Error(w, "modtest: nobody plays the host "+name, http.StatusBadGateway)
			return
		}
		if r.Method != http.MethodConnect {
			r.URL.Scheme, r.URL.Host = "", ""
			host.ServeHTTP(w, r)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		// A client sends nothing of its own before it has read this line, so
		// nothing of the tunnel can be in the hijacked buffer.
		if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			conn.Close()
			return
		}
		g.tunnel.hand(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{g.cert}}))
	})
}

// makeCerts makes the CA and the host's certificate.
func (g *Git) makeCerts() error {
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "modtest CA"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: GitHost},
		DNSNames:     []string{GitHost},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leafKey, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), caKey)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	g.cert = tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: leafKey}
	return os.WriteFile(g.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o666)
}

// A gitTunnel is the listener of the connections that arrive through CONNECT.
type gitTunnel struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
}

func (t *gitTunnel) hand(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.closed:
		c.Close()
	}
}

func (t *gitTunnel) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

func (t *gitTunnel) Close() error   { return nil }
func (t *gitTunnel) Addr() net.Addr { return t.addr }

// A gitHalfWriter lets through a number of bytes, and then breaks the connection.
type gitHalfWriter struct {
	http.ResponseWriter
	left int
}

func (w *gitHalfWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:w.left])
		http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}
