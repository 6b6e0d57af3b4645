//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A line is what a relay pretends to be: a way to the source that is long, and
// perhaps narrow.
type line struct {
	delay time.Duration // of each direction: half the round trip
	rate  int64         // bytes per second toward the client, all connections together; 0 is no limit

	mu   sync.Mutex // guards the following
	free time.Time  // when the last byte that was let in has left the narrow end
}

// due is when n bytes that come in now come out. Only the way to the client may
// be narrow.
func (l *line) due(n int, narrow bool) time.Time {
	now := time.Now()
	if !narrow || l.rate <= 0 {
		return now.Add(l.delay)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return l.free.Add(l.delay)
}

const (
	chunkBytes = 32 << 10
	// flightBytes bounds what is under way in one direction of one connection.
	// It is far more than loopback can bring within a delay, so that it does not
	// limit the bandwidth, and yet a client that does not read stops the source.
	flightBytes = 256 << 20
)

type chunk struct {
	data []byte // nil: the sender has ended
	due  time.Time
}

// carry passes on what src sends, each chunk when it is due, until src ends or
// fails. Nothing leaves before the time of begin: that is what connecting costs.
func (l *line) carry(dst io.Writer, src io.Reader, narrow bool, begin time.Time) error {
	queue := make(chan chunk, flightBytes/chunkBytes)
	stop := make(chan struct{})
	var rerr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(queue)
		for {
			buf := make([]byte, chunkBytes)
			n, err := src.Read(buf)
			if n > 0 {
				c := chunk{buf[:n], l.due(n, narrow)}
				if earliest := begin.Add(l.delay); c.due.Before(earliest) {
					c.due = earliest
				}
				select {
				case queue <- c:
				case <-stop:
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					rerr = err
				}
				select {
				case queue <- chunk{nil, l.due(0, narrow)}:
				case <-stop:
				}
				return
			}
		}
	})
	var werr error
	for c := range queue {
		time.Sleep(time.Until(c.due))
		if c.data == nil {
			break
		}
		if _, werr = dst.Write(c.data); werr != nil {
			break
		}
	}
	close(stop)
	if w, ok := dst.(interface{ CloseWrite() error }); ok && werr == nil {
		w.CloseWrite()
	}
	if werr != nil {
		// The reader may wait for a sender that has nothing to say.
		if c, ok := src.(io.Closer); ok {
			c.Close()
		}
	}
	wg.Wait()
	return errors.Join(rerr, werr)
}

// A relay listens on loopback and passes connections on to one address over a
// line. It asks nothing of what passes.
type relay struct {
	*line
	target string
	ln     net.Listener
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// newRelay starts a relay; roundTrip is both directions together. The caller must
// close it.
func newRelay(target string, roundTrip time.Duration, rate int64) (*relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &relay{line: &line{delay: roundTrip / 2, rate: rate}, target: target, ln: ln, stop: stop}
	r.wg.Go(func() { r.serve(ctx) })
	return r, nil
}

func (r *relay) addr() string { return r.ln.Addr().String() }

// close ends the relay and its connections.
func (r *relay) close() {
	r.stop()
	r.ln.Close()
	r.wg.Wait()
}

func (r *relay) serve(ctx context.Context) {
	for {
		client, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.pass(ctx, client) })
	}
}

// pass is one connection. The kernel has accepted it already, so the round trip
// that the handshake would have taken is added to the first bytes.
func (r *relay) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	begin := time.Now().Add(2 * r.delay)
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var both sync.WaitGroup
	both.Go(func() {
		if r.carry(server, client, false, begin) != nil {
			server.Close()
			client.Close()
		}
	})
	both.Go(func() {
		if r.carry(client, server, true, begin) != nil {
			client.Close()
			server.Close()
		}
	})
	both.Wait()
}
