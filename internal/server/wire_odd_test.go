//go:build unix

package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/server"
)

// patience is how long a test waits for what has to come.
const patience = time.Minute

// dial connects to addr; what has not come after patience is an error.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// statuses are those of the answers that come over c until it ends.
func statuses(c net.Conn) string {
	var all []string
	br := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return strings.Join(append(all, err.Error()), " ")
		}
		body, err := io.ReadAll(resp.Body)
		all = append(all, fmt.Sprint(resp.StatusCode, "/", len(body)))
		if err != nil {
			return strings.Join(append(all, err.Error()), " ")
		}
	}
}

// net/http waits for no more than it needs, so neither may we before it has it.
func TestWhatIsNoProperHeadIsAnsweredAsNetHTTPDoes(t *testing.T) {
	r := newRig(t, parts{store: openDisk(t)})
	addr, _, _ := r.serveOn()
	plain := strings.TrimPrefix(r.base, "http://") // net/http's alone
	m := r.w.Add("odd.test/m", "v1.0.0", nil)
	r.put(m)
	r.get(at(m, ".mod")) // it is read into memory
	whole := "GET " + at(m, ".mod") + " HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, tt := range []struct {
		sent string
		half bool // the client sends no more, and says so
	}{
		{"GET /healthz HTTP/1.0\n\n", false},
		{"GET /healthz HTTP/1.0\r\n\r\n", false},
		{"GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n", false},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\n", false},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\n\r\n", false},
		{whole + whole + "GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n", false},
		{"HELLO\r\n", false},
		{"GET /healthz\r\n", false},
		{whole + "GET /healthz\r\n", false},
		{"GET /healthz HTTP/1.1\r\nHo", true},
		{"GET", true},
		{whole + "GET /healthz HTTP/1.1\r\n", true},
		{whole, true},
		{"", true},
	} {
		var got [2]string
		for i, addr := range []string{plain, addr} {
			c := dial(t, addr)
			io.WriteString(c, tt.sent)
			if tt.half {
				c.CloseWrite()
			}
			got[i] = statuses(c)
			c.Close()
		}
		if got[0] != got[1] {
			t.Errorf("%q (half: %v): %s, and %s of net/http alone", tt.sent, tt.half, got[1], got[0])
		}
	}
}

// Whatever is put together, in whatever pieces it comes: we and net/http see the
// same requests in it.
func TestRequestsBeginWhereNetHTTPSaysTheyDo(t *testing.T) {
	r := newRig(t, parts{store: openDisk(t)})
	addr, _, _ := r.serveOn()
	plain := strings.TrimPrefix(r.base, "http://")
	m := r.w.Add("begin.test/m", "v1.0.0", nil)
	r.put(m)
	r.get(at(m, ".mod"))
	mod := at(m, ".mod")
	lines := []string{
		"GET " + mod + " HTTP/1.1", "GET " + mod + " HTTP/1.1", "HEAD /healthz HTTP/1.1", "GET /healthz HTTP/1.1", "GET /healthz HTTP/1.0",
		"POST " + mod + " HTTP/1.1", "GET http://y" + mod + " HTTP/1.1", "GET //" + mod + " HTTP/1.1", "G / HTTP/1.1", "GET  / HTTP/1.1", "",
	}
	fields := []string{
		"X: y", "Connection: keep-alive", "Content-Length: 0", "Content-Length: 5\r\n\r\nGET /", "Content-Length: 3, 3", "Content-Length : 5", "Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0",
		"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0", "Expect: 100-continue", "Expect: x", "Upgrade: h2c\r\nConnection: upgrade", "TE: trailers", " folded: x", "\tContent-Length: 5",
		"X: y\n\nGET /", "X: y\nZ: z", "X: y\r", "Host: y", "Host: a/b", "no field", ": x", "X: \x01", "X: \xff", "Keep-Alive: 1", "Range: bytes=0-1", "Via: 1.1 x",
		"X-Long: " + strings.Repeat("x", 4000), "X-Long: " + strings.Repeat("x", 9000),
	}
	ends := []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r\r\n"}
	pick := func(s []string) string { return s[rand.IntN(len(s))] }
	for range 400 {
		var b strings.Builder
		for range 1 + rand.IntN(4) {
			b.WriteString(pick(lines) + pick(ends))
			if rand.IntN(8) > 0 {
				b.WriteString("Host: x" + pick(ends))
			}
			for range rand.IntN(3) {
				if rand.IntN(3) == 0 {
					b.WriteString(pick(fields) + pick(ends))
				}
			}
			b.WriteString(pick(ends))
		}
		b.WriteString("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		for range 3 { // for one that wants a body, and what is left of it
			b.WriteString("\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}
		sent := b.String()
		var got [2]string
		for i, addr := range []string{plain, addr} {
			c := dial(t, addr)
			go func() {
				for rest := sent; rest != ""; {
					n := min(len(rest), 1+rand.IntN(300))
					if _, err := io.WriteString(c, rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			got[i] = statuses(c)
			c.Close()
		}
		// How it ends says nothing: what was sent after the end may break the connection.
		if a, b := counted(got[0]), counted(got[1]); !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a) {
			t.Errorf("%q: %s, and %s of net/http alone", sent, got[1], got[0])
		}
	}
}

// counted is s without what is no status.
func counted(s string) string {
	var all []string
	for f := range strings.FieldsSeq(s) {
		if strings.Contains(f, "/") && f[0] >= '1' && f[0] <= '9' {
			all = append(all, f)
		}
	}
	return strings.Join(all, " ")
}

// A head that has begun has its own time, as in net/http, and not what is left of
// the time that a connection may rest.
func TestAHeadThatHasBegunHasItsOwnTime(t *testing.T) {
	const idle = 500 * time.Millisecond
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Idle = idle }})
	addr, _, _ := r.serveOn()
	m := r.w.Add("begun.test/m", "v1.0.0", nil)
	r.put(m)
	r.get(at(m, ".mod"))
	ask := "GET " + at(m, ".mod") + " HTTP/1.1\r\nHost: x\r\n\r\n"
	c := dial(t, addr)
	br := bufio.NewReader(c)
	answer := func() {
		t.Helper()
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	io.WriteString(c, ask+ask[:20])
	answer()
	time.Sleep(2 * idle)
	io.WriteString(c, ask[20:])
	answer()
	// The time for rest is in force again.
	start := time.Now()
	if _, err := br.ReadByte(); err != io.EOF || time.Since(start) > 10*time.Second {
		t.Errorf("after its time: %v", err)
	}
}

// A bug of ours while something is answered from memory costs the client its
// connection, and us nothing that stays.
func TestABugInAnAnswerFromMemoryClosesTheConnection(t *testing.T) {
	var bug atomic.Bool
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) {
		c.Requests = func(slog.Level, server.Line) {
			if bug.Load() {
				panic("a bug")
			}
		}
	}})
	addr, stop, done := r.serveOn()
	m := r.w.Add("bug.test/m", "v1.0.0", nil)
	r.put(m)
	r.get(at(m, ".mod"))
	bug.Store(true)
	c := dial(t, addr)
	io.WriteString(c, "GET "+at(m, ".mod")+" HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := statuses(c); !strings.HasPrefix(got, "200/") || strings.Contains(got, "timeout") {
		t.Errorf("the client sees %s", got)
	}
	if text := r.log.String(); !strings.Contains(text, `"msg":"internal error"`) || !strings.Contains(text, "a bug") {
		t.Errorf("the log says\n%s", text)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := server.OpenWires(r.server); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// serveSlowly serves with little of an answer under way at a time, whatever the
// kernel's defaults: the server has to wait for a client that does not read.
func (r *rig) serveSlowly() (addr string, stop func(), done <-chan error) {
	r.t.Helper()
	lc := net.ListenConfig{Control: option(syscall.SO_SNDBUF)}
	ln, err := lc.Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	return r.serveAt(ln) // connections have the buffer of their listener
}

// slowly connects with room for little of an answer.
func slowly(t *testing.T, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: option(syscall.SO_RCVBUF)}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// option makes a socket's buffer small, for good: the kernel no longer tunes it.
func option(buffer int) func(_, _ string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, buffer, 4096)
		})
		return errors.Join(err, set)
	}
}

