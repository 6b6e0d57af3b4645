package modcache

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// A sum is what a file is known by.
type sum struct {
	hash [sha256.Size]byte
	size int64
}

// contents is what is in a zip that keeps to the rules of module zips.
type contents struct {
	h1    string
	files map[string]sum // by their names in the module
	size  int64          // of all files, in bytes
	goMod *[sha256.Size]byte
}

// A zipError says why a file is not the zip of a module version.
type zipError struct {
	kind Kind
	err  error
}

func (e *zipError) Error() string { return e.err.Error() }
func (e *zipError) Unwrap() error { return e.err }

// readZip reads all of a zip. The error is a *zipError, ctx's, or that of opening it.
func readZip(ctx context.Context, name string, m module.Version) (*contents, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() == 0 {
		return nil, &zipError{ZipDamaged, errors.New("there is nothing in it")}
	}
	z, err := zip.NewReader(f, fi.Size())
	if err != nil {
		return nil, &zipError{ZipDamaged, fmt.Errorf("it is no whole zip: %w", err)}
	}
	prefix := m.Path + "@" + m.Version + "/"
	for _, zf := range z.File {
		if !strings.HasPrefix(zf.Name, prefix) {
			return nil, &zipError{ZipForeign, fmt.Errorf("it has %q, which is no file of this version", short(zf.Name))}
		}
	}
	// The go command extracts nothing that breaks these rules.
	cf, err := modzip.CheckZip(m, name)
	if err == nil {
		err = cf.Err()
	}
	if err != nil {
		return nil, &zipError{ZipForeign, fmt.Errorf("it is no module zip: %w", err)}
	}
	c := &contents{files: map[string]sum{}}
	all := map[string]sum{} // directories too: the hash is of whatever is in a zip
	for _, zf := range z.File {
		name := zf.Name[len(prefix):]
		s, err := hashMember(ctx, zf)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, &zipError{ZipDamaged, fmt.Errorf("%q in it cannot be read: %w", short(name), err)}
		}
		all[name] = s
		if name == "" || strings.HasSuffix(name, "/") {
			continue // nothing is extracted
		}
		c.files[name] = s
		c.size += s.size
		if name == "go.mod" {
			c.goMod = &s.hash
		}
	}
	c.h1 = hash1(all, prefix)
	return c, nil
}

func hashMember(ctx context.Context, zf *zip.File) (s sum, err error) {
	r, err := zf.Open()
	if err != nil {
		return s, err
	}
	defer r.Close()
	return hashAll(ctx, r)
}

func hashAll(ctx context.Context, r io.Reader) (s sum, err error) {
	h := sha256.New()
	s.size, err = io.Copy(h, ctxReader{ctx, r})
	h.Sum(s.hash[:0])
	return s, err
}

// A ctxReader ends with a context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// short is a name from a file that anybody may have made.
func short(name string) string { return name[:min(len(name), 200)] }

// hash1 is dirhash.Hash1 of files whose hashes are known already.
func hash1(files map[string]sum, prefix string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%x  %s%s\n", files[name].hash, prefix, name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// A tree is what is in the directory of an extracted module.
type tree struct {
	files   map[string]sum
	strange []string // names of what is neither a file nor a directory
	denied  []string // files and directories that the user may not read, by their whole names
	shut    []string // names of those that we may not read either
	size    int64
}

func (t *tree) h1(m module.Version) string { return hash1(t.files, m.Path+"@"+m.Version+"/") }

// hidden reports whether a file is not seen because it, or a directory, cannot be read.
func (t *tree) hidden(name string) bool {
	return slices.ContainsFunc(t.shut, func(dir string) bool { return dir == "." || name == dir || strings.HasPrefix(name, dir+"/") })
}

// readTree reads all of a tree. It says errTooMuch if may refuses the size of a file.
// What it has read until an error is there all the same.
func readTree(ctx context.Context, dir string, u user, may func(int64) bool) (*tree, error) {
	t := &tree{files: map[string]sum{}}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, rerr := filepath.Rel(dir, name)
		if rerr != nil {
			return rerr
		}
		rel = filepath.ToSlash(rel)
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				t.shut = append(t.shut, rel)
				return nil
			}
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case fi.IsDir():
			if !u.may(fi, 5) {
				t.denied = append(t.denied, name)
			}
			return nil
		case !fi.Mode().IsRegular():
			t.strange = append(t.strange, rel)
			return nil
		case !u.may(fi, 4):
			t.denied = append(t.denied, name)
		}
		if !may(fi.Size()) {
			return errTooMuch
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrPermission) {
			t.shut = append(t.shut, rel)
			return nil
		}
		if err != nil {
			return err
		}
		s, err := hashAll(ctx, f)
		f.Close()
		t.files[rel] = s
		t.size += s.size
		return err
	})
	return t, err
}

func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }
