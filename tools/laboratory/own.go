//go:build linux

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
)

func settings() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	return []scenario{
		{name: "b1-hidden", rows: "B1", title: "GOPROXY in the environment hides what go env -w has", planted: one(finding.GoEnvHidden), comes: true, set: func(l *lab) {
			well(l)
			l.env["GOPROXY"] = "https://" + proxyHost
		}},
		{name: "b1-file-line", rows: "B1", title: "a line of the go env -w file does nothing: it was written for a shell", planted: one(finding.GoEnvMalformed), comes: true, set: func(l *lab) {
			well(l)
			l.goenv("export GOPRIVATE", "corp.example.net")
		}, fixes: byHand(finding.GoEnvMalformed, "the line is taken away", func(l *lab) { l.goenv("export GOPRIVATE", "") })},
		{name: "b2-no-scheme", rows: "B2", title: "GOPROXY is a word, without a scheme", planted: one(finding.GoEnvMalformed), set: func(l *lab) { l.source("goproxy") },
			fixes: byHand(finding.GoEnvMalformed, "the scheme is put in", func(l *lab) { l.source("https://" + proxyHost) })},
		{name: "b2-no-colon", rows: "B2", title: "GOPROXY lacks a colon", planted: one(finding.GoEnvMalformed), set: func(l *lab) { l.source("https//" + proxyHost) }},
		{name: "b2-space", rows: "B2", title: "a space separates the entries of GOPROXY", planted: one(finding.GoEnvMalformed), set: func(l *lab) { l.source("https://" + proxyHost + " https://" + spareHost) }},
		{name: "b2-direct-first", rows: "B2", title: "direct stands before the proxy, which is therefore never asked", planted: one(finding.GoEnvMalformed), set: func(l *lab) { l.source("direct,https://" + proxyHost) }, verdict: doctor.Untold},
		{name: "b3-comma", rows: "B3 A13", title: "the first source answers 503, and a comma stands where a bar was meant", planted: one(finding.SourceServerError), stays: true, set: func(l *lab) {
			l.spoilt("503")
			l.source("https://" + badHost + ",https://" + proxyHost)
		}},
		{name: "b4-private-too-much", rows: "B4 B5", title: "GOPRIVATE has * : everything goes past the proxies, unverified", planted: one(finding.VerificationOff), verdict: doctor.Broken, set: func(l *lab) {
			well(l)
			l.goenv("GOPRIVATE", "*")
		}},
		{name: "b5-sumdb-off", rows: "B5", title: "GOSUMDB=off, written with go env -w", planted: one(finding.VerificationOff), comes: true, set: func(l *lab) {
			well(l)
			l.goenv("GOSUMDB", "off")
		}, fixes: byHand(finding.VerificationOff, "GOSUMDB is as it was (here: the laboratory's own database)", func(l *lab) { l.goenv("GOSUMDB", l.db.GOSUMDB("")) })},
		{name: "b5-nosumdb-all", rows: "B5", title: "GONOSUMDB=* in the environment", planted: one(finding.VerificationOff), comes: true, set: func(l *lab) {
			well(l)
			l.env["GONOSUMDB"] = "*"
		}},
		{name: "b5-insecure-all", rows: "B5", title: "GOINSECURE=*", planted: one(finding.VerificationOff), comes: true, set: func(l *lab) {
			well(l)
			l.goenv("GOINSECURE", "*")
		}},
		{name: "b6-database-elsewhere", rows: "B6", title: "GOSUMDB has an address at the proxy's host where no database is", planted: one(finding.SumDBUnreachable), set: func(l *lab) {
			well(l)
			l.goenv("GOSUMDB", l.db.GOSUMDB("https://"+badHost+"/no/such/place"))
		}},
		{name: "b6-wrong-key", rows: "B6", title: "GOSUMDB has the key of another database", planted: one(finding.SumDBInconsistent), set: func(l *lab) {
			well(l)
			l.goenv("GOSUMDB", l.world.SumDB(sumHost).GOSUMDB(""))
		}, fixes: byHand(finding.SumDBInconsistent, "GOSUMDB gets the right key", func(l *lab) { l.goenv("GOSUMDB", l.db.GOSUMDB("")) })},
		{name: "b7-netrc-missing", rows: "B7", title: "the source wants a login, and there is no netrc file", planted: one(finding.SourceUnauthorized), set: func(l *lab) { l.wantsLogin() }},
		{name: "b7-netrc-other-machine", rows: "B7", title: "the netrc file has another machine", planted: one(finding.SourceUnauthorized), set: func(l *lab) {
			l.wantsLogin()
			l.file(".netrc", "machine goproxy.example.net login user password secret\n")
		}},
		{name: "b7-netrc-wrong-password", rows: "B7", title: "the netrc file has a password that expired", planted: one(finding.SourceUnauthorized), set: func(l *lab) {
			l.wantsLogin()
			l.file(".netrc", "machine "+badHost+" login user password expired\n")
		}},
		{name: "b7-prompts", rows: "B7 A22", title: "a private repository wants a login, and git may not ask: private fails, public works", explains: true, planted: one(finding.VCSLogin), set: func(l *lab) {
			well(l)
			g, _ := l.repository()
			g.RequireGitAuth("user", "secret")
			l.needs()
			l.goenv("GOPRIVATE", "git.modtest.example")
			l.editor("git.modtest.example", "user", "secret")
		}},
		{name: "b9-replace", rows: "B9", title: "go.mod replaces a module by a directory that is not there", planted: one(finding.ReplaceProblem), set: func(l *lab) {
			well(l)
			l.gomod("require example.org/fork v1.0.0\n\nreplace example.org/fork => ../fork\n")
			l.world.Add("example.org/fork", "v1.0.0", nil)
		}},
	}
}

