//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

// login is what the company's forward proxy wants.
const login = "user:secret@"

// private is a module of one's own, in a repository that version control reaches.
const private = modtest.GitHost + "/team/lib"

// repository serves the private module by a real git http-backend.
func (l *lab) repository() (*modtest.Git, *modtest.GitRepo) {
	g := modtest.GitServer(l)
	r := g.Repo(private)
	r.Commit("main", map[string]string{"go.mod": "module " + private + "\n", "lib.go": "package lib\n"})
	r.Tag("v1.0.0", "main")
	l.serve(modtest.GitHost, gitAddr, g.Handler())
	return g, r
}

// needs makes the project require the private module, and it alone.
func (l *lab) needs() {
	l.m.Path, l.m.Version = private, "v1.0.0"
	l.gomod("")
}

// seen downloads the module as somebody did before, so that there is a module cache.
func (l *lab) seen() {
	if e := l.run(goMay, "", "go", "mod", "download"); e.status != 0 {
		l.Fatalf("the first download, from a good source, fails: %s", tail(e.err))
	}
}

// cached is the name of a file of the module in the module cache.
func (l *lab) cached(ext string) string {
	return filepath.Join(l.home, "go/pkg/mod/cache/download", filepath.FromSlash(l.m.Path), "@v", l.m.Version+ext)
}

// editor is a program that writes the line that the sentence asks for into the netrc
// file, as a person would with EDITOR.
func (l *lab) editor(host, user, password string) {
	name := l.file("bin/editor", fmt.Sprintf("#!/bin/sh\nprintf 'machine %s login %s password %s\\n' >\"$1\"\n", host, user, password))
	l.Must(os.Chmod(name, 0o755))
	l.env["EDITOR"] = name
}

