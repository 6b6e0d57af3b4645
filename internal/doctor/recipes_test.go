package doctor

import (
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/modsluice/sluice/internal/finding"
)

func TestWhatBreaksModulesInAnImageIsFound(t *testing.T) {
	const corp = "GOPRIVATE=git.corp.example"
	dockerfile := func(lines ...string) string {
		return hello + "-- app/Dockerfile --\n" + strings.Join(lines, "\n") + "\n"
	}
	for _, tt := range []struct {
		name, files string
		env         string
		want        string // "" is nothing
		text, fix   string
	}{
		{"well kept", dockerfile("# syntax=docker/dockerfile:1", "FROM golang:1.24-alpine AS build", "RUN apk add --no-cache git ca-certificates", "WORKDIR /src", "ENV GOPRIVATE=git.corp.example", "COPY go.mod go.sum ./",
			"RUN --mount=type=secret,id=netrc,target=/root/.netrc go mod download", "COPY . .", "RUN CGO_ENABLED=0 go build -o /app .", "FROM scratch", "COPY --from=build /app /app", `ENTRYPOINT ["/app"]`), corp, "", "", ""},
		{"with mounts", dockerfile("FROM golang:1.26", "WORKDIR /src", "ARG GOPRIVATE=git.corp.example", "RUN --mount=type=bind,source=go.mod,target=go.mod --mount=type=bind,source=go.sum,target=go.sum go mod download", "COPY . ."), corp, "", "", ""},
		{"everything at once", dockerfile("FROM golang:latest", "COPY . .", "RUN go build ./..."), "", "", "", ""},
		{"by pattern", dockerfile("FROM golang:1.24.3-bookworm", "COPY go.* ./", "RUN go mod download"), "", "", "", ""},
		{"as a list", dockerfile("FROM golang:1", `COPY ["go.mod", "go.sum", "./"]`, "RUN go mod download"), "", "", "", ""},
		{"from vendor", dockerfile("FROM golang:1.24-alpine", "COPY . .", "ENV GOFLAGS=-mod=vendor GOPROXY=off", "RUN go build ./...") + vendorOfHello, corp, "", "", ""},
		{"a tool before everything", dockerfile("FROM golang:1.24-alpine", "RUN go install example.com/tool@v1.0.0", "RUN apk add git", "ENV GOPRIVATE=git.corp.example", "COPY . .", "RUN go build"), corp, "", "", ""},
		{"an image of one's own", dockerfile("FROM registry.corp.example/go:1.20", "COPY go.mod go.sum ./", "RUN go mod download"), corp, "", "", ""},
		{"an image by an argument that is not known", dockerfile("ARG VERSION", "FROM golang:${VERSION}", "COPY go.mod go.sum ./", "RUN go mod download"), "", "", "", ""},
		{"nothing to do with modules", dockerfile("FROM debian:bookworm-slim", "COPY app /app"), corp, "", "", ""},
		{"a setting in a comment", dockerfile("FROM golang:1.24", "# ENV GOSUMDB=off", "COPY . .", "RUN go build"), "", "", "", ""},
		{"a heredoc", dockerfile("FROM golang:1.24-alpine", "RUN <<EOF", "apk add git", "EOF", "ENV GOPRIVATE=git.corp.example", "COPY go.mod go.sum ./", "RUN <<-'END' cat", "go mod download", "\tEND"), corp, "", "", ""},
		{"a heredoc with a comment, and one that ends with it", dockerfile("FROM golang:1.24-alpine", "COPY go.mod go.sum ./", "ENV GOPRIVATE=git.corp.example", "RUN <<end-of.1 sh -e", "# export GOSUMDB=off", "apk add git", "\tend-of.1 GOPROXY=direct", "end-of.1", "RUN go mod download"), corp, "", "", ""},
		{"a shift that is no heredoc", dockerfile("FROM golang:1.24", "RUN echo $((1<<n))", "COPY go.mod go.sum ./", "RUN go mod download", "ENV GOSUMDB=off"), "", "project.image warn SL-ENV-005", "Dockerfile:5: GOSUMDB is off", ""},
		{"two heredocs", dockerfile("FROM golang:1.24", "COPY . .", "RUN <<A <<B", "true", "A", "export GOSUMDB=off", "B", "RUN go build"), "", "project.image warn SL-ENV-005", "Dockerfile:3: GOSUMDB is off", ""},
		{"what a heredoc sets", dockerfile("FROM golang:1.24", "COPY . .", "RUN <<-EOF", "export GOSUMDB=off", "go build", "\tEOF", "RUN true"), "", "project.image warn SL-ENV-005", "Dockerfile:3: GOSUMDB is off", ""},

		{"go.mod alone", dockerfile("FROM golang:1.24", "COPY go.mod ./", "RUN go mod download", "COPY . ."), "", "project.image warn SL-BLD-001", "Dockerfile:3: go mod download runs without go.sum, of which line 2 copies go.mod alone", "COPY go.mod go.sum ./"},
		{"go.sum is left out", dockerfile("FROM golang:1.24", "COPY go.mod go.sum ./", "RUN go mod download") + "-- app/.dockerignore --\n# all\n*\n!go.mod\n!*.go\n", "", "project.image warn SL-BLD-001", ".dockerignore:2: go.sum is left out of the image", "!go.sum"},
		{"and taken in again", dockerfile("FROM golang:1.24", "COPY go.mod go.sum ./", "RUN go mod download") + "-- app/.dockerignore --\n**\n!go.*\n", "", "", "", ""},
		{"vendor is left out, and used", dockerfile("FROM golang:1.24", "COPY . .", "RUN go build -mod=vendor ./...") + vendorOfHello + "-- app/.dockerignore --\nvendor/\n", "", "project.image warn SL-MOD-002", ".dockerignore:1: vendor is left out", "!vendor"},
		{"an old image", dockerfile("ARG GO=1.22", "FROM golang:${GO}-alpine", "COPY . .", "RUN go build ./..."), "", "project.image warn SL-TOOL-002", "golang:1.22-alpine is older than go 1.24", "FROM golang:1.24"},
		{"one so old that it does not mind", dockerfile("FROM golang:1.20", "COPY . .", "RUN go build ./..."), "", "", "", ""},
		{"which may fetch a newer one", dockerfile("FROM golang:1.22", "ENV GOTOOLCHAIN=auto", "COPY . .", "RUN go build ./..."), "", "", "", ""},
		{"no git", dockerfile("FROM golang:1.24-alpine", "ENV GOPRIVATE=git.corp.example", "COPY go.mod go.sum ./", "RUN go mod download"), corp, "project.image warn SL-BLD-002", "comes by git, which golang:1.24-alpine does not have", "RUN apk add --no-cache git"},
		{"no git, by another stage", dockerfile("FROM golang:1.24-alpine AS base", "ENV GOPRIVATE=git.corp.example", "FROM base AS build", "COPY go.mod go.sum ./", "RUN go mod download"), corp, "project.image warn SL-BLD-002", "", ""},
		{"git by another stage", dockerfile("FROM golang:1.24-alpine AS base", "RUN apk add git=2.40", "ENV GOPRIVATE=git.corp.example", "FROM base AS build", "COPY go.mod go.sum ./", "RUN go mod download"), corp, "", "", ""},
		{"no GOPRIVATE", dockerfile("FROM golang:1.24", "COPY go.mod go.sum ./", "RUN go mod download"), corp, "project.image warn SL-BLD-004", "git.corp.example/team/tool goes past the proxies here by git.corp.example", `ENV GOPRIVATE="git.corp.example"`},
		{"no authorities", dockerfile("FROM debian:bookworm-slim", "COPY --from=golang:1.24 /usr/local/go /usr/local/go", "COPY . .", "RUN /usr/local/go/bin/go version && go build ./..."), "", "project.image warn SL-TLS-006", "has no certificate authorities", ""},
		{"verification off", dockerfile("FROM golang:1.24", "ENV GOSUMDB=off \\", "    CGO_ENABLED=0", "COPY . .", "RUN go build"), "", "project.image warn SL-ENV-005", "Dockerfile:2: GOSUMDB is off", ""},
		{"verification off in the old form", dockerfile("FROM golang:1.24", "ENV GOSUMDB off", "COPY . .", "RUN go build"), "", "project.image warn SL-ENV-005", "", ""},
		{"everything is private", dockerfile("FROM golang:1.24", "COPY . .", "RUN go env -w GOPRIVATE='*' && go build"), "", "project.image warn SL-ENV-005", "GOPRIVATE has the pattern *", ""},
		{"straight from everywhere", dockerfile("FROM golang:1.24", "ENV GOPROXY=direct", "COPY . .", "RUN go build"), "", "project.image warn SL-BLD-003", "GOPROXY is direct", `ENV GOPROXY="https://YOUR-PROXY,direct"`},
		{"for one command", dockerfile("FROM golang:1.24", "COPY . .", "RUN GOPROXY=direct go list -m all"), "", "", "", ""},
		{"a GOPROXY that is none", dockerfile("FROM golang:1.24", "ENV GOPROXY=https//proxy.example.com", "COPY . .", "RUN go build"), "", "project.image warn SL-ENV-003", "GOPROXY: ", `ENV GOPROXY="https://proxy.example.com"`},
		{"a GOPROXY that is given", dockerfile("FROM golang:1.24", "ARG GOPROXY", "ENV GOPROXY=${GOPROXY}", "COPY . .", "RUN go build"), "", "", "", ""},
		{"builds that change go.mod", dockerfile("FROM golang:1.24", `ENV GOFLAGS="-mod=mod"`, "COPY . .", "RUN go build"), "", "project.image warn SL-BLD-003", "-mod=mod", "go mod tidy"},
		{"a directory that is outside", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => ../lib\n-- lib/go.mod --\nmodule example.com/lib\n-- app/Dockerfile --\nFROM golang:1.24\nCOPY go.mod ./\nRUN go mod download\n", "",
			"project.image warn SL-MOD-005", "outside of what the image is built from", "go mod edit -dropreplace=example.com/lib"},
		{"and the image is built from above", "-- app/go.mod --\nmodule example.com/app\ngo 1.24\nrequire example.com/lib v1.2.0\nreplace example.com/lib => ../lib\n-- lib/go.mod --\nmodule example.com/lib\n-- app/Dockerfile --\nFROM golang:1.24\nCOPY lib lib\nCOPY app/go.mod app/\nRUN cd app && go mod download\n", "", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := onDisk(t, tt.files, tt.env)
			got, r := ofProject(t, s)
			text := r.Text(TextOptions{All: true})
			if got != tt.want || !strings.Contains(text, tt.text) || tt.fix != "" && !strings.Contains(text, "    "+tt.fix+"\n") {
				t.Errorf("it is %q, want %q with %q and %q, in\n%s", got, tt.want, tt.text, tt.fix, text)
			}
		})
	}
}