// wantsLogin serves the source in trouble to user with the password secret.
func (l *lab) wantsLogin() {
	h := l.world.Handler()
	l.bad(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != "user" || p != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="modules"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	l.editor(badHost, "user", "secret")
}

func machines() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	return []scenario{
		{name: "a20-missing-entry", rows: "A20", title: "go.sum lacks an entry, and the build may not add it", explains: true, planted: one(finding.NeedsTidy), check: "go build -o /dev/null ./...", set: func(l *lab) {
			well(l)
			l.in("app.go", "package app\n\nimport _ \"example.org/m\"\n")
		}},
		{name: "a20-vendor-drift", rows: "A20", title: "the vendor directory does not fit go.mod", explains: true, planted: one(finding.VendorInconsistent), check: "go build -o /dev/null ./...", set: func(l *lab) {
			well(l)
			l.in("app.go", "package app\n\nimport _ \"example.org/m\"\n")
			l.run(goMay, "", "sh", "-c", "go mod tidy && go mod vendor")
			l.m.Version = "v1.1.0"
			l.gomod("")
			l.in("go.sum", l.world.GoSum(l.m))
		}},
		{name: "a20-compile-error", rows: "A20", title: "the project does not compile, which is no matter of modules", explains: true, planted: one(finding.NotModules), check: "go build -o /dev/null ./...", set: func(l *lab) {
			well(l)
			l.in("app.go", "package app\n\nvar X int = \"one\"\n")
		}, fixes: byHand(finding.NotModules, "no fix is named; the mistake is mended", func(l *lab) { l.in("app.go", "package app\n\nvar X int = 1\n") })},
		{name: "a20-gomod", rows: "A20", title: "go.mod has a conflict marker of a merge", planted: one(finding.GoModParse), set: func(l *lab) {
			well(l)
			l.gomod("<<<<<<< HEAD\n")
		}, fixes: byHand(finding.GoModParse, "the line is taken away", func(l *lab) { l.gomod("") })},
		{name: "a21-too-old", rows: "A21", title: "go.mod wants a newer go than there is, and GOTOOLCHAIN=local forbids the switch", explains: true, planted: one(finding.ToolchainTooOld), set: func(l *lab) {
			well(l)
			l.in("go.mod", "module app.example.net/app\n\ngo 1.99\n\nrequire example.org/m v1.0.0\n")
		}, fixes: byHand(finding.ToolchainTooOld, "go.mod asks for the go that is there", func(l *lab) { l.gomod("") })},
		{name: "a21-no-toolchain", rows: "A21", title: "the proxy has no toolchain of the version that go.mod wants", explains: true, planted: one(finding.ToolchainDownload), set: func(l *lab) {
			well(l)
			l.in("go.mod", "module app.example.net/app\n\ngo 1.99.0\n\nrequire example.org/m v1.0.0\n")
			l.env["GOTOOLCHAIN"] = "auto"
		}, fixes: byHand(finding.ToolchainDownload, "go.mod names a release that exists", func(l *lab) { l.gomod("") })},
		{name: "m-no-go", rows: "D", title: "there is no go command in PATH", planted: one(finding.NoGoCommand), comes: true, check: "true", set: func(l *lab) {
			well(l)
			l.env["GOPATH"] = filepath.Join(l.home, "go")
			l.path = l.env["PATH"]
			l.env["PATH"] = "/usr/bin:/bin"
			l.env["GOPROXY"], l.env["GOSUMDB"] = "https://"+badHost, l.db.GOSUMDB("")
			l.Must(os.Remove(filepath.Join(l.home, ".config/go/env")))
		}, fixes: byHand(finding.NoGoCommand, "the directory of go is added to PATH", func(l *lab) { l.env["PATH"] = l.path })},
		{name: "m-disk-full", rows: "D9", title: "the disk of the module cache is full", planted: one(finding.DiskFull), set: func(l *lab) {
			well(l)
			l.small(16 << 10)
		}, fixes: byHand(finding.DiskFull, "there is space", func(l *lab) { l.net.Sh("mount -o remount,size=1g " + filepath.Join(l.home, "go/pkg/mod")) })},
		{name: "m-read-only-cache", rows: "E2", title: "the module cache is on a file system that is mounted read-only", planted: one(finding.CacheDenied), set: func(l *lab) {
			well(l)
			l.small(1 << 30)
			l.net.Sh("mount -o remount,ro " + filepath.Join(l.home, "go/pkg/mod"))
		}, fill: map[string]string{"DIR": "$LAB/elsewhere"}},
	}
}

