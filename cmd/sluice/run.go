package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/origin"
)

const (
	// prefetchParallel is how many small files run fetches ahead at once, with half
	// as many zips beside them. One client's share of a public mirror should not be
	// more.
	prefetchParallel = 32
	// prefetchAlone is how long run fetches before it starts the command, if it then
	// has what the command asks for first, the .mod files: the zips come while the
	// command works.
	prefetchAlone = 500 * time.Millisecond
	// prefetchReading is how long run goes on reading what a project imports when it
	// has nothing else to wait for: it takes seconds to read a large one through.
	prefetchReading = 200 * time.Millisecond
	// prefetchPatience is how long run waits without any file coming before it
	// starts the command; fetching goes on beside it.
	prefetchPatience = 5 * time.Second
)

// runDefaults are the configuration keys for which run has another default.
func runDefaults() map[string]string {
	return map[string]string{"listen": "127.0.0.1:0", "failover": config.Proxies, "log.level": "error"}
}

func newRun(e *env) *cobra.Command {
	noFetch := false
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command with its modules coming through Sluice",
		Long: `Run starts a proxy on a loopback port over this user's store, fetches ahead what
go.mod, go.sum and go.work name, and runs the command with GOPROXY set to it: at
the latest when the .mod files are there, while the zips come. Nothing needs to be
configured, and nothing is left behind but what is stored, and in the module cache
what the go command leaves there. For go build, install, run and list it fetches only the
zips of what the project's packages import, without their tests, and of what that
imports in turn; for go list -m, go mod graph, and commands that need no module, none. For
all other commands, and where files, all, -test, -C or -modfile are named, it fetches all
that go.mod names.

For a go command that builds ./..., or downloads all modules, it unpacks what is
verified into the module cache itself, as the go command does; --run-lay=false leaves
it that.

The sources are those of the go command's settings; a proxy in trouble is passed
over for the next one. Where your own GOPROXY ends in direct, the command keeps
that way for what no proxy has; otherwise it gets none.

The configuration of serve holds here too, but for its address: that is a free
loopback port unless --listen names one.

If the command fails and its output does not go to a terminal, run says below it
what the output means, and keeps it for sluice explain --last. If modules were missing
and the output does not say enough, it makes the checks of sluice doctor, for 8 s at most.

Exit status: that of the command; 128+N if signal N ended it; 127 if there is no
such command, 126 if it cannot be started; 2 misused.`,
		Example: "  sluice run -- go build ./...\n  sluice run --proxy 'https://a.example|https://b.example' -- make test",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exitError{status: exitMisuse, err: errors.New("run needs a command"), hint: "write sluice run -- go build ./..."}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runRun(cmd.Context(), e, cmd, args, !noFetch) },
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVar(&noFetch, "no-prefetch", false, "fetch nothing ahead of the command")
	e.configFlags(cmd, runDefaults())
	return cmd
}

func runRun(ctx context.Context, e *env, cmd *cobra.Command, args []string, fetch bool) error {
	// From here on signals are the command's, and wait for it until it is there.
	sig := make(chan os.Signal, 8)
	notify(sig, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sig)

	l, err := e.loadFor(cmd, runDefaults(), true)
	if err != nil {
		return err
	}
	for _, warn := range l.Warnings {
		e.say("warning: %s", warn.Error())
	}
	if !cmd.Flags().Changed("listen") {
		l.Listen = "127.0.0.1:0" // the configured one is that of serve, which may be running
	}
	// Version control is the go command's own business here: it has the user's
	// credentials, and our server would ask without them.
	var tail string
	l.Proxy, tail = leaveDirect(l.Proxy)
	stderr := e.stderr // as it is, for the command
	con := &console{w: stderr}
	sink := newLogSink(con)
	defer sink.out.flush()
	sink.set(l)
	e.stderr = con
	s, err := e.openSession(l, e.sessionLog(l, sink))
	if err != nil {
		return err
	}
	defer s.end()
	w := s.world
	// Before anybody asks it: a "not found" leads this go command to direct.
	w.parts.chain.DirectBehind = tail == ",direct"
	var missed missedModule
	w.requests = missed.note(sink.request)
	s.start(ctx, l)

	// Without a proxy to ask there is nothing to fetch: the command gets from the
	// store what is there. And what nothing keeps would come twice.
	_, keepsNone := w.store.(*closedStore)
	if fetch && !keepsNone && e.findable(args[0]) && slices.ContainsFunc(l.Proxy, func(p goenv.Entry) bool { return p.Kind != goenv.Off }) {
		pctx, release := interruptible(ctx, syscall.SIGHUP, syscall.SIGQUIT)
		finished := e.prefetch(pctx, con, w, l, args)
		defer func() {
			release()
			<-finished
		}()
		if pctx.Err() != nil {
			return context.Cause(pctx)
		}
	}

	environ := slices.DeleteFunc(slices.Clone(e.environ), func(kv string) bool { return strings.HasPrefix(kv, "GOPROXY=") })
	environ = append(environ, "GOPROXY="+s.url()+tail)
	// A terminal stays the command's; what goes elsewhere passes by us, so that we
	// can say what it means.
	var kept keeper
	out, errOut, end, err := kept.tapAll(e, stderr)
	if err != nil {
		return err
	}
	started := time.Now()
	status, err := origin.Run(context.WithoutCancel(ctx), origin.Child{
		Args: args, Environ: environ, Dir: e.dir, Stdin: e.stdin, Stdout: out, Stderr: errOut, Signals: sig,
	})
	end()
	if err != nil {
		return &exitError{status: max(status, exitNo), err: err}
	}
	if status != 0 && ctx.Err() == nil { // else somebody has ended it, and knows why
		told := e.tellFailure(l.Data, lastFailure{Time: started.UTC().Round(0), Command: slices.Clone(args), Dir: e.dir, Status: status, Output: string(kept.bytes())})
		e.tellSources(w)
		if told.Cause == finding.CauseSumDBUnreachable || w.failedRequests() > 0 && (!told.Known() || doctorKnowsMore(told.Cause)) {
			e.tellDoctor(ctx, l, missed.by(told))
		}
	}
	if status != 0 {
		return &exitError{status: status}
	}
	return nil
}

