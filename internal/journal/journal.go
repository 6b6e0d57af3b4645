// Package journal changes small files of the user's, such as the file of
// "go env -w", so that every change can be taken back to the byte.
//
// A step is one or more files that change together: all of them or none. What they
// were is on the disk before anything is touched. A file is replaced as a whole (a
// temporary file, synced and renamed), with its mode, owner and the extended attributes
// that are the user's; a symbolic link to it stays, and a file that has further names (hard links) is written
// where it is, so that it keeps them. Who is killed at any point leaves each file as it
// was or as it was to become (one with further names perhaps in part), and the next
// step, undo or look settles what was begun. Steps of several processes take turns.
//
// It has no idea what is in the files: whoever plans a step says so. It is no backup
// either: what others write meanwhile is not recorded, and an undo stops before it.
package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// maxFile is how large a file may be, in bytes. Settings are far smaller.
	maxFile = 1 << 20
	// maxSteps is how many steps are kept; older ones cannot be undone.
	maxSteps = 30
	// lockPatience is how long a step waits for those of other processes, which take
	// a few milliseconds each.
	lockPatience = 10 * time.Second
	lockPoll     = 10 * time.Millisecond
)

// A State says how far a step has come.
type State string

const (
	Begun   State = "begun"   // perhaps in part; whoever comes next settles it
	Done    State = "done"    // and can be undone
	Undoing State = "undoing" // perhaps in part
	Undone  State = "undone"
)

// A Step is a change of one or more files, as it is recorded. It may hold credentials,
// since files do; nobody but the user may read it.
type Step struct {
	ID      int       `json:"id"`      // from 1, ascending
	Command string    `json:"command"` // that made it: use, doctor --fix
	What    string    `json:"what"`    // one line for people, without credentials
	Time    time.Time `json:"time"`
	State   State     `json:"state"`
	Files   []File    `json:"files"`
}

// A File is what one file was, and what it becomes.
type File struct {
	Name      string      `json:"name"` // absolute, as whoever planned it calls it
	Real      string      `json:"real"` // Name, with symbolic links followed
	Existed   bool        `json:"existed"`
	Mode      fs.FileMode `json:"mode"` // permissions; of a file that is new, those it gets
	Before    []byte      `json:"before"`
	BeforeSum string      `json:"before_sha256"` // of Before, in hex
	After     []byte      `json:"after"`
	AfterSum  string      `json:"after_sha256"`
	Dirs      []string    `json:"dirs"` // that are made for it, the outermost first
}

// A ChangedError says that a file is not as a step needs it, and what the difference is.
type ChangedError struct {
	Name string
	Diff []string // as of Diff: what was expected against what is there; may hold credentials
	By   *Step    // the later step that changed it, nil if it was somebody else
}

func (e *ChangedError) Error() string {
	if e.By != nil {
		return fmt.Sprintf("%s was changed again at %s, by sluice %s", e.Name, e.By.Time.Local().Format("2006-01-02 15:04:05"), e.By.Command)
	}
	return fmt.Sprintf("%s was changed by somebody else meanwhile", e.Name)
}

var (
	// ErrNothing says that there is no step to undo.
	ErrNothing = errors.New("there is nothing to undo")
	// ErrBusy says that another process held the journal all the time.
	ErrBusy = errors.New("another sluice command is changing settings just now; try again when it has ended")
)

// A Journal is a directory of steps. Its methods are safe for several goroutines and
// processes at once.
type Journal struct{ dir string }

// In is the journal in dir, which the first step makes.
func In(dir string) *Journal { return &Journal{dir} }

// Dir is where the steps are.
func (j *Journal) Dir() string { return j.dir }

