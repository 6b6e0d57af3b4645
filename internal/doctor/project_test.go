package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

// onDisk writes an archive into a new directory, and gives a subject whose project is
// app/go.mod there. $DIR in a text is the directory.
func onDisk(t *testing.T, archive string, environ ...string) (*Subject, string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(f.Data), "$DIR", filepath.ToSlash(dir))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	environ = append([]string{"HOME=" + dir, "USERPROFILE=" + dir, "GOMODCACHE=" + filepath.Join(dir, "mod")}, environ...)
	settings := goenv.Load(environ, nil, "", "")
	s := &Subject{
		Settings: settings, Getenv: func(string) string { return "" }, Place: finding.Terminal, HasGo: true, HasGit: true, Project: filepath.Join(dir, "app", "go.mod"),
		GoVersion: func(context.Context) (string, error) { return "go1.26.8", nil }, Notes: &Notebook{}, NoProxy: goenv.Patterns(settings.Get("GONOPROXY").Value),
	}
	return s, dir
}

// ofProject makes the checks of the project's files, and says what they found: the
// states that are neither ok nor n/a, with their codes.
func ofProject(t *testing.T, s *Subject) (string, Report) {
	t.Helper()
	checks := append([]Check{{ID: "machine.go", Group: "Machine", Run: func(ctx context.Context, _ Seen) Outcome { return s.goCommand(ctx) }}}, s.projectChecks()...)
	r := Run(t.Context(), "", checks, time.Minute)
	var all []string
	for _, row := range r.Rows {
		if row.State != OK && row.State != NA {
			all = append(all, fmt.Sprintf("%s %s %s", row.ID, row.State, row.Code))
		}
	}
	return strings.Join(all, ", "), r
}

// hello is a module that requires two others, one of them of one's own.
const hello = "-- app/go.mod --\nmodule example.com/app\n\ngo 1.24\n\nrequire (\n\texample.com/lib v1.2.0\n\tgit.corp.example/team/tool v1.0.0\n)\n-- app/go.sum --\nexample.com/lib v1.2.0 h1:x\n"

