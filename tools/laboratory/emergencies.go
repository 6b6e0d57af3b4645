//go:build linux

package main

import (
	"archive/zip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

// An emergency is a situation in which no module comes, and a build is waiting. Its zero
// fields are those of most: sluice rescue makes go mod download work, and since what
// works is another setting, --keep writes it.
type emergency struct {
	name  string
	title string
	code  finding.Code // of what is broken, in the record
	set   func(l *lab)
	flags []string // of sluice rescue, beside --keep; $HOME in them is the client's
	// advises: rescue may not help without a person's word, and the command that it names
	// for that is typed then.
	advises  bool
	helpless string // nothing here can help: what stands in the sentence that says so
	stays    bool   // no setting has anything to do with it, so nothing is kept
	unsummed bool   // the project has no whole go.sum, so that the go command writes it
}

// stocked is how many modules the project requires beside that of the laboratory.
const stocked = 24

// stock makes modules enough for a build, and a project that needs them.
func (l *lab) stock() {
	for _, path := range libraries() {
		l.world.Add(path, "v0.9.0", nil)
		l.world.Add(path, "v1.0.0", nil)
	}
	l.needAll()
}

// libraries are the paths of the modules that the project requires beside that of the
// laboratory.
func libraries() (paths []string) {
	for i := range stocked - 1 {
		paths = append(paths, fmt.Sprintf("example.org/lib%02d", i))
	}
	return append(paths, "example.org/Upper/lib")
}

// needAll writes a project that needs them all, with its whole go.sum.
func (l *lab) needAll() {
	var gomod, imports strings.Builder
	sum := l.world.GoSum(l.m)
	for _, path := range libraries() {
		m := module.Version{Path: path, Version: "v1.0.0"}
		fmt.Fprintf(&gomod, "require %s %s\n", m.Path, m.Version)
		fmt.Fprintf(&imports, "import _ %q\n", m.Path)
		sum += l.world.GoSum(m)
	}
	l.gomod(gomod.String())
	l.in("go.sum", sum)
	l.in("app.go", fmt.Sprintf("package app\n\nimport _ %q\n%s", l.m.Path, &imports))
}

// atHome gives the client the name that examples have, so that a record made here reads
// like one of a person's machine.
func (l *lab) atHome() {
	l.net.Sh("mount -t tmpfs tmpfs /home && mkdir /home/dev && mount --bind " + l.home + " /home/dev")
	l.env["HOME"] = "/home/dev"
	l.env["PATH"] = strings.ReplaceAll(l.env["PATH"], l.home, "/home/dev")
	l.home, l.project = "/home/dev", "/home/dev/app"
	l.Must(os.Mkdir(l.project, 0o755))
}

// two makes the source in trouble the first of two, of which the other one is well; a
// comma stands between them, so that the go command stops at the trouble.
func (l *lab) two() { l.source("https://" + badHost + ",https://" + proxyHost) }

// forgetModules empties the client's module cache.
func (l *lab) forgetModules() { l.Must(os.RemoveAll(filepath.Join(l.home, "go"))) }

// silence makes all that is public unreachable: one source drops packets, the name of the
// other is gone, and so is the checksum database.
func (l *lab) silence() {
	l.net.Filter("ip daddr " + badAddr + " drop")
	l.net.Filter("ip daddr " + sumAddr + " drop")
	l.net.Name(proxyHost)
}

// emergencies are all of them.
func emergencies() []emergency {
	return []emergency{
		{name: "black-hole", title: "packets to the first source are dropped", code: finding.SourceConnectTimeout, set: func(l *lab) {
			l.two()
			l.bad(l.world.Handler())
			l.net.Filter("ip daddr " + badAddr + " drop")
		}},
		{name: "poisoned-name", title: "the name of the first source leads to somebody else's web server", code: finding.SourceTLSHostname, set: func(l *lab) {
			l.two()
			l.bad(l.world.Handler())
			l.serve("www.example.net", otherAddr, page)
			l.net.Name(badHost, otherAddr)
		}},
		{name: "intercepted", title: "a gateway replaces the certificate of the first source, and nobody here knows its authority", code: finding.SourceTLSUnknownCA, set: func(l *lab) {
			l.two()
			l.inspector(badAddr)
		}},
		{name: "storm", title: "the first source answers 503 to everything", code: finding.SourceServerError, set: func(l *lab) {
			l.two()
			l.nginx("return 503;")
		}},
		{name: "lying-mirror", title: "the first source has other bytes than go.sum and the checksum database, in whole and valid zips", code: finding.GoSumDBMismatch, set: func(l *lab) {
			l.two()
			l.m.Version = "v1.1.0" // which has an older one whose files are told under its name
			l.needAll()
			l.spoilt("old-zip")
		}},
		{name: "damaged-cache", title: "three zips in the module cache have rotted", code: finding.CacheDamaged, stays: true, set: func(l *lab) {
			l.bad(l.world.Handler())
			l.seen()
			l.Must(os.RemoveAll(filepath.Join(l.home, "go/pkg/mod/example.org")))
			for _, name := range []string{"m/@v/v1.0.0.zip", "lib03/@v/v1.0.0.zip", "!upper/lib/@v/v1.0.0.zip"} {
				l.Must(os.Truncate(filepath.Join(l.home, "go/pkg/mod/cache/download/example.org", name), 100))
			}
		}},
		{name: "database-blocked", title: "packets to the checksum database are dropped, go.sum is lost, and the first source refuses to carry the database", code: finding.SumDBUnreachable, unsummed: true, stays: true, set: func(l *lab) {
			l.two()
			h := l.world.Handler()
			l.bad(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/sumdb/") {
					http.Error(w, "this repository is for modules", http.StatusForbidden)
					return
				}
				h.ServeHTTP(w, r)
			}))
			l.net.Filter("ip daddr " + sumAddr + " drop")
			l.Must(os.Remove(filepath.Join(l.project, "go.sum")))
		}},
		{name: "forward-nowhere", title: "HTTPS_PROXY names a forward proxy that is not there", code: finding.ForwardProxyBroken, stays: true, set: func(l *lab) {
			l.bad(l.world.Handler())
			l.net.Address(gateAddr)
			l.net.Name(gateHost, gateAddr)
			l.env["HTTPS_PROXY"] = "http://" + gateHost + ":3128"
		}},
		{name: "dead-warm-store", title: "no public source can be reached, and the store has what was built before", code: finding.SourceConnectTimeout, stays: true, set: func(l *lab) {
			l.two()
			l.bad(l.world.Handler())
			if e := l.run(goMay, "", l.program, "run", "--", "go", "mod", "download"); e.status != 0 {
				l.Fatalf("the build of before: %s", tail(e.err))
			}
			l.forgetModules()
			l.silence()
		}},
		{name: "dead-tree", title: "no public source can be reached, the store is empty, and a directory has the modules", code: finding.SourceConnectTimeout, stays: true, flags: []string{"--bundle", "$HOME/modules"}, set: func(l *lab) {
			l.two()
			l.bad(l.world.Handler())
			l.world.WriteTree(filepath.Join(l.home, "modules"))
			l.silence()
		}},
		{name: "dead-bundle", title: "the same, and what has them is an archive", code: finding.SourceConnectTimeout, stays: true, flags: []string{"--bundle", "$HOME/modules.zip"}, set: func(l *lab) {
			l.two()
			l.bad(l.world.Handler())
			l.archive("modules.zip")
			l.silence()
		}},
		{name: "private-as-url", title: "GOPRIVATE has a URL, which matches nothing, so a private module is looked up in public", code: finding.GoEnvMalformed, unsummed: true, set: func(l *lab) {
			l.bad(l.world.Handler())
			l.repository()
			l.source("https://" + badHost + ",direct")
			l.goenv("GOPRIVATE", "https://"+modtest.GitHost)
			l.leads = []string{modtest.GitHost}
			l.in("go.mod", "module app.example.net/app\n\ngo 1.21\n\nrequire example.org/m v1.0.0\nrequire "+private+" v1.0.0\n")
			l.in("go.sum", l.world.GoSum(l.m))
		}},
		{name: "private-too-much", title: "GOPRIVATE takes public modules past the sources", code: finding.VerificationOff, advises: true, stays: true, set: func(l *lab) {
			l.bad(l.world.Handler())
			l.goenv("GOPRIVATE", "*")
		}},
		{name: "clock", title: "the clock is a year behind, so that no certificate is valid yet; a company's proxy without TLS refuses what is not its own", code: finding.ClockWrong, helpless: "the clock of this machine is wrong", stays: true, set: func(l *lab) {
			const ahead = 365 * 24 * time.Hour
			l.otherTime(ahead)
			l.net.Listen(otherAddr+":80", nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				http.Error(w, "this proxy has the company's own modules only", http.StatusForbidden)
			}))
			l.net.Name(corpHost, otherAddr)
			then := time.Now().Add(ahead)
			cert := l.public.Issue(then.AddDate(0, -1, 0), then.AddDate(0, 2, 0), sumHost)
			l.net.Listen(sumInspected+":443", &cert, l.db)
			l.net.Name(sumHost, sumInspected)
		}},
		{name: "nothing-left", title: "no public source can be reached, and nobody has the modules", code: finding.SourceConnectTimeout, helpless: "modules could not be had: ", stays: true, set: func(l *lab) {
			l.two()
			l.bad(l.world.Handler())
			l.silence()
		}},
	}
}

// archive makes a zip of a tree with all modules.
func (l *lab) archive(name string) {
	dir := l.TempDir()
	l.world.WriteTree(dir)
	f, err := os.Create(filepath.Join(l.home, name))
	l.Must(err)
	defer f.Close()
	z := zip.NewWriter(f)
	l.Must(z.AddFS(os.DirFS(dir)))
	l.Must(z.Close())
}
