package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNothingThatIsSaidCommandsTheTerminal(t *testing.T) {
	noStore := t.TempDir() + "/\x1b[2Jdata" // which can be read, and not written
	if err := os.Mkdir(noStore, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(noStore, ".sluice"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"import", "\x1b]0;gone\x07\x1b[2Jno-such-directory"},
		{"config", "check", "--config", "\x1b[1A\rfile"},
		{"verify", "--data", "no\u202edirectory"},
		{"verify", "--data", noStore},
		{"use", "https://u:secret-word@127.0.0.1\x1b[1A\r/"},
	} {
		var out, errOut bytes.Buffer
		e := &env{environ: []string{"GOENV=off", "PATH=", "SLUICE_PROXY=http://127.0.0.1:1", "SLUICE_GOSUMDB=off"}, dir: t.TempDir(), stdout: &out, stderr: &errOut}
		if status := run(t.Context(), e, args); status == 0 || errOut.Len() == 0 {
			t.Errorf("%q: status %d, %q", args, status, errOut.String())
		}
		if said := out.String() + errOut.String(); strings.ContainsAny(said, "\x1b\a\r\u202e") || strings.Contains(said, "secret-word") {
			t.Errorf("%q: %q", args, said)
		}
	}
}
