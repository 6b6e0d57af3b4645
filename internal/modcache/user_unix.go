//go:build unix

package modcache

import (
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// A user is who has to be able to use a cache.
type user struct {
	all    bool // may do everything
	uid    int
	groups []int
}

// userOf is who has to be able to use the cache that has fi as its directory: whoever
// runs this program, or where owner is asked for and root runs it, its owner. What root
// makes is the owner's either way.
func userOf(fi fs.FileInfo, owner bool) user {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if euid := os.Geteuid(); !ok || euid != 0 {
		groups, _ := os.Getgroups()
		return user{all: !ok, uid: euid, groups: append(groups, os.Getegid())}
	}
	return user{all: st.Uid == 0 || !owner, uid: int(st.Uid), groups: []int{int(st.Gid)}}
}

// may reports whether the user has the permissions (of 7) for a file.
func (u user) may(fi fs.FileInfo, perm fs.FileMode) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	has := fi.Mode().Perm()
	switch {
	case u.all || !ok:
		return true
	case int(st.Uid) == u.uid:
		has >>= 6
	case slices.Contains(u.groups, int(st.Gid)):
		has >>= 3
	}
	return has&perm == perm
}

// owns reports whether the file is the user's.
func (u user) owns(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return u.all || !ok || int(st.Uid) == u.uid
}

// give makes a file that root has made the user's.
func (u user) give(name string) error {
	if u.uid == 0 || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(name, u.uid, u.groups[0])
}

// id is the user's number.
func (u user) id() int { return u.uid }
