package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// Generate fills dir with modules of versions each, in the layout of a
// store.Disk, without an account of them: as an earlier version of Sluice would
// have left them. They can be evicted. Their files are links to those of the
// module's first version, so that a million takes names and little else; a use
// of one is therefore a use of all versions of its module.
func Generate(t testing.TB, dir string, modules, versions int) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for m := range modules {
		path := GeneratedModule(m)
		var list []string
		for v := range versions {
			list = append(list, GeneratedVersion(v))
		}
		at := filepath.Join(dir, filepath.FromSlash(path), "@v")
		records := filepath.Join(dir, ".sluice", "sums", filepath.FromSlash(path), "@v")
		check(os.MkdirAll(at, 0o777))
		check(os.MkdirAll(records, 0o777))
		check(os.WriteFile(filepath.Join(at, "list"), goproxy.FormatList(goproxy.SortVersions(list)), 0o666))
		for _, k := range Kinds {
			data := "content of " + Req(k, path, "any version").String()
			sum := sha256.Sum256([]byte(data))
			rec := RecordOf(k, data)
			rec.Size, rec.SHA256, rec.Time = int64(len(data)), hex.EncodeToString(sum[:]), time.Unix(1, 0).UTC()
			if k != goproxy.Info {
				rec.Verified = "sum.test"
			}
			for v := range versions {
				name, record := filepath.Join(at, GeneratedVersion(v)+"."+k.String()), filepath.Join(records, GeneratedVersion(v)+"."+k.String()+".json")
				if v == 0 {
					check(os.WriteFile(name, []byte(data), 0o666))
					check(os.WriteFile(record, sealRecord(rec), 0o666))
					continue
				}
				check(os.Link(filepath.Join(at, GeneratedVersion(0)+"."+k.String()), name))
				check(os.Link(filepath.Join(records, GeneratedVersion(0)+"."+k.String()+".json"), record))
			}
		}
	}
}

// GeneratedModule is the path of module m of Generate, GeneratedVersion its version v.
func GeneratedModule(m int) string  { return fmt.Sprintf("gen.test/d%03d/m%d", m%100, m) }
func GeneratedVersion(v int) string { return fmt.Sprintf("v1.%d.%d", v/100, v%100) }

// Generated is one of what Generate made.
func Generated(k goproxy.Kind, m, v int) goproxy.Request {
	return goproxy.Request{Kind: k, Module: module.Version{Path: GeneratedModule(m), Version: GeneratedVersion(v)}}
}

func sealRecord(rec store.Record) []byte {
	value, _ := json.Marshal(rec)
	sum := sha256.Sum256(value)
	data, _ := json.Marshal(struct {
		Value json.RawMessage `json:"value"`
		Check string          `json:"check"`
	}{value, hex.EncodeToString(sum[:])})
	return data
}
