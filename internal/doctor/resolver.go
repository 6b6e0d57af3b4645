package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/upstream"
)

// Names says how this machine finds the addresses of names. The zero value: that is
// not known, and nothing is said of it.
type Names struct {
	Conf, Hosts string // the files resolv.conf and hosts; "" where the system has none
	// System asks as programs with the C library do; nil if there is no way to. Only a
	// *net.DNSError that is not found says that the name has no address.
	System func(ctx context.Context, host string) ([]netip.Addr, error)
	// GoHasSystem reports whether the go command here can ask like System; nil: not.
	GoHasSystem func() bool
	// Opinion is another resolver that the user wants to be asked too, and OpinionName
	// what people call it; nil: none.
	Opinion     upstream.Resolver
	OpinionName string

	port uint16 // of name servers; 0 is 53
}

// A resolvConf is what counts of a resolv.conf file, as the go command reads it.
type resolvConf struct {
	servers []netip.Addr // at most 3
	search  []string     // domains without the last dot
	ndots   int          // a name with fewer dots is first looked for in the domains
	timeout time.Duration
	useTCP  bool
	given   bool // it names servers; else this machine itself is asked
}

// parseResolvConf reads a resolv.conf file as net.dnsReadConfig does, for a machine of
// that name.
func parseResolvConf(text, hostname string) resolvConf {
	c := resolvConf{ndots: 1, timeout: 5 * time.Second}
	number := func(s string, least, most int) int {
		n := 0
		for i := 0; i < len(s) && s[i] >= '0' && s[i] <= '9' && n < 1<<20; i++ {
			n = 10*n + int(s[i]-'0')
		}
		return min(max(n, least), most)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || line[0] == ';' || line[0] == '#' {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(c.servers) < 3 {
				c.servers = append(c.servers, a)
			}
		case "domain":
			c.search = domains(f[1:2])
		case "search":
			c.search = domains(f[1:])
		case "options":
			for _, o := range f[1:] {
				name, value, _ := strings.Cut(o, ":")
				switch name {
				case "ndots":
					c.ndots = number(value, 0, 15)
				case "timeout":
					c.timeout = time.Duration(number(value, 1, 1<<20)) * time.Second
				case "use-vc", "usevc", "tcp":
					c.useTCP = true
				}
			}
		}
	}
	c.given = len(c.servers) > 0
	if !c.given {
		c.servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if _, domain, ok := strings.Cut(hostname, "."); ok && len(c.search) == 0 {
		c.search = domains([]string{domain})
	}
	return c
}

func domains(names []string) (list []string) {
	for _, n := range names {
		if n = strings.TrimSuffix(n, "."); n != "" {
			list = append(list, n)
		}
	}
	return list
}

// names are the full names that are asked for a host, in order, without the last dot.
func (c resolvConf) names(host string) []string {
	full := strings.TrimSuffix(host, ".")
	if full != host {
		return []string{full}
	}
	var list []string
	for _, d := range c.search {
		list = append(list, full+"."+d)
	}
	if strings.Count(full, ".") >= c.ndots {
		return slices.Insert(list, 0, full)
	}
	return append(list, full)
}

// inHosts are the addresses that the text of a hosts file has for a host.
func inHosts(text, host string) (addrs []netip.Addr) {
	host = strings.TrimSuffix(host, ".")
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err == nil && slices.ContainsFunc(f[1:], func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), host) }) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// maxNamesFile is how much of the files of a resolver is read, in bytes.
const maxNamesFile = 1 << 20

func readFile(name string) string {
	if name == "" {
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, maxNamesFile)
	n := 0
	for n < len(buf) {
		m, err := f.Read(buf[n:])
		if n += m; err != nil {
			break
		}
	}
	return string(buf[:n])
}

const (
	// slowName is how long a lookup may take before the name servers are asked one by
	// one, which costs each of them a question more.
	slowName = 700 * time.Millisecond
	// laterServer is how long a name server is waited for once one before it in the list
	// has answered: nobody needs it then.
	laterServer = 300 * time.Millisecond
	// quickSystem is how long the system's own resolver is waited for where the go
	// command's has answered.
	quickSystem = 500 * time.Millisecond
)

