package finding

import "strings"

// About fills in the module that f is about: MODULE, VERSION and PATTERN, which becomes
// the module path itself. A version may be empty: commands then name the module alone.
func (f Finding) About(path, version string) Finding {
	if path == "" {
		return f
	}
	if version == "" {
		f.Fix = append([]string(nil), f.Fix...)
		for i, cmd := range f.Fix {
			f.Fix[i] = strings.ReplaceAll(cmd, StandInModule+"@"+StandInVersion, StandInModule)
		}
	}
	return f.With(StandInModule, path).With(StandInPattern, path).With(StandInVersion, version)
}

// Moving is a finding about a cache that cannot be used with the variable of the one that
// is meant, GOCACHE for one, in place of GOMODCACHE.
func (f Finding) Moving(variable string) Finding {
	f.Fix = append([]string(nil), f.Fix...)
	for i, cmd := range f.Fix {
		f.Fix[i] = strings.ReplaceAll(cmd, "GOMODCACHE="+StandInDir, variable+"="+StandInDir)
	}
	return f
}
