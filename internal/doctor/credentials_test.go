package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

const password = "s3cret-hunter2"

// A corner is a company's git server, a user's home, and a go.mod that requires a
// private module.
type corner struct {
	t      *testing.T
	git    *modtest.Git
	repo   *modtest.GitRepo
	home   string
	mod    module.Version
	env    []string // beside what the server needs; a name without a value is taken away
	hasGit bool
	answer time.Duration
	page   http.RoundTripper // what answers for the page of the import path; nil: the server
	direct bool              // without a forward proxy, to this machine

	systemHome string // "" is the home
}

// only makes a directory of programs that has these and no others.
func (c *corner) only(programs ...string) (dir string) {
	c.t.Helper()
	dir = filepath.Join(c.home, "only")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	for _, p := range programs {
		at, err := exec.LookPath(p)
		if err == nil {
			err = os.Symlink(at, filepath.Join(dir, p))
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return dir
}

// LookupNetIP finds every name on this machine.
func (c *corner) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// errorPage is a 404 that has the tag all the same, as GitLab sends it.
var errorPage = roundTrip(func(r *http.Request) (*http.Response, error) {
	page := "<html><head><meta name=\"go-import\" content=\"" + r.URL.Host + "/team/lib git https://" + modtest.GitHost + "/team/lib.git\"></head></html>"
	return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(page)), Request: r}, nil
})

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newCorner(t *testing.T) *corner {
	c := &corner{t: t, git: modtest.GitServer(t), home: t.TempDir(), hasGit: true, answer: time.Minute}
	c.repo = c.git.Repo(modtest.GitHost + "/team/lib")
	c.repo.Commit("main", map[string]string{"go.mod": "module " + c.repo.Root + "\n"})
	c.mod = module.Version{Path: c.repo.Root, Version: "v1.0.0"}
	return c
}

// dotGit makes the path of the module one that says itself where the repository is.
func (c *corner) dotGit() { c.mod.Path = c.repo.Root + ".git" }

// file writes a file of the home directory, and gives its name.
func (c *corner) file(name, text string, mode os.FileMode) string {
	c.t.Helper()
	name = filepath.Join(c.home, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		c.t.Fatal(err)
	}
	return name
}

// machine is a netrc file for the server, as far as words say.
func machine(words string) string { return "machine " + modtest.GitHost + " " + words + "\n" }

func (c *corner) subject() *Subject {
	environ := append(c.git.Environ(), "HOME="+c.home, "USERPROFILE="+c.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_SSH_COMMAND=false", "GOPRIVATE="+modtest.GitHost, "GOMODCACHE="+filepath.Join(c.home, "mod"))
	for _, kv := range c.env {
		name, _, set := strings.Cut(kv, "=")
		if environ = slices.DeleteFunc(environ, func(old string) bool { return strings.HasPrefix(old, name+"=") }); set {
			environ = append(environ, kv)
		}
	}
	get := func(name string) (value string) {
		for _, kv := range environ {
			if k, v, _ := strings.Cut(kv, "="); k == name {
				value = v
			}
		}
		return value
	}
	settings := goenv.Load(environ, nil, "", "")
	s := &Subject{
		Settings: settings, Getenv: get, Environ: environ, Place: finding.Terminal, HasGo: true, HasGit: c.hasGit, Project: "go.mod", Required: []string{c.mod.Path}, Selected: []module.Version{c.mod},
		GoVersion: func(context.Context) (string, error) { return "go1.99", nil }, Limits: Limits{Lookup: time.Minute, Answer: c.answer}, Notes: &Notebook{},
		NoProxy: goenv.Patterns(settings.Get("GONOPROXY").Value), NoSumDB: goenv.Patterns(settings.Get("GONOSUMDB").Value),
		Findable: func(program string) bool {
			return slices.ContainsFunc(filepath.SplitList(get("PATH")), func(dir string) bool { return !missing(filepath.Join(dir, program)) })
		}, SystemHome: c.systemHome,
		Explain: func(text string) (finding.Code, string) {
			r := explain.Text(text)
			return r.Code, r.Line
		},
	}
	pem, err := os.ReadFile(c.git.CAFile)
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	proxy, _ := url.Parse(c.git.Proxy)
	s.PrivateNet = func(host string, withLogin bool) *upstream.Net {
		n := upstream.NetConfig{Connect: time.Minute, Timeout: time.Minute, Wrap: s.Notes.Wrap, TLS: &tls.Config{RootCAs: roots}, Proxy: http.ProxyURL(proxy)}
		if c.direct {
			n.Proxy, n.Resolver = nil, c
		}
		if c.page != nil {
			n.Wrap = func(name string, _ http.RoundTripper) http.RoundTripper { return s.Notes.Wrap(name, c.page) }
		}
		file := get("NETRC")
		if file == "" {
			file = filepath.Join(c.home, ".netrc")
		}
		if data, err := os.ReadFile(file); err == nil && withLogin && get("GOAUTH") != "off" {
			if user, pw, ok := goenv.NetrcLogin(string(data), host); ok {
				n.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pw))
			}
		}
		made := upstream.NewNet(n)
		c.t.Cleanup(made.Close)
		return made
	}
	return s
}