// An asked is what everybody says of one name.
type asked struct {
	host   string
	conf   resolvConf
	names  []string
	said   []upstream.Said // of conf.servers
	system []netip.Addr
	sysErr error // why there are none; errNotAsked if nobody could be asked
}

var errNotAsked = errors.New("it was not asked")

// good is the first server that has addresses; -1 if none has.
func (a *asked) good() int {
	return slices.IndexFunc(a.said, func(s upstream.Said) bool { return len(s.Addrs) > 0 })
}

// dead are the servers before the i'th from which nothing came, or not by UDP.
func (a *asked) dead(i int) (list []string) {
	for j, s := range a.said[:i] {
		if s.Silent || s.OnlyTCP && !a.conf.useTCP || s.NoTCP {
			list = append(list, a.conf.servers[j].String())
		}
	}
	return list
}

// A census asks about each name once, however many want to know.
type census struct {
	mu    sync.Mutex // guards the following; never held across I/O
	of    map[string]*poll
	early string // the host that was asked about beside the other checks; "" if none was
}

type poll struct {
	once sync.Once
	a    *asked
}

// poll asks everybody about a host, and waits for the go command's servers, and the
// system's resolver, as long as that.
func (s *Subject) poll(ctx context.Context, host string, wait, system time.Duration) *asked {
	s.census.mu.Lock()
	if s.census.of == nil {
		s.census.of = map[string]*poll{}
	}
	p := s.census.of[host]
	if p == nil {
		p = &poll{}
		s.census.of[host] = p
	}
	s.census.mu.Unlock()
	p.once.Do(func() { p.a = s.ask(ctx, host, wait, system) })
	return p.a
}

// pollEarly begins a poll about the first host that is found, so that nobody waits for it
// once all else has ended. The row of the name servers waits for it.
func (s *Subject) pollEarly(ctx context.Context, host string) {
	s.census.mu.Lock()
	first := s.census.early == ""
	if first {
		s.census.early = host
	}
	s.census.mu.Unlock()
	if first {
		go s.poll(ctx, host, s.Limits.Lookup, quickSystem)
	}
}

func (s *Subject) ask(ctx context.Context, host string, wait, system time.Duration) *asked {
	name, _ := os.Hostname()
	a := &asked{host: host, conf: parseResolvConf(readFile(s.Names.Conf), name), sysErr: errNotAsked}
	a.names = a.conf.names(host)
	a.said = make([]upstream.Said, len(a.conf.servers))
	var wg sync.WaitGroup
	if s.Names.System != nil {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, system)
			defer cancel()
			a.system, a.sysErr = s.Names.System(ctx, host)
		})
	}
	var mu sync.Mutex // guards hurried
	hurried := make([]context.CancelFunc, len(a.said))
	ctxs := make([]context.Context, len(a.said))
	for i := range a.said {
		ctxs[i], hurried[i] = context.WithCancel(ctx)
	}
	for i, server := range a.conf.servers {
		wg.Go(func() {
			defer hurried[i]()
			a.said[i] = upstream.AskServer(ctxs[i], netip.AddrPortFrom(server, cmp.Or(s.Names.port, 53)), a.names, wait, a.conf.useTCP)
			if a.said[i].Err == nil || a.said[i].NotFound {
				mu.Lock()
				defer mu.Unlock()
				for _, cancel := range hurried[i+1:] {
					time.AfterFunc(laterServer, cancel)
				}
			}
		})
	}
	wg.Wait()
	for i := range a.said {
		if ctxs[i].Err() != nil && a.said[i].Silent {
			a.said[i].Err = fmt.Errorf("no answer in %s: %w", short(a.said[i].Took), a.said[i].Err)
		}
	}
	return a
}

// knowing is ctx, in which requests go to the addresses of a name whose lookup takes
// longer than we have: the name is a row of its own, and what comes after it is to be
// seen too.
func knowing(ctx context.Context, name Row, host string) context.Context {
	if addrs, ok := name.Fact().([]netip.Addr); ok && name.State == Warn {
		return upstream.Knowing(ctx, host, addrs)
	}
	return ctx
}

