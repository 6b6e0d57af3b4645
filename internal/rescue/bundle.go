package rescue

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxBundle is how much of an archive is unpacked, in bytes and files. The tree of a
// large company is smaller.
const (
	maxBundle      = 64 << 30
	maxBundleFiles = 4 << 20
)

// ErrNoModules says that a bundle has no module files.
var ErrNoModules = errors.New("there are no module files in it, such as EXAMPLE.COM/MODULE/@v/VERSION.zip")

// Unpack unpacks an archive of a GOPROXY tree (zip, tar, or tar.gz, told apart by what is
// in it) into the directory dir, which is there and empty. Only plain files are taken; a
// name that would lead out of dir is an error. What is in the files is for others to
// verify.
func Unpack(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacking{ctx: ctx, root: root, bytes: maxBundle, files: maxBundleFiles}
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is empty, or cannot be read: %w", err)
	}
	head = head[:n]
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK")):
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return u.zip(f, info.Size())
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			return fmt.Errorf("it begins as gzip does, and is none: %w", err)
		}
		return u.tar(z)
	}
	return u.tar(f)
}

type unpacking struct {
	ctx          context.Context
	root         *os.Root
	bytes, files int64 // that may still come
}

func (u *unpacking) zip(r io.ReaderAt, size int64) error {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return fmt.Errorf("it begins as a zip does, and is none: %w", err)
	}
	for _, zf := range z.File {
		if !zf.Mode().IsRegular() {
			continue
		}
		body, err := zf.Open()
		if err != nil {
			return fmt.Errorf("%q in it: %w", zf.Name, err)
		}
		err = u.file(zf.Name, body)
		body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacking) tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no zip, tar or tar.gz that is whole: %w", err)
		}
		if h.Typeflag == tar.TypeReg {
			if err := u.file(h.Name, t); err != nil {
				return err
			}
		}
	}
}

// file unpacks one file.
func (u *unpacking) file(name string, body io.Reader) error {
	if err := context.Cause(u.ctx); err != nil {
		return err
	}
	local, err := filepath.Localize(path.Clean(name))
	if err != nil {
		return fmt.Errorf("%q in it is no name of a file below it", name)
	}
	if u.files--; u.files < 0 {
		return fmt.Errorf("it has more than %d files", int64(maxBundleFiles))
	}
	if err := u.root.MkdirAll(filepath.Dir(local), 0o777); err != nil {
		return err
	}
	f, err := u.root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(body, u.bytes+1))
	if u.bytes -= n; err == nil && u.bytes < 0 {
		err = fmt.Errorf("it has more than %d GiB", int64(maxBundle>>30))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%q in it: %w", name, err)
	}
	return nil
}

// TreeIn is the GOPROXY tree in dir: dir itself, a module cache's in it, or that in the
// only directory of it. The error is ErrNoModules where there is none.
func TreeIn(dir string) (string, error) {
	for range 3 {
		for _, in := range []string{"cache/download", "pkg/mod/cache/download", "."} {
			if tree := filepath.Join(dir, filepath.FromSlash(in)); hasModules(tree) && (in != "." || !wraps(tree)) {
				return tree, nil
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "", err
		}
		if len(entries) != 1 || !entries[0].IsDir() {
			break
		}
		dir = filepath.Join(dir, entries[0].Name())
	}
	return "", ErrNoModules
}

// wraps reports whether all that dir has is one directory that cannot be the beginning
// of a module path, since it has no dot.
func wraps(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 1 && entries[0].IsDir() && !strings.Contains(entries[0].Name(), ".")
}

// hasModules reports whether there is a directory @v somewhere below dir.
func hasModules(dir string) bool {
	found := false
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // what cannot be read is no evidence
		case d.IsDir() && d.Name() == "@v":
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}
