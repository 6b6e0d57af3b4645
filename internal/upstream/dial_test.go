package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func addrs(t *testing.T, list ...string) []netip.Addr {
	t.Helper()
	var l []netip.Addr
	for _, s := range list {
		l = append(l, netip.MustParseAddr(s))
	}
	return l
}

func TestTheFamilySaysInWhichOrderAddressesAreTried(t *testing.T) {
	found := addrs(t, "192.0.2.1", "192.0.2.2", "2001:db8::1", "::ffff:192.0.2.3", "192.0.2.1", "2001:db8::2", "192.0.2.4")
	for f, want := range map[Family]string{
		"":         "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3 192.0.2.4",
		AutoFamily: "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3 192.0.2.4",
		PreferIPv6: "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3 192.0.2.4",
		PreferIPv4: "192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2 192.0.2.3 192.0.2.4",
		IPv4:       "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4",
		IPv6:       "2001:db8::1 2001:db8::2",
	} {
		var got []string
		for _, a := range f.order(found) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", f, got, want)
		}
	}
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	if n := len(AutoFamily.order(many)); n != maxAddresses {
		t.Errorf("one name makes us dial %d addresses", n)
	}
}

// A fakeConn is a connection of which only the end is of interest.
type fakeConn struct {
	net.Conn
	addr   string
	closed *[]string
}

func (c *fakeConn) Close() error { *c.closed = append(*c.closed, c.addr); return nil }

func TestNobodyWaitsForADeadAddress(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, tt := range []struct {
		name   string
		addrs  string
		want   string // the address that is connected to
		after  time.Duration
		closed string
	}{
		{"the first is well", "live", "live", 0, ""},
		{"the first is silent", "dead live", "live", raceDelay, ""},
		{"the first refuses", "refused live", "live", 0, ""},
		{"several are silent", "dead dead2 live", "live", 2 * raceDelay, ""},
		{"one refuses beside a silent one", "dead refused live", "live", raceDelay, ""},
		{"the first is slow, the second slower", "slow500ms slow1s", "slow500ms", 500 * time.Millisecond, ""},
		{"the first is slow and the second overtakes it", "slow1s slow500ms", "slow500ms", 800 * time.Millisecond, ""},
		{"two at the same moment", "slow400ms deaf100ms", "", 400 * time.Millisecond, "one"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var closed []string
			start := time.Now()
			conn, err := race(t.Context(), strings.Fields(tt.addrs), func(ctx context.Context, addr string) (net.Conn, error) {
				c := &fakeConn{addr: addr, closed: &closed}
				switch {
				case strings.HasPrefix(addr, "deaf"): // connects although it was given up
					d, _ := time.ParseDuration(strings.TrimPrefix(addr, "deaf"))
					time.Sleep(d)
					return c, nil
				case strings.HasPrefix(addr, "slow"):
					d, err := time.ParseDuration(strings.TrimPrefix(addr, "slow"))
					if err != nil {
						t.Error(err)
					}
					select {
					case <-time.After(d):
						return c, nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				case addr == "refused":
					return nil, refused
				case addr == "live":
					return c, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if c := conn.(*fakeConn); tt.want != "" && c.addr != tt.want || slices.Contains(closed, c.addr) {
				t.Errorf("%s: connected to %s, closed %v", tt.name, c.addr, closed)
			}
			if took := time.Since(start); took != tt.after {
				t.Errorf("%s: it took %v, want %v", tt.name, took, tt.after)
			}
			if tt.closed == "one" && len(closed) != 1 {
				t.Errorf("%s: the connection that nobody needs stays open", tt.name)
			}
		})
	}
}

func TestWhereNoAddressAnswersEachIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err := race(ctx, []string{"a", "b", "c"}, func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == "b" {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, syscall.EHOSTUNREACH)}
			}
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: i/o timeout", addr)}
		})
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("gave up after %v", took)
		}
		if err == nil || err.Error() != "dial tcp: a: i/o timeout; dial tcp: b: no route to host; dial tcp: c: i/o timeout" || !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("%v", err)
		}
		if e := classify("A", err, StageHTTP); e.Stage != StageConnect {
			t.Errorf("told as %s", e.Stage)
		}
	})
}

// zone is a Resolver for tests.
type zone map[string][]netip.Addr

func (z zone) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	var l []netip.Addr
	for _, a := range z[host] {
		if network == "ip" || a.Is4() == (network == "ip4") {
			l = append(l, a)
		}
	}
	if len(l) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return l, nil
}

