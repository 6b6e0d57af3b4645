package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/singleflight"
)

// Budgets of a DNS.
const (
	// dnsBudget is the longest that one question may take, all tries together; a
	// resolver that is well answers in a tenth of the first of dnsTries.
	dnsBudget = 5 * time.Second
	// siblingWait is how long the addresses of one family wait for the other's.
	siblingWait = 100 * time.Millisecond
	// staleFor is how long addresses are kept past their time for the day on which
	// the resolver is down (RFC 8767), and staleRetry how long they are then used
	// before it is asked again.
	staleFor, staleRetry = 24 * time.Hour, 30 * time.Second
	// Times to live are cut to these: a "no such name" is often mended soon.
	longestTTL, longestNoTTL = time.Hour, 30 * time.Second
	// dnsEntries bounds the memory of a DNS.
	dnsEntries = 1024
	// dotIdle is how long a connection to a DoT resolver is kept for the next
	// question, and dotSpare how many are: one each for A and AAAA.
	dotIdle, dotSpare = 10 * time.Second, 2
	// udpSize is the answer that we take by UDP, small enough for every network.
	udpSize = 1232
)

// dnsTries are the times that each datagram is waited for.
func dnsTries() []time.Duration {
	return []time.Duration{time.Second, 2 * time.Second, 2 * time.Second}
}

// A DNS asks one resolver for addresses, past the system's, and remembers its
// answers as long as they say. It is safe for concurrent use.
type DNS struct {
	server string // for messages
	ask    exchange
	idle   func()        // closes idle connections
	wait   time.Duration // siblingWait, but in tests

	flights singleflight.Group

	mu    sync.Mutex // guards the following
	cache map[dnsKey]dnsEntry
}

// An exchange sends a question and returns the answer, the first that ours takes
// where there may be several.
type exchange func(ctx context.Context, query []byte, ours func([]byte) error) ([]byte, error)

type dnsKey struct {
	name string // absolute, in small letters
	typ  dnsmessage.Type
}

func (k dnsKey) String() string { return k.typ.String() + " " + k.name }

type dnsEntry struct {
	addrs   []netip.Addr // none if the name does not exist, or has none of this family
	expires time.Time
	keep    time.Time // stale addresses are of use until then
}

// NewDNS makes a DNS of the resolver at u: https://HOST:PORT/PATH (DNS over HTTPS,
// RFC 8484), tls://HOST:PORT (DNS over TLS, RFC 7858) or udp://HOST:PORT, with
// TCP for what is too long. Where HOST is a name, the system looks it up. tc is
// the base configuration of TLS; nil means the system's roots.
func NewDNS(u *url.URL, tc *tls.Config) (*DNS, error) {
	if tc == nil {
		tc = &tls.Config{}
	}
	tc = tc.Clone()
	d := &DNS{server: u.String(), wait: siblingWait, cache: make(map[dnsKey]dnsEntry), idle: func() {}}
	switch u.Scheme {
	case "https":
		t := &http.Transport{TLSClientConfig: tc, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: dotSpare, IdleConnTimeout: 90 * time.Second,
			HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: dnsBudget}}
		d.ask, d.idle = overHTTPS(t, u), t.CloseIdleConnections
	case "tls":
		tc.ServerName = cmp.Or(tc.ServerName, u.Hostname())
		tc.ClientSessionCache = tls.NewLRUClientSessionCache(dotSpare)
		p := &dotPool{dial: (&tls.Dialer{Config: tc}).DialContext, addr: u.Host}
		d.ask, d.idle = p.exchange, p.close
	case "udp":
		d.ask = overUDP(u.Host)
	default:
		return nil, fmt.Errorf("%q is no scheme of a resolver", u.Scheme)
	}
	return d, nil
}

// CloseIdleConnections closes the connections to the resolver that are not in
// use. The DNS can be used on.
func (d *DNS) CloseIdleConnections() { d.idle() }

