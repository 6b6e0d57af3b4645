package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/modsluice/sluice/internal/goenv"
)

// A parsedFile is what a file says, in texts that Key.set takes.
type parsedFile struct {
	values      map[string]value // by key name
	sumdbs      []sumdbTable
	sumdbSet    bool   // there is at least one [[sumdb]], or sumdb = []
	sumdbWhere  string // the first of them
	errs        Errors // syntax, unknown keys, wrong types, repetitions
	badLines    map[int]bool
	path        string
	lineStarts  []int
	keys        []Key
	tables      []string
	parser      unstable.Parser
	skip        bool              // below the header of an unknown table
	seen        map[string]string // key → where
	table       []string          // of the last header
	inSumDBList bool              // the last header was [[sumdb]]

	sources      []sourceTable
	inSourceList bool // the last header was [[source]]
}

// parseFile reads a TOML file. It walks the syntax tree, and not a decoded
// struct, because it must know of each value where it stands, and go on behind
// a mistake.
func parseFile(path string, data []byte, keys []Key) parsedFile {
	f := parsedFile{
		values: make(map[string]value), seen: make(map[string]string), badLines: make(map[int]bool), path: path, keys: keys,
	}
	if f.path == "" {
		f.path = "configuration"
	}
	for _, k := range keys {
		if table, _, ok := strings.Cut(k.Name, "."); ok && !slices.Contains(f.tables, table) {
			f.tables = append(f.tables, table)
		}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors begin files with it
	data = data[:len(data):len(data)]
	for i, c := range data {
		if c == '\n' {
			f.lineStarts = append(f.lineStarts, i+1)
		}
	}
	f.parser.Reset(data)
	for f.parser.NextExpression() {
		switch e := f.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			f.header(e)
		case unstable.KeyValue:
			if !f.skip {
				f.keyValue(f.table, e)
			}
		}
	}
	if perr, ok := errors.AsType[*unstable.ParserError](f.parser.Error()); ok {
		f.syntax(f.lineAt(f.parser.Range(perr.Highlight).Offset), perr.Message)
	} else if err := f.parser.Error(); err != nil {
		f.syntax(1, err.Error())
	}
	// What the parser passes over, such as tables defined twice or a 31st of
	// February, the decoder finds, the first of it.
	var any map[string]any
	if err := toml.Unmarshal(data, &any); err != nil {
		line := 1
		if derr, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ = derr.Position()
		}
		if !f.badLines[line] {
			f.syntax(line, err.Error())
		}
	}
	return f
}

func (f *parsedFile) lineAt(offset uint32) int {
	i, _ := slices.BinarySearch(f.lineStarts, int(offset)+1)
	return i + 1
}

func (f *parsedFile) where(line int) string { return f.path + ":" + strconv.Itoa(line) }

func (f *parsedFile) fail(line int, key, suggest, format string, args ...any) {
	f.badLines[line] = true
	f.errs = append(f.errs, Error{f.where(line), key, oneLine(fmt.Sprintf(format, args...)), suggest})
}

func (f *parsedFile) syntax(line int, message string) {
	message = strings.TrimPrefix(message, "toml: ")
	hint := ""
	if strings.Contains(message, "at start of value") || strings.Contains(message, "expected keyword") || strings.Contains(message, "expected newline") {
		hint = `; write texts in quotes: key = "value"`
	}
	f.fail(line, "", "", "the file is not well-formed TOML here: %s%s", message, hint)
}

// keyPath reads the dotted key of e, and the line it stands in.
func (f *parsedFile) keyPath(e *unstable.Node) (path []string, line int) {
	for it := e.Key(); it.Next(); {
		if line == 0 {
			line = f.lineAt(it.Node().Raw.Offset)
		}
		path = append(path, string(it.Node().Data))
	}
	return path, line
}

// join is the name of a path; parts that are not plain words are quoted, so that
// they are no names of ours.
func join(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = p
		if p == "" || len(p) > 60 || strings.ContainsFunc(p, func(r rune) bool {
			return (r < '0' || '9' < r) && (r < 'a' || 'z' < r) && (r < 'A' || 'Z' < r) && r != '-' && r != '_'
		}) {
			parts[i] = quoteKey(p)
		}
	}
	return strings.Join(parts, ".")
}

