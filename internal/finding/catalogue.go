package finding

// The codes. A number is never used twice, and the gaps that retired codes leave
// stay gaps.
const (
	SourceDNS              Code = "SL-DNS-001" // the resolver has no address
	SourceForbiddenAddress Code = "SL-DNS-002" // a public name or redirect led to a private address
	DNSHijackOrPortal      Code = "SL-DNS-003" // an address or a page that cannot be the service's

	NameServerSilent  Code = "SL-DNS-004" // one that stands in resolv.conf, or all of them
	NameServersDiffer Code = "SL-DNS-005" // one denies what another has
	HostsFile         Code = "SL-DNS-006" // it has an address at which the service is not
	SearchDomain      Code = "SL-DNS-007" // it answers for a name that is whole
	ResolversDiffer   Code = "SL-DNS-008" // the go command's and the system's
	NameDenied        Code = "SL-DNS-009" // a resolver that the user trusts has it

	SourceConnectTimeout Code = "SL-NET-001"
	SourceRefused        Code = "SL-NET-002"
	SourceReset          Code = "SL-NET-003" // the connection broke, or the body ended early
	SourceStalled        Code = "SL-NET-004" // the progress budget is spent
	SourceNoRoute        Code = "SL-NET-005"
	IPv6Broken           Code = "SL-NET-006" // an IPv6 address was chosen, and IPv6 does not work

	SourceTLSUnknownCA Code = "SL-TLS-001"
	SourceTLSExpired   Code = "SL-TLS-002"
	SourceTLSHostname  Code = "SL-TLS-003"
	SourceTLSHandshake Code = "SL-TLS-004" // stalled, cut or refused
	ClockWrong         Code = "SL-TLS-005" // the clock of this machine
	NoCABundle         Code = "SL-TLS-006" // nothing here says whom to trust
	CAStoreStale       Code = "SL-TLS-007" // what says so lacks a public authority

	MissingIntermediate Code = "SL-TLS-008" // the server does not send it
	NameFiltered        Code = "SL-TLS-009" // the handshake is cut for the name in it

	ForwardProxyLogin  Code = "SL-FWD-001" // 407
	ForwardProxyBroken Code = "SL-FWD-002" // HTTPS_PROXY cannot be used
	ForwardProxyPolicy Code = "SL-FWD-003" // it refuses the host
	ForwardVariables   Code = "SL-FWD-004" // they do not mean the same to all programs

	NotFound           Code = "SL-SRC-001" // every source that was asked says so
	SourceUnauthorized Code = "SL-SRC-002" // 401
	SourceForbidden    Code = "SL-SRC-003" // 403
	SourceThrottled    Code = "SL-SRC-004" // 429
	SourceServerError  Code = "SL-SRC-005" // 5xx
	SourceSilent       Code = "SL-SRC-006" // connected, but no answer within the budget
	SourceHTML         Code = "SL-SRC-007" // a page: portal, login, filter
	SourceWrongAnswer  Code = "SL-SRC-008" // wrong JSON, another version, not text
	SourceEmpty        Code = "SL-SRC-009" // 200 without a body where there must be one
	SourceTruncated    Code = "SL-SRC-010" // fewer bytes than announced
	SourceBadStatus    Code = "SL-SRC-011" // any other status; too many redirects
	SourceTooLarge     Code = "SL-SRC-012" // a list, info or mod over its limit

	SumMismatch       Code = "SL-SUM-001" // against the checksum database
	PinMismatch       Code = "SL-SUM-002" // a private module changed since it was first seen
	SumDBUnreachable  Code = "SL-SUM-003"
	SumDBUnknown      Code = "SL-SUM-004" // the database does not know the module
	SumDBPrivate      Code = "SL-SUM-005" // a client asked for a private module there
	SumDBInconsistent Code = "SL-SUM-006" // the database contradicts its signature or itself
	GoSumMismatch     Code = "SL-SUM-007" // a go command: against the project's go.sum
	GoSumDBMismatch   Code = "SL-SUM-008" // a go command: against the checksum database

	ZipRules    Code = "SL-ZIP-001"
	ZipTooLarge Code = "SL-ZIP-002"
	ZipDamaged  Code = "SL-ZIP-003"

	ProxyOff         Code = "SL-OFF-001" // GOPROXY=off, or the list ends in it
	DirectNotAllowed Code = "SL-OFF-002" // would need version control, and the chain has no direct
	FetchDisabled    Code = "SL-OFF-003" // Disable-Module-Fetch or /cached-only
	SwitchedOffline  Code = "SL-OFF-004" // sluice switch offline on

	SourceSwitchedOff Code = "SL-OFF-005" // sluice switch SOURCE off

	VCSMissing Code = "SL-VCS-001"
	VCSFailed  Code = "SL-VCS-002"
	VCSLogin   Code = "SL-VCS-003" // the repository wants a login

	VCSRejected     Code = "SL-VCS-004" // it got one, and refused it
	VCSRepoNotFound Code = "SL-VCS-005"
	BuildVCS        Code = "SL-VCS-006" // stamping the binary failed
	GOVCSDisallows  Code = "SL-VCS-007"
	InsecureScheme  Code = "SL-VCS-008" // plain http or git://
	NoGoImport      Code = "SL-VCS-009" // no go-import tag for the path

	SSHKey     Code = "SL-SSH-001" // no accepted key
	SSHHostKey Code = "SL-SSH-002" // unknown or changed
	SSHPort    Code = "SL-SSH-003" // port 22 cannot be reached

	StoreNotWritable Code = "SL-STO-001"
	StoreFull        Code = "SL-STO-002"
	StoreDamaged     Code = "SL-STO-003"

	Loop            Code = "SL-ENV-001" // a source is Sluice itself
	ConfigMalformed Code = "SL-ENV-002"
	GoEnvMalformed  Code = "SL-ENV-003" // a setting of the go command
	GoEnvHidden     Code = "SL-ENV-004" // an environment variable hides what go env -w set
	VerificationOff Code = "SL-ENV-005" // for more than private modules

	UnknownRevision    Code = "SL-VER-001"
	InvalidPseudo      Code = "SL-VER-002" // a pseudo-version or version that is none
	MissingMajorSuffix Code = "SL-VER-003"
	ModulePathMismatch Code = "SL-VER-004"
	PackageNotFound    Code = "SL-VER-005"
	ImportCase         Code = "SL-VER-006" // one path in two spellings

	NeedsTidy          Code = "SL-MOD-001"
	VendorInconsistent Code = "SL-MOD-002"
	DependencyConflict Code = "SL-MOD-003"
	GoModParse         Code = "SL-MOD-004"
	ReplaceProblem     Code = "SL-MOD-005"
	NoModule           Code = "SL-MOD-006" // outside the module or workspace
	ReplaceIgnored     Code = "SL-MOD-007" // in a module that is not the one that is built
	WorkspaceBroken    Code = "SL-MOD-008" // go.work contradicts what is on the disk, or itself

	RecipeNoSum      Code = "SL-BLD-001" // of an image or CI: without go.mod or go.sum
	RecipeNoGit      Code = "SL-BLD-002"
	RecipeWeak       Code = "SL-BLD-003" // modules come, but less well than they could
	RecipeNotPrivate Code = "SL-BLD-004" // it does not know the private patterns

	ToolchainDownload Code = "SL-TOOL-001"
	ToolchainTooOld   Code = "SL-TOOL-002"
	NoGoCommand       Code = "SL-TOOL-003"

	DiskFull     Code = "SL-DISK-001" // where the go command works
	CacheDenied  Code = "SL-DISK-002" // the module or build cache cannot be used
	CacheDamaged Code = "SL-DISK-003" // a module in the cache, or as it came, is damaged

	NoHome        Code = "SL-DISK-004" // so that the go command has no place for anything
	HomeDenied    Code = "SL-DISK-005" // HOME or GOPATH cannot be written
	TempDenied    Code = "SL-DISK-006" // TMPDIR, GOTMPDIR, or the system's own
	ProjectDenied Code = "SL-DISK-007" // go.mod or go.sum cannot be written
	NoLocks       Code = "SL-DISK-008" // the file system has none

	BadRequest Code = "SL-REQ-001" // the path means nothing in the protocol

	NotModules Code = "SL-NONE-001" // the failure has nothing to do with obtaining modules

	Internal Code = "SL-SELF-001" // a failure that nothing else in this list names
)

