//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
)

// scenarios are all of them, in the order of the table of situations.
func scenarios() []scenario {
	list := slices.Concat(networks(), encryption(), answers(), settings(), projects(), machines(), recipes(), doubles(), healthy(), further(), places())
	slices.SortStableFunc(list, func(a, b scenario) int { return cmp.Compare(a.place(), b.place()) })
	return list
}

// place is where the scenario's first row stands in the table of situations, as a text
// that sorts so.
func (s *scenario) place() string {
	row, _, _ := strings.Cut(s.rows, " ")
	if row == "" {
		return ""
	}
	return fmt.Sprintf("%c%3s", row[0], row[1:])
}

// one is a planted finding.
func one(code finding.Code) []finding.Code { return []finding.Code{code} }

// Ways to fix by hand.
var (
	open        = func(l *lab) { l.net.Open() }
	resolveWell = func(l *lab) { l.net.Resolvers(resolver) }
)

// elsewhere is what is left to people who cannot mend the source: another one.
func elsewhere(code finding.Code) map[finding.Code]hand {
	return byHand(code, "another source is named in GOPROXY", func(l *lab) { l.source("https://" + proxyHost) })
}

func networks() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	return []scenario{
		{name: "a1-dropped", rows: "A1", title: "packets to the only source are dropped", planted: one(finding.SourceConnectTimeout), set: func(l *lab) {
			well(l)
			l.net.Filter("ip daddr " + badAddr + " drop")
		}},
		{name: "a1-dropped-first-of-two", rows: "A1 B3", title: "packets to the first source are dropped, and a comma stands before the second", planted: one(finding.SourceConnectTimeout), set: func(l *lab) {
			well(l)
			l.net.Filter("ip daddr " + badAddr + " drop")
			l.source("https://" + badHost + ",https://" + proxyHost)
		}},
		{name: "a1-dropped-in-environment", rows: "A1 B1", title: "the same, and GOPROXY is set in the environment, which go env -w cannot change", planted: one(finding.SourceConnectTimeout), set: func(l *lab) {
			well(l)
			l.net.Filter("ip daddr " + badAddr + " drop")
			l.source("")
			l.env["GOPROXY"] = "https://" + badHost
		}},
		{name: "a2-refused", rows: "A2", title: "nobody listens at the only source", planted: one(finding.SourceRefused), set: func(*lab) {}},
		{name: "a2-refused-first-of-two", rows: "A2", title: "nobody listens at the first source, and a bar stands before the second", planted: one(finding.SourceRefused), comes: true, set: func(l *lab) {
			l.source("https://" + badHost + "|https://" + proxyHost)
		}},
		{name: "a2-rejected", rows: "A2", title: "a firewall rejects connections to the source with a reset", planted: one(finding.SourceRefused), set: func(l *lab) {
			well(l)
			l.net.Filter("ip daddr " + badAddr + " tcp dport 443 reject with tcp reset")
		}},
		{name: "a2-no-route", rows: "A2", title: "there is no route to the source", planted: one(finding.SourceNoRoute), set: func(l *lab) {
			l.net.Name(badHost, "192.0.2.20")
			l.net.Sh("ip route add unreachable 192.0.2.20/32")
		}, fixes: byHand(finding.SourceNoRoute, "the route is put right", func(l *lab) {
			l.net.Sh("ip route del unreachable 192.0.2.20/32")
			l.bad(l.world.Handler())
		})},
		{name: "a2-offline", rows: "A2", title: "the machine has no network but itself, and a resolver on it", planted: one(finding.SourceNoRoute), set: func(l *lab) {
			l.net.Sh("ip link del out")
			l.net.Name(badHost, "192.0.2.20")
		}, fixes: byHand(finding.SourceNoRoute, "the network is brought up", well)},
		{name: "a3-no-such-host", rows: "A3", title: "the name of the source does not exist", planted: one(finding.SourceDNS), set: func(l *lab) { l.net.Name(badHost) }},
		{name: "a3-refused", rows: "A3", title: "the resolver refuses the question", planted: one(finding.SourceDNS), set: func(l *lab) { l.source("https://goproxy.example.invalid") }},
		{name: "a3-silent", rows: "A3", title: "the resolver does not answer", planted: one(finding.NameServerSilent), set: func(l *lab) {
			well(l)
			l.net.Address("198.51.100.54")
			l.net.Filter("ip daddr 198.51.100.54 drop")
			l.net.Resolvers("198.51.100.54")
		}, fixes: byHand(finding.NameServerSilent, "/etc/resolv.conf names a resolver that answers", resolveWell)},
		{name: "a3-not-there", rows: "A3", title: "nobody listens where the resolver should be", planted: one(finding.NameServerSilent), set: func(l *lab) {
			well(l)
			l.net.Address("198.51.100.55")
			l.net.Resolvers("198.51.100.55")
		}, fixes: byHand(finding.NameServerSilent, "/etc/resolv.conf names a resolver that is there", resolveWell)},
		{name: "a3-no-resolver", rows: "A3", title: "/etc/resolv.conf names no resolver, as in a bare container", planted: one(finding.NameServerSilent), set: func(l *lab) { well(l); l.net.Resolvers() },
			fixes: byHand(finding.NameServerSilent, "/etc/resolv.conf names a resolver", resolveWell)},
		{name: "a4-hosts-file", rows: "A4", title: "a line of the hosts file leads the source's name to 127.0.0.1", planted: one(finding.HostsFile), set: func(l *lab) {
			well(l)
			l.net.Hosts("127.0.0.1 " + badHost + "\n")
		}},
		{name: "a4-sinkhole", rows: "A4", title: "a filter's resolver leads the source's name to 0.0.0.0", planted: one(finding.DNSHijackOrPortal), set: func(l *lab) {
			well(l)
			l.net.Name(badHost, "0.0.0.0")
		}, fixes: byHand(finding.DNSHijackOrPortal, "the resolver gives the right address", func(l *lab) { l.net.Name(badHost, badAddr) })},
		{name: "a4-somebody-else", rows: "A4", title: "the source's name leads to another web server, which has its own certificate", planted: one(finding.SourceTLSHostname), set: func(l *lab) {
			well(l)
			l.serve("www.example.net", otherAddr, page)
			l.net.Name(badHost, otherAddr)
		}, fixes: byHand(finding.SourceTLSHostname, "the resolver gives the right address", func(l *lab) { l.net.Name(badHost, badAddr) })},
		{name: "a5-dead-beside-ipv4", rows: "A5", title: "IPv6 is announced and dead, and IPv4 works", planted: one(finding.IPv6Broken), comes: true, set: func(l *lab) {
			well(l)
			l.six()
			l.net.Name(badHost, badAddr, "2001:db8:83::dead")
		}, fixes: byHand(finding.IPv6Broken, "IPv6 is switched off: its route is taken away", func(l *lab) {
			l.net.Sh("ip -6 route del default dev out && ip -6 addr flush dev out && ip -6 route add unreachable default")
		})},
		{name: "a5-dead-alone", rows: "A5", title: "the source has an IPv6 address alone, and the machine has no IPv6", planted: one(finding.IPv6Broken), set: func(l *lab) {
			well(l)
			l.net.Name(badHost, "2001:db8:83::20")
		}, fixes: byHand(finding.IPv6Broken, "the source gets an IPv4 address", func(l *lab) { l.net.Name(badHost, badAddr) })},
	}
}

