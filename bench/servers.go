//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// nginxConf serves a tree as fast as nginx does without more caches than that of
// the kernel.
const nginxConf = `daemon off;
%s
pid %[2]s/pid;
error_log %[2]s/error.log;
worker_processes auto;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
	access_log off;
	types {}
	default_type application/octet-stream;
	sendfile on;
	tcp_nopush on;
	keepalive_timeout 300s;
	keepalive_requests 1000000000;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	server { listen %[3]s; root %[4]s; }
}
`

// startNginx serves the tree in root.
func (l *lab) startNginx(ctx context.Context, root, probe string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir, err := l.mkdir("nginx")
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // who made the tree can read it
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, user, dir, addr, root), 0o644); err != nil {
		return nil, err
	}
	return l.start(ctx, "nginx", "http://"+addr, probe, []string{"nginx", "-e", filepath.Join(dir, "error.log"), "-c", conf}, os.Environ())
}

// sluiceEnv is the environment of a sluice of its own.
func (b *bench) sluiceEnv(extra ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "TMPDIR=" + b.lab.dir, "GOENV=off", "GOTOOLCHAIN=local", "LC_ALL=C"}, extra...)
}

// startSluice serves a data directory with one source and its database, at url.
// Further arguments come before those that the user of the harness gives.
func (b *bench) startSluice(ctx context.Context, data, sourceURL, vkey string, further ...string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	argv := []string{b.sluice, "serve", "--listen", addr, "--data", data, "--proxy", sourceURL, "--gosumdb", vkey + " " + sourceURL + "/sumdb/" + dbName}
	return b.lab.start(ctx, "sluice", "http://"+addr, "/healthz", slices.Concat(argv, further, b.sluiceArgs), b.sluiceEnv())
}

// noLogicVar makes this program the server without logic: the address, the root
// of the tree and a file with the names of what it serves, separated by "|".
const noLogicVar = "SLUICE_BENCH_NOLOGIC"

// startNoLogic starts a net/http server that does nothing but look up and write:
// what is left to a proxy that is written in Go is to be as cheap as that.
func (l *lab) startNoLogic(ctx context.Context, root string, paths []string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	list := l.path("nologic.list")
	if err := os.WriteFile(list, []byte(strings.Join(paths, "\n")), 0o644); err != nil {
		return nil, err
	}
	return l.startRole(ctx, "nologic", noLogicVar, paths[0], addr, root, list)
}

// roles are what this program is when a variable is set: each takes what startRole was
// given, and returns when it cannot go on.
var roles = map[string]func(addr, where, further string) error{noLogicVar: serveNoLogic, reverseVar: serveReverse}

// startRole starts this program in a role, at addr; it answers at path.
func (l *lab) startRole(ctx context.Context, name, variable, path, addr, where, further string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), variable+"="+strings.Join([]string{addr, where, further}, "|"), "TMPDIR="+l.dir)
	return l.start(ctx, name, "http://"+addr, path, []string{self}, env)
}

// play plays the role that the environment names, until that cannot go on. Without one
// it reports false at once.
func play(getenv func(string) string) (played bool, err error) {
	for _, variable := range sortedKeys(roles) {
		spec := getenv(variable)
		if spec == "" {
			continue
		}
		f := strings.Split(spec, "|")
		if len(f) != 3 {
			return true, fmt.Errorf("%s is set by the harness only; unset it", variable)
		}
		return true, roles[variable](f[0], f[1], f[2])
	}
	return false, nil
}

// serveNoLogic is that server.
func serveNoLogic(addr, root, paths string) error {
	list, err := os.ReadFile(paths)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for p := range strings.Lines(string(list)) {
		p = strings.TrimSpace(p)
		if files[p], err = os.ReadFile(filepath.Join(root, filepath.FromSlash(p))); err != nil {
			return err
		}
	}
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
	}))
}

// A peer is somebody else's proxy, to be measured beside Sluice.
type peer struct{ name, command, url, cache string }

// peersVar names the peers: NAME=COMMAND|URL|CACHE, separated by semicolons or
// line ends.
const peersVar = "SLUICE_BENCH_PEERS"

