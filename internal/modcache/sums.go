package modcache

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

// The go command keeps what it has proven of a checksum database: records of
// versions, and tiles, each with 256 hashes of what lies below. It believes the
// tiles, so that a damaged one fails all proofs that go through it. But what is in
// them is there several times over: a record's hash is in a tile, a tile's in the
// next higher one, and a tile that was not full is the beginning of the fuller one.

const (
	tileHeight = 8 // of the protocol
	fullTile   = 1 << tileHeight
	maxSumFile = 8 << 20 // bytes
)

// A sumFile is a record or a tile that is one by its form.
type sumFile struct {
	name         string // the whole name of the file
	agree, doubt int    // with how many others it agrees, and disagrees
	gone         bool   // it is held for damaged
	against      []*sumFile
	with         []*sumFile
}

// A tileFile is a tile with its hashes.
type tileFile struct {
	sumFile
	tile   tlog.Tile
	hashes []tlog.Hash
}

// A recordFile is a record of one version.
type recordFile struct {
	sumFile
	id   int64
	leaf tlog.Hash
	sums map[module.Version]string
}

// checkSums finds the damage in what is kept of checksum databases, and keeps what
// sound records say.
func (k *Cache) checkSums(ctx context.Context) (ds []Damage) {
	root := filepath.Join(k.down, "sumdb")
	dbs := map[string]*sumCheck{}
	filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if name == root && err != nil {
			return fs.SkipAll
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		st := &state{k: k}
		if err != nil {
			if fi, lerr := os.Lstat(name); lerr == nil && fi.IsDir() {
				st.damaged(Denied, name, "%s", k.denial(fi, 7))
				ds = append(ds, st.damages...)
			}
			return nil
		}
		if d.IsDir() {
			if fi, err := d.Info(); err == nil && !k.user.may(fi, 7) {
				st.damaged(Denied, name, "%s", k.denial(fi, 7))
				ds = append(ds, st.damages...)
			}
			// A directory where a file belongs.
			if db, what, ok := sumPath(rel); ok && db != "" && strings.HasPrefix(what, "lookup/") && strings.Contains(path.Base(what), "@") {
				st.damaged(NotAFile, name, "it is a directory, and no file")
				ds = append(ds, st.damages...)
				return fs.SkipDir
			}
			return nil
		}
		db, what, ok := sumPath(rel)
		if !ok {
			return nil // nobody's matter
		}
		if dbs[db] == nil {
			dbs[db] = &sumCheck{k: k, tiles: map[tlog.Tile]*tileFile{}, wide: map[tlog.Tile][]*tileFile{}}
		}
		bad := dbs[db].read(name, what)
		if len(bad) > 0 {
			// The go command writes it in place, under a lock, but for a moment at the beginning.
			release, busy := k.peek(name)
			if fi, err := os.Stat(name); busy || err == nil && fi.Size() == 0 && time.Since(fi.ModTime()) < beingWritten {
				bad = nil
			} else {
				bad = dbs[db].read(name, what)
			}
			release()
		}
		ds = append(ds, bad...)
		return nil
	})
	for _, db := range slices.Sorted(maps.Keys(dbs)) {
		ds = append(ds, dbs[db].compare(ctx)...)
	}
	return ds
}

// sumPath splits the path of a file below sumdb into the database and the path in it.
func sumPath(rel string) (db, what string, ok bool) {
	for _, dir := range []string{"/lookup/", "/tile/"} {
		if i := strings.Index("/"+rel, dir); i > 0 {
			return rel[:i-1], rel[i:], true
		}
	}
	return "", "", false
}

// A sumCheck is what is kept of one database.
type sumCheck struct {
	k       *Cache
	records []*recordFile
	tiles   map[tlog.Tile]*tileFile
	wide    map[tlog.Tile][]*tileFile // by the tile with W = 0
}

// read takes a file for what its name says.
func (c *sumCheck) read(name, what string) []Damage {
	st := &state{k: c.k}
	if _, ok := st.regular(name, 4); !ok {
		return st.damages
	}
	data, err := readSmall(name, maxSumFile)
	if err == nil && strings.HasPrefix(what, "tile/") {
		var t tlog.Tile
		var hashes []tlog.Hash
		if t, hashes, err = parseTile(what, data); err == nil {
			f := &tileFile{sumFile: sumFile{name: name}, tile: t, hashes: hashes}
			c.tiles[t] = f
			all := t
			all.W = 0
			c.wide[all] = append(c.wide[all], f)
			return st.damages
		}
	} else if err == nil {
		var f *recordFile
		if f, err = parseRecord(strings.TrimPrefix(what, "lookup/"), data); err == nil {
			f.name = name
			c.records = append(c.records, f)
			return st.damages
		}
	}
	if !errors.Is(err, errNoTile) {
		st.damaged(SumDBDamaged, name, "%s", contentText(data, err, err.Error()))
	}
	return st.damages
}

var errNoTile = errors.New("its name is not that of a tile")