// six gives the machine an IPv6 address and a way out.
func (l *lab) six() {
	l.net.Sh("ip -6 addr add 2001:db8:83::100/64 dev out nodad && ip -6 route replace default dev out")
}

// page is a web server that is no module proxy.
var page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in to the network.</body></html>")
})

// inspector is a company's gateway that replaces the certificate of the source in
// trouble: mitmproxy. It returns the file of its authority.
func (l *lab) inspector(addrs ...string) (ca string) {
	dir := l.TempDir()
	for _, a := range addrs {
		l.net.Address(a)
		h := l.bare()
		if a == sumInspected {
			h = l.db
		}
		l.net.Listen(a+":80", nil, h)
		l.net.Start(a+":443", "mitmdump", "--quiet", "--set", "confdir="+dir, "--mode", "reverse:http://"+a+":80", "--listen-host", a, "--listen-port", "443")
	}
	data, err := os.ReadFile(filepath.Join(dir, "mitmproxy-ca-cert.pem"))
	l.Must(err)
	return l.file("company.crt", string(data))
}

// bare is a source that does not carry the checksum database.
func (l *lab) bare() http.Handler {
	h := l.world.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/sumdb/") {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// A box stands before the source in trouble and looks at the first message of each
// connection: what it lets pass goes on to the source.
func (l *lab) box(passes func(hello []byte) bool, cut bool) {
	const behind = "198.51.100.21"
	cert := l.public.Issue(time.Time{}, time.Time{}, badHost)
	l.net.Listen(behind+":443", &cert, l.world.Handler())
	ln, err := net.Listen("tcp", badAddr+":443")
	l.Must(err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				head := make([]byte, 5)
				if _, err := io.ReadFull(c, head); err != nil {
					return
				}
				rest := make([]byte, int(head[3])<<8|int(head[4]))
				if _, err := io.ReadFull(c, rest); err != nil {
					return
				}
				hello := append(head, rest...)
				if !passes(hello) {
					if cut {
						c.(*net.TCPConn).SetLinger(0)
						return
					}
					io.Copy(io.Discard, c) // until the client gives up
					return
				}
				back, err := net.Dial("tcp", behind+":443")
				if err != nil {
					return
				}
				defer back.Close()
				back.Write(hello)
				wg.Go(func() { io.Copy(back, c); back.(*net.TCPConn).CloseWrite() })
				io.Copy(c, back)
			})
		}
	})
	l.Cleanup(func() { ln.Close() })
}

