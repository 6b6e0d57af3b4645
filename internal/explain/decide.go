package explain

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
)

// A cand is what one line of the text would mean.
type cand struct {
	code       finding.Code
	weight     weight
	line       int // its index
	number     int // its number in the input, from 1
	end        int // where in the line that is said
	size       int // how many bytes of the line say it
	text       string
	before     string // the line before it
	next       string // the line after it, without what loggers put before that
	host       string
	base       string // where the address of host begins, if another line than this one has it
	mod        module.Version
	confidence finding.Confidence
	ipv4       bool // the line shows that IPv4 fails as well
	own        bool // the line says that it is about modules or repositories
	again      bool // the lines after it say that it is tried again
	placed     bool // a compiler or a linter says it of a place in a Go file
}

// A text is a piece of the log that is looked at as a whole.
type text struct {
	*grammar
	lines   []line
	place   finding.Place
	withURL int // the last line with a URL in it, or -1
}

// foreign are signs of other programs that fetch things or talk over a network.
// What such a line says is not about modules.
var foreign = []string{
	"error response from daemon", "docker.io/", "docker daemon", "docker.sock", "/manifests/", "/blobs/sha256", `/v2/":`, "/v2/: ", "failed to resolve source metadata",
	"failed to do request: head", "pull access denied", "toomanyrequests", "manifest unknown", "failed to fetch oauth token", "failed to copy: httpreadseeker",
	"importing cache manifest", "ghcr.io", "quay.io", "gcr.io/", "mcr.microsoft.com", "public.ecr.aws", "registry.k8s.io", "imagepullbackoff", "errimagepull", "failed to pull image", "permission denied while trying to connect",
	"npm err", "npm error", "npm warn", "yarn error", "pip._vendor", "crates.io", "pypi.org", "rubygems.org", "could not fetch specs",
	"e: failed to fetch", "w: failed to fetch", "err:1 ", "err:2 ", "err:3 ", "apkindex", "fetch https://dl-cdn",
	"http: proxy error", "panic:", "rpc error: code", "listen tcp", "fork/exec /tmp", "wget: ",
	"newconnectionerror", "retry(total=", "urllib3", "registry.terraform.", "for provider ", "helm repo", "could not transfer artifact", "could not resolve dependencies for project",
	"error an unexpected error occurred", "could not get 'http", "could not resolve all files for configuration",
}

// testSays is a line that a test printed. The go command and the compiler give a
// column, too.
var testSays = regexp.MustCompile(`_test\.go:\d+: `)

// otherPorts are those of databases, queues and other services that no module comes
// from.
var otherPorts = regexp.MustCompile(`(?:dial|lookup|connect).*:(?:5432|3306|6379|27017|9092|2379|5672|9200|11211|26257|1433|8500|4222|50051|6443|2375)\b`)

// progress is what the go command says while all is well.
// A request that -x shows is among several of which it is enough that one goes well.
var progress = regexp.MustCompile(`^# get https?://\S+?(?:: \d{3} .*)?$|^go: (?:downloading|finding|extracting|found|added|removed|creating new go\.mod|upgraded \S+ \S+ => [^:]*$|downgraded \S+ \S+ => [^:]*$)`)

// commandLine is a line on which somebody, or a build recipe, gives a command.
var commandLine = regexp.MustCompile(`^(?:\$ |\+ |\+\+ |% |(?:\S{1,40}@\S{1,60}[:~ ]\S* ?[#$>] ?)|PS [A-Z]:.*?> |[A-Z]:\\[^>]*>\s*\S|(?:Step \d+/\d+ : |\s*=> |\s*> ?\[|\[[^\]]{1,60}\] )?(?:RUN|COPY|ENV|ARG) |\s*=> |Command failed: |run: |\s*Running \[|>> |==> |\w*> |# (?:go|git|make|docker|curl) |go (?:get|install|build|mod|run|test|env|list) |(?:-->|--->) )`)

// variable is a line of go env, env or set.
var variable = regexp.MustCompile(`^(?:set |export |declare -x )?[A-Z][A-Z0-9_]*=`)

// consequence is a line that only says that something else failed.
var consequence = regexp.MustCompile(`(?i)did not complete successfully|executor failed running|^make(?:\[\d+\])?: (?:\*\*\* \[|leaving |entering )|^the command .* returned|process completed with exit code|failed with exit code|^exit (?:status|code):? ?\d+\W*$|^command .* failed \(exit|^error: job failed|^recipe for target`)

// killed is the status of a program that the system ended, for want of memory as a rule.
var killed = regexp.MustCompile(`exit code:? 137\b`)

// decide gives the best candidate of the text; one without weight if there is none.
func (t *text) decide() cand {
	best := t.walk(t.lines)
	// A log that was broken into lines of one width says more in one piece. One
	// that only looks so must be left as it is, so the pieces decide unless they
	// say less, or the line that decides is one of the broken ones.
	plain := best
	for _, f := range unfold(t.lines) {
		c := (&text{grammar: t.grammar}).walk(f.lines)
		if c.weight == none || best != plain && (c.weight < best.weight || c.weight == best.weight && c.size <= best.size) {
			continue
		}
		first, end := f.from[c.line], len(t.lines)
		if c.line+1 < len(f.from) {
			end = f.from[c.line+1]
		}
		around := first <= plain.line && plain.line < end && end > first+1
		if c.weight < best.weight && !around {
			continue
		}
		if around || c.weight > best.weight || end > first+1 && (plain.line >= first || f.sure) {
			c.line = first
			best = c
			if f.sure {
				break
			}
		}
	}
	return best
}

