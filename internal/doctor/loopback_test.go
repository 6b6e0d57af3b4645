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

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/upstream"
)

func TestALoopbackInterfaceThatIsDownIsNamed(t *testing.T) {
	const up, loop = net.FlagUp, net.FlagLoopback
	eth := net.Interface{Name: "eth0", Flags: up}
	refused := func(id, subject, text string) Row {
		return Row{ID: id, State: Fail, Text: text, outcome: Outcome{Subject: subject}}
	}
	local := Seen{
		"source.1.connect": refused("source.1.connect", "127.0.0.1:8080", "dial tcp 127.0.0.1:8080: connect: network is unreachable"),
		"source.2.name":    refused("source.2.name", "proxy.example.com", "lookup proxy.example.com on 127.0.0.53:53: dial udp 127.0.0.53:53: connect: network is unreachable"),
		"source.3.connect": refused("source.3.connect", "proxy.example.org", "dial tcp 192.0.2.1:443: connect: network is unreachable"),
	}
	rows := []string{"source.1.connect", "source.2.name", "source.3.connect"}
	for _, c := range []struct {
		name     string
		list     []net.Interface
		err      error
		seen     Seen
		state    State
		explains []string
	}{
		{"it is up", []net.Interface{{Name: "lo", Flags: up | loop}, eth}, nil, local, OK, nil},
		{"one of two is up", []net.Interface{{Name: "lo", Flags: loop}, {Name: "lo1", Flags: up | loop}}, nil, local, OK, nil},
		{"it is down", []net.Interface{{Name: "lo", Flags: loop}, eth}, nil, local, Fail, rows[:2]},
		{"it is down, and nobody needs it", []net.Interface{{Name: "lo", Flags: loop}, eth}, nil, Seen{"source.3.connect": local["source.3.connect"]}, Warn, nil},
		{"there is none", []net.Interface{eth}, nil, local, NA, nil},
		{"they cannot be listed", nil, errors.New("no such system call"), local, Unknown, nil},
	} {
		s := &Subject{Settings: goenv.Load(nil, nil, "", ""), Root: true, Interfaces: func() ([]net.Interface, error) { return c.list, c.err }}
		out := s.loopback(rows).Run(t.Context(), c.seen)
		if out.State != c.state || !slices.Equal(out.Explains, c.explains) {
			t.Errorf("%s: %s, which explains %q; want %s and %q", c.name, out.State, out.Explains, c.state, c.explains)
		}
		if (out.State == Fail || out.State == Warn) && (out.Finding.Code != finding.SourceNoRoute || !slices.Contains(out.Finding.Fix, "sudo ip link set lo up")) {
			t.Errorf("%s: %s with %q", c.name, out.Finding.Code, out.Finding.Fix)
		}
	}
}

func TestWithoutANetworkNoNameServerIsToBlame(t *testing.T) {
	const up, loop = net.FlagUp, net.FlagLoopback
	lo, eth := net.Interface{Name: "lo", Flags: up | loop}, net.Interface{Name: "eth0", Flags: up}
	down := net.Interface{Name: "eth0"}
	none := fmt.Errorf("dial udp: %w", os.NewSyscallError("connect", syscall.ENETUNREACH))
	for _, c := range []struct {
		name   string
		server string
		err    error
		list   []net.Interface
		want   finding.Code
		title  string
	}{
		{"no route and no interface", "192.0.2.53", none, []net.Interface{lo, down}, finding.SourceNoRoute, "this machine has no network"},
		{"no route", "192.0.2.53", none, []net.Interface{lo, eth}, finding.SourceNoRoute, "there is no route to a module source"},
		{"a resolver of this machine, which reaches nobody", "127.0.0.53", errors.New("server misbehaving"), []net.Interface{lo}, finding.SourceNoRoute, "this machine has no network"},
		{"a resolver of this machine, and lo is down", "127.0.0.53", none, []net.Interface{{Name: "lo", Flags: loop}, eth}, finding.NameServerSilent, ""},
		{"it is silent", "192.0.2.53", context.DeadlineExceeded, []net.Interface{lo, eth}, finding.NameServerSilent, ""},
	} {
		s := &Subject{Settings: goenv.Load(nil, nil, "", ""), Names: Names{Conf: "/etc/resolv.conf"}, Interfaces: func() ([]net.Interface, error) { return c.list, nil }}
		failed := Row{ID: "source.1.name", State: Fail, outcome: Outcome{Finding: &finding.Finding{Entry: finding.Entry{Code: finding.SourceDNS}}}}
		a := &asked{host: "proxy.example.com", conf: resolvConf{servers: []netip.Addr{netip.MustParseAddr(c.server)}, given: true}, said: []upstream.Said{{Silent: true, Err: c.err}}, sysErr: errNotAsked}
		out := s.servers(Seen{failed.ID: failed}, []way{{id: "source.1"}}, a, failed)
		if out == nil || out.State != Fail || out.Finding.Code != c.want || !slices.Equal(out.Explains, []string{failed.ID}) {
			t.Errorf("%s: %+v, want %s", c.name, out, c.want)
			continue
		}
		blamed := strings.Contains(strings.Join(out.Finding.Fix, " ")+out.Finding.Mend, "resolv.conf")
		if c.title != "" && (out.Finding.Title != c.title || blamed || len(out.Finding.Fix) == 0) {
			t.Errorf("%s: %q, by %q", c.name, out.Finding.Title, out.Finding.Fix)
		}
	}
}
