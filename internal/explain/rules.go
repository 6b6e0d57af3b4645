package explain

import (
	"slices"
	"strings"
	"sync"

	"github.com/modsluice/sluice/internal/finding"
)

// A weight says what a phrase is worth against others.
type weight int

const (
	none weight = iota
	// faint is a warning: it is the cause only where nothing else is said.
	faint
	// vague fits a module problem, but other things as well.
	vague
	// header announces what a following line says more exactly.
	header
	// telling decides.
	telling
)

// rules are the phrases that the go command, version control programs, ssh, curl
// and the systems under them print, by what they mean. They were read out of the
// format strings of
//
//	cmd/go/internal/{modfetch,modload,modget,web,vcs,toolchain,work,load,cfg}
//	golang.org/x/mod/{modfile,module,zip,sumdb}
//	net, net/http, crypto/tls, crypto/x509, archive/zip, syscall (Windows)
//	git (with its translations), OpenSSH, libcurl with OpenSSL, GnuTLS and Schannel, Mercurial, Subversion
//
// A line is one phrase, in lower case. A star is a gap; ^ at the start means the
// start of the message; a first character ? makes it vague, ~ a header. What
// several lines have in common is decided by weight, then by which
// comes first; within a line the rightmost wins, as Go wraps errors from the left.
var rules = []struct {
	code    finding.Code
	phrases string
}{
	// --- network
	{finding.SourceConnectTimeout, `
dial tcp*i/o timeout
dial tcp*connection timed out
dial tcp*operation timed out
dial tcp*host is down
dial tcp*context deadline exceeded
dial tcp*operation was canceled
: connectex:
a connection attempt failed because the connected party did not properly respond
由于连接方在一段时间后没有正确答复
ein verbindungsversuch ist fehlgeschlagen
une tentative de connexion a
tentativa de conex
se produjo un error durante el intento de conexi
Попытка установить соединение была безуспешной
接続済みの呼び出し先が一定の時間
連線嘗試失敗
failed to connect to * port
failed connect to
couldn't connect to server
could not connect to server
connection timed out after
connection timeout after
resolving timed out after
client.timeout exceeded while awaiting headers
client.timeout or context cancellation while
request canceled while waiting for connection
abort: error: connection timed out
connect to host * timed out
连接超时
?connection timed out
?operation timed out
?i/o timeout
?context deadline exceeded
?timeout was reached
?net/http: request canceled
?dial tcp 
connect etimedout
?connect timed out
`},
	{finding.SourceNoRoute, `
no route to host
network is unreachable
network is down
host is unreachable
socket operation was attempted to an unreachable
connect: can't assign requested address
connect: cannot assign requested address
socket is not connected
address family not supported by protocol
网络不可达
没有到主机的路由
das netzwerk ist nicht erreichbar
le réseau n'est pas accessible
la red es inaccesible
Сеть недоступна
`},
	{finding.SourceRefused, `
connection refused
connect econnrefused
dial tcp*connect: permission denied
dial tcp*connect: operation not permitted
actively refused
由于目标计算机积极拒绝
da der zielcomputer die verbindung verweigerte
l'ordinateur cible l'a expressément refusée
denegó expresamente dicha conexión
as recusou ativamente
отверг запрос на подключение
対象のコンピューターによって拒否された
電腦拒絕連線
拒绝连接
verbindungsaufbau abgelehnt
connexion refusée
conexión rehusada
conexão recusada
В соединении отказано
接続を拒否されました
`},
	{finding.SourceReset, `
connection reset by
connection was reset
read econnreset
?read tcp *->
?write tcp *->
unexpectedly closed the connection
?socket hang up
connection reset
forcibly closed
: wsarecv:
: wsasend:
远程主机强迫关闭了一个现有的连接
vom remotehost geschlossen
fermée par l'hôte distant
forzado a interrumpir
Удаленный хост принудительно разорвал
unexpected eof
": eof
stream error: stream id
http2: server sent goaway
http2: client connection lost
http2: client connection force closed
http2: timeout awaiting response headers
server closed idle connection
http: server closed connection
transport connection broken
use of closed network connection
transport endpoint is not connected
read tcp*i/o timeout
read tcp*operation timed out
read tcp*connection timed out
write tcp*broken pipe
write tcp*i/o timeout
net/http: timeout awaiting response headers
client.timeout or context cancellation while reading body
body: context deadline exceeded
early eof
rpc failed; curl
rpc failed; http*curl
rpc 失败*curl
rpc fehlgeschlagen; curl
empty reply from server
recv failure
send failure
gnutls recv error
openssl ssl_read
openssl ssl_write
schannel: server closed abruptly
transfer closed with
curl 18
curl 56
curl 92
operation too slow
was not closed cleanly
the tls connection was non-properly terminated
invalid index-pack output
failed receiving http2 data
failed sending http2 data
failed sending data to the peer
failure when receiving data from the peer
error in the http2 framing layer
connection died, tried
http2: transport received
http2: client conn
http2: stream closed
http2: response body closed
http: read on closed response body
malformed chunked encoding
server replied with more than declared content-length
?unable to access 'http
?fetch-pack: unexpected disconnect while reading sideband packet
?fetch-pack: invalid index-pack output
?index-pack failed
tls: bad record mac
?broken pipe
?the remote end hung up unexpectedly
?远端意外挂断
?die gegenstelle hat unerwartet
?ssl read:
?连接被对方重设
?连接被重置
`},
	// --- DNS
	{finding.SourceDNS, `
no such host
server misbehaving
lookup * i/o timeout
lookup * connection refused
lookup * connection reset by peer
lookup * dial udp
lookup * read udp
lookup * connection timed out
lookup * operation not permitted
lookup * no answer from dns server
lookup * cannot unmarshal dns message
lookup * permission denied
lookup * temporary failure
lookup * device or resource busy
lookup * dns
lookup * servfail
lookup * try again
dial tcp: lookup *: 
getaddrinfow:
could not resolve host
couldn't resolve host
could not resolve hostname
unable to look up 
name or service not known
temporary failure in name resolution
nodename nor servname provided
no address associated with
name does not resolve
getaddrinfo enotfound
getaddrinfo eai_again
unknown host
no data record of the requested type was found
请求的名称有效，但是找不到请求的类型的数据
不知道这样的主机
der angegebene host ist unbekannt
hôte inconnu
host desconocido
Этот хост неизвестен
未知的名称或服务
域名解析暂时失败
der name oder der dienst ist nicht bekannt
nom ou service inconnu
nombre o servicio desconocido
resolver configuration could not be
failed to resolve host
could not doh-resolve
?unable to resolve host
`},
	{finding.DNSHijackOrPortal, `
captive portal
get "http*": found
get "http*": moved temporarily
get "http*": temporary redirect
get "http*": see other
get "http*": moved permanently
511 network authentication required
`},
	// --- TLS
	{finding.SourceTLSUnknownCA, `
signed by unknown authority
certificate is not trusted
certificate is not standards compliant
failed to load system roots
?system roots
self signed certificate
self-signed certificate
unable to get local issuer certificate
unable to get issuer certificate
unable to verify the first certificate
server certificate verification failed
peer's certificate issuer is not recognized
peer's certificate issuer has been marked as not trusted
issuer certificate is invalid
error setting certificate
problem with the ssl ca cert
ssl peer certificate or ssh remote key was not ok
ssl: certificate subject name
certificate verify failed
certificate verification failed
authority that is not trusted
sec_e_untrusted_root
cert_e_untrustedroot
0x800b0109
cert_trust_is_untrusted_root
0x80090325
certificate signature failure
unknown certificate authority
tls: unknown certificate
tls: bad certificate
certificate chain*not trusted
证书链是由不受信任的颁发机构颁发的
nicht vertrauenswürdig
peer certificate cannot be authenticated
sslcertverificationerror
x509: invalid signature
x509: certificate is not authorized to sign
x509: too many intermediates
x509: negative serial number
x509: cannot verify signature
certificate is not permitted for this usage
not authorized to sign for this name
revocation server was offline
unable to check revocation
the revocation function was unable to check
?ssl certificate problem
?x509 certificate routines
tls: failed to verify certificate: x509:
?tls: failed to verify certificate
issuer check against peer certificate failed
": x509: 
?x509:
?tls handshake*certificate required
?curl: (60)
?curl: (77)
`},
	{finding.SourceTLSExpired, `
certificate has expired
has expired or is not yet valid
is not yet valid
certificate is expired
certificate is not yet activated
peer's certificate has expired
peer certificate has expired
sec_e_cert_expired
cert_e_expired
0x800b0101
0x80090328
not within its validity period
expired certificate
certificate expired
zertifikat ist abgelaufen
证书已过期
`},
	{finding.SourceTLSHostname, `
x509: certificate is valid for
x509: certificate is not valid for any names
but wanted to match
relies on legacy common name field
doesn't contain any ip sans
no alternative certificate subject name matches
does not match target host name
does not match requested hostname
certificate subject name (
certificate does not match the requested
certificate name does not match
certificate name mismatch
hostname mismatch
sec_e_wrong_principal
target principal name is incorrect
cert_e_cn_no_match
0x800b010f
0x80090322
issued certificate's hostname mismatch
certificate common name
the name on the certificate
doesn't match the host name
not match hostname
certificate error: certificate is for
`},
	{finding.SourceTLSHandshake, `
tls handshake timeout
tls: handshake failure
remote error: tls: internal error
remote error: tls: protocol version
remote error: tls: unrecognized name
remote error: tls: unexpected message
remote error: tls: access denied
remote error: tls: illegal parameter
remote error: tls: insufficient security
remote error: tls: decode error
tls: server selected unsupported
tls: protocol version not supported
tls: no supported versions
tls: received unexpected handshake message
tls: oversized record
ssl_error_syscall
gnutls_handshake() failed
ssl_connect:
openssl ssl_connect
ssl connect error
unknown ssl protocol error
schannel: failed to receive handshake
schannel: next initializesecuritycontext failed
sec_e_illegal_message
sec_e_internal_error
tlsv1 alert
tlsv1.3 alert
alert handshake failure
alert protocol version
?unsupported protocol
wrong version number
unknown protocol
tls connect error
ssl routines
ssl connection timeout
ssl connection timed out
tls packet with unexpected length was received
local error: tls:
first record does not look like a tls handshake
eof during handshake
handshake operation timed out
remote error: tls:
": tls: 
?tls: handshake
?handshake timeout
?curl: (35)
`},
	// --- forward proxy
	{finding.ForwardProxyLogin, `
proxy authentication required
proxy authorization required
authenticationrequired
code 407
response 407
407 proxy
error: 407
error 407
http 407
status 407
proxy auth required
proxy requires authentication
proxy_auth
auth for proxy
requires proxy auth
proxyauthenticationrequired
`},
	{finding.ForwardProxyBroken, `
proxyconnect tcp
socks connect
could not resolve proxy
couldn't resolve proxy
from proxy after connect
connect tunnel failed
proxy connect aborted
proxy error: "
unsupported proxy
invalid proxy address
unable to receive initial socks
?socks5
?socks4
?socks proxy
can't complete socks
get "http*": bad gateway
get "http*": gateway timeout
get "http*": gateway time-out
get "http*": service unavailable
get "http*": internal server error
get "http*": method not allowed
get "http*": not found
get "http*": host unreachable
get "http*": unknown host
get "http*": connection failed
get "http*": network unreachable
get "http*": dns
get "http*": host_not_found
get "http*": not implemented
get "http*": bad request
error parsing proxy url
invalid http proxy
could not use proxy
proxyerror
unable to connect to proxy
for socks4 connect
for socks5 connect
failed sending connect to proxy
connect response too large
`},
	{finding.ForwardProxyPolicy, `
get "http*": forbidden
get "http*": access denied
get "http*": policy
get "http*": blocked
get "http*": filtered
get "http*": unauthorized
blocked by network policy
x-squid-error: err_access_denied
error from proxy: 403
`},
	// --- what servers answer
	{finding.SourceForbidden, `
organization's policy
request is prohibited by
vpc_service_controls
vpc service controls
vpcservicecontrols
?quarantined
blocked by policy
blocked by the administrator
denied by policy
is blocked by
forbidden by its policy
violates policy
access to this site is blocked
license policy
not in the allow list
not allowed by policy
forbidden by administrative rules
`},
	{finding.SourceThrottled, `
too many requests
rate limit exceeded
rate limit reached
api rate limit
secondary rate limit
rate-limited
returned error: 429
status 429
http 429
http error 429
quota exceeded for quota
`},
	{finding.SourceServerError, `
502 bad gateway
503 service
504 gateway
500 internal server
returned error: 500
returned error: 502
returned error: 503
returned error: 504
returned error: 520
returned error: 521
returned error: 522
returned error: 524
http error 500
http error 502
http error 503
http error 504
remote: internal server error
remote: error: internal server
remote: gitlab is not responding
remote: fatal error in commit_refs
remote: unicorn!
remote: service unavailable
internal api unreachable
fetch timed out
proxy*fetch timed out
is currently unavailable
git repository is temporarily unavailable
?service unavailable
the page you were looking for doesn't respond
?bad gateway
?internal server error
?gateway timeout
`},
	{finding.SourceHTML, `
invalid character '<' looking for beginning of value
invalid character '<'
invalid character '\u003c'
parsing go.mod: missing module line
parsing go.mod: unexpected input character
unexpected input character '<'
<!doctype html
<html
unexpected content-type
unexpected content type
`},
	{finding.SourceWrongAnswer, `
invalid response from proxy
invalid response from server
has unexpected file
proxy returned info for version
zip entry * does not start with prefix
malformed record data
malformed lookup
missing top-level directory prefix
zip file contains more than one top-level directory
malformed http
malformed response
invalid character * looking for beginning of value
unexpected end of json input
cannot unmarshal
server gave http response to https client
client sent an http request to an https server
stopped after 10 redirects
maximum (20) redirects
unexpected version
checksum missing from sumdb response
http: error 400
net/http: http/1.x transport connection broken: malformed
bad request: 
unsolicited response
received http/0.9 when not allowed
maximum (*) redirects followed
failed to parse location header
invalid content-length header
frame header looked like an http/1.1 header
malformed response from server
.zip: unexpected file name
mismatched version
`},
	{finding.ProxyOff, `
module lookup disabled by goproxy=off
disabled by goproxy=off
disabled by goprivate/gonoproxy
?goproxy=off
`},
	// --- checksums
	{finding.GoSumMismatch, `
checksum mismatch
?security error
this download does not match an earlier download recorded in go.sum
this download does not match the one reported by the checksum server
hash of * does not match
resulting module with sum h1:* expected sum h1:
`},
	{finding.SumDBInconsistent, `
misbehaving server
proof of misbehavior
misbehaving detected
server misbehaving: sumdb
inconsistent tree
downloaded inconsistent
tree note
verifying note
note has no verifiable signatures
unverified note
invalid signature for key
server presented inconsistent
malformed tree
tile * inconsistent
cannot find record in tree
unverifiable
record proof
inconsistent root
?checking tree
`},
	{finding.SumDBUnreachable, `
checksum database is not available
cannot reach checksum database
`},
	// --- version control
	{finding.VCSLogin, `
terminal prompts disabled
could not read username
could not read password
unable to read askpass
cannot prompt because
no such device or address
user interactivity has been disabled
unable to get password from user
konnte benutzernamen nicht
impossible de lire le nom d'utilisateur
no se pudo leer el nombre de usuario
no se pudo leer username
无法读取用户名
无法读取 username
could not read *://
failed to execute prompt script
credential * cannot prompt
authorization required
http authorization required
?if this is a private repository, see https://
`},
	{finding.VCSRejected, `
authentication failed
authentication required
authorization failed
http basic: access denied
access denied. the provided password or token
bad credentials
invalid username or password
invalid username or token
invalid credentials
support for password authentication was removed
password authentication is not supported
password authentication in git is
returned error: 401
returned error: 403
write access to repository not granted
permission to * denied to
you are not allowed to
you don't have permission
you do not have permission
?requires authentication
resource protected by organization saml
saml sso
enabled or enforced saml
token expired
token has expired
expired token
invalid token
token does not have
resource not accessible by integration
?unauthorized
401 unauthorized
?access denied
logon failed
tf401019
tf400813
tf200016
?basic authentication
?personal access token
oauth token
deploy key is not
git credential fill' failed
but 'git credential fill' provided one for
fatal: unable to access * error: 401
e170001
e175013
authentifizierung * fehlgeschlagen
authentifizierung fehlgeschlagen
échec d'authentification
Échec d'authentification
Échec de l'authentification
échec de l'authentification
l'authentification a échoué
autenticación falló
falló la autenticación
falha na autenticação
falha de autenticação
autenticação falhou
autenticazione non riuscita
鉴权失败
身份验证失败
认证失败
認證失敗
認証に失敗
認証失敗
인증 실패
인증이 실패
Ошибка аутентификации
Не удалось выполнить аутентификацию
сбой аутентификации
uwierzytelnianie nie powiodło
the requested url returned error: 403
请求的 url 返回错误：403
incorrect username or password
remote: invalid
remote: http basic
remote: forbidden
remote: you must use a personal access token
?permission denied to
`},
	{finding.VCSRepoNotFound, `
repository not found
error: repository not found
repository * not found
repository * does not exist
project you were looking for could not be found
the project you were looking for
does not appear to be a git repository
returned error: 404
gitlab: the project
repository does not exist
there is no repository
project not found
no such repository
could not find repository
no repository found
couldn't find repository
remote: not found
abort: repository
http error 404
e170000
error: not a branch
url using bad/illegal format
not supported or disabled in libcurl
access denied or repository not exported
e160013
tf401019: the git repository
info/refs not found
/info/refs not valid
not valid: is this a git repository
git remote (* must not be local directory
does not exist or you do not have
the repository '* does not exist
repository unavailable due to dmca
repository access blocked
repository * nicht gefunden
repository wurde nicht gefunden
scheint kein git-repository zu sein
dépôt * non trouvé
dépôt * introuvable
ne semble pas être un dépôt git
repositorio * no encontrado
no parece ser un repositorio
repositório * não encontrado
não parece ser um repositório
repository * non trovato
仓库 * 未找到
仓库 * 不存在
未找到仓库
似乎不是一个 git 仓库
不像是一个 git 仓库
儲存庫 * 未找到
不是一個 git 版本庫
リポジトリ * が見つかりません
リポジトリ * 見つかりません
git リポジトリではない
репозиторий * не найден
не похож на репозиторий
не является репозиторием
저장소를 찾을 수 없
`},
	{finding.SSHKey, `
permission denied (publickey
permission denied (gssapi
permission denied (keyboard
permission denied (password
permission denied, please try again
unable to authenticate, attempted methods
no supported authentication methods
too many authentication failures
no supported methods remain
could not open a connection to your authentication agent
load key
error in libcrypto
agent refused operation
?invalid format
identity file * not accessible
bad permissions
unprotected private key file
sign_and_send_pubkey
no mutual signature algorithm
ssh_auth_sock
unable to negotiate with
your public key
public key authentication failed
bad owner or permissions on
?enter passphrase for key
?no such identity
`},
	{finding.SSHHostKey, `
host key verification failed
remote host identification has changed
no matching host key type found
can't be established
offending * key in
knownhosts: key
?known_hosts
host key for * has changed
no host key is known
you are not permitted to use this host key
host key mismatch
?strict host key
`},
	{finding.SSHPort, `
ssh: connect to host
kex_exchange_identification
ssh_exchange_identification
banner exchange
ssh_dispatch_run_fatal
port 22: connection
port 22: operation timed out
port 22: network is unreachable
port 22: no route
connection closed by * port 22
connection reset by * port 22
connection to * closed by remote host
`},
	{finding.VCSMissing, `
exec: "git"
exec: "git.exe"
exec: "hg"
exec: "bzr"
exec: "svn"
exec: "fossil"
exec: "ssh"
~missing git command
~missing mercurial command
~missing bazaar command
~missing subversion command
~missing fossil command
git: command not found
git: not found
git: executable file not found
git: no such file
hg: not found
hg: command not found
svn: not found
svn: command not found
bzr: not found
bzr: command not found
'git' is not recognized
"git" is not recognized
the term 'git' is not recognized
cannot find git
unable to find git
could not find git
git is not installed
git executable not found
git must be installed
cannot run git
cannot run ssh
cannot spawn ssh
remote-https' is not a git command
remote-http' is not a git command
unable to find remote helper for
failed to execute git version
spawn git enoent
cannot run program "git"
git not found
xcrun: error
?please install git
no git binary
`},
	{finding.BuildVCS, `
error obtaining vcs status
use -buildvcs=false to disable vcs stamping
detected dubious ownership
unsafe repository
zweifelhafte besitzverhältnisse
fragwürdige
propriétaire douteux
propiedad dudosa
可疑的仓库所有权
検出された疑わしい
сомнительн
missing vcs tool
multiple vcs detected
?--add safe.directory
`},
	{finding.GOVCSDisallows, `
govcs disallows using
`},
	{finding.InsecureScheme, `
insecure url
to insecure url
insecure protocol
no secure protocol found
refusing to pass credentials to insecure
pass -insecure
use goinsecure
unsupported scheme: http
unsupported scheme http
insecure vcs
transport 'http' not allowed
transport 'git' not allowed
the unauthenticated git protocol on port 9418 is no longer supported
-insecure flag is no longer supported
`},
	{finding.NoGoImport, `
no go-import meta tag
did not match import path
do not match import path
multiple meta tags match import path
no such vcs-test
mismatched repo: found
repository rooted at * cannot contain module
disagree about go-import
: unknown vcs
invalid repo root
invalid vcs-test
unable to detect version control system
cannot detect vcs
no known vcs
dynamic lookup required to find mapping
xml syntax error
can't decode xml document
parse https:// * no go-import
could not determine vcs
?unrecognized import path
?meta tag
`},
	// --- settings
	{finding.GoEnvMalformed, `
invalid proxy url
goproxy list is not the empty string
goproxy list
parsing $goflags
 in goflags
parsing goflags
invalid value * in goflags
go: parsing $go
invalid gosumdb
missing gosumdb
invalid sumdb name
malformed gosumdb
goauth=
goauth command
goauth encountered
parseuserauth
in govcs
unknown environment setting go111module
can only be set using the os environment
cannot be modified
unknown goexperiment
invalid go111module value
gotmpdir must be
multiple values for key
cannot start with shell metacharacter
unsupported goos/goarch
must be absolute path
entry is relative
invalid gotoolchain
invalid gowork
unsupported goos/goarch pair
unsupported gos
invalid goarm
invalid goamd64
invalid go386
malformed import path pattern
cannot find goroot
goroot is not set
goroot directory
go: cannot use -mod
-mod may only be set to
invalid value "* for flag -mod
unknown go command variable
cannot set * twice
go env -w: 
arguments must be key=value
unsupported protocol scheme
first path segment in url cannot contain colon
missing protocol scheme
invalid character * in host name
invalid port ":
file:// proxy url
malformed verifier id
missing verifier
go env -w:
warning: invalid gopr
$gopath/go.mod exists but should not
invalid url escape
invalid userinfo
gopath entry
gotmpdir must be an absolute path
gobin must be an absolute path
gomodcache must be an absolute path
(from $goflags)
(from %goflags%)
^go: *file url missing
?file url missing path
?file url missing drive letter
^go: *file url specifies
?file url specifies non-local host
^go: *file url encodes
?file url encodes volume in host field
^go: cannot find go env config
^go: reading go env config
^go: no key=value arguments
^go: 'go env -u' requires
-mod=* not supported (can be ''
^error starting gocacheprog program
^gocacheprog args: 
^go: invalid go* must be
gocache is not an absolute path
build cache is disabled by gocache=off
build flag -mod=
build flag -modfile
-modfile cannot be used
go: -modcacherw
flag provided but not defined: -mod
`},
	// --- versions and paths
	{finding.UnknownRevision, `
unknown revision
no existing version is required
missing *go.mod at revision
no matching versions for query
no matching versions
couldn't find remote ref
could not find remote ref
not our ref
reference is not a tree
remote branch * not found
did not match any file(s) known to git
?unknown branch or tag
bad revision
?bad object
cannot obtain needed object
cannot obtain needed commit
cannot obtain needed tree
cannot obtain needed blob
cannot obtain needed tag
not a valid object name
not a commit
no such tag
abort: unknown revision
no such remote ref
revision does not exist
ambiguous revision
?retracted by module author
all versions * retracted
no versions of module
has no versions
: not found: v
: no tagged
invalid version: not found
server does not allow request for unadvertised object
konnte remote-referenz * nicht finden
konnte remote-referenz
impossible de trouver la référence distante
no se pudo encontrar la referencia remota
não foi possível encontrar a referência remota
无法找到远程引用
リモート参照
не удалось найти внешнюю ссылку
excluded by go.mod
because it is excluded
all requests to the version
disallowed module version
`},
	{finding.InvalidPseudo, `
invalid pseudo-version
does not match version-control timestamp
does not match short name of revision
revision is shorter than canonical
revision is longer than canonical
is not canonical
non-canonical module version
must be of the form v1.2.3
must be of the form
not a descendent of preceding tag
preceding tag
is not a tag)
major version without preceding tag
should not be replaced with a pseudo-version
non-semver module version
invalid semantic version
invalid module version syntax
invalid module version
malformed module version
disallowed version string
invalid version syntax
not a semantic version
not a valid semantic version
query refers to a non-semver revision
version must be of
malformed pseudo-version
`},
	{finding.MissingMajorSuffix, `
module path must match major version
path must match major version
should be v0 or v1, not v
should be v
so semantic import versioning is required
so major version must be compatible
suffix not allowed
has post-v
has non-...
both have ...*module paths
missing * and ...*go.mod at revision
must always have a major version suffix
major version suffixes must be in the form
does not match major version
invalid version control suffix
mismatched module path
major version in path
goes not match module path
major version mismatch
`},
	{finding.ModulePathMismatch, `
module declares its path as
but was required as
unexpected module path
malformed module path * at revision
has malformed module path
expects import
code in directory * expects
doesn't match module path
`},
	{finding.PackageNotFound, `
but does not contain package
does not contain package
not contain packages matching
cannot find module providing package
missing dot in first path element
import path does not begin with hostname
malformed import path
malformed module path
is not a package in module rooted at
is not in std
is not in goroot
not a known dependency
is not a main package
no packages loaded from
argument must be a package path
argument must not be a package in
argument must be a clean package path
all arguments must refer to packages in the same module
all packages must be provided by the same module (
go get -tool does not work with
^stat *: directory not found
^go: *stat *: directory not found
^pattern *: stat *: directory not found
arguments must be package or module paths
exists as a file, but
in the main module, so can't request
can't request version
can't request explicit version
is a program, not an importable package
not provided by module
trailing slash
?matched only non-main packages
not a package path
is a pseudo-package
no package to get in current directory
no modules to query for
cannot find package "
is not an importable package
no package in
invalid import path
disallowed import path
invalid module path
module path is reserved
cannot find module for path
relative import paths are not supported
relative import not supported
is relative, but relative import
is relative, but relative import paths are not supported in module mode
path is not in the main module
is a local import path
cannot use relative path
local import "* in non-local package
leading dot in path element
?cannot find package
?cannot find module
?no module found
?no go files in
?no go source files
?no non-test go files in
?unknown import path
`},
	{finding.ZipRules, `
malformed file path
case-insensitive file name collision
create zip
file name collision
unexpected symlink
illegal file name
is a symlink
not a regular file in zip
found unexpected symlink
go.mod file not in module root directory
path does not have prefix
filename too long
file name too long
?duplicate file
invalid path "
contains a backslash
error unzipping * invalid argument
unzip * invalid argument
unzip * illegal byte sequence
unzip * the filename, directory name, or volume label syntax is incorrect
multiple files with same name
`},
	{finding.ImportCase, `
case-insensitive import collision
case insensitive import collision
`},
	{finding.ZipTooLarge, `
module source tree too large
zip file too large
zip file is too large
go.mod file too large
?is too large
too large (max size
file exceeds allowed size
exceeds the maximum size
body larger
license file too large
total uncompressed size
`},
	// --- project files
	{finding.NeedsTidy, `
missing go.sum entry
updates to go.mod needed
updates to go.sum needed
no required module provides
to add missing requirements
?to add module requirements
is replaced but not required
from implicitly required module
import lookup disabled by -mod=readonly
module lookup disabled by -mod=readonly
cannot query module due to -mod=readonly
disabled by -mod=readonly
missing module for import
go.mod is not tidy
is not tidy
please run go mod tidy
please run 'go mod tidy'
run 'go mod tidy'
run go mod tidy
?go mod tidy to
should be direct
?should be indirect
diff --git a/go.mod
diff --git a/go.sum
diff current/go.mod
diff current/go.sum
/go.mod and * differ
/go.sum and * differ
go.mod or go.sum is not tidy
existing contents have changed since last read
go.mod changed during editing
is not required in go.mod
is not in your go.mod file
may need to run
~no module requirement
?go.mod needs update
`},
	{finding.VendorInconsistent, `
inconsistent vendoring
import lookup disabled by -mod=vendor
module lookup disabled by -mod=vendor
cannot query module due to -mod=vendor
disabled by -mod=vendor
in vendor/modules.txt
missing from vendor/modules.txt
vendor/modules.txt
reading modules.txt for vendor
vendored module
/vendor/*no such file or directory
\vendor\*cannot find the
/vendor and * differ
/vendor/modules.txt and * differ
cannot be used when vendoring is enabled
?vendor directory
?-mod=vendor
?go mod vendor
?go work vendor
cannot find package "." in:*vendor
`},
	{finding.DependencyConflict, `
ambiguous import
conflicts with other requirements
~version constraints conflict:
?conflicts with
but go * would select
but go * would load it
but go * would fail to locate
failed to load from any module
provided by * at latest version * but not at required version
found package * in multiple modules
found in multiple modules
requires * is requested
 is requested
requires * not v
requires *, not 
can't request version * conflict
version change needed
?is excluded
for query * conflict
matches packages in * but not
`},
	{finding.GoModParse, `
~errors parsing
~error parsing
~error loading go.mod
~error loading go.work
~errors loading
unknown directive
use of removed godebug
no module directive found
cannot determine module path
does not have .mod extension
expecting a go version like
malformed go.sum
invalid go version
missing module declaration
is missing module path*at revision
no module declaration in go.mod
repeated module statement
repeated go statement
repeated toolchain statement
unknown block type
wrong number of fields
unexpected newline
syntax error (unterminated block
unexpected input character
usage: module
usage: require
usage: replace
usage: exclude
usage: go 1.
usage: toolchain
usage: use
usage: tool
usage: godebug
usage: ignore
invalid quoted string
unquoted string cannot contain
go directive expects exactly one
toolchain directive expects
must match format 1.23
invalid module path in
appears multiple times in workspace
invalid toolchain version
no go.mod file declared
could not parse go.mod
failed to parse go.mod
cannot parse go.mod
parse go.mod
parsing go.work
parsing go.sum
go.mod:*syntax error
unexpected module statement
invalid use of toolchain
invalid godebug
unknown godebug
go.mod:*unexpected
go.mod:*invalid
go.mod:*expected
go.mod:*unknown
go.work:*invalid
go.work:*unknown
error parsing go.mod
`},
	{finding.ReplaceProblem, `
replacement directory
replacement module
replacement path
replace directives
exclude directives
conflicting replacements
is replaced at all versions
used for two different module paths
replacement local path must be absolute
replacement module without version
replacement module directory path
from vendored replacement
(replaced by .*reading*no such file or directory
(replaced by .*open*no such file or directory
(replaced by .*cannot find the
(replaced by .*not a directory
(replaced by .*permission denied
(replaced by /*no such file or directory
(replaced by *\*cannot find the
parsing ../*no such file or directory
parsing ..\*cannot find the
parsing ./*no such file or directory
parsing .\*cannot find the
reading ../*go.mod*no such file or directory
reading ../*go.mod*cannot find the
reading ./*go.mod*no such file or directory
must not contain replace
unversioned new path must be local
replaced by * but the required module
replace *.mod*no such file
`},
	{finding.NoModule, `
go.mod file not found
cannot find main module
outside of module root
outside modules listed in go.work
outside main module or its selected dependencies
is not one of the workspace modules
not one of the workspace modules
does not contain modules listed in go.work
does not contain main module
directory prefix
modules disabled by go111module=off
in gopath mode
no longer supported outside a module
version is required when current directory is not in a module
current directory is not in a module
current directory is outside
no modules were found in the current workspace
no go.work file found
^go: directory * does not exist
?^go: * is not a directory
go: already added
no modules specified
listed in go.work file
cannot find module root
not in a module
outside a module
can only use path@version syntax with
cannot use path@version syntax
only valid when using modules
only allowed in module mode
can only be used in module-aware mode
not using modules
(from $gopath)
(from $goroot)
cannot find package "* in any of
working directory is not part of a module
working directory outside
cannot determine module path for source directory
^go: no install location for
^go install: no install location for
named files must all be in one directory
is not within module
main module (* does not contain
main module does not
?workspace mode
no go.mod file
no go.mod found
?^go: *go.mod already exists
?^go: *go.work already exists
go.mod not found
?go.mod does not exist
go.mod: no such file or directory
go.mod: the system cannot find
could not find go.mod
cannot find go.mod
go.work: no such file
go.work: the system cannot find
reading go.work
no module root
no main module
go: no modules specified
not supported in module mode
go.mod exists but should not
not found in workspace
`},
	// --- toolchain
	{finding.ToolchainDownload, `
toolchain not available
download go1
downloading go1 * failed
cannot find "go1
golang.org/toolchain@
no releases found for go
is a language version but not a toolchain version
go language version * is not a toolchain version
too many toolchain switches
invoked to provide
switching to go >=
go: toolchain upgrade needed
toolchain * not found
invalid toolchain
unrecognized toolchain
exec go1
unable to find go version
?failed to download*/go1.
unable to download go
`},
	{finding.ToolchainTooOld, `
requires go >=
requires go 1
gotoolchain=local
note: module requires go
module requires go
maximum supported version is
maximum supported go version
file indicates go
cannot load module graph (requires go
but go.work lists go
toolchain is go
default=* too new
module too new
requires newer go version
go toolchain version * is not supported
?toolchain version * constraint
?minimum go version
go version * is not supported
?requires at least go
requires go version
needs go 1
unknown subcommand "mod"
unknown subcommand "work"
unknown command "work"
cannot compile go 1
imported by a module that requires go
requires a newer go
?go version * or newer
?go 1.* or later
?is too old
?unsupported go version
?go version go1
`},
	// --- local storage
	{finding.DiskFull, `
no space left on device
not enough space on the disk
disk quota exceeded
enospc
disk full
?file too large
disk is full
insufficient disk space
out of disk space
insufficient space
auf dem datenträger
磁盘空间不足
设备上没有空间
espacio insuficiente
espace insuffisant
Недостаточно места на диске
На устройстве не осталось свободного места
kein speicherplatz
aucun espace disponible
no queda espacio
デバイスに空き領域
ディスクに十分な空き領域
`},
	{finding.NoHome, `
neither gomodcache nor gopath
neither gopath nor gomodcache
build cache is required
gocache is not defined
gopath is not defined
$home is not defined
^go: *%localappdata% is not defined
neither $xdg_cache_home nor $home
^go: *neither $xdg_config_home nor $home
could not locate sumdb file
`},
	{finding.HomeDenied, `
writing go env config: open 
writing go env config: mkdir 
/sumdb/*permission denied
/pkg/sumdb/*read-only file system
/pkg/sumdb/*no such file or directory
mkdir */pkg/sumdb
`},
	{finding.TempDenied, `
go: creating work dir
`},
	{finding.ProjectDenied, `
go: updating go.mod: open 
go: updating go.sum: open 
go: updating go.work: open 
go: updating go.work.sum: open 
go.mod: permission denied
go.sum: permission denied
go.mod: read-only file system
go.sum: read-only file system
`},
	{finding.NoLocks, `
^go: *lock /*function not implemented
^go: *lock /*no locks available
^go: *lock /*operation not supported
^go: *lock /*not supported by
^go: *lock * no locks available
rlock * no locks available
rlock * function not implemented
/pkg/mod*function not implemented
/pkg/mod*no locks available
`},
	{finding.CacheDenied, `
could not create module cache
module cache not found
failed to initialize build cache
failed to create cache directory
read-only file system
/pkg/mod*permission denied
\pkg\mod*access is denied
\pkg\mod*being used by another process
\pkg\mod*access is denied
/mod/cache*permission denied
permission denied*/pkg/mod
go-build*permission denied
/go-build*permission denied
\go-build*access is denied
mkdir * permission denied
mkdir * operation not permitted
mkdir * access is denied
mkdir * file exists
mkdir * not a directory
mkdir * read-only
mkdir /go
mkdir /.cache
/pkg/mod*operation not permitted
/pkg/mod*not a directory
/pkg/mod*input/output error
/pkg/mod*stale nfs
rlock 
gopath*permission denied
unlinkat*permission denied
cache/lock
/go/src*permission denied
/go/bin*permission denied
/cache/download*permission denied
/cache/vcs*permission denied
pkg/mod*zugriff verweigert
?zugriff verweigert
?accès refusé
?acceso denegado
?acesso negado
?Отказано в доступе
?拒绝访问
?access is denied
?permission denied
?operation not permitted
`},
	{finding.CacheDamaged, `
not a valid zip file
zip: checksum error
zip: unsupported compression
missing ziphash
/@v/*.ziphash: no such file
unexpected ziphash
zip has been modified
dir has been modified
ziphash file is missing
flate: corrupt input
gzip: invalid header
gzip: invalid checksum
unzip*unexpected eof
.zip: unexpected eof
corrupt input before offset
zip file is corrupt
corrupt module
exists with wrong content
not completely extracted
bad zip
unexpected eof*.zip
corrupted zip
inconsistent module cache
invalid go.sum checksum in cache
corrupt patch
loose object * is corrupt
object file * is empty
object corrupt or missing
/cache/download/*invalid character
`},
	// --- none
	{finding.NotModules, `
^--- fail
^fail	
^=== fail
^fail:
^# runtime/cgo
package command-line-arguments is not a main package
?cannot run non-main package
?^panic:
?found packages
?cannot embed
?no matching files found
?requires cgo
?unable to resolve action
?cannot run *_test.go files
?cannot execute binary file
?e: unable to locate
?e: release file for
?go: error obtaining buildid
?not a valid win32 application
?unexpected fault address
?deadlock
?data race
?could not import 
?must be imported as
?possible formatting directive
?goroutine 1 [running]
?undefined: 
?undefined reference to
?imported and not used
?declared and not used
?declared but not used
?cannot use * as * value
?cannot use * as type 
?assignment mismatch
?cannot infer
?does not satisfy
?too many arguments in call
?not enough arguments in call
?missing return
?has no field or method
?redeclared in this block
?missing method
?is not a type
?does not implement
?duplicate case
?invalid operation
?undeclared name
?could not import c
?collect2: error
?ld returned
?linker command failed
?cannot find -l
?c compiler
?cgo: 
?runtime/cgo
?fatal error: * no such file or directory
?fatal error: * file not found
?pkg-config
?exec: "gcc"
?exec: "cc"
?exec: "clang"
?exec: "x86_64
?exec: "g++"
?exec: "aarch64
?exec: "musl-gcc"
?exec: "pkg-config"
?exec: "go"
?exec: "go.exe"
?gcc: 
?cc1: 
?cc: error
?clang: error
?signal: killed
?signal: segmentation
?signal: aborted
?signal: terminated
?out of memory
?cannot allocate memory
?killed
?no such tool
?go: unknown command
?unknown command
?unknown subcommand
?flag provided but not defined
?exec format error
?build constraints exclude all go files
?import cycle not allowed
?use of internal package
?use of vendored package
?multiple-value
?syntax error
?expected declaration
?expected 'package'
?expected 'eof'
?pattern * no matching files found
?no embeddable files
?relocation target
?multiple definition of
?segmentation fault
?sigsegv
?fatal error: 
?runtime error
?stack overflow
?compile: version * does not match go tool version
?version * does not match go tool
?object is [
?test timed out
?test killed
?application built with go
?file requires newer go version
?golangci-lint
?can't load config
?typecheck
?staticcheck
?gofmt
?errcheck
?govet
?revive
?go: go.mod file indicates
?go vet
?go tool dist
?build output 
?tar: *cannot open: file exists
?error response from daemon
?cannot connect to the docker daemon
?failed to resolve source metadata
?failed to solve with frontend
?pull access denied
?manifest unknown
?manifest for
?toomanyrequests
?failed to do request: head
?docker.io/
?registry-1.docker.io
?npm err
?npm error
?yarn
?pnpm
?e: failed to fetch
?e: unable to
?e: package
?err:1 http
?could not find a version that satisfies
?no matching distribution
?unable to select packages
?temporary error (try again later)
?apkindex
?cargo
?error: failed to compile
?missing separator
?no rule to make target
?requested access to the resource is denied
?failed to push some refs
?error[e
?could not compile
?input required and not supplied
?error writing layer blob
?failed to solve:
?exit code: 137
?exit code 137
?upgrade failed:
?error command failed with exit code
?problems (
?problem (1 error
?invalid pattern syntax
?requires external (cgo) linking
?requires exactly one main package
?source files not allowed when not using cgo
?source files not supported without cgo
?invalid flag in #cgo
?package using cgo has go assembly
?cannot write multiple packages to
?no main packages to build
?already exists and is not an object file
?already exists and is a directory
?for flag -
?invalid boolean value
?cannot be used with package arguments
?no go files listed
? is not supported on 
?copier: stat
?-p must be a positive
?/pkg/tool/*: exit status
?^usage: go * [
?^usage: compile [
?^usage: link [
?named files must be .go files
?multiple //go:build
?invalid //go:debug
?-buildmode=
?requires cgo
?command not found
?^bash: *: no such file or directory
?^/bin/bash: *: no such file or directory
?^/bin/sh: *: no such file or directory
?^sh: *: no such file or directory
?^zsh: no such file or directory
?^make: *: no such file or directory
?^env: *: no such file or directory
?: not found
?is not recognized as an internal or external
?is not recognized as the name of a cmdlet
?exec user process caused
?oci runtime
?kubectl
?crashloopbackoff
?imagepullbackoff
?errimagepull
?assertion
?expected: 
?permission denied while trying to connect to the docker
?docker.sock
?address already in use
?bind: 
?connection to server
?http: proxy error
?protoc: 
?protoc-gen
?main redeclared
?function main is undeclared
?package main is not in
?text file busy
?plugin was built with
?undefined symbol
?symbol lookup error
?glibc_
?cannot open shared object
?version 'glibc
?mismatched types
?non-name
?invalid character u
?illegal character
?invalid recursive
?type parameter
?type arguments
?go:embed
?go build * exit status
?go: no such tool
?tests failed
?hash mismatch in fixed-output derivation
`},
}

