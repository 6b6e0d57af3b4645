package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/switches"
)

func newSwitch(e *env) *cobra.Command {
	var asJSON bool
	var lasts, reason string
	cmd := &cobra.Command{
		Use:   "switch [NAME on|off | prefer SOURCE|none]",
		Short: "Switch a part of a running server off or on, for a time and with a reason",
		Long: `Switch changes how the servers on a data directory run, until the time of --for
is over or somebody switches back. It survives a restart of the server, and each
change is a line of .sluice/audit.jsonl in the data directory.

  SOURCE off       a source is not asked; its name is that of sluice sources, or
                   a part of it that no other has
  look-ahead off   nothing is fetched ahead
  origin off       version control is not asked
  offline on       nothing is fetched at all; what the store has is served
  prefer SOURCE    a planned move: the source is probed, then asked before all
                   others as far as the list of sources allows it, and tried by
                   real downloads; if one fails, all is as before.
                   prefer none takes it back

Without arguments it lists the switches in force.

Exit status: 0 done, 1 it could not be done or no server runs, 2 misused.`,
		Example:           "  sluice switch a.example off --for 30m --reason 'it is being moved'\n  sluice switch prefer https://b.example --for 2h\n  sluice switch offline on --for 10m\n  sluice switch",
		ValidArgsFunction: nil,
	}
	remote := e.serverFlags(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error { _, err := switchRequest(args); return err }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := switchRequest(args)
		if err != nil {
			return err
		}
		req.For, req.Reason, req.Who = lasts, reason, e.who()
		return runSwitch(cmd.Context(), e, cmd, remote, len(args) > 0, req, asJSON)
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return e.completeSwitch(cmd, remote, args), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.Flags().StringVar(&lasts, "for", "", "revert by itself after this time, such as 30m")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who see it later")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what each server answered")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"10m", "30m", "1h", "2h", "8h"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)
	return cmd
}

// switchRequest is what the arguments ask for.
func switchRequest(args []string) (req server.SwitchRequest, err error) {
	misused := func(format string, a ...any) (server.SwitchRequest, error) {
		return req, &exitError{status: exitMisuse, err: fmt.Errorf(format, a...), hint: "write sluice switch NAME on|off, sluice switch prefer SOURCE|none, or sluice switch alone"}
	}
	if len(args) == 0 {
		return req, nil
	}
	if args[0] == string(switches.Source) && len(args) == 3 {
		args = args[1:] // the name that it has in lists
	}
	if len(args) != 2 {
		return misused("a switch has a name and where it goes, but got %d arguments", len(args))
	}
	switch name := switches.Name(args[0]); name {
	case switches.Prefer:
		req = server.SwitchRequest{Switch: args[0], Source: args[1], To: "on"}
		if args[1] == "none" {
			req.Source, req.To = "", "off"
		}
		return req, nil
	case switches.LookAhead, switches.Origin, switches.Offline:
		req = server.SwitchRequest{Switch: args[0], To: args[1]}
	default:
		req = server.SwitchRequest{Switch: string(switches.Source), Source: args[0], To: args[1]}
	}
	if req.To != "on" && req.To != "off" {
		return misused("a switch goes on or off, and not %q", req.To)
	}
	return req, nil
}

// completeSources are the names of the sources that the servers have.
func (e *env) completeSources(cmd *cobra.Command, remote *remoteFlags) (names []string) {
	list, _ := e.peers(cmd, remote)
	for _, p := range list {
		if ans, err := call[server.SourcesAnswer](cmd.Context(), p, "/-/sources", nil); err == nil {
			for _, s := range ans.Sources {
				names = append(names, cmp.Or(s.Called, s.Name)+"\tsource, "+s.State)
			}
		}
	}
	return names
}

func (e *env) completeSwitch(cmd *cobra.Command, remote *remoteFlags, args []string) []string {
	sources := func() []string { return e.completeSources(cmd, remote) }
	switch {
	case len(args) == 0:
		return append([]string{"look-ahead\tfetching ahead", "origin\tversion control", "offline\tnothing is fetched", "prefer\tmove to another source"}, sources()...)
	case len(args) == 1 && args[0] == string(switches.Prefer):
		return append([]string{"none\tin the order of the list again"}, sources()...)
	case len(args) == 1:
		return []string{"on", "off"}
	}
	return nil
}

// switched is what switch --json prints of one server.
type switched struct {
	Server string               `json:"server"`
	Answer *server.SwitchAnswer `json:"answer,omitempty"`
	Error  string               `json:"error,omitempty"`
	Steps  []server.Step        `json:"steps,omitempty"` // of what failed
}

// listed is what switch --json without arguments prints of one server.
type listed struct {
	Server string                 `json:"server"`
	Answer *server.SwitchesAnswer `json:"answer,omitempty"`
	Error  string                 `json:"error,omitempty"`
}

