package main

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"github.com/modsluice/sluice/internal/config"
)

// A session is a proxy of ours on a loopback port over the user's store, for one command.
type session struct {
	world *world
	ln    net.Listener
	stop  func() // ends serving, and waits for it; nil before start
}

// openSession makes a session that does not serve yet.
func (e *env) openSession(l *config.Loaded, log *slog.Logger) (*session, error) {
	ln, err := net.Listen(network(l.Listen), l.Listen)
	if err != nil {
		return nil, listenError(l.Listen, err)
	}
	st, err := openStore(l, log)
	if err != nil {
		ln.Close()
		return nil, err
	}
	w, err := e.build(l, st, log)
	if err != nil {
		ln.Close()
		return nil, err
	}
	if err := st.Writable(); err != nil {
		e.say("warning: nothing will be stored: %v", err)
	}
	return &session{world: w, ln: ln}, nil
}

// url is how this machine reaches the session.
func (s *session) url() string { return localURL(s.ln.Addr()) }

// start begins to serve. An end of ctx does not end it: an interrupt is the command's to
// handle, and it may still ask.
func (s *session) start(ctx context.Context, l *config.Loaded) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	srv := s.world.server(l)
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(ctx, s.ln) })
	serving.Go(func() { s.world.store.Run(ctx) })
	s.stop = func() {
		cancel()
		serving.Wait()
	}
}

// end ends serving, and closes the store.
func (s *session) end() {
	if s.stop != nil {
		s.stop()
	}
	s.world.close()
	s.ln.Close()
}
