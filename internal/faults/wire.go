package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// BlackHole accepts every connection at ln, reads what it is sent, and never
// answers. It returns ctx's cause when ctx is done, after it has closed ln and
// every connection; or the error of ln if that fails first.
func BlackHole(ctx context.Context, ln net.Listener) error {
	return accept(ctx, ln, func(_ context.Context, c net.Conn) { io.Copy(io.Discard, c) })
}

// Slam resets every connection at ln as soon as it is there. It ends as
// BlackHole does.
func Slam(ctx context.Context, ln net.Listener) error {
	return accept(ctx, ln, func(_ context.Context, c net.Conn) { resetConn(c) })
}

// Relay carries connections from ln to the TCP address target, and what is sent
// in each direction arrives delay later than it would have. A new connection
// pays one round trip more, as on a real line, where the handshake is such a
// trip. Bandwidth is not limited, up to queueLimit bytes on their way. Where
// target cannot be reached the client's connection is reset. It ends as
// BlackHole does.
func Relay(ctx context.Context, ln net.Listener, target string, delay time.Duration) error {
	return accept(ctx, ln, func(ctx context.Context, here net.Conn) {
		since := time.Now()
		var d net.Dialer
		there, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			resetConn(here)
			return
		}
		defer there.Close()
		defer context.AfterFunc(ctx, func() { there.Close() })()
		var wg sync.WaitGroup
		wg.Go(func() { carry(ctx, there, here, delay, since.Add(2*delay)) })
		wg.Go(func() { carry(ctx, here, there, delay, since) })
		wg.Wait()
	})
}

// accept runs serve for every connection at ln, and closes all of them when ctx
// is done.
func accept(ctx context.Context, ln net.Listener, serve func(context.Context, net.Conn)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		close(closed)
	})
	defer func() {
		if stop() {
			ln.Close()
			return
		}
		<-closed
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			serve(ctx, c)
		})
	}
}

// queueLimit is how many bytes may be on their way in one direction: at 100 ms
// of delay, 640 MB a second.
const queueLimit = 64 << 20

// A line holds what is on its way in one direction. One end sends, another
// takes.
type line struct {
	more chan struct{} // has a token when there may be something to take
	room chan struct{} // has a token when there may be room to send

	mu    sync.Mutex // guards the following
	queue []portion
	bytes int
}

type portion struct {
	due  time.Time
	data []byte // empty: the end
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// send puts p on its way, once there is room; false if ctx is done first.
func (l *line) send(ctx context.Context, p portion) bool {
	for {
		l.mu.Lock()
		ok := l.bytes+len(p.data) <= queueLimit
		if ok {
			l.queue = append(l.queue, p)
			l.bytes += len(p.data)
		}
		l.mu.Unlock()
		if ok {
			wake(l.more)
			return true
		}
		select {
		case <-l.room:
		case <-ctx.Done():
			return false
		}
	}
}

// take waits for the next portion; false if ctx is done first.
func (l *line) take(ctx context.Context) (portion, bool) {
	for {
		l.mu.Lock()
		var p portion
		ok := len(l.queue) > 0
		if ok {
			p, l.queue = l.queue[0], l.queue[1:]
			l.bytes -= len(p.data)
		}
		l.mu.Unlock()
		if ok {
			wake(l.room)
			return p, true
		}
		select {
		case <-l.more:
		case <-ctx.Done():
			return portion{}, false
		}
	}
}

// carry copies src to dst, each portion delay after it was read, and none as if
// read before notBefore. An end of src ends dst's writing after the same delay;
// an error on either side closes both.
func carry(ctx context.Context, dst, src net.Conn, delay time.Duration, notBefore time.Time) {
	l := &line{more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			due := time.Now()
			if due.Before(notBefore) {
				due = notBefore
			}
			due = due.Add(delay)
			if n > 0 && !l.send(ctx, portion{due, append([]byte(nil), buf[:n]...)}) {
				return
			}
			if errors.Is(err, io.EOF) {
				l.send(ctx, portion{due: due})
				return
			}
			if err != nil {
				cancel()
				return
			}
		}
	})
	if !deliver(ctx, l, dst) {
		src.Close()
		dst.Close()
	}
}

// deliver writes what comes along l to dst when it is due. It is true after the
// end, false after an error.
func deliver(ctx context.Context, l *line, dst net.Conn) bool {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		p, ok := l.take(ctx)
		if !ok {
			return false
		}
		if wait := time.Until(p.due); wait > 0 {
			t.Reset(wait)
			select {
			case <-t.C:
			case <-ctx.Done():
				return false
			}
		}
		if len(p.data) == 0 {
			return closeWrite(dst) == nil
		}
		if _, err := dst.Write(p.data); err != nil {
			return false
		}
	}
}

// closeWrite ends what c will send, and leaves what it will receive.
func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}

// resetConn closes c with a TCP reset, also beneath TLS; where there is no TCP,
// it just closes it.
func resetConn(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}
