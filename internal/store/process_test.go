//go:build unix

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

// childEnv makes the test binary do one of these instead of its tests.
const childEnv = "SLUICE_STORE_TEST_CHILD"

var children = map[string]func(d *store.Disk, args []string) error{
	"versions": childVersions,
	"swap":     childSwap,
	"churn":    childChurn,
	"fill":     childFill,
	"evict":    childEvict,
}

// childQuota is that of the children that have one.
var childQuota = map[string]int64{"fill": fillQuota, "evict": fillQuota}

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	d, err := store.OpenDisk(os.Args[1], store.Options{Reserve: -1, Quota: childQuota[name]})
	if err == nil {
		err = d.Writable()
	}
	if err == nil {
		err = children[name](d, os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	d.Close()
}

// child is another process on the store in dir, not yet started.
func child(t *testing.T, name, dir string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, append([]string{dir}, args...)...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	out := new(bytes.Buffer)
	cmd.Stderr = out
	return cmd, out
}

// together runs n children at once, and fails the test if one fails.
func together(t *testing.T, n int, name, dir string, args func(i int) []string) {
	t.Helper()
	var cmds []*exec.Cmd
	var outs []*bytes.Buffer
	for i := range n {
		cmd, out := child(t, name, dir, args(i)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, outs[i])
		}
	}
}

// childVersions commits one of the three files of versions v1.0.0 to v1.N.0:
// every process completes some of them.
func childVersions(d *store.Disk, args []string) error {
	kind, n := storetest.Kinds[args[0][0]-'0'], args[1]
	last, err := strconv.Atoi(n)
	for i := 0; err == nil && i < last; i++ {
		req := storetest.Req(kind, modPath, fmt.Sprintf("v1.%d.0", i))
		_, err = storetest.Commit(d, req, "data", storetest.RecordOf(kind, "data"))
	}
	return err
}

func TestManyProcessesLoseNoVersion(t *testing.T) {
	dir := t.TempDir()
	const versions = 25
	together(t, 3, "versions", dir, func(i int) []string { return []string{strconv.Itoa(i), strconv.Itoa(versions)} })
	var want []string
	for i := range versions {
		want = append(want, fmt.Sprintf("v1.%d.0", i))
	}
	goproxy.SortVersions(want)
	if got := read(t, filepath.Join(dir, "a.test/!mod/@v/list")); got != string(goproxy.FormatList(want)) {
		t.Errorf("the list is %q; want %q", got, want)
	}
	if left := names(t, filepath.Join(dir, ".sluice/tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %q", left)
	}
}

const swapFile = "sum.test/latest"