// walk looks at the lines in their order.
func (t *text) walk(lines []line) cand {
	t.lines, t.withURL = lines, -1
	var all []cand
	skip := -1
	dull := map[uint64]struct{}{} // the shapes of the lines that were looked at
	looked := 0                   // how much was looked at closely, in lines of usual length
	need := faint                 // what a line must be worth to be looked at closely
	last := len(lines)            // the first line that cannot change the answer
	for i, l := range lines {
		if strings.Contains(l.low, "://") {
			t.withURL = i
		}
		if i <= skip {
			continue
		}
		hits := t.triggers.in(l.low)
		if hits == nil {
			continue
		}
		if t.place == "" {
			for _, h := range hits {
				if t.rules[h].code == placeRule {
					t.place = t.rules[h].place
					break
				}
			}
		}
		if i >= last {
			break
		}
		worth, status := t.worth(hits, l)
		if worth < need {
			continue
		}
		// A log may say one thing a hundred thousand times.
		key := shape(l.low)
		if _, ok := dull[key]; ok && !status || looked >= maxLooked && !ourOwn(l.low) {
			continue
		}
		dull[key] = struct{}{}
		looked += 1 + len(l.low)/256
		b := bare(l.text)
		if commandLine.MatchString(b) && !strings.Contains(l.low, "error") && !strings.Contains(l.low, " can only be ") && !strings.Contains(l.low, " cannot be ") && !strings.Contains(l.low, "fatal:") && !(strings.HasPrefix(b, "go ") && strings.Contains(b, ": ")) {
			continue
		}
		if consequence.MatchString(b) && !ofOthers(l.low) && !killed.MatchString(l.low) || progress.MatchString(b) || variable.MatchString(b) {
			continue
		}
		if low := lower(b); need > faint && warns(low) && !strings.Contains(t.near(i), "server response:") {
			continue // it is faint at most
		}
		c, body := t.at(hits, i, line{text: b, low: lower(b)})
		skip = max(skip, body)
		if c.weight < need {
			continue
		}
		if c.again = t.triedAgain(i); c.again {
			delete(dull, key) // the last of its kind counts
		}
		all = append(all, c)
		if !c.again {
			need = max(need, min(c.weight+1, telling))
		}
		if c.weight == telling && c.own && !c.again && last == len(lines) {
			last = i + 16
			if c.code == finding.IPv6Broken {
				last = i + 512 // IPv4 may fail too
			}
		}
	}
	return pick(all)
}

// onceMore is how programs and scripts say that they try once more.
var onceMore = regexp.MustCompile(`(?:retrying|will retry|retry (?:in|attempt|#?\d)|trying again|try again in|waiting \d+ seconds before|attempt \d+ (?:of|/) ?\d+|attempt \d+ failed)`)

// triedAgain reports whether what failed on line i is tried once more.
func (t *text) triedAgain(i int) bool {
	for _, l := range t.lines[i:min(i+4, len(t.lines))] {
		if onceMore.MatchString(l.low) {
			return true
		}
	}
	return false
}

// pick weighs the candidates of one text.
func pick(all []cand) cand {
	var best cand
	for i, c := range all {
		if overtaken(c, all[i+1:]) {
			continue
		}
		if c.weight == header {
			// What follows says what is wrong more exactly.
			more := false
			for _, d := range all[i+1:] {
				more = more || d.weight == telling && d.line <= c.line+8 && d.code != finding.NotModules
			}
			if more {
				continue
			}
			c.weight = telling
		}
		if c.weight > best.weight {
			best = c
		}
	}
	if best.code == finding.IPv6Broken {
		// Where IPv4 fails as well, IPv6 is not to blame.
		for _, c := range all {
			if c.ipv4 {
				best.code = finding.SourceConnectTimeout
				break
			}
		}
	}
	return best
}

// overtaken reports whether one of the later candidates says that c is not what the
// command failed of.
func overtaken(c cand, later []cand) bool {
	for _, d := range later {
		switch {
		case c.again && (d.weight == telling || d.placed):
			return true // it was tried again, and that went well, or failed for the last time
		case d.weight != telling:
		case d.code == finding.NotModules && d.weight == telling && !c.own && c.code != finding.NotModules:
			return true // a test says what it met
		case c.code == finding.NeedsTidy && d.own && d.code != finding.NotModules && d.code != finding.NeedsTidy && c.mod.Path != "" && within(c.mod.Path, d.mod.Path) && d.line > c.line+1 && !strings.HasPrefix(d.text, " "):
			return true // the advice was followed, and that failed
		}
	}
	return false
}

// within reports whether the package or module path lies in module mod.
func within(path, mod string) bool {
	return mod != "" && (path == mod || strings.HasPrefix(path, mod+"/"))
}

// maxLooked is how many lines of usual length are looked at closely in one text, which takes
// some 0.1 ms each; past it only what the go command itself printed.
const maxLooked = 256

// shape is the same for lines that differ in their digits only, but for those of the
// address and port that a connection was to be made to: two ports of one machine are
// two services.
func shape(low string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	to := strings.Index(low, "dial ")
	if to < 0 {
		to = strings.Index(low, "connect to ")
	}
	end := len(low) // of the address; what follows may be the number of the try
	if to >= 0 {
		if n := strings.Index(low[to:], ": "); n >= 0 {
			end = to + n
		}
	}
	for i := 0; i < len(low); i++ {
		c := low[i]
		if !isDigit(c) {
			h = (h ^ uint64(c)) * 1099511628211
			continue
		}
		from := i
		for i+1 < len(low) && isDigit(low[i+1]) {
			i++
		}
		if to < 0 || from < to || from > end || strings.HasPrefix(low[i+1:], "->") {
			continue // our own end of a connection has another port each time
		}
		if before := low[from-1]; before == ':' || before == '.' || i+1 < len(low) && low[i+1] == '.' || strings.HasSuffix(low[:from], " port ") {
			for _, c := range []byte(low[from : i+1]) {
				h = (h ^ uint64(c)) * 1099511628211
			}
		}
	}
	return h
}

// ourOwn reports whether the go command printed the line about a module, or another
// program quotes it.
func ourOwn(low string) bool {
	return strings.Contains(low, "/@v/") || strings.Contains(low, "/@latest") || strings.HasPrefix(low, "go: ") || strings.Contains(low, ": go: ")
}

// worth is what the line can be worth at most, and whether that is by a status in
// it, found cheaply: most lines of most logs have a phrase in them by chance, or none.
func (t *text) worth(hits []int, l line) (w weight, status bool) {
	for _, h := range hits {
		switch r := t.rules[h]; r.code {
		case bodyRule, placeRule:
		case positionRule:
			if w < vague && positionAnywhere(l.low) {
				w = vague
			}
		case statusRule:
			if status {
				continue
			}
			status = true
			if code, _ := statusOf(l); code != "" {
				return telling, true
			}
		case reasonRule:
			return telling, status
		default:
			if r.weight > w && (strings.HasPrefix(r.glob[0], "^") || r.glob.end(l.low) >= 0) {
				w = r.weight
			}
		}
		if w == telling {
			break
		}
	}
	return w, false
}

// positionAnywhere reports whether s has something like ".go:12:3: ".
func positionAnywhere(s string) bool {
	for {
		i := strings.Index(s, ".go:")
		if i < 0 {
			return false
		}
		s = s[i+len(".go:"):]
		rest := strings.TrimLeft(s, "0123456789:")
		if len(rest) < len(s) && strings.HasSuffix(s[:len(s)-len(rest)], ":") {
			return true
		}
	}
}

