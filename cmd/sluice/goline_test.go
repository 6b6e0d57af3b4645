package main

import (
	"slices"
	"strings"
	"testing"
)

func parseLine(t *testing.T, flags, line string) *goLine {
	t.Helper()
	g, ok := parseGo(flags, strings.Fields(line))
	if !ok {
		t.Fatalf("%s is no go command", line)
	}
	return g
}

func TestHowMuchACommandNeeds(t *testing.T) {
	for line, want := range map[string]share{
		"go build":                             shareImported,
		"go build -o x ./cmd/a":                shareImported,
		"go build example.com/a@v1.0.0":        shareImported,
		"go install ./...":                     shareImported,
		"go install":                           shareImported,
		"go run . -test":                       shareImported,
		"go run . me@example.com":              shareImported,
		"go run ./cmd/a -to=me@example.com":    shareImported,
		"go list -deps ./...":                  shareImported,
		"go list -test ./...":                  shareAll,
		"go list -m all":                       shareMods,
		"go list -m=true -u all":               shareMods,
		"go mod graph":                         shareMods,
		"go mod why -m a":                      shareAll,
		"go mod download":                      shareAll,
		"go mod download example.com/a@v1.0.0": shareAll,
		"go mod tidy":                          shareAll,
		"go get example.com/a@v1.0.0":          shareAll,
		"go test ./...":                        shareAll,
		"go vet ./...":                         shareAll,
		"go generate":                          shareAll,
		"go tool x":                            shareAll,
		"go build -C x ./...":                  shareAll,
		"go build -mod=vendor":                 shareAll,
		"go build -modfile=x.mod .":            shareAll,
		"go list -m -modfile=x.mod all":        shareAll,
		"go version":                           shareNone,
		"go env -w GOPROXY=off":                shareNone,
		"go mod init a":                        shareNone,
		"go mod":                               shareNone,
		"go run example.com/a@v1.0.0":          shareNone,
		"go run -race example.com/a@latest x":  shareNone,
		"go install -v example.com/a/...@v1":   shareNone,
		"go run -tags x example.com/a@v1":      shareNone,
		"go run -exec a@b .":                   shareImported,
		"go run ./x@y":                         shareImported,
		"go run /a@b/x.go":                     shareAll,
		"go run gen.go":                        shareAll,
		"go run . gen.go -C x -modfile y":      shareImported,
		"go build all":                         shareAll,
		"go install tool":                      shareAll,
		"go build ./testdata":                  shareAll,
		"go build ./a/_b/...":                  shareAll,
		"go build -overlay o.json ./...":       shareAll,
		"go build -- -C":                       shareImported,
		"go build ../a .":                      shareImported,
	} {
		if got := parseLine(t, "", line).needs(); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

func TestWhatABuildIsFor(t *testing.T) {
	p := &checkout{vars: map[string]string{"GOOS": "plan9", "GOARCH": "arm", "CGO_ENABLED": "0", "GOVERSION": "go1.22.3"}}
	for _, tt := range []struct {
		flags, line string
		tags        []string
	}{
		{"", "go build", nil},
		{"", "go build -tags a,b ./...", []string{"a", "b"}},
		{"", "go build --tags=a", []string{"a"}},
		{"-tags=x,y -race", "go build", []string{"x", "y", "race"}},
		{"-tags=x", "go build -tags=z", []string{"z"}},
		{"-tags=x", "go build -tags= -msan=false -asan=true", []string{"asan"}},
		{"", "go build -tags", nil},
		{"'-tags=q r' \"-race\"", "go build", []string{"q", "r", "race"}},
		{"'-tags=q", "go build", nil},
		{"", "go run . -tags x", nil},
		{"", "go build -race=false -race -- -tags x", []string{"race"}},
	} {
		c := parseLine(t, tt.flags, tt.line).context(p)
		if !slices.Equal(c.BuildTags, tt.tags) || c.GOOS != "plan9" || c.GOARCH != "arm" || c.CgoEnabled {
			t.Errorf("GOFLAGS=%q %s: %q for %s/%s, cgo %v", tt.flags, tt.line, c.BuildTags, c.GOOS, c.GOARCH, c.CgoEnabled)
		}
		if !slices.Contains(c.ReleaseTags, "go1.1") || !slices.Contains(c.ReleaseTags, "go1.22") || len(c.ReleaseTags) != 22 {
			t.Errorf("the releases are %q", c.ReleaseTags)
		}
	}
	p.vars["GOVERSION"] = "devel go1.99-0123456789 Mon Jan 1 00:00:00 2035 +0000"
	if c := parseLine(t, "", "go build").context(p); !slices.Contains(c.ReleaseTags, "go1.21") {
		t.Errorf("of a development version the releases are %q", c.ReleaseTags)
	}
}

func TestWhichPackagesACommandNames(t *testing.T) {
	for line, want := range map[string]string{
		"go build ./... example.com/a/... example.com/b": "example.com/a/... example.com/b",
		"go run example.com/a example.com/b":             "example.com/a",
		"go build a.test/m/sub/ a.test//x /etc/y":        "a.test/m/sub a.test/x /etc/y",
		"go install": "",
	} {
		if got := strings.Join(parseLine(t, "", line).packages(), " "); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
}
