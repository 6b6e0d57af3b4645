package finding

import (
	"regexp"
	"slices"
	"strings"
)

// A Place is where somebody types the commands of a fix. The zero value is a
// terminal with a Unix shell.
type Place string

const (
	Terminal   Place = "terminal"
	PowerShell Place = "powershell"
	Dockerfile Place = "dockerfile"
	GitHub     Place = "github" // GitHub Actions
	GitLab     Place = "gitlab" // GitLab CI
)

// Places lists all places. The caller owns the result.
func Places() []Place { return []Place{Terminal, PowerShell, Dockerfile, GitHub, GitLab} }

// Title is how people call the place.
func (p Place) Title() string {
	switch p {
	case PowerShell:
		return "PowerShell"
	case Dockerfile:
		return "Dockerfile"
	case GitHub:
		return "GitHub Actions"
	case GitLab:
		return "GitLab CI"
	}
	return "terminal"
}

// A Page is all that the catalogue says of one code to somebody whose build failed,
// without a network and without having seen the failure.
type Page struct {
	Entry           // Why, Mend and Fix are those for where the build runs
	Evidence string // what must be seen before this may be claimed; a sentence
	Success  string // what is seen once it is mended; a sentence
	Fixes    []InPlace
}

// InPlace is the fix as it is written in one place.
type InPlace struct {
	Place Place    `json:"place"`
	Lines []string `json:"lines"`
}

// PageOf is the page of code; false if there is no such code.
func PageOf(code Code) (Page, bool) {
	e, ok := Lookup(code)
	if !ok {
		return Page{}, false
	}
	p := Page{Entry: atBuild(e), Evidence: evidence[e.Cause], Success: successes[e.Cause.Family()]}
	if _, said := builds[code]; !said && slices.Contains(own, code) {
		p.Evidence = "Sluice met it itself while it served a request, or it is in its log."
		p.Success = "The same request is answered, and /readyz no longer names the code."
	}
	for _, place := range Places() {
		if lines := inPlace(p.Entry, place); len(lines) > 0 {
			p.Fixes = append(p.Fixes, InPlace{place, lines})
		}
	}
	return p, true
}

// At is the finding of code in the words for the one whose build failed, with High
// confidence, and its commands as they are written in place.
func At(code Code, place Place) Finding {
	f := Of(code)
	f.Entry = atBuild(f.Entry)
	f.Fix = inPlace(f.Entry, place)
	return f
}

// OneLine is s redacted, printable, and cut to at most n bytes.
func OneLine(s string, n int) string { return cut(oneLine(s), n) }

// atBuild is e in the words for the machine that builds, where they differ from
// those for the machine that runs Sluice.
func atBuild(e Entry) Entry {
	if b, ok := builds[e.Code]; ok {
		e.Why, e.Mend, e.Fix = b.why, b.mend, slices.Clone(b.fix)
	}
	return e
}

// Commands that name other sources where no failure says which: no address that Sluice
// could print works everywhere.
const (
	TakeBest    = "sluice use best"    // measures the mirrors that it knows, and takes none if none is good
	TakeDefault = "sluice use default" // what the toolchain has; also where GOPROXY is off, which best obeys
)

// OtherTemp is how somebody at a terminal takes another temporary directory where that of
// the system cannot be written.
const OtherTemp = "mkdir -p ~/.cache/tmp && export TMPDIR=~/.cache/tmp"

// OwnNetwork reports whether host is a name such as only a network of one's own gives:
// one without a dot, or below a domain that the public has not (RFC 6761, RFC 6762,
// RFC 8375, and some that ICANN holds back). Addresses are not names.
func OwnNetwork(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return !strings.Contains(host, ".") && !strings.Contains(host, ":") || slices.ContainsFunc(ownDomains, func(end string) bool { return strings.HasSuffix(host, end) })
}

var ownDomains = []string{".localhost", ".local", ".internal", ".lan", ".intranet", ".corp", ".home.arpa"}

