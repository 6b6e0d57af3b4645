package faults_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

// A front is a Front at a loopback port until its test ends.
type front struct {
	sw   faults.Switch
	addr net.Addr

	mu  sync.Mutex // guards met
	met map[string]int
}

func newFront(t *testing.T, h http.Handler, fault string) *front {
	t.Helper()
	f := &front{met: map[string]int{}}
	f.sw.Set(parse(t, fault))
	server := &faults.Front{Source: h, Fault: &f.sw, Met: func(kind string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.met[kind]++
	}}
	ln, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr()
	serve(t, ln, server.Serve)
	return f
}

func (f *front) count(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.met[kind]
}

// newClient has connections of its own, and trusts nobody.
func newClient(t *testing.T, handshake time.Duration) *http.Client {
	tr := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}, TLSHandshakeTimeout: handshake}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

var addresses = regexp.MustCompile(`(?:127\.0\.0\.1|\[::1\]|localhost):\d+(?:->127\.0\.0\.1:\d+)?|https?://[^/]*|-> ?127\S*`)

// said is an error without what differs from one connection to the next.
func said(err error) string {
	if err == nil {
		return "no error"
	}
	s := addresses.ReplaceAllString(err.Error(), "ADDR")
	s = regexp.MustCompile(`current time \S+ is after \S+`).ReplaceAllString(s, "…")
	return strings.ReplaceAll(s, "localhost", "127.0.0.1")
}

// wireErrors say what a client's error is for each fault of the network.
var wireErrors = map[string]func(error) bool{
	"refused":    func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) && opIs(err, "dial") },
	"black-hole": func(err error) bool { return errors.Is(err, context.Canceled) }, // by a client that has waited
	"slam":       func(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) },
	"dns": func(err error) bool {
		e, ok := errors.AsType[*net.DNSError](err)
		return ok && e.IsNotFound && opIs(err, "dial")
	},
	"dns-lie": func(err error) bool {
		_, ok := errors.AsType[x509.HostnameError](err)
		return ok && certificate(err)
	},
	"tls-unknown-ca": func(err error) bool {
		_, ok := errors.AsType[x509.UnknownAuthorityError](err)
		return ok && certificate(err)
	},
	"tls-expired": func(err error) bool {
		e, ok := errors.AsType[x509.CertificateInvalidError](err)
		return ok && e.Reason == x509.Expired && certificate(err)
	},
	"tls-stall": func(err error) bool {
		return os.IsTimeout(err) && strings.Contains(err.Error(), "net/http: TLS handshake timeout")
	},
	"tls-refused": func(err error) bool {
		_, ok := errors.AsType[tls.AlertError](err)
		return ok || strings.Contains(err.Error(), "remote error: tls: handshake failure")
	},
	"tls-plain": func(err error) bool {
		return strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
	},
}

func opIs(err error, op string) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == op
}

