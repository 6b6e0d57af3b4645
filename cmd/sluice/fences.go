package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/upstream"
)

// mostFences is of how many bytes the file of fences is begun anew. What it has
// then is kept once more, beside it.
const mostFences = 1 << 20

// A fence is a line of .sluice/fences.jsonl: a source gave wrong bytes of a module,
// or was pardoned for that. Processes only ever add lines, each in one write, so
// that none takes away what another has seen.
type fence struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source"`
	Module string    `json:"module,omitempty"` // its path; "" of a pardon for all of them
	Why    string    `json:"why,omitempty"`
	Pardon bool      `json:"pardon,omitempty"`
}

func (w *world) fenceFile() string { return filepath.Join(w.store.Dir(), ".sluice", "fences.jsonl") }

// keepFence adds a line. It is there after a crash of the process, though perhaps
// not of the machine.
func (w *world) keepFence(l fence) error {
	if err := w.store.Writable(); err != nil {
		return fmt.Errorf("it ends with this process: %w", err)
	}
	l.Time = time.Now().UTC().Round(0)
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	name := w.fenceFile()
	switch st, err := os.Stat(name); {
	case err != nil:
	case !st.Mode().IsRegular(): // a named pipe would be waited for
		return fmt.Errorf("it ends with this process: %s is no regular file; remove it", name)
	case st.Size() > mostFences:
		os.Rename(name, name+".old") // if it cannot be, it grows
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		// The line before may be torn, by a full disk.
		_, err = f.Write(append(append([]byte("\n"), data...), '\n'))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("it ends with this process: %w", err)
	}
	return nil
}

// putUpFences puts those up again whose time is not over. Lines that cannot be
// understood are passed over.
func (w *world) putUpFences(h *upstream.Health, lasts time.Duration) {
	for _, name := range []string{w.fenceFile() + ".old", w.fenceFile()} {
		data, err := readEnd(name, 4*mostFences)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				w.log.Warn("which sources were fenced off cannot be read", slog.String("file", name), slog.Any("err", err))
			}
			continue
		}
		list, lost := parseFences(data)
		if lost > 0 {
			w.log.Warn("lines of fences cannot be understood, and count for nothing", slog.String("file", name), slog.Int("lines", lost))
		}
		for _, l := range list {
			switch age := time.Since(l.Time); {
			case l.Pardon:
				h.Pardon(l.Source, l.Module)
			case age >= 0 && age < lasts:
				h.Fence(l.Source, l.Module, l.Why, l.Time)
			}
		}
	}
}

// readEnd reads the last most bytes of a file.
func readEnd(name string, most int64) ([]byte, error) {
	st, err := os.Stat(name) // opening a named pipe would wait for its writer
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-most), most))
}

// parseFences reads the file of fences. lost are the lines that are none.
func parseFences(data []byte) (list []fence, lost int) {
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var l fence
		if json.Unmarshal(line, &l) != nil || l.Source == "" || l.Time.IsZero() || module.CheckPath(l.Module) != nil && !(l.Pardon && l.Module == "") {
			lost++
			continue
		}
		list = append(list, l)
	}
	return list, lost
}
