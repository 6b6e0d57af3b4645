// Command sluice keeps Go builds working when the module supply line does not:
// a Go module proxy that stands between the go command and many unreliable
// sources, and a tool at the developer's side.
//
// One file a verb; assemble.go builds the object graph. A command gets the world
// as a value, returns an error, and never exits by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
)

// The exit statuses of every command. run has the child's instead.
const (
	exitYes    = 0 // it worked; nothing is wrong
	exitNo     = 1 // it did not work; something is wrong
	exitMisuse = 2 // the command line or the configuration cannot be used
)

// An env is the world as a command gets it.
type env struct {
	environ []string
	dir     string // the working directory
	stdin   *os.File
	stdout  io.Writer
	stderr  io.Writer
	// terminal is whether a person watches stderr.
	terminal bool
	color    bool

	sumdbs []string // --sumdb
	file   string   // --config
}

func main() { os.Exit(start()) }

func start() int {
	dir, _ := os.Getwd()
	e := &env{environ: os.Environ(), dir: dir, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	e.terminal = term.IsTerminal(int(os.Stderr.Fd())) && e.getenv("TERM") != "dumb"
	e.color = e.terminal && e.getenv("NO_COLOR") == ""
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

// run runs the command line and gives the exit status.
func run(ctx context.Context, e *env, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(e)
	root.SetArgs(args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitYes
	}
	ee, ok := errors.AsType[*exitError](err)
	if !ok {
		ee = &exitError{status: exitNo, err: err}
	}
	if ee.err != nil {
		if cfg, ok := errors.AsType[config.Errors](ee.err); ok {
			for _, c := range cfg {
				fmt.Fprintf(e.stderr, "sluice: error: %s\n", finding.Redact(c.Error()))
			}
		} else {
			fmt.Fprintf(e.stderr, "sluice: error: %s\n", finding.Redact(ee.err.Error()))
		}
	}
	if ee.hint != "" {
		fmt.Fprintf(e.stderr, "sluice: hint: %s\n", ee.hint)
	}
	return ee.status
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "A Go module proxy and toolkit that keeps builds working",
		Long: `Sluice keeps Go builds working when the module supply line does not.

It is a Go module proxy that verifies and keeps what it serves (sluice serve),
and a tool at the developer's side (sluice run, trace, verify).

Exit status: 0 it worked, 1 it did not, 2 the command line or the configuration
cannot be used. sluice run has the exit status of the command it runs.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("there is no command %q", args[0])
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				text += fmt.Sprintf("; did you mean %q?", s[0])
			}
			return &exitError{status: exitMisuse, err: errors.New(text), hint: "sluice help lists the commands"}
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{status: exitMisuse, err: err, hint: cmd.CommandPath() + " --help lists the flags"}
	})
	root.AddCommand(newServe(e), newRun(e), newTrace(e), newConfig(e), newVerify(e), newVersion(e))
	root.CompletionOptions.HiddenDefaultCmd = false
	return root
}

// noArgs is cobra.NoArgs with our exit status and words.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &exitError{status: exitMisuse, err: fmt.Errorf("%s takes no arguments, but got %q", cmd.CommandPath(), args[0])}
	}
	return nil
}

// configFlags adds --config and a flag for every configuration key.
func (e *env) configFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&e.file, "config", "", "configuration file (TOML); SLUICE_CONFIG names it too")
	cmd.MarkFlagFilename("config", "toml")
	for _, k := range config.Keys() {
		if k.Kind == config.KindSumDBs {
			f.StringArrayVar(&e.sumdbs, k.Flag(), nil, k.Help+`; repeated, each "NAME URL KEY"`)
			continue
		}
		help := k.Help
		if k.GoVar != "" {
			help += " (default: go env " + k.GoVar + ")"
		} else if k.Default == "" && k.DefaultHelp != "" {
			help += " (default: " + k.DefaultHelp + ")"
		}
		if k.Default != "" && k.GoVar == "" {
			help += " (default " + k.Default + ")"
		}
		f.String(k.Flag(), "", help)
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