func certificate(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

const zipOfM = "/example.com/m/@v/v1.2.0.zip"

func TestEveryFaultOfTheNetworkIsTheSameBehindAFrontAndInATransport(t *testing.T) {
	w, _ := newWorld(t)
	for _, i := range faults.All() {
		if !i.Wire {
			continue
		}
		t.Run(i.Name, func(t *testing.T) {
			is := wireErrors[i.Name]
			if is == nil {
				t.Fatal("no test of it")
			}
			f := newFront(t, w.Handler(), i.Name)
			handshake := longest
			if i.Waits {
				handshake = patience
			}
			ask := func(c *http.Client, u string) got {
				ctx, cancel := context.WithTimeout(t.Context(), 2*longest)
				defer cancel()
				if i.Name == "black-hole" {
					ctx = written(ctx, cancel)
				}
				return fetchCtx(ctx, t, c, u+zipOfM)
			}
			u := parse(t, i.Name).URL(f.addr)
			real := newClient(t, handshake)
			if i.Name == "dns" {
				// Name servers are not ours to ask in a test.
				tr := real.Transport.(*http.Transport)
				tr.DialContext = (&net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
					return nil, errors.New("no name server")
				}}}).DialContext
				if g := ask(real, u); g.err == nil || !strings.Contains(u, ".invalid:") {
					t.Errorf("at %s: %v", u, g)
				}
			} else if g := ask(real, u); !is(g.err) {
				t.Errorf("behind a front at %s: %v", u, g)
			} else {
				direct := newClient(t, handshake)
				direct.Transport = faults.Transport(direct.Transport, faults.Always(parse(t, i.Name)))
				there := strings.Replace(u, "localhost", "127.0.0.1", 1)
				if have := ask(direct, there); i.Name != "slam" && said(have.err) != said(g.err) && i.Name != "dns-lie" {
					t.Errorf("a transport says\n%s, but a front\n%s", said(have.err), said(g.err))
				}
				// The front may come to a connection after its client has gone.
				for end := time.Now().Add(longest); i.Name != "refused" && f.count("connection") == 0; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("nothing has met the fault")
					}
				}
			}
			for _, scheme := range []string{"http", "https"} {
				next := newClient(t, handshake)
				next.Transport = faults.Transport(next.Transport, faults.Always(parse(t, i.Name)))
				g := ask(next, scheme+"://source.test")
				switch {
				case scheme == "http" && i.Name == "dns-lie":
					if g.status != 200 || !bytes.HasPrefix(g.body, []byte("<!DOCTYPE html>")) {
						t.Errorf("somebody else over http: %v", g)
					}
				case scheme == "http" && strings.HasPrefix(i.Name, "tls-"):
					if g.status != 501 || !strings.Contains(string(g.body), "cannot misbehave as asked") {
						t.Errorf("a fault of TLS without TLS: %v", g)
					}
				case i.Name == "black-hole" && scheme == "https":
					if !strings.Contains(fmt.Sprint(g.err), "TLS handshake timeout") {
						t.Errorf("a handshake with a black hole: %v", g)
					}
				case !is(g.err):
					t.Errorf("in a transport, by %s: %v", scheme, g)
				}
			}
		})
	}
}

func TestWhatAFaultSwallowedIsAnsweredWhenItIsTakenOut(t *testing.T) {
	w, m := newWorld(t)
	for _, fault := range []string{"black-hole", "hang", "hang-body", "drip", "slow-list=1h", "refused", "endless"} {
		t.Run(fault, func(t *testing.T) {
			f := newFront(t, w.Handler(), fault)
			path, want := zipOfM, string(w.Zip(m))
			if fault == "slow-list=1h" {
				path, want = "/example.com/m/@latest", string(w.Info(m))
			}
			answer := make(chan got, 1)
			go func() { answer <- fetch(t, newClient(t, longest), "http://"+f.addr.String()+path) }()
			if fault == "refused" {
				if g := <-answer; !errors.Is(g.err, syscall.ECONNREFUSED) {
					t.Errorf("while it is in: %v", g)
				}
				f.sw.Clear()
				for end := time.Now().Add(longest); ; {
					g := fetch(t, newClient(t, longest), "http://"+f.addr.String()+path)
					if g.err == nil || time.Now().After(end) {
						answer <- g
						break
					}
				}
			} else {
				for f.count("zip")+f.count("latest")+f.count("connection") == 0 {
					time.Sleep(time.Millisecond)
				}
				f.sw.Clear()
			}
			g := <-answer
			if fault == "endless" { // what has been sent cannot be taken back
				if g.err == nil {
					t.Errorf("%v", g)
				}
			} else if g.err != nil || string(g.body) != want {
				t.Errorf("when it is over: %v", g)
			}
			if g := fetch(t, newClient(t, longest), "http://"+f.addr.String()+path); string(g.body) != want {
				t.Errorf("afterwards: %v", g)
			}
			f.sw.Set(parse(t, "refused"))
			for end := time.Now().Add(longest); ; {
				c, err := net.Dial("tcp", f.addr.String())
				if errors.Is(err, syscall.ECONNREFUSED) {
					break
				} else if err == nil {
					c.Close()
				}
				if time.Now().After(end) {
					t.Fatalf("connections are still taken: %v", err)
				}
			}
			f.sw.Clear()
		})
	}
}