// LookupNetIP looks up the addresses of a host: of both families for the network
// "ip", or of one for "ip4" and "ip6". Its error is a *net.DNSError, of which
//
//   - IsNotFound says that the name does not exist or has no address,
//   - IsTimeout that the resolver does not answer,
//   - IsTemporary alone that it answers with trouble of its own, such as SERVFAIL,
//   - and none of these that it answers for another name than was asked.
func (d *DNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.DNSStart != nil {
		t.DNSStart(httptrace.DNSStartInfo{Host: host})
	}
	addrs, err := d.lookup(ctx, network, host)
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.DNSDone != nil {
		info := httptrace.DNSDoneInfo{}
		if err != nil {
			info.Err = err
		}
		for _, a := range addrs {
			info.Addrs = append(info.Addrs, net.IPAddr{IP: a.AsSlice()})
		}
		t.DNSDone(info)
	}
	if err != nil {
		return nil, err
	}
	return addrs, nil
}

func (d *DNS) lookup(ctx context.Context, network, host string) ([]netip.Addr, *net.DNSError) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761: asked of nobody
		return loopback(network), nil
	}
	if _, err := dnsmessage.NewName(name + "."); err != nil || name == "" {
		return nil, &net.DNSError{Err: "it is not a name that can exist", Name: host, IsNotFound: true}
	}
	var six, four <-chan singleflight.Result
	if network != "ip6" {
		four = d.start(dnsKey{name + ".", dnsmessage.TypeA})
	}
	if network != "ip4" {
		six = d.start(dnsKey{name + ".", dnsmessage.TypeAAAA})
	}
	var addrs []netip.Addr
	var worst *net.DNSError
	var enough <-chan time.Time
	take := func(r singleflight.Result) {
		a := r.Val.(dnsAnswer)
		addrs = append(addrs, a.addrs...)
		if a.err != nil && (worst == nil || worst.IsNotFound) {
			worst = a.err
		}
		if len(addrs) > 0 && enough == nil {
			enough = time.After(d.wait)
		}
	}
	for six != nil || four != nil {
		select {
		case r := <-six:
			six = nil
			take(r)
		case r := <-four:
			four = nil
			take(r)
		case <-enough:
			// A busy machine may have come to this late, with the rest at hand.
			select {
			case r := <-six:
				take(r)
			case r := <-four:
				take(r)
			default:
			}
			return addrs, nil
		case <-ctx.Done():
			if len(addrs) > 0 {
				return addrs, nil
			}
			cause := context.Cause(ctx)
			return nil, &net.DNSError{Err: "the resolver has not answered: " + cause.Error(), Name: host, Server: d.server,
				IsTimeout: errors.Is(cause, context.DeadlineExceeded), IsTemporary: true, UnwrapErr: cause}
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	e := *worst
	e.Name, e.Server = host, d.server
	return nil, &e
}

func loopback(network string) []netip.Addr {
	four, six := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	switch network {
	case "ip4":
		return []netip.Addr{four}
	case "ip6":
		return []netip.Addr{six}
	}
	return []netip.Addr{six, four}
}

// A dnsAnswer is what is known of one name and type. It has addresses or err.
type dnsAnswer struct {
	addrs []netip.Addr
	err   *net.DNSError
}

func notFound(text string) dnsAnswer {
	return dnsAnswer{err: &net.DNSError{Err: text, IsNotFound: true}}
}

const noSuchHost = "no such host"

// start asks the memory or the resolver. Who asks for the same at the same time
// shares one question, which therefore goes on, up to dnsBudget, when one of
// them gives up.
func (d *DNS) start(k dnsKey) <-chan singleflight.Result {
	if a, ok := d.remembered(k, false); ok {
		c := make(chan singleflight.Result, 1)
		c <- singleflight.Result{Val: a}
		return c
	}
	return d.flights.DoChan(k.String(), func() (any, error) {
		if a, ok := d.remembered(k, false); ok { // since we looked
			return a, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), dnsBudget)
		defer cancel()
		a, ttl, err := d.query(ctx, k)
		if err != nil {
			if old, ok := d.remembered(k, true); ok {
				return old, nil
			}
			return dnsAnswer{err: err}, nil
		}
		d.remember(k, a, ttl)
		if len(a) == 0 {
			return notFound(noSuchHost), nil
		}
		return dnsAnswer{addrs: a}, nil
	})
}