// Plan says what becomes of the file called name if its bytes become what edit gives;
// exists is false, and old nil, where there is no file. A new file gets mode. Plan changes
// nothing, and fails in one sentence where the change could not be made.
func Plan(name string, mode fs.FileMode, edit func(old []byte, exists bool) ([]byte, error)) (File, error) {
	f := File{Name: name, Mode: mode.Perm(), Dirs: []string{}}
	if !filepath.IsAbs(name) {
		return f, fmt.Errorf("%s is no absolute file name", name)
	}
	var err error
	if f.Real, err = Follow(name); err != nil {
		return f, err
	}
	old, info, err := read(f.Real)
	if err != nil {
		return f, err
	}
	if info != nil {
		f.Existed, f.Mode, f.Before = true, info.Mode().Perm(), old
	}
	if f.After, err = edit(old, f.Existed); err != nil {
		return f, err
	}
	if f.After == nil {
		f.After = []byte{}
	}
	f.BeforeSum, f.AfterSum = sum(f.Before), sum(f.After)
	for dir := filepath.Dir(f.Real); !f.Existed; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		f.Dirs = slices.Insert(f.Dirs, 0, dir)
	}
	if f.Changes() {
		err = writable(f)
	}
	return f, err
}

// Changes reports whether the file becomes another one.
func (f File) Changes() bool { return !f.Existed || !bytes.Equal(f.Before, f.After) }

// Diff is the lines that a change takes away ("-" before them) and brings ("+"). They
// may hold credentials.
func (f File) Diff() []string { return diff(f.Before, f.After) }

// Do makes the planned changes, all of them or none, and gives the step, which is nil if
// none of the files would become another one. A file that is no longer as it was when
// the change was planned is a *ChangedError.
func (j *Journal) Do(ctx context.Context, command, what string, files ...File) (*Step, error) {
	files = slices.DeleteFunc(slices.Clone(files), func(f File) bool { return !f.Changes() })
	if len(files) == 0 {
		return nil, nil
	}
	unlock, err := j.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	steps, last, err := j.settle()
	if err != nil {
		return nil, err
	}
	s := &Step{ID: last + 1, Command: command, What: what, Time: time.Now().UTC().Truncate(time.Second), State: Begun, Files: files}
	for _, f := range files {
		if err := f.is(f.Existed, f.Before); err != nil {
			return nil, err
		}
	}
	if err := j.write(s); err != nil {
		return nil, err
	}
	if err := s.apply(); err != nil {
		return nil, errors.Join(err, j.back(s))
	}
	s.State = Done
	if err := j.write(s); err != nil {
		// It would be settled as done; but who cannot record it does not do it.
		return nil, errors.Join(err, j.back(s))
	}
	for len(steps) >= maxSteps {
		os.Remove(j.file(steps[0].ID))
		for n := range steps[0].Files {
			os.Remove(j.copied(steps[0], n))
		}
		steps = steps[1:]
	}
	return s, nil
}

// apply brings the files of a step that was begun to what they become.
func (s *Step) apply() error {
	for i, f := range s.Files {
		for _, dir := range f.Dirs {
			if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
				return cannot(f.Name, err)
			}
		}
		if err := f.prepare(s.temp(i), f.After); err != nil {
			return cannot(f.Name, err)
		}
	}
	for i, f := range s.Files {
		// Again, since somebody else may not know of our lock.
		if err := f.is(f.Existed, f.Before); err != nil {
			return err
		}
		if err := replace(s.temp(i), f.Real); err != nil {
			return cannot(f.Name, err)
		}
	}
	return nil
}

// back takes back what there is of a step that could not be made, and forgets it.
func (j *Journal) back(s *Step) error {
	for i, f := range s.Files {
		os.Remove(s.temp(i))
		last := f.After
		if torn := f.torn(); torn != nil {
			last = torn
		}
		if f.is(true, last) == nil {
			if err := f.restore(s.temp(i), seen{true, last}); err != nil {
				return fmt.Errorf("%s could not be put back, and the next sluice command tries again: %w", f.Name, err)
			}
		}
		f.removeDirs()
	}
	return os.Remove(j.file(s.ID))
}

// An Undo is how a step was taken back.
type Undo struct {
	Step *Step
	// Kept are the files that hold what --force wrote over, one for each file that had
	// been changed since.
	Kept []string
}

