package doctor

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

// The go command itself is the judge: where it stops, doctor says so, and not where it
// goes on.
func TestSettingsAtWhichTheGoCommandStopsAreNamed(t *testing.T) {
	for setting, stops := range map[string]bool{
		"GOFLAGS=mod=mod":            true,
		"GOFLAGS=-mod=mod":           false,
		"GOFLAGS=-mod=mod x":         true,
		"GOFLAGS=---x":               true,
		"GOFLAGS=-":                  true,
		"GOFLAGS=-=x":                true,
		"GOFLAGS=--modcacherw":       false,
		`GOFLAGS='-ldflags=-s -w'`:   false,
		"GOTOOLCHAIN=foo":            true,
		"GOTOOLCHAIN=1.22":           true,
		"GOTOOLCHAIN=local":          false,
		"GOTOOLCHAIN=path":           false,
		"GOTOOLCHAIN=local+auto":     false,
		"GOTOOLCHAIN=go1.21.0+never": true,
		"GO111MODULE=off":            true,
		"GO111MODULE=yes":            true,
		"GO111MODULE=auto":           false,
		"GO111MODULE=":               false,
	} {
		name, _, _ := strings.Cut(setting, "=")
		s, dir := onDisk(t, "-- app/go.mod --\nmodule example.com/app\n\ngo 1.20\n", setting)
		out := s.stoppers()
		if (out.State == Fail) != stops {
			t.Errorf("%s: %s %s", setting, out.State, out.Text)
		}
		if stops && (out.Finding.Code != finding.GoEnvMalformed || len(out.Finding.Fix) != 1 || out.Finding.Fix[0] != "unset "+name || !strings.Contains(out.Text, name+" is ")) {
			t.Errorf("%s: %+v", setting, out.Finding)
		}
		cmd := exec.CommandContext(context.Background(), "go", "mod", "download")
		cmd.Dir, cmd.Env = dir+"/app", modtest.GoEnv(t, "off", "off", "GOTOOLCHAIN=local", "GOFLAGS=", setting)
		if said, err := cmd.CombinedOutput(); (err != nil) != stops {
			t.Errorf("%s: the go command says %v %s", setting, err, said)
		}
	}
}
