package doctor

import (
	"fmt"
	"path/filepath"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modcache"
)

// againstDatabase holds what go.sum and the module cache have of the version that is
// asked for against what the checksum database has proven. A build trusts both without
// asking anybody, and of a large zip nothing else shows that it is another one, since
// doctor fetches its beginning alone. It is nil where they agree, or nothing is proven.
func (s *Subject) againstDatabase(proven hashes, seen Seen) *Outcome {
	if proven.zip == "" {
		return nil
	}
	named := s.Module.String()
	if sum := s.Sums[s.Module]; sum != "" && sum != proven.zip {
		out := s.mean(Fail, finding.GoSumMismatch, named, fmt.Sprintf("%s is %s in go.sum, and %s in the checksum database", named, sum, proven.zip))
		return &out
	}
	dir := s.Settings.Get("GOMODCACHE").Value
	if !filepath.IsAbs(dir) {
		return nil
	}
	have := modcache.Recorded(dir, s.Module)
	if have == "" || have == proven.zip {
		return nil
	}
	out := s.mean(Fail, finding.CacheDamaged, named, fmt.Sprintf("the module cache has %s as %s, and the checksum database says %s", named, have, proven.zip))
	if s.Place == finding.Terminal || s.Place == finding.PowerShell {
		out.Finding.Mend, out.Finding.Fix = "mend what is damaged, and nothing else", []string{"sluice rescue --cache"}
	}
	// That the cache contradicts go.sum is the same: it is known now which of the two is right.
	if r := seen["machine.cached"]; r.Code == finding.GoSumMismatch && r.Fact() == (contested{s.Module}) {
		out.Explains = []string{r.ID}
	}
	return &out
}