// remembered is what an earlier answer said; with stale also one whose time is
// over, which then counts a while longer.
func (d *DNS) remembered(k dnsKey, stale bool) (dnsAnswer, bool) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.cache[k]
	switch {
	case !ok:
		return dnsAnswer{}, false
	case now.Before(e.expires):
	case stale && len(e.addrs) > 0 && now.Before(e.keep):
		e.expires = now.Add(staleRetry)
		d.cache[k] = e
	default:
		return dnsAnswer{}, false
	}
	if len(e.addrs) == 0 {
		return notFound(noSuchHost), true
	}
	return dnsAnswer{addrs: slices.Clone(e.addrs)}, true
}

func (d *DNS) remember(k dnsKey, addrs []netip.Addr, ttl time.Duration) {
	now := time.Now()
	e := dnsEntry{addrs: slices.Clone(addrs), expires: now.Add(min(ttl, longestTTL)), keep: now.Add(staleFor)}
	if len(addrs) == 0 {
		e.expires = now.Add(min(ttl, longestNoTTL))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.cache[k]; !ok && len(d.cache) >= dnsEntries {
		for old := range d.cache { // any one: so many names are those of an attack, or of a test
			delete(d.cache, old)
			break
		}
	}
	d.cache[k] = e
}

// query asks the resolver. Without an error and without addresses, the name has
// none of this type.
func (d *DNS) query(ctx context.Context, k dnsKey) ([]netip.Addr, time.Duration, *net.DNSError) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName(k.name), Type: k.typ, Class: dnsmessage.ClassINET}
	id := uint16(rand.Uint32())
	if strings.HasPrefix(d.server, "https:") {
		id = 0 // RFC 8484: so that caches on the way can know the question again
	}
	query, err := question(id, q)
	if err != nil {
		return nil, 0, &net.DNSError{Err: err.Error(), IsTemporary: true}
	}
	msg, err := d.ask(ctx, query, func(msg []byte) error { return checkOurs(msg, id, q) })
	switch {
	case err == nil:
		err = checkOurs(msg, id, q)
	case errors.Is(err, errForeign):
	case unanswered(err):
		return nil, 0, &net.DNSError{Err: "the resolver does not answer: " + err.Error(), IsTimeout: true, IsTemporary: true}
	default:
		return nil, 0, &net.DNSError{Err: "the resolver is broken: " + err.Error(), IsTemporary: true}
	}
	var addrs []netip.Addr
	var ttl time.Duration
	if err == nil {
		addrs, ttl, err = parseAnswer(msg, q)
	}
	switch {
	case errors.Is(err, errForeign):
		return nil, 0, &net.DNSError{Err: "the resolver answers for another name than was asked"}
	case err != nil:
		return nil, 0, &net.DNSError{Err: "the resolver is broken: " + err.Error(), IsTemporary: true}
	}
	return addrs, ttl, nil
}

