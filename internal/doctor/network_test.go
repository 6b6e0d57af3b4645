package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/upstream"
)

// A name server that cannot be reached is not to blame where nobody can, and a machine
// with the loopback interface alone may have all that it needs.
func TestWithoutANetworkNoNameServerIsToBlame(t *testing.T) {
	const runs = net.FlagUp | net.FlagRunning
	lo, eth := net.Interface{Name: "lo", Flags: runs | net.FlagLoopback}, net.Interface{Name: "eth0", Flags: runs}
	pulled := net.Interface{Name: "eth0", Flags: net.FlagUp}
	none := fmt.Errorf("dial udp: %w", os.NewSyscallError("connect", syscall.ENETUNREACH))
	refused := fmt.Errorf("read udp: %w", os.NewSyscallError("read", syscall.ECONNREFUSED))
	late := context.DeadlineExceeded
	silent := func(err error) upstream.Said { return upstream.Said{Silent: true, Err: err} }
	for _, c := range []struct {
		name       string
		list       []net.Interface
		server     string
		said       upstream.Said
		connect    any // the Fact of a source whose address is in GOPROXY; nil: there is none
		connects   State
		forward    any
		repository finding.Code
		want       string // the title; "" is no finding
	}{
		{name: "no interface and no route", list: []net.Interface{lo}, server: "192.0.2.53", said: silent(none), want: "this machine has no network"},
		{name: "the cable is pulled", list: []net.Interface{lo, pulled}, server: "192.0.2.53", said: silent(none), want: "this machine has no network"},
		{name: "an interface, and no route", list: []net.Interface{lo, eth}, server: "192.0.2.53", said: silent(none), want: "no network can be reached from this machine"},
		{name: "nobody listens at the own address", list: []net.Interface{lo}, server: "127.0.0.53", said: upstream.Said{Refused: true, Err: refused}, want: "this machine has no network"},
		{name: "and a repository by SSH", list: []net.Interface{lo}, server: "192.0.2.53", said: silent(none), repository: finding.SourceDNS, want: "this machine has no network"},
		{name: "a forward proxy of a network that is not there", list: []net.Interface{lo}, forward: unreached{{err: &net.DNSError{Err: "dial udp 192.0.2.53:53: connect: network is unreachable", Name: "gate"}}}, want: "this machine has no network"},

		{name: "nobody listens at the own address, and there is a network", list: []net.Interface{lo, eth}, server: "127.0.0.53", said: upstream.Said{Refused: true, Err: refused}},
		{name: "a resolver of this machine answers that it fails", list: []net.Interface{lo}, server: "127.0.0.1", said: upstream.Said{Err: errors.New("server misbehaving")}},
		{name: "a resolver of this machine denies the name", list: []net.Interface{lo}, server: "127.0.0.1", said: upstream.Said{NotFound: true, Err: errors.New("no such host")}},
		{name: "it is silent", list: []net.Interface{lo, eth}, server: "192.0.2.53", said: silent(late)},
		{name: "it is silent, and packets go to it by the loopback interface", list: []net.Interface{lo}, server: "192.0.2.53", said: silent(late)},
		{name: "somebody else was met", list: []net.Interface{lo, eth}, server: "192.0.2.53", said: silent(none), connects: OK, connect: reached{netip.MustParseAddrPort("198.51.100.7:443")}},
		{name: "somebody else refuses", list: []net.Interface{lo, eth}, server: "192.0.2.53", said: silent(none), connects: Fail, connect: unreached{{netip.MustParseAddr("198.51.100.7"), refused}}},
		{name: "somebody else is silent", list: []net.Interface{lo, eth}, server: "192.0.2.53", said: silent(none), connects: Fail, connect: unreached{{netip.MustParseAddr("198.51.100.7"), late}}},
		{name: "one address is out of reach, and no name was asked for", list: []net.Interface{lo, eth}, connects: Fail, connect: unreached{{netip.MustParseAddr("198.51.100.7"), none}}},
		{name: "a source of this machine is dead, and no other is asked", list: []net.Interface{lo}, connects: Fail, connect: unreached{{netip.MustParseAddr("127.0.0.1"), refused}}},
		{name: "a forward proxy of this machine is dead", list: []net.Interface{lo}, forward: unreached{{netip.MustParseAddr("127.0.0.1"), refused}}},
		{name: "the interfaces are not known", server: "127.0.0.53", said: upstream.Said{Refused: true, Err: refused}},
	} {
		s := &Subject{Settings: goenv.Load(nil, nil, "", ""), Names: Names{Conf: "/etc/resolv.conf"}}
		if c.list != nil {
			s.Interfaces = func() ([]net.Interface, error) { return c.list, nil }
		}
		row := func(id string, state State, code finding.Code, fact any) Check {
			return Check{ID: id, Group: "x", Run: func(context.Context, Seen) Outcome {
				out := Outcome{State: state, Fact: fact, Subject: id, Text: id}
				if code != "" {
					out = s.mean(state, code, id, id)
					out.Fact = fact
				}
				return out
			}}
		}
		checks := []Check{row("machine.loopback", OK, "", nil), row("supply.modules", NA, "", nil), row("supply.checksums", NA, "", nil)}
		rows := []string{"source.1.name", "source.1.forward", "source.2.connect", "private.1.repository"}
		resolver := row("machine.resolver", NA, "", nil)
		state := NA
		if c.server != "" {
			state = Fail
			a := &asked{host: "proxy.example.com", conf: resolvConf{servers: []netip.Addr{netip.MustParseAddr(c.server)}, given: true}, said: []upstream.Said{c.said}, sysErr: errNotAsked}
			resolver.After = rows[:1]
			resolver.Run = func(_ context.Context, seen Seen) Outcome {
				out := s.servers(seen, []way{{id: "source.1"}}, a, seen["source.1.name"])
				if out == nil {
					out = &Outcome{State: OK}
				}
				out.Fact = a
				return *out
			}
			checks = append(checks, row(rows[0], Fail, finding.SourceDNS, nil))
		} else {
			checks = append(checks, row(rows[0], NA, "", nil))
		}
		forward, connect, repository := row(rows[1], NA, "", nil), row(rows[2], NA, "", nil), row(rows[3], NA, "", nil)
		if c.forward != nil {
			forward, state = row(rows[1], Fail, finding.ForwardProxyBroken, c.forward), Fail
		}
		switch c.connects {
		case OK:
			connect = row(rows[2], OK, "", c.connect)
		case Fail:
			connect, state = row(rows[2], Fail, finding.SourceRefused, c.connect), Fail
		}
		if c.repository != "" {
			repository = row(rows[3], Fail, c.repository, nil)
		}
		r := Run(t.Context(), "", append(checks, forward, connect, repository, resolver, s.offline(rows)), time.Minute)
		if r.Verdict != Broken || state != Fail {
			t.Fatalf("%s: %s", c.name, r.Sentence)
		}
		first := r.Findings[0]
		if (first.Rows[0] == "machine.network") != (c.want != "") || c.want != "" && first.Title != c.want {
			t.Errorf("%s: %q by %q, want %q", c.name, first.Title, first.Rows, c.want)
			continue
		}
		if c.want == "" {
			continue
		}
		said := first.Fix + strings.Join(first.Commands, " ") + strings.Join(first.Evidence, " ")
		if len(r.Findings) != 1 || first.Code != finding.SourceNoRoute || strings.Contains(said, "resolv.conf") || len(first.Commands) == 0 {
			t.Errorf("%s: %d findings, %s", c.name, len(r.Findings), said)
		}
		for _, row := range r.Rows {
			if row.State == Fail && row.ID != "machine.network" && !slices.Contains(first.Consequences, row.ID) {
				t.Errorf("%s: %s is no consequence of it", c.name, row.ID)
			}
		}
	}
}