// small mounts a file system of so many bytes where the module cache is to be.
func (l *lab) small(bytes int) {
	dir := filepath.Join(l.home, "go/pkg/mod")
	l.Must(os.MkdirAll(dir, 0o755))
	l.net.Sh("mount -t tmpfs -o size=" + strconv.Itoa(bytes) + " tmpfs " + dir)
}

func doubles() []scenario {
	return []scenario{
		{name: "d-dropped-and-expired", rows: "A1 A7", title: "packets to the source are dropped; the certificate that it would show has expired", planted: []finding.Code{finding.SourceConnectTimeout, finding.SourceTLSExpired}, set: func(l *lab) {
			l.shown(l.public.Issue(time.Now().AddDate(-2, 0, 0), time.Now().AddDate(0, 0, -2), badHost))
			l.net.Filter("ip daddr " + badAddr + " drop")
		}, fixes: byHand(finding.SourceConnectTimeout, "the firewall lets it through", open)},
		{name: "d-login-and-inspection", rows: "A10 A6", title: "the forward proxy wants a login; behind it the certificate is replaced", planted: []finding.Code{finding.ForwardProxyLogin, finding.SourceTLSUnknownCA}, set: func(l *lab) {
			l.inspector(badAddr)
			l.squid("http_access allow known\nhttp_access deny all")
			l.onlyThroughForward()
			l.env["HTTPS_PROXY"] = "http://" + gateHost + ":3128"
		}, fixes: byHand(finding.ForwardProxyLogin, "user and password are put before the host in HTTPS_PROXY", func(l *lab) {
			l.env["HTTPS_PROXY"] = "http://" + login + gateHost + ":3128"
		}), fill: map[string]string{"FILE": "$LAB/company.crt"}},
		{name: "d-resolver-and-sumdb-off", rows: "A3 B5", title: "the resolver is silent; and GOSUMDB=off", planted: []finding.Code{finding.NameServerSilent, finding.VerificationOff}, set: func(l *lab) {
			l.bad(l.world.Handler())
			l.net.Address("198.51.100.54")
			l.net.Filter("ip daddr 198.51.100.54 drop")
			l.net.Resolvers("198.51.100.54")
			l.goenv("GOSUMDB", "off")
		}, fixes: map[finding.Code]hand{
			finding.NameServerSilent: {"/etc/resolv.conf names a resolver that answers", resolveWell},
			finding.VerificationOff:  {"GOSUMDB is as it was (here: the laboratory's own database)", func(l *lab) { l.goenv("GOSUMDB", l.db.GOSUMDB("")) }},
		}},
		{name: "d-malformed-and-dead", rows: "B2 A2", title: "GOPROXY lacks a colon, and nobody listens at the source that it means", planted: []finding.Code{finding.GoEnvMalformed, finding.SourceRefused}, set: func(l *lab) {
			l.source("https//" + badHost)
		}},
		{name: "d-damaged-and-hidden", rows: "A14 B1", title: "the zip in the cache has rotted, and GOPROXY in the environment hides what go env -w has", planted: []finding.Code{finding.CacheDamaged, finding.GoEnvHidden}, set: func(l *lab) {
			l.bad(l.world.Handler())
			l.seen()
			l.Must(os.RemoveAll(filepath.Join(l.home, "go/pkg/mod/example.org")))
			l.Must(os.Truncate(l.cached(".zip"), 100))
			l.env["GOPROXY"] = "https://" + proxyHost
		}},
		{name: "d-source-and-database", rows: "A2 A16", title: "nobody listens at the source, and packets to the checksum database are dropped", planted: one(finding.SourceRefused), set: func(l *lab) {
			l.net.Filter("ip daddr " + sumAddr + " drop")
		}, beside: []finding.Code{finding.SumDBUnreachable}},
		{name: "d-replace-and-forbidden", rows: "B9 A13", title: "a replacement that is not there, and a source that refuses", planted: []finding.Code{finding.ReplaceProblem, finding.SourceForbidden}, set: func(l *lab) {
			l.spoilt("403")
			l.gomod("require example.org/fork v1.0.0\n\nreplace example.org/fork => ../fork\n")
			l.world.Add("example.org/fork", "v1.0.0", nil)
		}, fixes: map[finding.Code]hand{
			finding.SourceForbidden: elsewhere(finding.SourceForbidden)[finding.SourceForbidden],
		}},
	}
}