// parsePeers reads the value of the variable.
func parsePeers(text string) (list []peer, err error) {
	for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name, rest, ok := strings.Cut(entry, "=")
		name = strings.TrimSpace(name)
		f := strings.Split(rest, "|")
		n := len(f)
		if !ok || n < 3 || name == "" {
			return nil, fmt.Errorf("%s: %q is not NAME=COMMAND|URL|CACHE-DIRECTORY", peersVar, entry)
		}
		p := peer{name, strings.TrimSpace(strings.Join(f[:n-2], "|")), strings.TrimSuffix(strings.TrimSpace(f[n-2]), "/"), strings.TrimSpace(f[n-1])}
		switch {
		case p.command == "":
			return nil, fmt.Errorf("%s: %s has no command", peersVar, name)
		case !strings.HasPrefix(p.url, "http://") && !strings.HasPrefix(p.url, "https://"):
			return nil, fmt.Errorf("%s: the URL of %s is %q, which does not begin with http:// or https://", peersVar, name, p.url)
		case !filepath.IsAbs(p.cache) || filepath.Clean(p.cache) == "/":
			return nil, fmt.Errorf("%s: the cache directory of %s is %q; it must be an absolute path, since it is emptied between runs", peersVar, name, p.cache)
		case slices.ContainsFunc(list, func(q peer) bool { return q.name == name }) || slices.Contains(ours, name):
			return nil, fmt.Errorf("%s: there are two contenders called %s; give the peer another name", peersVar, name)
		}
		list = append(list, p)
	}
	return list, nil
}

// ours are the names of the contenders that are not peers.
var ours = []string{"sluice", "nginx", "no logic", "file", "direct", "reverse proxy", "hashing proxy", "run", "warm run"}

// claim makes sure that a peer's cache directory is ours to empty: it must not be
// there, or have nothing in it, when the run begins.
func (p peer) claim() error {
	entries, err := os.ReadDir(p.cache)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("the cache directory %s of %s is not empty; between runs it is emptied, so name one that nobody needs", p.cache, p.name)
	}
	return os.MkdirAll(p.cache, 0o755)
}

// empty removes what is in the cache directory.
func (p peer) empty() error {
	entries, err := os.ReadDir(p.cache)
	for _, e := range entries {
		if err := removeAll(filepath.Join(p.cache, e.Name())); err != nil {
			return err
		}
	}
	return err
}

// startPeer starts a peer with an empty cache. {source} in its command is the URL
// of the source, which is in GOPROXY, too.
func (b *bench) startPeer(ctx context.Context, p peer, sourceURL, vkey string) (*process, error) {
	if err := p.empty(); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "GOPROXY="+sourceURL, "GOSUMDB="+vkey+" "+sourceURL+"/sumdb/"+dbName, "GOENV=off")
	return b.lab.start(ctx, p.name, p.url, "/", []string{"sh", "-c", strings.ReplaceAll(p.command, "{source}", sourceURL)}, env)
}

// get reads a URL whole over a connection of its own, through a large buffer, so
// that the client costs little. It returns the size of the body, and calls first
// when the first byte of it is there.
func get(ctx context.Context, base, path string, first func()) (int64, error) {
	c, err := dial(ctx, base)
	if err != nil {
		return 0, err
	}
	defer c.close()
	return c.get(path, first)
}

// A conn is one keep-alive connection of a client.
type conn struct {
	net.Conn
	r    *bufio.Reader
	host string
	buf  []byte
	stop func() bool
}

const readBytes = 256 << 10

// dial connects; the connection ends with ctx.
func dial(ctx context.Context, base string) (*conn, error) {
	host := strings.TrimPrefix(base, "http://")
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, r: bufio.NewReaderSize(nc, 4<<10), host: host, stop: context.AfterFunc(ctx, func() { nc.Close() })}, nil
}

func (c *conn) close() {
	c.stop()
	c.Conn.Close()
}

// get asks for a path and throws the body away. An answer other than 200 is an error.
func (c *conn) get(path string, first func()) (int64, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Go-http-client/1.1\r\n\r\n", path, c.host); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return 0, fmt.Errorf("GET %s: %s: %s", path, resp.Status, strings.TrimSpace(string(said)))
	}
	if c.buf == nil {
		c.buf = make([]byte, readBytes)
	}
	var n int64
	for {
		k, err := resp.Body.Read(c.buf)
		if k > 0 && n == 0 && first != nil {
			first()
		}
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// openFiles is how many files a process here may have open.
func openFiles() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	return r.Max
}
