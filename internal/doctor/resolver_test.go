package doctor

import (
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// A zone is what a name server knows: full names, and "*.domain" for all below one. The
// zero value knows nothing.
type zone struct {
	has       map[string][]string
	mute      bool // it answers nothing
	noUDP     bool // it answers by TCP alone
	long      bool // its answers are too long for datagrams
	noTCP     bool // and by TCP it closes
	muteSix   bool // it answers no question for IPv6 addresses
	questions atomic.Int32
}

// A wire is a network with a name server at each of a few addresses of this machine, and
// the files that make the resolver ask them.
type wire struct {
	t     *testing.T
	port  uint16
	dir   string
	hosts string // text of the hosts file
	conf  string // more lines of resolv.conf
	zones []*zone
	// absent counts addresses, before those of the zones, at which nobody listens.
	absent int
}

func (w *wire) addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 53, 0, byte(i + 1)}) }

// start brings the servers up.
func (w *wire) start() {
	t := w.t
	w.hosts += "\n" + right + " sums\n"
	w.dir = t.TempDir()
	for range 20 { // until a port is free at all addresses
		if w.port = 0; w.listen() {
			break
		}
	}
	modtest.Need(t, "the addresses 127.53.0.*", w.port != 0)
	text := w.conf + "\n"
	for i := range w.absent + len(w.zones) {
		text += "nameserver " + w.addr(i).String() + "\n"
	}
	for name, text := range map[string]string{"resolv.conf": text, "hosts": w.hosts} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *wire) listen() bool {
	var close []func()
	fail := func() bool {
		for _, c := range close {
			c()
		}
		w.port = 0
		return false
	}
	for i, z := range w.zones {
		at := netip.AddrPortFrom(w.addr(i+w.absent), w.port)
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return fail()
		}
		close = append(close, func() { u.Close() })
		w.port = u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		l, err := net.Listen("tcp", netip.AddrPortFrom(at.Addr(), w.port).String())
		if err != nil {
			return fail()
		}
		close = append(close, func() { l.Close() })
		go func() {
			buf := make([]byte, 4096)
			for {
				n, from, err := u.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				if msg := z.answer(buf[:n], true); msg != nil {
					u.WriteToUDPAddrPort(msg, from)
				}
			}
		}()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go z.stream(c)
			}
		}()
	}
	w.t.Cleanup(func() {
		for _, c := range close {
			c()
		}
	})
	if len(w.zones) == 0 {
		w.port = 1 // nobody listens there
	}
	return true
}

func (z *zone) stream(c net.Conn) {
	defer c.Close()
	if z.noTCP {
		return
	}
	var size [2]byte
	for {
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		msg := z.answer(query, false)
		if msg == nil {
			io.Copy(io.Discard, c)
			return
		}
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	}
}

