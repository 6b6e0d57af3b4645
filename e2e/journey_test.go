//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/modsluice/sluice/internal/modtest"
)

const graphSize = 60 // modules

// newGraph is a source with modules that need each other: each imports up to
// three of those after it, some in an older version than others want, some from
// the time before graphs were pruned, some with upper case in their path.
func newGraph(t *testing.T) *source {
	w := modtest.New(t)
	rnd := rand.New(rand.NewPCG(60, 60)) // the same graph every time
	path := func(i int) string {
		if i%7 == 0 {
			return fmt.Sprintf("example.com/Graph/M%02d", i)
		}
		return fmt.Sprintf("example.com/graph/m%02d", i)
	}
	for i := graphSize - 1; i >= 0; i-- {
		needs := map[int]bool{}
		for range 3 {
			if i+1 < graphSize {
				needs[i+1+rnd.IntN(min(graphSize-i-1, 12))] = true
			}
		}
		for _, vers := range []string{"v1.0.0", "v1.1.0"} {
			goVersion := "1.21"
			if i%5 == 0 {
				goVersion = "1.16"
			}
			mod := fmt.Sprintf("module %s\n\ngo %s\n\nrequire (\n", path(i), goVersion)
			src := fmt.Sprintf("package p%d\n\nimport (\n", i)
			sum := "1"
			for j := i + 1; j < graphSize; j++ {
				if !needs[j] {
					continue
				}
				want := vers
				if (i+j)%2 == 0 {
					want = "v1.0.0"
				}
				mod += fmt.Sprintf("\t%s %s\n", path(j), want)
				src += fmt.Sprintf("\tp%d %q\n", j, path(j))
				sum += fmt.Sprintf(" + p%d.Size()", j)
			}
			src += fmt.Sprintf(")\n\n// Size counts the ways down from here.\nfunc Size() int { return %s }\n\n// Text is filling.\nconst Text = %q\n", sum, strings.Repeat(vers, rnd.IntN(2000)))
			w.Add(path(i), vers, modtest.Files{"go.mod": mod + ")\n", "p.go": src})
		}
	}
	s := newSource(t, w, nil)
	w.Mount(s.DB)
	return s
}