func encryption() []scenario {
	year := 365 * 24 * time.Hour
	named := func(hello []byte) bool { return !bytes.Contains(hello, []byte(badHost)) }
	return []scenario{
		{name: "a6-inspection", rows: "A6", title: "a company's gateway replaces the certificate of the source, and its authority is not known here", planted: one(finding.SourceTLSUnknownCA),
			set: func(l *lab) { l.inspector(badAddr) }, fill: map[string]string{"FILE": "$LAB/company.crt"}},
		{name: "a6-inspection-of-all", rows: "A6", title: "the same for the checksum database, too", planted: one(finding.SourceTLSUnknownCA), set: func(l *lab) {
			l.net.Name(sumHost, sumInspected)
			l.inspector(badAddr, sumInspected)
		}, fill: map[string]string{"FILE": "$LAB/company.crt"}},
		{name: "a6-private-authority", rows: "A6 D1", title: "the source has a certificate of the company's own authority", planted: one(finding.SourceTLSUnknownCA), set: func(l *lab) {
			l.shown(l.company.Issue(time.Time{}, time.Time{}, badHost))
			l.file("company.crt", string(l.company.PEM))
		}, fill: map[string]string{"FILE": "$LAB/company.crt"}},
		{name: "a6-no-bundle", rows: "A6", title: "there is no list of authorities, as in a slim container image", planted: one(finding.NoCABundle), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.net.Sh("rm -r /etc/ssl/certs/*")
		}, fixes: byHand(finding.NoCABundle, "the package's list is there", func(l *lab) { l.net.Sh("update-ca-certificates") })},
		{name: "a6-bundle-elsewhere", rows: "A6", title: "SSL_CERT_FILE and SSL_CERT_DIR lead nowhere", planted: one(finding.NoCABundle), set: func(l *lab) {
			l.bad(l.world.Handler())
			l.env["SSL_CERT_FILE"], l.env["SSL_CERT_DIR"] = "/nonexistent/ca.pem", "/nonexistent"
		}},
		{name: "a7-expired", rows: "A7", title: "the source has let its certificate expire", planted: one(finding.SourceTLSExpired), set: func(l *lab) {
			l.shown(l.public.Issue(time.Now().Add(-2*year), time.Now().Add(-48*time.Hour), badHost))
		}},
		{name: "a7-clock-behind", rows: "A7", title: "the clock is a year behind: no certificate is valid yet, and the servers say another time", planted: one(finding.ClockWrong),
			set: func(l *lab) { l.otherTime(year) }, fixes: byHand(finding.ClockWrong, "the clock is set (here: that of the servers and certificates)", func(l *lab) { l.otherTime(0) })},
		{name: "a7-clock-ahead", rows: "A7", title: "the clock is two years ahead: all certificates seem to be expired", planted: one(finding.ClockWrong),
			set: func(l *lab) { l.otherTime(-2 * year) }, fixes: byHand(finding.ClockWrong, "the clock is set (here: that of the servers and certificates)", func(l *lab) { l.otherTime(0) })},
		{name: "a8-stalled", rows: "A8", title: "the TLS handshake is never answered", planted: one(finding.SourceTLSHandshake), set: func(l *lab) {
			ln, err := net.Listen("tcp", badAddr+":443")
			l.Must(err)
			ctx, stop := context.WithCancel(l.Context())
			var wg sync.WaitGroup
			wg.Go(func() { faults.BlackHole(ctx, ln) })
			l.Cleanup(func() { stop(); wg.Wait() })
		}, fixes: elsewhere(finding.SourceTLSHandshake)},
		{name: "a8-name-filter", rows: "A8", title: "a filter resets connections whose ClientHello has the source's name", planted: one(finding.NameFiltered),
			set: func(l *lab) { l.box(named, true) }},
		{name: "a8-large-hello", rows: "A8", title: "a box drops ClientHellos that do not fit into one packet", planted: one(finding.SourceTLSHandshake),
			set: func(l *lab) { l.box(func(hello []byte) bool { return len(hello) < 1300 }, false) }},
	}
}

