package explain

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
)

// In the body of an answer of Sluice stands whom it asked. The URL before it is its own.
func TestASluiceThatAnsweredBlamesTheSourceAndNotItself(t *testing.T) {
	const head = "go: example.com/dep@v1.2.0: reading http://127.0.0.1:40123/example.com/dep/@v/v1.2.0.mod: 502 Bad Gateway\n\tserver response:\n"
	for _, c := range []struct{ name, body, host, command string }{
		{"a port of its own", "\ta module source refuses connections\n\t- http://proxy.corp.example:8081/go: dial tcp 192.0.2.7:8081: connect: connection refused\n\t- direct: version control: git ls-remote: exit status 128\n\tThe machine is there.\n\tfix: check the address\n\tcode: SL-NET-002\n",
			"proxy.corp.example:8081", "curl -sv -m 10 -o /dev/null http://proxy.corp.example:8081/"},
		{"a host", "\tthe name of a module source cannot be resolved\n\t- https://proxy.corp.example: lookup proxy.corp.example on 192.0.2.53:53: no such host\n\tfix: see what the resolver says\n\tcode: SL-DNS-001\n",
			"proxy.corp.example", "getent hosts proxy.corp.example"},
		{"a refusal", "\ta module source refuses this (403)\n\t- https://proxy.corp.example: 403 Forbidden: example.com/dep is not on the list\n\tcode: SL-SRC-003\n",
			"proxy.corp.example", "curl -sIL https://proxy.corp.example/"},
		{"a repository", "\tthe name of a module source cannot be resolved\n\t- direct: version control: git ls-remote -q origin: exit status 128:; fatal: unable to access 'https://git.corp.example/dep.git/': Could not resolve host: git.corp.example\n\tcode: SL-DNS-001\n",
			"git.corp.example", "getent hosts git.corp.example"},
		{"a repository without a URL", "\tthe name of a module source cannot be resolved\n\t- direct: version control: fatal: Could not resolve host: git.corp.example\n\tcode: SL-DNS-001\n",
			"git.corp.example", "getent hosts git.corp.example"},
	} {
		r := Text(head + c.body)
		if r.Host != c.host || !slices.Contains(r.In(finding.Terminal).Fix, c.command) {
			t.Errorf("%s: %s blames %q, with the commands %q; it has to blame %q, with %q", c.name, r.Code, r.Host, r.Fix, c.host, c.command)
		}
		if all := strings.Join(r.Fix, "\n"); strings.Contains(all, "127.0.0.1") || strings.Contains(all, finding.StandInHost) {
			t.Errorf("%s: the commands are %q", c.name, r.Fix)
		}
		if r.Module != "example.com/dep" || r.Version != "v1.2.0" {
			t.Errorf("%s: it is about %s@%s", c.name, r.Module, r.Version)
		}
	}
}

// Other servers quote whom they asked, too; they are what has to be mended.
// The words of one server end where the go command speaks again.
func TestTwoModulesThatFailAlikeFailOfTheSame(t *testing.T) {
	const body = "\tserver response:\n\tthe name of a module source cannot be resolved\n\t- https://proxy.corp.example: lookup proxy.corp.example on 192.0.2.53:53: no such host\n\tThe resolver gave no address.\n\tfix: see what the resolver says\n\tcode: SL-DNS-001\n"
	line := func(at string) string {
		return "main.go:" + at + ": example.com/dep" + at[:1] + "@v1.2.0: reading http://127.0.0.1:42149/example.com/dep" + at[:1] + "/@v/v1.2.0.zip: 502 Bad Gateway\n"
	}
	for name, log := range map[string]string{
		"indented":  line("6:2") + body + line("7:2") + body,
		"by a tool": "2026-11-22T10:00:00Z " + strings.ReplaceAll(strings.TrimSpace(line("6:2")+body+line("7:2")+body), "\n", "\n2026-11-22T10:00:00Z "),
	} {
		if r := Text(log); r.Code != finding.SourceDNS {
			t.Errorf("%s: %s", name, r.Code)
		}
	}
}

