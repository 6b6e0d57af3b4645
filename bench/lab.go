//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startBudget = 30 * time.Second // for a server to answer
	stopBudget  = 5 * time.Second  // for a server to end when asked to
	// userHz is the unit of the times in /proc/PID/stat, the same on every
	// architecture that Go runs on.
	userHz = 100
)

// A lab is where a run happens: a temporary directory, and what must be gone when
// the run ends. Only close is meant for another goroutine than the run's own.
type lab struct {
	dir      string
	progress io.Writer
	seq      int
	undo     []func()
}

func newLab(progress io.Writer) (*lab, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-*")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the run, for which TMPDIR must name one with room: %w", err)
	}
	// The workers of nginx are another user where the harness is root.
	return &lab{dir: dir, progress: progress}, os.Chmod(dir, 0o755)
}

// mark and release bound a part of the run: release ends what was begun since.
func (l *lab) mark() int { return len(l.undo) }

func (l *lab) release(mark int) {
	for len(l.undo) > mark {
		last := l.undo[len(l.undo)-1]
		l.undo = l.undo[:len(l.undo)-1]
		last()
	}
}

func (l *lab) later(f func()) { l.undo = append(l.undo, f) }

// close ends everything and removes the directory.
func (l *lab) close() error {
	l.release(0)
	return removeAll(l.dir)
}

func (l *lab) say(format string, a ...any) { fmt.Fprintf(l.progress, "bench: "+format+"\n", a...) }

// path is a new name in the directory.
func (l *lab) path(name string) string {
	l.seq++
	return filepath.Join(l.dir, fmt.Sprintf("%03d-%s", l.seq, name))
}

// mkdir makes a directory that is removed by release.
func (l *lab) mkdir(name string) (string, error) {
	dir := l.path(name)
	l.later(func() { removeAll(dir) })
	return dir, os.MkdirAll(dir, 0o755)
}

// removeAll removes a directory even where something in it may not be written.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(name, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// freeAddr is a loopback address that nobody listens at.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// ownGroup makes a command the leader of a process group, which ends with its
// context and does not outlive the harness.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = stopBudget
}

// A process is a server that runs.
type process struct {
	name string
	url  string
	cmd  *exec.Cmd
	log  string // file with what it said
	done chan struct{}
	once sync.Once
}

// start starts a server and waits until it answers at url + path with any status
// below 500. It ends when it is stopped, or with the part of the run that began it.
func (l *lab) start(ctx context.Context, name, url, path string, argv, env []string) (*process, error) {
	p := &process{name: name, url: url, log: l.path(name + ".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = env, out, out, l.dir
	ownGroup(p.cmd)
	p.cmd.Cancel = nil
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	l.later(p.stop)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(startBudget); ; {
		resp, err := client.Get(url + path)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 500 {
				return p, nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("%s ended before it answered; it said: %s", name, p.said())
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not answer at %s after %v (%v); it said: %s", name, url, startBudget, err, p.said())
		}
	}
}

// said is the end of what the process has said.
func (p *process) said() string {
	data, _ := os.ReadFile(p.log)
	return lastLines(string(data), 5)
}

// stop asks the process to end, and does not take no for an answer.
func (p *process) stop() {
	p.once.Do(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(stopBudget):
		}
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // and what it left behind
		<-p.done
		os.Remove(p.log)
	})
}

// cpu is the processor time that the process group has used so far: user and
// system time of every process that is still there.
func (p *process) cpu() (time.Duration, error) {
	var ticks int64
	err := p.each(func(pid string, stat []string) error {
		for _, field := range stat[11:13] { // utime and stime
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return err
			}
			ticks += n
		}
		return nil
	})
	return time.Duration(ticks) * time.Second / userHz, err
}

// each calls f for every process of the group with the fields of its stat behind
// the name, of which the first is the state.
func (p *process) each(f func(pid string, stat []string) error) error {
	group := strconv.Itoa(p.cmd.Process.Pid)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // gone meanwhile
		}
		// The name is in brackets and may have spaces and brackets in it.
		_, rest, _ := bytes.Cut(data, []byte(" ("))
		fields := strings.Fields(string(rest[bytes.LastIndexByte(rest, ')')+1:]))
		if len(fields) < 13 || fields[2] != group {
			continue
		}
		found = true
		if err := f(e.Name(), fields); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s is no longer there; it said: %s", p.name, p.said())
	}
	return nil
}

// memory is the resident memory of the process, now and at most, in bytes.
func (p *process) memory() (now, peak int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for l := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(l, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("%s has no memory any more; it said: %s", p.name, p.said())
	}
	return now, peak, nil
}

// command runs a program to its end and returns how long it took. What it says is
// in the error.
func command(ctx context.Context, dir string, env []string, argv ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var said tail
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, io.Discard, &said
	ownGroup(cmd)
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastLines(string(said), 8))
	}
	return took, err
}

// jiffies are the processors' time since the machine began, all of it and what was
// nobody's, in ticks.
func jiffies() (all, idle int64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return parseJiffies(line)
}

// onlineProcessors is how many processors the first line of /proc/stat is about,
// whichever this program may use.
func onlineProcessors() (n int, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "cpu") && name != "cpu" {
			n++
		}
	}
	if n == 0 {
		return 0, errors.New("/proc/stat names no processor")
	}
	return n, nil
}

// parseJiffies reads the first line of /proc/stat (proc_stat(5)): what guests had is
// in what users had.
func parseJiffies(line string) (all, idle int64, err error) {
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, field := range f[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat begins with %q: %w", line, err)
		}
		if all += n; i == 3 || i == 4 { // idle, and idle but for a disk
			idle += n
		}
	}
	return all, idle, nil
}

// A tail keeps the end of what is written.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	const most = 8 << 10
	*t = append(*t, p...)
	if len(*t) > 2*most {
		*t = append((*t)[:0], (*t)[len(*t)-most:]...)
	}
	return len(p), nil
}