func childSwap(d *store.Disk, _ []string) error {
	for range 20 {
		for {
			old, err := d.ReadFile(swapFile)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			err = d.SwapFile(swapFile, old, append(old, 'x'))
			if err == nil {
				break
			}
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

func TestOfManyProcessesThatSwapEveryOneCounts(t *testing.T) {
	dir := t.TempDir()
	together(t, 3, "swap", dir, func(int) []string { return nil })
	if data, err := openDisk(t, dir, store.Options{}).ReadFile(swapFile); err != nil || len(data) != 60 {
		t.Errorf("%d of 60 swaps are left, %v", len(data), err)
	}
}

// What churn writes can be told from the request alone.
func churned(req goproxy.Request) string {
	return strings.Repeat("content of "+req.String()+"\n", 1+len(req.Module.Version)*len(req.Module.Version)*50)
}

func churnVersion(r *rand.Rand) string { return fmt.Sprintf("v1.%d.%d", r.IntN(5), r.IntN(40)) }

// childChurn does everything that writes, until it is killed.
func childChurn(d *store.Disk, args []string) error {
	seed, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	fmt.Println("started")
	for n := 0; ; n++ {
		v := churnVersion(r)
		req := storetest.Req(storetest.Kinds[r.IntN(3)], modPath, v)
		switch r.IntN(12) {
		case 0:
			req.Module.Path = "a.test/gone"
			if _, err = storetest.Commit(d, req, churned(req), storetest.RecordOf(req.Kind, churned(req))); err != nil {
				return err
			}
			err = d.Discard(req, store.Evidence{Reason: "churn"}, r.IntN(2) == 0)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		case 1:
			err = d.Quarantine(store.Evidence{Reason: "churn"}, strings.NewReader(churned(req)))
		case 2:
			err = d.SetAnswer(storetest.Req(goproxy.List, modPath, ""), store.Answer{Body: []byte(strings.Repeat(v, 100))})
		case 3:
			err = d.WriteFile(fmt.Sprintf("sum.test/tile/8/0/%03d", r.IntN(5)), []byte(strings.Repeat(v, 100)))
		case 4:
			var old []byte
			if old, err = d.ReadFile(swapFile); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = d.SwapFile(swapFile, old, fmt.Append(nil, strings.Repeat("head", n)))
			}
			if errors.Is(err, store.ErrConflict) {
				err = nil
			}
		case 5: // a wrong one, which the right one will replace
			req.Module.Path = "a.test/wrong"
			if _, err = storetest.Commit(d, req, "wrong", storetest.RecordOf(req.Kind, "wrong")); errors.Is(err, store.ErrConflict) {
				err = nil
			}
			rec := storetest.RecordOf(req.Kind, churned(req))
			rec.Verified = "sum.test"
			if err == nil {
				_, err = storetest.Commit(d, req, churned(req), rec)
			}
		default:
			for _, k := range storetest.Kinds {
				if err == nil {
					req := req.With(k)
					_, err = storetest.Commit(d, req, churned(req), storetest.RecordOf(k, churned(req)))
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

func TestAKillAtAnyInstantLeavesNothingWrong(t *testing.T) {
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
			cmd, out := child(t, "churn", dir, strconv.FormatUint(seed+uint64(2*round+i), 10))
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
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		for _, cmd := range cmds {
			cmd.Process.Kill()
		}
		for _, cmd := range cmds {
			cmd.Wait()
		}
		checkAfterCrash(t, dir)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

func checkAfterCrash(t *testing.T, dir string) {
	d, err := store.OpenDisk(dir, store.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if left := tmpLeft(t, dir); len(left) != 0 {
		t.Errorf("left in tmp: %q", left)
	}
	have := make(map[string]int) // version of modPath → files
	err = d.Walk(t.Context(), func(req goproxy.Request, err error) error {
		if err != nil {
			return err
		}
		got, err := storetest.Get(d, req)
		if errors.Is(err, store.ErrDamaged) && req.Module.Path == "a.test/wrong" {
			// Killed between the new Record and the new file: seen, and mended below.
			return nil
		}
		if err != nil || got != churned(req) && !(req.Module.Path == "a.test/wrong" && got == "wrong") {
			t.Errorf("%s reads as %.30q, %v", req, got, err)
		}
		if req.Module.Path == modPath {
			have[req.Module.Version]++
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var want []string
	for v, n := range have {
		if n == 3 {
			want = append(want, v)
		}
	}
	goproxy.SortVersions(want)
	// As a plain tree, before Versions could mend it.
	list, err := os.ReadFile(filepath.Join(dir, "a.test/!mod/@v/list"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(list) != string(goproxy.FormatList(want)) {
		t.Errorf("the list is %q, %v; want %q", list, err, want)
	}
	if got, err := d.Versions(modPath); err != nil || !slices.Equal(got, want) {
		t.Errorf("Versions = %q, %v; want %q", got, err, want)
	}
	// Whatever is there or not, the right content can be stored again.
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		for i, path := range []string{modPath, "a.test/wrong"} {
			req := storetest.Req(storetest.Kinds[r.IntN(3)], path, churnVersion(r))
			rec := storetest.RecordOf(req.Kind, churned(req))
			if i == 1 {
				rec.Verified = "sum.test"
			}
			if _, err := storetest.Commit(d, req, churned(req), rec); err != nil {
				t.Errorf("Commit after a crash: %v", err)
			}
			if got, err := storetest.Get(d, req); err != nil || got != churned(req) && !(req.Kind == goproxy.Info && got == "wrong") {
				t.Errorf("%s reads as %.30q, %v", req, got, err)
			}
		}
	}
	if _, err := d.ReadFile(swapFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "sumdb", swapFile)); err == nil {
		if _, err := d.ReadFile(swapFile); err != nil {
			t.Errorf("the tree head was lost: %v", err)
		}
	}
	cases, err := d.Quarantined()
	if err != nil {
		t.Error(err)
	}
	for _, ev := range cases {
		if strings.Contains(ev.Reason, "cannot be read") {
			t.Errorf("evidence is torn: %+v", ev)
		}
	}
}
