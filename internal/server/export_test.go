package server

import (
	"context"
	"net"
)

// InFlight is how many requests s is answering.
func InFlight(s *Server) int64 { return s.inFlight.Load() }

// WithConn is ctx for the requests of a connection, as Serve makes it.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, newConn(c))
}
