//go:build linux

package main

import (
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/finding"
)

// recipes are what resolv.conf, go.work and the recipes of images do.
func recipes() []scenario {
	well := func(l *lab) { l.bad(l.world.Handler()) }
	return []scenario{
		{name: "a3-contradiction", rows: "A3", title: "the first name server denies the name that the second one has", planted: one(finding.NameServersDiffer), set: func(l *lab) {
			well(l)
			l.nameServer(otherResolver, l.net.Queries, "--local=/org/", "--local=/com/")
			l.net.Resolvers(otherResolver, resolver)
		}, fixes: byHand(finding.NameServersDiffer, "/etc/resolv.conf names the one that knows all names", resolveWell)},
		{name: "a20-workspace", rows: "A20 B9", title: "go.work uses a directory that is not there", planted: one(finding.WorkspaceBroken), set: func(l *lab) {
			well(l)
			l.in("go.work", "go 1.21\n\nuse .\nuse ./gone\n")
		}},
		{name: "f6-no-gosum", rows: "F6", title: "a Dockerfile downloads modules with go.mod and without go.sum", planted: one(finding.RecipeNoSum), comes: true, check: "image", recipe: "Dockerfile", set: func(l *lab) {
			well(l)
			l.images()
			l.in("go.sum", l.world.GoSum(l.m))
			l.in("Dockerfile", "FROM golang:1.26\nWORKDIR /app\nCOPY go.mod ./\nRUN go mod download\nCOPY . .\nRUN go build ./...\n")
		}},
		{name: "f6-weak", rows: "F6", title: "a Dockerfile has GOPROXY=direct", planted: one(finding.RecipeWeak), check: "image", verdict: doctor.Impaired, set: func(l *lab) {
			well(l)
			l.images()
			l.in("go.sum", l.world.GoSum(l.m))
			l.in("Dockerfile", "FROM golang:1.26\nENV GOPROXY=direct\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN go mod download\n")
		}, fixes: byHand(finding.RecipeWeak, "the setting is left out", func(l *lab) {
			l.in("Dockerfile", "FROM golang:1.26\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN go mod download\n")
		})},
		{name: "h-dockerfile", rows: "F6", title: "a Dockerfile that downloads modules before it copies the rest", check: "image", set: func(l *lab) {
			well(l)
			l.images()
			l.in("go.sum", l.world.GoSum(l.m))
			l.in("Dockerfile", "FROM golang:1.26\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN --mount=type=cache,target=/go/pkg/mod go mod download\nCOPY . .\nRUN go build ./...\n")
			l.in(".dockerignore", ".git\n")
		}},
	}
}
