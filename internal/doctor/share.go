package doctor

import (
	"fmt"
	"html/template"
	"io"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/finding"
)

// A Shared report can be shown to others. It is made field by field of what cannot
// name anybody: codes, the catalogue's own words, states and times. Hosts have
// pseudonyms, of which equal ones stand for equal hosts within one report; no text that
// came from a server, a file or the environment is in it.
type Shared struct {
	Program string // version of Sluice, as given
	Go      string // version of the go command; "" if it is not known
	System  string // operating system and architecture, as given
	Verdict Verdict
	Sources []string // each as scheme, pseudonym, kind of host
	Found   []SharedFinding
	Chain   []Link
	Rows    []SharedRow
	Took    time.Duration
	Print   string // verdict, codes and versions in one line, to search by
}

// A SharedFinding is a finding in the catalogue's words.
type SharedFinding struct {
	Code              finding.Code
	Severity          finding.Severity
	Title, Why, Mend  string
	About             []string // pseudonyms, and names of go settings
	Rows, Consequence int      // how many
}

// A SharedRow is a row without what it saw.
type SharedRow struct {
	ID      string
	State   State
	Code    finding.Code
	Because string
	Took    time.Duration
}

var (
	plainID   = regexp.MustCompile(`^[a-z]{1,12}(\.[a-z0-9]{1,12}){1,3}$`)
	goVersion = regexp.MustCompile(`^go1(\.[0-9]{1,3}){0,2}(rc[0-9]+)?$`)
)