// at says what line i means; l is that line without what was written before it.
// body is the last line that was read with it.
func (t *text) at(hits []int, i int, l line) (best cand, body int) {
	slices.Sort(hits)
	hits = slices.Compact(hits)
	best = cand{line: i, text: l.text, confidence: finding.High}
	if i > 0 {
		best.before = t.lines[i-1].text
	}
	if i+1 < len(t.lines) {
		best.next = bare(t.lines[i+1].text)
	}
	body = -1
	if n := strings.Index(l.low, " server response:"); n > 0 {
		// What follows are a server's own words, also where they were put on the same line.
		if head := (line{text: l.text[:n], low: l.low[:n]}); statusLine(head) {
			l = head
		}
	}
	// A toolchain that is in the module cache is where a standard library lies.
	l.low = strings.ReplaceAll(l.low, "/mod/golang.org/toolchain@", "/mod/golang.org/toolchain-")
	warning := warns(l.low)
	position, status := false, false
	for _, h := range hits {
		r := t.rules[h]
		switch r.code {
		case bodyRule, placeRule, reasonRule:
			continue
		case positionRule:
			position = positioned.MatchString(l.text)
			continue
		case statusRule:
			if status {
				continue
			}
			status = true
			if code, end := statusOf(l); code != "" && (best.weight < telling || end > best.end) {
				best.code, best.end, best.weight, best.size = code, end, telling, len("404 Not Found")
			}
			continue
		}
		end := r.glob.end(l.low)
		if end < 0 {
			continue
		}
		// Of two that end at one place the longer says more.
		if r.weight > best.weight || r.weight == best.weight && (end > best.end || end == best.end && r.glob.size() > best.size) {
			best.code, best.end, best.weight, best.size = r.code, end, r.weight, r.glob.size()
		}
	}
	reason := reasonPhrase.FindStringSubmatch(l.text)
	switch {
	case reason != nil && best.weight < telling:
		// Older versions of Go did not quote the URL: the rules have the phrase as newer ones print it.
		if code, w := t.bodyCode(`get "https://x": ` + lower(reason[1])); w == telling {
			best.code, best.weight, best.size, best.end = code, telling, len(reason[1]), len(l.low)
		} else if best.weight == none {
			best.code, best.weight, best.confidence = finding.ForwardProxyBroken, telling, finding.Medium
			return best, body
		}
	case best.weight == none:
		if position {
			best.code, best.weight, best.placed = finding.NotModules, vague, true
		}
		return best, body
	}
	if warning && best.weight > vague {
		best.weight = vague
	}
	switch {
	case position && best.code == finding.PackageNotFound && !strings.Contains(l.low, "could not import"):
		// The go command found the import in that file, and nothing for it; a compiler speaks of what it could not import.
	case position && (best.weight == vague || best.code == finding.GoModParse):
		best.code, best.weight = finding.NotModules, vague // a compiler reads Go files, not go.mod
	case best.code == finding.CacheDenied && best.weight == vague && !cachePath.MatchString(l.low):
		best.code = finding.NotModules
	}
	best.placed = position && best.code == finding.NotModules
	if best.weight == telling && exitStatus.MatchString(l.low) {
		best.weight = header // the reason is what the version control system says
	}
	if strings.Contains(l.low, "; switching to go") {
		best.weight = none
		return best, body
	}
	if best.code == finding.NotModules {
		return best, body
	}
	ours := ourOwn(l.low)
	if !ours {
		ssh := best.code == finding.SSHKey || best.code == finding.SSHHostKey // who needs a key fetches something
		if ofOthers(l.low) && !ssh || network[best.code] && otherPorts.MatchString(l.low) || best.code == finding.SourceDNS && ofNeighbours.MatchString(l.low) && !strings.Contains(l.low, "://") && !strings.Contains(l.low, "proxyconnect") {
			best.code, best.weight, best.confidence = finding.NotModules, vague, finding.Medium
			return best, body
		}
	}
	var s string
	if best.weight != header { // below that the answer of a server belongs to the next line
		s, body = t.serverSaid(i)
	}
	t.refine(&best, i, l, s)
	if warning {
		best.weight = min(best.weight, faint)
		best.confidence = finding.Low
		return best, body
	}
	best.own = ours || best.mod.Path != "" || !network[best.code] || fetching(t.near(i))
	if best.weight == vague {
		best.confidence = finding.Medium
		if best.host == "" && best.mod.Path == "" {
			best.confidence = finding.Low
		}
	}
	return best, body
}

func warns(low string) bool {
	return strings.HasPrefix(low, "warning:") || strings.HasPrefix(low, "go: warning:") || strings.HasPrefix(low, "warn:")
}

func ofOthers(low string) bool {
	return slices.ContainsFunc(foreign, func(sign string) bool { return strings.Contains(low, sign) }) || strings.Contains(low, "_test.go:") && testSays.MatchString(low) || strings.Contains(low, "connect to ") && byHTTPClient.MatchString(low)
}

// byHTTPClient is how the programs of Java say that they cannot connect, Maven and Gradle
// among them.
var byHTTPClient = regexp.MustCompile(`\bconnect to [a-z0-9.-]+:\d+ (?:\[[^\]]*\] )?failed: `)

// cachePath is where the go command keeps modules, its own files, or what it builds.
var cachePath = regexp.MustCompile(`^go: |pkg[/\\]mod|go-build|gopath|gocache|gomodcache|[/\\]go[/\\]|go\.(?:mod|sum|work)`)

// exitStatus is how the go command ends a line below which it quotes another program.
var exitStatus = regexp.MustCompile(`exit status \d+:$`)

// ofNeighbours is a name that only a service beside an application has.
var ofNeighbours = regexp.MustCompile(`lookup [a-z0-9-]+(?: on \S+)?: `)

// fetching reports whether the lines show a program that fetches modules or repositories.
func fetching(low string) bool {
	return slices.ContainsFunc([]string{"fatal:", "remote:", "git ", "ssh: ", "curl: ", "go: ", "go get ", "go mod ", "verifying ", "unrecognized import path", "go-get=1", "/@v/", "cloning into"}, func(sign string) bool { return strings.Contains(low, sign) })
}

// positioned is a position in a Go file at the start of a line.
var positioned = regexp.MustCompile(`^(?:vet: )?(?:[A-Za-z]:)?[^\s:"]+\.go:\d+(?::\d+)?: `)

// reasonPhrase is how Go prints that a forward proxy refused a tunnel, if the
// phrase is one that nobody has thought of.
var reasonPhrase = regexp.MustCompile(`(?:Get|Fetching) "?https://[^\s"]+"?: ([A-Z][A-Za-z]*(?: [A-Za-z]+){0,4})\)?$`)

// statusLeads are the words that a status may follow, beside a URL.
var statusLeads = []string{"status code", "returned error:", "http error", "http status", "error:", " error", "status:", "status"}

