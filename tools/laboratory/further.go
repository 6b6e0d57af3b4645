//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

const (
	otherResolver = "198.51.100.56" // a name server beside that of the network
	opinionAddr   = "198.51.100.58" // a resolver that is asked over HTTPS
	wild          = "wild.example.net"
	repoHost      = "repo.corp.internal" // a company's Git server, behind the page of the private module
	repoAddr      = "10.83.0.20"
)

// nameServer is another one, which writes what it is asked into a log. In that of the
// network, it is counted.
func (l *lab) nameServer(addr, log string, args ...string) {
	l.net.Address(addr)
	l.net.Start(addr+":53", "dnsmasq", append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--listen-address=" + addr, "--bind-interfaces",
		"--user=root", "--pid-file=", "--log-queries", "--log-facility=" + log}, args...)...)
}

// opinion is a resolver over HTTPS that knows these names, and none else; doctor is to
// ask it.
func (l *lab) opinion(addrOf map[string]string) {
	const behind = "198.51.100.57"
	args := []string{"--local=/org/", "--local=/com/"}
	for name, addr := range addrOf {
		args = append(args, "--address=/"+name+"/"+addr)
		l.leads = append(l.leads, addr) // what it says is tried
	}
	l.nameServer(behind, filepath.Join(l.TempDir(), "queries"), args...) // no client asks it
	l.net.Listen(opinionAddr+":443", l.certificate(opinionAddr), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := make([]byte, 64<<10)
		question, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err == nil {
			var conn net.Conn
			if conn, err = net.Dial("udp", behind+":53"); err == nil {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(5 * time.Second))
				conn.Write(question)
				var n int
				n, err = conn.Read(answer)
				answer = answer[:n]
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/dns-message")
		w.Write(answer)
	}))
	l.leads = append(l.leads, opinionAddr)
	l.with = []string{"--doh", "https://" + opinionAddr + "/dns-query"}
}

// publicly is an authority that everybody trusts, and this machine does not: it takes the
// place of one in the list that is built into Sluice, in a copy of the program.
func (l *lab) publicly() *modtest.Authority {
	data, err := os.ReadFile(l.program)
	l.Must(err)
	for r := range bundle.Roots() {
		at := bytes.Index(data, r.Certificate)
		if r.Constraint != nil || len(r.Certificate) < 700 || at < 0 {
			continue
		}
		a := modtest.NewAuthorityOfSize(l, "Example Public Services", len(r.Certificate))
		block, _ := pem.Decode(a.PEM)
		copy(data[at:], block.Bytes)
		l.program = filepath.Join(l.TempDir(), "sluice")
		l.Must(os.WriteFile(l.program, data, 0o755))
		mine := filepath.Join(l.home, "bin", "sluice")
		l.Must(os.Remove(mine))
		l.Must(os.Symlink(l.program, mine))
		return a
	}
	l.Fatalf("%s has no list of public authorities in it that the laboratory knows", l.program)
	return nil
}

// full is a certificate with that of the authority that issued it.
func full(c tls.Certificate, by *modtest.Authority) tls.Certificate {
	block, _ := pem.Decode(by.PEM)
	c.Certificate = append(c.Certificate, block.Bytes)
	return c
}

// middle is an authority below the public one, whose certificate has to be sent along.
func (l *lab) middle() *modtest.Authority {
	a := l.public.Under("Example Trust Services Middle")
	a.URL = "http://certs.example.net/middle.crt"
	return a
}

// elsewhereRepository has the private module's repository at the company's own host,
// whose certificate its own authority signed, and to which the page of the import path
// leads. A client may have to show a certificate of that authority.
func (l *lab) elsewhereRepository(ask tls.ClientAuthType) {
	g, r := l.direct()
	r.Page(private + " git https://" + repoHost + "/team/lib.git")
	l.net.Name(repoHost, repoAddr)
	l.net.Address(repoAddr)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.company.PEM)
	ln, err := tls.Listen("tcp", repoAddr+":443", &tls.Config{
		Certificates: []tls.Certificate{l.company.Issue(time.Time{}, time.Time{}, repoHost)}, ClientAuth: ask,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil // ClientAuth has its say
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	})
	l.Must(err)
	srv := &http.Server{Handler: g.Handler()}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(ln) }()
	l.Cleanup(func() { srv.Close(); <-served })
	l.leads = append(l.leads, repoHost)
	l.file("company.crt", string(l.company.PEM))
}

