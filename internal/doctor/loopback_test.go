package doctor

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
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