// statusOf finds the last HTTP status in a line, what it means, and where it ends;
// refine says what that is by the host it came from.
func statusOf(l line) (finding.Code, int) {
	for _, gone := range []string{"no such file or directory", ": not found"} {
		if end := (glob{"reading file:", gone}).end(l.low); end >= 0 {
			return finding.NotFound, end
		}
	}
	s := l.low
	for i := len(s) - 3; i > 0; i-- {
		if s[i] != '4' && s[i] != '5' || !isDigit(s[i+1]) || !isDigit(s[i+2]) || s[i-1] != ' ' && s[i-1] != ':' {
			continue
		}
		if after := l.text[i+3:]; after != "" && !strings.ContainsRune(" .,;)\"'\\", rune(after[0])) {
			continue
		} else if len(after) > 1 && after[0] == ' ' && (after[1] < 'A' || after[1] > 'Z') {
			continue
		}
		before := strings.TrimRight(s[:i], " ")
		lead := slices.ContainsFunc(statusLeads, func(w string) bool { return strings.HasSuffix(before, w) })
		if !lead && strings.HasSuffix(before, ":") {
			token := before[strings.LastIndexByte(before, ' ')+1:]
			lead = strings.Contains(token, "://")
		}
		if lead {
			n, _ := strconv.Atoi(s[i : i+3])
			return statusCode(n), i + 3
		}
	}
	return "", 0
}

// statusLine reports whether the line has an HTTP status.
func statusLine(l line) bool {
	code, _ := statusOf(l)
	return code != ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func statusCode(n int) finding.Code {
	switch n {
	case 401:
		return finding.SourceUnauthorized
	case 402, 403, 451:
		return finding.SourceForbidden
	case 404, 410:
		return finding.NotFound
	case 407:
		return finding.ForwardProxyLogin
	case 429:
		return finding.SourceThrottled
	case 511:
		return finding.DNSHijackOrPortal
	}
	if n >= 500 {
		return finding.SourceServerError
	}
	return finding.SourceBadStatus
}

// serverSaid is the body of a server's answer that the go command quotes below
// line i, in lower case, and the last line of it.
func (t *text) serverSaid(i int) (said string, last int) {
	const lead = "server response:"
	for j := i; j < min(i+3, len(t.lines)); j++ {
		low := t.lines[j].low
		n := strings.Index(low, lead)
		if n < 0 {
			if j > i && strings.Contains(low, "go: ") {
				return "", -1
			}
			continue
		}
		said, last = strings.TrimSpace(low[n+len(lead):]), j
		indented := said != "" // the go command indents all of it, unless somebody takes that away
		for k := j + 1; k < min(j+10, len(t.lines)); k++ {
			next := t.lines[k]
			b := bare(next.text)
			margin := b == strings.TrimLeft(b, " \t")
			if strings.TrimSpace(b) == "" || strings.HasPrefix(b, "go: ") || strings.HasPrefix(b, "make") || consequence.MatchString(b) ||
				indented && margin || positioned.MatchString(b) {
				break
			}
			indented = indented || !margin
			said += "\n" + lower(b)
			last = k
		}
		return said, last
	}
	return "", -1
}

// inBody are the causes that a server's words name whatever its status is.
var inBody = map[finding.Code]bool{
	finding.UnknownRevision: true, finding.InvalidPseudo: true, finding.MissingMajorSuffix: true, finding.ModulePathMismatch: true,
	finding.ZipRules: true, finding.ZipTooLarge: true, finding.SourceThrottled: true, finding.GoModParse: true, finding.SourceForbidden: true,
}

// bodyCode is the cause that the words of a server name, and whether they do.
func (g *grammar) bodyCode(said string) (finding.Code, weight) {
	var best cand
	for low := range strings.SplitSeq(said, "\n") {
		for _, h := range g.triggers.in(low) {
			r := g.rules[h]
			end := r.glob.end(low)
			if end < 0 || r.code == statusRule || r.code == bodyRule || r.code == positionRule || r.code == placeRule || r.code == reasonRule {
				continue
			}
			if r.weight > best.weight || r.weight == best.weight && end > best.end {
				best = cand{code: r.code, weight: r.weight, end: end}
			}
		}
		if best.weight == telling {
			break
		}
		best.end = 0
	}
	return best.code, best.weight
}

// An asked is what a URL was asked for.
type asked string

const (
	askedProxy  asked = "proxy"
	askedSumDB  asked = "sumdb"
	askedImport asked = "import"
	askedGit    asked = "git"
	askedOther  asked = ""
)

// tunnel is a forward proxy's answer to CONNECT, as curl says it.
var tunnel = regexp.MustCompile(`http code (\d{3}) from proxy after connect|connect tunnel failed, response (\d{3})`)

var (
	urls        = regexp.MustCompile(`(?:https?|file|ssh|git|svn|git\+ssh)://[^\s"'<>\x60]+`)
	lookedUp    = regexp.MustCompile(`\blookup [a-z0-9_.-]+(?: on \S+)?: `)
	lookup      = regexp.MustCompile(`lookup ([A-Za-z0-9_.-]+)`)
	dialed      = regexp.MustCompile(`(?:dial|->|read|write) ?(?:tcp4?6? )?(\[[0-9A-Fa-f:.%a-z]+\]|\d+\.\d+\.\d+\.\d+):(\d+)`)
	arrow       = regexp.MustCompile(`->(\[[0-9A-Fa-f:.%a-z]+\]|\d+\.\d+\.\d+\.\d+):(\d+)`)
	curlHost    = regexp.MustCompile(`(?i)(?:connect to host|connect to|resolve host(?:name)?:?|connection to|match target host name|resolve proxy:?) '?([A-Za-z0-9_.\[\]:-]+?)'?(?: port (\d+)(?:[\s,:;(]|$)|[\s,;(]|:\s|:?$)`)
	sshHost     = regexp.MustCompile(`\b[\w.-]+@([A-Za-z0-9.-]+\.[A-Za-z]{2,}|localhost)\b`)
	knownPublic = regexp.MustCompile(`(?:^|\.)(?:github\.com|githubusercontent\.com|gitlab\.com|bitbucket\.org|golang\.org|go\.dev|golang\.google\.cn|goproxy\.(?:io|cn)|googleapis\.com|google\.com|gopkg\.in|k8s\.io)$`)
)

// inCache is a file that was read from the module cache.
var inCache = regexp.MustCompile(`[/\\]cache[/\\]download[/\\]\S+: invalid character`)

// inVCSCache is a repository in the module cache.
var inVCSCache = regexp.MustCompile(`(?:ownership in repository at|safe\.directory) .*[/\\]cache[/\\]vcs[/\\]`)

// gitDies is how git begins its last words in other languages.
var gitDies = regexp.MustCompile(`fatal :|fatale: |schwerwiegend:|致命错误|致命錯誤|致命的エラー|치명적|onulmaz:|Ödesdigert:|ödesdigert:|фатална грешка|критическая ошибка`)

// ledAway is the secure URL from which a redirect led to an insecure one.
var ledAway = regexp.MustCompile(`redirected from secure URL (\S+) to insecure URL`)

// subject is the URL that the line is about: the last on it, else the one that the
// lines just before spoke of.
func (t *text) subject(i int, l line) string {
	if all := urls.FindAllString(l.text, -1); len(all) > 0 {
		return all[len(all)-1]
	}
	for j := i - 1; j >= max(0, i-3); j-- {
		if !strings.Contains(t.lines[j].text, "://") {
			continue
		}
		if all := urls.FindAllString(t.lines[j].text, -1); len(all) > 0 {
			return all[len(all)-1]
		}
	}
	return ""
}

func hostOf(raw string) (host, port, path, query string) {
	raw = strings.TrimRight(finding.Redact(raw), ":,.;)]") // a password with a slash in it would pass for host and port
	u, err := url.Parse(raw)
	if err != nil {
		rest := raw[strings.Index(raw, "://")+3:]
		rest, path, _ = strings.Cut(rest, "/")
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = rest[at+1:]
		}
		host, port, _ = strings.Cut(rest, ":")
		if strings.Trim(port, "0123456789") != "" {
			return "", "", "/" + path, "" // user and half a password
		}
		return host, port, "/" + path, ""
	}
	return u.Hostname(), u.Port(), u.Path, u.RawQuery
}

