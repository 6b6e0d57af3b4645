package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/server"
)

func newServe(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve Go modules: verified, kept, and from the next source when one fails",
		Long: `Serve runs the module proxy until it is interrupted.

Without any configuration it listens on a loopback port, keeps its store in the
user's cache directory, and takes its sources, private patterns and checksum
database from the go command's own settings. Every key of the configuration file
is also a flag and a SLUICE_ variable; flag over variable over file.

SIGHUP reads the configuration again without dropping a request; a bad one is
refused and the old one stays. SIGINT and SIGTERM let requests under way finish;
a second one ends it at once.

Exit status: 0 stopped as asked, 1 it could not run, 2 misused.`,
		Example:           "  sluice serve\n  GOPROXY=http://127.0.0.1:7070 go build ./...\n  sluice serve --proxy 'https://a.example|https://b.example' --data /var/lib/sluice",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return runServe(cmd.Context(), e, cmd) },
	}
	e.configFlags(cmd, nil)
	return cmd
}

func runServe(ctx context.Context, e *env, cmd *cobra.Command) error {
	// A reload may be asked for as soon as the process is there, also under nohup.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	l, err := e.load(cmd, nil)
	if err != nil {
		return err
	}
	spareGC()
	sink := newLogSink(e.stderr)
	defer sink.out.flush()
	sink.set(l)
	log := sink.logger()
	for _, warn := range l.Warnings {
		log.Warn("configuration", slog.String("warning", warn.Error()))
	}
	// The port first: a second server must not touch the store of the first.
	ln, err := net.Listen(network(l.Listen), l.Listen)
	if err != nil {
		return listenError(l.Listen, err)
	}
	defer ln.Close()
	st, err := openStore(l, log)
	if err != nil {
		return err
	}
	w, err := e.build(l, st, log)
	if err != nil {
		return err
	}
	defer w.close()
	if w.parts.server.Token, err = readToken(l.Admin.TokenFile, log); err != nil {
		return err
	}
	w.region = l.Region
	w.openSwitches()
	w.requests = sink.request
	srv := w.server(l)

	log.Info("serving", slog.String("url", "http://"+ln.Addr().String()), slog.String("store", l.Data),
		slog.String("proxy", l.Proxy.Redacted()), slog.String("proxy_from", l.From["proxy"].String()),
		slog.String("sumdb", sumdbName(l)), slog.String("version", version()))
	if err := st.Writable(); err != nil {
		log.Error("nothing will be stored; modules are verified and served through", slog.Any("err", err))
	}
	logQuota(log, st)
	warnCommas(log, l)

	sctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(sctx, ln) }()
	var local sync.WaitGroup
	defer local.Wait()
	defer stop()
	local.Go(func() { w.live.switches.Run(sctx) })
	local.Go(func() { st.Run(sctx) })
	defer context.AfterFunc(sctx, w.drills.stop)()
	local.Go(func() { w.serveAdmin(sctx, srv) })
	for {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving at %s ended: %w", ln.Addr(), err)
			}
			return nil
		case <-hup:
			l = e.reload(cmd, w, srv, l, sink)
		}
	}
}

// reload reads the configuration again. What cannot be used is refused whole,
// and what needs a restart is told.
func (e *env) reload(cmd *cobra.Command, w *world, srv *server.Server, old *config.Loaded, sink *logSink) *config.Loaded {
	l, err := e.load(cmd, nil)
	var changes []config.Change
	if err == nil {
		token, terr := readToken(l.Admin.TokenFile, w.log)
		changed := terr == nil && token != w.parts.server.Token // its file may hold another under the same name
		if changes = config.Diff(old.Config, l.Config); len(changes) == 0 && terr == nil && !changed {
			w.log.Info("configuration read again; nothing has changed")
			return l
		}
		err = w.reload(e, l, srv)
	}
	if err != nil {
		w.log.Error("the new configuration is refused; the old one stays in force", slog.Any("err", err))
		return old
	}
	sink.set(l)
	for _, warn := range l.Warnings {
		w.log.Warn("configuration", slog.String("warning", warn.Error()))
	}
	for _, c := range changes {
		if c.Restart {
			w.log.Warn("the change takes effect at the next start only", slog.String("change", c.String()))
		} else {
			w.log.Info("configuration changed", slog.String("change", c.String()))
		}
	}
	warnCommas(w.log, l)
	w.log.Info("configuration read again")
	return l
}

func (w *world) server(l *config.Loaded) *server.Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(w.mirror.Collectors()...)
	reg.MustRegister(w.store.Collectors()...)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return server.New(server.Config{
		Mirror: w.mirror, Log: w.log, Requests: w.requests, ID: w.id, Version: version(), Idle: l.Limits.Idle, Stall: l.Limits.Stall,
		Admin: w.admin(), Watch: &w.drills, Store: w.store.Probe, Metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}, w.parts.server)
}

// logQuota says how much of its quota a store uses, if it has one.
func logQuota(log *slog.Logger, st localStore) {
	u := st.Usage()
	switch {
	case u.Quota == 0:
	case u.Known:
		log.Info("the store has a quota", slog.Int64("quota", u.Quota), slog.Int64("bytes", u.Bytes), slog.Int64("versions", u.Versions))
	default:
		log.Info("the store has a quota, and what it holds is being counted", slog.Int64("quota", u.Quota))
	}
}

// network is that of an address to listen at: 0.0.0.0 is no IPv6, though package net
// takes it for all there is.
func network(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return "tcp4"
	}
	return "tcp"
}

func listenError(addr string, err error) error {
	ee := &exitError{status: exitNo, err: fmt.Errorf("cannot listen at %s: %w", addr, err), hint: "choose another with --listen HOST:PORT"}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		ee.err = fmt.Errorf("the address %s is in use, perhaps by another sluice serve", addr)
	case errors.Is(err, syscall.EACCES):
		ee.err = fmt.Errorf("this user may not listen at %s: ports below 1024 are privileged", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		ee.err = fmt.Errorf("%s is no address of this machine", addr)
		ee.hint = "choose one with --listen HOST:PORT; --listen :PORT takes all of them"
	}
	return ee
}

func sumdbName(l *config.Loaded) string {
	if l.GoSumDB.Off {
		return "off"
	}
	return l.GoSumDB.Name
}

// warnCommas says what a comma between proxies means, since most people who
// write one believe that it is for failover.
func warnCommas(log *slog.Logger, l *config.Loaded) {
	if l.Failover != config.AsWritten {
		return
	}
	for i, entry := range l.Proxy[:max(0, len(l.Proxy)-1)] {
		next := l.Proxy[i+1]
		if !entry.FallBackOnError && (next.Kind == goenv.HTTP || next.Kind == goenv.File) {
			log.Warn("a comma stands between two proxies: the second is asked only when the first says 404 or 410, not when it is down",
				slog.String("first", entry.Name()), slog.String("second", next.Name()), slog.String("mend", `write | between them, or failover = "proxies"`))
		}
	}
}