func TestWhatIsWrongWithAProjectIsFound(t *testing.T) {
	for _, tt := range []struct {
		name, files string
		env         []string
		want        string // "" is nothing
		text        string // in what was seen
		fix         string // one of the commands of the first finding
	}{
		{"nothing", hello, nil, "", "", ""},

		{"a directory in the place of a module", hello + "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => ../lib\n-- lib/go.mod --\nmodule example.com/lib\n", nil, "", "", ""},
		{"one that is not there", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => ../lib\n", nil,
			"project.replace fail SL-MOD-005", "example.com/lib is replaced by ../lib, which is not there", "go mod edit -dropreplace=example.com/lib"},
		{"one without a go.mod", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib v1.2.0 => ../lib\n-- lib/x.go --\npackage lib\n", nil,
			"project.replace fail SL-MOD-005", "which has no go.mod", "go mod edit -dropreplace=example.com/lib@v1.2.0"},
		{"one of somebody else's machine", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => /home/gopher/lib\n", nil,
			"project.replace fail SL-MOD-005", "an absolute path, which is on another machine", ""},
		{"one that nothing needs", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nreplace example.com/lib => ../lib\n", nil, "", "", ""},
		{"one that a fork replaces", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => example.com/fork v1.2.1\n", nil, "", "", ""},
		{"a version that only another's replace makes work", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire (\n\texample.com/lib v1.2.0\n\texample.com/part v0.0.0\n)\n" +
			"-- mod/cache/download/example.com/lib/@v/v1.2.0.mod --\nmodule example.com/lib\nrequire example.com/part v0.0.0\nreplace example.com/part => ./part\n", nil,
			"project.replace fail SL-MOD-007", "example.com/lib@v1.2.0 requires example.com/part at v0.0.0", "go get example.com/part@latest"},
		{"one that is replaced here too", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire (\n\texample.com/lib v1.2.0\n\texample.com/part v0.0.0\n)\nreplace example.com/part => example.com/part v1.0.0\n" +
			"-- mod/cache/download/example.com/lib/@v/v1.2.0.mod --\nmodule example.com/lib\nrequire example.com/part v0.0.0\nreplace example.com/part => ./part\n", nil, "", "", ""},

		{"a workspace", hello + "-- go.work --\ngo 1.24\nuse (\n\t./app\n\t./lib\n)\n-- lib/go.mod --\nmodule example.com/lib\ngo 1.23\n", nil, "", "", ""},
		{"one that brings what a replace lacks", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => ../nowhere\n-- go.work --\ngo 1.24\nuse (\n\t./app\n\t./lib\n)\n-- lib/go.mod --\nmodule example.com/lib\ngo 1.23\n", nil, "", "", ""},
		{"one that does not use this module", hello + "-- go.work --\ngo 1.24\nuse ./lib\n-- lib/go.mod --\nmodule example.com/lib\n", nil, "project.work fail SL-MOD-006", "is in force here, and does not use", "go work use ."},
		{"which is switched off", hello + "-- go.work --\ngo 1.24\nuse ./lib\n", []string{"GOWORK=off"}, "", "", ""},
		{"a directory that is gone", hello + "-- go.work --\ngo 1.24\nuse (\n\t./app\n\t./lib\n)\n", nil, "project.work fail SL-MOD-008", "uses ./lib, where there is no go.mod", "go work edit -dropuse=./lib"},
		{"an older Go than its module", hello + "-- go.work --\ngo 1.22\nuse ./app\n", nil, "project.work fail SL-MOD-008", "requires go 1.24, and ", "go work use"},
		{"no Go at all", hello + "-- go.work --\nuse ./app\n", nil, "project.work fail SL-MOD-008", "stands for go 1.18", ""},
		{"twice the same", hello + "-- go.work --\ngo 1.24\nuse (\n\t./app\n\t./lib/../app\n)\n", nil, "project.work fail SL-MOD-008", "twice", ""},
		{"-mod=mod", hello + "-- go.work --\ngo 1.24\nuse ./app\n", []string{"GOFLAGS=-mod=mod"}, "project.work fail SL-MOD-008", "GOFLAGS has -mod=mod", "export GOWORK=off"},
		{"replaced twice", hello + "-- go.work --\ngo 1.24\nuse (\n\t./a\n\t./app\n\t./b\n)\n-- a/go.mod --\nmodule example.com/a\nreplace example.com/x => example.com/y v1.0.0\n-- b/go.mod --\nmodule example.com/b\nreplace example.com/x => example.com/z v1.0.0\n", nil,
			"project.work fail SL-MOD-008", "example.com/x is replaced by example.com/y@v1.0.0 in one module", ""},
		{"and decided", hello + "-- go.work --\ngo 1.24\nuse (\n\t./a\n\t./app\n\t./b\n)\nreplace example.com/x => example.com/z v1.0.0\n-- a/go.mod --\nmodule example.com/a\nreplace example.com/x => example.com/y v1.0.0\n-- b/go.mod --\nmodule example.com/b\nreplace example.com/x => example.com/z v1.0.0\n", nil, "", "", ""},
		{"a go.work that is none", hello + "-- go.work --\n<<<<<<< HEAD\n", nil, "project.work fail SL-MOD-004", "go.work:1", ""},
		{"a go.work.sum that a merge left", hello + "-- go.work --\ngo 1.24\nuse ./app\n-- go.work.sum --\n<<<<<<< HEAD\n", nil, "project.work fail SL-MOD-004", "go.work.sum:1", ""},
		{"GOWORK that is no path", hello, []string{"GOWORK=go.work"}, "project.work fail SL-ENV-003", "no absolute path", "unset GOWORK"},
		{"GOWORK that is not there", hello, []string{"GOWORK=/nowhere/go.work"}, "project.work fail SL-MOD-008", "it is GOWORK", "unset GOWORK"},

		{"-mod=vendor without vendor", hello, []string{"GOFLAGS=-mod=vendor"}, "project.vendor fail SL-MOD-002", "GOFLAGS is -mod=vendor (environment)", "go mod vendor"},
		{"vendor that fits", hello + vendorOfHello, nil, "", "", ""},
		{"vendor that lacks a module", hello + "-- app/vendor/modules.txt --\n# example.com/lib v1.2.0\n## explicit\nexample.com/lib\n", nil,
			"project.vendor fail SL-MOD-002", "git.corp.example/team/tool@v1.0.0 is required in go.mod, and not marked as explicit", "go mod vendor"},
		{"vendor of another version", hello + strings.ReplaceAll(vendorOfHello, "lib v1.2.0", "lib v1.1.0"), nil, "project.vendor fail SL-MOD-002", "example.com/lib@v1.1.0 is marked as explicit", ""},
		{"vendor that is not used", hello + "-- app/vendor/x --\n", []string{"GOFLAGS=-mod=mod"}, "", "", ""},
		{"vendor of a workspace beside a module", hello + "-- app/vendor/modules.txt --\n## workspace\n", nil, "", "", ""},
		{"vendor of a workspace", hello + strings.ReplaceAll(vendorOfHello, "-- app/vendor/modules.txt --\n", "-- vendor/modules.txt --\n## workspace\n") + "-- go.work --\ngo 1.24\nuse ./app\n", nil, "", "", ""},
		{"and one that drifted", hello + "-- vendor/modules.txt --\n## workspace\n-- go.work --\ngo 1.24\nuse ./app\n", nil, "project.vendor fail SL-MOD-002", "example.com/lib@v1.2.0", "go work vendor"},

		{"an older Go, which may not switch", "-- app/go.mod --\nmodule example.com/app\ngo 1.99\n", []string{"GOTOOLCHAIN=local"}, "project.toolchain fail SL-TOOL-002", "go.mod asks for go 1.99, and go1.26.8 is installed, and GOTOOLCHAIN is local", "export GOTOOLCHAIN=auto"},
		{"one that is fixed to an older one", "-- app/go.mod --\nmodule example.com/app\ngo 1.25\n", []string{"GOTOOLCHAIN=go1.24.1"}, "project.toolchain fail SL-TOOL-002", "GOTOOLCHAIN is go1.24.1", ""},
		{"one that may switch", "-- app/go.mod --\nmodule example.com/app\ngo 1.99\n", nil, "", "", ""},
		{"which nothing verifies", "-- app/go.mod --\nmodule example.com/app\ngo 1.99\n", []string{"GOSUMDB=off"}, "project.toolchain fail SL-TOOL-001", "runs no toolchain that it cannot verify", ""},
		{"an older Go than the workspace", "-- app/go.mod --\nmodule example.com/app\ngo 1.20\n-- go.work --\ngo 1.99\nuse ./app\n", []string{"GOTOOLCHAIN=local"}, "project.toolchain fail SL-TOOL-002", "go.work asks for go 1.99", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := onDisk(t, tt.files, tt.env...)
			got, r := ofProject(t, s)
			text := r.Text(TextOptions{All: true})
			if got != tt.want || !strings.Contains(text, tt.text) || tt.fix != "" && !strings.Contains(text, "    "+tt.fix+"\n") {
				t.Errorf("it is %q, want %q with %q and %q, in\n%s", got, tt.want, tt.text, tt.fix, text)
			}
		})
	}
}

const vendorOfHello = "-- app/vendor/modules.txt --\n# example.com/lib v1.2.0\n## explicit; go 1.20\nexample.com/lib\n# git.corp.example/team/tool v1.0.0\n## explicit\ngit.corp.example/team/tool\n"

// The go command itself is asked about the same projects: what we call broken it does
// not take, and it takes what we call well.
func TestTheGoCommandAgreesAboutVendorAndWorkspaces(t *testing.T) {
	goCmd, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	const lib = "-- lib/go.mod --\nmodule example.com/lib\n\ngo 1.20\n-- lib/lib.go --\npackage lib\n"
	const app = "-- app/go.mod --\nmodule example.com/app\n\ngo 1.24\n\nrequire example.com/lib v1.2.0\n\nreplace example.com/lib => ../lib\n-- app/main.go --\npackage main\n\nimport _ \"example.com/lib\"\n\nfunc main() {}\n" + lib
	const vendored = "-- app/vendor/example.com/lib/lib.go --\npackage lib\n-- app/vendor/modules.txt --\n"
	for name, files := range map[string]string{
		"a directory":                        app,
		"a directory that is gone":           strings.ReplaceAll(app, "../lib", "../gone"),
		"vendor":                             app + vendored + "# example.com/lib v1.2.0 => ../lib\n## explicit; go 1.20\nexample.com/lib\n# example.com/lib => ../lib\n",
		"vendor of a directory that is gone": strings.ReplaceAll(app, "../lib", "../gone") + vendored + "# example.com/lib v1.2.0 => ../gone\n## explicit; go 1.20\nexample.com/lib\n# example.com/lib => ../gone\n",
		"vendor without the replacement":     app + vendored + "# example.com/lib v1.2.0\n## explicit; go 1.20\nexample.com/lib\n",
		"vendor with another replacement":    app + vendored + "# example.com/lib v1.2.0 => ../other\n## explicit; go 1.20\nexample.com/lib\n# example.com/lib => ../other\n",
		"vendor with one requirement more":   app + vendored + "# example.com/lib v1.2.0 => ../lib\n## explicit; go 1.20\nexample.com/lib\n# example.com/more v1.0.0\n## explicit\nexample.com/more\n# example.com/lib => ../lib\n",
		"vendor without a list":              app + "-- app/vendor/x --\n",
		"a workspace":                        app + "-- go.work --\ngo 1.24\nuse (\n\t./app\n\t./lib\n)\n",
		"a workspace without the module":     app + "-- go.work --\ngo 1.24\nuse ./lib\n",
		"a workspace of an older Go":         app + "-- go.work --\ngo 1.21\nuse (\n\t./app\n\t./lib\n)\n",
		"a workspace with a gone directory":  app + "-- go.work --\ngo 1.24\nuse (\n\t./app\n\t./gone\n)\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := onDisk(t, files)
			got, r := ofProject(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, goCmd, "list", "-deps", "./...")
			cmd.Dir = filepath.Join(dir, "app")
			cmd.Env = modtest.GoEnv(t, "off", "off", "GOFLAGS=", "GOWORK=")
			out, err := cmd.CombinedOutput()
			if (err == nil) != (got == "") {
				t.Errorf("we say %q, and go says %v:\n%s\n%s", got, err, out, r.Text(TextOptions{All: true}))
			}
		})
	}
}

func TestAGoBeforeToolchainsTakesWhatItCanRead(t *testing.T) {
	for line, want := range map[string]string{"1.22": "", "1.22.0": "project.toolchain fail SL-TOOL-002"} {
		s, _ := onDisk(t, "-- app/go.mod --\nmodule example.com/app\ngo "+line+"\n")
		s.GoVersion = func(context.Context) (string, error) { return "go1.20.14", nil }
		if got, r := ofProject(t, s); got != want {
			t.Errorf("go %s: it is %q, want %q, in\n%s", line, got, want, r.Text(TextOptions{All: true}))
		}
	}
}

func FuzzVendored(f *testing.F) {
	f.Add("## workspace\n# example.com/lib v1.2.0 => ../lib\n## explicit; go 1.20\nexample.com/lib\n# a => b\n")
	f.Add("# a v1.0.0 =>\n# \n##\n# a b c")
	f.Fuzz(func(t *testing.T, text string) {
		v := parseVendored(text)
		for _, m := range v.list {
			if _, ok := v.version[m.Path]; !ok || m.Path == "" {
				t.Errorf("%q lists %v", text, m)
			}
		}
	})
}
