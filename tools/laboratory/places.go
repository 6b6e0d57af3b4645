//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
)

// outsideResolver is a name server that no network leads to, as resolv.conf still has it
// where the network is gone.
const outsideResolver = "10.255.255.53"

// unplug takes the only interface away that leads out; plug brings it back, and the name
// server that is behind it.
func (l *lab) unplug() { l.net.Sh("ip link del out") }

func (l *lab) plug() {
	l.wire()
	l.net.Also(outsideResolver)
}

// places are machines without a network, and those on which the go command has no place
// for its files, each with what looks like it and is well.
func places() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	imports := func(l *lab) {
		well(l)
		l.in("app.go", "package app\n\nimport _ \"example.org/m\"\n")
		l.in("go.sum", l.world.GoSum(l.m))
	}
	return []scenario{
		{name: "a2-no-network", rows: "A2 A3", title: "the machine has no network but itself, and resolv.conf names a server outside", planted: one(finding.SourceNoRoute), set: func(l *lab) {
			well(l)
			l.unplug()
			l.net.Resolvers(outsideResolver)
		}, fixes: byHand(finding.SourceNoRoute, "the network is brought up", (*lab).plug)},
		{name: "a2-no-way-out", rows: "A2 A3", title: "the machine has an interface, and no route to the name server outside", planted: one(finding.SourceNoRoute), set: func(l *lab) {
			well(l)
			l.net.Sh("ip route del default dev out")
			l.net.Resolvers(outsideResolver)
		}, fixes: byHand(finding.SourceNoRoute, "the route is there, and the name server behind it", func(l *lab) {
			l.net.Sh("ip route add default dev out")
			l.net.Also(outsideResolver)
		})},
		{name: "a3-alone-and-denied", rows: "A3", title: "the machine has no network but itself, and the resolver on it answers that there is no such name", planted: one(finding.SourceDNS), set: func(l *lab) {
			l.unplug()
			l.net.Also("127.0.0.1")
			l.net.Resolvers("127.0.0.1")
			l.net.Name(badHost)
		}},
		{name: "h-alone", rows: "A2", title: "the machine has no network but itself, and on it is all that it needs, a resolver too", set: func(l *lab) {
			well(l)
			l.unplug()
			l.net.Also("127.0.0.1")
			l.net.Resolvers("127.0.0.1")
		}},

		{name: "a21-no-release", rows: "A21 B1", title: "GOTOOLCHAIN names a release of Go that there is not", planted: one(finding.ToolchainDownload), set: func(l *lab) {
			well(l)
			l.env["GOTOOLCHAIN"] = "go1.99.0"
		}},
		{name: "a21-no-release-in-file", rows: "A21 B1", title: "the same, written with go env -w, by which go env -u itself stops", planted: one(finding.ToolchainDownload), set: func(l *lab) {
			well(l)
			delete(l.env, "GOTOOLCHAIN")
			l.goenv("GOTOOLCHAIN", "go1.99.0")
		}},
		{name: "h-other-release", rows: "A21", title: "GOTOOLCHAIN names another release, which is in PATH", set: func(l *lab) {
			well(l)
			name := "go1.99.0"
			l.Must(os.Chmod(l.file("bin/"+name, "#!/bin/sh\nexport GOTOOLCHAIN=local\nunset GOTOOLCHAIN_INTERNAL_SWITCH_VERSION\nexec go \"$@\"\n"), 0o755))
			l.env["GOTOOLCHAIN"] = name
		}},

		{name: "m-no-home", rows: "E2 D1", title: "HOME is not set, as in a service", planted: one(finding.NoHome), set: func(l *lab) {
			well(l)
			// What the user has by right is what the system says, and not root's own here.
			passwd := filepath.Join(l.TempDir(), "passwd")
			l.Must(os.WriteFile(passwd, []byte("root:x:0:0:root:"+l.home+":/bin/sh\n"), 0o644))
			l.net.Sh("mount --bind " + passwd + " /etc/passwd")
			l.emptyCache()
			delete(l.env, "HOME") // and with it the file of go env -w
			l.env["GOPROXY"], l.env["GOSUMDB"] = "https://"+badHost, l.db.GOSUMDB("")
		}},
		{name: "m-home-read-only", rows: "E2", title: "the home directory is on a file system that is mounted read-only", planted: one(finding.HomeDenied), set: func(l *lab) {
			well(l)
			l.env["TMPDIR"] = l.TempDir()
			l.readOnly(l.home)
		}},
		{name: "m-no-temp", rows: "E2", title: "TMPDIR names a directory that is not there, so nothing can be built", planted: one(finding.TempDenied), check: build, verdict: doctor.Impaired, set: func(l *lab) {
			imports(l)
			l.env["TMPDIR"] = filepath.Join(l.home, "none")
		}},
		{name: "m-project-read-only", rows: "E2 A20", title: "the project is mounted read-only, and go.sum lacks what the go command would add", planted: one(finding.ProjectDenied), set: func(l *lab) {
			well(l)
			l.emptyCache()
			l.in("go.sum", "")
			l.readOnly(l.project)
		}, fixes: byHand(finding.ProjectDenied, "the project is mounted so that it can be written", func(l *lab) { l.net.Sh("mount -o remount,rw,bind " + l.project) })},
		{name: "h-project-read-only", rows: "E2 A20", title: "the project is mounted read-only, and go.sum lacks nothing", set: func(l *lab) {
			imports(l)
			l.emptyCache()
			l.readOnly(l.project)
		}},
		{name: "m-no-locks", rows: "E2", title: "the file system of the module cache has no locks (here: the kernel denies them to go and sluice)", planted: one(finding.NoLocks), set: func(l *lab) {
			well(l)
			l.withoutLocks()
		}, fixes: byHand(finding.NoLocks, "the module cache is put on a file system with locks", func(l *lab) { l.undo() })},
	}
}