// Undo takes back the last step that is done and, if command is not empty, that this
// command made. ErrNothing says that there is none. A file that was changed since is
// a *ChangedError, and then nothing is taken back; with force it is overwritten all the
// same, and a copy kept.
func (j *Journal) Undo(ctx context.Context, command string, force bool) (*Undo, error) {
	return j.undo(ctx, func(s *Step) bool { return command == "" || s.Command == command }, force)
}

// UndoStep is Undo for one step, as Do gave it: another process may have made others since.
func (j *Journal) UndoStep(ctx context.Context, step *Step) (*Undo, error) {
	return j.undo(ctx, func(s *Step) bool { return s.ID == step.ID }, false)
}

func (j *Journal) undo(ctx context.Context, of func(*Step) bool, force bool) (*Undo, error) {
	if _, err := os.Stat(j.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNothing
	}
	unlock, err := j.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	steps, _, err := j.settle()
	if err != nil {
		return nil, err
	}
	i := len(steps) - 1
	for i >= 0 && (steps[i].State != Done || !of(steps[i])) {
		i--
	}
	if i < 0 {
		return nil, ErrNothing
	}
	s := steps[i]
	u := &Undo{Step: s}
	last := make([]seen, len(s.Files))
	for n, f := range s.Files {
		err := f.is(true, f.After)
		if err == nil {
			last[n] = seen{true, f.After}
			continue
		}
		if f.is(f.Existed, f.Before) == nil {
			last[n] = seen{f.Existed, f.Before} // put back by hand
			continue
		}
		changed, ok := errors.AsType[*ChangedError](err)
		if !ok {
			return nil, err
		}
		for _, later := range steps[i+1:] {
			if later.State == Done && slices.ContainsFunc(later.Files, func(l File) bool { return l.Real == f.Real }) {
				changed.By = later
			}
		}
		if !force {
			return nil, changed
		}
		if now, info, err := read(f.Real); err != nil {
			return nil, err
		} else if info != nil {
			last[n] = seen{true, now}
			copied := j.copied(s, n)
			if err := writeFile(copied, now, 0o600); err != nil {
				return nil, j.cannotRecord(err)
			}
			u.Kept = append(u.Kept, copied)
		}
	}
	for _, f := range s.Files {
		if err := writable(f); err != nil {
			return nil, err
		}
	}
	s.State = Undoing
	if err := j.write(s); err != nil {
		return nil, err
	}
	for n, f := range s.Files {
		if force && f.Existed {
			// Somebody removed its directory; the steps before would be out of reach for ever.
			if err := os.MkdirAll(filepath.Dir(f.Real), 0o777); err != nil {
				return nil, cannotRestore(f.Name, err)
			}
		}
		if err := f.restore(s.temp(n), last[n]); err != nil {
			if changed, ok := errors.AsType[*ChangedError](err); ok {
				return nil, changed // this very moment
			}
			return nil, cannotRestore(f.Name, err)
		}
		f.removeDirs()
	}
	s.State = Undone
	return u, j.write(s)
}

// Steps lists what is recorded, the oldest first, as the next Do or Undo would find it.
// damaged are files of the journal that cannot be read; they are passed over.
func (j *Journal) Steps() (steps []*Step, damaged []error, err error) {
	steps, _, damaged, err = j.read()
	for _, s := range steps {
		switch s.State {
		case Begun:
			s.State = Done
			for _, f := range s.Files {
				if f.is(true, f.After) != nil {
					s.State = Undone
				}
			}
		case Undoing:
			s.State = Done
		}
	}
	return steps, damaged, err
}

