package explain

import (
	"regexp"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// prefixes are what CI systems, container runtimes and loggers write before a
// line. Each is tried again until none fits, since they come in layers.
var prefixes = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`\s*(?:\S{1,40} )?#\d{1,4} (?:\d+\.\d{1,3}\s)?`, // BuildKit, and compose's copy of it
	`\s*\d{1,6}\.\d{1,4} `,                          // BuildKit's summary of a failed step
	`\s*\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?:? ?`, // a time stamp
	`\s*\[\s*\d+s\] ?`, // the Open Build Service
	`\s*\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]?:? `,
	`\d{1,2}:\d\d:\d\d [AP]M: `, // Netlify
	`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT `,
	`[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \S+: `, // syslog
	`\d{2}[OE]\+? ?`,                                 // GitLab's stream marks after a time stamp
	`(?:stdout|stderr) [FP] `,                        // Kubernetes
	`std(?:out|err)(?:: ?| \| ?)`,                    // what a tool kept of its child
	`(?:>{1,8} ?)+`,                                  // a quoted mail or comment
	`\s*##\[\w+\]`,                                   // Azure, GitHub Actions
	`::(?:error|warning|notice|debug)[^:]*::`,        // GitHub Actions
	`section_(?:start|end):\d+:\S*\s*`,               // GitLab CI
	`\[[\w ./:-]{1,40}\] `,                           // Jenkins, Woodpecker, loggers
	`remote: {5,}`,                                   // a build that git push started
	`\s*[\x{23BF}\x{25CF}\x{2022}\x{2716}-\x{2718}\x{274C}\x{2514}\x{251C}\x{00D7}]\s+`, // marks of interactive tools
	`[\w.-]{1,60}\s+\| `, // docker compose
	`(?:time="?[^"]{1,40}"? )?level=\w+ (?:ts=\S+ )?(?:msg|err|error)="?`,
	`(?:(?i:error|err|warn|info|debug)(?:\[\d+\])?:\s+)`,
	`\x{2502}\s?|\|\s{1,8}`, // boxes of terraform and others
	`go(?:\.exe)? ?: `,      // PowerShell's name of who wrote to stderr
	`-> `,
}, `|`) + `)`)

// bare is s without what was written before it by others than the program that
// printed it.
func bare(s string) string {
	for range 8 {
		m := prefixes.FindString(s)
		if m == "" || len(m) == len(s) || m == "go: " {
			return s
		}
		s = s[len(m):]
	}
	return s
}

// placeSigns are what gives away where a log comes from; the first that occurs decides.
var placeSigns = []struct {
	place finding.Place
	signs []string
}{
	{finding.GitHub, []string{"##[", "::error", "/home/runner/", "/runner/_work", "process completed with exit code", "actions/checkout", "github_actions"}},
	{finding.GitLab, []string{"section_start:", "section_end:", "gitlab-runner", "gitlab-ci-token", "error: job failed", "/builds/"}},
	{finding.Dockerfile, []string{"dockerfile:", "failed to solve", "--mount=type=", "---> running in", "[builder", "executor failed running", "returned a non-zero code"}},
	{finding.PowerShell, []string{"connectex:", "wsarecv:", "getaddrinfow", "ps c:\\", "categoryinfo", "c:\\users\\", "%path%", "appdata\\local"}},
}