func TestWhatBreaksModulesInCIIsFound(t *testing.T) {
	github := func(lines ...string) string {
		return hello + "-- .git/HEAD --\n-- .github/workflows/ci.yml --\n" + strings.Join(lines, "\n") + "\n"
	}
	gitlab := func(lines ...string) string {
		return hello + "-- app/.git --\n-- app/.gitlab-ci.yml --\n" + strings.Join(lines, "\n") + "\n"
	}
	for _, tt := range []struct {
		name, files string
		want        string
		text, fix   string
	}{
		{"well kept", github("on: push", "env:", "  GOPRIVATE: git.corp.example", "  GOPROXY: https://proxy.example.com|direct", "jobs:", "  test:", "    runs-on: ubuntu-latest", "    container: golang:1.24", "    steps:",
			"      - uses: actions/checkout@v4", "      - uses: actions/setup-go@v5", "        with:", "          go-version: '1.20'", "      - uses: actions/cache@v4", "        with:", "          path: ~/go/pkg/mod",
			"          key: ${{ runner.os }}-go-${{ hashFiles('**/go.sum') }}", "          restore-keys: ${{ runner.os }}-go-", "      - run: go mod verify && go test ./..."), "", "", ""},
		{"well kept too", gitlab("image: golang:1.24-alpine", "variables:", `  GOPROXY: "https://proxy.example.com,direct"`, "  GOFLAGS: -mod=readonly", "cache:", "  key: { files: [go.sum] }", "  paths: [.cache]", "test:", "  script:", "    - go test ./..."), "", "", ""},
		{"what it cannot tell", github("env:", "  GOPROXY: ${{ vars.GOPROXY }}", "  GOFLAGS: *flags", "  GOSUMDB: >-", "    off", "jobs: [", "  '{ GOSUMDB"), "", "", ""},
		{"a comment", github("env:", "  # GOSUMDB: off", "  GOFLAGS: -v # -mod=mod"), "", "", ""},
		{"no checksums", github("env:", "  GOSUMDB: 'off'"), "project.ci warn SL-ENV-005", ".github/workflows/ci.yml:2: GOSUMDB is off", ""},
		{"no checksums, as a map", github("env: { CGO_ENABLED: 0, GOSUMDB: off, GOOS: linux }"), "project.ci warn SL-ENV-005", "", ""},
		{"no checksums for one command", github("    - run: GOSUMDB=off go build ./..."), "project.ci warn SL-ENV-005", "", ""},
		{"no checksums for anybody", gitlab("variables:", "  GONOSUMDB: '*'"), "project.ci warn SL-ENV-005", ".gitlab-ci.yml:2: GONOSUMDB has the pattern *", ""},
		{"a pattern that matches nothing", gitlab("before_script:", "  - go env -w GOPRIVATE=\"https://git.corp.example\""), "project.ci warn SL-ENV-003", "begins with the scheme of a URL", `variables: { GOPRIVATE: "git.corp.example" }`},
		{"a check that is no more", gitlab("script:", "  - export GONOSUMCHECK=1", "  - go env -w GOFLAGS=-insecure"), "project.ci warn SL-ENV-005", ".gitlab-ci.yml:3: GOFLAGS has -insecure", ""},
		{"straight from everywhere", gitlab("variables:", "  GOPROXY: direct"), "project.ci warn SL-BLD-003", "GOPROXY is direct", `variables: { GOPROXY: "https://YOUR-PROXY,direct" }`},
		{"for one command", github("    - run: GOPROXY=direct go list -m -versions example.com/app"), "", "", ""},
		{"written down", github(`    - run: echo "GOPROXY=direct" >> $GITHUB_ENV`), "project.ci warn SL-BLD-003", "", ""},
		{"a number that is none", github("        with:", "          go-version: 1.20"), "project.ci warn SL-TOOL-002", "1.20 without quotes is the number 1.2", "go-version: '1.20'"},
		{"an old image", gitlab("image: golang:1.22"), "project.ci warn SL-TOOL-002", "golang:1.22 is older than go 1.24", "image: golang:1.24"},
		{"a cache that stays as it is", github("      - uses: actions/cache@v4", "        with:", "          path: ~/go/pkg/mod", "          key: go-mod-cache", "      - run: go build"), "project.ci warn SL-BLD-003", "ci.yml:4: the key of the module cache", "key: ${{ runner.os }}-go-${{ hashFiles('**/go.sum') }}"},
		{"of something else", github("      - name: cache", "        uses: actions/cache@v4", "        with:", "          path: node_modules", "          key: node", "      - run: ls ~/go/pkg/mod"), "", "", ""},
		{"with a key from elsewhere", github("      - uses: actions/cache@v4", "        with:", "          path: ~/go/pkg/mod", "          key: ${{ needs.prepare.outputs.key }}"), "", "", ""},
		{"a vendor directory that it makes", gitlab("variables:", "  GOFLAGS: -mod=vendor", "script: [ go mod vendor ]"), "", "", ""},
		{"a vendor directory that is not there", gitlab("variables:", "  GOFLAGS: -mod=vendor"), "project.ci warn SL-MOD-002", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := onDisk(t, tt.files)
			got, r := ofProject(t, s)
			text := r.Text(TextOptions{All: true})
			if got != tt.want || !strings.Contains(text, tt.text) || tt.fix != "" && !strings.Contains(text, "    "+tt.fix+"\n") {
				t.Errorf("it is %q, want %q with %q and %q, in\n%s", got, tt.want, tt.text, tt.fix, text)
			}
		})
	}
}

