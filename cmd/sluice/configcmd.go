package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/finding"
)

func newConfig(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, or show where each value comes from",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(e), newConfigShow(e))
	return cmd
}

// A note is one mistake or warning, as config check --json prints it.
type note struct {
	Where   string `json:"where,omitempty"`
	Key     string `json:"key,omitempty"`
	Text    string `json:"text"`
	Suggest string `json:"suggest,omitempty"`
}

func notes(errs []config.Error) []note {
	l := []note{}
	for _, err := range errs {
		l = append(l, note{err.Where, err.Key, finding.Redact(err.Text), err.Suggest})
	}
	return l
}

func newConfigCheck(e *env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration, without starting anything",
		Long: `Check reads the configuration as serve would: file, environment, flags, and the
go command's settings. All mistakes are told at once, each with its place; what
does nothing in the go command's settings is warned of.

Exit status: 0 serve would start with it, 2 it would not.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := e.load(cmd, nil)
			var warnings []config.Error
			if l != nil {
				warnings = l.Warnings
			}
			if asJSON {
				mistakes, ok := errors.AsType[config.Errors](err)
				if err != nil && !ok {
					mistakes = config.Errors{{Text: err.Error()}}
				}
				if jerr := writeJSON(e, map[string]any{"ok": err == nil, "errors": notes(mistakes), "warnings": notes(warnings)}); jerr != nil {
					return jerr
				}
				if err != nil {
					return &exitError{status: exitMisuse}
				}
				return nil
			}
			for _, w := range warnings {
				e.say("warning: %s", w.Error())
			}
			if err == nil {
				fmt.Fprintln(e.stdout, "the configuration is good")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an object with ok, errors and warnings")
	e.configFlags(cmd, nil)
	return cmd
}

func newConfigShow(e *env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show every setting in force and where it comes from",
		Long: `Show prints every key, its value, and the layer that it comes from: flag,
environment, file with its line, go env, or default. Credentials are not shown.

Exit status: 0, or 2 if the configuration cannot be used.`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := e.load(cmd, nil)
			if err != nil {
				return err
			}
			if asJSON {
				type row struct {
					Key   string `json:"key"`
					Value string `json:"value"`
					From  string `json:"from"`            // flag, environment, file, go env, default
					Where string `json:"where,omitempty"` // in it
				}
				rows := []row{}
				for _, r := range l.Show() {
					rows = append(rows, row{r.Key, r.Value, string(r.From.Layer), r.From.Where})
				}
				return writeJSON(e, rows)
			}
			for _, r := range l.Show() {
				fmt.Fprintf(e.stdout, "%-18s  %-40s  %s\n", r.Key, r.Value, r.From)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of objects with key, value, from and where")
	e.configFlags(cmd, nil)
	return cmd
}
