//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

// raceOptions are those of the programs that the scripts run, where the tests are built
// with the race detector: with its own, each of some thousand would sleep for a second
// before it ends, in case that a goroutine does something yet.
const raceOptions = "atexit_sleep_ms=10"

func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", raceOptions)
	}
	testscript.Main(m, map[string]func(){
		"sluice": func() { os.Exit(start()) },
		"get":    func() { os.Exit(get(os.Args[1:])) },
	})
}

// get is a script's HTTP client: get [-I] [-H 'NAME: VALUE']... URL prints the body (of
// a zip, its size) on stdout, and status and headers on stderr; it fails unless the status is 200.
func get(args []string) int {
	method := http.MethodGet
	header := http.Header{}
	for len(args) > 1 {
		switch args[0] {
		case "-I":
			method, args = http.MethodHead, args[1:]
		case "-H":
			k, v, _ := strings.Cut(args[1], ":")
			header.Add(k, strings.TrimSpace(v))
			args = args[2:]
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, args[0], nil)
	if err == nil {
		req.Header = header
		var resp *http.Response
		if resp, err = http.DefaultTransport.RoundTrip(req); err == nil {
			defer resp.Body.Close()
			fmt.Fprintln(os.Stderr, resp.Status)
			resp.Header.Write(os.Stderr)
			if resp.Header.Get("Content-Type") == "application/zip" {
				var n int64
				n, err = io.Copy(io.Discard, resp.Body)
				fmt.Printf("a zip of %d bytes\n", n)
			} else {
				_, err = io.Copy(os.Stdout, resp.Body)
			}
			if err == nil && resp.StatusCode != http.StatusOK {
				return 1
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// scriptPatience is the longest that a script waits for anything. It is no measure of
// anything: it only ends what would not end.
const scriptPatience = 2 * time.Minute

// TestScripts runs whole journeys: the program, the real go command, and a world
// of modules that misbehaves when told to.
func TestScripts(t *testing.T) {
	modtest.HearSignals()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "outside":
				return outside() != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"app":     cmdApp,
			"big":     cmdBig,
			"fault":   cmdFault,
			"forget":  cmdForget,
			"hits":    cmdHits,
			"need":    cmdNeed,
			"ready":   cmdReady,
			"signal":  cmdSignal,
			"source":  cmdSource,
			"status":  cmdStatus,
			"sumdb":   cmdSumDB,
			"tree":    cmdTree,
			"waitfor": cmdWaitFor,
			"wipe":    cmdWipe,
		},
	})
}

// A scene is the world of one script.
type scene struct {
	t      testing.TB
	world  *modtest.World
	db     *modtest.SumDB
	source *modtest.Server
	sumdb  *modtest.Server
	fault  faults.Switch
	asked  modtest.Requests // of the source, with the fault's name before it if that is in the URL
}

// setUp makes a script's world, and the environment of a user who has set
// nothing but where modules come from:
//
//	GOPROXY, SOURCE  the source
//	FAULTS           the same behind faults.ByPath: $FAULTS/zip:cut
//	DEAD             an address that refuses connections
//	HOLE             an address that accepts them and never answers
//	TLS              the source behind a certificate that nobody knows
//	OUTSIDE          the source at an address that is no loopback one, if there is one
//	SLUICE           the program's file, for where there is no PATH
//	PLAIN            a prefix by which a command of root obeys permissions
//	GOSUMDB          the key of its checksum database, which only Sluice knows where
//	                 to ask (SLUICE_GOSUMDB)
func setUp(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("scripts are run by TestScripts")
	}
	s := &scene{t: t, world: scriptWorld(t)}
	// Who goes past Sluice to the database itself finds nothing there, and asks no
	// name server.
	s.db = s.world.SumDB("127.0.0.1")
	s.world.Mount(s.db)
	handler := s.world.Handler()
	s.source = modtest.Serve(t, s.asked.Count(faults.Handler(handler, s.fault.Pick)))
	s.sumdb = modtest.Serve(t, s.db)
	byPath := modtest.Serve(t, s.asked.Count(faults.ByPath(handler)))
	dead := modtest.Serve(t, http.NotFoundHandler())
	dead.Stop()
	if ip := outside(); ip != "" {
		ln, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: handler}
		served := make(chan struct{})
		go func() {
			defer close(served)
			srv.Serve(ln)
		}()
		env.Defer(func() {
			srv.Close()
			<-served
		})
		env.Setenv("OUTSIDE", "http://"+ln.Addr().String())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	swallowed := make(chan struct{})
	go func() {
		defer close(swallowed)
		faults.BlackHole(ctx, ln)
	}()
	env.Defer(func() {
		stop()
		<-swallowed
	})
	for _, kv := range modtest.GoEnv(t, s.source.URL, s.db.GOSUMDB("")) {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "PATH", "TMPDIR": // the script's own, where sluice is
			continue
		case "HOME", "USERPROFILE", "XDG_CONFIG_HOME", "GOPATH", "GOMODCACHE":
			home := filepath.Join(env.WorkDir, ".home")
			v = map[string]string{
				"XDG_CONFIG_HOME": filepath.Join(home, ".config"), "GOPATH": filepath.Join(home, "go"), "GOMODCACHE": filepath.Join(home, "go", "pkg", "mod"),
			}[k]
			if v == "" {
				v = home
			}
		}
		env.Setenv(k, v)
	}
	for k, v := range map[string]string{
		"SOURCE": s.source.URL, "FAULTS": byPath.URL, "DEAD": dead.URL, "TLS": modtest.ServeH2TLS(t, handler).URL, "HOLE": "http://" + ln.Addr().String(), "SLUICE_GOSUMDB": s.db.GOSUMDB(s.sumdb.URL),
		"STORE": filepath.Join(env.WorkDir, ".home", ".cache", "sluice"),
	} {
		env.Setenv(k, v)
	}
	for dir := range strings.SplitSeq(env.Getenv("PATH"), string(filepath.ListSeparator)) {
		if _, err := os.Stat(filepath.Join(dir, "sluice")); err == nil {
			env.Setenv("SLUICE", filepath.Join(dir, "sluice"))
			break
		}
	}
	env.Setenv("GORACE", os.Getenv("GORACE"))
	env.Values[sceneKey{}] = s
	if setpriv, err := exec.LookPath("setpriv"); err == nil && os.Getuid() == 0 {
		env.Setenv("PLAIN", setpriv+" --bounding-set=-dac_override,-dac_read_search --inh-caps=-all")
	}
	mode := filepath.Join(env.WorkDir, ".home", ".config", "go", "telemetry", "mode")
	if err := os.MkdirAll(filepath.Dir(mode), 0o777); err != nil {
		return err
	}
	return os.WriteFile(mode, []byte("off"), 0o666)
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// app DIR makes a program that needs example.com/hello, with its go.sum.
func cmdApp(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "app DIR")
	s := sceneOf(ts)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o777))
	ts.Check(writeApp(s.world, dir))
}

