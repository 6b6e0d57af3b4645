package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goenv"
)

// A Kind is the form that a key's value has.
type Kind string

// The kinds, as the documentation calls them. In the file all are strings, but
// for booleans and numbers.
const (
	KindAddress  Kind = "address"            // host:port
	KindPath     Kind = "directory"          //
	KindProxy    Kind = "proxy list"         // GOPROXY syntax
	KindPatterns Kind = "patterns"           // GOPRIVATE syntax
	KindSumDB    Kind = "checksum database"  // GOSUMDB syntax
	KindSumDBs   Kind = "checksum databases" // [[sumdb]] tables, or NAME URL KEY
	KindSources  Kind = "tables"             // [[source]], in the file only
	KindVCS      Kind = "vcs rules"          // GOVCS syntax
	KindHosts    Kind = "hosts"              // host:port, with commas between
	KindChoice   Kind = "choice"             // one of Key.Choices
	KindDuration Kind = "duration"           // "1m30s"
	KindSize     Kind = "size"               // "64MiB"
	KindNumber   Kind = "number"             //
	KindModCache Kind = "module cache"       // ModCacheAuto, ModCacheOff or a directory
	KindBool     Kind = "boolean"            // true or false

	// Those of [[source]] tables alone.
	KindURL      Kind = "URL"           // of a source
	KindName     Kind = "name"          //
	KindFile     Kind = "file"          //
	KindVariable Kind = "variable"      // of the environment
	KindForward  Kind = "forward proxy" // a URL, or "none"
	KindNoProxy  Kind = "host list"     // NO_PROXY syntax
	KindResolver Kind = "resolver"      // a URL, or an IP address with or without port
	KindRate     Kind = "rate"          // per second, may be a fraction
)

func (k Kind) article() string {
	switch k {
	case KindAddress:
		return "an " + string(k)
	case KindPatterns, KindVCS, KindSumDBs, KindSources:
		return string(k)
	}
	return "a " + string(k)
}

// A Key is one setting. Keys makes them; flags, variables, "config show" and the
// documentation are made from them.
type Key struct {
	Name        string
	Kind        Kind
	Default     string   // empty if there is none, or none that is always the same
	DefaultHelp string   // says in words what Default cannot
	Help        string   // one line without capital and full stop
	GoVar       string   // the go command's variable that it defaults to
	Choices     []string // of a KindChoice
	Example     string   // a value, for messages and documentation
	Restart     bool     // a change takes effect at the next start only

	min, max int64 // of durations (ns), sizes (bytes) and numbers; max 0 is none
	field    func(*Config) any
	check    func(string) error // of a text, beside what Kind asks for; may be nil
}

// isTables: it cannot be set as one text.
func (k Key) isTables() bool { return k.Kind == KindSumDBs || k.Kind == KindSources }

// Flag is the key's flag without its dashes: lists.fresh has lists-fresh.
func (k Key) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(k.Name) }