// otherTime serves the source in trouble, and beside it a source without TLS, as if the
// clock there were ahead of that here.
func (l *lab) otherTime(ahead time.Duration) {
	for _, stop := range l.stops {
		stop()
	}
	now := time.Now().Add(ahead)
	h := l.world.Handler()
	dated := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		h.ServeHTTP(w, r)
	})
	cert := l.public.Issue(now.AddDate(0, -1, 0), now.AddDate(0, 2, 0), badHost)
	l.net.Name(corpHost, corpAddr)
	l.stops = []func(){l.net.Listen(badAddr+":443", &cert, dated), l.net.Listen(corpAddr+":80", nil, dated)}
	l.source("https://" + badHost + ",http://" + corpHost)
}

// spoilt is a fault of internal/faults before the world, in the source in trouble.
func (l *lab) spoilt(fault string) {
	f, err := faults.Parse(fault)
	l.Must(err)
	l.bad(faults.Handler(l.world.Handler(), faults.Always(f)))
}

// nginx serves the source in trouble with a real nginx, whose server block has these
// lines; $TREE in them is a directory with the modules as plain files.
func (l *lab) nginx(lines string) {
	tree := l.TempDir()
	l.Must(os.Chmod(tree, 0o755))
	l.world.WriteTree(tree)
	cert, key := l.public.Files(l.public.Issue(time.Time{}, time.Time{}, badHost))
	dir := l.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	l.Must(os.WriteFile(conf, []byte(strings.ReplaceAll(fmt.Sprintf(`daemon off;
user root;
pid %[1]s/pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	limit_req_zone $binary_remote_addr zone=few:1m rate=1r/m;
	server {
		listen %[2]s:443 ssl;
		server_name %[3]s;
		ssl_certificate %[4]s;
		ssl_certificate_key %[5]s;
		root $TREE;
		%[6]s
	}
}
`, dir, badAddr, badHost, cert, key, lines), "$TREE", tree)), 0o644))
	l.net.Start(badAddr+":443", "nginx", "-c", conf, "-e", filepath.Join(dir, "error.log"))
}

// squid is a company's forward proxy, a real squid, with these lines of access rules.
// known are those who log in, as user with the password secret.
func (l *lab) squid(rules string) {
	dir := l.TempDir()
	l.net.Address(gateAddr)
	l.net.Name(gateHost, gateAddr)
	l.net.Sh("chmod 777 " + dir + " && printf 'user:%s\\n' \"$(openssl passwd -apr1 secret)\" >" + dir + "/users && chmod 644 " + dir + "/users")
	for d := dir; d != "/" && d != "."; d = filepath.Dir(d) {
		l.net.Sh("chmod a+x " + d) // squid does not stay root
	}
	conf := filepath.Join(dir, "squid.conf")
	l.Must(os.WriteFile(conf, []byte(fmt.Sprintf(`http_port %[1]s:3128
visible_hostname %[2]s
pid_filename none
cache deny all
access_log none
cache_log %[3]s/cache.log
coredump_dir %[3]s
shutdown_lifetime 0 seconds
dns_nameservers %[4]s
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[3]s/users
auth_param basic children 1
acl known proxy_auth REQUIRED
acl corporate dstdomain .corp.internal
%[5]s
`, gateAddr, gateHost, dir, resolver, rules)), 0o644))
	l.net.Start(gateAddr+":3128", "squid", "-N", "-f", conf)
}

// onlyThroughForward makes all but the forward proxy and the resolver out of reach of
// the client.
func (l *lab) onlyThroughForward() {
	l.net.Sh(fmt.Sprintf("nft 'add rule inet net out meta skgid %d ip daddr != { %s, %s, %s, 127.0.0.0/8 } drop'", clients, gateAddr, resolver, corpAddr))
}
