package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// maxKept is how much of what a command prints is kept, in bytes: a quarter from
// its beginning, as the first error is the one that counts, the rest from its end.
const maxKept = 256 << 10

// tapGrace is how long is waited for the rest of what a command printed, once it
// has ended: somebody whom it has started may keep its stderr open.
const tapGrace = 200 * time.Millisecond

// A keeper keeps what passes through its taps. The zero value is ready.
type keeper struct {
	mu   sync.Mutex // guards the following
	head []byte
	tail []byte // of up to twice what it is for, to be cut now and then
	cut  bool   // something between head and tail is gone
}

func (k *keeper) add(p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := min(len(p), maxKept/4-len(k.head))
	k.head = append(k.head, p[:n]...)
	k.tail = append(k.tail, p[n:]...)
	const room = maxKept / 4 * 3
	if len(k.tail) > 2*room {
		k.tail = append(k.tail[:0], k.tail[len(k.tail)-room:]...)
		k.cut = true
	}
}

// bytes is what was kept.
func (k *keeper) bytes() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	const room = maxKept / 4 * 3
	tail := k.tail
	out := append([]byte(nil), k.head...)
	if k.cut || len(tail) > room {
		tail = tail[max(0, len(tail)-room):]
		out = append(out, "\n"...)
	}
	return append(out, tail...)
}

// A tap is one stream of a command on its way to where it belongs.
type tap struct {
	w, r *os.File
	done chan struct{}
}

// tap gives a file for a command to write to. What it writes goes to w at once and
// unchanged, and is kept.
func (k *keeper) tap(w io.Writer) (*os.File, *tap, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("no pipe for the command's output: %w", err)
	}
	t := &tap{w: pw, r: pr, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		buf := make([]byte, 32<<10)
		for {
			n, err := pr.Read(buf)
			k.add(buf[:n])
			if _, werr := w.Write(buf[:n]); werr != nil || err != nil {
				// Who writes on is told as it would be without us.
				pr.Close()
				return
			}
		}
	}()
	return pw, t, nil
}

// end waits until all that the command wrote has gone where it belongs.
func (t *tap) end() {
	t.w.Close()
	if t.r.SetReadDeadline(time.Now().Add(tapGrace)) == nil {
		<-t.done
		return
	}
	select { // Windows has no deadlines for pipes
	case <-t.done:
	case <-time.After(tapGrace):
	}
}
