package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newConfig(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, or show where each value comes from",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &exitError{status: exitMisuse, err: fmt.Errorf("sluice config has no command %q", args[0]), hint: "there are config check and config show"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration, without starting anything",
		Long: `Check reads the configuration as serve would: file, environment, flags, and the
go command's settings. All mistakes are told at once, each with its place.

Exit status: 0 serve would start with it, 2 it would not.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := e.load(cmd, nil)
			if err != nil {
				return err
			}
			for _, w := range l.Warnings {
				fmt.Fprintf(e.stderr, "sluice: warning: %s\n", w.Error())
			}
			fmt.Fprintln(e.stdout, "the configuration is good")
			return nil
		},
	}
	asJSON := false
	show := &cobra.Command{
		Use:   "show",
		Short: "Show every setting in force and where it comes from",
		Long: `Show prints every key, its value, and the layer that it comes from: flag,
environment, file with its line, go env, or default. Credentials are not shown.

Exit status: 0, or 2 if the configuration cannot be used.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := e.load(cmd, nil)
			if err != nil {
				return err
			}
			rows := l.Show()
			if asJSON {
				return writeJSON(e, rows)
			}
			tw := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
			for _, r := range rows {
				fmt.Fprintf(tw, "%s\t%s\t%s\n", r.Key, r.Value, r.From)
			}
			return tw.Flush()
		},
	}
	show.Flags().BoolVar(&asJSON, "json", false, "print a list of objects with key, value and from")
	e.configFlags(check)
	e.configFlags(show)
	cmd.AddCommand(check, show)
	return cmd
}
