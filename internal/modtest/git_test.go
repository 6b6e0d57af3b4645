package modtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// gitClient runs git as a client of g, and returns what it printed.
func gitClient(t *testing.T, g *Git, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(g.Environ(), "HOME="+dir, "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGitServerServesWhatWasCommitted(t *testing.T) {
	g := GitServer(t)
	r := g.Repo(GitHost + "/team/lib")
	first := r.Commit("main", map[string]string{"go.mod": "module git.modtest.example/team/lib\n", "old.go": "package lib\n"})
	r.Tag("v1.0.0", first)
	second := r.CommitModes("main", map[string]string{"go.mod": "module git.modtest.example/team/lib\n", "link": "go.mod"}, map[string]string{"link": "120000"})
	r.Annotate("v1.1.0", "main")
	r.Commit("feature/x", map[string]string{"x.go": "package x\n"})
	r.Branch("old", first)

	dir := t.TempDir()
	if out, err := gitClient(t, g, dir, "clone", "--quiet", r.URL, "here"); err != nil {
		t.Fatalf("clone: %v\n%s", err, out)
	}
	here := filepath.Join(dir, "here")
	if _, err := os.Stat(filepath.Join(here, "old.go")); !os.IsNotExist(err) {
		t.Errorf("a commit's tree is exactly its files, but old.go is still there (%v)", err)
	}
	if target, err := os.Readlink(filepath.Join(here, "link")); err != nil || target != "go.mod" {
		t.Errorf("link points at %q, %v", target, err)
	}
	refs, err := gitClient(t, g, here, "ls-remote", "origin")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{second + "\tHEAD", second + "\trefs/heads/main", first + "\trefs/tags/v1.0.0", second + "\trefs/tags/v1.1.0^{}", first + "\trefs/heads/old", "\trefs/heads/feature/x"} {
		if !strings.Contains(refs, want) {
			t.Errorf("the server does not list %q; it lists\n%s", want, refs)
		}
	}
	r.MoveTag("v1.0.0", second)
	r.DeleteTag("v1.1.0")
	refs, _ = gitClient(t, g, here, "ls-remote", "origin")
	if !strings.Contains(refs, second+"\trefs/tags/v1.0.0") || strings.Contains(refs, "v1.1.0") {
		t.Errorf("after moving one tag and deleting another the server lists\n%s", refs)
	}
}

func TestGitServerCommitsAreTheSameInEveryRun(t *testing.T) {
	files := map[string]string{"go.mod": "module git.modtest.example/a\n"}
	a, b := GitServer(t).Repo(GitHost+"/a"), GitServer(t).Repo(GitHost+"/a")
	for range 2 {
		if x, y := a.Commit("main", files), b.Commit("main", files); x != y || len(x) != 40 {
			t.Fatalf("two runs made the commits %q and %q", x, y)
		}
	}
}

func TestGitServerMisbehavesAsTold(t *testing.T) {
	g := GitServer(t)
	r := g.Repo(GitHost + "/team/lib")
	r.Commit("main", map[string]string{"noise": GitNoise(20_000)})
	for fault, want := range map[GitFault]string{
		GitUnavailable: "error: 503",
		GitNotFound:    "not found",
		GitForbidden:   "error: 403",
	} {
		r.Break(fault)
		if out, err := gitClient(t, g, t.TempDir(), "ls-remote", r.URL); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: git says %q (%v), want %q", fault, out, err, want)
		}
	}
	r.Break(GitHalf)
	if out, err := gitClient(t, g, t.TempDir(), "clone", r.URL, "half"); err == nil {
		t.Errorf("half a pack was cloned as a whole one: %s", out)
	}
	r.Break("")
	g.RequireAuth("joe", "s3cret")
	if out, err := gitClient(t, g, t.TempDir(), "ls-remote", r.URL); err == nil || !strings.Contains(out, "terminal prompts disabled") {
		t.Errorf("without a password git says %q (%v)", out, err)
	}
	if out, err := gitClient(t, g, t.TempDir(), "ls-remote", strings.Replace(r.URL, "https://", "https://joe:s3cret@", 1)); err != nil {
		t.Errorf("with the password git says %q (%v)", out, err)
	}
	g.RequireAuth("", "")
	r.Delete()
	if out, err := gitClient(t, g, t.TempDir(), "ls-remote", r.URL); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("of a deleted repository git says %q (%v)", out, err)
	}
	if out, err := gitClient(t, g, t.TempDir(), "ls-remote", "https://elsewhere.example/x"); err == nil {
		t.Errorf("another host answered: %s", out)
	}
	if !slices.Contains(g.Refused(), "elsewhere.example") {
		t.Errorf("the attempt at another host is not remembered; refused: %q", g.Refused())
	}
}

func TestGitServerLeadsTheGoCommandToItsRepositories(t *testing.T) {
	GitNeed(t, "go")
	g := GitServer(t)
	r := g.Repo(GitHost + "/team/lib")
	r.Commit("main", map[string]string{"go.mod": "module git.modtest.example/team/lib\n"})
	r.Tag("v1.2.3", "main")
	dir := t.TempDir()
	cmd := exec.Command("go", "list", "-m", "-versions", r.Root)
	cmd.Dir = dir
	cmd.Env = append(g.Environ(), "HOME="+dir, "GOPATH="+dir, "GOCACHE="+dir, "GOENV=off", "GOPROXY=direct", "GOSUMDB=off", "GOVCS=*:git", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), r.Root+" v1.2.3") {
		t.Fatalf("go list says %q (%v)", out, err)
	}
	if !slices.Contains(g.Requests(), "GET /team/lib?go-get=1") {
		t.Errorf("no go-import page was asked for; requests: %q", g.Requests())
	}
}