func (z *zone) answer(query []byte, datagram bool) []byte {
	z.questions.Add(1)
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil || z.mute || z.noUDP && datagram || z.muteSix && q.Type == dnsmessage.TypeAAAA {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	if z.long && datagram {
		m.Truncated = true
		msg, _ := m.Pack()
		return msg
	}
	name := strings.TrimSuffix(q.Name.String(), ".")
	addrs, ok := z.has[name]
	for domain := name; !ok && domain != ""; {
		_, domain, _ = strings.Cut(domain, ".")
		addrs, ok = z.has["*."+domain]
	}
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range addrs {
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 60}
		switch a := netip.MustParseAddr(text); {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	msg, _ := m.Pack()
	return msg
}

// LookupNetIP asks as the go command's resolver does: the hosts file, then one server
// after the other, of which the first that says anything counts.
func (w *wire) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if addrs := inHosts(w.hosts, host); len(addrs) > 0 {
		return addrs, nil
	}
	conf := parseResolvConf(readFile(filepath.Join(w.dir, "resolv.conf")), "")
	for _, server := range conf.servers {
		said := upstream.AskServer(ctx, netip.AddrPortFrom(server, w.port), conf.names(host), conf.timeout, conf.useTCP)
		switch {
		case said.OnlyTCP && !conf.useTCP:
		case said.Half:
			<-ctx.Done()
		case len(said.Addrs) > 0:
			return said.Addrs, nil
		case said.NotFound:
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
	}
	return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true}
}

// patient is how long the tests let a name server think: as long as a good one takes on the
// busiest machine, since each that is silent costs it.
const patient = 10 * time.Second

// on makes the subject of a scene one that asks the servers of the wire.
func (w *wire) on(s *scene) *Subject {
	w.start()
	s.resolver = w
	sub := s.subject()
	sub.Limits.Lookup = patient
	sub.Names = Names{Conf: filepath.Join(w.dir, "resolv.conf"), Hosts: filepath.Join(w.dir, "hosts"), port: w.port}
	return sub
}

func knows(pairs ...string) *zone {
	z := &zone{has: map[string][]string{}}
	for i := 0; i < len(pairs); i += 2 {
		z.has[pairs[i]] = strings.Fields(pairs[i+1])
	}
	return z
}

const right, wrong = "127.0.0.1", "127.0.0.9"

func TestWhatIsTheMatterWithNameServersIsTold(t *testing.T) {
	const host = "proxy.example.com"
	good := func() *zone { return knows(host, right, "other.example.com", right) }
	for _, tt := range []struct {
		name   string
		zones  []*zone
		absent int
		conf   string
		hosts  string
		chain  string // "" is PUBLIC
		set    func(*Subject)
		want   string
		text   string // in the evidence, or if all is well in the row
	}{
		{name: "one that answers", zones: []*zone{good()}, want: "well", text: "127.53.0.1"},
		{name: "two that answer", zones: []*zone{good(), good()}, want: "well"},
		{name: "the second is silent, and nobody needs it", zones: []*zone{good(), {mute: true}}, want: "well", text: "nobody needs it"},
		{name: "the second denies what the first has, as where a company's is before the world's", zones: []*zone{good(), {}}, want: "well", text: "127.53.0.2 (does not know proxy.example.com)"},
		{name: "the first refuses, which costs no time", zones: []*zone{good()}, absent: 1, want: "well", text: "127.53.0.1 (refuses, so the next is asked at once)"},
		{name: "the first is silent", zones: []*zone{{mute: true}, good()}, want: "impaired SL-DNS-004", text: "127.53.0.1 does not answer and stands in"},
		{name: "all are silent", zones: []*zone{{mute: true}, {mute: true}}, want: "broken SL-DNS-004", text: "127.53.0.1 and 127.53.0.2 does not answer"},
		{name: "nobody listens", absent: 1, want: "broken SL-DNS-004", text: "no name server listens there"},
		{name: "the first denies what the second has", zones: []*zone{{}, good()}, want: "broken SL-DNS-005", text: "127.53.0.1 says that proxy.example.com does not exist"},
		{name: "nobody knows the name", zones: []*zone{{}, {}}, want: "broken SL-DNS-001"},
		{name: "UDP is blocked", zones: []*zone{{has: good().has, noUDP: true}}, want: "broken SL-DNS-004", text: "answers by TCP alone"},
		{name: "UDP is blocked, and nobody uses it", zones: []*zone{{has: good().has, noUDP: true}}, conf: "options use-vc", want: "well"},
		{name: "long answers come by TCP", zones: []*zone{{has: good().has, long: true}}, want: "well"},
		{name: "TCP is blocked, and the answer too long", zones: []*zone{{has: good().has, long: true, noTCP: true}}, want: "broken SL-DNS-004", text: "too long for a datagram"},
		{name: "silent for IPv6 addresses", zones: []*zone{{has: good().has, muteSix: true}}, want: "impaired SL-DNS-004", text: "silent for the other"},

		{name: "the hosts file leads astray", zones: []*zone{good()}, hosts: wrong + " proxy.example.com # old", want: "broken SL-DNS-006", text: "has 127.0.0.9 for proxy.example.com, where it does not work; the name servers have 127.0.0.1, where it does"},
		{name: "the hosts file has the only address", zones: []*zone{{}}, hosts: right + " proxy.example.com", want: "well", text: "proxy.example.com is in"},
		{name: "the hosts file has another address that works", zones: []*zone{knows(host, wrong)}, hosts: right + "\tx PROXY.example.com", want: "well"},
		{name: "what the hosts file and the servers have is down", zones: []*zone{knows(host, wrong)}, hosts: wrong + " proxy.example.com", want: "broken SL-DNS-003"},

		{name: "neither what the hosts file has nor what the servers have works", zones: []*zone{knows(host, "127.0.0.8")}, hosts: wrong + " proxy.example.com", want: "broken SL-DNS-003"},

		{name: "a search domain has everything", zones: []*zone{knows(host, right, "*.corp.example", wrong)}, conf: "search corp.example\noptions ndots:5", want: "broken SL-DNS-007", text: "proxy.example.com is answered as proxy.example.com.corp.example"},
		{name: "a search domain has what does not exist", zones: []*zone{knows("*.corp.example", wrong)}, conf: "search corp.example", want: "broken SL-DNS-007", text: "the name itself does not exist"},
		{name: "search domains that know nothing", zones: []*zone{good()}, conf: "search default.svc.cluster.local svc.cluster.local\noptions ndots:5", want: "well"},
		{name: "a search domain leads to where it works", zones: []*zone{knows(host, wrong, "*.corp.example", right)}, conf: "search corp.example\noptions ndots:5", want: "well"},
		{name: "a short name that is meant to be searched for", zones: []*zone{knows("goproxy.corp.example", right)}, conf: "search corp.example", chain: "SHORT", want: "well"},
		{name: "a short name whose service is down", zones: []*zone{knows("goproxy.corp.example", wrong)}, conf: "search corp.example", chain: "SHORT", want: "broken SL-NET-002"},

		{name: "the system has more to ask", zones: []*zone{{}}, set: func(s *Subject) { s.Names.System = system(right) }, want: "broken SL-DNS-008", text: "the system's gives 127.0.0.1"},
		{name: "the system has more to ask, and so has the go command", zones: []*zone{{}}, set: func(s *Subject) {
			s.Names.System, s.Names.GoHasSystem, s.Getenv = system(right), func() bool { return true }, env("GODEBUG", "http2debug=1,netdns=go+1")
		}, want: "broken SL-DNS-008", text: "GODEBUG=netdns=go keeps the go command from asking"},
		{name: "the system has no more either", zones: []*zone{{}}, set: func(s *Subject) { s.Names.System = system("") }, want: "broken SL-DNS-001"},
		{name: "the system has another address, and all is well", zones: []*zone{good()}, set: func(s *Subject) { s.Names.System = system(wrong) }, want: "well"},

		{name: "another source serves", zones: []*zone{{}, knows(host, right)}, hosts: right + " other.example.com", chain: "PUBLIC|OTHER", want: "impaired SL-DNS-005"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for those that are silent
			s := newScene(t)
			s.chain = cmp.Or(tt.chain, "PUBLIC")
			w := &wire{t: t, zones: tt.zones, absent: tt.absent, conf: tt.conf, hosts: tt.hosts}
			sub := w.on(s)
			if tt.set != nil {
				tt.set(sub)
			}
			r := Run(t.Context(), "", sub.Checks(), time.Minute)
			all := r.Text(TextOptions{All: true})
			if said(r) != tt.want {
				t.Errorf("%s, want %s, in\n%s", said(r), tt.want, all)
			}
			seen := all
			if len(r.Findings) > 0 {
				seen = strings.Join(r.Findings[0].Evidence, "\n")
			}
			if !strings.Contains(seen, tt.text) {
				t.Errorf("%q is missing in\n%s", tt.text, seen)
			}
			if len(r.Findings) > 1 {
				t.Errorf("one cause is %d findings in\n%s", len(r.Findings), all)
			}
		})
	}
}

