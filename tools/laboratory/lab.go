//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

// Who is where. The addresses are those that documents may use, and those of private
// networks.
const (
	resolver     = "198.51.100.53"
	proxyAddr    = "198.51.100.10" // proxy.example.com, always well: what a person puts in for YOUR-PROXY
	spareAddr    = "198.51.100.11" // mirror.example.com, the same for YOUR-MIRROR
	sumAddr      = "198.51.100.12" // sum.example.com, the checksum database
	defaultAddr  = "198.51.100.14" // the source of a toolchain that nobody has told another one, always well
	sumInspected = "198.51.100.13" // the same, behind a gateway that replaces certificates
	badAddr      = "198.51.100.20" // goproxy.example.org, the source in trouble
	gitAddr      = "198.51.100.30" // modtest.GitHost
	otherAddr    = "198.51.100.40" // somebody else's web server
	corpAddr     = "10.83.0.10"    // goproxy.corp.internal, a company's proxy
	gateAddr     = "10.83.0.8"     // forward.corp.internal, a company's forward proxy
	hereAddr     = "10.83.0.100"   // this machine

	proxyHost = "proxy.example.com"
	spareHost = "mirror.example.com"
	sumHost   = "sum.example.com"
	badHost   = "goproxy.example.org"
	corpHost  = "goproxy.corp.internal"
	gateHost  = "forward.corp.internal"
)

// clients is the group that the programs of the client run with, so that the packet
// filter knows theirs from those of the servers.
const clients = 4711

// goMay is how long a go command that is to pass may take.
const goMay = time.Minute

// goFails is how long one that is to fail is waited for: where packets are dropped, it
// would try for half a minute.
const goFails = 4 * time.Second

// A lab is one scenario's network and machine, within namespaces of its own.
type lab struct {
	*modtest.Scope
	net     *modtest.Network
	world   *modtest.World
	db      *modtest.SumDB
	public  *modtest.Authority // that this machine trusts
	company *modtest.Authority // that it does not
	m       module.Version     // that the project requires

	program string
	home    string
	project string
	env     map[string]string // of the client's shell
	leads   []string          // hosts that the sources, or git's settings, lead to
	with    []string          // more flags of doctor
	stops   []func()          // of what otherTime serves
	path    string            // PATH as it was
	undo    func()            // what mends the repository
	told    string            // the end of what the fix that was pasted last said of itself
	// What sshd left to be done: the client gets a key, and knows that of the host.
	sshKey, sshKnown func()
}

// newLab makes a network in which all is well.
func newLab(t *modtest.Scope, program string) *lab {
	l := &lab{Scope: t, program: program, net: modtest.NewNetwork(t, resolver, "--address=/"+wild+"/"+otherAddr), world: modtest.New(t)}
	l.net.Options = "timeout:2 attempts:1" // as long as doctor waits
	l.net.Resolvers(resolver)
	l.wire()
	l.net.Sh(fmt.Sprintf("nft 'add set inet net seen4 { type ipv4_addr . inet_service; flags dynamic; size 65535; }; add set inet net seen6 { type ipv6_addr . inet_service; flags dynamic; size 65535; }; "+
		"add chain inet net count { type filter hook output priority -200; }; "+
		"add rule inet net count meta skgid %[1]d tcp flags & (syn|ack) == syn add @seen4 { ip daddr . tcp dport }; add rule inet net count meta skgid %[1]d udp dport 1-65535 add @seen4 { ip daddr . udp dport }; "+
		"add rule inet net count meta skgid %[1]d tcp flags & (syn|ack) == syn add @seen6 { ip6 daddr . tcp dport }; add rule inet net count meta skgid %[1]d udp dport 1-65535 add @seen6 { ip6 daddr . udp dport }; "+
		"add set inet net else4 { type ipv4_addr; flags dynamic; size 65535; }; add set inet net else6 { type ipv6_addr; flags dynamic; size 65535; }; "+
		"add rule inet net count meta skgid %[1]d meta l4proto != { tcp, udp } add @else4 { ip daddr }; add rule inet net count meta skgid %[1]d meta l4proto != { tcp, udp } add @else6 { ip6 daddr }'", clients))
	l.public, l.company = modtest.NewAuthority(t, "Example Trust Services"), modtest.NewAuthority(t, "Example Corp Inspection")
	l.trust()

	l.m = l.world.Add("example.org/m", "v1.0.0", nil)
	l.world.Add("example.org/m", "v1.1.0", nil)
	l.db = l.world.SumDB(sumHost)
	l.world.Mount(l.db)
	l.serve(proxyHost, proxyAddr, l.world.Handler())
	l.serve(spareHost, spareAddr, l.world.Handler())
	// What sluice use best and sluice use default find: the toolchain's own source, and
	// the modules that it is asked for.
	for _, name := range l.defaults() {
		l.serve(name, defaultAddr, l.world.Handler())
	}
	for _, m := range []module.Version{{Path: "rsc.io/quote", Version: "v1.5.2"}, {Path: "golang.org/x/mod", Version: "v0.20.0"}, {Path: "golang.org/x/sys", Version: "v0.20.0"}} {
		l.world.Add(m.Path, m.Version, nil)
	}
	l.serve(sumHost, sumAddr, l.db)
	l.net.Address(badAddr)
	l.net.Name(badHost, badAddr)

	l.home, l.project = t.TempDir(), t.TempDir()
	bin := filepath.Join(l.home, "bin")
	l.Must(os.Mkdir(bin, 0o755))
	l.Must(os.Symlink(program, filepath.Join(bin, "sluice")))
	l.env = map[string]string{"PATH": bin + ":" + os.Getenv("PATH"), "HOME": l.home, "LC_ALL": "C", "GOTOOLCHAIN": "local", "GOCACHE": os.Getenv("GOCACHE"), "GIT_CONFIG_NOSYSTEM": "1"}
	l.file(".config/go/telemetry/mode", "off")
	l.goenv("GOSUMDB", l.db.GOSUMDB(""))
	l.source("https://" + badHost)
	l.gomod("")
	return l
}