func FuzzRecipes(f *testing.F) {
	f.Add("# escape=`\nFROM golang:1.24 AS a\nRUN <<A <<B\nx\nA\ny\nB\nCOPY [\"a\", \"b\"]\nENV A=b \\\n# c\n GOSUMDB=off\n", "**/*.go\n!a[b-c]?\\*\n[\n", "  - { GOPROXY: \"direct\" }\nkey: x\nuses: actions/cache@v4\n")
	f.Add("FROM --platform=x\nFROM $A:${B:-c}@sha256:1\nRUN\nRUN go build", "!\n/\n..", "'GOFLAGS=-mod=mod' export GOPROXY='")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, docker, ignore, ci string) {
		s := &Subject{Place: finding.Terminal, NoProxy: "git.corp.example"}
		p := &project{dir: dir}
		mod, err := modfile.Parse("go.mod", []byte("module example.com/app\ngo 1.24\nrequire git.corp.example/x v1.0.0\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		p.file = mod
		lines := strings.Count(docker, "\n") + strings.Count(ignore, "\n") + 2
		for _, m := range (imageReader{s: s, p: p, name: "Dockerfile", ignore: parseIgnore(ignore), ignoreName: ".dockerignore"}).read(docker) {
			if m.line < 1 || m.line > lines || m.text == "" {
				t.Errorf("a remark on line %d: %q", m.line, m.text)
			}
		}
		for _, place := range []finding.Place{finding.GitHub, finding.GitLab} {
			for _, m := range s.ciFile(p, ci, place, false, true) {
				if m.line < 1 || m.line > strings.Count(ci, "\n")+1 {
					t.Errorf("a remark on line %d: %q", m.line, m.text)
				}
			}
		}
	})
}