// The fixes of files change what they name, and nothing beside it.
func TestTheFixesOfFilesOfTheResolverDoWhatTheySay(t *testing.T) {
	sh, err := exec.LookPath("sh")
	modtest.Need(t, "sh", err == nil)
	for _, tt := range []struct {
		code       finding.Code
		host, file string
		was, want  string
	}{
		{finding.NameServerSilent, "192.0.2.1", "/etc/resolv.conf", "search a.example\nnameserver 192.0.2.1\nnameserver 192.0.2.10\n", "search a.example\nnameserver 192.0.2.10\n"},
		{finding.HostsFile, "proxy.example.com", "/etc/hosts", "127.0.0.1 localhost proxy.example.com\n10.0.0.1\tproxy.example.com proxy.example.com.corp # x\n::1 localhost\n", "127.0.0.1 localhost\n10.0.0.1 proxy.example.com.corp # x\n::1 localhost\n"},
		{finding.SearchDomain, "proxy.example.com", "/etc/resolv.conf", "nameserver 192.0.2.1\nsearch a.example\noptions ndots:5\noptions use-vc\n", "nameserver 192.0.2.1\noptions use-vc\n"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte(tt.was), 0o600); err != nil {
			t.Fatal(err)
		}
		fix := finding.At(tt.code, finding.Terminal).With(finding.StandInHost, tt.host).Fix
		script := strings.NewReplacer(tt.file, file, "/tmp/", dir+"/", "sudo ", "").Replace(strings.Join(fix, "\n"))
		if out, err := exec.Command(sh, "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		if got, _ := os.ReadFile(file); string(got) != tt.want {
			t.Errorf("%s: %s made\n%s, want\n%s", tt.code, fix, got, tt.want)
		}
	}
}

