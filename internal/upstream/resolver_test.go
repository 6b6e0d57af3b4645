package upstream_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// A nameServer answers for names that say what it does with them.
type nameServer struct {
	silent func() // called for a question that gets no answer; may be nil

	mu    sync.Mutex
	asked []string
}

func (s *nameServer) count(question string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.asked {
		if strings.Contains(q, question) {
			n++
		}
	}
	return n
}

// answer is what a query gets; nil is silence.
func (s *nameServer) answer(t *testing.T, query []byte, datagram bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		t.Errorf("a query that cannot be read: %v", err)
		return nil
	}
	q, err := p.Question()
	if err != nil || !h.RecursionDesired || q.Class != dnsmessage.ClassINET {
		t.Errorf("an odd query: %v, %+v, %v", q, h, err)
		return nil
	}
	name := strings.TrimSuffix(q.Name.String(), ".")
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%s %s %d", name, q.Type, h.ID))
	s.mu.Unlock()

	reply := dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}
	m := dnsmessage.Message{Header: reply, Questions: []dnsmessage.Question{q}}
	rr := func(owner string, typ dnsmessage.Type, body dnsmessage.ResourceBody) dnsmessage.Resource {
		return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner + "."), Type: typ, Class: dnsmessage.ClassINET, TTL: 60}, Body: body}
	}
	add := func(owner, ip string) {
		switch a := netip.MustParseAddr(ip); {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, rr(owner, q.Type, &dnsmessage.AResource{A: a.As4()}))
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, rr(owner, q.Type, &dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	alias := func(owner, to string) {
		m.Answers = append(m.Answers, rr(owner, dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")}))
	}
	first, _, _ := strings.Cut(name, ".")
	switch first {
	case "four":
		add(name, "127.0.0.1")
	case "both":
		add(name, "127.0.0.1")
		add(name, "::1")
	case "alias":
		alias(name, "b.test")
		alias("B.test", "c.test")
		add("C.test", "127.0.0.1")
		add("other.test", "192.0.2.9")
	case "dangling":
		alias(name, "b.test")
	case "circle":
		alias(name, "b.test")
		alias("b.test", name)
	case "gone":
		m.RCode = dnsmessage.RCodeNameError
	case "sick":
		m.RCode = dnsmessage.RCodeServerFailure
	case "refused":
		m.RCode = dnsmessage.RCodeRefused
		m.Questions = nil
	case "half":
		add(name, "127.0.0.1")
		if q.Type == dnsmessage.TypeAAAA {
			m.RCode = dnsmessage.RCodeServerFailure
		}
	case "late": // the other family never comes
		add(name, "127.0.0.1")
		if q.Type == dnsmessage.TypeAAAA {
			return nil
		}
	case "liar":
		add("other.test", "192.0.2.9")
		add("other.test", "2001:db8::9")
	case "swap":
		m.Questions[0].Name = dnsmessage.MustNewName("other.test.")
		add("other.test", "192.0.2.9")
	case "blocked":
		add(name, "0.0.0.0")
		add(name, "::")
	case "damaged":
		add(name, "127.0.0.1")
		add(name, "::1")
		msg, _ := m.Pack()
		return msg[:len(msg)-3]
	case "big":
		if datagram {
			m.Truncated = true
			break
		}
		for i := range 200 {
			add(name, fmt.Sprintf("192.0.2.%d", i))
		}
	case "silent":
		if s.silent != nil {
			s.silent()
		}
		return nil
	}
	msg, err := m.Pack()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return msg
}

// serveStream answers at a stream until its end.
func (s *nameServer) serveStream(t *testing.T, c net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		if msg := s.answer(t, query, false); msg != nil {
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
		}
	}
}

func (s *nameServer) plain(t *testing.T) *url.URL {
	stream := func(c net.Conn) {
		defer context.AfterFunc(t.Context(), func() { c.Close() })()
		s.serveStream(t, c)
	}
	addr := listen(t, stream)
	pc, err := net.ListenPacket("udp", addr)
	for errors.Is(err, syscall.EADDRINUSE) { // the port that is free for TCP is somebody's for UDP
		addr = listen(t, stream)
		pc, err = net.ListenPacket("udp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			// What anybody may send, before the answer.
			pc.WriteTo([]byte("nonsense"), from)
			forged := slices.Clone(buf[:n])
			forged[0]++
			forged[2] |= 0x80
			pc.WriteTo(forged, from)
			if msg := s.answer(t, buf[:n], true); msg != nil {
				pc.WriteTo(msg, from)
			}
		}
	})
	return &url.URL{Scheme: "udp", Host: addr}
}

// encrypted is a DoT server that has a name, which the system must look up.
func (s *nameServer) encrypted(t *testing.T) (*url.URL, *tls.Config, *int) {
	cert, pool := certificate(t, "localhost", time.Now().Add(time.Hour))
	conns := new(int)
	addr := listen(t, func(c net.Conn) {
		s.mu.Lock()
		*conns++
		s.mu.Unlock()
		defer context.AfterFunc(t.Context(), func() { c.Close() })()
		s.serveStream(t, tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}))
	})
	_, port, _ := net.SplitHostPort(addr)
	return &url.URL{Scheme: "tls", Host: "localhost:" + port}, &tls.Config{RootCAs: pool}, conns
}

