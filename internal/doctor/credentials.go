package doctor

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/upstream"
)

// maxPrivate is how many repositories of private modules are tried: about a second's
// work each, side by side.
const maxPrivate = 4

// private is the way of one private module to its repository; those of other modules
// of the same owner are taken to be like it.
type private struct {
	s      *Subject
	id     string
	path   string // of the module
	host   string
	repo   string      // the repository's address; "" if a page has to say it
	any    bool        // by https or by ssh, whichever answers, as the path names no scheme
	vcs    string      // of repo
	cached bool        // the module cache has all modules of this way
	vendor func() bool // whether the vendor directory has them
}

// What the go command knows of paths without asking anybody: cmd/go/internal/vcs.
var (
	wellKnown = regexp.MustCompile(`^(?:(?:github\.com|bitbucket\.org)/[\w.\-]+/[\w.\-]+|hub\.jazz\.net/git/[a-z0-9]+/[\w.\-]+)`)
	withVCS   = regexp.MustCompile(`^((?:[a-z0-9.\-]+\.)+[a-z0-9.\-]+(?:/~?[\w.\-]+)+?\.(bzr|fossil|git|hg|svn))(?:/~?[\w.\-]+)*$`)
)

// plainKey is a key of git's settings that stands in a command as it is.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9:/._-]+$`)

// privates are the ways to private modules.
func (s *Subject) privates() (ways []*private, more int) {
	at := map[string]*private{}
	vendor := sync.OnceValue(func() bool { return s.vendor(s.open()).State == OK })
	cache := s.Settings.Get("GOMODCACHE").Value
	for _, m := range s.Selected {
		host, rest, _ := strings.Cut(m.Path, "/")
		if !s.NoProxy.Match(m.Path) || !plainHost.MatchString(host) || !strings.Contains(host, ".") {
			continue
		}
		owner, _, _ := strings.Cut(rest, "/")
		p := &private{s: s, path: m.Path, host: host, cached: true, vendor: vendor}
		if root := wellKnown.FindString(m.Path); root != "" {
			p.repo, p.vcs = "https://"+root, "git"
		} else if w := withVCS.FindStringSubmatch(m.Path); w != nil {
			p.repo, p.vcs, p.any = "https://"+w[1], w[2], true
		}
		key := host + "/" + owner
		if at[key] == nil {
			if len(ways) == maxPrivate {
				more++
				continue
			}
			p.id = fmt.Sprintf("private.%d", len(ways)+1)
			at[key], ways = p, append(ways, p)
		}
		at[key].cached = at[key].cached && cachedZip(cache, m)
	}
	return ways, more
}

// privateChecks are those of the ways to private modules.
func (s *Subject) privateChecks() (checks []Check) {
	ways, more := s.privates()
	for _, p := range ways {
		group := "Private modules: " + p.path
		add := func(id, title, link string, needs, after []string, run func(context.Context, Seen) Outcome) {
			checks = append(checks, Check{ID: p.id + "." + id, Group: group, Title: title, Link: link, Needs: needs, After: after, Run: func(ctx context.Context, seen Seen) Outcome {
				return p.soften(run(ctx, seen))
			}})
		}
		add("login", "credentials", "version control", nil, []string{"machine.git"}, p.login)
		needs := []string{p.id + ".login"}
		if s.PrivateNet != nil {
			n, bare := s.PrivateNet(p.host, true), s.PrivateNet(p.host, false)
			w := way{id: p.id, group: group, net: n, url: &url.URL{Scheme: "https", Host: p.host}, needs: needs, after: needs, gate: p.gate,
				turn: func(out Outcome, _ Seen) Outcome { return p.soften(out) }}
			checks = append(checks, s.steps(w)...)
			add("insecure", "without encryption", "version control", needs, []string{p.id + ".connect", w.tls()}, func(ctx context.Context, seen Seen) Outcome { return p.insecure(ctx, bare, seen) })
			add("page", "import path", "version control", w.end(), needs, func(ctx context.Context, seen Seen) Outcome { return p.page(ctx, n, bare, seen) })
			needs = append(needs, p.id+".page")
		}
		add("repository", "repository", "version control", append(needs, "machine.git"), nil, p.repository)
	}
	if more > 0 {
		checks = append(checks, Check{ID: "private.more", Group: "Private modules", Title: "others", Run: func(context.Context, Seen) Outcome {
			return Outcome{State: NA, Text: fmt.Sprintf("%d more private modules, of other owners, are not tried", more)}
		}})
	}
	return checks
}

// soften makes a failure about what is here already a warning: the builds that this
// go.mod needs do not go there.
func (p *private) soften(out Outcome) Outcome {
	out = p.swept(out)
	switch {
	case out.State != Fail:
	case p.cached:
		out.State = Warn
		out.Text += "; the module cache still has what go.mod requires"
	case p.vendor():
		out.State = Warn
		out.Text += "; the vendor directory has what is built"
	}
	return out
}

