package explain

import (
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
)

// What the go command may not use is mended by another variable for each directory, and
// go env -w writes below HOME itself.
func TestADirectoryThatIsDeniedIsTheOneThatTheLineNames(t *testing.T) {
	const (
		home  = `export HOME="$(getent passwd "$(id -u)" | cut -d: -f6 | grep . || mktemp -d)"`
		place = `export GOPATH="$(mktemp -d)"; export GOCACHE="$GOPATH/build"`
	)
	for _, c := range []struct {
		line string
		code finding.Code
		has  string // a command of the fix
	}{
		{"build cache is required, but could not be located: GOCACHE is not defined and neither $XDG_CACHE_HOME nor $HOME are defined", finding.NoHome, home},
		{"go: module cache not found: neither GOMODCACHE nor GOPATH is set", finding.NoHome, home},
		{"go: cannot find go env config: neither $XDG_CONFIG_HOME nor $HOME are defined", finding.NoHome, home},
		{"go: rsc.io/quote@v1.5.2: verifying module: rsc.io/quote@v1.5.2: could not locate sumdb file: missing $GOPATH", finding.NoHome, home},

		{"go: writing go env config: open /ro/.config/go/env: no such file or directory", finding.HomeDenied, place},
		{"failed to initialize build cache at /.cache/go-build: mkdir /.cache: permission denied", finding.HomeDenied, place},
		{"go: could not create module cache: mkdir /home/me/go: permission denied", finding.HomeDenied, place},
		{"go: could not create module cache: mkdir /nonexistent: permission denied", finding.HomeDenied, place},
		{"go: mkdir /go/pkg: read-only file system", finding.HomeDenied, place},
		{"go: rsc.io/quote@v1.5.2: verifying module: rsc.io/quote@v1.5.2: open /ro/go/pkg/sumdb/sum.golang.org/latest: no such file or directory", finding.HomeDenied, place},

		{"go: creating work dir: stat /nonexist: no such file or directory", finding.TempDenied, "unset GOTMPDIR TMPDIR"},
		{"go: creating work dir: mkdir /tmp/go-build1234: read-only file system", finding.TempDenied, finding.OtherTemp},
		{"go: creating work dir: mkdir /data/tmp/go-build1234: permission denied", finding.TempDenied, "unset GOTMPDIR TMPDIR"},

		{"go: updating go.sum: open /src/go.sum: read-only file system", finding.ProjectDenied, "go mod tidy"},
		{"go: updating go.mod: open /src/go.mod: permission denied", finding.ProjectDenied, "go mod tidy"},
		{"go: open /src/go.mod: read-only file system", finding.ProjectDenied, "go mod tidy"},

		{"go: RLock /mnt/c/go/pkg/mod/cache/download/x/@v/list.lock: function not implemented", finding.NoLocks, "go env -w GOMODCACHE=DIR"},
		{"go: Lock /nfs/home/me/go/pkg/mod/cache/lock: no locks available", finding.NoLocks, "go env -w GOMODCACHE=DIR"},
		{"go: RLock /src/go.mod: function not implemented", finding.NoLocks, "df -hT ."},

		{"go: rsc.io/quote@v1.5.2: open /root/go/pkg/mod/rsc.io/quote@v1.5.2/go.mod: permission denied", finding.CacheDenied, "go env -w GOMODCACHE=DIR"},
		{"go: could not create module cache: mkdir /usr/local/go-mod: permission denied", finding.CacheDenied, "go env -w GOMODCACHE=DIR"},
		{"failed to initialize build cache at /home/me/.cache/go-build: mkdir /home/me/.cache/go-build/00: permission denied", finding.CacheDenied, "go env -w GOCACHE=DIR"},
		{"go: open /home/me/.cache/go-build/trim.txt: permission denied", finding.CacheDenied, "go env -w GOCACHE=DIR"},
		{"go build rsc.io/cmd: open /usr/local/go/bin/cmd: permission denied", finding.CacheDenied, "go env -w GOBIN=DIR"},
	} {
		r := Text(c.line + "\n")
		if r.Code != c.code || r.Cause != finding.CausePermissionDeniedModCache {
			t.Errorf("%q is %s (%s), want %s", c.line, r.Code, r.Cause, c.code)
			continue
		}
		f := r.In(finding.Terminal)
		if !slices.Contains(f.Fix, c.has) {
			t.Errorf("%q: %q, want %q in it", c.line, f.Fix, c.has)
		}
		if c.code != finding.CacheDenied && c.code != finding.NoLocks && strings.Contains(strings.Join(f.Fix, " "), "GOMODCACHE") {
			t.Errorf("%q: another module cache does not mend it: %q", c.line, f.Fix)
		}
	}
}

// Maven and Gradle fetch no modules, and their client has words of its own for it.
func TestWhatJavaCannotConnectToIsNoModuleSource(t *testing.T) {
	for _, s := range []string{
		"Connect to repo1.maven.org:443 failed: Connection timed out",
		"[ERROR] Could not transfer artifact x from/to central (https://repo.example.org): Connect to repo.example.org:443 [repo.example.org/192.0.2.1] failed: Connection refused (Connection refused)",
	} {
		if r := Text(s + "\n"); r.Code != finding.NotModules || len(r.Fix) > 0 {
			t.Errorf("%q is %s, with %q", s, r.Code, r.Fix)
		}
	}
	if r := Text("fatal: unable to access 'https://git.example.org/a/b/': Failed to connect to git.example.org port 443 after 7 ms: Connection timed out\n"); r.Code != finding.SourceConnectTimeout {
		t.Errorf("a git that times out is %s", r.Code)
	}
}

// A fix names the package or repository that the text names, and none that nobody knows.
func TestNoStandInIsLeftWhereTheValueIsKnown(t *testing.T) {
	for _, c := range []struct{ log, has string }{
		{"main.go:4:2: case-insensitive import collision: \"github.com/Acme/y\" and \"github.com/acme/y\"", "go mod graph | grep -i github.com/Acme/y"},
		{"fatal: Authentication failed for 'https://git.example.com/corp/priv/'", "git ls-remote https://git.example.com/corp/priv/"},
		{"remote: Repository not found.", "git config --get-regexp insteadof"},
		{"remote: HTTP Basic: Access denied", "${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"},
		{"ssh: connect to host git.example.com port 22: Connection timed out", "git config --global --add url.https://git.example.com/.insteadOf git@git.example.com: && git config --global --add url.https://git.example.com/.insteadOf ssh://'git'@git.example.com/"},
	} {
		f := Text(c.log + "\n").In(finding.Terminal)
		if !slices.Contains(f.Fix, c.has) || strings.Contains(strings.Join(f.Fix, " "), "MODULE") || strings.Contains(strings.Join(f.Fix, " "), "HOST") {
			t.Errorf("%q: %s %q, want %q", c.log, f.Code, f.Fix, c.has)
		}
	}
}
