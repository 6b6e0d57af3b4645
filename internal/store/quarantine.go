package store

import (
	"crypto/rand"
	"crypto/sha256"
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

	"github.com/modsluice/sluice/internal/goproxy"
)

// A case in quarantine is a directory of its own: evidence.json, and body unless
// evidence.json says why not. The evidence is there before the body: a crash in
// between leaves the body where it was, or, if it came from outside, loses it.
const (
	evidenceFile = "evidence.json"
	bodyFile     = "body"
)

func (d *Disk) Quarantine(ev Evidence, body io.Reader) error {
	ev = evidenceOn(goproxy.Request{}, ev)
	what := "put into quarantine what is wrong with " + ev.Module
	if _, err := d.ready(); err != nil {
		return err
	}
	if body == nil {
		return d.fail(what, d.setAside(ev, "", nil))
	}
	tmp, rerr, err := d.takeBody(&ev, body)
	if err != nil {
		return d.fail(what, err)
	}
	defer d.root.Remove(tmp) // where it was not kept
	err = d.setAside(ev, tmp, func(body string) error { return d.root.Rename(tmp, body) })
	return errors.Join(d.fail(what, err), rerr)
}

// takeBody copies a body to a temporary file, or as much as fits: the evidence
// counts more. It fills in ev, and tells an error of the reader (rerr) apart.
func (d *Disk) takeBody(ev *Evidence, body io.Reader) (tmp string, rerr, err error) {
	f, tmp, err := d.temp("")
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	h := sha256.New()
	src := &errReader{r: io.TeeReader(body, h)}
	n, err := io.Copy(f, io.LimitReader(src, d.opts.Quarantine+1))
	if err == nil && n <= d.opts.Quarantine {
		err = f.Sync()
	}
	switch {
	case src.err != nil:
		ev.NoBody = fmt.Sprintf("it could not be read to its end: %v", src.err)
		return tmp, fmt.Errorf("store: the body for quarantine could not be read: %w", src.err), nil
	case err != nil:
		ev.NoBody = fmt.Sprintf("it could not be written: %v", err)
		return tmp, nil, nil
	case n > d.opts.Quarantine:
		ev.NoBody = fmt.Sprintf("it is larger than the %d bytes set aside for bodies in quarantine", d.opts.Quarantine)
		return tmp, nil, nil
	}
	*ev = weighed(*ev, n, h.Sum(nil))
	return tmp, nil, nil
}

// An errReader tells whether a copy failed at its source.
type errReader struct {
	r   io.Reader
	err error
}