// swept is the outcome of a failure that the module met only since a pattern for all the
// world leads past the proxies: that is the cause.
func (p *private) swept(out Outcome) Outcome {
	glob := p.s.NoProxy.Which(p.path)
	if out.State != Fail || broad(goenv.Patterns(glob)) == "" {
		return out
	}
	name := "GONOPROXY"
	if p.s.Settings.Get(name).Where == "follows GOPRIVATE" {
		name = "GOPRIVATE"
	}
	out = p.s.mean(Fail, finding.VerificationOff, name, fmt.Sprintf("%s has the pattern %s, so %s is fetched past the proxies, which fails: %s", name, glob, p.path, out.Text))
	if p.s.Place == finding.Terminal || p.s.Place == finding.PowerShell {
		out.Finding.Fix = p.s.unset([]string{name})
	}
	out.Explains = []string{"settings.verification"}
	return out
}

// mean is Subject.mean about the module of this way.
func (p *private) mean(code finding.Code, text string) Outcome {
	out := p.s.mean(Fail, code, "", text)
	f := finding.At(code, p.s.Place).With(finding.StandInHost, p.host).With(finding.StandInModule, p.path)
	if pattern := p.s.NoProxy.Which(p.path); pattern != "" {
		f = f.With(finding.StandInPattern, pattern)
	}
	out.Finding, out.Subject = &f, p.path
	return out
}

// A login is what is known of the credentials for a way before anybody is asked.
type login struct {
	git   gitSettings
	netrc netrcSeen
	auth  bool // GOAUTH has a command, which is not run here
}

func (p *private) login(ctx context.Context, seen Seen) Outcome {
	s := p.s
	vcs := p.vcs
	if vcs == "" {
		vcs = "git"
	}
	set := s.Settings.Get("GOVCS")
	if err := goenv.CheckVCS(set.Value); err != nil {
		return p.s.mean(Fail, finding.GoEnvMalformed, "GOVCS", "GOVCS is "+from(set)+": "+err.Error())
	}
	if !goenv.AllowsVCS(set.Value, goenv.Patterns(s.Settings.Get("GOPRIVATE").Value), p.path, vcs) {
		return p.mean(finding.GOVCSDisallows, fmt.Sprintf("GOVCS is %s, which does not allow %s for %s", set.Value, vcs, p.path))
	}
	l := login{netrc: s.readNetrc(p.host)}
	for cmd := range strings.SplitSeq(s.Settings.Get("GOAUTH").Value, ";") {
		if cmd = strings.TrimSpace(cmd); cmd != "netrc" && cmd != "off" && cmd != "" {
			l.auth = true
		}
	}
	var texts []string
	if l.netrc.login {
		texts = append(texts, fmt.Sprintf("%s has a login for %s", l.netrc.file, p.host))
	}
	if l.auth {
		texts = append(texts, "GOAUTH has a command")
	}
	if s.HasGit {
		out, _, _, err := s.tool(ctx, nil, "git", "config", "--null", "--list")
		if err != nil {
			return Outcome{State: NA, Text: "git does not say its settings: " + finding.OneLine(err.Error(), 200), Fact: l}
		}
		l.git = parseGitSettings(out)
		address := p.repo
		if address == "" {
			address = "https://" + p.host + "/"
		}
		to, base := l.git.rewrite(address)
		if base != "" {
			texts = append(texts, fmt.Sprintf("git goes to %s in place of %s by url.insteadOf", finding.Redact(to), address))
		}
		if r, ok := parseRemote(to); ok && r.scheme == "ssh" {
			texts = append(texts, "by SSH")
		} else {
			if h := l.git.helpers(to); len(h) > 0 {
				texts = append(texts, "credential helper "+strings.Join(h, ", "))
			}
			by := l.git.unverified(to)
			if by == "" && s.Getenv("GIT_SSL_NO_VERIFY") != "" {
				by = "GIT_SSL_NO_VERIFY"
			}
			if by != "" {
				out := p.mean(finding.VerificationOff, fmt.Sprintf("git takes any certificate for %s, by %s: what comes from there may have been changed on the way, and no checksum database knows it", p.host, finding.Redact(by)))
				out.State, out.Fact = Warn, l
				out.Finding.Mend = "name the certificate of the host's authority to git, for this host alone"
				out.Finding.Fix = []string{"git config --global http.https://" + p.host + "/.sslCAInfo FILE", "git config --global --unset-all " + by}
				if by == "GIT_SSL_NO_VERIFY" {
					out.Finding.Fix[1] = "unset " + by
				} else if !plainKey.MatchString(by) {
					out.Finding.Fix = out.Finding.Fix[:1]
				}
				return out
			}
		}
	}
	if len(texts) == 0 {
		texts = append(texts, "there are none for "+p.host)
	}
	return Outcome{State: OK, Text: strings.Join(texts, ", "), Fact: l}
}

