package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modcache"
)

// fewDenied is how many files that a user may not use are named one by one. Of a cache
// that belongs to somebody else it is all of them, for one reason.
const fewDenied = 3

// withoutDenied are the damages to be told one by one. If there are many files that this
// user may not use, and that were not mended, they are told in one line, and else that is
// empty.
func (rep *rescueReport) withoutDenied() (damages []rescueDamage, told string) {
	var first rescueDamage
	n := 0
	for _, d := range rep.Damages {
		if !d.denied() {
			damages = append(damages, d)
			continue
		}
		if n++; n == 1 {
			first = d
		}
	}
	if n <= fewDenied {
		return rep.Damages, ""
	}
	// What each needs is told once, below.
	return damages, fmt.Sprintf("%d files and directories may not be used by this user, such as %s: %s", n, first.File, first.Problem)
}

// denied reports whether owner or permissions keep the user from a file, and still do.
func (d rescueDamage) denied() bool {
	return d.Kind == string(modcache.Denied) && (d.Done == "" || d.Done == string(modcache.Left) || d.Done == string(modcache.Failed))
}

// givenBack is the one command that lets the user use the whole cache.
func (rep *rescueReport) givenBack() string {
	owner, permissions := false, false
	for _, d := range rep.Damages {
		if d.denied() {
			owner = owner || strings.Contains(d.Problem, "another user")
			permissions = permissions || strings.Contains(d.Problem, "its permissions")
		}
	}
	cmd := fmt.Sprintf(`sudo chown -R "$(id -u):$(id -g)" %s`, finding.StandInDir)
	if permissions && !owner {
		cmd = "chmod -R u+rwX " + finding.StandInDir
	}
	if os.Geteuid() == 0 {
		cmd = strings.TrimPrefix(cmd, "sudo ")
	}
	f := finding.Finding{Entry: finding.Entry{Fix: []string{cmd}}}.With(finding.StandInDir, rep.Cache)
	return f.Fix[0] + " lets this user use all of it; then run the command again"
}
