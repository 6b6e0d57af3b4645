// Package config makes one plain Config of a TOML file, SLUICE_ variables, flags
// and the go command's own settings, and can say of each value where it is from.
//
// It refuses what it does not understand, all mistakes at once, each with its
// place and its mend. It reads no file, environment or flag by itself, and knows
// nothing of the packages that a Config is for.
//
// The names are fixed by the documentation of the product; what the go command
// has words for (proxy lists, patterns, checksum databases) follows package goenv.
package config

import (
	"cmp"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goenv"
)

// A Config is what the program runs with. Keys describes each field under the
// name that its path has in small letters: Lists.Fresh is lists.fresh, Admin.TokenFile
// admin.token_file.
type Config struct {
	Listen     string         // host:port
	Data       string         // directory of the store
	Region     string         // where this server stands; "": nobody says
	Proxy      goenv.List     // the chain of sources
	Private    goenv.Patterns // never sent to a public source or database
	NoProxy    goenv.Patterns // fetched by version control, past the proxies
	NoSumDB    goenv.Patterns // not checked against GoSumDB
	GoSumDB    goenv.SumDB    // what artifacts are checked against
	SumDB      []goenv.SumDB  // databases served at /sumdb/NAME/
	GoVCS      string         // GOVCS of direct downloads
	GoInsecure goenv.Patterns // GOINSECURE of direct downloads
	Failover   string         // AsWritten or Proxies
	Source     []Source       // what is special to some of the sources; SourceOf finds it
	ModCache   string         // ModCacheAuto, ModCacheOff, or a module cache's directory

	Lists struct {
		Fresh time.Duration // a list, @latest or query answer is used so long without asking again
		Stale time.Duration // how long a client waits for a fresh answer while an older one is at hand
		Merge string        // First or Union
	}
	Sources struct {
		Timeout time.Duration // the longest that one source may make no progress
		Connect time.Duration // the longest that a dial may take, and again a TLS handshake
		// Redirects are hosts (host:port) with addresses of this machine or its
		// network that a source may redirect to.
		Redirects []string
		Heartbeat time.Duration // how often a source that is down, or idle, is probed; 0 is never
		Retries   int           // how often a chain that is in trouble as a whole is asked again
		Backoff   time.Duration // the longest wait before the first of them
		Patience  time.Duration // no wait ends later after the first failure
		Fence     time.Duration // how long a source that lied about a module is asked last for it
		Pieces    int           // over how many connections the zips of a source come at most while a large one comes in pieces; 1: never in pieces
		Strategy  string        // which source of a tier is asked first: Ordered, LeastConnections, Weighted or LowestLatency
	}
	LookAhead struct {
		Enabled  bool
		Parallel int
	}
	Store struct {
		Hot     int64 // bytes of memory for small files
		Reserve int64 // bytes of disk left free
		Quota   int64 // bytes that modules may take; 0: any
	}
	Run struct {
		Lay bool // sluice run lays modules into the module cache
	}
	Log struct {
		Format string // "text" or "json"
		Level  slog.Level
	}
	Origin struct {
		Enabled  bool          // version control may be used
		Timeout  time.Duration // for one download by version control
		Parallel int
	}
	Admin struct {
		TokenFile string // of the API over TCP; "": it is on the local socket only
	}
	Limits struct {
		Idle  time.Duration // an idle client connection is closed after it
		Stall time.Duration // a client that takes no byte for so long is cut
	}
}

// Values of Config.Failover.
const (
	AsWritten = "as-written" // "," moves on at 404 and 410 only, as the go command does
	Proxies   = "proxies"    // a proxy in trouble is passed over for the next proxy, never for direct
)

// Values of Config.ModCache that are no directory.
const (
	ModCacheAuto = "auto" // the one that the go command of this user has
	ModCacheOff  = "off"
)

// A Layer is a place where values are found; a higher one hides the lower ones.
type Layer string

// The layers, from the lowest to the highest.
const (
	Default Layer = "default"
	GoEnv   Layer = "go env"
	File    Layer = "file"
	Environ Layer = "environment"
	Flag    Layer = "flag"
)

// From says where a value is from.
type From struct {
	Layer Layer
	Where string // "--lists-fresh", "SLUICE_LISTS_FRESH", "FILE:LINE", "GOPROXY, environment"; may be empty for a default
}