func TestAFrontCountsWhatMeetsItsFault(t *testing.T) {
	w, _ := newWorld(t)
	f := newFront(t, w.Handler(), "zip:503")
	c := newClient(t, longest)
	for _, p := range []string{zipOfM, "/example.com/m/@v/list", "/example.com/m/@v/v1.2.0.mod"} {
		fetch(t, c, "http://"+f.addr.String()+p)
	}
	f.sw.Set(parse(t, "wrong-mod"))
	for _, p := range []string{zipOfM, "/example.com/m/@v/list", "/example.com/m/@v/v1.2.0.mod"} {
		fetch(t, c, "http://"+f.addr.String()+p)
	}
	f.sw.Set(parse(t, "404"))
	fetch(t, c, "http://"+f.addr.String()+"/favicon.ico")
	f.sw.Set(parse(t, "other-version"))
	fetch(t, c, "http://"+f.addr.String()+"/example.com/single/@v/v1.0.0.zip")
	f.sw.Clear()
	fetch(t, c, "http://"+f.addr.String()+zipOfM)
	if f.mu.Lock(); len(f.met) != 4 || f.met["zip"] != 2 || f.met["impossible"] != 1 || f.met["mod"] != 1 || f.met["other"] != 1 {
		t.Errorf("met: %v", f.met)
	}
	f.mu.Unlock()
}

// comparable is an answer as far as it must be the same each time.
func comparable(g got) string {
	h := g.header.Clone()
	h.Del("Date")
	h.Del("Connection")
	var b bytes.Buffer
	h.Write(&b)
	return fmt.Sprintf("%d, length %d\n%s\n%d bytes: %x\n%s, reset %t, cut %t", g.status, g.length, &b, len(g.body), g.body,
		said(g.err), errors.Is(g.err, syscall.ECONNRESET), errors.Is(g.err, io.ErrUnexpectedEOF))
}

func TestATransportGivesAClientWhatAHandlerGives(t *testing.T) {
	w, _ := newWorld(t)
	source := modtest.Serve(t, http.StripPrefix("/go/proxy", w.Handler()))
	secure := modtest.ServeH2TLS(t, http.StripPrefix("/go/proxy", w.Handler()))
	for _, i := range faults.All() {
		names := []string{i.Example}
		switch i.Name {
		case "drip":
			names = []string{"drip=1000000"}
		case "slow-list":
			names = []string{"slow-list=20ms"}
		case "hang":
			names = []string{"hang", "hang=20ms"}
		case "reset", "cut", "short", "close", "cut-chunked":
			names = append(names, i.Name+"=0%", i.Name+"=100%")
		}
		if i.Wire {
			continue
		}
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				behind := modtest.Serve(t, http.StripPrefix("/go/proxy", faults.Handler(w.Handler(), faults.Always(parse(t, name)))))
				for _, path := range []string{zipOfM, "/example.com/m/@v/list", "/example.com/m/@v/v1.2.0.info", "/example.com/none/@v/list"} {
					for _, hdr := range [][]string{nil, {"Range", "bytes=100-199"}} {
						if hdr != nil && path != zipOfM {
							continue
						}
						ask := func(c *http.Client, base string) got {
							ctx, cancel := context.WithCancel(t.Context())
							defer cancel()
							switch name {
							case "endless", "hang-body":
								return fetchSome(ctx, cancel, t, c, base+"/go/proxy"+path, hdr...)
							case "hang":
								ctx = written(ctx, cancel)
							}
							return fetchCtx(ctx, t, c, base+"/go/proxy"+path, hdr...)
						}
						want := comparable(ask(behind.Client(), behind.URL))
						for _, s := range []*modtest.Server{source, secure} {
							c := s.Client()
							fault := parse(t, name)
							c.Transport = faults.Transport(c.Transport, func(r *http.Request) (faults.Fault, bool) {
								return fault, r.URL.Host == s.Addr // and not where a redirect leads
							})
							if have := comparable(ask(c, s.URL)); have != want {
								t.Errorf("%s at %s, %q: a transport gives\n%.900s\n\na handler\n%.900s", path, s.URL, hdr, have, want)
							}
						}
					}
				}
			})
		}
	}
}