// askedFor says what the URL was asked for.
func askedFor(raw string) asked {
	host, _, path, query := hostOf(raw)
	switch {
	case strings.Contains(path, "/sumdb/") || strings.HasPrefix(host, "sum.golang.") || strings.HasPrefix(host, "sum.") && (strings.Contains(path, "/lookup/") || strings.Contains(path, "/tile/")):
		return askedSumDB
	case strings.Contains(query, "go-get=1"):
		return askedImport
	case strings.Contains(path, "/@v/") || strings.HasSuffix(path, "/@latest") || strings.Contains(path, "/@v"):
		return askedProxy
	case strings.HasPrefix(host, "api.") && (strings.Contains(path, "/repos/") || strings.Contains(path, "/repositories/")):
		return askedGit
	case strings.HasSuffix(strings.TrimRight(path, "/"), ".git") || strings.Contains(path, "/info/refs"):
		return askedGit
	case strings.Contains(path, "/lookup/") && strings.Contains(path, "@"):
		return askedSumDB
	}
	return askedOther
}

// refine makes of a phrase what it means on this line: who was asked, through
// whom, at which address, and what the server itself said.
func (t *text) refine(c *cand, i int, l line, said string) {
	raw := t.subject(i, l)
	host, port, _, _ := hostOf(raw)
	if raw == "" {
		host, port = "", ""
	}
	what := askedFor(raw)
	c.host = host
	if strings.Contains(l.low, "lookup ") {
		if m := lookup.FindStringSubmatch(l.text); m != nil && raw == "" {
			c.host = m[1]
			if strings.HasPrefix(c.host, "sum.golang.") {
				what = askedSumDB
			}
		}
	}
	near := t.near(i)
	isGit := strings.Contains(near, "fatal:") || gitDies.MatchString(near) || strings.Contains(near, "git ") || what == askedGit || strings.Contains(near, "remote:")
	toolchain := strings.Contains(l.low, "golang.org/toolchain") || strings.Contains(l.low, "download go1")

	if m := curlHost.FindStringSubmatch(l.text); m != nil {
		curl, curlPort := m[1], m[2]
		if c.host == "" {
			c.host = curl
		}
		if curlPort != "" {
			ip, err := netip.ParseAddr(strings.Trim(curl, "[]"))
			loop := err == nil && (ip.IsLoopback() || ip.IsUnspecified()) || curl == "localhost"
			switch {
			case !network[c.code]:
			case curlPort == "22" || strings.HasPrefix(l.low, "ssh:") || strings.Contains(l.low, "ssh: connect to host"):
				c.code = finding.SSHPort
				c.host = curl
			case host != "" && host != curl && (curlPort != "443" && curlPort != "80" || !loop && err != nil):
				// It went to another host than the URL's: a forward proxy.
				c.code = finding.ForwardProxyBroken
				c.host = curl + ":" + curlPort
			case loop && host != "" && host != curl:
				c.code = finding.DNSHijackOrPortal
			case err == nil && ip.Is6() && !loop && (c.code == finding.SourceNoRoute || c.code == finding.SourceConnectTimeout):
				c.code = finding.IPv6Broken
			case loop && curlPort != "443" && curlPort != "80" && host == "":
				c.code = finding.ForwardProxyBroken
				c.host = curl + ":" + curlPort
			}
		}
	} else if c.host == "" {
		if m := sshHost.FindStringSubmatch(l.text); m != nil {
			c.host = m[1]
		}
	}

	if m := tunnel.FindStringSubmatch(l.low); m != nil {
		n, _ := strconv.Atoi(m[1] + m[2])
		switch {
		case n == 407:
			c.code = finding.ForwardProxyLogin
		case n == 401 || n == 403 || n == 451:
			c.code = finding.ForwardProxyPolicy
		case n >= 300 && n < 400 || n == 511:
			c.code = finding.DNSHijackOrPortal
		default:
			c.code = finding.ForwardProxyBroken
		}
	}
	proxied := strings.Contains(l.low, "proxyconnect") || strings.Contains(l.low, "socks connect") || strings.Contains(l.low, "socks5") || strings.Contains(l.low, "socks4")
	if proxied && c.code == finding.VCSRejected {
		c.code = finding.ForwardProxyLogin
	}
	if proxied && network[c.code] {
		switch c.code {
		case finding.SourceTLSUnknownCA, finding.SourceTLSExpired, finding.SourceTLSHostname:
		default:
			c.code = finding.ForwardProxyBroken
			if m := dialed.FindAllStringSubmatch(l.text, -1); m != nil {
				c.host = m[len(m)-1][1] + ":" + m[len(m)-1][2]
			}
		}
	}
	switch {
	case strings.Contains(l.low, "lookup ") && lookedUp.MatchString(l.low) && (c.code == finding.SourceConnectTimeout || c.code == finding.SourceRefused || c.code == finding.SourceReset || c.code == finding.SourceNoRoute):
		c.code = finding.SourceDNS
	case c.code == finding.SourceReset && (strings.Contains(l.low, "ssl_connect") || strings.Contains(l.low, "gnutls_handshake") || strings.Contains(l.low, "tls connect error") || strings.Contains(l.low, "ssl connect")):
		c.code = finding.SourceTLSHandshake
	}
	if c.code == finding.SourceTLSHandshake && (strings.Contains(l.low, "recv error") || strings.Contains(l.low, "ssl_read") || strings.Contains(l.low, "ssl_write")) {
		c.code = finding.SourceReset // the handshake was over
	}
	switch {
	case strings.HasPrefix(strings.TrimSpace(l.low), "remote: ") && away[c.code]:
		c.code = finding.SourceServerError // it is the server that says so
	case strings.Contains(l.low, "error obtaining vcs status"):
		c.code = finding.BuildVCS
	case c.code == finding.BuildVCS && inVCSCache.MatchString(l.low):
		c.code = finding.CacheDenied // where the go command keeps what it fetched, and not the project
	case strings.Contains(l.low, "invalid proxy address"):
		c.code = finding.ForwardProxyBroken
	case strings.Contains(l.low, "xml syntax error"):
		c.code = finding.NoGoImport
	case (c.code == finding.SourceWrongAnswer || c.code == finding.SourceHTML) && inCache.MatchString(l.low):
		c.code = finding.CacheDamaged
	case c.code == finding.InsecureScheme:
		// Only a stranger leads a proxy's client away to plain http.
		if m := ledAway.FindStringSubmatch(l.text); m != nil && askedFor(m[1]) == askedProxy {
			c.code = finding.DNSHijackOrPortal
		}
	}
	if network[c.code] && !proxied {
		t.byAddress(c, l, host)
	}
	if network[c.code] && (strings.Contains(l.low, "exchange_identification") || strings.Contains(l.low, "banner exchange") || strings.Contains(l.low, "port 22:") || strings.Contains(l.low, "port 22 ") || strings.Contains(l.low, ":22: ")) && c.code != finding.SourceDNS {
		c.code = finding.SSHPort
	}

	switch c.code {
	case finding.NotFound:
		switch {
		case what == askedSumDB:
			c.code = finding.SumDBUnknown
		case what == askedImport:
			c.code = finding.NoGoImport
		case what == askedGit || isGit && what == askedOther:
			c.code = finding.VCSRepoNotFound
		case what == askedOther:
			c.confidence = finding.Medium
		}
	case finding.SourceUnauthorized:
		if what == askedGit || isGit || what == askedImport {
			c.code = finding.VCSRejected
		}
	case finding.SourceForbidden:
		if what == askedGit || isGit && what == askedOther && strings.Contains(l.low, "returned error") {
			c.code = finding.VCSRejected
		}
	case finding.SourceBadStatus:
		if what == askedOther && raw == "" {
			c.weight = min(c.weight, vague)
		}
	case finding.SourceDNS, finding.SourceConnectTimeout, finding.SourceNoRoute, finding.SourceRefused, finding.SourceReset, finding.SourceTLSHandshake, finding.SourceServerError:
		if what == askedSumDB || strings.Contains(l.low, "verifying module: ") || strings.Contains(l.low, "verifying go.mod: ") {
			c.code = finding.SumDBUnreachable
		}
	case finding.SourceHTML, finding.SourceWrongAnswer:
		if strings.Contains(l.low, "http response to https client") && (what == askedImport || isGit) {
			c.code = finding.InsecureScheme
		}
	case finding.GoSumMismatch:
		c.code = t.mismatch(i)
	case finding.PackageNotFound, finding.NoModule:
		if strings.HasPrefix(l.low, "no go files in ") && !cachePath.MatchString(l.low) {
			c.code, c.confidence = finding.NotModules, finding.Medium // a directory of one's own
		}
		if c.code == finding.PackageNotFound && strings.HasSuffix(l.low, `cannot find package "." in:`) && strings.Contains(near, "/vendor/") {
			c.code = finding.VendorInconsistent
		}
		if std := notInStd.FindStringSubmatch(l.text); std != nil {
			switch path := std[1] + std[2] + std[3]; {
			case slices.Contains(youngStd, path):
				c.code = finding.ToolchainTooOld
			case strings.Contains(l.low, "is not in goroot") && strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
				c.code, c.confidence = finding.NoModule, finding.Medium
			}
		}
		if c.code == finding.NoModule && strings.Contains(l.low, "(from $go") && c.weight == telling {
			c.confidence = finding.Medium
		}
	case finding.CacheDenied, finding.ProjectDenied, finding.HomeDenied:
		c.code = deniedAt(l.text, c.code)
	case finding.CacheDamaged:
		if what == askedProxy && !strings.Contains(l.low, "/cache/download/") {
			c.confidence = finding.Medium
		}
	case finding.ReplaceProblem:
		if strings.Contains(l.low, "(replaced by ") && replacedByVersion.MatchString(l.text) {
			c.confidence = finding.Medium
		}
	case finding.VCSRepoNotFound:
		if strings.Contains(near, "http basic: access denied") {
			c.code = finding.VCSRejected
		}
	case finding.VCSRejected:
		if strings.Contains(l.low, "could not be found") {
			c.code = finding.VCSRepoNotFound
		}
	}

	ours := said != "" && t.heed(c, what, said)
	if m := queried.FindStringSubmatch(bare(l.text)); m != nil {
		// What has to change is the line of go.mod: asked about is what is no version.
		c.code, c.confidence, c.host, host, ours = finding.GoModParse, finding.Medium, "", "", false
		if m[1] != "" {
			c.confidence = finding.High
		}
	}
	if toolchain {
		switch c.code {
		case finding.NotFound, finding.SourceDNS, finding.SourceConnectTimeout, finding.SourceNoRoute, finding.SourceRefused, finding.SourceReset, finding.SourceServerError,
			finding.SourceTLSHandshake, finding.ProxyOff, finding.SumDBUnreachable, finding.UnknownRevision, finding.SumDBUnknown, finding.SourceForbidden:
			c.code = finding.ToolchainDownload
		}
	}
	c.mod = moduleOn(l.text, raw)
	if c.code == finding.DependencyConflict && strings.Contains(l.low, " in multiple modules") {
		c.mod = t.outer(i)
	}
	if c.code == finding.ReplaceProblem && c.mod.Path == "" && strings.Contains(l.low, "more replace directives") {
		for j := i - 1; j >= max(0, i-2) && c.mod.Path == ""; j-- {
			c.mod = moduleOn(t.lines[j].text, "")
		}
	}
	if c.host == "" && t.withURL >= 0 && network[c.code] {
		if all := urls.FindAllString(t.lines[t.withURL].text, -1); len(all) > 0 {
			c.host, _, _, _ = hostOf(all[len(all)-1])
		}
	}
	if port != "" && port != "443" && port != "80" && c.host == host {
		c.host += ":" + port
	}
	if ours {
		if from, base := t.blamed(i); from != "" {
			c.host, c.base = from, base
		}
	}
	if c.host == "" && c.weight == telling && network[c.code] {
		c.confidence = finding.Medium
	}
}

