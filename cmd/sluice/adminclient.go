package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/server"
)

const (
	// adminTime bounds one call of the API: a planned move takes moveBudget and
	// what it does before and after.
	adminTime = moveBudget + 15*time.Second
	// readTime bounds a call that changes nothing.
	readTime = 10 * time.Second
	// maxAdmin bounds what is read of an answer, in bytes.
	maxAdmin = 32 << 20
)

// A remoteFlags is how a command finds the servers that it is about.
type remoteFlags struct{ servers, tokenFiles []string }

// serverFlags adds the flags that say which servers a command is about.
func (e *env) serverFlags(cmd *cobra.Command) *remoteFlags {
	r := &remoteFlags{}
	f := cmd.PersistentFlags()
	f.Var(&textFlag{kind: "file"}, "config", "configuration file (TOML) of the server; SLUICE_CONFIG names it too")
	f.Var(&textFlag{kind: "directory"}, "data", "data directory of the server (default: sluice in the user's cache directory)")
	f.StringArrayVar(&r.servers, "server", nil, "a server elsewhere, by its URL, in place of those on the data directory; may be repeated")
	f.StringArrayVar(&r.tokenFiles, "token-file", nil, "file with the token of that server, one for all or one for each (default: the one of admin.token_file)")
	cmd.MarkPersistentFlagFilename("config", "toml")
	cmd.MarkPersistentFlagDirname("data")
	cmd.MarkPersistentFlagFilename("token-file")
	return r
}

// A peer is a server that can be asked.
type peer struct {
	name   string // for people
	short  string // likewise, where there are several
	base   string
	token  string
	client *http.Client
}

// peers finds the servers that a command is about: the one of --server, or all
// that run on the data directory.
func (e *env) peers(cmd *cobra.Command, r *remoteFlags) ([]peer, error) {
	l, err := e.load(cmd, nil)
	if err != nil && !e.dataIsKnown(l, err) {
		return nil, err
	}
	if len(r.servers) > 0 {
		return e.remotes(r, l.Admin.TokenFile)
	}
	var list []peer
	for _, socket := range sockets(l.Data) {
		switch err := reach(socket); {
		case errors.Is(err, fs.ErrPermission):
			e.say("warning: this user may not use %s, only the one that the server runs as", socket)
			continue
		case err != nil:
			continue // of a dead process
		}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: socketTime}).DialContext(ctx, "unix", socket)
		}
		short := "server " + strings.TrimSuffix(strings.TrimPrefix(filepath.Base(socket), "admin-"), ".sock")
		list = append(list, peer{name: short + " on " + l.Data, short: short, base: "http://sluice", client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}})
	}
	if len(list) == 0 {
		return nil, &exitError{status: exitNo, err: fmt.Errorf("no sluice serve that this user may ask runs on the data directory %s", l.Data), hint: "start one with sluice serve; of one that runs, name its directory with --data DIR, or its address with --server URL --token-file FILE"}
	}
	return list, nil
}

// remotes are the servers that the flags name.
func (e *env) remotes(r *remoteFlags, tokenFile string) (list []peer, err error) {
	misused := func(hint, format string, args ...any) ([]peer, error) {
		return nil, &exitError{status: exitMisuse, err: fmt.Errorf(format, args...), hint: hint}
	}
	if n := len(r.tokenFiles); n > 1 && n != len(r.servers) {
		return misused("write one --token-file for all servers, or one for each, in the same order", "there are %d --server and %d --token-file", len(r.servers), n)
	}
	for i, text := range r.servers {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return misused("write --server https://proxy.example.com --token-file FILE", "--server %s is not the URL of a server", goenv.Redact(text))
		}
		p := peer{name: u.Scheme + "://" + u.Host, short: u.Host, base: strings.TrimSuffix(u.String(), "/"), client: &http.Client{
			// A token is for the one whom it is given to.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
		file := tokenFile
		if n := len(r.tokenFiles); n > 0 {
			file = r.tokenFiles[min(i, n-1)]
		}
		if file == "" {
			return misused("name the file that holds it with --token-file FILE", "--server wants a token")
		}
		if p.token, err = tokenIn(file, func(os.FileMode) {
			e.say("warning: other users may read the token in %s; chmod 600 it", file)
		}); err != nil {
			return misused("", "--token-file: %w", err)
		}
		if u.Scheme == "http" && !config.Loopback(u.Hostname()) {
			e.say("warning: the token goes to %s unencrypted, and can be read on the way; use https if it has it", u.Host)
		}
		list = append(list, p)
	}
	return list, nil
}

// dataIsKnown reports whether a configuration that has mistakes says all the same
// where the server's data is. What else a server runs with may be in its own
// flags and environment, which we have not.
func (e *env) dataIsKnown(l *config.Loaded, err error) bool {
	mistakes, ok := errors.AsType[config.Errors](err)
	if l == nil || l.Data == "" || !ok {
		return false
	}
	for _, m := range mistakes {
		if m.Key == "" || m.Key == "data" {
			return false
		}
	}
	return true
}

// call asks a server: with a body by POST, else by GET.
func call[T any](ctx context.Context, p peer, path string, body any) (T, error) {
	if body == nil {
		return callFor[T](ctx, p, path, nil, readTime, func() {})
	}
	return callFor[T](ctx, p, path, body, adminTime, func() {})
}

// callFor is call with a time of its own. It calls accepted when the server has
// begun to do what it was asked for.
func callFor[T any](ctx context.Context, p peer, path string, body any, d time.Duration, accepted func()) (ans T, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	method, rd := http.MethodGet, io.Reader(nil)
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return ans, err
		}
		method, rd = http.MethodPost, bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, rd)
	if err != nil {
		return ans, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return ans, fmt.Errorf("%s does not answer: %w", p.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		accepted()
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAdmin))
	if err != nil {
		return ans, fmt.Errorf("%s broke off its answer: %w", p.name, err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(data, &ans); err != nil {
			return ans, fmt.Errorf("%s gave an answer that is not of our API: %w", p.name, err)
		}
		return ans, nil
	}
	var ae server.AdminError
	if json.Unmarshal(data, &ae) != nil || ae.Text == "" {
		return ans, &exitError{status: exitNo, err: fmt.Errorf("%s answered %s, and not as our API would", p.name, resp.Status), hint: "see that the URL is that of a sluice serve with admin.token_file set"}
	}
	ee := &exitError{status: exitNo, err: &ae, hint: ae.Hint}
	if resp.StatusCode == http.StatusBadRequest {
		ee.status = exitMisuse
	}
	return ans, ee
}

// who is the name by which this user's acts are recorded.
func (e *env) who() string {
	name := e.getenv("SUDO_USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	name = cmp.Or(name, e.getenv("USER"), "uid "+strconv.Itoa(os.Getuid()))
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// stepsOf are the steps that an error of the API tells.
func stepsOf(err error) []server.Step {
	ae, ok := errors.AsType[*server.AdminError](err)
	if !ok {
		return nil
	}
	return ae.Steps
}
