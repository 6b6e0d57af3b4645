package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
)

// The line is pasted into a real shell; the go command there says what the list is, and
// takes down what it becomes.
func TestAListWithAPasswordGetsItsBarsWithoutBeingShown(t *testing.T) {
	sh, err := exec.LookPath("sh")
	modtest.Need(t, "sh", err == nil)
	const a, b, c = "https://bob:s3cret@a.example", "https://b.example", "https://c.example"
	for _, x := range []struct {
		list, want string
		stop, to   int // sources, from 0: where the go command stops, and which one serves
		place      finding.Place
	}{
		{a + "," + b, a + "|" + b, 0, 1, finding.Terminal},
		{a + "," + b + ",direct", a + "|" + b + ",direct", 0, 1, finding.Terminal},
		{a + "," + b + "," + c + ",off", a + "|" + b + "|" + c + ",off", 0, 2, finding.Terminal},
		{a + "|" + b + "," + c + ",off", a + "|" + b + "|" + c + ",off", 1, 2, finding.Terminal},
		{b + "," + a + "," + c + ",off", b + "," + a + "|" + c + ",off", 1, 2, finding.Terminal},
		{b + "," + c + "," + a + "|" + b + "," + c, b + "," + c + "|" + a + "|" + b + "|" + c, 1, 4, finding.Terminal},
		{a + "," + b, "", 0, 1, finding.PowerShell},
		{a + ",," + b, "", 0, 1, finding.Terminal},
	} {
		for _, environ := range []bool{true, false} {
			settings := goenv.Load([]string{"GOENV=file"}, func(string) ([]byte, error) { return []byte("GOPROXY=" + x.list + "\n"), nil }, "", "")
			if environ {
				settings = goenv.Load([]string{"GOPROXY=" + x.list, "GOENV=off"}, os.ReadFile, "", "")
			}
			list, err := goenv.ParseProxyList(x.list)
			if err != nil {
				t.Fatal(err)
			}
			s := &Subject{Settings: settings, Place: x.place}
			for _, entry := range list {
				s.Sources = append(s.Sources, Source{Entry: entry})
			}
			seen := Seen{}
			for _, step := range []string{"answer", "mod", "zip"} {
				seen[fmt.Sprintf("source.%d.%s", x.to+1, step)] = Row{State: OK}
			}
			f := s.goneRound(seen, x.stop)
			if f == nil || strings.Contains(f.Mend+strings.Join(f.Fix, ""), "s3cret") || len(f.Changes) > 0 || !strings.Contains(f.Mend, "password") {
				t.Errorf("%s: the fix is %+v", x.list, f)
				continue
			}
			if x.want == "" {
				if len(f.Fix) > 0 || !strings.Contains(f.Mend, "write a bar for each comma between source 1 and source 2") {
					t.Errorf("%s: %+v", x.list, f)
				}
				continue
			}
			script := `go() { case "$2" in GOPROXY) printf '%s\n' "$LIST";; -w) GOPROXY="${3#GOPROXY=}";; esac; }` + "\n" + strings.Join(f.Fix, "\n") + "\n" + `printf %s "$GOPROXY"`
			cmd := exec.Command(sh, "-c", script)
			cmd.Env = []string{"LIST=" + x.list, "PATH=" + os.Getenv("PATH")}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != x.want {
				t.Errorf("%s becomes %s (%v), want %s; the fix is %q", x.list, out, err, x.want, f.Fix)
			}
			if want := map[bool]string{true: "export GOPROXY=", false: "go env -w GOPROXY="}[environ]; !strings.HasPrefix(f.Fix[0], want) {
				t.Errorf("%s, in the environment: %v: %q", x.list, environ, f.Fix)
			}
		}
	}
}

func TestASourceThatGivesNoAnswerIsLeftOutOfTheList(t *testing.T) {
	const a, b, c = "https://a.example", "https://b.example", "https://c.example"
	for _, x := range []struct{ list, want string }{
		{a + "," + b, b},
		{a + "," + b + "," + c + ",direct", b + "|" + c + ",direct"},
		{"https://bob:s3cret@a.example," + b, ""},
	} {
		list, err := goenv.ParseProxyList(x.list)
		if err != nil {
			t.Fatal(err)
		}
		s := &Subject{Settings: goenv.Load([]string{"GOPROXY=" + x.list, "GOENV=off"}, os.ReadFile, "", ""), Place: finding.Terminal}
		serves := 0
		for i, entry := range list {
			s.Sources = append(s.Sources, Source{Entry: entry})
			if entry.Kind == goenv.HTTP {
				serves = i + 1
			}
		}
		seen := Seen{
			"machine.network":  Row{State: Warn},
			"source.1.connect": Row{State: Fail, Code: finding.SourceConnectTimeout, Because: "machine.network"},
			"source.1.answer":  Row{State: Skip, Because: "source.1.connect"},
		}
		for _, step := range []string{"answer", "mod", "zip"} {
			seen[fmt.Sprintf("source.%d.%s", serves, step)] = Row{State: OK}
		}
		f := s.goneRound(seen, 0)
		if x.want == "" {
			if f != nil {
				t.Errorf("%s: %+v", x.list, f)
			}
			continue
		}
		if f == nil || len(f.Fix) != 1 || !strings.HasSuffix(strings.ReplaceAll(f.Fix[0], "'", ""), "GOPROXY="+x.want) || !strings.Contains(f.Mend, "leave out https://a.example") {
			t.Errorf("%s: %+v", x.list, f)
		}
	}
}