// A dead address stands before the live one: 100::1 is the discard prefix, and
// leads nowhere on any machine.
func TestADeadFamilyIsGoneRound(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	for _, f := range []Family{AutoFamily, PreferIPv6, PreferIPv4, IPv4} {
		n := NewNet(NetConfig{Resolver: zone{"a.test": addrs(t, "100::1", "127.0.0.1")}, Family: f, Connect: 20 * time.Second})
		u := &url.URL{Scheme: "http", Host: fmt.Sprintf("a.test:%d", port), Path: "/x"}
		a, err := n.Get(t.Context(), "A", u)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		a.Body.Close()
		n.Close()
	}
	n := NewNet(NetConfig{Resolver: zone{"a.test": addrs(t, "127.0.0.1")}, Family: IPv6})
	defer n.Close()
	_, err := n.Get(t.Context(), "A", &url.URL{Scheme: "http", Host: fmt.Sprintf("a.test:%d", port), Path: "/x"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageDNS {
		t.Errorf("IPv6 alone, and the name has none: %v", err)
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || !dns.IsNotFound {
		t.Errorf("%v", err)
	}
}

// The guard looks at the addresses that our own resolver gives.
func TestTheGuardSeesWhatTheOwnResolverSays(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "storage.example.com" {
			t.Error("the host inside was asked")
		}
		http.Redirect(w, r, "http://storage.example.com/x", http.StatusFound)
	}))
	defer srv.Close()
	for _, inside := range []string{"127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "64:ff9b::7f00:1"} {
		n := NewNet(NetConfig{Resolver: zone{"storage.example.com": addrs(t, inside)}})
		u, _ := url.Parse(srv.URL)
		if _, err := n.Get(t.Context(), "A", u); !IsGuard(err) {
			t.Errorf("a name that leads to %s: %v", inside, err)
		}
		n.Close()
	}
}

func TestNoProxyListsMatchAsTheGoCommandsDo(t *testing.T) {
	for _, tt := range []struct {
		list, url string
		want      bool
	}{
		{"", "https://a.example", false},
		{"*", "https://a.example", true},
		{"a.example", "https://A.example/x", true},
		{"A.example ,", "https://a.example.:443", true},
		{"example", "https://a.example", true},
		{"a.example", "https://ba.example", false},
		{".example", "https://a.example", true},
		{".a.example", "https://a.example", false},
		{"*.a.example", "https://x.a.example", true},
		{"*.a.example", "https://a.example", false},
		{"a.example:8080", "https://a.example", false},
		{"a.example:443", "https://a.example", true},
		{"a.example:80", "http://b.a.example", true},
		{"10.0.0.0/8", "http://10.1.2.3", true},
		{"10.0.0.0/8", "http://11.1.2.3", false},
		{"10.0.0.0/8", "http://10.example", false},
		{"10.1.2.3", "http://10.1.2.3:99", true},
		{"10.1.2.3:80", "http://10.1.2.3:99", false},
		{"::1", "http://[::1]:99", true},
		{"[::1]:99", "http://[::1]:99", true},
		{"[::1]", "http://[::1]:99", true},
		{"2001:db8::/32", "https://[2001:db8::5]", true},
		{"b.example,a.example", "https://a.example", true},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := noForward(tt.list, u); got != tt.want {
			t.Errorf("NO_PROXY=%s, %s: %v", tt.list, tt.url, got)
		}
	}
}

func TestLimitsAreKeptAndWaitedForNoLongerThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		n := piped(t, NetConfig{Requests: 2, Timeout: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(3 * time.Second)
			mu.Lock()
			running--
			mu.Unlock()
		})
		errs := make(chan error)
		start := time.Now()
		for range 8 {
			go func() {
				a, err := get(t.Context(), n)
				if err == nil {
					a.Body.Close()
				}
				errs <- err
			}()
		}
		limited := 0
		for range 8 {
			err := <-errs
			if errors.Is(err, ErrLimited) {
				limited++
				if e, ok := errors.AsType[*Error](err); !ok || e.Source != "A" || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStalled) {
					t.Errorf("%#v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
		}
		// Two at a time: at 0, 3, 6 and 9 s.
		if took := time.Since(start); limited != 0 || most != 2 || took != 12*time.Second {
			t.Errorf("%d at once, %d turned away, in %v", most, limited, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Requests: 1, Timeout: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) { wait(r) })
		go get(t.Context(), n) // has the only place for ten seconds
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("gone home"))
		defer cancel()
		if _, err := get(ctx, n); err == nil || !strings.Contains(err.Error(), "gone home") || errors.Is(err, ErrLimited) {
			t.Errorf("given up while waiting: %v", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait() // the place is free again, although its request failed
		start := time.Now()
		if _, err := get(t.Context(), n); !errors.Is(err, ErrStalled) || time.Since(start) != 10*time.Second {
			t.Errorf("after a failure: %v, %v", err, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		start := time.Now()
		n := piped(t, NetConfig{Rate: 0.5, Timeout: 5 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
		})
		errs := make(chan error)
		for range 4 {
			go func() {
				a, err := get(t.Context(), n)
				if err == nil {
					a.Body.Close()
				}
				errs <- err
			}()
		}
		limited := 0
		for range 4 {
			if err := <-errs; errors.Is(err, ErrLimited) {
				limited++
			} else if err != nil {
				t.Error(err)
			}
		}
		if want := []time.Duration{0, 2 * time.Second, 4 * time.Second}; !slices.Equal(at, want) || limited != 1 {
			t.Errorf("asked at %v, %d turned away", at, limited)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Requests: 1, Rate: 0.1, Timeout: 5 * time.Second}, func(w http.ResponseWriter, r *http.Request) {})
		for i, want := range []bool{true, false, false, true} {
			a, err := get(t.Context(), n)
			if err == nil {
				a.Body.Close()
			}
			if (err == nil) != want || !want && !errors.Is(err, ErrLimited) {
				t.Errorf("request %d: %v", i, err)
			}
			if i == 2 {
				time.Sleep(10 * time.Second) // who was turned away holds no place
			}
		}
	})
}
