package modcache

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
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// program is a public one of some 300 modules, and programMain what is built of it.
const (
	program     = "github.com/anchore/syft@v1.40.0"
	programMain = "./cmd/syft"
)

// BenchmarkACacheOfRealModules is the test of all kinds of damage with what people have,
// and tells what finding and mending them took. The modules, some 300, come by the go
// command's own settings. It is the built program that finds and mends: sluice rescue
// --cache. A build of all of it at the end takes longer than a test may: -timeout 30m.
func BenchmarkACacheOfRealModules(t *testing.B) {
	for t.Loop() {
		mendRealModules(t)
	}
}

// byProgram is what sluice rescue --cache says of the scene's cache, run in its project.
func (s *scene) byProgram(args ...string) Report {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.program, append([]string{"rescue", "--cache", "--json", "--data", s.store}, args...)...)
	cmd.Dir, cmd.Env = s.app, s.env
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		s.t.Fatal(err)
	}
	var rep struct {
		Versions, Fetched, Stored int
		Bytes                     int64
		FetchedBytes              int64 `json:"fetched_bytes"`
		Damages                   []struct{ Kind, Module, Version, File, Problem, Done, Error string }
	}
	if err := json.Unmarshal(out, &rep); err != nil {
		s.t.Fatalf("sluice rescue --cache: %v\n%s%s", err, out, &said)
	}
	r := Report{Versions: rep.Versions, Bytes: rep.Bytes, Fetched: rep.Fetched, FetchedBytes: rep.FetchedBytes, Stored: rep.Stored}
	for _, d := range rep.Damages {
		x := Damage{Kind: Kind(d.Kind), Module: module.Version{Path: d.Module, Version: d.Version}, File: d.File, Text: d.Problem, Done: Done(d.Done)}
		if d.Error != "" {
			x.Err = errors.New(d.Error)
		}
		r.Damages = append(r.Damages, x)
	}
	return r
}

func mendRealModules(t *testing.B) {
	setting := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	s := &scene{t: t, app: t.TempDir(), sums: map[module.Version]string{}, db: "sum.golang.org", from: t.TempDir(), store: t.TempDir()}
	sluice := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", sluice, "github.com/modsluice/sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("building sluice: %v\n%s", err, out)
	}
	s.env = modtest.GoEnv(t, setting("GOPROXY"), setting("GOSUMDB"), "GOFLAGS=-trimpath")
	s.dir = modtest.EnvValue(s.env, "GOMODCACHE")
	t.Cleanup(func() { removeAll(s.dir) })
	out, stderr, exit := modtest.Go(t, s.env, s.app, "mod", "download", "-json", program)
	var got struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &got); err != nil || exit != 0 {
		t.Fatalf("go mod download: exit status %d, %v\n%s%s", exit, err, out, stderr)
	}
	if err := os.CopyFS(s.app, os.DirFS(got.Dir)); err != nil {
		t.Fatal(err)
	}
	sums := read(t, filepath.Join(s.app, "go.sum"))
	remove(t, filepath.Join(s.app, "go.sum")) // so that the database is asked
	// Over a slow line it takes longer than tests wait for a go command.
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "mod", "download")
	cmd.Dir, cmd.Env = s.app, s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	write(t, filepath.Join(s.app, "go.sum"), sums)
	for line := range strings.Lines(sums) {
		if f := strings.Fields(line); len(f) == 3 {
			s.sums[module.Version{Path: f[0], Version: f[1]}] = f[2]
		}
	}
	down := filepath.Join(s.dir, "cache", "download")
	if err := os.CopyFS(s.from, os.DirFS(down)); err != nil {
		t.Fatal(err)
	}
	k, err := Open(s.config())
	if err != nil {
		t.Fatal(err)
	}
	versions := k.survey(t.Context()).versions
	// Those of which everything is here, that have a directory, and are alone of their path.
	for _, m := range versions {
		alone := !slices.ContainsFunc(versions, func(o module.Version) bool {
			return o != m && (o.Path == m.Path || strings.HasPrefix(o.Path, m.Path+"/"))
		})
		entries, _ := os.ReadDir(s.tree(m, ""))
		hasDir := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.IsDir() })
		_, zipErr := os.Stat(filepath.Join(s.from, filepath.FromSlash(goproxy.Request{Kind: goproxy.Zip, Module: m}.Path())))
		_, recErr := os.Stat(s.record(m))
		oldPath := strings.HasPrefix(m.Version, "v0.") || strings.HasPrefix(m.Version, "v1.")
		if alone && oldPath && hasDir && zipErr == nil && recErr == nil && s.sums[m] != "" && !module.IsPseudoVersion(m.Version) && len(s.mods) < 100 {
			s.mods = append(s.mods, m)
		}
	}
	s.program = sluice
	s.plantAndMend(plants())
	s.goRun("mod", "verify")
	begin := time.Now()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, programMain)
	build.Dir, build.Env = s.app, s.env
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", programMain, err, out)
	}
	t.Logf("go mod verify and go build %s work, in %v", programMain, time.Since(begin).Round(time.Second))
}
