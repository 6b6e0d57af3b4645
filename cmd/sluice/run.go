package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/origin"
)

const (
	// prefetchParallel is how many files run fetches ahead at once. One client's
	// share of a public mirror should not be more.
	prefetchParallel = 16
	// prefetchPatience is how long run waits without any file coming before it
	// starts the command; fetching goes on beside it.
	prefetchPatience = 5 * time.Second
)

func newRun(e *env) *cobra.Command {
	noFetch := false
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command with its modules coming through Sluice",
		Long: `Run starts a proxy on a loopback port over this user's store, fetches ahead what
go.mod, go.sum and go.work name, and runs the command with GOPROXY set to it.
Nothing needs to be configured, and nothing is left behind but what is stored.

The sources are those of the go command's settings; a proxy in trouble is passed
over for the next one. Where your own GOPROXY ends in direct, the command keeps
that way for what no proxy has; otherwise it gets none.

Exit status: that of the command; 128+N if signal N ended it; 127 if there is no
such command; 2 misused.`,
		Example: "  sluice run -- go build ./...\n  sluice run --proxy 'https://a.example|https://b.example' -- make test",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exitError{status: exitMisuse, err: errors.New("run needs a command"), hint: "write sluice run -- go build ./..."}
			}
			if cmd.ArgsLenAtDash() > 0 {
				return &exitError{status: exitMisuse, err: fmt.Errorf("%q stands before the --", args[0]), hint: "write sluice run [flags] -- COMMAND"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runRun(cmd.Context(), e, cmd, args, !noFetch) },
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVar(&noFetch, "no-prefetch", false, "fetch nothing ahead of the command")
	e.configFlags(cmd)
	return cmd
}

func runRun(ctx context.Context, e *env, cmd *cobra.Command, args []string, fetch bool) error {
	l, err := e.load(cmd, map[string]string{"listen": "127.0.0.1:0", "failover": config.Proxies, "log.level": "error"})
	if err != nil {
		return err
	}
	// A port of its own: a SLUICE_LISTEN or a file is meant for serve.
	if l.From["listen"].Layer != config.Flag {
		l.Listen = "127.0.0.1:0"
	}
	// Version control is the go command's own business here: it has the user's
	// credentials, and our server would ask without them.
	goproxyTail := ""
	if n := len(l.Proxy); n > 0 && l.Proxy[n-1].Kind == goenv.Direct {
		goproxyTail = ",direct"
		if n > 1 && l.Proxy[n-2].FallBackOnError {
			goproxyTail = "|direct"
		}
		l.Proxy = l.Proxy[:n-1]
	}
	ln, err := net.Listen("tcp", l.Listen)
	if err != nil {
		return listenError(l.Listen, err)
	}
	defer ln.Close()
	log := e.logger(l, e.stderr)
	w, err := e.build(l, log)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.store.Writable(); err != nil {
		e.say("nothing will be stored: %v", err)
	}

	// The server must outlive an interrupt, which is the command's to handle.
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- w.server(l).Serve(sctx, ln) }()
	defer func() {
		stop()
		<-served
	}()

	if fetch {
		pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		unhook := context.AfterFunc(ctx, cancel)
		finished := e.prefetch(pctx, w.mirror, l)
		defer func() {
			cancel()
			<-finished
		}()
		if ctx.Err() != nil {
			return &exitError{status: 130, err: errors.New("interrupted before the command was started")}
		}
		unhook()
	}

	environ := slices.DeleteFunc(slices.Clone(e.environ), func(kv string) bool { return strings.HasPrefix(kv, "GOPROXY=") })
	environ = append(environ, "GOPROXY=http://"+ln.Addr().String()+goproxyTail)
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sig)
	status, err := origin.Run(context.WithoutCancel(ctx), origin.Child{
		Args: args, Environ: environ, Dir: e.dir, Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Signals: sig,
	})
	if err != nil {
		return &exitError{status: max(status, 1), err: err}
	}
	if status != 0 {
		e.tellSources(w, l)
		return &exitError{status: status}
	}
	return nil
}

// tellSources says below a failed command which sources were in trouble.
func (e *env) tellSources(w *world, l *config.Loaded) {
	for _, s := range w.mirror.Sources(w.parts.chain.Names()) {
		if s.State != "failing" {
			continue
		}
		f := finding.Of(finding.Code(s.Code))
		e.say("while the command ran: %s", f)
		e.say("  %s", s.Error)
		e.say("  fix: %s", f.Mend)
	}
}

func (e *env) say(format string, args ...any) {
	fmt.Fprintf(e.stderr, "sluice: %s\n", finding.Redact(fmt.Sprintf(format, args...)))
}

// prefetch fetches ahead what the project in the working directory names. It
// returns when all is there, when nothing comes any more, or when ctx ends; the
// channel is closed once nothing is fetched any longer.
func (e *env) prefetch(ctx context.Context, m *mirror.Mirror, l *config.Loaded) <-chan struct{} {
	finished := make(chan struct{})
	reqs, err := e.wanted(ctx, l)
	if err != nil {
		e.say("nothing is fetched ahead: %v", err)
	}
	if len(reqs) == 0 {
		close(finished)
		return finished
	}
	bar := newBar(e, len(reqs))
	progress := make(chan struct{}, 1)
	go func() {
		defer close(finished)
		m.Prefetch(ctx, reqs, prefetchParallel, func(f mirror.Fetched) {
			bar.add(f)
			select {
			case progress <- struct{}{}:
			default:
			}
		})
		bar.finish(ctx.Err() != nil)
	}()
	idle := time.NewTimer(prefetchPatience)
	defer idle.Stop()
	for {
		select {
		case <-finished:
			return finished
		case <-progress:
			idle.Reset(prefetchPatience)
		case <-idle.C:
			bar.leave()
			return finished
		case <-ctx.Done():
			<-finished
			return finished
		}
	}
}