// network are the codes of a way that does not work, whose meaning depends on who
// was at its other end.
var network = map[finding.Code]bool{
	finding.SourceConnectTimeout: true, finding.SourceNoRoute: true, finding.SourceRefused: true, finding.SourceReset: true,
	finding.SourceDNS: true, finding.SourceTLSUnknownCA: true, finding.SourceTLSExpired: true, finding.SourceTLSHostname: true,
	finding.SourceTLSHandshake: true, finding.SourceServerError: true, finding.SourceThrottled: true,
}

// A rule is one phrase of rules, ready to be looked for.
type rule struct {
	code   finding.Code
	weight weight
	glob   glob
	place  finding.Place // of a placeRule
}

// statusRule is the rule of lines that may have an HTTP status in them, which is
// looked for in another way.
const statusRule finding.Code = "status"

// bodyRule is that of the line on which a server's own words begin.
const bodyRule finding.Code = "body"

// positionRule is that of a position in a Go file.
const positionRule finding.Code = "position"

// reasonRule is that of a request that ended in a phrase of a forward proxy's own.
const reasonRule finding.Code = "reason"

// placeRule is that of a line which gives away where the log comes from.
const placeRule finding.Code = "place"

// A grammar is a set of rules, ready to read with. It does not change, and is safe
// for concurrent use.
type grammar struct {
	rules    []rule
	triggers *matcher // its phrases are the longest parts of the rules, in their order
}

