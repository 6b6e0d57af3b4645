// Command sluice keeps Go builds working when the module supply line does not:
// a Go module proxy that stands between the go command and many unreliable
// sources, and a tool at the developer's side.
//
// One file a verb; assemble.go builds the object graph. A command gets the world
// as a value, returns an error, and never exits by itself.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
)

// The exit statuses of every command. run has the child's instead.
const (
	exitYes    = 0   // it worked; nothing is wrong
	exitNo     = 1   // it did not work; something is wrong
	exitMisuse = 2   // the command line or the configuration cannot be used
	exitSignal = 128 // plus the number of the signal that ended it early
)

// An env is the world as a command gets it.
type env struct {
	environ []string
	dir     string // the working directory
	stdin   *os.File
	stdout  io.Writer
	stderr  io.Writer
	// terminal is whether a person watches stderr, and columns how wide it then is.
	terminal bool
	columns  func() int

	sumdbs []string // --sumdb
	// forward chooses the forward proxy of a request; nil: by HTTPS_PROXY and the like.
	forward func(*http.Request) (*url.URL, error)
}

func main() { os.Exit(start()) }

func start() int {
	heedBrokenPipe()
	dir, _ := os.Getwd()
	e := &env{environ: os.Environ(), dir: dir, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	e.terminal = term.IsTerminal(int(os.Stderr.Fd())) && e.getenv("TERM") != "dumb"
	e.columns = func() int {
		if n, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && n > 0 {
			return n
		}
		return 80
	}
	return run(context.Background(), e, os.Args[1:])
}

func (e *env) getenv(name string) string {
	for _, kv := range e.environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// forwardProxy chooses the forward proxy of requests to others.
func (e *env) forwardProxy() func(*http.Request) (*url.URL, error) {
	if e.forward != nil {
		return e.forward
	}
	return http.ProxyFromEnvironment
}

// An exitError ends the program with a status and, if err is nil, no more words.
type exitError struct {
	status int
	err    error
	hint   string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

func misuse(format string, args ...any) error {
	return &exitError{status: exitMisuse, err: fmt.Errorf(format, args...)}
}

// emptyFlag is the error of a flag that names nothing, as where the variable that was to
// be in its place is not set.
func emptyFlag(flag, what string) error {
	return &exitError{status: exitMisuse, err: fmt.Errorf("--%s is empty", flag), hint: "write --" + flag + " and " + what + ", or leave the flag away"}
}

// An interruptError says which signal asked the program to end. It matches
// context.Canceled, which is what it means below the commands.
type interruptError struct{ sig os.Signal }

func (e *interruptError) Error() string        { return "interrupted" }
func (e *interruptError) Is(target error) bool { return target == context.Canceled }

func (e *interruptError) status() int {
	if n, ok := e.sig.(syscall.Signal); ok {
		return exitSignal + int(n)
	}
	return exitNo
}

// interruptible ends ctx at the first of the signals, with an *interruptError as
// its cause. The next one is nobody's but the system's: who asks twice does not
// want to wait for what is under way.
func interruptible(ctx context.Context, sigs ...os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	sig := make(chan os.Signal, 1)
	notify(sig, sigs...)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-sig:
			signal.Stop(sig)
			cancel(&interruptError{s})
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(sig)
		close(done)
		cancel(nil)
	}
}

// notify is signal.Notify, but leaves alone what whoever started us has switched
// off (nohup, a job in the background of a script).
func notify(ch chan<- os.Signal, sigs ...os.Signal) {
	if sigs = slices.DeleteFunc(sigs, signal.Ignored); len(sigs) > 0 {
		signal.Notify(ch, sigs...)
	}
}

// A latch remembers that a write failed, also where whoever wrote does not look.
type latch struct {
	io.Writer
	gone func() // is called when there is nobody any more who reads
	err  error
}

func (l *latch) Write(p []byte) (int, error) {
	n, err := l.Writer.Write(p)
	if l.err == nil {
		l.err = err
	}
	if errors.Is(err, syscall.EPIPE) {
		l.gone()
	}
	return n, err
}

// rawStdout is stdout for other programs, and for questions about what it is.
func (e *env) rawStdout() io.Writer {
	if l, ok := e.stdout.(*latch); ok {
		return l.Writer
	}
	return e.stdout
}

// run runs the command line and gives the exit status.
func run(ctx context.Context, e *env, args []string) int {
	ctx, stop := interruptible(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, gone := context.WithCancelCause(ctx)
	defer gone(nil)
	out := &latch{Writer: e.stdout, gone: func() { gone(&interruptError{syscall.SIGPIPE}) }}
	inner := *e
	inner.stdout = out
	e = &inner
	root := newRoot(e)
	root.SetArgs(args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("the output cannot be written: %w", out.err)
	}
	if err == nil {
		return exitYes
	}
	if errors.Is(out.err, syscall.EPIPE) {
		// sluice … | head: whoever read has enough. All is tidied up by now.
		return exitSignal + int(syscall.SIGPIPE)
	}
	ie, ok := errors.AsType[*interruptError](err)
	if !ok && errors.Is(err, context.Canceled) {
		ie, ok = errors.AsType[*interruptError](context.Cause(ctx))
	}
	if ok {
		e.say("interrupted")
		return ie.status()
	}
	ee, ok := errors.AsType[*exitError](err)
	if !ok {
		ee = &exitError{status: exitNo, err: err}
	}
	if cfg, ok := errors.AsType[config.Errors](ee.err); ok {
		for _, c := range cfg {
			e.say("error: %s", c.Error())
		}
	} else if ee.err != nil {
		e.say("error: %s", ee.err.Error())
	}
	if ee.hint != "" {
		e.say("hint: %s", ee.hint)
	}
	return ee.status
}

// say tells the user something that is no result.
func (e *env) say(format string, args ...any) {
	fmt.Fprintf(e.stderr, "sluice: %s\n", finding.Printable(fmt.Sprintf(format, args...)))
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "A Go module proxy and toolkit that keeps builds working",
		Long: `Sluice keeps Go builds working when the module supply line does not.

It is a Go module proxy that verifies and keeps what it serves (sluice serve),
and a tool at the developer's side (sluice run, explain, doctor, rescue, bench, use, trace, drill, import, verify).

Exit status: 0 it worked, 1 it did not, 2 the command line or the configuration
cannot be used, 128+N signal N ended it early. sluice run has the exit status of
the command it runs.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if asked, _ := cmd.Flags().GetBool("version"); asked {
				printVersion(e)
				return nil
			}
			return cmd.Help()
		},
	}
	root.Flags().Bool("version", false, "print the version, as sluice version does")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp())
	root.AddCommand(newServe(e), newRun(e), newTrace(e), newExplain(e), newDoctor(e), newRescue(e), newDrill(e), newConfig(e), newVerify(e), newStore(e), newImport(e), newSwitch(e), newSources(e), newUse(e), newBench(e), newVersion(e))
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = noCommand
			c.RunE = func(cmd *cobra.Command, args []string) error { return cmd.Help() }
		}
	}
	return root
}

// noCommand is the Args of a command that has commands below it and takes
// nothing else.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		text += fmt.Sprintf("; did you mean %q?", s[0])
	}
	return &exitError{status: exitMisuse, err: errors.New(text), hint: cmd.CommandPath() + " --help lists the commands"}
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if of, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, c := range of.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return noCommand(of, rest)
			}
			of.InitDefaultHelpFlag() // or the help would not list it
			return of.Help()
		},
	}
}

// flagError words what is wrong with a flag. People who come from the go command
// write -json, which here would be four flags of one letter.
func flagError(cmd *cobra.Command, err error) error {
	hint := cmd.CommandPath() + " --help lists the flags"
	type unknownFlag interface {
		error
		GetSpecifiedShortnames() string
	}
	if u, ok := errors.AsType[unknownFlag](err); ok {
		if name, _, _ := strings.Cut(u.GetSpecifiedShortnames(), "="); name != "" && cmd.Flags().Lookup(name) != nil {
			hint = fmt.Sprintf("flags have two dashes here: --%s", name)
		}
	}
	return &exitError{status: exitMisuse, err: err, hint: hint}
}

// noArgs is cobra.NoArgs with our exit status and words.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &exitError{status: exitMisuse, err: fmt.Errorf("%s takes no arguments, but got %q", cmd.CommandPath(), args[0]),
			hint: cmd.CommandPath() + " --help says what it takes"}
	}
	return nil
}

// A textFlag is a flag whose value config reads. It implements pflag.Value.
type textFlag struct{ text, kind string }

func (f *textFlag) String() string     { return f.text }
func (f *textFlag) Set(s string) error { f.text = s; return nil }
func (f *textFlag) Type() string       { return f.kind }

// A textsFlag is one that may be repeated.
type textsFlag struct {
	texts *[]string
	kind  string
}

func (f *textsFlag) String() string     { return strings.Join(*f.texts, "; ") }
func (f *textsFlag) Set(s string) error { *f.texts = append(*f.texts, s); return nil }
func (f *textsFlag) Type() string       { return f.kind }

// showKeys hides the flags of the configuration keys that a command has no use for; they
// are taken all the same, as the file may have those keys.
func showKeys(cmd *cobra.Command, names ...string) {
	for _, k := range config.Keys() {
		if f := cmd.Flags().Lookup(k.Flag()); f != nil && !slices.Contains(names, k.Name) {
			f.Hidden = true
		}
	}
}

// configFlags adds --config and a flag for every configuration key. defaults are
// those that the command has in place of the key's own.
func (e *env) configFlags(cmd *cobra.Command, defaults map[string]string) {
	f := cmd.Flags()
	f.Var(&textFlag{kind: "file"}, "config", "configuration file (TOML); SLUICE_CONFIG names it too")
	cmd.MarkFlagFilename("config", "toml")
	for _, k := range config.Keys() {
		if k.Kind == config.KindSources {
			continue // tables of the file only
		}
		help := k.Help
		switch def := cmp.Or(defaults[k.Name], k.Default); {
		case k.GoVar != "":
			help += " (default: go env " + k.GoVar + ")"
		case def != "":
			help += " (default " + def + ")"
		case k.DefaultHelp != "":
			help += " (default: " + k.DefaultHelp + ")"
		}
		kind := string(k.Kind)
		switch k.Kind {
		case config.KindAddress:
			kind = "host:port"
		case config.KindProxy:
			kind = "list"
		case config.KindVCS:
			kind = "rules"
		case config.KindModCache:
			f.Var(&textFlag{kind: "auto|off|directory"}, k.Flag(), help)
			cmd.MarkFlagDirname(k.Flag())
			continue
		case config.KindSumDB:
			kind = "database"
		case config.KindChoice:
			kind = strings.Join(k.Choices, "|")
		case config.KindBool:
			kind = "true|false"
		case config.KindFile:
			f.Var(&textFlag{kind: kind}, k.Flag(), help)
			cmd.MarkFlagFilename(k.Flag())
			continue
		case config.KindSumDBs:
			f.Var(&textsFlag{&e.sumdbs, `"name url key"`}, k.Flag(), help+"; may be repeated")
			continue
		}
		f.Var(&textFlag{kind: kind}, k.Flag(), help)
		switch {
		case k.Kind == config.KindBool:
			f.Lookup(k.Flag()).NoOptDefVal = "true"
			cmd.RegisterFlagCompletionFunc(k.Flag(), cobra.FixedCompletions([]string{"true", "false"}, cobra.ShellCompDirectiveNoFileComp))
		case len(k.Choices) > 0:
			cmd.RegisterFlagCompletionFunc(k.Flag(), cobra.FixedCompletions(k.Choices, cobra.ShellCompDirectiveNoFileComp))
		case k.Kind == config.KindPath:
			cmd.MarkFlagDirname(k.Flag())
		default:
			cmd.RegisterFlagCompletionFunc(k.Flag(), cobra.NoFileCompletions)
		}
	}
}