// gitHas are settings of git's for the connections to that host.
func (l *lab) gitHas(settings ...string) {
	l.file(".gitconfig", "[http \"https://"+repoHost+"/\"]\n\t"+strings.Join(settings, "\n\t")+"\n")
}

// blackHole drops all packets to all others but the one that is let through.
func (l *lab) blackHole(but string) {
	if but != "" {
		l.net.Filter("ip daddr " + but + " accept")
	}
	l.net.Filter("ip daddr { 198.51.100.0/24, 10.83.0.0/24, 192.0.2.0/24 } drop")
	l.net.Filter("ip6 daddr 2001:db8::/32 drop")
}

// polluted has the files of an older version under the name of the newer, in a zip of more
// than doctor fetches: in the module cache, where a go command put it that nothing was
// verified for, and, with sum, in go.sum.
func (l *lab) polluted(sum bool) {
	l.world.Big("example.org/big", "v1.0.0", 200<<10)
	l.m = l.world.Big("example.org/big", "v1.1.0", 200<<10)
	l.gomod("")
	old := l.fault("old-zip")
	stop := l.bad(faults.Handler(l.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return old, strings.HasSuffix(r.URL.Path, ".zip") }))
	l.env["GONOSUMDB"] = "example.org"
	l.seen()
	delete(l.env, "GONOSUMDB")
	stop()
	l.bad(l.world.Handler())
	os.Remove(filepath.Join(l.project, "go.sum"))
	if sum {
		h1, err := os.ReadFile(l.cached(".ziphash"))
		l.Must(err)
		l.in("go.sum", strings.ReplaceAll(l.world.GoSum(l.m), l.world.H1Zip(l.m), strings.TrimSpace(string(h1))))
	}
}

// zipOf serves a zip of one version, which no database has a record of.
func (l *lab) zipOf(zip func(m module.Version, was []byte) []byte) {
	m, h := l.m, l.world.Handler()
	l.bad(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/"+m.Version+".zip") {
			w.Write(zip(m, l.world.Zip(m)))
			return
		}
		h.ServeHTTP(w, r)
	}))
	l.goenv("GONOSUMDB", "example.org")
}