// scriptWorld has the modules of the scripts.
func scriptWorld(t testing.TB) *modtest.World {
	t.Helper()
	data, err := os.ReadFile("testdata/world.txtar")
	if err != nil {
		t.Fatal(err)
	}
	w := modtest.New(t)
	_, modules, _ := strings.Cut(string(data), "\n\n") // the text above is for readers
	w.AddTxtar(modules)
	return w
}

// writeApp writes the program of app into a directory that is there.
func writeApp(w *modtest.World, dir string) error {
	sum := ""
	for _, m := range []module.Version{{Path: "example.com/Upper", Version: "v0.3.0"}, {Path: "example.com/dep", Version: "v1.2.0"}, {Path: "example.com/hello", Version: "v1.0.0"}} {
		sum += w.GoSum(m)
	}
	for name, text := range map[string]string{
		"go.mod":  "module app.example\n\ngo 1.21\n\nrequire example.com/hello v1.0.0\n\nrequire (\n\texample.com/Upper v0.3.0 // indirect\n\texample.com/dep v1.2.0 // indirect\n)\n",
		"go.sum":  sum,
		"main.go": "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.com/hello\"\n)\n\nfunc main() { fmt.Println(hello.Hello()) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// big BYTES adds example.com/big@v1.0.0 to the world, with a zip of that size.
func cmdBig(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "big BYTES")
	n, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	sceneOf(ts).world.Big("example.com/big", "v1.0.0", n)
}

// fault NAME spoils the source; fault none ends that.
func cmdFault(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "fault NAME")
	f, err := faults.Parse(args[0])
	ts.Check(err)
	sceneOf(ts).fault.Set(f)
}

