//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

// direct makes the project require the private module, which goes past the proxies to
// its repository.
func (l *lab) direct() (*modtest.Git, *modtest.GitRepo) {
	l.bad(l.world.Handler())
	g, r := l.repository()
	l.needs()
	l.goenv("GOPRIVATE", modtest.GitHost)
	return g, r
}

// sshd is a real SSH server at the Git host, for which git takes the place of https. Its
// host key is not known to the client, and the client has no key of its own but what
// the scenario gives it.
func (l *lab) sshd(g *modtest.Git) {
	dir := l.TempDir()
	l.net.Sh("mount -t tmpfs tmpfs /run && mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N '' -f " + dir + "/host && ssh-keygen -q -t ed25519 -N '' -f " + dir + "/client")
	// ssh looks for its files in the home directory that the system has, not in HOME.
	passwd := filepath.Join(dir, "passwd")
	l.Must(os.WriteFile(passwd, []byte("root:x:0:0:root:"+l.home+":/bin/sh\ngit:x:0:0:git:"+dir+":/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"), 0o644))
	l.net.Sh("mount --bind " + passwd + " /etc/passwd")
	conf := filepath.Join(dir, "sshd_config")
	l.Must(os.WriteFile(conf, []byte(fmt.Sprintf("ListenAddress %s:22\nHostKey %[2]s/host\nAuthorizedKeysFile %[2]s/known\nPermitRootLogin yes\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n", gitAddr, dir)), 0o644))
	public, err := os.ReadFile(filepath.Join(dir, "client.pub"))
	l.Must(err)
	l.Must(os.WriteFile(filepath.Join(dir, "known"), public, 0o644))
	l.net.Start(gitAddr+":22", "/usr/sbin/sshd", "-D", "-e", "-f", conf)
	l.file(".ssh/config", "")
	l.file(".gitconfig", "[url \"ssh://git@"+modtest.GitHost+g.Dir()+"/\"]\n\tinsteadOf = https://"+modtest.GitHost+"/\n[safe]\n\tdirectory = *\n")
	l.sshKey = func() {
		key, err := os.ReadFile(filepath.Join(dir, "client"))
		l.Must(err)
		l.file(".ssh/id_ed25519", string(key))
	}
	l.sshKnown = func() {
		host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
		l.Must(err)
		l.file(".ssh/known_hosts", modtest.GitHost+" "+string(host))
	}
}

// token makes git log in at the Git host.
func (l *lab) token(password string) {
	l.file(".gitconfig", "[url \"https://user:"+password+"@"+modtest.GitHost+"/\"]\n\tinsteadOf = https://"+modtest.GitHost+"/\n")
}

// imports makes the project a package that imports these.
func (l *lab) imports(paths ...string) {
	var text strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&text, "import _ %q\n", p)
	}
	l.in("app.go", "package app\n\n"+text.String())
}

const build = "go build -o /dev/null ./..."

