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

A variable that is empty is not set; a flag that is empty, of which an empty value says nothing, is refused. Without HOME there is
no default for ` + "`data`: `serve` then wants it, and `run`, `rescue`, `drill` and `trace`" + ` go on without a store.

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
		flag, env := "`--"+k.Flag()+"`", "`"+k.Env()+"`"
		if k.Kind == KindSources {
			flag, env = "", ""
		}
		fmt.Fprintf(&b, "| `%s`%s | %s | %s | %s | %s | %s |\n", name, mark, flag, env, kind, esc.Replace(def), esc.Replace(k.Help))
	}
	b.WriteString("\nSizes are written `64MiB`, durations `1m30s`, patterns as in GOPRIVATE, proxy lists as in GOPROXY. A proxy list that\n" +
		"cannot be meant as it is read, such as `https//proxy.example.com` or one with an entry behind `direct`, is refused with the one that was meant; in GOPROXY itself it is warned of.\n")
	b.WriteString(`
## One source

A ` + "`[[source]]`" + ` table says what is special to one of the sources in ` + "`proxy`" + `. It stands in the file only.

` + "```toml" + `
[[source]]
url           = "https://modules.corp.example"
name          = "corp"
user          = "ann"
password_file = "/etc/sluice/corp.password"
ca_file       = "/etc/sluice/corp-ca.pem"
connections   = 16
family        = "prefer4"
` + "```" + `

| Key | Kind | Default | |
|---|---|---|---|
`)
	for _, k := range SourceKeys() {
		def := k.DefaultHelp
		if def == "" {
			def = "`" + k.Default + "`"
		}
		kind := string(k.Kind)
		if len(k.Choices) > 0 {
			kind = "`" + strings.Join(k.Choices, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.leaf(), kind, esc.Replace(def), esc.Replace(k.Help))
	}
	b.WriteString(`
Files and variables are read at the start and at SIGHUP; one that is missing or empty is a mistake like any other, and a
file with a secret that other users may read is warned of. What they hold is shown nowhere. User, password, token and
client certificate are given to the host of ` + "`url`" + ` alone, and not to those that it redirects to; ` + "`ca_file`" + ` counts for them too.

A request that waits longer than ` + "`timeout`" + ` for ` + "`connections`" + ` or ` + "`rate`" + ` is a failure of that source, and the next one is asked as
after any other. ` + "`no_proxy`" + ` takes hosts, domains with all below them (` + "`corp.example`" + `; ` + "`.corp.example`" + ` for those below only), IP addresses,
networks (` + "`10.0.0.0/8`" + `), each also with a port, and ` + "`*`" + `. With ` + "`family`" + `, ` + "`prefer4`" + ` and ` + "`prefer6`" + ` give the
other IP version its turn after 300 ms, or at once when the first has failed.

` + "`resolver`" + ` looks up whom Sluice connects to: the source, the hosts that it redirects to, or the forward proxy, which then looks
up the rest itself. It is asked for full names: /etc/hosts and search domains do not count, but ` + "`localhost`" + ` does. A resolver
given by name is itself looked up by the system's. While it does not answer, addresses that it gave within a day are used.
`)
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