// seen is what the ways to private modules show, but what is well: rows and codes.
func (c *corner) seen() (string, Report) {
	c.t.Helper()
	s := c.subject()
	checks := append([]Check{{ID: "machine.git", Group: "Machine", Title: "git", Run: func(context.Context, Seen) Outcome { return s.git() }}}, s.privateChecks()...)
	r := Run(c.t.Context(), "", checks, 2*time.Minute)
	var all []string
	for _, row := range r.Rows {
		if row.State != OK && row.State != NA && row.State != Skip {
			all = append(all, fmt.Sprintf("%s %s %s", strings.TrimPrefix(row.ID, "private.1."), row.State, row.Code))
		}
	}
	return strings.TrimSpace(strings.Join(all, ", ")), r
}

func TestWhetherThePrivateModulesOfAProjectCanBeHadIsTold(t *testing.T) {
	modtest.GitNeed(t, "git")
	if runtime.GOOS == "windows" {
		t.Skip("the helpers are scripts of a shell")
	}
	right, wrong := machine("login joe password "+password), machine("login joe password "+password+"-of-old")
	helper := func(c *corner, pw string) string {
		c.file(".gitconfig", "[credential \"https://"+modtest.GitHost+"\"]\n\thelper = \"!"+c.file("helper", "#!/bin/sh\necho \"$1\" >> '"+c.home+"/asked'\nif test \"$1\" = get; then echo username=joe; echo password="+pw+"; fi\n", 0o700)+"\"\n", 0o600)
		return ""
	}
	for _, tt := range []struct {
		name string
		set  func(*corner)
		want string // "" is all well
		text string // in what was seen
		fix  string
	}{
		{"open to all", func(*corner) {}, "", "answers git in", ""},
		{"a login in netrc", func(c *corner) { c.git.RequireAuth("joe", password); c.file(".netrc", right, 0o600) }, "", "has a login for git.modtest.example", ""},
		{"a path that says where it is", func(c *corner) { c.dotGit() }, "", "answers git in", ""},
		{"a login of a helper", func(c *corner) { c.git.RequireAuth("joe", password); c.dotGit(); helper(c, password) }, "", "credential helper helper", ""},
		{"a rewrite", func(c *corner) {
			c.mod.Path = modtest.GitHost + "/old/name.git"
			c.file(".gitconfig", "[url \"https://"+modtest.GitHost+"/team/lib.git\"]\n\tinsteadOf = https://"+modtest.GitHost+"/old/name.git\n", 0o600)
		}, "", "by url.insteadOf", ""},
		{"a page of an error that has the tag", func(c *corner) { c.page = errorPage }, "", "answers git in", ""},

		{"no login", func(c *corner) { c.git.RequireAuth("joe", password) }, "page fail SL-VCS-003", "answers 401 without a login", "${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"},
		{"a login that is refused", func(c *corner) { c.git.RequireAuth("joe", password); c.file(".netrc", wrong, 0o600) }, "page fail SL-VCS-004", "answers 401 to the login of", ""},
		{"an entry without a login", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.file(".netrc", machine("password "+password), 0o600)
		}, "page fail SL-VCS-003", "without a login or without a password, which counts for nothing", ""},
		{"an entry of another host", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.file(".netrc", "machine other.example login a password "+password+"\n", 0o600)
		}, "page fail SL-VCS-003", "has logins for other hosts only", ""},
		{"a default entry, which go does not read", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.file(".netrc", "default login joe password "+password+"\n", 0o600)
		}, "page fail SL-VCS-003", "has a default entry, which the go command does not use", ""},
		{"a netrc file that is not there", func(c *corner) { c.git.RequireAuth("joe", password); c.env = []string{"NETRC=/nowhere/netrc"} }, "page fail SL-VCS-003", "NETRC names /nowhere/netrc, which is not there", "unset NETRC"},
		{"a netrc file that git does not read", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.env = []string{"NETRC=" + c.file("elsewhere", right, 0o600)}
		}, "repository fail SL-VCS-003", "which NETRC names, has a login for it, and git reads ~/.netrc alone", "unset NETRC"},
		{"a netrc file that cannot be read", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.file(".netrc/x", right, 0o600) // a directory
		}, "page fail SL-VCS-003", ".netrc cannot be read", "ls -l '"},
		{"a netrc file of the home that the system knows", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.systemHome = filepath.Dir(c.file("real/.netrc", right, 0o600))
		}, "page fail SL-VCS-003", "the home that the system has for this user, where a netrc file has a login", "echo $HOME"},
		{"a netrc file that GOAUTH leaves alone", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.file(".netrc", right, 0o600)
			c.env = []string{"GOAUTH=off"}
		}, "page fail SL-VCS-003", "GOAUTH is off (environment), so the go command does not read it", "go env -u GOAUTH"},
		{"an old git", func(c *corner) {
			c.dotGit()
			c.file("bin/git", "#!/bin/sh\ncase \"$*\" in *ls-remote*) echo \"error: unknown option \\`end-of-options'\" >&2; exit 129;; esac\n", 0o700)
			c.env = []string{"PATH=" + filepath.Join(c.home, "bin") + ":" + os.Getenv("PATH")}
		}, "repository fail SL-VCS-001", "it is older than 2.24", ""},
		{"no ssh", func(c *corner) {
			c.dotGit()
			c.file(".gitconfig", "[url \"git@"+modtest.GitHost+":\"]\n\tinsteadOf = https://"+modtest.GitHost+"/\n", 0o600)
			c.env = []string{"PATH=" + c.only("git", "sh"), "GIT_SSH_COMMAND="}
		}, "repository fail SL-VCS-001", "by SSH, and there is no ssh in PATH", "sudo apt-get install -y openssh-client"},
		{"a command of GOAUTH, which is not run", func(c *corner) { c.git.RequireAuth("joe", password); c.env = []string{"GOAUTH=get-token --now"} }, "page unknown", "GOAUTH has a command for that, which is not run here", ""},

		{"no login for git", func(c *corner) { c.git.RequireAuth("joe", password); c.dotGit() }, "repository fail SL-VCS-003", "could not read Username", ""},
		{"a program that git would ask", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.dotGit()
			c.env = []string{"GIT_ASKPASS=" + c.file("ask", "#!/bin/sh\ntouch '"+c.home+"/asked'\n", 0o700)}
		}, "repository unknown", "would ask the program of GIT_ASKPASS, which is not done here", ""},
		{"a login that git is refused", func(c *corner) { c.git.RequireAuth("joe", password); c.dotGit(); c.file(".netrc", wrong, 0o600) }, "repository fail SL-VCS-004", "was not taken", ""},
		{"a helper's login that is refused", func(c *corner) { c.git.RequireAuth("joe", password); c.dotGit(); helper(c, password+"-of-old") }, "repository fail SL-VCS-004", "Authentication failed", ""},
		{"no such repository", func(c *corner) { c.mod.Path = modtest.GitHost + "/team/gone.git" }, "repository fail SL-VCS-005", "no login was sent, and a host may answer so", "git config --get-regexp insteadof"},
		{"no such path", func(c *corner) { c.mod.Path = modtest.GitHost + "/team/gone" }, "page fail SL-VCS-009", "answers 404", ""},
		{"a page about something else", func(c *corner) { c.repo.Page("git.modtest.example/other git https://git.modtest.example/other.git") }, "page fail SL-VCS-009", "has no go-import tag", ""},
		{"a repository without encryption", func(c *corner) { c.repo.Page(c.repo.Root + " git http://" + modtest.GitHost + "/team/lib.git") }, "repository fail SL-VCS-008", "takes http only where GOINSECURE matches", "go env -w GOINSECURE=git.modtest.example"},
		{"and allowed", func(c *corner) {
			c.repo.Page(c.repo.Root + " git http://" + modtest.GitHost + "/team/lib.git")
			c.env = []string{"GOINSECURE=" + modtest.GitHost}
		}, "", "", ""},
		{"a module of Subversion", func(c *corner) { c.repo.Page(c.repo.Root + " svn https://" + modtest.GitHost + "/team/lib") }, "", "not one of git", ""},
		{"a server in trouble", func(c *corner) { c.repo.BreakPage(modtest.GitUnavailable) }, "page fail SL-SRC-005", "answers 503", ""},
		{"a host that NO_PROXY lacks", func(c *corner) { c.mod.Path, c.env = "git.corp.example/a", []string{"GOPRIVATE=git.corp.example"} }, "page fail SL-FWD-002", "since NO_PROXY does not name it", `export NO_PROXY="$NO_PROXY,git.corp.example"`},
		{"git is not allowed", func(c *corner) { c.env = []string{"GOVCS=private:hg"} }, "login fail SL-VCS-007", "GOVCS is private:hg", ""},
		{"GOVCS that is none", func(c *corner) { c.env = []string{"GOVCS=git"} }, "login fail SL-ENV-003", "GOVCS is git", ""},
		{"certificates that git does not look at", func(c *corner) { c.file(".gitconfig", "[http]\n\tsslVerify = false\n", 0o600) }, "login warn SL-ENV-005", "git takes any certificate for git.modtest.example, by http.sslverify", "git config --global --unset-all http.sslverify"},
		{"but for this host", func(c *corner) {
			c.file(".gitconfig", "[http \"https://"+modtest.GitHost+"\"]\n\tsslVerify = true\n[http]\n\tsslVerify = false\n", 0o600)
		}, "", "", ""},
		{"a forward proxy of git's own that is not there", func(c *corner) {
			c.dotGit()
			c.file(".gitconfig", "[http \"https://"+modtest.GitHost+"/\"]\n\tproxy = http://joe:"+password+"@127.0.0.1:1\n", 0o600)
		}, "repository fail SL-FWD-002", "git goes to git.modtest.example through http://***@127.0.0.1:1, by its setting http.https://git.modtest.example/.proxy", "git config --global --unset-all http.https://git.modtest.example/.proxy"},
		{"authorities of git's own without that of the host", func(c *corner) {
			c.dotGit()
			c.env = []string{"GIT_SSL_CAINFO"}
			c.file(".gitconfig", "[http \"https://"+modtest.GitHost+"/\"]\n\tsslCAInfo = "+c.file("old.pem", string(modtest.NewAuthority(c.t, "Old").PEM), 0o600)+"\n", 0o600)
		}, "repository fail SL-TLS-001", "alone for git.modtest.example, by its setting http.https://git.modtest.example/.sslcainfo", "git config --global --replace-all http.https://git.modtest.example/.sslcainfo FILE"},
		{"authorities of git's own in its environment", func(c *corner) {
			c.dotGit()
			c.env = []string{"GIT_SSL_CAINFO=" + c.file("old.pem", string(modtest.NewAuthority(c.t, "Old").PEM), 0o600)}
		}, "repository fail SL-TLS-001", "alone for git.modtest.example, by GIT_SSL_CAINFO", "export GIT_SSL_CAINFO='FILE'"},
		{"there is no git", func(c *corner) { c.hasGit = false }, "machine.git fail SL-VCS-001", "git is not in PATH", ""},
		{"no login, and nobody needs one now", func(c *corner) {
			c.git.RequireAuth("joe", password)
			c.file("mod/cache/download/"+modtest.GitHost+"/team/lib/@v/v1.0.0.zip", "", 0o600)
		}, "page warn SL-VCS-003", "the module cache still has what go.mod requires", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCorner(t)
			tt.set(c)
			got, r := c.seen()
			text := r.Text(TextOptions{All: true})
			if got != tt.want || !strings.Contains(text, tt.text) || tt.fix != "" && !strings.Contains(text, "    "+tt.fix) {
				t.Errorf("it is %q, want %q with %q and %q, in\n%s", got, tt.want, tt.text, tt.fix, text)
			}
			if strings.Contains(text, password) {
				t.Errorf("a password is in\n%s", text)
			}
			asked, _ := os.ReadFile(filepath.Join(c.home, "asked"))
			if s := strings.TrimSpace(strings.ReplaceAll(string(asked), "get\n", "")); s != "" || tt.name == "a program that git would ask" && asked != nil {
				t.Errorf("a helper was asked for more than it has: %q", asked)
			}
			if others := slices.DeleteFunc(c.git.Refused(), func(h string) bool { return strings.HasPrefix(c.mod.Path, h+"/") }); len(others) > 0 {
				t.Errorf("other hosts were asked: %q", others)
			}
		})
	}
}