// NoMirror is f, about a host of one's own network that has the module itself: nobody
// else has it, so the fix names no other source.
func NoMirror(f Finding) Finding {
	n := len(f.Fix)
	f.Fix = slices.DeleteFunc(slices.Clone(f.Fix), func(cmd string) bool { return cmd == TakeBest || strings.Contains(cmd, yourProxy) })
	if len(f.Fix) == n {
		return f
	}
	const alone = "; no mirror has what only this host has"
	switch f.Code {
	case SourceDNS:
		f.Mend = "join the network that knows the name, such as by its VPN" + alone
	case SourceConnectTimeout, SourceRefused:
		f.Mend = "see that you are in its network, such as by its VPN, and that the service runs" + alone
	case SourceReset:
		f.Mend = "run the command again through Sluice, which goes on where it broke off" + alone
	case SourceTLSExpired:
		f.Mend = "set the clock, or tell the operator" + alone
	case SourceServerError, SourceSilent, SourceStalled:
		f.Mend = "try again later, or tell the operator" + alone
	default:
		f.Mend = "see what answers there, or tell the operator" + alone
	}
	return f
}

// yourProxy is a stand-in, for places where only the reader knows a source.
const yourProxy = "https://YOUR-PROXY,direct"

var (
	setting = regexp.MustCompile(`^(go env -w|export) '?([A-Za-z_]+)=(.*?)'?$`)
	// sudo, an editor and looks at what is there have no place in a build's recipe.
	byHand = regexp.MustCompile(`EDITOR|^(?:env|date|ls|df|go env|go version|curl|getent|ip|ssh-add -l|ssh -T|sluice|go list|go mod graph|go mod edit -print|git log|git config --get|git ls-remote|GOMODCACHE=)\b`)
)

// inPlace writes the fix of e for place. Settings become what the place calls
// them; what only looks stays as it is.
func inPlace(e Entry, place Place) []string {
	if lines, ok := written[e.Code][place]; ok {
		return slices.Clone(lines)
	}
	var out []string
	for _, cmd := range e.Fix {
		if (cmd == TakeBest || cmd == TakeDefault) && place != Terminal && place != PowerShell {
			// Nothing is measured there, and what is kept in a home directory is gone with it.
			cmd = Setting(place, "GOPROXY", yourProxy)
		} else if m := setting.FindStringSubmatch(cmd); m != nil {
			name, value := m[2], m[3]
			if place != Terminal && (place != PowerShell || m[1] == "export") {
				cmd = Setting(place, name, value)
			}
		} else if !byHand.MatchString(cmd) {
			if place == Dockerfile || place == GitLab { // where one is root
				cmd = strings.ReplaceAll(cmd, "sudo ", "")
			}
			switch place {
			case Dockerfile:
				cmd = "RUN " + cmd
			case GitHub:
				cmd = "- run: " + cmd
			case GitLab:
				cmd = "before_script: [ '" + strings.ReplaceAll(cmd, "'", `"`) + "' ]"
			}
		} else if place == PowerShell {
			cmd = forPowerShell.Replace(cmd)
		}
		out = append(out, cmd)
	}
	return out
}

// Setting is the line that sets an environment variable in place, for what runs there
// afterwards. The value has no quotes, and nothing that a shell reads within them.
func Setting(place Place, name, value string) string {
	switch place {
	case PowerShell:
		return "$env:" + name + " = '" + value + "'"
	case Dockerfile:
		return "ENV " + name + `="` + value + `"`
	case GitHub:
		return "env: { " + name + `: "` + value + `" }`
	case GitLab:
		return "variables: { " + name + `: "` + value + `" }`
	}
	return "export " + name + "='" + value + "'"
}

var forPowerShell = strings.NewReplacer(
	"getent hosts ", "Resolve-DnsName ", "getent ahosts ", "Resolve-DnsName ", "curl ", "curl.exe ", "/dev/null", "NUL", "date -u", "Get-Date -AsUTC",
	"env | grep -i _proxy", "Get-ChildItem env:*_proxy", "env | grep ^GO", "Get-ChildItem env:GO*", "${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc", `notepad $HOME\_netrc`,
	"| grep -i ", "| Select-String ", "| grep ", "| Select-String ", "| head -n 20", "| Select-Object -First 20", "df -h DIR", "Get-PSDrive -PSProvider FileSystem",
	"ls -ld $(go env GOMODCACHE GOCACHE)", "Get-Acl (go env GOMODCACHE) | Format-List", `"$HTTPS_PROXY"`, "$env:HTTPS_PROXY",
	"ip route get 192.0.2.1", "Test-NetConnection 192.0.2.1", "GOMODCACHE=$(mktemp -d) go mod download", "$env:GOMODCACHE = \"$env:TEMP\\fresh\"; go mod download",
)

