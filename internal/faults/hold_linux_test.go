package faults_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// Whoever asks for any free port does not get this one, as they do not who want it for
// themselves alone.
func TestNobodyGetsThePortOfAFrontThatRefuses(t *testing.T) {
	alone := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) }); e != nil {
			return e
		}
		return err
	}}
	f := newFront(t, http.NotFoundHandler(), "refused")
	for range 3 {
		for end := time.Now().Add(longest); ; {
			ln, err := alone.Listen(t.Context(), "tcp", f.addr.String())
			if err == nil {
				ln.Close()
				t.Fatal("somebody else has the port")
			}
			if !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatal(err)
			}
			c, err := net.Dial("tcp", f.addr.String())
			if errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			if err == nil {
				c.Close()
			}
			time.Sleep(time.Millisecond)
			if time.Now().After(end) {
				t.Fatal("connections are still taken")
			}
		}
		f.sw.Clear()
		for end := time.Now().Add(longest); ; {
			ctx, cancel := context.WithTimeout(t.Context(), longest)
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.addr.String())
			cancel()
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatalf("connections are still refused: %v", err)
			}
		}
		f.sw.Set(parse(t, "refused"))
	}
}
