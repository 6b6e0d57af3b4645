package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/store"
)

func newStore(e *env) *cobra.Command {
	var asJSON, count bool
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Show how much the store holds, of what quota, and the disk it is on",
		Long: `Store shows what the modules in the store take of the disk, of what quota
(store.quota), how many versions they are, and how much of the disk is free. A
file counts as whole blocks of 4 KiB, and one more for its record. It looks at
numbers that are kept up to date, not at the files: so it takes no time, and a
store that was made by an earlier version is unknown until it has been counted. A
server with a quota counts it by itself, beside its requests; --count does so
now. It may run beside a server.

Exit status: 0 shown, 1 there is no store or it could not be counted, 2 misused.`,
		Example:           "  sluice store\n  sluice store --count --data /var/lib/sluice",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStore(cmd.Context(), e, cmd, asJSON, count)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an object")
	cmd.Flags().BoolVar(&count, "count", false, "look at every stored file, and correct the numbers")
	e.configFlags(cmd, nil)
	return cmd
}

// storeStatus is what store --json prints. What is unknown is null.
type storeStatus struct {
	Dir      string     `json:"dir"`
	Quota    int64      `json:"quota_bytes"` // 0: none
	Bytes    *int64     `json:"bytes"`
	Versions *int64     `json:"versions"`
	Counting bool       `json:"counting"`            // a count is under way, or was broken off
	Counted  *time.Time `json:"counted,omitempty"`   // when all of it was last looked at
	Free     *int64     `json:"disk_free_bytes"`     // for us
	Total    *int64     `json:"disk_total_bytes"`    //
	Reserve  int64      `json:"reserve_bytes"`       // left free at most
	Hot      int64      `json:"hot_bytes"`           // of memory, at most
	ReadOnly string     `json:"read_only,omitempty"` // why nothing new can be kept
}

// hasStore reports whether there is a store in dir, or something that cannot be looked
// at: opening it tells more. Who only looks makes none.
func hasStore(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, ".sluice"))
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

func noStore(dir string) error {
	return &exitError{status: exitNo, err: fmt.Errorf("there is no store at %s", dir), hint: "name the data directory of your server with --data DIR"}
}

func runStore(ctx context.Context, e *env, cmd *cobra.Command, asJSON, count bool) error {
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
	defer st.Close()
	disk, ok := st.(*store.Disk)
	if !ok {
		return fmt.Errorf("the store at %s cannot be read: %w", l.Data, st.Writable())
	}
	if count {
		err := disk.Count(ctx, 0)
		if errors.Is(err, store.ErrCounting) {
			return &exitError{status: exitNo, err: fmt.Errorf("the store at %s is being counted by another process", l.Data), hint: "sluice store without --count shows when it is done"}
		}
		if err != nil {
			return err
		}
	}
	s := storeStatus{Dir: disk.Dir(), Reserve: l.Store.Reserve, Hot: l.Store.Hot}
	u := disk.Usage()
	s.Quota, s.Counting = u.Quota, u.Counting
	if u.Known {
		s.Bytes, s.Versions = &u.Bytes, &u.Versions
	}
	if !u.Counted.IsZero() {
		s.Counted = &u.Counted
	}
	if free, total, err := disk.Space(); err == nil {
		s.Free, s.Total = &free, &total
	}
	if err := disk.Writable(); err != nil {
		s.ReadOnly = err.Error()
	}
	if asJSON {
		return writeJSON(e, s)
	}
	printStore(e, s)
	return nil
}

func printStore(e *env, s storeStatus) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(e.stdout, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("store", "%s", s.Dir)
	quota := "no quota"
	if s.Quota > 0 {
		quota = "of " + size(s.Quota)
	}
	switch {
	case s.Bytes != nil && s.Quota > 0:
		row("used", "%s %s (%d %%), %s", size(*s.Bytes), quota, *s.Bytes*100/s.Quota, count(int(*s.Versions), "version"))
	case s.Bytes != nil:
		row("used", "%s, %s; %s", size(*s.Bytes), count(int(*s.Versions), "version"), quota)
	case s.Counting:
		row("used", "unknown, %s; it is being counted", quota)
	default:
		row("used", "unknown, %s; sluice store --count counts it", quota)
	}
	if s.Counted != nil {
		row("counted", "%s", s.Counted.Local().Format(time.DateTime))
	}
	if s.Free != nil {
		row("disk", "%s free of %s; up to %s are left free", size(*s.Free), size(*s.Total), size(s.Reserve))
	}
	row("memory", "up to %s for small files", size(s.Hot))
	if s.ReadOnly != "" {
		row("writable", "no: %s", s.ReadOnly)
	}
}