// known is what the row of credentials found.
func (p *private) known(seen Seen) login {
	l, _ := seen[p.id+".login"].Fact().(login)
	return l
}

// insecurely reports whether GOINSECURE lets the go command do without encryption.
func (p *private) insecurely() bool {
	return goenv.Patterns(p.s.Settings.Get("GOINSECURE").Value).Match(p.path)
}

// gate says why the steps to the host over https are not needed.
func (p *private) gate(seen Seen) *Outcome {
	l := p.known(seen)
	switch {
	case p.repo == "" && p.insecurely():
		return &Outcome{State: NA, Text: "GOINSECURE lets the go command do without encryption"}
	case p.repo == "":
		return nil
	case p.any:
		return &Outcome{State: NA, Text: "git finds out which scheme the host answers"}
	}
	to, _ := l.git.rewrite(p.repo)
	if r, ok := parseRemote(to); !ok || r.scheme != "https" || r.host != p.host {
		return &Outcome{State: NA, Text: "git goes another way"}
	}
	if l.git.own(to) {
		return &Outcome{State: NA, Text: "git has settings of its own for this host"}
	}
	return nil
}

type pageKey struct{}

// A pageNote is the status of an answer whose body is read whatever its status: the go
// command takes an import tag from an error page too.
type pageNote struct{ status int }

// ask reads the page of the module's import path.
func (p *private) ask(ctx context.Context, n *upstream.Net, scheme string) (imports []goImport, status int, err error) {
	note := &pageNote{}
	u := &url.URL{Scheme: scheme, Host: p.host, Path: strings.TrimPrefix(p.path, p.host), RawQuery: "go-get=1"}
	data, _, err := p.s.read(context.WithValue(ctx, pageKey{}, note), 1<<20, func(ctx context.Context) (*upstream.Answer, error) { return n.Get(ctx, p.host, u) })
	if err != nil {
		return nil, note.status, err
	}
	imports, _ = parseGoImports(bytes.NewReader(data)) // a page that cannot be read has no tag
	return imports, note.status, nil
}

// insecure sees whether a host that https does not lead to has the module over http.
func (p *private) insecure(ctx context.Context, n *upstream.Net, seen Seen) Outcome {
	bad := ""
	for _, id := range []string{p.id + ".connect", p.id + ".tls"} {
		if r := seen[id]; bad == "" && (r.Code == finding.SourceRefused || r.Code == finding.SourceTLSHandshake) {
			bad = id
		}
	}
	if bad == "" || p.repo != "" {
		return Outcome{State: NA, Text: "nothing points to it"}
	}
	imports, _, err := p.ask(ctx, n, "http")
	if _, ok := importOf(imports, p.path); err != nil || !ok {
		return Outcome{State: NA, Text: "it is not there without encryption either"}
	}
	out := p.mean(finding.InsecureScheme, fmt.Sprintf("%s does not answer over https, and has the module over http, which the go command uses only where GOINSECURE matches", p.host))
	out.Explains = []string{bad}
	return out
}

