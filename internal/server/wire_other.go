//go:build !unix

package server

import (
	"context"
	"net"
	"net/http"
)

// wired is ln: connections are all net/http's here.
func (s *Server) wired(ln net.Listener) net.Listener { return ln }

func (s *Server) retire() {}

func (s *Server) gone(context.Context) error { return nil }

func (s *Server) cut() {}

func connOf(c net.Conn) *conn { return newConn(c) }

func connState(net.Conn, http.ConnState) {}