// goSettings are the words that About may have as they are: everybody has those.
var goSettings = []string{"GOPROXY", "GOPROXY=off", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOSUMDB", "GOINSECURE", "GOFLAGS", "GOAUTH", "GOENV", "GOVCS", "GOTOOLCHAIN",
	"GO111MODULE", "GOWORK", "GOMODCACHE", "GOPATH", "HOME", "NETRC", "Dockerfile", ".dockerignore", ".gitlab-ci.yml", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy",
	"NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "git"}

// Share makes of r what can be shown to others. program and system are the caller's
// own words.
func (r *Report) Share(program, system string) Shared {
	s := Shared{Program: program, System: system, Took: ms(r.Took)}
	names := map[string]string{}
	alias := func(host string) string {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		if names[host] == "" {
			names[host] = fmt.Sprintf("host-%d", len(names)+1)
		}
		return names[host]
	}
	if slices.Contains([]Verdict{Well, Impaired, Broken, Untold}, r.Verdict) {
		s.Verdict = r.Verdict
	}
	var groups []string
	for _, row := range r.Rows {
		if row.ID == "machine.go" && goVersion.MatchString(row.Text) {
			s.Go = row.Text
		}
		if u, err := url.Parse(row.Group); err == nil && u.Host != "" && strings.HasPrefix(row.ID, "source.") && !slices.Contains(groups, row.Group) {
			groups = append(groups, row.Group)
			scheme := u.Scheme
			if scheme != "https" && scheme != "http" {
				scheme = "other"
			}
			s.Sources = append(s.Sources, fmt.Sprintf("%s %s (%s)", scheme, alias(u.Hostname()), hostClass(u.Hostname())))
		}
		if !plainID.MatchString(row.ID) || !slices.Contains(States(), row.State) {
			continue
		}
		x := SharedRow{ID: row.ID, State: row.State, Took: ms(row.Took)}
		if _, ok := finding.Lookup(row.Code); ok {
			x.Code = row.Code
		}
		if plainID.MatchString(row.Because) {
			x.Because = row.Because
		}
		s.Rows = append(s.Rows, x)
	}
	codes := []string{string(s.Verdict)}
	for _, f := range r.Findings {
		e, ok := finding.Lookup(f.Code)
		if !ok {
			continue
		}
		// The words for whoever builds, with the stand-ins in their places.
		e = finding.At(f.Code, finding.Terminal).Entry
		x := SharedFinding{Code: e.Code, Severity: e.Severity, Title: e.Title, Why: e.Why, Mend: e.Mend, Rows: len(f.Rows), Consequence: len(f.Consequences)}
		if f.Severity == finding.Warn || f.Severity == finding.Fail {
			x.Severity = f.Severity
		}
		for _, about := range f.About {
			for part := range strings.SplitSeq(about, ", ") {
				if !slices.Contains(goSettings, part) {
					if strings.ContainsAny(part, `/\`) {
						part = "a directory or module"
					} else {
						part = alias(part)
					}
				}
				if !slices.Contains(x.About, part) {
					x.About = append(x.About, part)
				}
			}
		}
		s.Found = append(s.Found, x)
		codes = append(codes, string(e.Code))
	}
	for _, l := range r.Chain {
		if slices.Contains(Links, l.Name) && slices.Contains(States(), l.State) {
			s.Chain = append(s.Chain, l)
		}
	}
	s.Print = strings.Join(slices.DeleteFunc(append(codes, s.Go, s.System), func(w string) bool { return w == "" }), " ")
	return s
}

func ms(x float64) time.Duration {
	return time.Duration(x * float64(time.Millisecond)).Round(100 * time.Microsecond)
}

// hostClass is what may be said of a host without saying which.
func hostClass(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil && (host == "localhost" || strings.HasSuffix(host, ".localhost")):
		return "this machine"
	case err != nil && !strings.Contains(host, "."):
		return "a name without a domain"
	case err != nil:
		return "a name"
	case ip.IsLoopback():
		return "this machine"
	case ip.IsPrivate() || ip.IsLinkLocalUnicast():
		return "a private address"
	}
	return "an address"
}

// How each page and each text begins, by which one is known.
const (
	PageBegins = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Report of sluice doctor</title>`
	TextBegins = "Report of sluice doctor\n\nfingerprint: "
)

// Text is the shared report as plain text.
func (s *Shared) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, TextBegins+"%s\nprogram: %s\nverdict: %s, %d checks in %v\n", s.Print, s.Program, s.Verdict, len(s.Rows), s.Took)
	for i, src := range s.Sources {
		fmt.Fprintf(&b, "source %d: %s\n", i+1, src)
	}
	for _, f := range s.Found {
		fmt.Fprintf(&b, "\n%s %s: %s\n", f.Severity, f.Code, f.Title)
		if len(f.About) > 0 {
			fmt.Fprintf(&b, "  about: %s\n", strings.Join(f.About, ", "))
		}
		fmt.Fprintf(&b, "  %s\n  fix: %s\n  seen by %s, and %s followed\n", f.Why, f.Mend, plural(f.Rows, "check", "checks"), plural(f.Consequence, "more", "more"))
	}
	b.WriteString("\nchain:")
	for _, l := range s.Chain {
		fmt.Fprintf(&b, " -- %s (%s)", l.Name, l.State)
	}
	b.WriteString("\n\n")
	for _, r := range s.Rows {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-10s  %-22s  %9v  %s %s", r.State, r.ID, r.Took, r.Code, r.Because), " ") + "\n")
	}
	b.WriteString("\nHosts have pseudonyms. No name of a host, module, user or directory, and no text that a server sent, is in here.\n")
	return b.String()
}

// WriteHTML writes the shared report as a page that needs nothing else.
func (s *Shared) WriteHTML(w io.Writer) error { return page.Execute(w, s) }

var page = template.Must(template.New("report").Parse(PageBegins + `
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2em .8em .2em 0; border-bottom: 1px solid #ddd }
code { font-family: ui-monospace, monospace } .fail { color: #a40000; font-weight: bold } .warn { color: #8a5a00; font-weight: bold } .ok { color: #1a6b1a }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } .fail { color: #ff7b72 } .warn { color: #e3b341 } .ok { color: #7ee787 } td, th { border-color: #444 } }
</style></head><body>
<h1>Report of sluice doctor</h1>
<p><code>{{.Print}}</code></p>
<p>{{.Program}}: <span class="{{.Verdict}}">{{.Verdict}}</span>, {{len .Rows}} checks in {{.Took}}</p>
{{with .Sources}}<ol>{{range .}}<li>{{.}}</li>{{end}}</ol>{{end}}
{{range .Found}}<h2><span class="{{.Severity}}">{{.Severity}}</span> {{.Code}}: {{.Title}}</h2>
{{with .About}}<p>About {{range $i, $a := .}}{{if $i}}, {{end}}{{$a}}{{end}}.</p>{{end}}
<p>{{.Why}}</p><p>Fix: {{.Mend}}.</p><p>Checks that show it: {{.Rows}}; that follow from it: {{.Consequence}}.</p>
{{end}}<h2>Chain</h2><p>{{range $i, $l := .Chain}}{{if $i}} – {{end}}<span class="{{$l.State}}">{{$l.Name}} ({{$l.State}})</span>{{end}}</p>
<h2>Checks</h2><table><tr><th>State</th><th>Check</th><th>Took</th><th>Code</th><th>Because of</th></tr>
{{range .Rows}}<tr><td class="{{.State}}">{{.State}}</td><td><code>{{.ID}}</code></td><td>{{.Took}}</td><td>{{.Code}}</td><td>{{.Because}}</td></tr>
{{end}}</table>
<p>Hosts have pseudonyms. No name of a host, module, user or directory, and no text that a server sent, is in here.</p>
</body></html>
`))
