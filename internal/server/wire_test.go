//go:build unix

package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/server"
)

// A turn is a request of a connection, and its answer.
type turn struct {
	request string
	method  string
	status  int
	body    []byte
	hit     bool // it is answered from memory
}

// turns are requests of all kinds, for what is in memory and what is not.
func (r *rig) turns(m module.Version, n int) []turn {
	mod := goproxy.Request{Kind: goproxy.Mod, Module: m}.Path()
	var all []turn
	add := func(method, path, extra string, status int, body []byte, hit bool) {
		all = append(all, turn{method + " /" + path + " HTTP/1.1\r\nHost: x\r\n" + extra, method, status, body, hit})
	}
	data := r.w.Mod(m)
	for range n {
		switch rand.IntN(9) {
		case 0, 1, 2:
			add("GET", mod, "\r\n", 200, data, true)
		case 3:
			add("HEAD", strings.ReplaceAll(mod, "!", "%21"), "Connection: keep-alive\r\n\r\n", 200, nil, true)
		case 4:
			add("GET", mod, "Range: bytes=1-3\r\n\r\n", 206, data[1:4], false)
		case 5:
			add("GET", "healthz", "\r\n", 200, []byte("ok\n"), false)
		case 6:
			cold := r.w.Add(fmt.Sprintf("turns.test/cold%d", rand.IntN(1<<30)), "v1.0.0", nil)
			add("GET", goproxy.Request{Kind: goproxy.Zip, Module: cold}.Path(), "\r\n", 200, r.w.Zip(cold), false)
		case 7:
			add("GET", "turns.test/nothing/@v/v1.0.0.mod", "\r\n", 404, nil, false)
		case 8:
			if len(all) > n/2 { // from here on all is net/http's
				add("POST", mod, "Content-Length: 4\r\n\r\nbody", 405, nil, false)
			}
		}
	}
	return all
}

func TestEachRequestOfAConnectionIsAnsweredInItsTurn(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Watch = &h }})
	addr, _, _ := r.serveOn()
	r.base = "http://" + addr
	defer r.client.CloseIdleConnections()
	m := r.w.Add("turns.test/M", "v1.0.0", nil)
	r.put(m)
	start, missed := time.Now(), 0
	r.get(at(m, ".mod")) // it is read into memory
	for round := range 60 {
		r.get(at(m, ".mod"))
		all := r.turns(m, 12)
		h.take(r)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var sent bytes.Buffer
		for _, turn := range all {
			sent.WriteString(turn.request)
		}
		answers := bufio.NewReader(c)
		wanted := 0
		check := func(i int) {
			t.Helper()
			turn := all[i]
			resp, err := http.ReadResponse(answers, &http.Request{Method: turn.method})
			if err != nil {
				t.Fatalf("round %d, request %d of %q: %v", round, i, sent.String(), err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != turn.status || turn.body != nil && !bytes.Equal(body, turn.body) {
				t.Errorf("round %d, request %d of %q: %d %q %v, want %d %q", round, i, sent.String(), resp.StatusCode, body, err, turn.status, turn.body)
			}
			if turn.hit {
				wanted++
			}
		}
		switch round % 3 {
		case 0: // one after another
			for i, turn := range all {
				io.WriteString(c, turn.request)
				check(i)
			}
			n := h.take(r)
			if n > wanted {
				t.Errorf("round %d: %d answers from memory of %d", round, n, wanted)
			}
			missed += wanted - n
		case 1: // all at once
			go c.Write(sent.Bytes())
			for i := range all {
				check(i)
			}
		case 2: // in pieces
			go func() {
				for b := sent.Bytes(); len(b) > 0; {
					n := min(len(b), 1+rand.IntN(200))
					c.Write(b[:n])
					b = b[n:]
				}
			}()
			for i := range all {
				check(i)
			}
		}
		c.Close()
	}
	// Memory keeps it for ten seconds, within which all this is done unless the machine is
	// busy; who comes after that reads it anew, for the next ten.
	if most := int(time.Since(start) / (10 * time.Second)); missed > most {
		t.Errorf("%d answers were not from memory, of which %d had the time to be forgotten", missed, most)
	}
}

// What a client sends before it has the answer to what it sent before keeps
// nobody from noticing that it has gone.
func TestAClientThatLeavesIsNoticed(t *testing.T) {
	r := newRig(t, parts{store: openDisk(t)})
	addr, _, _ := r.serveOn()
	m := r.w.Add("leaving.test/m", "v1.0.0", nil)
	r.spoil("hang")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", at(m, ".mod"))
	waitFor(t, func() bool { return server.InFlight(r.server) == 1 })
	c.Close()
	waitFor(t, func() bool { return server.InFlight(r.server) == 0 })
	if l := r.log.requests(t); len(l) != 1 || l[0].Err != "the client left" {
		t.Errorf("the log says %+v", l)
	}
}

func TestConnectionsThatWaitEndWhenTheServerStops(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Watch = &h }})
	addr, stop, done := r.serveOn()
	m := r.w.Add("stop.test/m", "v1.0.0", nil)
	r.put(m)
	ask := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", at(m, ".mod"))
	var conns []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		br := bufio.NewReader(c)
		for range 3 {
			io.WriteString(c, ask)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
		}
	}
	if h.take(r) == 0 {
		t.Error("nothing was answered from memory")
	}
	stop()
	for _, c := range conns {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := r.log.String(); strings.Contains(text, "cut off") {
		t.Errorf("the log says\n%s", text)
	}
}

