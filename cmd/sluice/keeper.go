package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxKept is how much of what a command prints is kept, in bytes: a quarter from
// its beginning, as the first error is the one that counts, the rest from its end.
const maxKept = 256 << 10

// tapGrace is how long is waited for the rest of what a command printed, once it
// has ended: somebody whom it has started may keep its stderr open.
const tapGrace = 200 * time.Millisecond

// tapRest is how much is passed on after a command has ended, in bytes: a pipe
// holds no more of what the command itself wrote.
const tapRest = 1 << 20

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

// bytes is what was kept, whole lines of it: half a password looks like none, and
// would not be found.
func (k *keeper) bytes() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	const room = maxKept / 4 * 3
	head, tail := k.head, k.tail
	if k.cut || len(tail) > room {
		head = head[:bytes.LastIndexByte(head, '\n')+1]
		tail = tail[max(0, len(tail)-room):]
		tail = tail[bytes.IndexByte(tail, '\n')+1:]
	}
	return slices.Concat(head, tail)
}

// A tap is one stream of a command on its way to where it belongs.
type tap struct {
	w, r *os.File
	done chan struct{}
	last atomic.Bool // the command has ended
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
		grace, rest := tapGrace, tapRest // once the command has ended
		for {
			began, ended := time.Now(), t.last.Load()
			n, err := pr.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				// On a busy machine this one may not have had its turn until then, and what
				// the command wrote is still there.
				if n = readNow(pr, buf); n > 0 {
					err = nil
				}
			}
			if ended {
				grace -= time.Since(began)
				rest -= n
			}
			k.add(buf[:n])
			if _, werr := w.Write(buf[:n]); werr != nil || err != nil || rest <= 0 {
				// Who writes on is told as it would be without us.
				pr.Close()
				return
			}
			if t.last.Load() { // what the reader of w took is not the command's time
				pr.SetReadDeadline(time.Now().Add(max(grace, 0)))
			}
		}
	}()
	return pw, t, nil
}

// end waits until all that the command wrote has gone where it belongs.
func (t *tap) end() {
	t.w.Close()
	t.last.Store(true)
	if t.r.SetReadDeadline(time.Now().Add(tapGrace)) == nil {
		<-t.done
		return
	}
	select { // Windows has no deadlines for pipes
	case <-t.done:
	case <-time.After(tapGrace):
	}
}

// A span is what a command appends to a file that it has been given itself, so that
// it may leave somebody behind who writes on.
type span struct {
	f    *os.File
	from int64 // the size of f before
}

// span keeps what was appended, as far as f can be read; it may have been opened for
// writing only, and then perhaps cannot be opened again.
func (k *keeper) span(s span) {
	info, err := s.f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	r, err := os.Open(fmt.Sprintf("/dev/fd/%d", s.f.Fd()))
	if err != nil {
		return
	}
	defer r.Close()
	if !sameFile(r, s.f) {
		return
	}
	if info.Size() < s.from {
		s.from = 0 // the command began it anew
	}
	n := info.Size() - s.from
	const first = maxKept / 4
	if n <= maxKept {
		io.Copy(keeping{k}, io.NewSectionReader(r, s.from, n))
		return
	}
	io.Copy(keeping{k}, io.NewSectionReader(r, s.from, first))
	io.Copy(keeping{k}, io.NewSectionReader(r, info.Size()-(maxKept-first), maxKept-first))
	k.mu.Lock()
	k.cut = true
	k.mu.Unlock()
}

// keeping is a keeper as an io.Writer.
type keeping struct{ *keeper }

func (k keeping) Write(p []byte) (int, error) {
	k.add(p)
	return len(p), nil
}