func TestAServerThatIsNoSluiceIsBlamedItself(t *testing.T) {
	r := Text("go: example.com/dep@v1.2.0: reading https://goproxy.corp.example/example.com/dep/@v/v1.2.0.mod: 502 Bad Gateway\n\tserver response:\n\t- https://proxy.example.org: connection refused\n")
	if r.Host != "goproxy.corp.example" {
		t.Errorf("%s blames %q", r.Code, r.Host)
	}
}

func TestTheCommandsOfAFixFitTheLine(t *testing.T) {
	for _, c := range []struct {
		log        string
		code       finding.Code
		place      finding.Place
		has, lacks string
	}{
		{"go: go.mod file not found in current directory or any parent directory; see 'go help modules'", finding.NoModule, finding.Terminal, "go mod init example.com/app", "go work use ."},
		{"go: cannot find main module, but found .git/config in /src\n\tto create a module there, run:\n\tgo mod init", finding.NoModule, finding.Terminal, "go mod init example.com/app", "go work use ."},
		{"current directory is contained in a module that is not one of the workspace modules listed in go.work. You can add the module to the workspace using:\n\tgo work use .", finding.NoModule, finding.Terminal, "go work use .", "go mod init example.com/app"},
		{"go: cannot load module ../missing listed in go.work file: open ../missing/go.mod: no such file or directory", finding.NoModule, finding.Terminal, "go work edit -dropuse=./missing", "go work use ."},
		{"main.go:4:2: package myapp/utils is not in std (/usr/local/go/src/myapp/utils)", finding.PackageNotFound, finding.Terminal, "go list -m", "go list MODULE/..."},
		{"go: example.com/dep@v1.2.0 requires go >= 1.24 (running go 1.21.3; GOTOOLCHAIN=local)", finding.ToolchainTooOld, finding.Dockerfile, "FROM golang:1.24", "FROM golang:v1.2.0"},
		{"fatal: detected dubious ownership in repository at '/src/app'\nerror obtaining VCS status: exit status 128\n\tUse -buildvcs=false to disable VCS stamping.", finding.BuildVCS, finding.Terminal, "", "git config --global --add safe.directory DIR"},
		{"go: writing go.mod cache: write /var/cache/mod/cache/download/example.com/dep/@v/v1.2.0.zip: no space left on device", finding.DiskFull, finding.Terminal, "df -h /var/cache/mod/cache/download/example.com/dep/@v", "df -h DIR"},
		{"go: errors parsing go.mod:\ngo.mod:3: require example.com/x: version \"main\" invalid: reading http://127.0.0.1:35547/example.com/x/@v/main.info: 403 Forbidden\n\tserver response:\n\ta module source refuses this request (403)\n\t- https://proxy.corp.example: 403 Forbidden\n\tcode: SL-SRC-003",
			finding.GoModParse, finding.Terminal, "sluice trace example.com/x", "curl -sIL https://proxy.corp.example/"},
		{"go: errors parsing go.mod:\n/src/app/go.mod:3: require example.com/x: reading https://proxy.corp.example/example.com/x/@v/list: 403 Forbidden", finding.GoModParse, finding.Terminal, "sluice trace example.com/x", "curl -sIL https://proxy.corp.example/"},
		{"go: example.com/dep: reading https://goproxy.corp.example/example.com/dep/@v/list: unexpected EOF", finding.SourceReset, finding.Terminal, "sluice run -- go mod download", "sluice trace example.com/dep@VERSION"},
	} {
		r := Text(c.log)
		fix := r.In(c.place).Fix
		if r.Code != c.code || c.has != "" && !slices.Contains(fix, c.has) || slices.Contains(fix, c.lacks) {
			t.Errorf("%s\nis %s with %q; it has to be %s, with %q and without %q", c.log, r.Code, fix, c.code, c.has, c.lacks)
		}
	}
}

