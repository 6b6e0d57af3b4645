package doctor

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// loopback is the check of the interface by which this machine reaches itself: a proxy
// or name server that runs on it, and the one of sluice run. rows are those of the ways
// to the sources.
func (s *Subject) loopback(rows []string) Check {
	return Check{ID: "machine.loopback", Group: "Machine", Title: "loopback interface", Link: "machine", After: rows, Run: func(_ context.Context, seen Seen) Outcome {
		if s.Interfaces == nil {
			return Outcome{State: NA, Text: "it is not looked at"}
		}
		all, err := s.Interfaces()
		if err != nil {
			return Outcome{State: Unknown, Text: "the interfaces of this machine cannot be listed: " + finding.OneLine(err.Error(), 200)}
		}
		down := ""
		for _, i := range all {
			switch {
			case i.Flags&net.FlagLoopback == 0:
			case i.Flags&net.FlagUp != 0:
				return Outcome{State: OK, Text: i.Name + " is up"}
			case down == "":
				down = i.Name
			}
		}
		if down == "" {
			return Outcome{State: NA, Text: "there is none"}
		}
		out := s.mean(Warn, finding.SourceNoRoute, down, "the interface "+down+" is down, so nothing that runs on this machine can be reached at its own addresses: no proxy (sluice run has one), and no name server")
		for _, id := range rows {
			if r := seen[id]; r.State == Fail && toItself(r.outcome.Subject+" "+r.Text) {
				out.State, out.Explains = Fail, append(out.Explains, id)
			}
		}
		f := *out.Finding
		f.Title, f.Why = "the loopback interface of this machine is down", "Containers and network namespaces begin so, until somebody brings it up."
		f.Mend, f.Fix = "bring it up", nil
		if plainHost.MatchString(down) && s.Place != finding.PowerShell {
			f.Fix = []string{"sudo ip link set " + down + " up"}
		}
		out.Finding = &f
		return out
	}}
}

// toItself reports whether a text names a loopback address.
func toItself(text string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,;()<>/", r) }), func(word string) bool {
		word = strings.TrimRight(word, ":.")
		if host, _, err := net.SplitHostPort(word); err == nil {
			word = host
		}
		ip, err := netip.ParseAddr(strings.Trim(word, "[]"))
		return err == nil && ip.IsLoopback() || word == "localhost"
	})
}