// further are those that came later: the rest of the finding codes, a network without any
// answer, and what git alone has been told.
func further() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	otherVersion := func(code finding.Code) map[finding.Code]hand {
		return byHand(code, "another version of the list is required", func(l *lab) { l.m.Version = "v1.1.0"; l.gomod("") })
	}
	return []scenario{
		{name: "a1-black-hole", rows: "A1 A3", title: "every packet that leaves this machine is dropped, those to the name server too", planted: one(finding.NameServerSilent), set: func(l *lab) {
			well(l)
			l.blackHole("")
		}, fixes: byHand(finding.NameServerSilent, "the firewall lets all through", open)},
		{name: "a1-black-hole-but-names", rows: "A1", title: "every packet but those to the name server is dropped: to two sources, the checksum database and a private repository", planted: one(finding.SourceConnectTimeout), set: func(l *lab) {
			l.six()
			l.repository()
			l.goenv("GOPRIVATE", modtest.GitHost)
			l.gomod("require " + private + " v1.0.0\n")
			well(l)
			l.net.Name(badHost, badAddr, "2001:db8:83::20")
			l.source("https://" + badHost + "|https://" + spareHost + "|direct")
			l.blackHole(resolver)
		}, fixes: byHand(finding.SourceConnectTimeout, "the firewall lets all through", func(l *lab) { l.net.Open(); l.net.Name(badHost, badAddr) })},
		{name: "a1-black-hole-by-address", rows: "A1", title: "every packet is dropped, and the only source is an address", planted: one(finding.SourceConnectTimeout), set: func(l *lab) {
			l.net.Listen(badAddr+":443", l.certificate(badAddr), l.world.Handler())
			l.source("https://" + badAddr)
			l.blackHole("")
		}, fixes: byHand(finding.SourceConnectTimeout, "the firewall lets all through", open), beside: []finding.Code{finding.NameServerSilent}},

		{name: "a3-search-domain", rows: "A3 A4", title: "a search domain that has everything is asked before the name itself: ndots:5", planted: one(finding.SearchDomain), set: func(l *lab) {
			well(l)
			l.serve("www.example.net", otherAddr, page)
			l.net.Options, l.net.Search = "timeout:2 attempts:1 ndots:5", wild
			l.net.Resolvers(resolver)
			l.leads = append(l.leads, otherAddr)
		}},
		{name: "a3-system-knows", rows: "A3", title: "the C library searches a domain by LOCALDOMAIN, of which the go command knows nothing", planted: one(finding.ResolversDiffer), set: func(l *lab) {
			l.net.Name(corpHost, corpAddr)
			l.net.Listen(corpAddr+":443", l.certificate("goproxy"), l.world.Handler())
			l.source("https://goproxy")
			l.env["LOCALDOMAIN"] = "corp.internal"
		}},
		{name: "a3-denied-here", rows: "A3 A4", title: "the name server here denies the source, and another resolver, which doctor may ask, has it", planted: one(finding.NameDenied), set: func(l *lab) {
			well(l)
			l.net.Name(badHost)
			l.opinion(map[string]string{badHost: badAddr, proxyHost: proxyAddr, sumHost: sumAddr})
		}},

		{name: "a6-old-list", rows: "A6", title: "the list of authorities of this machine is old, and lacks a public one", planted: one(finding.CAStoreStale), set: func(l *lab) {
			a := l.publicly()
			l.shown(a.Issue(time.Time{}, time.Time{}, badHost))
			l.undo = func() {
				l.net.Sh("cp " + a.File + " /usr/local/share/ca-certificates/newer.crt && update-ca-certificates")
			}
		}, fixes: byHand(finding.CAStoreStale, "the package's list is brought up to date", func(l *lab) { l.undo() })},
		{name: "a6-other-list", rows: "A6", title: "SSL_CERT_FILE and SSL_CERT_DIR lead to an old list, and that of the system is good", planted: one(finding.CAStoreStale), set: func(l *lab) {
			a := l.publicly()
			l.shown(a.Issue(time.Time{}, time.Time{}, badHost))
			l.net.Sh("cp " + a.File + " /usr/local/share/ca-certificates/newer.crt && update-ca-certificates")
			l.env["SSL_CERT_FILE"] = l.file("old/list.pem", string(l.public.PEM))
			l.env["SSL_CERT_DIR"] = filepath.Join(l.home, "old")
		}},
		{name: "a6-no-intermediate", rows: "A6", title: "the source does not send the certificate between its own and the authority's", planted: one(finding.MissingIntermediate), set: func(l *lab) {
			l.shown(l.middle().Issue(time.Time{}, time.Time{}, badHost))
		}},

		{name: "a10-exception-form", rows: "A10", title: "NO_PROXY has the source in a form that the go command does not take", planted: one(finding.ForwardVariables), comes: true, set: func(l *lab) {
			well(l)
			l.squid("http_access allow all")
			l.env["HTTPS_PROXY"], l.env["NO_PROXY"] = "http://"+gateHost+":3128", "*example.org;localhost"
		}},
		{name: "a10-two-spellings", rows: "A10", title: "NO_PROXY and no_proxy have other hosts: the go command and git go other ways", planted: one(finding.ForwardVariables), comes: true, set: func(l *lab) {
			well(l)
			l.squid("http_access allow all")
			l.env["HTTPS_PROXY"] = "http://" + gateHost + ":3128"
			l.env["NO_PROXY"], l.env["no_proxy"] = ".corp.internal,"+badHost, ".corp.internal"
		}},

		{name: "a14-polluted-cache", rows: "A14 A15 E2", title: "a zip of 200 KiB in the module cache is not what the checksum database says: it came while verification was off", planted: one(finding.CacheDamaged),
			set: func(l *lab) { l.polluted(false) }},
		{name: "a14-polluted-both", rows: "A14 A15 E2", title: "the same, and go.sum has its hash", comes: true, verdict: doctor.Broken, planted: []finding.Code{finding.GoSumMismatch, finding.CacheDamaged},
			set: func(l *lab) { l.polluted(true) }},
		{name: "a15-other-zip-large", rows: "A15", title: "the mirror has another zip of 200 KiB than the checksum database says, and doctor --deep fetches it whole", planted: one(finding.GoSumDBMismatch), stays: true, set: func(l *lab) {
			l.world.Big("example.org/big", "v1.0.0", 200<<10)
			l.m = l.world.Big("example.org/big", "v1.1.0", 200<<10)
			l.gomod("")
			l.spoilt("old-zip")
			l.with = []string{"--deep"}
		}},
		{name: "a19-zip-rules", rows: "A19", title: "two files of the module differ in case alone, which the go command does not take", explains: true, planted: one(finding.ZipRules), set: func(l *lab) {
			clash := l.fault("case-clash")
			m := l.m
			l.bad(faults.Handler(l.world.Handler(), func(r *http.Request) (faults.Fault, bool) {
				return clash, strings.HasSuffix(r.URL.Path, "/"+m.Version+".zip")
			}))
			l.goenv("GONOSUMDB", "example.org")
		}, fixes: otherVersion(finding.ZipRules)},
		{name: "a19-too-large", rows: "A19", title: "the go.mod in the module has 17 MiB, and the go command takes 16", explains: true, planted: one(finding.ZipTooLarge), set: func(l *lab) {
			l.zipOf(withLargeGoMod)
		}, fixes: otherVersion(finding.ZipTooLarge)},

		{name: "b5-git-unverified", rows: "B5 B8", title: "git is told to take any certificate: http.sslVerify=false", planted: one(finding.VerificationOff), comes: true, set: func(l *lab) {
			l.direct()
			l.file("public.crt", string(l.public.PEM))
			l.file(".gitconfig", "[http]\n\tsslVerify = false\n")
		}, fill: map[string]string{"FILE": "$LAB/public.crt"}},
		{name: "b8-git-proxy", rows: "B8 A10", title: "git is told of a forward proxy for the private host alone, where nobody listens any more", planted: one(finding.ForwardProxyBroken), set: func(l *lab) {
			l.elsewhereRepository(tls.NoClientCert)
			l.net.Address(gateAddr)
			l.net.Name(gateHost, gateAddr)
			l.leads = append(l.leads, gateHost)
			l.gitHas("sslCAInfo = "+filepath.Join(l.home, "company.crt"), "proxy = http://"+gateHost+":3128")
		}},
		{name: "b8-git-authority", rows: "B8 A6", title: "git is told of authorities for the private host alone, and the company has a new one", planted: one(finding.SourceTLSUnknownCA), set: func(l *lab) {
			l.elsewhereRepository(tls.NoClientCert)
			l.gitHas("sslCAInfo = " + l.file("old.crt", string(l.public.PEM)))
		}, fill: map[string]string{"FILE": "$LAB/company.crt"}},

		{name: "b9-replace-ignored", rows: "B9", title: "a dependency works by a replace line of its own alone, which does not hold here", planted: one(finding.ReplaceIgnored), set: func(l *lab) {
			well(l)
			l.world.Add("example.org/part", "v1.0.0", nil)
			l.m = l.world.Add("example.org/lib", "v1.0.0", modtest.Files{"lib.go": "package lib\n", "go.mod": "module example.org/lib\n\ngo 1.21\n\nrequire example.org/part v0.0.0\n\nreplace example.org/part => ../part\n"})
			l.gomod("require example.org/part v0.0.0 // indirect\n")
			l.run(goMay, "", "go", "mod", "download", l.m.String()) // what went wrong before has left its go.mod in the cache
		}, fill: map[string]string{"FORK": "example.org/part", "VERSION": "v1.0.0"}},

		{name: "f6-no-git", rows: "F6", title: "a Dockerfile fetches a private module, and its base image has no git", planted: one(finding.RecipeNoGit), check: "image", verdict: doctor.Impaired, recipe: "Dockerfile", set: func(l *lab) {
			l.imageWithPrivate("FROM golang:1.26-alpine\nENV GOPRIVATE=" + modtest.GitHost + "\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN go mod download\n")
		}},
		{name: "f6-not-private", rows: "F6 B4", title: "a Dockerfile does not know the pattern by which private modules go past the proxies here", planted: one(finding.RecipeNotPrivate), check: "image", verdict: doctor.Impaired, recipe: "Dockerfile", set: func(l *lab) {
			l.imageWithPrivate("FROM golang:1.26\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN go mod download\n")
		}},

		{name: "h-search-domain", rows: "A3", title: "a search domain has everything, and whole names are asked first", set: func(l *lab) {
			well(l)
			l.net.Search = wild
			l.net.Resolvers(resolver)
		}},
		{name: "h-second-opinion", rows: "A4", title: "another resolver, which doctor asks too, has another address, and the one here works", set: func(l *lab) {
			l.net.Name(badHost, corpAddr)
			l.net.Listen(corpAddr+":443", l.certificate(badHost), l.world.Handler())
			l.opinion(map[string]string{badHost: badAddr, sumHost: sumAddr})
		}},
		{name: "h-intermediate", rows: "A6", title: "the source has its certificate from an authority in between, and sends that along", set: func(l *lab) {
			a := l.middle()
			l.shown(full(a.Issue(time.Time{}, time.Time{}, badHost), a))
		}},
		{name: "h-spelt-twice", rows: "A10", title: "the variables for the forward proxy are there in capital and in small letters, alike", set: func(l *lab) {
			well(l)
			l.squid("http_access allow known\nhttp_access deny all")
			l.onlyThroughForward()
			for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
				l.env[name] = "http://" + login + gateHost + ":3128"
			}
			l.env["NO_PROXY"], l.env["no_proxy"] = ".corp.internal", ".corp.internal"
		}},
		{name: "h-git-settings", rows: "B8", title: "git has authorities, a certificate of its own and a forward proxy for the private host alone", set: func(l *lab) {
			l.elsewhereRepository(tls.RequireAnyClientCert)
			l.squid("http_access allow corporate\nhttp_access deny all")
			l.leads = append(l.leads, gateHost)
			cert, key := l.company.Files(l.company.Issue(time.Time{}, time.Time{}, "somebody"))
			l.gitHas("sslCAInfo = "+filepath.Join(l.home, "company.crt"), "sslCert = "+cert, "sslKey = "+key, "proxy = http://"+gateHost+":3128")
		}},
		{name: "h-replace", rows: "B9", title: "go.mod replaces a module by a directory that is there", set: func(l *lab) {
			well(l)
			l.in("fork/go.mod", "module example.org/fork\n\ngo 1.21\n")
			l.in("fork/fork.go", "package fork\n")
			l.gomod("require example.org/fork v1.0.0\n\nreplace example.org/fork => ./fork\n")
		}},
		{name: "h-image-private", rows: "F6", title: "a Dockerfile that knows the private pattern, of an image that has git", check: "image", set: func(l *lab) {
			l.imageWithPrivate("FROM golang:1.26\nENV GOPRIVATE=" + modtest.GitHost + "\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN go mod download\n")
		}},
	}
}