func answers() []scenario {
	forward := "http://" + gateHost + ":3128"
	internal := func(l *lab) {
		l.net.Name(corpHost, corpAddr)
		cert := l.public.Issue(time.Time{}, time.Time{}, corpHost)
		l.net.Listen(corpAddr+":443", &cert, l.world.Handler())
	}
	return []scenario{
		{name: "a9-portal", rows: "A9", title: "a captive portal answers every request with its page", planted: one(finding.SourceHTML),
			set: func(l *lab) {
				l.nginx(`location / { default_type text/html; return 200 "<!DOCTYPE html><title>Log in</title>"; }`)
			}, fixes: elsewhere(finding.SourceHTML)},
		{name: "a9-portal-redirect", rows: "A9", title: "a captive portal redirects every request to its page at another host", planted: one(finding.SourceHTML), set: func(l *lab) {
			l.serve("portal.example.net", otherAddr, page)
			l.leads = []string{"portal.example.net"}
			l.nginx("return 302 https://portal.example.net/login;")
		}, fixes: elsewhere(finding.SourceHTML)},
		{name: "a9-login-page", rows: "A9", title: "the address is that of a web server that is no module proxy and has a page for everything", planted: one(finding.SourceHTML),
			set: func(l *lab) { l.bad(page) }, fixes: elsewhere(finding.SourceHTML)},

		{name: "a10-login", rows: "A10", title: "the forward proxy wants a login, and HTTPS_PROXY has none", planted: one(finding.ForwardProxyLogin), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.squid("http_access allow known\nhttp_access deny all")
			l.onlyThroughForward()
			l.env["HTTPS_PROXY"] = forward
		}, fixes: byHand(finding.ForwardProxyLogin, "user and password are put before the host in HTTPS_PROXY", func(l *lab) {
			l.env["HTTPS_PROXY"] = "http://" + login + gateHost + ":3128"
		})},
		{name: "a10-wrong-password", rows: "A10", title: "the forward proxy does not take the password that HTTPS_PROXY has", planted: one(finding.ForwardProxyLogin), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.squid("http_access allow known\nhttp_access deny all")
			l.onlyThroughForward()
			l.env["HTTPS_PROXY"] = "http://user:expired@" + gateHost + ":3128"
		}, fixes: byHand(finding.ForwardProxyLogin, "the right password is put into HTTPS_PROXY", func(l *lab) {
			l.env["HTTPS_PROXY"] = "http://" + login + gateHost + ":3128"
		})},
		{name: "a10-not-there", rows: "A10", title: "nobody listens where HTTPS_PROXY says that the forward proxy is", planted: one(finding.ForwardProxyBroken), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.net.Address(gateAddr)
			l.net.Name(gateHost, gateAddr)
			l.env["HTTPS_PROXY"] = forward
		}},
		{name: "a10-malformed", rows: "A10", title: "HTTPS_PROXY lacks a colon", planted: one(finding.ForwardProxyBroken), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.env["HTTPS_PROXY"] = "http//" + gateHost + ":3128"
		}, fixes: byHand(finding.ForwardProxyBroken, "the colon is put in", func(l *lab) {
			l.squid("http_access allow all")
			l.env["HTTPS_PROXY"] = forward
		})},
		{name: "a10-no-proxy", rows: "A10", title: "a private host goes through the company's forward proxy, since NO_PROXY lacks it", planted: one(finding.ForwardProxyBroken), set: func(l *lab) {
			internal(l)
			l.squid("http_access deny corporate\nhttp_access allow all")
			l.source("https://" + corpHost)
			l.env["HTTPS_PROXY"] = forward
		}},
		{name: "a10-refused-host", rows: "A10", title: "the forward proxy refuses the source", planted: one(finding.ForwardProxyPolicy), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.squid("acl bad dstdomain " + badHost + "\nhttp_access deny bad\nhttp_access allow all")
			l.onlyThroughForward()
			l.env["HTTPS_PROXY"] = forward
		}, fixes: byHand(finding.ForwardProxyPolicy, "the proxy's operator allows another source, which GOPROXY names", func(l *lab) { l.source("https://" + proxyHost) })},

		{name: "a11-private-at-public", rows: "A11 B4 D1", title: "a private module is asked for at a public proxy, and nowhere else", planted: one(finding.NotFound), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.repository()
			l.needs()
		}},
		{name: "a12-lag", rows: "A12", title: "the mirror lags: it has the module, and not yet this version", planted: one(finding.NotFound),
			set: func(l *lab) { l.m.Version = "v1.1.0"; l.gomod(""); l.spoilt("stale") }},
		{name: "a12-deleted", rows: "A12", title: "the version was deleted everywhere", planted: one(finding.NotFound), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.m.Version = "v1.0.9"
			l.gomod("")
		}, fixes: byHand(finding.NotFound, "a version that the list has is required", func(l *lab) { l.m.Version = "v1.1.0"; l.gomod("") })},

		{name: "a13-forbidden", rows: "A13", title: "the source answers 403", planted: one(finding.SourceForbidden), set: func(l *lab) { l.nginx("return 403;") },
			fixes: elsewhere(finding.SourceForbidden)},
		{name: "a13-throttled", rows: "A13", title: "the source answers 429 after the first request of a minute", planted: one(finding.SourceThrottled), set: func(l *lab) {
			l.nginx("limit_req_status 429; location / { limit_req zone=few; try_files $uri =404; }")
			l.run(goMay, "", "curl", "-s", "https://"+badHost+"/")
		}, fixes: elsewhere(finding.SourceThrottled)},
		{name: "a13-unavailable", rows: "A13", title: "the source answers 503", planted: one(finding.SourceServerError), set: func(l *lab) { l.nginx("return 503;") }},
		{name: "a13-bad-gateway", rows: "A13", title: "the source's own upstream is dead: 502", planted: one(finding.SourceServerError),
			set: func(l *lab) { l.nginx("location / { proxy_pass http://127.0.0.1:9; }") }},
		{name: "a13-not-a-proxy", rows: "A13", title: "something answers 405 to everything", planted: one(finding.SourceBadStatus), set: func(l *lab) { l.nginx("return 405;") }},

		{name: "a14-damaged-cache", rows: "A14 E2", title: "the zip in the module cache has rotted", planted: one(finding.CacheDamaged), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.seen()
			l.Must(os.RemoveAll(filepath.Join(l.home, "go/pkg/mod/example.org")))
			l.Must(os.Truncate(l.cached(".zip"), 100))
		}},
		{name: "a14-merge-accident", rows: "A14", title: "go.sum was merged badly: it has another hash", planted: one(finding.GoSumMismatch), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.seen()
			l.in("go.sum", strings.ReplaceAll(l.world.GoSum(l.m), l.world.H1Zip(l.m), "h1:"+strings.Repeat("A", 43)+"="))
		}},
		{name: "a14-moved-tag", rows: "A14", title: "go.sum has another hash than all sources and the checksum database, and the module cache is empty", planted: one(finding.GoSumMismatch), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.in("go.sum", strings.ReplaceAll(l.world.GoSum(l.m), l.world.H1Zip(l.m), "h1:"+strings.Repeat("A", 43)+"="))
		}},
		{name: "a14-polluted-mirror", rows: "A14", title: "the mirror has another zip than go.sum and the checksum database", planted: one(finding.GoSumDBMismatch), set: func(l *lab) {
			l.m.Version = "v1.1.0"
			l.gomod("")
			l.in("go.sum", l.world.GoSum(l.m))
			l.spoilt("old-zip")
		}, stays: true},
		{name: "a14-damaged-zip", rows: "A14", title: "a bit of the zip is flipped at the mirror", planted: one(finding.SourceWrongAnswer),
			set: func(l *lab) { l.spoilt("flip") }},
		{name: "a15-other-zip", rows: "A15", title: "the mirror has another zip than the checksum database says", planted: one(finding.GoSumDBMismatch),
			set: func(l *lab) { l.m.Version = "v1.1.0"; l.gomod(""); l.spoilt("old-zip") }, stays: true},
		{name: "a15-other-mod", rows: "A15", title: "the mirror has another go.mod than the checksum database says", planted: one(finding.GoSumDBMismatch),
			set: func(l *lab) { l.spoilt("wrong-mod") }, stays: true},
		{name: "a15-forked-database", rows: "A15", title: "the checksum database contradicts the tree head that the go command has seen", planted: one(finding.SumDBInconsistent), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.seen()
			l.m.Version = "v1.1.0"
			l.gomod("")
			l.Must(os.Remove(filepath.Join(l.project, "go.sum")))
			l.db.Fork(true)
		}, fixes: byHand(finding.SumDBInconsistent, "another network: the true database answers", func(l *lab) { l.db.Fork(false) })},
		{name: "a16-database-dropped", rows: "A16", title: "packets to the checksum database are dropped, and the source does not carry it", planted: one(finding.SumDBUnreachable), set: func(l *lab) {
			l.bad(l.bare())
			l.net.Filter("ip daddr " + sumAddr + " drop")
		}},
		{name: "a16-database-down", rows: "A16", title: "the checksum database answers 503, and the source does not carry it", planted: one(finding.SumDBUnreachable), set: func(l *lab) {
			l.bad(l.bare())
			l.net.Listen("198.51.100.13:443", l.certificate(sumHost), faults.Handler(l.db, faults.Always(l.fault("503"))))
			l.net.Name(sumHost, "198.51.100.13")
		}},
		{name: "a16-private-unknown", rows: "A16 B4", title: "a private module of the company's proxy is looked up in the public checksum database", planted: one(finding.SumDBUnknown), set: func(l *lab) {
			internal(l)
			l.source("https://" + corpHost)
			l.m = l.world.Add("corp.example.net/lib", "v1.0.0", nil)
			l.gomod("")
			l.db.Unknown(l.m, true)
		}},

		{name: "a17-cut", rows: "A17", title: "the transfer of every zip ends midway, and can be resumed", planted: one(finding.SourceTruncated), set: func(l *lab) { l.spoiltZip("cut-first=50%") }, stays: true},
		{name: "a17-reset", rows: "A17", title: "the connection is reset before the answer, time and again", planted: one(finding.SourceReset), set: func(l *lab) { l.spoilt("reset") }},
		{name: "a18-drip", rows: "A18", title: "the source sends a byte a second", planted: one(finding.SourceStalled), set: func(l *lab) { l.spoilt("drip=1") }},
		{name: "a18-silent", rows: "A18", title: "the source takes the request and does not answer", planted: one(finding.SourceSilent), set: func(l *lab) { l.spoilt("hang") }},

		{name: "a19-unknown-revision", rows: "A19 A22", title: "the repository of a private module has no such tag", explains: true, planted: one(finding.UnknownRevision), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.repository()
			l.needs()
			l.m.Version = "v1.0.9"
			l.gomod("")
			l.goenv("GOPRIVATE", modtest.GitHost)
		}, fixes: byHand(finding.UnknownRevision, "a version that the repository has is required", func(l *lab) { l.needs() })},
		{name: "a19-other-path", rows: "A19", title: "the module declares another path than the one that go.mod requires", planted: one(finding.ModulePathMismatch), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.m = l.world.Add("example.org/old", "v1.0.0", modtest.Files{"go.mod": "module example.org/m\n", "m.go": "package m\n"})
			l.gomod("")
		}},
	}
}

// spoiltZip is spoilt for zips alone.
func (l *lab) spoiltZip(fault string) {
	f := l.fault(fault)
	l.bad(faults.Handler(l.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return f, strings.HasSuffix(r.URL.Path, ".zip") }))
}

func (l *lab) fault(s string) faults.Fault {
	f, err := faults.Parse(s)
	l.Must(err)
	return f
}