func healthy() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	return []scenario{
		{name: "h-plain", title: "a public proxy over the open network", set: well},
		{name: "h-company-ca", rows: "A6", title: "a company's gateway replaces certificates, and its authority is installed", set: func(l *lab) {
			ca := l.inspector(badAddr)
			l.net.Sh("cp " + ca + " /usr/local/share/ca-certificates/company.crt && update-ca-certificates")
		}},
		{name: "h-split-dns", rows: "A4", title: "the company's resolver gives a private address for the source's public name", set: func(l *lab) {
			l.net.Name(badHost, corpAddr)
			l.net.Listen(corpAddr+":443", l.certificate(badHost), l.world.Handler())
		}},
		{name: "h-hosts-file", rows: "A4", title: "the hosts file names the company's proxy", set: func(l *lab) {
			l.net.Hosts(corpAddr + " " + corpHost + "\n")
			l.net.Listen(corpAddr+":443", l.certificate(corpHost), l.world.Handler())
			l.source("https://" + corpHost)
		}},
		{name: "h-fake-ip", rows: "A4", title: "a tunnel gives fake addresses for names, and carries what goes there", set: func(l *lab) {
			well(l)
			l.net.Sh("ip addr add 198.18.0.7/32 dev lo && nft 'add chain inet net nat { type nat hook output priority -100; }; add rule inet net nat ip daddr 198.18.0.7 dnat ip to " + badAddr + "'")
			l.net.Name(badHost, "198.18.0.7")
		}},
		{name: "h-mirror-without-database", rows: "B6", title: "a private mirror that does not carry the checksum database, which is reached itself", set: func(l *lab) { l.bad(l.bare()) }},
		{name: "h-private-mirror", rows: "B4", title: "a company's proxy without a database, for the company's own modules, which GONOSUMDB names", set: func(l *lab) {
			l.net.Name(corpHost, corpAddr)
			l.net.Listen(corpAddr+":443", l.certificate(corpHost), l.bare())
			l.source("https://" + corpHost)
			l.m = l.world.Add("corp.example.net/lib", "v1.0.0", nil)
			l.gomod("")
			l.goenv("GONOSUMDB", "corp.example.net")
			l.net.Filter("ip daddr " + sumAddr + " drop")
		}},
		{name: "h-database-by-url", rows: "B6", title: "GOSUMDB and GOPROXY are one host", set: func(l *lab) {
			well(l)
			l.goenv("GOSUMDB", l.db.GOSUMDB("https://"+badHost+"/sumdb/"+sumHost))
		}},
		{name: "h-database-blocked", rows: "A16", title: "the checksum database is blocked, and the source carries it", set: func(l *lab) {
			well(l)
			l.net.Filter("ip daddr " + sumAddr + " drop")
		}},
		{name: "h-proxy-only", rows: "A10", title: "a network with no way out but a forward proxy", set: func(l *lab) {
			well(l)
			l.squid("http_access allow known\nhttp_access deny all")
			l.onlyThroughForward()
			l.env["HTTPS_PROXY"] = "http://" + login + gateHost + ":3128"
		}},
		{name: "h-no-proxy", rows: "A10", title: "a forward proxy that refuses the company's hosts, which NO_PROXY names", set: func(l *lab) {
			l.net.Name(corpHost, corpAddr)
			l.net.Listen(corpAddr+":443", l.certificate(corpHost), l.world.Handler())
			l.squid("http_access deny corporate\nhttp_access allow all")
			l.source("https://" + corpHost)
			l.env["HTTPS_PROXY"], l.env["NO_PROXY"] = "http://"+gateHost+":3128", ".corp.internal"
		}},
		{name: "h-ipv4-only", rows: "A5", title: "the source has an IPv6 address, and the machine has no IPv6", set: func(l *lab) {
			well(l)
			l.net.Name(badHost, badAddr, "2001:db8:83::20")
		}},
		{name: "h-ipv6-only", rows: "A5", title: "the machine has no IPv4: names lead to addresses of a NAT64", set: func(l *lab) {
			const nat64, dns6 = "64:ff9b::c633:6414", "2001:db8:83::53"
			l.six()
			l.net.Sh("ip route del default dev out && ip addr flush dev out scope global && ip -6 addr add 2001:db8:83::100/64 dev out nodad; ip -6 route replace default dev out")
			l.net.Name(badHost, nat64)
			l.net.Listen("["+nat64+"]:443", l.certificate(badHost), l.world.Handler())
			l.net.Also(dns6)
			l.net.Resolvers(dns6)
			l.net.Sh("nft 'add rule inet net out meta skgid " + strconv.Itoa(clients) + " ip daddr != 127.0.0.0/8 reject with icmp net-unreachable'")
		}},
		{name: "h-air-gap", rows: "D8", title: "an air gap on purpose: GOPROXY=file://, with the database's records in it", set: func(l *lab) {
			well(l)
			store := filepath.Join(l.home, "store")
			if e := l.run(goMay, "", l.program, "run", "--data", store, "--", "go", "mod", "download"); e.status != 0 {
				l.Fatalf("sluice run: %s", tail(e.err))
			}
			l.Must(os.RemoveAll(filepath.Join(l.home, "go")))
			l.Must(os.Remove(filepath.Join(l.project, "go.sum")))
			l.source("file://" + store)
			l.net.Sh("ip link del out; ip -4 addr flush dev lo; ip addr add 127.0.0.1/8 dev lo")
			l.net.Resolvers()
		}},
		{name: "h-off-on-purpose", rows: "D8", title: "GOPROXY=off, and all that go.mod requires is in the module cache", set: func(l *lab) {
			well(l)
			l.seen()
			l.source("off")
		}},
		{name: "h-loopback", title: "a proxy on this machine, over http", set: func(l *lab) {
			l.net.Listen("127.0.0.1:7070", nil, l.world.Handler())
			l.source("http://127.0.0.1:7070")
		}},
		{name: "h-redirect", title: "the source redirects to a host for files", set: func(l *lab) {
			l.net.Name("files.example.net", otherAddr)
			l.net.Listen(otherAddr+":443", l.certificate("files.example.net"), l.world.Handler())
			l.leads = []string{"files.example.net"}
			h := l.world.Handler()
			l.bad(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".zip") {
					http.Redirect(w, r, "https://files.example.net"+r.URL.Path, http.StatusFound)
					return
				}
				h.ServeHTTP(w, r)
			}))
		}},
		{name: "h-old-date", rows: "A7", title: "a cache before the source hands out old dates, and an Age", set: func(l *lab) {
			h := l.world.Handler()
			l.bad(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(-72*time.Hour).UTC().Format(http.TimeFormat))
				w.Header().Set("Age", "259200")
				h.ServeHTTP(w, r)
			}))
		}},
		{name: "h-netrc", rows: "B7", title: "the source wants a login, and the netrc file has it", set: func(l *lab) {
			l.wantsLogin()
			l.file(".netrc", "machine "+badHost+" login user password secret\n")
		}},
		{name: "h-nginx", title: "a static tree of files behind nginx", set: func(l *lab) { l.nginx("location / { try_files $uri =404; }") }},
		{name: "h-private-direct", rows: "A11 A22", title: "a public module from the proxy and a private one from its repository", set: func(l *lab) {
			well(l)
			l.repository()
			l.goenv("GOPRIVATE", "git.modtest.example")
			l.gomod("require " + private + " v1.0.0\n")
		}},
	}
}
