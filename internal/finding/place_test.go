package finding

import (
	"strings"
	"testing"
)

func TestEveryCodeHasAPage(t *testing.T) {
	for _, e := range Catalogue() {
		p, ok := PageOf(e.Code)
		if !ok {
			t.Fatalf("%s has no page", e.Code)
		}
		for what, s := range map[string]string{"why": p.Why, "evidence": p.Evidence, "success": p.Success} {
			if s == "" || oneLine(s) != s || !strings.HasSuffix(s, ".") {
				t.Errorf("%s: %s is %q", e.Code, what, s)
			}
		}
		if e.Code == NotModules {
			if p.Mend != "" || len(p.Fixes) > 0 {
				t.Errorf("%s invents a fix", e.Code)
			}
			continue
		}
		if len(p.Fixes) != len(Places()) {
			t.Errorf("%s is written for %d places, want %d", e.Code, len(p.Fixes), len(Places()))
		}
		for _, f := range p.Fixes {
			for _, l := range f.Lines {
				if strings.Contains(l, "sudo") && (f.Place == Dockerfile || f.Place == GitLab || f.Place == PowerShell) {
					t.Errorf("%s: there is no sudo in a %s: %s", e.Code, f.Place.Title(), l)
				}
			}
		}
	}
	if _, ok := PageOf("SL-XXX-999"); ok {
		t.Error("a code that is not in the catalogue has a page")
	}
}

func TestEveryCauseSaysWhatItTakesToClaimIt(t *testing.T) {
	for _, c := range Causes() {
		if evidence[c] == "" {
			t.Errorf("%s has no evidence", c)
		}
		if successes[c.Family()] == "" {
			t.Errorf("nobody knows when %s is mended", c)
		}
	}
	for code := range builds {
		if _, ok := Lookup(code); !ok {
			t.Errorf("there are words for %s, which is no code", code)
		}
	}
	for code := range written {
		if _, ok := Lookup(code); !ok {
			t.Errorf("there are fixes for %s, which is no code", code)
		}
	}
}

func TestASettingIsWrittenAsEachPlaceWritesIt(t *testing.T) {
	for place, want := range map[Place]string{
		Terminal:   "go env -w GOPRIVATE=git.corp.example/team",
		PowerShell: "go env -w GOPRIVATE=git.corp.example/team",
		Dockerfile: `ENV GOPRIVATE="git.corp.example/team"`,
		GitHub:     `env: { GOPRIVATE: "git.corp.example/team" }`,
		GitLab:     `variables: { GOPRIVATE: "git.corp.example/team" }`,
	} {
		if got := At(SumDBUnknown, place).With(StandInPattern, "git.corp.example/team").Fix[0]; got != want {
			t.Errorf("%s: %s, want %s", place, got, want)
		}
	}
	if got := At(SourceTLSHandshake, PowerShell).Fix[1]; got != `$env:GODEBUG = 'tlsmlkem=0,tlssecpmlkem=0'` {
		t.Errorf("PowerShell: %s", got)
	}
}

func TestAFixInAnyPlaceKeepsVerificationOn(t *testing.T) {
	for _, e := range Catalogue() {
		p, _ := PageOf(e.Code)
		for _, f := range p.Fixes {
			for _, l := range f.Lines {
				for _, bad := range []string{"GOSUMDB=off", "sslVerify", "SSL_NO_VERIFY", "GONOSUMDB=*", "GOPRIVATE=*", "GOINSECURE=*", "StrictHostKeyChecking"} {
					if strings.Contains(l, bad) {
						t.Errorf("%s: %s", e.Code, l)
					}
				}
			}
		}
	}
}
