package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/drill"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/origin"
)

// drillTime is how long a fault lasts that has been given no time: longer than
// anybody waits for a hung download, and not so long that one has to end it.
const drillTime = time.Minute

// A drillOrder is what the command line of drill says.
type drillOrder struct {
	list, json, markdown   bool
	through, warm, stocked bool
	last                   time.Duration // of the fault
	source                 string        // number or URL; empty: the first that can have a fault
	fault                  string
	command                []string

	inside, reason string // of a source of a running server
	remote         remoteFlags
}

func newDrill(e *env) *cobra.Command {
	var o drillOrder
	cmd := &cobra.Command{
		Use:   "drill FAULT [flags] -- COMMAND [ARGUMENT...] | drill FAULT --inside SOURCE",
		Short: "Run a command with a fault before one of its sources, and report what it saw",
		Long: `Drill rehearses trouble: it runs a command without the fault and then with it, and
reports whether it worked, what it lost, what met the fault and what it said. With
--through-sluice it runs the command once more under the same fault, with Sluice
between it and the sources.

The fault stands at a loopback port of this process, which takes the place of one
source in the GOPROXY of the command alone; behind it is the true source. Nothing
is configured, and nothing is left: the fault ends with the drill, however that
ends. After --for it ends by itself and the source is well again; a fault of the
name or of TLS lasts as long as the command.

Each run has a module cache of its own, empty unless --warm, no terminal and no
standard input; what it prints goes to standard error. Choose a command that
downloads: compiling takes its time with any source. The sources are those of run,
as --proxy or the go command's settings name them.

A fault is NAME or NAME=VALUE, with KIND: before it for one kind of request (list,
latest, info, mod, zip, sumdb). --list prints all of them.

With --inside SOURCE and no command, the fault is put into what a running server
sees of one of its sources, for the time of --for, and what its clients saw is
reported. Ctrl-C ends it sooner and the report comes all the same; if this process
is killed, it ends at once.

Exit status: 0 the command worked under the fault (through Sluice, if that was
asked for), or no request of a client failed because of it; 1 it did not, some
did, nothing met the fault, or no server runs; 2 misused.`,
		Example: "  sluice drill 503 -- go mod download\n  sluice drill zip:cut=30% --through-sluice -- go mod download\n  sluice drill black-hole --source 2 --for 20s --markdown -- go mod download\n  sluice drill 503 --inside a.example --for 5m --reason 'game day'",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := o.form(cmd); err != nil {
				return err
			}
			return o.args(args, cmd.ArgsLenAtDash())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return completeFault(begun), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return listFaults(e, o.json)
			}
			if o.inside != "" {
				return runInside(cmd.Context(), e, cmd, o)
			}
			return runDrill(cmd.Context(), e, cmd, o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.last, "for", drillTime, "the fault ends after so long")
	f.StringVar(&o.source, "source", "", "number (from 1) or URL of the source to spoil (default: the first)")
	f.BoolVar(&o.through, "through-sluice", false, "run the command through Sluice, too")
	f.BoolVar(&o.warm, "warm", false, "use the module cache as it is, not an empty one")
	f.BoolVar(&o.stocked, "warm-store", false, "fill Sluice's store by a run without the fault first; with --through-sluice")
	f.BoolVar(&o.json, "json", false, "print the report as an object")
	f.BoolVar(&o.markdown, "markdown", false, "print the report in Markdown")
	f.StringVar(&o.inside, "inside", "", "put the fault into a running server's view of this source (its name in sluice sources, or a part of it)")
	f.StringVar(&o.reason, "reason", "", "why, for those who see it later; with --inside")
	f.StringArrayVar(&o.remote.servers, "server", nil, "a server elsewhere, by its URL; with --inside; may be repeated")
	f.StringArrayVar(&o.remote.tokenFiles, "token-file", nil, "file with the token of that server, one for all or one for each; with --inside")
	f.BoolVar(&o.list, "list", false, "print the faults there are")
	cmd.RegisterFlagCompletionFunc("for", cobra.NoFileCompletions)
	for _, name := range []string{"source", "reason", "server"} {
		cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	cmd.RegisterFlagCompletionFunc("inside", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return e.completeSources(cmd, &o.remote), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.MarkFlagFilename("token-file")
	e.configFlags(cmd, runDefaults())
	// A drill around a command has its own, and keeps neither.
	f.MarkHidden("listen")
	f.Lookup("data").Usage = "data directory of the server; with --inside"
	return cmd
}

// completeFault are the faults that a word which begins so can become: also those
// for one kind of request.
func completeFault(begun string) (names []string) {
	kind := ""
	if k, _, ok := strings.Cut(begun, ":"); ok {
		kind = k + ":"
	}
	for _, i := range faults.All() {
		if _, err := faults.Parse(kind + i.Example); err == nil && (kind == "" || !i.Wire) {
			names = append(names, kind+i.Name+"\t"+i.Doc)
		}
	}
	return names
}

// args reads the arguments, of which those behind the dash are the command.
func (o *drillOrder) args(args []string, dash int) error {
	bad := func(hint, format string, args ...any) error {
		return &exitError{status: exitMisuse, err: fmt.Errorf(format, args...), hint: hint}
	}
	const form = "write sluice drill FAULT -- COMMAND, such as sluice drill 503 -- go mod download"
	before := args
	if dash >= 0 {
		before, o.command = args[:dash], args[dash:]
	}
	switch {
	case o.json && o.markdown:
		return bad("choose one of them", "--json and --markdown are two forms of one report")
	case o.stocked && !o.through:
		return bad("add --through-sluice", "--warm-store is about the store of Sluice, which this drill does without")
	case o.list && len(args) > 0:
		return bad("write sluice drill --list", "drill --list takes no arguments, but got %q", args[0])
	case o.list && o.markdown:
		return bad("write sluice drill --list --json", "the list of faults has no form in Markdown")
	case o.list:
		return nil
	case len(before) == 0:
		return bad("sluice drill --list prints the faults there are", "drill needs a fault")
	}
	o.fault = before[0]
	if _, err := faults.Parse(o.fault); err != nil {
		return bad("sluice drill --list prints the faults there are", "%w", err)
	}
	switch {
	case o.last <= 0:
		return bad("write --for 30s", "--for %v is no time for a fault to last", o.last)
	case len(before) > 1:
		return bad(form, "drill takes one fault, and the command behind --, but got %q", before[1])
	case o.inside != "" && dash >= 0:
		return bad("leave out one of them", "drill --inside takes no command: it watches the clients of the server")
	case o.inside != "" && o.last > longestDrill:
		return bad("write --for 5m", "--for %v is longer than a drill inside a server may last, which is %v", o.last, longestDrill)
	case o.inside != "":
	case len(o.command) == 0:
		return bad(form, "drill needs a command")
	}
	return nil
}

func listFaults(e *env, asJSON bool) error {
	type fault struct {
		Name    string `json:"name"`
		Param   string `json:"value,omitempty"`
		Default string `json:"default,omitempty"`
		Example string `json:"example"`
		Does    string `json:"does"`
		Lasting bool   `json:"lasting,omitempty"`
	}
	var list []fault
	for _, i := range faults.All() {
		list = append(list, fault{i.Name, i.Param, i.Default, i.Example, i.Doc, i.Lasting})
	}
	if asJSON {
		return writeJSON(e, list)
	}
	for _, f := range list {
		name := f.Name
		switch {
		case strings.HasPrefix(f.Param, "["):
			name += "[=" + strings.Trim(f.Param, "[]") + "]"
		case f.Param != "":
			name += "=" + f.Param
		}
		if f.Default != "" {
			f.Does += " (" + f.Default + ")"
		}
		if _, err := fmt.Fprintf(e.stdout, "%-28s %s\n", name, f.Does); err != nil {
			return err
		}
	}
	return nil
}

func runDrill(ctx context.Context, e *env, cmd *cobra.Command, o drillOrder) error {
	// A closed terminal ends a drill as Ctrl-C does.
	ctx, release := interruptible(ctx, syscall.SIGHUP)
	defer release()
	for _, name := range []string{"data", "listen"} {
		if cmd.Flags().Changed(name) {
			return misuse("--%s is not for drill, which has a store and an address of its own and keeps neither", name)
		}
	}
	fault, err := faults.Parse(o.fault)
	if err != nil {
		return misuse("%w", err)
	}
	info := fault.Info()
	if info.Wire && fault.Only != "" {
		return misuse("%s is a fault of the network, which asks for no kind of file; write %s", fault.Name, fault.Name)
	}
	l, err := e.loadFor(cmd, runDefaults(), true) // it has a store of its own
	if err != nil {
		return err
	}
	for _, warn := range l.Warnings {
		e.say("warning: %s", warn.Error())
	}
	if info.Lasting && cmd.Flags().Changed("for") {
		e.say("warning: %s lasts as long as the command, not for %v: the name or the certificate of the port stays what it is", fault.Name, o.last)
	}
	d := &drilling{env: e, order: o, config: l, settings: e.goSettings(ctx)}
	if d.at, err = spoiled(l.Proxy, o.source); err != nil {
		return err
	}
	entry := l.Proxy[d.at]
	plan := drill.Plan{Fault: fault, For: o.last, Name: entry.Name()}
	if info.Lasting {
		plan.For = 0
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.DisableCompression = true
	defer tr.CloseIdleConnections()
	if plan.Source, err = sourceHandler(entry, tr); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "sluice-drill-*"); err != nil {
		return err
	}
	defer removeTree(d.dir)

	rep := &drill.Report{
		Fault: fault.String(), Does: info.Doc, Source: plan.Name, Position: d.at + 1, Sources: len(l.Proxy), Chain: l.Proxy.Redacted(),
		For: plan.For.Seconds(), Lasting: info.Lasting, Command: redactAll(o.command), Warm: o.warm, Stocked: o.stocked,
	}
	well := plan
	well.Fault = faults.Fault{}
	e.say("without the fault: %s", strings.Join(rep.Command, " "))
	run, err := drill.Play(ctx, well, drill.Healthy, d.alone)
	if err != nil {
		return err
	}
	rep.Add(run)
	if run.Worked {
		e.say("with the fault %s before %s", fault, plan.Name)
		if run, err = drill.Play(ctx, plan, drill.Bare, d.alone); err != nil {
			return err
		}
		rep.Add(run)
	}
	if o.through && run.Name == drill.Bare {
		if o.stocked {
			e.say("through Sluice without the fault, to fill its store")
			if _, err := drill.Play(ctx, well, drill.Through, d.through); err != nil {
				return err
			}
		}
		e.say("through Sluice with the fault")
		if run, err = drill.Play(ctx, plan, drill.Through, d.through); err != nil {
			return err
		}
		rep.Add(run)
	}
	switch {
	case o.json:
		err = writeJSON(e, rep)
	case o.markdown:
		err = rep.Markdown(e.stdout)
	default:
		err = rep.Text(e.stdout)
	}
	if err == nil && !rep.Worked {
		return &exitError{status: exitNo}
	}
	return err
}

// spoiled is the place in the chain of the source that is to have the fault.
func spoiled(chain goenv.List, source string) (int, error) {
	can := func(entry goenv.Entry) bool { return entry.Kind == goenv.HTTP || entry.Kind == goenv.File }
	hint := "the sources are " + chain.Redacted() + "; name others with --proxy"
	bad := func(format string, args ...any) (int, error) {
		return 0, &exitError{status: exitMisuse, err: fmt.Errorf(format, args...), hint: hint}
	}
	at := slices.IndexFunc(chain, can)
	if at < 0 {
		return bad("there is no proxy among the sources, and nothing else can be put behind a fault")
	}
	if source == "" {
		return at, nil
	}
	n, err := strconv.Atoi(source)
	if err == nil {
		at = n - 1
	} else {
		same := strings.TrimRight(source, "/")
		at = slices.IndexFunc(chain, func(entry goenv.Entry) bool {
			return strings.TrimRight(entry.URL, "/") == same || strings.TrimRight(entry.Name(), "/") == same
		})
	}
	switch {
	case at < 0 || at >= len(chain):
		return bad("there is no source %s among the %d there are", goenv.Redact(source), len(chain))
	case !can(chain[at]):
		return bad("source %d is %q, which cannot be put behind a fault", at+1, chain[at].URL)
	}
	return at, nil
}

// sourceHandler is a source as it is.
func sourceHandler(entry goenv.Entry, rt http.RoundTripper) (http.Handler, error) {
	if entry.Kind == goenv.File {
		dir, err := fileURLPath(entry.URL)
		if err != nil {
			return nil, misuse("proxy: %w", err)
		}
		return drill.Tree(dir), nil
	}
	u, err := url.Parse(entry.URL)
	if err != nil {
		return nil, misuse("proxy: %w", err)
	}
	return drill.Proxy(u, rt), nil
}

// A drilling is a drill that is under way.
type drilling struct {
	env      *env
	order    drillOrder
	config   *config.Loaded
	settings *goenv.Settings
	at       int    // place of the spoiled source in the chain
	dir      string // all that it leaves, until it is over
	runs     int
}

// chain is that of the configuration with the spoiled source at u.
func (d *drilling) chain(u string) goenv.List {
	chain := slices.Clone(d.config.Proxy)
	chain[d.at].Kind, chain[d.at].URL = goenv.HTTP, u
	return chain
}

// alone runs the command with nothing between it and the sources.
func (d *drilling) alone(ctx context.Context, u string) (drill.Outcome, error) {
	return d.try(ctx, d.chain(u).String(), u)
}

// try runs the command once.
func (d *drilling) try(ctx context.Context, goproxy, u string) (drill.Outcome, error) {
	d.runs++
	e := d.env
	environ := with(e.environ, "GOPROXY", goproxy)
	environ = with(environ, "GOFLAGS", strings.TrimSpace(d.settings.Get("GOFLAGS").Value+" -modcacherw"))
	if !d.order.warm {
		environ = with(environ, "GOMODCACHE", filepath.Join(d.dir, "mod"+strconv.Itoa(d.runs)))
	}
	// A name that does not exist is to be looked up here, and not by a forward proxy.
	if p, err := url.Parse(u); err == nil && net.ParseIP(p.Hostname()) == nil {
		for _, name := range []string{"NO_PROXY", "no_proxy"} {
			environ = with(environ, name, strings.TrimPrefix(e.getenv(name)+","+p.Hostname(), ","))
		}
	}
	var said drill.Tail
	began := time.Now()
	exit, err := origin.Trial(ctx, origin.Child{
		Args: d.order.command, Environ: environ, Dir: e.dir, Stdout: e.stderr, Stderr: io.MultiWriter(e.stderr, &said),
	})
	took := time.Since(began)
	if err != nil {
		if ctx.Err() == nil {
			err = &exitError{status: exitMisuse, err: err}
		}
		return drill.Outcome{}, err
	}
	return drill.Outcome{Exit: exit, Took: took, Said: redactAll(said.Lines())}, nil
}

// through runs the command with Sluice between it and the sources.
func (d *drilling) through(ctx context.Context, u string) (out drill.Outcome, err error) {
	l := *d.config
	var tail string
	l.Proxy, tail = leaveDirect(d.chain(u))
	// What is special to the source holds for the port in its place; but for what
	// is about the way to its host.
	spoiled := l.SourceOf(d.config.Proxy[d.at].URL)
	l.Source = append(slices.Clone(l.Source), config.Source{
		URL: config.SourceURL(u), Timeout: spoiled.Timeout, Connect: spoiled.Connect, Connections: spoiled.Connections, Rate: spoiled.Rate,
		Family: "auto", Weight: spoiled.Weight, Tier: spoiled.Tier,
	})
	l.Data = filepath.Join(d.dir, "store")
	l.Trees = nil // what is at hand meets no fault
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return out, err
	}
	defer ln.Close()
	l.Listen = ln.Addr().String()
	st, err := openStore(&l, nil)
	if err != nil {
		return out, err
	}
	var logged drill.Tail
	w, err := d.env.build(&l, st, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	})))
	if err != nil {
		return out, err
	}
	defer w.close()
	w.parts.chain.DirectBehind = tail == ",direct"
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	srv := w.server(&l)
	go func() { served <- srv.Serve(sctx, ln) }()
	out, err = d.try(ctx, localURL(ln.Addr())+tail, u)
	stop()
	<-served
	out.Logged = redactAll(logged.Lines())
	return out, err
}

// with is environ with one variable set.
func with(environ []string, name, value string) []string {
	environ = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	return append(environ, name+"="+value)
}

func redactAll(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, finding.Redact(l))
	}
	return out
}

// removeTree removes a directory in which a command may have left others that
// nobody may write to.
func removeTree(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