// forget makes the source forget what it was asked for, as far as hits counts it.
func cmdForget(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "forget")
	sceneOf(ts).asked.Forget()
}

// hits N PATH checks how often the source was asked for what begins with PATH;
// hits -wait N PATH waits until it was at least so often.
func cmdHits(ts *testscript.TestScript, neg bool, args []string) {
	wait := len(args) > 0 && args[0] == "-wait"
	if wait {
		args = args[1:]
	}
	usage(ts, neg, args, 2, "hits [-wait] N PATH")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	q := &sceneOf(ts).asked
	for end := time.Now().Add(scriptPatience); wait && q.HitsPrefix(args[1]) < want && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if got := q.HitsPrefix(args[1]); got < want || got > want && !wait {
		ts.Fatalf("the source was asked %d times for %s, not %d times; it was asked for\n%s", got, args[1], want, strings.Join(q.Log(), "\n"))
	}
}

// need WHAT skips the script, or fails it in a strict run, unless WHAT is here:
// a program, or root.
func cmdNeed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "need WHAT")
	_, err := exec.LookPath(args[0])
	modtest.Need(sceneOf(ts).t, args[0], err == nil || args[0] == "root" && os.Getuid() == 0)
}

// ready LOG waits until the server that logs there serves, and sets PROXY to its
// URL and ADDR to its address.
func cmdReady(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "ready LOG")
	m := waitFor(ts, args[0], regexp.MustCompile(`msg=serving url=http://(\S+)`))
	ts.Setenv("ADDR", m[1])
	ts.Setenv("PROXY", "http://"+m[1])
}

// waitfor FILE REGEXP waits until the file has a match.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "waitfor FILE REGEXP")
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	waitFor(ts, args[0], re)
}

func waitFor(ts *testscript.TestScript, file string, re *regexp.Regexp) []string {
	var data []byte
	for end := time.Now().Add(scriptPatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		data, _ = os.ReadFile(ts.MkAbs(file))
		if m := re.FindStringSubmatch(string(data)); m != nil {
			return m
		}
	}
	ts.Fatalf("%s did not get a match of %v within %v; it has\n%s", file, re, scriptPatience, data)
	return nil
}

// signal NAME WORD sends a signal to the background commands with WORD in them.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "signal NAME WORD")
	sig, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	sent := false
	for _, cmd := range ts.BackgroundCmds() {
		if strings.Contains(strings.Join(cmd.Args, " "), args[1]) {
			if args[0] == "STOP" { // else whoever waits for its end waits for ever
				ts.Defer(func() { cmd.Process.Signal(syscall.SIGCONT) })
			}
			ts.Check(cmd.Process.Signal(sig))
			sent = true
		}
	}
	if !sent {
		ts.Fatalf("no background command has %q in it", args[1])
	}
}

// source stop|start takes the source off the network, or brings it back.
func cmdSource(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "source stop|start")
	switch s := sceneOf(ts); args[0] {
	case "stop":
		s.source.Stop()
		s.sumdb.Stop()
	case "start":
		s.source.Start()
		s.sumdb.Start()
	default:
		ts.Fatalf("source stop or source start")
	}
}

// status N COMMAND... runs a command, which must exit with status N.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s exited with status %d, not %s", args[1], got, args[0])
	}
}

// sumdb hang|answer makes the checksum database keep everybody waiting, or answer
// again.
func cmdSumDB(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "sumdb hang|answer")
	switch args[0] {
	case "hang", "answer":
		sceneOf(ts).db.Hang(args[0] == "hang")
	default:
		ts.Fatalf("sumdb hang or sumdb answer")
	}
}

// tree DIR writes the world as a GOPROXY tree.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "tree DIR")
	sceneOf(ts).world.WriteTree(ts.MkAbs(args[0]))
}

// outside is an address of this machine that is no loopback one; "" if there is none.
func outside() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// wipe removes the module cache.
func cmdWipe(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "wipe")
	ts.Check(os.RemoveAll(ts.Getenv("GOMODCACHE")))
}

func usage(ts *testscript.TestScript, neg bool, args []string, n int, text string) {
	if neg || len(args) != n || slices.Contains(args, "") {
		ts.Fatalf("usage: %s", text)
	}
}