// page finds the repository by the page of the import path, as the go command does.
func (p *private) page(ctx context.Context, n, bare *upstream.Net, seen Seen) Outcome {
	if p.repo != "" {
		return Outcome{State: NA, Text: "the path itself says where the repository is", Fact: goImport{p.path, p.vcs, p.repo}}
	}
	l := p.known(seen)
	imports, status, err := p.ask(ctx, n, "https")
	if err != nil && p.insecurely() {
		imports, status, err = p.ask(ctx, bare, "http") // no login goes out in the clear
	}
	if err != nil {
		if ctx.Err() != nil {
			return Outcome{State: Incomplete, Text: "the page of " + p.path + " did not come in time"}
		}
		if upstream.IsGuard(err) {
			return Outcome{State: NA, Text: "the page redirects to another host of this network, which no setting names, and is not followed"}
		}
		if out := p.s.failed(err, p.host); out.Finding.Code == finding.SourceBadStatus && strings.Contains(out.Text, "redirected from https to http") {
			return p.mean(finding.InsecureScheme, out.Text)
		}
		return p.s.astray(p.s.failed(err, p.host), Source{Net: n, URL: &url.URL{Scheme: "https", Host: p.host}})
	}
	if found, ok := importOf(imports, p.path); ok {
		return Outcome{State: OK, Text: fmt.Sprintf("its page leads to %s by %s", finding.Redact(found.repo), found.vcs), Fact: found}
	}
	if l.auth && (status == 401 || status == 403 || status == 404) {
		return Outcome{State: Unknown, Text: fmt.Sprintf("the page answers %d, and GOAUTH has a command for that, which is not run here", status)}
	}
	hints := l.netrc.hints("the go command")
	if l.netrc.login && !p.reads() {
		set := p.s.Settings.Get("GOAUTH")
		hints = []hint{{fmt.Sprintf("%s has one, and GOAUTH is %s, so the go command does not read it", l.netrc.file, from(set)), "take GOAUTH back to netrc, which is its default", []string{"go env GOAUTH", "go env -u GOAUTH"}}}
	}
	switch text := fmt.Sprintf("https://%s?go-get=1 answers %d", p.path, status); {
	case (status == 401 || status == 403) && l.netrc.login && p.reads():
		return p.mean(finding.VCSRejected, text+" to the login of "+l.netrc.file)
	case status == 401 || status == 403:
		return p.hinted(p.mean(finding.VCSLogin, text+" without a login"), hints)
	case status == 429:
		return p.mean(finding.SourceThrottled, text)
	case status >= 500:
		return p.mean(finding.SourceServerError, text)
	case status != 200 && status != 0:
		return p.hinted(p.mean(finding.NoGoImport, text), hints)
	}
	return p.hinted(p.mean(finding.NoGoImport, "the page of "+p.path+" has no go-import tag for it"), hints)
}

// reads reports whether the go command itself reads a netrc file.
func (p *private) reads() bool {
	return slices.ContainsFunc(strings.Split(p.s.Settings.Get("GOAUTH").Value, ";"), func(c string) bool { return strings.TrimSpace(c) == "netrc" })
}

// hinted adds what may be why credentials lack.
func (p *private) hinted(out Outcome, hints []hint) Outcome {
	for i, h := range hints {
		out.Text += "; " + h.text
		if i == 0 && h.mend != "" {
			out.Finding.Mend, out.Finding.Fix = h.mend, h.fix
		}
	}
	return out
}

// A hint is something that may be why a login fails.
type hint struct {
	text, mend string
	fix        []string
}

// withoutAsking is git's environment: it and what it starts ask nobody, write no
// trace, and speak the words that explain knows.
func (s *Subject) withoutAsking() (env []string) {
	for _, kv := range s.Environ {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "GIT_TRACE"), strings.HasPrefix(name, "LC_"),
			slices.Contains([]string{"GIT_CURL_VERBOSE", "GIT_ASKPASS", "SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_TERMINAL_PROMPT",
				"GCM_INTERACTIVE", "SSH_ASKPASS_REQUIRE", "GIT_CEILING_DIRECTORIES", "LANG", "LANGUAGE"}, name):
			continue
		}
		env = append(env, kv)
	}
	at := neutral()
	return append(env, "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "SSH_ASKPASS_REQUIRE=never", "GCM_INTERACTIVE=never", "LC_ALL=C", "LANG=C",
		"GIT_OPTIONAL_LOCKS=0", "GIT_CEILING_DIRECTORIES="+at+string(filepath.ListSeparator)+filepath.Dir(at))
}

// neutral is a directory of no repository: the go command runs git in its cache, where
// the settings of the project's own repository do not hold.
func neutral() string { return os.TempDir() }

// maxSaid is how much of what a tool prints is kept, in bytes.
const maxSaid = 256 << 10

type kept struct{ b []byte }

func (w *kept) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), maxSaid-len(w.b))]...)
	return len(p), nil
}

// tool runs a program that may ask nobody, and ends it with all that it started when its
// time is over. The error is that it could not run, not that it failed.
func (s *Subject) tool(ctx context.Context, env []string, args ...string) (stdout, stderr string, exit int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Limits.Answer, upstream.ErrStalled)
	defer cancel()
	var out, bad kept
	exit, err = origin.Trial(ctx, origin.Child{Args: args, Environ: append(s.withoutAsking(), env...), Dir: neutral(), Stdout: &out, Stderr: &bad})
	return string(out.b), string(bad.b), exit, err
}

// askHelper makes git's credential helpers answer and nothing else: git tells them also
// which password was taken or refused, and they would store or forget it.
const askHelper = `!f() { if test "$1" = get; then unset GIT_CONFIG_PARAMETERS; exec git credential fill; fi; }; f`

