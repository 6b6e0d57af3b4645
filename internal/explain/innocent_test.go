package explain

import (
	"fmt"
	"strings"
	"testing"
)

func TestSentencesThatHaveTheWordsOfAFailureByChanceAreNoFailure(t *testing.T) {
	for _, s := range []string{
		"o transporte público é proibido aos domingos",
		"der Transport ist hier niedozwolony",
		"repositori ini tidak ditemukan di disk, lewati",
		"arkivet kunde som väntat hittades inte, det skapas",
		"docs: unexpected file name in the listing, skipped",
		"12 redirects followed in 3 s; all pages are fine",
		"usage: go 1 step further and read the manual",
		"Error: spec.containers[0].volumeMounts[0].mountPath: Invalid value: must be an absolute path",
		"CMake Error: CMAKE_INSTALL_PREFIX must be an absolute path",
		"Error: file URL missing in manifest",
		"upload: file URL specifies a host that is not known",
		"file URL encodes spaces as plus signs",
		"ls: stat /srv/x: directory not found",
		"terraform: no install location for provider",
		"gpg: cannot obtain needed key",
		"module foo is missing module path",
		"env: no KEY=VALUE arguments given",
		"option x is not supported (can be '', 'mod', 'readonly', or 'vendor')",
		"all packages must be provided by the same module",
		"rustup: 'nightly-x' is not a toolchain version",
		"resulting module with sum 1, expected sum 2",
		"gh: 'git credential fill' provided one for git.example.com",
		"make: creating work dir",
		"rsync: lock /srv/x: no locks available",
		"flock: lock /var/run/x: operation not supported",
		"could not lock /data: function not implemented",
		"/data/db.ziphash: no such file",
		"installer: %LocalAppData% is not defined",
		"error: neither $XDG_CONFIG_HOME nor $HOME is set",
		`lint: local import "./x" should be sorted`,
		"updating go.mod: open it in an editor",
		"GOCACHEPROG args are documented elsewhere",
		"hint: reading go env config is supported since Go 1.13",
	} {
		if r := Text(s + "\n"); r.Known() {
			t.Errorf("%q is taken for %s (%s)", s, r.Code, r.Confidence)
		}
	}
	for s, code := range map[string]string{
		"curl: (47) Maximum (50) redirects followed":                                                                       "SL-SRC-008",
		"go: errors parsing go.mod:\n/app/go.mod:3: usage: go 1.23\n":                                                      "SL-MOD-004",
		"go: rsc.io/badzip@v1.0.0: unzip /go/pkg/mod/cache/download/rsc.io/badzip/@v/v1.0.0.zip: unexpected file name x/y": "SL-SRC-008",
		"go: GOTMPDIR must be an absolute path":                                                                            "SL-ENV-003",
		"cannot install, GOBIN must be an absolute path":                                                                   "SL-ENV-003",
		"go: no KEY=VALUE arguments given":                                                                                 "SL-ENV-003",
		"stat /src/missing: directory not found":                                                                           "SL-VER-005",
		"go: no install location for directory /src/cmd outside GOPATH":                                                    "SL-MOD-006",
		"error: Cannot obtain needed object ea8d2f85b9845b62abb160ae88115086fe4af02a":                                      "SL-VER-001",
		"go: example.com/m@v1.2.0: go.mod is missing module path at revision v1.2.0":                                       "SL-MOD-004",
		"go: creating work dir: mkdir /data/tmp/go-build1: permission denied":                                              "SL-DISK-006",
		"go: Lock /nfs/home/me/go/pkg/mod/cache/lock: no locks available":                                                  "SL-DISK-008",
	} {
		if r := Text(s); string(r.Code) != code {
			t.Errorf("%q is taken for %q, want %s", s, r.Code, code)
		}
	}
}

// A service that is tried again and again is one line, whatever number each try has and
// where it stands: what comes after must still be read.
func TestAHundredTriesOfOneServiceAreOneLine(t *testing.T) {
	for _, format := range []string{
		"request:%d dial tcp 10.0.0.5:5432: connect: connection refused\n",
		"dial tcp 10.0.0.5:5432: connect: connection refused (request:%d)\n",
		"dial tcp 10.0.0.5:5432: connect: connection refused after 0.%ds\n",
		"dial tcp 10.0.0.9:4%d->10.0.0.5:5432: connect: connection refused\n",
	} {
		var log strings.Builder
		for n := range 300 {
			fmt.Fprintf(&log, format, n+1)
		}
		log.WriteString("curl: (60) SSL certificate problem: unable to get local issuer certificate\n")
		if r := Text(log.String()); string(r.Cause) != "tls-unknown-ca" {
			t.Errorf("%q, 300 times, and then curl's words: %q (%s), line %d", format, r.Cause, r.Code, r.Number)
		}
	}
}