func runSwitch(ctx context.Context, e *env, cmd *cobra.Command, remote *remoteFlags, change bool, req server.SwitchRequest, asJSON bool) error {
	if !change && (req.For != "" || req.Reason != "") {
		return &exitError{status: exitMisuse, err: errors.New("--for and --reason are of a change, and none is named"), hint: "write sluice switch NAME on|off --for 30m"}
	}
	if d, err := time.ParseDuration(req.For); req.For != "" && (err != nil || d <= 0) {
		return &exitError{status: exitMisuse, err: fmt.Errorf("--for %s is not a time above 0", req.For), hint: "write 30m, 2h or 1h30m"}
	}
	peers, err := e.peers(cmd, remote)
	if err != nil {
		return err
	}
	if !change {
		return e.listSwitches(ctx, peers, asJSON)
	}
	var all []switched
	var failed []error
	for _, p := range peers {
		// One after the other: what fails at the first server is then seen before the
		// rest is switched, but those are switched all the same.
		ans, err := call[server.SwitchAnswer](ctx, p, "/-/switches", req)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s := switched{Server: p.name, Answer: &ans}
		if err != nil {
			s.Answer, s.Error, s.Steps = nil, finding.Redact(err.Error()), stepsOf(err)
			failed = append(failed, ofPeer(peers, p, err))
		}
		all = append(all, s)
		if asJSON {
			continue
		}
		printSteps(e.stdout, append(ans.Steps, s.Steps...))
		if err == nil {
			fmt.Fprintf(e.stdout, "%s%s\n", peerPrefix(peers, p), finding.Redact(ans.Done))
			if ans.Unkept != "" {
				e.say("warning: %s", ans.Unkept)
			}
		}
	}
	if asJSON {
		if err := writeJSON(e, all); err != nil {
			return err
		}
	}
	return e.failures(failed, len(peers))
}

// failures is the error of a command that several servers were asked by.
func (e *env) failures(failed []error, of int) error {
	if len(failed) == 0 {
		return nil
	}
	for _, err := range failed[:len(failed)-1] {
		e.say("error: %s", err.Error())
	}
	if of > 1 {
		e.say("%d of %d servers did as they were asked", of-len(failed), of)
	}
	return failed[len(failed)-1]
}

// ofPeer says whose error it is, where several servers were asked.
func ofPeer(peers []peer, p peer, err error) error {
	if len(peers) < 2 {
		return err
	}
	named := fmt.Errorf("%s: %w", p.name, err)
	if ee, ok := errors.AsType[*exitError](err); ok {
		return &exitError{status: ee.status, err: named, hint: ee.hint}
	}
	return named
}

func peerPrefix(peers []peer, p peer) string {
	if len(peers) < 2 {
		return ""
	}
	return p.short + ": "
}

func printSteps(w io.Writer, steps []server.Step) {
	for _, s := range steps {
		mark := "ok  "
		if !s.OK {
			mark = "FAIL"
		}
		line := mark + "  " + s.What
		if s.Note != "" {
			line += ": " + s.Note
		}
		fmt.Fprintln(w, finding.Redact(line))
	}
}

func (e *env) listSwitches(ctx context.Context, peers []peer, asJSON bool) error {
	var all []listed
	var failed []error
	for _, p := range peers {
		ans, err := call[server.SwitchesAnswer](ctx, p, "/-/switches", nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, ofPeer(peers, p, err))
			all = append(all, listed{Server: p.name, Error: finding.Redact(err.Error())})
			continue
		}
		all = append(all, listed{Server: p.name, Answer: &ans})
		if asJSON {
			continue
		}
		if len(ans.Switches) == 0 {
			fmt.Fprintf(e.stdout, "%snothing is switched\n", peerPrefix(peers, p))
			continue
		}
		if len(peers) > 1 {
			fmt.Fprintln(e.stdout, p.short)
		}
		now := time.Now()
		rows := [][]string{{"SWITCH", "SINCE", "ENDS IN", "BY", "REASON"}}
		for _, s := range ans.Switches {
			ends := "-"
			if !s.Until.IsZero() {
				ends = short(s.Until.Sub(now))
			}
			rows = append(rows, []string{stateOf(s), short(now.Sub(s.Since)) + " ago", ends, s.Who, s.Reason})
		}
		for _, line := range layout(rows, e.stdoutColumns(), []int{4, 3}, nil) {
			fmt.Fprintln(e.stdout, line)
		}
	}
	if asJSON {
		if err := writeJSON(e, all); err != nil {
			return err
		}
	}
	return e.failures(failed, len(peers))
}

// stateOf says in which state a switch in force is: "offline on".
func stateOf(s switches.Switch) string {
	switch s.Name {
	case switches.Prefer:
		return s.String()
	case switches.Offline:
		return s.String() + " on"
	}
	return s.String() + " off"
}
