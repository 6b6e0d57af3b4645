package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"time"
)

// Scratch is a Pending that is never stored, for serving through when the store
// cannot be written: its Commit only completes the Record, and visible it is to
// nobody but its owner. It lies in a nameless file in dir and, where that cannot
// be made or written any further (dir may be empty), up to maxMemory bytes of it
// in memory; past that, writing fails with an error that matches ErrNoSpace.
func Scratch(dir string, maxMemory int64) (Pending, error) {
	s := &spool{max: maxMemory, sum: sha256.New()}
	if dir == "" {
		s.why = errors.New("no directory for temporary files is set")
	} else if f, err := os.CreateTemp(dir, "sluice-scratch-*"); err != nil {
		s.why = err
	} else {
		s.file = f
		if runtime.GOOS != "windows" && os.Remove(f.Name()) == nil {
			s.unlinked = true
		}
	}
	if s.file == nil && maxMemory <= 0 {
		return nil, fmt.Errorf("store: nowhere to keep a download: no temporary file can be made (%v) and no memory is set aside: %w", s.why, ErrNoSpace)
	}
	return s, nil
}

// A spool holds bytes in a file while that works, and what follows in memory.
type spool struct {
	max      int64    // most bytes in mem
	file     *os.File // nil: memory only
	unlinked bool     // file has no name any more

	// The writer's own.
	sum hash.Hash
	why error // why file takes no more; it gets no second chance, so that what follows stays in order

	mu     sync.RWMutex // guards the following; never held across I/O
	inFile int64        // bytes in file
	mem    []byte       // what follows them; only ever appended to or dropped
	ended  bool
}

func newMemSpool() *spool { return &spool{max: math.MaxInt64, sum: sha256.New()} }

func (s *spool) state() (inFile int64, mem []byte, ended bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.inFile, s.mem, s.ended
}

func (s *spool) Write(p []byte) (n int, err error) {
	inFile, mem, ended := s.state()
	if ended {
		return 0, errEnded
	}
	if s.file != nil && s.why == nil {
		n, s.why = s.file.WriteAt(p, inFile)
		inFile += int64(n)
	}
	if rest := p[n:]; int64(len(mem)+len(rest)) <= s.max {
		mem = append(mem, rest...)
		n = len(p)
	} else if len(rest) > 0 {
		err = fmt.Errorf("store: no room for a download: more than %d bytes of memory would be needed, and no temporary file takes it (%v): %w", s.max, s.why, ErrNoSpace)
	}
	s.sum.Write(p[:n])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFile, s.mem = inFile, mem
	return n, err
}

func (s *spool) ReadAt(p []byte, off int64) (n int, err error) {
	inFile, mem, ended := s.state()
	if ended {
		return 0, errEnded
	}
	if off < 0 {
		return 0, errors.New("store: negative offset")
	}
	if off < inFile {
		n, err = s.file.ReadAt(p[:min(int64(len(p)), inFile-off)], off)
		if err != nil {
			return n, err
		}
	}
	// Past what the file holds; what it had all of, is not.
	if at := off + int64(n) - inFile; at >= 0 && at < int64(len(mem)) {
		n += copy(p[n:], mem[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *spool) Size() int64 {
	inFile, mem, _ := s.state()
	return inFile + int64(len(mem))
}

func (s *spool) Reset() error {
	if _, _, ended := s.state(); ended {
		return errEnded
	}
	s.sum.Reset()
	if s.file != nil {
		s.why = s.file.Truncate(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFile, s.mem = 0, nil
	return nil
}

func (s *spool) Commit(rec Record) (Record, error) {
	if _, _, ended := s.state(); ended {
		return Record{}, errEnded
	}
	rec.Size, rec.SHA256 = s.Size(), hex.EncodeToString(s.sum.Sum(nil))
	if rec.Time.IsZero() {
		rec.Time = time.Now().UTC().Round(0)
	}
	return rec, nil
}

func (s *spool) Abort() {
	if _, _, ended := s.state(); ended {
		return
	}
	s.mu.Lock()
	s.ended, s.mem = true, nil
	s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
		if !s.unlinked {
			os.Remove(s.file.Name())
		}
	}
}
