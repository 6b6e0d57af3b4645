package doctor

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
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

func TestALargeZipThatWasChangedAtTheSourceShowsWhereItIsFetchedWhole(t *testing.T) {
	for _, tt := range []struct {
		fault string
		limit int64
		want  string
	}{
		{"none", 0, "well"},
		{"none", 1 << 20, "well"},
		{"none", 100 << 10, "well"},
		{"old-zip", 0, "well"}, // its beginning is like that of any other
		{"old-zip", 1 << 20, "broken SL-SUM-008"},
		{"flip", 1 << 20, "broken SL-SRC-008"},
		{"bomb", 4 << 20, "broken SL-SRC-008"},
		{"cut=150000", 1 << 20, "broken SL-NET-003"},
	} {
		s := newScene(t)
		s.world.Big("doctor.test/big", "v1.0.0", 200<<10)
		s.mod = s.world.Big("doctor.test/big", "v1.1.0", 200<<10)
		fault := parse(t, tt.fault)
		s.source.Stop()
		s.source = modtest.Serve(t, faults.Handler(s.world.Handler(), func(r *http.Request) (faults.Fault, bool) { return fault, strings.HasSuffix(r.URL.Path, ".zip") }))
		sub := s.subject()
		sub.Limits.Zip = tt.limit
		if r := Run(t.Context(), "", sub.Checks(), time.Minute); said(r) != tt.want {
			t.Errorf("%s, of which %d bytes are fetched: %s, want %s, in\n%s", tt.fault, tt.limit, said(r), tt.want, r.Text(TextOptions{All: true}))
		}
	}
}

func TestALargeZipThatTakesLongerThanThereIsComesAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zip := slices.Concat([]byte("PK"), make([]byte, 100<<10))
		slow := slowSource{zip: zip}
		s := &Subject{Settings: goenv.Load(nil, nil, "", ""), Getenv: func(string) string { return "" }, Place: finding.Terminal, Module: module.Version{Path: "doctor.test/m", Version: "v1.0.0"}, Limits: Limits{Answer: 25 * time.Second, Zip: 1 << 20}}
		for _, c := range s.answers("source.1", "slow", Source{From: slow}, nil) {
			if c.ID == "source.1.zip" {
				if out := c.Run(t.Context(), Seen{}); out.State != OK || out.Fact != nil {
					t.Errorf("it is %s: %s, with %v", out.State, out.Text, out.Fact)
				}
			}
		}
	})
}

// A slowSource sends what it has of a zip at once, and then nothing more.
type slowSource struct{ zip []byte }

func (slowSource) Name() string        { return "slow" }
func (slowSource) Kind() upstream.Kind { return upstream.Proxy }
func (s slowSource) Get(ctx context.Context, _ goproxy.Request) (*upstream.Answer, error) {
	return &upstream.Answer{Body: &slowBody{ctx: ctx, r: bytes.NewReader(s.zip)}}, nil
}

type slowBody struct {
	ctx context.Context
	r   *bytes.Reader
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.r.Len() > 0 {
		return b.r.Read(p)
	}
	<-b.ctx.Done()
	return 0, context.Cause(b.ctx)
}
func (*slowBody) Close() error { return nil }
