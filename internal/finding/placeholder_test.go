package finding

import (
	"strings"
	"testing"
)

// A host of documentation in a command to paste looks like one that is meant, and is
// written to the settings of whoever pastes it.
func TestNoFixNamesAHostThatOnlyDocumentationHas(t *testing.T) {
	for _, e := range Catalogue() {
		page, _ := PageOf(e.Code)
		lines := append(append([]string(nil), e.Fix...), page.Fix...)
		for _, f := range page.Fixes {
			lines = append(lines, f.Lines...)
		}
		for _, line := range lines {
			if strings.Contains(line, "proxy.example") || strings.Contains(line, "mirror.example") || strings.Contains(line, "GOPROXY=https") && !strings.Contains(line, "YOUR-") {
				t.Errorf("%s: %s", e.Code, line)
			}
		}
	}
}

func TestAnotherSourceIsMeasuredWhereSomebodySitsAndAStandInElsewhere(t *testing.T) {
	for place, want := range map[Place]string{
		Terminal: "sluice use best", PowerShell: "sluice use best", Dockerfile: `ENV GOPROXY="https://YOUR-PROXY,direct"`,
		GitHub: `env: { GOPROXY: "https://YOUR-PROXY,direct" }`, GitLab: `variables: { GOPROXY: "https://YOUR-PROXY,direct" }`,
	} {
		for _, code := range []Code{SourceRefused, SumDBUnreachable, SourceServerError, MissingIntermediate, NameFiltered} {
			if fix := At(code, place).Fix; fix[len(fix)-1] != want {
				t.Errorf("%s in %s: %q, want %q at its end", code, place, fix, want)
			}
		}
		if want == "sluice use best" {
			want = "sluice use default" // best measures nobody where GOPROXY is off
		}
		if fix := At(ProxyOff, place).Fix; fix[len(fix)-1] != want {
			t.Errorf("%s in %s: %q, want %q at its end", ProxyOff, place, fix, want)
		}
	}
}
