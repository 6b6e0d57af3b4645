package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/server"
)

// form says which flags are not of the form of drill that is asked for.
func (o *drillOrder) form(cmd *cobra.Command) error {
	wrong := []string{"server", "token-file", "reason"}
	text, hint := "--%s is of a drill inside a running server", "name its source with --inside SOURCE"
	if cmd.Flags().Changed("inside") {
		wrong = []string{"source", "through-sluice", "warm", "warm-store", "list", "listen"}
		text, hint = "--%s is of a drill around a command, and not of one inside a running server", "leave out --inside or the other"
		if o.inside == "" {
			return &exitError{status: exitMisuse, err: fmt.Errorf("--inside names no source"), hint: "sluice sources lists them"}
		}
	}
	for _, name := range wrong {
		if cmd.Flags().Changed(name) {
			return &exitError{status: exitMisuse, err: fmt.Errorf(text, name), hint: hint}
		}
	}
	return nil
}

// insideDrill is what drill --inside --json prints of one server.
type insideDrill struct {
	Server string              `json:"server"`
	Answer *server.DrillAnswer `json:"answer,omitempty"`
	Error  string              `json:"error,omitempty"`
}

// runInside is drill --inside: all servers at once, since each has its clients.
func runInside(ctx context.Context, e *env, cmd *cobra.Command, o drillOrder) error {
	// A closed terminal ends a drill as Ctrl-C does.
	ctx, release := interruptible(ctx, syscall.SIGHUP)
	defer release()
	peers, err := e.peers(cmd, &o.remote)
	if err != nil {
		return err
	}
	req := server.DrillRequest{Source: o.inside, Fault: o.fault, For: o.last.String(), Reason: o.reason, Who: e.who()}
	all, errs := make([]insideDrill, len(peers)), make([]error, len(peers))
	var begun sync.Once
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			// Whoever ends it sooner has a report all the same.
			call, leave := context.WithCancel(context.WithoutCancel(ctx))
			defer leave()
			accepted := make(chan struct{})
			over := make(chan struct{})
			wg.Go(func() {
				select {
				case <-ctx.Done():
				case <-over:
					return
				}
				select {
				case <-accepted:
					end := server.DrillEnd{Source: o.inside, Who: req.Who}
					// That it has ended by itself is no failure.
					callFor[struct{}](call, p, "/-/drill/end", end, readTime, func() {})
					select {
					case <-over:
					case <-time.After(drillGrace + readTime):
						leave()
					}
				default:
					leave() // hanging up ends it, too
				}
			})
			ans, err := callFor[server.DrillAnswer](call, p, "/-/drill", req, o.last+adminTime, func() {
				close(accepted)
				begun.Do(func() { e.say("%s is inside %s for %v; Ctrl-C ends it", o.fault, finding.Redact(o.inside), o.last) })
			})
			close(over)
			all[i] = insideDrill{Server: p.name, Answer: &ans}
			if err != nil {
				all[i].Answer, all[i].Error, errs[i] = nil, finding.Redact(err.Error()), ofPeer(peers, p, err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil && !slices.ContainsFunc(all, func(d insideDrill) bool { return d.Answer != nil }) {
		return context.Cause(ctx)
	}
	if o.json {
		if err := writeJSON(e, all); err != nil {
			return err
		}
	}
	worked, tried := true, false
	for i, d := range all {
		if d.Answer == nil {
			continue
		}
		worked = worked && d.Answer.Failed == 0 && d.Answer.Waiting == 0
		tried = tried || len(d.Answer.Met) > 0
		if d.Answer.Unkept != "" {
			e.say("warning: %s", finding.Redact(d.Answer.Unkept))
		}
		if o.json {
			continue
		}
		if _, err := fmt.Fprint(e.stdout, peerPrefix(peers, peers[i]), insideReport(*d.Answer, o.markdown)); err != nil {
			return err
		}
	}
	if err := e.failures(slices.DeleteFunc(errs, func(err error) bool { return err == nil }), len(peers)); err != nil {
		return err
	}
	if !worked || !tried {
		return &exitError{status: exitNo}
	}
	return nil
}

// insideReport is a report for a terminal, or for a page.
func insideReport(a server.DrillAnswer, markdown bool) string {
	var b strings.Builder
	title := fmt.Sprintf("%s inside %s for %s", a.Fault, a.Source, time.Duration(a.Lasted*float64(time.Second)).Round(100*time.Millisecond))
	met := words(a.Met, "list", "latest", "info", "mod", "zip", "sumdb", "other")
	counts := []string{"hit", "fetched", "stale", "missing", "refused", "failed", "left"}
	rows := [][]string{{"", "requests of clients", "median", "slowest"}}
	row := func(what string, s server.Served) {
		r := []string{what, words(s.Requests, counts...), "", ""}
		if s.Slowest > 0 {
			r[2], r[3] = fmt.Sprintf("%.1f ms", s.Median), fmt.Sprintf("%.1f ms", s.Slowest)
		}
		rows = append(rows, r)
	}
	if a.Before != nil {
		row("as long before", *a.Before)
	}
	row("under the fault", a.During)
	asked := fmt.Sprintf("%s met the fault: %s. The source's answers: %d good, %d \"not found\", %d failed", a.Source, met, a.Asked.Good, a.Asked.Missing, a.Asked.Failed)
	verdict := strings.ToUpper(a.Verdict[:1]) + a.Verdict[1:]
	if markdown {
		fmt.Fprintf(&b, "### `%s`: %s\n\nInside `%s` for %.1f s; it ended as %s.\n\n", a.Fault, a.Does, a.Source, a.Lasted, a.Ended)
		for i, r := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
			if i == 0 {
				fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(r)))
			}
		}
		fmt.Fprintf(&b, "\n%s.\n\n%s.\n", asked, verdict)
		if len(a.Logged) > 0 {
			fmt.Fprintf(&b, "\n    %s\n", strings.Join(a.Logged, "\n    "))
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s; it ended as %s\n  %s\n\n", title, a.Ended, a.Does)
	for _, line := range layout(rows, 0, nil, nil) {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintf(&b, "\n%s\n", asked)
	if len(a.Logged) > 0 {
		fmt.Fprintf(&b, "\nLogged:\n  %s\n", strings.Join(a.Logged, "\n  "))
	}
	fmt.Fprintf(&b, "\n%s\n", verdict)
	return b.String()
}

// words are counts by kind, in the order of kinds: "3 mod, 9 zip".
func words(n map[string]int, kinds ...string) string {
	var parts []string
	for _, k := range kinds {
		if n[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[k], k))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
