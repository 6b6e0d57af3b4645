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
	"testing"

	"github.com/modsluice/sluice/internal/modtest"
)

// fewScenarios are those of the laboratory that every run of the tests looks at: one of
// each kind of part, and none that waits for what never answers.
const fewScenarios = `^a1-dropped-in-environment$|^a2-(refused|no-route)|^a3-(no-such|not-there)|^a4-(hosts|somebody)|^a5-|^a6-(private|no-bundle)|^a7-|^a8-(name|large)|^a9-portal|` +
	`^a10-(login|no-proxy|refused|malformed)|^a11-|^a12-|^a13-(throttled|bad)|^a14-|^a15-|^a16-(private|database-down)|^a17-|^a19-|^a20-|^a21-|^b|^m-|^d-(login|mal|replace)|^f6-|^h-`

// What doctor says of broken networks, settings and machines mends them. All scenarios:
// go run ./tools/laboratory, whose table is docs/laboratory.md.
func TestWhatDoctorSaysIsWhatIsWrongAndMendsIt(t *testing.T) {
	need(t, "unshare", "ip", "nft", "dnsmasq", "nginx", "squid", "mitmdump", "sshd", "git", "curl", "openssl", "update-ca-certificates")
	modtest.Need(t, "root, for network namespaces", os.Geteuid() == 0)
	dir := t.TempDir()
	tool := filepath.Join(dir, "laboratory")
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", tool, "github.com/modsluice/sluice/tools/laboratory").CombinedOutput(); err != nil {
		t.Fatalf("building the laboratory: %v\n%s", err, out)
	}
	args := []string{"-sluice", program, "-json"}
	if !full() {
		args = append(args, "-run", fewScenarios)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it started
	cmd.WaitDelay = patience
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if ee, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || ee.ExitCode() != 1) {
		t.Fatalf("the laboratory: %v\n%s", err, said.String())
	}
	var rep struct {
		Results []struct {
			Name   string
			Misses []string
		}
	}
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Results) < 50 {
		t.Errorf("%d scenarios, want 50 at least", len(rep.Results))
	}
	for _, r := range rep.Results {
		for _, miss := range r.Misses {
			t.Errorf("%s: %s", r.Name, miss)
		}
	}
}
