//go:build unix

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/journal"
)

// A desk is a directory of files, and a journal of their changes.
type desk struct {
	t   *testing.T
	dir string
	*journal.Journal
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	return &desk{t, dir, journal.In(filepath.Join(dir, "data", ".sluice", "journal"))}
}

func (d *desk) name(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) put(name, text string, mode fs.FileMode) {
	d.t.Helper()
	if err := os.WriteFile(d.name(name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chmod(d.name(name), mode); err != nil {
		d.t.Fatal(err)
	}
}

// has checks what is in a file; "-" is no file.
func (d *desk) has(name, want string) {
	d.t.Helper()
	data, err := os.ReadFile(d.name(name))
	got := string(data)
	if errors.Is(err, fs.ErrNotExist) {
		got = "-"
	} else if err != nil {
		d.t.Fatal(err)
	}
	if got != want {
		d.t.Errorf("%s has %q, want %q", name, got, want)
	}
}

func to(text string) func([]byte, bool) ([]byte, error) {
	return func([]byte, bool) ([]byte, error) { return []byte(text), nil }
}

func (d *desk) plan(name, text string) journal.File {
	d.t.Helper()
	f, err := journal.Plan(d.name(name), 0o640, to(text))
	if err != nil {
		d.t.Fatal(err)
	}
	return f
}

func (d *desk) do(command string, files ...journal.File) *journal.Step {
	d.t.Helper()
	s, err := d.Do(d.t.Context(), command, "what", files...)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *desk) undo(command string, force bool) *journal.Undo {
	d.t.Helper()
	u, err := d.Undo(d.t.Context(), command, force)
	if err != nil {
		d.t.Fatal(err)
	}
	return u
}

// tidy checks that nothing is left beside the files.
func (d *desk) tidy() {
	d.t.Helper()
	filepath.WalkDir(d.dir, func(name string, _ fs.DirEntry, err error) error {
		if base := filepath.Base(name); err == nil && (strings.Contains(base, ".sluice-") || base == "new") {
			d.t.Errorf("%s is left", name)
		}
		return nil
	})
}

func TestAChangeIsTakenBackToTheByteWithItsMode(t *testing.T) {
	d := newDesk(t)
	d.put("env", "A=1\r\n# x\nB", 0o604)
	s := d.do("use", d.plan("env", "A=2\n"))
	d.has("env", "A=2\n")
	if info, err := os.Stat(d.name("env")); err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if s.State != journal.Done || s.Command != "use" || s.ID != 1 {
		t.Errorf("%+v", s)
	}
	d.undo("", false)
	d.has("env", "A=1\r\n# x\nB")
	if info, err := os.Stat(d.name("env")); err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := d.Undo(t.Context(), "", false); !errors.Is(err, journal.ErrNothing) {
		t.Errorf("a second undo: %v", err)
	}
	d.tidy()
}

func TestAFileThatWasNotThereIsGoneAfterwardsWithTheDirectoriesMadeForIt(t *testing.T) {
	d := newDesk(t)
	d.do("use", d.plan("config/go/env", "A=2\n"))
	d.has("config/go/env", "A=2\n")
	if info, err := os.Stat(d.name("config/go/env")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	d.undo("use", false)
	if _, err := os.Stat(d.name("config")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("config is left: %v", err)
	}
	// A directory that others use by now stays.
	d.do("use", d.plan("config/go/env", "A=2\n"))
	d.put("config/other", "x", 0o600)
	d.undo("use", false)
	d.has("config/go/env", "-")
	d.has("config/other", "x")
}

func TestASymbolicLinkStaysOne(t *testing.T) {
	d := newDesk(t)
	if err := os.Mkdir(d.name("dots"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.put("dots/env", "old", 0o600)
	for link, target := range map[string]string{"env": "dots/env", "far": d.name("env"), "new": "dots/new"} {
		if err := os.Symlink(target, d.name(link)); err != nil {
			t.Fatal(err)
		}
	}
	d.do("use", d.plan("far", "one"), d.plan("new", "two"))
	for _, link := range []string{"env", "far", "new"} {
		if info, err := os.Lstat(d.name(link)); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("%s is no link any more: %v, %v", link, info, err)
		}
	}
	d.has("dots/env", "one")
	d.has("dots/new", "two")
	// A link that leads elsewhere by now is somebody's change.
	d.put("other", "mine", 0o600)
	if err := errors.Join(os.Remove(d.name("env")), os.Symlink("other", d.name("env"))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Undo(t.Context(), "use", false); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
		t.Errorf("undone past a link that leads elsewhere: %v", err)
	}
	if err := errors.Join(os.Remove(d.name("env")), os.Symlink("dots/env", d.name("env"))); err != nil {
		t.Fatal(err)
	}
	d.undo("use", false)
	d.has("dots/env", "old")
	d.has("dots/new", "-")
	if err := os.Symlink("circle", d.name("circle")); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Plan(d.name("circle"), 0o600, to("x")); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("a circle of links: %v", err)
	}
}

func TestWhatSomebodyChangedSinceIsNotOverwrittenUnlessForcedAndThenKept(t *testing.T) {
	d := newDesk(t)
	d.put("env", "A=1\nB=1\n", 0o600)
	d.put("rc", "one", 0o600)
	d.do("use", d.plan("env", "A=2\nB=1\n"), d.plan("rc", "two"))
	d.put("env", "A=2\nB=3\n", 0o600)
	_, err := d.Undo(t.Context(), "", false)
	changed, ok := errors.AsType[*journal.ChangedError](err)
	if !ok || changed.By != nil || !slices.Equal(changed.Diff, []string{"- B=1", "+ B=3"}) {
		t.Fatalf("%v, %+v", err, changed)
	}
	d.has("env", "A=2\nB=3\n")
	d.has("rc", "two") // all or nothing
	u := d.undo("", true)
	d.has("env", "A=1\nB=1\n")
	d.has("rc", "one")
	if len(u.Kept) != 1 {
		t.Fatalf("kept %v", u.Kept)
	}
	if data, err := os.ReadFile(u.Kept[0]); err != nil || string(data) != "A=2\nB=3\n" {
		t.Errorf("kept %q, %v", data, err)
	}
	// One that is gone can be brought back by force too, and one that was put back by
	// hand needs none.
	d.do("use", d.plan("env", "A=2\n"))
	os.Remove(d.name("env"))
	if _, err := d.Undo(t.Context(), "", false); err == nil {
		t.Error("a file that is gone was no change")
	}
	d.undo("", true)
	d.has("env", "A=1\nB=1\n")
	d.do("use", d.plan("env", "A=2\n"))
	d.put("env", "A=1\nB=1\n", 0o600)
	d.undo("", false)
	d.has("env", "A=1\nB=1\n")
}

func TestStepsAreUndoneInTurnByTheCommandThatMadeThem(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	d.do("use", d.plan("env", "1"))
	d.do("use", d.plan("env", "2"))
	d.do("doctor --fix", d.plan("env", "3"))
	_, err := d.Undo(t.Context(), "use", false)
	if changed, ok := errors.AsType[*journal.ChangedError](err); !ok || changed.By == nil || changed.By.Command != "doctor --fix" {
		t.Fatalf("%v", err)
	}
	d.undo("doctor --fix", false)
	d.has("env", "2")
	d.undo("use", false)
	d.has("env", "1")
	d.undo("use", false)
	d.has("env", "0")
	steps, damaged, err := d.Steps()
	if err != nil || len(damaged) > 0 || len(steps) != 3 || slices.ContainsFunc(steps, func(s *journal.Step) bool { return s.State != journal.Undone }) {
		t.Errorf("%v, %v, %v", steps, damaged, err)
	}
}

func TestNothingToChangeIsNoStep(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o400) // and nobody minds that it is read-only
	if s := d.do("use", d.plan("env", "0")); s != nil {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(d.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a journal: %v", err)
	}
}

func TestWhatMayNotBeWrittenIsRefusedInOneSentenceAndNothingIsChanged(t *testing.T) {
	d := newDesk(t)
	d.put("fixed", "0", 0o444)
	d.put("env", "0", 0o600)
	d.put("large", strings.Repeat("x", 1<<20+1), 0o600)
	if err := os.Mkdir(d.name("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"fixed": "is read-only, so nothing was changed", "dir": "is no regular file", "env/below": "", "large": "which no file of settings has",
	} {
		_, err := journal.Plan(d.name(name), 0o600, to("1"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := journal.Plan("env", 0o600, to("1")); err == nil {
		t.Error("a relative name was taken")
	}
	// A second file that cannot be replaced takes the first one back.
	first, second := d.plan("env", "1"), d.plan("other/env", "1")
	if err := os.WriteFile(d.name("other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Do(t.Context(), "use", "what", first, second); err == nil || !strings.Contains(err.Error(), "other/env") {
		t.Errorf("%v", err)
	}
	d.has("env", "0")
	if steps, _, err := d.Steps(); err != nil || len(steps) > 0 {
		t.Errorf("%v, %v", steps, err)
	}
	d.tidy()
	// One whose temporary file cannot be made, as its name is too long for that.
	long := strings.Repeat("x", 250)
	d.put(long, "0", 0o600)
	if _, err := d.Do(t.Context(), "use", "what", d.plan("env", "1"), d.plan(long, "1")); err == nil || !strings.Contains(err.Error(), "so nothing was changed") {
		t.Errorf("%v", err)
	}
	d.has("env", "0")
	d.has(long, "0")
	if steps, _, err := d.Steps(); err != nil || len(steps) > 0 {
		t.Errorf("%v, %v", steps, err)
	}
	d.tidy()
	// A journal that cannot be written.
	blocked := journal.In(filepath.Join(d.name("env"), "journal"))
	if _, err := blocked.Do(t.Context(), "use", "what", d.plan("env", "1")); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	d.has("env", "0")
}

func TestAFileThatChangedSinceItWasPlannedIsLeftAlone(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	f, n := d.plan("env", "1"), d.plan("new", "1")
	d.put("env", "mine", 0o600)
	if _, err := d.Do(t.Context(), "use", "what", f); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
		t.Errorf("%v", err)
	}
	d.put("new", "mine", 0o600)
	if _, err := d.Do(t.Context(), "use", "what", n); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
		t.Errorf("%v", err)
	}
	d.has("env", "mine")
	d.has("new", "mine")
}

func TestTheJournalIsTheUsersAloneAndDoesNotGrowForEver(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	for i := range 33 {
		d.do("use", d.plan("env", fmt.Sprint(i+1)))
	}
	entries, err := os.ReadDir(d.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(d.Dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	steps, _, err := d.Steps()
	if err != nil || len(steps) != 30 || steps[29].ID != 33 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
}

func TestADamagedStepIsNamedAndNeverWritten(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	d.do("use", d.plan("env", "1"))
	d.do("use", d.plan("env", "2"))
	name := filepath.Join(d.Dir(), "000002.json")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	steps, damaged, err := d.Steps()
	if err != nil || len(steps) != 1 || len(damaged) != 1 || !strings.Contains(damaged[0].Error(), "000002.json") {
		t.Errorf("%v, %v, %v", steps, damaged, err)
	}
	if _, err := d.Undo(t.Context(), "", false); err == nil {
		t.Error("the first step was undone over the second")
	}
	d.has("env", "2")
	if s := d.do("use", d.plan("env", "3")); s.ID != 3 {
		t.Errorf("the next step is %d", s.ID)
	}
}

func TestStepsOfSeveralProcessesTakeTurns(t *testing.T) {
	d := newDesk(t)
	d.put("env", "", 0o600)
	var wg sync.WaitGroup
	const each, all = 5, 4
	for range all {
		wg.Go(func() {
			own := journal.In(d.Dir()) // flock is by open file, as between processes
			for n := 0; n < each; {
				f, err := journal.Plan(d.name("env"), 0o600, func(old []byte, _ bool) ([]byte, error) { return append(old, 'x'), nil })
				if err == nil {
					_, err = own.Do(t.Context(), "use", "what", f)
				}
				// On a slow disk the others may take longer than anybody waits for them.
				if _, changed := errors.AsType[*journal.ChangedError](err); changed || errors.Is(err, journal.ErrBusy) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				n++
			}
		})
	}
	wg.Wait()
	d.has("env", strings.Repeat("x", each*all))
	for range each * all {
		d.undo("use", false)
	}
	d.has("env", "")
}

func TestWhoWaitsForTheJournalCanBeInterrupted(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	d.do("use", d.plan("env", "1"))
	f, err := os.Open(filepath.Join(d.Dir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Do(ctx, "use", "what", d.plan("env", "2")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	d.has("env", "1")
}

// killed is set in a process that changes files until it is killed.
const killed = "SLUICE_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killed); dir != "" {
		changeForEver(dir)
	}
	os.Exit(m.Run())
}

func changeForEver(dir string) {
	j := journal.In(filepath.Join(dir, "journal"))
	for i := 0; ; i++ {
		var files []journal.File
		for _, name := range []string{"a", "b", "new/c"} {
			f, err := journal.Plan(filepath.Join(dir, name), 0o600, to("new"))
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			files = append(files, f)
		}
		if i == 0 {
			fmt.Println("ready")
		}
		if _, err := j.Do(context.Background(), "use", "what", files...); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if _, err := j.Undo(context.Background(), "use", false); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// TestWhoIsKilledLeavesOldOrNewBytesAndAWayBack kills a process at many points of
// changes and undos, wherever they happen to be.
func TestWhoIsKilledLeavesOldOrNewBytesAndAWayBack(t *testing.T) {
	d := newDesk(t)
	d.Journal = journal.In(d.name("journal"))
	d.put("a", "old", 0o600)
	d.put("b", "old", 0o600)
	done, undone := 0, 0
	for n := range 40 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killed+"="+d.dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		if k, _ := out.Read(buf); !strings.HasPrefix(string(buf[:k]), "ready") {
			t.Fatalf("the process said %q", buf[:k])
		}
		time.Sleep(time.Duration(n) * 2500 * time.Microsecond) // to be somewhere; nothing is measured
		cmd.Process.Kill()
		cmd.Wait()

		for name, old := range map[string]string{"a": "old", "b": "old", "new/c": "-"} {
			data, err := os.ReadFile(d.name(name))
			got := string(data)
			if errors.Is(err, fs.ErrNotExist) {
				got = "-"
			}
			if got != "new" && got != old {
				t.Fatalf("%s has %q", name, got)
			}
		}
		// Whatever was begun, this settles it; and then all files are old.
		if _, err := d.Undo(t.Context(), "use", false); errors.Is(err, journal.ErrNothing) {
			undone++
		} else if err != nil {
			t.Fatal(err)
		} else {
			done++
		}
		d.has("a", "old")
		d.has("b", "old")
		d.has("new/c", "-")
		d.has("new", "-")
		d.tidy()
		if t.Failed() {
			t.Fatalf("after kill %d", n)
		}
	}
	t.Logf("%d times a change was there to undo, %d times none", done, undone)
}

func TestADirectoryOfLinksMayHoldAFileWhoseDirectoryIsNotThereYet(t *testing.T) {
	d := newDesk(t)
	if err := errors.Join(os.Mkdir(d.name("dots"), 0o700), os.Symlink("dots", d.name(".config"))); err != nil {
		t.Fatal(err)
	}
	d.do("use", d.plan(".config/go/env", "A=1\n"))
	d.has("dots/go/env", "A=1\n")
	// Gone by hand: nothing of it is left to be put back.
	if err := os.RemoveAll(d.name("dots/go")); err != nil {
		t.Fatal(err)
	}
	d.undo("", false)
	d.do("use", d.plan(".config/go/env", "A=1\n"))
	d.undo("", false)
	if _, err := os.Stat(d.name("dots/go")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dots/go is left: %v", err)
	}
	d.tidy()
}

func TestAFileWhoseDirectoryIsGoneKeepsNobodyFromTheStepsBeforeIt(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	if err := os.Mkdir(d.name("project"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.put("project/.envrc", "0", 0o600)
	d.do("use", d.plan("env", "1"))
	d.do("use", d.plan("project/.envrc", "1"))
	if err := os.RemoveAll(d.name("project")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Undo(t.Context(), "use", false); err == nil {
		t.Error("a directory that is gone was no change")
	}
	d.undo("use", true)
	d.has("project/.envrc", "0")
	d.undo("use", false)
	d.has("env", "0")
}

func TestWhoTakesBackItsOwnStepTakesBackNoOther(t *testing.T) {
	d := newDesk(t)
	d.put("env", "0", 0o600)
	d.put("rc", "0", 0o600)
	mine := d.do("doctor --fix", d.plan("env", "1"))
	d.do("doctor --fix", d.plan("rc", "1")) // another process, meanwhile
	if _, err := d.UndoStep(t.Context(), mine); err != nil {
		t.Error(err)
	}
	d.has("env", "0")
	d.has("rc", "1")
	if _, err := d.UndoStep(t.Context(), mine); !errors.Is(err, journal.ErrNothing) {
		t.Errorf("once more: %v", err)
	}
	d.undo("", false)
	d.has("rc", "0")
	first := d.do("doctor --fix", d.plan("env", "1"))
	d.do("doctor --fix", d.plan("env", "2"))
	_, err := d.UndoStep(t.Context(), first)
	if changed, ok := errors.AsType[*journal.ChangedError](err); !ok || changed.By == nil {
		t.Errorf("under a later step: %v", err)
	}
	d.has("env", "2")
}