// entries is the catalogue. Its prose is for somebody who sees it once, at a
// terminal, in a hurry.
var entries = [...]Entry{
	{
		Code: SourceDNS, Cause: CauseDNSFailure, Severity: Fail,
		Title: "the name of a module source cannot be resolved",
		Why:   "The resolver of the machine that runs Sluice gave no address for it, so the source was never asked.",
		Mend:  "see what the resolver says, and mend it or name another source with --proxy",
		Fix:   []string{"getent hosts HOST"},
	},
	{
		Code: SourceForbiddenAddress, Cause: CauseDNSHijackOrPortal, Severity: Fail,
		Title: "a module source led to an address inside this network",
		Why:   "A public name or a redirect pointed to a loopback, link-local or private address that no setting names.",
		Mend:  "if the address is right, name that host itself as a source with --proxy; if not, the resolver or the source lies",
		Fix:   []string{"getent hosts HOST"},
	},
	{
		Code: DNSHijackOrPortal, Cause: CauseDNSHijackOrPortal, Severity: Fail,
		Title: "something else answers in place of the service",
		Why:   "The name leads to an address that cannot be its own, or a login page answers: a filter, a hosts file, or a portal.",
		Mend:  "compare with another resolver; log in if a portal wants it",
		Fix:   []string{"getent hosts HOST", "curl -sI http://HOST/"},
	},
	{
		Code: NameServerSilent, Cause: CauseDNSFailure, Severity: Fail,
		Title: "a name server of this machine does not answer",
		Why:   "It stands in resolv.conf and gives nothing. If others come after it, each name waits for it; if not, no name is found.",
		Mend:  "put a name server there that answers, or take the dead one out where the file is made",
		Fix:   []string{"cp /etc/resolv.conf /tmp/resolv.was && grep -vw 'nameserver HOST' /tmp/resolv.was | sudo tee /etc/resolv.conf"},
	},
	{
		Code: NameServersDiffer, Cause: CauseDNSFailure, Severity: Fail,
		Title: "the name servers of this machine contradict one another",
		Why:   "One says that the name does not exist, and nobody after it is asked then. Those of a company and of the world do not mix.",
		Mend:  "keep the servers that know all names, or have one that asks the right one for each domain",
		Fix:   []string{"getent hosts HOST", "cat /etc/resolv.conf"},
	},
	{
		Code: HostsFile, Cause: CauseDNSHijackOrPortal, Severity: Fail,
		Title: "the hosts file leads a module source to another address",
		Why:   "The address that it has does not serve, and the one that the name servers have does. The hosts file wins over them.",
		Mend:  "take the name out of it; in a container look for extra_hosts or --add-host",
		Fix:   []string{"cp /etc/hosts /tmp/hosts.was && sed -E 's/[[:space:]]HOST([[:space:]]|$)/\\1/g' /tmp/hosts.was | sudo tee /etc/hosts"},
	},
	{
		Code: SearchDomain, Cause: CauseDNSHijackOrPortal, Severity: Fail,
		Title: "a search domain answers in place of a module source",
		Why:   "Domains that resolv.conf has searched are put behind the name, and one of them has an answer for every name.",
		Mend:  "have whole names asked first and take the domain out, where the file is made",
		Fix:   []string{"cp /etc/resolv.conf /tmp/resolv.was && grep -vE '^(search|domain|options.*ndots)' /tmp/resolv.was | sudo tee /etc/resolv.conf"},
	},
	{
		Code: ResolversDiffer, Cause: CauseDNSFailure, Severity: Fail,
		Title: "the resolver of the go command and that of the system disagree",
		Why:   "Go reads the hosts file and asks the servers of resolv.conf itself. What else nsswitch.conf names, it does not ask.",
		Mend:  "have resolv.conf name a server that knows the host, or write the address into the hosts file",
		Fix:   []string{"getent ahosts HOST", "getent hosts HOST | sed 's/$/ HOST/' | sudo tee -a /etc/hosts"},
	},
	{
		Code: NameDenied, Cause: CauseDNSFailure, Severity: Fail,
		Title: "the name servers here deny a name that another resolver knows",
		Why:   "The name exists. A filter, a split view of the network or a stale answer keeps the servers of this machine from giving it.",
		Mend:  "take another mirror, or let Sluice look it up: resolver in a [[source]] of its configuration",
		Fix:   []string{"getent hosts HOST", TakeBest},
	},
	{
		Code: SourceConnectTimeout, Cause: CauseConnectTimeout, Severity: Fail,
		Title: "a module source does not answer connection attempts",
		Why:   "The name resolves, but packets to it are dropped: a firewall, a filter, or a VPN that is off.",
		Mend:  "try it by hand; set HTTPS_PROXY if this network wants one, or name another source with --proxy",
		Fix:   []string{"curl -sv -m 10 -o /dev/null URL"},
	},
	{
		Code: SourceRefused, Cause: CauseConnectionRefused, Severity: Fail,
		Title: "a module source refuses connections",
		Why:   "The machine is there, but nothing listens on that port, or a firewall rejects it.",
		Mend:  "check the address and that the service runs, or name another source with --proxy",
		Fix:   []string{"curl -sv -m 10 -o /dev/null URL"},
	},
	{
		Code: SourceReset, Cause: CauseConnectionResetMidway, Severity: Fail,
		Title: "the connection to a module source broke during the download",
		Why:   "It opened and then died: a firewall's idle limit, a restart of the server, or a bad line.",
		Mend:  "run the command again; if it breaks at the same place each time, name another source with --proxy",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SourceStalled, Cause: CauseConnectionResetMidway, Severity: Fail,
		Title: "a module source stopped sending in the middle of a download",
		Why:   "The connection stayed open, but no bytes came within the time that sources.timeout gives.",
		Mend:  "run the command again, allow more time, or name another source with --proxy",
		Fix:   []string{"sluice serve --sources-timeout 2m"},
	},
	{
		Code: SourceNoRoute, Cause: CauseConnectTimeout, Severity: Fail,
		Title: "there is no route to a module source",
		Why:   "The machine that runs Sluice has no network path to its address: offline, VPN off, or only broken IPv6.",
		Mend:  "bring the network up and see which way packets would take",
		Fix:   []string{"ip route get 192.0.2.1", "getent ahosts HOST"},
	},
	{
		Code: IPv6Broken, Cause: CauseIPv6Broken, Severity: Fail,
		Title: "an IPv6 address was used, and IPv6 does not work here",
		Why:   "The name has an IPv6 address, but this machine has no working IPv6: no address, no route, or packets that get lost.",
		Mend:  "see whether IPv4 works; if it does, mend IPv6 or switch it off for this machine or container",
		Fix:   []string{"curl -4sv -m 10 -o /dev/null https://HOST/", "curl -6sv -m 10 -o /dev/null https://HOST/"},
	},
	{
		Code: SourceTLSUnknownCA, Cause: CauseTLSUnknownCA, Severity: Fail,
		Title: "the certificate of a module source is signed by an authority that is not trusted here",
		Why:   "A company gateway may have replaced it, the source may use a private authority, or the CA bundle is missing.",
		Mend:  "see who issued it; if that is your company, install its CA certificate",
		Fix: []string{
			"curl -sv -o /dev/null URL 2>&1 | grep issuer",
			"sudo cp FILE /usr/local/share/ca-certificates/company.crt && sudo update-ca-certificates",
		},
	},
	{
		Code: SourceTLSExpired, Cause: CauseTLSCertExpiredOrClock, Severity: Fail,
		Title: "the certificate of a module source is not valid at this time",
		Why:   "Either the server let it expire, or the clock of the machine that runs Sluice is wrong.",
		Mend:  "compare the clock with the certificate's dates, and set whichever is wrong",
		Fix:   []string{"date -u", "curl -svk -o /dev/null URL 2>&1 | grep date"},
	},
	{
		Code: SourceTLSHostname, Cause: CauseTLSHostnameMismatch, Severity: Fail,
		Title: "a module source shows a certificate made out to another name",
		Why:   "The address belongs to another service: wrong DNS, a wrong virtual host, or a portal in between.",
		Mend:  "check where the name leads, and correct the address of the source",
		Fix:   []string{"getent hosts HOST", "sluice config show"},
	},
	{
		Code: SourceTLSHandshake, Cause: CauseTLSHandshakeTimeout, Severity: Fail,
		Title: "the TLS handshake with a module source failed",
		Why:   "TCP works, but the handshake stalled or was cut: a filter on names, an MTU problem, or no TLS at that port.",
		Mend:  "try it by hand; if a smaller handshake passes, a box in between drops large ones",
		Fix:   []string{"curl -sv -m 10 -o /dev/null URL", "GODEBUG=tlsmlkem=0,tlssecpmlkem=0 sluice serve"},
	},
	{
		Code: ClockWrong, Cause: CauseTLSCertExpiredOrClock, Severity: Fail,
		Title: "the clock of this machine is wrong",
		Why:   "It differs from that of the servers, so certificates and tokens seem to be expired or not valid yet.",
		Mend:  "set the clock; after a laptop or virtual machine slept, synchronise it anew",
		Fix:   []string{"date -u", "sudo timedatectl set-ntp true"},
	},
	{
		Code: NoCABundle, Cause: CauseTLSUnknownCA, Severity: Fail,
		Title: "this machine has no list of certificate authorities",
		Why:   "No CA file was found, as in a slim container image, or SSL_CERT_FILE leads elsewhere; so no certificate is trusted.",
		Mend:  "install the package ca-certificates, or correct SSL_CERT_FILE",
		Fix:   []string{"env | grep SSL_CERT", "sudo apt-get install -y ca-certificates"},
	},
	{
		Code: CAStoreStale, Cause: CauseTLSUnknownCA, Severity: Fail,
		Title: "the list of certificate authorities of this machine lacks a public one",
		Why:   "The certificate is one that everybody trusts. The list here is old, was cut, or SSL_CERT_FILE names another one.",
		Mend:  "bring the package ca-certificates up to date, or correct SSL_CERT_FILE",
		Fix:   []string{"env | grep SSL_CERT", "sudo apt-get update && sudo apt-get install -y ca-certificates"},
	},
	{
		Code: MissingIntermediate, Cause: CauseTLSUnknownCA, Severity: Fail,
		Title: "a module source does not send the intermediate certificate",
		Why:   "Its own certificate is signed by one that it has to send along. Browsers may know that from elsewhere; Go and Git do not.",
		Mend:  "append the intermediate to the certificate file of the server; until then take another mirror",
		Fix:   []string{"openssl s_client -showcerts -servername HOST -connect HOST:443 < /dev/null", TakeBest},
	},
	{
		Code: NameFiltered, Cause: CauseTLSHandshakeTimeout, Severity: Fail,
		Title: "TLS connections that name this module source are cut",
		Why:   "The same address answers as long as another name, or none, is asked for: a filter on the way looks at the name.",
		Mend:  "take a mirror of another name, or a forward proxy that may reach it",
		Fix:   []string{TakeBest},
	},
	{
		Code: ForwardProxyLogin, Cause: CauseHTTPProxy407, Severity: Fail,
		Title: "the forward proxy wants a login",
		Why:   "HTTPS_PROXY names a proxy that answered 407: no user and password were sent, or they were not accepted.",
		Mend:  "put both, percent-encoded, before the host in the variable where Sluice starts, and try it",
		Fix:   []string{`curl -x "$HTTPS_PROXY" -sSI URL`},
	},
	{
		Code: ForwardProxyBroken, Cause: CauseHTTPProxyMisconfig, Severity: Fail,
		Title: "the forward proxy cannot be used",
		Why:   "HTTPS_PROXY or HTTP_PROXY is set where Sluice runs, but that proxy is unreachable or cannot reach the source.",
		Mend:  "look at the variables and correct them; hosts to reach without it belong into NO_PROXY",
		Fix:   []string{"env | grep -i _proxy", "export NO_PROXY=HOST"},
	},
	{
		Code: ForwardProxyPolicy, Cause: CauseProxy403Policy, Severity: Fail,
		Title: "the forward proxy refuses this host",
		Why:   "It answered the request for a tunnel with a refusal. The rule is its own; other credentials will rarely help.",
		Mend:  "ask whoever runs the proxy to allow the host",
		Fix:   []string{`curl -x "$HTTPS_PROXY" -sSI https://HOST/`},
	},
	{
		Code: ForwardVariables, Cause: CauseHTTPProxyMisconfig, Severity: Warn,
		Title: "the forward proxy variables do not say what they are meant to",
		Why:   "Go, Git and curl read them in different ways: small or capital letters first, and not every form of a host in NO_PROXY.",
		Mend:  "write each of them once in capital and once in small letters, alike, and hosts in the form .domain",
		Fix:   []string{"env | grep -i _proxy", `export no_proxy="$NO_PROXY"`},
	},
	{
		Code: NotFound, Cause: CauseProxy404410, Severity: Fail,
		Title: "no source has this module or version",
		Why:   "Every source that was asked answered that it does not exist. A private module needs a pattern in GOPRIVATE.",
		Mend:  "check the spelling, see what each source says, or mark the module as private",
		Fix:   []string{"sluice trace MODULE@VERSION", "go env -w GOPRIVATE=PATTERN"},
	},
	{
		Code: SourceUnauthorized, Cause: CauseAuthRejected, Severity: Fail,
		Title: "a module source wants a login (401)",
		Why:   "No credentials were sent to it, or they are wrong or expired.",
		Mend:  "give the host a line with machine, login and password in the netrc file of the user who runs Sluice",
		Fix:   []string{"${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"},
	},
	{
		Code: SourceForbidden, Cause: CauseProxy403Policy, Severity: Fail,
		Title: "a module source refuses this request (403)",
		Why:   "A rule of the source, or of a gateway before it, forbids it. Sluice does not go round a refusal.",
		Mend:  "ask its operator to allow the module or host; see what it says",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SourceThrottled, Cause: CauseRateLimited429, Severity: Fail,
		Title: "a module source throttles us (429)",
		Why:   "Too many requests came from this address. Sluice asks it again when its Retry-After is over.",
		Mend:  "wait, or name another source with --proxy",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SourceServerError, Cause: CauseUpstreamServerError, Severity: Fail,
		Title: "a module source failed on its side",
		Why:   "It answered with a server error. Nothing has to be changed here.",
		Mend:  "try again later, or let a second source take over",
		Fix:   []string{"sluice serve --proxy 'https://YOUR-PROXY|https://YOUR-MIRROR'"},
	},
	{
		Code: SourceSilent, Cause: CauseUpstreamServerError, Severity: Fail,
		Title: "a module source accepted the request and gave no answer",
		Why:   "The connection stands, but no answer began within the time that sources.timeout gives.",
		Mend:  "try again later, or let a second source take over",
		Fix:   []string{"sluice serve --proxy 'https://YOUR-PROXY|https://YOUR-MIRROR'"},
	},
	{
		Code: SourceHTML, Cause: CauseProxyBadResponse, Severity: Fail,
		Title: "a web page came back where a module file should be",
		Why:   "A login page, captive portal or filter answers for the source, or its address is not that of a module proxy.",
		Mend:  "open the page to see whose it is: log in there, or correct the address of the source",
		Fix:   []string{"curl -sL URL | head -n 20", "sluice config show"},
	},
	{
		Code: SourceWrongAnswer, Cause: CauseProxyBadResponse, Severity: Fail,
		Title: "a module source gave an answer that does not fit the request",
		Why:   "It is not in the form of the GOPROXY protocol, or it is about another module or version. It was not stored.",
		Mend:  "see what each source answers, and leave out the one that is wrong",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SourceEmpty, Cause: CauseProxyBadResponse, Severity: Fail,
		Title: "a module source gave an empty answer",
		Why:   "It said 200 and sent nothing, where only a list may be empty. It was not stored.",
		Mend:  "see what each source answers, and leave out the one that is wrong",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SourceTruncated, Cause: CauseConnectionResetMidway, Severity: Fail,
		Title: "a module source sent fewer bytes than it announced",
		Why:   "The download ended early. The part that came was not stored.",
		Mend:  "run the command again; if it stops at the same place each time, name another source with --proxy",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SourceBadStatus, Cause: CauseProxyBadResponse, Severity: Fail,
		Title: "a module source answered with a status that the protocol does not know",
		Why:   "Something at that address is no module proxy, or redirects in a circle.",
		Mend:  "check the address of the source",
		Fix:   []string{"curl -sIL URL", "sluice config show"},
	},
	{
		Code: SourceTooLarge, Cause: CauseProxyBadResponse, Severity: Fail,
		Title: "a module source sent a list, info or mod file larger than any real one",
		Why:   "The go command takes a go.mod file of at most 16 MiB; the other limits are as generous. The answer was dropped.",
		Mend:  "see what each source answers, and leave out the one that is wrong",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SumMismatch, Cause: CauseChecksumMismatchSumDB, Severity: Fail,
		Title: "the bytes from a module source are not those that the checksum database knows",
		Why:   "The source changed them, or the author moved the tag. They are in quarantine; nobody got them whole.",
		Mend:  "see which source it is and leave it out; do not switch the check off",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: PinMismatch, Cause: CauseChecksumMismatchGoSum, Severity: Fail,
		Title: "a private module is no longer what it was the first time",
		Why:   "Somebody moved the tag or rewrote its history. Sluice keeps to the first bytes and quarantined the new ones.",
		Mend:  "ask its owner for a new version instead of a moved tag",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: SumDBUnreachable, Cause: CauseSumDBUnreachable, Severity: Fail,
		Title: "the checksum database cannot be reached",
		Why:   "New modules cannot be checked, so they are not served; what is in the store still is.",
		Mend:  "use a source that carries the database, or mark modules that are private",
		Fix:   []string{"sluice trace MODULE@VERSION", "go env -w GOPRIVATE=PATTERN"},
	},
	{
		Code: SumDBUnknown, Cause: CauseSumDBPrivate404410, Severity: Fail,
		Title: "the checksum database does not know this module version",
		Why:   "It knows every public one. This one is private, mistyped or deleted, so it cannot be checked and is not served.",
		Mend:  "if it is private, say so to Sluice and to the go command",
		Fix:   []string{"sluice serve --private PATTERN", "go env -w GOPRIVATE=PATTERN"},
	},
	{
		Code: SumDBPrivate, Cause: CauseSumDBPrivate404410, Severity: Fail,
		Title: "a private module was asked for at a public checksum database",
		Why:   "Sluice does not pass the name on, as it matches the private patterns. The go command does not know them.",
		Mend:  "tell the go command which modules the database must not be asked for",
		Fix:   []string{"go env -w GONOSUMDB=PATTERN"},
	},
	{
		Code: SumDBInconsistent, Cause: CauseChecksumMismatchSumDB, Severity: Fail,
		Title: "the checksum database contradicts itself",
		Why:   "A signature, proof or tree head does not fit what it said before. Somebody in between may answer for it.",
		Mend:  "compare with the database over another network, and check gosumdb",
		Fix:   []string{"curl -s URLlatest", "sluice config show"},
	},
	{
		Code: GoSumMismatch, Cause: CauseChecksumMismatchGoSum, Severity: Fail,
		Title: "the download is not what go.sum says it must be",
		Why:   "The tag was moved, a mirror changed the bytes, the cache is damaged, or go.sum was merged wrongly.",
		Mend:  "fetch it again into an empty cache; if it still differs, ask the author before you touch go.sum",
		Fix:   []string{"GOMODCACHE=$(mktemp -d) go mod download MODULE@VERSION", "git log -p -- go.sum"},
	},
	{
		Code: GoSumDBMismatch, Cause: CauseChecksumMismatchSumDB, Severity: Fail,
		Title: "the download is not what the checksum database says it must be",
		Why:   "A source gave other bytes than the rest of the world got: a moved tag, a mirror that changes files, or tampering.",
		Mend:  "take another version or another source; do not switch the check off",
		Fix:   []string{"GOPROXY=https://YOUR-PROXY go mod download MODULE@VERSION"},
	},
	{
		Code: ZipRules, Cause: CauseModuleContentRejected, Severity: Fail,
		Title: "the module's zip file breaks the rules for module zip files",
		Why:   "It has file names that collide, are not allowed or lie outside the module. The go command would refuse it too.",
		Mend:  "take another version; only the author can mend this one",
		Fix:   []string{"go list -m -versions MODULE"},
	},
	{
		Code: ZipTooLarge, Cause: CauseZipTooLarge, Severity: Fail,
		Title: "the module's zip file is too large",
		Why:   "The go command accepts at most 500 MiB, packed and unpacked. It was not stored.",
		Mend:  "take another version; only the author can mend this one",
		Fix:   []string{"go list -m -versions MODULE"},
	},
	{
		Code: ZipDamaged, Cause: CauseCorruptedZip, Severity: Fail,
		Title: "a module source sent a damaged zip file",
		Why:   "It cannot be read as a zip archive, or a file in it does not fit its CRC. It was not stored.",
		Mend:  "run the command again; see which source it is",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
	{
		Code: ProxyOff, Cause: CauseGOPROXYOff, Severity: Fail,
		Title: "module downloads are switched off here",
		Why:   "The list of sources is off, or ends there, and the store does not have this module.",
		Mend:  "see which setting says so, and name a source",
		Fix:   []string{"sluice config show", "sluice serve --proxy https://YOUR-PROXY"},
	},
	{
		Code: DirectNotAllowed, Cause: CauseGOPROXYOff, Severity: Fail,
		Title: "this module would have to come from version control, which is not among the sources",
		Why:   "No proxy in the list has it, and the list does not end in direct. Sluice adds no source by itself.",
		Mend:  "add direct to the list if version control may be used",
		Fix:   []string{"sluice serve --proxy https://YOUR-PROXY,direct"},
	},
	{
		Code: FetchDisabled, Cause: CauseGOPROXYOff, Severity: Fail,
		Title: "this module is not in the store, and the request forbids to fetch it",
		Why:   "The client sent Disable-Module-Fetch, or asked below /cached-only.",
		Mend:  "ask once without that header or path",
		Fix:   []string{"go mod download MODULE@VERSION"},
	},
	{
		Code: SwitchedOffline, Cause: CauseGOPROXYOff, Severity: Fail,
		Title: "Sluice was switched offline, and does not have this",
		Why:   "Somebody who runs it has switched it so for a while: what it has is served, and nothing is fetched.",
		Mend:  "wait, or switch it back where it runs",
		Fix:   []string{"sluice switch", "sluice switch offline off"},
	},
	{
		Code: SourceSwitchedOff, Cause: CauseGOPROXYOff, Severity: Fail,
		Title: "a module source is switched off, and no other source has this",
		Why:   "Somebody who runs Sluice has taken the source out of use for a while; the reason stands beside this.",
		Mend:  "wait, or switch it back where Sluice runs",
		Fix:   []string{"sluice switch", "sluice switch URL on"},
	},
	{
		Code: VCSMissing, Cause: CauseGitMissingBinary, Severity: Fail,
		Title: "a version control program is not installed where the module is fetched",
		Why:   "The module comes straight from its repository, which needs the go command and git, hg or svn on PATH.",
		Mend:  "install it on the machine or in the image that runs Sluice",
		Fix:   []string{"sudo apt-get install -y git"},
	},
	{
		Code: VCSFailed, Cause: CauseUpstreamServerError, Severity: Fail,
		Title: "fetching the module from its repository failed",
		Why:   "The go command or the version control program gave the reason that stands beside this.",
		Mend:  "run the same fetch by hand to see all of its output",
		Fix:   []string{"GOPROXY=direct go mod download -x MODULE@VERSION"},
	},
	{
		Code: VCSLogin, Cause: CauseGitAuthTerminalPrompts, Severity: Fail,
		Title: "the module's repository wants a login",
		Why:   "It is private, or does not exist: hosts answer both alike. Sluice never prompts.",
		Mend:  "check the path; for a private one give its host a line in the netrc file of the user who runs Sluice",
		Fix:   []string{"git ls-remote https://MODULE", "${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"},
	},
	{
		Code: VCSRejected, Cause: CauseAuthRejected, Severity: Fail,
		Title: "a host refused the credentials it was given",
		Why:   "The password or token is wrong, expired, without the right scope, or belongs to an account without access.",
		Mend:  "make a new token with read access, and put it where git and go look",
		Fix:   []string{"git ls-remote https://MODULE", "${EDITOR:-vi} ~/.netrc && chmod 600 ~/.netrc"},
	},
	{
		Code: VCSRepoNotFound, Cause: CauseGitRepoNotFound, Severity: Fail,
		Title: "there is no such repository, or this login may not see it",
		Why:   "It was renamed, deleted or mistyped, or it is private: hosts answer both alike. A url.insteadOf may lead astray.",
		Mend:  "open the address in a browser, and look at the rewrites git applies",
		Fix:   []string{"git ls-remote https://MODULE", "git config --get-regexp insteadof"},
	},
	{
		Code: BuildVCS, Cause: CauseBuildVCSStatus, Severity: Fail,
		Title: "the version control state of the project could not be read",
		Why:   "Nothing is wrong with the modules: go build writes the commit into the program, and git failed at that.",
		Mend:  "tell git that the directory is yours, or build without the stamp",
		Fix:   []string{"git config --global --add safe.directory DIR", "go build -buildvcs=false ./..."},
	},
	{
		Code: GOVCSDisallows, Cause: CauseVCSDisallowedGOVCS, Severity: Fail,
		Title: "GOVCS forbids this version control system for the module",
		Why:   "The setting says which systems may be used for public and private modules, and this one is not among them.",
		Mend:  "fetch it through a module proxy, or allow the system for this one path",
		Fix:   []string{"go env -w 'GOVCS=PATTERN:all,public:git|hg,private:all'"},
	},
	{
		Code: InsecureScheme, Cause: CauseInsecureScheme, Severity: Fail,
		Title: "the server offers plain http only, which the go command refuses",
		Why:   "What comes over it could be changed on the way. The address, or a redirect of the server, leads to http.",
		Mend:  "give the server https; else allow http for this one path",
		Fix:   []string{"go env -w GOINSECURE=PATTERN"},
	},
	{
		Code: NoGoImport, Cause: CauseGoImportMetaMissing, Severity: Fail,
		Title: "the page of the import path does not say where the module is",
		Why:   "It has no go-import tag that fits the path: a typing error, a page that wants a login, or a server without the tag.",
		Mend:  "see what the page says; a private host needs a login in netrc",
		Fix:   []string{"curl -sL 'https://MODULE?go-get=1' | grep -i go-import"},
	},
	{
		Code: SSHKey, Cause: CauseGitSSHPublicKey, Severity: Fail,
		Title: "the git server accepts none of the SSH keys",
		Why:   "The connection stands, but no key was offered, or its public half is not known to the account there.",
		Mend:  "load the key, and see which account the server takes you for",
		Fix:   []string{"ssh-add -l", "ssh -T git@HOST"},
	},
	{
		Code: SSHHostKey, Cause: CauseGitSSHHostKey, Severity: Fail,
		Title: "the key of the git server is not known, or has changed",
		Why:   "The known_hosts file has no line for it, or another one. In a fresh container there is no such file at all.",
		Mend:  "compare the fingerprint with the one the server publishes, then add the key",
		Fix:   []string{"ssh-keyscan HOST >> ~/.ssh/known_hosts"},
	},
	{
		Code: SSHPort, Cause: CauseGitSSHPortBlocked, Severity: Fail,
		Title: "the SSH port of the git server cannot be reached",
		Why:   "A firewall or filter drops or cuts port 22. This is not about keys.",
		Mend:  "use https for this host, or SSH over port 443 where the host offers it",
		Fix: []string{
			"git config --global --add url.https://HOST/.insteadOf git@HOST: && git config --global --add url.https://HOST/.insteadOf ssh://'git'@HOST/", // the quotes keep it from being taken for a login
			"ssh -T -p 443 git@ssh.HOST",
		},
	},
	{
		Code: StoreNotWritable, Cause: CausePermissionDeniedModCache, Severity: Warn,
		Title: "the store cannot be written",
		Why:   "The data directory is read-only or belongs to another user. Modules are passed through and not kept.",
		Mend:  "give the directory to the user who runs Sluice, or choose another one",
		Fix:   []string{"ls -ld DIR", "sluice serve --data ~/sluice"},
	},
	{
		Code: StoreFull, Cause: CauseDiskFull, Severity: Warn,
		Title: "the disk of the store is full",
		Why:   "Less space is free than store.reserve keeps, or no inodes or quota are left. Modules are passed through, not kept.",
		Mend:  "free some space, or move the store to another disk",
		Fix:   []string{"df -h DIR", "df -i DIR"},
	},
	{
		Code: StoreDamaged, Cause: CauseCorruptedZip, Severity: Warn,
		Title: "a file in the store is damaged",
		Why:   "It is not what was written: a sick disk, or somebody changed it. It is not served, and is fetched anew.",
		Mend:  "read the whole store again, which quarantines what has rotted",
		Fix:   []string{"sluice verify --data DIR"},
	},
	{
		Code: Loop, Cause: CauseGoEnvMalformed, Severity: Fail,
		Title: "Sluice is among its own sources",
		Why:   "A request came back to the Sluice that sent it, so GOPROXY where Sluice runs names Sluice itself.",
		Mend:  "name the real sources",
		Fix:   []string{"sluice config show", "sluice serve --proxy https://YOUR-PROXY"},
	},
	{
		Code: ConfigMalformed, Cause: CauseGoEnvMalformed, Severity: Fail,
		Title: "a setting is not valid",
		Why:   "The configuration file, an environment variable or a go env setting cannot be read as what it should be.",
		Mend:  "see all mistakes at once, each with its place",
		Fix:   []string{"sluice config check --config FILE"},
	},
	{
		Code: GoEnvMalformed, Cause: CauseGoEnvMalformed, Severity: Fail,
		Title: "a setting of the go command is not valid",
		Why:   "GOPROXY, GOFLAGS, GOSUMDB or another GO setting has a value that cannot be read as what it should be.",
		Mend:  "see the value and correct it; an environment variable outranks go env -w",
		Fix:   []string{"go env GOPROXY GOFLAGS GOSUMDB GOPRIVATE GONOSUMDB", "env | grep ^GO"},
	},
	{
		Code: GoEnvHidden, Cause: CauseGoEnvMalformed, Severity: Warn,
		Title: "an environment variable hides what go env -w has set",
		Why:   "The environment outranks the file of go env -w, so what was written there has no effect.",
		Mend:  "unset the variable where it is exported, or remove the other value with go env -u",
		Fix:   []string{"env | grep ^GO"},
	},
	{
		Code: VerificationOff, Cause: CauseGoEnvMalformed, Severity: Warn,
		Title: "modules are not verified, or not only private ones",
		Why:   "GOSUMDB, GONOSUMDB, GOPRIVATE or GOINSECURE switches off the check for public modules too.",
		Mend:  "name only your own hosts in GOPRIVATE, and leave GOSUMDB as it is by default",
		Fix:   []string{"go env GOSUMDB GONOSUMDB GOPRIVATE GOINSECURE", "go env -u GOSUMDB"},
	},
	{
		Code: UnknownRevision, Cause: CauseVersionUnknownRevision, Severity: Fail,
		Title: "there is no such version, tag or commit",
		Why:   "It was mistyped, deleted, never pushed, or all that fits is retracted. The repository itself was found.",
		Mend:  "see which versions there are",
		Fix:   []string{"go list -m -versions MODULE"},
	},
	{
		Code: InvalidPseudo, Cause: CauseVersionInvalidPseudo, Severity: Fail,
		Title: "the version is not in the form it must have",
		Why:   "A pseudo-version contradicts its commit, or a branch or bare hash stands where go.mod wants a version.",
		Mend:  "let the go command work the version out from the branch or commit",
		Fix:   []string{"go get MODULE@latest"},
	},
	{
		Code: MissingMajorSuffix, Cause: CauseMissingMajorSuffix, Severity: Fail,
		Title: "the module path and the major version do not fit together",
		Why:   "From v2 on the path must end in /v2 and so on, in go.mod, in imports and in commands alike.",
		Mend:  "add the suffix, or take a version below v2",
		Fix:   []string{"go list -m -versions MODULE"},
	},
	{
		Code: ModulePathMismatch, Cause: CauseModulePathMismatch, Severity: Fail,
		Title: "the module calls itself by another path",
		Why:   "Its go.mod declares another path than the one that was asked for: a fork, a rename, or a moved vanity path.",
		Mend:  "use the path that it declares; for a fork, keep that path and add a replace",
		Fix:   []string{"go mod edit -replace MODULE=FORK@VERSION"},
	},
	{
		Code: PackageNotFound, Cause: CausePackageNotFound, Severity: Fail,
		Title: "no module has this package",
		Why:   "The module was found but not the package in it, or the path cannot belong to any module.",
		Mend:  "check the import path; see which packages the version has",
		Fix:   []string{"go list MODULE/..."},
	},
	{
		Code: ImportCase, Cause: CauseCaseImportCollision, Severity: Fail,
		Title: "one package is imported in two spellings",
		Why:   "The paths differ only in upper and lower case. Some dependency still uses the old spelling.",
		Mend:  "use the spelling that the module declares everywhere, and update what imports the other",
		Fix:   []string{"go mod graph | grep -i MODULE"},
	},
	{
		Code: NeedsTidy, Cause: CauseNeedsGoModTidy, Severity: Fail,
		Title: "go.mod or go.sum lacks an entry",
		Why:   "The go command will not add it by itself in this mode. Nothing is wrong with the network.",
		Mend:  "let the go command add it, and commit both files",
		Fix:   []string{"go mod tidy"},
	},
	{
		Code: VendorInconsistent, Cause: CauseVendorInconsistent, Severity: Fail,
		Title: "the vendor directory does not fit go.mod",
		Why:   "It is out of date, or -mod=vendor forbids what the command needs.",
		Mend:  "make it anew, or build without it",
		Fix:   []string{"go mod vendor", "go build -mod=mod ./..."},
	},
	{
		Code: DependencyConflict, Cause: CauseDependencyConflict, Severity: Fail,
		Title: "the requirements cannot all hold",
		Why:   "Two modules have the same package, or one needs a version that another rules out.",
		Mend:  "see who requires what, and raise the module that lags behind",
		Fix:   []string{"go mod graph | grep MODULE", "go get MODULE@latest"},
	},
	{
		Code: GoModParse, Cause: CauseGoModParseError, Severity: Fail,
		Title: "go.mod, go.work or go.sum cannot be read",
		Why:   "A line is not valid: a typing error, a merge left open, or a form that this Go version does not know.",
		Mend:  "go to the line that is named; a newer Go may know it",
		Fix:   []string{"go mod edit -print", "go version"},
	},
	{
		Code: ReplaceProblem, Cause: CauseReplaceDirectiveProblem, Severity: Fail,
		Title: "a replace line leads nowhere",
		Why:   "It points to a directory that is not here or to no module; or the command does not allow replace lines.",
		Mend:  "drop the line, or bring the directory; go install wants a module without replace",
		Fix:   []string{"go mod edit -dropreplace=MODULE", "git clone https://MODULE"},
	},
	{
		Code: NoModule, Cause: CauseNoModuleOrWorkspace, Severity: Fail,
		Title: "the command runs outside the module or workspace it needs",
		Why:   "There is no go.mod here, go.work does not list this directory, or GO111MODULE=off.",
		Mend:  "go to the directory of the module; make one with go mod init, or list it in go.work if there is one",
		Fix:   []string{"go mod init example.com/app", "go work use ."},
	},
	{
		Code: ReplaceIgnored, Cause: CauseReplaceDirectiveProblem, Severity: Fail,
		Title: "a module works only with a replace line that does not hold here",
		Why:   "Replace lines hold in the module that is built, and in no other: those of a dependency are not read.",
		Mend:  "put the replace, or a version that was really released, into your own go.mod",
		Fix:   []string{"go mod edit -replace MODULE=FORK@VERSION", "go get MODULE@latest"},
	},
	{
		Code: WorkspaceBroken, Cause: CauseNoModuleOrWorkspace, Severity: Fail,
		Title: "the workspace is not in order",
		Why:   "The file go.work names a directory without a go.mod, contradicts a module of its own, or is not where GOWORK says.",
		Mend:  "see which file is in force and mend it, or build without it",
		Fix:   []string{"go env GOWORK", "export GOWORK=off"},
	},
	{
		Code: RecipeNoSum, Cause: CauseNeedsGoModTidy, Severity: Warn,
		Title: "an image is built without the go.mod or go.sum of the project",
		Why:   "What is not copied, or is left out by .dockerignore, cannot hold downloads to the committed checksums.",
		Mend:  "copy go.mod and go.sum before modules are downloaded",
		Fix:   []string{"grep -n go. .dockerignore"},
	},
	{
		Code: RecipeNoGit, Cause: CauseGitMissingBinary, Severity: Warn,
		Title: "an image fetches private modules, and has no git",
		Why:   "What goes past the proxies comes by git, which small base images do not have.",
		Mend:  "install git before modules are downloaded",
		Fix:   []string{"sudo apk add --no-cache git"},
	},
	{
		Code: RecipeWeak, Cause: CauseGoEnvMalformed, Severity: Warn,
		Title: "a build recipe obtains modules in a weaker way than it could",
		Why:   "GOPROXY=direct, -mod=mod or a cache key without go.sum makes builds slow, or lets them drift from what is committed.",
		Mend:  "go to the line that is named, and leave the setting out or narrow it",
		Fix:   []string{"go env GOPROXY GOFLAGS"},
	},
	{
		Code: RecipeNotPrivate, Cause: CauseProxy404410, Severity: Warn,
		Title: "an image build asks public proxies for private modules",
		Why:   "GOPRIVATE is set here and not in the image, so the names of private modules go out, and are not found.",
		Mend:  "set GOPRIVATE in the image too",
		Fix:   []string{"go env -w GOPRIVATE=PATTERN"},
	},
	{
		Code: ToolchainDownload, Cause: CauseToolchainDownloadFail, Severity: Fail,
		Title: "another Go version is wanted, and cannot be had",
		Why:   "The one that go.mod, go.work or GOTOOLCHAIN names does not exist, or the proxy lacks it, or it cannot be verified.",
		Mend:  "name a release that exists, or install it and stay with it",
		Fix:   []string{"go env GOTOOLCHAIN", "go env -w GOTOOLCHAIN=local"}, // the two that go before the switch
	},
	{
		Code: ToolchainTooOld, Cause: CauseToolchainLocalTooOld, Severity: Fail,
		Title: "this Go is older than the module needs",
		Why:   "The module names a newer version, and switching is forbidden (GOTOOLCHAIN=local) or impossible.",
		Mend:  "install a newer Go, or allow the switch",
		Fix:   []string{"go version", "go env -w GOTOOLCHAIN=auto"},
	},
	{
		Code: NoGoCommand, Cause: CauseToolchainLocalTooOld, Severity: Warn,
		Title: "there is no go command in PATH",
		Why:   "Modules can be fetched without it, and nothing can be built; its own defaults are not known either.",
		Mend:  "install Go, or add its bin directory to PATH",
		Fix:   []string{"echo $PATH", "ls /usr/local/go/bin"},
	},
	{
		Code: DiskFull, Cause: CauseDiskFull, Severity: Fail,
		Title: "there is no space left where the go command works",
		Why:   "The disk, its inodes, or the quota of the module cache, build cache or temporary directory is used up.",
		Mend:  "free some space; the caches come back by themselves",
		Fix:   []string{"df -h DIR", "go clean -cache"},
	},
	{
		Code: CacheDenied, Cause: CausePermissionDeniedModCache, Severity: Fail,
		Title: "the module or build cache cannot be used",
		Why:   "It belongs to another user, or lies where nothing may be written, such as a file system that is mounted read-only.",
		Mend:  "see where it is and whose, and give it to this user or name another place",
		Fix:   []string{"ls -ld $(go env GOMODCACHE GOCACHE)", "go env -w GOMODCACHE=DIR"},
	},
	{
		Code: CacheDamaged, Cause: CauseCorruptedZip, Severity: Fail,
		Title: "the archive of a module is damaged",
		Why:   "It was cut short on the way or spoilt in the cache, so it cannot be unpacked or is not what was recorded.",
		Mend:  "remove what is damaged in the module cache, and nothing else, and fetch it again",
		Fix:   []string{"sluice rescue --cache", "go mod download MODULE@VERSION"},
	},
	{
		Code: NoHome, Cause: CausePermissionDeniedModCache, Severity: Fail,
		Title: "HOME is not set, so the go command has no place for its files",
		Why:   "Modules, builds and settings lie below it by default. Services, cron and some CI systems start programs without it.",
		Mend:  "set HOME, as a login does",
		Fix:   []string{`export HOME="$(getent passwd "$(id -u)" | cut -d: -f6 | grep . || mktemp -d)"`},
	},
	{
		Code: HomeDenied, Cause: CausePermissionDeniedModCache, Severity: Fail,
		Title: "the home directory, or the one of GOPATH, cannot be written",
		Why:   "All that the go command keeps lies there by default. It is not there, is read-only, or belongs to another user.",
		Mend:  "name directories that this user can write, for GOPATH and GOCACHE",
		Fix:   []string{"ls -ld ~ $(go env GOPATH GOCACHE)", `export GOPATH="$(mktemp -d)"; export GOCACHE="$GOPATH/build"`},
	},
	{
		Code: TempDenied, Cause: CausePermissionDeniedModCache, Severity: Fail,
		Title: "the temporary directory cannot be used",
		Why:   "GOTMPDIR or TMPDIR names one that is not there or cannot be written, or the system's own is so. Builds happen in it.",
		Mend:  "leave the variables out, or name a directory that can be written",
		Fix:   []string{"ls -ld ${GOTMPDIR:-${TMPDIR:-/tmp}}", "unset GOTMPDIR TMPDIR"},
	},
	{
		Code: ProjectDenied, Cause: CausePermissionDeniedModCache, Severity: Fail,
		Title: "go.mod or go.sum of the project cannot be written",
		Why:   "They lack something that the go command would add, and the project is mounted read-only or is another user's.",
		Mend:  "add it where the project can be written, and commit both files; or mount it so that it can be",
		Fix:   []string{"ls -ld . go.mod go.sum", "go mod tidy"},
	},
	{
		Code: NoLocks, Cause: CausePermissionDeniedModCache, Severity: Fail,
		Title: "the file system has no locks, which the go command needs",
		Why:   "The module cache, or the project, lies on a network share or in a mount that cannot lock files.",
		Mend:  "put the module cache on a local disk",
		Fix:   []string{"df -hT $(go env GOMODCACHE)", "go env -w GOMODCACHE=DIR"},
	},
	{
		Code: BadRequest, Cause: CausePackageNotFound, Severity: Fail,
		Title: "the request is not one of the GOPROXY protocol",
		Why:   "No module can have this path or version; upper-case letters are written as ! and the small letter.",
		Mend:  "check the module path and version, and that GOPROXY is the address of Sluice with nothing after it",
		Fix:   []string{"go env GOPROXY"},
	},
	{
		Code: NotModules, Cause: CauseNotAModuleProblem, Severity: Fail,
		Title: "this is not a problem with obtaining modules",
		Why:   "What failed is compiling, testing, another program or the machine. The modules are not the matter.",
	},
	{
		Code: Internal, Cause: CauseUpstreamServerError, Severity: Fail,
		Title: "Sluice failed to answer",
		Why:   "Something went wrong that has no name of its own. The log has the whole error under the request's id.",
		Mend:  "follow the request step by step, and report what it shows",
		Fix:   []string{"sluice trace MODULE@VERSION"},
	},
}