// imageWithPrivate is a project with a public and a private module, and a Dockerfile.
func (l *lab) imageWithPrivate(dockerfile string) {
	l.direct()
	l.m = module.Version{Path: "example.org/m", Version: "v1.0.0"}
	l.gomod("require " + private + " v1.0.0\n")
	l.in("go.sum", l.world.GoSum(l.m))
	l.in("Dockerfile", dockerfile)
	l.in(".dockerignore", ".git\n")
	l.images()
}

// pasteInto writes lines into a file of the project before the first that runs something.
func (l *lab) pasteInto(name string, lines []string) {
	data, err := os.ReadFile(filepath.Join(l.project, name))
	l.Must(err)
	text := string(data)
	at := strings.Index(text, "RUN ")
	if at < 0 {
		l.Fatalf("%s runs nothing", name)
	}
	l.in(name, text[:at]+strings.Join(lines, "\n")+"\n"+text[at:])
}

// images lets the client say image, which builds the Dockerfile of the project.
func (l *lab) images() {
	self, err := os.Executable()
	l.Must(err)
	name := l.file("bin/image", fmt.Sprintf("#!/bin/sh\nexec '%s' -image Dockerfile -base-env 'GOPROXY=https://%s GOSUMDB=%s'\n", self, badHost, l.db.GOSUMDB("")))
	l.Must(os.Chmod(name, 0o755))
}