func (f *parsedFile) header(e *unstable.Node) {
	path, line := f.keyPath(e)
	name := join(path)
	f.table, f.skip, f.inSumDBList, f.inSourceList = path, false, false, false
	k, isKey := find(f.keys, name)
	switch {
	case name == "sumdb" && e.Kind == unstable.ArrayTable:
		f.inSumDBList = true
		f.addSumDB(line)
	case name == "sumdb":
		f.skip = true
		f.fail(line, name, "", "there can be several, so it needs two brackets; write [[sumdb]]")
		f.sumdbSet = true
	case name == "source" && e.Kind == unstable.ArrayTable:
		f.inSourceList = true
		f.addSource(line)
	case name == "source":
		f.skip = true
		f.fail(line, name, "", "there can be several, so it needs two brackets; write [[source]]")
	case name == "sources" && e.Kind == unstable.ArrayTable:
		f.skip = true
		f.fail(line, name, "", "there is one only; write [sources], or [[source]] for what is special to one of them")
	case slices.Contains(f.tables, name) && e.Kind == unstable.Table:
	case slices.Contains(f.tables, name):
		f.skip = true
		f.fail(line, name, "", "there is one only, so it needs single brackets; write [%s]", name)
	case isKey:
		f.skip = true
		f.fail(line, name, "", "it is a key and not a table; write %s", k.assignment())
	default:
		f.skip = true
		f.fail(line, name, nearest(strings.ToLower(name), append(slices.Clone(f.tables), "sumdb", "source")), "there is no such table; remove it")
	}
}

func (f *parsedFile) addSumDB(line int) {
	if !f.sumdbSet {
		f.sumdbSet, f.sumdbWhere = true, f.where(line)
	}
	f.sumdbs = append(f.sumdbs, sumdbTable{where: f.where(line), lines: make(map[string]string)})
}

// keyValue takes one "key = value" below table, or each of an inline table.
func (f *parsedFile) keyValue(table []string, e *unstable.Node) {
	path, line := f.keyPath(e)
	path = slices.Concat(table, path)
	v := e.Value()
	if f.inSumDBList {
		f.sumdbField(path, line, v)
		return
	}
	if f.inSourceList {
		f.sourceField(path, line, v)
		return
	}
	name := join(path)
	k, isKey := find(f.keys, name)
	switch {
	case name == "sumdb":
		f.sumdbArray(line, v)
	case name == "source":
		f.sourceArray(line, v)
	case isKey:
		f.assign(k, line, v)
	case slices.Contains(f.tables, name):
		if v.Kind != unstable.InlineTable {
			f.fail(line, name, "", "it is a table; write [%s] and its keys below", name)
			return
		}
		for it := v.Children(); it.Next(); {
			f.keyValue(path, it.Node())
		}
	default:
		f.unknown(path, line)
	}
}

// unknown reports a key that there is not.
func (f *parsedFile) unknown(path []string, line int) {
	name := join(path)
	if len(path) > 1 {
		// A key for the top of the file behind a [table] is a mistake that
		// the eye does not see.
		if leaf := join(path[1:]); slices.Contains(f.table, path[0]) {
			if k, ok := find(f.keys, leaf); ok {
				f.fail(line, name, "", "%s does not belong to [%s]; move it to the top of the file, before the first [table]", k.Name, path[0])
				return
			}
		}
		if k, ok := find(f.keys, path[0]); ok {
			f.fail(line, name, "", "%s is %s and has nothing below it; write %s", k.Name, k.Kind.article(), k.assignment())
			return
		}
	}
	f.fail(line, name, suggest(name, f.keys), "there is no such key; remove it")
}

// assign takes a value of the right type.
func (f *parsedFile) assign(k Key, line int, v *unstable.Node) {
	if text, ok := f.text(k, line, v, f.seen); ok {
		f.values[k.Name] = value{text, From{File, f.where(line)}}
	}
}