func (f From) String() string {
	if f.Where == "" {
		return string(f.Layer)
	}
	return string(f.Layer) + " (" + f.Where + ")"
}

// An Error is one mistake in the configuration.
type Error struct {
	Where   string // as in From; empty if no layer is to blame
	Key     string // empty if it is about no key, as a syntax error
	Text    string // what is wrong and how to mend it; no credentials
	Suggest string // the name that was probably meant; may be empty
}

func (e Error) Error() string {
	var b strings.Builder
	for _, s := range []string{e.Where, e.Key} {
		if s != "" {
			b.WriteString(s + ": ")
		}
	}
	b.WriteString(e.Text)
	if e.Suggest != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", e.Suggest)
	}
	return b.String()
}

// Errors are all mistakes found, one line each: those of the file in its order,
// then those of the environment, of flags, and of all together.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Input is everything that a Config is made of.
type Input struct {
	Path     string            // of the file, for messages
	Data     []byte            // of the file; nil if there is none
	Environ  []string          // as os.Environ gives it
	Flags    map[string]string // by key name: "lists.fresh"; only those that were given
	SumDBs   []string          // of the flag --sumdb, each "NAME URL KEY"; or in Flags, with ";" between
	Defaults map[string]string // by key name: what this command has other defaults for
	Go       *goenv.Settings   // nil if there are none
	CacheDir string            // the user's cache directory; empty if there is none
	// Storeless is whether the command can do without a store: where nothing says where
	// it is, Data is empty, and that is no mistake.
	Storeless bool
	// ReadFile reads the files that [[source]] tables name, with their modes (0
	// where those say nothing). Nil means that there are no files.
	ReadFile func(path string) ([]byte, fs.FileMode, error)
}

// Loaded is a Config and where it is from.
type Loaded struct {
	Config
	File     string          // Input.Path
	From     map[string]From // by key name; complete
	Trees    []Tree          // of this machine, which may not be there: that of ModCache
	Warnings []Error         // what the go command's settings have that does nothing
}

// A value is one key's text as one layer has it.
type value struct {
	text string
	from From
}

// A Tree is a GOPROXY tree on this machine.
type Tree struct {
	Dir   string
	Heads string // directory in which NAME/latest is a tree head of the checksum database NAME that Dir's files belong to
}

// TreeOf is the tree in a directory. Of a module cache, the go command keeps the
// tree heads beside it, in GOPATH/pkg/sumdb.
func TreeOf(dir string) Tree {
	const inPath = "pkg/mod/cache/download"
	if gopath, ok := strings.CutSuffix(filepath.ToSlash(filepath.Clean(dir)), "/"+inPath); ok {
		return Tree{dir, filepath.Join(filepath.FromSlash(gopath), "pkg", "sumdb")}
	}
	return Tree{dir, filepath.Join(dir, "sumdb")}
}