// ownCode is the last line of an error body of Sluice's own.
var ownCode = regexp.MustCompile(`\n\s*code: (sl-[a-z]+-[0-9]{3})\s*$`)

// heed gives the words of a server's answer their rank. It reports whether the server is
// a Sluice, which says itself what is the matter.
func (t *text) heed(c *cand, what asked, said string) (ours bool) {
	if m := ownCode.FindStringSubmatch(said); m != nil {
		// It was a Sluice that answered, and it has said so itself.
		if e, ok := finding.Lookup(finding.Code(strings.ToUpper(m[1]))); ok {
			c.code, c.weight, c.confidence = e.Code, telling, finding.High
			return true
		}
	}
	code, w := t.bodyCode(said)
	if all := urls.FindAllString(said, -1); w == telling && len(all) > 0 && away[code] && (what == askedProxy || what == askedSumDB) {
		if host, _, _, _ := hostOf(all[len(all)-1]); knownPublic.MatchString(host) {
			// Nobody but the one who asks there can be cut off from a public host.
			c.code, c.confidence = finding.SourceServerError, finding.Medium
			return
		}
	}
	refused := c.code == finding.NotFound || c.code == finding.SumDBUnknown
	switch {
	case inBody[code] && w == telling:
		c.code = code
	case w < telling:
	case refused && what == askedProxy && (code == finding.DiskFull || code == finding.SourceConnectTimeout && !strings.Contains(said, "no such host") || code == finding.SourceServerError || code == finding.SourceReset || deniedCodes[code]):
		c.code, c.confidence = finding.SourceServerError, finding.Medium
	case c.code == finding.SourceServerError && what == askedProxy && (code == finding.VCSLogin || code == finding.VCSRejected || code == finding.VCSRepoNotFound || code == finding.SSHKey || code == finding.SSHHostKey):
		c.code, c.confidence = code, finding.Medium
	case c.code == finding.SourceBadStatus && (code == finding.VCSLogin || code == finding.UnknownRevision):
		c.code, c.confidence = code, finding.Medium
	}
	return false
}