// A file that takes stderr has both in it: what the go command wrote, and what Sluice did.
func TestWhatSluiceSaysItselfIsNotWhyACommandFailed(t *testing.T) {
	const own = "sluice: the store fails; serving goes on without it: the store cannot be written: mkdir /home/me/.cache/sluice: permission denied\n"
	const told = "sluice: the module or build cache cannot be used (SL-DISK-002)\nsluice:   line 2: go: open /home/me/go/pkg/mod/cache/lock: permission denied\nsluice:   fix: ls -ld /home/me/go\n"
	const theirs = "go: example.com/dep@v1.2.0: Get \"https://proxy.corp.example/example.com/dep/@v/v1.2.0.mod\": dial tcp 192.0.2.7:443: connect: connection refused\n"
	for _, log := range []string{own + theirs, theirs + own + told, "#9 1.234 " + own + "#9 1.250 " + theirs, strings.ReplaceAll(own+theirs, "\n", "\r\n")} {
		r := Text(log)
		if r.Code != finding.SourceRefused || r.Host != "proxy.corp.example" || !strings.HasPrefix(r.Line, "go: ") {
			t.Errorf("%s\nis %s by %q", log, r.Code, r.Line)
		}
	}
	if r := Text(own + theirs); r.Number != 2 {
		t.Errorf("the deciding line is number %d of the text, and not 2", r.Number)
	}
	const undecided = "go: hello imports\n\texample.com/dep: example.com/dep@v1.2.0: verifying module: something new\n"
	for _, log := range []string{own + undecided, undecided + own, own + told} {
		if r := Text(log); r.Known() {
			t.Errorf("%s\nis %s by %q", log, r.Code, r.Line)
		}
	}
}

