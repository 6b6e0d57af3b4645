//go:build unix

package modcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/modsluice/sluice/internal/modtest"
)

func TestOwnersAndPermissionsThatKeepTheUserOutAreMended(t *testing.T) {
	modtest.Need(t, "root", os.Getuid() == 0)
	const uid = 12345
	s, m := one(t)
	err := filepath.WalkDir(s.dir, func(name string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(name, uid, uid)) })
	if err != nil {
		t.Fatal(err)
	}
	c := s.config()
	c.Owner = true
	if r := s.check(c); len(r.Damages) > 0 {
		t.Fatalf("found:\n%s", describe(r.Damages))
	}
	sudo := filepath.Join(s.dir, "cache", "download", "sudo.test")
	write(t, filepath.Join(sudo, "x", "@v", "list"), "")
	write(t, filepath.Join(s.dir, "cache", "lock"), "")
	for _, err := range []error{
		os.Chown(s.at(m, ".lock"), 0, 0), os.Chmod(s.at(m, ".zip"), 0), os.Chmod(s.at(m, ".info"), 0o200), os.Chmod(s.tree(m, "m.go"), 0), os.Chmod(s.tree(m, "sub"), 0),
		os.Chmod(filepath.Dir(s.at(m, "")), 0o555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"denied cache/download/one.test/m/@v", "denied cache/download/one.test/m/@v/v1.0.0.info", "denied cache/download/one.test/m/@v/v1.0.0.lock", "denied cache/download/one.test/m/@v/v1.0.0.zip",
		"denied cache/download/sudo.test", "denied cache/download/sudo.test/x", "denied cache/download/sudo.test/x/@v", "denied cache/download/sudo.test/x/@v/list", "denied cache/lock", "denied one.test/m@v1.0.0"}
	if r := s.check(s.config()); len(r.Damages) > 0 {
		t.Errorf("root itself is kept from nothing, but this was found:\n%s", describe(r.Damages))
	}
	var got []string
	for _, d := range s.check(c).Damages {
		got = append(got, string(d.Kind)+" "+d.File)
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	for _, d := range s.mend(c).Damages {
		if d.Done != Allowed && d.Done != Removed {
			t.Errorf("not mended: %s", describe([]Damage{d}))
		}
	}
	if r := s.check(c); len(r.Damages) > 0 {
		t.Errorf("after mending:\n%s", describe(r.Damages))
	}
	filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, _ error) error {
		if fi, err := d.Info(); err != nil || !(user{uid: uid}).owns(fi) {
			t.Errorf("%s belongs to another user (%v)", name, err)
		}
		return nil
	})
}

// Links to directories on another disk are followed; what belongs to others there stays so.
func TestWhatALinkLeadsToIsNeitherOpenedToAllNorGivenAway(t *testing.T) {
	modtest.Need(t, "root", os.Getuid() == 0)
	const uid = 12345
	s, _ := one(t)
	if err := filepath.WalkDir(s.dir, func(name string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(name, uid, uid)) }); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	system, own := filepath.Join(other, "system"), filepath.Join(other, "own")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(system, "below"), 0o700), os.Mkdir(own, 0o500), os.Chown(own, uid, uid),
		os.Symlink(system, filepath.Join(s.dir, "system.test")), os.Symlink(own, filepath.Join(s.dir, "own.test")),
		os.Lchown(filepath.Join(s.dir, "system.test"), uid, uid), os.Lchown(filepath.Join(s.dir, "own.test"), uid, uid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := s.config()
	c.Owner = true
	if got, want := kinds(s.mend(c)), []string{"denied allowed", "denied failed", "denied failed"}; !slices.Equal(got, want) {
		t.Errorf("done %q, want %q", got, want)
	}
	for name, want := range map[string]fs.FileMode{system: 0o700, filepath.Join(system, "below"): 0o700, own: 0o700} {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if owned := (user{uid: uid}).owns(fi); fi.Mode().Perm() != want || owned != (name == own) {
			t.Errorf("%s is %v now, and the user's: %v", filepath.Base(name), fi.Mode(), owned)
		}
	}
}
