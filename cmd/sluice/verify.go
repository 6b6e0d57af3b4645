package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/mirror"
)

func newVerify(e *env) *cobra.Command {
	var asJSON, dryRun, offline bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole store again, and quarantine what has rotted",
		Long: `Verify reads every stored file again and compares it with its record, with the
module zip rules and hashes, and with the checksum database. What is wrong is
moved to quarantine with the evidence, to be fetched anew when it is asked for;
nothing is deleted. It may run beside a server.

Exit status: 0 everything is right, 1 something was not or could not be read,
2 misused.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), e, cmd, asJSON, mirror.VerifyOptions{DryRun: dryRun, Offline: offline})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an object with counts and problems")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what is wrong")
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the checksum database")
	e.configFlags(cmd, nil)
	return cmd
}

func runVerify(ctx context.Context, e *env, cmd *cobra.Command, asJSON bool, o mirror.VerifyOptions) error {
	l, err := e.load(cmd, nil)
	if err != nil {
		return err
	}
	if !hasStore(l.Data) {
		return noStore(l.Data)
	}
	st, err := openStore(l, nil)
	if err != nil {
		return err
	}
	if closed, ok := st.(*closedStore); ok {
		return closed.why
	}
	w, err := e.build(l, st, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer w.close()
	if err := st.Writable(); err != nil && !o.DryRun {
		o.DryRun = true
		e.say("warning: what is wrong will be left as it is: %v", err)
	}
	seen := 0
	if e.terminal {
		o.Progress = func(n int) {
			if n-seen >= 50 {
				seen = n
				fmt.Fprintf(e.stderr, "\r%d files read", n)
			}
		}
	}
	rep, err := w.mirror.Verify(ctx, o)
	if seen > 0 {
		fmt.Fprint(e.stderr, "\r\x1b[K")
	}
	// What was found before it was broken off is worth telling all the same.
	if asJSON {
		if jerr := writeJSON(e, rep); jerr != nil {
			return jerr
		}
	} else {
		for _, p := range rep.Problems {
			fmt.Fprintf(e.stdout, "%s: %s (%s)\n", p.Request, finding.Printable(p.Problem), p.Done)
		}
		fmt.Fprintf(e.stdout, "%s read, %d bytes: %d vouched for by the checksum database, %d pinned at first sight, %d could not be asked about; %s\n",
			count(rep.Files, "file"), rep.Bytes, rep.Vouched, rep.Pinned, rep.Unasked, count(len(rep.Problems), "problem"))
	}
	if err != nil {
		return err
	}
	if len(rep.Problems) > 0 {
		return &exitError{status: exitNo}
	}
	return nil
}