// Load makes the Config. The error, if any, is of type Errors; Loaded is then
// what could be read, with defaults in place of what could not, to be shown but
// not to be run with.
func Load(in Input) (*Loaded, error) {
	l := &Loaded{File: in.Path, From: make(map[string]From)}
	if in.Go == nil {
		in.Go = goenv.Load(nil, nil, "", "")
	}
	keys := Keys()
	var errs Errors

	file := parseFile(in.Path, in.Data, keys)
	errs = append(errs, file.errs...)
	env, envErrs := parseEnviron(in.Environ, keys, namedVariables(file.sources))

	layers := make(map[string][]value) // by key name, the highest first
	for _, name := range slices.Sorted(maps.Keys(in.Flags)) {
		if k, ok := find(keys, name); ok && k.Kind != KindSources {
			layers[name] = append(layers[name], value{in.Flags[name], From{Flag, "--" + k.Flag()}})
			continue
		}
		envErrs = append(envErrs, Error{Where: "--" + join([]string{name}), Text: "there is no such key", Suggest: suggest(name, keys)})
	}
	for _, m := range []map[string]value{env, file.values} {
		for name, v := range m {
			layers[name] = append(layers[name], v)
		}
	}

	// Each layer is checked, also where a higher one hides it: a mistake does
	// not wait for the day when the flag is left out.
	var fileErrs, otherErrs Errors
	for _, k := range keys {
		done, failed := k.isTables(), false
		for _, v := range layers[k.Name] {
			if v.text == "" && k.emptyIsDefault() && v.from.Layer == Flag {
				// A variable that was to be in its place is not set.
				failed = true
				otherErrs = append(otherErrs, Error{Where: v.from.Where, Key: k.Name, Text: "it is empty; write " + k.assignment() + ", or leave the flag away"})
				continue
			}
			if k.isTables() || v.text == "" && k.emptyIsDefault() {
				continue
			}
			scratch := Config{}
			if bad := k.set(&scratch, v.text); len(bad) > 0 {
				failed = true
				for _, text := range bad {
					e := Error{Where: v.from.Where, Key: k.Name, Text: text}
					if v.from.Layer == File {
						fileErrs = append(fileErrs, e)
					} else {
						otherErrs = append(otherErrs, e)
					}
				}
			} else if misread := misread(k, v); misread != nil {
				failed = true
				if v.from.Layer == File {
					fileErrs = append(fileErrs, *misread)
				} else {
					otherErrs = append(otherErrs, *misread)
				}
			} else if !done {
				k.set(&l.Config, v.text)
				l.From[k.Name], done = v.from, true
			}
		}
		if !done {
			if bad := l.setDefault(k, in); !failed {
				otherErrs = append(otherErrs, bad...)
			}
		}
	}
	l.doubtProxy(in, layers["proxy"])
	cache := l.ModCache
	switch cache {
	case ModCacheAuto:
		cache = in.Go.Get("GOMODCACHE").Value
	case ModCacheOff:
		cache = ""
	}
	if filepath.IsAbs(cache) { // the go command does not take another either
		tree := TreeOf(filepath.Join(cache, "cache", "download"))
		if path := filepath.SplitList(in.Go.Get("GOPATH").Value); l.ModCache == ModCacheAuto && len(path) > 0 {
			tree.Heads = filepath.Join(path[0], "pkg", "sumdb")
		}
		l.Trees = []Tree{tree}
	}
	fileErrs = append(fileErrs, l.loadSources(in, file.sources, l.proxyLists(in, layers["proxy"]))...)
	sumdbErrs, inFile := l.loadSumDBs(in, env["sumdb"].text, file)
	if inFile {
		fileErrs = append(fileErrs, sumdbErrs...)
	} else {
		otherErrs = append(otherErrs, sumdbErrs...)
	}

	errs = append(errs, fileErrs...)
	slices.SortStableFunc(errs, func(a, b Error) int { return cmp.Compare(lineOf(a.Where), lineOf(b.Where)) })
	errs = append(append(errs, envErrs...), otherErrs...)
	if len(l.Proxy) == 1 && l.Proxy[0].Kind == goenv.Direct && !l.Origin.Enabled {
		errs = append(errs, Error{Where: l.From["origin.enabled"].Where, Key: "origin.enabled",
			Text: "it is false, but version control (direct) is the only source in proxy; name a proxy, or allow it"})
	}
	if len(errs) > 0 {
		return l, errs
	}
	return l, nil
}

// proxyLists are the proxy lists of all layers, as far as they can be read.
func (l *Loaded) proxyLists(in Input, values []value) []goenv.List {
	lists := []goenv.List{l.Proxy}
	texts := []string{in.Defaults["proxy"], in.Go.Get("GOPROXY").Value}
	for _, v := range values {
		texts = append(texts, v.text)
	}
	for _, text := range texts {
		if list, err := goenv.ParseProxyList(text); err == nil {
			lists = append(lists, list)
		}
	}
	return lists
}

// misread is the mistake of a proxy list that can be read, but not as it was meant; nil
// if there is none. Credentials are not shown.
func misread(k Key, v value) *Error {
	if k.Kind != KindProxy {
		return nil
	}
	notes, meant := goenv.MisreadProxyList(v.text)
	if meant == "" {
		return nil
	}
	list, _ := goenv.ParseProxyList(meant)
	return &Error{Where: v.from.Where, Key: k.Name, Text: strings.Join(notes, "; "), Suggest: list.Redacted()}
}

// doubtProxy warns of what the proxy list in force has that does not do what it seems to
// do. Of GOPROXY that is all: whoever stands in for the go command has to read it as it does.
func (l *Loaded) doubtProxy(in Input, values []value) {
	from := l.From["proxy"]
	text := ""
	if from.Layer == GoEnv {
		text = in.Go.Get("GOPROXY").Value
	} else if i := slices.IndexFunc(values, func(v value) bool { return v.from == from }); i >= 0 {
		text = values[i].text
	}
	if text == "" {
		return
	}
	notes, _ := goenv.CheckProxyList(text)
	for _, note := range notes {
		l.Warnings = append(l.Warnings, Error{Where: from.Where, Key: "proxy", Text: note})
	}
}

