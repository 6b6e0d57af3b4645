package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/bench"
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/journal"
	"github.com/modsluice/sluice/internal/rescue"
)

// A product is what a command writes into a file that the user names, beside its output.
type product struct {
	flag   string   // names the file
	what   string   // is written
	begins []string // one of these is how each of them begins
}

var (
	benchPage    = product{"html", "page", []string{bench.PageBegins}}
	doctorReport = product{"report", "report", []string{doctor.PageBegins, doctor.TextBegins}}
	rescueRecord = product{"record", "record", []string{rescue.PageBegins, rescue.WellPageBegins, "{\n  \"schema\": \"" + rescue.Schema + `"`}}
)

// check refuses a file that is there and is not an earlier one of the same product, such
// as a go.mod named by a slip. An empty file is nobody's loss.
func (p product) check(e *env, file string) error { return p.checkAt(e.inDir(file), file) }

// checkAt is check of what is at name, which the user calls file.
func (p product) checkAt(name, file string) error {
	refuse := func(format string, args ...any) error {
		return &exitError{status: exitMisuse, err: fmt.Errorf("the %s cannot be written: %s "+format, append([]any{p.what, shownName(file)}, args...)...),
			hint: "choose another file with --" + p.flag + " FILE"}
	}
	info, err := os.Stat(name)
	switch {
	case err != nil: // whoever writes it sees why
		return nil
	case !info.Mode().IsRegular():
		return refuse("is no regular file")
	case info.Size() == 0:
		return nil
	}
	longest := 0
	for _, b := range p.begins {
		longest = max(longest, len(b))
	}
	head, err := beginning(name, longest)
	if err != nil {
		return refuse("is there already, and cannot be read to see whether it is an earlier %s: %w", p.what, reason(err))
	}
	if !slices.ContainsFunc(p.begins, func(b string) bool { return strings.HasPrefix(head, b) }) {
		return refuse("is there already, and is no earlier %s that may be replaced", p.what)
	}
	return nil
}

// inDir is the name of a file as the system has to be given it.
func (e *env) inDir(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(e.dir, file)
}

// beginning is the first n bytes of a file, or fewer.
func beginning(name string, n int) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(n)))
	return string(data), err
}

// reason is err without the name of a file, which may be a temporary one.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// write writes a product into a file that check lets pass.
func (p product) write(e *env, file string, write func(io.Writer) error) error {
	w, err := p.open(e, file)
	if err != nil {
		return err
	}
	defer w.drop()
	return w.keep(write(w.f))
}

// A wholeFile is a file that is there as a whole or not at all. At first nobody else may
// read it.
type wholeFile struct {
	p    product
	f    *os.File
	file string // as the user named it
	real string // where that leads to by symbolic links
}

// open begins a product, which has to be kept or dropped.
func (p product) open(e *env, file string) (*wholeFile, error) {
	if err := p.check(e, file); err != nil {
		return nil, err
	}
	w := &wholeFile{p: p, file: file}
	var err error
	if w.real, err = journal.Follow(e.inDir(file)); err != nil {
		return nil, w.failed(err)
	}
	if w.f, err = os.CreateTemp(filepath.Dir(w.real), ".sluice-*"); err != nil {
		return nil, w.failed(err)
	}
	return w, nil
}

// keep puts the file in its place, unless err says that writing it has failed.
func (w *wholeFile) keep(err error) error {
	if err = errors.Join(err, w.f.Close()); err != nil {
		return w.failed(err)
	}
	// Somebody may have made it meanwhile, or made the link lead elsewhere: what counts is
	// what is replaced.
	if err := w.p.checkAt(w.real, w.file); err != nil {
		return err
	}
	if err := os.Rename(w.f.Name(), w.real); err != nil {
		return w.failed(err)
	}
	return nil
}

func (w *wholeFile) failed(err error) error {
	return &exitError{status: exitNo, err: fmt.Errorf("the %s cannot be written: %s: %w", w.p.what, shownName(w.file), reason(err)), hint: "choose another file with --" + w.p.flag + " FILE"}
}

// drop removes what keep has not put in its place.
func (w *wholeFile) drop() {
	w.f.Close()
	os.Remove(w.f.Name())
}