// Env is the key's environment variable: lists.fresh has SLUICE_LISTS_FRESH.
func (k Key) Env() string {
	return "SLUICE_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// DefaultText says what the key is if nobody sets it.
func (k Key) DefaultText() string {
	switch {
	case k.DefaultHelp != "":
		return k.DefaultHelp
	case k.GoVar != "":
		return "go env " + k.GoVar
	}
	return k.Default
}

// Keys lists every key in the order of the documentation.
func Keys() []Key {
	return []Key{
		{Name: "listen", Kind: KindAddress, Default: "127.0.0.1:7070", Restart: true,
			Help:  "address to serve at; without a host, all interfaces",
			field: func(c *Config) any { return &c.Listen }},
		{Name: "data", Kind: KindPath, Example: "/var/lib/sluice", Restart: true,
			DefaultHelp: "sluice in the user's cache directory",
			Help:        "directory of the store, laid out as a GOPROXY tree",
			field:       func(c *Config) any { return &c.Data }},
		{Name: "region", Kind: KindName, Example: "eu-west", DefaultHelp: "none", check: checkLabel, Restart: true,
			Help:  "where this server stands, for those who look at the sources of several",
			field: func(c *Config) any { return &c.Region }},
		{Name: "proxy", Kind: KindProxy, GoVar: "GOPROXY", Example: "https://a.example|https://b.example,direct",
			Help:  "where modules come from, as a GOPROXY list",
			field: func(c *Config) any { return &c.Proxy }},
		{Name: "private", Kind: KindPatterns, GoVar: "GOPRIVATE", Example: "git.corp.example,*.internal.example",
			Help:  "modules never sent to a public source or checksum database",
			field: func(c *Config) any { return &c.Private }},
		{Name: "noproxy", Kind: KindPatterns, GoVar: "GONOPROXY", Example: "git.corp.example",
			DefaultHelp: "private where that is set here, else go env GONOPROXY",
			Help:        "modules fetched by version control, past the proxies",
			field:       func(c *Config) any { return &c.NoProxy }},
		{Name: "nosumdb", Kind: KindPatterns, GoVar: "GONOSUMDB", Example: "git.corp.example",
			DefaultHelp: "private where that is set here, else go env GONOSUMDB",
			Help:        "modules not checked against the checksum database",
			field:       func(c *Config) any { return &c.NoSumDB }},
		{Name: "gosumdb", Kind: KindSumDB, Default: "sum.golang.org", GoVar: "GOSUMDB", Example: "sum.golang.org",
			Help:  `checksum database to verify with: a name, "KEY", "KEY URL" or off`,
			field: func(c *Config) any { return &c.GoSumDB }},
		{Name: "sumdb", Kind: KindSumDBs, Example: sumdbExample,
			DefaultHelp: "the one of gosumdb",
			Help:        "checksum databases served at /sumdb/NAME/: name, url and key of each",
			field:       func(c *Config) any { return &c.SumDB }},
		{Name: "govcs", Kind: KindVCS, GoVar: "GOVCS", Example: "public:git|hg,private:all",
			Help:  "version control systems that direct downloads may use",
			field: func(c *Config) any { return &c.GoVCS }},
		{Name: "goinsecure", Kind: KindPatterns, GoVar: "GOINSECURE", Example: "git.lab.example",
			Help:  "modules that direct downloads may fetch without TLS or certificate check",
			field: func(c *Config) any { return &c.GoInsecure }},
		{Name: "failover", Kind: KindChoice, Default: AsWritten, Choices: []string{AsWritten, Proxies},
			Help:  `what "," in proxy means: only a 404 or 410 moves on, or any trouble moves on to the next proxy`,
			field: func(c *Config) any { return &c.Failover }},
		{Name: "source", Kind: KindSources, Example: "https://a.example",
			DefaultHelp: "none",
			Help:        "what is special to one source, in [[source]] tables of the file",
			field:       func(c *Config) any { return &c.Source }},
		{Name: "modcache", Kind: KindModCache, Default: ModCacheAuto, Example: "/home/ann/go/pkg/mod",
			Help:  "module cache of this machine to take files from before a source is asked: auto is that of go env GOMODCACHE, off is none",
			field: func(c *Config) any { return &c.ModCache }},
		{Name: "lists.fresh", Kind: KindDuration, Default: "1m",
			Help:  "how long a list, @latest or branch answer is used without asking again",
			field: func(c *Config) any { return &c.Lists.Fresh }},
		{Name: "lists.stale", Kind: KindDuration, Default: "2s",
			Help:  "how long a client waits for a fresh answer while an older one is at hand",
			field: func(c *Config) any { return &c.Lists.Stale }},
		{Name: "lists.merge", Kind: KindChoice, Default: First, Choices: []string{First, Union},
			Help:  "a list comes from the first source that answers, or is the union of those with | between them (with failover = \"proxies\", of all proxies)",
			field: func(c *Config) any { return &c.Lists.Merge }},
		{Name: "sources.timeout", Kind: KindDuration, Default: "30s", min: 1,
			Help:  "the longest that one source may make no progress",
			field: func(c *Config) any { return &c.Sources.Timeout }},
		{Name: "sources.connect", Kind: KindDuration, Default: "10s", min: 1,
			Help:  "the longest that connecting may take, and again the TLS handshake",
			field: func(c *Config) any { return &c.Sources.Connect }},
		{Name: "sources.redirects", Kind: KindHosts, Example: "storage.corp.example:443",
			DefaultHelp: "none",
			Help:        "hosts inside this network that sources may redirect to",
			field:       func(c *Config) any { return &c.Sources.Redirects }},
		{Name: "sources.heartbeat", Kind: KindDuration, Default: "5s",
			Help:  "how often a source that is down, or that nobody asked for so long, is probed; 0s is never",
			field: func(c *Config) any { return &c.Sources.Heartbeat }},
		{Name: "sources.retries", Kind: KindNumber, Default: "3", max: 20,
			Help:  "how often the sources are asked again when all of them are in trouble",
			field: func(c *Config) any { return &c.Sources.Retries }},
		{Name: "sources.backoff", Kind: KindDuration, Default: "300ms", min: 1,
			Help:  "the longest wait before the first retry, twice as long before each next one",
			field: func(c *Config) any { return &c.Sources.Backoff }},
		{Name: "sources.patience", Kind: KindDuration, Default: "2.4s",
			Help:  "no retry begins later than this after the first failure",
			field: func(c *Config) any { return &c.Sources.Patience }},
		{Name: "sources.fence", Kind: KindDuration, Default: "24h",
			Help:  "how long a source whose bytes the checksum database disowned is asked last for that module",
			field: func(c *Config) any { return &c.Sources.Fence }},
		{Name: "sources.pieces", Kind: KindNumber, Default: "4", min: 1, max: 16,
			Help:  "over how many connections to one source its zips come at most while a large one is asked for in pieces, because it comes slowly over one; 1: never in pieces",
			field: func(c *Config) any { return &c.Sources.Pieces }},
		{Name: "sources.strategy", Kind: KindChoice, Default: Ordered, Choices: []string{Ordered, LeastConnections, Weighted, LowestLatency},
			Help:  "which source of a tier is asked first",
			field: func(c *Config) any { return &c.Sources.Strategy }},
		{Name: "lookahead.enabled", Kind: KindBool, Default: "true",
			Help:  "fetch ahead what a go command will ask for next",
			field: func(c *Config) any { return &c.LookAhead.Enabled }},
		{Name: "lookahead.parallel", Kind: KindNumber, Default: "32", min: 1, max: 256,
			Help:  "how many fetches ahead may run at once",
			field: func(c *Config) any { return &c.LookAhead.Parallel }},
		{Name: "store.hot", Kind: KindSize, Default: "64MiB", Restart: true,
			Help:  "memory for small files that are asked for often",
			field: func(c *Config) any { return &c.Store.Hot }},
		{Name: "store.reserve", Kind: KindSize, Default: "256MiB", Restart: true,
			Help:  "disk space left free: below it, modules are served but not stored",
			field: func(c *Config) any { return &c.Store.Reserve }},
		{Name: "store.quota", Kind: KindSize, Default: "0", Example: "20GiB", Restart: true,
			Help:  "disk space for modules: past it, those used longest ago are evicted, private and pinned ones never; 0 is none",
			field: func(c *Config) any { return &c.Store.Quota }},
		{Name: "run.lay", Kind: KindBool, Default: "true",
			Help:  "sluice run: unpack verified modules into the module cache of the go command that it runs",
			field: func(c *Config) any { return &c.Run.Lay }},
		{Name: "log.format", Kind: KindChoice, Default: "text", Choices: []string{"text", "json"},
			Help:  "form of the log lines",
			field: func(c *Config) any { return &c.Log.Format }},
		{Name: "log.level", Kind: KindChoice, Default: "info", Choices: []string{"debug", "info", "warn", "error"},
			Help:  "the least level that is logged",
			field: func(c *Config) any { return &c.Log.Level }},
		{Name: "origin.enabled", Kind: KindBool, Default: "true",
			Help:  "allow version control where proxy says direct",
			field: func(c *Config) any { return &c.Origin.Enabled }},
		{Name: "origin.timeout", Kind: KindDuration, Default: "10m", min: 1,
			Help:  "the longest that one download by version control may take",
			field: func(c *Config) any { return &c.Origin.Timeout }},
		{Name: "origin.parallel", Kind: KindNumber, Default: "4", min: 1, max: 64,
			Help:  "how many downloads by version control may run at once",
			field: func(c *Config) any { return &c.Origin.Parallel }},
		{Name: "admin.token_file", Kind: KindFile, check: checkPath, Example: "/etc/sluice/admin.token",
			DefaultHelp: "none: the API is on the local socket only",
			Help:        "file with the token that the API under /-/ wants at the listener",
			field:       func(c *Config) any { return &c.Admin.TokenFile }},
		{Name: "limits.idle", Kind: KindDuration, Default: "2m", min: 1, Restart: true,
			Help:  "an idle client connection is closed after it",
			field: func(c *Config) any { return &c.Limits.Idle }},
		{Name: "limits.stall", Kind: KindDuration, Default: "2m", min: 1, Restart: true,
			Help:  "a client that takes no byte for so long is cut",
			field: func(c *Config) any { return &c.Limits.Stall }},
	}
}

func find(keys []Key, name string) (Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// emptyIsDefault: an empty list of patterns says that there are none, but an
// empty proxy list or database says nothing.
func (k Key) emptyIsDefault() bool { return k.Kind == KindProxy || k.Kind == KindSumDB }

// leaf is the name that the key has in its table.
func (k Key) leaf() string { return k.Name[strings.LastIndexByte(k.Name, '.')+1:] }

// example is a value that is right.
func (k Key) example() string {
	if k.Example != "" {
		return k.Example
	}
	return k.Default
}

// assignment is a line of the file that is right.
func (k Key) assignment() string {
	if k.Kind == KindBool || k.Kind == KindNumber || k.Kind == KindRate {
		return k.leaf() + " = " + k.example()
	}
	return k.leaf() + " = " + strconv.Quote(k.example())
}

// set parses text into the field. What is wrong with it is returned in
// sentences with their mend; the field is then not changed.
func (k Key) set(c *Config, text string) []string {
	if p, ok := k.field(c).(*goenv.Patterns); ok {
		var bad []string
		for _, pp := range goenv.CheckPatterns(goenv.Patterns(text)) {
			if pp.Dead {
				bad = append(bad, pp.Error())
			}
		}
		if len(bad) == 0 {
			*p = goenv.Patterns(text)
		}
		return bad
	}
	if err := k.setOne(c, text); err != nil {
		return []string{oneLine(err.Error())}
	}
	return nil
}

func (k Key) setOne(c *Config, text string) error {
	if text == "" && k.Kind != KindVCS && k.Kind != KindHosts && k.Kind != KindNoProxy && k.Kind != KindResolver {
		return fmt.Errorf("it is empty; write %s, or leave it out", k.example())
	}
	switch p := k.field(c).(type) {
	case *goenv.List:
		list, err := goenv.ParseProxyList(text)
		if err == nil {
			*p = list
		}
		return err
	case *goenv.SumDB:
		db, err := goenv.ParseSumDB(text)
		if err == nil {
			err = checkSumDBURL(db)
		}
		if err == nil {
			*p = db
		}
		return err
	case *time.Duration:
		d, err := parseDuration(text)
		if err == nil {
			err = k.checkRange(int64(d), func(n int64) string { return formatDuration(time.Duration(n)) })
		}
		if err == nil {
			*p = d
		}
		return err
	case *int64:
		n, err := parseSize(text)
		if err == nil {
			*p = n
		}
		return err
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("it is not a whole number; write %s", k.example())
		}
		if err := k.checkRange(int64(n), func(n int64) string { return strconv.FormatInt(n, 10) }); err != nil {
			return err
		}
		*p = n
	case *float64:
		f, err := parseRate(text)
		if err == nil {
			*p = f
		}
		return err
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("it is neither true nor false; write true or false")
		}
		*p = b
	case *[]string:
		hosts, err := parseHosts(text)
		if err == nil {
			*p = hosts
		}
		return err
	case *slog.Level:
		if err := k.checkChoice(text); err != nil {
			return err
		}
		return p.UnmarshalText([]byte(text))
	case *string:
		var err error
		switch k.Kind {
		case KindAddress:
			err = checkListen(text)
		case KindPath:
			err = checkPath(text)
		case KindModCache:
			err = checkModCache(text)
		case KindVCS:
			err = goenv.CheckVCS(text)
		case KindChoice:
			err = k.checkChoice(text)
		case KindURL:
			return setSourceURL(p, text)
		}
		if err == nil && k.check != nil {
			err = k.check(text)
		}
		if err == nil {
			*p = text
		}
		return err
	default:
		return fmt.Errorf("it cannot be set as one text")
	}
	return nil
}

