//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// dbName is no host: whoever asks the database goes to its URL.
	dbName = "sum.bench.example"
	// dbRecords is how many records the database has. Those that are asked for lie
	// scattered among them, as they do in a real one: otherwise a few tiles would
	// prove everything, and a client would be spared the questions for the rest.
	dbRecords = 1 << 20
)

// A database is a checksum database over some module versions, which signs with a
// key of its own. It does not change once it is made, and is safe for concurrent use.
type database struct {
	vkey    string
	signed  []byte
	hashes  []tlog.Hash // by tlog.StoredHashIndex
	records map[int64][]byte
	ids     map[module.Version]int64
	server  http.Handler
}

var _ sumdb.ServerOps = (*database)(nil)

// A sums is the two hashes of a module version. One without a zip here has no
// hash for it either.
type sums struct{ zip, mod string }

// newDatabase makes a database of size records over known; the others are filling.
func newDatabase(known map[module.Version]sums, size int64) (*database, error) {
	skey, vkey, err := note.GenerateKey(nil, dbName)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, err
	}
	db := &database{vkey: vkey, records: map[int64][]byte{}, ids: map[module.Version]int64{}}
	mods := make([]module.Version, 0, len(known))
	for m := range known {
		mods = append(mods, m)
	}
	module.Sort(mods)
	size = max(size, 2*int64(len(mods)))
	for _, m := range mods {
		s := known[m]
		if s.zip == "" {
			// The real database has a line for every zip. This one nobody has, so any
			// hash will do.
			sum := sha256.Sum256([]byte(m.String()))
			s.zip = "h1:" + base64.StdEncoding.EncodeToString(sum[:])
		}
		text := fmt.Sprintf("%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", m.Path, m.Version, s.zip, s.mod)
		place := sha256.Sum256([]byte(m.Path + "@" + m.Version))
		id := int64(binary.BigEndian.Uint64(place[:8]) % uint64(size))
		for db.records[id] != nil {
			id = (id + 1) % size
		}
		db.records[id], db.ids[m] = []byte(text), id
	}
	db.hashes = make([]tlog.Hash, 0, 2*size)
	var filling [8]byte
	for id := range size {
		h := tlog.Hash{}
		if text := db.records[id]; text != nil {
			h = tlog.RecordHash(text)
		} else {
			binary.BigEndian.PutUint64(filling[:], uint64(id))
			h = sha256.Sum256(filling[:])
		}
		stored, err := tlog.StoredHashesForRecordHash(id, h, db)
		if err != nil {
			return nil, err
		}
		db.hashes = append(db.hashes, stored...)
	}
	root, err := tlog.TreeHash(size, db)
	if err != nil {
		return nil, err
	}
	db.signed, err = note.Sign(&note.Note{Text: string(tlog.FormatTree(tlog.Tree{N: size, Hash: root}))}, signer)
	db.server = sumdb.NewServer(db)
	return db, err
}

// ReadHashes serves tlog.
func (db *database) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at >= int64(len(db.hashes)) {
			return nil, fmt.Errorf("the tree has no hash %d", at)
		}
		list[i] = db.hashes[at]
	}
	return list, nil
}

// Signed serves sumdb, as the methods below do.
func (db *database) Signed(context.Context) ([]byte, error) { return db.signed, nil }

func (db *database) ReadRecords(_ context.Context, id, n int64) (list [][]byte, err error) {
	for ; n > 0; id, n = id+1, n-1 {
		if db.records[id] == nil {
			return nil, &fs.PathError{Op: "read record", Path: fmt.Sprint(id), Err: fs.ErrNotExist}
		}
		list = append(list, db.records[id])
	}
	return list, nil
}

func (db *database) Lookup(_ context.Context, m module.Version) (int64, error) {
	id, ok := db.ids[m]
	if !ok {
		return 0, &fs.PathError{Op: "lookup", Path: m.String(), Err: fs.ErrNotExist}
	}
	return id, nil
}

func (db *database) ReadTileData(_ context.Context, t tlog.Tile) ([]byte, error) {
	return tlog.ReadTileData(t, db)
}

// ServeHTTP serves the database with its paths at the root.
func (db *database) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/supported" {
		return
	}
	db.server.ServeHTTP(w, r)
}

// parseGoSum reads the hashes of a go.sum file. Lines that are none are passed over.
func parseGoSum(data []byte) map[module.Version]sums {
	known := map[module.Version]sums{}
	for l := range strings.Lines(string(data)) {
		f := strings.Fields(l)
		if len(f) != 3 || !strings.HasPrefix(f[2], "h1:") {
			continue
		}
		vers, isMod := strings.CutSuffix(f[1], "/go.mod")
		m := module.Version{Path: f[0], Version: vers}
		s := known[m]
		if isMod {
			s.mod = f[2]
		} else {
			s.zip = f[2]
		}
		known[m] = s
	}
	for m, s := range known {
		if s.mod == "" {
			delete(known, m) // a go.sum has no zip without its go.mod; this is none
		}
	}
	return known
}

// sortedKeys are the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
