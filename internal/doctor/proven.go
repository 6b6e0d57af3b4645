package doctor

import (
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modcache"
)

// plainWord is a module version that stands in a command as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9._~/+@-]+$`)

// againstDatabase holds what go.sum and the module cache have of the version that is
// asked for against what the checksum database has proven. A build trusts both without
// asking anybody, and of a large zip nothing else shows that it is another one, since
// doctor fetches its beginning alone. It is nil where they agree, or nothing is proven.
func (s *Subject) againstDatabase(proven hashes, seen Seen) *Outcome {
	if proven.zip == "" {
		return nil
	}
	named := s.Module.String()
	// That the cache contradicts go.sum is the same: it is known now which of the two is right.
	var same []string
	if r := seen["machine.cached"]; r.Code == finding.GoSumMismatch && r.Fact() == (contested{s.Module}) {
		same = []string{r.ID}
	}
	if sum := s.Sums[s.Module]; sum != "" && sum != proven.zip {
		out := s.mean(Fail, finding.GoSumMismatch, named, fmt.Sprintf("%s is %s in go.sum, and %s in the checksum database", named, sum, proven.zip))
		if s.Place == finding.Terminal && plainWord.MatchString(named) {
			out.Finding.Mend = "see who changed go.sum, and let the go command write the line again as the checksum database has it"
			out.Finding.Fix = []string{"git log -p -- go.sum", fmt.Sprintf("cp go.sum go.sum.was && grep -vF '%s %s ' go.sum.was >go.sum; go mod download", s.Module.Path, s.Module.Version)}
		}
		out.Explains = same
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
	out.Explains = same
	return &out
}