// repository asks for the head of the repository, as the go command does, and nothing
// else.
func (p *private) repository(ctx context.Context, seen Seen) Outcome {
	l := p.known(seen)
	found, ok := seen[p.id+".page"].Fact().(goImport)
	switch {
	case !ok:
		return Outcome{State: NA, Text: "where the repository is, is not known"}
	case found.vcs != "git":
		return Outcome{State: NA, Text: "it is not one of git, and not tried here"}
	}
	if !p.any {
		return p.lsRemote(ctx, l, found, p.s.Limits.Answer)
	}
	out := p.lsRemote(ctx, l, found, p.s.Limits.Answer/2) // each has half of the time
	if out.State != OK && ctx.Err() == nil {
		found.repo = strings.Replace(found.repo, "https://", "ssh://", 1)
		if second := p.lsRemote(ctx, l, found, p.s.Limits.Answer/2); second.State == OK {
			return second
		}
	}
	return out
}

// lsRemote asks for the head of a repository, for as long as limit.
func (p *private) lsRemote(ctx context.Context, l login, found goImport, limit time.Duration) Outcome {
	s := p.s
	ctx, cancel := context.WithTimeoutCause(ctx, limit, upstream.ErrStalled)
	defer cancel()
	to, _ := l.git.rewrite(found.repo)
	r, ok := parseRemote(to)
	// A page names what it likes, of which the go command takes these alone.
	if said, known := parseRemote(found.repo); known && !slices.Contains([]string{"https", "http", "ssh", "git"}, said.scheme) {
		ok = false
	}
	if !ok || strings.HasPrefix(found.repo, "-") {
		return Outcome{State: NA, Text: "its address " + finding.Redact(to) + " is of a kind that is not tried here"}
	}
	if r.scheme == "http" && !p.insecurely() {
		if plain, _ := parseRemote(found.repo); plain.scheme == "http" { // a rewrite of one's own is allowed
			return p.mean(finding.InsecureScheme, fmt.Sprintf("the repository is at %s, and the go command takes http only where GOINSECURE matches", finding.Redact(found.repo)))
		}
	}
	var env []string
	host := sshHost{strict: "ask"}
	if r.scheme == "ssh" {
		var end func()
		env, host, end = s.sshEnv(ctx, l.git, r)
		defer end()
		if host.program != "" && s.Findable != nil && !s.Findable(host.program) {
			out := p.mean(finding.VCSMissing, fmt.Sprintf("git goes to %s by SSH, and there is no %s in PATH", r.host, host.program))
			out.Finding.Mend, out.Finding.Fix = "install an SSH client on this machine or in this image", []string{"sudo apt-get install -y openssh-client"}
			return out
		}
	}
	begin := time.Now()
	_, stderr, exit, err := s.tool(ctx, env, "git", "-c", "credential.interactive=false", "-c", "credential.helper=", "-c", "credential.helper="+askHelper, "ls-remote", "-q", "--end-of-options", found.repo, "HEAD")
	switch {
	case err == nil && exit == 0:
		return Outcome{State: OK, Text: fmt.Sprintf("%s answers git in %s", r.host, short(time.Since(begin)))}
	case err != nil && (ctx.Err() != nil || errors.Is(err, upstream.ErrStalled)):
		return Outcome{State: Incomplete, Text: fmt.Sprintf("git had no answer of %s within %v", r.host, limit)}
	case err != nil:
		return p.mean(finding.VCSMissing, finding.OneLine(err.Error(), 200))
	case strings.Contains(stderr, "end-of-options'"):
		out := p.mean(finding.VCSMissing, "git does not know --end-of-options, which the go command uses: it is older than 2.24")
		out.Finding.Mend = "install a newer git"
		return out
	}
	return p.refused(l, r, host, found.repo, stderr)
}

