//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
)

// buildImage does what docker build would do of a Dockerfile with FROM golang, WORKDIR,
// ENV, COPY of files and RUN, in a directory in place of an image: a step has the programs
// that such a base image has, and the environment of the image alone. base is what the
// base image has in it of the network that it was made for.
func buildImage(ctx context.Context, dockerfile string, base []string) error {
	data, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "image-*")
	if err != nil {
		return err
	}
	defer func() { // the module cache is read-only
		exec.Command("chmod", "-R", "u+w", root).Run()
		os.RemoveAll(root)
	}()
	im := image{root: root, dir: root, env: append([]string{"PATH=" + filepath.Join(root, "bin"), "HOME=" + root, "GOPATH=" + filepath.Join(root, "go"), "GOTOOLCHAIN=local", "GOTELEMETRY=off"}, base...)}
	for n, line := range strings.Split(string(data), "\n") {
		verb, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verb == "" || strings.HasPrefix(verb, "#") {
			continue
		}
		if err := im.step(ctx, verb, strings.TrimSpace(args)); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", dockerfile, n+1, line, err)
		}
	}
	return nil
}

// An image is a base image and what was done to it.
type image struct {
	root, dir string
	env       []string
}

var mounts = regexp.MustCompile(`^(--mount=\S+\s+)+`)

func (im *image) step(ctx context.Context, verb, args string) error {
	switch verb {
	case "FROM":
		programs := []string{"go", "sh", "env", "cat", "true"}
		if !strings.Contains(args, "alpine") {
			programs = append(programs, "git")
		}
		for _, p := range programs {
			if err := im.has(p); err != nil {
				return err
			}
		}
		git, err := exec.LookPath("git")
		ln, lerr := exec.LookPath("ln")
		if err = errors.Join(err, lerr); err != nil {
			return err
		}
		// Of all packages, the one that fixes name.
		apk := fmt.Sprintf("#!/bin/sh\nfor p; do [ \"$p\" != git ] || exec %s -s %s %s; done\nexit 1\n", ln, git, filepath.Join(im.root, "bin", "git"))
		return os.WriteFile(filepath.Join(im.root, "bin", "apk"), []byte(apk), 0o755)
	case "WORKDIR":
		im.dir = filepath.Join(im.root, args)
		return os.MkdirAll(im.dir, 0o755)
	case "ENV":
		name, value, ok := strings.Cut(args, "=")
		if !ok {
			return errors.New("want NAME=VALUE")
		}
		im.env = append(im.env, name+"="+strings.Trim(value, `"'`))
		return nil
	case "COPY":
		return im.copy(ctx, strings.Fields(args))
	case "RUN":
		cmd := exec.CommandContext(ctx, "sh", "-c", mounts.ReplaceAllString(args, ""))
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = im.dir, im.env, os.Stdout, os.Stderr
		return cmd.Run()
	}
	return fmt.Errorf("%s is none of FROM, WORKDIR, ENV, COPY and RUN", verb)
}

// has puts a program of this machine into the image.
func (im *image) has(program string) error {
	at, err := exec.LookPath(program)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(im.root, "bin"), 0o755); err != nil {
		return err
	}
	return os.Symlink(at, filepath.Join(im.root, "bin", program))
}

// copy copies files of the working directory, or all of it, to where the image is.
func (im *image) copy(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("want COPY FROM TO")
	}
	to := filepath.Join(im.dir, args[len(args)-1])
	for _, src := range args[:len(args)-1] {
		if out, err := exec.CommandContext(ctx, "cp", "-r", src, to).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// withLargeGoMod is the zip of a version with a go.mod of 17 MiB, which deflates well.
func withLargeGoMod(m module.Version, was []byte) []byte {
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	zr, err := zip.NewReader(bytes.NewReader(was), int64(len(was)))
	if err == nil {
		for _, f := range zr.File {
			if !strings.HasSuffix(f.Name, "/go.mod") {
				err = errors.Join(err, zw.Copy(f))
			}
		}
		var w io.Writer
		if w, err = zw.Create(m.String() + "/go.mod"); err == nil {
			_, err = io.WriteString(w, "module "+m.Path+"\n"+strings.Repeat("// "+strings.Repeat("-", 1020)+"\n", 17<<10))
		}
	}
	if err = errors.Join(err, zw.Close()); err != nil {
		return nil // an answer that is empty is none, which the judge sees
	}
	return b.Bytes()
}