// settle reads the journal and brings steps to an end that a process did not. last is
// the highest ID in use.
func (j *Journal) settle() (steps []*Step, last int, err error) {
	all, last, _, err := j.read()
	if err != nil {
		return nil, 0, err
	}
	os.Remove(filepath.Join(j.dir, fresh))
	for _, s := range all {
		switch s.State {
		case Begun:
			after := 0
			for i, f := range s.Files {
				os.Remove(s.temp(i))
				if f.is(true, f.After) == nil {
					after++
				}
			}
			if after < len(s.Files) {
				if err := j.back(s); err != nil {
					return nil, 0, err
				}
				continue
			}
			s.State = Done
			if err := j.write(s); err != nil {
				return nil, 0, err
			}
		case Undoing:
			before := 0
			for i, f := range s.Files {
				os.Remove(s.temp(i))
				last := f.After
				if torn := f.torn(); torn != nil {
					last = torn
				}
				if f.is(true, last) == nil {
					if err := f.restore(s.temp(i), seen{true, last}); err != nil {
						return nil, 0, cannot(f.Name, err)
					}
				}
				if f.is(f.Existed, f.Before) == nil {
					before++
					f.removeDirs()
				}
			}
			if s.State = Undone; before < len(s.Files) {
				s.State = Done // somebody else's bytes are in one of them
			}
			if err := j.write(s); err != nil {
				return nil, 0, err
			}
		}
		steps = append(steps, s)
	}
	return steps, last, nil
}

// is says what keeps the file from holding these bytes, or from not being there.
func (f File) is(exists bool, want []byte) error {
	real, err := Follow(f.Name)
	if err != nil {
		return err
	}
	if real != f.Real {
		return &ChangedError{Name: f.Name, Diff: []string{"- it led to " + f.Real, "+ it leads to " + real}}
	}
	now, info, err := read(f.Real)
	switch {
	case err != nil:
		return err
	case info == nil && exists:
		return &ChangedError{Name: f.Name, Diff: []string{"+ it is not there"}}
	case info != nil && !exists:
		return &ChangedError{Name: f.Name, Diff: append([]string{"- it was not there"}, diff(nil, now)...)}
	case exists && !bytes.Equal(now, want):
		return &ChangedError{Name: f.Name, Diff: diff(want, now)}
	}
	return nil
}

// A seen is what was in a file when it was last looked at.
type seen struct {
	exists bool
	data   []byte
}

// restore brings back what was before the step, unless the file has changed since it
// was seen.
func (f File) restore(temp string, last seen) error {
	if !f.Existed {
		if err := f.still(last); err != nil {
			return err
		}
		if err := os.Remove(f.Real); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncDir(filepath.Dir(f.Real))
	}
	if err := f.prepare(temp, f.Before); err != nil {
		return err
	}
	if err := f.still(last); err != nil {
		os.Remove(temp)
		return err
	}
	return replace(temp, f.Real)
}

// still says what keeps the file from being as it was seen.
func (f File) still(last seen) error {
	now, info, err := read(f.Real)
	if err == nil && ((info != nil) != last.exists || !bytes.Equal(now, last.data)) {
		err = &ChangedError{Name: f.Name, Diff: diff(last.data, now)}
	}
	return err
}

// removeDirs removes the directories that were made for the file, where nobody else
// uses them.
func (f File) removeDirs() {
	for _, dir := range slices.Backward(f.Dirs) {
		if os.Remove(dir) != nil {
			return
		}
	}
}

