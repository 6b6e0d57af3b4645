package sluice_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/modfile"
)

// rows says who may import whom: a package imports only rows below its own. What
// two packages of one row need of each other passes through an interface that the
// needing side declares, connected in cmd/sluice. A new package is written in here
// by the change that makes it.
var rows = map[string]int{
	"cmd/sluice": 7,

	"internal/config": 6,

	"internal/server":  5, // faces; none knows another
	"internal/dash":    5,
	"internal/doctor":  5,
	"internal/explain": 5,
	"internal/rescue":  5,
	"internal/bench":   5,
	"internal/bundle":  5,
	"internal/audit":   5,
	"internal/drill":   5,

	"internal/mirror": 4, // the heart

	"internal/store/bucket": 3, // adapters with heavy dependencies

	"internal/policy":   2, // mechanisms; none knows another
	"internal/facts":    2,
	"internal/health":   2,
	"internal/store":    2,
	"internal/ledger":   2,
	"internal/access":   2,
	"internal/origin":   2,
	"internal/upstream": 2,
	"internal/checksum": 2,
	"internal/switches": 2,
	"internal/journal":  2,
	"internal/faults":   2,
	"internal/modcache": 2,

	"internal/goproxy": 1, // vocabulary: standard library and x/mod only
	"internal/goenv":   1,
	"internal/finding": 1,
	"internal/seen":    1,
	"internal/inflate": 1,
}

// testOnly packages may see what they test, and are imported by _test.go files and
// by tools, which judge.
var testOnly = []string{"internal/modtest", "internal/store/storetest"}

// homes are the heavy or dangerous imports that have one home each.
var homes = []struct {
	prefixes []string
	home     []string
	why      string
}{
	{[]string{"os/exec"}, []string{"internal/origin", "internal/modtest", "tools/", "bench"},
		"starting processes needs one place that strips the environment, bounds the time and kills the whole group"},
	{[]string{"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/pressly/goose"}, []string{"internal/ledger"},
		"SQL, its dialects and its migrations stay behind the ledger's questions"},
	{[]string{"github.com/aws/", "cloud.google.com/", "github.com/Azure/", "github.com/minio/"}, []string{"internal/store/bucket"},
		"a cloud SDK is heavy, and everybody else sees a store"},
}

// broken lists, as sentences, where the tree breaks the rule. It reads every .go
// file whatever its build constraints, and no other module's.
func broken(tree fs.FS) ([]string, error) {
	gomod, err := fs.ReadFile(tree, "go.mod")
	if err != nil {
		return nil, err
	}
	mod := modfile.ModulePath(gomod)
	var bad []string
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() && name != "." {
			if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(tree, path.Join(name, "go.mod")); err == nil {
				return fs.SkipDir
			}
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(name)
		if strings.HasPrefix(pkg, "internal/") && rows[pkg] == 0 && !slices.Contains(testOnly, pkg) {
			bad = append(bad, fmt.Sprintf("%s is on no row, so nobody knows what it may import: write it into rows in layers_test.go and into docs/architecture.md", pkg))
			return nil
		}
		if strings.HasSuffix(base, "_test.go") {
			return nil // tests may look from anywhere at anything; the compiler forbids circles
		}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
			}
			if why := breaks(mod, pkg, imp); why != "" {
				bad = append(bad, fmt.Sprintf("%s imports %s: %s", name, strings.TrimPrefix(imp, mod+"/"), why))
			}
		}
		return nil
	})
	slices.Sort(bad)
	return slices.Compact(bad), err
}

// breaks says why pkg, a directory, may not import imp, or "" if it may.
func breaks(mod, pkg, imp string) string {
	for _, h := range homes {
		in := func(prefix string) bool { return imp == strings.TrimSuffix(prefix, "/") || under(imp, prefix) }
		atHome := func(home string) bool { return pkg == home || under(pkg, home) }
		if slices.ContainsFunc(h.prefixes, in) && !slices.ContainsFunc(h.home, atHome) {
			return fmt.Sprintf("that belongs to %s, because %s", strings.TrimSuffix(h.home[0], "/"), h.why)
		}
	}
	row, outside := rows[pkg], strings.Contains(firstElem(imp), ".")
	ours, isOurs := strings.CutPrefix(imp, mod+"/")
	switch {
	case !isOurs && outside && row == 1 && !under(imp, "golang.org/x/mod"):
		return "row 1 is vocabulary that everything shares, so it takes the standard library and golang.org/x/mod only"
	case !isOurs:
		return ""
	case slices.Contains(testOnly, ours):
		if slices.Contains(testOnly, pkg) || under(pkg, "tools") {
			return ""
		}
		return "it is for tests, so only _test.go files and tools may import it; else its fakes end up in the program"
	case strings.HasPrefix(ours, "tools/"):
		return "tools build and judge this tree, they are no part of it"
	case row == 0: // tools and test-only packages, which nothing of the program imports
		return ""
	case rows[ours] == row:
		return fmt.Sprintf("both are on row %d, where none knows another; declare the one or two methods you need as an interface and let cmd/sluice connect them", row)
	case rows[ours] > row:
		return fmt.Sprintf("row %d sees only rows below its own, and that is row %d; requests go down the rows, results come up as values and events as callbacks", row, rows[ours])
	}
	return ""
}