func (r *errReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// setAside makes a case of ev. Unless ev has a reason not to keep it, or there
// is no room, it has put move the body, which now lies at name, to where it
// belongs. Without put there is no body.
func (d *Disk) setAside(ev Evidence, name string, put func(body string) error) error {
	unlock, err := d.lockNumber(lockQuarantine)
	if err != nil {
		return err
	}
	defer unlock()
	if put != nil && ev.NoBody == "" {
		fi, err := d.root.Lstat(name)
		if err != nil {
			return err
		}
		used, err := d.bodies()
		if err != nil {
			return err
		}
		if used+fi.Size() > d.opts.Quarantine {
			ev.NoBody = fmt.Sprintf("quarantine holds %d bytes already, and no more than %d are set aside for it", used, d.opts.Quarantine)
		}
	}
	p, err := d.ready()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(ev, "", "\t")
	if err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s/%d", p.name, d.seq.Add(1))
	dir := fmt.Sprintf("%s/%s-%s", quarantineDir, time.Now().UTC().Format("20060102T150405.000Z"), strings.ToLower(rand.Text()[:8]))
	if err := d.root.Mkdir(tmp, 0o777); err != nil {
		return err
	}
	if err := errors.Join(writeSync(d.root, tmp+"/"+evidenceFile, append(data, '\n')), d.rename(tmp, dir, true)); err != nil {
		d.root.RemoveAll(tmp)
		return err
	}
	if put != nil && ev.NoBody == "" {
		if err := put(dir + "/" + bodyFile); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(d.root, dir), syncDir(d.root, quarantineDir))
}

func writeSync(root *rootDir, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// bodies is how many bytes lie in quarantine.
func (d *Disk) bodies() (n int64, err error) {
	cases, err := readDir(d.root, quarantineDir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, c := range cases {
		if fi, err := d.root.Lstat(quarantineDir + "/" + c.Name() + "/" + bodyFile); err == nil {
			n += fi.Size()
		}
	}
	return n, err
}

func (d *Disk) Quarantined() ([]Evidence, error) {
	cases, err := readDir(d.root, quarantineDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, d.cannotTell("what is in quarantine", err)
	}
	var list []Evidence
	for _, c := range cases {
		var ev Evidence
		data, err := d.root.ReadFile(quarantineDir + "/" + c.Name() + "/" + evidenceFile)
		if err == nil {
			err = json.Unmarshal(data, &ev)
		}
		if err != nil {
			ev = Evidence{Reason: fmt.Sprintf("its %s cannot be read: %v", evidenceFile, err)}
		}
		ev.Dir = filepath.Join(d.dir, filepath.FromSlash(quarantineDir), c.Name())
		list = append(list, ev)
	}
	return sortEvidence(list), nil
}

func (d *Disk) Discard(req goproxy.Request, ev Evidence, forget bool) error {
	name, err := artifactName(req)
	if err != nil {
		return err
	}
	if _, err := d.ready(); err != nil {
		return err
	}
	unlock, err := d.lock(req.Module.Path)
	if err != nil {
		return d.fail("discard "+req.String(), err)
	}
	defer unlock()
	defer d.account(req, name, d.costs(versionName(name))).close()
	defer d.hot.drop(name)
	fi, ferr := d.root.Lstat(name)
	_, rerr := d.root.Lstat(recordName(name))
	missing := errors.Is(ferr, fs.ErrNotExist)
	if missing && (!forget || errors.Is(rerr, fs.ErrNotExist)) {
		return notStored(req)
	}
	if ferr != nil && !missing {
		return d.cannotTell(req, ferr)
	}
	return d.fail("discard "+req.String(), d.discard(req, name, fi, evidenceOn(req, ev), forget))
}

// discard moves what lies at name (nothing if fi is nil), under the lock.
func (d *Disk) discard(req goproxy.Request, name string, fi fs.FileInfo, ev Evidence, forget bool) (rerr error) {
	if fi == nil {
		if err := d.setAside(ev, "", nil); err != nil {
			return err
		}
	} else {
		if fi.Mode().IsRegular() && (ev.Size == 0 || ev.SHA256 == "") {
			if f, err := d.root.Open(name); err == nil {
				h := sha256.New()
				if n, err := io.Copy(h, f); err == nil { // what cannot be read has no sum
					ev = weighed(ev, n, h.Sum(nil))
				}
				f.Close()
			}
		}
		// The list first: one without a version that is there is better than
		// one with a version that is not. The note stays where it ends like that.
		note, err := d.noteList(req.Module.Path)
		if err == nil {
			defer func() {
				if rerr == nil {
					note.done()
				}
			}()
		} // On a full disk there is none; Versions mends the list then.
		if err := d.unlist(req); err != nil {
			return err
		}
		if err := d.setAside(ev, name, func(body string) error { return d.root.Rename(name, body) }); err != nil {
			return err
		}
		// It is still there if there was no room for it, and then goes all the same.
		if err := d.root.RemoveAll(name); err != nil {
			return err
		}
	}
	if !forget {
		return syncParent(d.root, name)
	}
	if err := d.root.Remove(recordName(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(syncParent(d.root, name), syncParent(d.root, recordName(name)))
}

// unlist takes a version from its module's list, if it is there.
func (d *Disk) unlist(req goproxy.Request) error {
	name, err := listName(req.Module.Path)
	if err != nil {
		return err
	}
	data, err := d.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := goproxy.ParseList(data, req.Module.Path)
	if err != nil {
		return d.relist(req.Module.Path)
	}
	if i := slices.Index(list, req.Module.Version); i >= 0 {
		return d.writeList(name, slices.Delete(list, i, i+1))
	}
	return nil
}
