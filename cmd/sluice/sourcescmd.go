package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/switches"
)

// redrawEvery is the pace of the live table.
const redrawEvery = time.Second

func newSources(e *env) *cobra.Command {
	var asJSON, once, byRegion bool
	cmd := &cobra.Command{
		Use:   "sources",
		Short: "Show how the sources of a running server do",
		Long: `Sources shows every source of the servers on a data directory: its state, since
when and why; how long it takes to answer lists, .info and .mod files, and zips
(half of the answers come within the first figure, 95 of 100 within the second);
how many of its answers were of use (OK; "not found" is one); how many versions
it lacks that others have, and for how long (LAG); of how many modules it gave
wrong bytes (LIES); and its share of all answers. What is not known is "-".

With --by-region it shows for each source its state, and how long half of its .info
and .mod files take, from each region: name the servers with --server, once for
each. The region of a server is its key region. Several of one region are counted.

At a terminal the table is drawn again each second, until Ctrl-C.

Exit status: 0 shown, 1 no server runs, 2 misused.`,
		Example:           "  sluice sources\n  sluice sources --once --data /var/lib/sluice\n  sluice sources --by-region --server https://eu.example.com --server https://us.example.com --token-file FILE\n  sluice sources pardon a.example example.com/module",
		Args:              noCommand,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	remote := e.serverFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runSources(cmd.Context(), e, cmd, remote, asJSON, once, byRegion)
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what each server answered")
	cmd.Flags().BoolVar(&once, "once", false, "print the table once, also at a terminal")
	cmd.Flags().BoolVar(&byRegion, "by-region", false, "print which source is how from where, by the region of each server")
	cmd.AddCommand(newPardon(e, remote))
	return cmd
}

func newPardon(e *env, remote *remoteFlags) *cobra.Command {
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pardon SOURCE [MODULE]",
		Short: "Let a source back that was fenced off for wrong bytes",
		Long: `Pardon lets a source be asked again for a module of which it gave wrong bytes, or
for all of them. Nothing else changes: what it then gives is verified like all
else. It is recorded in .sluice/audit.jsonl in the data directory.

Exit status: 0 done, 1 it was not fenced off or no server runs, 2 misused.`,
		Example: "  sluice sources pardon a.example example.com/module --reason 'its cache was purged'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return &exitError{status: exitMisuse, err: fmt.Errorf("pardon takes a source and perhaps a module, but got %d arguments", len(args)), hint: "write sluice sources pardon SOURCE [MODULE]"}
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			list, _ := e.peers(cmd, remote)
			for _, p := range list {
				ans, _ := call[server.SourcesAnswer](cmd.Context(), p, "/-/sources", nil)
				for _, s := range ans.Sources {
					switch {
					case len(s.Lies) == 0:
					case len(args) == 0:
						names = append(names, cmp.Or(s.Called, s.Name))
					case len(args) == 1 && (s.Called == args[0] || strings.Contains(s.Name, args[0])):
						for m := range s.Lies {
							names = append(names, m)
						}
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req := server.PardonRequest{Source: args[0], Reason: reason, Who: e.who()}
			if len(args) == 2 {
				req.Module = args[1]
			}
			return runPardon(cmd.Context(), e, cmd, remote, req, asJSON)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who see it later")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what each server answered")
	return cmd
}

// pardoned is what pardon --json prints of one server.
type pardoned struct {
	Server string               `json:"server"`
	Answer *server.PardonAnswer `json:"answer,omitempty"`
	Error  string               `json:"error,omitempty"`
}

func runPardon(ctx context.Context, e *env, cmd *cobra.Command, remote *remoteFlags, req server.PardonRequest, asJSON bool) error {
	peers, err := e.peers(cmd, remote)
	if err != nil {
		return err
	}
	var all []pardoned
	var failed []error
	for _, p := range peers {
		ans, err := call[server.PardonAnswer](ctx, p, "/-/sources/pardon", req)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, ofPeer(peers, p, err))
			all = append(all, pardoned{Server: p.name, Error: finding.Redact(err.Error())})
			continue
		}
		all = append(all, pardoned{Server: p.name, Answer: &ans})
		if asJSON {
			continue
		}
		fmt.Fprintf(e.stdout, "%s%s is asked again for %s\n", peerPrefix(peers, p), finding.Redact(ans.Source), count(ans.Pardoned, "module"))
		if ans.Unkept != "" {
			e.say("warning: %s", ans.Unkept)
		}
	}
	if asJSON {
		if err := writeJSON(e, all); err != nil {
			return err
		}
	}
	// A source may have lied to one server only.
	if len(failed) < len(peers) {
		failed = nil
	}
	return e.failures(failed, len(peers))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// shown is what sources --json prints of one server.
type shown struct {
	Server string                `json:"server"`
	Answer *server.SourcesAnswer `json:"answer,omitempty"`
	Error  string                `json:"error,omitempty"`
}

func runSources(ctx context.Context, e *env, cmd *cobra.Command, remote *remoteFlags, asJSON, once, byRegion bool) error {
	live := !asJSON && !once && e.stdoutColumns() > 0 && e.getenv("TERM") != "dumb"
	drawn := 0
	for {
		all, lines, err := e.sourcesNow(ctx, cmd, remote, byRegion)
		switch {
		case ctx.Err() != nil && live:
			return nil // that is how a live table ends
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case all == nil && drawn == 0:
			return err
		case asJSON:
			return errors.Join(writeJSON(e, all), err)
		case !live:
			fmt.Fprint(e.stdout, strings.Join(lines, ""))
			return err
		}
		if err != nil {
			lines = append(lines, "sluice: "+finding.Redact(err.Error())+"\n")
		}
		if rows := e.stdoutRows(); rows > 2 && len(lines) > rows-1 {
			lines = append(lines[:rows-2], "…\n")
		}
		back := ""
		if drawn > 0 {
			back = fmt.Sprintf("\x1b[%dA\x1b[J", drawn)
		}
		fmt.Fprint(e.stdout, back+strings.Join(lines, ""))
		drawn = len(lines)
		select {
		case <-time.After(redrawEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// sourcesNow is what the servers say at this moment, and that in lines.
func (e *env) sourcesNow(ctx context.Context, cmd *cobra.Command, remote *remoteFlags, byRegion bool) (all []shown, lines []string, err error) {
	peers, err := e.peers(cmd, remote)
	if err != nil {
		return nil, nil, err
	}
	all = make([]shown, len(peers))
	failed := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			ans, err := call[server.SourcesAnswer](ctx, p, "/-/sources", nil)
			if all[i] = (shown{Server: p.name, Answer: &ans}); err != nil {
				all[i].Answer, all[i].Error, failed[i] = nil, finding.Redact(err.Error()), ofPeer(peers, p, err)
			}
		})
	}
	wg.Wait()
	errs := slices.DeleteFunc(failed, func(err error) bool { return err == nil })
	if byRegion {
		for _, l := range regionTable(peers, all, e.stdoutColumns(), e.colours()) {
			lines = append(lines, l+"\n")
		}
		return all, lines, oneOf(errs)
	}
	for i, p := range peers {
		if all[i].Answer == nil {
			continue
		}
		if len(lines) > 0 {
			lines = append(lines, "\n")
		}
		if len(peers) > 1 {
			lines = append(lines, strings.TrimSpace(p.short+" "+all[i].Answer.Region)+"\n")
		}
		for _, l := range sourceTable(*all[i].Answer, time.Now(), e.stdoutColumns(), e.colours()) {
			lines = append(lines, l+"\n")
		}
	}
	return all, lines, oneOf(errs)
}

// oneOf is the only error as it is, or all of them.
func oneOf(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// regionTable says which source is how from where: a column for each region, or
// for a server that names none.
func regionTable(peers []peer, all []shown, width int, colours bool) []string {
	type cell struct {
		states map[string]int
		took   []float64 // half of the answers, in milliseconds, by server
	}
	var regions, sources []string
	called := map[string]string{}
	cells := map[[2]string]*cell{}
	for i, s := range all {
		region := peers[i].short
		if s.Answer != nil && s.Answer.Region != "" {
			region = s.Answer.Region
		}
		if !slices.Contains(regions, region) {
			regions = append(regions, region)
		}
		if s.Answer == nil {
			continue
		}
		for _, src := range s.Answer.Sources {
			if !slices.Contains(sources, src.Name) {
				sources = append(sources, src.Name)
			}
			called[src.Name] = cmp.Or(called[src.Name], src.Called)
			at := [2]string{src.Name, region}
			if cells[at] == nil {
				cells[at] = &cell{states: map[string]int{}}
			}
			cells[at].states[src.State]++
			for _, a := range src.Asks {
				if a.Ask == "file" && a.Samples > 0 {
					cells[at].took = append(cells[at].took, a.P50)
				}
			}
		}
	}
	rows := [][]string{append([]string{"SOURCE"}, regions...)}
	for _, name := range sources {
		row := []string{strings.TrimSpace(called[name] + " " + finding.Redact(name))}
		for _, region := range regions {
			c := cells[[2]string{name, region}]
			if c == nil {
				row = append(row, "-")
				continue
			}
			var parts []string
			for _, state := range slices.Sorted(maps.Keys(c.states)) {
				if n := c.states[state]; len(c.states) > 1 || n > 1 {
					state += fmt.Sprintf(" ×%d", n)
				}
				parts = append(parts, state)
			}
			text := strings.Join(parts, ", ")
			if len(c.took) > 0 {
				slices.Sort(c.took)
				text += " " + millis(c.took[len(c.took)/2])
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	paint := func(row, _ int, text string) string {
		if row == 0 && colours {
			return "\x1b[1m" + text + "\x1b[0m"
		}
		return text
	}
	return layout(rows, width, []int{0}, nil, paint)
}

// Columns of the table of sources.
const (
	colSource = iota
	colState
	colSince
	colList
	colFile
	colZip
	colOK
	colLag
	colLies
	colShare
)

// sourceTable draws a server's sources.
func sourceTable(ans server.SourcesAnswer, now time.Time, width int, colours bool) []string {
	rows := [][]string{{"SOURCE", "STATE", "SINCE", "LIST", "FILE", "ZIP", "OK", "LAG", "LIES", "SHARE"}}
	for _, s := range ans.Sources {
		row := make([]string, len(rows[0]))
		for i := range row {
			row[i] = "-"
		}
		row[colSource], row[colState] = finding.Redact(s.Name), s.State
		if s.Called != "" {
			row[colSource] = s.Called + " " + row[colSource]
		}
		if s.Preferred {
			row[colState] += ", first"
		}
		if !s.Since.IsZero() {
			row[colSince] = short(now.Sub(s.Since)) + " ago"
		}
		for _, a := range s.Asks {
			if i := slices.Index([]string{"list", "file", "zip"}, a.Ask); i >= 0 && a.Samples > 0 {
				row[colList+i] = latencies(a.P50, a.P95)
			}
		}
		if s.Success != nil {
			row[colOK] = percent(*s.Success)
		}
		if s.Lacks > 0 {
			row[colLag] = fmt.Sprintf("%d × %s", s.Lacks, short(time.Duration(s.LacksFor*float64(time.Second))))
		}
		if len(s.Lies) > 0 {
			row[colLies] = fmt.Sprint(len(s.Lies))
		}
		if s.Share != nil {
			row[colShare] = percent(*s.Share)
		}
		rows = append(rows, row)
	}
	paint := func(row, col int, text string) string {
		if !colours || text == "-" {
			return text
		}
		colour := ""
		switch {
		case row == 0:
			colour = "1"
		case col == colState:
			colour = map[string]string{"up": "32", "suspect": "33", "resting": "33", "down": "31", "off": "35"}[ans.Sources[row-1].State]
		case col == colLies:
			colour = "31"
		}
		if colour == "" {
			return text
		}
		return "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
	table := layout(rows, width, []int{colSource}, []int{colShare, colLag, colSince, colList, colLies, colFile}, paint)
	lines := table[:1:1]
	for i, s := range ans.Sources {
		lines = append(lines, table[i+1])
		notes := []string{s.Why}
		for _, path := range sortedKeys(s.Lies) {
			notes = append(notes, "wrong bytes of "+path+": "+s.Lies[path])
		}
		if s.Backwards != "" {
			notes = append(notes, "went backwards: "+s.Backwards)
		}
		for _, n := range notes {
			if n != "" {
				n = strings.ReplaceAll(finding.Redact(n), "\n", "; ")
				// What it is about stands above.
				lines = append(lines, shorten("  "+strings.Replace(n, finding.Redact(s.Name)+": ", "", 1), width))
			}
		}
	}
	if len(ans.Sources) == 0 {
		lines = append(lines, "there is no source")
	}
	for _, sw := range ans.Forced {
		if sw.Name != switches.Source { // those stand beside their source
			lines = append(lines, shorten("switched: "+stateOf(sw)+" "+sw.By(), width))
		}
	}
	return lines
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// millis is a time in as few figures as it needs: 0.4ms, 12ms, 1.5s.
func millis(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0fms", ms)
	case ms < 10000:
		return fmt.Sprintf("%.1fs", ms/1000)
	}
	return fmt.Sprintf("%.0fs", ms/1000)
}

// latencies are two times, with one unit if it is the same: 12/34ms, 0.9ms/1.2s.
func latencies(a, b float64) string {
	unit := func(s string) string { return strings.TrimLeft(s, "0123456789.") }
	first, second := millis(a), millis(b)
	if unit(first) == unit(second) {
		first = strings.TrimSuffix(first, unit(first))
	}
	return first + "/" + second
}

// percent never says 100 % of what is not all, nor 0 % of what is not none.
func percent(x float64) string {
	p := x * 100
	if p > 99 && p < 100 || p > 0 && p < 1 {
		return fmt.Sprintf("%.1f %%", min(max(math.Floor(p*10)/10, 0.1), 99.9))
	}
	return fmt.Sprintf("%.0f %%", p)
}