// fetchSome goes away when it has had what can be had of a body: up to half of
// what was announced, or 16 KiB.
func fetchSome(ctx context.Context, cancel func(), t *testing.T, c *http.Client, u string, hdr ...string) got {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(hdr); i += 2 {
		req.Header.Set(hdr[i], hdr[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	body := make([]byte, 16<<10)
	if resp.ContentLength >= 0 {
		body = body[:min(len(body), int(resp.ContentLength/2))]
	}
	if n, err := io.ReadFull(resp.Body, body); err != nil {
		return got{resp.StatusCode, resp.Header, resp.ContentLength, body[:n], err, 0, 1}
	}
	cancel()
	_, err = io.Copy(io.Discard, resp.Body)
	return got{resp.StatusCode, resp.Header, resp.ContentLength, body, err, 0, 1}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestAnErrorBehindATransportStaysAsItIs(t *testing.T) {
	own := errors.New("the error of the true source")
	for _, name := range []string{"cut", "none", "flip", "stale", "slow-list=1ms", "gzip"} {
		c := &http.Client{Transport: faults.Transport(failing{own}, faults.Always(parse(t, name)))}
		if g := fetch(t, c, "http://source.test"+zipOfM); !errors.Is(g.err, own) {
			t.Errorf("%s: %v", name, g)
		}
	}
	w, m := newWorld(t)
	s := modtest.Serve(t, faults.Handler(w.Handler(), faults.Always(parse(t, "cut"))))
	c := s.Client()
	c.Transport = faults.Transport(c.Transport, faults.Always(parse(t, "none")))
	if g := fetch(t, c, s.URL+zipOfM); !errors.Is(g.err, io.ErrUnexpectedEOF) || len(g.body) != len(w.Zip(m))/2 {
		t.Errorf("a body that is cut at the true source: %v", g)
	}
}

func TestATransportSpoilsWhatIsMeantAndLeavesTheRest(t *testing.T) {
	w, m := newWorld(t)
	s := modtest.Serve(t, w.Handler())
	var sw faults.Switch
	c := s.Client()
	c.Transport = faults.Transport(c.Transport, sw.Pick)
	if g := fetch(t, c, s.URL+zipOfM); !bytes.Equal(g.body, w.Zip(m)) {
		t.Errorf("without a fault: %v", g)
	}
	sw.Set(parse(t, "list:refused"))
	if g := fetch(t, c, s.URL+zipOfM); !bytes.Equal(g.body, w.Zip(m)) {
		t.Errorf("a fault for lists: %v", g)
	}
	if g := fetch(t, c, s.URL+"/example.com/m/@v/list"); !errors.Is(g.err, syscall.ECONNREFUSED) || !strings.Contains(g.err.Error(), "dial tcp "+s.Addr+": connect: connection refused") {
		t.Errorf("a list: %v", g)
	}
	sw.Set(faults.Fault{Name: "nix"})
	if g := fetch(t, c, s.URL+zipOfM); g.status != 500 {
		t.Errorf("a fault that does not exist: %v", g)
	}
}

func TestAHangInATransportEndsWithTheFaultOrTheClient(t *testing.T) {
	w, m := newWorld(t)
	for _, fault := range []string{"hang", "hang-body", "drip", "black-hole", "tls-stall"} {
		for _, scheme := range []string{"http", "https"} {
			synctest.Test(t, func(t *testing.T) {
				var sw faults.Switch
				sw.Set(parse(t, fault))
				next := modtest.Pipe(t, w.Handler())
				next.DialTLSContext = next.DialContext // TLS is not what this is about
				next.TLSHandshakeTimeout = time.Minute
				c := &http.Client{Transport: faults.Transport(next, sw.Pick)}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				g := fetchCtx(ctx, t, c, scheme+"://source.test"+zipOfM)
				impossible := fault == "tls-stall" && scheme == "http"
				if !impossible && (!errors.Is(g.err, context.DeadlineExceeded) || g.took != 10*time.Second) {
					t.Errorf("%s by %s: %v; want it to end with its client", fault, scheme, g)
				}
				time.AfterFunc(20*time.Second, sw.Clear)
				g = fetchCtx(t.Context(), t, c, scheme+"://source.test"+zipOfM)
				switch {
				case impossible:
				case fault == "tls-stall":
					if g.err == nil || g.took != 20*time.Second {
						t.Errorf("%s by %s: %v; want an end with the fault", fault, scheme, g)
					}
				case !bytes.Equal(g.body, w.Zip(m)) || g.took < 20*time.Second || g.took > 21*time.Second:
					t.Errorf("%s by %s: %v; want it to go on when the fault ends", fault, scheme, g)
				}
			})
		}
	}
}