// lineOf is the line in "FILE:LINE".
func lineOf(where string) int {
	n, _ := strconv.Atoi(where[strings.LastIndexByte(where, ':')+1:])
	return n
}

// setDefault sets a key that no layer of ours sets.
func (l *Loaded) setDefault(k Key, in Input) Errors {
	if text, ok := in.Defaults[k.Name]; ok {
		l.From[k.Name] = From{Layer: Default}
		if bad := k.set(&l.Config, text); len(bad) > 0 {
			return Errors{{Key: k.Name, Text: bad[0]}}
		}
		return nil
	}
	if k.Name == "noproxy" || k.Name == "nosumdb" {
		switch l.From["private"].Layer {
		case File, Environ, Flag:
			*k.field(&l.Config).(*goenv.Patterns) = l.Private
			l.From[k.Name] = From{Default, "follows private"}
			return nil
		}
	}
	if k.GoVar != "" {
		if v := in.Go.Get(k.GoVar); v.Value != "" || v.Layer != goenv.Default {
			from := From{GoEnv, k.GoVar}
			if v.Where != "" {
				from.Where += ", " + v.Where
			}
			if p, ok := k.field(&l.Config).(*goenv.Patterns); ok {
				// The go command ignores what is wrong with them, and so
				// must the one who stands in for it.
				*p, l.From[k.Name] = goenv.Patterns(v.Value), from
				for _, pp := range goenv.CheckPatterns(*p) {
					if pp.Dead && v.Where != "follows GOPRIVATE" {
						l.Warnings = append(l.Warnings, Error{Where: from.Where, Key: k.Name, Text: pp.Error()})
					}
				}
				return nil
			}
			if v.Value != "" {
				bad := k.set(&l.Config, v.Value)
				if len(bad) == 0 {
					l.From[k.Name] = from
					return nil
				}
				l.From[k.Name] = From{Layer: Default}
				return Errors{{Where: from.Where, Key: k.Name, Text: bad[0]}}
			}
		}
	}
	l.From[k.Name] = From{Layer: Default}
	text := k.Default
	switch k.Name {
	case "data":
		if in.CacheDir == "" && in.Storeless {
			return nil
		}
		if in.CacheDir == "" {
			return Errors{{Key: k.Name, Text: "no directory is given, and this user has no cache directory; write " + k.assignment()}}
		}
		text = filepath.Join(in.CacheDir, "sluice")
	case "proxy":
		return Errors{{Key: k.Name, Text: "no source is given, and no go command with a default of its own (GOROOT/go.env) was found; write " + k.assignment()}}
	}
	if text != "" {
		k.set(&l.Config, text)
	}
	return nil
}

