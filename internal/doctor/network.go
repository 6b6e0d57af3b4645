package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/modsluice/sluice/internal/finding"
)

// An attempt is one to reach somebody that failed.
type attempt struct {
	addr netip.Addr // the zero value: it is not known, or a name
	err  error
}

// unreached is the Fact of a row whose attempts all failed.
type unreached []attempt

// leadsNowhere reports whether an attempt ended since no network leads to whom it was for.
func leadsNowhere(err error) bool {
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.ENETDOWN) {
		return true
	}
	// A lookup keeps no more of its reason than the text.
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && strings.Contains(e.Err, syscall.ENETUNREACH.Error())
}

// met reports whether an attempt that failed shows that somebody is there.
func met(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

// far reports whether an address is one of another machine, as far as it says so.
func far(a netip.Addr) bool { return a.IsValid() && !a.Unmap().IsLoopback() }

// offline is the check of whether this machine has a network at all. Without one, every
// name server is silent and every source is out of reach, and none of them is to blame.
// It says so only where nobody was met and no name server answered: on a machine with
// the loopback interface alone, all that a build needs may be there. rows are those of
// all ways; those that try nobody are passed over.
func (s *Subject) offline(rows []string) Check {
	of := func(ends ...string) (ids []string) {
		for _, id := range rows {
			if slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(id, end) }) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	tries, names, repositories := of(".connect", ".forward"), of(".name"), of(".repository")
	after := slices.Concat(tries, names, repositories, []string{"machine.resolver", "machine.loopback", "supply.modules", "supply.checksums"})
	return Check{ID: "machine.network", Group: "Machine", Title: "network", Link: "machine", After: after, Run: func(_ context.Context, seen Seen) Outcome {
		if seen["machine.loopback"].State == Fail {
			return Outcome{State: NA, Text: "the loopback interface is down, which has its own row"}
		}
		var silent, own []string // whom no network leads to, and rows about this machine itself
		other := false           // something else failed
		look := func(who string, t attempt) (there bool) {
			switch {
			case t.addr.IsValid() && !far(t.addr):
			case met(t.err):
				return true
			case leadsNowhere(t.err):
				silent = append(silent, who)
			default:
				other = true
			}
			return false
		}
		for _, id := range slices.Concat(tries, names) {
			r := seen[id]
			if r.State == Fail && r.Code == finding.ForwardProxyBroken && r.Fact() == nil {
				return Outcome{State: NA, Text: "there is a forward proxy that is not asked"}
			}
			if strings.HasSuffix(id, ".name") {
				continue
			}
			switch fact := r.Fact().(type) {
			case reached:
				for _, a := range fact {
					if far(a.Addr()) {
						return Outcome{State: OK, Text: a.Addr().String() + " was reached"}
					}
				}
			case unreached:
				if !slices.ContainsFunc(fact, func(t attempt) bool { return !t.addr.IsValid() || far(t.addr) }) {
					own = append(own, id)
				}
				for _, t := range fact {
					if look(r.outcome.Subject, t) {
						return Outcome{State: OK, Text: r.outcome.Subject + " refuses, and so is there"}
					}
				}
			default:
				other = other || r.State == Fail
			}
			if r.Code == finding.ForwardProxyBroken && slices.Contains(own, id) {
				return Outcome{State: NA, Text: "the way out would be a forward proxy on this machine"}
			}
		}
		a, looked := seen["machine.resolver"].Fact().(*asked)
		if looked {
			for i, server := range a.conf.servers {
				switch x := a.said[i]; {
				case !x.Silent && !x.Refused:
					return Outcome{State: OK, Text: "the name server " + server.String() + " answers"}
				case look(server.String(), attempt{server, x.Err}):
					return Outcome{State: OK, Text: server.String() + " refuses, and so is there"}
				}
			}
		}
		var explains []string
		state := Warn
		excused := slices.Concat(seen["supply.modules"].outcome.Excuses, seen["supply.checksums"].outcome.Excuses)
		for _, id := range slices.Concat(names, tries, repositories, []string{"machine.resolver"}) {
			r := seen[id]
			if r.State != Fail && r.State != Warn || slices.Contains(own, id) || strings.HasSuffix(id, ".repository") && !slices.Contains(awayFrom, r.Code) {
				continue
			}
			explains = append(explains, id)
			if r.State == Fail && !slices.Contains(excused, id) {
				state = Fail
			}
		}
		alone := s.alone()
		// Where an interface runs, one address that no network leads to may be that of a source,
		// and no more is known. Where none does, packets that only get no answer did go somewhere.
		if len(explains) == 0 || len(silent) == 0 && other || !alone && (other || !looked || len(silent) == 0) {
			return Outcome{State: NA, Text: "nothing that was tried shows that there is none"}
		}
		slices.Sort(silent)
		silent = slices.Compact(silent)
		text := "no interface of this machine is up but the one by which it reaches itself"
		title := "this machine has no network"
		switch {
		case !alone:
			title = "no network can be reached from this machine"
			text = fmt.Sprintf("no network leads to %s (network is unreachable)", strings.Join(silent, ", "))
		case len(silent) > 0:
			text += fmt.Sprintf(", so none leads to %s (network is unreachable)", strings.Join(silent, ", "))
		}
		out := s.mean(state, finding.SourceNoRoute, "", text)
		out.Explains = explains
		f := *out.Finding
		f.Title = title
		f.Why = "Nothing outside can be reached: a cable or a radio link that is down, a VPN that is off, or a container without a network."
		f.Mend = "bring the network up, or the VPN; a container has none with --network none"
		f.Fix = []string{"ip -br addr", "ip route"}
		if s.Place == finding.PowerShell {
			f.Fix = []string{"Get-NetAdapter", "Get-NetRoute -DestinationPrefix 0.0.0.0/0"}
		}
		out.Finding = &f
		return out
	}}
}

// awayFrom are the codes of a repository that was not reached.
var awayFrom = []finding.Code{finding.SourceDNS, finding.SourceConnectTimeout, finding.SourceNoRoute, finding.SSHPort}

// alone reports whether no interface of this machine runs but those by which it reaches
// itself. Where they cannot be listed it is not known, and so not said.
func (s *Subject) alone() bool {
	if s.Interfaces == nil {
		return false
	}
	all, err := s.Interfaces()
	return err == nil && len(all) > 0 && !slices.ContainsFunc(all, func(i net.Interface) bool {
		const runs = net.FlagUp | net.FlagRunning // one without a cable is up
		return i.Flags&runs == runs && i.Flags&net.FlagLoopback == 0
	})
}