// refused says what it means that git did not get in.
func (p *private) refused(l login, r remoteAddress, host sshHost, repo, stderr string) Outcome {
	s := p.s
	code, line := finding.VCSFailed, finding.OneLine(stderr, 300)
	if s.Explain != nil {
		if c, shows := s.Explain(stderr); c != "" && c != finding.NotModules {
			code, line = c, shows
		}
	}
	var hints []hint
	switch code {
	case finding.VCSLogin, finding.VCSRejected, finding.VCSRepoNotFound:
		if r.scheme == "ssh" {
			break
		}
		if program := s.asks(l.git); program != "" && code == finding.VCSLogin {
			return Outcome{State: Unknown, Text: fmt.Sprintf("%s wants a login, for which git would ask %s, which is not done here", r.host, program)}
		}
		byGit := l.netrc.ofGit(s, r.host)
		if byGit.login && code == finding.VCSLogin {
			// Refused or not there, git says the same: only now does it ask.
			code, line = finding.VCSRejected, strings.TrimSuffix(line, ".")+"; the login of "+byGit.file+" was not taken"
		} else {
			hints = byGit.hints("git")
		}
		if code == finding.VCSRepoNotFound && !byGit.login && len(l.git.helpers(repo)) == 0 {
			line += "; no login was sent, and a host may answer so to whoever has none"
		}
	case finding.SSHKey:
		hints = host.keys(s)
	case finding.SSHHostKey:
		if strings.Contains(stderr, "IDENTIFICATION HAS CHANGED") {
			line = r.host + " shows another key than the one in known_hosts"
			name := r.host
			if r.port != "" {
				name = "[" + r.host + "]:" + r.port
			}
			hints = []hint{{"its key was renewed, or somebody else answers", "ask whoever runs the server for its fingerprint, and only if that fits, remove the old line", nil}}
			if plainHost.MatchString(r.host) {
				hints[0].fix = []string{"ssh-keygen -R '" + name + "'"}
			}
		} else {
			hints = host.hostKey()
		}
	}
	line = strings.TrimSuffix(line, ".")
	if out := p.gitAlone(l.git, r, repo, code, line); out != nil {
		return *out
	}
	out := p.mean(code, line)
	f := finding.At(code, s.Place)
	if r.scheme == "ssh" && r.port != "" && strings.Trim(r.port, "0123456789") == "" {
		for i, cmd := range f.Fix {
			f.Fix[i] = strings.NewReplacer("ssh-keyscan HOST", "ssh-keyscan -p "+r.port+" HOST", "ssh -T git@HOST", "ssh -p "+r.port+" -T git@HOST").Replace(cmd)
		}
	}
	if r.user != "" && plainHost.MatchString(r.user) {
		for i, cmd := range f.Fix {
			f.Fix[i] = strings.ReplaceAll(cmd, "git@HOST", r.user+"@HOST")
		}
	}
	f = f.With(finding.StandInHost, r.host).With(finding.StandInModule, strings.TrimPrefix(repo, "https://"))
	f = f.With(finding.StandInURL, "https://"+r.host+"/")
	out.Finding, out.Subject = &f, r.host
	return p.hinted(out, hints)
}

// asks is the program that git would ask for a password; "" if there is none.
func (s *Subject) asks(g gitSettings) string {
	for _, name := range []string{"GIT_ASKPASS", "SSH_ASKPASS"} {
		if s.Getenv(name) != "" {
			return "the program of " + name
		}
	}
	if g.last("core.askpass") != "" {
		return "the program of core.askPass"
	}
	return ""
}

// A netrcSeen is what a netrc file has for one host.
type netrcSeen struct {
	host      string
	file      string // that was looked at; "" if there is no place for one
	byVar     bool   // NETRC names it
	there     bool
	denied    error
	login     bool   // a whole entry
	half      bool   // an entry that lacks login or password
	others    bool   // entries of other hosts only
	home      string // of this user in the system's list, where HOME is another one and has no such file
	byDefault bool   // a default line, at which the go command stops reading
}

// readNetrc reads the file that the go command would.
func (s *Subject) readNetrc(host string) netrcSeen {
	n := netrcSeen{host: host}
	if n.file = s.Getenv("NETRC"); n.file != "" {
		n.byVar = true
		return n.read()
	}
	return n.ofHome(s)
}

// ofGit is what git, which does not know NETRC, has for a host.
func (n netrcSeen) ofGit(s *Subject, host string) netrcSeen {
	g := netrcSeen{host: host}.ofHome(s)
	if !g.login && n.byVar && n.login && n.host == host {
		g.byVar, g.file = true, n.file
	}
	return g
}

func (n netrcSeen) ofHome(s *Subject) netrcSeen {
	name := "HOME"
	if runtime.GOOS == "windows" {
		name = "USERPROFILE"
	}
	home := s.Getenv(name)
	if home == "" {
		return n
	}
	n.file = filepath.Join(home, ".netrc")
	if legacy := filepath.Join(home, "_netrc"); runtime.GOOS == "windows" && !missing(legacy) {
		n.file = legacy
	}
	if n = n.read(); n.there || n.denied != nil {
		return n
	}
	if other := s.SystemHome; other != "" && filepath.Clean(other) != filepath.Clean(home) {
		if data, err := readSmall(filepath.Join(other, filepath.Base(n.file))); err == nil {
			if _, _, ok := goenv.NetrcLogin(string(data), n.host); ok {
				n.home = other
			}
		}
	}
	return n
}

func (n netrcSeen) read() netrcSeen {
	data, err := readSmall(n.file)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			n.denied = plain(err)
		}
		return n
	}
	n.there = true
	_, _, n.login = goenv.NetrcLogin(string(data), n.host)
	words := strings.Fields(string(data))
	for i, w := range words {
		if w == "default" {
			n.byDefault = true
		}
		if w == "machine" && i+1 < len(words) {
			if words[i+1] == n.host {
				n.half = !n.login
			} else {
				n.others = true
			}
		}
	}
	return n
}