func newGrammar(rules []rule) *grammar {
	triggers := make([]string, len(rules))
	for i, r := range rules {
		triggers[i] = strings.TrimPrefix(r.glob.longest(), "^")
	}
	return &grammar{rules, newMatcher(triggers)}
}

// whole is the grammar of all rules, made when it is first needed.
var whole = sync.OnceValue(func() *grammar { return newGrammar(allRules()) })

func allRules() []rule {
	var all []rule
	add := func(code finding.Code, p string) {
		r := rule{code: code, weight: telling}
		switch {
		case strings.HasPrefix(p, "?"):
			r.weight, p = vague, p[1:]
		case strings.HasPrefix(p, "~"):
			r.weight, p = header, p[1:]
		}
		r.glob = newGlob(p)
		all = append(all, r)
	}
	for _, group := range slices.Concat(rules, gitWords) {
		for p := range strings.SplitSeq(group.phrases, "\n") {
			if p != "" {
				add(group.code, lower(p))
			}
		}
	}
	for _, p := range []string{"reading http", "unexpected status", "returned error: ", "status code", "http status", ": 40", ": 41", ": 42", ": 50", ": 52", " 404 not found", "410 gone", "403 forbidden", "error 404", "error 40", "error 50", "http error", "reading file:"} {
		add(statusRule, p)
	}
	for _, p := range placeSigns {
		for _, sign := range p.signs {
			add(placeRule, sign)
			all[len(all)-1].place = p.place
		}
	}
	add(reasonRule, `get "https://`)
	add(reasonRule, `fetching https://`)
	add(reasonRule, `: get https://`) // before Go 1.14
	add(bodyRule, "server response:")
	add(positionRule, ".go:")
	return all
}
