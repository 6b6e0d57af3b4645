package explain

import (
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