// What a fix says must be done with what the text is about, and not undo or repeat it.
func TestAFixIsForWhatTheTextIsAbout(t *testing.T) {
	const ambiguous = "main.go:5:2: ambiguous import: found package cloud.example.com/go/compute/metadata in multiple modules:\n"
	for _, c := range []struct {
		name, log string
		place     finding.Place
		has       string
		lacks     string // a word of the commands
		says      string // a word of the title, the reason or the sentence that mends
	}{
		{"the outer module lags", ambiguous +
			"\tcloud.example.com/go v0.65.0 (/root/go/pkg/mod/cloud.example.com/go@v0.65.0/compute/metadata)\n\tcloud.example.com/go/compute/metadata v0.2.0 (/root/go/pkg/mod/x)\n",
			finding.Terminal, "go get cloud.example.com/go@latest", "metadata", "lags behind"},
		{"in whatever order", ambiguous +
			"\tcloud.example.com/go/compute/metadata v0.2.0 (/root/go/pkg/mod/x)\n\tcloud.example.com/go v0.65.0 (/root/go/pkg/mod/y)\n",
			finding.Dockerfile, "RUN go get cloud.example.com/go@latest", "metadata", "lags behind"},
		{"the main module cannot be raised", ambiguous +
			"\tcloud.example.com/go (/src/compute/metadata)\n\tcloud.example.com/go/compute/metadata v0.2.0 (/root/go/pkg/mod/x)\n",
			finding.Terminal, "go get MODULE@latest", "cloud.example.com", ""},
		{"the modules are cut off", ambiguous, finding.Terminal, "go get MODULE@latest", "cloud.example.com", ""},
		{"relative import", "main.go:2:8: \"./foo\" is relative, but relative import paths are not supported in module mode",
			finding.Terminal, "go list -m", "go mod init", "not imported by ./"},
		{"go install names the program", "go: 'go install' requires a version when current directory is not in a module\n\tTry 'go install example.com/quote@latest' to install the latest version",
			finding.Terminal, "go install example.com/quote@latest", "go mod init", "name a version"},
		{"go install in an image", "#9 0.4 go: 'go install' requires a version when current directory is not in a module\n#9 0.4 \tTry 'go install example.com/quote@latest' to install the latest version",
			finding.Dockerfile, "RUN go install example.com/quote@latest", "go mod init", "name a version"},
		{"go get no longer installs", "go: go.mod file not found in current directory or any parent directory.\n\t'go get' is no longer supported outside a module.\n\tTo build and install a command, use 'go install' with a version,\n\tlike 'go install example.com/cmd@latest'",
			finding.Terminal, "go install MODULE@latest", "go mod init", "for a program"},
		{"no toolchain, no go env", "go: invalid GOTOOLCHAIN \"foo\"", finding.Terminal, "export GOTOOLCHAIN='auto'", "go env", "GOTOOLCHAIN"},
		{"no toolchain in PowerShell", "go: invalid GOTOOLCHAIN \"foo\"", finding.PowerShell, "$env:GOTOOLCHAIN = 'auto'", "go env", "GOTOOLCHAIN"},
		{"another setting", "go: parsing $GOFLAGS: non-flag \"mod=mod\"", finding.Terminal, "go env GOPROXY GOFLAGS GOSUMDB GOPRIVATE GONOSUMDB", "GOTOOLCHAIN", "GOFLAGS"},
		{"a shared module cache", "go: git.corp.example/a/b@v1.0.0: git init: exit status 128:\n\tfatal: detected dubious ownership in repository at '/go/pkg/mod/cache/vcs/1f0c'",
			finding.Terminal, "ls -ld $(go env GOMODCACHE GOCACHE)", "buildvcs", "another user"},
		{"https to a plain http port", "go: corp.example/x@v1.0.0: Get \"https://goproxy.corp.example:8080/corp.example/x/@v/v1.0.0.mod\": http: server gave HTTP response to HTTPS client",
			finding.Terminal, "go env GOPROXY", "proxy.example.com", "write http://"},
		{"a certificate asked for by address", "go: corp.example/x@v1.0.0: Get \"https://10.0.0.1/corp.example/x/@v/v1.0.0.mod\": tls: failed to verify certificate: x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
			finding.Terminal, "go env GOPROXY", "getent", "in place of the address"},
		{"a retracted version is there", "go: warning: github.com/acme/x@v1.0.0: retracted by module author: broken", finding.Terminal, "go list -m -versions github.com/acme/x", "", "retracted by its author"},
		{"a program with replace lines", "go: example.com/bar@latest (in example.com/bar@v1.0.0):\n\tThe go.mod file for the module providing named packages contains one or\n\tmore replace directives. It must not contain directives that would cause\n\tit to be interpreted differently than if it were the main module.",
			finding.Terminal, "git clone https://example.com/bar", "dropreplace", "cannot be installed"},
		{"no network leads to the name server", "go: rsc.io/quote@v1.5.2: Get \"https://proxy.example.com/rsc.io/quote/@v/v1.5.2.mod\": dial tcp: lookup proxy.example.com on 192.0.2.53:53: dial udp 192.0.2.53:53: connect: network is unreachable",
			finding.Terminal, "sluice doctor", "getent", "No network leads"},
		{"the name server says no", "go: rsc.io/quote@v1.5.2: Get \"https://proxy.example.com/rsc.io/quote/@v/v1.5.2.mod\": dial tcp: lookup proxy.example.com on 192.0.2.53:53: no such host",
			finding.Terminal, "getent hosts proxy.example.com", "doctor", "gave no address"},
		{"a repository that is named", "go: example.com/corp/priv@v1.0.0: git ls-remote -q origin: exit status 128:\n\tremote: Repository not found.\n\tfatal: repository 'https://git.example.com/corp/priv/' not found",
			finding.Terminal, "git ls-remote https://git.example.com/corp/priv/", "MODULE", ""},
	} {
		r := Text(c.log)
		f := r.In(c.place)
		all := strings.Join(f.Fix, "\n")
		if !slices.Contains(f.Fix, c.has) || c.lacks != "" && strings.Contains(all, c.lacks) {
			t.Errorf("%s: %s has the commands %q; they must have %q, and nothing with %q", c.name, f.Code, f.Fix, c.has, c.lacks)
		}
		if !strings.Contains(f.Title+"\n"+f.Why+"\n"+f.Mend, c.says) {
			t.Errorf("%s: %q, %q, %q does not say %q", c.name, f.Title, f.Why, f.Mend, c.says)
		}
	}
}

