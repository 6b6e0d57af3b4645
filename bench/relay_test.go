//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lane is a line between two ends of pipes, in a bubble: what is written to in
// comes out of out.
func lane(l *line, narrow bool) (in io.WriteCloser, out io.Reader, done chan error) {
	src, in := io.Pipe()
	out, dst := io.Pipe()
	done = make(chan error, 1)
	begin := time.Now()
	go func() {
		err := l.carry(dst, src, narrow, begin)
		dst.Close()
		done <- err
	}()
	return in, out, done
}

func TestWhatGoesOverALineArrivesAfterItsDelayAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, done := lane(&line{delay: 50 * time.Millisecond}, true)
		begin := time.Now()
		go func() {
			fmt.Fprint(in, "one ")
			time.Sleep(10 * time.Millisecond)
			fmt.Fprint(in, "two")
			in.Close()
		}()
		buf := make([]byte, 100)
		n, _ := out.Read(buf)
		if got, took := string(buf[:n]), time.Since(begin); got != "one " || took != 50*time.Millisecond {
			t.Errorf("%q came after %v, want the first words after 50ms", got, took)
		}
		rest, err := io.ReadAll(out)
		if took := time.Since(begin); string(rest) != "two" || err != nil || took != 60*time.Millisecond {
			t.Errorf("%q, %v came after %v, want the rest after 60ms", rest, err, took)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestALineDoesNotLimitTheBandwidthUnlessItIsTold(t *testing.T) {
	data := make([]byte, 1<<20)
	rand.Read(data)
	for _, tt := range []struct {
		rate   int64
		narrow bool
		want   time.Duration
	}{
		{0, true, 50 * time.Millisecond},
		{1 << 20, true, 1050 * time.Millisecond},
		{1 << 20, false, 50 * time.Millisecond}, // the way to the source is never narrow
	} {
		synctest.Test(t, func(t *testing.T) {
			in, out, done := lane(&line{delay: 50 * time.Millisecond, rate: tt.rate}, tt.narrow)
			begin := time.Now()
			go func() {
				in.Write(data)
				in.Close()
			}()
			got, err := io.ReadAll(out)
			if !bytes.Equal(got, data) || err != nil {
				t.Errorf("rate %d: %d bytes came, %v; want the %d that were sent", tt.rate, len(got), err, len(data))
			}
			if took := time.Since(begin).Round(time.Millisecond); took != tt.want {
				t.Errorf("rate %d, narrow %v: it took %v, want %v", tt.rate, tt.narrow, took, tt.want)
			}
			<-done
		})
	}
}

func TestTheConnectionsOfALineShareItsBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{rate: 1 << 20}
		begin := time.Now()
		for range 2 {
			in, out, _ := lane(l, true)
			go func() {
				in.Write(make([]byte, 1<<20))
				in.Close()
			}()
			go io.Copy(io.Discard, out)
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		if took := l.free.Sub(begin).Round(time.Millisecond); took != 2*time.Second {
			t.Errorf("two MiB left a line of one MiB a second after %v", took)
		}
	})
}

func TestALineEndsWhenItsClientHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, in := io.Pipe()
		done := make(chan error, 1)
		gone := errors.New("gone")
		go func() { done <- (&line{}).carry(failing{gone}, src, true, time.Now()) }()
		fmt.Fprint(in, "x")
		if err := <-done; !errors.Is(err, gone) {
			t.Errorf("the error is %v, want that of the client", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestARelayDelaysRequestsAndConnectingCostsARoundTrip(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	defer srv.Close()
	const roundTrip = 60 * time.Millisecond
	r, err := newRelay(strings.TrimPrefix(srv.URL, "http://"), roundTrip, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	begin := time.Now() // of connecting, which belongs to the first request
	c, err := dial(t.Context(), "http://"+r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	// A lower bound is no matter of luck: nothing may arrive too early.
	for i, least := range []time.Duration{2 * roundTrip, roundTrip} {
		if n, err := c.get("/", nil); err != nil || n != 5 {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if took := time.Since(begin); took < least-time.Millisecond {
			t.Errorf("request %d of a connection took %v over a round trip of %v, want at least %v", i+1, took, roundTrip, least)
		}
		begin = time.Now()
	}
}

func TestAClosedRelayEndsItsConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says anything
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := newRelay(ln.Addr().String(), time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(context.Background(), "http://"+r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := ln.Accept(); err != nil {
		t.Fatal(err)
	}
	r.close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection still gives bytes")
	}
}