// asksSystem reports whether the names of a way are looked up by the resolver of this
// machine, and whether it is known how that does it.
func (s *Subject) asksSystem(w way) bool {
	if s.Names.Conf == "" || w.resolver != "" {
		return false
	}
	if _, err := netip.ParseAddr(w.url.Hostname()); err == nil {
		return false
	}
	proxy, err := w.net.Forward(w.url)
	return proxy == nil && err == nil && !strings.EqualFold(w.url.Hostname(), "localhost")
}

// lookup is the check of a name.
func (s *Subject) lookup(ctx context.Context, w way, source string) Outcome {
	host := w.url.Hostname()
	type found struct {
		addrs []netip.Addr
		err   error
	}
	answer := make(chan found, 1)
	limited, cancel := context.WithTimeout(ctx, s.Limits.Lookup)
	defer cancel()
	go func() {
		addrs, err := w.net.Lookup(limited, source, host)
		answer <- found{addrs, err}
	}()
	var everybody chan *asked
	ask := func() {
		if everybody == nil && s.asksSystem(w) {
			everybody = make(chan *asked, 1)
			go func() { everybody <- s.poll(ctx, host, s.Limits.Lookup, s.Limits.Lookup) }()
		}
	}
	slow := time.NewTimer(slowName)
	defer slow.Stop()
	var got found
wait:
	for {
		select {
		case got = <-answer:
			break wait
		case <-slow.C:
			ask()
		}
	}
	if got.err == nil {
		if s.asksSystem(w) {
			s.pollEarly(ctx, host)
		}
		return Outcome{State: OK, Text: some(got.addrs), Fact: got.addrs}
	}
	ask()
	out := s.failed(got.err, w.url.Host)
	if everybody == nil {
		return out
	}
	a := <-everybody
	// A dead server before a good one costs more time than we have, and less than the go
	// command has.
	late := errors.Is(got.err, context.DeadlineExceeded) || isTimeout(got.err)
	if i := a.good(); late && i >= 0 && (len(a.dead(i)) > 0 || a.said[i].Half) {
		addrs := a.said[i].Addrs
		out = s.mean(Warn, finding.NameServerSilent, a.conf.servers[i].String(), fmt.Sprintf("%s, from %s; the go command gets there after a wait", some(addrs), a.conf.servers[i]))
		out.Fact = addrs
	}
	return out
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// some are the first of many addresses.
func some(addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs[:min(len(addrs), 4)] {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// overlap reports whether two lists have an address in common.
func overlap(a, b []netip.Addr) bool {
	return slices.ContainsFunc(a, func(x netip.Addr) bool {
		return slices.ContainsFunc(b, func(y netip.Addr) bool { return x.Unmap() == y.Unmap() })
	})
}

// ids are the rows of a way that go wrong where its name leads to a wrong address, in
// their order.
func (w *way) ids() []string {
	return []string{w.id + ".name", w.id + ".connect", w.id + ".tls", w.id + ".answer", w.id + ".list", w.id + ".mod", w.id + ".zip", w.id + ".sumdb"}
}

// bad is the first row of a way that failed, at the name or behind it, by something
// that the name can be the reason of.
func (w *way) bad(seen Seen) *Row {
	for _, id := range w.ids() {
		r, ok := seen[id]
		if !ok || r.State != Fail || r.outcome.Finding == nil {
			continue
		}
		switch r.outcome.Finding.Code {
		case finding.SourceDNS, finding.DNSHijackOrPortal, finding.SourceConnectTimeout, finding.SourceRefused, finding.SourceNoRoute, finding.SourceTLSUnknownCA, finding.SourceTLSHostname,
			finding.SourceTLSHandshake, finding.SourceTLSExpired, finding.NameFiltered, finding.SourceHTML, finding.SourceWrongAnswer, finding.SourceBadStatus, finding.SourceForbidden,
			finding.SourceSilent, finding.SourceReset, finding.SumDBUnreachable:
			return &r
		}
	}
	return nil
}

// trouble makes an outcome that explains the rows of a way that failed: a failure if one
// of them costs somebody something, else a warning.
func (s *Subject) trouble(seen Seen, ways []way, code finding.Code, about, text string) Outcome {
	excused := slices.Concat(seen["supply.modules"].outcome.Excuses, seen["supply.checksums"].outcome.Excuses)
	state := Warn
	var explains []string
	for _, w := range ways {
		for _, id := range w.ids() {
			r := seen[id]
			if r.State != Fail && r.State != Warn {
				continue
			}
			explains = append(explains, id)
			if r.State == Fail && !slices.Contains(excused, id) {
				state = Fail
			}
		}
	}
	out := s.mean(state, code, about, text)
	out.Explains = explains
	return out
}

// serves is the first of addrs at which the service of a way is: it accepts, and over
// https shows a certificate that is trusted. Three of them are tried.
func (s *Subject) serves(ctx context.Context, w way, addrs []netip.Addr) (netip.Addr, bool) {
	_, port, err := net.SplitHostPort(upstream.HostPort(w.url))
	if err != nil {
		return netip.Addr{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Lookup)
	defer cancel()
	addrs = addrs[:min(len(addrs), 3)]
	good := make([]bool, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() {
			conn, err := w.net.Connect(ctx, w.group, netip.AddrPortFrom(a, uint16(n)))
			if err != nil {
				return
			}
			if w.url.Scheme != "https" {
				conn.Close()
				good[i] = true
				return
			}
			_, err = w.net.Handshake(ctx, w.group, conn, w.url.Hostname())
			good[i] = err == nil
		})
	}
	wg.Wait()
	if i := slices.Index(good, true); i >= 0 {
		return addrs[i], true
	}
	return netip.Addr{}, false
}

// names are the checks of how names are found, which come after those of all ways.
func (s *Subject) names(ways []way, after []string) []Check {
	return []Check{
		{ID: "machine.resolver", Group: "Machine", Title: "name servers", Link: "name", After: after, Run: func(ctx context.Context, seen Seen) Outcome {
			var own []way
			for _, w := range ways {
				if s.asksSystem(w) && seen[w.id+".name"].State != NA {
					own = append(own, w)
				}
			}
			return s.resolver(ctx, seen, own)
		}},
		{ID: "machine.opinion", Group: "Machine", Title: "second opinion on names", Link: "name", After: slices.Concat(after, []string{"machine.resolver"}), Run: func(ctx context.Context, seen Seen) Outcome {
			var own []way
			for _, w := range ways {
				if seen[w.id+".name"].State != NA && seen[w.id+".name"].ID != "" {
					own = append(own, w)
				}
			}
			return s.opinion(ctx, seen, own)
		}},
	}
}

// resolver asks each name server by itself, the system's resolver and the hosts file
// about one name: one that is in trouble, or else the first that was found.
func (s *Subject) resolver(ctx context.Context, seen Seen, ways []way) Outcome {
	if s.Names.Conf == "" {
		return Outcome{State: NA, Text: "this system does not say how it finds names"}
	}
	if len(ways) == 0 {
		return Outcome{State: NA, Text: "no name is looked up by this machine"}
	}
	s.census.mu.Lock()
	early := s.census.early
	s.census.mu.Unlock()
	if early != "" {
		s.poll(ctx, early, s.Limits.Lookup, quickSystem)
	}
	w := ways[max(0, slices.IndexFunc(ways, func(x way) bool { return x.url.Hostname() == early }))]
	// What failed at its name shows more than what failed later.
	for _, step := range []func(way) bool{
		func(x way) bool { return x.bad(seen) != nil },
		func(x way) bool { st := seen[x.id+".name"].State; return st == Fail || st == Warn },
	} {
		if i := slices.IndexFunc(ways, step); i >= 0 {
			w = ways[i]
		}
	}
	host := w.url.Hostname()
	name, bad := seen[w.id+".name"], w.bad(seen)
	system := quickSystem
	if name.State != OK {
		system = s.Limits.Lookup
	}
	a := s.poll(ctx, host, s.Limits.Lookup, system)
	if ctx.Err() != nil {
		return Outcome{State: Incomplete, Text: "the name servers have not all been heard"}
	}
	// Whatever has failed for want of a name is explained with it.
	var nameless []way
	for _, x := range ways {
		if r := seen[x.id+".name"]; r.State == Fail || r.State == Warn || seen[x.id+".answer"].State == Fail && x.id == w.id {
			nameless = append(nameless, x)
		}
	}
	out := s.servers(seen, nameless, a, name)
	if out == nil && bad != nil && name.State == OK {
		out = s.elsewhere(ctx, seen, w, a, name)
	}
	if out == nil {
		out = &Outcome{State: OK, Text: a.text(s)}
	}
	out.Fact = a
	return *out
}

// text says who is asked and what stands out, where nothing is the matter.
func (a *asked) text(s *Subject) string {
	var list []string
	for i, server := range a.conf.servers {
		text := server.String()
		switch x := a.said[i]; {
		case x.Refused:
			text += " (refuses, so the next is asked at once)"
		case x.Silent:
			text += " (no answer in " + short(x.Took) + ", and nobody needs it)"
		case x.NotFound && a.good() >= 0:
			text += " (does not know " + a.host + ")"
		case x.Err != nil && !x.NotFound:
			text += " (" + finding.OneLine(x.Err.Error(), 80) + ")"
		}
		list = append(list, text)
	}
	text := strings.Join(list, ", ")
	if !a.conf.given {
		text += ", as " + s.Names.Conf + " names none"
	}
	if len(a.conf.search) > 0 {
		text += "; searched: " + strings.Join(a.conf.search[:min(len(a.conf.search), 4)], ", ")
	}
	if hosts := inHosts(readFile(s.Names.Hosts), a.host); len(hosts) > 0 {
		text += "; " + a.host + " is in " + s.Names.Hosts + ": " + some(hosts)
	}
	return text
}

// servers is what is wrong with the name servers themselves; nil: nothing.
func (s *Subject) servers(seen Seen, ways []way, a *asked, name Row) *Outcome {
	say := func(code finding.Code, about, text string) *Outcome {
		out := s.trouble(seen, ways, code, about, text)
		return &out
	}
	fails := name.State == Fail
	good := a.good()
	server := func(i int) string { return a.conf.servers[i].String() }
	if good < 0 && !fails {
		return nil // a hosts file has the name, or it was found just now
	}
	// Those that come first and give nothing are waited for at each name.
	if good > 0 {
		if dead := a.dead(good); len(dead) > 0 {
			out := say(finding.NameServerSilent, dead[0], fmt.Sprintf("%s does not answer and stands in %s before %s, which does: each name takes %v longer", strings.Join(dead, " and "), s.Names.Conf, server(good), a.conf.timeout))
			out.Subject = strings.Join(dead, ", ")
			return out
		}
	}
	if good >= 0 && fails {
		for i, x := range a.said[:good] {
			if x.NotFound {
				return say(finding.NameServersDiffer, a.host, fmt.Sprintf("%s says that %s does not exist, and so the go command asks nobody else; %s has %s", server(i), a.host, server(good), some(a.said[good].Addrs)))
			}
		}
	}
	if good >= 0 {
		switch x := a.said[good]; {
		case x.OnlyTCP && !a.conf.useTCP:
			out := say(finding.NameServerSilent, server(good), server(good)+" answers by TCP alone: UDP to port 53 is blocked on the way, or it does not listen there")
			out.Finding.Mend = "let UDP to port 53 through, or have names asked by TCP"
			if s.Place == finding.Terminal {
				out.Finding.Fix = []string{"echo 'options use-vc' | sudo tee -a " + s.Names.Conf}
			}
			return out
		case x.Half:
			return say(finding.NameServerSilent, server(good), fmt.Sprintf("%s answers for one kind of address and is silent for the other, for which each lookup waits %v", server(good), a.conf.timeout))
		}
	}
	if !fails || good == 0 { // with the latter it works now
		return nil
	}
	if len(a.system) > 0 && good < 0 {
		out := say(finding.ResolversDiffer, a.host, fmt.Sprintf("the go command's own resolver fails (%s), and the system's gives %s", finding.OneLine(name.Text, 120), some(a.system)))
		if s.Names.GoHasSystem != nil && s.Names.GoHasSystem() {
			s.netdns(out)
		}
		return out
	}
	var silent, refuse, noTCP []string
	for i, x := range a.said {
		switch {
		case x.Refused:
			refuse = append(refuse, server(i))
		case x.NoTCP:
			noTCP = append(noTCP, server(i))
		case x.Silent:
			silent = append(silent, server(i))
		}
	}
	switch {
	case len(noTCP) > 0 && good < 0:
		return say(finding.NameServerSilent, strings.Join(noTCP, ", "), fmt.Sprintf("the answer of %s for %s is too long for a datagram, and by TCP nothing comes: port 53 is open for UDP alone", strings.Join(noTCP, " and "), a.host))
	case len(silent)+len(refuse) == len(a.said):
		var texts []string
		if len(silent) > 0 {
			texts = append(texts, strings.Join(silent, " and ")+" does not answer")
		}
		if len(refuse) > 0 {
			texts = append(texts, strings.Join(refuse, " and ")+" refuses: no name server listens there")
		}
		where := "which " + s.Names.Conf + " names"
		if !a.conf.given {
			where = "which is asked since " + s.Names.Conf + " names no server"
		}
		text := strings.Join(texts, ", ") + ", " + where
		if !slices.ContainsFunc(a.said, func(x upstream.Said) bool { return !leadsNowhere(x.Err) }) {
			text = "no network leads to " + strings.Join(silent, " and ")
		}
		out := say(finding.NameServerSilent, "", text)
		out.Subject = strings.Join(slices.Concat(silent, refuse), ", ")
		out.Finding.Mend = "have " + s.Names.Conf + " name a server that answers; a container gets one by --dns"
		if s.Place == finding.Terminal {
			out.Finding.Fix = []string{"cat " + s.Names.Conf}
			if slices.Contains(slices.Concat(silent, refuse), "127.0.0.53") { // systemd-resolved
				out.Finding.Fix = []string{"sudo systemctl restart systemd-resolved"}
			}
		}
		return out
	}
	return nil
}

// netdns adds what a go command can do about it that was built to ask the system's
// resolver too: GODEBUG says when.
func (s *Subject) netdns(out *Outcome) {
	debug := s.Getenv("GODEBUG")
	if i := strings.Index(debug, "netdns=go"); i >= 0 {
		out.Text += "; GODEBUG=netdns=go keeps the go command from asking the system's"
	} else {
		out.Finding.Confidence = finding.Medium // it may ask it by itself
		out.Text += "; the go command here can ask the system's too"
	}
	out.Finding.Mend = "have the go command ask the system; Sluice has its own resolver, so give resolv.conf a server that knows the host"
	switch s.Place {
	case finding.Terminal:
		out.Finding.Fix = []string{"export GODEBUG=netdns=cgo"}
	case finding.PowerShell:
		out.Finding.Fix = []string{"$env:GODEBUG = 'netdns=cgo'"}
	}
}

// elsewhere is why a name leads to an address that does not serve, where that shows:
// the hosts file has it, or a search domain; nil: neither.
func (s *Subject) elsewhere(ctx context.Context, seen Seen, w way, a *asked, name Row) *Outcome {
	host := w.url.Hostname()
	used, _ := name.Fact().([]netip.Addr)
	good := a.good()
	if hosts := inHosts(readFile(s.Names.Hosts), host); len(hosts) > 0 && overlap(hosts, used) {
		if good < 0 || overlap(hosts, a.said[good].Addrs) {
			return nil // it says what everybody says
		}
		at, ok := s.serves(ctx, w, a.said[good].Addrs)
		if !ok {
			return nil
		}
		out := s.trouble(seen, []way{w}, finding.HostsFile, w.url.Host, fmt.Sprintf("%s has %s for %s, where it does not work; the name servers have %s, where it does", s.Names.Hosts, some(hosts), host, at))
		return &out
	}
	if good < 0 || !strings.Contains(strings.TrimSuffix(host, "."), ".") {
		return nil // a name without a dot is meant to be searched for
	}
	full := strings.ToLower(strings.TrimSuffix(host, "."))
	if a.said[good].Name == full || !overlap(used, a.said[good].Addrs) {
		return nil
	}
	text := fmt.Sprintf("%s is answered as %s, by a domain that %s has searched", host, a.said[good].Name, s.Names.Conf)
	real := upstream.AskServer(ctx, netip.AddrPortFrom(a.conf.servers[good], cmp.Or(s.Names.port, 53)), []string{full}, s.Limits.Lookup, a.conf.useTCP)
	if len(real.Addrs) == 0 && !real.NotFound {
		return nil
	}
	confidence := finding.High
	if len(real.Addrs) > 0 {
		if overlap(real.Addrs, used) {
			return nil
		}
		text += fmt.Sprintf("; the name itself has %s", some(real.Addrs))
		if _, ok := s.serves(ctx, w, real.Addrs); !ok {
			confidence = finding.Medium
		}
	} else {
		text += "; the name itself does not exist"
	}
	out := s.trouble(seen, []way{w}, finding.SearchDomain, w.url.Host, text)
	out.Finding.Confidence = confidence
	return &out
}

// opinion asks another resolver, that the user named, about all names, and believes
// neither it nor the own one: the certificate at the address decides.
func (s *Subject) opinion(ctx context.Context, seen Seen, ways []way) Outcome {
	if s.Names.Opinion == nil {
		return Outcome{State: NA, Text: "nobody else is to be asked; --doh URL names one"}
	}
	if len(ways) == 0 {
		return Outcome{State: NA, Text: "no name is looked up by this machine"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Limits.Lookup+s.Limits.Lookup)
	defer cancel()
	type heard struct {
		addrs []netip.Addr
		err   error
	}
	said := make([]heard, len(ways))
	var wg sync.WaitGroup
	for i, w := range ways {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, s.Limits.Lookup)
			defer cancel()
			said[i].addrs, said[i].err = s.Names.Opinion.LookupNetIP(ctx, "ip", w.url.Hostname())
		})
	}
	wg.Wait()
	explained := seen["machine.resolver"].outcome.Explains
	var texts []string
	for i, w := range ways {
		host, name, bad := w.url.Hostname(), seen[w.id+".name"], w.bad(seen)
		h := said[i]
		used, _ := name.Fact().([]netip.Addr)
		switch {
		case h.err != nil:
			texts = append(texts, fmt.Sprintf("%s: %s", host, finding.OneLine(h.err.Error(), 120)))
			continue
		case bad == nil && overlap(used, h.addrs):
			texts = append(texts, host+" is the same there")
			continue
		case bad == nil:
			texts = append(texts, fmt.Sprintf("%s is %s there, and what was found here works", host, some(h.addrs)))
			continue
		case slices.Contains(explained, bad.ID) || overlap(used, h.addrs):
			texts = append(texts, fmt.Sprintf("%s is %s there", host, some(h.addrs)))
			continue
		}
		at, ok := s.serves(ctx, w, h.addrs)
		switch {
		case name.State == Fail:
			text := fmt.Sprintf("%s has %s for %s, which the name servers here deny", s.Names.OpinionName, some(h.addrs), host)
			if ok {
				text += fmt.Sprintf("; it works at %s", at)
			}
			out := s.trouble(seen, []way{w}, finding.NameDenied, w.url.Host, text)
			return out
		case ok:
			out := s.trouble(seen, []way{w}, finding.DNSHijackOrPortal, w.url.Host, fmt.Sprintf("the name leads to %s here, where it does not work, and to %s by %s, where it does", some(used), at, s.Names.OpinionName))
			if w.url.Scheme != "https" { // any server accepts a connection
				out.Finding.Confidence = finding.Medium
			}
			return out
		}
		texts = append(texts, fmt.Sprintf("%s is %s there, where it does not work either", host, some(h.addrs)))
	}
	state := OK
	if !slices.ContainsFunc(said, func(h heard) bool { return h.err == nil }) {
		state = NA // where it may not be asked, it has no say
	}
	return Outcome{State: state, Text: s.Names.OpinionName + ": " + strings.Join(texts, "; ")}
}

// standIn is the network whose addresses VPN and proxy programs hand out in place of the
// real ones, to take the connections up themselves.
var standIn = netip.MustParsePrefix("198.18.0.0/15")

// fakeIP makes the failure at a stand-in address what it most likely is: the program
// that hands them out does not carry the connection.
func (s *Subject) fakeIP(out Outcome, u *url.URL, addr netip.Addr) Outcome {
	if out.State != Fail || !standIn.Contains(addr.Unmap()) || finding.OwnNetwork(u.Hostname()) {
		return out
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return out
	}
	out = s.mean(Fail, finding.DNSHijackOrPortal, u.Host, fmt.Sprintf("the name leads to %s, which no service has: a VPN or proxy program answers with such addresses to carry the connections itself, and does not carry this one: %s", addr, out.Text))
	out.Finding.Confidence = finding.Medium
	out.Finding.Mend = "start that program, or end it and empty the cache of names"
	return out
}
