package modtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Alone is a command that runs in network, mount and process namespaces of its own,
// which needs root: what it does to addresses, routes, packet filters and mounts
// ends with it, as do all processes that it left.
func Alone(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "unshare", append([]string{"--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "--"}, argv...)...)
}

// startServer is how long a server may take to listen.
const startServer = time.Minute

// A Network is all that can be reached within namespaces of one's own: names, given
// by a real dnsmasq, addresses of this machine, packet filters and routes. Names are
// known below test, example, com, org, net and internal; a question for any other
// top-level domain is refused.
type Network struct {
	Queries string // the file that dnsmasq writes its log into
	Options string // of resolv.conf, from the next Resolvers on
	Search  string // domains that resolv.conf has searched, likewise; "" is none

	t      testing.TB
	dir    string
	args   []string // more of dnsmasq's
	at     string   // of the first name server
	dns    []*exec.Cmd
	resolv string

	mu    sync.Mutex // guards names
	names map[string][]string
}

// NewNetwork makes the network of the namespaces that Alone made: the loopback
// interface, and a name server at the address resolver, which is the system's. The
// name server gets the arguments of dnsmasq, too.
func NewNetwork(t testing.TB, resolver string, args ...string) *Network {
	t.Helper()
	n := &Network{Options: "timeout:1 attempts:1", args: args, t: t, dir: t.TempDir(), names: map[string][]string{}}
	n.Queries, n.resolv = filepath.Join(n.dir, "queries"), filepath.Join(n.dir, "resolv.conf")
	n.Resolvers(resolver)
	n.write("hosts", "127.0.0.1 localhost\n::1 localhost\n")
	n.write("names", "")
	n.Sh("mount --make-rprivate / && mount --bind " + n.resolv + " /etc/resolv.conf && mount --bind " + filepath.Join(n.dir, "hosts") + " /etc/hosts")
	n.Sh("ip link set lo up")
	n.Sh("nft 'add table inet net; add chain inet net in { type filter hook input priority 0; }; add chain inet net out { type filter hook output priority 0; }'")
	n.Address(resolver)
	n.at = resolver
	n.serveNames(resolver)
	return n
}

// serveNames starts a name server at an address.
func (n *Network) serveNames(addr string) {
	n.t.Helper()
	n.dns = append(n.dns, n.Start(net.JoinHostPort(addr, "53"), "dnsmasq", append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--addn-hosts=" + filepath.Join(n.dir, "names"),
		"--listen-address=" + addr, "--bind-interfaces", "--user=root", "--pid-file=", "--log-queries", "--log-facility=" + n.Queries,
		"--local=/test/", "--local=/example/", "--local=/com/", "--local=/org/", "--local=/net/", "--local=/internal/"}, n.args...)...))
}

func (n *Network) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// Sh runs a shell's command, which must succeed.
func (n *Network) Sh(command string) {
	n.t.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// Resolvers makes these addresses the system's resolvers; none at all if there is
// none.
func (n *Network) Resolvers(addrs ...string) {
	n.t.Helper()
	text := ""
	for _, a := range addrs {
		text += "nameserver " + a + "\n"
	}
	if n.Search != "" {
		text += "search " + n.Search + "\n"
	}
	n.write("resolv.conf", text+"options "+n.Options+"\n")
}

// Hosts adds lines to /etc/hosts; "" takes all away that were added.
func (n *Network) Hosts(lines string) {
	n.t.Helper()
	n.write("hosts", "127.0.0.1 localhost\n::1 localhost\n"+lines)
}

// Address gives the machine addresses.
func (n *Network) Address(addrs ...string) {
	n.t.Helper()
	for _, a := range addrs {
		ip := net.ParseIP(a)
		switch {
		case ip.IsLoopback():
		case ip.To4() != nil:
			n.Sh("ip addr replace " + a + "/32 dev lo")
		default:
			n.Sh("ip -6 addr replace " + a + "/128 dev lo nodad")
		}
	}
}

// Name makes a name lead to addresses, and to none of those of before; to nothing if
// there are none. The machine does not get them: think of Address.
func (n *Network) Name(name string, addrs ...string) {
	n.t.Helper()
	n.mu.Lock()
	n.names[name] = addrs
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		for _, a := range n.names[name] {
			fmt.Fprintf(&text, "%s %s\n", a, name)
		}
	}
	n.mu.Unlock()
	n.write("names", text.String())
	for _, d := range n.dns {
		if err := d.Process.Signal(syscall.SIGHUP); err != nil {
			n.t.Fatal(err)
		}
	}
	n.settle(name, addrs)
}

// Also makes the name server listen at another address of the machine's.
func (n *Network) Also(addr string) {
	n.t.Helper()
	n.Address(addr)
	n.serveNames(addr)
}

// settle waits until the name server has read the names.
func (n *Network) settle(name string, addrs []string) {
	n.t.Helper()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(n.at, "53"))
	}}
	for end := time.Now().Add(startServer); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(n.t.Context(), time.Second)
		got, _ := r.LookupHost(ctx, name+".")
		cancel()
		if want := slices.Sorted(slices.Values(addrs)); slices.Equal(slices.Sorted(slices.Values(got)), want) {
			return
		}
		if time.Now().After(end) {
			n.t.Fatalf("the name server gives %v for %s, not %v", got, name, addrs)
		}
	}
}

// Addresses are those that a name leads to.
func (n *Network) Addresses(name string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.names[name])
}

// Filter adds a rule of nft to what comes in, "ip daddr 192.0.2.1 drop"; Open takes
// all of them away.
func (n *Network) Filter(rule string) { n.t.Helper(); n.Sh("nft 'add rule inet net in " + rule + "'") }
func (n *Network) Open()              { n.t.Helper(); n.Sh("nft flush chain inet net in") }

// Start runs a server until the test ends, and waits until it listens at addr.
func (n *Network) Start(addr, name string, args ...string) *exec.Cmd {
	n.t.Helper()
	cmd := exec.Command(name, args...)
	said, err := os.Create(filepath.Join(n.t.TempDir(), "said"))
	if err != nil {
		n.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = append(os.Environ(), "HOME="+n.t.TempDir())
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	end := make(chan struct{})
	go func() { defer close(end); cmd.Wait() }()
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		<-end
		said.Close()
	})
	told := func() []byte { text, _ := os.ReadFile(said.Name()); return bytes.TrimSpace(text) }
	timeout := time.After(startServer)
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return cmd
		}
		select {
		case <-end:
			n.t.Fatalf("%s ended before it listened at %s:\n%s", name, addr, told())
		case <-timeout:
			n.t.Fatalf("%s does not listen at %s:\n%s", name, addr, told())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Listen gives the machine an address and serves h there until the test ends, with
// TLS if there is a certificate. It returns what ends it earlier.
func (n *Network) Listen(addr string, cert *tls.Certificate, h http.Handler) (stop func()) {
	n.t.Helper()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Address(host)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		n.t.Fatal(err)
	}
	if cert != nil {
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(ln) }()
	stop = sync.OnceFunc(func() { srv.Close(); <-served })
	n.t.Cleanup(stop)
	return stop
}
