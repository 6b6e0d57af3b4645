package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// minGo is the oldest go command that direct downloads are trusted to: older
// ones can be made to run commands by what a module's server says
// (CVE-2025-68119), and fail with Git's safe.bareRepository.
const minGo = "go1.25.6"

// FindGo looks for the go command in pathEnv, the value of PATH, and returns
// its absolute path. The error matches exec.ErrNotFound.
func FindGo(pathEnv string) (string, error) {
	p, err := lookPath(pathEnv, "go")
	if err != nil {
		return "", fmt.Errorf("the go command is not on the PATH: install Go from https://go.dev/dl/ and add its bin directory to PATH: %w", err)
	}
	return p, nil
}

// lookPath is exec.LookPath for a PATH that is not the process's own. Relative
// entries are passed over. The error matches exec.ErrNotFound, or
// fs.ErrPermission if all that was found cannot be executed.
func lookPath(pathEnv, name string) (string, error) {
	var found error
	for _, dir := range filepath.SplitList(pathEnv) {
		if !filepath.IsAbs(dir) {
			continue
		}
		p := filepath.Join(dir, name)
		if runtime.GOOS == "windows" {
			for _, ext := range []string{"", ".exe", ".com", ".bat", ".cmd"} {
				if ext == "" && filepath.Ext(name) == "" {
					continue
				}
				if fi, err := os.Stat(p + ext); err == nil && !fi.IsDir() {
					return p + ext, nil
				}
			}
			continue
		}
		fi, err := os.Stat(p)
		if err != nil || fi.IsDir() {
			continue
		}
		if fi.Mode()&0o111 == 0 {
			found = fmt.Errorf("%s: %w", p, fs.ErrPermission)
			continue
		}
		return p, nil
	}
	if found != nil {
		return "", found
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// getenv is the value of name in environ, of which the last one counts.
func getenv(environ []string, name string) string {
	for _, kv := range slices.Backward(environ) {
		k, v, _ := strings.Cut(kv, "=")
		if k == name || runtime.GOOS == "windows" && strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// GoEnv is what `go env -json NAMES` prints in dir: the go command's settings
// as it would use them there. Without names it is all of them. goCmd is the go
// command's path; "" finds it on the PATH of environ.
//
// The go command is kept from switching to another toolchain on the way, which
// could mean a download; GOTOOLCHAIN itself is reported as it is set.
func GoEnv(ctx context.Context, goCmd string, environ []string, dir string, names ...string) (map[string]string, error) {
	if goCmd == "" {
		var err error
		if goCmd, err = FindGo(getenv(environ, "PATH")); err != nil {
			return nil, err
		}
	}
	ask := func(environ []string, args ...string) ([]byte, error) {
		c := &command{path: goCmd, args: append([]string{"env"}, args...), dir: dir, env: environ}
		stdout, stderr, err := c.run(ctx)
		if err == nil {
			return stdout, nil
		}
		if text := clean(string(stderr)); text != "" {
			return nil, fmt.Errorf("%s env: %w: %s", goCmd, err, text)
		}
		return nil, fmt.Errorf("%s env: %w", goCmd, err)
	}
	local := append(slices.Clip(environ), "GOTOOLCHAIN=local")
	stdout, err := ask(local, append([]string{"-json"}, names...)...)
	if err != nil {
		return nil, err
	}
	m := make(map[string]string)
	if err := json.Unmarshal(stdout, &m); err != nil {
		return nil, fmt.Errorf("%s env printed something that is not its JSON: %w", goCmd, err)
	}
	if _, ok := m["GOTOOLCHAIN"]; ok {
		// The one question that the go command answers before it switches.
		stdout, err := ask(environ, "GOTOOLCHAIN")
		if err != nil {
			return nil, err
		}
		m["GOTOOLCHAIN"] = strings.TrimSpace(string(stdout))
	}
	return m, nil
}

// GoVersion is the version of the go command, such as go1.26.8: that of the
// command itself, not of a toolchain that it would switch to in some directory.
// goCmd and environ are as for GoEnv.
func GoVersion(ctx context.Context, goCmd string, environ []string) (string, error) {
	m, err := GoEnv(ctx, goCmd, environ, "", "GOVERSION")
	if err != nil {
		return "", err
	}
	if m["GOVERSION"] == "" {
		return "", errors.New("the go command does not say which version it is")
	}
	return m["GOVERSION"], nil
}

// goCommand is the go command for jobs, known to be new enough.
func (o *Origin) goCommand(ctx context.Context) (string, error) {
	p := o.cfg.Go
	if p == "" {
		var err error
		if p, err = FindGo(getenv(o.cfg.Environ, "PATH")); err != nil {
			return "", err
		}
	}
	fi, err := os.Stat(p)
	if err != nil {
		return "", fmt.Errorf("the go command cannot be used: %w", err)
	}
	stamp := fmt.Sprint(fi.ModTime(), fi.Size())
	o.mu.Lock()
	seen := o.goSeen
	o.mu.Unlock()
	if seen.path == p && seen.stamp == stamp {
		return p, nil
	}
	m, err := GoEnv(ctx, p, passed(o.cfg.Environ, o.run.dir), filepath.Join(o.run.dir, "work"), "GOVERSION")
	if err != nil {
		return "", err
	}
	v := m["GOVERSION"]
	// A development version ("devel go1.27-…") is newer than any release.
	if version.IsValid(v) && version.Compare(v, minGo) < 0 {
		return "", fmt.Errorf("%s is %s, and direct downloads need %s or newer, because older ones can be tricked by a module's server into running commands: install a newer Go from https://go.dev/dl/", p, v, minGo)
	}
	o.mu.Lock()
	o.goSeen.path, o.goSeen.stamp = p, stamp
	o.mu.Unlock()
	return p, nil
}