// newApp is a program that imports the top of the graph, and nobody has tidied yet.
func newApp(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module app.example\n\ngo 1.21\n",
		"main.go":      "package main\n\nimport (\n\t\"fmt\"\n\n\tp0 \"example.com/Graph/M00\"\n\tp1 \"example.com/graph/m01\"\n)\n\nfunc main() { fmt.Println(\"size\", p0.Size()+p1.Size()) }\n",
		"main_test.go": "package main\n\nimport \"testing\"\n\nfunc TestMain_(t *testing.T) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mustGo runs the go command, which must succeed.
func mustGo(t *testing.T, env []string, dir string, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, status := modtest.Go(t, env, dir, args...)
	if status != 0 {
		t.Fatalf("go %s: status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout, stderr
}

// buildAgain is the script of a new client with an empty module cache, verification
// on and no go.sum, which builds and runs the app in the working directory.
const buildAgain = `
set -e
rm -f go.sum
go build -mod=mod -o app .
./app
grep -c example.com/ go.sum
`

func TestABuildThroughAColdServerIsRepeatedFromItsStoreAlone(t *testing.T) {
	src := newGraph(t)
	data := filepath.Join(t.TempDir(), "store")
	app := newApp(t)

	// Cold: tidy asks for lists and latest versions, then build and vet.
	s := serve(t, src.env, data)
	env := modtest.GoEnv(t, s.URL, src.DB.GOSUMDB(""))
	mustGo(t, env, app, "mod", "tidy")
	want, _ := mustGo(t, env, app, "run", ".")
	if !strings.HasPrefix(want, "size ") {
		t.Fatalf("the program printed %q", want)
	}
	if n := strings.Count(read(t, filepath.Join(app, "go.mod")), "example.com/"); n < 30 {
		t.Fatalf("the program needs %d modules only; that is no test", n)
	}
	if n := src.DB.HitsPrefix("lookup/"); n == 0 {
		t.Fatal("the checksum database was asked for nothing, so nothing was verified")
	}
	s.stop(t)
	out, stderr, status := sluice(t, src.env, "", "verify", "--data", data)
	if status != 0 {
		t.Errorf("verify: status %d\n%s%s", status, out, stderr)
	}
	src.Stop()
	goSum := read(t, filepath.Join(app, "go.sum"))

	again := func(t *testing.T, out []byte, err error) {
		t.Helper()
		if err != nil || !bytes.HasPrefix(out, []byte(want)) {
			t.Fatalf("the build is not the same: %v\n%s", err, out)
		}
		for line := range strings.Lines(read(t, filepath.Join(app, "go.sum"))) {
			if !strings.Contains(goSum, line) {
				t.Errorf("go.sum has a line that it had not before: %s", line)
			}
		}
	}
	run := func(t *testing.T, env []string, name string, args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env, cmd.Dir, cmd.WaitDelay = env, app, patience
		out, err := cmd.Output()
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w\n%s", err, e.Stderr)
		}
		return out, err
	}

	t.Run("in a network namespace without routes", func(t *testing.T) {
		modtest.Need(t, "root", os.Getuid() == 0)
		need(t, "unshare", "ip")
		env := modtest.GoEnv(t, "http://127.0.0.1:7070", src.DB.GOSUMDB(""), "SLUICE="+program, "STORE="+data, "LOG="+filepath.Join(t.TempDir(), "log"), "KEY="+src.DB.VKey)
		out, err := run(t, env, "unshare", "-n", "sh", "-c", `
set -e
ip link set lo up
ip route get 192.0.2.1 2>/dev/null && { echo "this namespace has a route"; exit 1; }
"$SLUICE" serve --listen 127.0.0.1:7070 --data "$STORE" --proxy 'http://192.0.2.1:8080|http://192.0.2.2:8080' --gosumdb "$KEY http://192.0.2.1:8081" 2>"$LOG" &
trap "kill $!" EXIT
until grep -q msg=serving "$LOG"; do sleep 0.02; done
`+buildAgain)
		again(t, out, err)
	})

	t.Run("from the tree by a file URL", func(t *testing.T) {
		env := modtest.GoEnv(t, "file://"+data, src.DB.GOSUMDB(""))
		if os.Getuid() == 0 {
			if _, err := exec.LookPath("unshare"); err == nil {
				out, err := run(t, env, "unshare", "-n", "sh", "-c", buildAgain)
				again(t, out, err)
				return
			}
		}
		out, err := run(t, env, "sh", "-c", buildAgain)
		again(t, out, err)
	})

	t.Run("from the tree behind a plain web server", func(t *testing.T) {
		need(t, "nginx")
		addr := nginx(t, data)
		env := modtest.GoEnv(t, "http://"+addr, src.DB.GOSUMDB(""))
		out, err := run(t, env, "sh", "-c", buildAgain)
		again(t, out, err)
	})
}

// holdPort takes a free port and does not listen there, so that nobody else gets it but
// who asks for it with SO_REUSEPORT.
func holdPort(t *testing.T) (addr string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
}

// nginx serves a directory, and nothing else of any kind.
func nginx(t *testing.T, dir string) (addr string) {
	addr = holdPort(t)
	own := t.TempDir()
	conf := filepath.Join(own, "nginx.conf")
	text := "daemon off;\nworker_processes 1;\npid pid;\nerror_log stderr;\nevents { worker_connections 256; }\nhttp {\n\taccess_log off;\n"
	if os.Getuid() == 0 {
		text = "user root;\n" + text // or its worker could not read what is ours
	}
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += fmt.Sprintf("\t%s_temp_path %s;\n", what, what)
	}
	text += fmt.Sprintf("\tserver {\n\t\tlisten %s reuseport;\n\t\troot %s;\n\t}\n}\n", addr, dir)
	if err := os.WriteFile(conf, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	said := newLogBuffer()
	cmd := exec.Command("nginx", "-p", own, "-c", conf)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) // its master then ends the worker
		<-end
	})
	for begun := time.Now(); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr
		}
		if time.Since(begun) > patience {
			t.Fatalf("nginx does not listen: %v; it said\n%s", err, said)
		}
		select {
		case <-end:
			t.Fatalf("nginx has ended: %s", said)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
