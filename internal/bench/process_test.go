package bench

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

// With mirrorOf in its environment, the test binary is a mirror of the source at that
// URL, which misbehaves as mirrorFault says.
const (
	mirrorOf    = "SLUICE_TEST_MIRROR_OF"
	mirrorFault = "SLUICE_TEST_MIRROR_FAULT"
)

func TestMain(m *testing.M) {
	if of := os.Getenv(mirrorOf); of != "" {
		if err := beMirror(of, os.Getenv(mirrorFault)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beMirror serves at a port of its own, which it prints, until its stdin ends. The faults
// are separated by spaces, and each meets every request; but behind a number n, each n'th
// request meets one of them in turn.
func beMirror(of, fault string) error {
	u, err := url.Parse(of)
	if err != nil {
		return err
	}
	silent := log.New(io.Discard, "", 0)
	var h http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, ErrorLog: silent}
	words := strings.Fields(fault)
	if len(words) > 0 {
		if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
			pick, err := everyNth(n, words[1:])
			if err != nil {
				return err
			}
			h, words = faults.Handler(h, pick), nil
		}
	}
	for _, w := range words {
		f, err := faults.Parse(w)
		if err != nil {
			return err
		}
		h = faults.Handler(h, faults.Always(f))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + ln.Addr().String())
	srv := &http.Server{Handler: h, ErrorLog: silent}
	go srv.Serve(ln)
	io.Copy(io.Discard, os.Stdin) // which ends with the test, however that ends
	return srv.Close()
}

// addProcess adds a mirror of the source that is a process of its own; kill ends it.
func (s *scene) addProcess(name, source, fault string) (kill func()) {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), mirrorOf+"="+source, mirrorFault+"="+fault)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.t.Fatalf("the mirror that is %s did not begin: %v", name, err)
	}
	s.addAt(name, strings.TrimSpace(line), nil)
	return func() {
		cmd.Process.Kill()
		cmd.Process.Wait()
	}
}

// TestTheRankingAndEveryVerdictAreRightOfMirrorsThatAreProcesses measures the six of
// ranking as processes of their own, over real connections and in real time, however
// busy the machine is.
func TestTheRankingAndEveryVerdictAreRightOfMirrorsThatAreProcesses(t *testing.T) {
	for n := range runsOf(1) {
		lie, death, stale, loss := lies[n%len(lies)], deaths[n%len(deaths)], stales[n%len(stales)], losses[n%len(losses)]
		t.Run(fmt.Sprintf("run %d: %s, %s, %s, %v", n, lie, death, stale, loss), func(t *testing.T) {
			s := newScene(t)
			s.plan.Rounds = 2
			source := modtest.Serve(t, s.world.Handler())
			fault := map[string]string{
				"good": "hang=1ms", "slow": "zip:drip=1000000 hang=150ms", "stale": stale, "lying": lie, "dead": death,
				"lossy": "4 " + strings.Join(loss, " "),
			}
			if death == killed {
				fault["dead"] = ""
			}
			for _, i := range rand.Perm(len(ranking)) {
				kill := s.addProcess(ranking[i], source.URL, fault[ranking[i]])
				if ranking[i] == "dead" && death == killed {
					kill()
				}
			}
			judged(t, s.run())
		})
	}
}
