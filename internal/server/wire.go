//go:build unix

package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A wire is a client's TCP connection as net/http sees it. Where a request may
// begin, what comes in is looked at before net/http gets it: one that can be
// answered from memory is answered here, and net/http, whose work is most of what
// such an answer would cost, never hears of it. Any other it gets as it is.
//
// Both must know where each request begins. So of one that stands alone, which
// parseHead finds the end of, net/http gets exactly its bytes and none of the
// next; from the first that does not stand alone on, everything goes through.
type wire struct {
	*net.TCPConn
	conn
	raw  syscall.RawConn
	s    *Server
	fill func(fd uintptr) bool // fillOnce, bound

	// These belong to whoever is in Read: the goroutine that serves the connection,
	// or the one that watches it while a handler works. They are never there at once.
	through bool // everything is for net/http
	begin   bool // a request begins with what is read next
	pass    int  // so many of the bytes at hand are for net/http
	buf     *[wireBuf]byte
	r, e    int // what is at hand is buf[r:e]
	err     error

	until atomic.Int64 // the read deadline that stay set, in Unix nanoseconds; 0 if another was set since
	phase atomic.Int32

	mu   sync.Mutex // guards past
	cond sync.Cond  // past has changed
	past bool       // the read deadline is over: net/http wants Read to return
}

// wireBuf is the longest head that is answered here, in bytes.
const wireBuf = 4096

// The phases of a wire tell what whoever wants it to end may do.
const (
	phaseFresh     int32 = iota // there was no request yet
	phaseBusy                   // net/http has one
	phaseWaiting                // for the next one
	phaseAnswering              // one from memory
	phaseRetired                // it ends
)

var (
	wireBufs = sync.Pool{New: func() any { return new([wireBuf]byte) }}
	outBufs  = sync.Pool{New: func() any { return new([outBuf]byte) }}
)

// outBuf is how long a head and a body may be to be copied together for one write.
const outBuf = 8 << 10

// wired is ln with wires for connections.
func (s *Server) wired(ln net.Listener) net.Listener { return wires{ln, s} }

type wires struct {
	net.Listener
	s *Server
}

func (l wires) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	tcp, ok := c.(*net.TCPConn)
	if err != nil || !ok {
		return c, err
	}
	raw, err := tcp.SyscallConn()
	if err != nil { // it is closed
		return c, nil
	}
	w := &wire{TCPConn: tcp, raw: raw, s: l.s, begin: true}
	w.conn.init(w)
	w.conn.told = true
	w.fill = w.fillOnce
	w.cond.L = &w.mu
	l.s.wires.Store(w, nil)
	l.s.open.Add(1)
	return w, nil
}

// connOf is what is known of c.
func connOf(c net.Conn) *conn {
	if w, ok := c.(*wire); ok {
		return &w.conn
	}
	return newConn(c)
}

// connState is told by net/http what becomes of c.
func connState(c net.Conn, state http.ConnState) {
	if w, ok := c.(*wire); ok && state == http.StateIdle {
		w.begin = !w.through // it has answered, and read no further
	}
}

// retire ends the connections that wait for another request, at once, and those
// that answer one from memory after that. Those of net/http are left to it.
func (s *Server) retire() {
	s.stopping.Store(true)
	s.wires.Range(func(w, _ any) bool {
		w.(*wire).retire()
		return true
	})
}

