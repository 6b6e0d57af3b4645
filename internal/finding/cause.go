package finding

import "slices"

// A Cause is the label of a root cause: it names what has to change, not the
// line that is printed last.
type Cause string

// The causes, by family. The labels are part of the JSON that explain and doctor
// print, so none is ever renamed.
const (
	// network
	CauseConnectTimeout        Cause = "connect-timeout"
	CauseConnectionRefused     Cause = "connection-refused"
	CauseConnectionResetMidway Cause = "connection-reset-midway"
	CauseIPv6Broken            Cause = "ipv6-broken"

	// dns
	CauseDNSFailure        Cause = "dns-failure"
	CauseDNSHijackOrPortal Cause = "dns-hijack-or-portal"

	// tls
	CauseTLSUnknownCA          Cause = "tls-unknown-ca"
	CauseTLSCertExpiredOrClock Cause = "tls-cert-expired-or-clock"
	CauseTLSHostnameMismatch   Cause = "tls-hostname-mismatch"
	CauseTLSHandshakeTimeout   Cause = "tls-handshake-timeout"

	// forward-proxy
	CauseHTTPProxy407       Cause = "http-proxy-407"
	CauseHTTPProxyMisconfig Cause = "http-proxy-misconfig"
	CauseProxy403Policy     Cause = "proxy-403-policy"

	// module-proxy
	CauseProxy404410         Cause = "proxy-404-410"
	CauseUpstreamServerError Cause = "upstream-server-error"
	CauseRateLimited429      Cause = "rate-limited-429"
	CauseProxyBadResponse    Cause = "proxy-bad-response"
	CauseGOPROXYOff          Cause = "goproxy-off"

	// checksums
	CauseChecksumMismatchGoSum Cause = "checksum-mismatch-gosum"
	CauseChecksumMismatchSumDB Cause = "checksum-mismatch-sumdb"
	CauseSumDBUnreachable      Cause = "sumdb-unreachable"
	CauseSumDBPrivate404410    Cause = "sumdb-private-404-410"

	// git-and-vcs
	CauseGitAuthTerminalPrompts Cause = "git-auth-terminal-prompts"
	CauseAuthRejected           Cause = "auth-rejected"
	CauseGitRepoNotFound        Cause = "git-repo-not-found"
	CauseGitSSHPublicKey        Cause = "git-ssh-publickey"
	CauseGitSSHHostKey          Cause = "git-ssh-hostkey"
	CauseGitSSHPortBlocked      Cause = "git-ssh-port-blocked"
	CauseGitMissingBinary       Cause = "git-missing-binary"
	CauseBuildVCSStatus         Cause = "buildvcs-status"
	CauseVCSDisallowedGOVCS     Cause = "vcs-disallowed-govcs"
	CauseInsecureScheme         Cause = "insecure-scheme"
	CauseGoImportMetaMissing    Cause = "go-import-meta-missing"

	// environment
	CauseGoEnvMalformed Cause = "go-env-malformed"

	// version-and-path
	CauseVersionUnknownRevision Cause = "version-unknown-revision"
	CauseVersionInvalidPseudo   Cause = "version-invalid-pseudo"
	CauseMissingMajorSuffix     Cause = "missing-major-suffix"
	CauseModulePathMismatch     Cause = "module-path-mismatch"
	CausePackageNotFound        Cause = "package-not-found"
	CauseModuleContentRejected  Cause = "module-content-rejected"
	CauseCaseImportCollision    Cause = "case-import-collision"
	CauseZipTooLarge            Cause = "zip-too-large"

	// project-files
	CauseNeedsGoModTidy          Cause = "needs-go-mod-tidy"
	CauseVendorInconsistent      Cause = "vendor-inconsistent"
	CauseDependencyConflict      Cause = "dependency-conflict"
	CauseGoModParseError         Cause = "gomod-parse-error"
	CauseReplaceDirectiveProblem Cause = "replace-directive-problem"
	CauseNoModuleOrWorkspace     Cause = "no-module-or-workspace"

	// toolchain
	CauseToolchainDownloadFail Cause = "toolchain-download-fail"
	CauseToolchainLocalTooOld  Cause = "toolchain-local-too-old"

	// local-storage
	CauseDiskFull                 Cause = "disk-full"
	CausePermissionDeniedModCache Cause = "permission-denied-modcache"
	CauseCorruptedZip             Cause = "corrupted-zip"

	// none
	CauseNotAModuleProblem Cause = "not-a-module-problem"
)

var families = [...]struct {
	name   string
	causes []Cause
}{
	{"network", []Cause{CauseConnectTimeout, CauseConnectionRefused, CauseConnectionResetMidway, CauseIPv6Broken}},
	{"dns", []Cause{CauseDNSFailure, CauseDNSHijackOrPortal}},
	{"tls", []Cause{CauseTLSUnknownCA, CauseTLSCertExpiredOrClock, CauseTLSHostnameMismatch, CauseTLSHandshakeTimeout}},
	{"forward-proxy", []Cause{CauseHTTPProxy407, CauseHTTPProxyMisconfig, CauseProxy403Policy}},
	{"module-proxy", []Cause{CauseProxy404410, CauseUpstreamServerError, CauseRateLimited429, CauseProxyBadResponse, CauseGOPROXYOff}},
	{"checksums", []Cause{CauseChecksumMismatchGoSum, CauseChecksumMismatchSumDB, CauseSumDBUnreachable, CauseSumDBPrivate404410}},
	{"git-and-vcs", []Cause{CauseGitAuthTerminalPrompts, CauseAuthRejected, CauseGitRepoNotFound, CauseGitSSHPublicKey, CauseGitSSHHostKey,
		CauseGitSSHPortBlocked, CauseGitMissingBinary, CauseBuildVCSStatus, CauseVCSDisallowedGOVCS, CauseInsecureScheme, CauseGoImportMetaMissing}},
	{"environment", []Cause{CauseGoEnvMalformed}},
	{"version-and-path", []Cause{CauseVersionUnknownRevision, CauseVersionInvalidPseudo, CauseMissingMajorSuffix, CauseModulePathMismatch,
		CausePackageNotFound, CauseModuleContentRejected, CauseCaseImportCollision, CauseZipTooLarge}},
	{"project-files", []Cause{CauseNeedsGoModTidy, CauseVendorInconsistent, CauseDependencyConflict, CauseGoModParseError,
		CauseReplaceDirectiveProblem, CauseNoModuleOrWorkspace}},
	{"toolchain", []Cause{CauseToolchainDownloadFail, CauseToolchainLocalTooOld}},
	{"local-storage", []Cause{CauseDiskFull, CausePermissionDeniedModCache, CauseCorruptedZip}},
	{"none", []Cause{CauseNotAModuleProblem}},
}

// Causes lists all labels, by family. The caller owns the result.
func Causes() []Cause {
	var all []Cause
	for _, f := range families {
		all = append(all, f.causes...)
	}
	return all
}

// Family is the family that c belongs to, or "" if c is no label.
func (c Cause) Family() string {
	for _, f := range families {
		if slices.Contains(f.causes, c) {
			return f.name
		}
	}
	return ""
}

// Valid reports whether c is one of the labels.
func (c Cause) Valid() bool { return c.Family() != "" }
