package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/finding"
)

// A slowWriter is a reader of our stderr that takes its time with the first piece:
// longer than is waited for a command that has ended.
type slowWriter struct {
	bytes.Buffer
	begun chan struct{}
	woken bool
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if !w.woken {
		w.woken = true
		close(w.begun)
		time.Sleep(2 * tapGrace)
	}
	return w.Buffer.Write(p)
}

// tapped is a tap of k that leads to a writer, and all that has been written into it: the
// beginning, of which the writer has said by begun that it is there, and the rest.
func tapped(t *testing.T, k *keeper, to io.Writer, begun <-chan struct{}) (w *os.File, tp *tap, all string) {
	t.Helper()
	w, tp, err := k.tap(to)
	if err != nil {
		t.Fatal(err)
	}
	all = strings.Repeat("a line of output\n", 3500) // less than a pipe holds, more than one read
	w.WriteString(all[:100])
	<-begun
	// Some systems give a pipe less room when they are short of it; some know no deadline.
	w.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := w.WriteString(all[100:]); err != nil {
		t.Fatal(err)
	}
	return w, tp, all
}

func TestASlowReaderGetsAllThatTheCommandWrote(t *testing.T) {
	var k keeper
	slow := &slowWriter{begun: make(chan struct{})}
	_, tp, all := tapped(t, &k, slow, slow.begun)
	tp.end()
	if slow.String() != all {
		t.Errorf("%d of %d bytes came through", slow.Len(), len(all))
	}
	if string(k.bytes()) != all {
		t.Errorf("%d of %d bytes were kept", len(k.bytes()), len(all))
	}
}

// A heldWriter takes its first piece for as long as it is told to.
type heldWriter struct {
	bytes.Buffer
	begun, goOn chan struct{}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		close(w.begun)
		<-w.goOn
	}
	return w.Buffer.Write(p)
}

// On a busy machine, who reads what a command wrote may have no turn until the time for
// that is over.
func TestWhatACommandWroteIsReadAlsoWhenTimeIsOver(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its pipes have no deadlines")
	}
	var k keeper
	held := &heldWriter{begun: make(chan struct{}), goOn: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(held.goOn) })
	defer goOn()
	w, tp, all := tapped(t, &k, held, held.begun)
	w.Close()
	if err := tp.r.SetReadDeadline(time.Now().Add(-tapGrace)); err != nil {
		t.Fatal(err)
	}
	goOn()
	<-tp.done
	if held.String() != all {
		t.Errorf("%d of %d bytes came through", held.Len(), len(all))
	}
}

// They would write to one memory at once: neither knows of the other.
func TestTwoStreamsThatGoToOneWriterAreOne(t *testing.T) {
	for _, same := range []bool{true, false} {
		var out, errOut bytes.Buffer
		stderr := &errOut
		if same {
			stderr = &out
		}
		var k keeper
		e := &env{stdout: &latch{Writer: &out}}
		w, errW, end, err := k.tapAll(e, stderr)
		if err != nil {
			t.Fatal(err)
		}
		if (w == errW) != same {
			t.Errorf("of one writer: %v, but the command gets one stream: %v", same, w == errW)
		}
		end()
	}
}

func TestWhatIsKeptOfMuchIsWholeLines(t *testing.T) {
	var k keeper
	line := "fetch https://bot:hunter2@git.example.com/a ended\n"
	for range 3 * maxKept / len(line) {
		k.add([]byte(line))
	}
	for l := range strings.Lines(string(k.bytes())) {
		if l != line {
			t.Fatalf("a part of a line was kept: %q", l)
		}
	}
	if n := len(k.bytes()); n < maxKept-2*len(line) || n > maxKept {
		t.Errorf("%d bytes were kept", n)
	}
}

func TestAFlagsSecretIsNotKept(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".sluice"), 0o777); err != nil {
		t.Fatal(err)
	}
	err := keepLast(dir, lastFailure{
		Command: []string{"fetch", "--password", "hunter2", "--api-key", "hunter2", "-v"},
		Output:  "+ fetch --token hunter2 -v\n+ fetch -password  'hunter2'\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(lastFile(dir))
	if err != nil || bytes.Contains(text, []byte("hunter2")) || !bytes.Contains(text, []byte(`"-v"`)) {
		t.Errorf("%s, %v", text, err)
	}
	if finding.Redact(string(text)) != string(text) {
		t.Errorf("not redacted: %s", text)
	}
}