// An ssh that plays the server too.
const fakeSSH = `#!/bin/sh
echo "$*" >> "$HOME/ssh-args"
for a; do test "$a" = -G && { echo "user git
stricthostkeychecking ask
identityfile ~/.ssh/id_ed25519
userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2"; exit 0; }; done
case "$(cat "$HOME/mode")" in
works) exec git upload-pack "$HOME/repo.git";;
key) echo "git@git.modtest.example: Permission denied (publickey)." >&2; exit 255;;
host) echo "No ED25519 host key is known for git.modtest.example and you have requested strict checking." >&2; echo "Host key verification failed." >&2; exit 255;;
changed) echo "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @" >&2; echo "Host key verification failed." >&2; exit 255;;
port) echo "ssh: connect to host git.modtest.example port 22: Connection timed out" >&2; exit 255;;
gone) echo "ERROR: Repository not found." >&2; exit 1;;
esac
`

func TestSSHIsTriedWithoutAskingAndToldApart(t *testing.T) {
	modtest.GitNeed(t, "git", "sh")
	for _, tt := range []struct {
		mode string
		set  func(*corner)
		want string
		text string
	}{
		{"works", func(*corner) {}, "", "answers git in"},
		{"works", func(c *corner) { // where https does not
			c.repo.Break(modtest.GitUnavailable)
			c.file(".gitconfig", "", 0o600)
		}, "", "answers git in"},
		{"key", func(*corner) {}, "repository fail SL-SSH-001", "no key file is there, and there is no agent"},
		{"key", func(c *corner) {
			c.file(".ssh/id_ed25519", "not a key", 0o600)
			c.env = append(c.env, "SSH_AUTH_SOCK=/nowhere")
		}, "repository fail SL-SSH-001", "SSH_AUTH_SOCK leads to no agent"},
		{"key", func(c *corner) { c.file(".ssh/id_ed25519", lockedKey, 0o600) }, "repository fail SL-SSH-001", "is locked by a passphrase, and there is no agent"},
		{"host", func(*corner) {}, "repository fail SL-SSH-002", "there is no "},
		{"changed", func(*corner) {}, "repository fail SL-SSH-002", "ssh-keygen -R 'git.modtest.example'"},
		{"port", func(*corner) {}, "repository fail SL-SSH-003", "Connection timed out"},
		{"gone", func(*corner) {}, "repository fail SL-VCS-005", "Repository not found"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir()) // what is left there is nobody else's
			c := newCorner(t)
			c.dotGit()
			c.file("mode", tt.mode, 0o600)
			known := c.file("kept/known_hosts", "h k\n", 0o600)
			c.file("bin/ssh", fakeSSH, 0o700)
			c.file(".gitconfig", "[url \"git@"+modtest.GitHost+":\"]\n\tinsteadOf = https://"+modtest.GitHost+"/\n", 0o600)
			if out, err := exec.Command("git", "init", "--quiet", "--bare", filepath.Join(c.home, "repo.git")).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			c.env = []string{"PATH=" + filepath.Join(c.home, "bin") + ":" + os.Getenv("PATH"), "GIT_SSH_COMMAND="}
			tt.set(c)
			if strings.HasPrefix(tt.mode, "works") {
				c.file(".ssh/known_hosts", "h k\n", 0o600)
			}
			got, r := c.seen()
			text := r.Text(TextOptions{All: true})
			if got != tt.want || !strings.Contains(text, tt.text) {
				t.Errorf("it is %q, want %q with %q, in\n%s", got, tt.want, tt.text, text)
			}
			args, _ := os.ReadFile(filepath.Join(c.home, "ssh-args"))
			for line := range strings.Lines(string(args)) {
				if !strings.Contains(line, "-G") && (!strings.Contains(line, "-oBatchMode=yes") || strings.Contains(line, c.home+"/.ssh/known_hosts")) {
					t.Errorf("ssh was called as %s", line)
				}
			}
			if data, err := os.ReadFile(known); err != nil || string(data) != "h k\n" {
				t.Errorf("known_hosts was changed: %q, %v", data, err)
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "sluice-doctor-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// The head of a key with a passphrase: its cipher is named, and nothing else is there.
var lockedKey = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString([]byte("openssh-key-v1\x00\x00\x00\x00\x0aaes256-ctr\x00\x00\x00\x06bcrypt")) + "\n-----END OPENSSH PRIVATE KEY-----\n"

func TestAServerThatHangsCostsNoMoreThanItsTime(t *testing.T) {
	t.Parallel()
	c := newCorner(t)
	c.dotGit()
	c.repo.Break(modtest.GitHang)
	c.answer = 10 * time.Second // and no less: what answers may take as long on a busy machine
	if got, r := c.seen(); got != "repository incomplete" {
		t.Errorf("it is %q, in\n%s", got, r.Text(TextOptions{All: true}))
	}
}

// The host answers at no port but that of http.
func TestAHostWithoutEncryptionIsToldApart(t *testing.T) {
	if conn, err := net.Dial("tcp", "127.0.0.1:443"); err == nil {
		conn.Close()
		t.Skip("this machine serves https")
	}
	const host = "git.corp.internal"
	for allowed, want := range map[string]string{"": "connect fail SL-NET-002, insecure fail SL-VCS-008", host: ""} {
		c := newCorner(t)
		c.mod.Path = host + "/team/lib"
		c.env = []string{"GOPRIVATE=" + host, "GOINSECURE=" + allowed}
		c.page = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Scheme != "http" || r.Header.Get("Authorization") != "" {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			return errorPage(r)
		})
		c.file(".netrc", "machine "+host+" login joe password "+password+"\n", 0o600)
		c.direct = true
		got, r := c.seen()
		if got != want {
			t.Errorf("with GOINSECURE=%s it is %q, want %q, in\n%s", allowed, got, want, r.Text(TextOptions{All: true}))
		}
		if want != "" && (len(r.Findings) != 1 || r.Findings[0].Code != finding.InsecureScheme) {
			t.Errorf("the findings are %+v", r.Findings)
		}
	}
}

func TestWhatVendorHasNeedsNoLoginNow(t *testing.T) {
	s, dir := onDisk(t, "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire git.corp.example/a.git v1.0.0\n-- app/vendor/modules.txt --\n# git.corp.example/a.git v1.0.0\n## explicit\ngit.corp.example/a.git\n", "GOPRIVATE=git.corp.example", "GOVCS=private:off")
	s.Selected = []module.Version{{Path: "git.corp.example/a.git", Version: "v1.0.0"}}
	state := func() State {
		return Run(t.Context(), "", append([]Check{check("machine.git", 0, fine)}, s.privateChecks()[:1]...), time.Minute).Rows[1].State
	}
	if got := state(); got != Warn {
		t.Errorf("with vendor it is %s", got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "app", "vendor")); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != Fail {
		t.Errorf("without vendor it is %s", got)
	}
}

func TestOneModuleOfEachOwnerIsTriedAndOnlyPrivateOnes(t *testing.T) {
	s := &Subject{Settings: goenv.Load([]string{"GOPRIVATE=*.corp.example,github.com/us"}, nil, "", ""), NoProxy: "*.corp.example,github.com/us"}
	for _, path := range []string{"example.com/a", "github.com/us/b/v2", "github.com/us/c", "github.com/them/c", "git.corp.example/x/y/z", "git.corp.example/x/w", "svn.corp.example/a.svn/b", "go.corp.example/q", "a.corp.example/1", "a.corp.example/2"} {
		s.Selected = append(s.Selected, module.Version{Path: path, Version: "v1.0.0"})
	}
	ways, more := s.privates()
	var got []string
	for _, w := range ways {
		got = append(got, w.id+" "+w.path+" "+w.vcs+" "+w.repo)
	}
	want := []string{"private.1 github.com/us/b/v2 git https://github.com/us/b", "private.2 git.corp.example/x/y/z  ", "private.3 svn.corp.example/a.svn/b svn https://svn.corp.example/a.svn", "private.4 go.corp.example/q  "}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || more != 2 {
		t.Errorf("%q, and %d more", got, more)
	}
}

func TestAGOAUTHThatTheGoCommandStopsAtIsFound(t *testing.T) {
	dir := t.TempDir()
	for value, want := range map[string]State{
		"": OK, "netrc": OK, "off": OK, "git " + dir: OK, "netrc;git " + dir: OK, "token --all": OK,
		"off;netrc": Fail, "netrc;": Fail, "git": Fail, "git here": Fail, "git " + dir + "/gone": Fail, "nothing-like-it": Warn,
	} {
		s := &Subject{Settings: goenv.Load([]string{"GOAUTH=" + value}, nil, "", ""), Findable: func(p string) bool { return p == "token" }}
		if out := s.goauth(); out.State != want {
			t.Errorf("GOAUTH=%s is %s: %s", value, out.State, out.Text)
		}
	}
}

func TestWhatGitWasToldIsReadAsGitReadsIt(t *testing.T) {
	g := parseGitSettings("url.git@h.example:.insteadof\nhttps://h.example/\x00url.https://m.example/x/.insteadof\nhttps://h.example/x/\x00credential.helper\nstore\x00" +
		"credential.https://h.example.helper\n\x00credential.https://h.example.helper\n!/opt/tools/token get\x00credential.https://*.corp.example.helper\nmanager\x00http.https://h.example.proxy\nhttp://p\x00core.bare\x00")
	for address, want := range map[string]string{
		"https://h.example/a.git": "git@h.example:a.git", "https://h.example/x/a.git": "https://m.example/x/a.git", "https://k.example/a": "https://k.example/a",
	} {
		if got, _ := g.rewrite(address); got != want {
			t.Errorf("%s becomes %s, want %s", address, got, want)
		}
	}
	for address, want := range map[string]string{"https://h.example/a": "token", "https://k.example/": "store", "https://git.corp.example/": "store manager"} {
		if got := strings.Join(g.helpers(address), " "); got != want {
			t.Errorf("%s has the helpers %q, want %q", address, got, want)
		}
	}
	if !g.own("https://h.example/a") || g.own("https://k.example/a") {
		t.Error("whose proxy that is was read wrongly")
	}
	for address, want := range map[string]remoteAddress{
		"git@h.example:a/b.git":       {"ssh", "git", "h.example", ""},
		"ssh://h.example:2222/a":      {"ssh", "", "h.example", "2222"},
		"git+ssh://u@h.example/a":     {"ssh", "u", "h.example", ""},
		"https://u:p@h.example:8443/": {"https", "u", "h.example", "8443"},
	} {
		if got, ok := parseRemote(address); !ok || got != want {
			t.Errorf("%s is %+v, %v", address, got, ok)
		}
	}
	for _, address := range []string{"", "/srv/git/a", "../a", "a b:c", "https:///x", "C:/x", "ext::sh -c x", "fd::17", "codecommit::eu-west-1://x"} {
		if got, ok := parseRemote(address); ok && got.host != "C" {
			t.Errorf("%s is %+v", address, got)
		}
	}
}

func TestATokenBeforeACredentialHelperIsNotShown(t *testing.T) {
	for value, want := range map[string]string{
		"!PAT=hunter2 /opt/tools/token get": "token", "!PAT=hunter2": "?", "!": "?", "store --file=/x": "store", "!f() { echo password=hunter2; }; f": "f()",
	} {
		g := parseGitSettings("credential.helper\n" + value + "\x00")
		if got := strings.Join(g.helpers("https://h.example/a"), " "); got != want {
			t.Errorf("%s is called %q, want %q", value, got, want)
		}
	}
}

func TestAPageThatNamesWhatTheGoCommandDoesNotTakeIsNotFollowed(t *testing.T) {
	p := &private{s: &Subject{Settings: goenv.Load(nil, nil, "", "")}, path: "h.example/a"}
	for _, repo := range []string{"ext::sh -c true", "ext::ssh://h.example/a", "file://h.example/srv/a.git", "any://h.example/a", "--upload-pack=x"} {
		out := p.lsRemote(t.Context(), login{}, goImport{"h.example/a", "git", repo}, time.Minute)
		if out.State != NA || !strings.Contains(out.Text, "not tried here") {
			t.Errorf("%s: %s %s", repo, out.State, out.Text)
		}
	}
}

func FuzzGitSettings(f *testing.F) {
	f.Add("url.a.insteadof\nb\x00credential.https://h.helper\nx\x00http..proxy\n\x00credential.helper", "https://h/x", `<meta name="go-import" content="a git https://b">`)
	f.Add("credential.\x00url.insteadof\nhttps", "git@h:x", "<head><META NAME=go-import content='a b c d'/></head>")
	f.Fuzz(func(t *testing.T, config, address, page string) {
		g := parseGitSettings(config)
		if to, base := g.rewrite(address); base == "" && to != address && !strings.HasSuffix(address, to) {
			t.Errorf("%q becomes %q by nothing", address, to)
		}
		g.helpers(address)
		g.own(address)
		g.last(address)
		if r, ok := parseRemote(address); ok && r.host == "" {
			t.Errorf("%q has no host", address)
		}
		imports, _ := parseGoImports(strings.NewReader(page))
		if found, ok := importOf(imports, address); ok && !strings.HasPrefix(address, found.prefix) {
			t.Errorf("%q is not about %q", found, address)
		}
		parseSSHSettings(config, "/home/x")
		isLocked([]byte(config))
		scopeCovers(address, page)
	})
}