func TestAConnectionThatRestsIsClosed(t *testing.T) {
	for _, idle := range []int{1, 0} {
		r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Idle = time.Duration(idle) * 300 * time.Millisecond }})
		addr, _, _ := r.serveOn()
		m := r.w.Add("idle.test/m", "v1.0.0", nil)
		r.put(m)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		br := bufio.NewReader(c)
		// All at once, so that it rests for the first time when all are answered.
		io.WriteString(c, strings.Repeat(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", at(m, ".mod")), 3))
		for range 3 {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
		}
		if idle == 0 {
			continue // it may rest for ever, so there is nothing to wait for
		}
		if _, err := br.ReadByte(); err != io.EOF {
			t.Errorf("after its time: %v", err)
		}
	}
}

// A long answer goes out whole, to a client that takes it bit by bit, too.
func TestALongAnswerFromMemoryIsWhole(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Watch = &h }})
	addr, _, _ := r.serveOn()
	path := "long.test/m"
	for i := range 4000 {
		r.w.Add(path, fmt.Sprintf("v1.0.%d", i), nil)
	}
	ask := "GET /" + path + "/@v/list HTTP/1.1\r\nHost: x\r\n\r\n"
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	var first []byte
	for i := range 3 {
		io.WriteString(c, ask)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) < 8<<10 || i > 0 && !bytes.Equal(body, first) {
			t.Errorf("%d bytes, %v, not the %d of the first time", len(body), err, len(first))
		}
		first = body
	}
	if h.take(r) != 2 {
		t.Error("the list is not answered from memory")
	}
}

// These figures are exact, so that they can be a guard where times cannot.
func TestAnAnswerOverAConnectionAllocatesNextToNothing(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) {
		c.Watch = &h
		c.Requests = func(slog.Level, server.Line) {}
	}})
	_, req := warmRequest(t, r, &h)
	addr, _, _ := r.serveOn()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := []byte("GET " + req.URL.Path + " HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
	buf := make([]byte, 4096)
	n := testing.AllocsPerRun(2000, func() {
		c.Write(ask)
		c.Read(buf)
	})
	if h.take(r) < 2000 {
		t.Fatal("it is not answered from memory")
	}
	// The path, and the name of the request.
	if n > 2 {
		t.Errorf("%v allocations for an answer from memory", n)
	}
}
