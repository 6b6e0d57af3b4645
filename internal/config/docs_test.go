package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// TestTheDocumentationListsEveryKey keeps docs/configuration.md true: it is made
// from the table that flags, variables and checks are made from.
func TestTheDocumentationListsEveryKey(t *testing.T) {
	const file = "../../docs/configuration.md"
	var b strings.Builder
	b.WriteString(`# Configuration

None is needed: every key has a default, most of them what the go command's own settings say. ` + "`sluice config show`" + ` prints
what is in force and where it comes from; ` + "`sluice config check`" + ` says what is wrong, all of it at once.

A key can be set in a TOML file (` + "`--config FILE` or `SLUICE_CONFIG`" + `), as an environment variable, and as a flag. A flag
overrides a variable, a variable the file, the file the go command's settings. Unknown keys and variables, wrong types
and impossible values are refused with their place and a suggestion.

` + "```toml" + `
listen  = "127.0.0.1:7070"
data    = "/var/lib/sluice"
proxy   = "https://a.example|https://b.example,direct"
private = "git.corp.example,*.internal.example"

[lists]
fresh = "1m"

[sources]
timeout = "30s"

[[sumdb]]
name = "sum.golang.org"
` + "```" + `

SIGHUP makes ` + "`sluice serve`" + ` read it all again without dropping a request. A file with mistakes is refused whole, and the
old configuration stays. Keys marked † take effect at the next start only.

| Key | Flag | Variable | Kind | Default | |
|---|---|---|---|---|---|
`)
	esc := strings.NewReplacer("|", `\|`)
	for _, k := range Keys() {
		name, def := k.Name, "`"+k.Default+"`"
		switch {
		case k.GoVar != "" && k.DefaultHelp == "":
			def = "go env " + k.GoVar
		case k.Default == "" && k.DefaultHelp != "":
			def = k.DefaultHelp
		case k.Default == "":
			def = ""
		}
		kind := string(k.Kind)
		if len(k.Choices) > 0 {
			kind = "`" + strings.Join(k.Choices, "`, `") + "`"
		}
		mark := ""
		if k.Restart {
			mark = "†"
		}
		fmt.Fprintf(&b, "| `%s`%s | `--%s` | `%s` | %s | %s | %s |\n", name, mark, k.Flag(), k.Env(), kind, esc.Replace(def), esc.Replace(k.Help))
	}
	b.WriteString("\nSizes are written `64MiB`, durations `1m30s`, patterns as in GOPRIVATE, proxy lists as in GOPROXY.\n")
	want := b.String()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("docs/configuration.md does not agree with the keys (%v); go test ./internal/config -update writes it anew", err)
	}
}
