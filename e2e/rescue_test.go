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

// fewEmergencies are those that every run of the tests rehearses: one of a source that
// fails, one of the machine, one of the settings, and one in which nothing can help.
const fewEmergencies = `^(storm|damaged-cache|dead-bundle|private-as-url|clock)$`

// From each emergency a real go mod download works again, or it is said why nothing
// helps; and settings are as they were, to the byte, once they are taken back. All
// emergencies, with their times: go run ./tools/laboratory -rescue, whose table is
// docs/rescue-drill.md.
func TestRescueGetsBuildsGoingAndLeavesSettingsAsTheyWere(t *testing.T) {
	need(t, "unshare", "ip", "nft", "dnsmasq", "nginx", "mitmdump", "git")
	modtest.Need(t, "root, for network namespaces", os.Geteuid() == 0)
	tool := filepath.Join(t.TempDir(), "laboratory")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", tool, "github.com/modsluice/sluice/tools/laboratory").CombinedOutput(); err != nil {
		t.Fatalf("building the laboratory: %v\n%s", err, out)
	}
	args := []string{"-rescue", "-rounds", "1", "-sluice", program, "-json"}
	if !full() {
		args = append(args, "-run", fewEmergencies)
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
	if len(rep.Results) < 5 {
		t.Errorf("%d emergencies, want 5 at least", len(rep.Results))
	}
	for _, r := range rep.Results {
		for _, miss := range r.Misses {
			t.Errorf("%s: %s", r.Name, miss)
		}
	}
}