// hints are why the file does not help whoever reads it.
func (n netrcSeen) hints(who string) []hint {
	line := "machine " + n.host + " login USER password TOKEN"
	switch {
	case n.login:
		return nil
	case n.denied != nil:
		return []hint{{fmt.Sprintf("%s cannot be read: %v", n.file, n.denied), "let this user read the file", []string{"ls -l '" + strings.ReplaceAll(n.file, "'", "") + "'"}}}
	case n.half && n.byDefault:
		return []hint{{fmt.Sprintf("%s names %s, and lacks a login or a password before its default line", n.file, n.host), "", nil}}
	case n.half:
		return []hint{{fmt.Sprintf("%s names %s without a login or without a password, which counts for nothing", n.file, n.host),
			"give the entry all three: " + line, []string{"${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"}}}
	case n.byVar && who == "git":
		return []hint{{fmt.Sprintf("%s, which NETRC names, has a login for it, and git reads ~/.netrc alone", n.file),
			"put the entry into ~/.netrc, which both git and the go command read", []string{"unset NETRC", "${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"}}}
	case n.byVar && !n.there:
		return []hint{{fmt.Sprintf("NETRC names %s, which is not there", n.file), "unset NETRC, or name a file that is there", []string{"unset NETRC"}}}
	case n.home != "":
		return []hint{{fmt.Sprintf("HOME is not %s, the home that the system has for this user, where a netrc file has a login for %s", n.home, n.host), "set HOME to the user's own, or put the file where HOME is", []string{"echo $HOME", "getent passwd \"$(id -u)\""}}}
	case n.byDefault && who != "git":
		return []hint{{fmt.Sprintf("%s has a default entry, which the go command does not use", n.file), "give the host an entry of its own: " + line, []string{"${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"}}}
	case n.others:
		return []hint{{fmt.Sprintf("%s has logins for other hosts only", n.file), "", nil}}
	case n.file == "":
		return []hint{{"HOME is not set, so no netrc file is read", "", nil}}
	}
	return nil
}

// goauth finds a GOAUTH that the go command stops at, whatever it is asked to fetch.
func (s *Subject) goauth() Outcome {
	set := s.Settings.Get("GOAUTH")
	bad := func(state State, text string) Outcome {
		return s.mean(state, finding.GoEnvMalformed, "GOAUTH", "GOAUTH is "+from(set)+": "+text)
	}
	commands := strings.Split(set.Value, ";")
	for _, c := range commands {
		words := strings.Fields(c)
		switch {
		case len(words) == 0:
			return bad(Fail, "it has an empty command, at which the go command stops")
		case words[0] == "off" && len(commands) > 1:
			return bad(Fail, "off cannot stand beside others, and the go command stops there")
		case words[0] == "git" && (len(words) != 2 || !filepath.IsAbs(words[1])):
			return bad(Fail, "git wants one absolute directory, and the go command stops there")
		case words[0] == "git":
			if info, err := os.Stat(words[1]); err != nil || !info.IsDir() {
				return bad(Fail, words[1]+" is no directory, and the go command stops there")
			}
		case words[0] != "off" && words[0] != "netrc" && s.Findable != nil && !s.Findable(words[0]):
			return bad(Warn, words[0]+" is not there, and the go command goes on without what it would say")
		}
	}
	if set.Layer == goenv.Default {
		return Outcome{State: OK, Text: "netrc, as by default"}
	}
	return Outcome{State: OK, Text: plural(len(commands), "way to credentials", "ways to credentials")}
}

// A sshHost is what ssh would do about one host, by its own settings.
type sshHost struct {
	program    string   // ssh, as it is called; "" if git has been given another program
	strict     string   // StrictHostKeyChecking
	identities []string // files of keys
	known      []string // known_hosts files
	agent      string   // of the agent; "" if there is none
}

// parseSSHSettings reads what ssh -G prints.
func parseSSHSettings(out, home string) (h sshHost) {
	h.strict = "ask"
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		tilde := func(f string) string {
			if rest, ok := strings.CutPrefix(f, "~/"); ok && home != "" {
				return filepath.Join(home, rest)
			}
			return f
		}
		switch name {
		case "stricthostkeychecking":
			h.strict = value
		case "identityfile":
			h.identities = append(h.identities, tilde(value))
		case "userknownhostsfile":
			for f := range strings.FieldsSeq(value) {
				h.known = append(h.known, tilde(f))
			}
		}
	}
	return h
}

