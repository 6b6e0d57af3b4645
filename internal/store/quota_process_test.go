//go:build unix

package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

const fillQuota = 12 * 3 * small

func fillPath(n int) string { return fmt.Sprintf("a.test/m%d", n) }

// fillSome commits, reads and discards by chance among more than the quota holds.
func fillSome(d *store.Disk, r *rand.Rand) error {
	path, version := fillPath(r.IntN(8)), fmt.Sprintf("v1.%d.0", r.IntN(8))
	req := storetest.Req(storetest.Kinds[r.IntN(3)], path, version)
	switch r.IntN(8) {
	case 0:
		err := d.Discard(req.With(goproxy.Zip), store.Evidence{Reason: "by chance"}, r.IntN(2) == 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case 1, 2:
		if data, err := storetest.Get(d, req); err == nil && data != "content of "+req.String() {
			return fmt.Errorf("%s reads as %.30q", req, data)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	err := putVouched(d, path, version)
	if err != nil && strings.Contains(err.Error(), "perhaps evicted") {
		return nil // by the others; there are few versions that the quota holds
	}
	return err
}

// childFill fills a store that it shares, without ever exceeding the quota by more
// than what the others have in flight.
func childFill(d *store.Disk, args []string) error {
	seed, err := strconv.ParseUint(args[0], 10, 64)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < 60 && err == nil; i++ {
		err = fillSome(d, r)
		if u := d.Usage(); u.Bytes > fillQuota+2*small {
			return fmt.Errorf("%d bytes are stored of a quota of %d", u.Bytes, int64(fillQuota))
		}
	}
	return err
}

func isEvictedRight(t *testing.T, d *store.Disk, dir string) {
	t.Helper()
	isAccounted(t, d, dir)
	for m := range 8 {
		stored(t, d, dir, fillPath(m))
	}
}

func TestTheQuotaHoldsAmongManyProcesses(t *testing.T) {
	dir := t.TempDir()
	together(t, 3, "fill", dir, func(i int) []string { return []string{strconv.Itoa(i)} })
	d := openDisk(t, dir, store.Options{Quota: fillQuota})
	isEvictedRight(t, d, dir)
	if u := d.Usage(); u.Bytes > fillQuota+2*small {
		t.Errorf("%d bytes are stored of a quota of %d", u.Bytes, int64(fillQuota))
	}
}

// childEvict evicts and counts until it is killed.
func childEvict(d *store.Disk, args []string) error {
	seed, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	fmt.Println("started")
	go d.Run(context.Background())
	go func() {
		for {
			if err := d.Count(context.Background(), 1); err != nil && !errors.Is(err, store.ErrCounting) {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	for {
		if err := fillSome(d, r); err != nil {
			return err
		}
	}
}

func TestAKillWhileEvictingOrCountingLeavesTheAccountRight(t *testing.T) {
	rounds := 10
	if s := os.Getenv("SLUICE_CRASH_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range rounds {
		var cmds []*exec.Cmd
		for i := range 2 {
			cmd, out := child(t, "evict", dir, strconv.FormatUint(seed+uint64(2*round+i), 10))
			stdout, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(stdout, make([]byte, len("started"))); err != nil {
				t.Fatalf("a child did not start: %v: %s", err, out)
			}
			cmds = append(cmds, cmd)
			defer func() {
				if out.Len() > 0 {
					t.Errorf("round %d: a child failed: %s", round, out)
				}
			}()
		}
		// The instant is the point: this waits for nothing in particular.
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		for _, cmd := range cmds {
			cmd.Process.Kill()
		}
		for _, cmd := range cmds {
			cmd.Wait()
		}
		d, err := store.OpenDisk(dir, store.Options{Reserve: -1, Quota: fillQuota})
		if err != nil {
			t.Fatal(err)
		}
		isEvictedRight(t, d, dir)
		if left := tmpLeft(t, dir); len(left) != 0 {
			t.Errorf("left in tmp: %q", left)
		}
		// And all that may be evicted still can be: nothing was lost from the log.
		if round%5 == 4 {
			for i := range 12 {
				mustPut(t, d, "a.test/other", fmt.Sprintf("v1.%d.%d", round, i))
			}
			for m := range 8 {
				if got := stored(t, d, dir, fillPath(m)); len(got) != 0 {
					t.Errorf("%s still has %q, after a quota of others", fillPath(m), got)
				}
			}
			isEvictedRight(t, d, dir)
		}
		d.Close()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}