// The messages that a program has in it did not befall anybody.
func TestAnExecutableSaysNothing(t *testing.T) {
	const says = "dial tcp 203.0.113.9:443: connect: connection refused\n"
	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x03\x00\x3e\x00\x01\x00\x00\x00" + strings.Repeat("\x40\x00\x00\x00\x06\x00\x05\x00", 60)
	if r := Text(elf + says); r.Known() {
		t.Errorf("an executable is %s by line %d", r.Code, r.Number)
	}
	for _, head := range []string{
		strings.Repeat("\x00", 600),                                                                                // a log that was cut while it was written
		"\x02\x00\x00\x00\x00\x00\x00\x36", "\x01\x00\x00\x00\x00\x00\x00\x03ok\n\x02\x00\x00\x00\x00\x00\x00\x36", // a container's
		"\x1b[1m\x1b[2K\r\b\b\b\a",
	} {
		if r := Text(head + says); r.Code != finding.SourceRefused {
			t.Errorf("after %q the line is %q", head, r.Code)
		}
	}
}

func TestALibraryIsNotSaidToBeMissing(t *testing.T) {
	f := Text("package github.com/acme/lib is not a main package").In(finding.Terminal)
	if f.Code != finding.PackageNotFound || !strings.Contains(f.Title, "library") || strings.Contains(f.Why, "not the package in it") || !slices.Contains(f.Fix, "go list github.com/acme/lib/...") {
		t.Errorf("%s: %q, %q, %q, %q", f.Code, f.Title, f.Why, f.Mend, f.Fix)
	}
}

// Who is told to take a mirror for what only a company's own host has is sent away
// with nothing, and tells the mirror what the company calls its modules.
func TestNoMirrorIsNamedForAHostOfOnesOwnNetwork(t *testing.T) {
	goGet := func(host, why string) string {
		return fmt.Sprintf("go: %s/team/lib@v1.2.0: unrecognized import path %[2]q: https fetch: Get \"https://%[1]s/team/lib?go-get=1\": %[3]s", host, host+"/team/lib", why)
	}
	for log, mirror := range map[string]bool{
		goGet("git.acme.corp", "dial tcp 10.0.0.5:443: i/o timeout"):                  false,
		goGet("git.acme.corp", "dial tcp [fd00::5]:443: connect: connection refused"): false,
		goGet("git.acme.corp", "dial tcp: lookup git.acme.corp: no such host"):        false,
		goGet("git.acme.corp", "unexpected EOF"):                                      false,
		goGet("git.example.com", "dial tcp 192.0.2.5:443: i/o timeout"):               true,
		goGet("git.example.com", "dial tcp: lookup git.example.com: no such host"):    true,
		// A company's proxy is not the only one that has a public module.
		`go: example.com/lib@v1.2.0: Get "https://proxy.acme.corp/example.com/lib/@v/v1.2.0.info": dial tcp 10.0.0.5:443: i/o timeout`: true,
	} {
		r := Text(log)
		if !r.Known() {
			t.Errorf("%s: unknown", log)
			continue
		}
		for _, place := range finding.Places() {
			f := r.In(place)
			all := strings.Join(append(f.Fix, f.Mend), "\n")
			if got := strings.Contains(all, finding.TakeBest) || strings.Contains(all, "YOUR-PROXY"); got != mirror {
				t.Errorf("%s: %s, in %s: a mirror is named: %v, want %v: %q, %q", log, r.Code, place, got, mirror, f.Mend, f.Fix)
			}
			if !mirror && !strings.Contains(f.Mend, "no mirror has") {
				t.Errorf("%s: %s: %q", log, r.Code, f.Mend)
			}
		}
	}
	// A private address alone may be a portal's or a filter's: both are said.
	for _, host := range []string{"go.uber.org", "git.example.com"} {
		f := Text(goGet(host, "dial tcp 192.168.1.1:443: connect: connection refused")).In(finding.Terminal)
		if !slices.Contains(f.Fix, finding.TakeBest) || !strings.Contains(f.Mend, "VPN") || !strings.Contains(f.Mend, "a mirror is reached") {
			t.Errorf("%s at a private address: %q, %q", host, f.Mend, f.Fix)
		}
	}
}