// builds holds the words for the machine that builds, of codes that Sluice uses of
// its own sources too.
var builds = map[Code]struct {
	why, mend string
	fix       []string
}{
	SourceDNS: {"The resolver of the machine that builds gave no address for the name, so nobody was asked.",
		"see what the resolver says, in a container in its /etc/resolv.conf; if the name is gone, take another source", []string{"getent hosts HOST", TakeBest}},
	SourceConnectTimeout: {"The name resolves, but packets to the address are dropped: a firewall, a filter, or a VPN that is off.",
		"set HTTPS_PROXY if this network wants one, or take a mirror that can be reached", []string{"curl -sv -m 10 -o /dev/null https://HOST/", TakeBest}},
	SourceRefused: {"The machine is there, but nothing listens on that port, or a firewall rejects it.",
		"check the address and that the service runs, or take a mirror that can be reached", []string{"curl -sv -m 10 -o /dev/null https://HOST/", TakeBest}},
	SourceReset: {"It opened and then died: a firewall's idle limit, a restart of the server, or a bad line.",
		"run the command again through Sluice, which goes on where it broke off; if it breaks each time, take another source", []string{"sluice run -- go mod download", TakeBest}},
	SourceNoRoute: {"This machine has no network path to the address: offline, VPN off, or a network that does not lead there.",
		"bring the network up, and see which way packets would take", []string{"ip route get 192.0.2.1", "getent ahosts HOST"}},
	SourceTLSUnknownCA: {"A company gateway may have replaced it, the server may use a private authority, or the CA bundle is missing.",
		"see who issued it; if that is your company, install its root certificate", []string{
			"curl -sv -o /dev/null https://HOST/ 2>&1 | grep issuer", "sudo cp FILE /usr/local/share/ca-certificates/company.crt && sudo update-ca-certificates"}},
	SourceTLSExpired: {"Either the server let it expire, or the clock of this machine is wrong: compare the two dates in the line.",
		"set the clock, or tell the operator; meanwhile take another mirror", []string{"date -u", TakeBest}},
	SourceTLSHostname: {"The address belongs to another service: wrong DNS, a wrong virtual host, or a portal in between.",
		"check where the name leads, and the address in GOPROXY", []string{"getent hosts HOST", "go env GOPROXY"}},
	SourceTLSHandshake: {"TCP works, but the handshake stalled or was cut: a filter on names, an MTU problem, or no TLS at that port.",
		"try it with a smaller handshake; if that passes, a box in between drops large ones", []string{"curl -sv -m 10 -o /dev/null https://HOST/", "export GODEBUG=tlsmlkem=0,tlssecpmlkem=0"}},
	ForwardProxyLogin: {"HTTPS_PROXY names a proxy that answered 407: no user and password were sent, or they were not accepted.",
		"put both, percent-encoded, before the host in the variable", []string{`curl -x "$HTTPS_PROXY" -sSI https://HOST/`}},
	ForwardProxyBroken: {"HTTPS_PROXY, or git's http.proxy, is set, but that proxy is unreachable or cannot reach the target.",
		"look at the settings and correct them; hosts to reach without it belong into NO_PROXY", []string{"env | grep -i _proxy", "git config --get-regexp proxy"}},
	NotFound: {"A proxy answered that it does not exist. A private module needs a pattern in GOPRIVATE, so that nobody is asked.",
		"check the spelling; if the module is private, say so", []string{"go env -w GOPRIVATE=PATTERN"}},
	SourceUnauthorized: {"No credentials were sent to it, or they are wrong or expired.",
		"give its host a line with machine, login and password in netrc", []string{"${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"}},
	SourceForbidden: {"A rule of the source, or of a gateway before it, forbids it. Other credentials will rarely help.",
		"ask its operator to allow the module or the host it redirects to", []string{"curl -sIL https://HOST/"}},
	SourceStalled: {"The connection stayed open, but what came was too little, or nothing any more, for too long.",
		"take another source; through Sluice a build goes on with one by itself", []string{TakeBest}},
	SourceSilent: {"The connection stands, but no answer began. Nothing has to be changed here.",
		"try again later, or take the mirrors that are best from here", []string{TakeBest}},
	SourceTruncated: {"The download ended early: a firewall's limit, a restart of the server, or a bad line.",
		"run the command again through Sluice, which goes on where it broke off", []string{"sluice run -- go mod download"}},
	SourceThrottled: {"Too many requests came from this address, which others may share.",
		"wait; then keep what was downloaded between runs, or ask through a proxy that does", []string{"sluice run -- go mod download"}},
	SourceServerError: {"It answered with an error of its own. Nothing has to be changed here.",
		"try again later, or take the mirrors that are best from here", []string{TakeBest}},
	SourceHTML: {"A login page, captive portal or filter answers for the source, or its address is not that of a module proxy.",
		"open the page to see whose it is: log in there, or correct GOPROXY", []string{"curl -sL https://HOST/ | head -n 20", "go env GOPROXY"}},
	SourceWrongAnswer: {"It is not in the form of the GOPROXY protocol, or it is about another module or version.",
		"check GOPROXY, and see whether another source answers rightly", []string{"go env GOPROXY", "sluice trace MODULE@VERSION", TakeBest}},
	SourceEmpty: {"It said 200 and sent nothing, where only a list may be empty: it is in trouble, or no module proxy.",
		"see what each source answers, and take another one", []string{"sluice trace MODULE@VERSION", TakeBest}},
	SourceBadStatus: {"Something at that address is no module proxy, or it refuses a question that it should answer with 404.",
		"check GOPROXY, and try another source", []string{"go env GOPROXY", TakeBest}},
	SumDBUnreachable: {"Modules come through, but what they must be compared with does not: it is blocked, or GOSUMDB is wrong.",
		"take a proxy that carries the database too; modules that are private belong into GOPRIVATE", []string{TakeBest}},
	SumDBUnknown: {"It knows every public module. This one is private, mistyped or deleted, so it cannot be looked up there.",
		"if it is private, say so", []string{"go env -w GOPRIVATE=PATTERN"}},
	SumDBInconsistent: {"A signature, proof or tree head does not fit what it said before. Somebody in between may answer for it.",
		"try over another network, and check GOSUMDB", []string{"go env GOSUMDB GOPROXY"}},
	ProxyOff: {"GOPROXY is off, or the list ends there, and the cache does not have this module.",
		"see which setting says so; without it the toolchain's own sources hold", []string{"go env GOPROXY", TakeDefault}},
	VCSMissing: {"The module comes straight from its repository, and git, hg or svn is not on PATH.",
		"install it on this machine or in this image, or use a module proxy", []string{"sudo apt-get install -y git"}},
	VCSLogin: {"It is private, or does not exist: hosts answer both alike. In a build nobody is there to type a password.",
		"check the path; for a private one give its host a line in netrc, or let git use SSH for it", []string{"${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"}},
	ZipRules: {"It has file names that collide, are not allowed or lie outside the module. Nothing is wrong here.",
		"take another version; only the author can mend this one", []string{"go list -m -versions MODULE"}},
	ZipTooLarge: {"The go command accepts at most 500 MiB for a module and 16 MiB for a go.mod.",
		"take another version; only the author can mend this one", []string{"go list -m -versions MODULE"}},
}

