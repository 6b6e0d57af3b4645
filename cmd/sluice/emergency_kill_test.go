//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
)

// TestARescueThatIsKilledWhileItKeepsLeavesOldOrNewSettingsAndAWayBack ends the program at
// many points of writing the settings, wherever they happen to be. emergency_kill.txtar has
// the points one by one. One that is interrupted has time to say what it did.
func TestARescueThatIsKilledWhileItKeepsLeavesOldOrNewSettingsAndAWayBack(t *testing.T) {
	modtest.HearSignals()
	world := modtest.New(t)
	world.Add("example.com/m", "v1.0.0", nil)
	well := modtest.Serve(t, world.Handler())
	dead := modtest.Serve(t, http.NotFoundHandler())
	dead.Stop()
	work := t.TempDir()
	file, store := filepath.Join(work, "env"), filepath.Join(work, "store")
	locked := filepath.Join(store, ".sluice", "journal", "lock")
	before := "# ours\nGOPROXY=" + dead.URL + "," + well.URL + "\nGOFLAGS=-trimpath"
	environ := modtest.GoEnv(t, well.URL, "off")
	for _, set := range [][2]string{{"GOENV", file}, {"GOPROXY", ""}, {"SLUICE_DATA", store}} {
		environ = with(environ, set[0], set[1])
	}

	// rescue runs it to its end, and gives its exit status and what it said.
	rescue := func(args ...string) (int, string) {
		t.Helper()
		var said bytes.Buffer
		e := &env{environ: environ, dir: work, stdout: &said, stderr: &said}
		return run(t.Context(), e, append([]string{"rescue"}, args...)), said.String()
	}
	put := func() {
		t.Helper()
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func() string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	put()
	status, said := rescue("--keep", "--", "true")
	after := get()
	if status != 0 || after == before {
		t.Fatalf("status %d, and nothing is kept, so nobody can be killed while it is: %s", status, said)
	}
	if status, said := rescue("--undo"); status != 0 || get() != before {
		t.Fatalf("status %d, and the settings are %q: %s", status, get(), said)
	}

	program, err := exec.LookPath("sluice") // this program, by the name under which it is no test
	if err != nil {
		t.Fatal(err)
	}
	done, undone := 0, 0
	for n := range 16 {
		sig := syscall.SIGKILL
		if n%4 >= 2 {
			sig = syscall.SIGINT
		}
		put()
		lock, err := os.OpenFile(locked, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "rescue", "--keep", "--", "true")
		var out bytes.Buffer
		cmd.Env, cmd.Dir, cmd.Stdout = environ, work, &out
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, verified := bufio.NewScanner(stderr), false
		for !verified && lines.Scan() {
			verified = strings.HasPrefix(lines.Text(), "sluice: verify: ")
		}
		switch n {
		case 0: // surely before it writes
			cmd.Process.Signal(sig)
			lock.Close()
		case 12: // surely after it has written
			lock.Close()
			for get() == before {
				time.Sleep(time.Millisecond)
			}
			cmd.Process.Signal(sig)
		default:
			lock.Close()
			time.Sleep(time.Duration(n) * 2 * time.Millisecond) // to be somewhere; nothing is measured
			cmd.Process.Signal(sig)
		}
		io.Copy(io.Discard, stderr)
		cmd.Wait()
		if !verified {
			t.Fatal("it ended before it was to write")
		}

		if got := get(); got != before && got != after {
			t.Fatalf("after kill %d the settings are %q", n, got)
		} else if told := strings.Contains(out.String(), "was changed; sluice rescue --undo takes it back"); sig == syscall.SIGINT && told != (got == after) {
			t.Fatalf("after interrupt %d the settings are %q, and it said %s", n, got, &out)
		}
		if n%2 == 1 { // the next one settles it, and keeps what the one before did not
			if status, said := rescue("--keep", "--", "true"); status != 0 || get() != after {
				t.Fatalf("after kill %d, the next rescue: status %d, and the settings are %q: %s", n, status, get(), said)
			}
		}
		switch status, said := rescue("--undo"); {
		case status == 0:
			if n%2 == 0 { // after the others it is the next one that has done it
				done++
			}
		case n%2 == 0 && strings.Contains(said, "there is nothing that sluice rescue changed"):
			undone++
		default:
			t.Fatalf("after kill %d, --undo: status %d: %s", n, status, said)
		}
		if got := get(); got != before {
			t.Fatalf("after kill %d and --undo the settings are %q", n, got)
		}
		if left, _ := filepath.Glob(filepath.Join(work, ".env.sluice-*")); len(left) > 0 {
			t.Fatalf("after kill %d there is %q", n, left)
		}
	}
	if done == 0 || undone == 0 {
		t.Errorf("%d of those that were killed had made the change, %d had not: not both were seen", done, undone)
	}
	t.Logf("%d times a change was there to undo, %d times none", done, undone)
}