// gone waits for the connections to be closed, after no more are accepted. net/http
// does not wait for an answer that it does not know of.
func (s *Server) gone(ctx context.Context) error {
	gone := make(chan struct{})
	go func() {
		s.open.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cut ends all connections, also those on which something is being answered.
func (s *Server) cut() {
	s.wires.Range(func(w, _ any) bool {
		w.(*wire).TCPConn.Close()
		return true
	})
}

func (w *wire) retire() {
	if w.phase.CompareAndSwap(phaseWaiting, phaseRetired) {
		w.TCPConn.Close()
	}
}

// Close implements net.Conn. What is being answered from memory is answered.
func (w *wire) Close() error {
	if w.phase.Swap(phaseRetired) == phaseAnswering {
		return nil // Read ends then, and net/http closes it again
	}
	err := w.TCPConn.Close()
	if _, open := w.s.wires.LoadAndDelete(w); open {
		w.s.open.Done()
	}
	return err
}

// SetDeadline implements net.Conn.
func (w *wire) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(t time.Time) error {
	w.until.Store(0)
	w.mu.Lock()
	w.past = !t.IsZero() && t.Before(time.Now())
	if w.past {
		w.cond.Broadcast()
	}
	w.mu.Unlock()
	return w.TCPConn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		w.conn.until.Store(0)
	} else {
		w.conn.until.Store(t.UnixNano())
	}
	return w.TCPConn.SetWriteDeadline(t)
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if w.pass == 0 {
		switch {
		case w.through:
			return w.TCPConn.Read(p)
		case !w.begin:
			return 0, w.watch()
		}
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.buf[w.r:w.r+w.pass])
	w.pass -= n
	w.took(n)
	return n, nil
}

// WriteTo is Read's way for io.Copy; that of the TCP connection would go past what is
// at hand.
func (w *wire) WriteTo(dst io.Writer) (int64, error) {
	return io.Copy(dst, struct{ io.Reader }{w})
}

// took forgets n bytes of what is at hand.
func (w *wire) took(n int) {
	if w.r += n; w.r == w.e {
		wireBufs.Put(w.buf)
		w.buf, w.r, w.e = nil, 0, 0
	}
}

// more waits for more bytes. There must be room for some.
func (w *wire) more() error {
	if w.r > 0 {
		w.e = copy(w.buf[:], w.buf[w.r:w.e])
		w.r = 0
	}
	w.err = nil
	err := w.raw.Read(w.fill)
	if err == nil {
		err = w.err
	}
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		oe.Op = "read" // as net/http knows it
	}
	return err
}

// fillOnce reads what is there. While nothing is, no buffer is held.
func (w *wire) fillOnce(fd uintptr) bool {
	if w.buf == nil {
		w.buf = wireBufs.Get().(*[wireBuf]byte)
	}
	n, err := syscall.Read(int(fd), w.buf[w.e:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), w.buf[w.e:])
	}
	switch {
	case n > 0:
		w.e += n
		return true
	case err == syscall.EAGAIN:
	case err != nil:
		w.err = &net.OpError{Op: "read", Net: "tcp", Source: w.LocalAddr(), Addr: w.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	default:
		w.err = io.EOF
	}
	if w.e == 0 {
		w.took(0)
	}
	return err != syscall.EAGAIN
}