// long makes a module whose list is as long as may be in memory, and is there.
func (r *rig) long(path string) (list string, size int) {
	for i := range 1200 {
		r.w.Add(path, fmt.Sprintf("v1.0.0-%s.%d", strings.Repeat("x", 180), i), nil)
	}
	list = "/" + path + "/@v/list"
	body := r.get(list).body
	return list, len(body)
}

// net/http does not know of an answer from memory, and takes the connection for one
// that rests.
func TestAnAnswerFromMemoryIsFinishedBeforeTheServerHasStopped(t *testing.T) {
	r := newRig(t, parts{store: openDisk(t)})
	addr, stop, done := r.serveSlowly()
	list, size := r.long("finish.test/m")
	c := slowly(t, addr)
	br := bufio.NewReader(c)
	read := func() int {
		t.Helper()
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(body), err)
		}
		return len(body)
	}
	io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	read()
	waitFor(t, func() bool { return server.InFlight(r.server) == 0 }) // an answer comes before its handler has ended
	io.WriteString(c, "GET "+list+" HTTP/1.1\r\nHost: x\r\n\r\n")
	waitFor(t, func() bool { return server.InFlight(r.server) == 1 })
	stop()
	select {
	case err := <-done:
		if n := server.InFlight(r.server); n != 0 {
			t.Fatalf("Serve ended (%v) while %d requests were being answered", err, n)
		}
	case <-time.After(200 * time.Millisecond): // it waits for us
	}
	if n := read(); n != size {
		t.Errorf("%d bytes of %d", n, size)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The time for rest begins when the client has the answer.
func TestAClientThatReadsSlowlyMayRestAsLongAsOthers(t *testing.T) {
	const idle = time.Second
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Idle = idle }})
	addr, _, _ := r.serveSlowly()
	list, size := r.long("slow.test/m")
	c := slowly(t, addr)
	br := bufio.NewReader(c)
	ask := "GET " + list + " HTTP/1.1\r\nHost: x\r\n\r\n"
	io.WriteString(c, ask)
	time.Sleep(2 * idle) // it does not read
	// The server comes to this one when it is rid of the answer before: in its time for
	// rest, however late we are.
	io.WriteString(c, ask)
	for i := range 2 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != size {
			t.Fatalf("answer %d: %d bytes of %d, %v", i, len(body), size, err)
		}
	}
}
