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
)

// fewFaults are the cells of the fault matrix that every run of the tests looks
// at: one of each way in which a chain goes on, stops, or is not needed.
const fewFaults = `^(refused|cut|wrong-bytes)/first/pipe$|^503/two/comma-proxies$|^(401|tls-unknown-ca)/first/comma-proxies$|` +
	`^404-page/first/comma$|^(refused|html)/first/comma$|^(hang|drip)/all/pipe$|^410/all/comma$`

// What builds cost is judged where nobody else uses the machine: go run
// ./tools/faultmatrix, whose table is docs/faults.md.
func TestBuildsPassSourcesThatFailAsTheirChainSays(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "faultmatrix")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", tool, "github.com/modsluice/sluice/tools/faultmatrix").CombinedOutput()
	if err != nil {
		t.Fatalf("building the fault matrix: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, tool, "-sluice", program, "-run", fewFaults, "-json", "-times=false", "-alone=false", "-limit", patience.String())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it started
	cmd.WaitDelay = patience
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err = cmd.Output()
	if ee, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || ee.ExitCode() != 1) {
		t.Fatalf("the fault matrix: %v\n%s", err, said.String())
	}
	var rep struct {
		Cells []struct {
			Fault, Position, Chain, Skipped string
			Misses                          []string
		}
	}
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Cells) != 12 {
		t.Errorf("%d cells, want 12", len(rep.Cells))
	}
	for _, c := range rep.Cells {
		if c.Skipped != "" {
			t.Errorf("%s/%s/%s: %s", c.Fault, c.Position, c.Chain, c.Skipped)
		}
		for _, miss := range c.Misses {
			t.Errorf("%s/%s/%s: %s", c.Fault, c.Position, c.Chain, miss)
		}
	}
}