func (s *nameServer) https(t *testing.T) (*url.URL, *tls.Config) {
	srv := modtest.ServeH2TLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/dns-message" || r.URL.Path != "/dns-query" || r.ProtoMajor != 2 {
			t.Errorf("asked with %s %s %s", r.Method, r.URL, r.Header)
		}
		msg := s.answer(t, query, false)
		if msg == nil {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/dns-message")
		w.Write(msg)
	}))
	u := parse(t, srv.URL+"/dns-query")
	return u, &tls.Config{RootCAs: srv.CA}
}

func newDNS(t *testing.T, u *url.URL, tc *tls.Config) *upstream.DNS {
	t.Helper()
	d, err := upstream.NewDNS(u, tc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.CloseIdleConnections)
	return d
}

// kind is the class of a DNS error in one word.
func kind(err error) string {
	dns, ok := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil:
		return "none"
	case !ok:
		return fmt.Sprintf("%T", err)
	case dns.IsNotFound:
		return "no such name"
	case dns.IsTimeout:
		return "no answer"
	case dns.IsTemporary:
		return "broken"
	}
	return "another's"
}

func TestEachKindOfResolverIsAskedAndItsTroublesAreToldApart(t *testing.T) {
	s := &nameServer{}
	type server struct {
		u  *url.URL
		tc *tls.Config
	}
	dot, dotTLS, _ := s.encrypted(t)
	doh, dohTLS := s.https(t)
	for scheme, srv := range map[string]server{"udp": {s.plain(t), nil}, "tls": {dot, dotTLS}, "https": {doh, dohTLS}} {
		t.Run(scheme, func(t *testing.T) {
			d := newDNS(t, srv.u, srv.tc)
			for _, tt := range []struct{ network, host, want, fails string }{
				{"ip", "four.test", "127.0.0.1", ""},
				{"ip", "FOUR.test.", "127.0.0.1", ""},
				{"ip4", "both.test", "127.0.0.1", ""},
				{"ip6", "both.test", "::1", ""},
				{"ip", "both.test", "127.0.0.1 ::1", ""}, // at hand: on a busy machine one family may come too late for the other
				{"ip", "alias.test", "127.0.0.1", ""},
				{"ip", "half.test", "127.0.0.1", ""},
				{"ip", "late.test", "127.0.0.1", ""},
				{"ip", "localhost", "127.0.0.1 ::1", ""},
				{"ip4", "a.localhost", "127.0.0.1", ""},
				{"ip6", "four.test", "", "no such name"},
				{"ip", "dangling.test", "", "no such name"},
				{"ip", "circle.test", "", "no such name"},
				{"ip", "gone.test", "", "no such name"},
				{"ip", strings.Repeat("a", 300) + ".test", "", "no such name"},
				{"ip", "", "", "no such name"},
				{"ip", "sick.test", "", "broken"},
				{"ip", "refused.test", "", "broken"},
				{"ip", "damaged.test", "", "broken"},
				{"ip", "blocked.test", "", "broken"},
				{"ip", "liar.test", "", "another's"},
				{"ip4", "swap.test", "", "another's"},
			} {
				if scheme == "udp" && tt.host == "swap.test" {
					continue // waited for to the end, as anybody may send such
				}
				addrs, err := d.LookupNetIP(t.Context(), tt.network, tt.host)
				var got []string
				for _, a := range addrs {
					got = append(got, a.String())
				}
				slices.Sort(got)
				if strings.Join(got, " ") != tt.want || tt.fails != "" && kind(err) != tt.fails || tt.fails == "" && err != nil {
					t.Errorf("%s %s: %v, %v (%s); want %s, %s", tt.network, tt.host, got, err, kind(err), tt.want, tt.fails)
				}
				if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.Name != tt.host {
					t.Errorf("the error names %q: %v", dns.Name, err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := d.LookupNetIP(ctx, "ip4", "silent.test"); kind(err) != "no answer" || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("silence: %v", err)
			}
		})
	}
}

func TestAnAnswerThatIsTooLongForADatagramComesByTCP(t *testing.T) {
	s := &nameServer{}
	d := newDNS(t, s.plain(t), nil)
	addrs, err := d.LookupNetIP(t.Context(), "ip4", "big.test")
	if err != nil || len(addrs) != 200 {
		t.Errorf("%d addresses, %v", len(addrs), err)
	}
}

func TestADNSOverTLSConnectionIsUsedAgain(t *testing.T) {
	s := &nameServer{}
	u, tc, conns := s.encrypted(t)
	d := newDNS(t, u, tc)
	for i := range 10 {
		if _, err := d.LookupNetIP(t.Context(), "ip4", fmt.Sprintf("four.x%d.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	n := *conns
	s.mu.Unlock()
	if n != 1 {
		t.Errorf("%d connections for ten questions, one after the other", n)
	}
	d.CloseIdleConnections()
	if _, err := d.LookupNetIP(t.Context(), "ip4", "four.y.test"); err != nil {
		t.Errorf("after CloseIdleConnections: %v", err)
	}
}

func TestAResolverThatCannotBeReachedOrTrustedIsToldAsThat(t *testing.T) {
	s := &nameServer{}
	dot, _, _ := s.encrypted(t)
	doh, _ := s.https(t)
	dead := serve(t, nil)
	dead.Stop()
	html := modtest.ServeH2TLS(t, text("<html>log in first</html>"))
	away := modtest.ServeH2TLS(t, http.RedirectHandler("/elsewhere", http.StatusFound))
	for _, tt := range []struct {
		name string
		u    *url.URL
		tc   *tls.Config
		want string
		say  string
	}{
		{"nobody listens, udp", &url.URL{Scheme: "udp", Host: dead.Addr}, nil, "no answer", "connection refused"},
		{"nobody listens, tls", &url.URL{Scheme: "tls", Host: dead.Addr}, nil, "no answer", "connection refused"},
		{"nobody listens, https", &url.URL{Scheme: "https", Host: dead.Addr, Path: "/dns-query"}, nil, "no answer", "connection refused"},
		{"unknown authority, tls", dot, nil, "broken", "certificate"},
		{"unknown authority, https", doh, nil, "broken", "certificate"},
		{"a portal", parse(t, html.URL+"/dns-query"), &tls.Config{RootCAs: html.CA}, "broken", "text/"},
		{"a redirect", parse(t, away.URL+"/dns-query"), &tls.Config{RootCAs: away.CA}, "broken", "302 Found"},
	} {
		_, err := newDNS(t, tt.u, tt.tc).LookupNetIP(t.Context(), "ip", "four.test")
		if kind(err) != tt.want || !strings.Contains(fmt.Sprint(err), tt.say) {
			t.Errorf("%s: %v (%s)", tt.name, err, kind(err))
		}
	}
	if _, err := upstream.NewDNS(&url.URL{Scheme: "http", Host: "x"}, nil); err == nil {
		t.Error("DNS over plain HTTP is made")
	}
}

func TestManyWhoAskForOneNameShareOneQuestion(t *testing.T) {
	s := &nameServer{}
	u, tc := s.https(t)
	d := newDNS(t, u, tc)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := d.LookupNetIP(t.Context(), "ip", "both.test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if a, aaaa := s.count("both.test TypeA "), s.count("both.test TypeAAAA"); a != 1 || aaaa != 1 {
		t.Errorf("asked %d and %d times", a, aaaa)
	}
}

func TestASourceIsReachedByItsOwnResolver(t *testing.T) {
	s := &nameServer{}
	srv := serve(t, text("data"))
	_, port, _ := net.SplitHostPort(srv.Addr)
	dot, dotTLS, _ := s.encrypted(t)
	doh, dohTLS := s.https(t)
	for _, d := range []*upstream.DNS{newDNS(t, s.plain(t), nil), newDNS(t, dot, dotTLS), newDNS(t, doh, dohTLS)} {
		c := upstream.NetConfig{Resolver: d}
		if data, err := get(t, c, "http://alias.test:"+port); err != nil || data != "data" {
			t.Errorf("%q, %v", data, err)
		}
		_, err := get(t, c, "http://sick.test:"+port)
		if e := wantError(t, err, upstream.StageDNS, 0, "sick.test", "SERVFAIL"); e.Answered() || kind(err) != "broken" {
			t.Errorf("%v (%s)", err, kind(err))
		}
		_, err = get(t, c, "http://gone.test:"+port)
		if wantError(t, err, upstream.StageDNS, 0, "no such host"); kind(err) != "no such name" {
			t.Errorf("%v (%s)", err, kind(err))
		}
	}
	// What the resolver itself is slow with is told as DNS, not as its connection.
	ctx, stall := context.WithCancelCause(t.Context())
	s.silent = func() { stall(upstream.ErrStalled) } // as the budget does when it is spent
	c := upstream.NetConfig{Resolver: newDNS(t, doh, dohTLS)}
	_, err := upstream.NewHTTPSource(newNet(t, c), parse(t, "http://silent.test:"+port)).Get(ctx, quote)
	wantError(t, err, upstream.StageDNS, 0, "no answer within")
}