// Where the first server has answered, nobody waits a minute for the second.
func TestAServerThatNobodyNeedsIsNotWaitedFor(t *testing.T) {
	s := newScene(t)
	s.chain = "PUBLIC"
	w := &wire{t: t, zones: []*zone{knows("proxy.example.com", right), {mute: true}}}
	sub := w.on(s)
	sub.Limits.Lookup = time.Hour
	if r := Run(t.Context(), "", sub.Checks(), time.Minute); said(r) != "well" {
		t.Errorf("%s", r.Text(TextOptions{All: true}))
	}
}

func TestNameServersAreAskedBesideTheSourcesAndNotAfterThem(t *testing.T) {
	s := newScene(t)
	s.chain = "PUBLIC"
	w := &wire{t: t, zones: []*zone{knows("proxy.example.com", right)}}
	sub := w.on(s)
	asked := make(chan struct{})
	sub.Names.System = func(context.Context, string) ([]netip.Addr, error) {
		close(asked) // once alone
		return []netip.Addr{netip.MustParseAddr(right)}, nil
	}
	checks := sub.Checks()
	for i, c := range checks {
		if c.ID == "source.1.answer" {
			checks[i].Run = func(ctx context.Context, seen Seen) Outcome {
				select {
				case <-asked:
				case <-ctx.Done():
				}
				return c.Run(ctx, seen)
			}
		}
	}
	if r := Run(t.Context(), "", checks, time.Minute); said(r) != "well" {
		t.Errorf("%s", r.Text(TextOptions{All: true}))
	}
}

func TestAStandInAddressIsHeldAgainstItselfOnlyWhereItFails(t *testing.T) {
	s := newScene(t).subject()
	u, _ := url.Parse("https://proxy.example.com")
	failed := s.mean(Fail, finding.SourceConnectTimeout, u.Host, "no answer")
	for _, tt := range []struct {
		out  Outcome
		addr string
		want finding.Code
	}{
		{failed, "198.18.0.7", finding.DNSHijackOrPortal}, {failed, "192.0.2.7", finding.SourceConnectTimeout},
		{Outcome{State: OK, Finding: failed.Finding}, "198.18.0.7", finding.SourceConnectTimeout},
	} {
		if out := s.fakeIP(tt.out, u, netip.MustParseAddr(tt.addr)); out.Finding.Code != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.out.State, tt.addr, out.Finding.Code, tt.want)
		}
	}
}