// wire makes the only interface that leads out, and the route.
func (l *lab) wire() {
	l.net.Sh("ip link add out type veth peer name far && ip link set far up && ip link set out arp off && ip addr add " + hereAddr + "/24 dev out && ip link set out up && ip route add default dev out")
}

// defaults are the hosts of the sources that the toolchain comes with: one, mostly.
func (l *lab) defaults() (hosts []string) {
	cmd := exec.Command("go", "env", "GOPROXY")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.TempDir(), "GOENV=off", "GOTOOLCHAIN=local"}
	out, err := cmd.Output()
	l.Must(err)
	list, err := goenv.ParseProxyList(strings.TrimSpace(string(out)))
	l.Must(err)
	for _, entry := range list {
		if u, err := url.Parse(entry.URL); err == nil && u.Scheme == "https" && len(hosts) == 0 {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// trust makes a public authority the only one that this machine trusts. What
// update-ca-certificates does changes nothing outside.
func (l *lab) trust() {
	conf := filepath.Join(l.TempDir(), "ca-certificates.conf")
	l.Must(os.WriteFile(conf, []byte("lab/public.crt\n"), 0o644))
	l.net.Sh("for d in /etc/ssl/certs /usr/share/ca-certificates /usr/local/share/ca-certificates; do mkdir -p $d && mount -t tmpfs tmpfs $d; done && mkdir /usr/share/ca-certificates/lab && " +
		"cp " + l.public.File + " /usr/share/ca-certificates/lab/public.crt && cp " + l.public.File + " /etc/ssl/certs/ca-certificates.crt && mount --bind " + conf + " /etc/ca-certificates.conf")
}

// serve makes a host with a good certificate.
func (l *lab) serve(name, addr string, h http.Handler) (stop func()) {
	l.net.Name(name, addr)
	return l.net.Listen(addr+":443", l.certificate(name), h)
}

// bad serves the source that is in trouble, whose TLS is well.
func (l *lab) bad(h http.Handler) (stop func()) { return l.serve(badHost, badAddr, h) }

// shown serves the source in trouble under another certificate.
func (l *lab) shown(cert tls.Certificate) (stop func()) {
	return l.net.Listen(badAddr+":443", &cert, l.world.Handler())
}

// certificate is a good one.
func (l *lab) certificate(names ...string) *tls.Certificate {
	c := l.public.Issue(time.Time{}, time.Time{}, names...)
	return &c
}

// file writes a file below the client's home.
func (l *lab) file(name, text string) string {
	name = filepath.Join(l.home, name)
	l.Must(os.MkdirAll(filepath.Dir(name), 0o700))
	l.Must(os.WriteFile(name, []byte(text), 0o600))
	return name
}

// in writes a file of the project.
func (l *lab) in(name, text string) {
	name = filepath.Join(l.project, name)
	l.Must(os.MkdirAll(filepath.Dir(name), 0o755))
	l.Must(os.WriteFile(name, []byte(text), 0o644))
}

// gomod writes the project's go.mod, with more lines.
func (l *lab) gomod(more string) {
	l.in("go.mod", "module app.example.net/app\n\ngo 1.21\n\nrequire "+l.m.Path+" "+l.m.Version+"\n"+more)
}

// goenv sets a variable as go env -w does.
func (l *lab) goenv(name, value string) {
	file := filepath.Join(l.home, ".config/go/env")
	old, _ := os.ReadFile(file)
	var text strings.Builder
	for line := range strings.Lines(string(old)) {
		if !strings.HasPrefix(line, name+"=") {
			text.WriteString(line)
		}
	}
	if value != "" {
		fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	l.file(".config/go/env", text.String())
}

// source writes GOPROXY as go env -w does.
func (l *lab) source(list string) { l.goenv("GOPROXY", list) }

// An ended process.
type ended struct {
	out, err string
	status   int  // -1 if it was stopped
	stopped  bool // for it took too long
}

// run runs a program as the client does, in the project.
func (l *lab) run(limit time.Duration, stdin string, argv ...string) ended {
	ctx, cancel := context.WithTimeout(l.Context(), limit)
	defer cancel()
	name := argv[0]
	if p, err := exec.LookPath(name); err == nil {
		name = p
	}
	cmd := exec.CommandContext(ctx, name, argv[1:]...)
	cmd.Dir, cmd.Stdin = l.project, strings.NewReader(stdin)
	for _, k := range slices.Sorted(maps.Keys(l.env)) {
		cmd.Env = append(cmd.Env, k+"="+l.env[k])
	}
	cmd.Env = append(cmd.Env, "PWD="+l.project)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 0, Gid: clients}, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok && ctx.Err() == nil {
		l.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return ended{out.String(), errb.String(), cmd.ProcessState.ExitCode(), ctx.Err() != nil}
}

// paste types commands into a shell of the client, one after the other, and keeps what
// they did to its environment. It lists those that are no commands here.
func (l *lab) paste(commands []string) (unknown []string) {
	state := filepath.Join(l.TempDir(), "env")
	var script strings.Builder
	for i, c := range commands {
		fmt.Fprintf(&script, "%s\n[ $? -ne 127 ] || echo %d >>%s.unknown\n", c, i, state)
	}
	fmt.Fprintf(&script, "env -0 >%s\n", state)
	e := l.run(goMay, "", "sh", "-c", script.String())
	l.told = tail(e.err)
	data, err := os.ReadFile(state)
	if err != nil {
		l.Fatalf("the shell that the fix was pasted into came to no end: %s %s", tail(e.err), err)
	}
	l.env = map[string]string{}
	for kv := range strings.SplitSeq(strings.TrimRight(string(data), "\x00"), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "PWD" && k != "OLDPWD" && k != "_" && k != "SHLVL" {
			l.env[k] = v
		}
	}
	no, _ := os.ReadFile(state + ".unknown")
	for i, c := range commands {
		if slices.Contains(strings.Fields(string(no)), fmt.Sprint(i)) {
			unknown = append(unknown, c)
		}
	}
	return unknown
}

// forget makes the packet filter and the name server begin anew with what the client
// does.
func (l *lab) forget() {
	for _, set := range counted {
		l.net.Sh("nft flush set inet net " + set)
	}
	l.Must(os.Truncate(l.net.Queries, 0))
}

// counted are the sets in which the packet filter has what the client contacted: by TCP
// and UDP with the port, and by whatever else without one.
var counted = []string{"seen4", "seen6", "else4", "else6"}

var (
	seenAddr  = regexp.MustCompile(`([0-9a-f]*[.:][0-9a-f.:]+)(?: \. (\d+))?`)
	askedName = regexp.MustCompile(`query\[[A-Z0-9]+\] (\S+) from `)
)

// strangers lists the addresses that the client contacted, and the names that anybody
// asked for, since forget, and that nothing in the client's settings names.
func (l *lab) strangers() (list []string) {
	names, addrs := l.named()
	for _, set := range counted {
		out, err := exec.Command("nft", "-n", "list", "set", "inet", "net", set).Output()
		l.Must(err)
		_, elements, _ := strings.Cut(string(out), "elements")
		for _, m := range seenAddr.FindAllStringSubmatch(elements, -1) {
			if ip := net.ParseIP(m[1]); ip != nil && !ip.IsLoopback() && !slices.Contains(addrs, ip.String()) {
				list = append(list, net.JoinHostPort(m[1], cmp.Or(m[2], "?")))
			}
		}
	}
	log, err := os.ReadFile(l.net.Queries)
	l.Must(err)
	for _, m := range askedName.FindAllStringSubmatch(string(log), -1) {
		if !slices.Contains(names, m[1]) && !slices.Contains(list, m[1]) {
			list = append(list, m[1])
		}
	}
	return list
}

// named are the hosts that the settings of the client name, and their addresses.
func (l *lab) named() (names, addrs []string) {
	written, _ := os.ReadFile(filepath.Join(l.home, ".config/go/env"))
	values := map[string]string{}
	for line := range strings.Lines(string(written)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[k] = v
		}
	}
	maps.Copy(values, l.env)
	add := func(host string) {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host == "" {
			return
		}
		names = append(names, host)
		if ip := net.ParseIP(host); ip != nil {
			addrs = append(addrs, ip.String())
		}
		for _, a := range l.net.Addresses(host) {
			addrs = append(addrs, net.ParseIP(a).String())
		}
	}
	if list, err := goenv.ParseProxyList(values["GOPROXY"]); err == nil {
		for _, e := range list {
			if u, err := url.Parse(e.URL); err == nil {
				add(u.Host)
			}
		}
	}
	sum, at, _ := strings.Cut(values["GOSUMDB"], " ")
	sum, _, _ = strings.Cut(sum, "+")
	if add(sum); at != "" {
		if u, err := url.Parse(at); err == nil {
			add(u.Host)
		}
	}
	for k, v := range values {
		if slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY"}, strings.ToUpper(k)) {
			if u, err := url.Parse(v); err == nil {
				add(u.Host)
			}
		}
	}
	mod, err := os.ReadFile(filepath.Join(l.project, "go.mod"))
	l.Must(err)
	if f, err := modfile.ParseLax("go.mod", mod, nil); err == nil {
		for _, r := range f.Require {
			if module.MatchPrefixPatterns(cmp.Or(values["GONOPROXY"], values["GOPRIVATE"]), r.Mod.Path) {
				host, _, _ := strings.Cut(r.Mod.Path, "/")
				add(host)
			}
		}
	}
	for _, h := range l.leads {
		add(h)
	}
	// Whoever looks a name up here asks for it in these domains, too.
	search := strings.Fields(values["LOCALDOMAIN"])
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	for line := range strings.Lines(string(resolv)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "search" {
			search = append(search, f[1:]...)
		}
	}
	for _, name := range slices.Clone(names) {
		for _, domain := range search {
			add(name + "." + domain)
		}
	}
	hosts, _ := os.ReadFile("/etc/hosts")
	for line := range strings.Lines(string(hosts)) {
		if f := strings.Fields(line); len(f) > 1 && slices.ContainsFunc(f[1:], func(h string) bool { return slices.Contains(names, h) }) {
			addrs = append(addrs, f[0])
		}
	}
	for line := range strings.Lines(string(resolv)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			addrs = append(addrs, net.ParseIP(f[1]).String())
		}
	}
	return names, addrs
}

// cacheMatters reports whether the client's module cache has something in it, so that
// it is part of the situation.
func (l *lab) cacheMatters() bool {
	cache := l.env["GOMODCACHE"]
	if cache == "" {
		cache = filepath.Join(l.home, "go/pkg/mod")
	}
	_, err := os.Stat(cache)
	return err == nil
}

// keep remembers files of the project; undo puts them back as they were.
func (l *lab) keep(names ...string) (undo func()) {
	was := map[string][]byte{}
	for _, name := range names {
		if data, err := os.ReadFile(filepath.Join(l.project, name)); err == nil {
			was[name] = data
		}
	}
	return func() {
		for _, name := range names {
			if data, ok := was[name]; ok {
				l.in(name, string(data))
			} else {
				os.Remove(filepath.Join(l.project, name))
			}
		}
	}
}