// loadSumDBs sets SumDB from the flags, or the environment, or the file, or
// GoSumDB.
func (l *Loaded) loadSumDBs(in Input, env string, file parsedFile) (errs Errors, inFile bool) {
	type source struct {
		line  Error // where, for errors
		db    sumdbTable
		parse error
	}
	var list []source
	from := From{Default, "follows gosumdb"}
	text := func(f From, texts []string) {
		from = f
		for _, s := range texts {
			if s = strings.TrimSpace(s); s == "" {
				continue
			}
			src := source{line: Error{Where: f.Where, Key: "sumdb"}}
			words := strings.Fields(s)
			if len(words) > 3 {
				src.parse = fmt.Errorf("%d words, and at most 3 are understood; write %s", len(words), sumdbExample)
			}
			words = append(words, "", "", "")
			src.db.name, src.db.url, src.db.key = words[0], words[1], words[2]
			list = append(list, src)
		}
	}
	flags := slices.Clone(in.SumDBs)
	if s := in.Flags["sumdb"]; s != "" {
		flags = append(flags, strings.Split(s, ";")...)
	}
	switch {
	case len(flags) > 0:
		text(From{Flag, "--sumdb"}, flags)
	case env != "":
		text(From{Environ, "SLUICE_SUMDB"}, strings.Split(env, ";"))
	case file.sumdbSet:
		from, inFile = From{File, file.sumdbWhere}, true
		for _, t := range file.sumdbs {
			list = append(list, source{line: Error{Where: t.where, Key: "sumdb"}, db: t})
		}
	}
	l.From["sumdb"] = from
	if from.Layer == Default {
		if !l.GoSumDB.Off && l.GoSumDB.Name != "" {
			l.SumDB = []goenv.SumDB{l.GoSumDB}
		}
		return nil, false
	}
	for _, src := range list {
		if src.db.broken {
			continue // said already
		}
		db, field, err := src.db.make()
		if src.parse != nil {
			field, err = "", src.parse
		}
		if err == nil {
			switch i := slices.IndexFunc(l.SumDB, func(o goenv.SumDB) bool { return o.Name == db.Name }); {
			case i >= 0:
				field, err = "name", fmt.Errorf("two databases are called %q; remove one", db.Name)
			case db.Name == l.GoSumDB.Name && db.Key != l.GoSumDB.Key:
				l.Warnings = append(l.Warnings, Error{Where: src.db.lines["key"], Key: "sumdb.key",
					Text: fmt.Sprintf("gosumdb has another key for %q; unless these are two databases, one of the two keys is wrong", db.Name)})
			}
		}
		if err != nil {
			src.line.Text = err.Error()
			if w := src.db.lines[field]; w != "" {
				src.line.Where, src.line.Key = w, "sumdb."+field
			}
			errs = append(errs, src.line)
			continue
		}
		l.SumDB = append(l.SumDB, db)
	}
	return errs, inFile
}

// A sumdbTable is one [[sumdb]], or what a flag or variable says instead.
type sumdbTable struct {
	name, url, key string
	where          string            // of the table
	lines          map[string]string // field → where
	broken         bool              // an error has been reported for it
}

const sumdbExample = `"sumdb.example.com https://sumdb.example.com sumdb.example.com+HASH+KEY"`

// make checks a table. field is the one to blame for err.
func (t sumdbTable) make() (db goenv.SumDB, field string, err error) {
	if t.name == "" {
		return db, "name", fmt.Errorf(`a database needs its name; write name = "sum.golang.org"`)
	}
	key := t.key
	if key == "" {
		if key = goenv.SumDBKey(t.name); key == "" {
			return db, "key", fmt.Errorf("the database %q needs its key; write key = \"%[1]s+HASH+KEY\" as its operator publishes it", goenv.Redact(t.name))
		}
	}
	if len(strings.Fields(key)) != 1 || strings.TrimSpace(key) != key || !strings.Contains(key, "+") {
		return db, "key", fmt.Errorf(`it must be a complete verifier key; write key = "%s+HASH+KEY"`, goenv.Redact(t.name))
	}
	if db, err = goenv.ParseSumDB(key); err != nil {
		return db, "key", err
	}
	if db.Name != t.name {
		return db, "key", fmt.Errorf("this is the key of %q, and the database is called %q; correct one of the two", db.Name, goenv.Redact(t.name))
	}
	if t.url == "" {
		return db, "", nil
	}
	if len(strings.Fields(t.url)) != 1 {
		return db, "url", fmt.Errorf(`it has a space in it; write url = "https://%s"`, db.Name)
	}
	db, err = goenv.ParseSumDB(key + " " + t.url)
	if err == nil {
		err = checkSumDBURL(db)
	}
	return db, "url", err
}

func checkSumDBURL(db goenv.SumDB) error {
	if strings.HasPrefix(strings.ToLower(db.URL), "file:") {
		return fmt.Errorf("a checksum database is asked by http or https, not in files; write https://%s", db.Name)
	}
	return nil
}

// parseEnviron picks the SLUICE_ variables. An empty one is not set; named ones
// are no keys and yet read.
func parseEnviron(environ []string, keys []Key, named []string) (map[string]value, Errors) {
	values := make(map[string]value)
	var errs Errors
	for _, kv := range environ {
		name, text, ok := strings.Cut(kv, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name)
		}
		if !ok || text == "" || !strings.HasPrefix(name, "SLUICE_") {
			continue
		}
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Env() == name })
		switch {
		case slices.Contains(named, name):
		case i >= 0 && keys[i].Kind == KindSources:
			errs = append(errs, Error{Where: name, Key: keys[i].Name, Text: "settings of one source stand in the configuration file only; write [[source]] there"})
		case i >= 0:
			if _, dup := values[keys[i].Name]; !dup { // the first mention counts, as in package os
				values[keys[i].Name] = value{text, From{Environ, name}}
			}
		case !foreignVariable(name, text):
			e := Error{Where: join([]string{name}), Text: "there is no such variable; remove it"}
			if s := suggest(strings.TrimPrefix(name, "SLUICE_"), keys); s != "" {
				e.Suggest = Key{Name: s}.Env()
			}
			errs = append(errs, e)
		}
	}
	slices.SortFunc(errs, func(a, b Error) int { return strings.Compare(a.Where, b.Where) })
	return values, errs
}