// unanswered reports whether err says that nothing was heard, rather than
// something that is wrong.
func unanswered(err error) bool {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "read" || op.Op == "write") {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// question is the message that asks q.
func question(id uint16, q dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	var opt dnsmessage.ResourceHeader
	for _, step := range []func() error{
		b.StartQuestions,
		func() error { return b.Question(q) },
		b.StartAdditionals,
		func() error { return opt.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false) },
		func() error { return b.OPTResource(opt, dnsmessage.OPTResource{}) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// errForeign: an answer to a question that we did not ask, or for another name.
var errForeign = errors.New("it is not the answer to what was asked")

// checkOurs reports, as errForeign or as damage, that msg is no answer to q.
func checkOurs(msg []byte, id uint16, q dnsmessage.Question) error {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil {
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	if h.ID != id || !h.Response {
		return errForeign
	}
	switch got, err := p.Question(); {
	case errors.Is(err, dnsmessage.ErrSectionDone) && h.RCode != dnsmessage.RCodeSuccess: // some leave it out of a failure
		return nil
	case err != nil:
		return fmt.Errorf("its answer cannot be read: %w", err)
	case got.Type != q.Type || got.Class != q.Class || !sameName(got.Name, q.Name):
		return errForeign
	}
	return nil
}

func sameName(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }

// truncated reports whether the rest of msg must be asked for by TCP.
func truncated(msg []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	return err == nil && h.Truncated
}

// maxAlias is how many CNAMEs are followed in one answer.
const maxAlias = 16

// parseAnswer reads the addresses of q's name and type in an answer to q, also
// behind aliases, and how long they are good for. Without an error and without
// addresses there are none. errForeign: all addresses in it are other names'.
func parseAnswer(msg []byte, q dnsmessage.Question) ([]netip.Addr, time.Duration, error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil {
		return nil, 0, fmt.Errorf("its answer cannot be read: %w", err)
	}
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return nil, 0, fmt.Errorf("it says %s", rcodeText(h.RCode))
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, 0, fmt.Errorf("its answer cannot be read: %w", err)
	}
	type record struct {
		addr netip.Addr
		ttl  uint32
	}
	type alias struct {
		to  string
		ttl uint32
	}
	records, aliases := map[string][]record{}, map[string]alias{}
	blocked := false
	for {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		owner := strings.ToLower(rh.Name.String())
		var addr netip.Addr
		switch {
		case err != nil:
		case rh.Class == dnsmessage.ClassINET && rh.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				aliases[owner] = alias{strings.ToLower(r.CNAME.String()), rh.TTL}
			}
		case rh.Class == dnsmessage.ClassINET && rh.Type == q.Type && q.Type == dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = p.AResource()
			addr = netip.AddrFrom4(r.A)
		case rh.Class == dnsmessage.ClassINET && rh.Type == q.Type && q.Type == dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			addr = netip.AddrFrom16(r.AAAA)
		default:
			err = p.SkipAnswer()
		}
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("its answer cannot be read: %w", err)
		case !addr.IsValid() || addr.Is4In6():
		case addr.IsUnspecified(): // to connect to it would be to connect to ourselves
			blocked = true
		default:
			records[owner] = append(records[owner], record{addr, rh.TTL})
		}
	}

	name, ttl := strings.ToLower(q.Name.String()), uint32(longestTTL/time.Second)
	for range maxAlias {
		if a, ok := aliases[name]; ok {
			name, ttl = a.to, min(ttl, a.ttl)
		}
	}
	var addrs []netip.Addr
	for _, r := range records[name] {
		addrs, ttl = append(addrs, r.addr), min(ttl, r.ttl)
	}
	switch {
	case len(addrs) > 0:
		return addrs, time.Duration(ttl) * time.Second, nil
	case blocked:
		return nil, 0, errors.New("it blocks this name: it gives the address of no machine")
	case len(records) > 0:
		return nil, 0, errForeign
	}
	return nil, absence(&p), nil
}

// absence is how long it counts that something does not exist, as the SOA record
// beside the answer says; 0 if there is none (RFC 2308).
func absence(p *dnsmessage.Parser) time.Duration {
	for {
		rh, err := p.AuthorityHeader()
		if err != nil {
			return 0
		}
		if rh.Type != dnsmessage.TypeSOA {
			if p.SkipAuthority() != nil {
				return 0
			}
			continue
		}
		r, err := p.SOAResource()
		if err != nil {
			return 0
		}
		return time.Duration(min(r.MinTTL, rh.TTL)) * time.Second
	}
}

func rcodeText(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	}
	return fmt.Sprintf("failure %d", c)
}

