//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/modtest"
)

// What sluice doctor says of a private module is what the go command then meets.
func TestDoctorKnowsWhetherTheGoCommandGetsPrivateModules(t *testing.T) {
	modtest.GitNeed(t, "go", "git")
	for name, tt := range map[string]struct {
		netrc  string // password in it; "" is no file
		auth   bool
		kept   bool // with all the files that a well-kept project has
		doctor string
	}{
		"open to all":              {doctor: "impaired SL-ENV-005"}, // which is that of GOSUMDB=off below
		"a well-kept project":      {netrc: "s3cret", auth: true, kept: true, doctor: "impaired SL-ENV-005"},
		"a login":                  {netrc: "s3cret", auth: true, doctor: "impaired SL-ENV-005"},
		"no login":                 {auth: true, doctor: "broken SL-VCS-003"},
		"a login that was changed": {netrc: "0ld", auth: true, doctor: "broken SL-VCS-004"},
	} {
		t.Run(name, func(t *testing.T) {
			g := modtest.GitServer(t)
			r := g.Repo(modtest.GitHost + "/team/lib")
			r.Commit("main", map[string]string{"go.mod": "module " + r.Root + "\n", "lib.go": "package lib\n"})
			r.Tag("v1.0.0", "main")
			if tt.auth {
				g.RequireAuth("joe", "s3cret")
			}
			home := t.TempDir()
			dir := filepath.Join(home, "app")
			files := map[string]string{"app/go.mod": "module app.test\n\ngo 1.24\n\nrequire " + r.Root + " v1.0.0\n", "tree/x": "", ".config/go/telemetry/mode": "off"} // a go command that may upload outlives the test
			if tt.kept {
				files["app/go.work"] = "go 1.24\n\nuse .\n"
				files["app/vendor/modules.txt"] = "## workspace\n# " + r.Root + " v1.0.0\n## explicit\n"
				files["app/Dockerfile"] = "FROM golang:1.24-alpine AS build\nRUN apk add --no-cache git\nENV GOPRIVATE=" + modtest.GitHost + "\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\nRUN go build -o /app .\nFROM scratch\nCOPY --from=build /app /app\n"
				files["app/.dockerignore"] = "**\n!go.*\n!**/*.go\n"
				files["app/.git/HEAD"] = "ref: refs/heads/main\n"
				files["app/.github/workflows/ci.yml"] = "env:\n  GOPRIVATE: " + modtest.GitHost + "\njobs:\n  test:\n    steps:\n      - uses: actions/setup-go@v5\n        with:\n          go-version-file: go.mod\n      - run: go test ./...\n"
				files["app/.gitlab-ci.yml"] = "image: golang:1.24\nvariables:\n  GOPRIVATE: " + modtest.GitHost + "\n"
			}
			if tt.netrc != "" {
				files[".netrc"] = "machine " + modtest.GitHost + " login joe password " + tt.netrc + "\n"
			}
			for name, text := range files {
				name = filepath.Join(home, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			env := append(g.Environ(), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1", "GOPATH="+filepath.Join(home, "go"), "GOCACHE="+filepath.Join(home, "cache"), "GOENV=off", "GOTOOLCHAIN=local",
				"GOFLAGS=-modcacherw", "GOPROXY=file://"+filepath.Join(home, "tree"), "GOPRIVATE="+modtest.GitHost, "GOSUMDB=off")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, "doctor", "--json")
			cmd.Env, cmd.Dir = env, dir
			out, err := cmd.Output()
			var report struct {
				Verdict  string
				Findings []struct{ Code string }
			}
			if jerr := json.Unmarshal(out, &report); jerr != nil {
				t.Fatalf("doctor: %v, %v: %s", err, jerr, out)
			}
			said := report.Verdict
			if len(report.Findings) > 0 {
				said += " " + report.Findings[0].Code
			}
			if said != tt.doctor || len(report.Findings) > 2 || strings.HasPrefix(said, "impaired") && len(report.Findings) > 1 || strings.Contains(string(out), "s3cret") || strings.Contains(string(out), "0ld") {
				t.Errorf("doctor says %s, want %s, in\n%s", said, tt.doctor, out)
			}
			if others := g.Refused(); len(others) > 0 {
				t.Errorf("other hosts were asked: %q", others)
			}
			cmd = exec.CommandContext(ctx, "go", "mod", "download")
			cmd.Env, cmd.Dir = env, dir
			if out, err := cmd.CombinedOutput(); (err == nil) != strings.HasPrefix(tt.doctor, "impaired") {
				t.Errorf("the go command: %v\n%s", err, out)
			}
		})
	}
}