// A Variable is an environment variable that is no key.
type Variable struct{ Name, Help string }

// Variables lists the SLUICE_ variables that are no keys and yet not refused.
func Variables() []Variable {
	return []Variable{
		{"SLUICE_CONFIG", "names the configuration file"},
		{"SLUICE_BIN", "names the program in scripts that test it; not read"},
		{"SLUICE_SERVICE_*, SLUICE_PORT*", "set by Kubernetes for a service called sluice; not read"},
	}
}

// foreignVariable knows what Variables lists. Kubernetes puts its service links
// into every pod, in the form SLUICE_PORT=tcp://10.0.0.1:7070; a plain number
// there is a mistake for SLUICE_LISTEN.
func foreignVariable(name, text string) bool {
	switch rest := strings.TrimPrefix(name, "SLUICE_"); {
	case rest == "CONFIG" || rest == "BIN":
		return true
	case rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || strings.HasPrefix(rest, "SERVICE_PORT_"):
		return true
	case rest == "PORT":
		return strings.Contains(text, "://")
	default:
		return strings.HasPrefix(rest, "PORT_") && rest[len("PORT_"):] != "" && '0' <= rest[5] && rest[5] <= '9'
	}
}

// A Row is one line of what "config show" prints.
type Row struct {
	Key, Value string // without credentials
	From       From
}

// Show lists every key with its value; sumdb and source have a row for each.
func (l *Loaded) Show() []Row {
	var rows []Row
	for _, k := range Keys() {
		from := l.From[k.Name]
		if k.Kind == KindSources {
			for _, s := range l.Source {
				rows = append(rows, Row{k.Name, s.show(), from})
			}
			if len(l.Source) == 0 {
				rows = append(rows, Row{k.Name, "", from})
			}
			continue
		}
		if k.Kind != KindSumDBs {
			rows = append(rows, Row{k.Name, k.show(&l.Config), from})
			continue
		}
		for _, db := range l.SumDB {
			rows = append(rows, Row{k.Name, goenv.Redact(sumdbText(db)), from})
		}
		if len(l.SumDB) == 0 {
			rows = append(rows, Row{k.Name, "", from})
		}
	}
	return rows
}

// A Change is a key that differs between two Configs.
type Change struct {
	Key      string
	Old, New string // without credentials, so they may be the same
	Restart  bool   // the new value takes effect at the next start only
}

func (c Change) String() string {
	s := fmt.Sprintf("%s: %q → %q", c.Key, c.Old, c.New)
	if c.Old == c.New {
		s = c.Key + ": other credentials"
	}
	if c.Restart {
		s += " (needs a restart)"
	}
	return s
}

// Diff lists the keys whose values differ.
func Diff(old, new Config) []Change {
	var changes []Change
	for _, k := range Keys() {
		if k.text(&old) != k.text(&new) {
			changes = append(changes, Change{k.Name, k.show(&old), k.show(&new), k.Restart})
		}
	}
	return changes
}

func checkListen(s string) error {
	const form = `write 127.0.0.1:7070, or :7070 for all interfaces`
	if strings.Contains(s, "://") {
		return fmt.Errorf("it is a URL, and an address has no scheme; %s", form)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, e := strconv.Atoi(s); e == nil {
			return fmt.Errorf("it is a port without an address; write 127.0.0.1:%s, or :%[1]s for all interfaces", s)
		}
		return fmt.Errorf("%s is not HOST:PORT; %s", quoteKey(s), form)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("the port %s is not a number from 0 to 65535; %s", quoteKey(port), form)
	} else if strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("the port %q is written oddly; write %d", port, n)
	}
	if strings.ContainsFunc(host, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\@?#"'<>`, r)
	}) {
		return fmt.Errorf("%s is no host or IP address; %s", quoteKey(host), form)
	}
	return nil
}