// away are the codes of a host that does not answer as it does to others.
var away = map[finding.Code]bool{
	finding.SourceConnectTimeout: true, finding.SourceNoRoute: true, finding.SourceRefused: true, finding.SourceReset: true, finding.SourceTLSHandshake: true, finding.SourceServerError: true,
}

// byAddress reads the address that was dialled: an IPv6 one, or one that cannot be
// that of a public name.
func (t *text) byAddress(c *cand, l line, host string) {
	if c.code == finding.SourceDNS {
		return
	}
	all := arrow.FindAllStringSubmatch(l.text, -1)
	if all == nil {
		all = dialed.FindAllStringSubmatch(l.text, -1)
	}
	if all == nil {
		return
	}
	m := all[len(all)-1]
	ip, err := netip.ParseAddr(strings.Trim(m[1], "[]"))
	if err != nil {
		return
	}
	ip = ip.Unmap()
	literal := false
	if h, err := netip.ParseAddr(host); err == nil && h.Unmap() == ip {
		literal = true
	}
	c.ipv4 = ip.Is4() && (c.code == finding.SourceConnectTimeout || c.code == finding.SourceNoRoute)
	if host == "" || host == "localhost" || literal {
		if host == "" && ip.IsLoopback() && c.weight == telling {
			c.weight = vague
		}
		if ip.Is4() || host != "" {
			return
		}
	}
	impossible := ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() || ip.Is4() && ip.As4()[0] >= 240 || ip.IsLinkLocalUnicast()
	if !literal && host != "" && host != "localhost" {
		if impossible && (strings.Contains(host, ".") || m[2] == "443") || knownPublic.MatchString(lower(host)) && (ip.IsPrivate() || ip.Is4() && netip.MustParsePrefix("198.18.0.0/15").Contains(ip)) {
			switch c.code {
			case finding.SourceConnectTimeout, finding.SourceNoRoute, finding.SourceRefused, finding.SourceReset, finding.SourceTLSHandshake:
				c.code = finding.DNSHijackOrPortal
			}
			return
		}
	}
	if ip.Is6() && !impossible {
		switch c.code {
		case finding.SourceConnectTimeout, finding.SourceNoRoute:
			c.code = finding.IPv6Broken
		case finding.SourceReset:
			if strings.Contains(l.low, "timed out") || strings.Contains(l.low, "i/o timeout") || strings.Contains(l.low, "not connected") {
				c.code = finding.IPv6Broken
			}
		case finding.SourceRefused:
			if strings.Contains(l.low, "2001:") || strings.Contains(l.low, "2a00:") || strings.Contains(l.low, "2404:") || strings.Contains(l.low, "2607:") {
				c.confidence = finding.Medium
			}
		}
	}
}

// mismatch tells what the checksum did not fit, by the lines below.
func (t *text) mismatch(i int) finding.Code {
	for _, l := range t.lines[i:min(i+12, len(t.lines))] {
		switch {
		case strings.Contains(l.low, "go.sum:") || strings.Contains(l.low, "recorded in go.sum"):
			return finding.GoSumMismatch
		case strings.Contains(l.low, "reported by the checksum server") || strings.Contains(l.low, "sum.golang.") && strings.Contains(l.low, "h1:"):
			return finding.GoSumDBMismatch
		case strings.Contains(l.low, "h1:") && !strings.Contains(l.low, "downloaded:") && !strings.Contains(l.low, "go.sum") && dbLine.MatchString(bare(l.text)):
			return finding.GoSumDBMismatch
		}
	}
	return finding.GoSumMismatch
}

// dbLine is the line of a mismatch that names a checksum database.
var dbLine = regexp.MustCompile(`^\s*[\w-]+(?:\.[\w-]+)+(?:/\S*)?:\s+h1:`)

var (
	notInStd          = regexp.MustCompile(`package (\S+) is not in (?:std|GOROOT)|cannot find package "([^"]+)" in any of|malformed module path "([^"]+)": missing dot`)
	replacedByVersion = regexp.MustCompile(`\(replaced by [^.\s)/]\S*@v`)
)

// youngStd are packages that the standard library has had only since Go 1.16, so
// that an old toolchain takes them for strangers.
var youngStd = []string{
	"embed", "io/fs", "testing/fstest", "runtime/metrics", "go/build/constraint", "net/netip", "debug/buildinfo", "hash/maphash", "slices", "maps", "cmp", "log/slog",
	"testing/slogtest", "iter", "unique", "structs", "math/rand/v2", "go/version", "crypto/ecdh", "crypto/mlkem", "crypto/hkdf", "crypto/pbkdf2", "crypto/sha3", "crypto/hpke",
	"weak", "testing/synctest", "testing/cryptotest", "runtime/coverage", "encoding/json/v2", "encoding/json/jsontext", "crypto/fips140", "simd/archsimd", "arena", "time/tzdata", "internal/godebug",
}