// overHTTPS asks by POST, and follows no redirect.
func overHTTPS(t *http.Transport, u *url.URL) exchange {
	const dnsType = "application/dns-message"
	return func(ctx context.Context, query []byte, _ func([]byte) error) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(query))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", dnsType)
		req.Header.Set("Accept", dnsType)
		resp, err := t.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("it says %s", statusText(resp.StatusCode))
		}
		if mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mt != dnsType {
			return nil, fmt.Errorf("its answer is %q, and not %s", resp.Header.Get("Content-Type"), dnsType)
		}
		return io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	}
}

// overUDP asks by datagrams, and by TCP for what does not fit in one. Datagrams
// that are not the answer are passed over, since anybody may send some.
func overUDP(addr string) exchange {
	return func(ctx context.Context, query []byte, ours func([]byte) error) ([]byte, error) {
		var last error
		for _, wait := range dnsTries() {
			msg, err := datagram(ctx, addr, query, wait, ours)
			if err == nil {
				if truncated(msg) {
					return overTCP(ctx, addr, query)
				}
				return msg, nil
			}
			last = err
			if again := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errForeign); !again || ctx.Err() != nil {
				break
			}
		}
		return nil, last
	}
}

func datagram(ctx context.Context, addr string, query []byte, wait time.Duration, ours func([]byte) error) ([]byte, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(deadline(ctx, wait))
	defer hurry(ctx, conn)()
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, udpSize)
	var foreign error
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, cmp.Or(foreign, err)
		}
		if err := ours(buf[:n]); err == nil {
			return buf[:n], nil
		} else if errors.Is(err, errForeign) {
			foreign = err
		}
	}
}

// hurry makes conn give up when ctx is given up; what it returns ends that.
func hurry(ctx context.Context, conn net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

// deadline is when wait is over, or ctx.
func deadline(ctx context.Context, wait time.Duration) time.Time {
	t := time.Now().Add(wait)
	if end, ok := ctx.Deadline(); ok && end.Before(t) {
		return end
	}
	return t
}

func overTCP(ctx context.Context, addr string, query []byte) ([]byte, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return framed(ctx, conn, query)
}

// framed asks over a stream, where each message has its length before it.
func framed(ctx context.Context, conn net.Conn, query []byte) ([]byte, error) {
	conn.SetDeadline(deadline(ctx, dnsBudget))
	defer hurry(ctx, conn)()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, msg)
	return msg, err
}

// A dotPool asks over TLS connections, and keeps dotSpare of them for dotIdle.
type dotPool struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	addr string

	mu   sync.Mutex // guards the following; never held across I/O
	idle []idleConn
}

type idleConn struct {
	net.Conn
	expiry *time.Timer // closes it
}

func (p *dotPool) exchange(ctx context.Context, query []byte, _ func([]byte) error) ([]byte, error) {
	if conn := p.take(); conn != nil {
		if msg, err := framed(ctx, conn, query); err == nil {
			p.put(conn)
			return msg, nil
		}
		conn.Close() // the resolver may have closed it while it was idle
	}
	conn, err := p.dial(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	msg, err := framed(ctx, conn, query)
	if err != nil {
		conn.Close()
		return nil, err
	}
	p.put(conn)
	return msg, nil
}

func (p *dotPool) take() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		last := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if last.expiry.Stop() {
			return last.Conn
		}
	}
	return nil
}

func (p *dotPool) put(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= dotSpare {
		conn.Close()
		return
	}
	p.idle = append(p.idle, idleConn{conn, time.AfterFunc(dotIdle, func() {
		conn.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle = slices.DeleteFunc(p.idle, func(c idleConn) bool { return c.Conn == conn })
	})})
}

func (p *dotPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.expiry.Stop()
		c.Close()
	}
	p.idle = nil
}