// own are the codes that only Sluice itself can see.
var own = []Code{
	SourceForbiddenAddress, SourceStalled, SourceSilent, SourceEmpty, SourceTruncated, SourceTooLarge, SumMismatch, PinMismatch, SumDBPrivate, ZipDamaged,
	DirectNotAllowed, FetchDisabled, SwitchedOffline, SourceSwitchedOff, VCSFailed, StoreNotWritable, StoreFull, StoreDamaged, Loop, ConfigMalformed, BadRequest, Internal,
}

// written is the fix of a code in places where it looks quite different.
var written = map[Code]map[Place][]string{
	SourceTLSUnknownCA: {
		PowerShell: {`Import-Certificate -FilePath FILE -CertStoreLocation Cert:\LocalMachine\Root`, "git config --global http.sslBackend schannel"},
		Dockerfile: {"COPY FILE /usr/local/share/ca-certificates/company.crt", "RUN apt-get update && apt-get install -y ca-certificates && update-ca-certificates"},
		GitHub:     {"- run: sudo cp FILE /usr/local/share/ca-certificates/company.crt && sudo update-ca-certificates"},
		GitLab:     {"before_script: [ 'cp FILE /usr/local/share/ca-certificates/company.crt && update-ca-certificates' ]"},
	},
	ClockWrong: {
		PowerShell: {"Get-Date -AsUTC", "w32tm /resync"},
		Dockerfile: {"RUN date -u"},
		GitHub:     {"- run: date -u"},
		GitLab:     {"before_script: [ 'date -u' ]"},
	},
	NameServerSilent: {
		PowerShell: {"Get-DnsClientServerAddress", "Set-DnsClientServerAddress -InterfaceAlias Ethernet -ResetServerAddresses"},
		Dockerfile: {"docker build --network host ."},
		GitHub:     {"- run: resolvectl dns"},
		GitLab:     {"before_script: [ 'cat /etc/resolv.conf' ]"},
	},
	NameServersDiffer: {
		PowerShell: {"Resolve-DnsName HOST", "Get-DnsClientServerAddress"},
		Dockerfile: {"docker build --network host ."},
		GitHub:     {"- run: resolvectl dns"},
		GitLab:     {"before_script: [ 'cat /etc/resolv.conf' ]"},
	},
	HostsFile: {
		PowerShell: {`notepad $env:SystemRoot\System32\drivers\etc\hosts`},
		Dockerfile: {"docker build --add-host HOST:192.0.2.1 ."},
	},
	SearchDomain: {
		PowerShell: {"Get-DnsClientGlobalSetting", "Set-DnsClientGlobalSetting -SuffixSearchList @()"},
		Dockerfile: {"docker build --network host ."},
		GitHub:     {"- run: resolvectl domain"},
		GitLab:     {"before_script: [ 'cat /etc/resolv.conf' ]"},
	},
	ResolversDiffer: {
		PowerShell: {"Resolve-DnsName HOST"},
		Dockerfile: {"docker build --network host ."},
		GitLab:     {`before_script: [ 'getent hosts HOST | sed "s/$/ HOST/" >> /etc/hosts' ]`},
	},
	CAStoreStale: {
		PowerShell: {"Get-ChildItem env:SSL_CERT*", "certutil -generateSSTFromWU roots.sst"},
		Dockerfile: {"RUN apk add --no-cache ca-certificates || (apt-get update && apt-get install -y ca-certificates)"},
	},
	MissingIntermediate: {
		PowerShell: {"openssl s_client -showcerts -servername HOST -connect HOST:443", TakeBest},
		Dockerfile: {`ENV GOPROXY="` + yourProxy + `"`},
		GitHub:     {`env: { GOPROXY: "` + yourProxy + `" }`},
		GitLab:     {`variables: { GOPROXY: "` + yourProxy + `" }`},
	},
	ForwardVariables: {
		PowerShell: {"Get-ChildItem env:*_proxy"},
		Dockerfile: {`ENV no_proxy="$NO_PROXY"`},
		GitHub:     {`env: { no_proxy: "${{ env.NO_PROXY }}" }`},
		GitLab:     {`variables: { no_proxy: "$NO_PROXY" }`},
	},
	NoCABundle: {
		PowerShell: {"Get-ChildItem env:SSL_CERT*"},
		Dockerfile: {"RUN apt-get update && apt-get install -y ca-certificates"},
	},
	VCSLogin: {
		Dockerfile: {"RUN --mount=type=secret,id=netrc,target=/root/.netrc go mod download", "docker build --secret id=netrc,src=$HOME/.netrc ."},
		GitHub:     {`- run: git config --global url."https://x-access-token:${{ secrets.READ_TOKEN }}@HOST/".insteadOf https://HOST/`, `env: { GOPRIVATE: "PATTERN" }`},
		GitLab:     {`before_script: [ 'printf "machine %s password %s login gitlab-ci-token\n" "$CI_SERVER_HOST" "$CI_JOB_TOKEN" > ~/.netrc' ]`, `variables: { GOPRIVATE: "PATTERN" }`},
	},
	VCSRejected: {
		Dockerfile: {"RUN --mount=type=secret,id=netrc,target=/root/.netrc go mod download", "docker build --secret id=netrc,src=$HOME/.netrc ."},
		GitHub:     {"- uses: actions/checkout@v4\n  with: { persist-credentials: false }", `- run: git config --global url."https://x-access-token:${{ secrets.READ_TOKEN }}@HOST/".insteadOf https://HOST/`},
		GitLab:     {`before_script: [ 'printf "machine %s password %s login gitlab-ci-token\n" "$CI_SERVER_HOST" "$CI_JOB_TOKEN" > ~/.netrc' ]`},
	},
	SSHKey: {
		Dockerfile: {"RUN --mount=type=ssh go mod download", "docker build --ssh default ."},
		GitHub:     {"- uses: webfactory/ssh-agent@v0.9.0\n  with: { ssh-private-key: \"${{ secrets.DEPLOY_KEY }}\" }"},
		GitLab:     {`before_script: [ 'eval $(ssh-agent -s)', 'ssh-add "$DEPLOY_KEY"' ]`},
	},
	SSHHostKey: {
		PowerShell: {`ssh-keyscan HOST | Add-Content $HOME\.ssh\known_hosts`},
		Dockerfile: {"RUN mkdir -p -m 700 ~/.ssh && ssh-keyscan HOST >> ~/.ssh/known_hosts"},
	},
	VCSMissing: {
		PowerShell: {"winget install --id Git.Git"},
		Dockerfile: {"RUN apk add --no-cache git || (apt-get update && apt-get install -y git)"},
		GitLab:     {"before_script: [ 'apk add --no-cache git || (apt-get update && apt-get install -y git)' ]"},
	},
	RecipeNoSum: {
		Dockerfile: {"COPY go.mod go.sum ./"},
	},
	RecipeNoGit: {
		PowerShell: {"winget install --id Git.Git"},
		GitHub:     {"- run: sudo apt-get install -y git"},
	},
	CacheDenied: {
		Dockerfile: {"ENV GOMODCACHE=/tmp/gomod GOCACHE=/tmp/gocache", "RUN --mount=type=cache,target=/go/pkg/mod go mod download"},
		GitLab:     {`variables: { GOMODCACHE: "$CI_PROJECT_DIR/.cache/mod", GOCACHE: "$CI_PROJECT_DIR/.cache/build" }`},
	},
	NoHome: {
		PowerShell: {"$env:USERPROFILE = [Environment]::GetFolderPath('UserProfile')", "$env:LOCALAPPDATA = [Environment]::GetFolderPath('LocalApplicationData')"},
		Dockerfile: {"ENV GOPATH=/tmp/go GOCACHE=/tmp/gocache"},
		GitHub:     {`env: { GOPATH: "/tmp/go", GOCACHE: "/tmp/gocache" }`},
		GitLab:     {`variables: { GOPATH: "$CI_PROJECT_DIR/.cache/go", GOCACHE: "$CI_PROJECT_DIR/.cache/build" }`},
	},
	HomeDenied: {
		PowerShell: {"Get-Acl $HOME | Format-List", `$env:GOPATH = "$env:TEMP\go"; $env:GOCACHE = "$env:TEMP\go-build"`},
		Dockerfile: {"ENV GOPATH=/tmp/go GOCACHE=/tmp/gocache"},
		GitHub:     {`env: { GOPATH: "/tmp/go", GOCACHE: "/tmp/gocache" }`},
		GitLab:     {`variables: { GOPATH: "$CI_PROJECT_DIR/.cache/go", GOCACHE: "$CI_PROJECT_DIR/.cache/build" }`},
	},
	TempDenied: {
		PowerShell: {"Get-ChildItem env:TMP, env:TEMP, env:GOTMPDIR", `$env:TMP = "$env:LOCALAPPDATA\Temp"; $env:GOTMPDIR = ''`},
		Dockerfile: {"ENV TMPDIR=/tmp", "RUN mkdir -p -m 1777 /tmp"},
		GitHub:     {`env: { TMPDIR: "/tmp", GOTMPDIR: "" }`},
		GitLab:     {`variables: { TMPDIR: "/tmp", GOTMPDIR: "" }`},
	},
	ProjectDenied: {
		PowerShell: {"Get-Acl go.mod | Format-List", "go mod tidy"},
		Dockerfile: {"RUN --mount=type=bind,target=.,rw go mod download"},
	},
	NoLocks: {
		PowerShell: {"Get-PSDrive -PSProvider FileSystem", "go env -w GOMODCACHE=DIR"},
		GitLab:     {`variables: { GOMODCACHE: "/tmp/gomod" }`},
		GitHub:     {`env: { GOMODCACHE: "/tmp/gomod" }`},
		Dockerfile: {`ENV GOMODCACHE="/tmp/gomod"`},
	},
	DiskFull: {
		Dockerfile: {"docker system df", "docker builder prune"},
	},
	ToolchainTooOld: {
		Dockerfile: {"FROM golang:VERSION"},
		GitHub:     {"- uses: actions/setup-go@v5\n  with: { go-version-file: go.mod }"},
		GitLab:     {"image: golang:VERSION"},
	},
	BuildVCS: {
		Dockerfile: {"RUN git config --global --add safe.directory DIR", `ENV GOFLAGS="-buildvcs=false"`},
	},
	SourceThrottled: {
		Dockerfile: {"RUN --mount=type=cache,target=/go/pkg/mod go mod download"},
		GitHub:     {"- uses: actions/setup-go@v5\n  with: { cache: true, go-version-file: go.mod }"},
		GitLab:     {"cache: { key: { files: [ go.sum ] }, paths: [ .cache/mod ] }", `variables: { GOMODCACHE: "$CI_PROJECT_DIR/.cache/mod" }`},
	},
	ForwardProxyLogin: {
		Dockerfile: {"docker build --build-arg HTTPS_PROXY=\"$HTTPS_PROXY\" ."},
	},
}

