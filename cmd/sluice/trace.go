package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
)

func newTrace(e *env) *cobra.Command {
	var asJSON, cold bool
	cmd := &cobra.Command{
		Use:   "trace MODULE[@VERSION]",
		Short: "Show every decision on the way of a module, without keeping it",
		Long: `Trace walks the way of a request as serve would, with a notebook: the route, the
store, each source asked, each hash compared, who decided and how long it took.
No module is stored.

For MODULE alone it asks for the list and for @latest; for MODULE@VERSION for
.info, .mod and .zip; VERSION may also be latest, a branch, a tag or a commit.

Exit status: 0 everything could be had, 1 something could not, 2 misused.`,
		Example: "  sluice trace rsc.io/quote@v1.5.2\n  sluice trace --cold --json golang.org/x/text",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exitError{status: exitMisuse, err: fmt.Errorf("trace takes one module, but got %d arguments", len(args)), hint: "write sluice trace MODULE or sluice trace MODULE@VERSION"}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTrace(cmd.Context(), e, cmd, args[0], asJSON, cold)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an object with steps and results")
	cmd.Flags().BoolVar(&cold, "cold", false, "ask the sources also for what the store or the module cache has")
	e.configFlags(cmd, nil)
	return cmd
}

// traced is what trace --json prints.
type traced struct {
	Module  string        `json:"module"`
	Version string        `json:"version,omitempty"`
	OK      bool          `json:"ok"`
	Steps   []traceStep   `json:"steps"`
	Results []traceResult `json:"results"`
}

type traceStep struct {
	Request string  `json:"request"`
	By      string  `json:"by"`
	What    string  `json:"what"`
	Detail  string  `json:"detail,omitempty"`
	At      float64 `json:"at_ms"`
	Took    float64 `json:"took_ms,omitempty"`
}

type traceResult struct {
	mirror.TraceResult
	Error string   `json:"error,omitempty"`
	Cause string   `json:"cause,omitempty"`
	Code  string   `json:"code,omitempty"`
	Fix   []string `json:"fix,omitempty"`
}

func runTrace(ctx context.Context, e *env, cmd *cobra.Command, arg string, asJSON, cold bool) error {
	path, version, at := strings.Cut(arg, "@")
	if err := module.CheckPath(path); err != nil {
		return misuse("%q is no module path: %w", path, err)
	}
	if at && version == "" {
		return misuse("%q ends in @; write MODULE@VERSION, or MODULE for its list", arg)
	}
	mod := module.Version{Path: path, Version: version}
	var reqs []goproxy.Request
	switch {
	case version == "latest":
		reqs = []goproxy.Request{{Kind: goproxy.Latest, Module: module.Version{Path: path}}}
	case version == "":
		reqs = []goproxy.Request{{Kind: goproxy.List, Module: mod}, {Kind: goproxy.Latest, Module: mod}}
	case goproxy.IsCanonical(mod):
		for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
			reqs = append(reqs, goproxy.Request{Kind: k, Module: mod})
		}
	default:
		reqs = []goproxy.Request{{Kind: goproxy.Info, Module: mod}}
	}
	for _, r := range reqs {
		if r.Path() == "" {
			return misuse("%q is no version, branch, tag or commit that could exist", version)
		}
	}
	l, err := e.loadFor(cmd, nil, true)
	if err != nil {
		return err
	}
	// A look makes no store where there is none.
	var st localStore = &closedStore{dir: l.Data, why: errors.New("there is no store yet")}
	if l.Data == "" || hasStore(l.Data) {
		if st, err = openStore(l, nil); err != nil {
			return err
		}
	}
	w, err := e.build(l, st, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer w.close()

	t := traced{Module: path, Version: version, OK: true, Steps: []traceStep{}}
	steps, results := w.mirror.Trace(ctx, reqs, cold)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, s := range steps {
		t.Steps = append(t.Steps, traceStep{s.Request, s.By, s.What, finding.Redact(s.Detail), ms(s.At), ms(s.Took)})
	}
	for _, r := range results {
		tr := traceResult{TraceResult: r}
		if r.Err != nil {
			t.OK = false
			f, _ := explainTraced(mod, r.Err)
			tr.Error, tr.Cause, tr.Code, tr.Fix = finding.Redact(r.Err.Error()), string(f.Cause), string(f.Code), f.Fix
		}
		t.Results = append(t.Results, tr)
	}
	if asJSON {
		if err := writeJSON(e, t); err != nil {
			return err
		}
	} else {
		printTrace(e, t, mod, results)
	}
	if !t.OK {
		return &exitError{status: exitNo}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// explainTraced is mirror.Explain with the commands for the module that was traced.
func explainTraced(mod module.Version, err error) (finding.Finding, []string) {
	f, details := mirror.Explain(err)
	return f.About(mod.Path, mod.Version), details
}

func printTrace(e *env, t traced, mod module.Version, results []mirror.TraceResult) {
	for i, r := range t.Results {
		fmt.Fprintf(e.stdout, "%s\n", r.Request)
		for _, s := range t.Steps {
			if s.Request != r.Request {
				continue
			}
			took := ""
			if s.Took > 0 {
				took = fmt.Sprintf("  %.1f ms", s.Took)
			}
			line := s.What
			if s.Detail != "" {
				name := strings.TrimPrefix(line, "asked ")
				line += ": " + strings.ReplaceAll(strings.TrimPrefix(s.Detail, name+": "), "\n", "; ")
			}
			fmt.Fprintf(e.stdout, "  %8.1f ms  %-8s  %s%s\n", s.At, s.By, line, took)
		}
		if results[i].Err == nil {
			from := r.Source
			if r.Hit {
				from = "the store"
			}
			fmt.Fprintf(e.stdout, "  = %d bytes from %s\n", r.Size, from)
			continue
		}
		f, details := explainTraced(mod, results[i].Err)
		fmt.Fprintf(e.stdout, "  = failed\n    %s\n", strings.ReplaceAll(finding.Body(f, details...), "\n", "\n    "))
	}
}
