package goenv

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// DefaultSumDB is the one checksum database whose key the go command knows
// (modfetch/key.go).
const (
	DefaultSumDB    = "sum.golang.org"
	defaultSumDBKey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
)

// SumDBKey is the verifier key of a checksum database that the go command knows
// by name; it is empty for any other name.
func SumDBKey(name string) string {
	if name == DefaultSumDB {
		return defaultSumDBKey
	}
	return ""
}

// A SumDB is a checksum database as GOSUMDB names it.
type SumDB struct {
	Off  bool   // no database; the other fields are empty
	Name string // host or host/path
	Key  string // verifier key, complete: NAME+HASH+KEY
	URL  string // where to ask instead of https://NAME; empty if not given
}

// Base is the URL to ask, without a slash at its end.
func (db SumDB) Base() string {
	switch {
	case db.Off || db.Name == "":
		return ""
	case db.URL != "":
		return strings.TrimSuffix(db.URL, "/")
	}
	return "https://" + db.Name
}

// String is the database in GOSUMDB syntax: ParseSumDB makes the same of it.
func (db SumDB) String() string {
	if db.Off {
		return "off"
	}
	s := db.Key
	if s == SumDBKey(db.Name) {
		s = db.Name
	}
	if db.URL != "" {
		s += " " + db.URL
	}
	return s
}

// Redacted is String without the credentials that the URL may carry.
func (db SumDB) Redacted() string {
	db.URL = Redact(db.URL)
	return db.String()
}

// ParseSumDB reads s as the go command reads GOSUMDB: "off", or the name of a
// database that it knows, or a verifier key; and behind that a URL, if the
// database is to be asked elsewhere than at https://NAME. A URL that is no
// http, https or file URL is refused; the go command fails with it later.
func ParseSumDB(s string) (SumDB, error) {
	if s == "sum.golang.google.cn" { // the same database at another address
		s = "sum.golang.org https://sum.golang.google.cn"
	}
	if s == "off" {
		return SumDB{Off: true}, nil
	}
	const form = `write sum.golang.org, or "NAME+HASH+KEY", or "NAME+HASH+KEY https://sumdb.example.com", or off`
	f := strings.Fields(s)
	switch {
	case len(f) == 0:
		return SumDB{}, errors.New("the checksum database is empty; " + form)
	case len(f) == 1 && strings.EqualFold(f[0], "off"):
		return SumDB{}, errors.New("the checksum database must be switched off by the word off alone, in small letters and without spaces")
	case len(f) > 2:
		return SumDB{}, fmt.Errorf("the checksum database has %d words, and a key and a URL are at most 2; %s", len(f), form)
	}
	key := f[0]
	if k := SumDBKey(key); k != "" {
		key = k
	}
	v, err := note.NewVerifier(key)
	switch {
	case err != nil && !strings.Contains(key, "+"):
		return SumDB{}, fmt.Errorf("the checksum database %q is none that the go command knows by name, so its key is needed; %s", Redact(key), form)
	case err != nil:
		return SumDB{}, fmt.Errorf("the key of the checksum database, %q, is malformed or incomplete; copy it again, the whole of NAME+HASH+KEY", Redact(key))
	}
	db := SumDB{Name: v.Name(), Key: key}
	direct, err := url.Parse("https://" + db.Name)
	if err != nil || strings.HasSuffix(db.Name, "/") || direct.Host == "" || direct.RawPath != "" ||
		*direct != (url.URL{Scheme: "https", Host: direct.Host, Path: direct.Path}) {
		return SumDB{}, fmt.Errorf("the name in the key of the checksum database, %q, must be HOST or HOST/PATH", Redact(db.Name))
	}
	if len(f) == 2 {
		db.URL = f[1]
		u, err := parseURL(db.URL)
		switch {
		case err != nil:
		case u.Scheme == "file" && u.Host == "":
		case u.Scheme != "http" && u.Scheme != "https":
			err = errors.New("is no https, http or file URL; write https://sumdb.example.com")
		case u.Hostname() == "":
			err = errors.New("has no host; write https://sumdb.example.com")
		}
		if err != nil {
			return SumDB{}, fmt.Errorf("the URL of the checksum database, %q, %w", Redact(db.URL), err)
		}
	}
	return db, nil
}