// evidence is what must be seen before a cause may be claimed.
var evidence = map[Cause]string{
	CauseConnectTimeout:           "A connection attempt to the host's own address ended in a timeout or without a route.",
	CauseConnectionRefused:        "The operating system reports that the connection was refused, at an address that is meant.",
	CauseConnectionResetMidway:    "A connection that stood was reset, or the answer ended early.",
	CauseIPv6Broken:               "The failing address is an IPv6 one, and no IPv4 address fails beside it.",
	CauseDNSFailure:               "A lookup of the name failed: no such host, no answer, or a resolver in trouble.",
	CauseDNSHijackOrPortal:        "A public name leads to a loopback, private or multicast address, or a redirect to a page stands for the answer.",
	CauseTLSUnknownCA:             "The check of the certificate ended at an authority that is not trusted, or no CA file was found.",
	CauseTLSCertExpiredOrClock:    "The certificate is outside its dates by the clock of the machine that checked it.",
	CauseTLSHostnameMismatch:      "The certificate is made out to other names than the one that was asked.",
	CauseTLSHandshakeTimeout:      "The connection stood, and the TLS handshake on it timed out or was cut.",
	CauseHTTPProxy407:             "The forward proxy asked for a login: 407, or that phrase in answer to CONNECT.",
	CauseHTTPProxyMisconfig:       "The failure is at the forward proxy: proxyconnect, its address, or its answer to CONNECT.",
	CauseProxy403Policy:           "The answer is 403, or a refusal in words, from a host that had no need of a login.",
	CauseProxy404410:              "A module proxy, not the checksum database, answered 404 or 410 and gave no other reason.",
	CauseUpstreamServerError:      "The answer has a status of 500 and above, or its text describes the server's own trouble.",
	CauseRateLimited429:           "The answer is 429, or says that a rate limit is exceeded.",
	CauseProxyBadResponse:         "The answer is a page, another version, or has a status that the protocol does not know.",
	CauseGOPROXYOff:               "The go command says that GOPROXY=off forbids the lookup.",
	CauseChecksumMismatchGoSum:    "A checksum mismatch with a go.sum line below it.",
	CauseChecksumMismatchSumDB:    "A checksum mismatch with a line of the checksum database, or a database that contradicts itself.",
	CauseSumDBUnreachable:         "Only requests to the checksum database fail to be answered.",
	CauseSumDBPrivate404410:       "The checksum database, by its own URL, answered 404 or 410.",
	CauseGitAuthTerminalPrompts:   "git wanted a user name or password, and there was no terminal to ask at.",
	CauseAuthRejected:             "A host answered 401, or says that the credentials are not accepted.",
	CauseGitRepoNotFound:          "The host, or git, says that there is no repository at the address.",
	CauseGitSSHPublicKey:          "ssh says that no key or method was accepted.",
	CauseGitSSHHostKey:            "ssh says that the host's key is unknown or has changed.",
	CauseGitSSHPortBlocked:        "ssh could not connect to its port, or was cut before it could greet.",
	CauseGitMissingBinary:         "The system could not find the program git, hg, svn or ssh.",
	CauseBuildVCSStatus:           "The go command could not obtain the VCS status, or git calls the directory another's.",
	CauseVCSDisallowedGOVCS:       "The go command says that GOVCS disallows it.",
	CauseInsecureScheme:           "The go command, or git, refused an address because it is not secure.",
	CauseGoImportMetaMissing:      "The page of the import path was read, or is not there, and no go-import tag fits.",
	CauseGoEnvMalformed:           "The go command names the setting and what is wrong with it.",
	CauseVersionUnknownRevision:   "The repository or proxy was reached, and says that there is no such revision.",
	CauseVersionInvalidPseudo:     "The go command says what in the version contradicts its form or its commit.",
	CauseMissingMajorSuffix:       "The go command says that path and major version do not match.",
	CauseModulePathMismatch:       "The path that go.mod declares and the required one stand side by side.",
	CausePackageNotFound:          "The go command found no module with the package, or the path cannot be one.",
	CauseModuleContentRejected:    "A file of the module is named that breaks the rules of module zip files.",
	CauseCaseImportCollision:      "Both spellings stand in the line.",
	CauseZipTooLarge:              "The limit stands in the line.",
	CauseNeedsGoModTidy:           "The go command names the missing entry, or says that go.mod or go.sum needs updates.",
	CauseVendorInconsistent:       "The go command compares vendor/modules.txt with go.mod, or names -mod=vendor as the reason.",
	CauseDependencyConflict:       "Two requirements, or two modules with one package, stand side by side.",
	CauseGoModParseError:          "The go command names the file, the line and what it cannot read.",
	CauseReplaceDirectiveProblem:  "The failing path is the right side of a replace, or the go command names the directive.",
	CauseNoModuleOrWorkspace:      "The go command found no go.mod, or a go.work that does not list this directory.",
	CauseToolchainDownloadFail:    "What could not be had is golang.org/toolchain, or a release of Go.",
	CauseToolchainLocalTooOld:     "The version that is needed and the one that runs stand side by side.",
	CauseDiskFull:                 "The operating system reports that no space or quota is left.",
	CausePermissionDeniedModCache: "The operating system denied a path of the module or build cache, or the go command cannot place it.",
	CauseCorruptedZip:             "A zip file, or its recorded hash, could not be read or is not what was written.",
	CauseNotAModuleProblem:        "A compiler, linker, test or another program is named, and no failed download.",
}

// successes is what is seen once a cause of a family is mended.
var successes = map[string]string{
	"network":          "The curl line ends in an HTTP status, whichever, and go mod download ends without a word.",
	"dns":              "getent prints an address of the service, and go mod download ends without a word.",
	"tls":              "The curl line shows the issuer you expect and an HTTP status; go mod download ends without a word.",
	"forward-proxy":    "curl through the proxy prints 200 for the tunnel, and go mod download ends without a word.",
	"module-proxy":     "go mod download MODULE@VERSION ends without a word and with exit status 0.",
	"checksums":        "go mod verify says: all modules verified.",
	"git-and-vcs":      "git ls-remote lists branches without asking anything, and the go command goes on.",
	"environment":      "go env prints the setting as you meant it, and go list -m all works.",
	"version-and-path": "go list -m MODULE@VERSION prints the version.",
	"project-files":    "go mod verify and go build ./... run, and git diff shows what changed in go.mod.",
	"toolchain":        "go version, in the directory of the module, prints the version that it asks for.",
	"local-storage":    "go mod download ends without a word and with exit status 0.",
	"none":             "Whatever printed the line works when it is run alone.",
}
