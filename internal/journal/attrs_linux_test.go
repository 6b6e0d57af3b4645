package journal

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A file system may list what nobody can set, as NFS does its access control list and a
// system with labels its own.
func TestOnlyAnAttributeThatIsTheUsersStopsAChangeIfItCannotBeKept(t *testing.T) {
	for _, x := range []struct {
		name string
		get  error // from the file
		has  string
		set  error
		lost bool // and the change is refused
	}{
		{name: "user.note"},
		{name: "user.note", set: unix.ENOSPC, lost: true},
		{name: "user.note", get: unix.EIO, lost: true},
		{name: "user.note", get: unix.ENODATA},
		{name: "user.note", set: unix.ENOTSUP, has: "value"},
		{name: "system.posix_acl_access", set: unix.EOPNOTSUPP, lost: true},
		{name: "security.selinux", set: unix.EPERM},
		{name: "security.capability", get: unix.EPERM},
		{name: "trusted.overlay.opaque", set: unix.EPERM},
		{name: "system.nfs4_acl", set: unix.EOPNOTSUPP},
		{name: "system.nfs4_acl", set: unix.EINVAL},
		{name: "system.cifs_acl", get: unix.EACCES},
		{name: "btrfs.compression", set: unix.EINVAL},
		{name: "ceph.file.layout", set: unix.EINVAL},
	} {
		got := map[string]string{}
		get := func(file, name string) ([]byte, error) {
			switch {
			case name == "user.last" && file == "env":
				return []byte("value"), nil
			case file == "env":
				return []byte("value"), x.get
			case name == x.name && x.has != "":
				return []byte(x.has), nil
			}
			return nil, unix.ENODATA
		}
		set := func(file, name string, value []byte) error {
			if name == x.name && x.set != nil {
				return x.set
			}
			got[file+" "+name] = string(value)
			return nil
		}
		// What comes after one that cannot be kept is kept.
		err := carryAttrs([]string{x.name, "user.last"}, "temp", "env", get, set)
		if x.lost != (err != nil) || err != nil && !strings.Contains(err.Error(), "its attribute "+x.name+" would be lost: ") {
			t.Errorf("%+v: %v", x, err)
		}
		if want := x.get == nil && x.set == nil && x.has == ""; want != (got["temp "+x.name] == "value") {
			t.Errorf("%+v: set is %v", x, got)
		}
		if err == nil && got["temp user.last"] != "value" {
			t.Errorf("%+v: the one after it was not set: %v", x, got)
		}
	}
}
