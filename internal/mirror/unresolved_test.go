package mirror_test

import (
	"slices"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/upstream"
)

// A resolver that is broken has one code, whoever met it: a proxy's connection or git.
func TestANameThatGitCannotResolveHasTheCodeOfAName(t *testing.T) {
	req := goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: "git.corp.example/dep", Version: "v1.2.0"}}
	we := &upstream.WalkError{Request: req, Attempts: []upstream.Attempt{{Source: "direct", Kind: upstream.Direct, Err: &upstream.Error{
		Source: "direct", Stage: upstream.StageLocal, Err: &origin.Error{Request: req, Cause: origin.Unresolved, Host: "git.corp.example", Text: "Could not resolve host: git.corp.example"}}}}}
	f, _ := mirror.Explain(we)
	if f.Code != finding.SourceDNS || !slices.Contains(f.Fix, "getent hosts git.corp.example") {
		t.Errorf("it is %s, with %q", f.Code, f.Fix)
	}
}