// watch waits until the client leaves, which it tells, or until net/http wants it
// to end. What the client sends meanwhile is for later.
func (w *wire) watch() error {
	if w.buf == nil {
		if err := w.more(); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.past {
		w.cond.Wait()
	}
	return os.ErrDeadlineExceeded
}

// next answers requests from memory until one comes that net/http must have, of
// which pass bytes are at hand then.
func (w *wire) next() error {
	if !w.phase.CompareAndSwap(phaseBusy, phaseWaiting) && w.phase.Load() != phaseFresh {
		return io.EOF
	}
	begun := false // part of a head is there
	for {
		var h head
		n, what := 0, beginsPart
		if w.buf != nil {
			h, n, what = parseHead(w.buf[w.r:w.e])
		}
		switch {
		case what == beginsPart && w.e-w.r < wireBuf:
			if w.e > w.r && !begun && w.phase.Load() != phaseFresh {
				begun = true
				w.allow()
			}
			err := w.more()
			if err == nil {
				continue
			}
			if err != io.EOF || w.e == w.r {
				return err
			}
			w.through, n = true, w.e-w.r // no more will come, and net/http says so
		case what != beginsAlone:
			w.through, n = true, w.e-w.r
		}
		from := w.phase.Load()
		if h.path != "" && from != phaseRetired && w.phase.CompareAndSwap(from, phaseAnswering) {
			done, err := w.answer(h)
			if !w.phase.CompareAndSwap(phaseAnswering, phaseWaiting) || err != nil || done && w.s.stopping.Load() {
				return io.EOF
			}
			if done {
				w.took(n)
				begun = false
				continue
			}
			from = phaseWaiting
		}
		if from == phaseRetired || !w.phase.CompareAndSwap(from, phaseBusy) {
			return io.EOF
		}
		w.begin, w.pass = false, n
		return nil
	}
}

// allow gives the client as long for a head that has begun as net/http does. For
// the first one of a connection net/http has done so itself.
func (w *wire) allow() {
	w.TCPConn.SetReadDeadline(time.Now().Add(headerTime))
	w.until.Store(0) // it is not that of a rest
}

// errBug ends a connection after a bug of ours, which the log has.
var errBug = errors.New("internal error")

// answer answers a request from memory, if it can. The error is a write's, or errBug.
func (w *wire) answer(h head) (done bool, err error) {
	start := time.Now()
	s := w.s
	id := ""
	defer func() {
		if p := recover(); p != nil {
			// net/http would leave the connection to a Close that waits for us.
			s.c.Log.Error("internal error", slog.String("request", id), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			done, err = true, errBug
		}
	}()
	a := s.c.Mirror.Warm(h.path, start, w.clientOf(s))
	if a == nil {
		return false, nil
	}
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	f := faceOf(a)
	if s.c.Stall > 0 {
		w.roll(start, s.c.Stall)
	}
	id = newID()
	out := outBufs.Get().(*[outBuf]byte)
	defer outBufs.Put(out)
	b := append(out[:0], f.head...)
	if !a.Time.IsZero() {
		b = append(b, "Cache-Control: "...)
		b = append(b, s.youngFor(start.Sub(a.Time))...)
		b = append(b, "\r\n"...)
	}
	if s.stopping.Load() {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "X-Request-Id: "...)
	b = append(b, id...)
	b = append(b, "\r\nDate: "...)
	b = append(b, httpDate(start)...)
	b = append(b, "\r\n\r\n"...)
	head := len(b)
	var n int
	switch {
	case !h.get:
		n, err = w.TCPConn.Write(b)
	case len(b)+len(a.Bytes) <= len(out):
		n, err = w.TCPConn.Write(append(b, a.Bytes...))
	default:
		var m int64
		m, err = (&net.Buffers{b, a.Bytes}).WriteTo(w.TCPConn)
		n = int(m)
	}
	took := s.warmed(a, f, hit{id: id, client: w.remote, get: h.get, bytes: max(0, n-head), start: start, err: err})
	if err == nil {
		w.stay(start.Add(took)) // a slow client may have taken long
	}
	return true, err
}

// stay lets the client keep the connection as long as net/http would, or up to an
// eighth more: it costs a timer, so it is done when the end has come near.
func (w *wire) stay(now time.Time) {
	idle := w.s.c.Idle
	switch until := w.until.Load(); {
	case idle <= 0 && until == 0:
		w.TCPConn.SetReadDeadline(time.Time{}) // there is one for the first request
		w.until.Store(1)
	case idle > 0 && until-now.UnixNano() < int64(idle):
		d := now.Add(idle + idle/8)
		w.TCPConn.SetReadDeadline(d)
		w.until.Store(d.UnixNano())
	}
}

// date is the Date header of a second.
var date atomic.Pointer[dateOf]

type dateOf struct {
	second int64
	text   string
}

func httpDate(now time.Time) string {
	d := date.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateOf{now.Unix(), now.UTC().Format(http.TimeFormat)}
		date.Store(d)
	}
	return d.text
}