// projects are what version control, versions and the project's own files have to do
// with it: what explain finds in the go command's output.
func projects() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	return []scenario{
		{name: "b7-ssh-host-key", rows: "B7 D1", title: "the SSH key of the Git host is not known", explains: true, planted: one(finding.SSHHostKey), set: func(l *lab) {
			g, _ := l.direct()
			l.sshd(g)
			l.sshKey()
		}},
		{name: "b7-ssh-key", rows: "B7 D1", title: "no SSH key that the Git host takes is there", explains: true, planted: one(finding.SSHKey), set: func(l *lab) {
			g, _ := l.direct()
			l.sshd(g)
			l.sshKnown()
		}, fixes: byHand(finding.SSHKey, "the key is put into ~/.ssh", func(l *lab) { l.sshKey() })},
		{name: "b7-ssh-port", rows: "B7", title: "a firewall drops packets to port 22, and the repository is to be had by https, too", explains: true, planted: one(finding.SSHPort), set: func(l *lab) {
			g, r := l.direct()
			l.sshd(g)
			l.file(".gitconfig", "")
			r.Page(private + " git ssh://git@" + modtest.GitHost + "/team/lib.git")
			l.net.Filter("ip daddr " + gitAddr + " tcp dport 22 reject")
		}},
		{name: "b7-rejected", rows: "B7", title: "git is told to use a token that the repository no longer takes", explains: true, planted: one(finding.VCSRejected), set: func(l *lab) {
			g, _ := l.direct()
			g.RequireGitAuth("user", "secret")
			l.token("expired")
		}, fixes: byHand(finding.VCSRejected, "a new token is put where git looks", func(l *lab) { l.token("secret") })},
		{name: "a11-no-repository", rows: "A11", title: "there is no repository where the go-import page says", explains: true, planted: one(finding.VCSRepoNotFound), set: func(l *lab) {
			_, r := l.direct()
			l.undo = func() { r.Break("") }
			r.Break(modtest.GitNotFound)
		}, fixes: byHand(finding.VCSRepoNotFound, "the repository is put back", func(l *lab) { l.undo() })},
		{name: "a11-no-import-tag", rows: "A11", title: "the page of the import path has no go-import tag", explains: true, planted: one(finding.NoGoImport), set: func(l *lab) {
			_, r := l.direct()
			l.undo = func() { r.BreakPage("") }
			r.BreakPage(modtest.GitHalf)
		}, fixes: byHand(finding.NoGoImport, "the server's pages get the tag", func(l *lab) { l.undo() })},
		{name: "a11-plain-http", rows: "A11", title: "the private host redirects from https to http", explains: true, planted: one(finding.InsecureScheme), set: func(l *lab) {
			g, _ := l.direct()
			plain := true
			l.net.Name(modtest.GitHost, otherAddr)
			l.net.Listen(otherAddr+":443", l.certificate(modtest.GitHost), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if plain {
					http.Redirect(w, r, "http://"+modtest.GitHost+r.URL.RequestURI(), http.StatusFound)
					return
				}
				g.Handler().ServeHTTP(w, r)
			}))
			l.undo = func() { plain = false }
		}, fixes: byHand(finding.InsecureScheme, "the server answers by https itself", func(l *lab) { l.undo() })},
		{name: "a11-govcs", rows: "A11", title: "GOVCS allows no version control system", explains: true, planted: one(finding.GOVCSDisallows), set: func(l *lab) {
			l.direct()
			l.goenv("GOVCS", "*:off")
		}},
		{name: "a11-no-git", rows: "A11 D1", title: "a private module goes to version control, and git is not installed", planted: one(finding.VCSMissing), set: func(l *lab) {
			l.direct()
			l.path = l.env["PATH"]
			bin := l.TempDir()
			for _, p := range []string{"go", "sh", "env"} {
				at, err := exec.LookPath(p)
				l.Must(err)
				l.Must(os.Symlink(at, filepath.Join(bin, p)))
			}
			l.env["PATH"] = bin
		}, fixes: byHand(finding.VCSMissing, "git is installed", func(l *lab) { l.env["PATH"] = l.path })},
		{name: "a19-pseudo", rows: "A19 A22", title: "a pseudo-version that contradicts its commit: the commit fails where tags work", explains: true, planted: one(finding.InvalidPseudo), set: func(l *lab) {
			_, r := l.direct()
			hash := r.Commit("main", map[string]string{"go.mod": "module " + private + "\n", "lib.go": "package lib\n\nconst New = true\n"})
			l.m.Version = "v1.0.1-0.20200101000000-" + hash[:12]
			l.gomod("")
		}, fixes: byHand(finding.InvalidPseudo, "the version that go get works out from the commit is required", func(l *lab) { l.needs() })},
		{name: "a19-no-package", rows: "A19", title: "go get of a package that its module has not got", explains: true, planted: one(finding.PackageNotFound), check: "go get ${PACKAGE:-example.org/m/nothing@v1.1.0}", set: well,
			fixes: byHand(finding.PackageNotFound, "the path is corrected", func(l *lab) { l.env["PACKAGE"] = "example.org/m@v1.1.0" })},
		{name: "a19-case", rows: "A19", title: "one package is imported in two spellings", explains: true, planted: one(finding.ImportCase), check: build, set: func(l *lab) {
			well(l)
			other := l.world.Add("example.org/M", "v1.0.0", nil)
			l.gomod("require example.org/M v1.0.0\n")
			l.in("go.sum", l.world.GoSum(l.m)+l.world.GoSum(other))
			l.imports("example.org/m", "example.org/M")
		}, fixes: byHand(finding.ImportCase, "one spelling is kept", func(l *lab) { l.imports("example.org/m") })},
		{name: "a19-major", rows: "A19", title: "a module of v2 is required without /v2", planted: one(finding.MissingMajorSuffix), set: func(l *lab) {
			well(l)
			l.world.Add("example.org/m/v2", "v2.0.0", nil)
			l.m.Version = "v2.0.0"
			l.gomod("")
		}},
		{name: "a20-ambiguous", rows: "A20", title: "two modules have the same package", explains: true, planted: one(finding.DependencyConflict), check: build, set: func(l *lab) {
			well(l)
			one := l.world.Add("example.org/two", "v1.0.0", modtest.Files{"go.mod": "module example.org/two\n", "sub/sub.go": "package sub\n", "two.go": "package two\n"})
			l.world.Add("example.org/two", "v1.1.0", modtest.Files{"go.mod": "module example.org/two\n", "two.go": "package two\n"})
			sub := l.world.Add("example.org/two/sub", "v1.0.0", modtest.Files{"go.mod": "module example.org/two/sub\n", "sub.go": "package sub\n"})
			l.gomod("require example.org/two v1.0.0\nrequire example.org/two/sub v1.0.0\n")
			l.in("go.sum", l.world.GoSum(l.m)+l.world.GoSum(one)+l.world.GoSum(sub))
			l.imports("example.org/two/sub", "example.org/two")
		}, fixes: byHand(finding.DependencyConflict, "the module that lags behind is raised: go get example.org/two@v1.1.0", func(l *lab) { l.run(goMay, "", "go", "get", "example.org/two@v1.1.0") })},
		{name: "a20-no-module", rows: "A20", title: "the command runs where there is no go.mod", explains: true, planted: one(finding.NoModule), check: "cd ${WHERE:-/} && go list .", set: func(l *lab) { well(l); l.imports() },
			fixes: byHand(finding.NoModule, "it runs in the directory of the module", func(l *lab) { l.env["WHERE"] = l.project })},
		{name: "a20-dubious", rows: "A20", title: "the project's repository belongs to somebody else, so git tells go build nothing", explains: true, planted: one(finding.BuildVCS), check: "go build -o /dev/null .", set: func(l *lab) {
			well(l)
			l.in("go.mod", "module app.example.net/app\n\ngo 1.21\n")
			l.in("main.go", "package main\n\nfunc main() {}\n")
			l.run(goMay, "", "sh", "-c", "git init -q . && git add -A && git -c user.name=a -c user.email=a@example.net commit -q -m a")
			l.net.Sh("chown -R 4712:4712 " + l.project)
		}, fill: map[string]string{"DIR": "$PROJECT"}},
		{name: "b1-off", rows: "B1 D8", title: "GOPROXY=off, and the module cache is empty", planted: one(finding.ProxyOff), set: func(l *lab) { l.source("off"); l.leads = append(l.defaults(), defaultAddr) }},
		{name: "b1-sluice-setting", rows: "B1", title: "a setting of Sluice is no duration", planted: one(finding.ConfigMalformed), check: "sluice run -- go mod download", set: func(l *lab) {
			well(l)
			l.env["SLUICE_LISTS_FRESH"] = "soon"
		}, fixes: byHand(finding.ConfigMalformed, "the variable is corrected", func(l *lab) { l.env["SLUICE_LISTS_FRESH"] = "1m" })},
		{name: "a13-empty", rows: "A13", title: "the source answers 200 with nothing", planted: one(finding.SourceEmpty), set: func(l *lab) { l.spoilt("empty") }},
	}
}
