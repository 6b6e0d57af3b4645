package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/modtest"
)

// Doctor fetches the beginning of a large zip alone, so that it is its record that tells.
func TestALargeZipInTheModuleCacheOrGoSumIsHeldAgainstTheDatabase(t *testing.T) {
	for _, tt := range []struct {
		name       string
		cache, sum string // right, other, or "" for none
		env        string
		want       string
	}{
		{"both are right", "right", "right", "", "well"},
		{"the cache has another one", "other", "", "", "broken SL-DISK-003"},
		{"the cache has another one, and go.sum is right", "other", "right", "", "broken SL-DISK-003"},
		{"the cache and go.sum have another one", "other", "other", "", "broken SL-SUM-007"},
		{"go.sum has another one", "right", "other", "", "broken SL-SUM-007"},
		{"go.sum has another one, and the cache is empty", "", "other", "", "broken SL-SUM-007"},
		{"another one, of which no database has a record", "other", "", "GONOSUMDB=doctor.test", "well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.mod = s.world.Big("doctor.test/big", "v1.0.0", 200<<10)
			elsewhere := modtest.New(t)
			elsewhere.Add(s.mod.Path, s.mod.Version, modtest.Files{"go.mod": string(s.world.Mod(s.mod)), "noise.txt": modtest.GitNoise(300 << 10)})
			of := map[string]*modtest.World{"right": s.world, "other": elsewhere}
			if tt.env != "" {
				s.env = []string{tt.env}
			}
			sub := s.subject()
			sub.Selected = []module.Version{s.mod}
			if w := of[tt.sum]; w != nil {
				sub.Sums = map[module.Version]string{s.mod: w.H1Zip(s.mod)}
			}
			if w := of[tt.cache]; w != nil {
				at := filepath.Join(sub.Settings.Get("GOMODCACHE").Value, "cache", "download", "doctor.test", "big", "@v", "v1.0.0.")
				for ext, data := range map[string]string{"zip": string(w.Zip(s.mod)), "ziphash": w.H1Zip(s.mod), "mod": string(w.Mod(s.mod))} {
					if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at+ext, []byte(data), 0o644)); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := Run(t.Context(), "", sub.Checks(), time.Minute)
			if said(r) != tt.want || len(r.Findings) > 1 {
				t.Fatalf("%s, want %s alone, in\n%s", said(r), tt.want, r.Text(TextOptions{All: true}))
			}
			if strings.HasSuffix(tt.want, "SL-DISK-003") && !slices.Equal(r.Findings[0].Commands, []string{"sluice rescue --cache"}) {
				t.Errorf("the fix is %q", r.Findings[0].Commands)
			}
		})
	}
}
