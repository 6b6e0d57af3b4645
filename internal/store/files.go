package store

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/goproxy"
)

// answerFile is where the answer to path lies: by a hash, because a query may
// have slashes, and be another query's directory.
func answerFile(path string) string {
	sum := sha256Hex([]byte(path))
	return answersDir + "/" + sum[:2] + "/" + sum[2:]
}

func (d *Disk) Answer(req goproxy.Request) (Answer, error) {
	name, err := answerName(req)
	if err != nil {
		return Answer{}, err
	}
	data, err := d.root.ReadFile(answerFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return Answer{}, notStored(req)
	}
	if err != nil {
		return Answer{}, d.cannotTell(req, err)
	}
	return parseAnswer(data, name)
}

// SetAnswer does not sync: an answer that a crash tears reads as none.
func (d *Disk) SetAnswer(req goproxy.Request, a Answer) error {
	name, err := answerName(req)
	if err != nil {
		return err
	}
	data, err := formatAnswer(name, a)
	if err == nil {
		err = d.write(answerFile(name), data, false)
	}
	return d.fail("keep the answer to "+req.String(), err)
}

// fileSums are the sha256 that a checksum database's file may have: of its
// content, and of the content before. The sums are written first and the file
// after, and at no instant in between is neither of the two the right one.
type fileSums struct {
	SHA256 []string `json:"sha256"` // newest first
}

var errTorn = errors.New("the file does not agree with its sum")

// readSummed reads a file of a checksum database. The error matches
// fs.ErrNotExist if there is none, and errTorn if it is damaged, or is being
// changed this moment.
func (d *Disk) readSummed(name string) ([]byte, error) {
	data, err := d.root.ReadFile(sumdbDir + "/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		if fi, lerr := d.root.Lstat(sumdbDir + "/" + name); lerr == nil && fi.IsDir() {
			return nil, fs.ErrNotExist
		}
		return nil, err
	}
	sums, err := readSmall(d.root, recordName(sumdbDir+"/"+name), maxRecord)
	if err != nil {
		return nil, err
	}
	var s fileSums
	if unseal(sums, &s) != nil || !slices.Contains(s.SHA256, sha256Hex(data)) {
		return nil, errTorn
	}
	return data, nil
}

func (d *Disk) ReadFile(name string) ([]byte, error) {
	if err := checkFileName(name); err != nil {
		return nil, err
	}
	data, err := d.readSummed(name)
	if errors.Is(err, errTorn) {
		if unlock, lerr := d.lock(name); lerr == nil {
			defer unlock()
		}
		data, err = d.readSummed(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errTorn):
		return nil, notStored(name)
	case err != nil:
		return nil, d.cannotTell(name, err)
	}
	return data, nil
}

func (d *Disk) WriteFile(name string, data []byte) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	return d.fail("write "+name, d.change(name, func([]byte) error { return nil }, data, false))
}

// SwapFile syncs, other than WriteFile: the head of a database's tree is the one
// file there that cannot be fetched again as it was.
func (d *Disk) SwapFile(name string, old, new []byte) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	return d.fail("write "+name, d.change(name, func(now []byte) error {
		if !bytes.Equal(now, old) {
			return errSwap(name)
		}
		return nil
	}, new, true))
}

// change writes data to a file of a checksum database, if may agrees with what
// is there.
func (d *Disk) change(name string, may func(now []byte) error, data []byte, durable bool) error {
	if _, err := d.ready(); err != nil {
		return err
	}
	unlock, err := d.lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := d.readSummed(name)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errTorn) {
		return err
	}
	if err := may(now); err != nil {
		return err
	}
	if there && bytes.Equal(now, data) {
		return nil
	}
	db, _, _ := strings.Cut(name, "/")
	if supported := db + "/supported"; name != supported {
		if _, err := d.root.Lstat(sumdbDir + "/" + supported); errors.Is(err, fs.ErrNotExist) {
			if err := d.writeSummed(supported, nil, nil, false, false); err != nil {
				return err
			}
		}
	}
	return d.writeSummed(name, now, data, there, durable)
}

func (d *Disk) writeSummed(name string, now, data []byte, there, durable bool) error {
	s := fileSums{[]string{sha256Hex(data)}}
	if there {
		s.SHA256 = append(s.SHA256, sha256Hex(now))
	}
	sums, err := seal(s)
	if err != nil {
		return err
	}
	file := sumdbDir + "/" + name
	if err := d.write(recordName(file), sums, durable); err != nil {
		return err
	}
	if err := d.write(file, data, durable); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	return errors.Join(syncDir(d.root, path.Dir(recordName(file))), syncDir(d.root, path.Dir(file)))
}
