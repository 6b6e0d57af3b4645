//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/modtest"
)

// inNamespace is set for the test binary that runs in a network and mount
// namespace of its own.
const inNamespace = "SLUICE_E2E_NAMESPACE"

// The network of that namespace: addresses with a server, one without, one whose
// packets are dropped, one without a route.
const (
	liveAddr    = "10.83.0.1"
	liarAddr    = "10.83.0.2" // a web server that is no module proxy
	closedAddr  = "10.83.0.3"
	droppedAddr = "10.83.0.4"
	nowhereAddr = "10.83.1.1"
	dropped6    = "2001:db8:83::4"
)

func TestFaultsOfRealNetworks(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		need(t, "unshare", "ip", "nft", "dnsmasq", "mitmdump")
		modtest.Need(t, "root, for network namespaces", os.Geteuid() == 0)
		ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
		defer cancel()
		cmd := modtest.Alone(ctx, os.Args[0], "-test.run", "^TestFaultsOfRealNetworks$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"="+program)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	n := modtest.NewNetwork(t, "127.0.0.1", "--address=/wild.test/"+closedAddr)
	n.Address(liveAddr, liarAddr, closedAddr, droppedAddr, dropped6)
	n.Sh("ip route add unreachable " + nowhereAddr + "/32")
	n.Filter("ip daddr " + droppedAddr + " drop")
	n.Filter("ip6 daddr " + dropped6 + " drop")
	for name, addrs := range map[string][]string{
		"live": {liveAddr}, "lie": {liarAddr}, "closed": {closedAddr}, "dropped": {droppedAddr}, "nowhere": {nowhereAddr}, "six": {dropped6}, "both": {liveAddr, dropped6},
	} {
		n.Name(name+".test", addrs...)
	}
	w := modtest.New(t)
	module := w.Add("net.test/m", "v1.0.0", nil)
	db := w.SumDB("127.0.0.1")
	n.Listen(liveAddr+":80", nil, w.Handler())
	n.Listen("127.0.0.1:80", nil, w.Handler())
	n.Listen(liarAddr+":80", nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<!DOCTYPE html><html><body>Please log in to the network.</body></html>")
	}))
	gosumdb := "SLUICE_GOSUMDB=" + db.GOSUMDB(modtest.Serve(t, db).URL)
	ca := inspector(t, n)

	const good = "http://127.0.0.1"
	c := client(t)
	for _, tt := range []struct {
		name string
		bad  string // the source in trouble
		dns  string // line of resolv.conf; "" means dnsmasq
		args []string
		code string // of the answer if it is alone; "" if all is well then
		// doctor is the verdict and first finding of sluice doctor; "" if it is code.
		doctor string
	}{
		{name: "the name does not exist", bad: "http://nosuch.test", code: "SL-DNS-001"},
		{name: "the resolver refuses", bad: "http://a.elsewhere.invalid", code: "SL-DNS-001"},
		{name: "the resolver is silent", bad: "http://live.test", dns: droppedAddr, code: "SL-DNS-001", doctor: "broken SL-DNS-004"},
		{name: "the resolver is not there", bad: "http://live.test", dns: closedAddr, code: "SL-DNS-001", doctor: "broken SL-DNS-004"},
		{name: "the first name server is silent", bad: "http://live.test", dns: droppedAddr + "\nnameserver 127.0.0.1", doctor: "impaired SL-DNS-004"},
		{name: "the second name server is silent", bad: "http://live.test", dns: "127.0.0.1\nnameserver " + droppedAddr},
		{name: "a search domain has every name", bad: "http://live.test", dns: "127.0.0.1\nsearch wild.test\noptions ndots:9", code: "SL-NET-002", doctor: "broken SL-DNS-007"},
		{name: "search domains that have no name", bad: "http://live.test", dns: "127.0.0.1\nsearch a.test b.test\noptions ndots:9"},
		{name: "the resolver lies", bad: "http://lie.test", code: "SL-SRC-007"},
		{name: "nobody listens", bad: "http://closed.test", code: "SL-NET-002"},
		{name: "packets are dropped", bad: "http://dropped.test", code: "SL-NET-001"},
		{name: "no route", bad: "http://nowhere.test", code: "SL-NET-005"},
		{name: "IPv6 is announced and dead", bad: "http://both.test", doctor: "impaired SL-NET-006"},
		{name: "IPv6 alone, and dead", bad: "http://six.test", code: "SL-NET-001"},
		{name: "TLS is inspected", bad: "https://live.test", code: "SL-TLS-001"},
		{name: "TLS is inspected by an authority that is known", bad: "https://live.test", args: []string{"ca_file", ca}},
		{name: "the forward proxy wants a login", bad: "http://live.test", args: []string{"proxy", "http://127.0.0.1:8081"}, code: "SL-FWD-001"},
		{name: "the forward proxy is let in", bad: "http://live.test", args: []string{"proxy", "http://user:secret@127.0.0.1:8081"}},
		{name: "the forward proxy is not there", bad: "http://live.test", args: []string{"proxy", "http://127.0.0.1:9"}, code: "SL-FWD-002"},
		{name: "an own resolver where the system's is silent", bad: "http://live.test", dns: droppedAddr, args: []string{"resolver", "udp://127.0.0.1:53"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n.Resolvers(cmp.Or(tt.dns, "127.0.0.1"))
			config := filepath.Join(t.TempDir(), "sluice.toml")
			text := ""
			if len(tt.args) > 0 {
				text = fmt.Sprintf("[[source]]\nurl = %q\n%s = %q\n", tt.bad, tt.args[0], tt.args[1])
			}
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			ask := func(proxy string) (int, string) {
				s := serve(t, environ(t, gosumdb), filepath.Join(t.TempDir(), "store"), "--config", config, "--proxy", proxy, "--sources-timeout", "4s", "--sources-connect", "2s", "--sources-retries", "0")
				defer s.stop(t)
				resp, err := c.Get(s.URL + "/" + module.Path + "/@v/" + module.Version + ".zip")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode == 200 {
					if string(body) != string(w.Zip(module)) {
						t.Errorf("wrong bytes")
					}
					return 200, ""
				}
				return resp.StatusCode, string(body)
			}
			switch status, body := ask(tt.bad); {
			case tt.code == "" && status != 200:
				t.Errorf("alone: %d %s", status, body)
			case tt.code != "" && (status == 200 || status == 404 || status == 410 || !strings.Contains(body, tt.code)):
				t.Errorf("alone: %d, want %s in\n%s", status, tt.code, body)
			}
			if status, body := ask(tt.bad + "|" + good); status != 200 {
				t.Errorf("with another source: %d %s", status, body)
			}
			want := tt.doctor
			switch {
			case want == "" && tt.code == "":
				want = "well"
			case want == "":
				want = "broken " + tt.code
			}
			if got, report := examine(t, environ(t, gosumdb), "--config", config, "--proxy", tt.bad); got != want {
				t.Errorf("doctor says %s, want %s, in\n%s", got, want, report)
			}
		})
	}
}