// prepare writes data beside the file, with its mode and owner.
func (f File) prepare(temp string, data []byte) error {
	mode := f.Mode
	info, err := os.Lstat(f.Real)
	if err == nil {
		mode = info.Mode().Perm()
	}
	if err := writeFile(temp, data, 0o600); err != nil {
		return err
	}
	if info != nil {
		err = keepOwner(temp, info)
	} else {
		err = nil
	}
	// After the owner, as a change of that may take bits away.
	err = errors.Join(err, os.Chmod(temp, mode))
	if err == nil && info != nil {
		err = keepAttrs(temp, f.Real)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// temp is the temporary file of the i'th file of the step, beside it.
func (s *Step) temp(i int) string {
	dir, base := filepath.Split(s.Files[i].Real)
	return filepath.Join(dir, fmt.Sprintf(".%s.sluice-%d", base, s.ID))
}

// replace puts temp in the place of name, for good.
func replace(temp, name string) error {
	if info, err := os.Lstat(name); err == nil && linked(info) {
		return overwrite(temp, name)
	}
	if err := os.Rename(temp, name); err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(filepath.Dir(name))
}

// writeFile writes a new file that survives a crash of the machine. What a process that
// was killed has left in its place goes; a link that somebody puts there is not followed.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

// maxLinks is how many symbolic links are followed, one after the other.
const maxLinks = 40

// Follow is the file that name leads to by symbolic links, there or not: whoever replaces
// a file as a whole has to replace that one, or the link is gone.
func Follow(name string) (string, error) {
	for range maxLinks {
		dir, err := followDir(filepath.Dir(name))
		if err != nil {
			return "", cannot(name, err)
		}
		name = filepath.Join(dir, filepath.Base(name))
		to, err := os.Readlink(name)
		if err != nil {
			return name, nil // no link; whatever else is wrong, reading it will tell
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		name = to
	}
	return "", fmt.Errorf("%s cannot be used: its symbolic links lead in a circle", name)
}

// followDir is the directory that dir leads to. What of it is not there is taken as it
// stands: a step that makes it makes no links, and so leads to the same.
func followDir(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
		return filepath.Clean(dir), nil // a link that leads nowhere, which nothing can be made below
	}
	above, err := followDir(filepath.Dir(dir))
	return filepath.Join(above, filepath.Base(dir)), err
}

// read reads a file; info is nil if there is none.
func read(name string) (data []byte, info fs.FileInfo, err error) {
	info, err = os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is no regular file, and is not changed", name)
	case info.Size() > maxFile:
		return nil, nil, fmt.Errorf("%s has %d bytes, which no file of settings has, and is not changed", name, info.Size())
	default:
		if data, err = os.ReadFile(name); err == nil {
			return data, info, nil
		}
	}
	return nil, nil, fmt.Errorf("%s cannot be read, so it is not changed: %w", name, plain(err))
}

// writable says in one sentence what keeps the file from being replaced, as far as that
// can be told without writing.
func writable(f File) error {
	if info, err := os.Lstat(f.Real); err == nil {
		if info.Mode().Perm()&0o222 == 0 {
			return fmt.Errorf("%s is read-only, so nothing was changed; make it writable (chmod u+w) if you want it changed", f.Name)
		}
		w, err := os.OpenFile(f.Real, os.O_WRONLY, 0)
		if err != nil {
			return cannot(f.Name, err)
		}
		w.Close()
	}
	dir := filepath.Dir(f.Real)
	if len(f.Dirs) > 0 {
		dir = filepath.Dir(f.Dirs[0])
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // the step made it, and somebody removed it
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s cannot be written, so nothing was changed: %s is no directory", f.Name, dir)
	case err == nil:
		err = mayWrite(dir)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written, so nothing was changed: its directory %s: %w", f.Name, dir, plain(err))
	}
	return nil
}

func cannot(name string, err error) error {
	return fmt.Errorf("%s cannot be written, so nothing was changed: %w", name, plain(err))
}

func cannotRestore(name string, err error) error {
	return fmt.Errorf("%s cannot be put back: %w; what was put back before it stays, and --undo goes on there", name, plain(err))
}

func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// lock takes the journal for this process; the result gives it back.
func (j *Journal) lock(ctx context.Context) (func(), error) {
	err := os.MkdirAll(filepath.Dir(j.dir), 0o777)
	if err == nil {
		if err = os.Mkdir(j.dir, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, j.cannotRecord(err)
	}
	f, err := os.OpenFile(filepath.Join(j.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, j.cannotRecord(err)
	}
	for end := time.Now().Add(lockPatience); ; {
		ok, err := tryLock(f)
		switch {
		case err != nil:
			f.Close()
			return nil, j.cannotRecord(err)
		case ok:
			return func() { f.Close() }, nil
		case time.Now().After(end):
			f.Close()
			return nil, ErrBusy
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}

func (j *Journal) cannotRecord(err error) error {
	return fmt.Errorf("nothing was changed, since what could take it back cannot be written to %s: %w; name another directory with --data", j.dir, plain(err))
}

func (j *Journal) file(id int) string { return filepath.Join(j.dir, fmt.Sprintf("%06d.json", id)) }

// copied holds what --force wrote over in the n'th file of a step.
func (j *Journal) copied(s *Step, n int) string {
	return fmt.Sprintf("%s.%d", strings.TrimSuffix(j.file(s.ID), ".json"), n+1)
}

// fresh is a step that is being written.
const fresh = "new"

// write records a step, durably.
func (j *Journal) write(s *Step) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return j.cannotRecord(err)
	}
	temp := filepath.Join(j.dir, fresh)
	if err := writeFile(temp, append(data, '\n'), 0o600); err != nil {
		return j.cannotRecord(err)
	}
	if err := replace(temp, j.file(s.ID)); err != nil {
		return j.cannotRecord(err)
	}
	return nil
}

// read reads all steps, in order. last is the highest ID of any file.
func (j *Journal) read() (steps []*Step, last int, damaged []error, err error) {
	entries, err := os.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil, nil
	}
	if err != nil {
		return nil, 0, nil, fmt.Errorf("what was changed before cannot be read at %s: %w", j.dir, plain(err))
	}
	for _, e := range entries {
		var id int
		if n, err := fmt.Sscanf(e.Name(), "%d.json", &id); n != 1 || err != nil || e.Name() != filepath.Base(j.file(id)) || id < 1 {
			continue
		}
		last = max(last, id)
		data, err := readBounded(filepath.Join(j.dir, e.Name()))
		var s *Step
		if err == nil {
			s, err = parse(data, id)
		}
		if err != nil {
			damaged = append(damaged, fmt.Errorf("%s cannot be used: %w", filepath.Join(j.dir, e.Name()), plain(err)))
			continue
		}
		steps = append(steps, s)
	}
	slices.SortFunc(steps, func(a, b *Step) int { return a.ID - b.ID })
	return steps, last, damaged, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 16 * maxFile // what several files take in base64
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(data) > most {
		err = errors.New("it is too large")
	}
	return data, err
}

// parse reads a recorded step. It believes nothing that does not fit together: what it
// says is written into files of the user's.
func parse(data []byte, id int) (*Step, error) {
	var s Step
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("it is no step of the journal: %w", err)
	}
	if d.More() {
		return nil, errors.New("it has more than one step")
	}
	switch {
	case s.ID != id:
		return nil, fmt.Errorf("it is step %d by its text, and %d by its name", s.ID, id)
	case !slices.Contains([]State{Begun, Done, Undoing, Undone}, s.State):
		return nil, fmt.Errorf("its state %q is none", s.State)
	case len(s.Files) == 0:
		return nil, errors.New("it has no files")
	}
	seen := map[string]bool{}
	for i, f := range s.Files {
		switch {
		case !filepath.IsAbs(f.Name) || !filepath.IsAbs(f.Real) || filepath.Clean(f.Real) != f.Real || strings.ContainsRune(f.Name+f.Real, 0):
			return nil, fmt.Errorf("its file %d has no absolute name", i+1)
		case seen[f.Real]:
			return nil, fmt.Errorf("its file %d is in it twice", i+1)
		case f.Mode != f.Mode.Perm():
			return nil, fmt.Errorf("the mode of its file %d is none", i+1)
		case sum(f.Before) != f.BeforeSum || sum(f.After) != f.AfterSum:
			return nil, fmt.Errorf("its file %d is not what its SHA-256 says", i+1)
		case !f.Existed && len(f.Before) > 0:
			return nil, fmt.Errorf("its file %d was not there, and had bytes", i+1)
		}
		seen[f.Real] = true
		for _, dir := range f.Dirs {
			if rel, err := filepath.Rel(dir, f.Real); err != nil || !filepath.IsLocal(rel) || filepath.Clean(dir) != dir || rel == "." {
				return nil, fmt.Errorf("its file %d is not below the directories that were made for it", i+1)
			}
		}
	}
	return &s, nil
}