// leaveDirect is a chain without direct at its end, and what a go command that
// is to keep that way has behind our URL.
func leaveDirect(chain goenv.List) (goenv.List, string) {
	n := len(chain)
	switch {
	case n == 0 || chain[n-1].Kind != goenv.Direct:
		return chain, ""
	case n > 1 && chain[n-2].FallBackOnError:
		return chain[:n-1], "|direct"
	}
	return chain[:n-1], ",direct"
}

// findable reports whether a command may exist: nobody should wait for modules
// to learn of a slip of the fingers. Who runs it knows for certain.
func (e *env) findable(name string) bool {
	if runtime.GOOS == "windows" {
		return true // there is more to it there than names
	}
	dirs := filepath.SplitList(e.getenv("PATH"))
	if strings.ContainsRune(name, filepath.Separator) {
		if dirs = []string{e.dir}; filepath.IsAbs(name) {
			dirs = []string{""}
		}
	}
	return slices.ContainsFunc(dirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	})
}

// localURL is how this machine reaches a server of ours.
func localURL(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort("localhost", port)
	}
	return "http://" + addr.String()
}

// tapAll gives the files that a command writes to: its own where they are terminals,
// files or devices, a tap for a stderr that is a pipe. Where stdout and stderr are one
// pipe they share one tap, so that the order of what is written stays. end waits for
// what is on its way.
func (k *keeper) tapAll(e *env, stderr io.Writer) (out, errOut io.Writer, end func(), err error) {
	f, isFile := stderr.(*os.File)
	if isFile {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			s := span{f, info.Size()}
			return e.rawStdout(), stderr, func() { k.span(s) }, nil
		} else if err == nil && info.Mode()&os.ModeCharDevice != 0 || term.IsTerminal(int(f.Fd())) {
			return e.rawStdout(), stderr, func() {}, nil
		}
	}
	w, t, err := k.tap(stderr)
	if err != nil {
		return nil, nil, nil, err
	}
	of, ok := e.rawStdout().(*os.File)
	if ok && isFile && sameFile(of, f) || !isFile && e.rawStdout() == stderr {
		return w, w, t.end, nil
	}
	return e.rawStdout(), w, t.end, nil
}

// heedBrokenPipe makes a write to a pipe that nobody reads an error, so that it does
// not end us while a command of ours runs, or before we have removed what we made. A
// child has the signal as it was.
func heedBrokenPipe() { notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// tellFailure says below a failed command what its output means, and keeps it for
// explain --last. Of what it cannot tell it says nothing, and returns the zero value.
func (e *env) tellFailure(data string, last lastFailure) explain.Result {
	if last.Output == "" {
		return explain.Result{}
	}
	keepLast(data, last) // where nothing can be written, --last has nothing to say
	r := explain.Text(last.Output)
	if r.Known() {
		e.tell(wordsOf(explainFlags{}.told(r)))
	}
	return r
}

// tellSources says below a failed command which sources were in trouble, if that
// is why the command did not get something: of a compile error they are not to
// blame.
func (e *env) tellSources(w *world) {
	if w.failedRequests() == 0 {
		return
	}
	for _, s := range w.mirror.Sources(w.parts.chain.Names()) {
		if s.State != "failing" {
			continue
		}
		f := finding.Of(finding.Code(s.Code))
		e.say("while the command ran, %s: %s", f.Title, s.Error)
		e.say("hint: %s (%s)", f.Mend, f.Code)
	}
}

// failedRequests counts the clients' requests for module files that failed for
// want of a source.
func (w *world) failedRequests() (n float64) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(w.mirror.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		if f.GetName() != "sluice_module_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" && l.GetValue() == "failed" {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}
