package finding

import (
	"slices"
	"testing"
)

func TestTheCommandsOfAModuleWithoutAVersionNameTheModuleAlone(t *testing.T) {
	f := Finding{Entry: Entry{Fix: []string{"sluice trace MODULE@VERSION", "go env -w GOPRIVATE=PATTERN", "go get MODULE@latest"}}}
	for _, c := range []struct {
		path, version string
		want          []string
	}{
		{"example.com/dep", "v1.2.0", []string{"sluice trace example.com/dep@v1.2.0", "go env -w GOPRIVATE=example.com/dep", "go get example.com/dep@latest"}},
		{"example.com/dep", "", []string{"sluice trace example.com/dep", "go env -w GOPRIVATE=example.com/dep", "go get example.com/dep@latest"}},
		{"", "", f.Fix},
		{"", "v1.2.0", f.Fix},
		{"example.com/$(reboot)", "v1.2.0", []string{"sluice trace MODULE@v1.2.0", "go env -w GOPRIVATE=PATTERN", "go get MODULE@latest"}},
	} {
		if got := f.About(c.path, c.version).Fix; !slices.Equal(got, c.want) {
			t.Errorf("%s@%s: %q, want %q", c.path, c.version, got, c.want)
		}
	}
	if f.Fix[0] != "sluice trace MODULE@VERSION" {
		t.Errorf("the finding itself was changed: %q", f.Fix)
	}
}
