package doctor

import (
	"fmt"
	"slices"

	"github.com/modsluice/sluice/internal/finding"
)

// gitAlone is the outcome of a repository that git did not reach, where git has a forward
// proxy or authorities of its own for it: these hold for git and for nothing else, so
// what the variables say and the system trusts does not help, and is not what is wrong.
// It is nil if git has none, or they are not what failed.
func (p *private) gitAlone(g gitSettings, r remoteAddress, repo string, code finding.Code, line string) *Outcome {
	to, _ := g.rewrite(repo)
	if r.scheme != "https" && r.scheme != "http" {
		return nil
	}
	var about finding.Code
	var text, mend string
	var fix []string
	switch {
	case slices.Contains([]finding.Code{finding.SourceConnectTimeout, finding.SourceRefused, finding.SourceDNS, finding.SourceNoRoute, finding.SourceReset, finding.ForwardProxyBroken}, code):
		proxy, key := g.connection(to, "proxy")
		if proxy == "" {
			return nil
		}
		about = finding.ForwardProxyBroken
		text = fmt.Sprintf("git goes to %s through %s, by its setting %s: %s", r.host, finding.Redact(proxy), finding.Redact(key), line)
		mend = "correct that setting of git's, or take it away: the variables for forward proxies hold then"
		if plainKey.MatchString(key) {
			fix = []string{"git config --global --unset-all " + key}
		}
	case code == finding.SourceTLSUnknownCA || code == finding.NoCABundle:
		file, key := g.connection(to, "sslcainfo")
		by := "its setting " + finding.Redact(key)
		if v := p.s.Getenv("GIT_SSL_CAINFO"); v != "" { // which outranks all settings
			file, key, by = v, "", "GIT_SSL_CAINFO"
		}
		if file == "" {
			return nil
		}
		about = finding.SourceTLSUnknownCA
		text = fmt.Sprintf("git trusts the authorities in %s alone for %s, by %s: %s", file, r.host, by, line)
		mend = "put the certificate of the host's authority there, or name a file that has it"
		switch {
		case key == "":
			fix = []string{finding.Setting(p.s.Place, by, "FILE")}
		case key == "http.sslcainfo" && plainHost.MatchString(r.host):
			mend += ", for this host alone"
			fix = []string{"git config --global http.https://" + r.host + "/.sslCAInfo FILE"}
		case plainKey.MatchString(key):
			fix = []string{"git config --global --replace-all " + key + " FILE"}
		}
	default:
		return nil
	}
	out := p.mean(about, text)
	out.Subject, out.Finding.Mend = r.host, mend
	if p.s.Place == finding.Terminal || p.s.Place == finding.PowerShell {
		out.Finding.Fix = fix
	}
	return &out
}