// emptyCache makes the module cache there, so that a trial uses it as it is.
func (l *lab) emptyCache() { l.Must(os.MkdirAll(filepath.Join(l.home, "go/pkg/mod"), 0o755)) }

// readOnly mounts a directory so that nobody can write in it.
func (l *lab) readOnly(dir string) {
	l.net.Sh("mount --bind " + dir + " " + dir + " && mount -o remount,ro,bind " + dir)
}

// withoutLocks has go and sluice run where no file can be locked.
func (l *lab) withoutLocks() {
	self, err := os.Executable()
	l.Must(err)
	bin := l.TempDir()
	wrap := func(name, program string) string {
		at := filepath.Join(bin, name)
		l.Must(os.WriteFile(at, []byte(fmt.Sprintf("#!/bin/sh\nexec '%s' -without-locks '%s' \"$@\"\n", self, program)), 0o755))
		return at
	}
	goCmd, err := exec.LookPath("go")
	l.Must(err)
	program, path := l.program, l.env["PATH"]
	wrap("go", goCmd)
	l.program = wrap("sluice", program)
	l.env["PATH"] = bin + ":" + path
	l.undo = func() { l.program, l.env["PATH"] = program, path }
}

// becomeWithoutLocks runs a program in place of this one, for which flock fails as on a
// file system without locks: ENOSYS. It returns only if it cannot.
func becomeWithoutLocks(argv []string) error {
	runtime.LockOSThread() // the filter is this thread's, and that of what it becomes
	stmt := func(code uint16, k uint32, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k}
	}
	filter := []unix.SockFilter{
		stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, 0), // the number of the system call
		stmt(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, uint32(unix.SYS_FLOCK), 0, 1),
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS), 0, 0),
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW, 0, 0),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return fmt.Errorf("a filter of system calls: %w", err)
	}
	return unix.Exec(argv[0], argv, os.Environ())
}