// examine is the verdict and the first finding of sluice doctor, in a module that
// requires the one that is served.
func examine(t *testing.T, env []string, args ...string) (said, report string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module app.test\n\nrequire net.test/m v1.0.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"doctor", "--json"}, args...)...)
	cmd.Env, cmd.Dir = env, dir
	out, err := cmd.Output()
	var r struct {
		Verdict  string
		Findings []struct{ Code string }
		Rows     []struct{ ID, State string }
	}
	if jerr := json.Unmarshal(out, &r); jerr != nil {
		t.Fatalf("doctor: %v, %v: %s", err, jerr, out)
	}
	for _, row := range r.Rows {
		if row.State == "incomplete" {
			t.Errorf("doctor did not come to the end of %s in its time", row.ID)
		}
	}
	if said = r.Verdict; len(r.Findings) > 0 {
		said += " " + r.Findings[0].Code
	}
	return said, string(out)
}

// inspector puts a company's TLS inspection before the live server, at its HTTPS
// port, and a forward proxy that wants a login at port 8081. It returns the file
// of the authority that signs.
func inspector(t *testing.T, n *modtest.Network) (ca string) {
	dir := t.TempDir()
	n.Start(liveAddr+":443", "mitmdump", "--quiet", "--set", "confdir="+dir, "--mode", "reverse:http://"+liveAddr+":80", "--listen-host", liveAddr, "--listen-port", "443")
	n.Start("127.0.0.1:8081", "mitmdump", "--quiet", "--set", "confdir="+dir, "--mode", "regular", "--proxyauth", "user:secret", "--listen-host", "127.0.0.1", "--listen-port", "8081")
	return filepath.Join(dir, "mitmproxy-ca-cert.pem")
}
