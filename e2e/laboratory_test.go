//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/modtest"
)

// fewScenarios are those of the laboratory that every run of the tests looks at: one of
// each kind of part, and none that waits for what never answers.
const fewScenarios = `^a1-dropped-in-environment$|^a2-(refused|no-route)|^a3-(no-such|not-there|search|system|denied)|^a4-(hosts|somebody)|^a5-|^a6-(private|no-|old|other)|^a7-|^a8-(name|large)|^a9-portal|` +
	`^a10-(login|no-proxy|refused|malformed|exception|two)|^a11-|^a12-|^a13-(throttled|bad)|^a14-|^a15-|^a16-(private|database-down)|^a17-|^a19-|^a20-|^a21-|^b|^m-|^d-(login|mal|replace)|^f6-|^h-`

// laboratory builds the laboratory, and runs it over a program. It fails the test unless
// the laboratory came to its end.
func laboratory(t *testing.T, args ...string) (results []judged) {
	t.Helper()
	need(t, "unshare", "ip", "nft", "dnsmasq", "nginx", "squid", "mitmdump", "sshd", "git", "curl", "openssl", "update-ca-certificates")
	modtest.Need(t, "root, for network namespaces", os.Geteuid() == 0)
	tool := filepath.Join(t.TempDir(), "laboratory")
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", tool, "github.com/modsluice/sluice/tools/laboratory").CombinedOutput(); err != nil {
		t.Fatalf("building the laboratory: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, tool, append([]string{"-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it started
	cmd.WaitDelay = patience
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if ee, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || ee.ExitCode() != 1) {
		t.Fatalf("the laboratory: %v\n%s", err, said.String())
	}
	var rep struct{ Results []judged }
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatal(err)
	}
	return rep.Results
}

// A judged scenario. How long doctor took is the laboratory's own business.
type judged struct {
	Name   string
	Misses []string
}

// What doctor says of broken networks, settings and machines mends them. All scenarios:
// go run ./tools/laboratory, whose table is docs/laboratory.md.
func TestWhatDoctorSaysIsWhatIsWrongAndMendsIt(t *testing.T) {
	args := []string{"-sluice", program}
	if !full() {
		args = append(args, "-run", fewScenarios)
	}
	results := laboratory(t, args...)
	if len(results) < 50 {
		t.Errorf("%d scenarios, want 50 at least", len(results))
	}
	for _, r := range results {
		for _, miss := range r.Misses {
			t.Errorf("%s: %s", r.Name, miss)
		}
	}
}

func TestTheLaboratorySeesADoctorThatContactsWhomNobodyNamed(t *testing.T) {
	gossip := filepath.Join(t.TempDir(), "sluice")
	script := "#!/bin/sh\n[ \"$1\" != doctor ] || { curl -s -m 1 http://192.0.2.77/ >/dev/null; getent hosts stranger.example.net >/dev/null; }\nexec '" + program + "' \"$@\"\n"
	if err := os.WriteFile(gossip, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, r := range laboratory(t, "-sluice", gossip, "-run", "^h-plain$") {
		for _, stranger := range []string{"192.0.2.77:80", "stranger.example.net"} {
			if !slices.ContainsFunc(r.Misses, func(m string) bool { return strings.Contains(m, "no setting names") && strings.Contains(m, stranger) }) {
				t.Errorf("%s: that doctor contacted %s is not among %q", r.Name, stranger, r.Misses)
			}
		}
	}
}
