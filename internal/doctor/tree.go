package doctor

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
)

// noTree is the outcome of a file:// source whose directory is not there; nil of all
// others. To the go command it is a source that has not got the module, so that it says
// in the end that there is no such module.
func (s *Subject) noTree(ctx context.Context, src Source) *Outcome {
	tree, ok := src.From.(interface{ Missing(context.Context) error })
	if !ok || src.Entry.Kind != goenv.File {
		return nil
	}
	why := tree.Missing(ctx)
	if why == nil {
		return nil
	}
	out := s.mean(Fail, finding.GoEnvMalformed, src.Entry.Name(), finding.OneLine(why.Error(), 300)+", and the go command takes that for a source without the module")
	out.Fact = lacks{}
	f := *out.Finding
	f.Mend = "correct the path in GOPROXY, or bring the directory back: it may be on a disk or share that is not mounted"
	f.Fix = []string{"go env GOPROXY"}
	if u, err := url.Parse(src.Entry.URL); err == nil {
		if dir := filepath.FromSlash(u.Path); plainDir(dir) && s.Place == finding.Terminal {
			f.Fix = append(f.Fix, "ls -ld "+dir)
		}
	}
	out.Finding = &f
	return &out
}

// plainDir reports whether a shell reads dir as one plain word.
func plainDir(dir string) bool {
	f := finding.Finding{Entry: finding.Entry{Fix: []string{finding.StandInDir}}}.With(finding.StandInDir, dir)
	return filepath.IsAbs(dir) && !strings.HasPrefix(dir, "~") && f.Fix[0] == dir
}