// near is the block of lines around i that one program may have printed, in lower
// case.
func (t *text) near(i int) string {
	var b strings.Builder
	for _, l := range t.lines[max(0, i-2):min(i+3, len(t.lines))] {
		b.WriteString(l.low)
		b.WriteByte('\n')
	}
	return b.String()
}

var (
	modAt     = regexp.MustCompile(`([A-Za-z0-9][A-Za-z0-9._~-]*\.[A-Za-z0-9.-]+(?:/[A-Za-z0-9._~!-]+)*)@(v\d[^\s:"'/)\],]*|latest|[a-z0-9]{7,40}\b)`)
	modQuoted = regexp.MustCompile(`(?:import path|package|module providing package|malformed module path|module) "?([a-z0-9][A-Za-z0-9._~-]*\.[A-Za-z0-9.-]+(?:/[A-Za-z0-9._~!-]+)*)`)
)

// moduleOn is the module that the line is about.
func moduleOn(s, raw string) module.Version {
	s = urls.ReplaceAllString(s, "")
	if all := modAt.FindAllStringSubmatch(s, -1); len(all) > 0 {
		// The last is the innermost requirement.
		for _, m := range slices.Backward(all) {
			if module.CheckPath(m[1]) == nil {
				v := m[2]
				if !strings.HasPrefix(v, "v") {
					v = ""
				}
				return module.Version{Path: m[1], Version: strings.TrimRight(v, ".")}
			}
		}
	}
	_, _, path, _ := hostOf(raw)
	if _, of, ok := strings.Cut(path, "/lookup/"); ok {
		esc, v, _ := strings.Cut(of, "@")
		if p, err := module.UnescapePath(esc); err == nil {
			v, _ = module.UnescapeVersion(v)
			return module.Version{Path: p, Version: v}
		}
	}
	if strings.Contains(path, "/@") {
		esc, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/@")
		if p, err := module.UnescapePath(esc); err == nil {
			v := strings.TrimPrefix(rest, "v/")
			for _, ext := range []string{".info", ".mod", ".zip"} {
				if base, ok := strings.CutSuffix(v, ext); ok {
					ver, _ := module.UnescapeVersion(base)
					return module.Version{Path: p, Version: ver}
				}
			}
			return module.Version{Path: p}
		}
	}
	if m := modQuoted.FindStringSubmatch(s); m != nil && module.CheckPath(m[1]) == nil {
		return module.Version{Path: m[1]}
	}
	return module.Version{}
}

// maxShown is how much of the deciding line is shown, in bytes.
const maxShown = 500

// result is c in the words of the catalogue.
func (c cand) result(place finding.Place) Result {
	if c.weight == none {
		return Result{Place: place}
	}
	r := Result{
		Finding: finding.At(c.code, place), Line: finding.OneLine(maskBroken(c.before, c.text), maxShown), Number: c.number,
		Host: finding.OneLine(c.host, 255), Module: finding.OneLine(c.mod.Path, 255), Version: finding.OneLine(c.mod.Version, 128), Place: place,
		source: c.base, next: c.next,
	}
	if c.code == finding.NotModules {
		r.Host, r.Module, r.Version = "", "", ""
	}
	r.Finding = r.fill(r.Finding, c.confidence, place)
	return r
}

// pattern is a GOPRIVATE pattern for a module: the owner's part of its path.
func pattern(path string) string {
	parts := strings.SplitN(path, "/", 3)
	if len(parts) < 2 {
		return path
	}
	return parts[0] + "/" + parts[1]
}

// widths are those at which terminals, mail programs and CI systems break lines.
var widths = []int{60, 64, 70, 72, 76, 78, 79, 80, 90, 98, 99, 100, 110, 118, 119, 120, 128, 132, 140, 150, 160}

// A folded is a text whose broken lines have been joined.
type folded struct {
	lines []line
	from  []int // by line, which of the lines before it began with
	sure  bool  // whether the breaks are of one exact width
}

// unfold joins lines that were broken at one width: between any two characters, or
// between words. It gives the ways in which that may have been, the likelier first;
// none if it does not look so.
func unfold(lines []line) []folded {
	longest, full := 0, 0
	if len(lines) > 4096 {
		return nil
	}
	for _, l := range lines {
		switch n := len([]rune(l.text)); {
		case n > longest:
			longest, full = n, 1
		case n == longest:
			full++
		}
	}
	n, exact := slices.BinarySearch(widths, longest)
	if n == len(widths) || !exact && widths[n]-longest > 24 {
		return nil
	}
	var ways []folded
	if exact {
		ways = append(ways, join(lines, longest, false, full > 1))
		ways[0].sure = full > 1
	}
	for ; n < len(widths) && widths[n]-longest <= 24; n++ {
		ways = append(ways, join(lines, widths[n], true, false))
	}
	return slices.DeleteFunc(ways, func(f folded) bool { return len(f.lines) == len(lines) })
}

// opening is how a message begins, not the rest of one.
var opening = regexp.MustCompile(`^(?:\t|-{3}|section_(?:start|end):|(?:go|fatal|remote|error|warning|Error|ERROR|make|ssh|curl|verifying|SECURITY|exit|panic|\$|\+|#\d+|\d+\.\d+|\[?\d{4}-\d\d-\d\d)[: \[T]|[^\s:"]+\.go:\d+:|[\w./@-]+@v\d\S*: |#|--- |FAIL|ok |>|\*)`)

// sameStart reports whether two lines begin alike, as those of one logger do, and the
// rest of a line does not.
func sameStart(a, b string) bool {
	const enough = 12
	return len(a) >= enough && len(b) >= enough && a[:enough] == b[:enough]
}

// join undoes breaks at width, between words or anywhere. Where that is not sure, a
// line that looks like the beginning of a message is one.
func join(lines []line, width int, words, sure bool) (f folded) {
	for i := 0; i < len(lines); i++ {
		s, at, last := lines[i].text, i, lines[i].text
		for i+1 < len(lines) && len(s) < maxLine {
			next := lines[i+1].text
			word, _, _ := strings.Cut(strings.TrimLeft(next, " \t"), " ")
			size := len([]rune(last))
			if size < width/3 || word == "" || sameStart(last, next) || !sure && (opening.MatchString(next) || len(bare(next)) < len(next)) || strings.HasPrefix(next, "go: ") {
				break
			}
			tail := last[strings.LastIndexByte(last, ' ')+1:]
			if size == width && (!words || len(tail)+len(word) > width-20) {
				s += next // a word longer than a line is broken too
			} else if words && size+1+len([]rune(word)) > width && next == strings.TrimLeft(next, " \t") {
				s += " " + next
			} else {
				break
			}
			last = next
			i++
		}
		f.lines = append(f.lines, line{text: s, low: lower(s)})
		f.from = append(f.from, at)
	}
	return f
}