// sshEnv makes git use ssh such that it asks nothing and writes down nothing: the keys of
// hosts are looked for in copies of the known_hosts files. end removes these.
func (s *Subject) sshEnv(ctx context.Context, g gitSettings, r remoteAddress) (env []string, h sshHost, end func()) {
	end = func() {}
	h.strict = "ask"
	command := s.Getenv("GIT_SSH_COMMAND")
	if command == "" {
		command = g.last("core.sshcommand")
	}
	if command == "" && s.Getenv("GIT_SSH") != "" {
		return nil, h, end // a program that may be anything
	}
	if command == "" {
		command = "ssh"
	}
	program, rest, _ := strings.Cut(command, " ")
	if base := strings.TrimSuffix(strings.ToLower(program[strings.LastIndexAny(program, `/\`)+1:]), ".exe"); base != "ssh" || !plainHost.MatchString(r.host) {
		return nil, h, end
	}
	port := ""
	if r.port != "" {
		port = " -p " + r.port
	}
	if out, _, exit, err := s.tool(ctx, nil, "sh", "-c", program+" -G"+port+" "+rest+" "+r.host); err == nil && exit == 0 {
		h = parseSSHSettings(out, s.Getenv("HOME"))
	}
	h.agent, h.program = s.Getenv("SSH_AUTH_SOCK"), program
	// ssh takes the first value that it is given, so ours go first.
	options := fmt.Sprintf(" -oBatchMode=yes -oUpdateHostKeys=no -oControlMaster=no -oConnectTimeout=%d", max(1, int(s.Limits.Answer/time.Second)-1))
	dir, err := os.MkdirTemp("", "sluice-doctor-*")
	switch {
	case err == nil && len(h.known) > 0 && !strings.ContainsAny(dir, " '\""):
		end = func() { os.RemoveAll(dir) }
		var copies []string
		for i, f := range h.known {
			to := filepath.Join(dir, fmt.Sprintf("known_hosts%d", i))
			if data, err := readSmall(f); err == nil && os.WriteFile(to, data, 0o600) == nil {
				copies = append(copies, to)
			}
		}
		copies = append(copies, filepath.Join(dir, "none"))
		options += ` -oUserKnownHostsFile="` + strings.Join(copies, " ") + `"`
	default:
		if err == nil {
			os.RemoveAll(dir)
		}
		options += " -oStrictHostKeyChecking=yes"
	}
	return []string{"GIT_SSH_COMMAND=" + strings.TrimSpace(program+options+" "+rest)}, h, end
}

// keys are why no key was taken.
func (h sshHost) keys(s *Subject) (hints []hint) {
	var there, locked []string
	for _, f := range h.identities {
		if data, err := readSmall(f); err == nil {
			there = append(there, f)
			if isLocked(data) {
				locked = append(locked, f)
			}
		}
	}
	agent := "there is no agent (SSH_AUTH_SOCK is not set)"
	if h.agent != "" {
		agent = "SSH_AUTH_SOCK leads to no agent"
		if n, err := agentKeys(h.agent); err == nil {
			agent = "the agent has " + plural(n, "key", "keys")
		}
	}
	switch {
	case len(locked) > 0 && len(locked) == len(there):
		return []hint{{fmt.Sprintf("%s is locked by a passphrase, and %s", locked[0], agent), "load the key into an agent, which asks for the passphrase once", []string{"ssh-add '" + strings.ReplaceAll(locked[0], "'", "") + "'"}}}
	case len(there) == 0:
		return []hint{{"no key file is there, and " + agent, "", nil}}
	}
	return []hint{{fmt.Sprintf("%s was offered, and %s", there[0], agent), "", nil}}
}

// hostKey is why the key of a host is not known.
func (h sshHost) hostKey() []hint {
	there := 0
	for _, f := range h.known {
		if !missing(f) {
			there++
		}
	}
	if there == 0 && len(h.known) > 0 {
		return []hint{{"there is no " + h.known[0], "", nil}}
	}
	return nil
}

// isLocked reports whether a private key wants a passphrase.
func isLocked(data []byte) bool {
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	if block.Type != "OPENSSH PRIVATE KEY" {
		return block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
	}
	rest, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	if !ok || len(rest) < 4 {
		return false
	}
	n := binary.BigEndian.Uint32(rest)
	return uint64(n) <= uint64(len(rest)-4) && string(rest[4:4+n]) != "none"
}

// agentKeys is how many keys an SSH agent has.
func agentKeys(socket string) (int, error) {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte{0, 0, 0, 1, 11}); err != nil { // SSH_AGENTC_REQUEST_IDENTITIES
		return 0, err
	}
	var head [9]byte // length, SSH_AGENT_IDENTITIES_ANSWER, number
	for n := 0; n < len(head); {
		k, err := conn.Read(head[n:])
		if err != nil {
			return 0, err
		}
		n += k
	}
	if head[4] != 12 {
		return 0, errors.New("it is no agent that lists its keys")
	}
	return int(binary.BigEndian.Uint32(head[5:])), nil
}