// system is a system's resolver that has an address for everything, or denies all.
func system(addr string) func(context.Context, string) ([]netip.Addr, error) {
	return func(_ context.Context, host string) ([]netip.Addr, error) {
		if addr == "" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []netip.Addr{netip.MustParseAddr(addr)}, nil
	}
}

func TestAResolvConfIsReadAsTheGoCommandReadsIt(t *testing.T) {
	for _, tt := range []struct {
		text, host string // of the machine
		servers    string
		names      string // that are asked for proxy.example.com
		timeout    time.Duration
		given, tcp bool
	}{
		{text: "nameserver 192.0.2.1\n", servers: "192.0.2.1", names: "proxy.example.com", timeout: 5 * time.Second, given: true},
		{text: "", servers: "127.0.0.1 ::1", names: "proxy.example.com", timeout: 5 * time.Second},
		{text: "", host: "box.corp.example", servers: "127.0.0.1 ::1", names: "proxy.example.com proxy.example.com.corp.example", timeout: 5 * time.Second},
		{text: "# nameserver 192.0.2.9\n;x\nnameserver 192.0.2.1 # a\nnameserver proxy.example.com\nnameserver fe80::1%eth0\nnameserver 192.0.2.3\nnameserver 192.0.2.4", servers: "192.0.2.1 fe80::1%eth0 192.0.2.3", names: "proxy.example.com", timeout: 5 * time.Second, given: true},
		{text: "search a.example b.example. .\ndomain c.example\nnameserver 192.0.2.1", servers: "192.0.2.1", names: "proxy.example.com proxy.example.com.c.example", timeout: 5 * time.Second, given: true},
		{text: "nameserver 192.0.2.1\nsearch a.example\noptions ndots:5 timeout:0 use-vc rotate attempts:9", servers: "192.0.2.1", names: "proxy.example.com.a.example proxy.example.com", timeout: time.Second, given: true, tcp: true},
		{text: "nameserver 192.0.2.1\noptions ndots:99 timeout:x", servers: "192.0.2.1", names: "proxy.example.com", timeout: time.Second, given: true},
	} {
		c := parseResolvConf(tt.text, tt.host)
		var servers []string
		for _, s := range c.servers {
			servers = append(servers, s.String())
		}
		if got := strings.Join(servers, " "); got != tt.servers || c.timeout != tt.timeout || c.given != tt.given || c.useTCP != tt.tcp {
			t.Errorf("%q: %s, %+v", tt.text, got, c)
		}
		if got := strings.Join(c.names("proxy.example.com"), " "); got != tt.names {
			t.Errorf("%q: asked for %s, want %s", tt.text, got, tt.names)
		}
		if got := c.names("proxy.example.com."); len(got) != 1 || got[0] != "proxy.example.com" {
			t.Errorf("%q: a name that ends in a dot is asked for as %q", tt.text, got)
		}
	}
}

func FuzzFilesOfTheResolver(f *testing.F) {
	for _, s := range []string{"nameserver 192.0.2.1\noptions ndots:5 timeout:2\nsearch a.example", "127.0.0.1 localhost\n::1 x # y", "options ndots:", "\x00nameserver", "search .", "fe80::1%x h"} {
		f.Add(s, "proxy.example.com")
	}
	f.Fuzz(func(t *testing.T, text, host string) {
		c := parseResolvConf(text, host)
		if len(c.servers) == 0 || len(c.servers) > 3 || c.ndots < 0 || c.ndots > 15 || c.timeout < time.Second {
			t.Errorf("%q: %+v", text, c)
		}
		for _, n := range c.names(host) {
			if host != "" && !strings.HasPrefix(n, strings.TrimSuffix(host, ".")) {
				t.Errorf("%q: asked for %q", text, n)
			}
		}
		inHosts(text, host)
	})
}