// under reports whether p lies below the prefix, by whole path elements.
func under(p, prefix string) bool { return strings.HasPrefix(p, strings.TrimSuffix(prefix, "/")+"/") }

func firstElem(imp string) string {
	first, _, _ := strings.Cut(imp, "/")
	return first
}

func TestNoPackageImportsARowAboveOrBesideItsOwn(t *testing.T) {
	bad, err := broken(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, sentence := range bad {
		t.Error(sentence)
	}
}

func TestAPlantedBadImportIsSeen(t *testing.T) {
	const mod = "example.com/sluice"
	for _, tt := range []struct {
		file, imp string
		want      string // part of the sentence; "" if nothing is wrong
	}{
		{"internal/store/disk.go", mod + "/internal/goproxy", ""},
		{"internal/mirror/mirror.go", mod + "/internal/store", ""},
		{"internal/store/bucket/bucket.go", mod + "/internal/store", ""},
		{"cmd/sluice/main.go", mod + "/internal/config", ""},
		{"internal/goproxy/p.go", "golang.org/x/mod/module", ""},
		{"internal/store/store.go", mod + "/internal/upstream", "both are on row 2"},
		{"internal/goenv/env.go", mod + "/internal/goproxy", "both are on row 1"},
		{"internal/goproxy/p.go", mod + "/internal/store", "row 1 sees only rows below"},
		{"internal/mirror/mirror.go", mod + "/internal/server", "row 4 sees only rows below"},
		{"internal/server/server.go", mod + "/internal/config", "row 5 sees only rows below"},
		{"internal/config/config.go", mod + "/cmd/sluice", "row 6 sees only rows below"},
		{"internal/mirror/gated_plan9.go", mod + "/internal/server", "row 4 sees only rows below"},
		{"internal/finding/f.go", "github.com/spf13/cobra", "row 1 is vocabulary"},
		{"internal/finding/f.go", "golang.org/x/modern", "row 1 is vocabulary"},
		{"internal/mirror/mirror.go", mod + "/internal/modtest", "it is for tests"},
		{"internal/mirror/mirror_test.go", mod + "/internal/modtest", ""},
		{"tools/faultmatrix/main.go", mod + "/internal/modtest", ""},
		{"internal/modtest/world.go", mod + "/internal/store/storetest", ""},
		{"internal/store/storetest/suite.go", mod + "/internal/store", ""},
		{"internal/mirror/mirror.go", mod + "/tools/gate", "tools build and judge"},
		{"internal/util/util.go", "fmt", "internal/util is on no row"},
		{"internal/server/middle/m.go", "fmt", "internal/server/middle is on no row"},
		{"internal/util/util_test.go", "fmt", "internal/util is on no row"},
		{"internal/upstream/u.go", "os/exec", "belongs to internal/origin"},
		{"cmd/sluice/run.go", "os/exec", "belongs to internal/origin"},
		{"internal/origin/go.go", "os/exec", ""},
		{"internal/upstream/u_test.go", "os/exec", ""},
		{"tools/gate/main.go", "os/exec", ""},
		{"bench/main.go", "os/exec", ""},
		{"bench/main.go", mod + "/internal/store", ""},
		{"bench/main.go", mod + "/internal/modtest", "it is for tests"},
		{"internal/store/index.go", "database/sql", "belongs to internal/ledger"},
		{"internal/store/index.go", "database/sql/driver", "belongs to internal/ledger"},
		{"internal/ledger/ledger.go", "database/sql", ""},
		{"internal/store/s3.go", "github.com/aws/aws-sdk-go-v2/service/s3", "belongs to internal/store/bucket"},
		{"internal/store/bucket/s3.go", "github.com/aws/aws-sdk-go-v2/service/s3", ""},
		{"internal/store/testdata/x.go", mod + "/internal/server", ""},
	} {
		src := fmt.Sprintf("package p\n\nimport _ %q\n", tt.imp)
		bad, err := broken(fstest.MapFS{
			"go.mod": {Data: []byte("module " + mod + "\n")},
			tt.file:  {Data: []byte(src)},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(bad, "\n")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s importing %s gives %q, want a sentence with %q", tt.file, tt.imp, got, tt.want)
		}
	}
}