// parseTile reads a tile of hashes.
func parseTile(name string, data []byte) (tlog.Tile, []tlog.Hash, error) {
	t, err := tlog.ParseTilePath(name)
	if err != nil || t.L < 0 || t.H != tileHeight {
		return t, nil, errNoTile
	}
	if len(data) != t.W*tlog.HashSize {
		return t, nil, errors.New("a tile of " + strconv.Itoa(t.W) + " hashes has " + strconv.Itoa(t.W*tlog.HashSize) + " bytes, and this one " + strconv.Itoa(len(data)))
	}
	hashes := make([]tlog.Hash, t.W)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return t, hashes, nil
}

// parseRecord reads the record of a version, whose escaped name is given. The tree
// head at its end is not looked at: that of another day would do.
func parseRecord(esc string, data []byte) (*recordFile, error) {
	p, v, _ := strings.Cut(esc, "@")
	modPath, err1 := module.UnescapePath(p)
	vers, err2 := module.UnescapeVersion(strings.TrimSuffix(v, "/go.mod"))
	if errors.Join(err1, err2) != nil {
		return nil, errors.New("its name is not that of a module version")
	}
	id, text, rest, err := tlog.ParseRecord(data)
	if err != nil {
		return nil, errors.New("it is no record of a checksum database")
	}
	if _, err := tlog.ParseTree(rest); err != nil {
		return nil, errors.New("the tree head in it is cut short, or none")
	}
	f := &recordFile{id: id, leaf: tlog.RecordHash(text), sums: map[module.Version]string{}}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == modPath && (words[1] == vers || words[1] == vers+"/go.mod") && isHash(words[2]) {
			f.sums[module.Version{Path: words[0], Version: words[1]}] = words[2]
		}
	}
	if len(f.sums) == 0 {
		return nil, errors.New("it is the record of another module version")
	}
	return f, nil
}

// compare lets the files of a database vouch for one another.
func (c *sumCheck) compare(ctx context.Context) (ds []Damage) {
	var all []*sumFile
	meet := func(a, b *sumFile, same bool) {
		if same {
			a.agree++
			b.agree++
			a.with = append(a.with, b)
			b.with = append(b.with, a)
			return
		}
		a.doubt++
		b.doubt++
		a.against = append(a.against, b)
		b.against = append(b.against, a)
	}
	for _, r := range c.records {
		all = append(all, &r.sumFile)
		for _, t := range c.wide[tlog.Tile{H: tileHeight, N: r.id >> tileHeight}] {
			if i := int(r.id % fullTile); i < len(t.hashes) {
				meet(&r.sumFile, &t.sumFile, t.hashes[i] == r.leaf)
			}
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(c.wide), compareTiles) {
		group := c.wide[id]
		slices.SortFunc(group, func(a, b *tileFile) int { return a.tile.W - b.tile.W })
		for i, t := range group {
			all = append(all, &t.sumFile)
			if i > 0 { // each is the beginning of the next
				before := group[i-1]
				meet(&before.sumFile, &t.sumFile, slices.Equal(before.hashes, t.hashes[:len(before.hashes)]))
			}
			if t.tile.W != fullTile || ctx.Err() != nil {
				continue
			}
			top := treeHash(t.hashes)
			for _, up := range c.wide[tlog.Tile{H: tileHeight, L: t.tile.L + 1, N: t.tile.N >> tileHeight}] {
				if i := int(t.tile.N % fullTile); i < len(up.hashes) {
					meet(&t.sumFile, &up.sumFile, up.hashes[i] == top)
				}
			}
		}
	}
	for _, f := range outvoted(all) {
		st := &state{k: c.k}
		st.damaged(SumDBContradict, f.name, "it contradicts %d other files of the database, and agrees with %d", f.doubt, f.agree)
		ds = append(ds, st.damages...)
	}
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	for _, r := range c.records {
		if !r.gone && r.agree > 0 { // or nothing shows that it is what was proven
			maps.Copy(c.k.records, r.sums)
		}
	}
	return ds
}

func compareTiles(a, b tlog.Tile) int {
	if a.L != b.L {
		return a.L - b.L
	}
	switch {
	case a.N < b.N:
		return -1
	case a.N > b.N:
		return 1
	}
	return 0
}

// outvoted are the fewest files whose absence leaves no contradiction: one after the
// other, that which contradicts most, and agrees with least. Where two alone stand
// against each other, it is both.
func outvoted(all []*sumFile) (out []*sumFile) {
	worse := func(a, b *sumFile) int { // < 0 if a is worse
		if a.doubt != b.doubt {
			return b.doubt - a.doubt
		}
		return a.agree - b.agree
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(f *sumFile) bool { return f.doubt == 0 })
	left := map[*sumFile]int{} // contradictions that are left
	for _, f := range rest {
		left[f] = f.doubt
	}
	slices.SortStableFunc(rest, worse)
	for _, f := range rest {
		if left[f] == 0 {
			continue
		}
		f.gone = true
		out = append(out, f)
		for _, g := range f.against {
			if left[g]--; left[g] == 0 && !g.gone && worse(f, g) == 0 {
				g.gone = true
				out = append(out, g)
			}
		}
	}
	return out
}

// treeHash is the hash over those of a full tile.
func treeHash(h []tlog.Hash) tlog.Hash {
	for h = slices.Clone(h); len(h) > 1; h = h[:len(h)/2] {
		for i := range len(h) / 2 {
			h[i] = tlog.NodeHash(h[2*i], h[2*i+1])
		}
	}
	return h[0]
}
