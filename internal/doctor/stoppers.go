package doctor

import (
	"fmt"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
)

// stoppers looks for settings at which the go command stops before it asks anybody:
// only those of which that is sure (cmd/go/internal/base.InitGOFLAGS,
// cmd/go/internal/toolchain.Select and cmd/go/internal/modload.Init).
func (s *Subject) stoppers() Outcome {
	var names, texts []string
	var changes []finding.Change
	say := func(name, what string) {
		v := s.Settings.Get(name)
		names, texts = append(names, name), append(texts, name+" is "+from(v)+what)
		if v.Layer == goenv.UserFile {
			changes = append(changes, finding.Change{Kind: finding.UnsetGoEnv, Name: name})
		}
	}
	if flag, bad := nonFlag(s.Settings.Get("GOFLAGS").Value); bad {
		say("GOFLAGS", fmt.Sprintf(", in which %q is no flag, and the go command stops there", flag))
	}
	if bad := badToolchain(s.Settings.Get("GOTOOLCHAIN").Value); bad {
		say("GOTOOLCHAIN", ", which is neither local, auto, path nor a version of Go, and the go command stops there")
	}
	switch s.Settings.Get("GO111MODULE").Value {
	case "", "on", "auto":
	case "off":
		say("GO111MODULE", ", so the go command knows of no modules")
	default:
		say("GO111MODULE", ", which is neither on, off nor auto, and the go command stops there")
	}
	if len(texts) == 0 {
		return Outcome{State: OK, Text: "the go command can work with them"}
	}
	out := s.mean(Fail, finding.GoEnvMalformed, strings.Join(names, ", "), strings.Join(texts, "; "))
	out.Finding.Changes = changes
	if s.Place == finding.Terminal || s.Place == finding.PowerShell {
		out.Finding.Fix = s.unset(names)
	}
	return out
}

// nonFlag is the first word of GOFLAGS that is no flag. Where there are quotation marks,
// words are not what spaces make them, and nothing is said.
func nonFlag(flags string) (word string, bad bool) {
	if strings.ContainsAny(flags, `"'`) {
		return "", false
	}
	for _, f := range strings.Fields(flags) {
		name := strings.TrimPrefix(strings.TrimPrefix(f, "-"), "-")
		if name == f || name == "" || name[0] == '-' || name[0] == '=' {
			return f, true
		}
	}
	return "", false
}

// badToolchain reports whether the go command refuses a GOTOOLCHAIN. A name of another
// maker's toolchain, such as gccgo-go1.20.3, is none that it refuses.
func badToolchain(v string) bool {
	if v == "" || v == "auto" || v == "path" {
		return false
	}
	name, suffix, plus := strings.Cut(v, "+")
	if plus && suffix != "auto" && suffix != "path" {
		return true
	}
	return name != "local" && !strings.HasPrefix(name, "go1") && !strings.Contains(name, "-go1")
}