// text is a value of the right type as the text that Key.set takes. seen are the
// keys before it, with their places.
func (f *parsedFile) text(k Key, line int, v *unstable.Node, seen map[string]string) (text string, ok bool) {
	if where, dup := seen[k.Name]; dup {
		f.fail(line, k.Name, "", "it is set at %s already; remove one of the two", where)
		return "", false
	}
	seen[k.Name] = f.where(line)
	set := func(s string) { text, ok = s, true }
	switch {
	case k.Kind == KindBool && v.Kind == unstable.Bool:
		set(string(v.Data))
	case k.Kind == KindBool && v.Kind == unstable.String:
		f.fail(line, k.Name, "", "it must be true or false without quotes; write %s", k.assignment())
	case k.Kind == KindRate && (v.Kind == unstable.Integer || v.Kind == unstable.Float):
		set(strings.ReplaceAll(string(v.Data), "_", ""))
	case k.Kind == KindRate && v.Kind == unstable.String:
		f.fail(line, k.Name, "", "it must be a number without quotes; write %s", k.assignment())
	case k.Kind == KindNumber && v.Kind == unstable.Integer:
		n, err := strconv.ParseInt(string(v.Data), 0, 64)
		if err != nil {
			// Zeros before it, which only TOML refuses, or too large a number.
			f.fail(line, k.Name, "", "it is not a number that can be meant here; write %s", k.assignment())
			return "", false
		}
		set(strconv.FormatInt(n, 10))
	case k.Kind == KindNumber && v.Kind == unstable.String:
		f.fail(line, k.Name, "", "it must be a number without quotes; write %s", k.assignment())
	case k.Kind == KindBool || k.Kind == KindNumber || k.Kind == KindRate:
		f.fail(line, k.Name, "", "it must be %s, not %s; write %s", k.Kind.article(), describe(v.Kind), k.assignment())
	case v.Kind == unstable.String:
		set(string(v.Data))
	case k.Kind == KindDuration && (v.Kind == unstable.Integer || v.Kind == unstable.Float):
		f.fail(line, k.Name, "", "a duration needs its unit, in quotes; write %s = \"%ss\"", k.leaf(), shorten(string(v.Data)))
	case k.Kind == KindSize && (v.Kind == unstable.Integer || v.Kind == unstable.Float):
		f.fail(line, k.Name, "", "a size needs its unit, in quotes; write %s", k.assignment())
	case v.Kind == unstable.Array && (k.Kind == KindPatterns || k.Kind == KindProxy):
		f.fail(line, k.Name, "", "it must be one string with commas in it, as the go command has it, and not a list; write %s", k.assignment())
	default:
		f.fail(line, k.Name, "", "it must be %s in quotes, not %s; write %s", k.Kind.article(), describe(v.Kind), k.assignment())
	}
	return text, ok
}

func shorten(s string) string {
	if len(s) > 20 {
		s = s[:20]
	}
	return s
}

func describe(kind unstable.Kind) string {
	switch kind {
	case unstable.String:
		return "a string"
	case unstable.Bool:
		return "a boolean"
	case unstable.Integer:
		return "a number"
	case unstable.Float:
		return "a fraction"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}

// sumdbArray takes sumdb = [{…}, …], the other way to write [[sumdb]].
func (f *parsedFile) sumdbArray(line int, v *unstable.Node) {
	if v.Kind != unstable.Array {
		f.fail(line, "sumdb", "", "it must be a table, not %s; write [[sumdb]] and its name, url and key below", describe(v.Kind))
		f.sumdbSet = true
		return
	}
	if !f.sumdbSet {
		f.sumdbSet, f.sumdbWhere = true, f.where(line)
	}
	for it := v.Children(); it.Next(); {
		elem := it.Node()
		if elem.Kind != unstable.InlineTable {
			f.fail(line, "sumdb", "", "each must be a table, not %s; write [[sumdb]] and its name, url and key below", describe(elem.Kind))
			continue
		}
		f.addSumDB(f.lineAt(elem.Raw.Offset))
		for fields := elem.Children(); fields.Next(); {
			path, line := f.keyPath(fields.Node())
			f.sumdbField(append([]string{"sumdb"}, path...), line, fields.Node().Value())
		}
	}
}

func (f *parsedFile) sumdbField(path []string, line int, v *unstable.Node) {
	t := &f.sumdbs[len(f.sumdbs)-1]
	name := join(path)
	var p *string
	switch name {
	case "sumdb.name":
		p = &t.name
	case "sumdb.url":
		p = &t.url
	case "sumdb.key":
		p = &t.key
	default:
		t.broken = true
		if k, ok := find(f.keys, join(path[1:])); ok {
			f.fail(line, name, "", "%s does not belong to [[sumdb]]; move it to the top of the file, before the first [table]", k.Name)
			return
		}
		f.fail(line, name, nearest(strings.ToLower(name), []string{"sumdb.name", "sumdb.url", "sumdb.key"}), "there is no such key; remove it")
		return
	}
	field := path[1]
	switch {
	case t.lines[field] != "":
		f.fail(line, name, "", "it is set at %s already; remove one of the two", t.lines[field])
	case v.Kind != unstable.String:
		t.broken = true
		f.fail(line, name, "", "it must be a string in quotes, not %s; write %s = %q", describe(v.Kind), field,
			map[string]string{"name": "sum.golang.org", "url": "https://sum.golang.org", "key": goenv.SumDBKey("sum.golang.org")}[field])
	default:
		t.lines[field], *p = f.where(line), string(v.Data)
	}
}