func (k Key) checkRange(n int64, format func(int64) string) error {
	switch {
	case n < 0:
		return fmt.Errorf("it must not be negative; write %s", k.example())
	case n < k.min:
		if n == 0 {
			return fmt.Errorf("it must be more than 0; write %s", k.example())
		}
		return fmt.Errorf("it must be at least %s", format(k.min))
	case k.max > 0 && n > k.max:
		return fmt.Errorf("it must be at most %s", format(k.max))
	}
	return nil
}

func (k Key) checkChoice(text string) error {
	if slices.Contains(k.Choices, text) {
		return nil
	}
	err := fmt.Errorf("%s is none of %s", quoteKey(text), strings.Join(k.Choices, ", "))
	if s := nearest(strings.ToLower(text), k.Choices); s != "" {
		err = fmt.Errorf("%w (did you mean %q?)", err, s)
	}
	return err
}

// parseHosts reads a list of host:port.
func parseHosts(s string) ([]string, error) {
	var hosts []string
	for h := range strings.SplitSeq(s, ",") {
		if h = strings.ToLower(strings.TrimSpace(h)); h == "" {
			continue
		}
		host, port, err := net.SplitHostPort(h)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
			return nil, fmt.Errorf("%s is not HOST:PORT; write storage.corp.example:443", quoteKey(goenv.Redact(h)))
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

func checkModCache(s string) error {
	if s == ModCacheAuto || s == ModCacheOff {
		return nil
	}
	if err := checkPath(s); err != nil {
		return err
	}
	if !filepath.IsAbs(s) {
		err := fmt.Errorf("%s is neither %s, %s nor a whole path; write /home/ann/go/pkg/mod", quoteKey(s), ModCacheAuto, ModCacheOff)
		if near := nearest(strings.ToLower(s), []string{ModCacheAuto, ModCacheOff}); near != "" {
			err = fmt.Errorf("%w (did you mean %q?)", err, near)
		}
		return err
	}
	return nil
}

func checkPath(s string) error {
	switch {
	case strings.ContainsRune(s, 0):
		return errors.New("it has a zero byte in it, which no path can have")
	case strings.HasPrefix(s, "~"):
		return errors.New("~ is understood by shells only; write the whole path")
	case strings.Contains(s, "://"):
		return errors.New("it is a URL, and a directory is wanted; write /var/lib/sluice")
	case strings.TrimSpace(s) != s:
		return errors.New("it has a space at its begin or end; write it without")
	}
	return nil
}

// text is the value in the form that set takes, with its credentials.
func (k Key) text(c *Config) string {
	switch p := k.field(c).(type) {
	case *goenv.List:
		return p.String()
	case *goenv.SumDB:
		return p.String()
	case *[]goenv.SumDB:
		texts := make([]string, len(*p))
		for i, db := range *p {
			texts[i] = sumdbText(db)
		}
		return strings.Join(texts, "; ")
	case *[]Source:
		texts := make([]string, len(*p))
		for i, s := range *p {
			texts[i] = s.text()
		}
		return strings.Join(texts, "\n")
	case *float64:
		return strconv.FormatFloat(*p, 'g', -1, 64)
	case *goenv.Patterns:
		return string(*p)
	case *[]string:
		return strings.Join(*p, ",")
	case *time.Duration:
		return formatDuration(*p)
	case *int64:
		return formatSize(*p)
	case *int:
		return strconv.Itoa(*p)
	case *bool:
		return strconv.FormatBool(*p)
	case *slog.Level:
		return strings.ToLower(p.String())
	case *string:
		return *p
	}
	return ""
}

// show is text without credentials.
func (k Key) show(c *Config) string {
	switch k.Kind {
	case KindSources:
		texts := make([]string, len(c.Source))
		for i, s := range c.Source {
			texts[i] = s.show()
		}
		return strings.Join(texts, " | ")
	case KindProxy, KindSumDB, KindSumDBs, KindPatterns:
		return goenv.Redact(k.text(c))
	}
	return k.text(c)
}

func sumdbText(db goenv.SumDB) string {
	return db.Name + " " + db.Base() + " " + db.Key
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch _, notNumber := strconv.ParseFloat(s, 64); {
	case notNumber == nil:
		return 0, fmt.Errorf("the duration has no unit; write %ss", s)
	case err == nil:
		return d, nil
	}
	if n, ok := strings.CutSuffix(s, "d"); ok {
		if days, err := strconv.ParseUint(n, 10, 16); err == nil {
			return 0, fmt.Errorf("there is no unit for days; write %dh", days*24)
		}
	}
	return 0, fmt.Errorf("%s is not a duration; write 500ms, 30s, 1m or 1h30m", quoteKey(s))
}

// formatDuration is d.String without units that are zero: "1m" and not "1m0s".
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var sizeUnits = [...]struct {
	name string
	n    int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

func parseSize(s string) (int64, error) {
	if s == "0" {
		return 0, nil
	}
	for _, u := range sizeUnits {
		num, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		switch {
		case err != nil || math.IsNaN(f):
			return 0, fmt.Errorf("%s is not a size; write 64MiB or 2GiB", quoteKey(s))
		case f < 0:
			return 0, errors.New("it must not be negative; write 64MiB or 2GiB")
		case f*float64(u.n) > 1<<60:
			return 0, errors.New("it is larger than any disk; write 64MiB or 2GiB")
		}
		return int64(f * float64(u.n)), nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f < 0 {
		return 0, errors.New("it must not be negative; write 64MiB or 2GiB")
	} else if err == nil {
		return 0, fmt.Errorf("the size has no unit; write %sMiB, or %[1]sB for bytes", s)
	}
	return 0, fmt.Errorf("%s is not a size; write 64MiB or 2GiB", quoteKey(s))
}

// formatSize uses the largest binary unit that is exact.
func formatSize(n int64) string {
	for _, u := range sizeUnits[:4] {
		if n != 0 && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	if n == 0 {
		return "0"
	}
	return strconv.FormatInt(n, 10) + "B"
}

// quoteKey quotes what somebody wrote, shortened, so that a message stays one
// line that can be read, and without what looks like credentials.
func quoteKey(s string) string {
	if strings.Contains(s, "@") {
		s = goenv.Redact(s)
	}
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// suggest finds the key that was probably meant by name, which may be of the
// file (lists.fresh), a flag or a variable.
func suggest(name string, keys []Key) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer(".", "", "_", "", "-", "").Replace(s))
	}
	p := plain(name)
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
		if plain(k.Name) == p || k.GoVar != "" && plain(k.GoVar) == p {
			return k.Name
		}
	}
	if s, ok := map[string]string{
		"proxies": "proxy", "upstream": "proxy", "upstreams": "proxy", "sourcesproxy": "proxy",
		"addr": "listen", "address": "listen", "bind": "listen", "port": "listen", "host": "listen",
		"cache": "data", "cachedir": "data", "dir": "data", "datadir": "data", "storage": "data", "store": "data", "storedir": "data", "storepath": "data",
		"timeout": "sources.timeout", "ttl": "lists.fresh", "listttl": "lists.fresh", "cachettl": "lists.fresh",
		"verbose": "log.level", "loglevel": "log.level", "logformat": "log.format",
		"sumdbs": "sumdb", "sumdatabase": "sumdb",
	}[p]; ok {
		return s
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	var leaves []string
	for _, k := range keys {
		if k.leaf() == last {
			leaves = append(leaves, k.Name)
		}
	}
	if s := nearest(strings.ToLower(name), leaves); s != "" {
		return s
	}
	if len(leaves) == 1 {
		return leaves[0] // a whole word that is right says more than letters that are near
	}
	if s := nearest(strings.ToLower(name), names); s != "" {
		return s
	}
	for i, k := range keys {
		names[i] = plain(k.Name)
	}
	if s := nearest(p, names); s != "" {
		return keys[slices.Index(names, s)].Name
	}
	return ""
}

// Nearest is the one of the names that was probably meant; "" if none is near.
func Nearest(name string, names []string) string { return nearest(strings.ToLower(name), names) }

// nearest is the one of the names that differs from name by a slip or two of the
// fingers, empty if none does.
func nearest(name string, names []string) string {
	best, at := "", len(name)/4+1
	if len(name) > 60 {
		return ""
	}
	for _, n := range names {
		if d := distance(name, n); d <= at && d < len(n) {
			best, at = n, d-1
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make b of a.
func distance(a, b string) int {
	var prev2 []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, cur
	}
	return prev[len(b)]
}
